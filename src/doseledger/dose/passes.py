"""Loops over whole maps that touch memory once: `led` costs little more than a copy of the map."""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

#: Sums in the order of the vector unit (that of NUMBA_CPU_NAME), and no exceptions: else nothing is vectorised.
_OPTIONS = {"cache": True, "nogil": True, "fastmath": {"reassoc", "contract", "nsz"}, "error_model": "numpy"}


def smallest_and_sum(values: NDArray[np.float32]) -> tuple[float, float]:
    """Smallest value, and the sum in double precision: not finite if one of the values is not."""
    smallest, total = _smallest_and_sum(values.reshape(-1))
    return float(smallest), float(total)


def dose(energy: NDArray[np.float32], density: NDArray[np.float32], factor: float) -> tuple[NDArray[np.float32], float]:
    """``energy * factor / density``, and the sum of `energy`."""
    result = np.empty(energy.shape, np.float32)
    total = _dose(energy.reshape(-1), density.reshape(-1), np.float32(factor), result.reshape(-1))
    return result, float(total)


def relative_sd(
    variance: NDArray[np.float32], density: NDArray[np.float32], dose: NDArray[np.float32], factor: float
) -> NDArray[np.float32]:
    """``sqrt(variance) * factor / density / dose``; 0 where there is no dose."""
    result = np.empty(variance.shape, np.float32)
    flat = (array.reshape(-1) for array in (variance, density, dose))
    _relative_sd(*flat, np.float32(factor), result.reshape(-1))
    return result


@njit(**_OPTIONS)
def _smallest_and_sum(values):  # type: ignore[no-untyped-def]
    # Floats without sign are in the order of their bits, and any float with one is below: minima of integers are
    # vectorised, those of floats are not.
    bits = values.view(np.int32)
    smallest, total = bits[0], 0.0
    for i in range(values.size):
        smallest = min(smallest, bits[i])
        total += values[i]
    return np.array([smallest], np.int32).view(np.float32)[0], total


@njit(**_OPTIONS)
def _dose(energy, density, factor, result):  # type: ignore[no-untyped-def]
    total = 0.0
    for i in range(energy.size):
        result[i] = energy[i] * factor / density[i]
        total += energy[i]
    return total


@njit(**_OPTIONS)
def _relative_sd(variance, density, dose, factor, result):  # type: ignore[no-untyped-def]
    for i in range(variance.size):
        result[i] = np.sqrt(variance[i]) * factor / density[i] / dose[i] if dose[i] > 0 else np.float32(0.0)
