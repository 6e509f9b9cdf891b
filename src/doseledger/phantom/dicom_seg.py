"""Segmentations (DICOM SEG): voxel masks of regions on the slices of a CT series, one bit per voxel."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from pydicom.dataset import Dataset
from pydicom.pixels.utils import pack_bits
from pydicom.sequence import Sequence as DicomSequence
from pydicom.tag import Tag
from pydicom.uid import UID, CTImageStorage, SegmentationStorage

from doseledger.geometry import Grid
from doseledger.phantom.dicom_base import Visit, code, common_dataset, save
from doseledger.phantom.dicom_images import orientation_text, position_text
from doseledger.phantom.shapes import Bools

_ORGAN: Final = ("123037004", "Anatomical Structure")
_ABNORMAL: Final = ("49755003", "Morphologically Abnormal Structure")
_SIDES: Final = {"left": ("7771000", "Left"), "right": ("24028007", "Right")}
_RECOMMENDED_CIELAB: Final = (
    [36000, 40000, 42000],
    [30000, 26000, 20000],
    [28000, 38000, 40000],
    [42000, 30000, 30000],
)


@dataclass(frozen=True, eq=False)
class Segment:
    """One region: its mask ``(z, y, x)`` on the CT grid and its SNOMED CT code; a lesion is no organ."""

    name: str
    sct_code: str
    meaning: str
    mask: Bools
    laterality: str | None = None
    is_lesion: bool = False


def write_seg(path: Path, segments: Sequence[Segment], grid: Grid, visit: Visit, ct_uids: Sequence[UID]) -> None:
    """Write masks drawn by a program on the slices of the visit's CT; empty slices are left out."""
    dataset = common_dataset(visit, SegmentationStorage, "SEG", "Organs", 4, visit.scan_start)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = visit.uid("SEG", 0)
    _describe(dataset, grid)
    dataset.SegmentSequence = DicomSequence([_segment(n, s) for n, s in enumerate(segments, start=1)])
    dataset.ReferencedSeriesSequence = DicomSequence([_referenced_series(visit, ct_uids)])
    dimensions = visit.uid("SEG", "dimensions")
    _organise(dataset, dimensions)
    dataset.SharedFunctionalGroupsSequence = DicomSequence([_shared(grid)])
    places = [
        (number, int(index))
        for number, segment in enumerate(segments, start=1)
        for index in np.flatnonzero(segment.mask.any(axis=(1, 2)))
    ]
    dataset.PerFrameFunctionalGroupsSequence = DicomSequence(
        [_frame(number, index, grid, ct_uids) for number, index in places]
    )
    frames = np.stack([segments[number - 1].mask[index] for number, index in places])
    dataset.NumberOfFrames = len(places)
    dataset.add_new("PixelData", "OB", pack_bits(frames.astype(np.uint8)))
    save(dataset, path)


def _describe(dataset: Dataset, grid: Grid) -> None:
    dataset.ImageType = ["DERIVED", "PRIMARY"]
    dataset.InstanceNumber = 1
    dataset.ContentDate, dataset.ContentTime = dataset.SeriesDate, dataset.SeriesTime
    dataset.ContentLabel, dataset.ContentDescription, dataset.ContentCreatorName = "ORGANS", "Organs", ""
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.Rows, dataset.Columns = grid.shape[1:]
    dataset.BitsAllocated = dataset.BitsStored = 1
    dataset.HighBit = dataset.PixelRepresentation = 0
    dataset.LossyImageCompression = "00"
    dataset.SegmentationType, dataset.SegmentsOverlap = "BINARY", "UNDEFINED"


def _segment(number: int, segment: Segment) -> Dataset:
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel = number, segment.name
    category, meaning = _ABNORMAL if segment.is_lesion else _ORGAN
    item.SegmentedPropertyCategoryCodeSequence = DicomSequence([code(category, "SCT", meaning)])
    kind = code(segment.sct_code, "SCT", segment.meaning)
    if segment.laterality is not None:
        side, meaning = _SIDES[segment.laterality]
        kind.SegmentedPropertyTypeModifierCodeSequence = DicomSequence([code(side, "SCT", meaning)])
    item.SegmentedPropertyTypeCodeSequence = DicomSequence([kind])
    item.SegmentAlgorithmType, item.SegmentAlgorithmName = "AUTOMATIC", "virtual outlines"
    item.RecommendedDisplayCIELabValue = _RECOMMENDED_CIELAB[(number - 1) % len(_RECOMMENDED_CIELAB)]
    return item


def _referenced_series(visit: Visit, ct_uids: Sequence[UID]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = visit.uid("CT", "series")
    series.ReferencedInstanceSequence = DicomSequence([_reference(uid) for uid in ct_uids])
    return series


def _organise(dataset: Dataset, dimensions: UID) -> None:
    organisation = Dataset()
    organisation.DimensionOrganizationUID = dimensions
    dataset.DimensionOrganizationSequence = DicomSequence([organisation])
    dataset.DimensionIndexSequence = DicomSequence(
        [
            _dimension(dimensions, "SegmentIdentificationSequence", "ReferencedSegmentNumber"),
            _dimension(dimensions, "PlanePositionSequence", "ImagePositionPatient"),
        ]
    )


def _dimension(dimensions: UID, group: str, keyword: str) -> Dataset:
    item = Dataset()
    item.DimensionOrganizationUID = dimensions
    item.DimensionIndexPointer, item.FunctionalGroupPointer = Tag(keyword), Tag(group)
    return item


def _shared(grid: Grid) -> Dataset:
    measures, orientation, group = Dataset(), Dataset(), Dataset()
    measures.SliceThickness = measures.SpacingBetweenSlices = f"{grid.spacing_mm[0]:.6g}"
    measures.PixelSpacing = [f"{grid.spacing_mm[1]:.6g}", f"{grid.spacing_mm[2]:.6g}"]
    orientation.ImageOrientationPatient = orientation_text(grid)
    group.PixelMeasuresSequence = DicomSequence([measures])
    group.PlaneOrientationSequence = DicomSequence([orientation])
    return group


def _frame(number: int, index: int, grid: Grid, ct_uids: Sequence[UID]) -> Dataset:
    content, position, segment, derivation, group = (Dataset() for _ in range(5))
    content.DimensionIndexValues = [number, index + 1]
    position.ImagePositionPatient = position_text(grid, index)
    segment.ReferencedSegmentNumber = number
    source = _reference(ct_uids[index])
    source.SpatialLocationsPreserved = "YES"
    source.PurposeOfReferenceCodeSequence = DicomSequence(
        [code("121322", "DCM", "Source image for image processing operation")]
    )
    derivation.SourceImageSequence = DicomSequence([source])
    derivation.DerivationCodeSequence = DicomSequence([code("113076", "DCM", "Segmentation")])
    group.FrameContentSequence = DicomSequence([content])
    group.PlanePositionSequence = DicomSequence([position])
    group.SegmentIdentificationSequence = DicomSequence([segment])
    group.DerivationImageSequence = DicomSequence([derivation])
    return group


def _reference(uid: UID) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
    return item
