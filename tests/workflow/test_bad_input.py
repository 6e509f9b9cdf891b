"""Bad input: each defect is a refused row that says what, where and what to do."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pydicom
import pytest

from doseledger.steps.cohort_page import read_cohort_table

from .conftest import Cohort, write_cohort

pytestmark = pytest.mark.workflow


def spect_files(cycle: Path, time_point: int = 1) -> list[Path]:
    return sorted((cycle / f"tp-{time_point}" / "spect").iterdir())


def edit(path: Path, **values: object) -> None:
    dataset = pydicom.dcmread(path)
    for keyword, value in values.items():
        setattr(dataset, keyword, value)
    dataset.save_as(path)


def edit_cell(sheet: Path, patient: str, column: str, value: str) -> None:
    with sheet.open(newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    for row in rows:
        if row["patient"] == patient:
            row[column] = value
    write_sheet(sheet, rows)


def drop_rows(sheet: Path, patient: str) -> None:
    lines = [line for line in sheet.read_text().splitlines() if f"\t{patient}\t" not in line]
    sheet.write_text("\n".join(lines) + "\n")


def write_sheet(sheet: Path, rows: list[dict[str, str]]) -> None:
    with sheet.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


@dataclass(frozen=True)
class Defect:
    """How a patient's only cycle is spoilt, and what the row must say."""

    spoil: Callable[[Path, Path, str], None]
    code: str
    words: tuple[str, ...]


def gml(cycle: Path, sheets: Path, patient: str) -> None:
    for path in spect_files(cycle):
        edit(path, Units="GML")


def no_units(cycle: Path, sheets: Path, patient: str) -> None:
    for path in spect_files(cycle):
        edit(path, Units="")


def no_administration(cycle: Path, sheets: Path, patient: str) -> None:
    drop_rows(sheets / "administrations.tsv", patient)


def missing_slice(cycle: Path, sheets: Path, patient: str) -> None:
    spect_files(cycle)[7].unlink()


def unequal_slices(cycle: Path, sheets: Path, patient: str) -> None:
    files = spect_files(cycle)
    for path in files[8:]:
        position = pydicom.dcmread(path).ImagePositionPatient
        edit(path, ImagePositionPatient=[position[0], position[1], float(position[2]) + 6.0])


def late_injection(cycle: Path, sheets: Path, patient: str) -> None:
    edit_cell(sheets / "administrations.tsv", patient, "injection_start", "2031-01-01T09:00:00")
    # Samples before the injection would be found first.
    drop_rows(sheets / "blood_samples.tsv", patient)


def two_patients(cycle: Path, sheets: Path, patient: str) -> None:
    edit(spect_files(cycle)[3], PatientID="SOMEBODY-ELSE")


def truncated(cycle: Path, sheets: Path, patient: str) -> None:
    victim = spect_files(cycle)[5]
    victim.write_bytes(victim.read_bytes()[:-400])


def gbq_in_mbq(cycle: Path, sheets: Path, patient: str) -> None:
    edit_cell(sheets / "administrations.tsv", patient, "measured_activity_mbq", "7.4")
    edit_cell(sheets / "administrations.tsv", patient, "residual_activity_mbq", "0.05")


def no_folder(cycle: Path, sheets: Path, patient: str) -> None:
    shutil.rmtree(cycle / "tp-1" / "spect")


def other_contours(cycle: Path, sheets: Path, patient: str) -> None:
    dataset = pydicom.dcmread(cycle / "tp-1" / "rtstruct.dcm")
    for item in dataset.StructureSetROISequence:
        item.ReferencedFrameOfReferenceUID = "2.25.1"
    dataset.save_as(cycle / "tp-1" / "rtstruct.dcm")


SPECT = "tp-1/spect"
DEFECTS = {
    "gml": Defect(gml, "unit_unknown", (SPECT, "(0054,1001)", "GML", "Bq/mL")),
    "no_units": Defect(no_units, "unit_unknown", (SPECT, "(0054,1001)", "Bq/mL")),
    "no_administration": Defect(no_administration, "administration_missing", ("administrations.tsv", "Add the")),
    "missing_slice": Defect(missing_slice, "slices_missing", (SPECT, "again")),
    "unequal_slices": Defect(unequal_slices, "geometry_invalid", (SPECT, "again")),
    "late_injection": Defect(late_injection, "time_invalid", (SPECT, "injection_start", "before the injection")),
    "two_patients": Defect(two_patients, "series_mixed", (SPECT, "(0010,0020)", "folder of its own")),
    "truncated": Defect(truncated, "file_unreadable", ("pt-0006.dcm", "Export the file again")),
    "gbq_in_mbq": Defect(gbq_in_mbq, "sheet_invalid", ("administrations.tsv", "measured_activity_mbq", "GBq")),
    "no_folder": Defect(no_folder, "input_missing", (SPECT, "scans.tsv")),
    "other_contours": Defect(other_contours, "contours_invalid", ("rtstruct.dcm", "(3006,0024)")),
}


@pytest.fixture(scope="module")
def spoilt(tmp_path_factory: pytest.TempPathFactory) -> Cohort:
    """One patient per defect and a good one, run together."""
    count = len(DEFECTS) + 1
    folder = tmp_path_factory.mktemp("spoilt")
    cohort = write_cohort(folder, sites=1, patients=count, cycles=1, seed=8, plant_refusal=False)
    sheets = cohort.config.parent
    for number, defect in enumerate(DEFECTS.values(), start=1):
        defect.spoil(sheets / f"dicom/site-A/sub-P{number}/ses-c1", sheets, f"P{number}")
    done = cohort.run()
    assert done.returncode == 0, done.stdout + done.stderr
    return cohort


@pytest.mark.parametrize("name", DEFECTS)
def test_defect_is_a_refused_row(spoilt: Cohort, name: str) -> None:
    number = list(DEFECTS).index(name) + 1
    rows = read_cohort_table(spoilt.results / "cohort", "stage_outcome")
    row = next(r for r in rows if r["patient"] == f"P{number}" and r["stage"] == "dose")
    assert (row["status"], row["code"]) == ("refused", DEFECTS[name].code), row
    for part in (*DEFECTS[name].words, f"patient P{number}", "cycle 1"):
        assert part in row["sentence"], row["sentence"]
    assert row["file"] is not None
    assert "SOMEBODY-ELSE" not in row["sentence"]
    assert "2031" not in row["sentence"]


def test_the_good_patient_is_not_touched(spoilt: Cohort) -> None:
    doses = read_cohort_table(spoilt.results / "cohort", "organ_dose")
    assert {row["patient"] for row in doses} == {f"P{len(DEFECTS) + 1}"}


def test_check_says_the_same_before_any_job(spoilt: Cohort) -> None:
    done = spoilt.call("doseledger.cli", "check", str(spoilt.config))
    assert done.returncode == 1
    rows = read_cohort_table(spoilt.results / "cohort", "stage_outcome")
    refused = {(r["code"], r["sentence"]) for r in rows if r["stage"] == "dose" and r["status"] == "refused"}
    said = [line for line in done.stdout.splitlines() if ": " in line]
    assert sorted(said) == sorted(f"{code}: {sentence}" for code, sentence in refused)
    assert f"{len(DEFECTS)} problems" in done.stdout


def test_a_wrong_column_refuses_every_cycle_and_names_the_right_one(tiny: Callable[..., Cohort]) -> None:
    cohort = tiny()
    sheet = cohort.config.parent / "administrations.tsv"
    sheet.write_text(sheet.read_text().replace("measured_activity_mbq", "measured_activity_gbq"))
    done = cohort.run()
    assert done.returncode == 0, done.stdout
    row = next(r for r in read_cohort_table(cohort.results / "cohort", "stage_outcome") if r["stage"] == "ingest")
    assert (row["status"], row["code"], row["tag"]) == ("refused", "sheet_invalid", "measured_activity_gbq")
    for part in ("administrations.tsv", "measured_activity_mbq", "patient P1", "cycle 1", "config/README.md"):
        assert part in row["sentence"]
