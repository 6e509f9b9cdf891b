"""A file that kills its reader is refused by the process that asked."""

from __future__ import annotations

import hashlib
import json
import os
import time
from pathlib import Path

import numpy as np
import pytest

from doseledger.errors import SheetError, SubmissionError
from doseledger.io import probe
from doseledger.io.probe import tried
from doseledger.merge import merge

from .submission_factory import rezipped, submitted

FILE = Path("x.zip")


def reads(path: Path) -> None:
    assert path == FILE


def dies(path: Path) -> None:
    os.abort()


def hangs(path: Path) -> None:
    time.sleep(60.0)


def wants_memory(path: Path) -> None:
    bytearray(2 * probe.MEMORY_BYTES)


def fails(path: Path) -> None:
    raise ZeroDivisionError


def refuses(path: Path) -> None:
    raise SheetError("the sheet is wrong", path=path)


def test_a_file_that_can_be_read_passes() -> None:
    tried(reads, FILE)


@pytest.mark.parametrize(
    ("reader", "what"),
    [(dies, "the process died"), (wants_memory, "MemoryError"), (fails, "ZeroDivisionError")],
)
def test_a_reader_that_fails_refuses_the_file(reader: object, what: str) -> None:
    with pytest.raises(SubmissionError, match="makes its reader fail") as caught:
        tried(reader, FILE)  # type: ignore[arg-type]
    assert caught.value.value == what
    assert caught.value.path == "x.zip"


def test_a_reader_without_an_answer_is_ended() -> None:
    with pytest.raises(SubmissionError, match=r"no answer in 0\.5 s"):
        tried(hangs, FILE, longest_s=0.5)


def test_a_refusal_comes_through_as_it_is() -> None:
    with pytest.raises(SheetError, match="the sheet is wrong"):
        tried(refuses, FILE)


def test_tables_with_changed_bytes_are_refused_or_read_and_never_end_the_merge(tmp_path: Path) -> None:
    """Bytes of footers change, and the checksums with them; such files have aborted the process that reads them."""
    honest = submitted(tmp_path / "A.zip")
    rng = np.random.default_rng(3)
    outcomes = set()
    for _ in range(12):

        def change(entries: dict[str, bytes]) -> None:
            name = rng.choice(["organ_dose", "curve", "stage_outcome"])
            content = bytearray(entries[f"tables/{name}.parquet"])
            for place in rng.integers(1, 3000, 3):
                content[-place] = rng.integers(256)
            entries[f"tables/{name}.parquet"] = bytes(content)
            manifest = json.loads(entries["submission.json"])
            manifest["tables"][name]["sha256"] = hashlib.sha256(content).hexdigest()
            entries["submission.json"] = json.dumps(manifest).encode()

        bad = rezipped(honest, tmp_path / "x.zip", change)
        try:
            merge([bad], tmp_path / "cohort")
            outcomes.add("read")
        except SubmissionError:
            outcomes.add("refused")
        assert {p.name for p in tmp_path.iterdir()} <= {"A.zip", "x.zip", "cohort"}
    assert "refused" in outcomes
