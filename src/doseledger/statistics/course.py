"""Cumulation over the cycles of a course of treatment.

The sum runs over the *administrations*, not over the imaged cycles: a cycle without a dose makes
the sum incomplete and never counts as 0 Gy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import hypot, sqrt
from typing import Literal

CumulativeStatus = Literal["complete", "imputed", "incomplete"]


@dataclass(frozen=True)
class CycleDose:
    """Dose of a region in one administered cycle; ``dose_gy`` is None when there is none."""

    cycle: int
    #: None when the administration sheet has no usable row of the cycle.
    administered_mbq: float | None
    dose_gy: float | None
    bed_gy: float | None
    u_systematic_rel: float
    u_random_rel: float


@dataclass(frozen=True)
class Cumulation:
    """Sum over the cycles counted, with what a reader must know of it."""

    cycles_given: int
    cycles_counted: int
    status: CumulativeStatus
    administered_mbq: float | None
    dose_gy: float | None
    bed_gy: float | None
    u_dose_rel: float | None


def cumulate(cycles: Sequence[CycleDose]) -> Cumulation:
    """Sum doses over the administered cycles.

    Systematic parts (calibration, recovery, volume, engine) are common to all cycles and add
    linearly, random parts in quadrature. BED adds because the dose of one cycle is delivered long
    before the next; it is null if one counted cycle has none.

    Examples
    --------
    Four equal cycles at 13 % of which 10 % are common give 10.8 %:

    >>> random = sqrt(0.13**2 - 0.10**2)
    >>> total = cumulate([CycleDose(n, 7400.0, 5.0, None, 0.10, random) for n in (1, 2, 3, 4)])
    >>> total.dose_gy, round(total.u_dose_rel, 3), total.status
    (20.0, 0.108, 'complete')
    """
    counted = [c for c in cycles if c.dose_gy is not None]
    dose = sum(c.dose_gy or 0.0 for c in counted)
    systematic = sum((c.dose_gy or 0.0) * c.u_systematic_rel for c in counted)
    random = sqrt(sum(((c.dose_gy or 0.0) * c.u_random_rel) ** 2 for c in counted))
    beds = [c.bed_gy for c in counted]
    activities = [c.administered_mbq for c in cycles]
    return Cumulation(
        cycles_given=len(cycles),
        cycles_counted=len(counted),
        status="complete" if counted and len(counted) == len(cycles) else "incomplete",
        administered_mbq=None if None in activities else sum(a for a in activities if a is not None),
        dose_gy=dose if counted else None,
        bed_gy=sum(b for b in beds if b is not None) if beds and None not in beds else None,
        u_dose_rel=hypot(systematic, random) / dose if dose > 0 else None,
    )


@dataclass(frozen=True)
class LimitCheck:
    """A cumulative dose against a reference line; null unless the sum is complete."""

    fraction: float | None
    activity_left_mbq: float | None


def check_limit(total: Cumulation, limit_gy: float, *, prior_gy: float | None, use_bed: bool) -> LimitCheck:
    """Share of a limit used, and the activity left at the patient's mean dose per activity.

    For BED the dose per activity is not constant, so that no activity is given.
    """
    value = total.bed_gy if use_bed else total.dose_gy
    if value is None or total.status == "incomplete":
        return LimitCheck(None, None)
    used = value + (prior_gy or 0.0)
    left = None
    if not use_bed and value > 0 and total.administered_mbq is not None:
        left = max(limit_gy - used, 0.0) / (value / total.administered_mbq)
    return LimitCheck(used / limit_gy, left)
