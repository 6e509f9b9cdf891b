"""Back end ``nnunet``: any nnU-Net v2 model folder whose classes have names, by the same worker."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from doseledger.errors import WeightsError
from doseledger.segmentation.process import run_worker
from doseledger.segmentation.protocol import Device, NnunetRequest, WorkerRequest
from doseledger.segmentation.tasks import CHECKPOINT, Network
from doseledger.segmentation.totalsegmentator import Segmentation, ct_requests, segmentation
from doseledger.segmentation.weights import Weights, check_allowed, verify

#: What `doseledger` writes, and so the only ending of files that a model may expect.
FILE_ENDING: Final = ".nii.gz"


@dataclass(frozen=True)
class ModelRequest:
    """What to segment by which model.

    Attributes
    ----------
    cts, out, data_origin, device, threads, scratch
        As in `totalsegmentator.Request`.
    model_folder
        Folder ``TRAINER__PLANS__CONFIGURATION`` with ``plans.json``, ``dataset.json`` and ``fold_*``; the
        register of its hashes lies beside it, in the folder above (`weights.register_weights`).
    mirroring
        Average predictions over mirrored images, as the commands of nnU-Net do unless told not to.
    """

    cts: Mapping[str, Path]
    out: Path
    model_folder: Path
    data_origin: str
    mirroring: bool = True
    device: Device = "cpu"
    threads: int = 1
    scratch: Path | None = None


def segment_cts_by_model(request: ModelRequest) -> Segmentation:
    """Segment all CTs by one nnU-Net model, averaging all its trained folds.

    Raises
    ------
    SegmentationError, WeightsError, WorkerFailedError
        As `totalsegmentator.segment_cts`; or the model has regions, several channels or other files.
    """
    weights, names = find_model(request.model_folder, request.data_origin)
    (network,) = weights.networks
    asked = WorkerRequest(
        weights_folder=weights.folder,
        networks=(network.folder,),
        label_count=max(names),
        run=NnunetRequest(folds=network.folds, mirroring=request.mirroring),
        device=request.device,
        threads=request.threads,
        cts=ct_requests(request.cts, request.out),
    )
    return segmentation(run_worker(asked, request.scratch), asked, names, weights)


def find_model(model_folder: Path, data_origin: str) -> tuple[Weights, dict[int, str]]:
    """Verified weights of a model with all its trained folds, and its class names by label.

    Raises
    ------
    WeightsError
        No trained fold; files missing, not registered or changed; not allowed for these data; or a model
        that `model_classes` refuses.
    """
    folder = model_folder.resolve()
    folds = tuple(sorted(p.parent.name.removeprefix("fold_") for p in folder.glob(f"fold_*/{CHECKPOINT}")))
    if not folds:
        raise WeightsError(
            "the model folder has no trained fold",
            path=folder.name,
            expected=f"fold_*/{CHECKPOINT}",
            remedy="Point the config at the folder TRAINER__PLANS__CONFIGURATION of a trained model.",
        )
    weights = verify(folder.parent, (Network(None, folder.name, folds),))
    check_allowed(weights, data_origin)
    return weights, model_classes(folder)


def model_classes(folder: Path) -> dict[int, str]:
    """Class names by label from a model's ``dataset.json``.

    Raises
    ------
    WeightsError
        Labels that are regions of labels, more than one image channel, or another file ending.
    """
    path = folder / "dataset.json"
    dataset: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    problems = {
        "file_ending": dataset.get("file_ending") != FILE_ENDING,
        "channel_names": len(dataset.get("channel_names", ())) != 1,
        "labels": not all(type(label) is int for label in dataset.get("labels", {"": None}).values()),
    }
    for tag, wrong in problems.items():
        if wrong:
            raise WeightsError(
                "the model is not one that labels single CTs",
                path=f"{folder.name}/dataset.json",
                tag=tag,
                value=dataset.get(tag),
                remedy="Use a model with one channel (CT), plain labels and files .nii.gz.",
            )
    return {label: name for name, label in dataset["labels"].items() if label != 0}
