"""The file that a site hands over: tables, manifest and page in one archive; packed and read here.

Reading believes nothing: not the paths, sizes and checksums of the archive, not the schema, the units and the
number of rows of a table. What is wrong with the file refuses the whole file; what is wrong with single rows is
the business of `doseledger.io.row_checks`.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from doseledger.errors import SubmissionError
from doseledger.io.archive import read_archive, write_archive
from doseledger.io.shared_text import MAX_TEXT, is_text
from doseledger.io.tables import SCHEMA_VERSION, SCHEMAS, sort_keys, write_table

FORMAT: Final = "doseledger-submission"
FORMAT_VERSION: Final = 1
#: Tables of older versions that are still read: since then columns were added, none changed.
OLDEST_SCHEMA_VERSION: Final = 2
MANIFEST: Final = "submission.json"
PAGE: Final = "index.html"
SUMMARIES: Final = "kinetics.json"
#: Tables that a site shares; `quarantine` is made by a merge.
SHARED_TABLES: Final = tuple(name for name in SCHEMAS if name != "quarantine")
#: Where the rows come from if not from another program.
LEDGER: Final = "ledger"

#: Rows of one table of one site: 5,000 cycles with 15 regions, 4 scans and all curves stay below. A million is refused.
MAX_ROWS: Final = 999_999
#: Numbers and texts of one column, lists counted by their elements.
MAX_VALUES: Final = 100_000_000
#: Size of one table as Parquet counts it, encoded and not compressed.
MAX_TABLE_BYTES: Final = 1024**3
MAX_MANIFEST_BYTES: Final = 4 * 1024**2

_ENTRY: Final = re.compile(
    rf"{re.escape(MANIFEST)}|{re.escape(PAGE)}|{re.escape(SUMMARIES)}|tables/({'|'.join(SHARED_TABLES)})\.parquet"
)


_Name = Annotated[str, Field(pattern="^[a-z_]{1,40}$")]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)

    rows: int = Field(ge=0)
    sha256: str = Field(pattern="^[0-9a-f]{64}$")


class Manifest(BaseModel):
    """``submission.json``: who shares what, made how. No dates: a newer submission has a higher revision."""

    model_config = ConfigDict(extra="forbid", strict=True)

    format: str
    format_version: int
    schema_version: int
    software_version: str = Field(pattern=r"^[0-9a-z.+]{1,40}$")
    site: str = Field(pattern="^[A-Za-z0-9]{1,32}$")
    source: str = Field(pattern="^[a-z0-9_]{1,40}$")
    revision: int = Field(ge=1, le=1_000_000)
    pseudonyms: str = Field(pattern="^(as_in_sheets|keyed)$")
    suppress_below: int | None
    settings: dict[_Name, Any]
    withheld: list[dict[str, Any]]
    checks: list[dict[str, Any]]
    tables: dict[str, _Part]
    files: dict[str, str]


@dataclass(frozen=True)
class Submission:
    """A submission that was read and is whole; `sha256` stands for all of it."""

    manifest: Manifest
    tables: dict[str, pa.Table]
    sha256: str
    #: Columns that an older version did not have, by table.
    absent: dict[str, list[str]]
    summaries: bytes | None = None

    @property
    def key(self) -> tuple[str, str]:
        return self.manifest.site, self.manifest.source


def pack(path: Path, manifest: Manifest, tables: Mapping[str, bytes], files: Mapping[str, bytes]) -> None:
    """Write the archive; the manifest has the checksum of everything else."""
    entries = {MANIFEST: manifest_bytes(manifest), **files}
    entries |= {f"tables/{name}.parquet": content for name, content in tables.items()}
    write_archive(path, entries)


def manifest_bytes(manifest: Manifest) -> bytes:
    return (json.dumps(manifest.model_dump(), indent=1, sort_keys=True, ensure_ascii=True) + "\n").encode()


def table_bytes(data: pa.Table) -> bytes:
    """Parquet of a table, sorted by its keys."""
    sink = io.BytesIO()
    write_table(sink, data.sort_by(sort_keys(data.schema)))
    return sink.getvalue()


def part(data: pa.Table, content: bytes) -> _Part:
    return _Part(rows=data.num_rows, sha256=sha256(content))


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def read_submission(path: Path) -> Submission:
    """Read a submission as if anybody had made it.

    Raises
    ------
    SubmissionError
        Damaged, beyond a limit, of a newer version, or not what its own manifest says.
    """
    entries = read_archive(path, _ENTRY)
    manifest = _manifest(path, entries)
    stated = {f"tables/{name}.parquet": item.sha256 for name, item in manifest.tables.items()} | manifest.files
    if stated.keys() != entries.keys() - {MANIFEST}:
        odd = sorted(stated.keys() ^ (entries.keys() - {MANIFEST}))
        raise _refusal("the manifest does not list what the archive holds", path, value=odd[:3])
    for name, checksum in stated.items():
        if sha256(entries[name]) != checksum:
            raise _refusal("a checksum is wrong: the archive was damaged or changed", path, tag=name)
    if len(entries.get(SUMMARIES, b"")) > MAX_MANIFEST_BYTES:
        raise _refusal("the kinetic summaries are too large", path, tag=SUMMARIES)
    tables, absent = {}, {}
    for name, item in manifest.tables.items():
        tables[name] = _read_table(path, name, entries[f"tables/{name}.parquet"], manifest)
        absent[name] = [c for c in SCHEMAS[name].names if c not in tables[name].column_names]
        tables[name] = _completed(tables[name], SCHEMAS[name])
        if tables[name].num_rows != item.rows:
            raise _refusal("a table has another number of rows than the manifest says", path, tag=name)
    return Submission(
        manifest,
        tables,
        sha256(entries[MANIFEST]),
        {name: columns for name, columns in absent.items() if columns},
        entries.get(SUMMARIES),
    )


def _manifest(path: Path, entries: Mapping[str, bytes]) -> Manifest:
    content = entries.get(MANIFEST, b"")
    if not content or len(content) > MAX_MANIFEST_BYTES:
        raise _refusal("the archive is no submission: it has no usable manifest", path, tag=MANIFEST)
    try:
        stated = json.loads(content)
    except (ValueError, RecursionError):
        raise _refusal("the manifest cannot be read", path, tag=MANIFEST) from None
    if not isinstance(stated, dict) or stated.get("format") != FORMAT:
        raise _refusal("the archive is no submission of this program", path, tag=MANIFEST)
    for name, oldest, newest in (
        ("format_version", FORMAT_VERSION, FORMAT_VERSION),
        ("schema_version", OLDEST_SCHEMA_VERSION, SCHEMA_VERSION),
    ):
        version = stated.get(name)
        if not isinstance(version, int) or not oldest <= version <= newest:
            newer = isinstance(version, int) and version > newest
            raise SubmissionError(
                "the submission was made by a newer version" if newer else "the submission has an unknown version",
                path=path.name,
                tag=name,
                value=version if isinstance(version, int) else type(version).__name__,
                expected=f"{oldest} to {newest}",
                remedy="Update doseledger here; nothing was merged." if newer else None,
            )
    try:
        return Manifest.model_validate(stated)
    except ValidationError as error:
        where = ".".join(str(place) for place in error.errors()[0]["loc"])[:80]
        raise _refusal("the manifest is not complete or has other content", path, tag=where) from None


def _read_table(path: Path, name: str, content: bytes, manifest: Manifest) -> pa.Table:
    schema = SCHEMAS[name]
    try:
        stated = pq.read_schema(pa.BufferReader(content))
        _check_schema(path, name, stated, manifest)
        # Texts stay coded until their lengths are known: a file of a kilobyte can hold a gigabyte of one text.
        coded = [f.name + (".list.element" if pa.types.is_list(f.type) else "") for f in stated if is_text(f.type)]
        file = pq.ParquetFile(pa.BufferReader(content), read_dictionary=coded)
        _check_size(path, name, file.metadata)
        data = file.read()
        for column in data.column_names:
            _check_texts(path, name, column, data[column])
            if data[column].null_count and not schema.field(column).nullable:
                raise _refusal("a key column has empty cells", path, tag=f"{name}.{column}")
        known = pa.schema([schema.field(column) for column in data.column_names])
        found = data.cast(known).replace_schema_metadata(schema.metadata)
        found.validate(full=True)
        return found
    except (pa.ArrowException, OSError, ValueError, TypeError, LookupError) as error:
        raise _refusal("a table cannot be read", path, tag=name, value=type(error).__name__) from None


def _check_size(path: Path, name: str, found: Any) -> None:
    groups = [found.row_group(index) for index in range(found.num_row_groups)]
    values = [[group.column(i).num_values for i in range(group.num_columns)] for group in groups]
    for what, size, limit in (
        ("rows", max(found.num_rows, sum(group.num_rows for group in groups)), MAX_ROWS),
        ("values in a column", max((sum(column) for column in zip(*values, strict=True)), default=0), MAX_VALUES),
        ("bytes", sum(group.total_byte_size for group in groups), MAX_TABLE_BYTES),
    ):
        if size > limit:
            raise _refusal(f"a table has too many {what}", path, tag=name, value=size, expected=f"at most {limit}")


def _check_schema(path: Path, name: str, found: pa.Schema, manifest: Manifest) -> None:
    """Columns, types and units are those of this version; an older one may lack columns, but no key."""
    schema = SCHEMAS[name]
    version = (found.metadata or {}).get(b"schema_version", b"none").decode("ascii", "replace")
    if version != str(manifest.schema_version):
        raise _refusal(
            "a table has another version than the manifest",
            path,
            tag=name,
            value=version,
            expected=manifest.schema_version,
        )
    if len(set(found.names)) < len(found.names):
        raise _refusal("a table has a column twice", path, tag=name)
    for field in found:
        where = f"{name}.{field.name}"[:80]
        if field.name not in schema.names:
            raise _refusal("a table has a column that the ledger does not have", path, tag=where)
        expected = schema.field(field.name)
        if field.type != expected.type:
            raise _refusal(
                "a column has another type", path, tag=where, value=str(field.type)[:40], expected=str(expected.type)
            )
        unit, right = ((f.metadata or {}).get(b"unit", b"none").decode("utf-8", "replace") for f in (field, expected))
        if unit != right:
            raise _refusal("a column has another unit", path, tag=where, value=unit[:40], expected=right)
    current = manifest.schema_version == SCHEMA_VERSION
    missing = [f.name for f in schema if f.name not in found.names and (current or not f.nullable)]
    if missing:
        raise _refusal("a table lacks a column", path, tag=f"{name}.{missing[0]}")


def _check_texts(path: Path, name: str, column: str, data: pa.ChunkedArray) -> None:
    for chunk in data.chunks:
        kind = chunk.type
        if pa.types.is_list(kind):
            chunk, kind = chunk.values, kind.value_type
        texts = chunk.dictionary if pa.types.is_dictionary(kind) else chunk
        if pa.types.is_string(texts.type) and (pc.max(pc.utf8_length(texts)).as_py() or 0) > MAX_TEXT:
            raise _refusal(
                "a text is too long", path, tag=f"{name}.{column}", expected=f"at most {MAX_TEXT} characters"
            )
        if pa.types.is_dictionary(kind):
            chunk.validate(full=True)


def _completed(data: pa.Table, schema: pa.Schema) -> pa.Table:
    """All columns of this version, in order; those that an older version did not have are null."""
    columns = [data[f.name] if f.name in data.column_names else pa.nulls(data.num_rows, f.type) for f in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def _refusal(
    what: str, path: Path, *, tag: str | None = None, value: object = None, expected: object = None
) -> SubmissionError:
    # A name that the sender chose must not speak to the terminal that shows it.
    shown = None if tag is None else ascii(tag)[1:-1][:80]
    return SubmissionError(what, path=path.name, tag=shown, value=value, expected=expected)
