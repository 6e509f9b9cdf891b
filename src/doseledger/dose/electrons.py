"""Energy of the nuclide's electrons, spread by their kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from doseledger.dose.interface import DoseProblem


def spread_electrons(problem: DoseProblem, medium: NDArray[np.uint8]) -> NDArray[np.float32]:
    return problem.tia * np.float32(problem.nuclide.in_place.electron_kev)
