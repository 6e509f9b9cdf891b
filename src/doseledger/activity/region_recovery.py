"""What the blur of the camera did to each region of one image, and how well that is known.

Three methods share one set of equations, those of `partial_volume`:

* ``gtm``: the diagonal of the transfer matrix follows from form and blur;
* ``spheres``: a lesion near a sphere, within the volumes of the phantom's spheres, has the camera's RC(V);
* ``surface``: a kidney has RC = 1 - k S/V of the camera's kidney phantoms.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from doseledger.activity.partial_volume import (
    CorrectedMeans,
    TransferMatrix,
    correct_means,
    measured_means,
    transfer_matrix,
)
from doseledger.activity.recovery_curve import RecoveryCurve, SurfaceRecovery
from doseledger.activity.region_form import axis_ratio, surface_per_volume_per_mm
from doseledger.geometry import Grid

Method = Literal["gtm", "spheres", "surface"]

#: Shortest over longest axis from which a lesion counts as near a sphere: an ellipsoid of that form has 2 % more
#: surface than the sphere of its volume.
NEAR_SPHERE: Final = 0.7
#: Below this share of its own activity a region is too small for any correction: it shows its neighbours.
LEAST_SELF_RECOVERY: Final = 0.2
#: Largest relative uncertainty of a corrected activity over that of the measured one.
LARGEST_NOISE_GAIN: Final = 3.0
#: Relative standard uncertainty of the blur: a camera study finds 3 %, and single spheres look up to 10 % wider or
#: narrower than the mean of all (docs/camera.md).
U_BLUR_REL: Final = 0.05
#: Share of what left a region and of what came in that may be wrong, as a standard uncertainty: uptake is not even,
#: organs move, outlines and images are not of one breath. Measured on a virtual cohort (docs/partial-volume.md).
MODEL_SHARE: Final = 0.25
#: Smallest share of the field that the remainder of the body must have, to be told from the air around it.
_LEAST_REMAINDER: Final = 0.01
_AIR: Final = "air"


@dataclass(frozen=True)
class CameraRecovery:
    """Blur of a camera, and what its phantoms kept; calibration and recovery are of one geometry."""

    fwhm_mm: float
    spheres: RecoveryCurve | None = None
    kidneys: SurfaceRecovery | None = None


@dataclass(frozen=True)
class RegionRecovery:
    """How a region's activity in the image relates to the true one.

    Attributes
    ----------
    coefficient
        Measured over corrected activity: losses and gains together, above 1 beside hot neighbours.
    self_recovery
        Share of its own activity that the region keeps.
    u_rel
        Relative standard uncertainty of the corrected activity by blur, measured recovery and model; systematic.
    noise_gain
        Relative random uncertainty of the corrected activity over that of the measured one.
    """

    method: Method
    coefficient: float
    self_recovery: float
    u_rel: float
    noise_gain: float


def recover_regions(
    fractions: Mapping[str, NDArray[np.float32]],
    image: NDArray[np.floating],
    grid: Grid,
    camera: CameraRecovery,
    *,
    body: NDArray[np.float32] | None = None,
    lesions: Collection[str] = (),
    kidneys: Collection[str] = (),
    u_random_rel: float = 0.05,
) -> dict[str, RegionRecovery]:
    """Recovery of each region of an image; a region that cannot be corrected is left out.

    Parameters
    ----------
    fractions
        Share of each voxel that each region fills, ``(z, y, x)``.
    image
        Activity concentration, any unit.
    body
        Share of each voxel in the patient; air and the remainder of the body then have concentrations of their own.
    lesions, kidneys
        Regions whose recovery the camera's phantoms may tell; all others, and these if it does not, have that of form
        and blur.
    u_random_rel
        Relative random uncertainty of each measured mean.

    Raises
    ------
    QuantityError
        The outlines cannot be told apart.

    Examples
    --------
    A sphere of 28 mm at 12 mm FWHM, in a tenth of its concentration, blurred:

    >>> from scipy.ndimage import gaussian_filter
    >>> from doseledger.activity.phantom_shapes import FilledShape
    >>> grid = Grid((24, 24, 24), (4.0, 4.0, 4.0), (0.0, 0.0, 0.0))
    >>> sphere = FilledShape("sphere", (28.0,) * 3).fraction(grid, (46.0,) * 3).astype(np.float32)
    >>> image = gaussian_filter(0.1 + 0.9 * sphere.astype(float), 12.0 / 2.3548 / 4.0)
    >>> found = recover_regions({"lesion_1": sphere}, image, grid, CameraRecovery(12.0))["lesion_1"]
    >>> round(found.coefficient, 2), round(found.self_recovery, 2)
    (0.61, 0.57)
    """
    parts = _partition(fractions, body)
    measured, u_measured = _measured_recoveries(fractions, grid, camera, lesions, kidneys)
    recovered: list[tuple[TransferMatrix, CorrectedMeans]] = []
    for widening in (1.0, 1.0 + U_BLUR_REL):
        matrix = transfer_matrix(parts, grid.spacing_mm, fwhm_mm=camera.fwhm_mm * widening)
        matrix = matrix.with_recovery({region: recovery for region, (_, recovery) in measured.items()})
        means = measured_means(matrix, parts, np.asarray(image, dtype=np.float64))
        recovered.append((matrix, correct_means(matrix, means, u_random_rel * np.abs(means))))
    (matrix, corrected), (_, wider) = recovered
    found: dict[str, RegionRecovery] = {}
    for k, region in enumerate(fractions):
        own, mean, shown = matrix.self_recovery(region), float(corrected.mean[k]), float(means[k])
        if not (mean > 0 and shown > 0 and own >= LEAST_SELF_RECOVERY):
            continue
        noise_gain = float(corrected.u_mean[k]) / mean / u_random_rel
        if noise_gain > LARGEST_NOISE_GAIN:
            continue
        exchanged = 1.0 - own + abs(float(corrected.spill_in[k])) / mean
        by_blur = float(wider.mean[k]) / mean - 1.0
        found[region] = RegionRecovery(
            method=measured[region][0] if region in measured else "gtm",
            coefficient=shown / mean,
            self_recovery=own,
            u_rel=float(np.linalg.norm([by_blur, u_measured.get(region, 0.0), MODEL_SHARE * exchanged])),
            noise_gain=noise_gain,
        )
    return found


def volume_slope(self_recovery: float) -> float:
    """d ln R / d ln V of a body that keeps its form: a third of what it lost over what it kept.

    RC = 1 - k S/V and S/V ~ V^(-1/3).

    Examples
    --------
    >>> round(volume_slope(0.8), 4)
    0.0833
    """
    return (1.0 - self_recovery) / (3.0 * self_recovery)


def _partition(
    fractions: Mapping[str, NDArray[np.float32]], body: NDArray[np.float32] | None
) -> dict[str, NDArray[np.float32]]:
    """The regions, and the air where enough of the body remains beside them."""
    if body is None:
        return dict(fractions)
    free = np.clip(1.0 - sum(fractions.values(), start=np.zeros(body.shape, np.float32)), 0.0, 1.0)
    air = np.asarray(np.minimum(1.0 - np.clip(body, 0.0, 1.0), free), dtype=np.float32)
    if not air.any() or float((free - air).mean()) < _LEAST_REMAINDER:
        return dict(fractions)
    return {**fractions, _AIR: air}


def _measured_recoveries(
    fractions: Mapping[str, NDArray[np.float32]],
    grid: Grid,
    camera: CameraRecovery,
    lesions: Collection[str],
    kidneys: Collection[str],
) -> tuple[dict[str, tuple[Method, float]], dict[str, float]]:
    """Method and recovery that phantoms tell, by region, and their relative uncertainties."""
    found: dict[str, tuple[Method, float]] = {}
    u_rel: dict[str, float] = {}
    for region, share in fractions.items():
        volume_ml = float(share.sum(dtype=np.float64)) * grid.voxel_volume_ml
        if region in lesions and camera.spheres is not None:
            low, high = camera.spheres.volume_range_ml
            if low <= volume_ml <= high and axis_ratio(share, grid.spacing_mm) >= NEAR_SPHERE:
                found[region] = "spheres", camera.spheres.recovery(volume_ml)
                u_rel[region] = camera.spheres.u_recovery_rel(volume_ml)
        elif region in kidneys and camera.kidneys is not None:
            surface = surface_per_volume_per_mm(share, grid.spacing_mm)
            low, high = camera.kidneys.range_per_mm
            if low <= surface <= high:
                recovery = camera.kidneys.recovery(surface)
                found[region] = "surface", recovery
                u_rel[region] = float(np.hypot(camera.kidneys.u_k_mm * surface / recovery, camera.kidneys.scatter_rel))
    return found, u_rel
