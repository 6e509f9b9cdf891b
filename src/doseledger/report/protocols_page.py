"""The page of a study of reduced protocols: one figure, and a table per radiopharmaceutical and region."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from matplotlib.figure import Figure

from doseledger.report import words
from doseledger.report.figures import FAINT, INK, MUTED
from doseledger.report.figures import render as draw_figure
from doseledger.report.pages import Column, Picture, Row, data_table, label, render

#: Words, colour and marker of each method.
METHODS: Final[dict[str, tuple[str, str, str]]] = {
    "hanscheid": ("Hänscheid", MUTED, "o"),
    "madsen": ("Madsen", "#0072b2", "s"),
    "population": ("population", "#b35900", "D"),
    "own_cycle": ("own earlier cycle", "#2e8b2e", "^"),
    "mono": ("through both scans", INK, "v"),
    "full": ("all scans", INK, "x"),
}
_PER_ROW: Final = 3
_PANEL_IN: Final = (3.1, 2.3)
#: Top of the axis, %: larger errors are at the edge.
_TOP: Final = 60.0

_COLUMNS: Final = (
    label("Scans", "schedule", lead=True),
    Column("Method", lambda row: METHODS[row["method"]][0], lead=True),
    Column("n", lambda row: str(row["n"]), number=True),
    Column("Median", lambda row: words.change(row["median_ratio"] - 1.0), "%", number=True),
    Column("rms of ln", lambda row: words.percent(row["rms_ln"]), "%", number=True),
    Column("Beyond 10 %", lambda row: words.percent(row["beyond_10"]), "%", number=True),
    Column("Beyond 20 %", lambda row: words.percent(row["beyond_20"]), "%", number=True),
    Column("Worst", lambda row: words.change(row["worst_ratio"] - 1.0), "%", number=True),
    Column("In interval", lambda row: words.percent(row["inside_95"]), "%", number=True),
)


def protocols_page(
    *, cohort: str, rows: Sequence[Row], origins: Sequence[str], cycles: int, software_version: str
) -> str:
    """The page as one HTML text that needs no other file.

    Parameters
    ----------
    rows
        Summaries as plain data, in order.
    cycles
        Region curves with all their scans that the study rests on.
    """
    groups = sorted({(row["against"], row["radiopharmaceutical"], row["region"]) for row in rows}, key=_order)
    sections = [
        {
            "heading": f"{words.region(region)}, {words.tracer(drug)}, against {against}",
            "table": data_table(_COLUMNS, [r for r in rows if _group(r) == (against, drug, region)]),
        }
        for against, drug, region in groups
    ]
    return render(
        "protocols.html.j2",
        cohort=cohort,
        software_version=software_version,
        origins=list(origins),
        demo_weights=False,
        cycles=cycles,
        picture=_picture(rows, [g for g in groups if g[0] == groups[0][0]]),
        sections=sections,
    )


def _order(group: tuple[str, str, str]) -> tuple[Any, ...]:
    against, drug, region = group
    return against, drug, region != "kidney", words.region_order(region)


def _group(row: Row) -> tuple[str, str, str]:
    return row["against"], row["radiopharmaceutical"], row["region"]


def _picture(rows: Sequence[Row], groups: Sequence[tuple[str, str, str]]) -> Picture:
    """Root-mean-square error of one scan by its time and method."""
    single = {group: [r for r in rows if _group(r) == group and _is_single(r)] for group in groups}
    high = -(-len(groups) // _PER_ROW)
    wide = min(len(groups), _PER_ROW)

    def draw(figure: Figure) -> None:
        panels = figure.subplots(high, wide, squeeze=False, sharey=True)
        for axes in panels.flat[len(groups) :]:
            axes.set_visible(False)
        for axes, group in zip(panels.flat, groups, strict=False):
            times = sorted({_hours(row) for row in single[group]})
            for method, (text, colour, marker) in METHODS.items():
                own = [row for row in single[group] if row["method"] == method]
                if own:
                    at = [times.index(_hours(row)) for row in own]
                    error = [min(100.0 * row["rms_ln"], _TOP) for row in own]
                    axes.plot(at, error, marker=marker, color=colour, label=text, markersize=4, linewidth=1.1)
            axes.set_xticks(range(len(times)), [str(t) for t in times])
            axes.set_ylim(0.0, _TOP)
            axes.grid(axis="y", color=FAINT, linewidth=0.6)
            axes.set_title(f"{words.region(group[2])}\n{words.tracer(group[1])}", fontsize=8)
            axes.set_xlabel("scan at, h")
        for row_of_panels in panels:
            row_of_panels[0].set_ylabel("rms error, %")
        handles, texts = panels.flat[0].get_legend_handles_labels()
        figure.legend(handles, texts, loc="upper center", ncols=len(texts), frameon=False, fontsize=8)
        figure.tight_layout(rect=(0.0, 0.0, 1.0, 1.0 - 0.32 / (_PANEL_IN[1] * high)))

    source = draw_figure(draw, width_in=_PANEL_IN[0] * wide, height_in=_PANEL_IN[1] * high + 0.3)
    detail = f"Root mean square of ln(estimate/reference), against {groups[0][0]}; {_TOP:.0f} % and more at the edge."
    return Picture(source, "Error of one scan by its time and method", "One scan", detail)


def _is_single(row: Row) -> bool:
    return row["method"] != "full" and "+" not in row["schedule"]


def _hours(row: Row) -> int:
    return int(row["schedule"].removesuffix(" h"))
