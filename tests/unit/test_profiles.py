"""The profiles: what a cluster needs is in them, and the tests run what is shipped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PROFILES = ROOT / "profiles"
SLURM = "doseledger-slurm-"


def profile(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((PROFILES / name / "config.yaml").read_text()))


def test_the_profile_of_the_tests_is_the_one_for_clusters_but_for_pace_and_partition() -> None:
    real, test = profile("slurm"), profile("test-cluster")
    own = {"default-resources", "jobs", "latency-wait"}
    own |= {SLURM + name for name in ("init-seconds-before-status-checks", "status-attempts")}
    assert {k: v for k, v in real.items() if k not in own} == {k: v for k, v in test.items() if k not in own}


def test_what_a_cluster_needs_is_in_the_profile() -> None:
    real = profile("slurm")
    # The executor of Snakemake itself loses its jobs when the controller is away.
    assert real["executor"] == "doseledger-slurm"
    # sacct without its database answers nothing, and Snakemake waits for ever.
    assert real[SLURM + "status-command"] == "squeue"
    # The first question comes when jobs have had time to start; a minute at the end of every run is saved.
    assert 20 <= real[SLURM + "init-seconds-before-status-checks"] <= 40
    assert "max-jobs-per-timespan" not in real
    assert real["retries"] >= 1
    # Members of a group would run one after another while their memory is summed.
    assert "groups" not in real
    # Snakemake takes a setting of another executor without a word.
    assert not [key for name in ("slurm", "test-cluster") for key in profile(name) if key.startswith("slurm-")]


@pytest.mark.parametrize("name", ["slurm", "test-cluster"])
def test_memory_and_time_stand_in_the_rules_alone(name: str) -> None:
    settings = profile(name)
    resources = [settings.get("default-resources", {}), *settings.get("set-resources", {}).values()]
    assert not [number for own in resources for number in own if number in ("mem_mb", "runtime")]


def test_every_rule_that_is_submitted_asks_for_memory_and_time_that_grow_with_the_attempt() -> None:
    text = "\n".join(path.read_text() for path in sorted((ROOT / "workflow/rules").glob("*.smk")))
    rules = [rule for rule in re.split(r"^rule ", text, flags=re.MULTILINE)[1:] if "\n    script:" in rule]
    assert len(rules) >= 9
    for rule in rules:
        for resource in ("mem_mb", "runtime"):
            (asked,) = re.findall(rf"{resource}=lambda w, attempt: (.+) \* attempt,", rule)
            # Two Snakemake processes take 350 MB of every job.
            assert resource != "mem_mb" or not asked.isdigit() or int(asked) >= 500
