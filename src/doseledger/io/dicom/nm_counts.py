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


def calibrate(
    header: Header,
    counts: NDArray[np.float64],
    all_stored: NDArray[np.float64],
    calibration: Calibration | None,
    rotation: Rotation | None,
    day: date,
    voxel_ml: float,
) -> tuple[NDArray[np.float64], AppliedCalibration]:
    """Mean activity concentration over the scan, Bq/mL, and what it rests on.

    Parameters
    ----------
    counts
        Of the photopeak, ``(z, y, x)``.
    all_stored
        All stored values of the file.
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
    counting_s = calibration.counting_s(rotation.wall_clock_s, detectors)
    dead_time = _dead_time_factor(header, all_stored, calibration, rotation.wall_clock_s * detectors)
    concentration = counts_to_bq_per_ml(
        counts * (dead_time or 1.0),
        duration_s=counting_s,
        sensitivity_cps_per_mbq=calibration.sensitivity_cps_per_mbq,
        voxel_ml=voxel_ml,
    )
    age_days = calibration.age_days(day)
    flags = ["calibrated_after_the_scan"] if age_days < 0 else []
    flags += ["calibration_older_than_a_year"] if age_days > OLDEST_CALIBRATION_DAYS else []
    applied = AppliedCalibration(
        sensitivity_cps_per_mbq=calibration.sensitivity_cps_per_mbq,
        basis=calibration.basis,
        geometry=calibration.geometry,
        counting_s=counting_s,
        age_days=age_days,
        dead_time_factor=dead_time,
        flags=tuple(flags),
    )
    return concentration, applied


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


def _dead_time_factor(
    header: Header, all_stored: NDArray[np.float64], calibration: Calibration, detector_s: float
) -> float | None:
    """From the events of the acquisition, which makers keep in the header of its reconstruction."""
    if not calibration.dead_time_us:
        return None
    events = header.number("CountsAccumulated")
    voxel_sum = float(all_stored.sum())
    if events is None or events <= 0 or abs(events - voxel_sum) <= SAME_SUM_TOLERANCE_REL * abs(voxel_sum):
        raise TagMissingError(
            "a dead time is declared, but the header does not hold the number of events that were acquired",
            path=header.path,
            tag=tag_name("CountsAccumulated"),
            value=events,
            remedy="Export the reconstruction with the counts of its acquisition, or leave dead_time_us empty.",
        )
    return paralysable_factor(events / detector_s, dead_time_us=calibration.dead_time_us)
