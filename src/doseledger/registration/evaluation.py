"""How well two time points lie on each other."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def dice(a: NDArray[np.bool_], b: NDArray[np.bool_]) -> float:
    """Dice overlap 2 |A and B| / (|A| + |B|); NaN if both are empty.

    Examples
    --------
    >>> dice(np.array([True, True, False]), np.array([True, False, False]))
    0.6666666666666666
    """
    size = int(a.sum()) + int(b.sum())
    return 2.0 * int((a & b).sum()) / size if size else float("nan")
