"""How often the selection on a whole cohort finds the model that made it.

    python recipes/kinetics/joint_models.py

Prints the table of docs/kinetics.md. Every half-life and share of every cycle is drawn of its own: nothing is shared
but the medians, so that the selection, which shares rates, has another family than the truth.
"""

from __future__ import annotations

from collections import Counter
from math import log
from typing import Final

import numpy as np

from doseledger.kinetics.curves import Samples, check_samples
from doseledger.kinetics.joint import compare_jointly

HALF_LIFE_H: Final = 159.528
NOISE_REL: Final = 0.05
COHORTS: Final = 20
FOUR: Final = (4.0, 24.0, 96.0, 168.0)
THREE: Final = (4.0, 24.0, 96.0)
SIX: Final = (1.0, 4.0, 12.0, 24.0, 96.0, 168.0)
#: Model that makes the curves, scans, and cycles of a cohort.
CASES: Final = (
    *((model, FOUR, cycles) for model in ("mono", "mono_uptake", "bi") for cycles in (5, 20)),
    *((model, THREE, 20) for model in ("mono", "mono_uptake", "bi")),
    *(("bi_uptake", SIX, cycles) for cycles in (5, 20)),
)


def draw(rng: np.random.Generator, model: str, times_h: tuple[float, ...]) -> Samples:
    """One cycle."""

    def spread(median: float, sd: float) -> float:
        return float(median * np.exp(sd * rng.standard_normal()))

    at = np.array(times_h) * (1.0 + 0.05 * rng.uniform(-1.0, 1.0, len(times_h)))
    slow, fast, rise = (log(2.0) / h for h in (min(spread(55.0, 0.2), 150.0), spread(9.0, 0.2), spread(1.5, 0.3)))
    share = min(spread(0.45, 0.2), 0.8) if model.startswith("bi") else 0.0
    shape = (1.0 - share) * np.exp(-slow * at) + share * np.exp(-fast * at)
    if model.endswith("uptake"):
        shape -= np.exp(-rise * at)
    activity = spread(100.0, 0.4) * shape * (1.0 + NOISE_REL * rng.standard_normal(at.size))
    return check_samples(at, activity, HALF_LIFE_H, NOISE_REL * activity)


def chosen(model: str, times_h: tuple[float, ...], cycles: int, seed: int) -> str:
    """Model of the highest weight on one simulated cohort."""
    rng = np.random.default_rng([16, seed])
    weights = compare_jointly([draw(rng, model, times_h) for _ in range(cycles)]).weights
    return max(weights, key=lambda name: weights[name])


def main() -> None:
    print("| truth | scans at, h | cycles | found of 20 | else |\n|---|---|---|---|---|")
    for model, times_h, cycles in CASES:
        found = Counter(chosen(model, times_h, cycles, seed) for seed in range(COHORTS))
        others = ", ".join(f"`{name}` {n}" for name, n in sorted(found.items()) if name != model) or "none"
        at = ", ".join(f"{t:g}" for t in times_h)
        print(f"| `{model}` | {at} | {cycles} | {found[model]} | {others} |", flush=True)


if __name__ == "__main__":
    main()
