"""Label maps of the ledger's regions, made of named masks of any source."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from doseledger.geometry import Grid
from doseledger.regions import RegionSpec
from doseledger.regions.margins import eroded

#: The back end that takes outlines of a person or another program.
CONTOURS: Final = "contours"
#: Cortical bone and blur at the surface of a vertebra, mm.
MARROW_MARGIN_MM: Final = 5.0
#: Order in which kinds are painted: what comes later takes the voxels of what came before.
_PAINTED: Final = ("organ", "marrow", "lesion", "rest_of_body")


@dataclass(frozen=True, eq=False)
class DrawnOn:
    """An image that outlines may have been drawn on."""

    modality: Literal["CT", "SPECT"]
    grid: Grid
    series_uid: str
    frame_of_reference_uid: str


@dataclass(frozen=True, eq=False)
class Named:
    """A region as its source names it, and its voxels on a grid."""

    name: str
    mask_on: Callable[[Grid], NDArray[np.bool_]]


@dataclass(frozen=True)
class Model:
    """The model that made a mask.

    Attributes
    ----------
    device
        ``cpu`` or ``gpu``.
    virtual_only
        The model knows virtual patients only.
    """

    device: str
    weights_sha256: str
    virtual_only: bool


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
        Names in the source that the region sheet does not know.
    sources
        Back end of each region.
    models
        Model of each region that a model made.
    """

    labels: NDArray[np.uint8]
    image: DrawnOn
    overlapping: frozenset[str]
    unmapped: tuple[str, ...]
    sources: Mapping[str, str]
    models: Mapping[str, Model]


def paint(
    labels: NDArray[np.uint8], outlines: Iterable[Named], specs: Mapping[str, RegionSpec], grid: Grid
) -> frozenset[str]:
    """Paint named masks into `labels`, in place; returns the regions that lost voxels to another organ.

    Organs come in the order of their labels, then marrow, then lesions: a lesion is never part of the organ
    around it (``lesion_policy`` excluded). The outline of a region of kind ``marrow`` is a whole vertebra:
    each is eroded by `MARROW_MARGIN_MM` by itself, so that two that touch do not join. A region of kind
    ``rest_of_body`` takes only what no other one has.
    """
    by_label = {spec.label: spec.region for spec in specs.values()}
    overlapping: set[str] = set()
    for outline in sorted(outlines, key=lambda o: (_PAINTED.index(specs[o.name].kind), specs[o.name].label)):
        spec = specs[outline.name]
        mask = outline.mask_on(grid)
        if spec.kind == "marrow":
            mask = eroded(mask, grid, MARROW_MARGIN_MM)
        if spec.kind == "organ":
            overlapping |= {by_label[int(v)] for v in np.unique(labels[mask]) if v not in (0, spec.label)}
        labels[mask & (labels == 0) if spec.kind == "rest_of_body" else mask] = spec.label
    return frozenset(overlapping)
