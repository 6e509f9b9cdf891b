"""Stage ``segment``: one label map per time point, with names and codes, contact sheet and table ``region``."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Final

import numpy as np

from doseledger.cohort import Row
from doseledger.errors import ReviewRejectedError, SegmentationError
from doseledger.io.nifti import read_grid, read_image, read_sidecar, voxels_sha256, write_image, write_sidecar
from doseledger.io.tables import write_rows
from doseledger.regions import RegionSpec
from doseledger.regions.body import body_mask, inside_field
from doseledger.segmentation import REGISTRY, DrawnOn, LabelMap, Options, ScanImages, label_map_from_contours
from doseledger.steps.layout import LABELS, scan_file
from doseledger.steps.mask_sheet import write_mask_sheet
from doseledger.steps.region_rows import region_rows
from doseledger.steps.specs import in_order, region_specs
from doseledger.steps.spect_lesions import with_spect_lesions
from doseledger.steps.stage import Job

STAGE_VERSION: Final[int] = 2
TAKES_REFUSED: Final = False

_SCRATCH: Final = ".scratch"
#: ``region_source`` of the rest of the body.
CT_NUMBERS: Final = "ct_numbers"


def step(job: Job) -> None:
    """Outline the regions of every time point; masses come from the CT under the outline."""
    review = {row["time_point"]: row for row in job.rows["review"]}
    refuse_rejected(review)
    specs = region_specs(job.rows["regions"])
    scans = [_scan_images(job, scan) for scan in job.rows["scans"]]
    specs, maps = with_spect_lesions(job, specs, scans, _label_maps(job, scans, specs, review))
    maps = _with_rest_of_body(scans, maps, specs)
    rows = region_rows(job, specs, scans, maps, review)
    write_rows(job.out, "region", rows)
    write_mask_sheet(job, in_order(specs), scans, maps, rows)
    hashes = {}
    for scan, made in zip(scans, maps, strict=True):
        path = job.out / scan_file(job.key, scan.time_point, "dseg.nii.gz")
        write_image(path, made.labels, made.image.grid, dtype="uint8")
        hashes[str(scan.time_point)] = voxels_sha256(made.labels.astype(np.float32), made.image.grid)
    write_sidecar(
        job.out / LABELS,
        {
            "regions": [asdict(spec) for spec in in_order(specs)],
            "labels_sha256": hashes,
            "demo_weights": any(model.virtual_only for made in maps for model in made.models.values()),
            "review": [row for _, row in sorted(review.items())],
        },
    )


def refuse_rejected(review: dict[int, Row]) -> None:
    """Refuse a cycle of which a reviewer has rejected a mask."""
    for row in review.values():
        if row["decision"] == "reject":
            raise ReviewRejectedError(
                "the masks were rejected in review",
                path="review.tsv",
                tag=f"time point {row['time_point']}",
                value=row["comment"] or f"by {row['reviewer']}",
            )


def _label_maps(
    job: Job, scans: Sequence[ScanImages], specs: dict[str, RegionSpec], review: dict[int, Row]
) -> list[LabelMap]:
    """From the back end, or from a person's edit, which the back end then need not see."""
    base = Path(job.rows["base"])
    edits = {point: row["label_map"] for point, row in review.items() if row["decision"] == "edit"}
    others = [scan for scan in scans if scan.time_point not in edits]
    scratch = job.out / _SCRATCH
    scratch.mkdir()
    options = Options(job.settings, base, job.rows["data_origin"], job.threads, job.gpus > 0, scratch)
    made = REGISTRY[job.settings["source"]](others, specs, options) if others else []
    shutil.rmtree(scratch)
    by_point = {scan.time_point: label_map for scan, label_map in zip(others, made, strict=True)}
    for scan in scans:
        if (edit := edits.get(scan.time_point)) is not None:
            by_point[scan.time_point] = label_map_from_contours(base / edit, scan.images, specs, edit)
    return [by_point[scan.time_point] for scan in scans]


def _with_rest_of_body(
    scans: Sequence[ScanImages], maps: Sequence[LabelMap], specs: dict[str, RegionSpec]
) -> list[LabelMap]:
    """Give what no region has to the rest of the body, if the sheet has one; what SPECT does not show is left out."""
    rest = next((spec for spec in specs.values() if spec.kind == "rest_of_body"), None)
    if rest is None:
        return list(maps)
    filled = []
    for scan, made in zip(scans, maps, strict=True):
        if scan.ct is None or made.image.modality != "CT":
            raise SegmentationError(
                "the rest of the body needs a CT on which the regions are drawn",
                path="regions.tsv",
                tag="kind",
                value=f"time point {scan.time_point}",
                remedy="Give the time point a CT, or take the region of kind rest_of_body out of the sheet.",
            )
        spect = next(image for image in scan.images if image.modality == "SPECT")
        body = body_mask(read_image(scan.ct)[0]) & inside_field(made.image.grid, spect.grid)
        labels = np.where((made.labels == 0) & body, np.uint8(rest.label), made.labels)
        filled.append(replace(made, labels=labels, sources={**made.sources, rest.region: CT_NUMBERS}))
    return filled


def _scan_images(job: Job, scan: Row) -> ScanImages:
    folder, point = job.one("ingest"), scan["time_point"]
    images = []
    for what, modality in (("ct", "CT"), ("spect", "SPECT")):
        path = folder / scan_file(job.key, point, f"{what}.nii.gz")
        if path.exists():
            sidecar = read_sidecar(folder / scan_file(job.key, point, f"{what}.json"))
            uids = sidecar["SeriesInstanceUID"], sidecar["FrameOfReferenceUID"]
            images.append((path, DrawnOn(modality, read_grid(path), *uids)))  # type: ignore[arg-type]
    contours = scan["contours"]
    return ScanImages(
        time_point=point,
        images=tuple(image for _, image in images),
        ct=next((path for path, image in images if image.modality == "CT"), None),
        contours=Path(job.rows["base"]) / contours if contours else None,
        contours_name=contours,
    )
