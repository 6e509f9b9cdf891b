"""Properties of sheets: whatever stands in a cell, the start ends in a plan or a sentence, and no row is lost."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from doseledger.cohort import LABEL, cycle_folder
from doseledger.errors import RecordedError, SheetError, record
from doseledger.io.sheets import load_plan

ANY = settings(max_examples=120, deadline=None, derandomize=True)

SHEETS = {
    "scans": [
        ["site", "patient", "cycle", "time_point", "spect", "camera"],
        ["A", "P1", "1", "1", "s1", "NM1"],
        ["A", "P1", "1", "2", "s2", "NM1"],
        ["A", "P2", "1", "1", "s3", "NM1"],
    ],
    "administrations": [
        [
            *("site", "patient", "cycle", "radiopharmaceutical", "nuclide", "injection_start", "infusion_min"),
            *("measured_activity_mbq", "residual_activity_mbq"),
        ],
        ["A", "P1", "1", "Lu177-DOTATATE", "Lu-177", "2025-04-07T09:30:00", "30", "7400", "20"],
        ["A", "P2", "1", "Lu177-DOTATATE", "Lu-177", "2025-04-07T09:30:00", "30", "7400", "20"],
    ],
    "cameras": [["site", "camera", "u_calibration_rel", "fwhm_mm"], ["A", "NM1", "0.05", "12"]],
    "regions": [["source_name", "region", "kind"], ["Liver", "liver", "organ"]],
}
KEYS = {("A", "P1", 1), ("A", "P2", 1)}
CONFIG = {"cohort": "c1", "results": "results", "data_origin": "virtual", "sheets": {n: f"{n}.tsv" for n in SHEETS}}

#: Text of one cell: anything but what ends it.
CELLS = st.one_of(
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\t\n\r"), max_size=20),
    st.sampled_from(["n/a", "", "1.0", "-1", "nan", "1e400", '"', '"x', "0x1", "1_0", "\u0661", "NaT", "P1", "2"]),
)
PLACES = st.sampled_from(
    [(n, r, c) for n, rows in SHEETS.items() for r in range(len(rows)) for c in range(len(rows[0]))]
)


def load(spoilt: dict[str, bytes]) -> tuple[set[tuple[str, str, int]], int, list[str]] | None:
    """Keys, number of scan rows and first sentences; None where the start was stopped."""
    with tempfile.TemporaryDirectory() as folder:
        for name, rows in SHEETS.items():
            text = "".join("\t".join(row) + "\n" for row in rows)
            (Path(folder) / f"{name}.tsv").write_bytes(spoilt.get(name, text.encode()))
        try:
            plan = load_plan(CONFIG, folder)
        except SheetError:
            return None
        json.dumps([plan.cycle(*key).rows_for("ingest") for key in plan.cycles], allow_nan=False)
        scans = sum(not scan.get("defective") for cycle in plan.cycles.values() for scan in cycle.scans)
        problems = [RecordedError(**c.problems[0]).sentence for c in plan.cycles.values() if c.problems]
        return set(plan.cycles), scans, problems


@ANY
@given(PLACES, CELLS)
def test_no_cell_can_crash_the_start_or_hide_a_row(place: tuple[str, int, int], cell: str) -> None:
    sheet, row, column = place
    rows = [list(r) for r in SHEETS[sheet]]
    rows[row][column] = cell
    found = load({sheet: "".join("\t".join(r) + "\n" for r in rows).encode()})
    if found is None:
        return
    keys, scans, problems = found
    changed_key = sheet in ("scans", "administrations") and row > 0 and column < 3
    if not changed_key:
        assert keys == KEYS
    # Every scan row is in a cycle, or there is a sentence about it.
    assert scans == 3 or problems
    for site, patient, number in keys:
        assert LABEL.fullmatch(site)
        assert LABEL.fullmatch(patient)
        assert cycle_folder("r", site, patient, number).parts == (
            "r",
            f"site-{site}",
            f"sub-{patient}",
            f"ses-c{number}",
        )


@ANY
@given(st.sampled_from(sorted(SHEETS)), st.binary(max_size=300))
def test_no_content_can_crash_the_start(sheet: str, content: bytes) -> None:
    found = load({sheet: content})
    assert found is None or found[2]


@ANY
@given(
    st.text(),
    st.recursive(st.none() | st.booleans() | st.integers() | st.floats() | st.text(), st.lists, max_leaves=5),
)
def test_a_recorded_error_says_the_same_whatever_it_holds(what: str, value: object) -> None:
    error = SheetError(what, path="scans.tsv", value=value, expected=value)
    again = RecordedError(**json.loads(json.dumps(record(error))))
    assert again.sentence == error.sentence
