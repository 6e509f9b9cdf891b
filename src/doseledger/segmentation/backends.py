"""From the time points of a cycle to label maps, by the back end that the config names.

A model labels the regions that it has a class for; what a time point's structure set (SEG, label map) adds
beside them (lesions, glands) is painted over. So every region has one source.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import ContourError, InputMissingError, SegmentationError
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image
from doseledger.regions import RegionSpec
from doseledger.segmentation.contours import image_drawn_on, label_map_from_contours, names_in
from doseledger.segmentation.labels import CONTOURS, DrawnOn, LabelMap, Model, Named, paint
from doseledger.segmentation.nnunet import ModelRequest, find_model, segment_cts_by_model
from doseledger.segmentation.protocol import Device, Mode
from doseledger.segmentation.tasks import class_names
from doseledger.segmentation.totalsegmentator import Request, Segmentation, segment_cts
from doseledger.segmentation.weights import check_allowed, find_weights, weights_folder


@dataclass(frozen=True, eq=False)
class ScanImages:
    """What a back end sees of a time point.

    Attributes
    ----------
    images
        CT, if there is one, and SPECT.
    ct
        The CT as NIfTI.
    contours
        Structure set, segmentation or label map.
    contours_name
        The same as messages name it.
    """

    time_point: int
    images: tuple[DrawnOn, ...]
    ct: Path | None
    contours: Path | None
    contours_name: str | None


@dataclass(frozen=True)
class Options:
    """How to segment, and with what.

    Attributes
    ----------
    settings
        Section ``segment`` of the config.
    base
        Folder of the config, to which its paths are relative.
    data_origin
        ``patient`` or ``virtual``.
    """

    settings: Mapping[str, Any]
    base: Path
    data_origin: str
    threads: int
    gpu: bool
    scratch: Path

    @property
    def device(self) -> Device:
        return "gpu" if self.gpu else "cpu"


Specs = Mapping[str, RegionSpec]
Backend = Callable[[Sequence[ScanImages], Specs, Options], list[LabelMap]]


def from_contours(scans: Sequence[ScanImages], specs: Specs, options: Options) -> list[LabelMap]:
    """Regions outlined by a person or another program.

    Raises
    ------
    ContourError, SegmentationFileError, ModalityError
        A time point has no outlines, or they cannot be used.
    """
    return [_drawn(scan, specs) for scan in scans]


def from_totalsegmentator(scans: Sequence[ScanImages], specs: Specs, options: Options) -> list[LabelMap]:
    """Regions by TotalSegmentator: its tasks one after the other, each for all CTs of the cycle.

    Raises
    ------
    SegmentationError, WeightsError, WorkerFailedError
        As `totalsegmentator.segment_cts`.
    """
    results = [
        segment_cts(
            Request(
                cts=_cts(scans),
                out=options.scratch / task,
                weights_folder=weights_of(options),
                data_origin=options.data_origin,
                task=task,
                mode=mode,
                roi_subset=subset,
                device=options.device,
                threads=options.threads,
                scratch=options.scratch,
            )
        )
        for task, mode, subset in runs_of(options, specs)
    ]
    return [_modelled(scan, results, "totalsegmentator", specs, options.device) for scan in scans]


def from_nnunet(scans: Sequence[ScanImages], specs: Specs, options: Options) -> list[LabelMap]:
    """Regions by any nnU-Net v2 model whose ``dataset.json`` names its labels.

    Raises
    ------
    SegmentationError, WeightsError, WorkerFailedError
        As `nnunet.segment_cts_by_model`.
    """
    request = ModelRequest(
        cts=_cts(scans),
        out=options.scratch / "nnunet",
        model_folder=_model_folder(options),
        data_origin=options.data_origin,
        device=options.device,
        threads=options.threads,
        scratch=options.scratch,
    )
    result = segment_cts_by_model(request)
    return [_modelled(scan, [result], "nnunet", specs, options.device) for scan in scans]


#: Back ends; the keys are the values of config and of the column ``region_source``.
REGISTRY: Final[dict[str, Backend]] = {
    CONTOURS: from_contours,
    "totalsegmentator": from_totalsegmentator,
    "nnunet": from_nnunet,
}


def check_model(options: Options, specs: Specs) -> None:
    """Whether the configured model can be used at all, before any image is there.

    Raises
    ------
    SegmentationError, WeightsError
        No such task or mode; weights that are missing, incomplete, changed or not allowed for these data; no
        region of the sheet is a class of the model.
    """
    source = options.settings["source"]
    if source == CONTOURS:
        return
    if source == "totalsegmentator":
        for task, mode, subset in runs_of(options, specs):
            check_allowed(find_weights(weights_of(options), task, mode, subset), options.data_origin)
    else:
        find_model(_model_folder(options), options.data_origin)


def check_scans(scans: Sequence[ScanImages], specs: Specs, options: Options) -> None:
    """What the back end would refuse of a cycle before it paints a region.

    Raises
    ------
    DoseledgerError
        As the back end; of outlines that join a model's masks only what is wrong with their file.
    """
    if options.settings["source"] == CONTOURS:
        for scan in scans:
            path, display = _contours_of(scan)
            image_drawn_on(path, scan.images, specs, display)
        return
    _cts(scans)
    for scan in scans:
        if scan.contours is not None:
            path, display = _contours_of(scan)
            names_in(path, scan.images, display)


def weights_of(options: Options) -> Path:
    """Folder of TotalSegmentator's weights."""
    return weights_folder(_folder(options, "weights"))


def runs_of(options: Options, specs: Specs) -> list[tuple[str, Mode, tuple[str, ...]]]:
    """Task, mode and subset of every run of TotalSegmentator.

    Raises
    ------
    SegmentationError
        The region sheet names no class of a task.
    """
    runs: list[tuple[str, Mode, tuple[str, ...]]] = []
    for task in options.settings["tasks"]:
        wanted = tuple(sorted(set(class_names(task).values()) & set(specs)))
        if not wanted:
            raise SegmentationError(
                "the region sheet names no class of the task",
                path="regions.tsv",
                tag="source_name",
                value=task,
                remedy="Add rows with the task's class names, or leave the task out.",
            )
        whole = task != "total" or not options.settings["roi_subset"]
        runs.append((task, options.settings["mode"] if task == "total" else "default", () if whole else wanted))
    return runs


def _drawn(scan: ScanImages, specs: Specs) -> LabelMap:
    path, display = _contours_of(scan)
    return label_map_from_contours(path, scan.images, specs, display)


def _contours_of(scan: ScanImages) -> tuple[Path, str]:
    if scan.contours is None or scan.contours_name is None:
        raise ContourError(
            "the time point has no structure set",
            path="scans.tsv",
            tag="contours",
            value="n/a",
            expected="path of an RTSTRUCT, a SEG or a label map",
            remedy="Add the path to scans.tsv, or let a model outline the organs (config segment.source).",
        )
    return scan.contours, scan.contours_name


def _modelled(scan: ScanImages, results: Sequence[Segmentation], source: str, specs: Specs, device: str) -> LabelMap:
    image = next(image for image in scan.images if image.modality == "CT")
    labels = np.zeros(image.grid.shape, np.uint8)
    sources: dict[str, str] = {}
    models: dict[str, Model] = {}
    overlapping: frozenset[str] = frozenset()
    names: set[str] = set()
    for result in results:
        own = {name: label for label, name in result.label_names.items() if name in specs}
        names |= set(own)
        classes, grid = read_image(result.labels[str(scan.time_point)])
        if not grid.same_as(image.grid):
            raise SegmentationError("the label map of the model does not lie on the grid of the CT", value=grid.shape)
        outlines = [Named(name, partial(_is, classes, label)) for name, label in own.items()]
        overlapping |= paint(labels, outlines, specs, image.grid)
        model = Model(device, result.weights_sha256, result.virtual_only)
        sources |= {specs[name].region: source for name in own}
        models |= {specs[name].region: model for name in own}
    if not labels.any():
        raise SegmentationError(
            "the model found none of the regions of the sheet",
            tag=f"time point {scan.time_point}",
            value=source,
            expected=sorted(names),
            remedy="Look at the CT: does it show the organs, in the right orientation? Else give contours.",
        )
    made = LabelMap(labels, image, overlapping, (), sources, models)
    return made if scan.contours is None else _with_drawn(made, scan, specs)


def _with_drawn(made: LabelMap, scan: ScanImages, specs: Specs) -> LabelMap:
    """Regions that the model has no class for, from the time point's structure set, over those of the model."""
    assert scan.contours is not None
    assert scan.contours_name is not None
    others = {name: spec for name, spec in specs.items() if spec.region not in made.sources}
    if not set(names_in(scan.contours, scan.images, scan.contours_name)) & set(others):
        return made
    drawn = label_map_from_contours(scan.contours, scan.images, others, scan.contours_name)
    if not drawn.image.grid.same_as(made.image.grid):
        raise ContourError(
            "outlines on SPECT cannot be joined with masks on CT",
            path=scan.contours_name,
            remedy="Draw them on the CT, or leave the column contours empty.",
        )
    return LabelMap(
        np.where(drawn.labels > 0, drawn.labels, made.labels).astype(np.uint8),
        made.image,
        made.overlapping | drawn.overlapping,
        tuple(name for name in drawn.unmapped if name not in specs),
        {**made.sources, **drawn.sources},
        made.models,
    )


def _cts(scans: Sequence[ScanImages]) -> dict[str, Path]:
    for scan in scans:
        if scan.ct is None:
            raise InputMissingError(
                "the time point has no CT, and a model needs one",
                path="scans.tsv",
                tag="ct",
                value="n/a",
                remedy=f"Give time point {scan.time_point} a CT, or use contours (config segment.source).",
            )
    return {str(scan.time_point): scan.ct for scan in scans if scan.ct is not None}


def _model_folder(options: Options) -> Path:
    folder = _folder(options, "model")
    if folder is None:
        raise SegmentationError("the config names no nnU-Net model", path="config.yaml", tag="segment.model")
    return folder


def _folder(options: Options, setting: str) -> Path | None:
    value = options.settings[setting]
    return None if value is None else options.base / str(value)


def _is(classes: NDArray[np.float32], label: int, _: Grid) -> NDArray[np.bool_]:
    return np.asarray(classes == label)
