"""Walking over folders: nothing is read twice, nothing is passed over in silence, nothing is fatal."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from doseledger.errors import InputMissingError
from doseledger.io.files import is_side_file, walk


def names(folder: Path, *more: Path) -> tuple[list[str], dict[str, str]]:
    stamps, unreachable = walk([folder, *more])
    return [os.path.relpath(s.path, folder) for s in stamps], {
        os.path.relpath(path, folder): reason for path, reason in unreachable.items()
    }


def test_files_are_found_in_order_with_size_and_time(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    for name, content in (("b/x", b"12"), ("a", b""), ("c", b"1")):
        (tmp_path / name).write_bytes(content)
    os.utime(tmp_path / "c", ns=(5, 1_700_000_000_123_456_789))
    stamps, unreachable = walk([tmp_path, tmp_path / "b"])
    assert [(os.path.relpath(s.path, tmp_path), s.size_bytes) for s in stamps] == [("a", 0), ("b/x", 2), ("c", 1)]
    assert stamps[-1].mtime_ns == 1_700_000_000_123_456_789
    assert unreachable == {}


def test_side_files_are_passed_over() -> None:
    assert [n for n in ("DICOMDIR", ".x", "notes.TXT", "README", "IM1", "a/Thumbs.db") if not is_side_file(n)] == [
        "IM1"
    ]


def test_links_are_followed_once(tmp_path: Path) -> None:
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "x").touch()
    study = tmp_path / "study"
    (study / "real").mkdir(parents=True)
    (study / "real" / "y").touch()
    (study / "a-link-to-far").symlink_to(tmp_path / "far")
    (study / "a-link-to-real").symlink_to(study / "real")
    (study / "real" / "above").symlink_to(study)
    (study / "link-to-file").symlink_to(study / "real" / "y")
    assert names(study) == (["a-link-to-far/x", "link-to-file", "real/y"], {})


def test_what_cannot_be_followed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "nowhere").symlink_to(tmp_path / "absent")
    (tmp_path / "closed").mkdir()
    (tmp_path / "tab\tname").touch()
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xe4")).touch()
    os.mkfifo(tmp_path / "pipe")
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("closed"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    files, unreachable = names(tmp_path)
    assert files == []
    assert unreachable == {
        "closed": "the folder cannot be opened: Permission denied",
        "nowhere": "the link leads nowhere: No such file or directory",
        "pipe": "it is neither a file nor a folder",
        "tab\\tname": "its name holds a control character or is not UTF-8",
        "\\udce4": "its name holds a control character or is not UTF-8",
    }


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="absent"):
        walk([tmp_path / "absent"])
