"""Stage ``segment`` in-process: contours, a model beside them, the gate, demo marks, and the review."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import yaml

from doseledger.cohort import Row, segment_mem_mb
from doseledger.errors import SheetError, WeightsError
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, write_image
from doseledger.io.sheets import load_plan
from doseledger.io.tables import read_rows
from doseledger.phantom import simulate
from doseledger.regions import RegionSpec
from doseledger.segmentation import backends
from doseledger.segmentation.demo_weights import unpack_demo_weights
from doseledger.segmentation.labels import Named, paint
from doseledger.segmentation.tasks import class_names
from doseledger.segmentation.totalsegmentator import Request, Segmentation
from doseledger.steps.mask_sheet import FILE as SHEET
from doseledger.steps.preflight import Depth, preflight
from doseledger.steps.specs import demo_marks
from doseledger.steps.stage import run_stage

CLASSES = class_names("total")
NUMBER = {name: number for number, name in CLASSES.items()} | {"lumbar_marrow": 29}
#: What the simulated model finds, by the names of the region sheet.
FOUND = ("kidney_left", "kidney_right", "liver", "spleen")
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A micro patient with two cycles, the first one ingested."""
    folder = tmp_path_factory.mktemp("segment")
    simulate(folder / "input", sites=1, patients=1, cycles=2, seed=3, size="micro")
    cycle = plan_of(folder).cycle("A", "P1", 1)
    settings = {"activity_tolerance_rel": 0.05, "injection_tolerance_min": 15.0}
    outcome = run_stage("ingest", inputs={}, output=folder / "ingest", settings=settings, rows=cycle.rows_for("ingest"))
    assert outcome["status"] == "ok"
    return folder


def plan_of(folder: Path, **segment: Any) -> Any:
    config = yaml.safe_load((folder / "input/config.yaml").read_text())
    config["results"] = "../results"
    config["segment"] = segment
    if (folder / "input/review.tsv").exists():
        config["sheets"]["review"] = "review.tsv"
    return load_plan(config, folder / "input")


def segmented(cohort: Path, out: Path, *, review: list[Row] | None = None, **settings: Any) -> Row:
    """Outcome of the segment stage of cycle 1."""
    plan = plan_of(cohort, **settings)
    rows = plan.cycle("A", "P1", 1).rows_for("segment") | {"review": review or []}
    return run_stage(
        "segment", inputs={"ingest": (cohort / "ingest",)}, output=out, settings=plan.settings["segment"], rows=rows
    )


def regions(out: Path) -> dict[tuple[int, str], Row]:
    return {(row["time_point"], row["region"]): row for row in read_rows(out, "region")}


@pytest.fixture(scope="module")
def drawn(cohort: Path) -> Path:
    out = cohort / "drawn"
    assert segmented(cohort, out)["status"] == "ok"
    return out


@pytest.fixture
def model(drawn: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Request]]:
    """TotalSegmentator with the drawn masks as its answer; returns the list of what it is asked."""

    def install(*, found: tuple[str, ...] = FOUND, virtual_only: bool = True) -> list[Request]:
        asked: list[Request] = []

        def segment_cts(request: Request) -> Segmentation:
            asked.append(request)
            request.out.mkdir(parents=True)
            labels = {}
            for key in request.cts:
                values, grid = read_image(drawn / f"sub-P1_ses-c1_run-{key}_dseg.nii.gz")
                specs = json.loads((drawn / "labels.json").read_text())["regions"]
                own = np.zeros(values.shape, np.uint8)
                for spec in specs:
                    if spec["region"] in found:
                        own[values == spec["label"]] = NUMBER[spec["region"]]
                labels[key] = request.out / f"{key}.nii.gz"
                write_image(labels[key], own, grid, dtype="uint8")
            empty = frozenset(key for key in labels if not found)
            return Segmentation(labels, dict(CLASSES), empty, "f" * 64, virtual_only, {}, {}, {})

        monkeypatch.setattr(backends, "segment_cts", segment_cts)
        return asked

    return install


def test_drawn_outlines_have_their_source_and_a_sheet(drawn: Path) -> None:
    rows = regions(drawn)
    kidney = rows[1, "kidney_left"]
    assert (kidney["region_source"], kidney["device"], kidney["weights_sha256"]) == ("contours", None, None)
    assert (kidney["review_status"], kidney["manual_edit"]) == ("not_reviewed", False)
    assert rows[1, "kidneys"]["region_source"] == "contours"
    assert (drawn / SHEET).read_bytes().startswith(PNG)
    assert demo_marks(drawn) == []


def test_a_model_gives_organs_and_the_structure_set_the_rest(
    cohort: Path, drawn: Path, tmp_path: Path, model: Callable[..., list[Request]]
) -> None:
    asked = model()
    outcome = segmented(cohort, tmp_path / "segment", source="totalsegmentator", mode="fastest", weights="weights")
    assert outcome["status"] == "ok", outcome["sentence"]
    (request,) = asked
    assert set(request.cts) == {"1", "2", "3", "4"}
    assert (request.mode, request.data_origin, request.device, request.threads) == ("fastest", "virtual", "cpu", 1)
    assert set(request.roi_subset) == set(FOUND)
    assert request.weights_folder == cohort / "input" / "weights"
    rows, own = regions(tmp_path / "segment"), regions(drawn)
    for point in (1, 2, 3, 4):
        for region in FOUND:
            row = rows[point, region]
            assert (row["region_source"], row["device"]) == ("totalsegmentator", "cpu")
            assert row["weights_sha256"] == "f" * 64
            assert "demo_weights" in row["flags"]
        for region in ("lesion_1", "lumbar_marrow"):
            assert rows[point, region]["region_source"] == "contours"
            assert rows[point, region]["volume_ml"] == own[point, region]["volume_ml"]
            assert "demo_weights" not in rows[point, region]["flags"]
        assert "region_not_found" not in rows[point, "whole_field"]["flags"]
    assert demo_marks(tmp_path / "segment") == ["demo_weights"]
    assert (tmp_path / "segment" / SHEET).read_bytes() != (drawn / SHEET).read_bytes()
    assert not list((tmp_path / "segment").glob(".*"))


def test_marrow_is_the_inside_of_the_vertebrae_that_a_model_finds(
    cohort: Path, drawn: Path, tmp_path: Path, model: Callable[..., list[Request]]
) -> None:
    asked = model(found=("liver", "lumbar_marrow"))
    sheet = cohort / "input/regions.tsv"
    kept = sheet.read_text()
    sheet.write_text(f"{kept}vertebrae_L3\tlumbar_marrow\tmarrow\tn/a\tn/a\tn/a\tn/a\tn/a\n")
    try:
        outcome = segmented(cohort, tmp_path / "segment", source="totalsegmentator")
    finally:
        sheet.write_text(kept)
    assert outcome["status"] == "ok", outcome["sentence"]
    assert "vertebrae_L3" in asked[0].roi_subset
    rows, own = regions(tmp_path / "segment"), regions(drawn)
    for point in (1, 2, 3, 4):
        marrow = rows[point, "lumbar_marrow"]
        assert marrow["region_source"] == "totalsegmentator"
        # The margin is half a voxel of these CTs.
        assert 0.0 < marrow["volume_ml"] <= own[point, "lumbar_marrow"]["volume_ml"]
        # Kidneys and spleen are classes of the model: they do not come from the structure set instead.
        assert (point, "spleen") not in rows
        assert "region_not_found" in rows[point, "whole_field"]["flags"]


def test_threads_and_a_gpu_that_the_scheduler_grants_reach_the_model(
    cohort: Path, tmp_path: Path, model: Callable[..., list[Request]]
) -> None:
    asked = model()
    plan = plan_of(cohort, source="totalsegmentator", mode="fastest")
    rows = plan.cycle("A", "P1", 1).rows_for("segment")
    for gpus, device in ((1, "gpu"), (0, "cpu")):
        out = tmp_path / device
        settings = plan.settings["segment"]
        granted = {"threads": 3, "gpus": gpus}
        run_stage(
            "segment", inputs={"ingest": (cohort / "ingest",)}, output=out, settings=settings, rows=rows, **granted
        )
        assert (asked[-1].threads, asked[-1].device) == (3, device)
        assert regions(out)[1, "liver"]["device"] == device


def test_bowel_is_the_sum_of_its_parts_with_their_caveat(cohort: Path, drawn: Path, tmp_path: Path) -> None:
    """Drawn as a label map of one time point, with names that the sheet maps."""
    image = nib.load(drawn / "sub-P1_ses-c1_run-2_dseg.nii.gz")
    labels = np.zeros(image.shape, np.uint8)
    labels[20:24, 20:24, 5:8], labels[26:30, 20:24, 5:8] = 1, 2
    nib.save(nib.Nifti1Image(labels, image.affine, image.header), cohort / "input/bowel.nii.gz")
    (cohort / "input/bowel.tsv").write_text("index\tname\n1\tsmall_bowel\n2\tcolon\n")
    plan = plan_of(cohort)
    rows = plan.cycle("A", "P1", 1).rows_for("segment") | {"review": [decision("edit", label_map="bowel.nii.gz")]}
    organ = next(row for row in rows["regions"] if row["region"] == "liver")
    bowel = [organ | {"source_name": n, "region": n, "part_of": "bowel"} for n in ("small_bowel", "colon")]
    rows["regions"] = [*rows["regions"], *bowel]
    settings = plan.settings["segment"]
    outcome = run_stage(
        "segment", inputs={"ingest": (cohort / "ingest",)}, output=tmp_path / "out", settings=settings, rows=rows
    )
    assert outcome["status"] == "ok", outcome["sentence"]
    found = regions(tmp_path / "out")
    whole, parts = found[2, "bowel"], [found[2, "small_bowel"], found[2, "colon"]]
    assert whole["region_level"] == "sum"
    assert whole["volume_ml"] == pytest.approx(sum(part["volume_ml"] for part in parts))
    assert whole["mass_g"] == pytest.approx(sum(part["mass_g"] for part in parts))
    for row in (whole, *parts):
        assert "wall_and_content" in row["flags"]


def test_real_weights_leave_no_mark(cohort: Path, tmp_path: Path, model: Callable[..., list[Request]]) -> None:
    model(virtual_only=False)
    segmented(cohort, tmp_path / "segment", source="totalsegmentator")
    assert demo_marks(tmp_path / "segment") == []
    assert "demo_weights" not in regions(tmp_path / "segment")[1, "liver"]["flags"]


def test_a_model_that_finds_nothing_refuses_the_cycle(
    cohort: Path, tmp_path: Path, model: Callable[..., list[Request]]
) -> None:
    model(found=())
    outcome = segmented(cohort, tmp_path / "segment", source="totalsegmentator")
    assert (outcome["status"], outcome["code"]) == ("refused", "segmentation_refused")
    assert "found none of the regions" in outcome["sentence"]


def test_weights_that_may_not_be_used_refuse_the_cycle(
    cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(request: Request) -> Segmentation:
        raise WeightsError("these demo weights know only virtual torsos", path="mark.json")

    monkeypatch.setattr(backends, "segment_cts", refuse)
    outcome = segmented(cohort, tmp_path / "segment", source="totalsegmentator")
    assert (outcome["status"], outcome["code"], outcome["file"]) == ("refused", "weights_unusable", "mark.json")
    assert [path.name for path in (tmp_path / "segment").iterdir()] == ["outcome.json"]


def test_the_check_names_weights_that_are_not_there(cohort: Path) -> None:
    plan = plan_of(cohort, source="totalsegmentator", mode="fastest", weights="nowhere")
    (finding,) = [f for f in preflight(plan, Depth.SHEETS).refusals if f.code == "weights_unusable"]
    assert "nowhere" in finding.sentence
    assert "Fetch the weights" in finding.sentence


@pytest.mark.parametrize("task", ["tissue_types", "total_mr"])
def test_a_config_with_a_task_that_is_licensed_or_not_for_ct_is_refused(cohort: Path, task: str) -> None:
    with pytest.raises(SheetError, match=rf"segment.tasks.*{task}"):
        plan_of(cohort, source="totalsegmentator", tasks=[task])


def test_the_check_refuses_demo_weights_for_patients(cohort: Path, tmp_path: Path) -> None:
    weights = str(unpack_demo_weights(tmp_path / "weights"))
    plan = plan_of(cohort, source="totalsegmentator", mode="fastest", roi_subset=False, weights=weights)
    assert not [f for f in preflight(plan, Depth.SHEETS).refusals if f.code == "weights_unusable"]
    (finding,) = preflight(replace(plan, data_origin="patient"), Depth.SHEETS).refusals
    assert "virtual" in finding.sentence


def test_the_demo_profile_lets_two_segmentations_run_at_once() -> None:
    profile = yaml.safe_load((Path(__file__).parents[2] / "profiles/demo/config.yaml").read_text())
    ((name, limit),) = [entry.split("=") for entry in profile["resources"]]
    demo = {"source": "totalsegmentator", "mode": "fastest"}
    assert (name, int(limit) // segment_mem_mb(demo)) == ("mem_mb", 2)
    assert int(limit) <= 8000  # all of what the demo may take
    assert segment_mem_mb(demo) > segment_mem_mb({"source": "contours", "mode": "fastest"})


def test_an_unknown_nnunet_model_is_refused(cohort: Path, tmp_path: Path) -> None:
    outcome = segmented(cohort, tmp_path / "one", source="nnunet")
    assert (outcome["code"], outcome["tag"]) == ("segmentation_refused", "segment.model")
    outcome = segmented(cohort, tmp_path / "two", source="nnunet", model="no/such/model")
    assert outcome["code"] == "weights_unusable"


def test_each_vertebra_is_eroded_by_itself_and_lesions_are_no_marrow() -> None:
    grid = Grid((20, 20, 40), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    masks = {name: np.zeros(grid.shape, bool) for name in ("vertebrae_L2", "vertebrae_L3", "Lesion 1")}
    # Two cubes of 20 mm that touch.
    masks["vertebrae_L2"][:, :, :20] = True
    masks["vertebrae_L3"][:, :, 20:] = True
    masks["Lesion 1"][:, :, :12] = True
    specs = {
        "vertebrae_L2": RegionSpec(1, "lumbar_marrow", "marrow"),
        "vertebrae_L3": RegionSpec(1, "lumbar_marrow", "marrow"),
        "Lesion 1": RegionSpec(2, "lesion_1", "lesion"),
    }
    labels = np.zeros(grid.shape, np.uint8)
    names = ("Lesion 1", "vertebrae_L3", "vertebrae_L2")
    assert paint(labels, [Named(n, lambda _, n=n: masks[n]) for n in names], specs, grid) == frozenset()
    # The middle of each is left, 10 mm wide between the two that touch; beyond the grid nothing is known.
    row = labels[10, 10]
    assert row[:12].tolist() == [2] * 12
    assert row[12:].tolist() == [1] * 3 + [0] * 10 + [1] * 15


# The rest of the body ------------------------------------------------------------------------------


def test_the_rest_of_the_body_completes_a_whole_body(cohort: Path, drawn: Path, tmp_path: Path) -> None:
    sheet = cohort / "input/regions.tsv"
    kept = sheet.read_text()
    sheet.write_text(f"{kept}body\trest\trest_of_body\tn/a\tn/a\tn/a\tn/a\tn/a\n")
    try:
        assert segmented(cohort, tmp_path / "segment")["status"] == "ok"
    finally:
        sheet.write_text(kept)
    rows, own = regions(tmp_path / "segment"), regions(drawn)
    header, first = (line.split("\t") for line in (cohort / "input/patients.tsv").read_text().splitlines()[:2])
    patient_kg = float(first[header.index("mass_kg")])
    for point in (1, 2, 3, 4):
        rest, whole = rows[point, "rest"], rows[point, "whole_body"]
        assert rest["region_source"] == "ct_numbers"
        parts = [row for (p, _), row in rows.items() if p == point and row["region_level"] == "part"]
        assert whole["mass_g"] == pytest.approx(sum(row["mass_g"] for row in parts))
        assert whole["region_level"] == "sum"
        assert "part_missing" not in whole["flags"]
        # The mass of the virtual patient is that of the waist over 0.88 of the height: 336 mm of it are 0.22, less
        # what lungs and air in the bowel weigh less than water.
        assert 0.16 < whole["mass_g"] / 1e3 / patient_kg < 0.23
        # Nothing is taken from the organs.
        assert rows[point, "liver"]["volume_ml"] == own[point, "liver"]["volume_ml"]


def test_without_a_ct_there_is_no_rest_of_the_body(cohort: Path, tmp_path: Path) -> None:
    plan = plan_of(cohort)
    rows = plan.cycle("A", "P1", 1).rows_for("segment")
    rows["regions"] = [*rows["regions"], {"source_name": "body", "region": "rest", "kind": "rest_of_body"}]
    bare = tmp_path / "bare"
    shutil.copytree(cohort / "ingest", bare)
    manifest = json.loads((bare / "outcome.json").read_text())
    for entry in list(manifest["files"]):
        if "_ct." in entry["name"]:
            (bare / entry["name"]).unlink()
            manifest["files"].remove(entry)
    (bare / "outcome.json").write_text(json.dumps(manifest))
    settings = plan.settings["segment"]
    outcome = run_stage("segment", inputs={"ingest": (bare,)}, output=tmp_path / "out", settings=settings, rows=rows)
    assert (outcome["status"], outcome["tag"]) == ("refused", "kind")
    assert "needs a CT" in outcome["sentence"]


# Review -------------------------------------------------------------------------------------------


def decision(decision: str, point: int = 2, label_map: str | None = None, comment: str | None = None) -> Row:
    return {
        "time_point": point,
        "decision": decision,
        "label_map": label_map,
        "reviewer": "AB",
        "comment": comment,
    }


def test_accepted_masks_are_the_same_and_say_so(cohort: Path, drawn: Path, tmp_path: Path) -> None:
    segmented(cohort, tmp_path / "segment", review=[decision("accept")])
    rows = regions(tmp_path / "segment")
    assert {rows[p, "liver"]["review_status"] for p in (1, 3, 4)} == {"not_reviewed"}
    assert (rows[2, "liver"]["review_status"], rows[2, "liver"]["manual_edit"]) == ("accepted", False)
    name = "sub-P1_ses-c1_run-2_dseg.nii.gz"
    assert (tmp_path / "segment" / name).read_bytes() == (drawn / name).read_bytes()
    assert json.loads((tmp_path / "segment/labels.json").read_text())["review"][0]["reviewer"] == "AB"


def test_an_edit_replaces_all_regions_of_its_time_point(
    cohort: Path, drawn: Path, tmp_path: Path, model: Callable[..., list[Request]]
) -> None:
    image = nib.load(drawn / "sub-P1_ses-c1_run-2_dseg.nii.gz")
    values = np.asanyarray(image.dataobj)
    specs = json.loads((drawn / "labels.json").read_text())["regions"]
    liver = next(spec["label"] for spec in specs if spec["region"] == "liver")
    edited = np.where(values == liver, 1, 0).astype(np.uint8)
    edited[np.nonzero(edited)[0][0]] = 0
    nib.save(nib.Nifti1Image(edited, image.affine, image.header), cohort / "input/edit.nii.gz")
    (cohort / "input/edit.tsv").write_text("index\tname\n1\tliver\n")
    asked = model()
    outcome = segmented(
        cohort,
        tmp_path / "segment",
        review=[decision("edit", label_map="edit.nii.gz")],
        source="totalsegmentator",
        mode="fastest",
    )
    assert outcome["status"] == "ok", outcome["sentence"]
    # The model does not see what a person has replaced.
    assert set(asked[0].cts) == {"1", "3", "4"}
    rows = regions(tmp_path / "segment")
    assert {region for point, region in rows if point == 2} == {"liver", "whole_field"}
    row = rows[2, "liver"]
    assert (row["review_status"], row["manual_edit"], row["region_source"]) == ("edited", True, "contours")
    assert 0.0 < row["volume_ml"] < regions(drawn)[2, "liver"]["volume_ml"]
    assert "demo_weights" not in row["flags"]


def test_a_rejected_mask_refuses_the_cycle_with_the_comment(cohort: Path, tmp_path: Path) -> None:
    review = [decision("reject", comment="liver mask leaks into the stomach")]
    outcome = segmented(cohort, tmp_path / "segment", review=review)
    assert (outcome["status"], outcome["code"]) == ("refused", "rejected_in_review")
    for part in ("review.tsv", "time point 2", "leaks into the stomach", "patient P1", "cycle 1"):
        assert part in outcome["sentence"]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("A\tP1\t1\t9\taccept\tn/a\tAB\tn/a", "time point that the scan sheet does not have"),
        ("A\tP1\t1\t1\tedit\tn/a\tAB\tn/a", "an edit needs a label map"),
        ("A\tP1\t1\t1\taccept\tx.nii.gz\tAB\tn/a", "nothing else has one"),
        ("A\tP1\t1\t1\tmaybe\tn/a\tAB\tn/a", "'accept', 'edit' or 'reject'"),
    ],
)
def test_a_bad_review_is_a_problem_before_any_job_runs(cohort: Path, tmp_path: Path, row: str, words: str) -> None:
    sheet = cohort / "input/review.tsv"
    header = "site\tpatient\tcycle\ttime_point\tdecision\tlabel_map\treviewer\tcomment"
    sheet.write_text(f"{header}\n{row}\n")
    try:
        problems = plan_of(cohort).cycle("A", "P1", 1).problems
    finally:
        sheet.unlink()
    assert any(words in problem["what"] for problem in problems), problems
    assert problems[0]["path"] == "review.tsv"
