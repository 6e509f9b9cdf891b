"""Kernels: energy, scaling laws, anisotropy, alpha emitters, the cut, bad input (numbers: tests/oracle)."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from doseledger.data import records
from doseledger.dose.kernels import (
    electron_reach,
    electron_voxel_kernel,
    point_kernel,
    sphere_s_value,
    voxel_kernel,
)
from doseledger.dose.point_kernel import sphere
from doseledger.errors import NuclideError, QuantityError
from doseledger.nuclides import nuclide
from doseledger.units import kev_per_decay_to_gy_g_per_mbq_h

ALL = [
    *("Lu-177", "Lu-177m", "Y-90", "I-131", "Tb-161", "Cu-67", "Cu-64", "Sm-153", "Ho-166", "Re-188"),
    *("Tc-99m", "In-111", "Ga-68", "I-124", "Zr-89", "Pb-212", "Ac-225", "Ra-223", "At-211"),
]


def energy_kev(kernel: np.ndarray, spacing_mm: tuple[float, float, float], density_g_per_ml: float) -> float:
    """All energy of a kernel in mGy/(MBq s), keV per decay."""
    mass_g = float(np.prod(spacing_mm)) / 1e3 * density_g_per_ml
    return float(kernel.sum()) / 1e3 * 3600.0 * mass_g / kev_per_decay_to_gy_g_per_mbq_h(1.0)


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("particle", ["electron", "photon"])
def test_point_kernels_hold_all_energy_and_are_precise(name: str, particle: Any) -> None:
    kernel = point_kernel(name, particle)
    assert kernel.total_share == pytest.approx(1.0, abs=5e-4)
    assert np.all(kernel.share >= 0.0)
    assert np.all(np.diff(kernel.edges) > 0.0)
    worst = max(float(row["u_cumulative"]) for row in records(f"{particle}_kernels") if row["nuclide"] == name)
    assert worst < 4e-3


@pytest.mark.parametrize("name", ALL)
def test_an_electron_kernel_loses_its_bremsstrahlung_alone(name: str) -> None:
    kernel = electron_voxel_kernel(name, (4.0, 2.5, 3.0))
    assert kernel.dtype == np.float32
    assert all(n % 2 for n in kernel.shape)
    assert float(kernel.sum(dtype=float)) == pytest.approx(
        point_kernel(name, "electron").within(electron_reach(name)).total_share, rel=2e-4
    )
    # The radiative yield of 2 MeV electrons in tissue is below 1 %.
    assert 0.99 < float(kernel.sum(dtype=float)) <= 1.0


def test_the_range_of_the_beta_particles() -> None:
    """Maximum range in water by ESTAR: 1.8 mm at 498 keV, 11.3 mm at 2.28 MeV; hardly an electron goes straight."""
    assert 1.2 < electron_reach("Lu-177") < 1.8
    assert 9.5 < electron_reach("Y-90") < 11.3


def test_energy_and_mass_of_a_voxel_kernel() -> None:
    lutetium = nuclide("Lu-177")
    spacing = (8.0, 6.0, 7.0)
    kernel = voxel_kernel("Lu-177", spacing, half_width=50)
    # What is further away than 30 to 40 cm is missing: some photons.
    absorbed = energy_kev(kernel, spacing, 1.04)
    assert lutetium.electron_kev + 0.93 * lutetium.photon_kev < absorbed < lutetium.electron_kev + lutetium.photon_kev


def test_all_energy_of_an_alpha_emitter_is_there() -> None:
    source = nuclide("Ac-225").in_place
    kernel = voxel_kernel("Ac-225", 4.0, half_width=10)
    absorbed = energy_kev(kernel, (4.0,) * 3, 1.04)
    assert source.local_kev * 0.9999 < absorbed < source.local_kev + source.photon_kev
    assert kernel[10, 10, 10] / kernel.sum() > 0.98


def test_lengths_go_with_one_over_density() -> None:
    """A kernel is the same in voxels of the same mass per area; the dose goes with 1/mass."""
    dense = voxel_kernel("I-131", 3.0, density_g_per_ml=1.2, half_width=6)
    light = voxel_kernel("I-131", 12.0, density_g_per_ml=0.3, half_width=6)
    assert light * (12.0**3 * 0.3) == pytest.approx(dense * (3.0**3 * 1.2), rel=1e-9)


def test_two_thin_voxels_are_one_thick_one() -> None:
    """Halves of a voxel, joined as source and as target, are the voxel."""
    whole = voxel_kernel("Y-90", (4.0, 4.0, 4.0), half_width=2)
    halves = voxel_kernel("Y-90", (2.0, 4.0, 4.0), half_width=5)
    # A source in either half with equal chance; the dose of the whole is the mean of its halves.
    joined = 0.5 * (halves[5] + 0.5 * (halves[4] + halves[6]))
    assert joined[3:8, 3:8] == pytest.approx(whole[2], rel=2e-3)


def test_axes_are_z_y_x() -> None:
    kernel = electron_voxel_kernel("Y-90", (10.0, 5.0, 2.0))
    assert kernel.shape == (3, 5, 11)


@pytest.mark.parametrize("name", ["Lu-177", "Y-90", "Pb-212"])
def test_a_large_sphere_keeps_its_electrons(name: str) -> None:
    source = nuclide(name).in_place
    dose = sphere_s_value(name, 1e6)
    assert dose * 1e6 == pytest.approx(kev_per_decay_to_gy_g_per_mbq_h(source.local_kev), rel=5e-3)


def test_sphere_scaling_laws() -> None:
    """Electrons leave in proportion to surface over volume; photons are absorbed in proportion to the radius."""
    kernel = point_kernel("Lu-177", "electron").within(electron_reach("Lu-177"))
    lost = [kernel.total_share - sphere(kernel, radius) for radius in (10.0, 50.0)]
    assert lost[0] / lost[1] == pytest.approx(5.0, rel=5e-3)
    photon = [
        (sphere_s_value("Lu-177", m, photons=True) - sphere_s_value("Lu-177", m)) * m for m in (0.001, 0.008, 0.064)
    ]
    soft = kev_per_decay_to_gy_g_per_mbq_h(0.288)
    assert (photon[1] - soft) / (photon[0] - soft) == pytest.approx(2.0, rel=0.02)
    assert (photon[2] - soft) / (photon[1] - soft) == pytest.approx(2.0, rel=0.02)


@pytest.mark.parametrize("spacing", [0.0, -1.0, float("nan"), (4.0, 4.0), (4.0, 4.0, 0.0), float("inf")])
def test_bad_spacing_is_refused(spacing: Any) -> None:
    for function in (voxel_kernel, electron_voxel_kernel):
        with pytest.raises(QuantityError, match="spacing"):
            function("Lu-177", spacing)


@pytest.mark.parametrize("density", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_density_is_refused(density: float) -> None:
    with pytest.raises(QuantityError, match="density"):
        voxel_kernel("Lu-177", 4.0, density_g_per_ml=density)
    with pytest.raises(QuantityError, match="density"):
        sphere_s_value("Lu-177", 1.0, density_g_per_ml=density)


def test_other_bad_input_is_refused() -> None:
    with pytest.raises(QuantityError, match="mass"):
        sphere_s_value("Lu-177", 0.0)
    with pytest.raises(QuantityError, match="half width"):
        voxel_kernel("Lu-177", 4.0, half_width=0)
    for name in ("Lu177", "Cs-137"):
        with pytest.raises(NuclideError):
            voxel_kernel(name, 4.0)
    with pytest.raises(NuclideError, match="make kernels"):
        electron_voxel_kernel("Cs-137", 4.0)
