"""The plan of a cohort: what each stage is told, where it writes, and whose the results are."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from doseledger import steps
from doseledger.cohort import (
    CYCLE_STAGES,
    DETERMINISTIC_ENVIRONMENT,
    LABEL,
    MARKER,
    PATIENT_STAGE,
    Cycle,
    Plan,
    claim_results,
    cohort_inputs,
    course_inputs,
    cycle_folder,
    cycle_targets,
    patient_folder,
    stage_folder,
    stage_version,
    write_atomically,
)
from doseledger.errors import ForeignResultsError

SCAN = {"time_point": 1, "spect": "s1", "ct": "c1", "contours": "r1.dcm", "camera": "NM1"}
CAMERA = {"site": "A", "camera": "NM1", "fwhm_mm": 12.0, "u_calibration_rel": 0.05, "manufacturer": None}
ADMINISTRATION = {"site": "A", "patient": "P1", "cycle": 1, "nuclide": "Lu-177", "measured_activity_mbq": 7400.0}


def cycle(site: str, patient: str, number: int, *, imaged: bool = True, **changed: Any) -> Cycle:
    fields: dict[str, Any] = {
        "administration": ADMINISTRATION | {"site": site, "patient": patient, "cycle": number},
        "scans": (SCAN,) if imaged else (),
        "cameras": (CAMERA,),
        "regions": ({"source_name": "Liver", "region": "liver"},),
        "data_origin": "virtual",
        "base": "/sheets",
    }
    return Cycle(site, patient, number, **fields | changed)


def plan_of(results: Path, *cycles: Cycle, method: str = "hanscheid") -> Plan:
    return Plan(
        cohort="c1",
        results=results,
        settings={"kinetics": {"single_time_point": method, "own_cycle": "earlier"}},
        cycles={c.key: c for c in cycles},
        patients={("A", "P1"): {"site": "A", "patient": "P1", "age_years": 63}},
        limits=({"region": "kidneys"},),
        base=Path("/sheets"),
        data_origin="virtual",
    )


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    cycles = (cycle("A", "P1", 1), cycle("A", "P1", 2, imaged=False), cycle("A", "P2", 1), cycle("B", "P1", 1))
    return plan_of(tmp_path / "results", *cycles)


# What each stage is told --------------------------------------------------------------------------


@pytest.mark.parametrize("stage", CYCLE_STAGES)
def test_every_stage_is_told_its_key_and_plain_data(stage: str) -> None:
    rows = cycle("A", "P1", 2).rows_for(stage)
    assert (rows["site"], rows["patient"], rows["cycle"], rows["data_origin"]) == ("A", "P1", 2, "virtual")
    assert json.loads(json.dumps(rows)) == rows


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"scans": (SCAN | {"contours": "r2.dcm"},)}, {"segment"}),
        ({"scans": (SCAN | {"ct": "c2"},)}, {"ingest"}),
        ({"scans": (SCAN | {"time_point": 2},)}, {"ingest", "segment", "align", "kinetics", "dose"}),
        ({"cameras": (CAMERA | {"manufacturer": "X"},)}, {"ingest"}),
        ({"cameras": (CAMERA | {"u_calibration_rel": 0.1},)}, {"ingest", "dose"}),
        ({"cameras": (CAMERA | {"fwhm_mm": 9.0},)}, {"ingest", "segment", "align", "kinetics", "dose"}),
        ({"cameras": (CAMERA | {"recovery_surface_mm": 2.1},)}, {"kinetics"}),
        ({"regions": ({"source_name": "Leber", "region": "liver"},)}, {"segment"}),
        ({"administration": ADMINISTRATION | {"measured_activity_mbq": 7000.0}}, {"ingest", "kinetics", "dose"}),
        ({"administration": ADMINISTRATION | {"nuclide": "Y-90"}}, {"ingest", "kinetics", "dose"}),
        ({"problems": ({"what": "x"},)}, {"ingest"}),
        ({"curve_models": ({"region": "liver", "model": "bi"},)}, {"kinetics"}),
        ({"blood_samples": ({"time_h": 1.0, "activity_mbq": 0.1},)}, {"kinetics"}),
        ({"person": {"mass_kg": 80.0}}, {"dose"}),
        ({"person": {"height_cm": 180.0}}, set()),
    ],
    ids=lambda value: ", ".join(sorted(value)) or "none",
)
def test_a_stage_is_computed_again_only_for_what_it_reads(changed: dict[str, Any], told: set[str]) -> None:
    before, after = cycle("A", "P1", 1), cycle("A", "P1", 1, **changed)
    different = {stage for stage in CYCLE_STAGES if before.rows_for(stage) != after.rows_for(stage)}
    assert different == told


def test_a_cycle_without_administration_has_no_nuclide() -> None:
    assert cycle("A", "P1", 1, administration=None).rows_for("kinetics")["nuclide"] is None


def test_an_unknown_stage_is_a_defect() -> None:
    with pytest.raises(KeyError):
        cycle("A", "P1", 1).rows_for("magic")


def test_the_course_is_told_of_every_administration(plan: Plan) -> None:
    rows = plan.course_rows("A", "P1")
    assert [a["cycle"] for a in rows["administrations"]] == [1, 2]
    assert rows["cycles"] == [{"cycle": 1, "imaged": True}, {"cycle": 2, "imaged": False}]
    assert rows["person"]["age_years"] == 63
    assert rows["limits"] == [{"region": "kidneys"}]
    assert plan.course_rows("B", "P1")["person"] is None
    assert json.loads(json.dumps(rows)) == rows


# Look-ups and paths -------------------------------------------------------------------------------


def test_look_ups(plan: Plan) -> None:
    assert plan.cycle("A", "P1", "2") is plan.cycle("A", "P1", 2)
    with pytest.raises(KeyError):
        plan.cycle("A", "P9", 1)
    assert [c.key for c in plan.imaged] == [("A", "P1", 1), ("A", "P2", 1), ("B", "P1", 1)]
    assert {k: [c.cycle for c in v] for k, v in plan.by_patient.items()} == {
        ("A", "P1"): [1, 2],
        ("A", "P2"): [1],
        ("B", "P1"): [1],
    }
    assert plan.planned() == [["A", "P1", 1, True], ["A", "P1", 2, False], ["A", "P2", 1, True], ["B", "P1", 1, True]]


def test_every_folder_follows_the_key() -> None:
    assert patient_folder("r", "A", "P1") == Path("r/site-A/sub-P1")
    assert cycle_folder("r", "A", "P1", "2") == cycle_folder(Path("r"), "A", "P1", 2) == Path("r/site-A/sub-P1/ses-c2")
    assert stage_folder("r", "A", "P1", 2, "dose") == Path("r/site-A/sub-P1/ses-c2/dose")


def test_targets_are_the_imaged_cycles_only(plan: Plan) -> None:
    folders = [Path(target).relative_to(plan.results).as_posix() for target in cycle_targets(plan)]
    assert folders == ["site-A/sub-P1/ses-c1/dose", "site-A/sub-P2/ses-c1/dose", "site-B/sub-P1/ses-c1/dose"]


def finish(plan: Plan, *key: Any) -> None:
    for stage in CYCLE_STAGES:
        stage_folder(plan.results, *key, stage).mkdir(parents=True)


def test_a_course_waits_for_its_imaged_cycles_or_takes_those_that_are_there(plan: Plan) -> None:
    plan = plan_of(plan.results, cycle("A", "P1", 1), cycle("A", "P1", 2), cycle("A", "P1", 3, imaged=False))
    both = [stage_folder(plan.results, "A", "P1", n, "dose").as_posix() for n in (1, 2)]
    assert course_inputs(plan, "A", "P1", available=False) == both
    assert course_inputs(plan, "A", "P1", available=True) == []
    finish(plan, "A", "P1", 2)
    assert course_inputs(plan, "A", "P1", available=True) == both[1:]


def test_a_cohort_waits_for_every_course_or_takes_those_that_can_be(plan: Plan) -> None:
    every = plan_of(plan.results, *plan.cycles.values(), cycle("C", "P1", 1, imaged=False))
    courses = [patient_folder(plan.results, *key) / PATIENT_STAGE for key in every.by_patient]
    assert cohort_inputs(every, available=False) == [c.as_posix() for c in courses]
    # Nothing is finished: only the patient who was never imaged has a course.
    assert cohort_inputs(every, available=True) == [courses[3].as_posix()]
    finish(every, "A", "P2", 1)
    assert cohort_inputs(every, available=True) == [courses[1].as_posix(), courses[3].as_posix()]


@pytest.mark.parametrize("label", ["A", "P1", "007", "xY9"])
def test_labels(label: str) -> None:
    assert LABEL.fullmatch(label)


@pytest.mark.parametrize("label", ["", "A-B", "../A", "A B", "A\n", "é", "A_B", "A.B", "\u0661"])
def test_what_is_no_label(label: str) -> None:
    assert not LABEL.fullmatch(label)


# Whose results ------------------------------------------------------------------------------------


def test_a_new_folder_is_marked_and_stays_the_cohorts_own(tmp_path: Path) -> None:
    results = tmp_path / "deep" / "results"
    claim_results(results, "c1")
    mark = (results / MARKER).read_bytes()
    (results / "site-A").mkdir()
    claim_results(results, "c1")
    assert (results / MARKER).read_bytes() == mark
    with pytest.raises(ForeignResultsError, match="another cohort") as caught:
        claim_results(results, "c2")
    assert "found 'c1'; expected 'c2'" in caught.value.sentence


def test_a_folder_with_unmarked_results_is_refused(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("of the user")
    claim_results(tmp_path, "c1")
    (tmp_path / MARKER).unlink()
    (tmp_path / "site-A").mkdir()
    with pytest.raises(ForeignResultsError, match="no cohort mark"):
        claim_results(tmp_path, "c1")
    assert not (tmp_path / MARKER).exists()


def test_a_file_is_replaced_whole_and_nothing_is_left_behind(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    write_atomically(path, "old")
    write_atomically(path, "new µ")
    assert path.read_text(encoding="utf-8") == "new µ"
    assert [p.name for p in tmp_path.iterdir()] == ["plan.json"]


# What every cluster job pays ----------------------------------------------------------------------


def test_the_stage_version_is_read_from_the_source_without_importing_it() -> None:
    folder = Path(steps.__file__).parent
    for stage in (*CYCLE_STAGES, PATIENT_STAGE):
        assert f"STAGE_VERSION: Final[int] = {stage_version(stage)}\n" in (folder / f"{stage}.py").read_text()
    with pytest.raises(FileNotFoundError):
        stage_version("magic")


def test_a_module_without_a_version_is_a_defect() -> None:
    with pytest.raises(LookupError, match="has no STAGE_VERSION"):
        stage_version("layout")


def test_parsing_the_plan_imports_no_library() -> None:
    code = "import sys; import doseledger.cohort; print(*sorted(m.partition('.')[0] for m in sys.modules))"
    loaded = set(
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    )
    assert "doseledger" in loaded
    assert not loaded & {"numpy", "pandas", "pyarrow", "pydantic", "pydicom", "scipy", "SimpleITK", "snakemake", "yaml"}


def test_one_thread_and_one_instruction_set() -> None:
    threads = {k: v for k, v in DETERMINISTIC_ENVIRONMENT.items() if "THREADS" in k}
    assert len(threads) >= 5
    assert set(threads.values()) == {"1"}


def test_a_plan_is_a_value(plan: Plan) -> None:
    assert plan == replace(plan)
    assert plan != replace(plan, cohort="c2")


TWICE = (SCAN, SCAN | {"time_point": 2})


def given(number: int, *, scans: tuple[dict[str, Any], ...] = (SCAN,), drug: str = "Lu177-DOTATATE") -> Cycle:
    own = cycle("A", "P1", number, scans=scans)
    assert own.administration is not None
    return replace(own, administration=own.administration | {"radiopharmaceutical": drug})


def test_donors_are_earlier_cycles_of_the_same_drug_with_more_scans_the_nearest_first(tmp_path: Path) -> None:
    cycles = (
        given(1, scans=TWICE),
        given(2, scans=TWICE, drug="Lu177-PSMA-617"),
        given(3, scans=TWICE),
        given(4),
        given(5),
        given(6, scans=TWICE),
    )
    plan = plan_of(tmp_path, *cycles, method="own_cycle")
    assert [d.cycle for d in plan.donors("A", "P1", 5)] == [3, 1]
    assert [d.cycle for d in plan.donors("A", "P1", 4)] == [3, 1]
    # A cycle with scans of its own takes nothing: jobs never wait for each other in a circle.
    assert plan.donors("A", "P1", 3) == plan.donors("A", "P1", 6) == []
    any_cycle = replace(plan, settings={"kinetics": {"single_time_point": "own_cycle", "own_cycle": "any"}})
    assert [d.cycle for d in any_cycle.donors("A", "P1", 5)] == [6, 3, 1]
    assert [d.cycle for d in any_cycle.donors("A", "P1", 4)] == [3, 6, 1]
    assert plan.donor_folders("A", "P1", 4) == [
        stage_folder(tmp_path, "A", "P1", donor, "kinetics").as_posix() for donor in (3, 1)
    ]
    assert plan_of(tmp_path, *cycles).donors("A", "P1", 5) == []


def test_the_sheet_can_ask_for_donors_where_the_config_does_not(tmp_path: Path) -> None:
    asked = replace(given(2), curve_models=({"region": "liver", "single_time_point": "own_cycle"},))
    plan = plan_of(tmp_path, given(1, scans=TWICE), asked)
    assert [d.cycle for d in plan.donors("A", "P1", 2)] == [1]


def test_a_cycle_is_not_finished_while_the_latest_attempt_at_its_donor_has_failed(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, given(1, scans=TWICE), given(2), method="own_cycle")
    for number in (1, 2):
        for stage in CYCLE_STAGES:
            stage_folder(tmp_path, "A", "P1", number, stage).mkdir(parents=True)
    dose = [stage_folder(tmp_path, "A", "P1", number, "dose").as_posix() for number in (1, 2)]
    assert course_inputs(plan, "A", "P1", available=True) == dose
    failed = cycle_folder(tmp_path, "A", "P1", 1) / ".dose.partial-x"
    failed.mkdir()
    # The dose of the donor is no input of the other cycle.
    assert course_inputs(plan, "A", "P1", available=True) == dose[1:]
    failed.rename(failed.with_name(".align.partial-x"))
    assert course_inputs(plan, "A", "P1", available=True) == []
