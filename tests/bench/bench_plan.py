"""Planning of 100, 1,000 and 5,000 patients with four cycles of four time points: ``make bench-scale``.

Of ``snakemake -n``: processor time and peak memory, which must grow no faster than the cohort. Of a process that finds
the plan kept, as every cluster job does twice: what the rows of one cycle cost.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

from large_cohort import CYCLES, write_sheets

ROOT: Final = Path(__file__).parents[2]
PATIENTS: Final = (100, 1000, 5000)
#: Jobs of a cycle; of a patient; of the cohort, with the targets.
JOBS_PER_CYCLE: Final = 5
LONGEST_S: Final = 150.0
MOST_GB: Final = 2.5
#: Processor time per job of the largest cohort over that of the middle one.
STEEPEST: Final = 1.2
BYTES_PER_KIB: Final = 1024

_ONE_CYCLE: Final = """
import sys, time, yaml, resource
from pathlib import Path
from doseledger.io.sheets import load_plan
config = Path(sys.argv[1])
start = time.process_time()
plan = load_plan(yaml.safe_load(config.read_text()), config.parent)
plan.cycle("S01", "P00001", 1).rows_for("dose")
print(time.process_time() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6)
"""


def main() -> None:
    per_job_ms: dict[int, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for patients in PATIENTS:
            config = write_sheets(Path(name) / str(patients), patients)
            taken_s, peak_gb = dry_run(config)
            jobs = patients * (CYCLES * JOBS_PER_CYCLE + 1)
            per_job_ms[patients] = 1e3 * taken_s / jobs
            one_s, one_mb = (float(word) for word in call([sys.executable, "-c", _ONE_CYCLE, str(config)]).split())
            line(
                f"{patients} patients, {jobs} jobs: -n {taken_s:.1f} CPU-s, {peak_gb:.2f} GB, "
                f"{per_job_ms[patients]:.2f} ms per job; one cycle of the kept plan {one_s:.3f} CPU-s, {one_mb:.0f} MB"
            )
            assert taken_s <= LONGEST_S, taken_s
            assert peak_gb <= MOST_GB, peak_gb
    steepness = per_job_ms[PATIENTS[2]] / per_job_ms[PATIENTS[1]]
    line(f"CPU time per job, {PATIENTS[2]} over {PATIENTS[1]} patients: {steepness:.2f} (at most {STEEPEST})")
    assert steepness <= STEEPEST, steepness


def dry_run(config: Path) -> tuple[float, float]:
    """Processor time, s, and peak memory, GB, of planning everything."""
    command = [sys.executable, "-m", "snakemake", "--dry-run", "--quiet", "all", "--cores", "2", "--profile", "none"]
    command += [
        "--snakefile",
        str(ROOT / "Snakefile"),
        "--configfile",
        str(config),
        "--directory",
        f"{config.parent}/w",
    ]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, cwd=ROOT)
    _, status, usage = os.wait4(process.pid, 0)
    assert status == 0, status
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * BYTES_PER_KIB / 1e9


def call(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def line(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
