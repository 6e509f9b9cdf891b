"""Kinetics of virtual persons: what stays the same over the cycles of a patient, and what changes.

Every curve is a sum of exponentials. Organs take up, clear in two phases, and some of them take up
again what other organs and tumours release:

    A(t) = F A0 [ f exp(-l1 t) + (1 - f) exp(-l2 t) - exp(-lu t) + r (exp(-l2 t) - exp(-lr t)) ],   A(0) = 0,

a family with more phases than the fitted models. A0 is the administered activity decayed to time
zero, the middle of the infusion. The rest of the body starts with all of A0 and clears fast. All
rates are the physical decay constant plus a biological rate, so that none can be below decay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Final, Literal

import numpy as np

from doseledger.nuclides import Nuclide
from doseledger.phantom.pharmaceuticals import POPULATION_HALF_LIFE_H, Pharmaceutical, Uptake
from doseledger.phantom.torso import BLADDER, MARROW, Torso
from doseledger.phantom.truth import REST, Curve
from doseledger.units import G_PER_KG

Course = Literal["response", "stable", "progression"]

#: Log-normal factors are cut at this many standard deviations: no virtual patient is beyond what clinics report.
CUT_SD: Final = 2.0
#: Uptake of one organ between the cycles of a patient, standard deviation of ln.
CYCLE_SD: Final = 0.10
#: Biological half-life of one organ between the cycles of a patient, standard deviation of ln.
CYCLE_HALF_LIFE_SD: Final = 0.05
#: Left against right of a pair, standard deviation of ln.
SIDE_SD: Final = 0.06
#: Lesions of one patient against each other, over the spread between patients.
LESION_SHARE_OF_SD: Final = 0.6

#: Patients who take up again what was released: probability, size r and half-life of the second uptake.
REUPTAKE_PROBABILITY: Final = 0.35
REUPTAKE_SHARE: Final = (0.10, 0.35)
REUPTAKE_H: Final = (7.0, 14.0)

#: Organs together never take up more of the activity than this: with less left in the blood, all get less.
MOST_UPTAKE: Final = 0.38

#: How lesions go: probability, and factors per cycle on the volume and on the uptake per volume.
COURSES: Final[dict[Course, tuple[float, tuple[float, float], tuple[float, float]]]] = {
    "response": (0.45, (0.70, 0.92), (0.72, 0.95)),
    "stable": (0.35, (0.96, 1.04), (0.93, 1.05)),
    "progression": (0.20, (1.10, 1.30), (0.92, 1.15)),
}


@dataclass(frozen=True)
class LesionCourse:
    """Factors per cycle on the volume and on the uptake per volume of one lesion."""

    volume: float
    uptake: float


@dataclass(frozen=True)
class Person:
    """What stays the same over the cycles of a patient.

    Attributes
    ----------
    uptake_factor
        Uptake per mass over the population median, by organ.
    half_life_factor
        Biological half-life of the terminal phase over the population median, by kind of organ.
    reuptake
        Size and half-life of the second uptake, by kind of organ that has one.
    course
        How the lesions go, and by how much each.
    """

    uptake_factor: Mapping[str, float]
    half_life_factor: Mapping[str, float]
    reuptake: Mapping[str, tuple[float, float]]
    course: Course
    lesions: Mapping[str, LesionCourse]


def kind_of(organ: str) -> str:
    """The kind of organ whose population an organ belongs to."""
    return "marrow" if organ == MARROW else organ.split("_")[0]


def draw_person(rng: np.random.Generator, pharmaceutical: Pharmaceutical, torso: Torso) -> Person:
    organs = _organs_with_curves(torso)
    kinds = list(pharmaceutical.uptake)
    shared = {kind: log_normal(rng, pharmaceutical.uptake[kind].per_kg_sd) for kind in kinds}
    lesion_sd = LESION_SHARE_OF_SD * pharmaceutical.uptake["lesion"].per_kg_sd
    own = {o: log_normal(rng, lesion_sd if kind_of(o) == "lesion" else SIDE_SD) for o in organs}
    single = {"liver", "spleen", MARROW}
    names, chances = list(COURSES), [COURSES[name][0] for name in COURSES]
    course = names[int(rng.choice(len(names), p=chances))]
    return Person(
        uptake_factor={o: shared[kind_of(o)] * (1.0 if o in single else own[o]) for o in organs},
        half_life_factor={kind: log_normal(rng, pharmaceutical.uptake[kind].terminal_sd) for kind in kinds},
        reuptake={kind: drawn for kind in kinds if (drawn := _draw_reuptake(rng)) is not None},
        course=course,
        lesions={lesion.name: _draw_lesion_course(rng, course) for lesion in torso.lesions},
    )


def in_cycle(torso: Torso, person: Person, cycle: int) -> Torso:
    """The patient's anatomy in a cycle: only the lesions change."""
    if cycle == 1:
        return torso
    return torso.with_lesions(
        {lesion.name: lesion.volume_ml * person.lesions[lesion.name].volume ** (cycle - 1) for lesion in torso.lesions}
    )


def draw_curves(
    rng: np.random.Generator,
    pharmaceutical: Pharmaceutical,
    person: Person,
    torso: Torso,
    cycle: int,
    activity_mbq: float,
    nuclide: Nuclide,
) -> dict[str, Curve]:
    """Curves of all organs but the bladder, and of ``rest``, in one cycle.

    Parameters
    ----------
    torso
        The anatomy in this cycle (`in_cycle`).
    activity_mbq
        Administered activity at mid-infusion.
    """
    lambda_per_h = nuclide.decay_constant_per_h
    # Pairs have one blood supply: what differs between cycles differs for both.
    change = {kind: log_normal(rng, CYCLE_SD) for kind in pharmaceutical.uptake}
    slower = {kind: log_normal(rng, CYCLE_HALF_LIFE_SD) for kind in pharmaceutical.uptake}
    fractions = {}
    for organ in _organs_with_curves(torso):
        kind = kind_of(organ)
        response = person.lesions[organ].uptake ** (cycle - 1) if kind == "lesion" else 1.0
        per_kg = pharmaceutical.uptake[kind].per_kg * person.uptake_factor[organ] * change[kind] * response
        fractions[organ] = per_kg * torso.mass_g(organ) / G_PER_KG
    sink = min(1.0, MOST_UPTAKE / sum(fractions.values()))
    curves = {}
    for organ, fraction in fractions.items():
        kind = kind_of(organ)
        slowing = person.half_life_factor[kind] * slower[kind]
        curves[organ] = _organ_curve(
            pharmaceutical.uptake[kind],
            sink * fraction * activity_mbq,
            slowing,
            person.reuptake.get(kind),
            lambda_per_h,
        )
    curves[REST] = Curve(
        tuple(share * activity_mbq for share, _ in pharmaceutical.rest_of_body),
        tuple(lambda_per_h + _biological_rate(half) for _, half in pharmaceutical.rest_of_body),
    )
    return curves


def log_normal(rng: np.random.Generator, sd: float) -> float:
    """A log-normal factor of median 1, cut at `CUT_SD`."""
    return exp(sd * float(np.clip(rng.standard_normal(), -CUT_SD, CUT_SD)))


def _organ_curve(
    uptake: Uptake, amount_mbq: float, slowing: float, reuptake: tuple[float, float] | None, lambda_per_h: float
) -> Curve:
    slow = lambda_per_h + _biological_rate(uptake.terminal_h) / slowing
    # A slow patient is slow in every phase; the order of the phases stays.
    fast = max(lambda_per_h + _biological_rate(uptake.fast_h) / slowing, 1.2 * slow)
    rise = lambda_per_h + _biological_rate(uptake.uptake_h)
    amplitudes = [1.0 - uptake.fast_share, uptake.fast_share, -1.0]
    rates = [slow, fast, rise]
    if reuptake is not None:
        again, half_h = reuptake
        amplitudes[0] += again
        amplitudes.append(-again)
        rates.append(max(lambda_per_h + _biological_rate(half_h), 1.2 * slow))
    return Curve(tuple(amount_mbq * a for a in amplitudes), tuple(rates))


def _draw_reuptake(rng: np.random.Generator) -> tuple[float, float] | None:
    chance, share, half_h = rng.uniform(), rng.uniform(*REUPTAKE_SHARE), rng.uniform(*REUPTAKE_H)
    return (float(share), float(half_h)) if chance < REUPTAKE_PROBABILITY else None


def _draw_lesion_course(rng: np.random.Generator, course: Course) -> LesionCourse:
    _, volume, uptake = COURSES[course]
    return LesionCourse(volume=float(rng.uniform(*volume)), uptake=float(rng.uniform(*uptake)))


def _organs_with_curves(torso: Torso) -> list[str]:
    return [name for name in torso.organs if name != BLADDER]


def _biological_rate(effective_h: float) -> float:
    return log(2.0) / effective_h - log(2.0) / POPULATION_HALF_LIFE_H
