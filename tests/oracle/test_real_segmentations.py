"""Segmentations of others against the volumes that other programs made from them.

The data are not part of the repository. They are found by ``DOSELEDGER_DATA``; sources and licences
are in the README beside each item.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import SimpleITK as sitk  # noqa: N813
from numpy.typing import NDArray

from doseledger.errors import ModalityError, SegmentationFileError
from doseledger.geometry import Grid
from doseledger.io.dicom import read_ct, read_segments, read_structures, segment_mask, structure_mask
from doseledger.io.dicom.headers import read_header
from doseledger.io.dicom.seg import Code
from doseledger.io.dicom.stack import stack_slices
from doseledger.io.label_map import label_mask, read_label_map
from doseledger.io.nifti import read_image
from doseledger.regions import RegionSpec
from doseledger.regions.gate import centroid_mm, mask_flags, order_flags
from doseledger.segmentation.contours import DrawnOn, label_map_from_contours

DATA = Path(os.environ.get("DOSELEDGER_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))


def _item(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"real data {name} not found: set DOSELEDGER_DATA")
    return DATA / name


def _nrrd(path: Path) -> tuple[NDArray[Any], Grid]:
    image = sitk.ReadImage(path)
    axes = np.array(image.GetDirection()).reshape(3, 3).T[::-1]
    voxels = sitk.GetArrayFromImage(image)
    directions = tuple(tuple(float(v) for v in axis) for axis in axes)
    return voxels, Grid(voxels.shape, image.GetSpacing()[::-1], image.GetOrigin(), directions)  # type: ignore[arg-type]


# dcmqi (QIICR): DICOM SEG and the NRRD that each should convert to ---------------------------------

LIVER = Code("T-62000", "SRT", "Liver")


@pytest.mark.parametrize(
    ("seg", "nrrd", "segments", "voxels"),
    [
        ("liver.dcm", "liver_seg.nrrd", {1: ("Liver", LIVER)}, 107_098),
        ("23x38x3/seg/label.seg", "23x38x3/nrrd/label.nrrd", {1: ("Liver", LIVER)}, 322),
        (
            "partial_overlaps.dcm",
            "partial_overlaps-1.nrrd",
            {
                1: ("GREEN", Code("85756007", "SCT", "Tissue")),
                4: ("LIGHT_BLUE", Code("79654002", "SCT", "Edema")),
                5: ("DARK_BLUE", Code("29092000", "SCT", "Vein")),
            },
            21_008,
        ),
        ("partial_overlaps.dcm", "partial_overlaps-2.nrrd", {2: ("ORANGE", Code("51114001", "SCT", "Artery"))}, 11_888),
        (
            "partial_overlaps.dcm",
            "partial_overlaps-3.nrrd",
            {3: ("PURPLE", Code("20982000", "SCT", "Capillary"))},
            10_743,
        ),
    ],
)
def test_every_voxel_of_a_seg_is_where_dcmqi_puts_it(
    seg: str, nrrd: str, segments: dict[int, tuple[str, Code]], voxels: int
) -> None:
    folder = _item("seg_dcmqi")
    labels, grid = _nrrd(folder / nrrd)
    found = {s.number: s for s in read_segments(folder / seg)}
    assert set(np.unique(labels)) - {0} == segments.keys()
    for number, (name, code) in segments.items():
        assert (found[number].name, found[number].code) == (name, code)
        assert np.array_equal(segment_mask(found[number], grid), labels == number)
    assert np.count_nonzero(labels) == voxels


@pytest.mark.parametrize(
    ("seg", "image", "voxels"),
    [("liver.dcm", "ct-3slice", 107_098), ("23x38x3/seg/label.seg", "23x38x3/image", 322)],
)
def test_a_seg_lies_on_the_ct_that_it_names(seg: str, image: str, voxels: int) -> None:
    folder = _item("seg_dcmqi")
    (segment,) = read_segments(folder / seg)
    stack = stack_slices([read_header(path) for path in sorted((folder / image).iterdir())])
    series, frame = (str(stack.first.text(k)) for k in ("SeriesInstanceUID", "FrameOfReferenceUID"))
    assert segment.referenced_series_uids == (series,)
    ct = DrawnOn("CT", stack.grid, series, frame)
    found = label_map_from_contours(folder / seg, [ct], {"Liver": RegionSpec(1, "liver", "organ")}, seg)
    assert np.array_equal(found.labels > 0, segment_mask(segment, stack.grid))
    assert np.count_nonzero(found.labels) == voxels
    with pytest.raises(SegmentationFileError, match=r"another series.*ReferencedSeriesSequence"):
        label_map_from_contours(
            folder / seg, [replace(ct, series_uid="1.2")], {"Liver": RegionSpec(1, "liver", "organ")}, seg
        )


def test_overlapping_segments_share_voxels() -> None:
    folder = _item("seg_dcmqi")
    _, grid = _nrrd(folder / "partial_overlaps-1.nrrd")
    masks = {s.number: segment_mask(s, grid) for s in read_segments(folder / "partial_overlaps.dcm")}
    assert np.count_nonzero(masks[1] & masks[2]) > 0
    # Segment 1 has one frame: the other slices are empty.
    assert np.flatnonzero(masks[1].any(axis=(1, 2))).tolist() == [1]


# highdicom (ImagingDataCommons): types of DICOM SEG -----------------------------------------------

#: The image of the files: frames at 103.02, 104.27 and 105.52 mm, and one 202.5 mm below.
SMALL = Grid((3, 16, 16), (1.25, 0.488281, 0.488281), (-125.0, -128.100006, 103.019997))
FILES = "seg_image_ct_binary", "seg_image_ct_binary_fractional", "seg_image_ct_true_fractional"


@pytest.mark.parametrize("name", FILES)
def test_bits_and_fractions_of_one_mask(name: str) -> None:
    """The bits, the fractions 0 and 1, and fractions of a half in place of 1, are of the same voxels."""
    (segment,) = read_segments(_item("seg_highdicom") / f"{name}.dcm")
    assert (segment.name, segment.code) == ("first segment", Code("272673000", "SCT", "Bone"))
    mask = segment_mask(segment, SMALL)
    assert np.count_nonzero(mask, axis=(1, 2)).tolist() == [127, 256, 255]
    (bits,) = read_segments(_item("seg_highdicom") / "seg_image_ct_binary.dcm")
    assert np.array_equal(mask, segment_mask(bits, SMALL))


def test_a_quarter_does_not_reach_the_threshold() -> None:
    """Stored values 0, 64 and 128 of 255: just those from half on belong."""
    path = _item("seg_highdicom") / "seg_image_ct_true_fractional.dcm"
    stored = read_header(path).dataset.pixel_array
    assert np.unique(stored).tolist() == [0, 64, 128]
    assert np.array_equal(segment_mask(read_segments(path)[0], SMALL), stored == 128)


def test_overlapping_segments_with_a_gap_between_their_frames() -> None:
    first, second = read_segments(_item("seg_highdicom") / "seg_image_ct_binary_overlap.dcm")
    assert [plane.spacing_mm[0] for plane in first.planes] == pytest.approx([1.25] * 4)
    assert second.name == "second segment"
    long = Grid((166, 16, 16), SMALL.spacing_mm, (-125.0, -128.100006, -99.480003))
    for segment, voxels in ((first, 16), (second, 4)):
        mask = segment_mask(segment, long)
        assert np.flatnonzero(mask.any(axis=(1, 2))).tolist() == [0, 162, 163, 164]
        assert np.count_nonzero(mask[0]) == voxels
    # On the upper slices alone, the frame far below would be lost.
    with pytest.raises(SegmentationFileError, match="leaves the image"):
        segment_mask(first, SMALL)


def test_a_single_frame_lies_on_its_image() -> None:
    folder = _item("seg_highdicom")
    header = read_header(folder / "ct_image.dcm")
    (segment,) = read_segments(folder / "seg_image_ct_binary_single_frame.dcm")
    assert segment.frame_of_reference_uid == header.text("FrameOfReferenceUID")
    assert segment.referenced_series_uids == (header.text("SeriesInstanceUID"),)
    x, y, z = header.required_numbers("ImagePositionPatient", 3)
    dy, dx = header.required_numbers("PixelSpacing", 2)
    mask = segment_mask(segment, Grid((1, 128, 128), (5.0, dy, dx), (x, y, z)))[0]
    stored = header.dataset.pixel_array
    # Bone by a threshold: all of its voxels are brighter than all others.
    assert np.count_nonzero(mask) == 1832
    assert stored[mask].min() > stored[~mask].max()


@pytest.mark.parametrize("name", ["seg_image_sm_control_labelmap", "seg_image_sm_control_labelmap_palette_color"])
def test_a_slide_under_the_microscope_is_refused(name: str) -> None:
    with pytest.raises(ModalityError, match=r"microscope.*ImageOrientationSlide \(0048,0102\)"):
        read_segments(_item("seg_highdicom") / f"{name}.dcm")


# PET/CT with RTSTRUCT and masks (oncoray/mirp, TCIA Soft-tissue-Sarcoma) ----------------------------

#: Smallest Dice overlap with the mask of mirp. Both fill voxels whose centre lies inside, so that just centres
#: on an edge may differ; what was found is 1 for both.
SMALLEST_DICE = 0.999


@pytest.mark.parametrize(("modality", "voxels"), [("CT", 17_090), ("PET", 555)])
def test_outlines_on_the_dicom_image_fill_the_mask_of_others(modality: str, voxels: int) -> None:
    """As a structure set on the grid of the DICOM series, and as a label map with a name."""
    folder = _item("petct_sts002_crop") / modality
    mask, grid = read_image(folder / "nifti" / "mask" / "mask.nii.gz")
    if modality == "CT":
        grid = read_ct(folder / "dicom" / "image").grid
    (structure,) = read_structures(folder / "dicom" / "mask" / "RS.dcm")
    filled = structure_mask(structure, grid)
    dice = 2 * np.count_nonzero(filled & (mask > 0)) / (np.count_nonzero(filled) + np.count_nonzero(mask))
    assert dice >= SMALLEST_DICE
    assert np.count_nonzero(filled) == voxels


# TotalSegmentator: label maps of 117 classes, names in the header -----------------------------------


def test_names_come_from_the_header_that_totalsegmentator_writes() -> None:
    found = read_label_map(_item("ct_seg_totalsegmentator") / "example_seg.nii.gz")
    assert len(found.names) == 41
    assert {n: found.names[n] for n in (1, 2, 3, 5, 20, 117)} == {
        1: "spleen",
        2: "kidney_right",
        3: "kidney_left",
        5: "liver",
        20: "colon",
        117: "costal_cartilages",
    }
    assert np.count_nonzero(label_mask(found, "liver", found.grid)) == 38_634


def test_labels_on_a_dicom_series_with_reversed_rows() -> None:
    folder = _item("ct_seg_totalsegmentator")
    ct = read_ct(folder / "example_ct_dicom")
    drawn_on = DrawnOn("CT", ct.grid, "1", "1")
    specs = {
        "liver": RegionSpec(1, "liver", "organ"),
        "spleen": RegionSpec(2, "spleen", "organ"),
        "absent": RegionSpec(3, "absent", "organ"),
    }
    found = label_map_from_contours(folder / "example_seg_dicom.nii.gz", [drawn_on], specs, "seg")
    liver = found.labels == 1
    assert np.count_nonzero(liver) == 366_708
    # Liver is even soft tissue: its HU spread by 22, and by 96 or more if an axis is reversed.
    assert ct.array_hu[liver].mean() == pytest.approx(89.3, abs=0.1)
    assert ct.array_hu[liver].std() == pytest.approx(21.7, abs=0.1)
    assert len(found.unmapped) == 29


def test_a_label_map_with_the_position_of_another_part_of_the_patient() -> None:
    """The labels carry the position of the lowest slices of the CT, but belong to its uppermost 30.

    On the cut CT with the same stale position they fit; on the whole CT they are refused, where by position
    alone they would lie 246 mm too low.
    """
    folder = _item("ct_seg_totalsegmentator")
    found = read_label_map(folder / "example_seg.nii.gz")
    hu, grid = read_image(folder / "example_ct_sm.nii.gz")
    liver = label_mask(found, "liver", grid)
    assert hu[liver].mean() == pytest.approx(45.3, abs=0.1)
    _, whole = read_image(folder / "example_ct.nii.gz")
    with pytest.raises(SegmentationFileError, match="same part of the patient"):
        label_mask(found, "liver", whole)


def test_the_gate_on_a_real_patient() -> None:
    """An abdomen whose lower edge cuts the organs; all is in its order and of its tissue."""
    folder = _item("ct_seg_totalsegmentator")
    found = read_label_map(folder / "example_seg.nii.gz")
    hu, grid = read_image(folder / "example_ct_sm.nii.gz")
    names = ("kidney_left", "kidney_right", "liver", "spleen", "pancreas", "vertebrae_L1")
    masks = {name: label_mask(found, name, grid) for name in names}
    assert {name: mask_flags(name, mask, grid, hu=hu) for name, mask in masks.items()} == {
        "kidney_left": ["truncated"],
        "kidney_right": ["truncated"],
        "liver": ["truncated"],
        "spleen": ["truncated"],
        # 17 mL of it in two halves: most of the pancreas is below the field.
        "pancreas": ["volume_implausible", "fragmented"],
        "vertebrae_L1": [],
    }
    assert order_flags({name: centroid_mm(mask, grid) for name, mask in masks.items()}) == {}
    # The same image mirrored: liver and spleen, and the kidneys, have changed places.
    mirrored = {name: centroid_mm(mask[:, :, ::-1], grid) for name, mask in masks.items()}
    assert order_flags(mirrored).keys() == {"liver", "spleen", "kidney_left", "kidney_right"}
    counts = {"small_bowel": 1020, "duodenum": 1110, "colon": 12_993}
    for name, count in counts.items():
        mask = label_mask(found, name, grid)
        assert np.count_nonzero(mask) == count
        assert "truncated" in mask_flags(name, mask, grid)
