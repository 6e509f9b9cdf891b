"""`compute_dose`: hand calculation, energy balance, alpha emitters, contract of every engine, bad input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from doseledger.dose import DEFAULT_ENGINE, REGISTRY, EnergyBalance, compute_dose
from doseledger.errors import NuclideError, QuantityError, UnknownNameError
from doseledger.nuclides import nuclide
from doseledger.units import kev_per_decay_to_gy_g_per_mbq_h

RNG = np.random.Generator(np.random.PCG64(11))
#: MBq h/mL in voxels of three different spacings, and densities from lung to bone.
TIA = RNG.uniform(0.0, 5e6, (3, 4, 5))
DENSITY = RNG.uniform(0.3, 1.5, TIA.shape)
SPACING_MM = (4.0, 3.0, 2.5)
VOLUME_ML = 0.030


def test_local_deposition_by_hand() -> None:
    """D = Delta_e TIA / rho, whatever the voxel's size."""
    delta = kev_per_decay_to_gy_g_per_mbq_h(nuclide("Lu-177").electron_kev)
    dose = compute_dose(TIA, DENSITY, SPACING_MM, "Lu-177", engine="led")
    assert dose.dose_gy == pytest.approx(delta * TIA / 1e6 / DENSITY, rel=1e-6)
    cubes = compute_dose(TIA, DENSITY, 4.8, nuclide("Lu-177"), engine="led")
    assert cubes.dose_gy == pytest.approx(dose.dose_gy, rel=1e-6)
    assert dose.engine == "led"
    assert np.all(dose.relative_sd == 0.0)
    assert dose.dose_high_let_gy is None


@pytest.mark.parametrize("name", ["Lu-177", "Y-90", "I-131", "Tb-161"])
def test_the_energy_balance_is_the_share_of_the_electrons(name: str) -> None:
    source = nuclide(name)
    balance = compute_dose(TIA, DENSITY, SPACING_MM, name, engine="led").energy_balance
    assert balance.absorbed_fraction == pytest.approx(source.electron_kev / (source.electron_kev + source.photon_kev))
    decays = TIA.sum() * 3600.0 * VOLUME_ML
    emitted = (source.electron_kev + source.photon_kev) * 1.602176634e-16
    assert balance.emitted_j == pytest.approx(decays * emitted)


def test_absorbed_energy_is_dose_times_mass() -> None:
    dose = compute_dose(TIA, DENSITY, SPACING_MM, "Lu-177")
    energy_j = np.sum(dose.dose_gy.astype(float) * DENSITY * VOLUME_ML * 1e-3)
    assert dose.energy_balance.absorbed_j == pytest.approx(energy_j, rel=1e-6)


@pytest.mark.parametrize("name", ["Pb-212", "Ac-225", "Ra-223", "At-211"])
def test_alpha_emitters_report_their_high_let_part(name: str) -> None:
    energy = nuclide(name).in_place
    dose = compute_dose(TIA, DENSITY, SPACING_MM, name, engine="led")
    assert dose.dose_high_let_gy is not None
    share = (energy.alpha_kev + energy.recoil_kev) / energy.local_kev
    assert dose.dose_high_let_gy == pytest.approx(share * dose.dose_gy, rel=1e-5)
    balance = dose.energy_balance.absorbed_fraction
    assert balance == pytest.approx(energy.local_kev / (energy.local_kev + energy.photon_kev))
    # Most of the energy of an alpha emitter is in its alpha particles, those of the daughters included.
    assert 0.88 < share < 1.0
    assert dose.dose_gy == pytest.approx(
        kev_per_decay_to_gy_g_per_mbq_h(energy.local_kev) * TIA / 1e6 / DENSITY, rel=1e-5
    )


def test_an_empty_map_has_no_dose_and_no_balance() -> None:
    dose = compute_dose(np.zeros((2, 2, 2)), np.ones((2, 2, 2)), 4.8, "Lu-177")
    assert np.all(dose.dose_gy == 0.0)
    assert np.isnan(dose.energy_balance.absorbed_fraction)
    assert np.isnan(dose.energy_balance.closure)
    balance = EnergyBalance({"electron": 3.0, "photon": 1.0}, absorbed_j=1.0, escaped_j=2.0)
    assert (balance.emitted_j, balance.absorbed_fraction, balance.closure) == (4.0, 0.25, 0.75)


# The contract of every engine ---------------------------------------------------------------------


@pytest.mark.parametrize("engine", REGISTRY)
def test_every_engine_keeps_the_contract(engine: str) -> None:
    tia = np.zeros((9, 10, 11))
    tia[4, 5, 6] = 1e6
    density = np.full(tia.shape, 1.04)
    # One engine needs to know what is a region.
    regions: dict[str, Any] = {"labels": (tia > 0).astype(np.uint8), "region_names": {1: "lesion_1"}}
    first = compute_dose(tia, density, 4.8, "Lu-177", engine=engine, seed=3, **regions)
    assert first.engine == engine
    assert first.dose_gy.shape == first.relative_sd.shape == tia.shape
    assert first.dose_gy.dtype == first.relative_sd.dtype == np.float32
    assert np.all(first.dose_gy >= 0.0)
    assert np.argmax(first.dose_gy) == np.ravel_multi_index((4, 5, 6), tia.shape)
    assert 0.0 < first.energy_balance.absorbed_fraction <= 1.0 + 1e-6
    again = compute_dose(tia, density, 4.8, "Lu-177", engine=engine, seed=3, **regions)
    assert np.array_equal(first.dose_gy, again.dose_gy)
    double = compute_dose(2.0 * tia, density, 4.8, "Lu-177", engine=engine, seed=3, **regions)
    assert double.energy_balance.absorbed_fraction == pytest.approx(first.energy_balance.absorbed_fraction, rel=0.02)
    assert 0.0 < REGISTRY[engine].u_dose_factor_rel < 1.0


def test_the_default_engine_is_registered() -> None:
    assert DEFAULT_ENGINE in REGISTRY
    assert compute_dose(TIA, DENSITY, SPACING_MM, "Lu-177").engine == DEFAULT_ENGINE
    assert "electrons_only" in REGISTRY["led"].flags


# Bad input ----------------------------------------------------------------------------------------

ONES = np.ones((2, 2, 2))


def with_value(value: float) -> Any:
    image = ONES.copy()
    image[1, 0, 1] = value
    return image


GOOD: dict[str, Any] = {"tia_bq_h_per_ml": ONES, "density_g_per_ml": ONES, "spacing_mm": 4.8, "nuclide": "Lu-177"}


@pytest.mark.parametrize(
    ("change", "kind", "word"),
    [
        ({"tia_bq_h_per_ml": with_value(-1e-9)}, QuantityError, "time-integrated activity"),
        ({"tia_bq_h_per_ml": with_value(float("nan"))}, QuantityError, "time-integrated activity"),
        ({"tia_bq_h_per_ml": with_value(float("inf"))}, QuantityError, "time-integrated activity"),
        ({"density_g_per_ml": with_value(0.0)}, QuantityError, "density"),
        ({"density_g_per_ml": with_value(-1.0)}, QuantityError, "density"),
        ({"density_g_per_ml": with_value(float("nan"))}, QuantityError, "density"),
        ({"density_g_per_ml": with_value(float("inf"))}, QuantityError, "density"),
        ({"density_g_per_ml": ONES[:1]}, QuantityError, "not on the same grid"),
        ({"density_g_per_ml": ONES[0], "tia_bq_h_per_ml": ONES[0]}, QuantityError, "not on the same grid"),
        ({"density_g_per_ml": ONES[:0], "tia_bq_h_per_ml": ONES[:0]}, QuantityError, "not on the same grid"),
        ({"spacing_mm": 0.0}, QuantityError, "spacing"),
        ({"spacing_mm": -4.8}, QuantityError, "spacing"),
        ({"spacing_mm": (4.8, 4.8, float("nan"))}, QuantityError, "spacing"),
        ({"spacing_mm": (4.8, 4.8)}, QuantityError, "spacing"),
        ({"spacing_mm": (4.8, 4.8, 4.8, 4.8)}, QuantityError, "spacing"),
        ({"nuclide": "Lu177"}, NuclideError, "expected 'Lu-177'"),
        ({"material": ONES.astype(int)[:1]}, QuantityError, "material"),
        ({"material": ONES}, QuantityError, "material"),
        ({"material": np.full(ONES.shape, 4)}, QuantityError, "material"),
        ({"material": np.full(ONES.shape, -1)}, QuantityError, "material"),
        ({"labels": np.full(ONES.shape, -1)}, QuantityError, "labels"),
        ({"labels": ONES.astype(int)[0]}, QuantityError, "labels"),
        ({"precision": 0.0}, QuantityError, "precision"),
        ({"precision": float("nan")}, QuantityError, "precision"),
        ({"max_histories": 0}, QuantityError, "histories"),
        ({"threads": 0}, QuantityError, "threads"),
        ({"engine": "magic"}, UnknownNameError, "found 'magic'; expected \\['led'"),
    ],
    ids=lambda value: ", ".join(f"{k}={v!r}" for k, v in value.items())[:60] if isinstance(value, dict) else "",
)
def test_bad_input_is_refused(change: dict[str, Any], kind: type[Exception], word: str) -> None:
    with pytest.raises(kind, match=word):
        compute_dose(**GOOD | change)
