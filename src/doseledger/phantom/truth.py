"""True time-activity curves of a virtual patient-cycle, with analytic time-integrated activity."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import exp, log
from typing import Final

from doseledger.errors import QuantityError
from doseledger.nuclides import Nuclide
from doseledger.phantom.torso import SUMS
from doseledger.units import kev_per_decay_to_gy_g_per_mbq_h

#: The rest of the body, beside the organs with curves.
REST: Final = "rest"
#: Time between two visits to the toilet, h.
VOIDING_H: Final = 3.5


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


def urine_mbq(curves: Mapping[str, Curve], time_h: float, since_void_h: float, nuclide: Nuclide) -> float:
    """Activity in the bladder: all that has left the body since the last voiding.

    With the biological rates b_i = l_i - l_phys of all terms of all curves,

        A(t) = exp(-l_phys t) sum_i a_i [exp(-b_i (t - v)) - exp(-b_i t)],

    v hours after voiding: nothing is lost, and nothing is made.
    """
    decay = nuclide.decay_constant_per_h
    voided_h = max(time_h - since_void_h, 0.0)
    left = sum(
        a * (exp(-(rate - decay) * voided_h) - exp(-(rate - decay) * time_h))
        for curve in curves.values()
        for a, rate in zip(curve.amplitudes_mbq, curve.rates_per_h, strict=True)
    )
    # In the first minutes organs may fill a little faster than the rest of the body empties.
    return max(exp(-decay * time_h) * left, 0.0)


def urine_tia_mbq_h(curves: Mapping[str, Curve], nuclide: Nuclide) -> float:
    """Time integral of `urine_mbq` for a bladder that is emptied every `VOIDING_H` hours."""
    decay = nuclide.decay_constant_per_h
    kept = 1.0 - exp(-decay * VOIDING_H)
    return sum(
        a * (kept / (decay * (1.0 - exp(-rate * VOIDING_H))) - 1.0 / rate)
        for curve in curves.values()
        for a, rate in zip(curve.amplitudes_mbq, curve.rates_per_h, strict=True)
    )


def region_activity_mbq(curves: Mapping[str, Curve], region: str, time_h: float) -> float:
    return sum(curves[part].activity_mbq(time_h) for part in _parts(curves, region))


def region_tia_mbq_h(curves: Mapping[str, Curve], region: str) -> float:
    return sum(curves[part].tia_mbq_h for part in _parts(curves, region))


def region_half_life_h(curves: Mapping[str, Curve], region: str) -> float:
    """Terminal effective half-life; that of a sum is the longest of its parts."""
    return max(curves[part].effective_half_life_h for part in _parts(curves, region))


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


def _parts(curves: Mapping[str, Curve], region: str) -> tuple[str, ...]:
    return tuple(part for part in SUMS.get(region, (region,)) if part in curves)
