"""How regions look on a contact sheet: colour, line and number, by their names."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from typing import Final
from zlib import crc32

from doseledger.report import words

#: Colours that stay apart on grey for all common kinds of colour vision: those of M. Okabe and K. Ito (Color
#: Universal Design, 2008), brightened for a dark ground. What limits therapy has a colour of its own.
_COLOURS: Final[dict[str, str]] = {
    "kidneys": "#56c8ff",
    "kidney_left": "#56c8ff",
    "kidney_right": "#ffa500",
    "liver": "#f6ec3f",
    "spleen": "#00dca0",
    "lesion": "#ff6ad5",
}
_OTHER_COLOURS: Final = ("#ff7043", "#ffffff", "#a9a4ff", "#9be36b", "#d9b48f", "#7fd6d6")
_DASHES: Final = ("solid", "dashed", "dotted")


@dataclass(frozen=True)
class RegionStyle:
    """One region on the sheet: its value in the label maps, and how its outline is drawn."""

    region: str
    label: int
    colour: str
    linestyle: str = "solid"


def region_styles(labels: Mapping[int, str]) -> tuple[RegionStyle, ...]:
    """Styles by name, so that a region looks the same on every sheet, in the order of the legend.

    Regions without a colour of their own take one by their name. Where two would look the same, the later one
    takes the next look that is free; lesions share a colour. The number tells all apart.

    Parameters
    ----------
    labels
        Region name of each label.

    Examples
    --------
    >>> [style.colour for style in region_styles({1: "spleen", 7: "liver"})]
    ['#f6ec3f', '#00dca0']
    """
    looks = list(product(_DASHES, _OTHER_COLOURS))
    free: list[tuple[str, str]] = []
    styles = []
    for label, name in sorted(labels.items(), key=lambda item: words.region_order(item[1])):
        family = "lesion" if name.startswith("lesion") else name
        if family in _COLOURS:
            dash, colour = _DASHES[0], _COLOURS[family]
        else:
            free = free or list(looks)
            # Not hash(): it differs from run to run.
            first = crc32(name.encode()) % len(_OTHER_COLOURS)
            dash, colour = next(look for look in looks[first:] + looks[:first] if look in free)
            free.remove((dash, colour))
        styles.append(RegionStyle(name, label, colour, dash))
    return tuple(styles)
