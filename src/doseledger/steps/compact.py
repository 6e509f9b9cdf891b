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
from doseledger.io.tables import SCHEMAS, read_rows, read_small_parts, sort_keys, table, table_writer, write_table
from doseledger.steps.collect import STAGE_OF_TABLE, FinishedCycle, outcome_rows, renamed, stage_columns, whole_outcome
from doseledger.steps.lesion_names import read_lesion_names
from doseledger.steps.stage import Job, settings_sha256

STAGE_VERSION: Final[int] = 4
TAKES_REFUSED: Final = True

COURSE_TABLES: Final = ("patient", "administration", "course", "lesion")
#: Cycles whose rows are in memory at once, and in one row group of the file.
CYCLES_AT_ONCE: Final = 1000
#: Key of the file's metadata that says where its rows come from.
PROVENANCE: Final = b"provenance"
#: Tables whose rows name a file that reached the rows of this table and of those after it.
_NAMES_OF_FILES: Final = {"region": "weights_sha256", "organ_dose": "prior_sha256"}


@dataclass(frozen=True)
class _Part:
    """A table that a stage has written, and the names that its lesions have in the patient."""

    folder: Path
    outcome: Row
    settings_sha256: str
    lesion_names: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, folder: Path, outcome: Row | None, names: Mapping[str, str]) -> _Part | None:
        """The finished stage in `folder`; None if it has no data."""
        if outcome is None or outcome["status"] != "ok":
            return None
        return cls(folder, outcome, settings_sha256(_chain(outcome)), names)

    def sha256(self, name: str) -> str:
        return next(f"{entry['sha256']}" for entry in self.outcome["files"] if entry["name"] == f"{name}.parquet")


def step(job: Job) -> None:
    """Take what is there, and write an outcome row for every planned cycle, whatever became of it."""
    results = Path(job.rows["results"])
    planned = sorted(tuple(row) for row in job.rows["planned"])
    for site, cycles in groupby(planned, key=lambda row: str(row[0])):
        outcomes, parts = _of_site(results, site, [row[1:] for row in cycles])
        _write(job.out, "stage_outcome", site, table("stage_outcome", outcomes))
        files: dict[str, list[str]] = {}
        for name in (*STAGE_OF_TABLE, *COURSE_TABLES):
            if parts[name]:
                _write_parts(job.out, name, site, parts[name], files)
        if own := [row for row in job.rows["phantom_qc"] if row["site"] == site]:
            _write(job.out, "phantom_qc", site, table("phantom_qc", own))


def _of_site(
    results: Path, site: str, planned: Iterable[tuple[str, int, bool]]
) -> tuple[list[Row], dict[str, list[_Part]]]:
    """Outcome rows of a site, and its parts by table, in order of patient and cycle."""
    outcomes: list[Row] = []
    parts: dict[str, list[_Part]] = defaultdict(list)
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
            written = {
                stage: _Part.of(finished.folder(stage), finished.outcomes.get(stage), names.get(cycle, {}))
                for stage in dict.fromkeys(STAGE_OF_TABLE.values())
            }
            for name, stage in STAGE_OF_TABLE.items():
                if (part := written[stage]) is not None:
                    parts[name].append(part)
        key: Row = {"site": site, "patient": patient, "cycle": 0, "stage": PATIENT_STAGE}
        outcomes.append(key | stage_columns(folder, course))
        if (part := _Part.of(folder, course, {})) is not None:
            for name in COURSE_TABLES:
                parts[name].append(part)
    return outcomes, parts


def _write_parts(out: Path, name: str, site: str, parts: Sequence[_Part], files: dict[str, list[str]]) -> None:
    """Write a table of a site portion by portion; `files` are the weights and priors that have reached it."""
    named: set[str] = set()
    with table_writer(_path(out, name, site), SCHEMAS[name]) as writer:
        for portion in _portions(parts):
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


def _provenance(name: str, parts: Sequence[_Part]) -> Row:
    """Where the rows of a table come from: versions, settings, and one hash over the files of its parts."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.sha256(name).encode())
    chains = {part.settings_sha256: _chain(part.outcome) for part in parts}
    return {
        "stage": parts[0].outcome["stage"],
        "software_version": sorted({part.outcome["software_version"] for part in parts}),
        "settings": {hashed: chains[hashed] for hashed in sorted(chains)},
        "parts": len(parts),
        "parts_sha256": digest.hexdigest(),
    }


def _chain(outcome: Row) -> dict[str, Any]:
    """Versions and settings of the stages that reached an outcome, its own among them."""
    own = {outcome["stage"]: {"version": outcome["stage_version"], "settings": outcome["settings"]}}
    return dict(outcome["upstream"]) | own


def _path(out: Path, name: str, site: str) -> Path:
    folder = out / name / f"site={site}"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / "part-0.parquet"


def _write(out: Path, name: str, site: str, data: pa.Table) -> None:
    write_table(_path(out, name, site), data.sort_by(sort_keys(data.schema)))


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
