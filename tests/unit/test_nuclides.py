"""Decay data: exceptions to ICRP-107, chains in place, lines and names (numbers: tests/oracle)."""

from __future__ import annotations

import subprocess
import sys
from math import log

import numpy as np
import pytest

from doseledger.data import records
from doseledger.errors import NuclideError
from doseledger.nuclides import HALF_LIFE_H, Nuclide, _record, nuclide

BETA = ["Lu-177", "Lu-177m", "Y-90", "I-131", "Tb-161", "Cu-67", "Cu-64", "Sm-153", "Ho-166", "Re-188"]
IMAGING = ["Tc-99m", "In-111", "Ga-68", "I-124", "Zr-89"]
ALPHA = ["Pb-212", "Ac-225", "Ra-223", "At-211"]
ALL = [*BETA, *IMAGING, *ALPHA]


@pytest.mark.parametrize("name", ALL)
def test_the_parts_sum_to_the_whole(name: str) -> None:
    source = nuclide(name)
    assert source.electron_kev == source.beta_kev + source.conversion_electron_kev + source.auger_electron_kev
    assert source.photon_kev == pytest.approx(sum(energy * y for energy, y in source.photons), rel=1e-12)
    assert source.decay_constant_per_h == pytest.approx(log(2.0) / source.half_life_h, rel=1e-15)
    energies = [energy for energy, _ in source.photons]
    assert energies == sorted(energies)
    assert all(y > 0 for _, y in source.photons)


@pytest.mark.parametrize("name", ALL)
def test_what_decays_in_place_is_the_nuclide_and_its_weighted_daughters(name: str) -> None:
    source = nuclide(name)
    total = source.in_place
    for kind in ("electron_kev", "photon_kev", "alpha_kev", "recoil_kev"):
        expected = getattr(source, kind) + sum(m.yield_per_decay * getattr(nuclide(m.name), kind) for m in source.chain)
        assert getattr(total, kind) == pytest.approx(expected, rel=1e-12)
    assert total.local_kev == total.electron_kev + total.alpha_kev + total.recoil_kev


@pytest.mark.parametrize("name", ["Lu-177", "Y-90", "Tb-161", "Cu-67"])
def test_a_nuclide_with_stable_daughters_has_no_chain(name: str) -> None:
    source = nuclide(name)
    assert source.chain == ()
    assert source.in_place.alpha_kev == source.in_place.recoil_kev == 0.0
    assert source.in_place.electron_kev == source.electron_kev


def test_a_daughter_that_outlives_its_parent_does_not_decay_in_place() -> None:
    # 131I -> 131mXe (11.9 d) and 211At -> 207Bi (31.6 a): neither is where the parent was when it decays.
    assert nuclide("I-131").chain == ()
    assert {member.name for member in nuclide("At-211").chain} == {"Po-211"}


def test_lutetium_177_grows_in_its_long_lived_isomer() -> None:
    (daughter,) = nuclide("Lu-177m").chain
    assert (daughter.name, daughter.yield_per_decay) == ("Lu-177", 0.217)


def test_the_table_of_chains_is_what_radioactivedecay_says() -> None:
    """The package is slow to import, so that the table is read in its place."""
    radioactivedecay = pytest.importorskip("radioactivedecay")
    table: dict[str, list[tuple[str, float]]] = {}
    for row in records("decay_chains"):
        table.setdefault(row["parent"], []).append((row["daughter"], float(row["branching_fraction"])))
    assert set(ALL) <= set(table)
    for parent, branches in table.items():
        listed = radioactivedecay.Nuclide(parent)
        assert branches == list(zip(listed.progeny(), listed.branching_fractions(), strict=True))
        assert sum(fraction for _, fraction in branches) == pytest.approx(1.0, abs=2e-4)
        for daughter, _ in branches:
            stable = radioactivedecay.Nuclide(daughter).half_life("readable") == "stable"
            assert stable == (daughter not in table)


@pytest.mark.parametrize("name", ALL)
def test_half_lives_of_two_packages_agree(name: str) -> None:
    radioactivedecay = pytest.importorskip("radioactivedecay")
    if name not in HALF_LIFE_H:
        assert nuclide(name).half_life_h == pytest.approx(radioactivedecay.Nuclide(name).half_life("h"), rel=1e-6)


def test_a_chain_that_is_not_on_record_is_refused() -> None:
    assert nuclide("Cs-137").half_life_h > 2e5
    with pytest.raises(NuclideError, match="not on record"):
        _ = nuclide("Cs-137").chain


def test_chains_do_not_import_the_slow_package() -> None:
    code = "import sys; from doseledger.nuclides import nuclide; nuclide('Ac-225').in_place; "
    code += "sys.exit('radioactivedecay' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("name", [*BETA, "Ga-68", "I-124", "Zr-89"])
def test_the_beta_spectrum_has_the_listed_yield_and_mean_energy(name: str) -> None:
    energy, per_kev = np.array(nuclide(name).beta_spectrum).T
    fine = np.unique(np.concatenate([energy, np.linspace(0.0, energy[-1], 200_001)]))
    density = np.interp(fine, energy, per_kev)
    branches = [branch for kind in ("beta-", "beta+") for branch in _record(name)["emissions"][kind]]
    assert np.trapezoid(density, fine) == pytest.approx(sum(y for _, y in branches), rel=1e-6)
    assert np.trapezoid(density * fine, fine) == pytest.approx(nuclide(name).beta_kev, rel=1e-6)
    assert np.all(per_kev >= 0.0)
    # As tabulated it is up to 0.2 % high in number; the shape moves by no more than 2.5 % anywhere.
    tabulated = np.array(_record(name)["emissions"]["b-spectra"])[:, 1]
    kept = tabulated > 0
    ratio = per_kev[kept] * 1e3 / tabulated[kept]
    assert 0.975 < ratio.min() <= ratio.max() < 1.015


def test_photons_in_place_carry_the_energy_in_place() -> None:
    lead = nuclide("Pb-212")
    assert sum(energy * y for energy, y in lead.photons_in_place) == pytest.approx(lead.in_place.photon_kev)
    # 2.6 MeV of 208Tl, born in 36 % of the decays.
    energy, y = lead.photons_in_place[-1]
    assert (energy, y) == (pytest.approx(2614.5, abs=0.1), pytest.approx(0.3594 * 0.9916, rel=2e-2))


def test_branches_of_the_lead_212_chain_meet_again() -> None:
    chain = {member.name: member for member in nuclide("Pb-212").chain}
    assert set(chain) == {"Bi-212", "Po-212", "Tl-208"}
    assert chain["Bi-212"].yield_per_decay == pytest.approx(1.0)
    assert chain["Po-212"].yield_per_decay + chain["Tl-208"].yield_per_decay == pytest.approx(1.0, abs=1e-6)
    assert all(0 < member.half_life_h < nuclide("Pb-212").half_life_h for member in chain.values())


def test_every_alpha_decay_of_actinium_225_is_counted() -> None:
    chain = nuclide("Ac-225").chain
    alphas = ("Fr-221", "At-217", "Bi-213", "Po-213")
    assert {"Fr-221", "At-217", "Bi-213", "Po-213", "Tl-209", "Pb-209"} == {member.name for member in chain}
    # Four alpha particles per decay, of 5.8 to 8.4 MeV each; 209Bi at the end counts as stable.
    assert sum(m.yield_per_decay for m in chain if m.name in alphas) == pytest.approx(3.979, abs=2e-3)
    assert nuclide("Ac-225").in_place.alpha_kev > 4 * 5800


def test_the_half_life_of_terbium_161_supersedes_icrp_107() -> None:
    assert set(HALF_LIFE_H) == {"Tb-161"}
    assert nuclide("Tb-161").half_life_h == HALF_LIFE_H["Tb-161"]
    assert "Collins" in nuclide("Tb-161").source
    # 6.906 d stood in ICRP-107: the two differ by 0.8 %.
    assert nuclide("Tb-161").half_life_h / 24.0 - 6.906 == pytest.approx(0.0577, abs=1e-4)


def test_copper_64_counts_both_kinds_of_beta_and_both_annihilation_quanta() -> None:
    copper = nuclide("Cu-64")
    annihilation = sum(y for energy, y in copper.photons if energy == pytest.approx(511.0, abs=0.1))
    assert annihilation == pytest.approx(2 * 0.175, rel=0.02)
    assert copper.beta_kev == pytest.approx(0.385 * 190.7 + 0.175 * 278.2, rel=0.02)


def test_one_object_serves_all() -> None:
    assert nuclide("Lu-177") is nuclide("Lu-177")
    assert isinstance(nuclide("Lu-177"), Nuclide)
    assert "ICRP-107" in nuclide("Lu-177").source


@pytest.mark.parametrize(
    "name",
    [
        "",
        "Lu177",
        "lu-177",
        "LU-177",
        "177Lu",
        "Lu-177 ",
        "Lu-177\n",
        "Lu-999",
        "Xx-1",
        "../icrp107/Lu-177",
        "a\0b",
        "é",
    ],
)
def test_an_unknown_name_is_refused_with_an_example(name: str) -> None:
    with pytest.raises(NuclideError) as caught:
        nuclide(name)
    assert caught.value.code == "nuclide_unknown"
    assert f"found {name!r}; expected 'Lu-177'" in caught.value.sentence
