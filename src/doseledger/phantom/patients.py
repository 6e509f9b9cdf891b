"""Virtual patients: anatomy, kinetics and what hospital records say about them."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np

from doseledger.phantom.design import site_named
from doseledger.phantom.persons import Person, draw_person
from doseledger.phantom.pharmaceuticals import Pharmaceutical
from doseledger.phantom.torso import Torso, draw_torso
from doseledger.units import G_PER_KG

#: Body volume over cross-section at the waist and height: arms, legs and head are only mass.
_LENGTH_PER_HEIGHT: Final = 0.88
BODY_DENSITY_G_PER_ML: Final = 1.02
_MM_PER_CM: Final = 10.0
_KIDNEY_FUNCTION_BANDS: Final = ("60-89", "90 or more")
#: Urine output, mL/h: log-normal between patients; the median is 1.8 L a day with infused fluids.
_URINE_ML_PER_H: Final = 75.0
_URINE_SD: Final = 0.3


@dataclass(frozen=True)
class VirtualPatient:
    """One patient; `torso` is the anatomy at rest in the first cycle."""

    site: str
    label: str
    pharmaceutical: Pharmaceutical
    sex: str
    age_years: int
    height_cm: int
    mass_kg: float
    diagnosis: str
    kidney_function_band: str
    torso: Torso
    person: Person
    urine_ml_per_h: float

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
    """Draw a patient; the letter of the site says what is given there and how far its scanners see."""
    hospital = site_named(site)
    pharmaceutical = hospital.pharmaceutical
    rng = stream(seed, "patient", site, label)
    sex = pharmaceutical.sex(float(rng.uniform()))
    torso = draw_torso(
        stream(seed, "torso", site, label),
        sex=sex,
        odds=pharmaceutical.lesion_places,
        with_neck=hospital.sees_neck,
    )
    habitus = torso.habitus
    body_ml = habitus.section_ml_per_mm(0.0) * habitus.height_cm * _MM_PER_CM * _LENGTH_PER_HEIGHT
    return VirtualPatient(
        site=site,
        label=label,
        pharmaceutical=pharmaceutical,
        sex=sex,
        age_years=int(rng.integers(45, 80)),
        height_cm=habitus.height_cm,
        mass_kg=round(body_ml * BODY_DENSITY_G_PER_ML / G_PER_KG, 1),
        diagnosis=str(rng.choice(pharmaceutical.diagnoses)),
        kidney_function_band=_KIDNEY_FUNCTION_BANDS[int(rng.integers(len(_KIDNEY_FUNCTION_BANDS)))],
        torso=torso,
        person=draw_person(stream(seed, "person", site, label), pharmaceutical, torso),
        urine_ml_per_h=float(_URINE_ML_PER_H * np.exp(rng.normal(0.0, _URINE_SD))),
    )
