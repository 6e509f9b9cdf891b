"""What the stages make of the recoveries of single scans."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest

from doseledger.activity.region_recovery import RegionRecovery
from doseledger.regions import RegionSpec
from doseledger.statistics.dvh import dose_volume_histogram
from doseledger.statistics.region import RegionDose
from doseledger.steps.recovery import (
    AS_MEASURED,
    Correction,
    activity_columns,
    correction_of,
    uncertainty_terms,
    with_energy,
)


def seen(coefficient: float, method: str = "gtm") -> RegionRecovery:
    return RegionRecovery(method, coefficient, 0.77, 0.07, 1.1)  # type: ignore[arg-type]


def test_a_recovery_that_stays_is_that_of_the_integral() -> None:
    found = correction_of([seen(0.8)] * 3, [4.0, 24.0, 96.0], [100.0, 80.0, 30.0], 51.6)
    assert found == Correction("gtm", pytest.approx(0.8), 0.77, 0.07, 1.1)  # type: ignore[arg-type]
    assert correction_of([seen(0.7, "surface")], [24.0], [50.0], 51.6).coefficient == pytest.approx(0.7)
    assert correction_of([seen(0.8), seen(0.8, "surface")], [4.0, 24.0], [2.0, 1.0], 51.6).method == "mixed"


def test_a_recovery_that_changes_is_weighted_by_what_each_scan_stands_for() -> None:
    """Spill-in that falls faster than the region's own activity: against the integral of both."""
    times, half_life_h = np.array([4.0, 24.0, 96.0, 168.0]), 60.0
    own = np.exp(-log(2.0) / half_life_h * times)
    measured = 0.7 * own + 0.15 * np.exp(-log(2.0) / 20.0 * times)
    order = [2, 0, 3, 1]
    found = correction_of(
        [seen(float(measured[k] / own[k])) for k in order], times[order].tolist(), measured[order].tolist(), half_life_h
    )
    true = (0.7 * half_life_h + 0.15 * 20.0) / half_life_h
    assert found.coefficient == pytest.approx(true, rel=0.02)
    # Scans are not alike: the plain mean over them is off by more.
    assert abs(float(np.mean(measured / own)) - true) > abs(found.coefficient - true)


def test_the_missing_energy_is_that_of_the_lost_electrons() -> None:
    """1000 MBq h lose a fifth: 250 MBq h are missing, at 147.92 keV and 3.6e9 decays per MBq h."""
    correction = Correction("gtm", 0.8, 0.78, 0.06, 1.0)
    expected = 250.0 * 3.6e9 * 147.92 * 1.602176634e-16
    assert correction.missing_energy_j(1000.0, 147.92) == pytest.approx(expected)
    dose = RegionDose(0.5, 150.0, dose_volume_histogram(np.array([3.0, 4.0])))
    more = with_energy(dose, expected)
    assert more.mean_dose_gy == pytest.approx(dose.mean_dose_gy + expected / 0.150)
    assert more.histogram is dose.histogram
    # A region that shows more than it holds loses energy.
    assert Correction("gtm", 1.25, 0.78, 0.06, 1.0).missing_energy_j(1000.0, 147.92) < 0.0


def test_the_recovery_is_a_variable_of_the_uncertainty() -> None:
    assert uncertainty_terms(AS_MEASURED, loss=0.2) == {"u_recovery_rel": 0.2}
    terms = uncertainty_terms(Correction("gtm", 0.83, 0.8, 0.06, 1.0), loss=0.2)
    assert terms == {
        "recovery_coefficient": 0.8,
        "recovery_slope": pytest.approx(0.2 / 2.4),
        "u_recovery_rel": 0.06,
    }


def test_a_sum_is_corrected_if_all_its_parts_are() -> None:
    left, right = (RegionSpec(k, f"kidney_{side}", "organ") for k, side in ((1, "left"), (2, "right")))
    sums = {"kidneys": (left, right)}
    activities = {"kidney_left": 80.0, "kidney_right": 60.0, "kidneys": 140.0, "remainder": 900.0}
    columns = activity_columns(activities, {"kidney_left": seen(0.8), "kidney_right": seen(0.75)}, sums)
    assert columns["kidneys"]["activity_corrected_mbq"] == pytest.approx(180.0)
    assert columns["kidneys"]["recovery_coefficient"] == pytest.approx(140.0 / 180.0)
    assert columns["kidneys"]["method"] == "gtm"
    assert columns["remainder"] == {"method": "none"}
    columns = activity_columns(activities, {"kidney_left": seen(0.8, "surface")}, sums)
    assert columns["kidneys"] == columns["kidney_right"] == {"method": "none"}
    one = {"kidney_left": 80.0, "kidneys": 80.0}
    assert activity_columns(one, {"kidney_left": seen(0.8, "surface")}, sums)["kidneys"]["method"] == "surface"


def test_the_weights_are_those_of_the_integral() -> None:
    """Mono-exponential, dense scans: the sum over spans is the integral."""
    times = np.arange(0.5, 200.0, 1.0)
    curve = [exp(-log(2.0) / 50.0 * t) for t in times]
    found = correction_of([seen(1.0 / (1.0 + t / 100.0)) for t in times], times.tolist(), curve, 50.0)
    rate = log(2.0) / 50.0
    upto = 200.0
    # Integral of exp(-l t)(1 + t/100) up to the last scan, and the last value of the correction beyond.
    head = (1.0 - exp(-rate * upto)) / rate
    moment = (1.0 - exp(-rate * upto) * (1.0 + rate * upto)) / rate**2 / 100.0
    tail = exp(-rate * upto) / rate * (1.0 + 2.0)
    expected = (1.0 / rate) / (head + moment + tail)
    assert found.coefficient == pytest.approx(expected, rel=2e-3)
