"""What a site images to characterise its camera: a cylinder, hot spheres and kidney-shaped inserts, with their truth.

The phantoms of `camera_phantoms`, each as SPECT, CT and outlines in DICOM.

The images carry the camera's own calibration error, the truth does not: it is what a reference laboratory measures.
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from math import exp
from pathlib import Path
from typing import Final

import numpy as np

from doseledger.geometry import Grid
from doseledger.nuclides import nuclide
from doseledger.phantom.camera_phantoms import Filled, Phantom, phantoms
from doseledger.phantom.design import FIELDS, NUCLIDE, Site
from doseledger.phantom.dialects import SpectFacts, store_spect
from doseledger.phantom.dicom_base import Subject, Visit
from doseledger.phantom.dicom_contours import Outline, write_rtstruct
from doseledger.phantom.dicom_images import Injection, write_ct
from doseledger.phantom.patients import stream
from doseledger.phantom.scanner import image_ct, image_spect
from doseledger.units import G_PER_KG, SECONDS_PER_HOUR

TRUTH_COLUMNS: Final = (
    "site",
    "camera",
    "phantom",
    "object",
    "shape",
    "activity_mbq",
    "volume_ml",
    "outline_ml",
    "centre_x_mm",
    "centre_y_mm",
    "centre_z_mm",
)

_MM_PER_CM: Final = 10.0
_DECIMALS_MM: Final = 3
#: The phantoms are scanned four weeks before the first patient, an hour after filling.
_FIRST_SCAN: Final = datetime(2025, 3, 10, 9, 0)
_AFTER_FILLING: Final = timedelta(hours=1)
_BETWEEN_PHANTOMS: Final = timedelta(hours=2)
_PAUSE_BEFORE_CT: Final = timedelta(minutes=2)


def write_camera_study(out: Path, site: Site, seed: int, *, dialect: str | None = None) -> Path:
    """Image the three phantoms with the site's camera and write DICOM and truth.

    The cylinder gives the sensitivity where images are in counts: those of its photopeak over its
    activity and the time on the clock. It is what the site states times the calibration error.

    Parameters
    ----------
    out
        Folder to write to: ``<phantom>/spect``, ``<phantom>/ct``, ``<phantom>/rtstruct.dcm`` and ``truth.csv``.
    dialect
        A key of `dialects.DIALECTS`; that of the site's own archive if none is given.

    Returns
    -------
    Path
        ``truth.csv``: activity at the start of the SPECT, and volume, of every part. `outline_ml` is the
        volume that its outline encloses: the outlines of the kidneys go around their hollows.

    Raises
    ------
    UnknownNameError
        There is no such dialect.
    """
    rows = []
    for index, phantom in enumerate(phantoms()):
        scan_start = _FIRST_SCAN + index * _BETWEEN_PHANTOMS
        _image(out / phantom.name, phantom, site, seed, scan_start, dialect or site.dialect)
        rows += [_truth_row(site, phantom, part) for part in phantom.parts]
    path = out / "truth.csv"
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, TRUTH_COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)
    return path


def _image(folder: Path, phantom: Phantom, site: Site, seed: int, scan_start: datetime, dialect: str) -> None:
    fields, key = FIELDS["demo"], (site.label, "phantom", phantom.name)
    # Phantoms are shorter than a field: one bed position has all of the time.
    camera = replace(site.camera, bed_times=(1.0,))
    visit = Visit(
        subject=_subject(site, phantom),
        camera=camera,
        key="/".join(str(part) for part in (seed, *key)),
        description=f"Lu177 phantom {phantom.name} SPECT/CT",
        scan_start=scan_start,
    )
    decay_h = _AFTER_FILLING.total_seconds() / SECONDS_PER_HOUR
    filling = Injection(
        radiopharmaceutical="Lu177-chloride",
        start=scan_start - _AFTER_FILLING,
        infusion_min=0.0,
        administered_mbq=round(phantom.activity_mbq * exp(nuclide(NUCLIDE).decay_constant_per_h * decay_h), 1),
    )
    ct = image_ct(phantom.hounsfield(fields.ct), stream(seed, *key, "ct noise"), radius_mm=phantom.radius_mm)
    ct_start = scan_start + timedelta(seconds=camera.duration_s) + _PAUSE_BEFORE_CT
    ct_uids = write_ct(folder / "ct", ct, fields.ct, visit, ct_start)
    write_rtstruct(folder / "rtstruct.dcm", _outlines(phantom.parts, fields.ct), visit, ct_uids)
    truth, rng = phantom.activity_map(fields.spect), stream(seed, *key, "spect noise")
    reading = image_spect(truth, fields.spect, camera, rng, radius_mm=phantom.radius_mm)
    store_spect(folder / "spect", reading, fields.spect, SpectFacts(visit, filling), dialect)


def _subject(site: Site, phantom: Phantom) -> Subject:
    return Subject(
        name=f"PHANTOM^{site.label}^{phantom.name}",
        patient_id=f"PHANTOM-{site.label}-{phantom.name}",
        sex="O",
        age_years=0,
        # Water: one gram per millilitre.
        mass_kg=phantom.volume_ml / G_PER_KG,
        height_cm=2.0 * float(phantom.body.half_mm[2]) / _MM_PER_CM,
        institution=site.institution,
    )


def _outlines(parts: Sequence[Filled], ct: Grid) -> list[Outline]:
    heights = ct.origin_mm[2] + ct.spacing_mm[0] * np.arange(ct.shape[0])
    drawn = []
    for part in parts:
        sections = {index: part.section(float(z)) for index, z in enumerate(heights)}
        contours = {index: points for index, points in sections.items() if points is not None}
        drawn.append(Outline(part.name, "ORGAN", contours))
    return drawn


def _truth_row(site: Site, phantom: Phantom, part: Filled) -> dict[str, object]:
    x, y, z = (round(float(coordinate), _DECIMALS_MM) + 0.0 for coordinate in part.solid.centre_mm)
    numbers = {
        "activity_mbq": part.activity_mbq,
        "volume_ml": part.volume_ml,
        "outline_ml": part.outline_ml,
        "centre_x_mm": x,
        "centre_y_mm": y,
        "centre_z_mm": z,
    }
    return {
        "site": site.label,
        "camera": site.camera.name,
        "phantom": phantom.name,
        "object": part.name,
        "shape": part.shape,
        **{name: f"{value:.8g}" for name, value in numbers.items()},
    }
