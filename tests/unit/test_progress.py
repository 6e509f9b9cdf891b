"""How far a cohort is, from folders alone; what its jobs took and what is left."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict
from pathlib import Path

import pytest

from doseledger.cohort import CYCLE_STAGES, PATIENT_STAGE, Cycle, Plan, cycle_folder, patient_folder
from doseledger.progress import progress, status_text
from doseledger.resources import SNAKEMAKE_MB, usage_of_rules, usage_text
from doseledger.steps.stage import FAILURE, OUTCOME, run_stage
from doseledger.steps.usage import SUFFIX, Usage, measured, read_usage

PATIENTS = [f"P{n}" for n in range(1, 7)]


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    scan = ({"time_point": 1},)
    cycles = [Cycle("A", p, 1, None, scan if p != "P6" else (), (), (), "virtual", "/") for p in PATIENTS]
    return Plan("c1", tmp_path, {}, {c.key: c for c in cycles}, {}, (), tmp_path, "virtual")


def finish(plan: Plan, patient: str, stages: tuple[str, ...] = CYCLE_STAGES, **outcome: object) -> None:
    for stage in stages:
        folder = cycle_folder(plan.results, "A", patient, 1) / stage
        folder.mkdir(parents=True)
        text = json.dumps({"status": "ok", "files": [], "origin_stage": None} | outcome)
        (folder / OUTCOME).write_text(text)


def attempt(plan: Plan, patient: str, stage: str, *, host: str, process: int, note: str | None = None) -> None:
    folder = cycle_folder(plan.results, "A", patient, 1) / f".{stage}.partial-{host}.{process}.ab_c1"
    folder.mkdir(parents=True)
    if note:
        (folder / FAILURE).write_text(json.dumps({"code": "MemoryError", "sentence": note}))


def states(plan: Plan) -> dict[str, str]:
    return {patient: state for (_, patient, _), state in progress(plan).states.items()}


def dead_process() -> int:
    process = os.fork()
    if process == 0:
        os._exit(0)
    os.waitpid(process, 0)
    return process


def test_every_state_is_told_from_the_folders(plan: Plan) -> None:
    finish(plan, "P1")
    finish(plan, "P2", status="refused", code="unit_unknown", sentence="No unit.", origin_stage="ingest")
    finish(plan, "P3", CYCLE_STAGES[:2])
    attempt(plan, "P3", "align", host="other.example", process=1)
    finish(plan, "P4", CYCLE_STAGES[:2])
    attempt(plan, "P4", "align", host="other.example", process=1, note="Out of memory.")
    found = progress(plan)
    assert states(plan) == {
        "P1": "done", "P2": "refused", "P3": "running", "P4": "failed", "P5": "waiting", "P6": "not imaged",
    }  # fmt: skip
    assert [(r.patient, r.stage, r.state, r.sentence) for r in found.reasons] == [
        ("P2", "ingest", "refused", "No unit."),
        ("P4", "align", "failed", "Out of memory."),
    ]
    text = status_text(found, examples=5)
    assert text.startswith("1 done, 1 refused, 1 failed, 1 running, 1 waiting, 1 not imaged")
    assert text.index("failed, MemoryError: 1") < text.index("refused, unit_unknown: 1")


def test_a_job_of_this_machine_runs_as_long_as_its_process_lives(plan: Plan) -> None:
    attempt(plan, "P1", "ingest", host=platform.node(), process=os.getpid())
    attempt(plan, "P2", "ingest", host=platform.node(), process=dead_process())
    assert (states(plan)["P1"], states(plan)["P2"]) == ("running", "failed")
    (reason,) = progress(plan).reasons
    assert reason.code == "killed"


def test_an_outcome_that_cannot_be_read_is_a_failure(plan: Plan) -> None:
    finish(plan, "P1")
    (cycle_folder(plan.results, "A", "P1", 1) / "dose" / OUTCOME).write_text("{")
    assert states(plan)["P1"] == "failed"


def test_the_rest_is_what_is_missing_times_the_median(plan: Plan) -> None:
    for patient in ("P1", "P2", "P3"):
        finish(plan, patient)
        (patient_folder(plan.results, "A", patient) / PATIENT_STAGE).mkdir()
    finish(plan, "P4", CYCLE_STAGES[:4])
    attempt(plan, "P5", "ingest", host="other", process=1)
    rest = progress(plan).rest
    assert rest.jobs == {"dose": 2, "course": 3, "compact": 1, "compare": 1, "cohort_page": 1} | dict.fromkeys(
        CYCLE_STAGES[:4], 1
    )
    assert rest.hours is None
    assert "no estimate before the first" in status_text(progress(plan), examples=1)
    logs = plan.results / "logs" / "site-A"
    logs.mkdir(parents=True)
    for stage in (*CYCLE_STAGES, PATIENT_STAGE, "compact"):
        for number, wall_s in enumerate((100.0, 360.0, 9000.0)):
            record(logs / f"sub-P{number}_{stage}", Usage(stage, "ok", 1, wall_s, 1.0, 100.0))
        record(logs / f"sub-P9_{stage}", Usage(stage, "refused", 1, 0.1, 0.1, 50.0))
    assert progress(plan).rest.hours == pytest.approx(10 * 0.1)
    assert "12 jobs" in status_text(progress(plan), examples=1)
    assert "(without compare, cohort_page); 1.0 h with the 1 that run now" in status_text(progress(plan), examples=1)


def record(path: Path, usage: Usage) -> None:
    Path(f"{path}{SUFFIX}").write_text(json.dumps(asdict(usage)))


def test_of_many_reasons_a_few_are_examples(plan: Plan) -> None:
    for patient in PATIENTS[:5]:
        finish(plan, patient, status="refused", code="x", sentence="No.", origin_stage="ingest")
    text = status_text(progress(plan), examples=2)
    assert text.count("No.") == 2
    assert "and 3 more (--all)" in text


def test_a_job_measures_itself_and_says_how_it_ended(tmp_path: Path) -> None:
    log = tmp_path / "dose.log"
    with measured("dose", str(log), 1) as said:
        sum(range(1_000_000))
        said["status"] = "ok"
    found = read_usage(tmp_path / f"dose{SUFFIX}")
    assert found is not None
    assert (found.stage, found.status, found.threads) == ("dose", "ok", 1)
    assert found.wall_s > 0.0
    assert found.cpu_s > 0.0
    assert found.peak_mb > 10.0
    with pytest.raises(MemoryError), measured("dose", str(log), 1):
        raise MemoryError
    assert read_usage(tmp_path / f"dose{SUFFIX}").status == "failed"  # type: ignore[union-attr]
    (tmp_path / f"dose{SUFFIX}").write_text('{"stage"')
    assert read_usage(tmp_path / f"dose{SUFFIX}") is None


def test_resources_follow_from_the_largest_job(tmp_path: Path) -> None:
    (tmp_path / "logs" / "site-A").mkdir(parents=True)
    for number in range(1, 101):
        usage = Usage("dose", "ok", 1, wall_s=10.0 * number, cpu_s=5.0 * number, peak_mb=10.0 * number)
        record(tmp_path / "logs" / "site-A" / f"sub-P{number}_dose", usage)
    (rule,) = usage_of_rules(tmp_path)
    assert rule.wall_s == (500.0, 950.0, 1000.0)
    assert rule.mem_mb == 1600 == 1250 + SNAKEMAKE_MB
    assert rule.runtime_min == 67
    assert "dose" in usage_text([rule])


def test_the_folder_of_an_attempt_names_its_process_and_the_result_does_not(tmp_path: Path) -> None:
    run_stage(
        "compact",
        inputs={},
        output=tmp_path / "out",
        settings={},
        rows={"results": str(tmp_path), "planned": [], "phantom_qc": []},
    )
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert platform.node() not in (tmp_path / "out" / OUTCOME).read_text()
