"""The ledger's tables: schemas with units, files that repeat to the bit, and what is generated from them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError

from doseledger.io.models import SHEETS, Config, json_schemas
from doseledger.io.tables import SCHEMA_VERSION, SCHEMAS, data_dictionary, read_rows, sort_keys, table, write_rows

ROOT = Path(__file__).resolve().parents[2]
KEY = {"site": "A", "patient": "P1", "cycle": 1}
#: Suffix of a column that has a unit, and the unit in its metadata.
SUFFIXES = {
    "_mbq_h": "MBq h",
    "_mbq": "MBq",
    "_gy_per_gbq": "Gy GBq-1",
    "_cps_per_mbq": "s-1 MBq-1",
    "_gy": "Gy",
    "_ml": "mL",
    "_g": "g",
    "_kg": "kg",
    "_cm": "cm",
    "_mm": "mm",
    "_min": "min",
    "_kev": "keV",
    "_hu": "HU",
    "_bq_per_ml": "Bq mL-1",
    "_rel": "1",
    "_h": "h",
    "_s": "s",
}


def value_of(kind: pa.DataType, number: int) -> Any:
    if pa.types.is_list(kind):
        return [value_of(kind.value_type, number + i) for i in range(2)]
    if pa.types.is_boolean(kind):
        return number % 2 == 0
    if pa.types.is_integer(kind):
        return number
    return f"text{number}" if pa.types.is_string(kind) else number + 0.1


def full_rows(name: str) -> list[dict[str, Any]]:
    """Rows that differ in one sort key at a time, and fill every column."""
    schema = SCHEMAS[name]
    first = {field.name: value_of(field.type, 1) for field in schema}
    return [first, *(first | {key: value_of(schema.field(key).type, 2)} for key, _ in sort_keys(schema))]


# Schemas ------------------------------------------------------------------------------------------

COLUMNS = [(name, field.name) for name, schema in SCHEMAS.items() for field in schema]


@pytest.mark.parametrize(("name", "column"), COLUMNS)
def test_every_column_has_its_unit_and_a_description(name: str, column: str) -> None:
    metadata = SCHEMAS[name].field(column).metadata
    assert set(metadata) == {b"unit", b"description"}
    assert len(metadata[b"description"].decode()) >= 4
    suffix = max((s for s in SUFFIXES if column.endswith(s)), key=len, default=None)
    if suffix is not None:
        assert metadata[b"unit"].decode() == SUFFIXES[suffix]


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_schema_names_its_rows_and_never_repeats_a_column(name: str) -> None:
    schema = SCHEMAS[name]
    assert len(set(schema.names)) == len(schema.names)
    assert schema.metadata[b"schema_version"] == str(SCHEMA_VERSION).encode()
    assert schema.metadata[b"row"]
    assert schema.names[0] == "site"
    assert {f.name for f in schema if not f.nullable} <= {"site", "patient", "cycle", "time_point", "region"}


def test_no_column_can_hold_a_date_a_name_or_a_source_uid() -> None:
    for _, column in COLUMNS:
        assert not re.search(r"(^|_)(date|name|birth|uid|hospital|accession)(_|$)", column)


def test_the_same_column_means_the_same_in_every_table() -> None:
    seen: dict[str, tuple[Any, bytes]] = {}
    for schema in SCHEMAS.values():
        for field in schema:
            meaning = (field.type, field.metadata[b"unit"])
            assert seen.setdefault(field.name, meaning) == meaning


# Rows ---------------------------------------------------------------------------------------------


def test_an_unknown_column_is_a_defect_and_never_dropped() -> None:
    with pytest.raises(KeyError, match=r"table curve has no column \['half_life'\]"):
        table("curve", [KEY | {"region": "liver", "half_life": 50.0}])


def test_a_missing_column_is_null_but_a_missing_key_is_not_written(tmp_path: Path) -> None:
    path = write_rows(tmp_path, "patient", [{"site": "A", "patient": "P1", "mass_kg": 70}])
    row = read_rows(tmp_path, "patient")[0]
    assert path == tmp_path / "patient.parquet"
    assert (row["mass_kg"], row["sex"]) == (70.0, None)
    with pytest.raises(pa.ArrowInvalid, match="non-nullable"):
        write_rows(tmp_path, "patient", [{"site": "A"}])


def test_a_value_of_the_wrong_type_is_refused() -> None:
    with pytest.raises((pa.ArrowInvalid, pa.ArrowTypeError)):
        table("patient", [{"site": "A", "patient": "P1", "mass_kg": "heavy"}])


@pytest.mark.parametrize("name", SCHEMAS)
def test_rows_come_back_sorted_with_units_and_nothing_lost(name: str, tmp_path: Path) -> None:
    rows = full_rows(name)
    path = write_rows(tmp_path, name, reversed(rows))
    keys = [key for key, _ in sort_keys(SCHEMAS[name])]
    expected = sorted(rows, key=lambda row: [row[k] for k in keys])
    assert read_rows(tmp_path, name) == expected
    stored = pq.read_schema(path)
    assert stored.metadata[b"row"] == SCHEMAS[name].metadata[b"row"]
    for field in SCHEMAS[name]:
        assert stored.field(field.name).metadata[b"unit"] == field.metadata[b"unit"]
        assert stored.field(field.name).nullable == field.nullable


@pytest.mark.parametrize("name", SCHEMAS)
def test_the_same_rows_in_any_order_give_the_same_bytes(name: str, tmp_path: Path) -> None:
    rows = full_rows(name)
    contents = set()
    for number, order in enumerate((rows, rows[::-1], rows[1::2] + rows[::2])):
        folder = tmp_path / str(number)
        folder.mkdir()
        contents.add(write_rows(folder, name, order).read_bytes())
    assert len(contents) == 1


def test_a_table_may_be_empty(tmp_path: Path) -> None:
    write_rows(tmp_path, "lesion", [])
    assert read_rows(tmp_path, "lesion") == []


def test_numbers_survive_to_the_last_bit(tmp_path: Path) -> None:
    write_rows(tmp_path, "dvh", [KEY | {"region": "liver", "dose_edges_gy": [0.1, 1 / 3], "volume_fraction": []}])
    row = read_rows(tmp_path, "dvh")[0]
    assert row["dose_edges_gy"] == [0.1, 1 / 3]
    assert row["volume_fraction"] == []


# What is generated --------------------------------------------------------------------------------


def test_the_data_dictionary_mentions_every_column() -> None:
    text = data_dictionary()
    for name, schema in SCHEMAS.items():
        section = text.split(f"## {name}\n", 1)[1].split("\n## ", 1)[0]
        assert schema.metadata[b"row"].decode() in section
        for field in schema:
            unit, description = (field.metadata[k].decode() for k in (b"unit", b"description"))
            assert f"| `{field.name}` | {field.type} | {unit} | {description} |" in section


def test_the_data_dictionary_is_in_step() -> None:
    path = ROOT / "docs" / "data-dictionary.md"
    assert path.read_text(encoding="utf-8") == data_dictionary(), "run `doseledger schemas`"


@pytest.mark.parametrize("name", json_schemas())
def test_the_json_schemas_are_in_step(name: str) -> None:
    path = ROOT / "workflow" / "schemas" / name
    assert path.read_text(encoding="utf-8") == json_schemas()[name], "run `doseledger schemas`"


def test_no_json_schema_is_left_over() -> None:
    found = {path.name for path in (ROOT / "workflow" / "schemas").glob("*.json")}
    assert found == set(json_schemas()) == {f"{name}.schema.json" for name in ("config", *SHEETS)}


def validator(name: str) -> Draft202012Validator:
    schema = json.loads(json_schemas()[f"{name}.schema.json"])
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def template_rows(name: str) -> list[dict[str, Any]]:
    """Rows of the template sheet as the plan holds them."""
    header, *lines = (ROOT / "config" / f"{name}.tsv").read_text(encoding="utf-8").splitlines()
    cells = [dict(zip(header.split("\t"), line.split("\t"), strict=True)) for line in lines]
    filled = [{k: v for k, v in row.items() if v not in ("", "n/a")} for row in cells]
    return [SHEETS[name].model_validate(row).model_dump(mode="json") for row in filled]


@pytest.mark.parametrize("name", SHEETS)
def test_the_json_schema_of_a_sheet_accepts_the_template_and_refuses_the_rest(name: str) -> None:
    rows = template_rows(name)
    assert rows
    for row in rows:
        validator(name).validate(row)
        required = [k for k, field in SHEETS[name].model_fields.items() if field.is_required()]
        for column in required:
            with pytest.raises(ValidationError):
                validator(name).validate({k: v for k, v in row.items() if k != column})
        with pytest.raises(ValidationError):
            validator(name).validate(row | {"measured_activity_gbq": 7.4})


def test_the_json_schema_of_the_config() -> None:
    minimal = {
        "cohort": "c",
        "results": "r",
        "data_origin": "virtual",
        "sheets": {k: f"{k}.tsv" for k in ("scans", "administrations", "cameras", "regions")},
    }
    full = Config.model_validate(minimal).model_dump(mode="json")
    for good in (minimal, full, minimal | {"sheets": minimal["sheets"] | {"limits": None}}):  # type: ignore[operator]
        validator("config").validate(good)
    for bad in (
        minimal | {"data_origin": "both"},
        minimal | {"cohort": "a b"},
        minimal | {"dose": {"engines": ["magic"]}},
        minimal | {"dose": {"engines": []}},
        minimal | {"surprise": 1},
        {k: v for k, v in minimal.items() if k != "data_origin"},
    ):
        with pytest.raises(ValidationError):
            validator("config").validate(bad)
