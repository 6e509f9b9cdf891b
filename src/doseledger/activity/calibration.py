"""From reconstructed counts to activity concentration, with the sensitivity that a site declares."""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from typing import Literal, TypeVar, get_args

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import QuantityError
from doseledger.units import BQ_PER_MBQ

Basis = Literal["system", "detector"]
_Counts = TypeVar("_Counts", float, NDArray[np.float32], NDArray[np.float64])


@dataclass(frozen=True)
class Calibration:
    """How a site's camera turns activity into counts. Nothing of it can be read from an image.

    Attributes
    ----------
    sensitivity_cps_per_mbq
        Reconstructed counts per second and MBq, in the energy window of the images.
    basis
        ``system``: counts of all detectors in the time on the clock. ``detector``: counts of one
        detector in the time on the clock, which is the same as counts of all of them in the sum of
        their times.
    geometry
        Phantom of the calibration.
    date
        Day of the calibration.
    detectors
        Heads that turned around the patient. None: not declared; a reconstruction seldom tells.
    energy_window_kev
        Lower and upper limit of the window that was calibrated. None: the nuclide's photopeak.
    dead_time_us
        Dead time of one detector, paralysable, in microseconds; None or 0: no correction.

    Raises
    ------
    QuantityError
        A value that cannot be.
    """

    sensitivity_cps_per_mbq: float
    basis: Basis
    geometry: str
    date: datetime.date
    detectors: int | None = None
    energy_window_kev: tuple[float, float] | None = None
    dead_time_us: float | None = None

    def __post_init__(self) -> None:
        _require_positive("sensitivity_cps_per_mbq", self.sensitivity_cps_per_mbq)
        if self.basis not in get_args(Basis):
            raise QuantityError(
                "the basis of the sensitivity is unknown",
                tag="sensitivity_basis",
                value=self.basis,
                expected=" or ".join(get_args(Basis)),
            )
        if self.detectors is not None and self.detectors < 1:
            raise QuantityError("the camera has no detector", tag="detectors", value=self.detectors)
        if self.energy_window_kev is not None and not 0 < self.energy_window_kev[0] < self.energy_window_kev[1]:
            raise QuantityError(
                "the energy window is empty", tag="energy_window_kev", value=self.energy_window_kev, expected="low-high"
            )
        if self.dead_time_us is not None and not self.dead_time_us >= 0:
            raise QuantityError("the dead time is negative", tag="dead_time_us", value=self.dead_time_us)

    def counting_s(self, wall_clock_s: float, detectors: int) -> float:
        """Time that the sensitivity refers to, of a scan with so many detectors.

        Examples
        --------
        24 minutes with two heads:

        >>> day = datetime.date(2025, 1, 6)
        >>> [Calibration(9.2, basis, "cylinder", day).counting_s(1440.0, 2) for basis in ("system", "detector")]
        [1440.0, 2880.0]
        """
        return wall_clock_s if self.basis == "system" else wall_clock_s * detectors

    def age_days(self, day: datetime.date) -> int:
        """Whole days from the calibration to a scan; negative if it was made afterwards."""
        return (day - self.date).days


def counts_to_bq_per_ml(
    counts: _Counts, *, duration_s: float, sensitivity_cps_per_mbq: float, voxel_ml: float
) -> _Counts:
    """Activity concentration, the mean over the scan, from reconstructed counts per voxel.

    C = 1e6 N / (T S V) in Bq/mL, with N counts in a voxel of V mL, T the time in s that the
    sensitivity S in cps/MBq refers to (`Calibration.counting_s`).

    Raises
    ------
    QuantityError
        Duration, sensitivity or voxel volume is not positive.

    Examples
    --------
    100 counts, 96 views of 15 s, 9.2 cps/MBq, voxels of 4.8 mm:

    >>> round(counts_to_bq_per_ml(100.0, duration_s=96 * 15.0, sensitivity_cps_per_mbq=9.2, voxel_ml=0.48**3), 2)
    68253.66
    """
    _require_positive("duration_s", duration_s)
    _require_positive("sensitivity_cps_per_mbq", sensitivity_cps_per_mbq)
    _require_positive("voxel_ml", voxel_ml)
    return counts * (BQ_PER_MBQ / (duration_s * sensitivity_cps_per_mbq * voxel_ml))


def _require_positive(name: str, value: float) -> None:
    # NaN fails this comparison, too.
    if not value > 0:
        raise QuantityError("the quantity is not positive", tag=name, value=value)
