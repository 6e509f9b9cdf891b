"""A first look at DICOM folders: which series there are, and a draft of the scan sheet.

The draft is for a person to review: what is ambiguous is listed with a reason and never guessed.
"""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

from doseledger.errors import DoseledgerError, InputMissingError
from doseledger.io.dicom.headers import Header, is_side_file, read_header

#: Scans of one patient further apart than this belong to different cycles. Cycles are given six to
#: twelve weeks apart, scans of one cycle are made within ten days.
CYCLE_GAP: Final = timedelta(days=15)
#: Columns of a drafted row of scans.tsv.
SCAN_COLUMNS: Final = ("site", "patient", "cycle", "time_point", "spect", "ct", "contours", "camera")
#: What a person has to fill in, or what is not there.
NOT_AVAILABLE: Final = "n/a"

_TAGS: Final = (
    "SOPClassUID",
    "ImageType",
    "Modality",
    "PatientID",
    "StudyInstanceUID",
    "SeriesInstanceUID",
    "FrameOfReferenceUID",
    "ReferencedFrameOfReferenceSequence",
    "AcquisitionDate",
    "AcquisitionTime",
    "SeriesDate",
    "SeriesTime",
    "Units",
    "ManufacturerModelName",
    "StationName",
    "DeviceSerialNumber",
)


@dataclass(frozen=True)
class SeriesRecord:
    """One series as its headers describe it, or one file that could not be read (`problem`)."""

    files: tuple[Path, ...]
    modality: str = ""
    patient_id: str = ""
    study_uid: str = ""
    series_uid: str = ""
    frames_of_reference: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    unit: str = ""
    scan_start: datetime | None = None
    camera: str = ""
    problem: str | None = None

    @property
    def folders(self) -> tuple[Path, ...]:
        return tuple(sorted({path.parent for path in self.files}))


def index_folders(folders: Iterable[str | Path]) -> list[SeriesRecord]:
    """Read the headers of all files in `folders` and below, and group them by series.

    Files that cannot be read become records with a `problem`. Records are in order of their files.

    Raises
    ------
    InputMissingError
        A folder does not exist.
    """
    groups: dict[tuple[str, ...], list[Header]] = defaultdict(list)
    records = []
    for path in _walk(folders):
        try:
            header = read_header(path, tags=_TAGS)
            groups[_series_key(header)].append(header)
        except DoseledgerError as error:
            records.append(SeriesRecord((path,), problem=error.what))
    records += [_record(headers) for headers in groups.values()]
    return sorted(records, key=lambda record: record.files)


def _walk(folders: Iterable[str | Path]) -> list[Path]:
    files: set[Path] = set()
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise InputMissingError("the folder does not exist", path=folder)
        for parent, _, names in os.walk(folder):
            files.update(Path(parent) / name for name in names)
    return sorted(path for path in files if not is_side_file(path))


def _series_key(header: Header) -> tuple[str, ...]:
    patient, study, series = (header.text(k) or "" for k in ("PatientID", "StudyInstanceUID", "SeriesInstanceUID"))
    # Some de-identified files have lost their series UID: then a folder is a series.
    return (patient, study, series, "" if series else str(header.path.parent), header.sop_class or "")


def _record(headers: Sequence[Header]) -> SeriesRecord:
    first = headers[0]
    files = tuple(sorted(header.path for header in headers))
    try:
        starts = [start for header in headers if (start := _scan_start(header))]
        return SeriesRecord(
            files=files,
            modality=first.text("Modality") or "",
            patient_id=first.text("PatientID") or "",
            study_uid=first.text("StudyInstanceUID") or "",
            series_uid=first.text("SeriesInstanceUID") or "",
            frames_of_reference=_frames(first),
            image_type=first.texts("ImageType"),
            unit=first.text("Units") or "",
            scan_start=min(starts, default=None),
            camera=_camera(first),
        )
    except DoseledgerError as error:
        return SeriesRecord(files, modality=first.text("Modality") or "", problem=error.what)


def _scan_start(header: Header) -> datetime | None:
    acquisition = header.date_time("AcquisitionDate", "AcquisitionTime")
    return acquisition or header.date_time("SeriesDate", "SeriesTime")


def _frames(header: Header) -> tuple[str, ...]:
    own = [header.text("FrameOfReferenceUID")]
    referenced = [f.text("FrameOfReferenceUID") for f in header.items("ReferencedFrameOfReferenceSequence")]
    return tuple(uid for uid in (referenced or own) if uid)


def _camera(header: Header) -> str:
    unit = header.text("StationName") or header.text("DeviceSerialNumber")
    return " ".join(" ".join(filter(None, (header.text("ManufacturerModelName"), unit))).split())


def patient_keys(records: Sequence[SeriesRecord]) -> dict[str, str]:
    """Pseudonyms ``P1``, ``P2``, ... by PatientID, in sorted order: the key list of the site.

    It links pseudonyms to patients and is kept apart from the sheets.
    """
    identities = sorted({record.patient_id for record in records if record.patient_id})
    return {identity: f"P{i}" for i, identity in enumerate(identities, start=1)}


Row = dict[str, str | int]
Unplaced = dict[str, str]


def draft_scans(records: Sequence[SeriesRecord], base: Path) -> tuple[list[Row], list[Unplaced]]:
    """Draft the rows of scans.tsv.

    SPECT series (PT in Bq/mL, reconstructed NM) of one patient are time points in order of their
    start; a gap of `CYCLE_GAP` or more begins a new cycle. CT and structure set are those with the
    same frame of reference; a CT without one may be that of its study if both are the only ones.

    Parameters
    ----------
    base
        Folder of the sheet: paths are relative to it.

    Returns
    -------
    rows
        Values by `SCAN_COLUMNS`; the site is left to a person.
    unplaced
        ``path``, ``modality`` and ``reason`` of every series that is in no row.
    """
    return _Draft(records, base).rows_and_unplaced()


class _Draft:
    """The records by their role, and the reasons of those that have none."""

    def __init__(self, records: Sequence[SeriesRecord], base: Path) -> None:
        self.base = base
        self.keys = patient_keys(records)
        self.sharing = Counter(folder for record in records for folder in record.folders)
        self.reasons: dict[SeriesRecord, str] = {}
        self.used: set[SeriesRecord] = set()
        self.roles: dict[str, list[SeriesRecord]] = defaultdict(list)
        for record in records:
            role, reason = _role(record)
            if reason := reason or self._path_problem(record):
                self.reasons[record] = reason
            else:
                self.roles[role].append(record)

    def rows_and_unplaced(self) -> tuple[list[Row], list[Unplaced]]:
        rows = [row for patient in self.keys for row in self._rows_of(patient)]
        for record in (r for role in self.roles.values() for r in role):
            if record not in self.used:
                self.reasons.setdefault(record, "it belongs to no SPECT series by frame of reference or study")
        unplaced = [
            {"path": self._path(record), "modality": record.modality, "reason": reason}
            for record, reason in sorted(self.reasons.items(), key=lambda item: item[0].files)
            if record not in self.used
        ]
        return rows, unplaced

    def _rows_of(self, patient: str) -> list[Row]:
        rows: list[Row] = []
        cycle, time_point, last = 1, 0, None
        for spect in self._time_points(patient):
            start = spect.scan_start
            if start and last and start - last >= CYCLE_GAP:
                cycle, time_point = cycle + 1, 0
            last, time_point = start, time_point + 1
            rows.append(
                {
                    "site": NOT_AVAILABLE,
                    "patient": self.keys[patient],
                    "cycle": cycle,
                    "time_point": time_point,
                    "spect": self._path(spect),
                    "ct": self._partner(spect, "ct"),
                    "contours": self._partner(spect, "contours"),
                    "camera": spect.camera or NOT_AVAILABLE,
                }
            )
            self.used.add(spect)
        return rows

    def _time_points(self, patient: str) -> list[SeriesRecord]:
        """SPECT series of a patient in order of time; none of those that start together."""
        series = [r for r in self.roles["spect"] if r.patient_id == patient]
        together = Counter(r.scan_start for r in series)
        for record in series:
            if together[record.scan_start] > 1:
                self.reasons[record] = "several SPECT series start at the same time: choose one reconstruction"
        single = [r for r in series if together[r.scan_start] == 1]
        return sorted(single, key=lambda r: r.scan_start or datetime.min)

    def _partner(self, spect: SeriesRecord, role: str) -> str:
        """Path of the only CT or structure set of a SPECT series."""
        found = [
            r
            for r in self.roles[role]
            if r.patient_id == spect.patient_id and set(r.frames_of_reference) & set(spect.frames_of_reference)
        ] or self._only_ones_of_study(spect, role)
        if len(found) == 1:
            self.used.add(found[0])
            return self._path(found[0])
        for record in found:
            self.reasons[record] = f"several series of this kind belong to {self._path(spect)}: choose one"
        return NOT_AVAILABLE

    def _only_ones_of_study(self, spect: SeriesRecord, role: str) -> list[SeriesRecord]:
        # A study can hold all time points of a patient: only a single pair says who belongs to whom.
        def of_study(role: str) -> list[SeriesRecord]:
            key = (spect.patient_id, spect.study_uid)
            return [r for r in self.roles[role] if r.study_uid and (r.patient_id, r.study_uid) == key]

        return of_study(role) if len(of_study(role)) == len(of_study("spect")) == 1 else []

    def _path_problem(self, record: SeriesRecord) -> str | None:
        if len(record.files) == 1:
            return None
        if len(record.folders) > 1:
            return "its files lie in several folders"
        if self.sharing[record.folders[0]] > 1:
            return "its folder holds other files too: put each series into a folder of its own"
        return None

    def _path(self, record: SeriesRecord) -> str:
        path = record.files[0] if len(record.files) == 1 else Path(os.path.commonpath(record.folders))
        return Path(os.path.relpath(path, self.base)).as_posix()


def _role(record: SeriesRecord) -> tuple[str, str | None]:
    """Role of a series in the scan sheet, or the reason why it has none."""
    if record.problem:
        return "", record.problem
    if not record.patient_id:
        return "", "it has no PatientID"
    if record.modality == "RTSTRUCT":
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
        return "", "the series holds several NM images: choose the file of one reconstruction"
    if record.scan_start is None:
        return "", "it has no date and time of acquisition"
    return "spect", None
