"""Untrained networks in the folder layout of the real weights, and small virtual CTs.

The networks have random numbers from a seed: their label maps mean nothing, and change with every
change of the image, of the resampling or of the tiling. That is what a test of identity needs.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from doseledger.geometry import Grid
from doseledger.io.nifti import write_image
from doseledger.phantom.imaging import hounsfield
from doseledger.phantom.patients import draw_patient
from doseledger.phantom.view import View
from doseledger.segmentation.tasks import Network, class_names, networks_needed

FEATURES: Final = (4, 8)
PATCH: Final = (32, 32, 32)
#: Output of a class that must never win; nnU-Net sums weighted outputs in half precision, so not more.
NEVER: Final = -60.0
_ARCHITECTURE: Final = "dynamic_network_architectures.architectures.unet.PlainConvUNet"


def write_tiny_weights(
    folder: Path,
    *,
    modes: Sequence[str] = ("fast", "fastest"),
    classes: Sequence[str] = (),
    trainer: str | None = None,
    seed: int = 1,
) -> Path:
    """Networks of task ``total`` for `modes`; only `classes` can win, all if none are named.

    Checkpoints name the trainer of the real weights, or `trainer`: where torchvision does not fit torch,
    the command finds the latter only if it is ``nnUNetTrainer``, which it tries first.
    """
    spacing_mm = {"fast": 3.0, "fastest": 6.0}
    names = class_names("total")
    for number, mode in enumerate(modes):
        (network,) = networks_needed("total", mode)  # type: ignore[arg-type]
        write_tiny_network(
            folder, network, names, spacing_mm[mode], classes=classes, trainer=trainer, seed=seed + number
        )
    return folder


def write_tiny_network(
    folder: Path,
    network: Network,
    names: dict[int, str],
    spacing_mm: float,
    *,
    classes: Sequence[str] = (),
    trainer: str | None = None,
    seed: int = 1,
) -> Path:
    """One model folder: plans, data set and a checkpoint."""
    import torch

    model = folder / network.folder
    (model / "fold_0").mkdir(parents=True)
    (model / "plans.json").write_text(json.dumps(_plans(network.dataset, spacing_mm)))
    labels = {"background": 0} | {name: label for label, name in names.items()}
    dataset = {"channel_names": {"0": "CT"}, "labels": labels, "numTraining": 1, "file_ending": ".nii.gz"}
    (model / "dataset.json").write_text(json.dumps(dataset))
    live = [0, *(label for label, name in names.items() if not classes or name in classes)]
    checkpoint = {
        "network_weights": _random_network(max(names) + 1, live, seed).state_dict(),
        "trainer_name": trainer or network.folder.split("/")[-1].split("__")[0],
        "init_args": {"configuration": "3d_fullres"},
        "inference_allowed_mirroring_axes": (0, 1, 2),
    }
    torch.save(checkpoint, model / "fold_0" / "checkpoint_final.pth")
    return model


def write_small_ct(
    path: Path, *, spacing_mm: float = 8.0, seed: int = 1, shape: tuple[int, int, int] = (16, 24, 32)
) -> Path:
    """A CT of a virtual torso around its middle."""
    z, y, x = (-(n - 1) / 2 * spacing_mm for n in shape)
    grid = Grid(shape, (spacing_mm,) * 3, (x, y, z))
    image = hounsfield(draw_patient(seed, "A", "P1").torso, View(grid))
    write_image(path, image.round(), grid, dtype="int16")
    return path


def _random_network(outputs: int, live: Sequence[int], seed: int) -> Any:
    import torch
    from dynamic_network_architectures.architectures.unet import PlainConvUNet

    torch.manual_seed(seed)
    kinds = {"conv_op": torch.nn.Conv3d, "norm_op": torch.nn.InstanceNorm3d, "nonlin": torch.nn.LeakyReLU}
    network = PlainConvUNet(input_channels=1, num_classes=outputs, deep_supervision=False, **(_architecture() | kinds))
    head = network.decoder.seg_layers[-1]
    dead = [channel for channel in range(outputs) if channel not in live]
    with torch.no_grad():
        head.bias[dead] = NEVER
    return network


def _architecture() -> dict[str, Any]:
    stages = len(FEATURES)
    return {
        "n_stages": stages,
        "features_per_stage": list(FEATURES),
        "conv_op": "torch.nn.modules.conv.Conv3d",
        "kernel_sizes": [[3, 3, 3]] * stages,
        "strides": [[1, 1, 1]] + [[2, 2, 2]] * (stages - 1),
        "n_conv_per_stage": [1] * stages,
        "n_conv_per_stage_decoder": [1] * (stages - 1),
        "conv_bias": True,
        "norm_op": "torch.nn.modules.instancenorm.InstanceNorm3d",
        "norm_op_kwargs": {"eps": 1e-5, "affine": True},
        "dropout_op": None,
        "dropout_op_kwargs": None,
        "nonlin": "torch.nn.LeakyReLU",
        "nonlin_kwargs": {"inplace": True},
    }


def _plans(dataset: str, spacing_mm: float) -> dict[str, Any]:
    resampling = {"is_seg": False, "force_separate_z": False}
    configuration = {
        "data_identifier": "nnUNetPlans_3d_fullres",
        "preprocessor_name": "DefaultPreprocessor",
        "batch_size": 2,
        "patch_size": list(PATCH),
        "median_image_size_in_voxels": list(PATCH),
        "spacing": [spacing_mm] * 3,
        "normalization_schemes": ["CTNormalization"],
        "use_mask_for_norm": [False],
        "resampling_fn_data": "resample_torch_fornnunet",
        "resampling_fn_seg": "resample_torch_fornnunet",
        "resampling_fn_data_kwargs": resampling,
        "resampling_fn_seg_kwargs": resampling | {"is_seg": True},
        "resampling_fn_probabilities": "resample_torch_fornnunet",
        "resampling_fn_probabilities_kwargs": resampling,
        "architecture": {
            "network_class_name": _ARCHITECTURE,
            "arch_kwargs": _architecture(),
            "_kw_requires_import": ["conv_op", "norm_op", "dropout_op", "nonlin"],
        },
        "batch_dice": True,
    }
    intensities = {
        "max": 3071.0,
        "mean": -150.0,
        "median": -150.0,
        "min": -1024.0,
        "percentile_00_5": -1000.0,
        "percentile_99_5": 600.0,
        "std": 350.0,
    }
    return {
        "dataset_name": dataset,
        "plans_name": "nnUNetPlans",
        "original_median_spacing_after_transp": [spacing_mm] * 3,
        "original_median_shape_after_transp": list(PATCH),
        "image_reader_writer": "NibabelIOWithReorient",
        "transpose_forward": [0, 1, 2],
        "transpose_backward": [0, 1, 2],
        "experiment_planner_used": "ExperimentPlanner",
        "label_manager": "LabelManager",
        "foreground_intensity_properties_per_channel": {"0": intensities},
        "configurations": {"3d_fullres": configuration},
    }
