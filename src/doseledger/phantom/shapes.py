"""Exact solids of phantoms (DICOM LPS, mm): volume, sections and occupancy of any grid."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from itertools import product
from math import cos, pi, radians, sin, sqrt
from typing import Final, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from doseledger.geometry import Grid, Vector
from doseledger.units import MM3_PER_ML

Floats = NDArray[np.float64]
Image = NDArray[np.float32]
Bools = NDArray[np.bool_]
Block = tuple[slice, slice, slice]

#: Corners of a section polygon. With its area equal to the ellipse's, no point is off by more than 0.1 % of the radius.
SECTION_POINTS: Final = 64
#: Sections with a shorter half-axis than this are not drawn: nobody outlines a sliver at an organ's pole.
SHORTEST_SECTION_MM: Final = 1.0


@dataclass(frozen=True, eq=False)
class Solid(ABC):
    """A solid with three half-axes; a half-axis may be infinite.

    Attributes
    ----------
    centre_mm
        LPS position ``(x, y, z)``.
    half_mm
        Half-axes, mm.
    axes
        Unit vectors of the half-axes in LPS, one per row.
    """

    centre_mm: Floats
    half_mm: Floats
    axes: Floats

    @classmethod
    def at(cls, centre_mm: ArrayLike, half_mm: ArrayLike, *, tilt_deg: Vector = (0.0, 0.0, 0.0)) -> Self:
        """Solid with axes along x, y and z, tilted about x, then y, then z."""
        return cls(np.array(centre_mm, float), np.array(half_mm, float), rotation(tilt_deg).T)

    @abstractmethod
    def contains(self, u: Image, v: Image, w: Image) -> Bools:
        """Whether points are inside, in coordinates along the axes in units of the half-axes."""


class Ellipsoid(Solid):
    """All three half-axes finite."""

    @property
    def volume_ml(self) -> float:
        return 4.0 / 3.0 * pi * float(np.prod(self.half_mm)) / MM3_PER_ML

    def contains(self, u: Image, v: Image, w: Image) -> Bools:
        return np.asarray(u * u + v * v + w * w <= 1.0)

    def section(self, z_mm: float) -> Floats | None:
        """Outline of the cut at height `z_mm`: LPS points ``(SECTION_POINTS, 3)``, None outside the solid.

        The cut of an ellipsoid is an ellipse. Its polygon has the same area, so that volumes taken
        from the outlines carry no bias from the number of points.
        """
        form = self.axes.T @ np.diag(self.half_mm**-2) @ self.axes
        plane, lean = form[:2, :2], form[:2, 2]
        height = z_mm - self.centre_mm[2]
        drift = np.linalg.solve(plane, lean)
        rest = 1.0 - float(form[2, 2] - lean @ drift) * height**2
        if rest <= 0.0:
            return None
        if np.sqrt(rest / np.linalg.eigvalsh(plane)).min() < SHORTEST_SECTION_MM:
            return None
        step = 2.0 * pi / SECTION_POINTS
        angles = step * np.arange(SECTION_POINTS)
        circle = sqrt(rest * step / sin(step)) * np.array([np.cos(angles), np.sin(angles)])
        # The Cholesky factor turns the circle into the ellipse and always goes round it from left to back.
        ellipse = np.linalg.solve(np.linalg.cholesky(plane).T, circle).T
        in_plane = self.centre_mm[:2] - drift * height + ellipse
        return np.column_stack([in_plane, np.full(SECTION_POINTS, z_mm)])


class Cylinder(Solid):
    """Elliptic cylinder along its third axis."""

    def contains(self, u: Image, v: Image, w: Image) -> Bools:
        return np.asarray((u * u + v * v <= 1.0) & (np.abs(w) <= 1.0))


def occupancy(solid: Solid, grid: Grid, samples: int) -> tuple[Block, Image]:
    """Share of each voxel that lies in the solid, from ``samples**3`` points per voxel.

    Returns
    -------
    block, share
        The part of the grid around the solid, and the shares ``(z, y, x)`` in it, 0 to 1. An axis
        along which the solid does not change (the body along z) is sampled once.
    """
    cosines = solid.axes @ np.asarray(grid.direction).T
    spacing = np.asarray(grid.spacing_mm)
    steps = cosines * spacing / solid.half_mm[:, None]
    block = _block_around(solid, cosines, grid)
    centre = grid.index(solid.centre_mm[None, :])[0]
    offsets = [
        _sub_offsets(part, centre[axis], samples if steps[:, axis].any() else 0) for axis, part in enumerate(block)
    ]
    inside = np.zeros([len(points[0]) for points in offsets], dtype=np.float32)
    combinations = list(product(*offsets))
    for z, y, x in combinations:
        u, v, w = (
            np.float32(row[0]) * z[:, None, None]
            + np.float32(row[1]) * y[None, :, None]
            + np.float32(row[2]) * x[None, None, :]
            for row in steps
        )
        inside += solid.contains(u, v, w)
    share = inside / np.float32(len(combinations))
    return block, np.broadcast_to(share, [part.stop - part.start for part in block])


def _block_around(solid: Solid, cosines: Floats, grid: Grid) -> Block:
    """The voxels that the solid can touch; empty where it is outside the grid."""
    reach = np.zeros((3, 3))
    # An infinite half-axis across an array axis would be zero times infinity.
    np.multiply(np.abs(cosines), solid.half_mm[:, None], out=reach, where=cosines != 0.0)
    half = reach.sum(axis=0) / np.asarray(grid.spacing_mm)
    centre = grid.index(solid.centre_mm[None, :])[0]
    starts = np.clip(np.floor(centre - half), 0, grid.shape).astype(int)
    stops = np.clip(np.ceil(centre + half) + 1, starts, grid.shape).astype(int)
    z, y, x = (slice(int(start), int(stop)) for start, stop in zip(starts, stops, strict=True))
    return (z, y, x)


def _sub_offsets(part: slice, centre: float, samples: int) -> list[Image]:
    """Distances of the sample points from the centre, in voxels: one array per point within a voxel."""
    if samples == 0:
        return [np.zeros(1, dtype=np.float32)]
    voxels = np.arange(part.start, part.stop) - centre
    return [(voxels + (point + 0.5) / samples - 0.5).astype(np.float32) for point in range(samples)]


def vector(x: float, y: float, z: float) -> Floats:
    """A place or a direction as an array."""
    return np.array((x, y, z), dtype=np.float64)


def rotation(tilt_deg: Vector) -> Floats:
    """Matrix of a rotation about x, then y, then z."""
    matrix = np.eye(3)
    for axis, angle in enumerate(tilt_deg):
        c, s = cos(radians(angle)), sin(radians(angle))
        a, b = (axis + 1) % 3, (axis + 2) % 3
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = c, -s, s, c
        matrix = turn @ matrix
    return matrix
