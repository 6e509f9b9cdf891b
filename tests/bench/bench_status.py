"""``doseledger status`` of 20,000 cycles from disk: ``make bench-scale``.

Three quarters of them are finished, some refused, some failed. Prints processor and wall time of the whole command,
and what it says, which must be what was put there.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Final

import yaml
from large_cohort import write_sheets
from large_results import computed_patient, fail, multiply, refuse
from processor import processor_s

from doseledger.io.sheets import load_plan
from doseledger.progress import progress

PATIENTS: Final = 5000
LONGEST_S: Final = 10.0
REFUSED_EVERY: Final = 100
FAILED_EVERY: Final = 1000


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = write_sheets(folder / "large", PATIENTS)
        plan = load_plan(yaml.safe_load(config.read_text()), config.parent)
        keys = list(plan.cycles)
        finished = keys[: 3 * len(keys) // 4]
        multiply(computed_patient(folder / "one"), plan.results, finished)
        refused, failed = finished[::REFUSED_EVERY], finished[1::FAILED_EVERY]
        for key in refused:
            refuse(plan.results, key)
        for key in failed:
            fail(plan.results, key)
        start = perf_counter()
        taken_s = processor_s([sys.executable, "-m", "doseledger.cli", "status", str(config)])
        wall_s = perf_counter() - start
        counts = progress(plan).counts
    sys.stdout.write(f"status of {len(keys)} cycles: {taken_s:.1f} CPU-s, {wall_s:.1f} s; {counts}\n")
    done = len(finished) - len(refused) - len(failed)
    waiting = len(keys) - len(finished)
    assert counts == {"done": done, "refused": len(refused), "failed": len(failed), "waiting": waiting}, counts
    assert taken_s <= LONGEST_S, taken_s


if __name__ == "__main__":
    main()
