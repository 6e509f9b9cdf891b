"""A curve from few scans and what is known of the population.

The logarithms x of the biological parameters have the prior's predictive distribution, the amplitude a flat one of its
logarithm. With one scan the shape stays that of the population:

    TIA = A(t) R(t),   R(t) = integral of g / g(t),

and the estimate A(t) exp(E[ln R(t)]) is the one of least mean square error of ln TIA. Each further scan weighs
the shapes by their likelihood. Curves that would at some time hold more than was administered have no weight: of a
late scan of a population with very different half-lives they would be most of the upper tail. The integrals over x are
sums over nodes (`nodes`).

For the estimate x is normal; for the interval it has a t distribution, with as many degrees of freedom as patients
have shown the covariance (of which the mean of a log-normal rate would not exist).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import gammaincinv

from doseledger.kinetics.curves import LARGEST_EXPONENT, Z95, CurveFit, Samples, status_of
from doseledger.kinetics.forms import FORMS
from doseledger.kinetics.log_shapes import LogShape
from doseledger.kinetics.nodes import Factors, chi2_of, normal_nodes, powers, uniform_nodes
from doseledger.kinetics.priors import RegionPrior

Array = NDArray[np.float64]

#: Name of the method and of the model in tables.
POPULATION: Final = "population"
#: Nodes of the posterior; with a factor of 2 less or more the ends of an interval move by less than 1 %.
POSTERIOR_NODES: Final = 4096
#: Where several scans speak, nodes lie wider than the normal posterior by this factor.
WIDENED: Final = 1.25
#: So many effective nodes are enough; with fewer, the nodes follow the better ones, at most so often.
ENOUGH_NODES: Final = 400.0
RECENTRED: Final = 6
#: With fewer than this there is no result: what the scans say is beyond what the population does.
FEWEST_NODES: Final = 50.0
#: Share of the former spread that nodes keep when they follow.
TRACE: Final = 1e-3
#: Times at which a curve is held against the administered activity, h; its peak is flat between two of them.
PEAK_TIMES_H: Final = np.array([0.0, *np.geomspace(0.1, 168.0, 64)])
#: Two-sided 95 %.
TAILS: Final = (0.025, 0.975)


def fit_population(samples: Samples, prior: RegionPrior) -> CurveFit:
    """The posterior curve of one or more scans; none if the scans contradict all that the population does.

    The curve has the mean posterior parameters and the estimated integral. `u_tia_mbq_h` is the TIA times the width of
    the interval in ln TIA over 2 * 1.96.
    """
    if not np.any(samples.activity_mbq > 0):
        return CurveFit.without_result(POPULATION, "not_converged")
    found = _posterior(samples, prior)
    if found.effective_nodes < FEWEST_NODES:
        return CurveFit.without_result(POPULATION, "not_converged")
    ln_tia = found.ln_amplitude + np.log(found.shape.integral())
    tia = exp(_clipped(float(found.weight @ ln_tia)))
    low, high = _quantiles(ln_tia + found.ln_amplitude_sd * found.amplitude_z, found.interval_weight)
    interval = (exp(_clipped(low)), exp(_clipped(high)))
    curve = LogShape(prior.model, found.weight @ found.x, samples.decay_constant_per_h)
    amplitudes = tia / float(curve.integral()) * curve.weights
    rates = curve.rates if curve.uptake is None else np.append(curve.rates, curve.uptake)
    last_h = float(samples.times_h[-1])
    times, data, inverse_u = _weighted(samples)
    middle = LogShape(prior.model, (found.weight @ found.x)[None, None], samples.decay_constant_per_h)
    chi2 = chi2_of(middle, times[None], data[None], inverse_u[None])
    dof = samples.times_h.size - 1
    return CurveFit(
        model=POPULATION,
        parameters=(*amplitudes.tolist(), *rates.tolist()),
        parameter_names=FORMS[prior.model].parameter_names,
        covariance=found.covariance(),
        tia_mbq_h=tia,
        u_tia_mbq_h=tia * (high - low) / (2.0 * Z95),
        tia_interval_mbq_h=interval,
        effective_half_life_h=log(2.0) / float(curve.rates[0]),
        uptake_half_life_h=None if curve.uptake is None else log(2.0) / float(curve.uptake),
        extrapolated_fraction=float(curve.integral(last_h) / curve.integral()),
        rate_at_bound=False,
        aicc=None,
        # Through its only scan: anything but 0 is rounding.
        chi2=max(float(chi2[0, 0]), 0.0) if dof > 0 else 0.0,
        dof=dof,
        status=status_of(at_bound=False, rate_open=False, dof=dof),
        prior=f"{prior.radiopharmaceutical} {prior.region}",
    )


@dataclass(frozen=True, eq=False)
class _Posterior:
    """Nodes ``(m, d)`` with weights for the estimate and for the interval, and the amplitude at each."""

    x: Array
    shape: LogShape
    weight: Array
    interval_weight: Array
    ln_amplitude: Array
    ln_amplitude_sd: Array
    amplitude_z: Array

    @property
    def effective_nodes(self) -> float:
        """How many nodes of equal weight would be as good, for the estimate or the interval."""
        return float(min(1.0 / np.square(w).sum() for w in (self.weight, self.interval_weight)))

    def covariance(self) -> Array:
        """Of amplitudes and rates, to first order in the logarithms: exp(x) itself may have no variance."""
        rates = self.shape.rates if self.shape.uptake is None else np.c_[self.shape.rates, self.shape.uptake]
        ln = np.log(np.c_[np.exp(self.ln_amplitude)[:, None] * self.shape.weights, rates])
        mean = self.weight @ ln
        off = ln - mean
        own = np.zeros(ln.shape[1])
        own[: self.shape.weights.shape[1]] = 1.0
        covariance = np.einsum("m,mi,mj->ij", self.weight, off, off)
        covariance += float(self.weight @ self.ln_amplitude_sd**2) * np.outer(own, own)
        return np.asarray(covariance * np.outer(np.exp(mean), np.exp(mean)))


def _posterior(samples: Samples, prior: RegionPrior) -> _Posterior:
    centre, spread = prior.mu, _positive(prior.predictive_covariance)
    if samples.times_h.size == 1:
        # The likelihood is the same for all shapes: nodes of the prior itself.
        return _drawn(samples, prior, centre, spread)
    centre, spread = _approached(samples, prior)
    found = _drawn(samples, prior, centre, WIDENED**2 * spread)
    for _ in range(RECENTRED):
        if found.effective_nodes >= ENOUGH_NODES:
            break
        # The nodes have missed the posterior: they follow the better ones among them.
        better = np.sqrt(found.interval_weight + found.weight)
        better /= better.sum()
        centre = better @ found.x
        off = found.x - centre
        spread = _positive(np.einsum("m,mi,mj->ij", better, off, off) + TRACE * spread)
        found = _drawn(samples, prior, centre, WIDENED**2 * spread)
    return found


def _approached(samples: Samples, prior: RegionPrior) -> tuple[Array, Array]:
    """Mean and covariance of the normal distribution that is nearest to the posterior."""
    times, data, inverse_u = (values[None] for values in _weighted(samples))

    def chi2(x: Array) -> Array:
        return chi2_of(LogShape(prior.model, x, samples.decay_constant_per_h), times, data, inverse_u)

    mean, spread = prior.mu, _positive(prior.predictive_covariance)
    precision, centre = np.linalg.inv(spread), mean
    p, q = np.zeros((1, *spread.shape)), np.zeros((1, mean.size))
    # The last power again, until the nodes lie where the posterior is.
    for power in (*powers(1), 1.0, 1.0):
        p, q = Factors(centre[None], spread[None], p, q).renewed(chi2, power)
        spread = np.linalg.inv(precision + p[0])
        centre = spread @ (precision @ mean + q[0])
    return centre, np.asarray(0.5 * (spread + spread.T))


def _drawn(samples: Samples, prior: RegionPrior, centre: Array, spread: Array) -> _Posterior:
    """Nodes of a t distribution, weighted as those of the posterior."""
    times, data, inverse_u = _weighted(samples)
    size, freedom = centre.size, prior.degrees_of_freedom
    z = normal_nodes(POSTERIOR_NODES, size + 2)
    scale = np.sqrt(2.0 * gammaincinv(freedom / 2.0, uniform_nodes(POSTERIOR_NODES, size + 2)[:, size]) / freedom)
    y = z[:, :size] / scale[:, None]
    x = centre + y @ np.linalg.cholesky(spread).T
    precision = np.linalg.inv(_positive(prior.predictive_covariance))
    square = np.einsum("md,de,me->m", x - prior.mu, precision, x - prior.mu)
    ln_drawn = -0.5 * (freedom + size) * np.log1p(np.square(y).sum(axis=1) / freedom)
    shape = LogShape(prior.model, x, samples.decay_constant_per_h)
    basis = shape.at(np.broadcast_to(times, (POSTERIOR_NODES, times.size))) * inverse_u
    norm = np.square(basis).sum(axis=1)
    amplitude = basis @ data / norm
    ln = -ln_drawn
    if times.size > 1:
        ln = ln - 0.5 * np.square(data - amplitude[:, None] * basis).sum(axis=1)
    if np.isfinite(samples.most_mbq):
        ln = np.where(_largest_mbq(shape, amplitude, samples.decay_constant_per_h) <= samples.most_mbq, ln, -np.inf)
    return _Posterior(
        x=x,
        shape=shape,
        weight=_weights(ln - 0.5 * square),
        interval_weight=_weights(ln - 0.5 * (freedom + size) * np.log1p(square / freedom)),
        ln_amplitude=np.log(amplitude),
        ln_amplitude_sd=1.0 / (amplitude * np.sqrt(norm)),
        amplitude_z=z[:, size + 1],
    )


def _largest_mbq(shape: LogShape, amplitude: Array, decay_constant_per_h: float) -> Array:
    """Most that each curve ever holds, decay corrected to the injection."""
    held = shape.at(np.broadcast_to(PEAK_TIMES_H, (amplitude.size, PEAK_TIMES_H.size)))
    return np.asarray(amplitude * (held * np.exp(decay_constant_per_h * PEAK_TIMES_H)).max(axis=1))


def _weighted(samples: Samples) -> tuple[Array, Array, Array]:
    inverse_u = 1.0 / samples.u_activity_mbq
    return samples.times_h, samples.activity_mbq * inverse_u, inverse_u


def _positive(covariance: Array) -> Array:
    """The covariance with at least a trace of spread: a prior may know a parameter exactly, and nodes may coincide."""
    return np.asarray(covariance + 1e-9 * np.eye(covariance.shape[0]))


def _weights(ln: Array) -> Array:
    """Normalised; all of one node where none is possible, so that too few effective nodes are left."""
    highest = ln.max()
    weight = np.exp(ln - highest) if np.isfinite(highest) else np.eye(1, ln.size)[0]
    return np.asarray(weight / weight.sum())


def _quantiles(values: Array, weight: Array) -> tuple[float, float]:
    order = np.argsort(values)
    middle = np.cumsum(weight[order]) - 0.5 * weight[order]
    low, high = np.interp(TAILS, middle, values[order])
    return float(low), float(high)


def _clipped(exponent: float) -> float:
    return min(max(exponent, -LARGEST_EXPONENT), LARGEST_EXPONENT)
