"""The network and its training: a small U-Net at 6 mm on one CPU thread."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from dynamic_network_architectures.architectures.unet import PlainConvUNet
from numpy.typing import NDArray
from phantoms import CLASS_IDS, LEARNED, Case, Labels, Phantom, make_phantom
from scipy.ndimage import zoom
from torch import nn

from doseledger.phantom.design import Size
from doseledger.segmentation.demo_weights import ARCHITECTURE, CLIP_HU, MEAN_HU, PATCH, SD_HU, SPACING_MM

Image = NDArray[np.float32]
Patch = tuple[int, int, int]

_LOG: Final = logging.getLogger(__name__)

#: A voxel that a channel has to itself.
WHOLE: Final = 240
_SEED: Final = 1
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
class Phase:
    """Steps of training in which the rate falls from `rate` to zero, and the classes that patches lie about."""

    steps: int
    rate: float
    about: tuple[str, ...]


#: First everything, then, again from a high rate, what comes out worst.
PHASES: Final = (Phase(4200, 3.0e-3, LEARNED), Phase(1400, 2.0e-3, ("spleen", "kidney_left", "kidney_right")))


@dataclass(frozen=True)
class Volume:
    """A training CT in HU at 6 mm, ``(z, y, x)`` to the head, front and right as in nnU-Net.

    Attributes
    ----------
    shares
        Share of each channel in each voxel, ``(channel, z, y, x)``, times `WHOLE`.
    """

    hounsfield: Image
    shares: Labels


def resampled(phantom: Phantom, channel_of: Labels) -> Volume:
    """A phantom as TotalSegmentator hands it to nnU-Net: RAS axes, 6 mm by linear interpolation."""
    factors = [spacing / SPACING_MM for spacing in phantom.grid.spacing_mm]
    image = zoom(phantom.hounsfield[:, ::-1, ::-1], factors, order=1, mode="nearest").astype(np.float32)
    channels = channel_of[phantom.labels[:, ::-1, ::-1]]
    shares = [_shares(channels == channel, image.shape) for channel in range(int(channel_of.max()) + 1)]
    return Volume(image, np.stack(shares))


def _shares(mask: NDArray[np.bool_], shape: Sequence[int]) -> Labels:
    """Share of a mask among the voxels of the CT that a voxel of the network gives its label to, times `WHOLE`.

    TotalSegmentator brings labels back by the nearest voxel. With ``s`` the chosen voxels and ``f`` these shares,
    ``2 sum(s f) / (sum(s) + sum(f))`` is therefore the Dice on the CT itself, and what the loss is made of.
    """
    shares = mask.astype(np.float32)
    for axis, (fine, coarse) in enumerate(zip(mask.shape, shape, strict=True)):
        if fine >= coarse:
            nearest = np.rint(np.arange(fine) * (coarse - 1) / (fine - 1)).astype(int)
            counts = np.bincount(nearest, minlength=coarse).reshape([-1 if n == axis else 1 for n in range(3)])
            shares = np.add.reduceat(shares, np.searchsorted(nearest, np.arange(coarse)), axis) / counts
        else:  # a CT of coarser voxels than the network's
            shares = shares.take(np.rint(np.arange(coarse) * (fine - 1) / (coarse - 1)).astype(int), axis)
    return np.rint(WHOLE * shares).astype(np.uint8)


def training_cases(count: int, first_seed: int) -> list[Case]:
    """Patients of the three kinds of site in turn; one CT in six has the coarse voxels of size ``micro``."""
    sizes: tuple[Size, ...] = ("demo",) * 5 + ("micro",)
    return [Case(first_seed + n, "ABC"[n % 3], sizes[(n // 3) % 6], varied=True) for n in range(count)]


def training_volumes(cases: Sequence[Case], channel_of: Labels) -> list[Volume]:
    return [resampled(make_phantom(case), channel_of) for case in cases]


def channels_of(class_ids: Sequence[int]) -> Labels:
    """Channel of each label; 0, the background, for all that is not learned."""
    channel_of = np.zeros(256, np.uint8)
    channel_of[list(class_ids)] = np.arange(1, len(class_ids) + 1)
    return channel_of


def build(channels: int) -> nn.Module:
    """The network of `ARCHITECTURE` with one output per channel."""
    kinds = {"conv_op": nn.Conv3d, "norm_op": nn.InstanceNorm3d, "nonlin": nn.LeakyReLU}
    return PlainConvUNet(input_channels=1, num_classes=channels, deep_supervision=False, **(ARCHITECTURE | kinds))


def train(
    volumes: Sequence[Volume], class_ids: Sequence[int], phases: Sequence[Phase] = PHASES
) -> dict[str, NDArray[np.float16]]:
    """Train and return the parameters by name, each tensor once, as they are stored.

    Channel 0 is the background, channel n the class ``class_ids[n - 1]``.
    """
    torch.manual_seed(_SEED)
    torch.use_deterministic_algorithms(True)
    # Nothing reads memory before it is written; filling it costs a tenth of the time.
    torch.utils.deterministic.fill_uninitialized_memory = False
    # Channels last and products in bfloat16: more than twice the steps in the same time, where the processor has them.
    network = build(len(class_ids) + 1).to(memory_format=torch.channels_last_3d)
    _begin_with_priors(network, volumes, len(class_ids) + 1)
    for number, phase in enumerate(phases):
        stored = train_phase(network, volumes, class_ids, phase, seed=_SEED + number)
        set_parameters(network, stored)
    return stored


def train_phase(
    network: nn.Module, volumes: Sequence[Volume], class_ids: Sequence[int], phase: Phase, *, seed: int
) -> dict[str, NDArray[np.float16]]:
    """Train a network further and return the running mean of its parameters in half precision."""
    mean = {name: value.detach().clone() for name, value in network.named_parameters()}
    optimiser = torch.optim.AdamW(network.parameters(), lr=phase.rate, weight_decay=_WEIGHT_DECAY)
    channel = {number: n for n, number in enumerate(class_ids, 1)}
    weights = torch.ones(len(class_ids) + 1)
    weights[[channel[CLASS_IDS[name]] for name in _FIRST]] = _FIRST_WEIGHT
    about = sorted(channel[CLASS_IDS[name]] for name in phase.about)
    smooth_loss = float("nan")
    started_s = time.process_time()
    for step, (image, shares) in enumerate(_batches(volumes, phase.steps, about, seed)):
        for group in optimiser.param_groups:
            warm = min(1.0, (step + 1) / _WARM_UP)
            group["lr"] = phase.rate * warm * (0.5 + 0.5 * np.cos(np.pi * step / phase.steps))
        with torch.autocast("cpu", torch.bfloat16):
            logits = network(image.to(memory_format=torch.channels_last_3d))
        loss = _loss(logits.float(), shares, weights)
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
            spent_s = time.process_time() - started_s
            _LOG.info("step %d of %d: loss %.3f, %.0f CPU-s", step + 1, phase.steps, smooth_loss, spent_s)
    return {name: value.numpy().astype(np.float16) for name, value in mean.items()}


def set_parameters(network: nn.Module, stored: Mapping[str, NDArray[np.float16]]) -> None:
    with torch.no_grad():
        for name, value in network.named_parameters():
            value.copy_(torch.from_numpy(stored[name].astype(np.float32)))


def _begin_with_priors(network: nn.Module, volumes: Sequence[Volume], channels: int) -> None:
    """Set the first outputs to how frequent the classes are: from equal ones a short training learns little else."""
    counts = sum(volume.shares.sum((1, 2, 3)) for volume in volumes) / WHOLE + _PRIOR_VOXELS
    frequency = torch.tensor(counts / counts.sum(), dtype=torch.float32)
    head = network.decoder.seg_layers[-1]
    with torch.no_grad():
        head.bias.copy_(frequency.log())
        head.weight.mul_(_HEAD_SCALE)


def _batches(
    volumes: Sequence[Volume], steps: int, about: Sequence[int], seed: int
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    rng = np.random.Generator(np.random.PCG64(seed))
    # Long fields hold more patches.
    sizes = np.array([volume.hounsfield.size for volume in volumes], float)
    for _ in range(steps):
        volume = volumes[int(rng.choice(len(volumes), p=sizes / sizes.sum()))]
        yield _patch(volume, PATCH, about, rng)


def _patch(
    volume: Volume, size: Patch, about: Sequence[int], rng: np.random.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """A varied piece of a volume; beyond its ends is air, as in the tiles of nnU-Net with this normalisation."""
    image = np.full(size, MEAN_HU, np.float32)
    shares = np.zeros((len(volume.shares), *size), np.float32)
    shares[0] = 1.0
    starts = _starts(volume, size, about, rng)
    ends = [min(start + side, full) for start, side, full in zip(starts, size, volume.hounsfield.shape, strict=True)]
    source = tuple(slice(max(0, start), end) for start, end in zip(starts, ends, strict=True))
    target = tuple(slice(s.start - start, s.stop - start) for s, start in zip(source, starts, strict=True))
    piece = volume.hounsfield[source]
    piece = (piece + 1000.0) * rng.uniform(1.0 - _GAIN, 1.0 + _GAIN) - 1000.0 + rng.normal(0.0, _SHIFT_HU)
    noise = rng.standard_normal(piece.shape, np.float32) * np.float32(rng.uniform(0.0, _NOISE_HU))
    image[target] = piece + noise
    shares[(slice(None), *target)] = volume.shares[(slice(None), *source)] / np.float32(WHOLE)
    normalised = ((np.clip(image, *CLIP_HU) - MEAN_HU) / SD_HU).astype(np.float32)
    return torch.from_numpy(normalised)[None, None], torch.from_numpy(shares)


def _starts(volume: Volume, size: Patch, about: Sequence[int], rng: np.random.Generator) -> list[int]:
    """First voxel of a patch: about a voxel of one of some channels, or anywhere."""
    spare = [full - side for full, side in zip(volume.hounsfield.shape, size, strict=True)]
    present = [channel for channel in about if (volume.shares[channel] == WHOLE).any()]
    if rng.uniform() >= _ABOUT_ORGAN or not present:
        return [int(rng.integers(min(0, room), max(0, room) + 1)) for room in spare]
    places = np.argwhere(volume.shares[rng.choice(present)] == WHOLE)
    middle = places[int(rng.integers(len(places)))] + rng.integers(-8, 9, 3)
    return [
        int(np.clip(place - side // 2, min(0, room), max(0, room)))
        for place, side, room in zip(middle, size, spare, strict=True)
    ]


def _loss(logits: torch.Tensor, shares: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
    """Cross entropy, and one minus the weighted mean Dice of the classes in the patch."""
    log_p = logits[0].log_softmax(0).flatten(1)
    truth = shares.flatten(1)
    voxels = truth.sum(1)
    p = log_p.exp()
    dice = (2.0 * (p * truth).sum(1) + 1.0) / (p.sum(1) + voxels + 1.0)
    present = weights * (voxels >= 1.0)
    present[0] = 0.0
    cross_entropy = -(truth * log_p).sum() / truth.shape[1]
    return cross_entropy + 1.0 - (dice * present).sum() / present.sum().clamp(min=1.0)
