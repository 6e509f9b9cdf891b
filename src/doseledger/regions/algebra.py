"""Label maps and what can be computed from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import ceil
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import shift

from doseledger.geometry import ORTHONORMAL_TOLERANCE, Grid
from doseledger.units import MM3_PER_ML

#: Everything in the field of view, outlined or not.
WHOLE_FIELD: Final = "whole_field"
#: The field of view without the outlined regions.
REMAINDER: Final = "remainder"
#: All regions, where one of them is the rest of the body.
WHOLE_BODY: Final = "whole_body"

#: Where axes are not parallel, voxels are split until this many parts fit along a target voxel: a part,
#: turned at will, is then never wider than the target voxel.
PARTS_PER_TARGET_VOXEL: Final = 2
#: Voxels handled at once: a whole CT would need gigabytes.
BLOCK: Final = 2**20


@dataclass(frozen=True)
class RegionSpec:
    """A region of the ledger; the label is its value in label maps, from 1."""

    label: int
    region: str
    kind: Literal["organ", "marrow", "lesion", "rest_of_body"]
    sct_code: str | None = None
    laterality: Literal["left", "right"] | None = None
    part_of: str | None = None
    alpha_beta_gy: float | None = None
    repair_half_time_h: float | None = None

    @classmethod
    def from_row(cls, label: int, row: Mapping[str, Any]) -> RegionSpec:
        """From a row of the region sheet."""
        return cls(label=label, **{k: v for k, v in row.items() if k != "source_name"})


def sums_of(specs: Iterable[RegionSpec]) -> dict[str, tuple[RegionSpec, ...]]:
    """Sum regions (``kidneys``) with their parts, in order of appearance.

    With a region of kind ``rest_of_body`` all regions together are `WHOLE_BODY`.
    """
    specs = list(specs)
    sums: dict[str, tuple[RegionSpec, ...]] = {}
    for spec in specs:
        if spec.part_of is not None:
            sums[spec.part_of] = (*sums.get(spec.part_of, ()), spec)
    if any(spec.kind == "rest_of_body" for spec in specs):
        sums[WHOLE_BODY] = tuple(specs)
    return sums


def region_fractions(labels: NDArray[np.integer[Any]], grid: Grid, target: Grid) -> dict[int, NDArray[np.float32]]:
    """Share of each voxel of `target` that belongs to each label of a map on `grid`.

    Volume is kept, except where the label map leaves the target.

    Parameters
    ----------
    labels
        Shape `grid.shape`; 0 is no region.

    Returns
    -------
    dict
        From label to an array of shape `target.shape` with values from 0 to 1.
    """
    found = [int(k) for k in np.unique(labels[labels > 0])]
    if grid.same_as(target):
        return {k: (labels == k).astype(np.float32) for k in found}
    fractions = {}
    for k in found:
        volume_ml = _deposit((labels == k).astype(np.float64), grid, target)
        # Rounding can put slightly more than a voxel's volume into a voxel.
        fractions[k] = np.minimum(volume_ml / target.voxel_volume_ml, 1.0).astype(np.float32)
    return fractions


def move_fractions(
    fractions: Mapping[int, NDArray[np.float32]], grid: Grid, shifts_mm: Mapping[int, Sequence[float]]
) -> dict[int, NDArray[np.float32]]:
    """Regions moved by LPS shifts (x, y, z) in mm, each by its own; linear between voxels.

    Where moved regions overlap they share the voxel in proportion, so that no activity counts twice.

    Examples
    --------
    >>> grid = Grid((1, 1, 4), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    >>> line = np.array([[[0.0, 1.0, 0.0, 0.0]]], np.float32)
    >>> move_fractions({7: line}, grid, {7: (2.5, 0.0, 0.0)})[7].ravel().tolist()
    [0.0, 0.5, 0.5, 0.0]
    """
    to_index = np.linalg.inv(grid.index_to_lps[:3, :3])
    moved = {
        label: shift(share, to_index @ np.asarray(shifts_mm[label]), order=1) if label in shifts_mm else share
        for label, share in fractions.items()
    }
    filled = np.zeros(grid.shape, np.float32)
    for share in moved.values():
        filled += share
    crowded = np.maximum(filled, 1.0)
    return {label: (share / crowded).astype(np.float32) for label, share in moved.items()}


def volume_average(image: NDArray[np.float32], grid: Grid, target: Grid, *, outside: float) -> NDArray[np.float32]:
    """Mean of `image` over each voxel of `target`; `outside` where the image does not reach.

    For a density this keeps the mass.
    """
    if grid.same_as(target):
        return image
    total = _deposit(image.astype(np.float64), grid, target)
    volume = _deposit(np.ones(grid.shape), grid, target)
    mean = np.full(target.shape, outside)
    np.divide(total, volume, out=mean, where=volume > 0)
    return mean.astype(np.float32)


def _deposit(values: NDArray[np.float64], grid: Grid, target: Grid) -> NDArray[np.float64]:
    """Integral of `values` over the part of each voxel of `target` that `grid` covers, in value mL."""
    cosines = np.asarray(grid.direction) @ np.asarray(target.direction).T
    if np.allclose(np.abs(cosines), np.eye(3), atol=ORTHONORMAL_TOLERANCE):
        # Parallel axes, as of CT and SPECT of one table: the overlap of two boxes is a product.
        overlaps = [_overlap_mm(grid, target, axis) for axis in range(3)]
        return np.asarray(np.einsum("zk,yj,xi,kji->zyx", *overlaps, values, optimize=True)) / MM3_PER_ML
    return _deposit_samples(values, grid, target)


def _overlap_mm(grid: Grid, target: Grid, axis: int) -> NDArray[np.float64]:
    """Common length of each pair of voxels along one axis, shape (target, grid)."""
    direction = np.asarray(target.direction[axis])
    step = grid.spacing_mm[axis] * float(np.sign(np.asarray(grid.direction[axis]) @ direction))
    start = float((np.asarray(grid.origin_mm) - np.asarray(target.origin_mm)) @ direction)
    centres = start + step * np.arange(grid.shape[axis])
    targets = target.spacing_mm[axis] * np.arange(target.shape[axis])
    half, target_half = grid.spacing_mm[axis] / 2, target.spacing_mm[axis] / 2
    low = np.maximum(centres[None, :] - half, targets[:, None] - target_half)
    high = np.minimum(centres[None, :] + half, targets[:, None] + target_half)
    return np.asarray(np.maximum(high - low, 0.0))


def _deposit_samples(values: NDArray[np.float64], grid: Grid, target: Grid) -> NDArray[np.float64]:
    """The same for axes that are not parallel: voxels are split, each part a box along the target's axes.

    Sorting in the parts by their middle alone would give stripes, voxels with too many parts and with
    too few; cut off at a full voxel, an organ loses several per cent of its volume.
    """
    splits = np.array([max(1, ceil(PARTS_PER_TARGET_VOXEL * s / min(target.spacing_mm))) for s in grid.spacing_mm])
    to_target = np.linalg.inv(target.index_to_lps) @ grid.index_to_lps
    turn, shift = to_target[:3, :3], to_target[:3, 3]
    width = np.abs(turn) @ (1.0 / splits)
    voxels = np.argwhere(values != 0)
    weights = values[tuple(voxels.T)] * (grid.voxel_volume_ml / float(np.prod(splits)))
    total = np.zeros(int(np.prod(target.shape)))
    for start in range(0, len(voxels), BLOCK):
        block = slice(start, start + BLOCK)
        for part in np.ndindex(*splits):
            middle = (voxels[block] + (np.asarray(part) + 0.5) / splits - 0.5) @ turn.T + shift
            total += _shared_out(middle, width, weights[block], target.shape)
    return total.reshape(target.shape)


def _shared_out(
    middle: NDArray[np.float64], width: NDArray[np.float64], weights: NDArray[np.float64], shape: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Weights of boxes, shared among the voxels that they overlap; no box is wider than a voxel."""
    low = middle - width / 2 + 0.5
    first = np.floor(low).astype(np.int64)
    in_first = np.minimum((first + 1 - low) / width, 1.0)
    total = np.zeros(int(np.prod(shape)))
    for corner in np.ndindex(2, 2, 2):
        place = first + corner
        share = np.prod(np.where(corner, 1.0 - in_first, in_first), axis=1) * weights
        inside = np.all((place >= 0) & (place < shape), axis=1)
        flat = np.ravel_multi_index(tuple(place[inside].T), shape)
        total += np.bincount(flat, weights=share[inside], minlength=total.size)
    return total


def hard_labels(fractions: Mapping[int, NDArray[np.float32]], shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """One label per voxel: the region with the largest share, where regions fill half of the voxel.

    A region so small that it wins nowhere gets the voxel of which it holds most: it must not
    vanish from the dose map.
    """
    if not fractions:
        return np.zeros(shape, np.uint8)
    keys = sorted(fractions)
    stack = np.stack([fractions[k] for k in keys])
    winner = np.asarray(keys, np.uint8)[np.argmax(stack, axis=0)]
    result = np.where(stack.sum(axis=0) >= 0.5, winner, 0).astype(np.uint8)
    for k in keys:
        if not np.any(result == k) and fractions[k].any():
            result[np.unravel_index(int(np.argmax(fractions[k])), shape)] = k
    return result
