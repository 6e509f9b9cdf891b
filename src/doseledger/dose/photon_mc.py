"""Photon Monte Carlo with electrons by kernel (``pmc``)."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.dose.attenuation import CUT_KEV, MAX_KEV, attenuation
from doseledger.dose.electrons import spread_electrons
from doseledger.dose.interface import DoseProblem, EnergyMaps
from doseledger.dose.media import AIR, MEDIA, media_from_density
from doseledger.errors import NuclideError, QuantityError
from doseledger.nuclides import Nuclide

Floats = NDArray[np.float64]

NAME: Final = "pmc"
#: Photons of one batch, each with a random stream of its own.
BATCH_HISTORIES: Final = 10_000
#: Batches before the precision is looked at: fewer tell little of the standard deviation of a region.
LEAST_BATCHES: Final = 16
#: The next look is after this share more: reading a whole map costs as much as some thousand photons.
LOOK_GROWTH: Final = 1.25
#: Voxels that count for the precision, as a share of the largest dose.
HOT_SHARE: Final = 0.5
MM_PER_CM: Final = 10.0


@dataclass(frozen=True, eq=False)
class Sampled:
    """What the photons left in keV.

    Attributes
    ----------
    sums
        Sum of the deposits of each voxel, and sum of their squares, ``(voxel, 2)``.
    by_batch
        Deposits of every batch in the voxels of every label, ``(batch, label)``.
    """

    sums: Floats
    histories: int
    escaped_kev: float
    by_batch: Floats | None


def photon_monte_carlo(problem: DoseProblem) -> EnergyMaps:
    """Energy absorbed in each voxel.

    Photons above 10 keV are followed by delta tracking through photoelectric effect, incoherent and
    coherent scattering and pair production in the media of the map; electrons that they set free stop
    where they are. Electrons of the nuclide are spread by their kernel (`spread_electrons`); alpha
    particles, recoils and softer photons stop where they are emitted.

    Raises
    ------
    NuclideError
        A photon line is beyond the cross sections.
    QuantityError
        `max_histories` are fewer than the statistics need.
    """
    if problem.options.max_histories < LEAST_BATCHES:
        raise QuantityError(
            "too few histories", value=problem.options.max_histories, expected=f"at least {LEAST_BATCHES}"
        )
    energy = problem.nuclide.in_place
    line_kev, line_yield, soft_kev = photon_lines(problem.nuclide)
    medium = media_from_density(problem.density_g_per_ml) if problem.material is None else problem.material
    absorbed = spread_electrons(problem, medium)
    if soft_kev > 0.0:
        absorbed += problem.tia * np.float32(soft_kev)
    certain_kev = (energy.electron_kev + soft_kev) * problem.tia_sum
    escaped_kev = certain_kev - float(absorbed.sum(dtype=np.float64))
    variance, batch_kev = np.zeros_like(absorbed), None
    if problem.tia_sum > 0.0 and line_kev.size > 0:
        sampled = sample_photons(problem, medium, absorbed, line_kev, line_yield)
        scale = float(line_yield.sum()) * problem.tia_sum / sampled.histories
        absorbed += (sampled.sums[:, 0] * scale).reshape(absorbed.shape)
        variance += (sampled.sums[:, 1] * scale**2).reshape(absorbed.shape)
        escaped_kev += sampled.escaped_kev * scale
        if sampled.by_batch is not None:
            batch_kev = sampled.by_batch * (scale * len(sampled.by_batch))
    high_let_kev = energy.alpha_kev + energy.recoil_kev
    return EnergyMaps(
        low_let=absorbed,
        kev=1.0,
        escaped_kev=escaped_kev,
        high_let=problem.tia if high_let_kev > 0.0 else None,
        high_let_kev=high_let_kev,
        variance=variance,
        batch_kev=batch_kev,
    )


def photon_lines(source: Nuclide) -> tuple[Floats, Floats, float]:
    """Lines of a nuclide and its daughters in place above the cut, their yields, and the energy below, keV.

    Raises
    ------
    NuclideError
        A line is beyond the cross sections.

    Examples
    --------
    >>> from doseledger.nuclides import nuclide
    >>> kev, per_decay, soft_kev = photon_lines(nuclide("Lu-177"))
    >>> round(float(kev @ per_decay), 2), round(soft_kev, 3)
    (34.81, 0.288)
    """
    lines = source.photons_in_place
    if lines and lines[-1][0] > MAX_KEV:
        raise NuclideError(
            f"{source.name} has a photon line beyond the cross sections",
            value=f"{lines[-1][0]:.0f} keV",
            expected=f"at most {MAX_KEV:.0f} keV",
        )
    hard = np.array([line for line in lines if line[0] > CUT_KEV]).reshape(-1, 2)
    return hard[:, 0], hard[:, 1], sum(kev * per_decay for kev, per_decay in lines if kev <= CUT_KEV)


def sample_photons(
    problem: DoseProblem, medium: NDArray[np.uint8], certain: NDArray[np.float32], line_kev: Floats, line_yield: Floats
) -> Sampled:
    """Follow photons batch by batch until the precision is reached, or the histories are used up.

    Batches run in any number of threads and are added up in their order, and the precision is looked at
    after fixed numbers of them: the result does not depend on threads.
    """
    from doseledger.dose import transport

    options, tables = problem.options, attenuation()
    density = pack_medium(problem.density_g_per_ml, medium)
    histories = min(BATCH_HISTORIES, options.max_histories // LEAST_BATCHES)
    arguments = (
        histories,
        np.cumsum(problem.tia.reshape(-1), dtype=np.float64),
        line_kev,
        np.cumsum(line_yield) / line_yield.sum(),
        density,
        np.array(problem.spacing_mm) / MM_PER_CM,
        majorant(problem.density_g_per_ml, medium),
        tables,
    )
    # Air is left out of what must be precise, unless there is nothing else: a little activity around the body makes
    # doses in air above all others.
    scored = (medium != AIR).reshape(-1)
    if not scored.any():
        scored[:] = True
    sums = np.zeros((certain.size, 2))
    labels = None if problem.labels is None else problem.labels.reshape(-1)
    n_labels = 0 if labels is None else int(labels.max()) + 1
    by_batch, escaped_kev, done = [], 0.0, 0

    def batch(number: int) -> tuple[NDArray[np.int64], Floats, float]:
        return transport.run_batch(random_stream(options.seed, number), *arguments)  # type: ignore[no-any-return]

    with ThreadPoolExecutor(options.threads) as pool:
        for count in looks(options.max_histories // histories):
            for voxel, deposit, escaped in pool.map(batch, range(done, count)):
                transport.score(voxel, deposit, sums)
                escaped_kev += escaped
                if labels is not None:
                    by_batch.append(np.bincount(labels[voxel], deposit, n_labels))
            done = count
            scale = float(line_yield.sum()) * problem.tia_sum / (done * histories)
            reached = transport.relative_sd_of_hot_voxels(
                certain.reshape(-1), sums, scale, problem.density_g_per_ml.reshape(-1), scored, HOT_SHARE
            )
            if reached <= options.precision:
                break
    return Sampled(sums, done * histories, escaped_kev, np.stack(by_batch) if by_batch else None)


def looks(batches: int) -> Iterator[int]:
    """Numbers of batches after which the precision is looked at; the last one is `batches`.

    Examples
    --------
    >>> list(looks(40))
    [16, 20, 25, 31, 38, 40]
    """
    count = LEAST_BATCHES
    while count < batches:
        yield count
        count = int(LOOK_GROWTH * count)
    yield batches


def random_stream(seed: int, batch: int) -> NDArray[np.uint64]:
    """State of the random numbers of one batch: SHA-256 of seed, engine and batch."""
    digest = hashlib.sha256(f"{seed}/{NAME}/{batch}".encode()).digest()
    return np.frombuffer(digest, dtype="<u8").astype(np.uint64)


def pack_medium(density: NDArray[np.float32], medium: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Density with the medium in its two last bits: a step of a photon reads one place of memory, not two.

    The density moves by at most 4e-7 of itself.
    """
    bits = density.view(np.uint32) & ~np.uint32(len(MEDIA) - 1)
    bits |= medium
    return bits.view(np.float32)


def majorant(density: NDArray[np.float32], medium: NDArray[np.uint8]) -> Floats:
    """Largest linear attenuation of the map at the nodes of the energy, 1/cm."""
    largest = [float(density[medium == m].max(initial=0.0)) for m in range(len(MEDIA))]
    # A millionth more than the densities, which have the medium in their last bits.
    return np.asarray((attenuation().mass_attenuation * largest).max(axis=1) * (1.0 + 1e-6))
