"""Time-integrated activity from a single scan."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, hypot, isfinite, log
from typing import Final

import numpy as np

from doseledger.errors import QuantityError, UnknownNameError
from doseledger.kinetics.curves import CurveFit, check_samples, log_symmetric_interval
from doseledger.kinetics.predictive import POPULATION, fit_population
from doseledger.kinetics.priors import RegionPrior

#: Relative standard uncertainty of the approximation itself (Haenscheid 2018, doi
#: 10.2967/jnumed.117.193706). Estimate over truth is 2u 2^-u with u = t/T_eff: within -11 % and
#: +6 % for u from 0.75 to 2.5. Taken as one standard deviation, because u itself is not seen.
HANSCHEID_RELATIVE_UNCERTAINTY: Final = 0.10

METHODS: Final = ("hanscheid", "madsen", POPULATION)


@dataclass(frozen=True)
class KineticPrior:
    """Effective half-life of a population, log-normal.

    Raises
    ------
    QuantityError
        The half-life is not positive, or the standard deviation negative.
    """

    name: str
    effective_half_life_h: float
    ln_sd: float
    sha256: str

    def __post_init__(self) -> None:
        if not (isfinite(self.effective_half_life_h) and self.effective_half_life_h > 0 and self.ln_sd >= 0):
            raise QuantityError(
                "the prior is not a log-normal half-life", value=(self.effective_half_life_h, self.ln_sd)
            )


def single_time_point(
    time_h: float,
    activity_mbq: float,
    *,
    half_life_h: float,
    method: str = "hanscheid",
    prior: KineticPrior | RegionPrior | None = None,
    u_activity_mbq: float | None = None,
) -> CurveFit:
    """Time-integrated activity from one activity.

    ``hanscheid``: TIA = 2 t A(t) / ln 2 (Haenscheid 2018), which is a mono-exponential curve whose
    effective half-life equals the time of the scan. ``madsen``: TIA = A(t) exp(L t) / L with the
    population's rate L (Madsen 2018, doi 10.1002/mp.12886). Neither exceeds the integral of
    physical decay alone, A(t) exp(l t) / l: there the curve is at its bound. ``population``: the
    posterior of the population's curves (`predictive`).

    Parameters
    ----------
    prior
        Needed by ``madsen``, which takes the median and spread of the terminal half-life from a
        `RegionPrior`, and by ``population``, which takes a `RegionPrior` alone.

    Raises
    ------
    QuantityError
        Time or activity is not positive.
    UnknownNameError
        The method is not known, or its prior is missing.

    Examples
    --------
    The estimate is exact when the scan is one effective half-life after injection:

    >>> fit = single_time_point(50.0, 100.0, half_life_h=159.528)
    >>> round(fit.tia_mbq_h, 3) == round(200.0 * 50.0 / log(2.0), 3)
    True
    """
    if method not in METHODS:
        raise UnknownNameError("the single-time-point method is not known", value=method, expected=METHODS)
    if method == "madsen" and prior is None:
        raise UnknownNameError("the method needs a prior", value=method, expected="prior=KineticPrior(...)")
    if method == POPULATION and not isinstance(prior, RegionPrior):
        raise UnknownNameError("the method needs a prior", value=method, expected="prior=RegionPrior(...)")
    if time_h <= 0:
        raise QuantityError("the scan is not after the injection", value=time_h)
    samples = check_samples([time_h], [activity_mbq], half_life_h, u_activity_mbq)
    if activity_mbq == 0:
        return CurveFit.without_result(method, "not_converged")
    if method == POPULATION and isinstance(prior, RegionPrior):
        return fit_population(samples, prior)
    if isinstance(prior, RegionPrior):
        name = f"{prior.radiopharmaceutical} {prior.region}"
        prior = KineticPrior(name, prior.effective_half_life_h(half_life_h), prior.effective_ln_sd(half_life_h), "")
    slowest = samples.decay_constant_per_h
    assumed_h = prior.effective_half_life_h if method == "madsen" and prior else time_h
    rate = log(2.0) / assumed_h
    # Beyond one physical half-life the assumption of Haenscheid would mean uptake without end.
    at_bound = rate < slowest
    rate = max(rate, slowest)
    amplitude = activity_mbq * exp(rate * time_h)
    tia = amplitude / rate
    if method == "madsen" and prior:
        u_method_rel = abs(rate * time_h - 1.0) * prior.ln_sd
    else:
        u_method_rel = HANSCHEID_RELATIVE_UNCERTAINTY
    u_tia = tia * hypot(u_method_rel, float(samples.u_activity_mbq[0]) / activity_mbq)
    return CurveFit(
        model=method,
        parameters=(amplitude, rate),
        parameter_names=("amplitude_mbq", "rate_per_h"),
        covariance=np.empty((0, 0)),
        tia_mbq_h=tia,
        u_tia_mbq_h=u_tia,
        tia_interval_mbq_h=log_symmetric_interval(tia, u_tia),
        effective_half_life_h=log(2.0) / rate,
        uptake_half_life_h=None,
        extrapolated_fraction=exp(-rate * time_h),
        rate_at_bound=at_bound,
        aicc=None,
        chi2=0.0,
        dof=0,
        status="at_bound" if at_bound else "saturated",
    )
