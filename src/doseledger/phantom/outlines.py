"""Outlines as a hospital draws them on CT: closed contours of all regions, slice by slice."""

from __future__ import annotations

from math import ceil
from typing import Final

import contourpy
import numpy as np

from doseledger.geometry import Grid
from doseledger.phantom.dicom_contours import Outline
from doseledger.phantom.parts import Organ
from doseledger.phantom.shapes import Floats, vector
from doseledger.phantom.sheets import SOURCE_NAMES
from doseledger.phantom.torso import BLADDER, Torso
from doseledger.phantom.view import View

#: Surfaces are followed in steps of at most this, however coarse the CT is, mm.
_STEP_MM: Final = 5.0
#: Nobody outlines a smaller sliver than this, mm^2.
_LEAST_AREA_MM2: Final = 12.0


def outlines(torso: Torso, view: View) -> list[Outline]:
    """Outlines of all organs and lesions in an axial CT, at its pose and breath.

    The outline of an organ goes around the lesions in it, as hospitals draw it.
    """
    drawn = []
    for organ in torso.organs.values():
        if organ.name != BLADDER:
            moved = view.breathing(organ.breathing)
            contours = _contours(organ, moved) or _contours(organ, _on_nearest_slice(organ, moved))
            if contours:
                kind = "GTV" if organ.name.startswith("lesion") else "ORGAN"
                drawn.append(Outline(SOURCE_NAMES[organ.name], kind, contours))
    order = list(SOURCE_NAMES.values())
    return sorted(drawn, key=lambda outline: order.index(outline.name))


def _contours(organ: Organ, view: View) -> dict[int, Floats]:
    split = ceil(max(view.grid.spacing_mm[1:]) / _STEP_MM)
    fine = View(_finer_in_plane(view.grid, split), view.pose, view.lift_mm)
    block = fine.block(organ.solid.box.grown(2.0 * _STEP_MM))
    if min(part.stop - part.start for part in block) == 0:
        return {}
    distance = organ.solid.distance(fine, block)
    x, y = (_positions(fine.grid, axis, block) for axis in (2, 1))
    contours = {}
    for plane, index in zip(distance, range(block[0].start, block[0].stop), strict=True):
        lines = [np.asarray(line, float) for line in contourpy.contour_generator(x, y, plane).lines(0.0)]
        closed = [c for c in lines if np.array_equal(c[0], c[-1]) and abs(_area_mm2(c)) > _LEAST_AREA_MM2]
        if closed:
            height = view.grid.position_mm(np.array([index, 0.0, 0.0]))[2]
            joined = _joined([line[:-1] for line in closed])
            contours[index] = np.column_stack([joined, np.full(len(joined), height)])
    return contours


def _on_nearest_slice(organ: Organ, view: View) -> View:
    """The view with a small organ that lies between two slices moved to the nearer one."""
    centre = view.pose.matrix @ (organ.solid.box.low_mm + organ.solid.box.high_mm) / 2.0 + np.array(view.pose.shift_mm)
    index = float(view.grid.index((centre + vector(0.0, 0.0, view.lift_mm))[None, :])[0, 0])
    return View(view.grid, view.pose, view.lift_mm + (round(index) - index) * view.grid.spacing_mm[0])


def _joined(polygons: list[Floats]) -> Floats:
    """One polygon for all: pieces hang together by bridges of no width, and holes come out right."""
    whole, *others = polygons
    for other in others:
        gaps = np.linalg.norm(whole[:, None, :] - other[None, :, :], axis=2)
        here, there = np.unravel_index(int(np.argmin(gaps)), gaps.shape)
        round_trip = np.concatenate([other[there:], other[: there + 1]])
        whole = np.concatenate([whole[: here + 1], round_trip, whole[here:]])
    return whole


def _area_mm2(line: Floats) -> float:
    x, y = line[:, 0], line[:, 1]
    return 0.5 * float(np.sum(x[:-1] * y[1:] - x[1:] * y[:-1]))


def _finer_in_plane(grid: Grid, split: int) -> Grid:
    z, y, x = grid.shape
    dz, dy, dx = grid.spacing_mm
    offset = 0.5 / split - 0.5
    first = grid.position_mm(np.array([0.0, offset, offset]))
    return Grid((z, y * split, x * split), (dz, dy / split, dx / split), first, grid.direction)


def _positions(grid: Grid, axis: int, block: tuple[slice, slice, slice]) -> Floats:
    lps = 0 if axis == 2 else 1
    return grid.origin_mm[lps] + grid.spacing_mm[axis] * np.arange(block[axis].start, block[axis].stop)
