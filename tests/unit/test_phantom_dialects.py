"""The same SPECT in every dialect: read back to the same activity in the same place."""

from __future__ import annotations

from dataclasses import replace
from datetime import date
from hashlib import sha256
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels.utils import unpack_bits

from doseledger.activity import Calibration
from doseledger.errors import QuantityError, UnitError, UnknownNameError
from doseledger.io.dicom import SpectImage, read_ct, read_spect, read_structures, structure_mask
from doseledger.io.models import Camera as CameraRow
from doseledger.nuclides import nuclide
from doseledger.phantom.dialects import DIALECTS, SpectFacts, store_spect
from doseledger.phantom.dicom_seg import Segment, write_seg
from doseledger.phantom.samples import (
    SAMPLE_GRID,
    SAMPLE_INJECTION,
    SAMPLE_START,
    sample_reading,
    sample_visit,
    write_samples,
)

FACTS = SpectFacts(sample_visit("test"), SAMPLE_INJECTION)
CAMERA = FACTS.visit.camera
#: Bq/mL per count: 1e6 / (24 min x 9.2 cps/MBq x 0.12 mL).
PER_COUNT = 1e6 / (CAMERA.duration_s * CAMERA.sensitivity_cps_per_mbq * SAMPLE_GRID.voxel_volume_ml)
#: Half a step of the stored values, Bq/mL, and a little for the decay factors.
HALF_STEP = {"pt-bqml": 0.51 * 1.12e6 / 65535, "nm-counts": 0.51 * PER_COUNT, "nm-rwv": 0.51 * 1.0e6 / 32767}


def _calibration(dialect: str) -> Calibration | None:
    """As the ingest stage builds it from the camera sheet."""
    columns = DIALECTS[dialect].camera_columns(CAMERA)
    row = CameraRow.model_validate({"site": "A", "camera": "NM1", "u_calibration_rel": 0.05, "fwhm_mm": 12, **columns})
    if row.sensitivity_cps_per_mbq is None:
        return None
    assert row.sensitivity_basis
    assert row.sensitivity_geometry
    assert row.sensitivity_date
    return Calibration(
        row.sensitivity_cps_per_mbq,
        row.sensitivity_basis,
        row.sensitivity_geometry,
        row.sensitivity_date,
        detectors=row.detectors,
    )


def _stored(folder: Path, dialect: str, image: np.ndarray | None = None) -> SpectImage:
    reading = sample_reading() if image is None else image
    store_spect(folder, reading, SAMPLE_GRID, FACTS, dialect)
    return read_spect(folder, calibration=_calibration(dialect), nuclide=nuclide("Lu-177"))


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialect_reads_back_to_what_was_written(tmp_path: Path, dialect: str) -> None:
    image = _stored(tmp_path, dialect)
    assert image.grid.same_as(SAMPLE_GRID)
    assert np.allclose(image.array_bq_per_ml, sample_reading(), rtol=1e-5, atol=HALF_STEP[dialect])
    assert image.scan_start == SAMPLE_START
    assert image.provenance.duration_s == CAMERA.duration_s
    assert image.provenance.injected_activity_mbq == pytest.approx(SAMPLE_INJECTION.administered_mbq)
    assert image.provenance.energy_window_kev == "187.6-229.2"
    assert image.provenance.collimator == "MEGP PARA"
    assert image.provenance.header_nuclide == "Lu-177"


@pytest.mark.parametrize("dialect", DIALECTS)
def test_left_is_left_and_head_is_head(tmp_path: Path, dialect: str) -> None:
    reading = np.zeros(SAMPLE_GRID.shape, dtype=np.float32)
    # To the left (+x), to the front (-y), towards the head (+z).
    reading[6, 3, 20] = 1.0e6
    image = _stored(tmp_path, dialect, reading)
    brightest = np.unravel_index(np.argmax(image.array_bq_per_ml), image.array_bq_per_ml.shape)
    x, y, z = image.grid.position_mm(np.array(brightest, dtype=float))
    assert (x, y, z) == pytest.approx((34.0, -32.5, 15.0))
    assert np.count_nonzero(image.array_bq_per_ml) == 1


def test_all_dialects_say_the_same(tmp_path: Path) -> None:
    total = {
        dialect: float(_stored(tmp_path / dialect, dialect).array_bq_per_ml.sum(dtype=np.float64))
        for dialect in DIALECTS
    }
    # The body is uniform, so that all its voxels are rounded alike: by half a step at most.
    body = 2.0e4
    assert total["nm-rwv"] == pytest.approx(total["pt-bqml"], rel=HALF_STEP["nm-rwv"] / body)
    assert total["nm-counts"] == pytest.approx(total["pt-bqml"], rel=HALF_STEP["nm-counts"] / body)


def test_flags_are_those_of_the_dialect(tmp_path: Path) -> None:
    flags = {dialect: _stored(tmp_path / dialect, dialect).provenance.flags for dialect in DIALECTS}
    assert flags == {"pt-bqml": (), "nm-counts": ("views_counted_over_all_detectors",), "nm-rwv": ()}


def test_counts_are_as_such_workstations_write_them(tmp_path: Path) -> None:
    store_spect(tmp_path, sample_reading(), SAMPLE_GRID, FACTS, "nm-counts")
    (file,) = tmp_path.iterdir()
    header = pydicom.dcmread(file)
    drug, rotation = header.RadiopharmaceuticalInformationSequence[0], header.RotationInformationSequence[0]
    assert list(header.ImageType) == ["ORIGINAL", "PRIMARY", "RECON TOMO", "EMISSION"]
    assert (float(header.SpacingBetweenSlices), float(header.SliceThickness)) == (-6.0, 6.0)
    assert "ImagePositionPatient" not in header
    assert [float(v) for v in header.DetectorInformationSequence[0].ImagePositionPatient] == [-46.0, -47.5, 21.0]
    assert (header.NumberOfFrames, header.NumberOfEnergyWindows, header.NumberOfSlices) == (16, 2, 8)
    assert (float(rotation.ScanArc), rotation.NumberOfFramesInRotation, header.NumberOfDetectors) == (360.0, 120, 1)
    assert float(drug.RadionuclideTotalDose) == SAMPLE_INJECTION.administered_mbq
    assert (drug.RadiopharmaceuticalStartTime, "RadiopharmaceuticalStartDateTime" in drug) == ("090500", False)
    assert not {"RescaleSlope", "Units", "RealWorldValueMappingSequence", "DecayCorrection"} & set(header.dir())
    assert header.PixelRepresentation == 0
    # Whole counts of the mean over 24 min, from the head downwards: the brightest slice is number 8 - 4 = 4.
    frames = header.pixel_array
    assert frames.max() == pytest.approx(1.0e6 / PER_COUNT, rel=2e-3)
    assert np.argmax(frames[:8].max(axis=(1, 2))) + 1 in (3, 4)


def test_the_mapped_dialect_has_its_scale_in_one_place(tmp_path: Path) -> None:
    store_spect(tmp_path, sample_reading(), SAMPLE_GRID, FACTS, "nm-rwv")
    header = pydicom.dcmread(tmp_path / "nm.dcm")
    (mapping,) = header.RealWorldValueMappingSequence
    assert mapping.MeasurementUnitsCodeSequence[0].CodeValue == "Bq/ml"
    assert mapping.RealWorldValueSlope * 32767 == pytest.approx(1.0e6, rel=1e-3)
    assert not {"RescaleSlope", "Units", "DecayCorrection"} & set(header.dir())
    assert header.PixelRepresentation == 1


def test_counts_without_the_camera_sheet_are_refused(tmp_path: Path) -> None:
    store_spect(tmp_path, sample_reading(), SAMPLE_GRID, FACTS, "nm-counts")
    with pytest.raises(UnitError, match="sensitivity"):
        read_spect(tmp_path, nuclide=nuclide("Lu-177"))


@pytest.mark.parametrize("dialect", ["pt-bqml", "nm-rwv"])
def test_suv_is_refused_in_every_dialect_that_can_hold_it(tmp_path: Path, dialect: str) -> None:
    store_spect(tmp_path, sample_reading(), SAMPLE_GRID, replace(FACTS, as_suv=True), dialect)
    with pytest.raises(UnitError):
        read_spect(tmp_path)


def test_what_a_dialect_cannot_hold_is_refused(tmp_path: Path) -> None:
    with pytest.raises(QuantityError, match="SUV"):
        store_spect(tmp_path, sample_reading(), SAMPLE_GRID, replace(FACTS, as_suv=True), "nm-counts")
    with pytest.raises(QuantityError, match="0 to 65535"):
        store_spect(tmp_path, sample_reading() * 50.0, SAMPLE_GRID, FACTS, "nm-counts")
    with pytest.raises(UnknownNameError, match=r"'esperanto'.*nm-counts"):
        store_spect(tmp_path, sample_reading(), SAMPLE_GRID, FACTS, "esperanto")
    assert not list(tmp_path.iterdir())


def test_negative_values_survive_where_pixels_are_signed(tmp_path: Path) -> None:
    reading = sample_reading() - 1.0e5
    assert np.allclose(
        _stored(tmp_path / "rwv", "nm-rwv", reading).array_bq_per_ml, reading, rtol=1e-5, atol=HALF_STEP["nm-rwv"]
    )
    with pytest.raises(QuantityError, match="0 to 65535"):
        _stored(tmp_path / "counts", "nm-counts", reading)


def test_the_same_scan_in_two_dialects_makes_two_images(tmp_path: Path) -> None:
    uids = {dialect: _stored(tmp_path / dialect, dialect).provenance.series_uid for dialect in DIALECTS}
    assert len(set(uids.values())) == len(DIALECTS)


def test_an_image_without_activity_is_written(tmp_path: Path) -> None:
    for dialect in DIALECTS:
        image = _stored(tmp_path / dialect, dialect, np.zeros(SAMPLE_GRID.shape, dtype=np.float32))
        assert not image.array_bq_per_ml.any()


def test_samples_hold_every_kind_and_repeat_bit_for_bit(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_samples(tmp_path / name)
    one, two = (_hashes(tmp_path / name) for name in ("one", "two"))
    assert one == two
    assert {path.split("/")[0] for path in one} == {"ct", "rtstruct", "seg", *DIALECTS}
    uids = [pydicom.dcmread(f, stop_before_pixels=True).SOPInstanceUID for f in (tmp_path / "one").rglob("*.dcm")]
    assert len(set(uids)) == len(uids)


def _hashes(folder: Path) -> dict[str, str]:
    return {p.relative_to(folder).as_posix(): sha256(p.read_bytes()).hexdigest() for p in folder.rglob("*.dcm")}


# Segmentations ----------------------------------------------------------------------------------


def test_the_segmentation_lies_where_the_outlines_are(tmp_path: Path) -> None:
    """Bits, positions and references by nothing but tags, against the structure set of the same organ."""
    write_samples(tmp_path)
    header = pydicom.dcmread(tmp_path / "seg" / "seg.dcm")
    ct = read_ct(tmp_path / "ct")
    heights = {
        d.SOPInstanceUID: float(d.ImagePositionPatient[2])
        for d in (pydicom.dcmread(f, stop_before_pixels=True) for f in (tmp_path / "ct").iterdir())
    }
    rows, columns = header.Rows, header.Columns
    bits = unpack_bits(header.PixelData)[: header.NumberOfFrames * rows * columns].reshape(-1, rows, columns)
    mask = np.zeros(ct.grid.shape, dtype=bool)
    for frame, groups in zip(bits, header.PerFrameFunctionalGroupsSequence, strict=True):
        position = [float(v) for v in groups.PlanePositionSequence[0].ImagePositionPatient]
        source = groups.DerivationImageSequence[0].SourceImageSequence[0].ReferencedSOPInstanceUID
        assert heights[source] == position[2]
        mask[round(ct.grid.index(np.array([position]))[0, 0])] = frame
    (structure,) = read_structures(tmp_path / "rtstruct")
    drawn = structure_mask(structure, ct.grid)
    # Shares of at least one half against centres inside: they differ in voxels on the edge only.
    assert np.count_nonzero(mask & drawn) / np.count_nonzero(mask | drawn) > 0.85
    assert structure.frame_of_reference_uid == header.FrameOfReferenceUID


def test_segments_have_codes_and_sides(tmp_path: Path) -> None:
    masks = np.zeros((2, *SAMPLE_GRID.shape), dtype=bool)
    masks[0, 2, 3, 4] = masks[1, 5:7, 6, 7] = True
    segments = [
        Segment("Kidney R", "64033007", "Kidney", masks[0], laterality="right"),
        Segment("Lesion 1", "52988006", "Lesion", masks[1], is_lesion=True),
    ]
    visit = sample_visit("seg")
    write_seg(tmp_path / "seg.dcm", segments, SAMPLE_GRID, visit, [visit.uid("CT", i) for i in range(8)])
    header = pydicom.dcmread(tmp_path / "seg.dcm")
    kidney, lesion = header.SegmentSequence
    (kind,), (side,) = (
        kidney.SegmentedPropertyTypeCodeSequence,
        kidney.SegmentedPropertyTypeCodeSequence[0].SegmentedPropertyTypeModifierCodeSequence,
    )
    assert (kind.CodeValue, side.CodeMeaning) == ("64033007", "Right")
    assert kidney.SegmentedPropertyCategoryCodeSequence[0].CodeMeaning == "Anatomical Structure"
    assert lesion.SegmentedPropertyCategoryCodeSequence[0].CodeValue == "49755003"
    numbers = [
        g.SegmentIdentificationSequence[0].ReferencedSegmentNumber for g in header.PerFrameFunctionalGroupsSequence
    ]
    assert numbers == [1, 2, 2]
    assert unpack_bits(header.PixelData).sum() == 3


def test_a_day_for_the_calibration_before_every_scan() -> None:
    columns = DIALECTS["nm-counts"].camera_columns(CAMERA)
    assert date.fromisoformat(str(columns["sensitivity_date"])) < SAMPLE_START.date()
