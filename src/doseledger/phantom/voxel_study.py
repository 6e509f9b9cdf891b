"""One treatment of the voxel patient as a small cohort of its own: DICOM, sheets, config and truth."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import numpy as np

from doseledger.geometry import Grid, Vector
from doseledger.nuclides import nuclide
from doseledger.phantom import design, sheets
from doseledger.phantom.design import FIELDS, INFUSION_MIN, Site
from doseledger.phantom.dialects import SpectFacts, store_spect
from doseledger.phantom.dicom_base import Subject, Visit
from doseledger.phantom.dicom_contours import Outline, write_rtstruct
from doseledger.phantom.dicom_images import Injection, write_ct
from doseledger.phantom.patients import stream
from doseledger.phantom.pixel_contour import mask_contour
from doseledger.phantom.records import Records
from doseledger.phantom.scanner import CT_RANGE_HU, image_spect
from doseledger.phantom.torso import SUMS
from doseledger.phantom.truth import local_dose_gy, region_activity_mbq, region_half_life_h, region_tia_mbq_h
from doseledger.phantom.truth_rows import WHOLE_FIELD
from doseledger.phantom.voxel_patient import REGIONS, VoxelPatient, read_voxel_patient, resample_mean
from doseledger.units import BQ_PER_MBQ

PATIENT: Final = "P15"
CYCLE: Final = 1
#: Chosen: the source states neither activity, times nor body size.
ADMINISTERED_MBQ: Final = 7400.0
INJECTION_START: Final = datetime(2025, 4, 7, 10, 0)
SCAN_TIMES_H: Final = (24.0, 96.0, 168.0)
_PAUSE_BEFORE_CT: Final = timedelta(minutes=2)
_AGE_YEARS: Final = 60
_MASS_KG: Final = 70.0
_HEIGHT_CM: Final = 165
#: As the tables of the cohort name them: those of the maps, and their sums.
_REGIONS: Final = (*REGIONS, *SUMS)

README: Final = """\
# Truth of the voxel patient

Real are the CT and the outlines of the regions, drawn at the Christie NHS Foundation Trust. Source:
Phantoms-For-Nuclear-Medicine-Imaging-Simulation, patient_LuDOTATATE_phantoms, licence MIT. The shares of
the regions in 235 MBq are the example of the same publication, taken here as the activity 24 h after
mid-infusion. Chosen are the administered activity, the half-lives, the activity in the rest of the body
and all times. The patient neither moves nor breathes.

* `organ_truth.csv`: volume and mass of the voxels of the region; time-integrated activity of one
  exponential from time zero, the middle of the infusion, to infinity. `dose_local_gy` is the energy of the
  electrons of the region's own decays over its mass: photons, and radiation that enters from or leaves to
  other regions, are not in it. The dose with all radiations, `absorbed_dose_gy`, has not been computed.
* `activity_truth.csv`: activity at scan start; `whole_field` is everything in the SPECT field.
* `planted.csv`: how the site's archive stores images, its calibration error and its decay correction.

Images carry the site's calibration error and noise; the truth does not.
"""


def simulate_patient15(
    folder: Path, out: Path, *, site: Site | None = None, seed: int = 1, results: str = "../results"
) -> Path:
    """Write a cohort of one patient, one cycle and three scans.

    Parameters
    ----------
    folder
        Holds the voxel maps, see `read_voxel_patient`.
    site
        Whose camera images the patient and whose archive exports the images; site A if none is given.

    Returns
    -------
    Path
        The config file.

    Raises
    ------
    DoseledgerError
        The voxel maps cannot be used, see `read_voxel_patient`.
    """
    patient = read_voxel_patient(folder)
    site = site or Site("A", 0)
    records = Records()
    records.add_site(site)
    _record_treatment(records, patient, site)
    mid_infusion = INJECTION_START + timedelta(minutes=INFUSION_MIN / 2.0)
    for time_point, time_h in enumerate(SCAN_TIMES_H, start=1):
        visit = _visit(site, seed, time_point, mid_infusion + timedelta(hours=time_h))
        place = Path(f"dicom/site-{site.label}/sub-{PATIENT}/ses-c{CYCLE}/tp-{time_point}")
        rng = stream(seed, "voxel patient", time_point)
        in_field_mbq = _write_scan(out / place, patient, visit, time_h, rng, site.dialect)
        _record_scan(records, patient, site, time_point, time_h, place, in_field_mbq)
    records.write(out)
    (out / "truth" / "README.md").write_text(README, encoding="utf-8")
    config = out / "config.yaml"
    sheets.write_config(config, "patient15", results)
    return config


def _write_scan(
    folder: Path, patient: VoxelPatient, visit: Visit, time_h: float, rng: np.random.Generator, dialect: str
) -> float:
    """Write CT, structure set and SPECT; returns the true activity in the SPECT field, MBq."""
    ct_start = visit.scan_start + timedelta(seconds=visit.camera.duration_s) + _PAUSE_BEFORE_CT
    # The CT is a real one, with its own noise.
    ct_uids = write_ct(folder / "ct", np.clip(patient.hu, *CT_RANGE_HU), patient.grid, visit, ct_start)
    write_rtstruct(folder / "rtstruct.dcm", _outlines(patient), visit, ct_uids)
    field = FIELDS["demo"].spect
    grid = Grid(field.shape, field.spacing_mm, _centred_origin(field, patient.grid))
    true_map = resample_mean(patient.activity_bq_per_ml(time_h), patient.grid, grid)
    reading = image_spect(true_map, grid, visit.camera, rng, radius_mm=patient.radius_mm)
    injection = Injection(design.RADIOPHARMACEUTICAL, INJECTION_START, INFUSION_MIN, ADMINISTERED_MBQ)
    store_spect(folder / "spect", reading, grid, SpectFacts(visit, injection), dialect)
    return float(true_map.sum(dtype=np.float64)) * grid.voxel_volume_ml / BQ_PER_MBQ


def _centred_origin(field: Grid, patient: Grid) -> Vector:
    x, y, z = (o + p - f for o, p, f in zip(field.origin_mm, patient.centre_mm, field.centre_mm, strict=True))
    return (x, y, z)


def _outlines(patient: VoxelPatient) -> list[Outline]:
    drawn = []
    for region in REGIONS:
        mask = patient.masks[region]
        contours = {}
        for index in np.flatnonzero(mask.any(axis=(1, 2))):
            corners = mask_contour(mask[index])
            places = np.column_stack([np.full(len(corners), float(index)), corners])
            contours[int(index)] = np.array([patient.grid.position_mm(place) for place in places])
        kind = "GTV" if region.startswith("lesion") else "ORGAN"
        drawn.append(Outline(sheets.SOURCE_NAMES[region], kind, contours))
    return drawn


def _visit(site: Site, seed: int, time_point: int, scan_start: datetime) -> Visit:
    subject = Subject(
        name=f"VIRTUAL^{site.label}^{PATIENT}",
        patient_id=f"VIRTUAL-{site.label}-{PATIENT}",
        sex="F",
        age_years=_AGE_YEARS,
        mass_kg=_MASS_KG,
        height_cm=_HEIGHT_CM,
        institution=site.institution,
    )
    return Visit(
        subject=subject,
        # The maps are no higher than one bed position.
        camera=replace(site.camera, bed_times=(1.0,)),
        key=f"{seed}/voxel patient/{site.label}/{time_point}",
        description=f"Lu177 therapy cycle {CYCLE} SPECT/CT {time_point}",
        scan_start=scan_start,
    )


def _record_treatment(records: Records, patient: VoxelPatient, site: Site) -> None:
    key = {"site": site.label, "patient": PATIENT}
    records.rows["patients"].append(
        {**key, "sex": "F", "age_years": _AGE_YEARS, "mass_kg": _MASS_KG, "height_cm": _HEIGHT_CM}
    )
    records.rows["administrations"].append(
        {
            **key,
            "cycle": CYCLE,
            "radiopharmaceutical": design.RADIOPHARMACEUTICAL,
            "nuclide": design.NUCLIDE,
            "injection_start": INJECTION_START.isoformat(),
            "infusion_min": INFUSION_MIN,
            "measured_activity_mbq": ADMINISTERED_MBQ,
            "residual_activity_mbq": 0.0,
        }
    )
    for region in _REGIONS:
        tia_mbq_h = region_tia_mbq_h(patient.curves, region)
        parts = SUMS.get(region, (region,))
        mass_g = sum(patient.mass_g(part) for part in parts)
        records.rows["organ_truth"].append(
            {
                **key,
                "cycle": CYCLE,
                "region": region,
                "mass_g": mass_g,
                "volume_ml": sum(patient.volume_ml(part) for part in parts),
                "tia_mbq_h": tia_mbq_h,
                "dose_local_gy": local_dose_gy(tia_mbq_h, mass_g, nuclide(design.NUCLIDE)),
                "effective_half_life_h": region_half_life_h(patient.curves, region),
            }
        )


def _record_scan(
    records: Records,
    patient: VoxelPatient,
    site: Site,
    time_point: int,
    time_h: float,
    place: Path,
    in_field_mbq: float,
) -> None:
    key = {"site": site.label, "patient": PATIENT, "cycle": CYCLE, "time_point": time_point}
    records.rows["scans"].append(
        {
            **key,
            "spect": f"{place.as_posix()}/spect",
            "ct": f"{place.as_posix()}/ct",
            "contours": f"{place.as_posix()}/rtstruct.dcm",
            "camera": site.camera.name,
        }
    )
    activity_mbq = {region: region_activity_mbq(patient.curves, region, time_h) for region in _REGIONS}
    for region, mbq in {**activity_mbq, WHOLE_FIELD: in_field_mbq}.items():
        records.rows["activity_truth"].append({**key, "region": region, "time_h": time_h, "activity_mbq": mbq})
