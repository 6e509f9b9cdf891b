"""Interfile maps, and the voxel patient made of them: read, placed, imaged, read back."""

from __future__ import annotations

import csv
import gzip
import os
from collections.abc import Callable
from datetime import date
from math import exp, log
from pathlib import Path

import numpy as np
import pytest
import yaml

from doseledger.activity import Calibration
from doseledger.errors import (
    ContourError,
    FileUnreadableError,
    GeometryError,
    InputMissingError,
    QuantityError,
    TagMissingError,
    UnitError,
)
from doseledger.geometry import Grid
from doseledger.io.dicom import SpectImage, read_ct, read_spect, read_structures, structure_mask
from doseledger.io.dicom.rtstruct import Structure
from doseledger.io.sheets import config_folder, load_plan
from doseledger.nuclides import nuclide
from doseledger.phantom import voxel_study
from doseledger.phantom.design import Site, sites_of
from doseledger.phantom.dialects import DIALECTS
from doseledger.phantom.interfile import read_interfile
from doseledger.phantom.patients import stream
from doseledger.phantom.pixel_contour import mask_contour
from doseledger.phantom.sheets import SOURCE_NAMES
from doseledger.phantom.voxel_patient import (
    ATTENUATION_HEADER,
    REGIONS,
    SOURCE_HEADER,
    VoxelPatient,
    read_voxel_patient,
    resample_mean,
)
from doseledger.steps.preflight import Depth, preflight

DATA = Path(os.environ.get("DOSELEDGER_DATA", Path(__file__).resolve().parents[2] / ".." / "shared" / "data"))
MAPS = DATA / "lu177_patient15_voxelphantom"

HEADER = """\
!INTERFILE :=
!imaging modality := nucmed
; a comment
!data offset in bytes := 4
!name of data file := somewhere/else/map.i33
imagedata byte order := LITTLEENDIAN
!total number of images := 2
!matrix size [1] := 4
!matrix size  [2] := 3
!number format := unsigned integer
!number of bytes per pixel := 2
scaling factor (mm/pixel) [1] := 2.5
scaling factor (mm/pixel) [2] := 2.0
!number of slices := 2
slice thickness (pixels) := 1.5
!END OF INTERFILE :=
"""
VALUES = np.arange(24, dtype="<u2").reshape(2, 3, 4)

Volume = Callable[..., Path]


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    def write(header: str = HEADER, raw: bytes = b"abcd" + VALUES.tobytes(), *, packed: bool = False) -> Path:
        (tmp_path / "map.h33").write_text(header)
        if packed:
            (tmp_path / "map.i33.gz").write_bytes(gzip.compress(raw))
        else:
            (tmp_path / "map.i33").write_bytes(raw)
        return tmp_path / "map.h33"

    return write


# --- the format ------------------------------------------------------------------------------------


@pytest.mark.parametrize("packed", [False, True])
def test_values_and_spacing(volume: Volume, packed: bool) -> None:
    image = read_interfile(volume(packed=packed), slice_thickness_unit="mm")
    assert np.array_equal(image.values, VALUES)
    assert image.spacing_mm == (1.5, 2.0, 2.5)


def test_slice_thickness_is_in_the_unit_that_the_caller_says(volume: Volume) -> None:
    image = read_interfile(volume(), slice_thickness_unit="pixels")
    assert image.spacing_mm[0] == 1.5 * 2.5


def test_big_endian_floats(volume: Volume) -> None:
    header = HEADER.replace("LITTLEENDIAN", "bigendian").replace("unsigned integer", "short float")
    header = header.replace("bytes per pixel := 2", "bytes per pixel := 4")
    values = (VALUES / 8.0).astype(">f4")
    image = read_interfile(volume(header, b"abcd" + values.tobytes()), slice_thickness_unit="mm")
    assert np.array_equal(image.values, values)


def test_a_missing_header_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputMissingError, match=r"absent\.h33"):
        read_interfile(tmp_path / "absent.h33", slice_thickness_unit="mm")


def test_missing_values_are_named(volume: Volume, tmp_path: Path) -> None:
    header = volume()
    (tmp_path / "map.i33").unlink()
    with pytest.raises(InputMissingError, match=r"map\.i33"):
        read_interfile(header, slice_thickness_unit="mm")


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ("!data offset in bytes := 4\n", "data offset in bytes"),
        ("!matrix size  [2] := 3\n", r"matrix size \[2\]"),
        ("imagedata byte order := LITTLEENDIAN\n", "imagedata byte order"),
        ("slice thickness (pixels) := 1.5\n", r"slice thickness \(pixels\)"),
    ],
)
def test_a_missing_key_is_never_guessed(volume: Volume, line: str, key: str) -> None:
    with pytest.raises(TagMissingError, match=key):
        read_interfile(volume(HEADER.replace(line, "")), slice_thickness_unit="mm")


@pytest.mark.parametrize(
    ("old", "new", "key"),
    [
        ("unsigned integer", "bit", "number format"),
        ("LITTLEENDIAN", "MIDDLEENDIAN", "imagedata byte order"),
        ("per pixel := 2", "per pixel := 3", "number of bytes per pixel"),
        (":= 2.5", ":= wide", r"scaling factor \(mm/pixel\) \[1\]"),
    ],
)
def test_an_unknown_value_names_its_key(volume: Volume, old: str, new: str, key: str) -> None:
    with pytest.raises(UnitError, match=key):
        read_interfile(volume(HEADER.replace(old, new)), slice_thickness_unit="mm")


def test_a_file_of_the_wrong_size_is_refused(volume: Volume) -> None:
    with pytest.raises(FileUnreadableError, match=r"46 bytes.*48 bytes"):
        read_interfile(volume(raw=b"abcd" + VALUES.tobytes()[:-2]), slice_thickness_unit="mm")


def test_a_damaged_compressed_file_is_refused(volume: Volume, tmp_path: Path) -> None:
    header = volume(packed=True)
    packed = tmp_path / "map.i33.gz"
    packed.write_bytes(packed.read_bytes()[:-12])
    with pytest.raises(FileUnreadableError, match=r"map\.i33\.gz"):
        read_interfile(header, slice_thickness_unit="mm")


# --- resampling and outlines -----------------------------------------------------------------------


def test_resampling_keeps_the_integral_and_the_place() -> None:
    fine = Grid((9, 10, 12), (4.4, 3.9, 3.9), (-20.0, -17.0, -18.0))
    coarse = Grid((12, 12, 14), (4.8, 4.8, 4.8), (-31.0, -26.0, -27.0))
    values = stream(1, "resample").random(fine.shape, dtype=np.float32)
    image = resample_mean(values, fine, coarse)
    total = values.sum(dtype=float) * fine.voxel_volume_ml
    assert image.sum(dtype=float) * coarse.voxel_volume_ml == pytest.approx(total, rel=1e-5)

    def centre(array: np.ndarray, grid: Grid) -> np.ndarray:
        index = np.stack(np.indices(grid.shape)).reshape(3, -1) @ array.ravel() / array.sum()
        return np.array(grid.position_mm(index))

    # Half a voxel off would be 2 mm; values spread evenly over larger voxels move by a little.
    assert centre(image, coarse) == pytest.approx(centre(values, fine), abs=0.1)


def test_resampling_onto_itself_changes_nothing() -> None:
    grid = Grid((3, 4, 5), (4.4, 3.9, 3.9), (-20.0, -17.0, -18.0))
    values = stream(2, "resample").random(grid.shape, dtype=np.float32)
    assert resample_mean(values, grid, grid) == pytest.approx(values, rel=1e-5)


def test_resampling_refuses_turned_grids() -> None:
    grid = Grid((3, 4, 5), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    turned = Grid((3, 4, 5), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0), ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)))
    with pytest.raises(GeometryError, match="turned"):
        resample_mean(np.zeros(grid.shape), grid, turned)


@pytest.mark.parametrize("seed", range(5))
def test_an_outline_filled_again_is_the_mask(seed: int) -> None:
    # Parts that touch at corners, holes, parts in holes: whatever chance makes.
    mask = np.zeros((1, 14, 17), dtype=np.bool_)
    mask[0, 1:-1, 1:-1] = stream(seed, "mask").random((12, 15)) < 0.5
    grid = Grid(mask.shape, (4.4, 3.9, 3.9), (-30.0, -25.0, 10.0))
    corners = mask_contour(mask[0])
    points = np.array([grid.position_mm(np.array([0.0, *corner])) for corner in corners])
    structure = Structure(1, "random", None, (), (points,))
    assert np.array_equal(structure_mask(structure, grid), mask)


def test_an_empty_mask_has_no_outline() -> None:
    with pytest.raises(ContourError, match="empty mask"):
        mask_contour(np.zeros((3, 3), dtype=np.bool_))


# --- the voxel patient -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def patient() -> VoxelPatient:
    if not MAPS.is_dir():
        pytest.skip(f"real data {MAPS.name} not found: set DOSELEDGER_DATA")
    return read_voxel_patient(MAPS)


def test_regions_have_their_published_size_and_activity(patient: VoxelPatient) -> None:
    # 108 x 70 x 90 voxels of 3.9063 x 3.9063 x 4.4196 mm; 15 381 of them are liver.
    assert patient.volume_ml("liver") == pytest.approx(15381 * 3.9063**2 * 4.4196 / 1000.0, rel=1e-6)
    # The authors' example: 235 MBq in all, 34.2 MBq of them in the spleen.
    activity = {name: patient.curves[name].activity_mbq(24.0) for name in REGIONS}
    assert sum(activity.values()) == pytest.approx(235.0, rel=1e-4)
    assert activity["spleen"] == pytest.approx(34.2, abs=0.05)
    image = patient.activity_bq_per_ml(24.0)
    spleen_bq = image[patient.masks["spleen"]].sum(dtype=float) * patient.grid.voxel_volume_ml
    assert spleen_bq == pytest.approx(34.2e6, rel=2e-3)
    assert float(image[~patient.body & (patient.labels == 0)].max()) == 0.0


def test_the_patient_lies_on_the_back_head_first(patient: VoxelPatient) -> None:
    def centre(mask: np.ndarray) -> np.ndarray:
        return np.array(patient.grid.position_mm(np.argwhere(mask).mean(axis=0)))

    places = {name: centre(patient.masks[name]) for name in REGIONS}
    # LPS: the liver on the right (-x), spleen and left kidney on the left; kidneys at the back (+y), below the liver.
    assert places["liver"][0] < -20.0 < 20.0 < min(places["spleen"][0], places["kidney_left"][0])
    assert places["kidney_right"][0] < -20.0
    assert min(places["kidney_left"][1], places["kidney_right"][1]) > places["liver"][1] + 20.0
    assert places["liver"][2] > places["kidney_right"][2] + 20.0
    # Lungs are at the top: the densest half of the slices is the lower one.
    density = (patient.density_g_per_ml * patient.body).sum(axis=(1, 2)) / patient.body.sum(axis=(1, 2))
    assert density[:45].mean() > density[45:].mean() + 0.03


def test_density_comes_from_the_ct_and_the_table_is_no_bone(patient: VoxelPatient) -> None:
    assert patient.mass_g("liver") / patient.volume_ml("liver") == pytest.approx(1.09, abs=0.03)
    assert patient.mass_g("kidney_left") / patient.volume_ml("kidney_left") == pytest.approx(1.05, abs=0.03)
    assert float(patient.hu.max()) < 1500.0


def test_another_file_under_the_same_name_is_refused(tmp_path: Path, patient: VoxelPatient) -> None:
    del patient
    for header in (SOURCE_HEADER, ATTENUATION_HEADER):
        (tmp_path / header).write_bytes((MAPS / header).read_bytes())
        # Both maps the attenuation map: nothing in it has the code of a region.
        values = (MAPS / ATTENUATION_HEADER.replace(".h33", ".i33.gz")).read_bytes()
        (tmp_path / header.replace(".h33", ".i33.gz")).write_bytes(values)
    with pytest.raises(QuantityError, match=r"region liver.*15381"):
        read_voxel_patient(tmp_path)


def read_image(folder: Path, site: Site) -> SpectImage:
    """As the site's row of the camera sheet says."""
    calibration = None
    if DIALECTS[site.dialect].camera_columns(site.camera):
        calibration = Calibration(site.camera.sensitivity_cps_per_mbq, "system", "cylinder", date(2025, 3, 3), 2)
    return read_spect(folder, calibration=calibration, nuclide=nuclide("Lu-177"))


@pytest.mark.parametrize("site", sites_of(3), ids=lambda site: site.dialect)
def test_study_reads_back_to_the_truth(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, patient: VoxelPatient, site: Site
) -> None:
    # One scan is enough to see that it fits the sheets and the truth.
    monkeypatch.setattr(voxel_study, "SCAN_TIMES_H", (24.0,))
    config = voxel_study.simulate_patient15(MAPS, tmp_path / "cohort", site=site)
    plan = load_plan(yaml.safe_load(config.read_text(encoding="utf-8")), config_folder([config]))
    assert [cycle.patient for cycle in plan.imaged] == ["P15"]
    assert preflight(plan, Depth.PIXELS).refusals == ()
    with (config.parent / "truth" / "activity_truth.csv").open(encoding="utf-8", newline="") as file:
        truth = {row["region"]: float(row["activity_mbq"]) for row in csv.DictReader(file)}
    folder = config.parent / f"dicom/site-{site.label}/sub-P15/ses-c1/tp-1"
    image, ct = read_image(folder / "spect", site), read_ct(folder / "ct")
    seen = image.array_bq_per_ml.sum(dtype=float) * image.grid.voxel_volume_ml / 1e6
    assert seen == pytest.approx(truth["whole_field"] * site.camera.calibration_factor, rel=0.01)
    assert ct.grid.same_as(patient.grid)
    structures = {s.name: s for s in read_structures(folder / "rtstruct.dcm")}
    for region in REGIONS:
        mask = structure_mask(structures[SOURCE_NAMES[region]], ct.grid)
        assert np.array_equal(mask, patient.masks[region]), region
        # The image lies on the CT: what spills over the edge of a region is the smaller part of its activity.
        share = resample_mean(mask.astype(np.float32), ct.grid, image.grid)
        inside = float((share * image.array_bq_per_ml).sum(dtype=float)) * image.grid.voxel_volume_ml / 1e6
        lowest = 0.25 if region.startswith("lesion") else 0.65
        assert lowest < inside / truth[region] / site.camera.calibration_factor < 1.0, region


def test_true_tia_belongs_to_the_true_activities(patient: VoxelPatient) -> None:
    for name, region in REGIONS.items():
        rate = log(2.0) / region.half_life_h
        expected = region.activity_mbq * exp(rate * 24.0) / rate
        assert patient.curves[name].tia_mbq_h == pytest.approx(expected, rel=1e-9)
