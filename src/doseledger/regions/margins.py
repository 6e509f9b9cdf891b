"""Margins in mm around and inside masks, on grids whose voxels need not be cubes.

A mask is the body that its voxels fill. A voxel counts by its centre, and distances go from there to the
nearest face, edge or corner of the voxels beyond, not to their centres: otherwise a margin of less than a
voxel would do nothing, and half a voxel would be missing from any other.
"""

from __future__ import annotations

from math import ceil

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from doseledger.geometry import Grid, Vector


def grown(mask: NDArray[np.bool_], grid: Grid, margin_mm: float) -> NDArray[np.bool_]:
    """The mask and all voxels whose centre is less than `margin_mm` from it.

    Examples
    --------
    The centre of the next voxel is half a voxel away:

    >>> grid = Grid((1, 1, 5), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> middle = np.array([[[False, False, True, False, False]]])
    >>> int(grown(middle, grid, 2.0).sum()), int(grown(middle, grid, 2.1).sum()), int(grown(middle, grid, 6.1).sum())
    (1, 3, 5)
    """
    if margin_mm <= 0 or not mask.any():
        return mask.copy()
    near = _nearer_than(margin_mm, grid.spacing_mm)
    box = _box(mask, near)
    result = np.zeros_like(mask)
    result[box] = ndimage.binary_dilation(mask[box], near)
    return result


def eroded(mask: NDArray[np.bool_], grid: Grid, margin_mm: float) -> NDArray[np.bool_]:
    """The voxels of the mask whose centre is `margin_mm` or more from every voxel outside it.

    Beyond the border of the grid nothing is known: nothing is taken away from that side.
    """
    if margin_mm <= 0 or not mask.any():
        return mask.copy()
    near = _nearer_than(margin_mm, grid.spacing_mm)
    box = _box(mask, near)
    result = np.zeros_like(mask)
    result[box] = mask[box] & ~ndimage.binary_dilation(~mask[box], near)
    return result


def _box(mask: NDArray[np.bool_], near: NDArray[np.bool_]) -> tuple[slice, ...]:
    """The part of the grid that a margin around the mask can reach: most of a field is empty."""
    (found,) = ndimage.find_objects(mask.astype(np.uint8))
    return tuple(
        slice(max(extent.start - width // 2, 0), extent.stop + width // 2)
        for extent, width in zip(found, near.shape, strict=True)
    )


def _nearer_than(margin_mm: float, spacing_mm: Vector) -> NDArray[np.bool_]:
    """Offsets between voxels, centre to body, that are nearer than the margin: an odd box."""
    reach = [ceil(margin_mm / s + 0.5) for s in spacing_mm]
    gaps = [np.maximum(np.abs(np.arange(-r, r + 1)) - 0.5, 0.0) * s for r, s in zip(reach, spacing_mm, strict=True)]
    squares = np.add.outer(np.add.outer(gaps[0] ** 2, gaps[1] ** 2), gaps[2] ** 2)
    return np.asarray(squares < margin_mm**2)
