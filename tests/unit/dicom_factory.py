"""Tiny DICOM series with known content: every voxel is a function of its LPS position.

The images have 8 columns, 6 rows and 5 slices, three different spacings, and file names that are
not in the order of the slices, so that no swapped axis or wrong order can go unnoticed.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import pydicom.config
from numpy.typing import NDArray
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from doseledger.geometry import Grid

PET_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.128"
CT_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
NM_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.20"
RTSTRUCT_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.481.3"
UID: Final = "1.2.826.0.1.3680043.8.498"
FRAME: Final = f"{UID}.5"

SHAPE: Final = (5, 6, 8)
SPACING_ZYX_MM: Final = (4.0, 3.0, 2.5)
ORIGIN_MM: Final = (-12.5, 20.0, -300.0)
AXIAL: Final = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_TURN: Final = np.deg2rad(20.0)
#: Direction cosines of the rows and columns: ImageOrientationPatient (0020,0037).
ORIENTATIONS: Final[dict[str, tuple[float, ...]]] = {
    "axial": AXIAL,
    "axial_turned_half": (-1.0, 0.0, 0.0, 0.0, -1.0, 0.0),
    "axial_mirrored": (-1.0, 0.0, 0.0, 0.0, 1.0, 0.0),
    "coronal": (1.0, 0.0, 0.0, 0.0, 0.0, -1.0),
    "sagittal": (0.0, 1.0, 0.0, 0.0, 0.0, -1.0),
    "oblique": (round(np.cos(_TURN), 6), round(np.sin(_TURN), 6), 0.0, 0.0, 0.0, -1.0),
}

Edit = Callable[[Dataset, int], None]


def field(positions_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Content at LPS positions ``(..., 3)``: rises by another step to the left, back and head."""
    return np.asarray(2000.0 + positions_mm @ np.array([13.0, 5.0, 3.0]))


def grid_of(orientation: Sequence[float] = AXIAL, shape: tuple[int, int, int] = SHAPE) -> Grid:
    """The grid that the slices of a factory series make."""
    row, column = (np.array(orientation[i : i + 3]) for i in (0, 3))
    axes = (np.cross(row, column), column, row)
    vectors = [tuple(float(v) for v in axis) for axis in axes]
    return Grid(shape, SPACING_ZYX_MM, ORIGIN_MM, tuple(vectors))  # type: ignore[arg-type]


def centres(grid: Grid) -> NDArray[np.float64]:
    """LPS positions of all voxel centres, ``(z, y, x, 3)``."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1).astype(float)
    offset = (index * grid.spacing_mm) @ np.asarray(grid.direction)
    return np.asarray(offset + grid.origin_mm)


def slope_of(slice_index: int) -> float:
    """Every slice has a scale of its own."""
    return 0.05 + 0.01 * slice_index


def write_pet(
    folder: Path, *, orientation: Sequence[float] = AXIAL, n: int = 5, edit: Edit | None = None
) -> list[Path]:
    """Write a PET series in Bq/mL, corrected to scan start; slice 0 lies at the origin."""

    def pet(dataset: Dataset, z: int) -> None:
        dataset.SOPClassUID, dataset.Modality = PET_STORAGE, "PT"
        dataset.Manufacturer, dataset.ManufacturerModelName = "Maker", "Model One"
        dataset.ImageType = ["ORIGINAL", "PRIMARY"]
        dataset.CollimatorType = "PARA"
        dataset.Units, dataset.CountsSource = "BQML", "EMISSION"
        dataset.DecayCorrection, dataset.CorrectedImage = "START", ["ATTN", "DECY"]
        dataset.ReconstructionMethod = "OSEM"
        dataset.ActualFrameDuration = 1_500_000
        dataset.NumberOfSlices = n
        dataset.RescaleSlope, dataset.RescaleIntercept = slope_of(z), 0
        window, drug, code = Dataset(), Dataset(), Dataset()
        window.EnergyWindowLowerLimit, window.EnergyWindowUpperLimit = 187.2, 228.8
        dataset.EnergyWindowRangeSequence = [window]
        code.CodeMeaning = "177Lu-DOTATATE"
        drug.RadiopharmaceuticalCodeSequence = [code]
        drug.RadionuclideTotalDose = 7.4e9
        drug.RadionuclideHalfLife = 574300
        drug.RadiopharmaceuticalStartDateTime = "20240102080000.00"
        dataset.RadiopharmaceuticalInformationSequence = [drug]

    return _write_slices(folder, orientation, n, pet, edit, signed=False)


def write_ct(folder: Path, *, orientation: Sequence[float] = AXIAL, n: int = 5, edit: Edit | None = None) -> list[Path]:
    """Write a CT series; slice 0 lies at the origin."""

    def ct(dataset: Dataset, z: int) -> None:
        dataset.SOPClassUID, dataset.Modality = CT_STORAGE, "CT"
        dataset.Manufacturer, dataset.ManufacturerModelName = "Maker", "Scanner"
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        dataset.KVP, dataset.ConvolutionKernel, dataset.ContrastBolusAgent = 130, "B31s", "Iodine"
        dataset.GantryDetectorTilt = 0
        dataset.SliceThickness = SPACING_ZYX_MM[0]
        dataset.RescaleSlope, dataset.RescaleIntercept, dataset.RescaleType = 1, -1024, "HU"

    return _write_slices(folder, orientation, n, ct, edit, signed=True)


def _write_slices(
    folder: Path, orientation: Sequence[float], n: int, kind: Edit, edit: Edit | None, *, signed: bool
) -> list[Path]:
    folder.mkdir(parents=True, exist_ok=True)
    grid = grid_of(orientation, (n, *SHAPE[1:]))
    values = field(centres(grid))
    paths = []
    for z in range(n):
        dataset = _basic(z)
        dataset.FrameOfReferenceUID = FRAME
        dataset.ImageOrientationPatient = list(orientation)
        dataset.ImagePositionPatient = [float(f"{v:.6f}") for v in grid.position_mm(np.array([z, 0.0, 0.0]))]
        dataset.Rows, dataset.Columns = SHAPE[1:]
        dataset.PixelSpacing = [SPACING_ZYX_MM[1], SPACING_ZYX_MM[2]]
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = 16, 16, 15
        dataset.PixelRepresentation = int(signed)
        kind(dataset, z)
        stored = np.rint((values[z] - float(dataset.RescaleIntercept)) / float(dataset.RescaleSlope))
        dataset.PixelData = stored.astype("<i2" if signed else "<u2").tobytes()
        if edit:
            edit(dataset, z)
        # The names are in another order than the slices.
        paths.append(save(dataset, folder / f"{(3 * z + 2) % n}_{z}.dcm"))
    return paths


def _basic(instance: int) -> Dataset:
    dataset = Dataset()
    dataset.PatientID, dataset.PatientName = "SITE-0042", "Doe^Jane"
    dataset.PatientSex, dataset.PatientWeight, dataset.PatientSize = "F", 70, 1.7
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{UID}.1", f"{UID}.2"
    dataset.SOPInstanceUID = f"{UID}.3.{instance}"
    dataset.StudyDate, dataset.StudyTime = "20231224", "070000"
    dataset.SeriesDate, dataset.SeriesTime = "20240102", "100000.25"
    dataset.AcquisitionDate, dataset.AcquisitionTime = "20240102", "100000.25"
    dataset.InstanceNumber = instance
    return dataset


def save(dataset: Dataset, path: Path) -> Path:
    """Write with the file meta that belongs to the dataset."""
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.MediaStorageSOPClassUID = dataset.SOPClassUID
    dataset.file_meta.MediaStorageSOPInstanceUID = dataset.SOPInstanceUID
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.save_as(path, enforce_file_format=True)
    return path


def put(dataset: Dataset, **values: Any) -> None:
    """Set elements to any values, also such as the standard forbids; None is an empty element."""
    for keyword, value in values.items():
        element = DataElement(keyword, dictionary_VR(keyword), value, validation_mode=pydicom.config.IGNORE)
        dataset[keyword] = element


def write_nm(path: Path) -> Path:
    """Write the header of a reconstructed NM image."""
    dataset = _basic(0)
    dataset.SOPClassUID, dataset.Modality = NM_STORAGE, "NM"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(dataset, path)


def write_rtstruct(
    path: Path, regions: dict[str, Sequence[Any]], *, edit: Callable[[Dataset], None] | None = None
) -> Path:
    """Write a structure set: for each region its contours, ``(n, 3)`` LPS points each."""
    dataset = _basic(0)
    dataset.SOPClassUID, dataset.Modality = RTSTRUCT_STORAGE, "RTSTRUCT"
    dataset.SeriesInstanceUID = f"{UID}.7"
    series, study, frame = Dataset(), Dataset(), Dataset()
    series.SeriesInstanceUID = f"{UID}.2"
    study.RTReferencedSeriesSequence = [series]
    frame.FrameOfReferenceUID, frame.RTReferencedStudySequence = FRAME, [study]
    dataset.ReferencedFrameOfReferenceSequence = [frame]
    dataset.StructureSetROISequence, dataset.ROIContourSequence = [], []
    for number, (name, contours) in enumerate(regions.items(), start=1):
        roi, outline = Dataset(), Dataset()
        roi.ROINumber, roi.ROIName, roi.ReferencedFrameOfReferenceUID = number, name, FRAME
        outline.ReferencedROINumber = number
        outline.ContourSequence = [_contour(points) for points in contours]
        dataset.StructureSetROISequence.append(roi)
        dataset.ROIContourSequence.append(outline)
    if edit:
        edit(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(dataset, path)


def _contour(points: Any) -> Dataset:
    contour = Dataset()
    points = np.asarray(points, dtype=float)
    contour.ContourGeometricType, contour.NumberOfContourPoints = "CLOSED_PLANAR", len(points)
    contour.ContourData = [f"{v:.4f}" for v in points.ravel()]
    return contour
