"""From the frames of a segmentation to a mask on a grid."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import GeometryError, SegmentationFileError
from doseledger.geometry import Grid
from doseledger.io.dicom.masks import COARSE_TOLERANCE
from doseledger.io.dicom.seg import Segment
from doseledger.io.dicom.stack import PLACE_TOLERANCE as SLICE_TOLERANCE
from doseledger.io.dicom.stack import vector
from doseledger.regions.placement import PLACE_TOLERANCE, place_on


def segment_mask(segment: Segment, grid: Grid) -> NDArray[np.bool_]:
    """The segment on the voxels of an image.

    Every voxel of a frame must lie on a voxel of the image: within `PLACE_TOLERANCE` of it in the plane of
    the frame, within `SLICE_TOLERANCE` across it, as slices may lie off the regular grid of a series. The
    axes may be permuted or reversed. Nothing is interpolated.

    Parameters
    ----------
    grid
        May be larger than the segmentation (slices without a frame are empty) or smaller, where the
        segment does not leave it.

    Returns
    -------
    bool ``(z, y, x)``.

    Raises
    ------
    SegmentationFileError
        Frames that are turned against the image, have another voxel size, lie between its slices, leave
        it, or are so far apart that slices between them would stay empty.
    """
    mask = np.zeros(grid.shape, dtype=np.bool_)
    for plane, packed in zip(segment.planes, segment.packed, strict=True):
        across = int(np.argmax(np.abs(np.asarray(grid.direction) @ np.asarray(plane.direction[0]))))
        spacing_mm = grid.spacing_mm[across]
        tolerance = [PLACE_TOLERANCE] * 3
        tolerance[across] = SLICE_TOLERANCE
        frame = np.unpackbits(packed, count=int(np.prod(plane.shape))).reshape(plane.shape).astype(np.bool_)
        # A single slice takes up one slice of the image; whether that is enough is asked below.
        thick = replace(plane, spacing_mm=(spacing_mm, *plane.spacing_mm[1:]))
        try:
            place_on(frame, thick, grid, tolerance_voxels=vector(np.array(tolerance)), out=mask)
        except GeometryError as error:
            raise _of_segment(error.what, segment, error.value, error.expected) from error
        if plane.spacing_mm[0] > COARSE_TOLERANCE * spacing_mm:
            raise _of_segment(
                "the slices of the segmentation are further apart than those of the image, which would leave "
                "slices empty",
                segment,
                f"{plane.spacing_mm[0]:.2f} mm",
                f"{spacing_mm:.2f} mm",
            )
    return mask


def _of_segment(what: str, segment: Segment, value: object, expected: object) -> SegmentationFileError:
    return SegmentationFileError(
        f"{what}: segment {segment.number} ({segment.name})", path=segment.path, value=value, expected=expected
    )
