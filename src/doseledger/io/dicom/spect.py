"""SPECT images: activity concentration in Bq/mL at scan start, or a refusal.

Reconstructions are stored as PET series, one file per slice, or as NM images, one file for all; beds
of one reconstruction, where the maker did not join them, as several of either.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from doseledger.activity import Calibration
from doseledger.errors import DoseledgerError
from doseledger.io.dicom.beds import stitch
from doseledger.io.dicom.headers import Header, Paths
from doseledger.io.dicom.nm import NM_STORAGE, open_nm
from doseledger.io.dicom.pt import PET_STORAGE, open_pt
from doseledger.io.dicom.series import SERIES, read_study, require_same
from doseledger.io.dicom.spect_image import SpectImage, SpectInspection, SpectSource
from doseledger.nuclides import Nuclide

_KINDS: Final = {PET_STORAGE: "PT, one slice per file", NM_STORAGE: "NM, one reconstruction per file"}


def read_spect(paths: Paths, *, calibration: Calibration | None = None, nuclide: Nuclide | None = None) -> SpectImage:
    """Read a reconstructed SPECT (or PET): a PT series in Bq/mL, or an NM image in Bq/mL or counts.

    What the headers alone can tell is that of `inspect_spect`, by the same code.

    Parameters
    ----------
    paths
        A folder (its subfolders are not read), a file, or the files of one series or of its beds.
    calibration
        Sensitivity of the camera, for NM images in counts.
    nuclide
        That of the treatment: its photopeak and half-life are used for NM images, whose headers
        seldom tell. None: the one that the header names.

    Raises
    ------
    InputMissingError, FileUnreadableError, MixedSeriesError, ModalityError
        Files that are absent, damaged, not of one patient and series, or not one reconstruction.
    UnitError
        The values are no activity concentration: counts without a calibration, g/mL, unknown.
    EnergyWindowError
        It is not clear which frames of an NM image show the photopeak.
    SlicesMissingError, GeometryError
        The slices are not one complete regular grid.
    TagMissingError, TimeError, QuantityError, CrossCheckError
        Decay state, scale, duration or number of detectors are missing or contradictory.
    """
    return open_spect(paths, calibration=calibration, nuclide=nuclide).read()


def inspect_spect(
    paths: Paths, *, calibration: Calibration | None = None, nuclide: Nuclide | None = None
) -> SpectInspection:
    """What the headers of a SPECT image tell; raises what `read_spect` raises before it decodes pixels."""
    return open_spect(paths, calibration=calibration, nuclide=nuclide).inspection


def open_spect(paths: Paths, *, calibration: Calibration | None = None, nuclide: Nuclide | None = None) -> SpectSource:
    """Inspect the headers of a SPECT image, and have its pixels at hand."""
    groups = _groups(read_study(paths, _KINDS))
    sources = [
        open_nm(group[0], calibration, nuclide) if group[0].sop_class == NM_STORAGE else open_pt(group)
        for group in groups
    ]
    if len(sources) == 1:
        return sources[0]
    names = [group[0].path.name for group in groups]
    try:
        return stitch(sources, names, nuclide.half_life_h if nuclide else None)
    except DoseledgerError as error:
        error.path = error.path or str(groups[1][0].path)
        raise


def _groups(headers: Sequence[Header]) -> list[list[Header]]:
    """Files by image: an NM file is one, a PET series is one. Several are beds of one reconstruction."""
    if headers[0].sop_class == NM_STORAGE:
        return [[header] for header in headers]
    series: dict[str | None, list[Header]] = {}
    for header in headers:
        series.setdefault(header.text(SERIES), []).append(header)
    if min(len(group) for group in series.values()) == 1:
        # A single slice is no bed.
        require_same(headers, SERIES, "the files are not of one series", show=False)
    return list(series.values())
