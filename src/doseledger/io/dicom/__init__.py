"""Reading DICOM: SPECT as PET series or NM images, CT, structure sets and segmentations."""

from doseledger.io.dicom.ct import CtImage, CtProvenance, read_ct
from doseledger.io.dicom.masks import structure_mask
from doseledger.io.dicom.nm_counts import AppliedCalibration
from doseledger.io.dicom.rtstruct import Structure, read_structures
from doseledger.io.dicom.seg import Segment, read_segments
from doseledger.io.dicom.seg_masks import segment_mask
from doseledger.io.dicom.spect import SpectImage, SpectProvenance, read_spect

__all__ = [
    "AppliedCalibration",
    "CtImage",
    "CtProvenance",
    "Segment",
    "SpectImage",
    "SpectProvenance",
    "Structure",
    "read_ct",
    "read_segments",
    "read_spect",
    "read_structures",
    "segment_mask",
    "structure_mask",
]
