"""The profiles: what a cluster needs is in them, and the tests run what is shipped."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

PROFILES = Path(__file__).parents[2] / "profiles"


def profile(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((PROFILES / name / "config.yaml").read_text()))


def test_the_profile_of_the_tests_is_the_one_for_clusters_but_for_times_and_sizes() -> None:
    real, test = profile("slurm"), profile("test-cluster")
    own = {"default-resources", "set-resources", "jobs", "latency-wait", "slurm-init-seconds-before-status-checks"}
    assert {k: v for k, v in real.items() if k not in own} == {k: v for k, v in test.items() if k not in own}


def test_what_a_cluster_needs_is_in_the_profile() -> None:
    real = profile("slurm")
    # sacct without its database answers nothing, and Snakemake waits for ever.
    assert real["slurm-status-command"] == "squeue"
    # The first question comes when jobs have had time to start; a minute at the end of every run is saved.
    assert 20 <= real["slurm-init-seconds-before-status-checks"] <= 40
    assert "max-jobs-per-timespan" not in real
    # Two Snakemake processes take 350 MB of every job.
    assert int(real["default-resources"]["mem_mb"].split()[0]) >= 500
    assert all("attempt" in real["default-resources"][key] for key in ("mem_mb", "runtime"))
    assert real["retries"] >= 1
    # Members of a group would run one after another while their memory is summed.
    assert "groups" not in real
