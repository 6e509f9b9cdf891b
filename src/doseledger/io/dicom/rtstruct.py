"""Outlines of an RTSTRUCT file, in patient coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import ContourError, MixedSeriesError, ModalityError
from doseledger.io.dicom.headers import Header, Paths, collect_files, read_header, tag_name

RTSTRUCT_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.481.3"
CLOSED_PLANAR: Final = "CLOSED_PLANAR"


@dataclass(frozen=True, eq=False)
class Structure:
    """One outlined region.

    Attributes
    ----------
    frame_of_reference_uid
        Frame of reference of the coordinates: that of the series the region was drawn on.
    referenced_series_uids
        Series with this frame of reference that the file names as drawn on.
    contours
        Closed planar contours, one ``(n, 3)`` array of LPS positions in mm each.
    unfilled
        Geometric types of contours that enclose no area (points, open lines) and are not kept.
    """

    number: int
    name: str
    frame_of_reference_uid: str | None
    referenced_series_uids: tuple[str, ...]
    contours: tuple[NDArray[np.float64], ...]
    unfilled: tuple[str, ...] = ()


def read_structures(path: Paths) -> tuple[Structure, ...]:
    """Read the structures of one RTSTRUCT file, in order of their number.

    Parameters
    ----------
    path
        The file, or a folder that holds just this file.

    Raises
    ------
    InputMissingError, FileUnreadableError, ModalityError
        No file, a damaged one, or one of another kind.
    MixedSeriesError
        Several files: which of them counts is not guessed.
    ContourError
        No contours at all, contours of an unknown structure, malformed coordinates.
    """
    files = collect_files(path)
    if len(files) > 1:
        raise MixedSeriesError(
            f"there is more than one file: {files[0].name} and {files[1].name}",
            path=files[1],
            remedy="Name the structure set that counts.",
        )
    header = read_header(files[0])
    found = header.sop_class
    if found != RTSTRUCT_STORAGE:
        raise ModalityError(
            "the file is not a structure set",
            path=header.path,
            tag=tag_name("SOPClassUID"),
            value=f"{header.text('Modality')}, {found}",
            expected="RTSTRUCT",
        )
    outlines = _outlines(header)
    series = _referenced_series(header)
    structures = []
    for roi in header.items("StructureSetROISequence"):
        number = int(roi.required_number("ROINumber"))
        frame = roi.text("ReferencedFrameOfReferenceUID")
        contours, unfilled = outlines.pop(number, ((), ()))
        structures.append(
            Structure(number, roi.text("ROIName") or "", frame, series.get(frame, ()), contours, unfilled)
        )
    if outlines:
        raise ContourError(
            "the file has contours of a structure that it does not name",
            path=header.path,
            tag=tag_name("ReferencedROINumber"),
            value=sorted(outlines),
        )
    return tuple(sorted(structures, key=lambda s: s.number))


_Outline = tuple[tuple[NDArray[np.float64], ...], tuple[str, ...]]


def _outlines(header: Header) -> dict[int, _Outline]:
    """Contours and unfilled types by ROI number."""
    rois = header.items("ROIContourSequence")
    if not rois:
        raise ContourError("the file has no contours", path=header.path, tag=tag_name("ROIContourSequence"))
    outlines: dict[int, _Outline] = {}
    for roi in rois:
        number = int(roi.required_number("ReferencedROINumber"))
        if number in outlines:
            raise ContourError(
                "the contours of a structure stand in the file twice",
                path=header.path,
                tag=tag_name("ReferencedROINumber"),
                value=number,
            )
        contours, unfilled = [], []
        for contour in roi.items("ContourSequence"):
            kind = contour.text("ContourGeometricType") or ""
            if kind == CLOSED_PLANAR:
                contours.append(_points(contour))
            else:
                unfilled.append(kind)
        outlines[number] = tuple(contours), tuple(sorted(set(unfilled)))
    return outlines


def _points(contour: Header) -> NDArray[np.float64]:
    numbers = contour.numbers("ContourData")
    if not numbers or len(numbers) % 3:
        raise ContourError(
            "the coordinates of a contour are incomplete",
            path=contour.path,
            tag=tag_name("ContourData"),
            value=f"{len(numbers)} numbers",
            expected="three per point",
        )
    return np.array(numbers).reshape(-1, 3)


def _referenced_series(header: Header) -> dict[str | None, tuple[str, ...]]:
    """Series by frame of reference."""
    series: dict[str | None, tuple[str, ...]] = {}
    for frame in header.items("ReferencedFrameOfReferenceSequence"):
        uids = [
            item.text("SeriesInstanceUID")
            for study in frame.items("RTReferencedStudySequence")
            for item in study.items("RTReferencedSeriesSequence")
        ]
        key = frame.text("FrameOfReferenceUID")
        series[key] = (*series.get(key, ()), *(uid for uid in uids if uid))
    return series
