"""The wrapper that keeps the stage contract, with stages that misbehave."""

from __future__ import annotations

import errno
import json
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

from doseledger.errors import StageDamagedError, UnitError
from doseledger.steps import stage as wrapper
from doseledger.steps.stage import Job, failure_of, read_outcome, run_stage

KEY = {"site": "A", "patient": "P1", "cycle": 1}


@pytest.fixture
def define(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Registers a stage module made of a function."""

    def make(
        name: str, step: Callable[[Job], None], *, takes_refused: bool | tuple[str, ...] = False, version: int = 1
    ) -> None:
        module = ModuleType(f"doseledger.steps.{name}")
        module.__dict__.update(STAGE_VERSION=version, TAKES_REFUSED=takes_refused, step=step)
        monkeypatch.setitem(sys.modules, module.__name__, module)

    return make


def write(name: str, text: str) -> Callable[[Job], None]:
    return lambda job: (job.out / name).write_text(text) and None


def refuse(job: Job) -> None:
    (job.out / "half.txt").write_text("half")
    (job.out / "folder").mkdir()
    raise UnitError("no known unit", path=f"{job.rows['base']}/scan/1.dcm", tag="Units (0054,1001)", value="GML")


def fail(job: Job) -> None:
    (job.out / "half.txt").write_text("half")
    raise ZeroDivisionError("a defect")


def test_ok_lists_files_with_size_and_hash(define: Callable[..., None], tmp_path: Path) -> None:
    define("one", write("a.txt", "abc"))
    outcome = run_stage("one", inputs={}, output=tmp_path / "one", settings={"x": 1}, rows=KEY)
    assert outcome["status"] == "ok"
    sha256 = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert outcome["files"] == [{"name": "a.txt", "size": 3, "sha256": sha256}]
    assert read_outcome(tmp_path / "one", hashes=True) == outcome
    assert [p.name for p in tmp_path.iterdir()] == ["one"]


def test_refused_keeps_only_the_reason_and_names_files_as_the_sheet_does(
    define: Callable[..., None], tmp_path: Path
) -> None:
    define("one", refuse)
    outcome = run_stage("one", inputs={}, output=tmp_path / "one", settings={}, rows=KEY | {"base": str(tmp_path)})
    assert (outcome["status"], outcome["code"], outcome["origin_stage"]) == ("refused", "unit_unknown", "one")
    assert outcome["file"] == "scan/1.dcm"
    assert str(tmp_path) not in outcome["sentence"]
    assert "patient P1, cycle 1" in outcome["sentence"]
    assert [p.name for p in (tmp_path / "one").iterdir()] == ["outcome.json"]


def test_refusal_is_copied_forward_without_running(define: Callable[..., None], tmp_path: Path) -> None:
    define("one", refuse)
    define("two", fail)
    define("three", write("b.txt", "b"), takes_refused=True)
    run_stage("one", inputs={}, output=tmp_path / "one", settings={}, rows=KEY | {"base": "/"})
    two = run_stage("two", inputs={"one": (tmp_path / "one",)}, output=tmp_path / "two", settings={}, rows=KEY)
    assert (two["status"], two["origin_stage"], two["files"]) == ("refused", "one", [])
    three = run_stage("three", inputs={"two": (tmp_path / "two",)}, output=tmp_path / "three", settings={}, rows=KEY)
    assert three["status"] == "ok"


def test_anything_else_is_raised_and_leaves_a_note(define: Callable[..., None], tmp_path: Path) -> None:
    define("one", fail)
    with pytest.raises(ZeroDivisionError):
        run_stage("one", inputs={}, output=tmp_path / "one", settings={}, rows=KEY)
    assert not (tmp_path / "one").exists()
    assert failure_of(tmp_path / "one") == {"code": "ZeroDivisionError", "sentence": "a defect"}


def test_a_full_disk_leaves_no_half_note(
    define: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = OSError(errno.ENOSPC, "No space left on device")

    def write_half(path: Path, data: object) -> None:
        path.write_text("{")
        raise full

    def step(job: Job) -> None:
        raise full

    define("one", step)
    monkeypatch.setattr(wrapper, "write_json", write_half)
    with pytest.raises(OSError, match="No space left"):
        run_stage("one", inputs={}, output=tmp_path / "one", settings={}, rows={})
    failure = failure_of(tmp_path / "one")
    assert failure is not None
    assert failure["code"] == "killed"
    assert "disk full" in failure["sentence"]


def test_a_later_success_clears_the_notes(define: Callable[..., None], tmp_path: Path) -> None:
    define("one", fail)
    with pytest.raises(ZeroDivisionError):
        run_stage("one", inputs={}, output=tmp_path / "one", settings={}, rows=KEY)
    define("one", write("a.txt", "abc"))
    run_stage("one", inputs={}, output=tmp_path / "one", settings={}, rows=KEY)
    assert failure_of(tmp_path / "one") is None


def test_a_job_that_vanished_left_no_note_but_its_folder(tmp_path: Path) -> None:
    assert failure_of(tmp_path / "one") is None
    (tmp_path / ".one.partial-xyz").mkdir()
    failure = failure_of(tmp_path / "one")
    assert failure is not None
    assert failure["code"] == "killed"


def test_an_output_that_another_job_left_is_replaced_whole(define: Callable[..., None], tmp_path: Path) -> None:
    define("one", write("old.txt", "old"))
    run_stage("one", inputs={}, output=tmp_path / "one", settings={}, rows=KEY)
    define("one", write("new.txt", "new"))
    run_stage("one", inputs={}, output=tmp_path / "one", settings={}, rows=KEY)
    assert sorted(p.name for p in (tmp_path / "one").iterdir()) == ["new.txt", "outcome.json"]


@pytest.mark.parametrize("damage", ["truncated", "missing", "no outcome", "broken outcome"])
def test_damaged_input_is_found_before_the_work(define: Callable[..., None], tmp_path: Path, damage: str) -> None:
    define("one", write("a.txt", "abc"))
    define("two", write("b.txt", "b"))
    run_stage("one", inputs={}, output=tmp_path / "one", settings={}, rows=KEY)
    victim = tmp_path / "one" / ("a.txt" if damage in ("truncated", "missing") else "outcome.json")
    if damage in ("truncated", "broken outcome"):
        victim.write_text("a")
    else:
        victim.unlink()
    with pytest.raises(StageDamagedError, match="verify RESULTS --discard"):
        run_stage("two", inputs={"one": (tmp_path / "one",)}, output=tmp_path / "two", settings={}, rows=KEY)
    assert not (tmp_path / "two").exists()


def test_changed_content_of_the_same_size_is_found_by_its_hash(define: Callable[..., None], tmp_path: Path) -> None:
    define("one", write("a.txt", "abc"))
    run_stage("one", inputs={}, output=tmp_path / "one", settings={}, rows=KEY)
    (tmp_path / "one" / "a.txt").write_text("abd")
    read_outcome(tmp_path / "one")
    with pytest.raises(StageDamagedError, match=r"content of a\.txt"):
        read_outcome(tmp_path / "one", hashes=True)


def test_settings_and_versions_of_all_stages_are_carried_along(define: Callable[..., None], tmp_path: Path) -> None:
    define("one", write("a.txt", "a"), version=3)
    define("two", write("b.txt", "b"))
    run_stage("one", inputs={}, output=tmp_path / "one", settings={"x": 1}, rows=KEY)
    outcome = run_stage(
        "two", inputs={"one": (tmp_path / "one",)}, output=tmp_path / "two", settings={"y": 2}, rows=KEY
    )
    assert outcome["upstream"] == {"one": {"version": 3, "settings": {"x": 1}}}


def test_outcome_has_no_time(define: Callable[..., None], tmp_path: Path) -> None:
    define("one", write("a.txt", "a"))
    for name in ("first", "second"):
        run_stage("one", inputs={}, output=tmp_path / name / "one", settings={}, rows=KEY)
    texts = [(tmp_path / name / "one" / wrapper.OUTCOME).read_text() for name in ("first", "second")]
    assert texts[0] == texts[1]
    assert json.loads(texts[0])["key"] == KEY


def test_only_named_inputs_may_be_refused_and_those_of_other_cycles_are_kept_aside(
    define: Callable[..., None], tmp_path: Path
) -> None:
    define("bad", refuse)
    define("good", write("a.txt", "abc"))
    define("two", write("b.txt", "abc"), takes_refused=("donors",))
    bad, good = tmp_path / "c1" / "bad", tmp_path / "c2" / "good"
    run_stage("bad", inputs={}, output=bad, settings={"x": 1}, rows=KEY | {"base": "/data"})
    own = KEY | {"cycle": 2}
    run_stage("good", inputs={}, output=good, settings={"y": 2}, rows=own)
    outcome = run_stage(
        "two", inputs={"good": (good,), "donors": (bad,)}, output=tmp_path / "two", settings={}, rows=own
    )
    assert outcome["status"] == "ok"
    assert outcome["aside"] == [KEY]
    assert list(outcome["upstream"]) == ["good"]
    turned = run_stage(
        "two", inputs={"good": (bad,), "donors": (good,)}, output=tmp_path / "three", settings={}, rows=own
    )
    assert (turned["status"], turned["origin_stage"]) == ("refused", "bad")


def test_half_a_note_of_a_killed_job_says_that_it_was_killed(tmp_path: Path) -> None:
    attempt = tmp_path / f".dose{wrapper.PARTIAL}node.1.abc"
    attempt.mkdir()
    (attempt / wrapper.FAILURE).write_text('{"code": "x", "sen')
    found = failure_of(tmp_path / "dose")
    assert found is not None
    assert found["code"] == "killed"
