"""Rigid registration with SimpleITK, on one thread: more threads would change the last bits."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, Final, Literal

import numpy as np
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses
from numpy.typing import NDArray

from doseledger.errors import RegistrationError, UnknownNameError
from doseledger.geometry import Grid
from doseledger.registration.transform import Transform, one_thread, to_image

Metric = Literal["mean_squares", "correlation", "mattes"]
METRICS: Final[tuple[Metric, ...]] = ("mean_squares", "correlation", "mattes")

#: Both images are shrunk to about this voxel: the full matrix costs 27 times the time for 0.02 mm.
WORKING_VOXEL_MM: Final = 5.0
#: Not down to the full working matrix: its noise would cost twice the time and gain nothing.
SHRINK_LEVELS: Final = (4, 2)
SMOOTHING_MM: Final = (8.0, 4.0)
#: Length of the first step and the step at which the search ends, in mm of voxel shift.
FIRST_STEP_MM: Final = 4.0
LAST_STEP_MM: Final = 1e-3
ITERATIONS: Final = 100
#: Regular sampling of this share of the voxels. ITK shakes the samples at random, by default with a
#: seed from the clock: only a fixed seed makes a registration repeat.
SAMPLING: Final = 0.5
SEED: Final = 1
MATTES_BINS: Final = 32


def register_rigid(
    fixed: NDArray[np.float32],
    fixed_grid: Grid,
    moving: NDArray[np.float32],
    moving_grid: Grid,
    *,
    metric: Metric,
) -> Transform:
    """Find the rotation and shift that bring `moving` onto `fixed`.

    Regular-step gradient descent on an image pyramid; of three starts (same table position, same
    middle of the grids, same centre of mass) the one with the best metric is followed.

    Parameters
    ----------
    fixed, moving
        Arrays ``(z, y, x)``: CT in HU, or SPECT in Bq/mL.
    metric
        ``mean_squares`` for CT with CT, ``correlation`` for SPECT with SPECT, ``mattes`` for either.

    Raises
    ------
    RegistrationError
        No overlap, voxels that are not finite, or the optimiser failed.
    UnknownNameError
        Unknown metric.
    """
    if metric not in METRICS:
        raise UnknownNameError("the registration metric is not known", value=metric, expected=METRICS)
    if not (np.all(np.isfinite(fixed)) and np.all(np.isfinite(moving))):
        # The optimiser would wander for hours.
        raise RegistrationError("an image holds voxels that are not finite")
    target, source = working_image(fixed, fixed_grid), working_image(moving, moving_grid)
    try:
        with one_thread():
            start = min(_starts(target, source), key=lambda t: _evaluate(target, source, metric, t))
            method = _method(metric)
            method.SetOptimizerAsRegularStepGradientDescent(
                FIRST_STEP_MM, LAST_STEP_MM, ITERATIONS, gradientMagnitudeTolerance=1e-8
            )
            method.SetOptimizerScalesFromPhysicalShift()
            method.SetShrinkFactorsPerLevel(SHRINK_LEVELS)
            method.SetSmoothingSigmasPerLevel(SMOOTHING_MM)
            method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOn()
            method.SetInitialTransform(start, inPlace=True)
            method.Execute(target, source)
            value = float(method.GetMetricValue())
    except RuntimeError as error:
        raise RegistrationError("the time points cannot be registered", value=_last_line(error)) from None
    if value >= sys.float_info.max:
        # What ITK returns where no voxel of one image lies inside the other.
        raise RegistrationError("the time points do not overlap")
    return Transform(_matrix(start), value)


def working_image(array: NDArray[np.float32], grid: Grid) -> Any:
    """The image on voxels of about `WORKING_VOXEL_MM`."""
    image = to_image(array, grid)
    factors = [max(1, round(WORKING_VOXEL_MM / s)) for s in image.GetSpacing()]
    return sitk.BinShrink(image, factors) if max(factors) > 1 else image


def _starts(fixed: Any, moving: Any) -> list[Any]:
    starts = []
    centring = sitk.CenteredTransformInitializerFilter
    for kind in (None, centring.GEOMETRY, centring.MOMENTS):
        transform = sitk.Euler3DTransform()
        if kind is None:
            transform.SetCenter(fixed.TransformContinuousIndexToPhysicalPoint([(n - 1) / 2 for n in fixed.GetSize()]))
        else:
            centred = sitk.CenteredTransformInitializer(_weights(fixed), _weights(moving), transform, kind)
            transform = sitk.Euler3DTransform(centred)
        starts.append(transform)
    return starts


def _weights(image: Any) -> Any:
    """Non-negative weights for a centre of mass: CT numbers of air would be negative ones."""
    clamped = sitk.Clamp(image, sitk.sitkFloat32, -1000.0, 1e30)
    return clamped - float(sitk.GetArrayViewFromImage(clamped).min())


def _method(metric: Metric) -> Any:
    method = sitk.ImageRegistrationMethod()
    set_metric: dict[Metric, Callable[[], None]] = {
        "mean_squares": method.SetMetricAsMeanSquares,
        "correlation": method.SetMetricAsCorrelation,
        "mattes": lambda: method.SetMetricAsMattesMutualInformation(MATTES_BINS),
    }
    set_metric[metric]()
    method.SetMetricSamplingStrategy(method.REGULAR)
    method.SetMetricSamplingPercentage(SAMPLING, SEED)
    method.SetInterpolator(sitk.sitkLinear)
    return method


def _evaluate(fixed: Any, moving: Any, metric: Metric, transform: Any) -> float:
    method = _method(metric)
    method.SetInitialTransform(transform, inPlace=False)
    try:
        return float(method.MetricEvaluate(fixed, moving))
    except RuntimeError:
        # No overlap from this start; another one may have it.
        return float("inf")


def _matrix(transform: Any) -> NDArray[np.float64]:
    matrix = np.eye(4)
    rotation = np.asarray(transform.GetMatrix()).reshape(3, 3)
    centre = np.asarray(transform.GetCenter())
    matrix[:3, :3] = rotation
    matrix[:3, 3] = np.asarray(transform.GetTranslation()) + centre - rotation @ centre
    return matrix


def _last_line(error: RuntimeError) -> str:
    # Addresses of objects differ from run to run, and the message reaches the tables.
    text = re.sub(r"\(0x[0-9a-f]+\)", "", str(error))
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "no message"
