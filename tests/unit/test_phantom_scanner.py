"""Virtual cameras: totals, blur, noise and decay conventions."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log, sqrt

import numpy as np
import pytest

from doseledger.geometry import Grid
from doseledger.phantom.design import FIELDS
from doseledger.phantom.patients import stream
from doseledger.phantom.scanner import (
    CAMERAS,
    Camera,
    frame_reference_ms,
    header_decay_factor,
    image_ct,
    image_spect,
    stored_per_start,
)

GRID = Grid((40, 48, 48), (4.8, 4.8, 4.8), (-112.8, -112.8, -93.6))
ADMIN, START, NONE = CAMERAS
#: Counts so many that noise is far below the tolerances.
QUIET = replace(START, sensitivity_cps_per_mbq=1.0e7)


def uniform(bq_per_ml: float) -> np.ndarray:
    return np.full(GRID.shape, bq_per_ml, dtype=np.float32)


@pytest.mark.parametrize(("camera", "factor"), [(ADMIN, 1.00), (START, 1.03), (NONE, 0.97)])
def test_reading_carries_the_calibration_error_and_no_other_bias(camera: Camera, factor: float) -> None:
    # Cold enough that a clipped, symmetric noise would read ten per cent high.
    images = [image_spect(uniform(2.0e3), GRID, camera, stream(run, "bias")) for run in range(4)]
    assert float(np.mean(images, dtype=float)) == pytest.approx(2.0e3 * factor, rel=0.015)
    assert float(np.min(images)) >= 0.0
    assert abs(camera.calibration_factor - 1.0) <= camera.u_calibration_rel


def test_blur_has_the_stated_width() -> None:
    point = np.zeros(GRID.shape, dtype=np.float32)
    point[20, 24, 24] = 1.0e6
    image = image_spect(point, GRID, QUIET, stream(1, "blur")).astype(float)
    offset_mm = (np.arange(48) - 24) * 4.8
    profile = image.sum(axis=(0, 1))
    variance = float(profile @ offset_mm**2 / profile.sum())
    assert sqrt(variance) * 2.0 * sqrt(2.0 * log(2.0)) == pytest.approx(QUIET.fwhm_mm, rel=0.02)


def test_noise_follows_the_counts() -> None:
    def relative_sd(bq_per_ml: float) -> float:
        image = image_spect(uniform(bq_per_ml), GRID, START, stream(2, bq_per_ml))
        return float(image.std(dtype=float) / image.mean(dtype=float))

    assert relative_sd(4.0e5) / relative_sd(1.0e5) == pytest.approx(0.5, rel=0.05)
    # A kidney a day after treatment: 5 to 15 % per voxel for any of the cameras.
    for camera in CAMERAS:
        image = image_spect(uniform(4.0e5), GRID, camera, stream(3, camera.model))
        assert 0.04 < float(image.std() / image.mean()) < 0.15


def test_noise_is_correlated_between_neighbours_only() -> None:
    image = image_spect(uniform(1.0e5), GRID, START, stream(4, "correlation")).astype(float)
    noise = image[5:-5, 5:-5, 5:-5] - image.mean()
    variance = float((noise * noise).mean())
    assert float((noise[:, :, 1:] * noise[:, :, :-1]).mean()) / variance > 0.3
    assert abs(float((noise[:, :, 6:] * noise[:, :, :-6]).mean()) / variance) < 0.05


def test_decay_conventions() -> None:
    # 177Lu, 574 300 s: exp(ln 2 x 86 400 / 574 300) = 1.109898 a day after injection.
    assert stored_per_start(ADMIN, 24.0) == pytest.approx(exp(log(2.0) * 86400.0 / 574300.0), rel=1e-12)
    assert stored_per_start(ADMIN, 24.0) == pytest.approx(1.1099, abs=5e-5)
    assert stored_per_start(START, 24.0) == 1.0
    # Mean over 1200 s: (1 - exp(-x))/x with x = ln 2 x 1200 / 574 300.
    x = log(2.0) * 1200.0 / 574300.0
    assert stored_per_start(NONE, 24.0) == pytest.approx((1.0 - exp(-x)) / x, rel=1e-9)
    assert stored_per_start(NONE, 24.0) == pytest.approx(0.999276, abs=1e-6)


def test_header_decay_factor_is_against_the_mean_over_the_scan() -> None:
    assert header_decay_factor(NONE, 24.0) is None
    x = log(2.0) * START.duration_s / 574300.0
    assert header_decay_factor(START, 24.0) == pytest.approx(x / (1.0 - exp(-x)), rel=1e-9)
    x = log(2.0) * ADMIN.duration_s / 574300.0
    expected = exp(log(2.0) * 86400.0 / 574300.0) * x / (1.0 - exp(-x))
    assert header_decay_factor(ADMIN, 24.0) == pytest.approx(expected, rel=1e-9)


def test_frame_reference_is_just_before_the_middle_of_the_scan() -> None:
    for camera in CAMERAS:
        middle_ms = camera.duration_s * 500.0
        assert middle_ms - 200.0 < frame_reference_ms(camera) < middle_ms


def test_ct_noise_and_range() -> None:
    grid = FIELDS["micro"].ct
    soft = image_ct(np.full(grid.shape, 40.0, dtype=np.float32), stream(1, "ct"))
    assert float(soft.mean()) == pytest.approx(40.0, abs=0.2)
    assert float(soft.std()) == pytest.approx(12.0, rel=0.02)
    air = image_ct(np.full(grid.shape, -1000.0, dtype=np.float32), stream(2, "ct"))
    assert float(air.min()) == -1024.0
