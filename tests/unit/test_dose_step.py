"""Stage dose: engines side by side."""

from __future__ import annotations

from typing import Any

from doseledger.steps.dose import ENGINES_DIFFER_RATIO, flag_differences


def row(region: str, engine: str, dose_gy: float, *, primary: bool, blur: str = "gtm") -> dict[str, Any]:
    return {
        "region": region,
        "partial_volume_method": blur,
        "dose_engine": engine,
        "absorbed_dose_gy": dose_gy,
        "is_primary": primary,
        "flags": ["no_ct"],
    }


def test_a_region_where_engines_differ_is_flagged_on_its_primary_row() -> None:
    rows = [
        row("liver", "pmc", 1.0, primary=True),
        row("marrow", "pmc", 1.0, primary=True),
        row("spleen", "pmc", 1.0, primary=True),
        row("liver", "led", 1.0 / (ENGINES_DIFFER_RATIO - 0.01), primary=False),
        row("marrow", "led", 1.0 / (ENGINES_DIFFER_RATIO + 0.01), primary=False),
        row("spleen", "led", ENGINES_DIFFER_RATIO + 0.01, primary=False),
    ]
    flag_differences(rows)
    flagged = [(r["region"], r["dose_engine"]) for r in rows if "engines_differ" in r["flags"]]
    assert flagged == [("marrow", "pmc"), ("spleen", "pmc")]
    assert all("no_ct" in r["flags"] for r in rows)


def test_one_engine_has_nothing_to_differ_from() -> None:
    rows = [row("liver", "pmc", 1.0, primary=True)]
    flag_differences(rows)
    assert rows[0]["flags"] == ["no_ct"]


def test_a_dose_as_measured_is_not_held_against_a_corrected_one() -> None:
    rows = [row("lesion_1", "pmc", 1.0, primary=False, blur="none"), row("lesion_1", "pmc", 2.0, primary=True)]
    flag_differences(rows)
    assert rows[1]["flags"] == ["no_ct"]
