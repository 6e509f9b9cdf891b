"""Dose-volume histograms and the doses read from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from doseledger.errors import QuantityError

#: Bins of a stored histogram. D values come from the voxels themselves, not from the bins.
DVH_BINS: Final = 100


@dataclass(frozen=True, eq=False)
class DoseVolumeHistogram:
    """Histogram of the voxel doses of a region.

    Attributes
    ----------
    edges_gy
        Bin edges from 0 to the maximum, shape ``(bins + 1,)``.
    volume_fraction
        Share of the volume in each bin, shape ``(bins,)``, sum 1.
    d2_gy, d50_gy, d90_gy, d98_gy
        Dose that 2, 50, 90, 98 % of the volume receives at least.
    """

    edges_gy: NDArray[np.float64]
    volume_fraction: NDArray[np.float64]
    d2_gy: float
    d50_gy: float
    d90_gy: float
    d98_gy: float


def dose_volume_histogram(
    dose_gy: ArrayLike, *, weights: ArrayLike | None = None, bins: int = DVH_BINS
) -> DoseVolumeHistogram:
    """Dose-volume histogram of voxels of equal or given volume.

    Parameters
    ----------
    dose_gy
        Voxel doses of one region, any shape.
    weights
        Relative volumes of the voxels, same shape; equal if not given.

    Raises
    ------
    QuantityError
        No voxels, doses negative or not finite, weights that do not match or sum to zero.

    Examples
    --------
    >>> h = dose_volume_histogram([1.0, 2.0, 3.0, 4.0])
    >>> h.d50_gy, h.d98_gy
    (3.0, 1.0)
    """
    doses = np.asarray(dose_gy, dtype=np.float64).ravel()
    volumes = np.ones_like(doses) if weights is None else np.asarray(weights, dtype=np.float64).ravel()
    if doses.size == 0:
        raise QuantityError("the region has no voxels")
    if not np.all(np.isfinite(doses)) or doses.min() < 0:
        raise QuantityError("a voxel dose is negative or not finite", value=float(doses.min()))
    if volumes.shape != doses.shape or not (volumes.min() >= 0 and 0 < volumes.sum() < np.inf):
        raise QuantityError("the voxel volumes do not fit the doses", value=volumes.shape)
    top = max(float(doses.max()), np.finfo(np.float64).tiny * bins)
    counts, edges = np.histogram(doses, bins=bins, range=(0.0, top), weights=volumes)
    order = np.argsort(-doses, kind="stable")
    received = np.cumsum(volumes[order]) / volumes.sum()

    def dose_to(share: float) -> float:
        # The hottest voxels that together reach the share; a rounding error must not skip one.
        index = int(np.searchsorted(received, share - 1e-12))
        return float(doses[order[min(index, doses.size - 1)]])

    return DoseVolumeHistogram(
        edges_gy=edges,
        volume_fraction=counts / volumes.sum(),
        d2_gy=dose_to(0.02),
        d50_gy=dose_to(0.50),
        d90_gy=dose_to(0.90),
        d98_gy=dose_to(0.98),
    )
