"""Label maps on other grids: volume and mass are kept in any orientation; names; the quality gate."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from numpy.typing import NDArray

from doseledger.geometry import Direction, Grid, Vector
from doseledger.regions import (
    RegionSpec,
    algebra,
    dose_flags,
    hard_labels,
    mask_flags,
    pair_flags,
    region_fractions,
    sums_of,
    volume_average,
)
from doseledger.regions.gate import PUBLISHED_GY_PER_GBQ, UNIT_SLIP_FACTOR

X, Y, Z = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)
AXES: Direction = (Z, Y, X)
#: The fine grid of a CT inside the coarse one of a SPECT; middles at the same place.
CT_SPACING_MM = (3.0, 1.5, 2.0)


def centred(shape: tuple[int, int, int], spacing_mm: Vector, direction: Direction = AXES) -> Grid:
    """A grid of any orientation whose middle is the origin, off by a third of a millimetre."""
    matrix = np.asarray(direction).T * np.asarray(spacing_mm)
    origin = -matrix @ ((np.asarray(shape) - 1) / 2) + 1.0 / 3.0
    return Grid(shape, spacing_mm, (float(origin[0]), float(origin[1]), float(origin[2])), direction)


def turned(degrees: float) -> Direction:
    angle = np.deg2rad(degrees)
    c, s = float(np.cos(angle)), float(np.sin(angle))
    tilt = np.deg2rad(degrees / 2.0)
    ct, st = float(np.cos(tilt)), float(np.sin(tilt))
    rotation = np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ np.array([[1, 0, 0], [0, ct, -st], [0, st, ct]])
    axes = (rotation @ np.asarray(AXES).T).T
    z, y, x = ((float(v[0]), float(v[1]), float(v[2])) for v in axes)
    return (z, y, x)


def signed(axes: tuple[Vector, ...], signs: tuple[int, int, int]) -> Direction:
    z, y, x = (tuple(float(sign * v) for v in axis) for sign, axis in zip(signs, axes, strict=True))
    return (z, y, x)  # type: ignore[return-value]


ORIENTATIONS = {
    "same": AXES,
    "flipped z": signed(AXES, (-1, 1, 1)),
    "flipped y and x": signed(AXES, (1, -1, -1)),
    **{f"permuted {i}": signed(axes, (1, 1, 1)) for i, axes in enumerate(permutations(AXES)) if axes != AXES},
    "permuted and flipped": signed((X, Z, Y), (-1, 1, -1)),
    "turned": turned(12.0),
}


def ellipsoid(grid: Grid, radii_mm: Vector, centre_mm: Vector = (0.0, 0.0, 0.0)) -> NDArray[np.bool_]:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in grid.shape], indexing="ij"), axis=-1)
    position = index @ grid.index_to_lps[:3, :3].T + grid.index_to_lps[:3, 3]
    return np.asarray((((position - np.asarray(centre_mm)) / np.asarray(radii_mm)) ** 2).sum(axis=-1) <= 1.0)


TARGET = centred((20, 22, 24), (4.8, 4.8, 4.8))


def organs(direction: Direction) -> tuple[Grid, NDArray[np.uint8]]:
    extent = np.abs(np.asarray(direction) @ np.array([80.0, 70.0, 60.0]))
    shape = tuple(int(np.ceil(e / s)) + 1 for e, s in zip(extent, CT_SPACING_MM, strict=True))
    grid = centred(shape, CT_SPACING_MM, direction)  # type: ignore[arg-type]
    labels = np.zeros(grid.shape, np.uint8)
    labels[ellipsoid(grid, (25.0, 15.0, 20.0), (-5.0, 2.0, 1.0))] = 3
    labels[ellipsoid(grid, (9.0, 6.0, 7.0), (20.0, 5.0, -3.0))] = 1
    return grid, labels


# Volume -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_fractions_keep_the_volume_in_any_orientation(name: str) -> None:
    grid, labels = organs(ORIENTATIONS[name])
    fractions = region_fractions(labels, grid, TARGET)
    assert sorted(fractions) == [1, 3]
    for label, fraction in fractions.items():
        assert fraction.shape == TARGET.shape
        assert fraction.dtype == np.float32
        assert fraction.min() >= 0.0
        assert fraction.max() <= 1.0
        own_ml = float((labels == label).sum()) * grid.voxel_volume_ml
        # Parts of a turned grid overlap a little as boxes: a few per mille are cut off at full voxels.
        tolerance = 1e-5 if "turned" not in name else 5e-3
        assert float(fraction.sum(dtype=float)) * TARGET.voxel_volume_ml == pytest.approx(own_ml, rel=tolerance)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_fractions_put_the_region_where_it_is(name: str) -> None:
    grid, labels = organs(ORIENTATIONS[name])
    for label, fraction in region_fractions(labels, grid, TARGET).items():
        index = np.argwhere(fraction > 0)
        found = TARGET.position_mm(np.average(index, axis=0, weights=fraction[tuple(index.T)]))
        assert found == pytest.approx(grid.position_mm(np.argwhere(labels == label).mean(axis=0)), abs=0.1)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
def test_the_same_image_with_its_axes_in_another_order(order: tuple[int, int, int]) -> None:
    """The fast path for parallel axes and the general path say the same."""
    grid, labels = organs(ORIENTATIONS["flipped y and x"])
    turned_grid = Grid(
        shape=tuple(grid.shape[i] for i in order),  # type: ignore[arg-type]
        spacing_mm=tuple(grid.spacing_mm[i] for i in order),  # type: ignore[arg-type]
        origin_mm=grid.origin_mm,
        direction=tuple(grid.direction[i] for i in order),  # type: ignore[arg-type]
    )
    expected = region_fractions(labels, grid, TARGET)
    found = region_fractions(labels.transpose(order), turned_grid, TARGET)
    for label in expected:
        assert found[label] == pytest.approx(expected[label], abs=1e-6)
    density = np.where(labels == 3, 1.8, 1.0).astype(np.float32)
    averaged = volume_average(density.transpose(order), turned_grid, TARGET, outside=0.0)
    assert averaged == pytest.approx(volume_average(density, grid, TARGET, outside=0.0), abs=1e-5)


@pytest.mark.parametrize("degrees", [0.01, 0.5, 3.0])
def test_a_slightly_turned_grid_gives_nearly_the_same(degrees: float) -> None:
    grid, labels = organs(AXES)
    tilted = Grid(grid.shape, grid.spacing_mm, grid.origin_mm, turned(degrees))
    straight = region_fractions(labels, grid, TARGET)[3]
    turned_fraction = region_fractions(labels, tilted, TARGET)[3]
    # The farthest voxel of the organ, 70 mm from the corner of the grid, moves by this many voxels.
    moved = 70.0 * np.deg2rad(degrees) / 4.8
    assert np.abs(turned_fraction - straight).max() < 0.02 + 2.0 * moved


def test_blocks_do_not_change_the_sum(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, labels = organs(turned(12.0))
    whole = region_fractions(labels, grid, TARGET)[3]
    monkeypatch.setattr(algebra, "BLOCK", 100)
    assert region_fractions(labels, grid, TARGET)[3] == pytest.approx(whole, abs=1e-6)


def test_a_single_voxel_is_shared_out_exactly() -> None:
    """A voxel of 2 mm whose middle lies on the corner of eight voxels of 4 mm: an eighth of it each."""
    target = Grid((2, 2, 2), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    grid = Grid((1, 1, 1), (2.0, 2.0, 2.0), (2.0, 2.0, 2.0))
    fraction = region_fractions(np.ones((1, 1, 1), np.uint8), grid, target)[1]
    assert fraction == pytest.approx(np.full((2, 2, 2), 1.0 / 64.0))


def test_on_the_same_grid_fractions_are_the_labels() -> None:
    grid, labels = organs(AXES)
    fractions = region_fractions(labels, grid, grid)
    for label, fraction in fractions.items():
        assert np.array_equal(fraction, (labels == label).astype(np.float32))


def test_what_leaves_the_target_is_lost_and_nothing_else() -> None:
    grid = Grid((4, 1, 1), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    half = Grid((2, 1, 1), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    fraction = region_fractions(np.ones((4, 1, 1), np.uint8), grid, half)[1]
    assert fraction.ravel().tolist() == [1.0, 1.0]
    far = Grid((2, 1, 1), (5.0, 5.0, 5.0), (0.0, 0.0, 900.0))
    assert not region_fractions(np.ones((4, 1, 1), np.uint8), grid, far)[1].any()


def test_no_label_gives_no_fraction() -> None:
    grid, labels = organs(AXES)
    assert region_fractions(np.zeros_like(labels), grid, TARGET) == {}


# Mass ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["same", "flipped z", "permuted and flipped"])
def test_the_average_of_a_density_keeps_the_mass(name: str) -> None:
    direction = ORIENTATIONS[name]
    extent = np.abs(np.asarray(direction) @ np.array([130.0, 120.0, 110.0]))
    shape = tuple(int(np.ceil(e / s)) + 1 for e, s in zip(extent, CT_SPACING_MM, strict=True))
    grid = centred(shape, CT_SPACING_MM, direction)  # type: ignore[arg-type]
    density = np.full(grid.shape, 1.0, np.float32)
    density[ellipsoid(grid, (25.0, 15.0, 20.0))] = 1.8
    averaged = volume_average(density, grid, TARGET, outside=-1.0)
    inside = float((density.astype(float) - 1.0).sum()) * grid.voxel_volume_ml
    assert float((averaged.astype(float) - 1.0).sum()) * TARGET.voxel_volume_ml == pytest.approx(inside, rel=1e-3)
    assert averaged.dtype == np.float32
    assert 1.0 <= averaged.min() <= averaged.max() <= np.float32(1.8)


def test_outside_the_image_the_given_value_stands() -> None:
    grid = Grid((2, 2, 2), (5.0, 5.0, 5.0), (0.0, 0.0, 0.0))
    target = Grid((4, 2, 2), (5.0, 5.0, 5.0), (0.0, 0.0, -10.0))
    averaged = volume_average(np.full((2, 2, 2), 0.3, np.float32), grid, target, outside=1.04)
    assert averaged[:2] == pytest.approx(1.04)
    assert averaged[2:] == pytest.approx(0.3)
    # A voxel that the image covers by half has the mean of the half that is known.
    shifted = Grid((2, 2, 2), (5.0, 5.0, 5.0), (0.0, 0.0, -2.5))
    covered = volume_average(np.full((2, 2, 2), 0.3, np.float32), grid, shifted, outside=1.04)
    assert covered == pytest.approx(0.3)


# One label per voxel ------------------------------------------------------------------------------


def test_the_largest_share_wins_where_regions_fill_half_a_voxel() -> None:
    shape = (1, 1, 6)
    first = np.array([[[0.6, 0.3, 0.2, 0.49, 0.5, 0.5]]], np.float32)
    second = np.array([[[0.4, 0.5, 0.2, 0.0, 0.5, 0.0]]], np.float32)
    assert hard_labels({2: first, 7: second}, shape).tolist() == [[[2, 7, 0, 0, 2, 2]]]
    assert hard_labels({7: second, 2: first}, shape).tolist() == [[[2, 7, 0, 0, 2, 2]]]


def test_a_region_too_small_to_win_anywhere_keeps_its_best_voxel() -> None:
    shape = (1, 1, 4)
    liver = np.array([[[1.0, 0.8, 0.7, 1.0]]], np.float32)
    lesion = np.array([[[0.0, 0.2, 0.3, 0.0]]], np.float32)
    absent = np.zeros(shape, np.float32)
    assert hard_labels({1: liver, 2: lesion, 3: absent}, shape).tolist() == [[[1, 1, 2, 1]]]
    alone = hard_labels({2: lesion}, shape)
    assert alone.tolist() == [[[0, 0, 2, 0]]]
    assert alone.dtype == np.uint8


def test_without_regions_all_is_background() -> None:
    assert not hard_labels({}, (2, 2, 2)).any()


# Names --------------------------------------------------------------------------------------------


def test_a_spec_is_a_row_of_the_region_sheet_with_a_label() -> None:
    row = {"source_name": "Kidney L", "region": "kidney_left", "kind": "organ", "laterality": "left", "sct_code": "1"}
    spec = RegionSpec.from_row(4, row)
    assert (spec.label, spec.region, spec.laterality, spec.alpha_beta_gy) == (4, "kidney_left", "left", None)


def test_sums_list_their_parts_in_order() -> None:
    def spec(label: int, region: str, part_of: str | None) -> RegionSpec:
        return RegionSpec(label, region, "organ", part_of=part_of)

    specs = [spec(1, "kidney_right", "kidneys"), spec(2, "liver", None), spec(3, "kidney_left", "kidneys")]
    assert {name: [s.region for s in parts] for name, parts in sums_of(specs).items()} == {
        "kidneys": ["kidney_right", "kidney_left"]
    }


# The gate -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", [AXES, ORIENTATIONS["flipped y and x"], ORIENTATIONS["permuted and flipped"]])
def test_a_swap_of_left_and_right_is_seen_in_any_orientation(direction: Direction) -> None:
    grid = centred((24, 24, 24), (7.0, 7.0, 7.0), direction)
    left = ellipsoid(grid, (30.0, 30.0, 30.0), (40.0, 0.0, 0.0))
    assert mask_flags("kidney_left", left, grid, laterality="left", midline_mm=0.0) == []
    assert mask_flags("kidney_right", left, grid, laterality="right", midline_mm=0.0) == ["wrong_side"]
    assert mask_flags("kidney_left", left, grid, laterality="left", midline_mm=45.0) == ["wrong_side"]


@pytest.mark.parametrize(
    ("left", "right", "flagged"),
    [(1.0, 1.0, False), (1.0, 2.0, False), (2.0, 1.0, False), (1.0, 2.01, True), (2.01, 1.0, True), (1.0, 0.0, True)],
)
def test_kidneys_differ_by_at_most_a_factor_of_two(left: float, right: float, flagged: bool) -> None:
    assert pair_flags(left, right, "kidney_doses_differ") == (["kidney_doses_differ"] if flagged else [])


@pytest.mark.parametrize(("drug", "region"), PUBLISHED_GY_PER_GBQ)
def test_a_dose_five_times_out_of_range_is_a_matter_of_units(drug: str, region: str) -> None:
    low, high = PUBLISHED_GY_PER_GBQ[drug, region]
    assert dose_flags(drug, region, low / 4.9) == dose_flags(drug, region, high * 4.9) == []
    assert dose_flags(drug, region, low / 5.1) == dose_flags(drug, region, high * 5.1) == ["dose_implausible"]


def test_dose_per_cycle_for_dose_per_gbq_is_caught() -> None:
    """7.4 GBq per cycle: the slip is a factor of 7.4, more than the gate's 5."""
    assert UNIT_SLIP_FACTOR < 7.4
    for dose_per_gbq in (0.43, 0.46, 0.57):
        assert dose_flags("Lu177-DOTATATE", "kidneys", 7.4 * dose_per_gbq) == ["dose_implausible"]
    assert dose_flags("Lu177-DOTATATE", "lesion_1", 50.0) == []
    assert dose_flags("something new", "kidneys", 50.0) == []
