"""Results of other programs: read by their form, units stated, nothing evaluated; TIAC for other programs."""

from __future__ import annotations

import ast
import csv
import os
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from doseledger.cli import app
from doseledger.errors import CrossCheckError, IdentifyingError, InputMissingError, NuclideError, SheetError, UnitError
from doseledger.foreign.exports import export_tiac, guarded, mirdcalc_csv, olinda_case, source_organs
from doseledger.foreign.imports import import_results
from doseledger.foreign.rows import Case
from doseledger.io.submission import read_submission
from doseledger.merge import merge
from doseledger.steps.cohort_page import read_cohort_table
from doseledger.submission import Sharing

from .submission_factory import plan_with_tables, submitted

ROOT = Path(__file__).parents[2]
ORACLE = Path(os.environ.get("DOSELEDGER_DATA", ROOT.parent / "shared/data")) / "oracle_snmmi_pytheranostics"
CASE = Case("A", "P1", 1, "Lu177-DOTATATE", "Lu-177", 7400.0, "virtual")
#: Of the real results: dose over dose per activity, GBq.
ORACLE_ADMINISTERED_MBQ = 7210.42

needs_oracle = pytest.mark.skipif(not ORACLE.is_dir(), reason="real results of PyTheranostics are not here")


def _imported(tmp_path: Path, kind: str, text: str, **options: Any) -> list[dict[str, Any]]:
    path = tmp_path / "results.csv"
    path.write_text(text)
    import_results(kind, [path], tmp_path / "x.zip", Sharing(), **{"case": CASE, **options})
    return list(read_submission(tmp_path / "x.zip").tables["organ_dose"].to_pylist())


# PyTheranostics ------------------------------------------------------------------------------------


@needs_oracle
def test_real_results_of_pytheranostics_become_rows(tmp_path: Path) -> None:
    case = Case("A", "P1", 1, "Lu177-DOTATATE", "Lu-177", ORACLE_ADMINISTERED_MBQ, "patient")
    paths = [ORACLE / "expected_results.csv", ORACLE / "expected_df_ad.csv"]
    import_results("pytheranostics", paths, tmp_path / "x.zip", Sharing(), case=case)
    found = read_submission(tmp_path / "x.zip")
    rows = {row["region"]: row for row in found.tables["organ_dose"].to_pylist()}
    with (ORACLE / "expected_results.csv").open() as stream:
        results = {row[""]: row for row in csv.DictReader(stream)}
    with (ORACLE / "expected_df_ad.csv").open() as stream:
        doses = {row[""]: row for row in csv.DictReader(stream)}
    assert len(rows) == len(doses) == 6
    for theirs, ours in (("Kidney_Left", "kidney_left"), ("Liver", "liver"), ("RemainderOfBody", "remainder")):
        row = rows[ours]
        assert row["absorbed_dose_gy"] == pytest.approx(float(doses[theirs]["AD[Gy]"]), rel=1e-12)
        assert row["dose_gy_per_gbq"] == pytest.approx(float(doses[theirs]["AD[Gy/GBq]"]), rel=1e-12)
        assert row["tia_mbq_h"] == pytest.approx(float(results[theirs]["TIA_MBq_h"]), rel=1e-12)
        assert row["tiac_h"] == pytest.approx(float(results[theirs]["TIA_h"]), rel=1e-12)
        assert (row["dose_engine"], row["n_timepoints"], row["is_primary"]) == ("pytheranostics", 4, False)
        assert row["flags"] == ["foreign_result"]
    activities = [r for r in found.tables["region_activity"].to_pylist() if r["region"] == "kidney_left"]
    stated = ast.literal_eval(results["Kidney_Left"]["Activity_MBq"])
    assert [r["activity_mbq"] for r in activities] == pytest.approx(stated)
    assert [r["time_h"] for r in activities] == pytest.approx(ast.literal_eval(results["Kidney_Left"]["Time_hr"]))
    # Not in the file with a unit, so not in the row.
    assert rows["liver"]["effective_half_life_h"] is None
    assert merge([tmp_path / "x.zip"], tmp_path / "cohort").quarantined == {}


@needs_oracle
def test_an_administered_activity_that_the_file_contradicts_is_refused(tmp_path: Path) -> None:
    case = Case("A", "P1", 1, "Lu177-DOTATATE", "Lu-177", 7400.0, "patient")
    with pytest.raises(CrossCheckError, match="do not agree"):
        import_results("pytheranostics", [ORACLE / "expected_df_ad.csv"], tmp_path / "x.zip", Sharing(), case=case)
    assert not (tmp_path / "x.zip").exists()


PYTHERANOSTICS = ',Time_hr,Activity_MBq,TIA_MBq_h\nLiver,"[4.0, 24.0]","{cell}",5000.0\n'


def test_numbers_as_python_prints_them_are_read_and_code_is_not_run(tmp_path: Path) -> None:
    assert _imported(tmp_path, "pytheranostics", PYTHERANOSTICS.format(cell="[np.float64(100.0), 60.5]"))
    for cell in ("[__import__('os').mkdir('owned'), 1.0]", "np.load('x')", "[1.0, ().__class__]", "[1e999999, 1.0]"):
        with pytest.raises(SheetError):
            _imported(tmp_path, "pytheranostics", PYTHERANOSTICS.format(cell=cell))
    assert not Path("owned").exists()


# OLINDA, MIRDcalc, OpenDose3D and the template ------------------------------------------------------

OLINDA = """\
Organ Doses ({unit}), Nuclide: Lu-177
Target Organ,Alpha,Beta,Gamma,Total,ICRP-103 ED
Kidneys,{alpha},4.1E-01,1.2E-02,4.22E-01,0.0
Urinary Bladder Wall,0.0,3.0E-03,1.0E-03,4.0E-03,0.0
Effective Dose,,,,0.02
Target Organ Name,Mass [g],
"""


@pytest.mark.parametrize("unit", ["mGy/MBq", "mSv/MBq"])
def test_a_table_of_olinda_is_read_with_the_unit_that_stands_in_the_file(tmp_path: Path, unit: str) -> None:
    rows = {row["region"]: row for row in _imported(tmp_path, "olinda", OLINDA.format(unit=unit, alpha="0.0"))}
    assert rows.keys() == {"kidneys", "urinary_bladder_wall"}
    assert rows["kidneys"]["dose_gy_per_gbq"] == pytest.approx(0.422)
    assert rows["kidneys"]["absorbed_dose_gy"] == pytest.approx(0.422 * 7.4)
    assert rows["kidneys"]["region_level"] == "sum"


def test_a_table_of_olinda_without_a_unit_or_with_weighted_alpha_is_refused(tmp_path: Path) -> None:
    bare = OLINDA.format(unit="", alpha="0.0")
    with pytest.raises(UnitError, match="states no unit"):
        _imported(tmp_path, "olinda", bare)
    assert _imported(tmp_path, "olinda", bare, unit="mGy/MBq")
    with pytest.raises(UnitError, match="not known"):
        _imported(tmp_path, "olinda", bare, unit="rad/mCi")
    with pytest.raises(UnitError, match="alpha"):
        _imported(tmp_path, "olinda", OLINDA.format(unit="mSv/MBq", alpha="1.0E-1"))


@pytest.mark.parametrize("kind", ["mirdcalc", "opendose3d"])
def test_columns_that_state_their_units_are_read(tmp_path: Path, kind: str) -> None:
    text = "Target Region;Mass (kg);Absorbed Dose [mGy];TIA (MBq s);Comment\nLeft Kidney;0.168;3110;13852800;fine\n"
    (row,) = _imported(tmp_path, kind, text)
    assert (row["region"], row["laterality"], row["dose_engine"]) == ("kidney_left", "left", kind)
    assert row["mass_g"] == pytest.approx(168.0)
    assert row["absorbed_dose_gy"] == pytest.approx(3.11)
    assert row["dose_gy_per_gbq"] == pytest.approx(3.11 / 7.4)
    assert row["tia_mbq_h"] == pytest.approx(3848.0)
    assert row["tiac_h"] == pytest.approx(0.52)


@pytest.mark.parametrize(
    ("text", "error", "what"),
    [
        ("region,dose\nliver,2.0\n", UnitError, "states no unit"),
        ("region,dose [rad]\nliver,2.0\n", UnitError, "not known"),
        ("region,dose [Gy]\nliver,\"1,5\"\n", SheetError, "no plain number"),
        ("region,dose [Gy]\nliver,=1+1\n", SheetError, "no plain number"),
        ("region,dose [Gy]\nliver,nan\n", SheetError, "no plain number"),
        ("region,dose [Gy],absorbed dose [Gy]\nliver,2,2\n", SheetError, "same quantity"),
        ("organ name,dose [Gy]\nliver,2.0\n", SheetError, "no column names the region"),
        ("region,comment\nliver,2.0\n", SheetError, "no column holds"),
        ("region,dose [Gy]\n", SheetError, "no rows"),
        ("region,dose [Gy],dose per activity [Gy/GBq]\nliver,2.0,2.0\n", CrossCheckError, "do not agree"),
        ("region,dose [Gy]\nliver of 2024-05-03,2.0\n", IdentifyingError, "a date|long number"),
    ],
)  # fmt: skip
def test_a_doubt_refuses_the_file(tmp_path: Path, text: str, error: type[Exception], what: str) -> None:
    with pytest.raises(error, match=what):
        _imported(tmp_path, "mirdcalc", text)
    assert not (tmp_path / "x.zip").exists()


def test_the_template_says_whose_results_it_holds(tmp_path: Path) -> None:
    path = ROOT / "docs/foreign-results-template.csv"
    import_results("template", [path], tmp_path / "x.zip", Sharing(), engine="voxelplan", primary=True)
    found = read_submission(tmp_path / "x.zip")
    assert found.manifest.source == "voxelplan"
    rows = sorted(found.tables["organ_dose"].to_pylist(), key=lambda r: (r["cycle"], r["region"]))
    assert [(r["patient"], r["cycle"], r["region"], r["protocol"]) for r in rows] == [
        ("P1", 1, "kidney_left", "mtp"), ("P1", 1, "liver", "mtp"), ("P1", 2, "kidney_left", "stp"),
    ]  # fmt: skip
    assert rows[1]["tiac_h"] == pytest.approx(1.9)
    assert rows[2]["absorbed_dose_gy"] == pytest.approx(0.41 * 7.35)
    assert all(r["is_primary"] for r in rows)


def test_the_case_is_checked() -> None:
    with pytest.raises(SheetError, match="patient is no label"):
        Case("A", "P 1", 1, "Lu177-DOTATATE", "Lu-177", 7400.0, "patient")
    with pytest.raises(SheetError, match="data_origin"):
        Case("A", "P1", 1, "Lu177-DOTATATE", "Lu-177", 7400.0, "hospital")
    with pytest.raises(NuclideError):
        Case("A", "P1", 1, "Lu177-DOTATATE", "Lu177", 7400.0, "patient")


# Merged beside the ledger --------------------------------------------------------------------------


def test_rows_of_another_program_stand_beside_the_ledgers(tmp_path: Path) -> None:
    _imported(tmp_path, "mirdcalc", "region,dose [Gy]\nliver,2.1\n")
    ledger, foreign = submitted(tmp_path / "A.zip"), tmp_path / "x.zip"
    merged = merge([foreign, ledger], tmp_path / "cohort")
    assert [(item["site"], item["source"]) for item in merged.used] == [("A", "ledger"), ("A", "mirdcalc")]
    assert merged.quarantined == {}
    rows = [
        r for r in read_cohort_table(tmp_path / "cohort", "organ_dose") if r["region"] == "liver" and r["cycle"] == 1
    ]
    assert {(r["dose_engine"], r["is_primary"]) for r in rows if r["patient"] == "P1"} == {
        ("pmc", True),
        ("mirdcalc", False),
    }
    administrations = read_cohort_table(tmp_path / "cohort", "administration")
    assert len(administrations) == 6, "the ledger's own administration counts"


def test_activities_of_another_program_do_not_displace_the_ledgers(tmp_path: Path) -> None:
    _imported(tmp_path, "pytheranostics", PYTHERANOSTICS.format(cell="[100.0, 60.5]"))
    merged = merge([submitted(tmp_path / "A.zip"), tmp_path / "x.zip"], tmp_path / "cohort")
    assert merged.quarantined == {}
    assert len(read_cohort_table(tmp_path / "cohort", "region_activity")) == 3 * 2 * 4 * 3
    assert merged.notes == (
        "site A, administration: 1 rows of pytheranostics not taken: the ledger has those cycles",
        "site A, region_activity: 2 rows of pytheranostics not taken: the ledger has those cycles",
    )


def test_two_primary_rows_cannot_both_stay(tmp_path: Path) -> None:
    _imported(tmp_path, "mirdcalc", "region,dose [Gy]\nliver,2.1\n", primary=True)
    merged = merge([submitted(tmp_path / "A.zip"), tmp_path / "x.zip"], tmp_path / "cohort")
    assert merged.quarantined == {"organ_dose": 2}


def test_the_command_of_the_import(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("out.csv").write_text("region,dose [Gy]\nliver,2.1\n")
    whose = ["--site", "A", "--patient", "P1", "--cycle", "1", "--data-origin", "virtual"]
    whose += ["--radiopharmaceutical", "Lu177-DOTATATE", "--nuclide", "Lu-177"]
    done = CliRunner().invoke(app, ["import-results", "opendose3d", "out.csv", "--out", "x.zip", *whose])
    assert done.exit_code == 2
    assert "--administered-mbq" in done.stderr
    done = CliRunner().invoke(
        app, ["import-results", "opendose3d", "out.csv", "--out", "x.zip", *whose, "--administered-mbq", "7400"]
    )
    assert done.exit_code == 0, done.output
    unknown = CliRunner().invoke(app, ["import-results", "magic", "out.csv", "--out", "y.zip"])
    assert unknown.exit_code == 2
    assert "pytheranostics" in unknown.stderr


# TIAC for other programs ---------------------------------------------------------------------------


def test_tiac_of_every_cycle_goes_out_by_source_organ(tmp_path: Path) -> None:
    exported = export_tiac(plan_with_tables(tmp_path, "A", "B"), tmp_path / "tiac")
    assert len(exported.files) == 2 * 3 * 2 * 2
    woman = (tmp_path / "tiac/site-A_sub-P1_ses-c1.cas").read_text().splitlines()
    man = (tmp_path / "tiac/site-A_sub-P2_ses-c1.cas").read_text().splitlines()
    assert "ICRP 89 Adult Female|B" in woman
    assert "ICRP 89 Adult Male|A" in man
    # Two kidneys of 0.5 h each, in the source organs with the phantom's mass and in the kinetic data.
    assert "Kidneys|275.5|1.000000" in woman
    assert "Kidneys|1.000000" in woman
    assert "Kidneys|310.0|1.000000" in man
    assert "Lu-177|" in woman
    with (tmp_path / "tiac/site-A_sub-P1_ses-c1_mirdcalc.csv").open() as stream:
        rows = {row["source region"]: row for row in csv.DictReader(stream)}
    assert rows["Kidneys"] == {"phantom": "ICRP Adult Female", "nuclide": "Lu-177", "source region": "Kidneys",
                               "TIAC [h]": "1.000000"}  # fmt: skip
    assert rows.keys() == {"Kidneys", "Liver", "Spleen"}


def test_blocks_of_a_case_file_are_closed_and_in_the_order_of_olinda() -> None:
    lines = olinda_case("Lu-177", "M", {"Liver": 2.5}).splitlines()
    opened: list[str] = []
    for line in lines:
        if line.startswith("[BEGIN "):
            opened.append(line[7:-1])
        elif line.startswith("[END "):
            assert opened.pop() == line[5:-1]
    assert opened == []
    kinetics = lines[lines.index("[BEGIN KINETIC DATA]") + 1 : lines.index("[END KINETIC DATA]")]
    sources = lines[lines.index("[BEGIN ICRP 89 Adult Male SOURCE ORGANS]") + 1 :][: len(kinetics)]
    assert len(kinetics) == 33
    assert [k.split("|")[0] for k in kinetics] == [s.split("|")[0] for s in sources]
    assert kinetics[14] == "Liver|2.500000"


def test_half_an_organ_does_not_pass_for_the_whole() -> None:
    organs, left_out = source_organs({"kidney_left": 0.5, "liver": None, "colon": 0.2, "kidneys": 0.5})
    assert organs == {}
    assert left_out == ["colon", "kidney_left", "liver"]


def test_cells_are_guarded_against_formulas() -> None:
    assert [guarded(cell) for cell in ("=1", "+1", "-1", "@x", "\t=1")] == ["'=1", "'+1", "'-1", "'@x", "'\t=1"]
    assert "'=Lu" in mirdcalc_csv("=Lu", "M", {"Liver": 1.0})


def test_an_export_without_doses_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="no doses"):
        export_tiac(plan_with_tables(tmp_path), tmp_path / "tiac")
