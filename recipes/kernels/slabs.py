"""Point kernels from slabs.

Energy is scored in slabs parallel to a source in the plane z = 0. A shell of radius r around a point casts its energy
evenly on -r < z < r (Archimedes), so that the share per length in |z| is the integral of e(r)/r over r > |z|, with e(r)
the share absorbed per radius. The shells are the non-negative least-squares solution of that, with a smooth density.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

Floats = NDArray[np.float64]

#: Least standard deviation of a slab, in units of all energy.
_LEAST_SD: Final = 1e-6


def share_below(z: Floats, shells: Floats) -> Floats:
    """Share of each shell's energy at heights below z on either side, ``(z, shell)``; shells by their outer radii.

    A shell from a to b has its energy evenly over the radius. Its share below z is z ln(b/a)/(b - a) for z < a, and
    (z - a + z ln(b/z))/(b - a) inside; in the first shell, a = 0.
    """
    inner = np.concatenate([[0.0], shells[:-1]])
    z = z[:, None]
    # Below the radius z a shell counts in full, above it by z/r.
    low = np.clip(z, inner, shells)
    part = np.where(low < shells, z * np.log(shells / np.maximum(low, np.finfo(float).tiny)), 0.0)
    return np.asarray((low - inner + part) / (shells - inner))


def unfold(
    slab_share: Floats, shells: Floats, energy: Floats, sd: Floats, *, roughness_per_mm: float, smooth: int
) -> Floats:
    """Energy in shells from the energy in slabs and its standard deviation.

    Parameters
    ----------
    slab_share
        Share of each shell in each slab, ``(slab, shell)``.
    roughness_per_mm
        Standard deviation of the second differences of the energy per radius from shell to shell: above
        the curvature, and below the noise of a shell.
    smooth
        Shells from the innermost one on to which that applies.
    """
    weight = 1.0 / np.maximum(sd, _LEAST_SD * energy.sum())
    rough = np.diff(np.eye(smooth, shells.size), n=2, axis=0) / np.diff(shells, prepend=0.0)
    rough /= roughness_per_mm
    system = np.concatenate([slab_share * weight[:, None], rough])
    solution, _ = nnls(system, np.concatenate([energy * weight, np.zeros(len(rough))]))
    # The scale is that of the slabs, so that no energy is lost or won.
    return np.asarray(solution * energy.sum() / solution.sum())
