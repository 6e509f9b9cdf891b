"""Liver, spleen, kidneys and their neighbours in the upper abdomen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np

from doseledger.phantom.habitus import Habitus
from doseledger.phantom.parts import Layer, Organ, Part, Zone
from doseledger.phantom.shapes import Floats, rotation, vector
from doseledger.phantom.skeleton import Spine
from doseledger.phantom.surfaces import Blend, HalfSpace, Offset, Oval, Tube, Uneven, Union, Within
from doseledger.phantom.tissues import (
    ADRENAL,
    BILE,
    BLOOD,
    GAS,
    GUT_WALL,
    KIDNEY,
    KIDNEY_PELVIS,
    LIVER,
    PANCREAS,
    SPLEEN,
    STOMACH_CONTENT,
)
from doseledger.phantom.trunk import Domes
from doseledger.phantom.view import Surface

#: Movement with the breath over that of the liver.
SPLEEN_BREATHING: Final = 0.9
KIDNEY_BREATHING: Final = 0.6
STOMACH_BREATHING: Final = 0.7
PANCREAS_BREATHING: Final = 0.5

#: Thickness of the renal cortex over the smallest half-axis of the kidney: about 70 % of the mass is
#: cortex, 25 % medulla and 5 % pelvis (ICRP Publication 89).
_CORTEX_SHARE: Final = 0.43
#: Activity per volume over that of the cortex. Peptides and PSMA ligands are kept by the proximal
#: tubules of the cortex (de Jong et al. 2004, J Nucl Med 45:1168); the pelvis holds urine.
MEDULLA_UPTAKE: Final = 0.55
PELVIS_UPTAKE: Final = 0.25

#: Between neighbouring organs, mm.
_GAP_MM: Final = 2.5
_LIVER_PATCHINESS: Final = 0.06


@dataclass(frozen=True, eq=False)
class UpperAbdomen:
    """What lies under the diaphragm: organs with a truth, and the parts around them."""

    liver: Organ
    spleen: Organ
    kidneys: tuple[Organ, ...]
    parts: list[Part]
    on_top: list[Part]


def upper_abdomen(
    rng: np.random.Generator, habitus: Habitus, spine: Spine, domes: Domes, sides: tuple[str, ...]
) -> UpperAbdomen:
    """Draw the organs; `sides` are those of the kidneys that the patient has."""
    kidneys = _kidneys(rng, habitus, sides)
    stomach = _stomach_line(rng, habitus)
    gallbladder = Oval.at(
        habitus.at(-46.0, -46.0, 6.0) + rng.normal(0.0, 3.0, 3),
        np.array((12.0, 12.0, 25.0)) * rng.uniform(0.8, 1.15),
        tilt_deg=(-25.0, -20.0, 0.0),
    )
    beside = (*(kidney.solid for kidney in kidneys), stomach)
    liver = _liver(rng, habitus, domes, (*beside, gallbladder, spine.column))
    spleen = _spleen(rng, habitus, domes, beside)
    parts = [
        *_stomach(stomach, habitus, rng),
        *_pancreas(rng, habitus),
        *_adrenals(habitus, sides),
        Part(gallbladder, (Layer(0.0, GUT_WALL), Layer(1.5, BILE)), breathing=1.0),
    ]
    return UpperAbdomen(
        liver=Organ("liver", liver, LIVER, 1.0, patchiness=_LIVER_PATCHINESS),
        spleen=Organ("spleen", spleen, SPLEEN, SPLEEN_BREATHING, patchiness=_LIVER_PATCHINESS),
        kidneys=kidneys,
        parts=parts,
        on_top=_liver_vessels(rng, habitus),
    )


def _kidneys(rng: np.random.Generator, habitus: Habitus, sides: tuple[str, ...]) -> tuple[Organ, ...]:
    size = float(np.exp(rng.normal(0.0, 0.06))) * (1.09 if len(sides) == 1 else 1.0)
    kidneys = []
    # Draws for both sides, so that the right kidney does not depend on whether there is a left one.
    for side, x, z in (("left", 59.0, 14.0), ("right", -61.0, -2.0)):
        own = rng.normal(0.0, 1.0, 8)
        kidney = _kidney(rng, habitus, side, habitus.at(x, 17.0, z) + own[:3] * (3.0, 3.0, 7.0), size, own[3:])
        if side in sides:
            kidneys.append(kidney)
    return tuple(kidneys)


def _kidney(rng: np.random.Generator, habitus: Habitus, side: str, centre: Floats, size: float, own: Floats) -> Organ:
    hand = 1.0 if side == "left" else -1.0
    half = np.array((27.0, 24.5, 54.0)) * size * np.exp(0.04 * own[:3]) * habitus.tall**0.5
    # The upper pole points inwards and back, the hilum inwards and forward.
    tilt = (-8.0 + 3.0 * float(own[3]), -hand * (11.0 + 3.0 * float(own[4])), hand * 28.0)
    turn = rotation(tilt)

    def at(x: float, y: float, z: float) -> Floats:
        return np.asarray(centre + turn @ (half * (x, y, z)))

    outer = Oval.at(centre, half, tilt_deg=tilt)
    sinus = Oval.at(at(-hand * 0.95, 0.0, 0.0), half * (0.72, 0.42, 0.42), tilt_deg=tilt)
    bean = Uneven.drawn(rng, Within(outer, outside=(sinus,)), 1.4, 42.0)
    deeper = Offset(outer, -_CORTEX_SHARE * float(half.min()))
    medulla = Uneven.drawn(rng, deeper, 2.6, 17.0)
    pelvis = Tube.through(
        [at(-hand * 0.22, 0.0, 0.38), at(-hand * 0.30, 0.0, 0.0), at(-hand * 0.22, 0.0, -0.38)],
        0.33 * float(half.min()),
    )
    zones = (Zone(medulla, KIDNEY, MEDULLA_UPTAKE), Zone(pelvis, KIDNEY_PELVIS, PELVIS_UPTAKE))
    return Organ(f"kidney_{side}", bean, KIDNEY, KIDNEY_BREATHING, zones)


def _liver(rng: np.random.Generator, habitus: Habitus, domes: Domes, beside: tuple[Surface, ...]) -> Surface:
    scale = np.array((habitus.wide, habitus.deep, habitus.tall))
    right = Offset(domes.right, -4.0)
    left = Oval.at(
        habitus.at(16.0, -52.0, 76.0) + rng.normal(0.0, 4.0, 3),
        scale * (66.0, 34.0, 36.0) * np.exp(rng.normal(0.0, 0.08, 3)),
        tilt_deg=(12.0, -8.0, 6.0),
    )
    # The visceral surface rises from the tip at the right to the left lobe.
    height, slope = rng.normal(-30.0, 8.0), rng.normal(0.50, 0.04)
    under = HalfSpace.facing(habitus.at(-70.0, 0.0, 0.0) + vector(0.0, 0.0, height), (slope, 0.28, -1.0))
    lobes = Blend(right, left, 30.0)
    hollow = Oval.at(habitus.at(2.0, 6.0, 22.0), scale * (50.0, 38.0, 70.0), tilt_deg=(0.0, 20.0, 0.0))
    shape = Within(lobes, inside=(habitus.cavity(1.2), under), outside=(*beside, hollow), gap_mm=_GAP_MM)
    return Uneven.drawn(rng, shape, 1.8, 75.0)


def _spleen(rng: np.random.Generator, habitus: Habitus, domes: Domes, beside: tuple[Surface, ...]) -> Surface:
    size = float(np.exp(np.clip(rng.normal(0.0, 0.12), -0.25, 0.3)))
    whole = Oval.at(
        habitus.at(88.0, 20.0, 68.0) + rng.normal(0.0, 3.0, 3),
        np.array((39.0, 56.0, 61.0)) * size,
        tilt_deg=(-18.0, 8.0, 12.0),
    )
    shape = Within(whole, inside=(habitus.cavity(2.0), Offset(domes.left, -4.0)), outside=beside, gap_mm=_GAP_MM)
    return Uneven.drawn(rng, shape, 1.8, 50.0)


def _stomach_line(rng: np.random.Generator, habitus: Habitus) -> Tube:
    full = float(rng.uniform(0.75, 1.1))
    line = habitus.line([(44, 12, 104), (56, -8, 84), (52, -36, 52), (34, -52, 22), (4, -56, 8), (-20, -46, 14)])
    line += rng.normal(0.0, 3.0, line.shape)
    return Tube.through(line, np.array([30.0, 32.0, 29.0, 23.0, 17.0, 11.0]) * full)


def _stomach(stomach: Tube, habitus: Habitus, rng: np.random.Generator) -> list[Part]:
    # A patient on the back has the gas of the stomach in front.
    level = float(habitus.at(0.0, -46.0, 0.0)[1] + rng.normal(0.0, 9.0))
    bubble = Within(Offset(stomach, -4.5), inside=(HalfSpace.facing((0.0, level, 0.0), (0.0, 1.0, 0.0)),))
    return [
        Part(stomach, (Layer(0.0, GUT_WALL), Layer(4.0, STOMACH_CONTENT)), breathing=STOMACH_BREATHING),
        Part(bubble, (Layer(0.0, GAS),), breathing=STOMACH_BREATHING),
    ]


def _pancreas(rng: np.random.Generator, habitus: Habitus) -> list[Part]:
    line = habitus.line([(-27, -26, -16), (-26, -28, 0), (-6, -34, 10), (22, -28, 18), (46, -10, 28), (70, 6, 38)])
    gland = Uneven.drawn(rng, Tube.through(line, np.array([12.0, 14.0, 10.0, 10.0, 9.5, 8.0])), 1.6, 14.0)
    duodenum = habitus.line(
        [(-24, -44, 14), (-42, -30, 8), (-44, -24, -36), (-14, -20, -50), (24, -22, -34), (30, -36, -20)]
    )
    return [
        Part(
            Tube.through(duodenum, 12.0),
            (Layer(0.0, GUT_WALL), Layer(4.5, STOMACH_CONTENT)),
            breathing=PANCREAS_BREATHING,
        ),
        Part(gland, (Layer(0.0, PANCREAS),), breathing=PANCREAS_BREATHING),
    ]


def _adrenals(habitus: Habitus, sides: tuple[str, ...]) -> list[Part]:
    parts = []
    for side, x, z in (("left", 33.0, 58.0), ("right", -29.0, 54.0)):
        root = habitus.at(x, 8.0, z)
        out = 1.0 if side == "left" else -1.0
        limbs = Union(
            tuple(
                Tube.through([root, root + np.array(tip)], [3.4, 2.6], stretch=(1.0, 1.0, 2.0))
                for tip in ((out * 9.0, 13.0, -8.0), (-out * 2.0, 14.0, -8.0), (0.0, -6.0, 2.0))
            )
        )
        parts.append(Part(limbs, (Layer(0.0, ADRENAL),), breathing=KIDNEY_BREATHING))
    return parts


def _liver_vessels(rng: np.random.Generator, habitus: Habitus) -> list[Part]:
    """Portal and hepatic veins: seen by CT inside the liver, part of it for activity and dose."""
    lines = [
        ([(-8, -26, 16), (-26, -22, 40), (-50, -16, 54), (-78, -6, 52), (-96, 6, 40)], [7.0, 6.5, 5.5, 4.0, 2.0]),
        ([(-50, -16, 54), (-76, -42, 62), (-92, -56, 66)], [5.0, 3.4, 1.8]),
        ([(-34, -20, 48), (-16, -44, 68), (14, -56, 76)], [5.0, 4.0, 2.0]),
        ([(-22, -2, 108), (-50, 2, 92), (-86, 4, 70)], [6.5, 5.0, 2.5]),
        ([(-22, -4, 108), (-46, -30, 92), (-62, -58, 72)], [6.0, 4.5, 2.2]),
        ([(-20, -6, 108), (-8, -36, 90), (8, -58, 76)], [5.5, 4.0, 2.0]),
    ]
    parts = []
    for line, radii in lines:
        places = habitus.line([(float(x), float(y), float(z)) for x, y, z in line])
        vein = Tube.through(places + rng.normal(0.0, 1.5, places.shape), np.array(radii))
        parts.append(Part(vein, (Layer(0.0, BLOOD),), breathing=1.0, on_ct_only=True))
    return parts
