"""Sidecars of the export: keys and numbers that the workflow's test cannot tell apart."""

from __future__ import annotations

from typing import Any

import pytest

from doseledger.bids import spect_sidecar

Row = dict[str, Any]
#: 9.2 cps/MBq and voxels of 4.8 mm: the example of `counts_to_bq_per_ml`.
COUNTS: Row = {
    "manufacturer": "Maker",
    "model": None,
    "sensitivity_cps_per_mbq": 9.2,
    "spacing_z_mm": 4.8,
    "spacing_y_mm": 4.8,
    "spacing_x_mm": 4.8,
    "flags": ["no_ct"],
}


def test_the_calibration_factor_takes_counts_per_second_to_bq_per_ml() -> None:
    sidecar = spect_sidecar({}, COUNTS, {"infusion_min": 30.0})
    # 100 counts in 1440 s are 68,253.66 Bq/mL.
    assert 100.0 / 1440.0 * sidecar["DoseCalibrationFactor"] == pytest.approx(68253.66, abs=0.005)
    assert "DoseCalibrationFactor" not in spect_sidecar(
        {}, {**COUNTS, "sensitivity_cps_per_mbq": None}, {"infusion_min": 30.0}
    )


def test_what_is_not_known_is_said_so() -> None:
    sidecar = spect_sidecar({"ReconMethodName": None, "Units": "Bq/mL"}, COUNTS, {"infusion_min": 30.0})
    assert (sidecar["ReconMethodName"], sidecar["ManufacturersModelName"]) == ("n/a", "n/a")
    assert (sidecar["Units"], sidecar["Manufacturer"]) == ("Bq/mL", "Maker")
    assert sidecar["Doseledger"]["flags"] == ["no_ct"]


def test_times_count_from_a_clock_that_is_not_the_hospitals() -> None:
    sidecar = spect_sidecar({"TimeZero": "mid-infusion", "InjectionStart": -900.0}, COUNTS, {"infusion_min": 30.0})
    assert (sidecar["TimeZero"], sidecar["InjectionStart"]) == ("00:00:00", -900.0)
    assert sidecar["ModeOfAdministration"] == "infusion"
    assert spect_sidecar({}, COUNTS, {"infusion_min": 0.0})["ModeOfAdministration"] == "bolus"
