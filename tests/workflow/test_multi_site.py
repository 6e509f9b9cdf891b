"""From a finished cohort to submissions and back to one dataset, by the commands."""

from __future__ import annotations

import csv
import json
import zipfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from doseledger.io.submission import read_submission

from .conftest import Cohort

pytestmark = pytest.mark.workflow

SITES = ("A", "B")


@pytest.fixture(scope="module")
def merged(micro: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("sites")
    for site in SITES:
        archive = str(folder / f"{site}.zip")
        done = micro.call("doseledger.cli", "submit", str(micro.config), "--out", archive, "--site", site)
        assert done.returncode == 0, done.stdout + done.stderr
    archives = [str(folder / f"{site}.zip") for site in reversed(SITES)]
    done = micro.call("doseledger.cli", "merge", *archives, "--out", str(folder / "cohort"))
    assert done.returncode == 0, done.stdout + done.stderr
    assert "set aside" not in done.stdout, "the workflow writes no row that cannot be true"
    return folder


def rows(path: Path) -> pa.Table:
    """A table with units and descriptions of its columns, without what the file says of itself."""
    return pq.read_table(path, partitioning=None).replace_schema_metadata(None)


def test_the_merged_tables_are_the_cohorts_own(micro: Cohort, merged: Path) -> None:
    """Every value and unit, but for the sentences that stay at the site; provenance is in the record of the merge."""
    tables = [p for p in (micro.results / "cohort").rglob("*.parquet") if rows(p).num_rows > 0]
    own = {p.relative_to(micro.results / "cohort"): p for p in tables}
    theirs = {p.relative_to(merged / "cohort"): p for p in (merged / "cohort").rglob("*.parquet")}
    assert own.keys() == theirs.keys()
    different = {path.parts[0] for path, file in own.items() if not rows(file).equals(rows(theirs[path]), True)}
    assert different == {"stage_outcome"}
    assert {path.parts[0] for path in own} >= {"organ_dose", "curve", "acquisition", "patient"}


def test_nothing_of_files_dates_and_identifiers_is_in_a_submission(micro: Cohort, merged: Path) -> None:
    folder = micro.config.parent
    with (folder / "administrations.tsv").open() as stream:
        dates = {row["injection_start"][:10] for row in csv.DictReader(stream, delimiter="\t")}
    sidecars = [json.loads(path.read_text()) for path in micro.results.rglob("ingest/*_spect.json")]
    uids = {value for sidecar in sidecars for key, value in sidecar.items() if key.endswith("UID")}
    assert dates
    assert uids
    for site in SITES:
        path = merged / f"{site}.zip"
        texts = [repr(data.to_pydict()) for data in read_submission(path).tables.values()]
        with zipfile.ZipFile(path) as archive:
            texts += [archive.read(name).decode() for name in ("submission.json", "index.html")]
        for text in texts:
            assert not any(secret in text for secret in (*dates, *uids, str(folder), ".dcm"))


def test_the_refused_cycle_is_there_with_its_code(merged: Path) -> None:
    rows = read_submission(merged / "A.zip").tables["stage_outcome"].to_pylist()
    assert "unit_unknown" in {row["code"] for row in rows if row["cycle"] == 2}


def test_the_merged_cohort_has_a_page(merged: Path) -> None:
    page = (merged / "cohort/index.html").read_text()
    assert "VIRTUAL PATIENTS" in page
    assert "Completeness by site" in page
