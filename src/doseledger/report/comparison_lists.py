"""Columns of the lists that compare sites, cycles and methods, and how their cells are put into words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from doseledger.report import words
from doseledger.report.pages import Column, Row, label, number
from doseledger.report.sums import QUANTITY_WORDS

_KINDS: Final = {
    "unit": "dose per activity is off fivefold or more: a slip of units",
    "lesion_policy": "another lesion policy than most",
    "marrow_method": "another marrow method than most",
    "calibration": "phantom: images read another activity than was filled",
    "recovery": "phantom: recovery unlike that of the other cameras",
    "clearance": "clearance unlike that of the other sites",
    "site_effect": "dose per activity unlike that of the other sites",
}
_DETAILS: Final[dict[str | None, str]] = {
    "slower_by_physical_decay": "slower by one rate of physical decay: activities left corrected to injection?",
    "faster_by_physical_decay": "faster by one rate of physical decay: decay taken off twice?",
    "other": "",
    None: "",
}


def interval_of(name: str, show: Any = words.change) -> Any:
    """Cell of ``name`` with its interval."""

    def cell(row: Row) -> str:
        if row[name] is None:
            return words.DASH
        if row[f"{name}_low"] is None:
            return str(show(row[name]))
        return f"{show(row[name])} ({show(row[f'{name}_low'])} to {show(row[f'{name}_high'])})"

    return cell


def _p(name: str) -> Any:
    def cell(row: Row) -> str:
        p = row[name]
        return words.DASH if p is None else "< 0.001" if p < 0.001 else words.fixed(p, 3)

    return cell


def _region(row: Row) -> str:
    return words.region(row["region"])


FINDINGS: Final = (
    label("Site", "site", lead=True),
    Column("Region", lambda r: words.text(r["found_in"] and words.region(r["found_in"])), lead=True),
    Column("What", lambda r: _KINDS.get(r["kind"], words.text(r["kind"])), wide=True),
    Column("Detail", lambda r: str(_DETAILS.get(r["detail"], r["detail"])), wide=True),
    Column("Size", lambda r: _size(r), number=True),
    Column("p", _p("p_holm"), number=True),
    Column("Patients", lambda r: words.text(r["n_patients"]), "n", number=True),
)
_SCANS: Final = {"mtp": "3+", "2tp": "2", "stp": "1"}
SUMMARY: Final = (
    label("Site", "site", lead=True),
    Column("Rows", lambda r: str(r["n_rows"]), "n", number=True),
    Column("Patients", lambda r: str(r["n_patients"]), "n", number=True),
    Column("Scans", lambda r: words.listing(_SCANS.get(p, p) for p in r["protocols"] or ()), "per cycle"),
    number("Median", "median_gy_per_gbq", "Gy/GBq"),
    Column("Range", lambda r: words.interval(r["minimum_gy_per_gbq"], r["maximum_gy_per_gbq"]), "Gy/GBq", number=True),
)
#: Shown where a site has one.
COUNTED: Final = {"n_outliers": "Outliers", "n_left_out": "Low grade", "n_implausible": "Implausible"}
EFFECTS: Final = (
    Column("Region", _region, lead=True),
    label("Site", "site", lead=True),
    Column("Patients", lambda r: str(r["n_patients"]), "n", number=True),
    Column("Difference from the mean of the sites", interval_of("effect"), "%", number=True),
    Column("p (Holm)", _p("p_holm"), number=True),
    Column("Phantoms say", lambda r: words.change(r["phantom_effect"]), "%", number=True),
    Column("What remains", interval_of("remaining_effect"), "%", number=True),
)
MODELS: Final = (
    Column("Region", _region, lead=True),
    Column("Patients", lambda r: str(r["n_patients"]), "n", number=True),
    Column("Rows", lambda r: str(r["n_rows"]), "n", number=True),
    label("Sites", "sites_are"),
    Column("sd between patients", lambda r: words.fixed(r["sd_patient"], 2), "of ln", number=True),
    Column("sd between cycles", lambda r: words.fixed(r["sd_rest"], 2), "of ln", number=True),
    Column("Power for one site 8 % off", lambda r: words.percent(r["power_at_8_percent"]), "%", number=True),
    Column("Patients per site for 80 %", lambda r: words.significant(r["patients_needed"]), "n", number=True),
    Column("Adjusted for", lambda r: words.listing(opened(r["covariates"])) or "nothing that varies"),
    Column("Goes with the sites", lambda r: words.listing(opened(r["confounded"])) or words.DASH),
    Column("Left out, below 5 patients", lambda r: words.listing(r["sites_left_out"]) or words.DASH),
)
COVARIATES: Final = (
    Column("Region", _region, lead=True),
    Column("What", lambda r: words.text(r["covariate"]).replace("_", " ")),
    Column("Level", lambda r: f"{r['level']} against {r['against']}"),
    Column("Rows", lambda r: str(r["n_rows"]), "n", number=True),
    Column("Difference", interval_of("effect"), "%", number=True),
    Column("p", _p("p"), number=True),
)
AGREEMENT: Final = (
    Column("Region", _region, lead=True),
    Column("Differ in", lambda r: words.listing(opened(r["differs_in"]))),
    Column("a", lambda r: words.text(r["method_a"])),
    Column("b", lambda r: words.text(r["method_b"])),
    Column("Pairs", lambda r: str(r["n_pairs"]), "n", number=True),
    Column("b/a", interval_of("ratio", lambda v: words.fixed(v, 3)), number=True),
    Column("95 % of ratios", lambda r: words.interval(r["limit_low"], r["limit_high"]), number=True),
    Column("Concordance", lambda r: words.fixed(r["concordance"], 3), number=True),
)
DIFFERENCES: Final = (
    Column("Column", lambda r: words.text(r["column"]).replace("_", " "), lead=True),
    Column("Value", lambda r: words.text(r["value"]), lead=True),
    Column("Sites", lambda r: words.listing(r["sites"]), wide=True),
    Column("Regions", lambda r: words.listing(words.region(name) for name in r["regions"]), wide=True),
    Column("Rows", lambda r: str(r["n_rows"]), "n", number=True),
    Column("Pooled", lambda r: words.text(r["pooled"])),
)
REFERENCES: Final = (
    Column("Region", lambda r: r["title"], lead=True),
    Column("Sites", lambda r: str(r["n_sites"]), "n", number=True),
    Column("Patients", lambda r: str(r["n_patients"]), "n", number=True),
    Column("Rows", lambda r: str(r["n_rows"]), "n", number=True),
    *(
        Column(heading, interval_of(f"{name}_gy_per_gbq", words.significant), "Gy/GBq", number=True)
        for name, heading in (("p5", "5 %"), ("median", "Median"), ("p95", "95 %"))
    ),
)
CYCLES: Final = (
    Column("Region", lambda r: r["title"], lead=True),
    Column("Cycles", lambda r: f"{r['from_cycle']} to {r['to_cycle']}", lead=True),
    Column("Patients", lambda r: str(r["n_patients"]), "n", number=True),
    Column("Later over earlier", interval_of("ratio", lambda v: words.fixed(v, 3)), number=True),
    Column("95 % of patients", lambda r: words.interval(r["limit_low"], r["limit_high"]), number=True),
)
PHANTOMS: Final = (
    label("Site", "site", lead=True),
    label("Camera", "camera", lead=True),
    Column("What", lambda r: f"{r['quantity']} ({r['phantom']})"),
    Column("Day", lambda r: words.text(r["days_after_first"]), number=True),
    Column("Ratio", interval_of("ratio", lambda v: words.fixed(v, 3)), number=True),
    Column("p (Holm)", _p("p_holm"), number=True),
)
LIMITS: Final = (
    label("Site", "site", lead=True),
    Column("Region", _region, lead=True),
    Column(
        "Line",
        lambda r: f"{words.declared(r['limit_gy'])} Gy {QUANTITY_WORDS.get(r['limit_quantity'], r['limit_quantity'])}",
    ),
    Column("Complete sums", lambda r: f"{r['n_complete']} of {r['n_patients']}", number=True),
    Column("At 80 % or more", interval_of("share_near", words.percent), "%", number=True),
    Column("At the line or above", interval_of("share_above", words.percent), "%", number=True),
)


def opened(names: Sequence[str] | None) -> list[str]:
    return [name.replace("_", " ") for name in names or ()]


def _size(row: Row) -> str:
    if row["size"] is None:
        return words.DASH
    if row["kind"] == "unit":
        return f"{words.significant(row['size'] + 1.0, 2)}-fold"
    if row["kind"] == "clearance":
        return f"{words.fixed(row['size'], 2)} decay rates"
    return f"{words.change(row['size'])} %"
