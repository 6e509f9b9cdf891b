"""A validated plan on disk, in parts: the job of one cycle reads its own part, not that of 20,000 cycles.

``plan.json`` has what all cycles share and the list of their keys; ``cycles-N.json`` have the cycles, all of a
patient in one. Only the standard library is imported: every cluster job reads this twice.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final
from zlib import crc32

from doseledger.cohort import Cycle, Key, Row

INDEX: Final = "plan.json"
#: Cycles per part: reading one takes milliseconds, and 5,000 patients are some 80 files.
CYCLES_PER_PART: Final = 256


def keep(folder: Path, data: Mapping[str, Any]) -> None:
    """Write a plan, whole or not at all; of two processes that do, one wins."""
    partial = folder.with_name(f".{folder.name}.{os.getpid()}")
    partial.mkdir()
    cycles: list[Row] = data["cycles"]
    parts: dict[int, list[Row]] = {n: [] for n in range(len(cycles) // CYCLES_PER_PART + 1)}
    for cycle in cycles:
        parts[_part_of(cycle["site"], cycle["patient"], len(parts))].append(cycle)
    for number, rows in parts.items():
        _part(partial, number).write_text(json.dumps(rows), encoding="utf-8")
    index = {k: v for k, v in data.items() if k != "cycles"}
    index |= {"parts": len(parts), "keys": [[c["site"], c["patient"], c["cycle"]] for c in cycles]}
    (partial / INDEX).write_text(json.dumps(index), encoding="utf-8")
    try:
        partial.rename(folder)
    except OSError:
        # Another process was first, with the same content.
        shutil.rmtree(partial)


def read_index(folder: Path) -> Row:
    """What all cycles share, with their ``keys`` in order."""
    return dict(json.loads((folder / INDEX).read_text(encoding="utf-8")))


class KeptCycles(Mapping[Key, Cycle]):
    """The cycles of a kept plan, each part read when one of its cycles is asked for."""

    def __init__(self, folder: Path, index: Mapping[str, Any], build: Callable[[Row], Cycle]) -> None:
        self._folder = folder
        self._keys: dict[Key, None] = dict.fromkeys((site, patient, cycle) for site, patient, cycle in index["keys"])
        self._parts: int = index["parts"]
        self._build = build
        self._read: dict[int, dict[Key, Cycle]] = {}

    def __getitem__(self, key: Key) -> Cycle:
        number = _part_of(key[0], key[1], self._parts)
        if number not in self._read:
            rows = json.loads(_part(self._folder, number).read_text(encoding="utf-8"))
            self._read[number] = {cycle.key: cycle for cycle in map(self._build, rows)}
        return self._read[number][key]

    def __iter__(self) -> Iterator[Key]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def __contains__(self, key: object) -> bool:
        return key in self._keys


def _part_of(site: str, patient: str, parts: int) -> int:
    return crc32(f"{site}/{patient}".encode()) % parts


def _part(folder: Path, number: int) -> Path:
    return folder / f"cycles-{number}.json"
