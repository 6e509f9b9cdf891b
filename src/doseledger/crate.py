"""A finished cohort as a Workflow Run RO-Crate: what was computed, by what, from what.

The crate has the tables, the workflow and the settings. Of the input it has hashes alone: sheets and images name
paths, dates and identifiers of a hospital and stay there. It holds no time of its own, so that the same cohort
gives the same crate; the date of publication is that of the newest table, unless another one is given.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from io import StringIO
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from rocrate.model.contextentity import ContextEntity
from rocrate.rocrate import ROCrate

from doseledger import __version__
from doseledger.cohort import COHORT_FOLDERS, CYCLE_STAGES, PATIENT_STAGE, Plan, Row, stage_version
from doseledger.errors import ForeignResultsError, InputMissingError
from doseledger.io.tables import SCHEMAS
from doseledger.steps.collect import STAGE_OF_TABLE
from doseledger.steps.compact import COURSE_TABLES, PROVENANCE
from doseledger.steps.stage import file_sha256, read_outcome

PROFILES: Final = {
    "https://w3id.org/ro/wfrun/process/0.5": ("Process Run Crate", "0.5"),
    "https://w3id.org/ro/wfrun/workflow/0.5": ("Workflow Run Crate", "0.5"),
    "https://w3id.org/workflowhub/workflow-ro-crate/1.0": ("Workflow RO-Crate", "1.0"),
}
CODE_LICENCE: Final = "https://spdx.org/licenses/Apache-2.0"
#: What may be done with the tables, the site says; without a word of it, nothing.
NO_LICENCE: Final = "#no-licence"
#: Packages whose version a number may depend on.
PACKAGES: Final = (
    "icrp107-database",
    "numba",
    "numpy",
    "pyarrow",
    "pydicom",
    "scipy",
    "SimpleITK",
    "snakemake",
    "torch",
)
WORKFLOW: Final = "workflow/Snakefile"
_COMPLETED: Final = "http://schema.org/CompletedActionStatus"


def write_crate(
    plan: Plan, source: Path, out: Path, *, licence: str | None = None, published: str | None = None
) -> int:
    """Write the crate of a finished cohort to `out` and return the number of its tables.

    Parameters
    ----------
    source
        Root of the repository, whose workflow was run.
    licence
        Address of the licence of the tables; without it the crate says that none is granted.
    published
        Date (ISO 8601) instead of that of the newest table.

    Raises
    ------
    InputMissingError
        The cohort has no tables yet.
    ForeignResultsError
        `out` is not empty.
    """
    tables = plan.results / COHORT_FOLDERS[0]
    paths = sorted(tables.rglob("*.parquet"))
    if not paths:
        raise InputMissingError(
            "the cohort has no tables yet", path=tables, remedy="Run the cohort first (`doseledger run CONFIG`)."
        )
    if out.exists() and any(out.iterdir()):
        raise ForeignResultsError("the folder of the crate is not empty", path=out, remedy="Give a new folder.")
    read_outcome(tables, hashes=True)
    crate = ROCrate(version="1.1")
    _describe(crate, plan, paths, licence, published)
    workflow = _workflow(crate, source)
    settings = _settings(crate, plan)
    inputs = [_input(crate, path) for path in paths if _table_of(path) == "acquisition"]
    files = {path: _table(crate, path, tables) for path in paths}
    software = _software(crate)
    workflow["softwareRequirements"] = software
    run = _action(crate, "#run", f"Run of the cohort {plan.cohort}", workflow, [settings, *inputs], files.values())
    rules = [_rule_action(crate, stage, [settings, *inputs], files, software[0]) for stage in _stages(files)]
    crate.root_dataset["mentions"] = [run, *rules]
    crate.write(out)
    return len(paths)


def _describe(crate: ROCrate, plan: Plan, paths: list[Path], licence: str | None, published: str | None) -> None:
    newest = max(path.stat().st_mtime for path in paths)
    crate.name = f"Organ and lesion absorbed doses of the cohort {plan.cohort}"
    crate.description = (
        f"Tables of the cohort {plan.cohort} (data origin: {plan.data_origin}) by doseledger {__version__}. "
        "Research software; not a medical device."
    )
    crate.root_dataset["datePublished"] = published or datetime.fromtimestamp(newest, UTC).date().isoformat()
    none = {"name": "No licence granted", "description": "Ask the sites before any use of the tables."}
    words = {"name": licence, "description": "Licence of the tables"} if licence else none
    crate.root_dataset["license"] = _entity(crate, licence or NO_LICENCE, "CreativeWork", **words)
    crate.root_dataset["conformsTo"] = [
        _entity(crate, address, "CreativeWork", name=name, version=number)
        for address, (name, number) in PROFILES.items()
    ]


def _workflow(crate: ROCrate, source: Path) -> Any:
    _entity(crate, CODE_LICENCE, "CreativeWork", name="Apache License 2.0", description="Licence of the workflow")
    workflow = crate.add_workflow(
        source / WORKFLOW,
        WORKFLOW,
        main=True,
        lang="snakemake",
        lang_version=version("snakemake"),
        properties={"name": "doseledger", "version": __version__, "license": {"@id": CODE_LICENCE}},
    )
    rules = [
        crate.add_file(
            rule, f"workflow/rules/{rule.name}", properties=_of_file(rule, f"Rule {rule.stem}", "text/plain")
        )
        for rule in sorted((source / "workflow" / "rules").glob("*.smk"))
    ]
    workflow["hasPart"] = rules
    return workflow


def _settings(crate: ROCrate, plan: Plan) -> Any:
    text = json.dumps(_without_paths(plan.settings), indent=1, sort_keys=True) + "\n"
    described = {"name": "Settings of all stages", "encodingFormat": "application/json", "sha256": _sha256(text)}
    return crate.add_file(StringIO(text), "settings.json", properties=described)


def _without_paths(value: Any) -> Any:
    """Settings with the names of files in place of their paths on this machine."""
    if isinstance(value, dict):
        return {k: _without_paths(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_without_paths(v) for v in value]
    return Path(value).name if isinstance(value, str) and ("/" in value or "\\" in value) else value


def _input(crate: ROCrate, path: Path) -> Any:
    """The images of a site, by one hash over those of their decoded voxels, which the table has one by one."""
    site = path.parent.name.partition("=")[2]
    rows = pq.read_table(path, columns=["spect_sha256", "ct_sha256"], partitioning=None).to_pylist()
    found = sorted(str(value) for row in rows for value in row.values() if value)
    return _entity(
        crate,
        f"#input-{site}",
        "PropertyValue",
        name=f"SHA-256 over the sorted SHA-256 of the {len(found)} decoded images of site {site}",
        propertyID="sha256",
        value=_sha256("\n".join(found)),
    )


def _table(crate: ROCrate, path: Path, tables: Path) -> Any:
    name = _table_of(path)
    row = SCHEMAS[name].metadata[b"row"].decode()
    properties = _of_file(path, f"Table {name}, {path.parent.name}", "application/vnd.apache.parquet")
    properties["description"] = f"One row per {row}"
    metadata = pq.read_metadata(path).metadata
    if PROVENANCE in metadata:
        known = json.loads(metadata[PROVENANCE])
        hashes = {"settings_sha256": known["settings"]}
        hashes |= {kind: known.get(kind, []) for kind in ("weights_sha256", "prior_sha256")}
        properties["softwareVersion"] = _plain(known["software_version"])
        properties["identifier"] = _plain([f"{kind}:{value}" for kind, found in hashes.items() for value in found])
    return crate.add_file(path, path.relative_to(tables.parent).as_posix(), properties=properties)


def _plain(values: list[str]) -> list[str] | str:
    """One value stands alone."""
    return values[0] if len(values) == 1 else values


def _software(crate: ROCrate) -> list[Any]:
    """doseledger first, then the packages of the environment that writes the crate."""
    own = _entity(
        crate,
        "#doseledger",
        "SoftwareApplication",
        name="doseledger",
        softwareVersion=__version__,
        license={"@id": CODE_LICENCE},
    )
    versions = {name: _version(name) for name in PACKAGES}
    return [
        own,
        *(
            _entity(crate, f"#package-{name}", "SoftwareApplication", name=name, softwareVersion=number)
            for name, number in versions.items()
            if number is not None
        ),
    ]


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _stages(files: dict[Path, Any]) -> list[str]:
    """Stages that have written a table, in order of flow."""
    of_table = {**STAGE_OF_TABLE, **dict.fromkeys(COURSE_TABLES, PATIENT_STAGE)}
    found = {of_table[_table_of(path)] for path in files if _table_of(path) in of_table}
    return [stage for stage in (*CYCLE_STAGES, PATIENT_STAGE) if stage in found]


def _rule_action(crate: ROCrate, stage: str, inputs: list[Any], files: dict[Path, Any], own: Any) -> Any:
    """All jobs of a rule as one action: a cohort has thousands, and the tables list their outcomes."""
    tables = {*COURSE_TABLES} if stage == PATIENT_STAGE else {t for t, s in STAGE_OF_TABLE.items() if s == stage}
    number = str(stage_version(stage))
    tool = _entity(crate, f"#rule-{stage}", "SoftwareApplication", name=f"doseledger stage {stage}", version=number)
    tool["isPartOf"] = own
    results = [entity for path, entity in files.items() if _table_of(path) in tables]
    return _action(crate, f"#run-{stage}", f"All jobs of the rule {stage}", tool, inputs, results)


def _action(crate: ROCrate, key: str, name: str, instrument: Any, inputs: Iterable[Any], results: Iterable[Any]) -> Any:
    action = _entity(crate, key, "CreateAction", name=name, actionStatus=_COMPLETED)
    action["instrument"] = instrument
    action["object"] = list(inputs)
    action["result"] = list(results)
    return action


def _entity(crate: ROCrate, key: str, kind: str, **properties: Any) -> Any:
    return crate.add(ContextEntity(crate, key, properties={"@type": kind} | properties))


def _of_file(path: Path, name: str, media_type: str) -> Row:
    size = path.stat().st_size
    return {"name": name, "encodingFormat": media_type, "contentSize": str(size), "sha256": file_sha256(path)}


def _table_of(path: Path) -> str:
    return path.parents[1].name


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
