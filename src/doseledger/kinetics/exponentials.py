"""Fits of sums of exponentials with clearance bounded by physical decay.

All forms are one: amplitudes a_i >= 0, clearance rates l_1 < l_2, and, where activity starts from
nothing, an uptake rate m above them,

    A(t) = sum_i a_i [exp(-l_i t) - exp(-m t)],    TIA = sum_i a_i (1/l_i - 1/m).
"""

from __future__ import annotations

from math import inf, log
from typing import Final

import numpy as np
from scipy.optimize import brentq

from doseledger.kinetics.curves import (
    BOUND_CHI2,
    CHI2_95,
    CurveFit,
    Samples,
    UptakePrior,
    log_symmetric_interval,
    status_of,
)
from doseledger.kinetics.forms import Form
from doseledger.kinetics.projection import XATOL, Array, Point, Problem

#: Below this number of degrees of freedom the scatter says nothing about the uncertainties.
SCALING_DOF: Final = 2


def fit_exponentials(
    form: Form, samples: Samples, prior: UptakePrior, *, excretion: UptakePrior | None = None
) -> CurveFit:
    """Least squares, or maximum a posteriori where the fastest phase is one unknown too many for AICc.

    Parameters
    ----------
    form
        The model.
    prior
        Log-normal prior of the uptake half-life ln 2 / m; it takes part if n < k + 2.
    excretion
        The same of the half-life of the fastest clearance, for a form without uptake; without it clearances are free.
    """
    n = samples.times_h.size
    prior = prior if form.uptake or excretion is None else excretion
    informed = (form.uptake or excretion is not None) and n < form.size + 2
    dof = n - form.size + informed
    if n < 2 or dof < 0:
        return CurveFit.without_result(form.name, "too_few_points")
    problem = Problem(form, samples, prior if informed else None)
    best, at_bound, rate_open = _best(problem)
    if best is None:
        return CurveFit.without_result(form.name, "not_converged")
    covariance, u_tia = _uncertainty(problem, best, fixed_rate=at_bound)
    if not samples.u_stated and dof > SCALING_DOF:
        scale = max(1.0, best.chi2 / dof)
        covariance, u_tia = covariance * scale, u_tia * scale**0.5
    interval = log_symmetric_interval(best.tia, u_tia)
    if at_bound:
        interval = (min(interval[0], _lowest_tia(problem, best)), interval[1])
    k = form.size
    return CurveFit(
        model=form.name,
        parameters=(*best.amplitudes.tolist(), *best.rates.tolist()),
        parameter_names=form.parameter_names,
        covariance=covariance,
        tia_mbq_h=best.tia,
        u_tia_mbq_h=u_tia,
        tia_interval_mbq_h=interval,
        effective_half_life_h=log(2.0) / float(best.rates[0]),
        uptake_half_life_h=log(2.0) / float(best.rates[-1]) if form.uptake else None,
        extrapolated_fraction=best.integral_from(float(samples.times_h[-1])) / best.tia,
        rate_at_bound=at_bound,
        aicc=best.chi2 + 2 * k + 2 * k * (k + 1) / (n - k - 1) if n >= k + 2 else None,
        chi2=best.chi2,
        dof=dof,
        status=status_of(at_bound=at_bound, rate_open=rate_open, dof=dof),
        prior=prior.name if informed else None,
    )


def _best(problem: Problem) -> tuple[Point | None, bool, bool]:
    """The curve to report; whether its rate is at the bound; whether the rate has no upper end."""
    best = problem.minimum()
    if not best.tia > 0.0:
        return None, False, False
    bound = problem.minimum(-inf)
    if bound.rates[0] == problem.slowest and bound.objective - best.objective <= BOUND_CHI2:
        return bound, True, False
    top = float(problem.high[0])
    if problem.minimum(top).objective - best.objective > BOUND_CHI2:
        return best, False, False
    # The slowest rate that fits as well: extrapolating the fastest back to time zero would give any number.
    low, high = float(problem.low[0]), min(float(best.unknowns[0]), top)
    return problem.minimum(_crossing(problem, best, BOUND_CHI2, low, high)), False, True


def _crossing(problem: Problem, best: Point, rise: float, low: float, high: float) -> float:
    """Unknown x[0] between `low` and `high` at which the profile lies `rise` above the minimum."""

    def excess(x: float) -> float:
        return problem.minimum(x).objective - best.objective - rise

    at_low, at_high = excess(low), excess(high)
    if at_low * at_high < 0.0:
        return float(brentq(excess, low, high, xtol=XATOL))
    return low if abs(at_low) <= abs(at_high) or at_low > 0.0 else high


def _lowest_tia(problem: Problem, best: Point) -> float:
    """Lower end of the TIA by profile likelihood, when the rate can only be faster than the bound."""
    x = _crossing(problem, best, CHI2_95, float(problem.low[0]), float(problem.high[0]))
    return problem.minimum(x).tia


def _uncertainty(problem: Problem, best: Point, *, fixed_rate: bool) -> tuple[Array, float]:
    """Covariance (J'WJ)^-1 of amplitudes and rates, prior included, and u(TIA) by its gradient.

    A rate at its bound, and the rate of a phase without activity, are no free parameters.
    """
    times, u = problem.samples.times_h, problem.samples.u_activity_mbq
    count = best.amplitudes.size
    a, rates = best.amplitudes, best.rates
    decays = np.exp(-rates[:, None] * times)
    shapes = problem.basis(best.unknowns) * u
    if best.rates[0] > best.rates[count - 1]:
        shapes = shapes[::-1]
    slopes = -times * decays
    slopes[:count] *= a[:, None]
    gradient = np.concatenate([1.0 / rates[:count], -a / rates[:count] ** 2])
    if problem.form.uptake:
        slopes[-1] *= -a.sum()
        gradient[:count] -= 1.0 / rates[-1]
        gradient = np.append(gradient, a.sum() / rates[-1] ** 2)
    jacobian = np.concatenate([shapes, slopes]) / u
    if problem.prior is not None:
        own = np.zeros((jacobian.shape[0], 1))
        own[-1] = -1.0 / (rates[-1] * problem.prior.ln_sd)
        jacobian = np.concatenate([jacobian, own], axis=1)
    values = np.concatenate([a, rates])
    active = np.asarray(a > 0.0, dtype=float)
    scale = np.asarray(values * np.concatenate([active, active, np.ones(rates.size - count)]))
    if fixed_rate:
        scale[count] = 0.0
    # Columns in relative terms are of one size, and the pseudo-inverse leaves out what nothing determines.
    inverse = np.linalg.pinv((jacobian * scale[:, None]).T, rcond=1e-13) * scale[:, None]
    return inverse @ inverse.T, float(np.linalg.norm(gradient @ inverse))
