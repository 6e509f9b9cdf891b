"""Small sheets with a config that make a good plan, to be spoilt by a test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from doseledger.cohort import Plan
from doseledger.io.sheets import load_plan

ADMINISTRATION = ("Lu177-DOTATATE", "Lu-177", "2025-04-07T09:30:00", "30", "7400", "20")
#: Two sites; the first has a patient with two cycles.
SHEETS: dict[str, list[tuple[str, ...]]] = {
    "scans": [
        ("site", "patient", "cycle", "time_point", "spect", "ct", "contours", "camera"),
        ("A", "P1", "1", "1", "a/s1", "a/c1", "a/r1.dcm", "NM1"),
        ("A", "P1", "1", "2", "a/s2", "a/c2", "a/r2.dcm", "NM1"),
        ("A", "P1", "2", "1", "a/s3", "a/c3", "a/r3.dcm", "NM1"),
        ("B", "P1", "1", "1", "b/s1", "n/a", "b/r1.dcm", "NM1"),
    ],
    "administrations": [
        (
            *("site", "patient", "cycle", "radiopharmaceutical", "nuclide", "injection_start", "infusion_min"),
            *("measured_activity_mbq", "residual_activity_mbq"),
        ),
        ("A", "P1", "1", *ADMINISTRATION),
        ("A", "P1", "2", *ADMINISTRATION),
        ("B", "P1", "1", *ADMINISTRATION),
    ],
    "cameras": [
        ("site", "camera", "u_calibration_rel", "fwhm_mm"),
        ("A", "NM1", "0.05", "12"),
        ("B", "NM1", "0.05", "12"),
    ],
    "regions": [("source_name", "region", "kind", "alpha_beta_gy"), ("Liver", "liver", "organ", "n/a")],
    "limits": [("region", "quantity", "limit_gy", "source"), ("kidneys", "absorbed_dose", "23", "a line")],
    "patients": [("site", "patient", "age_years"), ("A", "P1", "63"), ("B", "P1", "")],
    "curve_models": [
        ("radiopharmaceutical", "region", "model", "uptake_half_life_h", "uptake_ln_sd", "source"),
        ("Lu177-DOTATATE", "liver", "bi", "n/a", "n/a", "cohort"),
        ("Lu177-PSMA-617", "liver", "mono", "1.5", "0.5", "cohort"),
    ],
}


class Cohort:
    """Sheets and config in a folder, to be spoilt by a test."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.rows = {name: [list(row) for row in rows] for name, rows in SHEETS.items()}
        self.config: dict[str, Any] = {
            "cohort": "c1",
            "results": "results",
            "data_origin": "virtual",
            "sheets": {name: f"{name}.tsv" for name in SHEETS},
        }
        self.raw: dict[str, bytes] = {}
        self.absent: set[str] = set()

    def set(self, sheet: str, row: int, column: str, value: str) -> None:
        self.rows[sheet][row][self.rows[sheet][0].index(column)] = value

    def write(self) -> None:
        for name, rows in self.rows.items():
            if name not in self.absent:
                text = "".join("\t".join(row) + "\n" for row in rows)
                (self.folder / f"{name}.tsv").write_bytes(self.raw.get(name, text.encode()))

    def load(self) -> Plan:
        self.write()
        return load_plan(self.config, self.folder)
