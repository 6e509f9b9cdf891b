"""Config and sheets: what is wrong with a row refuses its cycle, with file, column and remedy."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, get_args

import pytest

from doseledger.cohort import Plan
from doseledger.errors import ForeignResultsError, RecordedError, SheetError
from doseledger.io import sheets as module
from doseledger.io.models import CurveModelName
from doseledger.io.sheets import PLANS, config_folder, load_plan
from doseledger.kinetics import REGISTRY

from .sheet_factory import SHEETS, Cohort

KEYS = [("A", "P1", 1), ("A", "P1", 2), ("B", "P1", 1)]
EVERY = set(KEYS)


@pytest.fixture
def cohort(tmp_path: Path) -> Cohort:
    return Cohort(tmp_path)


def sentences(plan: Plan) -> dict[Any, list[str]]:
    """What each cycle would be refused with; only cycles that would be."""
    return {
        key: [RecordedError(**problem).sentence for problem in cycle.problems]
        for key, cycle in plan.cycles.items()
        if cycle.problems
    }


# Good sheets --------------------------------------------------------------------------------------


def test_good_sheets_make_a_typed_plan(cohort: Cohort) -> None:
    plan = cohort.load()
    assert list(plan.cycles) == KEYS
    assert sentences(plan) == {}
    assert (plan.cohort, plan.data_origin, plan.base) == ("c1", "virtual", cohort.folder)
    assert plan.results == cohort.folder / "results"
    first = plan.cycle("A", "P1", "1")
    assert [scan["spect"] for scan in first.scans] == ["a/s1", "a/s2"]
    assert first.administration is not None
    assert first.administration["measured_activity_mbq"] == 7400.0
    assert first.administration["injection_start"] == "2025-04-07T09:30:00"
    assert first.cameras == ({**first.cameras[0], "site": "A", "camera": "NM1", "fwhm_mm": 12.0},)
    assert plan.cycle("B", "P1", 1).scans[0]["ct"] is None
    assert [row["region"] for row in first.regions] == ["liver"]
    assert plan.limits[0]["limit_gy"] == 23.0
    assert plan.patients["A", "P1"]["age_years"] == 63
    assert plan.patients["B", "P1"]["age_years"] is None
    assert plan.settings["dose"]["engines"]


def test_scans_come_in_order_of_their_time_point(cohort: Cohort) -> None:
    cohort.rows["scans"][1:3] = cohort.rows["scans"][2:0:-1]
    assert [scan["time_point"] for scan in cohort.load().cycle("A", "P1", 1).scans] == [1, 2]


def test_an_administered_cycle_without_scans_is_in_the_plan(cohort: Cohort) -> None:
    del cohort.rows["scans"][3]
    plan = cohort.load()
    assert list(plan.cycles) == KEYS
    assert [c.key for c in plan.imaged] == [KEYS[0], KEYS[2]]
    assert sentences(plan) == {}


def windows(name: str, text: str) -> bytes:
    return b"\xef\xbb\xbf" + text.replace("\n", "\r\n").encode()


def old_mac(name: str, text: str) -> bytes:
    return text.replace("\n", "\r").encode()


def empty_lines(name: str, text: str) -> bytes:
    return ("\n".join(f"{line}\n\n\t \t" for line in text.splitlines()) + "\n").encode()


def no_last_line_end(name: str, text: str) -> bytes:
    return text.rstrip("\n").encode()


def spaces_round_cells(name: str, text: str) -> bytes:
    header, *lines = text.splitlines()
    return "\n".join([header, *(" " + line.replace("\t", " \t ") for line in lines)]).encode()


def empty_for_not_available(name: str, text: str) -> bytes:
    return text.replace("n/a", "").encode()


@pytest.mark.parametrize(
    "spelling", [windows, old_mac, empty_lines, no_last_line_end, spaces_round_cells, empty_for_not_available]
)
def test_other_spellings_of_a_table_are_the_same_plan(
    cohort: Cohort, tmp_path_factory: pytest.TempPathFactory, spelling: Callable[[str, str], bytes]
) -> None:
    expected = cohort.load()
    other = Cohort(tmp_path_factory.mktemp("other"))
    for name, rows in other.rows.items():
        other.raw[name] = spelling(name, "".join("\t".join(row) + "\n" for row in rows))
    found = other.load()
    assert sentences(found) == {}
    assert {k: (c.administration, c.scans, c.cameras, c.regions) for k, c in found.cycles.items()} == {
        k: (c.administration, c.scans, c.cameras, c.regions) for k, c in expected.cycles.items()
    }
    assert found.patients == expected.patients


def test_a_cycle_is_told_the_curve_models_of_its_radiopharmaceutical(cohort: Cohort) -> None:
    assert cohort.load().cycle("A", "P1", 1).rows_for("kinetics")["curve_models"] == [
        {"region": "liver", "model": "bi", "single_time_point": None, "uptake_half_life_h": None, "uptake_ln_sd": None}
    ]
    cohort.set("administrations", 2, "radiopharmaceutical", "Lu177-PSMA-617")
    plan = cohort.load()
    assert plan.cycle("A", "P1", 1).rows_for("kinetics")["curve_models"][0]["model"] == "bi"
    second = plan.cycle("A", "P1", 2).rows_for("kinetics")["curve_models"]
    assert [(row["model"], row["uptake_half_life_h"], row["uptake_ln_sd"]) for row in second] == [("mono", 1.5, 0.5)]


def test_half_a_prior_refuses_every_cycle(cohort: Cohort) -> None:
    cohort.set("curve_models", 1, "uptake_half_life_h", "2.0")
    found = sentences(cohort.load())
    assert set(found) == EVERY
    assert all("both are needed" in text for texts in found.values() for text in texts)


def test_lesions_included_in_organs_are_not_outlined(cohort: Cohort) -> None:
    cohort.config["segment"] = {"lesion_policy": "included"}
    plan = cohort.load()
    assert sentences(plan) == {}
    assert plan.settings["segment"]["lesion_policy"] == "included"
    cohort.rows["regions"].append(["Tumour 1", "lesion_1", "lesion", "n/a"])
    found = sentences(cohort.load())
    assert set(found) == EVERY
    assert all("'Tumour 1'" in text and "choose excluded" in text for texts in found.values() for text in texts)
    cohort.config["segment"] = {"lesion_policy": "excluded"}
    assert sentences(cohort.load()) == {}


def test_the_models_of_sheet_and_config_are_those_of_the_registry() -> None:
    assert list(get_args(CurveModelName)) == list(REGISTRY)


@pytest.mark.parametrize("sheet", ["limits", "patients"])
@pytest.mark.parametrize("how", ["left out", "null"])
def test_two_sheets_may_be_left_out(cohort: Cohort, sheet: str, how: str) -> None:
    if how == "null":
        cohort.config["sheets"][sheet] = None
    else:
        del cohort.config["sheets"][sheet]
    plan = cohort.load()
    assert sentences(plan) == {}
    assert (plan.limits if sheet == "limits" else plan.patients) in ((), {})


@pytest.mark.parametrize(("cell", "value"), [("yes", True), ("no", False), ("n/a", None)])
def test_yes_and_no(cohort: Cohort, cell: str, value: bool | None) -> None:
    for number, row in enumerate(cohort.rows["administrations"]):
        row.append("extravasation" if number == 0 else cell)
    administration = cohort.load().cycle("A", "P1", 1).administration
    assert administration is not None
    assert administration["extravasation"] is value


@pytest.mark.parametrize(
    ("cell", "zone"),
    [("Europe/Berlin", "Europe/Berlin"), ("n/a", None), ("CET+1", ...), ("../etc", ...), ("Europe", ...)],
)
def test_a_time_zone_is_one_of_the_list(cohort: Cohort, cell: str, zone: object) -> None:
    for number, row in enumerate(cohort.rows["administrations"]):
        row.append("time_zone" if number == 0 else cell)
    plan = cohort.load()
    if zone is ...:
        assert "no time zone of the IANA list" in sentences(plan)[("A", "P1", 1)][0]
    else:
        administration = plan.cycle("A", "P1", 1).administration
        assert administration is not None
        assert administration["time_zone"] == zone


def test_a_cycle_written_as_a_number_with_a_point_is_that_cycle(cohort: Cohort) -> None:
    """A spreadsheet does so; the scan must not vanish from its cycle."""
    for sheet, row in (("scans", 1), ("administrations", 1)):
        cohort.set(sheet, row, "cycle", "1.0")
    plan = cohort.load()
    assert list(plan.cycles) == KEYS
    assert sentences(plan) == {}
    assert len(plan.cycle("A", "P1", 1).scans) == 2


# Bad rows refuse their cycle ----------------------------------------------------------------------

#: sheet, row, column, cell, words of the sentence
BAD_CELLS = [
    ("scans", 3, "time_point", "0", "greater than or equal to 1"),
    ("scans", 3, "time_point", "first", "valid integer"),
    ("scans", 3, "time_point", "1.5", "valid integer"),
    ("scans", 3, "spect", "n/a", "field required"),
    ("scans", 3, "camera", "", "field required"),
    ("scans", 3, "camera", "NM9", "the camera is not in the camera sheet"),
    ("scans", 3, "spect", '"a/s3', "quotation mark"),
    ("scans", 3, "spect", "a/\0s3", "control character"),
    ("administrations", 2, "nuclide", "Lu177", "match pattern"),
    ("administrations", 2, "nuclide", "n/a", "field required"),
    ("administrations", 2, "radiopharmaceutical", "", "field required"),
    ("administrations", 2, "measured_activity_mbq", "7.4", "was it written in GBq?"),
    ("administrations", 2, "measured_activity_mbq", "7,400", "valid number"),
    ("administrations", 2, "measured_activity_mbq", "0", "greater than 0"),
    ("administrations", 2, "measured_activity_mbq", "7.4e9", "less than or equal to"),
    ("administrations", 2, "measured_activity_mbq", "nan", "finite number"),
    ("administrations", 2, "residual_activity_mbq", "nan", "finite number"),
    ("administrations", 2, "residual_activity_mbq", "7400", "not smaller than measured_activity_mbq"),
    ("administrations", 2, "residual_activity_mbq", "-1", "greater than or equal to 0"),
    ("administrations", 2, "infusion_min", "2000", "less than or equal to 1440"),
    ("administrations", 2, "injection_start", "2025-04-07T09:30:00+02:00", "without a zone"),
    ("administrations", 2, "injection_start", "2025-04-07T09:30:00Z", "without a zone"),
    ("administrations", 2, "injection_start", "2025-04-07", "time of day"),
    ("administrations", 2, "injection_start", "07.04.2025 09:30", "time of day"),
    ("administrations", 2, "injection_start", "1744011000", "time of day"),
    ("administrations", 2, "injection_start", "2025-13-07T09:30:00", "month"),
    ("administrations", 2, "injection_start", "n/a", "field required"),
]


@pytest.mark.parametrize(("sheet", "row", "column", "cell", "words"), BAD_CELLS, ids=lambda v: repr(v)[:40])
def test_a_bad_cell_refuses_its_cycle_alone(
    cohort: Cohort, sheet: str, row: int, column: str, cell: str, words: str
) -> None:
    cohort.set(sheet, row, column, cell)
    plan = cohort.load()
    found = sentences(plan)
    assert list(plan.cycles) == KEYS
    assert set(found) == {("A", "P1", 2)}
    first = found["A", "P1", 2][0]
    assert words in first
    assert f"file {sheet}.tsv; tag {column}" in first
    # A row on its own has a line; a cell may contradict another sheet, then the remedy says which.
    assert f"line {row + 1}" in first or "cameras.tsv" in first
    assert first.endswith((SheetError.remedy, "to cameras.tsv."))
    # The cycle has scans, though its only row is bad: it is refused and not "not imaged".
    assert plan.cycle("A", "P1", 2) in plan.imaged


def test_no_date_reaches_a_message(cohort: Cohort) -> None:
    for number, cell in enumerate(("2025-04-07T09:30:00+02:00", "2025-04-07", '"2025-04-07T09:30'), start=1):
        cohort.set("administrations", number, "injection_start", cell)
    found = sentences(cohort.load())
    assert set(found) == EVERY
    assert "2025" not in json.dumps(list(found.values()))


def test_a_bad_row_among_good_ones_refuses_the_cycle_too(cohort: Cohort) -> None:
    cohort.set("scans", 2, "time_point", "second")
    plan = cohort.load()
    assert set(sentences(plan)) == {("A", "P1", 1)}
    assert len(plan.cycle("A", "P1", 1).scans) == 1


def test_more_cells_than_columns(cohort: Cohort) -> None:
    cohort.rows["scans"][3].append("one more")
    found = sentences(cohort.load())
    assert set(found) == {("A", "P1", 2)}
    assert "line 4 has more cells than columns (file scans.tsv)" in found["A", "P1", 2][0]


def test_fewer_cells_than_columns(cohort: Cohort) -> None:
    del cohort.rows["scans"][3][-1]
    found = sentences(cohort.load())
    assert set(found) == {("A", "P1", 2)}
    assert "field required (file scans.tsv; tag camera)" in found["A", "P1", 2][0]


def test_lines_are_counted_with_the_empty_ones(cohort: Cohort) -> None:
    cohort.rows["scans"][3:3] = [[""], ["", ""]]
    cohort.set("scans", 5, "time_point", "x")
    assert "line 6" in sentences(cohort.load())["A", "P1", 2][0]


def test_a_quotation_mark_does_not_swallow_the_rows_after_it(cohort: Cohort) -> None:
    cohort.set("scans", 1, "contours", '"a/r1.dcm')
    cohort.set("scans", 4, "contours", 'b/r1.dcm"')
    plan = cohort.load()
    assert list(plan.cycles) == KEYS
    assert set(sentences(plan)) == {("A", "P1", 1)}
    assert len(plan.cycle("A", "P1", 2).scans) == 1
    # A mark inside a cell is text.
    assert plan.cycle("B", "P1", 1).scans[0]["contours"] == 'b/r1.dcm"'


def test_two_administrations_of_one_cycle(cohort: Cohort) -> None:
    cohort.rows["administrations"].append(list(cohort.rows["administrations"][2]))
    found = sentences(cohort.load())
    assert found == {("A", "P1", 2): [found["A", "P1", 2][0]]}
    assert "two administrations (file administrations.tsv)" in found["A", "P1", 2][0]


def test_no_administration(cohort: Cohort) -> None:
    del cohort.rows["administrations"][2]
    plan = cohort.load()
    found = sentences(plan)
    assert set(found) == {("A", "P1", 2)}
    assert "no administration (file administrations.tsv)" in found["A", "P1", 2][0]
    assert "never guessed" in found["A", "P1", 2][0]
    assert plan.cycle("A", "P1", 2).problems[0]["code"] == "administration_missing"


def test_a_time_point_twice(cohort: Cohort) -> None:
    cohort.set("scans", 2, "time_point", "1")
    found = sentences(cohort.load())
    assert set(found) == {("A", "P1", 1)}
    assert "listed twice (file scans.tsv; tag time_point; found [1, 1])" in found["A", "P1", 1][0]


def test_a_camera_of_another_site_does_not_count(cohort: Cohort) -> None:
    del cohort.rows["cameras"][2]
    assert set(sentences(cohort.load())) == {("B", "P1", 1)}


HOSTILE = ["../../etc/passwd", "; rm -rf ~", "$(id)", "<script>alert(1)</script>", "{{ 7*7 }}", "%s%n", "\u202eevil"]


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_stays_text(cohort: Cohort, text: str) -> None:
    for column in ("spect", "camera"):
        cohort.set("scans", 3, column, text)
    plan = cohort.load()
    assert plan.cycle("A", "P1", 2).scans[0]["spect"] == text
    assert repr(text) in sentences(plan)["A", "P1", 2][0]
    # Nothing but the plan and the mark is written, and both inside the results.
    written = {p.relative_to(cohort.folder).as_posix() for p in cohort.folder.rglob("*.json")}
    assert {name.rpartition("/")[2] for name in written} == {"cohort.json", "plan.json", "cycles-0.json"}
    assert all(name.startswith("results/") for name in written)


# Bad sheets refuse every cycle --------------------------------------------------------------------


def refused_by(cohort: Cohort, keys: Iterable[Any] = EVERY) -> str:
    """The sentence that every one of the cycles is refused with first."""
    plan = cohort.load()
    found = sentences(plan)
    assert list(plan.cycles) == KEYS
    assert set(found) == set(keys)
    firsts = {messages[0] for messages in found.values()}
    assert len(firsts) == 1
    return firsts.pop()


def test_a_column_in_the_wrong_unit_names_the_right_one(cohort: Cohort) -> None:
    header = cohort.rows["administrations"][0]
    header[header.index("measured_activity_mbq")] = "measured_activity_gbq"
    sentence = refused_by(cohort)
    assert "file administrations.tsv; tag measured_activity_gbq" in sentence
    assert "expected ['measured_activity_mbq']" in sentence


def test_an_unknown_column_names_all_that_are_known(cohort: Cohort) -> None:
    cohort.rows["cameras"][0][3] = "resolution"
    sentence = refused_by(cohort)
    assert "file cameras.tsv; tag resolution" in sentence
    assert "'fwhm_mm'" in sentence


@pytest.mark.parametrize(
    ("sheet", "column"),
    [("scans", "camera"), ("administrations", "infusion_min"), ("cameras", "fwhm_mm"), ("regions", "kind")],
)
def test_a_missing_column(cohort: Cohort, sheet: str, column: str) -> None:
    position = cohort.rows[sheet][0].index(column)
    for row in cohort.rows[sheet]:
        del row[position]
    assert f"lacks a column (file {sheet}.tsv; tag {column}; expected ['{column}'])" in refused_by(cohort)


@pytest.mark.parametrize(("sheet", "column"), [("cameras", "fwhm_mm"), ("patients", "age_years")])
def test_a_column_twice(cohort: Cohort, sheet: str, column: str) -> None:
    for row in cohort.rows[sheet]:
        row.append(row[cohort.rows[sheet][0].index(column)])
    assert f"has a column twice (file {sheet}.tsv; tag {column})" in refused_by(cohort)


@pytest.mark.parametrize(
    ("sheet", "row", "column", "cell", "words"),
    [
        ("cameras", 2, "u_calibration_rel", "5 %", "valid number"),
        ("cameras", 2, "u_calibration_rel", "5", "less than 1"),
        ("cameras", 2, "fwhm_mm", "0", "greater than 0"),
        ("cameras", 2, "fwhm_mm", "nan", "finite number"),
        ("regions", 1, "kind", "gland", "'organ', 'marrow', 'lesion' or 'rest_of_body'"),
        ("regions", 1, "region", "Liver!", "match pattern"),
        ("regions", 1, "alpha_beta_gy", "0", "greater than 0"),
        ("limits", 1, "quantity", "dose", "'absorbed_dose' or 'bed'"),
        ("curve_models", 1, "model", "auto", "'mono'"),
        ("curve_models", 1, "uptake_half_life_h", "0", "greater than 0"),
        ("limits", 1, "limit_gy", "-23", "greater than 0"),
        ("patients", 1, "age_years", "old", "valid integer"),
    ],
)
def test_a_bad_cell_of_a_shared_sheet(cohort: Cohort, sheet: str, row: int, column: str, cell: str, words: str) -> None:
    cohort.set(sheet, row, column, cell)
    sentence = refused_by(cohort)
    assert words in sentence
    assert f"line {row + 1}" in sentence
    assert f"file {sheet}.tsv; tag {column}; found {cell!r}" in sentence


@pytest.mark.parametrize(
    ("sheet", "column"), [("cameras", "camera"), ("regions", "source_name"), ("patients", "patient")]
)
def test_two_rows_that_contradict_each_other(cohort: Cohort, sheet: str, column: str) -> None:
    """Two calibrations of one camera, two meanings of one outline: none of the two is taken silently."""
    cohort.rows[sheet].append(list(cohort.rows[sheet][1]))
    sentence = refused_by(cohort)
    assert f"line {len(cohort.rows[sheet])} repeats an earlier row (file {sheet}.tsv; tag {column}" in sentence


@pytest.mark.parametrize("sheet", ["cameras", "regions", "limits", "patients", "curve_models"])
def test_an_absent_shared_sheet(cohort: Cohort, sheet: str) -> None:
    cohort.absent.add(sheet)
    assert f"cannot be read (file {sheet}.tsv)" in refused_by(cohort)


@pytest.mark.parametrize("sheet", ["cameras", "regions", "limits", "patients", "curve_models"])
@pytest.mark.parametrize(
    ("content", "words"),
    [("Künstler\n".encode("latin-1"), "not UTF-8"), (b"\xff\xfes\0i\0", "not UTF-8"), (b"9" * 200_000, "not a table")],
    ids=["latin-1", "utf-16", "one endless cell"],
)
def test_a_shared_sheet_that_is_no_text(cohort: Cohort, sheet: str, content: bytes, words: str) -> None:
    cohort.raw[sheet] = content
    sentence = refused_by(cohort)
    assert words in sentence
    assert f"(file {sheet}.tsv)" in sentence


# Nothing can be keyed -----------------------------------------------------------------------------


def assert_stops(cohort: Cohort, *words: str) -> None:
    with pytest.raises(SheetError) as caught:
        cohort.load()
    for word in words:
        assert word in caught.value.sentence
    # Nothing is written for a cohort that cannot start.
    assert not (cohort.folder / "results").exists()


@pytest.mark.parametrize("sheet", ["scans", "administrations"])
@pytest.mark.parametrize(
    ("column", "cell", "words"),
    [
        ("cycle", "one", "valid integer"),
        ("cycle", "1.5", "valid integer"),
        ("cycle", "0", "greater than or equal to 1"),
        ("cycle", "n/a", "field required"),
        ("site", "A/B", "match pattern"),
        ("site", "", "field required"),
        ("patient", "../P1", "match pattern"),
        ("patient", "Müller", "match pattern"),
        ("patient", "P1 2", "match pattern"),
    ],
)
def test_a_row_without_a_key_stops_the_start(cohort: Cohort, sheet: str, column: str, cell: str, words: str) -> None:
    cohort.set(sheet, 2, column, cell)
    assert_stops(cohort, words, "line 3", f"file {sheet}.tsv; tag {column}", SheetError.remedy)


@pytest.mark.parametrize("sheet", ["scans", "administrations"])
def test_a_sheet_that_is_not_there_stops_the_start(cohort: Cohort, sheet: str) -> None:
    cohort.absent.add(sheet)
    assert_stops(cohort, f"cannot be read (file {sheet}.tsv)")


@pytest.mark.parametrize("sheet", ["scans", "administrations"])
@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda text: text + "C\tPé\t1\n".encode("latin-1"), "not UTF-8"),
        # Beyond the first buffer: the rows before it have been read, those after it are lost.
        (lambda text: text + b"\n" * 100_000 + b"\xff\n", "not UTF-8"),
        (lambda text: text + b"9" * 200_000, "not a table"),
        (lambda text: b"", "lacks a column"),
        (lambda text: text.replace(b"patient", b"person", 1), "tag person"),
        (lambda text: text.replace(b"site\t", b"", 1), "tag site"),
        (lambda text: text.replace(b"\t", b","), "tag site,patient,cycle"),
        # The second of two columns would give the keys.
        (lambda text: text.replace(b"time_point", b"site", 1).replace(b"nuclide", b"site", 1), "twice"),
    ],
    ids=["latin-1", "late latin-1", "endless cell", "empty", "renamed key", "key left out", "commas", "key twice"],
)
def test_a_sheet_without_readable_keys_stops_the_start(
    cohort: Cohort, sheet: str, change: Callable[[bytes], bytes], words: str
) -> None:
    cohort.raw[sheet] = change("".join("\t".join(row) + "\n" for row in cohort.rows[sheet]).encode())
    assert_stops(cohort, words, f"file {sheet}.tsv")


def test_sheets_without_rows_stop_the_start(cohort: Cohort) -> None:
    for sheet in ("scans", "administrations"):
        del cohort.rows[sheet][1:]
    assert_stops(cohort, "name no cycle", "scans.tsv")


# The config ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "key", "words"),
    [
        ({"data_origin": None}, "data_origin", "patient"),
        ({"cohort": "a b"}, "cohort", "match pattern"),
        ({"cohort": "../x"}, "cohort", "match pattern"),
        ({"results": ""}, "results", "at least 1 character"),
        ({"sheets": "scans.tsv"}, "sheets", "valid dictionary"),
        ({"sheets": {"scans": "scans.tsv"}}, "sheets.administrations", "field required"),
        ({"surprise": 1}, "surprise", "not permitted"),
        ({"dose": {"engines": ["magic"]}}, "dose.engines", "unknown dose engine magic"),
        ({"dose": {"engines": ["led", "led"]}}, "dose.engines", "listed twice"),
        ({"dose": {"engines": []}}, "dose.engines", "at least 1 item"),
        ({"kinetics": {"relative_random_uncertainty": 0}}, "kinetics.relative_random_uncertainty", "greater than 0"),
        (
            {"kinetics": {"relative_random_uncertainty": float("nan")}},
            "kinetics.relative_random_uncertainty",
            "finite number",
        ),
        ({"align": {"reference_time_point": 0}}, "align.reference_time_point", "greater than or equal to 1"),
        ({"segment": {"source": "guess"}}, "segment.source", "contours"),
    ],
    ids=repr,
)
def test_a_bad_config_stops_the_start(cohort: Cohort, change: dict[str, Any], key: str, words: str) -> None:
    cohort.config |= change
    assert_stops(cohort, "the config is invalid", words, f"file config.yaml; tag {key}", "config/README.md")


@pytest.mark.parametrize("key", ["cohort", "results", "data_origin", "sheets"])
def test_a_config_without_a_key_stops_the_start(cohort: Cohort, key: str) -> None:
    del cohort.config[key]
    assert_stops(cohort, "field required", f"tag {key}")


def test_an_empty_config_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(SheetError, match="field required"):
        load_plan({}, tmp_path)


def test_a_run_has_one_config(tmp_path: Path) -> None:
    assert config_folder([tmp_path / "config.yaml"]) == tmp_path
    for files in ([], ["a.yaml", "b.yaml"]):
        with pytest.raises(SheetError, match=r"snakemake --configfile my\.yaml"):
            config_folder(files)


def test_settings_are_those_of_each_stage_with_their_defaults(cohort: Cohort) -> None:
    cohort.config["kinetics"] = {"relative_random_uncertainty": 0.1}
    cohort.config["available"] = True  # for Snakemake, not a setting
    settings = cohort.load().settings
    assert set(settings) == {"ingest", "segment", "align", "kinetics", "dose", "course"}
    assert settings["kinetics"]["relative_random_uncertainty"] == 0.1
    assert settings["kinetics"]["model"] == "auto"
    assert json.loads(json.dumps(settings)) == settings


# The plan is kept ---------------------------------------------------------------------------------


def kept(cohort: Cohort) -> list[Path]:
    return sorted((cohort.folder / "results" / PLANS).iterdir())


def test_the_second_load_reads_what_the_first_one_wrote(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort.set("scans", 3, "time_point", "x")  # a problem, too, must come back the same
    first = cohort.load()
    assert len(kept(cohort)) == 1

    def never(*_: object) -> None:
        raise AssertionError("the sheets are validated again")

    monkeypatch.setattr(module, "_validate", never)
    second = load_plan(cohort.config, cohort.folder)
    assert second == first
    # Snakemake compares parameters by their repr: rows must not differ even in the order of keys.
    for stage in ("ingest", "segment", "align", "kinetics", "dose"):
        rows = [[c.rows_for(stage) for c in plan.cycles.values()] for plan in (first, second)]
        assert repr(rows[0]) == repr(rows[1])
    assert repr(first.course_rows("A", "P1")) == repr(second.course_rows("A", "P1"))
    assert repr(first.settings) == repr(second.settings)


@pytest.mark.parametrize("name", ["_prior.json", "~prior.json"])
def test_a_kept_plan_is_found_wherever_the_package_lies(
    cohort: Cohort, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    # Once the files were read in the order of their paths, and a package in another place found no plan.
    cohort.load()
    moved = cohort.folder.parent / name
    moved.write_bytes(module.DEFAULT_PRIOR.read_bytes())
    monkeypatch.setattr(module, "DEFAULT_PRIOR", moved)
    cohort.load()
    assert len(kept(cohort)) == 1


@pytest.mark.parametrize("sheet", SHEETS)
def test_a_changed_sheet_is_read_again(cohort: Cohort, sheet: str) -> None:
    before = cohort.load()
    column, row, cell = {
        "scans": ("spect", 1, "a/other"),
        "administrations": ("measured_activity_mbq", 1, "7300"),
        "cameras": ("fwhm_mm", 1, "11"),
        "regions": ("region", 1, "spleen"),
        "limits": ("limit_gy", 1, "28"),
        "patients": ("age_years", 1, "64"),
        "curve_models": ("model", 1, "mono"),
    }[sheet]
    cohort.set(sheet, row, column, cell)
    assert cohort.load() != before
    assert len(kept(cohort)) == 2


def test_a_changed_setting_or_version_is_validated_again(cohort: Cohort, monkeypatch: pytest.MonkeyPatch) -> None:
    cohort.load()
    cohort.config["align"] = {"reference_time_point": 2}
    assert cohort.load().settings["align"]["reference_time_point"] == 2
    assert len(kept(cohort)) == 2
    monkeypatch.setattr(module, "__version__", "99")
    cohort.load()
    assert len(kept(cohort)) == 3


def test_a_sheet_that_appears_is_read(cohort: Cohort) -> None:
    cohort.absent.add("limits")
    assert set(sentences(cohort.load())) == EVERY
    cohort.absent.clear()
    assert sentences(cohort.load()) == {}


def test_results_of_another_cohort_are_refused(cohort: Cohort) -> None:
    cohort.load()
    cohort.config["cohort"] = "c2"
    for _ in range(2):
        with pytest.raises(ForeignResultsError) as caught:
            cohort.load()
        assert "found 'c1'; expected 'c2'" in caught.value.sentence
        assert "results folder" in caught.value.sentence


def test_results_that_nobody_marked_are_refused(cohort: Cohort) -> None:
    (cohort.folder / "results" / "site-A").mkdir(parents=True)
    with pytest.raises(ForeignResultsError, match="no cohort mark"):
        cohort.load()
