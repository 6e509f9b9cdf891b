"""How many patients a difference between sites needs, and how likely a given number finds it."""

from __future__ import annotations

from math import log, sqrt
from typing import Final

from scipy.stats import norm

#: What the power on every page refers to: a calibrator that is off by as much as published ones are.
TYPICAL_EFFECT_REL: Final = 0.08
ALPHA: Final = 0.05
POWER: Final = 0.80


def patients_per_site(
    effect_rel: float, sd_ln: float, *, n_sites: int, power: float = POWER, alpha: float = ALPHA
) -> float:
    """Patients of each site, one value each, with which a site is found that differs from the mean of the others.

    n = (1 + 1/(S-1)) (z_(1-alpha/2) + z_power)^2 sd^2 / ln(1 + e)^2, two-sided, without correction for the
    number of sites.

    Examples
    --------
    +8 % at one of six sites, with sd(ln) of 0.25 and 0.35:

    >>> round(patients_per_site(0.08, 0.25, n_sites=6)), round(patients_per_site(0.08, 0.35, n_sites=6))
    (99, 195)
    """
    reach = float(norm.ppf(1.0 - alpha / 2.0) + norm.ppf(power))
    return (1.0 + 1.0 / (n_sites - 1)) * (reach * sd_ln / log(1.0 + effect_rel)) ** 2


def detection_power(effect_rel: float, sd_ln: float, n_patients: float, *, n_sites: int, alpha: float = ALPHA) -> float:
    """Chance that a site with `n_patients` and this effect is found among `n_sites` of the same size.

    Two-sided normal test at `alpha`; for the first step of Holm's correction give alpha / S.

    Parameters
    ----------
    sd_ln
        Of a patient's mean: the scatter between patients and, over the number of cycles, that of cycles.

    Examples
    --------
    >>> round(detection_power(0.08, 0.25, 99, n_sites=6), 3)
    0.798
    >>> round(detection_power(0.08, 0.25, 99, n_sites=6, alpha=0.05 / 6), 3)
    0.563
    """
    shift = abs(log(1.0 + effect_rel)) * sqrt(n_patients / (1.0 + 1.0 / (n_sites - 1))) / sd_ln
    reach = float(norm.ppf(1.0 - alpha / 2.0))
    return float(norm.sf(reach - shift) + norm.cdf(-reach - shift))
