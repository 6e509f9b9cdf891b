"""Engine `vsv`: the convolution, what it says of a point and of density, its balance."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import convolve as direct_convolution

from doseledger.dose import compute_dose
from doseledger.dose.kernels import voxel_kernel
from doseledger.dose.voxel_s import HALF_WIDTH, convolve
from doseledger.nuclides import nuclide

RNG = np.random.Generator(np.random.PCG64(9))
MGY_PER_MBQ_S_IN_GY_PER_BQ_H = 3600.0 / 1e6 / 1e3


@pytest.mark.parametrize("half_widths", [(1, 1, 1), (4, 2, 3), (0, 6, 0), (8, 6, 10)])
def test_the_convolution_is_the_direct_one(half_widths: tuple[int, int, int]) -> None:
    values = RNG.random((9, 7, 11), dtype=np.float32)
    kernel = RNG.random(tuple(2 * n + 1 for n in half_widths), dtype=np.float32)
    expected = direct_convolution(values.astype(float), kernel.astype(float), mode="constant")
    found = convolve(values, kernel)
    assert found.dtype == np.float32
    assert found == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize("name", ["Lu-177", "Y-90", "I-131"])
def test_a_point_is_the_kernel(name: str) -> None:
    tia = np.zeros((13, 15, 17))
    tia[5, 6, 7] = 1e6
    spacing = (6.0, 4.0, 5.0)
    dose = compute_dose(tia, np.full(tia.shape, 1.04), spacing, name, engine="vsv").dose_gy
    kernel = voxel_kernel(name, spacing, half_width=16)
    expected = kernel[11:24, 10:25, 9:26] * (1e6 * np.prod(spacing) / 1e3) * MGY_PER_MBQ_S_IN_GY_PER_BQ_H
    # Single precision: the error is that of the largest value.
    assert dose == pytest.approx(expected, rel=1e-4, abs=1e-6 * expected.max())


def test_energy_is_divided_by_the_mass_of_the_voxel() -> None:
    tia = RNG.uniform(0.0, 1e6, (12, 12, 12))
    light = np.full(tia.shape, 1.04)
    light[:6] = 0.26
    even = compute_dose(tia, np.full(tia.shape, 1.04), 4.8, "Lu-177", engine="vsv")
    uneven = compute_dose(tia, light, 4.8, "Lu-177", engine="vsv")
    assert uneven.dose_gy[:6] == pytest.approx(4.0 * even.dose_gy[:6], rel=1e-5)
    assert uneven.dose_gy[6:] == pytest.approx(even.dose_gy[6:], rel=1e-5)


def test_the_balance_counts_what_leaves_the_map() -> None:
    balance = compute_dose(
        np.ones((20, 20, 20)), np.full((20, 20, 20), 1.04), 4.8, "Lu-177", engine="vsv"
    ).energy_balance
    source = nuclide("Lu-177")
    assert balance.closure == pytest.approx(1.0, abs=1e-5)
    electrons = source.electron_kev / (source.electron_kev + source.photon_kev)
    assert 0.98 * electrons < balance.absorbed_fraction < 0.95


def test_alpha_particles_stay_and_their_electrons_travel() -> None:
    tia = np.zeros((9, 9, 9))
    tia[4, 4, 4] = 1e6
    dose = compute_dose(tia, np.full(tia.shape, 1.04), 2.0, "Ac-225", engine="vsv")
    assert dose.dose_high_let_gy is not None
    assert np.count_nonzero(dose.dose_high_let_gy) == 1
    assert np.all((dose.dose_gy - dose.dose_high_let_gy)[3:6, 3:6, 3:6] > 0.0)


def test_nothing_is_negative_and_zero_is_zero() -> None:
    tia = np.zeros((30, 30, 30))
    assert not compute_dose(tia, np.ones(tia.shape), 4.0, "I-131", engine="vsv").dose_gy.any()
    tia[0, 0, 0] = 1e9
    assert compute_dose(tia, np.ones(tia.shape), 4.0, "I-131", engine="vsv").dose_gy.min() >= 0.0


def test_the_kernel_reaches_fifty_voxels() -> None:
    """A cut at five, as in published tables, loses more than a tenth of the energy in wide uniform tissue."""
    assert HALF_WIDTH == 50
    full = voxel_kernel("Lu-177", 4.8, half_width=HALF_WIDTH)
    cut = full[45:56, 45:56, 45:56]
    lost = 1.0 - cut.sum() / full.sum()
    assert 0.10 < lost < 0.16
