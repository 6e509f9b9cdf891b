"""Voxel fits against the fit of one region, bounds on both sides, and what is refused."""

from __future__ import annotations

from math import log
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from doseledger.errors import QuantityError, UnknownNameError
from doseledger.kinetics import fit_curve, fit_voxels
from doseledger.kinetics.voxelwise import BLOCK, LARGEST_FOLDING, STATUS_AT_BOUND, STATUS_NO_ACTIVITY, STATUS_OK

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
        fit = fit_curve(TIMES_H, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=1e-3)
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


def test_the_uncertainty_is_that_of_the_amplitude_at_the_fitted_rate() -> None:
    images = curves(TIMES_H, 5, sd_rel=0.0)
    found = fit_voxels(images, TIMES_H, half_life_h=HALF_LIFE_H, u=0.1 * images)
    for voxel in range(5):
        activity = images[:, 0, 0, voxel].astype(float)
        rate = log(activity[0] / activity[-1]) / (TIMES_H[-1] - TIMES_H[0])
        decay = np.exp(-rate * TIMES_H)
        u_amplitude = np.sqrt(np.sum((decay / (decay @ decay) * 0.1 * activity) ** 2))
        assert found.u_tia[0, 0, voxel] == pytest.approx(u_amplitude / rate, rel=1e-3)
    assert np.all(np.isnan(fit_voxels(images, TIMES_H, half_life_h=HALF_LIFE_H).u_tia))


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
    ],
    ids=lambda value: "" if isinstance(value, str) else ", ".join(value),
)
def test_bad_input_is_refused(change: dict[str, Any], word: str) -> None:
    with pytest.raises(QuantityError, match=word):
        fit_voxels(**GOOD | change)


def test_an_unknown_model_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="found 'bi'; expected 'mono'"):
        fit_voxels(**GOOD, model="bi")
