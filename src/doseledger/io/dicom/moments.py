"""Dates and times as DICOM writes them: types DA, TM and DT (PS3.5 6.2)."""

from __future__ import annotations

import re
from datetime import datetime, timedelta
from typing import Final

# Hours alone are legal DICOM but no time that a decay correction could rest on.
_MOMENT: Final = re.compile(r"(?P<minute>\d{12})((?P<second>\d{2})(\.(?P<fraction>\d{1,6}))?)?(?P<offset>[+-]\d{4})?")
_OFFSET: Final = re.compile(r"(?P<sign>[+-])(?P<hours>\d{2}):?(?P<minutes>[0-5]\d)")


def local_moment(text: str) -> datetime:
    """A date and a time of day without offset.

    Raises
    ------
    ValueError
        It is malformed, has no minutes, or has an offset.

    Examples
    --------
    >>> local_moment("20240102100000.25")
    datetime.datetime(2024, 1, 2, 10, 0, 0, 250000)
    """
    moment, offset = offset_moment(text)
    if offset is not None:
        raise ValueError(text)
    return moment


def offset_moment(text: str) -> tuple[datetime, timedelta | None]:
    """A date and a time of day, and its offset from UTC if it has one.

    Raises
    ------
    ValueError
        It is malformed, or has no minutes.

    Examples
    --------
    >>> offset_moment("202401021000+0100")
    (datetime.datetime(2024, 1, 2, 10, 0), datetime.timedelta(seconds=3600))
    """
    found = _MOMENT.fullmatch(text)
    if found is None:
        raise ValueError(text)
    whole = datetime.strptime(found["minute"] + (found["second"] or "00"), "%Y%m%d%H%M%S")
    microseconds = int((found["fraction"] or "0").ljust(6, "0"))
    return whole + timedelta(microseconds=microseconds), utc_offset(found["offset"]) if found["offset"] else None


def utc_offset(text: str) -> timedelta:
    """Offset from UTC as in TimezoneOffsetFromUTC (0008,0201).

    Raises
    ------
    ValueError
        It is malformed.

    Examples
    --------
    >>> utc_offset("-0330") / timedelta(hours=1)
    -3.5
    """
    found = _OFFSET.fullmatch(text)
    if found is None:
        raise ValueError(text)
    size = timedelta(hours=int(found["hours"]), minutes=int(found["minutes"]))
    return -size if found["sign"] == "-" else size
