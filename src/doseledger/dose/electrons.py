"""Energy of the nuclide's electrons, spread by their voxel kernel."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.dose.interface import DoseProblem
from doseledger.dose.kernels import TISSUE_G_PER_ML, electron_voxel_kernel
from doseledger.dose.media import AIR, MEDIA

#: Kernels are made for densities in such steps, so that maps share them: ranges are right within 1 %.
DENSITY_STEP: Final = 1.02


def spread_electrons(problem: DoseProblem, medium: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Energy that electrons deposit in each voxel, keV per decay times the unit of the map.

    The energy of each voxel is spread by the kernel of the medium in it, at the mean density of the
    activity in that medium; the mass of a voxel comes in only where energy becomes dose. So the energy
    that leaves lung, where electrons travel four times as far, is right, and so is the energy that enters
    lung from dense tissue: it depends on the range in mass per area, which is the same on both sides
    (Fano 1954). Only its depth profile on the far side is that of the near side. Electrons of activity in
    air, which is noise around the body, stay where they are.
    """
    from doseledger.dose import transport

    energy_kev = problem.nuclide.in_place.electron_kev
    spread = np.zeros(problem.tia.shape, np.float32)
    for index in range(len(MEDIA)):
        inside = np.where(medium == index, problem.tia, np.float32(0.0))
        activity = float(inside.sum(dtype=np.float64))
        if activity == 0.0:
            continue
        if index == AIR:
            spread += inside * np.float32(energy_kev)
            continue
        density = float(np.vdot(inside, problem.density_g_per_ml)) / activity
        kernel = electron_voxel_kernel(problem.nuclide.name, problem.spacing_mm, density_g_per_ml=_on_grid(density))
        transport.spread(inside, kernel * np.float32(energy_kev), spread)
    return spread


def _on_grid(density_g_per_ml: float) -> float:
    """The nearest density in steps from that of soft tissue.

    Examples
    --------
    >>> round(_on_grid(0.26), 4), round(_on_grid(1.05), 4)
    (0.26, 1.04)
    """
    steps = np.log(density_g_per_ml / TISSUE_G_PER_ML) / np.log(DENSITY_STEP)
    return float(TISSUE_G_PER_ML * DENSITY_STEP ** np.round(steps))
