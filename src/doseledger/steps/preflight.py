"""What the workflow would refuse, before any job runs: ``doseledger check``.

What was found of a cycle is kept in the results folder under a hash of all that it depends on: the
cycle's rows and settings, the software, and name, size and time of change of every file. A cycle
that has not changed is not looked at again.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import Enum
from typing import Final

from doseledger import __version__
from doseledger.cohort import (
    CYCLE_STAGES,
    Cycle,
    Key,
    Plan,
    Row,
    cycle_folder,
    stage_folder,
    stage_version,
    write_atomically,
)
from doseledger.errors import DoseledgerError, InputMissingError, RecordedError
from doseledger.io.files import Stamp, stamps_of
from doseledger.io.workers import map_in_order
from doseledger.steps.stage import OUTCOME, refusal, where

#: What was found of the cohort's cycles, in the results folder.
CHECKS: Final = ".checks.json"
#: Stages that refuse what a person has put in; the others refuse what comes out of these.
_CHECKED_STAGES: Final = ("ingest", "segment")
#: Cycles that make it worth to start a worker.
_CYCLES_PER_WORKER: Final = 4


class Depth(Enum):
    """How far to look: each goes on where the one before it ends."""

    SHEETS = "sheets"
    HEADERS = "headers"
    PIXELS = "pixels"


@dataclass(frozen=True)
class Refusal:
    """One thing that would be refused, as the ledger would say it."""

    code: str
    sentence: str


@dataclass(frozen=True)
class Findings:
    """What a check has found.

    Attributes
    ----------
    notices
        What a person should know although nothing is refused for it.
    known
        Cycles that have not changed since an earlier check.
    """

    refusals: tuple[Refusal, ...]
    notices: tuple[str, ...]
    known: int


@dataclass(frozen=True)
class Verdict:
    """What a cycle is refused for, if for anything, and the most that its results may take of the disk.

    Attributes
    ----------
    refusal
        As of `stage.refusal`.
    pixels
        Whether the pixels were read.
    """

    refusal: Row | None
    room_bytes: int
    pixels: bool


def preflight(
    plan: Plan,
    depth: Depth = Depth.HEADERS,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Findings:
    """Sheets, model, files and disk of a cohort."""
    refusals = [*_of_model(plan), *(found for cycle in plan.imaged for found in _of_sheets(cycle))]
    if depth is Depth.SHEETS:
        return Findings(tuple(refusals), (), 0)
    sound = [cycle for cycle in plan.imaged if not any(_of_sheets(cycle))]
    stamps = {cycle.key: _stamps(cycle) for cycle in sound}
    prints = {cycle.key: _fingerprint(plan, cycle, stamps[cycle.key]) for cycle in sound}
    record = _read_record(plan, prints, pixels=depth is Depth.PIXELS)
    new = [cycle for cycle in sound if cycle.key not in record]
    try:
        for done, (cycle, verdict) in enumerate(_inspected(plan, new, depth, workers), start=1):
            record[cycle.key] = verdict
            if progress:
                progress(done, len(new))
    finally:
        if new:
            _write_record(plan, prints, record)
    verdicts = [record[cycle.key] for cycle in sound]
    refusals += [Refusal(v.refusal["code"], v.refusal["sentence"]) for v in verdicts if v.refusal]
    refusals += _of_disk(plan, record)
    notices = [notice for cycle in sound for notice in _changed(plan, cycle, stamps[cycle.key])]
    return Findings(tuple(refusals), tuple(notices), known=len(sound) - len(new))


def _of_model(plan: Plan) -> Iterator[Refusal]:
    """The segmentation model and its weights, which all cycles share."""
    from doseledger.steps.model import check_configured

    try:
        check_configured(plan)
    except DoseledgerError as error:
        yield Refusal(error.code, error.sentence)


def _of_sheets(cycle: Cycle) -> Iterator[Refusal]:
    """A sentence per problem of the cycle's rows; of sound rows, per path that is not there."""
    errors: list[DoseledgerError] = [RecordedError(**problem) for problem in cycle.problems]
    if not errors:
        cells = [scan[column] for scan in cycle.scans for column in ("spect", "ct", "contours")]
        cells += [row["label_map"] for row in cycle.review]
        missing = [cell for cell in cells if cell and not os.path.exists(os.path.join(cycle.base, cell))]
        errors += [InputMissingError("the file does not exist", path=cell) for cell in missing]
    for error in errors:
        found = refusal(error, _named(cycle), cycle.base)
        yield Refusal(found["code"], found["sentence"])


def _of_disk(plan: Plan, record: Mapping[Key, Verdict]) -> Iterator[Refusal]:
    """Whether what is still to be computed has room."""
    due = [key for key in record if not stage_folder(plan.results, *key, CYCLE_STAGES[-1]).is_dir()]
    needed, free = sum(record[key].room_bytes for key in due), shutil.disk_usage(plan.results).free
    if needed > free:
        yield Refusal(
            "disk_full",
            f"the results of {len(due)} cycles may take {needed / 1e9:.1f} GB, and the disk has {free / 1e9:.1f} GB "
            "left. Make room, or put the results on another disk (config results).",
        )


def _changed(plan: Plan, cycle: Cycle, stamps: Mapping[str, Sequence[Stamp]]) -> Iterator[str]:
    """Files that the workflow does not know to have changed: it sees paths and sheets, not DICOM."""
    folder = cycle_folder(plan.results, *cycle.key)
    try:
        ingested_ns = (folder / CYCLE_STAGES[0] / OUTCOME).stat().st_mtime_ns
    except OSError:
        return
    for cell, files in stamps.items():
        # The folder tells of files that were taken away, or replaced by older ones.
        times = [os.stat(os.path.join(cycle.base, cell)).st_mtime_ns, *(stamp.mtime_ns for stamp in files)]
        if max(times) > ingested_ns:
            yield (
                f"{cell} has changed since it was ingested ({where(_named(cycle))}), and the workflow does not see it. "
                f"Delete {folder.relative_to(plan.results)} in the results, then run again."
            )


def _inspected(plan: Plan, cycles: Sequence[Cycle], depth: Depth, workers: int) -> Iterator[tuple[Cycle, Verdict]]:
    if not cycles:
        return
    from doseledger.steps.inspection import Task, inspect_cycle

    tasks = [
        Task(
            key=_named(cycle),
            ingest=cycle.rows_for("ingest"),
            segment=cycle.rows_for("segment"),
            settings={stage: plan.settings[stage] for stage in _CHECKED_STAGES},
            pixels=depth is Depth.PIXELS,
        )
        for cycle in cycles
    ]
    count = min(workers, len(tasks) // _CYCLES_PER_WORKER)
    yield from zip(cycles, map_in_order(inspect_cycle, tasks, workers=count), strict=True)


def _named(cycle: Cycle) -> Row:
    return {"site": cycle.site, "patient": cycle.patient, "cycle": cycle.cycle}


def _stamps(cycle: Cycle) -> dict[str, list[Stamp]]:
    """Files that the stages will read, by the cell that names them."""
    cells = [scan[column] for scan in cycle.scans for column in ("spect", "ct", "contours")]
    cells += [row["label_map"] for row in cycle.review]
    return {cell: stamps_of(os.path.join(cycle.base, cell)) for cell in cells if cell}


# What is kept -------------------------------------------------------------------------------------


def _fingerprint(plan: Plan, cycle: Cycle, stamps: Mapping[str, Sequence[Stamp]]) -> str:
    depends_on = [
        __version__,
        [(stage_version(stage), plan.settings[stage], cycle.rows_for(stage)) for stage in _CHECKED_STAGES],
        stamps,
    ]
    return hashlib.sha256(json.dumps(depends_on, sort_keys=True).encode()).hexdigest()


def _read_record(plan: Plan, prints: Mapping[Key, str], *, pixels: bool) -> dict[Key, Verdict]:
    """Verdicts that still hold; with `pixels`, those for which the pixels were read."""
    try:
        entries = json.loads((plan.results / CHECKS).read_text(encoding="utf-8"))
        return {
            key: Verdict(**entry["verdict"])
            for site, patient, cycle, entry in entries
            if entry["fingerprint"] == prints.get(key := (site, patient, cycle))
            and (entry["verdict"]["pixels"] or not pixels)
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _write_record(plan: Plan, prints: Mapping[Key, str], record: Mapping[Key, Verdict]) -> None:
    entries = [[*key, {"fingerprint": prints[key], "verdict": asdict(found)}] for key, found in record.items()]
    write_atomically(plan.results / CHECKS, json.dumps(entries))
