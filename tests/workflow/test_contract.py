"""The stage contract, against the real workflow: tests that try to break it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from doseledger import audit
from doseledger.cohort import CYCLE_STAGES, Row, administered_mbq, cycle_folder
from doseledger.dose.marrow import RED_MARROW
from doseledger.io.sheets import load_plan
from doseledger.io.tables import read_rows
from doseledger.nuclides import nuclide
from doseledger.steps import kinetics
from doseledger.steps.cohort_page import read_cohort_table
from doseledger.steps.stage import run_stage
from doseledger.units import kev_per_decay_to_gy_g_per_mbq_h

from .conftest import Cohort, patched_source

pytestmark = pytest.mark.workflow

#: What must be computed again when kinetics changes, for four cycles of two patients.
AFTER_KINETICS = {"kinetics": 4, "dose": 4, "course": 2, "compact": 1, "compare": 1, "cohort_page": 1, "all": 1}


def rows(cohort: Cohort, table: str) -> list[dict[str, object]]:
    return read_cohort_table(cohort.results / "cohort", table)


def outcomes(cohort: Cohort) -> dict[tuple[object, ...], dict[str, object]]:
    return {(r["site"], r["patient"], r["cycle"], r["stage"]): r for r in rows(cohort, "stage_outcome")}


def mapped(cohort: Cohort) -> list[Row]:
    """Doses that a map was averaged for: all but those of red marrow."""
    return [row for row in rows(cohort, "organ_dose") if row["region"] != RED_MARROW]


def test_refused_cycle_flows_on_as_rows(micro: Cohort) -> None:
    refused = [outcomes(micro)[("A", "P1", 2, stage)] for stage in CYCLE_STAGES]
    assert {row["status"] for row in refused} == {"refused"}
    assert {row["origin_stage"] for row in refused} == {"ingest"}
    assert {row["code"] for row in refused} == {"unit_unknown"}
    sentence = str(refused[0]["sentence"])
    for part in ("Units (0054,1001)", "GML", "patient P1", "cycle 2", "dicom/site-A/sub-P1/ses-c2/tp-1/spect", "BQML"):
        assert part in sentence
    assert str(refused[0]["file"]).startswith("dicom/site-A")
    folder = micro.results / "site-A/sub-P1/ses-c2/dose"
    assert [p.name for p in folder.iterdir() if not p.name.startswith(".")] == ["outcome.json"]


def test_refused_cycle_makes_the_course_incomplete_and_never_zero(micro: Cohort) -> None:
    course = {(r["site"], r["region"]): r for r in rows(micro, "course") if r["limit_quantity"] == "absorbed_dose"}
    own, other = course[("A", "kidneys")], course[("B", "kidneys")]
    assert (own["cycles_given"], own["cycles_counted"], own["cumulative_status"]) == (2, 1, "incomplete")
    assert own["activity_left_mbq"] is None
    assert own["fraction_of_limit"] is None
    assert (other["cycles_given"], other["cycles_counted"], other["cumulative_status"]) == (2, 2, "complete")
    assert other["fraction_of_limit"] == pytest.approx(other["cumulative_dose_gy"] / 23.0)  # type: ignore[operator]


def test_a_course_can_be_completed_by_imputation(micro: Cohort, tmp_path: Path) -> None:
    plan = load_plan(yaml.safe_load(micro.config.read_text()), micro.config.parent)
    outcome = run_stage(
        "course",
        inputs={"dose": tuple(cycle_folder(plan.results, "A", "P1", cycle) / "dose" for cycle in (1, 2))},
        output=tmp_path / "course",
        settings=plan.settings["course"] | {"imputation": "own_dose_per_activity"},
        rows=plan.course_rows("A", "P1"),
    )
    assert outcome["status"] == "ok", outcome["sentence"]
    found = {r["region"]: r for r in read_rows(tmp_path / "course", "course") if r["limit_quantity"] == "absorbed_dose"}
    before = {(r["site"], r["region"]): r for r in rows(micro, "course") if r["limit_quantity"] == "absorbed_dose"}
    own, single = found["kidneys"], before[("A", "kidneys")]
    assert (own["cycles_counted"], own["cycles_imputed"], own["cumulative_status"]) == (2, 1, "imputed")
    first, second = (administered_mbq(a) for a in plan.course_rows("A", "P1")["administrations"])
    assert own["cumulative_dose_gy"] == pytest.approx(single["cumulative_dose_gy"] * (1.0 + second / first))
    assert own["u_cumulative_dose_rel"] > single["u_cumulative_dose_rel"]
    assert own["activity_left_mbq"] > 0
    assert "cycles_imputed" in own["flags"]


def test_every_planned_stage_has_an_outcome_row(micro: Cohort) -> None:
    expected = {(s, "P1", c, stage) for s in "AB" for c in (1, 2) for stage in CYCLE_STAGES}
    expected |= {(s, "P1", 0, "course") for s in "AB"}
    assert set(outcomes(micro)) == expected


def test_the_same_patient_label_at_two_sites_stays_apart(micro: Cohort) -> None:
    doses = {
        (r["site"], r["cycle"]): r["absorbed_dose_gy"]
        for r in rows(micro, "organ_dose")
        if r["patient"] == "P1" and r["region"] == "kidneys"
    }
    assert set(doses) == {("A", 1), ("B", 1), ("B", 2)}
    assert len(set(doses.values())) == 3


def test_a_corrected_dose_stands_beside_the_measured_one_and_is_primary(micro: Cohort) -> None:
    by_region: dict[tuple[object, ...], list[Row]] = {}
    for row in mapped(micro):
        by_region.setdefault((row["site"], row["cycle"], row["region"]), []).append(row)
    corrected = {key: pair for key, pair in by_region.items() if len(pair) == 2}
    assert {key[2] for key in corrected} >= {"kidney_left", "kidney_right", "kidneys", "liver", "spleen", "lesion_1"}
    for pair in by_region.values():
        (primary,) = [row for row in pair if row["is_primary"]]
        assert ("no_partial_volume_correction" in primary["flags"]) == (len(pair) == 1)
    for pair in corrected.values():
        primary, measured = sorted(pair, key=lambda row: not row["is_primary"])
        assert (primary["partial_volume_method"], measured["partial_volume_method"]) == ("gtm", "none")
        assert "histogram_not_corrected" in primary["flags"]
        assert measured["recovery_coefficient"] is None
        recovery = primary["recovery_coefficient"]
        assert primary["tia_mbq_h"] == pytest.approx(measured["tia_mbq_h"] / recovery)
        # What electrons of the lost activity leave in the region itself, by whatever engine.
        lost_mbq_h = primary["tia_mbq_h"] - measured["tia_mbq_h"]
        expected = kev_per_decay_to_gy_g_per_mbq_h(nuclide("Lu-177").in_place.local_kev) * lost_mbq_h
        gained_gy = primary["absorbed_dose_gy"] - measured["absorbed_dose_gy"]
        assert gained_gy * primary["mass_g"] == pytest.approx(expected)
        assert primary["d50_gy"] == measured["d50_gy"]
        assert primary["u_recovery_rel"] < measured["u_recovery_rel"]
    histograms = rows(micro, "dvh")
    assert {r["partial_volume_method"] for r in histograms} == {"none"}
    assert {r["analysis_id"] for r in histograms} == {r["analysis_id"] for r in mapped(micro)}


def test_activities_are_there_as_measured_and_corrected(micro: Cohort) -> None:
    found: list[Row] = rows(micro, "region_activity")
    for row in found:
        if row["method"] == "none":
            assert row["recovery_coefficient"] is row["activity_corrected_mbq"] is None
        else:
            expected = row["activity_mbq"] / row["recovery_coefficient"]
            assert row["activity_corrected_mbq"] == pytest.approx(expected)
    assert {r["region"] for r in found if r["method"] == "none"} >= {"whole_field", "remainder"}
    assert {r["method"] for r in found if r["region"] == "kidneys"} == {"gtm"}


def test_red_marrow_has_a_row_and_a_sum_by_each_method_and_none_by_both(micro: Cohort) -> None:
    """Site A takes blood; its second cycle is refused, so that neither method has a whole sum."""
    found: list[Row] = [row for row in rows(micro, "organ_dose") if row["region"] == RED_MARROW]
    by_method = {(r["site"], r["cycle"], r["marrow_method"]): r for r in found}
    assert len(by_method) == len(found)
    assert set(by_method) == {("A", 1, "image"), ("A", 1, "blood"), ("B", 1, "image"), ("B", 2, "image")}
    assert len({r["analysis_id"] for r in found if r["site"] == "A"}) == 2
    image, blood = by_method["A", 1, "image"], by_method["A", 1, "blood"]
    assert (image["is_primary"], blood["is_primary"]) == (True, False)
    assert image["cross_dose_gy"] == blood["cross_dose_gy"] > 0
    assert blood["input_sha256"] != image["input_sha256"]
    primary = next(r for r in mapped(micro) if r["region"] == "lumbar_marrow" and r["site"] == "A" and r["is_primary"])
    assert "vertebra_not_marrow" in primary["flags"]
    assert primary["marrow_method"] is None
    assert image["absorbed_dose_gy"] != primary["absorbed_dose_gy"]
    course: list[Row] = [row for row in rows(micro, "course") if row["region"] == RED_MARROW]
    sums = {(r["site"], r["marrow_method"]): r for r in course}
    assert {key: r["cumulative_status"] for key, r in sums.items()} == {
        ("A", "blood"): "incomplete",
        ("A", "image"): "incomplete",
        ("B", "image"): "complete",
    }
    assert {r["limit_gy"] for r in course} == {2.0}
    assert sums["A", "blood"]["cumulative_dose_gy"] == blood["absorbed_dose_gy"]
    total = sum(by_method["B", cycle, "image"]["absorbed_dose_gy"] for cycle in (1, 2))
    assert sums["B", "image"]["cumulative_dose_gy"] == pytest.approx(total)
    samples: list[Row] = rows(micro, "blood_sample")
    assert [(r["site"], r["cycle"], r["sample"]) for r in samples] == [("A", 1, n) for n in range(1, 7)]
    (curve,) = [r for r in rows(micro, "curve") if r["region"] == "blood" and r["chosen"]]
    assert (curve["site"], curve["model"], curve["n_timepoints"]) == ("A", "bi", 6)
    page = (micro.results / "site-A/sub-P1/course/index.html").read_text()
    assert "Blood (1 mL), cycle 1" in page
    assert "Red marrow (image)" in page
    assert "Red marrow (blood)" in page


def test_exactly_one_primary_row_per_region(micro: Cohort) -> None:
    keys = [(r["site"], r["patient"], r["cycle"], r["region"]) for r in rows(micro, "organ_dose") if r["is_primary"]]
    assert len(keys) == len(set(keys)) > 0


def test_no_date_no_uid_and_no_path_of_the_machine_in_any_table(micro: Cohort) -> None:
    for path in sorted((micro.results / "cohort").rglob("*.parquet")):
        content = path.read_bytes()
        for planted in (b"2025-", b"2.25.", b"VIRTUAL^", str(micro.folder).encode()):
            assert planted not in content, (path.name, planted)


def test_a_finished_cohort_has_nothing_to_do(micro: Cohort) -> None:
    assert micro.planned() == {}


def test_a_new_stage_version_recomputes_what_follows_and_nothing_else(micro: Cohort, tmp_path: Path) -> None:
    version = kinetics.STAGE_VERSION
    old, new = (f"STAGE_VERSION: Final[int] = {number}" for number in (version, version + 1))
    source = patched_source(tmp_path, {"steps/kinetics.py": (old, new)})
    assert micro.planned(source=source) == AFTER_KINETICS


def test_a_changed_setting_recomputes_what_reads_it_and_nothing_else(micro: Cohort) -> None:
    config = micro.config.with_name("other.yaml")
    config.write_text(micro.config.read_text() + "kinetics:\n  relative_random_uncertainty: 0.1\n")
    assert Cohort(micro.folder, config).planned() == AFTER_KINETICS


def test_a_changed_cell_recomputes_its_own_cycle(micro: Cohort, tmp_path: Path) -> None:
    sheet = micro.config.parent / "administrations.tsv"
    lines = sheet.read_text().splitlines()
    changed = [
        "\t".join([*line.split("\t")[:8], "40", *line.split("\t")[9:]]) if line.startswith("A\tP1\t1\t") else line
        for line in lines
    ]
    assert changed != lines
    # Elsewhere than the cohort's own sheets, which the golden hashes are of.
    other = tmp_path / "other.tsv"
    other.write_text("\n".join(changed) + "\n")
    config = micro.config.with_name("cell.yaml")
    config.write_text(micro.config.read_text().replace("administrations.tsv", str(other)))
    assert Cohort(micro.folder, config).planned() == {
        **dict.fromkeys(CYCLE_STAGES, 1),
        **{"course": 1, "compact": 1, "compare": 1, "cohort_page": 1, "all": 1},
    }


def test_a_changed_blood_sample_recomputes_the_curves_and_doses_of_its_cycle(micro: Cohort, tmp_path: Path) -> None:
    header, first, *rest = (micro.config.parent / "blood_samples.tsv").read_text().splitlines()
    assert "\t0.03\t" in first
    other = tmp_path / "blood.tsv"
    other.write_text("\n".join([header, first.replace("\t0.03\t", "\t0.04\t"), *rest]) + "\n")
    config = micro.config.with_name("blood.yaml")
    config.write_text(micro.config.read_text().replace("blood_samples.tsv", str(other)))
    planned = Cohort(micro.folder, config).planned()
    assert planned == {"kinetics": 1, "dose": 1, "course": 1, "compact": 1, "compare": 1, "cohort_page": 1, "all": 1}


def test_a_decision_of_the_review_recomputes_its_own_cycle_from_the_masks_on(micro: Cohort, tmp_path: Path) -> None:
    columns = "site", "patient", "cycle", "time_point", "decision", "label_map", "reviewer", "comment"
    sheet = tmp_path / "review.tsv"
    config = micro.config.with_name("review.yaml")
    config.write_text(micro.config.read_text().replace("sheets:\n", f"sheets:\n  review: {sheet}\n"))
    reviewed = Cohort(micro.folder, config)
    sheet.write_text("\t".join(columns) + "\n")
    assert reviewed.planned() == {}
    decision = "A", "P1", "1", "1", "accept", "n/a", "AB", "n/a"
    sheet.write_text("\t".join(columns) + "\n" + "\t".join(decision) + "\n")
    from_masks_on = {stage: 1 for stage in CYCLE_STAGES if stage != "ingest"}
    assert reviewed.planned() == {**from_masks_on, "course": 1, "compact": 1, "compare": 1, "cohort_page": 1, "all": 1}


def test_results_of_another_cohort_are_refused(micro: Cohort) -> None:
    config = micro.config.with_name("foreign.yaml")
    config.write_text(micro.config.read_text().replace("cohort: micro", "cohort: stranger"))
    before = audit.hashes(micro.results)
    done = Cohort(micro.folder, config).run()
    assert done.returncode == 2
    assert "belongs to another cohort" in done.stderr
    assert "'micro'" in done.stderr
    assert audit.hashes(micro.results) == before


def test_a_killed_step_is_a_failed_row_and_the_cohort_completes(tiny: Callable[..., Cohort], tmp_path: Path) -> None:
    cohort = tiny(patients=2)
    at = "def step(job: Job) -> None:\n"
    kill = at + '    import os, signal\n    if job.rows["patient"] == "P1": os.kill(os.getpid(), signal.SIGKILL)\n'
    source = patched_source(tmp_path / "patch", {"steps/kinetics.py": (at, kill)})
    done = cohort.run(source=source)
    assert done.returncode == 1, done.stdout
    found = outcomes(cohort)
    failed = found[("A", "P1", 1, "kinetics")]
    assert (failed["status"], failed["code"]) == ("failed", "killed")
    assert (found[("A", "P1", 1, "dose")]["status"], found[("A", "P1", 1, "dose")]["code"]) == ("missing", "not_run")
    assert found[("A", "P2", 1, "dose")]["status"] == "ok"
    assert {r["patient"] for r in rows(cohort, "organ_dose")} == {"P2"}
    assert "P1" in (cohort.results / "cohort_page/index.html").read_text()
    # The cause is gone: the same command finishes the rest, and the finished stages stay as they are.
    kept = {k: v for k, v in audit.hashes(cohort.results).items() if "ingest" in k or "sub-P2" in k}
    again = cohort.run()
    assert again.returncode == 0, again.stdout
    assert {r["patient"] for r in rows(cohort, "organ_dose")} == {"P1", "P2"}
    assert {k: v for k, v in audit.hashes(cohort.results).items() if k in kept} == kept
    assert not list(cohort.results.rglob(".*.partial-*"))


def test_a_defect_is_a_failed_row_with_its_message(tiny: Callable[..., Cohort], tmp_path: Path) -> None:
    cohort = tiny()
    at = "def step(job: Job) -> None:\n"
    broken = at + '    raise RuntimeError("a defect of the program")\n'
    done = cohort.run(source=patched_source(tmp_path / "patch", {"steps/segment.py": (at, broken)}))
    assert done.returncode == 1
    row = outcomes(cohort)[("A", "P1", 1, "segment")]
    assert (row["status"], row["code"], row["sentence"]) == ("failed", "RuntimeError", "a defect of the program")
    assert "Traceback" in (cohort.results / "logs/site-A/sub-P1_ses-c1_segment.log").read_text()


def test_a_truncated_stage_is_found_discarded_and_made_again(tiny: Callable[..., Cohort]) -> None:
    cohort = tiny()
    assert cohort.run().returncode == 0
    before = audit.hashes(cohort.results)
    victim = next(cohort.results.rglob("tia_bq_h_per_ml.nii.gz"))
    victim.write_bytes(victim.read_bytes()[:-100])
    checked = cohort.call("doseledger.cli", "verify", str(cohort.results))
    assert checked.returncode == 1
    assert "kinetics" in checked.stdout
    assert "bytes instead of" in checked.stdout
    discarded = cohort.call("doseledger.cli", "verify", str(cohort.results), "--discard")
    assert discarded.returncode == 0
    assert cohort.planned()["kinetics"] == 1
    assert "ingest" not in cohort.planned()
    assert cohort.run().returncode == 0
    assert audit.hashes(cohort.results) == before


def test_a_damaged_input_fails_the_stage_that_reads_it(tiny: Callable[..., Cohort]) -> None:
    cohort = tiny()
    assert cohort.run().returncode == 0
    folder = cohort.results / "site-A/sub-P1/ses-c1"
    image = next((folder / "ingest").glob("*_spect.nii.gz"))
    image.write_bytes(b"")
    config = cohort.config.with_name("other.yaml")
    config.write_text(cohort.config.read_text() + "segment:\n  operator_uncertainty_rel: 0.06\n")
    done = Cohort(cohort.folder, config).run()
    assert done.returncode == 1
    row = outcomes(cohort)[("A", "P1", 1, "ingest")]
    assert (row["status"], row["code"]) == ("failed", "StageDamagedError")
    assert "verify RESULTS --discard" in str(row["sentence"])
    assert str(cohort.folder) not in str(row["sentence"])
    # The dose that an earlier run made is still on disk, but it is no result of these settings.
    assert outcomes(cohort)[("A", "P1", 1, "dose")]["status"] == "missing"
    assert rows(cohort, "organ_dose") == []


def test_an_outcome_lists_every_file_with_size_and_hash(micro: Cohort) -> None:
    folder = micro.results / "site-A/sub-P1/ses-c1/dose"
    listed = {entry["name"] for entry in json.loads((folder / "outcome.json").read_text())["files"]}
    present = {p.name for p in folder.iterdir() if p.name not in ("outcome.json", ".snakemake_timestamp")}
    assert listed == present
    assert list(audit.damaged(micro.results)) == []


def test_a_failed_course_does_not_take_the_cohort_with_it(tiny: Callable[..., Cohort], tmp_path: Path) -> None:
    cohort = tiny(patients=2)
    at = "def step(job: Job) -> None:\n"
    broken = at + '    if job.rows["patient"] == "P1": raise RuntimeError("a defect of the program")\n'
    done = cohort.run(source=patched_source(tmp_path / "patch", {"steps/course.py": (at, broken)}))
    assert done.returncode == 1
    row = outcomes(cohort)[("A", "P1", 0, "course")]
    assert (row["status"], row["code"]) == ("failed", "RuntimeError")
    assert {r["patient"] for r in rows(cohort, "organ_dose")} == {"P1", "P2"}
    assert {r["patient"] for r in rows(cohort, "course")} == {"P2"}
    assert cohort.run().returncode == 0
    assert {r["patient"] for r in rows(cohort, "course")} == {"P1", "P2"}


def test_a_cycle_with_a_defective_administration_was_given_all_the_same(tiny: Callable[..., Cohort]) -> None:
    cohort = tiny(cycles=2)
    sheet = cohort.config.parent / "administrations.tsv"
    lines = sheet.read_text().splitlines()
    cells = lines[2].split("\t")
    assert cells[:3] == ["A", "P1", "2"]
    # GBq in the column of MBq.
    cells[7:9] = ["7.4", "0.05"]
    sheet.write_text("\n".join([*lines[:2], "\t".join(cells)]) + "\n")
    assert cohort.run().returncode == 0
    assert outcomes(cohort)[("A", "P1", 2, "ingest")]["code"] == "sheet_invalid"
    kidneys = next(r for r in rows(cohort, "course") if r["region"] == "kidneys")
    assert (kidneys["cycles_given"], kidneys["cycles_counted"]) == (2, 1)
    assert kidneys["cumulative_status"] == "incomplete"
    assert kidneys["administered_mbq"] is None
    assert kidneys["fraction_of_limit"] is None
