"""What goes wrong on clusters, done to a small cohort: each time the tables end as if nothing had happened."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from doseledger import audit
from doseledger.launch.orphans import live_jobs

from .conftest import FAULTS, STEP, ClusterCohort, Slurm, cut_power, done_twice, patched_source, until

pytestmark = pytest.mark.cluster
MakeCohort = Callable[..., ClusterCohort]
Compare = Callable[[ClusterCohort], None]
#: What the undisturbed stages before the fault are.
BEFORE_KINETICS = ("ingest", "segment", "align")
BEFORE_DOSE = (*BEFORE_KINETICS, "kinetics")


def waiting(gate: Path) -> str:
    """A step that goes on when the file `gate` is there."""
    return STEP + (
        "    import time\n    from pathlib import Path\n"
        f"    while not Path({str(gate)!r}).exists():\n        time.sleep(0.2)\n"
    )


def snakemake_below(pid: int) -> int:
    """The Snakemake of a start command."""
    found = subprocess.run(["pgrep", "-P", str(pid), "-f", "snakemake"], capture_output=True, text=True, check=True)
    return int(found.stdout.split()[0])


def test_killed_snakemake_leaves_jobs_that_are_not_submitted_again_and_a_second_run_is_refused(
    slurm: Slurm, half_done: MakeCohort, same: Compare, tmp_path: Path
) -> None:
    cohort = half_done("kinetics")
    kept = cohort.stamps(*BEFORE_KINETICS)
    first = slurm.last()
    gate = tmp_path / "gate"
    source = patched_source(tmp_path, {"steps/kinetics.py": (STEP, waiting(gate))})
    started = cohort.start(source=source)
    until("three jobs run", lambda: [j.state for j in slurm.alive(first)] == ["RUNNING"] * 3)

    second = cohort.run_on_slurm()
    assert second.returncode == 2, second.stdout + second.stderr
    assert f"process {started.pid} on {os.uname().nodename} since 2" in second.stderr
    assert len(slurm.since(first)) == 3
    FAULTS.append(("two runs at once", "the first", "nothing: the second refuses", "0", "same"))

    # The start command alone is killed: Snakemake goes on, and holds the lock.
    snakemake = snakemake_below(started.pid)
    started.kill()
    started.wait()
    assert cohort.run_on_slurm().returncode == 2
    os.kill(snakemake, signal.SIGKILL)
    until("Snakemake is gone", lambda: not Path(f"/proc/{snakemake}").exists())
    orphans = slurm.alive(first)
    assert [job.state for job in orphans] == ["RUNNING"] * 3
    name = orphans[0].name
    assert len(live_jobs(name.partition("_")[0])) == 3

    again = cohort.run_on_slurm()
    assert again.returncode == 0, again.stdout + again.stderr
    assert "3 jobs of the earlier run" in again.stdout
    jobs = slurm.since(first)
    assert {job.state for job in jobs if job.name == name} == {"CANCELLED"}
    assert {job.state for job in jobs if job.name != name} == {"COMPLETED"}
    assert len(jobs) == 3 + 10
    assert cohort.stamps(*BEFORE_KINETICS) == kept
    same(cohort)
    FAULTS.append(
        ("Snakemake and start command killed (-9)", "finished stages", "3 running jobs", str(done_twice(jobs)), "same")
    )


def test_memory_time_and_a_node_run_out_and_the_jobs_are_done_again(
    slurm: Slurm, half_done: MakeCohort, same: Compare, tmp_path: Path
) -> None:
    cohort = half_done("dose")
    # The 3 GB of the rule would have to be filled.
    cohort.change_profile(lambda settings: settings.update({"set-resources": {"dose": {"mem_mb": "900 * attempt"}}}))
    kept = cohort.stamps(*BEFORE_DOSE)
    first = slurm.last()
    # The first attempt of each cycle does not end by itself; cycle 1 takes 900 MB in every attempt.
    fault = STEP + (
        "    import time\n    from pathlib import Path\n"
        f"    mark = Path({str(tmp_path)!r}) / f\"attempt-{{job.rows['cycle']}}\"\n"
        "    first = not mark.exists()\n    mark.touch()\n"
        "    block = bytearray(b'x') * 900_000_000 if job.rows['cycle'] == 1 else b''\n"
        "    if first:\n        time.sleep(3600)\n    del block\n"
    )
    source = patched_source(tmp_path, {"steps/dose.py": (STEP, fault)})
    started = cohort.start(source=source)
    until("cycles 2 and 3 are computed", lambda: all((tmp_path / f"attempt-{c}").exists() for c in (2, 3)))
    slow, victim = (next(j for j in slurm.since(first) if j.task.endswith(f"A_P1_{cycle}")) for cycle in (2, 3))
    subprocess.run(["scontrol", "update", f"jobid={slow.number}", "timelimit=1"], check=True, timeout=60)
    # The machine is gone: the daemon of the node and everything that it has started.
    cut_power(slurm.pid(f"slurmd-{victim.node}"), victim.number)
    until("the run is over", lambda: started.poll() is not None, wait_s=600)
    subprocess.run(["slurmd", "-N", victim.node], check=True, timeout=60)
    assert started.returncode == 0, cohort.screen
    jobs = slurm.since(first)
    attempts = {c: sorted((j for j in jobs if j.task.endswith(f"A_P1_{c}")), key=lambda j: j.number) for c in (1, 2, 3)}
    states = {cycle: [job.state for job in found] for cycle, found in attempts.items()}
    assert states == {cycle: [why, "COMPLETED"] for cycle, why in ((1, "FAILED"), (2, "TIMEOUT"), (3, "NODE_FAIL"))}
    # Without cgroups Slurm polls the memory, and says FAILED where clusters say OUT_OF_MEMORY.
    record = (slurm.folder / f"log/slurmd-{attempts[1][0].node}.log").read_text()
    assert f"StepId={attempts[1][0].number}.0 exceeded memory limit" in record
    assert [job.memory for job in attempts[1]] == ["900M", "1800M"]
    assert attempts[2][1].limit == "2:00:00"
    assert attempts[3][1].node != victim.node
    for reason in ("TIMEOUT", "node failure", "Trying to restart"):
        assert reason in cohort.screen
    assert cohort.stamps(*BEFORE_DOSE) == kept
    same(cohort)
    twice = str(done_twice(jobs))
    FAULTS.append(("job over its memory", "done again with twice the memory", "1 attempt", twice, "same"))
    FAULTS.append(("job over its time", "done again with twice the time", "1 attempt", twice, "same"))
    FAULTS.append(("node lost", "done again on another node", "1 attempt", twice, "same"))


def test_a_controller_that_is_away_while_one_job_ends_and_one_goes_on_loses_neither(
    slurm: Slurm, half_done: MakeCohort, same: Compare, tmp_path: Path
) -> None:
    cohort = half_done("dose", (1, 2))
    kept = cohort.stamps(*BEFORE_DOSE)
    first = slurm.last()
    fault = STEP + (
        "    import time\n    from pathlib import Path\n"
        f"    gate = Path({str(tmp_path)!r}) / f\"gate-{{job.rows['cycle']}}\"\n"
        "    while not gate.exists():\n        time.sleep(0.2)\n"
    )
    started = cohort.start(source=patched_source(tmp_path, {"steps/dose.py": (STEP, fault)}))
    until("both compute", lambda: len(list(cohort.results.glob("site-A/sub-P1/ses-c?/.dose.partial-*"))) == 2)
    stop_controller(slurm)
    until("Snakemake has asked in vain", lambda: "Slurm does not answer for 2 jobs" in cohort.screen)
    # One ends while there is no controller to tell, one after it is back.
    (tmp_path / "gate-2").touch()
    until("one is finished", lambda: (cohort.results / "site-A/sub-P1/ses-c2/dose/outcome.json").exists())
    subprocess.run(["slurmctld"], check=True, timeout=60)
    until("the controller knows that one ended", lambda: [j.state for j in slurm.alive(first)] == ["RUNNING"])
    (tmp_path / "gate-1").touch()
    until("the run is over", lambda: started.poll() is not None)
    assert started.returncode == 0, cohort.screen
    jobs = slurm.since(first)
    # Two doses, the course, compact, compare, cohort_page: each submitted once.
    assert [job.state for job in jobs] == ["COMPLETED"] * 6
    assert cohort.stamps(*BEFORE_DOSE) == kept
    same(cohort)
    for what in ("a job ends", "a job goes on"):
        FAULTS.append((f"slurmctld away while {what}", "everything", "nothing", str(done_twice(jobs)), "same"))


def test_a_controller_that_is_away_at_the_start_is_waited_for(
    slurm: Slurm, half_done: MakeCohort, same: Compare
) -> None:
    cohort = half_done("dose", (3,))
    first = slurm.last()
    stop_controller(slurm)
    started = cohort.start()
    until("a submission waits", lambda: "submissions wait for it" in cohort.screen or started.poll() is not None)
    assert started.poll() is None, cohort.screen
    subprocess.run(["slurmctld"], check=True, timeout=60)
    until("the run is over", lambda: started.poll() is not None)
    assert started.returncode == 0, cohort.screen
    jobs = slurm.since(first)
    assert [job.state for job in jobs] == ["COMPLETED"] * 5
    same(cohort)
    FAULTS.append(("slurmctld away when jobs are submitted", "everything", "nothing", str(done_twice(jobs)), "same"))


def stop_controller(slurm: Slurm) -> None:
    pid = slurm.pid("slurmctld")
    os.kill(pid, signal.SIGTERM)
    until("the controller is gone", lambda: not Path(f"/proc/{pid}").exists())


def test_whoever_interrupts_the_start_command_cancels_its_jobs(
    slurm: Slurm, half_done: MakeCohort, tmp_path: Path
) -> None:
    cohort = half_done("dose", (2,))
    first, before = slurm.last(), audit.hashes(cohort.results)
    started = cohort.start(source=patched_source(tmp_path, {"steps/dose.py": (STEP, waiting(tmp_path / "never"))}))
    until("the job runs", lambda: [j.state for j in slurm.alive(first)] == ["RUNNING"])
    started.send_signal(signal.SIGTERM)
    until("the run is over", lambda: started.poll() is not None)
    until("its job is gone", lambda: not slurm.alive(first))
    assert started.returncode == 1
    assert "the same command goes on" in cohort.screen
    assert [job.state for job in slurm.since(first)] == ["CANCELLED"]
    assert audit.hashes(cohort.results) == before
    FAULTS.append(("start command ended (TERM, Ctrl-C)", "finished stages", "running jobs, cancelled", "0", "same"))


def test_a_full_disk_stops_the_run_with_a_sentence_and_the_same_command_goes_on(
    slurm: Slurm, half_done: MakeCohort, same: Compare, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    results.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "results", str(results)], check=True)
    cohort = half_done("dose", (1,))
    cohort.change_profile(lambda settings: settings.update(retries=0))
    kept = cohort.stamps(*BEFORE_DOSE)
    first = slurm.last()
    gate = tmp_path / "gate"
    started = cohort.start(source=patched_source(tmp_path, {"steps/dose.py": (STEP, waiting(gate))}))
    until("the job runs", lambda: list(cohort.results.glob("site-A/sub-P1/ses-c1/.dose.partial-*")))
    balloon = results / "balloon"
    subprocess.run(["dd", "if=/dev/zero", f"of={balloon}", "bs=4k"], stderr=subprocess.DEVNULL, check=False)
    assert shutil.disk_usage(results).free == 0
    gate.touch()
    until("the run is over", lambda: started.poll() is not None, wait_s=600)
    assert started.returncode == 2, cohort.screen
    assert "the disk is full" in cohort.screen
    assert "0 MB free" in cohort.screen
    full = cohort.run_on_slurm()
    assert full.returncode == 2
    assert "Make room, then run again" in full.stderr
    status = cohort.call("doseledger.cli", "status", str(cohort.config))
    assert status.returncode == 0, status.stderr
    balloon.unlink()
    done = cohort.run_on_slurm()
    assert done.returncode == 0, done.stdout + done.stderr
    assert cohort.stamps(*BEFORE_DOSE) == kept
    same(cohort)
    FAULTS.append(("disk full", "finished stages", "1 job", str(done_twice(slurm.since(first))), "same"))
    subprocess.run(["umount", str(results)], check=True)


def test_read_only_results_are_refused_before_any_job(slurm: Slurm, half_done: MakeCohort) -> None:
    cohort = half_done("dose", (3,))
    first, before, results = slurm.last(), audit.hashes(cohort.results), str(cohort.results)
    subprocess.run(["mount", "--bind", results, results], check=True)
    subprocess.run(["mount", "-o", "remount,ro,bind", results], check=True)
    done = cohort.run_on_slurm()
    subprocess.run(["umount", results], check=True)
    assert done.returncode == 2
    assert "nothing can be written there" in done.stderr
    assert results in done.stderr
    assert "Traceback" not in done.stderr
    assert slurm.since(first) == []
    assert audit.hashes(cohort.results) == before
    FAULTS.append(("results read-only", "everything", "nothing: the run refuses", "0", "same"))


def test_a_truncated_stage_fails_what_reads_it_and_is_made_again(
    slurm: Slurm, half_done: MakeCohort, same: Compare
) -> None:
    cohort = half_done("dose", (3,))

    def without_retries_on_a_gpu(settings: dict[str, Any]) -> None:
        settings["retries"] = 0
        settings["set-resources"] = {"kinetics": {"gpu": 1}}

    cohort.change_profile(without_retries_on_a_gpu)
    kept = cohort.stamps(*BEFORE_KINETICS)
    first = slurm.last()
    victim = next(cohort.results.glob("site-A/sub-P1/ses-c3/kinetics/tia_bq_h_per_ml.nii.gz"))
    victim.write_bytes(victim.read_bytes()[:-100])
    failed = cohort.run_on_slurm()
    assert failed.returncode == 1
    assert "Error in rule dose" in failed.stdout
    status = cohort.call("doseledger.cli", "status", str(cohort.config))
    assert "verify RESULTS --discard" in status.stdout
    assert cohort.call("doseledger.cli", "verify", str(cohort.results), "--discard").returncode == 0
    again = cohort.run_on_slurm()
    assert again.returncode == 0, again.stdout + again.stderr
    assert cohort.stamps(*BEFORE_KINETICS) == kept
    same(cohort)
    (on_gpu,) = [job for job in slurm.since(first) if job.task.startswith("rule_kinetics")]
    # The only node that has a GPU; what was asked for is in the record of the job.
    assert on_gpu.node == "n1"
    record = subprocess.run(["scontrol", "show", "job", str(on_gpu.number)], capture_output=True, text=True, check=True)
    assert "TresPerJob=gres:gpu:1" in record.stdout, record.stdout
    twice = str(done_twice([job for job in slurm.since(first) if "kinetics" in job.task or "dose" in job.task]))
    FAULTS.append(("stage truncated", "what was made before it", "that stage", twice, "same"))
