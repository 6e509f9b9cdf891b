"""Structure sets (RTSTRUCT): outlines drawn on the slices of a CT series."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydicom.dataelem import DataElement
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence as DicomSequence
from pydicom.uid import UID, CTImageStorage, RTStructureSetStorage

from doseledger.phantom.dicom_base import Visit, common_dataset, save
from doseledger.phantom.shapes import Floats

_DETACHED_STUDY: Final = UID("1.2.840.10008.3.1.2.3.1")
_DISPLAY_COLOURS: Final = ([230, 120, 60], [60, 120, 230], [150, 80, 40], [140, 70, 160], [230, 30, 40])


@dataclass(frozen=True)
class Outline:
    """One region of a structure set: closed contours by CT slice, LPS mm, at most one per slice."""

    name: str
    interpreted_type: str
    contours: Mapping[int, Floats]


def write_rtstruct(path: Path, outlines: Sequence[Outline], visit: Visit, ct_uids: Sequence[UID]) -> None:
    """Write outlines drawn on the slices of the visit's CT."""
    dataset = common_dataset(visit, RTStructureSetStorage, "RTSTRUCT", "Organs", 3, visit.scan_start)
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = visit.uid("RTSTRUCT", 0)
    dataset.OperatorsName = ""
    dataset.StructureSetLabel = "ORGANS"
    dataset.StructureSetDate, dataset.StructureSetTime = dataset.SeriesDate, dataset.SeriesTime
    dataset.ApprovalStatus = "UNAPPROVED"
    dataset.ReferencedFrameOfReferenceSequence = DicomSequence([_referenced_frame(visit, ct_uids)])
    numbered = list(enumerate(outlines, start=1))
    dataset.StructureSetROISequence = DicomSequence([_roi(n, outline, visit) for n, outline in numbered])
    dataset.ROIContourSequence = DicomSequence([_drawing(n, outline, ct_uids) for n, outline in numbered])
    dataset.RTROIObservationsSequence = DicomSequence([_observation(n, outline) for n, outline in numbered])
    save(dataset, path)


def _roi(number: int, outline: Outline, visit: Visit) -> Dataset:
    item = Dataset()
    item.ROINumber, item.ROIName = number, outline.name
    item.ReferencedFrameOfReferenceUID = visit.uid("frame")
    item.ROIGenerationAlgorithm = "AUTOMATIC"
    return item


def _drawing(number: int, outline: Outline, ct_uids: Sequence[UID]) -> Dataset:
    item = Dataset()
    item.ROIDisplayColor = _DISPLAY_COLOURS[(number - 1) % len(_DISPLAY_COLOURS)]
    item.ContourSequence = DicomSequence(
        [_contour(ct_uids[index], points) for index, points in sorted(outline.contours.items())]
    )
    item.ReferencedROINumber = number
    return item


def _observation(number: int, outline: Outline) -> Dataset:
    item = Dataset()
    item.ObservationNumber = item.ReferencedROINumber = number
    item.RTROIInterpretedType = outline.interpreted_type
    item.ROIInterpreter = ""
    return item


def _referenced_frame(visit: Visit, ct_uids: Sequence[UID]) -> Dataset:
    series = Dataset()
    series.SeriesInstanceUID = visit.uid("CT", "series")
    series.ContourImageSequence = DicomSequence([_referenced_slice(uid) for uid in ct_uids])
    study = Dataset()
    study.ReferencedSOPClassUID, study.ReferencedSOPInstanceUID = _DETACHED_STUDY, visit.uid("study")
    study.RTReferencedSeriesSequence = DicomSequence([series])
    frame = Dataset()
    frame.FrameOfReferenceUID = visit.uid("frame")
    frame.RTReferencedStudySequence = DicomSequence([study])
    return frame


def _referenced_slice(uid: UID) -> Dataset:
    item = Dataset()
    item.ReferencedSOPClassUID, item.ReferencedSOPInstanceUID = CTImageStorage, uid
    return item


def _contour(uid: UID, points_mm: Floats) -> Dataset:
    item = Dataset()
    item.ContourImageSequence = DicomSequence([_referenced_slice(uid)])
    item.ContourGeometricType = "CLOSED_PLANAR"
    item.NumberOfContourPoints = len(points_mm)
    text = "\\".join(f"{value:.3f}" for value in points_mm.ravel())
    # Already in its written form: parsing and printing every coordinate again would triple the time.
    item.add(DataElement("ContourData", "DS", text, already_converted=True))
    return item
