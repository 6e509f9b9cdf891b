"""The recipe for true absorbed doses: validated against known numbers, plausible, and belonging to today's truth.

The committed numbers are read here. Where the engine's environment is present (``DOSELEDGER_OMPMC``, default
``.venv/ompmc/bin/python``), a short run of the recipe is repeated.
"""

from __future__ import annotations

import csv
import importlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import yaml

from doseledger.nuclides import nuclide
from doseledger.phantom.torso import MARROW
from doseledger.phantom.truth import local_dose_gy, region_tia_mbq_h

ROOT = Path(__file__).resolve().parents[2]
RECIPE = ROOT / "recipes" / "truth"
ENGINE_PYTHON = Path(os.environ.get("DOSELEDGER_OMPMC", ROOT / ".venv" / "ompmc" / "bin" / "python"))
TABLE = ROOT / "src" / "doseledger" / "phantom" / "true_dose.csv"
RECORD = RECIPE / "demo_dose.json"
MODULES = ("radiation", "transport", "region_maps", "dose_truth")

#: Dose from the electrons of a region's own decays over the true dose, minus one: what photons add. Measured with
#: coupled Monte Carlo on another phantom (DOTATATE): kidneys -1.7 %, spleen -1.9 %, liver -7.3 %. PSMA leaves little
#: in liver and spleen, so that what comes from elsewhere is a larger part; marrow lies among hotter organs.
LOCAL_DEFICIT = {
    "DOTATATE": {"kidney": (-0.04, -0.01), "spleen": (-0.025, -0.01), "liver": (-0.10, -0.03)},
    "PSMA-617": {"kidney": (-0.04, -0.01), "spleen": (-0.07, -0.02), "liver": (-0.15, -0.05)},
}
MARROW_DEFICIT = (-0.25, -0.04)
#: Small and hot: what leaves and what comes about balance.
SMALL_DEFICIT = (-0.04, 0.03)
#: Statistical uncertainty that a table must reach.
U_ORGAN_REL, U_SMALL_REL = 0.0016, 0.010


@pytest.fixture(scope="module")
def recipe() -> Iterator[dict[str, ModuleType]]:
    """The recipe's modules, which are scripts beside each other and no package."""
    sys.path.insert(0, str(RECIPE))
    try:
        yield {name: importlib.import_module(name) for name in MODULES}
    finally:
        sys.path.remove(str(RECIPE))
        for name in MODULES:
            sys.modules.pop(name, None)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def table() -> list[dict[str, str]]:
    return rows_of(TABLE)


# --- committed numbers -----------------------------------------------------------------------------


@pytest.mark.parametrize("row", rows_of(RECIPE / "validation.csv"), ids=lambda row: row["quantity"])
def test_engine_meets_known_numbers(row: dict[str, str]) -> None:
    tolerance = float(row["tolerance_rel"])
    assert float(row["value"]) == pytest.approx(float(row["reference"]), rel=tolerance), row["source"]
    # Not by chance: the statistical uncertainty is well below the tolerance.
    assert float(row["u_mc_rel"]) < 0.5 * tolerance


def test_validation_covers_voxels_balance_and_spheres() -> None:
    quantities = [row["quantity"] for row in rows_of(RECIPE / "validation.csv")]
    assert len(quantities) == 8
    # 177Lu, 4.8 mm, ICRU tissue 1.04 g/mL: 0.1924 and 2.45e-3 mGy/(MBq s).
    references = {row["quantity"]: float(row["reference"]) for row in rows_of(RECIPE / "validation.csv")}
    assert references["voxel S value, self"] == 0.1924
    assert references["voxel S value, face"] == 2.45e-3


def test_true_doses_belong_to_the_truth_of_today(recipe: dict[str, ModuleType]) -> None:
    rows, module = table(), recipe["dose_truth"]
    record = json.loads(RECORD.read_text(encoding="utf-8"))
    cohort = module.Cohort(**yaml.safe_load((RECIPE / "demo.yaml").read_text(encoding="utf-8")))
    assert record["cohort"] == vars(cohort)
    assert record["recipe_version"] == module.RECIPE_VERSION
    today = {tuple(cycle.key.values()): module.organ_truth_sha256(cycle) for cycle in cohort.draw()}
    stored = {(c["site"], c["patient"], c["cycle"]): c["organ_truth_sha256"] for c in record["cycles"]}
    assert stored == today, "the truth has changed: run the recipe again"
    assert {(row["site"], row["patient"], int(row["cycle"])) for row in rows} == set(today)


def test_photons_add_what_they_should(recipe: dict[str, ModuleType]) -> None:
    rows = {(r["site"], r["patient"], int(r["cycle"]), r["region"]): r for r in table()}
    cohort = recipe["dose_truth"].Cohort(**yaml.safe_load((RECIPE / "demo.yaml").read_text(encoding="utf-8")))
    for cycle in cohort.draw():
        for (*key, region), row in rows.items():
            if tuple(key) != tuple(cycle.key.values()):
                continue
            local_gy = local_dose_gy(region_tia_mbq_h(cycle.curves, region), cycle.torso.mass_g(region), cycle.nuclide)
            deficit = local_gy / float(row["absorbed_dose_gy"]) - 1.0
            agent = cycle.patient.pharmaceutical.name.removeprefix("Lu177-")
            organ = LOCAL_DEFICIT[agent].get(region.split("_")[0].removesuffix("s"))
            low, high = organ or (MARROW_DEFICIT if region == MARROW else SMALL_DEFICIT)
            assert low < deficit < high, (key, region)
            assert float(row["u_mc_rel"]) < (U_ORGAN_REL if organ else U_SMALL_REL)


# --- the recipe itself -----------------------------------------------------------------------------


def test_emission_holds_the_listed_energy(recipe: dict[str, ModuleType]) -> None:
    emission, lutetium = recipe["radiation"].emission_of("Lu-177"), nuclide("Lu-177")
    # 147.92 keV of electrons and 35.10 keV of photons per decay.
    assert emission.total_kev == pytest.approx(lutetium.electron_kev + lutetium.photon_kev, rel=1e-9)
    beta, electrons, photons = emission.radiations
    assert min(beta.energy_kev) == 10.0
    assert photons.kev_per_decay == pytest.approx(34.81, abs=0.01)
    assert beta.kev_per_decay + electrons.kev_per_decay == pytest.approx(146.65, abs=0.1)


@pytest.mark.parametrize("radius_voxels", [4.0, 7.3, 14.0])
def test_surface_of_voxels_is_half_as_large_again(recipe: dict[str, ModuleType], radius_voxels: float) -> None:
    axis = np.arange(40) - 19.7
    sphere = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None, :] ** 2 <= radius_voxels**2
    # The mean of |n_x| + |n_y| + |n_z| over all directions is 3/2.
    assert recipe["transport"].step_ratio(sphere) == pytest.approx(1.5, rel=0.01)


def test_surface_of_a_block_is_its_own(recipe: dict[str, ModuleType]) -> None:
    block = np.zeros((50, 50, 50), dtype=np.bool_)
    block[5:45, 5:45, 5:45] = True
    # Rounded edges are all that smoothing changes.
    assert recipe["transport"].step_ratio(block) == pytest.approx(1.0, abs=0.1)


def test_only_what_crosses_the_surface_is_corrected(recipe: dict[str, ModuleType]) -> None:
    radiation, transport = recipe["radiation"], recipe["transport"]
    emission = radiation.Emission(
        (
            radiation.Radiation("beta", "electron", 100.0, (200.0,), (0.5,), False),
            radiation.Radiation("gamma", "photon", 50.0, (200.0,), (0.25,), False),
        ),
        local_kev=2.0,
    )
    # One batch; labels outside and inside. All decays inside: 3 keV leave with electrons, 40 keV as photons.
    deposited = np.array([[[3.0, 97.0]], [[30.0, 10.0]]])
    emitted = np.array([[[0.0, 100.0]], [[0.0, 50.0]]])
    absorbed = transport.Absorbed(deposited, emitted, emission, histories=1)
    energy = absorbed.energy_kev(np.array([0.0, 1.0]), np.array([1.5, 1.5]))
    assert energy[0] == pytest.approx([3.0 / 1.5 + 30.0, 102.0 - 3.0 / 1.5 + 10.0])
    # 142 of 152 keV, whatever the surface.
    assert absorbed.closure == pytest.approx(142.0 / 152.0)
    assert energy.sum() == pytest.approx(142.0)


def test_every_voxel_takes_after_the_inside_of_its_region(recipe: dict[str, ModuleType]) -> None:
    labels = np.zeros((9, 9, 9), dtype=np.uint8)
    labels[2:7, 2:7, 2:7] = 1
    labels[0, 0, 0] = 2
    index = recipe["region_maps"].nearest_inside(labels)
    values = np.arange(labels.size).reshape(labels.shape)
    core = np.zeros_like(labels, dtype=np.bool_)
    core[3:6, 3:6, 3:6] = True
    assert set(values[index][labels == 1]) == set(values[core])
    # Outside, nothing comes from the layer around the region; a region without an inside keeps its own.
    layer = np.zeros_like(core)
    layer[1:8, 1:8, 1:8] = True
    assert not set(values[index][labels == 0]) & set(values[layer])
    assert values[index][0, 0, 0] == values[0, 0, 0]


def test_a_missing_engine_says_how_to_get_it(recipe: dict[str, ModuleType], tmp_path: Path) -> None:
    absent = tmp_path / "engine" / "bin" / "python"
    with pytest.raises(FileNotFoundError, match=r"pip install --requirement .*ompmc\.txt"):
        recipe["transport"].run(None, absent)


@pytest.mark.skipif(not ENGINE_PYTHON.exists(), reason="the engine's environment is not there: envs/ompmc.txt")
def test_engine_run_again_meets_known_numbers(tmp_path: Path) -> None:
    out = tmp_path / "validation.csv"
    command = [sys.executable, "validate.py", "--out", str(out), "--engine-python", str(ENGINE_PYTHON)]
    subprocess.run([*command, "--electrons", "60000", "--photons", "100000"], cwd=RECIPE, check=True)
    for row in rows_of(out):
        # Few histories: three standard deviations on top of the tolerance.
        tolerance = float(row["tolerance_rel"]) + 3.0 * float(row["u_mc_rel"])
        assert float(row["value"]) == pytest.approx(float(row["reference"]), rel=tolerance), row["quantity"]
