"""Virtual cameras: totals, blur, overshoot, noise, bed positions and decay conventions."""

from __future__ import annotations

from dataclasses import replace
from math import exp, log

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from scipy.optimize import brentq

from doseledger.geometry import Grid
from doseledger.phantom.design import FIELDS, LONG_FIELDS
from doseledger.phantom.patients import stream
from doseledger.phantom.scanner import (
    CAMERAS,
    MEDIUM_RADIUS_MM,
    Camera,
    frame_reference_ms,
    header_decay_factor,
    image_ct,
    image_spect,
    scan_time_s,
    stored_per_start,
    transmission,
)

GRID = Grid((40, 48, 48), (4.8, 4.8, 4.8), (-112.8, -112.8, -93.6))
ADMIN, _, NONE = CAMERAS
START = replace(CAMERAS[1], decay_correction="START")


FWHM_PER_SIGMA = 2.0 * float(np.sqrt(2.0 * log(2.0)))


def uniform(bq_per_ml: float) -> np.ndarray:
    return np.full(GRID.shape, bq_per_ml, dtype=np.float32)


def ball(radius_mm: float, bq_per_ml: float = 4.0e5, around: float = 2.0e4) -> np.ndarray:
    """A ball in a cylinder with some activity around it."""
    z, y, x = ((np.arange(n) - (n - 1) / 2.0) * 4.8 for n in GRID.shape)
    r = np.sqrt(z[:, None, None] ** 2 + y[:, None] ** 2 + x**2)
    in_ball, in_body = (
        np.clip(0.5 - (d - edge) / 4.8, 0.0, 1.0) for d, edge in ((r, radius_mm), (np.hypot(y[:, None], x), 100.0))
    )
    return np.asarray(around * in_body + (bq_per_ml - around) * in_ball, dtype=np.float32)


@pytest.mark.parametrize(("camera", "factor"), [(ADMIN, 1.00), (START, 1.03), (NONE, 0.97)])
def test_reading_carries_the_calibration_error_and_no_other_bias(camera: Camera, factor: float) -> None:
    # Cold enough that a clipped, symmetric noise would read ten per cent high.
    images = [image_spect(uniform(2.0e4), GRID, camera, stream(run, "bias")) for run in range(4)]
    assert float(np.mean(images, dtype=float)) == pytest.approx(2.0e4 * factor, rel=0.01)
    assert float(np.min(images)) >= 0.0
    assert abs(camera.calibration_factor - 1.0) <= camera.u_calibration_rel


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.model)
@pytest.mark.parametrize("radius_mm", [45.0, 25.0, 18.5])
def test_blur_recovers_like_a_gaussian_of_the_stated_width(camera: Camera, radius_mm: float) -> None:
    """The stated width is that of the Gaussian with the same activity inside the object."""
    truth = ball(radius_mm)
    quiet = replace(camera, sensitivity_cps_per_mbq=1.0e7, calibration_factor=1.0, bed_times=(1.0,))
    image = image_spect(truth, GRID, quiet, stream(1, "blur"))
    inside = truth > 2.1e5

    def too_much(fwhm_mm: float) -> float:
        blurred = gaussian_filter(truth, fwhm_mm / FWHM_PER_SIGMA / 4.8, mode="reflect")
        return float(blurred[inside].sum() - image[inside].sum())

    assert brentq(too_much, 3.0, 30.0) == pytest.approx(camera.fwhm_mm, rel=0.06)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.model)
def test_edges_of_large_objects_overshoot_by_five_to_ten_per_cent(camera: Camera) -> None:
    quiet = replace(camera, sensitivity_cps_per_mbq=1.0e7, calibration_factor=1.0, bed_times=(1.0,))
    image = image_spect(ball(50.0), GRID, quiet, stream(1, "overshoot"))
    profile = image[19:21, 23:25].mean(axis=(0, 1)) / 4.0e5
    assert 1.04 < float(profile.max()) < 1.11
    # The overshoot is a rim: highest near the edge, lower further in.
    assert float(profile.max()) > 1.015 * float(profile[19:29].min())


def test_noise_follows_the_counts_and_the_size_of_the_patient() -> None:
    def relative_sd(bq_per_ml: float, radius_mm: float = MEDIUM_RADIUS_MM) -> float:
        image = image_spect(uniform(bq_per_ml), GRID, START, stream(2, bq_per_ml, radius_mm), radius_mm=radius_mm)
        return float(image.std(dtype=float) / image.mean(dtype=float))

    assert relative_sd(4.0e5) / relative_sd(1.0e5) == pytest.approx(0.5, rel=0.07)
    expected = (transmission(MEDIUM_RADIUS_MM) / transmission(160.0)) ** 0.5
    assert relative_sd(2.0e5, 160.0) / relative_sd(2.0e5) == pytest.approx(expected, rel=0.07)
    # 208 keV in water, 0.0136 per mm, from 0.78 of the radius.
    assert transmission(100.0) == pytest.approx(0.346, abs=1e-3)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.model)
def test_noise_of_a_kidney_a_day_after_treatment(camera: Camera) -> None:
    truth = ball(30.0)
    images = np.stack([image_spect(truth, GRID, camera, stream(run, camera.model)) for run in range(5)])
    sd, mean = images.std(axis=0, ddof=1), images.mean(axis=0)
    kidney, body = truth > 3.9e5, (truth > 1.9e4) & (truth < 2.1e4)
    assert 0.04 < float(sd[kidney].mean() / mean[kidney].mean()) < 0.15
    # Variance grows with the local activity; relative noise falls.
    assert float(sd[kidney].mean()) > 2.0 * float(sd[body].mean())
    assert float(sd[body].mean() / mean[body].mean()) > 2.0 * float(sd[kidney].mean() / mean[kidney].mean())


def test_the_total_has_the_noise_of_all_counts() -> None:
    totals = [float(image_spect(ball(25.0), GRID, START, stream(run, "total")).sum(dtype=float)) for run in range(8)]
    # Some 1e5 counts: 0.3 %, where the noise of single voxels would make it 1 %.
    assert float(np.std(totals, ddof=1) / np.mean(totals)) < 0.006


def test_noise_is_correlated_between_neighbours_only() -> None:
    image = image_spect(uniform(1.0e5), GRID, START, stream(4, "correlation")).astype(float)
    noise = image[5:-5, 5:-5, 5:-5] - image.mean()
    variance = float((noise * noise).mean())
    assert float((noise[:, :, 1:] * noise[:, :, :-1]).mean()) / variance > 0.3
    assert abs(float((noise[:, :, 6:] * noise[:, :, :-6]).mean()) / variance) < 0.05


def test_bed_positions_share_the_scan_time_and_differ_in_noise() -> None:
    grid = LONG_FIELDS["demo"].spect
    times_s = scan_time_s(NONE, grid)
    # 2400 s as 0.7 : 1.0 : 0.6 from the feet.
    assert [float(times_s[i]) for i in (10, 85, 160)] == pytest.approx([730.4, 1043.5, 626.1], abs=0.1)
    assert np.all(np.abs(np.diff(times_s)) < 150.0)
    assert scan_time_s(ADMIN, GRID) == pytest.approx(np.full(40, 1440.0))
    tall = Grid((90, 32, 32), (4.8, 4.8, 4.8), (-74.4, -74.4, -213.6))
    image = image_spect(np.full(tall.shape, 2.0e5, dtype=np.float32), tall, NONE, stream(1, "beds"))
    feet, middle, head = (float(image[part].std(dtype=float)) for part in (slice(4, 26), slice(34, 56), slice(64, 86)))
    assert feet / middle == pytest.approx((1.0 / 0.7) ** 0.5, rel=0.1)
    assert head / middle == pytest.approx((1.0 / 0.6) ** 0.5, rel=0.1)


def test_decay_conventions() -> None:
    # 177Lu, 574 300 s: exp(ln 2 x 86 400 / 574 300) = 1.109898 a day after injection.
    assert stored_per_start(ADMIN, 24.0) == pytest.approx(exp(log(2.0) * 86400.0 / 574300.0), rel=1e-12)
    assert stored_per_start(ADMIN, 24.0) == pytest.approx(1.1099, abs=5e-5)
    assert stored_per_start(START, 24.0) == 1.0
    # Mean over 2400 s: (1 - exp(-x))/x with x = ln 2 x 2400 / 574 300.
    x = log(2.0) * 2400.0 / 574300.0
    assert stored_per_start(NONE, 24.0) == pytest.approx((1.0 - exp(-x)) / x, rel=1e-9)
    assert stored_per_start(NONE, 24.0) == pytest.approx(0.998553, abs=1e-6)


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
        assert middle_ms - 300.0 < frame_reference_ms(camera) < middle_ms


def test_ct_noise_and_range() -> None:
    grid = FIELDS["micro"].ct
    soft = image_ct(np.full(grid.shape, 40.0, dtype=np.float32), stream(1, "ct"))
    assert float(soft.mean()) == pytest.approx(40.0, abs=0.3)
    assert float(soft.std()) == pytest.approx(12.0, rel=0.02)
    larger = image_ct(np.full(grid.shape, 40.0, dtype=np.float32), stream(1, "ct"), radius_mm=MEDIUM_RADIUS_MM + 30.0)
    assert float(larger.std()) == pytest.approx(12.0 * exp(0.27), rel=0.02)
    # The kernel correlates within slices, not across them.
    noise = (soft - soft.mean()).astype(float)
    assert float((noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.var()) > 0.3
    assert abs(float((noise[1:] * noise[:-1]).mean() / noise.var())) < 0.03
    air = image_ct(np.full(grid.shape, -1000.0, dtype=np.float32), stream(2, "ct"))
    assert float(air.min()) == -1024.0
