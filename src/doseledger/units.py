"""Physical constants and unit conversions, fail-closed.

All quantities carry their unit as a suffix of the name. A unit that is not listed here is an
error, never a factor of one.
"""

from __future__ import annotations

from math import log, sqrt
from typing import Final

from doseledger.errors import UnitError

#: Joule per keV, CODATA 2018 (exact since the redefinition of the SI in 2019).
J_PER_KEV: Final = 1.602176634e-16
SECONDS_PER_HOUR: Final = 3600.0
MIN_PER_HOUR: Final = 60.0
HOURS_PER_DAY: Final = 24.0
BQ_PER_MBQ: Final = 1.0e6
MBQ_PER_GBQ: Final = 1.0e3
G_PER_KG: Final = 1.0e3
MM3_PER_ML: Final = 1.0e3
#: Full width at half maximum over standard deviation of a Gaussian.
FWHM_PER_SD: Final = 2.0 * sqrt(2.0 * log(2.0))

#: DICOM Units (0054,1001) and UCUM codes of an activity concentration, in Bq/mL per unit.
#: Sources: DICOM PS3.3 C.8.9.1.1.3; UCUM. GML (g/mL, an SUV) is deliberately not in the list.
BQ_PER_ML_FACTORS: Final[dict[str, float]] = {
    "BQML": 1.0,
    "Bq/ml": 1.0,
    "Bq/mL": 1.0,
    "kBq/ml": 1.0e3,
    "kBq/mL": 1.0e3,
    "MBq/ml": 1.0e6,
    "MBq/mL": 1.0e6,
}


def bq_per_ml_factor(unit: str, *, path: str | None = None, tag: str | None = None) -> float:
    """Factor from a declared unit of activity concentration to Bq/mL.

    Raises
    ------
    UnitError
        The unit is not an activity concentration (GML, CNTS, empty, anything unknown).

    Examples
    --------
    >>> bq_per_ml_factor("kBq/ml")
    1000.0
    """
    try:
        return BQ_PER_ML_FACTORS[unit]
    except KeyError:
        raise UnitError(
            "the image is not in a known unit of activity concentration",
            path=path,
            tag=tag,
            value=unit,
            expected="BQML",
        ) from None


def kev_per_decay_to_gy_g_per_mbq_h(energy_kev: float) -> float:
    """Mean energy per decay to the dose constant Delta.

    Delta = E * 1.602176634e-16 J/keV * 3.6e9 decays/(MBq h) * 1000 g/kg, in Gy g/(MBq h).

    Examples
    --------
    177Lu electrons, 147.92 keV per decay (ICRP-107), in Gy g/(MBq h) = Gy kg/(GBq h):

    >>> round(kev_per_decay_to_gy_g_per_mbq_h(147.92), 5)
    0.08532
    """
    return energy_kev * J_PER_KEV * BQ_PER_MBQ * SECONDS_PER_HOUR * G_PER_KG
