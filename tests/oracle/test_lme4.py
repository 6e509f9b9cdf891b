"""The model of the sites against lme4 (R) on a virtual data set; numbers, R code and R's words in tests/oracle/lme4."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doseledger.statistics.site_model import SiteComparison, compare_sites

FOLDER = Path(__file__).parent / "lme4"
#: Both maximise the same likelihood; what is left is where the two optimisers stop.
RTOL_FIXED, RTOL_SD = 1.0e-3, 1.0e-3
ATOL = 1.0e-5


@pytest.fixture(scope="module")
def expected() -> dict[tuple[str, str], float]:
    with (FOLDER / "lme4.csv").open(encoding="utf-8", newline="") as stream:
        return {(row["model"], row["quantity"]): float(row["value"]) for row in csv.DictReader(stream)}


def fitted(sites: str) -> SiteComparison:
    with (FOLDER / "cycles.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["site"] in sites]
    covariates: dict[str, Any] = {name: [row[name] for row in rows] for name in ("cycle", "preparation", "protocol")}
    values = np.log([float(row["gy_per_gbq"]) for row in rows])
    found = compare_sites(values, [r["site"] for r in rows], [r["patient"] for r in rows], covariates)
    assert found.status == "fitted"
    return found


def check(found: SiteComparison, model: str, expected: dict[tuple[str, str], float]) -> None:
    for item in found.covariates:
        name = f"{item.term.covariate}{item.term.level}"
        assert item.effect == pytest.approx(expected[model, f"estimate {name}"], rel=RTOL_FIXED, abs=ATOL), name
        assert item.se == pytest.approx(expected[model, f"se {name}"], rel=RTOL_FIXED), name
    assert len(found.covariates) == 6
    assert found.sd_patient == pytest.approx(expected[model, "sd patient"], rel=RTOL_SD)
    assert found.sd_rest == pytest.approx(expected[model, "sd Residual"], rel=RTOL_SD)


def test_fixed_sites_are_those_of_lme4(expected: dict[tuple[str, str], float]) -> None:
    found = fitted("ABCDEF")
    assert found.sites_are == "fixed"
    check(found, "fixed", expected)
    for i, effect in enumerate(found.effects[:-1], start=1):
        assert effect.effect == pytest.approx(expected["fixed", f"estimate site{i}"], rel=RTOL_FIXED, abs=ATOL)
        assert effect.se == pytest.approx(expected["fixed", f"se site{i}"], rel=RTOL_FIXED)
    assert sum(effect.effect for effect in found.effects) == pytest.approx(0.0, abs=1e-12)


def test_random_sites_are_those_of_lme4(expected: dict[tuple[str, str], float]) -> None:
    found = fitted("ABCDEFGHIJKL")
    assert found.sites_are == "random"
    check(found, "random", expected)
    assert found.sd_site == pytest.approx(expected["random", "sd site"], rel=RTOL_SD)
    for effect in found.effects:
        assert effect.effect == pytest.approx(expected["random", f"mode {effect.site}"], rel=RTOL_FIXED, abs=ATOL)
        assert effect.se == pytest.approx(expected["random", f"mode_se {effect.site}"], rel=RTOL_FIXED)
