"""Electron dose-point kernels by coupled Monte Carlo: ``python electron_kernels.py --out electron_kernels.csv``.

One kernel per nuclide with its daughters in place: the share of the emitted electron energy that is absorbed in
spherical shells around a point source in ICRU soft tissue without end. Radii are in mm times g/mL.

The engine is ompMC (EGSnrc physics), in a process of its own; see slabs.py for the method.

Slabs of 0.02 to 0.1 ranges let the engine's electrons go some 2 % too far: at 150 keV the mean |z| in ranges is
0.275(1) with 20 slabs, 0.274(1) with 50, but 0.269(1) with 200 (nearly every collision on its own), and 0.269(1) and
0.268(2) with slabs as thick as one and four ranges (no boundary on the way). So the shape comes from thin slabs, and
the radii are scaled to what a thick slab lets into its neighbours, which is the mean |z|.
"""

from __future__ import annotations

import argparse
import csv
import sys
import time
from pathlib import Path
from typing import Final

import numpy as np
from slabs import share_below, unfold

sys.path.insert(0, str(Path(__file__).parents[1] / "truth"))

from radiation import Emission, Radiation, split_lines, split_spectrum
from transport import SOFT_TISSUE, Floats, Job, run

from doseledger.nuclides import Nuclide, nuclide

NUCLIDES: Final = (
    *("Lu-177", "Y-90", "I-131", "Tb-161", "Lu-177m", "Cu-67", "Cu-64", "Sm-153", "Ho-166", "Re-188"),
    *("Tc-99m", "In-111", "Ga-68", "I-124", "Zr-89", "Pb-212", "Ac-225", "Ra-223", "At-211"),
)
TISSUE_G_PER_ML: Final = 1.04
BATCHES: Final = 10
SEED: Final = 1

#: Histories of the thick slab, times those of the thin ones: each takes a tenth of the time.
_THICK_SLAB_HISTORIES: Final = 8
#: Least share of the histories for a kind of radiation.
_LEAST_SHARE: Final = 0.02
#: Half the thickness of the source, mm: far below the range of an electron of 10 keV.
_SOURCE_MM: Final = 5e-5
#: Shells, and slabs, within the range of the electrons.
_SHELLS: Final = 50
#: Roughness of the energy per radius, in units of its maximum (see `slabs.unfold`).
_ROUGHNESS: Final = 0.03
#: Shells grow outwards: thickness goes with radius to this power, over the number of the shell.
_GROWTH: Final = 1.5
#: Share of the energy that may be emitted by electrons with a longer range than the fine shells.
_BEYOND: Final = 1e-4
#: Radii beyond the electrons' range, for what bremsstrahlung carries away, mm g/mL.
_FAR: Final = 1500.0
_FAR_SHELLS: Final = 16
_SIDE_MM: Final = 5000.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--engine-python", type=Path, default=Path(".venv/ompmc/bin/python"))
    parser.add_argument("--histories", type=int, default=100_000)
    parser.add_argument("nuclides", nargs="*", default=NUCLIDES)
    arguments = parser.parse_args()
    with arguments.out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["nuclide", "part", "radius_mm_g_per_ml", "share", "u_cumulative"])
        for name in arguments.nuclides:
            started = time.perf_counter()
            radius, share, u_cumulative = kernel(nuclide(name), arguments.histories, arguments.engine_python)
            # A shell is named by its outer radius; the first row is what stays at the source.
            for i, (r, e, u) in enumerate(zip(radius, share, u_cumulative, strict=True)):
                part = "electrons" if i <= _SHELLS else "bremsstrahlung"
                writer.writerow([name, part, f"{r:.6g}", f"{e:.5g}", f"{u:.1e}"])
            file.flush()
            print(f"{name}: {time.perf_counter() - started:.0f} s, sum {share.sum():.5f}", flush=True)


def kernel(source: Nuclide, histories: int, engine_python: Path) -> tuple[Floats, Floats, Floats]:
    """Outer radii in mm g/mL, shares of the electron energy, and the standard uncertainties of their cumulative sum."""
    emission = electrons_of(source)
    shells = shell_radii(emission)
    slabs = np.concatenate([[0.0, _SOURCE_MM * TISSUE_G_PER_ML], shells])
    per_batch = slab_energy(emission, slabs, histories, engine_python)
    sd = per_batch.std(axis=0, ddof=1)
    slab_share = np.diff(share_below(slabs, shells), axis=0)
    mean = per_batch.mean(axis=0)
    largest = float(np.max(mean[1:] / np.diff(slabs[1:]) * slabs[2:]))
    solved = np.array(
        [
            unfold(slab_share, shells, energy, deviation, roughness_per_mm=_ROUGHNESS * largest, smooth=_SHELLS)
            for energy, deviation in ((mean, sd / np.sqrt(BATCHES)), *((batch, sd) for batch in per_batch))
        ]
    )
    scale = radius_scale(emission, shells, solved[0], histories, engine_python)
    share = np.pad(solved, ((0, 0), (1, 0)), constant_values=emission.local_kev) / emission.total_kev
    u_cumulative = np.cumsum(share[1:], axis=1).std(axis=0, ddof=1) / np.sqrt(BATCHES)
    return scale * np.concatenate([[0.0], shells]), share[0], u_cumulative


def radius_scale(emission: Emission, shells: Floats, energy: Floats, histories: int, engine_python: Path) -> float:
    """Factor on the radii: the electrons then put into the next slab what they do when slabs are thick."""
    thickness = float(shells[_SHELLS - 1])
    slabs = np.array([0.0, 0.5 * thickness, 1.5 * thickness, _FAR])
    measured = float(slab_energy(emission, slabs, _THICK_SLAB_HISTORIES * histories, engine_python)[:, 1].mean())
    inner = np.concatenate([[0.0], shells[:-1]])
    expected = energy * next_slab_share(0.5 * (inner + shells) / thickness)
    return (measured - float(expected[_SHELLS:].sum())) / float(expected[:_SHELLS].sum())


def next_slab_share(radius: Floats) -> Floats:
    """Share of a shell around a point anywhere in a slab that lies in the next slab on either side.

    Lengths in slab thicknesses. At a distance |z| it is |z| below 1, 2 - |z| below 2, and 0 beyond; a
    shell is the mean of that over |z| < r.
    """
    rising = np.minimum(radius, 1.0) ** 2 / 2.0
    falling = 0.5 - (2.0 - np.clip(radius, 1.0, 2.0)) ** 2 / 2.0
    return np.asarray((rising + falling) / np.maximum(radius, np.finfo(float).tiny))


def slab_energy(emission: Emission, slabs: Floats, histories: int, engine_python: Path) -> Floats:
    """Energy absorbed per slab in each batch, keV per decay; histories go where the energy is."""
    total_kev = emission.total_kev - emission.local_kev
    energy = np.zeros((BATCHES, slabs.size - 1))
    for radiation in emission.radiations:
        # The engine takes an even number per batch.
        n = 2 * BATCHES * int(histories * max(radiation.kev_per_decay / total_kev, _LEAST_SHARE) / (2 * BATCHES))
        job = slab_job(Emission((radiation,), 0.0), slabs / TISSUE_G_PER_ML, n)
        energy += run(job, engine_python).deposited_kev[0]
    return energy


def electrons_of(source: Nuclide) -> Emission:
    """Betas (positrons move as electrons), conversion and Auger electrons of a nuclide and its daughters in place."""
    radiations: list[Radiation] = []
    lines: list[tuple[float, float]] = []
    local_kev = 0.0
    for weight, part in source.decays_in_place:
        if part.beta_spectrum:
            energy, per_kev = np.array(part.beta_spectrum).T
            radiation, soft_kev = split_spectrum(f"beta of {part.name}", energy, per_kev, weight * part.beta_kev)
            radiations.append(radiation)
            local_kev += soft_kev
        lines += [(energy_kev, weight * y) for energy_kev, y in part.electrons]
    radiation, soft_kev = split_lines("conversion and Auger electrons", "electron", sorted(lines))
    return Emission((*radiations, radiation), local_kev + soft_kev)


def shell_radii(emission: Emission) -> Floats:
    """Outer radii of the shells, mm g/mL: fine at the source, up to the range of the electrons, then coarse."""
    range_mm = electron_range_mm(fastest_kev(emission))
    near = range_mm * (np.arange(1, _SHELLS + 1) / _SHELLS) ** _GROWTH
    far = range_mm * (_FAR / range_mm) ** (np.arange(1, _FAR_SHELLS + 1) / _FAR_SHELLS)
    return np.concatenate([near, far])


def fastest_kev(emission: Emission) -> float:
    """Energy above which `_BEYOND` of all energy is emitted: rare fast electrons set no range."""
    energy, carried = [], []
    for radiation in emission.radiations:
        nodes = np.array(radiation.energy_kev)
        width = np.gradient(nodes) if radiation.continuous else 1.0
        part = nodes * np.array(radiation.weight) * width
        energy.append(nodes)
        carried.append(part * radiation.kev_per_decay / part.sum())
    order = np.argsort(np.concatenate(energy))
    above = 1.0 - np.cumsum(np.concatenate(carried)[order]) / sum(r.kev_per_decay for r in emission.radiations)
    return float(np.concatenate(energy)[order][np.argmax(above <= _BEYOND)])


def electron_range_mm(kev: float) -> float:
    """Range along the path in water, mm: Katz and Penfold 1952 (doi 10.1103/RevModPhys.24.28), above 10 keV."""
    mev = kev / 1.0e3
    return 4.12 * mev ** (1.265 - 0.0954 * np.log(mev)) if mev < 2.5 else 5.30 * mev - 1.06


def slab_job(emission: Emission, edges_mm: Floats, histories: int) -> Job:
    """Slabs by their distance from the plane z = 0, both sides with one label; the innermost one is the source."""
    both_sides = np.concatenate([-edges_mm[:0:-1], edges_mm[1:]])
    slab = np.abs(np.arange(both_sides.size - 1) - (edges_mm.size - 2))
    # Far enough from the sides, so that none of the electrons and hardly a photon comes there.
    side = _SIDE_MM * np.array([-1.0, -0.1, 0.1, 1.0])
    labels = np.tile(slab[:, None, None], (1, side.size - 1, side.size - 1))
    source = np.zeros(labels.shape)
    source[slab == 0, 1, 1] = 1.0
    return Job(
        edges_mm=(both_sides, side, side),
        density_g_per_ml=np.full(labels.shape, TISSUE_G_PER_ML),
        material=np.full(labels.shape, SOFT_TISSUE, dtype=np.uint8),
        source=source,
        labels=labels,
        emission=emission,
        histories={"electron": histories},
        batches=BATCHES,
        seed=SEED,
    )


if __name__ == "__main__":
    main()
