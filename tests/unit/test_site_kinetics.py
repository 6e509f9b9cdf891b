"""Kinetics of many sites: sums leave a site, no patient does, and a merge makes one prior of them."""

from __future__ import annotations

import hashlib
import json
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from doseledger.errors import QuantityError, SubmissionError
from doseledger.io.priors import default_prior, read_prior
from doseledger.io.submission import LEDGER, read_submission
from doseledger.kinetics import Cycle, learn, merge_summaries, summarise
from doseledger.merge import PRIOR, RECORD, merge
from doseledger.nuclides import nuclide
from doseledger.site_kinetics import MODEL, merged_prior, site_summaries
from doseledger.steps.population import teaching_cycles
from doseledger.submission import Sharing, submit, write_submission

from .submission_factory import plan_with_tables, rezipped, site_rows, site_tables

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes/kinetics"))
import population_proof as proof

del sys.path[0]

PATIENTS = 6


@pytest.fixture(scope="module")
def archives(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("kinetics")
    plan = plan_with_tables(folder, "A", "B", patients=PATIENTS)
    paths = [folder / "A.zip", folder / "B.zip"]
    for path in paths:
        submit(plan, path, Sharing(key=b"a key of sixteen bytes and more"), site=path.stem)
    return paths


def test_a_merge_makes_one_prior_in_any_order(tmp_path: Path, archives: list[Path]) -> None:
    merge(archives, tmp_path / "one")
    merge(reversed(archives), tmp_path / "two")
    assert (tmp_path / "one" / PRIOR).read_bytes() == (tmp_path / "two" / PRIOR).read_bytes()
    prior = read_prior(tmp_path / "one" / PRIOR)
    assert [(e.region, e.n_patients, e.n_cycles, e.n_sites) for e in prior.entries] == [
        ("kidney", 2 * PATIENTS, 8 * PATIENTS, 2),
        ("liver", 2 * PATIENTS, 4 * PATIENTS, 2),
        ("spleen", 2 * PATIENTS, 4 * PATIENTS, 2),
    ]


def test_the_prior_is_that_of_the_tables_activities(tmp_path: Path, archives: list[Path]) -> None:
    """Scan by scan from the rows, without what reads the tables."""
    merge(archives, tmp_path / "cohort")
    summaries = []
    for site in ("A", "B"):
        scans: dict[tuple[str, int], list[tuple[float, float]]] = {}
        for row in site_rows(site, patients=PATIENTS)["region_activity"]:
            if row["region"] == "liver":
                scans.setdefault((row["patient"], row["cycle"]), []).append((row["time_h"], row["activity_mbq"]))
        cycles = []
        for (patient, _), points in scans.items():
            times_h, activity_mbq = zip(*points, strict=True)
            half_life_h = nuclide("Lu-177").half_life_h
            cycles.append(Cycle(patient, site, times_h, activity_mbq, half_life_h, u_activity_mbq=(5.0,) * len(points)))
        summaries.append(summarise(cycles, radiopharmaceutical="Lu177-DOTATATE", region="liver"))
    expected = merge_summaries([summary for summary in summaries if summary is not None])
    found = read_prior(tmp_path / "cohort" / PRIOR).find("Lu177-DOTATATE", "liver")
    assert found is not None
    assert found.mean == pytest.approx(expected.mean, rel=1e-9)
    assert np.array(found.covariance) == pytest.approx(np.array(expected.covariance), rel=1e-9)


def test_three_rounds_of_files_teach_what_the_patients_together_would(tmp_path: Path) -> None:
    """Submissions, merge, submissions around its prior, merge: within 1 % of the median and 5 % of the spread.

    Three scans of curves that are all the same: hardly anything is told, and two rounds are not enough.
    """
    plan = plan_with_tables(tmp_path, "A", "B", patients=PATIENTS)
    archives = [tmp_path / "A.zip", tmp_path / "B.zip"]
    reference = None
    for revision in (1, 2, 3):
        for path in archives:
            submit(plan, path, Sharing(revision=revision, reference=reference), site=path.stem)
        merge(archives, tmp_path / "merged")
        reference = read_prior(tmp_path / "merged" / PRIOR)
    sites = [site_tables(site, patients=PATIENTS) for site in "AB"]
    names = ("region_activity", "curve", "administration")
    groups, _ = teaching_cycles(*([row for site in sites for row in site[name].to_pylist()] for name in names))
    assert len(groups) == 3
    for (tracer, region), cycles in groups.items():
        pooled = learn(cycles, radiopharmaceutical=tracer, region=region, model=MODEL)
        assert reference is not None
        found = reference.find(tracer, region)
        assert found is not None
        (mean, sd), (own_mean, own_sd) = proof.predicted(pooled), proof.predicted(found)
        assert np.abs(own_mean - mean).max() < 0.01
        assert np.abs(own_sd / sd - 1.0).max() < 0.05


def test_a_reference_with_another_curve_is_refused(tmp_path: Path) -> None:
    plan = plan_with_tables(tmp_path, "A", patients=PATIENTS)
    with pytest.raises(QuantityError, match="another model"):
        submit(plan, tmp_path / "A.zip", Sharing(reference=default_prior()))
    assert not (tmp_path / "A.zip").exists()


def test_no_patient_is_in_a_summary(archives: list[Path]) -> None:
    with zipfile.ZipFile(archives[0]) as archive:
        stated = json.loads(archive.read("kinetics.json"))
        page = archive.read("index.html").decode()
    assert {entry["n_patients"] for entry in stated["summaries"]} == {PATIENTS}
    assert not any("patient" in key and key != "n_patients" for entry in stated["summaries"] for key in entry)
    assert "Kinetics, summed over patients" in page


def test_a_site_of_few_patients_sends_none(tmp_path: Path) -> None:
    plan = plan_with_tables(tmp_path, "A", patients=4)
    submit(plan, tmp_path / "A.zip", Sharing())
    assert read_submission(tmp_path / "A.zip").summaries is None
    merge([tmp_path / "A.zip"], tmp_path / "cohort")
    assert not (tmp_path / "cohort" / PRIOR).exists()


def test_a_site_may_keep_its_kinetics(tmp_path: Path) -> None:
    plan = plan_with_tables(tmp_path, "A", patients=PATIENTS)
    submit(plan, tmp_path / "A.zip", Sharing(kinetics=False))
    assert read_submission(tmp_path / "A.zip").summaries is None


def test_a_region_without_a_dose_of_its_own_and_sums_are_left_out() -> None:
    def edit(rows: dict[str, list[dict[str, object]]]) -> None:
        for table in ("region_activity", "curve"):
            rows[table] += [{**row, "region": "whole_field"} for row in rows[table] if row["region"] == "liver"]
        # As sums have none.
        rows["curve"] = [row for row in rows["curve"] if row["region"] != "spleen"]

    found = site_summaries(site_tables("A", edit, patients=PATIENTS))
    assert [summary.region for summary in found] == ["kidney", "liver"]


def test_summaries_are_made_of_what_the_prior_of_a_cohort_is_learnt_from() -> None:
    """Curves of low grade, and those in which a prior took part, teach no other site either."""

    def edit(rows: dict[str, list[dict[str, object]]]) -> None:
        for row in rows["curve"]:
            if row["region"] == "liver":
                row["flags"] = ["extrapolated", "low"]
            if row["region"] == "spleen":
                row["prior_sha256"] = "f" * 64

    found = site_summaries(site_tables("A", edit, patients=PATIENTS))
    assert [summary.region for summary in found] == ["kidney"]


def _absurd(rows: dict[str, list[dict[str, object]]]) -> None:
    """Of one patient a liver that is slower than decay in one cycle, and a first scan of the spleen after 30 years."""
    for row in rows["curve"]:
        if (row["patient"], row["cycle"], row["region"]) == ("P1", 1, "liver"):
            row["effective_half_life_h"] = 400.0
    for row in rows["region_activity"]:
        if (row["patient"], row["region"], row["time_point"]) == ("P2", "spleen", 1):
            row["time_h"] = 262_800.0


def test_rows_that_a_merge_would_set_aside_are_in_no_sum() -> None:
    def without(rows: dict[str, list[dict[str, object]]]) -> None:
        rows["curve"] = [r for r in rows["curve"] if (r["patient"], r["cycle"], r["region"]) != ("P1", 1, "liver")]
        rows["region_activity"] = [
            r for r in rows["region_activity"] if (r["patient"], r["region"], r["time_point"]) != ("P2", "spleen", 1)
        ]

    found = site_summaries(site_tables("A", _absurd, patients=PATIENTS))
    assert found == site_summaries(site_tables("A", without, patients=PATIENTS))
    cycles = {summary.region: summary.n_cycles for summary in found}
    assert cycles == {"kidney": 4 * PATIENTS, "liver": 2 * PATIENTS - 1, "spleen": 2 * PATIENTS}


def test_a_region_of_which_no_scan_can_be_true_teaches_nothing() -> None:
    def edit(rows: dict[str, list[dict[str, object]]]) -> None:
        for row in rows["region_activity"]:
            if row["region"] == "liver":
                row["time_h"] = 262_800.0

    found = site_summaries(site_tables("A", edit, patients=PATIENTS))
    assert [summary.region for summary in found] == ["kidney", "spleen"]


def test_a_merge_says_which_sums_hold_rows_that_it_sets_aside(tmp_path: Path) -> None:
    tables = site_tables("A", _absurd, patients=PATIENTS)
    write_submission(
        tmp_path / "A.zip", tables, Sharing(), site="A", source=LEDGER, settings={}, summaries=site_summaries(tables)
    )
    merged = merge([tmp_path / "A.zip"], tmp_path / "left out")
    assert merged.quarantined["curve"] == 1
    assert not [note for note in merged.notes if "kinetics" in note]

    def unforeseen(entries: dict[str, bytes]) -> None:
        """As of a program that does not know these reasons yet."""
        manifest = json.loads(entries["submission.json"])
        manifest["checks"] = []
        entries["submission.json"] = json.dumps(manifest).encode()

    rezipped(tmp_path / "A.zip", tmp_path / "older.zip", unforeseen)
    merged = merge([tmp_path / "older.zip"], tmp_path / "in the sums")
    noted = [note for note in merged.notes if "took into its kinetics" in note]
    assert noted == [
        "site A: 1 rows of curve were set aside (slower_than_decay) that the site took into its kinetics, which "
        "prior.json is made of: ask for a new submission",
        "site A: 2 rows of region_activity were set aside (out_of_range) that the site took into its kinetics, which "
        "prior.json is made of: ask for a new submission",
    ]


def _spoilt(change: Callable[[list[dict[str, object]]], None]) -> Callable[[dict[str, bytes]], None]:
    def rewrite(entries: dict[str, bytes]) -> None:
        stated = json.loads(entries["kinetics.json"])
        change(stated["summaries"])
        entries["kinetics.json"] = json.dumps(stated).encode()
        manifest = json.loads(entries["submission.json"])
        manifest["files"]["kinetics.json"] = hashlib.sha256(entries["kinetics.json"]).hexdigest()
        entries["submission.json"] = json.dumps(manifest).encode()

    return rewrite


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (lambda found: found[0].update(site="B"), "another site"),
        (lambda found: found[0].update(region="<b>"), "a name that no table has"),
        (lambda found: found[0].update(n_patients=2), "too few patients"),
        (lambda found: found[0].update(weighted=[0.0]), "does not fit its model"),
        (lambda found: found[0].update(command="rm"), "does not fit its layout"),
    ],
)
def test_summaries_that_no_site_writes_refuse_the_submission(
    tmp_path: Path, archives: list[Path], change: Callable[[list[dict[str, object]]], None], what: str
) -> None:
    bad = rezipped(archives[0], tmp_path / "bad.zip", _spoilt(change))
    with pytest.raises(SubmissionError, match=what):
        merge([bad, archives[1]], tmp_path / "cohort")
    assert [path.name for path in tmp_path.iterdir()] == ["bad.zip"]


def test_summaries_around_another_reference_are_noted_and_not_merged(tmp_path: Path, archives: list[Path]) -> None:
    def other(found: list[dict[str, object]]) -> None:
        for entry in found:
            if entry["region"] == "liver":
                entry["reference_mean"] = [float(x) + 0.1 for x in entry["reference_mean"]]  # type: ignore[attr-defined]

    bad = rezipped(archives[0], tmp_path / "A.zip", _spoilt(other))
    merged = merge([bad, archives[1]], tmp_path / "cohort")
    assert [note for note in merged.notes if "kinetics of liver" in note]
    assert {entry.region for entry in read_prior(tmp_path / "cohort" / PRIOR).entries} == {"kidney", "spleen"}
    assert json.loads((tmp_path / "cohort" / RECORD).read_text())["notes"] == list(merged.notes)


def test_one_site_alone_makes_a_prior_too() -> None:
    prior, notes = merged_prior(site_summaries(site_tables("A", patients=PATIENTS)))
    assert notes == []
    assert prior is not None
    assert {entry.n_sites for entry in prior.entries} == {1}
