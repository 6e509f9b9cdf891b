"""Activity of blood samples: to the time of the sample, from plasma to blood, and whether it can be."""

from __future__ import annotations

from typing import Final, Literal

from doseledger.errors import QuantityError

DecayReference = Literal["sample_time", "injection_start"]
Matrix = Literal["blood", "plasma"]

#: No more of the administered activity is in 1 mL: it would all be in a litre of blood or plasma.
LARGEST_SHARE_PER_ML: Final = 1.0e-3
#: Within so many hours after the start of the injection ...
EARLY_H: Final = 4.0
#: ... the largest sample holds at least so much of it in 1 mL: half a per cent of it in five litres.
SMALLEST_EARLY_SHARE_PER_ML: Final = 1.0e-6


def at_sample_time(
    concentration: float, hours_after_start: float, reference: DecayReference, *, half_life_h: float
) -> float:
    """Concentration at the time of the sample; one that refers to the start of the injection decays to it.

    Examples
    --------
    >>> at_sample_time(100.0, 24.0, "injection_start", half_life_h=24.0)
    50.0
    """
    return concentration * (0.5 ** (hours_after_start / half_life_h) if reference == "injection_start" else 1.0)


def whole_blood(concentration: float, matrix: Matrix, haematocrit: float | None) -> float:
    """Concentration of blood: C_plasma (1 - Hct), with no activity in the cells.

    Raises
    ------
    QuantityError
        Plasma without a haematocrit.

    Examples
    --------
    >>> whole_blood(100.0, "plasma", 0.42), whole_blood(100.0, "blood", None)
    (58.00000000000001, 100.0)
    """
    if matrix == "blood":
        return concentration
    if haematocrit is None:
        raise QuantityError("plasma without a haematocrit says nothing of blood")
    return concentration * (1.0 - haematocrit)


def share_per_ml(
    concentration_mbq_per_ml: float, hours_after_start: float, given_mbq: float, half_life_h: float
) -> float:
    """Share of the administered activity in 1 mL, without decay: %IA/mL over 100.

    Examples
    --------
    >>> share_per_ml(1.85, 0.0, 7400.0, 159.528)
    0.00025
    """
    left_mbq: float = given_mbq * 0.5 ** (hours_after_start / half_life_h)
    return concentration_mbq_per_ml / left_mbq
