"""Rows of blood_samples.tsv of one cycle, checked against its administration and brought into one form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final

from doseledger.activity import elapsed_h
from doseledger.activity.blood import (
    EARLY_H,
    LARGEST_SHARE_PER_ML,
    SMALLEST_EARLY_SHARE_PER_ML,
    at_sample_time,
    share_per_ml,
    whole_blood,
)
from doseledger.errors import SheetError, TimeError
from doseledger.nuclides import nuclide
from doseledger.units import MIN_PER_HOUR

Row = dict[str, Any]

#: One sample has no curve, and two have no second phase.
LEAST_SAMPLES: Final = 2
_KBQ_PER_MBQ: Final = 1.0e3
_TIME_REMEDY: Final = "Correct the time of the sample or of the injection, or leave the sample out."


def checked_samples(
    rows: Sequence[Mapping[str, Any]], administration: Mapping[str, Any], path: str, *, needs_haematocrit: bool
) -> list[Row]:
    """Samples in order of time: hours after mid-infusion and activity of 1 mL of blood then, MBq.

    Raises
    ------
    TimeError
        A sample was taken before the end of the injection, or two at one time.
    SheetError
        Samples of blood and plasma, several haematocrits or counters, a haematocrit that is missing, a single sample,
        or a concentration that cannot be in blood.
    """
    if not rows:
        return []
    _check_alike(rows, path)
    if len(rows) < LEAST_SAMPLES:
        raise SheetError("the cycle has a single blood sample", path=path, expected=f"{LEAST_SAMPLES} or more")
    haematocrit = next((row["haematocrit"] for row in rows if row["haematocrit"] is not None), None)
    if haematocrit is None and (needs_haematocrit or rows[0]["matrix"] == "plasma"):
        what = "haematocrit: missing; samples of plasma need it, as does dose.marrow.blood_ratio haematocrit"
        raise SheetError(what, path=path, tag="haematocrit")
    source = nuclide(administration["nuclide"])
    given_mbq = administration["measured_activity_mbq"] - administration["residual_activity_mbq"]
    samples = []
    for row in rows:
        after_start_h = _hours_after_start(row, administration, path)
        concentration = at_sample_time(
            row["concentration_kbq_per_ml"] / _KBQ_PER_MBQ,
            after_start_h,
            row["decay_reference"],
            half_life_h=source.half_life_h,
        )
        share = share_per_ml(concentration, after_start_h, given_mbq, source.half_life_h)
        if share > LARGEST_SHARE_PER_ML:
            raise _implausible(row, share, f"at most {100.0 * LARGEST_SHARE_PER_ML:g}", path)
        samples.append(
            {
                "time_h": after_start_h - administration["infusion_min"] / 2.0 / MIN_PER_HOUR,
                "activity_mbq": whole_blood(concentration, row["matrix"], haematocrit),
                "u_concentration_rel": row["u_concentration_rel"],
                "u_calibration_rel": row["u_calibration_rel"],
                "haematocrit": haematocrit,
                "matrix": row["matrix"],
                "early_share": share if after_start_h <= EARLY_H else None,
            }
        )
    early = [s["early_share"] for s in samples if s["early_share"] is not None]
    if early and max(early) < SMALLEST_EARLY_SHARE_PER_ML:
        at_least = f"at least {100.0 * SMALLEST_EARLY_SHARE_PER_ML:g} within {EARLY_H:g} h"
        raise _implausible(rows[0], max(early), at_least, path)
    samples.sort(key=lambda sample: sample["time_h"])
    times = [sample["time_h"] for sample in samples]
    if len(set(times)) < len(times):
        raise TimeError("two blood samples have the same time", path=path, tag="sample_time", remedy=_TIME_REMEDY)
    return [{k: v for k, v in sample.items() if k != "early_share"} for sample in samples]


def _check_alike(rows: Sequence[Mapping[str, Any]], path: str) -> None:
    """What holds for the cycle, or for the counter, is the same in all rows."""
    for column in ("matrix", "haematocrit", "u_calibration_rel"):
        found = {row[column] for row in rows if row[column] is not None}
        if len(found) > 1:
            what = f"{column}: the blood samples of the cycle differ"
            raise SheetError(what, path=path, tag=column, value=sorted(found), expected="one value for all")


def _hours_after_start(row: Mapping[str, Any], administration: Mapping[str, Any], path: str) -> float:
    """By the sheet, or by the clock of the administration and its zone."""
    if row["sample_time"] is None:
        hours = float(row["time_after_injection_start_h"])
    else:
        start, taken = (datetime.fromisoformat(t) for t in (administration["injection_start"], row["sample_time"]))
        hours = elapsed_h(start, taken, administration["time_zone"])
    infusion_h = administration["infusion_min"] / MIN_PER_HOUR
    if hours < 0.0:
        what, expected = "a blood sample was taken before the injection", "a sample after it"
    elif hours < infusion_h or hours == 0.0:
        what, expected = "a blood sample was taken before the end of the infusion", f"after {infusion_h:g} h"
    else:
        return hours
    raise TimeError(what, path=path, tag="sample_time", value=f"{hours:.2f} h", expected=expected, remedy=_TIME_REMEDY)


def _implausible(row: Mapping[str, Any], share: float, expected: str, path: str) -> SheetError:
    return SheetError(
        "concentration_kbq_per_ml: no such share of the administered activity is in 1 mL of blood; "
        "was it written in another unit?",
        path=path,
        tag="concentration_kbq_per_ml",
        value=f"{row['concentration_kbq_per_ml']:g} kBq/mL, {100.0 * share:.2g} %IA/mL",
        expected=f"{expected} %IA/mL",
    )
