"""Names of regions in other programs and in the ledger."""

from __future__ import annotations

import re
from typing import Final

#: Names of other programs, lower case with single underscores, that the ledger calls otherwise.
LEDGER_NAMES: Final[dict[str, str]] = {
    "left_kidney": "kidney_left",
    "kidney_l": "kidney_left",
    "right_kidney": "kidney_right",
    "kidney_r": "kidney_right",
    "kidney": "kidneys",
    "parotidgland_left": "parotid_left",
    "parotidgland_right": "parotid_right",
    "submandibulargland_left": "submandibular_left",
    "submandibulargland_right": "submandibular_right",
    "bladder": "urinary_bladder",
    "thyroid": "thyroid_gland",
    "bonemarrow": "red_marrow",
    "active_marrow": "red_marrow",
    "remainderofbody": "remainder",
    "remainder_of_body": "remainder",
    "rest_of_body": "remainder",
    "wholebody": "whole_body",
    "total_body": "whole_body",
}
#: Regions that are made of others.
SUMS: Final = frozenset({"kidneys", "salivary_glands", "bowel", "whole_body"})

#: Source organs of OLINDA/EXM 2 and of MIRDcalc (ICRP Publication 133) by the regions that make them up.
#: Regions that are only a part of an organ there (lumbar marrow, colon, heart) and lesions have no counterpart.
SOURCE_ORGANS: Final[dict[tuple[str, ...], tuple[str, str]]] = {
    ("kidney_left", "kidney_right"): ("Kidneys", "Kidneys"),
    ("liver",): ("Liver", "Liver"),
    ("spleen",): ("Spleen", "Spleen"),
    ("pancreas",): ("Pancreas", "Pancreas"),
    ("parotid_left", "parotid_right", "submandibular_left", "submandibular_right"): (
        "Salivary Glands",
        "Salivary glands",
    ),
    ("adrenal_gland_left", "adrenal_gland_right"): ("Adrenals", "Adrenals"),
    ("lung_left", "lung_right"): ("Lungs", "Lungs"),
    ("brain",): ("Brain", "Brain"),
    ("thyroid_gland",): ("Thyroid", "Thyroid"),
    ("small_bowel", "duodenum"): ("Small Intestine", "Small intestine contents"),
    ("stomach",): ("Stomach Contents", "Stomach contents"),
    ("gallbladder",): ("Gallbladder Contents", "Gallbladder contents"),
    ("urinary_bladder",): ("Urinary Bladder Contents", "Urinary bladder contents"),
    ("red_marrow",): ("Red Marrow", "Red (active) marrow"),
}


def ledger_name(name: str) -> str:
    """Name of a region as the ledger writes it.

    Examples
    --------
    >>> ledger_name("Kidney_Left"), ledger_name("Urinary Bladder Wall"), ledger_name("LLI Wall")
    ('kidney_left', 'urinary_bladder_wall', 'lli_wall')
    """
    plain = re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")
    return LEDGER_NAMES.get(plain, plain)


def laterality(region: str) -> str | None:
    side = region.rsplit("_", 1)[-1]
    return side if side in ("left", "right") else None
