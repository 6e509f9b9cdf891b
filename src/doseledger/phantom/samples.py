"""Objects of every kind that a virtual cohort writes: ``python -m doseledger.phantom.samples OUT``.

For programs that check DICOM objects against the standard; nothing in them is anatomy.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final, get_args

import numpy as np

from doseledger.geometry import Grid
from doseledger.phantom.camera_study import write_camera_study
from doseledger.phantom.design import sites_of
from doseledger.phantom.dialects import DEFAULT_DIALECT, DIALECTS, SpectFacts, store_spect
from doseledger.phantom.dicom_base import Subject, Visit
from doseledger.phantom.dicom_contours import Outline, write_rtstruct
from doseledger.phantom.dicom_images import Injection, write_ct
from doseledger.phantom.dicom_seg import Segment, write_seg
from doseledger.phantom.scanner import CAMERAS, DecayCorrection
from doseledger.phantom.shapes import Ellipsoid, Image, occupancy

#: Small, and different along all three axes.
SAMPLE_GRID: Final = Grid((8, 20, 24), (6.0, 5.0, 4.0), (-46.0, -47.5, -21.0))
SAMPLE_INJECTION: Final = Injection("Lu177-DOTATATE", datetime(2025, 4, 7, 9, 5), 30.0, 7350.0)
SAMPLE_START: Final = datetime(2025, 4, 8, 9, 20)
#: On the left, behind and above the middle: every flip shows.
_ORGAN: Final = Ellipsoid.at((20.0, 15.0, 6.0), (15.0, 12.0, 11.0))
_BODY_BQ_PER_ML: Final = 2.0e4
_ORGAN_BQ_PER_ML: Final = 1.0e6
_TISSUE_HU: Final = 40.0
_SAMPLES_PER_AXIS: Final = 3
#: What can hold SUV, which a reader of activity must refuse.
SUV_DIALECTS: Final = ("pt-bqml", "nm-rwv")


def sample_visit(key: str) -> Visit:
    """A visit of a made-up patient; objects of one key share study and frame of reference."""
    subject = Subject("VIRTUAL^SAMPLE", "VIRTUAL-SAMPLE", "F", 60, 70.0, 170.0, "Virtual Hospital")
    return Visit(subject, CAMERAS[0], key, "Lu177 therapy cycle 1 SPECT/CT 1", SAMPLE_START)


def sample_reading() -> Image:
    """Activity concentration at scan start on `SAMPLE_GRID`, Bq/mL."""
    image = np.full(SAMPLE_GRID.shape, _BODY_BQ_PER_ML, dtype=np.float32)
    block, share = occupancy(_ORGAN, SAMPLE_GRID, _SAMPLES_PER_AXIS)
    image[block] += share * np.float32(_ORGAN_BQ_PER_ML - _BODY_BQ_PER_ML)
    return image


def write_samples(out: Path) -> None:
    """Write a CT, a SPECT in every dialect, a structure set and a segmentation, in folders by kind."""
    visit = sample_visit("samples")
    hounsfield = np.full(SAMPLE_GRID.shape, _TISSUE_HU, dtype=np.float32)
    ct_uids = write_ct(out / "ct", hounsfield, SAMPLE_GRID, visit, SAMPLE_START)
    for dialect in DIALECTS:
        store_spect(out / dialect, sample_reading(), SAMPLE_GRID, SpectFacts(visit, SAMPLE_INJECTION), dialect)
    write_rtstruct(out / "rtstruct" / "rtstruct.dcm", [_outline()], visit, ct_uids)
    write_seg(out / "seg" / "seg.dcm", [_segment()], SAMPLE_GRID, visit, ct_uids)


def write_variants(out: Path) -> None:
    """Write the SPECT as a PET series with each decay correction, and as SUV, in folders by kind."""
    for decay in get_args(DecayCorrection):
        visit = sample_visit(f"samples/{decay}")
        visit = replace(visit, camera=replace(visit.camera, decay_correction=decay))
        facts = SpectFacts(visit, SAMPLE_INJECTION)
        store_spect(out / f"{DEFAULT_DIALECT}-{decay.lower()}", sample_reading(), SAMPLE_GRID, facts)
    for dialect in SUV_DIALECTS:
        facts = SpectFacts(sample_visit("samples/SUV"), SAMPLE_INJECTION, as_suv=True)
        store_spect(out / f"{dialect}-suv", sample_reading(), SAMPLE_GRID, facts, dialect)


def write_camera_studies(out: Path) -> None:
    """Write the camera study of a site of each kind, full size, in folders by dialect."""
    for site in sites_of(len(CAMERAS)):
        write_camera_study(out / site.dialect, site, seed=1)


def _outline() -> Outline:
    heights = SAMPLE_GRID.origin_mm[2] + SAMPLE_GRID.spacing_mm[0] * np.arange(SAMPLE_GRID.shape[0])
    sections = {index: _ORGAN.section(float(z)) for index, z in enumerate(heights)}
    return Outline("Kidney L", "ORGAN", {index: points for index, points in sections.items() if points is not None})


def _segment() -> Segment:
    mask = np.zeros(SAMPLE_GRID.shape, dtype=np.bool_)
    block, share = occupancy(_ORGAN, SAMPLE_GRID, _SAMPLES_PER_AXIS)
    mask[block] = share >= 0.5
    return Segment("Kidney L", "64033007", "Kidney", mask, laterality="left")


if __name__ == "__main__":
    write_samples(Path(sys.argv[1]))
    write_variants(Path(sys.argv[1]))
    write_camera_studies(Path(sys.argv[1]) / "camera-study")
