"""What another program's file says of a region, as rows of the ledger with that program's own engine name."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pyarrow as pa

from doseledger import __version__
from doseledger.cohort import LABEL, Row
from doseledger.errors import CrossCheckError, SheetError
from doseledger.foreign.names import SUMS, laterality
from doseledger.io.tables import table
from doseledger.nuclides import nuclide
from doseledger.units import MBQ_PER_GBQ

#: Two statements of one quantity may differ by rounding in the file, not by a unit.
AGREE_REL: Final = 0.01
FLAG: Final = "foreign_result"


@dataclass(frozen=True)
class Case:
    """Whose results a file holds: what most programs do not write into it."""

    site: str
    patient: str
    cycle: int
    radiopharmaceutical: str
    nuclide: str
    administered_mbq: float
    data_origin: str

    def __post_init__(self) -> None:
        for name in ("site", "patient"):
            if not LABEL.fullmatch(getattr(self, name)):
                raise SheetError(f"{name} is no label of letters and digits", value=getattr(self, name))
        if self.data_origin not in ("patient", "virtual"):
            raise SheetError("data_origin is neither patient nor virtual", value=self.data_origin)
        if not self.administered_mbq > 0:
            raise SheetError("the administered activity is not positive", value=self.administered_mbq)
        # Raises NuclideError for a name that no table knows.
        _ = nuclide(self.nuclide).half_life_h


@dataclass(frozen=True)
class Region:
    """One region of one cycle; what a file does not say is None."""

    name: str
    volume_ml: float | None = None
    mass_g: float | None = None
    tia_mbq_h: float | None = None
    tiac_h: float | None = None
    dose_gy: float | None = None
    dose_gy_per_gbq: float | None = None
    times_h: tuple[float, ...] = ()
    activities_mbq: tuple[float, ...] = ()
    scans: int | None = None


def ledger_tables(
    engine: str, found: Iterable[tuple[Case, list[Region]]], *, primary: bool, path: Path
) -> dict[str, pa.Table]:
    """Tables of the ledger from what files say.

    Parameters
    ----------
    engine
        Name of the program; `dose_engine` of every row.
    primary
        Whether the rows are the site's own doses; else they stand beside those of the ledger.

    Raises
    ------
    CrossCheckError
        Dose and dose per activity, or TIA and TIAC, do not agree with the administered activity.
    """
    administrations: list[Row] = []
    activities: list[Row] = []
    doses: list[Row] = []
    for case, regions in found:
        key: Row = {"site": case.site, "patient": case.patient, "cycle": case.cycle, "data_origin": case.data_origin}
        key["software_version"] = __version__
        administrations.append(
            key
            | {
                "radiopharmaceutical": case.radiopharmaceutical,
                "nuclide": case.nuclide,
                "administered_mbq": case.administered_mbq,
            }
        )
        for region in regions:
            doses.append(key | _dose_row(engine, case, region, primary=primary, path=path))
            activities += [
                key | {"region": region.name, "time_point": i, "time_h": time_h, "activity_mbq": mbq, "flags": [FLAG]}
                for i, (time_h, mbq) in enumerate(zip(region.times_h, region.activities_mbq, strict=True), start=1)
            ]
    tables = {"administration": administrations, "region_activity": activities, "organ_dose": doses}
    return {name: table(name, rows) for name, rows in tables.items() if rows}


def _dose_row(engine: str, case: Case, region: Region, *, primary: bool, path: Path) -> Row:
    dose_gy, per_gbq = _both(region, "dose_gy", "dose_gy_per_gbq", case.administered_mbq / MBQ_PER_GBQ, path)
    tia_mbq_h, tiac_h = _both(region, "tia_mbq_h", "tiac_h", case.administered_mbq, path)
    scans = region.scans or len(region.times_h) or None
    return {
        "region": region.name,
        "region_level": "sum" if region.name in SUMS else "part",
        "laterality": laterality(region.name),
        "lesion_id": region.name if region.name.startswith("lesion") else None,
        "analysis_id": hashlib.sha256(f"foreign/{engine}".encode()).hexdigest()[:16],
        "is_primary": primary,
        "administered_mbq": case.administered_mbq,
        "n_timepoints": scans,
        "protocol": None if scans is None else {1: "stp", 2: "2tp"}.get(scans, "mtp"),
        "region_source": engine,
        "volume_ml": region.volume_ml,
        "mass_g": region.mass_g,
        "tia_mbq_h": tia_mbq_h,
        "tiac_h": tiac_h,
        "dose_engine": engine,
        "absorbed_dose_gy": dose_gy,
        "dose_gy_per_gbq": per_gbq,
        "flags": [FLAG],
    }


def _both(region: Region, whole: str, part: str, activity: float, path: Path) -> tuple[float | None, float | None]:
    """A quantity and the same per activity: one from the other, or both if they agree."""
    a, b = getattr(region, whole), getattr(region, part)
    if a is None:
        return (None if b is None else b * activity), b
    if b is None:
        return a, a / activity
    if abs(a - b * activity) > AGREE_REL * max(abs(a), abs(b * activity)):
        raise CrossCheckError(
            f"{whole} and {part} of {region.name} do not agree with the administered activity",
            path=path.name,
            value=f"{a:.6g} and {b:.6g}",
            expected=f"a ratio of {activity:.6g}",
            remedy="Give the activity that the program was given, or look for a changed unit.",
        )
    return a, b
