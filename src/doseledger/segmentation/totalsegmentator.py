"""Back end ``totalsegmentator``: all CTs of a cycle by one worker, voxel for voxel as the command line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from doseledger.errors import SegmentationError
from doseledger.segmentation.process import run_worker
from doseledger.segmentation.protocol import (
    CtRequest,
    Device,
    Mode,
    TotalsegmentatorRequest,
    WorkerRequest,
    WorkerResult,
)
from doseledger.segmentation.tasks import class_names
from doseledger.segmentation.weights import Weights, check_allowed, find_weights

_KEY: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


@dataclass(frozen=True)
class Request:
    """What to segment, by what, and where.

    Attributes
    ----------
    cts
        CTs in HU as NIfTI, by a key of letters, digits, ``-`` and ``_`` that names the label map.
    out
        Folder that gets ``KEY.nii.gz`` for every CT.
    weights_folder
        Folder with TotalSegmentator's weights and their register (`weights.find_weights`).
    data_origin
        Of the patient: weights that know only virtual patients are refused for any other.
    task
        One of `tasks.TASKS`.
    mode
        ``default`` (for ``total`` and ``body`` 1.5 mm), ``fast`` (3 mm; ``body`` 6 mm) or ``fastest``
        (6 mm).
    roi_subset
        Classes to keep of task ``total``, which is then run on a crop around them; empty for all.
    threads
        Threads of torch; the label map does not depend on them.
    scratch
        Folder for temporary files of the worker; None takes the system's.
    """

    cts: Mapping[str, Path]
    out: Path
    weights_folder: Path
    data_origin: str
    task: str = "total"
    mode: Mode = "default"
    roi_subset: tuple[str, ...] = ()
    device: Device = "cpu"
    threads: int = 1
    scratch: Path | None = None


@dataclass(frozen=True)
class Segmentation:
    """Label maps and how they came about.

    Attributes
    ----------
    labels
        NIfTI label maps (uint8, on the grid of their CT) by the keys of the request.
    label_names
        Class names by label: those that can occur.
    empty
        Keys of the CTs in which no voxel has a label; with a subset or a cropped task, as a rule the
        organs to crop to were not found.
    weights_sha256
        Hash of all networks that may have been loaded.
    virtual_only
        These networks know virtual patients only.
    cpu_s, peak_memory_mib
        Cost by key: processor time in seconds, and the process's highest memory up to then in MiB.
    versions
        Of TotalSegmentator, nnU-Net and torch.
    """

    labels: dict[str, Path]
    label_names: dict[int, str]
    empty: frozenset[str]
    weights_sha256: str
    virtual_only: bool
    cpu_s: dict[str, float]
    peak_memory_mib: dict[str, float]
    versions: dict[str, str]


def segment_cts(request: Request) -> Segmentation:
    """Segment all CTs of a request by TotalSegmentator, in one process that loads each network once.

    Raises
    ------
    SegmentationError
        Task, mode, subset, key, device or an image that is refused.
    WeightsError
        Weights that are missing, incomplete, changed, or not allowed for these data.
    WorkerFailedError
        The worker was killed or hit a defect.

    References
    ----------
    Wasserthal et al., Radiol Artif Intell 2023, doi:10.1148/ryai.230024.
    """
    names = class_names(request.task, request.roi_subset)
    weights = find_weights(request.weights_folder, request.task, request.mode, request.roi_subset)
    check_allowed(weights, request.data_origin)
    cts = ct_requests(request.cts, request.out)
    asked = WorkerRequest(
        weights_folder=weights.folder.resolve(),
        networks=tuple(network.folder for network in weights.networks),
        label_count=max(names),
        run=TotalsegmentatorRequest(task=request.task, mode=request.mode, roi_subset=request.roi_subset),
        device=request.device,
        threads=request.threads,
        cts=cts,
    )
    return segmentation(run_worker(asked, request.scratch), asked, names, weights)


def ct_requests(cts: Mapping[str, Path], out: Path) -> tuple[CtRequest, ...]:
    """Images and their label maps by absolute paths.

    Raises
    ------
    SegmentationError
        No image, a key that cannot name a file, or a file that is not there or not ``.nii.gz``.
    """
    if not cts:
        raise SegmentationError("there is no CT to segment", remedy="Give the time points a CT, or use contours.")
    for key, path in cts.items():
        if not _KEY.fullmatch(key):
            raise SegmentationError("the key of a CT cannot name a file", value=key, expected=_KEY.pattern)
        if not path.is_file() or not path.name.endswith(".nii.gz"):
            raise SegmentationError("the CT is not there, or not a .nii.gz", path=path.name)
    out.mkdir(parents=True, exist_ok=True)
    folder = out.resolve()
    return tuple(CtRequest(key=k, ct=path.resolve(), labels=folder / f"{k}.nii.gz") for k, path in cts.items())


def segmentation(result: WorkerResult, asked: WorkerRequest, names: dict[int, str], weights: Weights) -> Segmentation:
    """A worker's result with what only the parent knows."""
    return Segmentation(
        labels={ct.key: ct.labels for ct in asked.cts},
        label_names=names,
        empty=frozenset(ct.key for ct in result.cts if ct.empty),
        weights_sha256=weights.weights_sha256,
        virtual_only=weights.virtual_only,
        cpu_s={ct.key: ct.cpu_s for ct in result.cts},
        peak_memory_mib={ct.key: ct.peak_memory_mib for ct in result.cts},
        versions=result.versions,
    )
