"""Projections of a parallel-hole camera: rotation, attenuation, and blur that grows with distance.

One view is modelled as: turn the object until the detector is at the end of the depth axis, attenuate along depth, blur
each depth by the resolution at its distance, add up. Scattered photons are not modelled: the counts are those that an
ideal correction for scatter leaves. `osem` reconstructs with the same model.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, log, radians, sin, sqrt
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.special import ive

from doseledger.errors import GeometryError, QuantityError
from doseledger.geometry import IDENTITY, Grid
from doseledger.phantom.shapes import Bools, Floats, Image

#: Mass attenuation of soft tissue at 208 keV, mm^-1 per g/mL (NIST XCOM, ICRU-44 soft tissue; cortical bone: 4 % less).
ATTENUATION_208_KEV: Final = 0.01338
#: Relative difference up to which in-plane voxels count as square: headers carry six digits.
_SQUARE_TOLERANCE: Final = 1.0e-4
_FWHM_PER_SIGMA: Final = 2.0 * sqrt(2.0 * log(2.0))


@dataclass(frozen=True)
class Collimator:
    """Resolution of a parallel-hole camera.

    FWHM(d)^2 = intrinsic^2 + (hole (1 + d / length))^2, with d the distance from the collimator's face.

    Attributes
    ----------
    hole_length_mm
        Effective length: that of the hole without what its septa let through at both ends.
    """

    intrinsic_fwhm_mm: float
    hole_mm: float
    hole_length_mm: float

    def fwhm_mm(self, distance_mm: Floats) -> Floats:
        """Resolution at a distance from the face, mm, any shape.

        Examples
        --------
        >>> round(float(MEDIUM_ENERGY.fwhm_mm(np.array(100.0))), 1)
        11.1
        """
        geometric = self.hole_mm * (1.0 + distance_mm / self.hole_length_mm)
        return np.asarray(np.sqrt(self.intrinsic_fwhm_mm**2 + geometric**2))


#: Typical of medium-energy collimators for the 208 keV of 177Lu.
MEDIUM_ENERGY: Final = Collimator(intrinsic_fwhm_mm=3.8, hole_mm=2.94, hole_length_mm=39.0)


@dataclass(frozen=True)
class Orbit:
    """Where the detector stands in each view.

    Attributes
    ----------
    angles_deg
        Direction from the axis of rotation to the detector: 0 is in front of the patient, 90 at the patient's left.
    radii_mm
        Distance of the collimator's face from the axis, the middle of the grid.

    Raises
    ------
    GeometryError
        Not one radius for each view.
    """

    angles_deg: tuple[float, ...]
    radii_mm: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.angles_deg or len(self.angles_deg) != len(self.radii_mm):
            raise GeometryError(
                "an orbit needs one radius for each of its views",
                value=f"{len(self.angles_deg)} angles and {len(self.radii_mm)} radii",
                remedy="Give both with the same length.",
            )


def contour_orbit(body: Bools, grid: Grid, *, views: int, clearance_mm: float) -> Orbit:
    """A full turn in even steps, at each view as close to the body as `clearance_mm` allows.

    Raises
    ------
    QuantityError
        The mask is empty.
    """
    y, x = np.nonzero(body.any(axis=0))
    if not y.size:
        raise QuantityError("there is no body to go around", value=0, remedy="Give a mask with voxels in it.")
    rows_mm, columns_mm = (
        (index - (n - 1) / 2.0) * grid.spacing_mm[2] for index, n in zip((y, x), body.shape[1:], strict=True)
    )
    angles = tuple(360.0 * view / views for view in range(views))
    radii = []
    for angle in angles:
        (toward_y, toward_x), _ = _axes(angle)
        radii.append(float((rows_mm * toward_y + columns_mm * toward_x).max()) + clearance_mm)
    return Orbit(angles, tuple(radii))


class Projector:
    """The views of one orbit around one patient, and their exact adjoint.

    Parameters
    ----------
    grid
        Axial, with as many rows as columns and square voxels. What lies outside of the inscribed circle is not seen
        from all sides.
    attenuation_per_mm
        Linear attenuation, mm^-1 ``(z, y, x)``.

    Raises
    ------
    GeometryError
        The grid is not axial and square, or the attenuation map is not on it.
    """

    def __init__(self, grid: Grid, attenuation_per_mm: Image, orbit: Orbit, collimator: Collimator) -> None:
        _check(grid, attenuation_per_mm)
        self.grid, self.orbit = grid, orbit
        self._step_mm = grid.spacing_mm[2]
        self._turns = [_rotation(grid.shape[1], angle) for angle in orbit.angles_deg]
        self._transmitted = [self._transmission(turn, attenuation_per_mm) for turn in self._turns]
        depth_mm = (np.arange(grid.shape[1]) - (grid.shape[1] - 1) / 2.0) * self._step_mm
        self._sigma_mm = [
            # Voxels behind the face are outside of every body: any finite blur will do.
            collimator.fwhm_mm(np.maximum(radius - depth_mm, 0.0)) / _FWHM_PER_SIGMA
            for radius in orbit.radii_mm
        ]

    @property
    def views(self) -> NDArray[np.intp]:
        return np.arange(len(self._turns))

    def forward(self, image: Image, views: NDArray[np.intp] | None = None) -> Image:
        """Project ``(z, y, x)`` to ``(view, z, column)``: sums along depth, in the unit of the image times voxels."""
        flat = image.reshape(image.shape[0], -1).T
        return np.stack([self._project(flat, view) for view in (self.views if views is None else views)])

    def backward(self, projections: Image, views: NDArray[np.intp] | None = None) -> Image:
        """The adjoint of `forward`: <forward(x), p> = <x, backward(p)>."""
        total = np.zeros((self.grid.shape[1] * self.grid.shape[2], self.grid.shape[0]), dtype=np.float32)
        for view, projection in zip(self.views if views is None else views, projections, strict=True):
            total += self._project_back(projection, view)
        return np.ascontiguousarray(total.T).reshape(self.grid.shape)

    def _project(self, flat: Image, view: int) -> Image:
        n, n_z = self.grid.shape[1], self.grid.shape[0]
        turned = (self._turns[view] @ flat).reshape(n, n, n_z) * self._transmitted[view]
        across, along = self._blurs(view)
        return np.asarray((across @ turned @ along).sum(axis=0).T)

    def _project_back(self, projection: Image, view: int) -> Image:
        across, along = self._blurs(view)
        # Both blurs are symmetric: they are their own adjoint.
        spread = across @ projection.T @ along * self._transmitted[view]
        return np.asarray(self._turns[view].T @ spread.reshape(-1, self.grid.shape[0]))

    def _transmission(self, turn: csr_array, attenuation_per_mm: Image) -> Image:
        """Share of the photons that reach the detector, ``(depth, column, z)``; half a voxel attenuates its own."""
        n, n_z = self.grid.shape[1], self.grid.shape[0]
        turned = (turn @ attenuation_per_mm.reshape(n_z, -1).T).reshape(n, n, n_z)
        ahead = np.cumsum(turned[::-1], axis=0)[::-1] - 0.5 * turned
        return np.asarray(np.exp(-self._step_mm * ahead), dtype=np.float32)

    def _blurs(self, view: int) -> tuple[Image, Image]:
        """Blur of each depth across (column to column) and along (z to z)."""
        sigma_mm = self._sigma_mm[view]
        return (
            _gaussian_matrices(sigma_mm / self._step_mm, self.grid.shape[2]),
            _gaussian_matrices(sigma_mm / self.grid.spacing_mm[0], self.grid.shape[0]),
        )


def _check(grid: Grid, attenuation_per_mm: Image) -> None:
    _, n_y, n_x = grid.shape
    _, step_y, step_x = grid.spacing_mm
    if grid.direction != IDENTITY[::-1]:
        raise GeometryError("the projector needs an axial grid", value=grid.direction, expected=IDENTITY[::-1])
    if n_y != n_x or abs(step_y / step_x - 1.0) > _SQUARE_TOLERANCE:
        raise GeometryError(
            "the projector needs as many rows as columns and square voxels",
            value=(grid.shape, grid.spacing_mm),
            remedy="Resample the maps to a square grid.",
        )
    if attenuation_per_mm.shape != grid.shape:
        raise GeometryError(
            "the attenuation map is not on the grid", value=attenuation_per_mm.shape, expected=grid.shape
        )


def _axes(angle_deg: float) -> tuple[tuple[float, float], tuple[float, float]]:
    """Unit vectors ``(y, x)`` toward the detector and along its columns."""
    c, s = cos(radians(angle_deg)), sin(radians(angle_deg))
    return (-c, s), (s, c)


def _rotation(n: int, angle_deg: float) -> csr_array:
    """Bilinear sampling of an ``n x n`` plane at ``(depth, column)``, as a matrix between flattened planes.

    A matrix, because its transpose is the exact adjoint; scipy's image rotation has none.
    """
    centred = np.arange(n) - (n - 1) / 2.0
    depth, column = np.meshgrid(centred, centred, indexing="ij")
    toward, across = _axes(angle_deg)
    y, x = (depth * toward[axis] + column * across[axis] + (n - 1) / 2.0 for axis in range(2))
    y0, x0 = np.floor(y).astype(int), np.floor(x).astype(int)
    rows, columns, weights = [], [], []
    for dy in (0, 1):
        for dx in (0, 1):
            weight = (1.0 - np.abs(y - y0 - dy)) * (1.0 - np.abs(x - x0 - dx))
            inside = (y0 + dy >= 0) & (y0 + dy < n) & (x0 + dx >= 0) & (x0 + dx < n) & (weight > 0.0)
            rows.append(np.flatnonzero(inside))
            columns.append(((y0 + dy) * n + x0 + dx)[inside])
            weights.append(weight[inside])
    entries = (np.concatenate(weights).astype(np.float32), (np.concatenate(rows), np.concatenate(columns)))
    return csr_array(entries, shape=(n * n, n * n))


def _gaussian_matrices(sigma_voxels: Floats, n: int) -> Image:
    """Symmetric blur ``(sigma, n, n)``; what falls beyond the ends is lost, as beyond a detector.

    The Gaussian of the integers, exp(-t) I_k(t) with t = sigma^2: a sampled one would be too narrow
    below half a voxel (Lindeberg 1990, doi 10.1109/34.49051).
    """
    kernel = ive(np.arange(n), sigma_voxels[:, None] ** 2)
    distance = np.abs(np.subtract.outer(np.arange(n), np.arange(n)))
    return np.asarray(kernel[:, distance], dtype=np.float32)
