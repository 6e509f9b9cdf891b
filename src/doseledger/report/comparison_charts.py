"""Charts of the comparison of sites: effects with their intervals, and distributions too large for points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from doseledger.report.charts import label_share
from doseledger.report.figures import ACCENT, FAINT, INK, MUTED, render

_WIDTH_IN: Final = 4.4
_ROW_IN: Final = 0.27
_BOTTOM_IN: Final = 0.45
_ALARM: Final = "#a3341f"
#: An axis of no effect at all still shows so much to both sides.
_LEAST_REACH: Final = 0.05
_HEADROOM: Final = 1.08
_LEGEND_IN: Final = 0.3
#: Colour and hatching of ok, refused, failed, missing and not imaged: told apart without colours too.
_STATE_LOOKS: Final = ((ACCENT, ""), ("#e9c46a", "//"), (_ALARM, "xx"), ("#ffffff", ""), (FAINT, ".."))


@dataclass(frozen=True)
class Effect:
    """A difference with its 95 % interval, as shares; `stands_out` is drawn filled."""

    label: str
    value: float
    low: float
    high: float
    stands_out: bool


@dataclass(frozen=True)
class Spread:
    """Percentiles of the values of one site."""

    site: str
    n: int
    p5: float
    q25: float
    median: float
    q75: float
    p95: float


def reach_of(effects: Sequence[Effect]) -> float:
    """How far intervals reach from no difference, as a share."""
    return max([_LEAST_REACH, *(max(abs(e.low), abs(e.high)) for e in effects)])


def caterpillar_chart(effects: Sequence[Effect], *, x_label: str, reach: float) -> str:
    """Effects in the order given, from the top, around a line of no difference; the axis is in per cent."""
    side = 100.0 * _HEADROOM * reach

    def draw(figure: Figure) -> None:
        height_in = figure.get_figheight()
        left = label_share([effect.label for effect in effects])
        axes = figure.add_axes((left, _BOTTOM_IN / height_in, 0.97 - left, 1 - (_BOTTOM_IN + 0.06) / height_in))
        axes.axvline(0.0, color=MUTED, linewidth=0.9)
        for row, effect in enumerate(effects):
            colour = _ALARM if effect.stands_out else INK
            axes.plot([100.0 * effect.low, 100.0 * effect.high], [row, row], color=colour, linewidth=1.3)
            face = colour if effect.stands_out else "white"
            axes.plot([100.0 * effect.value], [row], "o", color=colour, markerfacecolor=face, markersize=4.8)
        _rows(axes, [effect.label for effect in effects])
        axes.set_xlim(-side, side)
        axes.set_xlabel(x_label)

    return render(draw, width_in=_WIDTH_IN, height_in=_BOTTOM_IN + 0.06 + _ROW_IN * len(effects))


def completeness_chart(sites: Sequence[tuple[str, Sequence[int]]], states: Sequence[str]) -> str:
    """Cycles of each site by state, as one bar of parts."""

    def draw(figure: Figure) -> None:
        height_in = figure.get_figheight()
        left = label_share([site for site, _ in sites])
        axes = figure.add_axes((left, _BOTTOM_IN / height_in, 0.97 - left, 1 - (_BOTTOM_IN + _LEGEND_IN) / height_in))
        starts = [0] * len(sites)
        for number, state in enumerate(states):
            counts = [parts[number] for _, parts in sites]
            if not any(counts):
                continue
            face, hatch = _STATE_LOOKS[number % len(_STATE_LOOKS)]
            axes.barh(
                range(len(sites)), counts, left=starts, height=0.62,
                facecolor=face, edgecolor=INK, linewidth=0.6, hatch=hatch, label=state,
            )  # fmt: skip
            starts = [start + count for start, count in zip(starts, counts, strict=True)]
        _rows(axes, [site for site, _ in sites])
        axes.set_xlim(0.0, max(1, *starts, 1) * 1.03)
        axes.set_xlabel("cycles")
        axes.legend(loc="lower left", bbox_to_anchor=(0.0, 1.0), ncols=5, frameon=False, fontsize=7.5, borderpad=0.2)

    return render(draw, width_in=_WIDTH_IN, height_in=_BOTTOM_IN + _LEGEND_IN + _ROW_IN * len(sites))


def spread_chart(spreads: Sequence[Spread], *, x_label: str) -> str:
    """Middle half as a box with the median, 5th to 95th percentile as a line, by site."""
    top = _HEADROOM * max(spread.p95 for spread in spreads)

    def draw(figure: Figure) -> None:
        height_in = figure.get_figheight()
        labels = [f"{spread.site}\nn = {spread.n}" for spread in spreads]
        left = label_share([*(spread.site for spread in spreads), "n = 100000"])
        axes = figure.add_axes((left, _BOTTOM_IN / height_in, 0.97 - left, 1 - (_BOTTOM_IN + 0.06) / height_in))
        for row, spread in enumerate(spreads):
            axes.plot([spread.p5, spread.p95], [row, row], color=INK, linewidth=1.0)
            width = spread.q75 - spread.q25
            axes.barh(row, width, left=spread.q25, height=0.5, facecolor="#dbe6ec", edgecolor=ACCENT, linewidth=0.8)
            axes.plot([spread.median] * 2, [row - 0.25, row + 0.25], color=ACCENT, linewidth=1.6)
        _rows(axes, labels)
        axes.set_xlim(0.0, top)
        axes.set_xlabel(x_label)

    return render(draw, width_in=_WIDTH_IN, height_in=_BOTTOM_IN + 0.06 + 0.45 * len(spreads))


def _rows(axes: Axes, labels: Sequence[str]) -> None:
    axes.set_yticks(range(len(labels)), labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.tick_params(axis="y", length=0)
    axes.grid(axis="x", color=FAINT, linewidth=0.7)
    axes.set_axisbelow(True)
