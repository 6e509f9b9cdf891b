"""Projector and OSEM: adjoint, counts, likelihood; what noise and edges look like, against the virtual cameras."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from math import exp, log, sqrt
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.ndimage import binary_erosion, distance_transform_edt, gaussian_filter

from doseledger.errors import GeometryError, QuantityError
from doseledger.geometry import Grid
from doseledger.phantom.osem import osem, poisson_log_likelihood
from doseledger.phantom.patients import stream
from doseledger.phantom.projection import (
    ATTENUATION_208_KEV,
    MEDIUM_ENERGY,
    Collimator,
    Orbit,
    Projector,
    contour_orbit,
)
from doseledger.phantom.scanner import CAMERAS, Camera, image_spect, transmission

FIXTURES = Path(__file__).resolve().parents[1] / "fixtures" / "osem"
PATIENTS = ("virtual", "patient15")

STEP_MM = 8.0
GRID = Grid((10, 24, 24), (STEP_MM, STEP_MM, STEP_MM), (-92.0, -92.0, -36.0))
_ROW, _COLUMN = np.meshgrid(*(np.arange(24) - 11.5,) * 2, indexing="ij")
BODY = np.broadcast_to((_COLUMN / 9.0) ** 2 + (_ROW / 6.0) ** 2 < 1.0, GRID.shape)
WATER = (BODY * ATTENUATION_208_KEV).astype(np.float32)
NOTHING = np.zeros(GRID.shape, dtype=np.float32)
#: Float32 sums over some thousand voxels.
ADJOINT_TOLERANCE = 1e-5


def orbit(views: int = 12) -> Orbit:
    return contour_orbit(BODY, GRID, views=views, clearance_mm=20.0)


def hot_spots() -> np.ndarray:
    image = BODY.astype(np.float32)
    image[3:7, 9:13, 14:18] = 10.0
    return image


@cache
def measured(patient: str) -> dict[str, Any]:
    with np.load(FIXTURES / f"{patient}.npz") as file:
        stored = {name: file[name] for name in file.files}
    return {
        name: array.astype(np.float32) if array.dtype == np.float16 else array for name, array in stored.items()
    } | json.loads(str(stored["facts"]))


# --- the projector ---------------------------------------------------------------------------------


def test_backward_is_the_adjoint_of_forward() -> None:
    projector = Projector(GRID, WATER, orbit(), MEDIUM_ENERGY)
    rng = stream(1, "adjoint")
    image = rng.random(GRID.shape, dtype=np.float32)
    views = np.array([0, 5, 7])
    projections = rng.random((3, 10, 24), dtype=np.float32)
    there = float(np.vdot(projector.forward(image, views).astype(float), projections))
    back = float(np.vdot(image.astype(float), projector.backward(projections, views)))
    assert there == pytest.approx(back, rel=ADJOINT_TOLERANCE)


def test_every_view_counts_everything_where_nothing_attenuates() -> None:
    image = hot_spots()
    # The blur carries some counts over the ends of the detector: keep away from them.
    image[:3] = image[7:] = 0.0
    sharp = Collimator(intrinsic_fwhm_mm=4.0, hole_mm=1.0, hole_length_mm=40.0)
    totals = Projector(GRID, NOTHING, orbit(), sharp).forward(image).sum(axis=(1, 2), dtype=float)
    # Turning a block of four voxels by interpolation is exact on average only.
    assert totals == pytest.approx(np.full(12, image.sum(dtype=float)), rel=5e-3)


def test_water_attenuates_exponentially() -> None:
    point = NOTHING.copy()
    point[5, 11, 11] = 1.0
    both_sides = Orbit((0.0, 180.0), (80.0, 80.0))
    through_water = Projector(GRID, WATER, both_sides, MEDIUM_ENERGY).forward(point).sum(axis=(1, 2), dtype=float)
    through_air = Projector(GRID, NOTHING, both_sides, MEDIUM_ENERGY).forward(point).sum(axis=(1, 2), dtype=float)
    # Rows 6 to 17 are body: five voxels in front of row 11, six behind, and half of its own.
    expected = [exp(-ATTENUATION_208_KEV * STEP_MM * voxels) for voxels in (5.5, 6.5)]
    assert through_water / through_air == pytest.approx(expected, rel=1e-4)


def test_angles_go_from_the_front_to_the_left() -> None:
    point = NOTHING.copy()
    # Half a body to the left (+x) and a little to the back (+y).
    point[5, 13, 17] = 1.0
    views = Projector(GRID, NOTHING, Orbit((0.0, 90.0), (100.0, 100.0)), MEDIUM_ENERGY).forward(point)
    columns = np.arange(24)
    front, left = (float(columns @ view.sum(axis=0) / view.sum()) for view in views)
    # Seen from the front, columns run to the patient's left; from the left, to the back.
    assert (front, left) == pytest.approx((17.0, 13.0), abs=0.01)


@pytest.mark.parametrize("distance_mm", [20.0, 120.0])
def test_blur_widens_with_distance(distance_mm: float) -> None:
    point = NOTHING.copy()
    point[5, 12, 12] = 1.0
    row_mm = (12 - 11.5) * STEP_MM
    projector = Projector(GRID, NOTHING, Orbit((180.0,), (distance_mm + row_mm,)), MEDIUM_ENERGY)
    profile = projector.forward(point)[0].sum(axis=0, dtype=float)
    offset_mm = (np.arange(24) - 11.0) * STEP_MM
    variance = profile @ offset_mm**2 / profile.sum() - (profile @ offset_mm / profile.sum()) ** 2
    geometric = 2.94 * (1.0 + distance_mm / 39.0)
    fwhm_mm = sqrt(3.8**2 + geometric**2)
    assert 2.0 * sqrt(2.0 * log(2.0)) * sqrt(variance) == pytest.approx(fwhm_mm, rel=0.005)


def test_the_detector_follows_the_body() -> None:
    path = orbit(4)
    # Half-axes of 6 and 9 voxels: centres of the outermost ones at 5.5 and 8.5 voxels.
    front, left, back, right = path.radii_mm
    assert (front, left) == pytest.approx((5.5 * STEP_MM + 20.0, 8.5 * STEP_MM + 20.0))
    assert (back, right) == pytest.approx((front, left))


# --- reconstruction --------------------------------------------------------------------------------


def test_likelihood_rises_with_every_iteration() -> None:
    projector = Projector(GRID, WATER, orbit(), MEDIUM_ENERGY)
    counts = stream(2, "counts").poisson(5.0 * projector.forward(hot_spots())).astype(np.float32)
    mlem = osem(projector, counts, scale=5.0, iterations=6, subsets=1)
    ordered = osem(projector, counts, scale=5.0, iterations=3, subsets=4)
    assert np.all(np.diff(mlem.log_likelihood) > 0.0)
    assert np.all(np.diff(ordered.log_likelihood) > 0.0)
    # Three times four sub-iterations come at least as far as six full ones.
    assert ordered.log_likelihood[-1] > mlem.log_likelihood[-1]
    assert ordered.log_likelihood[-1] == pytest.approx(
        poisson_log_likelihood(counts, 5.0 * projector.forward(ordered.image))
    )


def test_reconstruction_keeps_the_counts() -> None:
    projector = Projector(GRID, WATER, orbit(), MEDIUM_ENERGY)
    counts = stream(3, "counts").poisson(5.0 * projector.forward(hot_spots())).astype(np.float32)
    image = osem(projector, counts, scale=5.0, iterations=2, subsets=1).image
    # A property of every MLEM image, converged or not.
    assert 5.0 * projector.forward(image).sum(dtype=float) == pytest.approx(counts.sum(dtype=float), rel=1e-4)


@pytest.mark.parametrize("patient", PATIENTS)
def test_stored_image_explains_the_stored_counts(patient: str) -> None:
    data = measured(patient)
    grid = Grid(data["labels"].shape, tuple(data["spacing_mm"]), tuple(data["origin_mm"]))
    path = Orbit(tuple(data["angles_deg"]), tuple(data["radii_mm"]))
    density = data["density_g_per_ml"]
    projector = Projector(grid, density * np.float32(ATTENUATION_208_KEV), path, MEDIUM_ENERGY)
    # Three views: the image explains them within the noise of their counts, and a little better, being fitted to them.
    views = np.array([0, 20, 40])
    expected = data["scale"] * projector.forward(data["images"][0], views)
    counts = data["counts"][views]
    chi2 = float(((counts - expected) ** 2 / np.maximum(expected, 1.0)).sum() / (expected > 1.0).sum())
    assert 0.7 < chi2 < 1.1
    assert np.all(np.diff(data["log_likelihood"]) > 0.0)


@pytest.mark.parametrize("patient", PATIENTS)
def test_organ_activity_is_recovered(patient: str) -> None:
    data = measured(patient)
    truth, image = data["activity_kbq_per_ml"], data["images"][0]
    assert image.sum(dtype=float) == pytest.approx(truth.sum(dtype=float), rel=0.01)
    recovered = {region: recovery(data, image, region) for region in data["regions"]}
    for region, floor in {"liver": 0.93, "spleen": 0.90, "kidney_left": 0.90, "kidney_right": 0.90}.items():
        assert floor < recovered[region] < 1.0, recovered
    # A lesion of some millilitres spills out more than an organ, even with the resolution modelled.
    lesions = [value for region, value in recovered.items() if region.startswith("lesion")]
    assert all(0.6 < value < recovered["liver"] for value in lesions), recovered


@pytest.mark.parametrize("organ", ["kidney_left", "kidney_right", "spleen"])
@pytest.mark.parametrize("patient", PATIENTS)
def test_edges_overshoot(patient: str, organ: str) -> None:
    """Modelling the resolution makes rings: low at the edge, high one voxel inside."""
    data = measured(patient)
    edge, inside = (ring(data, data["image_noise_free"], (organ,), depth) for depth in (0, 1))
    assert 0.7 < edge < 0.9
    assert 1.02 < inside < 1.15


# --- against the virtual cameras -------------------------------------------------------------------

#: Whose counts the fixture has, at one bed position and without its calibration error.
CAMERA = replace(CAMERAS[0], bed_times=(1.0,), calibration_factor=1.0)
HOT = ("kidney_left", "kidney_right", "spleen")
#: Share of the photons that leave the body: a circle of water instead of a patient.
TRANSMISSION_TOLERANCE_REL = 0.15
#: Relative noise. What four images of an organ tell is good to some 5 %; the rest is the depth of the organ,
#: which the virtual camera does not know.
NOISE_TOLERANCE_REL = 0.25
#: Correlation of the noise with that one voxel of 6.8 mm on, and two.
CORRELATION_TOLERANCE = 0.15
#: Reading over truth in a layer inside of the edge.
OVERSHOOT_TOLERANCE = 0.04
#: Activity inside of the outline, of organs and of lesions of some millilitres.
RECOVERY_TOLERANCE_REL = 0.03
LESION_RECOVERY_TOLERANCE_REL = 0.06


@cache
def osem_and_camera(patient: str) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Image without noise, and images with different noise, of either; kBq/mL."""
    data = measured(patient)
    truth_bq_per_ml = data["activity_kbq_per_ml"] * np.float32(1.0e3)
    grid = Grid(data["labels"].shape, tuple(data["spacing_mm"]), tuple(data["origin_mm"]))

    def image(camera: Camera, run: int) -> np.ndarray:
        rng = stream(run, "virtual camera")
        return image_spect(truth_bq_per_ml, grid, camera, rng, radius_mm=data["radius_mm"]) / np.float32(1.0e3)

    quiet = replace(CAMERA, sensitivity_cps_per_mbq=1.0e7)
    camera = (image(quiet, 0), np.stack([image(CAMERA, run) for run in range(1, 5)]))
    # Both have the filter of the camera after the reconstruction.
    sigma = CAMERA.post_fwhm_mm / (2.0 * sqrt(2.0 * log(2.0))) / data["spacing_mm"][0]
    filtered = [gaussian_filter(one, sigma, truncate=3.0) for one in (data["image_noise_free"], *data["images"])]
    return (filtered[0], np.stack(filtered[1:])), camera


@pytest.mark.parametrize("patient", PATIENTS)
def test_virtual_camera_counts_what_the_projections_count(patient: str) -> None:
    data = measured(patient)
    voxel_ml = float(np.prod(data["spacing_mm"])) / 1.0e3
    counts_per_kbq = data["scale"] / voxel_ml * len(data["angles_deg"])
    # The fixture and the camera have the same sensitivity and time.
    assert counts_per_kbq * 1.0e3 == pytest.approx(CAMERA.sensitivity_cps_per_mbq * CAMERA.duration_s)
    emitted = counts_per_kbq * data["activity_kbq_per_ml"].sum(dtype=float) * voxel_ml
    share = data["counts"].sum(dtype=float) / emitted
    assert transmission(data["radius_mm"]) == pytest.approx(share, rel=TRANSMISSION_TOLERANCE_REL)


@pytest.mark.parametrize(("organs", "layers"), [(("liver",), 2), (HOT, 1)], ids=["liver", "hot organs"])
@pytest.mark.parametrize("patient", PATIENTS)
def test_virtual_camera_has_noise_like_osem(patient: str, organs: tuple[str, ...], layers: int) -> None:
    data = measured(patient)
    truth = data["activity_kbq_per_ml"]
    deep = np.logical_or.reduce([binary_erosion(mask_of(data, organ), iterations=layers) for organ in organs])
    (sd_osem, near_osem, far_osem), (sd_camera, near_camera, far_camera) = (
        noise_of(images / np.maximum(truth, 1.0), deep) for _, images in osem_and_camera(patient)
    )
    assert sd_camera == pytest.approx(sd_osem, rel=NOISE_TOLERANCE_REL)
    assert near_camera == pytest.approx(near_osem, abs=CORRELATION_TOLERANCE)
    assert far_camera == pytest.approx(far_osem, abs=CORRELATION_TOLERANCE)
    # Neighbours vary together, those beyond hardly.
    assert near_osem > 0.3 > 0.2 > abs(far_osem)


@pytest.mark.parametrize(("organs", "depths"), [(("liver",), (1, 2)), (HOT, (1,))], ids=["liver", "hot organs"])
@pytest.mark.parametrize("patient", PATIENTS)
def test_virtual_camera_has_edges_like_osem(patient: str, organs: tuple[str, ...], depths: tuple[int, ...]) -> None:
    data = measured(patient)
    (osem_image, _), (camera_image, _) = osem_and_camera(patient)
    for depth in depths:
        expected = ring(data, osem_image, organs, depth)
        assert ring(data, camera_image, organs, depth) == pytest.approx(expected, abs=OVERSHOOT_TOLERANCE), depth


@pytest.mark.parametrize("patient", PATIENTS)
def test_virtual_camera_recovers_like_osem(patient: str) -> None:
    data = measured(patient)
    (osem_image, _), (camera_image, _) = osem_and_camera(patient)
    for region in ("liver", *HOT):
        expected = recovery(data, osem_image, region)
        assert recovery(data, camera_image, region) == pytest.approx(expected, rel=RECOVERY_TOLERANCE_REL), region
    lesions = np.isin(data["labels"], [n for n, r in enumerate(data["regions"], start=1) if r.startswith("lesion")])
    seen_osem, seen_camera = (float(image[lesions].sum(dtype=float)) for image in (osem_image, camera_image))
    assert seen_camera == pytest.approx(seen_osem, rel=LESION_RECOVERY_TOLERANCE_REL)


def mask_of(data: dict[str, Any], region: str) -> np.ndarray:
    return np.asarray(data["labels"] == 1 + data["regions"].index(region))


def recovery(data: dict[str, Any], image: np.ndarray, region: str) -> float:
    """Image over truth in the voxels of a region."""
    mask = mask_of(data, region)
    return float(image[mask].sum(dtype=float) / data["activity_kbq_per_ml"][mask].sum(dtype=float))


def ring(data: dict[str, Any], image: np.ndarray, organs: tuple[str, ...], depth: int) -> float:
    """Image over truth in the voxels of organs that lie so many voxels below the surface."""
    below = [distance_transform_edt(mask_of(data, organ)) for organ in organs]
    layer = np.logical_or.reduce([(distance > depth) & (distance <= depth + 1) for distance in below])
    return float(image[layer].sum(dtype=float) / data["activity_kbq_per_ml"][layer].sum(dtype=float))


def noise_of(images: np.ndarray, mask: np.ndarray) -> tuple[float, float, float]:
    """Standard deviation within a mask, and correlation with the noise one and two voxels on, mean over the axes."""
    noise = images - images.mean(axis=0)
    # What the mean takes away, it takes from variance and covariance alike.
    variance = float((noise[:, mask] ** 2).mean())

    def at(lag: int, axis: int) -> float:
        n = mask.shape[axis] - lag
        (here, there), (in_here, in_there) = (
            (np.take(a, range(n), a.ndim - 3 + axis), np.take(a, range(lag, n + lag), a.ndim - 3 + axis))
            for a in (noise, mask)
        )
        return float((here * there)[:, in_here & in_there].mean()) / variance

    one, two = (float(np.mean([at(lag, axis) for axis in range(3)])) for lag in (1, 2))
    return sqrt(variance * len(images) / (len(images) - 1)), one, two


# --- bad input -------------------------------------------------------------------------------------


def test_an_orbit_needs_a_radius_for_each_view() -> None:
    with pytest.raises(GeometryError, match="2 angles and 1 radii"):
        Orbit((0.0, 90.0), (200.0,))


def test_a_body_is_needed_to_go_around() -> None:
    with pytest.raises(QuantityError, match="no body"):
        contour_orbit(np.zeros(GRID.shape, dtype=np.bool_), GRID, views=4, clearance_mm=20.0)


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        (replace(GRID, spacing_mm=(8.0, 8.0, 7.0)), "square voxels"),
        (Grid((10, 24, 20), GRID.spacing_mm, GRID.origin_mm), "as many rows as columns"),
        (Grid((9, 24, 24), GRID.spacing_mm, GRID.origin_mm), "attenuation map is not on the grid"),
        (replace(GRID, direction=((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0))), "axial"),
    ],
)
def test_grids_that_cannot_be_projected(grid: Grid, message: str) -> None:
    with pytest.raises(GeometryError, match=message):
        Projector(grid, WATER, orbit(), MEDIUM_ENERGY)


def test_counts_that_cannot_be_reconstructed() -> None:
    projector = Projector(GRID, WATER, orbit(), MEDIUM_ENERGY)
    counts = np.ones((12, 10, 24), dtype=np.float32)
    with pytest.raises(QuantityError, match="12 views and 5 subsets"):
        osem(projector, counts, scale=1.0, iterations=1, subsets=5)
    with pytest.raises(QuantityError, match="negative"):
        osem(projector, counts - 2.0, scale=1.0, iterations=1, subsets=4)
