"""A cycle with one scan takes the half-lives of another cycle of the patient, in the real workflow."""

from __future__ import annotations

from collections.abc import Callable
from math import log
from pathlib import Path

import pytest
from typer.testing import CliRunner

from doseledger.cli import app
from doseledger.cohort import Row
from doseledger.io.priors import read_prior, write_prior
from doseledger.io.tables import read_rows
from doseledger.kinetics import PopulationPrior, RegionPrior
from doseledger.steps.cohort_page import read_cohort_table

from .conftest import Cohort

pytestmark = pytest.mark.workflow

CONFIG = """\
kinetics:
  single_time_point: own_cycle
  own_cycle: any
  partial_volume_method: none
dose:
  engines: [led]
"""
#: Time points that are kept of each cycle: the first cycle has one scan, the third one is refused (it is planted so).
KEPT = {"1": {"2"}, "2": {"2", "3"}, "3": {"1", "2"}}


def prior_file(path: Path, half_life_h: float) -> None:
    entry = RegionPrior(
        "Lu177-DOTATATE",
        "whole_field",
        "mono",
        ("clearance_per_h",),
        (log(log(2.0) / half_life_h),),
        ((0.04,),),
        ((0.01,),),
        *(9, 9, 1, "test"),
    )
    write_prior(path, PopulationPrior("test-prior", (entry,)))


def one_scan_cohort(tiny: Callable[..., Cohort]) -> Cohort:
    """Cycle 1 with one scan, cycle 2 with two, cycle 3 with two and refused; contours and led."""
    cohort = tiny(cycles=3, plant_refusal=True)
    sheet = cohort.config.parent / "scans.tsv"
    header, *lines = sheet.read_text().splitlines()
    kept = [line for line in lines if line.split("\t")[3] in KEPT[line.split("\t")[2]]]
    assert len(kept) == 5
    renumbered = []
    for line in kept:
        site, patient, cycle, point, *rest = line.split("\t")
        number = sorted(KEPT[cycle]).index(point) + 1
        renumbered.append("\t".join([site, patient, cycle, str(number), *rest]))
    sheet.write_text("\n".join([header, *renumbered]) + "\n")
    prior_file(cohort.config.parent / "prior.json", 90.0)
    text = cohort.config.read_text().replace("sheets:\n", "sheets:\n  kinetic_prior: prior.json\n")
    cohort.config.write_text(text + CONFIG)
    return cohort


def chosen_curves(cohort: Cohort, cycle: int) -> dict[str, Row]:
    folder = cohort.results / f"site-A/sub-P1/ses-c{cycle}/kinetics"
    return {row["region"]: row for row in read_rows(folder, "curve") if row["chosen"]}


def test_one_scan_takes_another_cycle_and_a_new_prior_computes_that_cycle_again(tiny: Callable[..., Cohort]) -> None:
    cohort = one_scan_cohort(tiny)
    done = cohort.run()
    assert done.returncode == 0, done.stdout + done.stderr
    # The refused donor refused nobody but itself.
    assert [cohort.outcome("A", "P1", cycle, "kinetics")["status"] for cycle in (1, 2, 3)] == ["ok", "ok", "refused"]
    assert [key["cycle"] for key in cohort.outcome("A", "P1", 1, "kinetics")["aside"]] == [2, 3]  # type: ignore[attr-defined]
    donor, own = chosen_curves(cohort, 2), chosen_curves(cohort, 1)
    for region in ("kidney_left", "liver", "lesion_1"):
        assert own[region]["model"] == "own_cycle"
        assert own[region]["prior"].startswith("cycle 2, half-life")
        assert own[region]["parameters"][1] == pytest.approx(donor[region]["parameters"][1])
        assert {"single_time_point", "half_life_of_own_cycle"} <= set(own[region]["flags"])
        assert own[region]["prior_sha256"] is None
    doses = [r for r in read_cohort_table(cohort.results / "cohort", "organ_dose") if r["cycle"] == 1]
    # Red marrow by blood has the curve of the samples.
    doses = [r for r in doses if r["marrow_method"] != "blood"]
    assert {r["curve_model"] for r in doses} == {"own_cycle"}
    assert all("half_life_of_own_cycle" in r["flags"] for r in doses)
    assert cohort.planned() == {}
    # Another prior is computed again where it may have a part: in the cycle with one scan, and nowhere else.
    prior_file(cohort.config.parent / "prior.json", 70.0)
    again = {"kinetics": 1, "dose": 1, "course": 1, "compact": 1, "compare": 1, "cohort_page": 1, "all": 1}
    assert cohort.planned() == again


def test_commands_about_curves_read_a_finished_cohort(micro: Cohort, tmp_path: Path) -> None:
    truth = str(micro.config.parent / "truth")
    prior, sheet, page = (str(tmp_path / name) for name in ("prior.json", "curve_models.tsv", "protocols.html"))
    for command in (
        ["population", str(micro.config), "--out", prior],
        ["select-models", str(micro.config), "--out", sheet],
        ["protocols", str(micro.config), "--out", page, "--truth", truth],
    ):
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        # What a person has looked at is never overwritten.
        assert command[0] == "protocols" or CliRunner().invoke(app, command).exit_code == 2
    learnt = read_prior(prior)
    assert {(entry.region, entry.n_patients) for entry in learnt.entries} >= {("kidney", 2), ("liver", 2)}
    # One cycle of three scans or more at each site: too few to choose anything, however many lesions they have.
    assert (tmp_path / "curve_models.tsv").read_text().count("\n") == 1
    assert "| Lu177-DOTATATE | kidney | truth | full | full |" in done.output
    assert (tmp_path / "protocols.csv").exists()


def test_the_rule_population_waits_for_the_cohort_alone(micro: Cohort) -> None:
    done = micro.call(
        "snakemake",
        *("population", "--dry-run", "--quiet", "host", "--cores", "2", "--profile", "none"),
        *("--configfile", str(micro.config), "--directory", str(micro.folder / "work")),
    )
    assert done.returncode == 0, done.stderr
    lines = (done.stdout + done.stderr).splitlines()
    assert [line.split() for line in lines if line.startswith(("population ", "total "))][:2] == [
        ["population", "1"],
        ["total", "1"],
    ]
