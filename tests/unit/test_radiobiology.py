"""G factor, BED and EQD2: closed forms, numerical integration of any curve, limits, bad input."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest
from scipy.integrate import dblquad

from doseledger.errors import QuantityError
from doseledger.statistics.radiobiology import bed_gy, eqd2_gy, g_factor

KIDNEY: dict[str, Any] = {"alpha_beta_gy": 2.5, "repair_half_time_h": 2.8, "effective_half_life_h": 51.6}
#: Dose rates as amplitudes and rates per hour: two phases of clearance, and uptake with clearance.
CURVES = {
    "two phases": ([0.6, 0.4], [log(2.0) / 10.0, log(2.0) / 60.0]),
    "with uptake": ([1.0, -1.0], [log(2.0) / 51.6, log(2.0) / 2.5]),
}


def test_g_of_one_exponential_in_closed_form() -> None:
    assert g_factor(repair_half_time_h=2.8, effective_half_life_h=51.6) == pytest.approx(2.8 / (2.8 + 51.6), rel=1e-14)
    same = g_factor(repair_half_time_h=2.8, amplitudes=[7.0], rates_per_h=[log(2.0) / 51.6])
    assert same == pytest.approx(2.8 / (2.8 + 51.6), rel=1e-14)


@pytest.mark.parametrize("name", CURVES)
def test_g_of_any_curve_is_the_double_integral(name: str) -> None:
    """G = (2/D^2) int_0^inf R(t) int_0^t R(w) exp(-mu (t - w)) dw dt (Lea and Catcheside)."""
    amplitudes, rates = (np.array(v) for v in CURVES[name])
    mu = log(2.0) / 2.8

    def rate(t: float) -> float:
        return float(amplitudes @ np.exp(-rates * t))

    integral, error = dblquad(lambda w, t: rate(t) * rate(w) * np.exp(-mu * (t - w)), 0.0, 600.0, 0.0, lambda t: t)
    dose = float((amplitudes / rates).sum())
    found = g_factor(repair_half_time_h=2.8, amplitudes=amplitudes, rates_per_h=rates)
    assert error < 1e-6 * integral
    assert found == pytest.approx(2.0 * integral / dose**2, rel=1e-3)


def test_splitting_a_curve_into_equal_parts_changes_nothing() -> None:
    amplitudes, rates = CURVES["two phases"]
    split = g_factor(repair_half_time_h=2.8, amplitudes=[0.3, 0.3, 0.4], rates_per_h=[rates[0], rates[0], rates[1]])
    assert split == pytest.approx(g_factor(repair_half_time_h=2.8, amplitudes=amplitudes, rates_per_h=rates), rel=1e-13)
    scaled = g_factor(repair_half_time_h=2.8, amplitudes=[60.0, 40.0], rates_per_h=rates)
    assert scaled == pytest.approx(split, rel=1e-13)


def test_g_is_one_for_an_instant_and_zero_for_a_protracted_dose() -> None:
    assert g_factor(repair_half_time_h=2.8, effective_half_life_h=1e-6) == pytest.approx(1.0, abs=1e-6)
    assert g_factor(repair_half_time_h=1e-6, effective_half_life_h=51.6) == pytest.approx(0.0, abs=1e-6)


def test_an_acute_dose_of_two_gray_is_its_own_equivalent() -> None:
    acute = KIDNEY | {"effective_half_life_h": 1e-9}
    assert eqd2_gy(2.0, **acute) == pytest.approx(2.0, rel=1e-6)
    assert bed_gy(2.0, **acute) == pytest.approx(2.0 * (1.0 + 2.0 / 2.5), rel=1e-6)


def test_bed_takes_any_curve_too() -> None:
    amplitudes, rates = CURVES["with uptake"]
    curve: dict[str, Any] = {"repair_half_time_h": 2.8, "amplitudes": amplitudes, "rates_per_h": rates}
    g = g_factor(**curve)
    assert bed_gy(5.0, alpha_beta_gy=2.5, **curve) == pytest.approx(5.0 * (1.0 + g * 5.0 / 2.5))
    assert eqd2_gy(5.0, alpha_beta_gy=2.5, **curve) == pytest.approx(5.0 * (1.0 + g * 2.0) / (1.0 + 2.0 / 2.5))
    assert bed_gy(0.0, alpha_beta_gy=2.5, **curve) == 0.0


GOOD_G: dict[str, Any] = {"repair_half_time_h": 2.8, "effective_half_life_h": 51.6}
GOOD_CURVE: dict[str, Any] = {"repair_half_time_h": 2.8, "amplitudes": [1.0], "rates_per_h": [0.01]}


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"repair_half_time_h": 2.8}, "either an effective half-life or amplitudes"),
        (GOOD_G | {"amplitudes": [1.0], "rates_per_h": [0.01]}, "either"),
        (GOOD_G | {"rates_per_h": [0.01]}, "either"),
        ({"repair_half_time_h": 2.8, "amplitudes": [1.0]}, "either"),
        (GOOD_G | {"repair_half_time_h": 0.0}, "repair half-time"),
        (GOOD_G | {"repair_half_time_h": float("nan")}, "repair half-time"),
        (GOOD_G | {"effective_half_life_h": -1.0}, "effective half-life"),
        (GOOD_CURVE | {"rates_per_h": [0.0]}, "rates"),
        (GOOD_CURVE | {"rates_per_h": [-0.01]}, "rates"),
        (GOOD_CURVE | {"rates_per_h": [0.01, 0.02]}, "rates"),
        (GOOD_CURVE | {"amplitudes": [], "rates_per_h": []}, "rates"),
        (GOOD_CURVE | {"amplitudes": [-1.0]}, "dose of the curve"),
        (GOOD_CURVE | {"amplitudes": [float("nan")]}, "dose of the curve"),
    ],
    ids=repr,
)
def test_a_bad_curve_is_refused(arguments: dict[str, Any], word: str) -> None:
    with pytest.raises(QuantityError, match=word):
        g_factor(**arguments)


@pytest.mark.parametrize("function", [bed_gy, eqd2_gy])
@pytest.mark.parametrize(
    ("dose", "change", "word"),
    [
        (-1.0, {}, "absorbed dose"),
        (float("nan"), {}, "absorbed dose"),
        (5.0, {"alpha_beta_gy": 0.0}, "alpha/beta"),
        (5.0, {"alpha_beta_gy": -2.5}, "alpha/beta"),
        (5.0, {"repair_half_time_h": -2.8}, "repair half-time"),
    ],
)
def test_a_bad_dose_or_parameter_is_refused(function: Any, dose: float, change: dict[str, Any], word: str) -> None:
    with pytest.raises(QuantityError, match=word):
        function(dose, **KIDNEY | change)
