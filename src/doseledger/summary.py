"""A cohort in plain text, for a terminal; against the truth, if there is one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import pandas as pd

from doseledger.cohort import Row
from doseledger.dose.marrow import RED_MARROW
from doseledger.io.tables import is_leading
from doseledger.steps.cohort_page import read_cohort_table
from doseledger.steps.layout import PAGE

#: True doses by all radiations; where nobody has computed them, those by the region's own electrons alone.
TRUE_DOSE, TRUE_LOCAL_DOSE = "absorbed_dose_gy", "dose_local_gy"
KEYS: Final = ["site", "patient", "cycle", "region"]


def summary_text(results: Path, truth: Path | None, *, scans: bool = False) -> str:
    """Organ doses, refusals and pages of a finished cohort; with `scans` what they rest on."""
    cohort = results / "cohort"
    # Of red marrow one row by each method: they are shown beside each other, and never joined.
    doses = [row for row in read_cohort_table(cohort, "organ_dose") if is_leading(row)]
    outcomes = read_cohort_table(cohort, "stage_outcome")
    sections = _scan_sections(cohort) if scans else []
    sections += ["Organ doses (primary analysis)", _table(_dose_lines(doses))]
    if truth is not None:
        sections += ["Dose against truth", _against_truth(doses, truth)]
        sections += ["Red marrow against truth, each method against its own", _marrow_against_truth(doses, truth)]
    sections += ["Refused, failed or missing", _reasons(outcomes)]
    sections += ["Pages", f"cohort    {results / 'cohort_page' / PAGE}"]
    sections += [f"patient   {page}" for page in sorted(results.glob(f"site-*/sub-*/course/{PAGE}"))]
    sections += ["Tables", f"{cohort}/<table>/site=<site>/part-0.parquet (docs/data-dictionary.md)"]
    return "\n".join(sections)


def _dose_lines(doses: Sequence[Row]) -> list[dict[str, Any]]:
    return [
        {
            "site": row["site"],
            "patient": row["patient"],
            "cycle": row["cycle"],
            "region": _named(row),
            "scans": row["n_timepoints"],
            "dose_Gy": f"{row['absorbed_dose_gy']:.2f}",
            "95_%_Gy": f"{row['dose_low_gy']:.2f}-{row['dose_high_gy']:.2f}",
            "Gy/GBq": f"{row['dose_gy_per_gbq']:.3f}",
            "T_eff_h": "" if row["effective_half_life_h"] is None else f"{row['effective_half_life_h']:.1f}",
            "extrapolated_%": f"{100 * row['extrapolated_fraction']:.0f}",
        }
        for row in doses
    ]


def _named(row: Row) -> str:
    """Region, with the method where there are several."""
    return f"{row['region']} ({row['marrow_method']})" if row["marrow_method"] else str(row["region"])


def _scan_sections(cohort: Path) -> list[str]:
    """Whole-field activities, activities of the regions and their curves, with the flags."""

    def lines(table: str, columns: Sequence[str]) -> str:
        # Of the curves, only those that a dose rests on.
        rows = [row for row in read_cohort_table(cohort, table) if row.get("chosen", True)]
        return _table([{column: _cell(row[column]) for column in columns} for row in rows])

    key = ("site", "patient", "cycle")
    return [
        "Scans",
        lines("acquisition", (*key, "time_point", "time_h", "total_activity_mbq", "unit_source", "flags")),
        "Activities at scan start",
        lines("region_activity", (*key, "region", "time_point", "time_h", "activity_mbq", "u_activity_mbq")),
        "Curves",
        lines("curve", (*key, "region", "model", "status", "tia_mbq_h", "extrapolated_fraction", "flags")),
        "Flags of the doses",
        lines("organ_dose", (*key, "region", "mass_g", "mass_source", "flags")),
    ]


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.8g}"
    return " ".join(value) if isinstance(value, list) else str(value)


def _against_truth(doses: Sequence[Row], folder: Path) -> str:
    """Ratios of reported to true values by site and region, and how often the interval holds the truth."""
    own = pd.DataFrame(doses)[[*KEYS, "absorbed_dose_gy", "dose_low_gy", "dose_high_gy", "tia_mbq_h", "mass_g"]]
    true = pd.read_csv(folder / "organ_truth.csv")
    both = own.merge(true, on=KEYS, suffixes=("", "_true"))
    known = both[f"{TRUE_DOSE}_true"]
    true_gy = known.fillna(both[TRUE_LOCAL_DOSE])
    both["dose"] = both["absorbed_dose_gy"] / true_gy
    both["TIA"] = both["tia_mbq_h"] / both["tia_mbq_h_true"]
    both["mass"] = both["mass_g"] / both["mass_g_true"]
    both["inside"] = both["dose_low_gy"].le(true_gy) & both["dose_high_gy"].ge(true_gy)
    lines = [
        {
            "site": site,
            "region": region,
            "n": len(group),
            "dose/true": f"{group['dose'].mean():.3f}",
            "range": f"{group['dose'].min():.3f}-{group['dose'].max():.3f}",
            "TIA/true": f"{group['TIA'].mean():.3f}",
            "mass/true": f"{group['mass'].mean():.3f}",
            "truth_in_95_%": f"{int(group['inside'].sum())} of {len(group)}",
        }
        for (site, region), group in both.groupby(["site", "region"])
    ]
    note = (
        f"True dose: Monte Carlo with all radiations for {known.notna().sum()} of {len(both)} rows, else by\n"
        "the electrons of the region's own decays, absorbed locally (truth/README.md)."
    )
    return f"{_table(lines)}\n{note}"


def _marrow_against_truth(doses: Sequence[Row], folder: Path) -> str:
    """Dose by own electrons over the true one, by site and method; the share of the red marrow is the patient's own."""
    path = folder / "marrow_truth.csv"
    columns = [*KEYS[:3], "marrow_method", "absorbed_dose_gy", "dose_low_gy", "dose_high_gy", "cross_dose_gy"]
    rows = [{k: row[k] for k in columns} for row in doses if row["region"] == RED_MARROW]
    if not rows or not path.exists():
        return "none"
    own = pd.DataFrame(rows, columns=columns)
    both = own.merge(pd.read_csv(path), on=[*KEYS[:3], "marrow_method"])
    cross = both["cross_dose_gy"].fillna(0.0).astype(float)
    both["ratio"] = (both["absorbed_dose_gy"] - cross) / both["dose_self_gy"]
    true_gy = both["dose_self_gy"] + cross
    both["inside"] = both["dose_low_gy"].le(true_gy) & both["dose_high_gy"].ge(true_gy)
    both["cross"] = cross
    lines = [
        {
            "site": site,
            "method": method,
            "n": len(group),
            "dose_Gy": f"{group['absorbed_dose_gy'].mean():.3f}",
            "of_it_cross_Gy": f"{group['cross'].mean():.3f}",
            "self/true": f"{group['ratio'].mean():.3f}",
            "range": f"{group['ratio'].min():.3f}-{group['ratio'].max():.3f}",
            "truth_in_95_%": f"{int(group['inside'].sum())} of {len(group)}",
        }
        for (site, method), group in both.groupby(["site", "marrow_method"])
    ]
    return _table(lines)


def _reasons(outcomes: Sequence[Row]) -> str:
    stopped = [
        row
        for row in outcomes
        if row["status"] in ("refused", "failed", "missing") and row["origin_stage"] in (None, row["stage"])
    ]
    lines = [
        f"site {row['site']} patient {row['patient']} cycle {row['cycle']} {row['stage']} "
        f"{row['status']} [{row['code']}]: {row['sentence']}"
        for row in stopped
    ]
    return "\n".join(lines) or "none"


def _table(lines: Sequence[dict[str, Any]]) -> str:
    """Columns as wide as their widest cell."""
    if not lines:
        return "none"
    names = list(lines[0])
    cells = [names, *([str(line[name]) for name in names] for line in lines)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(names))]
    return "\n".join("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)) for row in cells)
