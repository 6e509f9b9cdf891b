"""What is known of a population's kinetics: log-normal biological rates per radiopharmaceutical and region.

The logarithms x of the parameters of a curve are normal between patients. The parameters are biological, free of
the physical decay constant l_phys, so that a prior serves any nuclide on the same molecule, and no rate is below
decay:

    l_1 = l_phys + exp(x_1)                       clearance_per_h: the slow, or only, clearance
    l_2 = l_1 + exp(x_2)                          fast_excess_per_h: how much faster the fast clearance is
    a_2 / a_1 = exp(x_3)                          fast_over_slow: amplitude of the fast clearance over the slow one
    m = l_2 (or l_1) + exp(x_4)                   uptake_excess_per_h: how much faster the uptake is
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import exp, isfinite, log, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import QuantityError, UnknownNameError

#: Parameters of each form of curve, in the order of a prior's mean. The keys are those of `forms.FORMS`.
PARAMETERS: Final[dict[str, tuple[str, ...]]] = {
    "mono": ("clearance_per_h",),
    "mono_uptake": ("clearance_per_h", "uptake_excess_per_h"),
    "bi": ("clearance_per_h", "fast_excess_per_h", "fast_over_slow"),
    "bi_uptake": ("clearance_per_h", "fast_excess_per_h", "fast_over_slow", "uptake_excess_per_h"),
}
#: A covariance may miss symmetry or positive eigenvalues by this share of its trace: rounding in a file.
ROUNDING: Final = 1e-9
#: A region's class is its name without side or number.
_SIDE_OR_NUMBER: Final = re.compile(r"_(left|right|\d+)$")

Matrix = tuple[tuple[float, ...], ...]
#: Covariances between cycles of a patient, patients of a site, and sites.
LevelMatrices = tuple[Matrix, Matrix, Matrix]
Array = NDArray[np.float64]


def class_of(region: str) -> str:
    """The class whose kinetics a region shares.

    Examples
    --------
    >>> class_of("kidney_left"), class_of("lesion_12"), class_of("liver")
    ('kidney', 'lesion', 'liver')
    """
    return "lesion" if region.startswith("lesion_") else _SIDE_OR_NUMBER.sub("", region)


def as_matrix(values: Array) -> Matrix:
    return tuple(tuple(float(v) for v in row) for row in values)


def as_levels(values: Sequence[Array]) -> LevelMatrices:
    """Covariances of the three levels, made exactly symmetric."""
    cycle, patient, site = (as_matrix(0.5 * (value + value.T)) for value in values)
    return cycle, patient, site


@dataclass(frozen=True)
class Covariates:
    """Linear effects on the logarithms of the parameters: x = mean + coefficients (value - centre).

    Attributes
    ----------
    coefficients
        One row per parameter, one column per name.
    centres
        Value of each covariate for which the prior's mean stands.
    """

    names: tuple[str, ...]
    coefficients: Matrix
    centres: tuple[float, ...]


@dataclass(frozen=True)
class RegionPrior:
    """Kinetics of one class of region under one radiopharmaceutical.

    Attributes
    ----------
    model, parameter_names
        A key of `PARAMETERS` and its parameters.
    mean
        Of the logarithms of the parameters.
    covariance
        Of the logarithms, for a cycle of a new patient of any site.
    mean_covariance
        How well `mean` is known.
    n_patients, n_cycles, n_sites
        What it was learnt from. The patients give the degrees of freedom of the predictive distribution.
    source
        Where it comes from.
    levels
        What `covariance` is the sum of, if it was learnt: sites that learn together start from it.

    Raises
    ------
    QuantityError
        Sizes do not match, a value is not finite, a covariance is not symmetric or has a negative eigenvalue,
        fewer than one patient, cycle or site.
    UnknownNameError
        The model is not known, or its parameters have other names.
    """

    radiopharmaceutical: str
    region: str
    model: str
    parameter_names: tuple[str, ...]
    mean: tuple[float, ...]
    covariance: Matrix
    mean_covariance: Matrix
    n_patients: int
    n_cycles: int
    n_sites: int
    source: str
    covariates: Covariates | None = None
    levels: LevelMatrices | None = None

    def __post_init__(self) -> None:
        if self.model not in PARAMETERS:
            raise UnknownNameError("the prior's model is not known", value=self.model, expected=list(PARAMETERS))
        if self.parameter_names != PARAMETERS[self.model]:
            expected = PARAMETERS[self.model]
            raise UnknownNameError(
                "the parameters are not those of the model", value=self.parameter_names, expected=expected
            )
        size = len(self.parameter_names)
        if len(self.mean) != size or not all(map(isfinite, self.mean)):
            raise QuantityError("the prior's mean is not one finite number per parameter", value=self.mean)
        for name in ("covariance", "mean_covariance"):
            check_covariance(f"the prior's {name}", getattr(self, name), size)
        for matrix in self.levels or ():
            check_covariance("the prior's covariance of a level", matrix, size)
        if min(self.n_patients, self.n_cycles, self.n_sites) < 1:
            counts = (self.n_patients, self.n_cycles, self.n_sites)
            raise QuantityError("the prior rests on nobody", value=counts)
        if self.covariates is not None:
            _check_covariates(self.covariates, size)

    @property
    def mu(self) -> Array:
        return np.array(self.mean)

    @property
    def predictive_covariance(self) -> Array:
        """Of the logarithms of a new patient's parameters, the uncertainty of the mean included."""
        return np.asarray(np.array(self.covariance) + np.array(self.mean_covariance))

    @property
    def degrees_of_freedom(self) -> int:
        """Of the predictive t distribution."""
        return max(self.n_patients - 1, 1)

    def at(self, values: Mapping[str, float]) -> RegionPrior:
        """The prior of a patient whose covariates are known; those that are not given are at their centre.

        Raises
        ------
        UnknownNameError
            The prior has no such covariate.
        """
        own = self.covariates or Covariates((), (), ())
        unknown = sorted(set(values) - set(own.names))
        if unknown:
            raise UnknownNameError("the prior has no such covariate", value=unknown, expected=own.names)
        offsets = [values.get(name, centre) - centre for name, centre in zip(own.names, own.centres, strict=True)]
        moved = self.mu + (np.array(own.coefficients) @ np.array(offsets) if own.names else 0.0)
        return replace(self, mean=tuple(moved.tolist()), covariates=None)

    def effective_half_life_h(self, half_life_h: float) -> float:
        """Median terminal half-life with a nuclide of this physical half-life.

        Examples
        --------
        >>> sd, names = ((0.09,),), ("clearance_per_h",)
        >>> prior = RegionPrior("X", "liver", "mono", names, (log(0.01),), sd, ((0.0,),), 9, 9, 1, "")
        >>> round(prior.effective_half_life_h(159.528), 3)
        48.32
        """
        return log(2.0) / (log(2.0) / half_life_h + exp(self.mean[0]))

    def effective_ln_sd(self, half_life_h: float) -> float:
        """Standard deviation of ln of the terminal half-life, to first order."""
        biological = exp(self.mean[0])
        share = biological / (log(2.0) / half_life_h + biological)
        return share * sqrt(float(self.predictive_covariance[0, 0]))


@dataclass(frozen=True)
class PopulationPrior:
    """Priors of many regions: the content of a prior file.

    Attributes
    ----------
    sha256
        Of the file that it was read from; empty if it was not.

    Raises
    ------
    QuantityError
        Two entries are of the same radiopharmaceutical and region.
    """

    name: str
    entries: tuple[RegionPrior, ...]
    sha256: str = ""

    def __post_init__(self) -> None:
        keys = [(entry.radiopharmaceutical, entry.region) for entry in self.entries]
        twice = sorted({key for key in keys if keys.count(key) > 1})
        if twice:
            raise QuantityError("the prior has two entries of one region", value=twice[0])

    def find(self, radiopharmaceutical: str, region: str) -> RegionPrior | None:
        """The entry of the region, or else of its class; None if there is neither."""
        own = {entry.region: entry for entry in self.entries if entry.radiopharmaceutical == radiopharmaceutical}
        return own.get(region) or own.get(class_of(region))


def check_covariance(what: str, matrix: Matrix, size: int) -> None:
    """Raise `QuantityError` unless the matrix is square, finite, symmetric and positive semidefinite."""
    if len(matrix) != size or any(len(row) != size for row in matrix):
        raise QuantityError(f"{what} is not square", value=matrix, expected=f"{size} x {size}")
    values = np.array(matrix, dtype=float).reshape(size, size)
    if not np.all(np.isfinite(values)):
        raise QuantityError(f"{what} is not finite", value=matrix)
    slack = ROUNDING * max(float(np.trace(values)), 0.0)
    if np.abs(values - values.T).max(initial=0.0) > slack:
        raise QuantityError(f"{what} is not symmetric", value=matrix)
    if np.linalg.eigvalsh(values).min(initial=0.0) < -slack:
        raise QuantityError(f"{what} has a negative eigenvalue", value=matrix)


def _check_covariates(own: Covariates, size: int) -> None:
    count = len(own.names)
    shape = len(own.coefficients) == size and all(len(row) == count for row in own.coefficients)
    numbers = [*own.centres, *(value for row in own.coefficients for value in row)]
    if not shape or len(own.centres) != count or len(set(own.names)) != count or not all(map(isfinite, numbers)):
        raise QuantityError("the prior's covariates do not match", value=(own.names, own.coefficients, own.centres))
