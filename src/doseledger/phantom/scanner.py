"""Virtual SPECT/CT cameras: blur, noise, resolution recovery, calibration error and the decay convention.

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
from doseledger.phantom.shapes import Block, Image
from doseledger.units import BQ_PER_MBQ, SECONDS_PER_HOUR

DecayCorrection = Literal["ADMIN", "START", "NONE"]

#: Half-life that the headers state, s: an integer, as cameras write it (6.647 d).
HEADER_HALF_LIFE_S: Final = 574300
_HEADER_RATE_PER_H: Final = log(2.0) * SECONDS_PER_HOUR / HEADER_HALF_LIFE_S

#: Radius of the circle with the area of a patient's section, for a patient of medium size.
MEDIUM_RADIUS_MM: Final = 130.0
_FWHM_PER_SIGMA: Final = 2.0 * sqrt(2.0 * log(2.0))
#: Counts per noise-equivalent count: reconstruction amplifies noise far above that of the projections.
NOISE_VARIANCE_GAIN: Final = 7.5
#: Attenuation of 208 keV photons in soft tissue, per mm (NIST XCOM, water), for the mean depth of a body.
ATTENUATION_PER_MM: Final = 0.0136
#: Depth from which photons come on average over the radius of the body: as projections of two patients count.
_MEAN_DEPTH: Final = 0.78
#: Half of the transition between two bed positions, mm.
_BED_SEAM_MM: Final = 12.0
#: Voxels with less than this share of the greatest expected counts stay empty.
_EMPTY_SHARE: Final = 1.0e-5
#: Keeps ratios of counts finite where nothing is expected.
_LEAST_SHARE: Final = 1.0e-6

#: Noise of a low-dose CT of a body of medium size, HU, and how it grows with the radius of the body.
CT_NOISE_HU: Final = 12.0
_CT_NOISE_PER_MM: Final = 0.009
#: The kernel of the CT correlates the noise within slices, sigma in voxels.
_CT_KERNEL_VOXELS: Final = 0.65
#: Range of 12 stored bits with an intercept of -1024.
CT_RANGE_HU: Final = (-1024.0, 3071.0)


@dataclass(frozen=True)
class Camera:
    """A camera as its site runs it.

    Attributes
    ----------
    fwhm_mm
        Blur of the reconstruction as the site states it: a Gaussian with the same recovery.
    collimator_fwhm_mm, modelled_fwhm_mm, iterations, post_fwhm_mm
        Blur of the projections, what of it the reconstruction models, its number of updates, and the
        filter after it.
    bed_times
        One entry per bed position from the feet: scan time over that of the longest.
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
    collimator_fwhm_mm: float
    modelled_fwhm_mm: float
    iterations: int
    post_fwhm_mm: float
    duration_s: float
    sensitivity_cps_per_mbq: float
    decay_correction: DecayCorrection
    calibration_factor: float
    bed_times: tuple[float, ...] = (1.0,)
    u_calibration_rel: float = 0.05
    manufacturer: str = "Virtual Imaging"


#: One per kind of site, in the order of the sites.
CAMERAS: Final = (
    Camera("NM1", "VSPECT 9", "MEGP", 10.9, 14.0, 14.0, 6, 9.5, 1440.0, 9.2, "ADMIN", 1.00),
    Camera("NM1", "VSPECT 7", "MEGP", 11.7, 15.0, 15.0, 6, 10.2, 1500.0, 8.4, "NONE", 1.03),
    Camera("NM1", "VSPECT 11", "MELP", 10.2, 13.0, 13.0, 6, 9.0, 2400.0, 10.5, "NONE", 0.97, (0.7, 1.0, 0.6)),
)


def transmission(radius_mm: float) -> float:
    """Share of the photons that leave a body of some radius."""
    return exp(-ATTENUATION_PER_MM * _MEAN_DEPTH * radius_mm)


def image_spect(
    activity_bq_per_ml: Image,
    grid: Grid,
    camera: Camera,
    rng: np.random.Generator,
    *,
    radius_mm: float = MEDIUM_RADIUS_MM,
) -> Image:
    """What the camera reads at scan start, Bq/mL ``(z, y, x)``, for a true map on the same grid.

    The map x is blurred by the collimator, C, and counted with Poisson noise,

        y ~ Poisson(g C x),        g = V S T(z) a / G,

    with voxel volume V, sensitivity S, scan time T of the bed position, transmission a through a body
    of some radius, and G = `NOISE_VARIANCE_GAIN`. It is reconstructed like OSEM with resolution
    modelling: from the blurred data, maximum-likelihood updates with a modelled blur M,

        x <- x M[y/(M x)] / M[g],

    and a Gaussian filter. So the noise is correlated, its variance grows with the local activity, the
    reading is never negative, and edges of large objects overshoot, as far as the filter leaves it. On
    average the total is exact apart from the calibration error. Counts, noise, its correlation, and
    recovery are those of projection and OSEM (``tests/fixtures/osem``, tests/unit/test_phantom_projection.py).
    """
    counts_per_bq_s = camera.sensitivity_cps_per_mbq / BQ_PER_MBQ * transmission(radius_mm) / NOISE_VARIANCE_GAIN
    gain: Image = np.float32(grid.voxel_volume_ml * counts_per_bq_s) * scan_time_s(camera, grid)[:, None, None]
    # Reflection keeps the total, and lets the body go on beyond the ends of the field.
    expected = _blur(activity_bq_per_ml, camera.collimator_fwhm_mm, grid)
    body = _region_with_counts(expected)
    data = _counted(np.maximum(expected[body], 0) * gain, rng) / gain
    estimate = _blur(data, camera.modelled_fwhm_mm, grid)
    seen = _blur(gain + np.zeros_like(data), camera.modelled_fwhm_mm, grid)
    least = np.float32(_LEAST_SHARE * max(float(data.max()), _LEAST_SHARE))
    for _ in range(camera.iterations):
        ratio = np.asarray(gain * data / np.maximum(_blur(estimate, camera.modelled_fwhm_mm, grid), least), np.float32)
        estimate *= _blur(ratio, camera.modelled_fwhm_mm, grid) / seen
    image = np.zeros_like(activity_bq_per_ml)
    image[body] = estimate
    return _blur(image, camera.post_fwhm_mm, grid) * np.float32(camera.calibration_factor)


def scan_time_s(camera: Camera, grid: Grid) -> Image:
    """Time for which each slice of the grid is seen, s; bed positions share the field evenly."""
    beds = len(camera.bed_times)
    longest_s = camera.duration_s / sum(camera.bed_times)
    height_mm = grid.shape[0] * grid.spacing_mm[0]
    place = (np.arange(grid.shape[0]) + 0.5) * grid.spacing_mm[0] / height_mm * beds - 0.5
    # Flat over each bed, with a short ramp over the overlap of two.
    ramp = 2.0 * _BED_SEAM_MM * beds / height_mm
    first = np.floor(place).astype(int)
    mix = np.clip((place - first - 0.5) / ramp + 0.5, 0.0, 1.0) if beds > 1 else np.zeros(len(place))
    times = longest_s * np.array(camera.bed_times)
    low, high = times[np.clip(first, 0, beds - 1)], times[np.clip(first + 1, 0, beds - 1)]
    return np.asarray((1.0 - mix) * low + mix * high, dtype=np.float32)


def image_ct(hounsfield: Image, rng: np.random.Generator, *, radius_mm: float = MEDIUM_RADIUS_MM) -> Image:
    """CT numbers with the noise of a low-dose scan of a body of some radius, HU, within the stored range."""
    noise = rng.standard_normal(hounsfield.shape, dtype=np.float32)
    noise = gaussian_filter(noise, (0.0, _CT_KERNEL_VOXELS, _CT_KERNEL_VOXELS), mode="wrap", truncate=3.0)
    sd_hu = CT_NOISE_HU * exp(_CT_NOISE_PER_MM * (radius_mm - MEDIUM_RADIUS_MM))
    noise *= np.float32(sd_hu / float(noise.std(dtype=np.float64)))
    return np.asarray(np.clip(hounsfield + noise, *CT_RANGE_HU))


def stored_per_start(camera: Camera, hours_after_injection_start: float) -> float:
    """Stored value over activity at scan start, by the camera's decay convention.

    ADMIN refers values to the start of the injection. START refers them to the start of the scan.
    NONE leaves the mean over the scan, ``(1 - exp(-l T))/(l T)`` of the activity at its start.

    Examples
    --------
    >>> round(stored_per_start(CAMERAS[0], 24.25), 4), round(stored_per_start(CAMERAS[2], 24.25), 6)
    (1.1111, 0.998553)
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


def _counted(expected: Image, rng: np.random.Generator) -> Image:
    """Noise-equivalent counts. Reconstruction amplifies the noise of detail, not that of the total."""
    counts = rng.poisson(expected).astype(np.float32)
    drawn = float(counts.sum(dtype=np.float64))
    total = rng.poisson(NOISE_VARIANCE_GAIN * float(expected.sum(dtype=np.float64))) / NOISE_VARIANCE_GAIN
    return counts * np.float32(total / drawn) if drawn > 0.0 else counts


def _blur(image: Image, fwhm_mm: float, grid: Grid) -> Image:
    sigma = [fwhm_mm / _FWHM_PER_SIGMA / step for step in grid.spacing_mm]
    return np.asarray(gaussian_filter(image, sigma, mode="reflect", truncate=3.0))


def _region_with_counts(expected: Image) -> Block:
    """The smallest block of whole slices outside of which next to nothing is expected."""
    filled = expected > _EMPTY_SHARE * float(expected.max())
    rows = [np.flatnonzero(filled.any(axis=axes)) for axes in ((0, 2), (0, 1))]
    y, x = (slice(int(row[0]), int(row[-1]) + 1) if len(row) else slice(0, 1) for row in rows)
    return (slice(0, expected.shape[0]), y, x)
