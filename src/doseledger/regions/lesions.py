"""Lesions on SPECT: delineation by a threshold.

The volume of a lesion found by a threshold depends on the threshold as much as on the lesion: every row that
rests on one carries the flag `THRESHOLD_VOLUME`.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from doseledger.errors import GeometryError, QuantityError
from doseledger.geometry import Grid, Vector
from doseledger.regions.margins import grown

#: Flag of every delineation of this module.
THRESHOLD_VOLUME: Final = "threshold_volume"
#: What happens to organs of physiological uptake: no voxel of theirs, or of the margin around them, belongs
#: to a lesion or counts for the maximum. A lesion inside such an organ is not found: it is to be outlined, or
#: its organ is not to be given.
ORGAN_POLICY: Final = "physiological_organs_excluded"
#: Share of the maximum that is used most, %.
DEFAULT_PERCENT: Final = 50.0
#: Smallest lesion, mL: a few voxels of 4.8 mm; below it noise makes lesions of its own.
DEFAULT_MIN_VOLUME_ML: Final = 0.5

Connectivity = Literal[6, 26]
#: Neighbours of a voxel that belong to the same lesion: those with a common face, or also edge or corner.
_STRUCTURES: Final = {6: ndimage.generate_binary_structure(3, 1), 26: ndimage.generate_binary_structure(3, 3)}


@dataclass(frozen=True)
class PercentOfMaximum:
    """Voxels from this share of the maximum on, within each seed, or in the whole field."""

    percent: float = DEFAULT_PERCENT


@dataclass(frozen=True)
class FixedConcentration:
    """Voxels from this activity concentration on."""

    bq_per_ml: float


@dataclass(frozen=True)
class Lesion:
    """One connected component.

    Attributes
    ----------
    label
        Its value in `Delineation.labels`, from 1.
    max_bq_per_ml, mean_bq_per_ml
        Uptake of its hottest voxel, and mean over its voxels.
    centroid_mm
        Middle of its voxels, unweighted, LPS ``(x, y, z)``.
    threshold_bq_per_ml
        Concentration from which on voxels belong to it.
    """

    label: int
    volume_ml: float
    max_bq_per_ml: float
    mean_bq_per_ml: float
    centroid_mm: Vector
    threshold_bq_per_ml: float


@dataclass(frozen=True, eq=False)
class Delineation:
    """Lesions of one image, from the hottest on, and their voxels.

    Attributes
    ----------
    labels
        ``(z, y, x)`` on `grid`; 0 is no lesion.
    too_small
        Number of components below the smallest volume, which are left out.
    """

    labels: NDArray[np.int32]
    grid: Grid
    lesions: tuple[Lesion, ...]
    too_small: int
    organ_policy: str = ORGAN_POLICY
    flags: tuple[str, ...] = (THRESHOLD_VOLUME,)


def delineate(
    activity_bq_per_ml: NDArray[np.floating[Any]],
    grid: Grid,
    threshold: PercentOfMaximum | FixedConcentration,
    *,
    seeds: NDArray[np.bool_] | None = None,
    organs: NDArray[np.bool_] | None = None,
    organ_margin_mm: float = 0.0,
    min_volume_ml: float = DEFAULT_MIN_VOLUME_ML,
    connectivity: Connectivity = 26,
) -> Delineation:
    """Connected components above a threshold, outside the organs.

    Parameters
    ----------
    activity_bq_per_ml
        ``(z, y, x)`` on `grid`.
    seeds
        Where to look. Each connected part of it is a search region with a maximum of its own; without
        seeds the whole field is one.
    organs
        Union of the organs of physiological uptake (`ORGAN_POLICY`).
    organ_margin_mm
        Margin around the organs for their blur.

    Returns
    -------
    Delineation
        Sorted by maximum uptake, then by position (LPS x, y, z): in any orientation of the same image.

    Raises
    ------
    GeometryError
        Image or masks are not of the shape of `grid`.
    QuantityError
        Concentrations that are not finite; a threshold, margin or volume out of range.

    Examples
    --------
    >>> grid = Grid((1, 1, 7), (10.0, 10.0, 10.0), (0.0, 0.0, 0.0))
    >>> row = np.array([[[0.0, 40.0, 100.0, 60.0, 0.0, 30.0, 0.0]]])
    >>> found = delineate(row, grid, PercentOfMaximum(50.0))
    >>> [(lesion.volume_ml, lesion.mean_bq_per_ml) for lesion in found.lesions]
    [(2.0, 80.0)]
    >>> [lesion.max_bq_per_ml for lesion in delineate(row, grid, FixedConcentration(30.0)).lesions]
    [100.0, 30.0]
    """
    _require_valid(activity_bq_per_ml, grid, threshold, (seeds, organs), organ_margin_mm, min_volume_ml)
    searched = np.ones(grid.shape, np.bool_) if seeds is None else seeds.astype(np.bool_)
    parts = searched.astype(np.int32) if seeds is None else ndimage.label(searched, _STRUCTURES[connectivity])[0]
    if organs is not None:
        parts = np.where(grown(organs, grid, organ_margin_mm), 0, parts)
    levels = _levels(activity_bq_per_ml, parts, threshold)
    above = (parts > 0) & (activity_bq_per_ml >= levels[parts])
    components, count = ndimage.label(above, _STRUCTURES[connectivity])
    found = [
        _measured(
            activity_bq_per_ml, np.argwhere(components[box] == number) + [s.start for s in box], grid, parts, levels
        )
        for number, box in enumerate(ndimage.find_objects(components), start=1)
    ]
    # Rounding, so that a volume of just so many voxels is in, whatever the last bit of the product is.
    kept = [n for n in range(count) if round(found[n].volume_ml, 9) >= min_volume_ml]
    kept.sort(key=lambda n: (-found[n].max_bq_per_ml, found[n].centroid_mm))
    relabel = np.zeros(count + 1, np.int32)
    for label, n in enumerate(kept, start=1):
        relabel[n + 1] = label
    lesions = tuple(replace(found[n], label=label) for label, n in enumerate(kept, start=1))
    return Delineation(relabel[components], grid, lesions, count - len(kept))


def _levels(
    activity_bq_per_ml: NDArray[np.floating[Any]],
    parts: NDArray[np.int32],
    threshold: PercentOfMaximum | FixedConcentration,
) -> NDArray[np.float64]:
    """Threshold of each search region by its number; a region without activity has none that is reached."""
    count = int(parts.max(initial=0))
    levels = np.full(count + 1, np.inf)
    if count and isinstance(threshold, PercentOfMaximum):
        maxima = np.asarray(ndimage.maximum(activity_bq_per_ml, parts, np.arange(1, count + 1)), dtype=np.float64)
        levels[1:] = np.where(maxima > 0, threshold.percent / 100.0 * maxima, np.inf)
    elif count and isinstance(threshold, FixedConcentration):
        levels[1:] = threshold.bq_per_ml
    return levels


def _measured(
    activity_bq_per_ml: NDArray[np.floating[Any]],
    voxels: NDArray[np.int64],
    grid: Grid,
    parts: NDArray[np.int32],
    levels: NDArray[np.float64],
) -> Lesion:
    values = activity_bq_per_ml[tuple(voxels.T)]
    return Lesion(
        label=0,
        volume_ml=len(voxels) * grid.voxel_volume_ml,
        max_bq_per_ml=float(values.max()),
        mean_bq_per_ml=float(values.mean(dtype=np.float64)),
        centroid_mm=grid.position_mm(voxels.mean(axis=0)),
        threshold_bq_per_ml=float(levels[parts[tuple(voxels[0])]]),
    )


def _require_valid(
    activity_bq_per_ml: NDArray[np.floating[Any]],
    grid: Grid,
    threshold: PercentOfMaximum | FixedConcentration,
    masks: tuple[NDArray[np.bool_] | None, ...],
    margin_mm: float,
    volume_ml: float,
) -> None:
    for array in (activity_bq_per_ml, *masks):
        if array is not None and array.shape != grid.shape:
            raise GeometryError("image or mask and grid differ in shape", value=array.shape, expected=grid.shape)
    if not np.isfinite(activity_bq_per_ml).all():
        raise QuantityError("the image has voxels without a finite activity concentration")
    if isinstance(threshold, PercentOfMaximum) and not 0.0 < threshold.percent <= 100.0:
        raise QuantityError("the threshold is no share of the maximum", value=threshold.percent, expected="0 to 100 %")
    if isinstance(threshold, FixedConcentration) and not 0.0 < threshold.bq_per_ml < np.inf:
        raise QuantityError("the threshold is no concentration", value=threshold.bq_per_ml, expected="above 0 Bq/mL")
    for name, value in (("margin", margin_mm), ("smallest volume", volume_ml)):
        if not 0.0 <= value < np.inf:
            raise QuantityError(f"the {name} is negative or not finite", value=value, expected="0 or more")
