"""Cycles of one or two scans: what they take from the population or from another cycle, what they fall back to."""

from __future__ import annotations

import json
from math import exp, hypot, log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doseledger.errors import QuantityError
from doseledger.io.prior_rows import prior_of, prior_row
from doseledger.io.tables import SCHEMAS, write_rows
from doseledger.kinetics import CurveFit, PopulationPrior, RegionPrior, fit_curve, single_time_point
from doseledger.kinetics.own_cycle import BETWEEN_CYCLES_LN_SD, EarlierCurve, from_other_cycle
from doseledger.report import methods
from doseledger.steps import few_scans, kinetics
from doseledger.steps.few_scans import donor_curves
from doseledger.steps.stage import Job

HALF_LIFE_H = 159.528
DRUG = "Lu177-DOTATATE"
KIDNEY = RegionPrior(
    DRUG, "kidney", "mono", ("clearance_per_h",), (log(log(2.0) / 75.0),), ((0.04,),), ((0.001,),), 20, 40, 2, "test"
)
PRIOR = PopulationPrior("test-prior", (KIDNEY,), "f" * 64)


def job(
    method: str = "hanscheid", *, two: str = "mono", prior: bool = True, donors: tuple[Path, ...] = (), **sheet: Any
) -> Job:
    settings = {
        "model": "auto",
        "single_time_point": method,
        "two_time_points": two,
        "relative_random_uncertainty": 0.05,
    }
    own = {"region": "kidney_left", "model": None, "single_time_point": None, "uptake_half_life_h": None}
    rows = {
        "curve_models": [own | sheet] if sheet else [],
        "prior": prior_row(PRIOR) if prior else None,
        "administration": {"measured_activity_mbq": 7400.0, "residual_activity_mbq": 0.0},
    }
    return Job({"donors": donors}, Path(), settings, rows)


def fitted(own: Job, values: dict[int, float], region: str = "kidney_left") -> tuple[Any, list[str]]:
    times = {1: 24.0, 2: 96.0}
    models = kinetics._fit(own, region, values, times, HALF_LIFE_H, donor_curves(own))
    return models, kinetics._curve_flags(own, region, models.chosen, values, times)


def donor_folder(
    folder: Path, *, status: str = "ok", cycle: int = 1, fit_status: str | None = None, **changed: Any
) -> Path:
    """The kinetics folder of another cycle: a curve of the left kidney by two scans."""
    folder.mkdir()
    outcome = {"status": status, "files": [], "key": {"site": "A", "patient": "P1", "cycle": cycle}}
    (folder / "outcome.json").write_text(json.dumps(outcome))
    if status == "ok":
        fit = fit_curve([20.0, 100.0], [100.0, 40.0], half_life_h=HALF_LIFE_H)
        row: dict[str, Any] = {
            **outcome["key"],
            "region": "kidney_left",
            "model": fit.model,
            "parameter_names": list(fit.parameter_names),
            "parameters": list(fit.parameters),
            "covariance": fit.covariance.ravel().tolist(),
            "n_timepoints": 2,
            "chosen": True,
            "status": fit_status or fit.status,
            "effective_half_life_h": fit.effective_half_life_h,
            "flags": [],
        }
        write_rows(folder, "curve", [row | changed])
    return folder


def test_the_form_of_the_other_curve_keeps_its_uptake_and_its_second_phase() -> None:
    """TIA over activity is that of the other cycle, whatever its model."""
    names = ("amplitude_mbq", "fast_amplitude_mbq", "rate_per_h", "fast_rate_per_h", "uptake_rate_per_h")
    values = (70.0, 30.0, log(2.0) / 60.0, log(2.0) / 15.0, log(2.0) / 1.5)
    donor = EarlierCurve(2, names, values, np.zeros((5, 5)), 60.0)

    def at(t: float) -> float:
        return 70.0 * exp(-values[2] * t) + 30.0 * exp(-values[3] * t) - 100.0 * exp(-values[4] * t)

    whole = 70.0 / values[2] + 30.0 / values[3] - 100.0 / values[4]
    fit = from_other_cycle(30.0, 2.5 * at(30.0), half_life_h=HALF_LIFE_H, donor=donor)
    assert fit.tia_mbq_h == pytest.approx(2.5 * whole)
    assert fit.parameters == pytest.approx((175.0, 75.0, *values[2:]))
    assert (fit.effective_half_life_h, fit.uptake_half_life_h) == pytest.approx((60.0, 1.5))
    later = 70.0 * exp(-values[2] * 30.0) / values[2] + 30.0 * exp(-values[3] * 30.0) / values[3]
    assert fit.extrapolated_fraction == pytest.approx((later - 100.0 * exp(-values[4] * 30.0) / values[4]) / whole)


def test_the_uncertainty_has_three_parts() -> None:
    """Of one exponential: |L t - 1| times the uncertainty of ln L, of the fit and between cycles; and the activity."""
    rate, u_rate = log(2.0) / 50.0, 0.05 * log(2.0) / 50.0
    covariance = np.diag([4.0, u_rate**2])
    donor = EarlierCurve(1, ("amplitude_mbq", "rate_per_h"), (100.0, rate), covariance, 50.0)
    fit = from_other_cycle(24.0, 80.0, half_life_h=HALF_LIFE_H, donor=donor, u_activity_mbq=3.2)
    lever = abs(rate * 24.0 - 1.0)
    assert fit.u_tia_mbq_h / fit.tia_mbq_h == pytest.approx(
        hypot(0.04, 0.05 * lever, BETWEEN_CYCLES_LN_SD * lever), rel=1e-4
    )


def test_a_trapezoid_gives_its_tail_and_a_curve_at_its_bound_says_so() -> None:
    donor = EarlierCurve(
        1, ("last_activity_mbq", "tail_rate_per_h"), (10.0, log(2.0) / 40.0), np.diag([1.0, 1e-8]), 40.0
    )
    fit = from_other_cycle(40.0, 100.0, half_life_h=HALF_LIFE_H, donor=donor)
    assert fit.tia_mbq_h == pytest.approx(200.0 * 40.0 / log(2.0))
    names, slowest = ("amplitude_mbq", "rate_per_h"), log(2.0) / HALF_LIFE_H
    slow = EarlierCurve(1, names, (10.0, slowest), np.zeros((2, 2)), HALF_LIFE_H)
    bound = from_other_cycle(40.0, 100.0, half_life_h=HALF_LIFE_H, donor=slow)
    assert (bound.status, bound.rate_at_bound) == ("at_bound", True)
    with pytest.raises(QuantityError, match="no curve"):
        from_other_cycle(40.0, 1.0, half_life_h=HALF_LIFE_H, donor=EarlierCurve(1, (), (), np.empty((0, 0)), 40.0))


def test_one_scan_takes_the_nearest_other_cycle_that_has_the_region(tmp_path: Path) -> None:
    nearest = donor_folder(tmp_path / "c2", cycle=2, region="liver")
    own = job("own_cycle", donors=(nearest, donor_folder(tmp_path / "c1")))
    models, flags = fitted(own, {1: 90.0})
    fit = models.chosen
    assert (fit.model, fit.prior) == ("own_cycle", "cycle 1, half-life 60.5 h")
    assert {"single_time_point", "half_life_of_own_cycle"} <= set(flags)
    assert "half_life_assumed" not in flags
    assert kinetics.prior_sha256(own, fit) is None
    assert fitted(own, {1: 90.0}, "liver")[0].chosen.prior == "cycle 2, half-life 60.5 h"


@pytest.mark.parametrize(
    "changed",
    [
        {"n_timepoints": 1},
        {"fit_status": "not_converged"},
        {"chosen": False},
        {"region": "lesion_t1"},
    ],
)
def test_a_curve_that_cannot_be_relied_on_is_no_donor(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert set(donor_curves(job("own_cycle", donors=(donor_folder(tmp_path / "c1"),)))) == {"kidney_left"}
    assert donor_curves(job("own_cycle", donors=(donor_folder(tmp_path / "c2", **changed),))) == {}


def test_a_refused_donor_leaves_the_population_and_says_so(tmp_path: Path) -> None:
    own = job("own_cycle", donors=(donor_folder(tmp_path / "c1", status="refused"),))
    models, flags = fitted(own, {1: 90.0})
    fit = models.chosen
    alone = single_time_point(
        24.0, 90.0, half_life_h=HALF_LIFE_H, method="population", prior=KIDNEY, u_activity_mbq=4.5
    )
    assert (fit.model, fit.tia_mbq_h) == ("population", alone.tia_mbq_h)
    assert {"no_own_cycle", "half_life_of_population"} <= set(flags)
    assert (fit.prior, kinetics.prior_sha256(own, fit)) == ("test-prior", "f" * 64)


def test_without_a_population_value_it_is_haenscheid_with_a_flag() -> None:
    for method in ("madsen", "population", "own_cycle"):
        models, flags = fitted(job(method), {1: 90.0}, "spleen")
        assert models.chosen.model == "hanscheid"
        assert {"half_life_assumed", "no_population_value"} <= set(flags)
        assert ("no_own_cycle" in flags) == (method == "own_cycle")
        assert kinetics.prior_sha256(job(method), models.chosen) is None
    assert "no_population_value" not in fitted(job("hanscheid"), {1: 90.0}, "spleen")[1]


def test_a_radiopharmaceutical_that_the_prior_does_not_know_has_haenscheid_with_a_flag() -> None:
    own = job("population")
    own.rows["prior"]["entries"] = []
    models, flags = fitted(own, {1: 90.0})
    assert models.chosen.model == "hanscheid"
    assert {"half_life_assumed", "no_population_value"} <= set(flags)


def test_the_sheet_names_the_method_of_a_region() -> None:
    own = job("hanscheid", single_time_point="madsen")
    models, flags = fitted(own, {1: 90.0})
    assert models.chosen.model == "madsen"
    rate = log(2.0) / KIDNEY.effective_half_life_h(HALF_LIFE_H)
    assert models.chosen.tia_mbq_h == pytest.approx(90.0 * exp(24.0 * rate) / rate)
    assert "half_life_of_population" in flags


def test_two_scans_take_the_prior_when_asked_and_a_named_model_goes_first() -> None:
    values = {1: 90.0, 2: 20.0}
    exact, _ = fitted(job(), values)
    assert (exact.chosen.model, exact.chosen.prior) == ("mono", None)
    own = job(two="population")
    informed, flags = fitted(own, values)
    assert (informed.chosen.model, informed.chosen.prior) == ("population", "test-prior")
    assert "population_prior" in flags
    assert set(informed.fits) > {"mono", "population"}
    # The scans say 33 h, the population 51 h: what is known of both lies between.
    half_lives = [exact.chosen.effective_half_life_h, informed.chosen.effective_half_life_h]
    assert half_lives[0] < half_lives[1] < KIDNEY.effective_half_life_h(HALF_LIFE_H)
    named, flags = fitted(job(two="population", model="mono"), values)
    assert named.chosen.model == "mono"
    assert "population_prior" not in flags
    without, flags = fitted(job(two="population"), values, "spleen")
    assert without.chosen.model == "mono"
    assert "no_population_value" in flags


def test_a_prior_survives_the_plan() -> None:
    assert prior_of(json.loads(json.dumps(prior_row(PRIOR)))) == PRIOR


def test_the_page_says_on_what_a_dose_of_one_scan_rests() -> None:
    common = {"status": "ok", "chosen": True}
    rows = [
        common | {"model": "own_cycle", "prior": "cycle 1, half-life 51.6 h", "prior_sha256": None},
        common | {"model": "population", "prior": "mine", "prior_sha256": "0123456789abcdef"},
    ]
    text = dict(methods.paragraphs({name: [] for name in SCHEMAS} | {"curve": rows}))["Curves"]
    assert "the curve of another cycle of the patient, scaled to the scan in 1 region curve" in text
    assert "Prior: cycle 1, half-life 51.6 h and mine (file 0123456789ab)." in text


def test_scans_that_contradict_the_population_stand_for_themselves(monkeypatch: pytest.MonkeyPatch) -> None:
    def contradicted(*args: Any, **options: Any) -> CurveFit:
        return CurveFit.without_result("population", "not_converged")

    monkeypatch.setattr(few_scans, "fit_curve", contradicted)
    two, flags = fitted(job(two="population"), {1: 90.0, 2: 20.0})
    assert (two.chosen.model, two.chosen.prior) == ("mono", None)
    assert "no_population_value" in flags
    alone = few_scans.single_time_point
    monkeypatch.setattr(
        few_scans, "single_time_point", lambda *a, **o: contradicted() if o.get("method") else alone(*a, **o)
    )
    one, flags = fitted(job("population"), {1: 90.0})
    assert one.chosen.model == "hanscheid"
    assert "no_population_value" in flags
