"""The NumPy twin of the compiled voxel fits: the same least squares in double precision, by another search.

One phase is searched on a fine grid and by golden section. Two phases are searched on all pairs of a grid and
then by coordinates, each in turn by golden section.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GOLDEN = (5**0.5 - 1) / 2
GOLDEN_STEPS = 44
SWEEPS = 60


def one_phase(data: Array, times_h: Array, low: float, high: float, uptake: Array) -> tuple[Array, Array]:
    """Amplitudes and rates of ``data`` ``(t, n)``, each ``(n,)``; rates between `low` and `high`."""

    def shape(rate: Array) -> Array:
        return np.asarray(np.exp(-rate * times_h[:, None]) - uptake[:, None])

    def explained(rate: Array) -> Array:
        b = shape(rate)
        projection = (b * data).sum(0)
        return np.asarray(np.sign(projection) * projection**2 / (b * b).sum(0))

    nodes = low + np.concatenate([[0.0], np.geomspace(1e-6 * (high - low), high - low, 400)])
    best = np.argmax(np.stack([explained(np.full(data.shape[1], rate)) for rate in nodes]), axis=0)
    rate = golden(explained, nodes[np.maximum(best - 1, 0)], nodes[np.minimum(best + 1, nodes.size - 1)])
    rate = np.where(explained(np.full_like(rate, low)) >= explained(rate), low, rate)
    b = shape(rate)
    return np.maximum((b * data).sum(0) / (b * b).sum(0), 0.0), rate


def golden(function, low: Array, high: Array) -> Array:  # type: ignore[no-untyped-def]
    """Maximum of a function between two arrays, element by element."""
    for _ in range(GOLDEN_STEPS):
        left, right = high - GOLDEN * (high - low), low + GOLDEN * (high - low)
        rising = function(left) < function(right)
        low, high = np.where(rising, left, low), np.where(rising, high, right)
    return np.asarray(0.5 * (low + high))


def residual(data: Array, times_h: Array, first: Array, second: Array, uptake: Array) -> tuple[Array, Array]:
    """Sum of squares ``(n,)`` and non-negative amplitudes ``(2, n)`` for two rates."""
    one, two = (np.exp(-rate * times_h[:, None]) - uptake[:, None] for rate in (first, second))
    q11, q12, q22 = (one * one).sum(0), (one * two).sum(0), (two * two).sum(0)
    p1, p2 = (one * data).sum(0), (two * data).sum(0)
    determinant = q11 * q22 - q12 * q12
    safe = np.where(determinant > 1e-12 * q11 * q22, determinant, np.inf)
    both = np.stack([(q22 * p1 - q12 * p2) / safe, (q11 * p2 - q12 * p1) / safe])
    alone = [
        np.stack([np.maximum(p1 / q11, 0.0), np.zeros_like(p1)]),
        np.stack([np.zeros_like(p2), np.maximum(p2 / q22, 0.0)]),
    ]
    left = [((data - a[0] * one - a[1] * two) ** 2).sum(0) for a in (both, *alone)]
    left[0] = np.where((both > 0.0).all(axis=0), left[0], np.inf)
    which = np.argmin(np.stack(left), axis=0)
    amplitude = np.choose(which, [both, *alone])
    return np.min(np.stack(left), axis=0), amplitude


def two_phases(data: Array, times_h: Array, low: float, high: float, uptake: Array) -> tuple[Array, Array, Array]:
    """Amplitudes and rates ``(2, n)``, and the sum of squares."""
    nodes = low + np.concatenate([[0.0], np.geomspace(1e-3 * (high - low), high - low, 40)])
    best = np.full(data.shape[1], np.inf)
    rates = np.zeros((2, data.shape[1]))
    for i in range(nodes.size):
        for j in range(i + 1, nodes.size):
            left, _ = residual(data, times_h, *(np.full(data.shape[1], nodes[k]) for k in (i, j)), uptake)
            better = left < best
            best = np.where(better, left, best)
            rates[:, better] = np.array([[nodes[i]], [nodes[j]]])
    width = np.full(data.shape[1], 0.6)
    for sweep in range(SWEEPS):
        for k in (0, 1):
            other = rates[1 - k]

            def fit(x: Array, k: int = k, other: Array = other) -> Array:
                pair = (x, other) if k == 0 else (other, x)
                return -residual(data, times_h, *pair, uptake)[0]

            centre = rates[k] - low
            found = golden(fit, low + centre * (1 - width), np.minimum(low + (centre + 1e-9) * (1 + width), high))
            rates[k] = np.where(fit(found) >= fit(rates[k]), found, rates[k])
        width = width * (0.9 if sweep > 10 else 1.0)
    best, amplitude = residual(data, times_h, *rates, uptake)
    return amplitude, rates, best
