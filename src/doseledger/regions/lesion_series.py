"""Names of lesions over a series of scans or cycles, and the shift of the patient between two of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from doseledger.geometry import Grid, Vector
from doseledger.regions.gate import centroid_mm
from doseledger.regions.lesion_matching import LARGEST_DISTANCE_MM, Matching, NamedLesions, match_lesions
from doseledger.regions.lesions import Delineation


def names_in_series(
    found: Sequence[Delineation],
    shifts_mm: Sequence[Vector],
    *,
    largest_distance_mm: float = LARGEST_DISTANCE_MM,
) -> list[tuple[str, ...]]:
    """Names ``lesion_1``, ``lesion_2``, ... so that one lesion has one name in all members of the series.

    Every member is compared with all lesions of the members before it, at the place where each was seen
    first: a lesion that one member does not show has its name again in the next one.

    Parameters
    ----------
    shifts_mm
        Rigid shift LPS ``(x, y, z)`` from positions in the first member to those in each one.

    Returns
    -------
    list
        For each member the names in the order of `Delineation.lesions`.
    """
    known = NamedLesions(np.zeros(found[0].grid.shape, np.int32), found[0].grid, ()) if found else None
    used: set[str] = set()
    names = []
    for current, shift_mm in zip(found, shifts_mm, strict=True):
        assert known is not None
        matching = match_lesions(
            known, current, shift_mm=shift_mm, largest_distance_mm=largest_distance_mm, used_ids=used
        )
        used |= set(matching.lesion_ids)
        known = _with_new(known, current, matching, shift_mm)
        names.append(matching.lesion_ids)
    return names


def median_shift_mm(
    first: NDArray[np.integer[Any]],
    first_grid: Grid,
    second: NDArray[np.integer[Any]],
    second_grid: Grid,
    labels: Mapping[int, int],
) -> Vector:
    """Median over organs of the shift of their middles from one label map to another, LPS ``(x, y, z)``.

    Zero where no organ is in both: nothing then says how the patient lay.

    Parameters
    ----------
    labels
        From an organ's label in the first map to that in the second one.
    """
    shifts = []
    for here, there in labels.items():
        a, b = first == here, second == there
        if a.any() and b.any():
            shifts.append(np.subtract(centroid_mm(b, second_grid), centroid_mm(a, first_grid)))
    if not shifts:
        return (0.0, 0.0, 0.0)
    x, y, z = (float(v) for v in np.median(shifts, axis=0))
    return (x, y, z)


def _with_new(known: NamedLesions, current: Delineation, matching: Matching, shift_mm: Vector) -> NamedLesions:
    """The lesions known so far with the new ones, on the grid of the former; none takes a voxel of another."""
    labels = known.labels.astype(np.int32)
    to_lps = current.grid.index_to_lps
    ids = list(known.lesion_ids)
    for lesion, lesion_id in zip(current.lesions, matching.lesion_ids, strict=True):
        if lesion_id not in matching.new:
            continue
        positions = np.argwhere(current.labels == lesion.label) @ to_lps[:3, :3].T + to_lps[:3, 3] - shift_mm
        index = np.rint(known.grid.index(positions)).astype(np.int64)
        index = index[np.all((index >= 0) & (index < known.grid.shape), axis=1)]
        index = index[labels[tuple(index.T)] == 0]
        # A part of a known lesion, or out of the field: without a place of its own it cannot be met again.
        if len(index):
            ids.append(lesion_id)
            labels[tuple(index.T)] = len(ids)
    return NamedLesions(labels, known.grid, tuple(ids))
