"""The uncertainty check of the dose stage: curves fitted again, and what the stage writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from doseledger.cohort import CYCLE_STAGES, stage_folder
from doseledger.dose.marrow import RED_MARROW
from doseledger.io.priors import default_prior
from doseledger.io.sheets import load_plan
from doseledger.io.tables import read_rows
from doseledger.kinetics import UptakePrior, fit_curve
from doseledger.kinetics.single import hanscheid_errors
from doseledger.phantom import simulate
from doseledger.statistics.sampling import SAMPLES, shared_draws, stream
from doseledger.steps.layout import PRIORS, UNCERTAINTY
from doseledger.steps.stage import run_stage
from doseledger.steps.uncertainty_check import FLAG, MeasuredCurve, tia_factors

HALF_LIFE_H = 159.528


def measured(
    times_h: tuple[float, ...], activity: tuple[float, ...], prior: UptakePrior | None = None
) -> MeasuredCurve:
    u = 0.05 * np.array(activity)
    fit = fit_curve(times_h, activity, half_life_h=HALF_LIFE_H, u_activity_mbq=u)
    assert (fit.prior is None) == (prior is None)
    tia = (fit.tia_mbq_h, fit.u_tia_mbq_h)
    return MeasuredCurve(times_h, activity, 0.05, HALF_LIFE_H, fit.model, *tia, prior, by_method=False)


def spread(curve: MeasuredCurve, gain: float = 1.0, count: int = 150) -> float:
    return float(np.log(tia_factors(curve, gain, stream(7, "liver"), shared_draws(7, count))).std())


TWO = measured((24.0, 96.0), (80.0, 30.0))
FOUR = measured((4.0, 24.0, 96.0, 168.0), (98.0, 76.0, 26.0, 9.0), UptakePrior())


@pytest.mark.parametrize("curve", [TWO, FOUR], ids=["two scans", "four scans with a prior"])
def test_fits_of_drawn_activities_spread_as_the_fit_says(curve: MeasuredCurve) -> None:
    """So many draws tell a standard deviation within 6 %; the rest of the tolerance is curvature."""
    assert spread(curve) == pytest.approx(curve.u_tia_mbq_h / curve.tia_mbq_h, rel=0.2)


def test_the_prior_is_drawn_like_a_datum() -> None:
    """Without noise in the activities nothing else moves."""
    assert spread(TWO, gain=0.0, count=5) == 0.0
    assert spread(FOUR, gain=0.0, count=40) > 0.002


def test_correction_for_blur_makes_noise_larger() -> None:
    assert spread(TWO, gain=1.5) == pytest.approx(1.5 * spread(TWO), rel=0.15)


def test_one_scan_has_the_uncertainty_of_its_method() -> None:
    u = float(np.hypot(hanscheid_errors(48.0, HALF_LIFE_H)[0], 0.05))
    one = MeasuredCurve((48.0,), (50.0,), 0.05, HALF_LIFE_H, "hanscheid", 7000.0, 7000.0 * u, None, by_method=True)
    assert spread(one, count=20_000) == pytest.approx(u, rel=0.03)


@pytest.fixture(scope="module")
def single_scan(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Dose stage of a micro cycle of one scan, without and with the check."""
    folder = tmp_path_factory.mktemp("check")
    config = simulate(folder / "input", sites=3, patients=1, cycles=1, size="micro", plant_refusal=False)
    plan = load_plan(yaml.safe_load(config.read_text(encoding="utf-8")), config.parent)
    cycle = next(c for c in plan.imaged if len(c.scans) == 1)
    own = {stage: stage_folder(plan.results, *cycle.key, stage) for stage in CYCLE_STAGES}

    def stage(name: str, output: Path, settings: dict[str, Any]) -> None:
        needed = CYCLE_STAGES[: CYCLE_STAGES.index(name)]
        inputs = {other: (own[other],) for other in needed}
        outcome = run_stage(name, inputs=inputs, output=output, settings=settings, rows=cycle.rows_for(name))
        assert outcome["status"] == "ok", outcome["sentence"]

    for name in CYCLE_STAGES[:-1]:
        stage(name, own[name], plan.settings[name])
    plain = plan.settings["dose"] | {"engines": ["led"]}
    assert plain["uncertainty_check"] == "none"
    stage("dose", own["dose"], plain)
    stage("dose", folder / "checked", plain | {"uncertainty_check": "monte_carlo"})
    assert json.loads((own["kinetics"] / PRIORS).read_text()) == {}
    return own["dose"], folder / "checked"


def test_the_check_is_a_sidecar_and_moves_no_number(single_scan: tuple[Path, Path]) -> None:
    plain, checked = single_scan
    assert not (plain / UNCERTAINTY).exists()
    rows = json.loads((checked / UNCERTAINTY).read_text())["rows"]
    primary = {row["region"]: row for row in read_rows(checked, "organ_dose") if row["is_primary"]}
    # Red marrow is not of the voxels: its chain is another one, and it is not drawn.
    assert {row["region"] for row in rows} == set(primary) - {RED_MARROW}
    for row in rows:
        assert row["samples"] == SAMPLES
        assert row["sampled_low_gy"] < primary[row["region"]]["absorbed_dose_gy"] < row["sampled_high_gy"]
        # Nothing but log-normal parts here, beside the curvature of the volume and the noise of 400 draws.
        assert row["sd_ln_dose"] == pytest.approx(row["u_absorbed_dose_rel"], rel=0.2)
    before, after = (
        [{k: v for k, v in row.items() if k not in ("flags", "settings_sha256")} for row in read_rows(f, "organ_dose")]
        for f in single_scan
    )
    assert before == after
    assert not any(FLAG in row["flags"] for row in primary.values())


def test_one_scan_takes_the_prior_that_ships_and_says_where_it_has_none(single_scan: tuple[Path, Path]) -> None:
    """The default of a config that names neither method nor prior."""
    dose, _ = single_scan
    curves = {row["region"]: row for row in read_rows(dose.parent / "kinetics", "curve") if row["chosen"]}
    sha256 = default_prior().sha256
    doses = {row["region"]: row for row in read_rows(dose, "organ_dose") if row["is_primary"]}
    for region in ("kidney_left", "liver", "spleen"):
        assert (curves[region]["model"], curves[region]["prior_sha256"]) == ("population", sha256)
        assert "half_life_of_population" in curves[region]["flags"]
        assert doses[region]["prior_sha256"] == sha256
        # The dose has the ends of the curve's own interval in it, and is no narrower on either side.
        for end, reach in (("low", -1.0), ("high", 1.0)):
            own = np.log(curves[region][f"tia_{end}_mbq_h"] / curves[region]["tia_mbq_h"])
            assert (
                reach * np.log(doses[region][f"dose_{end}_gy"] / doses[region]["absorbed_dose_gy"]) > reach * own > 0.0
            )
    lesion = curves["lesion_1"]
    assert (lesion["model"], lesion["prior_sha256"]) == ("hanscheid", None)
    assert {"half_life_assumed", "no_population_value"} <= set(lesion["flags"])
