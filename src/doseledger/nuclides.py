"""Decay data: half-life, mean energies, spectra and decay chain of a radionuclide.

Source: ICRP Publication 107 (doi 10.1016/j.icrp.2008.10.004) as packaged by ``icrp107-database``
(used as a dependency, never copied); branching fractions of ``radioactivedecay``, in the table
``decay_chains``. Exceptions to ICRP-107 are in `HALF_LIFE_H` with their source.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from math import inf, log
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from doseledger.data import records
from doseledger.errors import NuclideError

SOURCE: Final = "ICRP-107 (icrp107-database 0.0.3, chains as in radioactivedecay 0.6.1)"

#: Half-lives that supersede ICRP-107, in hours.
HALF_LIFE_H: Final[dict[str, float]] = {
    "Tb-161": 6.9637 * 24.0,
}
#: Their sources.
_HALF_LIFE_SOURCE: Final = {"Tb-161": "half-life Collins et al. 2022, PMID 35158282"}

_HOURS: Final = {
    "us": 1e-6 / 3600.0,
    "ms": 1e-3 / 3600.0,
    "s": 1.0 / 3600.0,
    "m": 1.0 / 60.0,
    "h": 1.0,
    "d": 24.0,
    "y": 24.0 * 365.2422,
}
_KEV_PER_MEV: Final = 1.0e3
#: Element, mass number, metastable state. Names come from sheets and become file names.
_NAME: Final = re.compile(r"[A-Z][a-z]?-[0-9]+[mn]?")


@dataclass(frozen=True)
class EmittedEnergy:
    """Mean energy emitted per decay of the parent, keV, by kind of radiation."""

    electron_kev: float
    photon_kev: float
    alpha_kev: float
    recoil_kev: float

    @property
    def local_kev(self) -> float:
        """Energy of the particles that stop within about a millimetre of soft tissue."""
        return self.electron_kev + self.alpha_kev + self.recoil_kev


@dataclass(frozen=True)
class ChainMember:
    """A daughter that decays in place: its own energies count ``yield_per_decay`` times."""

    name: str
    half_life_h: float
    yield_per_decay: float


#: Lines ``(energy_kev, yield_per_decay)`` in order of energy.
Lines = tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Nuclide:
    """A radionuclide; energies are mean values per decay of this nuclide alone, in keV.

    Attributes
    ----------
    electron_kev
        Beta particles (both signs), conversion electrons and Auger electrons.
    photon_kev
        Gamma and x rays and annihilation quanta.
    photons, electrons
        Lines of photons, and of conversion and Auger electrons.
    beta_spectrum
        Nodes ``(energy_kev, per_kev)`` of the number of betas (both signs) per keV and decay, linear
        in between. Integrates to the listed yield and mean energy.
    """

    name: str
    half_life_h: float
    beta_kev: float
    conversion_electron_kev: float
    auger_electron_kev: float
    photon_kev: float
    alpha_kev: float
    recoil_kev: float
    photons: Lines
    electrons: Lines = ()
    beta_spectrum: tuple[tuple[float, float], ...] = ()
    source: str = SOURCE

    @cached_property
    def chain(self) -> tuple[ChainMember, ...]:
        """Daughters with a shorter half-life than this nuclide, with their yield per decay.

        They decay where the parent decayed; longer-lived daughters (131mXe, 207Bi) do not count.
        """
        return _daughters(self.name, self.half_life_h)

    @cached_property
    def in_place(self) -> EmittedEnergy:
        """Energies of this nuclide and its `chain` together, per decay of this nuclide."""
        return EmittedEnergy(
            electron_kev=sum(weight * part.electron_kev for weight, part in self.decays_in_place),
            photon_kev=sum(weight * part.photon_kev for weight, part in self.decays_in_place),
            alpha_kev=sum(weight * part.alpha_kev for weight, part in self.decays_in_place),
            recoil_kev=sum(weight * part.recoil_kev for weight, part in self.decays_in_place),
        )

    @cached_property
    def photons_in_place(self) -> Lines:
        """Photon lines of this nuclide and its `chain` together, per decay of this nuclide."""
        parts = self.decays_in_place
        return tuple(sorted((energy, weight * y) for weight, part in parts for energy, y in part.photons))

    @property
    def decays_in_place(self) -> tuple[tuple[float, Nuclide], ...]:
        """This nuclide and its `chain` as ``(decays per decay of this nuclide, nuclide)``."""
        return ((1.0, self), *((member.yield_per_decay, nuclide(member.name)) for member in self.chain))

    @property
    def decay_constant_per_h(self) -> float:
        return log(2.0) / self.half_life_h

    @property
    def electron_kev(self) -> float:
        return self.beta_kev + self.conversion_electron_kev + self.auger_electron_kev


@cache
def nuclide(name: str) -> Nuclide:
    """Decay data of a nuclide, named as in ``"Lu-177"`` or ``"Pa-234m"``.

    Raises
    ------
    NuclideError
        The name is not in ICRP-107.

    Examples
    --------
    ICRP-107 gives 147.92 keV of electrons and 35.10 keV of photons per decay of 177Lu:

    >>> lu = nuclide("Lu-177")
    >>> round(lu.half_life_h, 3), round(lu.electron_kev, 2), round(lu.photon_kev, 2)
    (159.528, 147.92, 35.1)
    """
    record = _record(name)
    emissions = record["emissions"]
    energies = _energies(emissions)
    return Nuclide(
        name=name,
        half_life_h=_half_life_h(name, record),
        beta_kev=energies["beta"],
        conversion_electron_kev=energies["IE"],
        auger_electron_kev=energies["auger"],
        photon_kev=energies["photon"],
        alpha_kev=energies["alpha"],
        recoil_kev=energies["alpha recoil"],
        photons=_lines(emissions, "gamma", "X", "annihilation"),
        electrons=_lines(emissions, "IE", "auger"),
        beta_spectrum=_beta_spectrum(emissions),
        source="; ".join([SOURCE, *([_HALF_LIFE_SOURCE[name]] if name in HALF_LIFE_H else [])]),
    )


@cache
def _record(name: str) -> dict[str, Any]:
    file = files("icrp107_database") / "icrp107" / f"{name}.json"
    if not _NAME.fullmatch(name) or not file.is_file():
        raise NuclideError("the nuclide is not in ICRP-107", value=name, expected="Lu-177")
    record = json.loads(file.read_text())
    # Some releases of the package hold JSON in a JSON string.
    return dict(json.loads(record) if isinstance(record, str) else record)


def _half_life_h(name: str, record: dict[str, Any]) -> float:
    return HALF_LIFE_H.get(name, float(record["half_life"]) * _HOURS[record["time_unit"]])


def _energies(emissions: dict[str, Any]) -> dict[str, float]:
    kev = {
        kind: _KEV_PER_MEV * sum(energy * y for energy, y in emissions[kind])
        for kind in ("beta-", "beta+", "IE", "auger", "gamma", "X", "annihilation", "alpha", "alpha recoil")
    }
    kev["beta"] = kev["beta-"] + kev["beta+"]
    kev["photon"] = kev["gamma"] + kev["X"] + kev["annihilation"]
    return kev


def _lines(emissions: dict[str, Any], *kinds: str) -> Lines:
    return tuple(sorted((energy * _KEV_PER_MEV, y) for kind in kinds for energy, y in emissions[kind]))


def _beta_spectrum(emissions: dict[str, Any]) -> tuple[tuple[float, float], ...]:
    """The tabulated density times (a + b E), so that it has the listed yield and mean energy.

    As tabulated it integrates 0.1 to 0.2 % high. Branches and both signs of beta are merged in it.
    """
    branches = [*emissions["beta-"], *emissions["beta+"]]
    if not branches:
        return ()
    energy, tabulated = np.array(emissions["b-spectra"]).T
    shapes = (tabulated, tabulated * energy)
    integrals = [[_integral(energy, shape, power) for shape in shapes] for power in (0, 1)]
    listed = [sum(y for _, y in branches), sum(mean * y for mean, y in branches)]
    a, b = np.linalg.solve(integrals, listed)
    per_kev = tabulated * (a + b * energy) / _KEV_PER_MEV
    return tuple(zip((energy * _KEV_PER_MEV).tolist(), per_kev.tolist(), strict=True))


def _integral(x: NDArray[np.float64], density: NDArray[np.float64], power: int) -> float:
    """Integral of x^power (0 or 1) times a density that is linear between its nodes; Simpson's rule is exact."""
    middle = 0.5 * (x[1:] + x[:-1])
    at_middle = middle**power * 0.5 * (density[1:] + density[:-1])
    at_nodes = x**power * density
    return float(np.sum(np.diff(x) * (at_nodes[1:] + 4.0 * at_middle + at_nodes[:-1]) / 6.0))


def _daughters(parent: str, parent_half_life_h: float) -> tuple[ChainMember, ...]:
    """Walk the chain; branches that meet again (212Po, 208Tl -> 208Pb) add up."""
    half_lives: dict[str, float] = {}
    yields: dict[str, float] = {}
    queue = [(parent, 1.0)]
    while queue:
        name, weight = queue.pop(0)
        for daughter, fraction in _branches(name):
            half_life_h = nuclide(daughter).half_life_h if daughter in _branching_table() else inf
            if half_life_h >= parent_half_life_h:
                continue
            half_lives[daughter] = half_life_h
            yields[daughter] = yields.get(daughter, 0.0) + weight * fraction
            queue.append((daughter, weight * fraction))
    return tuple(ChainMember(name, half_lives[name], y) for name, y in yields.items())


def _branches(name: str) -> tuple[tuple[str, float], ...]:
    try:
        return _branching_table()[name]
    except KeyError:
        raise NuclideError(
            "the decay chain of the nuclide is not on record",
            value=name,
            expected=sorted(_branching_table()),
            remedy="Add the nuclide to recipes/decay_chains.py and run it.",
        ) from None


@cache
def _branching_table() -> dict[str, tuple[tuple[str, float], ...]]:
    """Daughters ``(name, fraction)`` of every radioactive nuclide on record; stable ones have no entry."""
    table: dict[str, tuple[tuple[str, float], ...]] = {}
    for row in records("decay_chains"):
        branch = (row["daughter"], float(row["branching_fraction"]))
        table[row["parent"]] = (*table.get(row["parent"], ()), branch)
    return table
