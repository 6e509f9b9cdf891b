"""Camera studies: geometry and activity of the phantoms, DICOM in every dialect, recovery by shape."""

from __future__ import annotations

import csv
from collections.abc import Callable
from dataclasses import replace
from datetime import date
from functools import cache
from math import log, pi
from pathlib import Path

import numpy as np
import pydicom
import pytest

from doseledger.activity import Calibration
from doseledger.errors import UnknownNameError
from doseledger.geometry import Grid
from doseledger.io.dicom import SpectImage, read_ct, read_spect, read_structures, structure_mask
from doseledger.io.draft import draft_scans
from doseledger.io.index import index_folders
from doseledger.nuclides import nuclide
from doseledger.phantom.camera_phantoms import SPHERE_DIAMETERS_MM, Filled, Phantom, phantoms
from doseledger.phantom.camera_study import write_camera_study
from doseledger.phantom.design import Site, sites_of
from doseledger.phantom.dialects import DIALECTS
from doseledger.phantom.patients import stream
from doseledger.phantom.scanner import image_spect
from doseledger.phantom.shapes import occupancy

#: One of each kind: each stores its images in its own way.
SITES = sites_of(3)
SITE = SITES[1]
CAMERA = SITE.camera
#: Grid much finer than the spheres' walls are apart.
FINE = Grid((60, 160, 160), (2.0, 2.0, 2.0), (-159.0, -159.0, -34.0))

CYLINDER, SPHERES, KIDNEYS = phantoms()

StudyOf = Callable[[Site], Path]


@pytest.fixture(scope="module")
def study_of(tmp_path_factory: pytest.TempPathFactory) -> StudyOf:
    @cache
    def write(site: Site) -> Path:
        out = tmp_path_factory.mktemp(f"camera-{site.label}")
        assert write_camera_study(out, site, seed=3) == out / "truth.csv"
        return out

    return write


@pytest.fixture(scope="module")
def study(study_of: StudyOf) -> Path:
    return study_of(SITE)


def rows_of(study: Path) -> list[dict[str, str]]:
    with (study / "truth.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def read(folder: Path, site: Site) -> SpectImage:
    """As the site's row of the camera sheet says."""
    columns = DIALECTS[site.dialect].camera_columns(site.camera)
    calibration = None
    if columns:
        calibration = Calibration(site.camera.sensitivity_cps_per_mbq, "system", "cylinder", date(2025, 3, 3), 2)
    return read_spect(folder, calibration=calibration, nuclide=nuclide("Lu-177"))


def seen_mbq(image: SpectImage, part: Filled) -> float:
    """Activity that the image shows inside the outer surface of a part."""
    block, share = occupancy(part.solid, image.grid, 6)
    return float((image.array_bq_per_ml[block] * share).sum(dtype=float)) * image.grid.voxel_volume_ml / 1e6


# --- geometry and activity -------------------------------------------------------------------------


def test_spheres_have_the_diameters_of_the_standard() -> None:
    assert SPHERE_DIAMETERS_MM == (10.0, 13.0, 17.0, 22.0, 28.0, 37.0)
    for diameter, sphere in zip(SPHERE_DIAMETERS_MM, SPHERES.parts, strict=True):
        assert sphere.volume_ml == pytest.approx(pi * diameter**3 / 6000.0, rel=1e-9)
        # On a circle of 57.2 mm, all in one plane.
        assert np.hypot(*sphere.solid.centre_mm[:2]) == pytest.approx(57.2)
    assert len({round(float(part.solid.centre_mm[2]), 6) for part in SPHERES.parts}) == 1


def test_volumes_of_cylinder_and_kidneys() -> None:
    assert CYLINDER.parts[0].volume_ml == pytest.approx(pi * 108.0**2 * 186.0 / 1000.0)
    whole, parenchyma, cortex = KIDNEYS.parts
    # 4/3 pi a b c; the pelvis has half-axes 11, 10, 25 mm, the cortex is 10 mm thick.
    assert whole.volume_ml == pytest.approx(4.0 / 3.0 * pi * 27.0 * 25.0 * 52.0 / 1000.0)
    assert parenchyma.volume_ml == pytest.approx(whole.volume_ml - 4.0 / 3.0 * pi * 11.0 * 10.0 * 25.0 / 1000.0)
    assert cortex.volume_ml == pytest.approx(whole.volume_ml - 4.0 / 3.0 * pi * 17.0 * 15.0 * 42.0 / 1000.0)
    assert {part.outline_ml for part in KIDNEYS.parts} == {whole.volume_ml}


@pytest.mark.parametrize("phantom", phantoms(), ids=lambda phantom: phantom.name)
def test_parts_lie_in_the_body_and_apart(phantom: Phantom) -> None:
    for part in phantom.parts:
        reach = np.abs(part.solid.centre_mm - phantom.body.centre_mm)[:2] + part.solid.half_mm[:2]
        assert np.all(reach <= phantom.body.half_mm[:2] + 1e-9), part.name
    for index, part in enumerate(phantom.parts):
        for other in phantom.parts[index + 1 :]:
            gap = np.linalg.norm(part.solid.centre_mm - other.solid.centre_mm)
            assert gap > part.solid.half_mm[:2].max() + other.solid.half_mm[:2].max() + 15.0


def test_maps_hold_the_stated_activity_where_it_belongs() -> None:
    image = KIDNEYS.activity_map(FINE)
    assert image.sum(dtype=float) * FINE.voxel_volume_ml == pytest.approx(KIDNEYS.activity_mbq * 1e6, rel=1e-4)

    def at(part: Filled, x_mm: float) -> float:
        place = np.rint(FINE.index(part.solid.centre_mm[None, :] + np.array([x_mm, 0.0, 0.0]))[0]).astype(int)
        return float(image[tuple(place)]) / 1e6

    whole, parenchyma, cortex = KIDNEYS.parts
    # Middle, halfway out, in the cortex, outside.
    assert [at(whole, x) for x in (0.0, 14.0, 22.0, 30.0)] == pytest.approx([0.6, 0.6, 0.6, 0.0], rel=0.01)
    assert [at(parenchyma, x) for x in (0.0, 14.0, 22.0, 30.0)] == pytest.approx([0.0, 0.6, 0.6, 0.0], rel=0.01)
    assert [at(cortex, x) for x in (0.0, 14.0, 22.0, 30.0)] == pytest.approx([0.0, 0.0, 0.6, 0.0], rel=0.01)


# --- the study -------------------------------------------------------------------------------------


def test_truth_names_every_part(study: Path) -> None:
    rows = {(row["phantom"], row["object"]): row for row in rows_of(study)}
    assert set(rows) == {(phantom.name, part.name) for phantom in phantoms() for part in phantom.parts}
    sphere = rows["spheres", "sphere_37mm"]
    assert (sphere["site"], sphere["camera"], sphere["shape"]) == ("B", CAMERA.name, "sphere")
    # 26.522 mL at 1.5 MBq/mL.
    assert float(sphere["volume_ml"]) == pytest.approx(26.5218, abs=1e-3)
    assert float(sphere["activity_mbq"]) == pytest.approx(39.783, abs=1e-3)


@pytest.mark.parametrize("phantom", phantoms(), ids=lambda phantom: phantom.name)
@pytest.mark.parametrize("site", SITES, ids=lambda site: site.dialect)
def test_images_hold_the_activity_times_the_calibration_error(study_of: StudyOf, site: Site, phantom: Phantom) -> None:
    image = read(study_of(site) / phantom.name / "spect", site)
    seen_mbq = image.array_bq_per_ml.sum(dtype=float) * image.grid.voxel_volume_ml / 1e6
    assert seen_mbq == pytest.approx(phantom.activity_mbq * site.camera.calibration_factor, rel=0.01)
    # Filled an hour before the scan.
    assert image.provenance.injected_activity_mbq == pytest.approx(
        phantom.activity_mbq * np.exp(nuclide("Lu-177").decay_constant_per_h), rel=1e-3
    )


def test_the_cylinder_gives_the_sensitivity_that_the_counts_have(study: Path) -> None:
    """By nothing but tags and the truth: 8.4 cps/MBq stated, 3 % more in the images."""
    header = pydicom.dcmread(study / "cylinder" / "spect" / "nm.dcm")
    photopeak = np.asarray(header.EnergyWindowVector) == 1
    rotation = header.RotationInformationSequence[0]
    # 120 views over both heads: each head takes 60 of them, one after another.
    wall_clock_s = float(rotation.ActualFrameDuration) / 1e3 * rotation.NumberOfFramesInRotation / 2
    activity_mbq = {row["phantom"]: float(row["activity_mbq"]) for row in rows_of(study)}["cylinder"]
    # Mean over the scan: the activity at its middle.
    mean_mbq = activity_mbq * (1.0 - 0.5 * log(2.0) * wall_clock_s / 574300.0)
    sensitivity = header.pixel_array[photopeak].sum(dtype=float) / wall_clock_s / mean_mbq
    assert sensitivity == pytest.approx(8.4 * 1.03, rel=0.003)


@pytest.mark.parametrize("site", SITES, ids=lambda site: site.dialect)
def test_an_index_places_every_phantom(study_of: StudyOf, site: Site) -> None:
    study = study_of(site)
    rows, unplaced = draft_scans(index_folders([study]), study)
    assert [(row["ct"], row["contours"], row["cycle"], row["time_point"]) for row in rows] == [
        (f"{name}/ct", f"{name}/rtstruct.dcm", 1, 1) for name in ("cylinder", "kidneys", "spheres")
    ]
    assert {str(row["spect"]).removesuffix("/nm.dcm") for row in rows} == {f"{p.name}/spect" for p in phantoms()}
    assert [entry["path"] for entry in unplaced] == ["phantoms.tsv", "truth.csv"]


def test_a_phantom_has_all_of_the_scan_time(study_of: StudyOf) -> None:
    """Patients of this camera lie at three bed positions: the longest has 1043 of 2400 s, and 1.5 times the noise."""
    site = SITES[2]
    image = read(study_of(site) / "cylinder" / "spect", site)
    one_bed = replace(site.camera, bed_times=(1.0,))
    truth = CYLINDER.activity_map(image.grid)
    again = image_spect(truth, image.grid, one_bed, stream(1, "again"), radius_mm=CYLINDER.radius_mm)
    # Away from the edges.
    z, y, x = (n // 2 for n in image.grid.shape)
    middle = (slice(z - 12, z + 12), slice(y - 12, y + 12), slice(x - 12, x + 12))
    noise, expected = (float(a[middle].std(dtype=float)) for a in (image.array_bq_per_ml, again))
    assert noise == pytest.approx(expected, rel=0.15)


def test_outlines_enclose_the_parts(study: Path) -> None:
    for phantom in phantoms():
        ct = read_ct(study / phantom.name / "ct")
        structures = {s.name: s for s in read_structures(study / phantom.name / "rtstruct.dcm")}
        for part in phantom.parts:
            volume_ml = float(structure_mask(structures[part.name], ct.grid).sum()) * ct.grid.voxel_volume_ml
            # A sphere of 10 mm has three slices of 4 mm.
            assert volume_ml == pytest.approx(part.outline_ml, rel=0.25 if part.outline_ml < 2.0 else 0.06), part.name


def test_water_looks_like_water(study: Path) -> None:
    ct = read_ct(study / "cylinder" / "ct")
    z, y, x = (int(v) for v in np.rint(ct.grid.index(np.array([[0.0, 0.0, 25.0]]))[0]))
    assert float(ct.array_hu[z - 5 : z + 6, y - 10 : y + 11, x - 10 : x + 11].mean()) == pytest.approx(0.0, abs=1.0)


def test_recovery_depends_on_size_and_on_shape(study: Path) -> None:
    recovery = {}
    for phantom in (SPHERES, KIDNEYS):
        image = read(study / phantom.name / "spect", SITE)
        for part in phantom.parts:
            recovery[part.name] = seen_mbq(image, part) / part.activity_mbq / CAMERA.calibration_factor
    spheres = [recovery[f"sphere_{diameter:.0f}mm"] for diameter in SPHERE_DIAMETERS_MM]
    assert spheres == sorted(spheres)
    # At 12 mm of blur the largest sphere keeps about two thirds in its outline.
    assert 0.55 < spheres[-1] < 0.85
    # Kidneys: five times the volume of that sphere, and yet far from 1; a volume alone would say 0.99.
    assert 0.70 < recovery["kidney_ellipsoid"] < 0.92
    assert recovery["kidney_cortex"] < recovery["kidney_parenchyma"] < recovery["kidney_ellipsoid"]


def test_another_dialect_stores_the_same_study(study: Path, tmp_path: Path) -> None:
    write_camera_study(tmp_path, SITE, seed=3, dialect="pt-bqml")
    nm = read(study / "spheres" / "spect", SITE)
    pt = read_spect(tmp_path / "spheres" / "spect")
    # Whole counts: some 700 Bq/mL each.
    assert np.allclose(nm.array_bq_per_ml, pt.array_bq_per_ml, rtol=1e-3, atol=500.0)
    # Same seed, same bytes: all but the SPECT.
    for phantom in phantoms():
        for name in ("rtstruct.dcm", "ct/ct-0001.dcm", "ct/ct-0048.dcm"):
            assert (study / phantom.name / name).read_bytes() == (tmp_path / phantom.name / name).read_bytes()
    assert (tmp_path / "truth.csv").read_bytes() == (study / "truth.csv").read_bytes()


def test_an_unknown_dialect_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="dialect is unknown"):
        write_camera_study(tmp_path, SITE, seed=3, dialect="xml")
