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
from doseledger.io.models import PhantomBody
from doseledger.nuclides import nuclide
from doseledger.phantom.camera_phantoms import Filled, Phantom, phantoms
from doseledger.phantom.design import FIELDS, NUCLIDE, Site
from doseledger.phantom.dialects import DIALECTS, SpectFacts, store_spect
from doseledger.phantom.dicom_base import Subject, Visit
from doseledger.phantom.dicom_contours import Outline, write_rtstruct
from doseledger.phantom.dicom_images import Injection, write_ct
from doseledger.phantom.patients import stream
from doseledger.phantom.scanner import image_ct, image_spect
from doseledger.phantom.shapes import Cylinder, Ellipsoid
from doseledger.phantom.sheets import MISSING
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

#: What the site states of its activity meter: a calibration that is traceable to a standard.
U_METER_REL: Final = 0.015
#: Phantoms and forms as the phantom sheet names them.
_SHEET_NAMES: Final = {"cylinder": "cylinder", "spheres": "nema", "kidneys": "kidney"}
_SHEET_FORMS: Final = {"cylinder": "cylinder", "sphere": "sphere", "ellipsoid": "ellipsoid", "shell": "ellipsoid"}

_MM_PER_CM: Final = 10.0
_DECIMALS_MM: Final = 3
#: The phantoms are scanned four weeks before the first patient, an hour after filling.
FIRST_SCAN: Final = datetime(2025, 3, 10, 9, 0)
_AFTER_FILLING: Final = timedelta(hours=1)
_BETWEEN_PHANTOMS: Final = timedelta(hours=2)
_PAUSE_BEFORE_CT: Final = timedelta(minutes=2)


def write_camera_study(
    out: Path, site: Site, seed: int, *, dialect: str | None = None, scan_start: datetime = FIRST_SCAN
) -> Path:
    """Image the three phantoms with the site's camera and write DICOM and truth.

    The cylinder gives the sensitivity where images are in counts: those of its photopeak over its
    activity and the time on the clock. It is what the site states times the calibration error.

    Parameters
    ----------
    out
        Folder to write to: ``<phantom>/spect``, ``<phantom>/ct``, ``<phantom>/rtstruct.dcm``, ``truth.csv``, and
        ``phantoms.tsv``, the sheet that a site writes: activities as its meter read them when the bodies were filled.
    dialect
        A key of `dialects.DIALECTS`; that of the site's own archive if none is given.
    scan_start
        Of the first phantom.

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
    rows, sheet = [], []
    for index, phantom in enumerate(phantoms()):
        start = scan_start + index * _BETWEEN_PHANTOMS
        _image(out / phantom.name, phantom, site, seed, start, dialect or site.dialect)
        rows += [_truth_row(site, phantom, part) for part in phantom.parts]
        sheet += [_sheet_row(site, phantom, part, start, dialect or site.dialect) for part in phantom.parts]
    _write_table(out / "phantoms.tsv", tuple(PhantomBody.model_fields), sheet, "\t")
    path = out / "truth.csv"
    _write_table(path, TRUTH_COLUMNS, rows, ",")
    return path


def _write_table(path: Path, columns: Sequence[str], rows: Sequence[dict[str, object]], delimiter: str) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.DictWriter(file, columns, restval=MISSING, delimiter=delimiter, lineterminator="\n")
        table.writeheader()
        table.writerows(rows)


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
    filling = Injection(
        radiopharmaceutical="Lu177-chloride",
        start=scan_start - _AFTER_FILLING,
        infusion_min=0.0,
        administered_mbq=round(phantom.activity_mbq * _decay_since_filling(), 1),
    )
    ct = image_ct(phantom.hounsfield(fields.ct), stream(seed, *key, "ct noise"), radius_mm=phantom.radius_mm)
    ct_start = scan_start + timedelta(seconds=camera.duration_s) + _PAUSE_BEFORE_CT
    ct_uids = write_ct(folder / "ct", ct, fields.ct, visit, ct_start)
    write_rtstruct(folder / "rtstruct.dcm", _outlines(phantom.parts, fields.ct), visit, ct_uids)
    truth, rng = phantom.activity_map(fields.spect), stream(seed, *key, "spect noise")
    reading = image_spect(truth, fields.spect, camera, rng, radius_mm=phantom.radius_mm)
    store_spect(folder / "spect", reading, fields.spect, SpectFacts(visit, filling), dialect)


def _decay_since_filling() -> float:
    """Activity at filling over that at scan start."""
    return exp(nuclide(NUCLIDE).decay_constant_per_h * _AFTER_FILLING.total_seconds() / SECONDS_PER_HOUR)


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


def _sheet_row(site: Site, phantom: Phantom, part: Filled, scan_start: datetime, dialect: str) -> dict[str, object]:
    """What the site writes down of a body; its activity meter reads the truth."""
    hollow = part.hollow
    return {
        "site": site.label,
        "camera": site.camera.name,
        "data_origin": "virtual",
        "phantom": _SHEET_NAMES[phantom.name],
        "spect": f"{phantom.name}/spect",
        "contours": f"{phantom.name}/rtstruct.dcm",
        "body": part.name,
        "shape": _SHEET_FORMS[part.shape],
        "size_mm": _diameters(part.solid),
        "hollow_mm": MISSING if hollow is None else _diameters(hollow),
        "volume_ml": f"{part.volume_ml:.6g}",
        "nuclide": NUCLIDE,
        "activity_mbq": f"{part.activity_mbq * _decay_since_filling():.8g}",
        "activity_time": (scan_start - _AFTER_FILLING).isoformat(),
        "u_activity_rel": U_METER_REL,
        "detectors": DIALECTS[dialect].camera_columns(site.camera).get("detectors", MISSING),
    }


def _diameters(solid: Ellipsoid | Cylinder) -> str:
    return "x".join(f"{2.0 * float(half):g}" for half in solid.half_mm)
