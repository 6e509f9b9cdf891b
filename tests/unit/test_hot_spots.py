"""Lesions without seeds: each with a maximum of its own, none on the slope of an organ, one name in a series."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from doseledger.errors import DoseledgerError, GeometryError, QuantityError
from doseledger.geometry import Grid
from doseledger.regions.hot_spots import hot_spots, measured
from doseledger.regions.lesion_series import median_shift_mm, names_in_series
from doseledger.regions.lesions import Delineation, FixedConcentration, PercentOfMaximum
from doseledger.regions.margins import grown

GRID = Grid((30, 34, 36), (5.0, 5.0, 5.0), (-87.5, -82.5, -72.5))
FORTY_ONE = PercentOfMaximum(41.0)
#: Blur of a SPECT, standard deviation in voxels: 12 mm full width at half maximum.
SIGMA = 12.0 / 2.355 / 5.0
KIDNEY, STRONG, WEAK = (15.0, 22.0, 8.0), (10.0, 12.0, 22.0), (20.0, 10.0, 26.0)


def ball(centre: tuple[float, float, float], radius_mm: float) -> NDArray[np.bool_]:
    index = np.indices(GRID.shape)
    gaps = [(axis - c) * s for axis, c, s in zip(index, centre, GRID.spacing_mm, strict=True)]
    return np.asarray(sum(g**2 for g in gaps) <= radius_mm**2)


def blurred(*parts: tuple[NDArray[np.bool_], float]) -> NDArray[np.float64]:
    image = np.full(GRID.shape, 5.0)
    for mask, level in parts:
        image[mask] = level
    return np.asarray(ndimage.gaussian_filter(image, SIGMA))


@pytest.fixture
def kidney() -> NDArray[np.bool_]:
    return ball(KIDNEY, 25.0)


@pytest.fixture
def image(kidney: NDArray[np.bool_]) -> NDArray[np.float64]:
    return blurred((kidney, 900.0), (ball(STRONG, 12.0), 1500.0), (ball(WEAK, 12.0), 300.0))


def searched(kidney: NDArray[np.bool_], margin_mm: float) -> NDArray[np.bool_]:
    return ~grown(kidney, GRID, margin_mm)


def test_each_lesion_has_its_own_threshold(image: NDArray[np.float64], kidney: NDArray[np.bool_]) -> None:
    """41 % of the stronger one is more than the maximum of the weaker one."""
    found = hot_spots(image, GRID, FORTY_ONE, searched=searched(kidney, 10.0), least_bq_per_ml=100.0)
    strong, weak = found.lesions
    assert weak.max_bq_per_ml < 0.41 * strong.max_bq_per_ml
    for lesion, centre in ((strong, STRONG), (weak, WEAK)):
        assert np.allclose(lesion.centroid_mm, GRID.position_mm(np.array(centre)), atol=1.0)
        values = image[found.labels == lesion.label]
        assert values.min() >= 0.41 * lesion.max_bq_per_ml
        # A ball of 12 mm has 7.24 mL; its blur lowers the maximum, so that 41 % of it lie outside of the surface.
        assert 0.8 <= lesion.volume_ml / 7.24 <= 1.6
    assert not (found.labels[grown(kidney, GRID, 10.0)]).any()


def test_the_slope_of_an_organ_is_no_lesion(image: NDArray[np.float64], kidney: NDArray[np.bool_]) -> None:
    """Outside of the outline the blurred kidney is still hotter than the weak lesion, but its maximum is inside."""
    rim = searched(kidney, 0.0)
    assert image[rim & grown(kidney, GRID, 5.0)].max() > image[ball(WEAK, 12.0)].max()
    for threshold in (FORTY_ONE, FixedConcentration(80.0)):
        found = hot_spots(image, GRID, threshold, searched=rim, least_bq_per_ml=80.0)
        assert len(found.lesions) == 2
        assert not (found.labels[grown(kidney, GRID, 12.0)]).any()


def test_a_weak_lesion_does_not_take_the_slope_of_an_organ(kidney: NDArray[np.bool_]) -> None:
    """All around the kidney is hotter than 41 % of the lesion beside it, and joins it."""
    place = (15.0, 22.0, 16.0)
    image = blurred((kidney, 900.0), (ball(place, 8.0), 600.0))
    found = hot_spots(image, GRID, FORTY_ONE, searched=searched(kidney, 0.0), least_bq_per_ml=100.0)
    (lesion,) = found.lesions
    assert np.allclose(lesion.centroid_mm, GRID.position_mm(np.array(place)), atol=2.5)
    joined = ~kidney & (image >= 0.41 * lesion.max_bq_per_ml)
    assert np.count_nonzero(joined) * GRID.voxel_volume_ml > 4 * lesion.volume_ml


def test_a_weak_lesion_does_not_take_the_slope_of_its_neighbour() -> None:
    near = (10.0, 12.0, 28.0)
    image = blurred((ball(STRONG, 10.0), 2000.0), (ball(near, 6.0), 500.0))
    found = hot_spots(image, GRID, FORTY_ONE, searched=np.ones(GRID.shape, bool), least_bq_per_ml=50.0)
    assert len(found.lesions) == 2
    strong, weak = (lesion.volume_ml for lesion in found.lesions)
    # All voxels above 41 % of the weak maximum are far more: they go around the strong lesion.
    assert weak < strong
    assert np.count_nonzero(image >= 0.41 * found.lesions[1].max_bq_per_ml) * GRID.voxel_volume_ml > 2 * strong


def test_what_is_too_weak_or_too_small_is_no_lesion(image: NDArray[np.float64], kidney: NDArray[np.bool_]) -> None:
    field = searched(kidney, 10.0)
    assert len(hot_spots(image, GRID, FORTY_ONE, searched=field, least_bq_per_ml=400.0).lesions) == 1
    found = hot_spots(image, GRID, FORTY_ONE, searched=field, least_bq_per_ml=100.0, min_volume_ml=50.0)
    assert (found.lesions, found.too_small) == ((), 2)
    assert hot_spots(image, GRID, FORTY_ONE, searched=np.zeros(GRID.shape, bool)).lesions == ()
    assert hot_spots(np.zeros(GRID.shape), GRID, FORTY_ONE, searched=field).lesions == ()


@pytest.mark.parametrize(
    ("change", "kind", "fragment"),
    [
        ({"least_bq_per_ml": -1.0}, QuantityError, "least maximum"),
        ({"least_bq_per_ml": float("nan")}, QuantityError, "least maximum"),
        ({"searched": np.ones((2, 2, 2), bool)}, GeometryError, "(2, 2, 2)"),
        ({"threshold": PercentOfMaximum(0.0)}, QuantityError, "0 to 100 %"),
    ],
)
def test_bad_input_is_refused(
    image: NDArray[np.float64], change: dict[str, Any], kind: type[DoseledgerError], fragment: str
) -> None:
    given: dict[str, Any] = {"threshold": FORTY_ONE, "searched": np.ones(GRID.shape, bool)}
    with pytest.raises(kind) as caught:
        hot_spots(image, GRID, **given | change)
    assert fragment in caught.value.sentence


# Series -----------------------------------------------------------------------------------------

PLACES = {"a": (8.0, 10.0, 8.0), "b": (8.0, 10.0, 16.0), "c": (8.0, 10.0, 24.0), "d": (20.0, 24.0, 20.0)}


def scan(order: str, shift_mm: float = 0.0) -> Delineation:
    """Lesions at `PLACES` in the order given, on a grid that lies `shift_mm` further to the left."""
    labels = np.zeros(GRID.shape, np.int32)
    for number, place in enumerate(order, start=1):
        labels[ball(PLACES[place], 9.0)] = number
    x, y, z = GRID.origin_mm
    return measured(labels, replace(GRID, origin_mm=(x + shift_mm, y, z)), np.ones(GRID.shape))


def test_names_stay_when_the_order_of_maxima_changes() -> None:
    still = (0.0, 0.0, 0.0)
    names = names_in_series([scan("abc"), scan("cab"), scan("bca")], [still] * 3)
    assert names == [
        ("lesion_1", "lesion_2", "lesion_3"),
        ("lesion_3", "lesion_1", "lesion_2"),
        ("lesion_2", "lesion_3", "lesion_1"),
    ]


def test_a_lesion_that_a_scan_does_not_show_comes_back_under_its_name() -> None:
    names = names_in_series([scan("ab"), scan("bd"), scan("da")], [(0.0, 0.0, 0.0)] * 3)
    assert names == [("lesion_1", "lesion_2"), ("lesion_2", "lesion_3"), ("lesion_3", "lesion_1")]


def test_the_patient_may_lie_elsewhere() -> None:
    """By one place to the left: without the shift each lesion would have the name of its neighbour."""
    moved = [scan("abc"), scan("dabc", 40.0)]
    assert names_in_series(moved, [(0.0, 0.0, 0.0), (40.0, 0.0, 0.0)])[1] == (
        "lesion_4",
        "lesion_1",
        "lesion_2",
        "lesion_3",
    )
    assert names_in_series(moved, [(0.0, 0.0, 0.0)] * 2)[1] != ("lesion_4", "lesion_1", "lesion_2", "lesion_3")
    # A lesion that the moved scan was the first to show is met where it is in the first one.
    again = [*moved, scan("d")]
    assert names_in_series(again, [(0.0, 0.0, 0.0), (40.0, 0.0, 0.0), (0.0, 0.0, 0.0)])[2] == ("lesion_4",)


def test_no_series_has_no_names() -> None:
    assert names_in_series([], []) == []


def test_the_shift_is_the_median_of_the_organs_that_both_have() -> None:
    first, second = (np.zeros(GRID.shape, np.uint8) for _ in range(2))
    for label, place in enumerate("abcd", start=1):
        first[ball(PLACES[place], 9.0)] = label
        # The fourth organ has another label in the second map, and is not where it was.
        second[ball(PLACES[place] if label < 4 else (5.0, 26.0, 8.0), 9.0)] = label if label < 4 else 9
    moved = replace(GRID, origin_mm=(GRID.origin_mm[0], GRID.origin_mm[1] + 12.0, GRID.origin_mm[2]))
    labels = {1: 1, 2: 2, 3: 3, 4: 9}
    assert np.allclose(median_shift_mm(first, GRID, second, moved, labels), (0.0, 12.0, 0.0))
    assert median_shift_mm(first, GRID, second, moved, {7: 7}) == (0.0, 0.0, 0.0)
