"""How far a cohort is, from disk alone: what ``doseledger status`` prints.

One look at the folders of every patient and cycle, and one outcome per cycle: that of its last finished stage, to
which a refusal has been copied. Whether files are intact is the question of ``doseledger verify``.
"""

from __future__ import annotations

import os
import platform
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from doseledger.cohort import (
    COHORT_FOLDERS,
    COHORT_STAGES,
    CYCLE_STAGES,
    ON_REQUEST,
    PARTIAL,
    PATIENT_STAGE,
    Cycle,
    Plan,
    cycle_folder,
    patient_folder,
)
from doseledger.errors import StageDamagedError
from doseledger.steps.stage import attempt_of, failure_of, read_status
from doseledger.steps.usage import SUFFIX, read_usage

STATES: Final = ("done", "refused", "failed", "running", "waiting", "not imaged")
#: Records of finished jobs that are read per stage: the median of more says the same.
MOST_RECORDS: Final = 200


@dataclass(frozen=True)
class Reason:
    """Why a cycle, or the course of a patient (cycle 0), has no result."""

    site: str
    patient: str
    cycle: int
    stage: str
    state: str
    code: str
    sentence: str

    @property
    def where(self) -> str:
        cycle = f", cycle {self.cycle}" if self.cycle else ""
        return f"site {self.site}, patient {self.patient}{cycle}, {self.stage}"


@dataclass(frozen=True)
class Rest:
    """What is still to be computed: jobs by stage, and the median time of those that are finished."""

    jobs: Counter[str]
    median_s: dict[str, float]
    running: int

    @property
    def hours(self) -> float | None:
        """Time of all jobs one after another, without stages of which none has finished; None if there is no other."""
        known = [count * self.median_s[stage] for stage, count in self.jobs.items() if stage in self.median_s]
        return sum(known) / 3600.0 if known else None


@dataclass(frozen=True)
class Progress:
    """State of every planned cycle, the reasons of those that stopped, and what is left to do."""

    states: dict[tuple[str, str, int], str]
    reasons: tuple[Reason, ...]
    rest: Rest

    @property
    def counts(self) -> dict[str, int]:
        """Number of cycles in each state that occurs."""
        found = Counter(self.states.values())
        return {state: found[state] for state in STATES if found[state]}


def progress(plan: Plan) -> Progress:
    """Look at the results folder once and say what has become of every administered cycle."""
    states: dict[tuple[str, str, int], str] = {}
    reasons: list[Reason] = []
    jobs: Counter[str] = Counter()
    running = 0
    for (site, patient), cycles in plan.by_patient.items():
        names = _names(patient_folder(plan.results, site, patient))
        for cycle in cycles:
            if not cycle.scans:
                states[cycle.key] = "not imaged"
                continue
            found = _names(cycle_folder(plan.results, *cycle.key)) if f"ses-c{cycle.cycle}" in names else set()
            state, reason = _state(plan.results, cycle, found)
            states[cycle.key] = state
            reasons += [reason] if reason else []
            running += state == "running"
            if state != "refused":
                jobs.update(stage for stage in CYCLE_STAGES if stage not in found)
        if PATIENT_STAGE not in names:
            jobs[PATIENT_STAGE] += 1
            reason = _failure(plan.results, (site, patient, 0), (PATIENT_STAGE,), names)
            reasons += [reason] if reason else []
    above = _names(plan.results)
    missing = (s for s, folder in zip(COHORT_STAGES, COHORT_FOLDERS, strict=True) if folder not in above)
    jobs.update(stage for stage in missing if stage not in ON_REQUEST)
    return Progress(states, tuple(reasons), Rest(jobs, _medians(plan.results / "logs", jobs), running))


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))
    except FileNotFoundError:
        return set()


def _state(results: Path, cycle: Cycle, names: set[str]) -> tuple[str, Reason | None]:
    if reason := _failure(results, cycle.key, CYCLE_STAGES, names):
        return "failed", reason
    if _attempts(CYCLE_STAGES, names):
        return "running", None
    finished = [stage for stage in CYCLE_STAGES if stage in names]
    if not finished:
        return "waiting", None
    try:
        outcome = read_status(cycle_folder(results, *cycle.key) / finished[-1])
    except StageDamagedError as error:
        return "failed", Reason(*cycle.key, finished[-1], "failed", type(error).__name__, str(error))
    if outcome["status"] == "refused":
        stage = outcome["origin_stage"]
        return "refused", Reason(*cycle.key, stage, "refused", outcome["code"], outcome["sentence"])
    return ("done" if len(finished) == len(CYCLE_STAGES) else "waiting"), None


def _failure(results: Path, key: tuple[str, str, int], stages: tuple[str, ...], names: set[str]) -> Reason | None:
    """Why the latest attempt at a stage came to nothing; None if there was none, or if it is still running."""
    site, patient, cycle = key
    for stage in _attempts(stages, names):
        above = cycle_folder(results, *key) if cycle else patient_folder(results, site, patient)
        failure = failure_of(above / stage)
        if failure is not None and not (failure["code"] == "killed" and _may_run(above / stage)):
            return Reason(*key, stage, "failed", failure["code"], failure["sentence"])
    return None


def _attempts(stages: tuple[str, ...], names: set[str]) -> list[str]:
    return [stage for stage in stages if any(name.startswith(f".{stage}{PARTIAL}") for name in names)]


def _may_run(output: Path) -> bool:
    """Whether the process of the latest attempt lives; that of another machine is taken to."""
    attempt = attempt_of(output)
    if attempt is None or attempt[0] != platform.node():
        return True
    try:
        os.kill(attempt[1], 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _medians(logs: Path, stages: Iterable[str]) -> dict[str, float]:
    """Median wall time of finished jobs, s, from records spread evenly over the cohort."""
    paths = usage_paths(logs)
    found: dict[str, float] = {}
    for stage in stages:
        own = sorted(path for path in paths if path.name.endswith(f"{stage}{SUFFIX}"))
        records = map(read_usage, own[:: len(own) // MOST_RECORDS + 1])
        times = [record.wall_s for record in records if record is not None and record.status == "ok"]
        if times:
            found[stage] = median(times)
    return found


def usage_paths(logs: Path) -> list[Path]:
    """Records of all jobs of a cohort."""
    folders = [logs, *(logs / name for name in sorted(_names(logs)) if name.startswith("site-"))]
    return [folder / name for folder in folders for name in sorted(_names(folder)) if name.endswith(SUFFIX)]


def status_text(found: Progress, *, examples: int) -> str:
    """What a person reads: counts, by site if there are several, what is left, and reasons by their code."""
    lines = [_counts(found.counts) or "no cycles"]
    sites = sorted({site for site, _, _ in found.states})
    if len(sites) > 1:
        for site in sites:
            own = Counter(state for key, state in found.states.items() if key[0] == site)
            lines.append(f"  site {site}: {_counts({state: own[state] for state in STATES if own[state]})}")
    lines += [_rest(found.rest)] if found.rest.jobs else []
    return "\n".join([*lines, *_reasons(found.reasons, examples)])


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {state}" for state, count in counts.items())


def _rest(rest: Rest) -> str:
    text = f"left: {sum(rest.jobs.values())} jobs (" + ", ".join(f"{n} {stage}" for stage, n in rest.jobs.items()) + ")"
    if rest.hours is None:
        return f"{text}; no estimate before the first has finished"
    text += f", about {_duration(rest.hours)} one after another, by the median time of finished jobs"
    if unknown := [stage for stage in rest.jobs if stage not in rest.median_s]:
        text += f" (without {', '.join(unknown)})"
    if not rest.running:
        return text
    return f"{text}; {_duration(rest.hours / rest.running)} with the {rest.running} that run now"


def _duration(hours: float) -> str:
    minutes = 60.0 * hours
    return f"{hours:.1f} h" if hours >= 1.0 else f"{minutes:.0f} min" if minutes >= 1.0 else "less than 1 min"


def _reasons(reasons: tuple[Reason, ...], examples: int) -> list[str]:
    """Every code with its number, and the first sentences of it."""
    groups: dict[tuple[str, str], list[Reason]] = {}
    for reason in reasons:
        groups.setdefault((reason.state, reason.code), []).append(reason)
    lines: list[str] = []
    order = sorted(groups, key=lambda group: (group[0] != "failed", -len(groups[group]), group[1]))
    for state, code in order:
        group = groups[state, code]
        lines.append(f"{state}, {code}: {len(group)}")
        lines += [f"  {reason.where}: {reason.sentence}" for reason in group[:examples]]
        if len(group) > examples:
            lines.append(f"  and {len(group) - examples} more (--all)")
    return lines
