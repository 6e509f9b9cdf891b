"""Regions made from other regions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from doseledger.errors import GeometryError, UnknownNameError
from doseledger.geometry import Grid
from doseledger.regions import REMAINDER
from doseledger.regions.derived import BOWEL_PARTS, LUMBAR_VERTEBRAE, bowel, lumbar_marrow, remainder, whole_body
from doseledger.regions.gate import FLAG_MEANINGS

Bools = NDArray[np.bool_]
#: CT-like: 3 mm slices, 1.5 mm pixels.
GRID = Grid((30, 40, 40), (3.0, 1.5, 1.5), (0.0, 0.0, 0.0))


def box(z: slice, y: slice, x: slice) -> Bools:
    mask = np.zeros(GRID.shape, bool)
    mask[z, y, x] = True
    return mask


def vertebrae() -> dict[str, Bools]:
    """Four blocks of 7 slices (21 mm) and 24 by 24 pixels (36 mm), without a gap between them."""
    names = ("vertebrae_L4", "vertebrae_L3", "vertebrae_L2")
    return {name: box(slice(1 + 7 * n, 8 + 7 * n), slice(8, 32), slice(8, 32)) for n, name in enumerate(names)}


def test_lumbar_marrow_is_eroded_by_the_margin_along_every_axis() -> None:
    found = lumbar_marrow(vertebrae(), GRID, margin_mm=5.0)
    # 5 mm: centres nearer to the surface go, at 1.5 and 4.5 mm in z, at 0.75, 2.25 and 3.75 mm in y and x.
    expected = np.zeros(GRID.shape, bool)
    for n in range(3):
        expected[3 + 7 * n : 6 + 7 * n, 11:29, 11:29] = True
    assert np.array_equal(found.mask, expected)
    assert found.region == "lumbar_marrow"
    assert found.parts == LUMBAR_VERTEBRAE
    assert found.flags == ()
    assert found.method == "vertebrae_L2 + vertebrae_L3 + vertebrae_L4 eroded by 5 mm, lesions unknown"


def test_lesions_are_no_marrow() -> None:
    lesions = box(slice(4, 5), slice(15, 20), slice(15, 20))
    whole = lumbar_marrow(vertebrae(), GRID)
    found = lumbar_marrow(vertebrae(), GRID, lesions=lesions)
    assert np.array_equal(found.mask, whole.mask & ~lesions)
    assert whole.mask.sum() - found.mask.sum() == 25
    assert found.method.endswith("lesions excluded")


def test_other_vertebrae_are_no_lumbar_marrow() -> None:
    masks = vertebrae() | {"vertebrae_L1": box(slice(22, 29), slice(8, 32), slice(8, 32))}
    assert np.array_equal(lumbar_marrow(masks, GRID).mask, lumbar_marrow(vertebrae(), GRID).mask)


def test_missing_cut_and_vanished_vertebrae_are_flagged() -> None:
    masks = vertebrae()
    del masks["vertebrae_L3"]
    assert lumbar_marrow(masks, GRID).flags == ("part_missing",)
    cut = vertebrae() | {"vertebrae_L4": box(slice(0, 8), slice(8, 32), slice(8, 32))}
    assert lumbar_marrow(cut, GRID).flags == ("truncated",)
    assert lumbar_marrow(vertebrae(), GRID, margin_mm=20.0).flags == ("empty",)
    with pytest.raises(UnknownNameError, match="vertebrae_L2"):
        lumbar_marrow({"liver": box(slice(1, 2), slice(1, 2), slice(1, 2))}, GRID)


def test_bowel_is_its_parts_with_a_caveat() -> None:
    masks = {name: box(slice(2 + 5 * n, 6 + 5 * n), slice(5, 9), slice(5, 9)) for n, name in enumerate(BOWEL_PARTS)}
    found = bowel(masks, GRID)
    assert np.array_equal(found.mask, masks["small_bowel"] | masks["duodenum"] | masks["colon"])
    assert found.flags == ("wall_and_content",)
    assert found.method == "small_bowel + duodenum + colon"
    partial = bowel({"colon": box(slice(2, 5), slice(0, 9), slice(5, 9)), "duodenum": np.zeros(GRID.shape, bool)}, GRID)
    assert partial.flags == ("part_missing", "truncated", "wall_and_content")
    assert partial.parts == ("colon",)


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("end", [0, -1])
def test_each_face_of_the_field_truncates(axis: int, end: int) -> None:
    mask = box(slice(5, 10), slice(5, 10), slice(5, 10))
    assert bowel(dict.fromkeys(BOWEL_PARTS, mask), GRID).flags == ("wall_and_content",)
    index: list[int] = [7, 7, 7]
    index[axis] = end
    mask[tuple(index)] = True
    assert bowel(dict.fromkeys(BOWEL_PARTS, mask), GRID).flags == ("truncated", "wall_and_content")


def test_the_remainder_is_the_body_without_all_regions() -> None:
    body = box(slice(0, 30), slice(2, 38), slice(2, 38))
    liver, outside = box(slice(3, 9), slice(4, 20), slice(4, 20)), box(slice(3, 9), slice(30, 40), slice(30, 40))
    rest = remainder(body, [liver, outside], GRID)
    assert np.array_equal(rest.mask, body & ~liver & ~outside)
    assert (rest.region, rest.method) == (REMAINDER, "body without 2 regions")
    whole = whole_body(body, GRID)
    assert np.array_equal(whole.mask, body)
    assert whole.flags == rest.flags == ("truncated",)
    assert remainder(body, [body], GRID).flags == ("empty", "truncated")
    assert not np.shares_memory(rest.mask, body)


def test_flags_have_a_meaning() -> None:
    assert {"empty", "part_missing", "truncated", "wall_and_content"} <= FLAG_MEANINGS.keys()


def test_masks_of_another_shape_are_refused() -> None:
    with pytest.raises(GeometryError, match="colon"):
        bowel({"colon": np.ones((2, 2, 2), bool)}, GRID)
    with pytest.raises(GeometryError, match="region 0"):
        remainder(np.ones(GRID.shape, bool), [np.ones((2, 2, 2), bool)], GRID)
