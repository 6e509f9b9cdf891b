"""Stage ``kinetics``: activities, curves and the voxel map of time-integrated activity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import chdtrc

from doseledger import __version__
from doseledger.activity.region_recovery import RegionRecovery
from doseledger.cohort import Row
from doseledger.dose.marrow import BLOOD
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, read_sidecar, write_image, write_sidecar
from doseledger.io.tables import read_rows, write_rows
from doseledger.kinetics import (
    CurveFit,
    ModelComparison,
    UptakePrior,
    compare_models,
    fit_excretion,
    fit_voxels,
)
from doseledger.kinetics.curves import SMALLEST_SHARE
from doseledger.kinetics.fit import AUTO, EXCRETION, FEW_SCANS, UPTAKE_SEEN_HALF_LIVES
from doseledger.kinetics.own_cycle import EarlierCurve
from doseledger.nuclides import nuclide
from doseledger.regions import (
    REMAINDER,
    WHOLE_FIELD,
    RegionSpec,
    hard_labels,
    move_fractions,
    region_fractions,
    sums_of,
)
from doseledger.steps.blood import blood_curve, blood_flags, blood_sample_rows, facts_sidecar
from doseledger.steps.few_scans import (
    donor_curves,
    one_scan,
    one_scan_flags,
    prior_sha256,
    sheet_row,
    two_scans,
    two_scans_flags,
)
from doseledger.steps.layout import (
    ALIGNED_SPECT,
    ALIGNMENT,
    BLOOD_SAMPLES,
    FAILED,
    PRIORS,
    RECOVERY,
    TIA_MAP,
    scan_file,
)
from doseledger.steps.recovery import Correction, activity_columns, correction_of, scan_recoveries, sidecar
from doseledger.steps.specs import demo_marks, read_specs
from doseledger.steps.stage import Job
from doseledger.units import BQ_PER_MBQ

STAGE_VERSION: Final[int] = 4
#: A refused donor has no curves: the cycle falls back, and says so.
TAKES_REFUSED: Final = ("donors",)

#: Share of the TIA after the last scan: flagged above the first, graded low above the second.
EXTRAPOLATION_FLAG: Final = 0.20
EXTRAPOLATION_LOW: Final = 0.50
#: A chi-square that chance would exceed less often than this: the curve is not that of the scans, or their
#: uncertainty is more than was stated.
POOR_FIT: Final = 0.01
#: The form of curve in the voxels of a region, by its curve model; a trapezoid has none of its own.
VOXEL_MODELS: Final = {"mono_uptake": "mono_uptake", "bi": "bi", "bi_uptake": "bi_uptake"}
#: What is excreted, and not taken up: most of it has left in a day, in a phase of its own.
EXCRETED: Final = (WHOLE_FIELD, REMAINDER)
#: The voxel fits of a region must sum to its curve within this factor, or the alignment is doubtful.
VOXEL_SCALE_RANGE: Final = (0.8, 1.25)


def step(job: Job) -> None:
    """Measure each region with the outline of its own time point, fit, and integrate."""
    half_life_h = nuclide(job.rows["nuclide"]).half_life_h
    specs = read_specs(job.one("segment"))
    times = {r["time_point"]: float(r["time_h"]) for r in read_rows(job.one("ingest"), "acquisition")}
    alignment = read_sidecar(job.one("align") / ALIGNMENT)
    sources = _curve_sources(job, alignment)
    activities, recoveries = _activities(job, specs, alignment, sources)
    relative_u = job.settings["relative_random_uncertainty"]
    donors = donor_curves(job)
    # A sum of regions has no curve of its own: its TIA is the sum of its parts.
    compared = {
        region: _fit(job, region, values, times, half_life_h, donors)
        for region, values in activities.items()
        if region not in sums_of(specs) and any(a > 0 for a in values.values())
    }
    fits = {region: models.chosen for region, models in compared.items()}
    flags = {region: _curve_flags(job, region, fit, activities[region], times) for region, fit in fits.items()}
    marks = demo_marks(job.one("segment"))
    voxel_flags = _write_tia_map(job, specs, fits, times, half_life_h, alignment)
    for found in (voxel_flags, *(entry["region_flags"] for entry in alignment["time_points"])):
        for region, extra in found.items():
            if region in flags:
                flags[region] = [*flags[region], *(flag for flag in extra if flag not in flags[region])]
    flags = {region: [*own, *marks] for region, own in flags.items()}
    common = {**job.key, "data_origin": job.rows["data_origin"], "software_version": __version__}
    columns = {
        point: activity_columns({r: v[point] for r, v in activities.items() if point in v}, found, sums_of(specs))
        for point, found in recoveries.items()
    }
    write_sidecar(job.out / RECOVERY, sidecar(_corrections(fits, activities, recoveries, times)))
    samples = job.rows["blood_samples"]
    blood = _blood_curves(job, samples, half_life_h) if samples else []
    write_rows(job.out, "blood_sample", [common | row for row in blood_sample_rows(samples)])
    write_sidecar(job.out / PRIORS, _priors(job, fits))
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
                "curve_source": sources[point],
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
        [
            common
            | _curve_row(region, fit, models, len(activities[region]), flags[region])
            | {"prior_sha256": prior_sha256(job, fit)}
            for region, models in compared.items()
            for fit in models.fits.values()
        ]
        + [common | row for row in blood],
    )


def _blood_curves(job: Job, samples: list[Row], half_life_h: float) -> list[Row]:
    """Rows of ``curve`` of 1 mL of blood; what else the stage ``dose`` must know goes into a sidecar."""
    write_sidecar(job.out / BLOOD_SAMPLES, facts_sidecar(samples))
    model = sheet_row(job, BLOOD).get("model")
    models = blood_curve(samples, half_life_h, model)
    chosen = models.chosen
    flags = [*_status_flags(chosen), *blood_flags(chosen, samples, model), *_quality_flags(chosen)]
    return [_curve_row(BLOOD, fit, models, len(samples), flags) for fit in models.fits.values()]


def _curve_sources(job: Job, alignment: Row) -> dict[int, str]:
    """By time point, whose outlines measure its activity: where alignment failed, only its own ones can."""
    return {
        entry["time_point"]: "own_mask" if entry["registered"] == FAILED else job.settings["curve_source"]
        for entry in alignment["time_points"]
    }


def _activities(
    job: Job, specs: list[RegionSpec], alignment: Row, sources: dict[int, str]
) -> tuple[dict[str, dict[int, float]], dict[int, dict[str, RegionRecovery]]]:
    """Activity in MBq by region and time point, and the recovery by time point and region.

    The outline is shared out among partial voxels.
    """
    found: dict[str, dict[int, float]] = {}
    recoveries: dict[int, dict[str, RegionRecovery]] = {}
    for entry in sorted(alignment["time_points"], key=lambda e: e["time_point"]):
        point = entry["time_point"]
        if sources[point] == "reference_mask":
            spect, grid = read_image(job.one("align") / scan_file(job.key, point, ALIGNED_SPECT))
            outlined = alignment["reference_time_point"]
            fractions = reference_fractions(job.one("segment"), job.key, outlined, grid)
        else:
            outlined = point
            spect, grid = read_image(job.one("ingest") / scan_file(job.key, point, "spect.nii.gz"))
            fractions = reference_fractions(job.one("segment"), job.key, point, grid)
            if job.settings["follow_spect_shift"]:
                shifts = entry["spect_shift_mm"]
                moves = {spec.label: shifts[spec.region] for spec in specs if spec.region in shifts}
                fractions = move_fractions(fractions, grid, moves)
        to_mbq = grid.voxel_volume_ml / BQ_PER_MBQ
        recoveries[point] = scan_recoveries(job, point, outlined, specs, fractions, spect, grid)
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
    job: Job,
    region: str,
    activities: dict[int, float],
    times: dict[int, float],
    half_life_h: float,
    donors: Mapping[str, EarlierCurve],
) -> ModelComparison:
    """Every model of the region's activities; the chosen one always has a curve."""
    relative_u = job.settings["relative_random_uncertainty"]
    at = np.asarray([times[p] for p in activities])
    values = np.asarray(list(activities.values()))
    if at.size == 1:
        fit = one_scan(job, region, float(at[0]), float(values[0]), half_life_h, donors)
        return ModelComparison({fit.model: fit}, fit, {})
    u_mbq = relative_u * np.maximum(values, SMALLEST_SHARE * values.max())
    prior = _uptake_prior(job, region)

    def compare(model: str) -> ModelComparison:
        return compare_models(at, values, half_life_h=half_life_h, u_activity_mbq=u_mbq, model=model, prior=prior)

    named = compare(_named_model(job, region))
    if _named_model(job, region) == AUTO and _shows_excretion(region, at):
        fit = fit_excretion(at, values, half_life_h=half_life_h, u_activity_mbq=u_mbq)
        if fit.has_curve:
            return ModelComparison(named.fits | {fit.model: fit}, fit, named.weights)
    found = named if named.chosen.has_curve else compare(AUTO)
    informed = two_scans(job, region, at, values, u_mbq, half_life_h)
    # The same model with the prior is another curve: it takes the place of the one without.
    return found if informed is None else replace(found, fits=found.fits | {informed.model: informed}, chosen=informed)


def _shows_excretion(region: str, times_h: NDArray[np.float64]) -> bool:
    """Whether scans see a phase of excretion that they are too few to tell by AICc."""
    first_h = float(times_h.min())
    few = 2 < times_h.size <= FEW_SCANS
    return region in EXCRETED and few and 0.0 < first_h <= UPTAKE_SEEN_HALF_LIVES * EXCRETION.half_life_h


def _uptake_prior(job: Job, region: str) -> UptakePrior:
    own = sheet_row(job, region)
    if own.get("uptake_half_life_h") is None:
        return UptakePrior()
    return UptakePrior("curve_models.tsv", own["uptake_half_life_h"], own["uptake_ln_sd"])


def _priors(job: Job, fits: dict[str, CurveFit]) -> Row:
    """By region, half-life and spread of the prior of one phase that took part in its curve."""
    of_one_phase = {region: (EXCRETION, _uptake_prior(job, region)) for region in fits}
    return {
        region: asdict(prior)
        for region, fit in fits.items()
        for prior in of_one_phase[region]
        if fit.prior == prior.name
    }


def _named_model(job: Job, region: str) -> str:
    return str(sheet_row(job, region).get("model") or job.settings["model"])


def _curve_flags(
    job: Job, region: str, fit: CurveFit, activities: dict[int, float], times: dict[int, float]
) -> list[str]:
    flags = _status_flags(fit)
    if len(activities) == 1:
        flags = [*flags, *one_scan_flags(job, region, fit)]
    elif informed := two_scans_flags(job, region, fit, len(activities)):
        flags = [*flags, *informed]
    elif _named_model(job, region) not in (AUTO, fit.model):
        flags = [*flags, "too_few_scans_for_model"]
    if len(activities) < len(times):
        flags = [*flags, "missing_at_time_point"]
    return [*flags, *_quality_flags(fit)]


def _status_flags(fit: CurveFit) -> list[str]:
    return {
        "saturated": ["no_degrees_of_freedom"],
        "at_bound": ["rate_at_bound"],
        "not_converged": ["not_converged"],
    }.get(fit.status, [])


def _quality_flags(fit: CurveFit) -> list[str]:
    """What the points say of the curve, and how far it goes beyond them."""
    flags = ["poor_fit"] if fit.dof > 0 and chdtrc(fit.dof, fit.chi2) < POOR_FIT else []
    if fit.extrapolated_fraction > EXTRAPOLATION_LOW:
        return [*flags, "extrapolated", "low"]
    return [*flags, "extrapolated"] if fit.extrapolated_fraction > EXTRAPOLATION_FLAG else flags


def _write_tia_map(
    job: Job,
    specs: list[RegionSpec],
    fits: dict[str, CurveFit],
    times: dict[int, float],
    half_life_h: float,
    alignment: Row,
) -> dict[str, list[str]]:
    """Voxel fits on the reference grid, scaled so that each region's voxels sum to its own TIA.

    The voxels give the shape, the region's curve the total: noise and misalignment of single voxels
    do not bias the dose of the region. A time point whose alignment failed has no part in the shape.
    """
    reference = alignment["reference_time_point"]
    points = sorted(e["time_point"] for e in alignment["time_points"] if e["registered"] != FAILED)
    images, grid = [], None
    for point in points:
        image, grid = read_image(job.one("align") / scan_file(job.key, point, ALIGNED_SPECT))
        images.append(image)
    assert grid is not None
    labels = hard_labels(reference_fractions(job.one("segment"), job.key, reference, grid), grid.shape)
    stack = np.maximum(np.stack(images), 0.0)
    tia = np.zeros(grid.shape, np.float64)
    flags: dict[str, list[str]] = {}
    for label, region in [(0, REMAINDER), *((s.label, s.region) for s in specs)]:
        if region not in fits:
            continue
        voxels = labels == label
        shape = _voxel_tia(stack[:, voxels], [times[p] for p in points], fits[region], half_life_h, job.threads)
        total = float(shape.sum(dtype=np.float64)) * grid.voxel_volume_ml / BQ_PER_MBQ
        if total <= 0:
            continue
        scale = fits[region].tia_mbq_h / total
        tia[voxels] = shape * scale
        low, high = VOXEL_SCALE_RANGE
        if label > 0 and len(points) > 1 and not low <= scale <= high:
            flags[region] = ["voxels_disagree_with_curve"]
    write_image(job.out / TIA_MAP, tia.astype(np.float32), grid, dtype="float32")
    return flags


def _voxel_tia(
    activity: NDArray[np.float32], times_h: list[float], fit: CurveFit, half_life_h: float, threads: int
) -> NDArray[np.float32]:
    """TIA of voxels ``(t, n)`` by the model of their region, with the uptake of the region; of one scan itself."""
    if len(times_h) == 1:
        return np.asarray(activity[0])
    found = fit_voxels(
        activity[:, None, None, :],
        times_h,
        half_life_h=half_life_h,
        # A prior tells two phases of the region; its voxels have none.
        model="mono" if fit.prior == EXCRETION.name else VOXEL_MODELS.get(fit.model, "mono"),
        uptake_half_life_h=fit.uptake_half_life_h,
        threads=threads,
    )
    return np.asarray(found.tia[0, 0])


def reference_fractions(segment: Path, key: Row, point: int, grid: Grid) -> dict[int, NDArray[np.float32]]:
    """Share of each SPECT voxel in each region as outlined at a time point, by label."""
    labels, label_grid = read_image(segment / scan_file(key, point, "dseg.nii.gz"))
    return region_fractions(labels.astype(np.uint8), label_grid, grid)


def _curve_row(region: str, fit: CurveFit, models: ModelComparison, n_timepoints: int, flags: list[str]) -> Row:
    chosen = fit.model == models.chosen.model
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
        "aicc_weight": models.weights.get(fit.model),
        "chosen": chosen,
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
        "prior": fit.prior,
        # Flags speak of the curve that the dose rests on.
        "flags": flags if chosen else [],
    }


def _number(value: float) -> float | None:
    """Undefined is null in a table, never NaN."""
    return None if np.isnan(value) else float(value)
