"""`Grid`: the only place that knows axis order, patient coordinates and affines.

Arrays are ``(z, y, x)``: slice, row, column. Patient coordinates are DICOM LPS millimetres (x to
the patient's left, y to the back, z to the head); NIfTI's RAS appears only in `Grid.affine`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import GeometryError
from doseledger.units import MM3_PER_ML

Vector = tuple[float, float, float]
Shape = tuple[int, int, int]
Direction = tuple[Vector, Vector, Vector]

#: Largest deviation of a direction matrix from orthonormality. Headers carry six digits.
ORTHONORMAL_TOLERANCE: Final = 1.0e-4
#: Two grids are the same when no voxel centre differs by more than this, in mm.
SAME_GRID_TOLERANCE_MM: Final = 1.0e-2
IDENTITY: Final[Direction] = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))

_LPS_TO_RAS: Final = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Grid:
    """A regular voxel grid in patient space.

    Attributes
    ----------
    shape
        Number of voxels ``(z, y, x)``.
    spacing_mm
        Distance of voxel centres ``(z, y, x)``, mm.
    origin_mm
        LPS position ``(x, y, z)`` of the centre of voxel ``[0, 0, 0]``, mm.
    direction
        Unit vectors in LPS of the array axes, in the order of the array: slice, row, column.

    Raises
    ------
    GeometryError
        Empty shape, spacing not positive, position not finite, axes not orthonormal.

    Examples
    --------
    >>> grid = Grid((10, 20, 30), (4.0, 2.0, 2.0), (-30.0, -20.0, 0.0))
    >>> grid.voxel_volume_ml
    0.016
    >>> grid.centre_mm
    (-1.0, -1.0, 18.0)
    """

    shape: Shape
    spacing_mm: Vector
    origin_mm: Vector
    direction: Direction = ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))

    def __post_init__(self) -> None:
        if len(self.shape) != 3 or min(self.shape) < 1:
            raise GeometryError("the grid has no voxels", value=self.shape)
        if not all(np.isfinite(self.spacing_mm)) or min(self.spacing_mm) <= 0:
            raise GeometryError("the voxel spacing is not positive", value=self.spacing_mm)
        if not all(np.isfinite(self.origin_mm)):
            raise GeometryError("the position of the grid is not finite", value=self.origin_mm)
        axes = np.asarray(self.direction)
        if not np.allclose(axes @ axes.T, np.eye(3), atol=ORTHONORMAL_TOLERANCE):
            raise GeometryError("the image axes are not orthonormal", value=self.direction)

    @property
    def voxel_volume_ml(self) -> float:
        return float(np.prod(self.spacing_mm)) / MM3_PER_ML

    @property
    def index_to_lps(self) -> NDArray[np.float64]:
        """4x4 matrix from array index ``(z, y, x, 1)`` to LPS mm."""
        matrix = np.eye(4)
        matrix[:3, :3] = np.asarray(self.direction).T * np.asarray(self.spacing_mm)
        matrix[:3, 3] = self.origin_mm
        return matrix

    @property
    def affine(self) -> NDArray[np.float64]:
        """4x4 NIfTI affine: from index ``(x, y, z, 1)`` to RAS mm."""
        return np.asarray(_LPS_TO_RAS @ self.index_to_lps @ np.eye(4)[[2, 1, 0, 3]])

    @classmethod
    def from_affine(cls, affine: NDArray[np.float64], shape: Shape) -> Grid:
        """Inverse of `affine`; `shape` is ``(z, y, x)``."""
        matrix = _LPS_TO_RAS @ np.asarray(affine, dtype=float) @ np.eye(4)[[2, 1, 0, 3]]
        spacing = np.linalg.norm(matrix[:3, :3], axis=0)
        if not np.all(spacing > 0):
            raise GeometryError("the affine is singular", value=matrix.tolist())
        axes = (matrix[:3, :3] / spacing).T
        return cls(
            shape=shape,
            spacing_mm=_vector(spacing),
            origin_mm=_vector(matrix[:3, 3]),
            direction=(_vector(axes[0]), _vector(axes[1]), _vector(axes[2])),
        )

    @property
    def centre_mm(self) -> Vector:
        """LPS position of the middle of the grid, mm."""
        middle = [(n - 1) / 2 for n in self.shape]
        return self.position_mm(np.asarray(middle))

    def position_mm(self, index: NDArray[np.float64]) -> Vector:
        """LPS position ``(x, y, z)`` of a (fractional) array index ``(z, y, x)``, mm."""
        return _vector((self.index_to_lps @ np.append(index, 1.0))[:3])

    def index(self, positions_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Fractional array indices ``(n, 3)`` in (z, y, x) of LPS positions ``(n, 3)`` in mm."""
        offset = np.asarray(positions_mm, dtype=float) - np.asarray(self.origin_mm)
        return np.asarray(offset @ np.asarray(self.direction).T / np.asarray(self.spacing_mm))

    def same_as(self, other: Grid) -> bool:
        """Whether both grids have the same voxels, within `SAME_GRID_TOLERANCE_MM`."""
        if self.shape != other.shape:
            return False
        corners = np.array(np.meshgrid(*[(0, n - 1) for n in self.shape])).reshape(3, -1)
        corners = np.vstack([corners, np.ones(corners.shape[1])])
        difference = (self.index_to_lps - other.index_to_lps) @ corners
        return bool(np.max(np.abs(difference)) <= SAME_GRID_TOLERANCE_MM)


def _vector(values: NDArray[np.float64]) -> Vector:
    x, y, z = (float(v) for v in values)
    return (x, y, z)
