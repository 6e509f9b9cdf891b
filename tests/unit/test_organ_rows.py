"""Intervals of doses: the ends of the curve's own interval, both ways, and intervals that leave no number."""

from __future__ import annotations

from math import inf, isfinite
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doseledger.dose import compute_dose
from doseledger.kinetics.curves import log_symmetric_interval
from doseledger.statistics.region import region_dose
from doseledger.statistics.uncertainty import dose_uncertainty
from doseledger.steps.organ_rows import Outline, Result, _dose_columns, fit_spread
from doseledger.steps.stage import Job

ADMINISTRATION = {"measured_activity_mbq": 7400.0, "residual_activity_mbq": 0.0, "radiopharmaceutical": "Lu177-X"}
OUTLINE = Outline(100.0, 0.05, 105.0, "ct_density", "contours", None, ())


def curve(low: float, high: float, u: float = 10.0) -> dict[str, Any]:
    return {"tia_mbq_h": 100.0, "u_tia_mbq_h": u, "tia_low_mbq_h": low, "tia_high_mbq_h": high}


def dose_columns(spread: tuple[float, float, float]) -> dict[str, Any]:
    dose = compute_dose(np.full((2, 2, 2), 1e6), np.ones((2, 2, 2)), 4.8, "Lu-177", engine="led")

    def uncertainty(u_fit_rel: float) -> Any:
        return dose_uncertainty(
            volume_ml=100.0,
            u_volume_rel=0.0,
            spect_fwhm_mm=10.0,
            u_calibration_rel=0.0,
            u_fit_rel=u_fit_rel,
            u_dose_factor_rel=0.0,
        )

    voxels = np.ones((2, 2, 2), bool)
    measured = region_dose(dose.dose_gy, np.ones((2, 2, 2), np.float32), 0.1, voxels, 1.0)
    result = Result(measured, *(uncertainty(u) for u in spread), high_let_gy=None, mc_sd_rel=None, chain=())
    job = Job(inputs={}, out=Path(), settings={}, rows={"administration": ADMINISTRATION})
    return _dose_columns(job, "liver", dose, OUTLINE, result, 1.0, set())


def test_the_interval_of_a_dose_has_the_ends_of_its_curve_both_ways() -> None:
    """A population's interval can reach further up than the standard uncertainty says, or further down."""
    found = dose_columns(fit_spread(curve(low=40.0, high=300.0)))
    dose_gy = found["absorbed_dose_gy"]
    assert found["dose_low_gy"] == pytest.approx(0.4 * dose_gy)
    assert found["dose_high_gy"] == pytest.approx(3.0 * dose_gy)
    assert found["u_absorbed_dose_rel"] == pytest.approx(0.1)


def test_an_end_nearer_than_the_uncertainty_counts_as_it_is() -> None:
    """An estimate that can hardly be too high has a lower end near it, whatever it may be too low by."""
    found = dose_columns(fit_spread(curve(low=94.0, high=350.0)))
    assert found["dose_low_gy"] / found["absorbed_dose_gy"] == pytest.approx(0.94)
    assert found["dose_high_gy"] / found["absorbed_dose_gy"] == pytest.approx(3.5)


def test_an_end_on_the_wrong_side_is_the_estimate() -> None:
    assert fit_spread(curve(low=101.0, high=120.0))[1] == 0.0
    assert fit_spread(curve(low=80.0, high=99.0))[2] == 0.0


def test_a_log_symmetric_interval_is_that_of_the_uncertainty() -> None:
    low, high = log_symmetric_interval(100.0, 10.0)
    assert fit_spread(curve(low, high)) == pytest.approx((0.1, 0.1, 0.1))


def test_a_curve_that_may_have_no_activity_at_all_has_a_dose_from_zero_to_anything() -> None:
    low, high = log_symmetric_interval(100.0, 1e5)
    assert (low, high) == (0.0, inf)
    found = dose_columns(fit_spread(curve(low, high, u=1e5)))
    assert isfinite(found["absorbed_dose_gy"])
    assert (found["dose_low_gy"], found["dose_high_gy"]) == (0.0, inf)


def test_the_end_at_zero_alone_leaves_the_other_one() -> None:
    found = dose_columns(fit_spread(curve(low=0.0, high=120.0)))
    assert found["dose_low_gy"] == pytest.approx(0.0)
    assert found["dose_high_gy"] / found["absorbed_dose_gy"] == pytest.approx(1.2)
