"""Local energy deposition (``led``)."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from doseledger.nuclides import Nuclide


def local_energy_deposition(
    tia: NDArray[np.float64], source: Nuclide, **_: Any
) -> tuple[NDArray[np.float64], NDArray[np.float64] | None]:
    """Energy absorbed in each voxel, in keV per decay times the unit of `tia`.

    Electrons, alpha particles and recoils of the nuclide and its daughters in place stop in the
    voxel where they are emitted; photons leave without a trace. Photons carry 19 % of the energy
    of 177Lu and their part of the absorbed dose is missing: some 2 % in kidneys, 7 % in the liver,
    26 % in bone.

    Returns
    -------
    low_let, high_let
        Shape of `tia`; `high_let` is None for a nuclide without alpha particles.
    """
    energy = source.in_place
    low_let = tia * energy.electron_kev
    high_let_kev = energy.alpha_kev + energy.recoil_kev
    return low_let, tia * high_let_kev if high_let_kev > 0 else None
