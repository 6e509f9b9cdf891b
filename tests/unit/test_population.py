"""Kinetics of a population: learning, one and two scans, and summaries of sites in place of patients."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from math import exp, log, sqrt
from pathlib import Path
from typing import Any, Final

import numpy as np
import pytest
from numpy.typing import NDArray

from doseledger.errors import PriorError, QuantityError, UnknownNameError
from doseledger.io.priors import default_prior, read_prior, read_summaries, write_prior, write_summaries
from doseledger.kinetics import (
    POPULATION,
    CurveFit,
    Cycle,
    KineticPrior,
    PopulationPrior,
    RegionPrior,
    compare_models,
    exponentials,
    fit_curve,
    learn,
    merge_summaries,
    single_time_point,
    summarise,
)
from doseledger.kinetics.levels import LEVEL_SD
from doseledger.kinetics.log_shapes import LogShape
from doseledger.kinetics.nodes import normal_nodes
from doseledger.kinetics.priors import PARAMETERS, as_matrix

sys.path.insert(0, str(Path(__file__).parents[2] / "recipes/kinetics"))
import population_proof as proof

del sys.path[0]

Array = NDArray[np.float64]

HALF_LIFE_H: Final = 159.528
SLOWEST_PER_H: Final = log(2.0) / HALF_LIFE_H
TIMES_H: Final = (4.0, 24.0, 72.0, 168.0)
KIDNEY: Final = ("Lu177-DOTATATE", "kidney")
NAMES: Final[dict[str, Any]] = {"radiopharmaceutical": "Lu177-DOTATATE", "region": "kidney"}
#: A population of the model's own family: medians and standard deviations of ln.
MEANS: Final = np.log([0.009, 0.035, 0.4, 0.5])
SDS: Final = np.array([0.25, 0.2, 0.3, 0.3])
CYCLE_SD: Final = 0.05


def own_cohort(
    rng: np.random.Generator, patients: int, *, cycles: int = 1, noise: float = 0.05, times_h: Sequence[float] = TIMES_H
) -> list[Cycle]:
    found = []
    for patient in range(patients):
        own = MEANS + SDS * rng.standard_normal(4)
        for _ in range(cycles):
            x = own + CYCLE_SD * rng.standard_normal(4)
            exact = 100.0 * LogShape("bi_uptake", x, SLOWEST_PER_H).at(np.array(times_h))
            seen = exact * (1.0 + noise * rng.standard_normal(len(times_h)))
            u = tuple((noise * seen).tolist())
            found.append(Cycle(f"P{patient}", "A", tuple(times_h), tuple(seen.tolist()), HALF_LIFE_H, u))
    return found


def generator(*seed: int) -> np.random.Generator:
    return np.random.Generator(np.random.PCG64(seed))


def ln_ratio(mean: Array, covariance: Array, times_h: Sequence[float] = TIMES_H) -> tuple[Array, Array]:
    """Mean and standard deviation of ln(TIA/A(t)) over a population."""
    x = mean + normal_nodes(4096, mean.size) @ np.linalg.cholesky(covariance).T
    shape = LogShape("bi_uptake", x, SLOWEST_PER_H)
    values = np.log(shape.integral())[:, None] - np.log(shape.at(np.tile(times_h, (len(x), 1))))
    return values.mean(axis=0), values.std(axis=0)


def certain(model: str, values: Sequence[float], sd: float = 1e-6) -> RegionPrior:
    """A population whose patients are all alike."""
    size = len(values)
    return RegionPrior(
        **NAMES,
        model=model,
        parameter_names=PARAMETERS[model],
        mean=tuple(log(v) for v in values),
        covariance=as_matrix(sd**2 * np.eye(size)),
        mean_covariance=as_matrix(np.zeros((size, size))),
        n_patients=50,
        n_cycles=50,
        n_sites=1,
        source="test",
    )


def integral_of(fit: CurveFit) -> float:
    amplitudes, rates = exponentials(fit.parameter_names, fit.parameters)
    return sum(a / rate for a, rate in zip(amplitudes, rates, strict=True))


@pytest.fixture(scope="module")
def learnt() -> RegionPrior:
    return learn(own_cohort(generator(1), 40), **NAMES)


# Learning -----------------------------------------------------------------------------------------


def test_a_population_of_the_same_family_is_found_again() -> None:
    """What one scan means, TIA/A(t), is known within three standard errors at the scans."""
    patients = 100
    found = learn(own_cohort(generator(2), patients), **NAMES)
    mean, sd = ln_ratio(MEANS, np.diag(SDS**2 + CYCLE_SD**2))
    found_mean, found_sd = ln_ratio(found.mu, np.array(found.covariance))
    assert np.all(np.abs(found_mean - mean) < 3.0 * np.hypot(sd, 0.05) / sqrt(patients))
    assert np.all(np.abs(found_sd / sd - 1.0) < 3.0 / sqrt(2.0 * patients) + 0.05)
    assert (found.n_patients, found.n_cycles, found.n_sites) == (patients, patients, 1)


def test_neither_the_order_of_cycles_nor_a_calibration_matters(learnt: RegionPrior) -> None:
    cycles = own_cohort(generator(1), 40)
    assert learn(cycles[::-1], **NAMES) == learnt
    factors = np.exp(generator(3).standard_normal(len(cycles)))
    scaled = [
        replace(
            c,
            activity_mbq=tuple(f * a for a in c.activity_mbq),
            u_activity_mbq=tuple(f * u for u in c.u_activity_mbq or ()),
        )
        for c, f in zip(cycles, factors, strict=True)
    ]
    assert learn(scaled, **NAMES).mean == pytest.approx(learnt.mean, rel=1e-6)


def test_cycles_of_a_patient_are_not_further_patients() -> None:
    cycles = own_cohort(generator(4), 15)
    again = [replace(c) for c in cycles]
    others = [replace(c, patient=f"{c.patient}b") for c in cycles]
    once, twice, more = (learn(part, **NAMES) for part in (cycles, [*cycles, *again], [*cycles, *others]))
    # Without what one site leaves open of the population, which is the hyper-prior's.
    known = [prior.mean_covariance[0][0] - LEVEL_SD[2] ** 2 for prior in (once, twice, more)]
    assert known[1] > 0.85 * known[0]
    assert known[2] < 0.70 * known[0]
    assert (twice.n_patients, twice.n_cycles, more.n_patients) == (15, 30, 30)


def test_what_late_scans_cannot_tell_is_said() -> None:
    late = learn(own_cohort(generator(5), 12, times_h=(24.0, 96.0, 168.0)), **NAMES, source="late scans")
    assert late.source.startswith("late scans: 12 patients of 1 sites; the scans do not tell")
    assert "uptake_excess_per_h" in late.source
    assert "clearance_per_h" not in late.source
    # What is said of it is true: the population is within two standard errors.
    assert abs(late.mean[3] - MEANS[3]) < 2.0 * sqrt(late.mean_covariance[3][3])


def test_the_effect_of_a_covariate_is_found() -> None:
    rng, cycles = generator(6), []
    for patient in range(60):
        value = float(rng.uniform(-1.0, 1.0))
        x = MEANS + 0.1 * rng.standard_normal(4) + np.array([0.6 * value, 0.0, 0.0, 0.0])
        exact = 100.0 * LogShape("bi_uptake", x, SLOWEST_PER_H).at(np.array(TIMES_H))
        seen = tuple((exact * (1.0 + 0.05 * rng.standard_normal(4))).tolist())
        cycles.append(Cycle(f"P{patient}", "A", TIMES_H, seen, HALF_LIFE_H, covariates={"egfr": 80.0 + 20.0 * value}))
    found = learn(cycles, **NAMES, covariates=["egfr"])
    assert found.covariates is not None
    assert found.covariates.coefficients[0][0] == pytest.approx(0.03, rel=0.25)
    assert found.at({"egfr": 100.0}).mean[0] - found.at({"egfr": 60.0}).mean[0] == pytest.approx(1.2, rel=0.25)
    without = learn(cycles, **NAMES)
    assert found.covariance[0][0] < 0.5 * without.covariance[0][0]
    with pytest.raises(QuantityError, match="lacks a covariate"):
        learn([*cycles, replace(cycles[0], patient="none", covariates={})], **NAMES, covariates=["egfr"])


def test_too_little_is_refused() -> None:
    one = own_cohort(generator(7), 1, cycles=3)
    with pytest.raises(QuantityError, match="too few patients"):
        learn(one, **NAMES)
    dark = [replace(c, patient="dark", activity_mbq=(1.0, 0.0, 0.0, 0.0), u_activity_mbq=None) for c in one]
    with pytest.raises(QuantityError, match="too few patients"):
        learn([*one, *dark], **NAMES)
    with pytest.raises(UnknownNameError):
        learn(one, **NAMES, model="tri")


# One scan -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("half_life_h", [HALF_LIFE_H, 64.0])
def test_patients_who_are_all_alike_have_the_curve_of_the_prior(half_life_h: float) -> None:
    """The parameters are biological: the same prior serves 90Y with its own decay."""
    slowest = log(2.0) / half_life_h
    k, fast, share, rise = 0.009, 0.035, 0.4, 0.5
    rates = (slowest + k, slowest + k + fast, slowest + k + fast + rise)
    at = exp(-rates[0] * 48.0) + share * exp(-rates[1] * 48.0) - (1.0 + share) * exp(-rates[2] * 48.0)
    exact = 50.0 / at * (1.0 / rates[0] + share / rates[1] - (1.0 + share) / rates[2])
    prior = certain("bi_uptake", (k, fast, share, rise))
    fit = single_time_point(48.0, 50.0, half_life_h=half_life_h, method=POPULATION, prior=prior, u_activity_mbq=5.0)
    assert fit.tia_mbq_h == pytest.approx(exact, rel=1e-4)
    assert fit.u_tia_mbq_h == pytest.approx(0.1 * exact, rel=0.01)
    assert fit.parameters[2:] == pytest.approx(rates, rel=1e-4)
    assert integral_of(fit) == pytest.approx(fit.tia_mbq_h, rel=1e-12)
    assert (fit.model, fit.status, fit.dof, fit.prior) == (POPULATION, "saturated", 0, "Lu177-DOTATATE kidney")


def test_one_phase_without_spread_is_madsen() -> None:
    prior = certain("mono", (0.009,))
    own = single_time_point(72.0, 10.0, half_life_h=HALF_LIFE_H, method=POPULATION, prior=prior)
    half_life_h = log(2.0) / (SLOWEST_PER_H + 0.009)
    for given in (prior, KineticPrior("same", half_life_h, 0.0, "")):
        madsen = single_time_point(72.0, 10.0, half_life_h=HALF_LIFE_H, method="madsen", prior=given)
        assert own.tia_mbq_h == pytest.approx(madsen.tia_mbq_h, rel=1e-4)


def test_the_estimate_is_the_mean_of_ln_and_the_interval_holds_the_population(learnt: RegionPrior) -> None:
    mean, sd = ln_ratio(learnt.mu, learnt.predictive_covariance)
    for time_h, middle, spread in zip(TIMES_H, mean, sd, strict=True):
        fit = single_time_point(
            time_h, 1.0, half_life_h=HALF_LIFE_H, method=POPULATION, prior=learnt, u_activity_mbq=0.05
        )
        assert log(fit.tia_mbq_h) == pytest.approx(middle, abs=0.01)
        low, high = (log(end) for end in fit.tia_interval_mbq_h)
        # A t distribution of 39 degrees of freedom is wider than a normal one by 3 %.
        assert (high - low) / 3.92 == pytest.approx(sqrt(spread**2 + 0.05**2), rel=0.12)


def test_few_patients_make_a_wider_interval(learnt: RegionPrior) -> None:
    def width(patients: int) -> float:
        fit = single_time_point(
            24.0, 1.0, half_life_h=HALF_LIFE_H, method=POPULATION, prior=replace(learnt, n_patients=patients)
        )
        return log(fit.tia_interval_mbq_h[1] / fit.tia_interval_mbq_h[0])

    assert width(5) > 1.2 * width(200)


def test_no_activity_and_no_prior_are_said(learnt: RegionPrior) -> None:
    dark = single_time_point(24.0, 0.0, half_life_h=HALF_LIFE_H, method=POPULATION, prior=learnt)
    assert (dark.status, dark.has_curve) == ("not_converged", False)
    for given in (None, KineticPrior("effective", 50.0, 0.2, "")):
        with pytest.raises(UnknownNameError):
            single_time_point(24.0, 1.0, half_life_h=HALF_LIFE_H, method=POPULATION, prior=given)


# Two scans ----------------------------------------------------------------------------------------


def test_two_good_scans_outweigh_a_vague_prior() -> None:
    rate = SLOWEST_PER_H + 0.01
    scans = np.array([24.0, 120.0])
    activity = 100.0 * np.exp(-rate * scans)
    prior = certain("mono", (0.02,), sd=1.5)
    fit = fit_curve(scans, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=0.01 * activity, prior=prior)
    plain = fit_curve(scans, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=0.01 * activity)
    assert fit.tia_mbq_h == pytest.approx(plain.tia_mbq_h, rel=0.002)
    assert fit.u_tia_mbq_h == pytest.approx(plain.u_tia_mbq_h, rel=0.1)
    assert fit.parameters == pytest.approx(plain.parameters, rel=0.005)
    assert np.diag(fit.covariance) == pytest.approx(np.diag(plain.covariance), rel=0.2)
    assert (fit.model, fit.dof, fit.status) == (POPULATION, 1, "ok")


def test_scans_that_say_little_leave_the_prior() -> None:
    prior = certain("mono", (0.02,), sd=0.1)
    scans = np.array([24.0, 30.0])
    fit = fit_curve(scans, [100.0, 100.0], half_life_h=HALF_LIFE_H, u_activity_mbq=[30.0, 30.0], prior=prior)
    assert fit.effective_half_life_h == pytest.approx(log(2.0) / (SLOWEST_PER_H + 0.02), rel=0.01)


def test_the_posterior_is_that_of_a_fine_grid() -> None:
    """One unknown: the same integral by the trapezoidal rule."""
    prior = certain("mono", (0.012,), sd=0.4)
    scans, activity, u = np.array([24.0, 96.0]), np.array([100.0, 50.0]), np.array([7.0, 4.0])
    x = np.linspace(log(0.012) - 3.0, log(0.012) + 3.0, 20001)
    rate = SLOWEST_PER_H + np.exp(x)
    shape = np.exp(-rate[:, None] * scans) / u
    amplitude = shape @ (activity / u) / np.square(shape).sum(axis=1)
    chi2 = np.square(activity / u - amplitude[:, None] * shape).sum(axis=1)
    weight = np.exp(-0.5 * chi2 - 0.5 * np.square((x - log(0.012)) / 0.4))
    expected = float((weight * np.log(amplitude / rate)).sum() / weight.sum())
    fit = fit_curve(scans, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=u, prior=prior)
    assert log(fit.tia_mbq_h) == pytest.approx(expected, abs=0.001)


def test_no_rate_is_below_decay(learnt: RegionPrior) -> None:
    """Decay alone leaves 53.5 % after six days; 60 % are seen."""
    slow = fit_curve([24.0, 168.0], [50.0, 30.0], half_life_h=HALF_LIFE_H, prior=learnt)
    assert min(slow.parameters[2:]) >= SLOWEST_PER_H
    assert slow.effective_half_life_h > 100.0
    assert slow.tia_interval_mbq_h[0] < slow.tia_mbq_h < slow.tia_interval_mbq_h[1]


def test_scans_that_no_patient_could_have_give_no_curve() -> None:
    """Rising by 60 % between 24 and 168 h, known to 0.1 %: better no number than that of a single node."""
    prior = certain("bi", (0.01, 0.035, 0.4), sd=0.3)
    fit = fit_curve([24.0, 168.0], [50.0, 80.0], half_life_h=HALF_LIFE_H, u_activity_mbq=[0.05, 0.08], prior=prior)
    assert (fit.status, fit.has_curve) == ("not_converged", False)
    vague = fit_curve([24.0, 168.0], [50.0, 80.0], half_life_h=HALF_LIFE_H, u_activity_mbq=[5.0, 8.0], prior=prior)
    assert vague.has_curve
    # Two degrees of conflict, one scan against the other, and the prior against both.
    assert vague.chi2 > 10.0


def test_models_are_compared_with_the_population_beside_them(learnt: RegionPrior) -> None:
    compared = compare_models([24.0, 96.0], [100.0, 50.0], half_life_h=HALF_LIFE_H, prior=learnt)
    assert compared.chosen.model == POPULATION
    assert {"mono", POPULATION} <= set(compared.fits)
    with pytest.raises(UnknownNameError):
        fit_curve([24.0, 96.0], [100.0, 50.0], half_life_h=HALF_LIFE_H, prior=learnt, model="mono")


# The prior that comes with the program --------------------------------------------------------------


def test_the_default_prior_has_the_published_half_lives() -> None:
    prior = default_prior()
    published = {"kidney_left": 35.5, "liver": 22.9, "spleen": 16.8, "parotid_right": 42.2, "marrow": 32.0}
    for region, half_life_h in published.items():
        entry = prior.find("Lu177-PSMA-617", region)
        assert entry is not None
        assert entry.effective_half_life_h(HALF_LIFE_H) == pytest.approx(half_life_h, rel=1e-4)
    kidney = prior.find("Lu177-DOTATATE", "kidney_right")
    assert kidney is not None
    assert kidney.effective_half_life_h(HALF_LIFE_H) == pytest.approx(51.0, rel=1e-4)
    # 40 to 65 h are 95 %, and sources differ.
    assert kidney.effective_ln_sd(HALF_LIFE_H) == pytest.approx(log(65.0 / 40.0) / 3.92, rel=0.3)
    assert prior.find("Lu177-PSMA-617", "lesion_1") is None


def test_the_default_prior_finds_the_curve_of_its_median() -> None:
    entry = default_prior().find("Lu177-DOTATATE", "kidney")
    assert entry is not None
    rate, rise = log(2.0) / 51.0, log(2.0) / 2.5
    activity = 100.0 * (exp(-rate * 96.0) - exp(-rise * 96.0))
    fit = single_time_point(96.0, activity, half_life_h=HALF_LIFE_H, method=POPULATION, prior=entry)
    assert fit.tia_mbq_h == pytest.approx(100.0 * (1.0 / rate - 1.0 / rise), rel=0.04)
    low, high = fit.tia_interval_mbq_h
    assert low < 100.0 * (1.0 / rate - 1.0 / rise) < high


# The proof, small ---------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=[KIDNEY, ("Lu177-PSMA-617", "lesion")], ids="-".join)
def proven(request: pytest.FixtureRequest) -> dict[str, list[proof.Cell]]:
    errors = proof.prove(request.param, patients=40, sites=5, cohorts=6, seed=17, patients_tried=120)
    return {left_out: proof.cells(found) for left_out, found in errors.items()}


def test_one_scan_is_near_the_optimum(proven: dict[str, list[proof.Cell]]) -> None:
    """Few cohorts: a single cell may be out by what they happened to teach; docs/population.md has the full tables."""
    for cells in proven.values():
        ratios = [cell.rms["population"] / cell.rms["optimal"] for cell in cells]
        assert np.median(ratios) < 1.05
        assert max(ratios) < 1.10
        # 720 patients per cell: three binomial standard errors beside the 92 to 98 % of the full proof.
        assert all(0.92 - 0.025 < cell.coverage < 0.98 + 0.025 for cell in cells)


def test_one_scan_is_no_worse_than_the_simpler_ways(proven: dict[str, list[proof.Cell]]) -> None:
    for cells in proven.values():
        for name in ("Hänscheid", "Madsen"):
            ratios = [cell.rms["population"] / cell.rms[name] for cell in cells]
            assert np.mean(ratios) < 1.0
            assert max(ratios) < 1.05


# Federation ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def sites() -> list[list[Cycle]]:
    rng = generator(8)
    factors = np.array([proof.draw_site(rng) for _ in range(6)])
    cycles = proof.draw_cohort(rng, proof.REGIONS["Lu177-PSMA-617", "parotid"], factors, 48)
    return [[c for c in cycles if c.site == f"S{site}"] for site in range(6)]


@pytest.mark.parametrize(
    ("key", "model"),
    [
        # The spreads of these were 12 and 7 % off for ever, without cycles and the sites' own means in the sums.
        (("Lu177-DOTATATE", "liver"), "bi_uptake"),
        (("Lu177-DOTATATE", "kidney"), "mono_uptake"),
        (("Lu177-PSMA-617", "parotid"), "bi_uptake"),
    ],
)
def test_summaries_teach_what_the_patients_would(key: tuple[str, str], model: str) -> None:
    """After two rounds the median of TIA/A(t) within 1 %, its spread within 5 %, wherever the scan is."""
    for cohort in range(2):
        mean, sd, half_life = proof.federate(key, model, cohort, rounds=2)[-1]
        assert mean < 0.01
        assert sd < 0.05
        assert half_life < 0.015


@pytest.mark.parametrize(
    ("region", "patients", "stream", "last_rounds", "too_few"),
    [
        # The slowest cohorts of the proof: a fifth round, and a third around the prior of the year before.
        ("kidney", proof.FEDERATED_PATIENTS, 4, proof.ROUNDS, 3),
        ("liver", proof.LATER_PATIENTS, 106, proof.LATER_ROUNDS, 2),
    ],
    ids=["first year", "later year"],
)
def test_rounds_of_files_teach_what_the_patients_would(
    region: str, patients: int, stream: int, last_rounds: int, too_few: int, tmp_path: Path
) -> None:
    """As many rounds as docs/multi-site.md advises, each through files of summaries and of a prior."""
    drawn = proof.Federated.draw(("Lu177-DOTATATE", region), "bi_uptake", patients, stream)
    earlier = [drawn.before] * proof.ROUNDS if patients > proof.FEDERATED_PATIENTS else []
    reference, off = None, []
    for cycles in [*earlier, *[drawn.cycles] * last_rounds]:
        for site in sorted({c.site for c in cycles}):
            summary = summarise([c for c in cycles if c.site == site], **drawn.names, reference=reference)
            assert summary is not None
            write_summaries(tmp_path / f"{site}.json", [summary])
        merged = merge_summaries([s for path in tmp_path.glob("S*.json") for s in read_summaries(path)])
        write_prior(tmp_path / "prior.json", PopulationPrior("merged", (merged,)))
        reference = read_prior(tmp_path / "prior.json").entries[0]
        off.append(drawn.off(reference))
    own = off[len(earlier) :]
    assert own[-1][0] < proof.MOST_MEAN
    assert own[-1][1] < proof.MOST_SPREAD
    # The advice is not more than is needed.
    assert own[too_few - 1][1] > proof.MOST_SPREAD


def test_the_patients_together_are_where_the_rounds_end(sites: list[list[Cycle]]) -> None:
    """Around what the pooled patients taught, the sums ask for no change."""
    pooled = learn([cycle for cycles in sites for cycle in cycles], **NAMES)
    found = [summarise(cycles, **NAMES, reference=pooled) for cycles in sites]
    again = merge_summaries([summary for summary in found if summary is not None])
    mean, sd = ln_ratio(pooled.mu, pooled.predictive_covariance, proof.SCAN_TIMES_H)
    own_mean, own_sd = ln_ratio(again.mu, again.predictive_covariance, proof.SCAN_TIMES_H)
    assert np.abs(own_mean - mean).max() < 0.002
    assert np.abs(own_sd / sd - 1.0).max() < 0.01
    assert pooled.levels is not None
    assert again.levels is not None
    for one, other in zip(pooled.levels, again.levels, strict=True):
        assert np.sqrt(np.diag(other)) == pytest.approx(np.sqrt(np.diag(one)), rel=0.02)
    assert (again.n_patients, again.n_cycles, again.n_sites) == (pooled.n_patients, pooled.n_cycles, pooled.n_sites)


def test_merging_does_not_depend_on_the_order(sites: list[list[Cycle]], tmp_path: Path) -> None:
    found = [summary for cycles in sites if (summary := summarise(cycles, **NAMES)) is not None]
    assert merge_summaries(found[::-1]) == merge_summaries(found)
    first = write_summaries(tmp_path / "a.json", found)
    assert write_summaries(tmp_path / "b.json", found[::-1]) == first
    assert read_summaries(tmp_path / "a.json") == tuple(found)


def test_small_groups_are_withheld(sites: list[list[Cycle]], tmp_path: Path) -> None:
    patients = sorted({cycle.patient for cycle in sites[0]})
    few = [cycle for cycle in sites[0] if cycle.patient in patients[:4]]
    assert summarise(few, **NAMES) is None
    assert summarise(sites[0], **NAMES, minimum_patients=len(patients) + 1) is None
    # Nobody can make it smaller than the program allows.
    assert summarise(few, **NAMES, minimum_patients=1) is None
    summary = summarise(sites[0], **NAMES)
    assert summary is not None
    write_summaries(tmp_path / "s.json", [summary])
    text = (tmp_path / "s.json").read_text(encoding="utf-8")
    assert not any(f'"{patient}"' in text for patient in patients)
    (tmp_path / "s.json").write_text(text.replace('"n_patients": 8', '"n_patients": 4'), encoding="utf-8")
    with pytest.raises(PriorError, match="too few patients"):
        read_summaries(tmp_path / "s.json")


def test_summaries_that_do_not_belong_together_are_refused(sites: list[list[Cycle]], learnt: RegionPrior) -> None:
    one, two = (summarise(cycles, **NAMES) for cycles in sites[:2])
    assert one is not None
    assert two is not None
    with pytest.raises(QuantityError, match="no summary"):
        merge_summaries([])
    with pytest.raises(QuantityError, match="there twice"):
        merge_summaries([one, one])
    with pytest.raises(QuantityError, match="not of one region"):
        merge_summaries([one, replace(two, region="liver")])
    around = summarise(sites[1], **NAMES, reference=learnt)
    assert around is not None
    with pytest.raises(QuantityError, match="not of one region"):
        merge_summaries([one, around])
    with pytest.raises(QuantityError, match="of one site"):
        summarise([*sites[0], *sites[1]], **NAMES)
    with pytest.raises(QuantityError, match="another model"):
        summarise(sites[0], **NAMES, model="mono", reference=learnt)
