"""Small bowel, colon and the organs of the lesser pelvis."""

from __future__ import annotations

from typing import Final

import numpy as np
from scipy.interpolate import CubicSpline

from doseledger.phantom.habitus import Habitus
from doseledger.phantom.parts import Layer, Part
from doseledger.phantom.shapes import Floats, vector
from doseledger.phantom.surfaces import HalfSpace, Offset, Oval, Tube, Uneven, Within
from doseledger.phantom.tissues import GAS, GUT_CONTENT, GUT_WALL, MUSCLE, STOOL

_COLON: Final = (
    (-88, -22, -142, 27.0),
    (-98, -4, -112, 27.0),
    (-101, 4, -74, 24.0),
    (-96, 0, -38, 23.0),
    (-82, -26, -20, 22.0),
    (-56, -66, -28, 21.0),
    (-10, -76, -42, 20.0),
    (38, -72, -32, 20.0),
    (72, -46, 6, 20.0),
    (90, -6, 34, 20.0),
    (98, 16, 8, 17.0),
    (100, 14, -40, 15.0),
    (98, 8, -92, 15.0),
    (84, -14, -142, 16.0),
    (50, -30, -172, 16.0),
    (14, -20, -178, 16.0),
    (-16, 8, -190, 17.0),
    (0, 44, -206, 18.0),
    (0, 56, -238, 19.0),
    (0, 40, -268, 13.0),
)
_COLON_STEPS: Final = 110
#: Where small bowel lies: centre and half-axes in the reference body, mm.
_BOWEL_CENTRE: Final = (4.0, -38.0, -100.0)
_BOWEL_HALF: Final = (74.0, 34.0, 74.0)
_BOWEL_LOOPS: Final = 26
_BOWEL_STEPS_PER_LOOP: Final = 5
#: Between bowel and the muscular wall, mm.
_WALL_GAP_MM: Final = 2.0
_COLON_BREATHING: Final = 0.35
_BOWEL_BREATHING: Final = 0.25


def bowel(rng: np.random.Generator, habitus: Habitus) -> list[Part]:
    """Loops of small bowel, then the colon around them."""
    return [*_small_bowel(rng, habitus), *_colon(rng, habitus)]


def _small_bowel(rng: np.random.Generator, habitus: Habitus) -> list[Part]:
    parts = []
    centre = habitus.at(*_BOWEL_CENTRE)
    half = np.array(_BOWEL_HALF) * (habitus.wide, habitus.deep, habitus.tall)
    # A walk from one side to the other in rows from above to below, as loops lie.
    row = np.linspace(0.85, -0.85, _BOWEL_LOOPS)
    across = 0.8 * np.cos(np.arange(_BOWEL_LOOPS) * 2.2 + rng.uniform(0.0, 6.0)) + rng.normal(0.0, 0.2, _BOWEL_LOOPS)
    depth = rng.uniform(-0.9, 0.9, _BOWEL_LOOPS)
    places = np.clip(np.column_stack([across, depth, row + rng.normal(0.0, 0.12, _BOWEL_LOOPS)]), -1.0, 1.0)
    places *= np.minimum(1.0, 1.05 / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-6))
    line = _dense(centre + half * places, _BOWEL_LOOPS * _BOWEL_STEPS_PER_LOOP)
    radius = 11.5 + 2.0 * np.sin(np.linspace(0.0, 40.0, len(line))) * rng.uniform(0.5, 1.0)
    loops = Within(Tube.through(line, radius), inside=(habitus.cavity(_WALL_GAP_MM),))
    parts.append(Part(loops, (Layer(0.0, GUT_WALL), Layer(3.0, GUT_CONTENT)), breathing=_BOWEL_BREATHING))
    front = HalfSpace.facing(centre - vector(0.0, rng.uniform(14.0, 24.0), 0.0), (0.0, 1.0, 0.0))
    first = int(rng.integers(10, len(line) - 40))
    gassy = Tube.through(line[first : first + 22], radius[first : first + 22] - 3.5)
    parts.append(Part(Within(gassy, inside=(front,)), (Layer(0.0, GAS),), breathing=_BOWEL_BREATHING))
    return parts


def _colon(rng: np.random.Generator, habitus: Habitus) -> list[Part]:
    table = np.array(_COLON, float)
    knots = habitus.line([(x, y, z) for x, y, z in table[:, :3]]) + rng.normal(0.0, 4.0, (len(table), 3))
    line = _dense(knots, _COLON_STEPS)
    radius = np.interp(np.linspace(0.0, 1.0, _COLON_STEPS), np.linspace(0.0, 1.0, len(table)), table[:, 3])
    radius *= float(rng.uniform(0.85, 1.1)) * (1.0 + 0.10 * np.sin(np.arange(_COLON_STEPS) * 1.9))
    wall = Within(Tube.through(line, radius), inside=(habitus.cavity(_WALL_GAP_MM),))
    content = Offset(wall, -2.5)
    # Gas rises to the front of the transverse colon and floats over stool elsewhere.
    level = float(habitus.at(0.0, -52.0, 0.0)[1] + rng.normal(0.0, 10.0))
    gas = Within(content, inside=(HalfSpace.facing((0.0, level, 0.0), (0.0, 1.0, 0.0)),))
    pocket = rng.choice(np.arange(8, _COLON_STEPS - 30), size=4, replace=False)
    parts = [
        Part(wall, (Layer(0.0, GUT_WALL), Layer(2.5, STOOL)), breathing=_COLON_BREATHING),
        Part(gas, (Layer(0.0, GAS),), breathing=_COLON_BREATHING),
    ]
    for start in sorted(int(p) for p in pocket):
        here = slice(start, start + 7)
        bubble = Tube.through(line[here] - vector(0.0, 5.0, 0.0), 0.6 * radius[here])
        parts.append(Part(bubble, (Layer(0.0, GAS),), breathing=_COLON_BREATHING))
    return parts


def lesser_pelvis(rng: np.random.Generator, habitus: Habitus) -> list[Part]:
    """Prostate or uterus, as soft tissue; the bladder is an organ of its own."""
    if habitus.sex == "M":
        gland = Oval.at(habitus.at(0.0, -6.0, -268.0), np.array((24.0, 19.0, 18.0)) * rng.uniform(0.9, 1.2))
    else:
        gland = Oval.at(habitus.at(0.0, 8.0, -214.0), (24.0, 22.0, 32.0), tilt_deg=(30.0, 0.0, 8.0))
    return [Part(Uneven.drawn(rng, gland, 1.5, 30.0), (Layer(0.0, MUSCLE),))]


def _dense(knots: Floats, steps: int) -> Floats:
    lengths = np.concatenate([[0.0], np.cumsum(np.linalg.norm(np.diff(knots, axis=0), axis=1))])
    return np.asarray(CubicSpline(lengths, knots)(np.linspace(0.0, lengths[-1], steps)))
