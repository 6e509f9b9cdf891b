"""Slices of a finished cycle for the patient's page: images, outlines and dose on one upright grid."""

from __future__ import annotations

from math import ceil
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.dose.marrow import RED_MARROW
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, read_sidecar
from doseledger.regions.body import body_mask
from doseledger.registration import Transform, resample
from doseledger.report.figures import CycleSlices
from doseledger.steps.collect import FinishedCycle
from doseledger.steps.layout import ALIGNMENT, dose_file, scan_file
from doseledger.steps.specs import demo_marks

#: Voxel of the pictures: fine enough for outlines on a screen.
PICTURE_VOXEL_MM: Final = 3.0
AIR_HU: Final = -1000.0
#: On every picture with masks by a model that knows virtual patients only.
DEMO_NOTICE: Final = "DEMO WEIGHTS: virtual patients only"


def cycle_slices(cycle: FinishedCycle) -> CycleSlices:
    """A coronal and an axial slice through the outlined regions at the reference time point."""
    point = read_sidecar(cycle.folder("align") / ALIGNMENT)["reference_time_point"]
    key = {"patient": cycle.patient, "cycle": cycle.cycle}
    ingest = cycle.folder("ingest")
    spect, spect_grid = read_image(ingest / scan_file(key, point, "spect.nii.gz"))
    view = _upright(spect_grid)
    labels = _show(cycle, "segment", scan_file(key, point, "dseg.nii.gz"), view, nearest=True).astype(np.uint8)
    activity = _resampled(spect, spect_grid, view)
    engine = next(
        row["dose_engine"] for row in cycle.rows("organ_dose") if row["is_primary"] and row["region"] != RED_MARROW
    )
    dose = _show(cycle, "dose", dose_file(engine), view)
    has_ct = (ingest / scan_file(key, point, "ct.nii.gz")).exists()
    ct = _show(cycle, "ingest", scan_file(key, point, "ct.nii.gz"), view, outside=AIR_HU) if has_ct else None
    if ct is not None:
        # Counts that blur carries into air have no mass to be a dose of.
        dose = np.where(body_mask(ct), dose, np.float32(0.0))
    rows = {row["time_point"]: row for row in cycle.rows("acquisition")}
    z, y = _telling_slice(labels, 0), _telling_slice(labels, 1)
    return CycleSlices(
        cycle=cycle.cycle,
        time_h=rows[point]["time_h"],
        spacing_mm=view.spacing_mm,
        ct_coronal=None if ct is None else ct[:, y],
        spect_coronal_mip=activity.max(axis=1),
        ct_axial=None if ct is None else ct[z],
        spect_axial=activity[z],
        labels_coronal=labels[:, y],
        labels_axial=labels[z],
        label_names={spec.label: spec.region for spec in cycle.specs},
        dose_coronal=dose[:, y],
        notice=DEMO_NOTICE if demo_marks(cycle.folder("segment")) else None,
    )


def _telling_slice(labels: NDArray[np.uint8], axis: int) -> int:
    """The slice that shows the most regions; of several, the one that shows most of them."""
    others = tuple(i for i in range(3) if i != axis)
    present = [(labels == label).sum(axis=others) for label in np.unique(labels[labels > 0])]
    regions = sum((count > 0).astype(np.int64) for count in present)
    return int(np.argmax(regions * labels.size + sum(present)))


def _upright(grid: Grid) -> Grid:
    """Axis-aligned grid over the field of view of `grid`: feet, front and right come first."""
    last = np.array(grid.shape) - 1
    corners = np.array([grid.position_mm(np.array(corner) * last) for corner in np.ndindex(2, 2, 2)])
    low, high = corners.min(axis=0), corners.max(axis=0)
    shape = [ceil(extent / PICTURE_VOXEL_MM) + 1 for extent in high - low]
    return Grid((shape[2], shape[1], shape[0]), (PICTURE_VOXEL_MM,) * 3, (float(low[0]), float(low[1]), float(low[2])))


def _show(
    cycle: FinishedCycle, stage: str, name: str, view: Grid, *, outside: float = 0.0, nearest: bool = False
) -> NDArray[np.float32]:
    image, grid = read_image(cycle.folder(stage) / name)
    return _resampled(image, grid, view, outside=outside, nearest=nearest)


def _resampled(
    image: NDArray[np.float32], grid: Grid, view: Grid, *, outside: float = 0.0, nearest: bool = False
) -> NDArray[np.float32]:
    return resample(image, grid, view, Transform.identity(), outside=outside, nearest=nearest)
