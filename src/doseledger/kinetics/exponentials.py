"""Sums of exponentials with clearance bounded by physical decay, by variable projection.

All forms are one: amplitudes a_i >= 0, clearance rates l_1 < l_2, and, where activity starts from
nothing, an uptake rate m above them,

    A(t) = sum_i a_i [exp(-l_i t) - exp(-m t)],    TIA = sum_i a_i (1/l_i - 1/m).

The rates are ``l_phys + cumsum(exp(x))``: no rate is below physical decay, and their order is kept,
whatever x is. The amplitudes are linear and are eliminated (variable projection, Golub and Pereyra
1973, doi 10.1137/0710036), so that one to three unknowns x are left.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from math import inf, log
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter
from scipy.optimize import brentq, least_squares, minimize_scalar

from doseledger.kinetics.curves import (
    BOUND_CHI2,
    CHI2_95,
    CurveFit,
    Samples,
    UptakePrior,
    log_symmetric_interval,
    status_of,
)

Array = NDArray[np.float64]

#: Differences of rates are searched between these, in 1/h: half-lives from 80 years to 2 minutes.
SMALLEST_EXCESS_PER_H: Final = 1.0e-6
LARGEST_EXCESS_PER_H: Final = 20.0
#: No clearance by more than this many e-foldings before the first scan: nothing measurable would be left.
LARGEST_FOLDING: Final = 50.0
#: Grid points along each unknown, by the number of unknowns: chi-square can have several minima.
GRID: Final = {1: 60, 2: 24, 3: 11}
#: The search is refined from so many of the grid's minima.
STARTS: Final = 3
#: Relative tolerance of the refinement.
TOLERANCE: Final = 1e-11
#: Resolution of the unknowns, logarithms of rates.
XATOL: Final = 1e-10
#: Evaluations of one refinement: what has not settled by then runs along a valley that the data leave flat.
EVALUATIONS: Final = 60
#: Below this number of degrees of freedom the scatter says nothing about the uncertainties.
SCALING_DOF: Final = 2


@dataclass(frozen=True)
class Form:
    """A sum of `clearances` exponentials, which starts from zero if it has an `uptake`."""

    name: str
    clearances: int = 1
    uptake: bool = False

    @property
    def unknowns(self) -> int:
        """Rates; the amplitudes are eliminated."""
        return self.clearances + self.uptake

    @property
    def size(self) -> int:
        """Number of parameters k."""
        return self.clearances + self.unknowns

    @property
    def parameter_names(self) -> tuple[str, ...]:
        if self.clearances == 1:
            names: tuple[str, ...] = ("amplitude_mbq", "rate_per_h")
        else:
            names = ("amplitude_mbq", "fast_amplitude_mbq", "rate_per_h", "fast_rate_per_h")
        return (*names, "uptake_rate_per_h") if self.uptake else names


#: Every form by its name in the registry of models.
FORMS: Final[dict[str, Form]] = {
    form.name: form
    for form in (
        Form("mono"),
        Form("mono_uptake", uptake=True),
        Form("bi", clearances=2),
        Form("bi_uptake", clearances=2, uptake=True),
    )
}


def exponentials(parameter_names: Sequence[str], parameters: Sequence[float]) -> tuple[list[float], list[float]]:
    """Amplitudes (MBq, those of uptake negative) and rates (1/h) of a curve sum_i a_i exp(-l_i t).

    Both are empty for a curve that is no sum of exponentials.

    Examples
    --------
    >>> exponentials(("amplitude_mbq", "rate_per_h", "uptake_rate_per_h"), (100.0, 0.01, 0.3))
    ([100.0, -100.0], [0.01, 0.3])
    """
    amplitudes = [p for name, p in zip(parameter_names, parameters, strict=True) if name.endswith("amplitude_mbq")]
    rates = [p for name, p in zip(parameter_names, parameters, strict=True) if name.endswith("rate_per_h")]
    if not amplitudes:
        return [], []
    return [*amplitudes, *([-sum(amplitudes)] * (len(rates) - len(amplitudes)))], rates


def fit_exponentials(form: Form, samples: Samples, prior: UptakePrior) -> CurveFit:
    """Least squares, or maximum a posteriori where the uptake is one unknown too many for AICc.

    Parameters
    ----------
    form
        The model.
    prior
        Log-normal prior of the uptake half-life ln 2 / m; it takes part if n < k + 2.
    """
    n = samples.times_h.size
    informed = form.uptake and n < form.size + 2
    dof = n - form.size + informed
    if n < 2 or dof < 0:
        return CurveFit.without_result(form.name, "too_few_points")
    problem = _Problem(form, samples, prior if informed else None)
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


@dataclass(frozen=True, eq=False)
class _Point:
    """A curve of the form: its unknowns, amplitudes and rates, and how well it fits."""

    unknowns: Array
    amplitudes: Array
    rates: Array
    chi2: float
    #: chi-square and the prior's share of it: what is minimised.
    objective: float

    @cached_property
    def tia(self) -> float:
        return self.integral_from(0.0)

    def integral_from(self, time_h: float) -> float:
        """Integral from a time to infinity, MBq h."""
        tails = np.exp(-self.rates * time_h) / self.rates
        count = self.amplitudes.size
        uptake = tails[-1] if self.rates.size > count else 0.0
        return float(self.amplitudes @ (tails[:count] - uptake))


class _Problem:
    """Weighted residuals of a form as functions of its unknowns x."""

    def __init__(self, form: Form, samples: Samples, prior: UptakePrior | None) -> None:
        self.form, self.samples, self.prior = form, samples, prior
        self.data = samples.activity_mbq / samples.u_activity_mbq
        self.slowest = samples.decay_constant_per_h
        first_h = float(samples.times_h[0])
        fastest = LARGEST_FOLDING / max(first_h, LARGEST_FOLDING / LARGEST_EXCESS_PER_H)
        #: Upper ends of the unknowns; uptake may be as fast as it likes.
        highest = [log(fastest)] * form.clearances + [log(LARGEST_EXCESS_PER_H)] * form.uptake
        self.low, self.high = np.full(form.unknowns, log(SMALLEST_EXCESS_PER_H)), np.array(highest)

    def rates(self, x: Array) -> Array:
        return np.asarray(self.slowest + np.cumsum(np.exp(x), axis=-1))

    def basis(self, x: Array) -> Array:
        """Weighted shapes of the clearance phases, ``(..., clearances, n)``."""
        differences = np.exp(x)
        rates = self.slowest + np.cumsum(differences, axis=-1)
        times, count = self.samples.times_h, self.form.clearances
        shapes = np.exp(-rates[..., :count, None] * times)
        if self.form.uptake:
            # m - l_i is the sum of the differences behind it: nothing cancels when they are small.
            ahead = np.cumsum(differences[..., :0:-1], axis=-1)[..., ::-1]
            shapes = shapes * -np.expm1(-ahead[..., None] * times)
        return np.asarray(shapes / self.samples.u_activity_mbq)

    def residuals(self, x: Array) -> Array:
        """Of the activities, and last of the prior; ``(..., n)`` or ``(..., n + 1)``."""
        basis = self.basis(x)
        left = self.data - np.einsum("...i,...in->...n", _amplitudes(basis, self.data), basis)
        if self.prior is None:
            return np.asarray(left)
        own = np.log(log(2.0) / self.rates(x)[..., -1] / self.prior.half_life_h) / self.prior.ln_sd
        return np.concatenate([left, own[..., None]], axis=-1)

    def point(self, x: Array) -> _Point:
        residuals = self.residuals(x)
        own = residuals[: self.data.size]
        amplitudes = _amplitudes(self.basis(x), self.data)
        return _ordered(_Point(x, amplitudes, self.rates(x), float(own @ own), float(residuals @ residuals)))

    def minimum(self, first: float | None = None) -> _Point:
        """The best point, or with ``x[0] = first`` the best of the profile there."""
        fixed = [] if first is None else [first]
        low, high = self.low[len(fixed) :], self.high[len(fixed) :]
        if low.size == 0:
            return self.point(np.array(fixed))

        def whole(free: Array) -> Array:
            return np.concatenate([np.broadcast_to(fixed, (*free.shape[:-1], len(fixed))), free], axis=-1)

        axes = [np.linspace(a, b, GRID[low.size]) for a, b in zip(low, high, strict=True)]
        grid = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1)
        values = np.square(self.residuals(whole(grid))).sum(axis=-1)
        minima = np.argwhere(values <= minimum_filter(values, size=3, mode="nearest"))
        starts = sorted(minima.tolist(), key=lambda index: (float(values[tuple(index)]), index))[:STARTS]
        points = [self.point(whole(grid[tuple(start)])) for start in starts]
        for start in starts:
            point = grid[tuple(start)]
            if low.size == 1:
                cell = (axes[0][1] - axes[0][0]) * np.array([-1.0, 1.0])
                ends = np.clip(point + cell, low, high)
                found = minimize_scalar(
                    lambda x: float(np.square(self.residuals(whole(np.array([x])))).sum()),
                    bounds=ends,
                    method="bounded",
                    options={"xatol": XATOL},
                )
                points.append(self.point(whole(np.array([found.x]))))
                continue
            settled = least_squares(
                lambda free: self.residuals(whole(free)),
                point,
                bounds=(low - XATOL, high + XATOL),
                xtol=TOLERANCE,
                ftol=TOLERANCE,
                gtol=TOLERANCE,
                max_nfev=EVALUATIONS,
            )
            points.append(self.point(whole(np.clip(settled.x, low, high))))
        return min(points, key=lambda point: point.objective)


def _amplitudes(basis: Array, data: Array) -> Array:
    """Non-negative least squares for one or two columns, ``(..., columns)``."""
    if basis.shape[-2] == 1:
        return _alone(basis[..., 0, :], data)[..., None]
    one, two = basis[..., 0, :], basis[..., 1, :]
    # Gram-Schmidt: the second shape without its part along the first.
    along = _alone(one, two)
    second = _alone(two - along[..., None] * one, data, bounded=False)
    first = _alone(one, data, bounded=False) - along * second
    both = np.stack([first, second], axis=-1)
    singles = np.stack([_alone(one, data), _alone(two, data)], axis=-1)
    left = [np.square(data - singles[..., i, None] * basis[..., i, :]).sum(axis=-1) for i in (0, 1)]
    single = np.where((left[0] <= left[1])[..., None], singles * [1.0, 0.0], singles * [0.0, 1.0])
    return np.asarray(np.where(np.all(both >= 0.0, axis=-1, keepdims=True), both, single))


def _alone(shape: Array, data: Array, *, bounded: bool = True) -> Array:
    """Amplitude of one shape; zero for a shape that vanishes at all scans."""
    square = np.square(shape).sum(axis=-1)
    safe = np.where(square > 0.0, square, 1.0)
    amplitude = np.where(square > 0.0, (shape * data).sum(axis=-1) / safe, 0.0)
    return np.asarray(np.maximum(amplitude, 0.0) if bounded else amplitude)


def _ordered(point: _Point) -> _Point:
    """Put the phase that holds activity first: the rate of an empty one means nothing."""
    if point.amplitudes.size == 2 and point.amplitudes[0] == 0.0 < point.amplitudes[1]:
        turned = [1, 0, *range(2, point.rates.size)]
        return replace(point, amplitudes=point.amplitudes[::-1].copy(), rates=point.rates[turned])
    return point


def _best(problem: _Problem) -> tuple[_Point | None, bool, bool]:
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


def _crossing(problem: _Problem, best: _Point, rise: float, low: float, high: float) -> float:
    """Unknown x[0] between `low` and `high` at which the profile lies `rise` above the minimum."""

    def excess(x: float) -> float:
        return problem.minimum(x).objective - best.objective - rise

    at_low, at_high = excess(low), excess(high)
    if at_low * at_high < 0.0:
        return float(brentq(excess, low, high, xtol=XATOL))
    return low if abs(at_low) <= abs(at_high) or at_low > 0.0 else high


def _lowest_tia(problem: _Problem, best: _Point) -> float:
    """Lower end of the TIA by profile likelihood, when the rate can only be faster than the bound."""
    x = _crossing(problem, best, CHI2_95, float(problem.low[0]), float(problem.high[0]))
    return problem.minimum(x).tia


def _uncertainty(problem: _Problem, best: _Point, *, fixed_rate: bool) -> tuple[Array, float]:
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
