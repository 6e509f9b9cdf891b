"""One cycle before any job runs: what its stages would refuse, and how much room they need.

The same functions as in the stages ``ingest`` and ``segment`` say it, with the same words.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from doseledger.cohort import Row
from doseledger.errors import DoseledgerError
from doseledger.io.dicom import CtSource, SpectSource, open_ct, open_spect
from doseledger.segmentation import (
    REGISTRY,
    DrawnOn,
    Options,
    ScanImages,
    check_scans,
    image_drawn_on,
    label_map_from_contours,
)
from doseledger.segmentation.labels import CONTOURS
from doseledger.steps.cross_check import CheckedScan, check_cycle
from doseledger.steps.preflight import Verdict
from doseledger.steps.segment import refuse_rejected
from doseledger.steps.specs import region_specs
from doseledger.steps.stage import refusal

#: Bytes that a voxel of the CT takes per time point: the image and its labels.
_CT_BYTES: Final = 3
#: Bytes of a voxel of SPECT, and maps of a cycle beside its images: TIA, and dose with its sd by two engines.
_SPECT_BYTES: Final = 4
_MAPS: Final = 5
#: Tables, pictures and pages of a cycle.
_PAGES_BYTES: Final = 4_000_000


@dataclass(frozen=True)
class Task:
    """What is known of a cycle before it is looked at, as plain data."""

    key: Row
    ingest: Row
    segment: Row
    settings: dict[str, Row]
    pixels: bool


def inspect_cycle(task: Task) -> Verdict:
    """Look at a cycle as its stages will, by the headers alone or with the pixels."""
    scans: list[CheckedScan[SpectSource, CtSource]] = []
    try:
        scans = check_cycle(task.ingest, task.settings["ingest"], open_spect=open_spect, open_ct=open_ct)
        if task.pixels:
            for scan in scans:
                scan.spect.read()
                if scan.ct:
                    scan.ct.read()
        _check_outlines(task, scans)
    except DoseledgerError as error:
        return Verdict(refusal(error, task.key, task.ingest["base"]), _room_bytes(scans), task.pixels)
    return Verdict(None, _room_bytes(scans), task.pixels)


def _check_outlines(task: Task, scans: Sequence[CheckedScan[SpectSource, CtSource]]) -> None:
    rows, settings = task.segment, task.settings["segment"]
    review = {row["time_point"]: row for row in rows["review"]}
    refuse_rejected(review)
    specs, base = region_specs(rows["regions"]), Path(rows["base"])
    options = Options(settings, base, task.ingest["data_origin"], threads=1, gpu=False, scratch=base)
    contours = {row["time_point"]: row["contours"] for row in rows["scans"]}
    images = [_scan_images(scan, base, contours[scan.row["time_point"]]) for scan in scans]
    edits = {point: row["label_map"] for point, row in review.items() if row["decision"] == "edit"}
    others = [scan for scan in images if scan.time_point not in edits]
    drawn = settings["source"] == CONTOURS
    if task.pixels and drawn and others:
        REGISTRY[CONTOURS](others, specs, options)
    elif others:
        check_scans(others, specs, options)
    look = label_map_from_contours if task.pixels else image_drawn_on
    for scan in images:
        if (edit := edits.get(scan.time_point)) is not None:
            look(base / edit, scan.images, specs, edit)


def _scan_images(scan: CheckedScan[SpectSource, CtSource], base: Path, contours: str | None) -> ScanImages:
    """The time point as the stage will find it, without its voxels."""
    images = [DrawnOn("SPECT", scan.spect.inspection.grid, *_uids(scan.spect))]
    if scan.ct:
        images.insert(0, DrawnOn("CT", scan.ct.inspection.grid, *_uids(scan.ct)))
    return ScanImages(
        time_point=scan.row["time_point"],
        images=tuple(images),
        ct=base / scan.row["ct"] if scan.ct else None,
        contours=base / contours if contours else None,
        contours_name=contours,
    )


def _uids(source: SpectSource | CtSource) -> tuple[str, str]:
    header = source.inspection.provenance
    return header.series_uid or "", header.frame_of_reference_uid or ""


def _room_bytes(scans: Sequence[CheckedScan[SpectSource, CtSource]]) -> int:
    """Room for a cycle's files, as if nothing were compressed."""
    if not scans:
        return 0
    spects = [_voxels(scan.spect) for scan in scans]
    cts = sum(_voxels(scan.ct) for scan in scans if scan.ct)
    # Every SPECT is there twice, as read and on the grid of the reference time point.
    return cts * _CT_BYTES + (2 * sum(spects) + _MAPS * max(spects)) * _SPECT_BYTES + _PAGES_BYTES


def _voxels(source: SpectSource | CtSource) -> int:
    z, y, x = source.inspection.grid.shape
    return z * y * x
