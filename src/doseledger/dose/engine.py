"""The dose engines behind one interface."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from doseledger import nuclides
from doseledger.dose.local import local_energy_deposition
from doseledger.errors import QuantityError, UnknownNameError
from doseledger.nuclides import Nuclide
from doseledger.units import G_PER_KG, J_PER_KEV, MM3_PER_ML, SECONDS_PER_HOUR


@dataclass(frozen=True)
class EnergyBalance:
    """Where the energy went that was emitted inside the map, in joule."""

    emitted_j: float
    absorbed_j: float

    @property
    def absorbed_fraction(self) -> float:
        """Energy in the map over energy emitted inside it; NaN for an empty map."""
        return self.absorbed_j / self.emitted_j if self.emitted_j > 0 else float("nan")


@dataclass(frozen=True, eq=False)
class DoseMap:
    """Absorbed dose in every voxel.

    Attributes
    ----------
    dose_gy
        Gy, shape ``(z, y, x)``.
    relative_sd
        Statistical standard deviation of `dose_gy` over `dose_gy`; zero for deterministic engines.
    dose_high_let_gy
        Part of `dose_gy` from alpha particles and recoils; None if there is none.
    """

    dose_gy: NDArray[np.float32]
    relative_sd: NDArray[np.float32]
    energy_balance: EnergyBalance
    engine: str
    dose_high_let_gy: NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Engine:
    """A dose engine.

    Attributes
    ----------
    energy_per_decay
        Returns ``(low_let, high_let)``: energy absorbed per voxel in keV per decay of the parent
        times the decays given as TIA in Bq h/mL per voxel (same unit, so that the caller scales).
    u_dose_factor_rel
        Relative standard uncertainty of the engine itself in soft-tissue organs.
    flags
        What a reader of its rows must know.
    """

    energy_per_decay: Callable[..., tuple[NDArray[np.float64], NDArray[np.float64] | None]]
    u_dose_factor_rel: float
    flags: tuple[str, ...]


#: Engines; the keys are the values of config and of the column ``dose_engine``.
REGISTRY: Final[dict[str, Engine]] = {
    # Against coupled Monte Carlo, local deposition of electrons differs by -1.7 % (kidneys), -1.9 %
    # (spleen), -7.3 % (liver) and +0.2 % (tumour in liver) for 177Lu (docs/theory.md): rms 4 %.
    "led": Engine(local_energy_deposition, u_dose_factor_rel=0.04, flags=("electrons_only",)),
}

#: Used where neither the caller nor the config names an engine.
DEFAULT_ENGINE: Final = "led"


def compute_dose(
    tia_bq_h_per_ml: ArrayLike,
    density_g_per_ml: ArrayLike,
    spacing_mm: float | Sequence[float],
    nuclide: str | Nuclide,
    *,
    engine: str = DEFAULT_ENGINE,
    material: ArrayLike | None = None,
    precision: float = 0.01,
    max_histories: int = 100_000_000,
    seed: int = 0,
) -> DoseMap:
    """Absorbed dose from a map of time-integrated activity.

    Parameters
    ----------
    tia_bq_h_per_ml
        Time-integrated activity concentration, Bq h/mL, shape ``(z, y, x)``.
    density_g_per_ml
        Mass density, g/mL, same shape.
    spacing_mm
        Voxel spacing in mm, one number or ``(z, y, x)``.
    nuclide
        Name as in ``"Lu-177"``, or the nuclide itself.
    engine
        Key of `REGISTRY`.
    material, precision, max_histories, seed
        For Monte Carlo engines; deterministic engines do not use them.

    Raises
    ------
    QuantityError
        Shapes differ, activity negative or not finite, density or spacing not positive.
    NuclideError, UnknownNameError
        Unknown nuclide or engine.

    Examples
    --------
    One MBq h/mL of 177Lu in water-like tissue, electrons only:

    >>> dose = compute_dose(np.full((1, 1, 1), 1e6), np.ones((1, 1, 1)), 4.8, "Lu-177")
    >>> round(float(dose.dose_gy[0, 0, 0]), 5)
    0.08532
    """
    if engine not in REGISTRY:
        raise UnknownNameError("the dose engine is not known", value=engine, expected=sorted(REGISTRY))
    source = nuclide if isinstance(nuclide, Nuclide) else nuclides.nuclide(nuclide)
    tia = np.asarray(tia_bq_h_per_ml, dtype=np.float64)
    density = np.asarray(density_g_per_ml, dtype=np.float64)
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape not in ((), (3,)):
        raise QuantityError("the voxel spacing is neither one number nor (z, y, x)", value=spacing.tolist())
    spacing = np.broadcast_to(spacing, (3,))
    _check(tia, density, spacing)
    options: dict[str, Any] = {
        "density_g_per_ml": density,
        "spacing_mm": spacing,
        "material": material,
        "precision": precision,
        "max_histories": max_histories,
        "seed": seed,
    }
    low_let, high_let = REGISTRY[engine].energy_per_decay(tia, source, **options)
    volume_ml = float(np.prod(spacing)) / MM3_PER_ML
    # keV per (Bq h/mL) and voxel -> J: decays = TIA * 3600 s/h * volume.
    joule = J_PER_KEV * SECONDS_PER_HOUR * volume_ml
    absorbed = low_let if high_let is None else low_let + high_let
    mass_kg = density * volume_ml / G_PER_KG
    emitted_kev = source.in_place.local_kev + source.in_place.photon_kev
    return DoseMap(
        dose_gy=np.asarray(absorbed * joule / mass_kg, dtype=np.float32),
        relative_sd=np.zeros(tia.shape, np.float32),
        energy_balance=EnergyBalance(
            emitted_j=float(tia.sum()) * emitted_kev * joule, absorbed_j=float(absorbed.sum()) * joule
        ),
        engine=engine,
        dose_high_let_gy=None if high_let is None else np.asarray(high_let * joule / mass_kg, dtype=np.float32),
    )


def _check(tia: NDArray[np.float64], density: NDArray[np.float64], spacing: NDArray[np.float64]) -> None:
    if tia.ndim != 3 or tia.size == 0 or tia.shape != density.shape:
        raise QuantityError("activity and density are not on the same grid", value=(tia.shape, density.shape))
    if not np.all(np.isfinite(spacing)) or spacing.min() <= 0:
        raise QuantityError("the voxel spacing is not positive", value=spacing.tolist())
    if not np.all(np.isfinite(tia)) or tia.min() < 0:
        raise QuantityError("the time-integrated activity is negative or not finite", value=float(tia.min()))
    if not np.all(np.isfinite(density)) or density.min() <= 0:
        raise QuantityError("the density is not positive", value=float(density.min()))
