"""Slurm jobs of an earlier run that live on after its Snakemake was killed.

Snakemake started again knows nothing of them and would submit the same work beside them. All jobs of a
run bear its name, which is written down before the first of them is submitted.
"""

from __future__ import annotations

import json
import secrets
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from doseledger.cohort import write_atomically
from doseledger.errors import JobsAliveError
from doseledger.launch.lock import run_folder

#: Name of the run whose jobs may be alive.
_RECORD: Final = "jobs.json"
#: For one call of a Slurm command; a controller under load answers late.
_CALL_S: Final = 60
#: For cancelled jobs to be gone: Slurm kills what has not ended after KillWait (30 s by default), and a
#: job that is ending may still write.
GONE_S: Final = 300


def new_name(results: Path, *, submits: bool = True) -> str:
    """Name the jobs of a run, and keep the name until the run has ended by itself.

    A run that submits none (`submits`) can be resumed where squeue is installed and no Slurm answers.
    """
    name = f"doseledger-{secrets.token_hex(6)}"
    # The folder tells the results from a copy of them, whose jobs these are not.
    record = {"name": name, "folder": _identity(results), "slurm": submits and shutil.which("squeue") is not None}
    write_atomically(run_folder(results) / _RECORD, json.dumps(record) + "\n")
    return name


def forget(results: Path) -> None:
    """The run has ended by itself, and no job of it is alive."""
    (run_folder(results) / _RECORD).unlink()


def end_earlier(results: Path, tell: Callable[[str], None]) -> bool:
    """Cancel what lives of a run that did not end by itself; whether there was such a run.

    Raises
    ------
    JobsAliveError
        Slurm does not answer, or jobs do not end.
    """
    try:
        record = json.loads((run_folder(results) / _RECORD).read_text(encoding="utf-8"))
        name, slurm = str(record["name"]), bool(record["slurm"])
        own = bool(record["folder"] == _identity(results))
    except (OSError, ValueError, KeyError, TypeError):
        return False
    # Where Slurm was not at hand, no job can have been given to it.
    if own and slurm:
        cancel_jobs(name, tell)
    return own


def _identity(results: Path) -> int:
    return results.stat().st_ino


def cancel_jobs(name: str, tell: Callable[[str], None], *, gone_s: float = GONE_S) -> None:
    """Cancel the jobs of a run and wait until none is alive.

    They are not waited for: Snakemake takes what they would write for incomplete and makes it again,
    because it has no record of the settings that it was made with.

    Raises
    ------
    JobsAliveError
        Slurm does not answer, or jobs do not end.
    """
    alive = live_jobs(name)
    if alive:
        tell(f"{len(alive)} jobs of the earlier run {name} are alive in Slurm; they are cancelled")
        _slurm("scancel", *alive)
    end = time.monotonic() + gone_s
    while alive:
        if time.monotonic() > end:
            raise JobsAliveError("jobs of an earlier run do not end", value=", ".join(alive[:5]))
        time.sleep(1)
        alive = live_jobs(name)


def live_jobs(name: str) -> list[str]:
    """Numbers of a run's jobs that wait, run or are ending, by the name that they begin with."""
    listed = _slurm("squeue", "--me", "--noheader", "--format=%i %j")
    found = (line.split() for line in listed.splitlines())
    return [number for number, job in (fields for fields in found if len(fields) == 2) if job.startswith(name)]


def _slurm(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_CALL_S, check=True)
    except (OSError, subprocess.SubprocessError) as error:
        said = str(getattr(error, "stderr", None) or error).strip()
        raise JobsAliveError(
            "Slurm does not say whether jobs of an earlier run are alive", value=f"{command[0]}: {said}"
        ) from None
    return done.stdout
