"""Tiny DICOM segmentations with known content."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydicom.dataset import Dataset

from doseledger.geometry import Grid

from .dicom_factory import FRAME, UID, save

SEG_STORAGE = "1.2.840.10008.5.1.4.1.1.66.4"
LABELMAP_STORAGE = "1.2.840.10008.5.1.4.1.1.66.7"
Kind = Literal["BINARY", "FRACTIONAL", "LABELMAP"]


def write_seg(
    path: Path,
    masks: Mapping[str, NDArray[Any]],
    grid: Grid,
    *,
    kind: Kind = "BINARY",
    order: Callable[[list[tuple[int, int]]], list[tuple[int, int]]] = lambda frames: frames,
    per_frame_geometry: bool = False,
    edit: Callable[[Dataset], None] | None = None,
) -> Path:
    """Write masks, one segment each from number 1 on; slices without a voxel have no frame.

    Fractional masks are numbers from 0 to 1; label maps take each voxel from the last mask that has it.
    """
    names = list(masks)
    dataset = _header(grid, kind, names)
    if kind == "LABELMAP":
        volume = np.zeros(grid.shape, np.uint8)
        for number, name in enumerate(names, start=1):
            volume[masks[name] > 0] = number
        frames = order([(0, z) for z in range(grid.shape[0]) if volume[z].any()])
        stored = [volume[z] for _, z in frames]
    else:
        frames = order(
            [(n, z) for n, name in enumerate(names, start=1) for z in range(grid.shape[0]) if masks[name][z].any()]
        )
        stored = [masks[names[n - 1]][z] for n, z in frames]
    shared, spread = Dataset(), _geometry(grid)
    if not per_frame_geometry:
        shared.update(spread)
    dataset.SharedFunctionalGroupsSequence = [shared]
    dataset.PerFrameFunctionalGroupsSequence = [
        _frame(grid, n, z, spread if per_frame_geometry else None) for n, z in frames
    ]
    dataset.NumberOfFrames = len(frames)
    values = np.array(stored)
    if kind == "BINARY":
        dataset.PixelData = _even(np.packbits(values.astype(np.uint8).ravel(), bitorder="little").tobytes())
    elif kind == "FRACTIONAL":
        dataset.PixelData = _even(np.rint(values * dataset.MaximumFractionalValue).astype(np.uint8).tobytes())
    else:
        dataset.PixelData = _even(values.tobytes())
    dataset["PixelData"].VR = "OB"
    if edit:
        edit(dataset)
    path.parent.mkdir(parents=True, exist_ok=True)
    return save(dataset, path)


def _header(grid: Grid, kind: Kind, names: list[str]) -> Dataset:
    dataset = Dataset()
    dataset.SOPClassUID, dataset.Modality = (LABELMAP_STORAGE if kind == "LABELMAP" else SEG_STORAGE), "SEG"
    dataset.StudyInstanceUID, dataset.SeriesInstanceUID = f"{UID}.1", f"{UID}.8"
    dataset.SOPInstanceUID = f"{UID}.8.1"
    dataset.FrameOfReferenceUID = FRAME
    dataset.SegmentationType = kind
    bits = 1 if kind == "BINARY" else 8
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit = bits, bits, bits - 1
    dataset.PixelRepresentation, dataset.SamplesPerPixel = 0, 1
    dataset.PhotometricInterpretation = "MONOCHROME2"
    dataset.Rows, dataset.Columns = grid.shape[1:]
    if kind == "FRACTIONAL":
        dataset.SegmentationFractionalType, dataset.MaximumFractionalValue = "PROBABILITY", 200
    dataset.SegmentSequence = [_segment(number, name) for number, name in enumerate(names, start=1)]
    series = Dataset()
    series.SeriesInstanceUID = f"{UID}.2"
    dataset.ReferencedSeriesSequence = [series]
    return dataset


def _segment(number: int, name: str) -> Dataset:
    item, kind = Dataset(), _code("64033007", "Kidney")
    item.SegmentNumber, item.SegmentLabel = number, name
    side = {"left": "7771000", "right": "24028007"}.get(name.split()[0].lower())
    if side is not None:
        kind.SegmentedPropertyTypeModifierCodeSequence = [_code(side, name.split()[0])]
    item.SegmentedPropertyTypeCodeSequence = [kind]
    return item


def _code(value: str, meaning: str) -> Dataset:
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = value, "SCT", meaning
    return code


def _geometry(grid: Grid) -> Dataset:
    group, measures, orientation = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [f"{s:.6g}" for s in grid.spacing_mm[1:]]
    measures.SliceThickness = measures.SpacingBetweenSlices = f"{grid.spacing_mm[0]:.6g}"
    orientation.ImageOrientationPatient = [f"{v:.6f}" for axis in (2, 1) for v in grid.direction[axis]]
    group.PixelMeasuresSequence, group.PlaneOrientationSequence = [measures], [orientation]
    return group


def _frame(grid: Grid, number: int, z: int, spread: Dataset | None) -> Dataset:
    group, position, segment = Dataset(), Dataset(), Dataset()
    position.ImagePositionPatient = [f"{v:.4f}" for v in grid.position_mm(np.array([z, 0.0, 0.0]))]
    group.PlanePositionSequence = [position]
    if number:
        segment.ReferencedSegmentNumber = number
        group.SegmentIdentificationSequence = [segment]
    if spread is not None:
        group.update(spread)
    return group


def _even(data: bytes) -> bytes:
    return data + b"\0" * (len(data) % 2)
