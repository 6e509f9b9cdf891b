"""The page of a submission: every column that is shared with all its texts or its range, and what is withheld."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import pyarrow as pa
import pyarrow.compute as pc

from doseledger.io.shared_text import distinct_texts, is_text, rule_of
from doseledger.io.tables import SCHEMAS
from doseledger.report import words
from doseledger.report.pages import Cell, Column, DataTable, data_table, label, render

_COLUMNS: Final = (
    Column("Column", lambda row: row["column"], lead=True),
    label("Unit", "unit"),
    Column("Filled", lambda row: str(row["filled"]), "rows", number=True),
    Column("What is shared", lambda row: row["content"], wide=True),
    label("Description", "description", wide=True),
)
_WITHHELD: Final = (
    label("Table", "table", lead=True),
    label("Column", "column", lead=True),
    Column("Cells", lambda row: str(row["rows"]), "n", number=True),
    label("Why", "reason", wide=True),
)
_SUMMARIES: Final = (
    label("Radiopharmaceutical", "radiopharmaceutical", lead=True),
    label("Class of region", "region", lead=True),
    Column("Patients", lambda row: str(row["n_patients"]), "n", number=True),
    Column("Cycles", lambda row: str(row["n_cycles"]), "n", number=True),
)
_CHECKS: Final = (
    label("Table", "table", lead=True),
    Column("Column", lambda row: words.text(row["column"])),
    Column("Rows", lambda row: str(row["rows"]), "n", number=True),
    label("Reason", "sentence", wide=True),
)


def submission_page(
    *,
    stated: Mapping[str, Any],
    tables: Mapping[str, pa.Table],
    accepted: Sequence[str],
    reasons: Mapping[str, str],
    summaries: Sequence[Mapping[str, Any]],
    software_version: str,
) -> str:
    """The page as one HTML text that needs no other file.

    Parameters
    ----------
    stated
        The manifest without the checksums.
    tables
        What is shared, exactly as it goes out.
    accepted
        Texts beyond the vocabulary that a person let through.
    reasons
        Sentence of each reason for which a merge leaves rows out.
    summaries
        Sums over patients that go along, as `doseledger.kinetics.SiteSummary`.
    """
    origins = sorted(
        {o for data in tables.values() if "data_origin" in data.column_names for o in _texts(data, "data_origin")}
    )
    flags = {flag for data in tables.values() if "flags" in data.column_names for flag in _texts(data, "flags")}
    checks = [{**check, "sentence": reasons[check["reason"]]} for check in stated["checks"]]
    return render(
        "submission.html.j2",
        stated=stated,
        origins=origins,
        demo_weights="demo_weights" in flags,
        sections=[(name, tables[name].num_rows, _described(name, tables[name])) for name in SCHEMAS if name in tables],
        withheld=data_table(_WITHHELD, stated["withheld"]),
        checks=data_table(_CHECKS, checks),
        accepted=accepted,
        summaries=data_table(_SUMMARIES, [dict(row) for row in summaries]),
        settings=[(section, key, value) for section, keys in stated["settings"].items() for key, value in _pairs(keys)],
        software_version=software_version,
    )


def _texts(data: pa.Table, column: str) -> list[str]:
    return distinct_texts(data[column])


def _pairs(keys: Any) -> list[tuple[str, str]]:
    return [(str(key), str(value)) for key, value in keys.items()] if isinstance(keys, Mapping) else [("", str(keys))]


def _described(name: str, data: pa.Table) -> DataTable:
    rows = []
    for field in data.schema:
        rows.append(
            {
                "column": field.name,
                "unit": field.metadata[b"unit"].decode() or None,
                "filled": data.num_rows - data[field.name].null_count,
                "content": _content(name, field, data[field.name]),
                "description": field.metadata[b"description"].decode(),
            }
        )
    return data_table(_COLUMNS, rows)


def _content(table: str, field: pa.Field, column: pa.ChunkedArray) -> Cell:
    if is_text(field.type):
        return _content_of_texts(rule_of(table, field.name), distinct_texts(column))
    flat = pc.list_flatten(column) if pa.types.is_list(field.type) else column
    if pa.types.is_boolean(flat.type):
        counts = {value: pc.sum(pc.equal(flat, value)).as_py() or 0 for value in (True, False)}
        return f"yes {counts[True]}, no {counts[False]}" if any(counts.values()) else ""
    ends = pc.min_max(flat).as_py()
    if ends["min"] is None:
        return ""
    whole = pa.types.is_integer(flat.type)
    low, high = (str(end) if whole else words.significant(end) for end in (ends["min"], ends["max"]))
    return f"numbers, {low}" if low == high else f"numbers, {low} to {high}"


def _content_of_texts(rule: str, texts: Sequence[str]) -> Cell:
    return f"{len(texts)} different checksums" if rule == "hash" and texts else "; ".join(texts)
