"""Files and header values: what is asked for is there and readable, or an error names file and tag."""

from __future__ import annotations

import math
import struct
import warnings
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, time, timedelta
from pathlib import Path
from typing import Any, Final, TypeVar

import pydicom
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataelem import RawDataElement
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.tag import Tag
from pydicom.uid import DeflatedExplicitVRLittleEndian

from doseledger.errors import FileUnreadableError, InputMissingError, QuantityError, TagMissingError, TimeError
from doseledger.io.dicom.moments import local_moment, offset_moment, utc_offset
from doseledger.io.files import is_side_file

Paths = str | Path | Iterable[str | Path]

#: What pydicom raises on damaged data, from the file as a whole or from one element of it.
DAMAGED: Final = (InvalidDicomError, OSError, EOFError, ValueError, TypeError, struct.error, zlib.error)

#: Completes a time of day where the rules for moments are to be applied to it.
_ANY_DAY: Final = "20000101"
_ZONE: Final = "TimezoneOffsetFromUTC"
_T = TypeVar("_T")
_UNDEFINED_LENGTH: Final = 0xFFFFFFFF
#: Types of values without a character set of their own.
_PLAIN: Final = frozenset({"CS", "DA", "DS", "DT", "TM", "UI"})
#: Larger elements, pixels above all, stay in the file until they are asked for, in bytes.
_DEFERRED_FROM: Final = 4096


def collect_files(paths: Paths) -> list[Path]:
    """Files of one series: a folder (not its subfolders), one file, or the files themselves.

    Raises
    ------
    InputMissingError
        A path does not exist, or there is no file.
    """
    if not isinstance(paths, (str, Path)):
        files = [Path(p) for p in paths]
        where: Path | None = None
    elif Path(paths).is_dir():
        where = Path(paths)
        files = [p for p in where.iterdir() if p.is_file() and not is_side_file(p)]
    else:
        where, files = Path(paths), [Path(paths)]
    for path in files:
        if not path.is_file():
            raise InputMissingError("the file does not exist", path=path)
    if not files:
        raise InputMissingError("there is no DICOM file", path=where)
    return sorted(files)


def tag_name(keyword: str) -> str:
    """Keyword and number of a tag, as in ``"Units (0054,1001)"``."""
    tag = Tag(tag_for_keyword(keyword) or 0)
    return f"{keyword} ({tag.group:04X},{tag.element:04X})"


@dataclass(frozen=True, eq=False)
class Header:
    """Header of one file, or one item of a sequence in it, whose reading names file and tag."""

    path: Path
    dataset: Dataset

    @property
    def sop_class(self) -> str | None:
        """Kind of the file: SOPClassUID, or where de-identification emptied it, the same in the file meta."""
        meta = getattr(self.dataset, "file_meta", Dataset())
        return self.text("SOPClassUID") or Header(self.path, meta).text("MediaStorageSOPClassUID")

    def value(self, keyword: str) -> Any:
        """Value of an element; None if it is absent or empty.

        Raises
        ------
        QuantityError
            The value does not fit the element's type.
        """
        try:
            with quiet():
                value = self.dataset.get(keyword)
        except DAMAGED as error:
            raise QuantityError(
                f"the header value cannot be read: {error}", path=self.path, tag=tag_name(keyword)
            ) from error
        return None if value is None or (hasattr(value, "__len__") and len(value) == 0) else value

    def text(self, keyword: str) -> str | None:
        return "\\".join(self.texts(keyword)) or None

    def texts(self, keyword: str) -> tuple[str, ...]:
        if (plain := self._plain(keyword)) is not None:
            return plain
        value = self.value(keyword)
        values = value if isinstance(value, (MultiValue, list)) else [value]
        return tuple(str(v).strip() for v in values if v is not None and str(v).strip())

    def _plain(self, keyword: str) -> tuple[str, ...] | None:
        """Values of a type that is written in plain ASCII, as they stand in the file; None if it is not that simple.

        pydicom makes an object of every value, which costs more than all the rest of looking at a header.
        """
        element = self.dataset.get_item(keyword) if keyword in self.dataset else None
        if not isinstance(element, RawDataElement) or element.value is None:
            return None
        if (element.VR or dictionary_VR(element.tag)) not in _PLAIN:
            return None
        try:
            texts = element.value.decode("ascii").split("\\")
        except UnicodeDecodeError:
            return None
        stripped = (text.strip(" \0") for text in texts)
        return tuple(text for text in stripped if text)

    def number(self, keyword: str) -> float | None:
        """A single finite number; None if it is absent or empty."""
        values = self.numbers(keyword)
        return values[0] if values else None

    def numbers(self, keyword: str) -> tuple[float, ...]:
        """All numbers of an element; empty if it is absent.

        Raises
        ------
        QuantityError
            A value is no finite number.
        """
        try:
            numbers = tuple(float(text) for text in self.texts(keyword))
        except ValueError:
            numbers = (math.nan,)
        if not all(math.isfinite(n) for n in numbers):
            raise QuantityError(
                "the header value is not a finite number",
                path=self.path,
                tag=tag_name(keyword),
                value=self.text(keyword),
                remedy="Export the series again.",
            )
        return numbers

    def required_number(self, keyword: str) -> float:
        return self.required_numbers(keyword, 1)[0]

    def required_numbers(self, keyword: str, count: int) -> tuple[float, ...]:
        """Exactly `count` finite numbers.

        Raises
        ------
        TagMissingError
            The element is absent, empty, or has another number of values.
        """
        numbers = self.numbers(keyword)
        if len(numbers) != count:
            raise TagMissingError(
                "the header lacks a value that the image needs",
                path=self.path,
                tag=tag_name(keyword),
                value=self.text(keyword),
            )
        return numbers

    def private_number(self, group: int, creator: str, element: int) -> float | None:
        """A single finite number of a maker's own element; None if it is absent.

        Raises
        ------
        QuantityError
            It is no finite number.
        """
        try:
            with quiet():
                value = self.dataset.private_block(group, creator)[element].value
            # A transfer without explicit types leaves text in bytes.
            number = float(value.decode("ascii") if isinstance(value, bytes) else value)
        except KeyError:
            return None
        except DAMAGED:
            number = math.nan
        if not math.isfinite(number):
            raise QuantityError(
                "the private header value is not a finite number",
                path=self.path,
                tag=f"{creator} ({group:04X},xx{element:02X})",
            )
        return number

    def items(self, keyword: str) -> tuple[Header, ...]:
        """Items of a sequence; empty if it is absent."""
        return tuple(Header(self.path, item) for item in self.value(keyword) or ())

    def date_time(self, date: str, time: str) -> datetime | None:
        """Moment from a date and a time element, local as in the header; None if either is absent.

        Raises
        ------
        TimeError
            Either is malformed, or the time has no minutes.
        """
        day, clock = self.text(date), self.text(time)
        if day is None or clock is None:
            return None
        return self._parsed(
            lambda: local_moment(f"{day}{clock}"), f"{tag_name(date)}, {tag_name(time)}", f"{day} {clock}"
        )

    def stamp(self, keyword: str, *, local_offset: str | None = None) -> datetime | None:
        """Moment from a DT element, as local time of the header; None if it is absent.

        Parameters
        ----------
        local_offset
            Offset of the header's times from UTC, as in TimezoneOffsetFromUTC (0008,0201).

        Raises
        ------
        TimeError
            It is malformed, or has an offset from UTC while that of the other times is unknown.
        """
        text = self.text(keyword)
        if text is None:
            return None
        moment, offset = self._parsed(lambda: offset_moment(text), tag_name(keyword), text)
        if offset is None:
            return moment
        if local_offset is None:
            raise TimeError(
                "the moment has an offset from UTC, but the header's other times have none",
                path=self.path,
                tag=tag_name(keyword),
                value=text,
            )
        return moment + self._parsed(lambda: utc_offset(local_offset), tag_name(_ZONE), local_offset) - offset

    def clock(self, keyword: str) -> time | None:
        """Time of day of a TM element; None if it is absent.

        Raises
        ------
        TimeError
            It is malformed, or has no minutes.
        """
        text = self.text(keyword)
        if text is None:
            return None
        return self._parsed(lambda: local_moment(f"{_ANY_DAY}{text}"), tag_name(keyword), text).time()

    @property
    def utc_offset_h(self) -> float | None:
        """How far the header's times are before UTC; None if it does not say.

        Raises
        ------
        TimeError
            TimezoneOffsetFromUTC (0008,0201) is malformed.
        """
        text = self.text(_ZONE)
        if text is None:
            return None
        return self._parsed(lambda: utc_offset(text), tag_name(_ZONE), text) / timedelta(hours=1)

    def _parsed(self, parse: Callable[[], _T], tag: str, text: str) -> _T:
        try:
            return parse()
        except ValueError:
            raise TimeError(
                "the moment cannot be read", path=self.path, tag=tag, value=text, expected="YYYYMMDD HHMMSS.FFFFFF"
            ) from None


def read_header(path: Path, *, tags: tuple[str, ...] | None = None) -> Header:
    """Read the header of one file; with `tags` only these elements and nothing of the pixels.

    Pixels are read when they are asked for, but that they are there in full is checked at once.

    Raises
    ------
    FileUnreadableError
        The file is not DICOM, or it ends in the middle of an element.
    """
    try:
        with quiet():
            dataset = pydicom.dcmread(
                path,
                specific_tags=None if tags is None else list(tags),
                stop_before_pixels=tags is not None,
                defer_size=_DEFERRED_FROM,
            )
            if dataset.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
                # Elements of a deflated file have no place in it that one could come back to.
                dataset = pydicom.dcmread(path)
        size = path.stat().st_size
    except InvalidDicomError as error:
        raise FileUnreadableError("the file is not DICOM", path=path) from error
    except DAMAGED as error:
        raise FileUnreadableError(f"the file cannot be read as DICOM: {error}", path=path) from error
    if ends_early(dataset.file_meta, size) or ends_early(dataset, size):
        raise FileUnreadableError("the file is truncated: it ends in the middle of an element", path=path)
    return Header(path, dataset)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep pydicom from warning of oddities such as texts that are too long for their type.

    Real headers are full of them; every value that is used is checked where it is used.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning, module=r"pydicom\.")
        yield


def ends_early(dataset: Dataset, file_size: int) -> bool:
    """Whether a file of that size ends in the middle of an element."""
    # pydicom takes what is left of a file as the value of its last element, however short, and of a
    # value that it leaves in the file it does not look for the end.
    return any(
        len(e.value) < e.length if e.value is not None else e.value_tell + e.length > file_size
        for e in dataset.values()
        if isinstance(e, RawDataElement) and e.length != _UNDEFINED_LENGTH
    )
