"""The sheet of blood samples: times, decay, units, and what refuses the cycle; the curve of the samples."""

from __future__ import annotations

from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doseledger.cohort import Plan
from doseledger.errors import RecordedError, SheetError
from doseledger.kinetics import fit_curve
from doseledger.steps.blood import blood_curve, blood_flags, share_before

from .sheet_factory import Cohort

HALF_LIFE_H = 159.528
COLUMNS = (
    *("site", "patient", "cycle", "sample_time", "time_after_injection_start_h", "concentration_kbq_per_ml"),
    *("decay_reference", "matrix", "u_concentration_rel", "u_calibration_rel", "haematocrit"),
)
#: Injection at 09:30, 30 min; 7380 MBq: 500 kBq/mL are 0.0068 %IA/mL.
ROWS = [
    ("A", "P1", "2", "2025-04-07T10:15:00", "n/a", "500", "sample_time", "blood", "0.03", "0.02", "0.42"),
    ("A", "P1", "2", "2025-04-07T11:45:00", "n/a", "250", "sample_time", "blood", "0.03", "0.02", "0.42"),
    ("A", "P1", "2", "n/a", "6", "90", "sample_time", "blood", "0.03", "0.02", "n/a"),
    ("A", "P1", "2", "2025-04-08T09:30:00", "n/a", "20", "sample_time", "blood", "0.03", "0.02", "0.42"),
]
KEY = ("A", "P1", 2)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    made = Cohort(tmp_path)
    made.rows["blood_samples"] = [list(COLUMNS), *(list(row) for row in ROWS)]
    made.config["sheets"]["blood_samples"] = "blood_samples.tsv"
    return made


def sentences(plan: Plan) -> dict[Any, list[str]]:
    return {k: [RecordedError(**p).sentence for p in c.problems] for k, c in plan.cycles.items() if c.problems}


def samples(cohort: Cohort) -> tuple[dict[str, Any], ...]:
    plan = cohort.load()
    assert sentences(plan) == {}
    return plan.cycle(*KEY).blood_samples


# Good sheets --------------------------------------------------------------------------------------


def test_times_count_from_the_middle_of_the_infusion_whichever_way_they_are_written(cohort: Cohort) -> None:
    found = samples(cohort)
    assert [s["time_h"] for s in found] == [0.5, 2.0, 5.75, 23.75]
    assert [s["activity_mbq"] for s in found] == [0.5, 0.25, 0.09, 0.02]
    assert {s["haematocrit"] for s in found} == {0.42}
    plan = cohort.load()
    assert plan.cycle("A", "P1", 1).blood_samples == ()
    assert not any("T10:15" in str(s) for s in found)


def test_a_zone_counts_the_hours_of_a_night_in_which_clocks_were_moved(cohort: Cohort) -> None:
    cohort.rows["administrations"][0].append("time_zone")
    for row in cohort.rows["administrations"][1:]:
        row.append("Europe/Berlin")
    cohort.set("administrations", 2, "injection_start", "2025-03-29T09:30:00")
    for number, time in ((1, "2025-03-29T10:15:00"), (2, "2025-03-29T11:45:00"), (4, "2025-03-30T09:30:00")):
        cohort.set("blood_samples", number, "sample_time", time)
    assert [s["time_h"] for s in samples(cohort)] == [0.5, 2.0, 5.75, 22.75]


def test_a_concentration_that_refers_to_the_injection_decays_to_its_sample(cohort: Cohort) -> None:
    cohort.set("blood_samples", 4, "decay_reference", "injection_start")
    assert samples(cohort)[3]["activity_mbq"] == pytest.approx(0.02 * 0.5 ** (24.0 / HALF_LIFE_H))


def test_plasma_becomes_blood_by_the_haematocrit(cohort: Cohort) -> None:
    for row in range(1, 5):
        cohort.set("blood_samples", row, "matrix", "plasma")
    assert [s["activity_mbq"] for s in samples(cohort)] == pytest.approx([0.29, 0.145, 0.0522, 0.0116])


def test_the_sheet_may_be_left_out(cohort: Cohort) -> None:
    del cohort.config["sheets"]["blood_samples"]
    plan = cohort.load()
    assert sentences(plan) == {}
    assert plan.cycle(*KEY).blood_samples == ()


# Bad sheets ---------------------------------------------------------------------------------------

BAD_CELLS = [
    (1, "concentration_kbq_per_ml", "0", "greater than 0"),
    (1, "concentration_kbq_per_ml", "n/a", "field required"),
    (1, "concentration_kbq_per_ml", "500000", "was it written in another unit?"),
    (1, "decay_reference", "admin", "'sample_time' or 'injection_start'"),
    (1, "decay_reference", "n/a", "field required"),
    (1, "matrix", "serum", "'blood' or 'plasma'"),
    (1, "matrix", "plasma", "the blood samples of the cycle differ"),
    (1, "u_concentration_rel", "0", "greater than 0"),
    (1, "u_concentration_rel", "3", "less than 0.5"),
    (1, "u_calibration_rel", "n/a", "field required"),
    (1, "u_calibration_rel", "0.05", "the blood samples of the cycle differ"),
    (1, "haematocrit", "42", "was it written in per cent?"),
    (1, "haematocrit", "0.35", "the blood samples of the cycle differ"),
    (1, "sample_time", "n/a", "exactly one of it and time_after_injection_start_h"),
    (1, "sample_time", "2025-04-07T10:15:00+02:00", "without a zone"),
    (1, "sample_time", "2025-04-07", "time of day"),
    (1, "sample_time", "2025-04-07T09:15:00", "taken before the injection"),
    (1, "sample_time", "2025-04-07T09:45:00", "before the end of the infusion"),
    (1, "sample_time", "2025-04-07T11:45:00", "two blood samples have the same time"),
    (3, "sample_time", "2025-04-07T12:00:00", "exactly one of it and time_after_injection_start_h"),
    (3, "time_after_injection_start_h", "-1", "greater than or equal to 0"),
]


@pytest.mark.parametrize(("row", "column", "cell", "words"), BAD_CELLS, ids=lambda v: repr(v)[:40])
def test_a_bad_cell_refuses_its_cycle_alone(cohort: Cohort, row: int, column: str, cell: str, words: str) -> None:
    cohort.set("blood_samples", row, column, cell)
    found = sentences(cohort.load())
    assert set(found) == {KEY}
    assert words in found[KEY][0]
    assert "file blood_samples.tsv" in found[KEY][0]
    # Messages reach the ledger, and the ledger holds no dates.
    assert "2025-" not in found[KEY][0]


def test_samples_a_thousand_times_too_small_are_a_slip_of_units(cohort: Cohort) -> None:
    for row in range(1, 5):
        value = float(cohort.rows["blood_samples"][row][5])
        cohort.set("blood_samples", row, "concentration_kbq_per_ml", f"{value / 1e3:g}")
    (sentence,) = sentences(cohort.load())[KEY]
    assert "was it written in another unit?" in sentence


def test_a_single_sample_is_no_curve(cohort: Cohort) -> None:
    del cohort.rows["blood_samples"][2:]
    (sentence,) = sentences(cohort.load())[KEY]
    assert "a single blood sample" in sentence


@pytest.mark.parametrize("setting", ["haematocrit", "unity"])
def test_a_haematocrit_is_needed_where_the_ratio_rests_on_it(cohort: Cohort, setting: str) -> None:
    for row in range(1, 5):
        cohort.set("blood_samples", row, "haematocrit", "n/a")
    cohort.config["dose"] = {"marrow": {"blood_ratio": setting}}
    assert set(sentences(cohort.load())) == ({KEY} if setting == "haematocrit" else set())


def test_plasma_without_a_haematocrit_says_nothing_of_blood(cohort: Cohort) -> None:
    for row in range(1, 5):
        cohort.set("blood_samples", row, "haematocrit", "n/a")
        cohort.set("blood_samples", row, "matrix", "plasma")
    (sentence,) = sentences(cohort.load())[KEY]
    assert "samples of plasma need it" in sentence


def test_a_sample_of_a_cycle_that_nobody_gave_refuses_every_cycle(cohort: Cohort) -> None:
    cohort.set("blood_samples", 1, "cycle", "7")
    found = sentences(cohort.load())
    assert len(found) == 3
    assert all("a blood sample is of a cycle" in own[-1] for own in found.values())


def test_a_sample_without_a_key_stops_the_start(cohort: Cohort) -> None:
    cohort.set("blood_samples", 1, "cycle", "first")
    with pytest.raises(SheetError, match=r"blood_samples\.tsv"):
        cohort.load()


def test_a_region_of_the_sheet_is_no_blood_and_no_red_marrow(cohort: Cohort) -> None:
    cohort.set("regions", 1, "region", "red_marrow")
    assert all("is no outline" in own[0] for own in sentences(cohort.load()).values())


# The curve ----------------------------------------------------------------------------------------


def exact(times_h: list[float]) -> list[dict[str, Any]]:
    """1.85 MBq in 1 mL, 80 % with 1.5 h and 20 % with 20 h."""
    values = [1.85 * (0.8 * 0.5 ** (t / 1.5) + 0.2 * 0.5 ** (t / 20.0)) for t in times_h]
    return [
        {"time_h": t, "activity_mbq": a, "u_concentration_rel": 0.03, "u_calibration_rel": 0.02, "haematocrit": None}
        for t, a in zip(times_h, values, strict=True)
    ]


def test_six_samples_tell_both_phases() -> None:
    taken = exact([0.25, 0.75, 2.0, 5.0, 24.0, 72.0])
    fit = blood_curve(taken, HALF_LIFE_H, None).chosen
    assert fit.model == "bi"
    assert fit.tia_mbq_h == pytest.approx(1.85 * 5.2 / log(2.0), rel=1e-5)
    assert blood_flags(fit, taken, None) == []


def test_three_samples_have_one_phase_and_say_so() -> None:
    taken = exact([0.5, 4.0, 24.0])
    fit = blood_curve(taken, HALF_LIFE_H, None).chosen
    assert fit.model == "mono"
    assert "too_few_scans_for_model" in blood_flags(fit, taken, None)


def test_a_curve_that_begins_late_says_how_much_of_it_nobody_saw() -> None:
    taken = exact([4.0, 8.0, 24.0, 48.0, 72.0])
    fit = blood_curve(taken, HALF_LIFE_H, None).chosen
    assert share_before(fit, 4.0) > 0.2
    assert "extrapolated_to_injection" in blood_flags(fit, taken, None)
    assert share_before(fit_curve([0.0, 10.0], [2.0, 1.0], half_life_h=HALF_LIFE_H), 10.0) == pytest.approx(0.5)


def test_no_phase_is_slower_than_physical_decay() -> None:
    taken = exact([0.5, 2.0, 6.0, 24.0, 96.0])
    taken[-1]["activity_mbq"] = taken[-2]["activity_mbq"]
    fit = blood_curve(taken, HALF_LIFE_H, None).chosen
    rates = dict(zip(fit.parameter_names, fit.parameters, strict=True))
    assert np.log(2.0) / rates["rate_per_h"] <= HALF_LIFE_H * (1 + 1e-9)
