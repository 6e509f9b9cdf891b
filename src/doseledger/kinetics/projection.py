"""Least squares of a sum of exponentials by variable projection: the best point, and its profile.

The amplitudes are linear and have closed forms for given rates (Golub and Pereyra 1973, doi
10.1137/0710036), so that one to three unknowns x are left. The rates are ``l_phys + cumsum(exp(x))``:
none is below physical decay, and their order is kept, whatever x is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from math import log
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import minimum_filter
from scipy.optimize import least_squares, minimize_scalar

from doseledger.kinetics.curves import Samples, UptakePrior
from doseledger.kinetics.forms import Form

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


@dataclass(frozen=True, eq=False)
class Point:
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


class Problem:
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

    def point(self, x: Array) -> Point:
        residuals = self.residuals(x)
        own = residuals[: self.data.size]
        amplitudes = _amplitudes(self.basis(x), self.data)
        return _ordered(Point(x, amplitudes, self.rates(x), float(own @ own), float(residuals @ residuals)))

    def minimum(self, first: float | None = None) -> Point:
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
            near = grid[tuple(start)]
            if low.size == 1:
                # Safe where the residuals are large, but no finer than the root of the machine precision.
                step = axes[0][1] - axes[0][0]
                near = np.array([self._bounded(whole, *np.clip([near[0] - step, near[0] + step], low[0], high[0]))])
                points.append(self.point(whole(near)))
            settled = least_squares(
                lambda free: self.residuals(whole(free)),
                near,
                bounds=(low - XATOL, high + XATOL),
                xtol=TOLERANCE,
                ftol=TOLERANCE,
                gtol=TOLERANCE,
                max_nfev=EVALUATIONS,
            )
            points.append(self.point(whole(np.clip(settled.x, low, high))))
        return min(points, key=lambda point: point.objective)

    def _bounded(self, whole: Callable[[Array], Array], low: float, high: float) -> float:
        """Minimum over one unknown between two ends."""
        found = minimize_scalar(
            lambda x: float(np.square(self.residuals(whole(np.array([x])))).sum()),
            bounds=(low, high),
            method="bounded",
            options={"xatol": XATOL},
        )
        return float(found.x)


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


def _ordered(point: Point) -> Point:
    """Put the phase that holds activity first: the rate of an empty one means nothing."""
    if point.amplitudes.size == 2 and point.amplitudes[0] == 0.0 < point.amplitudes[1]:
        turned = [1, 0, *range(2, point.rates.size)]
        return replace(point, amplitudes=point.amplitudes[::-1].copy(), rates=point.rates[turned])
    return point
