"""The blur of a camera from the image of bodies whose form is known: the forms, blurred until they look like the image.

The model is linear in the concentrations and the background, and smooth in the blur and the shift of the phantom:

    m(r) = b + sum_k a_k (G_s * f_k)(r - d)

with f_k the share of each voxel that body k fills, G_s a Gaussian of standard deviation s across the axis and along
it, and d the shift of the whole phantom from where it was expected. Blur and shift are factors of the spectrum of f_k,
so that the derivatives are exact. Least squares weight all voxels alike.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy import fft
from scipy.ndimage import gaussian_filter
from scipy.optimize import least_squares

from doseledger.errors import QuantityError
from doseledger.geometry import Vector
from doseledger.units import FWHM_PER_SD

Volume = NDArray[np.float64]

#: Blur that the search begins with, and its limits, mm.
_START_FWHM_MM: Final = 12.0
_FWHM_RANGE_MM: Final = (2.0, 40.0)
#: Largest shift of the phantom from where it was expected, mm.
LARGEST_SHIFT_MM: Final = 25.0
#: Noise of reconstructions is alike over about a blur's length: the range over which residuals are taken together
#: for the uncertainty, in standard deviations of the blur.
_KERNEL_SD: Final = 1.5


@dataclass(frozen=True, eq=False)
class BlurFit:
    """Blur of an image of known bodies.

    Attributes
    ----------
    fwhm_mm
        Full width at half maximum ``(across, along)`` the axis of the scanner, mm.
    covariance
        Of `fwhm_mm`, mm^2, from the residuals with their correlation between neighbours.
    shift_mm
        Of the phantom against where it was expected, along the array axes ``(z, y, x)``, mm.
    concentrations
        One per body, in the unit of the image, what it would show without blur.
    background
        Between the bodies, in the unit of the image.
    residual_rel
        Root mean square of the residuals over that of the image.
    model
        The fitted image.
    """

    fwhm_mm: tuple[float, float]
    covariance: NDArray[np.float64]
    shift_mm: Vector
    concentrations: tuple[float, ...]
    background: float
    residual_rel: float
    model: Volume

    @property
    def mean_fwhm_mm(self) -> float:
        """Of a round Gaussian with the same volume: (across^2 along)^(1/3)."""
        across, along = self.fwhm_mm
        return float((across**2 * along) ** (1.0 / 3.0))

    @property
    def u_mean_fwhm_mm(self) -> float:
        """Standard uncertainty of `mean_fwhm_mm` by noise alone."""
        across, along = self.fwhm_mm
        slope = self.mean_fwhm_mm * np.array([2.0 / (3.0 * across), 1.0 / (3.0 * along)])
        return float(np.sqrt(slope @ self.covariance @ slope))


class _Model:
    """Spectra of the bodies, and the model with its derivatives for one set of parameters.

    Parameters are the standard deviations across and along, mm, the shift ``(z, y, x)``, mm, one concentration per
    body, and the background.
    """

    def __init__(self, fractions: NDArray[np.float64], spacing_mm: Vector, pad_mm: float) -> None:
        self.shape = fractions.shape[1:]
        # Blur must not come round from the other side.
        margin = [int(np.ceil(pad_mm / step)) for step in spacing_mm]
        self.padded = [fft.next_fast_len(n + m, real=True) for n, m in zip(self.shape, margin, strict=True)]
        self.spectra = np.stack([fft.rfftn(body, self.padded) for body in fractions])
        frequency = [fft.fftfreq(n, step) for n, step in zip(self.padded, spacing_mm, strict=True)]
        frequency[2] = fft.rfftfreq(self.padded[2], spacing_mm[2])
        self.omega = [
            2.0 * np.pi * f.reshape([-1 if axis == k else 1 for axis in range(3)]) for k, f in enumerate(frequency)
        ]

    def _image(self, spectrum: NDArray[np.complex128]) -> Volume:
        z, y, x = self.shape
        return np.asarray(fft.irfftn(spectrum, self.padded)[:z, :y, :x])

    def __call__(self, parameters: NDArray[np.float64]) -> tuple[Volume, NDArray[np.float64]]:
        """Model ``(z, y, x)`` and its derivatives ``(parameter, z, y, x)``."""
        across, along = parameters[:2]
        wz, wy, wx = self.omega
        squares = wy * wy + wx * wx
        transfer = np.exp(-0.5 * (along**2 * wz * wz + across**2 * squares)) * np.exp(
            -1j * (wz * parameters[2] + wy * parameters[3] + wx * parameters[4])
        )
        bodies = [self._image(spectrum * transfer) for spectrum in self.spectra]
        amplitudes, background = parameters[5:-1], parameters[-1]
        total = np.tensordot(amplitudes, self.spectra, axes=1) * transfer
        slopes = [self._image(-across * squares * total), self._image(-along * wz * wz * total)]
        slopes += [self._image(-1j * w * total) for w in self.omega]
        model = np.tensordot(amplitudes, np.stack(bodies), axes=1) + background
        return model, np.stack([*slopes, *bodies, np.ones(self.shape)])


def fit_blur(image: NDArray[np.floating], fractions: NDArray[np.float64], spacing_mm: Vector) -> BlurFit:
    """Fit blur, shift, concentrations and background to the image of known bodies.

    Parameters
    ----------
    image
        Around the bodies, ``(z, y, x)``; z is the axis of the scanner.
    fractions
        Share of each voxel that each body fills, where it is expected, ``(body, z, y, x)``.
    spacing_mm
        Voxel size ``(z, y, x)``, mm.

    Raises
    ------
    QuantityError
        The image is empty, or no blur makes the bodies look like it.

    Examples
    --------
    A sphere of 37 mm blurred by 11 mm, 3 mm beside the place where it is looked for:

    >>> from scipy.ndimage import gaussian_filter
    >>> from doseledger.activity.phantom_shapes import FilledShape
    >>> from doseledger.geometry import Grid
    >>> sphere, grid = FilledShape("sphere", (37.0,) * 3), Grid((24, 24, 24), (4.0,) * 3, (0.0,) * 3)
    >>> seen = gaussian_filter(sphere.fraction(grid, (49.0, 46.0, 46.0)), 11.0 / FWHM_PER_SD / 4.0)
    >>> fit = fit_blur(seen, sphere.fraction(grid, (46.0, 46.0, 46.0))[None], (4.0,) * 3)
    >>> [round(v, 1) for v in (*fit.fwhm_mm, fit.shift_mm[2], fit.concentrations[0])]
    [11.0, 11.0, 3.0, 1.0]
    """
    data = np.asarray(image, dtype=np.float64)
    scale = float(data.max())
    if not scale > 0:
        raise QuantityError("the image of the phantom is empty", value=scale)
    model = _Model(fractions, spacing_mm, pad_mm=2.0 * _START_FWHM_MM)
    start_sd = _START_FWHM_MM / FWHM_PER_SD
    bodies = len(fractions)
    start = np.array([start_sd, start_sd, 0.0, 0.0, 0.0, *[1.0] * bodies, 0.0])
    low_sd, high_sd = (limit / FWHM_PER_SD for limit in _FWHM_RANGE_MM)
    low = [low_sd, low_sd, *[-LARGEST_SHIFT_MM] * 3, *[-np.inf] * (bodies + 1)]
    high = [high_sd, high_sd, *[LARGEST_SHIFT_MM] * 3, *[np.inf] * (bodies + 1)]
    found = least_squares(
        lambda p: (model(p)[0] - data / scale).ravel(),
        start,
        jac=lambda p: model(p)[1].reshape(len(p), -1).T,
        bounds=(low, high),
        x_scale=[start_sd, start_sd, *[start_sd] * 3, *[1.0] * (bodies + 1)],
    )
    at_limit = np.isclose(found.x[:5], low[:5], rtol=1e-3) | np.isclose(found.x[:5], high[:5], rtol=1e-3)
    if not found.success or at_limit.any():
        raise QuantityError(
            "no blur and shift makes the phantom look like the image",
            value=f"blur {found.x[0] * FWHM_PER_SD:.1f} and {found.x[1] * FWHM_PER_SD:.1f} mm, "
            f"shift {', '.join(f'{v:.1f}' for v in found.x[2:5])} mm",
            expected=f"{_FWHM_RANGE_MM[0]:g} to {_FWHM_RANGE_MM[1]:g} mm, shift below {LARGEST_SHIFT_MM:g} mm",
            remedy="Check which phantom was imaged, its sizes, and where its outlines are.",
        )
    fitted, slopes = model(found.x)
    covariance = _covariance(fitted - data / scale, slopes, found.x[:2], spacing_mm)
    residual = float(np.sqrt(np.sum((fitted - data / scale) ** 2) / np.sum((data / scale) ** 2)))
    z, y, x = (float(v) for v in found.x[2:5])
    return BlurFit(
        fwhm_mm=(float(found.x[0] * FWHM_PER_SD), float(found.x[1] * FWHM_PER_SD)),
        covariance=covariance[:2, :2] * FWHM_PER_SD**2,
        shift_mm=(z, y, x),
        concentrations=tuple(float(v) * scale for v in found.x[5:-1]),
        background=float(found.x[-1]) * scale,
        residual_rel=residual,
        model=fitted * scale,
    )


def _covariance(
    residual: Volume, slopes: NDArray[np.float64], sd_mm: NDArray[np.float64], spacing_mm: Vector
) -> NDArray[np.float64]:
    """(J'J)^-1 (sum_ij g_i k_ij g_j') (J'J)^-1 with g_i the score of voxel i and k a Gaussian of distance.

    The estimator of Conley 1999 (doi 10.1016/S0304-4076(98)00084-0): residuals of neighbours vary together.
    """
    flat = slopes.reshape(len(slopes), -1)
    inverse = np.linalg.inv(flat @ flat.T)
    scores = slopes * residual
    sigma = [_KERNEL_SD * s / step for s, step in zip((sd_mm[1], sd_mm[0], sd_mm[0]), spacing_mm, strict=True)]
    # The filter's weights sum to one; those of the kernel are one at distance zero.
    weight = float(np.prod([np.sqrt(2.0 * np.pi) * s for s in sigma]))
    smooth = np.stack([gaussian_filter(score, sigma, mode="constant") for score in scores]) * weight
    meat = scores.reshape(len(scores), -1) @ smooth.reshape(len(smooth), -1).T
    return np.asarray(inverse @ (meat + meat.T) / 2.0 @ inverse)
