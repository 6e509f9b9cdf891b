"""A cycle's scans against its sheets, from the headers alone.

The ingest stage and ``doseledger check`` call the same function, so that what the one refuses the
other has said.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time
from pathlib import Path
from typing import Final, Generic, Protocol, TypeVar

from doseledger.activity import Calibration, clocks_moved, elapsed_h, utc_offset_h
from doseledger.cohort import Row
from doseledger.errors import CrossCheckError, MixedSeriesError, NuclideError, RecordedError, SheetError, TimeError
from doseledger.io.dicom import CtInspection, SpectInspection
from doseledger.nuclides import Nuclide, nuclide
from doseledger.units import MIN_PER_HOUR, SECONDS_PER_HOUR

#: A header's half-life that differs more is that of another nuclide.
HALF_LIFE_TOLERANCE_REL: Final = 0.02
#: What a sensitivity does not mean anything without.
_CALIBRATION_COLUMNS: Final = ("sensitivity_geometry", "sensitivity_date", "sensitivity_basis")
_MIN_PER_DAY: Final = 24 * 60


class InspectedSpect(Protocol):
    """Whatever holds the inspection of a SPECT image: an opened series, or what an index has kept of it."""

    @property
    def inspection(self) -> SpectInspection: ...


class InspectedCt(Protocol):
    """Whatever holds the inspection of a CT series."""

    @property
    def inspection(self) -> CtInspection: ...


S = TypeVar("S", bound=InspectedSpect, covariant=True)
C = TypeVar("C", bound=InspectedCt, covariant=True)


class OpenSpect(Protocol[S]):
    """`io.dicom.open_spect`, or one that takes its inspections from elsewhere."""

    def __call__(self, paths: Path, *, calibration: Calibration | None, nuclide: Nuclide) -> S: ...


@dataclass(frozen=True, eq=False)
class CheckedScan(Generic[S, C]):
    """A time point that fits the others and the sheets."""

    row: Row
    camera: Row
    spect: S
    ct: C | None


def check_cycle(
    rows: Row, settings: Row, *, open_spect: OpenSpect[S], open_ct: Callable[[Path], C]
) -> list[CheckedScan[S, C]]:
    """Inspect all time points of a cycle; the first thing that is wrong refuses it.

    No pixel is read, unless `open_spect` or `open_ct` do so.

    Parameters
    ----------
    rows, settings
        What the ingest stage gets of the plan (`cohort.Cycle.rows_for`) and of the config.

    Raises
    ------
    DoseledgerError
        What the sheets, a header, or the two against each other speak against.
    """
    if rows["problems"]:
        raise RecordedError(**rows["problems"][0])
    base = Path(rows["base"])
    administration = rows["administration"]
    source = _source(administration)
    cameras = {c["camera"]: c for c in rows["cameras"]}
    scans: list[CheckedScan[S, C]] = []
    for row in rows["scans"]:
        camera = cameras[row["camera"]]
        spect = open_spect(base / row["spect"], calibration=calibration_of(camera), nuclide=source)
        ct = open_ct(base / row["ct"]) if row["ct"] else None
        _cross_check(spect.inspection, administration, source, settings, row["spect"])
        _check_sequence([scan.spect.inspection for scan in scans], spect.inspection, row["spect"])
        _require_own_ct(spect.inspection, ct.inspection if ct else None, row["ct"])
        scans.append(CheckedScan(row, camera, spect, ct))
    return scans


def _source(administration: Row) -> Nuclide:
    try:
        return nuclide(administration["nuclide"])
    except NuclideError as error:
        error.path, error.tag = "administrations.tsv", "nuclide"
        raise


def time_h(scan_start: datetime, administration: Row) -> float:
    """Hours from the middle of the infusion, where all times of the ledger count from, to the start of a scan."""
    start = datetime.fromisoformat(administration["injection_start"])
    half_infusion_h = float(administration["infusion_min"]) / 2.0 / MIN_PER_HOUR
    return elapsed_h(start, scan_start, administration["time_zone"]) - half_infusion_h


def clock_flags(spect: SpectInspection, administration: Row) -> list[str]:
    """What moved clocks may have done to the hours of a scan."""
    start, zone = datetime.fromisoformat(administration["injection_start"]), administration["time_zone"]
    if not clocks_moved(start, spect.scan_start, zone):
        return []
    flags = ["clocks_may_have_been_moved" if zone is None else "clocks_were_moved"]
    if spect.provenance.decay_correction_in_header == "ADMIN":
        # What the scanner took for the hours of its own correction, nobody knows.
        flags.append("admin_across_moved_clocks")
    return flags


def calibration_of(camera: Row) -> Calibration | None:
    """What the camera sheet declares for images in counts; None where it declares no sensitivity."""
    if camera["sensitivity_cps_per_mbq"] is None:
        return None
    for column in _CALIBRATION_COLUMNS:
        if camera[column] is None:
            raise SheetError(
                f"camera {camera['camera']} has a sensitivity, but not what it refers to",
                path="cameras.tsv",
                tag=column,
            )
    window = camera["energy_window_kev"]
    low, high = map(float, window.split("-")) if window else (None, None)
    return Calibration(
        sensitivity_cps_per_mbq=camera["sensitivity_cps_per_mbq"],
        basis=camera["sensitivity_basis"],
        geometry=camera["sensitivity_geometry"],
        date=date.fromisoformat(camera["sensitivity_date"]),
        detectors=camera["detectors"],
        energy_window_kev=None if low is None or high is None else (low, high),
        dead_time_us=camera["dead_time_us"],
    )


def _cross_check(spect: SpectInspection, administration: Row, source: Nuclide, settings: Row, path: str) -> None:
    """Header against sheet: a contradiction is never resolved by taking one of the two."""
    header = spect.provenance
    injection = datetime.fromisoformat(administration["injection_start"])
    zone = administration["time_zone"]
    if elapsed_h(injection, spect.scan_start, zone) <= 0:
        raise TimeError(
            "the scan starts before the injection",
            path=path,
            tag="injection_start",
            value=_apart(spect.scan_start, injection),
            expected="a scan after the injection",
        )
    if zone is not None and header.utc_offset_h not in (None, utc_offset_h(spect.scan_start, zone)):
        raise CrossCheckError(
            "the clock of the header is not that of the sheet's time zone",
            path=path,
            tag="TimezoneOffsetFromUTC (0008,0201)",
            value=f"{header.utc_offset_h:+g} h",
            expected=f"{utc_offset_h(spect.scan_start, zone):+g} h ({zone})",
        )
    _cross_check_injection(spect, injection, settings["injection_tolerance_min"], path)
    if header.injected_activity_mbq is not None:
        measured = administration["measured_activity_mbq"]
        if abs(header.injected_activity_mbq / measured - 1.0) > settings["activity_tolerance_rel"]:
            raise CrossCheckError(
                "administered activity of header and sheet differ",
                path=path,
                tag="RadionuclideTotalDose (0018,1074)",
                value=f"{header.injected_activity_mbq:g} MBq",
                expected=f"{measured:g} MBq",
            )
    half_life_h = header.header_half_life_h
    if half_life_h is not None and abs(half_life_h / source.half_life_h - 1.0) > HALF_LIFE_TOLERANCE_REL:
        raise CrossCheckError(
            f"the header's half-life is not that of {source.name}",
            path=path,
            tag="RadionuclideHalfLife (0018,1075)",
            value=f"{half_life_h:g} h",
            expected=f"{source.half_life_h:g} h",
        )


def _cross_check_injection(spect: SpectInspection, injection: datetime, tolerance_min: float, path: str) -> None:
    """NM headers have a time of day without a date: only that can be compared, around midnight too."""
    header = spect.provenance
    if header.injection_datetime is not None:
        tag, value = "RadiopharmaceuticalStartDateTime (0018,1078)", _apart(header.injection_datetime, injection)
        difference_min = abs((header.injection_datetime - injection).total_seconds()) / 60.0
    elif header.injection_time is not None:
        tag, value = "RadiopharmaceuticalStartTime (0018,1072)", f"{header.injection_time:%H:%M}"
        difference_min = abs(_minute_of_day(header.injection_time) - _minute_of_day(injection.time()))
        difference_min = min(difference_min, _MIN_PER_DAY - difference_min)
    else:
        return
    if difference_min > tolerance_min:
        raise CrossCheckError(
            "injection time of header and sheet differ",
            path=path,
            tag=tag,
            value=value,
            expected=f"within {tolerance_min:g} min of the sheet",
        )


def _minute_of_day(clock: time) -> float:
    return clock.hour * 60.0 + clock.minute + clock.second / 60.0


def _apart(time: datetime, reference: datetime) -> str:
    """An interval for a message: what goes into a table never holds a date."""
    hours = (time - reference).total_seconds() / SECONDS_PER_HOUR
    return f"{abs(hours):.2f} h {'after' if hours > 0 else 'before'} it"


def _require_own_ct(spect: SpectInspection, ct: CtInspection | None, path: str) -> None:
    """A CT without PatientID has been de-identified and is left alone; its reader flags it."""
    if ct is None or ct.provenance.patient_id is None or spect.provenance.patient_id is None:
        return
    if ct.provenance.patient_id != spect.provenance.patient_id:
        raise MixedSeriesError("the CT is of another patient than the SPECT", path=path, tag="PatientID (0010,0020)")


def _check_sequence(before: list[SpectInspection], latest: SpectInspection, path: str) -> None:
    """One patient, distinct scans, in order of time."""
    for earlier in before:
        if earlier.provenance.patient_id != latest.provenance.patient_id:
            raise MixedSeriesError(
                "the scans of the cycle belong to two patients", path=path, tag="PatientID (0010,0020)"
            )
        if earlier.provenance.series_uid == latest.provenance.series_uid:
            raise SheetError("the same series is listed at two time points", path=path, tag="spect")
        if earlier.scan_start >= latest.scan_start:
            raise TimeError(
                "the time points are not in order of time",
                path=path,
                tag="time_point",
                value=_apart(latest.scan_start, earlier.scan_start),
                expected="a scan after the one before it",
            )
