"""Calibrate the size of the kidneys that the network finds: ``calibrate.py --folder src/doseledger/data/demo_weights``.

``train.py`` ends with this. On its own it calibrates a network that is stored, and leaves a calibrated one as it is.
"""

from __future__ import annotations

import os

# Sums in one order, before any library starts its threads.
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import json
import logging
import time
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np
import torch
from acvl_utils.cropping_and_padding.padding import pad_nd_image
from export import write_network
from network import WHOLE, Volume, build, channels_of, set_parameters, training_cases, training_volumes
from nnunetv2.inference.sliding_window_prediction import compute_gaussian, compute_steps_for_sliding_window
from numpy.typing import NDArray
from phantoms import CLASS_IDS

from doseledger.segmentation.demo_weights import CLIP_HU, DEMO_MARK, MEAN_HU, NETWORK_FILE, PATCH, SD_HU

Parameters = dict[str, NDArray[np.float16]]
Logits = NDArray[np.float32]
Shifts = NDArray[np.float32]

_LOG: Final = logging.getLogger(__name__)

#: Seeds of the patients: neither those of training (from 10000) nor those of ``dice.csv`` (from 20000).
FIRST_SEED: Final = 15_000
PATIENTS: Final = 10
#: What comes out too large, in the order in which it is calibrated.
CALIBRATED: Final = ("kidney_right", "kidney_left")
#: What may be added to the output of a class.
SHIFTS: Final = tuple(0.25 * n for n in range(-8, 5))
#: Less of an organ in the field has no meaningful Dice, in voxels of the network (1.1 mL).
LEAST_VOXELS: Final = 5.0
#: TotalSegmentator's step between tiles of task ``total``, in tiles.
TILE_STEP: Final = 0.8
_HEAD_BIAS: Final = "decoder.seg_layers.2.bias"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, required=True, help="holds the network, and gets the calibrated one")
    folder = parser.parse_args().folder
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)
    record = json.loads((folder / DEMO_MARK).read_text(encoding="utf-8"))
    with np.load(folder / NETWORK_FILE, allow_pickle=False) as stored:
        parameters = {name: stored[name] for name in stored.files}
    class_ids = list(record["classes"].values())
    parameters, shifts = calibrated(parameters, class_ids)
    before = record.get("output_shifts", {})
    since_training = {name: before.get(name, 0.0) + shift for name, shift in shifts.items()}
    about = {name: record[name] for name in ("seed", "patients", "steps")}
    write_network(folder, parameters, class_ids, output_shifts=since_training, **about)
    _LOG.info("done after %.0f CPU-s", time.process_time())


def calibrated(
    parameters: Mapping[str, NDArray[np.float16]], class_ids: Sequence[int]
) -> tuple[Parameters, dict[str, float]]:
    """Shift the outputs of `CALIBRATED` to where their mean Dice is highest on patients that training has not seen.

    Returns
    -------
    tuple
        The parameters with shifted outputs, and what was added to each.
    """
    volumes = training_volumes(training_cases(PATIENTS, FIRST_SEED), channels_of(class_ids))
    network = build(len(class_ids) + 1)
    set_parameters(network, parameters)
    outputs = [logits(network, volume) for volume in volumes]
    channel = {name: 1 + list(class_ids).index(CLASS_IDS[name]) for name in CALIBRATED}
    shifts = np.zeros(len(class_ids) + 1, np.float32)
    for name, number in channel.items():
        dice = [_mean_dice(outputs, volumes, _with(shifts, number, shift), number) for shift in SHIFTS]
        shifts = _with(shifts, number, SHIFTS[int(np.argmax(dice))])
        _LOG.info("%s: %s", name, ", ".join(f"{s:+.2f} {d:.4f}" for s, d in zip(SHIFTS, dice, strict=True)))
    moved = (parameters[_HEAD_BIAS] + shifts).astype(np.float16)
    return dict(parameters) | {_HEAD_BIAS: moved}, {name: float(shifts[number]) for name, number in channel.items()}


@torch.inference_mode()
def logits(network: torch.nn.Module, volume: Volume) -> Logits:
    """Outputs of the network for a whole CT, by nnU-Net's overlapping tiles and their Gaussian weights."""
    normalised = (np.clip(volume.hounsfield, *CLIP_HU) - MEAN_HU) / SD_HU
    image, inside = pad_nd_image(normalised.astype(np.float32)[None], PATCH, "constant", {"constant_values": 0.0}, True)
    weights = compute_gaussian(PATCH, dtype=torch.float32, device=torch.device("cpu")).numpy()
    total = np.zeros((len(volume.shares), *image.shape[1:]), np.float32)
    count = np.zeros(image.shape[1:], np.float32)
    for starts in product(*compute_steps_for_sliding_window(image.shape[1:], PATCH, TILE_STEP)):
        tile = (slice(None), *(slice(start, start + side) for start, side in zip(starts, PATCH, strict=True)))
        total[tile] += network(torch.from_numpy(image[tile][None]))[0].numpy() * weights
        count[tile[1:]] += weights
    return (total / count)[(slice(None), *inside[1:])]


def _with(shifts: Shifts, channel: int, shift: float) -> Shifts:
    changed = shifts.copy()
    changed[channel] = shift
    return changed


def _mean_dice(outputs: Sequence[Logits], volumes: Sequence[Volume], shifts: Shifts, channel: int) -> float:
    """Mean, over the CTs that hold the class, of its Dice on the CT (see `network._shares`)."""
    scores = []
    for output, volume in zip(outputs, volumes, strict=True):
        share = volume.shares[channel] / WHOLE
        if share.sum() >= LEAST_VOXELS:
            seen = (output + shifts[:, None, None, None]).argmax(0) == channel
            scores.append(2.0 * share[seen].sum() / (seen.sum() + share.sum()))
    return float(np.mean(scores))


if __name__ == "__main__":
    main()
