"""Response of one lesion by its volume."""

from __future__ import annotations

from collections.abc import Sequence
from math import cbrt, pi
from typing import Final, Literal

from doseledger.errors import QuantityError
from doseledger.units import MM3_PER_ML

Response = Literal["complete_response", "partial_response", "stable", "progression"]

#: RECIST 1.1 (Eisenhauer 2009, doi 10.1016/j.ejca.2008.10.026) in diameters: a partial response is a decrease by
#: 30 % from the first one, progression an increase by 20 % and 5 mm from the smallest one; lesions
#: below 10 mm are not measurable.
PARTIAL_RESPONSE_REL: Final = 0.7
PROGRESSION_REL: Final = 1.2
PROGRESSION_MM: Final = 5.0
MEASURABLE_MM: Final = 10.0


def equivalent_diameter_mm(volume_ml: float) -> float:
    """Diameter of the sphere of a volume, d = (6 V / pi)^(1/3), mm.

    Examples
    --------
    >>> round(equivalent_diameter_mm(4.18879), 3)
    20.0
    """
    return cbrt(6.0 * volume_ml * MM3_PER_ML / pi)


def volume_response(volumes_ml: Sequence[float]) -> Response | None:
    """Response of a lesion after the last of its `volumes_ml`, by diameters of spheres of these volumes.

    The limits are those of RECIST 1.1 for sums of diameters, applied to one lesion: partial response at 0.7 of
    the first diameter (0.343 of its volume), progression at 1.2 of the smallest one (1.728 of its volume) and
    5 mm more. A statement on a lesion, never on a patient.

    Parameters
    ----------
    volumes_ml
        In order of the cycles; 0 for a lesion that is gone. The first one is the one compared with.

    Returns
    -------
    None for a first volume alone, and for a lesion of less than 10 mm at first.

    Raises
    ------
    QuantityError
        No volume, a negative one, or a first one that is not positive.

    Examples
    --------
    >>> volume_response([20.0, 6.5]), volume_response([20.0, 6.5, 15.0]), volume_response([20.0, 15.0])
    ('partial_response', 'progression', 'stable')
    """
    if not volumes_ml or not volumes_ml[0] > 0 or not all(v >= 0 for v in volumes_ml):
        raise QuantityError("volumes of a lesion are not positive", value=list(volumes_ml))
    if len(volumes_ml) == 1 or equivalent_diameter_mm(volumes_ml[0]) < MEASURABLE_MM:
        return None
    first, *_, last = diameters = [equivalent_diameter_mm(v) for v in volumes_ml]
    smallest = min(diameters[:-1])
    if last == 0:
        return "complete_response"
    if last >= PROGRESSION_REL * smallest and last >= smallest + PROGRESSION_MM:
        return "progression"
    return "partial_response" if last <= PARTIAL_RESPONSE_REL * first else "stable"
