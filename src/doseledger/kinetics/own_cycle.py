"""Time-integrated activity from a single scan and the curve of the same region in another cycle of the patient."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, hypot, log
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import QuantityError
from doseledger.kinetics.curves import CurveFit, check_samples, log_symmetric_interval
from doseledger.kinetics.forms import exponentials

METHOD: Final = "own_cycle"
#: Standard deviation of ln(terminal half-life) between cycles of one patient. No published value was found; Willowson
#: 2018 (doi 10.1186/s40658-018-0232-9) finds kidney doses from the half-life of cycle 1 to deviate by 2 % on average
#: with a scan at 24 h and by 13 % with one at 4 h. With a half-life of 51 h, |l t - 1| is 0.67 and 0.95 there, and a
#: normal deviation of standard deviation s has a mean size of 0.80 s: 0.04 and 0.17, the second one with what an early
#: scan misses of the curve's form. Taken between the two: an assumption, which `doseledger protocols` tries on a cohort
#: whose patients have several imaged cycles.
BETWEEN_CYCLES_LN_SD: Final = 0.10
#: Relative step of numerical derivatives.
STEP: Final = 1e-4

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class EarlierCurve:
    """Curve of a region in another cycle of the patient, as its own scans gave it.

    Attributes
    ----------
    cycle
        Number of that cycle.
    parameter_names, parameters, covariance
        As in `CurveFit`.
    effective_half_life_h
        Of the terminal phase.
    """

    cycle: int
    parameter_names: tuple[str, ...]
    parameters: tuple[float, ...]
    covariance: Array
    effective_half_life_h: float

    @property
    def name(self) -> str:
        """
        Examples
        --------
        >>> EarlierCurve(1, ("amplitude_mbq", "rate_per_h"), (100.0, 0.0134), np.zeros((2, 2)), 51.6).name
        'cycle 1, half-life 51.6 h'
        """
        return f"cycle {self.cycle}, half-life {self.effective_half_life_h:.1f} h"


def from_other_cycle(
    time_h: float,
    activity_mbq: float,
    *,
    half_life_h: float,
    donor: EarlierCurve,
    u_activity_mbq: float | None = None,
) -> CurveFit:
    """Time-integrated activity from one activity and the form of the curve f of another cycle.

    TIA = A(t) F / f(t),  F the integral of f from mid-injection to infinity,

    so that all phases keep their half-lives and their shares. For one exponential of rate L this is
    A(t) exp(L t) / L. A trapezoid says nothing of the form: its tail is taken as one exponential.

    The relative uncertainty adds in quadrature that of the activity, that of F/f(t) by the donor's covariance, and
    that of the terminal half-life between cycles: |d ln(F/f(t)) / d ln T| times `BETWEEN_CYCLES_LN_SD`.

    Parameters
    ----------
    time_h, activity_mbq
        Of the one scan.
    donor
        The curve of the other cycle.

    Raises
    ------
    QuantityError
        Time or activity is not positive, or the donor has no curve.

    Examples
    --------
    >>> donor = EarlierCurve(1, ("amplitude_mbq", "rate_per_h"), (80.0, log(2.0) / 50.0), np.zeros((2, 2)), 50.0)
    >>> fit = from_other_cycle(50.0, 100.0, half_life_h=159.528, donor=donor)
    >>> round(fit.tia_mbq_h, 3), round(fit.effective_half_life_h, 6)
    (14426.95, 50.0)
    """
    if time_h <= 0:
        raise QuantityError("the scan is not after the injection", value=time_h)
    samples = check_samples([time_h], [activity_mbq], half_life_h, u_activity_mbq)
    if activity_mbq == 0:
        return CurveFit.without_result(METHOD, "not_converged")
    names, values, covariance = _form(donor)
    ratio = _per_activity(names, values, time_h)
    u_form_rel = _u_form_rel(names, values, covariance, time_h)
    terminal = names.index("rate_per_h")
    u_cycles_rel = abs(_slope(names, values, time_h, terminal)) * BETWEEN_CYCLES_LN_SD
    tia = activity_mbq * ratio
    u_tia = tia * hypot(u_form_rel, u_cycles_rel, float(samples.u_activity_mbq[0]) / activity_mbq)
    scale = activity_mbq / _at(names, values, time_h)
    scaled = tuple(scale * v if name.endswith("amplitude_mbq") else v for name, v in zip(names, values, strict=True))
    amplitudes, rates = exponentials(names, scaled)
    slowest = samples.decay_constant_per_h
    at_bound = values[terminal] <= slowest * (1.0 + 1e-9)
    return CurveFit(
        model=METHOD,
        parameters=scaled,
        parameter_names=names,
        covariance=np.empty((0, 0)),
        tia_mbq_h=tia,
        u_tia_mbq_h=u_tia,
        tia_interval_mbq_h=log_symmetric_interval(tia, u_tia),
        effective_half_life_h=log(2.0) / values[terminal],
        uptake_half_life_h=log(2.0) / values[-1] if names[-1] == "uptake_rate_per_h" else None,
        extrapolated_fraction=sum(a * exp(-r * time_h) / r for a, r in zip(amplitudes, rates, strict=True)) / tia,
        rate_at_bound=at_bound,
        aicc=None,
        chi2=0.0,
        dof=0,
        status="at_bound" if at_bound else "saturated",
        prior=donor.name,
    )


def _form(donor: EarlierCurve) -> tuple[tuple[str, ...], tuple[float, ...], Array]:
    """Names, values and covariance of the exponentials of the donor."""
    if not donor.parameters:
        raise QuantityError("the other cycle has no curve", value=donor.cycle)
    size = len(donor.parameters)
    covariance = donor.covariance if donor.covariance.shape == (size, size) else np.zeros((size, size))
    if exponentials(donor.parameter_names, donor.parameters)[0]:
        return donor.parameter_names, donor.parameters, covariance
    tail = np.zeros((2, 2))
    tail[1, 1] = covariance[1, 1]
    return ("amplitude_mbq", "rate_per_h"), (1.0, log(2.0) / donor.effective_half_life_h), tail


def _at(names: Sequence[str], values: Sequence[float], time_h: float) -> float:
    return sum(a * exp(-rate * time_h) for a, rate in zip(*exponentials(names, values), strict=True))


def _per_activity(names: Sequence[str], values: Sequence[float], time_h: float) -> float:
    """F / f(t), h."""
    whole = sum(a / rate for a, rate in zip(*exponentials(names, values), strict=True))
    return whole / _at(names, values, time_h)


def _slope(names: Sequence[str], values: Sequence[float], time_h: float, index: int) -> float:
    """d ln(F/f(t)) / d ln(parameter)."""
    ends = []
    for sign in (1.0, -1.0):
        moved = [v * exp(sign * STEP) if i == index else v for i, v in enumerate(values)]
        ends.append(log(_per_activity(names, moved, time_h)))
    return (ends[0] - ends[1]) / (2.0 * STEP)


def _u_form_rel(names: Sequence[str], values: Sequence[float], covariance: Array, time_h: float) -> float:
    """Relative uncertainty of F/f(t) by the donor's own fit; what has the value zero is no free parameter."""
    gradient = np.array([_slope(names, values, time_h, i) / v if v else 0.0 for i, v in enumerate(values)])
    return float(np.sqrt(max(float(gradient @ covariance @ gradient), 0.0)))
