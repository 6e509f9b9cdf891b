"""From DICOM to the cohort page through slurmctld: the same tables as on one machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from tests.workflow.conftest import Cohort

from doseledger import audit
from doseledger.phantom import simulate
from doseledger.phantom.study import WEIGHTS
from doseledger.segmentation.demo_weights import unpack_demo_weights

from .conftest import FAULTS, ClusterCohort, Slurm, done_twice

pytestmark = pytest.mark.cluster


def test_two_sites_of_the_demo_give_the_tables_of_the_local_run(slurm: Slurm, tmp_path: Path) -> None:
    """One cycle of site A, which is refused, and one of site B: masks by the demo's network, all stages, the pages.

    All of `make demo` would be 69 jobs instead of 15, and the local run as much longer.
    """
    config = simulate(
        tmp_path / "input",
        sites=2,
        patients=1,
        cycles=1,
        seed=1,
        segmentation="totalsegmentator",
        results="../results",
    )
    unpack_demo_weights(config.parent / WEIGHTS)
    local = config.with_name("local.yaml")
    local.write_text(config.read_text().replace("../results", "../local/results"))
    (tmp_path / "local").mkdir()
    alone = Cohort(tmp_path / "local", local)
    done = alone.run()
    assert done.returncode == 0, done.stdout + done.stderr

    cohort = ClusterCohort(tmp_path, config)
    # Without cgroups Slurm counts more than the largest process, for which the rule asks 4 GB.
    cohort.change_profile(
        lambda settings: settings.update({"set-resources": {"segment": {"mem_mb": "6000 * attempt"}}})
    )
    first = slurm.last()
    # It is there and has no database: a status command that asks it would wait for ever.
    assert subprocess.run(["sacct"], capture_output=True, timeout=60, check=False).returncode != 0
    done = cohort.run_on_slurm()
    assert done.returncode == 0, done.stdout + done.stderr
    jobs = slurm.since(first)
    # 2 cycles x 5 stages, 2 courses, compact, compare, cohort_page.
    assert [job.state for job in jobs] == ["COMPLETED"] * 15
    compared = cohort.call("doseledger.cli", "verify", str(cohort.results), "--against", str(alone.results))
    assert compared.returncode == 0, compared.stdout
    assert audit.cohort_sha256(cohort.results) == audit.cohort_sha256(alone.results)
    refused = [outcome for site in "AB" if (outcome := cohort.outcome(site, "P1", 1, "dose"))["status"] == "refused"]
    assert len(refused) == 1
    pages = [sorted(p.read_bytes() for p in c.results.rglob("index.html")) for c in (cohort, alone)]
    assert pages[0] == pages[1]
    FAULTS.append(("sacct without its database", "everything", "nothing", "0", "same"))
    FAULTS.append(("none: two sites of the demo", "everything", "nothing", str(done_twice(jobs)), "same"))
