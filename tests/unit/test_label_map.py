"""Label maps with names, and the back end that takes outlines in any of three kinds of file."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
from nibabel.nifti1 import Nifti1Extension
from numpy.typing import NDArray

from doseledger.errors import (
    ContourError,
    DoseledgerError,
    FileUnreadableError,
    GeometryError,
    InputMissingError,
    ModalityError,
    QuantityError,
    SegmentationFileError,
)
from doseledger.geometry import Grid
from doseledger.io.label_map import label_mask, read_label_map
from doseledger.io.nifti import write_image
from doseledger.regions import RegionSpec
from doseledger.segmentation.contours import DrawnOn, label_map_from_contours

from .dicom_factory import FRAME, ORIENTATIONS, UID, grid_of, write_ct, write_rtstruct
from .seg_factory import write_seg

GRID = grid_of(shape=(6, 7, 5))
NAMES = {1: "liver", 2: "spleen", 7: "lesion"}


def labels() -> NDArray[np.uint8]:
    volume = np.zeros(GRID.shape, np.uint8)
    volume[1:4, 1:4, 0:3] = 1
    volume[1:4, 4:6, 2:5] = 2
    volume[2:3, 2:3, 1:2] = 7
    return volume


def write(folder: Path, volume: NDArray[Any] | None = None, *, grid: Grid = GRID, dtype: str = "uint8") -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "map.nii.gz"
    write_image(path, labels() if volume is None else volume, grid, dtype=dtype)
    return path


def tsv(path: Path, names: dict[int, str] = NAMES, *, beside: str = "map.tsv", header: str = "index\tname") -> Path:
    lines = [header, *(f"{n}\t{name}" for n, name in names.items())]
    path.with_name(beside).write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def embed(path: Path, text: str) -> Path:
    image: Any = nib.load(path)
    image.header.extensions.append(Nifti1Extension(0, text.encode()))
    nib.save(image, path)
    return path


def table(names: dict[int, str]) -> str:
    lines = "".join(f'<Label Key="{n}" Red="1.0"><![CDATA[{name}]]></Label>' for n, name in names.items())
    return f"<?xml version='1.0'?><CaretExtension><LabelTable>{lines}</LabelTable></CaretExtension>"


# Names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name_it",
    [
        tsv,
        lambda path: tsv(path, beside="map_labels.tsv"),
        lambda path: tsv(path, NAMES | {0: "background", 9: "absent"}),
        lambda path: path.with_name("map.json").write_text(
            json.dumps({"LabelMap": {str(n): name for n, name in NAMES.items()}, "Sources": []})
        ),
        lambda path: embed(path, table(NAMES | {9: "absent"})),
        lambda path: embed(tsv(path), table({9: "absent"})),
    ],
    ids=["tsv", "_labels.tsv", "more names than labels", "json", "header", "two tables that agree"],
)
def test_names_from_any_table(tmp_path: Path, name_it: Callable[[Path], object]) -> None:
    path = write(tmp_path)
    name_it(path)
    found = read_label_map(path)
    assert found.names == NAMES
    for number, name in NAMES.items():
        assert np.array_equal(label_mask(found, name, GRID), labels() == number)


def test_two_numbers_of_one_name_are_one_region(tmp_path: Path) -> None:
    found = read_label_map(tsv(write(tmp_path), {1: "liver", 2: "liver", 7: "lesion"}))
    assert np.array_equal(label_mask(found, "liver", GRID), np.isin(labels(), [1, 2]))


def test_floating_voxels_may_hold_whole_numbers(tmp_path: Path) -> None:
    found = read_label_map(tsv(write(tmp_path, dtype="float32")))
    assert np.array_equal(found.labels, labels())
    assert found.labels.dtype == np.int64


@pytest.mark.parametrize("value", [0.5, -1.0, np.nan, np.inf])
def test_other_voxels_are_no_labels(tmp_path: Path, value: float) -> None:
    volume = labels().astype(np.float32)
    volume[0, 0, 0] = value
    path = tsv(write(tmp_path, volume, dtype="float32"))
    with pytest.raises(QuantityError, match=r"no label.*map\.nii\.gz.*nearest neighbour"):
        read_label_map(path)


@pytest.mark.parametrize(
    ("name_it", "kind", "fragment"),
    [
        (lambda path: None, SegmentationFileError, "'map.tsv or map_labels.tsv (columns index and name)"),
        (lambda path: tsv(path, {1: "liver", 2: "spleen"}), SegmentationFileError, "found [7]"),
        (lambda path: tsv(path, header="label\tname"), FileUnreadableError, "expected ['index', 'name']"),
        (lambda path: tsv(path, {1: "liver", 2: " ", 7: "x"}), FileUnreadableError, "without number or name"),
        (lambda path: embed(tsv(path), table(NAMES | {2: "stomach"})), SegmentationFileError, "{2: 'stomach'}"),
        (lambda path: embed(path, "<CaretExtension>"), FileUnreadableError, "no XML"),
        (
            lambda path: path.with_name("map.json").write_text('{"LabelMap": ["liver"]}'),
            FileUnreadableError,
            "map.json",
        ),
        (
            lambda path: path.with_name("map.tsv").write_text("index\tname\n1\tliver\n1\tspleen\n"),
            FileUnreadableError,
            "map.tsv",
        ),
        (lambda path: path.with_name("map.json").write_text('{"Sources": []}'), SegmentationFileError, "has no names"),
    ],
)
def test_missing_or_bad_names_are_refused(
    tmp_path: Path, name_it: Callable[[Path], object], kind: type[DoseledgerError], fragment: str
) -> None:
    path = write(tmp_path)
    name_it(path)
    with pytest.raises(kind) as caught:
        read_label_map(path)
    assert fragment in caught.value.sentence
    assert str(tmp_path) in caught.value.sentence


def test_a_missing_or_shapeless_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError):
        read_label_map(tmp_path / "absent.nii.gz")
    path = tsv(write(tmp_path))
    image: Any = nib.load(path)
    image.set_sform(None, code=0)
    image.set_qform(None, code=0)
    nib.save(image, path)
    with pytest.raises(GeometryError, match="no position"):
        read_label_map(path)


# Voxels -----------------------------------------------------------------------------------------


def test_axes_may_be_reversed(tmp_path: Path) -> None:
    corner = GRID.position_mm(np.array([5.0, 6.0, 0.0]))
    axes = GRID.direction
    turned = Grid(GRID.shape, GRID.spacing_mm, corner, (_minus(axes[0]), _minus(axes[1]), axes[2]))
    found = read_label_map(tsv(write(tmp_path, labels()[::-1, ::-1], grid=turned)))
    assert np.array_equal(label_mask(found, "spleen", GRID), labels() == 2)


def _minus(axis: tuple[float, float, float]) -> tuple[float, float, float]:
    return (-axis[0], -axis[1], -axis[2])


@pytest.mark.parametrize(
    ("image", "fragment"),
    [
        (replace(GRID, shape=(8, 7, 5)), "same part of the patient"),
        (replace(GRID, shape=(5, 7, 5)), "same part of the patient"),
        (replace(GRID, origin_mm=GRID.position_mm(np.array([1.0, 0.0, 0.0]))), "same part of the patient"),
        (replace(GRID, origin_mm=GRID.position_mm(np.array([0.0, 0.2, 0.0]))), "fall between"),
        (replace(GRID, spacing_mm=(4.0, 3.0, 2.6)), "fall between"),
        (replace(GRID, spacing_mm=(2.0, 3.0, 2.5)), "differ in voxel size"),
        (grid_of(ORIENTATIONS["oblique"], GRID.shape), "fall between"),
    ],
)
def test_a_label_map_on_other_voxels_is_refused(tmp_path: Path, image: Grid, fragment: str) -> None:
    path = tsv(write(tmp_path))
    with pytest.raises(SegmentationFileError) as caught:
        label_mask(read_label_map(path), "liver", image)
    assert fragment in caught.value.sentence
    assert str(path) in caught.value.sentence
    assert "never resampled" in caught.value.sentence


# Three kinds of file, one label map ---------------------------------------------------------------

SPECS = {
    "liver": RegionSpec(1, "liver", "organ"),
    "spleen": RegionSpec(2, "spleen", "organ"),
    "lesion": RegionSpec(3, "lesion_1", "lesion"),
}
CT = DrawnOn("CT", GRID, f"{UID}.2", FRAME)
SPECT = DrawnOn("SPECT", replace(GRID, spacing_mm=(4.0, 6.0, 5.0), shape=(6, 4, 3)), f"{UID}.22", FRAME)


def expected() -> NDArray[np.uint8]:
    volume = labels()
    volume[volume == 7] = 3
    return volume


def overlapping_masks() -> dict[str, NDArray[np.bool_]]:
    """The lesion lies in the liver; the spleen takes a voxel of it, too."""
    volume = labels()
    liver = np.isin(volume, [1, 7])
    spleen = volume == 2
    spleen[1, 1, 0] = True
    return {"lesion": volume == 7, "liver": liver, "spleen": spleen, "couch": volume == 0}


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
def test_a_segmentation_becomes_a_label_map(tmp_path: Path, kind: Any) -> None:
    path = write_seg(tmp_path / "seg.dcm", overlapping_masks(), GRID, kind=kind)
    found = label_map_from_contours(path, [CT, SPECT], SPECS, "a/seg.dcm")
    wanted = expected()
    wanted[1, 1, 0] = 2
    assert np.array_equal(found.labels, wanted)
    assert found.labels.dtype == np.uint8
    assert found.image is CT
    # The lesion takes voxels of the liver by rule; the spleen takes one by overlap.
    assert found.overlapping == {"liver"}
    assert found.unmapped == ("couch",)
    assert np.array_equal(label_map_from_contours(tmp_path, [CT], SPECS, "a").labels, wanted)


def test_a_nifti_becomes_the_same_label_map(tmp_path: Path) -> None:
    volume = labels()
    volume[5, 6, 4] = 4
    path = tsv(write(tmp_path, volume), NAMES | {4: "couch", 5: "absent"})
    found = label_map_from_contours(path, [SPECT, CT], SPECS, "a/map.nii.gz")
    assert np.array_equal(found.labels, expected())
    assert found.image is CT
    assert (found.overlapping, found.unmapped) == (frozenset(), ("couch",))


def test_a_structure_set_becomes_the_same_label_map(tmp_path: Path) -> None:
    regions: dict[str, list[NDArray[np.float64]]] = {}
    for name, number in (("lesion", 3), ("liver", 1), ("spleen", 2)):
        mask = np.isin(expected(), [1, 3]) if number == 1 else expected() == number
        regions[name] = [outline(mask[z], z) for z in np.flatnonzero(mask.any(axis=(1, 2)))]
    path = write_rtstruct(tmp_path / "rs.dcm", regions)
    found = label_map_from_contours(path, [CT, SPECT], SPECS, "a/rs.dcm")
    assert np.array_equal(found.labels, expected())
    assert found.overlapping == frozenset()


def outline(rectangle: NDArray[np.bool_], z: int) -> NDArray[np.float64]:
    """Half a voxel around a rectangle, so that no centre lies on an edge."""
    y, x = np.argwhere(rectangle).min(axis=0) - 0.5, np.argwhere(rectangle).max(axis=0) + 0.5
    corners = [(y[0], y[1]), (y[0], x[1]), (x[0], x[1]), (x[0], y[1])]
    return np.array([GRID.position_mm(np.array([z, *corner])) for corner in corners])


def test_a_structure_set_fits_any_image_of_its_frame_of_reference(tmp_path: Path) -> None:
    path = write_rtstruct(tmp_path / "rs.dcm", {"liver": [outline(labels()[2] == 1, 2)]})
    other_ct, other_frame = replace(CT, series_uid="1.2.3"), replace(CT, frame_of_reference_uid="1.2.3")
    assert label_map_from_contours(path, [other_ct, SPECT], SPECS, "rs.dcm").image is other_ct
    spect = replace(SPECT, series_uid=CT.series_uid, grid=GRID)
    assert label_map_from_contours(path, [other_ct, spect], SPECS, "rs.dcm").image is spect
    with pytest.raises(ContourError, match=r"a/rs\.dcm.*ReferencedFrameOfReferenceUID \(3006,0024\)"):
        label_map_from_contours(path, [other_frame], SPECS, "a/rs.dcm")


def test_a_file_of_another_kind_is_refused(tmp_path: Path) -> None:
    path = write_ct(tmp_path / "ct")[0]
    with pytest.raises(ModalityError, match=r"no outlines.*a/ct\.dcm.*SOPClassUID.*RTSTRUCT, SEG, or a label map"):
        label_map_from_contours(path, [CT], SPECS, "a/ct.dcm")


@pytest.mark.parametrize(
    ("image", "fragment"),
    [
        (replace(CT, frame_of_reference_uid="1.2.3"), "FrameOfReferenceUID (0020,0052)"),
        (replace(CT, series_uid="1.2.3"), "ReferencedSeriesSequence (0008,1115)"),
    ],
)
def test_a_segmentation_of_another_image_is_refused(tmp_path: Path, image: DrawnOn, fragment: str) -> None:
    path = write_seg(tmp_path / "seg.dcm", overlapping_masks(), GRID)
    with pytest.raises(SegmentationFileError) as caught:
        label_map_from_contours(path, [image], SPECS, "a/seg.dcm")
    assert fragment in caught.value.sentence
    assert "a/seg.dcm" in caught.value.sentence


def test_a_segmentation_without_series_fits_by_its_frame_of_reference(tmp_path: Path) -> None:
    def no_series(dataset: Any) -> None:
        del dataset.ReferencedSeriesSequence

    def neither(dataset: Any) -> None:
        del dataset.ReferencedSeriesSequence, dataset.FrameOfReferenceUID

    path = write_seg(tmp_path / "a.dcm", overlapping_masks(), GRID, edit=no_series)
    assert label_map_from_contours(path, [CT, SPECT], SPECS, "a.dcm").image is CT
    path = write_seg(tmp_path / "b.dcm", overlapping_masks(), GRID, edit=neither)
    bare = replace(CT, frame_of_reference_uid=None)  # type: ignore[arg-type]
    with pytest.raises(SegmentationFileError, match="another series"):
        label_map_from_contours(path, [bare], SPECS, "b.dcm")


def test_names_that_the_sheet_does_not_know_are_refused(tmp_path: Path) -> None:
    other = {"heart": RegionSpec(1, "heart", "organ")}
    path = write_seg(tmp_path / "seg.dcm", overlapping_masks(), GRID)
    with pytest.raises(SegmentationFileError, match=r"region sheet.*SegmentLabel \(0062,0005\).*'liver'.*'heart'"):
        label_map_from_contours(path, [CT], other, "seg.dcm")
    path = tsv(write(tmp_path))
    with pytest.raises(SegmentationFileError, match=r"region sheet.*'liver'.*'heart'"):
        label_map_from_contours(path, [CT], other, "map.nii.gz")
    path = write_rtstruct(tmp_path / "rs.dcm", {"liver": [outline(labels()[2] == 1, 2)]})
    with pytest.raises(ContourError, match=r"region sheet.*ROIName \(3006,0026\)"):
        label_map_from_contours(path, [CT], other, "rs.dcm")


def test_a_label_map_on_none_of_the_images_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SegmentationFileError, match="other voxels than the image"):
        label_map_from_contours(tsv(write(tmp_path)), [SPECT], SPECS, "map.nii.gz")
