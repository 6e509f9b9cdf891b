"""One administered cycle of a virtual patient: what was given, where it went, and when it was scanned."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property
from math import exp
from pathlib import Path
from typing import Final

import numpy as np

from doseledger.nuclides import Nuclide, nuclide
from doseledger.phantom import design
from doseledger.phantom.activity import activity_map
from doseledger.phantom.design import Site, Size
from doseledger.phantom.dicom_images import Injection
from doseledger.phantom.patients import VirtualPatient, stream
from doseledger.phantom.persons import draw_curves, in_cycle
from doseledger.phantom.scanner import Camera
from doseledger.phantom.shapes import Image
from doseledger.phantom.torso import BLADDER, RESIDUAL_URINE_ML, Torso
from doseledger.phantom.truth import REST, VOIDING_H, Curve, urine_mbq, urine_tia_mbq_h
from doseledger.phantom.view import Pose, View
from doseledger.units import BQ_PER_MBQ

_MIN_PER_H: Final = 60.0
#: Position of a patient in a scan against the patient at rest: x and y, z, uniform within.
_SHIFT_MM: Final = 6.0
_SHIFT_Z_MM: Final = 9.0
_ROTATION_DEG: Final = 2.5
#: Movement between the SPECT and the CT of one scan, standard deviations.
_MOTION_MM: Final = 1.2
_MOTION_DEG: Final = 0.3
#: Place of the liver at the breath of the CT above its mean place: mean, standard deviation and limits.
#: Patients are asked to breathe out and wait.
_CT_BREATH_MM: Final = (2.5, 3.5, -6.0, 9.0)
#: Range of the liver with free breathing.
_BREATHING_MM: Final = (7.0, 17.0)
#: Patients go to the toilet before a scan.
_SINCE_VOID_H: Final = (0.2, 1.4)


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
        return self.injection.start + timedelta(minutes=self.injection.infusion_min / 2.0)

    @property
    def camera(self) -> Camera:
        return self.site.camera_of(self.size)

    def rng(self, *key: object) -> np.random.Generator:
        return stream(self.seed, *self.key.values(), *key)

    def torso_at(self, since_void_h: float) -> Torso:
        """The patient with the urine of some time since voiding."""
        return self.torso.with_urine(RESIDUAL_URINE_ML + self.patient.urine_ml_per_h * since_void_h)

    def organ_activity_mbq(self, time_h: float | None, since_void_h: float) -> dict[str, float]:
        """Activity of each organ; its time integral to infinity, MBq h, if `time_h` is None."""
        organs = {name: curve for name, curve in self.curves.items() if name != REST}
        if time_h is None:
            urine = urine_tia_mbq_h(self.curves, self.nuclide)
            return {**{name: curve.tia_mbq_h for name, curve in organs.items()}, BLADDER: urine}
        urine = urine_mbq(self.curves, time_h, since_void_h, self.nuclide)
        return {**{name: curve.activity_mbq(time_h) for name, curve in organs.items()}, BLADDER: urine}

    def rest_bq_per_ml(self, time_h: float | None) -> float:
        """Activity of the rest of the body over the volume of the body, or its time integral."""
        rest = self.curves[REST]
        activity_mbq = rest.tia_mbq_h if time_h is None else rest.activity_mbq(time_h)
        return activity_mbq * BQ_PER_MBQ / self.patient.body_ml

    def true_activity(
        self, time_h: float | None, view: View, *, since_void_h: float, breathing_mm: float = 0.0
    ) -> Image:
        """Activity concentration, Bq/mL, or its time integral, Bq h/mL, if `time_h` is None."""
        return activity_map(
            self.torso_at(since_void_h),
            view,
            self.organ_activity_mbq(time_h, since_void_h),
            self.rest_bq_per_ml(time_h),
            breathing_mm=breathing_mm,
        )


@dataclass(frozen=True)
class Scan:
    """One SPECT/CT of a cycle.

    Attributes
    ----------
    pose
        Of the patient in the CT.
    motion
        Between CT and SPECT.
    ct_breath_mm
        Place of the liver in the CT above its mean place; other organs move less.
    breathing_mm
        Range of the liver along z during the SPECT, about its mean place.
    as_suv
        Stored as SUV (Units GML), which is no activity.
    """

    cycle: Cycle
    time_point: int
    start: datetime
    pose: Pose
    motion: Pose
    ct_breath_mm: float
    breathing_mm: float
    since_void_h: float
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
    def torso(self) -> Torso:
        return self.cycle.torso_at(self.since_void_h)

    @property
    def ct_view(self) -> View:
        return View(self.cycle.site.fields(self.cycle.size).ct, self.pose, self.ct_breath_mm)

    @property
    def spect_view(self) -> View:
        return View(self.cycle.site.fields(self.cycle.size).spect, self.pose.then(self.motion))

    @cached_property
    def true_map(self) -> Image:
        """True activity concentration in the SPECT field at scan start, averaged over breathing, Bq/mL."""
        return self.cycle.true_activity(
            self.time_h, self.spect_view, since_void_h=self.since_void_h, breathing_mm=self.breathing_mm
        )

    @property
    def whole_field_mbq(self) -> float:
        """All activity in the SPECT field at scan start."""
        return float(self.true_map.sum(dtype=np.float64)) * self.spect_view.grid.voxel_volume_ml / BQ_PER_MBQ


def draw_cycle(seed: int, size: Size, site: Site, patient: VirtualPatient, index: int, number: int) -> Cycle:
    rng = stream(seed, "cycle", site.label, patient.label, number)
    pharmaceutical, spread = patient.pharmaceutical, design.ACTIVITY_SPREAD_REL
    measured_mbq = round(pharmaceutical.nominal_mbq * float(rng.uniform(1.0 - spread, 1.0 + spread)), 1)
    residual_mbq = round(design.NOMINAL_RESIDUAL_MBQ * float(rng.uniform(0.6, 1.4)), 1)
    injection = Injection(
        radiopharmaceutical=pharmaceutical.name,
        start=design.injection_start(rng, site, index, number),
        infusion_min=pharmaceutical.infusion_min,
        administered_mbq=round(measured_mbq - residual_mbq, 1),
    )
    source = nuclide(pharmaceutical.nuclide)
    decay_to_zero = exp(-source.decay_constant_per_h * injection.infusion_min / _MIN_PER_H / 2.0)
    torso = in_cycle(patient.torso, patient.person, number)
    given_mbq = injection.administered_mbq * decay_to_zero
    return Cycle(
        seed=seed,
        size=size,
        site=site,
        patient=patient,
        number=number,
        torso=torso,
        curves=draw_curves(rng, pharmaceutical, patient.person, torso, number, given_mbq, source),
        injection=injection,
        measured_mbq=measured_mbq,
        residual_mbq=residual_mbq,
        nuclide=source,
    )


def draw_scans(cycle: Cycle, nominal_times_h: Iterable[float], *, refused: bool) -> list[Scan]:
    """The scans of a cycle; the first one of a refused cycle is stored as SUV."""
    scans = []
    for time_point, nominal_h in enumerate(nominal_times_h, start=1):
        start = design.scan_start(cycle.rng("time", time_point), cycle.mid_infusion, nominal_h)
        scans.append(_draw_scan(cycle, time_point, start, as_suv=refused and time_point == 1))
    return scans


def default_since_void_h() -> float:
    """Half of the time between two visits to the toilet."""
    return VOIDING_H / 2.0


def _draw_scan(cycle: Cycle, time_point: int, start: datetime, *, as_suv: bool) -> Scan:
    rng = cycle.rng("pose", time_point)
    x, y = (float(v) for v in rng.uniform(-_SHIFT_MM, _SHIFT_MM, 2))
    z = float(rng.uniform(-_SHIFT_Z_MM, _SHIFT_Z_MM))
    pose = Pose(float(rng.uniform(-_ROTATION_DEG, _ROTATION_DEG)), (x, y, z))
    mx, my, mz = (float(v) for v in rng.normal(0.0, _MOTION_MM, 3))
    mean, sd, least, most = _CT_BREATH_MM
    return Scan(
        cycle=cycle,
        time_point=time_point,
        start=start,
        pose=pose,
        motion=Pose(float(rng.normal(0.0, _MOTION_DEG)), (mx, my, mz)),
        ct_breath_mm=float(np.clip(rng.normal(mean, sd), least, most)),
        breathing_mm=float(rng.uniform(*_BREATHING_MM)),
        since_void_h=float(rng.uniform(*_SINCE_VOID_H)),
        as_suv=as_suv,
    )
