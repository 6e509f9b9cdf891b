"""SPECT images: activity concentration in Bq/mL at scan start, or a refusal.

Reconstructions are stored as PET series, one file per slice, or as NM images, one file for all.
"""

from __future__ import annotations

from typing import Final

from doseledger.activity import Calibration
from doseledger.errors import MixedSeriesError
from doseledger.io.dicom.headers import Paths
from doseledger.io.dicom.nm import NM_STORAGE, open_nm
from doseledger.io.dicom.pt import PET_STORAGE, open_pt
from doseledger.io.dicom.series import read_headers
from doseledger.io.dicom.spect_image import SpectImage, SpectInspection, SpectSource
from doseledger.nuclides import Nuclide

_KINDS: Final = {PET_STORAGE: "PT, one slice per file", NM_STORAGE: "NM, one reconstruction per file"}


def read_spect(paths: Paths, *, calibration: Calibration | None = None, nuclide: Nuclide | None = None) -> SpectImage:
    """Read a reconstructed SPECT (or PET): a PT series in Bq/mL, or an NM image in Bq/mL or counts.

    What the headers alone can tell is that of `inspect_spect`, by the same code.

    Parameters
    ----------
    paths
        A folder (its subfolders are not read), a file, or the files of one series.
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
    headers = read_headers(paths, _KINDS)
    header = headers[0]
    if header.sop_class != NM_STORAGE:
        return open_pt(headers)
    if len(headers) > 1:
        raise MixedSeriesError(
            f"there is more than one NM image: {header.path.name} and {headers[1].path.name}",
            path=headers[1].path,
            remedy="Name the file of the reconstruction that counts.",
        )
    return open_nm(header, calibration, nuclide)
