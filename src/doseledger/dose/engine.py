"""The dose engines behind one interface."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite, sqrt
from typing import Final

import numpy as np
from numpy.typing import ArrayLike, NDArray

from doseledger import nuclides
from doseledger.dose.interface import DoseProblem, EnergyFunction, EnergyMaps, MonteCarloOptions
from doseledger.dose.local import local_energy_deposition
from doseledger.dose.media import MEDIA
from doseledger.dose.organ import organ_means
from doseledger.dose.photon_mc import photon_monte_carlo
from doseledger.dose.voxel_s import voxel_s_values
from doseledger.errors import QuantityError, UnknownNameError
from doseledger.nuclides import Nuclide
from doseledger.units import G_PER_KG, J_PER_KEV, MM3_PER_ML, SECONDS_PER_HOUR


@dataclass(frozen=True)
class EnergyBalance:
    """Where the energy went that was emitted inside the map, in joule.

    Attributes
    ----------
    emitted_by_kind_j
        Keys ``electron``, ``photon``, ``alpha`` and ``recoil``.
    escaped_j
        What left the map, as the engine counted it.
    """

    emitted_by_kind_j: dict[str, float]
    absorbed_j: float
    escaped_j: float

    @property
    def emitted_j(self) -> float:
        return sum(self.emitted_by_kind_j.values())

    @property
    def absorbed_fraction(self) -> float:
        """Energy in the map over energy emitted inside it; NaN for an empty map."""
        return self._share(self.absorbed_j)

    @property
    def closure(self) -> float:
        """Absorbed and escaped energy over emitted energy: 1 but for statistics; NaN for an empty map."""
        return self._share(self.absorbed_j + self.escaped_j)

    def _share(self, energy_j: float) -> float:
        return energy_j / self.emitted_j if self.emitted_j > 0 else float("nan")


@dataclass(frozen=True, eq=False)
class DoseMap:
    """Absorbed dose in every voxel.

    Attributes
    ----------
    dose_gy
        Gy, shape ``(z, y, x)``.
    relative_sd
        Statistical standard deviation of `dose_gy` over `dose_gy`; zero for deterministic engines and
        where there is no dose.
    nuclear_data
        Source of half-lives, energies and spectra.
    dose_high_let_gy
        Part of `dose_gy` from alpha particles and recoils; None if there is none.
    """

    dose_gy: NDArray[np.float32]
    relative_sd: NDArray[np.float32]
    energy_balance: EnergyBalance
    engine: str
    nuclear_data: str
    dose_high_let_gy: NDArray[np.float32] | None = None
    _batch_j: NDArray[np.float64] | None = None
    _label_j: NDArray[np.float64] | None = None

    def region_relative_sd(self, labels: Sequence[int]) -> float | None:
        """Statistical standard deviation of the mean dose of the voxels with these labels, over that dose.

        u = s / (sqrt(n) E), with s the standard deviation over the n batches of the energy that the
        joined voxels got, and E their energy. One photon deposits in many voxels: the voxels' own
        standard deviations do not add up to this one.

        Returns
        -------
        None for a deterministic engine.

        Raises
        ------
        QuantityError
            The dose was computed without `labels`.
        """
        if self._label_j is None:
            raise QuantityError("the dose was computed without labels of regions")
        if self._batch_j is None:
            return None
        wanted = list(labels)
        batches, energy_j = self._batch_j[:, wanted].sum(axis=1), float(self._label_j[wanted].sum())
        return float(batches.std(ddof=1)) / sqrt(batches.size) / energy_j if energy_j > 0 else 0.0

    def region_photon_energy(self, labels: Sequence[int]) -> tuple[float, float] | None:
        """Energy that photons of the whole map leave in the voxels with these labels, J, and its relative sd.

        Returns
        -------
        None for an engine that does not tell photons from electrons.

        Raises
        ------
        QuantityError
            The dose was computed without `labels`.
        """
        if self._label_j is None:
            raise QuantityError("the dose was computed without labels of regions")
        if self._batch_j is None:
            return None
        batches = self._batch_j[:, list(labels)].sum(axis=1)
        energy_j = float(batches.mean())
        return energy_j, float(batches.std(ddof=1)) / sqrt(batches.size) / energy_j if energy_j > 0 else 0.0


@dataclass(frozen=True)
class Engine:
    """A dose engine.

    Attributes
    ----------
    energy
        From the checked input to the energy absorbed per voxel.
    u_dose_factor_rel
        Relative standard uncertainty of the engine itself in soft-tissue organs.
    flags
        What a reader of its rows must know.
    """

    energy: EnergyFunction
    u_dose_factor_rel: float
    flags: tuple[str, ...] = ()


#: Engines; the keys are the values of config and of the column ``dose_engine``.
REGISTRY: Final[dict[str, Engine]] = {
    # Against coupled Monte Carlo at most 0.2 % in organs and 0.5 % in bone for 177Lu and 131I, and 0.9 % in fat and
    # lungs for 90Y (tests/oracle/engine_differences.csv).
    "pmc": Engine(photon_monte_carlo, u_dose_factor_rel=0.01),
    # Against coupled Monte Carlo, voxel S values differ by -0.05 % (kidneys), -0.2 % (spleen), +0.5 % (liver) and
    # +0.1 % (tumour in liver) for 177Lu, but -13 % in vertebral bone and +35 % in lungs.
    "vsv": Engine(voxel_s_values, u_dose_factor_rel=0.005, flags=("uniform_tissue",)),
    # Without what other organs send: 2 to 5 % of the dose of organs with uptake of 177Lu, most of it in small ones.
    "organ": Engine(organ_means, u_dose_factor_rel=0.05, flags=("own_activity_only",)),
    # Against coupled Monte Carlo, local deposition of electrons differs by -1.7 % (kidneys), -1.9 %
    # (spleen), -7.3 % (liver) and +0.2 % (tumour in liver) for 177Lu (docs/theory.md): rms 4 %.
    "led": Engine(local_energy_deposition, u_dose_factor_rel=0.04, flags=("electrons_only",)),
}

#: Used where neither the caller nor the config names an engine.
DEFAULT_ENGINE: Final = "pmc"


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
    threads: int = 1,
    labels: ArrayLike | None = None,
    region_names: Mapping[int, str] | None = None,
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
    material
        Index into `doseledger.dose.media.MEDIA`, same shape; by default from the density.
    precision
        A Monte Carlo engine stops when the relative standard deviation of the total dose, root mean
        square over the voxels above 50 % of the maximum, is at most this. It looks only after fixed
        numbers of photons, so that the result depends on nothing else.
    max_histories
        It stops here in any case.
    seed
        Names its random streams.
    threads
        Batches at a time; no number depends on it.
    labels
        Non-negative integers, same shape: regions for `DoseMap.region_relative_sd`.
    region_names
        By label: the engine ``organ`` knows organs by their names.

    Raises
    ------
    QuantityError
        Shapes differ, activity negative or not finite, density or spacing not positive, no such
        material, labels negative, precision, histories or threads not positive.
    NuclideError, UnknownNameError
        Unknown nuclide or engine.

    Examples
    --------
    One MBq h/mL of 177Lu in water-like tissue, electrons only:

    >>> dose = compute_dose(np.full((1, 1, 1), 1e6), np.ones((1, 1, 1)), 4.8, "Lu-177", engine="led")
    >>> round(float(dose.dose_gy[0, 0, 0]), 5)
    0.08532
    """
    if engine not in REGISTRY:
        raise UnknownNameError("the dose engine is not known", value=engine, expected=sorted(REGISTRY))
    options = MonteCarloOptions(precision=precision, max_histories=max_histories, seed=seed, threads=threads)
    _check_options(options)
    source = nuclide if isinstance(nuclide, Nuclide) else nuclides.nuclide(nuclide)
    spacing = _spacing(spacing_mm)
    tia, density = _map(tia_bq_h_per_ml), _map(density_g_per_ml)
    if tia.ndim != 3 or tia.size == 0 or tia.shape != density.shape:
        raise QuantityError("activity and density are not on the same grid", value=(tia.shape, density.shape))
    tia_sum = _check_values(tia, density)
    problem = DoseProblem(
        tia=tia,
        tia_sum=tia_sum,
        density_g_per_ml=density,
        spacing_mm=spacing,
        nuclide=source,
        options=options,
        material=None if material is None else _material(material, tia.shape),
        labels=None if labels is None else _indices(labels, tia.shape, "labels"),
        region_names=region_names,
    )
    return _dose_map(engine, problem, REGISTRY[engine].energy(problem))


def _dose_map(engine: str, problem: DoseProblem, energy: EnergyMaps) -> DoseMap:
    from doseledger.dose import passes

    volume_ml = float(np.prod(problem.spacing_mm)) / MM3_PER_ML
    # keV per (Bq h/mL) and voxel -> J: decays = TIA * 3600 s/h * volume.
    joule = J_PER_KEV * SECONDS_PER_HOUR * volume_ml
    mass_kg = volume_ml / G_PER_KG
    density = problem.density_g_per_ml
    dose_gy, low_sum = passes.dose(energy.low_let, density, energy.kev * joule / mass_kg)
    absorbed_kev = low_sum * energy.kev
    high_let_gy = None
    if energy.high_let is not None:
        high_let_gy, high_sum = passes.dose(energy.high_let, density, energy.high_let_kev * joule / mass_kg)
        absorbed_kev += high_sum * energy.high_let_kev
        dose_gy += high_let_gy
    emitted = problem.nuclide.in_place
    by_kind_kev = {
        "electron": emitted.electron_kev,
        "photon": emitted.photon_kev,
        "alpha": emitted.alpha_kev,
        "recoil": emitted.recoil_kev,
    }
    return DoseMap(
        dose_gy=dose_gy,
        relative_sd=_relative_sd(energy, density, dose_gy, joule / mass_kg),
        energy_balance=EnergyBalance(
            emitted_by_kind_j={kind: problem.tia_sum * kev * joule for kind, kev in by_kind_kev.items()},
            absorbed_j=absorbed_kev * joule,
            escaped_j=energy.escaped_kev * joule,
        ),
        engine=engine,
        nuclear_data=problem.nuclide.source,
        dose_high_let_gy=high_let_gy,
        _batch_j=None if energy.batch_kev is None else energy.batch_kev * joule,
        _label_j=None if problem.labels is None else _label_j(problem.labels, dose_gy, density, mass_kg),
    )


def _relative_sd(
    energy: EnergyMaps, density: NDArray[np.float32], dose_gy: NDArray[np.float32], gy_g_per_ml_kev: float
) -> NDArray[np.float32]:
    if energy.variance is None:
        # No memory behind it: a map of zeros as large as the dose costs as much as the dose of `led`.
        return np.broadcast_to(np.float32(0.0), dose_gy.shape)
    from doseledger.dose import passes

    return passes.relative_sd(energy.variance, density, dose_gy, gy_g_per_ml_kev)


def _label_j(
    labels: NDArray[np.integer], dose_gy: NDArray[np.float32], density: NDArray[np.float32], mass_kg: float
) -> NDArray[np.float64]:
    """Energy absorbed in the voxels of each label."""
    energy = np.bincount(labels.ravel(), (dose_gy * density).ravel()) * mass_kg
    return np.asarray(energy, dtype=np.float64)


# Input --------------------------------------------------------------------------------------------


def _map(values: ArrayLike) -> NDArray[np.float32]:
    # Values beyond the range of float32 become infinite and are refused as such.
    with np.errstate(over="ignore"):
        return np.ascontiguousarray(np.asarray(values), dtype=np.float32)


def _spacing(spacing_mm: float | Sequence[float]) -> tuple[float, float, float]:
    spacing = np.asarray(spacing_mm, dtype=np.float64)
    if spacing.shape not in ((), (3,)):
        raise QuantityError("the voxel spacing is neither one number nor (z, y, x)", value=spacing.tolist())
    if not np.all(np.isfinite(spacing)) or spacing.min() <= 0:
        raise QuantityError("the voxel spacing is not positive", value=spacing.tolist())
    z, y, x = (float(step) for step in np.broadcast_to(spacing, (3,)))
    return z, y, x


def _check_options(options: MonteCarloOptions) -> None:
    if not (isfinite(options.precision) and options.precision > 0):
        raise QuantityError("the requested precision is not positive", value=options.precision)
    if options.max_histories < 1:
        raise QuantityError("the number of histories is not positive", value=options.max_histories)
    if options.threads < 1:
        raise QuantityError("the number of threads is not positive", value=options.threads)


def _check_values(tia: NDArray[np.float32], density: NDArray[np.float32]) -> float:
    """Refuse what is no activity and no density; the sum of the activity."""
    from doseledger.dose import passes

    smallest, tia_sum = passes.smallest_and_sum(tia)
    if not (smallest >= 0 and isfinite(tia_sum)):
        raise QuantityError("the time-integrated activity is negative or not finite", value=float(tia.min()))
    smallest, density_sum = passes.smallest_and_sum(density)
    if not (smallest > 0 and isfinite(density_sum)):
        raise QuantityError("the density is not positive or not finite", value=float(density.min()))
    return tia_sum


def _material(values: ArrayLike, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    return _indices(values, shape, "material", below=len(MEDIA)).astype(np.uint8)


def _indices(values: ArrayLike, shape: tuple[int, ...], what: str, below: int | None = None) -> NDArray[np.integer]:
    array = np.ascontiguousarray(np.asarray(values))
    if array.shape != shape or not np.issubdtype(array.dtype, np.integer):
        raise QuantityError(f"{what}: no integers on the grid of the activity", value=(array.dtype.name, array.shape))
    if array.min() < 0 or (below is not None and array.max() >= below):
        raise QuantityError(f"{what}: an index is out of range", value=(int(array.min()), int(array.max())))
    return array
