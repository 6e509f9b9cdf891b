"""What a cohort says of how it came about: the crate, Snakemake's report, what jobs took, how far it is."""

from __future__ import annotations

import base64
import json
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
import yaml

from doseledger import audit
from doseledger.cohort import COHORT_STAGES, CYCLE_STAGES, ON_REQUEST, PATIENT_STAGE
from doseledger.crate import NO_LICENCE, write_crate
from doseledger.errors import ForeignResultsError
from doseledger.io.sheets import load_plan
from doseledger.progress import progress, usage_paths
from doseledger.steps.stage import file_sha256
from doseledger.steps.usage import read_usage

from .conftest import ROOT, Cohort

pytestmark = pytest.mark.workflow


def crate_of(cohort: Cohort, out: Path, **options: Any) -> dict[str, dict[str, Any]]:
    """Entities of the crate by their identifiers."""
    plan = load_plan(yaml.safe_load(cohort.config.read_text()), cohort.config.parent)
    write_crate(plan, ROOT, out, **options)
    graph = json.loads((out / "ro-crate-metadata.json").read_text())["@graph"]
    # What is no letter of an address is escaped in identifiers.
    return {unquote(entity["@id"]): entity for entity in graph}


def test_the_crate_has_every_table_by_its_hash_and_an_action_of_every_rule(micro: Cohort, tmp_path: Path) -> None:
    found = crate_of(micro, tmp_path / "crate")
    tables = sorted(p.relative_to(micro.results).as_posix() for p in (micro.results / "cohort").rglob("*.parquet"))
    listed = [key for key in found if key.endswith(".parquet")]
    assert sorted(listed) == tables
    for key in [*tables, "settings.json"]:
        assert found[key]["sha256"] == file_sha256(tmp_path / "crate" / key)
    root = found["./"]
    assert root["license"] == {"@id": NO_LICENCE}
    assert len(root["conformsTo"]) == 3
    assert found["workflow/Snakefile"]["@id"] == root["mainEntity"]["@id"]
    actions = {e["@id"]: e for e in found.values() if e["@type"] == "CreateAction"}
    run = actions.pop("#run")
    assert sorted(unquote(e["@id"]) for e in run["result"]) == tables
    assert set(actions) == {f"#run-{s}" for s in (*CYCLE_STAGES, PATIENT_STAGE) if s != "align"}
    made = [unquote(e["@id"]) for action in actions.values() for e in action["result"]]
    assert sorted(made) == [t for t in tables if "stage_outcome" not in t]


def test_the_crate_says_nothing_of_places_and_dates_of_the_hospital(micro: Cohort, tmp_path: Path) -> None:
    crate_of(micro, tmp_path / "crate", published="2026-01-31", licence="https://example.org/licence")
    text = (tmp_path / "crate/ro-crate-metadata.json").read_text() + (tmp_path / "crate/settings.json").read_text()
    assert str(micro.folder) not in text
    for planted in ("dicom/", ".tsv", "2025-", "rtstruct", "P1"):
        assert planted not in text, planted
    assert '"datePublished": "2026-01-31"' in text
    assert "https://example.org/licence" in text


def test_the_same_cohort_gives_the_same_crate(micro: Cohort, tmp_path: Path) -> None:
    crate_of(micro, tmp_path / "one")
    crate_of(micro, tmp_path / "two")
    files = [p.relative_to(tmp_path / "one") for p in (tmp_path / "one").rglob("*") if p.is_file()]
    assert len(files) > 20
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes(), file
    with pytest.raises(ForeignResultsError, match="not empty"):
        crate_of(micro, tmp_path / "one")


def test_the_report_of_snakemake_shows_all_pages(micro: Cohort, tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = micro.call(
        "snakemake",
        *("--report", str(report), "--profile", "none", "--configfile", str(micro.config)),
        *("--directory", str(micro.folder / "work")),
    )
    assert done.returncode == 0, done.stderr
    text = report.read_text(encoding="utf-8")
    assert '"Patients"' in text
    pages = re.findall(r"data:text/html;charset=utf8;filename=index\.html;base64,([A-Za-z0-9+/=]+)", text)
    kept = [micro.results / "cohort_page" / "index.html", *micro.results.glob("site-*/sub-*/course/index.html")]
    assert sorted(map(base64.b64decode, pages)) == sorted(path.read_bytes() for path in kept)
    assert len(pages) == 3


def test_every_job_leaves_what_it_took(micro: Cohort) -> None:
    records = [read_usage(path) for path in usage_paths(micro.results / "logs")]
    assert len(records) == 4 * len(CYCLE_STAGES) + 2 + len(COHORT_STAGES) - len(ON_REQUEST)
    for record in records:
        assert record is not None
        assert record.wall_s > 0.0
        assert record.cpu_s > 0.1
        assert 50.0 < record.peak_mb < 4000.0
    refused = [record for record in records if record is not None and record.status == "refused"]
    assert {record.stage for record in refused} == set(CYCLE_STAGES)
    assert not [name for name in audit.hashes(micro.results) if "usage" in name]


def test_a_finished_cohort_has_nothing_left(micro: Cohort) -> None:
    found = progress(load_plan(yaml.safe_load(micro.config.read_text()), micro.config.parent))
    assert found.counts == {"done": 3, "refused": 1}
    assert not found.rest.jobs
    (reason,) = found.reasons
    assert (reason.stage, reason.code) == ("ingest", "unit_unknown")
