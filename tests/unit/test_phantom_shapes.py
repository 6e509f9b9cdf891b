"""Analytic solids against their sampled occupancy and their outlines."""

from __future__ import annotations

from math import cos, pi, radians, sin

import numpy as np
import pytest

from doseledger.geometry import Grid
from doseledger.phantom.shapes import SECTION_POINTS, Box, Cylinder, Ellipsoid, Pose, occupancy

GRID = Grid((40, 50, 60), (4.0, 3.0, 2.5), (-75.0, -75.0, -80.0))
KIDNEY = Ellipsoid.at((12.0, -8.0, 3.0), (27.0, 25.0, 52.0), tilt_deg=(7.0, -5.0, 11.0))


def sampled_ml(solid: Ellipsoid, grid: Grid, samples: int) -> float:
    _, share = occupancy(solid, grid, samples)
    return float(share.sum(dtype=float)) * grid.voxel_volume_ml


def shoelace_mm2(points: np.ndarray) -> float:
    x, y = points[:, 0], points[:, 1]
    return 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y))


def test_volume_of_an_ellipsoid_is_four_thirds_pi_abc() -> None:
    assert KIDNEY.volume_ml == pytest.approx(4.0 / 3.0 * pi * 2.7 * 2.5 * 5.2, rel=1e-12)


def test_occupancy_holds_the_analytic_volume() -> None:
    assert sampled_ml(KIDNEY, GRID, 2) == pytest.approx(KIDNEY.volume_ml, rel=5e-3)
    assert sampled_ml(KIDNEY, GRID, 4) == pytest.approx(KIDNEY.volume_ml, rel=1e-3)


def test_occupancy_does_not_depend_on_the_orientation_of_the_grid() -> None:
    c, s = cos(radians(25.0)), sin(radians(25.0))
    oblique = Grid((60, 60, 60), (3.0, 3.0, 3.0), (-70.0, -80.0, 90.0), ((0.0, 0.0, -1.0), (-s, c, 0.0), (c, s, 0.0)))
    assert sampled_ml(KIDNEY, oblique, 4) == pytest.approx(KIDNEY.volume_ml, rel=2e-3)


def test_occupancy_is_cut_at_the_edge_of_the_grid() -> None:
    half = Grid((40, 50, 60), (4.0, 3.0, 2.5), (12.0 + 1.25, -75.0, -80.0))
    # The grid begins at the sagittal plane through the centre: half of an untilted ellipsoid is in it.
    upright = Ellipsoid.at((12.0, -8.0, 3.0), (27.0, 25.0, 52.0))
    assert sampled_ml(upright, half, 4) == pytest.approx(upright.volume_ml / 2.0, rel=2e-3)
    outside = Ellipsoid.at((500.0, 0.0, 0.0), (10.0, 10.0, 10.0))
    assert occupancy(outside, GRID, 2)[1].size == 0


def test_an_infinite_cylinder_fills_every_slice_alike() -> None:
    body = Cylinder.at((0.0, 0.0, 0.0), (60.0, 40.0, np.inf)).moved(Pose(2.0, (3.0, -1.0, 5.0)))
    block, share = occupancy(body, GRID, 4)
    assert block[0] == slice(0, 40)
    assert np.array_equal(share[0], share[39])
    area_mm2 = float(share[0].sum(dtype=float)) * 3.0 * 2.5
    assert area_mm2 == pytest.approx(pi * 60.0 * 40.0, rel=1e-3)


def test_a_box_on_voxel_edges_is_exact() -> None:
    box = Box.at((0.0, 0.0, 0.0), (25.0, 30.0, 20.0))
    grid = Grid((10, 20, 20), (8.0, 6.0, 5.0), (-47.5, -57.0, -36.0))
    _, share = occupancy(box, grid, 2)
    assert float(share.sum()) == 5 * 10 * 10


def test_section_has_the_area_of_the_cut_and_lies_on_the_surface() -> None:
    points = Ellipsoid.at((5.0, -3.0, 10.0), (30.0, 20.0, 40.0)).section(30.0)
    assert points is not None
    assert points.shape == (SECTION_POINTS, 3)
    assert np.all(points[:, 2] == 30.0)
    # At half the height of the half-axis the cut has 3/4 of the greatest area.
    assert shoelace_mm2(points) == pytest.approx(0.75 * pi * 30.0 * 20.0, rel=1e-9)
    tilted = KIDNEY.section(20.0)
    assert tilted is not None
    assert np.linalg.norm(KIDNEY.normalised(tilted), axis=1) == pytest.approx(1.0, abs=2e-3)


def test_sections_add_up_to_the_volume() -> None:
    step_mm = 1.0
    sections = [KIDNEY.section(z) for z in np.arange(-60.0, 70.0, step_mm)]
    volume_ml = sum(shoelace_mm2(points) for points in sections if points is not None) * step_mm / 1000.0
    assert volume_ml == pytest.approx(KIDNEY.volume_ml, rel=1e-3)


def test_there_is_no_section_outside_nor_at_the_pole() -> None:
    ball = Ellipsoid.at((0.0, 0.0, 0.0), (20.0, 20.0, 20.0))
    assert ball.section(20.5) is None
    assert ball.section(19.99) is None
    assert ball.section(19.0) is not None


def test_a_pose_turns_from_left_to_back_and_then_shifts() -> None:
    moved = Ellipsoid.at((100.0, 0.0, 7.0), (1.0, 2.0, 3.0)).moved(Pose(90.0, (5.0, 6.0, 8.0)))
    assert moved.centre_mm == pytest.approx([5.0, 106.0, 15.0])
    # What was the half-axis along x now lies along y.
    assert np.abs(moved.axes[0]) == pytest.approx([0.0, 1.0, 0.0], abs=1e-12)


def test_a_pose_can_be_shifted_along_z() -> None:
    assert Pose(1.0, (1.0, 2.0, 3.0)).shifted(-4.0) == Pose(1.0, (1.0, 2.0, -1.0))
