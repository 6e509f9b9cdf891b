"""Finished stages of a cycle, as the later stages and the cohort read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from doseledger import __version__
from doseledger.cohort import CYCLE_STAGES, Row
from doseledger.errors import StageDamagedError
from doseledger.geometry import Grid
from doseledger.io.tables import read_rows
from doseledger.regions import RegionSpec, hard_labels
from doseledger.steps.kinetics import reference_fractions
from doseledger.steps.specs import read_specs
from doseledger.steps.stage import failure_of, read_outcome

#: Stage that writes a table.
STAGE_OF_TABLE: Final = {
    "acquisition": "ingest",
    "region": "segment",
    "region_activity": "kinetics",
    "blood_sample": "kinetics",
    "curve": "kinetics",
    "organ_dose": "dose",
    "dvh": "dose",
}


@dataclass(frozen=True)
class FinishedCycle:
    """Stage folders of one patient-cycle; some may be refused or absent.

    `lesion_names` goes from names of lesions within the cycle to those of the patient, where they differ:
    rows and specs then have the latter.
    """

    site: str
    patient: str
    cycle: int
    base: Path
    lesion_names: Mapping[str, str] = field(default_factory=dict)

    def folder(self, stage: str) -> Path:
        return self.base / stage

    @cached_property
    def outcomes(self) -> dict[str, Row]:
        """Outcomes of the stages in order of flow, up to the first that failed or has not run.

        What follows a failure was made from an older result and does not count.
        """
        found: dict[str, Row] = {}
        for stage in CYCLE_STAGES:
            outcome = whole_outcome(self.folder(stage))
            if outcome is None or not self._donors_finished(outcome):
                break
            found[stage] = outcome
        return found

    def _donors_finished(self, outcome: Row) -> bool:
        """Whether the other cycles that a stage rests on are themselves what their latest attempts made."""
        keys = outcome.get("aside", ())
        others = [FinishedCycle(**key, base=self.base.parent / f"ses-c{key['cycle']}") for key in keys]
        return all(outcome["stage"] in other.outcomes for other in others)

    @property
    def ok(self) -> bool:
        """Whether the cycle has a dose."""
        return self.outcomes.get("dose", {}).get("status") == "ok"

    def rows(self, table: str) -> list[Row]:
        """Rows of a table; none if its stage was refused or has not finished."""
        stage = STAGE_OF_TABLE[table]
        if self.outcomes.get(stage, {}).get("status") != "ok":
            return []
        return renamed(read_rows(self.folder(stage), table), self.lesion_names)

    @cached_property
    def specs(self) -> list[RegionSpec]:
        specs = read_specs(self.folder("segment"))
        return [replace(spec, region=self.lesion_names.get(spec.region, spec.region)) for spec in specs]

    def reference_labels(self, reference: int, grid: Grid) -> NDArray[np.uint8]:
        """One label per SPECT voxel of the reference time point."""
        key = {"patient": self.patient, "cycle": self.cycle}
        return hard_labels(reference_fractions(self.folder("segment"), key, reference, grid), grid.shape)


def finished_cycles(inputs: Mapping[str, tuple[Path, ...]]) -> list[FinishedCycle]:
    """The cycles whose dose stages are among the inputs of a course."""
    cycles = []
    for folder in inputs["dose"]:
        key = read_outcome(folder)["key"]
        cycles.append(FinishedCycle(key["site"], key["patient"], key["cycle"], folder.parent))
    return sorted(cycles, key=lambda c: c.cycle)


def renamed(rows: list[Row], names: Mapping[str, str]) -> list[Row]:
    """Rows with the patient's names of lesions instead of those of the cycle."""
    columns = ("region", "lesion_id")
    return [row | {c: names[row[c]] for c in columns if row.get(c) in names} for row in rows] if names else rows


def outcome_rows(cycle: FinishedCycle) -> list[Row]:
    """Rows of ``stage_outcome``: one per stage, whether it finished or not."""
    rows = []
    for stage in CYCLE_STAGES:
        key: Row = {"site": cycle.site, "patient": cycle.patient, "cycle": cycle.cycle, "stage": stage}
        rows.append(key | stage_columns(cycle.folder(stage), cycle.outcomes.get(stage)))
    return rows


def whole_outcome(folder: Path) -> Row | None:
    """Outcome of a stage whose latest attempt succeeded and whose files are all there, else None."""
    if failure_of(folder) is not None:
        return None
    try:
        return read_outcome(folder)
    except StageDamagedError:
        return None


def stage_columns(folder: Path, outcome: Row | None) -> dict[str, Any]:
    """Status of a stage: its outcome, or why it has none."""
    if outcome is not None:
        kept = ("status", "code", "sentence", "file", "tag", "origin_stage", "software_version")
        return {k: outcome[k] for k in kept}
    trouble = _trouble(folder)
    if trouble is not None:
        return {"status": "failed", "software_version": __version__, "origin_stage": folder.name} | trouble
    return {
        "status": "missing",
        "code": "not_run",
        "sentence": "The stage has not run: an earlier one failed, or the workflow was stopped. Run it again.",
        "software_version": __version__,
    }


def _trouble(folder: Path) -> Row | None:
    """Why the latest attempt failed, or what is damaged."""
    failure = failure_of(folder)
    if failure is None and folder.exists():
        try:
            read_outcome(folder)
        except StageDamagedError as error:
            return {"code": type(error).__name__, "sentence": str(error)}
    return failure
