"""Overhead of the workflow per job, here and on a Slurm: ``make bench-cluster``.

A hundred tiny patients, the same images again and again under other pseudonyms; of each the whole flow. What the jobs
took they have measured themselves; the rest of the time of all slots is starting, scheduling and waiting. Without
``--profile`` on the processors of this machine and, where it makes name spaces, on a Slurm with as many nodes; with it
on a cluster.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
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
CLUSTER: Final = ROOT / "tests/cluster"
#: Upper bound of one run, s.
LONGEST_S: Final = 3600


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", help="of a cluster; default: this machine, then a Slurm on it")
    parser.add_argument("--slots", type=int, default=os.cpu_count(), help="jobs that run at once")
    parser.add_argument("--patients", type=int, default=100)
    parser.add_argument("--folder", type=Path, help="where nodes of the cluster see it")
    parser.add_argument("--figures", type=Path, help="file for the figures of one profile, instead of the screen")
    arguments = parser.parse_args()
    os.chdir(ROOT)
    if arguments.profile:
        found = {arguments.profile: measured(arguments.profile, arguments.slots, arguments.patients, arguments.folder)}
        if arguments.figures:
            arguments.figures.write_text(json.dumps(found[arguments.profile]))
            return
    else:
        found = {"local": measured("profiles/local", arguments.slots, arguments.patients, arguments.folder)}
        if subprocess.run([CLUSTER / "box.sh", "true"], check=False).returncode == 0:
            found["Slurm"] = on_slurm(arguments.slots, arguments.patients)
    columns = [f"{name:>12}" for name in found]
    sys.stdout.write(f"{'':52}{''.join(columns)}\n")
    for what in next(iter(found.values())):
        values = "".join(f"{figures[what]:>12.2f}" for figures in found.values())
        sys.stdout.write(f"{what:52}{values}\n")


def measured(profile: str, slots: int, patients: int, folder: Path | None) -> dict[str, float]:
    """Figures of one run of the whole cohort."""
    count_orphans()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        config = tiny_patients(Path(name), patients)
        command = [sys.executable, "-m", "doseledger.cli", "run", str(config), "--profile", profile]
        command += ["--cores", str(slots), "--directory", f"{name}/work"]
        start = perf_counter()
        all_cpu_s = processor_s(command)
        wall_s = perf_counter() - start
        records = [read_usage(path) for path in usage_paths(Path(name) / "results" / "logs")]
    jobs = [record for record in records if record is not None]
    inside_s = sum(job.wall_s for job in jobs)
    slots_s = wall_s * slots
    return {
        "jobs": len(jobs),
        "jobs at once": slots,
        "wall time, s": wall_s,
        "inside of a job, wall s": inside_s / len(jobs),
        "inside of a job, CPU-s": sum(job.cpu_s for job in jobs) / len(jobs),
        "outside of a job, slot-s": (slots_s - inside_s) / len(jobs),
        "everything, CPU-s per job": all_cpu_s / len(jobs),
        "efficiency: inside of jobs over slots": inside_s / slots_s,
    }


def on_slurm(slots: int, patients: int) -> dict[str, float]:
    """The same on a Slurm of this machine with as many nodes of one CPU."""
    with tempfile.TemporaryDirectory() as name:
        figures = Path(name) / "figures.json"
        command = [str(CLUSTER / "box.sh"), str(CLUSTER / "on_slurm.sh"), sys.executable, __file__]
        command += ["--profile", "profiles/test-cluster", "--slots", str(slots), "--patients", str(patients)]
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(
            [*command, "--figures", str(figures)],
            check=True,
            timeout=LONGEST_S,
            env=os.environ | {"SLURM_TEST_NODES": str(slots)},
        )
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        found: dict[str, float] = json.loads(figures.read_text())
    # Jobs descend from the daemons of Slurm, not from the start command: theirs is the time of all in the box.
    all_cpu_s = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return found | {"everything, CPU-s per job": all_cpu_s / found["jobs"]}


def tiny_patients(folder: Path, patients: int) -> Path:
    """Config of a cohort with one site whose patients all have the images of the first one."""
    config = one_patient(folder, "tiny")
    multiply(config.parent, patients)
    return config


if __name__ == "__main__":
    main()
