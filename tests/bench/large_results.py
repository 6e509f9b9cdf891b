"""Results of thousands of cycles: the stage folders of one computed cycle, again and again as hard links.

Each patient has folders of its own; the files in them are those of the one cycle, so that their rows have equal keys.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

from doseledger.cohort import CYCLE_STAGES, MARKER, PARTIAL, PATIENT_STAGE
from doseledger.phantom import simulate
from doseledger.steps.stage import FAILURE, OUTCOME

ROOT: Final = Path(__file__).parents[2]


def one_patient(folder: Path, cohort: str) -> Path:
    """Config of a cohort of one patient and cycle with the smallest images."""
    return simulate(
        folder / "input",
        results="../results",
        cohort=cohort,
        size="micro",
        sites=1,
        patients=1,
        cycles=1,
        seed=3,
        plant_refusal=False,
    )


def computed_patient(folder: Path) -> Path:
    """Folder of a patient with one cycle, as the workflow leaves it, with the records of its jobs."""
    config = one_patient(folder, "bench")
    command = [sys.executable, "-m", "doseledger.cli", "run", str(config), "--cores", "1"]
    subprocess.run([*command, "--directory", str(folder / "work")], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return folder / "results" / "site-A" / "sub-P1"


def multiply(source: Path, results: Path, keys: list[tuple[str, str, int]]) -> None:
    """Give every cycle the stages of the computed one, and every patient its course."""
    logs = source.parents[1] / "logs" / source.parent.name
    for site, patient, cycle in keys:
        above = results / f"site-{site}" / f"sub-{patient}"
        for stage in CYCLE_STAGES:
            _link(source / "ses-c1" / stage, above / f"ses-c{cycle}" / stage)
            log = results / "logs" / f"site-{site}" / f"sub-{patient}_ses-c{cycle}_{stage}.usage.json"
            log.parent.mkdir(parents=True, exist_ok=True)
            os.link(logs / f"sub-P1_ses-c1_{stage}.usage.json", log)
        if not (above / PATIENT_STAGE).exists():
            _link(source / PATIENT_STAGE, above / PATIENT_STAGE)
    (results / MARKER).write_text(json.dumps({"cohort": "large"}), encoding="utf-8")


def _link(source: str | Path, target: str | Path) -> None:
    os.makedirs(target)
    for entry in os.scandir(source):
        if entry.is_dir():
            _link(entry.path, f"{target}/{entry.name}")
        else:
            os.link(entry.path, f"{target}/{entry.name}")


def refuse(results: Path, key: tuple[str, str, int]) -> None:
    """Let a finished cycle have been refused at ingest."""
    for stage in CYCLE_STAGES:
        folder = _cycle(results, key) / stage
        outcome = json.loads((folder / OUTCOME).read_text(encoding="utf-8"))
        shutil.rmtree(folder)
        folder.mkdir()
        outcome |= {"status": "refused", "code": "unit_unknown", "sentence": "No unit.", "origin_stage": "ingest"}
        (folder / OUTCOME).write_text(json.dumps(outcome | {"files": []}), encoding="utf-8")


def fail(results: Path, key: tuple[str, str, int]) -> None:
    """Let the dose of a finished cycle have failed."""
    folder = _cycle(results, key)
    shutil.rmtree(folder / "dose")
    attempt = folder / f".dose{PARTIAL}node1.17.abc"
    attempt.mkdir()
    note = {"code": "MemoryError", "sentence": "Out of memory."}
    (attempt / FAILURE).write_text(json.dumps(note), encoding="utf-8")


def _cycle(results: Path, key: tuple[str, str, int]) -> Path:
    site, patient, cycle = key
    return results / f"site-{site}" / f"sub-{patient}" / f"ses-c{cycle}"
