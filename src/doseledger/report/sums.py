"""Sums over the cycles with their status and reference lines, as both pages show them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from typing import Any, Final

from doseledger.report import charts, words
from doseledger.report.pages import Picture, Row

#: Quantity of a limit: column of the sum, axis label, and whether a prior dose is stacked before it.
_QUANTITIES: Final[dict[str, tuple[str, str, bool]]] = {
    "absorbed_dose": ("cumulative_dose_gy", "cumulative absorbed dose, Gy", True),
    "bed": ("cumulative_bed_gy", "cumulative BED, Gy", False),
}
QUANTITY_WORDS: Final[dict[str, str]] = {"absorbed_dose": "absorbed dose", "bed": "BED"}
_COMPLETE: Final = "complete"
#: Shown for every patient, also where no limit is declared.
_ALWAYS: Final = "kidneys"


def sums_by_region(course: Sequence[Row]) -> list[Row]:
    """One row per site, patient, region and marrow method, with its limits as a list and its status in words."""
    sums: dict[tuple[str, str, str, str | None], Row] = {}
    for row in course:
        merged = sums.setdefault(
            (row["site"], row["patient"], row["region"], row["marrow_method"]),
            {
                **row,
                "limits": [],
                "status_words": words.cumulative_status(
                    row["cumulative_status"],
                    given=row["cycles_given"],
                    counted=row["cycles_counted"],
                    imputed=row["cycles_imputed"],
                ),
            },
        )
        if row["limit_gy"] is not None:
            merged["limits"].append(row)
    return sorted(
        sums.values(),
        key=lambda r: (r["site"], r["patient"], words.region_order(r["region"]), r["marrow_method"] or ""),
    )


def limit_text(limit: Row) -> str:
    """A reference line with its source and, where the sum is complete, the share reached."""
    quantity = QUANTITY_WORDS.get(limit["limit_quantity"], words.text(limit["limit_quantity"]))
    parts = [f"{words.declared(limit['limit_gy'])} Gy {quantity}"]
    if limit["limit_source"]:
        parts[0] += f" ({limit['limit_source']})"
    if limit["fraction_of_limit"] is not None:
        parts.append(f"{words.percent(limit['fraction_of_limit'])} % of it reached")
    if limit["activity_left_mbq"] is not None:
        parts.append(f"{words.significant(limit['activity_left_mbq'])} MBq left to it")
    return ", ".join(parts)


def sum_charts(
    sums: Iterable[Row], name_of: Callable[[Row], str] = lambda row: words.region(row["region"], row["marrow_method"])
) -> list[Picture]:
    """One chart per quantity and set of reference lines; a bar is one row of `sums`."""
    pictures = []
    for quantity, (column, axis, has_prior) in _QUANTITIES.items():
        shown: list[tuple[tuple[float, ...], Row]] = []
        for row in sums:
            limits = tuple(sorted({x["limit_gy"] for x in row["limits"] if x["limit_quantity"] == quantity}))
            if words.drawable(row[column]) and (limits or (row["region"] == _ALWAYS and has_prior)):
                shown.append((limits, row))
        for limits, group in groupby(sorted(shown, key=lambda item: item[0]), key=lambda item: item[0]):
            rows = [row for _, row in group]
            pictures.append(_sum_chart(rows, name_of, limits, column=column, axis=axis, has_prior=has_prior))
    return pictures


def _sum_chart(
    rows: Sequence[Row],
    name_of: Callable[[Row], str],
    limits_gy: tuple[float, ...],
    **quantity: Any,
) -> Picture:
    column, axis, has_prior = quantity["column"], quantity["axis"], quantity["has_prior"]
    bars = [
        charts.Bar(
            label=name_of(row),
            value_gy=row[column],
            prior_gy=row["prior_dose_gy"] if has_prior and words.drawable(row["prior_dose_gy"]) else 0.0,
            complete=row["cumulative_status"] == _COMPLETE,
        )
        for row in rows
    ]
    named = len(bars) <= charts.MAX_BARS
    regions = words.listing(words.region(row["region"], row["marrow_method"]) for row in rows)
    lines = words.listing(f"{words.declared(limit)} Gy" for limit in limits_gy)
    detail = [f"Dashed: reference lines at {lines}, not verdicts." if lines else "No reference line is declared."]
    if not all(bar.complete for bar in bars):
        detail.append(f"{'Hatched' if named else 'Open'}: not every given cycle counted, or some imputed.")
    if any(row["prior_dose_gy"] for row in rows):
        included = "Grey: declared prior dose." if named else "Declared prior dose is included."
        detail.append(included if has_prior else "The declared prior dose is not part of this chart.")
    if not named:
        detail.append(f"{len(bars)} sums in order of size.")
    return Picture(
        charts.bar_chart(bars, limits_gy, x_label=axis),
        f"{regions}: {axis}, {words.count(len(bars), 'bar')}",
        f"{regions}: {axis}.",
        " ".join(detail),
    )
