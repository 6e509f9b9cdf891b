"""Rows that a camera study writes: one of cameras.tsv, merged into what is there, and those of table phantom_qc."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from math import hypot, sqrt
from pathlib import Path
from typing import Any, Final

from doseledger import __version__
from doseledger.cohort import write_atomically
from doseledger.errors import PhantomError
from doseledger.io.models import Camera
from doseledger.io.sheets import EMPTY_CELLS, read_sheet
from doseledger.steps.camera_results import CameraResult, Study, geometry_of

Row = dict[str, Any]
_NOTHING: Final = "n/a"
_KEY: Final = ("site", "camera")


@dataclass(frozen=True)
class Change:
    """A cell of cameras.tsv that the study filled or replaced; `before` is None for an empty one."""

    site: str
    camera: str
    column: str
    before: str | None
    after: str


def camera_row(result: CameraResult) -> Row:
    """Cells of cameras.tsv that the study knows, as text; what it did not measure is left out."""
    row: Row = {"site": result.site, "camera": result.camera}
    cylinder, spheres, kidneys = (result.latest(phantom) for phantom in ("cylinder", "nema", "kidney"))
    if cylinder is not None:
        header = cylinder.measured.image.provenance
        row |= {name: getattr(header, name) for name in ("manufacturer", "model", "collimator")}
        row |= {
            "u_calibration_rel": f"{u_calibration_rel(cylinder):.3g}",
            "fwhm_mm": f"{(spheres or kidneys or cylinder).measured.blur.mean_fwhm_mm:.4g}",
            "sensitivity_geometry": geometry_of(cylinder.measured),
            "sensitivity_date": cylinder.measured.day.date().isoformat(),
        }
        if result.in_counts:
            scan = cylinder.measured.scan
            window = scan.energy_window_kev
            row |= {
                "sensitivity_cps_per_mbq": f"{cylinder.measured.response:.5g}",
                "sensitivity_basis": "system",
                "detectors": scan.detectors,
                "energy_window_kev": None if window is None else f"{window[0]:g}-{window[1]:g}",
            }
    if spheres is not None and spheres.curve is not None:
        row |= _curve_cells(spheres)
    if kidneys is not None and kidneys.surface is not None:
        row["recovery_surface_mm"] = f"{kidneys.surface.k_mm:.4g}"
        row["u_recovery_surface_mm"] = f"{kidneys.surface.u_k_mm:.2g}"
    if cylinder is not None and (spheres or kidneys):
        row["recovery_geometry"] = geometry_of(cylinder.measured)
    if result.decay is not None:
        row["dead_time_us"] = f"{max(0.0, result.decay.fit.dead_time_us):.4g}"
    return {name: str(value) for name, value in row.items() if value is not None}


def u_calibration_rel(study: Study) -> float:
    """Relative standard uncertainty of the calibration of patient images.

    A sensitivity corrects its images. The error of images in Bq/mL is known but stays in them: it is then a part.
    """
    error = 0.0 if study.measured.image.in_counts else study.measured.response - 1.0
    return hypot(study.u_sensitivity_rel, error)


def _curve_cells(spheres: Study) -> Row:
    curve = spheres.curve
    assert curve is not None
    (alpha_alpha, alpha_beta), (_, beta_beta) = curve.covariance
    u_alpha, u_beta = sqrt(alpha_alpha), sqrt(beta_beta)
    low, high = curve.volume_range_ml
    return {
        "recovery_alpha_ml": f"{curve.alpha_ml:.4g}",
        "u_recovery_alpha_ml": f"{u_alpha:.3g}",
        "recovery_beta": f"{curve.beta:.4g}",
        "u_recovery_beta": f"{u_beta:.3g}",
        "recovery_correlation": f"{alpha_beta / (u_alpha * u_beta):.3f}",
        "u_recovery_model_rel": f"{curve.scatter_rel:.3g}",
        "recovery_volume_min_ml": f"{low:.4g}",
        "recovery_volume_max_ml": f"{high:.4g}",
    }


def merge_cameras(path: Path, rows: list[Row]) -> list[Change]:
    """Write the rows into a camera sheet, new or existing, and say which cells changed.

    Cells that the study did not measure stay as they are, and so do all other rows.

    Raises
    ------
    RecordedError
        The sheet is defective, or would be afterwards.
    PhantomError
        A recovery whose calibration has another geometry than the sheet's sensitivity.
    """
    columns, cells = _read(path) if path.exists() else (list(Camera.model_fields), [])
    columns += [name for name in Camera.model_fields if name not in columns]
    changes: list[Change] = []
    for row in rows:
        own = next((c for c in cells if all(c.get(k) == row[k] for k in _KEY)), None)
        if own is None:
            own = dict[str, Any]({k: row[k] for k in _KEY})
            cells.append(own)
        _require_one_geometry(own, row, path)
        for column, after in row.items():
            before = own.get(column)
            if column not in _KEY and before != after and not _same_number(before, after):
                changes.append(Change(row["site"], row["camera"], column, before, after))
                own[column] = after
    lines = ["\t".join(columns), *("\t".join(c.get(name, _NOTHING) for name in columns) for c in cells)]
    _write_valid(path, "\n".join(lines) + "\n")
    return changes


def _require_one_geometry(own: Row, row: Row, path: Path) -> None:
    """Sensitivity by hand and recovery by the study: one of the two would be wrong for the other."""
    stands = own.get("sensitivity_cps_per_mbq") is not None and "sensitivity_cps_per_mbq" not in row
    if stands and "recovery_geometry" in row and own.get("sensitivity_geometry") != row["recovery_geometry"]:
        raise PhantomError(
            f"the sensitivity of camera {row['camera']} in the sheet has another geometry than the recovery measured",
            path=path.name,
            tag="sensitivity_geometry",
            value=own.get("sensitivity_geometry"),
            expected=row["recovery_geometry"],
            remedy="Measure both with the same phantoms, or give this calibration a camera name of its own.",
        )


def _read(path: Path) -> tuple[list[str], list[Row]]:
    read_sheet(path, Camera, unique=_KEY)
    with path.open(encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        columns = list(reader.fieldnames or ())
        found = [{k: v.strip() for k, v in row.items() if v and v.strip() not in EMPTY_CELLS} for row in reader]
    rows: list[Row] = [dict(row) for row in found if row]
    return columns, rows


def _same_number(before: str | None, after: str) -> bool:
    try:
        return float(before or "") == float(after)
    except ValueError:
        return False


def _write_valid(path: Path, text: str) -> None:
    """The new sheet takes the place of the old one only if it is a valid camera sheet."""
    draft = path.with_name(f".{path.name}.draft")
    draft.parent.mkdir(parents=True, exist_ok=True)
    try:
        draft.write_text(text, encoding="utf-8")
        read_sheet(draft, Camera, unique=_KEY)
    finally:
        draft.unlink(missing_ok=True)
    write_atomically(path, text)


def qc_rows(result: CameraResult) -> list[Row]:
    """Rows of table ``phantom_qc``, one per study."""
    key = {"site": result.site, "camera": result.camera}
    common = key | {"data_origin": result.data_origin, "software_version": __version__}
    latest = result.latest("cylinder")
    rows: list[Row] = [common | _study_row(study) | _drift(result, study is latest) for study in result.studies]
    if result.decay is not None:
        decay = result.decay
        rows.append(
            common
            | {
                "phantom": "decay",
                "days_after_first": decay.days,
                "nuclide": decay.scan.source.name,
                "dead_time_us": decay.fit.dead_time_us,
                "u_dead_time_us": decay.fit.u_dead_time_us,
                "flags": [],
            }
        )
    return rows


def _drift(result: CameraResult, wanted: bool) -> Row:
    if not wanted or result.constancy is None:
        return {}
    low, high = result.constancy.drift_interval_rel
    return {
        "drift_rel_per_year": result.constancy.drift_per_year_rel,
        "drift_low_rel_per_year": low,
        "drift_high_rel_per_year": high,
        "u_repeatability_rel": result.constancy.repeatability_rel,
    }


def _study_row(study: Study) -> Row:
    measured, scan = study.measured, study.measured.scan
    across, along = measured.blur.fwhm_mm
    row: Row = {
        "phantom": scan.phantom,
        "days_after_first": study.days,
        "nuclide": scan.source.name,
        "geometry": geometry_of(study.calibration),
        "fwhm_mm": measured.blur.mean_fwhm_mm,
        "u_fwhm_mm": measured.blur.u_mean_fwhm_mm,
        "fwhm_across_mm": across,
        "fwhm_along_mm": along,
        "fwhm_change_rel": study.fwhm_change_rel,
        "body_names": [b.body.name for b in measured.bodies],
        "body_volumes_ml": [b.body.volume_ml for b in measured.bodies],
        "body_recoveries": list(study.recoveries),
        "body_u_recoveries_rel": list(study.u_recoveries_rel),
        "passed": study.passed,
        "flags": list(study.flags),
    }
    if measured.even is not None:
        counts = measured.image.in_counts
        row |= {
            "sensitivity_cps_per_mbq": measured.response if counts else None,
            "sensitivity_basis": "system" if counts else None,
            "calibration_ratio": None if counts else measured.response,
            "u_sensitivity_rel": study.u_sensitivity_rel,
            "u_activity_rel": scan.u_activity_rel,
            "u_statistics_rel": measured.even.u_statistics_rel,
            "sensitivity_change_rel": study.sensitivity_change_rel,
        }
    if study.curve is not None:
        low, high = study.curve.volume_range_ml
        row |= {
            "recovery_alpha_ml": study.curve.alpha_ml,
            "recovery_beta": study.curve.beta,
            "recovery_covariance": [value for line in study.curve.covariance for value in line],
            "u_recovery_model_rel": study.curve.scatter_rel,
            "recovery_volume_min_ml": low,
            "recovery_volume_max_ml": high,
        }
    if study.surface is not None:
        row |= {
            "recovery_surface_mm": study.surface.k_mm,
            "u_recovery_surface_mm": study.surface.u_k_mm,
            "u_recovery_model_rel": study.surface.scatter_rel,
        }
    return row
