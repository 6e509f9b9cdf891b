"""The page of a cohort: what is complete, what was refused, and every dose by site."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from doseledger.io.tables import is_leading
from doseledger.regions.gate import DEMO_WEIGHTS
from doseledger.report import methods, words
from doseledger.report.comparison_view import Comparison, comparison_view
from doseledger.report.completeness import counts, site_table
from doseledger.report.pages import (
    CYCLE,
    FLAGS,
    REGION,
    Cell,
    Column,
    Link,
    Row,
    Tables,
    by_demo_weights,
    checked,
    data_table,
    number,
    origins,
    percent,
    render,
    stopped,
)
from doseledger.report.sums import sum_charts, sums_by_region

#: Above this many rows the page names the file instead: a browser would not scroll through them.
_MAX_ROWS_LISTED: Final = 10_000
#: Up to this many rows all lists are unfolded.
_MAX_ROWS_UNFOLDED: Final = 150
_MAX_SENTENCES_UNFOLDED: Final = 30
_SUM_REGION: Final = "kidneys"

PageLinks = Mapping[tuple[str, str], str]

_FLAG_COUNTS: Final = (
    Column("Flag", lambda row: words.flag(row["flag"]), lead=True, wide=True),
    Column("Table", lambda row: row["table"].replace("_", " ")),
    Column("Rows", lambda row: str(row["n_rows"]), "n", number=True),
    Column("Patients", lambda row: str(row["n_patients"]), "n", number=True),
    Column("Sites", lambda row: str(row["n_sites"]), "n", number=True),
)


def cohort_page(
    *,
    cohort: str,
    tables: Tables,
    software_version: str,
    comparison: Comparison | None = None,
    page_links: PageLinks | None = None,
    rows_not_shown: int = 0,
) -> str:
    """The page of a cohort as one HTML text that needs no other file.

    Parameters
    ----------
    tables
        Rows of the whole cohort by table name, as of `doseledger.io.tables.SCHEMAS`.
    software_version
        Version that makes the page; the rows carry their own.
    comparison
        Rows of the tables of stage ``compare`` by name, as of `doseledger.io.tables.COMPARISON_SCHEMAS`; without
        them the page says nothing of differences between sites.
    page_links
        Address of each patient's page, by site and patient, relative to this page.
    rows_not_shown
        Rows of the ledger that are too many for a page and not among `tables`.

    Returns
    -------
    str
        HTML with its figures inside; the same input gives the same bytes.

    Raises
    ------
    KeyError
        A table or column that the ledger does not have.
    """
    rows = checked(tables)
    flag_counts = (comparison or {}).get("flag_count", ())
    links = page_links or {}
    troubles = stopped(rows["stage_outcome"])
    primary = [row for row in rows["organ_dose"] if is_leading(row)]
    primary.sort(
        key=lambda r: (r["site"], r["patient"], r["cycle"], words.region_order(r["region"]), not r["is_primary"])
    )
    sums = [row for row in sums_by_region(rows["course"]) if row["region"] == _SUM_REGION]
    return render(
        "cohort.html.j2",
        cohort=cohort,
        software_version=software_version,
        origins=origins(rows),
        demo_weights=by_demo_weights(rows) or any(row["flag"] == DEMO_WEIGHTS for row in flag_counts),
        counts=counts(rows),
        sites=site_table(rows),
        stopped=troubles,
        stopped_codes=_codes(troubles),
        max_stopped=_MAX_SENTENCES_UNFOLDED,
        **comparison_view(comparison or {}),
        sum_charts=sum_charts(sums, lambda row: f"{row['site']} {row['patient']}"),
        flags=data_table(_FLAG_COUNTS, flag_counts),
        listings=_listings(primary, links),
        n_primary=len(primary),
        rows_not_shown=rows_not_shown,
        max_listed=_MAX_ROWS_LISTED,
        unfolded=len(primary) <= _MAX_ROWS_UNFOLDED,
        links=[Link(f"{site} {patient}", links[site, patient]) for site, patient in sorted(links)],
        methods=methods.paragraphs(rows),
        provenance=methods.provenance(rows)[:2],
    )


def _codes(troubles: Sequence[Row]) -> str:
    """How often each code occurs, most frequent first."""
    found = Counter(f"{row['status']}, {words.text(row['code'])}" for row in troubles)
    return "; ".join(f"{code}: {times}" for code, times in sorted(found.items(), key=lambda item: (-item[1], item[0])))


def _listings(primary: Sequence[Row], links: PageLinks) -> list[dict[str, Any]]:
    """Every primary row, one table per site."""
    if len(primary) > _MAX_ROWS_LISTED:
        return []

    def patient(row: Row) -> Cell:
        href = links.get((row["site"], row["patient"]))
        return row["patient"] if href is None else Link(row["patient"], href)

    columns = (
        Column("Patient", patient, lead=True),
        CYCLE,
        REGION,
        Column("Scans", lambda row: words.text(row["n_timepoints"]), "n", number=True),
        number("Mean dose", "absorbed_dose_gy", "Gy"),
        Column("95 % interval", lambda r: words.interval(r["dose_low_gy"], r["dose_high_gy"]), "Gy", number=True),
        percent("u", "u_absorbed_dose_rel"),
        number("Dose per activity", "dose_gy_per_gbq", "Gy/GBq"),
        FLAGS,
    )
    return [
        {"site": site, "table": data_table(columns, list(rows))}
        for site, rows in groupby(primary, key=lambda row: row["site"])
    ]
