"""Loops of the photon Monte Carlo: scattering angles, attenuation, energy, random streams."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.integrate import quad
from scipy.special import expn

from doseledger.dose import transport
from doseledger.dose.attenuation import ELECTRON_KEV, MAX_KEV, TRANSFER, Attenuation, attenuation, process_coefficients
from doseledger.dose.media import BONE, SOFT_TISSUE
from doseledger.dose.photon_mc import majorant, pack_medium, random_stream

Floats = NDArray[np.float64]


def klein_nishina_density(cosine: float, energy_kev: float) -> float:
    """Of the cosine, not normalised."""
    kept = 1.0 / (1.0 + energy_kev / ELECTRON_KEV * (1.0 - cosine))
    return kept**2 * (kept + 1.0 / kept - 1.0 + cosine**2)


# Scattering ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("energy_kev", [30.0, 208.0, 662.0, 2614.0])
def test_klein_nishina_angles_and_energies(energy_kev: float) -> None:
    state, n = random_stream(1, 0), 40_000
    kept, turned = np.array([transport.klein_nishina(energy_kev, state) for _ in range(n)]).T
    assert kept == pytest.approx(1.0 / (1.0 + energy_kev / ELECTRON_KEV * turned), rel=1e-9)
    edges = np.linspace(-1.0, 1.0, 11)
    seen = np.histogram(1.0 - turned, edges)[0]
    parts = [quad(klein_nishina_density, a, b, args=(energy_kev,))[0] for a, b in pairwise(edges)]
    expected = n * np.array(parts) / sum(parts)
    # 9 degrees of freedom: 27.9 is exceeded once in a thousand.
    assert np.sum((seen - expected) ** 2 / expected) < 27.9


@pytest.mark.parametrize("energy_kev", [15.0, 56.0, 364.0])
def test_bound_electrons_give_the_energy_of_the_table(energy_kev: float) -> None:
    """The table integrates the density on its own; drawn photons must lose as much."""
    tables, state = attenuation(), random_stream(2, 0)
    kept = [
        transport.incoherent(energy_kev, tables.scattering[BONE], tables.transfers_per_root, state)[0]
        for _ in range(40_000)
    ]
    coefficients = process_coefficients([energy_kev])[0, BONE]
    share = coefficients[TRANSFER] / coefficients[1]
    assert 1.0 - np.mean(kept) == pytest.approx(share, abs=4.0 * np.std(kept) / np.sqrt(len(kept)))


@pytest.mark.parametrize("energy_kev", [15.0, 56.0, 208.0])
def test_coherent_angles(energy_kev: float) -> None:
    tables, state = attenuation(), random_stream(3, 0)
    integral = tables.form_factor[SOFT_TISSUE]
    cosines = [transport.coherent(energy_kev, tables.transfer2, integral, state) for _ in range(40_000)]
    middle = 0.5 * (tables.transfer2[1:] + tables.transfer2[:-1])
    cosine = 1.0 - 2.0 * middle * (12.398419843 / energy_kev) ** 2
    weight = np.where(cosine >= -1.0, np.diff(integral) * 0.5 * (1.0 + cosine**2), 0.0)
    expected = float(weight @ cosine / weight.sum())
    assert np.mean(cosines) == pytest.approx(expected, abs=4.0 * np.std(cosines) / np.sqrt(len(cosines)) + 2e-3)


# Flight -------------------------------------------------------------------------------------------


def run(
    tia: NDArray[np.float32],
    density: NDArray[np.float32],
    medium: NDArray[np.uint8],
    voxel_cm: tuple[float, float, float],
    energy_kev: float,
    histories: int,
    tables: Attenuation | None = None,
    batch: int = 0,
) -> tuple[Floats, float]:
    """Deposited and escaped energy per photon, in units of its own."""
    voxel, deposit, escaped = transport.run_batch(
        random_stream(5, batch),
        histories,
        np.cumsum(tia.ravel(), dtype=np.float64),
        np.array([energy_kev]),
        np.array([1.0]),
        pack_medium(density, medium),
        np.array(voxel_cm),
        majorant(density, medium),
        tables or attenuation(),
    )
    scale = 1.0 / (histories * energy_kev)
    return np.bincount(voxel, deposit, tia.size) * scale, escaped * scale


def absorbers() -> Attenuation:
    """Tables in which every collision is the last one."""
    tables = attenuation()
    shares = np.zeros_like(tables.shares)
    shares[:, :, 2] = 1.0
    return tables._replace(shares=shares)


@pytest.mark.parametrize("energy_kev", [30.0, 208.0])
def test_transmission_through_two_layers(energy_kev: float) -> None:
    """Uniform isotropic source in a layer of tissue beside one of bone: exponential integrals.

    exp(-mu t / |cos|) over all directions and depths: (E3(mu2 t2) - E3(mu1 t1 + mu2 t2))/(2 mu1 t1) leaves through the
    second layer, (1/2 - E3(mu1 t1))/(2 mu1 t1) through the other side.
    """
    shape, wide = (6, 1, 1), 1e7
    tia, density = np.zeros(shape, np.float32), np.full(shape, 1.04, np.float32)
    medium = np.full(shape, SOFT_TISSUE, np.uint8)
    tia[:4], density[4:], medium[4:] = 1.0, 1.4, BONE
    mu = process_coefficients([energy_kev])[0, :, :TRANSFER].sum(axis=1)
    first, second = 4.0 * 1.04 * mu[SOFT_TISSUE], 2.0 * 1.4 * mu[BONE]
    expected = (0.5 - expn(3, first) + expn(3, second) - expn(3, first + second)) / (2.0 * first)
    histories = 200_000
    escaped = run(tia, density, medium, (1.0, wide, wide), energy_kev, histories, absorbers())[1]
    assert escaped == pytest.approx(expected, abs=4.0 * np.sqrt(expected * (1.0 - expected) / histories))


@pytest.mark.parametrize("energy_kev", [15.0, 56.0, 208.0, 662.0, 2614.0])
def test_no_energy_is_lost(energy_kev: float) -> None:
    """Deposits are expected values, so that they meet the emitted energy on average, pairs included."""
    shape = (21, 21, 21)
    tia = np.zeros(shape, np.float32)
    tia[10, 10, 10] = 1.0
    uniform = np.full(shape, 1.04, np.float32), np.full(shape, SOFT_TISSUE, np.uint8)
    totals = []
    for batch in range(10):
        deposited, escaped = run(tia, *uniform, (4.0, 4.0, 4.0), energy_kev, 10_000, batch=batch)
        totals.append(deposited.sum() + escaped)
    sd = np.std(totals, ddof=1) / np.sqrt(len(totals))
    assert np.mean(totals) == pytest.approx(1.0, abs=4.0 * sd)
    assert sd < 4e-3


# Tables and streams -------------------------------------------------------------------------------


def test_the_medium_lies_in_the_last_bits_of_the_density() -> None:
    density = np.float32([0.001205, 0.26, 1.04, 1.85])
    packed = pack_medium(density, np.arange(4, dtype=np.uint8))
    assert packed == pytest.approx(density, rel=4e-7)
    assert (packed.view(np.uint32) & 3).tolist() == [0, 1, 2, 3]


def test_the_majorant_is_above_every_voxel() -> None:
    rng = np.random.default_rng(4)
    density = rng.uniform(1e-3, 2.0, 1000).astype(np.float32)
    medium = rng.integers(0, 4, 1000).astype(np.uint8)
    linear = attenuation().mass_attenuation[:, medium] * pack_medium(density, medium)
    assert np.all(majorant(density, medium) >= linear.max(axis=1))


def test_streams_differ_by_seed_and_batch_only() -> None:
    streams = {random_stream(seed, batch).tobytes() for seed in (0, 1, 10**60) for batch in range(3)}
    assert len(streams) == 9
    assert np.array_equal(random_stream(7, 3), random_stream(7, 3))
    state = random_stream(7, 3)
    numbers = np.array([transport._uniform(state) for _ in range(20_000)])
    assert 0.0 < numbers.min() < numbers.max() < 1.0
    assert numbers.mean() == pytest.approx(0.5, abs=0.01)
    assert np.corrcoef(numbers[1:], numbers[:-1])[0, 1] == pytest.approx(0.0, abs=0.03)


def test_tables_end_at_their_bounds() -> None:
    tables = attenuation()
    assert np.all(np.isfinite(tables.mass_attenuation))
    assert np.all(tables.energy_transfer < tables.mass_attenuation)
    assert np.all(np.diff(tables.shares, axis=2) >= 0.0)
    assert np.all(tables.shares <= 1.0 + 1e-12)
    assert np.all(np.diff(tables.form_factor, axis=1) >= 0.0)
    last = tables.ln_cut + (len(tables.mass_attenuation) - 1) / tables.nodes_per_ln
    assert np.exp(last) == pytest.approx(MAX_KEV)


def test_spread_is_a_convolution() -> None:
    rng = np.random.default_rng(8)
    source = rng.uniform(0.0, 1.0, (6, 7, 8)).astype(np.float32)
    source[2], source[:, :, 0] = 0.0, 0.0
    kernel = rng.uniform(0.0, 1.0, (3, 5, 7)).astype(np.float32)
    result = np.zeros_like(source)
    transport.spread(source, kernel, result)
    expected = np.zeros((8, 11, 14))
    for z, y, x in np.ndindex(source.shape):
        expected[z : z + 3, y : y + 5, x : x + 7] += source[z, y, x] * kernel
    assert result == pytest.approx(expected[1:-1, 2:-2, 3:-3], rel=1e-5)
