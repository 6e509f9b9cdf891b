"""Branching fractions of the decay chains: ``python recipes/decay_chains.py > src/doseledger/data/decay_chains.csv``.

Written from ``radioactivedecay`` (MIT licence), whose import takes longer than a dose calculation: the table is read
instead. tests/unit/test_nuclides.py holds the table against the package.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Iterator
from typing import Final

import radioactivedecay

#: Nuclides of therapy and its imaging; their descendants follow by themselves.
NUCLIDES: Final = (
    *("Lu-177", "Lu-177m", "Y-90", "I-131", "Tb-161", "Cu-67", "Cu-64", "Sm-153", "Ho-166", "Re-188", "Re-186"),
    *("Tc-99m", "In-111", "Ga-68", "I-124", "I-123", "Zr-89", "F-18", "Sr-89", "P-32", "Er-169", "Y-86", "Pb-203"),
    *("Tb-149", "Tb-152", "Tb-155", "Sc-44", "Sc-47", "Ga-67", "Tl-201"),
    *("Pb-212", "Ac-225", "Ra-223", "Ra-224", "At-211", "Bi-213", "Bi-212", "Th-227"),
)


def branches() -> Iterator[tuple[str, str, float]]:
    """``(parent, daughter, fraction)`` of the nuclides and of all their radioactive descendants."""
    queue, seen = list(NUCLIDES), set(NUCLIDES)
    while queue:
        parent = radioactivedecay.Nuclide(queue.pop(0))
        for daughter, fraction in zip(parent.progeny(), parent.branching_fractions(), strict=True):
            yield parent.nuclide, daughter, fraction
            if daughter not in seen and radioactivedecay.Nuclide(daughter).half_life("readable") != "stable":
                queue.append(daughter)
                seen.add(daughter)


def main() -> None:
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(["parent", "daughter", "branching_fraction"])
    writer.writerows(branches())


if __name__ == "__main__":
    main()
