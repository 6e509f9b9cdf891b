"""Decay data: exceptions to ICRP-107, chains in place, lines and names (numbers: tests/oracle)."""

from __future__ import annotations

from math import log

import pytest

from doseledger.errors import NuclideError
from doseledger.nuclides import HALF_LIFE_H, Nuclide, nuclide

THERAPY = ["Lu-177", "Y-90", "I-131", "Tb-161", "Pb-212", "Ac-225", "Ra-223", "At-211", "Cu-67", "Ho-166", "Re-188"]


@pytest.mark.parametrize("name", THERAPY)
def test_the_parts_sum_to_the_whole(name: str) -> None:
    source = nuclide(name)
    assert source.electron_kev == source.beta_kev + source.conversion_electron_kev + source.auger_electron_kev
    assert source.photon_kev == pytest.approx(sum(energy * y for energy, y in source.photons), rel=1e-12)
    assert source.decay_constant_per_h == pytest.approx(log(2.0) / source.half_life_h, rel=1e-15)
    energies = [energy for energy, _ in source.photons]
    assert energies == sorted(energies)
    assert all(y > 0 for _, y in source.photons)


@pytest.mark.parametrize("name", THERAPY)
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
