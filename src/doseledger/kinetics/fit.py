"""The registry of curve models, the fit of one region, and the choice among models."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from math import exp, inf
from typing import Final

import numpy as np
from numpy.typing import ArrayLike

from doseledger.errors import UnknownNameError
from doseledger.kinetics.curves import CurveFit, Samples, UptakePrior, check_samples
from doseledger.kinetics.exponentials import fit_exponentials
from doseledger.kinetics.forms import FORMS
from doseledger.kinetics.predictive import POPULATION, fit_population
from doseledger.kinetics.priors import RegionPrior
from doseledger.kinetics.trapezoid import fit_trapezoid

#: Model that the scans choose; any other value names a key of `REGISTRY`.
AUTO: Final = "auto"
#: Up to this number of scans AICc is not defined for a model with uptake (k = 3, n < k + 2).
FEW_SCANS: Final = 4
#: A scan sees uptake within this many of its half-lives after the injection; later, what is missing
#: is below 3 % of the activity, and less than the activity is uncertain by.
UPTAKE_SEEN_HALF_LIVES: Final = 5.0

#: Half-life of the fast excretion of 177Lu-DOTATATE: 44, 58 and 65 % are in the urine after 5, 24 and 48 h (prescribing
#: information, not re-read), which are phases of 1.8 h and 4 d. Blood clears with 3.5 +- 1.4 h: so the spread is wide.
EXCRETION: Final = UptakePrior("excretion-default", 1.8, 0.5)

Model = Callable[[Samples, UptakePrior], CurveFit]


def _trapezoid(name: str, samples: Samples, prior: UptakePrior, *, physical_tail: bool) -> CurveFit:
    return fit_trapezoid(name, samples, physical_tail=physical_tail)


#: Curve models; the keys are the values of config and of the columns ``model`` and ``curve_model``.
REGISTRY: Final[dict[str, Model]] = {
    "mono": partial(fit_exponentials, FORMS["mono"]),
    "mono_uptake": partial(fit_exponentials, FORMS["mono_uptake"]),
    "bi": partial(fit_exponentials, FORMS["bi"]),
    "bi_uptake": partial(fit_exponentials, FORMS["bi_uptake"]),
    "trapezoid": partial(_trapezoid, "trapezoid", physical_tail=False),
    "trapezoid_physical": partial(_trapezoid, "trapezoid_physical", physical_tail=True),
}


@dataclass(frozen=True)
class ModelComparison:
    """Every model that has enough scans, and the one that the dose rests on.

    Attributes
    ----------
    fits
        By model, in the order of the registry.
    chosen
        The fit that `fit_curve` returns.
    weights
        Akaike weights of the models whose AICc is defined; empty if there are fewer than two.
    """

    fits: dict[str, CurveFit]
    chosen: CurveFit
    weights: dict[str, float]


def fit_curve(
    times_h: ArrayLike,
    activity_mbq: ArrayLike,
    *,
    half_life_h: float,
    u_activity_mbq: ArrayLike | None = None,
    model: str = AUTO,
    prior: UptakePrior | RegionPrior | None = None,
    administered_mbq: float | None = None,
) -> CurveFit:
    """Fit a time-activity curve and integrate it from mid-injection to infinity.

    Parameters
    ----------
    times_h, activity_mbq
        Hours after mid-injection and activities at those times, shape ``(n,)``, any order.
    half_life_h
        Physical half-life; no clearance is slower.
    u_activity_mbq
        Random standard uncertainties; 5 % of each activity if not given.
    model
        A key of `REGISTRY`, or ``"auto"``: two scans ``mono``; three or four ``mono_uptake`` with the
        prior, if the first scan is early enough to see uptake, else ``mono``; from five scans on the
        model of lowest AICc among those for which it is defined (n >= k + 2).
    prior
        Of the uptake half-life; a median of 2.5 h with a standard deviation of 1.0 of its logarithm
        if not given. With the `RegionPrior` of a population the model is ``"population"`` for any
        number of scans: the posterior of the population's curves.
    administered_mbq
        At the injection: curves of a population that hold more than `curves.MOST_OF_ADMINISTERED` of it have no weight.

    Raises
    ------
    QuantityError
        Negative, repeated, not finite or mismatched values.
    UnknownNameError
        The model is not in the registry.

    Examples
    --------
    Two points are met exactly: 200 MBq, halved every 50 h, integrates to 200 * 50 / ln 2.

    >>> fit = fit_curve([50.0, 100.0], [100.0, 50.0], half_life_h=159.528)
    >>> fit.status, round(fit.effective_half_life_h, 6), round(fit.tia_mbq_h, 3)
    ('saturated', 50.0, 14426.95)
    """
    _check_model(model, prior)
    samples = check_samples(times_h, activity_mbq, half_life_h, u_activity_mbq, administered_mbq)
    if isinstance(prior, RegionPrior):
        return fit_population(samples, prior)
    if not np.any(samples.activity_mbq > 0):
        return CurveFit.without_result("mono" if model == AUTO else model, "not_converged")
    prior = prior or UptakePrior()
    return _automatic(samples, prior, {}) if model == AUTO else REGISTRY[model](samples, prior)


def compare_models(
    times_h: ArrayLike,
    activity_mbq: ArrayLike,
    *,
    half_life_h: float,
    u_activity_mbq: ArrayLike | None = None,
    model: str = AUTO,
    prior: UptakePrior | RegionPrior | None = None,
) -> ModelComparison:
    """Fit every model of the registry and choose as `fit_curve` does, with the same arguments."""
    _check_model(model, prior)
    samples = check_samples(times_h, activity_mbq, half_life_h, u_activity_mbq)
    if isinstance(prior, RegionPrior):
        others = compare_models(times_h, activity_mbq, half_life_h=half_life_h, u_activity_mbq=u_activity_mbq)
        chosen = fit_population(samples, prior)
        own = {POPULATION: chosen} if chosen.has_curve else {}
        return ModelComparison(others.fits | own, chosen, others.weights)
    prior = prior or UptakePrior()
    every = {name: fit(samples, prior) for name, fit in REGISTRY.items()} if np.any(samples.activity_mbq > 0) else {}
    fits = {name: fit for name, fit in every.items() if fit.has_curve}
    if not fits:
        return ModelComparison({}, CurveFit.without_result("mono" if model == AUTO else model, "not_converged"), {})
    chosen = _automatic(samples, prior, every) if model == AUTO else every[model]
    return ModelComparison(fits, chosen, akaike_weights({n: f.aicc for n, f in fits.items() if f.aicc is not None}))


def fit_excretion(
    times_h: ArrayLike,
    activity_mbq: ArrayLike,
    *,
    half_life_h: float,
    u_activity_mbq: ArrayLike | None = None,
    prior: UptakePrior = EXCRETION,
) -> CurveFit:
    """Two phases of clearance, of which the fast one has a log-normal prior: what the kidneys excrete in hours.

    For the body as a whole, and for what its organs leave of it, of which most is gone in a day. Three or four scans,
    one of them early, tell how much the fast phase holds and how fast the slow one is, but not both half-lives. How
    fast the fast phase is matters less: seen at t, it integrates to A(t) exp(l t)/l, which is least at l = 1/t, 36 %
    more at half that half-life and 21 % more at twice.

    Raises
    ------
    QuantityError
        As `fit_curve`.

    Examples
    --------
    86 MBq with 2.2 h and 14 MBq with 36 h integrate to 1000 MBq h, seen at 4, 24, 96 and 168 h:

    >>> t = np.array([4.0, 24.0, 96.0, 168.0])
    >>> fit = fit_excretion(t, 86.0 * 2.0 ** (-t / 2.2) + 14.0 * 2.0 ** (-t / 36.0), half_life_h=159.528)
    >>> round(fit.tia_mbq_h), fit.prior
    (1024, 'excretion-default')
    """
    samples = check_samples(times_h, activity_mbq, half_life_h, u_activity_mbq)
    if not np.any(samples.activity_mbq > 0):
        return CurveFit.without_result("bi", "not_converged")
    return fit_exponentials(FORMS["bi"], samples, prior, excretion=prior)


def akaike_weights(aicc: dict[str, float]) -> dict[str, float]:
    """exp(-(AICc - min)/2), of sum 1 (Burnham and Anderson 2002, doi 10.1007/b97636, section 2.9).

    Examples
    --------
    >>> {name: round(w, 3) for name, w in akaike_weights({"mono": 16.0, "bi": 18.0}).items()}
    {'mono': 0.731, 'bi': 0.269}
    >>> akaike_weights({"mono": 16.0})
    {}
    """
    if len(aicc) < 2:
        return {}
    likelihoods = {name: exp(-(value - min(aicc.values())) / 2.0) for name, value in aicc.items()}
    return {name: value / sum(likelihoods.values()) for name, value in likelihoods.items()}


def _check_model(model: str, prior: UptakePrior | RegionPrior | None) -> None:
    if isinstance(prior, RegionPrior) and model != AUTO:
        raise UnknownNameError("a population's prior has its own form of curve", value=model, expected=[AUTO])
    if model != AUTO and model not in REGISTRY:
        raise UnknownNameError("the curve model is not known", value=model, expected=[AUTO, *REGISTRY])


def _automatic(samples: Samples, prior: UptakePrior, known: dict[str, CurveFit]) -> CurveFit:
    """The model that so many scans at such times can tell; `known` spares fits that are at hand."""

    def fitted(name: str) -> CurveFit:
        return known[name] if name in known else REGISTRY[name](samples, prior)

    n = samples.times_h.size
    if n > FEW_SCANS:
        fits = [fitted(name) for name, form in FORMS.items() if n >= form.size + 2]
        return min(fits, key=lambda fit: inf if fit.aicc is None else fit.aicc)
    if n > 2 and 0.0 < samples.times_h[0] <= UPTAKE_SEEN_HALF_LIVES * prior.half_life_h:
        with_uptake = fitted("mono_uptake")
        if with_uptake.has_curve:
            return with_uptake
    return fitted("mono")
