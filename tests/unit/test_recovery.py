"""What a region keeps of its own activity under the blur of the camera."""

from __future__ import annotations

from math import erf, exp, pi, sqrt

import numpy as np
import pytest
from numpy.typing import NDArray

from doseledger.activity import self_recovery
from doseledger.errors import QuantityError
from doseledger.units import FWHM_PER_SD

SPACING_MM = (4.0, 4.0, 4.0)


def ellipsoid(radii_mm: tuple[float, float, float], spacing_mm: float = 4.0, split: int = 4) -> NDArray[np.float32]:
    """Shares of voxels inside an ellipsoid, by sub-samples."""
    n = [2 * int(np.ceil(r / spacing_mm)) + 3 for r in radii_mm]
    axes = [(np.arange(k * split) + 0.5) / split - k / 2 for k in n]
    z, y, x = np.meshgrid(*[a * spacing_mm for a in axes], indexing="ij")
    inside = (z / radii_mm[0]) ** 2 + (y / radii_mm[1]) ** 2 + (x / radii_mm[2]) ** 2 <= 1.0
    blocks = inside.reshape(n[0], split, n[1], split, n[2], split)
    return np.asarray(blocks.mean(axis=(1, 3, 5)), dtype=np.float32)


def test_without_blur_everything_is_kept() -> None:
    assert self_recovery(np.ones((3, 3, 3), np.float32), SPACING_MM, fwhm_mm=1e-3) == pytest.approx(1.0)


@pytest.mark.parametrize("fwhm_mm", [12.0, 20.0])
def test_a_single_voxel_keeps_the_middle_of_the_blur(fwhm_mm: float) -> None:
    image = np.zeros((5, 6, 7), np.float32)
    image[2, 3, 4] = 1.0
    sd = fwhm_mm / FWHM_PER_SD
    # The Gaussian at its middle times the voxel; sampled so finely that sum and integral agree.
    assert self_recovery(image, SPACING_MM, fwhm_mm=fwhm_mm) == pytest.approx(
        (4.0 / (sd * sqrt(2.0 * pi))) ** 3, rel=1e-3
    )


def test_voxels_that_are_not_cubes() -> None:
    image = np.ones((1, 1, 1), np.float32)
    sd = 15.0 / FWHM_PER_SD
    expected = 4.0 * 3.0 * 2.5 / (sd * sqrt(2.0 * pi)) ** 3
    assert self_recovery(image, (4.0, 3.0, 2.5), fwhm_mm=15.0) == pytest.approx(expected, rel=1e-3)


def test_a_block_keeps_what_error_functions_say() -> None:
    """For a block of edge L: RC = prod [erf(L/(s sqrt 2)) - s sqrt 2/(L sqrt pi) (1 - exp(-L^2/2s^2))]."""
    edges_mm, sd = (60.0, 80.0, 100.0), 12.0 / FWHM_PER_SD
    expected = 1.0
    for edge in edges_mm:
        x = edge / (sd * sqrt(2.0))
        expected *= erf(x) - (1.0 - exp(-(x**2))) / (x * sqrt(pi))
    image = np.ones((60, 80, 100), np.float32)
    assert self_recovery(image, (1.0, 1.0, 1.0), fwhm_mm=12.0) == pytest.approx(expected, rel=1e-3)


def test_the_wider_the_blur_the_less_is_kept() -> None:
    kidney = ellipsoid((50.0, 27.0, 25.0))
    kept = [self_recovery(kidney, SPACING_MM, fwhm_mm=fwhm) for fwhm in (4.0, 6.0, 8.0, 10.0, 12.0, 16.0, 24.0)]
    assert kept == sorted(kept, reverse=True)
    assert np.all(np.diff(kept) < -0.01)


def test_a_kidney_sized_ellipsoid_keeps_what_printed_phantoms_keep() -> None:
    """Published kidney phantoms: 76 % (parenchyma) to 85 % (ellipsoid); RC(V) of spheres says 99 %."""
    kidney = ellipsoid((52.0, 27.0, 25.0))
    volume_ml = float(kidney.sum()) * 0.064
    assert volume_ml == pytest.approx(147.0, rel=0.02)
    assert 0.70 < self_recovery(kidney, SPACING_MM, fwhm_mm=12.0) < 0.85


def test_a_sphere_of_37_mm_keeps_68_percent_at_12_mm() -> None:
    sphere = ellipsoid((18.5, 18.5, 18.5), spacing_mm=2.0)
    assert self_recovery(sphere, (2.0, 2.0, 2.0), fwhm_mm=12.0) == pytest.approx(0.68, abs=0.01)


def test_place_and_margin_in_the_image_do_not_matter() -> None:
    kidney = ellipsoid((30.0, 20.0, 20.0))
    kept = self_recovery(kidney, SPACING_MM, fwhm_mm=12.0)
    corner = np.zeros(tuple(n + 9 for n in kidney.shape), np.float32)
    corner[: kidney.shape[0], -kidney.shape[1] :, : kidney.shape[2]] = kidney
    assert self_recovery(corner, SPACING_MM, fwhm_mm=12.0) == pytest.approx(kept, rel=1e-9)
    assert self_recovery(kidney, SPACING_MM, fwhm_mm=12.0) == kept


@pytest.mark.parametrize("fwhm_mm", [0.0, -1.0, float("nan")])
def test_a_blur_that_is_not_positive_is_refused(fwhm_mm: float) -> None:
    with pytest.raises(QuantityError, match="blur"):
        self_recovery(np.ones((2, 2, 2), np.float32), SPACING_MM, fwhm_mm=fwhm_mm)


def test_an_empty_region_is_refused() -> None:
    with pytest.raises(QuantityError, match="empty"):
        self_recovery(np.zeros((2, 2, 2), np.float32), SPACING_MM, fwhm_mm=12.0)
