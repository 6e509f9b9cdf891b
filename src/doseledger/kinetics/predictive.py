"""A curve from few scans and what is known of the population.

The logarithms x of the biological parameters have the prior's predictive distribution, the amplitude a flat one of its
logarithm. With one scan the shape stays that of the population:

    TIA = A(t) R(t),   R(t) = integral of g / g(t),

and the estimate A(t) exp(E[ln R(t)]) is the one of least mean square error of ln TIA. Each further scan weighs
the shapes by their likelihood. The integrals over x are sums over nodes (`nodes`).

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
#: Two-sided 95 %.
TAILS: Final = (0.025, 0.975)


def fit_population(samples: Samples, prior: RegionPrior) -> CurveFit:
    """The posterior curve of one or more scans.

    The curve has the mean posterior parameters and the estimated integral. `u_tia_mbq_h` is the TIA times the width of
    the interval in ln TIA over 2 * 1.96.
    """
    if not np.any(samples.activity_mbq > 0):
        return CurveFit.without_result(POPULATION, "not_converged")
    found = _posterior(samples, prior)
    ln_tia = found.ln_amplitude + np.log(found.shape.integral())
    tia = exp(_clipped(float(found.weight @ ln_tia)))
    low, high = _quantiles(ln_tia + found.ln_amplitude_sd * found.amplitude_z, found.interval_weight)
    interval = (exp(_clipped(low)), exp(_clipped(high)))
    curve = LogShape(prior.model, found.weight @ found.x, samples.decay_constant_per_h)
    amplitudes = tia / float(curve.integral()) * curve.weights
    rates = curve.rates if curve.uptake is None else np.append(curve.rates, curve.uptake)
    last_h = float(samples.times_h[-1])
    data, inverse_u = samples.activity_mbq / samples.u_activity_mbq, 1.0 / samples.u_activity_mbq
    chi2 = chi2_of(
        LogShape(prior.model, (found.weight @ found.x)[None, None], samples.decay_constant_per_h),
        samples.times_h[None],
        data[None],
        inverse_u[None],
    )
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
        chi2=max(float(chi2[0, 0]), 0.0),
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
    times, data, inverse_u = (
        values[None]
        for values in (samples.times_h, samples.activity_mbq / samples.u_activity_mbq, 1.0 / samples.u_activity_mbq)
    )

    def shapes(x: Array) -> LogShape:
        return LogShape(prior.model, x, samples.decay_constant_per_h)

    mean, covariance = prior.mu, _positive(prior.predictive_covariance)
    precision = np.linalg.inv(covariance)
    centre, spread, widened = mean, covariance, 1.0
    if samples.times_h.size > 1:
        widened = WIDENED
        p, q = np.zeros((1, *covariance.shape)), np.zeros((1, mean.size))
        # The last power again, until the nodes lie where the posterior is.
        for power in (*powers(1), 1.0, 1.0):
            factors = Factors(centre[None], spread[None], p, q)
            p, q = factors.renewed(lambda x: chi2_of(shapes(x), times, data, inverse_u), power)
            spread = np.linalg.inv(precision + p[0])
            centre = spread @ (precision @ mean + q[0])
    size, freedom = mean.size, prior.degrees_of_freedom
    z = normal_nodes(POSTERIOR_NODES, size + 2)
    scale = np.sqrt(2.0 * gammaincinv(freedom / 2.0, uniform_nodes(POSTERIOR_NODES, size + 2)[:, size]) / freedom)
    y = z[:, :size] / scale[:, None]
    x = centre + widened * y @ np.linalg.cholesky(spread).T
    square = np.einsum("md,de,me->m", x - mean, precision, x - mean)
    drawn = -0.5 * (freedom + size) * np.log1p(np.square(y).sum(axis=1) / freedom)
    likelihood = np.zeros(POSTERIOR_NODES)
    if samples.times_h.size > 1:
        likelihood = -0.5 * chi2_of(shapes(x[None]), times, data, inverse_u)[0]
    shape = shapes(x)
    basis = shape.at(np.broadcast_to(samples.times_h, (POSTERIOR_NODES, samples.times_h.size))) * inverse_u
    norm = np.square(basis).sum(axis=1)
    amplitude = basis @ data[0] / norm
    return _Posterior(
        x=x,
        shape=shape,
        weight=_weights(likelihood - 0.5 * square - drawn),
        interval_weight=_weights(likelihood - 0.5 * (freedom + size) * np.log1p(square / freedom) - drawn),
        ln_amplitude=np.log(amplitude),
        ln_amplitude_sd=1.0 / (amplitude * np.sqrt(norm)),
        amplitude_z=z[:, size + 1],
    )


def _positive(covariance: Array) -> Array:
    """The covariance with at least a trace of spread: a prior may know a parameter exactly."""
    return np.asarray(covariance + 1e-9 * np.eye(covariance.shape[0]))


def _weights(ln: Array) -> Array:
    weight = np.exp(ln - ln.max())
    return np.asarray(weight / weight.sum())


def _quantiles(values: Array, weight: Array) -> tuple[float, float]:
    order = np.argsort(values)
    middle = np.cumsum(weight[order]) - 0.5 * weight[order]
    low, high = np.interp(TAILS, middle, values[order])
    return float(low), float(high)


def _clipped(exponent: float) -> float:
    return min(max(exponent, -LARGEST_EXPONENT), LARGEST_EXPONENT)
