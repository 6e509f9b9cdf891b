"""Curves of unit amplitude as functions of the logarithms of biological parameters (see `priors`).

    g(t) = sum_i w_i [exp(-l_i t) - exp(-m t)],   w_1 = 1,

and without the terms of m for a form that has no uptake. Everything works on arrays: logarithms ``(..., d)``,
times ``(..., n)`` and decay constants ``(...,)`` are broadcast.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.kinetics.priors import PARAMETERS

Array = NDArray[np.float64]

#: Logarithms of parameters beyond these change no curve that a scan could see: rates of 1e-9 and 400 per hour.
LOWEST_LOG: Final = -20.0
HIGHEST_LOG: Final = 6.0
#: A curve that has vanished at a scan is taken to be this much of its amplitude, so that its logarithm exists.
VANISHED: Final = 1e-100


class LogShape:
    """A form of curve at given parameters.

    Parameters
    ----------
    model
        A key of `priors.PARAMETERS`.
    x
        Logarithms of the parameters, ``(..., d)``.
    slowest_per_h
        Physical decay constant, ``(...,)``.
    """

    def __init__(self, model: str, x: Array, slowest_per_h: Array | float) -> None:
        names = PARAMETERS[model]
        values = np.exp(np.clip(x, LOWEST_LOG, HIGHEST_LOG))
        by_name = {name: values[..., i] for i, name in enumerate(names)}
        first = slowest_per_h + by_name["clearance_per_h"]
        rates, weights = [first], [np.ones_like(first)]
        if "fast_excess_per_h" in by_name:
            rates.append(first + by_name["fast_excess_per_h"])
            weights.append(by_name["fast_over_slow"])
        self.rates, self.weights = np.stack(rates, axis=-1), np.stack(weights, axis=-1)
        rise = by_name.get("uptake_excess_per_h")
        self.uptake = None if rise is None else rates[-1] + rise

    def at(self, times_h: Array) -> Array:
        """g at times ``(..., n)``."""
        shapes = np.exp(-self.rates[..., None] * times_h[..., None, :])
        if self.uptake is not None:
            # Nothing cancels when the rates are close: m - l_i is known by itself.
            shapes = shapes * -np.expm1(-(self.uptake[..., None] - self.rates)[..., None] * times_h[..., None, :])
        return np.asarray(np.maximum((self.weights[..., None] * shapes).sum(axis=-2), VANISHED))

    def integral(self, from_h: float = 0.0) -> Array:
        """Integral of g from a time to infinity, ``(...,)``, h."""
        tails = np.exp(-self.rates * from_h) / self.rates
        if self.uptake is not None:
            tails = tails - (np.exp(-self.uptake * from_h) / self.uptake)[..., None]
        return np.asarray((self.weights * tails).sum(axis=-1))
