"""Headers are inspected without their pixels, by the code that reads both."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset
from pydicom.uid import DeflatedExplicitVRLittleEndian

from doseledger.activity import Calibration
from doseledger.errors import DoseledgerError, FileUnreadableError, GeometryError, QuantityError
from doseledger.io.dicom import inspect_ct, inspect_spect, open_ct, open_spect, read_ct, read_spect
from doseledger.io.dicom.headers import read_header

from .dicom_factory import Edit, put, write_ct, write_pet
from .nm_factory import write_nm_image

CALIBRATION = Calibration(9.2, "system", "cylinder", date(2023, 12, 1), detectors=2)


@pytest.fixture
def no_pixels(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decodes pixels fails."""

    def decode(_: Dataset) -> None:
        raise AssertionError("pixels were decoded")

    monkeypatch.setattr(Dataset, "pixel_array", property(decode))


def test_a_pet_series_is_inspected_as_it_is_read(tmp_path: Path) -> None:
    write_pet(tmp_path)
    image, known = read_spect(tmp_path), inspect_spect(tmp_path)
    assert (known.grid, known.scan_start, known.provenance) == (image.grid, image.scan_start, image.provenance)


def test_an_nm_image_is_inspected_as_it_is_read(tmp_path: Path) -> None:
    path = write_nm_image(tmp_path / "nm.dcm")
    image, known = read_spect(path, calibration=CALIBRATION), inspect_spect(path, calibration=CALIBRATION)
    assert (known.grid, known.scan_start, known.provenance) == (image.grid, image.scan_start, image.provenance)
    assert known.provenance.calibration is not None


def test_a_ct_is_inspected_as_it_is_read(tmp_path: Path) -> None:
    write_ct(tmp_path)
    image, known = read_ct(tmp_path), inspect_ct(tmp_path)
    assert (known.grid, known.provenance) == (image.grid, image.provenance)


def _set(**values: object) -> Edit:
    return lambda dataset, z: put(dataset, **values)


@pytest.mark.usefixtures("no_pixels")
@pytest.mark.parametrize(
    ("write", "inspect", "edit", "error"),
    [
        (write_pet, inspect_spect, None, None),
        (write_pet, inspect_spect, _set(Units="GML"), DoseledgerError),
        (write_pet, inspect_spect, _set(RescaleSlope=0), QuantityError),
        (write_ct, inspect_ct, None, None),
        (write_ct, inspect_ct, _set(GantryDetectorTilt=12), GeometryError),
        (write_ct, inspect_ct, _set(RescaleSlope=0), QuantityError),
    ],
)
def test_no_pixel_is_decoded_for_an_inspection(
    tmp_path: Path,
    write: Callable[..., list[Path]],
    inspect: Callable[[Path], object],
    edit: Edit | None,
    error: type[Exception] | None,
) -> None:
    write(tmp_path, edit=edit)
    if error is None:
        inspect(tmp_path)
    else:
        with pytest.raises(error):
            inspect(tmp_path)


def _large(dataset: Dataset, z: int) -> None:
    """Pixels that are left in the file until they are asked for."""
    pixels = np.arange(64 * 64, dtype="<i2").reshape(64, 64) + z
    put(dataset, Rows=64, Columns=64)
    dataset.PixelData = pixels.tobytes()


def test_pixels_stay_in_the_file_until_they_are_read(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, edit=_large)
    source = open_ct(tmp_path)
    pixels = [e for header in source.slices for e in header.dataset.values() if e.tag == 0x7FE00010]
    assert [e.value for e in pixels] == [None] * 5
    array = source.read().array_hu
    assert np.array_equal(array[3].ravel(), np.arange(64 * 64) + 3 - 1024)
    paths[0].write_bytes(paths[0].read_bytes()[:-1])
    with pytest.raises(FileUnreadableError, match="truncated"):
        inspect_ct(tmp_path)


def test_a_file_that_is_damaged_after_its_inspection_is_refused(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, edit=_large)
    source = open_ct(tmp_path)
    paths[1].unlink()
    with pytest.raises(FileUnreadableError, match="cannot be decoded"):
        source.read()


def test_a_deflated_file_is_read(tmp_path: Path) -> None:
    paths = write_ct(tmp_path, edit=_large)
    expected = read_ct(tmp_path).array_hu
    for path in paths:
        dataset = read_header(path).dataset
        dataset.file_meta.TransferSyntaxUID = DeflatedExplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)
    assert np.array_equal(open_ct(tmp_path).read().array_hu, expected)


def test_the_pixels_of_an_opened_image_can_be_read_twice(tmp_path: Path) -> None:
    source = open_spect(write_nm_image(tmp_path / "nm.dcm"), calibration=CALIBRATION)
    assert np.array_equal(source.read().array_bq_per_ml, source.read().array_bq_per_ml)
