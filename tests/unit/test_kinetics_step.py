"""The kinetics stage on activities alone: which model, which flags, which rows."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doseledger.io.tables import SCHEMAS
from doseledger.kinetics import REGISTRY, exponentials, fit_voxels
from doseledger.kinetics.fit import EXCRETION
from doseledger.statistics.radiobiology import g_factor
from doseledger.steps import kinetics
from doseledger.steps.kinetics import EXCRETED, EXTRAPOLATION_FLAG, EXTRAPOLATION_LOW, VOXEL_MODELS
from doseledger.steps.stage import Job

HALF_LIFE_H = 159.528
TIMES = {1: 4.0, 2: 24.0, 3: 96.0, 4: 168.0}


def job(model: str = "auto", rows: list[dict[str, Any]] | None = None) -> Job:
    settings = {
        "model": model,
        "single_time_point": "hanscheid",
        "two_time_points": "mono",
        "relative_random_uncertainty": 0.05,
    }
    given = {"measured_activity_mbq": 7400.0, "residual_activity_mbq": 0.0}
    return Job({}, Path(), settings, {"curve_models": rows or [], "prior": None, "administration": given})


def activities(times: dict[int, float], half_life_h: float = 60.0, uptake_h: float = 2.5) -> dict[int, float]:
    return {p: 100.0 * (0.5 ** (t / half_life_h) - 0.5 ** (t / uptake_h)) for p, t in times.items()}


def row(**cells: Any) -> dict[str, Any]:
    return {"region": "liver", "model": None, "uptake_half_life_h": None, "uptake_ln_sd": None} | cells


def fitted(own: Job, times: dict[int, float], **curve: float) -> tuple[Any, list[str]]:
    values = activities(times, **curve)
    models = kinetics._fit(own, "liver", values, times, HALF_LIFE_H, {})
    return models, kinetics._curve_flags(own, "liver", models.chosen, values, times)


def test_the_scans_choose() -> None:
    models, flags = fitted(job(), TIMES)
    assert models.chosen.model == "mono_uptake"
    assert models.chosen.tia_mbq_h == pytest.approx(100.0 * (60.0 - 2.5) / log(2.0), rel=1e-4)
    assert set(models.fits) == set(REGISTRY)
    assert flags == []


def test_a_curve_that_misses_its_scans_is_flagged() -> None:
    """Three e-foldings between the first two scans and hardly any later are two phases: four scans cannot tell them."""
    values = {1: 400.0, 2: 20.0, 3: 15.0, 4: 12.0}
    models = kinetics._fit(job(), "liver", values, TIMES, HALF_LIFE_H, {})
    assert "poor_fit" in kinetics._curve_flags(job(), "liver", models.chosen, values, TIMES)
    # What scatters as it should is not: 5 % up and down.
    noisy = {p: v * (1.0 + 0.05 * (-1) ** p) for p, v in activities(TIMES).items()}
    models = kinetics._fit(job(), "liver", noisy, TIMES, HALF_LIFE_H, {})
    assert "poor_fit" not in kinetics._curve_flags(job(), "liver", models.chosen, noisy, TIMES)
    # Two scans are met by any curve.
    two = {p: TIMES[p] for p in (2, 3)}
    assert "poor_fit" not in fitted(job(), two)[1]


def remainder(times: dict[int, float]) -> dict[int, float]:
    """86 % with 2.2 h and 14 % with 36 h: what is left beside the organs of a virtual patient."""
    return {p: 860.0 * 0.5 ** (t / 2.2) + 140.0 * 0.5 ** (t / 36.0) for p, t in times.items()}


TRUE_REMAINDER_MBQ_H = (860.0 * 2.2 + 140.0 * 36.0) / log(2.0)


@pytest.mark.parametrize("region", EXCRETED)
@pytest.mark.parametrize("points", [(1, 2, 3, 4), (1, 2, 3)])
def test_what_is_excreted_has_a_fast_phase_of_its_own(region: str, points: tuple[int, ...]) -> None:
    times = {p: TIMES[p] for p in points}
    values = remainder(times)
    models = kinetics._fit(job(), region, values, times, HALF_LIFE_H, {})
    fit = models.chosen
    assert (fit.model, fit.prior) == ("bi", EXCRETION.name)
    assert models.fits["bi"] is fit
    assert fit.tia_mbq_h == pytest.approx(TRUE_REMAINDER_MBQ_H, rel=0.04)
    assert abs(fit.tia_mbq_h - TRUE_REMAINDER_MBQ_H) < fit.u_tia_mbq_h
    assert "poor_fit" not in kinetics._curve_flags(job(), region, fit, values, times)
    # What one phase makes of it.
    liver = kinetics._fit(job(), "liver", values, times, HALF_LIFE_H, {}).chosen
    assert liver.model == "mono_uptake"
    assert liver.tia_mbq_h < 0.9 * TRUE_REMAINDER_MBQ_H
    assert "poor_fit" in kinetics._curve_flags(job(), "liver", liver, values, times)


@pytest.mark.parametrize(
    "times",
    [{1: 4.0, 2: 24.0}, {2: 24.0, 3: 96.0, 4: 168.0}, {n: 4.0 + 30.0 * n for n in range(5)}],
    ids=["two scans", "no early scan", "five scans"],
)
def test_scans_that_cannot_tell_excretion_or_need_no_prior_are_fitted_as_ever(times: dict[int, float]) -> None:
    values = remainder(times)
    found = [kinetics._fit(job(), region, values, times, HALF_LIFE_H, {}).chosen for region in (*EXCRETED, "liver")]
    assert len({(fit.model, fit.parameters) for fit in found}) == 1


def test_a_named_model_goes_before_excretion() -> None:
    values = remainder(TIMES)
    assert kinetics._fit(job("mono"), "remainder", values, TIMES, HALF_LIFE_H, {}).chosen.model == "mono"
    sheet = [row(region="remainder", model="trapezoid")]
    assert kinetics._fit(job(rows=sheet), "remainder", values, TIMES, HALF_LIFE_H, {}).chosen.model == "trapezoid"


def test_a_body_that_excretes_nothing_has_one_phase() -> None:
    values = {p: 1000.0 * 0.5 ** (t / 60.0) for p, t in TIMES.items()}
    fit = kinetics._fit(job(), "whole_field", values, TIMES, HALF_LIFE_H, {}).chosen
    assert fit.tia_mbq_h == pytest.approx(1000.0 * 60.0 / log(2.0), rel=1e-3)


def test_the_priors_are_written_with_their_numbers() -> None:
    own = job(rows=[row(uptake_half_life_h=1.5, uptake_ln_sd=0.4)])
    fits = {
        "liver": kinetics._fit(own, "liver", activities(TIMES), TIMES, HALF_LIFE_H, {}).chosen,
        "spleen": kinetics._fit(own, "spleen", activities(TIMES), TIMES, HALF_LIFE_H, {}).chosen,
        "remainder": kinetics._fit(own, "remainder", remainder(TIMES), TIMES, HALF_LIFE_H, {}).chosen,
        "lesion_1": kinetics._fit(own, "lesion_1", remainder({2: 24.0, 3: 96.0}), TIMES, HALF_LIFE_H, {}).chosen,
    }
    assert kinetics._priors(own, fits) == {
        "liver": {"name": "curve_models.tsv", "half_life_h": 1.5, "ln_sd": 0.4},
        "spleen": {"name": "uptake-default", "half_life_h": 2.5, "ln_sd": 1.0},
        "remainder": {"name": "excretion-default", "half_life_h": EXCRETION.half_life_h, "ln_sd": EXCRETION.ln_sd},
    }


def test_the_sheet_goes_before_the_config_in_its_region_alone() -> None:
    sheet = [row(model="mono"), row(region="spleen", model="trapezoid")]
    assert fitted(job("bi", sheet), TIMES)[0].chosen.model == "mono"
    assert fitted(job("bi", [row(region="spleen", model="trapezoid")]), TIMES)[0].chosen.model == "bi"


def test_the_prior_of_the_sheet_is_used_and_named() -> None:
    models, _ = fitted(job(rows=[row(uptake_half_life_h=1.0, uptake_ln_sd=1e-3)]), TIMES)
    assert models.chosen.uptake_half_life_h == pytest.approx(1.0, rel=0.01)
    assert models.chosen.prior == "curve_models.tsv"
    assert fitted(job(), TIMES)[0].chosen.prior == "uptake-default"


def test_a_model_that_has_too_few_scans_leaves_the_choice_to_them_and_says_so() -> None:
    models, flags = fitted(job("bi"), {p: TIMES[p] for p in (1, 2, 3)})
    assert models.chosen.model == "mono_uptake"
    assert "too_few_scans_for_model" in flags
    assert "too_few_scans_for_model" not in fitted(job("mono"), TIMES)[1]


def test_one_scan_is_a_row_of_its_method() -> None:
    models, flags = fitted(job("bi"), {3: 96.0})
    assert (list(models.fits), models.chosen.model) == (["hanscheid"], "hanscheid")
    assert {"single_time_point", "half_life_assumed"} <= set(flags)


@pytest.mark.parametrize(
    ("half_life_h", "expected"), [(20.0, []), (100.0, ["extrapolated"]), (159.0, ["rate_at_bound", "extrapolated"])]
)
def test_what_is_extrapolated_is_flagged_and_never_refused(half_life_h: float, expected: list[str]) -> None:
    models, flags = fitted(job(), TIMES, half_life_h=half_life_h)
    assert flags == expected
    assert models.chosen.has_curve
    assert (EXTRAPOLATION_FLAG, EXTRAPOLATION_LOW) == (0.20, 0.50)
    early, low = fitted(job(), {1: 4.0, 2: 24.0}, half_life_h=half_life_h)
    assert early.chosen.has_curve
    assert ("low" in low) == (early.chosen.extrapolated_fraction > 0.50)


def test_a_model_is_a_row_and_one_of_them_is_chosen() -> None:
    models, flags = fitted(job(), TIMES, half_life_h=100.0)
    rows = [kinetics._curve_row("liver", fit, models, 4, flags) for fit in models.fits.values()]
    assert [r["model"] for r in rows] == list(REGISTRY)
    assert [r["model"] for r in rows if r["chosen"]] == ["mono_uptake"]
    assert all(set(r) <= set(SCHEMAS["curve"].names) for r in rows)
    assert [r["flags"] for r in rows if not r["chosen"]] == [[]] * (len(REGISTRY) - 1)
    # Of four scans AICc is defined for one exponential alone: it has no weight to compare.
    assert [r["model"] for r in rows if r["aicc"] is not None] == ["mono"]
    assert all(r["aicc_weight"] is None for r in rows)
    assert {r["prior"] for r in rows} == {None, "uptake-default"}


def test_with_more_scans_the_rows_have_akaike_weights() -> None:
    times = dict(enumerate([1.0, 4.0, 10.0, 24.0, 48.0, 96.0, 144.0, 192.0], start=1))
    models, flags = fitted(job(), times)
    rows = [kinetics._curve_row("liver", fit, models, 8, flags) for fit in models.fits.values()]
    weights = [r["aicc_weight"] for r in rows if r["aicc_weight"] is not None]
    assert len(weights) == 4
    assert sum(weights) == pytest.approx(1.0)


@pytest.mark.parametrize("model", REGISTRY)
def test_voxels_have_the_model_and_the_uptake_of_their_region(model: str) -> None:
    models, _ = fitted(job(model), TIMES)
    fit = models.chosen
    assert fit.model == model
    voxels = np.array(list(activities(TIMES).values()))[:, None] * np.array([1.0, 0.5, 2.0])
    found = kinetics._voxel_tia(voxels.astype(np.float32), list(TIMES.values()), fit, HALF_LIFE_H, 1)
    alone = fit_voxels(
        voxels[:, None, None],
        list(TIMES.values()),
        half_life_h=HALF_LIFE_H,
        model=VOXEL_MODELS.get(model, "mono"),
        uptake_half_life_h=fit.uptake_half_life_h,
    )
    assert np.array_equal(found, alone.tia[0, 0])
    assert found / found[0] == pytest.approx([1.0, 0.5, 2.0], rel=1e-4)
    if model == "mono_uptake":
        assert found[0] == pytest.approx(fit.tia_mbq_h, rel=1e-3)


def test_one_scan_is_its_own_map() -> None:
    models, _ = fitted(job(), {3: 96.0})
    voxels = np.array([[1.0, 2.0]], np.float32)
    assert np.array_equal(kinetics._voxel_tia(voxels, [96.0], models.chosen, HALF_LIFE_H, 1), voxels[0])


def test_the_uptake_is_in_the_g_factor() -> None:
    """Slower arrival is a lower dose rate: less effect than of one exponential with the same half-life."""
    models, _ = fitted(job(), TIMES)
    fit = models.chosen
    amplitudes, rates = exponentials(fit.parameter_names, fit.parameters)
    own = g_factor(repair_half_time_h=2.8, amplitudes=amplitudes, rates_per_h=rates)
    assert own < g_factor(repair_half_time_h=2.8, effective_half_life_h=fit.effective_half_life_h)
