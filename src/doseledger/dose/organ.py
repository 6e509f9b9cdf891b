"""Mean doses of organs and lesions after MIRD, from their own activity (``organ``)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Final

import numpy as np

from doseledger import nuclides
from doseledger.dose.interface import DoseProblem, EnergyMaps
from doseledger.dose.kernels import sphere_fraction
from doseledger.errors import QuantityError
from doseledger.units import MM3_PER_ML, kev_per_decay_to_gy_g_per_mbq_h

NAME: Final = "organ"
#: Share of the electron energy emitted in red marrow that it absorbs itself: published 177Lu S values times mass give
#: 84 of 147.9 keV. The rest is lost to bone and fat between the marrow's cells.
MARROW_SELF_FRACTION: Final = 0.57
#: Value of the column ``marrow_method`` in rows of this engine, whose region is taken for pure red marrow.
MARROW_METHOD: Final = "self_fraction_0.57"
SOFT_TISSUE_G_PER_ML: Final = 1.05
LUNG_G_PER_ML: Final = 0.26


@dataclass(frozen=True)
class ReferenceOrgan:
    """Mass of one body, g, and its density, g/mL."""

    mass_g: float
    density_g_per_ml: float = SOFT_TISSUE_G_PER_ML


#: Adult male of ICRP Publication 89, table 2.8 (doi 10.1016/S0146-6453(03)00002-2). Of a pair each body by itself:
#: what a kidney sends to the other one is below 0.1 % of its dose for 177Lu.
REFERENCE_ORGANS: Final[dict[str, ReferenceOrgan]] = {
    "kidney_left": ReferenceOrgan(155.0),
    "kidney_right": ReferenceOrgan(155.0),
    "liver": ReferenceOrgan(1800.0),
    "spleen": ReferenceOrgan(150.0),
    "pancreas": ReferenceOrgan(140.0),
    "thyroid_gland": ReferenceOrgan(20.0),
    "brain": ReferenceOrgan(1450.0),
    "lung_left": ReferenceOrgan(600.0, LUNG_G_PER_ML),
    "lung_right": ReferenceOrgan(600.0, LUNG_G_PER_ML),
}


@cache
def absorbed_fractions(nuclide: str, mass_g: float, density_g_per_ml: float) -> tuple[float, float]:
    """Of electrons and photons in a sphere of uniform activity."""
    return (
        sphere_fraction(nuclide, "electron", mass_g, density_g_per_ml),
        sphere_fraction(nuclide, "photon", mass_g, density_g_per_ml),
    )


def marrow_method(engine: str, region: str) -> str | None:
    """Value of the column ``marrow_method``: None where the engine knows no marrow, or the region is none."""
    return MARROW_METHOD if engine == NAME and is_marrow(region) else None


def is_marrow(region: str) -> bool:
    """Regions of marrow have it in their name."""
    return "marrow" in region


def self_energy_kev(region: str, nuclide: str, mass_g: float) -> tuple[float, float]:
    """Energy that a region absorbs of its own radiation, keV per decay in it: low LET, high LET.

    E = E_e phi_e + E_p phi_p (m/m_ref)^(1/3), which as S = E/m is MIRD's mass scaling, electrons by
    m_ref/m and photons by (m_ref/m)^(2/3) (MIRD pamphlet 11; Snyder 1970). phi_e and phi_p are those of a
    sphere of the reference mass; a region without reference, a lesion, is a sphere of its own mass. No
    shape keeps more photons than a sphere: organs of 177Lu read up to 0.6 % high by it.
    Marrow absorbs `MARROW_SELF_FRACTION` of its electrons and no photons.

    Examples
    --------
    Published 177Lu S values times mass: 149.5 to 150.2 (kidneys), 153.9 (liver), 149.5 to 149.8 keV (spleen):

    >>> for organ, grams in (("kidney_left", 155.0), ("liver", 1800.0), ("spleen", 150.0)):
    ...     print(f"{self_energy_kev(organ, 'Lu-177', grams)[0]:.1f}")
    150.3
    154.9
    150.3
    """
    energy = nuclides.nuclide(nuclide).in_place
    high_let_kev = energy.alpha_kev + energy.recoil_kev
    if is_marrow(region):
        return MARROW_SELF_FRACTION * energy.electron_kev, high_let_kev
    reference = REFERENCE_ORGANS.get(region, ReferenceOrgan(mass_g))
    electron, photon = absorbed_fractions(nuclide, reference.mass_g, reference.density_g_per_ml)
    photon *= (mass_g / reference.mass_g) ** (1.0 / 3.0)
    return energy.electron_kev * electron + energy.photon_kev * photon, high_let_kev


def organ_s_value(region: str, nuclide: str, mass_g: float) -> float:
    """Mean absorbed dose of a region per decay in it, Gy/(MBq h).

    Raises
    ------
    QuantityError
        The mass is not positive.
    NuclideError
        No kernel is on record.
    """
    if not mass_g > 0.0:
        raise QuantityError("the mass is not positive", value=mass_g)
    return kev_per_decay_to_gy_g_per_mbq_h(sum(self_energy_kev(region, nuclide, mass_g))) / mass_g


def organ_means(problem: DoseProblem) -> EnergyMaps:
    """Energy of every labelled region from its own activity, spread over its voxels by mass: one dose per region.

    Nothing comes from other regions. Voxels without a label keep the energy of their electrons.

    Raises
    ------
    QuantityError
        The map has no labels, or labels without names.
    """
    labels, names = problem.labels, problem.region_names
    if labels is None or names is None:
        raise QuantityError("the engine 'organ' needs labels of regions and their names")
    energy = problem.nuclide.in_place
    count = int(labels.max()) + 1
    tia = np.bincount(labels.ravel(), problem.tia.ravel(), count)
    density = np.bincount(labels.ravel(), problem.density_g_per_ml.ravel(), count)
    voxel_ml = float(np.prod(problem.spacing_mm)) / MM3_PER_ML
    low, high = problem.tia * np.float32(energy.electron_kev), problem.tia.copy()
    absorbed_kev = energy.electron_kev * problem.tia_sum
    for label, name in names.items():
        if label >= count or density[label] == 0.0:
            continue
        low_let_kev, _ = self_energy_kev(name, problem.nuclide.name, float(density[label] * voxel_ml))
        inside = labels == label
        share = problem.density_g_per_ml[inside] / np.float32(density[label])
        low[inside] = share * np.float32(tia[label] * low_let_kev)
        high[inside] = share * np.float32(tia[label])
        absorbed_kev += tia[label] * (low_let_kev - energy.electron_kev)
    high_let_kev = energy.alpha_kev + energy.recoil_kev
    return EnergyMaps(
        low_let=low,
        kev=1.0,
        escaped_kev=(energy.electron_kev + energy.photon_kev) * problem.tia_sum - absorbed_kev,
        high_let=high if high_let_kev > 0.0 else None,
        high_let_kev=high_let_kev,
    )
