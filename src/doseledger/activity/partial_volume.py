"""Correction of region means for the blur of the camera, by the geometric transfer matrix.

The image is taken as regions of even concentration a_j, blurred. What is measured in outline i is then

    m_i = sum_j W_ij a_j,     W_ij = sum_v f_iv (G * f_j)_v / sum_v f_iv

with f_jv the share of voxel v that region j fills and G the Gaussian blur of the camera (Rousset 1998, PMID 9591599).
The regions and the rest fill the field, so that each row of W sums to one: an even image stays even. The concentrations
follow by solving the equations, without constraint: a bound at zero would bias what lies beside a hot region.

Where a phantom has shown what a body of that form keeps, that recovery replaces the diagonal W_ii, and the rest of the
row is scaled so that it still sums to one: what neighbours spill in is taken off before the recovery is applied.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from doseledger.activity.recovery import TRUNCATE_SD
from doseledger.errors import QuantityError
from doseledger.geometry import Vector
from doseledger.units import FWHM_PER_SD

_Floats = NDArray[np.float64]

#: Largest condition number of the matrix. Separate organs and lesions have 3 to 10; two outlines of one thing, more
#: than 1000.
LARGEST_CONDITION: Final = 100.0
#: The rest of the field, the last row and column of the matrix.
REST: Final = "rest"


@dataclass(frozen=True, eq=False)
class TransferMatrix:
    """Measured means of regions from their true concentrations.

    Attributes
    ----------
    regions
        Names in the order of rows and columns; the last one is `REST`.
    voxels
        Volume of each region in voxels, shape ``(n,)``.
    weights
        W, shape ``(n, n)``: rows are outlines, columns are sources.
    """

    regions: tuple[str, ...]
    voxels: _Floats
    weights: _Floats

    @property
    def condition(self) -> float:
        """Largest over smallest singular value of W."""
        return float(np.linalg.cond(self.weights))

    def self_recovery(self, region: str) -> float:
        """Share of its own activity that a region keeps, W_ii."""
        k = self.regions.index(region)
        return float(self.weights[k, k])

    def with_recovery(self, measured: Mapping[str, float]) -> TransferMatrix:
        """The matrix with measured recoveries in place of modelled ones; rows go on summing to one.

        Raises
        ------
        QuantityError
            A recovery is not between 0 and 1.

        Examples
        --------
        >>> w = TransferMatrix(("kidney", "rest"), np.array([10.0, 90.0]), np.array([[0.8, 0.2], [0.02, 0.98]]))
        >>> w.with_recovery({"kidney": 0.7}).weights[0].round(3).tolist()
        [0.7, 0.3]
        """
        weights = self.weights.copy()
        for region, recovery in measured.items():
            if not 0.0 < recovery < 1.0:
                raise QuantityError("a measured recovery is not between 0 and 1", tag=region, value=recovery)
            k = self.regions.index(region)
            weights[k] *= (1.0 - recovery) / (1.0 - weights[k, k])
            weights[k, k] = recovery
        return replace(self, weights=weights)


@dataclass(frozen=True, eq=False)
class CorrectedMeans:
    """Concentrations of regions without the blur, in the unit of the measured means.

    Attributes
    ----------
    mean
        a = W^-1 m, shape ``(n,)``.
    spill_in
        What neighbours put into the outline, in the same unit: sum over j != i of W_ij a_j.
    u_mean
        Standard uncertainty from that of the measured means, sqrt(sum_j (W^-1)_ij^2 u_j^2).
    """

    regions: tuple[str, ...]
    mean: _Floats
    spill_in: _Floats
    u_mean: _Floats


def transfer_matrix(
    fractions: Mapping[str, NDArray[np.float32]], spacing_mm: Vector, *, fwhm_mm: float | Vector
) -> TransferMatrix:
    """Geometric transfer matrix of regions and the rest of the field.

    Parameters
    ----------
    fractions
        Share of each voxel that each region fills, ``(z, y, x)``, 0 to 1; together no more than 1. Shares averaged
        from a finer label map keep the volume of small regions.
    fwhm_mm
        Blur, one number or along each axis ``(z, y, x)``.

    Raises
    ------
    QuantityError
        A region is empty, there is no rest, or the blur is not positive.

    Examples
    --------
    A block in the middle of the field, and what is around it:

    >>> block = np.zeros((20, 40, 40), np.float32)
    >>> block[7:13, 15:25, 15:25] = 1.0
    >>> w = transfer_matrix({"block": block}, (4.8, 4.8, 4.8), fwhm_mm=12.0)
    >>> w.weights.round(3).tolist()
    [[0.739, 0.261], [0.005, 0.995]]
    """
    blur = np.broadcast_to(np.asarray(fwhm_mm, dtype=float), (3,))
    if not np.all(blur > 0):
        raise QuantityError("the blur is not positive", value=fwhm_mm)
    for region, share in fractions.items():
        if not share.any():
            raise QuantityError("the region is empty", tag=region)
    sigma = blur / FWHM_PER_SD / np.asarray(spacing_mm)
    count = len(fractions)
    overlap = np.zeros((count + 1, count))
    for j, share in enumerate(fractions.values()):
        box = _box(share, sigma)
        spread = gaussian_filter(share[box].astype(np.float64), sigma, mode="constant", truncate=TRUNCATE_SD)
        for i, outline in enumerate(fractions.values()):
            overlap[i, j] = float((outline[box] * spread).sum())
        overlap[count, j] = float(spread.sum()) - overlap[:count, j].sum()
    voxels = np.array([float(share.sum(dtype=np.float64)) for share in fractions.values()])
    rest = float(np.prod(next(iter(fractions.values())).shape)) - float(voxels.sum()) if count else 0.0
    if not rest > 0:
        raise QuantityError("the regions leave nothing of the field", value=rest)
    voxels = np.append(voxels, rest)
    own = overlap / voxels[:, None]
    # What comes from no region comes from the rest, which goes on beyond the field.
    weights = np.column_stack([own, 1.0 - own.sum(axis=1)])
    return TransferMatrix((*fractions, REST), voxels, weights)


def measured_means(matrix: TransferMatrix, fractions: Mapping[str, NDArray[np.float32]], image: _Floats) -> _Floats:
    """Mean of the image in each outline and in the rest, in the order of the matrix."""
    sums = [float((share * image).sum(dtype=np.float64)) for share in fractions.values()]
    return np.asarray([*sums, float(image.sum(dtype=np.float64)) - sum(sums)]) / matrix.voxels


def correct_means(matrix: TransferMatrix, means: _Floats, u_means: _Floats) -> CorrectedMeans:
    """Solve for the concentrations.

    Raises
    ------
    QuantityError
        The equations are ill-conditioned: two outlines show nearly the same.

    Examples
    --------
    >>> w = TransferMatrix(("kidney", "rest"), np.array([10.0, 90.0]), np.array([[0.8, 0.2], [0.02, 0.98]]))
    >>> found = correct_means(w, w.weights @ np.array([10.0, 1.0]), np.array([0.4, 0.1]))
    >>> found.mean.round(6).tolist(), found.spill_in.round(3).tolist(), round(float(found.u_mean[0]), 3)
    ([10.0, 1.0], [0.2, 0.2], 0.503)
    """
    if not matrix.condition <= LARGEST_CONDITION:
        raise QuantityError(
            "the outlines cannot be told apart under the blur of the camera",
            value=f"condition number {matrix.condition:.3g}",
            expected=f"at most {LARGEST_CONDITION:g}",
        )
    inverse = np.linalg.inv(matrix.weights)
    mean = inverse @ means
    return CorrectedMeans(
        regions=matrix.regions,
        mean=mean,
        spill_in=means - np.diag(matrix.weights) * mean,
        u_mean=np.sqrt(inverse**2 @ u_means**2),
    )


def _box(share: NDArray[np.float32], sigma: _Floats) -> tuple[slice, slice, slice]:
    """The voxels that a region reaches under the blur."""
    z, y, x = (
        slice(max(int(filled[0]) - margin, 0), min(int(filled[-1]) + 1 + margin, n))
        for filled, margin, n in zip(
            (np.flatnonzero(share.any(axis=axes)) for axes in ((1, 2), (0, 2), (0, 1))),
            (int(np.ceil(TRUNCATE_SD * s)) + 1 for s in sigma),
            share.shape,
            strict=True,
        )
    )
    return (z, y, x)
