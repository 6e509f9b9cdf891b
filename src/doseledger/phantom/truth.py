"""The true kinetics of a virtual patient-cycle, with analytic time-integrated activity.

Every curve is a sum of exponentials. Organs take up and clear in two phases,

    A(t) = F A0 (f exp(-l1 t) + (1 - f) exp(-l2 t) - exp(-lu t)),        A(0) = 0,

a family with one phase more than the fitted models. A0 is the administered activity decayed to
time zero, the middle of the infusion. The rest of the body starts with all of A0 and clears fast.
All rates are the physical decay constant plus a biological rate, so that none can be below decay.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Final

import numpy as np

from doseledger.errors import QuantityError
from doseledger.nuclides import Nuclide
from doseledger.phantom.torso import ORGANS, SUMS, Torso
from doseledger.units import G_PER_KG, kev_per_decay_to_gy_g_per_mbq_h

#: Log-normal factors are cut at this many standard deviations: no virtual patient is beyond what clinics report.
CUT_SD: Final = 1.8
#: Uptake of one organ between the cycles of a patient, standard deviation of ln.
CYCLE_SD: Final = 0.06
#: Biological half-life of one organ between the cycles of a patient, standard deviation of ln.
CYCLE_HALF_LIFE_SD: Final = 0.03
#: Left against right kidney, standard deviation of ln.
SIDE_SD: Final = 0.04


@dataclass(frozen=True)
class Curve:
    """Activity ``sum_i a_i exp(-l_i t)``, MBq, with t in hours after mid-infusion.

    Raises
    ------
    QuantityError
        A rate is not positive.
    """

    amplitudes_mbq: tuple[float, ...]
    rates_per_h: tuple[float, ...]

    def __post_init__(self) -> None:
        if min(self.rates_per_h) <= 0.0:
            raise QuantityError("the clearance rate is not positive", value=self.rates_per_h)

    def activity_mbq(self, time_h: float) -> float:
        return sum(a * exp(-rate * time_h) for a, rate in self._terms)

    @property
    def tia_mbq_h(self) -> float:
        """Time-integrated activity to infinity, ``sum_i a_i / l_i``."""
        return sum(a / rate for a, rate in self._terms)

    @property
    def effective_half_life_h(self) -> float:
        """Half-life of the terminal phase."""
        return log(2.0) / min(self.rates_per_h)

    @property
    def _terms(self) -> list[tuple[float, float]]:
        return list(zip(self.amplitudes_mbq, self.rates_per_h, strict=True))


@dataclass(frozen=True)
class Uptake:
    """Population kinetics of one kind of organ; half-lives are effective, for 177Lu.

    Attributes
    ----------
    per_kg, per_kg_sd
        Median of the uptake F per kilogram of organ, and standard deviation of its logarithm.
    terminal_h, terminal_sd
        Median terminal half-life, and standard deviation of ln of its *biological* part.
    fast_h, fast_share
        Half-life and share f of the first clearance phase.
    uptake_h
        Half-life of the uptake phase.
    """

    per_kg: float
    per_kg_sd: float
    terminal_h: float
    terminal_sd: float
    fast_h: float
    fast_share: float
    uptake_h: float


#: 177Lu-DOTATATE. Terminal half-lives: kidneys 51 h (40 to 65), liver 65 h, spleen 68 h, tumour 80 h
#: (50 to 140). Median doses for 7400 MBq: kidneys 4 Gy, liver 1.6 Gy, spleen 7 Gy, lesion 25 Gy.
POPULATION: Final[dict[str, Uptake]] = {
    "kidney": Uptake(0.115, 0.18, terminal_h=51.0, terminal_sd=0.18, fast_h=14.0, fast_share=0.30, uptake_h=1.2),
    "liver": Uptake(0.036, 0.20, terminal_h=65.0, terminal_sd=0.20, fast_h=18.0, fast_share=0.25, uptake_h=1.0),
    "spleen": Uptake(0.130, 0.22, terminal_h=68.0, terminal_sd=0.20, fast_h=20.0, fast_share=0.20, uptake_h=1.0),
    "lesion": Uptake(0.400, 0.30, terminal_h=80.0, terminal_sd=0.40, fast_h=24.0, fast_share=0.15, uptake_h=2.5),
}
#: Physical half-life inside the effective half-lives above (177Lu).
_POPULATION_HALF_LIFE_H: Final = 159.528
_KIND: Final = {
    "kidney_left": "kidney",
    "kidney_right": "kidney",
    "liver": "liver",
    "spleen": "spleen",
    "lesion_1": "lesion",
}

#: Rest of the body: share of A0 and effective half-life of each phase.
REST_OF_BODY: Final = ((0.86, 2.2), (0.14, 36.0))
#: Range of the lesion's uptake per mass, and of its volume, over those of the cycle before.
LESION_RESPONSE: Final = (0.65, 1.00)
LESION_SHRINKAGE: Final = (0.85, 1.02)
LESION_VOLUME_ML: Final = (15.0, 30.0)


@dataclass(frozen=True)
class Person:
    """What stays the same over the cycles of a patient.

    Attributes
    ----------
    uptake_factor
        Uptake per mass over the population median, by organ.
    half_life_factor
        Biological half-life of the terminal phase over the population median, by kind of organ.
    response_per_cycle, shrinkage_per_cycle
        Uptake per mass and volume of the lesion over those of the cycle before.
    """

    uptake_factor: Mapping[str, float]
    half_life_factor: Mapping[str, float]
    response_per_cycle: float
    shrinkage_per_cycle: float


def draw_person(rng: np.random.Generator) -> Person:
    uptake = {kind: log_normal(rng, population.per_kg_sd) for kind, population in POPULATION.items()}
    side = {organ: log_normal(rng, SIDE_SD) for organ, kind in _KIND.items() if kind == "kidney"}
    return Person(
        uptake_factor={organ: uptake[kind] * side.get(organ, 1.0) for organ, kind in _KIND.items()},
        half_life_factor={kind: log_normal(rng, population.terminal_sd) for kind, population in POPULATION.items()},
        response_per_cycle=float(rng.uniform(*LESION_RESPONSE)),
        shrinkage_per_cycle=float(rng.uniform(*LESION_SHRINKAGE)),
    )


def in_cycle(torso: Torso, person: Person, cycle: int) -> Torso:
    """The patient's anatomy in a cycle: only the lesion changes."""
    first_ml = torso.volume_ml("lesion_1")
    volume_ml = first_ml * person.shrinkage_per_cycle ** (cycle - 1)
    return torso.with_lesion_volume(float(np.clip(volume_ml, *LESION_VOLUME_ML)))


def draw_curves(
    rng: np.random.Generator, person: Person, torso: Torso, cycle: int, activity_mbq: float, nuclide: Nuclide
) -> dict[str, Curve]:
    """Curves of all organs and of ``rest`` in one cycle.

    Parameters
    ----------
    torso
        The anatomy in this cycle (`in_cycle`).
    activity_mbq
        Administered activity at mid-infusion.
    """
    lambda_per_h = nuclide.decay_constant_per_h
    # Both kidneys have one blood supply: what differs between cycles differs for both.
    change = {kind: log_normal(rng, CYCLE_SD) for kind in POPULATION}
    change["lesion"] *= person.response_per_cycle ** (cycle - 1)
    slower = {kind: log_normal(rng, CYCLE_HALF_LIFE_SD) for kind in POPULATION}
    curves = {}
    for organ in ORGANS:
        kind = _KIND[organ]
        uptake = POPULATION[kind]
        mass_kg = torso.mass_g(organ) / G_PER_KG
        amount = uptake.per_kg * mass_kg * person.uptake_factor[organ] * change[kind] * activity_mbq
        slow = lambda_per_h + _biological_rate(uptake.terminal_h) / (person.half_life_factor[kind] * slower[kind])
        fast, rise = (lambda_per_h + _biological_rate(half) for half in (uptake.fast_h, uptake.uptake_h))
        curves[organ] = Curve(
            (amount * (1.0 - uptake.fast_share), amount * uptake.fast_share, -amount), (slow, fast, rise)
        )
    curves["rest"] = Curve(
        tuple(share * activity_mbq for share, _ in REST_OF_BODY),
        tuple(lambda_per_h + _biological_rate(half) for _, half in REST_OF_BODY),
    )
    return curves


def region_activity_mbq(curves: Mapping[str, Curve], region: str, time_h: float) -> float:
    return sum(curves[part].activity_mbq(time_h) for part in SUMS.get(region, (region,)))


def region_tia_mbq_h(curves: Mapping[str, Curve], region: str) -> float:
    return sum(curves[part].tia_mbq_h for part in SUMS.get(region, (region,)))


def region_half_life_h(curves: Mapping[str, Curve], region: str) -> float:
    """Terminal effective half-life; that of a sum is the longest of its parts."""
    return max(curves[part].effective_half_life_h for part in SUMS.get(region, (region,)))


def local_dose_gy(tia_mbq_h: float, mass_g: float, nuclide: Nuclide) -> float:
    """Absorbed dose from the electrons of the region's own decays, deposited in the region.

    D = TIA Delta / m, with Delta the mean electron energy per decay. Photons, and what enters from
    or leaves to other regions, are not in it.

    Examples
    --------
    Both kidneys after 7400 MBq, 310 g in all:

    >>> from doseledger.nuclides import nuclide
    >>> round(local_dose_gy(15208.97, 310.0, nuclide("Lu-177")), 3)
    4.186
    """
    return tia_mbq_h * kev_per_decay_to_gy_g_per_mbq_h(nuclide.electron_kev) / mass_g


def log_normal(rng: np.random.Generator, sd: float) -> float:
    """A log-normal factor of median 1, cut at `CUT_SD`."""
    return exp(sd * float(np.clip(rng.standard_normal(), -CUT_SD, CUT_SD)))


def _biological_rate(effective_h: float) -> float:
    return log(2.0) / effective_h - log(2.0) / _POPULATION_HALF_LIFE_H
