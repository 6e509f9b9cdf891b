"""Response of a camera to a known activity, how its noise depends on volume, and how it changes over the years."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from scipy.stats import norm, t

from doseledger.activity.phantom_shapes import FilledShape, block_around
from doseledger.errors import QuantityError
from doseledger.geometry import Grid, Vector

#: All activity is within this many blurs (FWHM) of a body: 4.7 standard deviations.
MARGIN_FWHM: Final = 2.0
#: Statistics come from the scatter between so many layers of the body's inside.
_LAYERS: Final = 8
#: Shares of voxels above this are wholly inside.
_WHOLE: Final = 0.99
_DAYS_PER_YEAR: Final = 365.25
_LEVEL: Final = 0.95


@dataclass(frozen=True)
class Response:
    """What an image shows per unit of true activity.

    Attributes
    ----------
    value
        In the unit of the image per MBq: cps/MBq for count rates, 1 for images of activity that are right.
    u_statistics_rel
        Relative standard uncertainty by noise, from the scatter inside the body.
    outside_share
        Share of the whole field's content that lies away from the body.
    """

    value: float
    u_statistics_rel: float
    outside_share: float


def measure_response(
    image: NDArray[np.floating],
    grid: Grid,
    shape: FilledShape,
    centre_mm: Vector,
    *,
    activity_mbq: float,
    fwhm_mm: float,
) -> Response:
    """Sum of an image over a body and its blurred edge, per MBq of the activity in it.

    S = V sum_v I_v / A over all voxels within `MARGIN_FWHM` blurs of the body, with the voxel volume V in mL: an image
    in MBq/mL (or in count rate per mL) gives the response in 1 (or in cps/MBq).

    Raises
    ------
    QuantityError
        The activity is not positive, or the body is too small to tell its noise.
    """
    if not activity_mbq > 0:
        raise QuantityError("the activity of the phantom is not positive", tag="activity_mbq", value=activity_mbq)
    around = shape.grown(MARGIN_FWHM * fwhm_mm).fraction(grid, centre_mm) > 0
    total, inside = float(image.sum(dtype=float)), float(image[around].sum(dtype=float))
    return Response(
        value=inside * grid.voxel_volume_ml / activity_mbq,
        u_statistics_rel=_layer_scatter(image, grid, shape, centre_mm, fwhm_mm),
        outside_share=1.0 - inside / total,
    )


def _layer_scatter(
    image: NDArray[np.floating], grid: Grid, shape: FilledShape, centre_mm: Vector, fwhm_mm: float
) -> float:
    """Relative standard error of the mean of the inside, from layers across the axis that stack up to it."""
    inner = _inner(shape, grid, centre_mm, fwhm_mm)
    levels = np.flatnonzero(inner.any(axis=(1, 2)))
    layers = [group for group in np.array_split(levels, _LAYERS) if len(group)]
    if len(layers) < _LAYERS:
        raise QuantityError(
            "the body is too short to tell its noise", value=f"{len(levels)} slices", expected=f"at least {_LAYERS}"
        )
    means = np.array([image[group][inner[group]].mean(dtype=float) for group in layers])
    return float(means.std(ddof=1) / means.mean() / np.sqrt(_LAYERS))


def noise_in_volume(
    image: NDArray[np.floating], grid: Grid, body: FilledShape, centre_mm: Vector, probe: FilledShape, *, fwhm_mm: float
) -> float:
    """Relative scatter of the mean over a small volume, wherever in an evenly filled body it lies.

    Raises
    ------
    QuantityError
        The volume does not fit into the body.
    """
    reach = max(probe.size_mm)
    at = grid.position_mm(np.round(grid.index(np.asarray(centre_mm)[None, :])[0]))
    kernel = probe.fraction(grid, at)[block_around(grid, at, probe.size_mm)]
    means = fftconvolve(image, kernel / kernel.sum(), mode="same")
    inner = _inner(body, grid, centre_mm, fwhm_mm + reach / 2.0)
    return float(means[inner].std(dtype=float) / means[inner].mean(dtype=float))


def _inner(body: FilledShape, grid: Grid, centre_mm: Vector, edge_mm: float) -> NDArray[np.bool_]:
    x, y, z = (diameter - 2.0 * edge_mm for diameter in body.size_mm)
    if min(x, y, z) <= 0:
        raise QuantityError(
            "the evenly filled body is too small to look inside it", tag="size_mm", value=body.size_mm,
            expected=f"more than {2.0 * edge_mm:.0f} mm",
        )  # fmt: skip
    return np.asarray(FilledShape(body.form, (x, y, z)).fraction(grid, centre_mm) > _WHOLE)


@dataclass(frozen=True)
class Constancy:
    """How a quantity of a camera changed over its studies.

    Attributes
    ----------
    changes_rel
        Of every study against the first.
    drift_per_year_rel, drift_interval_rel
        Slope of the logarithm over the years, and its 95 % interval.
    repeatability_rel
        Scatter of single studies around the drift; None below three studies.
    """

    changes_rel: tuple[float, ...]
    drift_per_year_rel: float
    drift_interval_rel: tuple[float, float]
    repeatability_rel: float | None


def fit_constancy(days: Sequence[float], values: Sequence[float], u_rel: Sequence[float]) -> Constancy | None:
    """Drift of a quantity over studies at some days; None for a single day.

    ln S = c + d t by least squares. From three studies on the interval rests on their scatter (Student's t); two
    studies have none, and theirs rests on the stated uncertainties.

    Examples
    --------
    Three yearly studies, 1 % lower each year but for 0.2 % of scatter:

    >>> constancy = fit_constancy([0, 365.25, 730.5], [9.20, 9.13, 9.016], [0.01] * 3)
    >>> round(constancy.drift_per_year_rel, 4), round(constancy.repeatability_rel, 4)
    (-0.0101, 0.002)
    """
    years = np.asarray(days, dtype=float) / _DAYS_PER_YEAR
    if len(years) < 2 or np.ptp(years) == 0:
        return None
    logs = np.log(np.asarray(values, dtype=float))
    spread = float(((years - years.mean()) ** 2).sum())
    slope = float(((years - years.mean()) * (logs - logs.mean())).sum() / spread)
    changes = tuple(float(v) for v in np.expm1(logs - logs[0]))
    dof = len(years) - 2
    if dof > 0:
        residual = logs - logs.mean() - slope * (years - years.mean())
        sd: float | None = float(np.sqrt((residual**2).sum() / dof))
        u_slope = float(t.ppf(0.5 + _LEVEL / 2.0, dof)) * float(sd or 0.0) / float(np.sqrt(spread))
    else:
        sd = None
        weights = (years - years.mean()) / spread
        u_slope = float(norm.ppf(0.5 + _LEVEL / 2.0)) * float(np.sqrt(((weights * np.asarray(u_rel)) ** 2).sum()))
    return Constancy(changes, slope, (slope - u_slope, slope + u_slope), sd)
