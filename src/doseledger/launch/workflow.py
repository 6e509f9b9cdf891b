"""Snakemake as a child: started, followed, and told to end."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

#: How often the log is looked at, s.
_FOLLOW_S: Final = 0.3
_ENDINGS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
#: What Snakemake says that a person who waits wants to read; the rest is in the log.
_SHOWN: Final = (
    "stage ",
    "Error",
    "WorkflowError",
    "LockException",
    "Trying to restart job",
    "Slurm does not",
    "Slurm's",
)
#: Indented lines below an error that say which job it was, and why it failed.
_DETAILS: Final = ("message:", "output:", "log:")


@dataclass(frozen=True)
class Ended:
    """How Snakemake ended: its exit status, and whether somebody ended it."""

    status: int
    stopped: bool


def run_snakemake(
    command: Sequence[str], log: Path, lock: int, tell: Callable[[str], None], *, name: str = ""
) -> Ended:
    """Run Snakemake to its end; its jobs find the run's `name` as ``DOSELEDGER_RUN``.

    Its output goes to `log` and not through this process: if this process is killed, Snakemake and its
    jobs can go on writing. It keeps the results folder locked by the inherited descriptor `lock`.
    """
    with log.open("ab") as stream:
        start = stream.tell()
        process = subprocess.Popen(
            command,
            stdout=stream,
            stderr=subprocess.STDOUT,
            env=os.environ | {"PYTHONUNBUFFERED": "1", "DOSELEDGER_RUN": name},
            pass_fds=(lock,),
            start_new_session=True,
        )
    with _endings_passed_on(process) as passed_on, log.open(encoding="utf-8", errors="replace") as stream:
        stream.seek(start)
        excerpt = _Excerpt(tell)
        while process.poll() is None:
            excerpt.read(stream)
            time.sleep(_FOLLOW_S)
        excerpt.read(stream)
    return Ended(process.returncode, stopped=bool(passed_on) or process.returncode < 0)


@contextmanager
def _endings_passed_on(process: subprocess.Popen[bytes]) -> Iterator[list[int]]:
    """Whatever asks this process to end interrupts Snakemake, which cancels its jobs and ends."""
    passed_on: list[int] = []

    def interrupt(number: int, _: Any) -> None:
        passed_on.append(number)
        if process.poll() is None:
            process.send_signal(signal.SIGINT)

    # One that is ignored, as under nohup, stays ignored.
    before = {s: handler for s in _ENDINGS if (handler := signal.getsignal(s)) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield passed_on
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Excerpt:
    """What is shown of a log that grows: stages, progress, and failures with their reasons."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        self._tell = tell
        self._in_error = False

    def read(self, stream: IO[str]) -> None:
        while True:
            at = stream.tell()
            line = stream.readline()
            if not line.endswith("\n"):
                # Half a line: the rest is still to be written.
                stream.seek(at)
                return
            self._take(line.rstrip())

    def _take(self, line: str) -> None:
        indented = line.startswith(" ")
        if not indented:
            self._in_error = line.startswith("Error")
        if (indented and self._in_error and line.strip().startswith(_DETAILS)) or (
            not indented and (line.startswith(_SHOWN) or "steps (" in line)
        ):
            self._tell(line)
