"""Stage ``compact``: the tables of all cycles, one Parquet file per table and site.

Sites and tables one after another, and cycles in portions: what is in memory does not grow with the cohort.
"""

from __future__ import annotations

import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from doseledger import __version__
from doseledger.cohort import PATIENT_STAGE, Row, cycle_folder, patient_folder
from doseledger.io.tables import SCHEMAS, read_rows, read_small_parts, sort_keys, table, table_writer
from doseledger.steps.collect import STAGE_OF_TABLE, FinishedCycle, outcome_rows, renamed, stage_columns, whole_outcome
from doseledger.steps.lesion_names import read_lesion_names
from doseledger.steps.stage import Job, settings_sha256

STAGE_VERSION: Final[int] = 4
TAKES_REFUSED: Final = True

COURSE_TABLES: Final = ("patient", "administration", "course", "lesion")
#: Cycles whose rows are in memory at once, and in one row group of the file.
CYCLES_AT_ONCE: Final = 1000
_TABLES_OF_STAGE: Final = {
    stage: tuple(name for name, owner in STAGE_OF_TABLE.items() if owner == stage) for stage in STAGE_OF_TABLE.values()
}
#: Key of the file's metadata that says where its rows come from.
PROVENANCE: Final = b"provenance"
#: Tables whose rows name a file that reached the rows of this table and of those after it.
_NAMES_OF_FILES: Final = {"region": "weights_sha256", "organ_dose": "prior_sha256"}


@dataclass(frozen=True, slots=True)
class _Part:
    """The tables that a finished stage has written; little, for there are as many as stages of the cohort."""

    folder: Path
    stage: str
    software_version: str
    settings_sha256: str
    #: By table.
    sha256: Mapping[str, str]
    #: Names that lesions of the cycle have in the patient.
    lesion_names: Mapping[str, str]


@dataclass(frozen=True)
class _Parts:
    """What one site has: the parts of each table in order of patient and cycle, and what their settings were."""

    of_table: dict[str, list[_Part]] = field(default_factory=lambda: defaultdict(list))
    #: Versions and settings of the stages that reached a part, by their hash.
    chains: dict[str, dict[str, Any]] = field(default_factory=dict)

    def add(self, folder: Path, outcome: Row | None, tables: Iterable[str], names: Mapping[str, str]) -> None:
        """Take the tables of a stage, if it has finished and has data."""
        if outcome is None or outcome["status"] != "ok":
            return
        own = {outcome["stage"]: {"version": outcome["stage_version"], "settings": outcome["settings"]}}
        chain = dict(outcome["upstream"]) | own
        hashed = settings_sha256(chain)
        self.chains.setdefault(hashed, chain)
        files = {entry["name"]: entry["sha256"] for entry in outcome["files"]}
        sha256 = {name: files[f"{name}.parquet"] for name in tables}
        part = _Part(folder, outcome["stage"], outcome["software_version"], hashed, sha256, names)
        for name in tables:
            self.of_table[name].append(part)


def step(job: Job) -> None:
    """Take what is there, and write an outcome row for every planned cycle, whatever became of it."""
    results = Path(job.rows["results"])
    planned = sorted(tuple(row) for row in job.rows["planned"])
    for site, cycles in groupby(planned, key=lambda row: str(row[0])):
        outcomes, parts = _of_site(results, site, [row[1:] for row in cycles])
        versions = sorted({str(row["software_version"]) for row in outcomes})
        of_outcomes = {"stage": "compact", "software_version": versions, "settings": dict(sorted(parts.chains.items()))}
        _write(job.out, "stage_outcome", site, table("stage_outcome", outcomes), of_outcomes)
        files: dict[str, list[str]] = {}
        for name in (*STAGE_OF_TABLE, *COURSE_TABLES):
            if parts.of_table[name]:
                _write_parts(job.out, name, site, parts, files)
        if own := [row for row in job.rows["phantom_qc"] if row["site"] == site]:
            of_phantoms = {"stage": "compact", "software_version": [__version__], "settings": {}}
            _write(job.out, "phantom_qc", site, table("phantom_qc", own), of_phantoms)


def _of_site(results: Path, site: str, planned: Iterable[tuple[str, int, bool]]) -> tuple[list[Row], _Parts]:
    """Outcome rows of a site, and its parts."""
    outcomes: list[Row] = []
    parts = _Parts()
    for patient, cycles in groupby(planned, key=lambda row: row[0]):
        folder = patient_folder(results, site, patient) / PATIENT_STAGE
        course = whole_outcome(folder)
        names = read_lesion_names(folder)
        for _, cycle, imaged in cycles:
            if not imaged:
                outcomes.append(_not_imaged(site, patient, cycle))
                continue
            finished = FinishedCycle(site, patient, cycle, cycle_folder(results, site, patient, cycle))
            outcomes += outcome_rows(finished)
            for stage, tables in _TABLES_OF_STAGE.items():
                parts.add(finished.folder(stage), finished.outcomes.get(stage), tables, names.get(cycle, {}))
        key: Row = {"site": site, "patient": patient, "cycle": 0, "stage": PATIENT_STAGE}
        outcomes.append(key | stage_columns(folder, course))
        parts.add(folder, course, COURSE_TABLES, {})
    return outcomes, parts


def _write_parts(out: Path, name: str, site: str, parts: _Parts, files: dict[str, list[str]]) -> None:
    """Write a table of a site portion by portion; `files` are the weights and priors that have reached it."""
    named: set[str] = set()
    with table_writer(_path(out, name, site), SCHEMAS[name]) as writer:
        for portion in _portions(parts.of_table[name]):
            data = _rows(portion, name)
            if name in _NAMES_OF_FILES:
                named |= {value for value in data[_NAMES_OF_FILES[name]].unique().to_pylist() if value}
            writer.write_table(data.sort_by(sort_keys(data.schema)))
        if name in _NAMES_OF_FILES:
            files[_NAMES_OF_FILES[name]] = sorted(named)
        reached = files if name not in ("acquisition", "patient", "administration") else {}
        writer.add_key_value_metadata({PROVENANCE: json.dumps(_provenance(name, parts) | reached, sort_keys=True)})


def _portions(parts: Sequence[_Part]) -> Iterator[Sequence[_Part]]:
    for start in range(0, len(parts), CYCLES_AT_ONCE):
        yield parts[start : start + CYCLES_AT_ONCE]


def _rows(parts: Sequence[_Part], name: str) -> pa.Table:
    """Rows of the parts; lesions that only the course knows over all cycles get the patient's names."""
    tables = []
    for has_names, group in groupby(parts, key=lambda part: bool(part.lesion_names)):
        if has_names:
            tables += [table(name, renamed(read_rows(part.folder, name), part.lesion_names)) for part in group]
        else:
            tables.append(read_small_parts([part.folder / f"{name}.parquet" for part in group], name))
    return pa.concat_tables(tables)


def _provenance(name: str, parts: _Parts) -> Row:
    """Where the rows of a table come from: versions, settings, and one hash over the files of its parts."""
    own = parts.of_table[name]
    digest = hashlib.sha256()
    for part in own:
        digest.update(part.sha256[name].encode())
    return {
        "stage": own[0].stage,
        "software_version": sorted({part.software_version for part in own}),
        "settings": {hashed: parts.chains[hashed] for hashed in sorted({part.settings_sha256 for part in own})},
        "parts": len(own),
        "parts_sha256": digest.hexdigest(),
    }


def _path(out: Path, name: str, site: str) -> Path:
    folder = out / name / f"site={site}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "part-0.parquet"


def _write(out: Path, name: str, site: str, data: pa.Table, provenance: Row) -> None:
    with table_writer(_path(out, name, site), SCHEMAS[name]) as writer:
        writer.write_table(data.sort_by(sort_keys(data.schema)))
        writer.add_key_value_metadata({PROVENANCE: json.dumps(provenance, sort_keys=True)})


def _not_imaged(site: str, patient: str, cycle: int) -> Row:
    return {
        "site": site,
        "patient": patient,
        "cycle": cycle,
        "stage": "ingest",
        "status": "missing",
        "code": "not_imaged",
        "sentence": "The cycle was administered, but the scan sheet has no scans of it.",
        "software_version": __version__,
    }
