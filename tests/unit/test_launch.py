"""Locks, orphans and room of a run, with processes and Slurm commands of the test's own."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from typer.testing import CliRunner

from doseledger.cli import app
from doseledger.errors import DiskFullError, JobsAliveError, ResultsInUseError, ResultsNotWritableError, of_writing
from doseledger.launch import cohort_run, orphans
from doseledger.launch.lock import only_run, run_folder
from doseledger.launch.profile import memory_bound, profile_settings, stays_here
from doseledger.launch.room import LEAST_ROOM_BYTES, check_folder
from doseledger.launch.workflow import Ended, run_snakemake


def hold(results: Path, *, take_over: bool = False) -> list[str]:
    told: list[str] = []
    with only_run(results, take_over=take_over, tell=told.append):
        return told


def note(results: Path, **owner: object) -> None:
    run_folder(results).mkdir(exist_ok=True)
    (run_folder(results) / "owner.json").write_text(json.dumps(owner))


def test_a_second_run_is_refused_with_host_process_and_time_and_a_third_may_start(tmp_path: Path) -> None:
    with only_run(tmp_path, take_over=False, tell=print), pytest.raises(ResultsInUseError) as refused:
        hold(tmp_path)
    for part in (str(tmp_path), f"process {os.getpid()} on {os.uname().nodename} since 20", "kill -INT"):
        assert part in refused.value.sentence
    assert hold(tmp_path) == []


def test_the_flag_does_not_take_the_folder_from_a_live_run(tmp_path: Path) -> None:
    with only_run(tmp_path, take_over=False, tell=print), pytest.raises(ResultsInUseError):
        hold(tmp_path, take_over=True)


def test_a_run_that_died_on_this_machine_is_taken_over(tmp_path: Path) -> None:
    note(tmp_path, host=os.uname().nodename, pid=4711, since="2026-03-02T18:30:00+01:00")
    assert "process 4711" in hold(tmp_path)[0]
    assert hold(tmp_path) == []


def test_a_run_of_another_machine_needs_the_flag(tmp_path: Path) -> None:
    note(tmp_path, host="elsewhere", pid=4711, since="2026-03-02T18:30:00+01:00")
    with pytest.raises(ResultsInUseError, match="--take-over"):
        hold(tmp_path)
    assert "elsewhere" in hold(tmp_path, take_over=True)[0]


def test_where_the_file_system_has_no_locks_the_note_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_locks(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", no_locks)
    with only_run(tmp_path, take_over=False, tell=print), pytest.raises(ResultsInUseError, match="--take-over"):
        hold(tmp_path)
    assert hold(tmp_path) == []


def test_a_child_that_outlives_the_start_command_holds_the_lock(tmp_path: Path) -> None:
    with only_run(tmp_path, take_over=False, tell=print) as lock:
        child = subprocess.Popen(["sleep", "60"], pass_fds=(lock,))
    with pytest.raises(ResultsInUseError):
        hold(tmp_path)
    child.kill()
    child.wait()
    assert hold(tmp_path) == []


def test_an_error_in_a_run_gives_the_folder_back(tmp_path: Path) -> None:
    with pytest.raises(KeyError), only_run(tmp_path, take_over=False, tell=print):
        raise KeyError
    assert hold(tmp_path) == []


# Orphans ------------------------------------------------------------------------------------------


@pytest.fixture
def queue(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A file with the queue of a Slurm that has two commands: number and name of a job per line."""
    file, folder = tmp_path / "queue", tmp_path / "bin"
    folder.mkdir()
    commands = {
        "squeue": f'test -e "{file}" || {{ echo "Unable to contact slurm controller" >&2; exit 1; }}; cat "{file}"',
        "scancel": f'for number in "$@"; do sed -i "/^$number /d" "{file}"; done',
    }
    for name, script in commands.items():
        (folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    file.write_text("")
    return file


@pytest.fixture
def results(tmp_path: Path) -> Path:
    folder = tmp_path / "results"
    run_folder(folder).mkdir(parents=True)
    return folder


def test_only_the_jobs_of_the_earlier_run_are_cancelled(queue: Path, results: Path) -> None:
    told: list[str] = []
    name = orphans.new_name(results)
    queue.write_text(f"7 {name}_a1b2\n8 doseledger-other_c3\n9 {name}_d4\n10 wrap\n")
    assert orphans.end_earlier(results, told.append)
    assert queue.read_text() == "8 doseledger-other_c3\n10 wrap\n"
    assert told == [f"2 jobs of the earlier run {name} are alive in Slurm; they are cancelled"]


def test_a_run_that_ended_by_itself_leaves_no_name(queue: Path, results: Path) -> None:
    orphans.new_name(results)
    orphans.forget(results)
    queue.unlink()
    assert not orphans.end_earlier(results, print)


@pytest.mark.parametrize("answers", [True, False])
def test_jobs_that_a_failed_snakemake_left_are_cancelled_at_once_or_at_the_next_start(
    queue: Path, results: Path, monkeypatch: pytest.MonkeyPatch, answers: bool
) -> None:
    """Snakemake ends without cancelling where the thread that asks Slurm has died."""
    names: list[str] = []

    def fails(command: object, log: Path, lock: int, tell: object, *, name: str) -> Ended:
        names.append(name)
        queue.write_text(f"7 {name}_a1\n")
        if not answers:
            queue.unlink()
        return Ended(1, stopped=False)

    monkeypatch.setattr(cohort_run, "run_snakemake", fails)
    monkeypatch.setattr(cohort_run, "check_room", lambda _: None)
    told: list[str] = []
    options: dict[str, Any] = {"snakefile": Path("Snakefile"), "profile": "p", "cores": None, "directory": results}
    plan: Any = SimpleNamespace(results=results)
    ending = cohort_run.run_cohort(plan, Path("c.yaml"), **options, take_over=False, tell=told.append)
    assert ending.failed
    if not answers:
        assert "Slurm does not say" in told[-1]
        queue.write_text(f"7 {names[-1]}_a1\n")
        assert orphans.end_earlier(results, told.append)
    assert queue.read_text() == ""


def test_jobs_that_do_not_end_stop_the_start(queue: Path, results: Path) -> None:
    name = orphans.new_name(results)
    queue.write_text(f"7 {name}_a1b2\n")
    queue.chmod(0o444)
    (queue.parent / "bin/scancel").write_text("#!/bin/sh\n")
    with pytest.raises(JobsAliveError, match="'7'"):
        orphans.cancel_jobs(name, print, gone_s=0.0)


def test_a_controller_that_does_not_answer_stops_the_start(queue: Path, results: Path) -> None:
    orphans.new_name(results)
    queue.unlink()
    with pytest.raises(JobsAliveError, match="Unable to contact slurm controller"):
        orphans.end_earlier(results, print)


def test_without_slurm_nothing_is_asked(results: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    orphans.new_name(results)
    assert orphans.end_earlier(results, print)


def test_a_killed_run_of_this_machine_goes_on_where_slurm_has_commands_and_no_cluster(
    queue: Path, results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    profile = tmp_path / "local"
    profile.mkdir()
    (profile / "config.yaml").write_text("cores: all\n")
    queue.unlink()
    commands: list[list[str]] = []

    def killed(command: list[str], log: Path, lock: int, tell: object, *, name: str = "") -> Ended:
        commands.append(command)
        return Ended(-9, stopped=True)

    monkeypatch.setattr(cohort_run, "run_snakemake", killed)
    plan: Any = SimpleNamespace(results=results)
    options: dict[str, Any] = {"snakefile": Path("Snakefile"), "profile": str(profile), "cores": None}
    options |= {"directory": results, "take_over": False, "tell": print}
    for _ in range(2):
        assert cohort_run.run_cohort(plan, Path("c.yaml"), **options).stopped
    # The second finds the first and takes Snakemake's lock away.
    assert ["--unlock" in command for command in commands] == [False, True, False]


@pytest.mark.parametrize(
    ("text", "bound", "here"),
    [
        ("cores: all\n", True, True),
        ("cores: all\nresources:\n  - mem_mb=8000\n", False, True),
        ("executor: doseledger-slurm\n", False, False),
        ("executor: local\n", True, True),
        ("{", False, False),
        ("- 1\n", False, False),
    ],
)
def test_jobs_of_this_machine_stay_within_its_memory(tmp_path: Path, text: str, bound: bool, here: bool) -> None:
    (tmp_path / "config.yaml").write_text(text)
    settings = profile_settings(str(tmp_path))
    assert stays_here(settings) is here
    option = memory_bound(settings)
    assert bool(option) is bound
    if bound:
        whole_mb = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e6
        assert 0.8 * whole_mb < int(option[1].removeprefix("mem_mb=")) < whole_mb


def test_the_file_for_this_snakemake_goes_before_the_general_one(tmp_path: Path) -> None:
    (tmp_path / "config.yaml").write_text("cores: 1\nexecutor: local\n")
    (tmp_path / "config.v8+.yaml").write_text("executor: slurm\n")
    assert profile_settings(str(tmp_path)) == {"cores": 1, "executor": "slurm"}


def test_a_profile_that_is_not_here_may_be_of_a_cluster(tmp_path: Path) -> None:
    settings = profile_settings(str(tmp_path / "absent"))
    assert settings is None
    assert not stays_here(settings)
    assert memory_bound(settings) == []


@pytest.mark.parametrize(
    ("option", "value", "what"),
    [("--profile", "profiles/none", "config.yaml"), ("--cores", "abc", "number"), ("--cores", "0", "number")],
)
def test_a_run_with_options_that_mean_nothing_does_not_start(
    tmp_path: Path, option: str, value: str, what: str
) -> None:
    (tmp_path / "config.yaml").write_text("cohort: x\n")
    done = CliRunner().invoke(app, ["run", str(tmp_path / "config.yaml"), option, value])
    assert done.exit_code == 2
    assert what in done.output
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]


def test_a_copy_of_the_results_does_not_cancel_the_jobs_of_the_original(queue: Path, results: Path) -> None:
    queue.write_text(f"7 {orphans.new_name(results)}_a1b2\n")
    copy = results.with_name("copy")
    shutil.copytree(results, copy)
    assert not orphans.end_earlier(copy, print)
    assert queue.read_text().startswith("7 ")


# Room ---------------------------------------------------------------------------------------------


def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**12, 10**12, LEAST_ROOM_BYTES - 1))
    with pytest.raises(DiskFullError, match="MB free"):
        check_folder(tmp_path)


def test_room_leaves_nothing_behind(tmp_path: Path) -> None:
    check_folder(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "kind"),
    [(errno.EROFS, ResultsNotWritableError), (errno.EACCES, ResultsNotWritableError), (errno.EDQUOT, DiskFullError)],
)
def test_errors_of_writing_become_refusals(number: int, kind: type) -> None:
    found = of_writing(OSError(number, os.strerror(number), "results/x"))
    assert type(found) is kind
    assert "results/x" in str(found)


def test_other_errors_stay_what_they_are() -> None:
    assert of_writing(OSError(errno.EIO, "Input/output error")) is None


# Snakemake ----------------------------------------------------------------------------------------

LOG = """\
rule dose:
    output: results/dose
    message: not shown
stage ingest      site A ok
Error in rule dose:
    message: SLURM-job '5' failed, SLURM status is: 'TIMEOUT'.
    jobid: 5
    output: results/dose
Trying to restart job 5.
Slurm does not answer for 2 jobs: they are asked for again
3 of 16 steps (19%) done
half a line"""


def test_stages_progress_and_failures_with_their_reasons_are_shown(tmp_path: Path) -> None:
    told: list[str] = []
    log = tmp_path / "log"
    log.write_text("Error of an earlier run\n")
    with only_run(tmp_path, take_over=False, tell=print) as lock:
        ended = run_snakemake([sys.executable, "-c", f"print({LOG!r})"], log, lock, told.append)
    assert (ended.status, ended.stopped) == (0, False)
    shown = (3, 4, 5, 7, 8, 9, 10)
    assert told == [LOG.splitlines()[i] for i in shown]
    assert "not shown" in log.read_text()


def test_whoever_ends_the_start_command_interrupts_snakemake(tmp_path: Path) -> None:
    script = (
        "import signal, time\n"
        "def stop(*_): print('stage cancelled', flush=True); raise SystemExit(1)\n"
        "signal.signal(signal.SIGINT, stop)\nprint('stage ready', flush=True)\ntime.sleep(60)"
    )
    told: list[str] = []

    def end_it() -> None:
        while "stage ready" not in told:
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=end_it).start()
    with only_run(tmp_path, take_over=False, tell=print) as lock:
        ended = run_snakemake([sys.executable, "-c", script], tmp_path / "log", lock, told.append)
    assert (ended.status, ended.stopped) == (1, True)
    assert told == ["stage ready", "stage cancelled"]
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_killed_snakemake_is_told_from_one_that_failed(tmp_path: Path) -> None:
    with only_run(tmp_path, take_over=False, tell=print) as lock:
        killed = run_snakemake(["sh", "-c", "kill -9 $$"], tmp_path / "log", lock, print)
        failed = run_snakemake(["sh", "-c", "exit 1"], tmp_path / "log", lock, print)
    assert (killed.status, killed.stopped) == (-9, True)
    assert (failed.status, failed.stopped) == (1, False)
