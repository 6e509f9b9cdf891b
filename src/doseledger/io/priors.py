"""Files of population kinetics as small canonical JSON: frozen priors, and the summaries that sites export.

Numbers are written with their shortest exact form, keys are sorted, there is one line per number: the same prior
is the same file, byte for byte, and the SHA-256 of the file names it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from importlib.resources import files
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from doseledger import data
from doseledger.errors import DoseledgerError, InputMissingError, PriorError
from doseledger.kinetics.federation import SiteSummary
from doseledger.kinetics.priors import Covariates, LevelMatrices, Matrix, PopulationPrior, RegionPrior

#: Versions of the layouts of prior files and of summary files.
PRIOR_SCHEMA: Final = 1
SUMMARY_SCHEMA: Final = 1

_Model = TypeVar("_Model", bound=BaseModel)


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class _Covariates(_Strict):
    names: tuple[str, ...]
    coefficients: Matrix
    centres: tuple[float, ...]


class _Entry(_Strict):
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
    covariates: _Covariates | None = None
    levels: LevelMatrices | None = None


class _File(_Strict):
    schema_version: int
    name: str
    entries: tuple[_Entry, ...]


class _Summary(_Strict):
    radiopharmaceutical: str
    region: str
    site: str
    model: str
    reference_mean: tuple[float, ...]
    reference_levels: LevelMatrices
    deviation: tuple[float, ...]
    precision: Matrix
    weighted: tuple[float, ...]
    scatter: Matrix
    cycle_precision: Matrix
    cycle_squares: Matrix
    n_patients: int
    n_cycles: int


class _SummaryFile(_Strict):
    schema_version: int
    summaries: tuple[_Summary, ...]


def read_prior(path: str | Path) -> PopulationPrior:
    """Read a prior file, with the SHA-256 of its bytes.

    Raises
    ------
    InputMissingError
        The file does not exist.
    PriorError
        It is not JSON of this layout: unknown or missing keys, a number that is not finite, a covariance that is
        none, another version.
    """
    content = read_bytes(path)
    found = parsed(_File, content, path, PRIOR_SCHEMA)
    try:
        entries = tuple(RegionPrior(**_plain(entry)) for entry in found.entries)
        return PopulationPrior(found.name, entries, sha256=hashlib.sha256(content).hexdigest())
    except DoseledgerError as error:
        raise PriorError(error.what, path=path, value=error.value, expected=error.expected) from error


def default_prior() -> PopulationPrior:
    """The prior that comes with the program: published half-lives (``data/SOURCE.md``)."""
    return read_prior(str(files(data) / "kinetic_prior.json"))


def write_prior(path: str | Path, prior: PopulationPrior) -> str:
    """Write a prior file, entries in order of radiopharmaceutical and region; return its SHA-256."""
    entries = sorted(prior.entries, key=lambda entry: (entry.radiopharmaceutical, entry.region))
    rows = [_Entry.model_validate(vars(e) | {"covariates": e.covariates and vars(e.covariates)}) for e in entries]
    content = canonical(_File(schema_version=PRIOR_SCHEMA, name=prior.name, entries=tuple(rows)))
    Path(path).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def read_summaries(path: str | Path) -> tuple[SiteSummary, ...]:
    """Read a file of summaries.

    Raises
    ------
    InputMissingError, PriorError
        As for a prior file; also if a group is of fewer patients than may leave a site.
    """
    found = parsed(_SummaryFile, read_bytes(path), path, SUMMARY_SCHEMA)
    try:
        return tuple(SiteSummary(**dict(summary)) for summary in found.summaries)
    except DoseledgerError as error:
        raise PriorError(error.what, path=path, value=error.value, expected=error.expected) from error


def write_summaries(path: str | Path, summaries: Iterable[SiteSummary]) -> str:
    """Write summaries in order of radiopharmaceutical, region and site; return the file's SHA-256."""
    ordered = sorted(summaries, key=lambda s: (s.radiopharmaceutical, s.region, s.site))
    rows = tuple(_Summary.model_validate(vars(summary)) for summary in ordered)
    content = canonical(_SummaryFile(schema_version=SUMMARY_SCHEMA, summaries=rows))
    Path(path).write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def canonical(model: BaseModel) -> bytes:
    """The model as JSON of one form only; what is None is left out."""
    plain = model.model_dump(mode="json", exclude_none=True)
    return (json.dumps(plain, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()


def read_bytes(path: str | Path) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputMissingError("the prior file cannot be read", path=path, value=error.strerror) from error


def parsed(model: type[_Model], content: bytes, path: str | Path, schema: int) -> _Model:
    """JSON as a model; a `PriorError` says what is wrong with the first value that does not fit.

    The version is looked at first: a file of a later version has keys that this one does not know.
    """
    try:
        plain: Any = json.loads(content)
    except ValueError as error:
        raise PriorError("the prior file is not JSON", path=path, value=str(error)) from error
    version = plain.get("schema_version") if isinstance(plain, dict) else None
    if version != schema:
        raise PriorError(
            "the prior file is of another version", path=path, tag="schema_version", value=version, expected=schema
        )
    try:
        return model.model_validate_json(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise PriorError(
            f"the prior file does not fit its layout: {first['msg'].lower()}",
            path=path,
            tag=where,
            value=None if first["type"] == "missing" else first["input"],
        ) from error


def _plain(entry: _Entry) -> dict[str, Any]:
    own = {name: getattr(entry, name) for name in type(entry).model_fields}
    covariates = entry.covariates
    return own | {"covariates": None if covariates is None else Covariates(**dict(covariates))}
