"""Back end ``contours``: regions outlined by a person or another program.

They come as a structure set (RTSTRUCT), a DICOM segmentation (SEG) or a NIfTI label map with names; what
a file is, is read from it, and all three end as the same `LabelMap`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import ContourError, ModalityError, SegmentationFileError
from doseledger.geometry import Grid
from doseledger.io.dicom import read_segments, read_structures, segment_mask, structure_mask
from doseledger.io.dicom.headers import collect_files, read_header, tag_name
from doseledger.io.dicom.rtstruct import RTSTRUCT_STORAGE
from doseledger.io.dicom.seg import SEG_STORAGE
from doseledger.io.label_map import has_voxels_of, is_label_map, label_mask, read_label_map, require_voxels_of
from doseledger.regions import RegionSpec
from doseledger.segmentation.labels import CONTOURS, DrawnOn, LabelMap, Named, paint


@dataclass(frozen=True, eq=False)
class _Outline:
    """A region of any kind of file: its name, what it was drawn on, and its voxels on a grid."""

    name: str
    frame_of_reference_uid: str | None
    series_uids: tuple[str, ...]
    mask_on: Callable[[Grid], NDArray[np.bool_]]


@dataclass(frozen=True, eq=False)
class _Drawing:
    """The regions of a file, how to find the image they were drawn on, and how to refuse it."""

    outlines: tuple[_Outline, ...]
    image_of: Callable[[Sequence[_Outline]], DrawnOn]
    name_tag: str | None
    error: type[ContourError | SegmentationFileError]


def label_map_from_contours(
    path: Path, images: Sequence[DrawnOn], specs: Mapping[str, RegionSpec], display: str
) -> LabelMap:
    """Voxels of the regions of a structure set, segmentation or label map.

    Organs are drawn in the order of their labels, then lesions: a lesion is never part of the organ
    around it (``lesion_policy`` excluded). A region of the sheet that the file has without a single voxel
    is refused in a structure set, and left out otherwise: programs list organs outside the field.

    Parameters
    ----------
    path
        RTSTRUCT or SEG (or a folder with just this file), told apart by its SOP class; a label map by its
        ending ``.nii`` or ``.nii.gz``.
    images
        CT (first, if there is one) and SPECT of the time point.
    specs
        From names in the file to regions.
    display
        Name of the file in messages.

    Raises
    ------
    ContourError, SegmentationFileError
        The file belongs to another image, or names no known region.
    ModalityError
        It is of none of the three kinds.
    """
    drawing = _read(path, images, display)
    known, image = _known(drawing, specs, display)
    unmapped = tuple(o.name for o in drawing.outlines if o.name not in specs)
    labels = np.zeros(image.grid.shape, np.uint8)
    overlapping = paint(labels, [Named(o.name, o.mask_on) for o in known], specs, image.grid)
    sources = {specs[o.name].region: CONTOURS for o in known}
    return LabelMap(labels, image, overlapping, unmapped, sources, {})


def image_drawn_on(path: Path, images: Sequence[DrawnOn], specs: Mapping[str, RegionSpec], display: str) -> DrawnOn:
    """The image that the regions of a file were drawn on; raises as `label_map_from_contours` before it paints."""
    _, image = _known(_read(path, images, display), specs, display)
    return image


def _known(drawing: _Drawing, specs: Mapping[str, RegionSpec], display: str) -> tuple[list[_Outline], DrawnOn]:
    """Regions of the sheet in a file, and their image."""
    known = [o for o in drawing.outlines if o.name in specs]
    if not known:
        raise drawing.error(
            "no structure of the set is in the region sheet",
            path=display,
            tag=drawing.name_tag,
            value=[o.name for o in drawing.outlines],
            expected=sorted(specs),
            remedy="Add the names to regions.tsv (column source_name).",
        )
    return known, drawing.image_of(known)


def names_in(path: Path, images: Sequence[DrawnOn], display: str) -> tuple[str, ...]:
    """Names of the regions in a file; raises as `label_map_from_contours`, but for names that are not known."""
    return tuple(outline.name for outline in _read(path, images, display).outlines)


def _read(path: Path, images: Sequence[DrawnOn], display: str) -> _Drawing:
    if is_label_map(path):
        return _label_map(path, images)
    kind = read_header(collect_files(path)[0], tags=("SOPClassUID", "Modality"))
    if kind.sop_class == RTSTRUCT_STORAGE:
        return _structure_set(path, images, display)
    if kind.sop_class in SEG_STORAGE:
        return _segmentation(path, images, display)
    raise ModalityError(
        "the file holds no outlines",
        path=display,
        tag=tag_name("SOPClassUID"),
        value=f"{kind.text('Modality')}, {kind.sop_class}",
        expected="RTSTRUCT, SEG, or a label map .nii.gz",
        remedy="Correct the path in scans.tsv (column contours).",
    )


def _structure_set(path: Path, images: Sequence[DrawnOn], display: str) -> _Drawing:
    """Outlines in patient coordinates fit any image of their frame of reference."""

    def image_of(outlines: Sequence[_Outline]) -> DrawnOn:
        series, frames = _drawn_on(outlines)
        in_frame = _in_frame(frames, images)
        named = [image for image in in_frame if image.series_uid in series]
        if named:
            return named[0]
        if in_frame and not series & {image.series_uid for image in images}:
            return in_frame[0]
        raise ContourError(
            "the structure set was drawn on another image",
            path=display,
            tag=tag_name("ReferencedFrameOfReferenceUID"),
            value=sorted(str(uid) for uid in frames),
            expected=sorted(str(i.frame_of_reference_uid) for i in images),
        )

    outlines = tuple(
        _Outline(s.name, s.frame_of_reference_uid, s.referenced_series_uids, partial(structure_mask, s))
        for s in read_structures(path)
    )
    return _Drawing(outlines, image_of, tag_name("ROIName"), ContourError)


def _segmentation(path: Path, images: Sequence[DrawnOn], display: str) -> _Drawing:
    """Voxels belong to the image that the file names: not to another one of the same frame of reference."""

    def image_of(outlines: Sequence[_Outline]) -> DrawnOn:
        series, frames = _drawn_on(outlines)
        in_frame = _in_frame(frames, images)
        if not in_frame:
            raise SegmentationFileError(
                "the segmentation lies in another frame of reference",
                path=display,
                tag=tag_name("FrameOfReferenceUID"),
                value=sorted(str(uid) for uid in frames),
                expected=sorted(str(i.frame_of_reference_uid) for i in images),
            )
        # Without series and without a frame of reference, nothing says that it is this patient.
        named = [i for i in in_frame if i.series_uid in series or (not series and frames != {None})]
        if not named:
            raise SegmentationFileError(
                "the segmentation was drawn on another series",
                path=display,
                tag=tag_name("ReferencedSeriesSequence"),
                value=sorted(series),
                expected=sorted(str(i.series_uid) for i in in_frame),
            )
        return named[0]

    outlines = tuple(
        _Outline(s.name, s.frame_of_reference_uid, s.referenced_series_uids, partial(segment_mask, s))
        for s in read_segments(path)
    )
    return _Drawing(outlines, image_of, tag_name("SegmentLabel"), SegmentationFileError)


def _label_map(path: Path, images: Sequence[DrawnOn]) -> _Drawing:
    """NIfTI names no series and no frame of reference: the image is the one with the same voxels."""
    label_map = read_label_map(path)

    def image_of(_: Sequence[_Outline]) -> DrawnOn:
        fitting = [image for image in images if has_voxels_of(label_map, image.grid)]
        if not fitting:
            require_voxels_of(label_map, images[0].grid)
        return fitting[0]

    names = dict.fromkeys(label_map.names.values())
    outlines = tuple(_Outline(name, None, (), partial(label_mask, label_map, name)) for name in names)
    return _Drawing(outlines, image_of, None, SegmentationFileError)


def _drawn_on(outlines: Sequence[_Outline]) -> tuple[set[str], set[str | None]]:
    """Series and frames of reference that outlines name."""
    return {uid for o in outlines for uid in o.series_uids}, {o.frame_of_reference_uid for o in outlines}


def _in_frame(frames: set[str | None], images: Sequence[DrawnOn]) -> list[DrawnOn]:
    return [image for image in images if frames == {image.frame_of_reference_uid}]
