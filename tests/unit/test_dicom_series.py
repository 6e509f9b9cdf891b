"""The gate of image series: files, identity, complete and regular slices."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from doseledger.errors import (
    DoseledgerError,
    FileUnreadableError,
    GeometryError,
    InputMissingError,
    MixedSeriesError,
    ModalityError,
    SlicesMissingError,
    TagMissingError,
)
from doseledger.io.dicom import read_ct, read_spect

from .dicom_factory import ORIGIN_MM, centres, field, put, write_ct, write_pet, write_rtstruct

Edit = Callable[[Dataset, int], None]


def _at(places_mm: list[float]) -> Edit:
    """Put the slices at these places along z."""

    def edit(dataset: Dataset, z: int) -> None:
        dataset.ImagePositionPatient = [*ORIGIN_MM[:2], ORIGIN_MM[2] + places_mm[z]]

    return edit


def _slice_2(**values: object) -> Edit:
    def edit(dataset: Dataset, z: int) -> None:
        if z == 2:
            put(dataset, **values)

    return edit


def test_small_unevenness_of_a_good_series_is_read(tmp_path: Path) -> None:
    # Steps of 3.19, 3.27 and 3.29 mm stand side by side in real series.
    places = np.cumsum([0, 3.27, 3.19, 3.29, 3.27])
    write_ct(tmp_path, edit=_at(places.tolist()))
    assert read_ct(tmp_path).grid.spacing_mm[0] == pytest.approx(3.255)


@pytest.mark.parametrize(
    ("places", "error", "fragments"),
    [
        ([0, 4, 8, 16, 20], SlicesMissingError, ["1 slice(s) missing between -292.00 and -284.00 mm", "3_2.dcm"]),
        ([0, 12, 16, 20, 24], SlicesMissingError, ["2 slice(s) missing between -300.00 and -288.00 mm"]),
        ([0, 4, 8, 14, 18], GeometryError, ["not evenly spaced between -292.00 and -286.00 mm", "3_2.dcm"]),
        ([0, 4, 8, 8, 12], GeometryError, ["two slices lie at one position", "3_2.dcm", "1_3.dcm"]),
        ([0, 4, 8, 8.005, 12], GeometryError, ["two slices lie at one position"]),
    ],
)
def test_slices_that_make_no_regular_grid_are_refused(
    tmp_path: Path, places: list[float], error: type[DoseledgerError], fragments: list[str]
) -> None:
    write_ct(tmp_path, edit=_at(places))
    with pytest.raises(error) as caught:
        read_ct(tmp_path)
    for fragment in [*fragments, "ImagePositionPatient (0020,0032)", str(tmp_path)]:
        assert fragment in caught.value.sentence


def test_a_step_that_creeps_moves_slices_off_their_place(tmp_path: Path) -> None:
    # Each step is within 5 % of the usual one, but the middle of 41 slices is 1.9 mm off.
    places = np.cumsum([0.0] + [4.0] * 20 + [3.81] * 20)
    write_ct(tmp_path, n=41, edit=_at(places.tolist()))
    with pytest.raises(GeometryError, match="off its place"):
        read_ct(tmp_path)


def test_fewer_files_than_declared_are_missing_slices(tmp_path: Path) -> None:
    paths = write_pet(tmp_path)
    # The outermost slice: without NumberOfSlices nobody would miss it.
    paths[-1].unlink()
    with pytest.raises(SlicesMissingError, match=r"1 slice\(s\) missing .*NumberOfSlices \(0054,0081\)"):
        read_spect(tmp_path)


def test_a_single_slice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(GeometryError, match="single slice"):
        read_ct(write_ct(tmp_path)[0])


@pytest.mark.parametrize(
    ("edit", "fragment"),
    [
        (_slice_2(Rows=5), "Rows (0028,0010)"),
        (_slice_2(PixelSpacing=[3.0, 2.6]), "PixelSpacing (0028,0030)"),
        (_slice_2(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]), "ImageOrientationPatient (0020,0037)"),
        (_slice_2(ImagePositionPatient=[-12.5, 20.3, -292]), "shifted sideways by 0.30 mm"),
    ],
)
def test_a_slice_unlike_the_others_is_refused(tmp_path: Path, edit: Edit, fragment: str) -> None:
    write_ct(tmp_path, edit=edit)
    with pytest.raises(GeometryError) as caught:
        read_ct(tmp_path)
    assert fragment in caught.value.sentence
    assert "3_2.dcm" in caught.value.sentence


def test_axes_that_are_not_orthonormal_are_refused(tmp_path: Path) -> None:
    write_ct(tmp_path, edit=lambda d, z: setattr(d, "ImageOrientationPatient", [1, 0, 0, 0.1, 0.99, 0]))
    with pytest.raises(GeometryError, match=r"ImageOrientationPatient \(0020,0037\)"):
        read_ct(tmp_path)


@pytest.mark.parametrize("keyword", ["ImagePositionPatient", "ImageOrientationPatient", "PixelSpacing", "Rows"])
def test_missing_geometry_is_refused(tmp_path: Path, keyword: str) -> None:
    write_ct(tmp_path, edit=lambda d, z: delattr(d, keyword) if z == 2 else None)
    with pytest.raises(TagMissingError) as caught:
        read_ct(tmp_path)
    assert keyword in caught.value.sentence
    assert "3_2.dcm" in caught.value.sentence


# Identity ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "fragment"),
    [
        ({"PatientID": "SITE-0043"}, "two patients"),
        ({"Modality": "NM"}, "two modalities"),
        ({"SeriesInstanceUID": "1.2.3"}, "SeriesInstanceUID (0020,000E)"),
        ({"StudyInstanceUID": "1.2.3"}, "StudyInstanceUID (0020,000D)"),
        ({"FrameOfReferenceUID": "1.2.3"}, "FrameOfReferenceUID (0020,0052)"),
        ({"Units": "CNTS"}, "Units (0054,1001)"),
        ({"DecayCorrection": "ADMIN"}, "DecayCorrection (0054,1102)"),
    ],
)
def test_files_of_two_series_are_refused_naming_both(tmp_path: Path, values: dict[str, str], fragment: str) -> None:
    write_pet(tmp_path, edit=_slice_2(**values))
    with pytest.raises(MixedSeriesError) as caught:
        read_spect(tmp_path)
    assert fragment in caught.value.sentence
    assert "0_1.dcm and 3_2.dcm" in caught.value.sentence
    assert "SITE-004" not in caught.value.sentence


def test_a_structure_set_beside_the_images_is_refused(tmp_path: Path) -> None:
    write_ct(tmp_path)
    write_rtstruct(tmp_path / "rs.dcm", {"a": []})
    with pytest.raises(MixedSeriesError, match="two modalities"):
        read_ct(tmp_path)


def test_the_wrong_modality_is_refused(tmp_path: Path) -> None:
    write_ct(tmp_path / "ct")
    write_pet(tmp_path / "pet")
    with pytest.raises(ModalityError, match="expected 'PT"):
        read_spect(tmp_path / "ct")
    with pytest.raises(ModalityError, match="expected 'CT"):
        read_ct(tmp_path / "pet")


# Files ------------------------------------------------------------------------------------------


def test_missing_and_empty_folders_are_refused(tmp_path: Path) -> None:
    (tmp_path / "README.txt").write_text("nothing here")
    for path in (tmp_path, tmp_path / "absent"):
        with pytest.raises(InputMissingError) as caught:
            read_spect(path)
        assert str(path) in caught.value.sentence
    with pytest.raises(InputMissingError):
        read_spect([])


@pytest.mark.parametrize("name", ["DICOMDIR", ".DS_Store", "notes.txt", "LICENSE", "README.md", "._0_1.dcm"])
def test_side_files_are_passed_over_by_name(tmp_path: Path, name: str) -> None:
    write_pet(tmp_path)
    (tmp_path / name).write_text("not an image")
    assert read_spect(tmp_path).provenance.n_files == 5


def test_any_other_file_that_is_not_dicom_is_refused(tmp_path: Path) -> None:
    write_pet(tmp_path)
    (tmp_path / "slice").write_bytes(b"x" * 5000)
    with pytest.raises(FileUnreadableError, match="not DICOM") as caught:
        read_spect(tmp_path)
    assert str(tmp_path / "slice") in caught.value.sentence


@pytest.mark.parametrize("kind", ["pet", "ct"])
def test_a_file_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    write, read = {"pet": (write_pet, read_spect), "ct": (write_ct, read_ct)}[kind]
    victim = write(tmp_path / "whole")[2]  # type: ignore[operator]
    whole = victim.read_bytes()
    # Odd steps, so that cuts fall into tags, lengths, values, items and pixels.
    for length in [*range(0, len(whole), 37), len(whole) - 1]:
        victim.write_bytes(whole[:length])
        with pytest.raises(FileUnreadableError) as caught:
            read(tmp_path / "whole")  # type: ignore[operator]
        assert str(victim) in caught.value.sentence


@pytest.mark.parametrize("value", [b"-1O24.0", b"inf    ", b"1\\2    "])
def test_a_header_value_of_the_wrong_kind_names_its_tag(tmp_path: Path, value: bytes) -> None:
    victim = write_ct(tmp_path)[2]
    whole = victim.read_bytes()
    assert whole.count(b"-1024.0") == 1
    victim.write_bytes(whole.replace(b"-1024.0", value))
    with pytest.raises(DoseledgerError) as caught:
        read_ct(tmp_path)
    assert "RescaleIntercept (0028,1052)" in caught.value.sentence
    assert str(victim) in caught.value.sentence


def test_subfolders_are_not_read(tmp_path: Path) -> None:
    write_ct(tmp_path)
    shutil.copytree(tmp_path, tmp_path.parent / "copy")
    shutil.move(tmp_path.parent / "copy", tmp_path / "copy")
    image = read_ct(tmp_path)
    assert np.array_equal(image.array_hu, np.rint(field(centres(image.grid))))
