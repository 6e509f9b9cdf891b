"""Solids and surfaces: volumes against formulas, outlines, views in any orientation and pose."""

from __future__ import annotations

from math import cos, pi, radians, sin

import numpy as np
import pytest

from doseledger.geometry import Grid
from doseledger.phantom.parts import Layer, Part
from doseledger.phantom.render import painted_layers, share_inside
from doseledger.phantom.shapes import SECTION_POINTS, Cylinder, Ellipsoid, occupancy, vector
from doseledger.phantom.surfaces import Blend, Drum, HalfSpace, Offset, Oval, Tube, Uneven, Union, Within
from doseledger.phantom.tissues import MUSCLE
from doseledger.phantom.view import Box, Pose, Surface, View, voxel_mm

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
    body = Cylinder.at((3.0, -1.0, 5.0), (60.0, 40.0, np.inf), tilt_deg=(0.0, 0.0, 2.0))
    block, share = occupancy(body, GRID, 4)
    assert block[0] == slice(0, 40)
    assert np.array_equal(share[0], share[39])
    area_mm2 = float(share[0].sum(dtype=float)) * 3.0 * 2.5
    assert area_mm2 == pytest.approx(pi * 60.0 * 40.0, rel=1e-3)


def test_section_has_the_area_of_the_cut_and_lies_on_the_surface() -> None:
    points = Ellipsoid.at((5.0, -3.0, 10.0), (30.0, 20.0, 40.0)).section(30.0)
    assert points is not None
    assert points.shape == (SECTION_POINTS, 3)
    assert np.all(points[:, 2] == 30.0)
    # At half the height of the half-axis the cut has 3/4 of the greatest area.
    assert shoelace_mm2(points) == pytest.approx(0.75 * pi * 30.0 * 20.0, rel=1e-9)
    tilted = KIDNEY.section(20.0)
    assert tilted is not None
    inside = (tilted - KIDNEY.centre_mm) @ KIDNEY.axes.T / KIDNEY.half_mm
    assert np.linalg.norm(inside, axis=1) == pytest.approx(1.0, abs=2e-3)


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


# --- surfaces as distances -------------------------------------------------------------------------

FINE = Grid((90, 90, 90), (2.0, 2.0, 2.0), (-89.0, -89.0, -89.0))
BALL = Oval.at((0.0, 0.0, 0.0), (30.0, 30.0, 30.0))


def shares(surface: Surface, view: View, depth_mm: float = 0.0) -> np.ndarray:
    block = view.block(surface.box.grown(voxel_mm(view.grid)))
    image = np.zeros(view.grid.shape)
    image[block] = share_inside(surface.distance(view, block), voxel_mm(view.grid), depth_mm)
    return image


def filled_ml(surface: Surface, grid: Grid = FINE, pose: Pose | None = None, depth_mm: float = 0.0) -> float:
    return float(shares(surface, View(grid, pose or Pose()), depth_mm).sum()) * grid.voxel_volume_ml


def ball_ml(radius_mm: float) -> float:
    return 4.0 / 3.0 * pi * radius_mm**3 / 1000.0


def test_distance_to_an_ellipsoid_is_zero_on_it_and_grows_outwards() -> None:
    oval = Oval(KIDNEY)
    points = KIDNEY.section(10.0)
    assert points is not None
    for point in points[::16]:
        outwards = (point - KIDNEY.centre_mm) @ KIDNEY.axes.T / KIDNEY.half_mm**2 @ KIDNEY.axes
        outwards /= np.linalg.norm(outwards)
        for step_mm in (-1.0, 0.0, 1.0):
            x, y, z = point + step_mm * outwards
            here = View(Grid((1, 1, 1), (1.0, 1.0, 1.0), (x, y, z)))
            assert float(oval.distance(here, WHOLE)[0, 0, 0]) == pytest.approx(step_mm, abs=0.06)


WHOLE = (slice(0, 1), slice(0, 1), slice(0, 1))


def test_shares_hold_the_volume() -> None:
    assert filled_ml(Oval(KIDNEY), GRID) == pytest.approx(KIDNEY.volume_ml, rel=5e-3)
    assert filled_ml(BALL, depth_mm=6.0) == pytest.approx(ball_ml(24.0), rel=5e-3)
    # A capsule: a cylinder with two half balls.
    tube = Tube.through([(-20.0, 5.0, -10.0), (25.0, -5.0, 20.0)], 9.0)
    length_mm = float(np.linalg.norm([45.0, -10.0, 30.0]))
    assert filled_ml(tube) == pytest.approx(pi * 81.0 * length_mm / 1000.0 + ball_ml(9.0), rel=0.01)
    drum = Drum(vector(0.0, 0.0, 0.0), vector(24.0, 16.0, 14.0))
    assert filled_ml(drum) == pytest.approx(2.0 * pi * 24.0 * 16.0 * 14.0 / 1000.0, rel=0.01)


def test_a_long_line_is_followed_as_finely_as_the_voxels_can_show() -> None:
    turns = np.linspace(0.0, 6.0 * pi, 200)
    spiral = np.column_stack([50.0 * np.cos(turns), 50.0 * np.sin(turns), 8.0 * turns - 75.0])
    thin = Tube.through(spiral, 6.0)
    # Length of three turns of a helix; its ends are half balls.
    length_mm = 6.0 * pi * float(np.hypot(50.0, 8.0))
    expected_ml = pi * 36.0 * length_mm / 1000.0 + ball_ml(6.0)
    assert filled_ml(thin) == pytest.approx(expected_ml, rel=0.02)
    coarse = Grid((30, 30, 30), (6.0, 6.0, 6.0), (-87.0, -87.0, -87.0))
    # A ramp as wide as the radius makes a tube w^2 / (12 r^2) = 8 % larger.
    assert filled_ml(thin, coarse) == pytest.approx(1.083 * expected_ml, rel=0.02)


def test_a_surface_is_the_same_in_any_pose_and_orientation() -> None:
    tilted = Oval.at((10.0, -12.0, 5.0), (30.0, 18.0, 24.0), tilt_deg=(10.0, 20.0, 30.0))
    c, s = cos(radians(25.0)), sin(radians(25.0))
    oblique = Grid((60, 60, 60), (3.0, 3.0, 3.0), (-70.0, -80.0, 90.0), ((0.0, 0.0, -1.0), (-s, c, 0.0), (c, s, 0.0)))
    expected_ml = tilted.ellipsoid.volume_ml
    assert filled_ml(tilted, pose=Pose(7.0, (8.0, -6.0, 11.0))) == pytest.approx(expected_ml, rel=5e-3)
    assert filled_ml(tilted, oblique) == pytest.approx(expected_ml, rel=1e-2)


def test_a_pose_turns_from_left_to_back_and_then_shifts() -> None:
    ball = Oval.at((50.0, 0.0, 7.0), (8.0, 8.0, 8.0))
    image = shares(ball, View(FINE, Pose(90.0, (5.0, 6.0, 8.0)), lift_mm=3.0))
    z, y, x = (float((image.sum(axis=axes) @ np.arange(90)) / image.sum()) for axes in ((1, 2), (0, 2), (0, 1)))
    assert (2.0 * x - 89.0, 2.0 * y - 89.0, 2.0 * z - 89.0) == pytest.approx((5.0, 56.0, 18.0), abs=0.05)


def test_one_pose_after_another() -> None:
    both = Pose(90.0, (5.0, 0.0, 1.0)).then(Pose(-90.0, (0.0, 2.0, 3.0)))
    # The second pose turns the first one's shift along x to one along -y.
    assert both.rotation_deg == 0.0
    assert both.shift_mm == pytest.approx((0.0, -3.0, 4.0))


def test_a_block_holds_all_of_a_box_and_knows_what_is_outside() -> None:
    view = View(GRID, Pose(5.0, (3.0, 2.0, 1.0)))
    inside = shares(Oval(KIDNEY), view)
    assert view.holds(Oval(KIDNEY).box)
    assert np.array_equal(inside > 0, shares(Within(Oval(KIDNEY)), view) > 0)
    far = Box(vector(500.0, 0.0, 0.0), vector(510.0, 10.0, 10.0))
    assert [part.stop - part.start for part in view.block(far)].count(0) > 0
    assert not view.holds(far)


def test_what_breathes_less_is_lifted_less() -> None:
    view = View(GRID, lift_mm=10.0)
    assert (view.breathing(1.0).lift_mm, view.breathing(0.6).lift_mm, view.breathing(0.0).lift_mm) == (10.0, 6.0, 0.0)


def test_surfaces_can_be_joined_cut_and_grown() -> None:
    beside = Oval.at((80.0, 0.0, 0.0), (6.0, 6.0, 6.0))
    assert filled_ml(Union((BALL, beside))) == pytest.approx(ball_ml(30.0) + ball_ml(6.0), rel=0.01)
    assert filled_ml(Offset(BALL, 4.0)) == pytest.approx(ball_ml(34.0), rel=5e-3)
    half = HalfSpace.facing((0.0, 0.0, 0.0), (0.0, 0.0, 2.0))
    assert filled_ml(Within(BALL, inside=(half,))) == pytest.approx(ball_ml(30.0) / 2.0, rel=5e-3)
    hollow = Within(BALL, outside=(Oval.at((0.0, 0.0, 0.0), (17.0, 17.0, 17.0)),), gap_mm=3.0)
    assert filled_ml(hollow) == pytest.approx(ball_ml(30.0) - ball_ml(20.0), rel=5e-3)
    neighbours = Oval.at((-20.0, 0.0, 0.0), (24.0, 24.0, 24.0)), Oval.at((20.0, 0.0, 0.0), (24.0, 24.0, 24.0))
    assert filled_ml(Blend(*neighbours, 12.0)) > filled_ml(Union(neighbours)) * 1.01


def test_bumps_move_the_surface_but_hardly_the_volume() -> None:
    rng = np.random.Generator(np.random.PCG64(1))
    bumpy = Uneven.drawn(rng, BALL, 2.0, 40.0)
    block = (slice(0, 90), slice(0, 90), slice(0, 90))
    moved = bumpy.distance(View(FINE), block) - BALL.distance(View(FINE), block)
    assert 1.0 < float(np.abs(moved).max()) <= 2.0 * 3.0**0.5
    assert filled_ml(bumpy) == pytest.approx(ball_ml(30.0), rel=0.05)
    # Voxels of 20 mm cannot show bumps of 2 mm.
    coarse = View(Grid((8, 8, 8), (20.0, 20.0, 20.0), (-70.0, -70.0, -70.0)))
    eight = (slice(0, 8), slice(0, 8), slice(0, 8))
    assert np.array_equal(bumpy.distance(coarse, eight), BALL.distance(coarse, eight))


def test_what_is_much_thinner_than_a_voxel_is_not_painted() -> None:
    rib = Part(Tube.through([(-40.0, 0.0, 0.0), (40.0, 0.0, 0.0)], 4.0), (Layer(0.0, MUSCLE),))
    assert list(painted_layers(rib, View(FINE)))
    assert not list(painted_layers(rib, View(Grid((15, 15, 15), (12.0, 12.0, 12.0), (-84.0, -84.0, -84.0)))))
