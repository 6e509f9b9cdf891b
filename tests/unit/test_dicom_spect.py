"""PET series in Bq/mL: geometry, scale, decay state, times, provenance."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from doseledger.errors import (
    DoseledgerError,
    ModalityError,
    QuantityError,
    TagMissingError,
    TimeError,
    UnitError,
)
from doseledger.io.dicom import read_spect

from .dicom_factory import ORIENTATIONS, SHAPE, centres, field, grid_of, put, write_pet

#: Stored values are whole numbers of up to 0.09 Bq/mL: half a step, and float32.
ROUNDING = 0.05


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_each_value_is_at_its_position(tmp_path: Path, name: str) -> None:
    write_pet(tmp_path, orientation=ORIENTATIONS[name])
    image = read_spect(tmp_path)
    assert image.grid.same_as(grid_of(ORIENTATIONS[name]))
    assert image.array_bq_per_ml.shape == SHAPE
    assert image.array_bq_per_ml.dtype == np.float32
    assert np.allclose(image.array_bq_per_ml, field(centres(image.grid)), rtol=0, atol=ROUNDING)


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_left_and_head_are_found_by_position(tmp_path: Path, name: str) -> None:
    def hot_spot(dataset: Dataset, z: int) -> None:
        stored = np.zeros(SHAPE[1:], "<u2")
        if z == 3:
            stored[1, 6] = 1000
        dataset.PixelData = stored.tobytes()

    orientation = ORIENTATIONS[name]
    write_pet(tmp_path, orientation=orientation, edit=hot_spot)
    image = read_spect(tmp_path)
    row, column = np.array(orientation[:3]), np.array(orientation[3:])
    # The spot's place by the formula of the standard: position + columns and rows along their cosines.
    expected = np.array([-12.5, 20.0, -300.0]) + 3 * 4.0 * np.cross(row, column) + 6 * 2.5 * row + 1 * 3.0 * column
    index = np.round(image.grid.index(expected[None])[0]).astype(int)
    assert image.array_bq_per_ml[tuple(index)] == pytest.approx(1000 * 0.08)
    assert np.count_nonzero(image.array_bq_per_ml) == 1


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_simpleitk_sees_the_same_image(tmp_path: Path, name: str) -> None:
    write_pet(tmp_path, orientation=ORIENTATIONS[name])
    image = read_spect(tmp_path)
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(tmp_path)))
    other = reader.Execute()
    for index in ((0, 0, 0), (4, 5, 7), (1, 2, 6)):
        position = image.grid.position_mm(np.array(index, dtype=float))
        there = other.TransformPhysicalPointToIndex(position)
        assert other[there] == pytest.approx(float(image.array_bq_per_ml[index]), abs=1e-3)


def test_a_folder_a_list_and_any_order_are_the_same(tmp_path: Path) -> None:
    paths = write_pet(tmp_path)
    by_folder, by_list = read_spect(tmp_path), read_spect(paths[::-1])
    assert np.array_equal(by_folder.array_bq_per_ml, by_list.array_bq_per_ml)
    assert by_folder.provenance == by_list.provenance


def test_the_provenance_tells_what_the_header_says(tmp_path: Path) -> None:
    write_pet(tmp_path)
    image = read_spect(tmp_path)
    assert image.scan_start == datetime(2024, 1, 2, 10, 0, 0, 250000)
    assert image.decay_state == "scan_start"
    found = image.provenance
    assert (found.patient_id, found.modality, found.unit, found.n_files) == ("SITE-0042", "PT", "BQML", 5)
    assert found.unit_source == "Units (0054,1001)"
    assert found.energy_window_kev == "187.2-228.8"
    assert found.collimator == "PARA"
    assert found.reconstruction == "OSEM"
    assert found.injection_datetime == datetime(2024, 1, 2, 8)
    assert found.injected_activity_mbq == pytest.approx(7400.0)
    assert found.header_half_life_h == pytest.approx(574300 / 3600)
    assert found.radiopharmaceutical == "177Lu-DOTATATE"
    assert found.corrections == ("ATTN", "DECY")
    assert (found.patient_mass_kg, found.patient_height_m, found.patient_sex) == (70.0, 1.7, "F")
    assert found.duration_s == 1500.0
    assert found.flags == ()


def test_negative_values_of_a_reconstruction_are_kept(tmp_path: Path) -> None:
    write_pet(tmp_path, edit=lambda d, z: setattr(d, "RescaleIntercept", -5000))
    image = read_spect(tmp_path)
    assert np.allclose(image.array_bq_per_ml, field(centres(image.grid)) - 5000, rtol=0, atol=ROUNDING)


# Decay ------------------------------------------------------------------------------------------


def _decay(correction: str, **drug: object) -> Callable[[Dataset, int], None]:
    def edit(dataset: Dataset, z: int) -> None:
        dataset.DecayCorrection = correction
        dataset.CorrectedImage = ["ATTN"] if correction == "NONE" else ["ATTN", "DECY"]
        put(dataset.RadiopharmaceuticalInformationSequence[0], **drug)

    return edit


def test_values_corrected_to_the_start_are_kept(tmp_path: Path) -> None:
    write_pet(tmp_path, edit=_decay("START"))
    assert read_spect(tmp_path).provenance.decay_factor_applied == 1.0


def test_the_mean_over_the_scan_becomes_the_activity_at_its_start(tmp_path: Path) -> None:
    # A half-life as long as the scan: the mean is 1/(2 ln 2) of the start, so the factor is 2 ln 2.
    write_pet(tmp_path, edit=_decay("NONE", RadionuclideHalfLife=1500))
    image = read_spect(tmp_path)
    assert image.provenance.decay_factor_applied == pytest.approx(2 * log(2), rel=1e-12)
    assert np.allclose(image.array_bq_per_ml, 2 * log(2) * field(centres(image.grid)), rtol=0, atol=2 * ROUNDING)


def test_the_correction_to_the_injection_is_undone(tmp_path: Path) -> None:
    # 7200.25 s after the injection, of a nuclide with a half-life of two hours.
    write_pet(tmp_path, edit=_decay("ADMIN", RadionuclideHalfLife=7200))
    image = read_spect(tmp_path)
    assert image.provenance.decay_correction_in_header == "ADMIN"
    assert image.provenance.decay_factor_applied == pytest.approx(exp(-log(2) * 7200.25 / 7200), rel=1e-12)
    expected = 0.5 ** (7200.25 / 7200) * field(centres(image.grid))
    assert np.allclose(image.array_bq_per_ml, expected, rtol=0, atol=ROUNDING)


def test_an_injection_the_day_before_is_not_folded_into_one_day(tmp_path: Path) -> None:
    write_pet(tmp_path, edit=_decay("ADMIN", RadiopharmaceuticalStartDateTime="20240101100000.25"))
    factor = read_spect(tmp_path).provenance.decay_factor_applied
    assert factor == pytest.approx(exp(-log(2) * 86400 / 574300), rel=1e-12)


def test_an_offset_from_utc_is_taken_into_account(tmp_path: Path) -> None:
    def edit(dataset: Dataset, z: int) -> None:
        _decay("ADMIN", RadiopharmaceuticalStartDateTime="20240102070000.00+0000")(dataset, z)
        dataset.TimezoneOffsetFromUTC = "+0100"

    write_pet(tmp_path, edit=edit)
    assert read_spect(tmp_path).provenance.injection_datetime == datetime(2024, 1, 2, 8)


def _without(*keywords: str) -> Callable[[Dataset, int], None]:
    def edit(dataset: Dataset, z: int) -> None:
        for keyword in keywords:
            delattr(dataset, keyword)

    return edit


def _drug_without(correction: str, keyword: str) -> Callable[[Dataset, int], None]:
    def edit(dataset: Dataset, z: int) -> None:
        _decay(correction)(dataset, z)
        delattr(dataset.RadiopharmaceuticalInformationSequence[0], keyword)

    return edit


def _admin_with_time_only(dataset: Dataset, z: int) -> None:
    _drug_without("ADMIN", "RadiopharmaceuticalStartDateTime")(dataset, z)
    dataset.RadiopharmaceuticalInformationSequence[0].RadiopharmaceuticalStartTime = "080000"


def _none_without_duration(dataset: Dataset, z: int) -> None:
    _decay("NONE")(dataset, z)
    del dataset.ActualFrameDuration


def _two_drugs(dataset: Dataset, z: int) -> None:
    dataset.RadiopharmaceuticalInformationSequence = [*dataset.RadiopharmaceuticalInformationSequence, Dataset()]


def _set(**values: object) -> Callable[[Dataset, int], None]:
    def edit(dataset: Dataset, z: int) -> None:
        put(dataset, **values)

    return edit


def _slice_2(**values: object) -> Callable[[Dataset, int], None]:
    def edit(dataset: Dataset, z: int) -> None:
        if z == 2:
            _set(**values)(dataset, z)

    return edit


@pytest.mark.parametrize(
    ("edit", "error", "fragments"),
    [
        (_set(Units="GML"), UnitError, ["Units (0054,1001)", "'GML'", "BQML"]),
        (_set(Units="CNTS"), UnitError, ["Units (0054,1001)", "'CNTS'", "BQML"]),
        (_without("Units"), UnitError, ["Units (0054,1001)"]),
        (_without("DecayCorrection"), TagMissingError, ["DecayCorrection (0054,1102)"]),
        (_set(DecayCorrection="MAYBE"), TagMissingError, ["DecayCorrection (0054,1102)", "'MAYBE'"]),
        (_drug_without("ADMIN", "RadionuclideHalfLife"), TagMissingError, ["RadionuclideHalfLife (0018,1075)"]),
        (_drug_without("NONE", "RadionuclideHalfLife"), TagMissingError, ["RadionuclideHalfLife (0018,1075)"]),
        (_admin_with_time_only, TagMissingError, ["RadiopharmaceuticalStartDateTime (0018,1078)"]),
        (_none_without_duration, TagMissingError, ["ActualFrameDuration (0018,1242)"]),
        (_decay("ADMIN", RadionuclideHalfLife=0), QuantityError, ["RadionuclideHalfLife (0018,1075)"]),
        (
            _decay("ADMIN", RadiopharmaceuticalStartDateTime="20240102110000"),
            TimeError,
            ["RadiopharmaceuticalStartDateTime (0018,1078)", "after the scan"],
        ),
        (
            _decay("ADMIN", RadiopharmaceuticalStartDateTime="20240102080000+0100"),
            TimeError,
            ["RadiopharmaceuticalStartDateTime (0018,1078)", "UTC"],
        ),
        (_decay("ADMIN", RadiopharmaceuticalStartDateTime="20240102"), TimeError, ["(0018,1078)"]),
        (_two_drugs, ModalityError, ["RadiopharmaceuticalInformationSequence (0054,0016)"]),
        (_set(AcquisitionTime="10"), TimeError, ["AcquisitionTime (0008,0032)", "20240102 10"]),
        (_set(AcquisitionTime="106099"), TimeError, ["AcquisitionTime (0008,0032)"]),
        (_without("AcquisitionTime", "SeriesTime"), TimeError, ["AcquisitionTime (0008,0032)"]),
        (_slice_2(AcquisitionTime="100200"), TimeError, ["several times", "AcquisitionTime (0008,0032)", "3_2.dcm"]),
        (_slice_2(ActualFrameDuration=1), TimeError, ["several times", "ActualFrameDuration (0018,1242)"]),
        (_set(ActualFrameDuration=0), QuantityError, ["ActualFrameDuration (0018,1242)"]),
        (_slice_2(RescaleSlope=None), TagMissingError, ["RescaleSlope (0028,1053)", "3_2.dcm"]),
        (_slice_2(RescaleSlope="NaN"), QuantityError, ["RescaleSlope (0028,1053)", "3_2.dcm"]),
        (_slice_2(RescaleSlope=0), QuantityError, ["RescaleSlope (0028,1053)", "3_2.dcm"]),
        (_set(SOPClassUID="1.2.840.10008.5.1.4.1.1.130"), ModalityError, ["SOPClassUID (0008,0016)", "one slice per"]),
    ],
)
def test_a_header_that_cannot_be_trusted_is_refused(
    tmp_path: Path, edit: Callable[[Dataset, int], None], error: type[DoseledgerError], fragments: list[str]
) -> None:
    write_pet(tmp_path, edit=edit)
    with pytest.raises(error) as caught:
        read_spect(tmp_path)
    for fragment in [*fragments, str(tmp_path)]:
        assert fragment in caught.value.sentence


@pytest.mark.parametrize(
    ("edit", "flags"),
    [
        (_without("AcquisitionDate"), ("scan_start_from_series_time",)),
        (_set(SeriesTime="183000"), ("series_and_acquisition_time_differ",)),
        (_set(CorrectedImage=["ATTN"]), ("corrected_image_contradicts_decay_correction",)),
        (_set(DecayCorrection="NONE"), ("corrected_image_contradicts_decay_correction",)),
        (_set(NumberOfSlices=4), ("more_slices_than_declared",)),
        (_without("RadiopharmaceuticalInformationSequence"), ("radiopharmaceutical_missing",)),
        (_without("ActualFrameDuration"), ("duration_missing",)),
        (_without("PatientID", "SeriesInstanceUID"), ("patient_id_missing", "series_uid_missing")),
        (_without("FrameOfReferenceUID"), ("frame_of_reference_missing",)),
        (_set(SliceThickness=2.0), ("slices_thinner_than_step",)),
        (_decay("START", RadionuclideTotalDose=7400), ("injected_activity_implausible",)),
        (_decay("START", RadiopharmaceuticalStartDateTime="20240102110000"), ("injection_after_scan",)),
    ],
)
def test_what_a_reader_should_know_is_a_flag(
    tmp_path: Path, edit: Callable[[Dataset, int], None], flags: tuple[str, ...]
) -> None:
    write_pet(tmp_path, edit=edit)
    image = read_spect(tmp_path)
    assert image.provenance.flags == flags
    # StudyTime is 07:00 of another day and must never be the time of the scan.
    assert image.scan_start == datetime(2024, 1, 2, 10, 0, 0, 250000)


# Counts of Philips --------------------------------------------------------------------------------


def _philips(
    factor: object, *, other: object = None, creator: str = "Philips PET Private Group"
) -> Callable[[Dataset, int], None]:
    def edit(dataset: Dataset, z: int) -> None:
        put(dataset, Units="CNTS", RescaleSlope=f"{float(dataset.RescaleSlope) / 4.5:.12g}")
        block = dataset.private_block(0x7053, creator, create=True)
        block.add_new(0x00, "DS", "0.000123")
        block.add_new(0x09, "LO", other if other is not None and z == 2 else factor)

    return edit


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian])
def test_counts_are_read_with_the_private_factor_of_philips(tmp_path: Path, syntax: str) -> None:
    for path in write_pet(tmp_path, edit=_philips("4.5")):
        dataset = dcmread(path)
        dataset.file_meta.TransferSyntaxUID = syntax
        dataset.save_as(path, implicit_vr=syntax == ImplicitVRLittleEndian, little_endian=True)
    image = read_spect(tmp_path)
    assert np.allclose(image.array_bq_per_ml, field(centres(image.grid)), rtol=1e-4)
    assert (image.provenance.unit, image.provenance.flags) == ("CNTS", ("scaled_by_private_factor",))
    assert "7053" in image.provenance.unit_source


@pytest.mark.parametrize(
    ("edit", "error"),
    [
        (_philips("0"), UnitError),
        (_philips("4.5", other="4.4"), UnitError),
        (_philips("4.5", creator="Somebody Else"), UnitError),
        (_philips("about 4.5"), QuantityError),
    ],
)
def test_counts_without_one_usable_factor_are_refused(
    tmp_path: Path, edit: Callable[[Dataset, int], None], error: type[DoseledgerError]
) -> None:
    write_pet(tmp_path, edit=edit)
    with pytest.raises(error, match="7053"):
        read_spect(tmp_path)
