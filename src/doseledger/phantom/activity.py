"""Where the activity is: true maps of activity concentration, at one breath or averaged over breathing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import numpy as np
from scipy.ndimage import correlate1d

from doseledger.geometry import Grid
from doseledger.phantom.render import Painted, paint_organs, paint_uptake
from doseledger.phantom.shapes import Floats, Image
from doseledger.phantom.torso import Torso
from doseledger.phantom.view import View
from doseledger.units import BQ_PER_MBQ

#: Points per voxel axis at which the surfaces of organs are looked at.
SAMPLES: Final = 2
#: Phases of the breath that are averaged.
_PHASES: Final = 24


def activity_map(
    torso: Torso,
    view: View,
    activity_mbq: Mapping[str, float],
    rest_bq_per_ml: float,
    *,
    breathing_mm: float = 0.0,
) -> Image:
    """Activity concentration on a grid, Bq/mL ``(z, y, x)``.

    Parameters
    ----------
    activity_mbq
        Activity of each organ. Sampling never changes it: the map of an organ that lies in the grid is
        scaled to hold exactly its activity.
    rest_bq_per_ml
        Activity of the rest of the body over the volume of the body; tissues take their share of it.
    breathing_mm
        Range over which the liver moves along z while the map is averaged; other organs move less. The
        grid's slices must be across z then.
    """
    organs = paint_organs(list(torso.organs.values()), view, samples=SAMPLES)
    total = paint_uptake(torso.parts, view) * np.float32(rest_bq_per_ml)
    for painted in organs:
        total[painted.block] *= 1 - painted.share
    for painted in organs:
        concentration = _concentration(torso, painted, activity_mbq[painted.organ.name], view.grid)
        z, y, x = painted.block
        column = np.zeros((view.grid.shape[0], y.stop - y.start, x.stop - x.start), dtype=np.float32)
        column[z] = painted.weight * np.float32(concentration)
        reach_mm = breathing_mm * painted.organ.breathing
        if reach_mm > 0.0:
            weights = breathing_kernel(reach_mm, view.grid.spacing_mm[0])
            column = correlate1d(column, weights, axis=0, mode="constant")
        total[:, y, x] += column
    return total


def breathing_kernel(range_mm: float, step_mm: float) -> Floats:
    """Weights along z, from below, of an organ that moves with the breath about its mean position.

    The place is ``range (3/8 - cos^4 phase)``: organs rest longest near the end of expiration, at
    the top of their range (Lujan et al. 1999, Med Phys 26:715). The mean of cos^4 is 3/8.
    """
    phases = np.pi * (np.arange(_PHASES) + 0.5) / _PHASES
    places = range_mm * (3.0 / 8.0 - np.cos(phases) ** 4) / step_mm
    half = int(np.ceil(np.abs(places).max()))
    weights = np.zeros(2 * half + 1)
    low = np.floor(places).astype(int)
    np.add.at(weights, low + half, (1.0 - (places - low)) / _PHASES)
    np.add.at(weights, low + 1 + half, (places - low) / _PHASES)
    # A correlation looks at neighbours: what moves up is seen by the voxels above.
    return weights[::-1]


def _concentration(torso: Torso, painted: Painted, activity_mbq: float, grid: Grid) -> float:
    """Activity per volume of the organ's main tissue, Bq/mL."""
    if activity_mbq <= 0.0 or not painted.weight.any():
        return 0.0
    in_grid_ml = float(painted.weight.sum(dtype=np.float64)) * grid.voxel_volume_ml
    volume_ml = in_grid_ml if painted.whole else torso.weighted_ml(painted.organ.name)
    return activity_mbq * BQ_PER_MBQ / volume_ml
