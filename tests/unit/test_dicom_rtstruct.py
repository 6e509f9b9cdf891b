"""Structure sets: outlines as written, and masks by voxel centres."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from doseledger.errors import ContourError, FileUnreadableError, InputMissingError, MixedSeriesError, ModalityError
from doseledger.geometry import Grid
from doseledger.io.dicom import Structure, read_structures, structure_mask
from doseledger.io.dicom.masks import fill_even_odd

from .dicom_factory import FRAME, ORIENTATIONS, UID, grid_of, put, write_ct, write_rtstruct

Points = NDArray[np.float64]
#: 10 slices of 2 mm, 12 rows and 14 columns of 1 mm; the centre of voxel [0, 0, 0] is the origin.
GRID = Grid((10, 12, 14), (2.0, 1.0, 1.0), (0.0, 0.0, 0.0))


def box(z_mm: float, low: tuple[float, float], high: tuple[float, float]) -> Points:
    """A rectangle from (x, y) to (x, y) at a height."""
    (x0, y0), (x1, y1) = low, high
    return np.array([[x0, y0, z_mm], [x1, y0, z_mm], [x1, y1, z_mm], [x0, y1, z_mm]])


def structure(*contours: Points, unfilled: tuple[str, ...] = ()) -> Structure:
    return Structure(3, "kidney", FRAME, (), contours, unfilled)


def expected(*boxes: tuple[slice, slice, slice]) -> NDArray[np.bool_]:
    mask = np.zeros(GRID.shape, dtype=bool)
    for place in boxes:
        mask[place] = True
    return mask


# Reading ----------------------------------------------------------------------------------------


def test_structures_come_as_written(tmp_path: Path) -> None:
    outline = box(4.0, (1.25, 2.5), (5.125, 6.0))
    path = write_rtstruct(tmp_path / "rs.dcm", {"lesion 1": [outline, outline + 2], "empty": []})
    first, second = read_structures(path)
    assert (first.number, first.name, first.frame_of_reference_uid) == (1, "lesion 1", FRAME)
    assert first.referenced_series_uids == (f"{UID}.2",)
    assert np.array_equal(first.contours[0], outline)
    assert np.array_equal(first.contours[1], outline + 2)
    assert (second.number, second.name, second.contours) == (2, "empty", ())
    assert [s.name for s in read_structures(tmp_path)] == ["lesion 1", "empty"]


def test_points_are_named_but_do_not_spoil_the_other_structures(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        put(dataset.ROIContourSequence[1].ContourSequence[0], ContourGeometricType="POINT")

    outline = box(4.0, (1, 1), (5, 5))
    path = write_rtstruct(tmp_path / "rs.dcm", {"organ": [outline], "isocentre": [outline]}, edit=edit)
    organ, isocentre = read_structures(path)
    assert structure_mask(organ, GRID).any()
    assert isocentre.unfilled == ("POINT",)
    with pytest.raises(ContourError, match=r"structure 2 \(isocentre\).*POINT"):
        structure_mask(isocentre, GRID)


def _drop_contours(dataset: Dataset) -> None:
    del dataset.ROIContourSequence


def _odd_coordinates(dataset: Dataset) -> None:
    put(dataset.ROIContourSequence[0].ContourSequence[0], ContourData=[1, 2, 3, 4])


def _unknown_region(dataset: Dataset) -> None:
    dataset.ROIContourSequence[0].ReferencedROINumber = 9


def _twice(dataset: Dataset) -> None:
    dataset.ROIContourSequence[1].ReferencedROINumber = 1


@pytest.mark.parametrize(
    ("edit", "fragment"),
    [
        (_drop_contours, "ROIContourSequence (3006,0039)"),
        (_odd_coordinates, "ContourData (3006,0050)"),
        (_unknown_region, "does not name"),
        (_twice, "twice"),
    ],
)
def test_malformed_contours_are_refused(tmp_path: Path, edit: Callable[[Dataset], None], fragment: str) -> None:
    outline = box(4.0, (1, 1), (5, 5))
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [outline], "b": [outline]}, edit=edit)
    with pytest.raises(ContourError) as caught:
        read_structures(path)
    assert fragment in caught.value.sentence
    assert str(path) in caught.value.sentence


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        read_structures(tmp_path / "absent.dcm")
    with pytest.raises(ModalityError, match="expected 'RTSTRUCT'"):
        read_structures(write_ct(tmp_path / "ct")[0])
    for name in ("a.dcm", "b.dcm"):
        write_rtstruct(tmp_path / "two" / name, {"a": []})
    with pytest.raises(MixedSeriesError, match=r"a.dcm and b.dcm"):
        read_structures(tmp_path / "two")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", {"a": [box(4.0, (1, 1), (5, 5))], "b": [box(6.0, (1, 1), (5, 5))]})
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 23), len(whole) - 1]:
        path.write_bytes(whole[:length])
        # A cut between two elements leaves a readable file without contours.
        with pytest.raises((FileUnreadableError, ContourError, ModalityError)) as caught:
            read_structures(path)
        assert str(path) in caught.value.sentence


# Masks ------------------------------------------------------------------------------------------


def test_voxels_whose_centre_is_inside_belong() -> None:
    mask = structure_mask(structure(box(4.0, (2.5, 3.5), (6.5, 5.5)), box(6.0, (2.5, 3.5), (3.5, 4.5))), GRID)
    assert np.array_equal(
        mask, expected((slice(2, 3), slice(4, 6), slice(3, 7)), (slice(3, 4), slice(4, 5), slice(3, 4)))
    )


def test_a_centre_on_an_edge_belongs_to_the_lower_side_only() -> None:
    # Two regions that share an edge through voxel centres must share no voxel and leave none out.
    left = structure_mask(structure(box(4.0, (1, 1), (5, 9))), GRID)
    right = structure_mask(structure(box(4.0, (5, 1), (9, 9))), GRID)
    assert not np.any(left & right)
    assert np.array_equal(left | right, expected((slice(2, 3), slice(1, 9), slice(1, 9))))


def test_holes_and_islands_follow_the_even_odd_rule() -> None:
    outer, hole, island = (box(4.0, (a, a), (b, b)) for a, b in ((0.5, 10.5), (2.5, 8.5), (4.5, 6.5)))
    mask = structure_mask(structure(hole, outer, island), GRID)
    assert np.count_nonzero(mask) == 100 - 36 + 4
    assert mask[2, 5, 5]
    assert not mask[2, 3, 5]


def test_a_keyhole_is_a_hole() -> None:
    outer, inner = box(4.0, (0.5, 0.5), (10.5, 10.5)), box(4.0, (3.5, 3.5), (7.5, 7.5))
    # One line: around the outside, in along the channel, around the hole the other way, and back out.
    keyhole = np.vstack([outer, outer[:1], inner[:1], inner[::-1]])
    mask = structure_mask(structure(keyhole), GRID)
    assert np.array_equal(mask, structure_mask(structure(outer, inner), GRID))
    assert np.count_nonzero(mask) == 100 - 16


def test_the_area_of_a_circle_is_met() -> None:
    grid = Grid((3, 120, 120), (1.0, 0.5, 0.5), (-30.0, -30.0, 0.0))
    angle = np.linspace(0, 2 * np.pi, 360, endpoint=False)
    circle = np.column_stack([20 * np.cos(angle), 20 * np.sin(angle), np.ones(360)])
    area_mm2 = np.count_nonzero(structure_mask(structure(circle), grid)) * 0.25
    # Counting centres in a circle of 40 voxels: below half a percent.
    assert area_mm2 == pytest.approx(np.pi * 400, rel=5e-3)


@pytest.mark.parametrize("seed", range(5))
def test_filling_agrees_with_a_point_in_polygon_test(seed: int) -> None:
    random = np.random.Generator(np.random.PCG64(seed))
    polygons = [random.uniform(0, 15, size=(int(random.integers(3, 12)), 2)) for _ in range(3)]
    assert np.array_equal(
        fill_even_odd(polygons, (16, 17)),
        [[sum(_crossings(p, y, x) for p in polygons) % 2 == 1 for x in range(17)] for y in range(16)],
    )


def _crossings(polygon: Points, y: float, x: float) -> int:
    """Edges crossed on the way from (y, x) to the left."""
    count = 0
    for (y0, x0), (y1, x1) in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
        if (y0 <= y) != (y1 <= y) and x0 + (y - y0) * (x1 - x0) / (y1 - y0) < x:
            count += 1
    return count


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_any_orientation_of_the_grid(name: str) -> None:
    grid = grid_of(ORIENTATIONS[name])
    corners = [(1.5, 2.5), (4.5, 2.5), (4.5, 6.5), (1.5, 6.5)]
    outline = np.array([grid.position_mm(np.array([2.0, y, x])) for y, x in corners])
    mask = structure_mask(structure(outline), grid)
    wanted = np.zeros(grid.shape, dtype=bool)
    wanted[2, 2:5, 3:7] = True
    assert np.array_equal(mask, wanted)


def test_a_plane_belongs_to_the_nearest_slice() -> None:
    # Planes that all lie half a slice off, with the rounding of three decimals, move up together.
    heights = (4.999, 7.001, 9.0, 11.0005)
    mask = structure_mask(structure(*(box(z, (0.5, 0.5), (4.5, 4.5)) for z in heights)), GRID)
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [3, 4, 5, 6]


def test_planes_finer_than_the_grid_are_united() -> None:
    a, b = box(3.6, (0.5, 0.5), (4.5, 4.5)), box(4.4, (2.5, 2.5), (6.5, 6.5))
    mask = structure_mask(structure(a, b), GRID)
    assert np.array_equal(
        mask, expected((slice(2, 3), slice(1, 5), slice(1, 5)), (slice(2, 3), slice(3, 7), slice(3, 7)))
    )


def test_a_gap_between_two_parts_stays_empty() -> None:
    heights = (2.0, 4.0, 6.0, 12.0, 14.0)
    mask = structure_mask(structure(*(box(z, (0.5, 0.5), (4.5, 4.5)) for z in heights)), GRID)
    assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [1, 2, 3, 6, 7]


def test_contours_on_the_edge_of_the_image_are_inside() -> None:
    mask = structure_mask(
        structure(box(-1.0, (-0.5, -0.5), (13.5, 11.5)), box(19.0, (-0.5, -0.5), (13.5, 11.5))),
        Grid((10, 12, 14), (20.0, 1.0, 1.0), (0.0, 0.0, -1.0)),
    )
    assert mask[0].all()
    assert mask[1].all()


_SQUARE = box(4.0, (1, 1), (5, 5))
_TILTED = np.array([[1.0, 1.0, 4.0], [5.0, 1.0, 4.0], [5.0, 5.0, 4.6], [1.0, 5.0, 4.6]])


@pytest.mark.parametrize(
    ("contours", "fragment"),
    [
        ([], "empty"),
        ([_TILTED], "not parallel to the slices"),
        ([_SQUARE - [3, 0, 0]], "leaves the image"),
        ([_SQUARE - [0, -8, 0]], "leaves the image"),
        ([_SQUARE - [0, 0, -40]], "leaves the image"),
        ([_SQUARE - [0, 0, dz] for dz in (-9, -6, -3, 0)], "further apart"),
    ],
)
def test_contours_that_do_not_fit_the_grid_are_refused(contours: list[Any], fragment: str) -> None:
    with pytest.raises(ContourError) as caught:
        structure_mask(structure(*contours), GRID)
    assert fragment in caught.value.sentence
    assert "structure 3 (kidney)" in caught.value.sentence
