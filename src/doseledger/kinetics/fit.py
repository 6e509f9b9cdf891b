"""Fits of curve models to the activities of one region."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import brentq, minimize_scalar

from doseledger.errors import UnknownNameError
from doseledger.kinetics.curves import (
    BOUND_CHI2,
    CHI2_95,
    CurveFit,
    Samples,
    Status,
    check_samples,
    log_symmetric_interval,
)

#: Excess of the clearance rate over physical decay, searched between these, in 1/h: half-lives of
#: biological clearance from 80 years to 2 minutes.
SMALLEST_EXCESS_PER_H: Final = 1.0e-6
LARGEST_EXCESS_PER_H: Final = 20.0
#: No faster than this many e-foldings before the first scan: nothing measurable would be left.
LARGEST_FOLDING: Final = 50.0
#: Starting points over that range: chi-square of one exponential can have more than one minimum.
STARTS: Final = 60
#: Below this number of degrees of freedom the scatter says nothing about the uncertainties.
SCALING_DOF: Final = 2


def fit_curve(
    times_h: ArrayLike,
    activity_mbq: ArrayLike,
    *,
    half_life_h: float,
    u_activity_mbq: ArrayLike | None = None,
    model: str = "auto",
    prior: None = None,
) -> CurveFit:
    """Fit a time-activity curve and integrate it from mid-injection to infinity.

    Parameters
    ----------
    times_h, activity_mbq
        Hours after mid-injection and activities at those times, shape ``(n,)``, any order.
    half_life_h
        Physical half-life; no clearance is slower.
    u_activity_mbq
        Random standard uncertainties; 5 % of each activity if not given.
    model
        ``"auto"`` or a key of `REGISTRY`. ``"auto"`` is ``"mono"`` as long as that is the only one.
    prior
        For models with a prior; none has one yet.

    Raises
    ------
    QuantityError
        Negative, repeated, not finite or mismatched values.
    UnknownNameError
        The model is not in the registry.

    Examples
    --------
    Two points are met exactly: 200 MBq, halved every 50 h, integrates to 200 * 50 / ln 2.

    >>> fit = fit_curve([50.0, 100.0], [100.0, 50.0], half_life_h=159.528)
    >>> fit.status, round(fit.effective_half_life_h, 6), round(fit.tia_mbq_h, 3)
    ('saturated', 50.0, 14426.95)
    """
    name = "mono" if model == "auto" else model
    if name not in REGISTRY:
        raise UnknownNameError("the curve model is not known", value=model, expected=["auto", *REGISTRY])
    samples = check_samples(times_h, activity_mbq, half_life_h, u_activity_mbq)
    if not np.any(samples.activity_mbq > 0):
        return CurveFit.without_result(name, "not_converged")
    return REGISTRY[name](samples)


def _fit_mono(samples: Samples) -> CurveFit:
    """A(t) = A0 exp(-l t), l >= l_phys; TIA = A0 / l.

    The amplitude is linear and is eliminated: for each rate it has a closed form (variable
    projection), so that the fit is a search in one variable, u = ln(l - l_phys).
    """
    if samples.times_h.size < 2:
        return CurveFit.without_result("mono", "too_few_points")
    slowest = samples.decay_constant_per_h
    rate, chi2 = _best_rate(samples)
    chi2_at_bound = _profile(samples, slowest)[1]
    rate_at_bound = chi2_at_bound - chi2 <= BOUND_CHI2
    if rate_at_bound:
        rate, chi2 = slowest, chi2_at_bound
    rate_open = not rate_at_bound and _profile(samples, _fastest(samples))[1] - chi2 <= BOUND_CHI2
    if rate_open:
        rate, chi2 = _slowest_as_good(samples, rate, chi2)
    amplitude = _profile(samples, rate)[0]
    n = samples.times_h.size
    dof = n - 2
    covariance = _covariance(samples, amplitude, rate, fixed_rate=rate_at_bound)
    if not samples.u_stated and dof > SCALING_DOF:
        covariance = covariance * max(1.0, chi2 / dof)
    tia = amplitude / rate
    gradient = np.array([1.0 / rate, -amplitude / rate**2])
    u_tia = float(np.sqrt(gradient @ covariance @ gradient))
    interval = log_symmetric_interval(tia, u_tia)
    if rate_at_bound:
        interval = (min(interval[0], _lowest_tia(samples, chi2)), interval[1])
    return CurveFit(
        model="mono",
        parameters=(amplitude, rate),
        parameter_names=("amplitude_mbq", "rate_per_h"),
        covariance=covariance,
        tia_mbq_h=tia,
        u_tia_mbq_h=u_tia,
        tia_interval_mbq_h=interval,
        effective_half_life_h=log(2.0) / rate,
        uptake_half_life_h=None,
        extrapolated_fraction=exp(-rate * float(samples.times_h[-1])),
        rate_at_bound=rate_at_bound,
        aicc=_aicc(chi2, n, 2),
        chi2=chi2,
        dof=dof,
        status=_status(rate_at_bound=rate_at_bound, rate_open=rate_open, dof=dof),
    )


def _status(*, rate_at_bound: bool, rate_open: bool, dof: int) -> Status:
    if rate_at_bound:
        return "at_bound"
    if rate_open:
        return "not_converged"
    return "saturated" if dof == 0 else "ok"


def _profile(samples: Samples, rate_per_h: float) -> tuple[float, float]:
    """Best amplitude for a rate, and chi-square there."""
    shape = np.exp(-rate_per_h * samples.times_h) / samples.u_activity_mbq
    data = samples.activity_mbq / samples.u_activity_mbq
    amplitude = float(shape @ data) / float(shape @ shape)
    residual = data - amplitude * shape
    return amplitude, float(residual @ residual)


def _best_rate(samples: Samples) -> tuple[float, float]:
    slowest = samples.decay_constant_per_h
    if samples.times_h.size == 2 and samples.activity_mbq.min() > 0:
        # Two points determine the curve: exact, without a search.
        (t1, t2), (a1, a2) = samples.times_h, samples.activity_mbq
        rate = float(log(a1 / a2) / (t2 - t1))
        if rate <= slowest:
            return slowest, _profile(samples, slowest)[1]
        if rate <= _fastest(samples):
            return rate, 0.0

    def chi2(u: float) -> float:
        return _profile(samples, slowest + exp(u))[1]

    starts = np.linspace(*_search_range(samples), STARTS)
    best = int(np.argmin([chi2(u) for u in starts]))
    low, high = starts[max(best - 1, 0)], starts[min(best + 1, STARTS - 1)]
    found = minimize_scalar(chi2, bounds=(low, high), method="bounded", options={"xatol": 1e-10})
    return slowest + exp(float(found.x)), float(found.fun)


def _slowest_as_good(samples: Samples, rate: float, chi2: float) -> tuple[float, float]:
    """The slowest rate that fits as well as `rate` does; beyond it the data do not tell the rate.

    Extrapolating the fastest one back to time zero would give any number.
    """
    slowest = samples.decay_constant_per_h

    def excess(u: float) -> float:
        return _profile(samples, slowest + exp(u))[1] - chi2 - BOUND_CHI2

    low, high = log(SMALLEST_EXCESS_PER_H), log(rate - slowest)
    u = float(brentq(excess, low, high)) if excess(low) > 0 > excess(high) else min(low, high)
    return slowest + exp(u), _profile(samples, slowest + exp(u))[1]


def _fastest(samples: Samples) -> float:
    return samples.decay_constant_per_h + exp(_search_range(samples)[1])


def _search_range(samples: Samples) -> tuple[float, float]:
    """Range of u = ln(l - l_phys)."""
    fastest = LARGEST_FOLDING / max(float(samples.times_h[0]), LARGEST_FOLDING / LARGEST_EXCESS_PER_H)
    return log(SMALLEST_EXCESS_PER_H), log(fastest)


def _covariance(samples: Samples, amplitude: float, rate: float, *, fixed_rate: bool) -> NDArray[np.float64]:
    """Inverse of J'WJ in (A0, l); a rate at its bound is not a free parameter."""
    shape = np.exp(-rate * samples.times_h)
    jacobian = np.stack([shape, -amplitude * samples.times_h * shape], axis=1) / samples.u_activity_mbq[:, None]
    covariance = np.zeros((2, 2))
    if fixed_rate:
        covariance[0, 0] = 1.0 / float(jacobian[:, 0] @ jacobian[:, 0])
    else:
        covariance[:] = np.linalg.inv(jacobian.T @ jacobian)
    return covariance


def _lowest_tia(samples: Samples, chi2_min: float) -> float:
    """Lower end of the TIA by profile likelihood, when the rate can only be faster than the bound."""
    slowest = samples.decay_constant_per_h

    def excess(u: float) -> float:
        return _profile(samples, slowest + exp(u))[1] - chi2_min - CHI2_95

    low, high = _search_range(samples)
    if excess(low) >= 0:
        rate = slowest
    elif excess(high) <= 0:
        rate = slowest + exp(high)
    else:
        rate = slowest + exp(float(brentq(excess, low, high)))
    return _profile(samples, rate)[0] / rate


def _aicc(chi2: float, n: int, k: int) -> float | None:
    """chi2 + 2k + 2k(k+1)/(n-k-1), defined for n >= k + 2."""
    return chi2 + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n >= k + 2 else None


#: Curve models; the keys are the values of config and of the column ``curve_model``.
REGISTRY: Final[dict[str, Callable[[Samples], CurveFit]]] = {"mono": _fit_mono}
