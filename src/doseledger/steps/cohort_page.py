"""Stage ``cohort_page``: the cohort on one page."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from doseledger import __version__
from doseledger.cohort import PATIENT_STAGE
from doseledger.io.tables import COMPARISON_SCHEMAS, SCHEMAS, read_rows, sort_keys
from doseledger.report.cohort_page import cohort_page
from doseledger.steps.layout import PAGE
from doseledger.steps.stage import Job

STAGE_VERSION: Final[int] = 2
TAKES_REFUSED: Final = True

#: Tables whose rows only methods and lists show; above so many rows together the page goes without.
_DETAIL: Final = ("acquisition", "region", "region_activity", "curve", "organ_dose", "dvh")
_MAX_DETAIL_ROWS: Final = 200_000
_POINTS: Final = "compared_dose"
#: Above this many points the page draws percentiles.
_MAX_POINTS: Final = 50_000


def step(job: Job) -> None:
    """Write ``index.html`` from the cohort's tables and its comparison, with links to the patients' pages."""
    folder = job.one("compact")
    links = {
        (site, patient): f"../site-{site}/sub-{patient}/{PATIENT_STAGE}/{PAGE}" for site, patient in _patients(folder)
    }
    write_page(folder, job.one("compare"), job.out / PAGE, cohort=job.rows["cohort"], links=links)


def write_page(
    cohort_folder: Path,
    comparison_folder: Path,
    path: Path,
    *,
    cohort: str,
    links: Mapping[tuple[str, str], str] | None = None,
) -> None:
    """The page of a cohort of a workflow, or of merged sites, whose patients have no pages here."""
    detail = sum(pq.read_metadata(p).num_rows for name in _DETAIL for p in _parts(cohort_folder, name))
    large = detail > _MAX_DETAIL_ROWS
    html = cohort_page(
        cohort=cohort,
        tables={n: read_cohort_table(cohort_folder, n) for n in SCHEMAS if not large or n not in _DETAIL},
        comparison=read_comparison(comparison_folder),
        software_version=__version__,
        page_links=links,
        rows_not_shown=detail if large else 0,
    )
    path.write_text(html, encoding="utf-8")


def _patients(folder: Path) -> list[tuple[str, str]]:
    return [(row["site"], row["patient"]) for row in read_cohort_table(folder, "patient")]


def read_comparison(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every table of the comparison; of the points none, if there are too many to draw."""
    few = pq.read_metadata(folder / f"{_POINTS}.parquet").num_rows <= _MAX_POINTS
    return {name: read_rows(folder, name) if few or name != _POINTS else [] for name in COMPARISON_SCHEMAS}


def _parts(folder: Path, name: str) -> list[Path]:
    return sorted(folder.glob(f"{name}/*/*.parquet"))


def read_cohort_table(folder: Path, name: str) -> list[dict[str, Any]]:
    """Rows of a table of all sites, in order of their keys; a table that nobody wrote has none."""
    parts = [pq.read_table(path, schema=SCHEMAS[name], partitioning=None) for path in _parts(folder, name)]
    if not parts:
        return []
    data = pa.concat_tables(parts)
    return list(data.sort_by(sort_keys(data.schema)).to_pylist())
