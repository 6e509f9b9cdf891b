"""Decay state of stored values: what the header says was corrected, and the factor to scan start.

A header's half-life serves only to undo or complete the header's own correction.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from math import expm1, log
from typing import Final, TypeVar

from doseledger.errors import ModalityError, QuantityError, TagMissingError, TimeError
from doseledger.io.dicom.headers import Header, tag_name
from doseledger.units import SECONDS_PER_HOUR

#: Values of DecayCorrection (0054,1102). Source: DICOM PS3.3 C.8.9.1.
CORRECTIONS: Final = ("NONE", "START", "ADMIN")
#: A total dose outside is doubtful: PET headers give Bq and NM headers MBq, and some writers confuse them.
PLAUSIBLE_ACTIVITY_BQ: Final = (1.0e6, 1.0e12)
#: The start of the series and of the acquisition are the same moment within this, in s.
SAME_START_TOLERANCE_S: Final = 1.0
MS_PER_S: Final = 1.0e3
SERIES_TIME_DIFFERS: Final = "series_and_acquisition_time_differ"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Administration:
    """What the header says of the injection; None where it is silent.

    `injection_time` is a time of day whose date the header does not give, as in NM images.
    """

    injection_datetime: datetime | None
    injection_time: time | None
    injected_activity_bq: float | None
    half_life_h: float | None
    radiopharmaceutical: str | None
    flags: tuple[str, ...]


@dataclass(frozen=True)
class DecayState:
    """Times of the scan and the factor from the stored values to activity at scan start."""

    correction: str
    factor: float
    scan_start: datetime
    duration_s: float | None
    flags: tuple[str, ...]


def averaged_to_start_factor(half_life_h: float, duration_s: float) -> float:
    """Activity at scan start over the mean activity during the scan.

    lambda T / (1 - exp(-lambda T)), with T the wall-clock duration.

    Examples
    --------
    25 minutes of a 177Lu scan:

    >>> round(averaged_to_start_factor(159.528, 1500.0), 7)
    1.0009055
    """
    decays = log(2.0) * duration_s / (half_life_h * SECONDS_PER_HOUR)
    return decays / -expm1(-decays)


def decayed_fraction(half_life_h: float, elapsed_s: float) -> float:
    """Fraction left after a time: exp(-lambda t).

    Examples
    --------
    >>> decayed_fraction(1.0, 7200.0)
    0.25
    """
    return float(2.0 ** (-elapsed_s / (half_life_h * SECONDS_PER_HOUR)))


def read_administration(header: Header, *, bq_per_unit: float = 1.0) -> Administration:
    """Injection as in RadiopharmaceuticalInformationSequence (0054,0016).

    RadionuclideHalfLife (0018,1075) is in s.

    Parameters
    ----------
    bq_per_unit
        Unit of RadionuclideTotalDose (0018,1074): Bq in PET images, MBq in NM images (PS3.3 C.8.4.10).

    Raises
    ------
    ModalityError
        The image shows several radiopharmaceuticals: which of them it corrects for is unknown.
    QuantityError, TimeError
        A value is malformed, or the half-life is not positive.
    """
    items = header.items("RadiopharmaceuticalInformationSequence")
    if len(items) > 1:
        raise ModalityError(
            "images of several radiopharmaceuticals are not read",
            path=header.path,
            tag=tag_name("RadiopharmaceuticalInformationSequence"),
            value=len(items),
            expected=1,
        )
    if not items:
        return Administration(None, None, None, None, None, ("radiopharmaceutical_missing",))
    item = items[0]
    half_life_s = item.number("RadionuclideHalfLife")
    if half_life_s is not None and half_life_s <= 0:
        raise QuantityError(
            "the half-life is not positive",
            path=header.path,
            tag=tag_name("RadionuclideHalfLife"),
            value=half_life_s,
        )
    injection = item.stamp("RadiopharmaceuticalStartDateTime", local_offset=header.text("TimezoneOffsetFromUTC"))
    dose = item.number("RadionuclideTotalDose")
    activity_bq = None if dose is None else dose * bq_per_unit
    flags = []
    if activity_bq is not None and not PLAUSIBLE_ACTIVITY_BQ[0] <= activity_bq <= PLAUSIBLE_ACTIVITY_BQ[1]:
        flags.append("injected_activity_implausible")
    names = [item.text("Radiopharmaceutical")]
    names += [code.text("CodeMeaning") for code in item.items("RadiopharmaceuticalCodeSequence")]
    return Administration(
        injection_datetime=injection,
        injection_time=item.clock("RadiopharmaceuticalStartTime") if injection is None else None,
        injected_activity_bq=activity_bq,
        half_life_h=None if half_life_s is None else half_life_s / SECONDS_PER_HOUR,
        radiopharmaceutical=next((name for name in names if name), None),
        flags=tuple(flags),
    )


def read_decay_state(header: Header, administration: Administration) -> DecayState:
    """How to turn stored values into activity at scan start.

    ===== ================================== =======================================
    tag   stored values are                  factor
    ===== ================================== =======================================
    NONE  the mean over the scan             lambda T / (1 - exp(-lambda T))
    START corrected to the start of the scan 1
    ADMIN corrected to the injection         exp(-lambda (scan start - injection))
    ===== ================================== =======================================

    Corrected values refer to one moment: their decay within the scan is already accounted for.

    Raises
    ------
    TagMissingError
        DecayCorrection is absent or unknown, or what its factor needs is absent.
    TimeError
        No date and time of the scan, or the injection comes after the scan.
    """
    correction = header.text("DecayCorrection")
    if correction not in CORRECTIONS:
        raise TagMissingError(
            "the header does not say to which moment the decay was corrected",
            path=header.path,
            tag=tag_name("DecayCorrection"),
            value=correction,
            expected=", ".join(CORRECTIONS),
        )
    scan_start, flags = read_scan_start(header)
    duration_s = _duration_s(header)
    if duration_s is None:
        flags.append("duration_missing")
    if ("DECY" in header.texts("CorrectedImage")) != (correction != "NONE"):
        flags.append("corrected_image_contradicts_decay_correction")
    injection = administration.injection_datetime
    if correction != "ADMIN" and injection is not None and injection > scan_start:
        flags.append("injection_after_scan")
    if correction == "ADMIN":
        factor = undo_admin(header, administration, scan_start)
    elif correction == "NONE":
        half_life_h = _needed(administration.half_life_h, header, "RadionuclideHalfLife")
        factor = averaged_to_start_factor(half_life_h, _needed(duration_s, header, "ActualFrameDuration"))
    else:
        factor = 1.0
    return DecayState(correction, factor, scan_start, duration_s, tuple(flags))


def undo_admin(header: Header, administration: Administration, scan_start: datetime) -> float:
    """Factor from values corrected to the injection to those at scan start.

    Raises
    ------
    TagMissingError, TimeError
        Half-life or moment of the injection are absent, or it comes after the scan.
    """
    half_life_h = _needed(administration.half_life_h, header, "RadionuclideHalfLife")
    # RadiopharmaceuticalStartTime (0018,1072) alone has no date: it is not completed by a guess.
    injection = _needed(administration.injection_datetime, header, "RadiopharmaceuticalStartDateTime")
    if injection > scan_start:
        raise TimeError(
            "the injection comes after the scan",
            path=header.path,
            tag=tag_name("RadiopharmaceuticalStartDateTime"),
            value=f"{(injection - scan_start).total_seconds() / SECONDS_PER_HOUR:.2f} h after the scan",
            expected="an injection before the scan",
        )
    return decayed_fraction(half_life_h, (scan_start - injection).total_seconds())


def read_scan_start(header: Header) -> tuple[datetime, list[str]]:
    """AcquisitionDate and -Time, and flags; StudyTime is never used: it can be that of the first scan of many.

    Raises
    ------
    TimeError
        Neither acquisition nor series have a date and a time, or they are malformed.
    """
    series = header.date_time("SeriesDate", "SeriesTime")
    acquisition = header.date_time("AcquisitionDate", "AcquisitionTime")
    if acquisition is None:
        if series is None:
            raise TimeError(
                "the header has no date and time of the scan",
                path=header.path,
                tag=f"{tag_name('AcquisitionDate')}, {tag_name('AcquisitionTime')}",
                remedy="Export the series with its acquisition date and time.",
            )
        return series, ["scan_start_from_series_time"]
    # START refers to the start of the series. It is often the time of a later reconstruction, so
    # the acquisition wins; the difference is made known.
    same = series is None or abs(series - acquisition) <= timedelta(seconds=SAME_START_TOLERANCE_S)
    return acquisition, [] if same else [SERIES_TIME_DIFFERS]


def _duration_s(header: Header) -> float | None:
    duration_ms = header.number("ActualFrameDuration")
    if duration_ms is not None and duration_ms <= 0:
        raise QuantityError(
            "the duration of the scan is not positive",
            path=header.path,
            tag=tag_name("ActualFrameDuration"),
            value=duration_ms,
        )
    return None if duration_ms is None else duration_ms / MS_PER_S


def _needed(value: _T | None, header: Header, keyword: str) -> _T:
    if value is None:
        raise TagMissingError(
            "the stored decay correction cannot be turned into activity at scan start",
            path=header.path,
            tag=tag_name(keyword),
        )
    return value
