"""What fewer scans would have cost: every cycle of a cohort with scans left out, against all of its scans.

The error of a schedule and method is that of the time-integrated activity, which is that of the dose: outlines and
masses are the same. The population is always learnt without the patient that it is tried on.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from math import exp, log, sqrt
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np

from doseledger.cohort import Plan, Row, administered_mbq
from doseledger.errors import InputMissingError, QuantityError
from doseledger.kinetics import POPULATION, CurveFit, Cycle, RegionPrior, class_of, fit_curve, learn, single_time_point
from doseledger.kinetics.curves import SMALLEST_SHARE, Samples, check_samples
from doseledger.kinetics.own_cycle import METHOD as OWN_CYCLE
from doseledger.kinetics.own_cycle import EarlierCurve, from_other_cycle
from doseledger.nuclides import nuclide
from doseledger.steps.cohort_page import read_cohort_table

#: Scans of a cycle that is taken for the truth.
FULL_SCANS: Final = 3
#: Nominal times, h after injection, and the end of the hours that count as each.
BINS: Final = ((4, 12.0), (24, 36.0), (48, 60.0), (72, 84.0), (96, 120.0), (144, 156.0), (168, 204.0), (240, 1e9))
#: The population is learnt as often as this, each time without one part of the patients; with fewer patients as often
#: as there are patients.
PARTS: Final = 5
ONE_SCAN: Final = ("hanscheid", "madsen", POPULATION, OWN_CYCLE)
TWO_SCANS: Final = ("mono", POPULATION)
FULL: Final = "full"
AGAINST: Final = ("all scans", "truth")
#: Errors of the time-integrated activity whose share is counted.
LARGE, VERY_LARGE = 0.10, 0.20

Key = tuple[str, str, int, str]


@dataclass(frozen=True, eq=False)
class FullCycle:
    """A region in one cycle with all its scans.

    Attributes
    ----------
    curve
        That of all scans, which the ledger's dose rests on.
    true_tia_mbq_h
        None where nobody knows it.
    """

    site: str
    patient: str
    cycle: int
    region: str
    radiopharmaceutical: str
    half_life_h: float
    administered_mbq: float
    samples: Samples
    curve: EarlierCurve
    tia_mbq_h: float
    true_tia_mbq_h: float | None = None

    @property
    def who(self) -> tuple[str, str]:
        return self.site, self.patient


@dataclass(frozen=True)
class Trial:
    """One estimate from fewer scans, or from all of them."""

    radiopharmaceutical: str
    region: str
    schedule: str
    method: str
    patient: tuple[str, str]
    tia_mbq_h: float
    low_mbq_h: float
    high_mbq_h: float
    references: Mapping[str, float]


@dataclass(frozen=True)
class Summary:
    """Errors of one schedule and method over all cycles of a radiopharmaceutical and class of region.

    Attributes
    ----------
    against
        ``all scans`` of the cycle, or the ``truth`` of a virtual cohort.
    median_ratio, worst_ratio
        Estimate over reference; the worst is that of the largest |ln|.
    rms_ln
        Root of the mean square of ln(estimate/reference).
    beyond_10, beyond_20
        Share of cycles with an error of more than 10 and 20 %.
    inside_95
        Share of cycles whose stated 95 % interval holds the reference.
    """

    radiopharmaceutical: str
    region: str
    schedule: str
    method: str
    against: str
    patients: int
    n: int
    median_ratio: float
    rms_ln: float
    beyond_10: float
    beyond_20: float
    worst_ratio: float
    inside_95: float


def cohort_cycles(plan: Plan, truth: Path | None) -> list[FullCycle]:
    """Cycles of a finished cohort with three scans or more of a region and a curve that is not graded low.

    Raises
    ------
    InputMissingError
        There are none.
    """
    folder = plan.results / "cohort"
    scans: dict[Key, list[Row]] = defaultdict(list)
    for row in read_cohort_table(folder, "region_activity"):
        scans[_key(row)].append(row)
    true = _true_tia(truth) if truth is not None else {}
    found = []
    for row in read_cohort_table(folder, "curve"):
        own, given = scans[_key(row)], plan.cycle(row["site"], row["patient"], row["cycle"]).administration
        usable = row["chosen"] and row["prior_sha256"] is None and row["tia_mbq_h"] and "low" not in row["flags"]
        if not usable or len(own) < FULL_SCANS or given is None:
            continue
        half_life_h = nuclide(given["nuclide"]).half_life_h
        size = len(row["parameters"])
        found.append(
            FullCycle(
                *_key(row),
                radiopharmaceutical=given["radiopharmaceutical"],
                half_life_h=half_life_h,
                administered_mbq=administered_mbq(given),
                samples=samples_of([r["time_h"] for r in own], [r["activity_mbq"] for r in own], half_life_h, _u(own)),
                curve=EarlierCurve(
                    row["cycle"],
                    tuple(row["parameter_names"]),
                    tuple(row["parameters"]),
                    np.array(row["covariance"]).reshape((size, size) if row["covariance"] else (0, 0)),
                    row["effective_half_life_h"],
                ),
                tia_mbq_h=row["tia_mbq_h"],
                true_tia_mbq_h=true.get(_key(row)),
            )
        )
    if not found:
        raise InputMissingError(
            "no cycle has three scans of a region",
            path=folder,
            remedy="Run a cohort in which some cycles have several scans: they say what fewer would have cost.",
        )
    return found


def samples_of(times_h: Sequence[float], activity_mbq: Sequence[float], half_life_h: float, u_rel: float) -> Samples:
    values = np.array(activity_mbq)
    return check_samples(times_h, values, half_life_h, u_rel * np.maximum(values, SMALLEST_SHARE * values.max()))


def study(cycles: Sequence[FullCycle]) -> list[Summary]:
    """Errors of every schedule of one and two scans, by every method, in the order of the columns."""
    groups: dict[tuple[str, str], list[FullCycle]] = defaultdict(list)
    for cycle in cycles:
        groups[(cycle.radiopharmaceutical, class_of(cycle.region))].append(cycle)
    return [summary for key in sorted(groups) for summary in _summaries(_trials(groups[key]))]


def schedule_of(times_h: Iterable[float]) -> str:
    """
    Examples
    --------
    >>> schedule_of([25.1]), schedule_of([23.0, 101.5])
    ('24 h', '24+96 h')
    """
    return "+".join(str(next(hour for hour, end in BINS if t < end)) for t in times_h) + " h"


def _trials(cycles: Sequence[FullCycle]) -> Iterator[Trial]:
    priors = _priors_without(cycles)
    for cycle in cycles:
        prior = priors[cycle.who]
        yield _trial(cycle, FULL, FULL, cycle.tia_mbq_h, (cycle.tia_mbq_h, cycle.tia_mbq_h))
        donor = _donor(cycle, cycles)
        for size in (1, 2):
            for kept in combinations(range(cycle.samples.times_h.size), size):
                part = list(kept)
                for method, fit in _fits(cycle, part, prior, donor):
                    if fit.has_curve and fit.tia_mbq_h > 0.0:
                        schedule = schedule_of(cycle.samples.times_h[part].tolist())
                        yield _trial(cycle, schedule, method, fit.tia_mbq_h, fit.tia_interval_mbq_h)


def _fits(
    cycle: FullCycle, part: list[int], prior: RegionPrior | None, donor: EarlierCurve | None
) -> Iterator[tuple[str, CurveFit]]:
    times, values, u = (
        a[part] for a in (cycle.samples.times_h, cycle.samples.activity_mbq, cycle.samples.u_activity_mbq)
    )
    half_life_h = cycle.half_life_h
    if not values.min() > 0.0:
        return
    if len(part) == 2:
        fit_two = partial(
            fit_curve,
            times,
            values,
            half_life_h=half_life_h,
            u_activity_mbq=u,
            administered_mbq=cycle.administered_mbq,
        )
        yield "mono", fit_two(model="mono")
        if prior is not None:
            yield POPULATION, fit_two(prior=prior)
        return
    time_h, value, u_mbq = float(times[0]), float(values[0]), float(u[0])
    for method in ("hanscheid", "madsen", POPULATION) if prior is not None else ("hanscheid",):
        yield (
            method,
            single_time_point(
                time_h,
                value,
                half_life_h=half_life_h,
                method=method,
                prior=prior,
                u_activity_mbq=u_mbq,
                administered_mbq=cycle.administered_mbq,
            ),
        )
    if donor is not None:
        own = from_other_cycle(time_h, value, half_life_h=half_life_h, donor=donor, u_activity_mbq=u_mbq)
        yield OWN_CYCLE, own


def _donor(cycle: FullCycle, cycles: Sequence[FullCycle]) -> EarlierCurve | None:
    """The same region in the nearest earlier cycle of the patient."""
    earlier = [c for c in cycles if (c.who, c.region) == (cycle.who, cycle.region) and c.cycle < cycle.cycle]
    return max(earlier, key=lambda c: c.cycle).curve if earlier else None


def _priors_without(cycles: Sequence[FullCycle]) -> dict[tuple[str, str], RegionPrior | None]:
    """By patient, the population learnt without the part of the patients that he is in."""
    patients = sorted({cycle.who for cycle in cycles})
    found: dict[tuple[str, str], RegionPrior | None] = {}
    for part in range(min(PARTS, len(patients))):
        left_out = patients[part::PARTS]
        others = [_to_learn(cycle) for cycle in cycles if cycle.who not in left_out]
        try:
            own = cycles[0]
            prior = learn(others, radiopharmaceutical=own.radiopharmaceutical, region=class_of(own.region))
        except QuantityError:
            prior = None
        found |= dict.fromkeys(left_out, prior)
    return found


def _to_learn(cycle: FullCycle) -> Cycle:
    samples = cycle.samples
    times, values, u = (tuple(a.tolist()) for a in (samples.times_h, samples.activity_mbq, samples.u_activity_mbq))
    return Cycle(cycle.patient, cycle.site, times, values, cycle.half_life_h, u)


def _trial(cycle: FullCycle, schedule: str, method: str, tia: float, interval: tuple[float, float]) -> Trial:
    references = {AGAINST[0]: cycle.tia_mbq_h}
    if cycle.true_tia_mbq_h is not None:
        references[AGAINST[1]] = cycle.true_tia_mbq_h
    return Trial(
        cycle.radiopharmaceutical, class_of(cycle.region), schedule, method, cycle.who, tia, *interval, references
    )


def _summaries(trials: Iterable[Trial]) -> list[Summary]:
    groups: dict[tuple[str, ...], list[Trial]] = defaultdict(list)
    for trial in trials:
        for against in trial.references:
            if not (trial.method == FULL and against == AGAINST[0]):
                groups[(trial.radiopharmaceutical, trial.region, trial.schedule, trial.method, against)].append(trial)
    return [_summary(key, own) for key, own in sorted(groups.items(), key=lambda item: _order(item[0]))]


def _order(key: tuple[str, ...]) -> tuple[object, ...]:
    """One scan before two, in order of time; methods as they are listed."""
    *group, schedule, method, against = key
    hours = [int(hour) for hour in schedule.removesuffix(" h").split("+")] if schedule != FULL else []
    methods = (FULL, *ONE_SCAN, "mono")
    return (*group, AGAINST.index(against), len(hours), hours, methods.index(method))


def _summary(key: tuple[str, ...], trials: Sequence[Trial]) -> Summary:
    drug, region, schedule, method, against = key
    ratios = [trial.tia_mbq_h / trial.references[against] for trial in trials]
    held = [t.low_mbq_h <= t.references[against] <= t.high_mbq_h for t in trials]
    return Summary(
        drug,
        region,
        schedule,
        method,
        against,
        patients=len({trial.patient for trial in trials}),
        n=len(trials),
        median_ratio=median(ratios),
        rms_ln=sqrt(sum(log(r) ** 2 for r in ratios) / len(ratios)),
        beyond_10=sum(abs(r - 1.0) > LARGE for r in ratios) / len(ratios),
        beyond_20=sum(abs(r - 1.0) > VERY_LARGE for r in ratios) / len(ratios),
        worst_ratio=exp(max((log(r) for r in ratios), key=abs)),
        inside_95=sum(held) / len(held),
    )


def _key(row: Row) -> Key:
    return row["site"], row["patient"], row["cycle"], row["region"]


def _u(scans: Sequence[Row]) -> float:
    return float(max(row["u_activity_mbq"] / row["activity_mbq"] for row in scans if row["activity_mbq"] > 0))


def _true_tia(folder: Path) -> dict[Key, float]:
    with (folder / "organ_truth.csv").open(encoding="utf-8", newline="") as stream:
        return {
            (row["site"], row["patient"], int(row["cycle"]), row["region"]): float(row["tia_mbq_h"])
            for row in csv.DictReader(stream)
        }
