"""The index of DICOM folders: which series there are, without reading an unchanged file twice.

What headers say is kept in a Parquet file, a row per file, under path, size and time of change. The
rows identify patients: the index stays with the images.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

import pyarrow as pa
import pyarrow.parquet as pq

from doseledger.io.dicom.headers import tag_name
from doseledger.io.dicom.moments import local_moment
from doseledger.io.dicom.scan import KEYWORDS, HeaderTexts, scan_headers
from doseledger.io.files import Stamp, walk

INDEX_NAME: Final = "series.parquet"
#: Changes with the columns and with what is read from a header: an index of another version is not used.
INDEX_VERSION: Final = 1

_STAMP_COLUMNS: Final = (
    ("path", pa.string(), "", "Absolute path of the file"),
    ("size_bytes", pa.int64(), "B", "Size when the header was read"),
    ("mtime_ns", pa.int64(), "ns", "Time of change when the header was read, since 1970 in UTC"),
)
SCHEMA: Final = pa.schema(
    [
        pa.field(name, kind, nullable=False, metadata={"unit": unit, "description": description})
        for name, kind, unit, description in (
            *_STAMP_COLUMNS,
            *((name, pa.string(), "", tag_name(keyword)) for name, keyword in KEYWORDS._asdict().items()),
        )
    ],
    metadata={"index_version": str(INDEX_VERSION), "row": "file whose header could be read"},
)

Headers = dict[Stamp, HeaderTexts]


@dataclass(frozen=True, eq=False)
class SeriesRecord:
    """One series as its headers describe it, or one path that could not be read (`problem`)."""

    files: tuple[str, ...]
    modality: str = ""
    sop_class: str = ""
    patient_id: str = ""
    study_uid: str = ""
    frames_of_reference: tuple[str, ...] = ()
    image_type: tuple[str, ...] = ()
    unit: str = ""
    scan_start: datetime | None = None
    camera: str = ""
    problem: str | None = None

    @property
    def folders(self) -> tuple[str, ...]:
        return tuple(sorted({os.path.dirname(path) for path in self.files}))


def index_folders(
    folders: Iterable[str | Path],
    *,
    kept: Path | None = None,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> list[SeriesRecord]:
    """Read the headers of all files in `folders` and below, and group them by series.

    Paths that cannot be read become records with a `problem`. Records are in order of their files.

    Parameters
    ----------
    kept
        Index file: headers of files that have not changed since are taken from there, and what is
        read is written there, also when the reading is broken off. Files with a problem are tried
        again every time.
    workers
        Most processes that read headers.
    progress
        Is told how many of how many files have been read.

    Raises
    ------
    InputMissingError
        A folder does not exist.
    """
    tops = [os.path.abspath(folder) for folder in folders]
    stamps, problems = walk(tops)
    before = read_index(kept) if kept else {}
    headers = {stamp: before[stamp] for stamp in stamps if stamp in before}
    new = [stamp for stamp in stamps if stamp not in headers]
    try:
        found = scan_headers([stamp.path for stamp in new], workers=workers)
        for done, (stamp, texts) in enumerate(zip(new, found, strict=True), start=1):
            if isinstance(texts, str):
                problems[stamp.path] = texts
            else:
                headers[stamp] = texts
            if progress:
                progress(done, len(new))
    finally:
        if kept and new:
            write_index(kept, _elsewhere(before, tops) | headers)
    records = [SeriesRecord((path,), problem=problem) for path, problem in problems.items()]
    records += [_record(group) for group in _by_series(headers)]
    return sorted(records, key=lambda record: record.files)


def read_index(path: Path) -> Headers:
    """Headers by file; none from an index that is not there, not whole, or of another version."""
    try:
        with pq.ParquetFile(path) as file:
            if not file.schema_arrow.equals(SCHEMA, check_metadata=True):
                return {}
            columns = [column.to_pylist() for column in file.read(use_threads=False).columns]
    except (OSError, pa.ArrowInvalid):
        return {}
    first = len(Stamp._fields)
    stamps, texts = zip(*columns[:first], strict=True), zip(*columns[first:], strict=True)
    return dict(zip(map(Stamp._make, stamps), map(HeaderTexts._make, texts), strict=True))


def write_index(path: Path, headers: Headers) -> None:
    """Write the index so that a reader sees either the old one or the new one."""
    rows = [(*stamp, *texts) for stamp, texts in sorted(headers.items())]
    columns = list(zip(*rows, strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(column, type=field.type) for column, field in zip(columns, SCHEMA, strict=True)]
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(pa.Table.from_arrays(arrays, schema=SCHEMA), partial, compression="zstd")
    partial.replace(path)


def _elsewhere(headers: Headers, folders: Sequence[str]) -> Headers:
    """What was indexed outside `folders`: below them, a file that is not found any more is forgotten."""
    inside = tuple(os.path.join(folder, "") for folder in folders)
    return {stamp: texts for stamp, texts in headers.items() if not stamp.path.startswith(inside)}


def _by_series(headers: Mapping[Stamp, HeaderTexts]) -> Iterator[list[tuple[str, HeaderTexts]]]:
    groups: dict[tuple[str, ...], list[tuple[str, HeaderTexts]]] = defaultdict(list)
    for stamp, texts in headers.items():
        # Some de-identified files have lost their series UID: then a folder is a series.
        series = texts.series_uid or os.path.dirname(stamp.path)
        groups[texts.patient_id, texts.study_uid, series, texts.sop_class].append((stamp.path, texts))
    yield from groups.values()


def _record(group: Sequence[tuple[str, HeaderTexts]]) -> SeriesRecord:
    files = tuple(sorted(path for path, _ in group))
    first = group[0][1]
    try:
        start = _scan_start([texts for _, texts in group])
    except ValueError as error:
        return SeriesRecord(files, modality=first.modality, problem=f"the moment cannot be read: {error}")
    return SeriesRecord(
        files=files,
        modality=first.modality,
        sop_class=first.sop_class,
        patient_id=first.patient_id,
        study_uid=first.study_uid,
        frames_of_reference=_values(first.frames_of_reference),
        image_type=_values(first.image_type),
        unit=first.unit,
        scan_start=start,
        camera=" ".join(f"{first.model} {first.station or first.serial_number}".split()),
    )


def _scan_start(series: Iterable[HeaderTexts]) -> datetime | None:
    moments = set()
    for texts in series:
        if texts.acquisition_date and texts.acquisition_time:
            moments.add(texts.acquisition_date + texts.acquisition_time)
        elif texts.series_date and texts.series_time:
            moments.add(texts.series_date + texts.series_time)
    return min(map(local_moment, moments), default=None)


def _values(text: str) -> tuple[str, ...]:
    return tuple(value.strip() for value in text.split("\\") if value.strip())
