"""The network and its training: a small U-Net at 6 mm on one CPU thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from numpy.typing import NDArray
from phantoms import CLASS_IDS, Case, Labels, Phantom, make_phantom
from scipy.ndimage import zoom
from torch import nn

from doseledger.phantom.design import Size
from doseledger.segmentation.demo_weights import ARCHITECTURE, CLIP_HU, MEAN_HU, PATCH, SD_HU, SPACING_MM

Image = NDArray[np.float32]
Patch = tuple[int, int, int]

_LOG: Final = logging.getLogger(__name__)

_BATCH_SEED: Final = 1
_RATE: Final = 4.0e-3
_WARM_UP: Final = 20
_WEIGHT_DECAY: Final = 1.0e-4
_GRADIENT_NORM: Final = 5.0
#: Weight of the running mean of the parameters, which is what is kept.
_MEMORY: Final = 0.98
#: Weight of the Dice loss of what the pipeline asks for first, over that of other classes.
_FIRST_WEIGHT: Final = 4.0
_FIRST: Final = ("liver", "spleen", "kidney_left", "kidney_right")
#: Share of the patches that lie about a voxel of some class: most of a CT is air and fat.
_ABOUT_ORGAN: Final = 0.7
#: Added to the voxels of each class, so that none is infinitely rare; and what damps the first outputs.
_PRIOR_VOXELS: Final = 1000
_HEAD_SCALE: Final = 0.3
#: Augmentation: factor on the intensities, shift, and noise of 6 mm voxels beside that of the scan.
_GAIN: Final = 0.05
_SHIFT_HU: Final = 8.0
_NOISE_HU: Final = 15.0


@dataclass(frozen=True)
class Volume:
    """A training CT in HU at 6 mm and its channels, ``(z, y, x)`` to the head, front and right as in nnU-Net."""

    hounsfield: Image
    channels: Labels


def resampled(phantom: Phantom, channel_of: Labels) -> Volume:
    """A phantom as TotalSegmentator hands it to nnU-Net: RAS axes, 6 mm by linear interpolation."""
    factors = [spacing / SPACING_MM for spacing in phantom.grid.spacing_mm]
    image, labels = phantom.hounsfield[:, ::-1, ::-1], phantom.labels[:, ::-1, ::-1]
    return Volume(
        zoom(image, factors, order=1, mode="nearest").astype(np.float32),
        channel_of[zoom(labels, factors, order=0, mode="nearest")],
    )


def training_cases(count: int, first_seed: int) -> list[Case]:
    """Patients of the three kinds of site in turn; one CT in six has the coarse voxels of size ``micro``."""
    sizes: tuple[Size, ...] = ("demo",) * 5 + ("micro",)
    return [Case(first_seed + n, "ABC"[n % 3], sizes[(n // 3) % 6], varied=True) for n in range(count)]


def training_volumes(cases: Sequence[Case], channel_of: Labels) -> list[Volume]:
    return [resampled(make_phantom(case), channel_of) for case in cases]


def build(channels: int) -> nn.Module:
    """The network of `ARCHITECTURE` with one output per channel."""
    kinds = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    return PlainConvUNet(input_channels=1, num_classes=channels, deep_supervision=False, **(ARCHITECTURE | kinds))


def train(volumes: Sequence[Volume], class_ids: Sequence[int], steps: int) -> dict[str, torch.Tensor]:
    """Train for `steps` and return the running mean of the parameters by name, each tensor once.

    Channel 0 is the background, channel n the class ``class_ids[n - 1]``.
    """
    torch.manual_seed(_BATCH_SEED)
    torch.use_deterministic_algorithms(True)
    network = build(len(class_ids) + 1)
    _begin_with_priors(network, volumes, len(class_ids) + 1)
    mean = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=_RATE, weight_decay=_WEIGHT_DECAY)
    weights = torch.ones(len(class_ids) + 1)
    weights[[1 + list(class_ids).index(CLASS_IDS[name]) for name in _FIRST]] = _FIRST_WEIGHT
    smooth_loss = float("nan")
    started_s = time.process_time()
    for step, (image, channels) in enumerate(_batches(volumes, steps)):
        for group in optimiser.param_groups:
            group["lr"] = _RATE * min(1.0, (step + 1) / _WARM_UP) * (0.5 + 0.5 * np.cos(np.pi * step / steps))
        loss = _loss(network(image), channels, weights)
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), _GRADIENT_NORM)
        optimiser.step()
        keep = min(_MEMORY, (step + 1) / (step + 11))
        with torch.no_grad():
            for name, value in network.named_parameters():
                mean[name].lerp_(value, 1.0 - keep)
        smooth_loss = loss.item() if step == 0 else 0.95 * smooth_loss + 0.05 * loss.item()
        if (step + 1) % 20 == 0:
            _LOG.info(
                "step %d of %d: loss %.3f, %.0f CPU-s", step + 1, steps, smooth_loss, time.process_time() - started_s
            )
    return mean


def _begin_with_priors(network: nn.Module, volumes: Sequence[Volume], channels: int) -> None:
    """Set the first outputs to how frequent the classes are: from equal ones a short training learns little else."""
    counts = sum(np.bincount(volume.channels.ravel(), minlength=channels) for volume in volumes) + _PRIOR_VOXELS
    frequency = torch.tensor(counts / counts.sum(), dtype=torch.float32)
    head = network.decoder.seg_layers[-1]
    with torch.no_grad():
        head.bias.copy_(frequency.log())
        head.weight.mul_(_HEAD_SCALE)


def _batches(volumes: Sequence[Volume], steps: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    rng = np.random.Generator(np.random.PCG64(_BATCH_SEED))
    # Long fields hold more patches.
    sizes = np.array([volume.channels.size for volume in volumes], float)
    for _ in range(steps):
        volume = volumes[int(rng.choice(len(volumes), p=sizes / sizes.sum()))]
        yield _patch(volume, PATCH, rng)


def _patch(volume: Volume, size: Patch, rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """A varied piece of a volume; beyond its ends is air, as in the tiles of nnU-Net with this normalisation."""
    image = np.full(size, MEAN_HU, np.float32)
    channels = np.zeros(size, np.int64)
    starts = _starts(volume, size, rng)
    ends = [min(start + side, full) for start, side, full in zip(starts, size, volume.channels.shape, strict=True)]
    source = tuple(slice(max(0, start), end) for start, end in zip(starts, ends, strict=True))
    target = tuple(slice(s.start - start, s.stop - start) for s, start in zip(source, starts, strict=True))
    piece = volume.hounsfield[source]
    piece = (piece + 1000.0) * rng.uniform(1.0 - _GAIN, 1.0 + _GAIN) - 1000.0 + rng.normal(0.0, _SHIFT_HU)
    noise = rng.standard_normal(piece.shape, np.float32) * np.float32(rng.uniform(0.0, _NOISE_HU))
    image[target], channels[target] = piece + noise, volume.channels[source]
    normalised = ((np.clip(image, *CLIP_HU) - MEAN_HU) / SD_HU).astype(np.float32)
    return torch.from_numpy(normalised)[None, None], torch.from_numpy(channels)[None]


def _starts(volume: Volume, size: Patch, rng: np.random.Generator) -> list[int]:
    """First voxel of a patch: about a voxel of one of the classes, or anywhere."""
    spare = [full - side for full, side in zip(volume.channels.shape, size, strict=True)]
    if rng.uniform() >= _ABOUT_ORGAN:
        return [int(rng.integers(min(0, room), max(0, room) + 1)) for room in spare]
    present = np.flatnonzero(np.bincount(volume.channels.ravel()))[1:]
    places = np.argwhere(volume.channels == rng.choice(present))
    middle = places[int(rng.integers(len(places)))] + rng.integers(-8, 9, 3)
    return [
        int(np.clip(place - side // 2, min(0, room), max(0, room)))
        for place, side, room in zip(middle, size, spare, strict=True)
    ]


def _loss(logits: torch.Tensor, channels: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross entropy, and one minus the weighted mean Dice of the classes in the patch."""
    count = logits.shape[1]
    log_p = logits.log_softmax(1).reshape(count, -1)
    truth = channels.reshape(-1)
    own = log_p.gather(0, truth[None])[0]
    voxels = torch.bincount(truth, minlength=count).float()
    shared = torch.zeros(count).index_add(0, truth, own.exp())
    dice = (2.0 * shared + 1.0) / (log_p.exp().sum(1) + voxels + 1.0)
    present = weights * (voxels > 0.0)
    present[0] = 0.0
    return -own.mean() + 1.0 - (dice * present).sum() / present.sum().clamp(min=1.0)


def as_half(parameters: dict[str, torch.Tensor]) -> dict[str, Any]:
    """The parameters as they are stored: half precision."""
    return {name: value.numpy().astype(np.float16) for name, value in parameters.items()}
