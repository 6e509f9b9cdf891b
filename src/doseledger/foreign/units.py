"""Units of other programs' columns: stated, known, or the column is refused. Nothing is guessed by its size."""

from __future__ import annotations

import re
from typing import Final, Literal

from doseledger.errors import SheetError, UnitError

Quantity = Literal["dose", "dose_per_activity", "activity", "tia", "tiac", "volume", "mass", "time"]

#: Factor from each unit to that of the ledger: Gy, Gy/GBq, MBq, MBq h, h, mL, g, h.
FACTORS: Final[dict[Quantity, dict[str, float]]] = {
    "dose": {"Gy": 1.0, "cGy": 0.01, "mGy": 1.0e-3},
    "dose_per_activity": {"Gy/GBq": 1.0, "mGy/MBq": 1.0, "mGy/GBq": 1.0e-3, "Gy/MBq": 1.0e3},
    "activity": {"MBq": 1.0, "GBq": 1.0e3, "kBq": 1.0e-3, "Bq": 1.0e-6},
    "tia": {"MBq h": 1.0, "GBq h": 1.0e3, "MBq s": 1.0 / 3600.0, "Bq s": 1.0e-6 / 3600.0},
    "tiac": {"h": 1.0, "MBq h/MBq": 1.0, "Bq h/Bq": 1.0, "s": 1.0 / 3600.0},
    "volume": {"mL": 1.0, "ml": 1.0, "cm3": 1.0, "L": 1.0e3},
    "mass": {"g": 1.0, "kg": 1.0e3},
    "time": {"h": 1.0, "min": 1.0 / 60.0, "d": 24.0},
}
#: Unit of the ledger, for messages.
OF_THE_LEDGER: Final[dict[Quantity, str]] = {name: next(iter(units)) for name, units in FACTORS.items()}

_HEADING: Final = re.compile(r"\s*(?P<name>[^\[\]()]*?)\s*(?:[\[(](?P<unit>[^\[\]()]+)[\])])?\s*")
_NUMBER: Final = re.compile(r"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d{1,3})?")


def heading(text: str) -> tuple[str, str | None]:
    """Name and unit of a column's heading; the unit stands in brackets.

    Examples
    --------
    >>> heading("Absorbed Dose [mGy]"), heading("Organ"), heading("TIA (MBq·h)")
    (('Absorbed Dose', 'mGy'), ('Organ', None), ('TIA', 'MBq h'))
    """
    found = _HEADING.fullmatch(text)
    if found is None:
        return text.strip(), None
    unit = found["unit"]
    return found["name"], None if unit is None else re.sub(r"\s*[·*]\s*|\s+", " ", unit.strip()).replace("³", "3")


def factor(quantity: Quantity, unit: str | None, *, column: str, path: str) -> float:
    """Factor from a stated unit to that of the ledger.

    Raises
    ------
    UnitError
        No unit is stated, or one that is not known for the quantity.

    Examples
    --------
    >>> factor("dose_per_activity", "mGy/MBq", column="Total", path="out.txt")
    1.0
    """
    known = FACTORS[quantity]
    if unit not in known:
        raise UnitError(
            "the column states no unit" if unit is None else "the unit of the column is not known",
            path=path,
            tag=column[:60],
            value=unit,
            expected=sorted(known),
            remedy="Write the unit in brackets behind the name of the column, e.g. 'dose [Gy]'.",
        )
    return known[unit]


def number(text: str, *, column: str, path: str) -> float | None:
    """A plain decimal number, None for an empty cell. Nothing in a cell is ever evaluated.

    Raises
    ------
    SheetError
        The cell holds something else.

    Examples
    --------
    >>> number("1.5e-3", column="dose", path="a.csv"), number("", column="dose", path="a.csv")
    (0.0015, None)
    """
    cell = text.strip()
    if cell in ("", "n/a", "-"):
        return None
    if not _NUMBER.fullmatch(cell):
        raise SheetError(
            "the cell is no plain number",
            path=path,
            tag=column[:60],
            value=cell[:60],
            remedy="Write 1234.5, not 1,234.5.",
        )
    return float(cell)
