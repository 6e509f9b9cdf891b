"""Store a trained network as the demo weights of the package: one file of numbers, and what it is."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from phantoms import CLASS_IDS

from doseledger.segmentation.demo_weights import DEMO_MARK, NETWORK_FILE
from doseledger.segmentation.weights import DATA_ORIGIN, VIRTUAL

_RECIPE: Final = "recipes/demo_weights"


def write_network(
    folder: Path,
    parameters: Mapping[str, NDArray[np.float16]],
    class_ids: Sequence[int],
    *,
    seed: int,
    patients: int,
    steps: int,
    output_shifts: Mapping[str, float],
) -> None:
    """Write the numbers and their description.

    Parameters
    ----------
    class_ids
        TotalSegmentator's ids of channels 1, 2, ...; channel 0 is the background.
    output_shifts
        What the calibration has added to the trained outputs, by class.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / NETWORK_FILE
    np.savez(path, **dict(parameters))
    names = {number: name for name, number in CLASS_IDS.items()}
    record = {
        DATA_ORIGIN: VIRTUAL,
        "recipe": _RECIPE,
        "seed": seed,
        "patients": patients,
        "steps": steps,
        "output_shifts": dict(output_shifts),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        "classes": {names[number]: number for number in class_ids},
    }
    (folder / DEMO_MARK).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
