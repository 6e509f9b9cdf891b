"""Biologically effective dose of a dose rate that decays.

Dale 1985 and Lea and Catcheside 1942, in the form of Baechler et al. 2008, doi
10.1118/1.2836421.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

import numpy as np

from doseledger.errors import QuantityError


def g_factor(
    *,
    repair_half_time_h: float,
    effective_half_life_h: float | None = None,
    amplitudes: Sequence[float] | None = None,
    rates_per_h: Sequence[float] | None = None,
) -> float:
    """Lea-Catcheside factor of a dose rate sum_i a_i exp(-l_i t).

    G = (2 / D^2) sum_ij a_i a_j / ((l_i + mu)(l_i + l_j)), D = sum_i a_i / l_i, mu = ln 2 /
    repair half-time; for one exponential G = T_rep / (T_rep + T_eff).

    Parameters
    ----------
    effective_half_life_h
        For one exponential.
    amplitudes, rates_per_h
        For any curve: amplitudes of the dose rate in any unit (uptake is negative), rates in 1/h.

    Raises
    ------
    QuantityError
        Neither or both descriptions given, or a value that is not positive.

    Examples
    --------
    >>> round(g_factor(repair_half_time_h=2.8, effective_half_life_h=51.6), 7)
    0.0514706
    """
    if (effective_half_life_h is None) == (amplitudes is None) or (amplitudes is None) != (rates_per_h is None):
        raise QuantityError("either an effective half-life or amplitudes with rates are needed")
    if effective_half_life_h is not None:
        amplitudes, rates_per_h = [1.0], [log(2.0) / _positive("effective half-life", effective_half_life_h)]
    a = np.asarray(amplitudes, dtype=float)
    rates = np.asarray(rates_per_h, dtype=float)
    if a.shape != rates.shape or rates.size == 0 or not np.all(rates > 0):
        raise QuantityError("amplitudes and positive rates do not match", value=(a.tolist(), rates.tolist()))
    mu = log(2.0) / _positive("repair half-time", repair_half_time_h)
    dose = float((a / rates).sum())
    if not dose > 0:
        raise QuantityError("the dose of the curve is not positive", value=dose)
    terms = np.outer(a, a) / ((rates[:, None] + mu) * (rates[:, None] + rates[None, :]))
    return float(2.0 * terms.sum() / dose**2)


def bed_gy(
    dose_gy: float,
    *,
    alpha_beta_gy: float,
    repair_half_time_h: float,
    effective_half_life_h: float | None = None,
    amplitudes: Sequence[float] | None = None,
    rates_per_h: Sequence[float] | None = None,
) -> float:
    """Biologically effective dose BED = D (1 + G D / (alpha/beta)), Gy.

    Examples
    --------
    5 Gy to the kidneys with 51.6 h, alpha/beta 2.5 Gy, repair half-time 2.8 h:

    >>> round(bed_gy(5.0, alpha_beta_gy=2.5, repair_half_time_h=2.8, effective_half_life_h=51.6), 6)
    5.514706
    """
    if not dose_gy >= 0:
        raise QuantityError("the absorbed dose is negative or not a number", value=dose_gy)
    g = g_factor(
        repair_half_time_h=repair_half_time_h,
        effective_half_life_h=effective_half_life_h,
        amplitudes=amplitudes,
        rates_per_h=rates_per_h,
    )
    return dose_gy * (1.0 + g * dose_gy / _positive("alpha/beta", alpha_beta_gy))


def eqd2_gy(
    dose_gy: float,
    *,
    alpha_beta_gy: float,
    repair_half_time_h: float,
    effective_half_life_h: float | None = None,
    amplitudes: Sequence[float] | None = None,
    rates_per_h: Sequence[float] | None = None,
) -> float:
    """Dose in 2 Gy fractions with the same effect, EQD2 = BED / (1 + 2 / (alpha/beta)), Gy.

    Examples
    --------
    >>> round(eqd2_gy(5.0, alpha_beta_gy=2.5, repair_half_time_h=2.8, effective_half_life_h=51.6), 6)
    3.063725
    """
    bed = bed_gy(
        dose_gy,
        alpha_beta_gy=alpha_beta_gy,
        repair_half_time_h=repair_half_time_h,
        effective_half_life_h=effective_half_life_h,
        amplitudes=amplitudes,
        rates_per_h=rates_per_h,
    )
    return bed / (1.0 + 2.0 / alpha_beta_gy)


def _positive(name: str, value: float) -> float:
    if not value > 0:
        raise QuantityError(f"the {name} is not positive", value=value)
    return value
