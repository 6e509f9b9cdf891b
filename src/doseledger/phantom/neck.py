"""Salivary glands, thyroid and tongue: in view of scanners with a long field."""

from __future__ import annotations

from typing import Final

import numpy as np

from doseledger.phantom.habitus import Habitus
from doseledger.phantom.parts import Layer, Organ, Part
from doseledger.phantom.surfaces import Blend, Oval, Uneven
from doseledger.phantom.tissues import BLOOD, MUSCLE, PANCREAS, SALIVARY

#: Half-axes of an average parotid (25 mL) and submandibular gland (10 mL), mm.
_PAROTID_HALF_MM: Final = (10.8, 18.0, 24.0)
_SUBMANDIBULAR_HALF_MM: Final = (9.6, 15.5, 12.2)


def salivary_glands(rng: np.random.Generator, habitus: Habitus) -> list[Organ]:
    """Parotid and submandibular glands of both sides."""
    size = float(np.exp(rng.normal(0.0, 0.07)))
    glands = []
    for name, x, y, z, half in (
        ("parotid", 54.0, 18.0, 428.0, _PAROTID_HALF_MM),
        ("submandibular", 32.0, -30.0, 392.0, _SUBMANDIBULAR_HALF_MM),
    ):
        for side, hand in (("left", 1.0), ("right", -1.0)):
            own = np.exp(rng.normal(0.0, 0.04, 3))
            gland = Oval.at(habitus.at(hand * x, y, z), np.array(half) * size * own, tilt_deg=(10.0, 0.0, hand * 20.0))
            glands.append(Organ(f"{name}_{side}", Uneven.drawn(rng, gland, 1.0, 22.0), SALIVARY))
    return glands


def soft_parts(habitus: Habitus) -> list[Part]:
    """Thyroid and tongue."""
    lobes = [Oval.at(habitus.at(hand * 17.0, -24.0, 342.0), (9.0, 10.0, 22.0)) for hand in (1.0, -1.0)]
    thyroid = Part(Blend(lobes[0], lobes[1], 12.0), (Layer(0.0, PANCREAS),))
    tongue = Part(Oval.at(habitus.at(0.0, -40.0, 414.0), (22.0, 32.0, 18.0)), (Layer(0.0, MUSCLE),))
    carotids = [
        Part(Oval.at(habitus.at(hand * 26.0, -6.0, 380.0), (5.0, 5.0, 70.0)), (Layer(0.0, BLOOD),))
        for hand in (1.0, -1.0)
    ]
    return [tongue, thyroid, *carotids]
