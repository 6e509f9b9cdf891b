"""What the stored values of NM images mean: declared scales, energy windows, counts with a calibration."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from math import exp
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from doseledger.activity import Calibration, paralysable_factor
from doseledger.errors import DoseledgerError, EnergyWindowError, QuantityError, TagMissingError, UnitError
from doseledger.io.dicom import SpectImage, read_spect
from doseledger.io.dicom.decay import averaged_to_start_factor
from doseledger.io.dicom.tracer import named_nuclides
from doseledger.nuclides import nuclide

from .dicom_factory import SPACING_ZYX_MM, centres, field, put
from .nm_factory import PHOTOPEAK, SCATTER, WALL_CLOCK_S, Edit, add_mapping, frames_of, set_frames, write_nm_image

CALIBRATION = Calibration(9.2, "system", "cylinder", date(2023, 12, 3), detectors=2)
#: Decay of 177Lu within the scan.
TO_START = averaged_to_start_factor(159.528, WALL_CLOCK_S)
VOXEL_ML = float(np.prod(SPACING_ZYX_MM)) / 1000.0
BQ_PER_ML_PER_COUNT = 1e6 / (WALL_CLOCK_S * 9.2 * VOXEL_ML)
#: 113 keV of 177Lu, keV.
LOWER_PEAK = (101.6, 124.2)


def counts_in(image: SpectImage) -> np.ndarray:
    return np.rint(field(centres(image.grid)))


def _rescaled(slope: float, **declaration: object) -> Edit:
    return lambda dataset: put(dataset, RescaleSlope=slope, RescaleIntercept=0, **declaration)


def _mapped(*mappings: tuple[float, str], **more: object) -> Edit:
    def edit(dataset: Dataset) -> None:
        for slope, unit in mappings:
            add_mapping(dataset, slope, unit, **more)

    return edit


def _both(*edits: Edit) -> Edit:
    def edit(dataset: Dataset) -> None:
        for one in edits:
            one(dataset)

    return edit


# Scale ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("edit", "bq_per_ml", "source", "flags"),
    [
        (_mapped((30.0, "Bq/ml")), 30.0, "RealWorldValueMappingSequence (0040,9096)", ()),
        (_mapped((0.03, "kBq/ml")), 30.0, "RealWorldValueMappingSequence", ()),
        (_mapped((30.0, "Bq/ml"), (30.0, "Bq/ml")), 30.0, "RealWorldValueMappingSequence", ()),
        # An SUV beside it is another quantity of the same image.
        (_mapped((2.0, "g/ml{SUVbw}"), (30.0, "Bq/ml")), 30.0, "RealWorldValueMappingSequence", ()),
        (_rescaled(30.0, Units="BQML"), 30.0, "RescaleSlope (0028,1053), Units (0054,1001)", ()),
        (_rescaled(30.0, RescaleType="BQML"), 30.0, "RescaleSlope (0028,1053), RescaleType (0028,1054)", ()),
        (_rescaled(30.0, RescaleType="US", Units="BQML"), 30.0, "Units (0054,1001)", ()),
        (
            _both(_mapped((30.0, "Bq/ml")), _rescaled(7.0, Units="BQML")),
            30.0,
            "RealWorldValueMappingSequence",
            ("rescale_differs_from_real_world_value",),
        ),
        (_both(_mapped((30.0, "Bq/ml")), _rescaled(30.0, Units="BQML")), 30.0, "RealWorldValueMappingSequence", ()),
        (_both(_mapped((2.0, "g/ml")), _rescaled(30.0, Units="BQML")), 30.0, "RescaleSlope", ()),
        # Signed limits written as unsigned ones say nothing.
        (
            _mapped((30.0, "Bq/ml"), RealWorldValueFirstValueMapped=32768, RealWorldValueLastValueMapped=32767),
            30.0,
            "RealWorldValueMappingSequence",
            (),
        ),
    ],
)
def test_the_scale_is_the_first_that_is_declared(
    tmp_path: Path, edit: Edit, bq_per_ml: float, source: str, flags: tuple[str, ...]
) -> None:
    image = read_spect(write_nm_image(tmp_path / "nm.dcm", edit=edit), calibration=CALIBRATION)
    assert np.allclose(image.array_bq_per_ml, counts_in(image) * bq_per_ml * TO_START, rtol=1e-6)
    assert source in image.provenance.unit_source
    assert image.provenance.calibration is None
    assert image.provenance.flags == flags


def test_the_intercept_of_a_mapping_is_added(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        add_mapping(dataset, 0.5, "kBq/ml", RealWorldValueIntercept=-100.0)

    image = read_spect(write_nm_image(tmp_path / "nm.dcm", edit=edit))
    assert np.allclose(image.array_bq_per_ml, (counts_in(image) * 0.5 - 100.0) * 1e3 * TO_START, rtol=1e-6)


def _lookup_table(dataset: Dataset) -> None:
    add_mapping(dataset, 1.0)
    del dataset.RealWorldValueMappingSequence[0].RealWorldValueSlope


def _other_scheme(dataset: Dataset) -> None:
    add_mapping(dataset, 30.0)
    dataset.RealWorldValueMappingSequence[0].MeasurementUnitsCodeSequence[0].CodingSchemeDesignator = "99LOCAL"


@pytest.mark.parametrize(
    ("edit", "error", "fragments"),
    [
        (_mapped((30.0, "Bq/ml"), (31.0, "Bq/ml")), UnitError, ["several scales"]),
        (_mapped((2.0, "g/ml{SUVbw}")), UnitError, ["RealWorldValueMappingSequence (0040,9096)", "g/ml{SUVbw}"]),
        (_other_scheme, UnitError, ["RealWorldValueMappingSequence (0040,9096)"]),
        (_mapped((0.0, "Bq/ml")), TagMissingError, ["RealWorldValueSlope (0040,9225)"]),
        (_lookup_table, TagMissingError, ["RealWorldValueSlope (0040,9225)"]),
        (
            _mapped((30.0, "Bq/ml"), RealWorldValueFirstValueMapped=0, RealWorldValueLastValueMapped=1100),
            UnitError,
            ["does not hold for all values", "0 to 1100"],
        ),
        (_rescaled(30.0), UnitError, ["a scale but no unit", "RescaleSlope (0028,1053)"]),
        (_rescaled(30.0, Units="GML"), UnitError, ["Units (0054,1001)", "'GML'"]),
        (_rescaled(30.0, RescaleType="SUV"), UnitError, ["RescaleType (0028,1054)", "'SUV'"]),
        (_rescaled(30.0, Units="BQML", RescaleType="SUV"), UnitError, ["two units"]),
        (_rescaled(-30.0, Units="BQML"), QuantityError, ["RescaleSlope (0028,1053)"]),
        (lambda d: put(d, Units="BQML"), TagMissingError, ["RescaleSlope (0028,1053)"]),
        (lambda d: put(d, Units="PROPCPS"), UnitError, ["'PROPCPS'"]),
    ],
)
def test_a_scale_that_cannot_be_trusted_is_refused(
    tmp_path: Path, edit: Edit, error: type[DoseledgerError], fragments: list[str]
) -> None:
    path = write_nm_image(tmp_path / "nm.dcm", edit=edit)
    with pytest.raises(error) as caught:
        read_spect(path, calibration=CALIBRATION)
    for fragment in [*fragments, str(path)]:
        assert fragment in caught.value.sentence


# Counts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "edit",
    [
        None,
        _rescaled(1.0),
        lambda d: put(d, Units="CNTS"),
        _both(_mapped((1.0, "{counts}"))),
    ],
)
def test_counts_become_activity_with_the_sensitivity_of_the_site(tmp_path: Path, edit: Edit | None) -> None:
    image = read_spect(write_nm_image(tmp_path / "nm.dcm", edit=edit), calibration=CALIBRATION)
    assert np.allclose(image.array_bq_per_ml, counts_in(image) * BQ_PER_ML_PER_COUNT * TO_START, rtol=1e-6)
    applied = image.provenance.calibration
    assert applied is not None
    assert (applied.sensitivity_cps_per_mbq, applied.basis, applied.geometry) == (9.2, "system", "cylinder")
    assert (applied.counting_s, applied.age_days, applied.dead_time_factor) == (1500.0, 30, None)
    assert image.provenance.decay_factor_applied == pytest.approx(TO_START, rel=1e-12)
    assert image.provenance.flags == ()


def test_the_oracle_of_the_reference(tmp_path: Path) -> None:
    """100 counts, 96 views of 15 s, 9.2 cps/MBq, 4.8 mm: 68 253.66 Bq/mL, the mean over the scan."""

    def edit(dataset: Dataset) -> None:
        set_frames(dataset, np.full_like(frames_of(dataset), 100))
        dataset.PixelSpacing, dataset.SpacingBetweenSlices = [4.8, 4.8], 4.8
        rotation = dataset.RotationInformationSequence[0]
        rotation.NumberOfFramesInRotation, rotation.ActualFrameDuration, rotation.ScanArc = 96, 15_000, 360

    calibration = replace(CALIBRATION, detectors=1)
    image = read_spect(write_nm_image(tmp_path / "nm.dcm", edit=edit), calibration=calibration)
    mean = image.array_bq_per_ml / image.provenance.decay_factor_applied
    assert mean == pytest.approx(68_253.66, abs=0.01)


def test_counts_with_a_scale_are_scaled_first(tmp_path: Path) -> None:
    edit = _rescaled(0.25, Units="CNTS")
    image = read_spect(write_nm_image(tmp_path / "nm.dcm", edit=edit), calibration=CALIBRATION)
    assert np.allclose(image.array_bq_per_ml, counts_in(image) * 0.25 * BQ_PER_ML_PER_COUNT * TO_START, rtol=1e-6)


def test_counts_without_a_sensitivity_are_refused(tmp_path: Path) -> None:
    path = write_nm_image(tmp_path / "nm.dcm")
    with pytest.raises(UnitError, match=r"sensitivity of the camera is not given .*nm\.dcm"):
        read_spect(path)


@pytest.mark.parametrize(
    ("day", "flags"),
    [
        (date(2023, 1, 1), ()),
        (date(2022, 12, 31), ("calibration_older_than_a_year",)),
        (date(2024, 1, 3), ("calibrated_after_the_scan",)),
    ],
)
def test_the_age_of_the_calibration_is_known(tmp_path: Path, day: date, flags: tuple[str, ...]) -> None:
    image = read_spect(write_nm_image(tmp_path / "nm.dcm"), calibration=replace(CALIBRATION, date=day))
    assert image.provenance.flags == flags


# Dead time --------------------------------------------------------------------------------------


def _events(count: int) -> Edit:
    return lambda dataset: put(dataset, CountsAccumulated=count)


def test_dead_time_is_corrected_by_the_rate_of_one_detector(tmp_path: Path) -> None:
    # Two detectors of 300 000 cps each over 1500 s.
    path = write_nm_image(tmp_path / "nm.dcm", edit=_events(900_000_000))
    plain = read_spect(path, calibration=CALIBRATION)
    corrected = read_spect(path, calibration=replace(CALIBRATION, dead_time_us=0.19))
    factor = paralysable_factor(300_000.0, dead_time_us=0.19)
    # True rate n with n exp(-n tau) = 300 000 cps.
    assert 300_000.0 * factor * exp(-300_000.0 * factor * 0.19e-6) == pytest.approx(300_000.0, rel=1e-9)
    assert corrected.provenance.calibration is not None
    assert corrected.provenance.calibration.dead_time_factor == pytest.approx(factor, rel=1e-12)
    assert np.allclose(corrected.array_bq_per_ml, factor * plain.array_bq_per_ml, rtol=1e-6)


def test_no_dead_time_is_no_correction(tmp_path: Path) -> None:
    image = read_spect(write_nm_image(tmp_path / "nm.dcm"), calibration=replace(CALIBRATION, dead_time_us=0.0))
    assert image.provenance.calibration is not None
    assert image.provenance.calibration.dead_time_factor is None


def test_a_dead_time_without_the_events_of_the_camera_is_refused(tmp_path: Path) -> None:
    calibration = replace(CALIBRATION, dead_time_us=0.19)

    def sum_of_the_voxels(dataset: Dataset) -> None:
        put(dataset, CountsAccumulated=int(frames_of(dataset).astype(int).sum()))

    for edit in (None, _events(0), sum_of_the_voxels):
        with pytest.raises(TagMissingError, match=r"CountsAccumulated \(0018,0070\)"):
            read_spect(write_nm_image(tmp_path / "nm.dcm", edit=edit), calibration=calibration)
    with pytest.raises(QuantityError, match="dead_time_us"):
        read_spect(
            write_nm_image(tmp_path / "nm.dcm", edit=lambda d: put(d, CountsAccumulated=2**31 - 1)),
            calibration=replace(calibration, dead_time_us=0.6),
        )


# Energy windows ---------------------------------------------------------------------------------


@pytest.mark.parametrize("windows", [(PHOTOPEAK, SCATTER), (SCATTER, PHOTOPEAK)])
def test_the_photopeak_is_chosen_and_never_stacked(tmp_path: Path, windows: list[tuple[float, float]]) -> None:
    image = read_spect(write_nm_image(tmp_path / "nm.dcm", windows=windows, upwards=False), calibration=CALIBRATION)
    assert image.array_bq_per_ml.shape == (5, 6, 8)
    assert np.allclose(image.array_bq_per_ml, counts_in(image) * BQ_PER_ML_PER_COUNT * TO_START, rtol=1e-6)
    assert image.provenance.energy_window_kev == "187.2-228.8"


def test_the_declared_window_decides_between_two_photopeaks(tmp_path: Path) -> None:
    path = write_nm_image(tmp_path / "nm.dcm", windows=(LOWER_PEAK, PHOTOPEAK), edit=lambda d: None)
    with pytest.raises(EnergyWindowError, match=r"several energy windows .*photopeak of Lu-177.*101\.6-124\.2"):
        read_spect(path, calibration=CALIBRATION)
    image = read_spect(path, calibration=replace(CALIBRATION, energy_window_kev=(187.0, 229.0)))
    assert image.provenance.energy_window_kev == "187.2-228.8"
    image = read_spect(path, calibration=replace(CALIBRATION, energy_window_kev=(102.0, 124.0)))
    assert image.provenance.energy_window_kev == "101.6-124.2"
    with pytest.raises(EnergyWindowError, match="no energy window of the image sees 140-200 keV"):
        read_spect(path, calibration=replace(CALIBRATION, energy_window_kev=(140.0, 200.0)))


def test_the_nuclide_of_the_treatment_outweighs_that_of_the_header(tmp_path: Path) -> None:
    """Protocols of the camera often keep the nuclide of another study in the header."""

    def technetium(dataset: Dataset) -> None:
        drug = dataset.RadiopharmaceuticalInformationSequence[0]
        drug.Radiopharmaceutical = "MDP"
        drug.RadionuclideCodeSequence[0].CodeMeaning = "^99m^Technetium"

    path = write_nm_image(tmp_path / "nm.dcm", windows=(PHOTOPEAK, SCATTER), edit=technetium)
    with pytest.raises(EnergyWindowError, match=r"no energy window .*Tc-99m"):
        read_spect(path, calibration=CALIBRATION)
    image = read_spect(path, calibration=CALIBRATION, nuclide=nuclide("Lu-177"))
    assert image.provenance.header_nuclide == "Tc-99m"
    assert image.provenance.decay_factor_applied == pytest.approx(TO_START, rel=1e-12)


def _two_windows_of_one_image(dataset: Dataset) -> None:
    """As most makers write it: the windows of the acquisition, and one image corrected with them."""
    frames = frames_of(dataset)
    set_frames(dataset, frames[: len(frames) // 2])
    dataset.SliceVector = list(dataset.SliceVector)[: len(frames) // 2]
    del dataset.EnergyWindowVector


def test_one_image_of_two_windows_is_that_of_the_photopeak(tmp_path: Path) -> None:
    path = write_nm_image(tmp_path / "nm.dcm", windows=(SCATTER, PHOTOPEAK), edit=_both(_two_windows_of_one_image))
    image = read_spect(path, calibration=CALIBRATION)
    assert image.provenance.energy_window_kev == "187.2-228.8"
    assert image.provenance.flags == ("energy_window_of_frames_not_stated",)


def test_one_image_of_two_photopeaks_is_read_only_in_bq_per_ml(tmp_path: Path) -> None:
    windows = (LOWER_PEAK, PHOTOPEAK)
    path = write_nm_image(tmp_path / "nm.dcm", windows=windows, edit=_two_windows_of_one_image)
    with pytest.raises(EnergyWindowError, match="several energy windows"):
        read_spect(path, calibration=CALIBRATION)
    edit = _both(_two_windows_of_one_image, _mapped((30.0, "Bq/ml")))
    image = read_spect(write_nm_image(tmp_path / "nm.dcm", windows=windows, edit=edit))
    assert image.provenance.energy_window_kev == "101.6-124.2, 187.2-228.8"


def _without_limits(dataset: Dataset) -> None:
    for window in dataset.EnergyWindowInformationSequence:
        del window.EnergyWindowRangeSequence


def _one_window_without_limits(dataset: Dataset) -> None:
    del dataset.EnergyWindowInformationSequence[1].EnergyWindowRangeSequence


def _unknown_drug(dataset: Dataset) -> None:
    del dataset.RadiopharmaceuticalInformationSequence


@pytest.mark.parametrize(
    ("windows", "edit", "fragments"),
    [
        ((SCATTER,), None, ["no energy window of the image sees a photopeak of Lu-177", "166.4-187.2"]),
        (((126.0, 154.0),), None, ["no energy window"]),
        (((126.0, 154.0),), _mapped((30.0, "Bq/ml")), ["no energy window"]),
        ((PHOTOPEAK, SCATTER), _without_limits, ["limits of all energy windows"]),
        ((PHOTOPEAK, SCATTER), _one_window_without_limits, ["EnergyWindowRangeSequence (0054,0013)"]),
        ((PHOTOPEAK, SCATTER), _unknown_drug, ["several energy windows", "unknown nuclide"]),
        ((PHOTOPEAK, PHOTOPEAK), None, ["several energy windows"]),
    ],
)
def test_an_unclear_window_is_refused(
    tmp_path: Path, windows: list[tuple[float, float]], edit: Edit | None, fragments: list[str]
) -> None:
    path = write_nm_image(tmp_path / "nm.dcm", windows=windows, edit=edit)
    with pytest.raises(EnergyWindowError) as caught:
        read_spect(path, calibration=CALIBRATION)
    for fragment in [*fragments, str(path), "energy_window_kev in cameras.tsv"]:
        assert fragment in caught.value.sentence


@pytest.mark.parametrize(
    ("name", "window", "readable"),
    [
        ("I-131", (328.0, 400.9), True),
        ("Tb-161", (67.2, 82.1), True),
        # Bremsstrahlung has no line: any window.
        ("Y-90", (105.0, 195.0), True),
        # 218 keV and 440 keV come from the daughters 221Fr and 213Bi.
        ("Ac-225", (396.0, 484.0), True),
        ("Ac-225", (300.0, 330.0), False),
        ("I-131", (187.2, 228.8), False),
    ],
)
def test_photopeaks_of_other_nuclides(tmp_path: Path, name: str, window: tuple[float, float], readable: bool) -> None:
    path = write_nm_image(tmp_path / "nm.dcm", windows=(window,))
    if readable:
        assert read_spect(path, calibration=CALIBRATION, nuclide=nuclide(name)).provenance.energy_window_kev
        return
    with pytest.raises(EnergyWindowError, match=name):
        read_spect(path, calibration=CALIBRATION, nuclide=nuclide(name))


def test_a_header_without_windows_is_read_with_a_flag(tmp_path: Path) -> None:
    path = write_nm_image(tmp_path / "nm.dcm", edit=_without_limits)
    image = read_spect(path, calibration=CALIBRATION)
    assert (image.provenance.energy_window_kev, image.provenance.flags) == (None, ("energy_window_missing",))


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("^177^Lutetium", {"Lu-177"}),
        ("Lutetium^177^ DOTATATE", {"Lu-177"}),
        ("[177Lu]Lu-PSMA-617", {"Lu-177"}),
        ("Lu177-DOTATATE", {"Lu-177"}),
        ("Lu-177", {"Lu-177"}),
        ("99mTc-MDP", {"Tc-99m"}),
        ("Technetium Tc 99m tetrofosmin", {"Tc-99m"}),
        ("I-131 and Lu 177", {"I-131", "Lu-177"}),
        ("PSMA I&T", set()),
        ("Study 177", set()),
        ("", set()),
    ],
)
def test_spellings_of_nuclides(text: str, names: set[str]) -> None:
    assert named_nuclides(text) == names
