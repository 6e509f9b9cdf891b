"""Bones of the virtual patient: spine, ribs, shoulder girdle, pelvis, jaw and skull."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from doseledger.phantom.habitus import Habitus
from doseledger.phantom.parts import Layer, Part
from doseledger.phantom.shapes import Floats, vector
from doseledger.phantom.surfaces import Drum, Offset, Oval, Tube, Within
from doseledger.phantom.tissues import BRAIN, CARTILAGE, CORTICAL_BONE, DISC, NERVE, SPONGIOSA
from doseledger.phantom.view import Surface

#: Vertebrae from below: height z and depth y of the centre, half width, half depth, half height, mm.
VERTEBRAE: Final[dict[str, tuple[float, float, float, float, float]]] = {
    "L5": (-120.0, 22.0, 26.0, 17.5, 13.5),
    "L4": (-84.0, 17.0, 25.0, 17.5, 14.0),
    "L3": (-48.0, 15.0, 24.0, 17.0, 14.0),
    "L2": (-12.0, 16.0, 23.0, 16.5, 13.8),
    "L1": (22.0, 19.0, 22.0, 16.0, 13.3),
    "T12": (54.0, 24.0, 21.0, 15.5, 12.6),
    "T11": (84.0, 29.0, 19.5, 15.5, 11.8),
    "T10": (112.0, 34.0, 18.5, 15.0, 11.2),
    "T9": (139.0, 38.0, 17.5, 15.0, 10.7),
    "T8": (165.0, 41.0, 17.0, 14.5, 10.3),
    "T7": (190.0, 43.0, 16.5, 14.5, 10.0),
    "T6": (214.0, 43.0, 16.0, 14.0, 9.7),
    "T5": (237.0, 42.0, 15.5, 13.5, 9.4),
    "T4": (259.0, 39.0, 15.0, 13.0, 9.1),
    "T3": (280.0, 35.0, 14.5, 12.0, 8.8),
    "T2": (300.0, 30.0, 14.5, 11.0, 8.5),
    "T1": (319.0, 25.0, 14.5, 10.0, 8.0),
    "C7": (336.0, 20.0, 13.5, 9.0, 7.0),
    "C6": (352.0, 16.0, 12.5, 8.5, 6.5),
    "C5": (367.0, 13.0, 12.0, 8.5, 6.3),
    "C4": (382.0, 12.0, 11.5, 8.5, 6.2),
    "C3": (397.0, 12.0, 11.0, 8.5, 6.2),
    "C2": (415.0, 12.0, 11.0, 8.5, 8.0),
    "C1": (436.0, 14.0, 18.0, 8.0, 5.0),
}
#: Vertebrae whose marrow is outlined.
LUMBAR: Final = ("L2", "L3", "L4")
#: Ribs 1 to 12: last angle (180 is in front) and how far the rib drops from its vertebra to the front, mm.
_RIBS: Final = (
    ("T1", 150.0, 32.0),
    ("T2", 156.0, 52.0),
    ("T3", 158.0, 66.0),
    ("T4", 158.0, 76.0),
    ("T5", 156.0, 84.0),
    ("T6", 152.0, 90.0),
    ("T7", 148.0, 94.0),
    ("T8", 140.0, 92.0),
    ("T9", 132.0, 88.0),
    ("T10", 122.0, 80.0),
    ("T11", 96.0, 62.0),
    ("T12", 66.0, 42.0),
)
_RIB_STEPS: Final = 12
_SHELL_MM: Final = 2.0
_BONE: Final = (Layer(0.0, CORTICAL_BONE), Layer(_SHELL_MM, SPONGIOSA))
_SIDES: Final = (-1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Spine:
    """Bodies of the vertebrae by name."""

    bodies: dict[str, Drum]

    @classmethod
    def of(cls, habitus: Habitus) -> Spine:
        bodies = {}
        for name, (z, y, width, depth, height) in VERTEBRAE.items():
            centre = habitus.at(0.0, y, z) + vector(0.0, 0.0, habitus.spine_phase_mm)
            half = np.array((width, depth, height)) * (habitus.wide, habitus.wide, habitus.tall)
            bodies[name] = Drum(centre, half, waist=0.14)
        return cls(bodies)

    def marrow(self, name: str) -> Surface:
        return Offset(self.bodies[name], -_SHELL_MM)

    def front(self, z_mm: float) -> Floats:
        """The place in front of the spine at a height, LPS mm."""
        centres = np.array([body.centre_mm for body in self.bodies.values()])
        depths = np.array([body.half_mm[1] for body in self.bodies.values()])
        return np.array([0.0, np.interp(z_mm, centres[:, 2], centres[:, 1] - depths), z_mm])

    @property
    def column(self) -> Tube:
        """Discs and bodies in one, for what must stay clear of them."""
        bodies = list(self.bodies.values())
        line = np.array([body.centre_mm for body in bodies])
        line[0, 2] -= 20.0
        return Tube.through(line, [float(body.half_mm[1]) for body in bodies], stretch=(1.35, 1.0, 1.0))


def bones(habitus: Habitus, spine: Spine) -> list[Part]:
    """All bones, in the order in which they are painted."""
    return [
        *_vertebral_column(spine),
        *_rib_cage(habitus),
        *_shoulders(habitus),
        *_pelvis(habitus),
        *_head(habitus),
    ]


def _vertebral_column(spine: Spine) -> list[Part]:
    column = spine.column
    disc = Tube.through(column.line_mm, column.radius_mm * 0.96, stretch=column.stretch)
    parts = [Part(disc, (Layer(0.0, DISC),))]
    parts += [Part(body, _BONE) for body in spine.bodies.values()]
    for name, body in spine.bodies.items():
        parts += [Part(arch, _BONE) for arch in _arch(name, body)]
    canal = [body.centre_mm + vector(0.0, body.half_mm[1] + 8.5, 0.0) for body in spine.bodies.values()]
    return [*parts, Part(Tube.through(canal, 7.5, stretch=(1.2, 0.95, 1.0)), (Layer(0.0, NERVE),))]


def _arch(name: str, body: Drum) -> list[Tube]:
    """Pedicles with laminae, transverse processes and spinous process."""
    (_, y, z), (width, depth, height) = body.centre_mm, body.half_mm
    back = y + depth
    # Spinous processes of the neck are short; those of the chest point down.
    spinous = {"L": (32.0, -4.0), "T": (22.0, -22.0), "C": (24.0, -6.0)}[name[0]]
    parts = [
        Tube.through(
            [(0.0, back + 20.0, z - 3.0), (0.0, back + 20.0 + spinous[0] * 0.75, z + spinous[1])],
            [4.2, 5.0],
            stretch=(0.8, 1.0, 1.8),
        )
    ]
    for side in _SIDES:
        hinge = (side * 15.0, back + 12.0, z)
        parts.append(
            Tube.through([(side * 0.6 * width, back - 3.0, z + 0.3 * height), hinge, (0.0, back + 21.0, z - 3.0)], 4.6)
        )
        reach = (side * (width + 18.0), back + 13.0, z + 1.0)
        parts.append(Tube.through([hinge, reach], [5.0, 3.4]))
    return parts


def _rib_cage(habitus: Habitus) -> list[Part]:
    parts = []
    for name, last_angle, drop in _RIBS:
        z, y, width = VERTEBRAE[name][:3]
        root = habitus.at(0.0, y, z)[1] + 14.0
        for side in _SIDES:
            angles = np.linspace(24.0, last_angle, _RIB_STEPS)
            heights = z - drop * (0.5 - 0.5 * np.cos(np.pi * (angles - 10.0) / 170.0))
            curve = [habitus.chest_line(side * a, h, 0.55) for a, h in zip(angles, heights, strict=True)]
            start = np.array((side * (width + 4.0), root, z * habitus.tall))
            rib = Tube.through([start, *curve], 4.4, stretch=(1.0, 1.0, 1.5))
            parts.append(Part(rib, (Layer(0.0, CORTICAL_BONE), Layer(1.6, SPONGIOSA))))
            if last_angle > 120.0:
                # Cartilage rises towards the sternum.
                end_z = float(np.clip(heights[-1] + 0.55 * drop, 105.0, 290.0))
                joint = habitus.chest_line(side * 173.0, end_z, 0.45)
                parts.append(
                    Part(Tube.through([curve[-1], joint], 4.6, stretch=(1.0, 1.0, 1.4)), (Layer(0.0, CARTILAGE),))
                )
    sternum = [habitus.chest_line(180.0, z, 0.45) for z in (120.0, 160.0, 220.0, 268.0, 286.0)]
    parts.append(Part(Tube.through(sternum, [3.0, 5.0, 5.4, 6.0, 6.0], stretch=(3.0, 1.0, 1.0)), _BONE))
    return parts


def _shoulders(habitus: Habitus) -> list[Part]:
    parts = []
    for side in _SIDES:
        socket = habitus.at(side * 160.0, 18.0, 291.0)
        clavicle = habitus.line([(side * 22.0, -48.0, 292.0), (side * 90.0, -22.0, 310.0), (side * 158.0, 10.0, 312.0)])
        parts.append(Part(Tube.through(clavicle, 6.5), _BONE))
        spine_line = [habitus.at(side * 72.0, 74.0, 272.0), socket + vector(0.0, 14.0, 20.0)]
        parts.append(Part(Tube.through(spine_line, 5.5), _BONE))
        blade = [habitus.at(side * 76.0, 72.0, 285.0), habitus.at(side * 88.0, 76.0, 180.0)]
        border = [habitus.at(side * 126.0, 54.0, 275.0), habitus.at(side * 95.0, 74.0, 184.0)]
        for share in np.linspace(0.0, 1.0, 6):
            ends = [(1.0 - share) * a + share * b for a, b in zip(blade, border, strict=True)]
            parts.append(Part(Tube.through(ends, 3.2 + 2.0 * float(share in (0.0, 1.0))), _BONE))
        parts.append(Part(Oval.at(socket, (23.0, 23.0, 23.0)), _BONE))
        parts.append(Part(Tube.through([socket, *arm_line(habitus, side)[1:]], [15.0, 12.0, 12.0, 10.0]), _BONE))
    return parts


def arm_line(habitus: Habitus, side: float) -> list[Floats]:
    """Middle of an arm, along the body or raised: shoulder, middle of the upper arm, elbow, wrist."""
    line = [habitus.at(side * 163.0, 16.0, 286.0)]
    if not habitus.arms_down:
        return [*line, *(habitus.at(side * x, y, z) for x, y, z in ((188, 24, 385), (176, 24, 520), (60, -20, 610)))]
    for z, gap, y in ((150.0, 46.0, 22.0), (15.0, 44.0, 26.0), (-215.0, 34.0, 4.0)):
        edge = habitus.body.edge(90.0, z * habitus.tall)
        line.append(np.array([side * (edge[0] + gap), y, z * habitus.tall]))
    return line


def _pelvis(habitus: Habitus) -> list[Part]:
    parts = []
    sacrum = habitus.line([(0, 36, -142), (0, 56, -172), (0, 80, -212), (0, 84, -240), (0, 74, -258)])
    parts.append(Part(Tube.through(sacrum, [20.0, 20.0, 15.0, 9.0, 5.0], stretch=(1.9, 0.8, 1.0)), _BONE))
    crest = [(54, 66, -140), (72, 74, -118), (94, 64, -100), (116, 40, -92), (130, 10, -94), (132, -18, -106)]
    crest += [(126, -40, -124), (116, -52, -146), (108, -46, -172), (100, -34, -196)]
    for side in _SIDES:
        hip = habitus.at(side * 90.0, 2.0, -236.0)
        rim = [habitus.at(side * x, y, z) for x, y, z in crest]
        # The wing is a fan of rods so close that they make a plate.
        dense = [(1.0 - s) * a + s * b for a, b in pairwise(rim) for s in (0.0, 0.33, 0.67)]
        parts += [Part(Tube.through([hip + vector(0, 4, 26), point], [9.0, 4.0]), _BONE) for point in dense]
        parts.append(Part(Tube.through(rim, 6.5), _BONE))
        parts.append(Part(Oval.at(hip, (33.0, 32.0, 33.0)), _BONE))
        parts.append(Part(Oval.at(hip, (27.0, 27.0, 27.0)), (Layer(0.0, CARTILAGE),)))
        head = habitus.line(
            [(side * 91, 2, -237), (side * 128, 12, -268), (side * 136, 8, -300), (side * 132, 0, -420)]
        )
        parts.append(
            Part(Tube.through(head, [23.5, 16.0, 20.0, 15.0]), (Layer(0.0, CORTICAL_BONE), Layer(3.5, SPONGIOSA)))
        )
        for rod, radius in (
            ([hip + vector(side * -18.0, 18.0, -12.0), habitus.at(side * 54.0, 48.0, -300.0)], 13.0),
            ([hip + vector(side * -22.0, -18.0, 0.0), habitus.at(side * 12.0, -58.0, -258.0)], 9.0),
            ([habitus.at(side * 12.0, -56.0, -262.0), habitus.at(side * 50.0, 36.0, -304.0)], 7.0),
        ):
            parts.append(Part(Tube.through(rod, radius), _BONE))
    return parts


def _head(habitus: Habitus) -> list[Part]:
    parts = []
    skull = Oval.at(habitus.at(0.0, 2.0, 520.0), (68.0, 86.0, 78.0))
    parts.append(Part(skull, (Layer(0.0, CORTICAL_BONE), Layer(6.0, BRAIN))))
    jaw = [
        (side * x, y, z)
        for side, row in ((-1, ((46, 4, 452), (45, -2, 410))), (1, ((45, -2, 410), (46, 4, 452))))
        for x, y, z in row
    ]
    jaw[2:2] = [(-30, -50, 396), (-10, -74, 394), (10, -74, 394), (30, -50, 396)]
    parts.append(Part(Tube.through(habitus.line(jaw), 6.0, stretch=(0.9, 1.0, 1.7)), _BONE))
    palate = Oval.at(habitus.at(0.0, -52.0, 428.0), (27.0, 28.0, 10.0))
    tongue = Oval.at(habitus.at(0.0, -44.0, 418.0), (21.0, 30.0, 14.0))
    parts.append(Part(Within(palate, outside=(tongue,)), _BONE))
    return parts
