"""A kept plan is read in parts, and as a whole it is what was kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from doseledger.cohort import Cycle, Row
from doseledger.io import kept_plan
from doseledger.io.kept_plan import CYCLES_PER_PART, KeptCycles, keep, read_index

PATIENTS = 200
CYCLES = 4


def row(site: str, patient: str, cycle: int) -> Row:
    return {"site": site, "patient": patient, "cycle": cycle}


@pytest.fixture
def data() -> dict[str, Any]:
    keys = [("A", f"P{p:03d}", c) for p in range(PATIENTS) for c in range(1, CYCLES + 1)]
    return {"cohort": "c1", "cycles": [row(*key) for key in keys]}


def kept(folder: Path, data: dict[str, Any]) -> tuple[KeptCycles, list[str]]:
    """The cycles as read from disk, and the patients of those built so far."""
    built: list[str] = []

    def build(fields: Row) -> Cycle:
        built.append(fields["patient"])
        return Cycle(**fields, administration=None, scans=(), cameras=(), regions=(), data_origin="virtual", base="/")

    keep(folder, data)
    return KeptCycles(folder, read_index(folder), build), built


def test_a_cycle_is_found_without_reading_all(tmp_path: Path, data: dict[str, Any]) -> None:
    cycles, built = kept(tmp_path / "plan", data)
    assert len(cycles) == PATIENTS * CYCLES
    assert built == []
    assert cycles["A", "P017", 2].key == ("A", "P017", 2)
    assert 0 < len(built) < 2 * CYCLES_PER_PART
    before = len(built)
    assert [cycles["A", "P017", c].cycle for c in (1, 2, 3, 4)] == [1, 2, 3, 4]
    assert len(built) == before, "all cycles of a patient are in one part"


def test_as_a_whole_it_is_what_was_kept_in_order(tmp_path: Path, data: dict[str, Any]) -> None:
    cycles, _ = kept(tmp_path / "plan", data)
    assert [row(*c.key) for c in cycles.values()] == data["cycles"]


def test_an_unknown_cycle_is_none(tmp_path: Path, data: dict[str, Any]) -> None:
    cycles, _ = kept(tmp_path / "plan", data)
    assert ("A", "P017", 5) not in cycles
    with pytest.raises(KeyError):
        cycles["A", "P017", 5]


def test_of_two_that_keep_the_same_plan_one_wins(tmp_path: Path, data: dict[str, Any]) -> None:
    kept(tmp_path / "plan", data)
    cycles, _ = kept(tmp_path / "plan", data)
    assert len(list(cycles.values())) == PATIENTS * CYCLES
    assert [p.name for p in tmp_path.iterdir()] == ["plan"]


def test_an_empty_cohort_is_kept(tmp_path: Path) -> None:
    cycles, _ = kept(tmp_path / "plan", {"cycles": []})
    assert dict(cycles) == {}
    assert kept_plan.read_index(tmp_path / "plan")["keys"] == []
