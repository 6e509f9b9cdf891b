"""What a check says before any job runs: the words of the stages, a sentence per problem, nothing read twice."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pydicom
import pytest
import yaml
from typer.testing import CliRunner

from doseledger.cli import app
from doseledger.cohort import Plan, stage_folder
from doseledger.io.sheets import load_plan
from doseledger.phantom import simulate
from doseledger.steps import inspection, preflight
from doseledger.steps.inspection import Task
from doseledger.steps.preflight import CHECKS, Depth, Verdict
from doseledger.steps.stage import run_stage


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two patients with a cycle each, sound in all that a check looks at."""
    folder = tmp_path_factory.mktemp("cohort")
    simulate(
        folder,
        results="results",
        cohort="micro",
        size="micro",
        sites=1,
        patients=2,
        cycles=1,
        seed=5,
        plant_refusal=False,
        camera_studies=False,
        segmentation="contours",
    )
    return folder


@pytest.fixture
def study(written: Path, tmp_path: Path) -> Path:
    shutil.copytree(written, tmp_path / "study")
    return tmp_path / "study"


def plan_of(study: Path, **segment: object) -> Plan:
    config = yaml.safe_load((study / "config.yaml").read_text())
    config["segment"] = config.get("segment", {}) | segment
    return load_plan(config, study)


def scan_of(study: Path, patient: str = "P1", point: int = 1) -> Path:
    return study / f"dicom/site-A/sub-{patient}/ses-c1/tp-{point}"


def check(study: Path, depth: Depth = Depth.HEADERS) -> list[tuple[str, str]]:
    return [(found.code, found.sentence) for found in preflight.preflight(plan_of(study), depth).refusals]


def edit(path: Path, **values: object) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


@pytest.fixture
def inspected(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Patients that are looked at."""
    patients: list[str] = []
    real = inspection.inspect_cycle

    def look(task: Task) -> Verdict:
        patients.append(task.key["patient"])
        return real(task)

    monkeypatch.setattr(inspection, "inspect_cycle", look)
    return patients


def test_a_sound_cohort_has_no_problem_at_any_depth(study: Path) -> None:
    for depth in Depth:
        assert check(study, depth) == []


# A cycle that has not changed is not looked at again ----------------------------------------------


def test_an_unchanged_cycle_is_not_looked_at_again(study: Path, inspected: list[str]) -> None:
    first = preflight.preflight(plan_of(study))
    again = preflight.preflight(plan_of(study))
    assert (first.known, again.known) == (0, 2)
    assert inspected == ["P1", "P2"]


def test_a_refusal_is_kept_too(study: Path, inspected: list[str]) -> None:
    edit(next((scan_of(study) / "spect").iterdir()), PatientID="X")
    first = check(study)
    assert [code for code, _ in first] == ["series_mixed"]
    assert check(study) == first
    assert inspected == ["P1", "P2"]


@pytest.mark.parametrize(
    "change",
    [
        lambda study: os.utime(next((scan_of(study, "P2") / "ct").iterdir()), ns=(1, 1)),
        lambda study: next((scan_of(study, "P2") / "spect").iterdir()).unlink(),
        lambda study: os.utime(scan_of(study, "P2") / "rtstruct.dcm", ns=(1, 1)),
        lambda study: _replace(study / "administrations.tsv", "\tP2\t1\tLu177-DOTATATE", "\tP2\t1\tLu177-PSMA"),
    ],
    ids=["ct_replaced", "slice_gone", "contours_replaced", "administration_changed"],
)
def test_what_changes_a_cycle_has_it_looked_at_again(
    study: Path, inspected: list[str], change: Callable[[Path], None]
) -> None:
    check(study)
    inspected.clear()
    change(study)
    check(study)
    assert inspected == ["P2"]


def _replace(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_headers_do_not_stand_for_pixels_but_pixels_for_headers(study: Path, inspected: list[str]) -> None:
    for depth, looked in ((Depth.HEADERS, 2), (Depth.PIXELS, 2), (Depth.HEADERS, 0), (Depth.PIXELS, 0)):
        inspected.clear()
        check(study, depth)
        assert len(inspected) == looked


def test_a_damaged_record_is_made_again(study: Path, inspected: list[str]) -> None:
    check(study)
    for text in ("{", "[[1]]", "{}", '[["A", "P1", 1, {"fingerprint": "x"}]]'):
        (study / "results" / CHECKS).write_text(text)
        inspected.clear()
        assert check(study) == []
        assert len(inspected) == 2


def test_what_was_found_before_a_break_is_kept(study: Path, inspected: list[str]) -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        preflight.preflight(plan_of(study), progress=stop)
    inspected.clear()
    assert preflight.preflight(plan_of(study)).known == 1
    assert inspected == ["P2"]


def test_workers_find_the_same(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    edit(next((scan_of(study) / "spect").iterdir()), PatientID="X")
    alone = preflight.preflight(plan_of(study))
    (study / "results" / CHECKS).unlink()
    monkeypatch.setattr(preflight, "_CYCLES_PER_WORKER", 1)
    assert preflight.preflight(plan_of(study), workers=2) == alone


# What is found ------------------------------------------------------------------------------------


def test_every_problem_of_the_sheets_has_a_sentence(study: Path) -> None:
    _replace(study / "scans.tsv", "dicom/site-A/sub-P1/ses-c1/tp-1/ct", "nowhere/ct")
    _replace(study / "scans.tsv", "dicom/site-A/sub-P1/ses-c1/tp-2/spect", "nowhere/spect")
    assert [(code, "nowhere/" in sentence) for code, sentence in check(study, Depth.SHEETS)] == [
        ("input_missing", True)
    ] * 2
    _replace(study / "administrations.tsv", "\tP1\t1\tLu177-DOTATATE\tLu-177", "\tP1\t1\tLu177-DOTATATE\tlutetium")
    (study / "cameras.tsv").write_text((study / "cameras.tsv").read_text().replace("\tn/a\tn/a\n", "\tx\tn/a\n", 1))
    found = check(study, Depth.SHEETS)
    assert {code for code, _ in found} == {"sheet_invalid"}
    assert {part for part in ("administrations.tsv", "cameras.tsv") for _, s in found if part in s} == {
        "administrations.tsv",
        "cameras.tsv",
    }
    assert all("patient P" in sentence for _, sentence in found)


def test_ingest_says_the_same(study: Path, tmp_path: Path) -> None:
    edit(next((scan_of(study) / "spect").iterdir()), Units="GML")
    plan = plan_of(study)
    outcome = run_stage(
        "ingest",
        inputs={},
        output=tmp_path / "ingest",
        settings=plan.settings["ingest"],
        rows=plan.cycle("A", "P1", 1).rows_for("ingest"),
    )
    assert check(study) == [(outcome["code"], outcome["sentence"])]


def test_contours_of_another_image_are_found(study: Path) -> None:
    path = scan_of(study) / "rtstruct.dcm"
    dataset = pydicom.dcmread(path)
    for item in dataset.StructureSetROISequence:
        item.ReferencedFrameOfReferenceUID = "2.25.1"
    dataset.save_as(path)
    ((code, sentence),) = check(study)
    assert code == "contours_invalid"
    assert "patient P1" in sentence


def test_a_scan_without_contours_is_found(study: Path) -> None:
    _replace(study / "scans.tsv", "dicom/site-A/sub-P1/ses-c1/tp-1/rtstruct.dcm", "n/a")
    assert [code for code, _ in check(study)] == ["contours_invalid"]


def test_a_scan_without_ct_is_found_where_a_model_needs_one(study: Path) -> None:
    _replace(study / "scans.tsv", "dicom/site-A/sub-P2/ses-c1/tp-1/ct", "n/a")
    plan = plan_of(study, source="totalsegmentator", weights="nowhere")
    weights, ct = preflight.preflight(plan).refusals
    assert weights.code == "weights_unusable"
    assert "the time point has no CT" in ct.sentence
    assert "patient P2" in ct.sentence


def test_a_rejected_mask_is_found(study: Path) -> None:
    columns = "site\tpatient\tcycle\ttime_point\tdecision\tlabel_map\treviewer\tcomment\n"
    (study / "review.tsv").write_text(f"{columns}A\tP2\t1\t1\treject\tn/a\tAB\tspleen is bowel\n")
    config = yaml.safe_load((study / "config.yaml").read_text())
    config["sheets"]["review"] = "review.tsv"
    (study / "config.yaml").write_text(yaml.safe_dump(config))
    ((code, sentence),) = check(study)
    assert code == "rejected_in_review"
    assert "spleen is bowel" in sentence


def test_only_pixels_tell_that_an_image_cannot_be_decoded(study: Path) -> None:
    path = next((scan_of(study) / "ct").iterdir())
    edit(path, BitsAllocated=8, BitsStored=8, HighBit=7)
    assert check(study) == []
    ((code, sentence),) = check(study, Depth.PIXELS)
    assert code == "file_unreadable"
    assert path.name in sentence


def test_weights_that_are_not_there_are_found(study: Path) -> None:
    plan = plan_of(study, source="totalsegmentator", weights="nowhere")
    assert [found.code for found in preflight.preflight(plan, Depth.SHEETS).refusals] == ["weights_unusable"]


def test_a_full_disk_is_found_and_what_is_done_needs_no_room(study: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of(study)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(1, 1, 1000))  # type: ignore[attr-defined]
    (found,) = preflight.preflight(plan).refusals
    assert found.code == "disk_full"
    assert "2 cycles" in found.sentence
    for patient in ("P1", "P2"):
        stage_folder(plan.results, "A", patient, 1, "dose").mkdir(parents=True)
    assert preflight.preflight(plan).refusals == ()


@pytest.mark.parametrize("change", ["content", "gone", "nothing"])
def test_files_that_changed_after_ingest_are_noted(study: Path, change: str) -> None:
    plan = plan_of(study)
    outcome = stage_folder(plan.results, "A", "P2", 1, "ingest") / "outcome.json"
    outcome.parent.mkdir(parents=True)
    outcome.touch()
    folder = scan_of(study, "P2") / "ct"
    later_ns = outcome.stat().st_mtime_ns + 10**9
    if change == "content":
        os.utime(next(folder.iterdir()), ns=(later_ns, later_ns))
    elif change == "gone":
        os.utime(folder, ns=(later_ns, later_ns))
    notices = preflight.preflight(plan).notices
    assert [("sub-P2/ses-c1/tp-1/ct" in notice, "site-A/sub-P2/ses-c1" in notice) for notice in notices] == [
        (True, True)
    ] * (change != "nothing")


# The command --------------------------------------------------------------------------------------


def test_the_command_prints_codes_and_sentences(study: Path) -> None:
    edit(next((scan_of(study) / "spect").iterdir()), PatientID="X")
    config = str(study / "config.yaml")
    done = CliRunner().invoke(app, ["check", config])
    assert done.exit_code == 1
    assert "series_mixed: the files are of two patients" in done.output
    assert "2 cycles checked (0 not changed since), 1 problems" in done.output
    again = CliRunner().invoke(app, ["check", config])
    assert "2 cycles checked (2 not changed since), 1 problems" in again.output
    assert CliRunner().invoke(app, ["check", config, "--sheets-only"]).exit_code == 0
