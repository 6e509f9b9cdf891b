"""Counts that a camera misses because it is still busy with the one before.

A detector is taken as wholly paralysable (an event prolongs the dead time) or wholly
non-paralysable (it does not). Rates are those of one detector. Source: Knoll, Radiation Detection
and Measurement, 4th ed., ch. 4 VII.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import e, exp
from typing import Final

import numpy as np
from scipy.special import lambertw

from doseledger.errors import QuantityError

_S_PER_US: Final = 1.0e-6
#: Source strength and dead time, and one measurement to spare.
LEAST_RATES: Final = 3
#: The covariance is widened by the scatter of the rates only from this many degrees of freedom on.
_LEAST_DOF: Final = 3


def paralysable_observed_cps(true_cps: float, *, dead_time_us: float) -> float:
    """Rate that a paralysable detector shows: m = n exp(-n tau).

    Examples
    --------
    >>> round(paralysable_observed_cps(500_000.0, dead_time_us=0.19), 2)
    454686.47
    """
    return true_cps * exp(-true_cps * dead_time_us * _S_PER_US)


def paralysable_factor(observed_cps: float, *, dead_time_us: float) -> float:
    """True over observed rate of a paralysable detector.

    n / m = -W(-m tau) / (m tau) with the principal branch of Lambert's W: of the two true rates that
    show the same observed one, the lower. Beyond the highest rate the camera is not used.

    Raises
    ------
    QuantityError
        A negative rate or dead time, or a rate above the highest possible one, 1/(e tau).

    Examples
    --------
    >>> round(paralysable_factor(500_000.0, dead_time_us=0.19), 7)
    1.1113534
    >>> round(paralysable_factor(454_686.47, dead_time_us=0.19), 7)
    1.0996589
    """
    busy = _busy_fraction(observed_cps, dead_time_us)
    if busy * e > 1.0:
        raise QuantityError(
            "the count rate is above the highest that a paralysable detector with this dead time can show",
            tag="dead_time_us",
            value=f"{observed_cps:.0f} cps",
            expected=f"at most {1.0 / (e * dead_time_us * _S_PER_US):.0f} cps",
        )
    return 1.0 if busy == 0.0 else float(-lambertw(-busy).real / busy)


def non_paralysable_factor(observed_cps: float, *, dead_time_us: float) -> float:
    """True over observed rate of a non-paralysable detector: n / m = 1 / (1 - m tau).

    Raises
    ------
    QuantityError
        A negative rate or dead time, or a rate that would need the detector to be busy all the time.

    Examples
    --------
    >>> round(non_paralysable_factor(500_000.0, dead_time_us=0.19), 7)
    1.1049724
    """
    busy = _busy_fraction(observed_cps, dead_time_us)
    if busy >= 1.0:
        raise QuantityError(
            "the count rate is above the highest that a non-paralysable detector with this dead time can show",
            tag="dead_time_us",
            value=f"{observed_cps:.0f} cps",
            expected=f"less than {1.0 / (dead_time_us * _S_PER_US):.0f} cps",
        )
    return 1.0 / (1.0 - busy)


@dataclass(frozen=True)
class DeadTime:
    """Paralysable dead time of a detector from a decaying source.

    Attributes
    ----------
    true_cps
        Rate without dead time at time zero.
    covariance
        Of ``(true_cps, dead_time_us)``.
    chi2, dof
        Of the logarithms of the rates, with the Poisson noise of their counts.
    largest_loss
        Share of the events that the detector missed at the highest rate.
    """

    true_cps: float
    dead_time_us: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    chi2: float
    dof: int
    largest_loss: float

    @property
    def u_dead_time_us(self) -> float:
        return float(np.sqrt(self.covariance[1][1]))


def fit_dead_time(
    times_h: Sequence[float], observed_cps: Sequence[float], counts: Sequence[float], *, half_life_h: float
) -> DeadTime:
    """Dead time from the rates that one detector shows while a source decays.

    The true rate is n = n0 exp(-l t) and the observed one m = n exp(-n tau), so that

        ln m + l t = ln n0 - n0 tau exp(-l t)

    is a straight line in exp(-l t) (decaying source method, Knoll, 4th ed., ch. 4 VII C). Least squares weigh by
    counts; from three degrees of freedom on the covariance is widened where the rates scatter more than their counts.

    Parameters
    ----------
    times_h
        Middle of each measurement, h; the measurements are short against the half-life.
    counts
        Events of each measurement, which give its noise.

    Raises
    ------
    QuantityError
        Fewer than three measurements, a rate that is not positive, or a source that hardly decayed.

    Examples
    --------
    0.19 us, 500 000 cps at first, over four half-lives of 159.528 h:

    >>> times = [0.0, 159.528, 319.056, 638.112]
    >>> rates = [paralysable_observed_cps(5.0e5 * 0.5 ** (t / 159.528), dead_time_us=0.19) for t in times]
    >>> fit = fit_dead_time(times, rates, [1e7] * 4, half_life_h=159.528)
    >>> round(rates[0], 2), round(fit.dead_time_us, 4), round(fit.true_cps)
    (454686.47, 0.19, 500000)
    """
    rates, events = np.asarray(observed_cps, dtype=float), np.asarray(counts, dtype=float)
    times = np.asarray(times_h, dtype=float)
    if len(rates) < LEAST_RATES or not (np.all(rates > 0) and np.all(events > 0)):
        raise QuantityError(
            "a dead time needs more count rates, all positive", value=len(rates), expected=f"at least {LEAST_RATES}"
        )
    left = 0.5 ** (times / half_life_h)
    if not left.min() < left.max() / 2.0:
        raise QuantityError(
            "the source hardly decayed between the measurements: dead time and activity cannot be told apart",
            value=f"{np.ptp(times):.0f} h",
            expected=f"at least one half-life, {half_life_h:.0f} h",
            remedy="Go on measuring until the source has decayed.",
        )
    weight = np.sqrt(events)
    design = np.column_stack([np.ones_like(left), left]) * weight[:, None]
    target = (np.log(rates) - np.log(left)) * weight
    (intercept, slope), *_ = np.linalg.lstsq(design, target)
    chi2, dof = float(((design @ [intercept, slope] - target) ** 2).sum()), len(rates) - 2
    of_line = np.linalg.inv(design.T @ design) * (max(1.0, chi2 / dof) if dof >= _LEAST_DOF else 1.0)
    true_cps, dead_time_s = float(np.exp(intercept)), float(-slope / np.exp(intercept))
    to_result = np.array([[true_cps, 0.0], [-dead_time_s / _S_PER_US, -1.0 / (true_cps * _S_PER_US)]])
    covariance = to_result @ of_line @ to_result.T
    highest = true_cps * float(left.max())
    return DeadTime(
        true_cps=true_cps,
        dead_time_us=dead_time_s / _S_PER_US,
        covariance=(
            (float(covariance[0, 0]), float(covariance[0, 1])),
            (float(covariance[1, 0]), float(covariance[1, 1])),
        ),
        chi2=chi2,
        dof=dof,
        largest_loss=1.0 - exp(-highest * dead_time_s),
    )


def _busy_fraction(observed_cps: float, dead_time_us: float) -> float:
    if not observed_cps >= 0:
        raise QuantityError("the count rate is negative", value=observed_cps)
    if not dead_time_us >= 0:
        raise QuantityError("the dead time is negative", tag="dead_time_us", value=dead_time_us)
    return observed_cps * dead_time_us * _S_PER_US
