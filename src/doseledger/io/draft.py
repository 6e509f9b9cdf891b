"""A draft of the scan sheet from an index of series.

The draft is for a person to review: what is ambiguous is listed with a reason and never guessed.
"""

from __future__ import annotations

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from doseledger.cohort import write_atomically
from doseledger.io.index import SeriesRecord
from doseledger.io.sheets import read_sheet

#: Scans of one patient further apart than this belong to different cycles. Cycles are given six to
#: twelve weeks apart, scans of one cycle are made within ten days.
CYCLE_GAP: Final = timedelta(days=15)
#: The CT of a SPECT is made in the same session: it starts at most so long before or after it.
SAME_SESSION: Final = timedelta(hours=2)
#: Columns of a drafted row of scans.tsv.
SCAN_COLUMNS: Final = ("site", "patient", "cycle", "time_point", "spect", "ct", "contours", "camera")
#: Columns of what could not be placed.
UNPLACED_COLUMNS: Final = ("path", "modality", "reason")
#: What a person has to fill in, or what is not there.
NOT_AVAILABLE: Final = "n/a"
#: Storage class of the directory of a medium: no image, under whatever name.
_DICOMDIR: Final = "1.2.840.10008.1.3.10"

Row = dict[str, str | int]
Unplaced = dict[str, str]
Administrations = Iterable[Mapping[str, Any]]
#: Site, cycle and time point.
Place = tuple[str, int, int]


def patient_keys(records: Sequence[SeriesRecord]) -> dict[str, str]:
    """Pseudonyms ``P1``, ``P2``, ... by PatientID, in sorted order: the key list of the site.

    It links pseudonyms to patients and is kept apart from the sheets.
    """
    identities = sorted({record.patient_id for record in records if record.patient_id})
    return {identity: f"P{i}" for i, identity in enumerate(identities, start=1)}


@dataclass(frozen=True)
class Draft:
    """A drafted scan sheet that has been written."""

    rows: list[Row]
    unplaced: list[Unplaced]
    unplaced_path: Path
    keys: dict[str, str]

    def by_reason(self) -> Iterator[tuple[str, list[str]]]:
        """Paths that could not be placed, by the reason why."""
        paths: dict[str, list[str]] = defaultdict(list)
        for entry in self.unplaced:
            paths[entry["reason"]].append(entry["path"])
        yield from paths.items()


def write_draft(
    records: Sequence[SeriesRecord], out: Path, *, keys: Path | None = None, administrations: Path | None = None
) -> Draft:
    """Write the drafted sheet and, beside it (``X-unplaced.tsv``), what could not be placed.

    Parameters
    ----------
    keys
        A sheet with the columns ``patient_id`` and ``patient``. Without it pseudonyms are counted;
        where there are administrations, the PatientID is taken for the pseudonym.
    administrations
        The sheet administrations.tsv.

    Raises
    ------
    RecordedError
        One of the sheets is not valid.
    """
    # Pydantic is slow to import and not needed for most drafts.
    if keys is not None:
        from doseledger.io.models import PatientKey

        listed = read_sheet(keys, PatientKey, unique=("patient_id",))
        pseudonyms = {row["patient_id"]: row["patient"] for row in listed}
    else:
        pseudonyms = patient_keys(records)
    given = None
    if administrations is not None:
        from doseledger.io.models import Administration

        given = read_sheet(administrations, Administration)
        pseudonyms = pseudonyms if keys else {identity: identity for identity in pseudonyms}
    rows, unplaced = draft_scans(records, out.resolve().parent, keys=pseudonyms, administrations=given)
    unplaced_path = out.with_name(f"{out.stem}-unplaced.tsv")
    _write_sheet(out, SCAN_COLUMNS, rows)
    if unplaced:
        _write_sheet(unplaced_path, UNPLACED_COLUMNS, unplaced)
    return Draft(rows, unplaced, unplaced_path, pseudonyms)


def _write_sheet(path: Path, columns: Sequence[str], rows: Sequence[Mapping[str, object]]) -> None:
    lines = ["\t".join(columns), *("\t".join(str(row[column]) for column in columns) for row in rows)]
    write_atomically(path, "\n".join(lines) + "\n")


def draft_scans(
    records: Sequence[SeriesRecord],
    base: Path,
    *,
    keys: Mapping[str, str] | None = None,
    administrations: Administrations | None = None,
) -> tuple[list[Row], list[Unplaced]]:
    """Draft the rows of scans.tsv.

    SPECT series (PT in Bq/mL, reconstructed NM) of one patient are time points in order of their
    start. CT and outlines (RTSTRUCT, SEG) are those of the same frame of reference, else of the same study; of
    several, the one of the same session. Where more than one is left, none is taken.

    Parameters
    ----------
    base
        Folder of the sheet: paths are relative to it.
    keys
        Pseudonym by PatientID; `patient_keys` if none are given.
    administrations
        Rows of administrations.tsv, under the same pseudonyms: a scan belongs to the last injection
        before it. Without them a gap of `CYCLE_GAP` or more begins a new cycle.

    Returns
    -------
    rows
        Values by `SCAN_COLUMNS`; without administrations the site is left to a person.
    unplaced
        Values by `UNPLACED_COLUMNS` of every series that is in no row.
    """
    return _Draft(records, base, patient_keys(records) if keys is None else keys).rows_and_unplaced(administrations)


class _Draft:
    """The records by their role, and the reasons of those that have none."""

    def __init__(self, records: Sequence[SeriesRecord], base: Path, keys: Mapping[str, str]) -> None:
        self.base = base
        self.keys = keys
        self.sharing = Counter(folder for record in records for folder in record.folders)
        self.reasons: dict[SeriesRecord, str] = {}
        self.used: set[SeriesRecord] = set()
        self.series: dict[str, dict[str, list[SeriesRecord]]] = defaultdict(lambda: defaultdict(list))
        for record in records:
            role, reason = _role(record)
            if reason := reason or self._place_problem(record):
                self.reasons[record] = reason
            else:
                self.series[record.patient_id][role].append(record)

    def rows_and_unplaced(self, administrations: Administrations | None) -> tuple[list[Row], list[Unplaced]]:
        given = None if administrations is None else _Given(administrations)
        rows = []
        for patient in sorted(self.series, key=lambda identity: _natural(self.keys[identity])):
            spects = self._one_at_a_time(self.series[patient]["spect"])
            for place, spect in self._by_gap(spects) if given is None else self._by_injection(spects, given):
                rows.append(self._row(place, spect))
        for record in (r for roles in self.series.values() for role in roles.values() for r in role):
            if record not in self.used:
                self.reasons.setdefault(record, "it belongs to no SPECT series by frame of reference or study")
        unplaced = [
            {"path": self._path(record), "modality": record.modality, "reason": reason}
            for record, reason in sorted(self.reasons.items(), key=lambda item: item[0].files)
            if record not in self.used
        ]
        return rows, unplaced

    def _one_at_a_time(self, series: Sequence[SeriesRecord]) -> list[SeriesRecord]:
        """SPECT series of a patient in order of time; none of those that start together."""
        together = Counter(record.scan_start for record in series)
        for record in series:
            if together[record.scan_start] > 1:
                self.reasons[record] = "several SPECT series start at the same time: choose one reconstruction"
        return sorted((r for r in series if together[r.scan_start] == 1), key=_start)

    def _by_gap(self, spects: Sequence[SeriesRecord]) -> Iterator[tuple[Place, SeriesRecord]]:
        cycle, time_point, last = 1, 0, None
        for spect in spects:
            if last is not None and _start(spect) - last >= CYCLE_GAP:
                cycle, time_point = cycle + 1, 0
            last, time_point = _start(spect), time_point + 1
            yield (NOT_AVAILABLE, cycle, time_point), spect

    def _by_injection(self, spects: Sequence[SeriesRecord], given: _Given) -> Iterator[tuple[Place, SeriesRecord]]:
        time_points: Counter[tuple[str, int]] = Counter()
        for spect in spects:
            found = given.cycle_of(self.keys[spect.patient_id], _start(spect))
            if isinstance(found, str):
                self.reasons[spect] = found
                continue
            time_points[found] += 1
            yield (*found, time_points[found]), spect

    def _row(self, place: Place, spect: SeriesRecord) -> Row:
        self.used.add(spect)
        site, cycle, time_point = place
        return {
            "site": site,
            "patient": self.keys[spect.patient_id],
            "cycle": cycle,
            "time_point": time_point,
            "spect": self._path(spect),
            "ct": self._partner(spect, "ct"),
            "contours": self._partner(spect, "contours"),
            "camera": spect.camera or NOT_AVAILABLE,
        }

    def _partner(self, spect: SeriesRecord, role: str) -> str:
        """Path of the only CT or structure set of a SPECT series."""
        series = self.series[spect.patient_id]
        found = [r for r in series[role] if set(r.frames_of_reference) & set(spect.frames_of_reference)]
        if not found:
            found = self._of_study(spect, role)
        elif len(found) > 1:
            # A frame that several sessions share, for example after de-identification.
            found = [r for r in found if _same_session(r, spect)] or found
        if len(found) == 1:
            self.used.add(found[0])
            return self._path(found[0])
        for record in found:
            self.reasons[record] = f"several series of this kind belong to {self._path(spect)}: choose one"
        return NOT_AVAILABLE

    def _of_study(self, spect: SeriesRecord, role: str) -> list[SeriesRecord]:
        """The only one of the study, or of the session: a study can hold all time points of a patient."""
        series = self.series[spect.patient_id]
        own = [r for r in series[role] if r.study_uid and r.study_uid == spect.study_uid]
        spects = [r for r in series["spect"] if r.study_uid == spect.study_uid]
        if len(own) == len(spects) == 1:
            return own
        near = [r for r in own if _same_session(r, spect)]
        return near if len(near) == 1 and sum(_same_session(near[0], r) for r in spects) == 1 else []

    def _place_problem(self, record: SeriesRecord) -> str | None:
        if record.patient_id not in self.keys:
            return "the key list does not have its PatientID"
        if len(record.files) == 1:
            return None
        if len(record.folders) > 1:
            return "its files lie in several folders"
        if self.sharing[record.folders[0]] > 1:
            return "its folder holds other files too: put each series into a folder of its own"
        return None

    def _path(self, record: SeriesRecord) -> str:
        path = record.files[0] if len(record.files) == 1 else os.path.commonpath(record.folders)
        return Path(os.path.relpath(path, self.base)).as_posix()


class _Given:
    """The administrations of every patient, in order of time."""

    def __init__(self, administrations: Administrations) -> None:
        self._injections: dict[str, list[tuple[datetime, str, int]]] = defaultdict(list)
        for row in administrations:
            start = datetime.fromisoformat(str(row["injection_start"]))
            self._injections[row["patient"]].append((start, row["site"], row["cycle"]))

    def cycle_of(self, patient: str, scan_start: datetime) -> tuple[str, int] | str:
        """Site and cycle of a scan, or why it has none."""
        injections = self._injections.get(patient)
        if not injections:
            return "the administration sheet does not have the patient"
        if len({site for _, site, _ in injections}) > 1:
            return "the administration sheet has a patient of this name at two sites"
        before = [injection for injection in injections if injection[0] <= scan_start]
        if not before:
            return "it starts before the first injection of the administration sheet"
        start, site, cycle = max(before)
        if scan_start - start >= CYCLE_GAP:
            return f"it starts {(scan_start - start).days} days after the last injection before it"
        return site, cycle


def _start(record: SeriesRecord) -> datetime:
    assert record.scan_start is not None, "a SPECT series without a start has no role"
    return record.scan_start


def _same_session(one: SeriesRecord, other: SeriesRecord) -> bool:
    starts = (one.scan_start, other.scan_start)
    return starts[0] is not None and starts[1] is not None and abs(starts[0] - starts[1]) <= SAME_SESSION


def _natural(label: str) -> tuple[str | int, ...]:
    """P2 before P10."""
    return tuple(int(part) if part.isdecimal() else part for part in re.split(r"(\d+)", label))


def _role(record: SeriesRecord) -> tuple[str, str | None]:
    """Role of a series in the scan sheet, or the reason why it has none."""
    if record.problem:
        return "", record.problem
    if record.sop_class == _DICOMDIR:
        return "", "it is the directory of a medium (DICOMDIR), not an image"
    if not record.patient_id:
        return "", "it has no PatientID"
    if record.modality in ("RTSTRUCT", "SEG"):
        return "contours", None
    if record.modality == "CT":
        return "ct", "it is a localizer (scout)" if "LOCALIZER" in record.image_type else None
    if record.modality not in ("PT", "NM"):
        return "", f"series of modality {record.modality or 'unknown'} have no place in the sheet"
    if record.modality == "PT" and record.unit != "BQML":
        return "", f"its unit is {record.unit or 'missing'}, not BQML"
    if record.modality == "NM" and "RECON TOMO" not in record.image_type:
        return "", "it is not a tomographic reconstruction"
    if record.modality == "NM" and len(record.files) > 1:
        return "", (
            "the series holds several NM images: name the file of one reconstruction, or, if they are its beds, "
            "a folder that holds nothing else"
        )
    if record.scan_start is None:
        return "", "it has no date and time of acquisition"
    return "spect", None
