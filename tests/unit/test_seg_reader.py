"""DICOM segmentations: every frame at its place in the patient, or a refusal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import permutations, product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from doseledger.errors import (
    DoseledgerError,
    FileUnreadableError,
    GeometryError,
    MixedSeriesError,
    ModalityError,
    SegmentationFileError,
    TagMissingError,
)
from doseledger.geometry import Grid
from doseledger.io.dicom import Segment, read_ct, read_segments, segment_mask
from doseledger.io.dicom.seg import Code
from doseledger.phantom.dicom_images import write_ct as write_virtual_ct
from doseledger.phantom.dicom_seg import Segment as VirtualSegment
from doseledger.phantom.dicom_seg import write_seg as write_virtual_seg
from doseledger.phantom.samples import SAMPLE_GRID, SAMPLE_START, sample_visit
from doseledger.regions.placement import PLACE_TOLERANCE, place_on

from .dicom_factory import FRAME, ORIENTATIONS, UID, grid_of, put, write_ct
from .seg_factory import Kind, write_seg

Bools = NDArray[np.bool_]
#: Frames of 7 x 5 = 35 voxels: no frame but the first begins at a byte.
GRID = grid_of(shape=(6, 7, 5))
VISIT = sample_visit("round trip")


def blob(seed: int, shape: tuple[int, int, int] = GRID.shape, empty: tuple[int, ...] = (2,)) -> Bools:
    """Random voxels, none in the slices `empty`."""
    mask = np.random.Generator(np.random.PCG64(seed)).random(shape) < 0.5
    mask[list(empty)] = False
    return np.asarray(mask)


def only(path: Path) -> Segment:
    (segment,) = read_segments(path)
    return segment


# Reading ----------------------------------------------------------------------------------------


def test_segments_come_with_their_names_codes_and_references(tmp_path: Path) -> None:
    masks = {"Left kidney": blob(1), "Right kidney": blob(2), "lesion": blob(3)}
    left, right, lesion = read_segments(write_seg(tmp_path / "seg.dcm", masks, GRID))
    assert [s.number for s in (left, right, lesion)] == [1, 2, 3]
    assert (left.name, left.code, left.laterality) == ("Left kidney", Code("64033007", "SCT", "Kidney"), "left")
    assert (right.laterality, lesion.laterality) == ("right", None)
    assert (left.frame_of_reference_uid, left.referenced_series_uids) == (FRAME, (f"{UID}.2",))
    assert [s.name for s in read_segments(tmp_path)] == list(masks)


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL"])
@pytest.mark.parametrize("per_frame_geometry", [False, True])
def test_overlapping_sparse_segments_in_any_frame_order(tmp_path: Path, kind: Kind, per_frame_geometry: bool) -> None:
    masks = {"a": blob(1), "b": blob(2, empty=(0, 3, 5)), "c": blob(3, empty=(1, 2, 3, 4, 5))}
    path = write_seg(
        tmp_path / "seg.dcm",
        masks,
        GRID,
        kind=kind,
        order=lambda frames: [frames[i] for i in np.random.Generator(np.random.PCG64(9)).permutation(len(frames))],
        per_frame_geometry=per_frame_geometry,
    )
    assert (masks["a"] & masks["b"]).any()
    for segment in read_segments(path):
        assert np.array_equal(segment_mask(segment, GRID), masks[segment.name])


def test_a_label_map_has_all_segments_in_one_frame(tmp_path: Path) -> None:
    a, b = blob(1), blob(2)
    path = write_seg(tmp_path / "seg.dcm", {"a": a, "b": b}, GRID, kind="LABELMAP", order=lambda f: f[::-1])
    first, second = read_segments(path)
    assert np.array_equal(segment_mask(second, GRID), b)
    assert np.array_equal(segment_mask(first, GRID), a & ~b)


def test_the_background_of_a_label_map_is_no_segment(tmp_path: Path) -> None:
    a = blob(1)

    def edit(dataset: Dataset) -> None:
        # Number 1 is the background, number 0 a segment.
        dataset.PixelPaddingValue = 1
        dataset.SegmentSequence[0].SegmentNumber = 1
        zero = Dataset()
        zero.SegmentNumber, zero.SegmentLabel = 0, "zero"
        dataset.SegmentSequence.append(zero)

    segment = only(write_seg(tmp_path / "seg.dcm", {"a": a}, GRID, kind="LABELMAP", edit=edit))
    assert segment.name == "zero"
    expected = ~a
    expected[~a.any(axis=(1, 2))] = False  # slices without a frame are empty
    assert np.array_equal(segment_mask(segment, GRID), expected)


def test_a_fraction_belongs_from_half_of_the_maximum_on(tmp_path: Path) -> None:
    fractions = np.linspace(0, 1, int(np.prod(GRID.shape))).reshape(GRID.shape)
    segment = only(write_seg(tmp_path / "seg.dcm", {"a": fractions}, GRID, kind="FRACTIONAL"))
    # The maximum of the file is 200: half of it is the stored value 100.
    assert np.array_equal(segment_mask(segment, GRID), np.rint(200 * fractions) >= 100)


def test_a_segment_without_a_frame_is_empty(tmp_path: Path) -> None:
    masks = {"a": blob(1), "nothing": np.zeros(GRID.shape, bool)}
    _, nothing = read_segments(write_seg(tmp_path / "seg.dcm", masks, GRID))
    assert not segment_mask(nothing, GRID).any()


def test_a_single_frame(tmp_path: Path) -> None:
    mask = blob(1, empty=(0, 1, 3, 4, 5))
    assert np.array_equal(segment_mask(only(write_seg(tmp_path / "seg.dcm", {"a": mask}, GRID)), GRID), mask)


# Geometry ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_any_orientation_also_an_oblique_one(tmp_path: Path, name: str) -> None:
    grid = grid_of(ORIENTATIONS[name])
    mask = blob(4, grid.shape)
    segment = only(write_seg(tmp_path / "seg.dcm", {"a": mask}, grid))
    assert np.array_equal(segment_mask(segment, grid), mask)


@pytest.mark.parametrize("order", list(permutations(range(3))), ids=str)
@pytest.mark.parametrize("signs", list(product((1, -1), repeat=3)), ids=str)
def test_the_same_voxels_with_axes_permuted_and_reversed(
    tmp_path: Path, order: tuple[int, int, int], signs: tuple[int, int, int]
) -> None:
    """An oblique segmentation on an image that is stored in each of the 48 possible ways."""
    grid = grid_of(ORIENTATIONS["oblique"])
    mask = blob(5, grid.shape)
    image, view = stored_as(grid, mask, order, signs)
    segment = only(write_seg(tmp_path / "seg.dcm", {"a": mask}, grid))
    assert np.array_equal(segment_mask(segment, image), view)


def stored_as(grid: Grid, mask: Bools, order: tuple[int, int, int], signs: tuple[int, int, int]) -> tuple[Grid, Bools]:
    """The grid and mask with other array axes, at the same places of the patient."""
    flipped = [axis for axis, sign in enumerate(signs) if sign < 0]
    corner = np.array([grid.shape[i] - 1 if i in flipped else 0 for i in range(3)], dtype=float)
    direction = [tuple(float(signs[i] * v) for v in grid.direction[i]) for i in order]
    image = Grid(
        tuple(grid.shape[i] for i in order),  # type: ignore[arg-type]
        tuple(grid.spacing_mm[i] for i in order),  # type: ignore[arg-type]
        grid.position_mm(corner),
        tuple(direction),  # type: ignore[arg-type]
    )
    return image, np.flip(mask, flipped).transpose(order)


def test_a_segmentation_of_a_part_of_the_slices(tmp_path: Path) -> None:
    longer = Grid((11, *GRID.shape[1:]), GRID.spacing_mm, GRID.position_mm(np.array([-3.0, 0.0, 0.0])))
    mask = blob(6)
    segment = only(write_seg(tmp_path / "seg.dcm", {"a": mask}, GRID))
    expected = np.zeros(longer.shape, bool)
    expected[3:9] = mask
    assert np.array_equal(segment_mask(segment, longer), expected)
    # The image may also be the shorter one, as long as no voxel is lost.
    inner = Grid((3, *GRID.shape[1:]), GRID.spacing_mm, GRID.position_mm(np.array([1.0, 0.0, 0.0])))
    inside = only(write_seg(tmp_path / "inside.dcm", {"a": blob(6, empty=(0, 4, 5))}, GRID))
    assert np.array_equal(segment_mask(inside, inner), blob(6, empty=(0, 4, 5))[1:4])
    with pytest.raises(SegmentationFileError, match="leaves the image"):
        segment_mask(segment, inner)


def test_slices_off_the_regular_grid_go_to_the_nearest_within_the_tolerance(tmp_path: Path) -> None:
    def shift(mm: float) -> Callable[[Dataset], None]:
        def edit(dataset: Dataset) -> None:
            position = dataset.PerFrameFunctionalGroupsSequence[1].PlanePositionSequence[0]
            position.ImagePositionPatient[2] += mm

        return edit

    mask = blob(7, empty=())
    near = only(write_seg(tmp_path / "near.dcm", {"a": mask}, GRID, edit=shift(0.9)))
    assert np.array_equal(segment_mask(near, GRID), mask)
    far = only(write_seg(tmp_path / "far.dcm", {"a": mask}, GRID, edit=shift(1.1)))
    with pytest.raises(SegmentationFileError, match="fall between the voxels"):
        segment_mask(far, GRID)


def moved(grid: Grid, z: float = 0.0, x: float = 0.0) -> Grid:
    """Shifted by parts of a voxel."""
    return replace(grid, origin_mm=grid.position_mm(np.array([z, 0.0, x])))


@pytest.mark.parametrize(
    ("image", "fragment"),
    [
        (moved(GRID, z=0.5), "fall between the voxels"),
        (moved(GRID, x=0.3), "fall between the voxels"),
        (replace(GRID, spacing_mm=(2.0, 3.0, 2.5), shape=(12, 7, 5)), "further apart than those of the image"),
        (replace(GRID, spacing_mm=(4.0, 3.0, 5.0)), "turned against each other or differ in voxel size"),
        (grid_of(ORIENTATIONS["coronal"], GRID.shape), "fall between"),
        (replace(GRID, spacing_mm=(4.0, 3.0, 2.7)), "fall between the voxels"),
        (replace(GRID, spacing_mm=(8.0, 3.0, 2.5)), "fall between the voxels"),
        (grid_of(ORIENTATIONS["oblique"]), "turned or of another voxel size"),
        (moved(GRID, z=40.0), "leaves the image"),
    ],
)
def test_other_voxels_are_refused(tmp_path: Path, image: Grid, fragment: str) -> None:
    path = write_seg(tmp_path / "seg.dcm", {"kidney": blob(8, empty=())}, GRID)
    with pytest.raises(SegmentationFileError) as caught:
        segment_mask(only(path), image)
    assert fragment in caught.value.sentence
    assert "segment 1 (kidney)" in caught.value.sentence
    assert str(path) in caught.value.sentence


def test_the_step_of_sparse_frames_is_the_declared_one(tmp_path: Path) -> None:
    """Two slices far from each other say nothing of the step; a wrong thickness is outvoted by neighbours."""
    far_apart = blob(1, empty=(1, 2, 3, 4))
    assert only(write_seg(tmp_path / "a.dcm", {"a": far_apart}, GRID)).planes[0].spacing_mm[0] == 4.0

    def thick(dataset: Dataset) -> None:
        measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
        del measures.SpacingBetweenSlices
        measures.SliceThickness = 10

    assert only(write_seg(tmp_path / "b.dcm", {"a": blob(1)}, GRID, edit=thick)).planes[0].spacing_mm[
        0
    ] == pytest.approx(4.0)


# Round trip with the writer of virtual patients -------------------------------------------------------


def test_what_the_simulator_writes_is_read_voxel_by_voxel(tmp_path: Path) -> None:
    uids = write_virtual_ct(tmp_path / "ct", np.zeros(SAMPLE_GRID.shape, np.float32), SAMPLE_GRID, VISIT, SAMPLE_START)
    masks = [
        blob(seed, SAMPLE_GRID.shape, empty=empty) for seed, empty in ((1, (0, 7)), (2, (3,)), (3, tuple(range(7))))
    ]
    virtual = [
        VirtualSegment("Kidney R", "64033007", "Kidney", masks[0], laterality="right"),
        VirtualSegment("Kidney L", "64033007", "Kidney", masks[1], laterality="left"),
        VirtualSegment("Lesion 1", "52988006", "Lesion", masks[2], is_lesion=True),
    ]
    write_virtual_seg(tmp_path / "seg.dcm", virtual, SAMPLE_GRID, VISIT, uids)
    ct = read_ct(tmp_path / "ct")
    found = read_segments(tmp_path / "seg.dcm")
    assert len(found) == len(virtual)
    for segment, written in zip(found, virtual, strict=True):
        assert np.array_equal(segment_mask(segment, ct.grid), written.mask)
        assert (segment.name, segment.laterality) == (written.name, written.laterality)
        assert segment.code == Code(written.sct_code, "SCT", written.meaning)
        assert segment.frame_of_reference_uid == ct.provenance.frame_of_reference_uid
        assert segment.referenced_series_uids == (ct.provenance.series_uid,)


# Refusals ---------------------------------------------------------------------------------------


def _slide(dataset: Dataset) -> None:
    dataset.ImageOrientationSlide = [0, -1, 0, -1, 0, 0]


def _no_position(dataset: Dataset) -> None:
    del dataset.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence


def _no_orientation(dataset: Dataset) -> None:
    del dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence


def _empty_spacing(dataset: Dataset) -> None:
    put(dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0], PixelSpacing=None)


def _no_step(dataset: Dataset) -> None:
    measures = dataset.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    del measures.SpacingBetweenSlices, measures.SliceThickness
    for frame in dataset.PerFrameFunctionalGroupsSequence:
        frame.PlanePositionSequence[0].ImagePositionPatient = [0, 0, 0]


def _skewed(dataset: Dataset) -> None:
    orientation = dataset.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence[0]
    orientation.ImageOrientationPatient = [1, 0, 0, 0.5, 1, 0]


def _unknown_segment(dataset: Dataset) -> None:
    dataset.PerFrameFunctionalGroupsSequence[0].SegmentIdentificationSequence[0].ReferencedSegmentNumber = 9


def _twice(dataset: Dataset) -> None:
    frames = dataset.PerFrameFunctionalGroupsSequence
    frames[1].PlanePositionSequence = frames[0].PlanePositionSequence


def _same_number(dataset: Dataset) -> None:
    dataset.SegmentSequence.append(dataset.SegmentSequence[0])


def _frame_count(dataset: Dataset) -> None:
    dataset.NumberOfFrames = 2


def _unknown_type(dataset: Dataset) -> None:
    dataset.SegmentationType = "PROBABILISTIC"


@pytest.mark.parametrize(
    ("edit", "kind", "fragment"),
    [
        (_slide, ModalityError, "ImageOrientationSlide (0048,0102)"),
        (_no_position, SegmentationFileError, "PlanePositionSequence (0020,9113)"),
        (_no_orientation, SegmentationFileError, "PlaneOrientationSequence (0020,9116)"),
        (_empty_spacing, TagMissingError, "PixelSpacing (0028,0030)"),
        (_no_step, SegmentationFileError, "SpacingBetweenSlices (0018,0088)"),
        (_skewed, GeometryError, "ImageOrientationPatient (0020,0037)"),
        (_unknown_segment, SegmentationFileError, "found 9"),
        (_twice, SegmentationFileError, "two frames at one place"),
        (_same_number, SegmentationFileError, "SegmentNumber (0062,0004)"),
        (_frame_count, SegmentationFileError, "NumberOfFrames (0028,0008)"),
        (_unknown_type, SegmentationFileError, "SegmentationType (0062,0001)"),
    ],
)
def test_malformed_files_are_refused(
    tmp_path: Path, edit: Callable[[Dataset], None], kind: type[DoseledgerError], fragment: str
) -> None:
    path = write_seg(tmp_path / "seg.dcm", {"a": blob(1)}, GRID, edit=edit)
    with pytest.raises(kind) as caught:
        read_segments(path)
    assert fragment in caught.value.sentence
    assert str(path) in caught.value.sentence


def test_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModalityError, match="expected 'SEG'"):
        read_segments(write_ct(tmp_path / "ct")[0])
    for name in ("a.dcm", "b.dcm"):
        write_seg(tmp_path / "two" / name, {"a": blob(1)}, GRID)
    with pytest.raises(MixedSeriesError, match=r"a.dcm and b.dcm"):
        read_segments(tmp_path / "two")


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = write_seg(tmp_path / "seg.dcm", {"a": blob(1), "b": blob(2)}, GRID)
    whole = path.read_bytes()
    for length in [*range(0, len(whole), 97), len(whole) - 1, len(whole) - 2, len(whole) - 20]:
        path.write_bytes(whole[:length])
        with pytest.raises((FileUnreadableError, ModalityError, SegmentationFileError, TagMissingError)) as caught:
            read_segments(path)
        assert str(path) in caught.value.sentence


# Placing ----------------------------------------------------------------------------------------


def test_the_tolerance_of_placing_holds_at_the_farthest_corner() -> None:
    source = Grid((1, 1, 101), (1.0, 1.0, 1.0), (0.0, 0.0, 0.0))
    mask: Any = np.zeros(source.shape, bool)
    mask[0, 0, ::3] = True
    # The rounding is decided in the middle, so that each end is off by half of what has added up.
    for factor, fits in ((1.8, True), (2.2, False)):
        target = replace(source, spacing_mm=(1.0, 1.0, 1.0 + factor * PLACE_TOLERANCE / 100))
        target = replace(target, origin_mm=(-factor * PLACE_TOLERANCE / 2, 0.0, 0.0))
        if fits:
            assert np.array_equal(place_on(mask, source, target), mask)
        else:
            with pytest.raises(GeometryError, match="fall between"):
                place_on(mask, source, target)
