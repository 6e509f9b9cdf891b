"""The index of DICOM folders and the drafted scan sheet."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydicom.dataset import Dataset
from typer.testing import CliRunner

from doseledger.cli import app
from doseledger.errors import InputMissingError
from doseledger.io import index
from doseledger.io.dicom.scan import HeaderTexts, scan_header
from doseledger.io.draft import SCAN_COLUMNS, draft_scans, patient_keys
from doseledger.io.files import Stamp
from doseledger.io.index import index_folders, read_index

from .dicom_factory import put, write_ct, write_nm, write_pet, write_rtstruct


def _edit(**values: object) -> Callable[[Dataset, int], None]:
    return lambda dataset, z: put(dataset, **values)


def _scan(patient: str, date: str, number: int, *, frame: str | None = None, **more: object) -> dict[str, object]:
    return {
        "PatientID": patient,
        "AcquisitionDate": date,
        "StudyInstanceUID": f"1.2.{number}",
        "SeriesInstanceUID": f"1.2.{number}.1",
        "FrameOfReferenceUID": frame or f"1.2.{number}.5",
        **more,
    }


def test_series_are_grouped_and_described(tmp_path: Path) -> None:
    write_pet(tmp_path / "a" / "spect", edit=_edit(StationName="NM-1"))
    write_ct(tmp_path / "a" / "ct", edit=_edit(SeriesInstanceUID="1.2.3"))
    write_rtstruct(tmp_path / "a" / "rs.dcm", {"a": []})
    ct, structures, spect = index_folders([tmp_path, tmp_path / "a"])
    assert (spect.modality, spect.unit, len(spect.files), spect.camera) == ("PT", "BQML", 5, "Model One NM-1")
    assert spect.scan_start == datetime(2024, 1, 2, 10, 0, 0, 250000)
    assert (ct.modality, len(ct.files)) == ("CT", 5)
    assert structures.frames_of_reference == spect.frames_of_reference


def test_the_sheet_is_drafted_by_patient_cycle_and_time(tmp_path: Path) -> None:
    scans = [
        # Two cycles 56 days apart; the second scan of the first cycle is 14 days after the first.
        ("late", "B-2", "20240227", 3),
        ("first", "B-2", "20240102", 1),
        ("second", "B-2", "20240116", 2),
        ("other", "A-1", "20240103", 4),
    ]
    for name, patient, date, number in scans:
        write_pet(tmp_path / name / "spect", edit=_edit(**_scan(patient, date, number)))
    for name, patient, number in (("first", "B-2", 1), ("other", "A-1", 4)):
        series = _scan(patient, "20240102", number, SeriesInstanceUID=f"1.2.{number}.2")
        write_ct(tmp_path / name / "ct", edit=_edit(**series))

    rows, unplaced = draft_scans(index_folders([tmp_path]), tmp_path)
    assert unplaced == []
    assert [tuple(row) for row in rows] == [SCAN_COLUMNS] * 4
    assert [tuple(row.values()) for row in rows] == [
        ("n/a", "P1", 1, 1, "other/spect", "other/ct", "n/a", "Model One"),
        ("n/a", "P2", 1, 1, "first/spect", "first/ct", "n/a", "Model One"),
        ("n/a", "P2", 1, 2, "second/spect", "n/a", "n/a", "Model One"),
        ("n/a", "P2", 2, 1, "late/spect", "n/a", "n/a", "Model One"),
    ]
    assert "B-2" not in str(rows)


def test_a_gap_of_fifteen_days_begins_a_cycle(tmp_path: Path) -> None:
    for number, date in ((1, "20240102"), (2, "20240117")):
        write_pet(tmp_path / str(number), edit=_edit(**_scan("A", date, number)))
    rows, _ = draft_scans(index_folders([tmp_path]), tmp_path)
    assert [(row["cycle"], row["time_point"]) for row in rows] == [(1, 1), (2, 1)]


def test_the_key_list_is_apart_and_sorted(tmp_path: Path) -> None:
    for number, patient in enumerate(("Zoë 9", "0-7", "M")):
        put_charset = {"SpecificCharacterSet": "ISO_IR 192"}
        write_pet(tmp_path / str(number), edit=_edit(**put_charset, **_scan(patient, "20240102", number)))
    assert patient_keys(index_folders([tmp_path])) == {"0-7": "P1", "M": "P2", "Zoë 9": "P3"}


def test_paths_are_relative_to_the_sheet(tmp_path: Path) -> None:
    write_pet(tmp_path / "data" / "spect")
    rows, _ = draft_scans(index_folders([tmp_path / "data"]), tmp_path / "sheets")
    assert rows[0]["spect"] == "../data/spect"


def test_structure_sets_are_matched_by_the_frame_they_refer_to(tmp_path: Path) -> None:
    write_pet(tmp_path / "spect")
    write_rtstruct(tmp_path / "rs" / "RS.dcm", {"a": []})
    (row,), unplaced = draft_scans(index_folders([tmp_path]), tmp_path)
    assert row["contours"] == "rs/RS.dcm"
    assert unplaced == []


def test_segmentations_are_outlines_too(tmp_path: Path) -> None:
    write_pet(tmp_path / "spect")
    write_ct(tmp_path / "seg", n=2, edit=_edit(Modality="SEG", SeriesInstanceUID="1.2.3"))[1].unlink()
    (row,), unplaced = draft_scans(index_folders([tmp_path]), tmp_path)
    assert Path(str(row["contours"])).parent.name == "seg"
    assert unplaced == []
    # A structure set beside it: which of them counts is for a person to say.
    write_rtstruct(tmp_path / "rs.dcm", {"a": []})
    (row,), unplaced = draft_scans(index_folders([tmp_path]), tmp_path)
    assert row["contours"] == "n/a"
    assert ["choose one" in entry["reason"] for entry in unplaced] == [True, True]


def test_a_ct_of_another_frame_is_matched_by_study_if_it_is_the_only_one(tmp_path: Path) -> None:
    write_pet(tmp_path / "a" / "spect")
    write_ct(tmp_path / "a" / "ct", edit=_edit(SeriesInstanceUID="1.9", FrameOfReferenceUID="1.8"))
    (row,), _ = draft_scans(index_folders([tmp_path]), tmp_path)
    assert row["ct"] == "a/ct"
    # A second SPECT series in the study, of the same session: now nothing says to which of them the CT belongs.
    later = _edit(SeriesInstanceUID="1.7", AcquisitionTime="113000", FrameOfReferenceUID="1.6")
    write_pet(tmp_path / "b" / "spect", edit=later)
    rows, unplaced = draft_scans(index_folders([tmp_path]), tmp_path)
    assert [row["ct"] for row in rows] == ["n/a", "n/a"]
    assert [(u["path"], u["modality"]) for u in unplaced] == [("a/ct", "CT")]
    assert "no SPECT series" in unplaced[0]["reason"]


def test_a_structure_set_that_is_in_a_row_is_not_listed_as_unplaced(tmp_path: Path) -> None:
    def second_frame(dataset: Dataset) -> None:
        frame = Dataset()
        frame.FrameOfReferenceUID = "1.6"
        dataset.ReferencedFrameOfReferenceSequence.append(frame)

    write_pet(tmp_path / "spect1")
    write_pet(
        tmp_path / "spect2", edit=_edit(SeriesInstanceUID="1.7", AcquisitionDate="20240103", FrameOfReferenceUID="1.6")
    )
    write_rtstruct(tmp_path / "both.dcm", {"a": []}, edit=second_frame)
    write_rtstruct(tmp_path / "one.dcm", {"a": []}, edit=lambda d: put(d, SeriesInstanceUID="1.8"))
    rows, unplaced = draft_scans(index_folders([tmp_path]), tmp_path)
    assert [row["contours"] for row in rows] == ["n/a", "both.dcm"]
    assert [entry["path"] for entry in unplaced] == ["one.dcm"]


def _two_cts(folder: Path) -> None:
    write_pet(folder / "spect")
    for name in ("ct1", "ct2"):
        write_ct(folder / name, edit=_edit(SeriesInstanceUID=f"1.2.3{name[-1]}"))


def _two_reconstructions(folder: Path) -> None:
    for number in (1, 2):
        write_pet(folder / f"spect{number}", edit=_edit(SeriesInstanceUID=f"1.2.3{number}"))


def _mixed_folder(folder: Path) -> None:
    write_pet(folder / "all")
    for path in write_ct(folder / "ct", edit=_edit(SeriesInstanceUID="1.2.3", FrameOfReferenceUID="1.4")):
        path.rename(folder / "all" / f"ct{path.name}")


def _two_folders(folder: Path) -> None:
    paths = write_pet(folder / "a")
    (folder / "b").mkdir()
    paths[0].rename(folder / "b" / "0.dcm")


def _planar(folder: Path) -> None:
    path = write_nm(folder / "nm.dcm")
    path.write_bytes(path.read_bytes().replace(b"RECON TOMO", b"WHOLE BODY"))


def _damaged(folder: Path) -> None:
    folder.mkdir(exist_ok=True)
    (folder / "broken").write_bytes(b"x" * 300)


@pytest.mark.parametrize(
    ("make", "unplaced_paths", "fragment"),
    [
        (_two_cts, ["ct1", "ct2"], "several series of this kind belong to spect"),
        (_two_reconstructions, ["spect1", "spect2"], "start at the same time"),
        (_mixed_folder, ["all", "all"], "holds other files too"),
        (_two_folders, ["."], "several folders"),
        (_planar, ["nm.dcm"], "not a tomographic reconstruction"),
        (_damaged, ["broken"], "not DICOM"),
        (lambda f: write_pet(f / "s", edit=_edit(Units="GML")), ["s"], "GML"),
        (lambda f: write_pet(f / "s", edit=_edit(PatientID="")), ["s"], "no PatientID"),
        (
            lambda f: write_pet(f / "s", edit=_edit(AcquisitionTime="", SeriesTime="")),
            ["s"],
            "no date and time of acquisition",
        ),
        (lambda f: write_pet(f / "s", edit=_edit(AcquisitionTime="xx")), ["s"], "moment cannot be read"),
        (lambda f: write_ct(f / "c", edit=_edit(ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])), ["c"], "localizer"),
        (lambda f: write_ct(f / "c"), ["c"], "no SPECT series"),
        (lambda f: write_ct(f / "c", edit=_edit(Modality="MR")), ["c"], "modality MR"),
    ],
)
def test_what_cannot_be_placed_is_listed_with_a_reason(
    tmp_path: Path, make: Callable[[Path], object], unplaced_paths: list[str], fragment: str
) -> None:
    make(tmp_path)
    rows, unplaced = draft_scans(index_folders([tmp_path]), tmp_path)
    assert [entry["path"] for entry in unplaced] == unplaced_paths
    assert all(fragment in entry["reason"] for entry in unplaced)
    assert not {row["spect"] for row in rows} & set(unplaced_paths)


def test_reconstructed_nm_is_a_time_point(tmp_path: Path) -> None:
    write_nm(tmp_path / "nm.dcm")
    (row,), unplaced = draft_scans(index_folders([tmp_path]), tmp_path)
    assert (row["spect"], row["camera"], unplaced) == ("nm.dcm", "n/a", [])


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match="absent"):
        index_folders([tmp_path / "absent"])


# An unchanged file is not read twice --------------------------------------------------------------


@pytest.fixture
def reading(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names of the files whose headers are read."""
    names: list[str] = []

    def scan(paths: Sequence[str], *, workers: int) -> Iterator[HeaderTexts | str]:
        for path in paths:
            names.append(Path(path).name)
            yield scan_header(path)

    monkeypatch.setattr(index, "scan_headers", scan)
    return names


def test_only_new_and_changed_files_are_read(tmp_path: Path, reading: list[str]) -> None:
    kept, study = tmp_path / "series.parquet", tmp_path / "study"
    paths = write_pet(study)
    first = index_folders([study], kept=kept)
    assert len(reading) == 5
    reading.clear()
    (again,) = index_folders([study], kept=kept)
    assert reading == []
    assert vars(again) == vars(first[0])

    paths[0].unlink()
    os.utime(paths[1], ns=(1, 1))
    paths[2].write_bytes(paths[2].read_bytes() + b"\0\0")
    index_folders([study], kept=kept)
    assert sorted(reading) == sorted(path.name for path in paths[1:3])
    assert {Path(stamp.path) for stamp in read_index(kept)} == set(paths[1:])


def test_other_folders_stay_in_the_index(tmp_path: Path, reading: list[str]) -> None:
    kept = tmp_path / "series.parquet"
    for name in ("a", "ab"):
        write_pet(tmp_path / name)
        index_folders([tmp_path / name], kept=kept)
    reading.clear()
    index_folders([tmp_path / "a", tmp_path / "ab"], kept=kept)
    assert reading == []


def test_a_file_with_a_problem_is_tried_again(tmp_path: Path, reading: list[str]) -> None:
    _damaged(tmp_path / "study")
    for _ in range(2):
        (record,) = index_folders([tmp_path / "study"], kept=tmp_path / "series.parquet")
        assert record.problem == "the file is not DICOM"
    assert reading == ["broken", "broken"]


def test_what_was_read_before_a_break_is_kept(tmp_path: Path, reading: list[str]) -> None:
    kept, study = tmp_path / "series.parquet", tmp_path / "study"
    write_pet(study)

    def stop(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        index_folders([study], kept=kept, progress=stop)
    reading.clear()
    index_folders([study], kept=kept)
    assert len(reading) == 2
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize("damage", ["cut", "other_version", "other_table"])
def test_an_index_that_cannot_be_used_is_made_again(tmp_path: Path, reading: list[str], damage: str) -> None:
    kept, study = tmp_path / "series.parquet", tmp_path / "study"
    write_pet(study)
    index_folders([study], kept=kept)
    if damage == "cut":
        kept.write_bytes(kept.read_bytes()[:-9])
    elif damage == "other_version":
        table = pq.read_table(kept)
        pq.write_table(table.replace_schema_metadata(table.schema.metadata | {b"index_version": b"0"}), kept)
    else:
        pq.write_table(pa.table({"path": ["a"]}), kept)
    reading.clear()
    index_folders([study], kept=kept)
    assert len(reading) == 5
    assert len(read_index(kept)) == 5


def test_every_column_of_the_index_is_described(tmp_path: Path) -> None:
    write_pet(tmp_path / "study")
    index_folders([tmp_path / "study"], kept=tmp_path / "series.parquet")
    schema = pq.read_schema(tmp_path / "series.parquet")
    assert schema.names == [*Stamp._fields, *HeaderTexts._fields]
    assert all(field.metadata[b"description"] for field in schema)
    assert schema.field("unit").metadata[b"description"] == b"Units (0054,1001)"


def test_progress_is_told(tmp_path: Path) -> None:
    write_pet(tmp_path)
    told: list[tuple[int, int]] = []
    index_folders([tmp_path], progress=lambda done, total: told.append((done, total)))
    assert told == [(n, 5) for n in range(1, 6)]


# Cycles and partners ------------------------------------------------------------------------------


def _visits(folder: Path, *starts: str, patient: str = "MRN7") -> None:
    for number, start in enumerate(starts, start=1):
        date, clock = start.split()
        write_pet(folder / f"s{number}", edit=_edit(**_scan(patient, date, number, AcquisitionTime=clock)))


ADMINISTRATIONS = [
    {"site": "A", "patient": "P7", "cycle": 1, "injection_start": "2024-01-02T09:00:00"},
    {"site": "A", "patient": "P7", "cycle": 3, "injection_start": "2024-01-12T09:00:00"},
]


def test_administrations_tell_cycles_and_site(tmp_path: Path) -> None:
    # Ten days apart: no gap would tell them apart, and cycle 2 had no scan.
    _visits(tmp_path, "20240102 130000", "20240103 100000", "20240112 130000")
    rows, unplaced = draft_scans(
        index_folders([tmp_path]), tmp_path, keys={"MRN7": "P7"}, administrations=ADMINISTRATIONS
    )
    assert [(r["site"], r["patient"], r["cycle"], r["time_point"]) for r in rows] == [
        ("A", "P7", 1, 1),
        ("A", "P7", 1, 2),
        ("A", "P7", 3, 1),
    ]
    assert unplaced == []


@pytest.mark.parametrize(
    ("start", "keys", "more", "reason"),
    [
        ("20240102 085900", {"MRN7": "P7"}, [], "before the first injection"),
        ("20240127 090000", {"MRN7": "P7"}, [], "15 days after the last injection"),
        ("20240103 090000", {"MRN7": "P8"}, [], "does not have the patient"),
        ("20240103 090000", {"OTHER": "P7"}, [], "the key list does not have its PatientID"),
        ("20240103 090000", {"MRN7": "P7"}, [ADMINISTRATIONS[0] | {"site": "B"}], "at two sites"),
    ],
)
def test_a_scan_that_the_administrations_do_not_explain_is_not_placed(
    tmp_path: Path, start: str, keys: dict[str, str], more: list[dict[str, object]], reason: str
) -> None:
    _visits(tmp_path, start)
    rows, (unplaced,) = draft_scans(
        index_folders([tmp_path]), tmp_path, keys=keys, administrations=[*ADMINISTRATIONS, *more]
    )
    assert rows == []
    assert reason in unplaced["reason"]


def test_of_several_cts_in_one_frame_that_of_the_session_is_taken(tmp_path: Path) -> None:
    for number, date in ((1, "20240102"), (2, "20240105")):
        same = {"PatientID": "A", "FrameOfReferenceUID": "1.5", "StudyInstanceUID": "1.6", "AcquisitionDate": date}
        write_pet(tmp_path / f"spect{number}", edit=_edit(**same, SeriesInstanceUID=f"1.2.{number}"))
        write_ct(tmp_path / f"ct{number}", edit=_edit(**same, SeriesInstanceUID=f"1.3.{number}"))
    rows, unplaced = draft_scans(index_folders([tmp_path]), tmp_path)
    assert [(row["spect"], row["ct"]) for row in rows] == [("spect1", "ct1"), ("spect2", "ct2")]
    assert unplaced == []


def test_patients_are_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in range(1, 4):
        write_pet(tmp_path / str(number), edit=_edit(**_scan(f"M{number}", "20240102", number)))
    keys = {"M1": "P10", "M2": "P9", "M3": "P2"}
    rows, _ = draft_scans(index_folders([tmp_path]), tmp_path, keys=keys)
    assert [row["patient"] for row in rows] == ["P2", "P9", "P10"]


def test_the_directory_of_a_medium_is_no_image(tmp_path: Path) -> None:
    write_nm(tmp_path / "DICOMDIR")
    path = write_nm(tmp_path / "DIR001")
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.5.1.4.1.1.20", b"1.2.840.10008.1.3.10\0\0\0\0\0\0"))
    _, unplaced = draft_scans(index_folders([tmp_path]), tmp_path)
    assert [(entry["path"], "DICOMDIR" in entry["reason"]) for entry in unplaced] == [("DIR001", True)]


# The command --------------------------------------------------------------------------------------


def test_the_command_writes_sheet_index_and_what_is_left(tmp_path: Path) -> None:
    _visits(tmp_path / "dicom", "20240102 130000", "20240112 130000", "20240112 130000")
    (tmp_path / "dicom" / "empty").touch()
    out = tmp_path / "scans.tsv"
    done = CliRunner().invoke(app, ["index", str(tmp_path / "dicom"), "--out", str(out)])
    assert done.exit_code == 0, done.output
    assert out.read_text().splitlines()[1:] == ["n/a\tP1\t1\t1\tdicom/s1\tn/a\tn/a\tModel One"]
    assert (tmp_path / "scans-unplaced.tsv").read_text().splitlines()[1:] == [
        "dicom/empty\t\tthe file is empty",
        "dicom/s2\tPT\tseveral SPECT series start at the same time: choose one reconstruction",
        "dicom/s3\tPT\tseveral SPECT series start at the same time: choose one reconstruction",
    ]
    assert "P1\tMRN7" in done.output
    assert "dicom/s2 and 1 more" in done.output
    assert (tmp_path / "series.parquet").is_file()
    assert CliRunner().invoke(app, ["index", str(tmp_path / "dicom"), "--out", str(out)]).exit_code == 2


def test_the_command_takes_administrations_and_a_key_list(tmp_path: Path) -> None:
    _visits(tmp_path / "dicom", "20240102 130000")
    sheet, keys = tmp_path / "administrations.tsv", tmp_path / "keys.tsv"
    columns = "site patient cycle radiopharmaceutical nuclide injection_start infusion_min measured_activity_mbq"
    row = "A P7 2 Lu177-DOTATATE Lu-177 2024-01-02T09:00 30 7400"
    lines = (f"{columns} residual_activity_mbq", f"{row} 20")
    sheet.write_text("".join("\t".join(line.split()) + "\n" for line in lines))
    keys.write_text("patient_id\tpatient\nMRN7\tP7\n")
    options = ["--administrations", str(sheet), "--keys", str(keys)]
    done = CliRunner().invoke(app, ["index", str(tmp_path / "dicom"), "--out", str(tmp_path / "scans.tsv"), *options])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "scans.tsv").read_text().splitlines()[1].split("\t")[:4] == ["A", "P7", "2", "1"]
    assert "MRN7" not in done.output

    sheet.write_text(sheet.read_text().replace("7400", "7.4"))
    done = CliRunner().invoke(app, ["index", str(tmp_path / "dicom"), "--out", str(tmp_path / "new.tsv"), *options])
    assert done.exit_code == 2
    assert "GBq" in done.output
