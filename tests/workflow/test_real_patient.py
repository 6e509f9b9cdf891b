"""Two real scans of a 177Lu-DOTATATE patient, from DICOM to the ledger, as `make real` runs them.

Numbers: Dewaraja and Van, University of Michigan, doi 10.7302/0n8e-rz46 (CC BY-NC 4.0, not in the
repository), and the analysis of the same scans by PyTheranostics (Apache-2.0).
"""

from __future__ import annotations

import os
import runpy
import subprocess
from pathlib import Path

import pytest

from doseledger.steps.cohort_page import read_cohort_table

from .conftest import ROOT, Cohort

pytestmark = pytest.mark.workflow

#: Whole-field activity at scan start, MBq, by an independent code; relative tolerance of its digits.
TOTAL_MBQ = (1328.7776, 883.018816)
TOTAL_TOLERANCE_REL = 1e-5
#: Hours after injection. The independent code dropped the fraction of a second (0.715 s = 2e-4 h).
TIME_H = (3.741111, 27.725278)
TIME_TOLERANCE_H = 2.5e-4


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory, data_folder: Path) -> Cohort:
    folder = tmp_path_factory.mktemp("real")
    write_sheets = runpy.run_path(str(ROOT / "recipes/umich_lu177.py"))["write_sheets"]
    config = write_sheets(data_folder / "lu177_spect_umich", folder / "input", "../results")
    cohort = Cohort(folder, config)
    done = cohort.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return cohort


def test_activities_and_times_are_those_of_the_independent_code(real: Cohort) -> None:
    rows = read_cohort_table(real.results / "cohort", "acquisition")
    assert [row["total_activity_mbq"] for row in rows] == pytest.approx(TOTAL_MBQ, rel=TOTAL_TOLERANCE_REL)
    assert [row["time_h"] for row in rows] == pytest.approx(TIME_H, abs=TIME_TOLERANCE_H)
    assert {row["decay_correction_in_header"] for row in rows} == {"ADMIN"}
    assert all("no_ct" in row["flags"] for row in rows)


def test_lesions_have_activities_and_doses_with_their_flags(real: Cohort) -> None:
    activities = read_cohort_table(real.results / "cohort", "region_activity")
    # Sums over the masks of the two outlines, as the reader's own oracle test finds them.
    first = {r["region"]: r["activity_mbq"] for r in activities if r["time_point"] == 1}
    assert first["lesion_1"] == pytest.approx(120.3, abs=0.1)
    assert first["lesion_2"] == pytest.approx(4.15, abs=0.01)
    for row in read_cohort_table(real.results / "cohort", "organ_dose"):
        assert {"no_ct", "extrapolated", "low", "rate_at_bound"} <= set(row["flags"])
        as_measured = row["partial_volume_method"] == "none"
        assert ("no_partial_volume_correction" if as_measured else "histogram_not_corrected") in row["flags"]
        assert row["mass_source"] == "assumed_soft_tissue"
        assert row["mass_g"] == pytest.approx(1.04 * row["volume_ml"])
        assert row["protocol"] == "2tp"
        assert row["dose_low_gy"] < row["absorbed_dose_gy"] < row["dose_high_gy"]


def test_the_whole_field_of_two_scans_is_saturated_and_extrapolated(real: Cohort) -> None:
    curves = {r["region"]: r for r in read_cohort_table(real.results / "cohort", "curve") if r["chosen"]}
    whole = curves["whole_field"]
    assert (whole["status"], whole["dof"]) == ("saturated", 0)
    assert whole["extrapolated_fraction"] > 0.5
    assert whole["effective_half_life_h"] < 159.528


def test_the_ledger_holds_no_date_name_or_uid_of_the_patient(real: Cohort) -> None:
    for path in sorted((real.results / "cohort").rglob("*.parquet")):
        content = path.read_bytes()
        for planted in (b"2018", b"ANON54121", b"DOE^JOHN", b"2.16.840.1.114362"):
            assert planted not in content, (path.name, planted)


def test_without_the_data_make_real_says_where_to_get_it(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "real"],
        cwd=ROOT,
        env=os.environ | {"DOSELEDGER_DATA": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode != 0
    assert "10.7302/0n8e-rz46" in done.stdout
