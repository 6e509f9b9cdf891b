"""Cumulation over administrations: a cycle without a dose never counts as 0 Gy."""

from __future__ import annotations

from dataclasses import replace
from math import hypot, sqrt

import numpy as np
import pytest

from doseledger.statistics.course import Cumulation, CycleDose, LimitCheck, check_limit, cumulate, impute


def cycle(number: int, dose_gy: float | None = 5.0, bed_gy: float | None = 5.5, mbq: float = 7400.0) -> CycleDose:
    return CycleDose(number, mbq, dose_gy, bed_gy, u_systematic_rel=0.10, u_random_rel=sqrt(0.13**2 - 0.10**2))


def test_a_complete_course_adds_up() -> None:
    total = cumulate([cycle(1, 5.0, 5.5), cycle(2, 4.0, 4.3), cycle(3, 3.0, 3.2, mbq=3700.0)])
    assert (total.cycles_given, total.cycles_counted, total.status) == (3, 3, "complete")
    assert total.administered_mbq == 7400.0 + 7400.0 + 3700.0
    assert total.dose_gy == pytest.approx(12.0)
    assert total.bed_gy == pytest.approx(13.0)


def test_systematic_parts_add_linearly_and_random_parts_in_quadrature() -> None:
    random = sqrt(0.13**2 - 0.10**2)
    assert cumulate([cycle(n) for n in (1, 2, 3, 4)]).u_dose_rel == pytest.approx(hypot(0.10, random / 2.0))
    assert cumulate([cycle(n) for n in (1, 2, 3, 4)]).u_dose_rel == pytest.approx(0.108, abs=5e-4)
    assert cumulate([cycle(1)]).u_dose_rel == pytest.approx(0.13)
    unequal = cumulate([cycle(1, 6.0), cycle(2, 2.0)])
    assert unequal.u_dose_rel == pytest.approx(hypot(0.10, random * hypot(6.0, 2.0) / 8.0))


def test_a_cycle_without_a_dose_makes_the_sum_incomplete() -> None:
    total = cumulate([cycle(1), cycle(2, None, None), cycle(3)])
    assert (total.cycles_given, total.cycles_counted, total.status) == (3, 2, "incomplete")
    assert total.dose_gy == pytest.approx(10.0)
    # All that was given counts as activity: dose per activity must not look higher than it is known to be.
    assert total.administered_mbq == 3 * 7400.0
    assert total.u_dose_rel == pytest.approx(hypot(0.10, sqrt(0.13**2 - 0.10**2) / sqrt(2.0)))


def test_a_cycle_without_bed_leaves_no_bed_at_all() -> None:
    total = cumulate([cycle(1), cycle(2, 5.0, None)])
    assert (total.status, total.dose_gy, total.bed_gy) == ("complete", 10.0, None)


@pytest.mark.parametrize("cycles", [[], [cycle(1, None, None)]])
def test_without_any_dose_everything_is_null(cycles: list[CycleDose]) -> None:
    total = cumulate(cycles)
    assert (total.status, total.cycles_counted) == ("incomplete", 0)
    assert total.dose_gy is total.bed_gy is total.u_dose_rel is None
    assert check_limit(total, 23.0, prior_gy=5.0, use_bed=False) == LimitCheck(None, None)


def test_a_dose_of_zero_is_a_dose() -> None:
    total = cumulate([cycle(1, 0.0, 0.0)])
    assert (total.status, total.dose_gy, total.u_dose_rel) == ("complete", 0.0, None)
    assert check_limit(total, 23.0, prior_gy=None, use_bed=False) == LimitCheck(0.0, None)


# Imputation ---------------------------------------------------------------------------------------


def test_a_missing_cycle_takes_the_dose_per_activity_of_the_nearest_one() -> None:
    given = [cycle(1, 8.0, 9.0), cycle(2, None, None, mbq=3700.0), cycle(3, 4.0, 4.4), cycle(4, None, None)]
    second, fourth = impute(given)[1], impute(given)[3]
    # Cycles 1 and 3 are equally near: the earlier one. Half its activity, half its dose, a quarter of what BED adds.
    assert (second.dose_gy, second.bed_gy, second.imputed_from) == (4.0, 4.25, 1)
    assert (fourth.dose_gy, fourth.bed_gy, fourth.imputed_from) == (4.0, pytest.approx(4.4), 3)
    assert [c.imputed_from for c in impute(given)] == [None, 1, None, 3]
    assert (second.cycle, second.administered_mbq) == (2, 3700.0)


def test_an_imputed_course_says_so() -> None:
    total = cumulate(impute([cycle(1), cycle(2, None, None), cycle(3)]), u_between_cycles_rel=0.2)
    assert (total.cycles_given, total.cycles_counted, total.cycles_imputed, total.status) == (3, 3, 1, "imputed")
    assert total.dose_gy == pytest.approx(15.0)
    random = sqrt(0.13**2 - 0.10**2)
    # 10 Gy rest on cycle 1 and its random error, 5 Gy on cycle 3; 5 Gy may differ between cycles.
    assert total.u_dose_rel == pytest.approx(hypot(1.5, 10.0 * random, 5.0 * random, 5.0 * 0.2) / 15.0)


def test_an_imputed_sum_agrees_with_simulated_cycles() -> None:
    rng = np.random.default_rng(5)
    common, random, between = (
        np.exp(s * rng.standard_normal((200_000, n))) for s, n in ((0.1, 1), (0.08, 2), (0.2, 1))
    )
    # Cycles 1 and 2 measured, cycle 3 imputed from cycle 2; the truth is 5 Gy in the measured ones.
    error = common[:, 0] * (5.0 * random[:, 0] + 5.0 * random[:, 1] + 5.0 * random[:, 1]) - 5.0 * (between[:, 0] - 1.0)
    given = [CycleDose(n, 7400.0, 5.0, None, 0.1, 0.08) for n in (1, 2)]
    total = cumulate(impute([*given, CycleDose(3, 7400.0, None, None, 0.0, 0.0)]), u_between_cycles_rel=0.2)
    assert total.u_dose_rel == pytest.approx(float(error.std()) / 15.0, rel=0.03)


@pytest.mark.parametrize(
    "given",
    [
        [cycle(1), CycleDose(2, None, None, None, 0.0, 0.0)],
        [CycleDose(1, None, 5.0, None, 0.1, 0.1), cycle(2, None, None)],
        [cycle(1, None, None), cycle(2, None, None)],
    ],
    ids=["its activity unknown", "activity of the only dose unknown", "no dose at all"],
)
def test_what_cannot_be_imputed_stays_incomplete(given: list[CycleDose]) -> None:
    assert impute(given) == given
    assert cumulate(impute(given)).status == "incomplete"


def test_without_a_bed_none_is_imputed() -> None:
    assert impute([cycle(1, 5.0, None), cycle(2, None, None)])[1].bed_gy is None


# Limits -------------------------------------------------------------------------------------------

COMPLETE = cumulate([cycle(1), cycle(2)])


def test_a_share_of_the_limit_and_the_activity_left() -> None:
    check = check_limit(COMPLETE, 23.0, prior_gy=None, use_bed=False)
    assert check.fraction == pytest.approx(10.0 / 23.0)
    # 10 Gy came from 14 800 MBq: 13 Gy more are 1.3 times that.
    assert check.activity_left_mbq == pytest.approx(13.0 / 10.0 * 14800.0)


def test_prior_dose_counts_against_the_limit_but_not_as_dose_per_activity() -> None:
    check = check_limit(COMPLETE, 23.0, prior_gy=5.0, use_bed=False)
    assert check.fraction == pytest.approx(15.0 / 23.0)
    assert check.activity_left_mbq == pytest.approx(8.0 / 10.0 * 14800.0)


def test_beyond_the_limit_nothing_is_left() -> None:
    check = check_limit(COMPLETE, 8.0, prior_gy=None, use_bed=False)
    assert check.fraction == pytest.approx(1.25)
    assert check.activity_left_mbq == 0.0


def test_bed_has_a_share_but_no_activity_left() -> None:
    assert check_limit(COMPLETE, 40.0, prior_gy=None, use_bed=True) == LimitCheck(pytest.approx(11.0 / 40.0), None)
    no_bed = cumulate([cycle(1, 5.0, None)])
    assert check_limit(no_bed, 40.0, prior_gy=None, use_bed=True) == LimitCheck(None, None)


@pytest.mark.parametrize("use_bed", [False, True])
def test_limits_are_null_unless_the_sum_is_complete_or_imputed(use_bed: bool) -> None:
    incomplete = replace(COMPLETE, status="incomplete")
    assert check_limit(incomplete, 23.0, prior_gy=None, use_bed=use_bed) == LimitCheck(None, None)
    imputed: Cumulation = replace(COMPLETE, status="imputed")
    assert check_limit(imputed, 23.0, prior_gy=None, use_bed=use_bed).fraction is not None
