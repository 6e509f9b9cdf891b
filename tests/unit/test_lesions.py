"""Lesions by threshold: what belongs to them, in which order, and under which name they go on."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from doseledger.errors import DoseledgerError, GeometryError, QuantityError
from doseledger.geometry import Grid
from doseledger.regions.gate import FLAG_MEANINGS
from doseledger.regions.lesion_matching import (
    LARGEST_DISTANCE_MM,
    Matching,
    NamedLesions,
    match_lesions,
)
from doseledger.regions.lesions import (
    ORGAN_POLICY,
    THRESHOLD_VOLUME,
    Delineation,
    FixedConcentration,
    PercentOfMaximum,
    delineate,
)
from doseledger.regions.margins import eroded, grown

Floats = NDArray[np.float64]
#: SPECT-like voxels, not cubes: 0.06 mL.
GRID = Grid((20, 30, 40), (5.0, 4.0, 3.0), (-60.0, -60.0, -50.0))


def sphere(centre_zyx: tuple[float, float, float], radius_mm: float, grid: Grid = GRID) -> NDArray[np.bool_]:
    """Voxels whose centre lies in a sphere around an index."""
    index = np.stack(np.meshgrid(*map(np.arange, grid.shape), indexing="ij"), axis=-1)
    return np.asarray((((index - centre_zyx) * grid.spacing_mm) ** 2).sum(axis=-1) <= radius_mm**2)


A, B, C = (sphere((5, 8, 8), 11.0), sphere((5, 8, 25), 9.0), sphere((14, 22, 30), 13.0))


def image() -> Floats:
    """Three lesions of 100, 400 and 200 over a background of 10; hottest voxels stand out by one."""
    activity = np.full(GRID.shape, 10.0)
    for mask, level, centre in ((A, 100.0, (5, 8, 8)), (B, 400.0, (5, 8, 25)), (C, 200.0, (14, 22, 30))):
        activity[mask] = level
        activity[centre] = level + 1
    return activity


def test_components_above_a_fixed_concentration_from_the_hottest_on() -> None:
    found = delineate(image(), GRID, FixedConcentration(50.0))
    assert [lesion.max_bq_per_ml for lesion in found.lesions] == [401.0, 201.0, 101.0]
    for lesion, mask, centre in zip(found.lesions, (B, C, A), ((5, 8, 25), (14, 22, 30), (5, 8, 8)), strict=True):
        assert np.array_equal(found.labels == lesion.label, mask)
        assert lesion.volume_ml == pytest.approx(mask.sum() * 0.06)
        assert lesion.mean_bq_per_ml == pytest.approx(image()[mask].mean())
        assert lesion.centroid_mm == pytest.approx(GRID.position_mm(np.array(centre, dtype=float)))
        assert lesion.threshold_bq_per_ml == 50.0
    assert (found.flags, found.organ_policy, found.too_small) == ((THRESHOLD_VOLUME,), ORGAN_POLICY, 0)
    assert set(found.flags) <= FLAG_MEANINGS.keys()


def test_percent_of_the_maximum_of_the_field_and_of_each_seed() -> None:
    whole = delineate(image(), GRID, PercentOfMaximum(49.0))
    assert [lesion.max_bq_per_ml for lesion in whole.lesions] == [401.0, 201.0]
    assert [lesion.threshold_bq_per_ml for lesion in whole.lesions] == pytest.approx([0.49 * 401.0] * 2)
    seeds = sphere((5, 8, 8), 17.0) | sphere((14, 22, 30), 6.0)
    seeded = delineate(image(), GRID, PercentOfMaximum(49.0), seeds=seeds)
    assert [lesion.threshold_bq_per_ml for lesion in seeded.lesions] == pytest.approx([0.49 * 201.0, 0.49 * 101.0])
    assert np.array_equal(seeded.labels == 2, A)
    # A lesion does not leave its seed.
    assert np.array_equal(seeded.labels == 1, sphere((14, 22, 30), 6.0))


def test_the_volume_of_a_blurred_sphere_at_half_of_its_maximum() -> None:
    grid = Grid((60, 60, 60), (2.0, 2.0, 2.0), (0.0, 0.0, 0.0))
    radius_mm, sd_mm = 30.0, 6.0
    activity = ndimage.gaussian_filter(sphere((30, 30, 30), radius_mm, grid).astype(np.float64), sd_mm / 2.0)
    (lesion,) = delineate(activity, grid, PercentOfMaximum(50.0)).lesions
    # At a curved surface the half-value lies sd^2/r inside, to first order in sd/r.
    expected_ml = 4.0 / 3.0 * np.pi * (radius_mm - sd_mm**2 / radius_mm) ** 3 / 1e3
    assert lesion.volume_ml == pytest.approx(expected_ml, rel=0.01)


def test_organs_with_their_margin_are_no_lesions_and_no_maximum() -> None:
    kidney = sphere((5, 8, 25), 9.0)
    found = delineate(image(), GRID, PercentOfMaximum(49.0), organs=kidney)
    assert [lesion.max_bq_per_ml for lesion in found.lesions] == [201.0, 101.0]
    core = sphere((5, 8, 25), 3.5)
    shell = delineate(image(), GRID, FixedConcentration(150.0), organs=core, min_volume_ml=0.0)
    assert np.array_equal(shell.labels > 0, (B & ~core) | C)
    beyond = delineate(image(), GRID, FixedConcentration(150.0), organs=core, organ_margin_mm=4.0, min_volume_ml=0.0)
    assert np.array_equal(beyond.labels > 0, (B & ~grown(core, GRID, 4.0)) | C)
    assert not delineate(image(), GRID, PercentOfMaximum(), organs=np.ones(GRID.shape, bool)).lesions


def test_small_components_are_left_out_and_counted() -> None:
    activity = np.zeros(GRID.shape)
    activity[3, 3, 3:6] = 5.0  # 0.18 mL
    activity[9, 9, 9:18] = 4.0  # 0.54 mL
    found = delineate(activity, GRID, FixedConcentration(1.0))
    assert [lesion.volume_ml for lesion in found.lesions] == pytest.approx([0.54])
    assert found.too_small == 1
    assert np.array_equal(np.unique(found.labels), [0, 1])
    exact = delineate(activity, GRID, FixedConcentration(1.0), min_volume_ml=3 * 0.06)
    assert [lesion.max_bq_per_ml for lesion in exact.lesions] == [5.0, 4.0]


def test_connectivity_decides_over_touching_edges() -> None:
    activity = np.zeros(GRID.shape)
    activity[2:5, 2:5, 2:5] = 7.0
    activity[5:8, 5:8, 5:8] = 6.0
    assert len(delineate(activity, GRID, FixedConcentration(1.0), connectivity=26).lesions) == 1
    assert len(delineate(activity, GRID, FixedConcentration(1.0), connectivity=6).lesions) == 2


def test_the_order_is_the_same_in_any_orientation() -> None:
    """Equal maxima are in order of position in the patient, not of the array."""
    activity = np.zeros(GRID.shape)
    for mask in (A, B, C):
        activity[mask] = 50.0
    found = delineate(activity, GRID, FixedConcentration(10.0))
    centroids = [lesion.centroid_mm for lesion in found.lesions]
    assert centroids == sorted(centroids)
    flipped = Grid(GRID.shape, GRID.spacing_mm, GRID.position_mm(np.array([0.0, 0.0, 39.0])), _flip_x(GRID))
    again = delineate(activity[:, :, ::-1], flipped, FixedConcentration(10.0))
    assert np.allclose([lesion.centroid_mm for lesion in again.lesions], centroids, atol=1e-9)


def _flip_x(grid: Grid) -> Any:
    z, y, x = grid.direction
    return (z, y, (-x[0], -x[1], -x[2]))


def test_an_image_without_activity_has_no_lesions() -> None:
    assert delineate(np.zeros(GRID.shape), GRID, PercentOfMaximum()).lesions == ()


@pytest.mark.parametrize(
    ("change", "kind", "fragment"),
    [
        ({"activity_bq_per_ml": np.full(GRID.shape, np.nan)}, QuantityError, "finite"),
        ({"activity_bq_per_ml": np.zeros((2, 2, 2))}, GeometryError, "(2, 2, 2)"),
        ({"organs": np.zeros((2, 2, 2), bool)}, GeometryError, "(2, 2, 2)"),
        ({"threshold": PercentOfMaximum(0.0)}, QuantityError, "0 to 100 %"),
        ({"threshold": PercentOfMaximum(101.0)}, QuantityError, "0 to 100 %"),
        ({"threshold": FixedConcentration(0.0)}, QuantityError, "above 0 Bq/mL"),
        ({"organ_margin_mm": -1.0}, QuantityError, "margin"),
        ({"min_volume_ml": float("nan")}, QuantityError, "smallest volume"),
    ],
)
def test_bad_input_is_refused(change: dict[str, Any], kind: type[DoseledgerError], fragment: str) -> None:
    given: dict[str, Any] = {"activity_bq_per_ml": image(), "grid": GRID, "threshold": PercentOfMaximum()}
    with pytest.raises(kind) as caught:
        delineate(**given | change)
    assert fragment in caught.value.sentence


# Margins ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("margin_mm", [1.0, 1.6, 2.1, 4.4, 7.7])
def test_margins_agree_with_the_distance_of_centre_and_body(margin_mm: float) -> None:
    """Every pair of voxels, one by one, on voxels that are not cubes."""
    grid = Grid((8, 9, 10), (5.0, 4.0, 3.0), (0.0, 0.0, 0.0))
    mask = np.random.Generator(np.random.PCG64(4)).random(grid.shape) < 0.02
    assert np.array_equal(grown(mask, grid, margin_mm), _near(mask, grid, margin_mm))
    solid = ~(np.random.Generator(np.random.PCG64(5)).random(grid.shape) < 0.02)
    assert np.array_equal(eroded(solid, grid, margin_mm), solid & ~_near(~solid, grid, margin_mm))
    assert 0 < _near(mask, grid, margin_mm).sum() < mask.size


def _near(mask: NDArray[np.bool_], grid: Grid, margin_mm: float) -> NDArray[np.bool_]:
    found = np.zeros(mask.shape, bool)
    bodies = np.argwhere(mask)
    for voxel in np.ndindex(mask.shape):
        gaps = np.maximum(np.abs(bodies - voxel) - 0.5, 0.0) * grid.spacing_mm
        found[voxel] = bool(np.any((gaps**2).sum(axis=1) < margin_mm**2))
    return found


def test_nothing_is_taken_away_at_the_border_of_the_field() -> None:
    grid = Grid((4, 4, 4), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    assert eroded(np.ones(grid.shape, bool), grid, 2.0).all()
    assert not grown(np.zeros(grid.shape, bool), grid, 2.0).any()
    assert np.array_equal(grown(A, GRID, 0.0), A)
    assert np.array_equal(eroded(A, GRID, 0.0), A)


# Names ------------------------------------------------------------------------------------------


def scan(*masks: NDArray[np.bool_], grid: Grid = GRID) -> Delineation:
    """Lesions in the order given."""
    activity = np.zeros(grid.shape)
    for level, mask in enumerate(reversed(masks), start=1):
        activity[mask] = 10.0 * level
    return delineate(activity, grid, FixedConcentration(1.0), min_volume_ml=0.0)


def named(found: Delineation, ids: tuple[str, ...]) -> NamedLesions:
    return NamedLesions(found.labels, found.grid, ids)


def test_lesions_keep_their_names_when_their_order_changes() -> None:
    before = named(scan(A, B, C), ("lesion_1", "lesion_2", "lesion_3"))
    found = match_lesions(before, scan(C, A, B))
    assert found == Matching(("lesion_3", "lesion_1", "lesion_2"), (), (), {}, {})


def test_a_new_and_a_resolved_lesion_and_no_number_used_twice() -> None:
    before = named(scan(A, B), ("lesion_1", "lesion_4"))
    found = match_lesions(before, scan(C, B), used_ids=("lesion_9", "hand drawn"))
    assert found == Matching(("lesion_10", "lesion_4"), ("lesion_10",), ("lesion_1",), {}, {})
    # One that came back keeps its name, if its last voxels are still known; else it is a new one.
    everything = NamedLesions(np.where(A, 1, np.where(B, 2, 0)), GRID, ("lesion_1", "lesion_4"))
    assert match_lesions(everything, scan(A, B)).new == ()


def test_names_of_another_form_are_kept() -> None:
    found = match_lesions(named(scan(A), ("left_rib_7",)), scan(A, C))
    assert (found.lesion_ids, found.new) == (("left_rib_7", "lesion_1"), ("lesion_1",))


@pytest.mark.parametrize(
    ("distance_mm", "same"), [(LARGEST_DISTANCE_MM - 0.5, True), (LARGEST_DISTANCE_MM + 0.5, False)]
)
def test_lesions_that_do_not_overlap_match_within_a_distance(distance_mm: float, same: bool) -> None:
    small = sphere((5, 8, 8), 5.5)
    before = named(scan(small), ("lesion_1",))
    moved = replace(GRID, origin_mm=(GRID.origin_mm[0] + distance_mm, *GRID.origin_mm[1:]))
    found = match_lesions(before, scan(small, grid=moved))
    assert found.lesion_ids == (("lesion_1",) if same else ("lesion_2",))
    assert found.resolved == (() if same else ("lesion_1",))


def test_the_shift_is_taken_away_first() -> None:
    """Three lesions in a row, moved by one place: without the shift each would take its neighbour's name."""
    row = [sphere((8, 15, x), 7.0) for x in (6, 14, 22)]
    before = named(scan(*row), ("lesion_1", "lesion_2", "lesion_3"))
    after = scan(*[sphere((8, 15, x), 7.0) for x in (14, 22, 30)])
    assert match_lesions(before, after, shift_mm=(24.0, 0.0, 0.0)).lesion_ids == before.lesion_ids
    assert match_lesions(before, after).lesion_ids == ("lesion_2", "lesion_3", "lesion_4")


def bar(first_x: int, last_x: int) -> NDArray[np.bool_]:
    mask = np.zeros(GRID.shape, bool)
    mask[8, 15, first_x : last_x + 1] = True
    return mask


def test_overlap_counts_before_distance() -> None:
    """The lesion shares a third of its voxels with the first one, while its middle is nearer to the second one."""
    before = named(scan(bar(2, 13), bar(18, 22)), ("lesion_1", "lesion_2"))
    found = match_lesions(before, scan(bar(12, 17)), largest_distance_mm=20.0)
    assert (found.lesion_ids, found.resolved) == (("lesion_1",), ("lesion_2",))
    # Without the first one, the second one is near enough.
    assert match_lesions(named(scan(bar(18, 22)), ("b",)), scan(bar(12, 17)), largest_distance_mm=20.0).lesion_ids == (
        "b",
    )


def test_distances_are_assigned_for_all_lesions_together() -> None:
    """The nearest pair first, 3 mm apart, would leave the other two without a partner, 24 mm apart."""
    before = named(scan(bar(2, 2), bar(6, 6)), ("lesion_1", "lesion_2"))
    assert match_lesions(before, scan(bar(5, 5), bar(10, 10))).lesion_ids == ("lesion_1", "lesion_2")


def test_parts_of_a_lesion_that_broke_up_and_of_two_that_merged() -> None:
    left, right = sphere((8, 15, 10), 9.0), sphere((8, 15, 18), 8.0)
    both = left | right | sphere((8, 15, 14), 5.0)
    broken = match_lesions(named(scan(both), ("lesion_1",)), scan(left & ~right, right & ~sphere((8, 15, 14), 6.0)))
    assert broken.new == ("lesion_2",)
    assert broken.split == {"lesion_2": "lesion_1"}
    assert set(broken.lesion_ids) == {"lesion_1", "lesion_2"}
    apart = scan(left & ~sphere((8, 15, 14), 5.0), sphere((8, 15, 20), 6.0))
    merged = match_lesions(named(apart, ("lesion_1", "lesion_2")), scan(both))
    assert len(merged.lesion_ids) == 1
    assert merged.resolved == ()
    (gone,) = {"lesion_1", "lesion_2"} - set(merged.lesion_ids)
    assert merged.merged == {gone: merged.lesion_ids[0]}


def test_scans_on_other_grids_match_by_position() -> None:
    fine = Grid((50, 60, 60), (2.0, 2.0, 2.0), (-60.0, -60.0, -50.0))
    centre = fine.index(np.array([GRID.position_mm(np.array([5.0, 8.0, 8.0]))]))[0]
    found = match_lesions(
        named(scan(B, A), ("lesion_1", "lesion_2")), scan(sphere(tuple(centre), 11.0, fine), grid=fine)
    )
    assert (found.lesion_ids, found.resolved) == (("lesion_2",), ("lesion_1",))


def test_without_lesions_all_are_resolved() -> None:
    before = named(scan(A, B), ("lesion_1", "lesion_2"))
    assert match_lesions(before, scan()) == Matching((), (), ("lesion_1", "lesion_2"), {}, {})


@pytest.mark.parametrize("ids", [("lesion_1", "lesion_1"), ("lesion_1",), ("a", "b", "c")])
def test_earlier_lesions_without_one_name_each_are_refused(ids: tuple[str, ...]) -> None:
    with pytest.raises(QuantityError, match="one name each"):
        match_lesions(named(scan(A, B), ids), scan(A))
