"""Files of other programs. Every reader gives regions by case; none evaluates, guesses a unit or drops a doubt.

What each was held against, a real file or a description alone, stands in docs/foreign-results.md.
"""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from doseledger.errors import SheetError, UnitError
from doseledger.foreign.names import ledger_name
from doseledger.foreign.rows import Case, Region
from doseledger.foreign.units import Quantity, factor, heading, number

#: No table of results is that large.
MAX_BYTES: Final = 20 * 1024**2
MAX_LINES: Final = 200_000

Found = list[tuple[Case, list[Region]]]

#: Attribute of a region and its quantity, by names of columns in lower case.
_COLUMNS: Final[dict[str, tuple[str, Quantity]]] = {
    **dict.fromkeys(("volume", "voi volume"), ("volume_ml", "volume")),
    **dict.fromkeys(("mass", "organ mass"), ("mass_g", "mass")),
    **dict.fromkeys(("absorbed dose", "dose", "mean dose", "mean absorbed dose", "total dose"), ("dose_gy", "dose")),
    **dict.fromkeys(
        ("dose per activity", "absorbed dose per activity", "absorbed dose coefficient", "dose coefficient"),
        ("dose_gy_per_gbq", "dose_per_activity"),
    ),
    **dict.fromkeys(("tia", "time-integrated activity", "cumulated activity"), ("tia_mbq_h", "tia")),
    **dict.fromkeys(("tiac", "time-integrated activity coefficient"), ("tiac_h", "tiac")),
}
_REGION_COLUMNS: Final = ("region", "organ", "target organ", "target region", "target", "voi", "segment", "structure")
_CASE_COLUMNS: Final = ("site", "patient", "cycle", "radiopharmaceutical", "nuclide", "data_origin")


@dataclass(frozen=True)
class Kind:
    """A kind of file: the engine name of its rows and what reads it."""

    engine: str
    read: Callable[[Sequence[Path], Case | None, str | None], Found]


def read_template(paths: Sequence[Path], case: Case | None, unit: str | None) -> Found:
    """The CSV of docs/foreign-results-template.csv: every line says whose it is."""
    found: dict[Case, list[Region]] = {}
    for path in paths:
        table = _Table(path)
        scans = table.place("scans")
        for line in table.lines:
            stated = {name: table.cell(line, name) for name in _CASE_COLUMNS}
            administered = table.value(line, "administered activity", "activity")
            if administered is None or not re.fullmatch(r"[1-9]\d{0,2}", stated["cycle"]):
                raise SheetError("the line names no cycle or no administered activity", path=path.name, value=line[:6])
            cycle = int(stated.pop("cycle"))
            whose = Case(**stated, cycle=cycle, administered_mbq=administered)
            count = None if scans is None else number(line[scans], column="scans", path=path.name)
            found.setdefault(whose, []).append(table.region(line, scans=None if count is None else int(count)))
    return list(found.items())


def read_columns(paths: Sequence[Path], case: Case | None, unit: str | None) -> Found:
    """A CSV of one cycle whose columns state their units: what OpenDose3D, MIRDcalc and most programs can save."""
    return [(_needed(case), [table.region(line) for path in paths for table in [_Table(path)] for line in table.lines])]


def read_pytheranostics(paths: Sequence[Path], case: Case | None, unit: str | None) -> Found:
    """``results`` and ``df_ad`` of PyTheranostics as written by pandas; either may be missing."""
    merged: dict[str, dict[str, object]] = {}
    units = {
        "AD[Gy]": ("dose_gy", "dose", "Gy"),
        "AD[Gy/GBq]": ("dose_gy_per_gbq", "dose_per_activity", "Gy/GBq"),
        "TIA_MBq_h": ("tia_mbq_h", "tia", "MBq h"),
        "TIA_h": ("tiac_h", "tiac", "h"),
    }
    for path in paths:
        head, *lines = _lines(path)
        known = [name for name in head if name in units or name in ("Time_hr", "Activity_MBq", "Volume_CT_mL")]
        if head[0] or not known:
            raise SheetError("the file is no table of results of PyTheranostics", path=path.name, value=head[:4])
        for line in lines:
            of_region = merged.setdefault(ledger_name(line[0]), {})
            for name in known:
                cell = line[head.index(name)]
                if name in units:
                    attribute, quantity, stated = units[name]
                    value = number(cell, column=name, path=path.name)
                    scale = factor(quantity, stated, column=name, path=path.name)  # type: ignore[arg-type]
                    of_region[attribute] = None if value is None else value * scale
                else:
                    of_region[name] = _list_of_numbers(cell, column=name, path=path)
    return [(_needed(case), [_of_pytheranostics(name, values) for name, values in merged.items()])]


def _of_pytheranostics(name: str, values: dict[str, object]) -> Region:
    volumes = values.pop("Volume_CT_mL", ())
    assert isinstance(volumes, tuple)
    times, activities = values.pop("Time_hr", ()), values.pop("Activity_MBq", ())
    volume_ml = sum(volumes) / len(volumes) if volumes else None
    return Region(name, volume_ml=volume_ml, times_h=times, activities_mbq=activities, **values)  # type: ignore[arg-type]


def read_olinda(paths: Sequence[Path], case: Case | None, unit: str | None) -> Found:
    """The table ``Target Organ,Alpha,Beta,Gamma,Total`` of a text output of OLINDA/EXM 2.

    The unit stands in the file before the table, or is stated with ``--unit``. Sievert is taken where no alpha
    particle contributes: beta and gamma radiation are weighted by one.
    """
    regions: list[Region] = []
    for path in paths:
        lines = _lines(path)
        start = next((i for i, line in enumerate(lines) if [c.strip() for c in line[:5]] == _OLINDA), None)
        if start is None:
            raise SheetError("the file has no table of target organs", path=path.name, expected=",".join(_OLINDA))
        stated = unit or next(
            (found[1] for line in lines[:start] if (found := _PER_ACTIVITY.search(",".join(line)))), None
        )
        weighted = stated is not None and "Sv" in stated
        scale = factor(
            "dose_per_activity", stated.replace("Sv", "Gy") if stated else None, column="Total", path=path.name
        )
        for line in lines[start + 1 :]:
            if len(line) < 5 or not line[0].strip() or line[0].startswith(("Effective", "Target Organ")):
                break
            alpha, total = (number(line[i], column=_OLINDA[i], path=path.name) for i in (1, 4))
            if weighted and alpha:
                raise UnitError(
                    "a weighted dose with alpha particles is no absorbed dose", path=path.name, tag=line[0][:60],
                    value=stated, expected="mGy/MBq", remedy="Let the program write absorbed doses.",
                )  # fmt: skip
            regions.append(Region(ledger_name(line[0]), dose_gy_per_gbq=None if total is None else total * scale))
    return [(_needed(case), regions)]


_OLINDA: Final = ["Target Organ", "Alpha", "Beta", "Gamma", "Total"]
_PER_ACTIVITY: Final = re.compile(r"\b(m?(?:Gy|Sv)/[MG]Bq)\b")

KINDS: Final[dict[str, Kind]] = {
    "template": Kind("template", read_template),
    "pytheranostics": Kind("pytheranostics", read_pytheranostics),
    "olinda": Kind("olinda", read_olinda),
    "mirdcalc": Kind("mirdcalc", read_columns),
    "opendose3d": Kind("opendose3d", read_columns),
}


class _Table:
    """A CSV with a heading whose columns state their units."""

    def __init__(self, path: Path) -> None:
        self.path = path
        head, *self.lines = _lines(path)
        self._places: dict[str, tuple[int, str | None]] = {}
        for i, text in enumerate(head):
            name, unit = heading(text)
            if name.lower() in self._places:
                raise SheetError("two columns have the same name", path=path.name, tag=name[:60])
            self._places[name.lower()] = i, unit
        self._region = next((self._places[name][0] for name in _REGION_COLUMNS if name in self._places), None)
        if self._region is None:
            raise SheetError("no column names the region", path=path.name, value=head[:6], expected=_REGION_COLUMNS)
        self._taken = {name: item for name, item in _COLUMNS.items() if name in self._places}
        if not self._taken:
            raise SheetError("no column holds a dose, an activity or a volume", path=path.name, value=head[:6])
        attributes = [attribute for attribute, _ in self._taken.values()]
        if len(set(attributes)) < len(attributes):
            raise SheetError("two columns hold the same quantity", path=path.name, value=sorted(self._taken))

    def place(self, column: str) -> int | None:
        return self._places[column][0] if column in self._places else None

    def cell(self, line: Sequence[str], column: str) -> str:
        place = self.place(column)
        if place is None:
            raise SheetError("a column is missing", path=self.path.name, tag=column)
        return line[place].strip()

    def value(self, line: Sequence[str], column: str, quantity: Quantity) -> float | None:
        if column not in self._places:
            raise SheetError("a column is missing", path=self.path.name, tag=column)
        place, unit = self._places[column]
        scale = factor(quantity, unit, column=column, path=self.path.name)
        found = number(line[place], column=column, path=self.path.name)
        return None if found is None else found * scale

    def region(self, line: Sequence[str], scans: int | None = None) -> Region:
        assert self._region is not None
        values = {attribute: self.value(line, name, quantity) for name, (attribute, quantity) in self._taken.items()}
        return Region(ledger_name(line[self._region]), scans=scans, **values)  # type: ignore[arg-type]


def _lines(path: Path) -> list[list[str]]:
    """Cells of a CSV, comma, semicolon or tab; empty lines are passed over."""
    if path.stat().st_size > MAX_BYTES:
        raise SheetError(
            "the file is too large for a table of results", path=path.name, expected=f"at most {MAX_BYTES} bytes"
        )
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise SheetError("the file is no text in UTF-8", path=path.name, remedy="Save it as CSV, UTF-8.") from None
    first = next((line for line in text.splitlines() if line.strip()), "")
    delimiter = max(",;\t", key=first.count)
    try:
        lines = [line for line in csv.reader(io.StringIO(text), delimiter=delimiter) if any(c.strip() for c in line)]
    except csv.Error as error:
        raise SheetError("the file is no CSV", path=path.name, value=str(error)[:60]) from None
    if len(lines) < 2 or len(lines) > MAX_LINES:
        raise SheetError("the file has no rows, or too many", path=path.name, value=len(lines))
    return lines


def _list_of_numbers(cell: str, *, column: str, path: Path) -> tuple[float, ...]:
    """``[1.5, np.float64(2.5)]`` as it is printed by Python; read by its form, never evaluated."""
    inside = re.fullmatch(r"\s*\[(.*)\]\s*", cell)
    if inside is None:
        raise SheetError("the cell is no list of numbers", path=path.name, tag=column, value=cell[:60])
    parts = [re.sub(r"^np\.float64\((.*)\)$", r"\1", part.strip()) for part in inside[1].split(",") if part.strip()]
    values = [number(part, column=column, path=path.name) for part in parts]
    return tuple(value for value in values if value is not None)


def _needed(case: Case | None) -> Case:
    if case is None:
        raise SheetError(
            "files of this kind do not say whose results they hold",
            remedy="Give --site, --patient, --cycle, --radiopharmaceutical, --nuclide, --administered-mbq and "
            "--data-origin.",
        )
    return case
