"""Random intercepts of patients, and of sites, by statsmodels; the rest of the model in closed form."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from statsmodels.regression.mixed_linear_model import MixedLM, VCSpec

#: Optimisers in the order in which they are tried.
_METHODS: Final = (("bfgs", "lbfgs", "cg"), ("powell",))

Vector = NDArray[np.float64]
Matrix = NDArray[np.float64]
Groups = NDArray[np.intp]


@dataclass(frozen=True, eq=False)
class Variances:
    """Variances of the random parts; of sites also what is thought of each, with its standard deviation.

    `modes` are in the order of the sites' numbers.
    """

    rest: float
    patient: float
    site: float = 0.0
    modes: Vector | None = None
    modes_sd: Vector | None = None


def patient_variances(y: Vector, x: Matrix, patients: Groups) -> Variances | None:
    """y = X b + (1|patient) by restricted maximum likelihood; None if no optimiser arrives."""
    result = _maximised(MixedLM(y, x, groups=patients))
    if result is None:
        return None
    return Variances(rest=float(result.scale), patient=float(np.asarray(result.cov_re)[0, 0]))


def site_variances(y: Vector, x: Matrix, sites: Groups, patients: Groups) -> Variances | None:
    """y = X b + (1|site) + (1|patient), patients within sites; None if no optimiser arrives.

    Parameters
    ----------
    sites, patients
        Numbers from 0 of each row's site and patient.
    """
    order = np.argsort(sites, kind="stable")
    site, patient = sites[order], patients[order]
    indicators, labels = [], []
    for number in range(int(site.max()) + 1):
        here = patient[site == number]
        own = np.unique(here)
        indicators.append((here[:, None] == own).astype(float))
        labels.append([str(name) for name in own])
    repeated = len(y) > len(np.unique(patient))
    model = MixedLM(
        y[order],
        x[order],
        groups=site,
        exog_re=np.ones((len(site), 1)),
        exog_vc=VCSpec(["patient"], [labels], [indicators]) if repeated else None,
    )
    result = _maximised(model)
    if result is None:
        return None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        modes, spreads = result.random_effects, result.random_effects_cov
    numbers = range(int(site.max()) + 1)
    return Variances(
        rest=float(result.scale),
        patient=float(result.vcomp[0]) if repeated else 0.0,
        site=max(float(np.asarray(result.cov_re)[0, 0]), 0.0),
        modes=np.array([float(np.asarray(modes[n])[0]) for n in numbers]),
        modes_sd=np.sqrt(np.maximum([np.asarray(spreads[n])[0, 0] for n in numbers], 0.0)),
    )


def weighted(
    y: Vector, x: Matrix, patients: Groups, patient_ratio: float, sites: Groups | None = None, site_ratio: float = 0.0
) -> tuple[Vector, Matrix, float]:
    """Generalised least squares: estimate, its covariance and the variance of the rest.

    V = scale (I + patient_ratio 11' within patients + site_ratio 11' within sites). Its inverse needs sums alone:
    (I + r 11')^-1 = I - r/(1 + n r) 11', and the same once more for the sites (Woodbury).

    Examples
    --------
    Without scatter between patients these are ordinary least squares:

    >>> y, x = np.array([1.0, 2.0, 4.0]), np.ones((3, 1))
    >>> estimate, covariance, scale = weighted(y, x, np.array([0, 1, 1]), 0.0)
    >>> round(float(estimate[0]), 4), round(scale, 4)
    (2.3333, 2.3333)
    """
    n = np.bincount(patients).astype(float)
    both = np.column_stack([x, y])
    sums = np.zeros((len(n), both.shape[1]))
    np.add.at(sums, patients, both)
    cross = both.T @ both - sums.T @ ((patient_ratio / (1.0 + n * patient_ratio))[:, None] * sums)
    if sites is not None and site_ratio > 0:
        weight = 1.0 / (1.0 + n[patients] * patient_ratio)
        of_site = np.zeros((int(sites.max()) + 1, both.shape[1]))
        np.add.at(of_site, sites, weight[:, None] * both)
        total = np.bincount(sites, weight)
        cross -= of_site.T @ ((site_ratio / (1.0 + total * site_ratio))[:, None] * of_site)
    columns = x.shape[1]
    inverse = np.linalg.inv(cross[:columns, :columns])
    estimate = inverse @ cross[:columns, columns]
    rest = float(cross[columns, columns] - cross[:columns, columns] @ estimate)
    scale = rest / (len(y) - columns)
    return estimate, inverse * scale, scale


def _maximised(model: MixedLM) -> Any:
    """Restricted maximum likelihood, by another optimiser where the first does not arrive; None if none does."""
    for method in _METHODS:
        # A variance of zero is a result here; what did not converge is asked for below.
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                result = model.fit(reml=True, method=list(method))
            except np.linalg.LinAlgError:
                continue
        if result.converged and np.isfinite(result.scale):
            return result
    return None
