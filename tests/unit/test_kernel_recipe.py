"""The recipe of the point kernels: slabs and shells, and that the committed tables are what it makes.

Where the engine's environment is present (``DOSELEDGER_OMPMC``, default ``.venv/ompmc/bin/python``), it is run.
"""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from doseledger.dose.kernels import electron_reach, point_kernel
from doseledger.nuclides import nuclide

ROOT = Path(__file__).resolve().parents[2]
ENGINE_PYTHON = Path(os.environ.get("DOSELEDGER_OMPMC", ROOT / ".venv" / "ompmc" / "bin" / "python"))
FOLDERS = (ROOT / "recipes" / "kernels", ROOT / "recipes" / "truth")
MODULES = ("radiation", "transport", "slabs", "electron_kernels", "photon_kernels")
RNG = np.random.Generator(np.random.PCG64(4))


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, ModuleType]]:
    """The recipe's modules, which are scripts beside each other and no package."""
    before = list(sys.path)
    sys.path[:0] = [str(folder) for folder in FOLDERS]
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path[:] = before
        for name in MODULES:
            sys.modules.pop(name, None)


def test_a_shell_casts_its_energy_evenly_on_its_axis(recipe: dict[str, ModuleType]) -> None:
    shells = np.array([0.5, 2.0, 3.0])
    heights = np.array([0.0, 0.2, 0.5, 1.3, 2.5, 3.0, 9.0])
    found = recipe["slabs"].share_below(heights, shells)
    for column, (inner, outer) in enumerate([(0.0, 0.5), (0.5, 2.0), (2.0, 3.0)]):
        radius = RNG.uniform(inner, outer, 400_000)
        height = radius * RNG.uniform(0.0, 1.0, radius.size)
        drawn = (height[:, None] < heights).mean(axis=0)
        assert found[:, column] == pytest.approx(drawn, abs=3e-3)


def test_unfolding_gives_back_the_shells(recipe: dict[str, ModuleType]) -> None:
    shells = np.linspace(0.0, 5.0, 41)[1:]
    truth = np.diff(-np.exp(-np.linspace(0.0, 5.0, 41)))
    slabs = np.concatenate([[0.0, 1e-3], shells])
    slab_share = np.diff(recipe["slabs"].share_below(slabs, shells), axis=0)
    energy = slab_share @ truth
    sd = 2e-3 * energy
    noisy = energy + sd * RNG.standard_normal(energy.size)
    options = {"roughness_per_mm": 0.03 * 0.9, "smooth": shells.size}
    exact = recipe["slabs"].unfold(slab_share, shells, energy, sd, **options)
    assert np.cumsum(exact) == pytest.approx(np.cumsum(truth), abs=2e-3)
    found = recipe["slabs"].unfold(slab_share, shells, noisy, sd, **options)
    assert found.sum() == pytest.approx(noisy.sum(), rel=1e-9)
    assert np.cumsum(found) == pytest.approx(np.cumsum(truth), abs=6e-3)


@pytest.mark.parametrize("radius", [0.1, 0.7, 1.5, 4.0])
def test_what_a_thick_slab_lets_into_the_next(recipe: dict[str, ModuleType], radius: float) -> None:
    start = RNG.uniform(0.0, 1.0, 400_000)
    end = start + radius * RNG.uniform(-1.0, 1.0, start.size)
    drawn = np.mean((np.floor(end) == 1.0) | (np.floor(end) == -1.0))
    assert recipe["electron_kernels"].next_slab_share(np.array([radius]))[0] == pytest.approx(drawn, abs=3e-3)


@pytest.mark.parametrize("name", ["Lu-177", "Tc-99m", "Pb-212", "I-124"])
def test_the_electrons_of_the_recipe_are_those_of_the_nuclide(recipe: dict[str, ModuleType], name: str) -> None:
    emission = recipe["electron_kernels"].electrons_of(nuclide(name))
    assert emission.total_kev == pytest.approx(nuclide(name).in_place.electron_kev, rel=1e-9)
    assert point_kernel(name, "electron").local_share == pytest.approx(
        emission.local_kev / emission.total_kev, rel=1e-4
    )


def test_the_photon_kernel_is_made_again(recipe: dict[str, ModuleType]) -> None:
    """With a fiftieth of the histories; the mean radius is that of the table within its statistics."""
    radius, share, _ = recipe["photon_kernels"].kernel(nuclide("Lu-177"), 100_000)
    table = point_kernel("Lu-177", "photon")
    assert radius == pytest.approx(table.edges, rel=1e-5)
    assert share[0] == pytest.approx(table.local_share, rel=1e-4)
    middle = 0.5 * (radius[1:] + radius[:-1])
    assert float(share[1:] @ middle) == pytest.approx(float(table.share @ middle), rel=0.02)


@pytest.mark.skipif(not ENGINE_PYTHON.exists(), reason="the engine's environment is not there: envs/ompmc.txt")
def test_the_electron_kernel_is_made_again(recipe: dict[str, ModuleType]) -> None:
    """With a fiftieth of the histories; the mean radius is that of the table within its statistics."""
    radius, share, _ = recipe["electron_kernels"].kernel(nuclide("Lu-177"), 2000, ENGINE_PYTHON)
    table = point_kernel("Lu-177", "electron").within(electron_reach("Lu-177"))
    assert share.sum() == pytest.approx(1.0, rel=1e-9)
    inner = radius[:51]
    mean = float(share[1:51] @ (0.5 * (inner[1:] + inner[:-1])))
    assert mean == pytest.approx(float(table.share @ (0.5 * (table.edges[1:] + table.edges[:-1]))), rel=0.08)
