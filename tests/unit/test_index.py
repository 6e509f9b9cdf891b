"""The index of DICOM folders and the drafted scan sheet."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from pydicom.dataset import Dataset

from doseledger.errors import InputMissingError
from doseledger.io.index import SCAN_COLUMNS, draft_scans, index_folders, patient_keys

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


def test_a_ct_of_another_frame_is_matched_by_study_if_it_is_the_only_one(tmp_path: Path) -> None:
    write_pet(tmp_path / "a" / "spect")
    write_ct(tmp_path / "a" / "ct", edit=_edit(SeriesInstanceUID="1.9", FrameOfReferenceUID="1.8"))
    (row,), _ = draft_scans(index_folders([tmp_path]), tmp_path)
    assert row["ct"] == "a/ct"
    # A second SPECT series in the study: now nothing says to which of them the CT belongs.
    later = _edit(SeriesInstanceUID="1.7", AcquisitionDate="20240103", FrameOfReferenceUID="1.6")
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
