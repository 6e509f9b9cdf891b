"""The phantoms of a camera study: where their activity is, and what CT sees of them.

* ``cylinder``: uniform, for the sensitivity;
* ``spheres``: the six fillable spheres of the NEMA IEC body phantom, hot in cold water, for recovery against volume;
* ``kidneys``: an ellipsoid of the size of a kidney, filled in whole, without its pelvis, and in its cortex alone.
  Recovery against volume is wrong for kidneys; these three show by how much.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi, radians, sin, sqrt
from typing import Final

import numpy as np

from doseledger.geometry import Grid, Vector
from doseledger.phantom.design import FIELDS
from doseledger.phantom.shapes import Cylinder, Ellipsoid, Floats, Image, Solid, occupancy
from doseledger.units import BQ_PER_MBQ, MM3_PER_ML

#: Inner diameters of the fillable spheres, mm, and their place on a circle (IEC 61675-1, NEMA NU 2).
SPHERE_DIAMETERS_MM: Final = (10.0, 13.0, 17.0, 22.0, 28.0, 37.0)
_SPHERE_CIRCLE_MM: Final = 57.2
#: Body of the phantoms with inserts, as an ellipse, mm.
_BODY_HALF_MM: Final = (150.0, 115.0, 97.0)
#: Cylinder for the sensitivity: 6.8 L.
_CYLINDER_HALF_MM: Final = (108.0, 108.0, 93.0)
#: Kidney-shaped inserts: an ellipsoid, its pelvis, and what its cortex leaves inside, half-axes in mm.
_KIDNEY_HALF_MM: Final = (27.0, 25.0, 52.0)
_PELVIS_HALF_MM: Final = (11.0, 10.0, 25.0)
_CORTEX_MM: Final = 10.0
_KIDNEY_PITCH_MM: Final = 95.0

#: Activity concentrations at the start of the scans, MBq/mL: 0.6 GBq in the cylinder, 72 MBq in the spheres.
CYLINDER_MBQ_PER_ML: Final = 0.088
SPHERE_MBQ_PER_ML: Final = 1.5
KIDNEY_MBQ_PER_ML: Final = 0.6

_SAMPLES: Final = 6
_WATER_HU: Final = 0.0
_AIR_HU: Final = -1000.0
_OUTLINE_POINTS: Final = 128


@dataclass(frozen=True)
class Filled:
    """A part that holds activity, evenly: a solid, or what is left of it around a hollow inside.

    Attributes
    ----------
    mbq_per_ml
        At the start of the scan.
    """

    name: str
    shape: str
    solid: Ellipsoid | Cylinder
    mbq_per_ml: float
    hollow: Ellipsoid | None = None

    @property
    def outline_ml(self) -> float:
        """Volume inside the outer surface, which is what the outline goes around."""
        return _volume_ml(self.solid)

    @property
    def volume_ml(self) -> float:
        return self.outline_ml - (0.0 if self.hollow is None else self.hollow.volume_ml)

    @property
    def activity_mbq(self) -> float:
        return self.mbq_per_ml * self.volume_ml

    def section(self, z_mm: float) -> Floats | None:
        """Outline of the outer surface at a height, LPS points ``(n, 3)``; None above and below the part."""
        if isinstance(self.solid, Ellipsoid):
            return self.solid.section(z_mm)
        centre, half = self.solid.centre_mm, self.solid.half_mm
        if abs(z_mm - centre[2]) > half[2]:
            return None
        step = 2.0 * pi / _OUTLINE_POINTS
        angles = step * np.arange(_OUTLINE_POINTS)
        # A little outside of the circle: the polygon then has the circle's area.
        circle = np.sqrt(step / sin(step)) * np.column_stack([np.cos(angles), np.sin(angles)])
        return np.column_stack([centre[:2] + half[:2] * circle, np.full(_OUTLINE_POINTS, z_mm)])


@dataclass(frozen=True)
class Phantom:
    """A water-filled body with parts that hold activity; the water around them is cold."""

    name: str
    body: Cylinder
    parts: tuple[Filled, ...]

    @property
    def volume_ml(self) -> float:
        return _volume_ml(self.body)

    @property
    def radius_mm(self) -> float:
        """Radius of the circle with the area of the body's section."""
        return sqrt(float(self.body.half_mm[0] * self.body.half_mm[1]))

    @property
    def activity_mbq(self) -> float:
        return sum(part.activity_mbq for part in self.parts)

    def activity_map(self, grid: Grid) -> Image:
        """Activity concentration, Bq/mL ``(z, y, x)``; each part holds exactly its activity."""
        total = np.zeros(grid.shape, dtype=np.float32)
        for part in self.parts:
            share = _share(part.solid, grid)
            if part.hollow is not None:
                share -= _share(part.hollow, grid)
            sampled_ml = float(share.sum(dtype=np.float64)) * grid.voxel_volume_ml
            total += share * np.float32(part.activity_mbq * BQ_PER_MBQ / sampled_ml)
        return total

    def hounsfield(self, grid: Grid) -> Image:
        """CT numbers: the walls of the inserts are too thin to be seen."""
        return np.asarray(_AIR_HU + (_WATER_HU - _AIR_HU) * _share(self.body, grid), dtype=np.float32)


def phantoms() -> tuple[Phantom, ...]:
    """The three phantoms, centred in the fields of the virtual scanners."""
    z = FIELDS["demo"].spect.centre_mm[2]
    cylinder = Cylinder.at((0.0, 0.0, z), _CYLINDER_HALF_MM)
    body = Cylinder.at((0.0, 0.0, z), _BODY_HALF_MM)
    return (
        Phantom("cylinder", cylinder, (Filled("cylinder", "cylinder", cylinder, CYLINDER_MBQ_PER_ML),)),
        Phantom("spheres", body, tuple(_spheres(z))),
        Phantom("kidneys", body, tuple(_kidneys(z))),
    )


def _spheres(z_mm: float) -> list[Filled]:
    parts = []
    for index, diameter in enumerate(SPHERE_DIAMETERS_MM):
        angle = radians(60.0 * index)
        centre: Vector = (_SPHERE_CIRCLE_MM * cos(angle), _SPHERE_CIRCLE_MM * sin(angle), z_mm)
        sphere = Ellipsoid.at(centre, (diameter / 2.0, diameter / 2.0, diameter / 2.0))
        parts.append(Filled(f"sphere_{diameter:.0f}mm", "sphere", sphere, SPHERE_MBQ_PER_ML))
    return parts


def _kidneys(z_mm: float) -> list[Filled]:
    medulla = tuple(half - _CORTEX_MM for half in _KIDNEY_HALF_MM)
    hollows = (
        ("kidney_ellipsoid", None),
        ("kidney_parenchyma", _PELVIS_HALF_MM),
        ("kidney_cortex", (medulla[0], medulla[1], medulla[2])),
    )
    parts = []
    for index, (name, hollow_half_mm) in enumerate(hollows):
        centre = ((index - 1) * _KIDNEY_PITCH_MM, 0.0, z_mm)
        whole = Ellipsoid.at(centre, _KIDNEY_HALF_MM)
        hollow = None if hollow_half_mm is None else Ellipsoid.at(centre, hollow_half_mm)
        parts.append(Filled(name, "ellipsoid" if hollow is None else "shell", whole, KIDNEY_MBQ_PER_ML, hollow))
    return parts


def _share(solid: Solid, grid: Grid) -> Image:
    """Share of each voxel in a solid, full-size ``(z, y, x)``."""
    block, share = occupancy(solid, grid, _SAMPLES)
    image = np.zeros(grid.shape, dtype=np.float32)
    image[block] = share
    return image


def _volume_ml(solid: Ellipsoid | Cylinder) -> float:
    if isinstance(solid, Ellipsoid):
        return solid.volume_ml
    a, b, half_length = (float(half) for half in solid.half_mm)
    return 2.0 * pi * a * b * half_length / MM3_PER_ML
