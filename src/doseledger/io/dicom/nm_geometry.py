"""Where the slices of an NM reconstruction lie."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import GeometryError, TagMissingError
from doseledger.geometry import Grid
from doseledger.io.dicom.headers import Header, tag_name
from doseledger.io.dicom.stack import ORIENTATION_TOLERANCE, image_axes, series_flags, step_differs, vector

#: Positions of one image that differ by more contradict each other, in mm.
SAME_POSITION_TOLERANCE_MM: Final = 0.1


def read_grid(header: Header, slices: int) -> tuple[Grid, bool, tuple[str, ...]]:
    """The grid, whether slices go along its slice axis or against it, and flags.

    ImagePositionPatient (0020,0032) is that of slice 1; the sign of SpacingBetweenSlices (0018,0088)
    says whether the others follow along the normal or against it. Source: DICOM PS3.3 C.8.4.15.
    """
    places = [*header.items("DetectorInformationSequence"), header]
    row_axis, column_axis, position, flags = _read_place(places)
    spacing_y, spacing_x = header.required_numbers("PixelSpacing", 2)
    step, step_flags = _read_step(header)
    normal = np.cross(row_axis, column_axis)
    lowest = position if step > 0 else position + normal * step * (slices - 1)
    grid = Grid(
        shape=(slices, int(header.required_number("Rows")), int(header.required_number("Columns"))),
        spacing_mm=(abs(step), spacing_y, spacing_x),
        origin_mm=vector(lowest),
        direction=(vector(normal), vector(column_axis), vector(row_axis)),
    )
    return grid, step > 0, (*series_flags(header, abs(step)), *flags, *step_flags)


def _read_place(
    places: list[Header],
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], tuple[str, ...]]:
    """Row axis, column axis and position: of the first detector that has them, else of the image."""
    oriented = [p for p in places if p.numbers("ImageOrientationPatient")] or places[-1:]
    positioned = [p for p in places if p.numbers("ImagePositionPatient")] or places[-1:]
    axes = image_axes(oriented[0])
    for other in oriented[1:]:
        if not np.allclose(image_axes(other), axes, atol=ORIENTATION_TOLERANCE):
            raise GeometryError(
                "the detectors contradict each other in the orientation of the image",
                path=other.path,
                tag=tag_name("ImageOrientationPatient"),
                value=other.text("ImageOrientationPatient"),
                expected=oriented[0].text("ImageOrientationPatient"),
            )
    positions = np.array([p.required_numbers("ImagePositionPatient", 3) for p in positioned])
    conflict = np.max(np.abs(positions - positions[0])) > SAME_POSITION_TOLERANCE_MM
    return *axes, positions[0], ("detector_positions_conflict",) if conflict else ()


def _read_step(header: Header) -> tuple[float, tuple[str, ...]]:
    step, thickness = (header.number(k) for k in ("SpacingBetweenSlices", "SliceThickness"))
    flags: tuple[str, ...] = ()
    if step is None:
        if thickness is None:
            raise TagMissingError(
                "the header has neither the spacing nor the thickness of the slices",
                path=header.path,
                tag=f"{tag_name('SpacingBetweenSlices')}, {tag_name('SliceThickness')}",
            )
        step, flags = thickness, ("spacing_from_thickness",)
    elif thickness is not None and thickness > abs(step) and step_differs(thickness, abs(step)):
        flags = ("slices_thicker_than_step",)
    if step == 0:
        raise GeometryError(
            "the slices have no distance from each other",
            path=header.path,
            tag=tag_name("SpacingBetweenSlices"),
            value=step,
        )
    return step, flags
