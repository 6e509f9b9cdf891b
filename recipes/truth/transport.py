"""From maps on voxels to the energy that regions absorb: prepares one engine run and reads it back."""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from radiation import Emission
from scipy.ndimage import gaussian_filter

Floats = NDArray[np.float64]

ENGINE: Final = "ompmc 0.4.0"
ENGINE_SCRIPT: Final = Path(__file__).with_name("engine_ompmc.py")
ENVIRONMENT: Final = Path(__file__).parents[2] / "envs" / "ompmc.txt"
#: Names of the media in the engine's file of cross sections.
MEDIA: Final = ("AIR521ICRU", "LUNG521ICRU", "ICRUTISSUE521ICRU", "ICRPBONE521ICRU")
AIR, LUNG, SOFT_TISSUE, BONE = range(len(MEDIA))

#: Smoothing of a region before the direction of its surface is read off, voxels: less sees the steps of the voxels.
_SURFACE_SMOOTHING_VOXELS: Final = 1.5


@dataclass(frozen=True, eq=False)
class Job:
    """One calculation; arrays ``(z, y, x)``.

    Attributes
    ----------
    edges_mm
        Voxel edges along z, y and x.
    source
        Decays per voxel, on any scale.
    labels
        What is summed: region number per voxel, from zero.
    histories
        Per kind of particle: ``electron``, ``photon``.
    """

    edges_mm: tuple[Floats, Floats, Floats]
    density_g_per_ml: NDArray[np.floating]
    material: NDArray[np.uint8]
    source: NDArray[np.floating]
    labels: NDArray[np.integer]
    emission: Emission
    histories: dict[str, int]
    batches: int
    seed: int


@dataclass(frozen=True, eq=False)
class Absorbed:
    """Energy per decay of the whole source, keV, as ``(radiation, batch, label)``."""

    deposited_kev: Floats
    emitted_kev: Floats
    emission: Emission
    histories: int

    @property
    def closure(self) -> float:
        """Share of the emitted energy that was absorbed in the field; the rest left it as photons."""
        absorbed = float(self.deposited_kev.mean(axis=1).sum()) + self.emission.local_kev
        return absorbed / self.emission.total_kev

    @cached_property
    def _electrons(self) -> NDArray[np.bool_]:
        return np.array([radiation.particle == "electron" for radiation in self.emission.radiations])

    def energy_kev(self, source_share: Floats, step_ratio: Floats) -> Floats:
        """Energy absorbed in every label and batch ``(batch, label)``, keV per decay of the whole source.

        E = (E_e + E_local) f + (D_e - M_e) / r + D_p, with f the share of the decays that happen in
        the label. Electrons and what never moves are known; transport adds only what crosses the
        surface, deposited minus emitted (D_e - M_e). That is proportional to the surface, and the
        surface of voxels is r times the true one: about 1.5 for any smooth shape, however small the
        voxels. Photons travel further than the steps and are taken as they are (D_p).
        """
        electrons = self._electrons
        known_kev = self.emission.local_kev + sum(
            r.kev_per_decay for r in self.emission.radiations if r.particle == "electron"
        )
        crossing = (self.deposited_kev - self.emitted_kev)[electrons].sum(axis=0)
        photons = self.deposited_kev[~electrons].sum(axis=0)
        return np.asarray(known_kev * source_share + crossing / step_ratio + photons)


def run(job: Job, engine_python: Path) -> Absorbed:
    """Run one calculation on one core and read it back.

    Raises
    ------
    FileNotFoundError
        The engine's environment is missing.
    RuntimeError
        The engine failed, or it is not the version that the recipe is written for.
    """
    if not engine_python.exists():
        raise FileNotFoundError(
            f"no engine at {engine_python}: make its environment with "
            f"`python -m venv {engine_python.parents[1]}` and "
            f"`{engine_python.parent / 'pip'} install --requirement {ENVIRONMENT}`"
        )
    with tempfile.TemporaryDirectory() as folder:
        job_path, result_path = Path(folder) / "job.npz", Path(folder) / "result.npz"
        np.savez(job_path, **_arrays(job), allow_pickle=False)
        command = [str(engine_python), str(ENGINE_SCRIPT), str(job_path), str(result_path)]
        environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": ""}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(
                f"the engine failed with status {done.returncode}:\n{(done.stdout + done.stderr)[-2000:]}"
            )
        with np.load(result_path) as file:
            version = f"ompmc {file['version']}"
            if version != ENGINE:
                raise RuntimeError(f"the engine is {version}, the recipe is written for {ENGINE}")
            return Absorbed(file["deposited"], file["emitted"], job.emission, int(file["histories"].sum()))


def _arrays(job: Job) -> dict[str, Any]:
    edges = {f"edges_{axis}_mm": edge for axis, edge in zip("zyx", job.edges_mm, strict=True)}
    radiations = [radiation.job(job.histories[radiation.particle]) for radiation in job.emission.radiations]
    return {
        **edges,
        "density_g_per_ml": job.density_g_per_ml.astype(np.float64),
        "material": job.material,
        "source": job.source,
        "labels": job.labels,
        "media": np.array(MEDIA),
        "radiations": json.dumps(radiations),
        "batches": job.batches,
        "seed": job.seed,
    }


def step_ratio(region: NDArray[np.bool_]) -> float:
    """Surface of a region's voxels over the surface of the smooth shape that they stand for.

    A surface with normal n appears in voxels with |n_x| + |n_y| + |n_z| times its area, whatever their
    size. Normals are those of the smoothed region; a sphere gives 1.5. All voxels are cubes.
    """
    padded = np.pad(region, 8).astype(np.float64)
    gradient = np.abs(np.gradient(gaussian_filter(padded, _SURFACE_SMOOTHING_VOXELS)))
    return float(gradient.sum() / np.sqrt((gradient**2).sum(axis=0)).sum())
