"""Where a point of the fixed image lies in the moving image, and images moved by it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses
from numpy.typing import NDArray

from doseledger.geometry import Grid


@dataclass(frozen=True, eq=False)
class Displacement:
    """A field of displacements u(x) of the fixed image; zero beyond its grid.

    Attributes
    ----------
    vectors_mm
        Shape ``(z, y, x, 3)``, LPS x, y, z, mm.
    """

    vectors_mm: NDArray[np.float32]
    grid: Grid

    @cached_property
    def jacobian(self) -> NDArray[np.float32]:
        """Determinant of the gradient of x + u(x), ``(z, y, x)``: local change of volume; below zero, it folds."""
        determinant = sitk.DisplacementFieldJacobianDeterminant(self.image())
        return np.asarray(sitk.GetArrayFromImage(determinant), dtype=np.float32)

    def image(self) -> Any:
        return to_image(self.vectors_mm, self.grid, components=sitk.sitkVectorFloat64)


@dataclass(frozen=True, eq=False)
class Transform:
    """A point x of the fixed image lies at M (x + u(x)) in the moving image.

    Attributes
    ----------
    matrix
        4x4 rigid M, LPS mm to LPS mm.
    metric_value
        Final value of the metric of the rigid part (lower is better), for quality reports only.
    displacement
        u; None for a rigid transform.
    """

    matrix: NDArray[np.float64]
    metric_value: float = 0.0
    displacement: Displacement | None = None

    @classmethod
    def identity(cls) -> Transform:
        return cls(np.eye(4))

    @property
    def jacobian_range(self) -> tuple[float, float]:
        """Least and largest local change of volume; (1, 1) for a rigid transform."""
        if self.displacement is None:
            return 1.0, 1.0
        return float(self.displacement.jacobian.min()), float(self.displacement.jacobian.max())

    def points_mm(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Points of the fixed image, LPS mm, shape ``(n, 3)``, in the moving image."""
        moved = self.itk()
        return np.array([moved.TransformPoint(tuple(map(float, p))) for p in points_mm]).reshape(-1, 3)

    def shift_at(self, point_mm: tuple[float, float, float]) -> float:
        """Length of the displacement of a point, mm."""
        point = np.asarray(point_mm, dtype=np.float64)
        return float(np.linalg.norm(self.points_mm(point[None])[0] - point))

    def itk(self) -> Any:
        """The same for SimpleITK."""
        affine = sitk.AffineTransform(3)
        affine.SetMatrix(self.matrix[:3, :3].ravel().tolist())
        affine.SetTranslation(self.matrix[:3, 3].tolist())
        if self.displacement is None:
            return affine
        # The last one of the list is applied first.
        return sitk.CompositeTransform([affine, sitk.DisplacementFieldTransform(self.displacement.image())])


def resample(
    image: NDArray[np.float32],
    grid: Grid,
    target: Grid,
    transform: Transform,
    *,
    outside: float,
    nearest: bool = False,
) -> NDArray[np.float32]:
    """`image` on `target`, after moving it by `transform`; linear interpolation unless `nearest`.

    The value of a concentration or a CT number stays what it is: see `resample_activity` for what keeps totals.
    """
    moved = _resampled(to_image(image, grid), target, transform.itk(), outside, nearest)
    return np.asarray(sitk.GetArrayFromImage(moved), dtype=np.float32)


def resample_activity(
    activity: NDArray[np.float32], grid: Grid, target: Grid, transform: Transform
) -> NDArray[np.float32]:
    """Activity concentration on `target` after moving it by `transform`; its total stays, up to interpolation.

    C'(x) = C(T(x)) |dT/dx|: where tissue is pressed together, its activity is denser. The Jacobian of a rigid
    transform is 1.
    """
    moved = resample(activity, grid, target, transform, outside=0.0)
    field = transform.displacement
    if field is None:
        return moved
    return moved * resample(field.jacobian, field.grid, target, Transform.identity(), outside=1.0)


def to_image(array: NDArray[Any], grid: Grid, *, components: Any = None) -> Any:
    """A SimpleITK image of an array ``(z, y, x)``; of vectors ``(z, y, x, 3)`` if `components` is their pixel type."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, dtype=np.float32), isVector=components is not None)
    if components is not None:
        image = sitk.Cast(image, components)
    image.SetSpacing([float(s) for s in reversed(grid.spacing_mm)])
    image.SetOrigin(grid.origin_mm)
    # ITK wants the axes x, y, z of the array as columns, row by row.
    image.SetDirection(_direction(grid))
    return image


def _direction(grid: Grid) -> list[float]:
    return [float(v) for v in np.asarray(grid.direction)[::-1].T.ravel()]


def _resampled(image: Any, target: Grid, transform: Any, outside: float, nearest: bool) -> Any:
    resampler = sitk.ResampleImageFilter()
    resampler.SetNumberOfThreads(1)
    resampler.SetSize([int(n) for n in reversed(target.shape)])
    resampler.SetOutputSpacing([float(s) for s in reversed(target.spacing_mm)])
    resampler.SetOutputOrigin(target.origin_mm)
    resampler.SetOutputDirection(_direction(target))
    resampler.SetTransform(transform)
    resampler.SetInterpolator(sitk.sitkNearestNeighbor if nearest else sitk.sitkLinear)
    resampler.SetDefaultPixelValue(float(outside))
    return resampler.Execute(image)


@contextmanager
def one_thread() -> Iterator[None]:
    """The number of threads of a registration does not reach its metric; the global one does."""
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)
