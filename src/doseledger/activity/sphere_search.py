"""Where the six spheres of the NEMA IEC body phantom are in an image, if nobody has outlined them."""

from __future__ import annotations

from collections.abc import Mapping
from math import cos, pi, sin
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter, map_coordinates

from doseledger.errors import QuantityError
from doseledger.geometry import Grid, Vector

#: Inner diameters in their order around the circle, mm, and its radius (IEC 61675-1, NEMA NU 2).
NEMA_DIAMETERS_MM: Final = (10.0, 13.0, 17.0, 22.0, 28.0, 37.0)
NEMA_CIRCLE_MM: Final = 57.2
#: Filter before the search: about the blur of a SPECT.
_SMOOTHING_MM: Final = 5.0
#: What the place of the second sphere may differ from the standard, mm: the search is on voxels, the fit is not.
_TOLERANCE_MM: Final = 10.0


def find_nema_spheres(image: NDArray[np.floating], grid: Grid) -> Mapping[float, Vector]:
    """Centres of the spheres in LPS mm, by diameter in mm.

    The two largest are the brightest and neighbours on the circle; the phantom lies along the scanner's axis. Of the
    two circles through them, the right one has more activity where the other four spheres should be.

    Raises
    ------
    QuantityError
        No second sphere stands where the standard puts it.
    """
    smooth = gaussian_filter(np.asarray(image, dtype=float), [_SMOOTHING_MM / step for step in grid.spacing_mm])
    places = np.indices(grid.shape).reshape(3, -1)
    positions = (grid.index_to_lps[:3, :3] @ places).T + np.asarray(grid.origin_mm)
    first = positions[int(smooth.argmax())]
    away = np.linalg.norm(positions - first, axis=1).reshape(grid.shape)
    # Neighbours on a hexagon are as far apart as its radius.
    there = np.where(away > NEMA_CIRCLE_MM / 2.0, smooth, -np.inf)
    second = positions[int(there.argmax())]
    first, second = (_centroid(image, positions, at) for at in (first, second))
    apart = float(np.linalg.norm(second - first))
    if abs(apart - NEMA_CIRCLE_MM) > _TOLERANCE_MM:
        raise QuantityError(
            "the two brightest objects are not the two largest spheres of a NEMA phantom",
            value=f"{apart:.0f} mm apart",
            expected=f"{NEMA_CIRCLE_MM:.1f} mm",
            remedy="Name the structure set with the outlines of the spheres (column contours).",
        )
    candidates = [_circle(first, second, turn) for turn in (1.0, -1.0)]
    best = max(candidates, key=lambda centres: _sum_at(smooth, grid, centres))
    return {d: (float(c[0]), float(c[1]), float(c[2])) for d, c in zip(NEMA_DIAMETERS_MM, best, strict=True)}


def _centroid(
    image: NDArray[np.floating], positions: NDArray[np.float64], at: NDArray[np.float64]
) -> NDArray[np.float64]:
    near = np.linalg.norm(positions - at, axis=1) < NEMA_CIRCLE_MM / 2.0
    weights = np.clip(image.reshape(-1)[near].astype(float), 0.0, None)
    return np.asarray((positions[near] * weights[:, None]).sum(axis=0) / weights.sum())


def _circle(largest: NDArray[np.float64], next_largest: NDArray[np.float64], turn: float) -> list[NDArray[np.float64]]:
    """Centres in the order of the diameters, on the circle that turns one way about the z axis."""
    chord = next_largest - largest
    across = np.array([-chord[1], chord[0], 0.0]) * turn
    # The middle makes an equilateral triangle with the two.
    middle = (largest + next_largest) / 2.0 + across * sin(pi / 3.0)
    spoke = largest - middle
    centres = []
    for step in range(len(NEMA_DIAMETERS_MM)):
        angle = turn * step * pi / 3.0
        turned = np.array(
            [cos(angle) * spoke[0] - sin(angle) * spoke[1], sin(angle) * spoke[0] + cos(angle) * spoke[1], spoke[2]]
        )
        centres.append(middle + turned)
    return centres[::-1]


def _sum_at(image: NDArray[np.float64], grid: Grid, centres: list[NDArray[np.float64]]) -> float:
    places = grid.index(np.array(centres))
    return float(map_coordinates(image, places.T, order=1, mode="constant").sum())
