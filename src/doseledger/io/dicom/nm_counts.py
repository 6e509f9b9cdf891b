"""Counts of an NM reconstruction with the sensitivity that the site declares for its camera."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.activity import Calibration, counts_to_bq_per_ml, paralysable_factor
from doseledger.errors import TagMissingError, UnitError
from doseledger.io.dicom.headers import Header, tag_name
from doseledger.io.dicom.nm_time import Rotation

#: A sensitivity is checked at least every year; an older one is flagged.
OLDEST_CALIBRATION_DAYS: Final = 366
#: CountsAccumulated within this of the sum of the voxels is that sum, not the events of the camera.
SAME_SUM_TOLERANCE_REL: Final = 1.0e-3


@dataclass(frozen=True)
class AppliedCalibration:
    """What turned counts into activity.

    Attributes
    ----------
    counting_s
        Time that the sensitivity refers to.
    age_days
        Days from the calibration to the scan.
    dead_time_factor
        None: the site declares no dead time, and none is corrected.
    """

    sensitivity_cps_per_mbq: float
    basis: str
    geometry: str
    counting_s: float
    age_days: int
    dead_time_factor: float | None
    flags: tuple[str, ...]

    def concentration(self, counts: NDArray[np.float64], voxel_ml: float) -> NDArray[np.float64]:
        """Mean activity concentration over the scan, Bq/mL, of counts in the photopeak."""
        return counts_to_bq_per_ml(
            counts * (self.dead_time_factor or 1.0),
            duration_s=self.counting_s,
            sensitivity_cps_per_mbq=self.sensitivity_cps_per_mbq,
            voxel_ml=voxel_ml,
        )

    def require_camera_events(self, header: Header, stored: NDArray[np.float64]) -> None:
        """Of a dead-time correction: that it rests on events of the camera, not on the sum of the voxels.

        Raises
        ------
        TagMissingError
            CountsAccumulated (0018,0070) is the sum of the stored values.
        """
        voxel_sum = float(stored.sum())
        events = header.number("CountsAccumulated")
        if self.dead_time_factor is None or events is None:
            return
        if abs(events - voxel_sum) <= SAME_SUM_TOLERANCE_REL * abs(voxel_sum):
            raise _no_events(header, events)


def apply_calibration(
    header: Header, calibration: Calibration | None, rotation: Rotation | None, day: date
) -> AppliedCalibration:
    """How counts become activity.

    Parameters
    ----------
    day
        Of the scan.

    Raises
    ------
    UnitError
        No sensitivity is given.
    TagMissingError
        The duration, the number of detectors, or the count rate for the dead time is not known.
    QuantityError
        A count rate that a camera with this dead time cannot show.
    """
    if calibration is None:
        raise UnitError(
            "the image is in counts and the sensitivity of the camera is not given",
            path=header.path,
            tag=tag_name("Units"),
            value=header.text("Units"),
            expected="BQML",
        )
    if rotation is None:
        raise TagMissingError(
            "the duration of the scan is not known, and with it what its counts mean",
            path=header.path,
            tag=f"{tag_name('RotationInformationSequence')}, {tag_name('ActualFrameDuration')}",
        )
    detectors = _detectors(header, calibration, rotation)
    age_days = calibration.age_days(day)
    flags = ["calibrated_after_the_scan"] if age_days < 0 else []
    flags += ["calibration_older_than_a_year"] if age_days > OLDEST_CALIBRATION_DAYS else []
    return AppliedCalibration(
        sensitivity_cps_per_mbq=calibration.sensitivity_cps_per_mbq,
        basis=calibration.basis,
        geometry=calibration.geometry,
        counting_s=calibration.counting_s(rotation.wall_clock_s, detectors),
        age_days=age_days,
        dead_time_factor=_dead_time_factor(header, calibration, rotation.wall_clock_s * detectors),
        flags=tuple(flags),
    )


def _detectors(header: Header, calibration: Calibration, rotation: Rotation) -> int:
    if rotation.detectors is not None:
        return rotation.detectors
    if rotation.certain and calibration.basis == "system" and not calibration.dead_time_us:
        # The time on the clock is known, and nothing else is asked for.
        return 1
    raise TagMissingError(
        "the number of detectors is not known, and with it the time that the counts were collected in",
        path=header.path,
        tag=tag_name("NumberOfDetectors"),
        value=header.text("NumberOfDetectors"),
        remedy="Reconstructions do not tell: declare it in cameras.tsv (column detectors).",
    )


def _dead_time_factor(header: Header, calibration: Calibration, detector_s: float) -> float | None:
    """From the events of the acquisition, which makers keep in the header of its reconstruction."""
    if not calibration.dead_time_us:
        return None
    events = header.number("CountsAccumulated")
    if events is None or events <= 0:
        raise _no_events(header, events)
    return paralysable_factor(events / detector_s, dead_time_us=calibration.dead_time_us)


def _no_events(header: Header, found: float | None) -> TagMissingError:
    return TagMissingError(
        "a dead time is declared, but the header does not hold the number of events that were acquired",
        path=header.path,
        tag=tag_name("CountsAccumulated"),
        value=found,
        remedy="Export the reconstruction with the counts of its acquisition, or leave dead_time_us empty.",
    )
