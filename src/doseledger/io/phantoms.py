"""The sheet of a camera study and its images: which bodies were filled, how they are seen, and where they lie."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from doseledger.activity import Calibration
from doseledger.activity.phantom_shapes import FilledShape
from doseledger.errors import PhantomError
from doseledger.geometry import Grid, Vector
from doseledger.io.dicom import SpectProvenance, Structure, read_spect, read_structures
from doseledger.io.models import PhantomBody
from doseledger.io.sheets import read_sheet
from doseledger.nuclides import Nuclide, nuclide
from doseledger.units import BQ_PER_MBQ

Row = dict[str, Any]
#: Columns that all bodies of one scan share.
_OF_SCAN: Final = ("data_origin", "phantom", "contours", "nuclide", "u_activity_rel", "detectors", "energy_window_kev")
#: The volume of form and size against the volume that was weighed: walls, filling holes and bubbles.
VOLUME_TOLERANCE_REL: Final = 0.10


@dataclass(frozen=True)
class Body:
    """A filled body; `activity_mbq` is that at `activity_time`."""

    name: str
    shape: FilledShape
    volume_ml: float
    activity_mbq: float
    activity_time: datetime


@dataclass(frozen=True)
class PhantomScan:
    """One scan of a phantom, as the sheet has it."""

    site: str
    camera: str
    data_origin: str
    phantom: str
    spect: str
    contours: str | None
    source: Nuclide
    u_activity_rel: float
    detectors: int | None
    energy_window_kev: tuple[float, float] | None
    bodies: tuple[Body, ...]


@dataclass(frozen=True, eq=False)
class PhantomImage:
    """A SPECT of a phantom.

    Attributes
    ----------
    array
        ``(z, y, x)`` at scan start: MBq/mL, or cps/mL where `in_counts`.
    """

    array: NDArray[np.float64]
    grid: Grid
    scan_start: datetime
    in_counts: bool
    provenance: SpectProvenance


def read_phantom_scans(path: Path) -> list[PhantomScan]:
    """Scans of a phantom sheet, in the order of site, camera and phantom.

    Raises
    ------
    RecordedError
        A defective row.
    PhantomError
        Bodies of one scan that contradict each other, or a size that does not fit the volume.
    """
    rows = read_sheet(path, PhantomBody, unique=("site", "camera", "spect", "body"))
    if not rows:
        raise PhantomError("the sheet names no phantom", path=path.name)
    rows.sort(key=_scan_key)
    return [_scan(list(group), path.name) for _, group in groupby(rows, key=_scan_key)]


def _scan_key(row: Row) -> tuple[str, str, str, str]:
    return row["site"], row["camera"], row["phantom"], row["spect"]


def _scan(rows: list[Row], sheet: str) -> PhantomScan:
    first = rows[0]
    for column in _OF_SCAN:
        for row in rows[1:]:
            if row[column] != first[column]:
                raise PhantomError(
                    f"two bodies of the scan {first['spect']} contradict each other",
                    path=sheet,
                    tag=column,
                    value=row[column],
                    expected=first[column],
                )
    window = first["energy_window_kev"]
    low, high = map(float, window.split("-")) if window else (0.0, 0.0)
    decay = first["phantom"] == "decay"
    if decay and first["detectors"] is None:
        raise PhantomError("a dead time needs the number of detectors", path=sheet, tag="detectors")
    return PhantomScan(
        site=first["site"],
        camera=first["camera"],
        data_origin=first["data_origin"],
        phantom=first["phantom"],
        spect=first["spect"],
        contours=first["contours"],
        source=nuclide(first["nuclide"]),
        u_activity_rel=first["u_activity_rel"] or 0.0,
        detectors=first["detectors"],
        energy_window_kev=(low, high) if window else None,
        bodies=() if decay else tuple(_body(row, sheet) for row in rows),
    )


def _body(row: Row, sheet: str) -> Body:
    shape = FilledShape(row["shape"], _diameters(row["size_mm"]), row["hollow_mm"] and _diameters(row["hollow_mm"]))
    if abs(shape.volume_ml / row["volume_ml"] - 1.0) > VOLUME_TOLERANCE_REL:
        raise PhantomError(
            f"size and volume of {row['body']} contradict each other",
            path=sheet,
            tag="size_mm",
            value=f"{row['size_mm']} mm is {shape.volume_ml:.4g} mL",
            expected=f"{row['volume_ml']:.4g} mL within {VOLUME_TOLERANCE_REL:.0%}",
            remedy="Write inner diameters, not radii, and the volume that was filled.",
        )
    return Body(
        name=row["body"],
        shape=shape,
        volume_ml=row["volume_ml"],
        activity_mbq=row["activity_mbq"],
        activity_time=datetime.fromisoformat(row["activity_time"]),
    )


def _diameters(text: str) -> Vector:
    x, *rest = (float(part) for part in text.split("x"))
    y, z = rest or (x, x)
    return (x, y, z)


def read_phantom_image(scan: PhantomScan, base: Path) -> PhantomImage:
    """The SPECT of a scan; counts come out as count rates, whatever the sensitivity is.

    Raises
    ------
    DoseledgerError
        The image cannot be read, or is neither counts nor Bq/mL (`read_spect`).
    """
    # Counts are read with 1 cps/MBq: what comes out per mL is then the count rate.
    unit = Calibration(
        sensitivity_cps_per_mbq=1.0,
        basis="system",
        geometry="none",
        date=min(body.activity_time for body in scan.bodies).date(),
        detectors=scan.detectors,
        energy_window_kev=scan.energy_window_kev,
    )
    spect = read_spect(base / scan.spect, calibration=unit, nuclide=scan.source)
    return PhantomImage(
        array=spect.array_bq_per_ml.astype(np.float64) / BQ_PER_MBQ,
        grid=spect.grid,
        scan_start=spect.scan_start,
        in_counts=spect.provenance.calibration is not None,
        provenance=spect.provenance,
    )


def outlined_centres(scan: PhantomScan, base: Path, frame_of_reference_uid: str | None) -> dict[str, Vector] | None:
    """Centres of the bodies from their outlines, LPS mm; None without contours.

    Raises
    ------
    PhantomError
        A body without outline, or outlines in another frame of reference than the SPECT.
    """
    if scan.contours is None:
        return None
    structures = {s.name: s for s in read_structures(base / scan.contours)}
    centres = {}
    for body in scan.bodies:
        structure = structures.get(body.name)
        if structure is None or not structure.contours:
            raise PhantomError(
                f"the structure set has no outline of {body.name}",
                path=scan.contours,
                tag="body",
                value=body.name,
                expected=sorted(structures),
            )
        if frame_of_reference_uid and structure.frame_of_reference_uid not in (None, frame_of_reference_uid):
            raise PhantomError(
                "the outlines are in another frame of reference than the SPECT",
                path=scan.contours,
                tag="FrameOfReferenceUID (0020,0052)",
                remedy="Name the structure set that was drawn on the CT of this scan.",
            )
        centres[body.name] = _centre(structure)
    return centres


def _centre(structure: Structure) -> Vector:
    """Centroid of the outlined body: of its sections, weighted by their area."""
    sections = np.array([(*area_centroid, area) for *area_centroid, area in _sections(structure.contours)])
    x, y, z = (float(v) for v in np.average(sections[:, :3], axis=0, weights=sections[:, 3]))
    return (x, y, z)


def _sections(contours: Sequence[NDArray[np.float64]]) -> Iterator[tuple[float, float, float, float]]:
    """Centroid and area of each axial polygon (shoelace formula)."""
    for points in contours:
        x, y = points[:, 0] - points[0, 0], points[:, 1] - points[0, 1]
        following_x, following_y = np.roll(x, -1), np.roll(y, -1)
        cross = x * following_y - following_x * y
        area = float(cross.sum()) / 2.0
        if area != 0.0:
            mean_x = float(((x + following_x) * cross).sum()) / (6.0 * area) + float(points[0, 0])
            mean_y = float(((y + following_y) * cross).sum()) / (6.0 * area) + float(points[0, 1])
            yield mean_x, mean_y, float(points[0, 2]), abs(area)
