"""Stage ``population``: the kinetics of a finished cohort's own patients as a new frozen prior file.

The prior that the cohort reads is named in its config and never lies in its results: what is learnt takes part in
nothing until a person has looked at it, copied it beside a config and named it there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from doseledger.cohort import Row
from doseledger.dose.marrow import BLOOD
from doseledger.errors import PriorError, QuantityError
from doseledger.io.priors import write_prior
from doseledger.kinetics import Cycle, PopulationPrior, class_of, learn
from doseledger.kinetics.curves import SMALLEST_SHARE
from doseledger.nuclides import nuclide
from doseledger.steps.cohort_page import read_cohort_table
from doseledger.steps.stage import Job

STAGE_VERSION: Final[int] = 1
TAKES_REFUSED: Final = True

PRIOR_FILE: Final = "kinetic_prior.json"
#: Scans of a region in a cycle that is learnt from.
LEAST_SCANS: Final = 2
_KEY: Final = ("site", "patient", "cycle")
#: Radiopharmaceutical and class of region.
Kind = tuple[str, str]


@dataclass(frozen=True)
class Learnt:
    """A new prior, and how many curves were left out, by reason."""

    prior: PopulationPrior
    left_out: Counter[str]


def step(job: Job) -> None:
    """Learn from the tables of the cohort."""
    folder = job.one("compact")
    found = learn_prior(
        read_cohort_table(folder, "region_activity"),
        read_cohort_table(folder, "curve"),
        read_cohort_table(folder, "administration"),
        name=job.rows["cohort"],
    )
    write_prior(job.out / PRIOR_FILE, found.prior)


def learn_prior(
    activities: Iterable[Row], curves: Iterable[Row], administrations: Iterable[Row], *, name: str
) -> Learnt:
    """Kinetics of every radiopharmaceutical and class of region that two patients or more tell of.

    A class is a region without side or number; every lesion is one of ``lesion``.

    Raises
    ------
    PriorError
        Nothing can be learnt.
    """
    groups, left_out = teaching_cycles(activities, curves, administrations)
    entries = []
    for (drug, region), cycles in sorted(groups.items()):
        try:
            entries.append(learn(cycles, radiopharmaceutical=drug, region=region, source=f"cohort {name}"))
        except QuantityError:
            left_out["fewer than two patients of the region"] += len(cycles)
    if not entries:
        raise PriorError(
            "nothing can be learnt from the cohort",
            value=dict(left_out),
            expected="two patients with two scans of a region",
            remedy="Run the cohort first; cycles with one scan, refused ones and low grades teach nothing.",
        )
    return Learnt(PopulationPrior(name, tuple(entries)), left_out)


def teaching_cycles(
    activities: Iterable[Row], curves: Iterable[Row], administrations: Iterable[Row]
) -> tuple[dict[Kind, list[Cycle]], Counter[str]]:
    """Cycles to learn from, by radiopharmaceutical and class of region, and the chosen curves left out by reason.

    Activities are those measured: the amplitude of a cycle is free, so that a constant recovery moves nothing.
    """
    rows = list(curves)
    given = {tuple(row[k] for k in _KEY): row for row in administrations}
    scans: dict[tuple[object, ...], list[Row]] = {}
    for row in activities:
        scans.setdefault((*(row[k] for k in _KEY), row["region"]), []).append(row)
    left_out: Counter[str] = Counter()
    groups: dict[Kind, list[Cycle]] = {}
    mixed = len({row["data_origin"] for row in rows}) > 1
    for row in rows:
        if not row["chosen"]:
            continue
        administration = given.get(tuple(row[k] for k in _KEY))
        reason = "no administration" if administration is None else why_left_out(row, mixed=mixed)
        if administration is None or reason:
            left_out[str(reason)] += 1
            continue
        own = scans.get((*(row[k] for k in _KEY), row["region"]))
        if own is None:
            left_out["no activities"] += 1
            continue
        group = groups.setdefault((administration["radiopharmaceutical"], class_of(row["region"])), [])
        group.append(cycle_of(row["site"], row["patient"], own, nuclide(administration["nuclide"]).half_life_h))
    return groups, left_out


def why_left_out(curve: Row, *, mixed: bool) -> str | None:
    """Why a chosen curve teaches nothing; None if it does."""
    if curve["region"] == BLOOD:
        return "of blood samples"
    if curve["n_timepoints"] < LEAST_SCANS:
        return "one scan"
    if curve["prior_sha256"] is not None:
        return "a prior took part"
    if "low" in curve["flags"]:
        return "mostly extrapolated"
    if curve["tia_mbq_h"] is None:
        return "no curve"
    if mixed and curve["data_origin"] != "patient":
        return "virtual among patients"
    return None


def cycle_of(site: str, patient: str, scans: Sequence[Row], half_life_h: float) -> Cycle:
    """The activities of a region in one cycle as the model learns from them."""
    own = sorted(scans, key=lambda row: row["time_h"])
    largest = max(row["activity_mbq"] for row in own)
    return Cycle(
        patient=patient,
        site=site,
        times_h=tuple(row["time_h"] for row in own),
        activity_mbq=tuple(row["activity_mbq"] for row in own),
        half_life_h=half_life_h,
        # An activity near zero is no better known in MBq than one of a hundredth of the largest.
        u_activity_mbq=tuple(max(row["u_activity_mbq"], SMALLEST_SHARE * _u_rel(own) * largest) for row in own),
    )


def _u_rel(scans: Sequence[Row]) -> float:
    seen = (row["u_activity_mbq"] / row["activity_mbq"] for row in scans if row["activity_mbq"] > 0)
    return float(max(seen, default=0.0))
