"""Quality gate of outlines: flags, never silent changes."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger.geometry import Grid

#: Plausible volumes in mL (docs/theory.md, plausibility gates).
VOLUME_RANGE_ML: Final[dict[str, tuple[float, float]]] = {
    "kidney_left": (80.0, 250.0),
    "kidney_right": (80.0, 250.0),
    "spleen": (40.0, 1500.0),
    "liver": (600.0, 4500.0),
}
#: Left over right kidney, volume and dose.
PAIR_RATIO: Final = (0.5, 2.0)

#: Lowest and highest published mean of Gy/GBq (docs/theory.md, plausibility gates).
PUBLISHED_GY_PER_GBQ: Final[dict[tuple[str, str], tuple[float, float]]] = {
    ("Lu177-DOTATATE", "kidneys"): (0.38, 0.57),
    ("Lu177-DOTATATE", "kidney_left"): (0.38, 0.57),
    ("Lu177-DOTATATE", "kidney_right"): (0.38, 0.57),
    ("Lu177-DOTATATE", "liver"): (0.27, 0.27),
    ("Lu177-DOTATATE", "spleen"): (1.17, 1.17),
    ("Lu177-PSMA-617", "kidneys"): (0.53, 0.82),
    ("Lu177-PSMA-617", "kidney_left"): (0.53, 0.82),
    ("Lu177-PSMA-617", "kidney_right"): (0.53, 0.82),
}
#: A dose this many times outside the range is a matter of units. A GBq-for-cycle slip is 7.4 times.
UNIT_SLIP_FACTOR: Final = 5.0


def gate_flags(
    region: str, mask: NDArray[np.bool_], grid: Grid, *, volume_ml: float, laterality: str | None, midline_mm: float
) -> list[str]:
    """Flags of one outline: volume out of range, cut by the field of view, on the wrong side.

    Parameters
    ----------
    midline_mm
        LPS x of the patient's middle; the patient's left is at larger x.
    """
    flags = []
    low, high = VOLUME_RANGE_ML.get(region, (0.0, float("inf")))
    if not low <= volume_ml <= high:
        flags.append("volume_implausible")
    if mask[0].any() or mask[-1].any():
        flags.append("truncated")
    if laterality is not None:
        centre = grid.position_mm(np.argwhere(mask).mean(axis=0))
        if (centre[0] > midline_mm) != (laterality == "left"):
            flags.append("wrong_side")
    return flags


def pair_flags(left: float, right: float, flag: str) -> list[str]:
    """`flag` if a left-right pair (kidneys) differs by more than a factor of two."""
    low, high = PAIR_RATIO
    return [] if right > 0 and low <= left / right <= high else [flag]


def dose_flags(radiopharmaceutical: str, region: str, dose_gy_per_gbq: float) -> list[str]:
    """Flag a dose per activity far from published means: most often a slip of units."""
    published = PUBLISHED_GY_PER_GBQ.get((radiopharmaceutical, region))
    if published is None:
        return []
    low, high = published[0] / UNIT_SLIP_FACTOR, published[1] * UNIT_SLIP_FACTOR
    return [] if low <= dose_gy_per_gbq <= high else ["dose_implausible"]
