"""Decay data: half-life, mean energies, photon lines and decay chain of a radionuclide.

Source: ICRP Publication 107 spectra as packaged by ``icrp107-database`` (used as a dependency,
never copied), decay chains as packaged by ``radioactivedecay``. Exceptions to ICRP-107 are in
`HALF_LIFE_H` with their source.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.resources import files
from math import log
from typing import Any, Final

from doseledger.errors import NuclideError

SOURCE: Final = "ICRP-107 (icrp107-database 0.0.3, radioactivedecay)"

#: Half-lives that supersede ICRP-107, in hours.
HALF_LIFE_H: Final[dict[str, float]] = {
    "Tb-161": 6.9637 * 24.0,  # Collins et al. 2022, PMID 35158282
}

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


@dataclass(frozen=True)
class Nuclide:
    """A radionuclide; energies are mean values per decay of this nuclide alone, in keV.

    Attributes
    ----------
    electron_kev
        Beta particles (both signs), conversion electrons and Auger electrons.
    photon_kev
        Gamma and x rays and annihilation quanta.
    photons
        Lines ``(energy_kev, yield_per_decay)`` in order of energy.
    """

    name: str
    half_life_h: float
    beta_kev: float
    conversion_electron_kev: float
    auger_electron_kev: float
    photon_kev: float
    alpha_kev: float
    recoil_kev: float
    photons: tuple[tuple[float, float], ...]
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
        parts = [(1.0, self), *((member.yield_per_decay, nuclide(member.name)) for member in self.chain)]
        return EmittedEnergy(
            electron_kev=sum(weight * part.electron_kev for weight, part in parts),
            photon_kev=sum(weight * part.photon_kev for weight, part in parts),
            alpha_kev=sum(weight * part.alpha_kev for weight, part in parts),
            recoil_kev=sum(weight * part.recoil_kev for weight, part in parts),
        )

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
    lines = [line for kind in ("gamma", "X", "annihilation") for line in emissions[kind]]
    return Nuclide(
        name=name,
        half_life_h=_half_life_h(name, record),
        beta_kev=energies["beta"],
        conversion_electron_kev=energies["IE"],
        auger_electron_kev=energies["auger"],
        photon_kev=energies["photon"],
        alpha_kev=energies["alpha"],
        recoil_kev=energies["alpha recoil"],
        photons=tuple(sorted((e * _KEV_PER_MEV, y) for e, y in lines)),
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


def _daughters(parent: str, parent_half_life_h: float) -> tuple[ChainMember, ...]:
    """Walk the chain; branches that meet again (212Po, 208Tl -> 208Pb) add up."""
    # Its import takes longer than a dose calculation: only where a chain is asked for.
    import radioactivedecay

    yields: dict[str, float] = {}
    queue = [(parent, 1.0)]
    while queue:
        name, weight = queue.pop(0)
        step = radioactivedecay.Nuclide(name)
        for daughter, fraction in zip(step.progeny(), step.branching_fractions(), strict=True):
            if daughter == "SF" or radioactivedecay.Nuclide(daughter).half_life("h") >= parent_half_life_h:
                continue
            yields[daughter] = yields.get(daughter, 0.0) + weight * fraction
            queue.append((daughter, weight * fraction))
    return tuple(ChainMember(n, float(radioactivedecay.Nuclide(n).half_life("h")), y) for n, y in yields.items())
