"""The study design of a virtual cohort: sites, schedules, dates and the planted refusal."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from string import ascii_uppercase
from typing import Final, Literal, get_args

import numpy as np

from doseledger.errors import QuantityError, UnknownNameError
from doseledger.geometry import Grid, Shape, Vector
from doseledger.phantom.scanner import CAMERAS, Camera
from doseledger.units import HOURS_PER_DAY

Size = Literal["demo", "micro"]

RADIOPHARMACEUTICAL: Final = "Lu177-DOTATATE"
NUCLIDE: Final = "Lu-177"
INFUSION_MIN: Final = 30.0
NOMINAL_ACTIVITY_MBQ: Final = 7400.0
ACTIVITY_SPREAD_REL: Final = 0.05
NOMINAL_RESIDUAL_MBQ: Final = 50.0

#: Scan times in hours after mid-infusion. The second kind of site scans late only in some cycles.
_FULL: Final = (4.0, 24.0, 96.0, 168.0)
_THREE: Final = (24.0, 96.0, 168.0)
_TWO: Final = (24.0, 96.0)
_SINGLE: Final = (96.0,)
#: Actual times scatter by this share of the nominal time, and by no more than two hours.
_TIME_SPREAD_REL: Final = 0.1
_TIME_SPREAD_MAX_H: Final = 2.0

#: First injections fall in April: with cycles eight weeks apart, neither end of daylight-saving time
#: in Europe or North America lies between an injection and its scans, and all dates are in 2025.
_FIRST_MONDAY: Final = datetime(2025, 4, 7, 9, 0)
_START_WEEKS: Final = 4
_CYCLE_WEEKS: Final = 8
MAX_CYCLES: Final = 5
MAX_SITES: Final = len(ascii_uppercase)
#: More than any study has at one site; a slip of the keyboard should not fill a disk.
MAX_PATIENTS: Final = 10_000

#: Middle of both fields along z, mm, in the coordinates of `torso`: kidneys to liver dome with margins.
_FIELD_CENTRE_Z_MM: Final = 25.0


@dataclass(frozen=True)
class Site:
    """A hospital: its letter, its camera and its kind (0 multi-scan, 1 two or three scans, 2 single scan)."""

    label: str
    index: int

    @property
    def kind(self) -> int:
        return self.index % len(CAMERAS)

    @property
    def camera(self) -> Camera:
        return CAMERAS[self.kind]

    @property
    def institution(self) -> str:
        return f"Virtual Hospital {self.label}"

    def nominal_times_h(self, patient_index: int, cycle: int) -> tuple[float, ...]:
        if self.kind == 0:
            return _FULL
        if self.kind == 2:
            return _SINGLE
        return _THREE if (patient_index + cycle) % 2 else _TWO


@dataclass(frozen=True)
class Fields:
    """Voxel grids of CT and SPECT."""

    ct: Grid
    spect: Grid


def _axial(shape: Shape, spacing_mm: Vector) -> Grid:
    z, y, x = (-(n - 1) / 2.0 * step for n, step in zip(shape, spacing_mm, strict=True))
    return Grid(shape, spacing_mm, (x, y, z + _FIELD_CENTRE_Z_MM))


FIELDS: Final[dict[Size, Fields]] = {
    "demo": Fields(ct=_axial((96, 192, 192), (4.0, 2.5, 2.5)), spect=_axial((80, 96, 96), (4.8, 4.8, 4.8))),
    "micro": Fields(ct=_axial((28, 44, 44), (12.0, 10.0, 10.0)), spect=_axial((24, 40, 40), (14.0, 11.0, 11.0))),
}


def check_design(sites: int, patients: int, cycles: int, size: str) -> None:
    """Refuse a cohort that cannot be simulated.

    Raises
    ------
    QuantityError
        A count is out of range.
    UnknownNameError
        The size is unknown.
    """
    _check_count("sites", sites, MAX_SITES)
    _check_count("patients", patients, MAX_PATIENTS)
    _check_count("cycles", cycles, MAX_CYCLES)
    if size not in get_args(Size):
        raise UnknownNameError("the size of the virtual images is unknown", value=size, expected=get_args(Size))


def _check_count(name: str, count: int, most: int) -> None:
    if not 1 <= count <= most:
        expected = f"1 to {most}"
        raise QuantityError(
            f"a virtual cohort cannot have this number of {name}",
            value=count,
            expected=expected,
            remedy=f"Choose {expected} {name}.",
        )


def sites_of(count: int) -> list[Site]:
    return [Site(ascii_uppercase[index], index) for index in range(count)]


def refused_cycle(sites: int, patients: int, cycles: int) -> tuple[str, str, int]:
    """The cycle with the planted refusal: the last one of site B, or of site A where there is no B."""
    return (ascii_uppercase[min(1, sites - 1)], patient_label(patients - 1), cycles)


def patient_label(index: int) -> str:
    return f"P{index + 1}"


def injection_start(rng: np.random.Generator, site: Site, patient_index: int, cycle: int) -> datetime:
    weeks = (site.index + patient_index) % _START_WEEKS + _CYCLE_WEEKS * (cycle - 1)
    return _FIRST_MONDAY + timedelta(weeks=weeks, minutes=5 * int(rng.integers(19)))


def scan_start(rng: np.random.Generator, mid_infusion: datetime, nominal_h: float) -> datetime:
    """Actual start, on a whole minute."""
    spread_h = min(_TIME_SPREAD_REL * nominal_h, _TIME_SPREAD_MAX_H)
    start = mid_infusion + timedelta(hours=nominal_h + float(rng.uniform(-spread_h, spread_h)))
    return start.replace(second=0, microsecond=0)


def hours_between(earlier: datetime, later: datetime) -> float:
    return (later - earlier) / timedelta(days=1) * HOURS_PER_DAY
