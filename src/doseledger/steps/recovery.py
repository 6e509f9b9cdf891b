"""Correction for blur in the stages: recovery of each region at each scan, and what it makes of a dose.

Curves, maps and histograms stay those of the activities as measured. The correction of a cycle is one number per
region, the recovery of its time-integrated activity, which the stage ``kinetics`` hands to ``dose`` in a sidecar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from math import log
from statistics import median
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from doseledger.activity.recovery_curve import RecoveryCurve, SurfaceRecovery
from doseledger.activity.region_recovery import CameraRecovery, RegionRecovery, recover_regions, volume_slope
from doseledger.cohort import Row
from doseledger.errors import QuantityError
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, read_sidecar
from doseledger.io.tables import read_rows
from doseledger.regions import RegionSpec, region_fractions
from doseledger.regions.body import body_mask
from doseledger.regions.hot_spots import THRESHOLD
from doseledger.statistics.region import RegionDose
from doseledger.steps.layout import RECOVERY, scan_file
from doseledger.steps.stage import Job
from doseledger.units import G_PER_KG, kev_per_decay_to_gy_g_per_mbq_h

NONE: Final = "none"
#: Methods of the time points, or of the parts of a sum, that differ.
MIXED: Final = "mixed"
#: Flags of ``organ_dose``: of a dose as measured, and of a corrected one, whose histogram is still that of the map.
NOT_CORRECTED: Final = "no_partial_volume_correction"
HISTOGRAM_NOT_CORRECTED: Final = "histogram_not_corrected"
#: Surface over volume of the kidney phantoms that the sheet's line was fitted to, from ellipsoid to cortex, 1/mm.
KIDNEY_SURFACES_PER_MM: Final = (0.09, 0.22)


@dataclass(frozen=True)
class Correction:
    """Recovery of the time-integrated activity of one region.

    Attributes
    ----------
    coefficient
        TIA as measured over TIA corrected.
    self_recovery, u_rel, noise_gain
        Medians over the scans, see `RegionRecovery`.
    """

    method: str
    coefficient: float
    self_recovery: float
    u_rel: float
    noise_gain: float

    def missing_energy_j(self, tia_mbq_h: float, local_kev: float) -> float:
        """Energy that electrons and alpha particles of the lost activity leave in the region itself.

        E = (1/RC - 1) TIA Delta: the self part grows with the activity. What photons bring from elsewhere does not.
        """
        lost_mbq_h = (1.0 / self.coefficient - 1.0) * tia_mbq_h
        return lost_mbq_h * kev_per_decay_to_gy_g_per_mbq_h(local_kev) / G_PER_KG


#: What stands in for a correction where there is none.
AS_MEASURED: Final = Correction(NONE, coefficient=1.0, self_recovery=1.0, u_rel=0.0, noise_gain=1.0)


def scan_recoveries(
    job: Job,
    point: int,
    outlined: int,
    specs: Sequence[RegionSpec],
    fractions: Mapping[int, NDArray[np.float32]],
    spect: NDArray[np.float32],
    grid: Grid,
) -> dict[str, RegionRecovery]:
    """Recovery of each region at one time point; without those that cannot be corrected.

    `outlined` is the time point whose outlines and CT the SPECT of `point` is measured with, on its grid.
    An outline by a threshold follows the image and not the lesion: it takes part as a neighbour, and stays as measured.
    """
    method = job.settings["partial_volume_method"]
    # An outline can lie outside the field of the SPECT.
    shares = {spec.region: fractions[spec.label] for spec in specs if np.any(fractions.get(spec.label, 0.0))}
    if method == NONE or not shares:
        return {}
    row = _camera(job, point)
    camera = _camera_recovery(row) if method == "auto" else CameraRecovery(row["fwhm_mm"])
    try:
        found = recover_regions(
            shares,
            spect,
            grid,
            camera,
            body=_body(job, outlined, grid),
            lesions=[spec.region for spec in specs if spec.kind == "lesion"],
            kidneys=[spec.region for spec in specs if spec.region.startswith("kidney")],
            u_random_rel=job.settings["relative_random_uncertainty"],
        )
    except QuantityError:
        # Outlines that coincide, or fill the field: the measured activities are as good as ever.
        return {}
    sources = {row["region"]: row["region_source"] for row in read_rows(job.one("segment"), "region")}
    return {region: recovery for region, recovery in found.items() if sources.get(region) != THRESHOLD}


def activity_columns(
    activities_mbq: Mapping[str, float],
    recoveries: Mapping[str, RegionRecovery],
    sums: Mapping[str, Sequence[RegionSpec]],
) -> dict[str, Row]:
    """Columns of ``region_activity`` on the correction, by region; a sum is corrected if all its parts are."""
    corrected = {region: activities_mbq[region] / found.coefficient for region, found in recoveries.items()}
    methods = {region: found.method for region, found in recoveries.items()}
    columns: dict[str, Row] = {region: {"method": NONE} for region in activities_mbq}
    groups = {region: [region] for region in recoveries}
    groups |= {name: [p.region for p in parts if p.region in activities_mbq] for name, parts in sums.items()}
    for name, members in groups.items():
        if name in activities_mbq and members and all(member in corrected for member in members):
            total = sum(corrected[member] for member in members)
            columns[name] = {
                "method": joined([methods[member] for member in members]),
                "recovery_coefficient": activities_mbq[name] / total,
                "activity_corrected_mbq": total,
            }
    return columns


def joined(methods: Sequence[str]) -> str:
    """The one method, or that there are several."""
    return methods[0] if len(set(methods)) == 1 else MIXED


def correction_of(
    recoveries: Sequence[RegionRecovery], times_h: Sequence[float], activities_mbq: Sequence[float], half_life_h: float
) -> Correction:
    """Recovery of the TIA from those of the scans.

    1/RC = sum_i w_i A_i/RC_i / sum_i w_i A_i, with w_i the time that scan i stands for: half-way to its neighbours,
    from time zero, and to infinity with the effective half-life.
    """
    order = np.argsort(times_h)
    times = np.asarray(times_h, dtype=float)[order]
    middles = (times[1:] + times[:-1]) / 2.0
    span_h = np.diff([0.0, *middles, times[-1]])
    span_h[-1] += half_life_h / log(2.0)
    weights = span_h * np.asarray(activities_mbq, dtype=float)[order]
    inverse = np.array([1.0 / recoveries[k].coefficient for k in order])
    return Correction(
        method=joined([recovery.method for recovery in recoveries]),
        coefficient=float(weights.sum() / (weights @ inverse)),
        self_recovery=median(r.self_recovery for r in recoveries),
        u_rel=median(r.u_rel for r in recoveries),
        noise_gain=median(r.noise_gain for r in recoveries),
    )


def sidecar(corrections: Mapping[str, Correction]) -> dict[str, Any]:
    return {"regions": {region: asdict(correction) for region, correction in corrections.items()}}


def corrections_of(job: Job) -> dict[str, Correction]:
    """What the stage ``kinetics`` found, by region."""
    found = read_sidecar(job.one("kinetics") / RECOVERY)["regions"]
    return {region: Correction(**values) for region, values in found.items()}


def uncertainty_terms(correction: Correction, *, loss: float) -> dict[str, float]:
    """What `dose_uncertainty` must know of the blur: the loss, or a recovery that is one of its variables."""
    if correction.method == NONE:
        return {"u_recovery_rel": loss}
    return {
        "recovery_coefficient": correction.self_recovery,
        "recovery_slope": volume_slope(correction.self_recovery),
        "u_recovery_rel": correction.u_rel,
    }


def recovery_columns(own: Sequence[Correction], measured_mbq_h: float, corrected_mbq_h: float) -> Row:
    """Method and recovery of a region, or of the parts of a sum."""
    return {
        "partial_volume_method": (method := joined([correction.method for correction in own])),
        "recovery_coefficient": None if method == NONE else measured_mbq_h / corrected_mbq_h,
    }


def blur_flags(method: str) -> list[str]:
    return [NOT_CORRECTED if method == NONE else HISTOGRAM_NOT_CORRECTED]


def with_energy(dose: RegionDose, energy_j: float) -> RegionDose:
    """The same region with energy added; its histogram stays that of the map."""
    return replace(dose, energy_j=dose.energy_j + energy_j)


def _camera(job: Job, point: int) -> Row:
    name = next(scan["camera"] for scan in job.rows["scans"] if scan["time_point"] == point)
    return next(camera for camera in job.rows["cameras"] if camera["camera"] == name)


def _camera_recovery(row: Row) -> CameraRecovery:
    """What the sheet says of the camera's phantoms."""
    spheres = kidneys = None
    if row.get("recovery_alpha_ml") is not None:
        u_alpha, u_beta = row["u_recovery_alpha_ml"], row["u_recovery_beta"]
        mixed = row["recovery_correlation"] * u_alpha * u_beta
        spheres = RecoveryCurve(
            alpha_ml=row["recovery_alpha_ml"],
            beta=row["recovery_beta"],
            covariance=((u_alpha**2, mixed), (mixed, u_beta**2)),
            scatter_rel=row["u_recovery_model_rel"],
            volume_range_ml=(row["recovery_volume_min_ml"], row["recovery_volume_max_ml"]),
        )
    if row.get("recovery_surface_mm") is not None:
        kidneys = SurfaceRecovery(
            row["recovery_surface_mm"], row.get("u_recovery_surface_mm") or 0.0, 0.0, KIDNEY_SURFACES_PER_MM
        )
    return CameraRecovery(row["fwhm_mm"], spheres, kidneys)


def _body(job: Job, point: int, grid: Grid) -> NDArray[np.float32] | None:
    """Share of each voxel of the SPECT inside the patient; None without CT."""
    path = job.one("ingest") / scan_file(job.key, point, "ct.nii.gz")
    if not path.exists():
        return None
    hu, ct_grid = read_image(path)
    return region_fractions(body_mask(hu).astype(np.uint8), ct_grid, grid)[1]
