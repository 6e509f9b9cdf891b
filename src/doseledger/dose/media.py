"""Media of photon transport, told apart by mass density."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

#: In the order of the columns of ``data/photon_attenuation.csv``.
MEDIA: Final = ("air", "lung", "soft tissue", "bone")
AIR, LUNG, SOFT_TISSUE, BONE = range(len(MEDIA))

#: Densities at which one medium ends and the next begins, g/mL. Between air and inflated lung (0.2) and between
#: lung and fat (0.9) there is little tissue: the bounds are wide apart from both. Cancellous bone with its marrow
#: begins at about 1.15; contrast-filled soft tissue stays below 1.2.
LUNG_FROM_G_PER_ML: Final = 0.1
SOFT_TISSUE_FROM_G_PER_ML: Final = 0.6
BONE_FROM_G_PER_ML: Final = 1.2
_BOUNDS: Final = (LUNG_FROM_G_PER_ML, SOFT_TISSUE_FROM_G_PER_ML, BONE_FROM_G_PER_ML)


def media_from_density(density_g_per_ml: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Index into `MEDIA` of every voxel, any shape.

    Examples
    --------
    >>> media_from_density(np.float32([0.0012, 0.26, 1.04, 1.4])).tolist()
    [0, 1, 2, 3]
    """
    medium = np.zeros(density_g_per_ml.shape, np.uint8)
    for bound in _BOUNDS:
        medium += density_g_per_ml >= np.float32(bound)
    return medium
