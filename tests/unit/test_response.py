"""Response of a lesion by its volume: limits of RECIST 1.1 on the diameters of spheres."""

from __future__ import annotations

from math import pi

import pytest

from doseledger.errors import QuantityError
from doseledger.statistics.response import equivalent_diameter_mm, volume_response


def ml(diameter_mm: float) -> float:
    return pi / 6.0 * diameter_mm**3 / 1000.0


def test_the_diameter_belongs_to_the_volume() -> None:
    assert equivalent_diameter_mm(ml(37.0)) == pytest.approx(37.0)
    assert equivalent_diameter_mm(0.0) == 0.0


@pytest.mark.parametrize(
    ("diameters_mm", "expected"),
    [
        ((40.0, 28.1), "stable"),
        ((40.0, 27.9), "partial_response"),
        ((40.0, 47.9), "stable"),
        ((40.0, 48.1), "progression"),
        # 20 % of a small lesion is not yet 5 mm.
        ((12.0, 16.9), "stable"),
        ((12.0, 17.1), "progression"),
        # From the smallest one, though still far below the first.
        ((40.0, 20.0, 25.1), "progression"),
        ((40.0, 20.0, 24.9), "partial_response"),
        ((40.0, 20.0, 0.0), "complete_response"),
        ((40.0, 0.0, 6.0), "progression"),
        # Too small to be measured, and nothing to compare with.
        ((9.9, 30.0), None),
        ((40.0,), None),
    ],
)
def test_limits(diameters_mm: tuple[float, ...], expected: str | None) -> None:
    assert volume_response([ml(d) if d else 0.0 for d in diameters_mm]) == expected


@pytest.mark.parametrize("volumes_ml", [[], [0.0, 1.0], [5.0, -1.0], [5.0, float("nan")]])
def test_volumes_that_are_none_are_refused(volumes_ml: list[float]) -> None:
    with pytest.raises(QuantityError, match="volume"):
        volume_response(volumes_ml)
