"""Prior files: canonical, exact, and refused when anything in them is not what it must be."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from math import exp, log, nan, sqrt
from pathlib import Path
from typing import Any

import pytest

from doseledger.errors import DoseledgerError, InputMissingError, PriorError, QuantityError, UnknownNameError
from doseledger.io.priors import read_prior, write_prior
from doseledger.kinetics import Covariates, PopulationPrior, RegionPrior

HALF_LIFE_H = 159.528


def region_prior(region: str = "kidney", radiopharmaceutical: str = "Lu177-DOTATATE") -> RegionPrior:
    return RegionPrior(
        radiopharmaceutical=radiopharmaceutical,
        region=region,
        model="mono_uptake",
        parameter_names=("clearance_per_h", "uptake_excess_per_h"),
        mean=(log(0.01), -0.1 / 3.0),
        covariance=((0.04, 0.01), (0.01, 0.25)),
        mean_covariance=((0.001, 0.0), (0.0, 0.01)),
        n_patients=40,
        n_cycles=50,
        n_sites=3,
        source="simulated",
    )


def population(*entries: RegionPrior) -> PopulationPrior:
    return PopulationPrior("test", entries or (region_prior(), region_prior("lesion"), region_prior("kidney_left")))


def test_what_is_written_is_read_again_exactly(tmp_path: Path) -> None:
    aged = replace(region_prior("liver"), covariates=Covariates(("age_y",), ((0.01,), (0.0,)), (60.0,)))
    sha256 = write_prior(tmp_path / "prior.json", population(region_prior(), aged))
    found = read_prior(tmp_path / "prior.json")
    assert found == PopulationPrior("test", (region_prior(), aged), sha256)
    assert hashlib.sha256((tmp_path / "prior.json").read_bytes()).hexdigest() == sha256


def test_the_file_does_not_depend_on_the_order_of_entries(tmp_path: Path) -> None:
    one, two = region_prior(), region_prior("liver")
    first = write_prior(tmp_path / "a.json", population(one, two))
    assert write_prior(tmp_path / "b.json", population(two, one)) == first


def test_sides_and_numbers_fall_back_to_their_class() -> None:
    prior = population()
    assert prior.find("Lu177-DOTATATE", "kidney_right") == region_prior()
    assert prior.find("Lu177-DOTATATE", "kidney_left") == region_prior("kidney_left")
    assert prior.find("Lu177-DOTATATE", "lesion_12") == region_prior("lesion")
    assert prior.find("Lu177-DOTATATE", "liver") is None
    assert prior.find("Lu177-PSMA-617", "kidney_right") is None


def _set(**change: object) -> Callable[[dict[str, Any]], None]:
    return lambda plain: plain["entries"][0].update(change)


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda plain: plain.update(schema_version=2), "another version"),
        (lambda plain: plain.pop("schema_version"), "another version"),
        (lambda plain: plain.update(note="mine"), "not permitted"),
        (_set(colour="red"), "not permitted"),
        (lambda plain: plain["entries"][0].pop("mean"), "entries.0.mean"),
        (_set(mean=[0.1, nan]), "entries.0.mean.1"),
        (_set(mean=[0.1]), "one finite number per parameter"),
        (_set(n_patients="40"), "entries.0.n_patients"),
        (_set(n_patients=0), "rests on nobody"),
        (_set(covariance=[[1.0, 2.0], [2.0, 1.0]]), "negative eigenvalue"),
        (_set(covariance=[[1.0, 0.1], [0.2, 1.0]]), "not symmetric"),
        (_set(mean_covariance=[[1.0]]), "not square"),
        (_set(model="tri"), "model is not known"),
        (_set(parameter_names=["clearance_per_h", "fast_over_slow"]), "not those of the model"),
        (lambda plain: plain["entries"].append(plain["entries"][0]), "two entries"),
    ],
)
def test_a_file_that_is_not_a_prior_is_refused(
    tmp_path: Path, edit: Callable[[dict[str, Any]], None], words: str
) -> None:
    path = tmp_path / "prior.json"
    write_prior(path, population())
    plain = json.loads(path.read_text(encoding="utf-8"))
    edit(plain)
    path.write_text(json.dumps(plain), encoding="utf-8")
    with pytest.raises(PriorError) as caught:
        read_prior(path)
    assert words in caught.value.sentence
    assert str(path) in caught.value.sentence


def test_no_file_and_no_json_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        read_prior(tmp_path / "none.json")
    (tmp_path / "cut.json").write_text('{"schema_version": 1', encoding="utf-8")
    with pytest.raises(PriorError, match="not JSON"):
        read_prior(tmp_path / "cut.json")


def test_half_lives_are_those_of_the_nuclide() -> None:
    prior = region_prior()
    # 0.01/h of biology beside 177Lu, and beside a nuclide that hardly decays.
    assert prior.effective_half_life_h(HALF_LIFE_H) == pytest.approx(log(2.0) / (log(2.0) / HALF_LIFE_H + 0.01))
    assert prior.effective_half_life_h(1e12) == pytest.approx(69.3147, rel=1e-5)
    share = 0.01 / (log(2.0) / HALF_LIFE_H + 0.01)
    assert prior.effective_ln_sd(HALF_LIFE_H) == pytest.approx(share * sqrt(0.041))


def test_covariates_move_the_mean() -> None:
    prior = replace(region_prior(), covariates=Covariates(("age_y", "egfr"), ((0.01, 0.0), (0.0, 0.5)), (60.0, 80.0)))
    moved = prior.at({"age_y": 70.0})
    assert moved.mean == pytest.approx((log(0.01) + 0.1, -0.1 / 3.0))
    assert moved.covariates is None
    assert exp(prior.at({}).mean[0]) == pytest.approx(0.01)
    with pytest.raises(UnknownNameError):
        prior.at({"weight_kg": 80.0})


@pytest.mark.parametrize(
    "change",
    [
        {"covariates": Covariates(("age_y",), ((0.01,),), (60.0,))},
        {"covariates": Covariates(("age_y",), ((0.01,), (nan,)), (60.0,))},
        {"covariates": Covariates(("a", "a"), ((0.0, 0.0), (0.0, 0.0)), (0.0, 0.0))},
        {"n_sites": 0},
    ],
)
def test_a_prior_that_is_none_cannot_be_made(change: dict[str, Any]) -> None:
    with pytest.raises((QuantityError, UnknownNameError)) as caught:
        replace(region_prior(), **change)
    assert isinstance(caught.value, DoseledgerError)
