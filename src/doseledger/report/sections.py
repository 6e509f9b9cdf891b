"""Sections through one scan for looking at: upright, cropped to the body, sampled at the pixels they are drawn with.

Volumes are turned upright as views and read only where a pixel is drawn: a large CT is never copied.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from math import ceil
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from doseledger.errors import GeometryError, QuantityError
from doseledger.geometry import Grid, Shape, Vector

Volume = NDArray[Any]
Index = NDArray[np.float64]

AXIAL, CORONAL, SAGITTAL = 0, 1, 2
#: Axes of the upright volume that run down and across a section, by the axis that it is normal to.
DOWN_ACROSS: Final = {AXIAL: (1, 2), CORONAL: (0, 2), SAGITTAL: (0, 1)}
#: Above this is the patient and the table, not air, HU.
_BODY_HU: Final = -400.0
#: Of the largest concentration: what is above belongs into a picture of activity.
_ACTIVE_FRACTION: Final = 0.02
#: The body is looked for in at most so many voxels along each axis.
_COARSE_VOXELS: Final = 96
#: Of the fullest slice: emptier ones at the edge hold noise or the end of a cable, not the body.
_SPECK_FRACTION: Final = 0.01
#: Around body and regions, mm.
_MARGIN_MM: Final = 10.0
#: What sections show above and below the regions, mm: a whole body would leave the organs too small to judge.
_BEYOND_REGIONS_MM: Final = 100.0


@dataclass(frozen=True, eq=False)
class ScanPanel:
    """One scan of a cycle: its images and its label map, each on a grid of its own, all in one patient space.

    Attributes
    ----------
    time_point
        How the scan is called on the sheet.
    labels
        uint8 ``(z, y, x)`` on `labels_grid`; 0 is outside every region.
    hu
        CT numbers ``(z, y, x)`` on `ct_grid`, HU; None without CT.
    spect_bq_per_ml
        Activity concentration ``(z, y, x)`` on `spect_grid`, Bq/mL; None without SPECT.
    flags
        Flags by region; a region without flags may be left out.

    Raises
    ------
    GeometryError
        An array has another shape than its grid or no grid, or the label map is not uint8.
    """

    time_point: str
    labels: NDArray[np.uint8]
    labels_grid: Grid
    hu: Volume | None = None
    ct_grid: Grid | None = None
    spect_bq_per_ml: Volume | None = None
    spect_grid: Grid | None = None
    flags: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.labels.dtype != np.uint8:
            raise GeometryError("a label map holds whole numbers from 0 to 255", value=str(self.labels.dtype))
        volumes = {
            "label map": (self.labels, self.labels_grid),
            "CT": (self.hu, self.ct_grid),
            "SPECT": (self.spect_bq_per_ml, self.spect_grid),
        }
        for name, (values, grid) in volumes.items():
            shape, expected = None if values is None else values.shape, None if grid is None else grid.shape
            if shape != expected:
                what = f"the {name} of scan {self.time_point} does not fit its grid"
                raise GeometryError(what, value=shape, expected=expected)


@dataclass(frozen=True, eq=False)
class Upright:
    """An array whose axes run to the head, the back and the patient's left, as nearly as its voxels do."""

    values: Volume
    grid: Grid

    @classmethod
    def of(cls, values: Volume, grid: Grid) -> Upright:
        """A view with permuted and reversed axes: nothing is copied or interpolated."""
        axes = np.asarray(grid.direction)[:, ::-1]
        order = max(permutations(range(3)), key=lambda p: sum(abs(axes[p[i], i]) for i in range(3)))
        signs = [1.0 if axes[order[i], i] >= 0 else -1.0 for i in range(3)]
        first = np.zeros(3)
        for axis, sign in zip(order, signs, strict=True):
            first[axis] = grid.shape[axis] - 1 if sign < 0 else 0
        view = np.flip(values.transpose(order), axis=tuple(i for i in range(3) if signs[i] < 0))
        a, b, c = order
        turned = [_scaled(grid.direction[axis], sign) for axis, sign in zip(order, signs, strict=True)]
        shape: Shape = (grid.shape[a], grid.shape[b], grid.shape[c])
        spacing_mm = (grid.spacing_mm[a], grid.spacing_mm[b], grid.spacing_mm[c])
        return cls(view, Grid(shape, spacing_mm, grid.position_mm(first), (turned[0], turned[1], turned[2])))


@dataclass(frozen=True, eq=False)
class FoundRegion:
    """A region as it is in one label map.

    `shadow` is its projection along the second axis, ``(z, x)``; `first` is the index of the lowest corner of
    the box that it fills, `last` that of the highest one.
    """

    volume_ml: float
    centroid_mm: Vector
    first: Index
    last: Index
    shadow: NDArray[np.bool_]


@dataclass(frozen=True)
class Box:
    """What is shown of a volume: fractional indices ``(z, y, x)`` of two corners."""

    low: Vector
    high: Vector

    def size_mm(self, grid: Grid, axis: int) -> float:
        """Extent along an axis of `grid`, mm."""
        return (self.high[axis] - self.low[axis]) * grid.spacing_mm[axis]


def find_regions(labels: Upright) -> dict[int, FoundRegion]:
    """Every label that has voxels."""
    found = {}
    for label, box in enumerate(ndimage.find_objects(labels.values), start=1):
        if box is None:
            continue
        mask = labels.values[box] == label
        first = np.array([part.start for part in box], dtype=float)
        profiles = [mask.sum(axis=tuple({0, 1, 2} - {axis})) for axis in range(3)]
        voxels = int(profiles[0].sum())
        middle = first + [float(profile @ np.arange(profile.size)) / voxels for profile in profiles]
        found[label] = FoundRegion(
            volume_ml=voxels * labels.grid.voxel_volume_ml,
            centroid_mm=labels.grid.position_mm(middle),
            first=first,
            last=first + np.array(mask.shape) - 1,
            shadow=mask.any(axis=1),
        )
    return found


def body_box(image: Upright, *, activity: bool) -> Box:
    """The patient in a CT (largest part above air), or what is active in an image of activity; else all of it."""
    step = [ceil(n / _COARSE_VOXELS) for n in image.grid.shape]
    coarse = image.values[:: step[0], :: step[1], :: step[2]]
    if activity:
        inside = coarse > max(float(coarse.max()), 0.0) * _ACTIVE_FRACTION
    else:
        parts, count = ndimage.label(coarse > _BODY_HU)
        inside = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:])) if count else parts > 0
    if not inside.any():
        return _field(image.grid)
    low, high = [], []
    for axis in range(3):
        profile = inside.sum(axis=tuple({0, 1, 2} - {axis}))
        filled = np.flatnonzero(profile > profile.max() * _SPECK_FRACTION)
        low.append(float((filled[0] - 1) * step[axis]))
        high.append(float((filled[-1] + 1) * step[axis]))
    return _widened(Box(_vector(low), _vector(high)), image.grid)


def section_box(body: Box, grid: Grid, labels: Grid, regions: Iterable[FoundRegion]) -> Box:
    """The body with all regions, as far up and down as there are regions and `_BEYOND_REGIONS_MM` more."""
    corners = [
        labels.position_mm(np.where(corner, region.last, region.first))
        for region in regions
        for corner in np.ndindex(2, 2, 2)
    ]
    if not corners:
        return body
    index = grid.index(np.array(corners))
    low, high = np.array(body.low), np.array(body.high)
    beyond = _BEYOND_REGIONS_MM / grid.spacing_mm[0]
    low[0], high[0] = max(low[0], index[:, 0].min() - beyond), min(high[0], index[:, 0].max() + beyond)
    box = Box(_vector(np.minimum(low, index.min(axis=0))), _vector(np.maximum(high, index.max(axis=0))))
    return _widened(box, grid)


def pixels(box: Box, axis: int, place: float, shape: tuple[int, int]) -> Index:
    """Indices ``(row, column, 3)`` of the pixels of a section: the head or the front is at the top.

    Parameters
    ----------
    axis, place
        The section is normal to this axis, at this index.
    shape
        Rows and columns of the picture.
    """
    down, across = DOWN_ACROSS[axis]
    rows = _centres(box.low[down], box.high[down], shape[0])
    points = np.empty((*shape, 3))
    points[..., axis] = place
    # The third axis of arrays runs to the head, pictures run down; the second one runs to the back already.
    points[..., down] = (rows[::-1] if down == 0 else rows)[:, None]
    points[..., across] = _centres(box.low[across], box.high[across], shape[1])
    return points


def sampled(image: Upright, points: Index) -> NDArray[np.float64]:
    """Values at indices, linear between voxels.

    Raises
    ------
    QuantityError
        A value is not finite.
    """
    values = ndimage.map_coordinates(
        image.values, np.moveaxis(points, -1, 0), order=1, mode="nearest", output=np.float64
    )
    return finite(values)


def labels_at(labels: Upright, points: Index, grid: Grid) -> NDArray[np.uint8]:
    """Label at indices of `grid`; 0 outside the label map."""
    to_lps = grid.index_to_lps
    positions_mm = points.reshape(-1, 3) @ to_lps[:3, :3].T + to_lps[:3, 3]
    index = np.rint(labels.grid.index(positions_mm)).astype(np.int64)
    inside = np.all((index >= 0) & (index < labels.grid.shape), axis=1)
    found = np.zeros(len(index), dtype=np.uint8)
    found[inside] = labels.values[tuple(index[inside].T)]
    return found.reshape(points.shape[:-1])


def finite(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """
    Raises
    ------
    QuantityError
        A value is not finite.
    """
    if not np.isfinite(values).all():
        raise QuantityError("the image holds values that are not finite", value=float(values[~np.isfinite(values)][0]))
    return values


def _field(grid: Grid) -> Box:
    return Box((-0.5, -0.5, -0.5), _vector([n - 0.5 for n in grid.shape]))


def _widened(box: Box, grid: Grid) -> Box:
    """With `_MARGIN_MM` on all sides, but within the field."""
    margin, field_box = _MARGIN_MM / np.asarray(grid.spacing_mm), _field(grid)
    low = np.clip(np.asarray(box.low) - margin, field_box.low, np.asarray(field_box.high) - 1.0)
    high = np.clip(np.asarray(box.high) + margin, low + 1.0, field_box.high)
    return Box(_vector(low), _vector(high))


def _centres(low: float, high: float, count: int) -> Index:
    return low + (np.arange(count) + 0.5) * (high - low) / count


def _scaled(vector: Vector, factor: float) -> Vector:
    return (factor * vector[0], factor * vector[1], factor * vector[2])


def _vector(values: Iterable[float]) -> Vector:
    a, b, c = (float(value) for value in values)
    return (a, b, c)
