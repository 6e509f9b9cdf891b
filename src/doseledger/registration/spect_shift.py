"""Where an organ lies in the SPECT, against its outline on the CT of the same time point."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from doseledger.geometry import Grid, Vector
from doseledger.units import FWHM_PER_SD

#: Shifts are looked for up to this far along each axis: a deep breath moves the liver by 40 mm at most.
REACH_MM: Final = 40.0
#: The images are compared this far around the outline.
MARGIN_MM: Final = 20.0
#: An organ that is not this much hotter or colder than what surrounds it has no place in the SPECT.
SMALLEST_CONTRAST: Final = 1.3
#: Rounds over the three axes: the breath moves along z first of all.
ROUNDS: Final = 2

Floats = NDArray[np.float64]


def spect_shift_mm(
    spect: NDArray[np.float32],
    grid: Grid,
    fractions: Mapping[int, NDArray[np.float32]],
    label: int,
    *,
    fwhm_mm: float,
) -> Vector | None:
    """Displacement of a region from its outline to its image in the SPECT, LPS (x, y, z), mm.

    Around the region the SPECT is described by the blurred outlines of all regions there and a constant,
    S(v) = c + sum_k a_k (G * f_k)(v - s), and the one shift s is sought whose least-squares a_k leave the least:
    neighbours that breathe along are moved along, and hot neighbours do not draw. Whole voxels along z, y and x
    in turn, then the vertex of the parabola through the best shift and its neighbours.

    Parameters
    ----------
    fractions
        By label, the share of each SPECT voxel inside an outline, ``(z, y, x)``.

    Returns
    -------
    None where the SPECT cannot tell: the outline is empty, the region is not 1.3 times hotter or colder than
    what surrounds it, or no shift within `REACH_MM` is better than its neighbours.
    """
    own = fractions.get(label)
    if own is None or not own.any():
        return None
    reach = np.array([int(REACH_MM // s) for s in grid.spacing_mm])
    place = _Place(spect, grid, fractions, label, fwhm_mm, reach)
    shift = np.zeros(3, dtype=int)
    for _ in range(ROUNDS):
        for axis in range(3):
            shift[axis] = min(range(-reach[axis], reach[axis] + 1), key=lambda n: place.misfit(_set(shift, axis, n)))
    if not place.contrast(shift) >= SMALLEST_CONTRAST or np.any(np.abs(shift) == reach):
        return None
    exact = shift + np.array([_vertex(place, shift, axis) for axis in range(3)])
    x, y, z = (float(v) for v in grid.index_to_lps[:3, :3] @ exact)
    return x, y, z


class _Place:
    """The surroundings of one region, and what is left of them when the outlines are moved."""

    def __init__(
        self,
        spect: NDArray[np.float32],
        grid: Grid,
        fractions: Mapping[int, NDArray[np.float32]],
        label: int,
        fwhm_mm: float,
        reach: NDArray[np.int64],
    ) -> None:
        margin = np.array([int(np.ceil(MARGIN_MM / s)) for s in grid.spacing_mm])
        inside = np.argwhere(fractions[label] > 0)
        low = np.maximum(inside.min(axis=0) - margin, 0)
        high = np.minimum(inside.max(axis=0) + 1 + margin, grid.shape)
        self._size = high - low
        self._reach = reach
        self._target = spect[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float64).ravel()
        self._outlines: list[Floats] = []
        sigma = [fwhm_mm / FWHM_PER_SD / s for s in grid.spacing_mm]
        for key in sorted(fractions, key=lambda k: (k != label, k)):
            wide = _window(fractions[key], low - reach, high + reach)
            if wide.any():
                self._outlines.append(gaussian_filter(wide, sigma, mode="constant"))
        self._known: dict[tuple[int, ...], tuple[float, float]] = {}

    def misfit(self, shift: NDArray[np.int64]) -> float:
        return self._fit(shift)[0]

    def contrast(self, shift: NDArray[np.int64]) -> float:
        """How much hotter than the constant the region is, or how much colder."""
        return self._fit(shift)[1]

    def _fit(self, shift: NDArray[np.int64]) -> tuple[float, float]:
        key = tuple(int(n) for n in shift)
        if key not in self._known:
            corner = self._reach - shift
            block = tuple(slice(a, a + n) for a, n in zip(corner, self._size, strict=True))
            columns = np.stack([np.ones(self._target.size), *(o[block].ravel() for o in self._outlines)])
            # Normal equations of few columns: as exact as needed, and many times faster than lstsq.
            normal = columns @ columns.T + 1e-9 * np.eye(len(columns))
            weights = np.linalg.solve(normal, columns @ self._target)
            rest = self._target - weights @ columns
            around, region = float(weights[0]), float(weights[0] + weights[1])
            low, high = sorted((max(around, 0.0), max(region, 0.0)))
            self._known[key] = float(rest @ rest), high / low if low > 0 else np.inf if high > 0 else 0.0
        return self._known[key]


def _window(array: NDArray[np.float32], low: NDArray[np.int64], high: NDArray[np.int64]) -> Floats:
    """The block from `low` to `high`, zero beyond the ends of the array."""
    block = np.zeros(high - low)
    start, stop = np.maximum(low, 0), np.minimum(high, array.shape)
    place = tuple(slice(a, b) for a, b in zip(start - low, stop - low, strict=True))
    block[place] = array[tuple(slice(a, b) for a, b in zip(start, stop, strict=True))]
    return block


def _set(shift: NDArray[np.int64], axis: int, value: int) -> NDArray[np.int64]:
    moved = shift.copy()
    moved[axis] = value
    return moved


def _vertex(place: _Place, shift: NDArray[np.int64], axis: int) -> float:
    """Offset of the least misfit from the best voxel, -0.5 to 0.5."""
    before, at, after = (place.misfit(_set(shift, axis, shift[axis] + n)) for n in (-1, 0, 1))
    curvature = before - 2.0 * at + after
    return float(np.clip((before - after) / (2.0 * curvature), -0.5, 0.5)) if curvature > 0 else 0.0
