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


def caterpillar_chart(effects: Sequence[Effect], *, x_label: str, percent: bool = True) -> str:
    """Effects in the order given, from the top, around a line of no difference."""
    scale = 100.0 if percent else 1.0
    reach = _HEADROOM * scale * max([_LEAST_REACH, *(max(abs(e.low), abs(e.high)) for e in effects)])

    def draw(figure: Figure) -> None:
        height_in = figure.get_figheight()
        left = label_share([effect.label for effect in effects])
        axes = figure.add_axes((left, _BOTTOM_IN / height_in, 0.97 - left, 1 - (_BOTTOM_IN + 0.06) / height_in))
        axes.axvline(0.0, color=MUTED, linewidth=0.9)
        for row, effect in enumerate(effects):
            colour = _ALARM if effect.stands_out else INK
            axes.plot([scale * effect.low, scale * effect.high], [row, row], color=colour, linewidth=1.3)
            face = colour if effect.stands_out else "white"
            axes.plot([scale * effect.value], [row], "o", color=colour, markerfacecolor=face, markersize=4.8)
        _rows(axes, [effect.label for effect in effects])
        axes.set_xlim(-reach, reach)
        axes.set_xlabel(x_label)

    return render(draw, width_in=_WIDTH_IN, height_in=_BOTTOM_IN + 0.06 + _ROW_IN * len(effects))


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
