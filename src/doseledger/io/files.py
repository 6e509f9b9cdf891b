"""Files below folders, with what tells that one has changed; folders and links that cannot be followed."""

from __future__ import annotations

import os
import re
import stat
from collections import deque
from collections.abc import Iterable
from fnmatch import translate
from pathlib import Path
from typing import Final, NamedTuple

from doseledger.errors import InputMissingError

#: Files that lie beside images and are passed over by name alone, in lower case. Anything else that
#: is not DICOM is an error: a damaged slice must not look like a note.
SIDE_FILES: Final = ("dicomdir", ".*", "*.txt", "*.md", "license*", "readme*", "thumbs.db", "desktop.ini")
_SIDE_FILE: Final = re.compile("|".join(map(translate, SIDE_FILES)))
#: What no sheet can hold: control characters, and bytes that are no text (surrogates to Python).
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f\ud800-\udfff]")


class Stamp(NamedTuple):
    """A file as the file system describes it: with the same three values its content is taken to be the same."""

    path: str
    size_bytes: int
    mtime_ns: int


def is_side_file(path: str | Path) -> bool:
    """Whether a file is known by its name to be no image."""
    return _SIDE_FILE.match(os.path.basename(path).lower()) is not None


def walk(folders: Iterable[str | Path]) -> tuple[list[Stamp], dict[str, str]]:
    """All files in `folders` and below, without side files.

    Links to folders are followed, after all real folders; no folder is entered twice, so that a
    link to a folder above it does no harm.

    Returns
    -------
    stamps
        In order of their absolute paths.
    unreachable
        Why a path could not be followed, by path.

    Raises
    ------
    InputMissingError
        A folder does not exist.
    """
    found = _Walk()
    for folder in folders:
        if not os.path.isdir(folder):
            raise InputMissingError("the folder does not exist", path=folder)
        found.enter(os.path.abspath(folder))
    while found.links:
        found.enter(found.links.popleft())
    return sorted(found.stamps), found.unreachable


def stamps_of(path: str | Path) -> list[Stamp]:
    """Files that a sheet's cell names, by their own name: a file, or a folder's files without its subfolders.

    Empty if nothing is there.
    """
    try:
        if not os.path.isdir(path):
            found = os.stat(path)
            return [Stamp(os.path.basename(path), found.st_size, found.st_mtime_ns)]
        with os.scandir(path) as entries:
            own = [(entry.name, entry.stat()) for entry in entries if not is_side_file(entry.name)]
    except OSError:
        return []
    return sorted(Stamp(name, s.st_size, s.st_mtime_ns) for name, s in own if stat.S_ISREG(s.st_mode))


class _Walk:
    def __init__(self) -> None:
        self.stamps: list[Stamp] = []
        self.unreachable: dict[str, str] = {}
        self.links: deque[str] = deque()
        self._entered: set[tuple[int, int]] = set()

    def enter(self, top: str) -> None:
        waiting = [top]
        while waiting:
            folder = waiting.pop()
            try:
                identity = os.stat(folder)
                if (identity.st_dev, identity.st_ino) in self._entered:
                    continue
                self._entered.add((identity.st_dev, identity.st_ino))
                with os.scandir(folder) as entries:
                    waiting += [entry.path for entry in entries if self._is_folder(entry)]
            except OSError as error:
                self.unreachable[folder] = f"the folder cannot be opened: {error.strerror}"

    def _is_folder(self, entry: os.DirEntry[str]) -> bool:
        """Whether the entry is a real folder; what else it is, is noted."""
        if entry.is_dir(follow_symlinks=False):
            return True
        if not is_side_file(entry.name):
            self._take(entry)
        return False

    def _take(self, entry: os.DirEntry[str]) -> None:
        if _CONTROL.search(entry.name):
            self.unreachable[_visible(entry.path)] = "its name holds a control character or is not UTF-8"
            return
        try:
            found = entry.stat()
        except OSError as error:
            what = "the link leads nowhere" if entry.is_symlink() else "the file cannot be looked at"
            self.unreachable[entry.path] = f"{what}: {error.strerror}"
            return
        if stat.S_ISDIR(found.st_mode):
            self.links.append(entry.path)
        elif stat.S_ISREG(found.st_mode):
            self.stamps.append(Stamp(entry.path, found.st_size, found.st_mtime_ns))
        else:
            # Opening a pipe would wait for ever.
            self.unreachable[entry.path] = "it is neither a file nor a folder"


def _visible(path: str) -> str:
    return _CONTROL.sub(lambda found: ascii(found[0])[1:-1], path)
