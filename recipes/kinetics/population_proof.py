"""How well one scan does with a population's kinetics, on simulated cohorts whose truth is known.

    python recipes/kinetics/population_proof.py docs/population.md

Writes the tables of the page between its two marks. The truth is a family that the fitted one lacks: two phases of
clearance, uptake, and a second uptake in a third of the patients, log-normal between cycles, patients and sites.
Patients and sites on which the methods are tried were never learnt from.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Final

import numpy as np

from doseledger.kinetics import (
    POPULATION,
    Cycle,
    RegionPrior,
    fit_curve,
    learn,
    merge_summaries,
    single_time_point,
    summarise,
)
from doseledger.kinetics.log_shapes import LogShape
from doseledger.kinetics.nodes import normal_nodes
from doseledger.phantom.persons import REUPTAKE_H, REUPTAKE_PROBABILITY, REUPTAKE_SHARE
from doseledger.phantom.pharmaceuticals import DOTATATE, POPULATION_HALF_LIFE_H, PSMA_617, Uptake

HALF_LIFE_H: Final = POPULATION_HALF_LIFE_H
SLOWEST_PER_H: Final = log(2.0) / HALF_LIFE_H
SEED: Final = 5
REGIONS: Final = {
    ("Lu177-DOTATATE", "kidney"): DOTATATE.uptake["kidney"],
    ("Lu177-DOTATATE", "liver"): DOTATATE.uptake["liver"],
    ("Lu177-DOTATATE", "spleen"): DOTATATE.uptake["spleen"],
    ("Lu177-DOTATATE", "lesion"): DOTATATE.uptake["lesion"],
    ("Lu177-PSMA-617", "kidney"): PSMA_617.uptake["kidney"],
    ("Lu177-PSMA-617", "parotid"): PSMA_617.uptake["parotid"],
    ("Lu177-PSMA-617", "lesion"): PSMA_617.uptake["lesion"],
}
SCAN_TIMES_H: Final = (4.0, 24.0, 48.0, 72.0, 96.0, 120.0, 168.0)
#: Schedules of the sites, in turn.
SCHEDULES: Final = ((4.0, 24.0, 48.0, 96.0, 168.0), (4.0, 24.0, 72.0, 168.0), (2.0, 24.0, 48.0, 96.0, 144.0))
#: Relative noise of activities; each cycle has one of them, and says so.
NOISE: Final = (0.05, 0.075, 0.10)
#: Spread of ln, beside that of the terminal half-life, which is the pharmaceutical's own: between patients of the
#: fast biological rate, its share (of the odds) and the uptake rate; of the terminal rate between the cycles of a
#: patient, and of all four between sites.
FAST_SD, SHARE_SD, UPTAKE_SD, CYCLE_SD, SITE_SD = 0.20, 0.30, 0.30, 0.05, 0.10
#: A third of the patients has two cycles.
SECOND_CYCLE: Final = 3
#: Patients tried per learnt cohort, from its sites and from others; and other sites among these.
TRIED, OTHER_SITES = 200, 20
#: (patients learnt from, sites, cohorts).
DESIGNS: Final = ((40, 5, 16), (120, 8, 6), (10, 1, 16), (6, 1, 16))
DRAWS: Final = 200_000
#: Pairs of scans; cohorts of 40 patients, and patients of other sites that are tried with each.
PAIRS: Final = ((24.0, 168.0), (24.0, 96.0), (4.0, 24.0))
PAIR_COHORTS, PAIR_TRIED = 3, 80
#: Patients and sites whose summaries are merged, rounds of summaries from nothing, and cohorts.
FEDERATED_PATIENTS, FEDERATED_SITES, ROUNDS, FEDERATED_COHORTS = 48, 6, 5, 12
#: Patients a year later, and rounds around the prior of the year before.
LATER_PATIENTS, LATER_ROUNDS = 72, 3
#: What is asked of merged summaries: mean of ln(TIA/A(t)), and its spread relative to that of the pooled patients.
MOST_MEAN, MOST_SPREAD = 0.01, 0.05
START, END = "<!-- tables of recipes/kinetics/population_proof.py -->", "<!-- end of tables -->"

Array = np.ndarray


@dataclass(frozen=True)
class Truth:
    """Curves sum_i a_i exp(-l_i t), ``(curves, 4)``."""

    amplitudes: Array
    rates: Array

    def at(self, times_h: Sequence[float]) -> Array:
        return (self.amplitudes[:, None] * np.exp(-self.rates[:, None] * np.array(times_h)[:, None])).sum(axis=-1)

    @property
    def ln_tia(self) -> Array:
        return np.log((self.amplitudes / self.rates).sum(axis=-1))


def draw_site(rng: np.random.Generator) -> Array:
    return SITE_SD * rng.standard_normal(4)


def draw_truth(rng: np.random.Generator, uptake: Uptake, sites: Array, cycles: int = 1) -> list[Truth]:
    """Cycles of one patient per row of `sites`."""
    n = sites.shape[0]
    ln_slow, ln_fast, odds, ln_rise = (
        sites + np.array([uptake.terminal_sd, FAST_SD, SHARE_SD, UPTAKE_SD]) * rng.standard_normal((n, 4))
    ).T
    biology = [log(2.0) / half - SLOWEST_PER_H for half in (uptake.terminal_h, uptake.fast_h, uptake.uptake_h)]
    share = 1.0 / (1.0 + (1.0 / uptake.fast_share - 1.0) * np.exp(odds))
    again = rng.uniform(*REUPTAKE_SHARE, n) * (rng.uniform(size=n) < REUPTAKE_PROBABILITY)
    again_rate = SLOWEST_PER_H + log(2.0) / rng.uniform(*REUPTAKE_H, n)
    found = []
    for _ in range(cycles):
        slow = SLOWEST_PER_H + biology[0] * np.exp(ln_slow + CYCLE_SD * rng.standard_normal(n))
        fast = np.maximum(SLOWEST_PER_H + biology[1] * np.exp(ln_fast), 1.2 * slow)
        rise = SLOWEST_PER_H + biology[2] * np.exp(ln_rise)
        amplitudes = np.stack([1.0 - share + again, share, -np.ones(n), -again], axis=-1)
        found.append(Truth(amplitudes, np.stack([slow, fast, rise, np.maximum(again_rate, 1.2 * slow)], axis=-1)))
    return found


def measured(rng: np.random.Generator, exact: Array, noise: Array) -> Array:
    return exact * np.maximum(1.0 + noise[:, None] * rng.standard_normal(exact.shape), 0.05)


def draw_cohort(rng: np.random.Generator, uptake: Uptake, sites: Array, patients: int) -> list[Cycle]:
    """Cycles with four or five scans, patients shared out among the sites."""
    site_of = np.arange(patients) % len(sites)
    drawn = draw_truth(rng, uptake, sites[site_of], cycles=2)
    cycles = []
    for number, truth in enumerate(drawn):
        noise = rng.choice(NOISE, patients)
        for schedule in range(len(SCHEDULES)):
            times = SCHEDULES[schedule]
            activity = measured(rng, 100.0 * truth.at(times), noise)
            for p in range(patients):
                if site_of[p] % len(SCHEDULES) == schedule and (number == 0 or p % SECOND_CYCLE == 0):
                    values, u = activity[p], noise[p] * activity[p]
                    cycles.append(
                        Cycle(f"P{p}", f"S{site_of[p]}", times, tuple(values), HALF_LIFE_H, u_activity_mbq=tuple(u))
                    )
    return cycles


def madsen_half_life_h(cycles: Sequence[Cycle]) -> float:
    """Geometric mean of the effective half-lives: a line through ln of the activities after 20 h."""
    logs = []
    for cycle in cycles:
        late = np.array(cycle.times_h) > 20.0
        slope = np.polyfit(np.array(cycle.times_h)[late], np.log(np.array(cycle.activity_mbq)[late]), 1)[0]
        logs.append(np.log(log(2.0) / max(-slope, SLOWEST_PER_H)))
    return float(np.exp(np.mean(logs)))


@dataclass(frozen=True)
class Errors:
    """Of one cohort: squared errors of ln TIA by method and scan time, and how many intervals hold the truth."""

    squares: dict[str, Array]
    covered: Array


def ln_ratios(times_h: Sequence[float], prior: RegionPrior) -> dict[float, tuple[Array, Array, Array]]:
    """ln of the estimate and of the ends of its interval for an activity of 1, by noise."""
    found = {}
    for noise in NOISE:
        fits = [
            single_time_point(t, 1.0, half_life_h=HALF_LIFE_H, method=POPULATION, prior=prior, u_activity_mbq=noise)
            for t in times_h
        ]
        ends = np.log([fit.tia_interval_mbq_h for fit in fits])
        found[noise] = (np.log([fit.tia_mbq_h for fit in fits]), ends[:, 0], ends[:, 1])
    return found


def tried(
    rng: np.random.Generator, uptake: Uptake, sites: Array, prior: RegionPrior, madsen_h: float, optimal: Array
) -> Errors:
    """All methods on new patients of `sites`."""
    (truth,) = draw_truth(rng, uptake, sites)
    noise = rng.choice(NOISE, len(sites))
    ln_activity = np.log(measured(rng, truth.at(SCAN_TIMES_H), noise))
    by_noise = ln_ratios(SCAN_TIMES_H, prior)
    middle, low, high = (np.array([by_noise[level][i] for level in noise]) for i in range(3))
    times, rate = np.array(SCAN_TIMES_H), log(2.0) / madsen_h
    # The mean of ln(1 + noise) is -noise^2/2: who knows the noise takes it back.
    estimates = {
        "population": ln_activity + middle,
        "Hänscheid": ln_activity
        + np.minimum(np.log(2.0 * times / log(2.0)), SLOWEST_PER_H * times - log(SLOWEST_PER_H)),
        "Madsen": ln_activity + rate * times - log(rate),
        "optimal": ln_activity + optimal + 0.5 * noise[:, None] ** 2,
    }
    exact = truth.ln_tia[:, None]
    inside = (ln_activity + low <= exact) & (exact <= ln_activity + high)
    return Errors({name: np.square(e - exact).mean(axis=0) for name, e in estimates.items()}, inside.mean(axis=0))


def optimal_ln_ratio(rng: np.random.Generator, uptake: Uptake, draws: int = DRAWS) -> Array:
    """Mean of ln(TIA/A(t)) over the true population: what is best to know when a patient's own curve is not."""
    (truth,) = draw_truth(rng, uptake, SITE_SD * rng.standard_normal((draws, 4)))
    return (truth.ln_tia[:, None] - np.log(truth.at(SCAN_TIMES_H))).mean(axis=0)


def prove(
    key: tuple[str, str], patients: int, sites: int, cohorts: int, *, seed: int = SEED, patients_tried: int = TRIED
) -> dict[str, list[Errors]]:
    """Errors of each cohort on patients left out, and on sites left out."""
    uptake = REGIONS[key]
    number = list(REGIONS).index(key)
    optimal = optimal_ln_ratio(np.random.Generator(np.random.PCG64([seed, number])), uptake)
    found: dict[str, list[Errors]] = {"patient": [], "site": []}
    for cohort in range(cohorts):
        rng = np.random.Generator(np.random.PCG64([seed, number, patients, cohort]))
        own = np.array([draw_site(rng) for _ in range(sites)])
        cycles = draw_cohort(rng, uptake, own, patients)
        prior = learn(cycles, radiopharmaceutical=key[0], region=key[1])
        madsen_h = madsen_half_life_h(cycles)
        other = np.array([draw_site(rng) for _ in range(OTHER_SITES)])
        for name, where in (("patient", own), ("site", other)):
            at = where[np.arange(patients_tried) % len(where)]
            found[name].append(tried(rng, uptake, at, prior, madsen_h, optimal))
    return found


@dataclass(frozen=True)
class Cell:
    """One region and scan time: rms of ln TIA by method, coverage, and excess over the others.

    `excess` is the mean squared error of the population method less that of the other one, and `excess_se` its standard
    error over the cohorts.
    """

    rms: dict[str, float]
    coverage: float
    coverage_se: float
    excess: dict[str, float]
    excess_se: dict[str, float]


def cells(errors: list[Errors]) -> list[Cell]:
    found = []
    for i in range(len(SCAN_TIMES_H)):
        squares = {name: np.array([e.squares[name][i] for e in errors]) for name in errors[0].squares}
        covered = np.array([e.covered[i] for e in errors])
        others = [name for name in squares if name != "population"]
        differences = {name: squares["population"] - squares[name] for name in others}
        count = max(len(errors) - 1, 1) ** 0.5
        found.append(
            Cell(
                rms={name: float(np.sqrt(s.mean())) for name, s in squares.items()},
                coverage=float(covered.mean()),
                coverage_se=float(covered.std() / count),
                excess={name: float(d.mean()) for name, d in differences.items()},
                excess_se={name: float(d.std() / count) for name, d in differences.items()},
            )
        )
    return found


def failures(cell: Cell) -> list[str]:
    """What the issue asks for and the cell does not show, beyond two standard errors."""
    words = [f"above {name}" for name in ("Hänscheid", "Madsen") if cell.excess[name] > 2.0 * cell.excess_se[name]]
    if cell.rms["population"] > 1.05 * cell.rms["optimal"]:
        words.append("more than 5 % above optimal")
    if not 0.92 <= cell.coverage <= 0.98:
        words.append("coverage")
    return words


# Two scans ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Pair:
    """Two scans of patients of other sites: rms of ln TIA and coverage, with the prior and by one exponential."""

    rms: float
    mono_rms: float
    coverage: float
    mono_coverage: float


def prove_pair(
    key: tuple[str, str], times_h: tuple[float, float], cohorts: int = PAIR_COHORTS, patients_tried: int = PAIR_TRIED
) -> Pair:
    uptake, number = REGIONS[key], list(REGIONS).index(key)
    errors, inside = [], []
    for cohort in range(cohorts):
        rng = np.random.Generator(np.random.PCG64([SEED, number, 2, cohort]))
        own = np.array([draw_site(rng) for _ in range(5)])
        prior = learn(draw_cohort(rng, uptake, own, 40), radiopharmaceutical=key[0], region=key[1])
        (truth,) = draw_truth(rng, uptake, np.array([draw_site(rng) for _ in range(patients_tried)]))
        noise = rng.choice(NOISE, patients_tried)
        for activity, level, exact in zip(measured(rng, truth.at(times_h), noise), noise, truth.ln_tia, strict=True):
            fits = [
                fit_curve(times_h, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=level * activity, prior=given)
                for given in (prior, None)
            ]
            errors.append([log(fit.tia_mbq_h) - exact for fit in fits])
            inside.append([log(f.tia_interval_mbq_h[0]) <= exact <= log(f.tia_interval_mbq_h[1]) for f in fits])
    rms, covered = np.sqrt(np.square(errors).mean(axis=0)), np.mean(inside, axis=0)
    return Pair(float(rms[0]), float(rms[1]), float(covered[0]), float(covered[1]))


# Summaries of sites in place of patients ---------------------------------------------------------


def predicted(prior: RegionPrior) -> tuple[Array, Array]:
    """Mean and standard deviation of ln(TIA/A(t)) at the scan times, by 4096 quasi-random patients of the prior."""
    x = prior.mu + normal_nodes(4096, prior.mu.size) @ np.linalg.cholesky(prior.predictive_covariance).T
    shape = LogShape(prior.model, x, SLOWEST_PER_H)
    values = np.log(shape.integral())[:, None] - np.log(shape.at(np.tile(SCAN_TIMES_H, (len(x), 1))))
    return values.mean(axis=0), values.std(axis=0)


@dataclass(frozen=True)
class Federated:
    """Cycles of several sites, and the prior that their patients teach together."""

    cycles: list[Cycle]
    names: dict[str, str]
    pooled: RegionPrior

    @classmethod
    def draw(cls, key: tuple[str, str], model: str, patients: int, stream: int) -> Federated:
        rng = np.random.Generator(np.random.PCG64([SEED, list(REGIONS).index(key), stream]))
        sites = np.array([draw_site(rng) for _ in range(FEDERATED_SITES)])
        cycles = draw_cohort(rng, REGIONS[key], sites, patients)
        names = {"radiopharmaceutical": key[0], "region": key[1], "model": model}
        return cls(cycles, names, learn(cycles, **names))

    @property
    def before(self) -> list[Cycle]:
        """Of the patients of the first year."""
        return [cycle for cycle in self.cycles if int(cycle.patient[1:]) < FEDERATED_PATIENTS]

    def round(self, prior: RegionPrior | None, cycles: Sequence[Cycle]) -> RegionPrior:
        """Summaries of every site around a prior, merged."""
        by_site = [[c for c in cycles if c.site == f"S{i}"] for i in range(FEDERATED_SITES)]
        summaries = [summarise(own, **self.names, reference=prior) for own in by_site]
        return merge_summaries([summary for summary in summaries if summary is not None])

    def off(self, prior: RegionPrior) -> tuple[float, float, float]:
        """Against the pooled patients: largest difference of ln(TIA/A(t)) over the scan times, largest relative
        difference of its spread, and difference of ln of the terminal half-life."""
        (mean, sd), (own_mean, own_sd) = predicted(self.pooled), predicted(prior)
        half_life = abs(log(prior.effective_half_life_h(HALF_LIFE_H) / self.pooled.effective_half_life_h(HALF_LIFE_H)))
        return float(np.abs(own_mean - mean).max()), float(np.abs(own_sd / sd - 1.0).max()), half_life


def federate(
    key: tuple[str, str], model: str, cohort: int, *, rounds: int = ROUNDS
) -> list[tuple[float, float, float]]:
    """How far the merged summaries are off after each round that starts from nothing."""
    drawn = Federated.draw(key, model, FEDERATED_PATIENTS, 3 + cohort)
    found, prior = [], None
    for _ in range(rounds):
        prior = drawn.round(prior, drawn.cycles)
        found.append(drawn.off(prior))
    return found


def federate_later(key: tuple[str, str], model: str, cohort: int) -> list[tuple[float, float, float]]:
    """How far they are off after each round around the prior of the year before, when there are more patients."""
    drawn = Federated.draw(key, model, LATER_PATIENTS, 103 + cohort)
    found, prior = [], None
    for _ in range(ROUNDS):
        prior = drawn.round(prior, drawn.before)
    for _ in range(LATER_ROUNDS):
        prior = drawn.round(prior, drawn.cycles)
        found.append(drawn.off(prior))
    return found


def federation_table() -> list[str]:
    years = {
        f"from nothing, {FEDERATED_PATIENTS} patients": federate,
        f"around the prior of {FEDERATED_PATIENTS} of them, {LATER_PATIENTS} patients": federate_later,
    }
    models = ("bi_uptake", "mono_uptake")
    found = {
        (year, model): np.array([[run(key, model, c) for c in range(FEDERATED_COHORTS)] for key in REGIONS])
        for year, run in years.items()
        for model in models
    }
    lines = [
        "",
        f"**Sites that keep their patients** ({FEDERATED_SITES} sites): merged summaries against the pooled patients; "
        f"largest difference over scan times, regions and {FEDERATED_COHORTS} cohorts of each, %, and cohorts in which "
        f"it is beyond {percent(MOST_MEAN)} % of TIA/A or {percent(MOST_SPREAD)} % of its spread at any scan time",
        "",
        "| model | start | round | TIA/A | its spread | half-life | cohorts beyond |",
        "|---|---|---|---|---|---|---|",
    ]
    for (year, model), values in found.items():
        beyond = (values[..., 0] > MOST_MEAN) | (values[..., 1] > MOST_SPREAD)
        for number in range(values.shape[2]):
            most = " | ".join(percent(v) for v in values[:, :, number].max(axis=(0, 1)))
            count = f"{beyond[:, :, number].sum()} of {beyond[:, :, number].size}"
            lines.append(f"| `{model}` | {year} | {number + 1} | {most} | {count} |")
    lines += [
        "",
        f"By region, largest difference over scan times and {FEDERATED_COHORTS} cohorts after the last round, %:",
        "",
        "| model | radiopharmaceutical | region | from nothing: TIA/A | its spread | half-life | "
        "around a prior: TIA/A | its spread | half-life |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for model in models:
        for i, key in enumerate(REGIONS):
            most = [percent(v) for year in years for v in found[year, model][i, :, -1].max(axis=0)]
            lines.append(f"| `{model}` | {key[0]} | {key[1]} | {' | '.join(most)} |")
    return lines


# The page -----------------------------------------------------------------------------------------

METHODS: Final = ("population", "Hänscheid", "Madsen", "optimal")


def percent(value: float) -> str:
    return f"{100.0 * value:.1f}"


def cell_tables(key: tuple[str, str], found: dict[str, list[Cell]]) -> list[str]:
    lines = [
        "",
        f"**{key[0]}, {key[1]}**",
        "",
        f"| left out | scan, h | {' | '.join(METHODS)} | over optimal | in interval | |",
    ]
    lines.append("|---|" + "---|" * (len(METHODS) + 4))
    for left_out, row in found.items():
        for time_h, cell in zip(SCAN_TIMES_H, row, strict=True):
            values = " | ".join(percent(cell.rms[name]) for name in METHODS)
            ratio = percent(cell.rms["population"] / cell.rms["optimal"] - 1.0)
            words = ", ".join(failures(cell))
            lines.append(f"| {left_out} | {time_h:.0f} | {values} | {ratio} | {percent(cell.coverage)} | {words} |")
    return lines


def best_table(found: dict[tuple[str, str], dict[str, list[Cell]]]) -> list[str]:
    lines = ["", "**Best time of one scan** (patient left out)", ""]
    lines += ["| radiopharmaceutical | region | population, h | rms, % | Hänscheid, h | rms, % | Madsen, h | rms, % |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for key, rows in found.items():
        parts = []
        for name in METHODS[:3]:
            values = [cell.rms[name] for cell in rows["patient"]]
            best = int(np.argmin(values))
            parts.append(f"{SCAN_TIMES_H[best]:.0f} | {percent(values[best])}")
        lines.append(f"| {key[0]} | {key[1]} | {' | '.join(parts)} |")
    return lines


def design_rows(design: tuple[int, int, int], found: dict[tuple[str, str], dict[str, list[Cell]]]) -> list[str]:
    lines = []
    for left_out in ("patient", "site"):
        every = [cell for rows in found.values() for cell in rows[left_out]]
        ratios = [cell.rms["population"] / cell.rms["optimal"] - 1.0 for cell in every]
        coverages = [cell.coverage for cell in every]
        words = [word for cell in every for word in failures(cell)]
        counts = [sum(word.startswith(kind) for word in words) for kind in ("above H", "above M", "more", "coverage")]
        lines.append(
            f"| {design[0]} | {design[1]} | {design[2]} | {left_out} | {percent(float(np.median(ratios)))} | "
            f"{percent(max(ratios))} | {percent(min(coverages))} to {percent(max(coverages))} | "
            f"{' | '.join(map(str, counts))} |"
        )
    return lines


def pair_table() -> list[str]:
    lines = ["| radiopharmaceutical | region | scans, h | prior | one exponential | in interval | of one exponential |"]
    lines.append("|---|---|---|---|---|---|---|")
    for key in REGIONS:
        for times_h in PAIRS:
            pair = prove_pair(key, times_h)
            values = [pair.rms, pair.mono_rms, pair.coverage, pair.mono_coverage]
            scans = " and ".join(f"{t:.0f}" for t in times_h)
            lines.append(f"| {key[0]} | {key[1]} | {scans} | {' | '.join(map(percent, values))} |")
    return lines


def tables() -> list[str]:
    size = f"{len(REGIONS) * len(SCAN_TIMES_H)} cells"
    summary = [
        f"Of {size}, root mean square of ln TIA over that of the optimum, and how many cells miss a demand:",
        "",
        "| patients | sites | cohorts | left out | over optimal, median, % | most, % | in interval, % | "
        "above Hänscheid | above Madsen | 5 % over optimal | outside 92 to 98 % |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    shown: list[str] = []
    for design in DESIGNS:
        found = {}
        for key in REGIONS:
            found[key] = {left_out: cells(errors) for left_out, errors in prove(key, *design).items()}
        summary += design_rows(design, found)
        if design == DESIGNS[0]:
            shown = best_table(found)
            for key, rows in found.items():
                shown += cell_tables(key, rows)
    pairs = [
        "",
        "**Two scans**, root mean square of ln TIA, %, and truths inside the 95 % interval, %",
        "",
        *pair_table(),
    ]
    best = len(REGIONS) + 5
    return [*summary, *shown[:best], *pairs, *federation_table(), *shown[best:]]


def main() -> None:
    lines = tables()
    print("\n".join(lines))
    if len(sys.argv) > 1:
        page = Path(sys.argv[1])
        text = page.read_text(encoding="utf-8")
        before, rest = text.split(START)
        page.write_text("\n".join([f"{before}{START}", "", *lines, "", f"{END}{rest.split(END)[1]}"]), encoding="utf-8")


if __name__ == "__main__":
    main()
