"""Rows of a cohort that are no doses: phantoms of the cameras, and shares of patients near a limit."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from math import exp, log, sqrt
from pathlib import Path
from statistics import median
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint

from doseledger.cohort import Row
from doseledger.io.tables import COMPARISON_SCHEMAS, SCHEMAS
from doseledger.kinetics.curves import Z95
from doseledger.report.completeness import by_site
from doseledger.report.pages import stopped
from doseledger.statistics.multiple import holm
from doseledger.steps.compared import CYCLE_KEY, read_columns

#: Recoveries of cameras differ by so much even after their reconstructions were made alike (docs/comparison.md).
RECOVERY_TOLERANCE_REL: Final = 0.12
#: Bodies of one volume, to this tolerance, are one body.
_SAME_VOLUME_LN: Final = 0.05
#: "Near" a limit.
NEAR_SHARE: Final = 0.8
_INCOMPLETE: Final = "incomplete"

_PHANTOM_COLUMNS: Final = [
    "site", "camera", "phantom", "days_after_first", "sensitivity_cps_per_mbq", "calibration_ratio",
    "u_sensitivity_rel", "body_volumes_ml", "body_recoveries", "body_u_recoveries_rel",
]  # fmt: skip


def phantom_rows(folder: Path) -> list[Row]:
    """Calibration and recovery of every camera by its latest study, with tests over all cameras."""
    studies = read_columns(folder, "phantom_qc", _PHANTOM_COLUMNS).to_pylist()
    scans = read_columns(folder, "acquisition", ["site", "camera", "sensitivity_cps_per_mbq"]).to_pandas()
    return compare_phantoms(studies, scans)


def compare_phantoms(studies: Sequence[Row], scans: pd.DataFrame) -> list[Row]:
    """The same from rows: `studies` of ``phantom_qc``, `scans` with the sensitivity that was applied."""
    latest: dict[tuple[str, str, str], Row] = {}
    for study in sorted(studies, key=lambda row: row["days_after_first"] or 0):
        latest[study["site"], study["camera"], study["phantom"]] = study
    by_camera = scans.dropna().groupby(["site", "camera"])["sensitivity_cps_per_mbq"].median()
    applied: dict[tuple[str, str], float] = dict(zip(by_camera.index.tolist(), by_camera.tolist(), strict=True))
    found = [*_calibrations(list(latest.values()), applied), *_recoveries(list(latest.values()))]
    for quantity in ("calibration", "recovery"):
        rows = [row for row in found if row["quantity"] == quantity]
        if rows:
            tolerance = 0.0 if quantity == "calibration" else log(1.0 + RECOVERY_TOLERANCE_REL)
            p = [_p(log(row["ratio"]), row["u_rel"], tolerance) for row in rows]
            for row, corrected in zip(rows, holm(p), strict=True):
                row["p_holm"] = float(corrected)
    return sorted(found, key=lambda row: (row["quantity"], row["site"], row["camera"]))


def _calibrations(studies: Sequence[Row], applied: dict[tuple[str, str], float]) -> Iterator[Row]:
    """Activity in the image over the true one: as measured, or by the sensitivity that scans were given."""
    for study in studies:
        ratio = study["calibration_ratio"]
        used = applied.get((study["site"], study["camera"]))
        if ratio is None and study["sensitivity_cps_per_mbq"] is not None and used:
            ratio = study["sensitivity_cps_per_mbq"] / used
        if study["phantom"] == "cylinder" and ratio and study["u_sensitivity_rel"]:
            yield _row(study, "calibration", None, log(ratio), study["u_sensitivity_rel"])


def _recoveries(studies: Sequence[Row]) -> Iterator[Row]:
    """Mean over the bodies of ln(recovery over the median of the cameras that have this body)."""
    bodies: dict[tuple[str, int], list[tuple[int, float, float]]] = defaultdict(list)
    for number, study in enumerate(studies):
        columns = (study[name] or () for name in ("body_volumes_ml", "body_recoveries", "body_u_recoveries_rel"))
        for volume, recovery, u in zip(*columns, strict=False):
            if volume and recovery and recovery > 0:
                size = round(log(volume) / _SAME_VOLUME_LN)
                bodies[study["phantom"], size].append((number, log(recovery), u or 0.0))
    ratios: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for same in bodies.values():
        # Two cameras that differ say not which of them is off.
        if len(same) >= 3:
            middle = median(value for _, value, _ in same)
            for number, value, u in same:
                ratios[number].append((value - middle, u))
    for number, found in ratios.items():
        mean = float(np.mean([value for value, _ in found]))
        noise = sqrt(sum(u * u for _, u in found)) / len(found)
        scatter = float(np.std([v for v, _ in found], ddof=1)) / sqrt(len(found)) if len(found) > 1 else 0.0
        yield _row(studies[number], "recovery", len(found), mean, max(noise, scatter))


def _row(study: Row, quantity: str, n_bodies: int | None, ln_ratio: float, u_rel: float) -> Row:
    return {
        **{name: study[name] for name in ("site", "camera", "phantom", "days_after_first")},
        "quantity": quantity,
        "n_bodies": n_bodies,
        "ratio": exp(ln_ratio),
        "ratio_low": exp(ln_ratio - Z95 * u_rel),
        "ratio_high": exp(ln_ratio + Z95 * u_rel),
        "u_rel": u_rel,
    }


def _p(ln_ratio: float, u_rel: float, tolerance: float) -> float:
    """Two-sided that a ratio is 1; with a tolerance, one-sided that it is within it."""
    if u_rel <= 0:
        return float(abs(ln_ratio) <= tolerance)
    if tolerance > 0:
        return float(norm.sf((abs(ln_ratio) - tolerance) / u_rel))
    return float(2.0 * norm.sf(abs(ln_ratio) / u_rel))


def cumulative_rows(folder: Path) -> Iterator[Row]:
    """Sums over the cycles, each once; the course has a row per limit."""
    names = COMPARISON_SCHEMAS["cumulative_dose"].names
    course = read_columns(folder, "course", names).to_pandas()
    once = course.drop_duplicates(["site", "patient", "region"]).sort_values(["site", "patient", "region"])
    for row in pa.Table.from_pandas(once, preserve_index=False).to_pylist():
        yield {name: row[name] for name in names}


def completeness_rows(folder: Path) -> tuple[list[Row], list[Row]]:
    """Rows of ``completeness`` and ``refusal``."""
    columns = {
        "stage_outcome": SCHEMAS["stage_outcome"].names,
        "administration": [*CYCLE_KEY, "imaged"],
        "patient": ["site", "patient"],
    }
    tables = {name: read_columns(folder, name, chosen).to_pylist() for name, chosen in columns.items()}
    counted = Counter(
        (row["site"], row["status"], row["stage"], row["code"])
        for row in stopped(tables["stage_outcome"])
        if row["status"] != "missing"
    )
    names = ("site", "status", "stage", "code")
    ordered = sorted(counted.items(), key=lambda item: tuple(map(str, item[0])))
    refusals = [{**dict(zip(names, key, strict=True)), "n_cycles": count} for key, count in ordered]
    return by_site(tables), refusals


def flag_rows(folder: Path) -> list[Row]:
    """How often each flag occurs in each table, most frequent first."""
    found: list[Row] = []
    for name, schema in SCHEMAS.items():
        if "flags" not in schema.names:
            continue
        keys = [key for key in ("site", "patient") if key in schema.names]
        rows = read_columns(folder, name, [*keys, "flags"])
        lists = rows["flags"].combine_chunks()
        lists = pa.concat_arrays(lists.chunks) if isinstance(lists, pa.ChunkedArray) else lists
        owner = pc.list_parent_indices(lists)
        flagged = pd.DataFrame({"row": owner.to_pandas(), "flag": pc.list_flatten(lists).to_pandas()})
        for key in keys:
            flagged[key] = rows[key].take(owner).to_pandas()
        # A flag that stands twice in one row is one.
        for flag, alike in flagged.drop_duplicates(["row", "flag"]).groupby("flag"):
            patients = len(alike[keys].drop_duplicates()) if "patient" in keys else 0
            count: Row = {"n_rows": len(alike), "n_patients": patients, "n_sites": alike["site"].nunique()}
            found.append({"flag": flag, "table": name, **count})
    return sorted(found, key=lambda row: (-row["n_rows"], row["flag"], row["table"]))


def limit_rows(folder: Path) -> Iterator[Row]:
    """Share of patients near and above each reference line, among those whose sum is complete."""
    names = ["site", "patient", "region", "limit_quantity", "limit_gy", "fraction_of_limit", "cumulative_status"]
    course = read_columns(folder, "course", names).to_pandas()
    course = course[course["limit_gy"].notna()]
    for key, here in course.groupby(["site", "region", "limit_quantity", "limit_gy"]):
        counted = here["fraction_of_limit"].notna() & (here["cumulative_status"] != _INCOMPLETE)
        fractions = here.loc[counted, "fraction_of_limit"]
        row: Row = dict(zip(("site", "region", "limit_quantity", "limit_gy"), key, strict=True))
        row |= {"n_patients": here["patient"].nunique(), "n_complete": len(fractions)}
        for name, bound in (("near", NEAR_SHARE), ("above", 1.0)):
            count = int((fractions >= bound).sum())
            row[f"n_{name}"] = count
            if len(fractions):
                low, high = proportion_confint(count, len(fractions), method="wilson")
                shares = (count / len(fractions), float(low), float(high))
                row |= dict(zip((f"share_{name}", f"share_{name}_low", f"share_{name}_high"), shares, strict=True))
        yield row
