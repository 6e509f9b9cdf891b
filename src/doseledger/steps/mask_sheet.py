"""The contact sheet of a segment stage: what a person looks at before accepting the masks."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from doseledger.cohort import Row
from doseledger.io.nifti import read_image
from doseledger.regions import RegionSpec
from doseledger.regions.gate import DEMO_WEIGHTS
from doseledger.report.contact_sheet import ScanPanel, contact_sheet, region_styles
from doseledger.segmentation import LabelMap, ScanImages
from doseledger.steps.layout import scan_file
from doseledger.steps.pictures import DEMO_NOTICE
from doseledger.steps.stage import Job

FILE: Final = "contact_sheet.png"


def write_mask_sheet(
    job: Job,
    specs: Sequence[RegionSpec],
    scans: Sequence[ScanImages],
    maps: Sequence[LabelMap],
    rows: Sequence[Row],
) -> None:
    """Write the sheet of all time points of the cycle, with the flags of the gate."""
    panels = [_panel(job, scan, made, rows) for scan, made in zip(scans, maps, strict=True)]
    styles = region_styles({spec.label: spec.region for spec in specs})
    demo = any(model.virtual_only for made in maps for model in made.models.values())
    png = contact_sheet(panels, styles, title=f"Masks of {job.where}", mark=DEMO_NOTICE if demo else None)
    (job.out / FILE).write_bytes(png)


def _panel(job: Job, scan: ScanImages, made: LabelMap, rows: Sequence[Row]) -> ScanPanel:
    spect, spect_grid = read_image(_spect(job, scan))
    hu, ct_grid = read_image(scan.ct) if scan.ct is not None else (None, None)
    return ScanPanel(
        time_point=f"time point {scan.time_point}",
        labels=made.labels,
        labels_grid=made.image.grid,
        hu=hu,
        ct_grid=ct_grid,
        spect_bq_per_ml=spect,
        spect_grid=spect_grid,
        flags={row["region"]: _shown(row) for row in rows if row["time_point"] == scan.time_point},
    )


def _shown(row: Row) -> list[str]:
    """The flags of a region; what is printed large across the sheet is not said again for each."""
    return [flag for flag in row["flags"] if flag != DEMO_WEIGHTS]


def _spect(job: Job, scan: ScanImages) -> Path:
    return job.one("ingest") / scan_file(job.key, scan.time_point, "spect.nii.gz")
