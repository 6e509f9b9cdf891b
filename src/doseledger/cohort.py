"""The typed plan of a cohort and every output path.

Only the standard library and `doseledger.errors` are imported: every cluster job parses this.
Sheets are read and validated in `doseledger.io.sheets`, which builds the plan.
"""

from __future__ import annotations

import ast
import json
import os
import platform
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, Final

from doseledger.errors import ForeignResultsError

Row = dict[str, Any]
Key = tuple[str, str, int]

#: Stages of one patient-cycle, in order of flow.
CYCLE_STAGES: Final = ("ingest", "segment", "align", "kinetics", "dose")
PATIENT_STAGE: Final = "course"
COHORT_STAGES: Final = ("compact", "compare", "cohort_page", "population")
#: Not made by a run of the cohort.
ON_REQUEST: Final = ("population",)
#: Stage of a cycle with one scan that takes the curves of other cycles.
DONOR_STAGE: Final = "kinetics"
#: Methods for one scan that read the prior, at least where they have nothing better.
PRIOR_METHODS: Final = ("madsen", "population", "own_cycle")
#: Their folders below the results, in the same order.
COHORT_FOLDERS: Final = ("cohort", "compare", "cohort_page", "population")
MARKER: Final = "cohort.json"
#: In the name of a folder that a stage writes before it is renamed to its own name.
PARTIAL: Final = ".partial-"

#: Set where the workflow starts, before a library reads it. One thread: the order of a sum would
#: depend on their number. One instruction set on x86: newer processors round differently.
DETERMINISTIC_ENVIRONMENT: Final = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS": "1",
    "PYTHONHASHSEED": "0",
    **(
        {"OPENBLAS_CORETYPE": "Haswell", "NUMBA_CPU_NAME": "haswell", "ATEN_CPU_CAPABILITY": "avx2"}
        if platform.machine() == "x86_64"
        else {}
    ),
}

#: Memory of a segment job, MB: contours, and models by their voxels (TotalSegmentator at 6, 3 and 1.5 mm).
SEGMENT_MEM_MB: Final = {"contours": 2000, "fastest": 4000, "fast": 7000, "default": 16000}

#: Labels of sites and patients: safe in paths, in BIDS names and in every shell.
LABEL: Final = re.compile(r"[A-Za-z0-9]+")


def administered_mbq(administration: Row) -> float:
    """Measured minus residual activity of a row of the administration sheet."""
    return float(administration["measured_activity_mbq"] - administration["residual_activity_mbq"])


@dataclass(frozen=True)
class Cycle:
    """One administered cycle with all its rows of the sheets.

    ``problems`` are the errors of its sheet rows (code, sentence, file, tag): the ingest stage
    refuses the cycle with the first of them.
    """

    site: str
    patient: str
    cycle: int
    administration: Row | None
    scans: tuple[Row, ...]
    cameras: tuple[Row, ...]
    regions: tuple[Row, ...]
    data_origin: str
    base: str
    review: tuple[Row, ...] = ()
    curve_models: tuple[Row, ...] = ()
    blood_samples: tuple[Row, ...] = ()
    person: Row | None = None
    problems: tuple[Row, ...] = ()
    #: Name, SHA-256 and entries of the radiopharmaceutical; None where the kinetics of the cycle do not read it.
    prior: Row | None = None

    @property
    def key(self) -> Key:
        return (self.site, self.patient, self.cycle)

    def rows_for(self, stage: str) -> Row:
        """What a stage must know of the sheets, as plain data.

        Only that: a change of another cell must not compute the stage again.
        """
        key: Row = {"site": self.site, "patient": self.patient, "cycle": self.cycle, "data_origin": self.data_origin}
        by_stage: dict[str, Row] = {
            "ingest": {
                "base": self.base,
                "problems": list(self.problems),
                "administration": self.administration,
                "scans": _pick(self.scans, "time_point", "spect", "ct", "camera"),
                # Recovery is no matter of reading: a new phantom study of it computes no image again.
                "cameras": [{k: v for k, v in c.items() if "recovery" not in k} for c in self.cameras],
            },
            "segment": {
                "base": self.base,
                "scans": _pick(self.scans, "time_point", "contours", "camera"),
                "cameras": _pick(self.cameras, "camera", "fwhm_mm"),
                "regions": list(self.regions),
                "review": _pick(self.review, "time_point", "decision", "label_map", "reviewer", "comment"),
            },
            "align": {
                "scans": _pick(self.scans, "time_point", "camera"),
                "cameras": _pick(self.cameras, "camera", "fwhm_mm"),
            },
            "kinetics": {
                "nuclide": (self.administration or {}).get("nuclide"),
                # No region holds more than was administered.
                "administration": {k: (self.administration or {}).get(k) for k in _ACTIVITIES},
                "curve_models": _pick(self.curve_models, *_CURVE_MODEL),
                "prior": self.prior,
                "scans": _pick(self.scans, "time_point", "camera"),
                "cameras": [{k: v for k, v in c.items() if k in _BLUR or "recovery" in k} for c in self.cameras],
                "blood_samples": list(self.blood_samples),
            },
            "dose": {
                # Of the patient only what the mass of the red marrow follows from.
                "person": {k: (self.person or {}).get(k) for k in ("sex", "mass_kg")},
                "administration": self.administration,
                "scans": _pick(self.scans, "time_point", "camera"),
                "cameras": _pick(self.cameras, "camera", "fwhm_mm", "u_calibration_rel"),
            },
        }
        return key | by_stage[stage]


_ACTIVITIES: Final = ("measured_activity_mbq", "residual_activity_mbq")
_CURVE_MODEL: Final = ("region", "model", "single_time_point", "uptake_half_life_h", "uptake_ln_sd")
#: What says how much a camera blurs, beside the columns of its recovery.
_BLUR: Final = ("camera", "fwhm_mm")


def _pick(rows: tuple[Row, ...], *columns: str) -> list[Row]:
    return [{column: row.get(column) for column in columns} for row in rows]


@dataclass(frozen=True)
class Plan:
    """A cohort: what is to be done, and where it goes."""

    cohort: str
    results: Path
    settings: dict[str, Row]
    cycles: Mapping[Key, Cycle]
    patients: dict[tuple[str, str], Row]
    limits: tuple[Row, ...]
    base: Path
    data_origin: str
    phantom_qc: tuple[Row, ...] = ()

    def cycle(self, site: str, patient: str, cycle: int | str) -> Cycle:
        return self.cycles[(site, patient, int(cycle))]

    @property
    def imaged(self) -> list[Cycle]:
        """Cycles that have scans: those for which jobs run."""
        return [c for c in self.cycles.values() if c.scans]

    @cached_property
    def by_patient(self) -> Mapping[tuple[str, str], list[Cycle]]:
        """All administered cycles of each patient, in order."""
        return _ByPatient(self.cycles)

    def donors(self, site: str, patient: str, cycle: int | str) -> list[Cycle]:
        """Cycles whose curves a cycle with one scan may take the half-lives of, the best one first.

        They have two scans or more and the same radiopharmaceutical. None of them takes anything itself, so that
        the jobs cannot wait for each other in a circle.
        """
        own, settings = self.cycle(site, patient, cycle), self.settings[DONOR_STAGE]
        if len(own.scans) != 1 or "own_cycle" not in single_methods(settings, own.curve_models):
            return []
        others = [
            other
            for other in self.by_patient[(site, patient)]
            if len(other.scans) > 1
            and (other.cycle < own.cycle or settings["own_cycle"] == "any")
            and _given(other) == _given(own) is not None
        ]
        # The nearest; of two as near, the earlier one.
        return sorted(others, key=lambda other: (abs(other.cycle - own.cycle), other.cycle))

    def donor_folders(self, site: str, patient: str, cycle: int | str) -> list[str]:
        donors = self.donors(site, patient, cycle)
        return [stage_folder(self.results, *donor.key, DONOR_STAGE).as_posix() for donor in donors]

    def course_rows(self, site: str, patient: str) -> Row:
        """What the course stage must know of the patient, as plain data."""
        cycles = self.by_patient[(site, patient)]
        return {
            "site": site,
            "patient": patient,
            "person": self.patients.get((site, patient)),
            "administrations": [c.administration for c in cycles if c.administration],
            "cycles": [{"cycle": c.cycle, "imaged": bool(c.scans)} for c in cycles],
            "regions": list(cycles[0].regions),
            "limits": list(self.limits),
            "data_origin": self.data_origin,
        }

    def planned(self) -> list[list[Any]]:
        """Keys of all cycles and whether they have scans, for the compact stage."""
        return [[c.site, c.patient, c.cycle, bool(c.scans)] for c in self.cycles.values()]


def single_methods(settings: Row, curve_models: Sequence[Row]) -> set[str]:
    """Methods for one scan that the config and the rows of ``curve_models.tsv`` ask for."""
    named = {row.get("single_time_point") for row in curve_models} - {None}
    return {str(settings["single_time_point"]), *map(str, named)}


def uses_prior(settings: Row, scans: int, curve_models: Sequence[Row]) -> bool:
    """Whether the kinetics of a cycle with so many scans read the prior."""
    if scans == 1:
        return bool(single_methods(settings, curve_models) & set(PRIOR_METHODS))
    return scans == 2 and bool(settings["two_time_points"] == "population")


def _given(cycle: Cycle) -> tuple[str, str] | None:
    """What was given: half-lives of another radiopharmaceutical or nuclide say nothing."""
    row = cycle.administration
    return None if row is None else (row["radiopharmaceutical"], row["nuclide"])


class _ByPatient(Mapping[tuple[str, str], list[Cycle]]):
    """Cycles by patient; those of other patients are not read for it."""

    def __init__(self, cycles: Mapping[Key, Cycle]) -> None:
        self._cycles = cycles
        self._keys: dict[tuple[str, str], list[Key]] = {}
        for key in cycles:
            self._keys.setdefault(key[:2], []).append(key)

    def __getitem__(self, patient: tuple[str, str]) -> list[Cycle]:
        return [self._cycles[key] for key in self._keys[patient]]

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)


def cycle_folder(results: str | Path, site: str, patient: str, cycle: int | str) -> Path:
    return patient_folder(results, site, patient) / f"ses-c{cycle}"


def patient_folder(results: str | Path, site: str, patient: str) -> Path:
    return Path(results) / f"site-{site}" / f"sub-{patient}"


def stage_folder(results: str | Path, site: str, patient: str, cycle: int | str, stage: str) -> Path:
    return cycle_folder(results, site, patient, cycle) / stage


@cache
def stage_version(stage: str) -> int:
    """``STAGE_VERSION`` of a steps module, read without importing its heavy libraries."""
    source = Path(__file__).parent / "steps" / f"{stage}.py"
    for node in ast.parse(source.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", "") == "STAGE_VERSION":
            return int(ast.literal_eval(node.value))  # type: ignore[arg-type]
    raise LookupError(f"{source} has no STAGE_VERSION")


def segment_mem_mb(settings: Row) -> int:
    """Memory to ask for, by the back end and its voxels."""
    source = settings["source"]
    return SEGMENT_MEM_MB["contours" if source == "contours" else settings["mode"]]


def claim_results(results: Path, cohort: str) -> None:
    """Mark `results` as the root of `cohort`; refuse the root of another one.

    Raises
    ------
    ForeignResultsError
        The folder belongs to another cohort, or holds something else.
    """
    marker = results / MARKER
    if marker.exists():
        owner = json.loads(marker.read_text(encoding="utf-8"))["cohort"]
        if owner != cohort:
            raise ForeignResultsError(
                "the results folder belongs to another cohort", path=results, value=owner, expected=cohort
            )
        return
    if results.exists() and any(p.name.startswith("site-") for p in results.iterdir()):
        raise ForeignResultsError("the results folder has results but no cohort mark", path=marker)
    results.mkdir(parents=True, exist_ok=True)
    write_atomically(marker, json.dumps({"cohort": cohort}) + "\n")


def write_atomically(path: Path, text: str) -> None:
    """Write a small file so that a reader sees either nothing or all of it."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def cycle_targets(plan: Plan) -> list[str]:
    """Dose folders of all imaged cycles."""
    return [stage_folder(plan.results, *c.key, CYCLE_STAGES[-1]).as_posix() for c in plan.imaged]


def course_inputs(plan: Plan, site: str, patient: str, *, available: bool) -> list[str]:
    """Dose folders of a patient's imaged cycles; with `available`, of those that are finished."""
    cycles = [c for c in plan.by_patient[(site, patient)] if c.scans]
    taken = [c for c in cycles if not available or _is_finished_with_donors(plan, c)]
    return [stage_folder(plan.results, *c.key, CYCLE_STAGES[-1]).as_posix() for c in taken]


def _is_finished_with_donors(plan: Plan, cycle: Cycle) -> bool:
    """As `is_finished`; a cycle that rests on the half-lives of another one rests on its latest attempt, too."""
    until_donor = CYCLE_STAGES[: CYCLE_STAGES.index(DONOR_STAGE) + 1]
    donors = [cycle_folder(plan.results, *donor.key) for donor in plan.donors(*cycle.key)]
    return is_finished(cycle_folder(plan.results, *cycle.key)) and not any(
        _failed_attempts(folder, until_donor) for folder in donors
    )


def course_targets(plan: Plan, *, available: bool) -> list[str]:
    """Course folders of all patients.

    With `available`, a patient none of whose cycles could be finished has no course, unless none
    was imaged: compact writes the outcome rows of both.
    """
    return [
        (patient_folder(plan.results, site, patient) / PATIENT_STAGE).as_posix()
        for (site, patient), cycles in plan.by_patient.items()
        if not available or not any(c.scans for c in cycles) or course_inputs(plan, site, patient, available=True)
    ]


def cohort_inputs(plan: Plan, *, available: bool) -> list[str]:
    """Course folders that compact waits for; with `available`, none whose latest attempt failed."""
    targets = course_targets(plan, available=available)
    return [t for t in targets if not available or not _failed_attempts(Path(t).parent, (PATIENT_STAGE,))]


def is_finished(folder: Path) -> bool:
    """Whether all stages of a cycle folder are there, and the latest attempt at each succeeded.

    A stage that is computed again and fails leaves its attempt beside the older result: that
    result was made with other settings or inputs and must not be taken.
    """
    return all((folder / stage).is_dir() for stage in CYCLE_STAGES) and not _failed_attempts(folder, CYCLE_STAGES)


def _failed_attempts(folder: Path, stages: tuple[str, ...]) -> list[str]:
    names = os.listdir(folder) if folder.is_dir() else []
    return [name for name in names if name.startswith(tuple(f".{stage}{PARTIAL}" for stage in stages))]
