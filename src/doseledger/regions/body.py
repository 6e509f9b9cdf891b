"""The patient in a CT: what is neither air nor table."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import binary_fill_holes, label

from doseledger.geometry import Grid

#: CT numbers above this belong to the patient, or to the table and his clothes.
BODY_HU: Final = -300.0


def body_mask(hu: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """The largest connected part above `BODY_HU`, with lungs and bowel gas, ``(z, y, x)``.

    A table that touches the skin belongs to it; with an empty CT all of the field is the body.

    Examples
    --------
    >>> hu = np.full((1, 5, 9), -1000.0)
    >>> hu[0, 1:4, 1:6] = 40.0
    >>> hu[0, 2, 3], hu[0, 2, 8] = -900.0, 500.0  # gas inside, and something beside
    >>> int(body_mask(hu).sum())
    15
    """
    parts, count = label(hu > BODY_HU)
    if count == 0:
        return np.ones(hu.shape, bool)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    return np.stack([binary_fill_holes(axial) for axial in largest])


def inside_field(grid: Grid, field: Grid) -> NDArray[np.bool_]:
    """Voxels of `grid` whose centre lies in a voxel of `field`, ``(z, y, x)``.

    Examples
    --------
    >>> ct, spect = Grid((1, 1, 6), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)), Grid((1, 1, 2), (2.0, 2.0, 2.0), (1.5, 0.0, 0.0))
    >>> inside_field(ct, spect)[0, 0].tolist()
    [False, True, True, True, True, False]
    """
    to_field = np.linalg.inv(field.index_to_lps) @ grid.index_to_lps
    inside = np.ones(grid.shape, bool)
    axes = np.ogrid[tuple(slice(count) for count in grid.shape)]
    for row, count in zip(to_field[:3], field.shape, strict=True):
        place = sum((step * axis for step, axis in zip(row[:3], axes, strict=True)), start=np.asarray(row[3]))
        inside &= (place >= -0.5) & (place < count - 0.5)
    return inside
