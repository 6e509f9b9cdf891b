"""One scan without patients of one's own: Haenscheid's approximation against the prior that ships.

    python recipes/kinetics/one_scan_default.py

The patients, scans and noise of `protocols.py`, whose priors are learnt from the same cohort; here is what a
site has on its first day. Prints the table of docs/protocols.md.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from math import exp, log
from statistics import median

import numpy as np
from protocols import REGIONS, cycles

from doseledger.io.priors import default_prior
from doseledger.kinetics import POPULATION, CurveFit, class_of, single_time_point
from doseledger.steps.protocols import FullCycle, schedule_of

ALL_REGIONS = (*REGIONS, "spleen", "parotid_left", "parotid_right", "submandibular_left", "lumbar_marrow")
#: What a clinic would choose: the first scan is too early for any of them, the last one too late.
MIDDLE = ("24 h", "48 h", "96 h")
ORDER = ("4 h", *MIDDLE, "168 h", "24 to 96 h", "all")
#: ln(estimate/truth), and whether the 95 % interval holds the truth.
Found = tuple[float, bool]
Key = tuple[str, str, str]


def trials() -> Iterator[tuple[Key, Found, Found | None]]:
    """Every scan of every curve alone, by both ways; None where the prior has no value."""
    prior = default_prior()
    for cycle in cycles(ALL_REGIONS):
        entry = prior.find(cycle.radiopharmaceutical, cycle.region)
        for time_h, value, u_mbq in zip(
            cycle.samples.times_h, cycle.samples.activity_mbq, cycle.samples.u_activity_mbq, strict=True
        ):
            if value <= 0.0:
                continue
            one = (float(time_h), float(value))
            common = {"half_life_h": cycle.half_life_h, "u_activity_mbq": float(u_mbq)}
            common["administered_mbq"] = cycle.administered_mbq
            key = (cycle.radiopharmaceutical, class_of(cycle.region), schedule_of([time_h]))
            simple = _found(single_time_point(*one, **common), cycle)
            if entry is None:
                yield key, simple, None
            else:
                yield key, simple, _found(single_time_point(*one, **common, method=POPULATION, prior=entry), cycle)


def _found(fit: CurveFit, cycle: FullCycle) -> Found:
    assert cycle.true_tia_mbq_h is not None
    low, high = fit.tia_interval_mbq_h
    return log(fit.tia_mbq_h / cycle.true_tia_mbq_h), low <= cycle.true_tia_mbq_h <= high


def cell(own: list[Found]) -> str:
    """Median error, rms of ln, share beyond 20 %, share inside the interval, in %."""
    errors = np.array([error for error, _ in own])
    numbers = (
        100.0 * float(np.sqrt(np.square(errors).mean())),
        100.0 * float((np.abs(np.exp(errors) - 1.0) > 0.2).mean()),
        100.0 * sum(inside for _, inside in own) / len(own),
    )
    return f"{100.0 * (exp(median(errors)) - 1.0):+.0f} / " + " / ".join(f"{n:.0f}" for n in numbers)


def main() -> None:
    with_entry: dict[tuple[str, str], list[tuple[Found, Found]]] = defaultdict(list)
    without: dict[str, list[Found]] = defaultdict(list)
    studied: list[Found] = []
    for (drug, region, schedule), simple, informed in trials():
        if region in {class_of(name) for name in REGIONS}:
            studied.append(simple)
        if informed is None:
            without[schedule].append(simple)
            continue
        drugs = (drug, "both")
        schedules = (schedule, *(("24 to 96 h",) if schedule in MIDDLE else ()), "all")
        for key in ((d, s) for d in drugs for s in schedules):
            with_entry[key].append((simple, informed))
    print("| radiopharmaceutical | scan | n | hanscheid | population |\n|---|---|---|---|---|")
    for drug, schedule in sorted(with_entry, key=lambda key: (key[0] == "both", key[0], ORDER.index(key[1]))):
        own = with_entry[(drug, schedule)]
        print(f"| {drug} | {schedule} | {len(own)} | {cell([a for a, _ in own])} | {cell([b for _, b in own])} |")
    for schedule, rest in without.items():
        print(f"| no entry | {schedule} | {len(rest)} | {cell(rest)} | n/a |")
    print(f"\nregions of protocols.py: {cell(studied)}")


if __name__ == "__main__":
    main()
