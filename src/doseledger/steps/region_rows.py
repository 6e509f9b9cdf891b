"""Rows of table ``region``: volumes, masses and the quality gate of the masks of a cycle."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger import __version__
from doseledger.cohort import Row
from doseledger.dose import density_from_hu
from doseledger.geometry import Grid, Vector
from doseledger.io.nifti import read_image
from doseledger.regions import WHOLE_BODY, WHOLE_FIELD, RegionSpec, pair_flags, sums_of
from doseledger.regions.body import BODY_HU
from doseledger.regions.gate import (
    DEMO_WEIGHTS,
    HOLLOW,
    centroid_mm,
    change_flags,
    dice_after_shift,
    mask_flags,
    order_flags,
)
from doseledger.regions.hot_spots import THRESHOLD
from doseledger.regions.lesions import THRESHOLD_VOLUME
from doseledger.segmentation import LabelMap, ScanImages
from doseledger.statistics.uncertainty import u_volume_rel
from doseledger.steps.specs import in_order
from doseledger.steps.stage import Job

#: Density where there is no CT: ICRU soft tissue, g/mL.
SOFT_TISSUE_G_PER_ML: Final = 1.04
#: Flag of ``whole_field``: the model has a class for a region of the sheet and found no voxel of it.
NOT_FOUND: Final = "region_not_found"

_STATUS: Final = {"accept": "accepted", "edit": "edited"}


def region_rows(
    job: Job,
    specs: dict[str, RegionSpec],
    scans: Sequence[ScanImages],
    maps: Sequence[LabelMap],
    review: Mapping[int, Row],
) -> list[Row]:
    """Rows of all time points and regions, with sums and ``whole_field``."""
    regions = in_order(specs)
    blur_mm = {scan["time_point"]: _blur_mm(job, scan["camera"]) for scan in job.rows["scans"]}
    rows: list[Row] = []
    for scan, made in zip(scans, maps, strict=True):
        common = _common(job, scan.time_point, made, review.get(scan.time_point))
        hu = read_image(scan.ct)[0] if scan.ct is not None and made.image.modality == "CT" else None
        spect_mm = (_spect_voxel_mm(scan), blur_mm[scan.time_point])
        rows += _scan_rows(job, common, made, hu, regions, spect_mm)
    _flag_changes(rows, regions, scans, maps)
    return rows


def voxel_mm(grid: Grid) -> float:
    """Edge of the cube with the volume of a voxel; also the resolution taken for a CT."""
    return float(np.prod(grid.spacing_mm) ** (1.0 / 3.0))


def _spect_voxel_mm(scan: ScanImages) -> float:
    return next(voxel_mm(image.grid) for image in scan.images if image.modality == "SPECT")


def _blur_mm(job: Job, camera: str) -> float:
    return float(next(row["fwhm_mm"] for row in job.rows["cameras"] if row["camera"] == camera))


def _common(job: Job, time_point: int, made: LabelMap, review: Row | None) -> Row:
    decision = None if review is None else review["decision"]
    return {
        **job.key,
        "time_point": time_point,
        "outline_modality": made.image.modality,
        "review_status": _STATUS.get(decision or "", "not_reviewed"),
        "manual_edit": decision == "edit",
        "data_origin": job.rows["data_origin"],
        "software_version": __version__,
    }


def _scan_rows(
    job: Job,
    common: Row,
    made: LabelMap,
    hu: NDArray[np.float32] | None,
    specs: Sequence[RegionSpec],
    spect_mm: tuple[float, float],
) -> list[Row]:
    """Rows of one time point; `spect_mm` is voxel and blur of its SPECT."""
    grid = made.image.grid
    midline_mm = _midline_mm(hu, grid)
    outline_mm = (voxel_mm(grid), voxel_mm(grid) if made.image.modality == "CT" else spect_mm[1])
    common["mass_source"] = "assumed_soft_tissue" if hu is None else "ct_density"
    parts: dict[str, Row] = {}
    centroids_mm: dict[str, Vector] = {}
    for spec in specs:
        mask = made.labels == spec.label
        if not mask.any():
            continue
        model = made.models.get(spec.region)
        by_threshold = made.sources.get(spec.region) == THRESHOLD
        edge_mm = spect_mm if by_threshold else outline_mm
        volume = float(mask.sum()) * grid.voxel_volume_ml
        flags = mask_flags(spec.region, mask, grid, laterality=spec.laterality, midline_mm=midline_mm, hu=hu)
        flags += ["overlap"] * (spec.region in made.overlapping) + ["no_ct"] * (hu is None)
        flags += ["wall_and_content"] * (spec.region in HOLLOW)
        flags += [DEMO_WEIGHTS] * (model is not None and model.virtual_only)
        flags += [THRESHOLD_VOLUME] * by_threshold
        centroids_mm[spec.region] = centroid_mm(mask, grid)
        parts[spec.region] = common | {
            "region": spec.region,
            "region_level": "part",
            "sct_code": spec.sct_code,
            "laterality": spec.laterality,
            "lesion_id": spec.region if spec.kind == "lesion" else None,
            "volume_ml": volume,
            "u_volume_rel": u_volume_rel(
                volume,
                voxel_mm=edge_mm[0],
                fwhm_mm=edge_mm[1],
                operator_rel=job.settings["operator_uncertainty_rel"],
            ),
            "mass_g": _mass_g(mask, grid, hu),
            "mean_hu": None if hu is None else float(hu[mask].mean(dtype=np.float64)),
            "region_source": made.sources.get(spec.region),
            "device": None if model is None else model.device,
            "weights_sha256": None if model is None else model.weights_sha256,
            "flags": flags,
        }
        if by_threshold:
            parts[spec.region] |= {"outline_modality": "SPECT", "manual_edit": False}
    for region, flags in order_flags(centroids_mm).items():
        parts[region]["flags"] += flags
    _flag_pair(parts)
    sums = [_sum_row(common, name, [parts.get(p.region) for p in members]) for name, members in sums_of(specs).items()]
    not_found = [region for region in made.models if region not in parts]
    whole = common | {
        "region": WHOLE_FIELD,
        "region_level": "sum",
        "volume_ml": float(np.prod(grid.shape)) * grid.voxel_volume_ml,
        "mass_source": None,
        "flags": ["unmapped_structures"] * bool(made.unmapped) + [NOT_FOUND] * bool(not_found),
    }
    return [*parts.values(), *(s for s in sums if s is not None), whole]


def _sum_row(common: Row, name: str, parts: list[Row | None]) -> Row | None:
    """Volumes and masses add; a missing part (one kidney, or one not drawn) is flagged."""
    present = [p for p in parts if p is not None]
    if not present:
        return None
    # The rest of the body has what the regions that are not there would have.
    missing = {"part_missing"} if None in parts and name != WHOLE_BODY else set()
    volume = sum(p["volume_ml"] for p in present)
    u_volume = float(np.sqrt(sum((p["u_volume_rel"] * p["volume_ml"]) ** 2 for p in present))) / volume
    shared = {
        column: present[0][column] if len({p[column] for p in present}) == 1 else None
        for column in ("sct_code", "region_source", "device", "weights_sha256")
    }
    return (
        common
        | shared
        | {
            "region": name,
            "region_level": "sum",
            "volume_ml": volume,
            "u_volume_rel": u_volume,
            "mass_g": sum(p["mass_g"] for p in present),
            "flags": sorted({f for p in present for f in p["flags"]} | missing),
        }
    )


def _mass_g(mask: NDArray[np.bool_], grid: Grid, hu: NDArray[np.float32] | None) -> float:
    if hu is None:
        return float(mask.sum()) * grid.voxel_volume_ml * SOFT_TISSUE_G_PER_ML
    return float(density_from_hu(hu[mask]).sum(dtype=np.float64)) * grid.voxel_volume_ml


def _midline_mm(hu: NDArray[np.float32] | None, grid: Grid) -> float:
    if hu is None:
        return grid.centre_mm[0]
    body = np.argwhere(hu > BODY_HU)
    return grid.position_mm(body.mean(axis=0))[0] if body.size else grid.centre_mm[0]


def _flag_pair(parts: Mapping[str, Row]) -> None:
    left, right = parts.get("kidney_left"), parts.get("kidney_right")
    if left is not None and right is not None:
        flags = pair_flags(left["volume_ml"], right["volume_ml"], "kidney_volumes_differ")
        left["flags"] += flags
        right["flags"] += flags


def _flag_changes(
    rows: Sequence[Row], specs: Sequence[RegionSpec], scans: Sequence[ScanImages], maps: Sequence[LabelMap]
) -> None:
    """Organs whose outline another time point does not confirm, after the mean shift of all organs between the two."""
    by_place = {(row["time_point"], row["region"]): row for row in rows}
    first, *others = zip(scans, maps, strict=True)
    for scan, made in others:
        masks = {
            spec.region: (first[1].labels == spec.label, made.labels == spec.label)
            for spec in specs
            if spec.kind == "organ"
        }
        masks = {region: pair for region, pair in masks.items() if pair[0].any() and pair[1].any()}
        if not masks:
            continue
        grids = first[1].image.grid, made.image.grid
        shifts = [
            np.subtract(centroid_mm(there, grids[1]), centroid_mm(here, grids[0])) for here, there in masks.values()
        ]
        x, y, z = (float(v) for v in np.median(shifts, axis=0))
        for region, (here, there) in masks.items():
            flags = change_flags(dice_after_shift(here, grids[0], there, grids[1], (x, y, z)))
            by_place[scan.time_point, region]["flags"] += flags
