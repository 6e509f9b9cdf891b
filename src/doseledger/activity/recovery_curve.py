"""Recovery against volume for spheres, and against surface for kidney-shaped bodies.

Both forms are summaries of a few bodies, not laws: how far the bodies lie from the form beyond their noise is part of
the result, and of every uncertainty.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq, least_squares

from doseledger.errors import QuantityError

_Floats = NDArray[np.float64]
#: Two parameters, and two bodies more.
LEAST_SPHERES: Final = 4
LEAST_KIDNEYS: Final = 2
#: Noise can lift a recovery above one; the start of the search cannot be there.
_LARGEST_START: Final = 0.99
#: No form is that far off: the search for the scatter ends here.
_LARGEST_SCATTER_REL: Final = 1.0


@dataclass(frozen=True)
class RecoveryCurve:
    """RC(V) = 1/(1 + (alpha/V)^beta) of hot spheres in cold water.

    The form is that of the EANM guidance (Gear 2018, doi 10.1007/s00259-018-4136-7).

    Attributes
    ----------
    covariance
        Of ``(alpha, beta)``.
    scatter_rel
        Relative distance of the spheres from the curve beyond what their noise explains.
    volume_range_ml
        Smallest and largest volume fitted: the curve says nothing outside.
    """

    alpha_ml: float
    beta: float
    covariance: tuple[tuple[float, float], tuple[float, float]]
    scatter_rel: float
    volume_range_ml: tuple[float, float]

    def recovery(self, volume_ml: float) -> float:
        """Recovery coefficient of a sphere.

        Raises
        ------
        QuantityError
            The volume is outside the range that was measured.

        Examples
        --------
        >>> flat = ((0.0, 0.0), (0.0, 0.0))
        >>> curve = RecoveryCurve(1.2, 1.0, flat, 0.0, (0.5, 27.0))
        >>> [round(curve.recovery(v), 4) for v in (0.5236, 26.5218)]
        [0.3038, 0.9567]
        """
        low, high = self.volume_range_ml
        if not low <= volume_ml <= high:
            raise QuantityError(
                "the volume is outside the range of the spheres",
                tag="recovery_volume_min_ml, recovery_volume_max_ml",
                value=f"{volume_ml:.3g} mL",
                expected=f"{low:.3g} to {high:.3g} mL",
                remedy="Correct large regions by the blur of the camera, and leave smaller ones uncorrected.",
            )
        return float(_sphere_form(np.log(self.alpha_ml), self.beta, np.array([volume_ml]))[0])

    def u_recovery_rel(self, volume_ml: float) -> float:
        """Relative standard uncertainty of the recovery of one sphere: covariance and scatter."""
        ratio = (self.alpha_ml / volume_ml) ** self.beta
        rest = ratio / (1.0 + ratio)
        slope = -rest * np.array([self.beta / self.alpha_ml, np.log(self.alpha_ml / volume_ml)])
        return float(np.hypot(np.sqrt(slope @ np.asarray(self.covariance) @ slope), self.scatter_rel))


@dataclass(frozen=True)
class SurfaceRecovery:
    """RC = 1 - k S/V of bodies that are thick against the blur.

    A sharp edge of any body loses ``s/sqrt(2 pi)`` = FWHM/5.903 of activity per surface, so that k is near that.

    Attributes
    ----------
    k_mm
        Loss per surface over volume, mm.
    u_k_mm
        Standard uncertainty, with the distance of the bodies from the line.
    """

    k_mm: float
    u_k_mm: float
    scatter_rel: float
    range_per_mm: tuple[float, float]

    def recovery(self, surface_per_volume_per_mm: float) -> float:
        return 1.0 - self.k_mm * surface_per_volume_per_mm


def fit_recovery(
    volumes_ml: Sequence[float], recoveries: Sequence[float], u_rel: Sequence[float], *, u_common_rel: float = 0.0
) -> RecoveryCurve:
    """Fit the curve of spheres to what their images kept.

    Weights are those of the noise and of a scatter that all spheres share, such that chi-square equals the degrees of
    freedom: without it the largest sphere, whose noise is smallest, would bend the curve to itself.

    Parameters
    ----------
    recoveries
        Activity inside each sphere in the image over the true one, at the camera's calibration.
    u_rel
        Relative standard uncertainties of single spheres: noise.
    u_common_rel
        Of all spheres together: activity and calibration. It goes into the covariance once, not into the weights.

    Raises
    ------
    QuantityError
        Fewer than four spheres, a recovery that is not positive, or a curve that is no recovery curve.

    Examples
    --------
    >>> volumes = [0.5236, 1.1503, 2.5724, 5.5753, 11.494, 26.5218]
    >>> curve = fit_recovery(volumes, [0.3038, 0.4894, 0.6819, 0.8229, 0.9055, 0.9567], [0.01] * 6)
    >>> round(curve.alpha_ml, 2), round(curve.beta, 2), curve.scatter_rel
    (1.2, 1.0, 0.0)
    """
    volumes, seen = np.asarray(volumes_ml, dtype=float), np.asarray(recoveries, dtype=float)
    if len(volumes) < LEAST_SPHERES or not np.all(seen > 0):
        raise QuantityError(
            "a recovery curve needs more spheres, all of them visible",
            value=f"{int((seen > 0).sum())} of {len(seen)}",
            expected=f"at least {LEAST_SPHERES}",
        )

    def relative(p: _Floats, scale: float = 1.0) -> _Floats:
        return np.asarray(_sphere_form(p[0], p[1], volumes) * scale / seen - 1.0)

    # ln(1/RC - 1) is a straight line in ln V: where the search begins.
    slope, intercept = np.polyfit(np.log(volumes), np.log(1.0 / np.minimum(seen, _LARGEST_START) - 1.0), 1)
    start = np.array([-intercept / slope if slope else 0.0, -slope])
    p, covariance, scatter = _fit(relative, start, np.asarray(u_rel, dtype=float))
    if not p[1] > 0:
        raise QuantityError(
            "the recovery does not rise with the volume of the spheres", tag="recovery_beta", value=float(p[1])
        )
    # One step: where the curve goes if all recoveries are higher by their common uncertainty.
    shifted = _fit(lambda q: relative(q, 1.0 / (1.0 + u_common_rel)), p, np.asarray(u_rel, dtype=float))[0]
    alpha = float(np.exp(p[0]))
    to_alpha = np.diag([alpha, 1.0])
    total = to_alpha @ (covariance + np.outer(shifted - p, shifted - p)) @ to_alpha
    return RecoveryCurve(
        alpha_ml=alpha,
        beta=float(p[1]),
        covariance=((float(total[0, 0]), float(total[0, 1])), (float(total[1, 0]), float(total[1, 1]))),
        scatter_rel=scatter,
        volume_range_ml=(float(volumes.min()), float(volumes.max())),
    )


def fit_surface_recovery(
    surfaces_per_volume_per_mm: Sequence[float],
    recoveries: Sequence[float],
    u_rel: Sequence[float],
    *,
    u_common_rel: float = 0.0,
) -> SurfaceRecovery:
    """Fit RC = 1 - k S/V to kidney-shaped bodies.

    Raises
    ------
    QuantityError
        Fewer than two bodies.

    Examples
    --------
    >>> loss = fit_surface_recovery([0.0988, 0.1275, 0.2107], [0.812, 0.750, 0.562], [0.005] * 3)
    >>> round(loss.k_mm, 2)
    2.05
    """
    surfaces, seen = np.asarray(surfaces_per_volume_per_mm, dtype=float), np.asarray(recoveries, dtype=float)
    if len(seen) < LEAST_KIDNEYS or not np.all(seen > 0):
        raise QuantityError(
            "recovery against surface needs more bodies", value=len(seen), expected=f"at least {LEAST_KIDNEYS}"
        )

    def relative(p: _Floats, scale: float = 1.0) -> _Floats:
        return np.asarray((1.0 - p[0] * surfaces) * scale / seen - 1.0)

    p, covariance, scatter = _fit(relative, np.array([2.0]), np.asarray(u_rel, dtype=float))
    shifted = _fit(lambda q: relative(q, 1.0 / (1.0 + u_common_rel)), p, np.asarray(u_rel, dtype=float))[0]
    return SurfaceRecovery(
        k_mm=float(p[0]),
        u_k_mm=float(np.hypot(np.sqrt(covariance[0, 0]), shifted[0] - p[0])),
        scatter_rel=scatter,
        range_per_mm=(float(surfaces.min()), float(surfaces.max())),
    )


def _fit(relative: Callable[[_Floats], _Floats], start: _Floats, u_rel: _Floats) -> tuple[_Floats, _Floats, float]:
    """Parameters, covariance, and the scatter that brings chi-square down to the degrees of freedom."""

    def weighted(scatter: float) -> tuple[_Floats, _Floats, float]:
        u = np.sqrt(u_rel**2 + scatter**2)
        found = least_squares(lambda p: relative(p) / u, start)
        return found.x, found.jac, 2.0 * float(found.cost)

    dof = len(u_rel) - len(start)
    scatter = 0.0
    if dof > 0 and weighted(0.0)[2] > dof:
        scatter = float(brentq(lambda s: weighted(s)[2] - dof, 0.0, _LARGEST_SCATTER_REL, xtol=1e-6))
    p, jacobian, _ = weighted(scatter)
    return p, np.asarray(np.linalg.inv(jacobian.T @ jacobian), dtype=np.float64), scatter


def _sphere_form(ln_alpha: float, beta: float, volumes_ml: _Floats) -> _Floats:
    return np.asarray(1.0 / (1.0 + np.exp(beta * (ln_alpha - np.log(volumes_ml)))))
