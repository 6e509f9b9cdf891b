"""What a dose engine gets and what it returns."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from doseledger.nuclides import Nuclide


@dataclass(frozen=True)
class MonteCarloOptions:
    """How long a Monte Carlo engine runs and on which random numbers; other engines do not use it.

    Attributes
    ----------
    precision
        Relative standard deviation at which it stops (`doseledger.dose.compute_dose`).
    max_histories
        Photons at which it stops in any case.
    seed
        Names the random streams; together with the engine's name and the batch it makes one stream.
    threads
        Batches at a time. No number depends on it.
    """

    precision: float = 0.01
    max_histories: int = 100_000_000
    seed: int = 0
    threads: int = 1


@dataclass(frozen=True, eq=False)
class DoseProblem:
    """Checked input of an engine; arrays ``(z, y, x)``, C-contiguous.

    Attributes
    ----------
    tia
        Time-integrated activity concentration, on any scale: energies are returned on the same.
    material
        Index into `doseledger.dose.media.MEDIA`, or None: each engine that needs it derives it from
        the density.
    labels
        Regions whose statistics are wanted, from 0; None: none.
    region_names
        By label, for engines that know organs.
    """

    tia: NDArray[np.float32]
    tia_sum: float
    density_g_per_ml: NDArray[np.float32]
    spacing_mm: tuple[float, float, float]
    nuclide: Nuclide
    options: MonteCarloOptions
    material: NDArray[np.uint8] | None = None
    labels: NDArray[np.integer] | None = None
    region_names: Mapping[int, str] | None = None


@dataclass(frozen=True, eq=False)
class EnergyMaps:
    """Energy absorbed per voxel: an array times `kev`, in keV per decay of the parent times the unit of `tia`.

    Attributes
    ----------
    low_let
        All but alpha particles and recoils, shape ``(z, y, x)``.
    high_let
        Alpha particles and recoils; None if there are none.
    kev
        Factor of `low_let`, so that an engine may return an array that it got.
    high_let_kev
        Factor of `high_let`.
    escaped_kev
        Energy that left the map, summed over the map. An engine that follows it counts it, another one
        takes the rest of what was emitted.
    variance
        Statistical variance of the low-LET energy, keV^2; None for deterministic engines.
    batch_kev
        Monte Carlo part of the energy of every label in every batch, each an estimate of the whole,
        ``(batch, label)``; None for deterministic engines or without `DoseProblem.labels`.
    """

    low_let: NDArray[np.float32]
    kev: float
    escaped_kev: float
    high_let: NDArray[np.float32] | None = None
    high_let_kev: float = 1.0
    variance: NDArray[np.float32] | None = None
    batch_kev: NDArray[np.float64] | None = None


#: An engine's function.
EnergyFunction = Callable[[DoseProblem], EnergyMaps]
