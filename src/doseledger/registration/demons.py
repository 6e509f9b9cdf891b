"""Deformable registration: rigid first, then fast symmetric demons, on one thread."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses
from numpy.typing import NDArray

from doseledger.errors import RegistrationError
from doseledger.geometry import Grid
from doseledger.registration.rigid import Metric, register_rigid, working_image
from doseledger.registration.transform import Displacement, Transform, one_thread

#: CT numbers beyond these say nothing of where tissue is: metal, contrast medium, padding.
LOWEST_HU: Final = -1000.0
HIGHEST_HU: Final = 600.0
#: Coarse to fine: voxels are shrunk by the first number, and the forces applied that many times.
LEVELS: Final = ((4, 60), (2, 40), (1, 20))
#: Standard deviation of the smoothing of the field after each step, in voxels of the level. With 1.5, noise and texture
#: move organs of virtual patients by a millimetre more; with 4, the breath is missed.
SMOOTHING_VOXELS: Final = 2.5
#: Smoothing of the images before they are shrunk, in working voxels (5 mm) per shrink factor, mm.
SMOOTHING_MM_PER_FACTOR: Final = 2.0


def register_demons(
    fixed: NDArray[np.float32],
    fixed_grid: Grid,
    moving: NDArray[np.float32],
    moving_grid: Grid,
    *,
    metric: Metric,
) -> Transform:
    """Find the rigid transform of `moving` and the displacements that remain after it.

    The rigid transform is that of `register_rigid`. What remains between CTs is found by fast symmetric demons
    (Vercauteren 2009, doi 10.1016/j.neuroimage.2008.10.040; Thirion 1998) on voxels of about 5 mm: breath, bowel,
    a bent back. Images whose values differ from day to day (SPECT, `metric` other than ``mean_squares``) get the
    rigid transform alone: demons would take decay for motion.

    Raises
    ------
    RegistrationError, UnknownNameError
        As `register_rigid`; and a field that folds, which is no motion of a body.
    """
    rigid = register_rigid(fixed, fixed_grid, moving, moving_grid, metric=metric)
    if metric != "mean_squares":
        return rigid
    with one_thread():
        target = sitk.Clamp(working_image(fixed, fixed_grid), sitk.sitkFloat32, LOWEST_HU, HIGHEST_HU)
        source = sitk.Clamp(working_image(moving, moving_grid), sitk.sitkFloat32, LOWEST_HU, HIGHEST_HU)
        carried = _carried(source, target, rigid)
        field: Any = None
        for factor, iterations in LEVELS:
            level = [_shrunk(image, factor) for image in (target, carried)]
            demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
            demons.SetNumberOfThreads(1)
            demons.SetNumberOfIterations(iterations)
            demons.SetStandardDeviations(SMOOTHING_VOXELS)
            demons.SetSmoothDisplacementField(True)
            field = demons.Execute(*level) if field is None else demons.Execute(*level, sitk.Resample(field, level[0]))
        vectors = np.asarray(sitk.GetArrayFromImage(sitk.Resample(field, target)), dtype=np.float32)
    displacement = Displacement(vectors, _grid_of(target, fixed_grid))
    if not displacement.jacobian.min() > 0:
        raise RegistrationError(
            "the displacements between the time points fold", value=float(displacement.jacobian.min())
        )
    return Transform(rigid.matrix, rigid.metric_value, displacement)


def _carried(source: Any, target: Any, rigid: Transform) -> Any:
    """`source` on the voxels of `target`; where it does not reach, `target` itself, so that nothing pulls there."""
    moved = sitk.Resample(source, target, rigid.itk(), sitk.sitkLinear, LOWEST_HU)
    everywhere = sitk.Image(source.GetSize(), sitk.sitkUInt8) + 1
    everywhere.CopyInformation(source)
    reached = sitk.Resample(everywhere, target, rigid.itk(), sitk.sitkNearestNeighbor, 0)
    inside = sitk.Cast(reached, sitk.sitkFloat32)
    return moved * inside + target * (1.0 - inside)


def _shrunk(image: Any, factor: int) -> Any:
    if factor == 1:
        return image
    smooth = sitk.SmoothingRecursiveGaussian(image, SMOOTHING_MM_PER_FACTOR * factor)
    # A field of view of a few slices keeps them.
    return sitk.Shrink(smooth, [min(factor, max(1, n // 8)) for n in image.GetSize()])


def _grid_of(image: Any, fixed: Grid) -> Grid:
    x, y, z = image.GetSize()
    sx, sy, sz = image.GetSpacing()
    return Grid((z, y, x), (sz, sy, sx), image.GetOrigin(), fixed.direction)
