"""The comparison of a cohort's tables: what is found, what is never pooled, and what a page and files say of it."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from doseledger.cli import app
from doseledger.errors import ForeignResultsError, InputMissingError
from doseledger.io.tables import COMPARISON_SCHEMAS, SCHEMAS, read_rows, sort_keys, write_table
from doseledger.phantom.ledger import Effect, Tables, simulate_ledger, write_ledger
from doseledger.steps import cohort_page
from doseledger.steps.cohort_shares import compare_phantoms
from doseledger.steps.compare import compare_folder, write_comparison

Row = dict[str, Any]
Compared = dict[str, list[Row]]


def compared(folder: Path, tables: Tables) -> Compared:
    write_ledger(folder / "cohort", tables)
    out = folder / "out"
    out.mkdir()
    write_comparison(folder / "cohort", out)
    return {name: read_rows(out, name) for name in COMPARISON_SCHEMAS}


def changed(data: pa.Table, column: str, change: Callable[[pa.Table], Any]) -> pa.Table:
    field = data.schema.field(column)
    return data.set_column(data.schema.get_field_index(column), field, pa.array(change(data), field.type))


def small(
    effect: Effect = "none", *, sites: int = 4, patients: int = 10, organs: tuple[str, ...] = ("liver",)
) -> Tables:
    return simulate_ledger(sites=sites, patients=patients, cycles=2, seed=5, effect=effect, organs=organs)


@pytest.mark.parametrize(
    ("effect", "organ", "kinds"),
    [
        ("sensitivity", "kidney_left", {"calibration"}),
        ("recovery", "kidney_left", {"recovery"}),
        ("lesion_policy", "liver", {"lesion_policy"}),
        ("unit", "kidney_left", {"unit"}),
        ("decay", "kidney_left", {"clearance", "site_effect"}),
    ],
)
def test_a_planted_effect_is_found_by_the_check_that_is_meant_for_it(
    effect: Effect, organ: str, kinds: set[str], tmp_path: Path
) -> None:
    # docs/comparison.md has the rates over many seeds; this is that the ways are not cut.
    tables = simulate_ledger(sites=6, patients=20, cycles=2, seed=5, effect=effect, organs=[organ])
    findings = [row for row in compared(tmp_path, tables)["finding"] if row["site"] == "S06"]
    assert kinds <= {row["kind"] for row in findings}
    if effect == "decay":
        (clearance,) = [row for row in findings if row["kind"] == "clearance"]
        assert clearance["detail"] == "slower_by_physical_decay"


class TestNeverPooled:
    def test_lesion_policies_are_groups_but_not_for_kidneys(self, tmp_path: Path) -> None:
        found = compared(tmp_path, small("lesion_policy", organs=("liver", "kidney_left")))
        sites = {(r["region"], r["lesion_policy"]): r["n_sites"] for r in found["reference_interval"]}
        assert sites == {("kidney_left", None): 4, ("liver", "included"): 1, ("liver", "excluded"): 3}

    @pytest.mark.parametrize(
        ("column", "value"), [("marrow_method", ["image", "blood"]), ("data_origin", ["patient", "virtual"])]
    )
    def test_other_columns_of_a_group(self, column: str, value: list[str], tmp_path: Path) -> None:
        tables = small()
        tables["organ_dose"] = changed(
            tables["organ_dose"], column, lambda data: np.where(np.arange(data.num_rows) % 2 == 0, *value)
        )
        found = compared(tmp_path, tables)
        assert sorted(row[column] for row in found["site_model"] if row["quantity"] == "dose_per_activity") == sorted(
            value
        )

    def test_both_methods_of_red_marrow_are_compared_though_one_is_primary(self, tmp_path: Path) -> None:
        tables = small()
        rows = np.arange(tables["organ_dose"].num_rows)
        for column, values in (("marrow_method", ("image", "blood")), ("is_primary", (True, False))):
            tables["organ_dose"] = changed(
                tables["organ_dose"], column, lambda data, v=values: np.where(rows % 2 == 0, *v).tolist()
            )
        found = compared(tmp_path, tables)["reference_interval"]
        assert sorted(row["marrow_method"] for row in found) == ["blood", "image"]

    def test_demo_weights_and_low_grades(self, tmp_path: Path) -> None:
        tables = small()
        count = tables["organ_dose"].num_rows
        flags = [["demo_weights"] if i % 2 else (["extrapolated", "low"] if i % 10 == 0 else []) for i in range(count)]
        tables["organ_dose"] = changed(tables["organ_dose"], "flags", lambda data: flags)
        found = compared(tmp_path, tables)
        rows = {row["demo_weights"]: row["n_rows"] for row in found["reference_interval"]}
        n_low = sum("low" in row for row in flags)
        assert rows == {True: count // 2, False: count - count // 2 - n_low}
        assert sum(row["n_left_out"] for row in found["site_distribution"]) == n_low
        counted = {(row["flag"], row["table"]): row["n_rows"] for row in found["flag_count"]}
        assert counted["low", "organ_dose"] == n_low

    def test_a_site_with_a_slip_of_units_is_in_no_model_and_no_reference(self, tmp_path: Path) -> None:
        found = compared(tmp_path, small("unit"))
        assert {r["site"] for r in found["finding"] if r["kind"] == "unit"} == {"S04"}
        assert {r["site"] for r in found["site_effect"]} == {"S01", "S02", "S03"}
        assert {r["n_sites"] for r in found["reference_interval"]} == {3}
        assert {r["left_out"] for r in found["compared_dose"] if r["site"] == "S04"} == {"unit_slip"}
        assert {r["site"] for r in found["site_distribution"]} == {"S01", "S02", "S03", "S04"}


def test_a_calibration_that_phantoms_know_explains_the_effect(tmp_path: Path) -> None:
    # The phantom of the last site reads 8 % high, as its doses do; nothing else differs between the two studies.
    with_effect = compared(tmp_path / "a", small("sensitivity", organs=("kidney_left",)))
    without = compared(tmp_path / "b", small("none", organs=("kidney_left",)))

    def last(found: Compared) -> Row:
        return next(r for r in found["site_effect"] if r["site"] == "S04" and r["quantity"] == "dose_per_activity")

    assert (1 + last(with_effect)["effect"]) / (1 + last(without)["effect"]) == pytest.approx(1.08**0.75, rel=1e-6)
    assert last(with_effect)["remaining_effect"] == pytest.approx(last(without)["remaining_effect"], abs=1e-6)


def test_the_sensitivity_that_scans_were_given_is_held_against_the_phantom() -> None:
    study = {
        "site": "S1", "camera": "c", "phantom": "cylinder", "days_after_first": 0, "sensitivity_cps_per_mbq": 9.0,
        "calibration_ratio": None, "u_sensitivity_rel": 0.02, "body_volumes_ml": None, "body_recoveries": None,
        "body_u_recoveries_rel": None,
    }  # fmt: skip
    scans = pd.DataFrame({"site": ["S1"] * 2, "camera": ["c"] * 2, "sensitivity_cps_per_mbq": [8.0, 8.0]})
    (row,) = compare_phantoms([study, {**study, "phantom": "nema"}], scans)
    # With a sensitivity that is too small, counts become too much activity.
    assert row["ratio"] == pytest.approx(9.0 / 8.0)
    assert row["p_holm"] < 1e-6


def test_a_second_engine_is_compared_on_the_same_cycles(tmp_path: Path) -> None:
    tables = simulate_ledger(sites=3, patients=6, cycles=2, seed=5, organs=["liver"], analyses=2)
    (row,) = compared(tmp_path, tables)["method_agreement"]
    assert (row["differs_in"], row["method_a"], row["method_b"]) == (["dose_engine"], "pmc", "engine1")
    assert row["n_pairs"] == tables["administration"].num_rows
    # Simulated as exp(N(-0.02, 0.02)).
    assert row["ratio_low"] < np.exp(-0.02) < row["ratio_high"]
    assert row["concordance"] > 0.99


def test_shares_near_a_limit_count_complete_sums_only(tmp_path: Path) -> None:
    tables = small(sites=1)
    common = {"site": "S01", "region": "kidneys", "limit_quantity": "absorbed_dose", "limit_gy": 23.0}
    course = [
        {
            **common,
            "patient": f"P{i}",
            "cumulative_status": status,
            "fraction_of_limit": fraction,
            "cumulative_dose_gy": 1.0,
        }
        for i, (status, fraction) in enumerate(
            [("complete", 0.5), ("complete", 0.85), ("imputed", 1.2), ("incomplete", None), ("complete", 0.1)]
        )
    ]
    schema = SCHEMAS["course"]
    tables["course"] = pa.Table.from_pylist([{n: r.get(n) for n in schema.names} for r in course], schema=schema)
    found = compared(tmp_path, tables)
    (row,) = found["limit_share"]
    assert (row["n_patients"], row["n_complete"], row["n_near"], row["n_above"]) == (5, 4, 2, 1)
    assert row["share_near"] == 0.5
    # Wilson 1927: for 2 of 4 the interval is 0.150 to 0.850.
    assert (row["share_near_low"], row["share_near_high"]) == pytest.approx((0.150, 0.850), abs=5e-4)
    assert len(found["cumulative_dose"]) == 5


def test_a_small_cohort_says_too_few_and_fits_nothing(tmp_path: Path) -> None:
    write_ledger(tmp_path / "cohort", small(sites=3, patients=2))
    page = compare_folder(tmp_path / "cohort", tmp_path / "out", name="demo")
    assert {row["status"] for row in read_rows(tmp_path / "out/compare", "site_model")} == {"too_few"}
    assert read_rows(tmp_path / "out/compare", "site_effect") == []
    text = page.read_text(encoding="utf-8")
    assert "Not compared, too few patients (two sites with five patients are needed): Liver" in text
    assert "too few patients to compare sites" in text


def test_a_cohort_in_which_every_cycle_was_refused_has_empty_tables_and_a_page(tmp_path: Path) -> None:
    (tmp_path / "cohort").mkdir()
    write_comparison(tmp_path / "cohort", tmp_path / "out")
    assert all(read_rows(tmp_path / "out", name) == [] for name in COMPARISON_SCHEMAS)
    cohort_page.write_page(tmp_path / "cohort", tmp_path / "out", tmp_path / "index.html", cohort="none")
    assert "Cycles planned" in (tmp_path / "index.html").read_text(encoding="utf-8")


def test_many_sites_are_random_and_drawn_in_order(tmp_path: Path) -> None:
    write_ledger(tmp_path / "cohort", small("undeclared_policy", sites=11, patients=6))
    page = compare_folder(tmp_path / "cohort", tmp_path / "out", name="many").read_text(encoding="utf-8")
    assert "Sites are random: effects are shrunk towards zero." in page


def test_files_are_the_same_for_rows_in_another_order(tmp_path: Path) -> None:
    tables = small("decay")
    found = []
    for number, order in enumerate((slice(None), slice(None, None, -1))):
        cohort, out = tmp_path / f"cohort{number}", tmp_path / f"out{number}"
        for name, data in tables.items():
            for site in pc.unique(data["site"]).to_pylist():
                part = cohort / name / f"site={site}"
                part.mkdir(parents=True)
                rows = data.filter(pc.equal(data["site"], site)).to_pylist()[order]
                turned = pa.Table.from_pylist(rows, schema=data.schema)
                write_table(part / "part-0.parquet", turned.sort_by(sort_keys(data.schema)))
        out.mkdir()
        write_comparison(cohort, out)
        found.append({path.name: path.read_bytes() for path in out.iterdir()})
    assert found[0] == found[1]


def test_every_table_is_there_twice_with_units_and_the_same_numbers(tmp_path: Path) -> None:
    found = compared(tmp_path, small("decay"))
    out = tmp_path / "out"
    assert {p.name for p in out.iterdir()} == {f"{n}.{kind}" for n in COMPARISON_SCHEMAS for kind in ("parquet", "csv")}
    for name, schema in COMPARISON_SCHEMAS.items():
        stored = pq.read_schema(out / f"{name}.parquet")
        assert stored.metadata == schema.metadata, name
        for field in schema:
            assert stored.field(field.name).metadata.items() >= field.metadata.items(), (name, field.name)
        with (out / f"{name}.csv").open(encoding="utf-8", newline="") as stream:
            lines = list(csv.DictReader(stream))
        assert len(lines) == len(found[name]), name
    with (out / "site_effect.csv").open(encoding="utf-8", newline="") as stream:
        assert [float(line["effect"]) for line in csv.DictReader(stream)] == [r["effect"] for r in found["site_effect"]]


def test_a_ledger_too_large_for_a_page_keeps_its_comparison(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_ledger(tmp_path / "cohort", small())
    monkeypatch.setattr(cohort_page, "_MAX_DETAIL_ROWS", 10)
    monkeypatch.setattr(cohort_page, "_MAX_POINTS", 10)
    text = compare_folder(tmp_path / "cohort", tmp_path / "out", name="large").read_text(encoding="utf-8")
    assert "rows of scans, outlines, curves and doses, too many for a page" in text
    assert "Box: middle half; line: 5 to 95 %." in text
    assert "difference of each site" in text


def test_the_command_writes_page_and_tables(tmp_path: Path) -> None:
    write_ledger(tmp_path / "cohort", small())
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "cohort"), "--out", str(tmp_path / "out")])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "out/index.html").is_file()
    assert (tmp_path / "out/compare/site_effect.csv").is_file()


def test_a_folder_that_is_no_cohort_is_refused(tmp_path: Path) -> None:
    (tmp_path / "cohort").mkdir()
    with pytest.raises(InputMissingError, match="no table organ_dose"):
        compare_folder(tmp_path / "cohort", tmp_path / "out", name="none")
    done = CliRunner().invoke(app, ["compare", str(tmp_path / "cohort"), "--out", str(tmp_path / "other")])
    assert done.exit_code == 2
    assert not (tmp_path / "other").exists()


def test_a_folder_that_holds_something_is_not_written_into(tmp_path: Path) -> None:
    write_ledger(tmp_path / "cohort", small())
    (tmp_path / "out").mkdir()
    (tmp_path / "out/mine.txt").write_text("mine")
    with pytest.raises(ForeignResultsError, match="not empty"):
        compare_folder(tmp_path / "cohort", tmp_path / "out", name="none")
