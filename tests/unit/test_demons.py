"""Deformable registration on CTs of virtual patients and on a known field; activity keeps its total."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from doseledger.errors import RegistrationError
from doseledger.geometry import Grid
from doseledger.registration import (
    REGISTRY,
    Displacement,
    Transform,
    centroid_distance_mm,
    dice,
    register_demons,
    register_rigid,
    resample,
    resample_activity,
)

from .test_registration import GRID, TORSO, TRUTH, paint

#: The breath: what lies above the pelvis moves by up to this along z, as far as the diaphragm; mm.
BREATH_MM = 15.0
#: A SPECT voxel.
LARGEST_P95_MM = 4.8


def breath(position_mm: NDArray[np.float64]) -> NDArray[np.float64]:
    """Displacement of points of the fixed image, shape (n, 3)."""
    x, y, z = position_mm.T
    wave = np.exp(-0.5 * ((z - 20.0) / 70.0) ** 2) * np.exp(-0.5 * ((x / 130.0) ** 2 + ((y - 5.0) / 80.0) ** 2))
    return np.column_stack([0.2 * wave, -0.3 * wave, wave]) * BREATH_MM


def positions_mm(grid: Grid) -> NDArray[np.float64]:
    index = np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in grid.shape], indexing="ij"), axis=-1)
    return index.reshape(-1, 3) @ grid.index_to_lps[:3, :3].T + grid.index_to_lps[:3, 3]


def field() -> Displacement:
    return Displacement(breath(positions_mm(GRID)).reshape(*GRID.shape, 3).astype(np.float32), GRID)


@pytest.fixture(scope="module")
def moving() -> NDArray[np.float32]:
    return paint(GRID, "ct", TRUTH)


@pytest.fixture(scope="module")
def fixed(moving: NDArray[np.float32]) -> NDArray[np.float32]:
    """What lies at M (x + u(x)) in the moving image."""
    return resample(moving, GRID, GRID, Transform(TRUTH, 0.0, field()), outside=-1000.0)


def surface_points_mm() -> NDArray[np.float64]:
    """Points on the surfaces of the organs: where a registration of uniform organs can be held to."""
    rng = np.random.default_rng(1)
    points = []
    for middle, radii, _, _ in TORSO[4:8]:
        directions = rng.standard_normal((200, 3))
        points.append(np.asarray(middle) + directions / np.linalg.norm(directions, axis=1)[:, None] * np.asarray(radii))
    return np.concatenate(points)


def test_demons_find_the_breath(fixed: Any, moving: Any) -> None:
    points = surface_points_mm()
    expected = Transform(TRUTH, 0.0, field()).points_mm(points)
    errors = {}
    for name, register in REGISTRY.items():
        found = register(fixed, GRID, moving, GRID, metric="mean_squares")
        errors[name] = np.linalg.norm(found.points_mm(points) - expected, axis=1)
    assert np.percentile(errors["demons"], 95) < LARGEST_P95_MM
    assert errors["demons"].mean() < 0.5 * errors["rigid"].mean()


def test_the_same_images_give_the_same_bits(fixed: Any, moving: Any) -> None:
    first, second = (register_demons(fixed, GRID, moving, GRID, metric="mean_squares") for _ in range(2))
    assert first.displacement is not None
    assert second.displacement is not None
    assert np.array_equal(first.displacement.vectors_mm, second.displacement.vectors_mm)
    low, high = first.jacobian_range
    assert 0.2 < low < 1.0 < high < 3.0


def test_where_the_other_ct_does_not_reach_nothing_is_moved(fixed: Any) -> None:
    """The moving CT is cut off at both ends: the tissue beyond has no counterpart, and must not be pulled into it."""
    short = Grid(
        (40, *GRID.shape[1:]), GRID.spacing_mm, (GRID.origin_mm[0], GRID.origin_mm[1], GRID.origin_mm[2] + 100.0)
    )
    found = register_demons(fixed, GRID, fixed[20:60], short, metric="mean_squares")
    assert found.displacement is not None
    assert np.linalg.norm(found.displacement.vectors_mm, axis=-1).max() < 1.0


def test_spect_is_registered_rigidly() -> None:
    spect = paint(GRID, "spect")
    found = register_demons(spect, GRID, 0.1 * paint(GRID, "spect", TRUTH), GRID, metric="correlation")
    assert found.displacement is None
    assert np.array_equal(
        found.matrix, register_rigid(spect, GRID, 0.1 * paint(GRID, "spect", TRUTH), GRID, metric="correlation").matrix
    )
    assert found.jacobian_range == (1.0, 1.0)


def test_a_field_that_folds_is_refused(monkeypatch: pytest.MonkeyPatch, fixed: Any, moving: Any) -> None:
    monkeypatch.setattr(Displacement, "jacobian", np.array([[[1.0, -0.1]]], np.float32))
    with pytest.raises(RegistrationError, match="fold"):
        register_demons(fixed, GRID, moving, GRID, metric="mean_squares")


def test_activity_keeps_its_total() -> None:
    """A field that presses an organ together makes it denser; without the Jacobian a fifth of it would be gone."""
    grid = Grid((40, 40, 40), (5.0, 5.0, 5.0), (-97.5, -97.5, -97.5))
    position = positions_mm(grid)
    activity = np.exp(-0.5 * (position**2).sum(axis=1) / 20.0**2).reshape(grid.shape).astype(np.float32)
    pull = 0.3 * position * np.exp(-0.5 * (position**2).sum(axis=1, keepdims=True) / 35.0**2)
    transform = Transform(np.eye(4), 0.0, Displacement(pull.reshape(*grid.shape, 3).astype(np.float32), grid))
    before = float(activity.sum(dtype=float))
    assert float(resample_activity(activity, grid, grid, transform).sum(dtype=float)) == pytest.approx(before, rel=0.01)
    assert float(resample(activity, grid, grid, transform, outside=0.0).sum(dtype=float)) < 0.8 * before
    rigid = Transform(TRUTH)
    assert np.array_equal(
        resample_activity(activity, grid, grid, rigid), resample(activity, grid, grid, rigid, outside=0.0)
    )


def test_a_rigid_matrix_follows_the_displacement() -> None:
    point = np.array([[10.0, 20.0, 30.0]])
    moved = Transform(TRUTH, 0.0, field()).points_mm(point)
    at = point + breath(point)
    assert moved[0] == pytest.approx((TRUTH @ np.append(at[0], 1.0))[:3], abs=0.02)
    far = np.array([[1e4, 0.0, 0.0]])
    assert Transform(np.eye(4), 0.0, field()).points_mm(far) == pytest.approx(far)


def test_centroid_distance() -> None:
    a = np.zeros((4, 5, 6), bool)
    b = a.copy()
    grid = Grid((4, 5, 6), (3.0, 2.0, 1.0), (0.0, 0.0, 0.0))
    assert np.isnan(centroid_distance_mm(a, b, grid))
    a[1, 1, 1], b[2, 3, 1] = True, True
    assert centroid_distance_mm(a, b, grid) == pytest.approx(5.0)
    assert dice(a, b) == 0.0
