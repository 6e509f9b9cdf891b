"""Hours between two moments that were read off a clock on the wall.

Headers and sheets hold local times without a zone. Twice a year such a clock is moved: an hour at
24 h after injection is some 1.4 % of the time-integrated activity, and nothing in the data shows it.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from doseledger.errors import TimeError
from doseledger.units import SECONDS_PER_HOUR

#: Zones that stand for the rules in force: European Union, United States and Canada, Australia, Chile.
RULES: Final = ("Europe/Berlin", "America/New_York", "Australia/Sydney", "America/Santiago")


def elapsed_h(start: datetime, end: datetime, zone: str | None) -> float:
    """Hours from one local time to another.

    Parameters
    ----------
    zone
        IANA name of the zone of both; None: the clock is taken as one that is never moved.

    Raises
    ------
    TimeError
        The clock showed a time twice or never, because it was moved.

    Examples
    --------
    The night of 30 March 2025 has an hour less in Germany:

    >>> saturday, sunday = datetime(2025, 3, 29, 12), datetime(2025, 3, 30, 12)
    >>> elapsed_h(saturday, sunday, "Europe/Berlin"), elapsed_h(saturday, sunday, None)
    (23.0, 24.0)
    """
    if zone is not None:
        start, end = _utc(start, zone), _utc(end, zone)
    return (end - start).total_seconds() / SECONDS_PER_HOUR


def utc_offset_h(moment: datetime, zone: str) -> float:
    """How far the clocks of a zone are before UTC at a local time, h.

    Examples
    --------
    >>> utc_offset_h(datetime(2025, 7, 1, 12), "Europe/Berlin")
    2.0
    """
    return (moment - _utc(moment, zone).replace(tzinfo=None)).total_seconds() / SECONDS_PER_HOUR


def clocks_moved(start: datetime, end: datetime, zone: str | None) -> bool:
    """Whether clocks were moved between two local times; without a zone, whether any of `RULES` moved them.

    Examples
    --------
    New York moved its clocks on 9 March 2025, Berlin three weeks later, Tokyo never does:

    >>> moments = datetime(2025, 3, 7, 12), datetime(2025, 3, 14, 12)
    >>> [clocks_moved(*moments, zone) for zone in ("America/New_York", "Europe/Berlin", "Asia/Tokyo", None)]
    [True, False, False, True]
    """
    zones = RULES if zone is None else (zone,)
    return any(ZoneInfo(z).utcoffset(start) != ZoneInfo(z).utcoffset(end) for z in zones)


def _utc(moment: datetime, zone: str) -> datetime:
    there = moment.replace(tzinfo=ZoneInfo(zone))
    if there.utcoffset() != there.replace(fold=1).utcoffset():
        raise TimeError(
            "the clock was moved at this time, which it showed twice or never",
            tag="time_zone",
            value=zone,
            remedy="Find out which it was, and leave the column time_zone of this cycle empty if it was no other hour.",
        )
    return there.astimezone(UTC)
