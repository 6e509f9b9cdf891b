"""Curve fits in every voxel."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from doseledger.errors import QuantityError, UnknownNameError

#: Voxels per block: the temporary arrays of a block stay in the processor's cache.
BLOCK: Final = 16384
#: Excess rates over physical decay tried first, 1/h; the best is refined by golden section.
COARSE_EXCESS_PER_H: Final = np.concatenate([[0.0], np.geomspace(1e-4, 1.0, 24)])
#: No voxel clears by more e-foldings than this before the first scan. Noise makes some voxels seem to
#: vanish after it; extrapolated back without bound, a few of them would hold more than all others.
LARGEST_FOLDING: Final = 3.0
GOLDEN_STEPS: Final = 28
_GOLDEN: Final = (5**0.5 - 1) / 2

STATUS_OK: Final = 0
STATUS_AT_BOUND: Final = 1
STATUS_NO_ACTIVITY: Final = 2


@dataclass(frozen=True, eq=False)
class VoxelFit:
    """Time-integrated activity in every voxel, arrays ``(z, y, x)``.

    Attributes
    ----------
    tia, u_tia
        In the unit of the input times hours; `u_tia` is NaN where no uncertainty was given.
    status
        0 ok, 1 rate at physical decay, 2 no activity (TIA 0).
    """

    tia: NDArray[np.float32]
    u_tia: NDArray[np.float32]
    status: NDArray[np.uint8]


def fit_voxels(
    activity: ArrayLike,
    times_h: ArrayLike,
    *,
    half_life_h: float,
    model: str = "mono",
    u: ArrayLike | None = None,
) -> VoxelFit:
    """Least-squares mono-exponential in every voxel, rate never below physical decay.

    For a rate l the amplitude is (e.y)/(e.e) with e = exp(-l t), and the residual falls as
    (e.y)^2/(e.e) grows; that is maximised over l, first on a coarse grid, then by golden section.

    Parameters
    ----------
    activity
        Shape ``(t, z, y, x)``, any unit; equal weights in time.
    times_h
        Hours after mid-injection, shape ``(t,)``, at least two.
    u
        Standard uncertainty of `activity`, broadcast to its shape; gives `VoxelFit.u_tia` from the
        amplitude at the fitted rate.

    Raises
    ------
    QuantityError
        Fewer than two times, shapes that differ, values that are not finite, times before the
        injection or repeated, a half-life that is not positive.
    UnknownNameError
        Another model than ``"mono"``.
    """
    if model != "mono":
        raise UnknownNameError("the voxel model is not known", value=model, expected="mono")
    images = np.asarray(activity, dtype=np.float32)
    times = np.asarray(times_h, dtype=np.float64)
    if images.ndim != 4 or times.shape != images.shape[:1] or times.size < 2:
        raise QuantityError("images and times do not match", value=(images.shape, times.shape))
    if not np.all(np.isfinite(images)) or not np.all(np.isfinite(times)):
        raise QuantityError("an image or time is not finite", value="NaN or infinity")
    if times.min() < 0 or np.unique(times).size < times.size:
        raise QuantityError("a time is before the injection or repeated", value=times.tolist())
    if not (np.isfinite(half_life_h) and half_life_h > 0):
        raise QuantityError("the half-life is not positive", value=half_life_h)
    slowest = log(2.0) / half_life_h
    shape = images.shape[1:]
    flat = images.reshape(times.size, -1)
    u_flat = None
    if u is not None:
        u_flat = np.broadcast_to(np.asarray(u, dtype=np.float32), images.shape).reshape(times.size, -1)
    tia = np.zeros(flat.shape[1], np.float32)
    u_tia = np.full(flat.shape[1], np.nan, np.float32)
    status = np.full(flat.shape[1], STATUS_NO_ACTIVITY, np.uint8)
    hot = np.flatnonzero(flat.max(axis=0) > 0)
    for start in range(0, hot.size, BLOCK):
        voxels = hot[start : start + BLOCK]
        data = flat[:, voxels].astype(np.float64)
        rate = _best_rates(data, times, slowest)
        decay = np.exp(-rate * times[:, None])
        amplitude = np.maximum((decay * data).sum(0) / (decay * decay).sum(0), 0.0)
        tia[voxels] = amplitude / rate
        status[voxels] = np.where(rate <= slowest, STATUS_AT_BOUND, STATUS_OK)
        if u_flat is not None:
            weight = decay / (decay * decay).sum(0)
            u_tia[voxels] = np.sqrt(((weight * u_flat[:, voxels]) ** 2).sum(0)) / rate
    return VoxelFit(tia.reshape(shape), u_tia.reshape(shape), status.reshape(shape))


def _best_rates(data: NDArray[np.float64], times_h: NDArray[np.float64], slowest_per_h: float) -> NDArray[np.float64]:
    def explained(rate: NDArray[np.float64]) -> NDArray[np.float64]:
        decay = np.exp(-rate * times_h[:, None])
        projection = (decay * data).sum(0)
        # The sign is kept: a negative amplitude explains nothing.
        return np.asarray(np.sign(projection) * projection**2 / (decay * decay).sum(0))

    fastest = LARGEST_FOLDING / max(float(times_h.min()), LARGEST_FOLDING / float(COARSE_EXCESS_PER_H[-1]))
    rates = slowest_per_h + np.unique(np.minimum(COARSE_EXCESS_PER_H, fastest))
    scores = np.stack([explained(np.full(data.shape[1], rate)) for rate in rates])
    best = np.argmax(scores, axis=0)
    low = rates[np.maximum(best - 1, 0)]
    high = rates[np.minimum(best + 1, rates.size - 1)]
    for _ in range(GOLDEN_STEPS):
        left = high - _GOLDEN * (high - low)
        right = low + _GOLDEN * (high - low)
        rising = explained(left) < explained(right)
        low = np.where(rising, left, low)
        high = np.where(rising, high, right)
    rate = 0.5 * (low + high)
    at_bound = explained(np.full(data.shape[1], slowest_per_h)) >= explained(rate)
    return np.where(at_bound, slowest_per_h, rate)
