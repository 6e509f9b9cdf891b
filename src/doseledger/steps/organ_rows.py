"""Rows of ``organ_dose``: what an engine says of each region, its parts, and their sums."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from math import exp, hypot, inf, log
from statistics import median, pstdev
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doseledger.cohort import Row, administered_mbq
from doseledger.dose import REGISTRY, DoseMap
from doseledger.geometry import Grid
from doseledger.io.nifti import read_sidecar
from doseledger.io.tables import read_rows
from doseledger.kinetics import exponentials
from doseledger.kinetics.curves import LARGEST_EXPONENT, Z95
from doseledger.nuclides import Nuclide
from doseledger.regions import RegionSpec, dose_flags, pair_flags, sums_of
from doseledger.statistics.radiobiology import bed_gy, eqd2_gy, g_factor
from doseledger.statistics.region import RegionDose, region_dose
from doseledger.statistics.uncertainty import DoseUncertainty, combine_parts, dose_uncertainty
from doseledger.steps.layout import ALIGNMENT
from doseledger.steps.recovery import (
    AS_MEASURED,
    NONE,
    Correction,
    blur_flags,
    recovery_columns,
    uncertainty_terms,
    with_energy,
)
from doseledger.steps.specs import read_specs
from doseledger.steps.stage import Job
from doseledger.units import MBQ_PER_GBQ


@dataclass(frozen=True)
class Outline:
    """A region over the time points of the cycle: median volume and mass, and their spread."""

    volume_ml: float
    u_volume_rel: float
    mass_g: float
    mass_source: str
    region_source: str
    weights_sha256: str | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class Link:
    """One part of a dose in the chain of its uncertainty.

    Attributes
    ----------
    energy_share
        Of the part in the sum; 1 for a region of its own.
    terms
        What `dose_uncertainty` was told, without the fit.
    noise_gain
        Random uncertainty of the corrected activity over that of the measured one.
    """

    region: str
    energy_share: float
    terms: dict[str, float]
    noise_gain: float


@dataclass(frozen=True, eq=False)
class Result:
    """What one engine says of one region."""

    dose: RegionDose
    uncertainty: DoseUncertainty
    #: The same towards lower and higher doses, with the ends of the curve's own interval: a rate at its bound can only
    #: be faster, and Haenscheid's estimate is rarely high.
    towards_low: DoseUncertainty
    towards_high: DoseUncertainty
    high_let_gy: float | None
    #: Statistical, of the mean dose; None for an engine without statistics.
    mc_sd_rel: float | None
    chain: tuple[Link, ...]


def camera_of(job: Job) -> Row:
    """The camera of the cycle's first scan; scans of one cycle share their calibration."""
    name = job.rows["scans"][0]["camera"]
    return next(c for c in job.rows["cameras"] if c["camera"] == name)


def region_rows(
    job: Job,
    dose: DoseMap,
    density: NDArray[np.float32],
    grid: Grid,
    labels: NDArray[np.uint8],
    recovery: dict[int, float],
    source: Nuclide,
    corrections: Mapping[str, Correction],
) -> Iterator[tuple[Row, Result]]:
    """Rows of regions and sums for one dose map, each with the dose that it was made of.

    Parameters
    ----------
    labels
        One label per voxel of the map.
    recovery
        By label, the share of its activity that a region keeps in the blurred image.
    corrections
        Empty: the doses as measured, of all regions. Otherwise the corrected doses of these regions, and of sums in
        which they are.
    """
    specs = read_specs(job.one("segment"))
    curves = {r["region"]: r for r in read_rows(job.one("kinetics"), "curve") if r["chosen"]}
    outlines = _outlines(job)
    camera = camera_of(job)
    misaligned = {flag for e in read_sidecar(job.one("align") / ALIGNMENT)["time_points"] for flag in e["flags"]}
    local_kev = source.in_place.local_kev
    results: dict[str, Result] = {}
    rows: dict[str, Row] = {}
    for spec in specs:
        voxels = labels == spec.label
        if spec.region not in curves or spec.region not in outlines or not voxels.any():
            # Outlined at another time point only, or without activity: region_activity has the facts.
            continue
        curve, outline = curves[spec.region], outlines[spec.region]
        mc_sd_rel = dose.region_relative_sd([spec.label])
        correction = corrections.get(spec.region, AS_MEASURED)
        terms = {
            "volume_ml": outline.volume_ml,
            "u_volume_rel": outline.u_volume_rel,
            "spect_fwhm_mm": camera["fwhm_mm"],
            "u_calibration_rel": camera["u_calibration_rel"],
            "u_dose_factor_rel": hypot(REGISTRY[dose.engine].u_dose_factor_rel, mc_sd_rel or 0.0),
            **uncertainty_terms(correction, loss=1.0 - recovery[spec.label]),
        }
        uncertainty = partial(dose_uncertainty, **terms, fit_is_shared=curve["n_timepoints"] == 1)
        u_fit, u_fit_low, u_fit_high = (correction.noise_gain * u for u in fit_spread(curve))
        measured = region_dose(dose.dose_gy, density, grid.voxel_volume_ml, voxels, outline.mass_g)
        high_let = _high_let_gy(dose, density, grid, voxels, outline)
        result = Result(
            dose=with_energy(measured, correction.missing_energy_j(curve["tia_mbq_h"], local_kev)),
            uncertainty=uncertainty(u_fit_rel=u_fit),
            towards_low=uncertainty(u_fit_rel=u_fit_low),
            towards_high=uncertainty(u_fit_rel=u_fit_high),
            high_let_gy=None if high_let is None else high_let / correction.coefficient,
            mc_sd_rel=mc_sd_rel,
            chain=(Link(spec.region, 1.0, terms, correction.noise_gain),),
        )
        tia = curve["tia_mbq_h"] / correction.coefficient
        results[spec.region] = result
        row = _dose_columns(job, spec.region, dose, outline, result, tia, misaligned)
        row |= _part_columns(spec, curve, result, source) | recovery_columns([correction], curve["tia_mbq_h"], tia)
        row["flags"] = sorted({*row["flags"], *curve["flags"], *blur_flags(row["partial_volume_method"])})
        rows[spec.region] = row
    for name, parts in sums_of(specs).items():
        present = [p for p in parts if p.region in results]
        if name in outlines and present:
            own = [corrections.get(p.region, AS_MEASURED) for p in present]
            measured_mbq_h = [curves[p.region]["tia_mbq_h"] for p in present]
            missing = sum(c.missing_energy_j(t, local_kev) for c, t in zip(own, measured_mbq_h, strict=True))
            result = _sum(dose, density, grid, labels, present, results, outlines[name].mass_g, missing)
            tia = sum(rows[p.region]["tia_mbq_h"] for p in present)
            row = _dose_columns(job, name, dose, outlines[name], result, tia, misaligned)
            row |= _sum_columns(name, present, [rows[p.region] for p in present], curves, result, source)
            row |= recovery_columns(own, sum(measured_mbq_h), tia)
            row["flags"] = sorted({*row["flags"], *(f for p in present for f in rows[p.region]["flags"])})
            results[name], rows[name] = result, row
    _flag_pair(rows)
    for region, row in rows.items():
        if not corrections or row["partial_volume_method"] != NONE:
            yield row, results[region]


def fit_spread(curve: Row) -> tuple[float, float, float]:
    """Relative standard uncertainty of a TIA, and that which gives the ends of its own 95 % interval.

    An end at zero, or without limit, counts as `LARGEST_EXPONENT`.

    Examples
    --------
    A rate at its bound can only be faster, and one that nothing tells may be anything:

    >>> curve = {"tia_mbq_h": 100.0, "u_tia_mbq_h": 5.0, "tia_low_mbq_h": 60.0, "tia_high_mbq_h": 110.3}
    >>> [round(u, 3) for u in fit_spread(curve)]
    [0.05, 0.261, 0.05]
    >>> [round(u, 1) for u in fit_spread(curve | {"tia_low_mbq_h": 0.0, "tia_high_mbq_h": inf})]
    [0.1, 357.1, 357.1]

    Haenscheid's estimate may be low by much and high by little:

    >>> curve = {"tia_mbq_h": 100.0, "u_tia_mbq_h": 47.0, "tia_low_mbq_h": 90.0, "tia_high_mbq_h": 350.0}
    >>> [round(u, 3) for u in fit_spread(curve)]
    [0.47, 0.054, 0.639]
    """
    tia, low, high = curve["tia_mbq_h"], curve["tia_low_mbq_h"], curve["tia_high_mbq_h"]
    u_rel = curve["u_tia_mbq_h"] / tia
    down = min(log(tia / low), LARGEST_EXPONENT) if low > 0.0 else LARGEST_EXPONENT
    up = min(log(high / tia), LARGEST_EXPONENT)
    return u_rel, max(down, 0.0) / Z95, max(up, 0.0) / Z95


def interval_factors(total_rel: float) -> tuple[float, float]:
    """Ends of a log-symmetric 95 % interval as factors; 0 and infinity where the uncertainty leaves no number.

    Examples
    --------
    >>> [round(factor, 3) for factor in interval_factors(0.1)], interval_factors(400.0)
    ([0.822, 1.217], (0.0, inf))
    """
    exponent = Z95 * total_rel
    return (exp(-exponent), exp(exponent)) if exponent < LARGEST_EXPONENT else (0.0, inf)


def _outlines(job: Job) -> dict[str, Outline]:
    """Median over the time points; the spread of the volumes counts if it is the larger one."""
    groups: dict[str, list[Row]] = {}
    for row in read_rows(job.one("segment"), "region"):
        if row["mass_g"] is not None:
            groups.setdefault(row["region"], []).append(row)
    outlines = {}
    for region, rows in groups.items():
        volume = float(median(r["volume_ml"] for r in rows))
        spread = pstdev([r["volume_ml"] for r in rows]) / volume
        outlines[region] = Outline(
            volume_ml=volume,
            u_volume_rel=max(float(median(r["u_volume_rel"] for r in rows)), spread),
            mass_g=float(median(r["mass_g"] for r in rows)),
            mass_source=rows[0]["mass_source"],
            region_source=rows[0]["region_source"],
            weights_sha256=rows[0]["weights_sha256"],
            flags=tuple(sorted({f for r in rows for f in r["flags"]})),
        )
    return outlines


def _high_let_gy(
    dose: DoseMap, density: NDArray[np.float32], grid: Grid, voxels: NDArray[np.bool_], outline: Outline
) -> float | None:
    if dose.dose_high_let_gy is None:
        return None
    return region_dose(dose.dose_high_let_gy, density, grid.voxel_volume_ml, voxels, outline.mass_g).mean_dose_gy


def _sum(
    dose: DoseMap,
    density: NDArray[np.float32],
    grid: Grid,
    labels: NDArray[np.uint8],
    parts: list[RegionSpec],
    results: dict[str, Result],
    mass_g: float,
    missing_energy_j: float,
) -> Result:
    """Join the voxels and add the masses: nothing is averaged."""
    voxels = np.isin(labels, [p.label for p in parts])
    own = [results[p.region] for p in parts]
    high_let = [r.high_let_gy for r in own]
    shares = [r.dose.mass_g / sum(r.dose.mass_g for r in own) for r in own]
    energies = [r.dose.energy_j for r in own]
    weights = [e / sum(energies) for e in energies] if sum(energies) > 0 else shares
    return Result(
        dose=with_energy(region_dose(dose.dose_gy, density, grid.voxel_volume_ml, voxels, mass_g), missing_energy_j),
        uncertainty=combine_parts(energies, [r.uncertainty for r in own], shares),
        towards_low=combine_parts(energies, [r.towards_low for r in own], shares),
        towards_high=combine_parts(energies, [r.towards_high for r in own], shares),
        high_let_gy=None
        if None in high_let
        else sum(s * h for s, h in zip(shares, high_let, strict=True) if h is not None),
        mc_sd_rel=dose.region_relative_sd([p.label for p in parts]),
        chain=tuple(replace(link, energy_share=w) for w, r in zip(weights, own, strict=True) for link in r.chain),
    )


def _dose_columns(
    job: Job, region: str, dose: DoseMap, outline: Outline, result: Result, tia_mbq_h: float, misaligned: set[str]
) -> Row:
    """Columns that parts and sums fill alike."""
    administration = job.rows["administration"]
    administered = administered_mbq(administration)
    gy, u = result.dose.mean_dose_gy, result.uncertainty
    per_gbq = gy / (administered / MBQ_PER_GBQ)
    flags = {*REGISTRY[dose.engine].flags, *outline.flags, *misaligned}
    histogram = result.dose.histogram
    return {
        "region": region,
        "region_source": outline.region_source,
        "weights_sha256": outline.weights_sha256,
        "volume_ml": outline.volume_ml,
        "mass_g": outline.mass_g,
        "mass_source": outline.mass_source,
        "tia_mbq_h": tia_mbq_h,
        "tiac_h": tia_mbq_h / administered,
        "dose_engine": dose.engine,
        "absorbed_dose_gy": gy,
        "dose_low_gy": gy * interval_factors(result.towards_low.total_rel)[0],
        "dose_high_gy": gy * interval_factors(result.towards_high.total_rel)[1],
        "u_absorbed_dose_rel": u.total_rel,
        "u_calibration_rel": u.calibration_rel,
        "u_recovery_rel": u.recovery_rel,
        "u_volume_rel": u.volume_rel,
        "u_fit_rel": u.fit_rel,
        "u_dose_factor_rel": u.dose_factor_rel,
        "u_systematic_rel": u.systematic_rel,
        "mc_sd_rel": result.mc_sd_rel,
        "energy_balance_rel": dose.energy_balance.absorbed_fraction,
        "dose_high_let_gy": result.high_let_gy,
        "dose_gy_per_gbq": per_gbq,
        "d2_gy": histogram.d2_gy,
        "d50_gy": histogram.d50_gy,
        "d90_gy": histogram.d90_gy,
        "d98_gy": histogram.d98_gy,
        "flags": sorted({*flags, *dose_flags(administration["radiopharmaceutical"], region, per_gbq)}),
    }


def _part_columns(spec: RegionSpec, curve: Row, result: Result, source: Nuclide) -> Row:
    columns = {
        "region_level": "part",
        "sct_code": spec.sct_code,
        "laterality": spec.laterality,
        "lesion_id": spec.region if spec.kind == "lesion" else None,
        "curve_model": curve["model"],
    }
    columns |= {
        k: curve[k] for k in ("effective_half_life_h", "uptake_half_life_h", "rate_at_bound", "extrapolated_fraction")
    }
    columns["prior_sha256"] = curve["prior_sha256"]
    return columns | _effect(spec, result, [curve], source)


def _sum_columns(
    name: str, parts: list[RegionSpec], rows: list[Row], curves: dict[str, Row], result: Result, source: Nuclide
) -> Row:
    """The curve of a sum is the sum of curves: no half-life, but a G factor of all exponentials."""
    tia = [row["tia_mbq_h"] for row in rows]
    models = {row["curve_model"] for row in rows}
    return {
        "region_level": "sum",
        # Left and right kidney are both "kidney" with a side; other parts have codes of their own.
        "sct_code": parts[0].sct_code if len({p.sct_code for p in parts}) == 1 else None,
        "curve_model": models.pop() if len(models) == 1 else "mixed",
        # One file serves the cycle, or none.
        "prior_sha256": next((row["prior_sha256"] for row in rows if row["prior_sha256"]), None),
        "rate_at_bound": any(row["rate_at_bound"] for row in rows),
        "extrapolated_fraction": sum(row["extrapolated_fraction"] * t for row, t in zip(rows, tia, strict=True))
        / sum(tia),
    } | (_effect(parts[0], result, [curves[p.region] for p in parts], source) if _alike(parts) else {})


def _alike(parts: list[RegionSpec]) -> bool:
    """Whether one alpha/beta and one repair half-time hold for all: a whole body has none."""
    return len({(part.alpha_beta_gy, part.repair_half_time_h) for part in parts}) == 1


def _effect(spec: RegionSpec, result: Result, curves: list[Row], source: Nuclide) -> Row:
    """BED and EQD2 of the sum of curves.

    Null without alpha/beta, for alpha emitters, whose effect differs, and for trapezoids, which say
    nothing of the dose rate before the first scan.
    """
    alpha_beta, repair = spec.alpha_beta_gy, spec.repair_half_time_h
    if alpha_beta is None or repair is None or source.in_place.alpha_kev > 0:
        return {}
    terms = [exponentials(curve["parameter_names"], curve["parameters"]) for curve in curves]
    if not all(rates for _, rates in terms):
        return {}
    dose = result.dose.mean_dose_gy
    curve: dict[str, Any] = {
        "repair_half_time_h": repair,
        "amplitudes": [a for amplitudes, _ in terms for a in amplitudes],
        "rates_per_h": [rate for _, rates in terms for rate in rates],
    }
    return {
        "alpha_beta_gy": alpha_beta,
        "repair_half_time_h": repair,
        "g_factor": g_factor(**curve),
        "bed_gy": bed_gy(dose, alpha_beta_gy=alpha_beta, **curve),
        "eqd2_gy": eqd2_gy(dose, alpha_beta_gy=alpha_beta, **curve),
    }


def _flag_pair(rows: dict[str, Row]) -> None:
    if {"kidney_left", "kidney_right"} <= rows.keys():
        left, right = rows["kidney_left"], rows["kidney_right"]
        for flag in pair_flags(left["absorbed_dose_gy"], right["absorbed_dose_gy"], "kidney_doses_differ"):
            left["flags"].append(flag)
            right["flags"].append(flag)
