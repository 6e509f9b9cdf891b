"""What is truly in a virtual patient, on any grid: activity, density, material and label per voxel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from doseledger.geometry import Grid
from doseledger.phantom.activity import SAMPLES
from doseledger.phantom.cycle import Cycle, default_since_void_h
from doseledger.phantom.render import paint_matter, paint_organs
from doseledger.phantom.shapes import Image
from doseledger.phantom.tissues import MATERIALS as MATERIALS
from doseledger.phantom.torso import BLADDER
from doseledger.phantom.view import Pose, View


@dataclass(frozen=True, eq=False)
class TrueMaps:
    """The truth on one grid, all arrays ``(z, y, x)``.

    Attributes
    ----------
    activity_bq_per_ml
        Activity concentration at the asked time (or its time integral, see `true_maps`).
    density_g_per_ml
        Mass density, mixed by volume where a voxel holds several tissues; never zero (air 0.0012).
    material
        Index into `MATERIALS`.
    labels
        0 outside of named regions, else 1 + index into `regions`.
    regions
        Names of the regions, as in the truth tables, without sums.
    """

    activity_bq_per_ml: Image
    density_g_per_ml: Image
    material: NDArray[np.uint8]
    labels: NDArray[np.uint8]
    regions: tuple[str, ...]


def true_maps(
    cycle: Cycle, time_h: float | None, grid: Grid, *, pose: Pose | None = None, breath_mm: float = 0.0
) -> TrueMaps:
    """The patient of `cycle`, hours after mid-infusion, sampled on `grid`.

    Parameters
    ----------
    time_h
        Hours after mid-infusion. None gives the time integral to infinity instead: then
        `activity_bq_per_ml` holds Bq h/mL.
    grid
        Any grid; it may be finer or larger than the fields of the site's scanners.
    pose
        How the patient lies; at rest if not given (`Scan.pose` for that of a scan's CT).
    breath_mm
        Place of the liver above its mean place, at which the breath is held (`Scan.ct_breath_mm`).
    """
    view = View(grid, pose or Pose(), breath_mm)
    since_void_h = default_since_void_h()
    torso = cycle.torso_at(since_void_h)
    organs = list(torso.organs.values())
    density, material = paint_matter(torso.parts, organs, view)
    regions = tuple(region for region in torso.regions if region in torso.organs)
    labels = np.zeros(grid.shape, np.uint8)
    for painted in paint_organs(organs, view, samples=SAMPLES):
        if painted.organ.name != BLADDER:
            labels[painted.block][painted.share > 0.5] = 1 + regions.index(painted.organ.name)
    return TrueMaps(
        activity_bq_per_ml=cycle.true_activity(time_h, view, since_void_h=since_void_h),
        density_g_per_ml=density,
        material=material,
        labels=labels,
        regions=regions,
    )
