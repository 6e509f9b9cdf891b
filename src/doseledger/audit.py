"""Questions about a results folder: what is done, is it intact, is it the same."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from doseledger.cohort import COHORT_FOLDERS, CYCLE_STAGES, PATIENT_STAGE
from doseledger.errors import StageDamagedError
from doseledger.io.nifti import read_image
from doseledger.steps.stage import OUTCOME, read_outcome

#: On another processor or library build numbers may differ by rounding, amplified by fits and
#: registrations; relative to the value, or to the largest value of an image.
AGAINST_TOLERANCE_REL: Final = 1.0e-4


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


def differences(results: Path, other: Path, *, tolerance_rel: float = AGAINST_TOLERANCE_REL) -> Iterator[Finding]:
    """Tables and images that differ by more than rounding, or that only one side has."""
    own, their = hashes(results), hashes(other)
    for name in sorted(own.keys() | their.keys()):
        if name not in own or name not in their:
            yield Finding(name, "only in one of the two")
        elif own[name] != their[name]:
            compare = _compare_tables if name.endswith(".parquet") else _compare_images
            text = compare(results / name, other / name, tolerance_rel)
            if text:
                yield Finding(name, text)


def _compare_tables(own: Path, their: Path, tolerance_rel: float) -> str | None:
    a, b = pq.read_table(own, partitioning=None), pq.read_table(their, partitioning=None)
    if a.schema != b.schema or a.num_rows != b.num_rows:
        return f"schema or number of rows differ ({a.num_rows} against {b.num_rows})"
    for name in a.column_names:
        if name in ("software_version", "input_sha256", "settings_sha256"):
            continue
        if not _same(a[name].to_pylist(), b[name].to_pylist(), tolerance_rel, exact=not _holds_floats(a[name].type)):
            return f"column {name} differs"
    return None


def _holds_floats(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or (pa.types.is_list(kind) and pa.types.is_floating(kind.value_type)))


def _same(a: list[Any], b: list[Any], tolerance_rel: float, *, exact: bool) -> bool:
    if exact:
        return a == b
    for x, y in zip(a, b, strict=True):
        if (x is None) != (y is None):
            return False
        if x is not None and not np.allclose(x, y, rtol=tolerance_rel, atol=tolerance_rel * float(np.max(np.abs(x)))):
            return False
    return True


def _compare_images(own: Path, their: Path, tolerance_rel: float) -> str | None:
    (a, grid), (b, other_grid) = read_image(own), read_image(their)
    if not grid.same_as(other_grid):
        return "grids differ"
    largest = float(np.max(np.abs(a - b)))
    limit = tolerance_rel * float(np.max(np.abs(a)))
    return None if largest <= limit else f"voxels differ by up to {largest:.3g} (allowed {limit:.3g})"


def cohort_sha256(results: Path) -> str:
    """One hash over all tables and images: equal for equal results."""
    lines = (f"{name} {value}" for name, value in sorted(hashes(results).items()))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
