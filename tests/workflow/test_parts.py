"""A cohort computed in parts, as docs/scale.md says: fewer patients first, then the cycles in batches."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from doseledger.cohort import CYCLE_STAGES
from doseledger.steps.cohort_page import read_cohort_table

from .conftest import Cohort, write_cohort

pytestmark = pytest.mark.workflow


def test_fewer_patients_then_batches_then_the_whole_cohort(tmp_path: Path) -> None:
    cohort = write_cohort(tmp_path, sites=3, patients=1, cycles=1, seed=3, plant_refusal=False)
    done = Cohort(tmp_path, site_alone(cohort.config, "B")).run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sites_of_doses(cohort) == {"B"}
    first = stamps(cohort)

    for part, finished in (1, 2), (2, 3):
        done = cohort.call(
            "snakemake",
            *("cycles", "--batch", f"cycles={part}/2", "--cores", "2", "--profile", "profiles/local"),
            *("--configfile", str(cohort.config), "--directory", str(tmp_path / "work")),
        )
        assert done.returncode == 0, done.stderr
        assert len(stamps(cohort)) == finished * len(CYCLE_STAGES)
    assert not cohort.planned().keys() & set(CYCLE_STAGES)

    cycles = stamps(cohort)
    done = cohort.run()
    assert done.returncode == 0, done.stdout + done.stderr
    assert sites_of_doses(cohort) == {"A", "B", "C"}
    assert stamps(cohort) == cycles
    assert first.items() <= cycles.items()


def site_alone(config: Path, site: str) -> Path:
    """A config of the same cohort and results beside sheets that have the rows of one site only."""
    text = config.read_text()
    for sheet in config.parent.glob("*.tsv"):
        with sheet.open(newline="") as stream:
            rows = csv.DictReader(stream, delimiter="\t")
            kept = [row for row in rows if row.get("site", site) == site]
            names = rows.fieldnames or ()
        with sheet.with_name(f"few_{sheet.name}").open("w", newline="") as stream:
            writer = csv.DictWriter(stream, names, delimiter="\t", lineterminator="\n")
            writer.writeheader()
            writer.writerows(kept)
        text = text.replace(f" {sheet.name}\n", f" few_{sheet.name}\n")
    few = config.with_name("few.yaml")
    few.write_text(text)
    return few


def sites_of_doses(cohort: Cohort) -> set[str]:
    return {str(row["site"]) for row in read_cohort_table(cohort.results / "cohort", "organ_dose")}


def stamps(cohort: Cohort) -> dict[Path, int]:
    """When each finished stage of a cycle was written."""
    outcomes = cohort.results.glob("site-*/sub-*/ses-c*/[a-z]*/outcome.json")
    return {path: path.stat().st_mtime_ns for path in outcomes}
