"""Time-integrated activity from a single scan."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, hypot, isfinite, log
from typing import Final

import numpy as np

from doseledger.errors import QuantityError, UnknownNameError
from doseledger.kinetics.curves import Z95, CurveFit, check_samples, log_interval, log_symmetric_interval
from doseledger.kinetics.predictive import POPULATION, fit_population
from doseledger.kinetics.priors import RegionPrior

#: Shortest effective half-life of 177Lu that a scan is thought to have seen where no population is asked: the least of
#: 37 kidneys under PSMA-617, whose median is 35.5 h (AAPM 2026, paper 2620; data/SOURCE.md). One of 20 marrows was
#: reported with less (5.9 h).
SHORTEST_EFFECTIVE_H: Final = 8.5
#: The same without the decay of 177Lu: what clears a nuclide of another half-life.
SHORTEST_BIOLOGICAL_H: Final = 1.0 / (1.0 / SHORTEST_EFFECTIVE_H - 1.0 / 159.528)
#: Half-lives at which the error of the approximation is taken, evenly in their logarithm.
_HALF_LIVES: Final = 2000

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
    administered_mbq: float | None = None,
) -> CurveFit:
    """Time-integrated activity from one activity.

    ``hanscheid``: TIA = 2 t A(t) / ln 2 (Haenscheid 2018), which is a mono-exponential curve whose
    effective half-life equals the time of the scan. ``madsen``: TIA = A(t) exp(L t) / L with the
    population's rate L (Madsen 2018, doi 10.1002/mp.12886). Neither exceeds the integral of
    physical decay alone, A(t) exp(l t) / l: there the curve is at its bound. ``population``: the
    posterior of the population's curves (`predictive`).

    The 95 % interval of ``hanscheid`` reaches further up than down (`hanscheid_errors`), that of ``madsen`` is
    symmetric in ln TIA.

    Parameters
    ----------
    prior
        Needed by ``madsen``, which takes the median and spread of the terminal half-life from a
        `RegionPrior`, and by ``population``, which takes a `RegionPrior` alone.
    administered_mbq
        At the injection. No curve holds more than `curves.MOST_OF_ADMINISTERED` of it: ``population`` gives those that
        would no weight, ``hanscheid`` and ``madsen`` count with no half-life so short, and no interval of ``madsen``
        ends above the integral of physical decay of all of it.

    Raises
    ------
    QuantityError
        Time, activity or administered activity is not positive.
    UnknownNameError
        The method is not known, or its prior is missing.

    Examples
    --------
    The estimate is exact when the scan is one effective half-life after injection:

    >>> fit = single_time_point(50.0, 100.0, half_life_h=159.528)
    >>> round(fit.tia_mbq_h, 3) == round(200.0 * 50.0 / log(2.0), 3)
    True

    It says little of scans that were not: a TIA within -11 and +305 % of the estimate.

    >>> low, high = fit.tia_interval_mbq_h
    >>> round(low / fit.tia_mbq_h - 1.0, 2), round(high / fit.tia_mbq_h - 1.0, 2)
    (-0.11, 3.05)
    """
    if method not in METHODS:
        raise UnknownNameError("the single-time-point method is not known", value=method, expected=METHODS)
    if method == "madsen" and prior is None:
        raise UnknownNameError("the method needs a prior", value=method, expected="prior=KineticPrior(...)")
    if method == POPULATION and not isinstance(prior, RegionPrior):
        raise UnknownNameError("the method needs a prior", value=method, expected="prior=RegionPrior(...)")
    if time_h <= 0:
        raise QuantityError("the scan is not after the injection", value=time_h)
    samples = check_samples([time_h], [activity_mbq], half_life_h, u_activity_mbq, administered_mbq)
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
    # A curve that falls faster would have held more than was given.
    fastest = slowest + max(log(samples.most_mbq / activity_mbq) / time_h - slowest, 0.0)
    # Beyond one physical half-life the assumption of Haenscheid would mean uptake without end.
    at_bound = not slowest <= rate <= fastest
    rate = min(max(rate, slowest), fastest)
    amplitude = activity_mbq * exp(rate * time_h)
    tia = amplitude / rate
    u_activity_rel = float(samples.u_activity_mbq[0]) / activity_mbq
    if method == "madsen" and prior:
        u_tia = tia * hypot(abs(rate * time_h - 1.0) * prior.ln_sd, u_activity_rel)
        low, high = log_symmetric_interval(tia, u_tia)
        interval = low, max(min(high, samples.most_mbq / slowest), tia)
    else:
        rms, too_high, too_low = hanscheid_errors(time_h, half_life_h, shortest_h=log(2.0) / fastest)
        u_tia = tia * hypot(rms, u_activity_rel)
        interval = log_interval(tia, hypot(too_high, Z95 * u_activity_rel), hypot(too_low, Z95 * u_activity_rel))
    return CurveFit(
        model=method,
        parameters=(amplitude, rate),
        parameter_names=("amplitude_mbq", "rate_per_h"),
        covariance=np.empty((0, 0)),
        tia_mbq_h=tia,
        u_tia_mbq_h=u_tia,
        tia_interval_mbq_h=interval,
        effective_half_life_h=log(2.0) / rate,
        uptake_half_life_h=None,
        extrapolated_fraction=exp(-rate * time_h),
        rate_at_bound=at_bound,
        aicc=None,
        chi2=0.0,
        dof=0,
        status="at_bound" if at_bound else "saturated",
    )


def hanscheid_errors(time_h: float, half_life_h: float, *, shortest_h: float = 0.0) -> tuple[float, float, float]:
    """What Haenscheid's approximation may be off by, when nothing is known of the half-life.

    With T the effective half-life and u = t/T, estimate over truth is 2u 2^-u of one exponential (beyond one physical
    half-life, where the estimate is that of physical decay, g(l)/g(ln 2/T) with g(L) = exp(L t)/L). ln T is taken as
    uniform between ln of `SHORTEST_BIOLOGICAL_H` with decay and ln of the physical half-life.

    Parameters
    ----------
    half_life_h
        Physical.
    shortest_h
        No effective half-life is shorter than this one either.

    Returns
    -------
    tuple
        Root mean square of ln(estimate/truth), which has the bias in it; and how far ln of the estimate lies above and
        below that of the truth at the 97.5 and 2.5 % quantiles, neither negative.

    Examples
    --------
    The estimate is hardly ever high, and the later or earlier the scan the more it may be low:

    >>> for time_h in (4.0, 24.0, 48.0, 72.0, 96.0, 168.0):
    ...     print(time_h, [round(value, 2) for value in hanscheid_errors(time_h, 159.528)])
    4.0 [1.8, 0.0, 2.94]
    24.0 [0.55, 0.06, 1.24]
    48.0 [0.47, 0.06, 1.28]
    72.0 [0.94, 0.06, 2.7]
    96.0 [1.53, 0.06, 4.23]
    168.0 [3.53, 0.04, 9.13]
    """
    shortest_h = min(max(shortest_h, 1.0 / (1.0 / SHORTEST_BIOLOGICAL_H + 1.0 / half_life_h)), half_life_h)
    position = (np.arange(_HALF_LIVES) + 0.5) / _HALF_LIVES
    true = log(2.0) / (shortest_h * (half_life_h / shortest_h) ** position)
    assumed = log(2.0) / min(time_h, half_life_h)
    error = (assumed - true) * time_h - np.log(assumed / true)
    below, above = np.quantile(error, (0.025, 0.975))
    return float(np.sqrt(np.square(error).mean())), max(float(above), 0.0), max(-float(below), 0.0)
