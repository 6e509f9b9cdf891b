"""The study design of a virtual cohort: sites, schedules, dates and the planted refusal."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from string import ascii_uppercase
from typing import Final, Literal, get_args

import numpy as np

from doseledger.errors import QuantityError, UnknownNameError
from doseledger.geometry import Grid, Shape, Vector
from doseledger.phantom.pharmaceuticals import DOTATATE, PSMA_617, Pharmaceutical
from doseledger.phantom.scanner import CAMERAS, Camera
from doseledger.units import HOURS_PER_DAY

Size = Literal["demo", "micro"]

#: What a study without sites of its own gives.
RADIOPHARMACEUTICAL: Final = DOTATATE.name
NUCLIDE: Final = DOTATATE.nuclide
INFUSION_MIN: Final = DOTATATE.infusion_min
ACTIVITY_SPREAD_REL: Final = 0.05
NOMINAL_RESIDUAL_MBQ: Final = 50.0

#: What each kind of site gives.
_PHARMACEUTICALS: Final = (DOTATATE, DOTATATE, PSMA_617)
#: How the archive of each kind of site exports SPECT: a key of `dialects.DIALECTS`.
_DIALECTS: Final = ("pt-bqml", "nm-counts", "nm-rwv")
#: Scan times in hours after mid-infusion by kind of site, in cycles of odd and even number in turn.
_SCHEDULES: Final = (
    ((4.0, 24.0, 96.0, 168.0), (4.0, 24.0, 96.0, 168.0)),
    ((24.0, 96.0, 168.0), (24.0, 96.0)),
    ((48.0,), (24.0, 72.0)),
)
#: Actual times scatter by this share of the nominal time, and by no more than two hours.
_TIME_SPREAD_REL: Final = 0.1
_TIME_SPREAD_MAX_H: Final = 2.0

#: Over the scan time of the camera: 16-bit pixels hold the counts of voxels of any size.
_SCAN_TIME: Final[dict[Size, float]] = {"demo": 1.0, "micro": 0.2}

#: First injections fall in April: with cycles eight weeks apart, neither end of daylight-saving time
#: in Europe or North America lies between an injection and its scans, and all dates are in 2025.
_FIRST_MONDAY: Final = datetime(2025, 4, 7, 9, 0)
_START_WEEKS: Final = 4
_CYCLE_WEEKS: Final = 8
MAX_CYCLES: Final = 5
MAX_SITES: Final = len(ascii_uppercase)
#: More than any study has at one site; a slip of the keyboard should not fill a disk.
MAX_PATIENTS: Final = 10_000

#: Middle of the fields along z, mm: from below the kidneys to above the liver; from bladder to parotid glands.
_SHORT_CENTRE_Z_MM: Final = 38.0
_LONG_CENTRE_Z_MM: Final = 92.0


@dataclass(frozen=True)
class Site:
    """A hospital: its letter, and its kind.

    Kind 0 gives DOTATATE, scans four times and exports SPECT as PET images in Bq/mL; kind 1 gives
    DOTATATE, scans two or three times and exports counts; kind 2 gives PSMA-617, scans once or twice
    with a field from the bladder to the parotid glands and exports counts with a real-world value.
    """

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

    @property
    def pharmaceutical(self) -> Pharmaceutical:
        return _PHARMACEUTICALS[self.kind]

    @property
    def dialect(self) -> str:
        return _DIALECTS[self.kind]

    @property
    def sees_neck(self) -> bool:
        return len(self.camera.bed_times) > 1

    def fields(self, size: Size) -> Fields:
        return LONG_FIELDS[size] if self.sees_neck else FIELDS[size]

    def camera_of(self, size: Size) -> Camera:
        """The camera with the scan time of a size: voxels as large as those of ``micro`` fill up sooner."""
        return replace(self.camera, duration_s=self.camera.duration_s * _SCAN_TIME[size])

    def nominal_times_h(self, patient_index: int, cycle: int) -> tuple[float, ...]:
        return _SCHEDULES[self.kind][(patient_index + cycle + 1) % 2]


@dataclass(frozen=True)
class Fields:
    """Voxel grids of CT and SPECT."""

    ct: Grid
    spect: Grid


def _axial(shape: Shape, spacing_mm: Vector, centre_z_mm: float) -> Grid:
    z, y, x = (-(n - 1) / 2.0 * step for n, step in zip(shape, spacing_mm, strict=True))
    return Grid(shape, spacing_mm, (x, y, z + centre_z_mm))


#: One bed position; the CT shows 500 mm across.
FIELDS: Final[dict[Size, Fields]] = {
    "demo": Fields(
        ct=_axial((96, 200, 200), (4.0, 2.5, 2.5), _SHORT_CENTRE_Z_MM),
        spect=_axial((80, 96, 96), (4.8, 4.8, 4.8), _SHORT_CENTRE_Z_MM),
    ),
    "micro": Fields(
        ct=_axial((28, 50, 50), (12.0, 10.0, 10.0), _SHORT_CENTRE_Z_MM),
        spect=_axial((24, 42, 42), (14.0, 11.0, 11.0), _SHORT_CENTRE_Z_MM),
    ),
}
#: Three bed positions.
LONG_FIELDS: Final[dict[Size, Fields]] = {
    "demo": Fields(
        ct=_axial((204, 200, 200), (4.0, 2.5, 2.5), _LONG_CENTRE_Z_MM),
        spect=_axial((170, 96, 96), (4.8, 4.8, 4.8), _LONG_CENTRE_Z_MM),
    ),
    "micro": Fields(
        ct=_axial((68, 50, 50), (12.0, 10.0, 10.0), _LONG_CENTRE_Z_MM),
        spect=_axial((51, 42, 42), (16.0, 11.0, 11.0), _LONG_CENTRE_Z_MM),
    ),
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


def site_named(label: str) -> Site:
    """The site with a letter.

    Raises
    ------
    UnknownNameError
        The label is no letter from A to Z.
    """
    if len(label) != 1 or label not in ascii_uppercase:
        raise UnknownNameError("there is no such site", value=label, expected="A to Z")
    return Site(label, ascii_uppercase.index(label))


def refused_cycle(patients: int, cycles: int) -> tuple[str, str, int]:
    """The cycle with the planted refusal: the last one of site A, whose archive also exports SUV."""
    return (ascii_uppercase[0], patient_label(patients - 1), cycles)


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
