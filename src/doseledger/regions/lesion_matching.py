"""Stable names of lesions across scans and cycles.

Lesions are matched first by overlap, then, of those that overlap none, by the distance of their middles; in both steps
the assignment is the best one for all together, not for one lesion after the other. A lesion that matches no
earlier one is new and gets a number that was never used.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from doseledger.errors import QuantityError
from doseledger.geometry import Grid, Vector
from doseledger.regions.lesions import Delineation

#: Share of the smaller of two lesions that they must have in common to be the same by overlap.
SMALLEST_OVERLAP: Final = 0.1
#: Largest distance between the middles of lesions without overlap that are still the same, mm: two to three
#: SPECT voxels of registration error and breathing.
LARGEST_DISTANCE_MM: Final = 15.0
#: Form of the names given here; other names, as of outlined lesions, are kept and never given.
_ID: Final = re.compile(r"lesion_(\d+)")
#: Distance of pairs that must not match, mm: larger than any sum of distances in a body.
_FORBIDDEN_MM: Final = 1.0e9


@dataclass(frozen=True, eq=False)
class NamedLesions:
    """Voxels of lesions that have names: the n-th name belongs to label n + 1."""

    labels: NDArray[np.integer[Any]]
    grid: Grid
    lesion_ids: tuple[str, ...]


@dataclass(frozen=True)
class Matching:
    """Names of the current lesions and what became of the earlier ones.

    Attributes
    ----------
    lesion_ids
        Names in the order of `Delineation.lesions`.
    new
        Names given here for the first time.
    resolved
        Earlier names that no current lesion carries or has taken in.
    split
        From new names to the earlier lesion that they also overlap.
    merged
        From earlier names that no current lesion carries to the current one that overlaps them.
    """

    lesion_ids: tuple[str, ...]
    new: tuple[str, ...]
    resolved: tuple[str, ...]
    split: dict[str, str]
    merged: dict[str, str]


def match_lesions(
    previous: NamedLesions,
    current: Delineation,
    *,
    shift_mm: Vector = (0.0, 0.0, 0.0),
    largest_distance_mm: float = LARGEST_DISTANCE_MM,
    used_ids: Iterable[str] = (),
) -> Matching:
    """Give the current lesions the names of the earlier ones that they continue.

    Parameters
    ----------
    previous
        Earlier lesions. To let a lesion that had vanished come back under its name, leave its last known
        voxels among them.
    shift_mm
        Rigid shift LPS ``(x, y, z)`` that takes positions of the earlier scan to the current one.
    largest_distance_mm
        Limit for lesions that do not overlap.
    used_ids
        Names that were given before and are not in `previous`: they are never given again.

    Raises
    ------
    QuantityError
        An earlier name is there twice, or the names do not fit the labels.
    """
    _require_named(previous)
    overlap, distance_mm = _compare(previous, current, np.asarray(shift_mm, dtype=np.float64))
    pairs = _by_overlap(overlap) | _by_distance(distance_mm, overlap, largest_distance_mm)
    numbers = [int(m[1]) for m in map(_ID.fullmatch, {*used_ids, *previous.lesion_ids}) if m]
    following = max(numbers, default=0) + 1
    earlier_of = {c: p for p, c in pairs.items()}
    ids, new, split = [], [], {}
    for c in range(len(current.lesions)):
        if c in earlier_of:
            ids.append(previous.lesion_ids[earlier_of[c]])
            continue
        ids.append(f"lesion_{following}")
        new.append(ids[-1])
        following += 1
        parent = _closest(overlap[:, c])
        if parent is not None:
            split[ids[-1]] = previous.lesion_ids[parent]
    gone = [p for p in range(len(previous.lesion_ids)) if p not in pairs]
    heirs = {p: _closest(overlap[p]) for p in gone}
    return Matching(
        lesion_ids=tuple(ids),
        new=tuple(new),
        resolved=tuple(previous.lesion_ids[p] for p in gone if heirs[p] is None),
        split=split,
        merged={previous.lesion_ids[p]: ids[c] for p, c in heirs.items() if c is not None},
    )


def _require_named(previous: NamedLesions) -> None:
    labels = [int(n) for n in np.unique(previous.labels) if n]
    ids = previous.lesion_ids
    if len(set(ids)) < len(ids) or labels != list(range(1, len(ids) + 1)):
        raise QuantityError("the earlier lesions do not have one name each", value=labels, expected=list(ids))


def _compare(
    previous: NamedLesions, current: Delineation, shift_mm: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Common share of the smaller lesion, and distance of the middles in mm; both (previous, current)."""
    shape = (len(previous.lesion_ids), len(current.lesions))
    overlap, distance_mm = np.zeros(shape), np.zeros(shape)
    to_lps = previous.grid.index_to_lps
    for p in range(shape[0]):
        positions = np.argwhere(previous.labels == p + 1) @ to_lps[:3, :3].T + to_lps[:3, 3] + shift_mm
        index = np.rint(current.grid.index(positions)).astype(np.int64)
        inside = np.all((index >= 0) & (index < current.grid.shape), axis=1)
        hit = np.bincount(current.labels[tuple(index[inside].T)], minlength=shape[1] + 1)[1:]
        volume_ml = len(positions) * previous.grid.voxel_volume_ml
        for c, lesion in enumerate(current.lesions):
            common_ml = hit[c] * previous.grid.voxel_volume_ml
            overlap[p, c] = min(common_ml / min(volume_ml, lesion.volume_ml), 1.0)
            distance_mm[p, c] = np.linalg.norm(positions.mean(axis=0) - np.asarray(lesion.centroid_mm))
    return np.where(overlap >= SMALLEST_OVERLAP, overlap, 0.0), distance_mm


def _by_overlap(overlap: NDArray[np.float64]) -> dict[int, int]:
    """Pairs (previous to current) with the largest sum of overlaps."""
    rows, columns = linear_sum_assignment(overlap, maximize=True)
    return {int(p): int(c) for p, c in zip(rows, columns, strict=True) if overlap[p, c] > 0}


def _by_distance(distance_mm: NDArray[np.float64], overlap: NDArray[np.float64], limit_mm: float) -> dict[int, int]:
    """Of the lesions that overlap none, as many pairs within the limit as there are, nearest in sum."""
    alone_p, alone_c = np.flatnonzero(~overlap.any(axis=1)), np.flatnonzero(~overlap.any(axis=0))
    cost = distance_mm[np.ix_(alone_p, alone_c)]
    rows, columns = linear_sum_assignment(np.where(cost <= limit_mm, cost, _FORBIDDEN_MM))
    return {int(alone_p[r]): int(alone_c[c]) for r, c in zip(rows, columns, strict=True) if cost[r, c] <= limit_mm}


def _closest(overlap: NDArray[np.float64]) -> int | None:
    """The lesion that overlaps most, if any does."""
    return int(np.argmax(overlap)) if overlap.any() else None
