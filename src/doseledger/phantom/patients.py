"""Virtual patients: anatomy, kinetics and what hospital records say about them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np

from doseledger.phantom.torso import Torso, draw_torso
from doseledger.phantom.truth import Person, draw_person
from doseledger.units import G_PER_KG

#: Body volume over torso cross-section and height: arms, legs and head are not modelled, only their mass.
_LENGTH_PER_HEIGHT: Final = 0.68
BODY_DENSITY_G_PER_ML: Final = 1.02
_MM_PER_CM: Final = 10.0
_DIAGNOSES: Final = ("ileum NET G1", "ileum NET G2", "pancreas NET G2", "NET of unknown primary G2")
_KIDNEY_FUNCTION_BANDS: Final = ("60-89", "90 or more")


@dataclass(frozen=True)
class VirtualPatient:
    """One patient; `torso` is the anatomy at rest in the first cycle."""

    site: str
    label: str
    sex: str
    age_years: int
    height_cm: int
    mass_kg: float
    diagnosis: str
    kidney_function_band: str
    torso: Torso
    person: Person

    @property
    def body_ml(self) -> float:
        """Volume of the whole body, with the limbs and head that `torso` does not have."""
        return self.mass_kg * G_PER_KG / BODY_DENSITY_G_PER_ML


def stream(seed: int, *key: object) -> np.random.Generator:
    """The random stream of one thing in one cohort.

    Every patient, cycle and image has a stream of its own: a larger cohort holds the smaller one.
    """
    text = "/".join(str(part) for part in (seed, *key))
    return np.random.Generator(np.random.PCG64(int.from_bytes(sha256(text.encode()).digest()[:16], "big")))


def draw_patient(seed: int, site: str, label: str) -> VirtualPatient:
    rng = stream(seed, "patient", site, label)
    torso = draw_torso(rng)
    sex = ("F", "M")[int(rng.integers(2))]
    height_cm = round(float(rng.normal(165.0 if sex == "F" else 178.0, 5.0)))
    body_ml = torso.body_ml_per_mm * height_cm * _MM_PER_CM * _LENGTH_PER_HEIGHT
    return VirtualPatient(
        site=site,
        label=label,
        sex=sex,
        age_years=int(rng.integers(45, 80)),
        height_cm=height_cm,
        mass_kg=round(body_ml * BODY_DENSITY_G_PER_ML / G_PER_KG, 1),
        diagnosis=_DIAGNOSES[int(rng.integers(len(_DIAGNOSES)))],
        kidney_function_band=_KIDNEY_FUNCTION_BANDS[int(rng.integers(len(_KIDNEY_FUNCTION_BANDS)))],
        torso=torso,
        person=draw_person(rng),
    )
