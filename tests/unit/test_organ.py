"""Organ doses after MIRD: mass scaling, marrow, lesions, the map of means, bad input."""

from __future__ import annotations

import numpy as np
import pytest

from doseledger.dose import compute_dose
from doseledger.dose.kernels import sphere_s_value
from doseledger.dose.organ import MARROW_METHOD, REFERENCE_ORGANS, marrow_method, organ_s_value, self_energy_kev
from doseledger.errors import QuantityError
from doseledger.nuclides import nuclide
from doseledger.units import kev_per_decay_to_gy_g_per_mbq_h


@pytest.mark.parametrize("name", ["Lu-177", "I-131", "Y-90"])
@pytest.mark.parametrize("ratio", [0.5, 1.0, 2.0])
def test_mass_scaling(name: str, ratio: float) -> None:
    """Electrons by m_ref/m, photons by (m_ref/m)^(2/3)."""
    mass_g = REFERENCE_ORGANS["liver"].mass_g
    electrons = sphere_s_value(name, mass_g, density_g_per_ml=1.05)
    photons = sphere_s_value(name, mass_g, density_g_per_ml=1.05, photons=True) - electrons
    expected = electrons / ratio + photons / ratio ** (2.0 / 3.0)
    assert organ_s_value("liver", name, ratio * mass_g) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("mass_g", [0.5, 8.0, 60.0])
def test_a_lesion_is_a_sphere_of_its_own_mass(mass_g: float) -> None:
    sphere = sphere_s_value("Lu-177", mass_g, density_g_per_ml=1.05, photons=True)
    assert organ_s_value("lesion_1", "Lu-177", mass_g) == pytest.approx(sphere, rel=1e-12)


def test_marrow_keeps_a_stated_share_and_never_all() -> None:
    low_let_kev, high_let_kev = self_energy_kev("lumbar_marrow", "Lu-177", 200.0)
    assert low_let_kev == pytest.approx(0.57 * nuclide("Lu-177").electron_kev)
    assert high_let_kev == 0.0
    assert marrow_method("organ", "lumbar_marrow") == MARROW_METHOD
    assert marrow_method("organ", "liver") is None
    assert marrow_method("pmc", "lumbar_marrow") is None


def test_alpha_particles_stay_inside() -> None:
    source = nuclide("Ac-225").in_place
    low_let_kev, high_let_kev = self_energy_kev("spleen", "Ac-225", 150.0)
    assert high_let_kev == source.alpha_kev + source.recoil_kev
    assert source.electron_kev * 0.97 < low_let_kev < source.electron_kev + source.photon_kev


@pytest.mark.parametrize("name", ["Lu-177", "Ac-225"])
def test_the_map_holds_the_means(name: str) -> None:
    rng = np.random.Generator(np.random.PCG64(2))
    labels = np.zeros((6, 7, 8), np.uint8)
    labels[:3], labels[4, 2:5, 2:5] = 2, 5
    tia, density = rng.uniform(1e5, 1e6, labels.shape), rng.uniform(0.9, 1.2, labels.shape)
    regions = {2: "liver", 5: "lesion_1", 7: "not_in_the_map"}
    dose = compute_dose(tia, density, 10.0, name, engine="organ", labels=labels, region_names=regions)
    for label, region in ((2, "liver"), (5, "lesion_1")):
        inside = labels == label
        expected = tia[inside].sum() / 1e6 * organ_s_value(region, name, float(density[inside].sum()))
        assert dose.dose_gy[inside] == pytest.approx(np.full(inside.sum(), expected), rel=1e-5)
    # Outside of the regions: what stops where it is emitted.
    local = kev_per_decay_to_gy_g_per_mbq_h(nuclide(name).in_place.local_kev)
    outside = labels == 0
    assert dose.dose_gy[outside] == pytest.approx((tia / 1e6 * local / density)[outside], rel=1e-5)
    assert dose.energy_balance.closure == pytest.approx(1.0, abs=1e-5)


def test_bad_input_is_refused() -> None:
    ones = np.ones((2, 2, 2))
    with pytest.raises(QuantityError, match="labels of regions and their names"):
        compute_dose(ones, ones, 4.8, "Lu-177", engine="organ")
    with pytest.raises(QuantityError, match="mass"):
        organ_s_value("liver", "Lu-177", 0.0)
