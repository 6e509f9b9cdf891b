"""NM reconstructions, all slices in one file, as two kinds of workstation write them.

``counts``: whole counts in two energy windows, slices from the head downwards (negative spacing),
views counted over both detectors. ``mapped``: one window, integers whose scale stands nowhere but in
the real-world value mapping, views counted per detector. Both have their positions in the detector's
item only, the injected activity in MBq and the time of the injection without its date.
"""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import UID, NuclearMedicineImageStorage
from scipy.ndimage import gaussian_filter

from doseledger.errors import QuantityError
from doseledger.geometry import Grid
from doseledger.phantom.dicom_base import Visit, code, common_dataset, save
from doseledger.phantom.dicom_images import (
    PHOTOPEAK_KEV,
    Injection,
    describe_pixels,
    describe_posture,
    orientation_text,
    position_text,
    radiopharmaceutical,
    window_range,
)
from doseledger.phantom.scanner import Camera
from doseledger.phantom.shapes import Image
from doseledger.units import BQ_PER_MBQ

#: Heads of every virtual camera; each covers half a turn.
DETECTORS: Final = 2
VIEWS_PER_DETECTOR: Final = 60
#: Before the first injection of every cohort.
CALIBRATED_ON: Final = date(2025, 3, 3)
CALIBRATION_GEOMETRY: Final = "cylinder"

_HALF_TURN_DEG: Final = 180
#: Window below the photopeak, keV: what scatter corrections are made from.
_SCATTER_KEV: Final = (166.8, 187.6)
#: Its counts per count of the photopeak, spread out by so much; made up, only their window is the point.
_SCATTER_SHARE: Final = 0.3
_SCATTER_SIGMA_MM: Final = 30.0
#: Files are written a while after the end of the scan.
_PROCESSING: Final = timedelta(minutes=12)
_MS_PER_S: Final = 1.0e3
#: Range of the stored values, by whether they are signed.
_RANGE: Final = {True: (-(2**15), 2**15 - 1), False: (0, 2**16 - 1)}
#: Scale of an image without activity: any positive number will do.
_SMALLEST_MAXIMUM: Final = 1.0e-6

_ENERGY_WINDOW_VECTOR: Final = Tag(0x0054, 0x0010)
_SLICE_VECTOR: Final = Tag(0x0054, 0x0080)


def write_nm_counts(folder: Path, mean_bq_per_ml: Image, grid: Grid, visit: Visit, injection: Injection) -> list[UID]:
    """Write the mean over the scan as whole counts, unsigned; returns the SOP instance UID.

    N = C S T V / 1e6, with the system sensitivity S that the site states and the time T on the clock.

    Raises
    ------
    QuantityError
        Counts in a voxel that 16 bits cannot hold.
    """
    camera = visit.camera
    counts_per_bq_per_ml = camera.sensitivity_cps_per_mbq * camera.duration_s * grid.voxel_volume_ml / BQ_PER_MBQ
    counts = mean_bq_per_ml * counts_per_bq_per_ml
    spread = gaussian_filter(counts, [_SCATTER_SIGMA_MM / step for step in grid.spacing_mm], mode="constant")
    frames = np.concatenate([np.rint(counts)[::-1], np.rint(_SCATTER_SHARE * spread)[::-1]])
    dataset = _nm_dataset(visit, grid, injection, "counts")
    dataset.SpacingBetweenSlices = f"{-grid.spacing_mm[0]:.6g}"
    _place(dataset, grid, first_slice=grid.shape[0] - 1, camera=camera)
    _turn(dataset, camera, arc_deg=DETECTORS * _HALF_TURN_DEG, views=DETECTORS * VIEWS_PER_DETECTOR)
    _sort_frames(dataset, grid.shape[0], [PHOTOPEAK_KEV, _SCATTER_KEV])
    return _save(dataset, folder, frames, signed=False)


def write_nm_mapped(
    folder: Path, mean_bq_per_ml: Image, grid: Grid, visit: Visit, injection: Injection, unit: str = "Bq/ml"
) -> list[UID]:
    """Write the mean over the scan, signed, with its scale in RealWorldValueMappingSequence (0040,9096) only.

    Parameters
    ----------
    unit
        UCUM code; another one than ``Bq/ml`` says that the values are something else.
    """
    lowest, highest = _RANGE[True]
    slope = max(float(np.abs(mean_bq_per_ml).max()), _SMALLEST_MAXIMUM) / highest
    dataset = _nm_dataset(visit, grid, injection, "mapped")
    dataset.SpacingBetweenSlices = f"{grid.spacing_mm[0]:.6g}"
    _place(dataset, grid, first_slice=0, camera=visit.camera)
    _turn(dataset, visit.camera, arc_deg=_HALF_TURN_DEG, views=VIEWS_PER_DETECTOR)
    _sort_frames(dataset, grid.shape[0], [PHOTOPEAK_KEV])
    mapping = Dataset()
    mapping.add_new("RealWorldValueFirstValueMapped", "SS", lowest)
    mapping.add_new("RealWorldValueLastValueMapped", "SS", highest)
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, slope
    mapping.LUTExplanation, mapping.LUTLabel = "Activity concentration", "ACTIVITY"
    mapping.MeasurementUnitsCodeSequence = DicomSequence([code(unit, "UCUM", unit)])
    dataset.RealWorldValueMappingSequence = DicomSequence([mapping])
    return _save(dataset, folder, np.rint(mean_bq_per_ml / slope), signed=True)


def camera_columns(camera: Camera) -> dict[str, object]:
    """What the camera sheet must state where images are stored as counts."""
    return {
        "sensitivity_cps_per_mbq": camera.sensitivity_cps_per_mbq,
        "sensitivity_geometry": CALIBRATION_GEOMETRY,
        "sensitivity_date": CALIBRATED_ON.isoformat(),
        "sensitivity_basis": "system",
        "detectors": DETECTORS,
    }


def _nm_dataset(visit: Visit, grid: Grid, injection: Injection, kind: str) -> Dataset:
    dataset = common_dataset(visit, NuclearMedicineImageStorage, "NM", "Lu177 SPECT AC SC", 1000, visit.scan_start)
    # The same scan stored in two ways makes two images: neither shares a UID with the other.
    dataset.SeriesInstanceUID = visit.uid("NM", kind, "series")
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = visit.uid("NM", kind, 0)
    describe_pixels(dataset, grid)
    describe_posture(dataset)
    written = visit.scan_start + timedelta(seconds=visit.camera.duration_s) + _PROCESSING
    dataset.ContentDate, dataset.ContentTime = f"{written:%Y%m%d}", f"{written:%H%M%S}"
    dataset.ImageType = ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    dataset.InstanceNumber = 1
    # The events of the projections are not simulated.
    dataset.CountsAccumulated = None
    dataset.AcquisitionTerminationCondition = "TIME"
    dataset.CorrectedImage = ["ATTN", "SCAT"]
    dataset.ConvolutionKernel = "OSEM 8i6s"
    drug = radiopharmaceutical(injection)
    drug.RadionuclideTotalDose = f"{injection.administered_mbq:.1f}"
    dataset.RadiopharmaceuticalInformationSequence = DicomSequence([drug])
    return dataset


def _place(dataset: Dataset, grid: Grid, *, first_slice: int, camera: Camera) -> None:
    detector = Dataset()
    detector.CollimatorGridName, detector.CollimatorType = camera.collimator, "PARA"
    detector.FocalDistance = 0
    detector.ImageOrientationPatient = orientation_text(grid)
    detector.ImagePositionPatient = position_text(grid, first_slice)
    dataset.DetectorInformationSequence = DicomSequence([detector])
    # Of a reconstruction, however many turned: PS3.3 C.8.4.8.1.3.
    dataset.NumberOfDetectors = 1


def _turn(dataset: Dataset, camera: Camera, *, arc_deg: int, views: int) -> None:
    rotation = Dataset()
    rotation.StartAngle, rotation.AngularStep = "180", f"{arc_deg / views:g}"
    rotation.RotationDirection, rotation.ScanArc = "CW", str(arc_deg)
    rotation.ActualFrameDuration = str(round(camera.duration_s / VIEWS_PER_DETECTOR * _MS_PER_S))
    rotation.NumberOfFramesInRotation = views
    dataset.RotationInformationSequence = DicomSequence([rotation])
    dataset.NumberOfRotations = 1


def _sort_frames(dataset: Dataset, slices: int, windows_kev: list[tuple[float, float]]) -> None:
    dataset.NumberOfSlices, dataset.NumberOfEnergyWindows = slices, len(windows_kev)
    dataset.SliceVector = list(range(1, slices + 1)) * len(windows_kev)
    dataset.FrameIncrementPointer = _SLICE_VECTOR
    if len(windows_kev) > 1:
        dataset.FrameIncrementPointer = [_ENERGY_WINDOW_VECTOR, _SLICE_VECTOR]
        dataset.EnergyWindowVector = [w for w in range(1, len(windows_kev) + 1) for _ in range(slices)]
    windows = []
    for limits_kev in windows_kev:
        window = Dataset()
        window.EnergyWindowName = f"Lu177 {sum(limits_kev) / 2.0:.0f} keV"
        window.EnergyWindowRangeSequence = DicomSequence([window_range(limits_kev)])
        windows.append(window)
    dataset.EnergyWindowInformationSequence = DicomSequence(windows)


def _save(dataset: Dataset, folder: Path, frames: NDArray[np.float32], *, signed: bool) -> list[UID]:
    lowest, highest = _RANGE[signed]
    if frames.min() < lowest or frames.max() > highest:
        raise QuantityError(
            "the image has values that its pixels cannot hold",
            value=f"{frames.min():.0f} to {frames.max():.0f}",
            expected=f"{lowest} to {highest}",
        )
    dataset.NumberOfFrames = len(frames)
    dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 15, int(signed)
    dataset.PixelData = frames.astype("<i2" if signed else "<u2").tobytes()
    save(dataset, folder / "nm.dcm")
    return [dataset.SOPInstanceUID]
