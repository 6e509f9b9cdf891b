"""A virtual torso: analytic organs of one patient, and what CT and activity maps of it look like.

Axes are DICOM LPS: the liver lies at negative x (the patient's right), the spleen at positive x,
the kidneys at positive y (the back), the lungs at larger z (the head). The body is a cylinder that
goes on beyond every field of view, as a patient does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import pi
from typing import Final

import numpy as np

from doseledger.geometry import Grid
from doseledger.phantom.shapes import Box, Cylinder, Ellipsoid, Image, Pose, Solid, occupancy
from doseledger.units import BQ_PER_MBQ, MM3_PER_ML

#: Organs with a truth of their own. The lesion lies in the liver; `liver` is the liver without it.
ORGANS: Final = ("kidney_left", "kidney_right", "liver", "spleen", "lesion_1")
#: Sums of parts.
SUMS: Final[dict[str, tuple[str, ...]]] = {"kidneys": ("kidney_left", "kidney_right")}
REGIONS: Final = (*ORGANS, *SUMS)

#: Sample points per voxel axis: CT voxels are small against the organs, SPECT voxels are not.
CT_SAMPLES: Final = 2
SPECT_SAMPLES: Final = 4

#: Clearance between organs, and from organs to spine and fat, mm.
CLEARANCE_MM: Final = 3.0
_SURFACE_POINTS: Final = 600
_MAX_DRAWS: Final = 200

AIR_HU: Final = -1000.0


@dataclass(frozen=True)
class Tissue:
    """CT number and density; densities after ICRU Report 46 and Woodard and White 1986."""

    hu: float
    density_g_per_ml: float


FAT: Final = Tissue(-100.0, 0.95)
MUSCLE: Final = Tissue(50.0, 1.05)
#: Bowel and fat in even mixture: what lies between the organs, so that they stand out on CT.
CAVITY: Final = Tissue(-60.0, 0.97)
LUNG: Final = Tissue(-740.0, 0.26)
VERTEBRA: Final = Tissue(260.0, 1.18)
DISC: Final = Tissue(90.0, 1.10)
TISSUES: Final[dict[str, Tissue]] = {
    "kidney_left": Tissue(40.0, 1.05),
    "kidney_right": Tissue(40.0, 1.05),
    "liver": Tissue(55.0, 1.06),
    "spleen": Tissue(50.0, 1.06),
    "lesion_1": Tissue(40.0, 1.05),
}

#: Table of the scanner: a shell with a light core. It does not move with the patient.
_TABLE_SHELL_HU: Final = 20.0
_TABLE_CORE_HU: Final = -850.0
_TABLE_HALF_WIDTH_MM: Final = 205.0
_TABLE_HALF_HEIGHT_MM: Final = 14.0
_TABLE_SHELL_MM: Final = 4.0
#: Between the patient's back at rest and the table: a mattress that the CT does not show.
_MATTRESS_MM: Final = 12.0

_WALL_MM: Final = 14.0
_VERTEBRA_PITCH_MM: Final = 34.0
_DISC_MM: Final = 8.0


@dataclass(frozen=True, eq=False)
class Torso:
    """Solids of one patient at rest, or as they lie in one scan (`moved`)."""

    body: Cylinder
    wall: Cylinder
    cavity: Cylinder
    lungs: tuple[Ellipsoid, ...]
    spine: tuple[Cylinder, ...]
    vertebrae: tuple[Cylinder, ...]
    organs: Mapping[str, Ellipsoid]
    table: tuple[Box, Box]

    def moved(self, pose: Pose) -> Torso:
        return replace(
            self,
            body=self.body.moved(pose),
            wall=self.wall.moved(pose),
            cavity=self.cavity.moved(pose),
            lungs=tuple(lung.moved(pose) for lung in self.lungs),
            spine=tuple(part.moved(pose) for part in self.spine),
            vertebrae=tuple(part.moved(pose) for part in self.vertebrae),
            organs={name: organ.moved(pose) for name, organ in self.organs.items()},
        )

    def with_lesion_volume(self, volume_ml: float) -> Torso:
        """The same patient in another cycle, with the lesion grown or shrunk about its centre."""
        lesion = self.organs["lesion_1"]
        resized = replace(lesion, half_mm=np.full(3, _radius_mm(volume_ml)))
        return replace(self, organs={**self.organs, "lesion_1": resized})

    def volume_ml(self, region: str) -> float:
        """Analytic volume of an organ or of a sum."""
        if region in SUMS:
            return sum(self.volume_ml(part) for part in SUMS[region])
        volume = self.organs[region].volume_ml
        return volume - self.organs["lesion_1"].volume_ml if region == "liver" else volume

    def mass_g(self, region: str) -> float:
        if region in SUMS:
            return sum(self.mass_g(part) for part in SUMS[region])
        return self.volume_ml(region) * TISSUES[region].density_g_per_ml

    @property
    def body_ml_per_mm(self) -> float:
        """Volume of the body per millimetre along z."""
        return pi * float(self.body.half_mm[0] * self.body.half_mm[1]) / MM3_PER_ML

    @property
    def organs_ml(self) -> float:
        return sum(self.volume_ml(organ) for organ in ORGANS)

    def background_ml(self, grid: Grid) -> float:
        """Volume of the body in the field of an axial grid, without the organs."""
        height_mm = grid.shape[0] * grid.spacing_mm[0]
        return self.body_ml_per_mm * height_mm - self.organs_ml


def hounsfield(torso: Torso, grid: Grid) -> Image:
    """Noise-free CT numbers on a grid, HU ``(z, y, x)``, with partial voxels mixed by volume."""
    shell, core = torso.table
    layers: list[tuple[Solid, float]] = [(shell, _TABLE_SHELL_HU), (core, _TABLE_CORE_HU)]
    layers += [(torso.body, FAT.hu), (torso.wall, MUSCLE.hu), (torso.cavity, CAVITY.hu)]
    layers += [(lung, LUNG.hu) for lung in torso.lungs]
    layers += [(part, DISC.hu) for part in torso.spine]
    layers += [(part, VERTEBRA.hu) for part in torso.vertebrae]
    layers += [(torso.organs[name], TISSUES[name].hu) for name in ORGANS]
    image = np.full(grid.shape, AIR_HU, dtype=np.float32)
    for solid, hu in layers:
        block, share = occupancy(solid, grid, CT_SAMPLES)
        image[block] += share * (np.float32(hu) - image[block])
    return image


def organ_shares(torso: Torso, grid: Grid, samples: int = SPECT_SAMPLES) -> dict[str, Image]:
    """Share of each voxel in each organ, full-size ``(z, y, x)``; the liver without the lesion."""
    shares = {}
    for name in ORGANS:
        block, share = occupancy(torso.organs[name], grid, samples)
        shares[name] = np.zeros(grid.shape, dtype=np.float32)
        shares[name][block] = share
    shares["liver"] -= shares["lesion_1"]
    return shares


def activity_map(torso: Torso, grid: Grid, activity_mbq: Mapping[str, float], background_mbq: float) -> Image:
    """Activity concentration on an axial grid, Bq/mL ``(z, y, x)``.

    Parameters
    ----------
    activity_mbq
        Activity of each of `ORGANS`. Sampling never changes it: the map of each organ is scaled to
        hold exactly its activity.
    background_mbq
        Activity in the rest of the body within the field (`Torso.background_ml`), spread evenly.
    """
    shares = organ_shares(torso, grid)
    rest = np.zeros(grid.shape, dtype=np.float32)
    block, share = occupancy(torso.body, grid, SPECT_SAMPLES)
    rest[block] = share
    for organ in shares.values():
        rest -= organ
    total = _filled(rest, background_mbq, grid)
    for name, organ in shares.items():
        total += _filled(organ, activity_mbq[name], grid)
    return total


def _filled(share: Image, activity_mbq: float, grid: Grid) -> Image:
    volume_ml = float(share.sum(dtype=np.float64)) * grid.voxel_volume_ml
    return share * np.float32(activity_mbq * BQ_PER_MBQ / volume_ml)


def draw_torso(rng: np.random.Generator) -> Torso:
    """A patient's torso: sizes and positions vary, organs never touch each other, spine or fat."""
    for _ in range(_MAX_DRAWS):
        torso = _draw_once(rng)
        if _organs_are_apart(torso):
            return torso
    raise RuntimeError(f"no torso with separate organs in {_MAX_DRAWS} draws")


def _draw_once(rng: np.random.Generator) -> Torso:
    half_x, half_y = rng.uniform(162.0, 182.0), rng.uniform(110.0, 124.0)
    fat_mm = rng.uniform(12.0, 24.0)
    wide, deep = half_x / 172.0, half_y / 117.0

    def place(x: float, y: float, z: float, half: tuple[float, float, float], tilt_deg: float = 8.0) -> Ellipsoid:
        jitter = rng.uniform(-4.0, 4.0, 3)
        size = np.array(half) * rng.uniform(0.95, 1.05) * rng.uniform(0.97, 1.03, 3)
        tilt = rng.uniform(-tilt_deg, tilt_deg, 3)
        return Ellipsoid.at(
            (x * wide + jitter[0], y * deep + jitter[1], z + jitter[2]),
            (size[0], size[1], size[2]),
            tilt_deg=(tilt[0], tilt[1], tilt[2]),
        )

    spine_y = 58.0 * deep
    organs = {
        "kidney_left": place(58.0, 50.0, -25.0, (27.0, 25.0, 52.0)),
        "kidney_right": place(-58.0, 50.0, -50.0, (27.0, 25.0, 52.0)),
        "liver": place(-63.0, -14.0, 64.0, (70.0, 63.0, 84.0)),
        "spleen": place(93.0, 20.0, 85.0, (25.0, 38.0, 52.0)),
    }
    organs["lesion_1"] = _draw_lesion(rng, organs["liver"])
    table_y = half_y + _MATTRESS_MM + _TABLE_HALF_HEIGHT_MM
    inset = _TABLE_SHELL_MM
    return Torso(
        body=Cylinder.at((0.0, 0.0, 0.0), (half_x, half_y, np.inf)),
        wall=Cylinder.at((0.0, 0.0, 0.0), (half_x - fat_mm, half_y - fat_mm, np.inf)),
        cavity=Cylinder.at((0.0, 0.0, 0.0), (half_x - fat_mm - _WALL_MM, half_y - fat_mm - _WALL_MM, np.inf)),
        lungs=(place(-76.0, 0.0, 195.0, (58.0, 74.0, 105.0), 3.0), place(78.0, 0.0, 195.0, (56.0, 72.0, 105.0), 3.0)),
        spine=(Cylinder.at((0.0, spine_y, 0.0), (19.0, 17.0, np.inf)),),
        vertebrae=_vertebrae(spine_y, rng.uniform(0.0, _VERTEBRA_PITCH_MM)),
        organs=organs,
        table=(
            Box.at((0.0, table_y, 0.0), (_TABLE_HALF_WIDTH_MM, _TABLE_HALF_HEIGHT_MM, np.inf)),
            Box.at((0.0, table_y, 0.0), (_TABLE_HALF_WIDTH_MM - inset, _TABLE_HALF_HEIGHT_MM - inset, np.inf)),
        ),
    )


def _draw_lesion(rng: np.random.Generator, liver: Ellipsoid) -> Ellipsoid:
    """A sphere of 20 to 30 mL, well inside the liver: `liver` minus `lesion_1` stays exact."""
    offset = rng.uniform(-0.35, 0.35, 3) * liver.half_mm @ liver.axes
    x, y, z = (float(v) for v in liver.centre_mm + offset)
    radius = _radius_mm(rng.uniform(20.0, 30.0))
    return Ellipsoid.at((x, y, z), (radius, radius, radius))


def _vertebrae(y_mm: float, phase_mm: float) -> tuple[Cylinder, ...]:
    half = (19.0, 17.0, (_VERTEBRA_PITCH_MM - _DISC_MM) / 2.0)
    return tuple(Cylinder.at((0.0, y_mm, phase_mm + _VERTEBRA_PITCH_MM * k), half) for k in range(-9, 9))


def _radius_mm(volume_ml: float) -> float:
    return float((3.0 * volume_ml * MM3_PER_ML / (4.0 * pi)) ** (1.0 / 3.0))


def _organs_are_apart(torso: Torso) -> bool:
    solid = [name for name in ORGANS if name != "lesion_1"]
    wall = replace(torso.wall, half_mm=torso.wall.half_mm - CLEARANCE_MM)
    obstacles: list[Solid] = [replace(part, half_mm=part.half_mm + CLEARANCE_MM) for part in torso.spine]
    for name in solid:
        organ = replace(torso.organs[name], half_mm=torso.organs[name].half_mm + CLEARANCE_MM)
        surface = organ.surface(_SURFACE_POINTS)
        others = [torso.organs[other] for other in solid if other != name]
        if not _inside(wall, surface).all() or any(_inside(other, surface).any() for other in (*obstacles, *others)):
            return False
    lesion = replace(torso.organs["lesion_1"], half_mm=torso.organs["lesion_1"].half_mm + CLEARANCE_MM)
    return bool(_inside(torso.organs["liver"], lesion.surface(_SURFACE_POINTS)).all())


def _inside(solid: Solid, points_mm: np.ndarray) -> np.ndarray:
    u, v, w = solid.normalised(points_mm).T
    return solid.contains(u, v, w)
