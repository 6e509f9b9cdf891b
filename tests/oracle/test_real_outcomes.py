"""Every real DICOM file at hand is right or refused for the right reason: real_outcomes.csv says which.

The table lists each series by folder, with the reader that its modality belongs to and what comes of
it; the other readers must say that it is not theirs. No file may be missing from the table.
"""

from __future__ import annotations

import csv
import os
from collections import defaultdict
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from doseledger.errors import DoseledgerError, FileUnreadableError, ModalityError
from doseledger.io.dicom import open_ct, open_spect, read_segments, read_structures
from doseledger.io.dicom.headers import is_side_file, read_header

DATA = Path(os.environ.get("DOSELEDGER_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
#: Beside the DICOM files of an item, what is known by its name to be something else.
NOT_DICOM: Final = (".gz", ".nrrd", ".h33", ".csv", ".json", ".py", ".xlsx", ".png", ".pdf")
Table = dict[tuple[str, str], dict[str, str]]


def _table() -> Table:
    with (Path(__file__).parent / "real_outcomes.csv").open(encoding="utf-8", newline="") as stream:
        return {(row["folder"], row["file"]): row for row in csv.DictReader(stream)}


@cache
def _series() -> dict[tuple[str, str], list[Path]]:
    """Files by folder and, where a folder holds several series, by the name of their first file."""
    if not DATA.is_dir():
        return {}
    groups: dict[Path, dict[tuple[str | None, ...], list[Path]]] = defaultdict(lambda: defaultdict(list))
    for path in sorted(DATA.rglob("*")):
        if not path.is_file() or is_side_file(path) or path.suffix in NOT_DICOM:
            continue
        header = read_header(path)
        groups[path.parent][header.text("Modality"), header.text("SeriesInstanceUID")].append(path)
    return {
        (folder.relative_to(DATA).as_posix(), "" if len(series) == 1 else paths[0].name): paths
        for folder, series in groups.items()
        for paths in series.values()
    }


def _spect(paths: list[Path]) -> tuple[str, tuple[str, ...]]:
    image = open_spect(paths).read()
    return " ".join(map(str, image.grid.shape)), image.provenance.flags


def _ct(paths: list[Path]) -> tuple[str, tuple[str, ...]]:
    image = open_ct(paths).read()
    return " ".join(map(str, image.grid.shape)), image.provenance.flags


READERS: Final[dict[str, Callable[[list[Path]], tuple[str, tuple[str, ...]]]]] = {
    "spect": _spect,
    "ct": _ct,
    "seg": lambda paths: (str(len(read_segments(paths[0]))), ()),
    "rtstruct": lambda paths: (str(len(read_structures(paths[0]))), ()),
}


def test_the_table_lists_all_files() -> None:
    if not _series():
        pytest.skip("real data not found: set DOSELEDGER_DATA")
    listed = {key: int(row["n_files"]) for key, row in _table().items()}
    assert {key: len(paths) for key, paths in _series().items()} == listed


@pytest.mark.parametrize(("folder", "file"), _table())
def test_right_or_refused_for_the_right_reason(folder: str, file: str) -> None:
    row = _table()[folder, file]
    paths = _series().get((folder, file))
    if paths is None:
        pytest.skip(f"real data {folder} not found: set DOSELEDGER_DATA")
    for name, read in READERS.items():
        if name != row["reader"]:
            with pytest.raises((ModalityError, FileUnreadableError)):
                read(paths)
    if row["refused"]:
        with pytest.raises(DoseledgerError) as caught:
            READERS[row["reader"]](paths)
        assert caught.value.code == row["refused"]
        assert row["sentence"] in caught.value.sentence
    else:
        size, flags = READERS[row["reader"]](paths)
        assert (size, " ".join(flags)) == (row["size"], row["flags"])
