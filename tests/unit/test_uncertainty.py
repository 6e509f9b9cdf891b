"""Uncertainty of an organ dose after EANM 2018 (numbers of the worked sphere: tests/oracle)."""

from __future__ import annotations

from math import hypot, pi, sqrt
from typing import Any

import numpy as np
import pytest

from doseledger.statistics.uncertainty import (
    S_VALUE_EXPONENT,
    DoseUncertainty,
    combine_parts,
    dose_uncertainty,
    spill_fraction,
    u_volume_rel,
)
from doseledger.units import FWHM_PER_SD

KIDNEY: dict[str, Any] = {
    "volume_ml": 150.0,
    "u_volume_rel": 0.0496,
    "spect_fwhm_mm": 12.0,
    "u_calibration_rel": 0.05,
    "u_fit_rel": 0.03,
    "u_dose_factor_rel": 0.04,
    "u_recovery_rel": 0.15,
}


@pytest.mark.parametrize("volume_ml", [1.0, 30.0, 150.0, 1500.0])
def test_the_volume_follows_its_diameter(volume_ml: float) -> None:
    diameter_mm = 2.0 * (3.0 * volume_ml * 1000.0 / (4.0 * pi)) ** (1.0 / 3.0)
    u_diameter_mm = sqrt(4.8**2 / 6.0 + 12.0**2 / (4.0 * np.log(2.0)))
    found = u_volume_rel(volume_ml, voxel_mm=4.8, fwhm_mm=12.0)
    assert found == pytest.approx(3.0 * u_diameter_mm / diameter_mm)
    assert u_volume_rel(volume_ml, voxel_mm=4.8, fwhm_mm=12.0, operator_rel=0.05) == pytest.approx(hypot(found, 0.05))


@pytest.mark.parametrize(("radius_mm", "fwhm_mm"), [(5.0, 12.0), (19.3, 12.0), (33.0, 7.0)])
def test_phi_is_twice_what_a_blurred_sphere_has_on_its_edge(radius_mm: float, fwhm_mm: float) -> None:
    """By brute force: 4e5 random points of the blur round a point of the surface."""
    rng = np.random.Generator(np.random.PCG64(9))
    points = rng.normal(0.0, fwhm_mm / FWHM_PER_SD, (400_000, 3)) + np.array([radius_mm, 0.0, 0.0])
    inside = float(np.mean((points**2).sum(axis=1) <= radius_mm**2))
    volume_ml = 4.0 / 3.0 * pi * radius_mm**3 / 1000.0
    assert spill_fraction(volume_ml, fwhm_mm=fwhm_mm) == pytest.approx(2.0 * inside, abs=5e-3)


def test_a_large_region_spills_half_of_its_edge_and_a_point_nothing() -> None:
    assert spill_fraction(1e6, fwhm_mm=12.0) == pytest.approx(1.0, abs=0.02)
    assert spill_fraction(1e-4, fwhm_mm=12.0) == pytest.approx(0.0, abs=0.02)


def test_the_parts_are_the_whole() -> None:
    found = dose_uncertainty(**KIDNEY)
    parts = (found.calibration_rel, found.recovery_rel, found.volume_rel, found.dose_factor_rel, found.fit_rel)
    assert found.total_rel == pytest.approx(sqrt(sum((part or 0.0) ** 2 for part in parts)))
    assert found.systematic_rel == pytest.approx(sqrt(sum((part or 0.0) ** 2 for part in parts[:4])))
    assert found.total_rel == pytest.approx(hypot(found.systematic_rel, found.fit_rel))


def test_the_shared_volume_enters_activity_and_s_value_with_opposite_sign() -> None:
    found = dose_uncertainty(**KIDNEY)
    exponent = spill_fraction(150.0, fwhm_mm=12.0) / 2.0
    assert found.volume_rel == pytest.approx((-S_VALUE_EXPONENT - exponent) * 0.0496)
    # Less than either of the two alone would say together.
    assert found.volume_rel < hypot(exponent * 0.0496, S_VALUE_EXPONENT * 0.0496)
    recovered = dose_uncertainty(**KIDNEY | {"recovery_coefficient": 0.8, "recovery_slope": 0.1})
    assert recovered.volume_rel == pytest.approx(abs(exponent / 0.8 - 0.1 + S_VALUE_EXPONENT) * 0.0496)


@pytest.mark.parametrize("part", ["u_volume_rel", "u_calibration_rel", "u_fit_rel", "u_dose_factor_rel"])
def test_each_part_counts_and_none_counts_twice(part: str) -> None:
    names = ("u_volume_rel", "u_calibration_rel", "u_fit_rel", "u_dose_factor_rel")
    alone = dose_uncertainty(**KIDNEY | dict.fromkeys(names, 0.0) | {"u_recovery_rel": None, part: 0.1})
    expected = 0.1 * (-S_VALUE_EXPONENT - spill_fraction(150.0, fwhm_mm=12.0) / 2.0 if part == "u_volume_rel" else 1.0)
    assert alone.total_rel == pytest.approx(expected)
    assert alone.recovery_rel is None
    nothing = dose_uncertainty(**KIDNEY | dict.fromkeys(names, 0.0) | {"u_recovery_rel": None})
    assert nothing.total_rel == 0.0


def test_two_equal_parts_keep_what_is_common_and_halve_what_is_not() -> None:
    part = dose_uncertainty(**KIDNEY)
    both = combine_parts([1.0, 1.0], [part, part], [0.5, 0.5])
    assert both.calibration_rel == pytest.approx(part.calibration_rel)
    assert both.recovery_rel == pytest.approx(part.recovery_rel)
    assert both.dose_factor_rel == pytest.approx(part.dose_factor_rel)
    assert both.fit_rel == pytest.approx(part.fit_rel / sqrt(2.0))
    assert both.volume_rel == pytest.approx(part.volume_rel / sqrt(2.0))
    parts = (both.calibration_rel, both.recovery_rel, both.volume_rel, both.fit_rel, both.dose_factor_rel)
    assert both.total_rel == pytest.approx(sqrt(sum((p or 0.0) ** 2 for p in parts)))


@pytest.mark.parametrize("u_half_life", [0.0, 0.13, 0.40])
def test_two_parts_that_assume_one_half_life_err_together(u_half_life: float) -> None:
    """Drawn: one ln of the TIA for both kidneys, and 2 % of counting for each."""
    rng = np.random.Generator(np.random.PCG64(12))
    common = u_half_life * rng.standard_normal(200_000)
    each = 0.02 * rng.standard_normal((2, common.size))
    drawn = np.log(0.6 * np.exp(common + each[0]) + 0.4 * np.exp(common + each[1])).std()
    own = KIDNEY | {"u_fit_rel": hypot(u_half_life, 0.02), "fit_is_shared": u_half_life > 0.0}
    both = combine_parts([0.6, 0.4], [dose_uncertainty(**own)] * 2, [0.5, 0.5])
    assert both.fit_rel == pytest.approx(drawn, rel=0.02)
    assert both.fit_is_shared is (u_half_life > 0.0)
    measured = dose_uncertainty(**KIDNEY)
    mixed = combine_parts([0.6, 0.4], [dose_uncertainty(**own), measured], [0.5, 0.5])
    assert mixed.fit_rel == pytest.approx(hypot(0.6 * own["u_fit_rel"], 0.4 * measured.fit_rel))


def test_parts_weigh_by_their_energy() -> None:
    first = DoseUncertainty(0.05, None, 0.10, 0.02, 0.04, 0.2)
    second = DoseUncertainty(0.05, None, 0.20, 0.06, 0.04, 0.3)
    both = combine_parts([3.0, 1.0], [first, second], [0.5, 0.5])
    assert both.volume_rel == pytest.approx(hypot(0.75 * 0.10, 0.25 * 0.20))
    assert both.fit_rel == pytest.approx(hypot(0.75 * 0.02, 0.25 * 0.06))
    assert both.recovery_rel is None
    # Without energy the masses weigh: the uncertainty of a dose of zero must not divide by zero.
    cold = combine_parts([0.0, 0.0], [first, second], [0.5, 0.5])
    assert cold.volume_rel == pytest.approx(hypot(0.5 * 0.10, 0.5 * 0.20))


def test_a_sum_of_one_part_is_that_part() -> None:
    part = dose_uncertainty(**KIDNEY)
    assert combine_parts([2.0], [part], [1.0]).total_rel == pytest.approx(part.total_rel)
