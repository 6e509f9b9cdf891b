"""Stage ``compact``: the tables of all cycles, one Parquet file per table and site."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from doseledger import __version__
from doseledger.cohort import PATIENT_STAGE, Row, cycle_folder, patient_folder
from doseledger.io.tables import SCHEMAS, read_rows, sort_keys, table, write_table
from doseledger.steps.collect import STAGE_OF_TABLE, FinishedCycle, outcome_rows, renamed, stage_columns, whole_outcome
from doseledger.steps.lesion_names import read_lesion_names
from doseledger.steps.stage import Job

STAGE_VERSION: Final[int] = 3
TAKES_REFUSED: Final = True

COURSE_TABLES: Final = ("patient", "administration", "course", "lesion")


def step(job: Job) -> None:
    """Take what is there, and write an outcome row for every planned cycle, whatever became of it."""
    results = Path(job.rows["results"])
    parts: dict[tuple[str, str], list[pa.Table]] = defaultdict(list)
    outcomes: dict[str, list[Row]] = defaultdict(list)
    patients: dict[tuple[str, str], bool] = {}
    for site, patient, cycle, imaged in job.rows["planned"]:
        patients.setdefault((site, patient), False)
        if not imaged:
            outcomes[site].append(_not_imaged(site, patient, cycle))
            continue
        patients[(site, patient)] = True
        finished = FinishedCycle(site, patient, cycle, cycle_folder(results, site, patient, cycle))
        names = read_lesion_names(patient_folder(results, site, patient) / PATIENT_STAGE)
        outcomes[site] += outcome_rows(finished)
        for name, stage in STAGE_OF_TABLE.items():
            if finished.outcomes.get(stage, {}).get("status") == "ok":
                parts[(name, site)].append(_part(finished.folder(stage), name, names.get(cycle, {})))
    for site, patient in patients:
        folder = patient_folder(results, site, patient) / PATIENT_STAGE
        outcome = whole_outcome(folder)
        key: Row = {"site": site, "patient": patient, "cycle": 0, "stage": PATIENT_STAGE}
        outcomes[site].append(key | stage_columns(folder, outcome))
        if outcome is not None and outcome["status"] == "ok":
            for name in COURSE_TABLES:
                parts[(name, site)].append(_part(folder, name, {}))
    sites = {site for site, _ in patients}
    for row in job.rows["phantom_qc"]:
        if row["site"] in sites:
            parts[("phantom_qc", row["site"])].append(table("phantom_qc", [row]))
    for (name, site), tables in parts.items():
        # Concatenated by pyarrow: unit and description of every column stay with the data.
        _write(job.out, name, site, pa.concat_tables(tables))
    for site, rows in outcomes.items():
        _write(job.out, "stage_outcome", site, table("stage_outcome", rows))


def _part(folder: Path, name: str, lesion_names: Mapping[str, str]) -> pa.Table:
    """A table of a stage; lesions that only the course knows over all cycles get the patient's names."""
    if lesion_names:
        return table(name, renamed(read_rows(folder, name), lesion_names))
    return pq.read_table(folder / f"{name}.parquet", schema=SCHEMAS[name], partitioning=None)


def _write(out: Path, name: str, site: str, data: pa.Table) -> None:
    folder = out / name / f"site={site}"
    folder.mkdir(parents=True, exist_ok=True)
    write_table(folder / "part-0.parquet", data.sort_by(sort_keys(data.schema)))


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
