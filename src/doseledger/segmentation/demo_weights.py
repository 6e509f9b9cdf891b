"""Demo weights: a small network that knows virtual torsos only, in TotalSegmentator's own folder layout.

They let the demo and the tests run the real TotalSegmentator. One network is stored, once; it serves as
model ``fastest`` (6 mm, also the crop model of subsets) and as model ``fast``. `weights.check_allowed`
keeps it away from patients. ``recipes/demo_weights`` trains it.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from importlib.resources.abc import Traversable
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from doseledger.errors import WeightsError
from doseledger.segmentation.tasks import CHECKPOINT, PLANS, Network, class_names, networks_needed
from doseledger.segmentation.weights import DATA_ORIGIN, DEMO_MARK, VIRTUAL, register_weights

TASK: Final = "total"
#: Models that the network stands for.
MODES: Final = ("fastest", "fast")
NETWORK_FILE: Final = "network.npz"
#: The network sees voxels of this edge, whatever TotalSegmentator resamples to first, mm.
SPACING_MM: Final = 6.0
#: Size of the tiles ``(z, y, x)``, the same in training: the normalisation layers see the same mix of body and air.
PATCH: Final = (48, 40, 56)
#: CT numbers are cut to this range. Air becomes zero: nnU-Net fills tiles beyond the ends of a CT with zero.
CLIP_HU: Final = (-1000.0, 600.0)
MEAN_HU: Final = -1000.0
SD_HU: Final = 400.0
#: Output of classes that the network does not know. nnU-Net sums weighted outputs in half precision, so not more.
NEVER: Final = -60.0

_STAGES: Final = 4
#: Arguments of the network as ``plans.json`` states them.
ARCHITECTURE: Final[dict[str, Any]] = {
    "n_stages": _STAGES,
    "features_per_stage": [16, 32, 64, 128],
    "conv_op": "torch.nn.modules.conv.Conv3d",
    "kernel_sizes": [[3, 3, 3]] * _STAGES,
    "strides": [[1, 1, 1]] + [[2, 2, 2]] * (_STAGES - 1),
    "n_conv_per_stage": [1] + [2] * (_STAGES - 1),
    "n_conv_per_stage_decoder": [1] * (_STAGES - 1),
    "conv_bias": True,
    "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
    "norm_op_kwargs": {"eps": 1e-5, "affine": True},
    "dropout_op": None,
    "dropout_op_kwargs": None,
    "nonlin": "torch.nn.LeakyReLU",
    "nonlin_kwargs": {"inplace": True},
}
_HEAD: Final = "decoder.seg_layers."


def demo_record() -> dict[str, Any]:
    """What the demo weights are: ``data_origin``, recipe, seed, SHA-256 of the network file, classes."""
    record: dict[str, Any] = json.loads((_stored() / DEMO_MARK).read_text(encoding="utf-8"))
    return record


def demo_parameters() -> dict[str, NDArray[np.float16]]:
    """The numbers of the network by parameter name.

    Raises
    ------
    WeightsError
        The file is not the one that was trained.
    """
    content = (_stored() / NETWORK_FILE).read_bytes()
    found, expected = hashlib.sha256(content).hexdigest(), demo_record()["sha256"]
    if found != expected:
        raise WeightsError(
            "the demo weights of this installation are damaged",
            path=NETWORK_FILE,
            value=found,
            expected=expected,
            remedy="Install doseledger again.",
        )
    with np.load(BytesIO(content), allow_pickle=False) as stored:
        return {name: np.asarray(stored[name], np.float16) for name in stored.files}


def unpack_demo_weights(folder: Path) -> Path:
    """Write the demo weights into an empty or new folder as TotalSegmentator expects them, and register them.

    Returns
    -------
    pathlib.Path
        The folder, for ``TOTALSEG_WEIGHTS_PATH`` or the weights folder of a config: task ``total`` in the
        modes ``fast`` and ``fastest``, with or without a subset.

    Raises
    ------
    WeightsError
        The stored file is damaged, or the folder holds other weights under the same names.
    """
    state = network_state(demo_parameters(), list(demo_record()["classes"].values()))
    for mode in MODES:
        for network in networks_needed(TASK, mode):
            _write_model(folder / network.folder, network, state)
    (folder / DEMO_MARK).write_text(json.dumps(demo_record(), indent=1) + "\n", encoding="utf-8")
    register_weights(folder)
    return folder


def network_state(parameters: dict[str, NDArray[np.float16]], class_ids: list[int]) -> dict[str, Any]:
    """State of the network with an output for every class of the task, in half precision.

    Parameters
    ----------
    class_ids
        Classes of the outputs 1, 2, ... of the stored network; its output 0 is the background.
    """
    # A network is only unpacked where it is used: what merely imports this module needs no torch.
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    count = max(class_names(TASK)) + 1
    kinds = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    network = PlainConvUNet(input_channels=1, num_classes=count, deep_supervision=False, **(ARCHITECTURE | kinds))
    known = [0, *class_ids]
    with torch.no_grad():
        for name, value in network.named_parameters():
            stored = torch.from_numpy(parameters[name].astype(np.float32))
            if name.startswith(_HEAD):
                value.fill_(NEVER if name.endswith("bias") else 0.0)
                value[known] = stored
            else:
                value.copy_(stored)
    # The decoder refers to the encoder: the tensors of both names are the same, and stored once.
    state: dict[str, Any] = network.half().state_dict()
    return state


def _write_model(model: Path, network: Network, state: dict[str, Any]) -> None:
    import torch

    (model / "fold_0").mkdir(parents=True, exist_ok=True)
    labels = {"background": 0} | {name: label for label, name in class_names(TASK).items()}
    dataset = {
        "channel_names": {"0": "CT"},
        "labels": labels,
        "numTraining": demo_record()["patients"],
        "file_ending": ".nii.gz",
        "overwrite_image_reader_writer": "NibabelIOWithReorient",
        DATA_ORIGIN: VIRTUAL,
    }
    for name, content in (("plans.json", _plans(network.dataset)), ("dataset.json", dataset)):
        (model / name).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    checkpoint = {
        "network_weights": state,
        # nnU-Net finds this one without importing the others, which need torchvision.
        "trainer_name": "nnUNetTrainer",
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": None,
    }
    torch.save(checkpoint, model / "fold_0" / CHECKPOINT)


def _plans(dataset: str) -> dict[str, Any]:
    resampling = {"is_seg": False, "force_separate_z": False}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 1,
        "patch_size": list(PATCH),
        "median_image_size_in_voxels": list(PATCH),
        "spacing": [SPACING_MM] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_torch_fornnunet",
        "resampling_fn_seg": "resample_torch_fornnunet",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True},
        "resampling_fn_probabilities": "resample_torch_fornnunet",
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": {
            "network_class_name": "dynamic_network_architectures.architectures.unet.PlainConvUNet",
            "arch_kwargs": ARCHITECTURE,
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }
    low, high = CLIP_HU
    intensities = {"percentile_00_5": low, "percentile_99_5": high, "mean": MEAN_HU, "median": MEAN_HU, "std": SD_HU}
    return {
        "dataset_name": dataset,
        "plans_name": PLANS,
        "original_median_spacing_after_transp": [SPACING_MM] * 3,
        "original_median_shape_after_transp": list(PATCH),
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities | {"min": -1024.0, "max": 3071.0}},
        "configurations": {"3d_fullres": configuration},
    }


def _stored() -> Traversable:
    return files("doseledger.data") / "demo_weights"
