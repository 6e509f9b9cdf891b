"""What is made of the curves of a whole cohort: a new prior, a sheet of models, a study of reduced protocols."""

from __future__ import annotations

import csv
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from doseledger.cohort import Cycle, Plan, Row
from doseledger.errors import InputMissingError, PriorError, SheetError
from doseledger.io.models import CurveModel
from doseledger.io.priors import read_prior, write_prior
from doseledger.io.sheets import read_sheet
from doseledger.io.tables import table, write_table
from doseledger.kinetics import PopulationPrior, RegionPrior, fit_curve
from doseledger.steps.population import PRIOR_FILE, learn_prior, why_left_out
from doseledger.steps.protocol_tables import write_all
from doseledger.steps.protocols import FULL, cohort_cycles, schedule_of, study
from doseledger.steps.select_models import select_models, source
from doseledger.steps.stage import run_stage, write_json

from .sheet_factory import Cohort as Sheets

DRUG, HALF_LIFE_H = "Lu177-DOTATATE", 159.528
FOUR = (4.0, 24.0, 96.0, 168.0)
PATIENTS = tuple(f"P{n}" for n in range(1, 7))


def activity(terminal_h: float, uptake_h: float, times_h: tuple[float, ...]) -> list[float]:
    return [100.0 * (0.5 ** (t / terminal_h) - 0.5 ** (t / uptake_h)) for t in times_h]


@pytest.fixture(scope="module")
def cohort(tmp_path_factory: pytest.TempPathFactory) -> Plan:
    """Tables of six patients with two cycles of four scans, and one with a single scan; kidneys, liver, their sum."""
    results = tmp_path_factory.mktemp("results")
    rng = np.random.default_rng(3)
    tables: dict[str, list[Row]] = {"region_activity": [], "curve": [], "administration": []}
    cycles = {}
    for patient in (*PATIENTS, "P7"):
        own = {region: float(h * np.exp(0.2 * rng.standard_normal())) for region, h in _MEDIANS_H.items()}
        for number in (1, 2):
            key: Row = {"site": "A", "patient": patient, "cycle": number, "data_origin": "virtual"}
            given = {"radiopharmaceutical": DRUG, "nuclide": "Lu-177"}
            given |= {"measured_activity_mbq": 7400.0, "residual_activity_mbq": 0.0}
            tables["administration"].append(key | given)
            cycles["A", patient, number] = Cycle("A", patient, number, given, (), (), (), "virtual", "")
            times = FOUR if patient != "P7" else FOUR[1:2]
            for region, terminal_h in own.items():
                values = np.array(activity(terminal_h, 1.5, times)) * (1.0 + 0.03 * rng.standard_normal(len(times)))
                tables["region_activity"] += _activity_rows(key, region, times, values)
                tables["curve"] += _curve_rows(key, region, times, values)
            tables["region_activity"] += _activity_rows(key, "kidneys", times, 2.0 * values)
    for name, rows in tables.items():
        (results / "cohort" / name / "site=A").mkdir(parents=True)
        write_table(results / "cohort" / name / "site=A" / "part-0.parquet", table(name, rows))
    settings = {"kinetics": {"relative_random_uncertainty": 0.05}}
    return Plan("test", results, settings, cycles, {}, (), results, "virtual")


_MEDIANS_H = {"kidney_left": 50.0, "kidney_right": 50.0, "liver": 65.0}


def _activity_rows(key: Row, region: str, times: tuple[float, ...], values: np.ndarray) -> list[Row]:
    return [
        key | {"time_point": n, "region": region, "time_h": t, "activity_mbq": v, "u_activity_mbq": 0.05 * v}
        for n, (t, v) in enumerate(zip(times, values.tolist(), strict=True), start=1)
    ]


def _curve_rows(key: Row, region: str, times: tuple[float, ...], values: np.ndarray) -> list[Row]:
    if len(times) == 1:
        return [key | {"region": region, "model": "hanscheid", "chosen": True, "n_timepoints": 1, "flags": []}]
    chosen = fit_curve(times, values, half_life_h=HALF_LIFE_H)
    return [
        key
        | {
            "region": region,
            "model": chosen.model,
            "parameter_names": list(chosen.parameter_names),
            "parameters": list(chosen.parameters),
            "covariance": chosen.covariance.ravel().tolist(),
            "chosen": True,
            "n_timepoints": len(times),
            "status": chosen.status,
            "effective_half_life_h": chosen.effective_half_life_h,
            "tia_mbq_h": chosen.tia_mbq_h,
            "flags": [],
        }
    ]


def run_population(cohort: Plan, out: Path) -> Row:
    folder = cohort.results / "cohort"
    if not (folder / "outcome.json").exists():
        outcome = {"stage": "compact", "status": "ok", "files": [], "key": {}, "settings": {}, "upstream": {}}
        write_json(folder / "outcome.json", outcome | {"stage_version": 1})
    return run_stage("population", inputs={"compact": (folder,)}, output=out, settings={}, rows={"cohort": "test"})


def test_a_prior_is_learnt_from_cycles_with_several_scans_alone(cohort: Plan, tmp_path: Path) -> None:
    assert run_population(cohort, tmp_path / "population")["status"] == "ok"
    prior = read_prior(tmp_path / "population" / PRIOR_FILE)
    # Left and right are curves of one class; the sum has no curve; the patient with one scan teaches nothing.
    found = {e.region: (e.n_patients, e.n_cycles) for e in prior.entries}
    assert found == {"kidney": (6, 24), "liver": (6, 12)}
    entry = prior.find(DRUG, "kidney_left")
    assert entry is not None
    assert entry.effective_half_life_h(HALF_LIFE_H) == pytest.approx(50.0, rel=0.2)


def test_what_teaches_nothing() -> None:
    row: Row = {
        "region": "liver",
        "n_timepoints": 4,
        "prior_sha256": None,
        "flags": [],
        "tia_mbq_h": 1.0,
        "data_origin": "virtual",
    }
    assert why_left_out(row, mixed=False) is None
    assert why_left_out(row, mixed=True) == "virtual among patients"
    assert why_left_out(row | {"data_origin": "patient"}, mixed=True) is None
    assert why_left_out(row | {"n_timepoints": 1}, mixed=False) == "one scan"
    assert why_left_out(row | {"region": "blood"}, mixed=False) == "of blood samples"
    assert why_left_out(row | {"flags": ["extrapolated", "low"]}, mixed=False) == "mostly extrapolated"
    assert why_left_out(row | {"prior_sha256": "f"}, mixed=False) == "a prior took part"
    with pytest.raises(PriorError, match="nothing can be learnt"):
        learn_prior([], [], [], name="empty")


def planned(folder: Path, *, prior: str | None = None, method: str = "population") -> Cycle:
    """The cycle with one scan of small sheets."""
    sheets = Sheets(folder)
    sheets.config["kinetics"] = {"single_time_point": method}
    if prior is not None:
        sheets.config["sheets"]["kinetic_prior"] = prior
    plan = sheets.load()
    # The cycle with two scans reads no prior, and suffers from none.
    several = plan.cycle("A", "P1", 1)
    assert (several.problems, several.prior) == ((), None)
    return plan.cycle("B", "P1", 1)


def test_a_prior_in_the_results_of_its_reader_is_refused_where_it_is_read(tmp_path: Path) -> None:
    """The output of a run is never its input."""
    (problem,) = planned(tmp_path, prior="results/population/kinetic_prior.json").problems
    assert "lies in the results of the cohort" in problem["what"]
    assert problem["tag"] == "sheets.kinetic_prior"


def test_a_prior_that_nobody_reads_refuses_nobody_and_its_content_reaches_its_readers_alone(tmp_path: Path) -> None:
    unread = planned(tmp_path, prior="absent.json", method="hanscheid")
    assert (unread.problems, unread.prior) == ((), None)
    assert planned(tmp_path, prior="absent.json").problems[0]["code"] == "input_missing"
    drugs = (DRUG, "Lu177-PSMA-617")
    liver = ("liver", "mono", ("clearance_per_h",), (log(0.01),), ((0.1,),), ((0.1,),), 9, 9, 1, "")
    entries = tuple(RegionPrior(drug, *liver) for drug in drugs)
    sha256 = write_prior(tmp_path / "prior.json", PopulationPrior("mine", entries))
    row = planned(tmp_path, prior="prior.json").rows_for("kinetics")["prior"]
    assert (row["name"], row["sha256"]) == ("mine", sha256)
    assert [e["radiopharmaceutical"] for e in row["entries"]] == [DRUG]


def test_the_default_prior_is_read_where_none_is_named(tmp_path: Path) -> None:
    row = planned(tmp_path).rows_for("kinetics")["prior"]
    assert "kidney" in {e["region"] for e in row["entries"]}


def test_models_of_a_cohort_are_a_sheet_that_is_read_again(cohort: Plan, tmp_path: Path) -> None:
    out = tmp_path / "curve_models.tsv"
    found = {s.region_class: s for s in select_models(cohort, out)}
    assert {name: s.model for name, s in found.items()} == {"kidney": "mono_uptake", "liver": "mono_uptake"}
    # Left and right are two curves of one cycle.
    assert (found["kidney"].n_cycles, found["kidney"].comparison.n_cycles) == (12, 24)
    rows = read_sheet(out, CurveModel, unique=("radiopharmaceutical", "region"))
    assert [r["region"] for r in rows] == ["kidney_left", "kidney_right", "liver"]
    assert rows[0]["uptake_half_life_h"] == pytest.approx(1.5, rel=0.3)
    assert rows[0]["source"] == source(found["kidney"])
    with pytest.raises(SheetError, match="never overwritten"):
        select_models(cohort, out)


def test_schedules_have_nominal_times() -> None:
    assert [schedule_of([t]) for t in (2.0, 23.5, 51.0, 100.0)] == ["4 h", "24 h", "48 h", "96 h"]
    assert schedule_of([3.9, 170.2]) == "4+168 h"


def test_the_study_is_of_what_the_methods_give(cohort: Plan, tmp_path: Path) -> None:
    truth = tmp_path / "truth"
    truth.mkdir()
    rows = [
        {"site": "A", "patient": p, "cycle": c, "region": r, "tia_mbq_h": 5000.0}
        for p in PATIENTS
        for c in (1, 2)
        for r in ("liver",)
    ]
    with (truth / "organ_truth.csv").open("w", newline="") as stream:
        writer = csv.DictWriter(stream, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    cycles = cohort_cycles(cohort, truth)
    assert len(cycles) == 36
    found = {(s.region, s.schedule, s.method, s.against): s for s in study(cycles)}
    one = found["kidney", "96 h", "hanscheid", "all scans"]
    own = [c for c in cycles if c.region.startswith("kidney")]
    ratios = [2.0 * 96.0 * c.samples.activity_mbq[2] / log(2.0) / c.tia_mbq_h for c in own]
    assert (one.n, one.patients) == (24, 6)
    assert one.median_ratio == pytest.approx(float(np.median(ratios)))
    assert one.rms_ln == pytest.approx(float(np.sqrt(np.mean(np.log(ratios) ** 2))))
    assert one.beyond_10 == pytest.approx(np.mean(np.abs(np.array(ratios) - 1.0) > 0.1))
    assert abs(log(one.worst_ratio)) == pytest.approx(np.abs(np.log(ratios)).max())
    # A patient's second cycle alone has an earlier one.
    assert found["kidney", "24 h", "own_cycle", "all scans"].n == 12
    assert {m for r, s, m, a in found if s == "24+96 h"} == {"mono", "population"}
    assert (FULL, FULL) not in {(s, m) for r, s, m, a in found if a == "all scans"}
    full = found["liver", FULL, FULL, "truth"]
    livers = [c.tia_mbq_h / 5000.0 for c in cycles if c.region == "liver"]
    assert full.median_ratio == pytest.approx(float(np.median(livers)))
    assert ("kidney", FULL, FULL, "truth") not in found
    page, text, parquet = write_all(
        list(found.values()), tmp_path / "p.html", cohort="test", origins=["virtual"], cycles=len(cycles)
    )
    html = page.read_text()
    assert "VIRTUAL COHORT" in html
    assert "Hänscheid" in html
    with text.open() as stream:
        assert len(list(csv.DictReader(stream))) == len(found) == pq.read_table(parquet).num_rows


def test_the_population_of_a_trial_has_never_seen_the_patient(cohort: Plan, monkeypatch: pytest.MonkeyPatch) -> None:
    from doseledger.steps import protocols

    seen: list[tuple[RegionPrior | None, set[str]]] = []
    learn = protocols.learn

    def spy(cycles: Any, **options: Any) -> RegionPrior:
        prior = learn(cycles, **options)
        seen.append((prior, {c.patient for c in cycles}))
        return prior

    monkeypatch.setattr(protocols, "learn", spy)
    own = [c for c in cohort_cycles(cohort, None) if c.region == "liver"]
    without = protocols._priors_without(own)
    for (_, patient), prior in without.items():
        (patients,) = [p for found, p in seen if found is prior]
        assert patient not in patients
        assert len(patients) >= 4


def test_a_cohort_without_several_scans_is_told_so(tmp_path: Path) -> None:
    (tmp_path / "cohort").mkdir()
    empty = Plan("test", tmp_path, {"kinetics": {"relative_random_uncertainty": 0.05}}, {}, {}, (), tmp_path, "virtual")
    with pytest.raises(InputMissingError, match="three scans"):
        cohort_cycles(empty, None)
    with pytest.raises(InputMissingError, match="Run the cohort"):
        select_models(empty, tmp_path / "sheet.tsv")
