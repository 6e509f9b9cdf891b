"""Stage ``ingest``: DICOM to NIfTI in Bq/mL at scan start and HU, with the table ``acquisition``."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from doseledger import __version__
from doseledger.cohort import Row, administered_mbq
from doseledger.io.dicom import AppliedCalibration, CtImage, SpectImage, open_ct, open_spect
from doseledger.io.nifti import voxels_sha256, write_image, write_sidecar
from doseledger.io.tables import write_rows
from doseledger.nuclides import nuclide
from doseledger.steps.cross_check import check_cycle, clock_flags, time_h
from doseledger.steps.layout import scan_file
from doseledger.steps.stage import Job
from doseledger.units import BQ_PER_MBQ, SECONDS_PER_HOUR

STAGE_VERSION: Final[int] = 3
TAKES_REFUSED: Final = False

#: Activity in the field over administered activity decayed to the scan (plausibility gate).
LARGEST_RETAINED_FRACTION: Final = 1.10


def step(job: Job) -> None:
    """Read every time point of a cycle; one that must not be used refuses the cycle."""
    administration = job.rows["administration"]
    scans = check_cycle(job.rows, job.settings, open_spect=open_spect, open_ct=open_ct)
    rows: list[Row] = []
    while scans:
        # Taken off the list: the pixels of one time point at a time are in memory.
        scan = scans.pop(0)
        spect, ct = scan.spect.read(), scan.ct.read() if scan.ct else None
        row = _acquisition(spect, ct, administration, scan.camera)
        row["flags"] += clock_flags(scan.spect.inspection, administration)
        rows.append({**job.key, "time_point": scan.row["time_point"], **row, "data_origin": job.rows["data_origin"]})
        _write_images(job, scan.row, spect, ct, row)
    write_rows(job.out, "acquisition", rows)


def _acquisition(spect: SpectImage, ct: CtImage | None, administration: Row, camera: Row) -> dict[str, Any]:
    header = spect.provenance
    source = nuclide(administration["nuclide"])
    hours = time_h(spect.scan_start, administration)
    total = float(spect.array_bq_per_ml.sum(dtype="float64")) * spect.grid.voxel_volume_ml / BQ_PER_MBQ
    left = administered_mbq(administration) * 0.5 ** (hours / source.half_life_h)
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
        "time_h": hours,
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
