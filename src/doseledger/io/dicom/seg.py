"""Segmentations (DICOM SEG): masks that are stored frame by frame, each with its own place in the patient.

Source: DICOM PS3.3, C.8.20 (segmentation) and C.7.6.16 (multi-frame functional groups). Frames are placed
one by one, so that their order, their number and gaps between them do not matter: a slice without a frame
is empty.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import (
    FileUnreadableError,
    MixedSeriesError,
    ModalityError,
    SegmentationFileError,
)
from doseledger.geometry import Grid
from doseledger.io.dicom.headers import Header, Paths, collect_files, read_header, tag_name
from doseledger.io.dicom.seg_frames import frame_values
from doseledger.io.dicom.stack import DUPLICATE_TOLERANCE_MM, image_axes, vector

#: Bits or fractions with one segment per frame, and label maps with all segments in one frame.
SEG_STORAGE: Final = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
#: A voxel of a FRACTIONAL segmentation belongs to the segment from this share of MaximumFractionalValue on,
#: whether the fraction is a probability or an occupancy.
FRACTION_THRESHOLD: Final = 0.5
#: Codes of the sides, SNOMED CT and its older form.
_SIDES: Final[dict[str, Literal["left", "right"]]] = {
    "7771000": "left",
    "G-A101": "left",
    "24028007": "right",
    "G-A100": "right",
}


@dataclass(frozen=True)
class Code:
    """A coded concept: value, coding scheme (``SCT``, ``SRT``, ...) and meaning in words."""

    value: str
    scheme: str | None
    meaning: str | None


@dataclass(frozen=True, eq=False)
class Segment:
    """One segment and its frames.

    Attributes
    ----------
    code
        What the segment shows (SegmentedPropertyTypeCodeSequence).
    referenced_series_uids
        Series that the file names as segmented; empty if it names none.
    planes
        Place of each frame: a grid of one slice, as thick as the slices of the file are apart.
    packed
        Frames with the bits of 8 voxels per byte, in the order of `planes`: a file may hold thousands.
    """

    path: Path
    number: int
    name: str
    code: Code | None
    laterality: Literal["left", "right"] | None
    frame_of_reference_uid: str | None
    referenced_series_uids: tuple[str, ...]
    planes: tuple[Grid, ...]
    packed: tuple[NDArray[np.uint8], ...]


def read_segments(path: Paths) -> tuple[Segment, ...]:
    """Read the segments of one SEG file, in order of their number.

    Types BINARY, FRACTIONAL (thresholded, see `FRACTION_THRESHOLD`) and LABELMAP (without its background);
    segments may overlap.

    Parameters
    ----------
    path
        The file, or a folder that holds just this file.

    Raises
    ------
    InputMissingError, FileUnreadableError
        No file, a damaged one, or frames that cannot be decoded.
    ModalityError
        A file of another kind, or a segmentation of a slide under the microscope.
    MixedSeriesError
        Several files: which of them counts is not guessed.
    TagMissingError, GeometryError
        A frame without position, orientation, spacing or segment.
    SegmentationFileError
        Frames of an unknown segment or twice at one place, an unknown type.
    """
    files = collect_files(path)
    if len(files) > 1:
        raise MixedSeriesError(
            f"there is more than one file: {files[0].name} and {files[1].name}",
            path=files[1],
            remedy="Name the segmentation that counts.",
        )
    header = read_header(files[0])
    _require_kind(header)
    groups = _frame_groups(header)
    planes = _planes(header, groups)
    items: dict[int, Header] = {}
    for item in header.items("SegmentSequence"):
        number = int(item.required_number("SegmentNumber"))
        if number in items:
            raise _error("two segments have one number", header, number, None, "SegmentNumber")
        items[number] = item
    found: dict[int, list[tuple[Grid, NDArray[np.uint8]]]] = {number: [] for number in items}
    for group, plane, values in zip(
        groups, planes, frame_values(header, len(groups), planes[0].shape[1:]), strict=True
    ):
        for number, mask in _masks(header, group, values):
            if number not in found:
                raise _error("a frame belongs to a segment that the file does not describe", header, number)
            found[number].append((plane, np.packbits(mask)))
    background = _background(header)
    series = _referenced_series(header)
    return tuple(
        _segment(header, number, items[number], found[number], series)
        for number in sorted(items)
        if number != background
    )


def _require_kind(header: Header) -> None:
    if header.sop_class not in SEG_STORAGE:
        raise ModalityError(
            "the file is not a segmentation",
            path=header.path,
            tag=tag_name("SOPClassUID"),
            value=f"{header.text('Modality')}, {header.sop_class}",
            expected="SEG",
        )
    if header.value("ImageOrientationSlide") is not None:
        raise ModalityError(
            "the segmentation was drawn on a slide under the microscope, not on a tomographic image",
            path=header.path,
            tag=tag_name("ImageOrientationSlide"),
            remedy="Point the sheet at a segmentation of the CT or SPECT.",
        )
    if "PixelData" not in header.dataset:
        raise FileUnreadableError("the file is truncated: it ends before the image", path=header.path)


_Groups = tuple[Header, ...]


def _frame_groups(header: Header) -> list[_Groups]:
    """Functional groups of each frame: its own, then those that all frames share."""
    frames = header.items("PerFrameFunctionalGroupsSequence")
    count = int(header.required_number("NumberOfFrames"))
    if len(frames) != count or not frames:
        raise _error("the file does not describe each of its frames", header, len(frames), count, "NumberOfFrames")
    shared = header.items("SharedFunctionalGroupsSequence")
    return [(frame, *shared) for frame in frames]


def _required(groups: _Groups, keyword: str) -> Header:
    for group in groups:
        items = group.items(keyword)
        if items:
            return items[0]
    raise _error("a frame has no place in the patient, or no segment", groups[0], None, None, keyword)


def _planes(header: Header, groups: list[_Groups]) -> list[Grid]:
    """Place of each frame, from where it stands: by frame or shared."""
    measures = [_required(g, "PixelMeasuresSequence") for g in groups]
    positions = [_required(g, "PlanePositionSequence").required_numbers("ImagePositionPatient", 3) for g in groups]
    axes = [image_axes(_required(g, "PlaneOrientationSequence")) for g in groups]
    step_mm = _step_mm(measures[0], np.array(positions) @ np.cross(*axes[0]))
    rows, columns = (int(header.required_number(k)) for k in ("Rows", "Columns"))
    return [
        Grid(
            shape=(1, rows, columns),
            spacing_mm=vector(np.array([step_mm, *measure.required_numbers("PixelSpacing", 2)])),
            origin_mm=vector(np.array(position)),
            direction=(vector(np.cross(row, column)), vector(column), vector(row)),
        )
        for measure, position, (row, column) in zip(measures, positions, axes, strict=True)
    ]


def _step_mm(measures: Header, places_mm: NDArray[np.float64]) -> float:
    """Distance of slices: declared, or the smallest step between frames.

    Whichever is smaller: frames can be sparse, and the thickness of thick overlapping slices is no step.
    """
    declared = measures.number("SpacingBetweenSlices") or measures.number("SliceThickness") or 0.0
    steps = np.diff(np.unique(places_mm))
    steps = steps[steps > DUPLICATE_TOLERANCE_MM]
    known = [*([declared] if declared > 0 else []), *steps.tolist()]
    if not known:
        raise _error("the distance of the slices is not known", measures, declared, None, "SpacingBetweenSlices")
    return float(min(known))


def _masks(header: Header, groups: _Groups, values: NDArray[Any]) -> Iterator[tuple[int, NDArray[np.bool_]]]:
    """Segments of one frame."""
    kind = header.text("SegmentationType")
    if kind == "LABELMAP":
        background = _background(header)
        for number in np.unique(values):
            if number != background:
                yield int(number), values == number
        return
    number = int(_required(groups, "SegmentIdentificationSequence").required_number("ReferencedSegmentNumber"))
    if kind == "BINARY":
        yield number, values != 0
    elif kind == "FRACTIONAL":
        yield number, values >= FRACTION_THRESHOLD * header.required_number("MaximumFractionalValue")
    else:
        raise _error(
            "the type of the segmentation is unknown",
            header,
            kind,
            "BINARY, FRACTIONAL or LABELMAP",
            "SegmentationType",
        )


def _background(header: Header) -> int | None:
    """Value of a label map that stands for no segment: declared, else 0. Other types have no background."""
    if header.text("SegmentationType") != "LABELMAP":
        return None
    return int(header.number("PixelPaddingValue") or 0)


def _segment(
    header: Header,
    number: int,
    item: Header,
    frames: Sequence[tuple[Grid, NDArray[np.uint8]]],
    series: tuple[str, ...],
) -> Segment:
    name = item.text("SegmentLabel") or ""
    places = [grid.origin_mm for grid, _ in frames]
    apart_mm = [
        float(np.linalg.norm(np.subtract(a, b))) for a, b in zip(sorted(places), sorted(places)[1:], strict=False)
    ]
    if any(apart < DUPLICATE_TOLERANCE_MM for apart in apart_mm):
        raise _error(
            f"segment {number} ({name}) has two frames at one place", header, None, None, "ImagePositionPatient"
        )
    types = item.items("SegmentedPropertyTypeCodeSequence")
    modifiers = [
        *(m for t in types for m in t.items("SegmentedPropertyTypeModifierCodeSequence")),
        *(m for r in item.items("AnatomicRegionSequence") for m in r.items("AnatomicRegionModifierSequence")),
    ]
    sides = {_SIDES[v] for v in (m.text("CodeValue") for m in modifiers) if v in _SIDES}
    value = types[0].text("CodeValue") or types[0].text("LongCodeValue") if types else None
    return Segment(
        path=header.path,
        number=number,
        name=name,
        code=None
        if value is None
        else Code(value, types[0].text("CodingSchemeDesignator"), types[0].text("CodeMeaning")),
        laterality=sides.pop() if len(sides) == 1 else None,
        frame_of_reference_uid=header.text("FrameOfReferenceUID"),
        referenced_series_uids=series,
        planes=tuple(grid for grid, _ in frames),
        packed=tuple(bits for _, bits in frames),
    )


def _referenced_series(header: Header) -> tuple[str, ...]:
    """Series of the same study, and of others."""
    others = header.items("StudiesContainingOtherReferencedInstancesSequence")
    uids = [
        item.text("SeriesInstanceUID") for part in (header, *others) for item in part.items("ReferencedSeriesSequence")
    ]
    return tuple(uid for uid in uids if uid)


def _error(
    what: str, header: Header, value: object = None, expected: object = None, keyword: str = "ReferencedSegmentNumber"
) -> SegmentationFileError:
    return SegmentationFileError(what, path=header.path, tag=tag_name(keyword), value=value, expected=expected)
