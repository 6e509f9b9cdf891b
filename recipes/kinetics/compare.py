"""Ways from a few activities to a time-integrated activity, on curves whose integral is known.

    python recipes/kinetics/compare.py docs/kinetics.md [--pytheranostics PYTHON]

Writes the tables of the page between its two marks. `PYTHON` is the interpreter of an environment with
PyTheranostics 0.1 (``pip install PyTheranostics==0.1 && pip uninstall dataclasses``: a backport that it brings along
breaks Python 3.7 and later); without it its rows say so.
"""

from __future__ import annotations

import argparse
import ast
import csv
import json
import os
import subprocess
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from math import log, nan
from pathlib import Path
from typing import Final

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from doseledger.kinetics import fit_curve, fit_excretion, single_time_point
from doseledger.phantom.truth import Curve

HALF_LIFE_H: Final = 159.528
SLOWEST_PER_H: Final = log(2.0) / HALF_LIFE_H
NOISE_REL: Final = 0.05
DRAWS: Final = 300
SEED: Final = 20
#: Time of the scan that Hänscheid's approximation is given: the nearest one in each schedule.
HANSCHEID_H: Final = 96.0
#: Regions of the listed patient that have the curve of what is excreted.
EXCRETED: Final = {"RemainderOfBody": "remainder of the body", "WholeBody": "whole field"}
START, END = "<!-- tables of recipes/kinetics/compare.py -->", "<!-- end of tables -->"
DATA = Path(os.environ.get("DOSELEDGER_DATA", "../shared/data")) / "oracle_snmmi_pytheranostics/expected_results.csv"

Times = tuple[float, ...]
Array = np.ndarray
FOUR: Final[Times] = (4.0, 24.0, 96.0, 168.0)


@dataclass(frozen=True)
class Case:
    """A true curve: phases of clearance {half-life in h: share} and an uptake half-life, and when it is seen."""

    title: str
    phases: dict[float, float]
    uptake_h: float | None
    times_h: Times

    @property
    def curve(self) -> Curve:
        terms = [(100.0 * share, log(2.0) / h) for h, share in self.phases.items()]
        if self.uptake_h is not None:
            terms.append((-100.0 * sum(self.phases.values()), log(2.0) / self.uptake_h))
        return Curve(tuple(a for a, _ in terms), tuple(rate for _, rate in terms))


KIDNEY: Final = {51.0: 0.7, 14.0: 0.3}
LESION: Final = {80.0: 0.85, 24.0: 0.15}
CASES: Final = (
    Case("One phase of 51.6 h, uptake 2.5 h; four scans", {51.6: 1.0}, 2.5, FOUR),
    Case("One phase of 35.5 h, uptake 1.2 h; four scans", {35.5: 1.0}, 1.2, FOUR),
    Case("One phase of 51.6 h, there at once; four scans", {51.6: 1.0}, None, FOUR),
    Case("Kidney of two phases (70 % 51 h, 30 % 14 h), uptake 1.2 h; four scans", KIDNEY, 1.2, FOUR),
    Case("Lesion of two phases (85 % 80 h, 15 % 24 h), uptake 2.5 h; four scans", LESION, 2.5, FOUR),
    Case("The same kidney; three late scans", KIDNEY, 1.2, (24.0, 96.0, 168.0)),
    Case("The same kidney; two scans", KIDNEY, 1.2, (24.0, 168.0)),
    Case("The same kidney; eight scans", KIDNEY, 1.2, (1.0, 4.0, 10.0, 24.0, 48.0, 96.0, 144.0, 192.0)),
)


# The ways -----------------------------------------------------------------------------------------


def own(model: str) -> Callable[[Array, Array], float]:
    return lambda times, activity: fit_curve(times, activity, half_life_h=HALF_LIFE_H, model=model).tia_mbq_h


def hanscheid(times: Array, activity: Array) -> float:
    nearest = int(np.argmin(np.abs(times - HANSCHEID_H)))
    return single_time_point(float(times[nearest]), float(activity[nearest]), half_life_h=HALF_LIFE_H).tia_mbq_h


def library_mono(times: Array, activity: Array) -> float:
    """``scipy.optimize.curve_fit`` as one would write it: no bounds, equal weights, a sensible start."""
    (a, rate), _ = curve_fit(lambda t, a, rate: a * np.exp(-rate * t), times, activity, (activity[0], 0.01))
    return float(a / rate) if rate > 0 else nan


def library_uptake(times: Array, activity: Array) -> float:
    """The same with an uptake, three free parameters, bounded by physical decay."""
    (a, slow, fast), _ = curve_fit(
        lambda t, a, slow, fast: a * (np.exp(-slow * t) - np.exp(-fast * t)),
        times,
        activity,
        (activity[0], 0.01, 0.3),
        bounds=([0.0, SLOWEST_PER_H, SLOWEST_PER_H], np.inf),
        max_nfev=10_000,
    )
    return float(a * (1.0 / slow - 1.0 / fast))


WAYS: Final[dict[str, Callable[[Array, Array], float]]] = {
    "`fit_curve`, auto": own("auto"),
    "`fit_curve`, mono": own("mono"),
    "trapezoid, fitted tail": own("trapezoid"),
    "trapezoid, physical tail": own("trapezoid_physical"),
    "scipy `curve_fit`, one exponential": library_mono,
    "scipy `curve_fit`, with uptake": library_uptake,
    f"Hänscheid, scan nearest {HANSCHEID_H:g} h": hanscheid,
}

#: Runs in the other environment: its own fit from its own start, and the integral of its own curve.
THEIRS: Final = """
import json, sys, warnings
import numpy as np
from doodle.fits.fits import fit_tac
warnings.simplefilter("ignore")
found = []
asked = json.load(sys.stdin)
for times, activity, order in asked["curves"]:
    try:
        p, _ = fit_tac(np.array(times), np.array(activity), decayconst=asked["decay_constant_per_h"], exp_order=order)
        found.append(float(p[0] / p[1] if order == 1 else p[0] * (1 / p[1] - 1 / p[2])))
    except Exception:
        found.append(None)
json.dump(found, sys.stdout)
"""
ORDERS: Final = {"PyTheranostics 0.1, one exponential": 1, "PyTheranostics 0.1, with uptake": -2}


def estimates(case: Case, samples: Array, python: str | None) -> dict[str, Array | None]:
    """TIA by every way for activities ``(draws, n)``; NaN where a way fails, None where it was not run."""
    times = np.array(case.times_h)
    found: dict[str, Array | None] = {}
    for name, way in WAYS.items():
        found[name] = np.array([_guarded(way, times, activity) for activity in samples])
    for name, order in ORDERS.items():
        if python is None:
            found[name] = None
            continue
        curves = [[times.tolist(), activity.tolist(), order] for activity in samples]
        asked = json.dumps({"decay_constant_per_h": SLOWEST_PER_H, "curves": curves})
        done = subprocess.run([python, "-c", THEIRS], input=asked, capture_output=True, text=True, check=True)
        found[name] = np.array([nan if value is None else value for value in json.loads(done.stdout)])
    return found


def _guarded(way: Callable[[Array, Array], float], times: Array, activity: Array) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", OptimizeWarning)
        warnings.simplefilter("ignore", RuntimeWarning)
        try:
            return way(times, activity)
        except (RuntimeError, TypeError, ValueError):
            # No convergence, or fewer scans than parameters.
            return nan


# The page -----------------------------------------------------------------------------------------


def case_table(case: Case, python: str | None) -> str:
    curve = case.curve
    clean = np.array([curve.activity_mbq(t) for t in case.times_h])
    # Both signs of each draw: the median of so few is then nearer to that of many.
    half = np.random.Generator(np.random.PCG64(SEED)).standard_normal((DRAWS // 2, clean.size))
    samples = clean * (1.0 + NOISE_REL * np.concatenate([np.zeros((1, clean.size)), half, -half]))
    lines = [
        f"**{case.title}** (" + ", ".join(f"{t:g}" for t in case.times_h) + " h)",
        "",
        "| way | bias without noise, % | median bias, % | 16 to 84 %, % | beyond 10 %, % | failed, % |",
        "|---|---|---|---|---|---|",
    ]
    for name, values in estimates(case, samples, python).items():
        if values is None:
            lines.append(f"| {name} | not run | | | | |")
            continue
        error = 100.0 * (values / curve.tia_mbq_h - 1.0)
        good = error[1:][np.isfinite(error[1:])]
        failed = 100.0 * (1.0 - good.size / DRAWS)
        if good.size == 0:
            lines.append(f"| {name} | n/a | n/a | n/a | n/a | {failed:.0f} |")
            continue
        low, median, high = np.percentile(good, [16.0, 50.0, 84.0])
        beyond = 100.0 * np.mean(np.abs(good) > 10.0)
        lines.append(
            f"| {name} | {error[0]:+.1f} | {median:+.1f} | {low:+.1f} to {high:+.1f} | {beyond:.0f} | {failed:.0f} |"
        )
    return "\n".join(lines)


def patient_table() -> str:
    """The SNMMI challenge patient: four scans, and the integrals that PyTheranostics lists."""
    lines = [
        "**SNMMI challenge patient** (3.7, 27.7, 103.1, 124.0 h)",
        "",
        "| region | listed: TIA, MBq h | half-life, h | doseledger: TIA | half-life, h | chi-square | mono: TIA "
        "| two scans: TIA |",
        "|---|---|---|---|---|---|---|---|",
    ]
    with DATA.open(encoding="utf-8", newline="") as stream:
        rows = {row[""]: row for row in csv.DictReader(stream)}
    for region, row in rows.items():
        times, activity = (np.array(ast.literal_eval(row[key])) for key in ("Time_hr", "Activity_MBq"))
        listed = float(row["TIA_MBq_h"])
        listed_h = log(2.0) / float(ast.literal_eval(row["Lambda_eff"])[0])
        as_usual = fit_excretion if region in EXCRETED else fit_curve
        fit = as_usual(times, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=NOISE_REL * activity)
        mono = fit_curve(times, activity, half_life_h=HALF_LIFE_H, model="mono")
        two = fit_curve(times[:2], activity[:2], half_life_h=HALF_LIFE_H)
        own, one, early = (f"{f.tia_mbq_h:.0f} ({100 * (f.tia_mbq_h / listed - 1):+.1f} %)" for f in (fit, mono, two))
        lines.append(
            f"| {EXCRETED.get(region, region.replace('_', ' ').lower())} | {listed:.0f} | {listed_h:.1f} | {own} "
            f"| {fit.effective_half_life_h:.1f} | {fit.chi2:.1f} | {one} | {early} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("page", type=Path, nargs="?")
    parser.add_argument("--pytheranostics", metavar="PYTHON")
    parser.add_argument("--patient", action="store_true", help="print the table of the patient alone")
    arguments = parser.parse_args()
    if arguments.patient:
        print(patient_table())
        return
    if arguments.page is None:
        parser.error("the page is missing")
    tables = [case_table(case, arguments.pytheranostics) for case in CASES]
    if DATA.is_file():
        tables.append(patient_table())
    text = arguments.page.read_text(encoding="utf-8")
    before, after = text.split(START)[0], text.split(END)[1]
    arguments.page.write_text(before + START + "\n\n" + "\n\n".join(tables) + "\n\n" + END + after, encoding="utf-8")


if __name__ == "__main__":
    main()
