"""True kinetics: analytic integrals, physical bounds and plausible doses."""

from __future__ import annotations

from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
from scipy.integrate import quad

from doseledger.errors import QuantityError
from doseledger.nuclides import nuclide
from doseledger.phantom.patients import draw_patient, stream
from doseledger.phantom.torso import REGIONS
from doseledger.phantom.truth import (
    Curve,
    draw_curves,
    in_cycle,
    local_dose_gy,
    region_activity_mbq,
    region_half_life_h,
    region_tia_mbq_h,
)

LU = nuclide("Lu-177")
ACTIVITY_MBQ = 7350.0
SEEDS = range(25)
TIMES_H = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 24.0, 48.0, 96.0, 168.0, 500.0)


def curves_of(seed: int, cycle: int = 1) -> dict[str, Curve]:
    patient = draw_patient(seed, "A", "P1")
    torso = in_cycle(patient.torso, patient.person, cycle)
    return draw_curves(stream(seed, "curves", cycle), patient.person, torso, cycle, ACTIVITY_MBQ, LU)


@pytest.mark.parametrize("region", REGIONS)
def test_tia_is_the_integral_of_the_activity(region: str) -> None:
    curves = curves_of(3)
    ends = [0.0, 1.0, 4.0, 12.0, 50.0, 200.0, 1000.0, 6000.0]
    integral = sum(
        quad(lambda t: region_activity_mbq(curves, region, t), start, stop, epsrel=1e-10)[0]
        for start, stop in pairwise(ends)
    )
    assert region_tia_mbq_h(curves, region) == pytest.approx(integral, rel=1e-8)


def test_tia_of_a_known_curve() -> None:
    # Both kidneys: 148 MBq at 24 h, effective half-life 51.6 h: 15 208.97 MBq h.
    rate = log(2.0) / 51.6
    curve = Curve((148.0 * exp(rate * 24.0),), (rate,))
    assert curve.tia_mbq_h == pytest.approx(15208.97, abs=0.01)
    assert curve.effective_half_life_h == pytest.approx(51.6, rel=1e-12)
    # 4.1852 Gy with the 147.9 keV of ICRP-107, 4.186 Gy with all digits of them.
    assert local_dose_gy(curve.tia_mbq_h, 310.0, LU) == pytest.approx(4.1852, rel=3e-4)


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_start_empty_and_are_never_negative(seed: int) -> None:
    for name, curve in curves_of(seed).items():
        expected = ACTIVITY_MBQ if name == "rest" else 0.0
        assert curve.activity_mbq(0.0) == pytest.approx(expected, abs=1e-9)
        assert min(curve.activity_mbq(t) for t in TIMES_H) >= -1e-9


@pytest.mark.parametrize("seed", SEEDS)
def test_the_body_never_holds_more_than_was_given(seed: int) -> None:
    curves = curves_of(seed)
    for time_h in TIMES_H:
        total = sum(curve.activity_mbq(time_h) for curve in curves.values())
        assert total <= ACTIVITY_MBQ * exp(-LU.decay_constant_per_h * time_h) * (1.0 + 1e-12)


@pytest.mark.parametrize("seed", SEEDS)
def test_nothing_clears_slower_than_physical_decay(seed: int) -> None:
    for curve in curves_of(seed).values():
        assert min(curve.rates_per_h) > LU.decay_constant_per_h


def test_population_is_that_of_the_clinic() -> None:
    """Kidneys 2.5 to 6 Gy per cycle near 4; half-lives near 51 h and 80 h."""
    doses, kidney_h, lesion_h = [], [], []
    for seed in range(60):
        patient, curves = draw_patient(seed, "A", "P1"), curves_of(seed)
        doses.append(local_dose_gy(region_tia_mbq_h(curves, "kidneys"), patient.torso.mass_g("kidneys"), LU))
        kidney_h.append(region_half_life_h(curves, "kidneys"))
        lesion_h.append(region_half_life_h(curves, "lesion_1"))
    assert np.median(doses) == pytest.approx(4.0, abs=0.4)
    assert 2.2 < min(doses) < 3.3
    assert 4.8 < max(doses) < 7.0
    assert np.median(kidney_h) == pytest.approx(51.0, abs=3.0)
    assert np.median(lesion_h) == pytest.approx(80.0, abs=10.0)
    assert max(lesion_h) < LU.half_life_h


def test_the_lesion_changes_between_cycles_and_the_kidneys_hardly() -> None:
    responses, kidneys = [], []
    for seed in SEEDS:
        first, third = curves_of(seed, 1), curves_of(seed, 3)
        responses.append(third["lesion_1"].tia_mbq_h / first["lesion_1"].tia_mbq_h)
        kidneys.append(region_tia_mbq_h(third, "kidneys") / region_tia_mbq_h(first, "kidneys"))
    assert np.median(responses) < 0.8
    assert max(abs(log(ratio)) for ratio in kidneys) < 0.35


def test_lesion_volume_stays_within_its_range() -> None:
    patient = draw_patient(5, "A", "P1")
    volumes = [in_cycle(patient.torso, patient.person, cycle).volume_ml("lesion_1") for cycle in range(1, 6)]
    assert volumes[0] == pytest.approx(patient.torso.volume_ml("lesion_1"), rel=1e-12)
    assert len({round(volume, 6) for volume in volumes}) > 1
    assert min(volumes) >= 15.0 - 1e-9
    assert max(volumes) <= 30.0 + 1e-9


def test_sum_region_adds_parts_and_keeps_the_longest_half_life() -> None:
    curves = {"kidney_left": Curve((10.0,), (0.02,)), "kidney_right": Curve((20.0,), (0.01,))}
    assert region_tia_mbq_h(curves, "kidneys") == pytest.approx(500.0 + 2000.0)
    assert region_activity_mbq(curves, "kidneys", 0.0) == pytest.approx(30.0)
    assert region_half_life_h(curves, "kidneys") == pytest.approx(log(2.0) / 0.01)


def test_a_curve_without_clearance_is_refused() -> None:
    with pytest.raises(QuantityError, match="clearance rate"):
        Curve((1.0, 2.0), (0.01, 0.0))
