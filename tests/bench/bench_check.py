"""``doseledger check`` of 1,000 cycles, the first time and when nothing has changed: ``make bench``.

The cycles are those of a small virtual cohort, some 100 files of small images each, again and again
under other pseudonyms; their files are hard links. Prints processor time of parent and children:
the first check reads every header, the second the stamps of the files and what the first has kept.
"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter

from processor import count_orphans, processor_s

from doseledger.phantom import simulate

CYCLES = 1000
SITES = 3
#: What a check may cost when nothing has changed, CPU-s.
LONGEST_AGAIN_S = 60.0
SHEETS = ("scans.tsv", "administrations.tsv")


def main() -> None:
    count_orphans()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = simulate(
            folder / "input",
            results="../results",
            cohort="micro",
            size="micro",
            sites=SITES,
            patients=1,
            cycles=1,
            seed=3,
            segmentation="contours",
            camera_studies=False,
            plant_refusal=False,
        )
        copies = CYCLES // SITES + 1
        multiply(config.parent, copies)
        files = sum(len(names) for _, _, names in os.walk(config.parent / "dicom"))
        check = [sys.executable, "-m", "doseledger.cli", "check", str(config)]
        start = perf_counter()
        first_s = processor_s(check)
        wall_s = perf_counter() - start
        again_s = processor_s(check)
        sys.stdout.write(f"{copies * SITES} cycles, {files} files  first CPU-s  wall s  again CPU-s  ratio\n")
        sys.stdout.write(f"{first_s:38.1f}  {wall_s:6.1f}  {again_s:11.2f}  {first_s / again_s:5.1f}\n")
        assert again_s <= LONGEST_AGAIN_S, again_s


def multiply(study: Path, copies: int) -> None:
    """Give every site `copies` patients with the files of its first one."""
    for site in sorted((study / "dicom").iterdir()):
        (source,) = site.iterdir()
        for path in sorted(source.rglob("*")):
            for copy in range(2, copies + 1):
                target = site / f"sub-P{copy}" / path.relative_to(source)
                target.mkdir(parents=True) if path.is_dir() else os.link(path, target)
    for sheet in SHEETS:
        header, *rows = (study / sheet).read_text(encoding="utf-8").splitlines()
        named = [(row, f"P{copy}") for row in rows for copy in range(2, copies + 1)]
        more = [row.replace("\tP1\t", f"\t{name}\t").replace("sub-P1/", f"sub-{name}/") for row, name in named]
        (study / sheet).write_text("\n".join([header, *rows, *more]) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
