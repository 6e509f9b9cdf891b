"""The ingest stage with NM images: the camera sheet becomes the calibration, the header is cross-checked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pydicom import dcmread

from doseledger.io.models import Camera, Config
from doseledger.io.nifti import read_image
from doseledger.io.tables import read_rows
from doseledger.nuclides import nuclide
from doseledger.phantom.dialects import DIALECTS, SpectFacts, store_spect
from doseledger.phantom.samples import SAMPLE_GRID, SAMPLE_INJECTION, SAMPLE_START, sample_reading, sample_visit
from doseledger.steps.stage import run_stage

from .dicom_factory import put

Row = dict[str, Any]
#: As the sheets give it; the sample's header says 7350 MBq at 09:05.
ADMINISTRATION = {
    "radiopharmaceutical": "Lu177-DOTATATE",
    "nuclide": "Lu-177",
    "injection_start": "2025-04-07T09:05:00",
    "infusion_min": 30.0,
    "measured_activity_mbq": 7400.0,
    "residual_activity_mbq": 50.0,
    "time_zone": None,
}
SETTINGS = Config.model_validate(
    {
        "cohort": "test",
        "results": "results",
        "data_origin": "virtual",
        "sheets": {n: f"{n}.tsv" for n in ("scans", "administrations", "cameras", "regions")},
    }
).stage_settings()["ingest"]


def _camera(dialect: str, **change: object) -> Row:
    columns = DIALECTS[dialect].camera_columns(sample_visit("ingest").camera)
    row = {"site": "A", "camera": "NM1", "u_calibration_rel": 0.05, "fwhm_mm": 12.0, **columns, **change}
    return Camera.model_validate({k: v for k, v in row.items() if v is not None}).model_dump(mode="json")


def _ingest(tmp_path: Path, dialect: str, *, camera: Row | None = None, **change: object) -> Row:
    scans = []
    for point in (1, 2):
        visit = sample_visit(f"ingest/{point}")
        later = replace(visit, scan_start=SAMPLE_START + timedelta(days=3 * (point - 1)))
        folder = tmp_path / f"tp-{point}"
        if not folder.exists():
            store_spect(folder, sample_reading(), SAMPLE_GRID, SpectFacts(later, SAMPLE_INJECTION), dialect)
        scans.append({"time_point": point, "spect": folder.name, "ct": None, "contours": None, "camera": "NM1"})
    rows = {
        "site": "A",
        "patient": "P1",
        "cycle": 1,
        "administration": {**ADMINISTRATION, **change},
        "scans": scans,
        "cameras": [camera or _camera(dialect)],
        "base": str(tmp_path),
        "data_origin": "virtual",
        "problems": [],
    }
    return run_stage("ingest", inputs={}, output=tmp_path / "out" / "ingest", settings=SETTINGS, rows=rows)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_every_dialect_becomes_the_same_image(tmp_path: Path, dialect: str) -> None:
    outcome = _ingest(tmp_path, dialect)
    assert outcome["status"] == "ok", outcome
    rows = read_rows(tmp_path / "out" / "ingest", "acquisition")
    # 24 h 15 min after the start of the infusion, that is 24 h after its middle.
    assert [row["time_h"] for row in rows] == pytest.approx([24.0, 96.0])
    array, grid = read_image(min((tmp_path / "out" / "ingest").rglob("*spect.nii.gz")))
    assert grid.same_as(SAMPLE_GRID)
    # Half a count of 629 Bq/mL is the coarsest rounding.
    assert np.allclose(array, sample_reading(), rtol=1e-5, atol=330.0)


def test_the_calibration_is_in_the_table(tmp_path: Path) -> None:
    _ingest(tmp_path, "nm-counts")
    first, second = read_rows(tmp_path / "out" / "ingest", "acquisition")
    assert (first["sensitivity_cps_per_mbq"], first["sensitivity_geometry"]) == (9.2, "cylinder")
    assert (first["sensitivity_basis"], first["dead_time_factor"]) == ("system", None)
    # Calibrated on 2025-03-03, scanned on 2025-04-08 and 2025-04-11.
    assert (first["sensitivity_age_days"], second["sensitivity_age_days"]) == (36, 39)
    assert first["duration_s"] == 1440.0
    assert first["decay_correction_in_header"] == "NONE"
    assert "views_counted_over_all_detectors" in first["flags"]


def test_what_stays_in_the_syringe_is_not_administered(tmp_path: Path) -> None:
    _ingest(tmp_path, "nm-counts")
    (before, _), folder = read_rows(tmp_path / "out/ingest", "acquisition"), tmp_path / "out/ingest"
    assert before["u_calibration_rel"] == 0.05
    assert json.loads((folder / "sub-P1_ses-c1_run-1_spect.json").read_text())["InjectedRadioactivity"] == 7350.0
    # 24.25 h after the start of the infusion, that is 24 h after its middle.
    left_mbq = 7350.0 * 0.5 ** (24.0 / nuclide("Lu-177").half_life_h)
    assert before["total_fraction_of_administered"] == pytest.approx(before["total_activity_mbq"] / left_mbq, rel=1e-12)
    assert _again(tmp_path, residual_activity_mbq=3725.0)["status"] == "ok"
    after = read_rows(folder, "acquisition")[0]
    assert after["total_activity_mbq"] == before["total_activity_mbq"]
    assert after["total_fraction_of_administered"] == pytest.approx(2.0 * before["total_fraction_of_administered"])
    assert "more_activity_than_administered" not in after["flags"]


@pytest.mark.parametrize(("share", "flagged"), [(1.09, False), (1.11, True)])
def test_more_activity_than_was_given_is_flagged(tmp_path: Path, share: float, flagged: bool) -> None:
    _ingest(tmp_path, "nm-counts")
    row = read_rows(tmp_path / "out/ingest", "acquisition")[0]
    given_mbq = 7350.0 * row["total_fraction_of_administered"] / share
    assert _again(tmp_path, residual_activity_mbq=7400.0 - given_mbq)["status"] == "ok"
    flags = read_rows(tmp_path / "out/ingest", "acquisition")[0]["flags"]
    assert ("more_activity_than_administered" in flags) == flagged


@pytest.mark.parametrize("dialect", ["pt-bqml", "nm-rwv"])
def test_images_in_bq_per_ml_have_no_calibration(tmp_path: Path, dialect: str) -> None:
    _ingest(tmp_path, dialect, camera=_camera("nm-counts"))
    row = read_rows(tmp_path / "out" / "ingest", "acquisition")[0]
    assert (row["sensitivity_cps_per_mbq"], row["sensitivity_age_days"]) == (None, None)


@pytest.mark.parametrize(
    ("change", "code", "fragments"),
    [
        ({"sensitivity_cps_per_mbq": None}, "unit_unknown", ["sensitivity of the camera is not given", "tp-1"]),
        ({"sensitivity_basis": None}, "sheet_invalid", ["NM1 has a sensitivity", "cameras.tsv", "sensitivity_basis"]),
        ({"sensitivity_date": None}, "sheet_invalid", ["cameras.tsv", "sensitivity_date"]),
        ({"sensitivity_geometry": None}, "sheet_invalid", ["cameras.tsv", "sensitivity_geometry"]),
        ({"detectors": None}, "tag_missing", ["number of detectors", "column detectors"]),
        ({"detectors": 7}, "time_invalid", ["do not fit the arc"]),
        ({"energy_window_kev": "101.6-124.2"}, "energy_window_unclear", ["101.6-124.2 keV"]),
        ({"dead_time_us": 0.2}, "tag_missing", ["CountsAccumulated (0018,0070)"]),
    ],
)
def test_an_incomplete_camera_sheet_refuses_counts(
    tmp_path: Path, change: dict[str, object], code: str, fragments: list[str]
) -> None:
    outcome = _ingest(tmp_path, "nm-counts", camera=_camera("nm-counts", **change))
    assert (outcome["status"], outcome["code"]) == ("refused", code)
    for fragment in fragments:
        assert fragment in json.dumps(outcome)


def test_the_declared_window_of_the_sheet_is_used(tmp_path: Path) -> None:
    outcome = _ingest(tmp_path, "nm-counts", camera=_camera("nm-counts", energy_window_kev="187.6-229.2"))
    assert outcome["status"] == "ok"


@pytest.mark.parametrize(
    ("start", "status"),
    [
        ("2025-04-07T09:15:00", "ok"),
        # The header has no date: another day with the same time of day cannot be noticed here.
        ("2025-04-06T09:00:00", "ok"),
        ("2025-04-07T09:25:00", "refused"),
        ("2025-04-07T21:05:00", "refused"),
    ],
)
def test_the_time_of_day_of_the_injection_is_cross_checked(tmp_path: Path, start: str, status: str) -> None:
    outcome = _ingest(tmp_path, "nm-counts", injection_start=start)
    assert outcome["status"] == status
    if status == "refused":
        assert outcome["code"] == "header_contradicts_sheet"
        assert "RadiopharmaceuticalStartTime (0018,1072)" in outcome["sentence"] + str(outcome["tag"])


def test_midnight_does_not_separate_two_times(tmp_path: Path) -> None:
    _ingest(tmp_path, "nm-counts")
    for path in tmp_path.glob("tp-*/nm.dcm"):
        header = dcmread(path)
        put(header.RadiopharmaceuticalInformationSequence[0], RadiopharmaceuticalStartTime="235800")
        header.save_as(path)
    assert _again(tmp_path, injection_start="2025-04-07T00:03:00")["status"] == "ok"
    assert _again(tmp_path, injection_start="2025-04-07T00:20:00")["status"] == "refused"


def test_another_nuclide_in_the_header_is_flagged(tmp_path: Path) -> None:
    _ingest(tmp_path, "nm-counts")
    for path in tmp_path.glob("tp-*/nm.dcm"):
        header = dcmread(path)
        drug = header.RadiopharmaceuticalInformationSequence[0]
        drug.Radiopharmaceutical = "99mTc-MDP"
        drug.RadionuclideCodeSequence[0].CodeMeaning = "^99m^Technetium"
        header.save_as(path)
    assert _again(tmp_path)["status"] == "ok"
    assert "nuclide_in_header_differs" in read_rows(tmp_path / "out" / "ingest", "acquisition")[0]["flags"]


def test_the_activity_in_mbq_is_cross_checked(tmp_path: Path) -> None:
    outcome = _ingest(tmp_path, "nm-counts", measured_activity_mbq=6800.0)
    assert (outcome["code"], outcome["tag"]) == ("header_contradicts_sheet", "RadionuclideTotalDose (0018,1074)")


def _again(tmp_path: Path, **change: object) -> Row:
    shutil.rmtree(tmp_path / "out")
    return _ingest(tmp_path, "nm-counts", **change)
