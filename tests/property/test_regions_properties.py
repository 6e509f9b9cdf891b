"""Properties of label maps on other grids, and of statistics of regions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray

from doseledger.geometry import Direction, Grid, Vector
from doseledger.regions import hard_labels, region_fractions, volume_average

ANY = settings(max_examples=60, deadline=None, derandomize=True)

SHAPES = st.tuples(*[st.integers(1, 7)] * 3)
SPACINGS = st.tuples(*[st.floats(2.0, 5.0)] * 3)


@st.composite
def label_maps(draw: st.DrawFn) -> tuple[Grid, NDArray[np.uint8], Grid]:
    """Labels on a grid with axes in any order and sense, and a target that holds all of it."""
    shape, spacing = draw(SHAPES), draw(SPACINGS)
    order = draw(st.permutations(range(3)))
    signs = draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    axes = [tuple(float(sign * v) for v in np.eye(3)[i]) for sign, i in zip(signs, order, strict=True)]
    direction: Direction = (axes[0], axes[1], axes[2])  # type: ignore[assignment]
    grid = Grid(shape, spacing, draw(st.tuples(*[st.floats(-20.0, 20.0)] * 3)), direction)
    labels = draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 2)))
    corners = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in shape])).reshape(3, -1).T
    positions = np.array([grid.position_mm(corner) for corner in corners])
    target_spacing: Vector = draw(SPACINGS)
    low = positions.min(axis=0) - draw(st.floats(0.0, 3.0))
    counts = np.ceil((positions.max(axis=0) - low) / np.array(target_spacing)[::-1]).astype(int)[::-1] + 1
    origin = low + np.array(target_spacing)[::-1] / 2
    target = Grid(
        (int(counts[0]), int(counts[1]), int(counts[2])),
        target_spacing,
        (float(origin[0]), float(origin[1]), float(origin[2])),
    )
    return grid, labels, target


@ANY
@given(label_maps())
def test_volume_is_kept_and_no_voxel_overfilled(case: tuple[Grid, NDArray[np.uint8], Grid]) -> None:
    grid, labels, target = case
    fractions = region_fractions(labels, grid, target)
    assert set(fractions) == set(np.unique(labels[labels > 0]).tolist())
    for label, fraction in fractions.items():
        volume = float((labels == label).sum()) * grid.voxel_volume_ml
        assert float(fraction.sum(dtype=float)) * target.voxel_volume_ml == pytest.approx(volume, rel=1e-4)
        assert 0.0 <= fraction.min() <= fraction.max() <= 1.0
    assert sum(fractions.values(), np.zeros(target.shape)).max() <= 1.0 + 1e-4


@ANY
@given(label_maps(), st.floats(0.2, 3.0))
def test_mass_is_kept_and_the_average_within_its_range(
    case: tuple[Grid, NDArray[np.uint8], Grid], contrast: float
) -> None:
    grid, labels, target = case
    density = (1.0 + contrast * labels).astype(np.float32)
    averaged = volume_average(density, grid, target, outside=-1.0)
    covered = averaged >= 0
    assert density.min() - 1e-5 <= averaged[covered].min() <= averaged[covered].max() <= density.max() + 1e-5
    # Weighted with the volume that the image covers of each voxel, the mass comes back.
    cover = region_fractions(np.ones(grid.shape, np.uint8), grid, target)[1].astype(float)
    mass = float((averaged * cover)[covered].sum()) * target.voxel_volume_ml
    assert mass == pytest.approx(float(density.sum(dtype=float)) * grid.voxel_volume_ml, rel=1e-3)


@ANY
@given(label_maps())
def test_hard_labels_know_only_the_regions(case: tuple[Grid, NDArray[np.uint8], Grid]) -> None:
    grid, labels, target = case
    fractions = region_fractions(labels, grid, target)
    found = hard_labels(fractions, target.shape)
    assert set(np.unique(found).tolist()) <= {0, *fractions}
    # Of one region alone some voxel is always left.
    for label, fraction in fractions.items():
        assert (hard_labels({label: fraction}, target.shape) == label).any()
    # Outside of half-filled voxels at most one voxel per region, for those that win nowhere.
    total = sum(fractions.values(), np.zeros(target.shape))
    assert np.all(found[total > 0.5 + 1e-6] > 0)
    assert (found[total < 0.5 - 1e-6] > 0).sum() <= len(fractions)
