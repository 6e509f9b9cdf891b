"""Snakemake's executor for Slurm, which waits for a controller that is away.

Snakemake finds it by the name of the package; a profile asks for it by ``executor: doseledger-slurm``. It is the
executor of snakemake-executor-plugin-slurm but for three things. That one drops all jobs when Slurm does not
answer for them, and then waits for them for ever; here they are asked for again. That one takes a job that cannot be
submitted for failed; here a submission waits until the controller is back. That one lets up to 180 s pass between two
questions, and only requires that Slurm remembers ended jobs for three times ``init-seconds-before-status-checks``; here
it asks after twice that time at the latest.
"""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import AsyncIterator
from typing import Any, Final

from snakemake_executor_plugin_slurm import Executor as SlurmExecutor
from snakemake_executor_plugin_slurm import ExecutorSettings, common_settings

#: A submission is tried without an answer after this, s, and then fails with Slurm's own words.
AWAY_S: Final = 4 * 3600
#: Between two questions to a controller that is away, and how long its answer is believed, s.
ASK_S: Final = 5
#: For one question, s; a controller under load answers late.
_CALL_S: Final = 60


class Executor(SlurmExecutor):  # type: ignore[misc]
    next_seconds_between_status_checks: float

    def __post_init__(self, test_mode: bool = False) -> None:
        self._cancelled = threading.Event()
        self._asking = threading.Lock()
        self._answered_at = -float("inf")
        self._told: set[str | None] = set()
        self._unheard = False
        super().__post_init__(test_mode)

    def run_job(self, job: Any) -> None:
        self._wait_for_controller()
        # Submitted now, it would outlive the run that is ending.
        if not self._cancelled.is_set():
            super().run_job(job)

    def cancel(self) -> None:
        self._cancelled.set()
        super().cancel()

    def report_job_success(self, job_info: Any) -> None:
        self._told.add(job_info.external_jobid)
        super().report_job_success(job_info)

    def report_job_error(self, job_info: Any, msg: str | None = None, **kwargs: Any) -> None:
        self._told.add(job_info.external_jobid)
        super().report_job_error(job_info, msg=msg, **kwargs)

    async def check_active_jobs(self, active_jobs: list[Any]) -> AsyncIterator[Any]:
        """Give the jobs that have not ended: also those of which nothing was heard."""
        if not active_jobs:
            # The thread that asks starts before __post_init__ has run, here and in the plugin: an error in it
            # would end it unseen, and Snakemake would wait for ever. No job can have been submitted by then.
            return
        self._told.clear()
        alive = set()
        async for job in super().check_active_jobs(active_jobs):
            alive.add(job.external_jobid)
            yield job
        unheard = [job for job in active_jobs if job.external_jobid not in alive | self._told]
        if unheard and not self._unheard:
            self.logger.warning(f"Slurm does not answer for {len(unheard)} jobs: they are asked for again")
        self._unheard = bool(unheard)
        for job in unheard:
            yield job
        longest_s = 2 * self.workflow.executor_settings.init_seconds_before_status_checks
        self.next_seconds_between_status_checks = min(self.next_seconds_between_status_checks, longest_s)

    def _wait_for_controller(self) -> None:
        end = time.monotonic() + AWAY_S
        with self._asking:
            if time.monotonic() < self._answered_at + ASK_S:
                return
            said = False
            while not self._cancelled.is_set() and time.monotonic() < end:
                if controller_answers():
                    self._answered_at = time.monotonic()
                    return
                if not said:
                    self.logger.warning("Slurm's controller does not answer: submissions wait for it")
                    said = True
                self._cancelled.wait(ASK_S)


def controller_answers() -> bool:
    # Not scontrol ping: its status is 0 while a backup answers that does not take jobs.
    command = ("squeue", "--me", "--noheader", "--format=%i")
    try:
        return subprocess.run(command, capture_output=True, timeout=_CALL_S, check=False).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


__all__ = ["Executor", "ExecutorSettings", "common_settings", "controller_answers"]
