"""From outlines to a mask on a grid."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import ContourError
from doseledger.geometry import Grid
from doseledger.io.dicom.rtstruct import Structure

#: Largest extent of a contour across the slices of the grid, in mm: coordinates carry three decimals.
PLANARITY_TOLERANCE_MM: Final = 0.1
#: Contours nearer than this lie in one plane, in mm.
SAME_PLANE_TOLERANCE_MM: Final = 0.02
#: A plane half-way between two slices, within this, belongs to the upper one, in slices: contours
#: that all lie half a slice off must not fall now down, now up by their rounding.
HALF_WAY_TOLERANCE: Final = 0.005
#: Largest step between contour planes, in slices: a larger one leaves slices empty in between.
COARSE_TOLERANCE: Final = 1.05
#: Where the image ends, in voxels beyond the centres of its outermost ones: half a voxel, and the
#: rounding of coordinates for outlines drawn along the edge.
EDGE: Final = 0.52
#: Decimals of a point's place on the grid, in voxels: a contour through voxel centres must decide
#: alike on every machine.
INDEX_DECIMALS: Final = 6


def structure_mask(structure: Structure, grid: Grid) -> NDArray[np.bool_]:
    """Voxels whose centre lies inside the structure.

    Contours of one plane are filled together by the even-odd rule, so that holes and keyholes come
    out right. A plane belongs to the nearest slice; nothing is interpolated between slices. Of a
    centre that lies on an edge, the lower side (in x, then y) is inside, the upper outside.

    Parameters
    ----------
    grid
        Any orientation; its slices must be parallel to the contours.

    Returns
    -------
    bool ``(z, y, x)``.

    Raises
    ------
    ContourError
        No contours, others than closed planar ones, contours that are rotated against the grid or
        leave it, or planes so far apart that slices between them would stay empty.
    """
    if structure.unfilled:
        raise _error("the structure has contours that enclose no area", structure, ", ".join(structure.unfilled))
    if not structure.contours:
        raise _error("the structure is empty", structure)
    contours = [np.round(grid.index(points), INDEX_DECIMALS) for points in structure.contours]
    for index in contours:
        _require_planar(index, structure, grid)
        _require_inside(index, structure, grid)
    planes = _by_plane(contours, grid)
    _require_dense(sorted(planes), structure, grid)
    mask = np.zeros(grid.shape, dtype=np.bool_)
    for plane, polygons in planes.items():
        # Planes finer than the grid share a slice. They are sections of one body at different
        # heights, so they are united: even-odd between them would cut the body hollow.
        mask[_slice_of(plane, grid)] |= fill_even_odd(polygons, grid.shape[1:])
    return mask


def fill_even_odd(polygons: list[NDArray[np.float64]], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels whose centre lies inside an odd number of polygons.

    Parameters
    ----------
    polygons
        Vertices ``(n, 2)`` in (y, x), in pixels, inside the image; closed from last to first.

    Returns
    -------
    bool ``(y, x)``.
    """
    rows, columns = shape
    # Each edge flips every pixel to its right in the rows it crosses; the flips are summed up.
    flips = np.zeros((rows, columns + 1), dtype=np.int64)
    for polygon in polygons:
        start, end = polygon, np.roll(polygon, -1, axis=0)
        lower = np.where((start[:, 0] <= end[:, 0])[:, None], start, end)
        upper = np.where((start[:, 0] <= end[:, 0])[:, None], end, start)
        # Half-open in y, so that a vertex on a row counts for one of its two edges; level edges for none.
        first, stop = np.ceil(lower[:, 0]).astype(int), np.ceil(upper[:, 0]).astype(int)
        count = stop - first
        edge = np.repeat(np.arange(len(polygon)), count)
        row = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count) + first[edge]
        slope = (upper[edge, 1] - lower[edge, 1]) / (upper[edge, 0] - lower[edge, 0])
        crossing = lower[edge, 1] + (row - lower[edge, 0]) * slope
        column = np.ceil(np.round(crossing, INDEX_DECIMALS)).astype(int)
        inside = (row >= 0) & (row < rows)
        np.add.at(flips, (row[inside], np.clip(column[inside], 0, columns)), 1)
    return np.asarray(np.cumsum(flips, axis=1)[:, :columns] % 2 == 1)


def _require_planar(index: NDArray[np.float64], structure: Structure, grid: Grid) -> None:
    extent_mm = float(np.ptp(index[:, 0])) * grid.spacing_mm[0]
    if extent_mm > PLANARITY_TOLERANCE_MM:
        raise _error(
            "a contour is not parallel to the slices of the image", structure, f"{extent_mm:.2f} mm across the slices"
        )


def _require_inside(index: NDArray[np.float64], structure: Structure, grid: Grid) -> None:
    low, high = index.min(axis=0), index.max(axis=0)
    last = np.array(grid.shape) - 1
    if np.any(low < -EDGE) or np.any(high > last + EDGE):
        raise _error(
            "a contour leaves the image",
            structure,
            f"voxels {low.round(1).tolist()} to {high.round(1).tolist()} of {list(grid.shape)} (slice, row, column)",
        )


def _by_plane(contours: list[NDArray[np.float64]], grid: Grid) -> dict[float, list[NDArray[np.float64]]]:
    """Outlines in (y, x) by the place of their plane, in slices."""
    planes: dict[float, list[NDArray[np.float64]]] = {}
    for index in sorted(contours, key=lambda points: float(points[:, 0].mean())):
        place = float(index[:, 0].mean())
        last = max(planes, default=-np.inf)
        same = (place - last) * grid.spacing_mm[0] <= SAME_PLANE_TOLERANCE_MM
        planes.setdefault(last if same else place, []).append(index[:, 1:])
    return planes


def _require_dense(planes: list[float], structure: Structure, grid: Grid) -> None:
    if len(planes) < 2:
        return
    steps = np.sort(np.diff(planes))
    # The lower median: a region in two parts has a large step between them, and that is no defect.
    usual = float(steps[(len(steps) - 1) // 2])
    if usual > COARSE_TOLERANCE:
        step_mm = usual * grid.spacing_mm[0]
        raise _error(
            "the contours are further apart than the slices of the image, which would leave slices empty",
            structure,
            f"{step_mm:.2f} mm",
            f"{grid.spacing_mm[0]:.2f} mm",
        )


def _slice_of(plane: float, grid: Grid) -> int:
    nearest = int(np.floor(plane + 0.5 + HALF_WAY_TOLERANCE))
    return min(max(nearest, 0), grid.shape[0] - 1)


def _error(what: str, structure: Structure, value: str | None = None, expected: str | None = None) -> ContourError:
    return ContourError(f"{what}: structure {structure.number} ({structure.name})", value=value, expected=expected)
