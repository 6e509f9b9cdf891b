"""Voxel fits against the fit of one region and a twin in NumPy, bounds on both sides, and what is refused."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from math import log
from pathlib import Path
from typing import Any

import numba
import numpy as np
import pytest
from numpy.typing import NDArray

from doseledger.errors import QuantityError, UnknownNameError
from doseledger.kinetics import fit_curve, fit_voxels
from doseledger.kinetics.voxel_kernels import BLOCK as KERNEL_BLOCK
from doseledger.kinetics.voxelwise import (
    BLOCK,
    LARGEST_FOLDING,
    REGISTRY,
    STATUS_AT_BOUND,
    STATUS_NO_ACTIVITY,
    STATUS_OK,
    fitted,
    rate_nodes,
)

from . import voxel_twin as twin

HALF_LIFE_H = 159.528
SLOWEST_PER_H = log(2.0) / HALF_LIFE_H
TIMES_H = np.array([4.0, 24.0, 96.0, 168.0])


def curves(times_h: NDArray[np.float64], count: int, *, sd_rel: float, seed: int = 0) -> NDArray[np.float32]:
    """Shape ``(t, 1, 1, count)``; effective half-lives of 15 to 120 h."""
    rng = np.random.Generator(np.random.PCG64(seed))
    half_lives = rng.uniform(15.0, 120.0, count)
    clean = rng.uniform(1e3, 1e5, count) * np.exp(-log(2.0) / half_lives * times_h[:, None])
    noise = 1.0 + sd_rel * rng.standard_normal(clean.shape)
    return np.asarray(np.maximum(clean * noise, 0.0).reshape(times_h.size, 1, 1, count), dtype=np.float32)


def test_every_voxel_is_fitted_as_a_region_of_equal_weights() -> None:
    images = curves(TIMES_H, 200, sd_rel=0.1)
    found = fit_voxels(images, TIMES_H, half_life_h=HALF_LIFE_H)
    for voxel in range(images.shape[-1]):
        activity = images[:, 0, 0, voxel].astype(float)
        # So small an uncertainty that "at the bound" means the same in both.
        fit = fit_curve(TIMES_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=1e-3, model="mono")
        assert found.tia[0, 0, voxel] == pytest.approx(fit.tia_mbq_h, rel=1e-4)
        assert (found.status[0, 0, voxel] == STATUS_AT_BOUND) == fit.rate_at_bound
    assert np.unique(found.status).tolist() == [STATUS_OK, STATUS_AT_BOUND]


@pytest.mark.parametrize("half_life_h", [8.0, 50.0, 159.0])
def test_noise_free_voxels_are_met(half_life_h: float) -> None:
    images = (1e4 * np.exp(-log(2.0) / half_life_h * TIMES_H)).reshape(4, 1, 1, 1)
    found = fit_voxels(images, TIMES_H, half_life_h=HALF_LIFE_H)
    assert found.tia[0, 0, 0] == pytest.approx(1e4 * half_life_h / log(2.0), rel=1e-5)
    assert found.status[0, 0, 0] == STATUS_OK


def test_nothing_clears_more_slowly_than_physical_decay() -> None:
    images = np.stack([np.full((2, 1, 1), 100.0), np.array([100.0, 150.0]).reshape(2, 1, 1)], axis=1)[:, :, 0]
    images = images.reshape(2, 1, 2, 1)
    found = fit_voxels(images, [24.0, 96.0], half_life_h=HALF_LIFE_H)
    decay = np.exp(-SLOWEST_PER_H * np.array([24.0, 96.0]))
    for voxel in range(2):
        amplitude = float(decay @ images[:, 0, voxel, 0] / (decay @ decay))
        assert found.tia[0, voxel, 0] == pytest.approx(amplitude / SLOWEST_PER_H, rel=1e-6)
    assert np.all(found.status == STATUS_AT_BOUND)


@pytest.mark.parametrize("times_h", [[24.0, 96.0, 168.0], [24.0, 120.0], [4.0, 24.0, 96.0, 168.0]])
@pytest.mark.parametrize("sd_rel", [0.1, 0.3])
def test_noise_does_not_let_single_voxels_hold_the_activity_of_an_organ(times_h: list[float], sd_rel: float) -> None:
    """A voxel that seems empty after the first scan must not be extrapolated back without bound."""
    times = np.array(times_h)
    rng = np.random.Generator(np.random.PCG64(5))
    clean = 100.0 * np.exp(-log(2.0) / 50.0 * times)[:, None]
    images = np.maximum(clean * (1.0 + sd_rel * rng.standard_normal((times.size, 8000))), 0.0)
    found = fit_voxels(images.reshape(times.size, 20, 20, 20), times, half_life_h=HALF_LIFE_H)
    ratio = found.tia / (100.0 * 50.0 / log(2.0))
    assert ratio.mean() == pytest.approx(1.0, abs=0.05)
    assert ratio.max() < 5.0


@pytest.mark.parametrize("first_h", [0.0, 1.0, 24.0, 200.0])
def test_activity_in_the_first_scan_alone_stays_in_proportion(first_h: float) -> None:
    images = np.array([100.0, 0.0, 0.0]).reshape(3, 1, 1, 1)
    found = fit_voxels(images, [first_h, first_h + 100.0, first_h + 400.0], half_life_h=HALF_LIFE_H)
    # Between no biological clearance and three e-foldings of it before the first scan.
    rates = SLOWEST_PER_H + np.array([0.0, LARGEST_FOLDING / max(first_h, LARGEST_FOLDING)])
    assert 0.0 < found.tia[0, 0, 0] <= 1.0001 * np.max(100.0 * np.exp(rates * first_h) / rates)


def test_no_activity_is_zero_and_says_so() -> None:
    images = np.zeros((2, 1, 1, 3))
    images[:, 0, 0, 1] = [-5.0, -1.0]
    images[:, 0, 0, 2] = [5.0, 1.0]
    found = fit_voxels(images, [24.0, 96.0], half_life_h=HALF_LIFE_H)
    assert found.status[0, 0].tolist() == [STATUS_NO_ACTIVITY, STATUS_NO_ACTIVITY, STATUS_OK]
    assert found.tia[0, 0, :2].tolist() == [0.0, 0.0]
    assert found.tia[0, 0, 2] > 0.0


def test_a_negative_voxel_value_never_gives_a_negative_integral() -> None:
    images = curves(TIMES_H, 500, sd_rel=0.3) - np.float32(2e4)
    assert np.all(fit_voxels(images, TIMES_H, half_life_h=HALF_LIFE_H).tia >= 0.0)


@pytest.mark.parametrize("model", ["mono", "mono_uptake", "bi"])
def test_the_uncertainty_is_that_of_the_integral_under_small_changes(model: str) -> None:
    """To first order, from every parameter that is free: here by finite differences of the whole fit."""
    times = np.array([2.0, 8.0, 24.0, 48.0, 96.0, 168.0])
    clean = 600.0 * np.exp(-times / 80.0) + (400.0 * np.exp(-times / 9.0) if model == "bi" else 0.0)
    clean -= 600.0 * np.exp(-log(2.0) / 2.5 * times) if model == "mono_uptake" else 0.0
    images = clean.reshape(-1, 1, 1, 1)
    u = np.array([0.05, 0.04, 0.03, 0.05, 0.06, 0.04]).reshape(-1, 1, 1, 1) * images
    found = fit_voxels(images, times, half_life_h=HALF_LIFE_H, model=model, u=u)

    def tia(changed: NDArray[np.float64]) -> float:
        return float(fit_voxels(changed, times, half_life_h=HALF_LIFE_H, model=model).tia[0, 0, 0])

    parts = []
    for scan in range(times.size):
        step = np.zeros_like(images)
        step[scan] = 0.1 * u[scan]
        parts.append((tia(images + step) - tia(images - step)) / 0.2)
    assert found.u_tia[0, 0, 0] == pytest.approx(float(np.linalg.norm(parts)), rel=0.02)
    assert np.all(np.isnan(fit_voxels(images, times, half_life_h=HALF_LIFE_H, model=model).u_tia))


def test_at_the_bound_the_uncertainty_is_that_of_the_amplitude() -> None:
    images = (1e4 * np.exp(-0.5 * SLOWEST_PER_H * TIMES_H)).reshape(4, 1, 1, 1)
    found = fit_voxels(images, TIMES_H, half_life_h=HALF_LIFE_H, u=0.1 * images)
    decay = np.exp(-SLOWEST_PER_H * TIMES_H)
    u_amplitude = float(np.sqrt(np.sum((decay / (decay @ decay) * 0.1 * images[:, 0, 0, 0]) ** 2)))
    assert found.status[0, 0, 0] == STATUS_AT_BOUND
    assert found.u_tia[0, 0, 0] == pytest.approx(u_amplitude / SLOWEST_PER_H, rel=1e-4)


# Against the twin in NumPy ------------------------------------------------------------------------

MANY_H = np.array([2.0, 6.0, 24.0, 48.0, 96.0, 168.0])


@pytest.mark.parametrize("times_h", [TIMES_H, MANY_H], ids=["4", "6"])
@pytest.mark.parametrize("uptake_h", [None, 2.5, 6.0])
@pytest.mark.parametrize("sd_rel", [0.0, 0.1, 0.3])
def test_one_phase_is_that_of_the_twin(times_h: NDArray[np.float64], uptake_h: float | None, sd_rel: float) -> None:
    images = curves(times_h, 400, sd_rel=sd_rel, seed=3)
    model = "mono" if uptake_h is None else "mono_uptake"
    uptake_rate = None if uptake_h is None else log(2.0) / uptake_h
    found = fit_voxels(images, times_h, half_life_h=HALF_LIFE_H, model=model, uptake_half_life_h=uptake_h)
    uptake = np.zeros(times_h.size) if uptake_rate is None else np.exp(-uptake_rate * times_h)
    fastest = rate_nodes(1, times_h, SLOWEST_PER_H, uptake_rate)[-1]
    amplitude, rate = twin.one_phase(images[:, 0, 0].astype(float), times_h, SLOWEST_PER_H, fastest, uptake)
    tia = amplitude * (1.0 / rate - (0.0 if uptake_rate is None else 1.0 / uptake_rate))
    assert found.tia[0, 0] == pytest.approx(tia, rel=1e-4)
    at_bound = rate == SLOWEST_PER_H
    assert np.mean((found.status[0, 0] == STATUS_AT_BOUND) == at_bound) > 0.995


@pytest.mark.parametrize("uptake_h", [None, 1.5])
@pytest.mark.parametrize("sd_rel", [0.0, 0.1, 0.3])
def test_two_phases_leave_no_more_than_the_twin(uptake_h: float | None, sd_rel: float) -> None:
    """Two exponentials have valleys, so what is compared is what is minimised, and the integral over all voxels."""
    # From the injection on, so that the uptake can be taken off: curves of the model's own family.
    times = np.array([0.0, *MANY_H])
    slow, quick = (curves(times, 200, sd_rel=0.0, seed=seed).astype(float) for seed in (4, 5))
    images = slow + quick * np.exp(-times / 8.0).reshape(-1, 1, 1, 1)
    if uptake_h is not None:
        images = images - images[:1] * np.exp2(-times / uptake_h).reshape(-1, 1, 1, 1)
    images = images[1:]
    rng = np.random.Generator(np.random.PCG64(6))
    images = np.maximum(images * (1.0 + sd_rel * rng.standard_normal(images.shape)), 0.0).astype(np.float32)
    model = "bi" if uptake_h is None else "bi_uptake"
    uptake_rate = None if uptake_h is None else log(2.0) / uptake_h
    data = images[:, 0, 0].astype(float)
    amplitude, rate = fitted(REGISTRY[model], images[:, 0, 0], MANY_H, SLOWEST_PER_H, uptake_rate, 1)
    assert amplitude.min() >= 0.0
    assert rate.min() >= np.float32(SLOWEST_PER_H)
    uptake = np.zeros(MANY_H.size) if uptake_rate is None else np.exp(-uptake_rate * MANY_H)
    shapes = np.exp(-rate[:, None].astype(float) * MANY_H[:, None]) - uptake[:, None]
    left = ((data - (amplitude[:, None] * shapes).sum(axis=0)) ** 2).sum(axis=0)
    fastest = rate_nodes(2, MANY_H, SLOWEST_PER_H, uptake_rate)[-1]
    own, rates, least = twin.two_phases(data, MANY_H, SLOWEST_PER_H, fastest, uptake)
    # Within 1.7 % of the activities in the worst voxel, and 0.7 % in 19 of 20: single precision in a flat valley.
    excess = (left - least) / (data**2).sum(axis=0)
    assert excess.max() < 3e-4
    assert np.quantile(excess, 0.95) < 5e-5
    unseen = 0.0 if uptake_rate is None else 1.0 / uptake_rate
    tia = (own * (1.0 / rates - unseen)).sum(axis=0)
    found = fit_voxels(images, MANY_H, half_life_h=HALF_LIFE_H, model=model, uptake_half_life_h=uptake_h).tia[0, 0]
    assert found.sum() == pytest.approx(tia.sum(), rel=1e-2)
    assert np.median(np.abs(found / tia - 1.0)) < 5e-3


def test_noise_free_voxels_of_two_phases_are_met() -> None:
    phases = [(700.0, 80.0), (300.0, 9.0)]
    images = sum(a * np.exp(-log(2.0) / h * MANY_H) for a, h in phases).reshape(-1, 1, 1, 1)
    found = fit_voxels(images, MANY_H, half_life_h=HALF_LIFE_H, model="bi")
    assert found.tia[0, 0, 0] == pytest.approx(sum(a * h for a, h in phases) / log(2.0), rel=1e-3)


def test_neither_blocks_nor_the_order_of_scans_change_a_voxel() -> None:
    images = curves(TIMES_H, BLOCK + 7, sd_rel=0.1)
    whole = fit_voxels(images, TIMES_H, half_life_h=HALF_LIFE_H)
    last = fit_voxels(images[..., -3:], TIMES_H, half_life_h=HALF_LIFE_H)
    assert np.array_equal(whole.tia[..., -3:], last.tia)
    order = [2, 0, 3, 1]
    turned = fit_voxels(images[order][..., :50], TIMES_H[order], half_life_h=HALF_LIFE_H)
    assert turned.tia == pytest.approx(whole.tia[..., :50], rel=1e-5)
    assert whole.tia.dtype == whole.u_tia.dtype == np.float32
    assert whole.tia.shape == images.shape[1:]


@pytest.mark.parametrize("model", REGISTRY)
def test_neither_threads_nor_places_in_a_block_change_a_bit(model: str) -> None:
    images = curves(TIMES_H, 3 * KERNEL_BLOCK + 7, sd_rel=0.1)
    one = fit_voxels(images, TIMES_H, half_life_h=HALF_LIFE_H, model=model)
    two = fit_voxels(images, TIMES_H, half_life_h=HALF_LIFE_H, model=model, threads=2)
    part = fit_voxels(images[..., 11:], TIMES_H, half_life_h=HALF_LIFE_H, model=model)
    assert np.array_equal(one.tia, two.tia)
    assert np.array_equal(one.tia[..., 11:], part.tia)


#: What a process of another instruction set is asked for: the TIA of the voxels in a file.
_ELSEWHERE = """
import sys
import numpy as np
from doseledger.kinetics import fit_voxels
data = np.load(sys.argv[1])
fit = fit_voxels(data["images"], data["times_h"], half_life_h=float(data["half_life_h"]), model=str(data["model"]))
np.save(sys.argv[2], fit.tia)
"""


@pytest.mark.skipif(platform.machine() != "x86_64", reason="instruction sets of x86")
@pytest.mark.parametrize("model", ["mono_uptake", "bi"])
def test_the_instruction_set_changes_no_bit(model: str, tmp_path: Path) -> None:
    """SSE2 alone in another process, and what this processor or the environment has in this one."""
    images = curves(TIMES_H, 2 * KERNEL_BLOCK + 7, sd_rel=0.1)
    np.savez(tmp_path / "in.npz", images=images, times_h=TIMES_H, half_life_h=HALF_LIFE_H, model=model)
    command = [sys.executable, "-c", _ELSEWHERE, str(tmp_path / "in.npz"), str(tmp_path / "out.npy")]
    generic = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run(command, check=True, env=os.environ | generic)
    own = fit_voxels(images, TIMES_H, half_life_h=HALF_LIFE_H, model=model)
    assert np.array_equal(own.tia, np.load(tmp_path / "out.npy"))


def test_threads_are_given_back() -> None:
    before = numba.get_num_threads()
    fit_voxels(curves(TIMES_H, 5, sd_rel=0.1), TIMES_H, half_life_h=HALF_LIFE_H, threads=1)
    assert numba.get_num_threads() == before


IMAGES = np.ones((2, 1, 1, 1))
GOOD: dict[str, Any] = {"activity": IMAGES, "times_h": [24.0, 96.0], "half_life_h": HALF_LIFE_H}


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"activity": IMAGES[0]}, "do not match"),
        ({"times_h": [24.0]}, "do not match"),
        ({"activity": IMAGES[:1], "times_h": [24.0]}, "do not match"),
        ({"activity": IMAGES * np.nan}, "not finite"),
        ({"activity": IMAGES * np.inf}, "not finite"),
        ({"times_h": [24.0, float("nan")]}, "not finite"),
        ({"times_h": [24.0, 24.0]}, "repeated"),
        ({"times_h": [-1.0, 24.0]}, "before the injection"),
        ({"half_life_h": 0.0}, "half-life"),
        ({"half_life_h": -159.0}, "half-life"),
        ({"half_life_h": float("nan")}, "half-life"),
        ({"model": "mono_uptake", "uptake_half_life_h": 200.0}, "uptake"),
        ({"model": "mono_uptake", "uptake_half_life_h": 0.0}, "uptake"),
        ({"model": "mono_uptake", "uptake_half_life_h": -1.0}, "uptake"),
        ({"model": "mono_uptake", "uptake_half_life_h": float("nan")}, "uptake"),
    ],
    ids=lambda value: "" if isinstance(value, str) else ", ".join(value),
)
def test_bad_input_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(QuantityError, match=word):
        fit_voxels(**GOOD | change)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="found 'trapezoid'; expected"):
        fit_voxels(**GOOD, model="trapezoid")
