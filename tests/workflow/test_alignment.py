"""Alignment and what kinetics makes of it, on a cycle of the micro cohort, stage by stage."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from doseledger.cohort import CYCLE_STAGES, Plan, cycle_folder
from doseledger.errors import RegistrationError
from doseledger.io.nifti import read_image, read_sidecar
from doseledger.io.sheets import load_plan
from doseledger.io.tables import read_rows
from doseledger.steps import align
from doseledger.steps.layout import ALIGNED_SPECT, ALIGNMENT, DISPLACEMENT, TIA_MAP, scan_file
from doseledger.steps.stage import run_stage

from .conftest import Cohort

pytestmark = pytest.mark.workflow

CYCLE = ("A", "P1", 1)
KEY = {"patient": "P1", "cycle": 1}


@pytest.fixture(scope="module")
def plan(micro: Cohort) -> Plan:
    return load_plan(yaml.safe_load(micro.config.read_text()), micro.config.parent)


def run(plan: Plan, stage: str, out: Path, made: dict[str, Path], **settings: Any) -> Path:
    """One stage with other settings; what came before is the cohort's, unless `made` has another one."""
    folder = cycle_folder(plan.results, *CYCLE)
    before = CYCLE_STAGES[: CYCLE_STAGES.index(stage)]
    outcome = run_stage(
        stage,
        inputs={name: (made.get(name, folder / name),) for name in before},
        output=out / stage,
        settings=plan.settings[stage] | settings,
        rows=plan.cycle(*CYCLE).rows_for(stage),
    )
    assert outcome["status"] == "ok", outcome["sentence"]
    return out / stage


def entries(folder: Path) -> dict[int, dict[str, Any]]:
    return {e["time_point"]: e for e in read_sidecar(folder / ALIGNMENT)["time_points"]}


def test_the_quality_of_each_time_point_is_written(plan: Plan) -> None:
    found = entries(cycle_folder(plan.results, *CYCLE) / "align")
    assert found[1]["registered"] == "reference"
    assert set(found[1]["dice_after"].values()) == {1.0}
    for point in set(found) - {1}:
        entry = found[point]
        assert entry["registered"] == "ct"
        assert entry["jacobian_range"] == [1.0, 1.0]
        # Patients lie some 10 mm apart from scan to scan; a voxel of the micro CT is 12 mm, as large as a lesion.
        assert entry["dice_after"]["liver"] > 0.8
        assert set(entry["dice_after"]) == set(entry["dice_before"]) >= {"liver", "spleen"}
        assert entry["centroid_distance_after_mm"]["liver"] < 12.0
        overlap = np.mean(list(entry["dice_after"].values()))
        assert entry["flags"] == (["misaligned"] if overlap < align.SMALLEST_DICE else [])


def test_demons_leave_their_field_beside_the_images(plan: Plan, tmp_path: Path) -> None:
    folder = run(plan, "align", tmp_path, {}, method="demons")
    for point, entry in entries(folder).items():
        path = folder / scan_file(KEY, point, DISPLACEMENT)
        assert path.exists() == (point != 1)
        low, high = entry["jacobian_range"]
        assert 0.0 < low <= 1.0 <= high


def test_the_reference_outline_can_measure_all_scans(plan: Plan, tmp_path: Path) -> None:
    folder = run(plan, "kinetics", tmp_path, {}, curve_source="reference_mask")
    other = {(r["time_point"], r["region"]): r for r in read_rows(folder, "region_activity")}
    own = {
        (r["time_point"], r["region"]): r
        for r in read_rows(cycle_folder(plan.results, *CYCLE) / "kinetics", "region_activity")
    }
    assert {r["curve_source"] for r in other.values()} == {"reference_mask"}
    assert {r["curve_source"] for r in own.values()} == {"own_mask"}
    for (point, region), row in other.items():
        if point == 1:
            assert row["activity_mbq"] == own[point, region]["activity_mbq"]
        elif region in ("liver", "kidneys"):
            assert row["activity_mbq"] != own[point, region]["activity_mbq"]
            assert row["activity_mbq"] == pytest.approx(own[point, region]["activity_mbq"], rel=0.35)


def test_outlines_can_follow_the_spect(plan: Plan, tmp_path: Path) -> None:
    folder = run(plan, "kinetics", tmp_path, {}, follow_spect_shift=True)
    at_rest = cycle_folder(plan.results, *CYCLE)
    moved, own = (
        {(r["time_point"], r["region"]): r["activity_mbq"] for r in read_rows(f, "region_activity")}
        for f in (folder, at_rest / "kinetics")
    )
    shifts = {point: entry["spect_shift_mm"] for point, entry in entries(at_rest / "align").items()}
    assert any(shift for shift in shifts.values())
    for (point, region), value in moved.items():
        if region == "liver" and region in shifts[point]:
            assert value != own[point, region]
        if region == "whole_field":
            assert value == own[point, region]


def test_a_time_point_that_cannot_be_registered_keeps_its_own_outlines(
    plan: Plan, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RegistrationError("the time points do not overlap")

    monkeypatch.setitem(align.REGISTRY, "rigid", refuse)  # type: ignore[arg-type]
    aligned = run(plan, "align", tmp_path, {})
    found = entries(aligned)
    assert {e["registered"] for e in found.values()} == {"reference", "failed"}
    assert found[2]["problem"].startswith("the time points do not overlap (tag ct of time points 1 and 2). Look at")
    assert all("registration_failed" in e["flags"] for point, e in found.items() if point != 1)
    folder = run(plan, "kinetics", tmp_path, {"align": aligned}, curve_source="reference_mask")
    rows = {(r["time_point"], r["region"]): r for r in read_rows(folder, "region_activity")}
    own = {
        (r["time_point"], r["region"]): r
        for r in read_rows(cycle_folder(plan.results, *CYCLE) / "kinetics", "region_activity")
    }
    for key, row in rows.items():
        assert row["curve_source"] == ("reference_mask" if key[0] == 1 else "own_mask")
        assert row["activity_mbq"] == own[key]["activity_mbq"]
    # The voxel map has the shape of the reference scan alone, and the regions' own time-integrated activities.
    tia, _ = read_image(folder / TIA_MAP)
    first, _ = read_image(aligned / scan_file(KEY, 1, ALIGNED_SPECT))
    inside = (tia > 0) & (first > 0)
    ratio = tia[inside] / first[inside]
    assert len(np.unique(ratio.round(2))) <= 2 * (1 + len({r for _, r in rows}))
    dose = run(plan, "dose", tmp_path, {"align": aligned, "kinetics": folder})
    imaged = [r for r in read_rows(dose, "organ_dose") if r["marrow_method"] != "blood"]
    assert all("registration_failed" in r["flags"] for r in imaged)
