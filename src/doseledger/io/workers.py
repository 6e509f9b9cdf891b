"""Many small pieces of work by several processes, in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

_T = TypeVar("_T")
_R = TypeVar("_R")


def cores() -> int:
    """Cores that this process may use: on a cluster fewer than the machine has."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def map_in_order(function: Callable[[_T], _R], items: Sequence[_T], *, workers: int) -> Iterator[_R]:
    """``map(function, items)``, by as many processes; by this one if one is enough.

    The workers are copies of a process that has imported the function's module and little else: this
    process may have threads, and need not be copied.
    """
    if workers <= 1:
        yield from map(function, items)
        return
    context = get_context("forkserver")
    context.set_forkserver_preload([function.__module__])
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from pool.map(function, items)
