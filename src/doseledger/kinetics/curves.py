"""What a curve fit returns, and what all fits share."""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, inf, log, nan
from typing import Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from doseledger.errors import QuantityError

Status = Literal["ok", "saturated", "at_bound", "too_few_points", "not_converged"]

#: Random relative standard uncertainty of an activity that is given without one.
DEFAULT_RELATIVE_UNCERTAINTY: Final = 0.05
#: An activity without stated uncertainty is never weighted as if it were known better than this
#: share of the largest one: a zero would otherwise get infinite weight.
SMALLEST_SHARE: Final = 0.01
#: The rate counts as "at the bound" when the profile chi-square there is this close to the minimum.
BOUND_CHI2: Final = 0.01
#: Two-sided 95 % quantile of the normal distribution, and of chi-square with one degree.
Z95: Final = 1.959963984540054
CHI2_95: Final = Z95**2
#: Beyond this exponent an interval says nothing, and exp() would soon overflow.
LARGEST_EXPONENT: Final = 700.0


@dataclass(frozen=True)
class UptakePrior:
    """Half-life of the uptake phase in a population, log-normal.

    It takes part where scans are too few to select a model by AICc. The default is wide: 95 % of it
    lie between 0.35 and 18 h.

    Raises
    ------
    QuantityError
        The median or the standard deviation of the logarithm is not positive.
    """

    name: str = "uptake-default"
    half_life_h: float = 2.5
    ln_sd: float = 1.0

    def __post_init__(self) -> None:
        if not (0.0 < self.half_life_h < inf and 0.0 < self.ln_sd < inf):
            raise QuantityError("the prior is not a log-normal uptake half-life", value=(self.half_life_h, self.ln_sd))


@dataclass(frozen=True)
class CurveFit:
    """A time-activity curve and its integral.

    Attributes
    ----------
    model
        Key of the registry of models, or the single-time-point method.
    parameters, parameter_names
        Amplitudes in MBq, rates in 1/h.
    covariance
        Square, in the order of `parameters`; empty where it is not defined.
    tia_mbq_h, u_tia_mbq_h, tia_interval_mbq_h
        Time-integrated activity from mid-injection to infinity, its standard uncertainty and 95 %
        interval (log-symmetric; by profile likelihood when the rate is at its bound; by quantiles with Haenscheid's
        approximation and with the prior of a population).
    effective_half_life_h
        Of the terminal phase; for a single time point the one that the method assumes.
    uptake_half_life_h
        None if no uptake is modelled.
    extrapolated_fraction
        Share of the TIA after the last scan.
    rate_at_bound
        The data do not tell the clearance from physical decay alone.
    aicc
        Corrected Akaike criterion, None where it is not defined (n < k + 2).
    chi2, dof
        Of the activities; a prior counts as one more datum in `dof` and is not in `chi2`.
    status
        ``ok``; ``saturated`` (no degree of freedom); ``at_bound``; ``too_few_points``;
        ``not_converged`` (no activity: no result; or the rate has no upper end, as with activity in
        the first scan alone: the curve shown has the slowest clearance that fits).
    prior
        Name of the prior that took part, None if there was none.
    """

    model: str
    parameters: tuple[float, ...]
    parameter_names: tuple[str, ...]
    covariance: NDArray[np.float64]
    tia_mbq_h: float
    u_tia_mbq_h: float
    tia_interval_mbq_h: tuple[float, float]
    effective_half_life_h: float
    uptake_half_life_h: float | None
    extrapolated_fraction: float
    rate_at_bound: bool
    aicc: float | None
    chi2: float
    dof: int
    status: Status
    prior: str | None = None

    @property
    def has_curve(self) -> bool:
        return len(self.parameters) > 0

    @classmethod
    def without_result(cls, model: str, status: Status) -> CurveFit:
        """A fit that gave no curve: everything undefined but the status."""
        return cls(
            model=model,
            parameters=(),
            parameter_names=(),
            covariance=np.empty((0, 0)),
            tia_mbq_h=nan,
            u_tia_mbq_h=nan,
            tia_interval_mbq_h=(nan, nan),
            effective_half_life_h=nan,
            uptake_half_life_h=None,
            extrapolated_fraction=nan,
            rate_at_bound=False,
            aicc=None,
            chi2=nan,
            dof=0,
            status=status,
        )


#: A curve may hold so much of the administered activity: calibrations of cameras and dose calibrators are not exact.
MOST_OF_ADMINISTERED: Final = 1.10


@dataclass(frozen=True)
class Samples:
    """Checked input of a fit, in order of time.

    Attributes
    ----------
    most_mbq
        What the curve can hold at the time of injection, and with decay at any other; infinite if that is not known.
    """

    times_h: NDArray[np.float64]
    activity_mbq: NDArray[np.float64]
    u_activity_mbq: NDArray[np.float64]
    u_stated: bool
    decay_constant_per_h: float
    most_mbq: float = inf


def check_samples(
    times_h: ArrayLike,
    activity_mbq: ArrayLike,
    half_life_h: float,
    u_activity_mbq: ArrayLike | None,
    administered_mbq: float | None = None,
) -> Samples:
    """Sort and check the input of a fit.

    Raises
    ------
    QuantityError
        Shapes differ, a value is not finite, an activity or time is negative, a time is repeated,
        the half-life, an uncertainty or the administered activity is not positive.
    """
    times = np.asarray(times_h, dtype=float)
    activity = np.asarray(activity_mbq, dtype=float)
    if times.ndim != 1 or times.shape != activity.shape or times.size == 0:
        raise QuantityError("times and activities do not match", value=(times.shape, activity.shape))
    if not (np.isfinite(half_life_h) and half_life_h > 0):
        raise QuantityError("the half-life is not positive", value=half_life_h)
    if not np.all(np.isfinite(times)) or times.min() < 0:
        raise QuantityError("a time is not finite or before the injection", value=times.tolist())
    if not np.all(np.isfinite(activity)) or activity.min() < 0:
        raise QuantityError("an activity is not finite or negative", value=activity.tolist())
    if np.unique(times).size < times.size:
        raise QuantityError("two scans have the same time", value=times.tolist())
    if u_activity_mbq is None:
        u_activity = DEFAULT_RELATIVE_UNCERTAINTY * np.maximum(activity, SMALLEST_SHARE * activity.max())
    else:
        u_activity = np.broadcast_to(np.asarray(u_activity_mbq, dtype=float), times.shape)
        if not np.all(np.isfinite(u_activity)) or u_activity.min() <= 0:
            raise QuantityError("an uncertainty is not positive", value=u_activity.tolist())
    if administered_mbq is not None and not administered_mbq > 0:
        raise QuantityError("the administered activity is not positive", value=administered_mbq)
    order = np.argsort(times)
    return Samples(
        times_h=times[order],
        activity_mbq=activity[order],
        u_activity_mbq=u_activity[order],
        u_stated=u_activity_mbq is not None,
        decay_constant_per_h=log(2.0) / half_life_h,
        most_mbq=inf if administered_mbq is None else MOST_OF_ADMINISTERED * administered_mbq,
    )


def status_of(*, at_bound: bool, rate_open: bool, dof: int) -> Status:
    """The status of a fit that gave a curve."""
    if at_bound:
        return "at_bound"
    if rate_open:
        return "not_converged"
    return "saturated" if dof <= 0 else "ok"


def log_symmetric_interval(value: float, u_value: float) -> tuple[float, float]:
    """95 % interval of a positive quantity: value * exp(+-1.96 u/value)."""
    exponent = Z95 * u_value / value
    return log_interval(value, exponent, exponent)


def log_interval(value: float, down: float, up: float) -> tuple[float, float]:
    """Interval of a positive quantity from the distances of its ends in the logarithm."""
    return (
        value / exp(down) if down <= LARGEST_EXPONENT else 0.0,
        value * exp(up) if up <= LARGEST_EXPONENT else inf,
    )
