"""How much of its own activity a region keeps in a blurred image."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from doseledger.errors import QuantityError
from doseledger.geometry import Vector
from doseledger.units import FWHM_PER_SD

#: The blur is followed out to this many standard deviations.
TRUNCATE_SD: Final = 4.0


def self_recovery(fraction: NDArray[np.float32], spacing_mm: Vector, *, fwhm_mm: float) -> float:
    """Share of a uniform region's activity that is measured inside its own outline.

    RC = sum_v f_v (G * f)_v / sum_v f_v, with f the share of each voxel inside the outline and G
    the Gaussian blur of the camera: the diagonal of the geometric transfer matrix (Rousset 1998,
    PMID 9591599). Activity that spills in from the neighbours is not counted.

    Parameters
    ----------
    fraction
        Shape ``(z, y, x)``, from 0 to 1.

    Raises
    ------
    QuantityError
        The region is empty, or the blur is not positive.

    Examples
    --------
    A large region keeps nearly all:

    >>> block = np.zeros((60, 60, 60), np.float32)
    >>> block[10:50, 10:50, 10:50] = 1.0
    >>> round(self_recovery(block, (4.8, 4.8, 4.8), fwhm_mm=12.0), 2)
    0.94
    """
    if not fraction.any():
        raise QuantityError("the region is empty")
    if not fwhm_mm > 0:
        raise QuantityError("the blur is not positive", value=fwhm_mm)
    sigma = [fwhm_mm / FWHM_PER_SD / s for s in spacing_mm]
    margin = [int(np.ceil(TRUNCATE_SD * s)) + 1 for s in sigma]
    inside = np.argwhere(fraction > 0)
    low, high = inside.min(axis=0), inside.max(axis=0) + 1
    box = fraction[tuple(slice(a, b) for a, b in zip(low, high, strict=True))].astype(np.float64)
    padded = np.pad(box, [(m, m) for m in margin])
    blurred = gaussian_filter(padded, sigma, mode="constant", truncate=TRUNCATE_SD)
    return float((padded * blurred).sum() / box.sum())
