"""Recoveries of printed kidneys (doi 10.1186/s40658-022-00446-2) by one virtual kidney, and their correction."""

from __future__ import annotations

import runpy
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def recipe() -> dict[str, Any]:
    return runpy.run_path(str(ROOT / "recipes" / "kidney_phantoms.py"))


@pytest.mark.parametrize("fwhm_mm", [10.0, 11.0, 12.0])
def test_one_kidney_has_the_three_recoveries_of_the_printed_ones(recipe: dict[str, Any], fwhm_mm: float) -> None:
    for part, printed in recipe["PRINTED"].items():
        assert recipe["recovery"](part, fwhm_mm) == pytest.approx(printed, abs=recipe["TOLERANCE"]), part
    # The cortex of virtual patients, 10 mm, is not that of the printed ones.
    assert recipe["recovery"]("cortex", fwhm_mm, 10.0) > recipe["PRINTED"]["cortex"] + recipe["TOLERANCE"]


def test_no_kidney_has_them_with_a_narrower_blur(recipe: dict[str, Any]) -> None:
    assert recipe["recovery"]("parenchyma", 8.0) > recipe["PRINTED"]["parenchyma"] + recipe["TOLERANCE"]


@pytest.mark.parametrize("part", ["ellipsoid", "parenchyma", "cortex"])
def test_a_gaussian_blur_is_taken_back(recipe: dict[str, Any], part: str) -> None:
    found = recipe["imaged"](part, None)
    assert found.measured == pytest.approx(recipe["PRINTED"][part], abs=recipe["TOLERANCE"])
    assert found.corrected("gtm") == pytest.approx(1.0, abs=recipe["CORRECTED_REL"])


def test_images_like_those_of_osem_are_corrected_where_the_kidney_is_thick(recipe: dict[str, Any]) -> None:
    camera, k_mm = recipe["CAMERAS"][0], recipe["SURFACE_MM"][0]
    for part in ("ellipsoid", "parenchyma"):
        found = recipe["imaged"](part, camera, k_mm)
        for method in ("gtm", "auto"):
            assert found.corrected(method) == pytest.approx(1.0, abs=recipe["CORRECTED_REL"]), (part, method)
        assert found.found["auto"].method == "surface"
    # The limit that the page states: a shell of 6 mm stays 10 to 11 % low.
    cortex = recipe["imaged"]("cortex", camera, k_mm)
    assert cortex.found["auto"].method == "gtm"
    assert 0.88 < cortex.corrected("gtm") < 0.92


def test_the_page_has_the_numbers_of_today(recipe: dict[str, Any]) -> None:
    page = (ROOT / "docs" / "partial-volume.md").read_text(encoding="utf-8")
    for line in recipe["bracket_table"]():
        assert line in page
