"""Radiations of a nuclide as the Monte Carlo engine takes them, from ICRP-107."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Any, Final

import numpy as np

#: Radiations below this energy stop where they are emitted, keV: the cut of the cross sections.
LOCAL_BELOW_KEV: Final = 10.0
_KEV_PER_MEV: Final = 1.0e3


@dataclass(frozen=True)
class Radiation:
    """One kind of particle with its spectrum above `LOCAL_BELOW_KEV`.

    Attributes
    ----------
    kev_per_decay
        Mean energy per decay above the cut.
    energy_kev, weight
        Lines with their yields, or nodes of a density that is linear in between (`continuous`).
    """

    name: str
    particle: str
    kev_per_decay: float
    energy_kev: tuple[float, ...]
    weight: tuple[float, ...]
    continuous: bool

    def job(self, histories: int) -> dict[str, Any]:
        return {**asdict(self), "histories": histories}


@dataclass(frozen=True)
class Emission:
    """All radiations of a nuclide, and the energy per decay that stops where it is emitted, keV."""

    radiations: tuple[Radiation, ...]
    local_kev: float

    @property
    def total_kev(self) -> float:
        return self.local_kev + sum(radiation.kev_per_decay for radiation in self.radiations)

    def electrons_only(self) -> Emission:
        """The same without photons; the local part keeps that of the softest photons (some eV)."""
        return Emission(tuple(r for r in self.radiations if r.particle == "electron"), self.local_kev)


def emission_of(nuclide: str) -> Emission:
    """Radiations of a beta-minus emitter.

    The tabulated beta spectrum integrates 0.1 to 0.2 % high; its shape is kept and its energy set to
    the listed mean energy per decay.
    """
    emissions = _record(nuclide)["emissions"]
    beta, beta_local = _beta(emissions)
    electrons, electrons_local = _lines("conversion and Auger electrons", "electron", emissions, ("IE", "auger"))
    photons, photons_local = _lines("photons", "photon", emissions, ("gamma", "X"))
    return Emission((beta, electrons, photons), beta_local + electrons_local + photons_local)


def _record(nuclide: str) -> dict[str, Any]:
    record = json.loads((files("icrp107_database") / "icrp107" / f"{nuclide}.json").read_text())
    return dict(json.loads(record) if isinstance(record, str) else record)


def _beta(emissions: dict[str, Any]) -> tuple[Radiation, float]:
    energy, density = np.array(emissions["b-spectra"]).T
    listed_kev = _KEV_PER_MEV * sum(mean * y for mean, y in emissions["beta-"])
    return split_spectrum("beta", energy * _KEV_PER_MEV, density, listed_kev)


def split_spectrum(name: str, energy: np.ndarray, density: np.ndarray, listed_kev: float) -> tuple[Radiation, float]:
    """Electrons of a continuous spectrum above the cut, and the energy per decay below it; together `listed_kev`."""
    at_cut = np.interp(LOCAL_BELOW_KEV, energy, density)
    above = np.concatenate([[LOCAL_BELOW_KEV], energy[energy > LOCAL_BELOW_KEV]])
    density_above = np.concatenate([[at_cut], density[energy > LOCAL_BELOW_KEV]])
    below = np.concatenate([energy[energy < LOCAL_BELOW_KEV], [LOCAL_BELOW_KEV]])
    density_below = np.concatenate([density[energy < LOCAL_BELOW_KEV], [at_cut]])
    soft, hard = _mean_energy(below, density_below), _mean_energy(above, density_above)
    hard_kev = listed_kev * hard / (soft + hard)
    spectrum = Radiation(name, "electron", hard_kev, tuple(above.tolist()), tuple(density_above.tolist()), True)
    return spectrum, listed_kev - hard_kev


def _mean_energy(energy: np.ndarray, density: np.ndarray) -> float:
    """Integral of energy times a piecewise linear density, by Simpson's rule (exact for parabolas)."""
    middle, step = 0.5 * (energy[1:] + energy[:-1]), np.diff(energy)
    at_nodes, at_middle = energy * density, middle * 0.5 * (density[1:] + density[:-1])
    return float(np.sum(step * (at_nodes[1:] + 4.0 * at_middle + at_nodes[:-1]) / 6.0))


def _lines(name: str, particle: str, emissions: dict[str, Any], kinds: tuple[str, ...]) -> tuple[Radiation, float]:
    lines = sorted((energy * _KEV_PER_MEV, y) for kind in kinds for energy, y in emissions[kind])
    return split_lines(name, particle, lines)


def split_lines(name: str, particle: str, lines: Sequence[tuple[float, float]]) -> tuple[Radiation, float]:
    """Lines ``(energy_kev, yield)`` above the cut, and the energy per decay below it."""
    hard = [(energy, y) for energy, y in lines if energy > LOCAL_BELOW_KEV]
    energy_kev, weight = zip(*hard, strict=True)
    emitted = sum(energy * y for energy, y in hard)
    local = sum(energy * y for energy, y in lines) - emitted
    return Radiation(name, particle, emitted, energy_kev, weight, False), local
