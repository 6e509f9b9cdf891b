"""Stage ``align``: all time points on the SPECT grid of the reference time point."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.cohort import Row
from doseledger.errors import RegistrationError, SheetError
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, write_image, write_sidecar, write_vectors
from doseledger.regions import RegionSpec, region_fractions
from doseledger.registration import (
    REGISTRY,
    Metric,
    Transform,
    centroid_distance_mm,
    dice,
    resample,
    resample_activity,
    spect_shift_mm,
)
from doseledger.steps.layout import ALIGNED_SPECT, ALIGNMENT, DISPLACEMENT, FAILED, scan_file
from doseledger.steps.specs import read_specs
from doseledger.steps.stage import Job

STAGE_VERSION: Final[int] = 2
TAKES_REFUSED: Final = False

#: Metric by what is registered: CT numbers are the same from day to day, activities are not.
METRIC: Final[dict[str, Metric]] = {"ct": "mean_squares", "spect": "correlation"}
#: Mean overlap of the regions after alignment below which the voxel map is flagged.
SMALLEST_DICE: Final = 0.7
#: A region further than this from its outline in its own SPECT is flagged: breath, or the wrong CT.
LARGEST_SPECT_SHIFT_MM: Final = 15.0


@dataclass(frozen=True, eq=False)
class _Point:
    """One time point as the stage needs it."""

    number: int
    spect: NDArray[np.float32]
    grid: Grid
    labels: NDArray[np.float32]
    label_grid: Grid
    fwhm_mm: float


def step(job: Job) -> None:
    """Register every time point to the reference and resample its SPECT once.

    CT to CT where both have one, else SPECT to SPECT. The outlines of both time points, carried
    over, measure the result: they had no part in it. A time point that cannot be registered keeps its
    own outlines and has no part in the voxel map.
    """
    numbers = [scan["time_point"] for scan in job.rows["scans"]]
    reference = job.settings["reference_time_point"]
    if reference not in numbers:
        raise SheetError(
            "the reference time point has no scan",
            path="config.yaml",
            tag="align.reference_time_point",
            value=reference,
            expected=numbers,
        )
    specs = read_specs(job.one("segment"))
    target = _point(job, reference)
    entries: list[Row] = []
    for number in numbers:
        point = target if number == reference else _point(job, number)
        transform, registered, problem = _register(job, reference, number)
        image = target.spect
        if number != reference:
            image = resample_activity(point.spect, point.grid, target.grid, transform)
        write_image(job.out / scan_file(job.key, number, ALIGNED_SPECT), image, target.grid, dtype="float32")
        if transform.displacement is not None:
            path = job.out / scan_file(job.key, number, DISPLACEMENT)
            write_vectors(path, transform.displacement.vectors_mm, transform.displacement.grid)
        entries.append(
            {
                "time_point": number,
                "registered": registered,
                "problem": problem,
                "reference_to_time_point_lps": transform.matrix.tolist(),
                "jacobian_range": list(transform.jacobian_range),
                "shift_at_centre_mm": transform.shift_at(target.grid.centre_mm),
            }
            | _quality(specs, target, point, transform, registered)
            | _spect_shifts(specs, point)
        )
    write_sidecar(job.out / ALIGNMENT, {"reference_time_point": reference, "time_points": entries})


def _point(job: Job, number: int) -> _Point:
    spect, grid = read_image(job.one("ingest") / scan_file(job.key, number, "spect.nii.gz"))
    labels, label_grid = read_image(job.one("segment") / scan_file(job.key, number, "dseg.nii.gz"))
    camera = next(scan["camera"] for scan in job.rows["scans"] if scan["time_point"] == number)
    fwhm_mm = next(row["fwhm_mm"] for row in job.rows["cameras"] if row["camera"] == camera)
    return _Point(number, spect, grid, labels, label_grid, fwhm_mm)


def _register(job: Job, reference: int, number: int) -> tuple[Transform, str, str | None]:
    """The transform, what it was found by, and why there is none."""
    if number == reference:
        return Transform.identity(), "reference", None
    what, files = _to_register(job.one("ingest"), job.key, reference, number)
    (fixed, fixed_grid), (moving, moving_grid) = (read_image(f) for f in files)
    register = REGISTRY[job.settings["method"]]
    try:
        return register(fixed, fixed_grid, moving, moving_grid, metric=METRIC[what]), what, None
    except RegistrationError as error:
        error.tag = f"{what} of time points {reference} and {number}"
        return Transform.identity(), FAILED, error.sentence


def _to_register(ingest: Path, key: Row, reference: int, number: int) -> tuple[str, list[Path]]:
    for what in ("ct", "spect"):
        files = [ingest / scan_file(key, n, f"{what}.nii.gz") for n in (reference, number)]
        if all(f.exists() for f in files):
            return what, files
    raise AssertionError("every time point has a SPECT")


def _quality(specs: list[RegionSpec], target: _Point, point: _Point, transform: Transform, registered: str) -> Row:
    """Overlap and distance of the regions, as the patient lay and after alignment; regions of both time points."""
    before, after = (
        resample(point.labels, point.label_grid, target.label_grid, t, outside=0.0, nearest=True)
        for t in (Transform.identity(), transform)
    )
    found: dict[str, dict[str, float]] = {}
    for spec in specs:
        fixed = target.labels == spec.label
        masks = {"before": before == spec.label, "after": after == spec.label}
        if not fixed.any() or not masks["after"].any():
            continue
        for when, moving in masks.items():
            distance = centroid_distance_mm(fixed, moving, target.label_grid)
            found.setdefault(f"dice_{when}", {})[spec.region] = dice(fixed, moving)
            if not np.isnan(distance):
                found.setdefault(f"centroid_distance_{when}_mm", {})[spec.region] = distance
    overlaps = list(found.get("dice_after", {}).values())
    flags = ["registration_failed"] if registered == FAILED else []
    if overlaps and float(np.mean(overlaps)) < SMALLEST_DICE:
        flags.append("misaligned")
    return {**found, "flags": flags}


def _spect_shifts(specs: list[RegionSpec], point: _Point) -> Row:
    """Where the regions lie in the SPECT of the time point, against their own outlines."""
    fractions = region_fractions(point.labels.astype(np.uint8), point.label_grid, point.grid)
    shifts = {
        spec.region: spect_shift_mm(point.spect, point.grid, fractions, spec.label, fwhm_mm=point.fwhm_mm)
        for spec in specs
        if spec.kind in ("organ", "lesion")
    }
    known = {region: list(shift) for region, shift in shifts.items() if shift is not None}
    far = [region for region, shift in known.items() if float(np.linalg.norm(shift)) > LARGEST_SPECT_SHIFT_MM]
    return {"spect_shift_mm": known, "region_flags": {region: ["spect_shifted"] for region in far}}
