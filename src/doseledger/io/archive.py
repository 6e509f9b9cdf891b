"""Zip archives between sites: written the same every time, read as if anybody had made them.

Nothing is ever unpacked to disk: entries are read into memory, under names of a fixed list and within limits.
"""

from __future__ import annotations

import re
import stat
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from doseledger.errors import SubmissionError

#: Entries that an archive may have; a whole submission has about 15.
MAX_ENTRIES: Final = 64
#: One entry, and all of them together, unpacked. 600,000 rows of the ledger take about 60 MB.
MAX_ENTRY_BYTES: Final = 1024**3
MAX_TOTAL_BYTES: Final = 2 * 1024**3
#: Unpacked over packed size of an entry. Parquet is packed already: its ratio here is 1; text reaches 20.
MAX_COMPRESSION_RATIO: Final = 100.0
#: Any time would do; that of the file system would change the bytes.
_TIME: Final = (1980, 1, 1, 0, 0, 0)
_MODE: Final = (stat.S_IFREG | 0o644) << 16
_CHUNK: Final = 1024**2
_ENCRYPTED: Final = 0x1


def write_archive(path: Path, entries: Mapping[str, bytes]) -> None:
    """Write entries in order of their names, with one time stamp and unpacked: the same bytes on every machine.

    Packing would depend on the version of zlib; the tables inside are packed already.
    """
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in sorted(entries):
            entry = zipfile.ZipInfo(name, _TIME)
            entry.create_system = 3
            entry.external_attr = _MODE
            archive.writestr(entry, entries[name])


def read_archive(path: Path, allowed: re.Pattern[str]) -> dict[str, bytes]:
    """All entries of an archive by name, in memory.

    Parameters
    ----------
    allowed
        What the whole name of an entry must match. No path of an archive is ever used as one.

    Raises
    ------
    SubmissionError
        Not a zip archive, damaged, beyond a limit, or with an entry of another name or kind.
    """
    try:
        if path.stat().st_size > MAX_TOTAL_BYTES:
            raise _refusal("the archive is too large", path, value=path.stat().st_size, expected=MAX_TOTAL_BYTES)
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            _check_listing(path, entries, allowed)
            left = MAX_TOTAL_BYTES
            found: dict[str, bytes] = {}
            for entry in entries:
                found[entry.filename] = _content(path, archive, entry, min(left, MAX_ENTRY_BYTES))
                left -= len(found[entry.filename])
            return found
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, NotImplementedError, RuntimeError, ValueError) as error:
        raise _refusal("the archive is damaged or no zip archive", path, value=type(error).__name__) from None


def _check_listing(path: Path, entries: list[zipfile.ZipInfo], allowed: re.Pattern[str]) -> None:
    if len(entries) > MAX_ENTRIES:
        raise _refusal("the archive has too many entries", path, value=len(entries), expected=MAX_ENTRIES)
    names = [entry.filename for entry in entries]
    for entry in entries:
        kind = stat.S_IFMT(entry.external_attr >> 16)
        if not allowed.fullmatch(entry.orig_filename):
            raise _refusal("the archive has an entry that no submission has", path, value=entry.orig_filename[:80])
        if kind not in (0, stat.S_IFREG):
            raise _refusal("an entry of the archive is a link or something else than a file", path, tag=entry.filename)
        if entry.flag_bits & _ENCRYPTED:
            raise _refusal("an entry of the archive is encrypted", path, tag=entry.filename)
        if entry.file_size > MAX_COMPRESSION_RATIO * max(entry.compress_size, 1):
            ratio = entry.file_size // max(entry.compress_size, 1)
            raise _refusal("an entry grows too much", path, tag=entry.filename, value=ratio, expected=100)
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _refusal("the archive has an entry twice", path, value=twice)


def _content(path: Path, archive: zipfile.ZipFile, entry: zipfile.ZipInfo, limit: int) -> bytes:
    """The entry's bytes; the size that the archive declares is not believed."""
    parts, size = [], 0
    with archive.open(entry) as stream:
        while part := stream.read(_CHUNK):
            size += len(part)
            if size > limit:
                raise _refusal("the archive is too large", path, tag=entry.filename, expected=f"at most {limit} bytes")
            parts.append(part)
    return b"".join(parts)


def _refusal(
    what: str, path: Path, *, tag: str | None = None, value: object = None, expected: object = None
) -> SubmissionError:
    return SubmissionError(what, path=path.name, tag=tag, value=value, expected=expected)
