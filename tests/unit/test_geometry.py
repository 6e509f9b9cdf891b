"""`Grid`: axis order, LPS and RAS, orientations, and what it refuses."""

from __future__ import annotations

import nibabel as nib
import numpy as np
import pytest

from doseledger.errors import GeometryError
from doseledger.geometry import SAME_GRID_TOLERANCE_MM, Direction, Grid, Vector

#: Three different spacings and sizes: no swapped axis can go unnoticed.
GRID = Grid((5, 6, 8), (4.0, 3.0, 2.5), (-12.5, 20.0, -300.0))
X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def negative(axis: Vector) -> Vector:
    return (-axis[0], -axis[1], -axis[2])


def test_the_index_counts_slice_row_column() -> None:
    assert GRID.position_mm(np.array([0, 0, 0])) == (-12.5, 20.0, -300.0)
    assert GRID.position_mm(np.array([1, 0, 0])) == (-12.5, 20.0, -296.0)  # to the head
    assert GRID.position_mm(np.array([0, 1, 0])) == (-12.5, 23.0, -300.0)  # to the back
    assert GRID.position_mm(np.array([0, 0, 1])) == (-10.0, 20.0, -300.0)  # to the patient's left
    assert GRID.voxel_volume_ml == pytest.approx(0.030)
    assert GRID.centre_mm == (-12.5 + 3.5 * 2.5, 20.0 + 2.5 * 3.0, -300.0 + 2 * 4.0)


@pytest.mark.parametrize(
    ("direction", "codes"),
    [
        # nibabel names where each NIfTI axis (x, y, z of the array reversed) points to, in RAS words.
        ((Z, Y, X), ("L", "P", "S")),
        ((negative(Z), Y, X), ("L", "P", "I")),
        ((Z, negative(Y), negative(X)), ("R", "A", "S")),
        ((Y, negative(Z), X), ("L", "I", "P")),
        ((X, negative(Z), Y), ("P", "I", "L")),
    ],
)
def test_nibabel_sees_the_same_orientation(direction: Direction, codes: tuple[str, str, str]) -> None:
    grid = Grid(GRID.shape, GRID.spacing_mm, GRID.origin_mm, direction)
    assert nib.orientations.aff2axcodes(grid.affine) == codes
    assert nib.affines.voxel_sizes(grid.affine) == pytest.approx(grid.spacing_mm[::-1])


def test_the_affine_is_ras_and_takes_x_first() -> None:
    index_xyz = np.array([7.0, 5.0, 4.0])
    ras = nib.affines.apply_affine(GRID.affine, index_xyz)
    lps = GRID.position_mm(index_xyz[::-1])
    assert ras == pytest.approx([-lps[0], -lps[1], lps[2]])


def test_same_grid_means_the_same_voxel_centres() -> None:
    shifted = Grid(GRID.shape, GRID.spacing_mm, (-12.5 + 0.9 * SAME_GRID_TOLERANCE_MM, 20.0, -300.0))
    assert GRID.same_as(shifted)
    assert not GRID.same_as(Grid(GRID.shape, GRID.spacing_mm, (-12.5 + 1.1 * SAME_GRID_TOLERANCE_MM, 20.0, -300.0)))
    assert not GRID.same_as(Grid((5, 6, 7), GRID.spacing_mm, GRID.origin_mm))
    # Too small a difference of the spacing to be seen in the first voxel adds up to the last.
    assert not GRID.same_as(Grid(GRID.shape, (4.0, 3.0, 2.502), GRID.origin_mm))


def test_a_turned_grid_with_the_same_first_voxel_is_another_grid() -> None:
    assert not GRID.same_as(Grid(GRID.shape, GRID.spacing_mm, GRID.origin_mm, (Z, negative(Y), negative(X))))


@pytest.mark.parametrize(
    "arguments",
    [
        ((0, 6, 8), GRID.spacing_mm, GRID.origin_mm),
        ((6, 8), GRID.spacing_mm, GRID.origin_mm),
        (GRID.shape, (4.0, 0.0, 2.5), GRID.origin_mm),
        (GRID.shape, (4.0, -3.0, 2.5), GRID.origin_mm),
        (GRID.shape, (4.0, float("nan"), 2.5), GRID.origin_mm),
        (GRID.shape, (4.0, float("inf"), 2.5), GRID.origin_mm),
        (GRID.shape, GRID.spacing_mm, (0.0, float("nan"), 0.0)),
        (GRID.shape, GRID.spacing_mm, GRID.origin_mm, (Z, Y, Y)),
        (GRID.shape, GRID.spacing_mm, GRID.origin_mm, (Z, Y, (0.9, 0.1, 0.0))),
        (GRID.shape, GRID.spacing_mm, GRID.origin_mm, (Z, Y, (2.0, 0.0, 0.0))),
        (GRID.shape, GRID.spacing_mm, GRID.origin_mm, (Z, Y, (float("nan"), 0.0, 0.0))),
    ],
    ids=repr,
)
def test_what_is_no_grid_is_refused(arguments: tuple[object, ...]) -> None:
    with pytest.raises(GeometryError) as caught:
        Grid(*arguments)  # type: ignore[arg-type]
    assert caught.value.code == "geometry_invalid"
    assert "found (" in caught.value.sentence


@pytest.mark.parametrize(
    ("change", "word"),
    [
        (lambda a: a * np.array([0.0, 1.0, 1.0, 1.0]), "singular"),
        (lambda a: a + np.array([[0, 0.4, 0, 0], [0] * 4, [0] * 4, [0] * 4]), "orthonormal"),
        (lambda a: a * np.nan, "singular"),
    ],
)
def test_a_singular_or_sheared_affine_is_refused(change: object, word: str) -> None:
    with pytest.raises(GeometryError, match=word):
        Grid.from_affine(change(GRID.affine), GRID.shape)  # type: ignore[operator]


def test_header_digits_are_within_the_tolerance() -> None:
    turn = np.deg2rad(20.0)
    cosine, sine = round(float(np.cos(turn)), 6), round(float(np.sin(turn)), 6)
    grid = Grid(GRID.shape, GRID.spacing_mm, GRID.origin_mm, (Z, (-sine, cosine, 0.0), (cosine, sine, 0.0)))
    assert grid.index(np.array([grid.centre_mm]))[0] == pytest.approx([2.0, 2.5, 3.5], abs=1e-5)
