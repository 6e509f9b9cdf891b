"""Lesions by a threshold on SPECT, beside the regions that were outlined.

They are looked for in the body, outside every outlined region and a margin around it: a lesion inside an
outlined organ (liver) is not found and stays part of the organ, unless it is outlined. Its maximum must be
above the uptake of a reference region, by default the liver. That is the usual criterion for therapy
(Krenning score 3 for somatostatin receptors; PSMA-positive above the liver), and it holds from hours to days,
while the contrast to the blood changes by ten. One lesion has one name in all scans of the cycle,
``lesion_t1``, ``lesion_t2``, ...: those of the first scan from the hottest on, then those of later ones.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import SegmentationError, SheetError
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image
from doseledger.regions import RegionSpec, hard_labels, region_fractions, volume_average
from doseledger.regions.body import body_mask
from doseledger.regions.hot_spots import THRESHOLD, hot_spots
from doseledger.regions.lesion_series import median_shift_mm, names_in_series
from doseledger.regions.lesions import Delineation, FixedConcentration, PercentOfMaximum
from doseledger.regions.margins import grown
from doseledger.registration import Transform, resample
from doseledger.segmentation import LabelMap, ScanImages
from doseledger.steps.layout import scan_file
from doseledger.steps.stage import Job

#: Start of the names of lesions by a threshold; a number follows. Nothing in a region sheet may look like one.
PREFIX: Final = "lesion_t"
_RESERVED: Final = re.compile(rf"{PREFIX}\d+")
#: Labels are bytes.
MOST_LABELS: Final = 255
#: More than this share of the scans of a cycle must show a lesion: noise and the content of the bowel do not stay.
SHARE_OF_SCANS: Final = 0.5


def with_spect_lesions(
    job: Job, specs: Mapping[str, RegionSpec], scans: Sequence[ScanImages], maps: Sequence[LabelMap]
) -> tuple[dict[str, RegionSpec], list[LabelMap]]:
    """Specs and label maps with the lesions that config ``segment.lesions`` asks for, if it does.

    Raises
    ------
    SheetError
        A region of the sheet has a name that is given to lesions here.
    SegmentationError
        More lesions than labels are left.
    """
    settings = job.settings["lesions"]
    if settings is None:
        return dict(specs), list(maps)
    _refuse_reserved(specs)
    found = [_delineated(job, settings, specs, scan, made) for scan, made in zip(scans, maps, strict=True)]
    organs = [spec.label for spec in specs.values() if spec.kind == "organ"]
    first = maps[0]
    shifts_mm = [
        median_shift_mm(first.labels, first.image.grid, made.labels, made.image.grid, {k: k for k in organs})
        for made in maps
    ]
    names = _lasting(names_in_series(found, shifts_mm))
    new = _new_specs(specs, sorted({name for scan in names for name in scan if name}, key=_number))
    painted = [
        _painted(made, delineation, _taken(made, specs), [None if name is None else new[name] for name in scan])
        for made, delineation, scan in zip(maps, found, names, strict=True)
    ]
    return {**specs, **new}, painted


def _refuse_reserved(specs: Mapping[str, RegionSpec]) -> None:
    for spec in specs.values():
        if _RESERVED.fullmatch(spec.region):
            raise SheetError(
                "the name of the region is given to lesions that a threshold finds",
                path="regions.tsv",
                tag="region",
                value=spec.region,
                expected=f"no name of the form {PREFIX}1 while the config has segment.lesions",
            )


def _delineated(
    job: Job, settings: Mapping[str, Any], specs: Mapping[str, RegionSpec], scan: ScanImages, made: LabelMap
) -> Delineation:
    """Lesions of one scan on the grid of its SPECT, Bq/mL at scan start."""
    spect, grid = read_image(job.one("ingest") / scan_file(job.key, scan.time_point, "spect.nii.gz"))
    share, level = settings["percent_of_maximum"], settings["bq_per_ml"]
    outlined = hard_labels(region_fractions(_taken(made, specs), made.image.grid, grid), grid.shape)
    reference = spect[outlined == _reference_label(specs, settings["reference_region"])]
    if not reference.size:
        raise SegmentationError(
            "the region that lesions are compared with is not in the masks",
            path="config.yaml",
            tag="segment.lesions.reference_region",
            value=settings["reference_region"],
            expected=f"a region of the masks of time point {scan.time_point}",
            remedy="Name a region that every scan shows, or outline it.",
        )
    return hot_spots(
        spect,
        grid,
        FixedConcentration(level) if share is None else PercentOfMaximum(share),
        searched=_body(scan, grid) & ~grown(outlined > 0, grid, settings["organ_margin_mm"]),
        # The median: an outline of the liver goes around the lesions in it.
        least_bq_per_ml=settings["min_reference_ratio"] * max(float(np.median(reference)), 0.0),
        min_volume_ml=settings["min_volume_ml"],
    )


def _reference_label(specs: Mapping[str, RegionSpec], region: str) -> int | None:
    return next((spec.label for spec in specs.values() if spec.region == region), None)


def _body(scan: ScanImages, grid: Grid) -> NDArray[np.bool_]:
    """The patient on the grid of the SPECT; all of the field where there is no CT."""
    if scan.ct is None:
        return np.ones(grid.shape, np.bool_)
    hu, ct_grid = read_image(scan.ct)
    return volume_average(body_mask(hu).astype(np.float32), ct_grid, grid, outside=0.0) >= 0.5


def _lasting(names: Sequence[Sequence[str]]) -> list[list[str | None]]:
    """Final names, numbered without gaps; None for what too few scans show."""
    seen = Counter(name for scan in names for name in scan)
    lasting = sorted((n for n, count in seen.items() if count > SHARE_OF_SCANS * len(names)), key=_number)
    final = {name: f"{PREFIX}{number}" for number, name in enumerate(lasting, start=1)}
    return [[final.get(name) for name in scan] for scan in names]


def _number(name: str) -> int:
    return int("".join(c for c in name if c.isdigit()))


def _new_specs(specs: Mapping[str, RegionSpec], names: Sequence[str]) -> dict[str, RegionSpec]:
    last = max(spec.label for spec in specs.values())
    if last + len(names) > MOST_LABELS:
        raise SegmentationError(
            "a label map cannot hold that many lesions",
            path="config.yaml",
            tag="segment.lesions",
            value=len(names),
            expected=f"at most {MOST_LABELS - last} beside the {last} regions of the sheet",
            remedy="Raise min_reference_ratio or min_volume_ml, or check the masks: what is not outlined is a lesion.",
        )
    return {name: RegionSpec(last + n, name, "lesion") for n, name in enumerate(names, start=1)}


def _taken(made: LabelMap, specs: Mapping[str, RegionSpec]) -> NDArray[np.uint8]:
    """The label map without the rest of the body, in which lesions lie."""
    rest = [spec.label for spec in specs.values() if spec.kind == "rest_of_body"]
    return np.where(np.isin(made.labels, rest), 0, made.labels).astype(np.uint8)


def _painted(
    made: LabelMap, found: Delineation, taken: NDArray[np.uint8], specs: Sequence[RegionSpec | None]
) -> LabelMap:
    """The lesions in the label map, where nothing else is: a voxel belongs where its middle lies."""
    values = np.zeros(len(specs) + 1, np.float32)
    for lesion, spec in zip(found.lesions, specs, strict=True):
        values[lesion.label] = 0 if spec is None else spec.label
    lesions = values[found.labels]
    if not found.grid.same_as(made.image.grid):
        lesions = resample(lesions, found.grid, made.image.grid, Transform.identity(), outside=0.0, nearest=True)
    labels = np.where((taken == 0) & (lesions > 0), lesions.astype(np.uint8), made.labels)
    sources = {spec.region: THRESHOLD for spec in specs if spec is not None}
    return replace(made, labels=labels, sources={**made.sources, **sources})
