"""Two methods on the same patients, and how widely values scatter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

_Z95: Final = float(stats.norm.ppf(0.975))


@dataclass(frozen=True)
class Agreement:
    """Ratio of two methods over paired values.

    Attributes
    ----------
    ratio, ratio_low, ratio_high
        Geometric mean of b/a with its 95 % interval, from the means of patients; no interval for one patient.
    limit_low, limit_high
        Limits of agreement: 95 % of ratios lie within them; None below three patients.
    concordance
        Lin's coefficient of the values themselves; None below three patients, or where neither method varies.
    """

    n_pairs: int
    n_patients: int
    ratio: float
    ratio_low: float | None
    ratio_high: float | None
    limit_low: float | None
    limit_high: float | None
    concordance: float | None


def agreement(a: ArrayLike, b: ArrayLike, patients: Sequence[str]) -> Agreement:
    """Bland-Altman analysis of ln(b/a), with several pairs per patient, and Lin's concordance.

    Limits of agreement: exp(mean +- 1.96 sd), sd^2 the sum of the variances between and within patients by
    one-way analysis of variance (Bland and Altman 2007, doi 10.1080/10543400701329422): pairs of one patient
    are not independent.

    Raises
    ------
    ValueError
        A value is not positive and finite.

    Examples
    --------
    Every second value 10 % higher by method b, else equal:

    >>> found = agreement([1.0, 2.0, 3.0, 4.0], [1.1, 2.0, 3.3, 4.0], ["1", "2", "3", "4"])
    >>> round(found.ratio, 4), round(found.limit_low, 3), round(found.limit_high, 3), round(found.concordance, 4)
    (1.0488, 0.942, 1.168, 0.9901)
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    if not (np.isfinite(first).all() and np.isfinite(second).all() and (first > 0).all() and (second > 0).all()):
        raise ValueError("paired values are not positive and finite")
    ratios = np.log(second / first)
    number = np.unique(np.asarray(patients, dtype=str), return_inverse=True)[1]
    counts = np.bincount(number).astype(float)
    means = np.bincount(number, ratios) / counts
    n_patients = len(counts)
    centre = float(ratios.mean())
    error = float(np.std(means, ddof=1)) / sqrt(n_patients) if n_patients > 1 else None
    reach = None if error is None else float(stats.t.ppf(0.975, n_patients - 1)) * error
    sd = _total_sd(ratios, number, counts, means) if n_patients > 2 else None
    return Agreement(
        n_pairs=len(ratios),
        n_patients=n_patients,
        ratio=exp(centre),
        ratio_low=None if reach is None else exp(centre - reach),
        ratio_high=None if reach is None else exp(centre + reach),
        limit_low=None if sd is None else exp(centre - _Z95 * sd),
        limit_high=None if sd is None else exp(centre + _Z95 * sd),
        concordance=concordance(first, second) if n_patients > 2 else None,
    )


def _total_sd(
    values: NDArray[np.float64], number: NDArray[np.intp], counts: NDArray[np.float64], means: NDArray[np.float64]
) -> float:
    """Square root of the variances between and within groups, by the method of moments."""
    n, groups = len(values), len(counts)
    if n == groups:
        return float(np.std(values, ddof=1))
    within = float(np.sum((values - means[number]) ** 2)) / (n - groups)
    between = float(np.sum(counts * (means - values.mean()) ** 2)) / (groups - 1)
    size = (n - float(np.sum(counts**2)) / n) / (groups - 1)
    return sqrt(within + max((between - within) / size, 0.0))


def concordance(a: ArrayLike, b: ArrayLike) -> float | None:
    """Lin's coefficient 2 s_ab / (s_a^2 + s_b^2 + (mean a - mean b)^2), with 1/n moments (Lin 1989).

    doi 10.2307/2532051. None where both methods give one value each.

    Examples
    --------
    >>> concordance([1.0, 2.0, 3.0], [1.0, 2.0, 3.0]), round(concordance([1.0, 2.0, 3.0], [2.0, 3.0, 4.0]), 4)
    (1.0, 0.5714)
    """
    first, second = np.asarray(a, dtype=float), np.asarray(b, dtype=float)
    below = float(first.var() + second.var() + (first.mean() - second.mean()) ** 2)
    above = 2.0 * float(np.mean((first - first.mean()) * (second - second.mean())))
    return above / below if below > 0 else None


def coefficient_of_variation(values: ArrayLike) -> float | None:
    """Standard deviation over mean; None below two values.

    Examples
    --------
    >>> round(coefficient_of_variation([3.1, 3.4, 3.6, 3.9, 4.2, 4.4, 5.8]), 4)
    0.2195
    """
    found = np.asarray(values, dtype=float)
    return float(found.std(ddof=1) / found.mean()) if len(found) > 1 else None


def quartile_dispersion(values: ArrayLike) -> float | None:
    """Quartile coefficient of dispersion (Q3 - Q1)/(Q3 + Q1), quartiles by linear interpolation.

    Examples
    --------
    >>> round(quartile_dispersion([3.1, 3.4, 3.6, 3.9, 4.2, 4.4, 5.8]), 6)
    0.102564
    """
    found = np.asarray(values, dtype=float)
    if len(found) < 2:
        return None
    low, high = np.percentile(found, [25.0, 75.0])
    return float((high - low) / (high + low))
