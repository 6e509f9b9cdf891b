"""Cumulation over the cycles of a course of treatment.

The sum runs over the *administrations*, not over the imaged cycles: a cycle without a dose makes
the sum incomplete and never counts as 0 Gy.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import hypot
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
    #: Number of the cycle that the dose was scaled from; None for a cycle with a dose of its own.
    imputed_from: int | None = None


def impute(cycles: Sequence[CycleDose]) -> list[CycleDose]:
    """Give cycles without a dose the patient's own dose per activity of the nearest cycle.

    D_j = A_j D_n / A_n, n the nearest cycle with a dose of its own (of two, the earlier one), A the
    administered activities. The curve is taken to be that of cycle n, so that the quadratic part of BED
    scales with the square of the dose: BED_j = D_j + (BED_n - D_n) (D_j / D_n)^2. A cycle stays without a
    dose if its activity or that of every other cycle is not known.

    Examples
    --------
    Half the activity of a cycle with 5 Gy (BED 5.5 Gy):

    >>> given = [CycleDose(1, 7400.0, 5.0, 5.5, 0.10, 0.08), CycleDose(2, 3700.0, None, None, 0.0, 0.0)]
    >>> second = impute(given)[1]
    >>> second.dose_gy, second.bed_gy, second.imputed_from
    (2.5, 2.625, 1)
    """
    own = [c for c in cycles if c.dose_gy is not None and c.administered_mbq]
    return [c if c.dose_gy is not None or not own else _scaled(c, own) for c in cycles]


def _scaled(cycle: CycleDose, own: Sequence[CycleDose]) -> CycleDose:
    nearest = min(own, key=lambda c: (abs(c.cycle - cycle.cycle), c.cycle))
    if cycle.administered_mbq is None or nearest.administered_mbq is None:
        return cycle
    ratio = cycle.administered_mbq / nearest.administered_mbq
    dose = ratio * _gy(nearest)
    return replace(
        nearest,
        cycle=cycle.cycle,
        administered_mbq=cycle.administered_mbq,
        dose_gy=dose,
        bed_gy=None if nearest.bed_gy is None else dose + (nearest.bed_gy - _gy(nearest)) * ratio**2,
        imputed_from=nearest.cycle,
    )


@dataclass(frozen=True)
class Cumulation:
    """Sum over the cycles counted, with what a reader must know of it."""

    cycles_given: int
    cycles_counted: int
    cycles_imputed: int
    status: CumulativeStatus
    administered_mbq: float | None
    dose_gy: float | None
    bed_gy: float | None
    u_dose_rel: float | None


def cumulate(cycles: Sequence[CycleDose], *, u_between_cycles_rel: float = 0.0) -> Cumulation:
    """Sum doses over the administered cycles.

    Systematic parts (calibration, recovery, volume, engine) are common to all cycles and add
    linearly, random parts in quadrature. The random error of a cycle is also that of the cycles imputed
    from it, which add `u_between_cycles_rel` of their own: u^2 = (sum_i D_i s_i)^2 +
    sum_n (r_n (D_n + sum_{j from n} D_j))^2 + b^2 sum_j D_j^2. BED adds because the dose of one cycle is
    delivered long before the next; it is null if one counted cycle has none.

    Parameters
    ----------
    u_between_cycles_rel
        Standard deviation of ln(dose per activity) between cycles of one patient; for imputed cycles.

    Examples
    --------
    Four equal cycles at 13 % of which 10 % are common give 10.8 %:

    >>> random = (0.13**2 - 0.10**2) ** 0.5
    >>> total = cumulate([CycleDose(n, 7400.0, 5.0, None, 0.10, random) for n in (1, 2, 3, 4)])
    >>> total.dose_gy, round(total.u_dose_rel, 3), total.status
    (20.0, 0.108, 'complete')
    """
    counted = [c for c in cycles if c.dose_gy is not None]
    imputed = [c for c in counted if c.imputed_from is not None]
    dose = sum(_gy(c) for c in counted)
    systematic = sum(_gy(c) * c.u_systematic_rel for c in counted)
    random: dict[int, float] = {}
    for c in counted:
        source = c.cycle if c.imputed_from is None else c.imputed_from
        random[source] = random.get(source, 0.0) + _gy(c) * c.u_random_rel
    between = [_gy(c) * u_between_cycles_rel for c in imputed]
    beds = [c.bed_gy for c in counted]
    activities = [c.administered_mbq for c in cycles]
    return Cumulation(
        cycles_given=len(cycles),
        cycles_counted=len(counted),
        cycles_imputed=len(imputed),
        status=_status(len(cycles), len(counted), len(imputed)),
        administered_mbq=None if None in activities else sum(a for a in activities if a is not None),
        dose_gy=dose if counted else None,
        bed_gy=sum(b for b in beds if b is not None) if beds and None not in beds else None,
        u_dose_rel=hypot(systematic, *random.values(), *between) / dose if dose > 0 else None,
    )


def _gy(cycle: CycleDose) -> float:
    return cycle.dose_gy or 0.0


def _status(given: int, counted: int, imputed: int) -> CumulativeStatus:
    if counted == 0 or counted < given:
        return "incomplete"
    return "imputed" if imputed else "complete"


@dataclass(frozen=True)
class LimitCheck:
    """A cumulative dose against a reference line; null unless the sum is complete or imputed."""

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
