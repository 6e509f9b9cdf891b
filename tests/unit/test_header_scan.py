"""Stepping over a header finds what pydicom reads, in every way in which a header can be written."""

from __future__ import annotations

import os
from pathlib import Path

import pydicom
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from doseledger.io.dicom import scan
from doseledger.io.dicom.headers import quiet
from doseledger.io.dicom.scan import HeaderTexts, scan_header, scan_headers
from doseledger.io.files import is_side_file

from .dicom_factory import put, save, write_ct, write_pet, write_rtstruct
from .nm_factory import write_nm_image

DATA = Path(os.environ.get("DOSELEDGER_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))


def quickly(path: Path) -> HeaderTexts | None:
    return scan._texts(path.read_bytes()[: scan._HEAD_BYTES])


def by_pydicom(path: Path) -> HeaderTexts | str:
    with quiet():
        return scan._texts_by_pydicom(str(path))


def decoded(path: Path) -> Dataset:
    """The elements of a file, no longer bound to the way in which it was written."""
    dataset = Dataset()
    for element in pydicom.dcmread(path):
        dataset.add(element)
    return dataset


def write_as(dataset: Dataset, path: Path, syntax: UID) -> None:
    save(dataset, path)
    dataset.file_meta.TransferSyntaxUID = syntax
    pydicom.dcmwrite(
        path,
        dataset,
        implicit_vr=syntax.is_implicit_VR,
        little_endian=syntax.is_little_endian,
        enforce_file_format=True,
    )


def with_nested_items(dataset: Dataset, undefined: bool) -> None:
    """Items that hold elements of the same names, two levels deep, before those that count."""
    inner, outer = Dataset(), Dataset()
    inner.Modality, inner.SeriesDate, inner.StationName = "XX", "19000101", "WRONG"
    outer.ReferencedSeriesSequence = [inner, inner]
    outer.PatientID = "SOMEBODY-ELSE"
    dataset.ReferencedStudySequence = [outer, Dataset(), outer]
    outer["ReferencedSeriesSequence"].is_undefined_length = undefined
    dataset["ReferencedStudySequence"].is_undefined_length = undefined
    for item in (inner, outer):
        item.is_undefined_length_sequence_item = undefined


@pytest.mark.parametrize("undefined", [False, True])
@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_both_encodings_are_stepped_over(tmp_path: Path, syntax: UID, undefined: bool) -> None:
    (path, *_) = write_pet(tmp_path, n=2)
    dataset = decoded(path)
    with_nested_items(dataset, undefined)
    block = dataset.private_block(0x0009, "MAKER", create=True)
    block.add_new(1, "OB", bytes(300))
    block.add_new(2, "UN", b"\xfe\xff\x00\xe0")
    dataset.StationName = "NM-1"
    write_as(dataset, path, syntax)
    assert (b"\xff\xff\xff\xff" in path.read_bytes()) == undefined
    found = quickly(path)
    assert found == by_pydicom(path) == scan_header(str(path))
    assert (found.modality, found.patient_id, found.station, found.unit) == ("PT", "SITE-0042", "NM-1", "BQML")


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_unusual_encodings_are_left_to_pydicom(tmp_path: Path, syntax: UID) -> None:
    (path, *_) = write_ct(tmp_path, n=2)
    before = scan_header(str(path))
    write_as(decoded(path), path, syntax)
    assert quickly(path) is None
    assert scan_header(str(path)) == before


def test_a_compressed_image_has_an_ordinary_header(tmp_path: Path) -> None:
    (path, *_) = write_ct(tmp_path, n=2)
    before = quickly(path)
    assert before is not None
    path.write_bytes(path.read_bytes().replace(b"1.2.840.10008.1.2.1\0", b"1.2.840.10008.1.2.5\0"))
    assert quickly(path) == before


def test_other_alphabets_are_left_to_pydicom(tmp_path: Path) -> None:
    (path, *_) = write_ct(tmp_path, n=2, edit=lambda d, z: put(d, SpecificCharacterSet="ISO_IR 192", PatientID="Zoë 9"))
    assert quickly(path) is None
    found = scan_header(str(path))
    assert isinstance(found, HeaderTexts)
    assert found.patient_id == "Zoë 9"


def test_a_long_header_is_left_to_pydicom(tmp_path: Path) -> None:
    def long(dataset: Dataset, z: int) -> None:
        dataset.private_block(0x0009, "MAKER", create=True).add_new(1, "OB", bytes(scan._HEAD_BYTES))

    (path, *_) = write_ct(tmp_path, n=2, edit=long)
    assert quickly(path) is None
    found = scan_header(str(path))
    assert isinstance(found, HeaderTexts)
    assert found.modality == "CT"


def test_every_kind_of_file_is_read_as_pydicom_reads_it(tmp_path: Path) -> None:
    nm = write_nm_image(tmp_path / "nm.dcm")
    structures = write_rtstruct(tmp_path / "rs.dcm", {"a": []})
    for path in (*write_pet(tmp_path / "pt"), *write_ct(tmp_path / "ct"), nm):
        assert quickly(path) == by_pydicom(path)
    assert quickly(structures) is None
    assert scan_header(str(structures)) == by_pydicom(structures)


@pytest.mark.skipif(not DATA.is_dir(), reason="real data not found: set DOSELEDGER_DATA")
def test_real_headers_are_read_as_pydicom_reads_them() -> None:
    quick = 0
    for path in sorted(p for p in DATA.rglob("*") if p.is_file() and not is_side_file(p)):
        with path.open("rb") as stream:
            if stream.read(132)[128:] != b"DICM":
                continue
        found = quickly(path)
        quick += found is not None
        assert found is None or found == by_pydicom(path), path
    assert quick > 500


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "the file is empty"),
        (b"not DICOM " * 30, "the file is not DICOM"),
        (bytes(128) + b"DICM" + b"\2\0\x10\0", "SOPClassUID"),
    ],
)
def test_what_is_no_image_says_why(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    assert reason in str(scan_header(str(path)))


def test_a_file_cut_in_its_header_says_so(tmp_path: Path) -> None:
    (path, *_) = write_ct(tmp_path, n=2)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"SITE-0042") + 4])
    assert "truncated" in str(scan_header(str(path)))


def test_a_file_that_may_not_be_read_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    assert scan_header("a") == "the file cannot be opened: Permission denied"


def test_workers_find_the_same_in_the_same_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [str(p) for p in (*write_pet(tmp_path / "pt"), *write_ct(tmp_path / "ct"))]
    alone = list(scan_headers(paths))
    monkeypatch.setattr(scan, "_CHUNK", 3)
    monkeypatch.setattr(scan, "_FILES_PER_WORKER", 5)
    assert list(scan_headers(paths, workers=2)) == alone
    assert len({str(texts) for texts in alone}) > 1
