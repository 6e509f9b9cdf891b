"""Density from CT numbers: the nodes of the table, the step between soft tissue and bone, the ends."""

from __future__ import annotations

import numpy as np
import pytest

from doseledger.data import columns
from doseledger.dose import density_from_hu

#: Schneider et al. 2000 with the nodes of GATE, written here once more by hand.
NODES = [
    (-1000, 0.00121),
    (-98, 0.93),
    (-97, 0.930486),
    (14, 1.03),
    (23, 1.031),
    (100, 1.1199),
    (101, 1.0762),
    (1600, 1.9642),
    (3000, 2.8),
]


def test_the_nodes_are_met() -> None:
    hu, density = zip(*NODES, strict=True)
    assert density_from_hu(hu) == pytest.approx(np.array(density), rel=1e-6)
    assert [tuple(node) for node in np.stack(columns("density_from_hu"), axis=1).tolist()] == NODES


@pytest.mark.parametrize(("hu", "expected"), [(0, 1.01745), (40, 1.05063), (-700, 0.3101), (300, 1.1941)])
def test_between_the_nodes_it_is_linear(hu: float, expected: float) -> None:
    assert float(density_from_hu(hu)) == pytest.approx(expected, abs=5e-5)


def test_the_step_from_soft_tissue_to_bone_is_kept() -> None:
    soft, middle, bone = density_from_hu([100.0, 100.5, 101.0])
    assert soft - bone == pytest.approx(1.1199 - 1.0762, abs=1e-6)
    assert middle == pytest.approx((1.1199 + 1.0762) / 2, abs=1e-6)


def test_beyond_the_table_the_end_values_hold() -> None:
    assert density_from_hu([-3024.0, -1001.0]) == pytest.approx(0.00121)
    assert density_from_hu([3001.0, 30000.0]) == pytest.approx(2.8)


def test_apart_from_the_step_density_never_falls() -> None:
    hu = np.arange(-1100, 3200)
    falls = hu[:-1][np.diff(density_from_hu(hu).astype(float)) < 0]
    assert falls.tolist() == [100]


def test_shape_and_type() -> None:
    image = density_from_hu(np.zeros((2, 3, 4), np.int16))
    assert image.shape == (2, 3, 4)
    assert image.dtype == np.float32
    assert np.all(image > 0)
