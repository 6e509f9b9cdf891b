"""NM images: how long the camera looked, when, and the decay of what it saw."""

from __future__ import annotations

from dataclasses import replace
from datetime import date, datetime
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from doseledger.activity import Calibration
from doseledger.errors import (
    CrossCheckError,
    DoseledgerError,
    QuantityError,
    TagMissingError,
    TimeError,
)
from doseledger.io.dicom import SpectImage, read_spect
from doseledger.io.dicom.decay import averaged_to_start_factor

from .dicom_factory import put
from .nm_factory import Edit, add_mapping, write_nm_image

CALIBRATION = Calibration(9.2, "system", "cylinder", date(2023, 12, 3))
LU_HALF_LIFE_H = 159.528


def _rotation(arc: float | None, views: int, view_ms: int = 25_000, **more: object) -> Edit:
    def edit(dataset: Dataset) -> None:
        rotation = dataset.RotationInformationSequence[0]
        put(rotation, ScanArc=arc, NumberOfFramesInRotation=views, ActualFrameDuration=view_ms, AngularStep=None)
        put(dataset, **more)

    return edit


def _read(tmp_path: Path, edit: Edit | None, calibration: Calibration | None) -> SpectImage:
    return read_spect(write_nm_image(tmp_path / "nm.dcm", edit=edit), calibration=calibration)


def _in_bq(edit: Edit | None = None) -> Edit:
    def both(dataset: Dataset) -> None:
        add_mapping(dataset, 30.0)
        if edit:
            edit(dataset)

    return both


# Duration ---------------------------------------------------------------------------------------

POOLED = "views_counted_over_all_detectors"


@pytest.mark.parametrize(
    ("edit", "detectors", "basis", "wall_clock_s", "counting_s", "flags"),
    [
        # One detector all around.
        (_rotation(360, 60), 1, "system", 1500.0, 1500.0, ()),
        (_rotation(360, 60), 1, "detector", 1500.0, 1500.0, ()),
        # Two detectors over half a turn each, views counted per detector.
        (_rotation(180, 60, Manufacturer="SIEMENS NM"), 2, "system", 1500.0, 1500.0, ()),
        (_rotation(180, 60, Manufacturer="SIEMENS NM"), 2, "detector", 1500.0, 3000.0, ()),
        (_rotation(183, 60), 2, "system", 1500.0, 1500.0, ()),
        # Two detectors over half a turn each, all views counted together.
        (_rotation(360, 120, Manufacturer="GE MEDICAL SYSTEMS"), 2, "system", 1500.0, 1500.0, (POOLED,)),
        (_rotation(360, 120, Manufacturer="GE MEDICAL SYSTEMS"), 2, "detector", 1500.0, 3000.0, (POOLED,)),
        (_rotation(354, 120), 2, "system", 1500.0, 1500.0, (POOLED,)),
        (_rotation(120, 40), 3, "detector", 1000.0, 3000.0, ()),
        # Half a turn takes the same time for one detector and for two that are counted singly.
        (_rotation(180, 60), None, "system", 1500.0, 1500.0, ()),
    ],
)
def test_the_duration_follows_the_arc_and_the_number_of_detectors(
    tmp_path: Path,
    edit: Edit,
    detectors: int | None,
    basis: str,
    wall_clock_s: float,
    counting_s: float,
    flags: tuple[str, ...],
) -> None:
    calibration = replace(CALIBRATION, detectors=detectors, basis=basis)  # type: ignore[arg-type]
    image = _read(tmp_path, edit, calibration)
    assert image.provenance.duration_s == wall_clock_s
    assert image.provenance.calibration is not None
    assert image.provenance.calibration.counting_s == counting_s
    factor = averaged_to_start_factor(LU_HALF_LIFE_H, wall_clock_s)
    assert image.provenance.decay_factor_applied == pytest.approx(factor, rel=1e-9)
    assert image.provenance.flags == flags


def test_the_makers_ways_of_counting_give_the_same_activity(tmp_path: Path) -> None:
    """The same scan: 2 x 60 views of 25 s, as two makers describe it."""
    calibration = replace(CALIBRATION, detectors=2)
    one = _read(tmp_path, _rotation(180, 60, Manufacturer="SIEMENS"), calibration)
    other = _read(tmp_path, _rotation(360, 120, Manufacturer="GE MEDICAL SYSTEMS"), calibration)
    assert np.array_equal(one.array_bq_per_ml, other.array_bq_per_ml)


def test_the_step_between_views_replaces_a_missing_arc(tmp_path: Path) -> None:
    def edit(dataset: Dataset) -> None:
        put(dataset.RotationInformationSequence[0], ScanArc=None, AngularStep=3, NumberOfFramesInRotation=120)

    assert _read(tmp_path, edit, replace(CALIBRATION, detectors=2)).provenance.duration_s == 1500.0


def test_detectors_that_the_header_lists_need_not_be_declared(tmp_path: Path) -> None:
    image = _read(tmp_path, _rotation(360, 120, NumberOfDetectors=2), CALIBRATION)
    assert image.provenance.duration_s == 1500.0


def _no_rotation(dataset: Dataset) -> None:
    dataset.RotationInformationSequence = []


def _two_rotations(dataset: Dataset) -> None:
    dataset.RotationInformationSequence = [*dataset.RotationInformationSequence, Dataset()]


def _without_view_duration(dataset: Dataset) -> None:
    del dataset.RotationInformationSequence[0].ActualFrameDuration


@pytest.mark.parametrize(
    ("edit", "change", "error", "fragments"),
    [
        (_no_rotation, {}, TagMissingError, ["duration", "RotationInformationSequence (0054,0052)"]),
        (_without_view_duration, {}, TagMissingError, ["ActualFrameDuration (0018,1242)"]),
        (_two_rotations, {}, TimeError, ["several rotations", "RotationInformationSequence (0054,0052)"]),
        # Seconds where milliseconds belong.
        (_rotation(180, 60, 25), {}, QuantityError, ["60 views of 25 ms", "ActualFrameDuration (0018,1242)"]),
        (_rotation(180, 0), {}, QuantityError, ["ActualFrameDuration (0018,1242)"]),
        # A full turn: one detector, or two whose views were counted together?
        (_rotation(360, 120), {}, TagMissingError, ["NumberOfDetectors (0054,0021)", "column detectors"]),
        (_rotation(None, 120), {}, TagMissingError, ["column detectors"]),
        (_rotation(180, 60), {"basis": "detector"}, TagMissingError, ["column detectors"]),
        (_rotation(180, 60), {"dead_time_us": 0.2}, TagMissingError, ["column detectors"]),
        (_rotation(None, 120), {"detectors": 2}, TagMissingError, ["ScanArc (0018,1143)"]),
        (_rotation(270, 90), {"detectors": 2}, TimeError, ["do not fit the arc", "180 or 360 degrees"]),
        (_rotation(360, 121), {"detectors": 2}, TimeError, ["121 views of 2 detectors"]),
        (_rotation(360, 60, Manufacturer="SIEMENS NM"), {"detectors": 2}, TimeError, ["maker", "180 degrees"]),
        (_rotation(180, 60, Manufacturer="GE Medical Systems"), {"detectors": 2}, TimeError, ["maker", "360 degrees"]),
        (_rotation(180, 60, NumberOfDetectors=2), {"detectors": 1}, CrossCheckError, ["NumberOfDetectors (0054,0021)"]),
    ],
)
def test_a_duration_that_is_not_clear_is_refused(
    tmp_path: Path, edit: Edit, change: dict[str, object], error: type[DoseledgerError], fragments: list[str]
) -> None:
    calibration = replace(CALIBRATION, **change)  # type: ignore[arg-type]
    with pytest.raises(error) as caught:
        _read(tmp_path, edit, calibration)
    for fragment in [*fragments, "nm.dcm"]:
        assert fragment in caught.value.sentence


@pytest.mark.parametrize(
    ("edit", "flags"),
    [
        (_no_rotation, ("within_scan_decay_not_corrected", "duration_missing")),
        (_rotation(360, 60), ("duration_assumes_one_detector",)),
    ],
)
def test_images_in_bq_per_ml_do_not_hang_on_the_duration(tmp_path: Path, edit: Edit, flags: tuple[str, ...]) -> None:
    image = _read(tmp_path, _in_bq(edit), None)
    assert image.provenance.flags == flags
    assert image.provenance.decay_factor_applied == pytest.approx(1.0, abs=2e-3)


# Decay ------------------------------------------------------------------------------------------


def _decay(correction: str, **more: object) -> Edit:
    def edit(dataset: Dataset) -> None:
        add_mapping(dataset, 30.0)
        put(dataset, DecayCorrection=correction, CorrectedImage=["ATTN", "DECY"])
        put(dataset.RadiopharmaceuticalInformationSequence[0], **more)

    return edit


def test_a_silent_header_means_the_mean_over_the_scan(tmp_path: Path) -> None:
    image = _read(tmp_path, _in_bq(), None)
    assert image.provenance.decay_correction_in_header == "NONE"
    # 25 minutes of 177Lu: lambda T / (1 - exp(-lambda T)).
    decays = log(2.0) * 1500.0 / (LU_HALF_LIFE_H * 3600.0)
    assert image.provenance.decay_factor_applied == pytest.approx(decays / (1.0 - exp(-decays)), rel=1e-9)
    assert image.provenance.decay_factor_applied == pytest.approx(1.0009055, abs=5e-8)


def test_a_correction_to_the_start_is_kept(tmp_path: Path) -> None:
    assert _read(tmp_path, _decay("START"), None).provenance.decay_factor_applied == 1.0


def test_a_correction_to_the_injection_is_undone(tmp_path: Path) -> None:
    edit = _decay("ADMIN", RadiopharmaceuticalStartDateTime="20240101100000", RadionuclideHalfLife=574300)
    image = _read(tmp_path, edit, None)
    assert image.provenance.decay_factor_applied == pytest.approx(exp(-log(2.0) * 86400.0 / 574300.0), rel=1e-12)
    assert (image.provenance.injection_datetime, image.provenance.injection_time) == (datetime(2024, 1, 1, 10), None)


def _decayed_to_an_unknown_moment(dataset: Dataset) -> None:
    add_mapping(dataset, 30.0)
    dataset.CorrectedImage = ["ATTN", "DECY"]


def _no_time(dataset: Dataset) -> None:
    del dataset.AcquisitionTime
    del dataset.SeriesTime


def _injection_at(text: str) -> Edit:
    return lambda dataset: put(dataset.RadiopharmaceuticalInformationSequence[0], RadiopharmaceuticalStartTime=text)


@pytest.mark.parametrize(
    ("edit", "error", "tag"),
    [
        (_decayed_to_an_unknown_moment, TagMissingError, "DecayCorrection (0054,1102)"),
        (_decay("MAYBE"), TagMissingError, "DecayCorrection (0054,1102)"),
        # A time without a date is not completed by a guess.
        (_decay("ADMIN"), TagMissingError, "RadiopharmaceuticalStartDateTime (0018,1078)"),
        (_decay("ADMIN", RadiopharmaceuticalStartDateTime="20240103100000"), TimeError, "(0018,1078)"),
        (_in_bq(_no_time), TimeError, "AcquisitionTime (0008,0032)"),
        (_in_bq(_injection_at("25:00")), TimeError, "RadiopharmaceuticalStartTime (0018,1072)"),
        (_in_bq(_injection_at("08")), TimeError, "RadiopharmaceuticalStartTime (0018,1072)"),
    ],
)
def test_a_moment_that_is_not_known_is_refused(
    tmp_path: Path, edit: Edit, error: type[DoseledgerError], tag: str
) -> None:
    with pytest.raises(error) as caught:
        _read(tmp_path, edit, None)
    assert tag in caught.value.sentence
    assert "nm.dcm" in caught.value.sentence


@pytest.mark.parametrize(
    ("values", "flags"),
    [
        # The end of the scan written as its time: no image can exist before the scan is over.
        ({"ContentTime": "100000"}, ("acquisition_time_may_be_completion",)),
        ({"ContentTime": "102459"}, ("acquisition_time_may_be_completion",)),
        ({"ContentTime": "102500"}, ()),
        ({"ContentDate": None}, ()),
        ({"SeriesTime": "093000"}, ("series_and_acquisition_time_differ",)),
        ({"AcquisitionDate": None}, ("scan_start_from_series_time",)),
    ],
)
def test_doubtful_times_are_flagged(tmp_path: Path, values: dict[str, object], flags: tuple[str, ...]) -> None:
    image = _read(tmp_path, _in_bq(lambda d: put(d, **values)), None)
    assert image.provenance.flags == flags
    # StudyTime is 07:00 of another day and must never be the time of the scan.
    assert image.scan_start == datetime(2024, 1, 2, 10)


@pytest.mark.parametrize(
    ("dose", "flags"),
    [(7400, ()), (7.4e9, ("injected_activity_implausible",)), (0.5, ("injected_activity_implausible",))],
)
def test_the_dose_of_nm_headers_is_in_mbq(tmp_path: Path, dose: float, flags: tuple[str, ...]) -> None:
    def edit(dataset: Dataset) -> None:
        put(dataset.RadiopharmaceuticalInformationSequence[0], RadionuclideTotalDose=dose)

    image = _read(tmp_path, _in_bq(edit), None)
    assert image.provenance.injected_activity_mbq == pytest.approx(dose)
    assert image.provenance.flags == flags


# GE StarGuide: a ring of detectors without views ---------------------------------------------------


def _starguide(comment: str, **more: object) -> Edit:
    def edit(dataset: Dataset) -> None:
        del dataset.RotationInformationSequence
        put(dataset, Manufacturer="GE MEDICAL SYSTEMS", ManufacturerModelName="StarGuide", ImageComments=comment)
        put(dataset, **more)

    return edit


def test_the_duration_of_a_ring_camera_is_in_its_comment(tmp_path: Path) -> None:
    edit = _starguide("$Views$0$ImagingDuration$600000$Energy$208$")
    image = _read(tmp_path, edit, CALIBRATION)
    assert image.provenance.calibration is not None
    assert (image.provenance.duration_s, image.provenance.calibration.counting_s) == (600.0, 600.0)
    assert image.provenance.flags == ("duration_from_image_comments",)
    assert image.provenance.decay_factor_applied == pytest.approx(averaged_to_start_factor(LU_HALF_LIFE_H, 600.0))
    # Of the counts of one detector the sensitivity needs their number.
    with pytest.raises(TagMissingError, match="column detectors"):
        _read(tmp_path, edit, replace(CALIBRATION, basis="detector"))
    image = _read(tmp_path, edit, replace(CALIBRATION, basis="detector", detectors=12))
    assert image.provenance.calibration is not None
    assert image.provenance.calibration.counting_s == 7200.0


@pytest.mark.parametrize(
    ("edit", "error", "fragment"),
    [
        (_starguide("$ImagingDuration$600$"), QuantityError, "600 ms make no scan"),
        (_starguide("ImagingDuration 600000"), TagMissingError, "duration of the scan is not known"),
        (_starguide("$ImagingDuration$600000$", Manufacturer="Maker"), TagMissingError, "duration of the scan"),
    ],
)
def test_a_comment_that_gives_no_duration_is_no_duration(
    tmp_path: Path, edit: Edit, error: type[DoseledgerError], fragment: str
) -> None:
    with pytest.raises(error, match=fragment):
        _read(tmp_path, edit, CALIBRATION)
