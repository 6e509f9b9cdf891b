"""Counts to activity, and dead time, against numbers computed from first principles."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from math import e, exp

import numpy as np
import pytest

from doseledger.activity import (
    Calibration,
    counts_to_bq_per_ml,
    non_paralysable_factor,
    paralysable_factor,
    paralysable_observed_cps,
)
from doseledger.errors import QuantityError

CALIBRATION = Calibration(9.2, "system", "cylinder", date(2025, 1, 6))
TAU_US = 0.19


def test_counts_become_activity_concentration() -> None:
    # 100 counts / (96 x 15 s x 9.2 cps/MBq x 0.110592 mL), to the printed digits.
    found = counts_to_bq_per_ml(100.0, duration_s=1440.0, sensitivity_cps_per_mbq=9.2, voxel_ml=0.110592)
    assert found == pytest.approx(68_253.66, abs=5e-3)


def test_an_image_of_counts_keeps_its_shape_and_its_negative_values() -> None:
    counts = np.array([[100.0, -50.0], [0.0, 200.0]], dtype=np.float32)
    found = counts_to_bq_per_ml(counts, duration_s=1440.0, sensitivity_cps_per_mbq=9.2, voxel_ml=0.110592)
    assert np.allclose(found, counts / 100.0 * 68_253.66, rtol=1e-6)


@pytest.mark.parametrize("name", ["duration_s", "sensitivity_cps_per_mbq", "voxel_ml"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("nan")])
def test_what_is_divided_by_must_be_positive(name: str, value: float) -> None:
    good = {"duration_s": 1440.0, "sensitivity_cps_per_mbq": 9.2, "voxel_ml": 0.110592}
    with pytest.raises(QuantityError, match=f"not positive .*{name}"):
        counts_to_bq_per_ml(100.0, **{**good, name: value})


def test_the_basis_decides_which_time_counts() -> None:
    assert CALIBRATION.counting_s(1440.0, 2) == 1440.0
    assert replace(CALIBRATION, basis="detector").counting_s(1440.0, 2) == 2880.0


def test_the_age_is_negative_before_the_calibration() -> None:
    assert CALIBRATION.age_days(date(2025, 2, 5)) == 30
    assert CALIBRATION.age_days(date(2025, 1, 1)) == -5


@pytest.mark.parametrize(
    ("change", "tag"),
    [
        ({"sensitivity_cps_per_mbq": 0.0}, "sensitivity_cps_per_mbq"),
        ({"basis": "camera"}, "sensitivity_basis"),
        ({"detectors": 0}, "detectors"),
        ({"energy_window_kev": (229.0, 187.0)}, "energy_window_kev"),
        ({"dead_time_us": -0.1}, "dead_time_us"),
    ],
)
def test_a_calibration_that_cannot_be_is_refused(change: dict[str, object], tag: str) -> None:
    with pytest.raises(QuantityError, match=tag):
        replace(CALIBRATION, **change)  # type: ignore[arg-type]


def test_dead_time_of_a_paralysable_detector() -> None:
    # n exp(-n tau) and its inverse, to the printed digits.
    assert paralysable_observed_cps(500_000.0, dead_time_us=TAU_US) == pytest.approx(454_686.47, abs=5e-3)
    assert paralysable_factor(454_686.47, dead_time_us=TAU_US) == pytest.approx(1.0996589, abs=5e-8)
    assert paralysable_factor(500_000.0, dead_time_us=TAU_US) == pytest.approx(1.1113534, abs=5e-8)


def test_dead_time_of_a_non_paralysable_detector() -> None:
    assert non_paralysable_factor(500_000.0, dead_time_us=TAU_US) == pytest.approx(1.1049724, abs=5e-8)


def test_of_two_true_rates_the_lower_is_taken() -> None:
    # 0.5/tau and its partner beyond the highest rate show the same: the camera is used below it.
    true_cps = 0.5 / (TAU_US * 1e-6)
    observed_cps = true_cps * exp(-0.5)
    assert paralysable_factor(observed_cps, dead_time_us=TAU_US) == pytest.approx(exp(0.5), rel=1e-12)


@pytest.mark.parametrize("factor", [paralysable_factor, non_paralysable_factor])
def test_no_rate_and_no_dead_time_need_no_correction(factor: type[float]) -> None:
    assert factor(0.0, dead_time_us=TAU_US) == 1.0  # type: ignore[call-arg]
    assert factor(5e5, dead_time_us=0.0) == 1.0  # type: ignore[call-arg]


def test_rates_that_no_camera_shows_are_refused() -> None:
    highest_cps = 1.0 / (e * TAU_US * 1e-6)
    assert paralysable_factor(0.999999 * highest_cps, dead_time_us=TAU_US) == pytest.approx(e, rel=2e-3)
    with pytest.raises(QuantityError, match=r"'1936210 cps'; expected 'at most 1936208 cps'"):
        paralysable_factor(highest_cps * 1.000001, dead_time_us=TAU_US)
    with pytest.raises(QuantityError, match="less than 5263158 cps"):
        non_paralysable_factor(5.3e6, dead_time_us=TAU_US)
    with pytest.raises(QuantityError, match="count rate is negative"):
        paralysable_factor(-1.0, dead_time_us=TAU_US)
    with pytest.raises(QuantityError, match="dead time is negative"):
        non_paralysable_factor(1.0, dead_time_us=-1.0)
