"""Mass density from CT numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from doseledger.data import columns


def density_from_hu(hu: ArrayLike) -> NDArray[np.float32]:
    """Mass density in g/mL from CT numbers in HU, any shape.

    Piecewise linear between the nodes of Schneider et al. 2000 as used by GATE (doi
    10.1088/0031-9155/45/2/314); beyond the ends the end values. The step between 100 and 101 HU is
    real: bone with the same CT number as dense soft tissue has a lower density.

    Examples
    --------
    >>> [round(float(d), 4) for d in density_from_hu([-700, 0, 40, 300])]
    [0.3101, 1.0174, 1.0506, 1.1941]
    """
    nodes_hu, nodes_g_per_ml = columns("density_from_hu")
    values = np.interp(np.asarray(hu, dtype=np.float64), nodes_hu, nodes_g_per_ml)
    return np.asarray(values, dtype=np.float32)
