"""Prior files: the frozen kinetics of a population as small canonical JSON.

Numbers are written with their shortest exact form, keys are sorted, there is one line per number: the same prior
is the same file, byte for byte, and the SHA-256 of the file names it.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from doseledger.errors import DoseledgerError, InputMissingError, PriorError
from doseledger.kinetics.priors import Covariates, Matrix, PopulationPrior, RegionPrior

#: Version of the layout of a prior file.
PRIOR_SCHEMA: Final = 1

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


class _File(_Strict):
    schema_version: int
    name: str
    entries: tuple[_Entry, ...]


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


def write_prior(path: str | Path, prior: PopulationPrior) -> str:
    """Write a prior file, entries in order of radiopharmaceutical and region; return its SHA-256."""
    entries = sorted(prior.entries, key=lambda entry: (entry.radiopharmaceutical, entry.region))
    rows = [_Entry.model_validate(vars(e) | {"covariates": e.covariates and vars(e.covariates)}) for e in entries]
    content = canonical(_File(schema_version=PRIOR_SCHEMA, name=prior.name, entries=tuple(rows)))
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
