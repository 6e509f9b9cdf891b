"""Photon dose-point kernels by doseledger's photon Monte Carlo: ``python photon_kernels.py --out photon_kernels.csv``.

One kernel per nuclide with its daughters in place: the share of the emitted photon energy that is absorbed in spherical
shells around a point source in soft tissue without end. Radii are in mm times g/mL. See slabs.py for the method.
"""

from __future__ import annotations

import argparse
import csv
import time
from pathlib import Path
from typing import Final

import numpy as np
from electron_kernels import BATCHES, NUCLIDES, SEED, TISSUE_G_PER_ML
from numpy.typing import NDArray
from slabs import Floats, share_below, unfold

from doseledger.dose import transport
from doseledger.dose.attenuation import attenuation
from doseledger.dose.media import SOFT_TISSUE
from doseledger.dose.photon_mc import majorant, pack_medium, photon_lines, random_stream
from doseledger.nuclides import Nuclide, nuclide

#: Slabs, mm: the source fills the middle one. On either side as many as photons of 3 MeV need.
SLAB_MM: Final = 0.5
SLABS: Final = 3000
SIDE_CM: Final = 1e4
#: Outer radii of the shells, mm g/mL: up to the first one evenly, then each larger by a seventh.
FIRST: Final = np.array([0.5, 1.0, 1.5, 2.0])
SHELLS: Final = np.concatenate([FIRST, np.geomspace(2.3, SLABS * SLAB_MM * TISSUE_G_PER_ML, 48)])
#: Roughness of the energy per radius, in units of its value at the source (see `slabs.unfold`).
_ROUGHNESS: Final = 0.01
#: Positions in the source slab over which slabs are averaged.
_SOURCE_POSITIONS: Final = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--histories", type=int, default=5_000_000)
    parser.add_argument("nuclides", nargs="*", default=NUCLIDES)
    arguments = parser.parse_args()
    with arguments.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["nuclide", "part", "radius_mm_g_per_ml", "share", "u_cumulative"])
        for name in arguments.nuclides:
            started = time.process_time()
            radius, share, u_cumulative = kernel(nuclide(name), arguments.histories)
            for r, e, u in zip(radius, share, u_cumulative, strict=True):
                writer.writerow([name, "photons", f"{r:.6g}", f"{e:.5g}", f"{u:.1e}"])
            print(f"{name}: {time.process_time() - started:.0f} CPU-s, sum {share.sum():.5f}", flush=True)


def kernel(source: Nuclide, histories: int) -> tuple[Floats, Floats, Floats]:
    """Outer radii in mm g/mL, shares of the photon energy, and the standard uncertainties of their cumulative sum."""
    line_kev, line_yield, soft_kev = photon_lines(source)
    total_kev = source.in_place.photon_kev
    per_batch = slab_energy(line_kev, line_yield, histories)
    groups, slab_share = slab_groups(), averaged_slab_share()
    per_batch = np.add.reduceat(per_batch, groups, axis=1)
    slab_share = np.add.reduceat(slab_share, groups, axis=0)
    sd = per_batch.std(axis=0, ddof=1)
    # Without collisions before, e(r) begins with the mean energy transfer per length.
    largest = float(per_batch.mean(axis=0)[0] / (slab_share[0] / np.diff(SHELLS, prepend=0.0)).max())
    solved = np.array(
        [
            unfold(slab_share, SHELLS, energy, deviation, roughness_per_mm=_ROUGHNESS * largest, smooth=SHELLS.size)
            for energy, deviation in ((per_batch.mean(axis=0), sd / np.sqrt(BATCHES)), *((b, sd) for b in per_batch))
        ]
    )
    # All energy is absorbed before the last shell; what the score of a step expects of it scatters.
    solved *= (total_kev - soft_kev) / solved.sum(axis=1, keepdims=True)
    share = np.pad(solved, ((0, 0), (1, 0)), constant_values=soft_kev) / total_kev
    u_cumulative = np.cumsum(share[1:], axis=1).std(axis=0, ddof=1) / np.sqrt(BATCHES)
    return np.concatenate([[0.0], SHELLS]), share[0], u_cumulative


def slab_energy(line_kev: Floats, line_yield: Floats, histories: int) -> Floats:
    """Energy per slab by its distance from the source slab, both sides together, in each batch, keV per decay."""
    n = 2 * SLABS + 1
    density = np.full((n, 1, 1), TISSUE_G_PER_ML, np.float32)
    medium = np.full(density.shape, SOFT_TISSUE, np.uint8)
    source = np.zeros(n)
    source[SLABS] = 1.0
    per_photon = np.zeros((BATCHES, SLABS + 1))
    for batch in range(BATCHES):
        slab, deposit, _ = transport.run_batch(
            random_stream(SEED, batch),
            histories // BATCHES,
            np.cumsum(source),
            line_kev,
            np.cumsum(line_yield) / line_yield.sum(),
            pack_medium(density, medium),
            np.array([SLAB_MM / 10.0, SIDE_CM, SIDE_CM]),
            majorant(density, medium),
            attenuation(),
        )
        per_photon[batch] = np.bincount(np.abs(slab - SLABS), deposit, SLABS + 1) / (histories // BATCHES)
    return per_photon * float(line_yield.sum())


def averaged_slab_share() -> Floats:
    """Share of each shell in each slab by its distance, averaged over positions in the source slab."""
    thickness = SLAB_MM * TISSUE_G_PER_ML
    position = ((np.arange(_SOURCE_POSITIONS) + 0.5) / _SOURCE_POSITIONS - 0.5) * thickness
    edges = (np.arange(-SLABS, SLABS + 2) - 0.5) * thickness
    share = np.zeros((SLABS + 1, SHELLS.size))
    for middle in position:
        z = edges - middle
        below = 0.5 * np.sign(z)[:, None] * share_below(np.abs(z), SHELLS)
        both = np.diff(below, axis=0)
        share += both[SLABS:]
        share[1:] += both[:SLABS][::-1]
    return share / _SOURCE_POSITIONS


def slab_groups() -> NDArray[np.intp]:
    """First slabs of groups that grow outwards by a twentieth."""
    starts = [0]
    while starts[-1] < SLABS:
        starts.append(starts[-1] + 1 + starts[-1] // 20)
    return np.array(starts[:-1] if starts[-1] > SLABS else starts)


if __name__ == "__main__":
    main()
