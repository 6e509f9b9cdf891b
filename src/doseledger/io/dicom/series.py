"""Image series: whole files of one patient and one series; stored values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import (
    FileUnreadableError,
    MixedSeriesError,
    ModalityError,
    QuantityError,
)
from doseledger.io.dicom.headers import DAMAGED, Header, Paths, collect_files, quiet, read_header, tag_name

_UIDS: Final = ("StudyInstanceUID", "FrameOfReferenceUID")
SERIES: Final = "SeriesInstanceUID"


def read_headers(paths: Paths, kinds: Mapping[str, str]) -> list[Header]:
    """Headers of the files of one series, in order of the file names.

    Parameters
    ----------
    kinds
        Storage classes that are read, and how messages call them.

    Raises
    ------
    InputMissingError, FileUnreadableError
        No file, or one that is not DICOM or is truncated.
    MixedSeriesError
        Files of two patients, modalities, studies, series or frames of reference.
    ModalityError
        The images are of another class.
    """
    headers = read_study(paths, kinds)
    require_same(headers, SERIES, "the files are not of one series", show=False)
    return headers


def read_study(paths: Paths, kinds: Mapping[str, str]) -> list[Header]:
    """Headers of files that may be of several series of one study and frame of reference; else as `read_headers`."""
    headers = [read_header(path) for path in collect_files(paths)]
    for header in headers:
        _require_whole(header, kinds)
    # Values are not shown where they would carry the patient's identity into tables and logs.
    require_same(headers, "PatientID", "the files are of two patients", show=False)
    require_same(headers, "Modality", "the files are of two modalities")
    for header in headers:
        _require_class(header, kinds)
    for keyword in _UIDS:
        require_same(headers, keyword, "the files are not of one series", show=False)
    return headers


def _require_whole(header: Header, kinds: Mapping[str, str]) -> None:
    # A file cut between two elements of its header shows only by what is not there.
    found = header.sop_class
    if found is None or (found in kinds and "PixelData" not in header.dataset):
        raise FileUnreadableError("the file is truncated: it ends before the image", path=header.path)


def require_same(headers: Sequence[Header], keyword: str, what: str, *, show: bool = True) -> None:
    """Refuse files that differ in one element.

    Raises
    ------
    MixedSeriesError
        Naming the two files.
    """
    first = headers[0]
    for other in headers[1:]:
        if other.texts(keyword) != first.texts(keyword):
            raise MixedSeriesError(
                f"{what}: {first.path.name} and {other.path.name}",
                path=other.path,
                tag=tag_name(keyword),
                value=other.text(keyword) if show else None,
                expected=first.text(keyword) if show else None,
            )


def _require_class(header: Header, kinds: Mapping[str, str]) -> None:
    found = header.sop_class
    if found not in kinds:
        raise ModalityError(
            "the file is of another kind",
            path=header.path,
            tag=tag_name("SOPClassUID"),
            value=f"{header.text('Modality')}, {found}",
            expected="; or ".join(kinds.values()),
        )


def stored_values(header: Header, *, frames: int | None = None) -> NDArray[np.float64]:
    """Decoded stored values before rescaling, ``(y, x)``; with `frames`, ``(frame, y, x)``.

    Raises
    ------
    FileUnreadableError
        The pixel data are truncated, damaged or not decodable.
    """
    try:
        with quiet():
            values = header.dataset.pixel_array
    except (*DAMAGED, AttributeError, NotImplementedError, RuntimeError) as error:
        raise FileUnreadableError(f"the image cannot be decoded: {error}", path=header.path) from error
    plane = tuple(int(header.required_number(k)) for k in ("Rows", "Columns"))
    shape = plane if frames is None else (frames, *plane)
    if values.shape != shape:
        raise FileUnreadableError(
            "the file does not hold the grey values that its header declares",
            path=header.path,
            value=values.shape,
            expected=shape,
        )
    return np.asarray(values, dtype=np.float64)


def rescale(header: Header) -> tuple[float, float]:
    """Slope and intercept of one file: PET series have one slope per slice.

    Raises
    ------
    TagMissingError, QuantityError
        Either is absent; the slope is not positive.
    """
    slope, intercept = (header.required_number(k) for k in ("RescaleSlope", "RescaleIntercept"))
    if slope <= 0:
        raise QuantityError(
            "the scale of the image is not positive", path=header.path, tag=tag_name("RescaleSlope"), value=slope
        )
    return slope, intercept
