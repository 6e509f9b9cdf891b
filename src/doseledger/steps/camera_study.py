"""``doseledger camera``: from a folder of phantom scans to the camera sheet, the table phantom_qc and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

import numpy as np

from doseledger import __version__
from doseledger.io.phantoms import read_phantom_scans
from doseledger.io.tables import read_part, sort_keys, table, write_table
from doseledger.report.camera_page import Profile, camera_page
from doseledger.steps.camera_results import CameraResult, Limits, Study, measure_camera
from doseledger.steps.camera_rows import Change, camera_row, merge_cameras, qc_rows

#: Sheet beside the images, and table beside the camera sheet.
PHANTOM_SHEET: Final = "phantoms.tsv"
TABLE: Final = "phantom_qc"


@dataclass(frozen=True)
class Written:
    """What the command wrote."""

    results: tuple[CameraResult, ...]
    changes: tuple[Change, ...]
    table: Path
    pages: tuple[Path, ...]


def study_cameras(folder: Path, out: Path, *, sheet: Path | None = None, limits: Limits | None = None) -> Written:
    """Measure every camera of a phantom sheet; nothing is written unless all of them could be.

    Parameters
    ----------
    folder
        Phantom images; `sheet` is ``phantoms.tsv`` in it if none is given, and paths are relative to the sheet.
    out
        Camera sheet, new or existing. Beside it go ``phantom_qc.parquet`` and one page per camera.

    Raises
    ------
    DoseledgerError
        What must not be used: scans, sheets, or a camera sheet that contradicts the study.
    """
    sheet = sheet or folder / PHANTOM_SHEET
    scans = read_phantom_scans(sheet)
    results = [
        measure_camera(list(group), sheet.parent, limits or Limits())
        for _, group in groupby(scans, key=lambda scan: (scan.site, scan.camera))
    ]
    target = out.with_name(f"{TABLE}.parquet")
    rows = _merged_rows(target, results)
    changes = merge_cameras(out, [camera_row(result) for result in results])
    data = table(TABLE, rows)
    write_table(target, data.sort_by(sort_keys(data.schema)))
    pages = []
    for result in results:
        pages.append(out.with_name(f"camera_{result.site}_{_file_name(result.camera)}.html"))
        pages[-1].write_text(_page(result, changes), encoding="utf-8")
    return Written(tuple(results), tuple(changes), target, tuple(pages))


def _merged_rows(path: Path, results: Sequence[CameraResult]) -> list[dict[str, Any]]:
    """Rows of the cameras that were studied, in place of their earlier ones; those of others stay."""
    studied = {(result.site, result.camera) for result in results}
    kept = read_part(path, TABLE).to_pylist() if path.exists() else []
    rows = [row for row in kept if (row["site"], row["camera"]) not in studied]
    return rows + [row for result in results for row in qc_rows(result)]


def _file_name(camera: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in camera)


def _page(result: CameraResult, changes: Sequence[Change]) -> str:
    kidneys = [b for s in result.studies if s.measured.scan.phantom == "kidney" for b in s.measured.bodies]
    return camera_page(
        site=result.site,
        camera=result.camera,
        rows=qc_rows(result),
        profiles=[_profile(study) for study in (result.latest("cylinder"), result.latest("nema")) if study is not None],
        surfaces_per_mm={b.body.name: b.body.shape.surface_per_volume_per_mm for b in kidneys},
        limits={
            "change of the sensitivity": result.limits.sensitivity_change_rel,
            "error of images in Bq/mL": result.limits.calibration_error_rel,
            "change of the blur": result.limits.fwhm_change_rel,
        },
        changes=[
            (c.column, c.before or "empty", c.after)
            for c in changes
            if (c.site, c.camera) == (result.site, result.camera)
        ],
        software_version=__version__,
    )


def _profile(study: Study) -> Profile:
    """Along the columns of the image, through the largest body."""
    measured = study.measured
    body = max(measured.bodies, key=lambda b: b.body.volume_ml)
    index = measured.image.grid.index(np.asarray(body.centre_mm)[None, :])[0]
    z, y = (round(float(index[k])) - measured.block[k].start for k in (0, 1))
    seen = measured.image.array[measured.block][z, y]
    places = (np.arange(len(seen)) + measured.block[2].start - index[2]) * measured.image.grid.spacing_mm[2]
    return Profile(
        title=f"{measured.scan.phantom}, {body.body.name}",
        place_mm=tuple(float(v) for v in places),
        seen=tuple(float(v) for v in seen),
        model=tuple(float(v) for v in measured.blur.model[z, y]),
        unit="cps/mL" if measured.image.in_counts else "MBq/mL",
    )
