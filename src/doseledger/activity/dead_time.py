"""Counts that a camera misses because it is still busy with the one before.

A detector is taken as wholly paralysable (an event prolongs the dead time) or wholly
non-paralysable (it does not). Rates are those of one detector. Source: Knoll, Radiation Detection
and Measurement, 4th ed., ch. 4 VII.
"""

from __future__ import annotations

from math import e, exp
from typing import Final

from scipy.special import lambertw

from doseledger.errors import QuantityError

_S_PER_US: Final = 1.0e-6


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


def _busy_fraction(observed_cps: float, dead_time_us: float) -> float:
    if not observed_cps >= 0:
        raise QuantityError("the count rate is negative", value=observed_cps)
    if not dead_time_us >= 0:
        raise QuantityError("the dead time is negative", tag="dead_time_us", value=dead_time_us)
    return observed_cps * dead_time_us * _S_PER_US
