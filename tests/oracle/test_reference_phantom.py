"""Engines against coupled Monte Carlo on a small phantom (recipes/truth/reference_phantom.py).

``engine_differences.csv`` has one row per engine, nuclide and region: how far the region's energy may be from the
reference, and for the simple engines how far it is known to be: a failure that goes away unnoticed is a change too.
"""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from doseledger.dose import REGISTRY, compute_dose
from doseledger.dose.media import MEDIA

FOLDER: Final = Path(__file__).parent
VOXEL_MM: Final = 4.8
AIR_G_PER_ML: Final = 0.001205
#: The statistics of the engine stay far below the tolerances.
PRECISION: Final = 0.005


def _rows(name: str) -> list[dict[str, str]]:
    with (FOLDER / name).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


REFERENCE: Final = {(row["nuclide"], row["region"]): row for row in _rows("reference_phantom.csv")}
DIFFERENCES: Final = _rows("engine_differences.csv")


@cache
def _labels() -> NDArray[np.uint8]:
    with np.load(FOLDER / "reference_phantom.npz") as file:
        return np.asarray(file["labels"])


@cache
def _region_energy(engine: str, nuclide: str) -> tuple[NDArray[np.float64], list[float]]:
    """Energy per label over the energy emitted in the phantom, and its statistical standard deviation."""
    labels = _labels()
    tissues = [row for (name, _), row in REFERENCE.items() if name == nuclide]
    density, tia = np.full(labels.max() + 1, AIR_G_PER_ML), np.zeros(labels.max() + 1)
    for row in tissues:
        density[int(row["label"])] = float(row["density_g_per_ml"])
        tia[int(row["label"])] = float(row["concentration"])
    medium = np.zeros(labels.max() + 1, dtype=np.uint8)
    for row in tissues:
        medium[int(row["label"])] = MEDIA.index(row["medium"])
    dose = compute_dose(
        *(tia[labels] * 1e6, density[labels], VOXEL_MM, nuclide),
        engine=engine,
        material=medium[labels],
        precision=PRECISION,
        labels=labels,
    )
    energy = np.bincount(labels.ravel(), (dose.dose_gy * density[labels]).ravel())
    share = energy / (dose.dose_gy * density[labels]).sum() * dose.energy_balance.absorbed_fraction
    return share, [dose.region_relative_sd([label]) or 0.0 for label in range(len(share))]


def _difference(row: dict[str, str]) -> tuple[float, float]:
    """Of the region's energy from the reference, relative, and its statistical standard deviation."""
    reference = REFERENCE[row["nuclide"], row["region"]]
    share, sd = _region_energy(row["engine"], row["nuclide"])
    label = int(reference["label"])
    expected = float(reference["energy_kev_per_decay"]) / _emitted_kev(row["nuclide"])
    return share[label] / expected - 1.0, float(np.hypot(sd[label], float(reference["u_rel"])))


def _emitted_kev(name: str) -> float:
    from doseledger.nuclides import nuclide

    energy = nuclide(name).in_place
    return energy.electron_kev + energy.photon_kev


@pytest.mark.parametrize("row", DIFFERENCES, ids=lambda row: f"{row['engine']} {row['nuclide']} {row['region']}")
def test_the_region_is_where_it_is_known_to_be(row: dict[str, str]) -> None:
    difference, _ = _difference(row)
    assert difference == pytest.approx(float(row["difference_rel"]), abs=float(row["tolerance"]))
    assert row["source"]


def test_every_region_of_the_phantom_has_a_row_for_pmc() -> None:
    assert {(r["nuclide"], r["region"]) for r in DIFFERENCES if r["engine"] == "pmc"} == set(REFERENCE)
    assert {r["engine"] for r in DIFFERENCES} <= set(REGISTRY)


def test_the_stated_uncertainty_covers_soft_tissue_organs() -> None:
    """The rms over the organs, for the nuclides that the engine is meant for, is what the engine states."""
    organs = [
        r for r in DIFFERENCES if r["engine"] == "pmc" and r["region"] in ("liver", "spleen", "kidneys", "lesion")
    ]
    rms = float(np.sqrt(np.mean([_difference(row)[0] ** 2 for row in organs])))
    assert rms < REGISTRY["pmc"].u_dose_factor_rel
