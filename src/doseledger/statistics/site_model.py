"""Sites against each other: a linear mixed model of one radiopharmaceutical and region.

    ln(dose/activity) = site + cycle + preparation + protocol + ... + patient + rest

Sites are fixed and sum to zero below ten, random from ten on; the patient is random. Variance components by
restricted maximum likelihood (statsmodels); equal to lme4 within the tolerance of tests/oracle/test_lme4.py.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import sqrt
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from doseledger.statistics.mixed_model import patient_variances, site_variances, weighted
from doseledger.statistics.multiple import holm
from doseledger.statistics.site_design import Design, Term, site_design

Status = Literal["fitted", "too_few", "no_variation", "not_converged"]

#: From so many sites on they are a sample of sites and not each a question of its own.
RANDOM_FROM_SITES: Final = 10
#: Patients below which a site is not compared: its mean says little, and its spread nothing.
MIN_PATIENTS: Final = 5
_MIN_SITES: Final = 2
ALPHA: Final = 0.05
#: Spread of ln values below which all values are one.
_NO_SPREAD: Final = 1.0e-9


@dataclass(frozen=True)
class SiteEffect:
    """Difference of a site from the mean of the sites, on the scale of the values (ln: a relative difference).

    `p_holm` is corrected for the number of sites; None where sites are random (`effect` is then shrunk).
    `stands_out`: a site far off moves the mean of the sites and so the effects of all others. Where `p_holm` is below
    `ALPHA`, the site that differs most is left out and the rest are tested again, until none differs: these
    sites stand out, and `step` is their effect at that test. Of two sites both do. Random ones do if their interval
    leaves zero out.
    """

    site: str
    n_rows: int
    n_patients: int
    effect: float
    se: float
    low: float
    high: float
    p: float | None
    p_holm: float | None
    stands_out: bool = False
    step: SiteEffect | None = None


@dataclass(frozen=True)
class CovariateEffect:
    term: Term
    effect: float
    se: float
    low: float
    high: float
    p: float


@dataclass(frozen=True)
class SiteComparison:
    """What the model says, or why there is none.

    Attributes
    ----------
    left_out
        Sites with fewer than `MIN_PATIENTS` patients.
    confounded
        Covariates whose effect cannot be told from that of the sites.
    sd_site, sd_patient, sd_rest
        Standard deviations of the random parts; `sd_site` only where sites are random, `sd_patient` only where
        a patient has more than one value.
    dof
        Patients less fixed parameters, for tests and intervals by Student's t.
    """

    status: Status
    sites_are: Literal["fixed", "random"]
    n_rows: int
    n_patients: int
    left_out: tuple[str, ...] = ()
    effects: tuple[SiteEffect, ...] = ()
    covariates: tuple[CovariateEffect, ...] = ()
    confounded: tuple[str, ...] = ()
    sd_site: float | None = None
    sd_patient: float | None = None
    sd_rest: float | None = None
    dof: int | None = None

    @property
    def sd_total(self) -> float | None:
        """Of one value around the mean of its site."""
        return None if self.sd_rest is None else sqrt((self.sd_patient or 0.0) ** 2 + self.sd_rest**2)


@dataclass(frozen=True, eq=False)
class _Values:
    y: NDArray[np.float64]
    sites: NDArray[np.str_]
    #: Number of the patient of each row, from 0.
    patients: NDArray[np.intp]
    covariates: Mapping[str, NDArray[np.str_]]


def compare_sites(
    values: ArrayLike,
    sites: Sequence[str],
    patients: Sequence[str],
    covariates: Mapping[str, Sequence[str]] | None = None,
    *,
    min_patients: int = MIN_PATIENTS,
) -> SiteComparison:
    """Fit y = X b + (1|patient) with sites fixed (sum to zero), or (1|site) too from ten sites on.

    The covariance of b is (X' V^-1 X)^-1 with V of the restricted likelihood's variance components; tests and
    95 % intervals use Student's t with the number of patients less that of fixed parameters; Holm's correction
    runs over the sites.

    Parameters
    ----------
    values
        One per row, e.g. ln(Gy/GBq).
    patients
        Labels that are unique over all sites or within one: site and label together name the patient.
    covariates
        Levels by name, in the order in which they are believed: an earlier one takes what two share.

    Returns
    -------
    SiteComparison
        With status ``too_few`` unless two sites have `min_patients` patients.

    Raises
    ------
    ValueError
        A value is not finite: a defect of the caller, who takes logarithms.

    Examples
    --------
    Site B reads 20 % higher (ln 1.2 = 0.182); of two sites each is half of that from their mean:

    >>> y = [0.00, 0.02, 0.30, 0.32, -0.30, -0.32, 0.18, 0.20, 0.48, 0.50, -0.12, -0.14]
    >>> who = ["1", "1", "2", "2", "3", "3"] * 2
    >>> found = compare_sites(y, ["A"] * 6 + ["B"] * 6, who, min_patients=3)
    >>> [(e.site, e.n_patients, round(e.effect, 3)) for e in found.effects], found.status
    ([('A', 3, -0.09), ('B', 3, 0.09)], 'fitted')
    """
    y = np.asarray(values, dtype=float)
    if not np.isfinite(y).all():
        raise ValueError("values of a comparison are not finite")
    site = np.asarray(sites, dtype=str)
    who = np.char.add(np.char.add(site, "\t"), np.asarray(patients, dtype=str))
    counts = {str(name): len(np.unique(who[site == name])) for name in np.unique(site)}
    left_out = tuple(name for name, count in counts.items() if count < min_patients)
    kept = ~np.isin(site, left_out)
    number = np.unique(who[kept], return_inverse=True)[1]
    chosen = {name: np.asarray(levels, dtype=str)[kept] for name, levels in (covariates or {}).items()}
    data = _Values(y[kept], site[kept], number, chosen)
    n_sites = len(counts) - len(left_out)
    sites_are: Literal["fixed", "random"] = "random" if n_sites >= RANDOM_FROM_SITES else "fixed"
    empty = SiteComparison("too_few", sites_are, len(data.y), len(np.unique(number)), left_out)
    if n_sites < _MIN_SITES:
        return empty
    design = site_design(data.sites, data.covariates, random_sites=sites_are == "random")
    dof = empty.n_patients - design.matrix.shape[1]
    if dof < 1:
        return empty
    if np.ptp(data.y) < _NO_SPREAD:
        return replace(empty, status="no_variation")
    fitted = _fit_random(data, design, dof) if sites_are == "random" else _fit_fixed(data, design, dof)
    return replace(empty, **fitted, confounded=design.confounded)


def _fit_fixed(data: _Values, design: Design, dof: int) -> dict[str, Any]:
    repeated = len(data.y) > data.patients.max() + 1
    ratio = 0.0
    if repeated:
        variances = patient_variances(data.y, design.matrix, data.patients)
        if variances is None:
            return {"status": "not_converged"}
        ratio = variances.patient / variances.rest
    effects, estimate, covariance, scale = _fixed_effects(data, design, ratio, dof)
    steps = _outstanding(data, effects, ratio)
    return {
        "status": "fitted",
        "effects": tuple(replace(e, stands_out=e.site in steps, step=steps.get(e.site)) for e in effects),
        "covariates": _covariate_effects(design, estimate, covariance, dof),
        "sd_patient": sqrt(ratio * scale) if repeated else None,
        "sd_rest": sqrt(scale),
        "dof": dof,
    }


def _fixed_effects(
    data: _Values, design: Design, ratio: float, dof: int
) -> tuple[tuple[SiteEffect, ...], NDArray[np.float64], NDArray[np.float64], float]:
    """Effects of the sites, estimates of the terms with their covariance, and the variance of the rest."""
    estimate, covariance, scale = weighted(data.y, design.matrix, data.patients, ratio)
    last = design.n_site_columns + 1
    # The last site is what the others leave of zero.
    to_sites = np.vstack([np.eye(design.n_site_columns), -np.ones(design.n_site_columns)])
    effects = to_sites @ estimate[1:last]
    errors = np.sqrt(np.diag(to_sites @ covariance[1:last, 1:last] @ to_sites.T))
    p = 2.0 * stats.t.sf(np.abs(effects / errors), dof)
    found = _site_effects(data, effects, errors, dof, p, holm(p))
    return found, estimate[last:], covariance[last:, last:], scale


def _outstanding(data: _Values, effects: tuple[SiteEffect, ...], ratio: float) -> dict[str, SiteEffect]:
    """Sites that differ, the farthest first, each tested without those before it; the variances are kept."""
    found: dict[str, SiteEffect] = {}
    while significant := [e for e in effects if e.p_holm is not None and e.p_holm < ALPHA]:
        if len(effects) == _MIN_SITES:
            return found | {e.site: e for e in effects}
        farthest = max(significant, key=lambda e: abs(e.effect / e.se))
        found[farthest.site] = farthest
        kept = ~np.isin(data.sites, sorted(found))
        levels = {name: values[kept] for name, values in data.covariates.items()}
        number = np.unique(data.patients[kept], return_inverse=True)[1]
        rest = _Values(data.y[kept], data.sites[kept], number, levels)
        design = site_design(rest.sites, rest.covariates)
        dof = int(number.max()) + 1 - design.matrix.shape[1]
        if dof < 1:
            break
        effects = _fixed_effects(rest, design, ratio, dof)[0]
    return found


def _fit_random(data: _Values, design: Design, dof: int) -> dict[str, Any]:
    sites = np.unique(data.sites, return_inverse=True)[1]
    found = site_variances(data.y, design.matrix, sites, data.patients)
    if found is None or found.modes is None or found.modes_sd is None:
        return {"status": "not_converged"}
    # Not the library's own covariance: that is of all parameters together and 0.3 % larger.
    ratios = found.patient / found.rest, found.site / found.rest
    fixed, covariance, _ = weighted(data.y, design.matrix, data.patients, ratios[0], sites, ratios[1])
    effects = _site_effects(data, found.modes, found.modes_sd, dof, None, None)
    repeated = len(data.y) > data.patients.max() + 1
    return {
        "status": "fitted",
        "effects": tuple(replace(e, stands_out=e.low > 0 or e.high < 0) for e in effects),
        "covariates": _covariate_effects(design, fixed[1:], covariance[1:, 1:], dof),
        "sd_site": sqrt(found.site),
        "sd_patient": sqrt(found.patient) if repeated else None,
        "sd_rest": sqrt(found.rest),
        "dof": dof,
    }


def _site_effects(
    data: _Values,
    effects: NDArray[np.float64],
    errors: NDArray[np.float64],
    dof: int,
    p: NDArray[np.float64] | None,
    p_holm: NDArray[np.float64] | None,
) -> tuple[SiteEffect, ...]:
    reach = float(stats.t.ppf(0.975, dof))
    found = []
    for i, name in enumerate(np.unique(data.sites)):
        here = data.sites == name
        found.append(
            SiteEffect(
                site=str(name),
                n_rows=int(here.sum()),
                n_patients=len(np.unique(data.patients[here])),
                effect=float(effects[i]),
                se=float(errors[i]),
                low=float(effects[i] - reach * errors[i]),
                high=float(effects[i] + reach * errors[i]),
                p=None if p is None else float(p[i]),
                p_holm=None if p_holm is None else float(p_holm[i]),
            )
        )
    return tuple(found)


def _covariate_effects(
    design: Design, estimate: NDArray[np.float64], covariance: NDArray[np.float64], dof: int
) -> tuple[CovariateEffect, ...]:
    errors = np.sqrt(np.diag(covariance))
    reach = float(stats.t.ppf(0.975, dof))
    return tuple(
        CovariateEffect(
            term=term,
            effect=float(value),
            se=float(error),
            low=float(value - reach * error),
            high=float(value + reach * error),
            p=float(2.0 * stats.t.sf(abs(value / error), dof)),
        )
        for term, value, error in zip(design.terms, estimate, errors, strict=True)
    )
