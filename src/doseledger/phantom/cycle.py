"""One administered cycle of a virtual patient: what was given, and every scan of it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import exp
from pathlib import Path
from typing import Final

import numpy as np

from doseledger.geometry import Grid
from doseledger.nuclides import Nuclide, nuclide
from doseledger.phantom import design
from doseledger.phantom.design import FIELDS, INFUSION_MIN, Site, Size
from doseledger.phantom.dicom_base import Subject, Visit
from doseledger.phantom.dicom_contours import Outline, write_rtstruct
from doseledger.phantom.dicom_images import Injection, SpectScale, write_ct, write_spect
from doseledger.phantom.patients import VirtualPatient, stream
from doseledger.phantom.scanner import (
    frame_reference_ms,
    header_decay_factor,
    image_ct,
    image_spect,
    stored_per_start,
)
from doseledger.phantom.shapes import Image, Pose
from doseledger.phantom.sheets import REGION_ROWS
from doseledger.phantom.torso import ORGANS, Torso, activity_map, hounsfield
from doseledger.phantom.truth import Curve, draw_curves, in_cycle
from doseledger.units import BQ_PER_MBQ, G_PER_KG

#: Position of a patient in a scan against the patient at rest, uniform within.
_SHIFT_MM: Final = 5.0
_ROTATION_DEG: Final = 2.0
#: SPECT averages over breathing, CT does not: shift along z between them.
_BREATHING_MM: Final = 4.0
#: The CT follows the SPECT after this pause.
_PAUSE_BEFORE_CT: Final = timedelta(minutes=2)
_MIN_PER_H: Final = 60.0


@dataclass(frozen=True)
class Cycle:
    """What was given to a patient in one cycle, and where it went.

    Attributes
    ----------
    torso
        The patient at rest, in this cycle.
    curves
        True activity of each organ and of the ``rest`` of the body, from mid-infusion.
    measured_mbq, residual_mbq
        At injection start.
    """

    seed: int
    size: Size
    site: Site
    patient: VirtualPatient
    number: int
    torso: Torso
    curves: dict[str, Curve]
    injection: Injection
    measured_mbq: float
    residual_mbq: float
    nuclide: Nuclide

    @property
    def key(self) -> dict[str, object]:
        return {"site": self.site.label, "patient": self.patient.label, "cycle": self.number}

    @property
    def mid_infusion(self) -> datetime:
        return self.injection.start + timedelta(minutes=INFUSION_MIN / 2.0)

    def rng(self, *key: object) -> np.random.Generator:
        return stream(self.seed, *self.key.values(), *key)

    def field_activity_mbq(self, time_h: float, grid: Grid) -> dict[str, float]:
        """Activity in the field: of each organ, and of the part of the rest of the body that is in it."""
        organs = {organ: self.curves[organ].activity_mbq(time_h) for organ in ORGANS}
        share = self.torso.background_ml(grid) / (self.patient.body_ml - self.torso.organs_ml)
        return {**organs, "rest": share * self.curves["rest"].activity_mbq(time_h)}


@dataclass(frozen=True)
class Scan:
    """One SPECT/CT of a cycle.

    Attributes
    ----------
    pose
        Of the patient in the CT; the SPECT is shifted by `breathing_mm` along z against it.
    as_suv
        Stored as SUV (Units GML), which is no activity.
    """

    cycle: Cycle
    time_point: int
    start: datetime
    pose: Pose
    breathing_mm: float
    as_suv: bool

    @property
    def time_h(self) -> float:
        """Hours after mid-infusion."""
        return design.hours_between(self.cycle.mid_infusion, self.start)

    @property
    def folder(self) -> Path:
        site, patient, number = self.cycle.key.values()
        return Path(f"dicom/site-{site}/sub-{patient}/ses-c{number}/tp-{self.time_point}")

    @property
    def field_activity_mbq(self) -> dict[str, float]:
        """True activity in the SPECT field at scan start, by organ, and ``rest``."""
        return self.cycle.field_activity_mbq(self.time_h, FIELDS[self.cycle.size].spect)


def draw_cycle(seed: int, size: Size, site: Site, patient: VirtualPatient, index: int, number: int) -> Cycle:
    rng = stream(seed, "cycle", site.label, patient.label, number)
    spread = design.ACTIVITY_SPREAD_REL
    measured_mbq = round(design.NOMINAL_ACTIVITY_MBQ * float(rng.uniform(1.0 - spread, 1.0 + spread)), 1)
    residual_mbq = round(design.NOMINAL_RESIDUAL_MBQ * float(rng.uniform(0.6, 1.4)), 1)
    injection = Injection(
        radiopharmaceutical=design.RADIOPHARMACEUTICAL,
        start=design.injection_start(rng, site, index, number),
        infusion_min=INFUSION_MIN,
        administered_mbq=round(measured_mbq - residual_mbq, 1),
    )
    lutetium = nuclide(design.NUCLIDE)
    decay_to_zero = exp(-lutetium.decay_constant_per_h * INFUSION_MIN / _MIN_PER_H / 2.0)
    torso = in_cycle(patient.torso, patient.person, number)
    curves = draw_curves(rng, patient.person, torso, number, injection.administered_mbq * decay_to_zero, lutetium)
    return Cycle(
        seed=seed,
        size=size,
        site=site,
        patient=patient,
        number=number,
        torso=torso,
        curves=curves,
        injection=injection,
        measured_mbq=measured_mbq,
        residual_mbq=residual_mbq,
        nuclide=lutetium,
    )


def draw_scans(cycle: Cycle, nominal_times_h: Iterable[float], *, refused: bool) -> list[Scan]:
    """The scans of a cycle; the first one of a refused cycle is stored as SUV."""
    scans = []
    for time_point, nominal_h in enumerate(nominal_times_h, start=1):
        start = design.scan_start(cycle.rng("time", time_point), cycle.mid_infusion, nominal_h)
        pose, breathing_mm = _draw_pose(cycle.rng("pose", time_point))
        scans.append(Scan(cycle, time_point, start, pose, breathing_mm, as_suv=refused and time_point == 1))
    return scans


def write_scan(out: Path, scan: Scan) -> None:
    """Image the patient and write CT, structure set and SPECT."""
    cycle, folder, visit = scan.cycle, out / scan.folder, _visit(scan)
    fields, camera = FIELDS[cycle.size], cycle.site.camera

    lying = cycle.torso.moved(scan.pose)
    ct = image_ct(hounsfield(lying, fields.ct), cycle.rng("ct noise", cycle.size, scan.time_point))
    ct_start = scan.start + timedelta(seconds=camera.duration_s) + _PAUSE_BEFORE_CT
    ct_uids = write_ct(folder / "ct", ct, fields.ct, visit, ct_start)
    write_rtstruct(folder / "rtstruct.dcm", outlines(lying, fields.ct), visit, ct_uids)

    breathing = cycle.torso.moved(scan.pose.shifted(scan.breathing_mm))
    activity_mbq = scan.field_activity_mbq
    true_map = activity_map(breathing, fields.spect, activity_mbq, activity_mbq["rest"])
    reading = image_spect(true_map, fields.spect, camera, cycle.rng("spect noise", cycle.size, scan.time_point))
    _store_spect(folder / "spect", reading, scan, visit)


def outlines(torso: Torso, ct: Grid) -> list[Outline]:
    """Outlines of all organs on the slices of an axial CT grid."""
    drawn = []
    for row in REGION_ROWS:
        organ = torso.organs[str(row["region"])]
        heights = ct.origin_mm[2] + ct.spacing_mm[0] * np.arange(ct.shape[0])
        sections = {index: organ.section(float(z)) for index, z in enumerate(heights)}
        contours = {index: points for index, points in sections.items() if points is not None}
        drawn.append(Outline(str(row["source_name"]), "ORGAN" if row["kind"] == "organ" else "GTV", contours))
    return drawn


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
        camera=site.camera,
        key="/".join(str(part) for part in key),
        description=f"Lu177 therapy cycle {number} SPECT/CT {scan.time_point}",
        scan_start=scan.start,
    )


def _draw_pose(rng: np.random.Generator) -> tuple[Pose, float]:
    x, y, z = (float(v) for v in rng.uniform(-_SHIFT_MM, _SHIFT_MM, 3))
    pose = Pose(float(rng.uniform(-_ROTATION_DEG, _ROTATION_DEG)), (x, y, z))
    return pose, float(rng.uniform(-_BREATHING_MM, _BREATHING_MM))


def _store_spect(folder: Path, reading_bq_per_ml: Image, scan: Scan, visit: Visit) -> None:
    camera, injection = visit.camera, scan.cycle.injection
    since_injection_h = design.hours_between(injection.start, scan.start)
    factor = stored_per_start(camera, since_injection_h)
    if scan.as_suv:
        factor *= visit.subject.mass_kg * G_PER_KG / (injection.administered_mbq * BQ_PER_MBQ)
    scale = SpectScale(
        units="GML" if scan.as_suv else "BQML",
        decay_factor=header_decay_factor(camera, since_injection_h),
        frame_reference_ms=frame_reference_ms(camera),
    )
    values = reading_bq_per_ml * np.float32(factor)
    write_spect(folder, values, FIELDS[scan.cycle.size].spect, visit, injection, scale)
