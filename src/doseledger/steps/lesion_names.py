"""One name per lesion and patient for lesions that a threshold found in each cycle by itself.

Outlined lesions have the names of the region sheet in all cycles. Names of lesions by a threshold count within
their cycle only; the course compares the cycles at their reference time points, after the shift between their
organs, and leaves its answer in a file: the cohort's tables are written with the patient's names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, read_sidecar, write_sidecar
from doseledger.regions.hot_spots import THRESHOLD, measured
from doseledger.regions.lesion_series import median_shift_mm, names_in_series
from doseledger.steps.collect import FinishedCycle, whole_outcome
from doseledger.steps.layout import ALIGNMENT, scan_file
from doseledger.steps.spect_lesions import PREFIX

LESION_NAMES: Final = "lesion_names.json"


def with_patient_names(cycles: Sequence[FinishedCycle]) -> list[FinishedCycle]:
    """The cycles, their rows and specs with the patient's names of lesions."""
    local = {c.cycle: _by_threshold(c) for c in cycles}
    followed = [c for c in cycles if c.ok and local[c.cycle]]
    names = _matched(followed, local)
    # Lesions that no reference time point shows, or of a cycle without a dose, meet no others.
    numbers = count(
        1 + max((int(n.removeprefix(PREFIX)) for found in names.values() for n in found.values()), default=0)
    )
    for cycle in cycles:
        found = names.setdefault(cycle.cycle, {})
        found |= {name: f"{PREFIX}{next(numbers)}" for name in local[cycle.cycle] if name not in found}
    return [replace(c, lesion_names=names[c.cycle]) for c in cycles]


def write_lesion_names(out: Path, cycles: Sequence[FinishedCycle]) -> None:
    """Keep the names beside the tables of the course, if there are any."""
    if any(c.lesion_names for c in cycles):
        write_sidecar(out / LESION_NAMES, {str(c.cycle): dict(c.lesion_names) for c in cycles})


def read_lesion_names(course: Path) -> dict[int, dict[str, str]]:
    """The patient's names by cycle and name in the cycle; none without a finished course."""
    if whole_outcome(course) is None or not (course / LESION_NAMES).exists():
        return {}
    return {int(cycle): names for cycle, names in read_sidecar(course / LESION_NAMES).items()}


def _by_threshold(cycle: FinishedCycle) -> list[str]:
    """Names within the cycle, in order of their labels."""
    found = {row["lesion_id"] for row in cycle.rows("region") if row["region_source"] == THRESHOLD}
    return [spec.region for spec in cycle.specs if spec.region in found] if found else []


def _matched(cycles: Sequence[FinishedCycle], local: dict[int, list[str]]) -> dict[int, dict[str, str]]:
    """Names by cycle, for the lesions of each cycle's reference time point."""
    maps = [_reference_map(cycle) for cycle in cycles]
    found, shown = [], []
    for cycle, (labels, grid) in zip(cycles, maps, strict=True):
        by_region = {spec.region: spec.label for spec in cycle.specs}
        present = [name for name in local[cycle.cycle] if np.any(labels == by_region[name])]
        lesions = np.zeros(grid.shape, np.int32)
        for number, name in enumerate(present, start=1):
            lesions[labels == by_region[name]] = number
        found.append(measured(lesions, grid, np.ones(grid.shape)))
        shown.append(present)
    organs = [{spec.region: spec.label for spec in cycle.specs if spec.kind == "organ"} for cycle in cycles]
    shifts_mm = [
        median_shift_mm(
            *maps[0], *maps[k], {organs[0][region]: label for region, label in organs[k].items() if region in organs[0]}
        )
        for k in range(len(cycles))
    ]
    return {
        cycle.cycle: {name: _patient_name(given) for name, given in zip(present, names, strict=True)}
        for cycle, present, names in zip(cycles, shown, names_in_series(found, shifts_mm), strict=True)
    }


def _reference_map(cycle: FinishedCycle) -> tuple[NDArray[np.int64], Grid]:
    point = read_sidecar(cycle.folder("align") / ALIGNMENT)["reference_time_point"]
    key = {"patient": cycle.patient, "cycle": cycle.cycle}
    labels, grid = read_image(cycle.folder("segment") / scan_file(key, point, "dseg.nii.gz"))
    return labels.astype(np.int64), grid


def _patient_name(given: str) -> str:
    return f"{PREFIX}{given.rpartition('_')[2]}"
