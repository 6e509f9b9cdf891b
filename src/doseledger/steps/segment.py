"""Stage ``segment``: one label map per time point, with names, codes and table ``region``."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from doseledger import __version__
from doseledger.cohort import Row
from doseledger.dose import density_from_hu
from doseledger.errors import ContourError
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, read_sidecar, voxels_sha256, write_image, write_sidecar
from doseledger.io.tables import write_rows
from doseledger.regions import WHOLE_FIELD, RegionSpec, gate_flags, pair_flags, sums_of
from doseledger.segmentation import REGISTRY, LabelMap
from doseledger.segmentation.contours import DrawnOn
from doseledger.statistics.uncertainty import u_volume_rel
from doseledger.steps.layout import LABELS, scan_file
from doseledger.steps.stage import Job

STAGE_VERSION: Final[int] = 1
TAKES_REFUSED: Final = False

#: Density where there is no CT: ICRU soft tissue, g/mL.
SOFT_TISSUE_G_PER_ML: Final = 1.04
#: CT numbers above this belong to the patient (or the table): used for the middle of the body.
BODY_HU: Final = -300.0


def step(job: Job) -> None:
    """Outline the regions of every time point; masses come from the CT under the outline."""
    specs = region_specs(job.rows["regions"])
    # Several names in structure sets may mean one region.
    regions = sorted({spec.label: spec for spec in specs.values()}.values(), key=lambda spec: spec.label)
    rows: list[Row] = []
    hashes: dict[str, str] = {}
    cameras = {c["camera"]: c for c in job.rows["cameras"]}
    for scan in job.rows["scans"]:
        spect, ct, hu = _images(job, scan)
        if not scan["contours"]:
            raise ContourError(
                "the time point has no structure set",
                path="scans.tsv",
                tag="contours",
                value="n/a",
                expected="path of an RTSTRUCT",
                remedy="Add the path to scans.tsv: segmentation without contours is not available yet.",
            )
        make = REGISTRY[job.settings["source"]]
        images = [image for image in (ct, spect) if image is not None]
        found = make(Path(job.rows["base"]) / scan["contours"], images, specs, scan["contours"])
        on_ct = hu if found.image.modality == "CT" else None
        blur_mm = voxel_mm(found.image.grid) if found.image.modality == "CT" else cameras[scan["camera"]]["fwhm_mm"]
        rows += _region_rows(job, scan, found, on_ct, regions, blur_mm)
        path = job.out / scan_file(job.key, scan["time_point"], "dseg.nii.gz")
        write_image(path, found.labels, found.image.grid, dtype="uint8")
        hashes[str(scan["time_point"])] = voxels_sha256(found.labels.astype(np.float32), found.image.grid)
    _flag_pairs(rows)
    write_rows(job.out, "region", rows)
    write_sidecar(job.out / LABELS, {"regions": [asdict(spec) for spec in regions], "labels_sha256": hashes})


def region_specs(rows: list[Row]) -> dict[str, RegionSpec]:
    """Regions by their names in structure sets; several names may mean one region."""
    order = list(dict.fromkeys(row["region"] for row in rows))
    return {row["source_name"]: RegionSpec.from_row(order.index(row["region"]) + 1, row) for row in rows}


def read_specs(folder: Path) -> list[RegionSpec]:
    """Regions of a finished segment stage, in order of their labels."""
    return [RegionSpec(**entry) for entry in read_sidecar(folder / LABELS)["regions"]]


def voxel_mm(grid: Grid) -> float:
    """Edge of the cube with the volume of a voxel; also the resolution taken for a CT."""
    return float(np.prod(grid.spacing_mm) ** (1.0 / 3.0))


def _images(job: Job, scan: Row) -> tuple[DrawnOn, DrawnOn | None, NDArray[np.float32] | None]:
    folder = job.one("ingest")
    found: dict[str, tuple[DrawnOn, NDArray[np.float32]]] = {}
    for what, modality in (("spect", "SPECT"), ("ct", "CT")):
        path = folder / scan_file(job.key, scan["time_point"], f"{what}.nii.gz")
        if not path.exists():
            continue
        array, grid = read_image(path)
        sidecar = read_sidecar(folder / scan_file(job.key, scan["time_point"], f"{what}.json"))
        drawn_on = DrawnOn(modality, grid, sidecar["SeriesInstanceUID"], sidecar["FrameOfReferenceUID"])  # type: ignore[arg-type]
        found[what] = (drawn_on, array)
    ct = found.get("ct")
    return found["spect"][0], ct[0] if ct else None, ct[1] if ct else None


def _region_rows(
    job: Job,
    scan: Row,
    found: LabelMap,
    hu: NDArray[np.float32] | None,
    specs: list[RegionSpec],
    blur_mm: float,
) -> list[Row]:
    grid = found.image.grid
    midline_mm = _midline_mm(hu, grid)
    common: Row = {
        **job.key,
        "time_point": scan["time_point"],
        "region_source": job.settings["source"],
        "outline_modality": found.image.modality,
        "mass_source": "assumed_soft_tissue" if hu is None else "ct_density",
        "review_status": "not_reviewed",
        "manual_edit": False,
        "data_origin": job.rows["data_origin"],
        "software_version": __version__,
    }
    parts: dict[str, Row] = {}
    for spec in specs:
        mask = found.labels == spec.label
        if not mask.any():
            continue
        volume = float(mask.sum()) * grid.voxel_volume_ml
        flags = gate_flags(spec.region, mask, grid, volume_ml=volume, laterality=spec.laterality, midline_mm=midline_mm)
        flags += ["overlap"] * (spec.region in found.overlapping) + ["no_ct"] * (hu is None)
        parts[spec.region] = common | {
            "region": spec.region,
            "region_level": "part",
            "sct_code": spec.sct_code,
            "laterality": spec.laterality,
            "lesion_id": spec.region if spec.kind == "lesion" else None,
            "volume_ml": volume,
            "u_volume_rel": u_volume_rel(
                volume,
                voxel_mm=voxel_mm(grid),
                fwhm_mm=blur_mm,
                operator_rel=job.settings["operator_uncertainty_rel"],
            ),
            "mass_g": _mass_g(mask, grid, hu),
            "mean_hu": None if hu is None else float(hu[mask].mean(dtype=np.float64)),
            "flags": flags,
        }
    sums = [_sum_row(common, name, [parts.get(p.region) for p in members]) for name, members in sums_of(specs).items()]
    whole = common | {
        "region": WHOLE_FIELD,
        "region_level": "sum",
        "volume_ml": float(np.prod(grid.shape)) * grid.voxel_volume_ml,
        "mass_source": None,
        "flags": ["unmapped_structures"] * bool(found.unmapped),
    }
    return [*parts.values(), *(s for s in sums if s is not None), whole]


def _sum_row(common: Row, name: str, parts: list[Row | None]) -> Row | None:
    """Volumes and masses add; a missing part (one kidney, or one not drawn) is flagged."""
    present = [p for p in parts if p is not None]
    if not present:
        return None
    volume = sum(p["volume_ml"] for p in present)
    u_volume = float(np.sqrt(sum((p["u_volume_rel"] * p["volume_ml"]) ** 2 for p in present))) / volume
    return common | {
        "region": name,
        "region_level": "sum",
        "sct_code": present[0]["sct_code"] if len({p["sct_code"] for p in present}) == 1 else None,
        "volume_ml": volume,
        "u_volume_rel": u_volume,
        "mass_g": sum(p["mass_g"] for p in present),
        "flags": sorted({f for p in present for f in p["flags"]} | ({"part_missing"} if None in parts else set())),
    }


def _mass_g(mask: NDArray[np.bool_], grid: Grid, hu: NDArray[np.float32] | None) -> float:
    if hu is None:
        return float(mask.sum()) * grid.voxel_volume_ml * SOFT_TISSUE_G_PER_ML
    return float(density_from_hu(hu[mask]).sum(dtype=np.float64)) * grid.voxel_volume_ml


def _midline_mm(hu: NDArray[np.float32] | None, grid: Grid) -> float:
    if hu is None:
        return grid.centre_mm[0]
    body = np.argwhere(hu > BODY_HU)
    return grid.position_mm(body.mean(axis=0))[0] if body.size else grid.centre_mm[0]


def _flag_pairs(rows: list[Row]) -> None:
    by_place: dict[tuple[Any, str], Row] = {(r["time_point"], r["region"]): r for r in rows}
    for (point, region), left in by_place.items():
        right = by_place.get((point, "kidney_right"))
        if region == "kidney_left" and right is not None:
            flags = pair_flags(left["volume_ml"], right["volume_ml"], "kidney_volumes_differ")
            left["flags"] += flags
            right["flags"] += flags
