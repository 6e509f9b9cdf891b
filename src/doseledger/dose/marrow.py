"""Absorbed dose of red marrow, from the activity of a vertebra or from that of blood.

The two methods differ about twofold. Each makes rows of its own, and nothing is ever averaged over both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from doseledger.dose.organ import MARROW_SELF_FRACTION, organ_s_value
from doseledger.errors import NuclideError, QuantityError

#: Region of the ledger that holds both methods.
RED_MARROW: Final = "red_marrow"
#: Region of curves of blood: activity of 1 mL.
BLOOD: Final = "blood"
#: Values of the column ``marrow_method``.
FROM_IMAGE: Final = "image"
FROM_BLOOD: Final = "blood"
METHODS: Final = (FROM_IMAGE, FROM_BLOOD)

#: Share of the volume of spongiosa that is red marrow, where a site states none: 0.70 of the marrow of lumbar vertebrae
#: is active in an adult (ICRP Publication 70, table 41), and bone takes 0.14 of spongiosa of 1.14 g/mL.
DEFAULT_FRACTION: Final = 0.60
#: Red marrow (ICRU Report 46), g/mL.
MARROW_G_PER_ML: Final = 1.03
#: Nuclides for which `MARROW_SELF_FRACTION` is on record: electrons of more energy escape more.
KNOWN_NUCLIDES: Final = ("Lu-177",)
#: Extracellular fluid of red marrow, as a share of it (Sgouros 1993).
EXTRACELLULAR_FRACTION: Final = 0.19

#: Relative standard uncertainty of S(RM <- RM). The published value has three digits; what it stands for, one skeleton
#: for all patients, is a judgement.
U_SELF_S_VALUE_REL: Final = 0.05
#: Relative standard uncertainty of the photon dose of one vertebra as that of all red marrow; a judgement.
U_CROSS_DOSE_REL: Final = 0.25


@dataclass(frozen=True)
class ReferencePerson:
    """Red marrow, g, and body mass, kg."""

    marrow_g: float
    body_kg: float


#: Adults of ICRP Publication 89, table 2.8 (doi 10.1016/S0146-6453(03)00002-2).
REFERENCE_PERSONS: Final = {"M": ReferencePerson(1170.0, 73.0), "F": ReferencePerson(900.0, 60.0)}


def red_marrow_mass_g(sex: str | None = None, mass_kg: float | None = None) -> float:
    """Mass of red marrow, g: that of the reference adult, in proportion to the body mass if it is known.

    The male is taken where `sex` is neither ``M`` nor ``F``.

    Examples
    --------
    >>> red_marrow_mass_g(), round(red_marrow_mass_g("F", 66.0), 3)
    (1170.0, 990.0)
    """
    person = REFERENCE_PERSONS.get(sex or "M", REFERENCE_PERSONS["M"])
    return person.marrow_g * (1.0 if mass_kg is None else mass_kg / person.body_kg)


def marrow_to_blood_ratio(haematocrit: float | None = None) -> float:
    """Activity of 1 g of red marrow over that of 1 mL of blood (RMBLR).

    1 without a haematocrit: for peptides the concentrations in marrow and blood are equal (Forrer 2009). Else
    0.19/(1 - Hct): activity is in plasma and in the extracellular fluid of the marrow alone (Sgouros 1993; Hindorf
    2010, doi 10.1007/s00259-010-1422-4).

    Raises
    ------
    QuantityError
        The haematocrit is no fraction between 0 and 1.

    Examples
    --------
    >>> marrow_to_blood_ratio(), round(marrow_to_blood_ratio(0.42), 4)
    (1.0, 0.3276)
    """
    if haematocrit is None:
        return 1.0
    if not 0.0 < haematocrit < 1.0:
        raise QuantityError("the haematocrit is no fraction", value=haematocrit)
    return EXTRACELLULAR_FRACTION / (1.0 - haematocrit)


def tia_from_image(tia_mbq_h: float, volume_ml: float, *, fraction: float, marrow_g: float) -> float:
    """TIA of all red marrow, MBq h, from that of the spongiosa of a vertebra.

    TIA_RM = TIA / (V f rho) m_RM: all activity of the spongiosa is in its red marrow, the share f of its volume, with
    the density `MARROW_G_PER_ML`, and red marrow elsewhere has the same concentration.

    Raises
    ------
    QuantityError
        Volume or mass are not positive, or the fraction is not above 0 and at most 1.

    Examples
    --------
    >>> round(tia_from_image(100.0, 50.0, fraction=0.6, marrow_g=1170.0), 1)
    3786.4
    """
    if not (volume_ml > 0.0 and marrow_g > 0.0 and 0.0 < fraction <= 1.0):
        raise QuantityError("no concentration in red marrow follows", value=(volume_ml, marrow_g, fraction))
    return tia_mbq_h / (volume_ml * fraction * MARROW_G_PER_ML) * marrow_g


def tia_from_blood(tia_mbq_h_per_ml: float, *, ratio: float, marrow_g: float) -> float:
    """TIA of all red marrow, MBq h, from that of 1 mL of blood: TIA_RM = RMBLR TIA_1mL m_RM.

    Examples
    --------
    0.025 % of 7400 MBq in 1 mL, of which 80 % leave with 1.5 h and 20 % with 20 h:

    >>> from math import log
    >>> tia = 0.00025 * 7400.0 * (0.8 * 1.5 + 0.2 * 20.0) / log(2.0)
    >>> round(tia_from_blood(tia, ratio=1.0, marrow_g=1170.0), 1)
    16238.1
    """
    return ratio * tia_mbq_h_per_ml * marrow_g


def self_dose_gy(tia_mbq_h: float, marrow_g: float, nuclide: str) -> float:
    """Dose of red marrow by the electrons of its own activity, Gy: TIA S(RM <- RM).

    S(RM <- RM) = `MARROW_SELF_FRACTION` E_electron / m_RM; of a concentration the mass cancels.

    Raises
    ------
    NuclideError
        The self fraction of the nuclide is not on record.

    Examples
    --------
    >>> round(self_dose_gy(16238.1, 1170.0, "Lu-177"), 3)
    0.675
    """
    if nuclide not in KNOWN_NUCLIDES:
        raise NuclideError(
            "no S value of red marrow is on record", value=nuclide, expected=f"one of {', '.join(KNOWN_NUCLIDES)}"
        )
    return tia_mbq_h * organ_s_value(RED_MARROW, nuclide, marrow_g)


__all__ = [
    "BLOOD",
    "DEFAULT_FRACTION",
    "EXTRACELLULAR_FRACTION",
    "FROM_BLOOD",
    "FROM_IMAGE",
    "KNOWN_NUCLIDES",
    "MARROW_G_PER_ML",
    "MARROW_SELF_FRACTION",
    "METHODS",
    "RED_MARROW",
    "U_CROSS_DOSE_REL",
    "U_SELF_S_VALUE_REL",
    "marrow_to_blood_ratio",
    "red_marrow_mass_g",
    "self_dose_gy",
    "tia_from_blood",
    "tia_from_image",
]
