"""Columns of the model that compares sites: what can be told apart, and what cannot."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

#: A column whose part outside the earlier ones is smaller than this share of its length is a sum of them.
_DEPENDENT_REL: Final = 1.0e-8


@dataclass(frozen=True)
class Term:
    """One level of a covariate, against the level that most rows have."""

    covariate: str
    level: str
    against: str
    n_rows: int


@dataclass(frozen=True, eq=False)
class Design:
    """Fixed part of a model, one row per value.

    Attributes
    ----------
    matrix
        ``(rows, columns)``: 1, the columns of the sites, one column per term.
    n_site_columns
        Sites less one (sum to zero), or 0 where sites are random.
    terms
        Of the last columns.
    confounded
        Covariates that vary, but not apart from the sites or from an earlier covariate: what they do is in
        the effects of the sites and cannot be taken out.
    """

    matrix: NDArray[np.float64]
    n_site_columns: int
    terms: tuple[Term, ...]
    confounded: tuple[str, ...]


def site_design(
    sites: NDArray[np.str_], covariates: Mapping[str, Sequence[str] | NDArray[np.str_]], *, random_sites: bool = False
) -> Design:
    """Intercept, sites coded to sum to zero, and covariates against their most frequent level.

    The column of site s is 1 in its own rows, -1 in those of the last site and 0 elsewhere, so that an effect
    is the difference from the plain mean of the sites. A column that the columns before it explain is left out.

    Examples
    --------
    One site scans once and the others more often: protocol and site are one thing.

    >>> sites = np.array(["A", "A", "B", "B", "C", "C"])
    >>> site_design(sites, {"protocol": ["mtp", "mtp", "mtp", "mtp", "stp", "stp"]}).confounded
    ('protocol',)
    >>> design = site_design(sites, {"protocol": ["mtp", "stp", "mtp", "mtp", "stp", "mtp"]})
    >>> design.confounded, design.terms
    ((), (Term(covariate='protocol', level='stp', against='mtp', n_rows=2),))
    """
    names = np.unique(sites)
    columns = [np.ones(len(sites))]
    if not random_sites:
        last = (sites == names[-1]).astype(float)
        columns += [(sites == name).astype(float) - last for name in names[:-1]]
    n_site_columns = len(columns) - 1
    # Random sites take no column, but a covariate that goes with them is not to be told apart from them either.
    indicators = [(sites == name).astype(float) for name in names]
    spanned = _orthonormal(indicators)
    terms: list[Term] = []
    confounded: list[str] = []
    for covariate, values in covariates.items():
        levels, counts = np.unique(np.asarray(values, dtype=str), return_counts=True)
        against = str(levels[np.argmax(counts)])
        for level, count in zip(levels, counts, strict=True):
            if level == against:
                continue
            column = (np.asarray(values, dtype=str) == level).astype(float)
            outside = column - spanned @ (spanned.T @ column)
            if np.linalg.norm(outside) <= _DEPENDENT_REL * np.linalg.norm(column):
                confounded.append(covariate)
                continue
            spanned = np.column_stack([spanned, outside / np.linalg.norm(outside)])
            columns.append(column)
            terms.append(Term(covariate, str(level), against, int(count)))
    return Design(np.column_stack(columns), n_site_columns, tuple(terms), tuple(dict.fromkeys(confounded)))


def _orthonormal(columns: Sequence[NDArray[np.float64]]) -> NDArray[np.float64]:
    """Indicators of disjoint groups are orthogonal already."""
    return np.column_stack([column / np.linalg.norm(column) for column in columns])
