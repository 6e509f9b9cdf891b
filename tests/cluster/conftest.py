"""A Slurm of the tests, a finished micro cohort to start from, and the table of faults."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.workflow.conftest import Cohort, patched_source

from doseledger import audit
from doseledger.cohort import COHORT_FOLDERS, CYCLE_STAGES, ON_REQUEST
from doseledger.phantom import simulate

ROOT = Path(__file__).parents[2]
HERE = Path(__file__).parent
PROFILE = ROOT / "profiles/test-cluster"
#: Upper bound of every wait, s: only a defect takes so long, also on a machine that others use.
WAIT_S = 300
#: States of jobs that still hold something.
ALIVE = {"PENDING", "RUNNING", "COMPLETING", "CONFIGURING", "SUSPENDED"}
#: The step of a stage begins here; faults are put in behind it.
STEP = "def step(job: Job) -> None:\n"
FAULTS: list[tuple[str, str, str, str, str]] = []


def until(what: str, condition: Callable[[], object], *, wait_s: float = WAIT_S) -> None:
    end = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not within {wait_s} s")
        time.sleep(0.3)


@dataclass(frozen=True)
class SlurmJob:
    number: int
    state: str
    node: str
    limit: str
    memory: str
    name: str
    task: str


@dataclass(frozen=True)
class Slurm:
    """The cluster, by the commands that a user has."""

    folder: Path

    def jobs(self) -> list[SlurmJob]:
        """All jobs that Slurm knows, ended ones too; `task` is the rule with its cycle."""
        line = ("squeue", "--states=all", "--noheader", "--format=%A|%T|%N|%l|%m|%j|%k")
        done = subprocess.run(line, capture_output=True, text=True, timeout=60, check=True)
        fields = (line.split("|") for line in done.stdout.splitlines())
        jobs = [SlurmJob(int(number), *others) for number, *others in fields]
        return [job for job in jobs if job.name.startswith("doseledger-")]

    def alive(self, after: int = 0) -> list[SlurmJob]:
        return [job for job in self.jobs() if job.state in ALIVE and job.number > after]

    def last(self) -> int:
        return max((job.number for job in self.jobs()), default=0)

    def since(self, number: int) -> list[SlurmJob]:
        return [job for job in self.jobs() if job.number > number]

    def pid(self, daemon: str) -> int:
        return int((self.folder / f"run/{daemon}.pid").read_text())


@pytest.fixture(scope="session")
def slurm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Slurm]:
    folder = tmp_path_factory.mktemp("slurm")
    os.environ["SLURM_TEST_DIR"] = str(folder)
    subprocess.run([HERE / "slurm_up.sh"], check=True, timeout=120)
    yield Slurm(folder)
    subprocess.run([HERE / "slurm_down.sh"], check=False, timeout=120)


@dataclass(frozen=True)
class ClusterCohort(Cohort):
    """A cohort that is run on the Slurm of the tests."""

    @property
    def command(self) -> list[str]:
        return ["doseledger.cli", "run", str(self.config), *self.places]

    @property
    def places(self) -> tuple[str, ...]:
        return ("--profile", str(self.profile), "--directory", str(self.folder / "work"))

    @property
    def profile(self) -> Path:
        own = self.folder / "profile"
        return own if own.is_dir() else PROFILE

    def change_profile(self, edit: Callable[[dict[str, Any]], object]) -> None:
        own = self.folder / "profile"
        own.mkdir()
        settings = yaml.safe_load((PROFILE / "config.yaml").read_text())
        edit(settings)
        (own / "config.yaml").write_text(yaml.safe_dump(settings))

    def start(self, *, source: Path | None = None) -> subprocess.Popen[str]:
        """Run it in the background; its words go to the file ``screen``."""
        environment = os.environ | ({"PYTHONPATH": str(source)} if source else {})
        with (self.folder / "screen").open("w") as screen:
            return subprocess.Popen(
                [sys.executable, "-m", *self.command],
                cwd=ROOT,
                env=environment,
                stdout=screen,
                stderr=subprocess.STDOUT,
                text=True,
            )

    @property
    def screen(self) -> str:
        return (self.folder / "screen").read_text()

    def run_on_slurm(self, *, source: Path | None = None) -> subprocess.CompletedProcess[str]:
        return self.call(*self.command, source=source)

    def stamps(self, *stages: str) -> dict[str, int]:
        """When finished stages were written, by path: what was done again has another time."""
        outcomes = [o for stage in stages for o in self.results.glob(f"site-*/sub-*/ses-c*/{stage}/outcome.json")]
        return {str(path.relative_to(self.results)): path.stat().st_mtime_ns for path in outcomes}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """Three cycles of one virtual patient on 32 x 32 voxels, outlines drawn, run without a cluster."""
    folder = tmp_path_factory.mktemp("undisturbed")
    size: dict[str, object] = {"sites": 1, "patients": 1, "cycles": 3, "seed": 5, "plant_refusal": False}
    config = simulate(folder / "input", results="../results", cohort="micro", size="micro", **size)  # type: ignore[arg-type]
    config.write_text(config.read_text() + "dose:\n  engines: [led]\n")
    cohort = Cohort(folder, config)
    done = cohort.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return cohort


@pytest.fixture
def half_done(undisturbed: Cohort, tmp_path: Path) -> Callable[..., ClusterCohort]:
    """Makes a copy of the finished cohort that lacks a stage of some cycles, and what was made from it."""

    def make(stage: str, cycles: tuple[int, ...] = (1, 2, 3), *, folder: Path = tmp_path) -> ClusterCohort:
        for part in ("input", "results"):
            shutil.copytree(undisturbed.folder / part, folder / part, dirs_exist_ok=True)
        results = folder / "results"
        shutil.rmtree(results / ".run", ignore_errors=True)
        patient = next(results.glob("site-*/sub-*"))
        doomed = [results / name for name in COHORT_FOLDERS if name not in ON_REQUEST] + [patient / "course"]
        later = CYCLE_STAGES[CYCLE_STAGES.index(stage) :]
        doomed += [patient / f"ses-c{cycle}" / name for cycle in cycles for name in later]
        for path in doomed:
            shutil.rmtree(path)
        return ClusterCohort(folder, folder / "input" / undisturbed.config.name)

    return make


@pytest.fixture
def same(undisturbed: Cohort) -> Callable[[Cohort], None]:
    """Holds the results of a cohort against the undisturbed ones: tables and images, bit for bit."""

    def compare(cohort: Cohort) -> None:
        assert list(audit.damaged(cohort.results)) == []
        assert audit.hashes(cohort.results) == audit.hashes(undisturbed.results)
        assert audit.cohort_sha256(cohort.results) == audit.cohort_sha256(undisturbed.results)
        assert not list(cohort.results.rglob(".*.partial-*"))

    return compare


def done_twice(jobs: list[SlurmJob]) -> int:
    """How many stages were computed to their end more than once."""
    return sum(count - 1 for count in Counter(job.task for job in jobs if job.state == "COMPLETED").values())


def cut_power(daemon: int, job: int) -> None:
    """Kill the daemon of a node and everything that it runs of a job, as a power cut does.

    All are stopped before the first is killed: a step daemon that sees its task die reports a failed job, not a lost
    node. Step daemons are no children of slurmd; tasks are known by their environment.
    """
    found = subprocess.run(["pgrep", "-f", rf"slurmstepd: \[{job}\."], capture_output=True, text=True, check=False)
    doomed = [daemon, *map(int, found.stdout.split())]
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            if f"SLURM_JOB_ID={job}\0".encode() in path.read_bytes():
                doomed.append(int(path.parent.name))
        except OSError:
            continue
    for sign in (signal.SIGSTOP, signal.SIGKILL):
        for process in doomed:
            with suppress(ProcessLookupError):
                os.kill(process, sign)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    rows = [("fault", "survived", "lost", "stages done twice", "tables"), *FAULTS]
    widths = [max(len(row[i]) for row in rows) for i in range(5)]
    terminalreporter.section("faults")
    for row in rows:
        terminalreporter.write_line(" | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)))


__all__ = ["STEP", "patched_source"]
