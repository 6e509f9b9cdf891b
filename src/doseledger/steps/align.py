"""Stage ``align``: all time points on the SPECT grid of the reference time point."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.cohort import Row
from doseledger.errors import RegistrationError, SheetError
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, write_image, write_sidecar
from doseledger.regions import RegionSpec
from doseledger.registration import REGISTRY, Metric, RigidTransform, dice, resample
from doseledger.steps.layout import ALIGNMENT, scan_file
from doseledger.steps.specs import read_specs
from doseledger.steps.stage import Job

STAGE_VERSION: Final[int] = 1
TAKES_REFUSED: Final = False

#: Metric by what is registered: CT numbers are the same from day to day, activities are not.
METRIC: Final[dict[str, Metric]] = {"ct": "mean_squares", "spect": "correlation"}
#: Mean overlap of the regions after alignment below which the voxel map is flagged.
SMALLEST_DICE: Final = 0.7


def step(job: Job) -> None:
    """Register every time point to the reference and resample its SPECT once.

    CT to CT where both have one, else SPECT to SPECT. The outlines of both time points, carried
    over, measure the result: they had no part in it.
    """
    points = [scan["time_point"] for scan in job.rows["scans"]]
    reference = job.settings["reference_time_point"]
    if reference not in points:
        raise SheetError(
            "the reference time point has no scan",
            path="config.yaml",
            tag="align.reference_time_point",
            value=reference,
            expected=points,
        )
    ingest, segment = job.one("ingest"), job.one("segment")
    specs = read_specs(segment)
    target, grid = read_image(ingest / scan_file(job.key, reference, "spect.nii.gz"))
    entries: list[Row] = []
    for point in points:
        if point == reference:
            transform, registered = RigidTransform.identity(), "reference"
            image = target
        else:
            transform, registered = _register(job, ingest, reference, point)
            spect, own_grid = read_image(ingest / scan_file(job.key, point, "spect.nii.gz"))
            image = resample(spect, own_grid, grid, transform, outside=0.0)
        write_image(job.out / scan_file(job.key, point, "space-reference_spect.nii.gz"), image, grid, dtype="float32")
        overlaps = _overlaps(job, segment, specs, reference, point, transform)
        mean = float(np.mean(list(overlaps.values()))) if overlaps else None
        entries.append(
            {
                "time_point": point,
                "registered": registered,
                "reference_to_time_point_lps": transform.matrix.tolist(),
                "shift_at_centre_mm": transform.shift_at(grid.centre_mm),
                "dice": overlaps,
                "flags": ["misaligned"] * (mean is not None and mean < SMALLEST_DICE),
            }
        )
    write_sidecar(job.out / ALIGNMENT, {"reference_time_point": reference, "time_points": entries})


def _register(job: Job, ingest: Path, reference: int, point: int) -> tuple[RigidTransform, str]:
    for what in ("ct", "spect"):
        files = [ingest / scan_file(job.key, p, f"{what}.nii.gz") for p in (reference, point)]
        if all(f.exists() for f in files):
            (fixed, fixed_grid), (moving, moving_grid) = (read_image(f) for f in files)
            register = REGISTRY[job.settings["method"]]
            try:
                return register(fixed, fixed_grid, moving, moving_grid, metric=METRIC[what]), what
            except RegistrationError as error:
                error.tag = f"{what} of time points {reference} and {point}"
                raise
    raise AssertionError("every time point has a SPECT")


def _overlaps(
    job: Job, segment: Path, specs: list[RegionSpec], reference: int, point: int, transform: RigidTransform
) -> dict[str, float]:
    """Dice of each region of the time point with the same one of the reference."""
    fixed, grid = _labels(job, segment, reference)
    moving, own_grid = _labels(job, segment, point)
    carried = resample(moving, own_grid, grid, transform, outside=0.0, nearest=True)
    found = {spec.region: dice(fixed == spec.label, carried == spec.label) for spec in specs}
    return {region: value for region, value in found.items() if not np.isnan(value)}


def _labels(job: Job, segment: Path, point: int) -> tuple[NDArray[np.float32], Grid]:
    return read_image(segment / scan_file(job.key, point, "dseg.nii.gz"))
