"""The export of a finished cohort passes the BIDS validator, offline, and holds what the results hold."""

from __future__ import annotations

import csv
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doseledger.io.nifti import read_image
from doseledger.io.tables import read_rows

from .conftest import Cohort

pytestmark = pytest.mark.workflow

VALIDATOR = Path(sys.executable).with_name("bids-validator-deno")
#: A network namespace of its own, where the machine allows one: the validator must not need a network.
OFFLINE = ["unshare", "--map-root-user", "--net"]


@pytest.fixture(scope="module")
def dataset(micro: Cohort, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bids") / "dataset"
    done = micro.call("doseledger.cli", "bids", str(micro.config), str(out))
    assert done.returncode == 0, done.stderr
    assert re.search(r"^\d+ images of 3 cycles", done.stdout)
    assert "not exported: site A, patient P1, cycle 2: the image is not in a known unit" in done.stdout
    return out


def errors_of(dataset: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """Errors and the summary of the validator."""
    can_unshare = shutil.which("unshare") and subprocess.run([*OFFLINE, "true"], check=False).returncode == 0
    command = [*(OFFLINE if can_unshare else []), str(VALIDATOR), str(dataset), "--recursive", "--format", "json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    found = json.loads(done.stdout)
    return [issue for issue in found["issues"]["issues"] if issue["severity"] == "error"], found["summary"]


def test_the_dataset_has_no_error(dataset: Path) -> None:
    errors, summary = errors_of(dataset)
    assert errors == []
    assert [entry["participantId"] for entry in summary["subjectMetadata"]] == ["A+P1", "B+P1"]


def test_the_validator_finds_what_is_wrong(dataset: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(dataset, tmp_path / "copy")
    (copy / ".bidsignore").unlink()
    assert "NOT_INCLUDED" in {issue["code"] for issue in errors_of(copy)[0]}


def test_the_sidecars_have_all_that_pet_bids_asks_for(dataset: Path, tmp_path: Path) -> None:
    """Judged as if they were of PET, in a copy: no rule of BIDS looks at a SPECT."""
    copy = tmp_path / "as-pet"
    for path in dataset.rglob("*"):
        name = path.relative_to(dataset).as_posix()
        if path.is_file() and path.name != ".bidsignore" and ("spect" in path.parts or path.parent == dataset):
            target = copy / name.replace("/spect/", "/pet/").replace("_spect.", "_pet.")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
    errors, summary = errors_of(copy)
    assert errors == []
    assert (summary["modalities"], summary["subjects"], summary["sessions"]) == (
        ["PET"],
        ["A+P1", "B+P1"],
        ["c1", "c2"],
    )


def test_the_images_are_those_of_the_results(dataset: Path, micro: Cohort) -> None:
    for site, cycle in (("A", 1), ("B", 1), ("B", 2)):
        place = f"sub-{site}+P1/ses-c{cycle}"
        results = micro.results / f"site-{site}/sub-P1/ses-c{cycle}"
        for row in read_rows(results / "ingest", "acquisition"):
            own = results / f"ingest/sub-P1_ses-c{cycle}_run-{row['time_point']}_spect"
            name = f"sub-{site}+P1_ses-c{cycle}_run-{row['time_point']}"
            spect = dataset / place / "spect" / f"{name}_spect.nii.gz"
            assert spect.read_bytes() == own.with_name(f"{own.name}.nii.gz").read_bytes()
            sidecar = json.loads(spect.with_name(f"{name}_spect.json").read_text())
            assert sidecar["ScanStart"] == pytest.approx(row["time_h"] * 3600.0)
            assert sidecar["Doseledger"]["flags"] == row["flags"]
            labels, grid = read_image(dataset / "derivatives/doseledger" / place / "dseg" / f"{name}_dseg.nii.gz")
            assert grid.same_as(read_image(dataset / place / "ct" / f"{name}_ct.nii.gz")[1])
            with (dataset / "derivatives/doseledger" / place / "dseg" / f"{name}_dseg.tsv").open() as stream:
                named = {int(line["index"]) for line in csv.DictReader(stream, delimiter="\t")}
            assert set(np.unique(labels).tolist()) - {0} <= named
        doses = dataset / "derivatives/doseledger" / place / "dose"
        (dose,) = doses.glob("*_dose.nii.gz")
        assert dose.read_bytes() == next((results / "dose").glob("dose_gy_*.nii.gz")).read_bytes()


def test_no_date_no_identifier_and_no_refused_cycle_is_exported(dataset: Path, micro: Cohort) -> None:
    assert not (dataset / "sub-A+P1/ses-c2").exists()
    texts = [p for p in dataset.rglob("*") if p.is_file() and p.suffix in (".json", ".tsv", ".md")]
    assert len(texts) > 20
    for path in texts:
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"\b20\d\d-\d\d|\b2\.25\.\d|UID|" + re.escape(str(micro.folder)), text), path


def test_what_has_not_run_is_left_out(micro: Cohort, tmp_path: Path) -> None:
    for name in ("input", "results"):
        shutil.copytree(micro.folder / name, tmp_path / name, ignore=shutil.ignore_patterns("dicom", ".plans"))
    for folder in ("ses-c1/segment", "ses-c2/ingest", "course"):
        shutil.rmtree(tmp_path / "results/site-B/sub-P1" / folder)
    done = micro.call("doseledger.cli", "bids", str(tmp_path / "input/config.yaml"), str(tmp_path / "bids"))
    assert done.returncode == 0, done.stderr
    assert "not exported: site B, patient P1, cycle 2: The stage has not run" in done.stdout
    there = {path.relative_to(tmp_path / "bids").as_posix() for path in (tmp_path / "bids").rglob("ses-c*")}
    assert there == {"sub-A+P1/ses-c1", "derivatives/doseledger/sub-A+P1/ses-c1", "sub-B+P1/ses-c1"}
    with (tmp_path / "bids/participants.tsv").open() as stream:
        assert [row["sex"] for row in csv.DictReader(stream, delimiter="\t")] == ["M", "n/a"]
    assert errors_of(tmp_path / "bids")[0] == []


def test_a_folder_with_something_in_it_is_left_alone(dataset: Path, micro: Cohort, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    done = micro.call("doseledger.cli", "bids", str(micro.config), str(tmp_path))
    assert done.returncode == 2
    assert "is not empty" in done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["mine.txt"]
