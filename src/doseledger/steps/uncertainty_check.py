"""The uncertainty of primary doses by drawing, beside the stated one: `dose.uncertainty_check: monte_carlo`.

It moves no number of the tables. What it finds lies in a sidecar of the stage ``dose``, and rows that it does not
confirm are flagged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.cohort import Row
from doseledger.io.nifti import read_sidecar, write_sidecar
from doseledger.io.tables import read_rows
from doseledger.kinetics import UptakePrior, fit_curve
from doseledger.kinetics.curves import SMALLEST_SHARE
from doseledger.nuclides import nuclide
from doseledger.statistics.sampling import (
    SAMPLES,
    SharedDraws,
    disagrees,
    dose_factors,
    shared_draws,
    stream,
    summary,
)
from doseledger.steps.layout import PRIORS, UNCERTAINTY
from doseledger.steps.organ_rows import Link, Result
from doseledger.steps.stage import Job, read_outcome

_Floats = NDArray[np.float64]

MONTE_CARLO: Final = "monte_carlo"
FLAG: Final = "uncertainty_disagrees"
#: An activity that was drawn below this share of what was measured counts as this.
_LEAST_DRAWN: Final = 0.01


@dataclass(frozen=True)
class MeasuredCurve:
    """What the curve of a region was fitted to."""

    times_h: tuple[float, ...]
    activity_mbq: tuple[float, ...]
    u_rel: float
    half_life_h: float
    model: str
    tia_mbq_h: float
    u_tia_mbq_h: float
    prior: UptakePrior | None
    #: One scan, or a prior that gives the whole curve: drawn activities are not fitted again.
    by_method: bool


def check_uncertainties(job: Job, seed: int, primary: Sequence[tuple[Row, Result]]) -> None:
    """Draw the dose of each primary row, write what comes out, and flag rows that it does not confirm."""
    curves = measured_curves(job)
    shared = shared_draws(seed)
    factors: dict[str, _Floats] = {}
    entries = []
    for row, result in primary:
        total = np.zeros(SAMPLES)
        for link in result.chain:
            if link.region not in factors:
                factors[link.region] = _factors(link, curves[link.region], seed, shared)
            total += link.energy_share * factors[link.region]
        found = summary(total)
        if disagrees(found, row["u_absorbed_dose_rel"]):
            row["flags"] = sorted({*row["flags"], FLAG})
        dose_gy = row["absorbed_dose_gy"]
        entries.append(
            {
                "region": row["region"],
                "u_absorbed_dose_rel": row["u_absorbed_dose_rel"],
                "samples": found.count,
                "sd_ln_dose": found.sd_ln,
                "dose_low_gy": row["dose_low_gy"],
                "dose_high_gy": row["dose_high_gy"],
                "sampled_low_gy": dose_gy * found.low,
                "sampled_high_gy": dose_gy * found.high,
            }
        )
    write_sidecar(job.out / UNCERTAINTY, {"rows": entries})


def measured_curves(job: Job) -> dict[str, MeasuredCurve]:
    """By region, the activities, model and prior of the curve that its dose rests on."""
    kinetics = job.one("kinetics")
    activities: dict[str, list[Row]] = {}
    for row in read_rows(kinetics, "region_activity"):
        activities.setdefault(row["region"], []).append(row)
    priors = read_sidecar(kinetics / PRIORS)
    u_rel = float(read_outcome(kinetics)["settings"]["relative_random_uncertainty"])
    half_life_h = nuclide(job.rows["administration"]["nuclide"]).half_life_h
    found = {}
    for curve in read_rows(kinetics, "curve"):
        if not curve["chosen"]:
            continue
        seen = sorted(activities[curve["region"]], key=lambda row: float(row["time_h"]))
        prior = priors.get(curve["region"])
        found[curve["region"]] = MeasuredCurve(
            times_h=tuple(row["time_h"] for row in seen),
            activity_mbq=tuple(row["activity_mbq"] for row in seen),
            u_rel=u_rel,
            half_life_h=half_life_h,
            model=curve["model"],
            tia_mbq_h=curve["tia_mbq_h"],
            u_tia_mbq_h=curve["u_tia_mbq_h"],
            prior=None if prior is None else UptakePrior(**prior),
            by_method=len(seen) == 1 or curve["prior_sha256"] is not None,
        )
    return found


def tia_factors(curve: MeasuredCurve, noise_gain: float, rng: np.random.Generator, shared: SharedDraws) -> _Floats:
    """TIA_s/TIA of curves through drawn activities, ``(n,)``, each fitted like the measured one.

    A prior is one more datum and is drawn like one: its median moves by its own standard deviation. One scan has no
    fit, and a curve with the prior of a population has more than a fit: the stated uncertainty of its TIA is drawn.
    What is assumed of the half-life of one scan is assumed of all regions.
    """
    count = shared.assumed_half_life.size
    if curve.by_method:
        u_tia_rel = noise_gain * curve.u_tia_mbq_h / curve.tia_mbq_h
        one_scan = len(curve.times_h) == 1
        return np.asarray(np.exp(u_tia_rel * (shared.assumed_half_life if one_scan else rng.standard_normal(count))))
    activity = np.asarray(curve.activity_mbq)
    u = curve.u_rel * np.maximum(activity, SMALLEST_SHARE * activity.max())
    drawn = activity + noise_gain * u * rng.standard_normal((count, activity.size))
    drawn = np.maximum(drawn, _LEAST_DRAWN * activity)
    shifts = rng.standard_normal(count)
    found = np.empty(count)
    for k in range(count):
        prior = curve.prior
        if prior is not None:
            prior = UptakePrior(prior.name, prior.half_life_h * float(np.exp(prior.ln_sd * shifts[k])), prior.ln_sd)
        fit = fit_curve(
            curve.times_h,
            drawn[k],
            half_life_h=curve.half_life_h,
            u_activity_mbq=u,
            model=curve.model,
            prior=prior,
        )
        found[k] = fit.tia_mbq_h / curve.tia_mbq_h
    return found


def _factors(link: Link, curve: MeasuredCurve, seed: int, shared: SharedDraws) -> _Floats:
    rng = stream(seed, link.region)
    ln_volume = rng.standard_normal(SAMPLES)
    return dose_factors(tia_factors(curve, link.noise_gain, rng, shared), ln_volume, shared, **link.terms)
