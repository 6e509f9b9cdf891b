"""Count rates that a detector showed during an acquisition: what a dead time is measured by."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from doseledger.errors import TagMissingError
from doseledger.io.dicom.headers import tag_name
from doseledger.io.dicom.nm import NM_STORAGE
from doseledger.io.dicom.nm_time import read_rotation
from doseledger.io.dicom.series import read_headers

_KINDS: Final = {NM_STORAGE: "NM"}


@dataclass(frozen=True)
class EventRate:
    """Events of an acquisition, per detector.

    Attributes
    ----------
    middle
        Local time half-way through.
    """

    observed_cps: float
    counts: float
    middle: datetime


def read_event_rate(path: Path, *, detectors: int) -> EventRate:
    """Mean rate of one detector from CountsAccumulated (0018,0070) of an NM acquisition or its reconstruction.

    Raises
    ------
    InputMissingError, FileUnreadableError, ModalityError
        No file, a damaged one, or one of another kind.
    TagMissingError
        The header holds no number of events, no rotation, or no time.
    CrossCheckError, TimeError, QuantityError
        A rotation that contradicts itself or the number of detectors.
    """
    header = read_headers(path, _KINDS)[0]
    events = header.number("CountsAccumulated")
    rotation = read_rotation(header, detectors)
    start = header.date_time("AcquisitionDate", "AcquisitionTime")
    for keyword, missing in (
        ("CountsAccumulated", events is None or events <= 0),
        ("RotationInformationSequence", rotation is None),
        ("AcquisitionTime", start is None),
    ):
        if missing:
            raise TagMissingError(
                "the header does not hold what a count rate is made of", path=header.path, tag=tag_name(keyword)
            )
    assert events is not None
    assert rotation is not None
    assert start is not None
    return EventRate(
        observed_cps=events / detectors / rotation.wall_clock_s,
        counts=events / detectors,
        middle=start + timedelta(seconds=rotation.wall_clock_s / 2.0),
    )
