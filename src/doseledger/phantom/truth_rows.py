"""Rows of the truth tables of a virtual cohort."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Final

from doseledger.phantom.cycle import Cycle, Scan
from doseledger.phantom.patients import VirtualPatient
from doseledger.phantom.sheets import Row
from doseledger.phantom.truth import REST, local_dose_gy, region_activity_mbq, region_half_life_h, region_tia_mbq_h
from doseledger.phantom.viscera import KIDNEY_BREATHING

WHOLE_FIELD: Final = "whole_field"
#: Columns of the packaged table of true doses that say which truth a dose belongs to.
_DOSE_KEY: Final = ("seed", "site", "patient", "cycle", "region", "organ_truth_sha256")


def organ_rows(cycle: Cycle) -> Iterator[Row]:
    """Rows of ``organ_truth``: every region of one cycle."""
    fingerprint = organ_truth_sha256(cycle)
    for region in cycle.torso.regions:
        mass_g, tia_mbq_h = cycle.torso.mass_g(region), region_tia_mbq_h(cycle.curves, region)
        yield {
            **cycle.key,
            "region": region,
            "mass_g": mass_g,
            "volume_ml": cycle.torso.volume_ml(region),
            "tia_mbq_h": tia_mbq_h,
            "dose_local_gy": local_dose_gy(tia_mbq_h, mass_g, cycle.nuclide),
            **dict(zip(("absorbed_dose_gy", "u_mc_rel"), true_dose(cycle, region, fingerprint), strict=True)),
            "effective_half_life_h": region_half_life_h(cycle.curves, region),
        }


def organ_truth_sha256(cycle: Cycle) -> str:
    """Hash of mass, volume and TIA of all organs as truth tables print them: does a dose belong to a truth?"""
    lines = [f"{REST},{cycle.curves[REST].tia_mbq_h:.8g}"]
    for organ, curve in sorted(cycle.curves.items()):
        if organ != REST:
            mass_g, volume_ml = cycle.torso.mass_g(organ), cycle.torso.volume_ml(organ)
            lines.append(f"{organ},{mass_g:.8g},{volume_ml:.8g},{curve.tia_mbq_h:.8g}")
    return sha256("\n".join(lines).encode()).hexdigest()


def true_dose(cycle: Cycle, region: str, fingerprint: str) -> tuple[float | None, float | None]:
    """Absorbed dose with all radiations, Gy, and its relative statistical uncertainty, by ``recipes/truth``.

    Both are None for a cohort that the recipe has not computed, or one whose truth has changed since.
    """
    key = (str(cycle.seed), *(str(part) for part in cycle.key.values()), region, fingerprint)
    return _true_doses().get(key, (None, None))


@cache
def _true_doses() -> dict[tuple[str, ...], tuple[float, float]]:
    text = (files("doseledger.phantom") / "true_dose.csv").read_text(encoding="utf-8")
    return {
        tuple(row[column] for column in _DOSE_KEY): (float(row["absorbed_dose_gy"]), float(row["u_mc_rel"]))
        for row in csv.DictReader(text.splitlines())
    }


def activity_rows(scan: Scan) -> Iterator[Row]:
    """Rows of ``activity_truth``: every region at one scan, and the whole field."""
    key = {**scan.cycle.key, "time_point": scan.time_point}
    for region in scan.cycle.torso.regions:
        activity_mbq = region_activity_mbq(scan.cycle.curves, region, scan.time_h)
        yield {**key, "region": region, "time_h": scan.time_h, "activity_mbq": activity_mbq}
    yield {**key, "region": WHOLE_FIELD, "time_h": scan.time_h, "activity_mbq": scan.whole_field_mbq}


def pose_row(scan: Scan) -> Row:
    """Row of ``pose_truth``."""
    (x, y, z), (mx, my, mz) = scan.pose.shift_mm, scan.motion.shift_mm
    return {
        **scan.cycle.key,
        "time_point": scan.time_point,
        "shift_x_mm": x,
        "shift_y_mm": y,
        "shift_z_mm": z,
        "rotation_z_deg": scan.pose.rotation_deg,
        "spect_minus_ct_z_mm": mz - scan.ct_breath_mm,
        "spect_minus_ct_x_mm": mx,
        "spect_minus_ct_y_mm": my,
        "spect_minus_ct_rotation_deg": scan.motion.rotation_deg,
        "kidneys_spect_minus_ct_z_mm": mz - KIDNEY_BREATHING * scan.ct_breath_mm,
        "breathing_range_mm": scan.breathing_mm,
        "since_void_h": scan.since_void_h,
    }


def planted_rows(patient: VirtualPatient) -> Iterator[Row]:
    """Rows of ``planted`` about one patient."""
    key = {"site": patient.site, "patient": patient.label}
    torso = patient.torso
    if len(torso.kidney_sides) == 1:
        yield {**key, "fact": "one_kidney", "detail": torso.kidney_sides[0]}
    if torso.contrast:
        yield {**key, "fact": "contrast_medium", "detail": "CT in the portal venous phase"}
    places = ", ".join(f"{lesion.name} {lesion.place}" for lesion in torso.lesions)
    yield {**key, "fact": "lesion_course", "detail": f"{patient.person.course}: {places}"}
