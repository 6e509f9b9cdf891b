"""Reference intervals with their own uncertainty, and values that do not fit their group."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

#: Percentiles of a reference interval.
PERCENTILES: Final = (5.0, 50.0, 95.0)
#: Patients below which nothing is a reference, and below which the 5th and 95th percentile lie beyond the data.
MIN_PATIENTS_MEDIAN: Final = 5
MIN_PATIENTS_INTERVAL: Final = 20
REPLICATES: Final = 1000
#: Of the modified z-score (Iglewicz and Hoaglin 1993).
OUTLIER_Z: Final = 3.5
#: Turns the median absolute deviation of a normal distribution into its standard deviation.
MAD_TO_SD: Final = 1.482602
#: Below this a median absolute deviation says nothing of the spread.
MIN_FOR_OUTLIERS: Final = 5


@dataclass(frozen=True)
class Percentile:
    """A percentile with its 95 % interval by bootstrap; all None where there are too few patients."""

    percent: float
    value: float | None
    low: float | None
    high: float | None


def reference_interval(
    values: ArrayLike, patients: Sequence[str], *, seed: int, replicates: int = REPLICATES
) -> tuple[Percentile, ...]:
    """Median, 5th and 95th percentile; whole patients are drawn, since cycles of one are not independent.

    In each replicate a patient counts as often as it was drawn; the percentile is the smallest value that
    at least that share of the weight does not exceed. The interval is that of the replicates' percentiles.

    Parameters
    ----------
    patients
        Label of the patient of each value.
    seed
        Of the draws: the same rows give the same interval.

    Examples
    --------
    >>> values = np.exp(0.3 * np.random.default_rng(1).standard_normal(400))
    >>> low, middle, high = reference_interval(values, [str(i) for i in range(400)], seed=1)
    >>> round(low.value, 2), round(middle.value, 2), round(high.value, 2), low.low < low.value < low.high
    (0.62, 0.98, 1.52, True)
    """
    found = np.asarray(values, dtype=float)
    number = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    n_patients = len(np.unique(number))
    order = np.argsort(found, kind="stable")
    ranked, owner = found[order], number[order]
    shares = np.array(PERCENTILES) / 100.0
    drawn = np.empty((replicates, len(shares)))
    generator = np.random.Generator(np.random.PCG64(seed))
    even = np.full(n_patients, 1.0 / n_patients) if n_patients else np.empty(0)
    usable = n_patients >= MIN_PATIENTS_MEDIAN
    for replicate in range(replicates if usable else 0):
        drawn[replicate] = _weighted(ranked, generator.multinomial(n_patients, even)[owner], shares)
    result = []
    for i, percent in enumerate(PERCENTILES):
        enough = n_patients >= (MIN_PATIENTS_MEDIAN if percent == 50.0 else MIN_PATIENTS_INTERVAL)
        if not enough:
            result.append(Percentile(percent, None, None, None))
            continue
        low, high = np.percentile(drawn[:, i], [2.5, 97.5])
        result.append(Percentile(percent, float(np.percentile(found, percent)), float(low), float(high)))
    return tuple(result)


def _weighted(
    ranked: NDArray[np.float64], weights: NDArray[np.int64], shares: NDArray[np.float64]
) -> NDArray[np.float64]:
    total = np.cumsum(weights)
    return np.asarray(ranked[np.searchsorted(total, shares * total[-1])])


def robust_z(values: ArrayLike) -> NDArray[np.float64]:
    """(ln x - median) / (1.4826 MAD) of positive values; NaN where there are too few or none differ.

    Examples
    --------
    >>> [round(z, 1) for z in robust_z([0.40, 0.42, 0.44, 0.46, 0.48, 3.2]).tolist()]
    [-1.2, -0.7, -0.2, 0.2, 0.7, 19.8]
    """
    found = np.asarray(values, dtype=float)
    if len(found) < MIN_FOR_OUTLIERS:
        return np.full(len(found), np.nan)
    logs = np.log(found)
    distance = logs - np.median(logs)
    spread = MAD_TO_SD * float(np.median(np.abs(distance)))
    return distance / spread if spread > 0 else np.full(len(found), np.nan)
