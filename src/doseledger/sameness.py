"""Two results of the same cohort that are not the same bits: do they say the same?

With one lock and one instruction set tables and images are identical and nothing here is needed. On another processor
``exp`` and sums round differently in the last digit; fits, registrations and random paths carry that on. What each
kind of quantity may differ by stands in `TOLERANCES`; docs/sameness.md says why.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from doseledger.io.nifti import read_image
from doseledger.io.tables import sort_keys


@dataclass(frozen=True)
class Tolerance:
    """How far two numbers may be apart: `relative` of the larger one plus `floor` of the largest in the column."""

    relative: float
    floor: float


#: Between instruction sets: see docs/sameness.md.
TOLERANCES: Final = {
    # Read, converted, summed, fitted with well determined parameters.
    "value": Tolerance(1.0e-6, 1.0e-9),
    # What a fit says of its own quality: differences of nearly equal numbers, and a numerical derivative.
    "fit": Tolerance(1.0e-3, 1.0e-6),
    # Means of doses, beside what two Monte Carlo runs may differ by (`MONTE_CARLO_SD`).
    "monte_carlo": Tolerance(1.0e-3, 1.0e-5),
    # Sums and what is left of limits, whose tables have no statistical deviation.
    "monte_carlo_sum": Tolerance(5.0e-2, 1.0e-5),
    # Of single voxels, whose noise is the larger the less dose they have.
    "voxel_noise": Tolerance(2.5e-1, 2.5e-1),
    # A standard deviation from a few batches.
    "spread": Tolerance(5.0e-1, 1.0e-2),
    # Voxels, by the largest of the image: float32 in the file.
    "image": Tolerance(0.0, 1.0e-5),
    # Five deviations of a difference, each of 1 %, the default precision.
    "monte_carlo_image": Tolerance(0.0, 5.0 * 2.0**0.5 * 1.0e-2),
}
#: Differences below these are rounding whatever the column: chi-square counts variances of the data, and of a curve
#: through all its points nothing else is left of it.
ROUNDING: Final = {"chi2": 1.0e-9}
#: Statistical deviations (of the difference) that two Monte Carlo runs may be apart: once a number has crossed a
#: threshold, a photon goes elsewhere and all after it are others.
MONTE_CARLO_SD: Final = 5.0
#: Labelled voxels that may have another label, as a fraction: a model decides ties by rounding.
LABELS_MOVED: Final = 1.0e-4
#: Voxels of an image that may be further off, and how far: fits of noise end at one bound or the other.
OUTLIERS: Final = 1.0e-3
FARTHEST_OUTLIER: Final = 1.0e-2
_FIT: Final = frozenset({"chi2", "aicc", "aicc_weight", "covariance", "dof"})
#: Of the uncertainties, too: those of a sum of regions are weighted by their doses. The first kind that fits counts.
_KINDS_OF_DOSE: Final = {
    "spread": ("mc_sd", "u_dose_factor", "u_absorbed_dose"),
    "voxel_noise": ("d2_", "d50_", "d90_", "d98_", "dose_edges", "volume_fraction"),
    "monte_carlo_sum": ("cumulative", "fraction_of_limit", "activity_left", "change", "u_cumulative"),
    "monte_carlo": ("absorbed_dose", "dose_", "bed_", "eqd2_", "g_factor", "energy_balance", "u_"),
}
_MONTE_CARLO_TABLES: Final = frozenset({"organ_dose", "dvh", "course", "lesion"})
#: Of a map of deviations nothing is compared: that of a voxel with few photons is anything.
_NOT_COMPARED_IMAGE: Final = "dose_relative_sd"
#: Of the bits of the pixels or of the release, not of what they say.
NOT_COMPARED: Final = frozenset({"software_version", "spect_sha256", "ct_sha256", "input_sha256"})
#: Of a curve on which no dose rests, only that it was fitted: a phase without amplitude has any rate.
_OF_CURVES_NOT_CHOSEN: Final = frozenset({"site", "patient", "cycle", "region", "model", "n_timepoints", "chosen"})


@dataclass(frozen=True)
class Deviation:
    """The largest difference found in a column or an image, in units of what is allowed."""

    what: str
    kind: str
    relative: float
    of_allowed: float
    where: str

    @property
    def text(self) -> str:
        """What differs, by how much, and where most."""
        allowed = TOLERANCES[self.kind]
        limit = f"{allowed.relative:g} and {allowed.floor:.2g} of the largest"
        return f"{self.what} differs by up to {self.relative:.2g} ({self.kind}: allowed {limit}); most at {self.where}"


def kind_of_column(table: str, column: str) -> str:
    """Which tolerance a column of reals has."""
    if column in _FIT:
        return "fit"
    if table in _MONTE_CARLO_TABLES:
        for kind, prefixes in _KINDS_OF_DOSE.items():
            if column.startswith(prefixes):
                return "monte_carlo_sum" if kind == "monte_carlo" and table != "organ_dose" else kind
    return "value"


def compare_tables(own: Path, their: Path) -> tuple[list[str], list[Deviation]]:
    """Differences that are none of rounding, as sentences, and the largest deviation of every column of reals."""
    a, b = pq.read_table(own, partitioning=None), pq.read_table(their, partitioning=None)
    if a.schema != b.schema:
        return ["the schemas differ"], []
    table = own.stem if own.stem != "part-0" else own.parents[1].name
    keys = [name for name, _ in sort_keys(a.schema)]
    a, b = a.sort_by(sort_keys(a.schema)), b.sort_by(sort_keys(b.schema))
    rows = [tuple(row.values()) for row in a.select(keys).to_pylist()]
    others = [tuple(row.values()) for row in b.select(keys).to_pylist()]
    if rows != others:
        alone = {*rows} ^ {*others}
        example = f", e.g. {_named(keys, sorted(alone, key=str)[0])}" if alone else ""
        return [f"{len(alone)} rows are only in one of the two{example}"], []
    ignored = [not chosen for chosen in a["chosen"].to_pylist()] if "chosen" in a.column_names else [False] * len(rows)
    statistical = _statistical(a, b)
    found: list[str] = []
    deviations: list[Deviation] = []
    for name in a.column_names:
        if name in NOT_COMPARED:
            continue
        kept = [i for i in range(len(rows)) if not ignored[i] or name in _OF_CURVES_NOT_CHOSEN]
        where = [_named(keys, rows[i]) for i in kept]
        ours, theirs = ([column[i] for i in kept] for column in (a[name].to_pylist(), b[name].to_pylist()))
        if _holds_floats(a[name].type):
            kind = kind_of_column(table, name)
            more = [statistical[i] if kind == "monte_carlo" else 0.0 for i in kept]
            text, deviation = _compare_reals(name, kind, ours, theirs, where, more)
            found += [text] if text else []
            deviations += [deviation] if deviation else []
        elif unequal := [i for i in range(len(kept)) if ours[i] != theirs[i]]:
            first = unequal[0]
            found.append(
                f"{name} differs in {len(unequal)} of {len(rows)} rows, "
                f"e.g. {ours[first]} against {theirs[first]} at {where[first]}"
            )
    return found, deviations


def _statistical(a: pa.Table, b: pa.Table) -> list[float]:
    """What a dose of each row may differ by, relative, for two Monte Carlo runs; 0 for other engines."""
    if "mc_sd_rel" not in a.column_names:
        return [0.0] * a.num_rows
    pairs = zip(a["mc_sd_rel"].to_pylist(), b["mc_sd_rel"].to_pylist(), strict=True)
    return [MONTE_CARLO_SD * float(np.hypot(x or 0.0, y or 0.0)) for x, y in pairs]


def _named(keys: Sequence[str], row: tuple[Any, ...]) -> str:
    return " ".join(f"{key} {value}" for key, value in zip(keys, row, strict=True) if value is not None)


def _holds_floats(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or (pa.types.is_list(kind) and pa.types.is_floating(kind.value_type)))


def _compare_reals(
    name: str, kind: str, ours: list[Any], theirs: list[Any], where: list[str], more: list[float]
) -> tuple[str | None, Deviation | None]:
    pairs = [(_array(x), _array(y), place) for x, y, place in zip(ours, theirs, where, strict=True)]
    for x, y, place in pairs:
        if x.shape != y.shape or not np.array_equal(np.isfinite(x), np.isfinite(y)):
            return f"{name} has a number only on one side at {place}", None
    largest = max((float(np.abs(x[np.isfinite(x)]).max(initial=0.0)) for x, _, _ in pairs), default=0.0)
    allowed = TOLERANCES[kind]
    worst: Deviation | None = None
    for (x, y, place), statistical in zip(pairs, more, strict=True):
        finite = np.isfinite(x)
        if not np.array_equal(x[~finite], y[~finite], equal_nan=True):
            return f"{name} is not the same infinity at {place}", None
        difference = np.abs(x[finite] - y[finite])
        if not difference.any():
            continue
        size = np.maximum(np.abs(x[finite]), np.abs(y[finite]))
        limit = (allowed.relative + statistical) * size + allowed.floor * largest + ROUNDING.get(name, 0.0)
        # No limit without a size: two zeros in a column of zeros, whose quotient would hide all others.
        of_allowed = np.divide(difference, limit, out=np.zeros_like(difference), where=limit > 0.0)
        at = int(of_allowed.argmax())
        if worst is None or of_allowed[at] > worst.of_allowed:
            worst = Deviation(name, kind, float(difference[at] / size[at]), float(of_allowed[at]), place)
    return None, worst


def _array(value: Any) -> NDArray[np.float64]:
    """A missing number is nan; a missing list has no shape that another one has."""
    return np.atleast_1d(np.asarray(np.nan if value is None else value, dtype=float))


def compare_images(own: Path, their: Path) -> tuple[list[str], list[Deviation]]:
    """Differences of two images: labels by the number that moved, others by the largest of the image."""
    (a, grid), (b, other_grid) = read_image(own), read_image(their)
    if not grid.same_as(other_grid):
        return ["the grids differ"], []
    if own.name.endswith("_dseg.nii.gz"):
        moved, labelled = int(np.count_nonzero(a != b)), int(np.count_nonzero((a != 0) | (b != 0)))
        if moved > LABELS_MOVED * labelled:
            return [f"{moved} of {labelled} labelled voxels have another label (allowed {LABELS_MOVED:g})"], []
        return [], []
    if own.name.startswith(_NOT_COMPARED_IMAGE):
        return [], []
    finite = np.isfinite(a)
    if not np.array_equal(finite, np.isfinite(b)):
        return ["voxels have a number only on one side"], []
    a, b = np.where(finite, a, 0.0), np.where(finite, b, 0.0)
    kind = "monte_carlo_image" if own.name.startswith("dose_") else "image"
    largest = float(np.abs(a).max(initial=0.0))
    difference = np.abs(a.astype(float) - b.astype(float))
    if not difference.any():
        return [], []
    relative = float(difference.max()) / largest if largest else float("inf")
    if kind == "image" and relative <= FARTHEST_OUTLIER:
        # The farthest voxel of those that are not the few outliers.
        inlier = difference.size - int(OUTLIERS * difference.size) - 1
        relative = float(np.partition(difference, inlier, axis=None)[inlier]) / largest
    place = "voxel " + " ".join(map(str, np.unravel_index(int(difference.argmax()), a.shape)))
    return [], [Deviation("the image", kind, relative, relative / TOLERANCES[kind].floor, place)]


def failures(name: str, texts: list[str], deviations: list[Deviation]) -> Iterator[tuple[str, str]]:
    """What of a comparison is more than the tolerances allow, with the file it is in."""
    yield from ((name, text) for text in texts)
    yield from ((name, deviation.text) for deviation in deviations if deviation.of_allowed > 1.0)
