"""Merging: the same bits in any order, nothing in part, nothing executed, bad rows aside with their reason."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from doseledger.cli import app
from doseledger.errors import ForeignResultsError, SubmissionError
from doseledger.io import archive, submission
from doseledger.io.row_checks import REASONS
from doseledger.io.submission import read_submission, table_bytes
from doseledger.io.tables import SCHEMA_VERSION, SCHEMAS
from doseledger.merge import RECORD, merge, write_page
from doseledger.steps.cohort_page import read_cohort_table

from .submission_factory import Edit, link_entry, rezipped, site_tables, submit_tables, submitted

Entries = dict[str, bytes]
Row = dict[str, Any]


def bits(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


@pytest.fixture
def three(tmp_path: Path) -> list[Path]:
    return [submitted(tmp_path / f"{site}.zip", site) for site in ("A", "B", "C")]


# What a merge is -----------------------------------------------------------------------------------


def test_the_order_of_submissions_changes_no_bit(tmp_path: Path, three: list[Path]) -> None:
    found = []
    for i, order in enumerate(permutations(three)):
        merge(order, tmp_path / f"m{i}")
        found.append(bits(tmp_path / f"m{i}"))
    assert all(one == found[0] for one in found)
    assert len(found[0]) > 20


def test_merging_again_changes_no_bit(tmp_path: Path, three: list[Path]) -> None:
    out = tmp_path / "cohort"
    merge(three, out)
    before = bits(out)
    merge([*three, *three], out)
    assert bits(out) == before
    assert sorted(p.name for p in tmp_path.iterdir()) == ["A.zip", "B.zip", "C.zip", "cohort"], "nothing is left behind"


def test_the_result_is_laid_out_as_a_cohorts_own_tables(tmp_path: Path, three: list[Path]) -> None:
    out = tmp_path / "cohort"
    merged = merge(three, out)
    assert merged.quarantined == {}
    for name, data in site_tables("B").items():
        path = out / name / "site=B" / "part-0.parquet"
        found = pq.read_schema(path)
        assert found == SCHEMAS[name]
        assert [field.metadata for field in found] == [field.metadata for field in SCHEMAS[name]]
        assert found.metadata == SCHEMAS[name].metadata
        assert pq.read_metadata(path).row_group(0).column(0).compression == "ZSTD"
        assert len(read_cohort_table(out, name)) == 3 * data.num_rows == merged.rows[name]
    page = write_page(out).read_text()
    assert all(f"Site {site}: " in page for site in "ABC")
    assert "VIRTUAL PATIENTS" in page


def test_a_higher_revision_replaces_the_whole_of_a_lower_one(tmp_path: Path) -> None:
    def fewer(rows: dict[str, list[Row]]) -> None:
        for name in rows:
            rows[name] = [row for row in rows[name] if row.get("patient") != "P3"]

    first, second = submitted(tmp_path / "1.zip"), submitted(tmp_path / "2.zip", edit=fewer, revision=2)
    merged = merge([second, first], tmp_path / "both")
    assert [(item["revision"]) for item in merged.superseded] == [1]
    assert {row["patient"] for row in read_cohort_table(tmp_path / "both", "organ_dose")} == {"P1", "P2"}
    merge([second], tmp_path / "one")
    left, right = bits(tmp_path / "both"), bits(tmp_path / "one")
    assert left.pop(RECORD) != right.pop(RECORD), "the record names what was superseded"
    assert left == right


def test_two_different_submissions_of_one_revision_are_refused(tmp_path: Path) -> None:
    def other(rows: dict[str, list[Row]]) -> None:
        rows["patient"][0]["mass_kg"] = 71.5

    pair = [submitted(tmp_path / "1.zip"), submitted(tmp_path / "2.zip", edit=other)]
    with pytest.raises(SubmissionError, match="same revision"):
        merge(pair, tmp_path / "cohort")
    assert not (tmp_path / "cohort").exists()


def test_differences_between_sites_are_noted(tmp_path: Path, three: list[Path]) -> None:
    def newer(entries: Entries) -> None:
        manifest = json.loads(entries["submission.json"])
        manifest["software_version"] = "0.9.0"
        manifest["settings"]["dose"] = {"engines": ["led"]}
        entries["submission.json"] = json.dumps(manifest).encode()

    changed = rezipped(three[0], tmp_path / "A2.zip", newer)
    notes = merge([changed, *three[1:]], tmp_path / "cohort").notes
    assert "software version differs between submissions: 0.2.0, 0.9.0" in notes
    assert "settings of dose differ between sites" in notes


def test_a_folder_that_no_merge_wrote_is_left_alone(tmp_path: Path, three: list[Path]) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/thesis.tex").write_text("years of work")
    with pytest.raises(ForeignResultsError, match="no merge wrote"):
        merge(three, tmp_path / "mine")
    assert (tmp_path / "mine/thesis.tex").read_text() == "years of work"


def test_what_was_put_beside_an_earlier_merge_is_left_alone(tmp_path: Path, three: list[Path]) -> None:
    out = tmp_path / "cohort"
    merge(three, out)
    write_page(out)
    merge(three, out)
    (out / "comparison").mkdir()
    with pytest.raises(ForeignResultsError, match="comparison"):
        merge(three, out)
    assert (out / "comparison").is_dir()


def test_a_newer_submission_without_one_of_the_patients_is_noted(tmp_path: Path) -> None:
    """Two hospitals with one name: the one replaces the other, which a person must learn."""

    def other_people(rows: dict[str, list[Row]]) -> None:
        for row in (row for own in rows.values() for row in own if "patient" in row):
            row["patient"] = f"X{row['patient']}"

    first = submitted(tmp_path / "1.zip")
    second = submitted(tmp_path / "2.zip", revision=2, edit=other_people)
    again = submitted(tmp_path / "3.zip", revision=2)
    (note,) = (n for n in merge([first, second], tmp_path / "m").notes if "two hospitals" in n)
    assert note.startswith("site A: revision 2 replaces revision 1")
    assert not [n for n in merge([first, again], tmp_path / "n").notes if "two hospitals" in n]


def test_an_older_schema_is_read_and_what_it_lacks_is_empty(tmp_path: Path) -> None:
    def older(entries: Entries) -> None:
        data = pq.read_table(io.BytesIO(entries["tables/organ_dose.parquet"])).drop_columns(["d98_gy"])
        meta = {**data.schema.metadata, b"schema_version": b"2"}
        _put(entries, "organ_dose", data.replace_schema_metadata(meta), schema_version=2)
        for name in {n.split("/")[1].split(".")[0] for n in entries if n.startswith("tables/")} - {"organ_dose"}:
            data = pq.read_table(io.BytesIO(entries[f"tables/{name}.parquet"]))
            _put(entries, name, data.replace_schema_metadata({**data.schema.metadata, b"schema_version": b"2"}))

    old = rezipped(submitted(tmp_path / "A.zip"), tmp_path / "old.zip", older)
    merged = merge([old], tmp_path / "cohort")
    assert "site A, organ_dose: empty, unknown to its version: d98_gy" in merged.notes
    assert {row["d98_gy"] for row in read_cohort_table(tmp_path / "cohort", "organ_dose")} == {None}


# Hostile and broken files --------------------------------------------------------------------------


def _put(entries: Entries, name: str, data: pa.Table, **manifest: Any) -> None:
    """Another table with a manifest that fits it."""
    sink = io.BytesIO()
    pq.write_table(data, sink, compression="zstd")
    _put_bytes(entries, name, sink.getvalue(), rows=data.num_rows, **manifest)


def _put_bytes(entries: Entries, name: str, content: bytes, *, rows: int, **manifest: Any) -> None:
    entries[f"tables/{name}.parquet"] = content
    stated = json.loads(entries["submission.json"]) | manifest
    stated["tables"][name] = {"rows": rows, "sha256": hashlib.sha256(content).hexdigest()}
    entries["submission.json"] = json.dumps(stated).encode()


def _state(**changes: Any) -> Callable[[Entries], None]:
    def change(entries: Entries) -> None:
        entries["submission.json"] = json.dumps(json.loads(entries["submission.json"]) | changes).encode()

    return change


def _table(name: str, edit: Callable[[pa.Table], pa.Table]) -> Callable[[Entries], None]:
    def change(entries: Entries) -> None:
        _put(entries, name, edit(pq.read_table(io.BytesIO(entries[f"tables/{name}.parquet"]))))

    return change


def _text(name: str, column: str, text: str) -> Callable[[Entries], None]:
    """Every row has the text: `submit` would not write it."""

    def edit(data: pa.Table) -> pa.Table:
        i = data.column_names.index(column)
        return data.set_column(i, data.schema.field(i), pa.array([text] * data.num_rows))

    return _table(name, edit)


def _in_grays_of_another_kind(data: pa.Table) -> pa.Table:
    i = data.column_names.index("absorbed_dose_gy")
    field = data.schema.field(i)
    return data.set_column(i, field.with_metadata({**field.metadata, b"unit": b"mGy"}), data.column(i))


def _as_whole_numbers(data: pa.Table) -> pa.Table:
    i = data.column_names.index("absorbed_dose_gy")
    return data.set_column(i, data.schema.field(i).with_type(pa.int64()), data.column(i).cast(pa.int64(), safe=False))


def _million(entries: Entries) -> None:
    data = pq.read_table(io.BytesIO(entries["tables/administration.parquet"])).slice(0, 1)
    _put(entries, "administration", data.take(np.zeros(1_000_000, int)))


def _one_text_a_thousand_times(entries: Entries) -> None:
    """Two kilobytes that would be ten megabytes in memory; with more rows, as many gigabytes as one likes."""
    data = pq.read_table(io.BytesIO(entries["tables/patient.parquet"])).take(np.zeros(1000, int))
    i = data.column_names.index("diagnosis")
    _put(entries, "patient", data.set_column(i, data.schema.field(i), pa.array(["NET " * 2500] * 1000)))


def _rows_of_another_site(entries: Entries) -> None:
    _text("patient", "site", "B")(entries)


def _empty_key(data: pa.Table) -> pa.Table:
    i = data.column_names.index("patient")
    return data.set_column(i, data.schema.field(i).with_nullable(True), pa.nulls(data.num_rows, pa.string()))


HOSTILE: dict[str, tuple[Callable[[Entries], None], str]] = {
    "future schema": (_state(schema_version=SCHEMA_VERSION + 1), "made by a newer version"),
    "future format": (_state(format_version=2), "made by a newer version"),
    "ancient schema": (_state(schema_version=1), "unknown version"),
    "version of another type": (_state(schema_version="3"), "unknown version"),
    "another program": (_state(format="something"), "no submission of this program"),
    "unknown key": (_state(command="rm"), "other content"),
    "site that is a path": (_state(site="../A"), "other content"),
    "source that is a path": (_state(source="a/b"), "other content"),
    "patients of another program": (_state(source="other"), "tables of a ledger"),
    "revision of zero": (_state(revision=0), "other content"),
    "no manifest": (lambda entries: entries.pop("submission.json") and None, "no usable manifest"),
    "manifest is no JSON": (lambda entries: entries.update({"submission.json": b"{"}), "cannot be read"),
    "manifest is nested": (lambda entries: entries.update({"submission.json": b"[" * 100_000}), "cannot be read"),
    "changed unit": (_table("organ_dose", _in_grays_of_another_kind), "another unit"),
    "changed type": (_table("organ_dose", _as_whole_numbers), "another type"),
    "additional column": (
        _table("organ_dose", lambda data: data.append_column("extra", data["site"])),
        "a column that the ledger does not have",
    ),
    "column that speaks to the terminal": (
        _table("organ_dose", lambda data: data.append_column("\x1b]0;owned\x07", data["site"])),
        r"tag organ_dose\.\\x1b\]0",
    ),
    "settings that speak to the terminal": (_state(settings={"\x1b[31m": {}}), "other content"),
    "missing column": (_table("organ_dose", lambda data: data.drop_columns(["mass_g"])), "lacks a column"),
    "missing key": (_table("organ_dose", lambda data: data.drop_columns(["region"])), "lacks a column"),
    "empty key": (_table("patient", _empty_key), "empty cells"),
    "table without units": (_table("patient", lambda data: pa.table(data.to_pydict())), "another version"),
    "a million rows": (_million, "too many rows"),
    "one text a thousand times": (_one_text_a_thousand_times, "too long"),
    "wrong checksum": (lambda entries: entries.update({"tables/dvh.parquet": b"PAR1"}), "checksum"),
    "damaged table": (lambda entries: _put_bytes(entries, "dvh", b"PAR1" * 9, rows=1), "cannot be read"),
    "table that is not listed": (lambda entries: entries.update({"tables/lesion.parquet": b"PAR1"}), "does not list"),
    "listed table that is not there": (lambda entries: entries.pop("tables/dvh.parquet") and None, "does not list"),
    "absolute path": (lambda entries: entries.update({"/etc/cron.d/x": b"x"}), "no submission has"),
    "path upwards": (lambda entries: entries.update({"tables/../../x.parquet": b"x"}), "no submission has"),
    "path of Windows": (lambda entries: entries.update({"tables\\organ_dose.parquet": b"x"}), "no submission has"),
    "program": (lambda entries: entries.update({"run.sh": b"x"}), "no submission has"),
    "rows of another site": (_rows_of_another_site, "rows of another site"),
    "markup": (_text("patient", "diagnosis", "<script>alert(1)</script>"), "markup"),
    "formula": (_text("patient", "diagnosis", "=cmd|' /C calc'!A0"), "formula"),
    "formula with a sign": (_text("acquisition", "camera", "@SUM(A1)"), "formula"),
    "shell": (_text("acquisition", "camera", "NM1; rm -rf /"), "command"),
    "substitution": (_text("acquisition", "model", "$(reboot)"), "command"),
    "template": (_text("patient", "diagnosis", "{{ 7*7 }}"), "markup"),
    "invisible text": (_text("patient", "diagnosis", "NET\u202e2G"), "control"),
    "sentence": (_text("stage_outcome", "sentence", "Open this file."), "not the meaning of a code"),
}  # fmt: skip


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submitted(tmp_path_factory.mktemp("honest") / "A.zip")


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_refused_and_nothing_is_merged(tmp_path: Path, honest: Path, case: str) -> None:
    change, what = HOSTILE[case]
    work = tmp_path / "work"
    work.mkdir()
    good = submitted(work / "B.zip", "B")
    bad = rezipped(honest, work / "bad.zip", change)
    merge([good], work / "cohort")
    before = bits(work)
    with pytest.raises(SubmissionError, match=what) as caught:
        merge([good, bad], work / "cohort")
    assert caught.value.path == "bad.zip"
    assert "bad.zip" in caught.value.sentence
    assert bits(work) == before
    assert list(tmp_path.iterdir()) == [work], "nothing is written elsewhere"


def _archive(path: Path, *entries: tuple[str | zipfile.ZipInfo, bytes], pack: bool = False) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED if pack else zipfile.ZIP_STORED) as opened:
        for name, content in entries:
            opened.writestr(name, content)
    return path


def _refused(path: Path, what: str) -> None:
    with pytest.raises(SubmissionError, match=what):
        merge([path], path.parent / "cohort")
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_zip_bomb_is_refused_before_it_is_unpacked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = _archive(tmp_path / "bomb.zip", ("index.html", bytes(100 * 1024**2)), pack=True)
    assert bomb.stat().st_size < 1024**2

    def never(*_: object) -> bytes:
        raise AssertionError("it was opened")

    _refused(bomb, "grows too much")
    # Here, where it can be seen, and not in a process of its own.
    monkeypatch.setattr(archive, "_content", never)
    with pytest.raises(SubmissionError, match="grows too much"):
        read_submission(bomb)


def test_the_size_that_an_archive_declares_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(archive, "MAX_TOTAL_BYTES", 1024**2)
    monkeypatch.setattr(archive, "_CHUNK", 1024)
    # Within the ratio, but more than all of it together may have.
    content = np.random.default_rng(1).integers(0, 255, 800_000, np.uint8).tobytes()
    path = _archive(tmp_path / "large.zip", ("index.html", content), ("submission.json", content), pack=True)
    with pytest.raises(SubmissionError, match="too large"):
        read_submission(path)


def test_links_duplicates_and_many_entries_are_refused(tmp_path: Path) -> None:
    for name, what, entries in (
        ("link", "a link", [(link_entry("index.html"), b"/etc/passwd")]),
        ("many", "too many entries", [(f"{i}", b"") for i in range(archive.MAX_ENTRIES + 1)]),
    ):
        (tmp_path / name).mkdir()
        _refused(_archive(tmp_path / name / "x.zip", *entries), what)
    (tmp_path / "twice").mkdir()
    with pytest.warns(UserWarning, match="Duplicate name"):
        path = _archive(tmp_path / "twice" / "x.zip", ("index.html", b"a"), ("index.html", b"b"))
    _refused(path, "twice")


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_a_truncated_archive_is_refused(tmp_path: Path, honest: Path, share: float) -> None:
    content = honest.read_bytes()
    path = tmp_path / "cut.zip"
    path.write_bytes(content[: int(share * len(content))])
    _refused(path, "damaged")


def test_no_single_damaged_byte_passes_as_a_submission(tmp_path: Path, honest: Path) -> None:
    """In entries: the index of the archive holds bytes that mean nothing."""
    content = honest.read_bytes()
    out = tmp_path / "cohort"
    for place in np.random.default_rng(7).integers(100, int(0.97 * len(content)), 60):
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        path = tmp_path / "x.zip"
        path.write_bytes(damaged)
        try:
            merge([path], out)
        except SubmissionError:
            continue
        # Bytes between entries (times, attributes) may change; what is read may not.
        assert json.loads((out / RECORD).read_text())["used"][0]["rows"]["organ_dose"] == 24


def test_no_class_of_the_sender_is_made(tmp_path: Path, honest: Path) -> None:
    """An Arrow schema may name an extension type; the file is refused for its type, and no pickle is opened."""

    def extended(data: pa.Table) -> pa.Table:
        kind = pa.opaque(pa.string(), "evil", "sender")
        i = data.column_names.index("diagnosis")
        texts = pa.ExtensionArray.from_storage(kind, data["diagnosis"].combine_chunks())
        return data.set_column(i, pa.field("diagnosis", kind), texts)

    _refused(rezipped(honest, tmp_path / "x.zip", _table("patient", extended)), "another type|cannot be read")


def test_the_limits_admit_what_they_are_made_for() -> None:
    assert submission.MAX_ROWS == 999_999
    assert archive.MAX_COMPRESSION_RATIO == 100.0


# Rows that cannot be true --------------------------------------------------------------------------


def _first(name: str, **cells: Any) -> Edit:
    def edit(rows: dict[str, list[Row]]) -> None:
        rows[name][0] |= cells

    return edit


def _again(name: str, **cells: Any) -> Edit:
    def edit(rows: dict[str, list[Row]]) -> None:
        rows[name].append(rows[name][0] | cells)

    return edit


def _without_administration(rows: dict[str, list[Row]]) -> None:
    del rows["administration"][0]


BAD_ROWS: dict[str, tuple[Edit, str, str, int]] = {
    "not a number": (_first("organ_dose", mass_g=float("nan")), "not_finite", "organ_dose", 1),
    "infinite parameter": (_first("curve", parameters=[float("inf"), 0.1]), "not_finite", "curve", 1),
    "negative dose": (_first("organ_dose", d2_gy=-1.0), "negative", "organ_dose", 1),
    "negative uncertainty": (_first("organ_dose", u_fit_rel=-0.1), "negative", "organ_dose", 1),
    "share above one": (_first("curve", extrapolated_fraction=1.2), "out_of_range", "curve", 1),
    "outside its interval": (_first("organ_dose", dose_low_gy=50.0), "interval_reversed", "organ_dose", 1),
    "dose in mGy": (_first("organ_dose", absorbed_dose_gy=3330.0, dose_high_gy=None), "inconsistent", "organ_dose", 1),
    "TIA in MBq s": (_first("organ_dose", tia_mbq_h=3700.0 * 3600), "inconsistent", "organ_dose", 1),
    "activity in GBq": (
        _first("organ_dose", administered_mbq=7.4, dose_gy_per_gbq=450.0, tiac_h=500.0), "unit_slip", "organ_dose", 1,
    ),
    "activity in GBq, of a region without a published dose": (
        _first("organ_dose", region="thyroid", administered_mbq=7.4, dose_gy_per_gbq=450.0, tiac_h=500.0),
        "inconsistent", "organ_dose", 1,
    ),
    "activity of the cycle in GBq": (_first("administration", administered_mbq=7.4), "inconsistent", "organ_dose", 4),
    "activity without end": (_first("administration", administered_mbq=1e308), "out_of_range", "administration", 1),
    "scan after years": (_first("region_activity", time_h=1e5), "out_of_range", "region_activity", 1),
    "too slow": (_first("organ_dose", effective_half_life_h=200.0), "slower_than_decay", "organ_dose", 1),
    "too much": (_first("organ_dose", tiac_h=300.0, tia_mbq_h=300.0 * 7400), "more_than_administered", "organ_dose", 1),
    "unknown nuclide": (_first("administration", nuclide="Xx-999"), "nuclide_unknown", "administration", 1),
    "no administration": (_without_administration, "no_administration", "organ_dose", 4),
    "twice": (_again("organ_dose"), "duplicate_row", "organ_dose", 1),
    "contradiction": (_again("organ_dose", mass_g=100.0), "conflicting_rows", "organ_dose", 2),
    "two primary": (_again("organ_dose", analysis_id="f" * 16), "several_primary", "organ_dose", 2),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_ROWS)
def test_a_row_that_cannot_be_true_is_set_aside_with_its_reason(tmp_path: Path, case: str) -> None:
    edit, reason, name, count = BAD_ROWS[case]
    before = site_tables("A", edit)[name].num_rows
    merged = merge([submitted(tmp_path / "A.zip", edit=edit), submitted(tmp_path / "B.zip", "B")], tmp_path / "cohort")
    aside = [row for row in read_cohort_table(tmp_path / "cohort", "quarantine") if row["source_table"] == name]
    assert {row["reason"] for row in aside} >= {reason}
    found = [row for row in aside if row["reason"] == reason]
    assert len(found) == merged.quarantined[name] == count
    assert all((row["site"], row["source"], row["sentence"]) == ("A", "ledger", REASONS[reason]) for row in found)
    assert all("patient P1, cycle 1" in row["row_key"] for row in found)
    kept = [row for row in read_cohort_table(tmp_path / "cohort", name) if row["site"] == "A"]
    assert len(kept) == before - count
    assert len([row for row in read_cohort_table(tmp_path / "cohort", name) if row["site"] == "B"]) > 0


def test_every_reason_is_provoked() -> None:
    provoked = {reason for _, reason, _, _ in BAD_ROWS.values()}
    # An empty key refuses the whole file (see above); rows of this program's own tables never have one.
    assert provoked | {"key_missing"} == set(REASONS)


def test_a_demo_of_bad_rows_stays_in_any_order_the_same(tmp_path: Path) -> None:
    bad = submitted(tmp_path / "A.zip", edit=BAD_ROWS["contradiction"][0])
    good = submitted(tmp_path / "B.zip", "B")
    merge([bad, good], tmp_path / "one")
    merge([good, bad], tmp_path / "two")
    assert bits(tmp_path / "one") == bits(tmp_path / "two")


def test_only_what_cannot_be_true_is_set_aside(tmp_path: Path) -> None:
    """A large organ, a flagged outline and a half-life at its bound are unusual, and stay."""

    def unusual(rows: dict[str, list[Row]]) -> None:
        rows["region"][0] |= {"volume_ml": 900.0, "flags": ["volume_implausible"]}
        rows["organ_dose"][0] |= {"effective_half_life_h": 159.53, "rate_at_bound": True}

    assert merge([submitted(tmp_path / "A.zip", edit=unusual)], tmp_path / "cohort").quarantined == {}


# The command ---------------------------------------------------------------------------------------


def test_the_command_says_what_it_did(tmp_path: Path, three: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    again = submitted(tmp_path / "A2.zip", edit=BAD_ROWS["too slow"][0], revision=2)
    done = CliRunner().invoke(app, ["merge", *map(str, [again, *three]), "--out", "cohort"])
    assert done.exit_code == 0, done.output
    assert "superseded: site A, ledger, revision 1" in done.output
    assert "set aside: organ_dose, 1 rows" in done.output
    assert (tmp_path / "cohort/index.html").exists()
    (tmp_path / "x.zip").write_bytes(b"no archive")
    refused = CliRunner().invoke(app, ["merge", "x.zip", "--out", "other"])
    assert refused.exit_code == 2
    assert "Traceback" not in refused.output + refused.stderr
    assert not (tmp_path / "other").exists()


def test_what_merges_is_what_submit_writes(tmp_path: Path) -> None:
    """Bytes of a table are the same in the submission and in the merged dataset."""
    tables = site_tables()
    merge([submit_tables(tmp_path / "A.zip", tables)], tmp_path / "cohort")
    for name, data in tables.items():
        assert (tmp_path / "cohort" / name / "site=A" / "part-0.parquet").read_bytes() == table_bytes(data)
