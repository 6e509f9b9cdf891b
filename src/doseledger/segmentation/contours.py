"""Back end ``contours``: outlines drawn by a person or another program, from an RTSTRUCT."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import ContourError
from doseledger.geometry import Grid
from doseledger.io.dicom import Structure, read_structures, structure_mask
from doseledger.regions import RegionSpec


@dataclass(frozen=True, eq=False)
class DrawnOn:
    """An image that outlines may have been drawn on."""

    modality: Literal["CT", "SPECT"]
    grid: Grid
    series_uid: str
    frame_of_reference_uid: str


@dataclass(frozen=True, eq=False)
class LabelMap:
    """Regions of one time point.

    Attributes
    ----------
    labels
        Shape of `image.grid`; the value is `RegionSpec.label`, 0 is no region.
    image
        The image that the outlines were drawn on.
    overlapping
        Names of regions that lost voxels to another organ.
    unmapped
        Names in the structure set that the region sheet does not know.
    """

    labels: NDArray[np.uint8]
    image: DrawnOn
    overlapping: frozenset[str]
    unmapped: tuple[str, ...]


def label_map_from_contours(
    path: Path, images: Sequence[DrawnOn], specs: Mapping[str, RegionSpec], display: str
) -> LabelMap:
    """Fill the contours of a structure set.

    Organs are drawn in the order of their labels, then lesions: a lesion is never part of the organ
    around it (``lesion_policy`` excluded).

    Parameters
    ----------
    images
        CT (first, if there is one) and SPECT of the time point.
    specs
        From names in structure sets to regions.
    display
        Name of the file in messages.

    Raises
    ------
    ContourError
        The set belongs to another image, or names no known region.
    """
    structures = read_structures(path)
    known = [s for s in structures if s.name in specs]
    unmapped = tuple(s.name for s in structures if s.name not in specs)
    if not known:
        raise ContourError(
            "no structure of the set is in the region sheet",
            path=display,
            tag="ROIName (3006,0026)",
            value=list(unmapped),
            expected=sorted(specs),
            remedy="Add the names to regions.tsv (column source_name).",
        )
    image = _image_of(known, images, display)
    labels = np.zeros(image.grid.shape, np.uint8)
    overlapping: set[str] = set()
    by_label = {spec.label: spec.region for spec in specs.values()}
    for structure in sorted(known, key=lambda s: (specs[s.name].kind == "lesion", specs[s.name].label)):
        spec = specs[structure.name]
        mask = structure_mask(structure, image.grid)
        if spec.kind == "organ":
            overlapping |= {by_label[int(v)] for v in np.unique(labels[mask]) if v not in (0, spec.label)}
        labels[mask] = spec.label
    return LabelMap(labels, image, frozenset(overlapping), unmapped)


def _image_of(structures: Sequence[Structure], images: Sequence[DrawnOn], display: str) -> DrawnOn:
    """The image the set refers to: by series, else the first one in its frame of reference."""
    series = {uid for s in structures for uid in s.referenced_series_uids}
    frames = {s.frame_of_reference_uid for s in structures}
    for image in images:
        if image.series_uid in series and frames == {image.frame_of_reference_uid}:
            return image
    for image in images:
        if not series & {i.series_uid for i in images} and frames == {image.frame_of_reference_uid}:
            return image
    raise ContourError(
        "the structure set was drawn on another image",
        path=display,
        tag="ReferencedFrameOfReferenceUID (3006,0024)",
        value=sorted(str(uid) for uid in frames),
        expected=sorted({i.frame_of_reference_uid for i in images}),
    )
