"""CT series: Hounsfield units at their positions, and what is no CT volume."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from pydicom.dataset import Dataset

from doseledger.errors import DoseledgerError, GeometryError, ModalityError, TagMissingError, UnitError
from doseledger.io.dicom import read_ct

from .dicom_factory import ORIENTATIONS, centres, field, grid_of, put, write_ct


@pytest.mark.parametrize("name", ORIENTATIONS)
def test_each_value_is_at_its_position(tmp_path: Path, name: str) -> None:
    write_ct(tmp_path, orientation=ORIENTATIONS[name])
    image = read_ct(tmp_path)
    assert image.grid.same_as(grid_of(ORIENTATIONS[name]))
    assert image.array_hu.dtype == np.float32
    # Whole HU are stored: half a unit.
    assert np.allclose(image.array_hu, field(centres(image.grid)), rtol=0, atol=0.501)


def test_the_provenance_tells_what_the_header_says(tmp_path: Path) -> None:
    write_ct(tmp_path)
    found = read_ct(tmp_path).provenance
    assert (found.kvp, found.kernel, found.contrast_agent) == (130.0, "B31s", "Iodine")
    assert (found.manufacturer, found.model, found.patient_id) == ("Maker", "Scanner", "SITE-0042")
    assert found.flags == ()


def _set(only: int | None = None, **values: object) -> Callable[[Dataset, int], None]:
    def edit(dataset: Dataset, z: int) -> None:
        if only in (None, z):
            put(dataset, **values)

    return edit


def _sheared(dataset: Dataset, z: int) -> None:
    x, y, height = dataset.ImagePositionPatient
    dataset.ImagePositionPatient = [x, y + 0.5 * z, height]


@pytest.mark.parametrize(
    ("edit", "error", "fragments"),
    [
        (_set(GantryDetectorTilt=-5), GeometryError, ["GantryDetectorTilt (0018,1120)", "-5.0"]),
        (_sheared, GeometryError, ["shifted sideways by 2.00 mm", "tilted gantry"]),
        (_set(1, ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]), ModalityError, ["ImageType (0008,0008)", "0_1.dcm"]),
        (_set(RescaleType="US"), UnitError, ["RescaleType (0028,1054)", "'US'"]),
        (_set(RescaleSlope=None), TagMissingError, ["RescaleSlope (0028,1053)"]),
        (_set(SOPClassUID="1.2.840.10008.5.1.4.1.1.7"), ModalityError, ["SOPClassUID (0008,0016)"]),
    ],
)
def test_what_is_no_ct_volume_in_hu_is_refused(
    tmp_path: Path, edit: Callable[[Dataset, int], None], error: type[DoseledgerError], fragments: list[str]
) -> None:
    write_ct(tmp_path, edit=edit)
    with pytest.raises(error) as caught:
        read_ct(tmp_path)
    for fragment in [*fragments, str(tmp_path)]:
        assert fragment in caught.value.sentence


def test_an_absent_rescale_type_means_hu_by_the_standard(tmp_path: Path) -> None:
    write_ct(tmp_path, edit=lambda d, z: delattr(d, "RescaleType"))
    assert read_ct(tmp_path).provenance.flags == ("rescale_type_absent",)


def _padded(filler: int, **values: int) -> Callable[[Dataset, int], None]:
    def edit(dataset: Dataset, z: int) -> None:
        stored = np.frombuffer(dataset.PixelData, "<i2").copy()
        stored[:3] = filler
        dataset.PixelData = stored.tobytes()
        dataset.add_new("PixelPaddingValue", "SS", values.get("value", filler))
        if "limit" in values:
            dataset.add_new("PixelPaddingRangeLimit", "SS", values["limit"])

    return edit


@pytest.mark.parametrize("edit", [_padded(-2000), _padded(-1990, value=-2000, limit=-1980)])
def test_the_filler_around_the_field_of_view_becomes_air(tmp_path: Path, edit: Callable[[Dataset, int], None]) -> None:
    write_ct(tmp_path, edit=edit)
    image = read_ct(tmp_path)
    assert np.all(image.array_hu[:, 0, :3] == -1000)
    assert np.array_equal(image.array_hu[:, 1:], np.rint(field(centres(image.grid)))[:, 1:])
    assert image.provenance.flags == ("padding_set_to_air",)


def test_a_filler_that_could_be_tissue_is_left_alone(tmp_path: Path) -> None:
    write_ct(tmp_path, edit=_padded(1064))
    image = read_ct(tmp_path)
    assert np.all(image.array_hu[:, 0, :3] == 40)
    assert image.provenance.flags == ()
