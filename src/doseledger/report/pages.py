"""What both pages are made of: checked rows, declared tables, and one template environment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

from jinja2 import Environment, PackageLoader, StrictUndefined

from doseledger.cohort import CYCLE_STAGES
from doseledger.io import tables as ledger
from doseledger.regions.gate import DEMO_WEIGHTS
from doseledger.report import words

Row = dict[str, Any]
Tables = Mapping[str, Sequence[Mapping[str, Any]]]

#: Outcomes of a stage that a reader must be told of, worst first.
NOT_OK: Final = ("failed", "refused", "missing")


@dataclass(frozen=True)
class Link:
    """A cell that leads to another page."""

    text: str
    href: str


Cell = str | Link | tuple[str, ...]


@dataclass(frozen=True)
class Column:
    """One column of a table on a page: heading, unit, and the text of its cell."""

    heading: str
    cell: Callable[[Row], Cell]
    unit: str = ""
    number: bool = False
    #: On a phone a row becomes a block: `lead` cells are its heading, `wide` cells take a whole line.
    lead: bool = False
    wide: bool = False


@dataclass(frozen=True)
class Line:
    """One line of a table; `remark` stands in place of all cells after the leading ones."""

    cells: tuple[Cell, ...]
    remark: str | None = None


@dataclass(frozen=True)
class DataTable:
    columns: tuple[Column, ...]
    lines: tuple[Line, ...]

    @property
    def breaks(self) -> frozenset[int]:
        """Lines before which a rule is drawn: a new cycle or patient begins, where those repeat."""
        first = [line.cells[0] for line in self.lines]
        new = [index for index in range(1, len(first)) if first[index] != first[index - 1]]
        return frozenset(new) if len(new) < len(first) - 1 else frozenset()


@dataclass(frozen=True)
class Picture:
    """A figure (data URI) with the text that stands for it and the caption under it."""

    source: str
    alternative: str
    caption: str
    detail: str = ""


def number(heading: str, column: str, unit: str = "", digits: int = 3) -> Column:
    """Column of numbers with so many significant digits."""
    return Column(heading, lambda row: words.significant(row[column], digits), unit, number=True)


def percent(heading: str, column: str) -> Column:
    return Column(heading, lambda row: words.percent(row[column]), "%", number=True)


def label(heading: str, column: str, *, lead: bool = False, wide: bool = False) -> Column:
    return Column(heading, lambda row: words.text(row[column]), lead=lead, wide=wide)


REGION: Final = Column("Region", lambda row: words.region(row["region"], row.get("marrow_method")), lead=True)
CYCLE: Final = label("Cycle", "cycle", lead=True)
FLAGS: Final = Column("Flags", lambda row: words.flags(row["flags"]), wide=True)


def data_table(columns: Sequence[Column], rows: Iterable[Row]) -> DataTable:
    return DataTable(tuple(columns), tuple(Line(tuple(column.cell(row) for column in columns)) for row in rows))


def checked(tables: Tables) -> dict[str, list[Row]]:
    """Rows of every table of the ledger with all its columns, in the order of their keys.

    Raises
    ------
    KeyError
        A table or a column that the ledger does not have: a defect, never dropped silently.
    """
    if unknown := set(tables) - set(ledger.SCHEMAS):
        raise KeyError(f"the ledger has no table {sorted(unknown)}")
    found: dict[str, list[Row]] = {}
    for name, schema in ledger.SCHEMAS.items():
        columns = dict.fromkeys(schema.names)
        keys = [key for key, _ in ledger.sort_keys(schema)]
        rows = [_with_all_columns(name, row, columns) for row in tables.get(name, ())]
        found[name] = sorted(rows, key=lambda row: [(row[key] is None, row[key]) for key in keys])
    return found


def _with_all_columns(name: str, row: Mapping[str, Any], columns: Mapping[str, None]) -> Row:
    if unknown := row.keys() - columns.keys():
        raise KeyError(f"table {name} has no column {sorted(unknown)}")
    return {**columns, **row}


def origins(tables: Mapping[str, Sequence[Row]]) -> list[str]:
    """Every ``data_origin`` that occurs in a row."""
    found = {row.get("data_origin") for rows in tables.values() for row in rows}
    return sorted(str(origin) for origin in found if origin is not None)


def by_demo_weights(tables: Mapping[str, Sequence[Row]]) -> bool:
    """Whether any row rests on a mask by a model that knows virtual patients only."""
    return any(DEMO_WEIGHTS in (row.get("flags") or ()) for rows in tables.values() for row in rows)


def stopped(outcomes: Iterable[Row]) -> list[Row]:
    """Refusals and failures, each once: later stages copy a refusal forward under their own name."""
    first: dict[tuple[Any, ...], Row] = {}
    for row in sorted(outcomes, key=_in_order_of_flow):
        if row["status"] in NOT_OK:
            names = ("site", "patient", "cycle", "status", "code", "sentence", "file", "tag", "origin_stage")
            key = tuple(row[name] for name in names)
            first.setdefault(key, {**row, "stage": row["origin_stage"] or row["stage"]})
    return list(first.values())


def _in_order_of_flow(row: Row) -> tuple[Any, ...]:
    stage = CYCLE_STAGES.index(row["stage"]) if row["stage"] in CYCLE_STAGES else len(CYCLE_STAGES)
    return row["site"], row["patient"], row["cycle"], stage


def primary_rows(rows: Sequence[Row]) -> list[Row]:
    """Rows on which the doses of a patient rest, by cycle and region; of red marrow one by each method."""
    return sorted((row for row in rows if ledger.is_leading(row)), key=cycle_region)


def cycle_region(row: Row) -> tuple[Any, ...]:
    """Sort key of a row of one patient."""
    return row["cycle"], words.region_order(row["region"]), not row.get("is_primary", True)


def half_life(row: Row, unit: str = "") -> str:
    """Effective half-life, marked where its rate is at the bound of physical decay."""
    text = words.significant(row["effective_half_life_h"]) + unit
    return f"{text} {words.AT_BOUND_MARK}" if row["rate_at_bound"] else text


def render(template: str, **content: Any) -> str:
    """Fill a template; every text in `content` is escaped."""
    return _environment().get_template(template).render(**content)


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("doseledger.report", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.tests.update(link=lambda cell: isinstance(cell, Link), text=lambda cell: isinstance(cell, str))
    return environment
