"""Outer layers, arms, muscles, lungs, heart and vessels of the virtual patient."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from doseledger.phantom.habitus import SKIN_MM, Habitus
from doseledger.phantom.parts import Layer, Part
from doseledger.phantom.shapes import vector
from doseledger.phantom.skeleton import Spine, arm_line
from doseledger.phantom.surfaces import HalfSpace, Oval, Tube, Uneven, Within
from doseledger.phantom.tissues import BLOOD, CORTICAL_BONE, FAT, GAS, HEART, LUNG_TISSUE, MESENTERY, MUSCLE, SKIN

_SIDES: Final = (-1.0, 1.0)
#: Between lung and diaphragm, mm: the muscle itself.
_DIAPHRAGM_MM: Final = 3.0
#: Fat between muscles, mm.
_PLANE_MM: Final = 2.2
#: Muscles of the left side in the reference body, as lines, mm. Those in the wall stand out by the fat
#: around them: erector spinae, large and middle gluteal muscle.
_PSOAS: Final = (
    (24.0, 18.0, 30.0),
    (34.0, 20.0, -12.0),
    (42.0, 18.0, -50.0),
    (50.0, 14.0, -90.0),
    (58.0, -4.0, -140.0),
    (72.0, -34.0, -200.0),
    (88.0, -26.0, -262.0),
)
_PSOAS_RADIUS_MM: Final = (6.0, 13.0, 19.0, 24.0, 24.0, 19.0, 14.0)
_SQUARE: Final = ((52.0, 36.0, 40.0), (62.0, 38.0, -90.0))
_ERECTOR: Final = (
    (30.0, 66.0, 240.0),
    (30.0, 62.0, 120.0),
    (32.0, 58.0, 20.0),
    (34.0, 56.0, -60.0),
    (26.0, 66.0, -150.0),
)
_LARGE_GLUTEAL: Final = ((60.0, 84.0, -150.0), (78.0, 84.0, -215.0), (96.0, 70.0, -290.0))
_MIDDLE_GLUTEAL: Final = ((96.0, 40.0, -110.0), (112.0, 30.0, -170.0), (122.0, 24.0, -240.0))
_IN_THE_WALL: Final = (
    (_ERECTOR, 21.0, (1.15, 0.85, 1.0)),
    (_LARGE_GLUTEAL, 36.0, (1.3, 0.75, 1.0)),
    (_MIDDLE_GLUTEAL, 26.0, (0.8, 1.3, 1.0)),
)
#: From the nose to where the trachea divides; large vessels of the left lung from the hilum outwards.
_AIRWAY: Final = (
    (0.0, -8.0, 470.0),
    (0.0, 0.0, 440.0),
    (0.0, -4.0, 400.0),
    (0.0, -18.0, 372.0),
    (0.0, -18.0, 330.0),
    (0.0, -6.0, 290.0),
    (2.0, 8.0, 246.0),
)
_BRONCHUS: Final = ((2.0, 8.0, 246.0), (24.0, 12.0, 226.0), (40.0, 14.0, 208.0))
_LUNG_VESSELS: Final = (
    ((22.0, 4.0, 215.0), (44.0, 0.0, 250.0), (70.0, 4.0, 271.0)),
    ((22.0, 4.0, 215.0), (62.0, 20.0, 195.0), (99.0, 32.0, 183.0)),
    ((22.0, 4.0, 215.0), (58.0, -20.0, 205.0), (93.0, -24.0, 199.0)),
    ((22.0, 4.0, 215.0), (50.0, 34.0, 175.0), (80.0, 52.0, 151.0)),
)


@dataclass(frozen=True, eq=False)
class Domes:
    """What the halves of the diaphragm arch over."""

    right: Oval
    left: Oval
    middle: Oval

    @classmethod
    def drawn(cls, rng: np.random.Generator, habitus: Habitus) -> Domes:
        rise = rng.normal(0.0, 5.0)
        scale = np.array((habitus.wide, habitus.deep, habitus.tall))
        return cls(
            right=Oval.at(habitus.at(-62.0, -20.0, 36.0 + rise), scale * (84.0, 86.0, 94.0)),
            left=Oval.at(habitus.at(64.0, -18.0, 28.0 + rise), scale * (80.0, 84.0, 90.0)),
            middle=Oval.at(habitus.at(0.0, -30.0, 40.0 + rise), scale * (78.0, 62.0, 78.0)),
        )


def outer_layers(habitus: Habitus) -> list[Part]:
    """Skin, fat under it, the muscular wall and what fills the cavity between the organs."""
    parts = [
        Part(habitus.body, (Layer(0.0, SKIN), Layer(SKIN_MM, FAT))),
        Part(habitus.muscle, (Layer(0.0, MUSCLE),)),
    ]
    fat = 2.0 + 0.35 * habitus.fat_mm
    layers = (Layer(0.0, SKIN), Layer(SKIN_MM, FAT), Layer(SKIN_MM + fat, MUSCLE))
    for side in _SIDES:
        radii = np.array([44.0, 41.0, 36.0, 26.0]) * habitus.wide + 0.5 * fat
        # Behind the trunk in the order of painting: the armpit belongs to the trunk.
        parts.insert(0, Part(Tube.through(arm_line(habitus, side), radii, stretch=(0.9, 1.15, 1.0)), layers))
    neck = HalfSpace.facing(habitus.at(0.0, 0.0, 325.0), (0.0, 0.0, 1.0))
    parts.append(Part(Within(habitus.cavity(), inside=(neck,)), (Layer(0.0, MESENTERY),)))
    return parts


def muscles(habitus: Habitus, spine: Spine) -> list[Part]:
    """Psoas, square lumbar muscle and crura; planes of fat around the muscles of back and seat."""
    parts = []
    for side in _SIDES:
        for line, radius_mm, stretch in _IN_THE_WALL:
            tube = Tube.through(habitus.line(line, side=side), radius_mm, stretch=stretch)
            parts.append(Part(Within(tube, inside=(habitus.muscle,)), (Layer(0.0, FAT), Layer(_PLANE_MM, MUSCLE))))
        crus = [spine.front(z * habitus.tall) + vector(side * 11.0, 4.0, 0.0) for z in (90.0, 40.0, 0.0, -25.0)]
        for tube in (
            Tube.through(habitus.line(_PSOAS, side=side), _PSOAS_RADIUS_MM),
            Tube.through(habitus.line(_SQUARE, side=side), [11.0, 17.0], stretch=(1.2, 0.8, 1.0)),
            Tube.through(crus, [6.0, 7.0, 6.0, 3.0]),
        ):
            parts.append(Part(tube, (Layer(0.0, MUSCLE),)))
    return parts


def chest(rng: np.random.Generator, habitus: Habitus, spine: Spine, domes: Domes) -> list[Part]:
    """Lungs above the diaphragm, heart and airways."""
    heart_tilt = (0.0, 20.0, -28.0)
    heart_centre = habitus.at(20.0, -34.0, 176.0 + rng.normal(0.0, 4.0))
    heart_half = np.array((58.0, 46.0, 48.0)) * habitus.wide
    heart = Uneven.drawn(rng, Oval.at(heart_centre, heart_half, tilt_deg=heart_tilt), 2.5, 70.0)
    pericardium = Oval.at(heart_centre, heart_half + 7.0, tilt_deg=heart_tilt)
    middle = Tube.through(
        habitus.line([(0, 0, 345), (0, -2, 300), (2, -8, 255), (4, -4, 200), (6, 0, 120)]),
        [20.0, 30.0, 36.0, 36.0, 32.0],
        stretch=(1.0, 1.35, 1.0),
    )
    front = Tube.through(habitus.line([(2, -80, 285), (6, -85, 150)]), [14.0, 16.0])
    top = HalfSpace.facing(habitus.at(0.0, 0.0, 332.0), (0.0, 0.0, 1.0))
    floor = HalfSpace.facing(habitus.at(0.0, 0.0, 20.0), (0.0, 0.0, -1.0))
    lungs = Within(
        habitus.cavity(_DIAPHRAGM_MM),
        inside=(top, floor),
        outside=(middle, front, pericardium, spine.column, domes.right, domes.left, domes.middle),
        gap_mm=_DIAPHRAGM_MM,
    )
    air = (Layer(-1.5, MUSCLE), Layer(0.0, GAS))
    parts = [
        Part(lungs, (Layer(0.0, LUNG_TISSUE),), breathing=0.9),
        Part(heart, (Layer(0.0, HEART), Layer(11.0, BLOOD)), breathing=0.45),
        Part(Tube.through(habitus.line(_AIRWAY), 8.5), air),
    ]
    for side in _SIDES:
        parts.append(Part(Tube.through(habitus.line(_BRONCHUS, side=side), [6.0, 5.0, 4.0]), air))
        for line in _LUNG_VESSELS:
            vessel = Tube.through(habitus.line(line, side=side), [6.0, 3.6, 1.5])
            parts.append(Part(vessel, (Layer(0.0, BLOOD),), breathing=0.4))
    return parts


def vessels(habitus: Habitus, spine: Spine) -> list[Part]:
    """Aorta with its arch, caval veins, iliac vessels, oesophagus."""
    tall = habitus.tall
    ahead = [spine.front(z * tall) for z in (-72.0, -30.0, 20.0, 70.0, 120.0, 180.0, 235.0)]
    # To the left of the middle, and in front of the spine.
    offsets = ((4, -11), (6, -12), (7, -13), (8, -14), (12, -10), (20, -4), (22, -2))
    aorta = [place + vector(x, y, 0.0) for place, (x, y) in zip(ahead, offsets, strict=True)]
    arch = [*aorta[-1:], *habitus.line([(16, 4, 262), (0, -16, 268), (-16, -28, 252), (-14, -32, 215), (4, -30, 195)])]
    cava = [p + vector(-21.0, y, 0.0) for p, y in zip(ahead[:5], (-6, -8, -10, -16, -24), strict=True)]
    upper = habitus.line([(-24, -18, 300), (-28, -18, 255), (-26, -20, 205)])
    gullet = habitus.line([(0, 6, 370), (2, 4, 320), (4, 12, 270), (6, 14, 210), (14, 8, 140), (26, -2, 112)])
    calcium = Tube.through([aorta[0] + vector(3.0, 8.0, 2.0), aorta[1] + vector(6.0, 6.0, -12.0)], 1.6)
    parts = [
        Part(Tube.through(aorta, np.linspace(9.0, 12.0, len(aorta))), (Layer(0.0, BLOOD),)),
        Part(Tube.through(arch, np.linspace(12.0, 15.5, len(arch))), (Layer(0.0, BLOOD),)),
        Part(Tube.through(cava, 10.5, stretch=(1.15, 0.9, 1.0)), (Layer(0.0, BLOOD),)),
        Part(Tube.through(upper, 9.0), (Layer(0.0, BLOOD),)),
        Part(Tube.through(gullet, 7.5, stretch=(1.2, 0.9, 1.0)), (Layer(0.0, MUSCLE),)),
        Part(calcium, (Layer(0.0, CORTICAL_BONE),), on_ct_only=True),
    ]
    for side in _SIDES:
        iliac = [
            aorta[0],
            *habitus.line(
                [(side * 26, -4, -110), (side * 44, 10, -150), (side * 66, -30, -205), (side * 78, -62, -255)]
            ),
        ]
        parts.append(Part(Tube.through(iliac, [8.0, 6.5, 5.5, 5.5, 5.0]), (Layer(0.0, BLOOD),)))
        vein = [p + vector(side * 3.0 - 6.0, 9.0, -4.0) for p in iliac]
        parts.append(Part(Tube.through(vein, [9.0, 7.5, 6.0, 6.0, 5.5]), (Layer(0.0, BLOOD),)))
    return parts
