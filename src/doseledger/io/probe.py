"""Trying a file in a process of its own: a file that kills its reader must not kill the merge.

Parquet libraries are not written for hostile files: single changed bytes in a file's statistics end pyarrow's whole
process. So a submission is read once where that does no harm, with limited memory and time, and only then here.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import resource
from collections.abc import Callable
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final

from doseledger.errors import DoseledgerError, SubmissionError

#: Address space of the trial: the largest tables within the limits, several times over.
MEMORY_BYTES: Final = 16 * 1024**3
#: Time of the trial; a million rows take seconds.
LONGEST_S: Final = 300.0

_WHAT: Final = "the file makes its reader fail"


def tried(read: Callable[[Path], object], path: Path, *, longest_s: float = LONGEST_S) -> None:
    """Let a process of its own read a file; return if it succeeded.

    Parameters
    ----------
    read
        A function of a module, which raises a `DoseledgerError` if the file must not be used.

    Raises
    ------
    DoseledgerError
        What `read` raised.
    SubmissionError
        It died, took too long, or failed in another way.
    """
    # Forked from a server that has loaded the libraries and runs no thread: a trial costs milliseconds.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([read.__module__])
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_trial, args=(read, path, there), daemon=True)
    process.start()
    there.close()
    try:
        if not here.poll(longest_s):
            raise SubmissionError(_WHAT, path=path.name, value=f"no answer in {longest_s:g} s")
        error = here.recv()
    except (EOFError, OSError):
        raise SubmissionError(_WHAT, path=path.name, value="the process died") from None
    finally:
        here.close()
        process.kill()
        process.join()
    if error is not None:
        raise error


def _trial(read: Callable[[Path], object], path: Path, answer: Connection) -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    allowed = MEMORY_BYTES if hard == resource.RLIM_INFINITY else min(MEMORY_BYTES, hard)
    resource.setrlimit(resource.RLIMIT_AS, (allowed, hard))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    # What a dying library prints belongs to nobody.
    with open(os.devnull, "wb") as nowhere, contextlib.suppress(OSError):
        os.dup2(nowhere.fileno(), 2)
    error: DoseledgerError | None = None
    try:
        read(path)
    except DoseledgerError as caught:
        error = caught
    except Exception as caught:
        error = SubmissionError(_WHAT, path=path.name, value=type(caught).__name__)
    answer.send(error)
    answer.close()
