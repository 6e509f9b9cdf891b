"""Real patient images against numbers and files that others made from them.

The data are not part of the repository. They are found by ``DOSELEDGER_DATA``; sources and licences
are in the README beside each item.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from doseledger.errors import UnitError
from doseledger.geometry import Grid
from doseledger.io.dicom import (
    SpectImage,
    Structure,
    read_ct,
    read_spect,
    read_structures,
    structure_mask,
)
from doseledger.io.draft import draft_scans
from doseledger.io.index import index_folders
from doseledger.io.nifti import read_image

DATA = Path(os.environ.get("DOSELEDGER_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))


def _item(name: str) -> Path:
    if not (DATA / name).is_dir():
        pytest.skip(f"real data {name} not found: set DOSELEDGER_DATA")
    return DATA / name


# 177Lu-DOTATATE SPECT (Dewaraja and Van, University of Michigan, doi 10.7302/0n8e-rz46) ----------


@pytest.fixture(scope="module", params=["SCAN_001", "SCAN_002"])
def scan(request: pytest.FixtureRequest) -> tuple[str, SpectImage, tuple[Structure, ...]]:
    folder = _item("lu177_spect_umich") / request.param
    return request.param, read_spect(folder / "spect"), read_structures(folder / "rtstruct")


def test_the_activity_in_the_field_at_scan_start(scan: tuple[str, SpectImage, object]) -> None:
    name, image, _ = scan
    # Both sums are met by undoing ADMIN from injection to scan start with the header's half-life
    # (574 300 s); without it the sums are 1.6 % and 12.8 % too large.
    expected_mbq = {"SCAN_001": 1328.7776, "SCAN_002": 883.0188}[name]
    total_mbq = image.array_bq_per_ml.sum(dtype=np.float64) * image.grid.voxel_volume_ml / 1e6
    assert total_mbq == pytest.approx(expected_mbq, rel=1e-5)
    assert image.provenance.decay_correction_in_header == "ADMIN"
    assert image.provenance.flags == ()


def test_the_hours_after_injection(scan: tuple[str, SpectImage, object]) -> None:
    name, image, _ = scan
    # PyTheranostics gives 3.7411 and 27.7253 h for these scans, from times without their fraction of a
    # second; with it (0.148 and 0.715 s) they are 3.7412 and 27.7255 h.
    expected_h = {"SCAN_001": 3.7411, "SCAN_002": 27.7253}[name]
    injection = image.provenance.injection_datetime
    assert injection is not None
    whole_seconds_h = (image.scan_start.replace(microsecond=0) - injection).total_seconds() / 3600
    assert whole_seconds_h == pytest.approx(expected_h, abs=1e-4)
    assert image.scan_start.microsecond == {"SCAN_001": 148_000, "SCAN_002": 715_000}[name]


def test_the_geometry_of_a_feet_first_scan(scan: tuple[str, SpectImage, object]) -> None:
    _, image, _ = scan
    assert image.grid.shape == (199, 256, 256)
    assert image.grid.spacing_mm == pytest.approx((1.95313, 1.95313, 1.95313), abs=1e-6)
    assert image.grid.direction == ((0.0, 0.0, 1.0), (0.0, 1.0, 0.0), (1.0, 0.0, 0.0))


#: Volume (mL) and activity at scan start (MBq) inside the outlines. The volumes are bounded by the
#: areas of the outlines below; the activities are this reader's own and keep it from drifting.
LESIONS = {
    "SCAN_001": ((107.021, 120.3041), (2.8610, 4.15125)),
    "SCAN_002": ((107.900, 138.3928), (2.9057, 5.56153)),
}


def test_the_lesions(scan: tuple[str, SpectImage, tuple[Structure, ...]]) -> None:
    name, image, structures = scan
    assert [s.name for s in structures] == ["lesion1 liver R lobe", "lesion2 liver L lateral"]
    for structure, (volume_ml, activity_mbq) in zip(structures, LESIONS[name], strict=True):
        assert structure.frame_of_reference_uid == image.provenance.frame_of_reference_uid
        assert structure.referenced_series_uids == (image.provenance.series_uid,)
        mask = structure_mask(structure, image.grid)
        found_ml = np.count_nonzero(mask) * image.grid.voxel_volume_ml
        assert found_ml == pytest.approx(volume_ml, rel=1e-4)
        # The outlines run along voxel edges, a few per cent of the edge of a small lesion either way.
        assert found_ml == pytest.approx(_volume_by_areas_ml(structure, image.grid), rel=0.03)
        found_mbq = image.array_bq_per_ml[mask].sum(dtype=np.float64) * image.grid.voxel_volume_ml / 1e6
        assert found_mbq == pytest.approx(activity_mbq, rel=1e-5)


def _volume_by_areas_ml(structure: Structure, grid: Grid) -> float:
    """Areas of the outlines (shoelace formula) times the step of the slices."""
    areas_mm2 = [_area_mm2(contour) for contour in structure.contours]
    return sum(areas_mm2) * grid.spacing_mm[0] / 1e3


def _area_mm2(contour: NDArray[np.float64]) -> float:
    x, y = contour[:, 0], contour[:, 1]
    return float(abs(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2)


def test_the_scans_are_drafted_in_order_of_time() -> None:
    folder = _item("lu177_spect_umich")
    rows, unplaced = draft_scans(index_folders([folder]), folder)
    assert [(r["patient"], r["cycle"], r["time_point"], r["spect"]) for r in rows] == [
        ("P1", 1, 1, "SCAN_001/spect"),
        ("P1", 1, 2, "SCAN_002/spect"),
    ]
    assert [str(r["contours"]).split("/")[:2] for r in rows] == [["SCAN_001", "rtstruct"], ["SCAN_002", "rtstruct"]]
    assert unplaced == []


# PET/CT with NIfTI and masks (oncoray/mirp, TCIA Soft-tissue-Sarcoma) -----------------------------


def test_a_pet_in_grams_per_millilitre_is_refused() -> None:
    with pytest.raises(UnitError, match=r"Units \(0054,1001\).*'GML'"):
        read_spect(_item("petct_sts002_crop") / "PET" / "dicom" / "image")


def test_the_ct_is_the_nifti_made_from_it_by_others() -> None:
    folder = _item("petct_sts002_crop") / "CT"
    image = read_ct(folder / "dicom" / "image")
    voxels, grid = read_image(folder / "nifti" / "image" / "image.nii.gz")
    assert np.array_equal(image.array_hu, voxels)
    # NIfTI keeps positions of some hundred mm as float32, to 3e-5 mm.
    assert np.allclose(image.grid.affine, grid.affine, rtol=0, atol=1e-4)


@pytest.mark.parametrize("modality", ["CT", "PET"])
def test_structures_fill_the_voxels_that_others_filled(modality: str) -> None:
    folder = _item("petct_sts002_crop") / modality
    mask, grid = read_image(folder / "nifti" / "mask" / "mask.nii.gz")
    (structure,) = read_structures(folder / "dicom" / "mask" / "RS.dcm")
    # 17090 and 555 voxels, all of them the same: a Dice coefficient of 1.
    assert np.array_equal(structure_mask(structure, grid), mask > 0)


# CT ---------------------------------------------------------------------------------------------


def test_a_contrast_ct_of_5_mm_slices() -> None:
    image = read_ct(_item("ct_ge_liver_crlm1004"))
    assert image.grid.shape == (41, 512, 512)
    assert image.grid.spacing_mm == pytest.approx((5.0, 0.796875, 0.796875))
    # The filler of -2000 around the field of view would otherwise be -3024 HU.
    assert image.array_hu.min() == -1024
    assert image.provenance.flags == ("padding_set_to_air",)


def test_a_jpeg_2000_ct_lies_on_the_grid_of_its_labels() -> None:
    folder = _item("ct_seg_totalsegmentator")
    image = read_ct(folder / "example_ct_dicom")
    labels, grid = read_image(folder / "example_seg_dicom.nii.gz")
    assert image.provenance.flags == ("patient_id_missing", "series_uid_missing")
    # The labels are stored with their rows from back to front.
    last_row = grid.position_mm(np.array([0.0, grid.shape[1] - 1.0, 0.0]))
    upright = Grid(grid.shape, grid.spacing_mm, last_row)
    assert image.grid.same_as(upright)
    # Liver (label 5) is even soft tissue: its HU spread by 22, and by 96 or more if an axis is reversed.
    liver_hu = image.array_hu[labels[:, ::-1] == 5]
    assert 80 < np.median(liver_hu) < 140
    assert np.std(liver_hu) < 30
