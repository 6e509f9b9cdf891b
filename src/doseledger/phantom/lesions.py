"""Lesions: where they are, how large, and how they grow or shrink."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import pi
from typing import Final, Literal

import numpy as np

from doseledger.geometry import Grid
from doseledger.phantom.habitus import Habitus
from doseledger.phantom.parts import Organ, Zone
from doseledger.phantom.shapes import Floats
from doseledger.phantom.skeleton import Spine
from doseledger.phantom.surfaces import Offset, Oval, Uneven
from doseledger.phantom.tissues import BONE_LESION, LESION, Tissue
from doseledger.phantom.view import Surface, View
from doseledger.units import MM3_PER_ML

Place = Literal["liver", "node", "bone"]

MAX_LESIONS: Final = 4
#: Volume of a lesion in the first cycle: median and standard deviation of ln, by place, mL.
_VOLUME_ML: Final[dict[Place, tuple[float, float]]] = {"liver": (14.0, 0.75), "node": (6.0, 0.6), "bone": (4.0, 0.45)}
_VOLUME_RANGE_ML: Final[dict[Place, tuple[float, float]]] = {
    "liver": (3.0, 70.0),
    "node": (2.0, 25.0),
    "bone": (1.5, 8.0),
}
#: Some large lesions have a core that takes up little.
_CORE_FROM_ML: Final = 15.0
_CORE_UPTAKE: Final = 0.25
_CORE_PROBABILITY: Final = 0.4
_APART_MM: Final = 6.0
_SEARCH_MM: Final = 6.0
_BONES: Final = ("T10", "T11", "T12", "L1", "L5")
_NODES: Final = (
    (-26.0, -8.0, 38.0),
    (26.0, -14.0, -30.0),
    (30.0, -10.0, 2.0),
    (-4.0, -22.0, -62.0),
    (22.0, -12.0, -74.0),
)
_TRIES: Final = 200


@dataclass(frozen=True, eq=False)
class Lesion:
    """A lesion of the first cycle.

    Attributes
    ----------
    shape
        Half-axes over the radius of the sphere with the same volume, and tilt.
    """

    name: str
    place: Place
    centre_mm: Floats
    volume_ml: float
    shape: Floats
    tilt_deg: tuple[float, float, float]
    seed: int
    breathing: float
    cored: bool

    @property
    def radius_mm(self) -> float:
        return radius_mm(self.volume_ml)

    def organ(self, volume_ml: float) -> Organ:
        """The lesion at some volume, about its own centre; its bumps grow with it."""
        radius = radius_mm(volume_ml)
        body = Oval.at(self.centre_mm, self.shape * radius, tilt_deg=self.tilt_deg)
        rng = np.random.Generator(np.random.PCG64(self.seed))
        solid = Uneven.drawn(rng, body, 0.05 * radius, 2.2 * radius)
        core = (Zone(Offset(body, -0.45 * radius), LESION, _CORE_UPTAKE),) if self.cored else ()
        return Organ(self.name, solid, self.tissue, self.breathing, core)

    @property
    def tissue(self) -> Tissue:
        return BONE_LESION if self.place == "bone" else LESION


def radius_mm(volume_ml: float) -> float:
    """Radius of the sphere with a volume."""
    return float((3.0 * volume_ml * MM3_PER_ML / (4.0 * pi)) ** (1.0 / 3.0))


def draw_lesions(
    rng: np.random.Generator,
    habitus: Habitus,
    spine: Spine,
    liver: Organ,
    avoid: Sequence[Surface],
    odds: dict[Place, float],
) -> tuple[Lesion, ...]:
    """One to four lesions that touch neither each other nor the organs to avoid."""
    count = int(rng.integers(1, MAX_LESIONS + 1))
    lesions: list[Lesion] = []
    for _ in range(_TRIES):
        place = str(rng.choice(list(odds), p=list(odds.values())))
        lesion = _draw(rng, habitus, spine, liver, place, f"lesion_{len(lesions) + 1}")  # type: ignore[arg-type]
        if lesion is not None and _clear(lesion, lesions, avoid):
            lesions.append(lesion)
        if len(lesions) == count:
            break
    return tuple(lesions)


def _draw(
    rng: np.random.Generator, habitus: Habitus, spine: Spine, liver: Organ, place: Place, name: str
) -> Lesion | None:
    median, sd = _VOLUME_ML[place]
    volume_ml = float(np.clip(median * np.exp(rng.normal(0.0, sd)), *_VOLUME_RANGE_ML[place]))
    tilts = rng.uniform(-40.0, 40.0, 3)
    lesion = Lesion(
        name=name,
        place=place,
        centre_mm=np.zeros(3),
        volume_ml=volume_ml,
        shape=_oval(rng),
        tilt_deg=(float(tilts[0]), float(tilts[1]), float(tilts[2])),
        seed=int(rng.integers(2**31)),
        breathing=1.0 if place == "liver" else 0.0,
        cored=volume_ml > _CORE_FROM_ML and bool(rng.uniform() < _CORE_PROBABILITY),
    )
    if place == "liver":
        centre = _place_in(rng, liver.solid, lesion.radius_mm * float(lesion.shape.max()) + 3.0)
    elif place == "bone":
        body = spine.bodies[_BONES[int(rng.integers(len(_BONES)))]]
        centre = body.centre_mm + rng.uniform(-0.25, 0.25, 3) * body.half_mm
    else:
        centre = habitus.at(*_NODES[int(rng.integers(len(_NODES)))]) + rng.normal(0.0, 4.0, 3)
    return None if centre is None else replace(lesion, centre_mm=centre)


def _oval(rng: np.random.Generator) -> Floats:
    """Half-axes around one, with the volume of a sphere."""
    half = np.exp(rng.normal(0.0, 0.12, 3))
    return np.asarray(half / np.prod(half) ** (1.0 / 3.0))


def _place_in(rng: np.random.Generator, solid: Surface, depth_mm: float) -> Floats | None:
    """A random place at least `depth_mm` under the surface of a solid; None where it is too thin."""
    box = solid.box
    steps = np.maximum(np.ceil((box.high_mm - box.low_mm) / _SEARCH_MM), 1).astype(int)[::-1]
    x, y, z = (float(v) for v in box.low_mm)
    grid = Grid((int(steps[0]), int(steps[1]), int(steps[2])), (_SEARCH_MM,) * 3, (x, y, z))
    view = View(grid)
    places = np.argwhere(solid.distance(view, view.block(box))[: steps[0], : steps[1], : steps[2]] < -depth_mm)
    if not len(places):
        return None
    index = places[int(rng.integers(len(places)))]
    return np.array(grid.position_mm(index + rng.uniform(-0.5, 0.5, 3)))


def _clear(lesion: Lesion, others: Sequence[Lesion], avoid: Sequence[Surface]) -> bool:
    reach = lesion.radius_mm * float(lesion.shape.max())
    for other in others:
        far = reach + other.radius_mm * float(other.shape.max()) + _APART_MM
        if float(np.linalg.norm(lesion.centre_mm - other.centre_mm)) < far:
            return False
    point = View(Grid((1, 1, 1), (1.0, 1.0, 1.0), tuple(float(v) for v in lesion.centre_mm)))  # type: ignore[arg-type]
    whole = (slice(0, 1), slice(0, 1), slice(0, 1))
    return all(float(solid.distance(point, whole)[0, 0, 0]) > reach + _APART_MM / 2.0 for solid in avoid)
