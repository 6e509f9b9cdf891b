"""The radionuclide that a header names, in whichever of the usual spellings."""

from __future__ import annotations

import re
from typing import Final

from doseledger.io.dicom.headers import Header

#: Elements of the radionuclides that are given to patients, by their names in coded terms.
_ELEMENTS: Final = {
    "actinium": "Ac",
    "astatine": "At",
    "bismuth": "Bi",
    "copper": "Cu",
    "fluorine": "F",
    "gallium": "Ga",
    "holmium": "Ho",
    "indium": "In",
    "iodine": "I",
    "lead": "Pb",
    "lutetium": "Lu",
    "radium": "Ra",
    "rhenium": "Re",
    "samarium": "Sm",
    "scandium": "Sc",
    "technetium": "Tc",
    "terbium": "Tb",
    "thorium": "Th",
    "yttrium": "Y",
    "zirconium": "Zr",
}
_NAME: Final = "|".join([*_ELEMENTS, *(name.capitalize() for name in _ELEMENTS), *_ELEMENTS.values()])
_MASS: Final = r"\^?(?P<mass>\d{2,3}m?)\^?"
#: "177Lu", "^177^Lutetium", and "Lu-177", "Lutetium 177", "Lutetium^177^".
_SPELLINGS: Final = (
    re.compile(rf"(?<![A-Za-z0-9]){_MASS}[ -]?(?P<element>{_NAME})(?![a-z])"),
    re.compile(rf"(?<![A-Za-z])(?P<element>{_NAME})[ -]?{_MASS}(?![0-9])"),
)


def header_nuclide(header: Header) -> str | None:
    """Name as in ``"Lu-177"``; None if the header names none, or more than one."""
    names = {name for text in _texts(header) for name in named_nuclides(text)}
    return names.pop() if len(names) == 1 else None


def named_nuclides(text: str) -> set[str]:
    """All radionuclides that a text names.

    Examples
    --------
    >>> named_nuclides("^177^Lutetium"), named_nuclides("177Lu-PSMA-617"), named_nuclides("MDP")
    ({'Lu-177'}, {'Lu-177'}, set())
    """
    return {
        f"{_ELEMENTS.get(found['element'].lower(), found['element'])}-{found['mass']}"
        for spelling in _SPELLINGS
        for found in spelling.finditer(text)
    }


def _texts(header: Header) -> list[str]:
    texts = []
    for item in header.items("RadiopharmaceuticalInformationSequence"):
        codes = (*item.items("RadionuclideCodeSequence"), *item.items("RadiopharmaceuticalCodeSequence"))
        texts += [item.text("Radiopharmaceutical"), *(code.text("CodeMeaning") for code in codes)]
    return [text for text in texts if text]
