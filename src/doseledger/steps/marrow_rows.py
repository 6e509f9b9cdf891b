"""Rows of ``organ_dose`` of red marrow: one by the activity of a vertebra, one by that of blood.

D = TIA_RM S(RM <- RM) + D_photon. The second term is the dose that photons of all activity in the map give to the
outlined vertebrae; its voxel dose by electrons plays no part. Engines that do not follow photons leave it out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from math import hypot
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from doseledger.cohort import Row, administered_mbq
from doseledger.dose import DoseMap
from doseledger.dose.marrow import (
    BLOOD,
    DEFAULT_FRACTION,
    FROM_BLOOD,
    FROM_IMAGE,
    KNOWN_NUCLIDES,
    RED_MARROW,
    U_CROSS_DOSE_REL,
    U_SELF_S_VALUE_REL,
    marrow_to_blood_ratio,
    red_marrow_mass_g,
    self_dose_gy,
    tia_from_blood,
    tia_from_image,
)
from doseledger.dose.organ import NAME as ORGAN
from doseledger.geometry import Grid
from doseledger.io.tables import read_rows
from doseledger.regions import dose_flags
from doseledger.steps.blood import CURVE_SOURCE, blood_facts
from doseledger.steps.organ_rows import Result, camera_of, fit_spread, interval_factors
from doseledger.steps.specs import read_specs
from doseledger.steps.stage import Job
from doseledger.units import G_PER_KG, MBQ_PER_GBQ

#: Flags, see docs/theory.md.
NOT_MARROW: Final = "vertebra_not_marrow"
NO_CROSS_DOSE: Final = "cross_dose_not_included"
FRACTION_ASSUMED: Final = "marrow_fraction_assumed"
NO_S_VALUE: Final = "no_s_value_of_marrow"
#: Of the vertebra's row, what does not hold for its marrow.
_OF_THE_MAP: Final = frozenset(
    {NOT_MARROW, NO_S_VALUE, "histogram_not_corrected", "engines_differ", "electrons_only", "uniform_tissue"}
    | {"own_activity_only", "dose_implausible"}
)
#: Columns of the vertebra's row that hold for its marrow: how its activity was found.
_KEPT: Final = (
    *("region_source", "weights_sha256", "partial_volume_method", "recovery_coefficient", "curve_model"),
    *("effective_half_life_h", "uptake_half_life_h", "rate_at_bound", "extrapolated_fraction"),
)
#: Bone marrow structure.
_SCT_CODE: Final = "14016003"


@dataclass(frozen=True)
class Cross:
    """Dose by photons from everywhere in the map, with the share of its own uncertainties."""

    dose_gy: float
    sd_rel: float


@dataclass(frozen=True)
class Parts:
    """Relative standard uncertainties of the self dose."""

    calibration: float
    recovery: float | None
    volume: float | None
    factor: float
    #: Of the curve: standard, towards lower and towards higher values.
    fit: tuple[float, float, float]


def vertebra_flags(nuclide: str) -> list[str]:
    """Of the rows of a vertebra itself: what they are not, and whether its marrow has a dose."""
    return [NOT_MARROW] if nuclide in KNOWN_NUCLIDES else [NOT_MARROW, NO_S_VALUE]


def marrow_rows(
    job: Job,
    common: Row,
    dose: DoseMap,
    density: NDArray[np.float32],
    grid: Grid,
    labels: NDArray[np.uint8],
    vertebra: tuple[Row, Result] | None,
    nuclide: str,
) -> Iterator[Row]:
    """One row per method that the cycle has data for; exactly one is primary.

    Parameters
    ----------
    common
        Columns that all rows of the cycle share.
    vertebra
        Preferred row of the region ``dose.marrow.region``, and its dose.
    """
    if nuclide not in KNOWN_NUCLIDES:
        return
    settings = job.settings["marrow"]
    label = next((spec.label for spec in read_specs(job.one("segment")) if spec.region == settings["region"]), None)
    cross = None if label is None else _cross(dose, density, grid, labels, label)
    person = job.rows["person"]
    marrow_g = red_marrow_mass_g(person["sex"], person["mass_kg"])
    rows = []
    if vertebra is not None:
        rows.append(_image(job, dose, vertebra, cross, marrow_g, nuclide))
    if (blood := _blood(job, dose, cross, marrow_g, nuclide)) is not None:
        rows.append(blood)
    methods = [row["marrow_method"] for row in rows]
    primary = settings["primary"] if settings["primary"] in methods else next(iter(methods), None)
    for row in rows:
        yield (
            common
            | row
            | {
                "region": RED_MARROW,
                "region_level": "part",
                "sct_code": _SCT_CODE,
                "mass_g": marrow_g,
                "mass_source": "reference" if person["mass_kg"] is None else "body_mass",
                "is_primary": row["marrow_method"] == primary,
            }
        )


def _cross(
    dose: DoseMap, density: NDArray[np.float32], grid: Grid, labels: NDArray[np.uint8], label: int
) -> Cross | None:
    """Photon energy in the vertebra's voxels over their mass; None if the engine does not tell it."""
    inside = labels == label
    if not inside.any() or (photons := dose.region_photon_energy([label])) is None:
        return None
    mass_g = float(density[inside].sum(dtype=np.float64)) * grid.voxel_volume_ml
    return Cross(photons[0] / (mass_g / G_PER_KG), photons[1])


def _image(
    job: Job, dose: DoseMap, vertebra: tuple[Row, Result], cross: Cross | None, marrow_g: float, nuclide: str
) -> Row:
    row, result = vertebra
    settings = job.settings["marrow"]
    fraction = settings["fraction"] or DEFAULT_FRACTION
    tia = tia_from_image(row["tia_mbq_h"], row["volume_ml"], fraction=fraction, marrow_g=marrow_g)
    parts = Parts(
        calibration=row["u_calibration_rel"],
        recovery=row["u_recovery_rel"],
        volume=row["u_volume_rel"],
        factor=settings["u_fraction_rel"],
        fit=(result.uncertainty.fit_rel, result.towards_low.fit_rel, result.towards_high.fit_rel),
    )
    flags = {*row["flags"]} - _OF_THE_MAP
    if settings["fraction"] is None:
        flags.add(FRACTION_ASSUMED)
    # The same camera measured both parts.
    columns = _dose_columns(job, dose, tia, marrow_g, nuclide, cross, parts, flags, u_cross_rel=U_CROSS_DOSE_REL)
    kept = {k: row.get(k) for k in _KEPT}
    return kept | columns | {"marrow_method": FROM_IMAGE, "marrow_factor": fraction}


def _blood(job: Job, dose: DoseMap, cross: Cross | None, marrow_g: float, nuclide: str) -> Row | None:
    facts = blood_facts(job.one("kinetics"))
    curve = next((r for r in read_rows(job.one("kinetics"), "curve") if r["region"] == BLOOD and r["chosen"]), None)
    if facts is None or curve is None:
        return None
    settings = job.settings["marrow"]
    ratio = marrow_to_blood_ratio(facts.haematocrit if settings["blood_ratio"] == "haematocrit" else None)
    parts = Parts(
        calibration=facts.u_calibration_rel,
        recovery=None,
        volume=None,
        factor=settings["u_blood_ratio_rel"],
        fit=fit_spread(curve),
    )
    tia = tia_from_blood(curve["tia_mbq_h"], ratio=ratio, marrow_g=marrow_g)
    u_cross_rel = hypot(U_CROSS_DOSE_REL, camera_of(job)["u_calibration_rel"])
    flags = {*curve["flags"]}
    columns = _dose_columns(job, dose, tia, marrow_g, nuclide, cross, parts, flags, u_cross_rel=u_cross_rel)
    kept = ("effective_half_life_h", "uptake_half_life_h", "rate_at_bound", "extrapolated_fraction")
    return (
        {k: curve[k] for k in kept}
        | columns
        | {
            "marrow_method": FROM_BLOOD,
            "marrow_factor": ratio,
            "curve_model": curve["model"],
            "curve_source": CURVE_SOURCE,
            "partial_volume_method": "none",
            "n_timepoints": facts.n_samples,
            "protocol": "2tp" if facts.n_samples == 2 else "mtp",
            "input_sha256": _samples_sha256(job),
        }
    )


def _dose_columns(
    job: Job,
    dose: DoseMap,
    tia_mbq_h: float,
    marrow_g: float,
    nuclide: str,
    cross: Cross | None,
    parts: Parts,
    flags: set[str],
    *,
    u_cross_rel: float,
) -> dict[str, Any]:
    """Dose and uncertainty; each part of the self dose counts by the share that the self dose has."""
    own_gy = self_dose_gy(tia_mbq_h, marrow_g, nuclide)
    total_gy = own_gy + (cross.dose_gy if cross else 0.0)
    own, other = own_gy / total_gy, 1.0 - own_gy / total_gy
    # One camera makes the activities of vertebra and map too high or too low together: its part counts in full.
    calibration = parts.calibration if parts.volume is not None else own * parts.calibration
    volume, recovery = (None if part is None else own * part for part in (parts.volume, parts.recovery))
    factor = own * parts.factor
    mc_sd_rel = other * cross.sd_rel if cross else None
    dose_factor = hypot(own * U_SELF_S_VALUE_REL, other * u_cross_rel, mc_sd_rel or 0.0)
    systematic = hypot(calibration, volume or 0.0, recovery or 0.0, factor, dose_factor)
    u, u_low, u_high = (hypot(systematic, own * fit) for fit in parts.fit)
    administration = job.rows["administration"]
    administered = administered_mbq(administration)
    per_gbq = total_gy / (administered / MBQ_PER_GBQ)
    flags = flags | ({NO_CROSS_DOSE} if cross is None else set())
    return {
        "tia_mbq_h": tia_mbq_h,
        "tiac_h": tia_mbq_h / administered,
        # Without photons of the map nothing of its engine is in the row.
        "dose_engine": dose.engine if cross else ORGAN,
        "absorbed_dose_gy": total_gy,
        "cross_dose_gy": cross.dose_gy if cross else None,
        "dose_low_gy": total_gy * interval_factors(u_low)[0],
        "dose_high_gy": total_gy * interval_factors(u_high)[1],
        "u_absorbed_dose_rel": u,
        "u_calibration_rel": calibration,
        "u_recovery_rel": recovery,
        "u_volume_rel": volume,
        "u_fit_rel": own * parts.fit[0],
        "u_marrow_factor_rel": factor,
        "u_dose_factor_rel": dose_factor,
        "u_systematic_rel": systematic,
        "mc_sd_rel": mc_sd_rel,
        "energy_balance_rel": dose.energy_balance.absorbed_fraction if cross else None,
        "dose_gy_per_gbq": per_gbq,
        "flags": sorted({*flags, *dose_flags(administration["radiopharmaceutical"], RED_MARROW, per_gbq)}),
    }


def _samples_sha256(job: Job) -> str:
    """What reached a row of blood: its samples."""
    columns = ("time_h", "concentration_bq_per_ml", "u_concentration_rel")
    text = json.dumps([[row[k] for k in columns] for row in read_rows(job.one("kinetics"), "blood_sample")])
    return hashlib.sha256(text.encode()).hexdigest()
