"""One run per results folder.

Two marks, in the folder ``.run`` of the results. The first is a lock of the operating system on a
file, which Snakemake inherits: it ends with the last of the two processes, however they end, and
nothing has to be guessed about a process that is gone. The second is a note of who holds it. File
systems of clusters do not always carry the lock to other machines, so that a note of another
machine counts as held until a person says otherwise.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from doseledger.cohort import write_atomically
from doseledger.errors import ResultsInUseError

#: What a run keeps about itself, in the results folder.
RUN: Final = ".run"
_LOCK: Final = "lock"
_OWNER: Final = "owner.json"


def run_folder(results: Path) -> Path:
    return results / RUN


@contextmanager
def only_run(results: Path, *, take_over: bool, tell: Callable[[str], None]) -> Iterator[int]:
    """Hold the lock of a results folder; gives its file descriptor, for a child to inherit.

    Parameters
    ----------
    take_over
        Do not believe the note of another machine.

    Raises
    ------
    ResultsInUseError
        Another run holds the folder.
    """
    folder = run_folder(results)
    folder.mkdir(exist_ok=True)
    note = folder / _OWNER
    locked = True
    lock = os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT, 0o666)
    try:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _in_use(results, _owner(note), "another run holds the results folder") from None
        except OSError:
            # A file system without locks: the note is all there is.
            locked = False
        before = _owner(note)
        if before:
            here = before["host"] == socket.gethostname()
            if not (here and locked) and not take_over:
                whose = "here" if here else "of another machine"
                raise _in_use(
                    results,
                    before,
                    f"a run {whose} has not ended, or was killed",
                    remedy="If that process is gone, start again with --take-over.",
                )
            tell(f"the run of {_words(before)} did not end by itself; this one takes over")
        write_atomically(note, json.dumps(_self()) + "\n")
        try:
            yield lock
        finally:
            note.unlink()
    finally:
        os.close(lock)


def _self() -> dict[str, Any]:
    since = datetime.now().astimezone().isoformat(timespec="seconds")
    return {"host": socket.gethostname(), "pid": os.getpid(), "since": since}


def _owner(note: Path) -> dict[str, Any]:
    """Who wrote the note; empty if there is none, or none that can be read."""
    try:
        found = json.loads(note.read_text(encoding="utf-8"))
        return {key: found[key] for key in ("host", "pid", "since")}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _words(owner: dict[str, Any]) -> str:
    return f"process {owner['pid']} on {owner['host']} since {owner['since']}" if owner else "an unknown process"


def _in_use(results: Path, owner: dict[str, Any], what: str, remedy: str | None = None) -> ResultsInUseError:
    return ResultsInUseError(what, path=results, value=_words(owner), remedy=remedy)
