"""What a site hands over: nothing that identifies, the same bits every time, and a page of exactly that."""

from __future__ import annotations

import json
import re
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from doseledger.cli import app
from doseledger.errors import ForeignResultsError, IdentifyingError, InputMissingError, SheetError
from doseledger.io.shared_text import SENTENCES, is_text, rule_of, trouble
from doseledger.io.submission import read_submission
from doseledger.io.tables import SCHEMAS, table, write_rows
from doseledger.submission import QUASI_IDENTIFIERS, Sharing, read_key, read_secrets, shareable, submit

from .sheet_factory import Cohort
from .submission_factory import (
    HASH,
    Edit,
    plan_with_tables,
    site_rows,
    site_tables,
    submit_tables,
    submitted,
    tables_of,
)


def _set(name: str, column: str, value: Any) -> Edit:
    def edit(rows: dict[str, list[dict[str, Any]]]) -> None:
        rows[name][0][column] = value

    return edit


def _rename(old: str, new: str) -> Edit:
    def edit(rows: dict[str, list[dict[str, Any]]]) -> None:
        for row in (row for own in rows.values() for row in own):
            if row.get("patient") == old:
                row["patient"] = new

    return edit


def _page(archive: Path) -> str:
    with zipfile.ZipFile(archive) as opened:
        return opened.read("index.html").decode()


# The file ------------------------------------------------------------------------------------------


def test_the_same_tables_give_the_same_bytes(tmp_path: Path) -> None:
    tables = site_tables()
    turned = {name: data.take(list(range(data.num_rows))[::-1]) for name, data in reversed(tables.items())}
    first, second = submit_tables(tmp_path / "a.zip", tables), submit_tables(tmp_path / "b.zip", turned)
    assert first.read_bytes() == second.read_bytes()


def test_what_is_read_is_what_was_shared(tmp_path: Path) -> None:
    tables = site_tables()
    found = read_submission(submit_tables(tmp_path / "a.zip", tables, revision=3))
    assert (found.manifest.site, found.manifest.revision, found.manifest.source) == ("A", 3, "ledger")
    assert found.tables.keys() == tables.keys()
    for name, data in tables.items():
        assert found.tables[name].schema.equals(SCHEMAS[name], check_metadata=True)
        assert sorted(map(repr, found.tables[name].to_pylist())) == sorted(map(repr, data.to_pylist()))


def test_it_is_readable_without_this_program(tmp_path: Path) -> None:
    with zipfile.ZipFile(submitted(tmp_path / "a.zip")) as archive:
        archive.extractall(tmp_path)
        assert {entry.date_time for entry in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    schema = pa.parquet.read_schema(tmp_path / "tables/organ_dose.parquet")
    assert schema.field("absorbed_dose_gy").metadata[b"unit"] == b"Gy"


def test_submit_takes_one_site_of_a_cohort(tmp_path: Path) -> None:
    plan = plan_with_tables(tmp_path, "A", "B")
    with pytest.raises(SheetError, match="several sites"):
        submit(plan, tmp_path / "x.zip", Sharing())
    with pytest.raises(InputMissingError, match="no such site"):
        submit(plan, tmp_path / "x.zip", Sharing(), site="C")
    submit(plan, tmp_path / "b.zip", Sharing(), site="B")
    found = read_submission(tmp_path / "b.zip")
    assert {site for data in found.tables.values() for site in data["site"].to_pylist()} == {"B"}
    assert "phantom_qc" in found.tables
    assert found.manifest.settings["segment"] == {"source": "nnunet"}, "places on the site's disks stay there"
    assert not (tmp_path / "x.zip").exists()


def test_a_cohort_without_tables_is_said_to_be_so(tmp_path: Path) -> None:
    plan = plan_with_tables(tmp_path)
    with pytest.raises(InputMissingError, match="no tables yet"):
        submit(plan, tmp_path / "a.zip", Sharing())


def test_the_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cohort = Cohort(tmp_path)
    cohort.write()
    (tmp_path / "config.yaml").write_text(json.dumps(cohort.config))
    tables = site_rows()
    tables["administration"][0]["preparation"] = "seen in Uppsala"
    for name, rows in tables.items():
        place = tmp_path / "results/cohort" / name / "site=A"
        place.mkdir(parents=True)
        write_rows(place, name, rows).rename(place / "part-0.parquet")
    (tmp_path / "accept.txt").write_text("seen in Uppsala\n")
    options = ["--revision", "2", "--suppress-below", "2", "--accept", "accept.txt"]
    done = CliRunner().invoke(app, ["submit", "config.yaml", "--out", "site.zip", *options])
    assert done.exit_code == 0, done.output
    assert "withheld: patient.mass_kg, 3 cells" in done.output
    assert read_submission(tmp_path / "site.zip").manifest.revision == 2
    assert "seen in Uppsala" in _page(tmp_path / "site.zip")


# What must not go out ------------------------------------------------------------------------------

IDENTIFYING = [
    ("patient", "diagnosis", "ileum NET 2024-05-03", "a date"),
    ("patient", "diagnosis", "NET, 3.5.2024", "a date"),
    ("patient", "diagnosis", "NET since May 2021", "a date"),
    ("patient", "diagnosis", "NET 12 Jan", "a date"),
    ("patient", "patient", "19620314", "a date"),
    ("patient", "patient", "K8812345", "a long number"),
    ("administration", "preparation", "amino acids 09:30", "a time of day"),
    ("acquisition", "unit_source", "1.2.840.10008.5.1.4", "a UID"),
    ("acquisition", "reconstruction", "/data/recon/osem", "a path"),
    ("acquisition", "reconstruction", "C:\\data", "a path"),
    ("acquisition", "model", "osem.nii.gz", "a path"),
    ("acquisition", "manufacturer", "phys@hospital.org", "an e-mail address"),
    ("patient", "diagnosis", "NET Doe^John", "a DICOM person name"),
    ("acquisition", "camera", "192.168.1.7", "an IP address"),
    ("acquisition", "collimator", "https://hospital.org", "an address of the web"),
    ("patient", "diagnosis", "patient of Miller", "the word 'Miller'"),
    ("patient", "diagnosis", "NET\nG2", "control characters"),
    ("patient", "prior_therapy", "=1+1", "a formula"),
    ("acquisition", "camera", "NM<script>", "markup"),
    ("acquisition", "camera", "NM1; rm", "a command"),
    ("region", "region", "kidney left", "no name"),
    ("acquisition", "spect_sha256", "not a hash", "no hash"),
    ("patient", "diagnosis", "NET " * 300, "more than"),
    ("curve", "parameter_names", ["Doe^John"], "a DICOM person name"),
    ("patient", "patient", "5Mar2024", "a date"),
    ("patient", "patient", "Miller", "a pseudonym without a digit"),
    ("patient", "patient", "MRN4711", "a title or a record"),
    ("acquisition", "camera", "NM1 since 2024-05", "a date"),
    ("acquisition", "camera", "NM1 05/2024", "a date"),
    ("acquisition", "reconstruction", "OSEM MAR2024", "a date"),
    ("acquisition", "camera", "Dr. Miller", "a title or a record"),
    ("acquisition", "camera", "NM1 0761-270-391", "a number in groups"),
    ("acquisition", "camera", "node17.hospital.local", "an address of the web"),
    ("acquisition", "energy_window_kev", "1962-0314", "a date"),
    ("organ_dose", "sct_code", "19620314", "a date"),
    ("organ_dose", "sct_code", "8812345", "no number code"),
    ("acquisition", "cycle", 20240503, "a number that counts nothing"),
]

#: What the signs must leave alone: texts of headers and sheets that look a little like one of them.
HARMLESS = [
    ("technical", "OSEM 8i6s"),
    ("technical", "NEMA spheres 10 13 17 22 28 37 mm"),
    ("technical", "Symbia Intevo 16"),
    ("technical", "Units (0054,1001)"),
    ("technical", "QSPECT 2.1.0 4 detectors"),
    ("words", "ileum NET G2 1.5 cm, 2 octreotide doses, grade 2 marrow"),
    ("window", "187.6-229.2"),
    ("window", "101.4-124.3;187.6-229.2"),
    ("number_code", "64033007"),
    ("pseudonym", "P001"),
    ("pseudonym", "abcdefghijklmnop"),
]


@pytest.mark.parametrize(("rule", "text"), HARMLESS)
def test_what_only_looks_identifying_passes(rule: Any, text: str) -> None:
    assert trouble(rule, text) is None


@pytest.mark.parametrize(("name", "column", "value", "what"), IDENTIFYING)
def test_what_identifies_stops_the_submission(tmp_path: Path, name: str, column: str, value: Any, what: str) -> None:
    with pytest.raises(IdentifyingError, match=re.escape(what)) as caught:
        submitted(tmp_path / "a.zip", edit=_set(name, column, value))
    assert caught.value.tag == f"{name}.{column}"
    assert list(tmp_path.iterdir()) == []


def test_every_text_column_of_the_ledger_has_a_rule() -> None:
    for name, schema in SCHEMAS.items():
        for field in schema:
            if is_text(field.type):
                rule_of(name, field.name)


def test_a_person_may_let_words_through_but_no_date(tmp_path: Path) -> None:
    text = "seen in Uppsala"
    edit = _set("patient", "diagnosis", text)
    with pytest.raises(IdentifyingError, match="--accept"):
        submitted(tmp_path / "a.zip", edit=edit)
    archive = submitted(tmp_path / "a.zip", edit=edit, accepted=frozenset({text}))
    assert text in _page(archive)
    others = frozenset({text, "reviewed by Anna Miller, record 4711"})
    archive = submitted(tmp_path / "c.zip", edit=edit, accepted=others)
    assert "Miller" not in _page(archive), "what else stands in the file is not shared"
    submitted(tmp_path / "d.zip", edit=_rename("P1", "Anna"), accepted=frozenset({"Anna"}))
    dated = "seen 2024-05-03"
    with pytest.raises(IdentifyingError, match="a date"):
        submitted(tmp_path / "b.zip", edit=_set("patient", "diagnosis", dated), accepted=frozenset({dated}))


def test_identifiers_of_the_sites_own_list_are_found(tmp_path: Path) -> None:
    (tmp_path / "keys.tsv").write_text("patient_id\tname\tpatient\nQX77\tLiver^Anna\tP1\n")
    secrets = read_secrets(tmp_path / "keys.tsv")
    assert secrets == {"qx77", "liver^anna", "liver", "anna"}
    with pytest.raises(IdentifyingError, match="identifier of the site's list"):
        submitted(tmp_path / "a.zip", edit=_set("acquisition", "camera", "NM qx77"), secrets=secrets)
    # A patient called Liver would stop every submission: the site then takes the line out and looks for itself.
    with pytest.raises(IdentifyingError):
        submitted(tmp_path / "a.zip", secrets=secrets)
    submitted(tmp_path / "a.zip", secrets=frozenset({"qx77", "anna"}))


@pytest.mark.parametrize("text", ["XAB1234", "JohnDoe", "Doe1", "lesion_doe"])
def test_an_identifier_is_found_within_a_longer_name(text: str) -> None:
    secrets = frozenset({"ab1234", "doe^john", "doe", "john"})
    assert "identifier of the site's list" in str(trouble("name", text, secrets=secrets))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "no column patient_id"),
        (b"patient_id,patient\nAB1234,P1\n", "no column patient_id"),
        (b"patient_id\tpatient\n", "holds no identifiers"),
        (b"\xff\xfe\x00", "no text"),
    ],
)
def test_a_list_in_which_nothing_can_be_looked_up_is_refused(tmp_path: Path, content: bytes, what: str) -> None:
    (tmp_path / "keys.tsv").write_bytes(content)
    with pytest.raises(SheetError, match=what):
        read_secrets(tmp_path / "keys.tsv")


def test_nothing_but_an_archive_is_written_over(tmp_path: Path) -> None:
    (tmp_path / "patients.tsv").write_text("years of work")
    with pytest.raises(ForeignResultsError, match="no archive"):
        submitted(tmp_path / "patients.tsv")
    with pytest.raises(ForeignResultsError, match="no archive"):
        submitted(tmp_path)
    with pytest.raises(InputMissingError, match="does not exist"):
        submitted(tmp_path / "nowhere" / "a.zip")
    assert (tmp_path / "patients.tsv").read_text() == "years of work"
    submitted(tmp_path / "a.zip")
    submitted(tmp_path / "a.zip", revision=2)
    assert read_submission(tmp_path / "a.zip").manifest.revision == 2


def test_sentences_of_outcomes_are_replaced_by_what_their_code_means(tmp_path: Path) -> None:
    def refuse(rows: dict[str, list[dict[str, Any]]]) -> None:
        rows["stage_outcome"][0] |= {
            "status": "refused",
            "code": "unit_unknown",
            "sentence": "not in a known unit (patient P1; file dicom/Doe^John/2024-05-03/nm.dcm)",
            "file": "dicom/Doe^John/2024-05-03/nm.dcm",
            "tag": "Units (0054,1001)",
        }
        rows["stage_outcome"][1] |= {"status": "failed", "code": "MemoryError", "sentence": "no memory on node17"}

    archive = submitted(tmp_path / "a.zip", edit=refuse)
    rows = read_submission(archive).tables["stage_outcome"].to_pylist()
    refused, failed = (next(r for r in rows if r["status"] == status) for status in ("refused", "failed"))
    assert refused["sentence"] == SENTENCES["unit_unknown"]
    assert (refused["code"], refused["tag"], refused["file"]) == ("unit_unknown", "Units (0054,1001)", None)
    assert (failed["code"], failed["sentence"]) == ("MemoryError", None)
    assert "names of files stay at the site" in _page(archive)
    assert b"Doe" not in archive.read_bytes()


def test_great_ages_are_one_band() -> None:
    rows = site_rows(patients=3)["patient"]
    for row, band in zip(rows, ("85-89", "90-94", "100-104"), strict=True):
        row["age_band"] = band
    shared, withheld = shareable({"patient": table("patient", rows)}, Sharing())
    assert shared["patient"]["age_band"].to_pylist() == ["85-89", "90 or more", "90 or more"]
    assert [(item.column, item.rows) for item in withheld] == [("age_band", 2)]


# Small groups --------------------------------------------------------------------------------------

_PEOPLE = st.lists(
    st.tuples(
        st.sampled_from(["F", "M"]), st.sampled_from(["60-64", "65-69"]), st.sampled_from(["NET G1", "NET G2"]),
        st.sampled_from(["none", None]),
    ),
    max_size=25,
)  # fmt: skip


@given(people=_PEOPLE, smallest=st.integers(2, 6))
def test_every_combination_that_is_shown_is_that_of_enough_patients(people: list[Any], smallest: int) -> None:
    rows = [
        {"site": "A", "patient": f"P{i}", "sex": sex, "age_band": age, "diagnosis": what, "prior_therapy": prior,
         "mass_kg": 70.0}
        for i, (sex, age, what, prior) in enumerate(people)
    ]  # fmt: skip
    shared, withheld = shareable({"patient": table("patient", rows)}, Sharing(suppress_below=smallest))
    found = shared["patient"].to_pylist()
    shown = Counter(tuple(row[c] for c in QUASI_IDENTIFIERS) for row in found)
    nothing = (None,) * len(QUASI_IDENTIFIERS)
    assert all(count >= smallest for combination, count in shown.items() if combination != nothing)
    assert [row["patient"] for row in found] == [row["patient"] for row in rows], "no patient disappears"
    for column in QUASI_IDENTIFIERS:
        gone = sum(
            a[column] is not None and b[column] is None for a, b in zip(rows, found, strict=False) if column in a
        )
        assert gone == sum(item.rows for item in withheld if item.column == column)
        kept = [
            (a[column], b[column]) for a, b in zip(rows, found, strict=True) if column in a and b[column] is not None
        ]
        assert all(a == b for a, b in kept)
    assert all(row["mass_kg"] is None for row in found)


def test_a_large_group_keeps_what_it_has() -> None:
    rows = site_rows(patients=10)["patient"]
    for row in rows:
        row["age_band"] = "60-64"
    shared, _ = shareable({"patient": table("patient", rows)}, Sharing(suppress_below=5))
    assert shared["patient"]["diagnosis"].to_pylist() == ["ileum NET G2"] * 10


def test_nothing_is_withheld_unasked() -> None:
    tables = site_tables()
    shared, withheld = shareable(tables, Sharing())
    assert withheld == []
    assert all(shared[name].equals(tables[name]) for name in tables)


# Pseudonyms ----------------------------------------------------------------------------------------


def test_a_key_replaces_pseudonyms_and_hashes_alike_in_all_tables(tmp_path: Path) -> None:
    key = b"a secret of the site, kept there"
    tables = site_tables()
    shared, _ = shareable(tables, Sharing(key=key))
    again, _ = shareable(tables, Sharing(key=key))
    other, _ = shareable(tables, Sharing(key=key[::-1]))
    names = {name: set(data["patient"].to_pylist()) for name, data in shared.items() if "patient" in data.column_names}
    assert len(names["patient"]) == 3
    assert all(found == names["patient"] for found in names.values())
    assert not names["patient"] & {"P1", "P2", "P3"}
    assert all(trouble("label", name) is None for name in names["patient"])
    assert set(again["patient"]["patient"].to_pylist()) == names["patient"]
    assert not set(other["patient"]["patient"].to_pylist()) & names["patient"]
    assert HASH not in shared["acquisition"]["spect_sha256"].to_pylist()
    assert shared["organ_dose"]["settings_sha256"].to_pylist()[0] == HASH, "settings are the same at all sites"
    archive = submit_tables(tmp_path / "a.zip", tables, key=key)
    assert read_submission(archive).manifest.pseudonyms == "keyed"
    assert key not in archive.read_bytes()


def test_a_short_key_is_none(tmp_path: Path) -> None:
    (tmp_path / "key").write_text("secret\n")
    with pytest.raises(SheetError, match="too short"):
        read_key(tmp_path / "key")


# The page ------------------------------------------------------------------------------------------


def test_the_page_shows_every_column_and_every_text_that_goes_out(tmp_path: Path) -> None:
    tables = site_tables()
    page = _page(submit_tables(tmp_path / "a.zip", tables))
    for name, data in tables.items():
        assert f"<code>{name}</code>, {data.num_rows} rows" in page
        for field in data.schema:
            assert f">{field.name}<" in page
    for text in ("ileum NET G2", "amino acids", "VSPECT 9", "P1; P2; P3", "VIRTUAL PATIENTS", "Not a medical device"):
        assert text in page
    assert "Nothing had to be taken out" in page


def test_the_page_hides_no_text_however_many_there_are(tmp_path: Path) -> None:
    page = _page(submitted(tmp_path / "a.zip", patients=80, cycles=1))
    assert all(re.search(rf"\bP{n}\b", page) for n in range(1, 81))


def test_the_page_says_what_a_merge_would_leave_out(tmp_path: Path) -> None:
    page = _page(submitted(tmp_path / "a.zip", edit=_set("organ_dose", "effective_half_life_h", 400.0)))
    assert "longer than that of physical decay" in page


def test_markup_that_a_person_lets_through_is_stopped_all_the_same(tmp_path: Path) -> None:
    text = "<b>NET</b>"
    with pytest.raises(IdentifyingError, match="markup"):
        submitted(tmp_path / "a.zip", edit=_set("patient", "diagnosis", text), accepted=frozenset({text}))


def test_tables_of_the_factory_have_no_fault() -> None:
    from doseledger.io.row_checks import bad_rows

    assert list(bad_rows(tables_of(site_rows()))) == []
