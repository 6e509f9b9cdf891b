"""NM reconstructions: each value at its place, whatever the order, the sign and the place of the tags."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from pydicom.dataset import Dataset
from pydicom.tag import Tag

from doseledger.activity import Calibration
from doseledger.errors import (
    DoseledgerError,
    FileUnreadableError,
    GeometryError,
    MixedSeriesError,
    ModalityError,
    SlicesMissingError,
    TagMissingError,
)
from doseledger.io.dicom import read_spect
from doseledger.io.draft import draft_scans
from doseledger.io.index import index_folders

from .dicom_factory import ORIENTATIONS, ORIGIN_MM, centres, field, grid_of, put
from .nm_factory import SLICE_VECTOR, Edit, add_mapping, frames_of, set_frames, write_nm_image

SCALE = 30.0
#: Stored counts are whole: half a count, and the decay within the scan (0.09 %).
ROUNDING = 0.51 * SCALE


def _in_bq(edit: Edit | None = None) -> Edit:
    """The scale as it stands in some headers: nowhere but in the real-world value mapping."""

    def both(dataset: Dataset) -> None:
        add_mapping(dataset, SCALE)
        if edit:
            edit(dataset)

    return both


@pytest.mark.parametrize("upwards", [True, False])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_each_value_is_at_its_position(tmp_path: Path, name: str, upwards: bool) -> None:
    path = write_nm_image(tmp_path / "nm.dcm", orientation=ORIENTATIONS[name], upwards=upwards, edit=_in_bq())
    image = read_spect(path)
    assert image.grid.same_as(grid_of(ORIENTATIONS[name]))
    assert image.array_bq_per_ml.dtype == np.float32
    expected = SCALE * field(centres(image.grid)) * image.provenance.decay_factor_applied
    assert np.allclose(image.array_bq_per_ml, expected, rtol=0, atol=ROUNDING)
    assert image.provenance.flags == ()


@pytest.mark.parametrize("upwards", [True, False])
@pytest.mark.parametrize("name", ORIENTATIONS)
def test_left_and_head_are_found_by_position(tmp_path: Path, name: str, upwards: bool) -> None:
    def hot_spot(dataset: Dataset) -> None:
        frames = np.zeros_like(frames_of(dataset))
        # The fourth frame, the second row, the seventh column.
        frames[3, 1, 6] = 1000
        set_frames(dataset, frames)

    orientation = ORIENTATIONS[name]
    path = write_nm_image(tmp_path / "nm.dcm", orientation=orientation, upwards=upwards, edit=_in_bq(hot_spot))
    image = read_spect(path)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    normal, origin = np.cross(row, column), np.array(ORIGIN_MM)
    # The formula of the standard from the position of the first frame, with the sign of the spacing.
    first, step = (origin, 4.0) if upwards else (origin + 16.0 * normal, -4.0)
    expected = first + 3 * step * normal + 6 * 2.5 * row + 1 * 3.0 * column
    index = np.round(image.grid.index(expected[None])[0]).astype(int)
    assert image.array_bq_per_ml[tuple(index)] == pytest.approx(30_000.0, rel=2e-3)
    assert np.count_nonzero(image.array_bq_per_ml) == 1


@pytest.mark.parametrize("upwards", [True, False])
@pytest.mark.parametrize("name", ["axial", "axial_turned_half", "coronal"])
def test_simpleitk_sees_the_same_places(tmp_path: Path, name: str, upwards: bool) -> None:
    """It reads counts for activity, but the geometry of a single window right, also with a negative spacing."""
    path = write_nm_image(tmp_path / "nm.dcm", orientation=ORIENTATIONS[name], upwards=upwards, edit=_in_bq())
    image = read_spect(path)
    other = SimpleITK.ReadImage(str(path))
    factor = SCALE * image.provenance.decay_factor_applied
    for index in ((0, 0, 0), (4, 5, 7), (1, 2, 6)):
        there = other.TransformPhysicalPointToIndex(image.grid.position_mm(np.array(index, dtype=float)))
        assert other[there] * factor == pytest.approx(float(image.array_bq_per_ml[index]), rel=1e-6)


def _also_at_the_top(dataset: Dataset) -> None:
    detector = dataset.DetectorInformationSequence[0]
    dataset.ImagePositionPatient = detector.ImagePositionPatient
    dataset.ImageOrientationPatient = detector.ImageOrientationPatient


def _only_at_the_top(dataset: Dataset) -> None:
    _also_at_the_top(dataset)
    del dataset.DetectorInformationSequence


def _two_detectors(shift_mm: float, orientation: list[float] | None = None) -> Edit:
    def edit(dataset: Dataset) -> None:
        first = dataset.DetectorInformationSequence[0]
        second = Dataset()
        x, y, z = (float(v) for v in first.ImagePositionPatient)
        second.ImagePositionPatient = [x + shift_mm, y, z]
        second.ImageOrientationPatient = orientation or list(first.ImageOrientationPatient)
        dataset.DetectorInformationSequence = [first, second]
        dataset.NumberOfDetectors = 2

    return edit


def _reversed_frames(dataset: Dataset) -> None:
    set_frames(dataset, frames_of(dataset)[::-1])
    dataset.SliceVector = list(dataset.SliceVector)[::-1]


def _shuffled_frames(dataset: Dataset) -> None:
    order = [2, 0, 4, 1, 3]
    set_frames(dataset, frames_of(dataset)[order])
    dataset.SliceVector = [slice_index + 1 for slice_index in order]


def _without(*keywords: str) -> Edit:
    def edit(dataset: Dataset) -> None:
        for keyword in keywords:
            delattr(dataset, keyword)

    return edit


def _set(**values: object) -> Edit:
    return lambda dataset: put(dataset, **values)


@pytest.mark.parametrize(
    ("edit", "flags"),
    [
        (_also_at_the_top, ()),
        (_only_at_the_top, ()),
        (_two_detectors(0.0), ()),
        (_two_detectors(270.0), ("detector_positions_conflict",)),
        (_reversed_frames, ("frames_not_in_order_of_slices",)),
        (_shuffled_frames, ("frames_not_in_order_of_slices",)),
        (_without("SpacingBetweenSlices"), ("spacing_from_thickness",)),
        (_without("SliceThickness"), ()),
        (_set(SliceThickness=8.0), ("slices_thicker_than_step",)),
        (_set(SliceThickness=2.0), ("slices_thinner_than_step",)),
        (_without("SliceVector"), ("slice_vector_missing",)),
        (_without("FrameIncrementPointer", "NumberOfSlices"), ()),
        (_set(DetectorVector=[1] * 5, RotationVector=[1] * 5), ()),
    ],
)
def test_oddities_that_leave_the_geometry_clear_are_read(tmp_path: Path, edit: Edit, flags: tuple[str, ...]) -> None:
    image = read_spect(write_nm_image(tmp_path / "nm.dcm", edit=_in_bq(edit)))
    assert image.grid.same_as(grid_of())
    expected = SCALE * field(centres(image.grid)) * image.provenance.decay_factor_applied
    assert np.allclose(image.array_bq_per_ml, expected, rtol=0, atol=ROUNDING)
    assert image.provenance.flags == flags


def _detector(**values: object) -> Edit:
    return lambda dataset: put(dataset.DetectorInformationSequence[0], **values)


def _time_slots(dataset: Dataset) -> None:
    dataset.FrameIncrementPointer = [Tag(0x0054, 0x0070), SLICE_VECTOR]
    dataset.TimeSlotVector = [1] * 5


def _six_frames_of_five_slices(dataset: Dataset) -> None:
    frames = frames_of(dataset)
    set_frames(dataset, np.concatenate([frames, frames[:1]]))
    dataset.SliceVector = [1, 2, 3, 4, 5, 1]


def _one_slice(dataset: Dataset) -> None:
    set_frames(dataset, frames_of(dataset)[:1])
    dataset.SliceVector, dataset.NumberOfSlices = 1, 1


@pytest.mark.parametrize(
    ("edit", "error", "fragments"),
    [
        (
            _without("SpacingBetweenSlices", "SliceThickness"),
            TagMissingError,
            ["neither", "SpacingBetweenSlices (0018,0088)", "SliceThickness (0018,0050)"],
        ),
        (_set(SpacingBetweenSlices=0.0), GeometryError, ["SpacingBetweenSlices (0018,0088)"]),
        (_detector(ImagePositionPatient=None), TagMissingError, ["ImagePositionPatient (0020,0032)"]),
        (_detector(ImageOrientationPatient=None), TagMissingError, ["ImageOrientationPatient (0020,0037)"]),
        (_without("DetectorInformationSequence"), TagMissingError, ["ImageOrientationPatient (0020,0037)"]),
        (_detector(ImageOrientationPatient=[1, 0, 0, 0.1, 1, 0]), GeometryError, ["not orthonormal"]),
        (_two_detectors(0.0, [-1, 0, 0, 0, -1, 0]), GeometryError, ["contradict", "ImageOrientationPatient"]),
        (_without("PixelSpacing"), TagMissingError, ["PixelSpacing (0028,0030)"]),
        (_without("NumberOfFrames"), TagMissingError, ["NumberOfFrames (0028,0008)"]),
        (_set(SliceVector=[1, 2, 3, 4]), GeometryError, ["SliceVector (0054,0080)", "4 numbers", "5 frames"]),
        (_set(SliceVector=[1, 2, 3, 3, 5]), SlicesMissingError, ["1 slice(s) missing, the first is number 4"]),
        (_set(SliceVector=[0, 1, 2, 3, 4], NumberOfSlices=4), GeometryError, ["SliceVector (0054,0080)"]),
        (_set(NumberOfSlices=6), SlicesMissingError, ["SliceVector (0054,0080)", "number 6"]),
        (_six_frames_of_five_slices, GeometryError, ["each slice must be there once", "6 frames"]),
        (_one_slice, GeometryError, ["not one volume"]),
        (_set(ImageType=["ORIGINAL", "PRIMARY", "RECON GATED TOMO", "EMISSION"]), ModalityError, ["GATED", "ungated"]),
        (_set(ImageType=["ORIGINAL", "PRIMARY", "STATIC", "EMISSION"]), ModalityError, ["ImageType (0008,0008)"]),
        (_set(ImageType=["ORIGINAL", "PRIMARY", "DYNAMIC", "EMISSION"]), ModalityError, ["ImageType (0008,0008)"]),
        (_set(ImageType=["ORIGINAL", "PRIMARY", "TOMO", "EMISSION"]), ModalityError, ["reconstruction"]),
        (_set(ImageType=["DERIVED", "PRIMARY", "RECON TOMO", "TRANSMISSION"]), ModalityError, ["emission"]),
        (_set(ImageType=["ORIGINAL", "PRIMARY"]), ModalityError, ["ImageType (0008,0008)"]),
        (_time_slots, ModalityError, ["FrameIncrementPointer (0028,0009)", "TimeSlotVector"]),
        (_set(DetectorVector=[1, 1, 1, 2, 2]), ModalityError, ["DetectorVector (0054,0020)"]),
        (_set(RotationVector=[1, 1, 1, 2, 2]), ModalityError, ["RotationVector (0054,0050)"]),
        (_set(BitsAllocated=8), FileUnreadableError, ["nm.dcm"]),
    ],
)
def test_what_leaves_the_geometry_unclear_is_refused(
    tmp_path: Path, edit: Edit, error: type[DoseledgerError], fragments: list[str]
) -> None:
    path = write_nm_image(tmp_path / "nm.dcm", edit=_in_bq(edit))
    with pytest.raises(error) as caught:
        read_spect(path)
    for fragment in [*fragments, str(path)]:
        assert fragment in caught.value.sentence


def test_negative_values_of_a_reconstruction_are_kept(tmp_path: Path) -> None:
    def lowered(dataset: Dataset) -> None:
        set_frames(dataset, frames_of(dataset).astype(int) - 3000)

    image = read_spect(write_nm_image(tmp_path / "nm.dcm", edit=_in_bq(lowered)))
    expected = SCALE * (field(centres(image.grid)) - 3000.0) * image.provenance.decay_factor_applied
    assert image.array_bq_per_ml.min() < -30_000.0
    assert np.allclose(image.array_bq_per_ml, expected, rtol=0, atol=ROUNDING)


def test_unsigned_values_above_the_signed_range_are_read(tmp_path: Path) -> None:
    def unsigned(dataset: Dataset) -> None:
        dataset.PixelRepresentation = 0
        dataset.PixelData = (frames_of(dataset).astype("<u2") + 40_000).tobytes()

    image = read_spect(write_nm_image(tmp_path / "nm.dcm", edit=_in_bq(unsigned)))
    assert image.array_bq_per_ml.min() > 40_000.0 * SCALE


def test_the_provenance_tells_what_the_header_says(tmp_path: Path) -> None:
    image = read_spect(write_nm_image(tmp_path / "nm.dcm", edit=_in_bq()))
    found = image.provenance
    assert (found.patient_id, found.modality, found.n_files) == ("SITE-0042", "NM", 1)
    assert (found.collimator, found.energy_window_kev) == ("MEGP PARA", "187.2-228.8")
    assert (found.header_nuclide, found.radiopharmaceutical) == ("Lu-177", "177Lu-DOTATATE")
    # MBq in NM headers, and a time without a date.
    assert found.injected_activity_mbq == pytest.approx(7400.0)
    assert (found.injection_datetime, str(found.injection_time)) == (None, "08:00:00")
    assert (image.decay_state, found.calibration) == ("scan_start", None)


def test_a_folder_with_one_image_is_read_and_one_with_two_refused(tmp_path: Path) -> None:
    first = write_nm_image(tmp_path / "a.dcm", edit=_in_bq())
    assert np.array_equal(read_spect(tmp_path).array_bq_per_ml, read_spect(first).array_bq_per_ml)
    write_nm_image(tmp_path / "b.dcm", edit=_in_bq())
    with pytest.raises(MixedSeriesError, match=r"a\.dcm and b\.dcm"):
        read_spect(tmp_path)
    rows, (unplaced,) = draft_scans(index_folders([tmp_path]), tmp_path)
    assert rows == []
    assert "several NM images" in unplaced["reason"]


def test_a_file_cut_anywhere_is_refused(tmp_path: Path) -> None:
    path = write_nm_image(tmp_path / "nm.dcm", edit=_in_bq())
    whole = path.read_bytes()
    # Odd steps, so that cuts fall into tags, lengths, values, items and pixels.
    for length in [*range(0, len(whole), 29), len(whole) - 1]:
        path.write_bytes(whole[:length])
        with pytest.raises(FileUnreadableError) as caught:
            read_spect(path)
        assert str(path) in caught.value.sentence


def test_the_calibration_of_the_site_leaves_images_in_bq_per_ml_alone(tmp_path: Path) -> None:
    path = write_nm_image(tmp_path / "nm.dcm", edit=_in_bq())
    calibration = Calibration(9.2, "system", "cylinder", date(2024, 1, 1), detectors=1)
    alone, beside = read_spect(path), read_spect(path, calibration=calibration)
    assert np.array_equal(alone.array_bq_per_ml, beside.array_bq_per_ml)
    assert alone.provenance == beside.provenance
