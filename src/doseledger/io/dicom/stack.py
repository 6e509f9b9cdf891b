"""From slices to a grid: one complete stack of parallel, equidistant slices, or a refusal.

Nothing is averaged over gaps, sorted by name or filled in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import GeometryError, SlicesMissingError
from doseledger.geometry import Grid
from doseledger.io.dicom.headers import Header, tag_name

#: Two slices nearer than this are the same position twice, in mm.
DUPLICATE_TOLERANCE_MM: Final = 0.01
#: Largest deviation of a step from the median step, as a fraction of it. Good series have steps of
#: 3.19, 3.27 and 3.29 mm side by side (2.4 %).
STEP_TOLERANCE_REL: Final = 0.05
#: Rounding of positions in headers, in mm; it matters beside the relative tolerance for thin slices.
STEP_TOLERANCE_MM: Final = 0.02
#: A step this near to a whole multiple of the median step is a gap of missing slices, in median steps.
GAP_TOLERANCE: Final = 0.1
#: Largest distance of any slice from its place on the regular grid, in steps.
PLACE_TOLERANCE: Final = 0.25
#: Largest sideways shift of a slice against the slice normal through the first one, in mm.
SHIFT_TOLERANCE_MM: Final = 0.1
#: Largest difference between direction cosines within a series; headers carry six digits.
ORIENTATION_TOLERANCE: Final = 1.0e-4
#: Largest difference between pixel spacings within a series, in mm.
SPACING_TOLERANCE_MM: Final = 1.0e-4


@dataclass(frozen=True, eq=False)
class Stack:
    """Slices in order along the slice normal, and the grid they make."""

    slices: tuple[Header, ...]
    grid: Grid
    flags: tuple[str, ...]

    @property
    def first(self) -> Header:
        return self.slices[0]


def stack_slices(headers: Sequence[Header]) -> Stack:
    """Sort slices along their normal and make the grid.

    The direction of the rows of the grid follows ImageOrientationPatient (0020,0037): the first
    vector runs along a row (array axis x), the second down a column (array axis y), and their
    cross product is the slice axis (array axis z). PatientPosition plays no part.
    Source: DICOM PS3.3 C.7.6.2.1.1.

    Raises
    ------
    TagMissingError
        No position, orientation or pixel spacing.
    SlicesMissingError
        A step is a whole multiple of the usual one.
    GeometryError
        Slices that differ in matrix, spacing or orientation, that lie twice at one position, are
        unevenly spaced or shifted sideways (gantry tilt); a single slice.
    """
    first = headers[0]
    rows, columns = (int(first.required_number(k)) for k in ("Rows", "Columns"))
    spacing_y, spacing_x = first.required_numbers("PixelSpacing", 2)
    row_axis, column_axis = image_axes(first)
    for other in headers[1:]:
        _require_same_plane(first, other)
    normal = np.cross(row_axis, column_axis)
    positions = np.array([h.required_numbers("ImagePositionPatient", 3) for h in headers])
    order = np.argsort(positions @ normal, kind="stable")
    slices = tuple(headers[i] for i in order)
    positions = positions[order]
    spacing_z = _step_mm(slices, positions @ normal)
    _require_no_shift(slices, positions, normal)
    grid = Grid(
        shape=(len(slices), rows, columns),
        spacing_mm=(spacing_z, spacing_y, spacing_x),
        origin_mm=vector(positions[0]),
        direction=(vector(normal), vector(column_axis), vector(row_axis)),
    )
    return Stack(slices, grid, series_flags(first, spacing_z))


def image_axes(header: Header) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Unit vectors along a row and down a column.

    Raises
    ------
    TagMissingError, GeometryError
        ImageOrientationPatient (0020,0037) is absent or not orthonormal.
    """
    cosines = np.array(header.required_numbers("ImageOrientationPatient", 6))
    along_row, down_column = cosines[:3], cosines[3:]
    lengths = np.linalg.norm(along_row), np.linalg.norm(down_column)
    if not np.allclose([*lengths, along_row @ down_column], [1, 1, 0], atol=ORIENTATION_TOLERANCE):
        raise GeometryError(
            "the image axes are not orthonormal",
            path=header.path,
            tag=tag_name("ImageOrientationPatient"),
            value=cosines.tolist(),
        )
    return along_row / lengths[0], down_column / lengths[1]


def _require_same_plane(first: Header, other: Header) -> None:
    for keyword, count, tolerance in (
        ("Rows", 1, 0.0),
        ("Columns", 1, 0.0),
        ("PixelSpacing", 2, SPACING_TOLERANCE_MM),
        ("ImageOrientationPatient", 6, ORIENTATION_TOLERANCE),
    ):
        mine, theirs = first.required_numbers(keyword, count), other.required_numbers(keyword, count)
        if not np.allclose(mine, theirs, rtol=0, atol=tolerance):
            raise GeometryError(
                f"slices differ in matrix or orientation: {first.path.name} and {other.path.name}",
                path=other.path,
                tag=tag_name(keyword),
                value=theirs,
                expected=mine,
            )


def _step_mm(slices: Sequence[Header], places_mm: NDArray[np.float64]) -> float:
    """Mean step of a complete and even series."""
    if len(slices) < 2:
        raise GeometryError("a single slice is not a volume", path=slices[0].path)
    steps = np.diff(places_mm)
    # The lower median: with few steps left the upper one could be a gap.
    usual = float(np.sort(steps)[(len(steps) - 1) // 2])
    duplicate = int(np.argmin(steps))
    if steps[duplicate] < DUPLICATE_TOLERANCE_MM:
        raise GeometryError(
            f"two slices lie at one position: {slices[duplicate].path.name} and {slices[duplicate + 1].path.name}",
            path=slices[duplicate + 1].path,
            tag=tag_name("ImagePositionPatient"),
            value=round(float(places_mm[duplicate]), 3),
            remedy="Export one series without duplicates; time frames and gates are separate series.",
        )
    for i, step in enumerate(steps):
        _require_step(slices[i], slices[i + 1], (places_mm[i], places_mm[i + 1]), float(step), usual)
    spacing = float(places_mm[-1] - places_mm[0]) / len(steps)
    regular = places_mm[0] + spacing * np.arange(len(places_mm))
    worst = int(np.argmax(np.abs(places_mm - regular)))
    if abs(places_mm[worst] - regular[worst]) > PLACE_TOLERANCE * spacing:
        raise GeometryError(
            "the slices are not evenly spaced: a slice is off its place on the regular grid",
            path=slices[worst].path,
            tag=tag_name("ImagePositionPatient"),
            value=round(float(places_mm[worst]), 3),
            expected=round(float(regular[worst]), 3),
        )
    return spacing


def _require_step(before: Header, after: Header, ends: tuple[float, float], step: float, usual: float) -> None:
    if not step_differs(step, usual):
        return
    between = f"between {ends[0]:.2f} and {ends[1]:.2f} mm along the slice normal"
    multiple = round(step / usual)
    tag = tag_name("ImagePositionPatient")
    if multiple >= 2 and abs(step / usual - multiple) <= GAP_TOLERANCE:
        raise SlicesMissingError(
            f"{multiple - 1} slice(s) missing {between}, after {before.path.name}",
            path=after.path,
            tag=tag,
            value=round(step, 3),
            expected=round(usual, 3),
        )
    raise GeometryError(
        f"the slices are not evenly spaced {between}, after {before.path.name}",
        path=after.path,
        tag=tag,
        value=round(step, 3),
        expected=round(usual, 3),
    )


def step_differs(step_mm: float, usual_mm: float) -> bool:
    """Whether a step is another one than usual, beyond rounding and what good series show."""
    return abs(step_mm - usual_mm) > STEP_TOLERANCE_REL * usual_mm + STEP_TOLERANCE_MM


def _require_no_shift(slices: Sequence[Header], positions: NDArray[np.float64], normal: NDArray[np.float64]) -> None:
    offsets = positions - positions[0]
    sideways = np.linalg.norm(offsets - np.outer(offsets @ normal, normal), axis=1)
    worst = int(np.argmax(sideways))
    if sideways[worst] > SHIFT_TOLERANCE_MM:
        raise GeometryError(
            f"slices are shifted sideways by {sideways[worst]:.2f} mm, as with a tilted gantry",
            path=slices[worst].path,
            tag=tag_name("ImagePositionPatient"),
            value=positions[worst].tolist(),
        )


def series_flags(first: Header, spacing_z_mm: float) -> tuple[str, ...]:
    """What a reader should know of identity, slice thickness and compression."""
    thickness = first.number("SliceThickness")
    gap = thickness is not None and thickness < spacing_z_mm and step_differs(thickness, spacing_z_mm)
    return tuple(
        name
        for name, raised in (
            ("patient_id_missing", first.text("PatientID") is None),
            ("series_uid_missing", first.text("SeriesInstanceUID") is None),
            ("frame_of_reference_missing", first.text("FrameOfReferenceUID") is None),
            ("slices_thinner_than_step", gap),
            ("lossy_compression", first.text("LossyImageCompression") == "01"),
        )
        if raised
    )


def vector(values: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = (float(v) for v in values)
    return (x, y, z)
