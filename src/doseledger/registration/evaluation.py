"""How well two time points lie on each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from doseledger.geometry import Grid


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice overlap 2 |A and B| / (|A| + |B|); NaN if both are empty.

    Examples
    --------
    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    size = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / size if size else float("nan")


def centroid_distance_mm(a: NDArray[np.bool_], b: NDArray[np.bool_], grid: Grid) -> float:
    """Distance of the middles of two masks on one grid, mm; NaN if one is empty."""
    if not a.any() or not b.any():
        return float("nan")
    middles = [np.argwhere(mask).mean(axis=0) for mask in (a, b)]
    return float(np.linalg.norm(grid.index_to_lps[:3, :3] @ (middles[0] - middles[1])))
