"""Curves of one or two scans: what a cycle takes from the population or from other cycles of the patient, and says so.

What is wanted is not always there. One scan falls back from the patient's own cycle to the population, and from the
population to Haenscheid's approximation; each fall has a flag.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.cohort import Row, administered_mbq
from doseledger.io.prior_rows import prior_of
from doseledger.io.tables import read_rows
from doseledger.kinetics import POPULATION, CurveFit, RegionPrior, fit_curve, single_time_point
from doseledger.kinetics.own_cycle import METHOD as OWN_CYCLE
from doseledger.kinetics.own_cycle import EarlierCurve, from_other_cycle
from doseledger.steps.spect_lesions import PREFIX as THRESHOLD_LESION
from doseledger.steps.stage import Job, read_outcome

HANSCHEID: Final = "hanscheid"
#: Flags of one scan, by the method that its curve has.
ONE_SCAN_FLAGS: Final = {
    HANSCHEID: "half_life_assumed",
    "madsen": "half_life_of_population",
    POPULATION: "half_life_of_population",
    OWN_CYCLE: "half_life_of_own_cycle",
}


def donor_curves(job: Job) -> dict[str, EarlierCurve]:
    """By region, the curve of the nearest donor that has one that can be relied on; a refused donor has none."""
    found: dict[str, EarlierCurve] = {}
    for folder in job.inputs.get("donors", ()):
        if read_outcome(folder)["status"] != "ok":
            continue
        for row in read_rows(folder, "curve"):
            if row["chosen"] and _reliable(row):
                size = len(row["parameters"])
                covariance = np.array(row["covariance"]).reshape((size, size) if row["covariance"] else (0, 0))
                curve = EarlierCurve(
                    cycle=row["cycle"],
                    parameter_names=tuple(row["parameter_names"]),
                    parameters=tuple(row["parameters"]),
                    covariance=covariance,
                    effective_half_life_h=row["effective_half_life_h"],
                )
                found.setdefault(row["region"], curve)
    return found


def _reliable(row: Row) -> bool:
    """Measured by several scans, fitted, and of a region that is the same in all cycles.

    A long tail is no reason against it: how well its half-life is known is in the covariance.
    """
    return (
        row["n_timepoints"] > 1
        and row["effective_half_life_h"] is not None
        and row["status"] != "not_converged"
        # Lesions found by a threshold are numbered within each cycle.
        and not row["region"].startswith(THRESHOLD_LESION)
    )


def one_scan(
    job: Job, region: str, time_h: float, activity_mbq: float, half_life_h: float, donors: Mapping[str, EarlierCurve]
) -> CurveFit:
    """The curve of a region from its only activity, by the method wanted or what it falls back to."""
    u_mbq = job.settings["relative_random_uncertainty"] * activity_mbq
    method = wanted_method(job, region)
    if method == OWN_CYCLE and region in donors:
        return from_other_cycle(
            time_h, activity_mbq, half_life_h=half_life_h, donor=donors[region], u_activity_mbq=u_mbq
        )
    entry = population_entry(job, region)
    given_mbq = administered_mbq(job.rows["administration"])
    hanscheid = single_time_point(
        time_h, activity_mbq, half_life_h=half_life_h, u_activity_mbq=u_mbq, administered_mbq=given_mbq
    )
    if method == HANSCHEID or entry is None:
        return hanscheid
    fit = single_time_point(
        time_h,
        activity_mbq,
        half_life_h=half_life_h,
        method=POPULATION if method == OWN_CYCLE else method,
        prior=entry,
        u_activity_mbq=u_mbq,
        administered_mbq=given_mbq,
    )
    return replace(fit, prior=job.rows["prior"]["name"]) if fit.has_curve else hanscheid


def one_scan_flags(job: Job, region: str, fit: CurveFit) -> list[str]:
    """What the half-life rests on, and what it should have rested on."""
    flags = ["single_time_point", ONE_SCAN_FLAGS[fit.model]]
    wanted = wanted_method(job, region)
    if wanted == OWN_CYCLE != fit.model:
        flags.append("no_own_cycle")
    if wanted != HANSCHEID == fit.model:
        flags.append("no_population_value")
    return flags


def two_scans(
    job: Job,
    region: str,
    times_h: NDArray[np.float64],
    activity_mbq: NDArray[np.float64],
    u_mbq: NDArray[np.float64],
    half_life_h: float,
) -> CurveFit | None:
    """The curve of a region from two activities and the prior; None where the prior has no part.

    It has none where it does not know the region, and where the scans contradict all that it knows.
    """
    entry = population_entry(job, region) if wants_prior(job, region, times_h.size) else None
    if entry is None:
        return None
    fit = fit_curve(
        times_h,
        activity_mbq,
        half_life_h=half_life_h,
        u_activity_mbq=u_mbq,
        prior=entry,
        administered_mbq=administered_mbq(job.rows["administration"]),
    )
    return replace(fit, prior=job.rows["prior"]["name"]) if fit.has_curve else None


def wants_prior(job: Job, region: str, scans: int) -> bool:
    """Whether so many scans of a region are to be fitted with the prior: a model of ``curve_models.tsv`` goes first."""
    wanted = scans == 2 and job.settings["two_time_points"] == POPULATION
    return wanted and sheet_row(job, region).get("model") is None


def two_scans_flags(job: Job, region: str, fit: CurveFit, scans: int) -> list[str]:
    if not wants_prior(job, region, scans):
        return []
    return ["no_population_value"] if prior_sha256(job, fit) is None else ["population_prior"]


def wanted_method(job: Job, region: str) -> str:
    """Method for one scan: of ``curve_models.tsv``, else of the config."""
    return str(sheet_row(job, region).get("single_time_point") or job.settings["single_time_point"])


def sheet_row(job: Job, region: str) -> Row:
    """What ``curve_models.tsv`` says of the region under the cycle's radiopharmaceutical."""
    return next((row for row in job.rows["curve_models"] if row["region"] == region), {})


def population_entry(job: Job, region: str) -> RegionPrior | None:
    """What the prior has of the region; the plan gives the prior only to cycles of one or two scans that ask for it."""
    row = job.rows["prior"]
    if row is None or not row["entries"]:
        return None
    return prior_of(row).find(row["entries"][0]["radiopharmaceutical"], region)


def prior_sha256(job: Job, fit: CurveFit) -> str | None:
    """SHA-256 of the prior file, if it took part in the curve."""
    row = job.rows["prior"]
    return str(row["sha256"]) if row is not None and fit.prior == row["name"] else None
