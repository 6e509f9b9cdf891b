"""What the comparison found that a person should look at, from its tables."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from math import log
from statistics import median
from typing import Final

from doseledger.cohort import Row
from doseledger.regions.gate import PUBLISHED_GY_PER_GBQ, UNIT_SLIP_FACTOR
from doseledger.statistics.site_model import ALPHA
from doseledger.steps.site_rows import CLEARANCE, DOSE

#: Clearance that is slower by one rate of physical decay: activities that were left corrected to the injection.
LEFT_CORRECTED: Final = "slower_by_physical_decay"
#: Faster by one: decay taken off twice.
TAKEN_TWICE: Final = "faster_by_physical_decay"
_OTHER: Final = "other"
#: Group columns by which sites that differ are never in one model.
_APART: Final = ("lesion_policy", "marrow_method")


def findings(tables: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Findings in the order of what explains most: units, methods, calibration, recovery, clearance, sites."""
    return [
        *unit_slips(tables["site_distribution"]),
        *_methods(tables["method_difference"]),
        *_phantoms(tables["phantom_comparison"]),
        *_effects(tables["site_effect"], CLEARANCE),
        *_effects(tables["site_effect"], DOSE),
    ]


def unit_slips(distributions: Sequence[Row]) -> Iterator[Row]:
    """Medians more than fivefold off published ones, or off those of the other sites where there are three."""
    by_group: dict[str, list[Row]] = {}
    for row in distributions:
        if row["n_rows"]:
            by_group.setdefault(row["group_id"], []).append(row)
    for rows in by_group.values():
        for row in rows:
            others = [r["median_gy_per_gbq"] for r in rows if r is not row]
            published = PUBLISHED_GY_PER_GBQ.get((row["radiopharmaceutical"], row["region"]))
            if published is None and len(others) < 2:
                continue
            expected = median(others) if len(others) >= 2 else sum(published or ()) / 2.0
            ratio = row["median_gy_per_gbq"] / expected
            if abs(log(ratio)) > log(UNIT_SLIP_FACTOR):
                yield _finding("unit", row, ratio - 1.0, n_patients=row["n_patients"])


def _methods(differences: Sequence[Row]) -> Iterator[Row]:
    """Sites whose policy or method is not that of most rows."""
    found: dict[tuple[str, str, str], list[Row]] = {}
    for row in differences:
        if row["column"] in _APART:
            found.setdefault((row["radiopharmaceutical"], row["region"], row["column"]), []).append(row)
    for rows in found.values():
        usual = max(rows, key=lambda row: (len(row["sites"]), row["n_rows"], row["value"]))
        for row in rows:
            for site in row["sites"] if row is not usual else ():
                yield {
                    "kind": row["column"],
                    "site": site,
                    "radiopharmaceutical": row["radiopharmaceutical"],
                    "found_in": row["region"],
                    "detail": f"{row['value']} instead of {usual['value']}",
                }


def _phantoms(rows: Sequence[Row]) -> Iterator[Row]:
    for row in rows:
        if row["p_holm"] < ALPHA:
            yield {
                "kind": row["quantity"],
                "site": row["site"],
                "detail": row["camera"],
                "size": row["ratio"] - 1.0,
                "size_low": row["ratio_low"] - 1.0,
                "size_high": row["ratio_high"] - 1.0,
                "p_holm": row["p_holm"],
            }


def _effects(rows: Sequence[Row], quantity: str) -> Iterator[Row]:
    """Sites that stand out."""
    chosen = [row for row in rows if row["quantity"] == quantity]
    sizes: dict[str, int] = {}
    for row in chosen:
        sizes[row["group_id"]] = sizes.get(row["group_id"], 0) + 1
    for row in chosen:
        if not row["stands_out"]:
            continue
        kind = "site_effect" if quantity == DOSE else "clearance"
        # Random sites are not tested one after the other.
        name = "effect" if row.get("step_effect") is None else "step_effect"
        found = _finding(kind, row, row[name], n_patients=row["n_patients"])
        found |= {"size_low": row[f"{name}_low"], "size_high": row[f"{name}_high"], "p_holm": row.get("step_p_holm")}
        if quantity == CLEARANCE:
            found["detail"] = _pattern(row, sizes[row["group_id"]])
        yield found


def _pattern(row: Row, n_sites: int) -> str:
    """Whether the difference from the other sites is one rate of physical decay, within its interval."""
    # The effect is against the mean of all sites, this one included.
    factor = n_sites / (n_sites - 1)
    for size, name in ((-1.0, LEFT_CORRECTED), (1.0, TAKEN_TWICE)):
        if factor * row["effect_low"] <= size <= factor * row["effect_high"]:
            return name
    return _OTHER


def _finding(kind: str, row: Row, size: float, *, n_patients: int) -> Row:
    return {
        "kind": kind,
        "site": row["site"],
        "radiopharmaceutical": row["radiopharmaceutical"],
        "found_in": row["region"],
        "group_id": row["group_id"],
        "size": size,
        "n_patients": n_patients,
    }
