"""The process that runs the networks: ``python -m doseledger.segmentation.worker REQUEST.json``.

It reads a `WorkerRequest` and writes a `WorkerResult` beside it; what the libraries print goes to its output.
All images of a request share the loaded networks. torch, nnU-Net and TotalSegmentator are imported here
only, and inside functions: they take their folders and thread counts from the environment when they
are imported.
"""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import nibabel as nib
import numpy as np
from nibabel.filebasedimages import ImageFileError
from numpy.typing import NDArray

from doseledger.errors import SegmentationError
from doseledger.segmentation.patches import (
    forbid_network,
    grant_threads,
    import_trainers_directly,
    load_verified_networks_once,
    never_download,
    predict_in_process,
)
from doseledger.segmentation.protocol import (
    RESULT,
    CtRequest,
    CtResult,
    NnunetRequest,
    Refusal,
    TotalsegmentatorRequest,
    WorkerRequest,
    WorkerResult,
)
from doseledger.segmentation.tasks import CHECKPOINT, check_version

#: A worker looks this often whether the process that started it is still there.
PARENT_CHECK_S: Final = 1.0
#: TotalSegmentator warns of, and goes on with, an affine that differs by more than this, in mm.
AFFINE_TOLERANCE_MM: Final = 1.0e-5
#: nnU-Net's own overlap of neighbouring tiles, as a share of the tile.
TILE_STEP: Final = 0.5
_LIBRARIES: Final = ("TotalSegmentator", "nnunetv2", "torch")

Segmenter = Callable[[Path, Path], None]


def main(request_path: Path) -> None:
    """Do what a request says; whatever happens is in the result file."""
    request = WorkerRequest.read(request_path)
    end_with_parent()
    attempts: list[str] = []
    forbid_network(attempts)
    done: list[CtResult] = []
    ending: dict[str, Any] = {"status": "ok"}
    try:
        segment = _segmenter(request)
        for ct in request.cts:
            done.append(_run(segment, ct, request.label_count))
    except SegmentationError as error:
        ending = {"status": "refused", "refusal": _refusal(error)}
    except (Exception, SystemExit) as error:  # SystemExit: how TotalSegmentator reports its errors
        traceback.print_exc()
        ending = {"status": "failed", "message": f"{type(error).__name__}: {error}"}
    if ending["status"] != "ok" and len(done) < len(request.cts):
        text = ending["refusal"].what if "refusal" in ending else ending["message"]
        done.append(CtResult(key=request.cts[len(done)].key, cpu_s=0.0, peak_memory_mib=_peak_memory_mib(), error=text))
    versions = {name: version(name) for name in _LIBRARIES}
    result = WorkerResult(**ending, cts=tuple(done), network_attempts=tuple(attempts), versions=versions)
    result.write(request_path.with_name(RESULT))


def _segmenter(request: WorkerRequest) -> Segmenter:
    check_version()
    import torch

    if request.device == "gpu" and not torch.cuda.is_available():
        # TotalSegmentator would go on without, for hours.
        raise SegmentationError(
            "a GPU is asked for, and torch sees none",
            tag="device",
            value="gpu",
            remedy="Set device to cpu, or run where a GPU and a torch built for it are.",
        )
    torch.set_num_threads(request.threads)
    if isinstance(request.run, TotalsegmentatorRequest):
        return _totalsegmentator(request, request.run)
    return _nnunet(request, request.run)


def _totalsegmentator(request: WorkerRequest, run: TotalsegmentatorRequest) -> Segmenter:
    grant_threads(request.threads)
    from totalsegmentator.config import setup_nnunet

    setup_nnunet()  # nnU-Net takes its folders from the environment when it is imported
    import totalsegmentator.nnunet as tool
    import totalsegmentator.python_api as api

    _patch_nnunet(tool.nnunet_predict_from_raw_data, request)
    predict_in_process(tool.nnUNetPredictor)
    never_download(api)

    def segment(ct: Path, labels: Path) -> None:
        api.totalsegmentator(
            ct,
            labels,
            ml=True,
            task=run.task,
            fast=run.mode == "fast",
            fastest=run.mode == "fastest",
            roi_subset=list(run.roi_subset) or None,
            device=request.device,
            nr_thr_resamp=1,
            nr_thr_saving=1,
            quiet=True,
        )

    return segment


def _nnunet(request: WorkerRequest, run: NnunetRequest) -> Segmenter:
    import nnunetv2.inference.predict_from_raw_data as prediction
    import torch

    _patch_nnunet(prediction, request)
    predictor = prediction.nnUNetPredictor(
        tile_step_size=TILE_STEP,
        use_mirroring=run.mirroring,
        device=torch.device("cuda" if request.device == "gpu" else "cpu"),
        allow_tqdm=False,
    )
    folds = [fold if fold == "all" else int(fold) for fold in run.folds]
    predictor.initialize_from_trained_model_folder(
        str(request.weights_folder / request.networks[0]), folds, checkpoint_name=CHECKPOINT
    )

    def segment(ct: Path, labels: Path) -> None:
        # nnU-Net adds the ending of the model's files, which the parent has checked to be .nii.gz.
        predictor.predict_from_files_sequential([[str(ct)]], [str(labels).removesuffix(".nii.gz")])

    return segment


def _patch_nnunet(prediction: Any, request: WorkerRequest) -> None:
    import_trainers_directly(prediction)
    load_verified_networks_once(
        prediction.nnUNetPredictor, [request.weights_folder / network for network in request.networks]
    )


def _run(segment: Segmenter, ct: CtRequest, label_count: int) -> CtResult:
    start = time.process_time()
    affine, shape = checked_ct(ct.ct)
    segment(ct.ct, ct.labels)
    labels = checked_labels(ct.labels, affine, shape, label_count)
    return CtResult(
        key=ct.key,
        cpu_s=round(time.process_time() - start, 2),
        peak_memory_mib=_peak_memory_mib(),
        empty=not labels.any(),
    )


def checked_ct(path: Path) -> tuple[NDArray[np.float64], tuple[int, ...]]:
    """Affine and shape of a CT that the networks can take: they give an empty mask where a voxel is not a number."""
    try:
        image: Any = nib.load(path)
        voxels = np.asanyarray(image.dataobj)
    except (ImageFileError, OSError, EOFError, ValueError) as error:
        kind = type(error).__name__
        raise SegmentationError(f"the CT cannot be read as NIfTI ({kind})", path=path.name) from error
    if voxels.ndim != 3:
        raise SegmentationError("the CT is not three-dimensional", path=path.name, value=str(voxels.shape))
    if voxels.dtype.kind not in "iuf":
        raise SegmentationError("the CT does not hold numbers", path=path.name, value=str(voxels.dtype))
    if not np.isfinite(voxels).all():
        raise SegmentationError("the CT has voxels that are not finite", path=path.name)
    return image.affine, voxels.shape


def checked_labels(
    path: Path, affine: NDArray[np.float64], shape: tuple[int, ...], label_count: int
) -> NDArray[np.integer[Any]]:
    """Labels on the CT's own grid: TotalSegmentator prints a warning where they are not, and goes on."""
    image: Any = nib.load(path)
    labels: NDArray[np.integer[Any]] = np.asanyarray(image.dataobj)
    if labels.shape != shape or np.abs(image.affine - affine).max() > AFFINE_TOLERANCE_MM:
        raise SegmentationError(
            "the label map does not lie on the grid of the CT", path=path.name, value=labels.shape, expected=shape
        )
    if labels.max(initial=0) > label_count:
        raise SegmentationError(
            "the label map has labels without a name",
            path=path.name,
            value=int(labels.max()),
            expected=f"up to {label_count}",
            remedy="The weights do not belong to this task: fetch them again.",
        )
    return labels


def _refusal(error: SegmentationError) -> Refusal:
    value, expected = (None if v is None else str(v) for v in (error.value, error.expected))
    return Refusal(what=error.what, path=error.path, tag=error.tag, value=value, expected=expected, remedy=error.advice)


def _peak_memory_mib() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Linux counts in kiB, macOS in bytes (getrusage(2) of each).
    return round(peak / (1024 * 1024 if sys.platform == "darwin" else 1024), 1)


def end_with_parent() -> None:
    """End when the parent is gone: a killed job must leave no process that still holds gigabytes."""
    parent = os.getppid()

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(PARENT_CHECK_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
