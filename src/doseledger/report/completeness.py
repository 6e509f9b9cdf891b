"""How far a cohort is: the state of every cycle, counted over the cohort and by site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from doseledger.cohort import CYCLE_STAGES
from doseledger.report.pages import NOT_OK, Column, DataTable, Row, data_table

Tables = Mapping[str, Sequence[Row]]
CycleKey = tuple[str, str, int]

_NOT_IMAGED: Final = "not_imaged"
STATES: Final = ("ok", "refused", "failed", "missing", _NOT_IMAGED)
_HEADINGS: Final[dict[str, str]] = {
    "patients": "Patients",
    "planned": "Cycles planned",
    "ok": "ok",
    "refused": "refused",
    "failed": "failed",
    "missing": "missing",
    _NOT_IMAGED: "not imaged",
}


def cycle_states(tables: Tables) -> dict[CycleKey, str]:
    """State of every cycle that was planned or given: ok, refused, failed, missing or not_imaged.

    A cycle is ok when its last stage is and none of its stages was refused, failed or is missing;
    where stages differ, the worst one counts.
    """
    stages: dict[CycleKey, dict[str, str]] = {}
    for row in tables["stage_outcome"]:
        # Cycle 0 stands for stages of the whole patient.
        if row["cycle"]:
            stages.setdefault((row["site"], row["patient"], row["cycle"]), {})[row["stage"]] = row["status"]
    given = {(row["site"], row["patient"], row["cycle"]): row["imaged"] for row in tables["administration"]}
    return {key: _state(stages.get(key, {}), imaged=given.get(key) is not False) for key in sorted({*stages, *given})}


def counts(tables: Tables) -> list[tuple[str, int]]:
    """Sites, patients and cycles by state, over the whole cohort."""
    states = cycle_states(tables)
    patients = _patients(tables, states)
    return [("Sites", len({site for site, _ in patients})), *_counted(patients, states.values())]


def by_site(tables: Tables) -> list[Row]:
    """Patients and cycles by state, one row per site."""
    states = cycle_states(tables)
    patients = _patients(tables, states)
    rows = []
    for site in sorted({site for site, _ in patients}):
        of_state = Counter(state for key, state in states.items() if key[0] == site)
        row: Row = {"site": site, "n_patients": sum(person[0] == site for person in patients)}
        rows.append({**row, "n_planned": of_state.total(), **{f"n_{state}": of_state[state] for state in STATES}})
    return rows


def site_table(tables: Tables) -> DataTable:
    """The same counts by site."""
    states = cycle_states(tables)
    patients = _patients(tables, states)
    columns = [Column("Site", lambda row: str(row["site"]), lead=True)]
    columns += [
        Column(heading, lambda row, heading=heading: str(row[heading]), number=True)  # type: ignore[misc]
        for heading in _HEADINGS.values()
    ]
    rows = []
    for site in sorted({site for site, _ in patients}):
        of_site = {person for person in patients if person[0] == site}
        here = [state for key, state in states.items() if key[0] == site]
        rows.append({"site": site, **dict(_counted(of_site, here))})
    return data_table(columns, rows)


def _state(stages: Mapping[str, str], *, imaged: bool) -> str:
    found = [status for status in NOT_OK if status in stages.values()]
    if not found and stages.get(CYCLE_STAGES[-1]) == "ok":
        return "ok"
    state = found[0] if found else "missing"
    return _NOT_IMAGED if state == "missing" and not imaged else state


def _patients(tables: Tables, states: Iterable[CycleKey]) -> set[tuple[str, str]]:
    return {(row["site"], row["patient"]) for row in tables["patient"]} | {(site, who) for site, who, _ in states}


def _counted(patients: set[tuple[str, str]], states: Iterable[str]) -> list[tuple[str, int]]:
    by_state = Counter(states)
    numbers = {"patients": len(patients), "planned": by_state.total(), **{state: by_state[state] for state in STATES}}
    return [(heading, numbers[name]) for name, heading in _HEADINGS.items()]
