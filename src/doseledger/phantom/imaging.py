"""Images of a scan as DICOM files: CT, outlines and SPECT."""

from __future__ import annotations

from datetime import timedelta
from math import pi, sqrt
from pathlib import Path
from typing import Final

import numpy as np

from doseledger.phantom.cycle import Scan
from doseledger.phantom.dialects import SpectFacts, store_spect
from doseledger.phantom.dicom_base import Subject, Visit
from doseledger.phantom.dicom_contours import write_rtstruct
from doseledger.phantom.dicom_images import write_ct
from doseledger.phantom.outlines import outlines
from doseledger.phantom.parts import Layer, Part
from doseledger.phantom.render import paint_hounsfield, painted_layers
from doseledger.phantom.scanner import image_ct, image_spect
from doseledger.phantom.shapes import Image
from doseledger.phantom.table import SHELL
from doseledger.phantom.torso import Torso
from doseledger.phantom.view import View
from doseledger.units import MM3_PER_ML

#: The CT follows the SPECT after this pause.
_PAUSE_BEFORE_CT: Final = timedelta(minutes=2)


def write_scan(out: Path, scan: Scan) -> None:
    """Image the patient and write CT, structure set and SPECT."""
    cycle, folder, visit = scan.cycle, out / scan.folder, _visit(scan)
    camera, view = cycle.camera, scan.ct_view
    radius_mm = body_radius_mm(scan.torso)

    image = image_ct(
        hounsfield(scan.torso, view), cycle.rng("ct noise", cycle.size, scan.time_point), radius_mm=radius_mm
    )
    ct_start = scan.start + timedelta(seconds=camera.duration_s) + _PAUSE_BEFORE_CT
    ct_uids = write_ct(folder / "ct", image, view.grid, visit, ct_start)
    write_rtstruct(folder / "rtstruct.dcm", outlines(scan.torso, view), visit, ct_uids)

    grid = scan.spect_view.grid
    rng = cycle.rng("spect noise", cycle.size, scan.time_point)
    reading = image_spect(scan.true_map, grid, camera, rng, radius_mm=radius_mm)
    facts = SpectFacts(visit, cycle.injection, as_suv=scan.as_suv)
    store_spect(folder / "spect", reading, grid, facts, cycle.site.dialect)


def hounsfield(torso: Torso, view: View) -> Image:
    """CT numbers without noise, HU ``(z, y, x)``: the patient as the view shows him, and the table."""
    image = paint_hounsfield(
        torso.parts, torso.organs.values(), torso.on_top, view, torso.texture, contrast=torso.contrast
    )
    table = Part(torso.table, (Layer(0.0, SHELL),))
    for block, share, tissue in painted_layers(table, View(view.grid)):
        # The mattress gives way: where a patient lies deeper, the table does not shine through.
        image[block] = np.maximum(image[block], image[block] + share * (np.float32(tissue.hu) - image[block]))
    return image


def body_radius_mm(torso: Torso) -> float:
    """Radius of the circle with the area of the patient's waist."""
    return sqrt(torso.habitus.section_ml_per_mm(0.0) * MM3_PER_ML / pi)


def _visit(scan: Scan) -> Visit:
    patient, site, number = scan.cycle.patient, scan.cycle.site, scan.cycle.number
    subject = Subject(
        name=f"VIRTUAL^{site.label}^{patient.label}",
        patient_id=f"VIRTUAL-{site.label}-{patient.label}",
        sex=patient.sex,
        age_years=patient.age_years,
        mass_kg=patient.mass_kg,
        height_cm=patient.height_cm,
        institution=site.institution,
    )
    # Whatever changes the pixels is in the key: two different images never share a UID.
    unit = "GML" if scan.as_suv else "BQML"
    key = (scan.cycle.seed, scan.cycle.size, *scan.cycle.key.values(), scan.time_point, unit)
    return Visit(
        subject=subject,
        camera=scan.cycle.camera,
        key="/".join(str(part) for part in key),
        description=f"Lu177 therapy cycle {number} SPECT/CT {scan.time_point}",
        scan_start=scan.start,
    )
