"""A prior as the plain data that the plan hands to the jobs, and back."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from doseledger.cohort import Row
from doseledger.kinetics.priors import Covariates, PopulationPrior, RegionPrior


def prior_row(prior: PopulationPrior) -> Row:
    """Name, SHA-256 and entries."""
    return {"name": prior.name, "sha256": prior.sha256, "entries": [asdict(entry) for entry in prior.entries]}


def prior_of(row: Row) -> PopulationPrior:
    """The prior from its plain data, also when JSON has made lists of its tuples."""
    return PopulationPrior(row["name"], tuple(_entry(entry) for entry in row["entries"]), row["sha256"])


def _entry(row: Row) -> RegionPrior:
    own = {name: _frozen(value) for name, value in row.items()}
    if own["covariates"] is not None:
        own["covariates"] = Covariates(**{name: _frozen(value) for name, value in row["covariates"].items()})
    return RegionPrior(**own)


def _frozen(value: Any) -> Any:
    return tuple(_frozen(v) for v in value) if isinstance(value, list | tuple) else value
