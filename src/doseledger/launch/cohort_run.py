"""A cohort from start to end: lock, checks, orphans, then Snakemake once per target."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import yaml

from doseledger.cohort import Plan
from doseledger.launch import orphans
from doseledger.launch.lock import only_run
from doseledger.launch.room import check_folder, check_room
from doseledger.launch.workflow import run_snakemake

#: First all that can be had; then courses of the cycles that are there; then what the cohort has.
_TARGETS: Final = (("cycles",), ("courses", "--config", "available=true"), ("cohort", "--config", "available=true"))


@dataclass(frozen=True)
class Ending:
    """How a run ended.

    Attributes
    ----------
    failed
        Whether jobs failed, or Snakemake did.
    stopped
        Whether Snakemake was ended from outside, before the cohort was through.
    log
        What Snakemake said.
    """

    failed: bool
    stopped: bool
    log: Path


def run_cohort(
    plan: Plan,
    config: Path,
    *,
    snakefile: Path,
    profile: str,
    cores: str | None,
    directory: Path | None,
    take_over: bool,
    tell: Callable[[str], None],
) -> Ending:
    """Run a cohort to its end, also after an earlier run that was killed.

    Parameters
    ----------
    cores
        Number of cores, or ``all``; without it, what the profile says.
    directory
        Where Snakemake keeps its records; without it, here.
    take_over
        Whether a run of another machine that has not ended is taken for dead.
    tell
        Gets every line that a person should read.

    Raises
    ------
    ResultsInUseError, ResultsNotWritableError, DiskFullError, JobsAliveError
        The run cannot start.
    """
    for folder in (plan.results, directory or Path()):
        check_folder(folder)
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--profile", profile]
    command += ["--configfile", str(config)]
    command += ["--cores", cores] if cores else []
    command += ["--directory", str(directory)] if directory else []
    log = plan.results / "logs" / "workflow.log"
    log.parent.mkdir(exist_ok=True)
    with only_run(plan.results, take_over=take_over, tell=tell) as lock:
        log.write_bytes(b"")
        if orphans.end_earlier(plan.results, tell):
            run_snakemake([*command, "cycles", "--unlock"], log, lock, tell)
        name = orphans.new_name(plan.results, submits=submits_jobs(profile))
        # A profile may name Snakemake's own executor for Slurm, or ours.
        command += ["--slurm-jobname-prefix", name, "--doseledger-slurm-jobname-prefix", name]
        failed = False
        for target in _TARGETS:
            ended = run_snakemake([*command, *target], log, lock, tell, name=name)
            if ended.stopped:
                return Ending(failed=True, stopped=True, log=log)
            if ended.status != 0:
                # Nothing that follows can be had either.
                check_room(plan.results)
                failed = True
        orphans.forget(plan.results)
    return Ending(failed, stopped=False, log=log)


def submits_jobs(profile: str) -> bool:
    """Whether a profile may give jobs to a scheduler: it does unless it says that it computes here."""
    # Snakemake prefers config.v8+.yaml to config.yaml.
    files = list(Path(profile).glob("config*.yaml"))
    try:
        settings = [yaml.safe_load(file.read_text(encoding="utf-8")) for file in files]
        return not files or any(one.get("executor", "local") != "local" for one in settings)
    except (OSError, ValueError, AttributeError, yaml.YAMLError):
        return True
