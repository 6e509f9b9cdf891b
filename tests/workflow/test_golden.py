"""Tables of a small cohort move only when a stage version does.

The hashes are of values rounded to five digits, so that they hold on another processor. They belong
to one virtual cohort: when the simulator changes, so does the hash of the input. After a change that
is meant to move numbers: raise STAGE_VERSION of the stage, say why in CHANGELOG.md
("Numbers that change"), and run `make golden`.
"""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml

from doseledger.cohort import CYCLE_STAGES, PATIENT_STAGE, stage_version
from doseledger.io.tables import SCHEMA_VERSION
from doseledger.steps.cohort_page import read_cohort_table
from doseledger.steps.collect import STAGE_OF_TABLE
from doseledger.steps.compact import COURSE_TABLES

from .conftest import Cohort

pytestmark = pytest.mark.workflow

GOLDEN = Path(__file__).with_name("golden.json")
#: Change with every release, or hold bits of the machine: not part of what must stay.
VOLATILE = ("software_version", "input_sha256", "settings_sha256", "spect_sha256", "ct_sha256")
TABLES = {**STAGE_OF_TABLE, **dict.fromkeys(COURSE_TABLES, PATIENT_STAGE)}


def rounded(value: Any) -> Any:
    if isinstance(value, float):
        # The chi-square of a curve through all its points is rounding alone.
        return f"{value if abs(value) > 1e-12 else 0.0:.4e}"
    return [rounded(v) for v in value] if isinstance(value, list) else value


def current(cohort: Cohort) -> dict[str, dict[str, Any]]:
    """Version and hash of every table, with the versions of the stages before it and the hash of the input."""
    found = {}
    source = input_sha256(cohort.config)
    for table, stage in sorted(TABLES.items()):
        rows = read_cohort_table(cohort.results / "cohort", table)
        # A curve that was not chosen can have a phase without amplitude, whose rate is as the processor rounds.
        rows = [row for row in rows if row.get("chosen", True)]
        kept = [{k: rounded(v) for k, v in row.items() if k not in VOLATILE} for row in rows]
        stages = (*CYCLE_STAGES[: CYCLE_STAGES.index(stage) + 1],) if stage in CYCLE_STAGES else (*CYCLE_STAGES, stage)
        found[table] = {
            "versions": {name: stage_version(name) for name in stages} | {"schema": SCHEMA_VERSION},
            "input": source,
            "sha256": hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest(),
        }
    return found


def test_hashes_move_only_with_a_version(micro: Cohort, request: pytest.FixtureRequest) -> None:
    now = current(micro)
    if request.config.getoption("--accept-golden"):
        kept = json.loads(GOLDEN.read_text()) if GOLDEN.exists() else {}
        silent = [t for t in now if t in kept and moved(kept[t], now[t])]
        assert not silent, f"numbers of {silent} moved without a new STAGE_VERSION"
        GOLDEN.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n")
    kept = json.loads(GOLDEN.read_text())
    assert now == kept, "see the head of this file"


def moved(kept: dict[str, Any], now: dict[str, Any]) -> bool:
    """Whether a hash moved although the input and all versions stayed."""
    same = all(kept.get(what) == now[what] for what in ("input", "versions"))
    return bool(same and kept["sha256"] != now["sha256"])


def input_sha256(config: Path) -> str:
    """Hash of sheets, true activities and sums of pixels, rounded: another processor may round pixels otherwise.

    Only the sheets that the config names: other tests of the same cohort may leave files beside them.
    """
    folder = config.parent
    sheets = [folder / name for name in yaml.safe_load(config.read_text(encoding="utf-8"))["sheets"].values()]
    digest = hashlib.sha256()
    for path in sorted([*sheets, folder / "truth" / "activity_truth.csv"]):
        text = re.sub(r"\d+\.\d+", lambda number: f"{float(number[0]):.4e}", path.read_text(encoding="utf-8"))
        digest.update(f"{path.name}\n{text}".encode())
    for path in sorted(folder.glob("dicom/**/*.dcm")):
        header = pydicom.dcmread(path)
        if "PixelData" in header:
            total = float(header.pixel_array.sum()) * float(header.get("RescaleSlope", 1.0))
            digest.update(f"{path.name} {total:.2e}\n".encode())
    return digest.hexdigest()


def test_a_moved_hash_without_a_version_is_not_accepted(micro: Cohort) -> None:
    now = current(micro)["organ_dose"]
    assert moved(now | {"sha256": "another"}, now)
    assert not moved(now | {"sha256": "another", "versions": now["versions"] | {"dose": 0}}, now)
    assert not moved(now | {"sha256": "another", "input": "another"}, now)
