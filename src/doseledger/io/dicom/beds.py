"""Beds of one reconstruction that are stored as images of their own: one image of them all.

Each bed is read at its own start, brought to the start of the earliest one by physical decay, and
put on the slices of the lowest bed, continued. A bed whose slices lie between those is interpolated
linearly along the normal. Where two beds overlap, the weight of each falls linearly to its end, so
that noise and edge artefacts of the outermost slices count least; the weights add up to one, and so
what both agree on stays as it is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from itertools import pairwise
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import GeometryError, MixedSeriesError, SlicesMissingError, TagMissingError
from doseledger.geometry import Grid
from doseledger.io.dicom.decay import decayed_fraction
from doseledger.io.dicom.headers import tag_name
from doseledger.io.dicom.spect_image import SpectInspection, SpectSource
from doseledger.io.dicom.stack import ORIENTATION_TOLERANCE, SHIFT_TOLERANCE_MM, SPACING_TOLERANCE_MM

#: What must be the same in all beds, and where the headers have it.
_SAME: Final = {
    "unit": "Units",
    "decay_correction_in_header": "DecayCorrection",
    "energy_window_kev": "EnergyWindowInformationSequence",
    "reconstruction": "ReconstructionMethod",
    "corrections": "CorrectedImage",
    "collimator": "CollimatorType",
}
#: Slices of two beds this near to each other are at one place, in slice steps.
ON_LATTICE: Final = 0.02
#: Beds that overlap by more of the shorter one are two images of the same place.
LARGEST_OVERLAP: Final = 0.5


@dataclass(frozen=True, eq=False)
class _Bed:
    """A bed and where its first slice lies, in slices of the whole image."""

    source: SpectSource
    name: str
    offset: float
    growth: float

    @property
    def n_slices(self) -> int:
        return self.source.inspection.grid.shape[0]

    @property
    def end(self) -> float:
        return self.offset + self.n_slices - 1.0

    def weights(self, n_slices: int) -> NDArray[np.float64]:
        """Distance of each slice of the whole image to the nearer end of the bed; 0 outside."""
        place = np.arange(n_slices) - self.offset
        inside = (place >= -ON_LATTICE) & (place <= self.n_slices - 1 + ON_LATTICE)
        return np.where(inside, np.minimum(place + 0.5, self.n_slices - 0.5 - place), 0.0)


def stitch(sources: Sequence[SpectSource], names: Sequence[str], half_life_h: float | None) -> SpectSource:
    """One image of several beds.

    Parameters
    ----------
    names
        Of the beds, for messages.
    half_life_h
        Of the treatment's nuclide; None: as in the header of the earliest bed.

    Raises
    ------
    MixedSeriesError
        Images that differ in what their values mean, that do not name the same frame of reference,
        or that show the same place.
    GeometryError
        Beds that are turned, shifted sideways or of other voxels than each other.
    SlicesMissingError
        A gap between two beds.
    TagMissingError
        No half-life to bring beds of different times to one.
    """
    known = [source.inspection for source in sources]
    first = min(known, key=lambda one: one.scan_start)
    _require_alike(known, names)
    beds = _placed(sources, names, half_life_h or first.provenance.header_half_life_h, first)
    resampled = _require_chain(beds)
    lowest = beds[0].source.inspection.grid
    n_slices = int(np.floor(beds[-1].end + ON_LATTICE)) + 1
    grid = Grid((n_slices, *lowest.shape[1:]), lowest.spacing_mm, lowest.origin_mm, lowest.direction)
    return SpectSource(_inspection(known, first, grid, resampled), lambda: _blend(beds, grid))


def _require_alike(known: Sequence[SpectInspection], names: Sequence[str]) -> None:
    if any(one.provenance.frame_of_reference_uid is None for one in known):
        raise MixedSeriesError(
            f"several images that name no common frame of reference are no beds: {names[0]} and {names[1]}",
            tag=tag_name("FrameOfReferenceUID"),
            remedy="Name the file of the reconstruction that counts.",
        )
    for one, name in zip(known[1:], names[1:], strict=True):
        for field, keyword in _SAME.items():
            mine, theirs = getattr(known[0].provenance, field), getattr(one.provenance, field)
            if mine != theirs:
                raise MixedSeriesError(
                    f"the beds are not of one reconstruction: {names[0]} and {name}",
                    tag=tag_name(keyword),
                    value=theirs,
                    expected=mine,
                )


def _placed(
    sources: Sequence[SpectSource], names: Sequence[str], half_life_h: float | None, first: SpectInspection
) -> list[_Bed]:
    """Beds in order of place, from the lowest one along the slice normal."""
    normal = np.asarray(first.grid.direction[0])
    pairs = sorted(
        zip(sources, names, strict=True), key=lambda pair: float(np.dot(pair[0].inspection.grid.origin_mm, normal))
    )
    lowest = pairs[0][0].inspection.grid
    beds = []
    for source, name in pairs:
        grid = source.inspection.grid
        _require_parallel(lowest, grid, (pairs[0][1], name))
        offset = np.subtract(grid.origin_mm, lowest.origin_mm)
        along = float(offset @ normal)
        sideways = float(np.linalg.norm(offset - along * normal))
        if sideways > SHIFT_TOLERANCE_MM:
            raise GeometryError(
                f"the beds are shifted sideways by {sideways:.2f} mm: {pairs[0][1]} and {name}",
                tag=tag_name("ImagePositionPatient"),
            )
        elapsed_s = (source.inspection.scan_start - first.scan_start).total_seconds()
        if elapsed_s and half_life_h is None:
            raise TagMissingError(
                f"the half-life that would bring the beds to one time is not known: {pairs[0][1]} and {name}",
                tag=tag_name("RadionuclideHalfLife"),
            )
        growth = 1.0 / decayed_fraction(half_life_h, elapsed_s) if elapsed_s and half_life_h else 1.0
        beds.append(_Bed(source, name, along / lowest.spacing_mm[0], growth))
    return beds


def _require_parallel(lowest: Grid, other: Grid, names: tuple[str, str]) -> None:
    what = None
    if not np.allclose(lowest.direction, other.direction, atol=ORIENTATION_TOLERANCE):
        what = "ImageOrientationPatient"
    elif lowest.shape[1:] != other.shape[1:]:
        what = "Rows"
    elif not np.allclose(lowest.spacing_mm, other.spacing_mm, rtol=0, atol=10 * SPACING_TOLERANCE_MM):
        what = "PixelSpacing"
    if what:
        raise GeometryError(
            f"the beds are turned or of other voxels than each other: {names[0]} and {names[1]}", tag=tag_name(what)
        )


def _require_chain(beds: Sequence[_Bed]) -> bool:
    """That every bed begins before the one below it ends; whether one lies between the slices."""
    for below, above in pairwise(beds):
        if above.offset - below.end > 1.0 + ON_LATTICE:
            raise SlicesMissingError(
                f"there is a gap of {above.offset - below.end - 1.0:.1f} slices between two beds: "
                f"{below.name} and {above.name}",
                tag=tag_name("ImagePositionPatient"),
            )
        overlap = below.end - above.offset + 1.0
        if above.end <= below.end or overlap > LARGEST_OVERLAP * min(below.n_slices, above.n_slices) + ON_LATTICE:
            raise MixedSeriesError(
                f"there is more than one image of the same place: {below.name} and {above.name}",
                tag=tag_name("ImagePositionPatient"),
                remedy="Name the file of the reconstruction that counts.",
            )
    return any(abs(bed.offset - round(bed.offset)) > ON_LATTICE for bed in beds)


def _inspection(
    known: Sequence[SpectInspection], first: SpectInspection, grid: Grid, resampled: bool
) -> SpectInspection:
    durations = [one.provenance.duration_s for one in known]
    ends = [one.scan_start + timedelta(seconds=one.provenance.duration_s or 0.0) for one in known]
    flags = ["several_beds"] + ["beds_interpolated"] * resampled
    # A camera is at one place at a time: equal times are those of the export or of the last bed.
    flags += ["beds_of_equal_time"] * (len({one.scan_start for one in known}) < len(known))
    provenance = replace(
        first.provenance,
        duration_s=None if None in durations else (max(ends) - first.scan_start).total_seconds(),
        flags=tuple(dict.fromkeys([*(flag for one in known for flag in one.provenance.flags), *flags])),
        n_files=sum(one.provenance.n_files for one in known),
    )
    return SpectInspection(grid, first.scan_start, provenance)


def _blend(beds: Sequence[_Bed], grid: Grid) -> NDArray[np.float32]:
    weights = np.array([bed.weights(grid.shape[0]) for bed in beds])
    weights /= weights.sum(axis=0)
    image = np.zeros(grid.shape, dtype=np.float32)
    for bed, share in zip(beds, weights, strict=True):
        array = bed.source.pixels()
        for z in np.flatnonzero(share):
            image[z] += np.float32(share[z] * bed.growth) * _slice_at(array, z - bed.offset)
    return image


def _slice_at(array: NDArray[np.float32], place: float) -> NDArray[np.float32]:
    """A slice, or what lies between two of them."""
    below = min(max(round(place) if abs(place - round(place)) <= ON_LATTICE else int(place), 0), len(array) - 1)
    fraction = np.float32(place - below)
    if abs(fraction) <= ON_LATTICE:
        return np.asarray(array[below])
    return np.asarray(array[below] * (1 - fraction) + array[below + 1] * fraction)
