"""Overhead of the workflow per job: ``make bench-cluster``, or with ``--profile`` on a cluster.

A hundred tiny patients, the same images again and again under other pseudonyms; of each the whole flow. What the jobs
took they have measured themselves; the rest of the time of all slots is starting, scheduling and waiting.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from time import perf_counter
from typing import Final

from bench_check import multiply
from large_results import one_patient
from processor import count_orphans, processor_s

from doseledger.progress import usage_paths
from doseledger.steps.usage import read_usage

ROOT: Final = Path(__file__).parents[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="profiles/local")
    parser.add_argument("--slots", type=int, default=os.cpu_count(), help="jobs that run at once")
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where nodes of the cluster see it")
    arguments = parser.parse_args()
    count_orphans()
    with tempfile.TemporaryDirectory(dir=arguments.folder) as name:
        config = tiny_patients(Path(name), arguments.patients)
        command = [sys.executable, "-m", "doseledger.cli", "run", str(config), "--profile", arguments.profile]
        command += ["--cores", str(arguments.slots), "--directory", f"{name}/work"]
        os.chdir(ROOT)
        start = perf_counter()
        all_cpu_s = processor_s(command)
        wall_s = perf_counter() - start
        records = [read_usage(path) for path in usage_paths(Path(name) / "results" / "logs")]
    jobs = [record for record in records if record is not None]
    inside_s = sum(job.wall_s for job in jobs)
    cpu_s = sum(job.cpu_s for job in jobs)
    slots_s = wall_s * arguments.slots
    lines = {
        "jobs": f"{len(jobs)}",
        "wall time, s": f"{wall_s:.1f}",
        "inside of jobs, wall s and CPU-s": f"{inside_s:.1f}  {cpu_s:.1f}",
        "outside of jobs, slot-s per job": f"{(slots_s - inside_s) / len(jobs):.2f}",
        "of the command, not of the jobs, CPU-s per job": f"{(all_cpu_s - cpu_s) / len(jobs):.2f}",
        "efficiency: inside of jobs over slots": f"{inside_s / slots_s:.2f}",
    }
    for what, value in lines.items():
        sys.stdout.write(f"{what:50} {value}\n")


def tiny_patients(folder: Path, patients: int) -> Path:
    """Config of a cohort with one site whose patients all have the images of the first one."""
    config = one_patient(folder, "tiny")
    multiply(config.parent, patients)
    return config


if __name__ == "__main__":
    main()
