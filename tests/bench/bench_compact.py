"""Stage ``compact`` over 20,000 cycles, in a process of its own: ``make bench-scale``.

Prints processor time and peak memory of 5,000 and 20,000 cycles. 120,000 files of six tables come from the cycles,
20,000 from the courses.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import yaml
from large_cohort import CYCLES, write_sheets
from large_results import computed_patient, multiply

from doseledger.io.sheets import load_plan

PATIENTS: Final = (1250, 5000)
LONGEST_S: Final = 60.0
MOST_GB: Final = 2.0
#: Processor time per cycle of the larger cohort over that of the smaller one.
STEEPEST: Final = 1.2
BYTES_PER_KIB: Final = 1024

_COMPACT: Final = """
import sys, yaml
from pathlib import Path
from doseledger.io.sheets import load_plan
from doseledger.steps.stage import run_stage
config = Path(sys.argv[1])
plan = load_plan(yaml.safe_load(config.read_text()), config.parent)
rows = {"results": str(plan.results), "planned": plan.planned(), "phantom_qc": []}
outcome = run_stage("compact", inputs={}, output=plan.results / "cohort", settings={}, rows=rows)
assert outcome["status"] == "ok", outcome["sentence"]
"""


def main() -> None:
    per_cycle_ms: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        source = computed_patient(Path(name) / "one")
        for patients in PATIENTS:
            config = write_sheets(Path(name) / str(patients), patients)
            plan = load_plan(yaml.safe_load(config.read_text()), config.parent)
            multiply(source, plan.results, list(plan.cycles))
            taken_s, peak_gb = compacted(config)
            cycles = patients * CYCLES
            per_cycle_ms[patients] = 1e3 * taken_s / cycles
            figures = f"{taken_s:.1f} CPU-s, {peak_gb:.2f} GB, {per_cycle_ms[patients]:.2f} ms per cycle"
            sys.stdout.write(f"compact {cycles} cycles: {figures}\n")
            sys.stdout.flush()
            assert taken_s <= LONGEST_S, taken_s
            assert peak_gb <= MOST_GB, peak_gb
    steepness = per_cycle_ms[PATIENTS[1]] / per_cycle_ms[PATIENTS[0]]
    sys.stdout.write(f"CPU time per cycle, {PATIENTS[1]} over {PATIENTS[0]} patients: {steepness:.2f}\n")
    assert steepness <= STEEPEST, steepness


def compacted(config: Path) -> tuple[float, float]:
    """Processor time, s, and peak memory, GB, of a process that loads the plan and compacts."""
    process = subprocess.Popen([sys.executable, "-c", _COMPACT, str(config)])
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, status
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * BYTES_PER_KIB / 1e9


if __name__ == "__main__":
    main()
