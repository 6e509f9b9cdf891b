"""Region doses: energy over mass, and sums of regions that are recomputed and never averaged."""

from __future__ import annotations

import numpy as np
import pytest

from doseledger.errors import QuantityError
from doseledger.statistics.dvh import dose_volume_histogram
from doseledger.statistics.region import region_dose

RNG = np.random.Generator(np.random.PCG64(4))
SHAPE = (6, 7, 8)
DOSE = RNG.gamma(2.0, 2.0, SHAPE).astype(np.float32)
DENSITY = RNG.uniform(0.9, 1.2, SHAPE).astype(np.float32)
VOXEL_ML = 0.11
LEFT, RIGHT = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
LEFT[1:4, 1:4, 1:3], RIGHT[1:5, 1:5, 5:8] = True, True


def mass_g(voxels: np.ndarray) -> float:
    return float(DENSITY[voxels].astype(float).sum() * VOXEL_ML)


def test_dose_is_energy_over_mass() -> None:
    found = region_dose(DOSE, DENSITY, VOXEL_ML, LEFT, mass_g(LEFT))
    weights = DENSITY[LEFT].astype(float)
    assert found.mean_dose_gy == pytest.approx(np.average(DOSE[LEFT].astype(float), weights=weights))
    assert found.energy_j == pytest.approx(found.mean_dose_gy * mass_g(LEFT) / 1e3)
    # The region's own outlines give the mass, the voxels of the map the energy.
    heavier = region_dose(DOSE, DENSITY, VOXEL_ML, LEFT, 2.0 * mass_g(LEFT))
    assert heavier.energy_j == found.energy_j
    assert heavier.mean_dose_gy == pytest.approx(found.mean_dose_gy / 2.0)


def test_both_kidneys_are_recomputed_and_not_averaged() -> None:
    left, right = (region_dose(DOSE, DENSITY, VOXEL_ML, v, mass_g(v)) for v in (LEFT, RIGHT))
    both = region_dose(DOSE, DENSITY, VOXEL_ML, LEFT | RIGHT, mass_g(LEFT) + mass_g(RIGHT))
    assert both.energy_j == pytest.approx(left.energy_j + right.energy_j, rel=1e-12)
    assert both.mass_g == left.mass_g + right.mass_g
    weighted = (left.mean_dose_gy * left.mass_g + right.mean_dose_gy * right.mass_g) / both.mass_g
    assert both.mean_dose_gy == pytest.approx(weighted, rel=1e-12)
    assert abs(both.mean_dose_gy - (left.mean_dose_gy + right.mean_dose_gy) / 2.0) > 0.01
    joined = dose_volume_histogram(DOSE[LEFT | RIGHT])
    assert both.histogram.volume_fraction == pytest.approx(joined.volume_fraction)
    for name in ("d2_gy", "d50_gy", "d90_gy", "d98_gy"):
        assert getattr(both.histogram, name) == getattr(joined, name)


def test_all_voxels_hold_the_energy_of_the_map() -> None:
    whole = np.ones(SHAPE, bool)
    found = region_dose(DOSE, DENSITY, VOXEL_ML, whole, mass_g(whole))
    assert found.energy_j == pytest.approx(float(np.sum(DOSE.astype(float) * DENSITY)) * VOXEL_ML / 1e3, rel=1e-9)


@pytest.mark.parametrize("mass", [0.0, -1.0, float("nan")])
def test_a_region_without_mass_is_refused(mass: float) -> None:
    with pytest.raises(QuantityError, match="no mass"):
        region_dose(DOSE, DENSITY, VOXEL_ML, LEFT, mass)


def test_a_region_without_voxels_is_refused() -> None:
    with pytest.raises(QuantityError, match="no voxels"):
        region_dose(DOSE, DENSITY, VOXEL_ML, np.zeros(SHAPE, bool), 150.0)
