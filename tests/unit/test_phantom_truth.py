"""True kinetics: analytic integrals, physical bounds, nothing lost and nothing made."""

from __future__ import annotations

from itertools import pairwise
from math import exp, log

import numpy as np
import pytest
from scipy.integrate import quad

from doseledger.errors import QuantityError
from doseledger.nuclides import nuclide
from doseledger.phantom.patients import VirtualPatient, draw_patient, stream
from doseledger.phantom.persons import COURSES, draw_curves, draw_person, in_cycle, kind_of
from doseledger.phantom.pharmaceuticals import DOTATATE, PSMA_617, Pharmaceutical
from doseledger.phantom.torso import MARROW, Torso
from doseledger.phantom.truth import (
    REST,
    VOIDING_H,
    Curve,
    local_dose_gy,
    region_activity_mbq,
    region_half_life_h,
    region_tia_mbq_h,
    urine_mbq,
    urine_tia_mbq_h,
)

LU = nuclide("Lu-177")
ACTIVITY_MBQ = 7350.0
SEEDS = range(40)
TIMES_H = (0.0, 0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 4.0, 8.0, 24.0, 48.0, 96.0, 168.0, 500.0)
DRUGS = pytest.mark.parametrize("drug", [DOTATATE, PSMA_617], ids=lambda drug: drug.name)


@pytest.fixture(scope="module")
def patient() -> VirtualPatient:
    return draw_patient(3, "C", "P1")


@pytest.fixture(scope="module")
def torso(patient: VirtualPatient) -> Torso:
    return patient.torso


def curves_of(torso: Torso, drug: Pharmaceutical, seed: int, cycle: int = 1) -> dict[str, Curve]:
    """Kinetics of person number `seed`, in the body of one patient: volumes are slow to compute."""
    person = draw_person(stream(seed, "person"), drug, torso)
    return draw_curves(stream(seed, "curves", cycle), drug, person, torso, cycle, ACTIVITY_MBQ, LU)


@DRUGS
def test_tia_is_the_integral_of_the_activity(torso: Torso, drug: Pharmaceutical) -> None:
    curves = curves_of(torso, drug, 3)
    ends = [0.0, 1.0, 4.0, 12.0, 50.0, 200.0, 1000.0, 6000.0]
    for region in (*torso.regions, REST):
        integral = sum(
            quad(lambda t, r=region: region_activity_mbq(curves, r, t), start, stop, epsrel=1e-10)[0]
            for start, stop in pairwise(ends)
        )
        assert region_tia_mbq_h(curves, region) == pytest.approx(integral, rel=1e-8), region


def test_tia_of_a_known_curve() -> None:
    # Both kidneys: 148 MBq at 24 h, effective half-life 51.6 h: 15 208.97 MBq h.
    rate = log(2.0) / 51.6
    curve = Curve((148.0 * exp(rate * 24.0),), (rate,))
    assert curve.tia_mbq_h == pytest.approx(15208.97, abs=0.01)
    assert curve.effective_half_life_h == pytest.approx(51.6, rel=1e-12)
    # 4.1852 Gy with the 147.9 keV of ICRP-107, 4.186 Gy with all digits of them.
    assert local_dose_gy(curve.tia_mbq_h, 310.0, LU) == pytest.approx(4.1852, rel=3e-4)


@DRUGS
def test_organs_start_empty_and_are_never_negative(torso: Torso, drug: Pharmaceutical) -> None:
    for seed in SEEDS:
        for name, curve in curves_of(torso, drug, seed).items():
            expected = ACTIVITY_MBQ if name == REST else 0.0
            assert curve.activity_mbq(0.0) == pytest.approx(expected, abs=1e-9)
            assert min(curve.activity_mbq(t) for t in TIMES_H) >= -1e-9


@DRUGS
def test_the_body_with_its_bladder_never_holds_more_than_was_given(torso: Torso, drug: Pharmaceutical) -> None:
    for seed in SEEDS:
        curves = curves_of(torso, drug, seed)
        for time_h in TIMES_H:
            total = sum(curve.activity_mbq(time_h) for curve in curves.values())
            total += urine_mbq(curves, time_h, 1.0, LU)
            assert total <= ACTIVITY_MBQ * exp(-LU.decay_constant_per_h * time_h) * (1.0 + 1e-9), (seed, time_h)


@DRUGS
def test_nothing_clears_slower_than_physical_decay(torso: Torso, drug: Pharmaceutical) -> None:
    for seed in SEEDS:
        for curve in curves_of(torso, drug, seed).values():
            assert min(curve.rates_per_h) > LU.decay_constant_per_h


def test_urine_is_what_has_left_the_body_since_the_last_voiding() -> None:
    curves = {REST: Curve((1000.0,), (LU.decay_constant_per_h + 0.1,))}
    # From 10 h to 12 h: 1000 (exp(-1.0) - exp(-1.2)) MBq leave; all decays from time zero.
    expected = 1000.0 * (exp(-1.0) - exp(-1.2)) * exp(-LU.decay_constant_per_h * 12.0)
    assert urine_mbq(curves, 12.0, 2.0, LU) == pytest.approx(expected, rel=1e-12)
    assert urine_mbq(curves, 12.0, 0.0, LU) == 0.0
    # There is no urine from before the treatment.
    assert urine_mbq(curves, 1.0, 3.0, LU) == pytest.approx(urine_mbq(curves, 1.0, 1.0, LU), rel=1e-12)


def test_urine_grows_with_the_time_since_voiding(torso: Torso) -> None:
    curves = curves_of(torso, DOTATATE, 1)
    filling = [urine_mbq(curves, 24.0, since_h, LU) for since_h in (0.0, 0.5, 1.0, 2.0, 3.0)]
    assert filling[0] == 0.0
    assert all(more > less for less, more in pairwise(filling))


def test_tia_of_the_bladder_is_the_integral_over_all_voidings() -> None:
    rate = LU.decay_constant_per_h
    curves = {REST: Curve((6000.0, 1000.0), (rate + 0.3, rate + 0.015)), "liver": Curve((100.0, -100.0), (0.015, 0.6))}
    integral = sum(
        quad(lambda t, n=n: urine_mbq(curves, t, t - n * VOIDING_H, LU), n * VOIDING_H, (n + 1) * VOIDING_H)[0]
        for n in range(400)
    )
    assert urine_tia_mbq_h(curves, LU) == pytest.approx(integral, rel=1e-4)


def test_a_curve_can_have_more_phases_than_a_fit(torso: Torso) -> None:
    """Uptake, two phases of clearance, and for some a second uptake that makes the curve broad."""
    phases = {len(c.rates_per_h) for s in SEEDS for c in curves_of(torso, DOTATATE, s).values()}
    assert phases == {2, 3, 4}
    with_second = [c for s in SEEDS for c in curves_of(torso, DOTATATE, s).values() if len(c.rates_per_h) == 4]
    without = [c for s in SEEDS for c in curves_of(torso, DOTATATE, s).values() if len(c.rates_per_h) == 3]

    def fall(curves: list[Curve]) -> float:
        return float(np.median([c.activity_mbq(24.0) / c.activity_mbq(4.0) for c in curves]))

    assert fall(with_second) > 1.05 * fall(without)


def test_lesions_respond_stay_or_grow(torso: Torso) -> None:
    changes: dict[str, list[float]] = {course: [] for course in COURSES}
    volumes: dict[str, list[float]] = {course: [] for course in COURSES}
    for seed in range(120):
        person = draw_person(stream(seed, "person"), DOTATATE, torso)
        for lesion in person.lesions.values():
            changes[person.course].append(lesion.uptake)
            volumes[person.course].append(lesion.volume)
    assert max(volumes["response"]) < 0.93 < 0.95 < min(volumes["stable"])
    assert max(volumes["stable"]) < 1.05 < 1.09 < min(volumes["progression"])
    assert np.median(changes["response"]) < 0.9 < np.median(changes["progression"])
    counts = {course: len(found) for course, found in volumes.items()}
    assert counts["response"] > counts["stable"] > counts["progression"] > 0


def test_only_lesions_change_their_size_from_cycle_to_cycle(patient: VirtualPatient) -> None:
    first, third = patient.torso, in_cycle(patient.torso, patient.person, 3)
    for lesion in patient.torso.lesions:
        expected = patient.person.lesions[lesion.name].volume ** 2
        measured = third.volume_ml(lesion.name) / first.volume_ml(lesion.name)
        assert measured == pytest.approx(expected, rel=0.05)
    assert third.volume_ml("spleen") == first.volume_ml("spleen")


def test_sum_region_adds_parts_and_keeps_the_longest_half_life() -> None:
    curves = {"kidney_left": Curve((10.0,), (0.02,)), "kidney_right": Curve((20.0,), (0.01,))}
    assert region_tia_mbq_h(curves, "kidneys") == pytest.approx(500.0 + 2000.0)
    assert region_activity_mbq(curves, "kidneys", 0.0) == pytest.approx(30.0)
    assert region_half_life_h(curves, "kidneys") == pytest.approx(log(2.0) / 0.01)
    del curves["kidney_left"]
    assert region_tia_mbq_h(curves, "kidneys") == pytest.approx(2000.0)


def test_organs_belong_to_populations() -> None:
    assert [kind_of(o) for o in ("kidney_left", "lesion_2", "parotid_right", "liver", MARROW)] == [
        "kidney",
        "lesion",
        "parotid",
        "liver",
        "marrow",
    ]


def test_a_curve_without_clearance_is_refused() -> None:
    with pytest.raises(QuantityError, match="clearance rate"):
        Curve((1.0, 2.0), (0.01, 0.0))
