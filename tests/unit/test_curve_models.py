"""Curve models beyond one exponential: recovery, bounds, intervals, and which of them the scans choose."""

from __future__ import annotations

from math import exp, isfinite, log, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.optimize import minimize

from doseledger.errors import QuantityError
from doseledger.kinetics import (
    REGISTRY,
    CurveFit,
    UptakePrior,
    compare_models,
    exponentials,
    fit_curve,
)
from doseledger.kinetics.curves import BOUND_CHI2, CHI2_95, log_symmetric_interval
from doseledger.kinetics.fit import UPTAKE_SEEN_HALF_LIVES

HALF_LIFE_H = 159.528
SLOWEST_PER_H = log(2.0) / HALF_LIFE_H
TIMES_H = np.array([4.0, 24.0, 96.0, 168.0])
MANY_H = np.array([1.0, 4.0, 10.0, 24.0, 48.0, 96.0, 168.0, 240.0])

Array = NDArray[np.float64]


def curve(times_h: Array, phases: dict[float, float], uptake_h: float | None = None) -> tuple[Array, float]:
    """Activities and TIA of phases {half-life in h: MBq}, which fill up with `uptake_h`."""
    terms = [(a, log(2.0) / h) for h, a in phases.items()]
    if uptake_h is not None:
        terms.append((-sum(phases.values()), log(2.0) / uptake_h))
    values = sum(a * np.exp(-rate * times_h) for a, rate in terms)
    return np.asarray(values), sum(a / rate for a, rate in terms)


TRUTHS = {
    "mono": ({60.0: 200.0}, None),
    "mono_uptake": ({60.0: 200.0}, 3.0),
    "bi": ({60.0: 120.0, 9.0: 80.0}, None),
    "bi_uptake": ({60.0: 120.0, 9.0: 80.0}, 1.5),
}


# Each model ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", TRUTHS)
def test_noise_free_curves_of_the_own_family_are_met(model: str) -> None:
    phases, uptake_h = TRUTHS[model]
    activity, tia = curve(MANY_H, phases, uptake_h)
    fit = fit_curve(MANY_H, activity, half_life_h=HALF_LIFE_H, model=model)
    assert fit.status == "ok"
    assert fit.prior is None
    assert fit.chi2 == pytest.approx(0.0, abs=1e-8)
    assert fit.tia_mbq_h == pytest.approx(tia, rel=1e-6)
    assert fit.effective_half_life_h == pytest.approx(60.0, rel=1e-4)
    assert fit.uptake_half_life_h == (None if uptake_h is None else pytest.approx(uptake_h, rel=1e-4))
    amplitudes, rates = exponentials(fit.parameter_names, fit.parameters)
    assert sum(a / r for a, r in zip(amplitudes, rates, strict=True)) == pytest.approx(tia, rel=1e-6)
    later = sum(a / r * exp(-r * MANY_H[-1]) for a, r in zip(amplitudes, rates, strict=True))
    assert fit.extrapolated_fraction == pytest.approx(later / tia, rel=1e-4)


@pytest.mark.parametrize("model", ["mono_uptake", "bi", "bi_uptake"])
def test_no_search_finds_a_better_point(model: str) -> None:
    """A general minimiser, started at the truth and away from it, ends no lower than the fit."""
    phases, uptake_h = TRUTHS[model]
    truth, _ = curve(MANY_H, phases, uptake_h)
    rng = np.random.Generator(np.random.PCG64(7))
    activity = truth * (1.0 + 0.05 * rng.standard_normal(truth.size))
    sd = 0.05 * truth
    fit = fit_curve(MANY_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd, model=model)
    count = len(phases)

    def chi2(x: Array) -> float:
        """Amplitudes and differences of rates by their logarithms: the same constraints."""
        a, rates = np.exp(x[:count]), SLOWEST_PER_H + np.cumsum(np.exp(x[count:]))
        value = sum(a[i] * np.exp(-rates[i] * MANY_H) for i in range(count))
        if uptake_h is not None:
            value = value - a.sum() * np.exp(-rates[-1] * MANY_H)
        return float(np.sum(((activity - value) / sd) ** 2))

    rates = np.sort([log(2.0) / h for h in phases])
    steps = np.diff([SLOWEST_PER_H, *rates, *([] if uptake_h is None else [log(2.0) / uptake_h])])
    start = np.log([*phases.values(), *steps])
    for shift in (0.0, 0.3, -0.3):
        options = {"maxiter": 20000, "maxfev": 20000, "xatol": 1e-8, "fatol": 1e-8}
        found = minimize(chi2, start + shift, method="Nelder-Mead", options=options)
        assert fit.chi2 <= found.fun + 1e-5


@pytest.mark.parametrize("model", ["mono_uptake", "bi", "bi_uptake"])
def test_the_uncertainty_is_that_of_repeated_measurements(model: str) -> None:
    phases, uptake_h = TRUTHS[model]
    truth, tia = curve(MANY_H, phases, uptake_h)
    sd = 0.02 * truth
    stated = fit_curve(MANY_H, truth, half_life_h=HALF_LIFE_H, u_activity_mbq=sd, model=model)
    rng = np.random.Generator(np.random.PCG64(3))
    fits = [
        fit_curve(MANY_H, truth + sd * rng.standard_normal(8), half_life_h=HALF_LIFE_H, u_activity_mbq=sd, model=model)
        for _ in range(100)
    ]
    found = np.array([fit.tia_mbq_h for fit in fits])
    # 100 repetitions know a standard deviation to 7 %.
    assert stated.u_tia_mbq_h == pytest.approx(found.std(ddof=1), rel=0.20)
    assert found.mean() == pytest.approx(tia, rel=3.5 * stated.u_tia_mbq_h / tia / sqrt(100))


def test_an_empty_phase_leaves_one_exponential() -> None:
    """A convex sum cannot meet a concave curve: the second amplitude is zero, never negative."""
    activity, _ = curve(MANY_H, {60.0: 200.0}, 3.0)
    sd = 0.05 * activity
    fit = fit_curve(MANY_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd, model="bi")
    single = fit_curve(MANY_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd, model="mono")
    assert fit.parameters[1] == 0.0
    assert fit.tia_mbq_h == pytest.approx(single.tia_mbq_h, rel=1e-6)
    assert fit.u_tia_mbq_h == pytest.approx(single.u_tia_mbq_h, rel=1e-4)
    assert fit.effective_half_life_h == pytest.approx(single.effective_half_life_h, rel=1e-6)


@pytest.mark.parametrize(
    ("model", "fewest"), [("mono", 2), ("mono_uptake", 2), ("bi", 4), ("bi_uptake", 4), ("trapezoid", 2)]
)
def test_too_few_scans_give_no_curve(model: str, fewest: int) -> None:
    """The prior of the uptake counts as one datum."""
    activity, _ = curve(MANY_H, {60.0: 120.0, 9.0: 80.0}, 1.0)
    less = fit_curve(MANY_H[: fewest - 1], activity[: fewest - 1], half_life_h=HALF_LIFE_H, model=model)
    assert (less.status, less.has_curve) == ("too_few_points", False)
    assert fit_curve(MANY_H[:fewest], activity[:fewest], half_life_h=HALF_LIFE_H, model=model).has_curve


@pytest.mark.parametrize("count", [5, 6, 8])
def test_the_covariance_is_scaled_by_the_scatter_above_two_degrees_of_freedom_only(count: int) -> None:
    activity, _ = curve(MANY_H[:count], {60.0: 200.0}, 3.0)
    activity = activity * np.where(np.arange(count) % 2 == 0, 1.3, 0.7)
    assumed = fit_curve(MANY_H[:count], activity, half_life_h=HALF_LIFE_H, model="mono_uptake")
    stated = fit_curve(
        MANY_H[:count], activity, half_life_h=HALF_LIFE_H, u_activity_mbq=0.05 * activity, model="mono_uptake"
    )
    assert assumed.dof == count - 3
    scale = assumed.chi2 / assumed.dof if assumed.dof > 2 else 1.0
    assert assumed.u_tia_mbq_h == pytest.approx(sqrt(scale) * stated.u_tia_mbq_h, rel=1e-6)


# The prior of the uptake --------------------------------------------------------------------------


def test_up_to_four_scans_the_uptake_is_the_most_probable_one() -> None:
    """Maximum a posteriori: found here by brute force over both rates."""
    rng = np.random.Generator(np.random.PCG64(5))
    activity = curve(TIMES_H, {60.0: 200.0}, 1.0)[0] * (1.0 + 0.05 * rng.standard_normal(4))
    prior = UptakePrior("test", half_life_h=2.0, ln_sd=0.5)
    sd = 0.05 * activity
    fit = fit_curve(TIMES_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd, prior=prior)
    assert (fit.model, fit.prior, fit.status, fit.dof) == ("mono_uptake", "test", "ok", 2)
    rates = log(2.0) / np.linspace(40.0, 90.0, 401)[:, None, None]
    uptakes = np.geomspace(0.3, 6.0, 401)[None, :, None]
    shape = (np.exp(-rates * TIMES_H) - np.exp(-log(2.0) / uptakes * TIMES_H)) / sd
    amplitude = (shape * activity / sd).sum(-1) / (shape**2).sum(-1)
    chi2 = np.square(activity / sd - amplitude[..., None] * shape).sum(-1)
    penalised = chi2 + (np.log(uptakes[..., 0] / 2.0) / 0.5) ** 2
    i, j = np.unravel_index(np.argmin(penalised), penalised.shape)
    assert fit.uptake_half_life_h == pytest.approx(float(uptakes[0, j, 0]), rel=0.01)
    assert fit.effective_half_life_h == pytest.approx(log(2.0) / float(rates[i, 0, 0]), rel=2e-3)
    assert fit.chi2 == pytest.approx(float(chi2[i, j]), abs=1e-2)


def test_a_prior_without_information_leaves_the_uptake_to_the_scans_and_a_firm_one_fixes_it() -> None:
    activity, tia = curve(TIMES_H, {60.0: 200.0}, 4.0)
    vague = fit_curve(TIMES_H, activity, half_life_h=HALF_LIFE_H, prior=UptakePrior("vague", 1.0, ln_sd=100.0))
    assert vague.tia_mbq_h == pytest.approx(tia, rel=1e-4)
    assert vague.uptake_half_life_h == pytest.approx(4.0, rel=1e-3)
    firm = fit_curve(TIMES_H, activity, half_life_h=HALF_LIFE_H, prior=UptakePrior("firm", 3.8, ln_sd=1e-4))
    assert firm.uptake_half_life_h == pytest.approx(3.8, rel=1e-3)
    assert firm.u_tia_mbq_h < vague.u_tia_mbq_h


@pytest.mark.parametrize(("half_life_h", "ln_sd"), [(0.0, 1.0), (-1.0, 1.0), (2.5, 0.0), (float("nan"), 1.0)])
def test_a_bad_prior_is_refused(half_life_h: float, ln_sd: float) -> None:
    with pytest.raises(QuantityError, match="prior"):
        UptakePrior("bad", half_life_h, ln_sd)


# The bound ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", ["mono_uptake", "bi", "bi_uptake"])
def test_a_curve_that_only_decays_is_at_the_bound(model: str) -> None:
    phases, uptake_h = TRUTHS[model]
    phases = {HALF_LIFE_H if h == 60.0 else h: a for h, a in phases.items()}
    activity, tia = curve(MANY_H, phases, uptake_h)
    fit = fit_curve(MANY_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=0.05 * activity, model=model)
    assert (fit.status, fit.rate_at_bound) == ("at_bound", True)
    assert SLOWEST_PER_H in fit.parameters
    assert fit.effective_half_life_h == pytest.approx(HALF_LIFE_H)
    assert fit.tia_mbq_h == pytest.approx(tia, rel=1e-3)
    # One-sided: upwards what the amplitude allows, downwards what faster clearance does.
    low, high = fit.tia_interval_mbq_h
    symmetric = log_symmetric_interval(fit.tia_mbq_h, fit.u_tia_mbq_h)
    assert high == pytest.approx(symmetric[1])
    assert low < symmetric[0]


def test_the_lower_end_at_the_bound_is_that_of_the_profile_over_the_rate() -> None:
    activity, _ = curve(TIMES_H, {HALF_LIFE_H: 200.0}, 2.5)
    sd = 0.05 * activity
    fit = fit_curve(TIMES_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd)
    assert (fit.model, fit.status) == ("mono_uptake", "at_bound")
    rates = SLOWEST_PER_H * np.linspace(1.0, 2.0, 1501)[:, None, None]
    uptakes = np.geomspace(0.2, 12.0, 601)[None, :, None]
    shape = (np.exp(-rates * TIMES_H) - np.exp(-log(2.0) / uptakes * TIMES_H)) / sd
    amplitude = (shape * activity / sd).sum(-1) / (shape**2).sum(-1)
    chi2 = np.square(activity / sd - amplitude[..., None] * shape).sum(-1)
    penalised = chi2 + np.log(uptakes[..., 0] / 2.5) ** 2
    best = penalised.argmin(axis=1)
    profile = penalised.min(axis=1)
    edge = int(np.flatnonzero(profile <= CHI2_95)[-1])
    tia = amplitude[edge, best[edge]] * (1.0 / rates[edge, 0, 0] - uptakes[0, best[edge], 0] / log(2.0))
    assert fit.tia_interval_mbq_h[0] == pytest.approx(tia, rel=2e-3)


def test_the_bound_is_declared_by_the_profile_of_chi_square() -> None:
    statuses = []
    for half_life_h in np.linspace(0.8, 1.0, 21) * HALF_LIFE_H:
        activity, _ = curve(TIMES_H, {half_life_h: 200.0}, 2.5)
        statuses.append(fit_curve(TIMES_H, activity, half_life_h=HALF_LIFE_H).status)
    # Once at the bound, always: the switch comes where 5 % on four scans cannot tell 0.1 sd.
    assert statuses == sorted(statuses, reverse=True)
    assert {"ok", "at_bound"} == set(statuses)
    assert BOUND_CHI2 == 0.01


# Trapezoid ----------------------------------------------------------------------------------------


def test_the_trapezoid_is_a_plateau_straight_lines_and_a_tail() -> None:
    fit = fit_curve([10.0, 20.0, 40.0], [100.0, 80.0, 40.0], half_life_h=HALF_LIFE_H, model="trapezoid")
    rate = log(2.0) / 20.0
    tail = 40.0 / rate
    assert fit.tia_mbq_h == pytest.approx(100.0 * 10.0 + 90.0 * 10.0 + 60.0 * 20.0 + tail)
    assert fit.effective_half_life_h == pytest.approx(20.0)
    assert fit.extrapolated_fraction == pytest.approx(tail / fit.tia_mbq_h)
    physical = fit_curve([10.0, 20.0, 40.0], [100.0, 80.0, 40.0], half_life_h=HALF_LIFE_H, model="trapezoid_physical")
    assert physical.tia_mbq_h == pytest.approx(fit.tia_mbq_h - tail + 40.0 / SLOWEST_PER_H)
    assert not physical.rate_at_bound


def test_a_tail_that_rises_decays_physically() -> None:
    fit = fit_curve([10.0, 40.0], [40.0, 41.0], half_life_h=HALF_LIFE_H, model="trapezoid")
    assert (fit.status, fit.rate_at_bound) == ("at_bound", True)
    assert fit.effective_half_life_h == pytest.approx(HALF_LIFE_H)


@pytest.mark.parametrize("model", ["trapezoid", "trapezoid_physical"])
def test_the_uncertainty_of_the_trapezoid_is_that_of_its_activities(model: str) -> None:
    activity, _ = curve(TIMES_H, {50.0: 200.0})
    sd = 0.01 * activity
    fit = fit_curve(TIMES_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd, model=model)
    rng = np.random.Generator(np.random.PCG64(1))
    found = [
        fit_curve(TIMES_H, activity + sd * rng.standard_normal(4), half_life_h=HALF_LIFE_H, model=model).tia_mbq_h
        for _ in range(4000)
    ]
    assert fit.u_tia_mbq_h == pytest.approx(np.std(found), rel=0.05)
    assert isfinite(fit.covariance.sum())


# The choice ---------------------------------------------------------------------------------------


def automatic(times_h: Array, phases: dict[float, float], uptake_h: float | None = None) -> CurveFit:
    activity, _ = curve(times_h, phases, uptake_h)
    return fit_curve(times_h, activity, half_life_h=HALF_LIFE_H)


def test_two_scans_choose_one_exponential() -> None:
    assert automatic(TIMES_H[:2], {60.0: 200.0}, 2.5).model == "mono"


@pytest.mark.parametrize("count", [3, 4])
def test_three_and_four_scans_choose_uptake_if_one_of_them_can_see_it(count: int) -> None:
    assert automatic(TIMES_H[:count], {60.0: 200.0}).model == "mono_uptake"
    edge = UPTAKE_SEEN_HALF_LIVES * UptakePrior().half_life_h
    assert automatic(TIMES_H[:count] + edge - 4.0, {60.0: 200.0}, 2.5).model == "mono_uptake"
    assert automatic(TIMES_H[:count] + edge - 3.9, {60.0: 200.0}, 2.5).model == "mono"


@pytest.mark.parametrize("times_h", [[24.0, 96.0, 168.0], [20.0, 44.0, 68.0, 140.0], [24.0, 168.0]])
@pytest.mark.parametrize("half_life_h", [20.0, 51.6, 100.0])
def test_late_scans_of_one_exponential_are_not_biased_by_an_uptake_that_no_scan_saw(
    times_h: list[float], half_life_h: float
) -> None:
    """The prior alone would take 2.5 h / T_eff of the TIA: 5 % for kidneys."""
    fit = automatic(np.array(times_h), {half_life_h: 200.0})
    assert fit.tia_mbq_h == pytest.approx(200.0 * half_life_h / log(2.0), rel=1e-6)


@pytest.mark.parametrize("half_life_h", [35.5, 51.6, 68.0, 100.0])
def test_an_early_scan_of_one_exponential_costs_one_percent(half_life_h: float) -> None:
    """Where activity is there at once, the prior still assumes some uptake: -0.7 to -1.1 %, stated."""
    fit = automatic(TIMES_H, {half_life_h: 200.0})
    assert -0.012 < fit.tia_mbq_h / (200.0 * half_life_h / log(2.0)) - 1.0 < 0.0


@pytest.mark.parametrize(
    ("truth", "count", "chosen"),
    [("mono", 5, "mono"), ("mono_uptake", 5, "mono_uptake"), ("bi", 6, "bi"), ("bi_uptake", 8, "bi_uptake")],
)
def test_from_five_scans_on_aicc_chooses(truth: str, count: int, chosen: str) -> None:
    times = MANY_H[:: 1 if count > 5 else 2][:count] if count != 5 else MANY_H[[0, 2, 4, 6, 7]]
    phases, uptake_h = TRUTHS[truth]
    if truth == "bi_uptake":
        phases = {100.0: 100.0, 6.0: 300.0}
    activity, _ = curve(times, phases, uptake_h)
    fit = fit_curve(times, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=0.01 * activity)
    assert (fit.model, fit.prior) == (chosen, None)


def test_all_models_are_compared_and_one_is_chosen() -> None:
    activity, _ = curve(MANY_H, {60.0: 200.0}, 3.0)
    sd = 0.05 * activity
    compared = compare_models(MANY_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd)
    assert list(compared.fits) == list(REGISTRY)
    assert compared.chosen is compared.fits["mono_uptake"]
    chosen = fit_curve(MANY_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=sd)
    assert chosen.parameters == compared.chosen.parameters
    assert set(compared.weights) == {"mono", "mono_uptake", "bi", "bi_uptake"}
    assert sum(compared.weights.values()) == pytest.approx(1.0)
    ratio = compared.weights["mono"] / compared.weights["mono_uptake"]
    mono, uptake = compared.fits["mono"].aicc, compared.fits["mono_uptake"].aicc
    assert mono is not None
    assert uptake is not None
    assert ratio == pytest.approx(exp((uptake - mono) / 2.0))


def test_four_scans_have_no_akaike_weights() -> None:
    """AICc is defined for one exponential alone: a weight of 1 would say that it won."""
    activity, _ = curve(TIMES_H, {60.0: 200.0}, 3.0)
    compared = compare_models(TIMES_H, activity, half_life_h=HALF_LIFE_H)
    assert compared.chosen.model == "mono_uptake"
    assert [name for name, fit in compared.fits.items() if fit.aicc is not None] == ["mono"]
    assert compared.weights == {}


def test_a_named_model_is_chosen_whatever_the_others_say() -> None:
    activity, _ = curve(MANY_H, {60.0: 200.0}, 3.0)
    compared = compare_models(MANY_H, activity, half_life_h=HALF_LIFE_H, model="mono")
    assert compared.chosen.model == "mono"
    scarce = compare_models(TIMES_H[:3], activity[:3], half_life_h=HALF_LIFE_H, model="bi")
    assert scarce.chosen.status == "too_few_points"
    assert set(scarce.fits) == {"mono", "mono_uptake", "trapezoid", "trapezoid_physical"}


def test_without_activity_nothing_is_compared() -> None:
    compared = compare_models(TIMES_H, np.zeros(4), half_life_h=HALF_LIFE_H)
    assert compared.fits == {}
    assert compared.chosen.status == "not_converged"


@pytest.mark.parametrize("times_h", [[0.0, 24.0, 96.0], [0.0, 4.0, 24.0, 96.0]])
def test_activity_at_the_injection_itself_is_no_uptake(times_h: list[float]) -> None:
    assert automatic(np.array(times_h), {60.0: 200.0}).model == "mono"
