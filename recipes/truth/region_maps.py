"""The true time-integrated activity of one virtual patient-cycle on voxels that hold one tissue each."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt, find_objects, maximum_filter, minimum_filter
from transport import AIR, BONE, LUNG, SOFT_TISSUE, Floats

from doseledger.geometry import Grid
from doseledger.phantom.cycle import Cycle
from doseledger.phantom.maps import MATERIALS, true_maps
from doseledger.units import BQ_PER_MBQ, MM3_PER_ML

#: Side of the cubic voxels: half of the SPECT voxel of the virtual cohort.
VOXEL_MM: Final = 2.4
#: Air around the body that stays in the field, mm.
_MARGIN_MM: Final = 12.0
#: Medium of the engine for each material of the maps.
_MEDIUM: Final = {
    "air": AIR,
    "lung": LUNG,
    "adipose": SOFT_TISSUE,
    "soft tissue": SOFT_TISSUE,
    "marrow": SOFT_TISSUE,
    "bone": BONE,
}


@dataclass(frozen=True, eq=False)
class RegionMaps:
    """Arrays ``(z, y, x)`` on cubic voxels.

    Attributes
    ----------
    decays
        TIA per voxel, MBq h.
    labels
        Zero outside the regions, else 1 + index into `regions`.
    volume_ml, mass_g
        True volume and mass of the regions; those of their voxels differ a little.
    """

    edges_mm: tuple[Floats, Floats, Floats]
    decays: Floats
    density_g_per_ml: Floats
    medium: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    regions: tuple[str, ...]
    volume_ml: Floats
    mass_g: Floats

    @property
    def voxel_ml(self) -> Floats:
        """Volume of the voxels of each region."""
        count = np.bincount(self.labels.ravel(), minlength=len(self.regions) + 1)[1:]
        return np.asarray(count * VOXEL_MM**3 / MM3_PER_ML)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of everything that the calculation takes from the truth."""
        digest = sha256()
        for array in (*self.edges_mm, self.decays, self.density_g_per_ml, self.medium, self.labels):
            digest.update(np.ascontiguousarray(array, dtype=array.dtype).tobytes())
        return digest.hexdigest()


def region_maps(cycle: Cycle) -> RegionMaps:
    """Maps of the patient at rest, cropped to the body within the SPECT field.

    `true_maps` mixes tissues and activities in the voxels at the surface of an organ. There an organ
    would lose activity that its voxels do not hold, some 3 % for a kidney: every voxel takes activity,
    density and material of the nearest voxel inside the same region, and each region is scaled to its
    true mean concentration.
    """
    grid = _body_grid(cycle)
    maps = true_maps(cycle, None, grid)
    inner = nearest_inside(maps.labels)
    concentration = maps.activity_bq_per_ml[inner].astype(np.float64) / BQ_PER_MBQ
    volume_ml = np.array([cycle.torso.volume_ml(region) for region in maps.regions])
    for number, (region, volume) in enumerate(zip(maps.regions, volume_ml, strict=True), start=1):
        inside = maps.labels == number
        if not inside.any():
            raise ValueError(f"{region} of {cycle.key} is too small for voxels of {VOXEL_MM} mm")
        concentration[inside] *= cycle.curves[region].tia_mbq_h / volume / concentration[inside].mean()
    medium_of = np.array([_MEDIUM[name] for name in MATERIALS], dtype=np.uint8)
    return RegionMaps(
        edges_mm=_edges(grid),
        decays=concentration * grid.voxel_volume_ml,
        density_g_per_ml=maps.density_g_per_ml[inner].astype(np.float64),
        medium=medium_of[maps.material[inner]],
        labels=maps.labels,
        regions=maps.regions,
        volume_ml=volume_ml,
        mass_g=np.array([cycle.torso.mass_g(region) for region in maps.regions]),
    )


def nearest_inside(labels: NDArray[np.uint8]) -> tuple[NDArray[np.intp], ...]:
    """For every voxel the index of the nearest one of the same label whose neighbours all have it too.

    Regions so thin that they have no such voxel keep their own.
    """
    index = np.indices(labels.shape)
    core = minimum_filter(labels, size=3) == maximum_filter(labels, size=3)
    for number, block in enumerate(find_objects(labels + np.uint8(1))):
        if block is None:
            continue
        inside = labels[block] == number
        if not (inside & core[block]).any():
            continue
        nearest = distance_transform_edt(~(inside & core[block]), return_distances=False, return_indices=True)
        start = np.reshape([part.start for part in block], (3, 1, 1, 1))
        index[(slice(None), *block)] = np.where(inside, nearest + start, index[(slice(None), *block)])
    return tuple(index)


def _body_grid(cycle: Cycle) -> Grid:
    """Cubic voxels over the SPECT field along z, cropped to the active body across."""
    field = cycle.site.fields(cycle.size).spect
    active = true_maps(cycle, None, field).activity_bq_per_ml > 0.0
    lower = np.array([field.origin_mm[axis] for axis in (2, 1, 0)])
    edges = []
    for axis, (start, step) in enumerate(zip(lower, field.spacing_mm, strict=True)):
        across = np.flatnonzero(active.any(axis=tuple(other for other in range(3) if other != axis)))
        margin = 0.0 if axis == 0 else _MARGIN_MM
        edges.append((start + (across[0] - 0.5) * step - margin, start + (across[-1] + 0.5) * step + margin))
    z, y, x = (round((high - low) / VOXEL_MM) for low, high in edges)
    origin = tuple(low + 0.5 * VOXEL_MM for low, _ in reversed(edges))
    return Grid((z, y, x), (VOXEL_MM, VOXEL_MM, VOXEL_MM), (origin[0], origin[1], origin[2]))


def _edges(grid: Grid) -> tuple[Floats, Floats, Floats]:
    z, y, x = (np.arange(n + 1, dtype=np.float64) * VOXEL_MM for n in grid.shape)
    return z, y, x
