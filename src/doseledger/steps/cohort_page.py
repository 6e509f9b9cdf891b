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

#: Columns that no page shows and that are most of a large ledger.
_UNSHOWN: Final = {
    "dvh": ("dose_edges_gy", "volume_fraction"),
    "curve": ("covariance", "parameters", "parameter_names"),
}
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
    html = cohort_page(
        cohort=cohort,
        tables={name: read_cohort_table(cohort_folder, name, without=_UNSHOWN.get(name, ())) for name in SCHEMAS},
        comparison=read_comparison(comparison_folder),
        software_version=__version__,
        page_links=links,
    )
    path.write_text(html, encoding="utf-8")


def _patients(folder: Path) -> list[tuple[str, str]]:
    return [(row["site"], row["patient"]) for row in read_cohort_table(folder, "patient")]


def read_comparison(folder: Path) -> dict[str, list[dict[str, Any]]]:
    """Rows of every table of the comparison; of the points none, if there are too many to draw."""
    few = pq.read_metadata(folder / f"{_POINTS}.parquet").num_rows <= _MAX_POINTS
    return {name: read_rows(folder, name) if few or name != _POINTS else [] for name in COMPARISON_SCHEMAS}


def read_cohort_table(folder: Path, name: str, *, without: tuple[str, ...] = ()) -> list[dict[str, Any]]:
    """Rows of a table of all sites, in order of their keys; a table that nobody wrote has none."""
    schema = SCHEMAS[name]
    kept = pa.schema([field for field in schema if field.name not in without])
    paths = sorted(folder.glob(f"{name}/*/*.parquet"))
    parts = [pq.read_table(path, schema=schema, columns=kept.names, partitioning=None) for path in paths]
    if not parts:
        return []
    data = pa.concat_tables(parts)
    return list(data.sort_by(sort_keys(data.schema)).to_pylist())
