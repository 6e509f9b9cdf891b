"""Uncertainty of an organ dose after the EANM guidance (Gear et al. 2018).

doi 10.1007/s00259-018-4136-7; equation numbers below are of that paper. The chain is volume ->
recovery and counts -> activity -> time-integrated activity -> S value -> dose. The volume is one
variable: it enters activity and S value with opposite sign, and forgetting that nearly doubles
the result for a small lesion. Correlations are carried by the ``uncertainties`` package.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import erf, exp, hypot, log, pi, sqrt
from typing import Final

from uncertainties import UFloat, ufloat

from doseledger.units import FWHM_PER_SD

#: S ~ V^x for self-irradiation by electrons; x = -0.99 for spheres of soft tissue (Gear 2018).
S_VALUE_EXPONENT: Final = -0.99


def u_volume_rel(volume_ml: float, *, voxel_mm: float, fwhm_mm: float, operator_rel: float = 0.0) -> float:
    """Relative standard uncertainty of an outlined volume.

    u(d)^2 = a^2 / 6 + FWHM^2 / (4 ln 2) for the diameter d of the sphere of the same volume
    (eq. 7), u(V)/V = 3 u(d)/d (eq. 5); the variability of operators is added in quadrature.

    Parameters
    ----------
    voxel_mm, fwhm_mm
        Voxel and resolution of the image *on which the outline was drawn*.

    Examples
    --------
    A kidney of 150 mL outlined on a CT of 1.5 mm:

    >>> round(u_volume_rel(150.0, voxel_mm=1.5, fwhm_mm=1.5), 4)
    0.0496
    """
    diameter_mm = (6.0 * volume_ml * 1000.0 / pi) ** (1.0 / 3.0)
    u_diameter_mm = sqrt(voxel_mm**2 / 6.0 + fwhm_mm**2 / (4.0 * log(2.0)))
    return hypot(3.0 * u_diameter_mm / diameter_mm, operator_rel)


def spill_fraction(volume_ml: float, *, fwhm_mm: float) -> float:
    """phi = erf(2r/(s sqrt 2)) - (2s/(r sqrt(2 pi)))(1 - exp(-2 r^2/s^2)) of eq. 20.

    s is the standard deviation of the SPECT blur, r the radius of the sphere of that volume.
    """
    r: float = (3.0 * volume_ml * 1000.0 / (4.0 * pi)) ** (1.0 / 3.0)
    s = fwhm_mm / FWHM_PER_SD
    return erf(2.0 * r / (s * sqrt(2.0))) - (2.0 * s / (r * sqrt(2.0 * pi))) * (1.0 - exp(-2.0 * r**2 / s**2))


@dataclass(frozen=True)
class DoseUncertainty:
    """Relative standard uncertainties of one organ dose, and its 95 % interval as a factor."""

    calibration_rel: float
    recovery_rel: float | None
    volume_rel: float
    fit_rel: float
    dose_factor_rel: float
    total_rel: float
    #: Of a half-life that was assumed, not measured: other parts of a sum assume the same.
    fit_is_shared: bool = False

    @property
    def systematic_rel(self) -> float:
        """Parts that all scans and cycles share: calibration, recovery, volume, engine."""
        shared = (self.calibration_rel, self.recovery_rel or 0.0, self.volume_rel, self.dose_factor_rel)
        return sqrt(sum(part**2 for part in shared))


def dose_uncertainty(
    *,
    volume_ml: float,
    u_volume_rel: float,
    spect_fwhm_mm: float,
    u_calibration_rel: float,
    u_fit_rel: float,
    u_dose_factor_rel: float,
    recovery_coefficient: float = 1.0,
    recovery_slope: float = 0.0,
    u_recovery_rel: float | None = None,
    fit_is_shared: bool = False,
) -> DoseUncertainty:
    """Relative uncertainty of a dose D = C TIA' S / (Q R) whose volume is one shared variable.

    Counts follow the volume with the exponent phi / (2 R) (eq. 20), the recovery with
    `recovery_slope` = d ln R / d ln V, the S value with `S_VALUE_EXPONENT`.

    Parameters
    ----------
    u_volume_rel
        Relative standard uncertainty of the volume, see the function of the same name.
    u_fit_rel
        Of the time integral, from random uncertainties alone.
    u_recovery_rel
        Of the recovery at the given volume; where it is not corrected, the loss that is expected;
        None if the recovery plays no part.
    fit_is_shared
        Whether the half-life is an assumption, which the parts of a sum have in common.
    """
    exponent = spill_fraction(volume_ml, fwhm_mm=spect_fwhm_mm) / (2.0 * recovery_coefficient)
    ln_volume = _variable(u_volume_rel)
    ln_recovery = recovery_slope * ln_volume + _variable(u_recovery_rel or 0.0)
    ln_activity = exponent * ln_volume - ln_recovery - _variable(u_calibration_rel)
    ln_s_value = S_VALUE_EXPONENT * ln_volume + _variable(u_dose_factor_rel)
    ln_dose = ln_activity + _variable(u_fit_rel) + ln_s_value
    return DoseUncertainty(
        calibration_rel=u_calibration_rel,
        recovery_rel=u_recovery_rel,
        volume_rel=abs(exponent - recovery_slope + S_VALUE_EXPONENT) * u_volume_rel,
        fit_rel=u_fit_rel,
        dose_factor_rel=u_dose_factor_rel,
        total_rel=float(ln_dose.std_dev),
        fit_is_shared=fit_is_shared,
    )


def _variable(sd: float) -> UFloat:
    """A new independent variable of mean 0; without uncertainty it is a constant."""
    return ufloat(0.0, sd) if sd > 0 else ufloat(0.0, 1.0) * 0.0


def combine_parts(energies: list[float], parts: list[DoseUncertainty], mass_shares: list[float]) -> DoseUncertainty:
    """Uncertainty of the dose of a region that is the sum of parts (both kidneys).

    D = sum E_i / sum m_i. Calibration, recovery and engine are common to the parts and add
    linearly; fit and volume are independent. The fits of parts that were seen once are common too:
    most of their uncertainty is a half-life that is assumed for all of them. The volume of a part
    moves its energy and the common mass: its own relative part is kept, weighted by the energy share.
    """
    total = sum(energies)
    weights = [e / total for e in energies] if total > 0 else mass_shares

    def linear(values: list[float]) -> float:
        return sum(w * v for w, v in zip(weights, values, strict=True))

    def quadrature(values: list[float]) -> float:
        return sqrt(sum((w * v) ** 2 for w, v in zip(weights, values, strict=True)))

    calibration = linear([p.calibration_rel for p in parts])
    recovery = linear([p.recovery_rel or 0.0 for p in parts])
    volume = quadrature([p.volume_rel for p in parts])
    fit = hypot(
        linear([p.fit_rel if p.fit_is_shared else 0.0 for p in parts]),
        quadrature([0.0 if p.fit_is_shared else p.fit_rel for p in parts]),
    )
    factor = linear([p.dose_factor_rel for p in parts])
    return DoseUncertainty(
        calibration_rel=calibration,
        recovery_rel=None if all(p.recovery_rel is None for p in parts) else recovery,
        volume_rel=volume,
        fit_rel=fit,
        dose_factor_rel=factor,
        total_rel=sqrt(calibration**2 + recovery**2 + volume**2 + fit**2 + factor**2),
        fit_is_shared=all(p.fit_is_shared for p in parts),
    )
