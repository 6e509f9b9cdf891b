"""Which correction a region gets, and what it says of its uncertainty."""

from __future__ import annotations

from math import log

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from doseledger.activity.phantom_shapes import FilledShape
from doseledger.activity.recovery_curve import RecoveryCurve, SurfaceRecovery
from doseledger.activity.region_form import axis_ratio, surface_per_volume_per_mm
from doseledger.activity.region_recovery import CameraRecovery, RegionRecovery, recover_regions, volume_slope
from doseledger.errors import QuantityError
from doseledger.geometry import Grid
from doseledger.units import FWHM_PER_SD

GRID = Grid((34, 30, 30), (4.8, 4.8, 4.8), (0.0, 0.0, 0.0))
FWHM_MM = 11.0
SPHERES = RecoveryCurve(5.9, 0.79, ((0.09, 0.0), (0.0, 0.0025)), 0.065, (0.52, 26.6))
KIDNEYS = SurfaceRecovery(2.07, 0.10, 0.0, (0.09, 0.22))


def body(*size_mm: float, at: tuple[float, float, float] = (70.0, 70.0, 80.0)) -> NDArray[np.float32]:
    return FilledShape("ellipsoid", (size_mm[0], size_mm[1], size_mm[2])).fraction(GRID, at).astype(np.float32)


def blurred(image: NDArray[np.floating]) -> NDArray[np.float64]:
    return np.asarray(gaussian_filter(image.astype(np.float64), FWHM_MM / FWHM_PER_SD / 4.8, mode="nearest"))


def one(share: NDArray[np.float32], camera: CameraRecovery, *, rest: float = 0.0) -> RegionRecovery:
    image = blurred(rest + (1.0 - rest) * share)
    return recover_regions({"it": share}, image, GRID, camera, lesions=["it"])["it"]


@pytest.mark.parametrize(
    ("size_mm", "camera", "method"),
    [
        ((26.0, 24.0, 25.0), CameraRecovery(FWHM_MM, SPHERES, KIDNEYS), "spheres"),
        ((26.0, 24.0, 25.0), CameraRecovery(FWHM_MM), "gtm"),
        # Long, and larger than the largest sphere.
        ((18.0, 18.0, 36.0), CameraRecovery(FWHM_MM, SPHERES, KIDNEYS), "gtm"),
        ((46.0, 44.0, 45.0), CameraRecovery(FWHM_MM, SPHERES, KIDNEYS), "gtm"),
    ],
)
def test_only_lesions_like_the_phantom_have_its_recovery(
    size_mm: tuple[float, float, float], camera: CameraRecovery, method: str
) -> None:
    share = body(*size_mm)
    found = one(share, camera)
    assert found.method == method
    if method == "spheres":
        volume_ml = float(share.sum()) * GRID.voxel_volume_ml
        assert found.coefficient == pytest.approx(SPHERES.recovery(volume_ml), rel=1e-3)
    else:
        # In a cold surrounding nothing comes in: what is measured is what is kept.
        assert found.coefficient == pytest.approx(found.self_recovery, rel=1e-3)


def test_what_the_surrounding_spills_in_is_taken_off_before_the_phantoms_recovery() -> None:
    camera = CameraRecovery(FWHM_MM, SPHERES)
    cold, warm = one(body(25.0, 25.0, 25.0), camera), one(body(25.0, 25.0, 25.0), camera, rest=0.2)
    assert warm.self_recovery == cold.self_recovery
    # A fifth of the concentration fills a fifth of what was lost.
    expected = cold.coefficient + 0.2 * (1.0 - cold.coefficient)
    assert warm.coefficient == pytest.approx(expected, rel=0.02)
    assert warm.u_rel > cold.u_rel
    assert warm.noise_gain > 1.0


def test_kidneys_have_the_line_of_the_kidney_phantoms() -> None:
    share = body(54.0, 50.0, 104.0)
    camera = CameraRecovery(FWHM_MM, SPHERES, KIDNEYS)
    found = recover_regions({"kidney_left": share}, blurred(share), GRID, camera, kidneys=["kidney_left"])
    surface = surface_per_volume_per_mm(share, GRID.spacing_mm)
    assert found["kidney_left"].method == "surface"
    assert found["kidney_left"].self_recovery == pytest.approx(1.0 - 2.07 * surface)
    assert recover_regions({"liver": share}, blurred(share), GRID, camera)["liver"].method == "gtm"
    # Thinner than any kidney phantom.
    thin = body(16.0, 16.0, 60.0)
    found = recover_regions({"kidney_left": thin}, blurred(thin), GRID, camera, kidneys=["kidney_left"])
    assert found["kidney_left"].method == "gtm"


def test_a_cold_region_beside_a_hot_one_gains() -> None:
    hot, cold = body(50.0, 50.0, 50.0, at=(50.0, 70.0, 80.0)), body(40.0, 40.0, 40.0, at=(97.0, 70.0, 80.0))
    image = blurred(20.0 * hot + 0.5 * cold + 0.2 * (1.0 - hot - cold))
    found = recover_regions({"hot": hot, "cold": cold}, image, GRID, CameraRecovery(FWHM_MM))
    assert found["hot"].coefficient < 1.0 < found["cold"].coefficient
    mean = float((cold * image).sum() / cold.sum())
    assert mean / found["cold"].coefficient == pytest.approx(0.5, rel=0.01)
    assert found["cold"].u_rel > found["hot"].u_rel


def test_what_cannot_be_corrected_is_left_out() -> None:
    hot = body(50.0, 50.0, 50.0, at=(50.0, 70.0, 80.0))
    empty = body(24.0, 24.0, 24.0, at=(87.0, 70.0, 80.0))
    tiny = body(7.0, 7.0, 7.0, at=(100.0, 100.0, 40.0))
    image = blurred(20.0 * hot + 5.0 * tiny)
    found = recover_regions({"hot": hot, "empty": empty, "tiny": tiny}, image, GRID, CameraRecovery(FWHM_MM))
    assert set(found) == {"hot"}
    again = {"hot": hot / 2.0, "same": hot / 2.0}
    with pytest.raises(QuantityError, match="told apart"):
        recover_regions(again, image, GRID, CameraRecovery(FWHM_MM))


def test_air_does_not_thin_the_remainder_of_the_body() -> None:
    """A patient of 120 mm in a field half full of air: the remainder has its own concentration."""
    patient = body(120.0, 100.0, 400.0)
    organ = body(34.0, 34.0, 34.0)
    image = blurred(5.0 * organ + 1.0 * (patient - organ))
    parts, camera = {"spleen": organ}, CameraRecovery(FWHM_MM)
    mean = float((organ * image).sum() / organ.sum())
    with_body = mean / recover_regions(parts, image, GRID, camera, body=patient)["spleen"].coefficient
    without = mean / recover_regions(parts, image, GRID, camera)["spleen"].coefficient
    assert with_body == pytest.approx(5.0, rel=0.005)
    assert without > 1.02 * 5.0


def test_a_body_that_the_regions_fill_is_no_region_of_its_own() -> None:
    rest = body(120.0, 100.0, 400.0)
    found = recover_regions({"rest_of_body": rest}, blurred(rest), GRID, CameraRecovery(FWHM_MM), body=rest)
    assert found["rest_of_body"].coefficient == pytest.approx(found["rest_of_body"].self_recovery, rel=1e-3)


@pytest.mark.parametrize("size_mm", [(30.0, 30.0, 30.0), (54.0, 50.0, 104.0), (90.0, 70.0, 60.0)])
def test_the_narrow_blur_measures_the_surface(size_mm: tuple[float, float, float]) -> None:
    shape = FilledShape("ellipsoid", size_mm)
    found = surface_per_volume_per_mm(body(*size_mm), GRID.spacing_mm)
    assert found == pytest.approx(shape.surface_per_volume_per_mm, rel=0.06)


def test_axes_of_an_ellipsoid() -> None:
    assert axis_ratio(body(54.0, 50.0, 104.0), GRID.spacing_mm) == pytest.approx(50.0 / 104.0, rel=0.02)
    assert axis_ratio(body(20.0, 20.0, 20.0), GRID.spacing_mm) > 0.98


def test_the_slope_is_that_of_bodies_of_one_form() -> None:
    small, large = (one(body(s * 54.0, s * 50.0, s * 104.0), CameraRecovery(8.0)).self_recovery for s in (0.95, 1.05))
    slope = log(large / small) / (3.0 * log(1.05 / 0.95))
    assert volume_slope((small + large) / 2.0) == pytest.approx(slope, rel=0.15)
