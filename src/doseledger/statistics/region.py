"""Absorbed dose of regions from a dose map."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import QuantityError
from doseledger.statistics.dvh import DoseVolumeHistogram, dose_volume_histogram
from doseledger.units import G_PER_KG


@dataclass(frozen=True, eq=False)
class RegionDose:
    """Energy and mass of a region and the dose that follows; energies and masses add.

    Attributes
    ----------
    energy_j
        Energy absorbed in the region's voxels of the dose map.
    mass_g
        Mass of the region, from its own outlines (not from the voxels of the map).
    """

    energy_j: float
    mass_g: float
    histogram: DoseVolumeHistogram

    @property
    def mean_dose_gy(self) -> float:
        """Energy over mass, Gy."""
        return self.energy_j / (self.mass_g / G_PER_KG)


def region_dose(
    dose_gy: NDArray[np.float32],
    density_g_per_ml: NDArray[np.float32],
    voxel_volume_ml: float,
    voxels: NDArray[np.bool_],
    mass_g: float,
) -> RegionDose:
    """Absorbed dose of the voxels of a region.

    Energy is the sum of dose times mass over the region's voxels, in joule; the dose is that energy
    over `mass_g`. Sums of regions are made by joining their voxels and adding their masses, so that
    the histogram and every dose is recomputed and never averaged.

    Parameters
    ----------
    dose_gy, density_g_per_ml, voxels
        Maps ``(z, y, x)`` and the mask of the region.

    Raises
    ------
    QuantityError
        The region has no voxels or no mass.
    """
    if not voxels.any():
        raise QuantityError("the region has no voxels in the dose map")
    if not mass_g > 0:
        raise QuantityError("the region has no mass", value=mass_g)
    doses = dose_gy[voxels].astype(np.float64)
    masses_kg = density_g_per_ml[voxels].astype(np.float64) * voxel_volume_ml / G_PER_KG
    return RegionDose(
        energy_j=float(doses @ masses_kg),
        mass_g=mass_g,
        histogram=dose_volume_histogram(doses),
    )
