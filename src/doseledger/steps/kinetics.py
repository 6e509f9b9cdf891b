"""Stage ``kinetics``: activities, curves and the voxel map of time-integrated activity."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger import __version__
from doseledger.activity.region_recovery import RegionRecovery
from doseledger.cohort import Row
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, read_sidecar, write_image, write_sidecar
from doseledger.io.tables import read_rows, write_rows
from doseledger.kinetics import CurveFit, fit_curve, fit_voxels, single_time_point
from doseledger.nuclides import nuclide
from doseledger.regions import REMAINDER, WHOLE_FIELD, RegionSpec, hard_labels, region_fractions, sums_of
from doseledger.steps.layout import ALIGNMENT, RECOVERY, TIA_MAP, scan_file
from doseledger.steps.recovery import Correction, activity_columns, correction_of, scan_recoveries, sidecar
from doseledger.steps.specs import demo_marks, read_specs
from doseledger.steps.stage import Job
from doseledger.units import BQ_PER_MBQ

STAGE_VERSION: Final[int] = 3
TAKES_REFUSED: Final = False

#: Share of the TIA after the last scan: flagged above the first, graded low above the second.
EXTRAPOLATION_FLAG: Final = 0.20
EXTRAPOLATION_LOW: Final = 0.50
#: The voxel fits of a region must sum to its curve within this factor, or the alignment is doubtful.
VOXEL_SCALE_RANGE: Final = (0.8, 1.25)


def step(job: Job) -> None:
    """Measure each region with the outline of its own time point, fit, and integrate."""
    half_life_h = nuclide(job.rows["nuclide"]).half_life_h
    specs = read_specs(job.one("segment"))
    times = {r["time_point"]: float(r["time_h"]) for r in read_rows(job.one("ingest"), "acquisition")}
    activities, recoveries = _activities(job, specs, sorted(times))
    relative_u = job.settings["relative_random_uncertainty"]
    # A sum of regions has no curve of its own: its TIA is the sum of its parts.
    fits = {
        region: _fit(job, values, times, half_life_h, relative_u)
        for region, values in activities.items()
        if region not in sums_of(specs) and any(a > 0 for a in values.values())
    }
    flags = {region: _curve_flags(fit, activities[region], times) for region, fit in fits.items()}
    marks = demo_marks(job.one("segment"))
    voxel_flags = _write_tia_map(job, specs, fits, times, half_life_h)
    for region, extra in voxel_flags.items():
        flags[region] += extra
    flags = {region: [*own, *marks] for region, own in flags.items()}
    common = {**job.key, "data_origin": job.rows["data_origin"], "software_version": __version__}
    columns = {
        point: activity_columns({r: v[point] for r, v in activities.items() if point in v}, found, sums_of(specs))
        for point, found in recoveries.items()
    }
    write_sidecar(job.out / RECOVERY, sidecar(_corrections(fits, activities, recoveries, times)))
    write_rows(
        job.out,
        "region_activity",
        [
            common
            | {
                "time_point": point,
                "region": region,
                "time_h": times[point],
                "activity_mbq": value,
                "u_activity_mbq": relative_u * value,
                "curve_source": job.settings["curve_source"],
                "flags": [*([] if value > 0 else ["no_activity"]), *marks],
            }
            | columns[point][region]
            for region, values in activities.items()
            for point, value in values.items()
        ],
    )
    write_rows(
        job.out,
        "curve",
        [common | _curve_row(region, fit, len(activities[region]), flags[region]) for region, fit in fits.items()],
    )


def _activities(
    job: Job, specs: list[RegionSpec], points: list[int]
) -> tuple[dict[str, dict[int, float]], dict[int, dict[str, RegionRecovery]]]:
    """Activity in MBq by region and time point, and the recovery by time point and region.

    The outline is shared out among partial voxels.
    """
    found: dict[str, dict[int, float]] = {}
    recoveries: dict[int, dict[str, RegionRecovery]] = {}
    for point in points:
        spect, grid = read_image(job.one("ingest") / scan_file(job.key, point, "spect.nii.gz"))
        labels, label_grid = read_image(job.one("segment") / scan_file(job.key, point, "dseg.nii.gz"))
        to_mbq = grid.voxel_volume_ml / BQ_PER_MBQ
        fractions = region_fractions(labels.astype(np.uint8), label_grid, grid)
        recoveries[point] = scan_recoveries(job, point, specs, fractions, spect, grid)
        whole = float(spect.sum(dtype=np.float64)) * to_mbq
        values = {
            spec.region: float((fractions[spec.label] * spect).sum(dtype=np.float64)) * to_mbq
            for spec in specs
            if spec.label in fractions
        }
        remainder = whole - sum(values.values())
        for name, parts in sums_of(specs).items():
            present = [values[p.region] for p in parts if p.region in values]
            if present:
                values[name] = sum(present)
        for region, value in (values | {WHOLE_FIELD: whole, REMAINDER: remainder}).items():
            found.setdefault(region, {})[point] = max(value, 0.0)
    return found, recoveries


def _corrections(
    fits: dict[str, CurveFit],
    activities: dict[str, dict[int, float]],
    recoveries: dict[int, dict[str, RegionRecovery]],
    times: dict[int, float],
) -> dict[str, Correction]:
    """Recovery of the TIA of each region that could be corrected at each of its scans."""
    found = {}
    for region, fit in fits.items():
        own = {point: recoveries[point].get(region) for point in activities[region]}
        known = [recovery for recovery in own.values() if recovery is not None]
        if len(known) == len(own) and np.isfinite(fit.effective_half_life_h):
            values = [activities[region][point] for point in own]
            found[region] = correction_of(known, [times[p] for p in own], values, fit.effective_half_life_h)
    return found


def _fit(
    job: Job, activities: dict[int, float], times: dict[int, float], half_life_h: float, relative_u: float
) -> CurveFit:
    at = np.asarray([times[p] for p in activities])
    values = np.asarray(list(activities.values()))
    if at.size == 1:
        return single_time_point(
            float(at[0]),
            float(values[0]),
            half_life_h=half_life_h,
            method=job.settings["single_time_point"],
            u_activity_mbq=relative_u * float(values[0]),
        )
    u_values = relative_u * np.maximum(values, 0.01 * values.max())
    return fit_curve(at, values, half_life_h=half_life_h, u_activity_mbq=u_values, model=job.settings["model"])


def _curve_flags(fit: CurveFit, activities: dict[int, float], times: dict[int, float]) -> list[str]:
    flags = {
        "saturated": ["no_degrees_of_freedom"],
        "at_bound": ["rate_at_bound"],
        "not_converged": ["not_converged"],
    }.get(fit.status, [])
    if len(times) == 1:
        flags = [*flags, "single_time_point", "half_life_assumed"]
    if len(activities) < len(times):
        flags = [*flags, "missing_at_time_point"]
    if fit.extrapolated_fraction > EXTRAPOLATION_LOW:
        return [*flags, "extrapolated", "low"]
    return [*flags, "extrapolated"] if fit.extrapolated_fraction > EXTRAPOLATION_FLAG else flags


def _write_tia_map(
    job: Job, specs: list[RegionSpec], fits: dict[str, CurveFit], times: dict[int, float], half_life_h: float
) -> dict[str, list[str]]:
    """Voxel fits on the reference grid, scaled so that each region's voxels sum to its own TIA.

    The voxels give the shape, the region's curve the total: noise and misalignment of single voxels
    do not bias the dose of the region.
    """
    align = job.one("align")
    reference = read_sidecar(align / ALIGNMENT)["reference_time_point"]
    points = sorted(times)
    images, grid = [], None
    for point in points:
        image, grid = read_image(align / scan_file(job.key, point, "space-reference_spect.nii.gz"))
        images.append(image)
    assert grid is not None
    labels = hard_labels(reference_fractions(job.one("segment"), job.key, reference, grid), grid.shape)
    if len(points) == 1:
        shape = np.maximum(images[0], 0.0)
    else:
        stack = np.maximum(np.stack(images), 0.0)
        shape = fit_voxels(stack, [times[p] for p in points], half_life_h=half_life_h, model="mono").tia
    tia = np.zeros(grid.shape, np.float64)
    flags: dict[str, list[str]] = {}
    for label, region in [(0, REMAINDER), *((s.label, s.region) for s in specs)]:
        voxels = labels == label
        total = float(shape[voxels].sum(dtype=np.float64)) * grid.voxel_volume_ml / BQ_PER_MBQ
        if region not in fits or total <= 0:
            continue
        scale = fits[region].tia_mbq_h / total
        tia[voxels] = shape[voxels] * scale
        low, high = VOXEL_SCALE_RANGE
        if label > 0 and len(points) > 1 and not low <= scale <= high:
            flags[region] = ["voxels_disagree_with_curve"]
    write_image(job.out / TIA_MAP, tia.astype(np.float32), grid, dtype="float32")
    return flags


def reference_fractions(segment: Path, key: Row, reference: int, grid: Grid) -> dict[int, NDArray[np.float32]]:
    """Share of each SPECT voxel of the reference time point in each region, by label."""
    labels, label_grid = read_image(segment / scan_file(key, reference, "dseg.nii.gz"))
    return region_fractions(labels.astype(np.uint8), label_grid, grid)


def _curve_row(region: str, fit: CurveFit, n_timepoints: int, flags: list[str]) -> Row:
    return {
        "region": region,
        "model": fit.model,
        "parameter_names": list(fit.parameter_names),
        "parameters": list(fit.parameters),
        "covariance": fit.covariance.ravel().tolist(),
        "n_timepoints": n_timepoints,
        "chi2": _number(fit.chi2),
        "dof": fit.dof,
        "aicc": fit.aicc,
        "aicc_weight": None,
        "chosen": True,
        "status": fit.status,
        "rate_at_bound": fit.rate_at_bound,
        # One scan measures no half-life: what its method assumes is in the parameters.
        "effective_half_life_h": None if n_timepoints == 1 else _number(fit.effective_half_life_h),
        "uptake_half_life_h": fit.uptake_half_life_h,
        "tia_mbq_h": _number(fit.tia_mbq_h),
        "u_tia_mbq_h": _number(fit.u_tia_mbq_h),
        "tia_low_mbq_h": _number(fit.tia_interval_mbq_h[0]),
        "tia_high_mbq_h": _number(fit.tia_interval_mbq_h[1]),
        "extrapolated_fraction": _number(fit.extrapolated_fraction),
        "flags": flags,
    }


def _number(value: float) -> float | None:
    """Undefined is null in a table, never NaN."""
    return None if np.isnan(value) else float(value)
