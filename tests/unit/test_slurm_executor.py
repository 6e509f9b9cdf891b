"""The executor for Slurm against a controller that is away, without a Slurm."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from snakemake_executor_plugin_slurm import Executor as SlurmExecutor

import snakemake_executor_plugin_doseledger_slurm as ours

Job = SimpleNamespace


@pytest.fixture
def executor(monkeypatch: pytest.MonkeyPatch) -> ours.Executor:
    """One without a workflow: of Snakemake's executor only what is replaced here is called."""
    monkeypatch.setattr(SlurmExecutor, "__post_init__", lambda self, test_mode: None)
    monkeypatch.setattr(SlurmExecutor, "report_job_success", lambda self, job: None)
    monkeypatch.setattr(SlurmExecutor, "report_job_error", lambda self, job, msg: None)
    monkeypatch.setattr(SlurmExecutor, "cancel", lambda self: None)
    made = object.__new__(ours.Executor)
    made.workflow = SimpleNamespace(executor_settings=SimpleNamespace(init_seconds_before_status_checks=20))
    made.next_seconds_between_status_checks = 20
    made.logger = logging.getLogger("test")
    made.__post_init__()
    return made


def checked(
    executor: ours.Executor, jobs: list[Job], check: Callable[..., AsyncIterator[Job]], patch: pytest.MonkeyPatch
) -> list[str]:
    patch.setattr(SlurmExecutor, "check_active_jobs", check)

    async def numbers() -> list[str]:
        return [job.external_jobid async for job in executor.check_active_jobs(jobs)]

    return asyncio.run(numbers())


def test_the_thread_that_asks_may_be_faster_than_the_set_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Snakemake starts it first; without jobs there is nothing to ask, and nothing that the set-up makes is needed."""
    bare = object.__new__(ours.Executor)
    assert checked(bare, [], SlurmExecutor.check_active_jobs, monkeypatch) == []


async def silent(self: Any, jobs: list[Job]) -> AsyncIterator[Job]:
    """As plugin 2.8.0 where no question was answered: neither given nor reported."""
    for job in ():
        yield job


async def answering(self: Any, jobs: list[Job]) -> AsyncIterator[Job]:
    self.report_job_success(jobs[0])
    self.report_job_error(jobs[1], msg="TIMEOUT")
    yield jobs[2]


async def slower_and_slower(self: Any, jobs: list[Job]) -> AsyncIterator[Job]:
    yield jobs[0]
    self.next_seconds_between_status_checks = 180


def test_ended_jobs_are_asked_for_before_slurm_forgets_them(
    executor: ours.Executor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin takes a memory of 3 x 20 s for enough."""
    assert checked(executor, [Job(external_jobid="1")], slower_and_slower, monkeypatch) == ["1"]
    assert executor.next_seconds_between_status_checks == 40


def test_jobs_of_which_nothing_was_heard_are_kept_and_ended_ones_are_not(
    executor: ours.Executor, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = [Job(external_jobid=number) for number in ("1", "2", "3")]
    assert checked(executor, jobs, silent, monkeypatch) == ["1", "2", "3"]
    assert "does not answer for 3 jobs" in caplog.text
    caplog.clear()
    assert checked(executor, jobs, answering, monkeypatch) == ["3"]
    assert caplog.text == ""
    assert executor.next_seconds_between_status_checks == 20
    # What ended before has no say about the next question.
    assert checked(executor, jobs, silent, monkeypatch) == ["1", "2", "3"]


@pytest.fixture
def controller(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The controller answers while this file is there."""
    file = tmp_path / "answers"
    squeue = tmp_path / "squeue"
    squeue.write_text(f'#!/bin/sh\necho >>"{tmp_path}/asked"\ntest -e "{file}"\n')
    squeue.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(ours, "ASK_S", 0.02)
    return file


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    jobs: list[str] = []
    monkeypatch.setattr(SlurmExecutor, "run_job", lambda self, job: jobs.append(job))
    return jobs


def asked(controller: Path) -> int:
    record = controller.with_name("asked")
    return len(record.read_text().splitlines()) if record.exists() else 0


def start(executor: ours.Executor, job: str) -> threading.Thread:
    thread = threading.Thread(target=executor.run_job, args=(job,))
    thread.start()
    return thread


def asked_twice(controller: Path) -> None:
    while asked(controller) < 2:
        threading.Event().wait(0.01)


def test_a_submission_waits_for_the_controller(executor: ours.Executor, controller: Path, submitted: list[str]) -> None:
    thread = start(executor, "a")
    asked_twice(controller)
    assert submitted == []
    controller.touch()
    thread.join(timeout=60)
    assert submitted == ["a"]


def test_nothing_is_submitted_after_the_run_was_cancelled(
    executor: ours.Executor, controller: Path, submitted: list[str]
) -> None:
    thread = start(executor, "a")
    asked_twice(controller)
    executor.cancel()
    thread.join(timeout=60)
    controller.touch()
    executor.run_job("b")
    assert submitted == []


def test_an_answer_is_believed_for_a_while_and_a_controller_that_stays_away_is_not_waited_for_for_ever(
    executor: ours.Executor, controller: Path, submitted: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ours, "ASK_S", 60)
    controller.touch()
    executor.run_job("a")
    executor.run_job("b")
    assert asked(controller) == 1
    controller.unlink()
    monkeypatch.setattr(ours, "ASK_S", 0.0)
    monkeypatch.setattr(ours, "AWAY_S", 0.0)
    executor.run_job("c")
    assert submitted == ["a", "b", "c"]
