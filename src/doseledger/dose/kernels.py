"""Kernels of voxels and spheres for any nuclide on record, from point kernels in ICRU soft tissue.

The point kernels are Monte Carlo, coupled for electrons and doseledger's own for photons, committed as tables
(recipes/kernels). What is made of them is geometry.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from math import ceil, isfinite, pi
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from doseledger import nuclides
from doseledger.data import records
from doseledger.dose.point_kernel import PointKernel, sphere, voxels
from doseledger.errors import NuclideError, QuantityError
from doseledger.units import MM3_PER_ML, SECONDS_PER_HOUR, kev_per_decay_to_gy_g_per_mbq_h

#: Density at which a kernel is made if no other is named: ICRU soft tissue, g/mL.
TISSUE_G_PER_ML: Final = 1.04
_MGY_PER_GY: Final = 1.0e3


def voxel_kernel(
    nuclide: str,
    spacing_mm: float | Sequence[float],
    *,
    density_g_per_ml: float = TISSUE_G_PER_ML,
    half_width: int = 50,
) -> NDArray[np.float64]:
    """Voxel S values in uniform tissue: absorbed dose per decay spread evenly over the middle voxel.

    S = (E_e k_e + E_p k_p + E_a k_0) / m, with the energy per decay E and the voxel kernels k of
    electrons, photons and what stops in the middle voxel (alpha particles and recoils), m the voxel's
    mass. The nuclide's daughters decay in place.

    Parameters
    ----------
    spacing_mm
        Voxel edges, one number or ``(z, y, x)``.
    half_width
        Voxels on each side of the middle one, in every axis.

    Returns
    -------
    mGy/(MBq s), shape ``(2 * half_width + 1,) * 3``.

    Raises
    ------
    NuclideError
        No kernel is on record.
    QuantityError
        Spacing, density or half width is not positive.

    Examples
    --------
    >>> kernel = voxel_kernel("Lu-177", 4.8, half_width=2)
    >>> kernel.shape, f"{kernel[2, 2, 2]:.3f}", f"{kernel[2, 2, 1]:.2e}"
    ((5, 5, 5), '0.192', '2.44e-03')
    """
    if half_width < 1:
        raise QuantityError("the half width of a kernel is not positive", value=half_width)
    spacing = mass_spacing(spacing_mm, density_g_per_ml)
    mass_g = float(np.prod(spacing)) / density_g_per_ml**2 / MM3_PER_ML
    mgy_g_per_mbq_s = kev_per_decay_to_gy_g_per_mbq_h(1.0) / SECONDS_PER_HOUR * _MGY_PER_GY
    energy = nuclides.nuclide(nuclide).in_place
    kernel = voxel_energy_kev(nuclide, spacing, (half_width,) * 3)
    kernel[(half_width,) * 3] += energy.alpha_kev + energy.recoil_kev
    return kernel * mgy_g_per_mbq_s / mass_g


def voxel_energy_kev(
    nuclide: str, spacing: NDArray[np.float64], half_widths: tuple[int, int, int]
) -> NDArray[np.float64]:
    """Electron and photon energy absorbed per voxel and decay spread evenly over the middle one, keV.

    Voxel edges in mm g/mL. Alpha particles and recoils are not in it: they stay in the middle voxel.
    """
    energy = nuclides.nuclide(nuclide).in_place
    kernel = energy.electron_kev * voxels(point_kernel(nuclide, "electron"), spacing, half_widths)
    kernel += energy.photon_kev * voxels(point_kernel(nuclide, "photon"), spacing, half_widths)
    return kernel


def electron_voxel_kernel(
    nuclide: str, spacing_mm: float | Sequence[float], *, density_g_per_ml: float = TISSUE_G_PER_ML
) -> NDArray[np.float32]:
    """Share of the emitted electron energy that voxels absorb, per decay spread evenly over the middle one.

    Electrons of the nuclide and its daughters in place; positrons move as electrons. Ranges go with
    1/density.

    Parameters
    ----------
    spacing_mm
        Voxel edges, one number or ``(z, y, x)``.

    Returns
    -------
    Odd shape ``(z, y, x)``, up to the range of the electrons. The sum is what stays within it: 1 but for
    bremsstrahlung, which is absorbed further away or nowhere (177Lu 0.1 %, 90Y 0.4 %).

    Raises
    ------
    NuclideError
        No kernel is on record.
    QuantityError
        Spacing or density is not positive.
    """
    spacing = mass_spacing(spacing_mm, density_g_per_ml)
    reach = electron_reach(nuclide)
    z, y, x = (ceil(reach / edge) for edge in spacing)
    return voxels(point_kernel(nuclide, "electron").within(reach), spacing, (z, y, x)).astype(np.float32)


def sphere_s_value(nuclide: str, mass_g: float, *, density_g_per_ml: float = 1.0, photons: bool = False) -> float:
    """Absorbed dose of a sphere per decay spread evenly in it, Gy/(MBq h).

    S = (E_e phi_e + E_a [+ E_p phi_p]) / m, with phi the absorbed fractions of electrons and photons in
    tissue without end (`doseledger.dose.point_kernel.sphere`); alpha particles and recoils stay inside.

    Raises
    ------
    NuclideError
        No kernel is on record.
    QuantityError
        Mass or density is not positive.

    Examples
    --------
    177Lu in 1 g, electrons only, as mGy/(MBq s):

    >>> f"{sphere_s_value('Lu-177', 1.0) / 3.6:.4f}"
    '0.0230'
    """
    energy = nuclides.nuclide(nuclide).in_place
    kev = energy.electron_kev * sphere_fraction(nuclide, "electron", mass_g, density_g_per_ml)
    kev += energy.alpha_kev + energy.recoil_kev
    if photons:
        kev += energy.photon_kev * sphere_fraction(nuclide, "photon", mass_g, density_g_per_ml)
    return kev_per_decay_to_gy_g_per_mbq_h(kev) / mass_g


Particle = Literal["electron", "photon"]


def sphere_fraction(nuclide: str, particle: Particle, mass_g: float, density_g_per_ml: float) -> float:
    """Absorbed fraction of a sphere with uniform activity, in tissue without end.

    Raises
    ------
    NuclideError
        No kernel is on record.
    QuantityError
        Mass or density is not positive.
    """
    if not (isfinite(mass_g) and mass_g > 0.0):
        raise QuantityError("the mass is not positive", value=mass_g)
    if not (isfinite(density_g_per_ml) and density_g_per_ml > 0.0):
        raise QuantityError("the density is not positive", value=density_g_per_ml)
    radius_mm = (3.0 * mass_g / density_g_per_ml * MM3_PER_ML / (4.0 * pi)) ** (1.0 / 3.0)
    return sphere(point_kernel(nuclide, particle), radius_mm * density_g_per_ml)


@cache
def point_kernel(nuclide: str, particle: Particle) -> PointKernel:
    """Point kernel of a nuclide and its daughters in place; that of electrons with its bremsstrahlung.

    Raises
    ------
    NuclideError
        No kernel is on record.
    """
    rows = _rows(nuclide, particle)
    share = np.array([float(row["share"]) for row in rows])
    edges = np.array([float(row["radius_mm_g_per_ml"]) for row in rows])
    return PointKernel(edges, share[1:], float(share[0]))


def electron_reach(nuclide: str) -> float:
    """Radius within which the electrons themselves stop, mm g/mL."""
    return max(float(row["radius_mm_g_per_ml"]) for row in _rows(nuclide, "electron") if row["part"] == "electrons")


def _rows(nuclide: str, particle: Particle) -> tuple[dict[str, str], ...]:
    table = records(f"{particle}_kernels")
    rows = tuple(row for row in table if row["nuclide"] == nuclide)
    if not rows:
        raise NuclideError(
            f"the {particle} kernel of the nuclide is not on record",
            value=nuclide,
            expected=sorted({row["nuclide"] for row in table}),
            remedy="Add the nuclide to recipes/kernels and run `make kernels`.",
        )
    return rows


def mass_spacing(spacing_mm: float | Sequence[float], density_g_per_ml: float) -> NDArray[np.float64]:
    """Voxel edges ``(z, y, x)`` in mm g/mL.

    Raises
    ------
    QuantityError
        Spacing or density is not positive.
    """
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape not in ((), (3,)) or not np.all(np.isfinite(spacing)) or spacing.min() <= 0:
        raise QuantityError("the voxel spacing is not positive", value=spacing.tolist())
    if not isfinite(density_g_per_ml) or density_g_per_ml <= 0:
        raise QuantityError("the density is not positive", value=density_g_per_ml)
    return np.broadcast_to(spacing, (3,)) * density_g_per_ml
