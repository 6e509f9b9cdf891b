"""Sheets for two real scans of one patient: the first two of four of the SNMMI 177Lu challenge.

Data: Dewaraja and Van, University of Michigan, doi 10.7302/0n8e-rz46, CC BY-NC 4.0; never part of
this repository. All that the scanner wrote is read from the headers; what a site would declare is
declared here, with its reason.

    python recipes/umich_lu177.py DATA_FOLDER OUT_FOLDER
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from doseledger.io.dicom import read_spect, read_structures

SCANS = ("SCAN_001", "SCAN_002")

CONFIG = """\
cohort: umich-lu177
results: {results}
data_origin: patient
sheets:
  scans: scans.tsv
  administrations: administrations.tsv
  cameras: cameras.tsv
  regions: regions.tsv
"""


def write_sheets(data: Path, out: Path, results: str) -> Path:
    """Write config and sheets for the scans below `data` into `out`; returns the config."""
    out.mkdir(parents=True, exist_ok=True)
    # Relative paths: the ledger names files as the sheet does.
    folder = Path(os.path.relpath(data, out))
    first = read_spect(data / SCANS[0] / "spect").provenance
    if first.injection_datetime is None or first.injected_activity_mbq is None:
        raise SystemExit(f"{data}: the headers lack injection time or activity; is it the data set of the doi?")
    injection = first.injection_datetime.isoformat()
    structures = [next((data / scan / "rtstruct").glob("*.dcm")) for scan in SCANS]
    names = [structure.name for structure in read_structures(structures[0])]
    _sheet(
        out / "scans.tsv",
        "site patient cycle time_point spect ct contours camera",
        [
            ("UM", "P4", 2, point, folder / scan / "spect", "n/a", folder / contours.relative_to(data), "Intevo")
            for point, (scan, contours) in enumerate(zip(SCANS, structures, strict=True), start=1)
        ],
    )
    _sheet(
        out / "administrations.tsv",
        "site patient cycle radiopharmaceutical nuclide injection_start infusion_min "
        "measured_activity_mbq residual_activity_mbq preparation extravasation",
        [
            # The challenge counts its times from the start in the header and gives a net activity.
            ("UM", "P4", 2, "Lu177-DOTATATE", "Lu-177", injection, 0, first.injected_activity_mbq, 0, "n/a", "n/a")
        ],
    )
    _sheet(
        out / "cameras.tsv",
        "site camera manufacturer model collimator u_calibration_rel fwhm_mm",
        # Not in the data: 5 % for the calibration, 12 mm for medium-energy SPECT of 177Lu.
        [("UM", "Intevo", "Siemens", "Symbia Intevo", "n/a", 0.05, 12)],
    )
    _sheet(
        out / "regions.tsv",
        "source_name region kind sct_code laterality part_of alpha_beta_gy repair_half_time_h",
        [(name, f"lesion_{n}", "lesion", *["n/a"] * 5) for n, name in enumerate(names, start=1)],
    )
    config = out / "config.yaml"
    config.write_text(CONFIG.format(results=results), encoding="utf-8")
    return config


def _sheet(path: Path, columns: str, rows: list[tuple[object, ...]]) -> None:
    lines = [columns.split(), *([str(cell) for cell in row] for row in rows)]
    path.write_text("".join("\t".join(line) + "\n" for line in lines), encoding="utf-8")


if __name__ == "__main__":
    sys.stdout.write(f"{write_sheets(Path(sys.argv[1]).resolve(), Path(sys.argv[2]), '../real')}\n")
