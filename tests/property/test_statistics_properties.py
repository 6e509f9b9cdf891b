"""Properties of histograms, radiobiology, cumulation, uncertainty and density."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from doseledger.dose import density_from_hu
from doseledger.statistics.course import CycleDose, check_limit, cumulate
from doseledger.statistics.dvh import dose_volume_histogram
from doseledger.statistics.radiobiology import bed_gy, eqd2_gy, g_factor
from doseledger.statistics.uncertainty import dose_uncertainty, spill_fraction, u_volume_rel

ANY = settings(max_examples=150, deadline=None, derandomize=True)
DOSES = st.floats(0.0, 200.0)
HALF_LIVES_H = st.floats(0.1, 200.0)


@ANY
@given(st.lists(DOSES, min_size=1, max_size=60), st.integers(1, 200))
def test_a_histogram_is_ordered_and_whole(doses: list[float], bins: int) -> None:
    found = dose_volume_histogram(doses, bins=bins)
    assert max(doses) >= found.d2_gy >= found.d50_gy >= found.d90_gy >= found.d98_gy >= min(doses)
    assert {found.d2_gy, found.d50_gy, found.d90_gy, found.d98_gy} <= set(doses)
    assert found.volume_fraction.sum() == pytest.approx(1.0)
    assert found.edges_gy.size == bins + 1
    assert np.all(np.diff(found.edges_gy) > 0)


@ANY
@given(st.lists(DOSES, min_size=1, max_size=30), st.floats(0.1, 10.0))
def test_a_histogram_scales_with_the_dose(doses: list[float], factor: float) -> None:
    one, other = dose_volume_histogram(doses), dose_volume_histogram(np.array(doses) * factor)
    assert other.d50_gy == pytest.approx(factor * one.d50_gy)
    assert other.d98_gy == pytest.approx(factor * one.d98_gy)


@ANY
@given(st.lists(st.tuples(st.floats(0.01, 1.0), HALF_LIVES_H), min_size=1, max_size=4), st.floats(0.1, 10.0))
def test_g_lies_between_zero_and_one_and_falls_with_faster_repair(
    phases: list[tuple[float, float]], repair_h: float
) -> None:
    amplitudes = [a for a, _ in phases]
    rates = [log(2.0) / half_life for _, half_life in phases]
    slow = g_factor(repair_half_time_h=2.0 * repair_h, amplitudes=amplitudes, rates_per_h=rates)
    fast = g_factor(repair_half_time_h=repair_h, amplitudes=amplitudes, rates_per_h=rates)
    assert 0.0 < fast < slow < 1.0


@ANY
@given(DOSES, st.floats(0.5, 20.0), st.floats(0.1, 10.0), HALF_LIVES_H)
def test_bed_is_never_below_the_dose_and_eqd2_never_above_bed(
    dose: float, alpha_beta: float, repair_h: float, half_life_h: float
) -> None:
    bed = bed_gy(dose, alpha_beta_gy=alpha_beta, repair_half_time_h=repair_h, effective_half_life_h=half_life_h)
    eqd2 = eqd2_gy(dose, alpha_beta_gy=alpha_beta, repair_half_time_h=repair_h, effective_half_life_h=half_life_h)
    assert dose <= bed <= dose * (1.0 + dose / alpha_beta) * (1.0 + 1e-12)
    assert eqd2 == pytest.approx(bed / (1.0 + 2.0 / alpha_beta))


@st.composite
def cycles(draw: st.DrawFn) -> list[CycleDose]:
    count = draw(st.integers(1, 6))
    return [
        CycleDose(
            number,
            draw(st.floats(100.0, 1e4)),
            draw(st.none() | st.floats(0.1, 50.0)),
            draw(st.none() | st.floats(0.1, 80.0)),
            draw(st.floats(0.01, 0.5)),
            draw(st.floats(0.01, 0.5)),
        )
        for number in range(1, count + 1)
    ]


@ANY
@given(cycles())
def test_a_missing_cycle_is_never_zero_gray_unnoticed(course: list[CycleDose]) -> None:
    total = cumulate(course)
    doses = [c.dose_gy for c in course if c.dose_gy is not None]
    assert total.cycles_given == len(course)
    assert total.cycles_counted == len(doses)
    assert (total.status == "complete") == (len(doses) == len(course))
    assert total.administered_mbq == pytest.approx(sum(c.administered_mbq for c in course))
    if doses:
        assert total.dose_gy == pytest.approx(sum(doses))
        assert total.u_dose_rel is not None
        # Never better than the mean systematic part, never worse than all parts added.
        counted = [c for c in course if c.dose_gy is not None]
        linear = sum((c.dose_gy or 0.0) * c.u_systematic_rel for c in counted) / sum(doses)
        worst = linear + sum((c.dose_gy or 0.0) * c.u_random_rel for c in counted) / sum(doses)
        assert linear <= total.u_dose_rel <= worst * (1.0 + 1e-12)
    check = check_limit(total, 23.0, prior_gy=None, use_bed=False)
    assert (check.fraction is not None) == (total.status == "complete")
    assert cumulate(course[::-1]).dose_gy == (pytest.approx(total.dose_gy) if doses else None)


@ANY
@given(st.floats(0.5, 3000.0), st.floats(1.0, 6.0), st.floats(1.0, 20.0))
def test_volumes_are_known_better_the_larger_they_are(volume_ml: float, voxel_mm: float, fwhm_mm: float) -> None:
    small = u_volume_rel(volume_ml, voxel_mm=voxel_mm, fwhm_mm=fwhm_mm)
    large = u_volume_rel(8.0 * volume_ml, voxel_mm=voxel_mm, fwhm_mm=fwhm_mm)
    assert large == pytest.approx(small / 2.0)
    assert 0.0 <= spill_fraction(volume_ml, fwhm_mm=fwhm_mm) < 1.0
    assert spill_fraction(8.0 * volume_ml, fwhm_mm=fwhm_mm) >= spill_fraction(volume_ml, fwhm_mm=fwhm_mm) - 1e-9


U = st.just(0.0) | st.floats(1e-6, 0.5)


@ANY
@given(st.floats(1.0, 3000.0), U, U, U, U, st.none() | U, st.floats(4.0, 20.0))
def test_the_whole_is_at_least_its_largest_part(
    volume_ml: float, volume: float, calibration: float, fit: float, engine: float, recovery: float | None, fwhm: float
) -> None:
    found = dose_uncertainty(
        volume_ml=volume_ml,
        u_volume_rel=volume,
        spect_fwhm_mm=fwhm,
        u_calibration_rel=calibration,
        u_fit_rel=fit,
        u_dose_factor_rel=engine,
        u_recovery_rel=recovery,
    )
    parts = [found.volume_rel, calibration, fit, engine, recovery or 0.0]
    assert max(parts) * (1.0 - 1e-9) <= found.total_rel <= sum(parts) * (1.0 + 1e-9)
    assert found.systematic_rel <= found.total_rel * (1.0 + 1e-9)
    assert found.volume_rel <= volume


@ANY
@given(st.floats(-5000.0, 5000.0))
def test_any_ct_number_has_a_positive_density(hu: float) -> None:
    assert 0.0012 <= float(density_from_hu(hu)) <= 2.8
