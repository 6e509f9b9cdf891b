"""Remake ``tests/fixtures/osem``: ``python recipes/osem/make_fixture.py --voxel-maps FOLDER``.

Two patients go through projection, Poisson noise and OSEM: a virtual one, and the real anatomy of the voxel maps.
Counts are projected from a grid twice as fine as that of the reconstruction, whose voxels so cannot be the truth.
Each file holds the truth, counts, the image without noise and images with different noise.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from doseledger.geometry import Grid, Vector
from doseledger.phantom import design
from doseledger.phantom.cycle import draw_cycle
from doseledger.phantom.imaging import body_radius_mm
from doseledger.phantom.maps import true_maps
from doseledger.phantom.osem import osem
from doseledger.phantom.patients import draw_patient, stream
from doseledger.phantom.projection import ATTENUATION_208_KEV, MEDIUM_ENERGY, Orbit, Projector, contour_orbit
from doseledger.phantom.scanner import CAMERAS
from doseledger.phantom.shapes import Image
from doseledger.phantom.voxel_patient import REGIONS, read_voxel_patient, resample_mean

SPACING_MM: Final = 6.8
SHAPE: Final = (48, 64, 64)
TIME_H: Final = 24.0
#: The grid of the truth is finer by this factor.
FINER: Final = 2
VIEWS: Final = 60
CLEARANCE_MM: Final = 25.0
ITERATIONS: Final = 8
SUBSETS: Final = 6
REALISATIONS: Final = 4
#: Bits of float16 that are not stored: what is left is good to 0.8 %, and packs much better.
_DROPPED_BITS: Final = 4
SEED: Final = 1
#: The counts are those of this camera.
CAMERA: Final = CAMERAS[0]
_BQ_PER_KBQ: Final = 1.0e3
_KBQ_PER_MBQ: Final = 1.0e3
#: Where the density says that there is a body, g/mL.
_BODY_G_PER_ML: Final = 0.15


@dataclass(frozen=True, eq=False)
class Patient:
    """Truth on the fine grid, and labels on the grid of the reconstruction, ``(z, y, x)``.

    Attributes
    ----------
    radius_mm
        Of the body, as the virtual cameras count with it.
    """

    name: str
    radius_mm: float
    fine: Grid
    activity_kbq_per_ml: Image
    density_g_per_ml: Image
    labels: NDArray[np.uint8]
    regions: tuple[str, ...]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--voxel-maps", type=Path, required=True, help="folder of the Interfile maps")
    parser.add_argument("--out", type=Path, default=Path("tests/fixtures/osem"))
    arguments = parser.parse_args()
    for patient in (virtual_patient(), voxel_patient(arguments.voxel_maps)):
        np.savez_compressed(arguments.out / f"{patient.name}.npz", **measure(patient))


def virtual_patient() -> Patient:
    site = design.sites_of(1)[0]
    cycle = draw_cycle(SEED, "demo", site, draw_patient(SEED, site.label, design.patient_label(0)), 0, 1)
    centre_mm = design.FIELDS["demo"].spect.centre_mm
    fine, coarse = grid_at(centre_mm, FINER), grid_at(centre_mm)
    maps, labelled = true_maps(cycle, TIME_H, fine), true_maps(cycle, TIME_H, coarse)
    activity = maps.activity_bq_per_ml / np.float32(_BQ_PER_KBQ)
    return Patient(
        "virtual",
        body_radius_mm(cycle.torso),
        fine,
        activity,
        maps.density_g_per_ml,
        labelled.labels,
        labelled.regions,
    )


def voxel_patient(folder: Path) -> Patient:
    real = read_voxel_patient(folder)
    fine, coarse = grid_at(real.grid.centre_mm, FINER), grid_at(real.grid.centre_mm)
    activity = resample_mean(real.activity_bq_per_ml(TIME_H) / _BQ_PER_KBQ, real.grid, fine)
    labels = np.zeros(coarse.shape, dtype=np.uint8)
    for number, name in enumerate(REGIONS, start=1):
        labels[resample_mean(real.masks[name].astype(np.float32), real.grid, coarse) > 0.5] = number
    density = resample_mean(real.density_g_per_ml, real.grid, fine)
    return Patient("patient15", real.radius_mm, fine, activity, density, labels, tuple(REGIONS))


def measure(patient: Patient) -> dict[str, Any]:
    """Counts, images, and what one needs to repeat them."""
    coarse = grid_at(patient.fine.centre_mm)
    activity, density = (
        _rounded(resample_mean(values, patient.fine, coarse))
        for values in (patient.activity_kbq_per_ml, patient.density_g_per_ml)
    )
    active = (patient.density_g_per_ml > _BODY_G_PER_ML) & (patient.activity_kbq_per_ml > 0.0)
    orbit = contour_orbit(active, patient.fine, views=VIEWS, clearance_mm=CLEARANCE_MM)
    orbit = Orbit(orbit.angles_deg, tuple(round(radius, 3) for radius in orbit.radii_mm))
    counts_per_kbq = CAMERA.sensitivity_cps_per_mbq * CAMERA.duration_s / VIEWS / _KBQ_PER_MBQ
    expected = (
        counts_per_kbq
        * patient.fine.voxel_volume_ml
        * _binned(_projector(patient.density_g_per_ml, patient.fine, orbit).forward(patient.activity_kbq_per_ml))
    )
    projector, scale = _projector(density, coarse, orbit), counts_per_kbq * coarse.voxel_volume_ml
    body = density > _BODY_G_PER_ML
    noisy = [
        stream(SEED, "osem", patient.name, realisation).poisson(expected).astype(np.uint16)
        for realisation in range(REALISATIONS)
    ]
    noise_free, *images = [
        osem(projector, counts.astype(np.float32), scale=scale, iterations=ITERATIONS, subsets=SUBSETS)
        for counts in (expected, *noisy)
    ]
    facts = {
        "spacing_mm": coarse.spacing_mm,
        "origin_mm": coarse.origin_mm,
        "angles_deg": orbit.angles_deg,
        "radii_mm": orbit.radii_mm,
        "radius_mm": round(patient.radius_mm, 3),
        "scale": scale,
        "iterations": ITERATIONS,
        "subsets": SUBSETS,
        "regions": patient.regions,
        "log_likelihood": images[0].log_likelihood,
    }
    return {
        "facts": json.dumps(facts),
        "activity_kbq_per_ml": activity,
        "density_g_per_ml": density,
        "labels": patient.labels,
        "counts": noisy[0],
        "image_noise_free": _rounded(np.where(body, noise_free.image, 0.0)),
        "images": np.stack([_rounded(np.where(body, image.image, 0.0)) for image in images]),
    }


def grid_at(centre_mm: Vector, finer: int = 1) -> Grid:
    step = SPACING_MM / finer
    z, y, x = (n * finer for n in SHAPE)
    origin = [centre - (n - 1) / 2.0 * step for centre, n in zip(centre_mm, (x, y, z), strict=True)]
    return Grid((z, y, x), (step, step, step), (origin[0], origin[1], origin[2]))


def _rounded(values: NDArray[np.floating]) -> NDArray[np.float16]:
    step = np.uint16(1 << _DROPPED_BITS)
    # The codes of positive float16 numbers are in order of the numbers: rounding one rounds the other.
    bits = values.astype(np.float16).view(np.uint16)
    return ((bits + step // 2) // step * step).view(np.float16)


def _projector(density_g_per_ml: NDArray[np.floating], grid: Grid, orbit: Orbit) -> Projector:
    attenuation = density_g_per_ml.astype(np.float32) * np.float32(ATTENUATION_208_KEV)
    return Projector(grid, attenuation, orbit, MEDIUM_ENERGY)


def _binned(projections: Image) -> Image:
    """Sum over the fine bins of each bin of the detector."""
    views, z, columns = projections.shape
    bins = projections.reshape(views, z // FINER, FINER, columns // FINER, FINER).sum(axis=(2, 4))
    return np.asarray(bins, dtype=np.float32)


if __name__ == "__main__":
    main()
