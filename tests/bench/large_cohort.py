"""A cohort of any size as sheets alone: nothing it names exists, so that only planning can be measured."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import yaml

CYCLES: Final = 4
TIME_POINTS: Final = 4
PATIENTS_PER_SITE: Final = 250

_SCAN_COLUMNS: Final = ("site", "patient", "cycle", "time_point", "spect", "ct", "contours", "camera")
_ADMINISTRATION_COLUMNS: Final = (
    *("site", "patient", "cycle", "radiopharmaceutical", "nuclide", "injection_start", "infusion_min"),
    *("measured_activity_mbq", "residual_activity_mbq"),
)
_CONFIG: Final = {
    "cohort": "large",
    "results": "results",
    "data_origin": "virtual",
    "sheets": {
        name: f"{name}.tsv" for name in ("scans", "administrations", "cameras", "regions", "limits", "patients")
    },
}
#: Twenty regions: what a model and lesions give.
_REGIONS: Final = (
    *("kidney_left", "kidney_right", "liver", "spleen", "pancreas", "urinary_bladder", "stomach", "duodenum", "colon"),
    *("small_bowel", "lung_left", "lung_right", "heart", "aorta", "parotid_left", "parotid_right", "vertebra_l3"),
    *("vertebra_l4", "thyroid", "prostate"),
)


def write_sheets(folder: Path, patients: int) -> Path:
    """Sheets of `patients` with four cycles of four time points, in sites of 250, and their config file."""
    folder.mkdir(parents=True)
    people = [(f"S{index // PATIENTS_PER_SITE + 1:02d}", f"P{index + 1:05d}") for index in range(patients)]
    cycles = [(site, patient, cycle) for site, patient in people for cycle in range(1, CYCLES + 1)]
    _write(
        folder, "scans", _SCAN_COLUMNS, [_scan(*key, point) for key in cycles for point in range(1, TIME_POINTS + 1)]
    )
    given = [(*key, "Lu177-DOTATATE", "Lu-177", f"2025-{2 * key[2]:02d}-07T10:00:00", 30, 7400, 35) for key in cycles]
    _write(folder, "administrations", _ADMINISTRATION_COLUMNS, given)
    _write(
        folder,
        "cameras",
        ("site", "camera", "manufacturer", "model", "collimator", "u_calibration_rel", "fwhm_mm"),
        [(site, "NM1", "Virtual Imaging", "VSPECT 9", "MEGP", 0.05, 10.9) for site in sorted({s for s, _ in people})],
    )
    _write(folder, "regions", ("source_name", "region", "kind"), [(name, name, "organ") for name in _REGIONS])
    _write(
        folder, "limits", ("region", "quantity", "limit_gy", "source"), [("kidney_left", "absorbed_dose", 23, "bench")]
    )
    _write(folder, "patients", ("site", "patient", "sex", "age_years"), [(*key, "F", 61) for key in people])
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(_CONFIG), encoding="utf-8")
    return config


def _scan(site: str, patient: str, cycle: int, point: int) -> tuple[object, ...]:
    place = f"dicom/site-{site}/sub-{patient}/ses-c{cycle}/tp-{point}"
    return (site, patient, cycle, point, f"{place}/spect", f"{place}/ct", f"{place}/rtstruct.dcm", "NM1")


def _write(folder: Path, sheet: str, columns: tuple[str, ...], rows: list[tuple[object, ...]]) -> None:
    lines = ["\t".join(map(str, row)) for row in (columns, *rows)]
    (folder / f"{sheet}.tsv").write_text("\n".join(lines) + "\n", encoding="utf-8")
