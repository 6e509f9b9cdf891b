"""Masks from one grid to another whose voxels coincide: nothing is interpolated."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import GeometryError
from doseledger.geometry import Grid, Vector

#: Largest distance of a voxel centre from the centre of the voxel that it is put into, in voxels along
#: each axis. Positions in headers and affines are rounded, to a few hundredths of a voxel over a body.
PLACE_TOLERANCE: Final = 0.1
EVERY_AXIS: Final[Vector] = (PLACE_TOLERANCE, PLACE_TOLERANCE, PLACE_TOLERANCE)


def place_on(
    mask: NDArray[np.bool_],
    source: Grid,
    target: Grid,
    *,
    tolerance_voxels: Vector = EVERY_AXIS,
    out: NDArray[np.bool_] | None = None,
) -> NDArray[np.bool_]:
    """The mask on `target`, whose axes may be permuted or reversed against those of `source`.

    Each voxel goes to the nearest voxel of `target`; what `source` does not cover is empty.

    Parameters
    ----------
    mask
        ``(z, y, x)``, of the shape of `source`.
    source
        May cover a part of `target`, or reach beyond it where the mask is empty.
    tolerance_voxels
        Largest distance between two centres along the axes ``(z, y, x)`` of `target`, in its voxels.
    out
        Mask on `target` that this one is added to; a new one if it is not given.

    Returns
    -------
    bool, of the shape of `target`: `out`, if it is given.

    Raises
    ------
    GeometryError
        The grids are turned against each other, differ in voxel size, voxels fall between voxels, or
        the mask leaves `target`.
    """
    turn, first = coincidence(source, target, tolerance_voxels)
    order = np.argmax(np.abs(turn), axis=1)
    signs = turn[np.arange(3), order]
    moved = np.flip(mask.transpose(order), axis=tuple(np.flatnonzero(signs < 0).tolist()))
    last = first + turn @ (np.asarray(source.shape) - 1)
    start = np.minimum(first, last)
    low = np.clip(-start, 0, moved.shape)
    high = np.clip(np.asarray(target.shape) - start, low, moved.shape)
    inside = tuple(slice(a, b) for a, b in zip(low, high, strict=True))
    lost = np.count_nonzero(moved) - np.count_nonzero(moved[inside])
    if lost:
        raise GeometryError("the mask leaves the image", value=f"{lost} of {np.count_nonzero(moved)} voxels outside")
    placed = np.zeros(target.shape, dtype=np.bool_) if out is None else out
    placed[tuple(slice(s + a, s + b) for s, a, b in zip(start, low, high, strict=True))] |= moved[inside]
    return placed


def require_same_voxels(source: Grid, target: Grid) -> None:
    """Refuse grids that do not cover the same voxels, in whatever order of the axes.

    Raises
    ------
    GeometryError
        Saying how they differ.
    """
    turn, first = coincidence(source, target, EVERY_AXIS)
    start = np.minimum(first, first + turn @ (np.asarray(source.shape) - 1))
    shape = np.abs(turn) @ np.asarray(source.shape)
    if start.any() or tuple(shape) != target.shape:
        raise GeometryError(
            "they do not cover the same part of the patient",
            value=f"{tuple(shape.tolist())} voxels from {tuple(start.tolist())} on",
            expected=f"{target.shape} voxels from (0, 0, 0) on",
        )


def coincidence(source: Grid, target: Grid, tolerance_voxels: Vector) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Signed permutation from indices of `source` to those of `target`, and the place of its first voxel.

    Raises
    ------
    GeometryError
        As `place_on`.
    """
    matrix = np.linalg.inv(target.index_to_lps) @ source.index_to_lps
    turn = np.rint(matrix[:3, :3]).astype(np.int64)
    if not np.array_equal(np.abs(turn).sum(axis=0), [1, 1, 1]) or not np.array_equal(np.abs(turn).sum(axis=1), [1] * 3):
        raise GeometryError(
            "the grids are turned against each other or differ in voxel size",
            value=[[round(float(v), 3) for v in row] for row in matrix[:3, :3]],
            expected="each axis one step along one axis of the image",
        )
    corners = np.array(np.meshgrid(*[(0, n - 1) for n in source.shape], indexing="ij")).reshape(3, -1)
    # Rounding is decided in the middle: there a small difference in voxel size has not yet added up.
    middle = (np.asarray(source.shape) - 1) / 2
    rest = matrix[:3, :3] - turn
    first = np.rint(rest @ middle + matrix[:3, 3]).astype(np.int64)
    off = np.abs(rest @ corners + (matrix[:3, 3] - first)[:, None]).max(axis=1)
    if np.any(off > np.asarray(tolerance_voxels)):
        raise GeometryError(
            "voxels fall between the voxels of the image, which is shifted, turned or of another voxel size",
            value=f"off by {[round(float(v), 3) for v in off]} voxels (slice, row, column)",
            expected=f"at most {list(tolerance_voxels)}",
        )
    return turn, first
