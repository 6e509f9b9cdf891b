"""Organ energies of a small phantom by coupled Monte Carlo: ``reference_phantom.py --out tests/oracle``.

A torso of ellipsoids with air around it, lungs, bone and organs in contrast, on 56 x 48 x 64 voxels of 4.8 mm. Each
voxel holds one tissue and one concentration, so that an engine that gets the same voxels must find the same energies.
Writes ``reference_phantom.npz`` (label of each voxel) and ``reference_phantom.csv`` (nuclide x region: tissue,
concentration, and the energy that the region absorbs per decay in the phantom).
"""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from radiation import emission_of
from transport import AIR, BONE, ENGINE, LUNG, SOFT_TISSUE, Absorbed, Job, run

SHAPE: Final = (56, 48, 64)
VOXEL_MM: Final = 4.8
BATCHES: Final = 10
SEED: Final = 7
#: Electrons (of each of two kinds) and photons; 90Y has next to no photons.
HISTORIES: Final = {
    "Lu-177": {"electron": 400_000, "photon": 4_000_000},
    "I-131": {"electron": 400_000, "photon": 4_000_000},
    "Y-90": {"electron": 800_000, "photon": 20_000},
}
COLUMNS: Final = (
    *("nuclide", "region", "label", "medium", "density_g_per_ml", "concentration"),
    *("energy_kev_per_decay", "u_rel", "engine"),
)


@dataclass(frozen=True)
class Tissue:
    """A region: medium, density, and activity concentration on any scale."""

    medium: int
    density_g_per_ml: float
    concentration: float


#: In the order of their labels; later ones lie inside earlier ones.
TISSUES: Final = {
    "air": Tissue(AIR, 0.001205, 0.0),
    "fat": Tissue(SOFT_TISSUE, 0.95, 0.2),
    "rest": Tissue(SOFT_TISSUE, 1.03, 0.2),
    "lungs": Tissue(LUNG, 0.26, 0.1),
    "liver": Tissue(SOFT_TISSUE, 1.05, 2.0),
    "spleen": Tissue(SOFT_TISSUE, 1.05, 12.0),
    "kidneys": Tissue(SOFT_TISSUE, 1.05, 10.0),
    "lesion": Tissue(SOFT_TISSUE, 1.05, 60.0),
    "spine": Tissue(BONE, 1.30, 0.5),
}
MEDIUM_NAMES: Final = {AIR: "air", LUNG: "lung", SOFT_TISSUE: "soft tissue", BONE: "bone"}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engine-python", type=Path, default=Path(".venv/ompmc/bin/python"))
    arguments = parser.parse_args()
    labels = label_map()
    np.savez_compressed(arguments.out / "reference_phantom.npz", labels=labels)
    with (arguments.out / "reference_phantom.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for nuclide, histories in HISTORIES.items():
            absorbed = transport(labels, nuclide, histories, arguments.engine_python)
            writer.writerows(rows(labels, nuclide, absorbed))
            file.flush()


def label_map() -> NDArray[np.uint8]:
    """Label of each voxel, ``(z, y, x)``; z upwards, y to the back. Ellipsoids by centre and half axes in cm."""
    z, y, x = np.meshgrid(*((np.arange(n) - n / 2 + 0.5) * VOXEL_MM / 10.0 for n in SHAPE), indexing="ij")

    def ellipsoid(*centre_and_axes: float) -> NDArray[np.bool_]:
        cz, cy, cx, az, ay, ax = centre_and_axes
        return ((z - cz) / az) ** 2 + ((y - cy) / ay) ** 2 + ((x - cx) / ax) ** 2 <= 1.0

    along = np.abs(z) < 12.5
    shapes = {
        "fat": along & ((y / 10.5) ** 2 + (x / 14.3) ** 2 <= 1.0),
        "rest": along & ((y / 9.0) ** 2 + (x / 12.6) ** 2 <= 1.0),
        "lungs": ellipsoid(7.0, -0.5, -6.3, 6.5, 6.5, 4.6) | ellipsoid(7.0, -0.5, 6.3, 6.5, 6.5, 4.6),
        "liver": ellipsoid(-2.5, -1.0, -5.5, 4.5, 6.0, 5.8),
        "spleen": ellipsoid(-2.5, 3.0, 8.5, 3.0, 3.6, 2.4),
        "kidneys": ellipsoid(-8.0, 4.2, -5.0, 4.2, 2.2, 2.4) | ellipsoid(-8.0, 4.2, 5.0, 4.2, 2.2, 2.4),
        "lesion": ellipsoid(-2.5, -2.5, -6.5, 1.5, 1.5, 1.5),
        "spine": along & ((y - 6.0) ** 2 + x**2 <= 1.9**2),
    }
    labels = np.zeros(SHAPE, dtype=np.uint8)
    for number, name in enumerate(TISSUES):
        if name in shapes:
            labels[shapes[name]] = number
    return labels


def transport(labels: NDArray[np.uint8], nuclide: str, histories: dict[str, int], engine_python: Path) -> Absorbed:
    tissues = list(TISSUES.values())
    job = Job(
        edges_mm=tuple(np.arange(n + 1.0) * VOXEL_MM for n in SHAPE),
        density_g_per_ml=np.array([t.density_g_per_ml for t in tissues])[labels],
        material=np.array([t.medium for t in tissues], dtype=np.uint8)[labels],
        source=np.array([t.concentration for t in tissues])[labels],
        labels=labels,
        emission=emission_of(nuclide),
        histories=histories,
        batches=BATCHES,
        seed=SEED,
    )
    return run(job, engine_python)


def rows(labels: NDArray[np.uint8], nuclide: str, absorbed: Absorbed) -> list[list[object]]:
    """One row per region; voxels are the true shape here, so that nothing is corrected for their surface."""
    decays = np.bincount(labels.ravel()) * [t.concentration for t in TISSUES.values()]
    batches = absorbed.energy_kev(decays / decays.sum(), np.ones(len(TISSUES)))
    mean = batches.mean(axis=0)
    with np.errstate(invalid="ignore"):
        u_rel = batches.std(axis=0, ddof=1) / np.sqrt(len(batches)) / mean
    print(nuclide, f"{absorbed.closure:.4f} of the emitted energy absorbed", flush=True)
    # The engine deposits nothing in air.
    return [
        [
            *(nuclide, name, label, MEDIUM_NAMES[t.medium], t.density_g_per_ml, t.concentration),
            *(f"{mean[label]:.6g}", f"{u_rel[label]:.2g}", ENGINE),
        ]
        for label, (name, t) in enumerate(TISSUES.items())
        if t.medium != AIR
    ]


if __name__ == "__main__":
    main()
