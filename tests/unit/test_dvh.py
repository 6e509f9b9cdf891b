"""Dose-volume histograms: D values from the voxels, weights, degenerate and bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from doseledger.errors import QuantityError
from doseledger.statistics.dvh import DVH_BINS, dose_volume_histogram


def test_d_values_of_a_hundred_equal_voxels() -> None:
    """With doses 1 to 100 Gy, 98 % of the volume receives at least 3 Gy."""
    doses = np.random.Generator(np.random.PCG64(1)).permutation(np.arange(1.0, 101.0))
    found = dose_volume_histogram(doses.reshape(4, 5, 5))
    assert (found.d2_gy, found.d50_gy, found.d90_gy, found.d98_gy) == (99.0, 51.0, 11.0, 3.0)


def test_the_definition_holds_for_any_doses() -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    doses, weights = rng.gamma(2.0, 2.0, 537), rng.uniform(0.1, 1.0, 537)
    found = dose_volume_histogram(doses, weights=weights)
    for share, value in ((0.02, found.d2_gy), (0.5, found.d50_gy), (0.9, found.d90_gy), (0.98, found.d98_gy)):
        assert weights[doses >= value].sum() / weights.sum() >= share - 1e-12
        # One voxel hotter, and the share is missed.
        assert weights[doses > value].sum() / weights.sum() < share


def test_the_histogram_holds_all_the_volume() -> None:
    doses = np.random.Generator(np.random.PCG64(3)).gamma(2.0, 2.0, 1000)
    found = dose_volume_histogram(doses)
    assert found.edges_gy.shape == (DVH_BINS + 1,)
    assert (found.edges_gy[0], found.edges_gy[-1]) == (0.0, doses.max())
    assert found.volume_fraction.sum() == pytest.approx(1.0)
    middles = (found.edges_gy[1:] + found.edges_gy[:-1]) / 2
    assert float(middles @ found.volume_fraction) == pytest.approx(doses.mean(), abs=doses.max() / DVH_BINS)


def test_a_weight_is_that_many_voxels() -> None:
    weighted = dose_volume_histogram([1.0, 2.0, 5.0], weights=[3.0, 2.0, 1.0], bins=7)
    repeated = dose_volume_histogram([1.0, 1.0, 1.0, 2.0, 2.0, 5.0], bins=7)
    assert weighted.volume_fraction == pytest.approx(repeated.volume_fraction)
    for name in ("d2_gy", "d50_gy", "d90_gy", "d98_gy"):
        assert getattr(weighted, name) == getattr(repeated, name)


def test_a_voxel_without_volume_counts_for_nothing() -> None:
    found = dose_volume_histogram([100.0, 1.0], weights=[0.0, 1.0])
    assert (found.d50_gy, found.d98_gy) == (1.0, 1.0)


@pytest.mark.parametrize("dose", [0.0, 1e-30, 3.5])
def test_one_dose_everywhere(dose: float) -> None:
    found = dose_volume_histogram(np.full(10, dose))
    assert (found.d2_gy, found.d98_gy) == (dose, dose)
    assert found.volume_fraction.sum() == pytest.approx(1.0)
    assert found.volume_fraction.max() == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("doses", "options", "word"),
    [
        ([], {}, "no voxels"),
        ([1.0, -1e-9], {}, "negative or not finite"),
        ([1.0, float("nan")], {}, "negative or not finite"),
        ([1.0, float("inf")], {}, "negative or not finite"),
        ([1.0, 2.0], {"weights": [1.0]}, "volumes"),
        ([1.0, 2.0], {"weights": [1.0, -1.0]}, "volumes"),
        ([1.0, 2.0], {"weights": [0.0, 0.0]}, "volumes"),
        ([1.0, 2.0], {"weights": [1.0, float("nan")]}, "volumes"),
        ([1.0, 2.0], {"weights": [1.0, float("inf")]}, "volumes"),
    ],
    ids=repr,
)
def test_bad_input_is_refused(doses: list[float], options: dict[str, Any], word: str) -> None:
    with pytest.raises(QuantityError, match=word):
        dose_volume_histogram(doses, **options)
