"""Statistics of sites, methods and references: against other programs' numbers, and against planted effects."""

from __future__ import annotations

from math import exp, log

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats
from statsmodels.stats.multitest import multipletests

from doseledger.statistics.agreement import agreement
from doseledger.statistics.multiple import holm
from doseledger.statistics.power import detection_power, patients_per_site
from doseledger.statistics.reference import reference_interval, robust_z
from doseledger.statistics.site_design import site_design
from doseledger.statistics.site_model import compare_sites

Study = tuple[NDArray[np.float64], list[str], list[str], list[str]]


def study(
    sites: int, patients: int, cycles: int, *, shift: float = 0.0, seed: int = 11, sd: tuple[float, float] = (0.25, 0.1)
) -> Study:
    """Values, sites, patients and cycles; the last site is shifted. Labels of patients repeat at every site."""
    random = np.random.Generator(np.random.PCG64(seed))
    values, site, who, cycle = [], [], [], []
    for s in range(sites):
        for p in range(patients):
            of_patient = random.normal(0.0, sd[0]) + (shift if s == sites - 1 else 0.0)
            for c in range(cycles):
                values.append(of_patient + random.normal(0.0, sd[1]))
                site.append(f"S{s}")
                who.append(f"P{p}")
                cycle.append(str(c + 1))
    return np.array(values), site, who, cycle


class TestSiteModel:
    def test_patients_of_the_same_label_at_two_sites_are_two(self) -> None:
        values, site, who, _ = study(3, 8, 2)
        assert compare_sites(values, site, who).n_patients == 24

    def test_one_value_per_patient_is_the_t_test(self) -> None:
        values, site, who, _ = study(2, 12, 1, shift=0.2)
        found = compare_sites(values, site, who)
        expected = stats.ttest_ind(values[:12], values[12:])
        assert found.sd_patient is None
        assert found.dof == 22
        assert [e.p for e in found.effects] == pytest.approx([expected.pvalue] * 2, rel=1e-9)
        assert found.effects[1].effect - found.effects[0].effect == pytest.approx(
            values[12:].mean() - values[:12].mean()
        )

    def test_balanced_cycles_are_a_test_of_the_means_of_patients(self) -> None:
        # With as many cycles for everyone the mixed model is the analysis of variance of patients' means.
        values, site, who, _ = study(2, 10, 3, shift=0.3)
        means = values.reshape(20, 3).mean(axis=1)
        expected = stats.ttest_ind(means[:10], means[10:])
        found = compare_sites(values, site, who)
        assert found.effects[0].p == pytest.approx(expected.pvalue, rel=1e-4)

    def test_order_of_rows_changes_nothing(self) -> None:
        values, site, who, cycle = study(4, 6, 2, shift=0.5)
        order = np.random.Generator(np.random.PCG64(3)).permutation(len(values))
        first = compare_sites(values, site, who, {"cycle": cycle})
        turned = compare_sites(
            values[order], [site[i] for i in order], [who[i] for i in order], {"cycle": [cycle[i] for i in order]}
        )
        assert [e.effect for e in turned.effects] == pytest.approx([e.effect for e in first.effects], rel=1e-6)
        assert [e.stands_out for e in turned.effects] == [e.stands_out for e in first.effects]

    def test_a_site_far_off_does_not_make_the_others_stand_out(self) -> None:
        values, site, who, _ = study(6, 20, 2, shift=log(2.0))
        found = compare_sites(values, site, who)
        # The mean of the sites is moved by a sixth of ln 2, so that the others seem to differ too.
        assert sum(e.p_holm is not None and e.p_holm < 0.05 for e in found.effects) > 1
        assert [e.site for e in found.effects if e.stands_out] == ["S5"]

    def test_of_two_sites_nobody_can_say_which(self) -> None:
        values, site, who, _ = study(2, 20, 2, shift=log(2.0))
        assert [e.stands_out for e in compare_sites(values, site, who).effects] == [True, True]

    def test_sites_that_all_agree(self) -> None:
        values, site, who, _ = study(5, 20, 2)
        assert not any(e.stands_out for e in compare_sites(values, site, who).effects)

    def test_too_few_patients_are_left_out_and_named(self) -> None:
        values, site, who, _ = study(3, 4, 2)
        assert compare_sites(values, site, who).status == "too_few"
        more, their_site, them, _ = study(2, 9, 2, seed=12)
        found = compare_sites(np.concatenate([values, more]), site + [f"L{name}" for name in their_site], who + them)
        assert found.left_out == ("S0", "S1", "S2")
        assert [e.site for e in found.effects] == ["LS0", "LS1"]

    def test_values_that_are_all_one(self) -> None:
        values, site, who, _ = study(3, 6, 2)
        assert compare_sites(np.zeros_like(values), site, who).status == "no_variation"

    def test_no_scatter_between_patients(self) -> None:
        # No scatter between patients: the variance is at its bound, and the model is that of independent rows.
        values, site, who, _ = study(3, 10, 2, sd=(0.0, 0.2))
        found = compare_sites(values, site, who)
        assert found.status == "fitted"
        assert found.sd_patient == pytest.approx(0.0, abs=0.1)

    def test_a_covariate_that_goes_with_the_sites_is_named(self) -> None:
        values, site, who, cycle = study(3, 8, 2)
        protocol = ["stp" if name == "S2" else "mtp" for name in site]
        found = compare_sites(values, site, who, {"cycle": cycle, "protocol": protocol})
        assert found.confounded == ("protocol",)
        assert [c.term.covariate for c in found.covariates] == ["cycle"]

    def test_a_covariate_that_varies_within_sites_is_taken_out(self) -> None:
        values, site, who, _ = study(3, 30, 2, seed=4)
        # More single scans at the last site, which read 0.4 high.
        random = np.random.Generator(np.random.PCG64(5))
        single = random.random(len(values)) < np.where(np.array(site) == "S2", 0.7, 0.1)
        values = values + 0.4 * single
        protocol = np.where(single, "stp", "mtp").tolist()
        plain, adjusted = compare_sites(values, site, who), compare_sites(values, site, who, {"protocol": protocol})
        assert plain.effects[2].stands_out
        assert not adjusted.effects[2].stands_out
        (term,) = adjusted.covariates
        assert term.low < 0.4 < term.high

    def test_ten_sites_are_random_and_shrunk(self) -> None:
        values, site, who, _ = study(10, 6, 2, shift=0.4)
        found = compare_sites(values, site, who)
        assert found.sites_are == "random"
        means = {name: values[np.array(site) == name].mean() for name in set(site)}
        raw = means["S9"] - np.mean(list(means.values()))
        assert 0 < found.effects[9].effect < raw
        assert all(e.p is None for e in found.effects)

    def test_values_must_be_finite(self) -> None:
        with pytest.raises(ValueError, match="not finite"):
            compare_sites([0.1, float("nan")], ["A", "B"], ["1", "2"])


def test_a_level_that_two_covariates_share_belongs_to_the_first() -> None:
    sites = np.array(["A", "A", "A", "B", "B", "B"])
    levels = ["x", "y", "y", "x", "y", "y"]
    design = site_design(sites, {"protocol": levels, "region_source": levels})
    assert [term.covariate for term in design.terms] == ["protocol"]
    assert design.confounded == ("region_source",)


def test_holm_is_that_of_statsmodels() -> None:
    random = np.random.Generator(np.random.PCG64(6))
    for size in (1, 2, 7, 30):
        p = random.random(size) ** 3
        assert holm(p) == pytest.approx(multipletests(p, method="holm")[1], rel=1e-12)


def test_power_and_number_of_patients_are_inverse() -> None:
    for sd in (0.25, 0.35):
        n = patients_per_site(0.08, sd, n_sites=6)
        assert detection_power(0.08, sd, n, n_sites=6) == pytest.approx(0.8, abs=1e-4)


def test_power_is_how_often_the_model_finds_the_effect() -> None:
    # One value per patient, six sites, one of them +25 %; without Holm's correction, as the power is printed.
    hits = 0
    for seed in range(200):
        values, site, who, _ = study(6, 15, 1, shift=log(1.25), seed=seed, sd=(0.0, 0.3))
        hits += (compare_sites(values, site, who).effects[5].p or 1.0) < 0.05
    expected = detection_power(0.25, 0.3, 15, n_sites=6)
    assert hits / 200 == pytest.approx(expected, abs=3 * (expected * (1 - expected) / 200) ** 0.5)


class TestAgreement:
    def test_pairs_of_one_patient_count_as_one_for_the_mean(self) -> None:
        random = np.random.Generator(np.random.PCG64(7))
        ratio = np.repeat(random.normal(0.05, 0.1, 10), 4)
        a = np.exp(random.normal(0.0, 0.3, 40))
        who = [str(i // 4) for i in range(40)]
        repeated = agreement(a, a * np.exp(ratio), who)
        single = agreement(a[::4], a[::4] * np.exp(ratio[::4]), who[::4])
        assert repeated.n_pairs == 40
        assert repeated.n_patients == 10
        assert (repeated.ratio_low, repeated.ratio_high) == pytest.approx((single.ratio_low, single.ratio_high))
        assert (repeated.limit_low, repeated.limit_high) == pytest.approx((single.limit_low, single.limit_high))

    def test_limits_hold_95_percent(self) -> None:
        random = np.random.Generator(np.random.PCG64(8))
        who = np.repeat(np.arange(2000), 2)
        ratio = random.normal(0.0, 0.1, 2000)[who] + random.normal(0.0, 0.05, 4000)
        found = agreement(np.ones(4000), np.exp(ratio), [str(i) for i in who])
        inside = np.mean((np.exp(ratio) > found.limit_low) & (np.exp(ratio) < found.limit_high))
        assert inside == pytest.approx(0.95, abs=0.01)

    def test_one_patient_has_no_interval(self) -> None:
        found = agreement([1.0, 2.0], [1.1, 2.2], ["1", "1"])
        assert (found.ratio_low, found.limit_low) == (None, None)

    def test_a_value_that_is_not_positive_is_a_defect(self) -> None:
        with pytest.raises(ValueError, match="not positive"):
            agreement([1.0], [0.0], ["1"])


class TestReference:
    def test_rows_that_repeat_a_patient_do_not_narrow_the_interval(self) -> None:
        random = np.random.Generator(np.random.PCG64(9))
        values = np.exp(random.normal(0.0, 0.3, 60))
        who = [str(i) for i in range(60)]
        once = reference_interval(values, who, seed=1)
        often = reference_interval(np.repeat(values, 5), list(np.repeat(who, 5)), seed=1)
        for a, b in zip(once, often, strict=True):
            assert (b.low, b.high) == (a.low, a.high)

    def test_intervals_cover_the_truth_as_often_as_they_say(self) -> None:
        truth = [exp(0.3 * stats.norm.ppf(q)) for q in (0.05, 0.5, 0.95)]
        covered = np.zeros(3)
        for seed in range(100):
            values = np.exp(0.3 * np.random.Generator(np.random.PCG64(seed)).standard_normal(150))
            found = reference_interval(values, [str(i) for i in range(150)], seed=seed, replicates=300)
            covered += [p.low is not None and p.low <= t <= (p.high or 0.0) for p, t in zip(found, truth, strict=True)]
        # 95 of 100 is meant; the bootstrap of an outer percentile is known to be a little short.
        assert (covered >= 85).all(), covered

    @pytest.mark.parametrize(("patients", "known"), [(4, [False] * 3), (19, [False, True, False]), (20, [True] * 3)])
    def test_too_few_patients_have_no_reference(self, patients: int, known: list[bool]) -> None:
        found = reference_interval(np.linspace(1.0, 2.0, patients), [str(i) for i in range(patients)], seed=1)
        assert [p.value is not None for p in found] == known

    def test_robust_z_of_few_or_equal_values_is_unknown(self) -> None:
        assert np.isnan(robust_z([1.0, 2.0, 3.0, 100.0])).all()
        assert np.isnan(robust_z([1.0, 1.0, 1.0, 1.0, 7.0])).all()
