"""From a mask to an outline that follows the edges of its pixels."""

from __future__ import annotations

import numpy as np

from doseledger.errors import ContourError
from doseledger.phantom.shapes import Bools, Floats

Corner = tuple[float, float]


def mask_contour(mask: Bools) -> Floats:
    """Outline of a mask as one closed polygon ``(n, 2)`` of (row, column); pixel centres are whole numbers.

    Separate parts and holes are joined by cuts that run there and back along pixel edges (keyholes):
    they enclose no area, and no pixel centre lies on them. Filled by the even-odd rule, the polygon
    gives back the mask.

    Raises
    ------
    ContourError
        The mask is empty.

    Examples
    --------
    >>> mask_contour(np.array([[False, True, True]])).tolist()
    [[-0.5, 0.5], [-0.5, 2.5], [0.5, 2.5], [0.5, 0.5]]
    """
    if not mask.any():
        raise ContourError("an empty mask has no outline", value=0)
    first, *others = _edge_loops(mask)
    points = list(first)
    for loop in others:
        corner = (first[0][0], loop[0][1])
        points += [first[0], corner, *loop, loop[0], corner]
    return np.array(points)


def _edge_loops(mask: Bools) -> list[list[Corner]]:
    """Closed loops of corners around the pixels of a mask, clockwise around parts and the other way around holes."""
    ways = _edges(mask)
    loops = []
    while ways:
        loop = [min(ways)]
        while (following := ways[loop[-1]].pop()) != loop[0]:
            _forget_if_used(ways, loop[-1])
            loop.append(following)
        _forget_if_used(ways, loop[-1])
        loops.append(_turns(loop))
    return loops


def _edges(mask: Bools) -> dict[Corner, list[Corner]]:
    """Directed edges between pixels inside and outside, by the corner where they start."""
    padded = np.pad(mask, 1)
    ways: dict[Corner, list[Corner]] = {}
    for row, column in np.argwhere(mask).tolist():
        up, down, left, right = row - 0.5, row + 0.5, column - 0.5, column + 0.5
        corners = ((up, left), (up, right), (down, right), (down, left))
        neighbours = ((row, column + 1), (row + 1, column + 2), (row + 2, column + 1), (row + 1, column))
        for side, neighbour in enumerate(neighbours):
            if not padded[neighbour]:
                ways.setdefault(corners[side], []).append(corners[(side + 1) % 4])
    return ways


def _forget_if_used(ways: dict[Corner, list[Corner]], corner: Corner) -> None:
    if not ways[corner]:
        del ways[corner]


def _turns(loop: list[Corner]) -> list[Corner]:
    """The corners where the direction changes."""
    triples = zip([loop[-1], *loop[:-1]], loop, [*loop[1:], loop[0]], strict=True)
    return [
        here
        for before, here, after in triples
        if (here[0] - before[0]) * (after[1] - here[1]) != (here[1] - before[1]) * (after[0] - here[0])
    ]
