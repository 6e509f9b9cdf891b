"""Surfaces of the virtual body: ellipsoids, tubes, and what is made of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from doseledger.geometry import Vector
from doseledger.phantom.shapes import Block, Ellipsoid, Floats, Image
from doseledger.phantom.view import Box, Points, Surface, View, inside, voxel_mm, wave

#: Stands for outside where the distance is not computed, mm.
FAR_MM: Final = 1.0e3
#: Long lines are followed in steps of this share of a voxel; those with few steps as they are.
_STEP_PER_VOXEL: Final = 1.2
_FEW_STEPS: Final = 12
#: Bumps smaller than this share of a voxel are not followed: they leave the volume as it is.
_BUMPS_FROM: Final = 0.25
#: Keeps divisions by a length finite.
_TINY: Final = np.float32(1.0e-6)


@dataclass(frozen=True, eq=False)
class Oval(Surface):
    """The surface of an ellipsoid."""

    ellipsoid: Ellipsoid

    @classmethod
    def at(cls, centre_mm: ArrayLike, half_mm: ArrayLike, *, tilt_deg: Vector = (0.0, 0.0, 0.0)) -> Oval:
        """Ellipsoid with axes along x, y and z, tilted about x, then y, then z."""
        return cls(Ellipsoid.at(np.asarray(centre_mm), np.asarray(half_mm), tilt_deg=tilt_deg))

    @property
    def centre_mm(self) -> Floats:
        return self.ellipsoid.centre_mm

    @property
    def half_mm(self) -> Floats:
        return self.ellipsoid.half_mm

    @property
    def box(self) -> Box:
        reach = np.sqrt((self.ellipsoid.axes**2).T @ self.half_mm**2)
        return Box(self.centre_mm - reach, self.centre_mm + reach)

    def distance(self, view: View, block: Block) -> Image:
        # With k0 = |q / a| and k1 = |q / a^2| for half-axes a, the distance is k0 (k0 - 1) / k1.
        points = view.points(block)
        x, y, z = (coordinate - np.float32(c) for coordinate, c in zip(points, self.centre_mm, strict=True))
        squares: Image | None = None
        slopes: Image | None = None
        for axis, half in zip(self.ellipsoid.axes, self.half_mm, strict=True):
            cx, cy, cz = (np.float32(c) for c in axis / half)
            square = (cx * x + cy * y + cz * z) ** 2
            slope = square * np.float32(1.0 / half**2)
            squares = square if squares is None else squares + square
            slopes = slope if slopes is None else slopes + slope
        assert squares is not None
        assert slopes is not None
        k0 = np.sqrt(squares)
        return np.asarray(k0 * (k0 - 1) / np.sqrt(slopes + _TINY**2))


@dataclass(frozen=True, eq=False)
class Tube(Surface):
    """A chain of round cones along a line; a stretched tube is flat or broad.

    Attributes
    ----------
    line_mm, radius_mm
        Points ``(n, 3)`` and the radius at each.
    stretch
        Factors on the cross-section along x, y and z.
    """

    line_mm: Floats
    radius_mm: Floats
    stretch: Vector = (1.0, 1.0, 1.0)

    @classmethod
    def through(cls, line_mm: ArrayLike, radius_mm: ArrayLike, *, stretch: Vector = (1.0, 1.0, 1.0)) -> Tube:
        line = np.array(line_mm, float)
        return cls(line, np.broadcast_to(np.array(radius_mm, float), len(line)), stretch)

    @property
    def box(self) -> Box:
        reach = self.radius_mm[:, None] * np.array(self.stretch)
        return Box((self.line_mm - reach).min(axis=0), (self.line_mm + reach).max(axis=0))

    @property
    def thickness_mm(self) -> float:
        return 2.0 * float(self.radius_mm.max())

    def distance(self, view: View, block: Block) -> Image:
        nearest = np.full([part.stop - part.start for part in block], FAR_MM, dtype=np.float32)
        line, radius = self._seen_at(voxel_mm(view.grid))
        reach = radius[:, None] * np.array(self.stretch) + 2.0 * max(view.grid.spacing_mm)
        low, high = line - reach, line + reach
        starts, stops = view.blocks(np.minimum(low[:-1], low[1:]), np.maximum(high[:-1], high[1:]))
        first, last = np.array([(part.start, part.stop) for part in block]).T
        starts, stops = np.maximum(starts, first), np.minimum(stops, last)
        segments = self._segments(line, radius)
        for index in np.flatnonzero(np.all(starts < stops, axis=1)):
            z, y, x = (slice(int(a), int(b)) for a, b in zip(starts[index], stops[index], strict=True))
            part = nearest[inside(block, (z, y, x))]
            np.minimum(part, _to_segment(view.points((z, y, x)), segments[index]), out=part)
        return nearest

    def _seen_at(self, width_mm: float) -> tuple[Floats, Floats]:
        """The line with no more points than voxels of some width can tell apart, and the radii."""
        steps = len(self.line_mm) - 1
        length_mm = float(np.linalg.norm(np.diff(self.line_mm, axis=0), axis=1).sum())
        wanted = int(np.clip(np.ceil(length_mm / (_STEP_PER_VOXEL * width_mm)), 1, steps))
        keep = np.rint(np.linspace(0, steps, wanted + 1)).astype(np.int64) if steps > _FEW_STEPS else slice(None)
        return self.line_mm[keep], self.radius_mm[keep]

    def _segments(self, line: Floats, radius: Floats) -> Image:
        """Per segment: scale, start and direction (of the line in scaled space), radius, its change, mean stretch."""
        scale = 1.0 / np.array(self.stretch)
        start, along = line[:-1] * scale, np.diff(line, axis=0) * scale
        along /= np.maximum(np.linalg.norm(along, axis=1, keepdims=True), 1e-3) ** 2
        ends = np.column_stack([radius[:-1], np.diff(radius), np.full(len(along), np.mean(self.stretch))])
        return np.column_stack([np.broadcast_to(scale, along.shape), start, along, ends]).astype(np.float32)


def _to_segment(points: Points, segment: Image) -> Image:
    sx, sy, sz, x0, y0, z0, ux, uy, uz, radius, more, stretch = segment
    x, y, z = points.x * sx - x0, points.y * sy - y0, points.z * sz - z0
    # u is the direction over the squared length: (x, y, z) u is the share of the way along the segment.
    share = np.minimum(np.maximum(ux * x + uy * y + uz * z, 0), 1)
    along = share * (1 / (ux * ux + uy * uy + uz * uz))
    off = np.sqrt((x - along * ux) ** 2 + (y - along * uy) ** 2 + (z - along * uz) ** 2)
    # The mean stretch turns the distance back into millimetres; it is exact where the stretch is one.
    return np.asarray((off - radius - share * more) * stretch)


@dataclass(frozen=True, eq=False)
class Union(Surface):
    """All of several solids."""

    parts: Sequence[Surface]

    @property
    def box(self) -> Box:
        box = self.parts[0].box
        for part in self.parts[1:]:
            box = box.joined(part.box)
        return box

    def distance(self, view: View, block: Block) -> Image:
        nearest = self.parts[0].distance(view, block)
        for part in self.parts[1:]:
            nearest = np.minimum(nearest, part.distance(view, block))
        return nearest


@dataclass(frozen=True, eq=False)
class Blend(Surface):
    """Two solids that merge smoothly: the edge between them is rounded over `smooth_mm`."""

    one: Surface
    other: Surface
    smooth_mm: float

    @property
    def box(self) -> Box:
        return self.one.box.joined(self.other.box).grown(self.smooth_mm / 4.0)

    def distance(self, view: View, block: Block) -> Image:
        a, b = self.one.distance(view, block), self.other.distance(view, block)
        h = np.maximum(np.float32(self.smooth_mm) - np.abs(a - b), 0)
        return np.asarray(np.minimum(a, b) - h * h * np.float32(0.25 / self.smooth_mm))


@dataclass(frozen=True, eq=False)
class Within(Surface):
    """What of a solid lies inside others, and outside of further ones by a gap."""

    solid: Surface
    inside: Sequence[Surface] = ()
    outside: Sequence[Surface] = ()
    gap_mm: float = 0.0

    @property
    def box(self) -> Box:
        return self.solid.box

    def distance(self, view: View, block: Block) -> Image:
        result = self.solid.distance(view, block)
        margin = np.float32(self.gap_mm)
        for other in self.inside:
            result = np.maximum(result, other.distance(view, block) + margin)
        for other in self.outside:
            result = np.maximum(result, margin - other.distance(view, block))
        return result


@dataclass(frozen=True, eq=False)
class Offset(Surface):
    """A solid grown (or shrunk, if negative) by a distance."""

    solid: Surface
    grow_mm: float

    @property
    def box(self) -> Box:
        return self.solid.box.grown(max(self.grow_mm, 0.0))

    def distance(self, view: View, block: Block) -> Image:
        return self.solid.distance(view, block) - np.float32(self.grow_mm)


@dataclass(frozen=True, eq=False)
class Uneven(Surface):
    """A solid with a smoothly uneven surface.

    The surface moves by ``sum_i a_i sin(k_i q + phase_i)``, q in mm at rest: bumps of a few
    millimetres with wavelengths of centimetres, as no organ is an ellipsoid.
    """

    solid: Surface
    amplitude_mm: float
    waves_per_mm: Floats
    phases: Floats

    @classmethod
    def drawn(cls, rng: np.random.Generator, solid: Surface, amplitude_mm: float, wavelength_mm: float) -> Uneven:
        """Three waves in random directions, with the given root-sum-square amplitude."""
        waves = rng.standard_normal((3, 3))
        waves *= 2.0 * np.pi / wavelength_mm / np.linalg.norm(waves, axis=1, keepdims=True)
        return cls(solid, amplitude_mm, waves, rng.uniform(0.0, 2.0 * np.pi, 3))

    @property
    def box(self) -> Box:
        return self.solid.box.grown(self.amplitude_mm * float(np.sqrt(len(self.phases))))

    def distance(self, view: View, block: Block) -> Image:
        if self.amplitude_mm < _BUMPS_FROM * voxel_mm(view.grid):
            return self.solid.distance(view, block)
        amplitude = np.float32(self.amplitude_mm / np.sqrt(len(self.phases)))
        points = view.points(block)
        bumps = sum(wave(points, k, phase) for k, phase in zip(self.waves_per_mm, self.phases, strict=True))
        return np.asarray(self.solid.distance(view, block) - amplitude * bumps)


@dataclass(frozen=True, eq=False)
class HalfSpace(Surface):
    """Everything on the side of a plane from which its normal points away."""

    point_mm: Floats
    normal: Floats

    @classmethod
    def facing(cls, point_mm: ArrayLike, normal: ArrayLike) -> HalfSpace:
        direction = np.array(normal, float)
        return cls(np.array(point_mm, float), direction / np.linalg.norm(direction))

    @property
    def box(self) -> Box:
        return Box(np.full(3, -1.0e4), np.full(3, 1.0e4))

    def distance(self, view: View, block: Block) -> Image:
        points = view.points(block)
        offset = np.float32(self.normal @ self.point_mm)
        total = sum(np.float32(n) * p for n, p in zip(self.normal, points, strict=True) if n != 0.0) - offset
        return np.asarray(np.broadcast_to(total, [part.stop - part.start for part in block]))


@dataclass(frozen=True, eq=False)
class Drum(Surface):
    """An elliptic cylinder along z with a waist, as a vertebral body has."""

    centre_mm: Floats
    half_mm: Floats
    waist: float = 0.0

    @property
    def box(self) -> Box:
        return Box(self.centre_mm - self.half_mm, self.centre_mm + self.half_mm)

    def distance(self, view: View, block: Block) -> Image:
        points = view.points(block)
        x, y, z = (p - np.float32(c) for p, c in zip(points, self.centre_mm, strict=True))
        a, b, h = (np.float32(v) for v in self.half_mm)
        radius = 1 - np.float32(self.waist) * np.maximum(1 - (z / h) ** 2, 0)
        around = (np.sqrt((x / a) ** 2 + (y / b) ** 2) - radius) * min(a, b)
        return np.asarray(np.maximum(around, np.abs(z) - h))
