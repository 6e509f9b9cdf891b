"""Curves with uptake at 4, 24, 96 and 168 h: bias, scatter and coverage of what the scans choose.

Source: computed from first principles (maximum a posteriori with a median of 2.5 h and a standard deviation of
ln 1.0): at most 0.15 % bias noise-free; at most 0.25 % median bias and 2.5 to 3.8 % standard deviation with 5 % noise.
"""

from __future__ import annotations

from math import log

import numpy as np
import pytest

from doseledger.kinetics import CurveFit, fit_curve
from doseledger.phantom.truth import Curve

LU177_H = 159.528
TIMES_H = np.array([4.0, 24.0, 96.0, 168.0])
NOISE_REL = 0.05


def truth(clearance_h: float, uptake_h: float) -> Curve:
    return Curve((100.0, -100.0), (log(2.0) / clearance_h, log(2.0) / uptake_h))


def seen(curve: Curve) -> np.ndarray:
    return np.array([curve.activity_mbq(t) for t in TIMES_H])


@pytest.mark.parametrize("clearance_h", [35.5, 51.6, 68.0, 100.0])
@pytest.mark.parametrize("uptake_h", [1.5, 2.5, 4.0])
def test_the_bias_without_noise(clearance_h: float, uptake_h: float) -> None:
    curve = truth(clearance_h, uptake_h)
    fit = fit_curve(TIMES_H, seen(curve), half_life_h=LU177_H)
    assert fit.model == "mono_uptake"
    assert fit.tia_mbq_h == pytest.approx(curve.tia_mbq_h, rel=1.5e-3)


@pytest.mark.parametrize(("uptake_h", "largest"), [(0.5, 5.5e-3), (1.0, 4e-3), (6.0, 2e-3)])
def test_the_bias_far_from_the_prior(uptake_h: float, largest: float) -> None:
    """Beyond what the source says: measured, and stated."""
    for clearance_h in (35.5, 51.6, 68.0, 100.0):
        curve = truth(clearance_h, uptake_h)
        assert fit_curve(TIMES_H, seen(curve), half_life_h=LU177_H).tia_mbq_h == pytest.approx(
            curve.tia_mbq_h, rel=largest
        )


@pytest.mark.parametrize("clearance_h", [35.5, 51.6, 68.0])
def test_bias_scatter_and_coverage_with_noise(clearance_h: float) -> None:
    """5 % noise with both signs of each draw, so that the median of so few says something."""
    curve = truth(clearance_h, 2.5)
    draws = np.random.Generator(np.random.PCG64(11)).standard_normal((170, TIMES_H.size))
    fits: list[CurveFit] = [
        fit_curve(TIMES_H, seen(curve) * (1.0 + NOISE_REL * noise), half_life_h=LU177_H)
        for noise in np.concatenate([draws, -draws])
    ]
    ratio = np.array([fit.tia_mbq_h for fit in fits]) / curve.tia_mbq_h
    # Beside the 0.25 % of the source: the median of 340 draws is known to 0.2 %.
    assert abs(np.median(ratio) - 1.0) < 2.5e-3 + 2e-3
    assert 0.025 < ratio.std(ddof=1) < 0.038
    covered = [fit.tia_interval_mbq_h[0] <= curve.tia_mbq_h <= fit.tia_interval_mbq_h[1] for fit in fits]
    # 95 % of 340, plus and minus 2.5 standard deviations of a binomial.
    assert np.mean(covered) == pytest.approx(0.95, abs=0.03)
    stated = np.mean([fit.u_tia_mbq_h / fit.tia_mbq_h for fit in fits])
    assert stated == pytest.approx(ratio.std(ddof=1), rel=0.15)
