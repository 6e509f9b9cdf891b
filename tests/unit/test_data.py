"""The tables of published constants are what SOURCE.md says they are."""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files

import numpy as np
import pytest

from doseledger.data import columns

FOLDER = files("doseledger.data")
#: | file | source | SHA-256 |
ROWS = re.findall(
    r"^\| (\S+\.(?:csv|json)) \| (.+) \| ([0-9a-f]{64}) \|$",
    (FOLDER / "SOURCE.md").read_text(encoding="utf-8"),
    re.MULTILINE,
)


@pytest.mark.parametrize(("name", "source", "sha256"), ROWS, ids=[row[0] for row in ROWS])
def test_the_checksum_holds_and_the_source_has_a_doi(name: str, source: str, sha256: str) -> None:
    assert hashlib.sha256((FOLDER / name).read_bytes()).hexdigest() == sha256
    assert re.search(r"\bdoi 10\.\d{4,}/\S+", source)


def test_every_table_has_a_row() -> None:
    tables = {path.name for path in FOLDER.iterdir() if path.name.endswith((".csv", ".json"))}
    assert {row[0] for row in ROWS} == tables
    assert tables


def test_columns_come_without_their_header() -> None:
    hu, density = columns("density_from_hu")
    assert hu.dtype == density.dtype == np.float64
    assert hu.shape == density.shape == (9,)
    assert np.all(np.diff(hu) > 0)
    assert columns("density_from_hu")[0] is hu


def test_a_table_that_is_not_there_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        columns("no_such_table")
