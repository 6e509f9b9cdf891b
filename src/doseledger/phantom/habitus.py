"""Build of a virtual patient: the measures from which the organs are placed, and the outer layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike
from scipy.interpolate import PchipInterpolator

from doseledger.phantom.shapes import Block, Floats, Image
from doseledger.phantom.view import Box, Surface, View

Sex = Literal["F", "M"]

#: Axes are DICOM LPS: the liver lies at negative x (the patient's right), the kidneys at positive y
#: (the back), the head at large z. Zero is the middle of the second lumbar vertebra of a person of
#: this height, with the tip of the sternum in front of it.
REFERENCE_HEIGHT_CM: Final = 172.0

#: Heights at which the tables below are joined smoothly, mm.
_HEIGHTS: Final = np.arange(-330.0, 521.0, 10.0)


def _joined(*rows: tuple[float, float, float, float]) -> Floats:
    """Columns after the first at `_HEIGHTS`, joined without overshoot."""
    table = np.array(rows)
    return np.asarray(PchipInterpolator(table[:, 0], table[:, 1:])(_HEIGHTS))


#: Outer contour: height z, half width, depth in front and behind, mm, for a body of medium fat.
_OUTER: Final = _joined(
    (-330.0, 165.0, 88.0, 98.0),
    (-235.0, 172.0, 94.0, 110.0),
    (-150.0, 163.0, 93.0, 102.0),
    (-80.0, 148.0, 96.0, 92.0),
    (-10.0, 146.0, 98.0, 90.0),
    (70.0, 150.0, 104.0, 92.0),
    (150.0, 156.0, 108.0, 96.0),
    (230.0, 160.0, 104.0, 100.0),
    (285.0, 172.0, 88.0, 98.0),
    (315.0, 150.0, 70.0, 88.0),
    (338.0, 92.0, 56.0, 76.0),
    (360.0, 60.0, 52.0, 66.0),
    (385.0, 56.0, 54.0, 62.0),
    (405.0, 62.0, 84.0, 66.0),
    (430.0, 70.0, 96.0, 82.0),
    (470.0, 75.0, 96.0, 94.0),
    (520.0, 74.0, 92.0, 94.0),
)
#: Thickness of the muscular wall (in the chest with ribs, in the pelvis with bones): height z, at the
#: side, in front and behind, mm.
_WALL: Final = _joined(
    (-330.0, 110.0, 55.0, 60.0),
    (-235.0, 88.0, 22.0, 52.0),
    (-150.0, 46.0, 12.0, 45.0),
    (-80.0, 15.0, 9.0, 36.0),
    (-10.0, 13.0, 9.0, 34.0),
    (70.0, 14.0, 12.0, 26.0),
    (150.0, 16.0, 15.0, 22.0),
    (230.0, 26.0, 17.0, 26.0),
    (285.0, 62.0, 18.0, 34.0),
    (315.0, 72.0, 20.0, 38.0),
    (338.0, 50.0, 26.0, 40.0),
    (360.0, 40.0, 34.0, 46.0),
    (520.0, 40.0, 34.0, 46.0),
)
#: Fat under the skin relative to its measure at the waist: height z, at the side, in front, behind.
_FAT: Final = _joined(
    (-330.0, 1.0, 0.8, 1.0),
    (-235.0, 1.3, 1.0, 1.5),
    (-150.0, 1.2, 1.1, 1.3),
    (-80.0, 1.15, 1.0, 1.15),
    (-10.0, 1.0, 0.85, 0.95),
    (70.0, 0.75, 0.6, 0.65),
    (150.0, 0.65, 0.5, 0.55),
    (285.0, 0.6, 0.45, 0.6),
    (338.0, 0.35, 0.25, 0.5),
    (385.0, 0.2, 0.2, 0.35),
    (520.0, 0.2, 0.2, 0.2),
)
_REFERENCE_FAT_MM: Final = 15.0
#: No half axis gets smaller than this, mm.
_LEAST_AXIS_MM: Final = 8.0
SKIN_MM: Final = 2.2
_NEWTON_STEPS: Final = 8


@dataclass(frozen=True)
class Habitus:
    """Measures of one patient.

    Attributes
    ----------
    tall, wide, deep
        Factors on the reference body along z, x and y, for what is not fat.
    fat_mm
        Fat under the skin at the waist.
    spine_phase_mm
        Height of the spine against the organs: varies between people.
    """

    sex: Sex
    height_cm: int
    tall: float
    wide: float
    deep: float
    fat_mm: float
    squareness: float
    spine_phase_mm: float
    arms_down: bool

    @classmethod
    def drawn(cls, rng: np.random.Generator, sex: Sex) -> Habitus:
        """Height by sex; width, depth and fat with the spread of adult patients."""
        mean_cm = 165.0 if sex == "F" else 177.0
        height_cm = round(float(np.clip(rng.normal(mean_cm, 6.0), mean_cm - 14.0, mean_cm + 14.0)))
        tall = (height_cm / REFERENCE_HEIGHT_CM) ** 0.8
        build = float(rng.normal(0.0, 0.04))
        return cls(
            sex=sex,
            height_cm=height_cm,
            tall=tall,
            wide=float(np.clip(tall**0.5 * (1.0 + build + rng.normal(0.0, 0.015)), 0.92, 1.12)),
            deep=float(np.clip(1.11 * tall**0.5 * (1.0 + 1.3 * build + rng.normal(0.0, 0.03)), 0.99, 1.26)),
            fat_mm=float(np.clip(15.0 * np.exp(rng.normal(0.0, 0.4)), 6.0, 34.0)),
            squareness=float(rng.uniform(0.15, 0.6)),
            spine_phase_mm=float(rng.normal(0.0, 6.0)),
            arms_down=bool(rng.uniform() < 0.5),
        )

    def at(self, x: float, y: float, z: float) -> Floats:
        """A place of the reference body in this patient, LPS mm."""
        return np.array((x * self.wide, y * self.deep, z * self.tall))

    def line(self, points: Sequence[tuple[float, float, float]], *, side: float = 1.0) -> Floats:
        """Places of the reference body in this patient; a `side` of -1 mirrors left and right."""
        return np.array([self.at(side * x, y, z) for x, y, z in points])

    @property
    def body(self) -> Trunk:
        """The outer surface."""
        return self._inset(fat=0.0, wall=0.0, extra_mm=0.0)

    @property
    def muscle(self) -> Trunk:
        """The surface under the fat."""
        return self._inset(fat=1.0, wall=0.0, extra_mm=SKIN_MM)

    def cavity(self, margin_mm: float = 0.0) -> Trunk:
        """What the muscular wall encloses, smaller by a margin."""
        return self._inset(fat=1.0, wall=1.0, extra_mm=SKIN_MM + margin_mm)

    def chest_line(self, angle_deg: float, z: float, into_wall: float) -> Floats:
        """A point in the wall: 0 degrees is behind, 90 at the left side, 180 in front.

        Parameters
        ----------
        z
            Height in the reference body.
        into_wall
            Depth in the wall, 0 at its outer and 1 at its inner surface.
        """
        trunk = self._inset(fat=1.0, wall=into_wall, extra_mm=SKIN_MM)
        return trunk.edge(angle_deg, z * self.tall)

    def section_ml_per_mm(self, z: float) -> float:
        """Area of the body at a height of the reference body, mL per mm of length."""
        points = self.body.edge(np.arange(0.0, 360.0, 2.0), z * self.tall)
        x, y = points[:, 0], points[:, 1]
        return 0.5 * abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))) / 1.0e3

    def _inset(self, *, fat: float, wall: float, extra_mm: float) -> Trunk:
        axes = []
        for column, scale in enumerate((self.wide, self.deep, self.deep)):
            # More or less fat than the reference has changes the outer surface, not what is under it.
            layer = _FAT[:, column]
            lean = scale * (_OUTER[:, column] - _REFERENCE_FAT_MM * layer)
            outer = lean + (1.0 - fat) * self.fat_mm * layer - wall * scale * _WALL[:, column]
            axes.append(np.maximum(outer - extra_mm, _LEAST_AXIS_MM))
        return Trunk(_HEIGHTS * self.tall, axes[0], axes[1], axes[2], self.squareness)


@dataclass(frozen=True, eq=False)
class Trunk(Surface):
    """A long body about the z axis whose sections are ellipses with fuller corners.

    ``f(|x|/a) + f(|y|/b) = 1`` with ``f(u) = (1 - q) u^2 + q u^3``, squareness q, and the half width
    a and the depths b in front and behind as functions of z. The distance is ``(f + f - 1)`` over its
    gradient in the plane: exact to first order at the surface.
    """

    z_mm: Floats
    half_width_mm: Floats
    front_mm: Floats
    back_mm: Floats
    squareness: float

    @property
    def box(self) -> Box:
        a, front, back = (float(v.max()) for v in (self.half_width_mm, self.front_mm, self.back_mm))
        return Box(np.array([-a, -front, -1.0e4]), np.array([a, back, 1.0e4]))

    def distance(self, view: View, block: Block) -> Image:
        points = view.points(block)
        a, front, back = (self._at(points.z, v) for v in (self.half_width_mm, self.front_mm, self.back_mm))
        b = np.where(points.y < 0, front, back)
        q = np.float32(self.squareness)
        u, v = np.abs(points.x) / a, np.abs(points.y) / b
        value = u * u * (1 - q + q * u) + v * v * (1 - q + q * v)
        slope_u, slope_v = u * (2 * (1 - q) + 3 * q * u) / a, v * (2 * (1 - q) + 3 * q * v) / b
        # Near the axis the slope vanishes; any large depth will do there.
        return np.asarray((value - 1) / np.sqrt(slope_u * slope_u + slope_v * slope_v + (np.float32(0.3) / a) ** 2))

    def edge(self, angle_deg: ArrayLike, z_mm: float) -> Floats:
        """Points ``(..., 3)`` of the surface at angles: 0 degrees is behind, 90 at the left side, 180 in front."""
        angle = np.radians(np.asarray(angle_deg, dtype=np.float64))
        a, front, back = (
            float(np.interp(z_mm, self.z_mm, v)) for v in (self.half_width_mm, self.front_mm, self.back_mm)
        )
        u, v = np.abs(np.sin(angle)) / a, np.abs(np.cos(angle)) / np.where(np.cos(angle) > 0.0, back, front)
        two, three = (1.0 - self.squareness) * (u**2 + v**2), self.squareness * (u**3 + v**3)
        radius = 1.0 / np.sqrt(u**2 + v**2)
        # Newton's method on two r^2 + three r^3 = 1, from the ellipse: it converges from above.
        for _ in range(_NEWTON_STEPS):
            radius -= (two * radius**2 + three * radius**3 - 1.0) / (2.0 * two * radius + 3.0 * three * radius**2)
        return np.stack([radius * np.sin(angle), radius * np.cos(angle), np.full_like(radius, z_mm)], axis=-1)

    def _at(self, z: Image | Floats, values: Floats) -> Image:
        return np.interp(z, self.z_mm, values).astype(np.float32)
