"""What the jobs of a cohort took, by rule, and what to ask a scheduler for: ``doseledger usage``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from doseledger.cohort import COHORT_STAGES, CYCLE_STAGES, PATIENT_STAGE
from doseledger.progress import usage_paths
from doseledger.steps.usage import Usage, read_usage

#: Snakemake itself, twice in each job of a cluster.
SNAKEMAKE_MB: Final = 350
#: On top of the largest of the records: the next cohort has a larger patient.
MARGIN: Final = 1.25
#: A node may be this much slower than the one that was measured, or its file system.
SLOWER: Final = 4.0
STEP_MB: Final = 100
SHORTEST_MIN: Final = 5


@dataclass(frozen=True)
class RuleUsage:
    """Median, 95th percentile and largest of each measure over the jobs of a rule that were not refused."""

    stage: str
    jobs: int
    wall_s: tuple[float, float, float]
    cpu_s: tuple[float, float, float]
    peak_mb: tuple[float, float, float]

    @property
    def mem_mb(self) -> int:
        """Memory to ask for at the first attempt."""
        return math.ceil((MARGIN * self.peak_mb[2] + SNAKEMAKE_MB) / STEP_MB) * STEP_MB

    @property
    def runtime_min(self) -> int:
        """Time to ask for at the first attempt."""
        return max(SHORTEST_MIN, math.ceil(SLOWER * self.wall_s[2] / 60.0))


def usage_of_rules(results: Path) -> list[RuleUsage]:
    """Usage of every rule that has finished a job, in order of flow."""
    records = [record for path in usage_paths(results / "logs") if (record := read_usage(path)) is not None]
    stages = (*CYCLE_STAGES, PATIENT_STAGE, *COHORT_STAGES)
    by_stage = {stage: [r for r in records if r.stage == stage and r.status == "ok"] for stage in stages}
    return [_of_rule(stage, own) for stage, own in by_stage.items() if own]


def _of_rule(stage: str, records: Sequence[Usage]) -> RuleUsage:
    return RuleUsage(
        stage,
        len(records),
        _percentiles(r.wall_s for r in records),
        _percentiles(r.cpu_s for r in records),
        _percentiles(r.peak_mb for r in records),
    )


def _percentiles(values: Iterable[float]) -> tuple[float, float, float]:
    """Median, 95th percentile and largest: of the measured values, nothing in between."""
    ordered = sorted(values)

    def at(fraction: float) -> float:
        return ordered[math.ceil(fraction * len(ordered)) - 1]

    return at(0.5), at(0.95), ordered[-1]


def usage_text(rules: Sequence[RuleUsage]) -> str:
    """A table for people: what was measured and what to ask for."""
    if not rules:
        return "No job of this cohort has finished yet: nothing was measured."
    head = f"{'rule':11} {'jobs':>6} {'wall s':>20} {'CPU s':>20} {'peak MB':>20} {'mem_mb':>7} {'runtime':>7}"
    lines = [f"{'':18} {'median, 95 %, largest of each':>62}", head]
    for rule in rules:
        wall, cpu = (" ".join(f"{value:6.1f}" for value in three) for three in (rule.wall_s, rule.cpu_s))
        peak = " ".join(f"{value:6.0f}" for value in rule.peak_mb)
        measured = f"{rule.stage:11} {rule.jobs:6} {wall:>20} {cpu:>20} {peak:>20}"
        lines.append(f"{measured} {rule.mem_mb:7} {rule.runtime_min:7}")
    return "\n".join(lines)
