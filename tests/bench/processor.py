"""Processor time of a command with all that it starts."""

from __future__ import annotations

import ctypes
import os
import resource
import subprocess
from collections.abc import Sequence

_PR_SET_CHILD_SUBREAPER = 36


def count_orphans() -> None:
    """Let orphaned descendants become children of this process (Linux): a pool's fork server outlives the command."""
    if ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def processor_s(command: Sequence[str], *, statuses: Sequence[int] = (0,), **environment: str) -> float:
    """User and system time, s, of a command and of every process that descends from it."""
    before = _children_s()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ | environment)
    output, _ = process.communicate()
    assert process.returncode in statuses, (command, output)
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return _children_s() - before


def _children_s() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
