"""One coupled electron-photon Monte Carlo calculation with ompMC, in a process and environment of its own.

``python engine_ompmc.py JOB.npz RESULT.npz``. It runs in the environment of ``envs/ompmc.txt`` (NumPy and ompMC, which
is licensed GPL-3) and knows nothing of doseledger: files in, files out.

The job holds

* ``edges_z_mm``, ``edges_y_mm``, ``edges_x_mm``: voxel edges;
* ``density_g_per_ml``, ``material`` (index into ``media``, from zero), ``source`` (decays per voxel, on any scale) and
  ``labels`` (what is summed): arrays ``(z, y, x)``;
* ``media``: names in the file of cross sections; ``seed``; ``batches``;
* ``radiations``: JSON list of objects with ``name``, ``particle`` (``photon`` or ``electron``), ``histories``,
  ``kev_per_decay``, ``energy_kev``, ``weight`` and ``continuous`` (weights are a density at the energies, linear in
  between, or those of lines).

The result holds ``deposited`` and ``emitted``, in keV per decay of the whole source as ``(radiation, batch, label)``,
and ``histories`` per radiation.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any, Final

import numpy as np
import ompmc
from numpy.typing import NDArray

Floats = NDArray[np.float64]

#: Total energy of an electron at rest plus 10 keV, and energy of a photon, below which they stop where they are, MeV.
ELECTRON_CUT_MEV: Final = 0.521
PHOTON_CUT_MEV: Final = 0.010
#: Cross sections prepared for the cuts above.
CROSS_SECTIONS: Final = "521icru.pegs4dat"
#: Least number of statistical batches that ompMC takes; batches of ours are calculations of their own.
INNER_BATCHES: Final = 2
PARTICLE_CODES: Final = {"photon": 1, "electron": 2}
PARTICLE_HEADERS: Final = {"photon": "PHOTONS", "electron": "ELECTRONS"}
MM_PER_CM: Final = 10.0
KEV_PER_MEV: Final = 1.0e3

#: One particle of an IAEA phase space: 29 bytes. A negative type means that w is negative, a negative energy that the
#: particle starts a new history.
RECORD: Final = np.dtype(
    [("type", "i1"), ("energy", "<f4"), *((name, "<f4") for name in ("x", "y", "z", "u", "v", "weight"))]
)


def main(job_path: Path, result_path: Path) -> None:
    with np.load(job_path) as file:
        job = {name: file[name] for name in file.files}
    radiations: list[dict[str, Any]] = json.loads(str(job["radiations"]))
    batches, n_labels = int(job["batches"]), int(job["labels"].max()) + 1
    deposited = np.zeros((len(radiations), batches, n_labels))
    emitted = np.zeros_like(deposited)
    geometry = build_geometry(job)
    source = Source(job)
    with tempfile.TemporaryDirectory() as scratch:
        for r, radiation in enumerate(radiations):
            for batch in range(batches):
                # One stream per radiation and batch: histories of one never change those of another.
                rng = np.random.Generator(np.random.PCG64([int(job["seed"]), r, batch]))
                deposited[r, batch], emitted[r, batch] = transport(geometry, source, radiation, batches, rng, scratch)
    histories = np.array([radiation["histories"] for radiation in radiations])
    np.savez(result_path, deposited=deposited, emitted=emitted, histories=histories, version=ompmc.__version__)


def build_geometry(job: dict[str, Any]) -> ompmc.Geometry:
    """The transport indexes voxels with x fastest: the transpose of a C-ordered (z, y, x) array, without a copy."""
    edges_cm = [job[f"edges_{axis}_mm"] / MM_PER_CM for axis in "xyz"]
    density = np.ascontiguousarray(job["density_g_per_ml"], dtype=np.float64).T
    material = np.ascontiguousarray(job["material"] + 1, dtype=np.int32).T
    return ompmc.Geometry(*edges_cm, [str(name) for name in job["media"]], density, material)


class Source:
    """Draws decay positions, stratified along the voxels in the order of the array."""

    def __init__(self, job: dict[str, Any]) -> None:
        decays = job["source"].ravel()
        self.voxels = np.flatnonzero(decays)
        self.cumulative = np.cumsum(decays[self.voxels], dtype=np.float64)
        self.cumulative /= self.cumulative[-1]
        self.shape = job["source"].shape
        self.edges_mm = [job[f"edges_{axis}_mm"] for axis in "zyx"]
        self.labels = job["labels"].ravel()

    def draw(self, rng: np.random.Generator, n: int) -> tuple[Floats, NDArray[Any]]:
        """Positions ``(n, 3)`` as (x, y, z) in cm, and the label of the voxel of each."""
        ranks = np.searchsorted(self.cumulative, (np.arange(n) + rng.random(n)) / n)
        voxels = self.voxels[np.minimum(ranks, self.voxels.size - 1)]
        indices = np.unravel_index(voxels, self.shape)
        position = [
            edges[index] + rng.random(n) * (edges[index + 1] - edges[index])
            for edges, index in zip(self.edges_mm, indices, strict=True)
        ]
        return np.stack(position[::-1], axis=1) / MM_PER_CM, self.labels[voxels]


def transport(
    geometry: ompmc.Geometry,
    source: Source,
    radiation: dict[str, Any],
    batches: int,
    rng: np.random.Generator,
    scratch: str,
) -> tuple[Floats, Floats]:
    """Energy deposited and emitted per label in one batch, keV per decay of the whole source."""
    n = int(radiation["histories"]) // batches
    energy_kev = draw_energies(rng, radiation, n)
    position_cm, label = source.draw(rng, n)
    stem = os.path.join(scratch, "particles")
    write_phase_space(stem, radiation["particle"], energy_kev, position_cm, isotropic(rng, n))
    physics = ompmc.Physics(
        pegs_file=ompmc.data_path() / "pegs4" / CROSS_SECTIONS,
        global_ecut=ELECTRON_CUT_MEV,
        global_pcut=PHOTON_CUT_MEV,
        n_split=1,
        seeds=(int(rng.integers(1, 2**31)), int(rng.integers(1, 2**31))),
    )
    mev_per_history, _, summary = ompmc.calc_forward_phsp(
        geometry,
        ompmc.PhaseSpaceSource(stem),
        physics,
        n_histories=n,
        n_batches=INNER_BATCHES,
        output_dose=False,
    )
    if summary.n_started != n:
        raise RuntimeError(f"{n - summary.n_started} of {n} particles did not start inside the phantom")
    # Scaled to the energy that the decay data state: the drawn mean is off by its own statistics.
    kev_per_decay = float(radiation["kev_per_decay"]) / float(energy_kev.sum())
    n_labels = int(source.labels.max()) + 1
    deposited = np.bincount(source.labels, mev_per_history.T.ravel(), n_labels) * KEV_PER_MEV * n
    emitted = np.bincount(label, energy_kev, n_labels)
    return deposited * kev_per_decay, emitted * kev_per_decay


def draw_energies(rng: np.random.Generator, radiation: dict[str, Any], n: int) -> Floats:
    """Energies in keV, stratified over the spectrum, in random order."""
    energy, weight = np.array(radiation["energy_kev"]), np.array(radiation["weight"])
    share = rng.permutation((np.arange(n) + rng.random(n)) / n)
    if not radiation["continuous"]:
        cumulative = np.cumsum(weight)
        return energy[np.searchsorted(cumulative / cumulative[-1], share)]
    step = np.diff(energy)
    cumulative = np.concatenate([[0.0], np.cumsum(0.5 * (weight[1:] + weight[:-1]) * step)])
    area = share * cumulative[-1]
    k = np.clip(np.searchsorted(cumulative, area, side="right") - 1, 0, step.size - 1)
    left, slope = weight[k], (weight[k + 1] - weight[k]) / step[k]
    area -= cumulative[k]
    # The root of left x + slope x^2/2 = area, in the form that stays exact where the slope is zero.
    root = np.sqrt(np.maximum(left * left + 2.0 * slope * area, 0.0))
    return energy[k] + np.minimum(2.0 * area / np.maximum(left + root, np.finfo(float).tiny), step[k])


def isotropic(rng: np.random.Generator, n: int) -> Floats:
    cosine, turn = 2.0 * rng.random(n) - 1.0, 2.0 * np.pi * rng.random(n)
    sine = np.sqrt(1.0 - cosine * cosine)
    return np.stack([sine * np.cos(turn), sine * np.sin(turn), cosine], axis=1)


def write_phase_space(stem: str, particle: str, energy_kev: Floats, position_cm: Floats, direction: Floats) -> None:
    n = energy_kev.size
    records = np.zeros(n, dtype=RECORD)
    code = PARTICLE_CODES[particle]
    records["type"] = np.where(direction[:, 2] < 0.0, -code, code)
    records["energy"] = -energy_kev / KEV_PER_MEV
    records["x"], records["y"], records["z"] = position_cm.T
    records["u"], records["v"] = direction[:, 0], direction[:, 1]
    records["weight"] = 1.0
    records.tofile(f"{stem}.IAEAphsp")
    stored = "".join("1\n" for _ in RECORD.names[1:]) + "0\n0\n"
    sections = {
        "IAEA_INDEX": "0",
        "FILE_TYPE": "0",
        "CHECKSUM": f"{n * RECORD.itemsize}",
        "RECORD_CONTENTS": stored.rstrip(),
        "RECORD_LENGTH": f"{RECORD.itemsize}",
        "BYTE_ORDER": "1234",
        "ORIG_HISTORIES": f"{n}",
        "PARTICLES": f"{n}",
        PARTICLE_HEADERS[particle]: f"{n}",
    }
    Path(f"{stem}.IAEAheader").write_text("".join(f"${name}:\n{text}\n\n" for name, text in sections.items()))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
