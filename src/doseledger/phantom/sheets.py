"""The sheets, the config file and the truth tables of a virtual cohort as text files."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

import yaml

from doseledger.dose.marrow import RED_MARROW
from doseledger.phantom.lesions import MAX_LESIONS
from doseledger.phantom.torso import MARROW

Row = Mapping[str, object]

MISSING: Final = "n/a"

#: Sheets beside the config file, tab-separated.
SHEET_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "scans": ("site", "patient", "cycle", "time_point", "spect", "ct", "contours", "camera"),
    "administrations": (
        "site",
        "patient",
        "cycle",
        "radiopharmaceutical",
        "nuclide",
        "injection_start",
        "infusion_min",
        "measured_activity_mbq",
        "residual_activity_mbq",
        "preparation",
        "extravasation",
    ),
    "cameras": (
        "site",
        "camera",
        "manufacturer",
        "model",
        "collimator",
        "u_calibration_rel",
        "fwhm_mm",
        "sensitivity_cps_per_mbq",
        "sensitivity_geometry",
        "sensitivity_date",
        "sensitivity_basis",
        "detectors",
        "energy_window_kev",
        "dead_time_us",
    ),
    "regions": (
        "source_name",
        "region",
        "kind",
        "sct_code",
        "laterality",
        "part_of",
        "alpha_beta_gy",
        "repair_half_time_h",
    ),
    "limits": ("region", "quantity", "limit_gy", "source"),
    "patients": (
        "site",
        "patient",
        "sex",
        "age_years",
        "mass_kg",
        "height_cm",
        "diagnosis",
        "kidney_function_band",
        "prior_therapy",
        "prior_kidney_dose_gy",
    ),
    "blood_samples": (
        "site",
        "patient",
        "cycle",
        "sample_time",
        "concentration_kbq_per_ml",
        "decay_reference",
        "matrix",
        "u_concentration_rel",
        "u_calibration_rel",
        "haematocrit",
    ),
}

#: Truth tables, comma-separated, under ``truth/``.
TRUTH_COLUMNS: Final[dict[str, tuple[str, ...]]] = {
    "organ_truth": (
        "site",
        "patient",
        "cycle",
        "region",
        "mass_g",
        "volume_ml",
        "tia_mbq_h",
        "dose_local_gy",
        "absorbed_dose_gy",
        "u_mc_rel",
        "effective_half_life_h",
    ),
    "marrow_truth": (
        "site",
        "patient",
        "cycle",
        "marrow_method",
        "mass_g",
        "marrow_factor",
        "tia_mbq_h",
        "dose_self_gy",
    ),
    "activity_truth": ("site", "patient", "cycle", "time_point", "region", "time_h", "activity_mbq"),
    "pose_truth": (
        "site",
        "patient",
        "cycle",
        "time_point",
        "shift_x_mm",
        "shift_y_mm",
        "shift_z_mm",
        "rotation_z_deg",
        "spect_minus_ct_z_mm",
        "spect_minus_ct_x_mm",
        "spect_minus_ct_y_mm",
        "spect_minus_ct_rotation_deg",
        "kidneys_spect_minus_ct_z_mm",
        "breathing_range_mm",
        "since_void_h",
    ),
    "planted": ("site", "patient", "cycle", "fact", "detail"),
}

#: Outlines by name, with SNOMED CT codes; not every patient has all of them. Only the kidneys have an
#: established alpha/beta and repair half-time.
REGION_ROWS: Final[tuple[Row, ...]] = (
    {
        "source_name": "Kidney L",
        "region": "kidney_left",
        "kind": "organ",
        "sct_code": "64033007",
        "laterality": "left",
        "part_of": "kidneys",
        "alpha_beta_gy": 2.5,
        "repair_half_time_h": 2.8,
    },
    {
        "source_name": "Kidney R",
        "region": "kidney_right",
        "kind": "organ",
        "sct_code": "64033007",
        "laterality": "right",
        "part_of": "kidneys",
        "alpha_beta_gy": 2.5,
        "repair_half_time_h": 2.8,
    },
    {"source_name": "Liver", "region": "liver", "kind": "organ", "sct_code": "10200004"},
    {"source_name": "Spleen", "region": "spleen", "kind": "organ", "sct_code": "78961009"},
    *(
        {
            "source_name": f"{name} {side[0].upper()}",
            "region": f"{name.lower()}_{side}",
            "kind": "organ",
            "sct_code": code,
            "laterality": side,
        }
        for name, code in (("Parotid", "45289007"), ("Submandibular", "54019009"))
        for side in ("left", "right")
    ),
    {"source_name": "Marrow L2-L4", "region": MARROW, "kind": "organ", "sct_code": "14016003"},
    *(
        {"source_name": f"Lesion {number}", "region": f"lesion_{number}", "kind": "lesion"}
        for number in range(1, MAX_LESIONS + 1)
    ),
)
_REGIONS: Final = {str(row["region"]): row for row in REGION_ROWS}
#: Regions that the demo weights know, as TotalSegmentator names them; the others come from the structure sets.
MODEL_ROWS: Final[tuple[Row, ...]] = tuple(
    {**_REGIONS[name], "source_name": name} for name in ("kidney_left", "kidney_right", "liver", "spleen")
)
#: Names of the outlines by region, in the order of the sheet.
SOURCE_NAMES: Final = {str(row["region"]): str(row["source_name"]) for row in REGION_ROWS}

#: Lines to compare with, not verdicts: no dose threshold is established for 177Lu agents.
LIMIT_ROWS: Final[tuple[Row, ...]] = (
    {
        "region": "kidneys",
        "quantity": "absorbed_dose",
        "limit_gy": 23,
        "source": "reference line carried over from external-beam radiotherapy",
    },
    {
        "region": "kidneys",
        "quantity": "bed",
        "limit_gy": 40,
        "source": "reference line in use for patients without risk factors",
    },
    {
        "region": RED_MARROW,
        "quantity": "absorbed_dose",
        "limit_gy": 2,
        "source": "reference line carried over from blood doses of radioiodine therapy",
    },
)

#: Sheets that are the same in every cohort.
FIXED_ROWS: Final[dict[str, list[Row]]] = {"regions": [*REGION_ROWS, *MODEL_ROWS], "limits": list(LIMIT_ROWS)}

TRUTH_README: Final = """\
# Truth of the virtual cohort

Nothing here comes from a patient. Regions are the kidneys (left, right, and `kidneys` as their sum; some
patients have one), liver, spleen, lesions, marrow of the vertebrae L2 to L4 (`lumbar_marrow`) and, at
sites with a long field, the salivary glands. Organs are without the lesions in them. The outlines in the
structure sets go around the lesions as well, as hospitals draw them: where outlines overlap, the lesion
takes the voxels. Kidneys are cortex, medulla and pelvis with different uptake; all of it is the region.

* `organ_truth.csv`: volume, by fine sampling of the surfaces (within 0.5 %); mass with the phantom's own
  densities; time-integrated activity (TIA) from time zero to infinity, analytic; terminal effective
  half-life. `dose_local_gy` is the energy of the electrons of the nuclide's decays (beta particles,
  conversion and Auger electrons) in the region's own true activity, deposited in the region: TIA x
  Delta_electron / mass. Photons, and radiation that enters from or leaves to other regions, are not in it.
  `absorbed_dose_gy` is the dose with all radiations from everywhere in the field, by coupled electron-photon
  Monte Carlo (ompMC) on voxels of 2.4 mm, with its relative statistical uncertainty `u_mc_rel`; n/a in a
  cohort for which nobody has run the recipe (`make truth`).
* `marrow_truth.csv`: red marrow by method. `image`: the true TIA of the spongiosa of L2 to L4, in the share of its
  volume that is red marrow in this patient (`marrow_factor`), over the patient's mass of red marrow. `blood`: the
  true TIA of blood, with equal concentrations in marrow and blood. `dose_self_gy` is the dose by own electrons with
  the S value of red marrow. The two are different quantities of one virtual patient; neither is the truth of the
  other. The counter reads 1.5 % high, and each sample has 3 % of noise.
* `activity_truth.csv`: true activity at scan start. `time_h` counts from time zero, the middle of the
  infusion. `whole_field` is all activity in the SPECT field, with the rest of the body and the bladder.
* `pose_truth.csv`: position of the patient in the CT of each scan against the patient at rest (DICOM LPS):
  turn about z, then shift. `spect_minus_ct_z_mm` is where the liver is in the SPECT, on average over the
  breath, above its place in the CT; `kidneys_spect_minus_ct_z_mm` the same for the kidneys, which move less.
  `spect_minus_ct_x_mm`, `spect_minus_ct_y_mm` and `spect_minus_ct_rotation_deg` (about the origin of the
  patient's coordinates, before the shift) are movements of the whole patient. `breathing_range_mm` is the
  range of the liver during the SPECT.
* `planted.csv`: facts that an analysis should find: calibration error and decay convention of each site's
  camera, the cycle that must be refused, patients with one kidney or with contrast medium in the CT (which
  makes masses from CT numbers too large), and how lesions go over the cycles.

The administered activity is the measured minus the residual activity, both at injection start; it is
decayed to time zero. Activity in the images is that at scan start, with only physical decay during
the scan. Images carry the site's calibration error and noise; the truth does not.
"""


def write_sheet(folder: Path, name: str, rows: Iterable[Row]) -> None:
    _write(folder / f"{name}.tsv", SHEET_COLUMNS[name], rows, "\t")


def write_truth(folder: Path, name: str, rows: Iterable[Row]) -> None:
    _write(folder / f"{name}.csv", TRUTH_COLUMNS[name], rows, ",")


def write_config(path: Path, cohort: str, results: str, segment: Mapping[str, object] | None = None) -> None:
    config: dict[str, object] = {
        "cohort": cohort,
        "results": results,
        "data_origin": "virtual",
        "sheets": {name: f"{name}.tsv" for name in SHEET_COLUMNS},
    }
    if segment:
        config["segment"] = dict(segment)
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")


def _write(path: Path, columns: tuple[str, ...], rows: Iterable[Row], delimiter: str) -> None:
    """Missing values become ``n/a``; a row with a column that the sheet lacks is a defect and raises."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, columns, restval=MISSING, delimiter=delimiter, lineterminator="\n")
        writer.writeheader()
        writer.writerows({name: _text(value) for name, value in row.items()} for row in rows)


def _text(value: object) -> str:
    if value is None:
        return MISSING
    return f"{value:.8g}" if isinstance(value, float) else str(value)
