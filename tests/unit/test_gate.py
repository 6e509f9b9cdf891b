"""The quality gate of masks: each flag, and what does not raise it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from doseledger.geometry import Grid, Vector
from doseledger.regions import gate
from doseledger.regions.gate import (
    FLAG_MEANINGS,
    MEAN_HU_RANGE,
    ONE_BODY,
    ORDER,
    REFERENCE_MASS_G,
    VOLUME_RANGE_ML,
    change_flags,
    dice_after_shift,
    largest_part_share,
    mask_flags,
    order_flags,
    touches_border,
    volume_range_ml,
)

Bools = NDArray[np.bool_]
GRID = Grid((24, 28, 32), (5.0, 4.0, 4.0), (-64.0, -56.0, -60.0))


def box(z: slice, y: slice, x: slice) -> Bools:
    mask = np.zeros(GRID.shape, bool)
    mask[z, y, x] = True
    return mask


#: 1440 voxels of 0.08 mL: 115 mL, to the patient's left.
KIDNEY = box(slice(6, 16), slice(8, 20), slice(18, 30))


def test_a_plausible_kidney_has_no_flags() -> None:
    hu = np.full(GRID.shape, 35.0)
    assert KIDNEY.sum() * GRID.voxel_volume_ml == pytest.approx(115.2)
    assert mask_flags("kidney_left", KIDNEY, GRID, laterality="left", midline_mm=0.0, hu=hu) == []


def test_an_empty_region_is_just_empty() -> None:
    assert mask_flags("kidney_left", np.zeros(GRID.shape, bool), GRID, laterality="left", midline_mm=0.0) == ["empty"]


@pytest.mark.parametrize(
    ("region", "mask", "given", "flags"),
    [
        ("kidney_left", box(slice(6, 12), slice(8, 20), slice(18, 30)), {}, ["volume_implausible"]),
        ("kidney_right", KIDNEY, {"laterality": "right", "midline_mm": 0.0}, ["wrong_side"]),
        ("kidney_left", KIDNEY, {"laterality": "left", "midline_mm": 45.0}, ["wrong_side"]),
        ("kidney_left", KIDNEY, {"laterality": "left"}, []),
        ("kidney_left", np.roll(KIDNEY, 2, axis=2), {}, ["truncated"]),
        ("kidney_left", np.roll(KIDNEY, -6, axis=0), {}, ["truncated"]),
        ("kidney_left", np.roll(KIDNEY, 8, axis=1), {}, ["truncated"]),
        ("kidney_left", KIDNEY | box(slice(6, 16), slice(8, 20), slice(5, 6)), {}, ["fragmented"]),
        ("colon", KIDNEY | box(slice(6, 16), slice(8, 20), slice(2, 14)), {}, []),
        ("kidney_left", KIDNEY, {"hu": np.full(GRID.shape, -80.0)}, ["hu_implausible"]),
        ("kidney_left", KIDNEY, {"hu": np.full(GRID.shape, 500.0)}, ["hu_implausible"]),
        ("lung_left", KIDNEY, {"hu": np.full(GRID.shape, 35.0)}, ["hu_implausible"]),
        ("lung_left", KIDNEY, {"hu": np.full(GRID.shape, -800.0)}, []),
        ("vertebrae_L3", KIDNEY, {"hu": np.full(GRID.shape, -800.0)}, ["hu_implausible"]),
        ("lesion_1", KIDNEY, {"hu": np.full(GRID.shape, -800.0)}, []),
    ],
)
def test_each_flag(region: str, mask: Bools, given: dict[str, Any], flags: list[str]) -> None:
    assert mask_flags(region, mask, GRID, **given) == flags


def test_a_small_crumb_is_no_fragment() -> None:
    assert mask_flags("kidney_left", KIDNEY | box(slice(2, 3), slice(2, 3), slice(2, 3)), GRID) == []


@pytest.mark.parametrize("region", [*VOLUME_RANGE_ML, *REFERENCE_MASS_G])
def test_the_volume_is_checked_at_both_ends(region: str) -> None:
    low, high = volume_range_ml(region)
    mask = box(slice(10, 14), slice(10, 14), slice(10, 14))
    for factor, at_low, at_high in ((1.01, False, True), (0.99, True, False)):
        for volume_ml, flagged in ((low * factor, at_low), (high * factor, at_high)):
            spacing_mm = float(np.cbrt(volume_ml * 1e3 / mask.sum()))
            grid = Grid(GRID.shape, (spacing_mm,) * 3, (0.0, 0.0, 0.0))
            assert mask_flags(region, mask, grid) == (["volume_implausible"] if flagged else [])


def test_the_reference_masses_are_those_of_icrp_89() -> None:
    # Pancreas 120 and 140 g, thyroid 17 and 20 g, heart with blood 620 and 840 g; a factor of three either way.
    assert REFERENCE_MASS_G["pancreas"] == (120.0, 140.0)
    assert volume_range_ml("thyroid_gland") == pytest.approx((17.0 / 1.05 / 3, 20.0 / 1.05 * 3))
    assert volume_range_ml("heart") == pytest.approx((620.0 / 1.05 / 3, 840.0 / 1.05 * 3))
    assert volume_range_ml("something") == (0.0, float("inf"))
    assert not VOLUME_RANGE_ML.keys() & REFERENCE_MASS_G.keys()
    # The narrower ranges of the treated organs hold the reference masses, too.
    for region, (woman_g, man_g) in {"liver": (1400, 1800), "spleen": (130, 150), "kidney_left": (138, 155)}.items():
        low, high = VOLUME_RANGE_ML[region]
        assert low < woman_g / 1.05 < man_g / 1.05 < high


@pytest.mark.parametrize(("axis", "end"), [(axis, end) for axis in range(3) for end in (0, -1)])
def test_every_face_of_the_field_is_a_border(axis: int, end: int) -> None:
    mask = box(slice(1, -1), slice(1, -1), slice(1, -1))
    assert not touches_border(mask)
    index = [5, 5, 5]
    index[axis] = end
    mask[tuple(index)] = True
    assert touches_border(mask)


def test_the_largest_part() -> None:
    mask = box(slice(2, 4), slice(2, 4), slice(2, 4))
    mask[4, 4, 4] = True  # by its corner
    mask[10, 10, 10] = True
    assert largest_part_share(mask) == pytest.approx(0.9)
    assert np.isnan(largest_part_share(np.zeros(GRID.shape, bool)))


# Order ------------------------------------------------------------------------------------------

#: Middles of the organs of one adult, LPS mm: larger x to the patient's left, larger z to the head.
MIDDLES: dict[str, Vector] = {
    "liver": (-70.0, -20.0, 0.0),
    "spleen": (90.0, 30.0, 10.0),
    "kidney_left": (60.0, 50.0, -80.0),
    "kidney_right": (-60.0, 50.0, -100.0),
    "lung_left": (80.0, 0.0, 150.0),
    "lung_right": (-80.0, 0.0, 150.0),
    "heart": (20.0, -40.0, 90.0),
    "thyroid_gland": (0.0, -30.0, 280.0),
    "urinary_bladder": (0.0, -20.0, -330.0),
    **{f"vertebrae_L{n}": (0.0, 40.0, -60.0 - 35.0 * n) for n in range(1, 6)},
}


def test_organs_in_their_order_have_no_flags() -> None:
    assert order_flags(MIDDLES) == {}
    assert {name for a, _, b in ORDER for name in (a, b)} == MIDDLES.keys()


@pytest.mark.parametrize(("first", "relation", "second"), ORDER)
def test_two_organs_that_change_places_are_flagged(first: str, relation: str, second: str) -> None:
    found = order_flags(MIDDLES | {first: MIDDLES[second], second: MIDDLES[first]})
    assert found[first] == found[second] == ["wrong_order"]


def test_an_image_upside_down_or_mirrored_is_noticed() -> None:
    assert order_flags({name: (-x, y, z) for name, (x, y, z) in MIDDLES.items()}).keys() >= {"liver", "spleen"}
    assert order_flags({name: (x, y, -z) for name, (x, y, z) in MIDDLES.items()}).keys() >= {"kidney_left", "lung_left"}
    assert order_flags({"liver": (0.0, 0.0, 0.0)}) == {}


# Between time points ------------------------------------------------------------------------------


def test_the_same_outline_after_its_shift() -> None:
    moved = np.roll(KIDNEY, (2, -3, 1), axis=(0, 1, 2))
    shift_mm = (4.0, -12.0, 10.0)  # x, y, z
    assert dice_after_shift(KIDNEY, GRID, moved, GRID, shift_mm) == 1.0
    # 10 by 12 by 12 voxels moved by 2, 3 and 1 of them.
    expected = (8 * 9 * 11) / (10 * 12 * 12)
    assert dice_after_shift(KIDNEY, GRID, moved, GRID, (0.0, 0.0, 0.0)) == pytest.approx(expected)
    assert dice_after_shift(KIDNEY, GRID, moved, GRID, (500.0, 0.0, 0.0)) == 0.0


def test_outlines_on_two_grids_are_compared_by_volume() -> None:
    fine = Grid((48, 56, 64), (2.5, 2.0, 2.0), (-65.0, -57.0, -61.25))
    again = KIDNEY.repeat(2, axis=0).repeat(2, axis=1).repeat(2, axis=2)
    assert dice_after_shift(KIDNEY, GRID, again, fine, (0.0, 0.0, 0.0)) == pytest.approx(1.0)


def test_only_outlines_that_differ_are_flagged() -> None:
    nothing = np.zeros(GRID.shape, bool)
    assert change_flags(1.0) == change_flags(0.7) == []
    assert (
        change_flags(0.69)
        == change_flags(dice_after_shift(KIDNEY, GRID, nothing, GRID, (0, 0, 0)))
        == ["outline_changed"]
    )
    assert change_flags(dice_after_shift(nothing, GRID, nothing, GRID, (0.0, 0.0, 0.0))) == []


# The list of flags --------------------------------------------------------------------------------


def test_every_flag_that_the_gate_can_set_has_a_meaning() -> None:
    assert gate.__file__ is not None
    source = Path(gate.__file__).read_text(encoding="utf-8")
    quoted = set(re.findall(r'append\("(\w+)"\)|return \["(\w+)"\]|"(\w+)": not |\["(\w+)"\]', source))
    flags = {name for names in quoted for name in names if name} | {"truncated", "wrong_side", "fragmented"}
    assert {"empty", "volume_implausible", "wrong_order", "hu_implausible", "outline_changed"} <= flags
    assert flags <= FLAG_MEANINGS.keys()
    assert all(len(text) > 15 and not text.endswith(".") for text in FLAG_MEANINGS.values())


def test_the_tables_name_plausible_things() -> None:
    assert all(low < high for low, high in MEAN_HU_RANGE.values())
    assert {"liver", "kidney_left"} <= ONE_BODY
    assert not ONE_BODY & {"bowel", "colon", "lumbar_marrow"}
