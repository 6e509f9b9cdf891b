"""Regions made from other regions: lumbar marrow, bowel, whole body and remainder.

The names of the parts are those of TotalSegmentator's task ``total``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import GeometryError, UnknownNameError
from doseledger.geometry import Grid
from doseledger.regions.algebra import REMAINDER
from doseledger.regions.gate import touches_border
from doseledger.regions.margins import eroded

Bools = NDArray[np.bool_]

LUMBAR_MARROW: Final = "lumbar_marrow"
BOWEL: Final = "bowel"
WHOLE_BODY: Final = "whole_body"
#: Vertebrae whose spongiosa stands for the red marrow: those that the kidneys and a diseased fifth lumbar
#: vertebra disturb least.
LUMBAR_VERTEBRAE: Final = ("vertebrae_L2", "vertebrae_L3", "vertebrae_L4")
BOWEL_PARTS: Final = ("small_bowel", "duodenum", "colon")
#: Cortical bone and blur at the surface of a vertebra, mm.
MARROW_MARGIN_MM: Final = 5.0


@dataclass(frozen=True, eq=False)
class DerivedRegion:
    """A region, how it was made, from which parts, and what a reader should know of it.

    Attributes
    ----------
    flags
        As in `doseledger.regions.gate.FLAG_MEANINGS`.
    """

    region: str
    mask: Bools
    method: str
    parts: tuple[str, ...]
    flags: tuple[str, ...]


def lumbar_marrow(
    masks: Mapping[str, Bools], grid: Grid, *, margin_mm: float = MARROW_MARGIN_MM, lesions: Bools | None = None
) -> DerivedRegion:
    """Spongiosa of the lumbar vertebrae 2 to 4: each eroded by a margin, without lesions.

    Each vertebra is eroded by itself, so that the discs between them do not count as bone where two labels
    touch.

    Parameters
    ----------
    margin_mm
        As in `doseledger.regions.margins.eroded`.
    lesions
        Voxels of lesions, which hold no normal marrow.

    Raises
    ------
    UnknownNameError
        None of the vertebrae is there.
    GeometryError
        A mask is not of the shape of `grid`.
    """
    parts = _present(masks, LUMBAR_VERTEBRAE, grid)
    mask = np.zeros(grid.shape, np.bool_)
    for part in parts:
        mask |= eroded(masks[part], grid, margin_mm)
    if lesions is not None:
        mask &= ~lesions
    method = f"{_joined(parts)} eroded by {margin_mm:g} mm, lesions {'excluded' if lesions is not None else 'unknown'}"
    return _region(LUMBAR_MARROW, mask, method, parts, LUMBAR_VERTEBRAE, masks)


def bowel(masks: Mapping[str, Bools], grid: Grid) -> DerivedRegion:
    """Small bowel, duodenum and colon together, wall and content: the wall alone cannot be told on CT.

    Raises
    ------
    UnknownNameError, GeometryError
        As `lumbar_marrow`.
    """
    parts = _present(masks, BOWEL_PARTS, grid)
    mask = np.logical_or.reduce([masks[part] for part in parts])
    made = _region(BOWEL, mask, _joined(parts), parts, BOWEL_PARTS, masks)
    return DerivedRegion(made.region, made.mask, made.method, made.parts, (*made.flags, "wall_and_content"))


def whole_body(body: Bools, grid: Grid) -> DerivedRegion:
    """All of the patient that is in the field; almost always cut, by the length of the field."""
    _present({"body": body}, ("body",), grid)
    return _region(WHOLE_BODY, body, "body", ("body",), ("body",), {"body": body})


def remainder(body: Bools, regions: Iterable[Bools], grid: Grid) -> DerivedRegion:
    """The body without all regions."""
    masks = {"body": body} | {f"region {n}": mask for n, mask in enumerate(regions)}
    _present(masks, masks, grid)
    rest = body.copy()
    for name, mask in masks.items():
        if name != "body":
            rest &= ~mask
    return _region(REMAINDER, rest, f"body without {len(masks) - 1} regions", ("body",), ("body",), masks)


def _present(masks: Mapping[str, Bools], names: Iterable[str], grid: Grid) -> tuple[str, ...]:
    """The parts that have voxels."""
    names = tuple(names)
    for name in names:
        if name in masks and masks[name].shape != grid.shape:
            raise GeometryError(f"mask and grid differ in shape: {name}", value=masks[name].shape, expected=grid.shape)
    found = tuple(name for name in names if name in masks and masks[name].any())
    if not found:
        raise UnknownNameError("no part of the region is there", value=sorted(masks), expected=list(names))
    return found


def _region(
    region: str,
    mask: Bools,
    method: str,
    parts: tuple[str, ...],
    wanted: tuple[str, ...],
    masks: Mapping[str, Bools],
) -> DerivedRegion:
    flags = []
    if len(parts) < len(wanted):
        flags.append("part_missing")
    if not mask.any():
        flags.append("empty")
    # Of the parts, not of what is left of them: a vertebra that is cut by the field and eroded is still cut.
    if any(touches_border(masks[part]) for part in parts):
        flags.append("truncated")
    return DerivedRegion(region, mask, method, parts, tuple(flags))


def _joined(parts: tuple[str, ...]) -> str:
    return " + ".join(parts)
