"""CT and SPECT series as a hospital's archive would export them: one file per slice."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, CTImageStorage, PositronEmissionTomographyImageStorage

from doseledger.geometry import Grid
from doseledger.phantom.dicom_base import Visit, as_template, code, common_dataset, save
from doseledger.phantom.scanner import HEADER_HALF_LIFE_S, Camera
from doseledger.phantom.shapes import Image
from doseledger.units import BQ_PER_MBQ

CT_INTERCEPT_HU: Final = -1024
_CT_BITS: Final = 12
_MAX_STORED: Final = 65535
#: Slope of a slice without a single count: any positive number will do.
_SMALLEST_MAXIMUM: Final = 1.0e-6
#: 177Lu photopeak window, 208.4 keV +- 10 %, keV.
PHOTOPEAK_KEV: Final = (187.6, 229.2)


@dataclass(frozen=True)
class Injection:
    """The administration as the SPECT headers state it; activity at injection start."""

    radiopharmaceutical: str
    start: datetime
    infusion_min: float
    administered_mbq: float


@dataclass(frozen=True)
class SpectScale:
    """Unit and decay state of the stored values."""

    units: Literal["BQML", "GML"]
    decay_factor: float | None
    frame_reference_ms: float


def write_ct(folder: Path, hounsfield: Image, grid: Grid, visit: Visit, started: datetime) -> list[UID]:
    """Write a CT series in 12 of 16 bits; returns the SOP instance UIDs by slice."""
    base = common_dataset(visit, CTImageStorage, "CT", "AC CT 4.0 B31f", 2, started)
    _describe_image(base, grid)
    base.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    base.PatientPosition = "HFS"
    base.AcquisitionNumber = 1
    base.KVP, base.XRayTubeCurrent = "130", 40
    base.ConvolutionKernel = "B31f"
    base.RescaleIntercept, base.RescaleSlope, base.RescaleType = str(CT_INTERCEPT_HU), "1", "HU"
    base.WindowCenter, base.WindowWidth = "40", "400"
    base.BitsStored, base.HighBit = _CT_BITS, _CT_BITS - 1
    stored = np.rint(hounsfield - CT_INTERCEPT_HU).astype(np.uint16)
    template = as_template(base)
    return [_write_slice(folder, template, visit, grid, index, plane) for index, plane in enumerate(stored)]


def write_spect(
    folder: Path, values: Image, grid: Grid, visit: Visit, injection: Injection, scale: SpectScale
) -> list[UID]:
    """Write a SPECT reconstruction as a PT series; each slice has a rescale slope of its own."""
    base = common_dataset(
        visit, PositronEmissionTomographyImageStorage, "PT", "Lu177 SPECT AC SC", 1000, visit.scan_start
    )
    _describe_image(base, grid)
    _describe_acquisition(base, visit.camera, grid)
    _describe_scale(base, visit.camera, scale)
    base.RadiopharmaceuticalInformationSequence = DicomSequence([_pet_radiopharmaceutical(injection)])
    base.BitsStored, base.HighBit = 16, 15
    template = as_template(base)
    uids = []
    for index, plane in enumerate(values):
        # What scales is the slope as printed, in the 16 characters of a decimal string.
        slope = f"{max(float(plane.max()), _SMALLEST_MAXIMUM) / _MAX_STORED:.9g}"
        stored = np.rint(plane / float(slope)).clip(0, _MAX_STORED).astype(np.uint16)
        template.RescaleSlope, template.ImageIndex = slope, index + 1
        uids.append(_write_slice(folder, template, visit, grid, index, stored))
    return uids


def _describe_image(base: Dataset, grid: Grid) -> None:
    describe_pixels(base, grid)
    base.ContentDate, base.ContentTime = base.SeriesDate, base.SeriesTime
    base.ImageOrientationPatient = orientation_text(grid)


def describe_pixels(base: Dataset, grid: Grid) -> None:
    """What CT, PT and NM images say alike; positions stand at other places."""
    base.AcquisitionDate, base.AcquisitionTime = base.SeriesDate, base.SeriesTime
    base.BodyPartExamined = "ABDOMEN"
    base.PixelSpacing = [f"{grid.spacing_mm[1]:.6g}", f"{grid.spacing_mm[2]:.6g}"]
    base.SliceThickness = f"{grid.spacing_mm[0]:.6g}"
    base.SamplesPerPixel, base.PhotometricInterpretation = 1, "MONOCHROME2"
    base.Rows, base.Columns = grid.shape[1:]
    base.BitsAllocated, base.PixelRepresentation = 16, 0


def orientation_text(grid: Grid) -> list[str]:
    _, column_axis, row_axis = grid.direction
    return [f"{cosine:g}" for cosine in (*row_axis, *column_axis)]


def position_text(grid: Grid, index: int) -> list[str]:
    """Position of the first voxel of a slice."""
    return [f"{coordinate:.4f}" for coordinate in grid.position_mm(np.array([index, 0.0, 0.0]))]


def _describe_acquisition(base: Dataset, camera: Camera, grid: Grid) -> None:
    base.ImageType = ["ORIGINAL", "PRIMARY"]
    base.SeriesType, base.CountsSource = ["STATIC", "IMAGE"], "EMISSION"
    base.NumberOfSlices = grid.shape[0]
    base.CollimatorGridName, base.CollimatorType = camera.collimator, "PARA"
    base.ActualFrameDuration = str(round(camera.duration_s * 1.0e3))
    base.ReconstructionMethod = "OSEM 8i6s"
    base.AttenuationCorrectionMethod = "CT-derived mu-map"
    base.ScatterCorrectionMethod = "DEW"
    base.EnergyWindowRangeSequence = DicomSequence([window_range(PHOTOPEAK_KEV)])
    describe_posture(base)


def describe_posture(base: Dataset) -> None:
    """On the back, head first."""
    supine = code("102538003", "SCT", "recumbent")
    supine.PatientOrientationModifierCodeSequence = DicomSequence([code("40199007", "SCT", "supine")])
    base.PatientOrientationCodeSequence = DicomSequence([supine])
    base.PatientGantryRelationshipCodeSequence = DicomSequence([code("102540001", "SCT", "headfirst")])


def _describe_scale(base: Dataset, camera: Camera, scale: SpectScale) -> None:
    base.Units = scale.units
    if scale.units == "GML":
        base.SUVType = "BW"
    base.RescaleIntercept = "0"
    base.DecayCorrection = camera.decay_correction
    base.CorrectedImage = ["ATTN", "SCAT"]
    base.FrameReferenceTime = f"{scale.frame_reference_ms:.1f}"
    if scale.decay_factor is not None:
        base.CorrectedImage = ["ATTN", "SCAT", "DECY"]
        base.DecayFactor = f"{scale.decay_factor:.6f}"


def _write_slice(
    folder: Path, template: Dataset, visit: Visit, grid: Grid, index: int, stored: NDArray[np.uint16]
) -> UID:
    uid = visit.uid(template.Modality, index)
    template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = uid
    template.InstanceNumber = index + 1
    template.ImagePositionPatient = position_text(grid, index)
    template.SliceLocation = position_text(grid, index)[2]
    # A template no longer guesses a VR: 16-bit pixels are OW.
    template.add_new("PixelData", "OW", stored.tobytes())
    save(template, folder / f"{template.Modality.lower()}-{index + 1:04d}.dcm")
    return uid


def _pet_radiopharmaceutical(injection: Injection) -> Dataset:
    item = radiopharmaceutical(injection)
    item.RadiopharmaceuticalStartDateTime = f"{injection.start:%Y%m%d%H%M%S}"
    # Classic PET objects state Bq; NM objects and the administrations sheet state MBq.
    item.RadionuclideTotalDose = f"{injection.administered_mbq * BQ_PER_MBQ:.0f}"
    item.RadionuclideHalfLife = str(HEADER_HALF_LIFE_S)
    item.RadionuclidePositronFraction = "0"
    return item


def radiopharmaceutical(injection: Injection) -> Dataset:
    """What PT and NM images say alike: no date, no activity."""
    end = injection.start + timedelta(minutes=injection.infusion_min)
    item = Dataset()
    item.Radiopharmaceutical = injection.radiopharmaceutical
    item.RadiopharmaceuticalStartTime, item.RadiopharmaceuticalStopTime = f"{injection.start:%H%M%S}", f"{end:%H%M%S}"
    item.RadionuclideCodeSequence = DicomSequence([code("447553000", "SCT", "^177^Lutetium")])
    item.AdministrationRouteCodeSequence = DicomSequence([code("47625008", "SCT", "Intravenous route")])
    return item


def window_range(limits_kev: tuple[float, float]) -> Dataset:
    item = Dataset()
    item.EnergyWindowLowerLimit, item.EnergyWindowUpperLimit = (str(limit) for limit in limits_kev)
    return item
