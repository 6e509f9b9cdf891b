"""Trapezoidal integration of a time-activity curve."""

from __future__ import annotations

from math import log

import numpy as np

from doseledger.kinetics.curves import CurveFit, Samples, log_symmetric_interval, status_of


def fit_trapezoid(name: str, samples: Samples, *, physical_tail: bool) -> CurveFit:
    """Straight lines between the scans, the first activity from the injection on, and a tail.

    TIA = A_1 t_1 + sum_i (A_i + A_(i+1)) (t_(i+1) - t_i) / 2 + A_n / l

    with l the rate of physical decay, or that between the last two scans if it is faster. It usually
    reads high, but is no bound: the plateau misses a fast phase before the first scan.
    """
    times, activity, u = samples.times_h, samples.activity_mbq, samples.u_activity_mbq
    if times.size < 2:
        return CurveFit.without_result(name, "too_few_points")
    slowest = samples.decay_constant_per_h
    last, before = float(activity[-1]), float(activity[-2])
    step = float(times[-1] - times[-2])
    rate, at_bound = slowest, False
    if not physical_tail and last > 0.0:
        measured = log(before / last) / step if before > 0.0 else 0.0
        rate, at_bound = max(measured, slowest), measured <= slowest
    edges = np.concatenate([[0.0], times])
    widths = np.diff(edges)
    weights = np.concatenate([[widths[0]], np.zeros(times.size - 1)])
    weights[:-1] += widths[1:] / 2.0
    weights[1:] += widths[1:] / 2.0
    gradient = weights.copy()
    gradient[-1] += 1.0 / rate
    if rate > slowest:
        # The rate of the tail moves with the last two activities.
        gradient[-1] += 1.0 / (rate**2 * step)
        gradient[-2] -= last / (before * rate**2 * step)
    tail = last / rate
    tia = float(weights @ activity) + tail
    if not tia > 0.0:
        return CurveFit.without_result(name, "not_converged")
    u_tia = float(np.linalg.norm(gradient * u))
    covariance = np.zeros((2, 2))
    covariance[0, 0] = u[-1] ** 2
    if rate > slowest:
        to_rate = np.array([1.0 / (before * step), -1.0 / (last * step)]) * u[-2:]
        covariance[1, 1] = float(to_rate @ to_rate)
        covariance[0, 1] = covariance[1, 0] = float(to_rate[1] * u[-1])
    return CurveFit(
        model=name,
        parameters=(last, rate),
        parameter_names=("last_activity_mbq", "tail_rate_per_h"),
        covariance=covariance,
        tia_mbq_h=tia,
        u_tia_mbq_h=u_tia,
        tia_interval_mbq_h=log_symmetric_interval(tia, u_tia),
        effective_half_life_h=log(2.0) / rate,
        uptake_half_life_h=None,
        extrapolated_fraction=tail / tia,
        rate_at_bound=at_bound,
        aicc=None,
        chi2=0.0,
        dof=0,
        status=status_of(at_bound=at_bound, rate_open=False, dof=0),
    )
