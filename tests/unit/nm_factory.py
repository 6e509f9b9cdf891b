"""Tiny NM reconstructions with known content: every voxel is a function of its LPS position.

The grid and the content are those of `dicom_factory`; slice 1 lies at its origin, or, where the
spacing is negative, at its other end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.datadict import dictionary_VR
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from .dicom_factory import AXIAL, FRAME, NM_STORAGE, SHAPE, SPACING_ZYX_MM, UID, centres, field, grid_of, save

SLICE_VECTOR: Final = Tag(0x0054, 0x0080)
WINDOW_VECTOR: Final = Tag(0x0054, 0x0010)
#: 177Lu: photopeak and the scatter window below it, keV.
PHOTOPEAK: Final = (187.2, 228.8)
SCATTER: Final = (166.4, 187.2)
#: Counts in the scatter window over those in the photopeak.
SCATTER_SHARE: Final = 0.25
#: 60 views of 25 s on half a turn, of one detector or of each of two.
WALL_CLOCK_S: Final = 1500.0

Edit = Callable[[Dataset], None]


def write_nm_image(
    path: Path,
    *,
    orientation: Sequence[float] = AXIAL,
    upwards: bool = True,
    windows: Sequence[tuple[float, float]] = (PHOTOPEAK,),
    edit: Edit | None = None,
) -> Path:
    """Write counts that follow `field`; frames are sorted by window, then slice.

    Parameters
    ----------
    upwards
        Whether slices follow along the normal of the image (positive spacing) or against it.
    windows
        The first one is the photopeak, unless its limits say otherwise.
    """
    grid = grid_of(orientation)
    counts = np.rint(field(centres(grid)))
    if not upwards:
        counts = counts[::-1]
    first = grid.position_mm(np.array([0.0 if upwards else SHAPE[0] - 1.0, 0.0, 0.0]))
    shares = [SCATTER_SHARE if limits == SCATTER else 1.0 for limits in windows]
    dataset = _header(orientation, [float(f"{v:.6f}") for v in first])
    dataset.SpacingBetweenSlices = SPACING_ZYX_MM[0] if upwards else -SPACING_ZYX_MM[0]
    dataset.NumberOfFrames = SHAPE[0] * len(windows)
    dataset.SliceVector = list(range(1, SHAPE[0] + 1)) * len(windows)
    dataset.FrameIncrementPointer = SLICE_VECTOR
    dataset.NumberOfEnergyWindows = len(windows)
    if len(windows) > 1:
        dataset.FrameIncrementPointer = [WINDOW_VECTOR, SLICE_VECTOR]
        dataset.EnergyWindowVector = [w for w in range(1, len(windows) + 1) for _ in range(SHAPE[0])]
    dataset.EnergyWindowInformationSequence = [_window(*limits) for limits in windows]
    dataset.PixelData = np.concatenate([np.rint(counts * s) for s in shares]).astype("<i2").tobytes()
    if edit:
        edit(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(dataset, path)


def frames_of(dataset: Dataset) -> np.ndarray:
    """Stored values of all frames, to be changed and given to `set_frames`."""
    return np.frombuffer(dataset.PixelData, "<i2").reshape(-1, *SHAPE[1:]).copy()


def set_frames(dataset: Dataset, frames: np.ndarray) -> None:
    dataset.PixelData = frames.astype("<i2").tobytes()
    dataset.NumberOfFrames = len(frames)


def add_mapping(dataset: Dataset, slope: float, unit: str = "Bq/ml", **more: object) -> None:
    """A real-world value mapping beside those that are there."""
    mapping, code = Dataset(), Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = unit, "UCUM", unit
    mapping.MeasurementUnitsCodeSequence = [code]
    mapping.RealWorldValueSlope, mapping.RealWorldValueIntercept = slope, 0.0
    for keyword, value in more.items():
        # Limits of the mapped range are signed or unsigned as the writer likes.
        mapping.add_new(keyword, "US" if keyword.endswith("Mapped") else dictionary_VR(keyword), value)
    dataset.RealWorldValueMappingSequence = [*dataset.get("RealWorldValueMappingSequence", []), mapping]


def _header(orientation: Sequence[float], position: list[float]) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality, dataset.SOPInstanceUID = NM_STORAGE, "NM", f"{UID}.3.0"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    dataset.PatientID, dataset.PatientName = "SITE-0042", "Doe^Jane"
    dataset.PatientSex, dataset.PatientWeight, dataset.PatientSize = "F", 70, 1.7
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID, dataset.FrameOfReferenceUID = f"{UID}.1", f"{UID}.2", FRAME
    dataset.Manufacturer, dataset.ManufacturerModelName = "Maker", "Model Two"
    dataset.StudyDate, dataset.StudyTime = "20231224", "070000"
    dataset.SeriesDate, dataset.SeriesTime = "20240102", "100000"
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240102", "100000"
    dataset.ContentDate, dataset.ContentTime = "20240102", "104500"
    dataset.Rows, dataset.Columns, dataset.NumberOfSlices = SHAPE[1], SHAPE[2], SHAPE[0]
    dataset.PixelSpacing = [SPACING_ZYX_MM[1], SPACING_ZYX_MM[2]]
    dataset.SliceThickness = SPACING_ZYX_MM[0]
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.CorrectedImage = ["ATTN", "SCAT"]
    dataset.NumberOfDetectors, dataset.NumberOfRotations = 1, 1
    detector, rotation, drug, code = Dataset(), Dataset(), Dataset(), Dataset()
    detector.ImageOrientationPatient, detector.ImagePositionPatient = list(orientation), position
    detector.CollimatorGridName, detector.CollimatorType = "MEGP", "PARA"
    rotation.ScanArc, rotation.AngularStep, rotation.NumberOfFramesInRotation = 180, 3, 60
    rotation.ActualFrameDuration = 25_000
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "447553000", "SCT", "^177^Lutetium"
    drug.RadionuclideCodeSequence = [code]
    drug.Radiopharmaceutical, drug.RadionuclideTotalDose = "177Lu-DOTATATE", 7400
    drug.RadiopharmaceuticalStartTime = "0800"
    dataset.DetectorInformationSequence, dataset.RotationInformationSequence = [detector], [rotation]
    dataset.RadiopharmaceuticalInformationSequence = [drug]
    return dataset


def _window(low: float, high: float) -> Dataset:
    window, limits = Dataset(), Dataset()
    limits.EnergyWindowLowerLimit, limits.EnergyWindowUpperLimit = low, high
    window.EnergyWindowRangeSequence = [limits]
    return window
