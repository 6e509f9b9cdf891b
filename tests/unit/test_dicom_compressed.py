"""Compressed files hold the values of the uncompressed ones: every lossless syntax, by a round trip."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Final

import gdcm
import numpy as np
import pytest
from pydicom import dcmread
from pydicom.dataset import Dataset

from doseledger.activity import Calibration
from doseledger.errors import FileUnreadableError
from doseledger.io.dicom import inspect_spect, read_ct, read_spect

from .dicom_factory import put, write_ct, write_pet
from .nm_factory import PHOTOPEAK, SCATTER, frames_of, set_frames, write_nm_image

#: By another library (GDCM) than the ones that decode.
SYNTAXES: Final = {
    "RLE": (gdcm.TransferSyntax.RLELossless, "1.2.840.10008.1.2.5"),
    "JPEG": (gdcm.TransferSyntax.JPEGLosslessProcess14_1, "1.2.840.10008.1.2.4.70"),
    "JPEG-LS": (gdcm.TransferSyntax.JPEGLSLossless, "1.2.840.10008.1.2.4.80"),
    "JPEG 2000": (gdcm.TransferSyntax.JPEG2000Lossless, "1.2.840.10008.1.2.4.90"),
}
CALIBRATION: Final = Calibration(9.2, "system", "cylinder", date(2023, 12, 1), detectors=2)


def _compress(path: Path, name: str) -> None:
    syntax, uid = SYNTAXES[name]
    reader = gdcm.ImageReader()
    reader.SetFileName(str(path))
    assert reader.Read()
    change = gdcm.ImageChangeTransferSyntax()
    change.SetTransferSyntax(gdcm.TransferSyntax(syntax))
    change.SetInput(reader.GetImage())
    assert change.Change()
    writer = gdcm.ImageWriter()
    writer.SetFileName(str(path))
    writer.SetFile(reader.GetFile())
    writer.SetImage(change.GetOutput())
    assert writer.Write()
    written = dcmread(path)
    assert written.file_meta.TransferSyntaxUID == uid
    assert written["PixelData"].is_undefined_length


@pytest.mark.parametrize("name", SYNTAXES)
def test_signed_frames_of_two_windows(tmp_path: Path, name: str) -> None:
    def below_zero(dataset: Dataset) -> None:
        set_frames(dataset, frames_of(dataset) - 1200)

    path = write_nm_image(tmp_path / "nm.dcm", windows=(SCATTER, PHOTOPEAK), upwards=False, edit=below_zero)
    plain = read_spect(path, calibration=CALIBRATION)
    assert plain.array_bq_per_ml.min() < 0 < plain.array_bq_per_ml.max()
    _compress(path, name)
    assert inspect_spect(path, calibration=CALIBRATION).provenance == plain.provenance
    assert np.array_equal(read_spect(path, calibration=CALIBRATION).array_bq_per_ml, plain.array_bq_per_ml)


@pytest.mark.parametrize("name", SYNTAXES)
def test_unsigned_slices_with_a_slope_each(tmp_path: Path, name: str) -> None:
    paths = write_pet(tmp_path)
    plain = read_spect(tmp_path)
    for path in paths:
        _compress(path, name)
    assert np.array_equal(read_spect(tmp_path).array_bq_per_ml, plain.array_bq_per_ml)


@pytest.mark.parametrize("name", SYNTAXES)
def test_signed_slices_of_a_ct(tmp_path: Path, name: str) -> None:
    paths = write_ct(tmp_path)
    plain = read_ct(tmp_path)
    for path in paths:
        _compress(path, name)
    assert np.array_equal(read_ct(tmp_path).array_hu, plain.array_hu)


@pytest.mark.parametrize("name", SYNTAXES)
def test_a_compressed_file_that_is_cut_is_refused(tmp_path: Path, name: str) -> None:
    path = write_nm_image(tmp_path / "nm.dcm")
    _compress(path, name)
    whole = path.read_bytes()
    for kept in (len(whole) - 9, len(whole) - 200):
        path.write_bytes(whole[:kept])
        with pytest.raises(FileUnreadableError):
            read_spect(path, calibration=CALIBRATION)


def test_lossy_compression_is_flagged(tmp_path: Path) -> None:
    write_ct(tmp_path / "ct", edit=lambda dataset, z: put(dataset, LossyImageCompression="01"))
    assert "lossy_compression" in read_ct(tmp_path / "ct").provenance.flags
    write_pet(tmp_path / "pet", edit=lambda dataset, z: put(dataset, LossyImageCompression="00"))
    assert read_spect(tmp_path / "pet").provenance.flags == ()
