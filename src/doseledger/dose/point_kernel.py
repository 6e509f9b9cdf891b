"""Point kernels in a medium without end, and what geometry makes of them: boxes and spheres.

A point kernel is the share of the emitted energy that is absorbed in spherical shells around a point.
Lengths are in mm times the density in g/mL: in them a kernel of one medium serves any density.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from math import ceil, pi, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Points of the quadrature over a shell's radius, and shells per smallest voxel edge at the most.
_GAUSS_POINTS: Final = 3
_SHELLS_PER_VOXEL: Final = 3.0
#: Directions per right angle: at least, and per voxel edge of radius.
_LEAST_DIRECTIONS: Final = 24
_DIRECTIONS_PER_VOXEL: Final = 6.0
#: Radii, in largest voxel edges, between which the two rules of `voxels` take over from each other.
_NEAR_VOXELS: Final = 3.0
_FAR_VOXELS: Final = 6.0


@dataclass(frozen=True, eq=False)
class PointKernel:
    """Energy absorbed around a point source.

    Attributes
    ----------
    edges
        Radii between the shells, from 0, in mm g/mL; shape ``(n + 1,)``.
    share
        Share of the emitted energy per shell, evenly over its radius; shape ``(n,)``.
    local_share
        Share that stays in the point.
    """

    edges: Floats
    share: Floats
    local_share: float

    @property
    def total_share(self) -> float:
        return self.local_share + float(self.share.sum())

    def within(self, radius: float) -> PointKernel:
        """The shells up to a radius that is an edge."""
        n = int(np.searchsorted(self.edges, radius, side="right")) - 1
        return PointKernel(self.edges[: n + 1], self.share[:n], self.local_share)

    def points(self, longest: float, up_to: float = np.inf) -> tuple[Floats, Floats]:
        """Radii and shares of a quadrature whose steps are no longer than `longest`."""
        position, weight = np.polynomial.legendre.leggauss(_GAUSS_POINTS)
        radii, shares = [], []
        for inner, outer, share in zip(self.edges[:-1], self.edges[1:], self.share, strict=True):
            if inner >= up_to:
                break
            n = max(1, ceil((outer - inner) / longest))
            step = (outer - inner) / n
            middle = inner + step * (np.arange(n) + 0.5)
            radii.append((middle[:, None] + 0.5 * step * position).ravel())
            shares.append(np.tile(0.5 * weight * share / n, n))
        return np.concatenate(radii), np.concatenate(shares)

    def density(self, radius: Floats) -> Floats:
        """Share per volume at a radius, 1/(mm g/mL)^3."""
        per_radius = np.append(self.share / np.diff(self.edges), 0.0)
        shell = np.searchsorted(self.edges[1:], radius)
        return np.asarray(per_radius[shell] / (4.0 * pi * radius**2))


def sphere(kernel: PointKernel, radius: float) -> float:
    """Share of the energy emitted evenly in a sphere that the sphere absorbs.

    phi = integral of e(r) g(r), g = 1 - 3q/4 + q^3/16, q = r/R: the share of the sphere that it shares
    with itself moved by r (Loevinger and Berman 1968, MIRD pamphlet 1; Berger 1968).

    Parameters
    ----------
    radius
        In mm g/mL.

    Examples
    --------
    All energy at one radius, that of the sphere: 1 - 3/4 + 1/16.

    >>> shell = PointKernel(np.array([0.0, 0.999, 1.001]), np.array([0.0, 1.0]), 0.0)
    >>> round(sphere(shell, 1.0), 4)
    0.3125
    """
    r, share = kernel.points(longest=radius / 4.0, up_to=2.0 * radius)
    q = np.minimum(r / radius, 2.0)
    return kernel.local_share + float(np.sum(share * (1.0 - 0.75 * q + q**3 / 16.0)))


def voxels(kernel: PointKernel, spacing: Floats, half_widths: tuple[int, int, int]) -> Floats:
    """Share of the energy emitted evenly in a voxel that it and its neighbours absorb.

    A source anywhere in a voxel, moved by a vector v, hits voxel i with the probability of the product
    of the hat functions 1 - |v/L - i| over the axes: each point of a quadrature over radius and
    direction is shared between the eight voxels around it. Far from the source, where the density of
    the kernel is smooth over a voxel, it is averaged over the hat functions by the two points
    +-L/sqrt(6) per axis, which have the same variance.

    Parameters
    ----------
    spacing
        Voxel edges ``(z, y, x)`` in mm g/mL.
    half_widths
        Voxels on each side of the source, per axis.

    Returns
    -------
    Shape ``2 * half_widths + 1``; even in every axis.
    """
    octant = _far(kernel, spacing, half_widths)
    reached = ceil(_FAR_VOXELS * float(spacing.max()) / float(spacing.min())) + 1
    z, y, x = (min(n, reached) for n in half_widths)
    octant[: z + 1, : y + 1, : x + 1] += _near(kernel, spacing, (z, y, x))
    # An octant holds what falls in all eight: shared between the mirror images of a voxel.
    for axis in range(3):
        np.moveaxis(octant, axis, 0)[1:] *= 0.5
    return np.pad(octant, [(n, 0) for n in half_widths], mode="reflect")


def _nearness(radius: Floats, spacing: Floats) -> Floats:
    """1 near the source, 0 far from it, smooth in between."""
    place = (radius / spacing.max() - _NEAR_VOXELS) / (_FAR_VOXELS - _NEAR_VOXELS)
    return np.asarray(np.cos(0.5 * pi * np.clip(place, 0.0, 1.0)) ** 2)


def _near(kernel: PointKernel, spacing: Floats, half_widths: tuple[int, int, int]) -> Floats:
    smallest = float(spacing.min())
    shape = tuple(n + 2 for n in half_widths)
    octant = np.zeros(shape)
    octant[0, 0, 0] = kernel.local_share
    radii, shares = kernel.points(smallest / _SHELLS_PER_VOXEL, up_to=_FAR_VOXELS * float(spacing.max()))
    shares = shares * _nearness(radii, spacing)
    for radius, share in zip(radii, shares, strict=True):
        if share == 0.0:
            continue
        n = max(_LEAST_DIRECTIONS, 8 * ceil(_DIRECTIONS_PER_VOXEL * radius / smallest / 8))
        direction, weight = _octant_directions(n)
        points = radius * direction / spacing[:, None]
        inside = np.all(points < np.reshape(half_widths, (3, 1)) + 1, axis=0)
        _share_out(octant, points[:, inside], share * weight[inside])
    return octant[:-1, :-1, :-1]


@cache
def _octant_directions(n: int) -> tuple[Floats, Floats]:
    """Directions ``(3, n * n)`` with positive components and their weights: Gauss-Legendre in both angles."""
    position, weight = np.polynomial.legendre.leggauss(n)
    angle = 0.25 * pi * (1.0 + position)
    polar, turn = np.repeat(angle, n), np.tile(angle, n)
    direction = np.stack([np.cos(polar), np.sin(polar) * np.sin(turn), np.sin(polar) * np.cos(turn)])
    weights = np.outer(weight * np.sin(angle), weight).ravel()
    return direction, weights / weights.sum()


def _share_out(octant: Floats, points: Floats, share: Floats) -> None:
    """Add shares ``(n,)`` at points ``(3, n)``, in voxel coordinates, to the eight voxels around each."""
    corner = points.astype(np.intp)
    upper = points - corner
    for offset in np.ndindex(2, 2, 2):
        weight = np.prod([u if o else 1.0 - u for o, u in zip(offset, upper, strict=True)], axis=0) * share
        index = np.ravel_multi_index(tuple(corner + np.reshape(offset, (3, 1))), octant.shape)
        octant += np.bincount(index, weight, octant.size).reshape(octant.shape)


def _far(kernel: PointKernel, spacing: Floats, half_widths: tuple[int, int, int]) -> Floats:
    """Energy of all eight octants, like `_near`."""
    octant = np.zeros(tuple(n + 1 for n in half_widths))
    first = _NEAR_VOXELS * float(spacing.max())
    for sign in np.ndindex(2, 2, 2):
        square = [
            ((np.arange(n + 1) + (2.0 * s - 1.0) / sqrt(6.0)) * step) ** 2
            for n, s, step in zip(half_widths, sign, spacing, strict=True)
        ]
        radius = np.sqrt(square[0][:, None, None] + square[1][:, None] + square[2])
        outside = radius > first
        r = radius[outside]
        octant[outside] += (1.0 - _nearness(r, spacing)) * kernel.density(r)
    octant *= np.prod(spacing) / 8.0
    for axis in range(3):
        np.moveaxis(octant, axis, 0)[1:] *= 2.0
    return octant
