"""CT images in Hounsfield units."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import GeometryError, ModalityError, UnitError
from doseledger.geometry import Grid
from doseledger.io.dicom.headers import Header, Paths, tag_name
from doseledger.io.dicom.series import read_headers, require_same, rescale, stored_values
from doseledger.io.dicom.stack import stack_slices

CT_STORAGE: Final = "1.2.840.10008.5.1.4.1.1.2"
HOUNSFIELD: Final = "HU"
#: Largest GantryDetectorTilt (0018,1120) that is read, in degrees: 0.7 mm over 400 mm.
TILT_TOLERANCE_DEG: Final = 0.1
#: CT number of air.
AIR_HU: Final = -1000.0


@dataclass(frozen=True)
class CtProvenance:
    """Where an image comes from; None where the header is silent."""

    patient_id: str | None
    series_uid: str | None
    study_uid: str | None
    frame_of_reference_uid: str | None
    manufacturer: str | None
    model: str | None
    kvp: float | None
    kernel: str | None
    contrast_agent: str | None
    flags: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class CtImage:
    """A CT volume: `array_hu` is float32 ``(z, y, x)``, in HU."""

    array_hu: NDArray[np.float32]
    grid: Grid
    provenance: CtProvenance


@dataclass(frozen=True)
class CtInspection:
    """All that the headers of a CT series say; what they must not say has been refused.

    Left to the pixels: that they can be decoded, and the flag ``padding_set_to_air``.
    """

    grid: Grid
    provenance: CtProvenance


@dataclass(frozen=True, eq=False)
class CtSource:
    """A CT whose headers have been inspected and whose pixels can be read."""

    inspection: CtInspection
    slices: tuple[Header, ...]

    def read(self) -> CtImage:
        """Decode the pixels.

        Raises
        ------
        FileUnreadableError
            They cannot be decoded.
        """
        array = np.empty(self.inspection.grid.shape, dtype=np.float32)
        padded = False
        for z, header in enumerate(self.slices):
            slope, intercept = rescale(header)
            stored = stored_values(header)
            array[z] = stored * slope + intercept
            # A filler inside the range of tissue is left alone: there it cannot be told from CT numbers.
            outside = _outside(header, stored) & (array[z] < AIR_HU)
            array[z][outside] = AIR_HU
            padded = padded or bool(outside.any())
        known = self.inspection.provenance
        flags = (*known.flags, *(("padding_set_to_air",) if padded else ()))
        return CtImage(array, self.inspection.grid, replace(known, flags=flags))


def read_ct(paths: Paths) -> CtImage:
    """Read a CT series of one slice per file.

    What the headers alone can tell is that of `inspect_ct`, by the same code.

    Parameters
    ----------
    paths
        A folder (its subfolders are not read), a file, or the files of one series.

    Raises
    ------
    InputMissingError, FileUnreadableError, MixedSeriesError, ModalityError
        Files that are absent, damaged, not one CT series of one patient, or localizer images.
    UnitError
        RescaleType (0028,1054) says that the values are not HU.
    SlicesMissingError, GeometryError
        The slices are not one complete regular grid; a tilted gantry.
    TagMissingError, QuantityError
        The scale is missing or not positive.
    """
    return open_ct(paths).read()


def inspect_ct(paths: Paths) -> CtInspection:
    """What the headers of a CT series tell; raises what `read_ct` raises before it decodes pixels."""
    return open_ct(paths).inspection


def open_ct(paths: Paths) -> CtSource:
    """Inspect the headers of a CT series, and have its pixels at hand."""
    headers = read_headers(paths, {CT_STORAGE: "CT, one slice per file"})
    _require_axial(headers)
    require_same(headers, "RescaleType", "the slices differ in what their values mean")
    flags = _require_hounsfield(headers[0])
    stack = stack_slices(headers)
    for header in stack.slices:
        rescale(header)
        _filler(header)
    return CtSource(CtInspection(stack.grid, _provenance(stack.first, (*stack.flags, *flags))), stack.slices)


def _require_axial(headers: Sequence[Header]) -> None:
    for header in headers:
        if "LOCALIZER" in header.texts("ImageType"):
            raise ModalityError(
                "a localizer image (scout) is not a slice",
                path=header.path,
                tag=tag_name("ImageType"),
                value=header.text("ImageType"),
                remedy="Take the localizer out of the folder.",
            )
        tilt = header.number("GantryDetectorTilt")
        if tilt is not None and abs(tilt) > TILT_TOLERANCE_DEG:
            raise GeometryError(
                "the gantry is tilted",
                path=header.path,
                tag=tag_name("GantryDetectorTilt"),
                value=tilt,
                expected=0.0,
                remedy="Export the series that the scanner made upright, or leave the CT out of scans.tsv.",
            )


def _require_hounsfield(header: Header) -> tuple[str, ...]:
    kind = header.text("RescaleType")
    if kind is None:
        # The element may be left out of a CT image only if the values are HU (PS3.3 C.8.2.1).
        return ("rescale_type_absent",)
    if kind != HOUNSFIELD:
        raise UnitError(
            "the CT is not in Hounsfield units",
            path=header.path,
            tag=tag_name("RescaleType"),
            value=kind,
            expected=HOUNSFIELD,
            remedy="Export the CT as reconstructed, in HU.",
        )
    return ()


def _outside(header: Header, stored: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Pixels outside the reconstructed circle: they hold a filler and no CT number."""
    low, high = _filler(header) or (np.inf, -np.inf)
    return np.asarray((stored >= low) & (stored <= high))


def _filler(header: Header) -> tuple[float, float] | None:
    filler, limit = (header.number(k) for k in ("PixelPaddingValue", "PixelPaddingRangeLimit"))
    if filler is None:
        return None
    other = filler if limit is None else limit
    return min(filler, other), max(filler, other)


def _provenance(header: Header, flags: tuple[str, ...]) -> CtProvenance:
    return CtProvenance(
        patient_id=header.text("PatientID"),
        series_uid=header.text("SeriesInstanceUID"),
        study_uid=header.text("StudyInstanceUID"),
        frame_of_reference_uid=header.text("FrameOfReferenceUID"),
        manufacturer=header.text("Manufacturer"),
        model=header.text("ManufacturerModelName"),
        kvp=header.number("KVP"),
        kernel=header.text("ConvolutionKernel"),
        contrast_agent=header.text("ContrastBolusAgent"),
        flags=flags,
    )
