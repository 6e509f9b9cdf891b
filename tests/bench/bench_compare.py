"""Comparison of the sites of a large ledger, in processor time and memory: ``make bench``.

15,000 virtual patients of six sites with up to four cycles, four regions and three analyses each: 600,000 rows of
doses. Tables and page by the command, in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from doseledger.phantom.ledger import simulate_ledger, write_ledger

SITES, PATIENTS, CYCLES, ANALYSES = 6, 2500, 4, 3
#: What a job of the rule is given at first, MB.
MEMORY_MB = 4000.0


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = simulate_ledger(sites=SITES, patients=PATIENTS, cycles=CYCLES, seed=1, analyses=ANALYSES)
        write_ledger(folder / "cohort", tables)
        rows = tables["organ_dose"].num_rows
        del tables
        command = [sys.executable, "-m", "doseledger.cli", "compare", str(folder / "cohort")]
        seconds, megabytes = measured([*command, "--out", str(folder / "out")])
        page_mb = (folder / "out" / "index.html").stat().st_size / 1e6
        sys.stdout.write(f"{'rows of doses':>13}  CPU-s  memory MB  page MB\n")
        sys.stdout.write(f"{rows:13}  {seconds:5.1f}  {megabytes:9.0f}  {page_mb:7.2f}\n")
        assert megabytes < MEMORY_MB, megabytes


def measured(command: list[str]) -> tuple[float, float]:
    """Processor time and the largest memory of a command."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, command
    # Kilobytes, but bytes on macOS.
    unit = 1024.0 if sys.platform == "linux" else 1024.0**2
    return used.ru_utime + used.ru_stime, used.ru_maxrss / unit


if __name__ == "__main__":
    main()
