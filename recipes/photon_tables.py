"""Photon cross sections of the media of `doseledger.dose.media`: ``photon_tables.py src/doseledger/data``.

Writes ``photon_attenuation.csv`` and ``photon_scattering.csv``. It runs in an environment of its own
(``envs/photon-tables.txt``): the tables are committed, and no dose calculation needs xraylib.

* Photoelectric, incoherent and coherent cross sections: xraylib up to 800 keV, where its splines end. Above, the
  photoelectric one goes on as the power of the energy that it has there, the coherent one with E^-2, and the incoherent
  one is the Klein-Nishina cross section of the electrons, in the ratio to it at 800 keV.
* Pair production in the field of nuclei: Maximon's expansion (doi 10.6028/jres.072B.011). The Coulomb correction and
  pairs in the field of electrons are left out: some per cent of a process that makes 3 % of the total at 3 MeV.
* Energy that incoherent scattering gives to electrons: its coefficient times the mean share under the Klein-Nishina
  density times the scattering function, which is how photons are scattered.
* Coherent scattering: squared form factors per gram; incoherent: scattering function per electron.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable
from math import log, pi, sqrt
from pathlib import Path
from typing import Final

import numpy as np
import xraylib

#: Mass fractions by atomic number: those of the media that ompMC calls AIR521ICRU, LUNG521ICRU, ICRUTISSUE521ICRU and
#: ICRPBONE521ICRU (air, lung and soft tissue of ICRU reports 37 and 44, cortical bone of ICRP publication 23).
MEDIA: Final[dict[str, dict[int, float]]] = {
    "air": {6: 0.000124, 7: 0.7552, 8: 0.2318, 18: 0.01283},
    "lung": {
        **{1: 0.103, 6: 0.105, 7: 0.031, 8: 0.749, 11: 0.002, 15: 0.002, 16: 0.003, 17: 0.003, 19: 0.002},
    },
    "soft_tissue": {1: 0.101172, 6: 0.111, 7: 0.026, 8: 0.761828},
    "bone": {
        **{1: 0.047234, 6: 0.14433, 7: 0.04199, 8: 0.446096, 12: 0.0022, 15: 0.10497, 16: 0.00315},
        **{20: 0.20993, 30: 0.0001},
    },
}
ENERGIES_KEV: Final = np.geomspace(10.0, 3000.0, 160)
SPLINES_END_KEV: Final = 800.0
#: sin(theta/2)/lambda, 1/angstrom.
TRANSFERS: Final = np.concatenate([[0.0], np.geomspace(0.005, 100.0, 200)])

ELECTRON_KEV: Final = 510.99895
HC_KEV_ANGSTROM: Final = 12.398419843
CLASSICAL_RADIUS_CM: Final = 2.8179403262e-13
FINE_STRUCTURE: Final = 7.2973525693e-3
AVOGADRO: Final = 6.02214076e23


def main(folder: Path) -> None:
    kinds = [*KINDS, "incoherent_transfer"]
    header = ["energy_kev", *(f"{name}_{kind}_cm2_per_g" for name in MEDIA for kind in kinds)]
    rows = [[e, *(value for m in MEDIA.values() for value in coefficients(m, e))] for e in ENERGIES_KEV.tolist()]
    write(folder / "photon_attenuation.csv", header, rows)
    header = ["x_per_angstrom", *(f"{name}_{kind}" for name in MEDIA for kind in ("f2_mol_per_g", "s"))]
    rows = [
        [x, *(v for m in MEDIA.values() for v in (form_factor2(m, x), scattering(m, x)))] for x in TRANSFERS.tolist()
    ]
    write(folder / "photon_scattering.csv", header, rows)


def write(path: Path, header: list[str], rows: Iterable[list[float]]) -> None:
    lines = [",".join(header), *(",".join(f"{value:.6g}" for value in row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def coefficients(medium: dict[int, float], energy_kev: float) -> list[float]:
    values = {kind: mixed(function, medium, energy_kev) for kind, function in KINDS.items()}
    return [*values.values(), values["incoherent"] * given_share(medium, energy_kev)]


def given_share(medium: dict[int, float], energy_kev: float) -> float:
    """Mean share of its energy that a photon gives in incoherent scattering."""
    # Dense at small angles, where the scattering function rises.
    turned = 2.0 * np.linspace(0.0, 1.0, 2001) ** 3
    kept = 1.0 / (1.0 + energy_kev / ELECTRON_KEV * turned)
    density = kept**2 * (kept + 1.0 / kept - turned * (2.0 - turned))
    x = energy_kev / HC_KEV_ANGSTROM * np.sqrt(0.5 * turned)
    density *= np.interp(x, TRANSFERS, [scattering(medium, t) for t in TRANSFERS.tolist()])
    return float(np.trapezoid(density * (1.0 - kept), turned) / np.trapezoid(density, turned))


def mixed(function: Callable[[int, float], float], medium: dict[int, float], energy_kev: float) -> float:
    """Cross section per gram of a mixture."""
    return sum(weight * function(z, energy_kev) for z, weight in medium.items()) / sum(medium.values())


def photoelectric(z: int, energy_kev: float) -> float:
    if energy_kev <= SPLINES_END_KEV:
        return float(xraylib.CS_Photo(z, energy_kev))
    low, high = (float(xraylib.CS_Photo(z, e)) for e in (SPLINES_END_KEV / 1.25, SPLINES_END_KEV))
    return high * (energy_kev / SPLINES_END_KEV) ** (log(high / low) / log(1.25))


def incoherent(z: int, energy_kev: float) -> float:
    if energy_kev <= SPLINES_END_KEV:
        return float(xraylib.CS_Compt(z, energy_kev))
    ratio = klein_nishina_cm2(energy_kev) / klein_nishina_cm2(SPLINES_END_KEV)
    return float(xraylib.CS_Compt(z, SPLINES_END_KEV)) * ratio


def coherent(z: int, energy_kev: float) -> float:
    if energy_kev <= SPLINES_END_KEV:
        return float(xraylib.CS_Rayl(z, energy_kev))
    return float(xraylib.CS_Rayl(z, SPLINES_END_KEV)) * (SPLINES_END_KEV / energy_kev) ** 2


def pair(z: int, energy_kev: float) -> float:
    k = energy_kev / ELECTRON_KEV
    atom_cm2 = FINE_STRUCTURE * CLASSICAL_RADIUS_CM**2 * z * z * maximon(k)
    return atom_cm2 * AVOGADRO / xraylib.AtomicWeight(z)


def klein_nishina_cm2(energy_kev: float) -> float:
    """Total Klein-Nishina cross section of one electron."""
    a = energy_kev / ELECTRON_KEV
    first = (1.0 + a) / a**2 * (2.0 * (1.0 + a) / (1.0 + 2.0 * a) - log(1.0 + 2.0 * a) / a)
    rest = log(1.0 + 2.0 * a) / (2.0 * a) - (1.0 + 3.0 * a) / (1.0 + 2.0 * a) ** 2
    return 2.0 * pi * CLASSICAL_RADIUS_CM**2 * (first + rest)


def maximon(k: float) -> float:
    """Cross section of a photon of k electron masses, in alpha r^2 Z^2."""
    if k <= 2.0:
        return 0.0
    if k < 4.0:
        e = (2.0 * k - 4.0) / (k + 2.0 + 2.0 * sqrt(2.0 * k))
        series = 1.0 + e / 2.0 + 23.0 * e**2 / 40.0 + 11.0 * e**3 / 60.0 + 29.0 * e**4 / 960.0
        return 2.0 * pi / 3.0 * ((k - 2.0) / k) ** 3 * series
    ln = log(2.0 * k)
    zeta3 = 1.2020569031595942
    second = 6.0 * ln - 3.5 + 2.0 / 3.0 * ln**3 - ln**2 - pi**2 / 3.0 * ln + 2.0 * zeta3 + pi**2 / 6.0
    return (
        28.0 / 9.0 * ln
        - 218.0 / 27.0
        + (2.0 / k) ** 2 * second
        - (2.0 / k) ** 4 * (3.0 / 16.0 * ln + 1.0 / 8.0)
        - (2.0 / k) ** 6 * (29.0 / 2304.0 * ln - 77.0 / 13824.0)
    )


def form_factor2(medium: dict[int, float], x: float) -> float:
    return sum(
        w / xraylib.AtomicWeight(z) * bounded(xraylib.FF_Rayl, z, x, float(z), 0.0) ** 2 for z, w in medium.items()
    )


def scattering(medium: dict[int, float], x: float) -> float:
    electrons = {z: w / xraylib.AtomicWeight(z) for z, w in medium.items()}
    total = sum(n * bounded(xraylib.SF_Compt, z, x, 0.0, float(z)) for z, n in electrons.items())
    return min(1.0, total / sum(n * z for z, n in electrons.items()))


def bounded(function: Callable[[int, float], float], z: int, x: float, at_zero: float, beyond: float) -> float:
    """xraylib raises outside its splines: the limits hold there."""
    if x == 0.0:
        return at_zero
    try:
        return float(function(z, x))
    except ValueError:
        return at_zero if x < 1.0 else beyond


KINDS: Final[dict[str, Callable[[int, float], float]]] = {
    "photoelectric": photoelectric,
    "incoherent": incoherent,
    "coherent": coherent,
    "pair": pair,
}


if __name__ == "__main__":
    main(Path(sys.argv[1]))
