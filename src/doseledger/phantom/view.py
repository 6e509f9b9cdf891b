"""How a grid looks at a patient, and surfaces as signed distances (DICOM LPS, mm).

A surface's distance is negative inside and positive outside. It is exact to first order at the surface
and only there: what is drawn from it are surfaces, the share of a voxel on either side, and layers
of a few millimetres. Surfaces are described for a patient at rest; a `View` looks at them through a grid
with the patient moved.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from doseledger.geometry import Grid, Vector
from doseledger.phantom.shapes import Block, Floats, Image, rotation, vector


@dataclass(frozen=True)
class Pose:
    """How a body lies in the scanner: rotation about z (the long axis), then a shift."""

    rotation_deg: float = 0.0
    shift_mm: Vector = (0.0, 0.0, 0.0)

    @cached_property
    def matrix(self) -> Floats:
        return rotation((0.0, 0.0, self.rotation_deg))

    def then(self, other: Pose) -> Pose:
        """This pose, and then a further turn about the origin and shift."""
        x, y, z = other.matrix @ np.array(self.shift_mm) + np.array(other.shift_mm)
        return Pose(self.rotation_deg + other.rotation_deg, (float(x), float(y), float(z)))


Indices = NDArray[np.int64]


class Points(NamedTuple):
    """Coordinates of voxel centres in the frame of the patient at rest, mm; they broadcast to ``(z, y, x)``."""

    x: Image
    y: Image
    z: Image


@dataclass(frozen=True)
class Box:
    """An axis-parallel box around a solid, mm."""

    low_mm: Floats
    high_mm: Floats

    def grown(self, margin_mm: float) -> Box:
        return Box(self.low_mm - margin_mm, self.high_mm + margin_mm)

    def joined(self, other: Box) -> Box:
        return Box(np.minimum(self.low_mm, other.low_mm), np.maximum(self.high_mm, other.high_mm))

    def touches(self, other: Box) -> bool:
        return bool(np.all(self.low_mm <= other.high_mm) and np.all(other.low_mm <= self.high_mm))


@dataclass(frozen=True)
class View:
    """A grid that looks at a patient who lies in some pose.

    Attributes
    ----------
    lift_mm
        Shift along z on top of the pose, for what moves with the breath.
    """

    grid: Grid
    pose: Pose = field(default_factory=Pose)
    lift_mm: float = 0.0

    def breathing(self, share: float) -> View:
        """The same view of what moves with the breath by this share of `lift_mm`."""
        if share not in self._lifted:
            self._lifted[share] = View(self.grid, self.pose, self.lift_mm * share)
        return self._lifted[share]

    @cached_property
    def _lifted(self) -> dict[float, View]:
        return {1.0: self}

    def block(self, box: Box) -> Block:
        """The voxels that a box can touch; empty where it is outside the grid."""
        starts, stops = self.blocks(box.low_mm, box.high_mm)
        z, y, x = (slice(int(a), int(b)) for a, b in zip(starts, stops, strict=True))
        return (z, y, x)

    def blocks(self, low_mm: Floats, high_mm: Floats) -> tuple[Indices, Indices]:
        """First and last-but-one index ``(..., 3)`` of the voxels that boxes ``(..., 3)`` can touch."""
        low, high = self._extent(low_mm, high_mm)
        starts = np.clip(np.floor(low), 0, self.grid.shape).astype(np.int64)
        return starts, np.clip(np.ceil(high) + 1, starts, self.grid.shape).astype(np.int64)

    def holds(self, box: Box) -> bool:
        """Whether a box is inside the grid."""
        low, high = self._extent(box.low_mm, box.high_mm)
        return bool(np.all(low >= -0.5) and np.all(high <= np.array(self.grid.shape) - 0.5))

    def points(self, block: Block) -> Points:
        return Points(*(_cut(coordinate, block) for coordinate in self._coordinates))

    def _extent(self, low_mm: Floats, high_mm: Floats) -> tuple[Floats, Floats]:
        """Lowest and highest index of the corners of boxes."""
        matrix, offset = self._to_index
        centre, half = (low_mm + high_mm) @ matrix.T / 2.0 + offset, (high_mm - low_mm) @ np.abs(matrix).T / 2.0
        return centre - half, centre + half

    @cached_property
    def _to_index(self) -> tuple[Floats, Floats]:
        """Matrix and offset from the frame of the patient at rest to indices ``(z, y, x)``."""
        axes = np.asarray(self.grid.direction) / np.asarray(self.grid.spacing_mm)[:, None]
        shift = np.array(self.pose.shift_mm) + vector(0.0, 0.0, self.lift_mm) - np.array(self.grid.origin_mm)
        return axes @ self.pose.matrix, axes @ shift

    @cached_property
    def _coordinates(self) -> tuple[Image, Image, Image]:
        """Each coordinate along the array axes on which it depends; all others have length one."""
        back = self.pose.matrix.T
        origin = back @ (np.array(self.grid.origin_mm) - np.array(self.pose.shift_mm) - vector(0.0, 0.0, self.lift_mm))
        steps = back @ np.asarray(self.grid.direction).T * np.asarray(self.grid.spacing_mm)
        x, y, z = (_coordinate(start, step, self.grid.shape) for start, step in zip(origin, steps, strict=True))
        return x, y, z


class Surface(ABC):
    """The surface of a solid, as a signed distance."""

    @property
    @abstractmethod
    def box(self) -> Box:
        """A box around the solid."""

    @property
    def thickness_mm(self) -> float:
        """Where the solid is thickest; not below that of its box unless it knows better."""
        return float((self.box.high_mm - self.box.low_mm).min())

    @abstractmethod
    def distance(self, view: View, block: Block) -> Image:
        """Signed distance of the block's voxel centres to the surface, mm ``(z, y, x)``; negative inside."""


def wave(points: Points, wave_per_mm: Floats, phase: float) -> Image:
    """``sin(k q + phase)`` at all points, from sines in the plane and along z."""
    kx, ky, kz = (np.float32(k) for k in wave_per_mm)
    plane, height = kx * points.x + ky * points.y + np.float32(phase), kz * points.z
    return np.asarray(np.sin(plane) * np.cos(height) + np.cos(plane) * np.sin(height))


def voxel_mm(grid: Grid) -> float:
    """Edge of the cube with the volume of a voxel: the width over which a surface fades."""
    return float(np.prod(grid.spacing_mm) ** (1.0 / 3.0))


def common(one: Block, other: Block) -> Block:
    """The voxels in both blocks; empty slices where there are none."""
    z, y, x = (
        slice(start := max(a.start, b.start), max(start, min(a.stop, b.stop))) for a, b in zip(one, other, strict=True)
    )
    return (z, y, x)


def inside(outer: Block, inner: Block) -> Block:
    """The inner block in indices of the outer one."""
    z, y, x = (slice(b.start - a.start, b.stop - a.start) for a, b in zip(outer, inner, strict=True))
    return (z, y, x)


def _coordinate(start: float, steps: Floats, shape: tuple[int, int, int]) -> Image:
    total = np.full((1, 1, 1), start)
    for axis, (step, count) in enumerate(zip(steps, shape, strict=True)):
        if step != 0.0:
            along = np.ones(3, dtype=int)
            along[axis] = count
            total = total + (step * np.arange(count)).reshape(along)
    return total.astype(np.float32)


def _cut(coordinate: Image, block: Block) -> Image:
    z, y, x = (part if size > 1 else slice(None) for part, size in zip(block, coordinate.shape, strict=True))
    return coordinate[z, y, x]
