"""A whole virtual cohort: same bytes, sheets, headers, images against the truth, planted facts."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from datetime import datetime, timedelta
from hashlib import sha256
from math import exp, log
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
import yaml
from pydicom.dataset import Dataset

from doseledger.errors import ForeignResultsError, QuantityError, UnknownNameError
from doseledger.io.sheets import load_plan
from doseledger.phantom import simulate
from doseledger.phantom.design import refused_cycle, site_named
from doseledger.phantom.patients import draw_patient
from doseledger.phantom.sheets import write_sheet

Row = dict[str, str]

COLUMNS = {
    "scans": "site patient cycle time_point spect ct contours camera",
    "administrations": "site patient cycle radiopharmaceutical nuclide injection_start infusion_min "
    "measured_activity_mbq residual_activity_mbq preparation extravasation",
    "patients": "site patient sex age_years mass_kg height_cm diagnosis kidney_function_band prior_therapy "
    "prior_kidney_dose_gy",
    "cameras": "site camera manufacturer model collimator u_calibration_rel fwhm_mm sensitivity_cps_per_mbq "
    "sensitivity_geometry sensitivity_date sensitivity_basis detectors energy_window_kev dead_time_us",
    "regions": "source_name region kind sct_code laterality part_of alpha_beta_gy repair_half_time_h",
    "limits": "region quantity limit_gy source",
    "blood_samples": "site patient cycle sample_time concentration_kbq_per_ml decay_reference matrix "
    "u_concentration_rel u_calibration_rel haematocrit",
}
TRUTH_COLUMNS = {
    "organ_truth": "site patient cycle region mass_g volume_ml tia_mbq_h dose_local_gy absorbed_dose_gy u_mc_rel "
    "effective_half_life_h",
    "marrow_truth": "site patient cycle marrow_method mass_g marrow_factor tia_mbq_h dose_self_gy",
    "activity_truth": "site patient cycle time_point region time_h activity_mbq",
    "pose_truth": "site patient cycle time_point shift_x_mm shift_y_mm shift_z_mm rotation_z_deg spect_minus_ct_z_mm "
    "spect_minus_ct_x_mm spect_minus_ct_y_mm spect_minus_ct_rotation_deg kidneys_spect_minus_ct_z_mm "
    "breathing_range_mm since_void_h",
    "planted": "site patient cycle fact detail",
}
REFUSED = ("A", "P1", "2")
LU_RATE_PER_S = log(2.0) / 574300.0
#: Of the camera of site B, as its sheet states it.
SENSITIVITY_CPS_PER_MBQ = 8.4


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("cohort")
    config = simulate(out, sites=3, patients=1, cycles=2, seed=7, size="micro", cohort="virtual7")
    assert config == out / "config.yaml"
    return out


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first patient and cycle of the same cohort, without a planted refusal."""
    out = tmp_path_factory.mktemp("single")
    simulate(out, sites=1, patients=1, cycles=1, seed=7, size="micro", plant_refusal=False)
    return out


def rows_of(path: Path) -> list[Row]:
    delimiter = "\t" if path.suffix == ".tsv" else ","
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def header_of(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()[0].split("\t" if path.suffix == ".tsv" else ",")


def slices_of(folder: Path) -> list[Dataset]:
    return sorted((pydicom.dcmread(f) for f in folder.iterdir()), key=lambda d: float(d.ImagePositionPatient[2]))


def first_header(folder: Path) -> Dataset:
    return pydicom.dcmread(min(folder.iterdir()), stop_before_pixels=True)


def values_of(slices: list[Dataset]) -> np.ndarray:
    return np.stack([d.pixel_array * float(d.RescaleSlope) + float(d.RescaleIntercept) for d in slices])


@dataclass(frozen=True)
class Stored:
    """Activity at scan start as stored, decoded here from the tags alone; steps and place of voxel 0 in LPS order."""

    bq_per_ml: np.ndarray
    origin_mm: np.ndarray
    step_mm: np.ndarray

    @property
    def total_mbq(self) -> float:
        return float(self.bq_per_ml.sum()) * float(np.prod(self.step_mm)) / 1000.0 / 1.0e6


def pt_of(folder: Path) -> Stored:
    """Bq/mL, referred to the start of the injection."""
    slices = slices_of(folder)
    header = slices[0]
    assert (header.Units, header.DecayCorrection) == ("BQML", "ADMIN")
    drug = header.RadiopharmaceuticalInformationSequence[0]
    injected = datetime.strptime(drug.RadiopharmaceuticalStartDateTime, "%Y%m%d%H%M%S")
    since_s = (moment(header.AcquisitionDate, header.AcquisitionTime) - injected).total_seconds()
    origin = np.array(header.ImagePositionPatient, dtype=float)
    step_mm = [*header.PixelSpacing, float(slices[1].ImagePositionPatient[2]) - origin[2]]
    return Stored(values_of(slices) * exp(-LU_RATE_PER_S * since_s), origin, np.array(step_mm, dtype=float))


def nm_of(folder: Path) -> tuple[Dataset, np.ndarray, np.ndarray, np.ndarray, float]:
    """Header, frames of the first window from feet to head, place and steps, and what decay left out of the mean."""
    header = pydicom.dcmread(folder / "nm.dcm")
    detector = header.DetectorInformationSequence[0]
    slices = int(header.NumberOfSlices)
    frames = header.pixel_array[:slices].astype(float)
    origin = np.array(detector.ImagePositionPatient, dtype=float)
    step_z = float(header.SpacingBetweenSlices)
    if step_z < 0.0:
        frames, origin[2] = frames[::-1], origin[2] + (slices - 1) * step_z
    views = int(header.RotationInformationSequence[0].NumberOfFramesInRotation)
    duration_s = float(header.RotationInformationSequence[0].ActualFrameDuration) / 1000.0 * views
    step_mm = np.array([*header.PixelSpacing, abs(step_z)], dtype=float)
    return header, frames, origin, step_mm, duration_s


def counts_of(folder: Path) -> Stored:
    header, frames, origin, step_mm, duration_s = nm_of(folder)
    assert header.NumberOfEnergyWindows == 2
    # Two heads, each of which takes half of the views at the same time.
    in_scan = LU_RATE_PER_S * duration_s / 2.0
    counts_per_bq = SENSITIVITY_CPS_PER_MBQ / 1.0e6 * duration_s / 2.0 * (1.0 - exp(-in_scan)) / in_scan
    return Stored(frames / counts_per_bq / float(np.prod(step_mm) / 1000.0), origin, step_mm)


def mapped_of(folder: Path) -> Stored:
    header, frames, origin, step_mm, duration_s = nm_of(folder)
    mapping = header.RealWorldValueMappingSequence[0]
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "Bq/ml"
    in_scan = LU_RATE_PER_S * duration_s
    scale = float(mapping.RealWorldValueSlope) * in_scan / (1.0 - exp(-in_scan))
    return Stored(frames * scale, origin, step_mm)


#: How each site stores SPECT.
STORED = {"A": pt_of, "B": counts_of, "C": mapped_of}


def hashes_of(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()).hexdigest() for path in files}


def moment(date: str, time: str) -> datetime:
    return datetime.strptime(date + time, "%Y%m%d%H%M%S")


def test_the_same_arguments_give_the_same_bytes(single: Path, tmp_path: Path) -> None:
    simulate(tmp_path, sites=1, patients=1, cycles=1, seed=7, size="micro", plant_refusal=False)
    hashes = hashes_of(single)
    assert len(hashes) == 4 * (28 + 24 + 1) + 14
    assert hashes_of(tmp_path) == hashes


def test_a_larger_cohort_holds_the_smaller_one(cohort: Path, single: Path) -> None:
    assert hashes_of(single / "dicom").items() <= hashes_of(cohort / "dicom").items()


def test_another_seed_gives_another_cohort() -> None:
    one, other = (draw_patient(seed, "A", "P1") for seed in (7, 8))
    assert one.torso.volume_ml("liver") != other.torso.volume_ml("liver")
    assert one.person.uptake_factor["liver"] != other.person.uptake_factor["liver"]


def test_config_has_the_agreed_keys_and_nothing_else(cohort: Path) -> None:
    config = yaml.safe_load((cohort / "config.yaml").read_text(encoding="utf-8"))
    assert config == {
        "cohort": "virtual7",
        "results": "../results",
        "data_origin": "virtual",
        "sheets": {name: f"{name}.tsv" for name in COLUMNS},
    }


@pytest.mark.parametrize("name", COLUMNS)
def test_sheets_have_the_agreed_columns(cohort: Path, name: str) -> None:
    path = cohort / f"{name}.tsv"
    assert header_of(path) == COLUMNS[name].split()
    rows = rows_of(path)
    assert rows
    assert all(value for row in rows for value in row.values())


@pytest.mark.parametrize("name", TRUTH_COLUMNS)
def test_truth_has_the_agreed_columns(cohort: Path, name: str) -> None:
    assert header_of(cohort / "truth" / f"{name}.csv") == TRUTH_COLUMNS[name].split()


def test_sites_scan_as_designed(cohort: Path) -> None:
    counts: dict[tuple[str, str], int] = {}
    for row in rows_of(cohort / "scans.tsv"):
        counts[row["site"], row["cycle"]] = counts.get((row["site"], row["cycle"]), 0) + 1
    assert counts == {("A", "1"): 4, ("A", "2"): 4, ("B", "1"): 3, ("B", "2"): 2, ("C", "1"): 1, ("C", "2"): 2}
    times = {
        (row["site"], row["cycle"], row["time_point"]): float(row["time_h"])
        for row in rows_of(cohort / "truth" / "activity_truth.csv")
    }
    for time_point, nominal_h in zip("1234", (4.0, 24.0, 96.0, 168.0), strict=True):
        assert times["A", "1", time_point] == pytest.approx(nominal_h, abs=2.1)
    assert times["C", "1", "1"] == pytest.approx(48.0, abs=2.1)
    assert site_named("F").nominal_times_h(0, 1) == (48.0,)
    # A second patient has the schedules the other way round.
    assert site_named("B").nominal_times_h(1, 1) == (24.0, 96.0)


def test_administrations_are_as_ordered(cohort: Path) -> None:
    rows = rows_of(cohort / "administrations.tsv")
    assert len(rows) == 6
    drugs = {row["site"]: (row["radiopharmaceutical"], row["infusion_min"], row["preparation"]) for row in rows}
    assert drugs["A"] == drugs["B"] == ("Lu177-DOTATATE", "30", "amino acid infusion")
    assert drugs["C"] == ("Lu177-PSMA-617", "10", "intravenous fluids")
    for row in rows:
        assert float(row["measured_activity_mbq"]) == pytest.approx(7400.0, rel=0.051)
        assert 20.0 < float(row["residual_activity_mbq"]) < 80.0
        assert datetime.fromisoformat(row["injection_start"]).year == 2025
    first, second = (datetime.fromisoformat(r["injection_start"]) for r in rows if r["site"] == "A")
    assert (second.date() - first.date()) == timedelta(weeks=8)


def test_headers_agree_with_the_sheets(cohort: Path) -> None:
    administrations = {(r["site"], r["patient"], r["cycle"]): r for r in rows_of(cohort / "administrations.tsv")}
    patients = {(r["site"], r["patient"]): r for r in rows_of(cohort / "patients.tsv")}
    times = {
        (r["site"], r["patient"], r["cycle"], r["time_point"]): float(r["time_h"])
        for r in rows_of(cohort / "truth" / "activity_truth.csv")
    }
    for row in rows_of(cohort / "scans.tsv"):
        key = (row["site"], row["patient"], row["cycle"])
        given, person = administrations[key], patients[key[:2]]
        header = first_header(cohort / row["spect"])
        drug = header.RadiopharmaceuticalInformationSequence[0]
        assert header.PatientName == f"VIRTUAL^{row['site']}^{row['patient']}"
        assert header.PatientID == f"VIRTUAL-{row['site']}-{row['patient']}"
        assert float(header.PatientWeight) == float(person["mass_kg"])
        assert float(header.PatientSize) == float(person["height_cm"]) / 100.0
        assert header.PatientSex == person["sex"]
        assert int(header.PatientAge[:3]) == int(person["age_years"])
        injection = datetime.fromisoformat(given["injection_start"])
        net_mbq = float(given["measured_activity_mbq"]) - float(given["residual_activity_mbq"])
        # PET headers state Bq, NM headers MBq; NM headers state the start without its date.
        unit, clock = (1.0e6, "%Y%m%d%H%M%S") if row["site"] == "A" else (1.0, "%H%M%S")
        assert float(drug.RadionuclideTotalDose) == pytest.approx(net_mbq * unit, rel=1e-9)
        stated = drug.RadiopharmaceuticalStartDateTime if row["site"] == "A" else drug.RadiopharmaceuticalStartTime
        assert stated == injection.strftime(clock)
        started = moment(header.AcquisitionDate, header.AcquisitionTime)
        mid_infusion = injection + timedelta(minutes=float(given["infusion_min"]) / 2.0)
        assert (started - mid_infusion) / timedelta(hours=1) == pytest.approx(times[*key, row["time_point"]], rel=1e-7)
        if row["site"] == "A":
            assert int(drug.RadionuclideHalfLife) == 574300
            assert header.DecayCorrection == "ADMIN"


def test_images_hold_the_true_activity_times_the_calibration_error(cohort: Path) -> None:
    truth = {
        (r["site"], r["patient"], r["cycle"], r["time_point"], r["region"]): float(r["activity_mbq"])
        for r in rows_of(cohort / "truth" / "activity_truth.csv")
    }
    calibration = {
        r["site"]: float(r["detail"])
        for r in rows_of(cohort / "truth" / "planted.csv")
        if r["fact"] == "calibration_factor"
    }
    assert calibration == {"A": 1.00, "B": 1.03, "C": 0.97}
    checked = 0
    for row in rows_of(cohort / "scans.tsv"):
        key = (row["site"], row["patient"], row["cycle"], row["time_point"])
        if key[:3] == REFUSED:
            continue
        stored = STORED[row["site"]](cohort / row["spect"])
        expected_mbq = truth[*key, "whole_field"] * calibration[row["site"]]
        # Counting noise of the whole field.
        assert stored.total_mbq == pytest.approx(expected_mbq, rel=0.015), key
        organs = {region: mbq for (*scan, region), mbq in truth.items() if tuple(scan) == key}
        parts = sum(mbq for region, mbq in organs.items() if region not in ("kidneys", "whole_field"))
        assert parts < organs["whole_field"]
        checked += 1
    assert checked == 4 + 5 + 3


@pytest.mark.parametrize("site", ["A", "B", "C"])
def test_the_right_kidney_is_on_the_right_in_the_image(cohort: Path, site: str) -> None:
    """Activity inside each kidney's outlines, by nothing but tags: a swap or a flip would show."""
    row = next(r for r in rows_of(cohort / "scans.tsv") if (r["site"], r["cycle"]) == (site, "1"))
    stored = STORED[site](cohort / row["spect"])
    image = stored.bq_per_ml
    structure = pydicom.dcmread(cohort / row["contours"])
    names = {roi.ROINumber: roi.ROIName for roi in structure.StructureSetROISequence}
    for roi in structure.ROIContourSequence:
        points = np.concatenate([np.array(c.ContourData, dtype=float).reshape(-1, 3) for c in roi.ContourSequence])
        centre = points.mean(axis=0)
        x, y, z = (round(float(v)) for v in (centre - stored.origin_mm) / stored.step_mm)
        name = names[roi.ReferencedROINumber]
        if name.startswith(("Kidney", "Liver", "Spleen")):
            assert image[z, y, x] > 2.0 * np.median(image[z][image[z] > 0.0]), name
        if name in ("Kidney R", "Liver"):
            assert centre[0] < 0.0
        if name in ("Kidney L", "Spleen"):
            assert centre[0] > 0.0


def test_outlines_are_those_of_the_region_sheet(cohort: Path) -> None:
    known = {row["source_name"]: row["region"] for row in rows_of(cohort / "regions.tsv")}
    truth = {
        site: {r["region"] for r in rows_of(cohort / "truth" / "organ_truth.csv") if r["site"] == site}
        for site in "ABC"
    }
    for row in rows_of(cohort / "scans.tsv"):
        structure = pydicom.dcmread(cohort / row["contours"])
        drawn = {known[str(roi.ROIName)] for roi in structure.StructureSetROISequence}
        assert drawn == truth[row["site"]] - {"kidneys"}
    assert "parotid_left" in truth["C"] - truth["A"]


def test_pose_truth_says_how_organs_moved(cohort: Path) -> None:
    for row in rows_of(cohort / "truth" / "pose_truth.csv"):
        numbers = {name: float(value) for name, value in row.items() if name not in ("site", "patient")}
        # The kidneys move 0.6 times as far as the liver with the breath of the CT; the patient moves as a whole.
        breath_mm = (numbers["kidneys_spect_minus_ct_z_mm"] - numbers["spect_minus_ct_z_mm"]) / 0.4
        assert -6.0 - 1e-6 <= breath_mm <= 9.0 + 1e-6
        assert 7.0 <= numbers["breathing_range_mm"] <= 17.0
        assert 0.2 <= numbers["since_void_h"] <= 1.4


def test_facts_about_patients_are_planted(cohort: Path) -> None:
    planted = rows_of(cohort / "truth" / "planted.csv")
    courses = {r["site"]: r["detail"] for r in planted if r["fact"] == "lesion_course"}
    assert set(courses) == {"A", "B", "C"}
    for site, detail in courses.items():
        patient = draw_patient(7, site, "P1")
        assert detail.startswith(f"{patient.person.course}: lesion_1 {patient.torso.lesions[0].place}")
        facts = {r["fact"] for r in planted if (r["site"], r["patient"]) == (site, "P1")}
        assert ("one_kidney" in facts) == (len(patient.torso.kidney_sides) == 1)
        assert ("contrast_medium" in facts) == patient.torso.contrast


def test_frames_of_reference_and_references(cohort: Path) -> None:
    frames, instances = [], []
    for row in rows_of(cohort / "scans.tsv"):
        ct = slices_of(cohort / row["ct"])
        spect = [pydicom.dcmread(file, stop_before_pixels=True) for file in (cohort / row["spect"]).iterdir()]
        structure = pydicom.dcmread(cohort / row["contours"])
        frame = ct[0].FrameOfReferenceUID
        assert {d.FrameOfReferenceUID for d in (*ct, *spect)} == {frame}
        assert structure.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID == frame
        heights = {d.SOPInstanceUID: float(d.ImagePositionPatient[2]) for d in ct}
        for roi in structure.ROIContourSequence:
            for contour in roi.ContourSequence:
                assert contour.ContourGeometricType == "CLOSED_PLANAR"
                assert contour.NumberOfContourPoints * 3 == len(contour.ContourData) >= 3 * 4
                uid = contour.ContourImageSequence[0].ReferencedSOPInstanceUID
                assert float(contour.ContourData[2]) == pytest.approx(heights[uid], abs=1e-3)
        frames.append(frame)
        instances += [d.SOPInstanceUID for d in (*ct, *spect, structure)]
    assert len(set(frames)) == len(frames)
    assert len(set(instances)) == len(instances)
    assert all(uid.startswith("2.25.") and len(uid) <= 64 for uid in instances)


def test_ct_is_hounsfield_in_twelve_bits(cohort: Path) -> None:
    row = rows_of(cohort / "scans.tsv")[0]
    slices = slices_of(cohort / row["ct"])
    image = values_of(slices)
    assert slices[0].RescaleType == "HU"
    assert image.min() >= -1024.0
    assert np.median(image[:, :4, :]) == pytest.approx(-1000.0, abs=3.0)
    assert 150.0 < image.max() < 1000.0
    # A reconstruction of 500 mm.
    assert slices[0].Rows * float(slices[0].PixelSpacing[0]) == pytest.approx(500.0)


def test_exactly_one_cycle_is_planted_to_be_refused(cohort: Path) -> None:
    planted = [r for r in rows_of(cohort / "truth" / "planted.csv") if r["fact"] == "units_gml"]
    assert [(r["site"], r["patient"], r["cycle"]) for r in planted] == [REFUSED]
    units = {}
    for row in rows_of(cohort / "scans.tsv"):
        key = (row["site"], row["patient"], row["cycle"], row["time_point"])
        header = first_header(cohort / row["spect"])
        units[key] = header.Units if header.Modality == "PT" else header.Modality
    assert {key for key, unit in units.items() if unit == "GML"} == {(*REFUSED, "1")}
    assert {(key[0], unit) for key, unit in units.items()} == {("A", "BQML"), ("A", "GML"), ("B", "NM"), ("C", "NM")}


def test_suv_scales_by_mass_over_activity(single: Path, tmp_path: Path) -> None:
    simulate(tmp_path, sites=1, patients=1, cycles=1, seed=7, size="micro")
    folder = "dicom/site-A/sub-P1/ses-c1/tp-1/spect"
    as_suv, as_activity = slices_of(tmp_path / folder), slices_of(single / folder)
    assert (as_suv[0].SUVType, as_activity[0].Units) == ("BW", "BQML")
    assert as_suv[0].SOPInstanceUID != as_activity[0].SOPInstanceUID
    ratio = float(values_of(as_suv).sum() / values_of(as_activity).sum())
    dose_bq = float(as_suv[0].RadiopharmaceuticalInformationSequence[0].RadionuclideTotalDose)
    assert ratio == pytest.approx(float(as_suv[0].PatientWeight) * 1000.0 / dose_bq, rel=1e-4)
    assert not [r for r in rows_of(single / "truth" / "planted.csv") if r["fact"] == "units_gml"]


def test_refused_cycle_is_the_last_of_site_a() -> None:
    assert refused_cycle(2, 3) == ("A", "P2", 3)


def test_truth_rows_are_consistent(cohort: Path) -> None:
    rows = {(r["site"], r["cycle"], r["region"]): r for r in rows_of(cohort / "truth" / "organ_truth.csv")}
    for site in "ABC":
        both = rows[site, "1", "kidneys"]
        parts = [rows[site, "1", side] for side in ("kidney_left", "kidney_right") if (site, "1", side) in rows]
        for column in ("mass_g", "volume_ml", "tia_mbq_h"):
            assert float(both[column]) == pytest.approx(sum(float(part[column]) for part in parts), rel=1e-6)
        # 177Lu: 0.08532 Gy g/(MBq h) of electrons.
        expected_gy = float(both["tia_mbq_h"]) * 0.08532 / float(both["mass_g"])
        assert float(both["dose_local_gy"]) == pytest.approx(expected_gy, rel=2e-4)
        assert 1.0 < float(both["dose_local_gy"]) < 10.0
        lesion = [float(rows[site, cycle, "lesion_1"]["tia_mbq_h"]) for cycle in "12"]
        assert lesion[0] != pytest.approx(lesion[1], rel=0.01)
        liver = rows[site, "1", "liver"]
        assert float(liver["mass_g"]) == pytest.approx(1.06 * float(liver["volume_ml"]), rel=1e-6)
    assert {r["region"] for r in rows.values() if r["site"] == "C"} >= {
        "parotid_left",
        "submandibular_right",
        "lumbar_marrow",
    }


def test_one_site_takes_blood_and_its_samples_hold_the_true_curve(cohort: Path) -> None:
    """The sheet makes a plan, and its samples, brought to mid-infusion, integrate to the truth within noise."""
    plan = load_plan(yaml.safe_load((cohort / "config.yaml").read_text()), cohort)
    assert {key[0] for key, cycle in plan.cycles.items() if cycle.blood_samples} == {"A"}
    truth = {(r["site"], r["cycle"], r["marrow_method"]): r for r in rows_of(cohort / "truth" / "marrow_truth.csv")}
    assert {method for _, _, method in truth} == {"image", "blood"}
    for number in (1, 2):
        samples = plan.cycle("A", "P1", number).blood_samples
        assert [round(s["time_h"]) for s in samples[1:]] == [1, 2, 4, 24, 96]
        assert plan.cycle("A", "P1", number).problems == ()
        blood = truth["A", str(number), "blood"]
        per_ml = float(blood["tia_mbq_h"]) / float(blood["mass_g"])
        times = np.array([s["time_h"] for s in samples])
        values = np.array([s["activity_mbq"] for s in samples])
        # The integral between the samples alone is less than the whole, and most of it.
        assert 0.5 < np.trapezoid(values, times) / per_ml < 1.6


def test_no_times_outside_the_study(cohort: Path) -> None:
    for row in rows_of(cohort / "scans.tsv"):
        for folder in (row["ct"], row["spect"]):
            header = first_header(cohort / folder)
            assert header.StudyDate.startswith("2025")
            assert header.StudyTime == "080000"
            assert "InstanceCreationDate" not in header


def test_a_folder_with_a_cohort_is_not_overwritten(cohort: Path) -> None:
    with pytest.raises(ForeignResultsError, match=r"config\.yaml.*empty folder"):
        simulate(cohort, size="micro")


@pytest.mark.parametrize("counts", [{"sites": 0}, {"sites": 27}, {"patients": 0}, {"cycles": 6}])
def test_impossible_cohorts_are_refused(tmp_path: Path, counts: dict[str, Any]) -> None:
    with pytest.raises(QuantityError, match=rf"number of {next(iter(counts))} .*found {next(iter(counts.values()))}"):
        simulate(tmp_path / "none", **counts)
    assert not (tmp_path / "none").exists()


def test_an_unknown_size_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="huge"):
        simulate(tmp_path, size="huge")  # type: ignore[arg-type]


def test_a_row_with_an_unknown_column_is_a_defect(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="colour"):
        write_sheet(tmp_path, "limits", [{"region": "kidneys", "colour": "red"}])
