"""Shift of SPECT against its own CT: a known one is found, and what cannot be told is not told."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from doseledger.geometry import Grid
from doseledger.registration import spect_shift_mm
from doseledger.units import FWHM_PER_SD

GRID = Grid((48, 56, 64), (4.8, 4.8, 4.8), (-150.0, -130.0, -110.0))
FWHM_MM = 12.0
LIVER, KIDNEY = 1, 2
#: A quarter of a voxel, with the noise of the test.
TOLERANCE_MM = 1.2


def ball(middle: tuple[float, float, float], radius_mm: float) -> NDArray[np.float32]:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in GRID.shape], indexing="ij"), axis=-1)
    distance = np.linalg.norm((index - np.asarray(middle)) * 4.8, axis=-1)
    return np.clip((radius_mm - distance) / 4.8 + 0.5, 0.0, 1.0).astype(np.float32)


def outlines(shift_mm: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> dict[int, NDArray[np.float32]]:
    x, y, z = (s / 4.8 for s in shift_mm)
    return {LIVER: ball((28.0 + z, 26.0 + y, 24.0 + x), 55.0), KIDNEY: ball((14.0 + z, 34.0 + y, 26.0 + x), 28.0)}


def spect(shift_mm: tuple[float, float, float], *, kidney: float = 4.0, noise: float = 0.05) -> NDArray[np.float32]:
    moved = outlines(shift_mm)
    truth = 0.1 + 1.0 * moved[LIVER] + kidney * moved[KIDNEY] * (1.0 - moved[LIVER])
    rng = np.random.default_rng(3)
    return (gaussian_filter(truth, FWHM_MM / FWHM_PER_SD / 4.8) + noise * rng.standard_normal(GRID.shape)).astype(
        np.float32
    )


@pytest.mark.parametrize("shift_mm", [(0.0, 0.0, 0.0), (0.0, 0.0, -18.0), (5.0, -7.0, 12.5), (-2.0, 1.0, 3.1)])
@pytest.mark.parametrize("label", [LIVER, KIDNEY])
def test_a_known_shift_is_found(shift_mm: tuple[float, float, float], label: int) -> None:
    found = spect_shift_mm(spect(shift_mm), GRID, outlines(), label, fwhm_mm=FWHM_MM)
    assert found == pytest.approx(shift_mm, abs=TOLERANCE_MM)


def test_the_shift_is_in_lps_however_the_voxels_lie() -> None:
    turned = Grid(GRID.shape, GRID.spacing_mm, GRID.origin_mm, ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0)))
    found = spect_shift_mm(spect((5.0, -7.0, 12.5)), turned, outlines(), KIDNEY, fwhm_mm=FWHM_MM)
    # Index z is now LPS y, index y is LPS -z, index x is LPS x.
    assert found == pytest.approx((5.0, 12.5, 7.0), abs=TOLERANCE_MM)


def test_an_organ_like_its_surroundings_has_no_place_in_the_spect() -> None:
    flat = np.ones(GRID.shape, np.float32)
    assert spect_shift_mm(flat, GRID, outlines(), LIVER, fwhm_mm=FWHM_MM) is None
    assert spect_shift_mm(0.0 * flat, GRID, outlines(), LIVER, fwhm_mm=FWHM_MM) is None


def test_a_shift_beyond_reach_is_not_told() -> None:
    assert spect_shift_mm(spect((0.0, 0.0, 70.0)), GRID, outlines(), KIDNEY, fwhm_mm=FWHM_MM) is None


def test_a_region_without_outline_has_no_shift() -> None:
    empty = {LIVER: np.zeros(GRID.shape, np.float32)}
    assert spect_shift_mm(spect((0.0, 0.0, 0.0)), GRID, empty, LIVER, fwhm_mm=FWHM_MM) is None
    assert spect_shift_mm(spect((0.0, 0.0, 0.0)), GRID, {}, LIVER, fwhm_mm=FWHM_MM) is None
