"""Uncertainty of a dose by drawing: the worked sphere, and against the linear chain where that is exact."""

from __future__ import annotations

from math import exp, hypot, log
from typing import Any

import numpy as np
import pytest

from doseledger.kinetics.curves import Z95
from doseledger.statistics.sampling import (
    DISAGREE_REL,
    SampledUncertainty,
    SharedDraws,
    disagrees,
    dose_factors,
    shared_draws,
    stream,
    summary,
)
from doseledger.statistics.uncertainty import dose_uncertainty, u_volume_rel

DRAWS = 200_000
KIDNEY: dict[str, Any] = {
    "volume_ml": 150.0,
    "u_volume_rel": 0.0496,
    "spect_fwhm_mm": 12.0,
    "u_calibration_rel": 0.05,
    "u_dose_factor_rel": 0.04,
    "u_recovery_rel": 0.08,
    "recovery_coefficient": 0.75,
    "recovery_slope": 0.11,
}
NOTHING = SharedDraws(*np.zeros((4, DRAWS)))


def normal(name: str) -> np.ndarray:
    return stream(3, name).standard_normal(DRAWS)


def test_the_worked_sphere_of_the_guidance() -> None:
    """physics.md, section 6: sd of ln D 0.3570; what the linear chain says, 0.3536, is the part without curvature."""
    alpha, beta, volume_ml = 1.378, 1.555, 30.0
    recovery = 1.0 / (1.0 + (alpha / volume_ml) ** beta)
    sphere = {
        "volume_ml": volume_ml,
        "u_volume_rel": u_volume_rel(volume_ml, voxel_mm=4.8, fwhm_mm=12.0),
        "spect_fwhm_mm": 12.0,
        "u_calibration_rel": 0.016477,
        "u_dose_factor_rel": 0.0,
        "recovery_coefficient": recovery,
        "recovery_slope": beta * (1.0 - recovery),
        "u_recovery_rel": 0.00290639,
    }
    one, two = normal("amplitude"), normal("rate")
    rate = log(2.0) / 60.0 + 4e-4 * (0.6 * one + 0.8 * two)
    tia_factors = (1.0 + 0.04 * one) / (rate / (log(2.0) / 60.0))
    found = summary(dose_factors(tia_factors, normal("volume"), shared_draws(3, DRAWS), **sphere))
    assert found.sd_ln == pytest.approx(0.3570, abs=0.005)
    assert dose_uncertainty(u_fit_rel=0.0337177, **sphere).total_rel == pytest.approx(0.353624, rel=1e-4)
    assert (found.low, found.high) == pytest.approx((exp(-Z95 * 0.357), exp(Z95 * 0.357)), rel=0.03)


def test_small_uncertainties_are_those_of_the_linear_chain() -> None:
    drawn = dose_factors(1.0 + 0.03 * normal("fit"), normal("volume"), shared_draws(3, DRAWS), **KIDNEY)
    assert summary(drawn).sd_ln == pytest.approx(dose_uncertainty(u_fit_rel=0.03, **KIDNEY).total_rel, rel=0.01)


def test_the_volume_moves_counts_recovery_and_s_value_together() -> None:
    drawn = dose_factors(np.ones(DRAWS), normal("volume"), NOTHING, **KIDNEY)
    assert summary(drawn).sd_ln == pytest.approx(dose_uncertainty(u_fit_rel=0.0, **KIDNEY).volume_rel, rel=0.01)
    # A large volume: the recovery of a drawn body stays a recovery.
    wide = KIDNEY | {"u_volume_rel": 0.6, "recovery_coefficient": 0.35, "recovery_slope": 0.62}
    assert np.all(np.isfinite(np.log(dose_factors(np.ones(DRAWS), normal("volume"), NOTHING, **wide))))


def test_regions_share_calibration_blur_and_engine_but_no_other_draw() -> None:
    shared = shared_draws(3, DRAWS)
    first, second = (np.log(dose_factors(np.ones(DRAWS), normal(name), shared, **KIDNEY)) for name in ("left", "right"))
    common = hypot(0.05, 0.08, 0.04) ** 2
    assert np.cov(first, second)[0, 1] == pytest.approx(common, rel=0.02)
    assert np.array_equal(normal("left"), normal("left"))
    assert abs(np.corrcoef(normal("left"), normal("right"))[0, 1]) < 0.01


def test_another_seed_draws_other_numbers() -> None:
    assert stream(3, "liver").standard_normal() != stream(4, "liver").standard_normal()
    assert not np.array_equal(shared_draws(3).calibration, shared_draws(4).calibration)


def test_a_draw_without_a_curve_is_left_out() -> None:
    found = summary(np.array([0.9, 1.0, np.nan, 1.1]))
    assert found.count == 3
    assert found.sd_ln == pytest.approx(np.log([0.9, 1.0, 1.1]).std(ddof=1))


@pytest.mark.parametrize("share", [1.0 + DISAGREE_REL + 0.01, 1.0 - DISAGREE_REL - 0.01])
def test_a_fifth_is_a_disagreement(share: float) -> None:
    assert disagrees(SampledUncertainty(0.1 * share, 0.8, 1.2, 400), 0.1)
    assert not disagrees(SampledUncertainty(0.1 * (1.0 + 0.9 * (share - 1.0)), 0.8, 1.2, 400), 0.1)
