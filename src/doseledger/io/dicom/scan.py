"""The few elements by which files are sorted into series, from many headers at once.

Reading ends with the last of these elements, and their values stay the text that they are in the
file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from pydicom.datadict import tag_for_keyword
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_partial

from doseledger.errors import DoseledgerError
from doseledger.io.dicom.headers import DAMAGED, Header, ends_early, quiet
from doseledger.io.dicom.walk import find_elements
from doseledger.io.workers import map_in_order


class HeaderTexts(NamedTuple):
    """What one file says of itself, as text; empty where it is silent. Several values are parted by a backslash."""

    sop_class: str
    image_type: str
    modality: str
    patient_id: str
    study_uid: str
    series_uid: str
    frames_of_reference: str
    acquisition_date: str
    acquisition_time: str
    series_date: str
    series_time: str
    unit: str
    model: str
    station: str
    serial_number: str


#: Element of each field, in their order; structure sets have their frames of reference in a sequence.
KEYWORDS: Final = HeaderTexts(
    sop_class="SOPClassUID",
    image_type="ImageType",
    modality="Modality",
    patient_id="PatientID",
    study_uid="StudyInstanceUID",
    series_uid="SeriesInstanceUID",
    frames_of_reference="FrameOfReferenceUID",
    acquisition_date="AcquisitionDate",
    acquisition_time="AcquisitionTime",
    series_date="SeriesDate",
    series_time="SeriesTime",
    unit="Units",
    model="ManufacturerModelName",
    station="StationName",
    serial_number="DeviceSerialNumber",
)
_REFERENCED: Final = "ReferencedFrameOfReferenceSequence"
_TAGS: Final = tuple(tag_for_keyword(keyword) or 0 for keyword in KEYWORDS)
_WANTED: Final = frozenset(_TAGS)
_MODALITY: Final = tag_for_keyword(KEYWORDS.modality) or 0
#: Most files have said all that is needed by here; two kinds have one element more.
_LAST: Final = tag_for_keyword(KEYWORDS.frames_of_reference) or 0
_LAST_OF: Final = {
    b"PT": tag_for_keyword(KEYWORDS.unit) or 0,
    b"RTSTRUCT": tag_for_keyword(_REFERENCED) or 0,
}
_LAST_OF_ALL: Final = max(_LAST_OF.values())
#: Bytes that are looked at first: few headers are longer up to their last element that counts.
_HEAD_BYTES: Final = 16384
#: Files that a worker takes at a time, and how many make it worth its start.
_CHUNK: Final = 200
_FILES_PER_WORKER: Final = 5000
_ESCAPE: Final = b"\x1b"


def scan_headers(paths: Sequence[str], *, workers: int = 1) -> Iterator[HeaderTexts | str]:
    """What every file says, in order; of one that cannot be used, why.

    Parameters
    ----------
    workers
        Most processes that may be started; few files are read by this one.
    """
    chunks = [paths[i : i + _CHUNK] for i in range(0, len(paths), _CHUNK)]
    count = min(workers, len(paths) // _FILES_PER_WORKER)
    for found in map_in_order(_scan_chunk, chunks, workers=count):
        yield from found


def _scan_chunk(paths: Sequence[str]) -> list[HeaderTexts | str]:
    with quiet():
        return [scan_header(path) for path in paths]


def scan_header(path: str) -> HeaderTexts | str:
    """What one file says, or why it cannot be used."""
    try:
        with open(path, "rb", buffering=0) as stream:
            head = stream.read(_HEAD_BYTES)
        if not head:
            return "the file is empty"
        return _texts(head) or _texts_by_pydicom(path)
    except InvalidDicomError:
        return "the file is not DICOM"
    except OSError as error:
        return f"the file cannot be opened: {error.strerror or error}"
    except (*DAMAGED, DoseledgerError) as error:
        return f"the file cannot be read as DICOM: {error}"


def _texts(head: bytes) -> HeaderTexts | None:
    """From the beginning of an ordinary file; None of any other."""
    values = find_elements(head, _WANTED, _last)
    # A structure set has its frames of reference in a sequence; other alphabets are pydicom's business.
    if values is None or values.get(_MODALITY) == b"RTSTRUCT" or not values.get(_TAGS[0]):
        return None
    if not all(value.isascii() and _ESCAPE not in value for value in values.values()):
        return None
    return HeaderTexts._make([values.get(tag, b"").decode("ascii").strip(" \0") for tag in _TAGS])


def _last(found: Mapping[int, bytes]) -> int:
    return _LAST_OF.get(found.get(_MODALITY, b"").strip(), _LAST)


def _texts_by_pydicom(path: str) -> HeaderTexts | str:
    with open(path, "rb") as stream:
        dataset = read_partial(stream, stop_when=lambda tag, vr, length: int(tag) > _LAST_OF_ALL)
        at_end = not stream.read(1)
    if at_end and ends_early(dataset, os.stat(path).st_size):
        return "the file is truncated: it ends in the middle of an element"
    header = Header(Path(path), dataset)
    if header.sop_class is None:
        return "the file does not say what it is: it has no SOPClassUID (0008,0016)"
    texts = HeaderTexts._make([header.text(keyword) or "" for keyword in KEYWORDS])
    frames = [item.text(KEYWORDS.frames_of_reference) for item in header.items(_REFERENCED)]
    return texts._replace(
        sop_class=header.sop_class,
        frames_of_reference="\\".join(filter(None, frames)) or texts.frames_of_reference,
    )
