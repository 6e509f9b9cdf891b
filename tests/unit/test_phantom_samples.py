"""The variants among the sample objects: every decay correction reads back to one activity, SUV is refused."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pydicom
import pytest

from doseledger.errors import UnitError
from doseledger.io.dicom import read_spect
from doseledger.nuclides import nuclide
from doseledger.phantom.samples import SUV_DIALECTS, sample_reading, write_variants
from doseledger.phantom.scanner import DecayCorrection

#: Half a step of 16 bits of the brightest stored value, Bq/mL, and a little for the decay factors.
HALF_STEP_BQ_PER_ML = 0.51 * 1.12e6 / 65535


@pytest.fixture(scope="module")
def variants(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("variants")
    write_variants(out)
    return out


@pytest.mark.parametrize("decay", get_args(DecayCorrection))
def test_every_decay_correction_is_one_activity(variants: Path, decay: str) -> None:
    image = read_spect(variants / f"pt-bqml-{decay.lower()}", nuclide=nuclide("Lu-177"))
    assert image.provenance.decay_correction_in_header == decay
    assert np.allclose(image.array_bq_per_ml, sample_reading(), rtol=1e-5, atol=HALF_STEP_BQ_PER_ML)


def test_stored_values_differ_by_the_decay(variants: Path) -> None:
    stored = {}
    for decay in get_args(DecayCorrection):
        header = pydicom.dcmread(variants / f"pt-bqml-{decay.lower()}" / "pt-0004.dcm")
        stored[decay] = float(header.pixel_array.max()) * float(header.RescaleSlope)
    # A day and a quarter of an hour after the injection: ln 2 x 24.25 h x 3600 s/h / 574 300 s.
    assert stored["ADMIN"] / stored["START"] == pytest.approx(1.1111, abs=2e-4)
    # Mean over 24 min: half of that time's decay is missing.
    assert stored["NONE"] / stored["START"] == pytest.approx(1.0 - 0.5 * 0.693147 * 1440.0 / 574300.0, abs=2e-5)


@pytest.mark.parametrize("dialect", SUV_DIALECTS)
def test_suv_is_refused_by_its_unit(variants: Path, dialect: str) -> None:
    with pytest.raises(UnitError, match=r"GML|g/ml"):
        read_spect(variants / f"{dialect}-suv", nuclide=nuclide("Lu-177"))


def test_no_two_objects_share_a_uid(variants: Path) -> None:
    uids = [pydicom.dcmread(file, stop_before_pixels=True).SOPInstanceUID for file in variants.rglob("*.dcm")]
    # Eight slices in four PET series, and one NM file.
    assert len(uids) == 33
    assert len(set(uids)) == len(uids)
