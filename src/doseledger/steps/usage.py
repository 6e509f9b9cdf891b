"""What a job took: measured by the job itself, kept beside its log, never among its data.

Snakemake's own benchmark files would be one file more to plan per job, and they sample: what a process takes after the
last sample, or between two of them (30 s apart in a long job), is lost. The operating system has counted all of it.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

SUFFIX: Final = ".usage.json"
#: `ru_maxrss` is in kB on Linux and in bytes on macOS.
_BYTES_PER_MAXRSS: Final = 1 if sys.platform == "darwin" else 1024
_BYTES_PER_MB: Final = 1_000_000


@dataclass(frozen=True)
class Usage:
    """One attempt at a stage; peak memory is that of the largest process, in MB."""

    stage: str
    status: str
    threads: int
    wall_s: float
    cpu_s: float
    peak_mb: float


@contextmanager
def measured(stage: str, log: str | None, threads: int) -> Iterator[dict[str, str]]:
    """Measure what happens inside, and write it beside `log`; a job that was killed leaves nothing.

    What is inside says its own ``status``; it has failed if it says none.
    """
    started = time.monotonic()
    said = {"status": "failed"}
    try:
        yield said
    finally:
        if log is not None:
            usage = Usage(stage, said["status"], threads, round(time.monotonic() - started, 3), _cpu_s(), _peak_mb())
            Path(log).with_suffix(SUFFIX).write_text(json.dumps(asdict(usage)) + "\n", encoding="utf-8")


def _cpu_s() -> float:
    """Of this process from its start, and of those it started and waited for."""
    own, others = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return round(own.ru_utime + own.ru_stime + others.ru_utime + others.ru_stime, 3)


def _peak_mb() -> float:
    largest = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return round(largest * _BYTES_PER_MAXRSS / _BYTES_PER_MB, 1)


def read_usage(path: Path) -> Usage | None:
    """One record; None if a job is just writing it."""
    try:
        return Usage(**json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, TypeError):
        return None
