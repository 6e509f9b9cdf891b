"""``doseledger camera``: from a folder of phantom scans to the camera sheet, the table phantom_qc and a page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any, Final

from doseledger import __version__
from doseledger.io.phantoms import read_phantom_scans
from doseledger.io.tables import read_part, sort_keys, table, write_table
from doseledger.report.camera_page import camera_page
from doseledger.steps.camera_results import CameraResult, Limits, measure_camera
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
    pages = {out.with_name(f"camera_{r.site}_{_file_name(r.camera)}.html"): _page(r) for r in results}
    changes = merge_cameras(out, [camera_row(result) for result in results])
    data = table(TABLE, rows)
    write_table(target, data.sort_by(sort_keys(data.schema)))
    for path, html in pages.items():
        path.write_text(html, encoding="utf-8")
    return Written(tuple(results), tuple(changes), target, tuple(pages))


def _merged_rows(path: Path, results: Sequence[CameraResult]) -> list[dict[str, Any]]:
    """Rows of the cameras that were studied, in place of their earlier ones; those of others stay."""
    studied = {(result.site, result.camera) for result in results}
    kept = read_part(path, TABLE).to_pylist() if path.exists() else []
    rows = [row for row in kept if (row["site"], row["camera"]) not in studied]
    return rows + [row for result in results for row in qc_rows(result)]


def _file_name(camera: str) -> str:
    return "".join(letter if letter.isalnum() else "-" for letter in camera)


def _page(result: CameraResult) -> str:
    raise NotImplementedError
