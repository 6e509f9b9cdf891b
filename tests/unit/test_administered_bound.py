"""No region holds more than was administered: what that says of a curve from one or two scans."""

from __future__ import annotations

from math import inf, log

import numpy as np
import pytest

from doseledger.errors import QuantityError
from doseledger.io.priors import default_prior
from doseledger.kinetics import CurveFit, RegionPrior, fit_curve, single_time_point
from doseledger.kinetics.curves import MOST_OF_ADMINISTERED

HALF_LIFE_H = 159.528
DECAY_PER_H = log(2.0) / HALF_LIFE_H
ADMINISTERED_MBQ = 7400.0
#: All activity that ever decays, MBq h.
EVERYTHING_MBQ_H = MOST_OF_ADMINISTERED * ADMINISTERED_MBQ / DECAY_PER_H


def prior_of(tracer: str, region: str) -> RegionPrior:
    found = default_prior().find(tracer, region)
    assert found is not None
    return found


def one_scan(
    prior: RegionPrior, time_h: float, share: float, administered_mbq: float | None, method: str = "population"
) -> CurveFit:
    return single_time_point(
        time_h,
        share * ADMINISTERED_MBQ,
        half_life_h=HALF_LIFE_H,
        method=method,
        prior=prior,
        u_activity_mbq=0.05 * share * ADMINISTERED_MBQ,
        administered_mbq=administered_mbq,
    )


def test_a_wide_population_has_curves_that_nobody_can_have_and_the_bound_takes_them_away() -> None:
    """A spleen under PSMA-617, 0.2 % of the activity at 48 h: without the bound its interval ends beyond all of it."""
    prior = prior_of("Lu177-PSMA-617", "spleen")
    free, bound = (one_scan(prior, 48.0, 0.002, given) for given in (None, ADMINISTERED_MBQ))
    assert free.tia_interval_mbq_h[1] > 0.8 * EVERYTHING_MBQ_H
    assert bound.tia_interval_mbq_h[1] < 0.03 * EVERYTHING_MBQ_H
    assert bound.tia_mbq_h < free.tia_mbq_h
    assert bound.u_tia_mbq_h < free.u_tia_mbq_h
    # Through its only scan: rounding would differ from one instruction set to another.
    assert free.chi2 == bound.chi2 == 0.0


@pytest.mark.parametrize("tracer", ["Lu177-DOTATATE", "Lu177-PSMA-617"])
@pytest.mark.parametrize("time_h", [4.0, 24.0, 96.0])
def test_where_the_bound_is_far_away_not_a_bit_changes(tracer: str, time_h: float) -> None:
    prior = prior_of(tracer, "kidney_left")
    free, bound = (one_scan(prior, time_h, 0.01, given) for given in (None, 1e100))
    assert bound.parameters == free.parameters
    assert (bound.tia_mbq_h, bound.u_tia_mbq_h, bound.tia_interval_mbq_h) == (
        free.tia_mbq_h,
        free.u_tia_mbq_h,
        free.tia_interval_mbq_h,
    )
    assert np.array_equal(bound.covariance, free.covariance)


@pytest.mark.parametrize("time_h", [4.0, 24.0, 48.0, 96.0])
def test_a_kidney_under_dotatate_is_as_it_was_with_the_activity_that_is_given(time_h: float) -> None:
    prior = prior_of("Lu177-DOTATATE", "kidney_left")
    free, bound = (one_scan(prior, time_h, 0.012, given) for given in (None, ADMINISTERED_MBQ))
    assert (bound.tia_mbq_h, bound.u_tia_mbq_h, bound.tia_interval_mbq_h) == (
        free.tia_mbq_h,
        free.u_tia_mbq_h,
        free.tia_interval_mbq_h,
    )


@pytest.mark.parametrize(("region", "time_h"), [("spleen", 48.0), ("kidney_left", 96.0), ("parotid_left", 168.0)])
def test_the_interval_holds_what_it_says_of_curves_that_are_possible(region: str, time_h: float) -> None:
    """Drawn from the normal population, with peaks anywhere up to the bound; 95 % within three standard errors.

    The interval is that of a t distribution and may be a little wide.
    """
    prior, rng = prior_of("Lu177-PSMA-617", region), np.random.default_rng(31)
    x = prior.mu + rng.standard_normal((20_000, 2)) @ np.linalg.cholesky(prior.predictive_covariance).T
    slow = DECAY_PER_H + np.exp(np.clip(x[:, 0], None, 6.0))
    fast = slow + np.exp(np.clip(x[:, 1], None, 6.0))
    times = np.geomspace(0.05, 150.0, 200)
    held = np.exp(-slow[:, None] * times) - np.exp(-fast[:, None] * times)
    peak = (held * np.exp(DECAY_PER_H * times)).max(axis=1)
    at_scan = np.exp(-slow * time_h) - np.exp(-fast * time_h)
    # The same activity at the scan for all: those whose peak would be above the bound do not exist.
    activity_mbq = 0.002 * ADMINISTERED_MBQ
    with np.errstate(divide="ignore", over="ignore", invalid="ignore"):
        amplitude = activity_mbq / at_scan
        exists = amplitude * peak <= MOST_OF_ADMINISTERED * ADMINISTERED_MBQ
    assert 0.2 < exists.mean() < 0.999
    true = amplitude[exists] * (1.0 / slow - 1.0 / fast)[exists]
    seen = 1.0 + 0.05 * rng.standard_normal(true.size)
    # With another activity the bound is at another place: a few of them stand for all.
    inside = []
    for part in range(20):
        own = slice(part, None, 20)
        factor = float(np.median(seen[own]))
        low, high = one_scan(prior, time_h, 0.002 * factor, ADMINISTERED_MBQ).tia_interval_mbq_h
        low, high = (end * seen[own] / factor for end in (low, high))
        inside.append(np.mean((low <= true[own]) & (true[own] <= high)))
    assert 0.94 < np.mean(inside) < 0.985


def test_two_scans_with_a_prior_are_bound_too() -> None:
    """Late scans that say little of the beginning."""
    prior = prior_of("Lu177-PSMA-617", "spleen")
    times_h, activity = [120.0, 168.0], np.array([4.0, 1.0])
    free, bound = (
        fit_curve(
            times_h,
            activity,
            half_life_h=HALF_LIFE_H,
            u_activity_mbq=0.2 * activity,
            prior=prior,
            administered_mbq=given,
        )
        for given in (None, ADMINISTERED_MBQ)
    )
    assert bound.tia_interval_mbq_h[1] < EVERYTHING_MBQ_H
    assert bound.tia_interval_mbq_h[1] < free.tia_interval_mbq_h[1]


def test_haenscheid_counts_with_no_half_life_that_would_need_more_than_was_given() -> None:
    """100 MBq at 168 h with a half-life of 15 h would have been 233 GBq at the injection."""
    free, bound = (
        single_time_point(168.0, 100.0, half_life_h=HALF_LIFE_H, u_activity_mbq=1e-6, administered_mbq=given)
        for given in (None, ADMINISTERED_MBQ)
    )
    assert bound.tia_mbq_h == free.tia_mbq_h
    assert bound.tia_interval_mbq_h[1] < EVERYTHING_MBQ_H < free.tia_interval_mbq_h[1]
    # The curve of the shortest half-life that is left holds all of it at the start; 2.5 % lie beyond the end.
    rate = log(MOST_OF_ADMINISTERED * ADMINISTERED_MBQ / 100.0) / 168.0
    shortest_h = log(2.0) / rate
    quantile_h = shortest_h * (HALF_LIFE_H / shortest_h) ** 0.025
    expected = 100.0 * np.exp(log(2.0) / quantile_h * 168.0) * quantile_h / log(2.0)
    assert bound.tia_interval_mbq_h[1] == pytest.approx(expected, rel=2e-3)


def test_madsen_is_bound_like_the_others() -> None:
    """A spleen under PSMA-617, 1 % of the activity at 168 h: the published half-life asks for more than was given."""
    prior = prior_of("Lu177-PSMA-617", "spleen")
    free, bound = (one_scan(prior, 168.0, 0.01, given, "madsen") for given in (None, ADMINISTERED_MBQ))
    assert free.parameters[0] > MOST_OF_ADMINISTERED * ADMINISTERED_MBQ
    assert bound.parameters[0] == pytest.approx(MOST_OF_ADMINISTERED * ADMINISTERED_MBQ)
    assert bound.status == "at_bound"
    assert bound.tia_mbq_h < bound.tia_interval_mbq_h[1] <= EVERYTHING_MBQ_H
    same = [one_scan(prior, 24.0, 0.01, given, "madsen") for given in (None, ADMINISTERED_MBQ)]
    assert same[0].tia_interval_mbq_h == same[1].tia_interval_mbq_h


def test_an_activity_beyond_the_bound_has_no_curve_of_the_population() -> None:
    prior = prior_of("Lu177-DOTATATE", "kidney_left")
    assert not one_scan(prior, 24.0, 2.0, ADMINISTERED_MBQ).has_curve
    fit = single_time_point(24.0, 2.0 * ADMINISTERED_MBQ, half_life_h=HALF_LIFE_H, administered_mbq=ADMINISTERED_MBQ)
    assert np.isfinite(fit.tia_mbq_h)
    assert fit.tia_interval_mbq_h[1] < inf


def test_nothing_administered_is_refused() -> None:
    with pytest.raises(QuantityError, match="administered activity is not positive"):
        one_scan(prior_of("Lu177-DOTATATE", "liver"), 24.0, 0.1, 0.0)
