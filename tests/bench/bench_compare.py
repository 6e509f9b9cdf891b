"""Comparison of the sites of a large ledger, in processor time and memory: ``make bench``.

15,000 virtual patients of six sites with up to four cycles, four regions and three analyses each: 600,000 rows of
doses. The tables, and the tables with the page, each in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from doseledger.phantom.ledger import simulate_ledger, write_ledger

SITES, PATIENTS, CYCLES, ANALYSES = 6, 2500, 4, 3
#: What a job of the rule is given, MB.
MEMORY_MB = 4000.0

TABLES = "from pathlib import Path; from doseledger.steps.compare import write_comparison; import sys; "
TABLES += "out = Path(sys.argv[2]); out.mkdir(); write_comparison(Path(sys.argv[1]), out)"


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tables = simulate_ledger(sites=SITES, patients=PATIENTS, cycles=CYCLES, seed=1, analyses=ANALYSES)
        write_ledger(folder / "cohort", tables)
        rows = tables["organ_dose"].num_rows
        del tables
        sys.stdout.write(f"{rows} rows of doses{'':12}CPU-s  memory MB\n")
        whole = [sys.executable, "-m", "doseledger.cli", "compare", str(folder / "cohort"), "--out"]
        commands = {
            "tables": [sys.executable, "-c", TABLES, str(folder / "cohort"), str(folder / "tables")],
            "tables and page": [*whole, str(folder / "page")],
        }
        for what, command in commands.items():
            seconds, megabytes = measured(command)
            sys.stdout.write(f"{what:33}{seconds:7.1f}  {megabytes:9.0f}\n")
            assert megabytes < MEMORY_MB, megabytes


def measured(command: list[str]) -> tuple[float, float]:
    """Processor time and the largest memory of a command."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    assert status == 0, command
    return used.ru_utime + used.ru_stime, used.ru_maxrss * (1.0 if sys.platform == "linux" else 1e-3) / 1024.0


if __name__ == "__main__":
    main()
