"""What two results may differ by, and what must be seen whatever its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from doseledger.geometry import Grid
from doseledger.io.nifti import write_image
from doseledger.io.tables import SCHEMAS, write_rows
from doseledger.sameness import (
    FARTHEST_OUTLIER,
    LABELS_MOVED,
    OUTLIERS,
    TOLERANCES,
    compare_images,
    compare_tables,
    failures,
    kind_of_column,
)

KEY = {"site": "A", "patient": "P1", "cycle": 1}
GRID = Grid((30, 30, 30), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))


def doses(**changed: Any) -> list[dict[str, Any]]:
    common = {"tia_mbq_h": 5e3, "absorbed_dose_gy": 4.0, "extrapolated_fraction": 0.2, "flags": ["f"]}
    rows = [KEY | {"region": region, "analysis_id": "x"} | common for region in ("kidney_left", "liver", "spleen")]
    rows[1] |= changed
    return rows


def curves(**changed: Any) -> list[dict[str, Any]]:
    common = {"region": "liver", "n_timepoints": 4, "parameters": [30.0, 0.01], "tia_mbq_h": 3e3, "chi2": 1e-9}
    rows = [KEY | common | {"model": "mono", "chosen": True}, KEY | common | {"model": "bi", "chosen": False}]
    rows[0] |= changed
    return rows


def found(folder: Path, table: str, own: list[dict[str, Any]], their: list[dict[str, Any]]) -> list[str]:
    paths = []
    for name, rows in (("own", own), ("their", their)):
        (folder / name).mkdir()
        paths.append(write_rows(folder / name, table, rows))
    return [text for _, text in failures(table, *compare_tables(*paths))]


@pytest.mark.parametrize(
    ("changed", "part"),
    [
        ({"tia_mbq_h": 5e3 * (1 + 2e-6)}, "tia_mbq_h differs by up to 2e-06"),
        ({"absorbed_dose_gy": 4.01}, "monte_carlo"),
        ({"extrapolated_fraction": None}, "a number only on one side"),
        ({"flags": ["f", "too_few_scans"]}, "flags differs in 1 of 3 rows"),
        ({"curve_model": "bi"}, "curve_model differs in 1 of 3 rows"),
        ({"settings_sha256": "other"}, "settings_sha256 differs"),
        ({"region": "stomach"}, "2 rows are only in one of the two"),
        ({"tia_mbq_h": float("inf")}, "only on one side"),
    ],
)
def test_what_is_more_than_rounding_is_said_with_its_row(tmp_path: Path, changed: dict[str, Any], part: str) -> None:
    (text,) = found(tmp_path, "organ_dose", doses(), doses(**changed))
    assert part in text
    assert "liver" in text


@pytest.mark.parametrize(
    "changed",
    [{"tia_mbq_h": 5e3 * (1 + 5e-7)}, {"absorbed_dose_gy": 4.003}, {"software_version": "9"}, {"input_sha256": "bits"}],
)
def test_rounding_and_what_is_of_the_bits_alone_pass(tmp_path: Path, changed: dict[str, Any]) -> None:
    assert found(tmp_path, "organ_dose", doses(), doses(**changed)) == []


def test_doses_may_differ_by_what_two_monte_carlo_runs_do(tmp_path: Path) -> None:
    own, their = doses(mc_sd_rel=1e-3), doses(mc_sd_rel=1e-3, absorbed_dose_gy=4.0 * (1 + 7e-3))
    assert found(tmp_path, "organ_dose", own, their) == []
    (tmp_path / "more").mkdir()
    (text,) = found(tmp_path / "more", "organ_dose", own, doses(mc_sd_rel=1e-3, absorbed_dose_gy=4.0 * (1 + 9e-3)))
    assert "absorbed_dose_gy differs by up to 0.0089" in text


def test_a_number_near_zero_is_held_against_the_size_of_its_column(tmp_path: Path) -> None:
    own, their = doses(extrapolated_fraction=1e-14), doses(extrapolated_fraction=-3e-14)
    assert found(tmp_path, "organ_dose", own, their) == []
    (tmp_path / "more").mkdir()
    assert found(tmp_path / "more", "organ_dose", own, doses(extrapolated_fraction=1e-8)) != []


def test_a_chi_square_of_curves_through_all_points_is_rounding(tmp_path: Path) -> None:
    """Also where the table has no other curve, by which it would be small."""
    assert found(tmp_path, "curve", curves(chi2=4e-28), curves(chi2=2e-28)) == []


def test_a_chi_square_of_its_own_is_compared(tmp_path: Path) -> None:
    (text,) = found(tmp_path, "curve", curves(chi2=0.51), curves(chi2=0.50))
    assert "chi2 differs" in text


def test_of_curves_not_chosen_only_that_they_are_there(tmp_path: Path) -> None:
    their = curves()
    their[1] |= {"parameters": [7.0, 3.0], "tia_mbq_h": 1.0, "status": "at_bound"}
    assert found(tmp_path, "curve", curves(), their) == []
    (tmp_path / "more").mkdir()
    (text,) = found(tmp_path / "more", "curve", curves(), curves(parameters=[30.0, 0.010001]))
    assert "parameters differs" in text


def test_the_order_of_rows_says_nothing(tmp_path: Path) -> None:
    assert found(tmp_path, "organ_dose", doses(), doses()[::-1]) == []


def test_the_largest_deviation_is_known_even_where_it_is_allowed(tmp_path: Path) -> None:
    paths = []
    for name, rows in (("own", doses()), ("their", doses(tia_mbq_h=5e3 * (1 + 5e-7)))):
        (tmp_path / name).mkdir()
        paths.append(write_rows(tmp_path / name, "organ_dose", rows))
    texts, (deviation,) = compare_tables(*paths)
    assert texts == []
    assert deviation.relative == pytest.approx(5e-7, rel=1e-3)
    assert deviation.of_allowed == pytest.approx(0.5, rel=2e-2)


def test_every_column_of_reals_has_a_kind() -> None:
    kinds = {kind_of_column(table, field.name) for table, schema in SCHEMAS.items() for field in schema}
    assert kinds == {"value", "fit", "monte_carlo", "monte_carlo_sum", "voxel_noise", "spread"}
    assert kind_of_column("curve", "u_tia_mbq_h") == "value"
    assert kind_of_column("organ_dose", "absorbed_dose_gy") == "monte_carlo"
    assert kind_of_column("organ_dose", "tia_mbq_h") == "value"


def images(folder: Path, name: str, change: float, voxels: int = 1) -> list[str]:
    values = np.full(GRID.shape, 2.0)
    other = values.copy()
    other.flat[:voxels] += change
    paths = [folder / side / name for side in ("own", "their")]
    for path, array in zip(paths, (values, other), strict=True):
        path.parent.mkdir(parents=True)
        write_image(path, array, GRID, dtype=np.int16 if "dseg" in name else np.float32)
    return [text for _, text in failures(name, *compare_images(*paths))]


def test_images_are_held_against_their_largest_voxel(tmp_path: Path) -> None:
    limit, few = 2.0 * TOLERANCES["image"].floor, int(OUTLIERS * np.prod(GRID.shape))
    assert images(tmp_path / "a", "tia.nii.gz", 0.5 * limit, 2 * few) == []
    assert images(tmp_path / "b", "tia.nii.gz", 2.0 * limit, few) == []
    (text,) = images(tmp_path / "c", "tia.nii.gz", 2.0 * limit, 2 * few)
    assert "voxel 0 0 0" in text
    assert images(tmp_path / "d", "tia.nii.gz", 2.2 * FARTHEST_OUTLIER) != []
    assert images(tmp_path / "e", "dose_gy_pmc.nii.gz", 0.13, 2 * few) == []
    assert images(tmp_path / "f", "dose_gy_pmc.nii.gz", 0.15) != []


def test_an_image_that_is_no_number_on_one_side_is_not_within(tmp_path: Path) -> None:
    """Every comparison with nan says no: also the one with what is allowed."""
    for name in ("tia.nii.gz", "dose_gy_pmc.nii.gz"):
        assert images(tmp_path / "nan" / name, name, float("nan")) == ["voxels have a number only on one side"]


def test_numbers_against_zeros_alone_differ(tmp_path: Path) -> None:
    """A zero of zero allowed is no number, and hid the difference beside it."""
    own, their = curves(parameters=[0.0, 0.0]), curves(parameters=[0.0, 5.0])
    (text,) = found(tmp_path, "curve", own, their)
    assert text.startswith("parameters differs")


def test_labels_may_move_in_a_few_voxels_only(tmp_path: Path) -> None:
    few = int(LABELS_MOVED * np.prod(GRID.shape))
    assert images(tmp_path / "a", "x_dseg.nii.gz", 1, few) == []
    (text,) = images(tmp_path / "b", "x_dseg.nii.gz", 1, few + 1)
    assert f"{few + 1} of {np.prod(GRID.shape)} labelled voxels" in text
