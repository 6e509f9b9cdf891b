"""Photon cross sections of the media, as the transport of photons looks them up."""

from __future__ import annotations

from functools import cache
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from doseledger.data import columns
from doseledger.dose.media import MEDIA

Floats = NDArray[np.float64]

#: Photons below stop where they are; the tables begin here.
CUT_KEV: Final = 10.0
#: End of the tables. ICRP-107 has gamma rays beyond only for nuclides that are not used in patients.
MAX_KEV: Final = 3000.0
#: Energy of an electron at rest, and of a pair.
ELECTRON_KEV: Final = 510.99895
PAIR_THRESHOLD_KEV: Final = 2.0 * ELECTRON_KEV
#: h c, keV angstrom: x = sin(theta/2) E / hc in 1/angstrom.
HC_KEV_ANGSTROM: Final = 12.398419843

#: In the order of the columns of each medium.
PROCESSES: Final = ("photoelectric", "incoherent", "coherent", "pair")
#: What follows them: the part of the incoherent coefficient that electrons get as energy.
TRANSFER: Final = len(PROCESSES)
#: Nodes of the energy grid, equidistant in ln E: linear interpolation is right to 2e-4.
_ENERGY_NODES: Final = 512
#: Nodes of the momentum transfer x, equidistant in sqrt(x), and the largest x: beyond it electrons are free and
#: coherent scattering has ended.
_TRANSFER_NODES: Final = 1024
_MAX_TRANSFER: Final = 40.0


class Attenuation(NamedTuple):
    """Look-up tables (a named tuple, because Numba takes one).

    E is the index of an energy, X of a momentum transfer, M of a medium.

    Attributes
    ----------
    ln_cut, nodes_per_ln
        Index of an energy: ``(ln E - ln_cut) nodes_per_ln``.
    mass_attenuation
        Total mass attenuation coefficient, cm^2/g, ``(E, M)``.
    energy_transfer
        The same for the energy that electrons get, cm^2/g, ``(E, M)``.
    shares
        Cumulative shares of incoherent, coherent and photoelectric in it, ``(E, M, 3)``; the rest is
        pair production.
    transfers_per_root
        Index of a momentum transfer x: ``sqrt(x) transfers_per_root``.
    scattering
        Incoherent scattering function per electron, ``(M, X)``.
    form_factor
        Integral of the squared form factor over x^2 up to each x, ``(M, X)``, in any unit.
    """

    ln_cut: float
    nodes_per_ln: float
    mass_attenuation: Floats
    energy_transfer: Floats
    shares: Floats
    transfers_per_root: float
    transfer2: Floats
    scattering: Floats
    form_factor: Floats


@cache
def attenuation() -> Attenuation:
    """The tables of all media."""
    ln_energy = np.linspace(np.log(CUT_KEV), np.log(MAX_KEV), _ENERGY_NODES)
    energy = np.exp(ln_energy)
    parts = process_coefficients(energy)
    total = parts[:, :, :TRANSFER].sum(axis=2)
    pair_share = np.maximum(0.0, 1.0 - PAIR_THRESHOLD_KEV / energy)
    transfer = parts[:, :, 0] + parts[:, :, TRANSFER] + parts[:, :, 3] * pair_share[:, None]
    by_share = parts[:, :, [PROCESSES.index(p) for p in ("incoherent", "coherent", "photoelectric")]]
    root = np.linspace(0.0, np.sqrt(_MAX_TRANSFER), _TRANSFER_NODES)
    x = root**2
    nodes, *by_medium = columns("photon_scattering")
    form2 = np.stack([_form_factor_integral(x, nodes, column) for column in by_medium[0::2]])
    return Attenuation(
        ln_cut=float(ln_energy[0]),
        nodes_per_ln=float((_ENERGY_NODES - 1) / (ln_energy[-1] - ln_energy[0])),
        mass_attenuation=total,
        energy_transfer=transfer,
        shares=np.ascontiguousarray(np.cumsum(by_share, axis=2) / total[:, :, None]),
        transfers_per_root=float((_TRANSFER_NODES - 1) / root[-1]),
        transfer2=x**2,
        scattering=np.stack([np.interp(x, nodes, column) for column in by_medium[1::2]]),
        form_factor=form2,
    )


def process_coefficients(energy_kev: ArrayLike) -> Floats:
    """Mass coefficients in cm^2/g as ``(energy, medium, process)``; the last one is `TRANSFER`.

    Linear in the logarithms between the nodes of the table (xraylib, doi 10.1016/j.sab.2011.09.011);
    pair production, which has a threshold, linear in energy.

    Examples
    --------
    Total attenuation of soft tissue at 208 keV:

    >>> round(float(process_coefficients([208.37])[0, 2, :TRANSFER].sum()), 4)
    0.1338
    """
    nodes, *table = columns("photon_attenuation")
    energy = np.asarray(energy_kev, dtype=np.float64)
    ln, ln_nodes = np.log(energy), np.log(nodes)
    values = [
        np.exp(np.interp(ln, ln_nodes, np.log(column))) if column.all() else np.interp(energy, nodes, column)
        for column in table
    ]
    return np.stack(values, axis=1).reshape(energy.size, len(MEDIA), TRANSFER + 1)


def _form_factor_integral(x: Floats, nodes: Floats, squared: Floats) -> Floats:
    """Integral of the squared form factor over x^2, from 0 to each x (trapezium rule)."""
    values = np.exp(np.interp(x, nodes, np.log(squared)))
    steps = 0.5 * (values[1:] + values[:-1]) * np.diff(x**2)
    return np.concatenate([[0.0], np.cumsum(steps)])
