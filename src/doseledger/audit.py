"""Questions about a results folder: what is done, is it intact, is it the same."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from doseledger.cohort import COHORT_FOLDERS, CYCLE_STAGES, PATIENT_STAGE
from doseledger.errors import StageDamagedError
from doseledger.sameness import Deviation, compare_images, compare_tables, failures
from doseledger.steps.stage import OUTCOME, read_outcome


@dataclass(frozen=True)
class Finding:
    """One thing to report, with where it is."""

    where: str
    text: str


def stage_folders(results: Path) -> list[Path]:
    """All finished stages below a results folder, in order of path."""
    return sorted(path.parent for path in results.rglob(OUTCOME))


def damaged(results: Path) -> Iterator[tuple[Path, str]]:
    """Stages whose files are not what their manifest lists, by size and SHA-256."""
    for folder in stage_folders(results):
        try:
            read_outcome(folder, hashes=True)
        except StageDamagedError as error:
            yield folder, error.detail
    for folder in sorted(_without_outcome(results)):
        yield folder, f"no {OUTCOME}"


def _without_outcome(results: Path) -> Iterator[Path]:
    above = (results / name for name in COHORT_FOLDERS)
    yield from (f for f in above if f.is_dir() and not (f / OUTCOME).exists())
    for patient in results.glob("site-*/sub-*"):
        folders = [patient / "course", *(c / s for c in patient.glob("ses-c*") for s in CYCLE_STAGES)]
        yield from (f for f in folders if f.is_dir() and not (f / OUTCOME).exists())


def discard(results: Path, folder: Path) -> list[Path]:
    """Delete a damaged stage and all that was made from it, so that the next run makes both again.

    Snakemake does not make an intermediate folder again while its products are there.
    """
    *place, stage = folder.relative_to(results).parts
    doomed = [results / name for name in COHORT_FOLDERS]
    if stage in COHORT_FOLDERS:
        doomed = doomed[COHORT_FOLDERS.index(stage) :]
    else:
        doomed.append(results.joinpath(*place[:2], PATIENT_STAGE))
    if stage in CYCLE_STAGES:
        doomed += [folder.parent / name for name in CYCLE_STAGES[CYCLE_STAGES.index(stage) :]]
    present = [path for path in doomed if path.exists()]
    for path in present:
        shutil.rmtree(path)
    return present


def hashes(results: Path) -> dict[str, str]:
    """SHA-256 of every table and image, by path relative to the results folder."""
    return {
        (folder / entry["name"]).relative_to(results).as_posix(): entry["sha256"]
        for folder in stage_folders(results)
        for entry in read_outcome(folder)["files"]
        if entry["name"].endswith((".parquet", ".nii.gz"))
    }


def compared(results: Path, other: Path) -> Iterator[tuple[str, list[str], list[Deviation]]]:
    """Every table and image that is not the same bits: differences beyond rounding, and deviations of numbers."""
    own, their = hashes(results), hashes(other)
    for name in sorted(own.keys() | their.keys()):
        if name not in own or name not in their:
            yield name, ["only in one of the two"], []
        elif own[name] != their[name]:
            compare = compare_tables if name.endswith(".parquet") else compare_images
            yield name, *compare(results / name, other / name)


@dataclass(frozen=True)
class Sameness:
    """One line of the table that compares results folders: files by how they compare with those of the first one."""

    results: Path
    identical: int
    within: int
    different: int
    worst: tuple[Deviation, ...]
    sha256: str


def sameness(results: Path, other: Path) -> tuple[Sameness, list[Finding]]:
    """How `other` compares with `results`, the largest deviation of each kind of quantity, and what is too far off."""
    within = different = 0
    findings: list[Finding] = []
    worst: dict[str, Deviation] = {}
    for name, texts, deviations in compared(results, other):
        found = [Finding(*pair) for pair in failures(name, texts, deviations)]
        findings += found
        different += bool(found)
        within += not found
        for deviation in deviations:
            if deviation.kind not in worst or deviation.of_allowed > worst[deviation.kind].of_allowed:
                worst[deviation.kind] = replace(deviation, where=f"{name}, {deviation.where}")
    files = hashes(results).keys() | hashes(other).keys()
    in_order = tuple(worst[kind] for kind in sorted(worst))
    line = Sameness(other, len(files) - within - different, within, different, in_order, cohort_sha256(other))
    return line, findings


def differences(results: Path, other: Path) -> Iterator[Finding]:
    """Tables and images that differ by more than the tolerances, or that only one side has."""
    for name, texts, deviations in compared(results, other):
        yield from (Finding(*found) for found in failures(name, texts, deviations))


def cohort_sha256(results: Path) -> str:
    """One hash over all tables and images: equal for equal results."""
    lines = (f"{name} {value}" for name, value in sorted(hashes(results).items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
