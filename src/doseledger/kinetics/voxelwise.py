"""Curve fits in every voxel."""

from __future__ import annotations

from dataclasses import dataclass
from math import log
from typing import Final

import numba
import numpy as np
from numpy.typing import ArrayLike, NDArray

from doseledger.errors import QuantityError, UnknownNameError
from doseledger.kinetics.curves import UptakePrior
from doseledger.kinetics.forms import FORMS, Form
from doseledger.kinetics.voxel_kernels import fit_one, fit_two

#: Models of a voxel; the keys are those of the curve models that are sums of exponentials.
REGISTRY: Final[dict[str, Form]] = FORMS
#: Nodes of the table of excess rates over physical decay, by the number of clearance phases; the first
#: node is physical decay itself, the next ones go from `SMALLEST_EXCESS_PER_H` to the fastest rate.
NODES: Final = {1: 64, 2: 32}
SMALLEST_EXCESS_PER_H: Final = {1: 1e-4, 2: 5e-4}
LARGEST_EXCESS_PER_H: Final = 1.0
#: No voxel clears by more e-foldings than this before the first scan. Noise makes some voxels seem to
#: vanish after it; extrapolated back without bound, a few of them would hold more than all others.
LARGEST_FOLDING: Final = 3.0
#: Clearance stays slower than uptake by this factor.
SLOWER_THAN_UPTAKE: Final = 0.9
#: Voxels per block of the uncertainty, which is computed in double precision.
BLOCK: Final = 16384

STATUS_OK: Final = 0
STATUS_AT_BOUND: Final = 1
STATUS_NO_ACTIVITY: Final = 2

Array = NDArray[np.float64]
Single = NDArray[np.float32]


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

    tia: Single
    u_tia: Single
    status: NDArray[np.uint8]


def fit_voxels(
    activity: ArrayLike,
    times_h: ArrayLike,
    *,
    half_life_h: float,
    model: str = "mono",
    u: ArrayLike | None = None,
    uptake_half_life_h: float | None = None,
    threads: int = 1,
) -> VoxelFit:
    """Least-squares curve in every voxel, no rate below physical decay, no amplitude below zero.

    The models are those of regions, with two differences: scans have equal weights, and the
    half-life of uptake is not fitted but given, because single voxels cannot tell it.

    For given rates the amplitudes are linear and are eliminated; what is left is a search in one rate
    (Newton's method, safeguarded by the neighbours on a grid) or in two (all pairs of the grid, then
    damped Gauss-Newton steps).

    Parameters
    ----------
    activity
        Shape ``(t, z, y, x)``, any unit.
    times_h
        Hours after mid-injection, shape ``(t,)``, at least two.
    u
        Standard uncertainty of `activity`, broadcast to its shape; gives `VoxelFit.u_tia` to first
        order from all parameters that are free.
    uptake_half_life_h
        Effective half-life of uptake, for the models that have it; the median of the default prior
        if not given.
    threads
        Of the processor. The numbers do not depend on it.

    Raises
    ------
    QuantityError
        Fewer than two times, shapes that differ, values that are not finite, times before the
        injection or repeated, a half-life that is not positive, uptake no faster than decay.
    UnknownNameError
        The model is not in the registry.
    """
    if model not in REGISTRY:
        raise UnknownNameError("the voxel model is not known", value=model, expected=list(REGISTRY))
    form = REGISTRY[model]
    images, times = _checked(activity, times_h, half_life_h)
    slowest = log(2.0) / half_life_h
    uptake_rate = _uptake_rate(form, slowest, uptake_half_life_h)
    flat = images.reshape(times.size, -1)
    hot = np.flatnonzero(flat.max(axis=0) > 0)
    data = np.ascontiguousarray(flat if hot.size == flat.shape[1] else flat[:, hot])
    amplitude, rate = fitted(form, data, times, slowest, uptake_rate, threads)
    unseen = 0.0 if uptake_rate is None else 1.0 / uptake_rate
    tia, status = np.zeros(flat.shape[1], np.float32), np.full(flat.shape[1], STATUS_NO_ACTIVITY, np.uint8)
    u_tia = np.full(flat.shape[1], np.nan, np.float32)
    tia[hot] = (amplitude * (np.float32(1.0) / rate - np.float32(unseen))).sum(axis=0)
    at_bound = ((rate <= np.float32(slowest)) & (amplitude > 0.0)).any(axis=0)
    status[hot] = np.where(
        amplitude.sum(axis=0) > 0.0, np.where(at_bound, STATUS_AT_BOUND, STATUS_OK), STATUS_NO_ACTIVITY
    )
    if u is not None:
        u_flat = np.broadcast_to(np.asarray(u, dtype=np.float32), images.shape).reshape(times.size, -1)
        for start in range(0, hot.size, BLOCK):
            part = slice(start, start + BLOCK)
            u_tia[hot[part]] = _u_tia(
                amplitude[:, part].astype(float),
                rate[:, part].astype(float),
                u_flat[:, hot[part]],
                times,
                slowest,
                uptake_rate,
            )
    shape = images.shape[1:]
    return VoxelFit(tia.reshape(shape), u_tia.reshape(shape), status.reshape(shape))


def _checked(activity: ArrayLike, times_h: ArrayLike, half_life_h: float) -> tuple[Single, Array]:
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
    return images, times


def _uptake_rate(form: Form, slowest_per_h: float, uptake_half_life_h: float | None) -> float | None:
    if not form.uptake:
        return None
    half_life_h = UptakePrior().half_life_h if uptake_half_life_h is None else uptake_half_life_h
    rate = log(2.0) / half_life_h if half_life_h > 0 else 0.0
    if not SLOWER_THAN_UPTAKE * rate > slowest_per_h:
        raise QuantityError("the uptake is not faster than physical decay", value=uptake_half_life_h)
    return rate


def rate_nodes(phases: int, times_h: Array, slowest_per_h: float, uptake_rate_per_h: float | None) -> Array:
    """Rates of the table, 1/h, in ascending order; the first is physical decay."""
    fastest = LARGEST_FOLDING / max(float(times_h.min()), LARGEST_FOLDING / LARGEST_EXCESS_PER_H)
    if uptake_rate_per_h is not None:
        fastest = min(fastest, SLOWER_THAN_UPTAKE * uptake_rate_per_h - slowest_per_h)
    smallest = min(SMALLEST_EXCESS_PER_H[phases], 0.1 * fastest)
    return np.asarray(slowest_per_h + np.concatenate([[0.0], np.geomspace(smallest, fastest, NODES[phases] - 1)]))


def fitted(
    form: Form, data: Single, times: Array, slowest: float, uptake_rate: float | None, threads: int
) -> tuple[Single, Single]:
    """Amplitudes and rates, ``(phases, n)``, of voxels ``(t, n)``."""
    uptake = np.zeros(times.size) if uptake_rate is None else np.exp(-uptake_rate * times)
    nodes = rate_nodes(form.clearances, times, slowest, uptake_rate)
    table = np.exp(-nodes[:, None] * times) - uptake
    length = np.linalg.norm(table, axis=1, keepdims=True)
    table = table / np.where(length > 0.0, length, 1.0)
    amplitude = np.zeros((form.clearances, data.shape[1]), np.float32)
    rate = np.full_like(amplitude, slowest)
    kernel = fit_one if form.clearances == 1 else fit_two
    before = numba.get_num_threads()
    numba.set_num_threads(max(1, min(threads, numba.config.NUMBA_NUM_THREADS)))
    try:
        kernel(data, *(np.ascontiguousarray(a, np.float32) for a in (times, uptake, nodes, table)), amplitude, rate)
    finally:
        numba.set_num_threads(before)
    return amplitude, rate


def _u_tia(amplitude: Array, rate: Array, u: Single, times: Array, slowest: float, uptake_rate: float | None) -> Array:
    """Standard uncertainty of the TIA, ``(n,)``: its gradient times the pseudo-inverse of the Jacobian.

    A rate at physical decay, and a phase without activity, are not free.
    """
    uptake = 0.0 if uptake_rate is None else np.exp(-uptake_rate * times)
    unseen = 0.0 if uptake_rate is None else 1.0 / uptake_rate
    decay = np.exp(-rate[..., None] * times)
    active = amplitude[..., None] > 0.0
    free = active & (rate[..., None] > np.float32(slowest))
    columns = np.concatenate([(decay - uptake) * active, -times * decay * amplitude[..., None] * free])
    gradient = np.concatenate([1.0 / rate - unseen, -amplitude / rate**2])
    # Columns of one length: what the scans leave open is then a matter of their angles alone.
    length = np.linalg.norm(columns, axis=-1)
    scale = np.where(length > 0.0, 1.0 / np.where(length > 0.0, length, 1.0), 0.0)
    inverse = np.linalg.pinv(np.moveaxis(columns * scale[..., None], 0, -1), rcond=1e-7)
    sensitivity = np.einsum("pn,npt->tn", gradient * scale, inverse)
    return np.asarray(np.sqrt(np.square(sensitivity * u).sum(axis=0)))
