"""Bed positions within one PET series: each was scanned at its own time, the image refers to one.

C(start of the first bed) = stored value * factor of its bed, with t the time from the first bed's
start to this one's, T its duration, and a = lambda T / (1 - exp(-lambda T)):

===== ============================================ =======================================
tag   stored values are                            factor
===== ============================================ =======================================
NONE  the mean over the scan of the bed            a exp(lambda t)
START corrected to the start of the first bed      1
START corrected to the start of the bed itself     exp(lambda t)
ADMIN corrected to the injection                   exp(-lambda (first start - injection))
===== ============================================ =======================================

Which of the two START is, DecayFactor (0054,1321) tells: it holds exp(lambda t) or it does not.
Only physical decay is accounted for: what the body moves between two beds is not.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Final

from doseledger.errors import TimeError
from doseledger.io.dicom.decay import (
    SERIES_TIME_DIFFERS,
    Administration,
    DecayState,
    averaged_to_start_factor,
    decayed_fraction,
    read_decay_state,
    undo_admin,
)
from doseledger.io.dicom.headers import Header, tag_name

#: What is the same for all slices of a bed.
_OF_A_BED: Final = ("AcquisitionDate", "AcquisitionTime", "ActualFrameDuration")
#: A DecayFactor agrees with one of the two meanings of START if it is this near to it, as a share of
#: their difference.
FACTOR_AGREES: Final = 0.25
#: Where no DecayFactor tells the two meanings apart, this much of a difference is borne and flagged.
LARGEST_DOUBT_REL: Final = 0.005


@dataclass(frozen=True)
class BedDecay:
    """Decay state of the whole series, and the factor of every slice in the order of the slices."""

    state: DecayState
    factors: tuple[float, ...]


@dataclass(frozen=True)
class _Bed:
    header: Header
    n_slices: int
    state: DecayState


def read_bed_decay(slices: Sequence[Header], administration: Administration) -> BedDecay:
    """Times and factors of the beds of a series, whose slices are in order of place.

    Raises
    ------
    TagMissingError, QuantityError
        As `decay.read_decay_state`, of each bed; no half-life for beds of several times.
    TimeError
        Slices of several times are mixed, or it is not clear what START refers to.
    """
    beds = [_Bed(run[0], len(run), read_decay_state(run[0], administration)) for run in _runs(slices)]
    if len(beds) == 1:
        return BedDecay(beds[0].state, (beds[0].state.factor,) * len(slices))
    first = min(beds, key=lambda bed: bed.state.scan_start)
    start = first.state.scan_start
    factors, flags = _factors(beds, first, administration)
    ends = [bed.state.scan_start + timedelta(seconds=bed.state.duration_s or 0.0) for bed in beds]
    complete = all(bed.state.duration_s is not None for bed in beds)
    state = replace(
        first.state,
        factor=factors[beds.index(first)],
        duration_s=(max(ends) - start).total_seconds() if complete else None,
        flags=tuple(dict.fromkeys([*first.state.flags, *_other_flags(beds), "several_beds", *flags])),
    )
    return BedDecay(state, tuple(f for f, bed in zip(factors, beds, strict=True) for _ in range(bed.n_slices)))


def _other_flags(beds: Sequence[_Bed]) -> list[str]:
    # Of the later beds it is a matter of course that they do not start with the series.
    return [flag for bed in beds for flag in bed.state.flags if flag != SERIES_TIME_DIFFERS]


def _runs(slices: Sequence[Header]) -> list[list[Header]]:
    """Neighbouring slices of the same time and duration."""
    keys = [tuple(header.texts(k) for k in _OF_A_BED) for header in slices]
    runs = [[slices[0]]]
    for (key, before), (later, header) in pairwise(zip(keys, slices, strict=True)):
        if key == later:
            runs[-1].append(header)
        else:
            runs.append([header])
            if later in keys[: keys.index(key)]:
                raise _mixed(before, header)
    return runs


def _mixed(before: Header, header: Header) -> TimeError:
    keyword = next(k for k in _OF_A_BED if before.texts(k) != header.texts(k))
    return TimeError(
        f"slices of several times lie between each other: {before.path.name} and {header.path.name} differ",
        path=header.path,
        tag=tag_name(keyword),
        value=header.text(keyword),
        expected=before.text(keyword),
        remedy="Export one static series whose beds follow each other.",
    )


def _factors(beds: Sequence[_Bed], first: _Bed, administration: Administration) -> tuple[list[float], list[str]]:
    correction, start = first.state.correction, first.state.scan_start
    if correction == "ADMIN":
        return [undo_admin(first.header, administration, start)] * len(beds), []
    half_life_h = _half_life_h(first.header, administration)
    growth = [_growth(half_life_h, start, bed.state.scan_start) for bed in beds]
    if correction == "NONE":
        return [g * bed.state.factor for g, bed in zip(growth, beds, strict=True)], []
    to_first, flags = _refers_to_first(beds, first, growth, half_life_h)
    return [1.0] * len(beds) if to_first else growth, flags


def _growth(half_life_h: float, start: datetime, later: datetime) -> float:
    return 1.0 / decayed_fraction(half_life_h, (later - start).total_seconds())


def _half_life_h(header: Header, administration: Administration) -> float:
    if administration.half_life_h is None:
        raise TimeError(
            "the beds were scanned at several times and the header has no half-life to bring them to one",
            path=header.path,
            tag=tag_name("RadionuclideHalfLife"),
        )
    return administration.half_life_h


def _refers_to_first(
    beds: Sequence[_Bed], first: _Bed, growth: Sequence[float], half_life_h: float
) -> tuple[bool, list[str]]:
    """Whether START means the start of the first bed; else it means that of each bed."""
    latest = max(range(len(beds)), key=lambda i: growth[i])
    difference = growth[latest] - 1.0
    own = [_own_share(bed, half_life_h) for bed in (first, beds[latest])]
    if own[0] and own[1]:
        found = own[1] / own[0] - 1.0
        for answer, expected in ((True, difference), (False, 0.0)):
            if abs(found - expected) <= FACTOR_AGREES * difference:
                return answer, []
    if difference <= LARGEST_DOUBT_REL:
        return True, ["bed_decay_reference_assumed"]
    header = beds[latest].header
    raise TimeError(
        "it is not clear whether the beds were corrected to the start of the first one or each to its own",
        path=header.path,
        tag=tag_name("DecayFactor"),
        value=header.text("DecayFactor"),
        expected=f"{growth[latest]:.6g} times or once that of the first bed",
        remedy="Export the series with its DecayFactor, or corrected to the injection (ADMIN).",
    )


def _own_share(bed: _Bed, half_life_h: float) -> float | None:
    """DecayFactor without what it holds for the decay within the scan of the bed."""
    factor, duration_s = bed.header.number("DecayFactor"), bed.state.duration_s
    if factor is None or duration_s is None:
        return None
    return factor / averaged_to_start_factor(half_life_h, duration_s)
