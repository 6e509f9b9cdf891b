"""What is known of a SPECT image: before its pixels are read, and with them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, time
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.geometry import Grid
from doseledger.io.dicom.decay import Administration, DecayState
from doseledger.io.dicom.headers import Header
from doseledger.io.dicom.nm_counts import AppliedCalibration
from doseledger.io.dicom.tracer import header_nuclide
from doseledger.units import BQ_PER_MBQ

#: Decay state of every image that is read.
SCAN_START: Final = "scan_start"


@dataclass(frozen=True)
class SpectProvenance:
    """Where an image comes from and what was done to its stored values; None where unknown.

    `injection_time` is a time of day without a date, as NM headers have it; `calibration` is what
    turned counts into activity; `utc_offset_h` is how far the header's clock is before UTC.
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
    utc_offset_h: float | None
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


@dataclass(frozen=True)
class SpectInspection:
    """All that the headers of a SPECT image say; what they must not say has been refused.

    Only what needs the pixels is left to the reading: that they can be decoded, that the declared
    scale holds for all of them, and that the events of a dead-time correction are not their sum.
    """

    grid: Grid
    scan_start: datetime
    provenance: SpectProvenance


@dataclass(frozen=True, eq=False)
class SpectSource:
    """A SPECT image whose headers have been inspected and whose pixels can be read."""

    inspection: SpectInspection
    pixels: Callable[[], NDArray[np.float32]]

    def read(self) -> SpectImage:
        """Decode the pixels.

        Raises
        ------
        FileUnreadableError, UnitError, TagMissingError
            They cannot be decoded, or they contradict the header.
        """
        known = self.inspection
        return SpectImage(self.pixels(), known.grid, known.scan_start, SCAN_START, known.provenance)


def provenance(
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
    """From the header of a reconstruction, or of the first of its slices."""
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
        utc_offset_h=header.utc_offset_h,
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
