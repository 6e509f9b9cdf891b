"""Stage ``ingest``: DICOM to NIfTI in Bq/mL at scan start and HU, with the table ``acquisition``."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from pathlib import Path
from typing import Any, Final

import numpy as np

from doseledger import __version__
from doseledger.activity import Calibration
from doseledger.cohort import Row
from doseledger.errors import CrossCheckError, MixedSeriesError, RecordedError, SheetError, TimeError
from doseledger.io.dicom import AppliedCalibration, CtImage, SpectImage, read_ct, read_spect
from doseledger.io.nifti import voxels_sha256, write_image, write_sidecar
from doseledger.io.tables import write_rows
from doseledger.nuclides import Nuclide, nuclide
from doseledger.steps.layout import scan_file
from doseledger.steps.stage import Job
from doseledger.units import BQ_PER_MBQ, SECONDS_PER_HOUR

STAGE_VERSION: Final[int] = 2
TAKES_REFUSED: Final = False

#: A header's half-life that differs more is that of another nuclide.
HALF_LIFE_TOLERANCE_REL: Final = 0.02
#: Activity in the field over administered activity decayed to the scan (plausibility gate).
LARGEST_RETAINED_FRACTION: Final = 1.10
#: What a sensitivity does not mean anything without.
_CALIBRATION_COLUMNS: Final = ("sensitivity_geometry", "sensitivity_date", "sensitivity_basis")
_MIN_PER_DAY: Final = 24 * 60


def step(job: Job) -> None:
    """Read every time point of a cycle; one that must not be used refuses the cycle."""
    if job.rows["problems"]:
        raise RecordedError(**job.rows["problems"][0])
    administration = job.rows["administration"]
    source = nuclide(administration["nuclide"])
    cameras = {c["camera"]: c for c in job.rows["cameras"]}
    rows: list[Row] = []
    spects: list[SpectImage] = []
    for scan in job.rows["scans"]:
        camera = cameras[scan["camera"]]
        spect = read_spect(_path(job, scan["spect"]), calibration=_calibration(camera), nuclide=source)
        ct = read_ct(_path(job, scan["ct"])) if scan["ct"] else None
        _cross_check(spect, administration, source, job.settings, scan)
        _check_sequence([*spects, spect], scan)
        spects.append(spect)
        row = _acquisition(spect, ct, administration, source, camera)
        rows.append({**job.key, "time_point": scan["time_point"], **row, "data_origin": job.rows["data_origin"]})
        _write_images(job, scan, spect, ct, row)
    write_rows(job.out, "acquisition", rows)


def _path(job: Job, relative: str) -> Path:
    return Path(job.rows["base"]) / relative


def _calibration(camera: Row) -> Calibration | None:
    """What the camera sheet declares for images in counts; None where it declares no sensitivity."""
    if camera["sensitivity_cps_per_mbq"] is None:
        return None
    for column in _CALIBRATION_COLUMNS:
        if camera[column] is None:
            raise SheetError(
                f"camera {camera['camera']} has a sensitivity, but not what it refers to",
                path="cameras.tsv",
                tag=column,
            )
    window = camera["energy_window_kev"]
    low, high = map(float, window.split("-")) if window else (None, None)
    return Calibration(
        sensitivity_cps_per_mbq=camera["sensitivity_cps_per_mbq"],
        basis=camera["sensitivity_basis"],
        geometry=camera["sensitivity_geometry"],
        date=date.fromisoformat(camera["sensitivity_date"]),
        detectors=camera["detectors"],
        energy_window_kev=None if low is None or high is None else (low, high),
        dead_time_us=camera["dead_time_us"],
    )


def time_zero(administration: Row) -> datetime:
    """Middle of the infusion: where all times of the ledger count from."""
    start = datetime.fromisoformat(administration["injection_start"])
    return start + timedelta(minutes=administration["infusion_min"]) / 2


def administered_mbq(administration: Row) -> float:
    return float(administration["measured_activity_mbq"] - administration["residual_activity_mbq"])


def _cross_check(spect: SpectImage, administration: Row, source: Nuclide, settings: Row, scan: Row) -> None:
    """Header against sheet: a contradiction is never resolved by taking one of the two."""
    header = spect.provenance
    path = scan["spect"]
    injection = datetime.fromisoformat(administration["injection_start"])
    if spect.scan_start <= injection:
        raise TimeError(
            "the scan starts before the injection",
            path=path,
            tag="injection_start",
            value=_apart(spect.scan_start, injection),
            expected="a scan after the injection",
        )
    _cross_check_injection(spect, injection, settings["injection_tolerance_min"], path)
    if header.injected_activity_mbq is not None:
        measured = administration["measured_activity_mbq"]
        if abs(header.injected_activity_mbq / measured - 1.0) > settings["activity_tolerance_rel"]:
            raise CrossCheckError(
                "administered activity of header and sheet differ",
                path=path,
                tag="RadionuclideTotalDose (0018,1074)",
                value=f"{header.injected_activity_mbq:g} MBq",
                expected=f"{measured:g} MBq",
            )
    half_life_h = header.header_half_life_h
    if half_life_h is not None and abs(half_life_h / source.half_life_h - 1.0) > HALF_LIFE_TOLERANCE_REL:
        raise CrossCheckError(
            f"the header's half-life is not that of {source.name}",
            path=path,
            tag="RadionuclideHalfLife (0018,1075)",
            value=f"{half_life_h:g} h",
            expected=f"{source.half_life_h:g} h",
        )


def _cross_check_injection(spect: SpectImage, injection: datetime, tolerance_min: float, path: str) -> None:
    """NM headers have a time of day without a date: only that can be compared, around midnight too."""
    header = spect.provenance
    if header.injection_datetime is not None:
        tag, value = "RadiopharmaceuticalStartDateTime (0018,1078)", _apart(header.injection_datetime, injection)
        difference_min = abs((header.injection_datetime - injection).total_seconds()) / 60.0
    elif header.injection_time is not None:
        tag, value = "RadiopharmaceuticalStartTime (0018,1072)", f"{header.injection_time:%H:%M}"
        difference_min = abs(_minute_of_day(header.injection_time) - _minute_of_day(injection.time()))
        difference_min = min(difference_min, _MIN_PER_DAY - difference_min)
    else:
        return
    if difference_min > tolerance_min:
        raise CrossCheckError(
            "injection time of header and sheet differ",
            path=path,
            tag=tag,
            value=value,
            expected=f"within {tolerance_min:g} min of the sheet",
        )


def _minute_of_day(clock: time) -> float:
    return clock.hour * 60.0 + clock.minute + clock.second / 60.0


def _apart(time: datetime, reference: datetime) -> str:
    """An interval for a message: what goes into a table never holds a date."""
    hours = (time - reference).total_seconds() / SECONDS_PER_HOUR
    return f"{abs(hours):.2f} h {'after' if hours > 0 else 'before'} it"


def _check_sequence(spects: list[SpectImage], scan: Row) -> None:
    """One patient, distinct scans, in order of time."""
    latest = spects[-1]
    for earlier in spects[:-1]:
        if earlier.provenance.patient_id != latest.provenance.patient_id:
            raise MixedSeriesError(
                "the scans of the cycle belong to two patients", path=scan["spect"], tag="PatientID (0010,0020)"
            )
        if earlier.provenance.series_uid == latest.provenance.series_uid:
            raise SheetError("the same series is listed at two time points", path=scan["spect"], tag="spect")
        if earlier.scan_start >= latest.scan_start:
            raise TimeError(
                "the time points are not in order of time",
                path=scan["spect"],
                tag="time_point",
                value=_apart(latest.scan_start, earlier.scan_start),
                expected="a scan after the one before it",
            )


def _acquisition(
    spect: SpectImage, ct: CtImage | None, administration: Row, source: Nuclide, camera: Row
) -> dict[str, Any]:
    header = spect.provenance
    time_h = (spect.scan_start - time_zero(administration)).total_seconds() / SECONDS_PER_HOUR
    total = float(spect.array_bq_per_ml.sum(dtype="float64")) * spect.grid.voxel_volume_ml / BQ_PER_MBQ
    left = administered_mbq(administration) * 0.5 ** (time_h / source.half_life_h)
    flags = list(header.flags)
    if header.header_nuclide not in (None, source.name):
        flags.append("nuclide_in_header_differs")
    if ct is None:
        flags.append("no_ct")
    elif ct.provenance.frame_of_reference_uid != header.frame_of_reference_uid:
        flags.append("ct_in_another_frame_of_reference")
    if total > LARGEST_RETAINED_FRACTION * left:
        flags.append("more_activity_than_administered")
    z, y, x = spect.grid.spacing_mm
    return {
        "time_h": time_h,
        "duration_s": header.duration_s,
        "camera": camera["camera"],
        "manufacturer": header.manufacturer,
        "model": header.model,
        "collimator": camera["collimator"] or header.collimator,
        "energy_window_kev": header.energy_window_kev,
        "reconstruction": header.reconstruction,
        "unit_source": header.unit_source,
        "decay_correction_in_header": header.decay_correction_in_header,
        "decay_factor_applied": header.decay_factor_applied,
        **_calibration_columns(header.calibration),
        "u_calibration_rel": camera["u_calibration_rel"],
        "total_activity_mbq": total,
        "total_fraction_of_administered": total / left,
        "spacing_z_mm": z,
        "spacing_y_mm": y,
        "spacing_x_mm": x,
        "has_ct": ct is not None,
        "spect_sha256": voxels_sha256(spect.array_bq_per_ml, spect.grid),
        "ct_sha256": None if ct is None else voxels_sha256(ct.array_hu, ct.grid),
        "flags": flags,
        "software_version": __version__,
    }


def _calibration_columns(applied: AppliedCalibration | None) -> dict[str, Any]:
    """Null for images that were stored in Bq/mL."""
    if applied is None:
        return {}
    return {
        "sensitivity_cps_per_mbq": applied.sensitivity_cps_per_mbq,
        "sensitivity_geometry": applied.geometry,
        "sensitivity_age_days": applied.age_days,
        "sensitivity_basis": applied.basis,
        "dead_time_factor": applied.dead_time_factor,
    }


def _write_images(job: Job, scan: Row, spect: SpectImage, ct: CtImage | None, row: Row) -> None:
    """NIfTI with sidecars in PET-BIDS keys; UIDs stay in the sidecar and never reach a table."""
    header = spect.provenance
    administration = job.rows["administration"]
    point = scan["time_point"]
    write_image(job.out / scan_file(job.key, point, "spect.nii.gz"), spect.array_bq_per_ml, spect.grid, dtype="float32")
    write_sidecar(
        job.out / scan_file(job.key, point, "spect.json"),
        {
            "Modality": "NM",
            "Units": "Bq/mL",
            "TracerName": administration["radiopharmaceutical"],
            "TracerRadionuclide": administration["nuclide"],
            "InjectedRadioactivity": administered_mbq(administration),
            "InjectedRadioactivityUnits": "MBq",
            "TimeZero": "mid-infusion",
            "ScanStart": row["time_h"] * SECONDS_PER_HOUR,
            "InjectionStart": -administration["infusion_min"] * 30.0,
            "FrameTimesStart": [0.0],
            "FrameDuration": [header.duration_s],
            "ImageDecayCorrected": True,
            "ImageDecayCorrectionTime": 0.0,
            "ReconMethodName": header.reconstruction,
            "DecayCorrectionFactor": [header.decay_factor_applied],
            "FrameOfReferenceUID": header.frame_of_reference_uid,
            "SeriesInstanceUID": header.series_uid,
        },
    )
    if ct is None:
        return
    write_image(job.out / scan_file(job.key, point, "ct.nii.gz"), np.rint(ct.array_hu), ct.grid, dtype="int16")
    write_sidecar(
        job.out / scan_file(job.key, point, "ct.json"),
        {
            "Modality": "CT",
            "Units": "HU",
            "FrameOfReferenceUID": ct.provenance.frame_of_reference_uid,
            "SeriesInstanceUID": ct.provenance.series_uid,
        },
    )
