"""SPECT images: activity concentration in Bq/mL at scan start, or a refusal.

Reconstructions are stored as PET series, one file per slice, or as NM images, one file for all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.activity import Calibration
from doseledger.errors import MixedSeriesError, ModalityError, SlicesMissingError, TimeError, UnitError
from doseledger.geometry import Grid
from doseledger.io.dicom.decay import Administration, DecayState, read_administration, read_decay_state
from doseledger.io.dicom.headers import Header, Paths, tag_name
from doseledger.io.dicom.nm import NM_STORAGE, read_nm_volume
from doseledger.io.dicom.nm_counts import AppliedCalibration
from doseledger.io.dicom.series import read_headers, require_same, rescale, stored_values
from doseledger.io.dicom.stack import stack_slices
from doseledger.io.dicom.tracer import header_nuclide
from doseledger.nuclides import Nuclide
from doseledger.units import BQ_PER_MBQ, bq_per_ml_factor

PET_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.128"
_KINDS: Final = {PET_STORAGE: "PT, one slice per file", NM_STORAGE: "NM, one reconstruction per file"}
COUNTS: Final = "CNTS"
#: Decay state of every image this module returns.
SCAN_START: Final = "scan_start"

#: Elements that decide the numbers of the whole image and so must be the same in every slice.
_UNIFORM: Final = ("Units", "DecayCorrection", "CorrectedImage", "NumberOfSlices")
_ACQUISITION: Final = ("AcquisitionDate", "AcquisitionTime", "ActualFrameDuration")


@dataclass(frozen=True)
class SpectProvenance:
    """Where an image comes from and what was done to its stored values; None where unknown.

    `injection_time` is a time of day without a date, as NM headers have it; `calibration` is what
    turned counts into activity.
    """

    patient_id: str | None
    series_uid: str | None
    study_uid: str | None
    frame_of_reference_uid: str | None
    modality: str
    manufacturer: str | None
    model: str | None
    collimator: str | None
    energy_window_kev: str | None
    reconstruction: str | None
    unit: str
    unit_source: str
    decay_correction_in_header: str
    decay_factor_applied: float
    duration_s: float | None
    calibration: AppliedCalibration | None
    injection_datetime: datetime | None
    injection_time: time | None
    injected_activity_mbq: float | None
    header_half_life_h: float | None
    header_nuclide: str | None
    radiopharmaceutical: str | None
    corrections: tuple[str, ...]
    patient_mass_kg: float | None
    patient_height_m: float | None
    patient_sex: str | None
    flags: tuple[str, ...]
    n_files: int


@dataclass(frozen=True, eq=False)
class SpectImage:
    """A reconstructed image of activity concentration.

    Attributes
    ----------
    array_bq_per_ml
        float32 ``(z, y, x)``, Bq/mL at `scan_start`. Reconstructions can hold negative values.
    scan_start
        Local time as in the header, without a time zone.
    decay_state
        Always ``"scan_start"``.
    """

    array_bq_per_ml: NDArray[np.float32]
    grid: Grid
    scan_start: datetime
    decay_state: str
    provenance: SpectProvenance


def read_spect(paths: Paths, *, calibration: Calibration | None = None, nuclide: Nuclide | None = None) -> SpectImage:
    """Read a reconstructed SPECT (or PET): a PT series in Bq/mL, or an NM image in Bq/mL or counts.

    C = (stored * slope + intercept) * unit factor * decay factor.

    Parameters
    ----------
    paths
        A folder (its subfolders are not read), a file, or the files of one series.
    calibration
        Sensitivity of the camera, for NM images in counts.
    nuclide
        That of the treatment: its photopeak and half-life are used for NM images, whose headers
        seldom tell. None: the one that the header names.

    Raises
    ------
    InputMissingError, FileUnreadableError, MixedSeriesError, ModalityError
        Files that are absent, damaged, not of one patient and series, or not one reconstruction.
    UnitError
        The values are no activity concentration: counts without a calibration, g/mL, unknown.
    EnergyWindowError
        It is not clear which frames of an NM image show the photopeak.
    SlicesMissingError, GeometryError
        The slices are not one complete regular grid.
    TagMissingError, TimeError, QuantityError, CrossCheckError
        Decay state, scale, duration or number of detectors are missing or contradictory.
    """
    headers = read_headers(paths, _KINDS)
    if headers[0].sop_class == NM_STORAGE:
        return _read_nm(headers, calibration, nuclide)
    return _read_pet(headers, calibration)


def _read_nm(headers: Sequence[Header], calibration: Calibration | None, nuclide: Nuclide | None) -> SpectImage:
    header = headers[0]
    if len(headers) > 1:
        raise MixedSeriesError(
            f"there is more than one NM image: {header.path.name} and {headers[1].path.name}",
            path=headers[1].path,
            remedy="Name the file of the reconstruction that counts.",
        )
    volume = read_nm_volume(header, calibration, nuclide)
    provenance = _provenance(
        header,
        volume.administration,
        volume.decay,
        modality="NM",
        unit=volume.scale.unit,
        unit_source=volume.scale.unit_source,
        energy_window_kev=volume.energy_window_kev,
        calibration=volume.calibration,
        flags=volume.flags,
        n_files=1,
    )
    return SpectImage(volume.array_bq_per_ml, volume.grid, volume.decay.scan_start, SCAN_START, provenance)


def _read_pet(headers: Sequence[Header], calibration: Calibration | None) -> SpectImage:
    for keyword in _UNIFORM:
        require_same(headers, keyword, "the slices differ in what their values mean")
    unit_factor = _unit_factor(headers[0], calibration)
    _require_one_bed(headers)
    flags = _require_all_slices(headers)
    stack = stack_slices(headers)
    administration = read_administration(stack.first)
    decay = read_decay_state(stack.first, administration)
    array = np.empty(stack.grid.shape, dtype=np.float32)
    for z, header in enumerate(stack.slices):
        slope, intercept = rescale(header)
        array[z] = (stored_values(header) * slope + intercept) * (unit_factor * decay.factor)
    provenance = _provenance(
        stack.first,
        administration,
        decay,
        modality="PT",
        unit=stack.first.text("Units") or "",
        unit_source=tag_name("Units"),
        energy_window_kev=_energy_windows(stack.first),
        calibration=None,
        flags=(*stack.flags, *flags),
        n_files=len(stack.slices),
    )
    return SpectImage(array, stack.grid, decay.scan_start, SCAN_START, provenance)


def _unit_factor(header: Header, calibration: Calibration | None) -> float:
    unit = header.text("Units") or ""
    tag = tag_name("Units")
    if unit == COUNTS and calibration is None:
        raise UnitError(
            "the image is in counts and the sensitivity of the camera is not given",
            path=header.path,
            tag=tag,
            value=unit,
            expected="BQML",
        )
    if unit == COUNTS:
        raise ModalityError("PET images in counts are not read yet", path=header.path, tag=tag, value=unit)
    return bq_per_ml_factor(unit, path=str(header.path), tag=tag)


def _require_one_bed(headers: Sequence[Header]) -> None:
    # Each bed position has its own start, to which its activity would have to be referred.
    first = headers[0]
    for keyword in _ACQUISITION:
        for other in headers[1:]:
            if other.texts(keyword) != first.texts(keyword):
                raise TimeError(
                    "multi-bed series with times per bed are not read yet: "
                    f"{first.path.name} and {other.path.name} differ",
                    path=other.path,
                    tag=tag_name(keyword),
                    value=other.text(keyword),
                    expected=first.text(keyword),
                    remedy="Export a series that refers to one start, or one series per bed.",
                )


def _require_all_slices(headers: Sequence[Header]) -> tuple[str, ...]:
    declared = headers[0].number("NumberOfSlices")
    if declared is not None and declared > len(headers):
        raise SlicesMissingError(
            f"{declared - len(headers):.0f} slice(s) missing",
            path=headers[0].path.parent,
            tag=tag_name("NumberOfSlices"),
            value=len(headers),
            expected=int(declared),
        )
    return ("more_slices_than_declared",) if declared is not None and declared < len(headers) else ()


def _provenance(
    header: Header,
    administration: Administration,
    decay: DecayState,
    *,
    modality: str,
    unit: str,
    unit_source: str,
    energy_window_kev: str | None,
    calibration: AppliedCalibration | None,
    flags: tuple[str, ...],
    n_files: int,
) -> SpectProvenance:
    activity_bq = administration.injected_activity_bq
    return SpectProvenance(
        patient_id=header.text("PatientID"),
        series_uid=header.text("SeriesInstanceUID"),
        study_uid=header.text("StudyInstanceUID"),
        frame_of_reference_uid=header.text("FrameOfReferenceUID"),
        modality=modality,
        manufacturer=header.text("Manufacturer"),
        model=header.text("ManufacturerModelName"),
        collimator=_collimator(header),
        energy_window_kev=energy_window_kev,
        reconstruction=_joined(header, "; ", "ReconstructionMethod", "ConvolutionKernel"),
        unit=unit,
        unit_source=unit_source,
        decay_correction_in_header=decay.correction,
        decay_factor_applied=decay.factor,
        duration_s=decay.duration_s,
        calibration=calibration,
        injection_datetime=administration.injection_datetime,
        injection_time=administration.injection_time,
        injected_activity_mbq=None if activity_bq is None else activity_bq / BQ_PER_MBQ,
        header_half_life_h=administration.half_life_h,
        header_nuclide=header_nuclide(header),
        radiopharmaceutical=administration.radiopharmaceutical,
        corrections=header.texts("CorrectedImage"),
        patient_mass_kg=header.number("PatientWeight"),
        patient_height_m=header.number("PatientSize"),
        patient_sex=header.text("PatientSex"),
        flags=(*flags, *administration.flags, *decay.flags),
        n_files=n_files,
    )


def _collimator(header: Header) -> str | None:
    """At the top level in PET images, in the first detector's item in NM images."""
    places = [header, *header.items("DetectorInformationSequence")]
    names = (_joined(place, " ", "CollimatorGridName", "CollimatorType") for place in places)
    return next((name for name in names if name), None)


def _joined(header: Header, separator: str, *keywords: str) -> str | None:
    return separator.join(text for keyword in keywords for text in header.texts(keyword)) or None


def _energy_windows(header: Header) -> str | None:
    windows = [
        f"{window.required_number('EnergyWindowLowerLimit'):.1f}-{window.required_number('EnergyWindowUpperLimit'):.1f}"
        for window in header.items("EnergyWindowRangeSequence")
    ]
    return ", ".join(windows) or None
