"""NM reconstructions: all slices of all energy windows as the frames of one file.

Geometry, order of the frames, energy window, scale and time of such files are read by this
package itself: generic converters stack windows into slices, invert negative spacings, assume a
spacing of 1 mm, or label counts as Bq/mL.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydicom.datadict import keyword_for_tag

from doseledger.activity import Calibration
from doseledger.errors import EnergyWindowError, GeometryError, ModalityError, SlicesMissingError, TagMissingError
from doseledger.io.dicom.decay import read_administration, read_scan_start
from doseledger.io.dicom.headers import Header, tag_name
from doseledger.io.dicom.nm_counts import apply_calibration
from doseledger.io.dicom.nm_geometry import read_grid
from doseledger.io.dicom.nm_scale import NmScale, read_scale
from doseledger.io.dicom.nm_time import read_nm_decay, read_rotation
from doseledger.io.dicom.series import stored_values
from doseledger.io.dicom.spect_image import SpectInspection, SpectSource, provenance
from doseledger.io.dicom.tracer import header_nuclide
from doseledger.io.dicom.windows import photopeak_windows, read_windows, require_one_window, window_text
from doseledger.nuclides import Nuclide, nuclide
from doseledger.units import BQ_PER_MBQ

NM_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.20"
RECONSTRUCTION: Final = "RECON TOMO"
TRANSMISSION: Final = "TRANSMISSION"
#: What frames of one volume may be sorted by; the last two must not change within it.
_DIMENSIONS: Final = ("SliceVector", "EnergyWindowVector", "DetectorVector", "RotationVector")
_CONSTANT: Final = _DIMENSIONS[2:]


@dataclass(frozen=True, eq=False)
class _Frames:
    """Which frame holds which slice of which window; both count from 1."""

    slices: NDArray[np.int64]
    windows: NDArray[np.int64] | None
    flags: tuple[str, ...]


def open_nm(header: Header, calibration: Calibration | None, source: Nuclide | None) -> SpectSource:
    """Inspect an NM file of Image Type RECON TOMO.

    C = (stored * slope + intercept) * unit factor * decay factor, where for counts the unit factor
    is 1e6 / (T S V) of the calibration (`activity.counts_to_bq_per_ml`).

    Parameters
    ----------
    source
        Nuclide of the treatment; None: the one that the header names.

    Raises
    ------
    ModalityError
        No tomographic reconstruction of emission: gated, dynamic, planar, projections, transmission.
    UnitError
        Counts without a calibration, or a unit or scale that is no activity concentration.
    EnergyWindowError
        It is not clear which frames show the photopeak.
    SlicesMissingError, GeometryError
        The frames are not one complete regular grid.
    TagMissingError, TimeError, QuantityError, CrossCheckError
        A value that the result needs is missing, contradictory or impossible.
    """
    _require_reconstruction(header)
    named = header_nuclide(header)
    source = source or (nuclide(named) if named else None)
    scale = read_scale(header)
    frames = _read_frames(header)
    chosen, window_kev, window_flags = _choose_frames(header, frames, scale, calibration, source)
    grid, upwards, grid_flags = read_grid(header, len(chosen))
    administration = read_administration(header, bq_per_unit=BQ_PER_MBQ)
    rotation = read_rotation(header, None if calibration is None else calibration.detectors)
    decay = read_nm_decay(header, administration, source, rotation, read_scan_start(header))
    day = decay.scan_start.date()
    applied = apply_calibration(header, calibration, rotation, day) if scale.is_counts else None

    def pixels() -> NDArray[np.float32]:
        stored = stored_values(header, frames=len(frames.slices))
        values = scale.apply(header, stored[chosen if upwards else chosen[::-1]])
        if applied is not None:
            applied.require_camera_events(header, stored)
            values = applied.concentration(values, grid.voxel_volume_ml)
        elif scale.bq_per_ml is not None:
            values *= scale.bq_per_ml
        return (values * decay.factor).astype(np.float32)

    known = provenance(
        header,
        administration,
        decay,
        modality="NM",
        unit=scale.unit,
        unit_source=scale.unit_source,
        energy_window_kev=window_kev,
        calibration=applied,
        flags=(
            *grid_flags,
            *frames.flags,
            *window_flags,
            *scale.flags,
            *(() if rotation is None else rotation.flags),
            *(() if applied is None else applied.flags),
        ),
        n_files=1,
    )
    return SpectSource(SpectInspection(grid, decay.scan_start, known), pixels)


def _require_reconstruction(header: Header) -> None:
    kind = header.texts("ImageType")
    if kind[2:3] != (RECONSTRUCTION,) or kind[3:4] == (TRANSMISSION,):
        raise ModalityError(
            "the NM image is not a tomographic reconstruction of emission",
            path=header.path,
            tag=tag_name("ImageType"),
            value=header.text("ImageType"),
            expected=RECONSTRUCTION,
            remedy="Export the attenuation-corrected reconstruction, ungated.",
        )
    for pointer in header.texts("FrameIncrementPointer"):
        keyword = keyword_for_tag(pointer.strip("()").replace(",", ""))
        if keyword not in _DIMENSIONS:
            raise ModalityError(
                "the frames of the NM image are not slices of one volume",
                path=header.path,
                tag=tag_name("FrameIncrementPointer"),
                value=keyword or pointer,
                expected=", ".join(_DIMENSIONS[:2]),
                remedy="Export one ungated reconstruction.",
            )


def _read_frames(header: Header) -> _Frames:
    count = int(header.required_number("NumberOfFrames"))
    for keyword in _CONSTANT:
        numbers = _frame_vector(header, keyword, count)
        if numbers is not None and np.ptp(numbers) > 0:
            raise ModalityError(
                "the frames of the NM image are not slices of one volume", path=header.path, tag=tag_name(keyword)
            )
    windows = _frame_vector(header, "EnergyWindowVector", count)
    slices = _frame_vector(header, "SliceVector", count)
    if slices is not None:
        return _Frames(slices, windows, ())
    if windows is not None and np.ptp(windows) > 0:
        raise TagMissingError(
            "the header does not say which frame is which slice", path=header.path, tag=tag_name("SliceVector")
        )
    # Without windows the standard leaves one order only: frames of a reconstruction follow the slices.
    return _Frames(np.arange(1, count + 1), windows, ("slice_vector_missing",))


def _frame_vector(header: Header, keyword: str, count: int) -> NDArray[np.int64] | None:
    numbers = header.numbers(keyword)
    if numbers and len(numbers) != count:
        raise GeometryError(
            "the frames are not all numbered",
            path=header.path,
            tag=tag_name(keyword),
            value=f"{len(numbers)} numbers",
            expected=f"{count} frames",
        )
    return np.array(numbers, dtype=np.int64) if numbers else None


def _choose_frames(
    header: Header, frames: _Frames, scale: NmScale, calibration: Calibration | None, source: Nuclide | None
) -> tuple[NDArray[np.int64], str | None, list[str]]:
    """Frames of the photopeak in order of their slices, the window, and flags."""
    declared = None if calibration is None else calibration.energy_window_kev
    nuclide_name = source.name if source else "an unknown nuclide"
    wanted = f"{declared[0]:g}-{declared[1]:g} keV" if declared else f"a photopeak of {nuclide_name}"
    windows = read_windows(header)
    present = [] if frames.windows is None else np.unique(frames.windows).tolist()
    known = [w for w in windows if w.ranges_kev and (not present or w.number in present)]
    if len(present) > max(len(known), 1):
        raise EnergyWindowError(
            "the header does not give the limits of all energy windows",
            path=header.path,
            tag=tag_name("EnergyWindowRangeSequence"),
            value=len(known),
            expected=len(present),
        )
    matching = photopeak_windows(known, source, declared)
    flags: list[str] = []
    if len(present) > 1 or (known and (not matching or (len(matching) > 1 and scale.is_counts))):
        matching = (require_one_window(header, known, matching, wanted),)
    if not known:
        flags.append("energy_window_missing")
    elif not present and len(known) > 1:
        flags.append("energy_window_of_frames_not_stated")
    selected = np.arange(len(frames.slices))
    if len(present) > 1:
        selected = np.flatnonzero(frames.windows == matching[0].number)
    return _in_order(header, selected, frames.slices[selected], flags), window_text(matching), flags


def _in_order(
    header: Header, selected: NDArray[np.int64], slices: NDArray[np.int64], flags: list[str]
) -> NDArray[np.int64]:
    tag = tag_name("SliceVector")
    highest = int(max(slices.max(), header.number("NumberOfSlices") or 0))
    if missing := sorted(set(range(1, highest + 1)) - set(slices.tolist())):
        raise SlicesMissingError(
            f"{len(missing)} slice(s) missing, the first is number {missing[0]}",
            path=header.path,
            tag=tag,
            value=len(slices),
            expected=highest,
        )
    if len(slices) != highest or slices.min() != 1 or highest < 2:
        raise GeometryError(
            "the frames are not one volume: each slice must be there once",
            path=header.path,
            tag=tag,
            value=f"{len(slices)} frames",
            expected=f"{highest} slices",
        )
    order = np.argsort(slices)
    if np.any(np.diff(order) < 0):
        flags.append("frames_not_in_order_of_slices")
    return selected[order]
