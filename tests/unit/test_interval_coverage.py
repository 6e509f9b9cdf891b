"""The recipe that holds intervals against the truth: what it counts, on tables whose answer is known."""

from __future__ import annotations

import runpy
from math import exp, log, sqrt
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

ROOT = Path(__file__).resolve().parents[2]
KEY = {"site": "B", "patient": "P1", "cycle": 1, "region": "kidney_left"}
#: Calibration error of the camera of site B.
CALIBRATION = 1.03


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "recipes" / "interval_coverage.py"))


def write(work: Path, recipe: dict[str, Any], *, dose_gy: float, low_gy: float, high_gy: float) -> Any:
    """One row of dose whose truth is 2 Gy, 1000 MBq h, 150 g; recovery is 0.96 of the truth at both scans."""
    cohort = recipe["COHORTS"][0]
    assert (cohort.engine, cohort.truth) == ("led", "dose_local_gy")
    folder = work / f"seed-{cohort.seed}"
    folder.mkdir(parents=True)
    dose = KEY | {
        "is_primary": True,
        "protocol": "2tp",
        "absorbed_dose_gy": dose_gy,
        "dose_low_gy": low_gy,
        "dose_high_gy": high_gy,
        "tia_mbq_h": 980.0,
        "mass_g": 153.0,
        "volume_ml": 147.0,
        "partial_volume_method": "gtm",
        "self_recovery": 0.75,
        "spect_fwhm_mm": 11.7,
        "u_absorbed_dose_rel": 0.13,
        "u_calibration_rel": 0.05,
        "u_recovery_rel": 0.07,
        "u_fit_rel": 0.03,
        "u_volume_rel": 0.04,
        "u_dose_factor_rel": 0.05,
    }
    pd.DataFrame([dose, dose | {"is_primary": False, "absorbed_dose_gy": 99.0}]).to_csv(folder / "organ_dose.csv")
    truth = KEY | {"mass_g": 150.0, "volume_ml": 145.0, "tia_mbq_h": 1000.0, "dose_local_gy": 2.0}
    pd.DataFrame([truth | {"absorbed_dose_gy": "n/a"}]).to_csv(folder / "organ_truth.csv")
    scans = [KEY | {"time_point": n, "activity_mbq": 100.0 / n} for n in (1, 2)]
    pd.DataFrame(scans).to_csv(folder / "activity_truth.csv")
    seen = [s | {"activity_corrected_mbq": 0.96 * CALIBRATION * s["activity_mbq"], "activity_mbq": 1.0} for s in scans]
    pd.DataFrame(seen).to_csv(folder / "region_activity.csv")
    return cohort


def test_errors_and_their_parts(recipe: dict[str, Any], tmp_path: Path) -> None:
    cohort = write(tmp_path, recipe, dose_gy=1.8, low_gy=1.4, high_gy=2.3)
    (row,) = recipe["rows_of"](cohort, tmp_path).to_dict("records")
    assert row["group"] == "kidney"
    assert row["error"] == pytest.approx(log(0.9))
    assert row["inside"]
    # The engine is not tested by a truth of its own kind.
    assert row["u_tested"] == pytest.approx(0.12)
    assert row["activity_error"] == pytest.approx(log(0.96))
    assert row["activity_scatter"] == pytest.approx(0.0, abs=1e-12)
    assert row["curve_error"] == pytest.approx(log(0.98 / 0.96 / CALIBRATION))
    assert row["mass_error"] == pytest.approx(log(1.02))
    # Calibration, recovery and fit, and of the volume what it does to the counts.
    assert row["u_tia"] > sqrt(0.05**2 + 0.07**2 + 0.03**2)
    assert row["u_tia"] < 0.12
    assert row["u_volume"] > 0.04


@pytest.mark.parametrize(("high_gy", "inside"), [(2.01, "100 %"), (1.99, "0 %")])
def test_an_interval_holds_the_truth_or_not(
    recipe: dict[str, Any], tmp_path: Path, high_gy: float, inside: str
) -> None:
    rows = recipe["rows_of"](write(tmp_path, recipe, dose_gy=1.8, low_gy=1.5, high_gy=high_gy), tmp_path)
    cells = [cell.strip() for cell in list(recipe["coverage_table"](rows, ["group"]))[-1].split("|")[1:-1]]
    assert cells[:3] == ["kidney", "1", inside]
    assert cells[7] == f"{log(0.9) / 0.12:+.2f}"
    assert float(cells[4]) == pytest.approx(exp(log(0.9)), abs=0.005)


def test_regions_are_grouped(recipe: dict[str, Any]) -> None:
    names = {"kidney_left": "kidney", "lesion_12": "lesion", "lumbar_marrow": "lumbar marrow", "kidneys": "kidneys"}
    assert {name: recipe["group_of"](name) for name in names} == names
