"""When and for how long an NM camera looked, and the decay of what it saw.

Headers of reconstructions do not say how many detectors turned: NumberOfDetectors (0054,0021)
"shall be 1" there (DICOM PS3.3 C.8.4.8.1.3). And the views in NumberOfFramesInRotation (0054,0053)
are counted for each detector by some makers and over all of them by others, which is a factor of two
in the activity. So the number of detectors is declared by the site, the arc says how the views were
counted, and what is known of the maker must not contradict it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final, Literal

from doseledger.errors import CrossCheckError, QuantityError, TagMissingError, TimeError
from doseledger.io.dicom.decay import (
    CORRECTIONS,
    MS_PER_S,
    Administration,
    DecayState,
    averaged_to_start_factor,
    undo_admin,
)
from doseledger.io.dicom.headers import Header, tag_name
from doseledger.nuclides import Nuclide

#: An arc is this near to what the heads must cover together, in degrees: some headers count the
#: steps between the views, one fewer than the views.
ARC_TOLERANCE_DEG: Final = 10.0
FULL_TURN_DEG: Final = 360.0
#: A shorter scan is no tomography of therapy activities: the duration of a view was written in s, not ms.
SHORTEST_SCAN_S: Final = 30.0

#: How the ring-shaped StarGuide of GE writes its duration into ImageComments (0020,4000), in ms; what it
#: has of views is none of detectors that turn. Source: github.com/bamf-health/starguide-phantom (suv.py).
_COMMENTED_MS: Final = re.compile(r"\$ImagingDuration\$(\d+)\$")

Counting = Literal["per_detector", "pooled"]
#: How makers count views, by the beginning of Manufacturer (0008,0070): used to refuse, never to decide.
_MAKERS: Final[dict[str, Counting]] = {"GE ": "pooled", "SIEMENS": "per_detector"}


@dataclass(frozen=True)
class Rotation:
    """How long the camera looked.

    Attributes
    ----------
    wall_clock_s
        From the first view to the last, without the pauses between them.
    detectors
        None if neither declared nor in the header.
    certain
        Whether the duration does not rest on a guess of the number of detectors.
    """

    wall_clock_s: float
    detectors: int | None
    certain: bool
    flags: tuple[str, ...]


def read_rotation(header: Header, declared_detectors: int | None) -> Rotation | None:
    """Duration from ImageComments of a GE StarGuide, else from RotationInformationSequence (0054,0052); None without.

    Wall-clock time is ActualFrameDuration (0018,1242, ms per angular position) times the views of
    one detector. With n detectors, an arc of 360/n degrees means that the views were counted per
    detector, an arc of 360 degrees that they were counted over all of them (one nth each).

    Raises
    ------
    TimeError
        Several rotations (beds or passes), or an arc that fits neither way of counting or
        contradicts the maker's.
    CrossCheckError
        The header has another number of detectors than the site declares.
    QuantityError
        A duration or number of views that cannot be.
    """
    commented = _COMMENTED_MS.search(header.text("ImageComments") or "")
    if commented and (header.text("Manufacturer") or "").upper().startswith("GE "):
        total_s = _plausible_s(header, float(commented[1]) / MS_PER_S, "ImageComments", f"{commented[1]} ms")
        return Rotation(total_s, _detectors(header, declared_detectors), True, ("duration_from_image_comments",))
    items = header.items("RotationInformationSequence")
    if not items:
        return None
    if len(items) > 1:
        raise TimeError(
            "the scan has several rotations: beds or passes of which each has its own time",
            path=header.path,
            tag=tag_name("RotationInformationSequence"),
            value=len(items),
            expected=1,
            remedy="Export one reconstruction per bed.",
        )
    view_ms, views = (items[0].number(k) for k in ("ActualFrameDuration", "NumberOfFramesInRotation"))
    if view_ms is None or views is None:
        return None
    what = f"{views:g} views of {view_ms:g} ms"
    total_s = _plausible_s(header, view_ms / MS_PER_S * views, "ActualFrameDuration", what)
    detectors = _detectors(header, declared_detectors)
    arc_deg = _arc_deg(items[0], views)
    if detectors is None:
        # Up to half a turn, one detector and two that are counted singly take the same time.
        certain = arc_deg is not None and arc_deg <= FULL_TURN_DEG / 2.0 + ARC_TOLERANCE_DEG
        return Rotation(total_s, None, certain, () if certain else ("duration_assumes_one_detector",))
    if detectors == 1:
        return Rotation(total_s, 1, True, ())
    if _counting(header, arc_deg, views, detectors) == "per_detector":
        return Rotation(total_s, detectors, True, ())
    return Rotation(total_s / detectors, detectors, True, ("views_counted_over_all_detectors",))


def _plausible_s(header: Header, total_s: float, keyword: str, what: str) -> float:
    if not total_s >= SHORTEST_SCAN_S:
        raise QuantityError(
            f"{what} make no scan",
            path=header.path,
            tag=tag_name(keyword),
            value=f"{total_s:g} s",
            expected=f"at least {SHORTEST_SCAN_S:g} s",
        )
    return total_s


def _detectors(header: Header, declared: int | None) -> int | None:
    listed = max(int(header.number("NumberOfDetectors") or 1), len(header.items("DetectorInformationSequence")))
    if listed == 1:
        return declared
    if declared not in (None, listed):
        raise CrossCheckError(
            "the number of detectors of header and sheet differ",
            path=header.path,
            tag=tag_name("NumberOfDetectors"),
            value=listed,
            expected=declared,
        )
    return listed


def _arc_deg(rotation: Header, views: float) -> float | None:
    arc, step = (rotation.number(k) for k in ("ScanArc", "AngularStep"))
    if arc is None and step is not None:
        arc = abs(step) * views
    return arc or None


def _counting(header: Header, arc_deg: float | None, views: float, detectors: int) -> Counting:
    tag = tag_name("ScanArc")
    if arc_deg is None:
        raise TagMissingError("the header does not say which arc the detectors covered", path=header.path, tag=tag)
    share_deg = FULL_TURN_DEG / detectors
    found: Counting
    if abs(arc_deg - share_deg) <= ARC_TOLERANCE_DEG:
        found = "per_detector"
    elif abs(arc_deg - FULL_TURN_DEG) <= ARC_TOLERANCE_DEG and views % detectors == 0:
        found = "pooled"
    else:
        raise TimeError(
            f"{views:g} views of {detectors} detectors do not fit the arc",
            path=header.path,
            tag=tag,
            value=arc_deg,
            expected=f"{share_deg:g} or {FULL_TURN_DEG:g} degrees",
            remedy="Check the number of detectors in cameras.tsv.",
        )
    maker = (header.text("Manufacturer") or "").upper()
    usual = next((counting for start, counting in _MAKERS.items() if maker.startswith(start)), found)
    if found != usual:
        raise TimeError(
            "the arc contradicts the way in which the maker counts views: the duration is not clear",
            path=header.path,
            tag=tag,
            value=arc_deg,
            expected=f"{share_deg if usual == 'per_detector' else FULL_TURN_DEG:g} degrees",
            remedy="Check the number of detectors in cameras.tsv, or export the reconstruction in Bq/mL.",
        )
    return found


def read_nm_decay(
    header: Header,
    administration: Administration,
    source: Nuclide | None,
    rotation: Rotation | None,
    start: tuple[datetime, list[str]],
) -> DecayState:
    """How to turn values of an NM image into activity at scan start.

    NM images have no element for the decay correction; where DecayCorrection (0054,1102) is
    there all the same, it counts as in PET images (`decay.read_decay_state`). Without it the values
    are the mean over the scan, unless CorrectedImage (0028,0051) lists DECY: then the moment
    that they refer to is unknown.

    The half-life is the nuclide's; only a correction to the injection is undone with the header's.

    Raises
    ------
    TagMissingError
        Values are corrected to a moment that is not known.
    TimeError
        The injection comes after the scan.
    """
    scan_start, flags = start
    correction = header.text("DecayCorrection")
    if correction is None and "DECY" not in header.texts("CorrectedImage"):
        correction = "NONE"
    if correction not in CORRECTIONS:
        raise TagMissingError(
            "the header does not say to which moment the decay was corrected",
            path=header.path,
            tag=tag_name("DecayCorrection"),
            value=correction,
            expected=", ".join(CORRECTIONS),
        )
    factor, extra = _factor(correction, header, administration, source, rotation, scan_start)
    duration_s = None if rotation is None else rotation.wall_clock_s
    extra += ["duration_missing"] if rotation is None else []
    extra += _completion_flag(header, scan_start, duration_s)
    return DecayState(correction, factor, scan_start, duration_s, (*flags, *extra))


def _factor(
    correction: str,
    header: Header,
    administration: Administration,
    source: Nuclide | None,
    rotation: Rotation | None,
    scan_start: datetime,
) -> tuple[float, list[str]]:
    own_h = None if source is None else source.half_life_h
    if correction == "ADMIN":
        completed = replace(administration, half_life_h=administration.half_life_h or own_h)
        return undo_admin(header, completed, scan_start), []
    half_life_h = own_h or administration.half_life_h
    if correction == "NONE" and half_life_h is not None and rotation is not None:
        return averaged_to_start_factor(half_life_h, rotation.wall_clock_s), []
    # Less than 0.1 % for half an hour of 177Lu: not worth refusing an image in Bq/mL, but worth knowing.
    return 1.0, ["within_scan_decay_not_corrected"] if correction == "NONE" else []


def _completion_flag(header: Header, scan_start: datetime, duration_s: float | None) -> list[str]:
    # Some makers write the end of the scan as the acquisition time and the content time.
    content = header.date_time("ContentDate", "ContentTime")
    early = content is not None and duration_s is not None and (content - scan_start).total_seconds() < duration_s
    return ["acquisition_time_may_be_completion"] if early else []
