"""``doseledger index`` against the bare reading of the same headers: ``make bench``.

Prints processor time of parent and children of both, in turns in one run, and their ratio, which is
what may be quoted: the bare reading is `pydicom.dcmread(path, stop_before_pixels=True)` of every
file in one process. Then the index once more, when nothing has changed.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

import pydicom
from dicom_tree import write_tree
from processor import count_orphans, processor_s

FILES = 20_000
ROUNDS = 2
#: What the index may cost: ratio to the bare reading, and CPU-s when nothing has changed.
LARGEST_RATIO = 1.3
LONGEST_AGAIN_S = 2.0


def main() -> None:
    count_orphans()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = write_tree(folder / "dicom", FILES)
        bare = [sys.executable, __file__, str(folder / "dicom")]
        processor_s(bare)  # Brings the files into the memory of the system.
        sys.stdout.write(f"{count} files  bare CPU-s  index CPU-s  ratio  again CPU-s\n")
        for turn in range(ROUNDS):
            bare_s = processor_s(bare)
            out = folder / f"turn{turn}"
            out.mkdir()
            index_s = processor_s(index(folder / "dicom", out / "scans.tsv"))
            again_s = processor_s(index(folder / "dicom", out / "again.tsv"))
            assert (out / "scans.tsv").read_bytes() == (out / "again.tsv").read_bytes()
            ratio = index_s / bare_s
            sys.stdout.write(f"{' ' * 12}{bare_s:10.2f}  {index_s:11.2f}  {ratio:5.2f}  {again_s:11.2f}\n")
            assert ratio <= LARGEST_RATIO, ratio
            assert again_s <= LONGEST_AGAIN_S, again_s


def index(folder: Path, out: Path) -> list[str]:
    return [sys.executable, "-m", "doseledger.cli", "index", str(folder), "--out", str(out)]


def read_bare(top: str) -> None:
    for folder, _, names in os.walk(top):
        for name in names:
            pydicom.dcmread(os.path.join(folder, name), stop_before_pixels=True)


if __name__ == "__main__":
    read_bare(sys.argv[1]) if len(sys.argv) > 1 else main()
