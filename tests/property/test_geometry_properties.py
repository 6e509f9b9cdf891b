"""Properties of grids: any orientation, spacing and position goes there and back."""

from __future__ import annotations

from math import cos, sin

import nibabel as nib
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from doseledger.geometry import Direction, Grid, Vector

ANY = settings(max_examples=150, deadline=None, derandomize=True)

ANGLES = st.floats(-3.2, 3.2)
COORDINATES = st.floats(-2000.0, 2000.0)


@st.composite
def directions(draw: st.DrawFn) -> Direction:
    """Any three orthonormal axes, right-handed or not."""
    a, b, c = draw(ANGLES), draw(ANGLES), draw(ANGLES)
    turn = np.array([[cos(a), -sin(a), 0], [sin(a), cos(a), 0], [0, 0, 1]])
    turn = turn @ np.array([[1, 0, 0], [0, cos(b), -sin(b)], [0, sin(b), cos(b)]])
    turn = turn @ np.array([[cos(c), -sin(c), 0], [sin(c), cos(c), 0], [0, 0, 1]])
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    rows = [sign * turn[i] for sign, i in zip(signs, order, strict=True)]
    z, y, x = ((float(v[0]), float(v[1]), float(v[2])) for v in rows)
    return (z, y, x)


@st.composite
def grids(draw: st.DrawFn) -> Grid:
    shape = draw(st.tuples(*[st.integers(1, 40)] * 3))
    spacing: Vector = draw(st.tuples(*[st.floats(0.3, 20.0)] * 3))
    return Grid(shape, spacing, draw(st.tuples(COORDINATES, COORDINATES, COORDINATES)), draw(directions()))


@ANY
@given(grids())
def test_the_affine_goes_there_and_back(grid: Grid) -> None:
    back = Grid.from_affine(grid.affine, grid.shape)
    assert back.same_as(grid)
    assert grid.same_as(back)
    assert back.spacing_mm == pytest.approx(grid.spacing_mm, rel=1e-9)
    assert np.abs(np.asarray(back.direction) - np.asarray(grid.direction)).max() < 1e-9


@ANY
@given(grids())
def test_nibabel_agrees_on_voxels_and_orientation(grid: Grid) -> None:
    assert nib.affines.voxel_sizes(grid.affine) == pytest.approx(grid.spacing_mm[::-1], rel=1e-9)
    assert abs(np.linalg.det(grid.affine)) == pytest.approx(grid.voxel_volume_ml * 1000.0, rel=1e-9)
    image = nib.Nifti1Image(np.zeros(grid.shape[::-1], np.uint8), grid.affine)
    # The header holds single precision.
    stored = Grid.from_affine(image.affine, grid.shape)
    corner = np.asarray(grid.shape) - 1.0
    assert stored.position_mm(corner) == pytest.approx(grid.position_mm(corner), abs=1e-2)


@ANY
@given(grids(), st.lists(st.tuples(*[st.floats(-50.0, 50.0)] * 3), min_size=1, max_size=5))
def test_index_and_position_are_inverse(grid: Grid, indices: list[Vector]) -> None:
    positions = np.array([grid.position_mm(np.array(index)) for index in indices])
    assert grid.index(positions) == pytest.approx(np.array(indices), abs=1e-6)


@ANY
@given(grids(), st.integers(0, 2))
def test_turning_the_array_round_keeps_every_voxel_where_it_is(grid: Grid, axis: int) -> None:
    last = np.zeros(3)
    last[axis] = grid.shape[axis] - 1
    direction = tuple((-v[0], -v[1], -v[2]) if i == axis else v for i, v in enumerate(grid.direction))
    turned = Grid(grid.shape, grid.spacing_mm, grid.position_mm(last), direction)  # type: ignore[arg-type]
    assert turned.centre_mm == pytest.approx(grid.centre_mm, abs=1e-6)
    assert turned.position_mm(last) == pytest.approx(grid.origin_mm, abs=1e-6)
    assert turned.voxel_volume_ml == grid.voxel_volume_ml


@ANY
@given(grids(), st.tuples(*[st.floats(-1.0, 1.0)] * 3))
def test_a_shift_shows_in_the_same_grid_exactly_when_it_is_seen(grid: Grid, shift_mm: Vector) -> None:
    largest = float(np.max(np.abs(shift_mm)))
    assume(abs(largest - 0.01) > 1e-6)
    x, y, z = (o + s for o, s in zip(grid.origin_mm, shift_mm, strict=True))
    assert grid.same_as(Grid(grid.shape, grid.spacing_mm, (x, y, z), grid.direction)) == (largest < 0.01)
