"""Whether a results folder can be written to, and has room."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Final

from doseledger.errors import DiskFullError, of_writing

#: Below this no run starts, bytes: what Snakemake's records and logs of a large cohort take. How much the
#: results themselves need is told by ``doseledger check``, which looks at the images.
LEAST_ROOM_BYTES: Final = 100_000_000


def check_folder(folder: Path) -> None:
    """Make a folder if it is not there; refuse one that a run would fail in.

    Raises
    ------
    ResultsNotWritableError
        Nothing can be written there.
    DiskFullError
        There is less room than `LEAST_ROOM_BYTES`.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        check_room(folder)
        with tempfile.TemporaryFile(dir=folder, prefix=".room-") as probe:
            probe.write(b"\0")
    except OSError as error:
        raise (of_writing(error) or error) from None


def check_room(folder: Path) -> None:
    free_bytes = shutil.disk_usage(folder).free
    if free_bytes < LEAST_ROOM_BYTES:
        raise DiskFullError(
            "the disk is full",
            path=folder,
            value=f"{free_bytes / 1e6:.0f} MB free",
            expected=f"at least {LEAST_ROOM_BYTES / 1e6:.0f} MB",
        )
