"""Curve models of a finished cohort, chosen on all its cycles together, as the sheet ``curve_models.tsv``."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np

from doseledger.cohort import Plan, Row
from doseledger.errors import InputMissingError, SheetError
from doseledger.io.models import CurveModel
from doseledger.io.sheets import read_sheet
from doseledger.kinetics.curves import SMALLEST_SHARE, Samples, check_samples
from doseledger.kinetics.forms import FORMS
from doseledger.kinetics.joint import LEAST_SCANS, JointComparison, compare_jointly, uptake_spread
from doseledger.kinetics.priors import class_of
from doseledger.nuclides import nuclide
from doseledger.steps.cohort_page import read_cohort_table

#: Fewer cycles of a region decide nothing: a weight on them is chance. Sides and lesions of a cycle count once.
LEAST_CYCLES: Final = 5
COLUMNS: Final = tuple(CurveModel.model_fields)

Group = tuple[str, str]


@dataclass
class Curves:
    """All curves of a radiopharmaceutical and class of region: region and cycle of each, and its scans."""

    regions: list[str] = field(default_factory=list)
    cycles: list[tuple[str, str, int]] = field(default_factory=list)
    samples: list[Samples] = field(default_factory=list)


@dataclass(frozen=True)
class Selection:
    """What was found for a class of region under a radiopharmaceutical.

    Attributes
    ----------
    regions
        Names in the sheet.
    model
        What the sheet gets: of the models that single cycles can carry, that of the highest weight. None where too
        few cycles decide nothing.
    """

    radiopharmaceutical: str
    region_class: str
    regions: tuple[str, ...]
    n_cycles: int
    comparison: JointComparison
    model: str | None
    uptake: tuple[float, float] | None

    @property
    def best(self) -> str | None:
        weights = self.comparison.weights
        return max(weights, key=lambda name: weights[name]) if weights else None


def select_models(plan: Plan, out: Path) -> list[Selection]:
    """Choose models on the tables of a finished cohort and write the sheet; it is read again before it is left.

    Raises
    ------
    InputMissingError
        The cohort has no table of activities: it has not been run.
    SheetError
        The sheet exists: what a person has reviewed is never overwritten.
    """
    if out.exists():
        raise SheetError(
            "the sheet exists; a reviewed sheet is never overwritten", path=out, remedy="Name another file."
        )
    folder = plan.results / "cohort"
    activities = read_cohort_table(folder, "region_activity")
    if not activities:
        raise InputMissingError("the cohort has no activities", path=folder, remedy="Run the cohort first.")
    given = {(c.site, c.patient, c.cycle): c.administration for c in plan.cycles.values()}
    u_rel = plan.settings["kinetics"]["relative_random_uncertainty"]
    groups = grouped_samples(fitted_rows(activities, read_cohort_table(folder, "curve")), given, u_rel)
    selections = [selected(key, group) for key, group in sorted(groups.items())]
    _write(out, selections)
    read_sheet(out, CurveModel, unique=("radiopharmaceutical", "region"))
    return selections


def fitted_rows(activities: Iterable[Row], curves: Iterable[Row]) -> list[Row]:
    """Activities of regions that have a curve of their own, which sums of regions have not."""
    own = {tuple(row[c] for c in ("site", "patient", "cycle", "region")) for row in curves}
    return [row for row in activities if tuple(row[c] for c in ("site", "patient", "cycle", "region")) in own]


def grouped_samples(
    activities: Iterable[Row], given: Mapping[tuple[str, str, int], Row | None], u_rel: float
) -> dict[Group, Curves]:
    """All curves by radiopharmaceutical and class of region; left and right are one class."""
    by_region: dict[tuple[str, str, int, str], list[Row]] = {}
    for row in activities:
        by_region.setdefault((row["site"], row["patient"], row["cycle"], row["region"]), []).append(row)
    groups: dict[Group, Curves] = {}
    for (site, patient, cycle, region), rows in sorted(by_region.items()):
        administration = given.get((site, patient, cycle))
        values = np.array([row["activity_mbq"] for row in rows])
        if administration is None or len(rows) < LEAST_SCANS or not values.max() > 0.0:
            continue
        samples = check_samples(
            [row["time_h"] for row in rows],
            values,
            nuclide(administration["nuclide"]).half_life_h,
            u_rel * np.maximum(values, SMALLEST_SHARE * values.max()),
        )
        group = groups.setdefault((administration["radiopharmaceutical"], class_of(region)), Curves())
        group.regions.append(region)
        group.cycles.append((site, patient, cycle))
        group.samples.append(samples)
    return groups


def selected(key: Group, curves: Curves) -> Selection:
    """The model of a group, and what its sheet rows say."""
    comparison = compare_jointly(curves.samples)
    weights = comparison.weights
    scans = int(np.median([samples.times_h.size for samples in curves.samples]))
    n_cycles = len(set(curves.cycles))
    carried = [name for name in weights if _carries(name, scans)]
    model = max(carried, key=lambda name: weights[name]) if carried and n_cycles >= LEAST_CYCLES else None
    uptake = uptake_spread(curves.samples, comparison.fits[model]) if model == "mono_uptake" else None
    return Selection(*key, tuple(sorted(set(curves.regions))), n_cycles, comparison, model, uptake)


def _carries(model: str, scans: int) -> bool:
    """Whether a single cycle with so many scans has a degree of freedom left; the prior of the uptake counts as one."""
    form = FORMS[model]
    return scans - form.size + form.uptake >= 1


def _write(out: Path, selections: Sequence[Selection]) -> None:
    with out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, delimiter="\t", lineterminator="\n", quoting=csv.QUOTE_NONE)
        writer.writerow(COLUMNS)
        for selection in selections:
            if selection.model is None:
                continue
            for region in selection.regions:
                cells = {
                    "radiopharmaceutical": selection.radiopharmaceutical,
                    "region": region,
                    "model": selection.model,
                    "source": source(selection),
                }
                if selection.uptake is not None:
                    median_h, ln_sd = selection.uptake
                    cells |= {"uptake_half_life_h": f"{median_h:.3g}", "uptake_ln_sd": f"{ln_sd:.3g}"}
                writer.writerow([cells.get(column, "n/a") for column in COLUMNS])


def source(selection: Selection) -> str:
    """What the choice rests on, in one cell."""
    comparison = selection.comparison
    weights = ", ".join(f"{name} {weight:.3f}" for name, weight in sorted(comparison.weights.items(), key=_by_weight))
    text = f"select-models: {selection.n_cycles} cycles, {comparison.n_cycles} curves, {comparison.n_scans} scans"
    text += f" of class {selection.region_class}"
    if weights:
        text += f"; Akaike weights {weights}"
    if selection.model not in (None, selection.best):
        text += f"; {selection.best} has more parameters than single cycles can carry"
    return text


def _by_weight(item: tuple[str, float]) -> float:
    return -item[1]
