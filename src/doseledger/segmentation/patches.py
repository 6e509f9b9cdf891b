"""What is changed in TotalSegmentator and nnU-Net, inside a worker and nowhere else, and why.

Nothing that decides about a voxel is touched: the label maps are those of the command line. Every
patch goes through `replace`, which refuses if what it replaces is no longer there.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any, Final

from doseledger.errors import SegmentationError
from doseledger.segmentation.tasks import CHECKPOINT

_VARIANTS: Final = "nnunetv2.training.nnUNetTrainer.variants"
#: Modules of the trainers that checkpoints of the offered tasks name.
TRAINERS: Final = {
    "nnUNetTrainer": "nnunetv2.training.nnUNetTrainer.nnUNetTrainer",
    "nnUNetTrainerNoMirroring": f"{_VARIANTS}.data_augmentation.nnUNetTrainerNoMirroring",
    "nnUNetTrainer_DASegOrd0": f"{_VARIANTS}.data_augmentation.nnUNetTrainerDAOrd0",
    "nnUNetTrainer_DASegOrd0_NoMirroring": f"{_VARIANTS}.data_augmentation.nnUNetTrainerDAOrd0",
    "nnUNetTrainer_2000epochs_NoMirroring": f"{_VARIANTS}.training_length.nnUNetTrainer_Xepochs_NoMirroring",
    "nnUNetTrainer_4000epochs_NoMirroring": f"{_VARIANTS}.training_length.nnUNetTrainer_Xepochs_NoMirroring",
}
#: What `nnUNetPredictor.initialize_from_trained_model_folder` sets.
_LOADED: Final = (
    "plans_manager",
    "configuration_manager",
    "list_of_parameters",
    "network",
    "dataset_json",
    "trainer_name",
    "allowed_mirroring_axes",
    "label_manager",
)


def required(owner: Any, name: str) -> Any:
    """An attribute that must be there.

    Raises
    ------
    SegmentationError
        The library has no such attribute: it is not the version that was tested.
    """
    if not hasattr(owner, name):
        place = getattr(owner, "__name__", type(owner).__name__)
        raise SegmentationError(
            "the installed libraries are not those that were tested: what must be patched is missing",
            value=f"no {place}.{name}",
            remedy="Install the versions of envs/lock.txt.",
        )
    return getattr(owner, name)


def replace(owner: Any, name: str, new: object) -> Any:
    """Set an attribute that must be there, and return what it was."""
    original = required(owner, name)
    setattr(owner, name, new)
    return original


def forbid_network(attempts: list[str]) -> None:
    """Raise at once where Python code looks up a host or connects to one; note each attempt.

    By an audit hook rather than by proxies or patched functions: TotalSegmentator swallows the errors
    of its usage statistics, and a hook can be neither avoided nor removed.
    """

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event in ("socket.getaddrinfo", "socket.gethostbyname"):
            attempt = f"{event} {arguments[0]!r}"
        # Addresses of sockets within the machine (AF_UNIX) are text, those of networks are tuples.
        elif event in ("socket.connect", "socket.sendto") and isinstance(arguments[1], tuple):
            attempt = f"{event} {arguments[1]!r}"
        else:
            return
        attempts.append(attempt)
        raise ConnectionRefusedError(f"a segmentation worker uses no network: {attempt}")

    sys.addaudithook(hook)


def grant_threads(threads: int) -> None:
    """TotalSegmentator gives torch all cores of the machine, whatever the scheduler granted."""
    replace(multiprocessing, "cpu_count", lambda: threads)


def never_download(api: Any) -> None:
    """Jobs only read the weights folder: the original also creates it and deletes folders of old versions."""

    def download_pretrained_weights(task_id: object) -> None:
        """Nothing to do: the weights were verified, and a network that was not is refused when it is loaded."""

    replace(api, "download_pretrained_weights", download_pretrained_weights)


def import_trainers_directly(predict_module: Any) -> None:
    """Find a trainer by its name alone.

    nnU-Net imports one module after the other until one has the class, and so comes to timm and
    torchvision, which break if torchvision was built for another torch ("operator torchvision::nms
    does not exist"). Prediction needs neither.
    """

    def recursive_find_trainer_class_by_name(name: str) -> Any:
        if name in TRAINERS:
            return required(importlib.import_module(TRAINERS[name]), name)
        return search(name)

    search = replace(predict_module, "recursive_find_trainer_class_by_name", recursive_find_trainer_class_by_name)


def predict_in_process(predictor: Any) -> None:
    """No child processes: each costs seconds of imports, memory, and shared memory that containers lack."""
    required(predictor, "predict_from_files_sequential")

    def predict_from_files(
        self: Any,
        source: Any,
        target: Any,
        save_probabilities: bool = False,
        overwrite: bool = True,
        num_processes_preprocessing: int = 1,
        num_processes_segmentation_export: int = 1,
        folder_with_segs_from_prev_stage: str | None = None,
        num_parts: int = 1,
        part_id: int = 0,
        use_cropped_logits_resampling: bool = False,
    ) -> Any:
        return self.predict_from_files_sequential(
            source,
            target,
            save_probabilities,
            overwrite,
            folder_with_segs_from_prev_stage,
            use_cropped_logits_resampling=use_cropped_logits_resampling,
        )

    replace(predictor, "predict_from_files", predict_from_files)


def load_verified_networks_once(predictor: Any, allowed: Collection[Path]) -> None:
    """Keep each network for the next image, and load none whose files were not verified."""
    verified = {path.resolve() for path in allowed}
    held: dict[tuple[Path, str], dict[str, Any]] = {}

    def initialize_from_trained_model_folder(
        self: Any, model_training_output_dir: str, use_folds: Any, checkpoint_name: str = CHECKPOINT
    ) -> None:
        folder = Path(model_training_output_dir).resolve()
        if folder not in verified or checkpoint_name != CHECKPOINT:
            raise SegmentationError(
                "a network was to be loaded whose files were not verified",
                value=f"{folder.parent.name}/{folder.name}/{checkpoint_name}",
                expected=sorted(f"{path.parent.name}/{path.name}" for path in verified),
                remedy="Report this: the table of the networks that a task needs is not complete.",
            )
        key = (folder, str(use_folds))
        if key not in held:
            load(self, model_training_output_dir, use_folds, checkpoint_name)
            if len(self.list_of_parameters) == 1:
                # The network holds the same numbers: keep them once.
                self.list_of_parameters = [self.network.state_dict()]
            held[key] = {name: getattr(self, name) for name in _LOADED}
        for name, value in held[key].items():
            setattr(self, name, value)

    load = replace(predictor, "initialize_from_trained_model_folder", initialize_from_trained_model_folder)
