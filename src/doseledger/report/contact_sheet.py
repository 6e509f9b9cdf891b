"""The contact sheet of one patient-cycle: all scans with the outlines of their regions, on one picture.

It is made for looking at masks before their doses are believed. Nothing on it is computed for the ledger.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from textwrap import wrap
from typing import Final
from zlib import crc32

import numpy as np
from contourpy import contour_generator
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

from doseledger.errors import UnknownNameError
from doseledger.geometry import Grid, Vector
from doseledger.regions.gate import FLAG_MEANINGS
from doseledger.report import words
from doseledger.report.figures import ACCENT, BQ_PER_KBQ, FAINT, INK, MUTED, render
from doseledger.report.sections import (
    AXIAL,
    CORONAL,
    DOWN_ACROSS,
    SAGITTAL,
    Box,
    FoundRegion,
    Index,
    ScanPanel,
    Upright,
    body_box,
    find_regions,
    finite,
    labels_at,
    pixels,
    sampled,
    section_box,
)
from doseledger.units import MM3_PER_ML

__all__ = ["RegionStyle", "ScanPanel", "contact_sheet", "region_styles"]

NOTICE: Final = "Research software. Not a medical device."
FLAG_RED: Final = "#c1121f"
KIDNEYS: Final = ("kidneys", "kidney_left", "kidney_right")

#: Colours that stay apart on grey for all common kinds of colour vision, after M. Okabe and K. Ito (2008), brightened
#: for a dark ground. Organs that limit therapy have one of their own; other regions take one by their name.
_COLOURS: Final[dict[str, str]] = {
    "kidney_left": "#56c8ff",
    "kidney_right": "#ffa500",
    "kidneys": "#56c8ff",
    "liver": "#f6ec3f",
    "spleen": "#00dca0",
    "lesion": "#ff6ad5",
}
_OTHER_COLOURS: Final = ("#ff7043", "#ffffff", "#a9a4ff", "#9be36b", "#d9b48f", "#7fd6d6")
_DASHES: Final = ("solid", "dashed", "dotted")

#: Soft-tissue window, HU: level 40, width 400.
_CT_WINDOW_HU: Final = (-160.0, 240.0)
#: White in pictures of activity is this percentile: one hot voxel hides nothing.
_TOP_PERCENTILE: Final = 99.8
#: Grey is activity to this power: organs show beside much hotter lesions.
_GAMMA: Final = 0.6

#: Layout in pixels.
_DPI: Final = 160
_WIDTH: Final = 1600
_EDGE: Final = 18
_GAP: Final = 8
_TEXT_WIDTH: Final = 300
_CAPTION: Final = 18
_LINE: Final = 16
_FONT: Final = 12.5
_TALLEST: Final = 420
_LARGEST_PX_PER_MM: Final = 2.0
#: Mean width of a letter of DejaVu Sans over its size; generous, so that lines do not run into pictures.
_LETTER: Final = 0.58
_BAR_MM: Final = 50.0


@dataclass(frozen=True)
class RegionStyle:
    """One region on the sheet: its value in the label maps, and how its outline is drawn."""

    region: str
    label: int
    colour: str
    linestyle: str = "solid"


@dataclass(frozen=True, eq=False)
class _Picture:
    """Grey values ``(row, column)`` and outlines in pixels ``(n, 2)`` of x and y, by label."""

    caption: str
    grey: NDArray[np.uint8]
    outlines: list[tuple[int, Index]]
    letters: tuple[str, str]
    px_per_mm: float


def region_styles(labels: Mapping[int, str]) -> tuple[RegionStyle, ...]:
    """Styles by name: a region looks the same on every sheet.

    Parameters
    ----------
    labels
        Region name of each label.

    Returns
    -------
    In the order of the legend. Regions without a colour of their own whose names meet on the same one are told
    apart by the next that is free, and all by their number.

    Examples
    --------
    >>> [style.colour for style in region_styles({1: "liver", 7: "spleen"})]
    ['#f6ec3f', '#00dca0']
    """
    ordered = sorted(labels.items(), key=lambda item: words.region_order(item[1]))
    looks = list(product(_DASHES, _OTHER_COLOURS))
    free, styles = list(looks), []
    for label, name in ordered:
        family = "lesion" if name.startswith("lesion") else name
        if family in _COLOURS:
            number = label if family == "lesion" else 0
            styles.append(RegionStyle(name, label, _COLOURS[family], _DASHES[number % len(_DASHES)]))
            continue
        # Solid lines first; crc32 is the same on every machine, which hash() is not.
        wanted = crc32(name.encode()) % len(_OTHER_COLOURS)
        turned = [look for look in looks[wanted:] + looks[:wanted] if look in free]
        dash, colour = turned[0]
        free.remove((dash, colour))
        free = free or list(looks)
        styles.append(RegionStyle(name, label, colour, dash))
    return tuple(styles)


def contact_sheet(
    panels: Sequence[ScanPanel], regions: Sequence[RegionStyle], *, title: str, mark: str | None = None
) -> bytes:
    """One row per scan: sections with outlines, SPECT maximum, volumes and flags. The same input gives the same bytes.

    Sections are drawn along the voxel axes of the CT (without CT: of the SPECT); the patient's left is on the right.

    Parameters
    ----------
    panels
        Scans in order of time.
    regions
        Every label of the label maps; see `region_styles`.
    title
        Names the patient and the cycle.
    mark
        Printed large and red above and below everything, e.g. that weights are for demonstration only.

    Returns
    -------
    A PNG of 1600 pixels width.

    Raises
    ------
    UnknownNameError
        A label map holds a label that `regions` does not name, or `regions` names a label twice.
    QuantityError
        An image holds values that are not finite.
    """
    styles = {style.label: style for style in regions}
    if len(styles) < len(regions):
        raise UnknownNameError("two regions have the same label", value=sorted(style.label for style in regions))
    scans = [_Scan(panel, styles) for panel in panels]
    px_per_mm = _common_scale(scans)
    rows = [(scan, scan.pictures(px_per_mm)) for scan in scans]
    columns = [max((row[1][i].grey.shape[1] for row in rows if row[1][i]), default=0) for i in range(5)]
    return b""
