"""One model chosen on many cycles is the one that made them; recipes/kinetics/joint_models.py has the shares."""

from __future__ import annotations

import runpy
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doseledger.errors import QuantityError
from doseledger.kinetics.curves import Samples, check_samples
from doseledger.kinetics.joint import compare_jointly, uptake_spread

HALF_LIFE_H = 159.528
FOUR = np.array([4.0, 24.0, 96.0, 168.0])
#: Cohorts per model; of twenty, nine in ten had to be found.
COHORTS = 3


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    return runpy.run_path(str(Path(__file__).parents[2] / "recipes/kinetics/joint_models.py"))


@pytest.mark.parametrize(
    ("model", "times"), [("mono", "FOUR"), ("mono_uptake", "FOUR"), ("bi", "FOUR"), ("bi_uptake", "SIX")]
)
def test_the_model_that_made_a_cohort_is_found(recipe: dict[str, Any], model: str, times: str) -> None:
    assert [recipe["chosen"](model, recipe[times], 20, seed) for seed in range(COHORTS)] == [model] * COHORTS


def alike(uptake_h: float, half_lives_h: tuple[float, ...], times: np.ndarray = FOUR) -> list[Samples]:
    """Cycles without noise, with one uptake."""
    curves = [100.0 * (0.5 ** (times / h) - 0.5 ** (times / uptake_h)) for h in half_lives_h]
    return [check_samples(times, curve, HALF_LIFE_H, 0.05 * curve) for curve in curves]


def test_the_profile_is_that_of_separate_fits() -> None:
    """Without noise the shared uptake is the true one, and every cycle keeps its own terminal rate."""
    comparison = compare_jointly(alike(2.0, (40.0, 60.0, 90.0)))
    fit = comparison.fits["mono_uptake"]
    assert (comparison.n_cycles, comparison.n_scans, fit.parameters) == (3, 12, 8)
    assert fit.uptake_half_life_h == pytest.approx(2.0, rel=0.01)
    assert fit.chi2 < 1e-2 < comparison.fits["mono"].chi2


def test_the_criterion_is_the_formula() -> None:
    fit = compare_jointly(alike(2.0, (40.0, 60.0, 90.0))).fits["mono"]
    n, k = 12, 7
    assert fit.aicc == pytest.approx(n * log(fit.chi2 / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1))


def test_two_scans_have_no_say_and_one_cycle_alone_cannot_choose() -> None:
    pair = alike(2.0, (50.0,), np.array([24.0, 96.0]))
    with pytest.raises(QuantityError, match="enough scans"):
        compare_jointly(pair)
    alone = compare_jointly([*pair, *alike(2.0, (50.0,))])
    assert alone.n_cycles == 1
    assert alone.weights == {}


def test_the_spread_of_the_uptake_is_found() -> None:
    rng = np.random.default_rng(7)
    cycles = []
    for _ in range(40):
        uptake_h = 3.0 * np.exp(0.5 * rng.standard_normal())
        (cycle,) = alike(uptake_h, (60.0,), np.array([2.0, 4.0, 24.0, 96.0, 168.0]))
        noisy = cycle.activity_mbq * (1.0 + 0.02 * rng.standard_normal(cycle.times_h.size))
        cycles.append(check_samples(cycle.times_h, noisy, HALF_LIFE_H, 0.02 * noisy))
    fit = compare_jointly(cycles).fits["mono_uptake"]
    median_h, ln_sd = uptake_spread(cycles, fit)
    assert median_h == pytest.approx(3.0, rel=0.2)
    assert 0.3 <= ln_sd <= 0.7
