"""Train the demo weights: ``python recipes/demo_weights/train.py --out src/doseledger/data/demo_weights``."""

from __future__ import annotations

import os

# Sums in one order, before any library starts its threads.
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import logging
import time
from pathlib import Path
from typing import Final

import torch
from calibrate import calibrated
from export import write_network
from network import PHASES, channels_of, train, training_cases, training_volumes
from phantoms import classes

#: Seeds of the training patients count from here; cohorts and tests use small seeds.
FIRST_SEED: Final = 10_000
PATIENTS: Final = 96


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--patients", type=int, default=PATIENTS)
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)

    class_ids = classes()
    volumes = training_volumes(training_cases(arguments.patients, FIRST_SEED), channels_of(class_ids))
    logging.info("%d virtual CTs after %.0f CPU-s", len(volumes), time.process_time())
    parameters, shifts = calibrated(train(volumes, class_ids), class_ids)
    about = {"seed": FIRST_SEED, "patients": arguments.patients, "steps": sum(phase.steps for phase in PHASES)}
    write_network(arguments.out, parameters, class_ids, output_shifts=shifts, **about)
    logging.info("done after %.0f CPU-s", time.process_time())


if __name__ == "__main__":
    main()
