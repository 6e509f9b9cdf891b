"""The virtual torso: sides, volumes, CT numbers and activity maps."""

from __future__ import annotations

import numpy as np
import pytest

from doseledger.phantom.cycle import outlines
from doseledger.phantom.design import FIELDS, Size
from doseledger.phantom.patients import draw_patient
from doseledger.phantom.shapes import Pose
from doseledger.phantom.torso import ORGANS, TISSUES, Torso, activity_map, hounsfield, organ_shares

SEEDS = range(12)
CT, SPECT = FIELDS["demo"].ct, FIELDS["demo"].spect
ACTIVITY_MBQ = {"kidney_left": 90.0, "kidney_right": 95.0, "liver": 400.0, "spleen": 150.0, "lesion_1": 70.0}


@pytest.fixture(scope="module")
def torso() -> Torso:
    return draw_patient(1, "A", "P1").torso


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_are_on_their_sides_in_lps(seed: int) -> None:
    organs = draw_patient(seed, "A", "P1").torso.organs
    assert organs["liver"].centre_mm[0] < 0.0 < organs["spleen"].centre_mm[0]
    assert organs["kidney_right"].centre_mm[0] < 0.0 < organs["kidney_left"].centre_mm[0]
    assert min(organs[side].centre_mm[1] for side in ("kidney_left", "kidney_right")) > 0.0
    assert organs["kidney_right"].centre_mm[2] < organs["liver"].centre_mm[2]


@pytest.mark.parametrize("seed", SEEDS)
def test_organs_have_the_size_of_organs(seed: int) -> None:
    torso = draw_patient(seed, "B", "P1").torso
    assert 80.0 < torso.mass_g("kidney_left") < 250.0
    assert 80.0 < torso.mass_g("kidney_right") < 250.0
    assert 1200.0 < torso.volume_ml("liver") < 2000.0
    assert 150.0 < torso.volume_ml("spleen") < 300.0
    assert 20.0 <= torso.volume_ml("lesion_1") <= 30.0


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("size", ["demo", "micro"])
def test_all_organs_are_inside_both_fields_in_any_pose(seed: int, size: Size) -> None:
    for sign in (-1.0, 1.0):
        shift_mm = sign * 5.0
        moved = draw_patient(seed, "C", "P1").torso.moved(
            Pose(sign * 2.0, (shift_mm, shift_mm, shift_mm)).shifted(sign * 4.0)
        )
        for grid in (FIELDS[size].ct, FIELDS[size].spect):
            for organ in moved.organs.values():
                index = grid.index(organ.surface(200))
                assert np.all(index > -0.5)
                assert np.all(index < np.array(grid.shape) - 0.5)


def test_voxels_hold_the_analytic_volume_within_one_per_cent(torso: Torso) -> None:
    moved = torso.moved(Pose(1.7, (3.1, -2.3, 4.4)))
    for name, share in organ_shares(moved, SPECT).items():
        sampled_ml = float(share.sum(dtype=float)) * SPECT.voxel_volume_ml
        assert sampled_ml == pytest.approx(torso.volume_ml(name), rel=0.01), name


def test_a_mask_of_ct_voxels_holds_the_analytic_volume_within_one_per_cent(torso: Torso) -> None:
    for name in ("kidney_left", "kidney_right", "liver", "spleen"):
        mask = organ_shares(torso, CT, samples=1)[name] > 0.5
        assert mask.sum() * CT.voxel_volume_ml == pytest.approx(torso.volume_ml(name), rel=0.01), name


def test_organs_do_not_share_voxel_volume(torso: Torso) -> None:
    total = sum(organ_shares(torso, SPECT).values())
    assert float(np.max(total)) <= 1.0 + 1e-6
    assert min(float(share.min()) for share in organ_shares(torso, SPECT).values()) >= 0.0


def test_sums_of_parts(torso: Torso) -> None:
    parts = ("kidney_left", "kidney_right")
    assert torso.mass_g("kidneys") == pytest.approx(sum(torso.mass_g(part) for part in parts), rel=1e-12)
    whole_ml = torso.organs["liver"].volume_ml
    assert torso.volume_ml("liver") + torso.volume_ml("lesion_1") == pytest.approx(whole_ml, rel=1e-12)


def test_a_lesion_can_change_its_volume_in_place(torso: Torso) -> None:
    smaller = torso.with_lesion_volume(16.0)
    assert smaller.volume_ml("lesion_1") == pytest.approx(16.0, rel=1e-12)
    assert np.array_equal(smaller.organs["lesion_1"].centre_mm, torso.organs["lesion_1"].centre_mm)


def test_ct_shows_organs_lungs_air_and_table(torso: Torso) -> None:
    image = hounsfield(torso, CT)
    for name in ("kidney_left", "kidney_right", "spleen", "lesion_1"):
        z, y, x = np.rint(CT.index(torso.organs[name].centre_mm[None, :])[0]).astype(int)
        assert image[z, y, x] == pytest.approx(TISSUES[name].hu, abs=0.5), name
    lung = np.rint(CT.index(torso.lungs[0].centre_mm[None, :])[0]).astype(int)
    assert image[lung[0], lung[1], lung[2]] == pytest.approx(-740.0, abs=0.5)
    assert image[0, 0, 0] == -1000.0
    table = np.rint(CT.index(torso.table[1].centre_mm[None, :])[0]).astype(int)
    assert image[table[0], table[1], table[2]] == pytest.approx(-850.0, abs=0.5)


def test_table_lies_behind_the_back_and_does_not_move(torso: Torso) -> None:
    assert torso.table[0].centre_mm[1] - torso.table[0].half_mm[1] > torso.body.half_mm[1] + 5.0
    moved = torso.moved(Pose(2.0, (5.0, 5.0, 5.0)))
    assert np.array_equal(moved.table[0].centre_mm, torso.table[0].centre_mm)


@pytest.mark.parametrize("size", ["demo", "micro"])
def test_activity_map_holds_exactly_the_activity_put_in(torso: Torso, size: Size) -> None:
    grid = FIELDS[size].spect
    image = activity_map(torso.moved(Pose(-1.0, (1.0, 2.0, 3.0))), grid, ACTIVITY_MBQ, 1200.0)
    total_mbq = float(image.sum(dtype=float)) * grid.voxel_volume_ml / 1.0e6
    assert total_mbq == pytest.approx(sum(ACTIVITY_MBQ.values()) + 1200.0, rel=1e-5)
    assert float(image.min()) >= 0.0


def test_activity_map_has_the_concentration_inside_each_organ(torso: Torso) -> None:
    image = activity_map(torso, SPECT, ACTIVITY_MBQ, 1200.0)
    for name, share in organ_shares(torso, SPECT).items():
        inside = image[share > 0.999]
        assert inside.mean() == pytest.approx(ACTIVITY_MBQ[name] * 1.0e6 / torso.volume_ml(name), rel=0.01), name


def test_background_volume_is_the_body_without_organs(torso: Torso) -> None:
    image = activity_map(torso, SPECT, dict.fromkeys(ORGANS, 0.0), 1000.0)
    concentration = float(np.median(image[image > 0.0]))
    assert concentration == pytest.approx(1000.0e6 / torso.background_ml(SPECT), rel=2e-3)


def test_outlines_hold_the_analytic_volume_and_the_right_side(torso: Torso) -> None:
    drawn = {outline.name: outline for outline in outlines(torso, CT)}
    assert set(drawn) == {"Kidney L", "Kidney R", "Liver", "Spleen", "Lesion 1"}
    organs = {"Kidney L": "kidney_left", "Kidney R": "kidney_right", "Liver": "liver", "Spleen": "spleen"}
    for name, organ in organs.items():
        volume_ml = 0.0
        for index, points in drawn[name].contours.items():
            assert points[0, 2] == pytest.approx(CT.position_mm(np.array([index, 0.0, 0.0]))[2])
            x, y = points[:, 0], points[:, 1]
            volume_ml += 0.5 * float(np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y)) * CT.spacing_mm[0] / 1000.0
        # The outline of the liver goes around the lesion.
        assert volume_ml == pytest.approx(torso.organs[organ].volume_ml, rel=0.01), name
    assert min(points[:, 0].min() for points in drawn["Kidney L"].contours.values()) > 0.0
    assert max(points[:, 0].max() for points in drawn["Kidney R"].contours.values()) < 0.0
    assert drawn["Lesion 1"].interpreted_type == "GTV"
