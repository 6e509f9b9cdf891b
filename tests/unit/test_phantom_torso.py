"""The virtual body: organs in their places, CT numbers, outlines and activity maps against the truth."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from doseledger.geometry import Grid
from doseledger.phantom.activity import activity_map, breathing_kernel
from doseledger.phantom.cycle import Cycle, Scan, draw_cycle, draw_scans
from doseledger.phantom.design import FIELDS, LONG_FIELDS, Site, Size, site_named
from doseledger.phantom.imaging import body_radius_mm, hounsfield
from doseledger.phantom.maps import MATERIALS, true_maps
from doseledger.phantom.outlines import outlines
from doseledger.phantom.patients import draw_patient
from doseledger.phantom.render import paint_organs
from doseledger.phantom.shapes import Image
from doseledger.phantom.sheets import REGION_ROWS, SOURCE_NAMES
from doseledger.phantom.torso import BLADDER, MARROW, Torso
from doseledger.phantom.view import Pose, View
from doseledger.phantom.viscera import KIDNEY_BREATHING, MEDULLA_UPTAKE, PELVIS_UPTAKE

SEEDS = range(6)
CT, SPECT = FIELDS["demo"].ct, FIELDS["demo"].spect


@pytest.fixture(scope="module")
def torso() -> Torso:
    return draw_patient(1, "A", "P1").torso


@pytest.fixture(scope="module")
def cycle() -> Cycle:
    return draw_cycle(1, "demo", site_named("A"), draw_patient(1, "A", "P1"), 0, 1)


def centre_of(torso: Torso, name: str) -> np.ndarray:
    box = torso.organs[name].solid.box
    return np.asarray((box.low_mm + box.high_mm) / 2.0)


def shares_of(torso: Torso, view: View, *, samples: int = 1) -> dict[str, Image]:
    shares = {}
    for painted in paint_organs(list(torso.organs.values()), view, samples=samples):
        image = np.zeros(view.grid.shape, dtype=np.float32)
        image[painted.block] = painted.share
        shares[painted.organ.name] = image
    return shares


def shoelace_mm2(points: np.ndarray) -> float:
    x, y = points[:, 0], points[:, 1]
    return 0.5 * abs(float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)))


# --- anatomy ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_are_in_their_places_in_lps(seed: int) -> None:
    torso = draw_patient(seed, "A", "P1").torso
    places = {name: centre_of(torso, name) for name in torso.organs}
    assert places["liver"][0] < -20.0 < 40.0 < places["spleen"][0]
    for side, sign in (("left", 1.0), ("right", -1.0)):
        if side in torso.kidney_sides:
            assert 40.0 < sign * places[f"kidney_{side}"][0] < 85.0
            assert places[f"kidney_{side}"][2] < places["liver"][2]
    assert abs(places[MARROW][0]) < 1.0
    assert places[BLADDER][2] < -180.0


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_have_the_size_of_organs(seed: int) -> None:
    torso = draw_patient(seed, "C", "P1").torso
    for side in torso.kidney_sides:
        assert 80.0 < torso.mass_g(f"kidney_{side}") < 250.0
    assert 850.0 < torso.volume_ml("liver") < 2500.0
    assert 60.0 < torso.volume_ml("spleen") < 450.0
    assert 10.0 < torso.volume_ml("parotid_left") < 40.0
    assert 4.0 < torso.volume_ml("submandibular_right") < 15.0
    assert 35.0 < torso.volume_ml(MARROW) < 90.0
    assert 1 <= len(torso.lesions) <= 4
    assert [lesion.name for lesion in torso.lesions] == [f"lesion_{n + 1}" for n in range(len(torso.lesions))]


def test_volumes_do_not_depend_on_how_finely_they_are_sampled(torso: Torso) -> None:
    for name in ("kidney_left", "liver", "spleen", MARROW, "lesion_1"):
        low, high = torso.organs[name].solid.box.low_mm - 2.0, torso.organs[name].solid.box.high_mm + 2.0
        z, y, x = (int(n) for n in np.ceil((high - low) / 1.6)[::-1])
        view = View(Grid((z, y, x), (1.6, 1.6, 1.6), (float(low[0]), float(low[1]), float(low[2]))))
        sampled_ml = float(shares_of(torso, view)[name].sum(dtype=float)) * view.grid.voxel_volume_ml
        assert sampled_ml == pytest.approx(torso.volume_ml(name), rel=5e-3), name


def test_kidneys_are_seven_tenths_cortex() -> None:
    """Of the mass 70 % cortex, 25 % medulla, 5 % pelvis (ICRP Publication 89), from the mean uptake."""
    torso = draw_patient(4, "A", "P1").torso
    kidney = torso.organs["kidney_left"]
    names = [zone.uptake for zone in kidney.zones]
    assert names == [MEDULLA_UPTAKE, PELVIS_UPTAKE]
    assert PELVIS_UPTAKE < MEDULLA_UPTAKE < 1.0
    # Each zone made to shine alone says how much of the kidney it is.
    shares = []
    for lit in range(2):
        zones = tuple(replace(zone, uptake=2.0 if n == lit else 1.0) for n, zone in enumerate(kidney.zones))
        shining = replace(torso, organs={"kidney_left": replace(kidney, zones=zones)})
        shares.append(shining.weighted_ml("kidney_left") / shining.volume_ml("kidney_left") - 1.0)
    assert shares[0] == pytest.approx(0.25, abs=0.05)
    assert shares[1] == pytest.approx(0.05, abs=0.03)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("site", ["A", "C"])
@pytest.mark.parametrize("size", ["demo", "micro"])
def test_all_organs_are_inside_both_fields_in_any_pose(seed: int, site: str, size: Size) -> None:
    torso = draw_patient(seed, site, "P1").torso
    fields = site_named(site).fields(size)
    for sign in (-1.0, 1.0):
        for grid in (fields.ct, fields.spect):
            view = View(grid, Pose(sign * 2.5, (sign * 6.0, sign * 6.0, sign * 9.0)), lift_mm=sign * 9.0)
            for organ in torso.organs.values():
                # The bladder is in view of long fields only.
                assert organ.name == BLADDER or view.holds(organ.solid.box), organ.name


def test_only_long_fields_see_bladder_and_salivary_glands() -> None:
    short, long = draw_patient(2, "A", "P1").torso, draw_patient(2, "C", "P1").torso
    assert not any(name.startswith("parotid") for name in short.organs)
    assert {"parotid_left", "parotid_right", "submandibular_left", "submandibular_right"} <= set(long.organs)
    assert View(LONG_FIELDS["demo"].spect).holds(long.organs[BLADDER].solid.box)
    assert not View(SPECT).holds(short.organs[BLADDER].solid.box)


def test_organs_do_not_share_voxel_volume(torso: Torso) -> None:
    shares = shares_of(torso, View(SPECT), samples=2)
    assert float(np.max(sum(shares.values()))) <= 1.0 + 1e-6
    assert min(float(share.min()) for share in shares.values()) >= 0.0


def test_sums_of_what_a_patient_has(torso: Torso) -> None:
    parts = ("kidney_left", "kidney_right")
    assert torso.mass_g("kidneys") == pytest.approx(sum(torso.mass_g(part) for part in parts), rel=1e-12)
    # 1.05 g/mL.
    assert torso.mass_g("kidney_left") == pytest.approx(1.05 * torso.volume_ml("kidney_left"), rel=1e-12)
    patients = (draw_patient(seed, "A", "P1") for seed in range(60))
    single = next(patient.torso for patient in patients if len(patient.torso.kidney_sides) == 1)
    (side,) = single.kidney_sides
    assert single.mass_g("kidneys") == single.mass_g(f"kidney_{side}")
    assert "kidneys" in single.regions
    # The kidney that is left has grown.
    assert single.volume_ml("kidneys") > 100.0


def test_a_lesion_takes_its_volume_from_the_liver() -> None:
    patient = next(p for p in (draw_patient(s, "A", "P1") for s in range(9)) if p.torso.lesions[0].place == "liver")
    torso = patient.torso
    volumes = {lesion.name: lesion.volume_ml for lesion in torso.lesions}
    grown = torso.with_lesions({**volumes, "lesion_1": volumes["lesion_1"] + 6.0})
    assert grown.volume_ml("lesion_1") - torso.volume_ml("lesion_1") == pytest.approx(6.0, rel=0.06)
    assert torso.volume_ml("liver") - grown.volume_ml("liver") == pytest.approx(6.0, rel=0.10)
    assert grown.volume_ml("spleen") == torso.volume_ml("spleen")


def test_the_bladder_fills() -> None:
    torso = draw_patient(2, "C", "P1").torso
    volumes = [torso.with_urine(ml).volume_ml(BLADDER) for ml in (30.0, 150.0, 300.0)]
    assert volumes == pytest.approx([30.0, 150.0, 300.0], rel=0.01)


# --- CT --------------------------------------------------------------------------------------------


def test_ct_shows_organs_lungs_bones_gas_air_and_table(torso: Torso) -> None:
    image = hounsfield(replace(torso, contrast=False), View(CT))
    shares = shares_of(torso, View(CT))
    for name, hu in (("kidney_left", 34.0), ("kidney_right", 34.0), ("liver", 57.0), ("spleen", 48.0)):
        assert float(np.median(image[shares[name] > 0.99])) == pytest.approx(hu, abs=4.0), name
    body = image[:, 40:150, 40:160]
    assert float((body < -700.0).mean()) > 0.10, "lungs"
    assert float((body > 250.0).mean()) > 0.01, "bones"
    assert float(((body > -130.0) & (body < -70.0)).mean()) > 0.08, "fat"
    assert image[0, 0, 0] == -1000.0
    below_the_back = image[40, 150:, 100]
    assert float(below_the_back.max()) > -200.0, "table"


def test_contrast_medium_shows_in_vessels_and_organs_alone(torso: Torso) -> None:
    plain, enhanced = (hounsfield(replace(torso, contrast=c), View(CT)) for c in (False, True))
    shares = shares_of(torso, View(CT))
    for name, least in (("kidney_left", 80.0), ("liver", 40.0), ("spleen", 50.0)):
        assert float(np.median((enhanced - plain)[shares[name] > 0.99])) > least, name
    fat = (plain > -110.0) & (plain < -95.0)
    assert float(np.abs((enhanced - plain)[fat]).mean()) < 1.0


def test_the_table_lies_under_the_back_and_does_not_move(torso: Torso) -> None:
    still = hounsfield(torso, View(CT))
    moved = hounsfield(torso, View(CT, Pose(2.0, (5.0, -6.0, 5.0))))
    # Columns of voxels beside the patient hold nothing but the table.
    assert np.array_equal(still[:, 120:, :14], moved[:, 120:, :14])
    assert float(still[:, 120:, 14:20].max()) > -700.0


def test_breath_moves_liver_and_kidneys_but_not_the_spine(torso: Torso) -> None:
    out, held = (shares_of(torso, View(CT, lift_mm=lift)) for lift in (0.0, 12.0))

    def height_mm(shares: dict[str, Image], name: str) -> float:
        profile = shares[name].sum(axis=(1, 2), dtype=float)
        return float(profile @ np.arange(len(profile)) / profile.sum()) * CT.spacing_mm[0]

    assert height_mm(held, "liver") - height_mm(out, "liver") == pytest.approx(12.0, abs=0.2)
    expected_mm = KIDNEY_BREATHING * 12.0
    assert height_mm(held, "kidney_left") - height_mm(out, "kidney_left") == pytest.approx(expected_mm, abs=0.2)
    assert height_mm(held, MARROW) == pytest.approx(height_mm(out, MARROW), abs=1e-6)


# --- outlines --------------------------------------------------------------------------------------


def test_outlines_hold_the_volume_and_the_right_side(torso: Torso) -> None:
    view = View(CT, Pose(2.0, (3.0, -4.0, 5.0)), lift_mm=6.0)
    drawn = {outline.name: outline for outline in outlines(torso, view)}
    assert set(drawn) == {SOURCE_NAMES[name] for name in torso.organs if name != BLADDER}
    inside_liver_ml = sum(torso.volume_ml(lesion.name) for lesion in torso.lesions if lesion.place == "liver")
    for name in ("kidney_left", "kidney_right", "liver", "spleen", MARROW):
        contours = drawn[SOURCE_NAMES[name]].contours
        volume_ml = sum(shoelace_mm2(points) for points in contours.values()) * CT.spacing_mm[0] / 1000.0
        # The outline of the liver goes around the lesions in it.
        expected_ml = torso.volume_ml(name) + (inside_liver_ml if name == "liver" else 0.0)
        # Slices of 4 mm cannot follow the flat ends of vertebrae.
        assert volume_ml == pytest.approx(expected_ml, rel=0.05 if name == MARROW else 0.02), name
        for index, points in contours.items():
            assert points[0, 2] == pytest.approx(CT.position_mm(np.array([index, 0.0, 0.0]))[2])
    assert min(points[:, 0].min() for points in drawn["Kidney L"].contours.values()) > 0.0
    assert max(points[:, 0].max() for points in drawn["Kidney R"].contours.values()) < 0.0
    assert drawn["Lesion 1"].interpreted_type == "GTV"
    assert drawn["Liver"].interpreted_type == "ORGAN"


def test_every_organ_has_an_outline_even_between_coarse_slices() -> None:
    for seed in SEEDS:
        torso = draw_patient(seed, "C", "P1").torso
        drawn = outlines(torso, View(LONG_FIELDS["micro"].ct))
        assert {outline.name for outline in drawn} == {SOURCE_NAMES[name] for name in torso.organs if name != BLADDER}
        assert all(outline.contours for outline in drawn)


def test_the_region_sheet_knows_every_region() -> None:
    known = {str(row["region"]) for row in REGION_ROWS}
    for seed in SEEDS:
        regions = set(draw_patient(seed, "C", "P1").torso.regions)
        assert regions - {"kidneys"} <= known


# --- activity --------------------------------------------------------------------------------------


def test_activity_map_holds_exactly_the_activity_put_in(torso: Torso) -> None:
    activity_mbq = dict.fromkeys(torso.organs, 0.0) | {
        "kidney_left": 90.0,
        "liver": 400.0,
        "spleen": 150.0,
        "lesion_1": 70.0,
    }
    for size in ("demo", "micro"):
        grid = FIELDS[size].spect  # type: ignore[index]
        view = View(grid, Pose(-1.0, (1.0, 2.0, 3.0)))
        for breathing_mm in (0.0, 14.0):
            image = activity_map(torso, view, activity_mbq, 0.0, breathing_mm=breathing_mm)
            total_mbq = float(image.sum(dtype=float)) * grid.voxel_volume_ml / 1.0e6
            assert total_mbq == pytest.approx(710.0, rel=1e-5)
            assert float(image.min()) >= 0.0


def test_a_part_of_an_organ_holds_its_part_of_the_activity(torso: Torso) -> None:
    activity_mbq = dict.fromkeys(torso.organs, 0.0) | {"liver": 400.0}
    middle_mm = float(centre_of(torso, "liver")[2])
    upper = Grid((40, 96, 96), (4.8, 4.8, 4.8), (-228.0, -228.0, middle_mm + 2.4))
    lower = Grid((40, 96, 96), (4.8, 4.8, 4.8), (-228.0, -228.0, middle_mm + 2.4 - 40 * 4.8))
    halves = [activity_map(torso, View(grid), activity_mbq, 0.0) for grid in (upper, lower)]
    held_mbq = [float(half.sum(dtype=float)) * upper.voxel_volume_ml / 1.0e6 for half in halves]
    assert sum(held_mbq) == pytest.approx(400.0, rel=0.01)
    assert min(held_mbq) > 80.0


def test_cortex_medulla_and_pelvis_hold_what_they_take_up(torso: Torso) -> None:
    activity_mbq = dict.fromkeys(torso.organs, 0.0) | {"kidney_left": 100.0}
    low = torso.organs["kidney_left"].solid.box.low_mm
    grid = Grid((120, 70, 70), (1.0, 1.0, 1.0), (float(low[0]) - 4.0, float(low[1]) - 4.0, float(low[2]) - 4.0))
    image = activity_map(torso, View(grid), activity_mbq, 0.0)
    peak = 100.0e6 / torso.weighted_ml("kidney_left")
    assert float(image.max()) == pytest.approx(peak, rel=1e-3)
    shares = np.histogram(image[image > 0.05 * peak] / peak, bins=(0.05, 0.24, 0.26, 0.54, 0.56, 0.99, 1.01))[0]
    # Most voxels are in one of the three; the others lie on a surface.
    assert shares[5] > shares[3] > shares[1] > 0
    assert shares[1] + shares[3] + shares[5] > 0.6 * shares.sum()


def test_the_rest_of_the_body_is_not_even(torso: Torso) -> None:
    image = activity_map(torso, View(SPECT), dict.fromkeys(torso.organs, 0.0), 1000.0)
    matter = hounsfield(torso, View(SPECT))
    muscle, lung, fat = ((matter > 40.0) & (matter < 60.0), matter < -780.0, (matter > -110.0) & (matter < -95.0))
    inside = image > 0.0
    assert float(np.median(image[muscle & inside])) == pytest.approx(1000.0, rel=0.02)
    assert float(np.median(image[lung & inside])) == pytest.approx(400.0, rel=0.02)
    assert float(np.median(image[fat & inside])) < 620.0


def test_breathing_spreads_about_the_mean_place() -> None:
    weights = breathing_kernel(14.0, 4.8)
    assert weights.sum() == pytest.approx(1.0)
    # Correlation: entry 0 looks below, that is from a place above the mean.
    places = -(np.arange(len(weights)) - len(weights) // 2) * 4.8
    assert float(weights @ places) == pytest.approx(0.0, abs=1e-9)
    # cos^4 has the variance 35/128 - 9/64; interpolation between voxels adds to it.
    spread_mm = float(np.sqrt(weights @ places**2))
    assert spread_mm == pytest.approx(14.0 * np.sqrt(35.0 / 128.0 - 9.0 / 64.0), rel=0.15)
    # Longest at the top: the end of expiration.
    assert places[int(np.argmax(weights))] > 0.0


# --- one cycle, one scan, any grid -----------------------------------------------------------------


def test_a_scan_holds_what_the_truth_says(cycle: Cycle) -> None:
    scan = draw_scans(cycle, (24.0,), refused=False)[0]
    organs_mbq = cycle.organ_activity_mbq(scan.time_h, scan.since_void_h)
    in_field_mbq = sum(mbq for name, mbq in organs_mbq.items() if name != BLADDER)
    assert in_field_mbq < scan.whole_field_mbq < cycle.injection.administered_mbq
    # Breathing and movement change nothing in what there is.
    held = replace(scan, breathing_mm=0.0)
    assert held.whole_field_mbq == pytest.approx(scan.whole_field_mbq, rel=1e-3)


def test_spect_and_ct_differ_by_the_breath_of_the_ct(cycle: Cycle) -> None:
    scan = draw_scans(cycle, (24.0,), refused=False)[0]
    liver = {
        view: shares_of(scan.torso, View(SPECT, view.pose, view.lift_mm))["liver"].sum(axis=(1, 2), dtype=float)
        for view in (scan.ct_view, scan.spect_view)
    }
    ct_mm, spect_mm = (4.8 * float(p @ np.arange(len(p)) / p.sum()) for p in liver.values())
    assert spect_mm - ct_mm == pytest.approx(scan.motion.shift_mm[2] - scan.ct_breath_mm, abs=0.2)


def test_true_maps_on_a_grid_of_their_own(cycle: Cycle) -> None:
    grid = Grid((100, 90, 120), (3.2, 3.0, 3.0), (-178.5, -133.5, -122.0))
    maps = true_maps(cycle, 24.0, grid)
    names = dict(enumerate(maps.regions, start=1))
    for number, name in names.items():
        volume_ml = float((maps.labels == number).sum()) * grid.voxel_volume_ml
        assert volume_ml == pytest.approx(cycle.torso.volume_ml(name), rel=0.12, abs=0.4), name
    liver = maps.labels == 1 + maps.regions.index("liver")
    concentration = cycle.curves["liver"].activity_mbq(24.0) * 1.0e6 / cycle.torso.volume_ml("liver")
    assert float(maps.activity_bq_per_ml[liver].mean()) == pytest.approx(concentration, rel=0.03)
    assert float(np.median(maps.density_g_per_ml[liver])) == pytest.approx(1.06, abs=1e-3)
    assert {MATERIALS[i] for i in np.unique(maps.material)} == set(MATERIALS)
    assert float(maps.density_g_per_ml.min()) == pytest.approx(0.0012, rel=1e-3)


def test_true_maps_of_the_time_integral(cycle: Cycle) -> None:
    integral, now = true_maps(cycle, None, SPECT), true_maps(cycle, 24.0, SPECT)
    for name in ("liver", "spleen", "kidney_left"):
        inside = now.labels == 1 + now.regions.index(name)
        ratio_h = float((integral.activity_bq_per_ml[inside] / now.activity_bq_per_ml[inside]).mean())
        curve = cycle.curves[name]
        # Partial voxels mix in what is around the organ.
        assert ratio_h == pytest.approx(curve.tia_mbq_h / curve.activity_mbq(24.0), rel=0.03), name


def test_scans_are_drawn_alike_and_apart(cycle: Cycle) -> None:
    one, other = draw_scans(cycle, (4.0, 24.0), refused=True)
    again = draw_scans(cycle, (4.0,), refused=True)[0]
    assert (again.pose, again.breathing_mm, again.ct_breath_mm) == (one.pose, one.breathing_mm, one.ct_breath_mm)
    assert one.pose != other.pose
    assert (one.as_suv, other.as_suv) == (True, False)
    assert isinstance(one, Scan)
    assert body_radius_mm(cycle.torso) == pytest.approx(130.0, abs=35.0)
    assert Site("C", 2).sees_neck
