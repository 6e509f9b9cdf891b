"""PET series of one slice per file, in which SPECT is stored as well."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import SlicesMissingError, UnitError
from doseledger.io.dicom.decay import read_administration
from doseledger.io.dicom.headers import Header, tag_name
from doseledger.io.dicom.pt_beds import read_bed_decay
from doseledger.io.dicom.series import require_same, rescale, stored_values
from doseledger.io.dicom.spect_image import SpectInspection, SpectSource, provenance
from doseledger.io.dicom.stack import stack_slices
from doseledger.units import bq_per_ml_factor

PET_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.128"
COUNTS: Final = "CNTS"
#: Philips writes counts and, in a private element, their factor to Bq/mL, which holds after the rescale
#: slope. Source: DICOM conformance statements of Philips PET/CT (Activity Concentration Scale Factor).
_PHILIPS: Final = "Philips PET Private Group"
_PHILIPS_GROUP: Final = 0x7053
_ACTIVITY_FACTOR: Final = 0x09
_PHILIPS_TAG: Final = f"{_PHILIPS} (7053,xx09)"

#: Elements that decide the numbers of the whole image and so must be the same in every slice.
_UNIFORM: Final = ("Units", "DecayCorrection", "CorrectedImage", "NumberOfSlices")


def open_pt(headers: Sequence[Header]) -> SpectSource:
    """Inspect the slices of a PET series.

    C = (stored * slope + intercept) * unit factor * decay factor, with slope and intercept of each slice
    and the decay factor of its bed (`pt_beds`).

    Raises
    ------
    UnitError
        The values are no activity concentration.
    MixedSeriesError, SlicesMissingError, GeometryError
        The slices are not one complete regular grid of one kind of values.
    TagMissingError, TimeError, QuantityError
        Scale, decay state or times are missing, contradictory or impossible.
    """
    for keyword in _UNIFORM:
        require_same(headers, keyword, "the slices differ in what their values mean")
    unit_factor, unit_source, unit_flags = _unit_factor(headers)
    flags = (*_require_all_slices(headers), *unit_flags)
    stack = stack_slices(headers)
    administration = read_administration(stack.first)
    decay = read_bed_decay(stack.slices, administration)
    scales = [rescale(header) for header in stack.slices]
    factors = [unit_factor * factor for factor in decay.factors]

    def pixels() -> NDArray[np.float32]:
        array = np.empty(stack.grid.shape, dtype=np.float32)
        for z, (header, (slope, intercept)) in enumerate(zip(stack.slices, scales, strict=True)):
            array[z] = (stored_values(header) * slope + intercept) * factors[z]
        return array

    known = provenance(
        stack.first,
        administration,
        decay.state,
        modality="PT",
        unit=stack.first.text("Units") or "",
        unit_source=unit_source,
        energy_window_kev=_energy_windows(stack.first),
        calibration=None,
        flags=(*stack.flags, *flags),
        n_files=len(stack.slices),
    )
    return SpectSource(SpectInspection(stack.grid, decay.state.scan_start, known), pixels)


def _unit_factor(headers: Sequence[Header]) -> tuple[float, str, tuple[str, ...]]:
    """From stored units to Bq/mL, where that stands, and flags."""
    header = headers[0]
    unit, tag = header.text("Units") or "", tag_name("Units")
    if unit != COUNTS:
        return bq_per_ml_factor(unit, path=str(header.path), tag=tag), tag, ()
    factors = {_philips_factor(one) for one in headers}
    factor = factors.pop()
    if factors or factor is None or factor <= 0:
        raise UnitError(
            "the PET image is in counts without one factor to Bq/mL for all slices",
            path=header.path,
            tag=f"{tag}, {_PHILIPS_TAG}",
            value=unit if factor is None else f"{unit}, {factor:g}",
            expected="BQML",
            remedy="Export the series in Bq/mL (BQML), or with its private elements.",
        )
    return factor, f"{tag}, {_PHILIPS_TAG}", ("scaled_by_private_factor",)


def _philips_factor(header: Header) -> float | None:
    return header.private_number(_PHILIPS_GROUP, _PHILIPS, _ACTIVITY_FACTOR)


def _require_all_slices(headers: Sequence[Header]) -> tuple[str, ...]:
    declared = headers[0].number("NumberOfSlices")
    if declared is not None and declared > len(headers):
        raise SlicesMissingError(
            f"{declared - len(headers):.0f} slice(s) missing",
            path=headers[0].path.parent,
            tag=tag_name("NumberOfSlices"),
            value=len(headers),
            expected=int(declared),
        )
    return ("more_slices_than_declared",) if declared is not None and declared < len(headers) else ()


def _energy_windows(header: Header) -> str | None:
    windows = [
        f"{window.required_number('EnergyWindowLowerLimit'):.1f}-{window.required_number('EnergyWindowUpperLimit'):.1f}"
        for window in header.items("EnergyWindowRangeSequence")
    ]
    return ", ".join(windows) or None
