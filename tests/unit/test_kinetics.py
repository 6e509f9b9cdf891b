"""Curves of one region and single scans: exact cases, bounds, statuses, uncertainties, bad input."""

from __future__ import annotations

from functools import partial
from math import e, exp, inf, isfinite, isnan, log
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.optimize import curve_fit

from doseledger.errors import QuantityError, UnknownNameError
from doseledger.kinetics import (
    DEFAULT_RELATIVE_UNCERTAINTY,
    METHODS,
    CurveFit,
    KineticPrior,
    fit_curve,
    single_time_point,
)
from doseledger.kinetics.curves import BOUND_CHI2, CHI2_95, Z95, log_symmetric_interval

#: 177Lu, ICRP-107.
HALF_LIFE_H = 159.528
SLOWEST_PER_H = log(2.0) / HALF_LIFE_H
TIMES_H = np.array([4.0, 24.0, 96.0, 168.0])
PRIOR = KineticPrior("test", effective_half_life_h=50.0, ln_sd=0.3, sha256="")


def mono(times_h: NDArray[np.float64], amplitude_mbq: float, half_life_h: float) -> NDArray[np.float64]:
    return np.asarray(amplitude_mbq * np.exp(-log(2.0) / half_life_h * times_h))


def noisy(seed: int, sd_rel: float = 0.05, half_life_h: float = 50.0) -> NDArray[np.float64]:
    rng = np.random.Generator(np.random.PCG64(seed))
    return mono(TIMES_H, 200.0, half_life_h) * (1.0 + sd_rel * rng.standard_normal(TIMES_H.size))


#: The bounded single exponential: most statements below are about it, and hold for every scan time.
fit_mono = partial(fit_curve, model="mono")


# The fit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("half_life_h", [2.0, 20.0, 50.0, 120.0])
@pytest.mark.parametrize("count", [2, 3, 4])
def test_noise_free_data_are_met(half_life_h: float, count: int) -> None:
    fit = fit_mono(TIMES_H[:count], mono(TIMES_H[:count], 200.0, half_life_h), half_life_h=HALF_LIFE_H)
    assert fit.model == "mono"
    assert fit.parameter_names == ("amplitude_mbq", "rate_per_h")
    assert fit.parameters == pytest.approx((200.0, log(2.0) / half_life_h), rel=1e-6)
    assert fit.tia_mbq_h == pytest.approx(200.0 * half_life_h / log(2.0), rel=1e-6)
    assert fit.effective_half_life_h == pytest.approx(half_life_h, rel=1e-6)
    assert fit.extrapolated_fraction == pytest.approx(0.5 ** (TIMES_H[count - 1] / half_life_h), rel=1e-5, abs=1e-12)
    assert fit.chi2 == pytest.approx(0.0, abs=1e-9)
    assert (fit.dof, fit.status) == (count - 2, "saturated" if count == 2 else "ok")
    assert not fit.rate_at_bound
    assert fit.uptake_half_life_h is None


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize("stated", [True, False])
def test_the_fit_is_that_of_scipy(seed: int, stated: bool) -> None:
    activity = noisy(seed)
    sd = np.array([3.0, 8.0, 2.0, 1.0]) if stated else DEFAULT_RELATIVE_UNCERTAINTY * activity
    fit = fit_mono(TIMES_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd if stated else None)
    parameters, covariance = curve_fit(
        lambda t, a, rate: a * np.exp(-rate * t), TIMES_H, activity, (200.0, 0.014), sigma=sd, absolute_sigma=True
    )
    assert fit.status == "ok"
    assert fit.parameters == pytest.approx(parameters, rel=1e-4)
    assert fit.covariance == pytest.approx(covariance, rel=2e-3)
    residuals = (activity - mono(TIMES_H, parameters[0], log(2.0) / parameters[1])) / sd
    assert fit.chi2 == pytest.approx(float(residuals @ residuals), rel=1e-6)
    assert fit.tia_mbq_h == pytest.approx(parameters[0] / parameters[1], rel=1e-4)
    gradient = np.array([1.0 / parameters[1], -parameters[0] / parameters[1] ** 2])
    assert fit.u_tia_mbq_h == pytest.approx(float(np.sqrt(gradient @ covariance @ gradient)), rel=2e-3)


def test_the_covariance_is_that_of_repeated_measurements() -> None:
    truth = mono(TIMES_H, 200.0, 50.0)
    sd = DEFAULT_RELATIVE_UNCERTAINTY * truth
    stated = fit_mono(TIMES_H, truth, half_life_h=HALF_LIFE_H, u_activity_mbq=sd)
    rng = np.random.Generator(np.random.PCG64(2))
    found = np.array(
        [
            (*fit.parameters, fit.tia_mbq_h)
            for fit in (
                fit_mono(TIMES_H, truth + sd * rng.standard_normal(4), half_life_h=HALF_LIFE_H, u_activity_mbq=sd)
                for _ in range(1200)
            )
        ]
    )
    # 1200 repetitions know a standard deviation to 2 %.
    assert np.sqrt(np.diag(stated.covariance)) == pytest.approx(found[:, :2].std(axis=0, ddof=1), rel=0.10)
    assert stated.u_tia_mbq_h == pytest.approx(found[:, 2].std(ddof=1), rel=0.10)
    correlation = stated.covariance[0, 1] / np.sqrt(stated.covariance[0, 0] * stated.covariance[1, 1])
    assert correlation == pytest.approx(np.corrcoef(found[:, 0], found[:, 1])[0, 1], abs=0.05)
    low, high = stated.tia_interval_mbq_h
    assert np.mean((found[:, 2] > low) & (found[:, 2] < high)) == pytest.approx(0.95, abs=0.03)


def test_the_order_of_the_scans_does_not_matter() -> None:
    activity, sd = noisy(1), np.array([5.0, 4.0, 3.0, 2.0])
    order = np.array([2, 0, 3, 1])
    first = fit_mono(TIMES_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd)
    second = fit_mono(TIMES_H[order], activity[order], half_life_h=HALF_LIFE_H, u_activity_mbq=sd[order])
    assert second.parameters == first.parameters
    assert second.tia_interval_mbq_h == first.tia_interval_mbq_h
    assert second.extrapolated_fraction == first.extrapolated_fraction


def test_the_covariance_is_never_shrunk_and_never_scaled_by_two_degrees_of_freedom() -> None:
    """Four scans leave two degrees of freedom: their scatter says nothing about the uncertainty."""
    scattered = mono(TIMES_H, 200.0, 50.0) * np.array([1.3, 0.7, 1.3, 0.7])
    four = fit_mono(TIMES_H, scattered, half_life_h=HALF_LIFE_H)
    stated = fit_mono(TIMES_H, scattered, half_life_h=HALF_LIFE_H, u_activity_mbq=0.05 * scattered)
    assert four.chi2 > 10 * four.dof
    assert four.covariance == pytest.approx(stated.covariance)
    times = np.arange(10.0, 110.0, 10.0)
    alternating = np.where(np.arange(times.size) % 2 == 0, 1.3, 0.7)
    assumed = fit_mono(times, mono(times, 200.0, 50.0) * alternating, half_life_h=HALF_LIFE_H)
    known = fit_mono(
        times,
        mono(times, 200.0, 50.0) * alternating,
        half_life_h=HALF_LIFE_H,
        u_activity_mbq=0.05 * mono(times, 200.0, 50.0) * alternating,
    )
    assert assumed.covariance == pytest.approx(known.covariance * assumed.chi2 / assumed.dof)
    smooth = fit_mono(times, mono(times, 200.0, 50.0), half_life_h=HALF_LIFE_H)
    exact = 0.05 * mono(times, 200.0, 50.0)
    as_stated = fit_mono(times, mono(times, 200.0, 50.0), half_life_h=HALF_LIFE_H, u_activity_mbq=exact)
    assert smooth.covariance == pytest.approx(as_stated.covariance, rel=1e-6)


@pytest.mark.parametrize(("count", "defined"), [(2, False), (3, False), (4, True)])
def test_aicc_is_defined_from_n_of_k_plus_two(count: int, defined: bool) -> None:
    fit = fit_mono(TIMES_H[:count], noisy(3)[:count], half_life_h=HALF_LIFE_H)
    assert (fit.aicc is not None) == defined
    if fit.aicc is not None:
        # chi2 + 2k + 2k(k + 1)/(n - k - 1) with k = 2 parameters and n = 4 scans.
        assert fit.aicc == pytest.approx(fit.chi2 + 4.0 + 12.0 / 1.0)


def test_without_stated_uncertainty_it_is_five_percent_but_never_zero() -> None:
    activity = np.array([100.0, 50.0, 0.0])
    fit = fit_mono([4.0, 24.0, 168.0], activity, half_life_h=HALF_LIFE_H)
    # A zero counts as known to 5 % of 1 % of the largest activity.
    sd = [5.0, 2.5, 0.05]
    stated = fit_mono([4.0, 24.0, 168.0], activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd)
    assert fit.parameters == pytest.approx(stated.parameters)
    assert fit.covariance == pytest.approx(stated.covariance)


# The bound of physical decay ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "activity",
    [
        [100.0, 100.1, 99.9, 100.0],
        [98.0, 99.0, 100.0, 101.0],
        [1e-3, 1.0, 10.0, 100.0],
        [100.0, 100.0, 100.0, 100.0],
    ],
    ids=["almost flat", "rising", "steeply rising", "flat"],
)
def test_nothing_clears_more_slowly_than_physical_decay(activity: list[float]) -> None:
    """Without the bound an almost flat curve integrates to 1e14 MBq h."""
    fit = fit_mono([3.7, 27.7, 103.1, 124.0], activity, half_life_h=HALF_LIFE_H)
    assert (fit.status, fit.rate_at_bound) == ("at_bound", True)
    assert fit.parameters[1] == SLOWEST_PER_H
    assert fit.effective_half_life_h == pytest.approx(HALF_LIFE_H)
    assert fit.tia_mbq_h == fit.parameters[0] / SLOWEST_PER_H
    assert fit.tia_mbq_h < 2.0 * max(activity) * HALF_LIFE_H / log(2.0)


def test_two_points_that_rise_are_at_the_bound_too() -> None:
    fit = fit_mono([24.0, 96.0], [50.0, 51.0], half_life_h=HALF_LIFE_H)
    assert (fit.status, fit.parameters[1]) == ("at_bound", SLOWEST_PER_H)


def test_at_the_bound_only_the_amplitude_has_a_covariance() -> None:
    activity = mono(TIMES_H, 200.0, HALF_LIFE_H)
    sd = np.full(4, 5.0)
    fit = fit_mono(TIMES_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd)
    weight = np.sum(np.exp(-2.0 * SLOWEST_PER_H * TIMES_H) / sd**2)
    assert fit.covariance == pytest.approx(np.diag([1.0 / weight, 0.0]))


def test_at_the_bound_the_interval_is_one_sided_by_profile_likelihood() -> None:
    activity = mono(TIMES_H, 200.0, HALF_LIFE_H)
    sd = 0.05 * activity
    fit = fit_mono(TIMES_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd)
    low, high = fit.tia_interval_mbq_h
    assert high == pytest.approx(log_symmetric_interval(fit.tia_mbq_h, fit.u_tia_mbq_h)[1])
    assert low < 0.95 * log_symmetric_interval(fit.tia_mbq_h, fit.u_tia_mbq_h)[0]

    # Its lower end is the TIA of the rate at which chi-square has risen by 3.84: found here by brute force.
    rates = SLOWEST_PER_H * np.linspace(1.0, 2.0, 200_001)
    shape = np.exp(-np.outer(rates, TIMES_H)) / sd
    amplitude = shape @ (activity / sd) / np.sum(shape**2, axis=1)
    chi2 = np.sum((activity / sd - amplitude[:, None] * shape) ** 2, axis=1)
    within = chi2 <= fit.chi2 + CHI2_95
    assert low == pytest.approx(float(np.min(amplitude[within] / rates[within])), rel=1e-4)


def test_the_bound_is_declared_within_a_hundredth_of_chi_square() -> None:
    """Just inside and just outside of the tolerance, by moving the true half-life."""
    statuses = set()
    for factor in np.linspace(0.90, 1.0, 41):
        activity = mono(TIMES_H, 200.0, factor * HALF_LIFE_H)
        sd = 0.05 * activity
        fit = fit_mono(TIMES_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd)
        shape = np.exp(-SLOWEST_PER_H * TIMES_H) / sd
        residual = activity / sd - shape * (shape @ (activity / sd)) / (shape @ shape)
        assert fit.rate_at_bound == (float(residual @ residual) <= BOUND_CHI2)
        statuses.add(fit.status)
    assert statuses == {"ok", "at_bound"}


@pytest.mark.parametrize(
    ("times_h", "activity"),
    [
        ([1.0, 24.0], [100.0, 0.0]),
        ([0.0, 24.0, 48.0], [100.0, 0.0, 0.0]),
        ([24.0, 96.0, 168.0], [100.0, 0.0, 0.0]),
        ([24.0, 48.0], [100.0, 1e-9]),
        ([24.0, 25.0], [100.0, 1e-30]),
    ],
)
def test_activity_in_the_first_scan_alone_does_not_explode(times_h: list[float], activity: list[float]) -> None:
    """Any fast clearance fits; the slowest one that fits is shown, and the status says so."""
    fit = fit_mono(times_h, activity, half_life_h=HALF_LIFE_H)
    assert fit.status == "not_converged"
    assert isfinite(fit.tia_mbq_h)
    assert isfinite(fit.u_tia_mbq_h)
    assert fit.tia_interval_mbq_h[0] <= fit.tia_mbq_h <= fit.tia_interval_mbq_h[1]
    assert np.all(np.isfinite(fit.covariance))
    if times_h[-1] > 2.0 * 24.0:
        assert fit.tia_mbq_h <= activity[0] * exp(SLOWEST_PER_H * times_h[0]) / SLOWEST_PER_H


def test_a_steep_but_measured_clearance_is_not_cut() -> None:
    fit = fit_mono([1.0, 4.0, 8.0], mono(np.array([1.0, 4.0, 8.0]), 200.0, 0.7), half_life_h=HALF_LIFE_H)
    assert (fit.status, fit.effective_half_life_h) == ("ok", pytest.approx(0.7, rel=1e-6))


# Statuses without a curve -------------------------------------------------------------------------


def assert_no_result(fit: CurveFit, status: str) -> None:
    assert fit.status == status
    assert fit.parameters == fit.parameter_names == ()
    assert fit.covariance.shape == (0, 0)
    assert all(isnan(v) for v in (fit.tia_mbq_h, fit.u_tia_mbq_h, *fit.tia_interval_mbq_h, fit.extrapolated_fraction))
    assert fit.aicc is None


def test_one_scan_is_too_few_for_a_curve() -> None:
    assert_no_result(fit_mono([24.0], [100.0], half_life_h=HALF_LIFE_H), "too_few_points")


def test_no_activity_gives_no_curve() -> None:
    assert_no_result(fit_mono(TIMES_H, np.zeros(4), half_life_h=HALF_LIFE_H), "not_converged")
    assert_no_result(single_time_point(24.0, 0.0, half_life_h=HALF_LIFE_H), "not_converged")


# Intervals ----------------------------------------------------------------------------------------


def test_the_interval_is_symmetric_in_the_logarithm() -> None:
    low, high = log_symmetric_interval(100.0, 10.0)
    assert low * high == pytest.approx(100.0**2)
    assert high / 100.0 == pytest.approx(exp(Z95 * 0.1))


def test_an_interval_that_says_nothing_is_all_positive_numbers() -> None:
    assert log_symmetric_interval(1.0, 1e9) == (0.0, inf)
    fit = fit_mono(TIMES_H, np.ones(4), half_life_h=HALF_LIFE_H, u_activity_mbq=1e9)
    assert isfinite(fit.tia_mbq_h)
    assert fit.tia_interval_mbq_h == (0.0, inf)


# One scan -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("u", [0.5, 0.75, 1.0, 1.4427, 2.0, 2.5])
def test_haenscheid_over_truth_is_2u_times_2_to_the_minus_u(u: float) -> None:
    half_life_h = 40.0
    activity = float(mono(np.array([u * half_life_h]), 200.0, half_life_h)[0])
    fit = single_time_point(u * half_life_h, activity, half_life_h=HALF_LIFE_H)
    assert fit.tia_mbq_h / (200.0 * half_life_h / log(2.0)) == pytest.approx(2.0 * u * 2.0**-u, rel=1e-12)
    assert fit.model == "hanscheid"
    assert fit.effective_half_life_h == pytest.approx(u * half_life_h)
    assert fit.extrapolated_fraction == pytest.approx(0.5)


@pytest.mark.parametrize("time_h", [160.0, 240.0])
def test_haenscheid_beyond_one_physical_half_life_is_at_the_bound(time_h: float) -> None:
    fit = single_time_point(time_h, 10.0, half_life_h=HALF_LIFE_H)
    assert (fit.status, fit.rate_at_bound) == ("at_bound", True)
    assert fit.tia_mbq_h == pytest.approx(10.0 * exp(SLOWEST_PER_H * time_h) / SLOWEST_PER_H)


@pytest.mark.parametrize("time_h", [24.0, 50.0 / log(2.0), 96.0])
def test_madsen_integrates_the_population_curve(time_h: float) -> None:
    fit = single_time_point(time_h, 100.0, half_life_h=HALF_LIFE_H, method="madsen", prior=PRIOR)
    rate = log(2.0) / 50.0
    assert fit.tia_mbq_h == pytest.approx(100.0 * exp(rate * time_h) / rate)
    assert fit.parameters == pytest.approx((100.0 * exp(rate * time_h), rate))
    # d ln TIA / d ln L = L t - 1: least sensitive to the half-life at t = 1/L.
    expected = np.hypot((rate * time_h - 1.0) * 0.3, DEFAULT_RELATIVE_UNCERTAINTY)
    assert fit.u_tia_mbq_h / fit.tia_mbq_h == pytest.approx(expected)
    if time_h * rate == pytest.approx(1.0):
        assert fit.tia_mbq_h == pytest.approx(e * 100.0 * time_h)
        assert fit.u_tia_mbq_h / fit.tia_mbq_h == pytest.approx(DEFAULT_RELATIVE_UNCERTAINTY)


def test_madsen_with_a_prior_slower_than_decay_is_at_the_bound() -> None:
    slow = KineticPrior("slow", effective_half_life_h=300.0, ln_sd=0.3, sha256="")
    fit = single_time_point(24.0, 100.0, half_life_h=HALF_LIFE_H, method="madsen", prior=slow)
    assert (fit.status, fit.parameters[1]) == ("at_bound", SLOWEST_PER_H)


@pytest.mark.parametrize(
    ("time_h", "half_life_h", "shortest_h"), [(24.0, HALF_LIFE_H, 8.5), (96.0, HALF_LIFE_H, 8.5), (24.0, 64.0, 7.873)]
)
def test_the_uncertainty_of_one_scan_is_that_of_activity_and_a_half_life_that_nobody_knows(
    time_h: float, half_life_h: float, shortest_h: float
) -> None:
    def error(ln_half_life: float) -> float:
        u = time_h / exp(ln_half_life)
        return log(2.0 * u * 2.0**-u)

    ends = log(shortest_h), log(half_life_h)
    square = quad(lambda x: error(x) ** 2, *ends)[0] / (ends[1] - ends[0])
    fit = single_time_point(time_h, 100.0, half_life_h=half_life_h, u_activity_mbq=20.0)
    assert fit.u_tia_mbq_h / fit.tia_mbq_h == pytest.approx(np.hypot(square**0.5, 0.20), rel=1e-3)
    assert fit.status == "saturated"


def test_one_scan_that_says_nothing_leaves_all_positive_numbers() -> None:
    vague = single_time_point(96.0, 1.0, half_life_h=HALF_LIFE_H, u_activity_mbq=1e6)
    assert vague.tia_interval_mbq_h == (0.0, inf)


@pytest.mark.parametrize("time_h", [4.0, 24.0, 48.0, 96.0, 200.0])
def test_the_interval_of_haenscheid_holds_95_percent_of_half_lives_that_nobody_knows(time_h: float) -> None:
    """A tail of 2.5 % on each side; noise and half-life are combined in quadrature, which is not exact."""
    rng = np.random.default_rng(7)
    half_lives = np.exp(rng.uniform(log(8.5), log(HALF_LIFE_H), 4000))
    seen = 100.0 * 2.0 ** (-time_h / half_lives) * np.exp(0.05 * rng.standard_normal(half_lives.size))
    one = single_time_point(time_h, 1.0, half_life_h=HALF_LIFE_H)
    low, high = (seen * end for end in one.tia_interval_mbq_h)
    true = 100.0 * half_lives / log(2.0)
    assert 0.93 < np.mean((low <= true) & (true <= high)) < 0.98
    # Too low by much, too high by little.
    assert one.tia_mbq_h / one.tia_interval_mbq_h[0] < 1.13
    assert one.tia_interval_mbq_h[1] / one.tia_mbq_h > 3.0


# Bad input ----------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {"times_h": [4.0, 24.0], "activity_mbq": [100.0, 50.0], "half_life_h": HALF_LIFE_H}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"activity_mbq": [100.0, -1.0]}, "negative"),
        ({"activity_mbq": [100.0, float("nan")]}, "not finite"),
        ({"activity_mbq": [100.0, inf]}, "not finite"),
        ({"activity_mbq": [100.0]}, "do not match"),
        ({"times_h": [4.0, 4.0]}, "same time"),
        ({"times_h": [-4.0, 4.0]}, "before the injection"),
        ({"times_h": [4.0, float("nan")]}, "not finite"),
        ({"times_h": [[4.0, 24.0]], "activity_mbq": [[1.0, 1.0]]}, "do not match"),
        ({"times_h": [], "activity_mbq": []}, "do not match"),
        ({"half_life_h": 0.0}, "half-life"),
        ({"half_life_h": -1.0}, "half-life"),
        ({"half_life_h": float("nan")}, "half-life"),
        ({"half_life_h": inf}, "half-life"),
        ({"u_activity_mbq": [1.0, 0.0]}, "uncertainty"),
        ({"u_activity_mbq": [1.0, -1.0]}, "uncertainty"),
        ({"u_activity_mbq": float("nan")}, "uncertainty"),
    ],
    ids=repr,
)
def test_bad_input_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(QuantityError, match=word) as caught:
        fit_curve(**GOOD | change)
    assert caught.value.code == "quantity_invalid"
    assert "found " in caught.value.sentence


def test_an_unknown_model_is_refused_with_those_that_exist() -> None:
    with pytest.raises(UnknownNameError, match=r"found 'tri'; expected \['auto', 'mono', 'mono_uptake', "):
        fit_curve(**GOOD, model="tri")


@pytest.mark.parametrize(
    ("change", "kind", "word"),
    [
        ({"time_h": 0.0}, QuantityError, "not after the injection"),
        ({"time_h": -1.0}, QuantityError, "not after the injection"),
        ({"time_h": float("nan")}, QuantityError, "not finite"),
        ({"activity_mbq": -1.0}, QuantityError, "negative"),
        ({"half_life_h": 0.0}, QuantityError, "half-life"),
        ({"u_activity_mbq": 0.0}, QuantityError, "uncertainty"),
        ({"method": "magic"}, UnknownNameError, "not known"),
        ({"method": "madsen"}, UnknownNameError, "needs a prior"),
        ({"method": "population"}, UnknownNameError, "needs a prior"),
    ],
    ids=repr,
)
def test_a_bad_single_scan_is_refused(change: dict[str, Any], kind: type[Exception], word: str) -> None:
    good: dict[str, Any] = {"time_h": 24.0, "activity_mbq": 100.0, "half_life_h": HALF_LIFE_H}
    with pytest.raises(kind, match=word):
        single_time_point(**good | change)
    assert METHODS == ("hanscheid", "madsen", "population")


@pytest.mark.parametrize(("half_life_h", "ln_sd"), [(0.0, 0.3), (-5.0, 0.3), (float("nan"), 0.3), (50.0, -0.1)])
def test_a_bad_prior_is_refused(half_life_h: float, ln_sd: float) -> None:
    with pytest.raises(QuantityError, match="prior"):
        KineticPrior("bad", half_life_h, ln_sd, "")
