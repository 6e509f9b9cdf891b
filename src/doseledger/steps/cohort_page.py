"""Stage ``cohort_page``: the cohort on one page."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from doseledger import __version__
from doseledger.cohort import PATIENT_STAGE
from doseledger.io.tables import SCHEMAS, sort_keys
from doseledger.report.cohort_page import cohort_page
from doseledger.steps.layout import PAGE
from doseledger.steps.stage import Job

STAGE_VERSION: Final[int] = 1
TAKES_REFUSED: Final = True


def step(job: Job) -> None:
    """Write ``index.html`` from the cohort's tables, with links to the patients' pages."""
    folder = job.one("compact")
    tables = {name: read_cohort_table(folder, name) for name in SCHEMAS}
    links = {
        (row["site"], row["patient"]): f"../site-{row['site']}/sub-{row['patient']}/{PATIENT_STAGE}/{PAGE}"
        for row in tables["patient"]
    }
    html = cohort_page(cohort=job.rows["cohort"], tables=tables, software_version=__version__, page_links=links)
    (job.out / PAGE).write_text(html, encoding="utf-8")


def read_cohort_table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a table of all sites, in order of their keys; a table that nobody wrote has none."""
    paths = sorted(folder.glob(f"{name}/*/*.parquet"))
    parts = [pq.read_table(path, schema=SCHEMAS[name], partitioning=None) for path in paths]
    if not parts:
        return []
    data = pa.concat_tables(parts)
    return list(data.sort_by(sort_keys(data.schema)).to_pylist())
