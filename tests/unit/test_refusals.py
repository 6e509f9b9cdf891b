"""Every refusal has a code, an entry in docs/refusals.md, and a scenario that really provokes it."""

from __future__ import annotations

import errno
import json
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace
from typing import Final
from unittest.mock import patch

import numpy as np
import pytest
from typer.testing import CliRunner

from doseledger import errors
from doseledger.activity import Calibration
from doseledger.cli import app
from doseledger.cohort import claim_results
from doseledger.dose import compute_dose
from doseledger.errors import DoseledgerError, RecordedError
from doseledger.io.dicom import open_ct, open_spect, read_ct, read_spect
from doseledger.io.phantoms import read_phantom_scans
from doseledger.io.priors import read_prior
from doseledger.io.tables import table
from doseledger.launch.lock import only_run
from doseledger.launch.orphans import live_jobs
from doseledger.launch.room import check_folder
from doseledger.merge import merge
from doseledger.nuclides import nuclide
from doseledger.refusals import REFUSALS, refusals_page
from doseledger.regions import RegionSpec
from doseledger.registration import register_rigid
from doseledger.segmentation.contours import label_map_from_contours
from doseledger.segmentation.labels import DrawnOn
from doseledger.segmentation.tasks import class_names
from doseledger.segmentation.weights import find_weights
from doseledger.steps import segment
from doseledger.steps.cross_check import check_cycle
from doseledger.steps.stage import Job, run_stage
from doseledger.submission import Sharing, write_submission

from .dicom_factory import FRAME, UID, Edit, grid_of, put, write_ct, write_pet, write_rtstruct
from .nm_factory import SCATTER, write_nm_image
from .seg_factory import write_seg
from .sheet_factory import Cohort

ROOT: Final = Path(__file__).parents[2]
SPECT: Final = Path("t1/spect")
CT: Final = Path("t1/ct")
GRID: Final = grid_of()
LIVER: Final = RegionSpec(1, "liver", "organ")
MASK: Final = np.ones(GRID.shape, bool)


def _set(**values: object) -> Edit:
    return lambda dataset, z: put(dataset, **values)


def _checked(cohort: Cohort) -> None:
    """What ingest does first with the sheets of a cycle."""
    plan = cohort.load()
    check_cycle(
        plan.cycle("A", "P1", 1).rows_for("ingest"), plan.settings["ingest"], open_spect=open_spect, open_ct=open_ct
    )


def sheet_invalid() -> None:
    cohort = Cohort(Path())
    cohort.set("administrations", 1, "measured_activity_mbq", "7.4")
    _checked(cohort)


def administration_missing() -> None:
    cohort = Cohort(Path())
    del cohort.rows["administrations"][1]
    _checked(cohort)


def input_missing() -> None:
    read_spect(SPECT)


def file_unreadable() -> None:
    path = write_ct(CT)[1]
    path.write_bytes(path.read_bytes()[:-20])
    read_ct(CT)


def modality_unsupported() -> None:
    write_nm_image(SPECT / "nm.dcm", edit=lambda d: put(d, ImageType=["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"]))
    read_spect(SPECT)


def series_mixed() -> None:
    write_ct(CT, edit=lambda d, z: put(d, SeriesInstanceUID=f"{UID}.{8 + z // 3}"))
    read_ct(CT)


def unit_unknown() -> None:
    write_pet(SPECT, edit=_set(Units="GML"))
    read_spect(SPECT)


def energy_window_unclear() -> None:
    write_nm_image(SPECT / "nm.dcm", windows=(SCATTER, (130.0, 150.0)))
    calibration = Calibration(9.2, "system", "cylinder", date(2023, 12, 1), detectors=2)
    read_spect(SPECT, calibration=calibration, nuclide=nuclide("Lu-177"))


def slices_missing() -> None:
    write_ct(CT, n=9)[4].unlink()
    read_ct(CT)


def geometry_invalid() -> None:
    write_ct(CT, edit=_set(GantryDetectorTilt=12.0))
    read_ct(CT)


def tag_missing() -> None:
    write_nm_image(SPECT / "nm.dcm", edit=lambda d: put(d, SpacingBetweenSlices=None, SliceThickness=None))
    read_spect(SPECT)


def _one_scan(**change: object) -> None:
    write_pet(SPECT)
    administration = {
        "nuclide": "Lu-177",
        "injection_start": "2024-01-02T08:00:00",
        "infusion_min": 30.0,
        "measured_activity_mbq": 7400.0,
        "residual_activity_mbq": 50.0,
        "time_zone": None,
        **change,
    }
    rows = {
        "problems": [],
        "base": "",
        "administration": administration,
        "cameras": [{"camera": "PT1", "sensitivity_cps_per_mbq": None}],
        "scans": [{"time_point": 1, "spect": str(SPECT), "ct": None, "camera": "PT1"}],
    }
    settings = {"activity_tolerance_rel": 0.05, "injection_tolerance_min": 15.0}
    check_cycle(rows, settings, open_spect=open_spect, open_ct=open_ct)


def time_invalid() -> None:
    _one_scan(injection_start="2024-01-03T08:00:00")


def header_contradicts_sheet() -> None:
    _one_scan(measured_activity_mbq=6000.0)


def _label_map(path: Path, **other: str) -> None:
    uids = {"series_uid": f"{UID}.2", "frame_of_reference_uid": FRAME} | other
    label_map_from_contours(path, [DrawnOn("CT", GRID, **uids)], {"liver": LIVER}, str(path))


def contours_invalid() -> None:
    square = [(-5.0, 22.0, -296.0), (0.0, 22.0, -296.0), (0.0, 30.0, -296.0)]
    _label_map(write_rtstruct(Path("t1/organs.dcm"), {"liver": [square]}), frame_of_reference_uid="1.2.3")


def segmentation_invalid() -> None:
    _label_map(write_seg(Path("t1/organs.dcm"), {"liver": MASK}, GRID), series_uid="1.2.3")


def quantity_invalid() -> None:
    write_pet(SPECT, edit=_set(ActualFrameDuration=0))
    read_spect(SPECT)


def nuclide_unknown() -> None:
    cohort = Cohort(Path())
    cohort.set("administrations", 1, "nuclide", "Lu-999")
    _checked(cohort)


def registration_failed() -> None:
    """A second time point without any content."""
    register_rigid(
        np.full(GRID.shape, 100.0, np.float32), GRID, np.zeros(GRID.shape, np.float32), GRID, metric="mean_squares"
    )


def segmentation_refused() -> None:
    class_names("tissue_types")


def rejected_in_review() -> None:
    row = {"time_point": 1, "decision": "reject", "reviewer": "Reader 1", "comment": "left kidney cut off"}
    segment.step(Job({}, Path("segment"), {}, {"review": [row]}))


def weights_unusable() -> None:
    find_weights(Path("weights"), "total")


def phantom_unusable() -> None:
    row = {
        "site": "A",
        "camera": "NM1",
        "data_origin": "patient",
        "phantom": "nema",
        "spect": "nema/spect",
        "body": "sphere_37mm",
        "shape": "sphere",
        "size_mm": "18.5",
        "volume_ml": "26.5",
        "nuclide": "Lu-177",
        "activity_mbq": "30",
        "activity_time": "2024-01-02T08:00:00",
        "u_activity_rel": "0.02",
    }
    Path("phantoms.tsv").write_text("\t".join(row) + "\n" + "\t".join(row.values()) + "\n")
    read_phantom_scans(Path("phantoms.tsv"))


def prior_invalid() -> None:
    Path("prior.json").write_text('{"schema_version": 2}', encoding="utf-8")
    read_prior("prior.json")


def name_unknown() -> None:
    compute_dose(np.ones((1, 1, 1)), np.ones((1, 1, 1)), 4.8, "Lu-177", engine="magic")


def results_foreign() -> None:
    claim_results(Path("results"), "first")
    claim_results(Path("results"), "second")


def identifying_content() -> None:
    rows = [{"site": "A", "patient": "P1", "diagnosis": "ileum NET 2024-05-03"}]
    tables = {"patient": table("patient", rows)}
    write_submission(Path("site.zip"), tables, Sharing(), site="A", source="ledger", settings={})


def submission_invalid() -> None:
    Path("site.zip").write_bytes(b"PK\x03\x04 and no more")
    merge([Path("site.zip")], Path("cohort"))


def results_in_use() -> None:
    owner = {"host": "node12", "pid": 4711, "since": "2026-03-02T18:30:00+01:00"}
    Path("results/.run").mkdir(parents=True)
    Path("results/.run/owner.json").write_text(json.dumps(owner))
    with only_run(Path("results"), take_over=False, tell=print):
        pass


def results_not_writable() -> None:
    # Nothing is read-only to the superuser, who may run the tests.
    error = OSError(errno.EROFS, "Read-only file system", "results")
    with patch("tempfile.TemporaryFile", side_effect=error):
        Path("results").mkdir()
        check_folder(Path("results"))


def disk_full() -> None:
    with patch("shutil.disk_usage", return_value=SimpleNamespace(free=3_000_000)):
        check_folder(Path("results"))


def jobs_alive() -> None:
    said = subprocess.CalledProcessError(1, "squeue", stderr="Unable to contact slurm controller\n")
    with patch("subprocess.run", side_effect=said):
        live_jobs("doseledger-1")


SCENARIOS: Final[tuple[Callable[[], None], ...]] = (
    sheet_invalid,
    administration_missing,
    input_missing,
    file_unreadable,
    modality_unsupported,
    series_mixed,
    unit_unknown,
    energy_window_unclear,
    slices_missing,
    geometry_invalid,
    tag_missing,
    time_invalid,
    header_contradicts_sheet,
    contours_invalid,
    segmentation_invalid,
    quantity_invalid,
    nuclide_unknown,
    registration_failed,
    segmentation_refused,
    rejected_in_review,
    weights_unusable,
    phantom_unusable,
    prior_invalid,
    name_unknown,
    results_foreign,
    identifying_content,
    submission_invalid,
    results_in_use,
    results_not_writable,
    disk_full,
    jobs_alive,
)

BY_CODE: Final = {refusal.code: refusal for refusal in REFUSALS}
CODES: Final = sorted(
    kind.code
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, DoseledgerError) and kind not in (DoseledgerError, RecordedError)
)
#: What no stage refuses a cycle with.
OF_COMMANDS: Final = {
    *("phantom_unusable", "name_unknown", "results_foreign", "identifying_content", "submission_invalid"),
    *("results_in_use", "results_not_writable", "disk_full", "jobs_alive"),
}
COMMANDS: Final = {"camera", "run", "simulate", "compare", "submit", "merge", "import-results"}


def test_no_code_lacks_a_scenario_or_an_entry() -> None:
    assert sorted(scenario.__name__ for scenario in SCENARIOS) == CODES
    assert sorted(refusal.code for refusal in REFUSALS) == CODES


def test_the_source_knows_no_refusal_without_a_code_of_its_own() -> None:
    """Kinds are defined in errors.py alone, and nobody raises the class above them."""
    names = {kind.__name__ for kind in (DoseledgerError, RecordedError, *(r.kind for r in REFUSALS))}
    for path in (ROOT / "src").rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"raise DoseledgerError\(", text), path
        if path.name != "errors.py":
            assert not names & set(re.findall(r"^class \w+\((\w+)\)", text, re.MULTILINE)), path


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_scenario_says_what_the_page_says(
    scenario: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(DoseledgerError) as caught:
        scenario()
    refusal = BY_CODE[scenario.__name__]
    assert caught.value.code == refusal.code
    if refusal.code not in OF_COMMANDS:
        caught.value.within("site A, patient P1, cycle 1")
    assert caught.value.sentence == refusal.example
    assert refusal.example.endswith(caught.value.advice)


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
def test_the_refusal_reaches_the_outcome_of_a_stage(
    scenario: Callable[[], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    module = SimpleNamespace(STAGE_VERSION=1, TAKES_REFUSED=False, step=lambda job: scenario())
    monkeypatch.setitem(sys.modules, "doseledger.steps.spoilt", module)
    key = {"site": "A", "patient": "P1", "cycle": 1}
    run_stage("spoilt", inputs={}, output=tmp_path / "out/spoilt", settings={}, rows=key)
    outcome = json.loads((tmp_path / "out/spoilt/outcome.json").read_text(encoding="utf-8"))
    assert (outcome["status"], outcome["code"], outcome["origin_stage"]) == ("refused", scenario.__name__, "spoilt")
    for part in ("site A, patient P1, cycle 1", outcome["file"], outcome["tag"]):
        assert part is None or part in outcome["sentence"]
    assert [p.name for p in (tmp_path / "out/spoilt").iterdir()] == ["outcome.json"]


def test_the_page_is_in_step() -> None:
    assert (ROOT / "docs/refusals.md").read_text(encoding="utf-8") == refusals_page(), "run `doseledger schemas`"


def test_the_page_names_stages_and_commands_that_exist() -> None:
    known = {command.name or command.callback.__name__ for command in app.registered_commands if command.callback}
    known |= {path.stem for path in (ROOT / "src/doseledger/steps").glob("*.py")}
    for refusal in REFUSALS:
        assert set(refusal.where) <= known
        assert (set(refusal.where) <= COMMANDS) == (refusal.code in OF_COMMANDS)


def test_a_command_that_is_refused_says_the_sentence(tmp_path: Path) -> None:
    (tmp_path / "phantoms.tsv").write_text("site\n", encoding="utf-8")
    done = CliRunner().invoke(app, ["camera", str(tmp_path), "--out", str(tmp_path / "cameras.tsv")])
    assert done.exit_code == 2
    assert "phantoms.tsv" in done.stderr
    assert "Traceback" not in done.stderr
