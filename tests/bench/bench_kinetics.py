"""Voxel fits of 256^3 voxels and four scans against bounded ``curve_fit`` voxel by voxel: ``make bench``.

Prints processor and wall time, and the ratio of the time per voxel in the same run; the ratio is what may be
quoted, and what is asserted. Goals on two free cores: one phase within 3 s, two phases within 15 s.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable
from math import log
from typing import Any, Final

import numpy as np
from scipy.optimize import OptimizeWarning, curve_fit

from doseledger.kinetics import fit_voxels

HALF_LIFE_H: Final = 159.528
SLOWEST_PER_H: Final = log(2.0) / HALF_LIFE_H
TIMES_H: Final = np.array([4.0, 24.0, 96.0, 168.0])
SIDE: Final = 256
#: Voxels that ``curve_fit`` is given: it is timed per voxel.
FEW: Final = 300
#: The least ratio of the times per voxel.
LEAST_RATIO: Final = 1000.0

Function = Callable[..., Any]


def main() -> None:
    activity = images(SIDE)
    few = activity.reshape(TIMES_H.size, -1)[:, :FEW].astype(float)
    sys.stdout.write(f"{SIDE}^3 voxels, {TIMES_H.size} scans, 2 threads\n")
    sys.stdout.write("model         CPU-s  wall s  curve_fit us  ratio  median |TIA / curve_fit - 1|\n")
    for model, shape, start in (
        ("mono", one_phase, (50.0, 0.01)),
        ("mono_uptake", with_uptake, (50.0, 0.01)),
        ("bi", two_phases, (25.0, 0.01, 25.0, 0.1)),
    ):
        # The first call compiles, or reads what was compiled before.
        fit_voxels(activity[:, :1, :1], TIMES_H, half_life_h=HALF_LIFE_H, model=model, threads=2)
        cpu, wall = time.process_time(), time.perf_counter()
        found = fit_voxels(activity, TIMES_H, half_life_h=HALF_LIFE_H, model=model, threads=2)
        cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
        own = time.process_time()
        tia = np.array([library(shape, start, few[:, v]) for v in range(FEW)])
        own = (time.process_time() - own) / FEW
        ratio = own / (cpu / SIDE**3)
        agreement = np.median(np.abs(found.tia.ravel()[:FEW] / tia - 1.0))
        sys.stdout.write(f"{model:12s} {cpu:6.2f} {wall:7.2f} {own * 1e6:13.0f} {ratio:6.0f} {agreement:10.1e}\n")
        assert ratio > LEAST_RATIO


def images(side: int) -> np.ndarray:
    """Two phases in every voxel, 5 % noise; ``(t, z, y, x)``, float32."""
    rng = np.random.Generator(np.random.PCG64(0))
    found = np.empty((TIMES_H.size, side, side, side), np.float32)
    amplitude = rng.uniform(1.0, 100.0, found.shape[1:]).astype(np.float32)
    slow = rng.uniform(30.0, 120.0, found.shape[1:]).astype(np.float32)
    fast_share = rng.uniform(0.0, 0.5, found.shape[1:]).astype(np.float32)
    for scan, time_h in enumerate(TIMES_H.astype(np.float32)):
        clean = (1.0 - fast_share) * np.exp2(-time_h / slow) + fast_share * np.float32(2.0 ** (-time_h / 8.0))
        noise = 1.0 + np.float32(0.05) * rng.standard_normal(found.shape[1:], dtype=np.float32)
        found[scan] = np.maximum(amplitude * clean * noise, 0.0)
    return found


def one_phase(t: np.ndarray, a: float, rate: float) -> np.ndarray:
    return a * np.exp(-rate * t)


def with_uptake(t: np.ndarray, a: float, rate: float) -> np.ndarray:
    return a * (np.exp(-rate * t) - np.exp(-log(2.0) / 2.5 * t))


def two_phases(t: np.ndarray, a1: float, l1: float, a2: float, l2: float) -> np.ndarray:
    return a1 * np.exp(-l1 * t) + a2 * np.exp(-l2 * t)


def library(shape: Function, start: tuple[float, ...], activity: np.ndarray) -> float:
    """TIA by the library's bounded least squares."""
    count = len(start) // 2
    bounds = ([0.0, SLOWEST_PER_H] * count, [np.inf, 0.75] * count)
    with warnings.catch_warnings():
        # As many parameters as scans: the library warns that it has no covariance.
        warnings.simplefilter("ignore", OptimizeWarning)
        p, _ = curve_fit(shape, TIMES_H, activity, start, bounds=bounds, max_nfev=10_000)
    unseen = 2.5 / log(2.0) if shape is with_uptake else 0.0
    return float(sum(a * (1.0 / rate - unseen) for a, rate in zip(p[::2], p[1::2], strict=True)))


if __name__ == "__main__":
    main()
