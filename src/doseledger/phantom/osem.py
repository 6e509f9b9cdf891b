"""Reconstruction of projections by OSEM.

A check on the virtual cameras of `scanner`, which blur the true map and add noise to it in one step: here noise arises
where it does in reality, in the counts of the projections, and the reconstruction makes of it what it does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from doseledger.errors import QuantityError
from doseledger.phantom.projection import Projector
from doseledger.phantom.shapes import Image

#: Expected counts below which a bin is taken as empty: it lies outside of all that emits.
_EMPTY_COUNTS: Final = 1.0e-6


@dataclass(frozen=True, eq=False)
class Reconstruction:
    """An OSEM image in the unit that makes `Projector.forward` times the scale the expected counts.

    Attributes
    ----------
    log_likelihood
        Of the Poisson counts given the image, up to a constant; before the first iteration and after each.
    """

    image: Image
    log_likelihood: tuple[float, ...]


def osem(projector: Projector, counts: Image, *, scale: float, iterations: int, subsets: int) -> Reconstruction:
    """Ordered-subset expectation maximisation (Hudson and Larkin 1994, doi 10.1109/42.363108).

    x <- x / (P_s^T 1) * P_s^T (counts_s / (scale P_s x)), subset after subset, from a uniform image.

    Parameters
    ----------
    counts
        Measured counts ``(view, z, column)``.
    scale
        Counts in a bin per unit of `Projector.forward`: voxel volume x sensitivity x time per view.
    subsets
        One gives MLEM, whose likelihood never falls.

    Raises
    ------
    QuantityError
        Negative counts, or views that do not divide into the subsets.
    """
    views = projector.views
    if counts.shape[0] != views.size or views.size % subsets:
        raise QuantityError(
            "the views do not divide into the subsets",
            value=f"{counts.shape[0]} views and {subsets} subsets",
            expected=f"{views.size} views and a divisor of them",
            remedy="Choose another number of subsets.",
        )
    if counts.min() < 0.0:
        raise QuantityError("counts are negative", value=float(counts.min()))
    groups = [views[first::subsets] for first in range(subsets)]
    sensitivity = [projector.backward(np.ones_like(counts[group]), group) for group in groups]
    image = np.full(projector.grid.shape, float(counts.sum()) / scale / sum(float(s.sum()) for s in sensitivity))
    image = np.where(sum(sensitivity) > 0.0, image, 0.0).astype(np.float32)
    likelihood = [poisson_log_likelihood(counts, scale * projector.forward(image))]
    for _ in range(iterations):
        for group, seen in zip(groups, sensitivity, strict=True):
            expected = scale * projector.forward(image, group)
            ratio = np.divide(counts[group], expected, out=np.zeros_like(expected), where=expected > _EMPTY_COUNTS)
            correction = projector.backward(ratio, group)
            image *= np.divide(correction, seen, out=np.zeros_like(seen), where=seen > 0.0)
        likelihood.append(poisson_log_likelihood(counts, scale * projector.forward(image)))
    return Reconstruction(image, tuple(likelihood))


def poisson_log_likelihood(counts: Image, expected: Image) -> float:
    """sum(y ln m - m) over all bins; bins where nothing is expected and nothing was counted add nothing."""
    mean = np.maximum(expected, _EMPTY_COUNTS).astype(np.float64)
    return float((counts * np.log(mean) - mean).sum())
