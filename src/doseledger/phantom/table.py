"""The table of the scanner: a curved top on a frame. It does not move with the patient."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Final

import numpy as np

from doseledger.phantom.shapes import Block, Floats, Image
from doseledger.phantom.tissues import Tissue
from doseledger.phantom.view import Box, Surface, View

#: Carbon fibre: a thin shell that CT shows at about the density of water.
SHELL: Final = Tissue(60.0, 1.10)
_HALF_THICKNESS_MM: Final = 1.8
_HALF_WIDTH_MM: Final = 205.0
_RISE_MM: Final = 30.0
_FRAME: Final = ((-170.0, 14.0), (-120.0, 46.0), (120.0, 46.0), (170.0, 14.0))
#: Between the patient's back at rest and the table: a mattress that the CT does not show.
_MATTRESS_MM: Final = 10.0


@dataclass(frozen=True, eq=False)
class Table(Surface):
    """Thin sheets along z, as lines in the plane across.

    Attributes
    ----------
    lines_mm
        Corners ``(x, y)`` of each sheet.
    """

    lines_mm: tuple[Floats, ...]

    @classmethod
    def under(cls, back_mm: float) -> Table:
        """A table whose middle lies under a back at this depth."""
        top = back_mm + _MATTRESS_MM
        x = np.linspace(-_HALF_WIDTH_MM, _HALF_WIDTH_MM, 17)
        curve = np.column_stack([x, top - _RISE_MM * (x / _HALF_WIDTH_MM) ** 2])
        return cls((curve, np.array([(x, y + top) for x, y in _FRAME])))

    @property
    def box(self) -> Box:
        low = np.min([line.min(axis=0) for line in self.lines_mm], axis=0) - _HALF_THICKNESS_MM
        high = np.max([line.max(axis=0) for line in self.lines_mm], axis=0) + _HALF_THICKNESS_MM
        return Box(np.array([*low, -1.0e4]), np.array([*high, 1.0e4]))

    @property
    def thickness_mm(self) -> float:
        return 2.0 * _HALF_THICKNESS_MM

    def distance(self, view: View, block: Block) -> Image:
        points = view.points(block)
        nearest: Image = np.full((1, 1, 1), np.inf, dtype=np.float32)
        for line in self.lines_mm:
            for (x0, y0), (x1, y1) in pairwise(line):
                ax, ay = np.float32(x1 - x0), np.float32(y1 - y0)
                x, y = points.x - np.float32(x0), points.y - np.float32(y0)
                share = np.clip((x * ax + y * ay) / (ax * ax + ay * ay), 0, 1)
                nearest = np.minimum(nearest, np.hypot(x - share * ax, y - share * ay))
        shape = [part.stop - part.start for part in block]
        return np.asarray(np.broadcast_to(nearest - np.float32(_HALF_THICKNESS_MM), shape))
