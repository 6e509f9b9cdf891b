"""Properties of time-activity fits: for any data they end, and no clearance is slower than decay."""

from __future__ import annotations

from math import exp, isfinite, log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doseledger.kinetics import REGISTRY, exponentials, fit_curve, fit_voxels, single_time_point
from doseledger.kinetics.voxelwise import LARGEST_FOLDING

ANY = settings(max_examples=250, deadline=None, derandomize=True)

#: Shorter than 99mTc to longer than 177Lu; scans within three weeks.
HALF_LIVES_H = st.floats(5.0, 400.0)
TIMES_H = st.floats(0.0, 500.0)
#: Nothing, or from a becquerel to a terabecquerel.
ACTIVITIES_MBQ = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))

#: Models that four scans determine: with more parameters the minimum is a valley.
TOLD_BY_FOUR = ["auto", "mono", "mono_uptake", "trapezoid", "trapezoid_physical"]


@st.composite
def scans(draw: st.DrawFn, smallest: int = 2) -> tuple[list[float], list[float]]:
    times = draw(st.lists(TIMES_H, min_size=smallest, max_size=6, unique_by=lambda t: round(t, 1)))
    return times, draw(st.lists(ACTIVITIES_MBQ, min_size=len(times), max_size=len(times)))


@ANY
@given(scans(), HALF_LIVES_H, st.one_of(st.none(), st.floats(1e-3, 1e6)))
def test_any_data_give_a_finite_curve_that_decays_at_least_physically(
    data: tuple[list[float], list[float]], half_life_h: float, u_activity_mbq: float | None
) -> None:
    times, activity = data
    fit = fit_curve(times, activity, half_life_h=half_life_h, u_activity_mbq=u_activity_mbq, model="mono")
    if not any(activity):
        assert fit.status == "not_converged"
        return
    slowest = log(2.0) / half_life_h
    amplitude, rate = fit.parameters
    assert amplitude > 0.0
    assert rate >= slowest
    assert isfinite(fit.tia_mbq_h)
    assert isfinite(fit.u_tia_mbq_h)
    assert 0.0 < fit.tia_mbq_h <= amplitude / slowest * (1.0 + 1e-12)
    assert fit.tia_mbq_h == pytest.approx(amplitude / rate)
    low, high = fit.tia_interval_mbq_h
    assert 0.0 <= low <= fit.tia_mbq_h <= high
    assert 0.0 <= fit.extrapolated_fraction <= 1.0
    assert 0.0 < fit.effective_half_life_h <= half_life_h * (1.0 + 1e-12)
    assert fit.rate_at_bound == (fit.status == "at_bound")
    assert fit.status in ("ok", "saturated", "at_bound", "not_converged")
    assert np.all(np.isfinite(fit.covariance))
    assert np.linalg.eigvalsh(fit.covariance).min() >= -1e-9 * np.abs(fit.covariance).max()
    assert (fit.aicc is None) == (len(times) < 4)
    # No worse than physical decay with the best amplitude.
    u = np.full(len(times), u_activity_mbq or np.nan)
    if u_activity_mbq is not None:
        shape = np.exp(-slowest * np.array(times)) / u
        scaled = np.array(activity) / u
        bound = scaled - shape * (shape @ scaled) / (shape @ shape)
        assert fit.chi2 <= float(bound @ bound) * (1.0 + 1e-9) + 1e-9


@ANY
@given(st.floats(0.1, 500.0), st.floats(1e-6, 1e6), HALF_LIVES_H)
def test_one_scan_never_exceeds_physical_decay(time_h: float, activity_mbq: float, half_life_h: float) -> None:
    fit = single_time_point(time_h, activity_mbq, half_life_h=half_life_h)
    slowest = log(2.0) / half_life_h
    assert 0.0 < fit.tia_mbq_h <= activity_mbq * exp(slowest * time_h) / slowest * (1.0 + 1e-12)
    assert fit.rate_at_bound == (time_h > half_life_h)


@ANY
@given(
    st.floats(0.5, 200.0),
    st.floats(1e-3, 1e5),
    st.lists(st.floats(0.5, 300.0), min_size=2, max_size=6, unique_by=lambda t: round(t / 5.0)),
)
def test_noise_free_data_are_met(half_life_h: float, amplitude_mbq: float, times: list[float]) -> None:
    """Any exponential faster than decay comes back, wherever it is scanned, while it can be seen."""
    physical_h = 1.01 * half_life_h + 1.0
    visible = [t for t in times if t < 5.0 * half_life_h]
    if len(visible) < 2:
        return
    activity = amplitude_mbq * np.exp(-log(2.0) / half_life_h * np.array(visible))
    fit = fit_curve(visible, activity, half_life_h=physical_h, u_activity_mbq=1e-4 * activity, model="mono")
    assert fit.tia_mbq_h == pytest.approx(amplitude_mbq * half_life_h / log(2.0), rel=1e-3)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(scans(), HALF_LIVES_H, st.sampled_from(["auto", *REGISTRY]), st.one_of(st.none(), st.floats(1e-3, 1e6)))
def test_any_model_gives_a_finite_curve_or_says_why_not(
    data: tuple[list[float], list[float]], half_life_h: float, model: str, u_activity_mbq: float | None
) -> None:
    times, activity = data
    fit = fit_curve(times, activity, half_life_h=half_life_h, u_activity_mbq=u_activity_mbq, model=model)
    if not fit.has_curve:
        assert fit.status in ("too_few_points", "not_converged")
        return
    slowest = log(2.0) / half_life_h
    assert isfinite(fit.tia_mbq_h)
    assert isfinite(fit.u_tia_mbq_h)
    low, high = fit.tia_interval_mbq_h
    assert 0.0 <= low <= fit.tia_mbq_h * (1.0 + 1e-12)
    assert fit.tia_mbq_h <= high
    assert -1e-9 <= fit.extrapolated_fraction <= 1.0 + 1e-9
    assert 0.0 < fit.effective_half_life_h <= half_life_h * (1.0 + 1e-12)
    assert fit.rate_at_bound == (fit.status == "at_bound")
    assert np.all(np.isfinite(fit.covariance))
    assert np.linalg.eigvalsh(fit.covariance).min() >= -1e-9 * np.abs(fit.covariance).max()
    amplitudes, rates = exponentials(fit.parameter_names, fit.parameters)
    assert (not rates) == fit.model.startswith("trapezoid")
    if rates:
        assert min(rates) >= slowest
        assert fit.tia_mbq_h == pytest.approx(sum(a / r for a, r in zip(amplitudes, rates, strict=True)), rel=1e-4)
        assert all(amplitude >= 0.0 for amplitude in amplitudes[: 1 + fit.model.startswith("bi")])
    # Nothing can have more decays than all of the largest activity, undiminished until the last scan and
    # then by physical decay: true of the trapezoid, whose tail starts from a scan.
    if not rates:
        assert fit.tia_mbq_h <= max(activity) * (max(times) + 1.0 / slowest) * (1.0 + 1e-9)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.permutations(range(4)), st.floats(1e-3, 1e3), st.sampled_from(TOLD_BY_FOUR), st.integers(0, 10**6))
def test_neither_the_order_of_the_scans_nor_the_unit_changes_a_realistic_curve(
    order: list[int], scale: float, model: str, seed: int
) -> None:
    rng = np.random.Generator(np.random.PCG64(seed))
    times = np.array([4.0, 24.0, 96.0, 168.0]) * rng.uniform(0.8, 1.2, 4)
    activity = (np.exp(-times / 70.0) - np.exp(-times / 3.0)) * (1.0 + 0.05 * rng.standard_normal(4))
    one = fit_curve(times, activity, half_life_h=159.528, model=model)
    turned = fit_curve(times[order], activity[order], half_life_h=159.528, model=model)
    assert (turned.parameters, turned.tia_interval_mbq_h) == (one.parameters, one.tia_interval_mbq_h)
    other = fit_curve(times, scale * activity, half_life_h=159.528, model=model)
    assert other.status == one.status
    assert other.tia_mbq_h == pytest.approx(scale * one.tia_mbq_h, rel=1e-5)
    assert other.u_tia_mbq_h == pytest.approx(scale * one.u_tia_mbq_h, rel=1e-3)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(scans(), HALF_LIVES_H)
def test_any_voxel_gives_a_finite_integral(data: tuple[list[float], list[float]], half_life_h: float) -> None:
    times, activity = data
    images = np.array(activity).reshape(-1, 1, 1, 1)
    found = fit_voxels(images, times, half_life_h=half_life_h)
    slowest = log(2.0) / half_life_h
    rates = slowest + np.array([0.0, LARGEST_FOLDING / max(min(times), LARGEST_FOLDING)])
    assert np.isfinite(found.tia).all()
    # The amplitude is a projection: A |e| <= |y|, and |e| is at least its first element. exp(l t)/l is
    # largest at one end of the range of rates.
    largest = float(np.max(np.linalg.norm(activity) * np.exp(rates * min(times)) / rates))
    assert 0.0 <= found.tia[0, 0, 0] <= 1.0001 * largest


@ANY
@given(scans(), HALF_LIVES_H, st.floats(1e-3, 1e3))
def test_the_unit_of_the_activity_does_not_matter(
    data: tuple[list[float], list[float]], half_life_h: float, scale: float
) -> None:
    times, activity = data
    if not any(activity):
        return
    one = fit_curve(times, activity, half_life_h=half_life_h, model="mono")
    other = fit_curve(times, np.array(activity) * scale, half_life_h=half_life_h, model="mono")
    assert other.status == one.status
    assert other.tia_mbq_h == pytest.approx(scale * one.tia_mbq_h, rel=1e-4)
    assert other.extrapolated_fraction == pytest.approx(one.extrapolated_fraction, rel=1e-3, abs=1e-9)
