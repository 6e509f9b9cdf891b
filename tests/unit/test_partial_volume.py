"""The geometric transfer matrix: exact where its model holds, refused where it says nothing."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from doseledger.activity import self_recovery
from doseledger.activity.partial_volume import (
    LARGEST_CONDITION,
    REST,
    correct_means,
    measured_means,
    transfer_matrix,
)
from doseledger.activity.phantom_shapes import FilledShape
from doseledger.errors import QuantityError
from doseledger.geometry import Grid, Vector
from doseledger.units import FWHM_PER_SD

GRID = Grid((36, 40, 48), (4.8, 4.8, 4.8), (0.0, 0.0, 0.0))
FWHM_MM = 11.0
#: The blur is cut off at four standard deviations.
TRUNCATION = 2e-4


def organs(grid: Grid = GRID) -> dict[str, NDArray[np.float32]]:
    """Two kidneys, a liver with a lesion in it."""
    liver = FilledShape("ellipsoid", (70.0, 66.0, 60.0)).fraction(grid, (55.0, 90.0, 110.0))
    lesion = FilledShape("sphere", (22.0,) * 3).fraction(grid, (50.0, 88.0, 112.0))
    return {
        "kidney_left": FilledShape("ellipsoid", (40.0, 38.0, 70.0)).fraction(grid, (165.0, 110.0, 75.0)).astype("f4"),
        "kidney_right": FilledShape("ellipsoid", (40.0, 38.0, 66.0)).fraction(grid, (75.0, 130.0, 60.0)).astype("f4"),
        "liver": (np.clip(liver - lesion, 0.0, 1.0)).astype("f4"),
        "lesion_1": lesion.astype("f4"),
    }


def blurred(parts: dict[str, NDArray[np.float32]], truth: dict[str, float], blur: Vector) -> NDArray[np.float64]:
    total = sum(parts.values(), start=np.zeros(GRID.shape))
    image = truth[REST] * (1.0 - total)
    for region, share in parts.items():
        image = image + truth[region] * share
    sigma = [b / FWHM_PER_SD / s for b, s in zip(blur, GRID.spacing_mm, strict=True)]
    return np.asarray(gaussian_filter(image, sigma, mode="nearest"))


TRUTH = {"kidney_left": 10.0, "kidney_right": 9.0, "liver": 3.0, "lesion_1": 25.0, REST: 0.4}


def non_overlapping() -> dict[str, NDArray[np.float32]]:
    parts = organs()
    # Organs that touch share out a voxel between them.
    total = sum(parts.values(), start=np.zeros(GRID.shape))
    return {region: (share / np.maximum(total, 1.0)).astype("f4") for region, share in parts.items()}


@pytest.mark.parametrize("blur", [(11.0, 11.0, 11.0), (9.0, 12.0, 12.0)])
def test_even_organs_without_noise_get_their_concentrations_back(blur: Vector) -> None:
    parts = non_overlapping()
    image = blurred(parts, TRUTH, blur)
    matrix = transfer_matrix(parts, GRID.spacing_mm, fwhm_mm=blur)
    means = measured_means(matrix, parts, image)
    found = correct_means(matrix, means, 0.05 * means)
    for region, mean, seen in zip(found.regions, found.mean, means, strict=True):
        assert mean == pytest.approx(TRUTH[region], rel=1e-3), region
        if region not in (REST, "liver"):
            # The correction had something to do.
            assert abs(seen / TRUTH[region] - 1.0) > 0.15


def test_spilled_activity_is_neither_made_nor_lost() -> None:
    parts = non_overlapping()
    matrix = transfer_matrix(parts, GRID.spacing_mm, fwhm_mm=FWHM_MM)
    assert matrix.weights.sum(axis=1) == pytest.approx(1.0, abs=1e-12)
    overlap = matrix.weights * matrix.voxels[:, None]
    # What organ j puts into outline i, organ i puts into outline j.
    assert overlap[:4, :4] == pytest.approx(overlap[:4, :4].T, rel=1e-6, abs=1e-6)
    # All that the organs hold lies in some outline.
    assert overlap[:, :4].sum(axis=0) == pytest.approx(matrix.voxels[:4], rel=TRUNCATION)


def test_the_diagonal_is_the_self_recovery() -> None:
    parts = non_overlapping()
    matrix = transfer_matrix(parts, GRID.spacing_mm, fwhm_mm=FWHM_MM)
    for region, share in parts.items():
        kept = self_recovery(share, GRID.spacing_mm, fwhm_mm=FWHM_MM)
        assert matrix.self_recovery(region) == pytest.approx(kept, rel=1e-6)


def test_an_even_image_stays_even_up_to_the_edge_of_the_field() -> None:
    corner = np.zeros(GRID.shape, np.float32)
    corner[:8, :10, -9:] = 1.0
    parts = {"liver": corner}
    matrix = transfer_matrix(parts, GRID.spacing_mm, fwhm_mm=FWHM_MM)
    means = measured_means(matrix, parts, np.full(GRID.shape, 7.0))
    assert correct_means(matrix, means, means).mean == pytest.approx([7.0, 7.0])


def test_shares_of_voxels_keep_what_a_finer_truth_has() -> None:
    """The truth on voxels of 1.6 mm, blurred there, seen on voxels of 4.8 mm with shares averaged from 1.6 mm."""
    fine = Grid((60, 60, 60), (1.6, 1.6, 1.6), (-1.6, -1.6, -1.6))
    kidney = FilledShape("ellipsoid", (36.0, 32.0, 58.0)).fraction(fine, (45.0, 46.0, 47.0))
    image = gaussian_filter(1.0 + 19.0 * kidney, FWHM_MM / FWHM_PER_SD / 1.6, mode="nearest")

    def coarse(array: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.asarray(array.reshape(20, 3, 20, 3, 20, 3).mean(axis=(1, 3, 5)))

    parts = {"kidney": coarse(kidney).astype(np.float32)}
    matrix = transfer_matrix(parts, (4.8,) * 3, fwhm_mm=FWHM_MM)
    means = measured_means(matrix, parts, coarse(image))
    found = correct_means(matrix, means, means)
    assert means[0] / 20.0 < 0.75
    assert found.mean[0] == pytest.approx(20.0, rel=0.02)


def test_noise_goes_through_as_stated() -> None:
    parts = non_overlapping()
    matrix = transfer_matrix(parts, GRID.spacing_mm, fwhm_mm=FWHM_MM)
    true = np.array([TRUTH[region] for region in matrix.regions])
    means = matrix.weights @ true
    u = 0.05 * means
    rng = np.random.Generator(np.random.PCG64(4))
    drawn = np.array([correct_means(matrix, means + u * rng.standard_normal(5), u).mean for _ in range(4000)])
    assert drawn.std(axis=0) == pytest.approx(correct_means(matrix, means, u).u_mean, rel=0.05)
    # Without constraint there is no bias, not even where next to nothing is.
    assert drawn.mean(axis=0) == pytest.approx(true, abs=4.0 * (drawn.std(axis=0) / np.sqrt(4000)).max())


def test_a_measured_recovery_takes_the_place_of_the_modelled_one() -> None:
    parts = non_overlapping()
    matrix = transfer_matrix(parts, GRID.spacing_mm, fwhm_mm=FWHM_MM)
    own = matrix.self_recovery("lesion_1")
    lower = matrix.with_recovery({"lesion_1": 0.9 * own})
    assert lower.self_recovery("lesion_1") == 0.9 * own
    assert lower.weights.sum(axis=1) == pytest.approx(1.0, abs=1e-12)
    assert np.array_equal(lower.weights[0], matrix.weights[0])
    assert matrix.self_recovery("lesion_1") == own
    with pytest.raises(QuantityError, match="between 0 and 1"):
        matrix.with_recovery({"lesion_1": 1.2})


def test_two_outlines_of_one_thing_are_refused() -> None:
    half = (non_overlapping()["liver"] / 2.0).astype(np.float32)
    matrix = transfer_matrix({"liver": half, "liver_again": half}, GRID.spacing_mm, fwhm_mm=FWHM_MM)
    assert matrix.condition > LARGEST_CONDITION
    with pytest.raises(QuantityError, match="told apart"):
        correct_means(matrix, np.ones(3), np.ones(3))


def test_separate_organs_are_far_from_being_refused() -> None:
    assert transfer_matrix(non_overlapping(), GRID.spacing_mm, fwhm_mm=FWHM_MM).condition < 0.1 * LARGEST_CONDITION


@pytest.mark.parametrize("fwhm_mm", [0.0, -1.0, (11.0, 0.0, 11.0), float("nan")])
def test_a_blur_that_is_not_positive_is_refused(fwhm_mm: float | Vector) -> None:
    with pytest.raises(QuantityError, match="blur"):
        transfer_matrix(organs(), GRID.spacing_mm, fwhm_mm=fwhm_mm)


def test_an_empty_region_and_a_field_without_rest_are_refused() -> None:
    with pytest.raises(QuantityError, match="empty"):
        transfer_matrix({"liver": np.zeros((4, 4, 4), np.float32)}, GRID.spacing_mm, fwhm_mm=FWHM_MM)
    with pytest.raises(QuantityError, match="nothing of the field"):
        transfer_matrix({"liver": np.ones((4, 4, 4), np.float32)}, GRID.spacing_mm, fwhm_mm=FWHM_MM)
