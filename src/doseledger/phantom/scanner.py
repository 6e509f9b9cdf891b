"""Virtual SPECT/CT cameras: blur, counting noise, calibration error and the decay convention.

A camera images the activity at scan start. Anatomy and biology stand still during the scan; only
physical decay goes on, which matters where the header says that nothing was corrected.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import exp, log, sqrt
from typing import Final, Literal

import numpy as np
from scipy.ndimage import gaussian_filter

from doseledger.geometry import Grid
from doseledger.phantom.shapes import Image
from doseledger.units import BQ_PER_MBQ, SECONDS_PER_HOUR

DecayCorrection = Literal["ADMIN", "START", "NONE"]

#: Half-life that the headers state, s: an integer, as cameras write it (6.647 d).
HEADER_HALF_LIFE_S: Final = 574300
_HEADER_RATE_PER_H: Final = log(2.0) * SECONDS_PER_HOUR / HEADER_HALF_LIFE_S

#: Share of the total blur (in sigma) that comes after the noise, as a post-filter: it correlates the noise.
POST_FILTER_SHARE: Final = 0.7
#: Counts per noise-equivalent count: reconstruction amplifies noise far above that of the projections.
NOISE_VARIANCE_GAIN: Final = 30.0
_FWHM_PER_SIGMA: Final = 2.0 * sqrt(2.0 * log(2.0))

#: Standard deviation of the CT noise, HU, and range of 12 stored bits with an intercept of -1024.
CT_NOISE_HU: Final = 12.0
CT_RANGE_HU: Final = (-1024.0, 3071.0)


@dataclass(frozen=True)
class Camera:
    """A camera as its site runs it.

    Attributes
    ----------
    fwhm_mm
        Total blur of the reconstruction.
    duration_s
        Wall-clock duration of a scan.
    sensitivity_cps_per_mbq
        Sets the noise; the images are stored in Bq/mL.
    calibration_factor
        Reading over truth: the site's own error.
    u_calibration_rel
        What the site states as the relative standard uncertainty of its calibration.
    """

    name: str
    model: str
    collimator: str
    fwhm_mm: float
    duration_s: float
    sensitivity_cps_per_mbq: float
    decay_correction: DecayCorrection
    calibration_factor: float
    u_calibration_rel: float = 0.05
    manufacturer: str = "Virtual Imaging"


#: One per kind of site, in the order of the sites.
CAMERAS: Final = (
    Camera("NM1", "VSPECT 9", "MEGP", 11.0, 1440.0, 9.2, "ADMIN", 1.00),
    Camera("NM1", "VSPECT 7", "MEGP", 12.0, 1500.0, 8.4, "START", 1.03),
    Camera("NM1", "VSPECT 11", "MELP", 10.0, 1200.0, 10.5, "NONE", 0.97),
)


def image_spect(activity_bq_per_ml: Image, grid: Grid, camera: Camera, rng: np.random.Generator) -> Image:
    """What the camera reads at scan start, Bq/mL ``(z, y, x)``, for a true map on the same grid.

    Blur, counting noise with variance proportional to the blurred activity, post-filter, calibration
    error. The reading is never negative and on average exact apart from the calibration error.
    """
    sigma_mm = camera.fwhm_mm / _FWHM_PER_SIGMA
    after = POST_FILTER_SHARE * sigma_mm / np.array(grid.spacing_mm)
    before = sqrt(1.0 - POST_FILTER_SHARE**2) * sigma_mm / np.array(grid.spacing_mm)
    counts_per_bq_per_ml = (
        grid.voxel_volume_ml / BQ_PER_MBQ * camera.sensitivity_cps_per_mbq * camera.duration_s / NOISE_VARIANCE_GAIN
    )
    # Reflection keeps the total, and lets the body go on beyond the ends of the field.
    blurred = gaussian_filter(activity_bq_per_ml, before, mode="reflect")
    counts = rng.poisson(np.maximum(blurred, 0.0) * counts_per_bq_per_ml).astype(np.float32)
    filtered = gaussian_filter(counts, after, mode="reflect")
    return np.asarray(filtered * np.float32(camera.calibration_factor / counts_per_bq_per_ml))


def image_ct(hounsfield: Image, rng: np.random.Generator) -> Image:
    """Noisy CT numbers, HU, within the stored range."""
    noise = rng.standard_normal(hounsfield.shape, dtype=np.float32) * np.float32(CT_NOISE_HU)
    return np.clip(hounsfield + noise, *CT_RANGE_HU)


def stored_per_start(camera: Camera, hours_after_injection_start: float) -> float:
    """Stored value over activity at scan start, by the camera's decay convention.

    ADMIN refers values to the start of the injection. START refers them to the start of the scan.
    NONE leaves the mean over the scan, ``(1 - exp(-l T))/(l T)`` of the activity at its start.

    Examples
    --------
    >>> round(stored_per_start(CAMERAS[0], 24.25), 4), round(stored_per_start(CAMERAS[2], 24.25), 6)
    (1.1111, 0.999276)
    """
    if camera.decay_correction == "ADMIN":
        return exp(_HEADER_RATE_PER_H * hours_after_injection_start)
    if camera.decay_correction == "START":
        return 1.0
    return _mean_over_scan(camera)


def header_decay_factor(camera: Camera, hours_after_injection_start: float) -> float | None:
    """Decay Factor (0054,1321): stored value over the mean over the scan; None where nothing was corrected."""
    if camera.decay_correction == "NONE":
        return None
    return stored_per_start(camera, hours_after_injection_start) / _mean_over_scan(camera)


def frame_reference_ms(camera: Camera) -> float:
    """Time after scan start at which the activity equals its mean over the scan, ms."""
    return -log(_mean_over_scan(camera)) / _HEADER_RATE_PER_H * SECONDS_PER_HOUR * 1.0e3


def _mean_over_scan(camera: Camera) -> float:
    decays = _HEADER_RATE_PER_H * camera.duration_s / SECONDS_PER_HOUR
    return (1.0 - exp(-decays)) / decays
