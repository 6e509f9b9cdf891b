"""The contact sheet of one patient-cycle: all scans with the outlines of their regions, in one picture.

It is made for looking at masks before their doses are believed. Nothing on it is computed for the ledger.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from textwrap import wrap
from typing import Final, Literal

import numpy as np
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from doseledger.errors import UnknownNameError
from doseledger.regions.gate import FLAG_MEANINGS
from doseledger.report import words
from doseledger.report.figures import FAINT, INK, MUTED, render
from doseledger.report.region_styles import RegionStyle, region_styles
from doseledger.report.scan_pictures import Picture, ScanView
from doseledger.report.sections import ScanPanel

__all__ = ["RegionStyle", "ScanPanel", "contact_sheet", "region_styles"]

NOTICE: Final = "Research software. Not a medical device."
FLAG_RED: Final = "#c1121f"

#: Layout in pixels; text in pixels too, as high as a line of it.
_DPI: Final = 160
_WIDTH: Final = 1600
_EDGE: Final = 18
_GAP: Final = 8
_LIST_WIDTH: Final = 262
_LINE: Final = 17
_SMALL, _TEXT, _HEADING, _TITLE, _MARK = 12.0, 13.0, 17.0, 24.0, 38.0
_SWATCH: Final = (26, 13)
#: Room for a volume at the end of a line of the list.
_VOLUME_WIDTH: Final = 76
#: From the list to the pictures.
_LIST_GAP: Final = 16
#: Highest picture, and largest scale: a small field is not blown up.
_TALLEST: Final = 420
_LARGEST_PX_PER_MM: Final = 1.5
#: Width of a letter of DejaVu Sans over its size, a little more than the mean: lines must not run into pictures.
_LETTER: Final = 0.6
_BAR_MM: Final = 50.0
#: Middles of the letters of the sides, from the edge; pictures lower than this have no room above and below.
_LETTER_EDGE: Final = 10
_LOW: Final = 60
#: Half the room that a number takes.
_NUMBER_RADIUS: Final = 8
_POINTS_PER_INCH: Final = 72.0


@dataclass(frozen=True)
class _Line:
    """A line of the list beside the pictures; `amount` stands at its end."""

    text: str
    amount: str = ""
    colour: str = INK
    size: float = _TEXT
    style: RegionStyle | None = None
    indent: float = 0.0


@dataclass(frozen=True)
class _Block:
    """A part of the sheet: its height, and what draws it below a given height. Blocks stand one above the other."""

    height: float
    draw: Callable[[Axes, float], None]


def contact_sheet(
    panels: Sequence[ScanPanel], regions: Sequence[RegionStyle], *, title: str, mark: str | None = None
) -> bytes:
    """One row per scan: sections with outlines, SPECT maximum projection, volumes and flags.

    Sections run along the voxels of the CT (without CT: of the SPECT); the patient's left is on the right. The
    same input gives the same bytes.

    Parameters
    ----------
    panels
        Scans in order of time.
    regions
        Every region of the label maps, in the order of the legend; see `region_styles`.
    title
        Names the patient and the cycle.
    mark
        Printed large and red at the top and again at the bottom, e.g. that weights are for demonstration only.

    Returns
    -------
    PNG, 1600 pixels wide.

    Raises
    ------
    UnknownNameError
        A label map holds a label that `regions` does not name, or two of `regions` have a label or a name in common.
    QuantityError
        An image holds values that are not finite.
    """
    names = {style.label: style.region for style in regions}
    if len(set(names.values())) < len(regions):
        raise UnknownNameError("two regions have the same label or name", value=[(r.label, r.region) for r in regions])
    views = [ScanView(panel, names) for panel in panels]
    scales = _scales(views)
    pictures = [view.pictures(*scales) for view in views]
    widths = [max((p.grey.shape[1] for p in column if p), default=0) for column in zip(*pictures, strict=True)]
    blocks = [
        *_text_blocks(mark or "", size=_MARK, colour=FLAG_RED),
        *_text_blocks(title, size=_TITLE, colour=INK),
        _legend(regions),
        *(_row(view, shown, widths, regions) for view, shown in zip(views, pictures, strict=True)),
        _rule(),
        *_text_blocks(NOTICE, size=_HEADING, colour=INK),
        *_text_blocks(mark or "", size=_HEADING, colour=FLAG_RED),
    ]
    height = round(sum(block.height for block in blocks)) + 2 * _EDGE

    def draw(figure: Figure) -> None:
        axes = figure.add_axes((0.0, 0.0, 1.0, 1.0), xlim=(0, _WIDTH), ylim=(height, 0), autoscale_on=False)
        axes.set_axis_off()
        y = float(_EDGE)
        for block in blocks:
            block.draw(axes, y)
            y += block.height

    uri = render(draw, width_in=_WIDTH / _DPI, height_in=height / _DPI, kind="png")
    return b64decode(uri.partition(",")[2])


def _scales(views: Sequence[ScanView]) -> tuple[float, float]:
    """Pixels per mm, one for the sections of all scans, so that sizes compare, and one for the projections."""
    sections = [view.sizes_mm() for view in views]
    projections = [view.projection_size_mm() for view in views]
    widths_mm = [max((size[1] for size in column if size), default=0.0) for column in zip(*sections, strict=True)]
    tallest_mm = max((size[0] for row in sections for size in row if size), default=0.0)
    width_mm = sum(widths_mm) + max((size[1] for size in projections), default=0.0)
    room = _WIDTH - 2 * _EDGE - _LIST_WIDTH - 4 * _GAP
    scale = min(_LARGEST_PX_PER_MM, room / width_mm, _TALLEST / tallest_mm) if width_mm else _LARGEST_PX_PER_MM
    projected_mm = max((size[0] for size in projections), default=0.0)
    return scale, min(scale, _TALLEST / projected_mm) if projected_mm else scale


def _text_blocks(text: str, *, size: float, colour: str) -> list[_Block]:
    def block(line: str) -> _Block:
        return _Block(1.5 * size, lambda axes, y: _write(axes, _EDGE, y + 0.75 * size, line, size, colour, bold=True))

    return [block(line) for line in wrap(text, _letters(_WIDTH - 2 * _EDGE, size))]


def _rule() -> _Block:
    return _Block(_GAP, lambda axes, y: _draw_rule(axes, y))


def _legend(regions: Sequence[RegionStyle]) -> _Block:
    """Swatch, number and name of each region, in lines across the sheet."""
    places, x, y = [], float(_EDGE), 0.0
    for style in regions:
        width = _SWATCH[0] + (len(_entry(style)) + 3) * _LETTER * _TEXT
        if x > _EDGE and x + width > _WIDTH - _EDGE:
            x, y = float(_EDGE), y + _LINE
        places.append((style, x, y))
        x += width

    def draw(axes: Axes, top: float) -> None:
        for style, left, down in places:
            _draw_line(axes, left, top + down + _LINE / 2, _Line(_entry(style), style=style))
        if not places:
            _write(axes, _EDGE, top + _LINE / 2, "No regions.", _TEXT, MUTED)

    return _Block(y + _LINE + _GAP, draw)


def _entry(style: RegionStyle) -> str:
    return f"{style.label} {words.region(style.region)}"


def _row(
    view: ScanView, pictures: Sequence[Picture | None], widths: Sequence[int], regions: Sequence[RegionStyle]
) -> _Block:
    lines = _scan_lines(view, regions)
    captions = [
        wrap(picture.caption, _letters(width, _SMALL)) if picture else []
        for picture, width in zip(pictures, widths, strict=True)
    ]
    caption_height = max(map(len, captions), default=0) * _LINE + 2
    tallest = max((picture.grey.shape[0] for picture in pictures if picture), default=0)
    styles = {style.label: style for style in regions}

    def draw(axes: Axes, y: float) -> None:
        _draw_rule(axes, y)
        top = round(y) + _GAP
        for number, line in enumerate(lines):
            # The name of the scan stands off from its list.
            _draw_line(axes, _EDGE, top + (number + 0.5) * _LINE + (_GAP if number else 0), line)
        x = _EDGE + _LIST_WIDTH
        for picture, caption, width in zip(pictures, captions, widths, strict=True):
            for number, text in enumerate(caption):
                _write(axes, x, top + (number + 0.5) * _LINE, text, _SMALL, MUTED)
            if picture is not None:
                _draw_picture(axes, x, top + caption_height, picture, styles)
            x += width + (_GAP if width else 0)

    return _Block(max(caption_height + tallest, len(lines) * _LINE + _GAP) + 2 * _GAP, draw)


def _scan_lines(view: ScanView, regions: Sequence[RegionStyle]) -> list[_Line]:
    """Name of the scan, then each region with its volume and, in red, what is raised against it."""
    flags = view.panel.flags
    lines = [_Line(text, size=_HEADING) for text in wrap(view.panel.time_point, _letters(_LIST_WIDTH, _HEADING))]
    for style in regions:
        found = view.found.get(style.region)
        volume = "no voxels" if found is None else f"{words.significant(found.volume_ml)} mL"
        colour = FLAG_RED if flags.get(style.region) else (INK if found else MUTED)
        first, *rest = wrap(_entry(style), _letters(_LIST_WIDTH - _LIST_GAP - _SWATCH[0] - _VOLUME_WIDTH, _TEXT))
        lines.append(_Line(first, volume, colour, style=style))
        lines += [_Line(text, colour=colour, indent=_SWATCH[0]) for text in rest]
        lines += _flag_lines(flags.get(style.region, ()))
    named = {style.region for style in regions}
    for region in sorted((name for name in flags if name not in named and flags[name]), key=words.region_order):
        lines += [_Line(words.region(region), colour=FLAG_RED), *_flag_lines(flags[region])]
    return lines


def _flag_lines(flags: Sequence[str]) -> list[_Line]:
    """Flags in words; short ones of the pages first, else the meaning that the gate gives."""
    said = [words.flag(flag) if flag in words.FLAGS else FLAG_MEANINGS.get(flag, words.flag(flag)) for flag in flags]
    width = _letters(_LIST_WIDTH - _LIST_GAP - _SWATCH[0], _SMALL)
    return [_Line(line, colour=FLAG_RED, size=_SMALL, indent=_SWATCH[0]) for text in said for line in wrap(text, width)]


def _draw_picture(axes: Axes, left: int, top: int, picture: Picture, styles: Mapping[int, RegionStyle]) -> None:
    """A picture from a whole pixel on: every grey value is shown as it is."""
    rows, columns = picture.grey.shape
    axes.imshow(
        picture.grey,
        cmap="gray",
        vmin=0,
        vmax=255,
        extent=(left, left + columns, top + rows, top),
        interpolation="none",
        aspect="auto",
    )
    frame = Rectangle((left, top), columns, rows, transform=axes.transData)
    for label, outline in picture.outlines.items():
        style = styles[label]
        collection = LineCollection(
            [line + np.array([left, top]) for line in outline.lines],
            colors=style.colour,
            linestyles=style.linestyle,
            linewidths=0.6,
            path_effects=[patheffects.withStroke(linewidth=1.2, foreground="black", alpha=0.6)],
        )
        axes.add_collection(collection, autolim=False)
        collection.set_clip_path(frame)
    if rows < 2 * _NUMBER_RADIUS:
        return  # a few slices: numbers and letters would stand outside
    # After all lines, so that none crosses a number. Beside a region that is too small for it.
    for label, outline in picture.outlines.items():
        x_px, y_px = outline.middle
        if not (0 <= x_px <= columns and 0 <= y_px <= rows):
            continue
        if outline.radius < _NUMBER_RADIUS:
            x_px = max(float(line[:, 0].max()) for line in outline.lines) + _NUMBER_RADIUS
        x_px = min(x_px, columns - _NUMBER_RADIUS)
        _write(
            axes,
            left + x_px,
            top + y_px,
            str(label),
            _SMALL,
            styles[label].colour,
            bold=True,
            align="center",
            halo=True,
        )
    before, after, above = picture.letters
    places = [((_LETTER_EDGE, rows / 2), before), ((columns - _LETTER_EDGE, rows / 2), after)]
    if rows >= _LOW:
        places.append(((columns / 2, _LETTER_EDGE), above))
        _draw_bar(axes, left + _LETTER_EDGE, top + rows - _LETTER_EDGE, picture.px_per_mm)
    for (x_px, y_px), letter in places:
        _write(axes, left + x_px, top + y_px, letter, _TEXT, "white", bold=True, align="center", halo=True)


def _draw_bar(axes: Axes, x: float, y: float, px_per_mm: float) -> None:
    width = _BAR_MM * px_per_mm
    for extra, colour in ((1.0, "black"), (0.0, "white")):
        corner = (x - extra, y - 3 - extra)
        axes.add_patch(Rectangle(corner, width + 2 * extra, 3 + 2 * extra, facecolor=colour, linewidth=0))
    _write(axes, x, y - 12, f"{_BAR_MM:g} mm", _SMALL - 1.0, "white", halo=True)


def _draw_line(axes: Axes, x: float, y: float, line: _Line) -> None:
    """A line of text at the height of its middle, after the swatch of its region."""
    if line.style is not None:
        width, height = _SWATCH
        # On the ground of the pictures: bright colours do not show on paper.
        axes.add_patch(Rectangle((x, y - height / 2), width - 6, height, facecolor="#303030", linewidth=0))
        axes.plot(
            [x + 2, x + width - 8], [y, y], color=line.style.colour, linestyle=line.style.linestyle, linewidth=1.1
        )
        x += width
    if line.amount:
        end = _EDGE + _LIST_WIDTH - _LIST_GAP
        _write(axes, end, y, line.amount, line.size, line.colour, align="right")
    _write(axes, x + line.indent, y, line.text, line.size, line.colour, bold=line.size == _HEADING)


def _draw_rule(axes: Axes, y: float) -> None:
    axes.plot([_EDGE, _WIDTH - _EDGE], [y, y], color=FAINT, linewidth=0.6)


def _write(
    axes: Axes,
    x: float,
    y: float,
    text: str,
    size: float,
    colour: str,
    *,
    bold: bool = False,
    align: Literal["left", "center", "right"] = "left",
    halo: bool = False,
) -> None:
    """Text with its middle at the height `y`; `size` in pixels."""
    written = axes.text(
        x, y, text, color=colour, fontsize=size * _POINTS_PER_INCH / _DPI, va="center_baseline", ha=align
    )
    written.set_fontweight("bold" if bold else "normal")
    if halo:
        written.set_path_effects([patheffects.withStroke(linewidth=1.1, foreground="black")])


def _letters(width: float, size: float) -> int:
    """How many letters of a size fit into a width, both in pixels."""
    return max(1, int(width / (_LETTER * size)))
