"""Integrals over the logarithms of kinetic parameters, by sums over quasi-random nodes.

The nodes are those of a Halton sequence, the same in every run. A distribution that is far from the first guess is
approached in steps: the likelihood enters with growing powers, and the nodes follow.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri
from scipy.stats.qmc import Halton

from doseledger.kinetics.log_shapes import LogShape

Array = NDArray[np.float64]

#: Nodes per cycle.
NODES: Final = 256
#: Nodes lie wider than the distribution that they are meant for, by this factor.
WIDENED: Final = 1.4
#: The power of the likelihood starts with this share of one cycle, and grows by this factor in each step.
FIRST_POWER: Final = 0.2
GROWTH: Final = 3.0
#: Share of the old factor that is kept: expectation propagation can swing.
KEPT: Final = 0.3


@lru_cache(maxsize=8)
def uniform_nodes(count: int, dimensions: int) -> Array:
    """Points of the unit cube, ``(count, dimensions)``, none on its faces."""
    sequence = Halton(dimensions, scramble=False)
    sequence.fast_forward(1)
    return np.asarray(sequence.random(count))


@lru_cache(maxsize=8)
def normal_nodes(count: int, dimensions: int) -> Array:
    """Points that are standard normal in each dimension, ``(count, dimensions)``."""
    return np.asarray(ndtri(uniform_nodes(count, dimensions)))


def powers(cycles: int) -> list[float]:
    """Powers of the likelihood on the way to the whole.

    All cycles together start with less than one has: what they agree on would otherwise be believed too early.

    >>> powers(1)
    [0.2, 0.6, 1.0]
    """
    power, found = FIRST_POWER / cycles, []
    while power < 1.0:
        found.append(round(power, 12))
        power *= GROWTH
    return [*found, 1.0]


def chi2_of(shape: LogShape, times_h: Array, data: Array, inverse_u: Array) -> Array:
    """Chi-square of cycles ``(c, n)`` at nodes ``(c, m)``, each with its best amplitude."""
    basis = shape.at(times_h[:, None, :]) * inverse_u[:, None, :]
    along = np.einsum("cmn,cn->cm", basis, data)
    square = np.einsum("cmn,cmn->cm", basis, basis)
    # Shapes are positive, and so is the best amplitude.
    return np.asarray(np.square(data).sum(axis=-1)[:, None] - along**2 / square)


@dataclass(frozen=True, eq=False)
class Factors:
    """Normal marginals of cycles, ``value`` and ``spread``, that contain the factors exp(-x'Px/2 + q'x)."""

    value: Array
    spread: Array
    p: Array
    q: Array

    def renewed(self, chi2: Callable[[Array], Array], power: float) -> tuple[Array, Array]:
        """Factors P and q that give the marginal's rest times the likelihood its mean and covariance."""
        precision = np.linalg.inv(self.spread)
        rest = precision - self.p
        rest_q = np.einsum("cde,ce->cd", precision, self.value) - self.q
        count, size = self.value.shape
        # Each cycle has the next stretch of the sequence: what it lacks in one stretch is in another.
        z = normal_nodes(count * NODES, size).reshape(count, NODES, size)
        x = self.value[:, None, :] + WIDENED * np.einsum("cde,cme->cmd", np.linalg.cholesky(self.spread), z)
        ln = -0.5 * power * chi2(x) + 0.5 * np.square(z).sum(axis=-1)
        ln -= 0.5 * np.einsum("cmd,cde,cme->cm", x, rest, x, optimize=True) - np.einsum("cmd,cd->cm", x, rest_q)
        weight = np.exp(ln - ln.max(axis=1, keepdims=True))
        weight /= weight.sum(axis=1, keepdims=True)
        mean = np.einsum("cm,cmd->cd", weight, x)
        off = x - mean[:, None, :]
        covariance = np.einsum("cm,cmd,cme->cde", weight, off, off, optimize=True)
        p = _not_negative(np.linalg.inv(covariance + 1e-9 * self.spread) - rest, self.spread)
        q = np.einsum("cde,ce->cd", rest + p, mean) - rest_q
        return KEPT * self.p + (1.0 - KEPT) * p, KEPT * self.q + (1.0 - KEPT) * q


def _not_negative(p: Array, spread: Array) -> Array:
    """The precision without its negative eigenvalues in units of the marginal: no data widen what is known."""
    root = np.linalg.cholesky(spread)
    values, vectors = np.linalg.eigh(np.swapaxes(root, -1, -2) @ p @ root)
    back = np.linalg.solve(np.swapaxes(root, -1, -2), vectors)
    return np.asarray((back * np.maximum(values, 0.0)[:, None, :]) @ np.swapaxes(back, -1, -2))
