"""Lesions on SPECT without seeds: every hot spot outside the organs, each with a maximum of its own.

In clinical use a reader puts a volume of interest around each lesion and takes the voxels from 41 to 50 % of
the lesion's *own* maximum on; one share of the hottest lesion for all would lose the weaker ones. Here the
places of the volumes of interest are the maxima of the image: from the hottest on, each takes the voxels
around it, and what falls off from it or from an organ is nobody else's lesion.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from doseledger.errors import QuantityError
from doseledger.geometry import Grid
from doseledger.regions.lesions import (
    DEFAULT_MIN_VOLUME_ML,
    Delineation,
    FixedConcentration,
    Lesion,
    PercentOfMaximum,
    delineate,
)

#: Value of ``region_source`` for regions that were found by a threshold.
THRESHOLD: Final = "threshold"
_STRUCTURE: Final = ndimage.generate_binary_structure(3, 3)


def hot_spots(
    activity_bq_per_ml: NDArray[np.floating[Any]],
    grid: Grid,
    threshold: PercentOfMaximum | FixedConcentration,
    *,
    searched: NDArray[np.bool_],
    least_bq_per_ml: float = 0.0,
    min_volume_ml: float = DEFAULT_MIN_VOLUME_ML,
) -> Delineation:
    """Lesions in the searched part of an image, from the hottest on.

    A lesion has a maximum of the image inside `searched`. A bright rim on the slope of an organ beyond
    `searched`, its blur or its breath, has none: it is not a lesion.

    Parameters
    ----------
    activity_bq_per_ml
        ``(z, y, x)`` on `grid`, also where nothing is searched.
    threshold
        `PercentOfMaximum`: of each lesion's own maximum.
    searched
        Voxels that can belong to a lesion: the body without organs and their margin.
    least_bq_per_ml
        Least maximum of a lesion. A share of a maximum alone would make lesions of noise, and of the blood in
        the heart.

    Raises
    ------
    GeometryError, QuantityError
        As `delineate`; a least maximum that is negative or not finite.

    Examples
    --------
    An organ (500) with its slope, and two lesions, of which the weaker one is below 41 % of the other:

    >>> grid = Grid((1, 1, 9), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    >>> row = np.array([[[500.0, 90.0, 2.0, 100.0, 60.0, 4.0, 30.0, 1.0, 1.0]]])
    >>> found = hot_spots(row, grid, PercentOfMaximum(41.0), searched=row < 400.0, least_bq_per_ml=20.0)
    >>> [(lesion.max_bq_per_ml, lesion.volume_ml) for lesion in found.lesions]
    [(100.0, 2.0), (30.0, 1.0)]
    """
    if not 0.0 <= least_bq_per_ml < np.inf:
        raise QuantityError("the least maximum is no concentration", value=least_bq_per_ml, expected="0 Bq/mL or more")
    # Checks the input, and finds the voxels above a concentration.
    whole = delineate(activity_bq_per_ml, grid, threshold, seeds=searched, min_volume_ml=min_volume_ml)
    summit = _summits(activity_bq_per_ml)
    if isinstance(threshold, FixedConcentration):
        with_summit = np.unique(whole.labels[_is_summit(summit) & (activity_bq_per_ml >= least_bq_per_ml)])
        parts = [whole.labels == lesion.label for lesion in whole.lesions if lesion.label in with_summit]
        return _joined(parts, activity_bq_per_ml, grid, whole.too_small)
    parts = list(_parts(activity_bq_per_ml, grid, threshold, searched, summit, least_bq_per_ml))
    # Rounding, so that a volume of just so many voxels is in, whatever the last bit of the product is.
    kept = [p for p in parts if round(np.count_nonzero(p) * grid.voxel_volume_ml, 9) >= min_volume_ml]
    return _joined(kept, activity_bq_per_ml, grid, len(parts) - len(kept))


def measured(
    labels: NDArray[np.integer[Any]], grid: Grid, activity_bq_per_ml: NDArray[np.floating[Any]], *, too_small: int = 0
) -> Delineation:
    """Lesions whose voxels are known, labelled from 1 without a gap; their threshold is their lowest voxel."""
    lesions = []
    for label in range(1, int(labels.max(initial=0)) + 1):
        voxels = np.argwhere(labels == label)
        values = activity_bq_per_ml[tuple(voxels.T)]
        lesions.append(
            Lesion(
                label=label,
                volume_ml=values.size * grid.voxel_volume_ml,
                max_bq_per_ml=float(values.max()),
                mean_bq_per_ml=float(values.mean(dtype=np.float64)),
                centroid_mm=grid.position_mm(voxels.mean(axis=0)),
                threshold_bq_per_ml=float(values.min()),
            )
        )
    return Delineation(labels.astype(np.int32), grid, tuple(lesions), too_small)


def _parts(
    activity: NDArray[np.floating[Any]],
    grid: Grid,
    threshold: PercentOfMaximum,
    searched: NDArray[np.bool_],
    summit: NDArray[np.int64],
    least: float,
) -> Iterator[NDArray[np.bool_]]:
    """Voxels of one lesion after the other; all slopes that fall off from its maxima go with it."""
    values = activity.ravel()
    free = searched & searched.ravel()[summit]
    peaks = np.flatnonzero((_is_summit(summit) & free).ravel() & (values >= max(least, np.finfo(float).tiny)))
    # By place in the patient where two are equal: the same in any orientation of the array.
    places = {int(p): grid.position_mm(np.array(np.unravel_index(p, grid.shape), float)) for p in peaks}
    for peak in sorted(places, key=lambda p: (-float(values[p]), places[p])):
        if not free.ravel()[peak]:
            continue
        above = free & (activity >= threshold.percent / 100.0 * values[peak])
        components, _ = ndimage.label(above, _STRUCTURE)
        part = components == components.ravel()[peak]
        yield part
        own = np.flatnonzero((part & _is_summit(summit)).ravel())
        free &= ~np.isin(summit, own)


def _summits(activity: NDArray[np.floating[Any]]) -> NDArray[np.int64]:
    """For every voxel the flat index of the maximum that the steepest way up leads to; a maximum is its own."""
    shape = activity.shape
    index = np.arange(activity.size, dtype=np.int64).reshape(shape)
    padded = np.pad(activity.astype(np.float64), 1, constant_values=-np.inf)
    padded_index = np.pad(index, 1)
    best, up = padded[1:-1, 1:-1, 1:-1].copy(), index.copy()
    for corner in product(range(3), repeat=3):
        window = tuple(slice(start, start + n) for start, n in zip(corner, shape, strict=True))
        higher = padded[window] > best
        best[higher] = padded[window][higher]
        up[higher] = padded_index[window][higher]
    flat = up.ravel()
    while not np.array_equal(further := flat[flat], flat):
        flat = further
    return flat.reshape(shape)


def _is_summit(summit: NDArray[np.int64]) -> NDArray[np.bool_]:
    return np.asarray(summit == np.arange(summit.size).reshape(summit.shape))


def _joined(
    parts: list[NDArray[np.bool_]], activity: NDArray[np.floating[Any]], grid: Grid, too_small: int
) -> Delineation:
    labels = np.zeros(grid.shape, np.int32)
    for label, part in enumerate(parts, start=1):
        labels[part] = label
    return measured(labels, grid, activity, too_small=too_small)
