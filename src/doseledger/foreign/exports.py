"""TIAC of every cycle as input of OLINDA/EXM 2 and of MIRDcalc.

Both calculate on reference adults. Their source organs are made of the ledger's primary rows; what has no
counterpart there is named, never added to something else.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from doseledger.cohort import COHORT_FOLDERS, Plan, Row
from doseledger.data import records
from doseledger.errors import ForeignResultsError, InputMissingError
from doseledger.foreign.names import SOURCE_ORGANS, SUMS
from doseledger.steps.cohort_page import read_cohort_table

#: Name of the phantom in a case file, and its letter there.
_OLINDA_MODEL: Final = {"M": ("ICRP 89 Adult Male", "A"), "F": ("ICRP 89 Adult Female", "B")}
_MIRDCALC_PHANTOM: Final = {"M": "ICRP Adult Male", "F": "ICRP Adult Female"}
_MASS: Final = {"M": "man_g", "F": "woman_g"}


@dataclass(frozen=True)
class Exported:
    """Files that were written, and what is not in them."""

    files: tuple[Path, ...]
    left_out: tuple[str, ...]


def export_tiac(plan: Plan, out: Path) -> Exported:
    """Write a case file and a CSV per cycle into a new folder.

    Raises
    ------
    InputMissingError
        The cohort has no doses yet.
    ForeignResultsError
        The folder is not empty.
    """
    if out.exists() and any(out.iterdir()):
        raise ForeignResultsError("the folder is not empty", path=out.name, remedy="Give an empty folder.")
    folder = plan.results / COHORT_FOLDERS[0]
    doses = [row for row in read_cohort_table(folder, "organ_dose") if row["is_primary"]]
    if not doses:
        raise InputMissingError(
            "the cohort has no doses yet", path=folder.name, remedy="Run the cohort to its end first."
        )
    sexes = {(row["site"], row["patient"]): row["sex"] for row in read_cohort_table(folder, "patient")}
    nuclides = {_cycle(row): row["nuclide"] for row in read_cohort_table(folder, "administration")}
    cycles: dict[tuple[str, str, int], list[Row]] = {}
    for row in doses:
        cycles.setdefault(_cycle(row), []).append(row)
    out.mkdir(parents=True, exist_ok=True)
    files, left_out = [], []
    for (site, patient, cycle), rows in sorted(cycles.items()):
        where = f"site {site}, patient {patient}, cycle {cycle}"
        sex = sexes.get((site, patient))
        if sex not in _MASS:
            left_out.append(f"{where}: no reference adult without the patient's sex (F or M)")
            continue
        organs, unmapped = source_organs({row["region"]: row["tiac_h"] for row in rows})
        left_out += [f"{where}: {region}: no source organ of its own" for region in unmapped]
        stem = out / f"site-{site}_sub-{patient}_ses-c{cycle}"
        texts = {
            ".cas": olinda_case(nuclides[site, patient, cycle], sex, {olinda: h for (olinda, _), h in organs.items()}),
            "_mirdcalc.csv": mirdcalc_csv(
                nuclides[site, patient, cycle], sex, {mirdcalc: h for (_, mirdcalc), h in organs.items()}
            ),
        }
        for ending, text in texts.items():
            files.append(stem.with_name(stem.name + ending))
            files[-1].write_text(text, encoding="utf-8", newline="")
    return Exported(tuple(files), tuple(left_out))


def _cycle(row: Row) -> tuple[str, str, int]:
    return row["site"], row["patient"], row["cycle"]


def source_organs(tiac_h: Mapping[str, float | None]) -> tuple[dict[tuple[str, str], float], list[str]]:
    """TIAC of source organs from those of regions, and the regions that belong to none.

    An organ that lacks a part (one kidney, one gland) is left out: half of it would pass for the whole.

    Examples
    --------
    >>> source_organs({"kidney_left": 0.5, "kidney_right": 0.25, "liver": 1.0, "lesion_1": 3.0})
    ({('Kidneys', 'Kidneys'): 0.75, ('Liver', 'Liver'): 1.0}, ['lesion_1'])
    """
    organs: dict[tuple[str, str], float] = {}
    used: set[str] = set()
    for parts, names in SOURCE_ORGANS.items():
        values = [tiac_h.get(part) for part in parts]
        numbers = [value for value in values if value is not None]
        if len(numbers) == len(parts):
            organs[names] = sum(numbers)
            used.update(parts)
    return organs, sorted(region for region in tiac_h if region not in used and region not in SUMS)


def olinda_case(nuclide: str, sex: str, tiac_h: Mapping[str, float]) -> str:
    """Case file of OLINDA/EXM 2 with the masses of the reference adult.

    Parameters
    ----------
    tiac_h
        TIAC in h (MBq h per MBq administered) by source organ.
    """
    model, letter = _OLINDA_MODEL[sex]
    organs = records("olinda_organs")
    sources = [(row["organ"], float(row[_MASS[sex]])) for row in organs if row["list"] == "source"]
    targets = [(row["organ"], float(row[_MASS[sex]])) for row in organs if row["list"] == "target"]
    lines = [
        "Saved by doseledger, research software, not a medical device",
        "[BEGIN CASE FILE]",
        *_block("NUCLIDE SETTINGS", ["USE_DECAY_SERIES|false", "USE_LEGACY_DATA|false"]),
        *_block("NUCLIDES", [f"{nuclide}|"]),
        *_block("MODEL SETTINGS", []),
        "[BEGIN MODELS]",
        f"[BEGIN {model}]",
        f"{model}|{letter}",
        *_block(f"{model} SOURCE ORGANS", [f"{o}|{mass:.1f}|{tiac_h.get(o, 0.0):.6f}" for o, mass in sources]),
        *_block(f"{model} MODEL OPTIONS", ["IS_BONE_ACTIVITY_ON_SURFACE|true"]),
        *_block(f"{model} TARGET ORGANS", [f"{o}|{mass:.1f}" for o, mass in targets]),
        *_block(f"{model} MODEL TARGET ORGANS", ["TARGET_ORGAN_MASSES_ARE_FROM_USER_INPUT|FALSE"]),
        *_block("KINETIC DATA", [f"{o}|{tiac_h.get(o, 0.0):.6f}" for o, _ in sources]),
        f"[END {model}]",
        "[END MODELS]",
        "[END CASE FILE]",
    ]
    return "\n".join(lines) + "\n"


def _block(name: str, lines: list[str]) -> list[str]:
    return [f"[BEGIN {name}]", *lines, f"[END {name}]"]


def mirdcalc_csv(nuclide: str, sex: str, tiac_h: Mapping[str, float]) -> str:
    """Source regions and their TIAC, to be copied into MIRDcalc."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["phantom", "nuclide", "source region", "TIAC [h]"])
    for organ, value in tiac_h.items():
        writer.writerow([guarded(cell) for cell in (_MIRDCALC_PHANTOM[sex], nuclide, organ, f"{value:.6f}")])
    return text.getvalue()


def guarded(cell: str) -> str:
    """A cell that no spreadsheet takes for a formula.

    Examples
    --------
    >>> guarded("=1+1"), guarded("Liver"), guarded("0.5")
    ("'=1+1", 'Liver', '0.5')
    """
    return f"'{cell}" if cell[:1] in ("=", "+", "-", "@", "\t", "\r") else cell
