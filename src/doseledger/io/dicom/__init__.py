"""Reading DICOM: SPECT as PET series or NM images, CT, structure sets and segmentations."""

from doseledger.io.dicom.ct import CtImage, CtInspection, CtProvenance, CtSource, inspect_ct, open_ct, read_ct
from doseledger.io.dicom.masks import structure_mask
from doseledger.io.dicom.nm_counts import AppliedCalibration
from doseledger.io.dicom.rtstruct import Structure, read_structures
from doseledger.io.dicom.seg import Segment, read_segments
from doseledger.io.dicom.seg_masks import segment_mask
from doseledger.io.dicom.spect import inspect_spect, open_spect, read_spect
from doseledger.io.dicom.spect_image import SpectImage, SpectInspection, SpectProvenance, SpectSource

__all__ = [
    "AppliedCalibration",
    "CtImage",
    "CtInspection",
    "CtProvenance",
    "CtSource",
    "Segment",
    "SpectImage",
    "SpectInspection",
    "SpectProvenance",
    "SpectSource",
    "Structure",
    "inspect_ct",
    "inspect_spect",
    "open_ct",
    "open_spect",
    "read_ct",
    "read_segments",
    "read_spect",
    "read_structures",
    "segment_mask",
    "structure_mask",
]
