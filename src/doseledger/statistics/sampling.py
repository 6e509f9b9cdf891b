"""Uncertainty of an organ dose by drawing: the check on the linear chain of `uncertainty`.

Every variable of the chain is drawn, and the dose computed again:

    D_s/D = (V_s/V)^e (R/R_s) (TIA_s/TIA) (V_s/V)^-0.99 exp(u_Q q + u_R r + u_S s),   ln V_s/V = u_V v,   e = phi/(2 R)

with q, r, s, v standard normal. The same v moves counts, recovery and S value. The recovery follows the drawn volume
along its own form and not along its tangent,

    R_s = 1/(1 + (1 - R)/R (V_s/V)^-beta),   beta = (d ln R/d ln V)/(1 - R),

which is RC(V) of spheres itself, stays between 0 and 1, and has the slope of any other body. TIA_s comes from curves
that were fitted again.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.statistics.uncertainty import S_VALUE_EXPONENT, spill_fraction

_Floats = NDArray[np.float64]

#: Relative standard error of a standard deviation from n draws is 1/sqrt(2n): 3.5 % here.
SAMPLES: Final = 400
#: Standard deviations of ln D that differ by more than this share of the stated one disagree.
DISAGREE_REL: Final = 0.20
#: Name of the streams: no draw is shared with another use of the same seed.
_NAME: Final = "uncertainty"


@dataclass(frozen=True, eq=False)
class SharedDraws:
    """What all regions of a cycle have in common, standard normal, shape ``(n,)``.

    Calibration, blur, engine, and the half-life of regions that were seen once, which is assumed.
    """

    calibration: _Floats
    recovery: _Floats
    dose_factor: _Floats
    assumed_half_life: _Floats


@dataclass(frozen=True)
class SampledUncertainty:
    """Standard deviation of ln D, 2.5 and 97.5 % of D over the reported dose, and the number of draws behind them."""

    sd_ln: float
    low: float
    high: float
    count: int


def stream(seed: int, region: str) -> np.random.Generator:
    """Random numbers of one region, whatever other regions there are."""
    digest = hashlib.sha256(f"{seed}/{_NAME}/{region}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest, "big")))


def shared_draws(seed: int, count: int = SAMPLES) -> SharedDraws:
    return SharedDraws(*stream(seed, "").standard_normal((4, count)))


def dose_factors(
    tia_factors: _Floats,
    ln_volume: _Floats,
    shared: SharedDraws,
    *,
    volume_ml: float,
    u_volume_rel: float,
    spect_fwhm_mm: float,
    u_calibration_rel: float,
    u_dose_factor_rel: float,
    recovery_coefficient: float = 1.0,
    recovery_slope: float = 0.0,
    u_recovery_rel: float | None = None,
) -> _Floats:
    """D_s/D of one region, ``(n,)``; the keywords are those of `dose_uncertainty`.

    Parameters
    ----------
    tia_factors
        TIA_s/TIA from random uncertainties, ``(n,)``.
    ln_volume
        v, standard normal, ``(n,)``.

    Examples
    --------
    The linear chain says 0.0696 of this kidney:

    >>> kidney = {"volume_ml": 150.0, "u_volume_rel": 0.0496, "spect_fwhm_mm": 12.0, "u_calibration_rel": 0.05,
    ...     "u_dose_factor_rel": 0.04}
    >>> v = stream(1, "kidney").standard_normal(20000)
    >>> round(summary(dose_factors(np.ones(20000), v, shared_draws(1, 20000), **kidney)).sd_ln, 3)
    0.07
    """
    exponent = spill_fraction(volume_ml, fwhm_mm=spect_fwhm_mm) / (2.0 * recovery_coefficient)
    volume = np.exp(u_volume_rel * ln_volume)
    recovery = _recovery(volume, recovery_coefficient, recovery_slope)
    systematic = np.exp(
        u_calibration_rel * shared.calibration
        + (u_recovery_rel or 0.0) * shared.recovery
        + u_dose_factor_rel * shared.dose_factor
    )
    counts = volume**exponent * recovery_coefficient / recovery
    return np.asarray(tia_factors * counts * volume**S_VALUE_EXPONENT * systematic)


def summary(factors: _Floats) -> SampledUncertainty:
    """Of D_s/D, ``(n,)``; a draw without a curve is NaN, and left out."""
    drawn = factors[np.isfinite(factors)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return SampledUncertainty(float(np.log(drawn).std(ddof=1)), float(low), float(high), drawn.size)


def disagrees(sampled: SampledUncertainty, stated_rel: float) -> bool:
    """Whether the standard deviation of ln D is not the stated relative uncertainty, within `DISAGREE_REL`."""
    return abs(sampled.sd_ln - stated_rel) > DISAGREE_REL * stated_rel


def _recovery(volume: _Floats, coefficient: float, slope: float) -> _Floats:
    """Recovery of a body that has `volume` times its volume."""
    if not 0.0 < coefficient < 1.0:
        return np.full_like(volume, coefficient)
    lost = (1.0 - coefficient) / coefficient
    return np.asarray(1.0 / (1.0 + lost * volume ** (-slope / (1.0 - coefficient))))
