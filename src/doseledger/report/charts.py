"""Charts of table rows: time-activity curves, dose-volume histograms, strips by site, sums of dose.

Words stay outside the charts as far as possible: captions and legends are text of the page, which
a phone can wrap, a screen reader can read and a browser can print sharply.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from doseledger.report.figures import ACCENT, FAINT, INK, MUTED, render
from doseledger.report.words import declared, drawable

_PANEL_IN: Final = (3.4, 2.25)
_WIDE_IN: Final = 4.4
_LETTER_IN: Final = 0.077
_CURVE_SAMPLES: Final = 200
#: The axis shows so many half-lives after the last scan: 3/4 of what is extrapolated.
_HALF_LIVES_SHOWN: Final = 2.0
_HEADROOM: Final = 1.12
#: Above this many points an SVG grows larger than a picture.
_MAX_VECTOR_POINTS: Final = 600
#: Points closer than this share of the axis are set side by side.
_TOUCHING: Final = 0.02
_OFFSETS: Final = (0.0, 0.13, -0.13, 0.26, -0.26, 0.39, -0.39)
_MIN_FOR_BOX: Final = 5
#: More points than this in one strip are drawn smaller.
_FEW: Final = 40
#: More sums than this are drawn as points without names.
MAX_BARS: Final = 60
_PROTOCOL_MARKERS: Final[dict[str | None, str]] = {"mtp": "o", "2tp": "^", "stp": "D"}
_OTHER_MARKER: Final = "X"


@dataclass(frozen=True)
class CurvePanel:
    """One region in one cycle: measured points and, for a sum of exponentials, its fit.

    All numbers are finite; `corrected_mbq` holds None where there is no recovery correction.
    `terms` are pairs ``(amplitude_mbq, rate_per_h)`` of A(t) = sum amplitude exp(-rate t), or none.
    """

    times_h: tuple[float, ...]
    activity_mbq: tuple[float, ...]
    u_activity_mbq: tuple[float, ...]
    corrected_mbq: tuple[float | None, ...]
    terms: tuple[tuple[float, float], ...]
    half_life_h: float | None

    @property
    def last_h(self) -> float:
        return max(self.times_h)

    @property
    def shown_until_h(self) -> float:
        return self.last_h + (_HALF_LIVES_SHOWN * self.half_life_h if drawable(self.half_life_h) else 0.0)

    @property
    def top_mbq(self) -> float:
        bars = [a + u for a, u in zip(self.activity_mbq, self.u_activity_mbq, strict=True)]
        shown_h = np.linspace(0.0, self.last_h, _CURVE_SAMPLES)
        curve: list[float] = activity_mbq(self.terms, shown_h).tolist() if self.terms else []
        tops = [*bars, *(a for a in self.corrected_mbq if a is not None), *curve]
        return max(tops)


@dataclass(frozen=True)
class Histogram:
    """A differential dose-volume histogram and how its line looks."""

    edges_gy: tuple[float, ...]
    volume_fraction: tuple[float, ...]
    colour: str
    linestyle: str


@dataclass(frozen=True)
class Strip:
    """Values of one site with the protocol of each."""

    site: str
    values: tuple[float, ...]
    protocols: tuple[str | None, ...]


@dataclass(frozen=True)
class Bar:
    """A sum over cycles; `prior_gy` is stacked before it, an incomplete sum is hatched."""

    label: str
    value_gy: float
    prior_gy: float
    complete: bool

    @property
    def total_gy(self) -> float:
        return self.prior_gy + self.value_gy


def curve_chart(panel: CurvePanel, *, until_h: float, top_mbq: float) -> str:
    """Activity against hours after mid-injection; the part after the last scan is shaded."""

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.155, 0.2, 0.82, 0.76))
        if panel.terms:
            _draw_fit(axes, panel.terms, panel.last_h, until_h)
        axes.axvline(panel.last_h, color=MUTED, linewidth=0.8, linestyle=":")
        axes.text(panel.last_h, top_mbq, " last scan", color=MUTED, fontsize=7.5, va="top")
        axes.errorbar(
            panel.times_h,
            panel.activity_mbq,
            yerr=panel.u_activity_mbq,
            fmt="o",
            color=INK,
            markersize=4,
            capsize=2,
            linewidth=1,
        )
        corrected = [(t, a) for t, a in zip(panel.times_h, panel.corrected_mbq, strict=True) if a is not None]
        if corrected:
            axes.plot(*zip(*corrected, strict=True), "D", color=ACCENT, markerfacecolor="white", markersize=4.5)
        axes.set_xlim(0.0, until_h)
        axes.set_ylim(0.0, top_mbq)
        axes.set_xlabel("hours after mid-injection")
        axes.set_ylabel("activity, MBq")
        axes.yaxis.set_label_coords(-0.135, 0.5)

    return render(draw, width_in=_PANEL_IN[0], height_in=_PANEL_IN[1])


def common_axes(panels: Sequence[CurvePanel]) -> tuple[float, float]:
    """End of the time axis (h) and of the activity axis (MBq) that hold all `panels`."""
    until_h = max(panel.shown_until_h for panel in panels)
    return until_h * 1.05 or 1.0, max(panel.top_mbq for panel in panels) * _HEADROOM or 1.0


def activity_mbq(terms: Sequence[tuple[float, float]], times_h: NDArray[np.float64]) -> NDArray[np.float64]:
    """Sum of exponentials ``(amplitude_mbq, rate_per_h)`` at times."""
    amplitudes, rates = np.array(terms).T
    return np.asarray(amplitudes @ np.exp(-rates[:, None] * times_h))


def _draw_fit(axes: Axes, terms: Sequence[tuple[float, float]], last_h: float, until_h: float) -> None:
    measured_h = np.linspace(0.0, last_h, _CURVE_SAMPLES)
    beyond_h = np.linspace(last_h, until_h, _CURVE_SAMPLES)
    beyond_mbq = activity_mbq(terms, beyond_h)
    axes.plot(measured_h, activity_mbq(terms, measured_h), color=ACCENT, linewidth=1.4)
    axes.plot(beyond_h, beyond_mbq, color=ACCENT, linewidth=1.2, linestyle="--")
    axes.fill_between(beyond_h, beyond_mbq, color=ACCENT, alpha=0.14, linewidth=0)


def histogram_chart(histograms: Sequence[Histogram]) -> str:
    """Cumulative dose-volume histograms: share of the volume that receives at least a dose."""

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.135, 0.155, 0.84, 0.81))
        for item in histograms:
            at_least = 1.0 - np.concatenate([[0.0], np.cumsum(item.volume_fraction)])
            axes.plot(item.edges_gy, 100.0 * at_least, color=item.colour, linestyle=item.linestyle, linewidth=1.5)
        axes.set_xlim(0.0, max(item.edges_gy[-1] for item in histograms))
        axes.set_ylim(0.0, 102.0)
        axes.grid(color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlabel("absorbed dose, Gy")
        axes.set_ylabel("volume with at least this dose, %")

    return render(draw, width_in=_WIDE_IN, height_in=3.2)


def strip_chart(strips: Sequence[Strip], *, x_label: str) -> str:
    """Every value as a point by site, with quartile box and median; no jitter, so it repeats."""
    n_points = sum(len(strip.values) for strip in strips)
    top = max((value for strip in strips for value in strip.values), default=0.0) * _HEADROOM or 1.0

    def draw(figure: Figure) -> None:
        height_in = figure.get_figheight()
        left = label_share([strip.site for strip in strips] + ["n = 1000"])
        axes = figure.add_axes((left, 0.45 / height_in, 0.97 - left, 1 - 0.5 / height_in))
        for row, strip in enumerate(strips):
            _draw_strip(axes, row, strip, top)
        axes.set_yticks(range(len(strips)), [f"{strip.site}\nn = {len(strip.values)}" for strip in strips])
        axes.set_ylim(len(strips) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0.0, top)
        axes.grid(axis="x", color=FAINT, linewidth=0.7)
        axes.set_axisbelow(True)
        axes.set_xlabel(x_label)

    kind: Literal["png", "svg"] = "svg" if n_points <= _MAX_VECTOR_POINTS else "png"
    return render(draw, width_in=_WIDE_IN, height_in=0.55 + 0.55 * len(strips), kind=kind)


def _draw_strip(axes: Axes, row: int, strip: Strip, top: float) -> None:
    values = np.asarray(strip.values)
    if len(values) >= _MIN_FOR_BOX:
        low, high = np.percentile(values, [25.0, 75.0])
        axes.barh(row, high - low, left=low, height=0.62, color=ACCENT, alpha=0.14, linewidth=0)
    if len(values):
        # Above the points, where they would cover it.
        axes.plot([np.median(values)] * 2, [row - 0.31, row + 0.31], color=ACCENT, linewidth=1.8, zorder=3)
    heights = row + _side_by_side(values, _TOUCHING * top)
    for protocol in dict.fromkeys(sorted(strip.protocols, key=str)):
        chosen = np.array([p == protocol for p in strip.protocols])
        marker = _PROTOCOL_MARKERS.get(protocol, _OTHER_MARKER)
        axes.scatter(
            values[chosen],
            heights[chosen],
            s=20 if len(values) <= _FEW else 7,
            marker=marker,
            facecolors="white",
            edgecolors=INK,
            linewidths=0.9,
        )


def _side_by_side(values: NDArray[np.float64], touching: float) -> NDArray[np.float64]:
    """Offsets across the strip: each point next to neighbours that it would cover."""
    offsets = np.zeros(len(values))
    order = np.argsort(values, kind="stable")
    run = 0
    for previous, current in pairwise(order):
        run = run + 1 if values[current] - values[previous] < touching else 0
        offsets[current] = _OFFSETS[run % len(_OFFSETS)]
    return offsets


def bar_chart(bars: Sequence[Bar], limits_gy: Sequence[float], *, x_label: str) -> str:
    """Sums over cycles as horizontal bars with reference lines; above `MAX_BARS` as points in order of size."""
    named = len(bars) <= MAX_BARS
    bars_in = 0.28 * (len(bars) if named else MAX_BARS // 4)
    top = max([*(bar.total_gy for bar in bars), *limits_gy, 0.0]) * _HEADROOM or 1.0

    def draw(figure: Figure) -> None:
        height_in = figure.get_figheight()
        left = label_share([bar.label for bar in bars] if named else [])
        axes = figure.add_axes((left, 0.45 / height_in, 0.97 - left, bars_in / height_in))
        if named:
            _draw_bars(axes, bars)
        else:
            _draw_ranks(axes, bars)
        above = axes.get_xaxis_transform()
        for limit_gy in limits_gy:
            axes.axvline(limit_gy, color=INK, linewidth=1.0, linestyle="--")
            axes.text(limit_gy, 1.01, f"{declared(limit_gy)} Gy", transform=above, fontsize=8, ha="center", va="bottom")
        axes.set_ylim(len(bars) - 0.5, -0.5)
        axes.tick_params(axis="y", length=0)
        axes.set_xlim(0.0, top)
        axes.set_xlabel(x_label)

    return render(draw, width_in=_WIDE_IN, height_in=bars_in + 0.45 + 0.22, kind="svg" if named else "png")


def _draw_bars(axes: Axes, bars: Sequence[Bar]) -> None:
    rows = range(len(bars))
    prior_gy = [bar.prior_gy for bar in bars]
    axes.barh(rows, prior_gy, height=0.62, color=MUTED, alpha=0.55, linewidth=0)
    drawn = axes.barh(rows, [bar.value_gy for bar in bars], left=prior_gy, height=0.62, color=ACCENT, linewidth=0.8)
    for patch, bar in zip(drawn, bars, strict=True):
        if not bar.complete:
            patch.set(facecolor="white", edgecolor=ACCENT, hatch="////")
    axes.set_yticks(rows, [bar.label for bar in bars])


def _draw_ranks(axes: Axes, bars: Sequence[Bar]) -> None:
    ranked = sorted(bars, key=lambda bar: -bar.total_gy)
    faces = [ACCENT if bar.complete else "white" for bar in ranked]
    totals_gy = [bar.total_gy for bar in ranked]
    axes.scatter(totals_gy, range(len(ranked)), s=9, facecolors=faces, edgecolors=ACCENT, linewidths=0.6)
    axes.set_yticks([])


def label_share(labels: Sequence[str]) -> float:
    """Share of a wide chart that names at its left need."""
    longest = max((len(label) for label in labels), default=0)
    return min(0.45, (0.2 + _LETTER_IN * longest) / _WIDE_IN)
