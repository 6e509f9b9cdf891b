"""Rigid registration on an analytic torso with a known truth, resampling, overlap, and failures."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813 - the name its documentation uses
from numpy.typing import NDArray

from doseledger.errors import RegistrationError, UnknownNameError
from doseledger.geometry import Grid, Vector
from doseledger.registration import METRICS, REGISTRY, Transform, dice, register_rigid, resample

#: Ellipsoids in LPS mm: middle, radii, CT number, relative uptake. Painted in order.
TORSO: tuple[tuple[Vector, Vector, float, float], ...] = (
    ((0, 0, 0), (170, 110, 900), 40, 0.02),
    ((-75, 5, 110), (60, 75, 120), -820, 0.01),
    ((75, 5, 110), (60, 75, 120), -830, 0.01),
    ((15, -20, 95), (45, 50, 55), 50, 0.05),
    ((-70, -5, -5), (75, 75, 55), 110, 0.4),
    ((85, 35, -5), (32, 40, 45), 120, 0.9),
    ((-55, 50, -75), (27, 25, 50), 170, 1.0),
    ((60, 52, -65), (26, 25, 52), 175, 0.95),
    ((0, 62, 0), (20, 18, 900), 250, 0.05),
)
GRID = Grid((80, 64, 84), (5.0, 5.0, 5.0), (-207.5, -157.5, -197.5))
#: Where the registration must be right: the organs.
TARGETS_MM = np.array([ellipsoid[0] for ellipsoid in TORSO[4:8]], dtype=float)
#: Mean target registration error that is allowed, a tenth of a SPECT voxel.
LARGEST_TRE_MM = 0.5


def truth(degrees: float, shift_mm: Vector) -> NDArray[np.float64]:
    """LPS mm of the fixed image to LPS mm of the moving image: turned about z, tilted by half of it about x."""
    a, b = np.deg2rad(degrees), np.deg2rad(degrees / 2.0)
    about_z = np.array([[np.cos(a), -np.sin(a), 0], [np.sin(a), np.cos(a), 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    matrix = np.eye(4)
    matrix[:3, :3] = about_z @ about_x
    matrix[:3, 3] = shift_mm
    return matrix


def paint(grid: Grid, kind: str, moved: NDArray[np.float64] | None = None) -> NDArray[np.float32]:
    """The torso with edges of about 5 mm; with `moved`, as the moving image sees it."""
    index = np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in grid.shape], indexing="ij"), axis=-1)
    position = index.reshape(-1, 3) @ grid.index_to_lps[:3, :3].T + grid.index_to_lps[:3, 3]
    if moved is not None:
        back = np.linalg.inv(moved)
        position = position @ back[:3, :3].T + back[:3, 3]
    image = np.full(len(position), -1000.0 if kind == "ct" else 0.0)
    for middle, radii, hu, uptake in TORSO:
        distance = np.sqrt((((position - middle) / radii) ** 2).sum(axis=1)) - 1.0
        weight = 1.0 / (1.0 + np.exp(np.clip(distance * min(radii) / 2.0, -30.0, 30.0)))
        image += weight * ((hu if kind == "ct" else 1e5 * uptake) - image)
    return image.reshape(grid.shape).astype(np.float32)


def errors_mm(found: Transform, expected: NDArray[np.float64]) -> NDArray[np.float64]:
    points = np.column_stack([TARGETS_MM, np.ones(len(TARGETS_MM))])
    return np.asarray(np.linalg.norm((points @ (found.matrix - expected).T)[:, :3], axis=1))


@pytest.fixture(scope="module")
def ct() -> NDArray[np.float32]:
    return paint(GRID, "ct")


@pytest.fixture(scope="module")
def spect() -> NDArray[np.float32]:
    return paint(GRID, "spect")


# Accuracy -----------------------------------------------------------------------------------------

#: 2 degrees and 10 mm.
TRUTH = truth(2.0, (6.0, -5.0, 6.2))


@pytest.mark.parametrize(("metric", "kind"), [("mean_squares", "ct"), ("correlation", "spect"), ("mattes", "ct")])
def test_the_error_on_the_organs_is_below_half_a_millimetre(metric: Any, kind: str, ct: Any, spect: Any) -> None:
    fixed = ct if kind == "ct" else spect
    found = register_rigid(fixed, GRID, paint(GRID, kind, TRUTH), GRID, metric=metric)
    assert np.linalg.norm(TRUTH[:3, 3]) == pytest.approx(10.0, abs=0.1)
    assert errors_mm(Transform.identity(), TRUTH).mean() > 8.0
    assert errors_mm(found, TRUTH).mean() < LARGEST_TRE_MM
    rotation = found.matrix[:3, :3]
    assert rotation @ rotation.T == pytest.approx(np.eye(3), abs=1e-9)
    assert np.linalg.det(rotation) == pytest.approx(1.0)
    assert found.matrix[3].tolist() == [0.0, 0.0, 0.0, 1.0]
    assert set(METRICS) == {"mean_squares", "correlation", "mattes"}
    assert REGISTRY["rigid"] is register_rigid


def test_spect_of_another_day_has_another_scale(spect: Any) -> None:
    """Activity falls between scans, and another camera has other voxels."""
    own = Grid((66, 66, 66), (4.8, 4.8, 4.8), (-160.0, -156.0, -156.0))
    found = register_rigid(spect, GRID, 0.1 * paint(own, "spect", TRUTH), own, metric="correlation")
    assert errors_mm(found, TRUTH).mean() < LARGEST_TRE_MM


#: A coarser torso, for what does not need the accuracy.
COARSE = Grid((40, 32, 42), (10.0, 10.0, 10.0), (-205.0, -155.0, -195.0))


@pytest.mark.parametrize("metric", METRICS)
def test_the_same_images_give_the_same_bits(metric: Any) -> None:
    """Neither the clock nor threads have a part in it."""
    threads = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(4)
    try:
        fixed, moving = paint(COARSE, "ct"), paint(COARSE, "ct", TRUTH)
        first, second, third = (register_rigid(fixed, COARSE, moving, COARSE, metric=metric) for _ in range(3))
        assert np.array_equal(first.matrix, second.matrix)
        assert np.array_equal(first.matrix, third.matrix)
        assert first.metric_value == second.metric_value == third.metric_value
        # What others do with SimpleITK in this process keeps its threads.
        assert sitk.ProcessObject.GetGlobalDefaultNumberOfThreads() == 4
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(threads)


def test_a_table_that_stood_50_mm_off_is_found(ct: Any) -> None:
    far = truth(1.0, (0.0, 0.0, 50.0))
    table = Grid(GRID.shape, GRID.spacing_mm, (-207.5, -157.5, -147.5))
    found = register_rigid(ct, GRID, paint(table, "ct", far), table, metric="mean_squares")
    assert errors_mm(found, far).mean() < LARGEST_TRE_MM


def test_an_image_registers_to_itself(spect: Any) -> None:
    found = register_rigid(spect, GRID, spect, GRID, metric="correlation")
    assert errors_mm(found, np.eye(4)).max() < 0.05
    assert found.shift_at(GRID.centre_mm) < 0.05


def test_the_shift_at_a_point_is_its_displacement() -> None:
    assert Transform.identity().shift_at((10.0, 20.0, 30.0)) == 0.0
    assert Transform(truth(0.0, (3.0, 4.0, 12.0)), 0.0).shift_at((1.0, 2.0, 3.0)) == pytest.approx(13.0)
    # A turn by 90 degrees about z takes x to y.
    assert Transform(truth(90.0, (0.0, 0.0, 0.0)), 0.0).shift_at((10.0, 0.0, 0.0)) == pytest.approx(200.0**0.5)


# Failures -----------------------------------------------------------------------------------------

SMALL = Grid((12, 12, 12), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
BALL = paint(Grid(SMALL.shape, (25.0, 25.0, 25.0), (-140.0, -140.0, -140.0)), "ct")


def test_an_image_without_content_cannot_be_registered() -> None:
    with pytest.raises(RegistrationError, match="cannot be registered") as caught:
        register_rigid(BALL, SMALL, np.zeros(SMALL.shape, np.float32), SMALL, metric="mean_squares")
    assert caught.value.code == "registration_failed"
    # The message reaches the tables, which must be the same in every run: no address of an object.
    assert not re.search(r"0x[0-9a-f]+", caught.value.sentence)
    assert "Total Mass" in caught.value.sentence


def test_images_without_overlap_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Starts that centre the images always overlap; without them a far image must be refused, not met."""
    from doseledger.registration import rigid

    only_the_table = rigid._starts
    monkeypatch.setattr(rigid, "_starts", lambda fixed, moving: only_the_table(fixed, moving)[:1])
    far = Grid(SMALL.shape, SMALL.spacing_mm, (0.0, 0.0, 5000.0))
    with pytest.raises(RegistrationError, match="field of view without overlap"):
        register_rigid(BALL, SMALL, BALL, far, metric="mean_squares")


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_voxels_that_are_not_finite_are_refused_at_once(bad: float) -> None:
    damaged = BALL.copy()
    damaged[3, 4, 5] = bad
    for fixed, moving in ((damaged, BALL), (BALL, damaged)):
        with pytest.raises(RegistrationError, match="not finite"):
            register_rigid(fixed, SMALL, moving, SMALL, metric="mean_squares")


def test_an_unknown_metric_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="found 'demons'"):
        register_rigid(BALL, SMALL, BALL, SMALL, metric="demons")  # type: ignore[arg-type]


# Resampling ---------------------------------------------------------------------------------------


def test_resampling_undoes_the_motion(spect: Any) -> None:
    moving = paint(GRID, "spect", TRUTH)
    back = resample(moving, GRID, GRID, Transform(TRUTH, 0.0), outside=0.0)
    inner = (slice(10, -10),) * 3
    assert np.abs(back - spect)[inner].mean() < 0.01 * spect.max()
    assert np.abs(moving - spect)[inner].mean() > 5.0 * np.abs(back - spect)[inner].mean()


def test_resampling_keeps_the_total_of_a_concentration() -> None:
    """A rigid motion has Jacobian 1: what is inside stays, up to interpolation."""
    grid = Grid((40, 44, 48), (5.0, 5.0, 5.0), (-117.5, -107.5, -97.5))
    index = np.stack(np.meshgrid(*[np.arange(n, dtype=float) for n in grid.shape], indexing="ij"), axis=-1)
    position = index @ grid.index_to_lps[:3, :3].T + grid.index_to_lps[:3, 3]
    image = np.exp(-0.5 * (position**2).sum(axis=-1) / 20.0**2).astype(np.float32)
    fine = Grid((67, 73, 80), (3.0, 3.0, 3.0), (-118.5, -108.0, -99.0))
    for target in (grid, fine):
        moved = resample(image, grid, target, Transform(TRUTH, 0.0), outside=0.0)
        total = float(moved.sum(dtype=float)) * target.voxel_volume_ml
        assert total == pytest.approx(float(image.sum(dtype=float)) * grid.voxel_volume_ml, rel=1e-3)
        assert moved.shape == target.shape
        assert moved.dtype == np.float32


def test_the_identity_on_the_same_grid_changes_nothing(spect: Any) -> None:
    assert np.array_equal(resample(spect, GRID, GRID, Transform.identity(), outside=-1.0), spect)


def test_a_shift_by_whole_voxels_in_any_orientation() -> None:
    """A voxel at LPS p of the fixed image takes the value at p + shift of the moving one."""
    image = np.arange(5 * 6 * 8, dtype=np.float32).reshape(5, 6, 8)
    direction = ((0.0, 1.0, 0.0), (0.0, 0.0, -1.0), (1.0, 0.0, 0.0))
    grid = Grid((5, 6, 8), (4.0, 3.0, 2.0), (1.0, 2.0, 3.0), direction)
    shift = tuple(float(v) for v in 4.0 * np.array(direction[0]) + 2 * 2.0 * np.array(direction[2]))
    moved = resample(image, grid, grid, Transform(truth(0.0, shift), 0.0), outside=-5.0)  # type: ignore[arg-type]
    assert np.array_equal(moved[:-1, :, :-2], image[1:, :, 2:])
    assert np.all(moved[-1] == -5.0)
    assert np.all(moved[..., -2:] == -5.0)


def test_labels_stay_labels() -> None:
    labels = np.zeros((10, 10, 10), np.float32)
    labels[3:7, 3:7, 3:7] = 7.0
    grid = Grid(labels.shape, (5.0, 5.0, 5.0), (-22.5, -22.5, -22.5))
    moved = resample(labels, grid, grid, Transform(truth(7.0, (1.3, 0.0, 0.0)), 0.0), outside=0.0, nearest=True)
    assert set(np.unique(moved)) == {0.0, 7.0}
    smooth = resample(labels, grid, grid, Transform(truth(7.0, (1.3, 0.0, 0.0)), 0.0), outside=0.0)
    assert len(np.unique(smooth)) > 2


def test_dice() -> None:
    a = np.zeros((4, 4, 4), bool)
    b = a.copy()
    assert np.isnan(dice(a, b))
    a[:2], b[1:3] = True, True
    assert dice(a, b) == dice(b, a) == 0.5
    assert dice(a, a) == 1.0
    assert dice(a, ~a) == 0.0
