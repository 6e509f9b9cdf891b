"""Bed positions: every one scanned at its own time, one image at one time."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from doseledger.activity import Calibration
from doseledger.errors import DoseledgerError, GeometryError, MixedSeriesError, SlicesMissingError, TimeError
from doseledger.io.dicom import read_spect
from doseledger.nuclides import nuclide

from .dicom_factory import ORIGIN_MM, SPACING_ZYX_MM, Edit, centres, field, grid_of, put, write_pet
from .nm_factory import add_mapping, set_frames, write_nm_image

#: As in the factory's headers, s.
HALF_LIFE_S = 574_300.0
LAMBDA = log(2.0) / HALF_LIFE_S
#: 25 min per bed, the second one starts half an hour after the first.
DURATION_S, LATER_S = 1500.0, 1800.0
MEAN_TO_START = LAMBDA * DURATION_S / (1.0 - exp(-LAMBDA * DURATION_S))
DECAYED = exp(-LAMBDA * LATER_S)


# One PET series ---------------------------------------------------------------------------------


def _beds(correction: str, *, stored: tuple[float, float], factors: tuple[float, float] | None = None) -> Edit:
    """Slices 0 and 1 half an hour after slices 2 to 4, and what was stored of the true activity at 10:00."""

    def edit(dataset: Dataset, z: int) -> None:
        second = z < 2
        put(dataset, DecayCorrection=correction, CorrectedImage=["ATTN"] if correction == "NONE" else ["ATTN", "DECY"])
        put(dataset, AcquisitionTime="103000.25" if second else "100000.25")
        put(dataset, RescaleSlope=float(dataset.RescaleSlope) * stored[second])
        if factors:
            put(dataset, DecayFactor=f"{factors[second]:.6g}")

    return edit


@pytest.mark.parametrize(
    ("correction", "stored", "factors"),
    [
        ("NONE", (1 / MEAN_TO_START, DECAYED / MEAN_TO_START), None),
        ("NONE", (1 / MEAN_TO_START, DECAYED / MEAN_TO_START), (1.0, 1.0)),
        # Corrected to the start of the first bed: the factor of the second holds the half hour.
        ("START", (1.0, 1.0), (MEAN_TO_START, MEAN_TO_START / DECAYED)),
        # Each to its own start.
        ("START", (1.0, DECAYED), (MEAN_TO_START, MEAN_TO_START)),
        # To the injection at 08:00.
        ("ADMIN", (exp(LAMBDA * 7200.25), exp(LAMBDA * 7200.25)), None),
    ],
)
def test_the_beds_of_a_series_refer_to_the_start_of_the_first(
    tmp_path: Path, correction: str, stored: tuple[float, float], factors: tuple[float, float] | None
) -> None:
    write_pet(tmp_path, edit=_beds(correction, stored=stored, factors=factors))
    image = read_spect(tmp_path)
    # Forgetting the half hour of one bed would be 0.22 %, rounding of the stored values is 0.003 %.
    assert np.allclose(image.array_bq_per_ml, field(centres(image.grid)), rtol=1e-4)
    assert image.scan_start == datetime(2024, 1, 2, 10, 0, 0, 250000)
    assert "several_beds" in image.provenance.flags
    assert "bed_decay_reference_assumed" not in image.provenance.flags
    # To the end of the second bed.
    assert image.provenance.duration_s == LATER_S + DURATION_S


def test_a_small_doubt_of_the_reference_is_flagged_and_a_large_one_refused(tmp_path: Path) -> None:
    write_pet(tmp_path / "lutetium", edit=_beds("START", stored=(1.0, 1.0)))
    image = read_spect(tmp_path / "lutetium")
    assert "bed_decay_reference_assumed" in image.provenance.flags

    def short_lived(dataset: Dataset, z: int) -> None:
        _beds("START", stored=(1.0, 1.0))(dataset, z)
        put(dataset.RadiopharmaceuticalInformationSequence[0], RadionuclideHalfLife=21_624)

    write_pet(tmp_path / "technetium", edit=short_lived)
    with pytest.raises(TimeError, match=r"each to its own.*DecayFactor \(0054,1321\)"):
        read_spect(tmp_path / "technetium")


def test_a_factor_that_fits_neither_meaning_is_refused(tmp_path: Path) -> None:
    def edit(dataset: Dataset, z: int) -> None:
        _beds("START", stored=(1.0, 1.0), factors=(1.0, 1.02))(dataset, z)
        put(dataset.RadiopharmaceuticalInformationSequence[0], RadionuclideHalfLife=21_624)

    write_pet(tmp_path, edit=edit)
    with pytest.raises(TimeError, match=r"DecayFactor \(0054,1321\)"):
        read_spect(tmp_path)


def test_beds_of_several_times_need_a_half_life(tmp_path: Path) -> None:
    def edit(dataset: Dataset, z: int) -> None:
        _beds("START", stored=(1.0, 1.0))(dataset, z)
        del dataset.RadiopharmaceuticalInformationSequence[0].RadionuclideHalfLife

    write_pet(tmp_path, edit=edit)
    with pytest.raises(TimeError, match=r"RadionuclideHalfLife \(0018,1075\)"):
        read_spect(tmp_path)


# Several images ---------------------------------------------------------------------------------


def _nm_bed(
    number: int, *, slices: float, time: str, activity: float = 1.0, more: Callable[[Dataset], None] | None = None
) -> Callable[[Dataset], None]:
    """A bed so many slices further up, with what `field` says there at 10:00 times `activity`."""

    def edit(dataset: Dataset) -> None:
        put(dataset, SeriesInstanceUID=f"1.2.{number}", SOPInstanceUID=f"1.2.3.{number}", AcquisitionTime=time)
        put(dataset, SeriesTime=time, ContentTime="120000")
        up_mm = slices * SPACING_ZYX_MM[0]
        position = [*ORIGIN_MM[:2], ORIGIN_MM[2] + up_mm]
        put(dataset.DetectorInformationSequence[0], ImagePositionPatient=position)
        # The field rises by 3 per mm to the head.
        set_frames(dataset, np.rint((field(centres(grid_of())) + 3.0 * up_mm) * activity * 5.0))
        add_mapping(dataset, 0.2)
        if more:
            more(dataset)

    return edit


def _image_of(tmp_path: Path, *edits: Callable[[Dataset], None]) -> Path:
    for i, edit in enumerate(edits):
        write_nm_image(tmp_path / f"{'bac'[i]}.dcm", edit=edit)
    return tmp_path


SECOND = DECAYED / MEAN_TO_START


@pytest.mark.parametrize(("slices", "n"), [(3.0, 8), (5.0, 10), (2.5, 7), (3.4, 8)])
@pytest.mark.parametrize("upper_first", [True, False])
def test_beds_of_several_nm_images_become_one(tmp_path: Path, slices: float, n: int, upper_first: bool) -> None:
    times = ("103000", "100000") if upper_first else ("100000", "103000")
    shares = (SECOND, 1 / MEAN_TO_START) if upper_first else (1 / MEAN_TO_START, SECOND)
    lower = _nm_bed(1, slices=0.0, time=times[0], activity=shares[0])
    upper = _nm_bed(2, slices=slices, time=times[1], activity=shares[1])
    image = read_spect(_image_of(tmp_path, lower, upper), nuclide=nuclide("Lu-177"))
    assert image.grid.shape[0] == n
    assert image.grid.origin_mm == ORIGIN_MM
    # A field that is linear along the normal is its own interpolation.
    assert np.allclose(image.array_bq_per_ml, field(centres(image.grid)), rtol=1e-4)
    assert image.scan_start == datetime(2024, 1, 2, 10)
    assert image.provenance.n_files == 2
    assert image.provenance.duration_s == LATER_S + DURATION_S
    flags = image.provenance.flags
    assert ("several_beds" in flags, "beds_interpolated" in flags) == (True, slices != round(slices))


def test_three_beds_and_a_camera_that_counts(tmp_path: Path) -> None:
    def counts(dataset: Dataset) -> None:
        del dataset.RealWorldValueMappingSequence

    calibration = Calibration(9.2, "system", "cylinder", date(2023, 12, 1), detectors=2)
    beds = [
        _nm_bed(i, slices=3.0 * i, time=f"10{30 * i:02d}00" if i < 2 else "110000", activity=DECAYED**i, more=counts)
        for i in range(3)
    ]
    image = read_spect(_image_of(tmp_path, *beds), calibration=calibration, nuclide=nuclide("Lu-177"))
    unit = 5.0 * 1e6 / (DURATION_S * 9.2 * image.grid.voxel_volume_ml) * MEAN_TO_START
    assert image.grid.shape[0] == 11
    assert np.allclose(image.array_bq_per_ml, field(centres(image.grid)) * unit, rtol=2e-4)


def test_the_weights_fall_linearly_to_the_ends_of_the_beds(tmp_path: Path) -> None:
    # The upper bed reads twice as much: over the two slices that they share its share is 1/4, then 3/4.
    lower = _nm_bed(1, slices=0.0, time="100000")
    upper = _nm_bed(2, slices=3.0, time="100000", activity=2.0)
    image = read_spect(_image_of(tmp_path, lower, upper), nuclide=nuclide("Lu-177"))
    ratio = image.array_bq_per_ml / (field(centres(image.grid)) * MEAN_TO_START)
    expected = np.array([1.0, 1.0, 1.0, 1.25, 1.75, 2.0, 2.0, 2.0])
    assert np.allclose(ratio, expected[:, None, None], rtol=1e-4)
    # One camera cannot be at two places at once.
    assert "beds_of_equal_time" in image.provenance.flags


def _put_detector(**values: object) -> Callable[[Dataset], None]:
    return lambda dataset: put(dataset.DetectorInformationSequence[0], **values)


def _put(**values: object) -> Callable[[Dataset], None]:
    return lambda dataset: put(dataset, **values)


@pytest.mark.parametrize(
    ("slices", "more", "error", "fragment"),
    [
        (6.5, None, SlicesMissingError, "gap of 1.5 slices"),
        (0.0, None, MixedSeriesError, "more than one image of the same place"),
        (2.0, None, MixedSeriesError, "more than one image of the same place"),
        (3.0, _put_detector(ImageOrientationPatient=[-1, 0, 0, 0, -1, 0]), GeometryError, "turned"),
        (3.0, _put_detector(ImagePositionPatient=[-12.0, 20.0, -288.0]), GeometryError, "sideways by 0.50 mm"),
        (3.0, _put(SpacingBetweenSlices=4.1), GeometryError, "other voxels"),
        (3.0, _put(FrameOfReferenceUID="1.2.9"), MixedSeriesError, "FrameOfReferenceUID (0020,0052)"),
        (3.0, _put(PatientID="SITE-0043"), MixedSeriesError, "two patients"),
        (3.0, _put(CorrectedImage=["ATTN"]), MixedSeriesError, "CorrectedImage (0028,0051)"),
    ],
)
def test_images_that_are_no_beds_of_each_other_are_refused(
    tmp_path: Path,
    slices: float,
    more: Callable[[Dataset], None] | None,
    error: type[DoseledgerError],
    fragment: str,
) -> None:
    lower = _nm_bed(1, slices=0.0, time="100000")
    upper = _nm_bed(2, slices=slices, time="103000", more=more)
    with pytest.raises(error) as caught:
        read_spect(_image_of(tmp_path, lower, upper), nuclide=nuclide("Lu-177"))
    for text in (fragment, "a.dcm", "b.dcm", str(tmp_path)):
        assert text in caught.value.sentence


def test_beds_need_a_common_frame_of_reference(tmp_path: Path) -> None:
    beds = [_nm_bed(i, slices=3.0 * i, time="100000", more=_put(FrameOfReferenceUID=None)) for i in range(2)]
    with pytest.raises(MixedSeriesError, match="no common frame of reference"):
        read_spect(_image_of(tmp_path, *beds), nuclide=nuclide("Lu-177"))


def test_beds_of_several_pet_series_become_one(tmp_path: Path) -> None:
    def upper(dataset: Dataset, z: int) -> None:
        put(dataset, SeriesInstanceUID="1.2.3", AcquisitionTime="103000.25", SeriesTime="103000.25")
        x, y, height = (float(v) for v in dataset.ImagePositionPatient)
        put(dataset, ImagePositionPatient=[x, y, height + 4 * SPACING_ZYX_MM[0]])
        # Four slices up the field is 48 larger; half an hour later it is smaller.
        put(dataset, RescaleIntercept=48 * DECAYED, RescaleSlope=f"{float(dataset.RescaleSlope) * DECAYED:.12g}")

    write_pet(tmp_path)
    for path in write_pet(tmp_path / "other", edit=upper):
        path.rename(tmp_path / f"upper_{path.name}")
    image = read_spect(tmp_path)
    assert image.grid.shape[0] == 9
    assert np.allclose(image.array_bq_per_ml, field(centres(image.grid)), rtol=1e-4)
    assert image.provenance.n_files == 10
