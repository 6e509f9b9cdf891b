"""The ledger's tables: Arrow schemas with unit and description of every column.

Long and tidy, one quantity per column, the unit in the column's name. A column changes only with
`SCHEMA_VERSION`. The data dictionary (docs/data-dictionary.md) is generated from here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Final

import pyarrow as pa
import pyarrow.parquet as pq

from doseledger.dose.marrow import METHODS as MARROW_METHODS
from doseledger.errors import SheetError
from doseledger.io.comparison_columns import COMPARISON_TABLES

SCHEMA_VERSION: Final = 3

_TEXT = pa.string()
_INT = pa.int32()
_REAL = pa.float64()
_FLAG = pa.bool_()
_TEXTS = pa.list_(pa.string())
_REALS = pa.list_(pa.float64())

#: Key columns never hold nulls.
_KEYS: Final = ("site", "patient", "cycle", "time_point", "region")

_Column = tuple[str, pa.DataType, str, str]


def _schema(row: str, columns: Sequence[_Column]) -> pa.Schema:
    fields = [
        pa.field(
            name,
            kind,
            nullable=name not in _KEYS,
            metadata={b"unit": unit.encode(), b"description": description.encode()},
        )
        for name, kind, unit, description in columns
    ]
    metadata = {b"schema_version": str(SCHEMA_VERSION).encode(), b"row": row.encode()}
    return pa.schema(fields, metadata=metadata)


_SITE: _Column = ("site", _TEXT, "", "Site pseudonym, from the sheet")
_PATIENT: _Column = ("patient", _TEXT, "", "Patient pseudonym, unique within the site")
_CYCLE: _Column = ("cycle", _INT, "", "Treatment cycle, counted from 1")
_TIME_POINT: _Column = ("time_point", _INT, "", "Scan within the cycle, in order of time, from 1")
_REGION: _Column = ("region", _TEXT, "", "Region name, e.g. kidney_left, kidneys, liver, lesion_1")
_FLAGS: _Column = ("flags", _TEXTS, "", "What a reader must know before using the row")
_ORIGIN: _Column = ("data_origin", _TEXT, "", "patient or virtual")
_VERSION: _Column = ("software_version", _TEXT, "", "doseledger version that wrote the row")
_MARROW_METHOD: _Column = (
    "marrow_method",
    _TEXT,
    "",
    "Marrow method: image (activity of a vertebra) or blood (samples), never pooled; self_fraction_0.57 in rows of the "
    "engine organ; null for other regions",
)
_LESION: _Column = (
    "lesion_id",
    _TEXT,
    "",
    "Stable name of the lesion within the patient; null for organs. lesion_t1, lesion_t2, ... were found by a "
    "threshold: without a finished course, and in the files of single cycles, these count within the cycle",
)

SCHEMAS: Final[dict[str, pa.Schema]] = {
    "patient": _schema(
        "patient",
        [
            _SITE,
            _PATIENT,
            ("sex", _TEXT, "", "F, M or O"),
            ("age_band", _TEXT, "a", "Age at the first cycle in 5-year bands, e.g. 60-64"),
            ("mass_kg", _REAL, "kg", "Body mass"),
            ("height_cm", _REAL, "cm", "Body height"),
            ("diagnosis", _TEXT, "", "Diagnosis as declared in the sheet"),
            ("kidney_function_band", _TEXT, "mL/min", "Band of glomerular filtration rate"),
            ("prior_therapy", _TEXT, "", "Radionuclide or external-beam therapy before the first cycle"),
            ("prior_kidney_dose_gy", _REAL, "Gy", "Absorbed dose of the kidneys from prior therapy"),
            _ORIGIN,
            _VERSION,
        ],
    ),
    "administration": _schema(
        "administered cycle",
        [
            _SITE,
            _PATIENT,
            _CYCLE,
            ("radiopharmaceutical", _TEXT, "", "e.g. Lu177-DOTATATE"),
            ("nuclide", _TEXT, "", "e.g. Lu-177"),
            ("measured_activity_mbq", _REAL, "MBq", "Activity measured before administration, at injection start"),
            ("residual_activity_mbq", _REAL, "MBq", "Activity left in syringe and lines, at injection start"),
            ("administered_mbq", _REAL, "MBq", "Measured minus residual activity"),
            ("infusion_min", _REAL, "min", "Duration of the infusion; time zero is its middle"),
            ("preparation", _TEXT, "", "e.g. kidney protection"),
            ("extravasation", _FLAG, "", "Extravasation noticed"),
            ("imaged", _FLAG, "", "Whether scans of the cycle are in the scan sheet"),
            ("days_after_first_cycle", _INT, "d", "Whole days after the injection of the first cycle"),
            _ORIGIN,
            _VERSION,
        ],
    ),
    "acquisition": _schema(
        "time point",
        [
            _SITE,
            _PATIENT,
            _CYCLE,
            _TIME_POINT,
            ("time_h", _REAL, "h", "Scan start after mid-injection"),
            ("duration_s", _REAL, "s", "Wall-clock duration of the SPECT acquisition"),
            ("camera", _TEXT, "", "Camera as named in cameras.tsv"),
            ("manufacturer", _TEXT, "", "From the header"),
            ("model", _TEXT, "", "From the header"),
            ("collimator", _TEXT, "", "From the header or the camera sheet"),
            ("energy_window_kev", _TEXT, "keV", "Photopeak window(s), lower-upper"),
            ("reconstruction", _TEXT, "", "Reconstruction method from the header"),
            ("unit_source", _TEXT, "", "Tag that declared the unit of the voxel values"),
            ("decay_correction_in_header", _TEXT, "", "NONE, START or ADMIN, undone or kept as needed"),
            ("decay_factor_applied", _REAL, "1", "Factor applied to reach activity at scan start"),
            ("sensitivity_cps_per_mbq", _REAL, "s-1 MBq-1", "Sensitivity applied to counts; null for Bq/mL images"),
            ("sensitivity_geometry", _TEXT, "", "Phantom of the calibration"),
            ("sensitivity_age_days", _INT, "d", "Age of the calibration at the scan"),
            ("sensitivity_basis", _TEXT, "", "system or detector"),
            ("u_calibration_rel", _REAL, "1", "Relative standard uncertainty of the calibration"),
            ("dead_time_factor", _REAL, "1", "Dead-time correction applied; null if none"),
            ("total_activity_mbq", _REAL, "MBq", "Activity in the whole field at scan start"),
            ("total_fraction_of_administered", _REAL, "1", "Total over administered activity decayed to scan start"),
            ("spacing_z_mm", _REAL, "mm", "SPECT voxel, slice direction"),
            ("spacing_y_mm", _REAL, "mm", "SPECT voxel, row direction"),
            ("spacing_x_mm", _REAL, "mm", "SPECT voxel, column direction"),
            ("has_ct", _FLAG, "", "Whether a CT belongs to the time point"),
            ("spect_sha256", _TEXT, "", "SHA-256 of the decoded SPECT voxels"),
            ("ct_sha256", _TEXT, "", "SHA-256 of the decoded CT voxels"),
            _ORIGIN,
            _FLAGS,
            _VERSION,
        ],
    ),
    "region": _schema(
        "time point x region",
        [
            _SITE,
            _PATIENT,
            _CYCLE,
            _TIME_POINT,
            _REGION,
            ("region_level", _TEXT, "", "part, or sum of parts"),
            ("sct_code", _TEXT, "", "SNOMED CT code"),
            ("laterality", _TEXT, "", "left, right or null"),
            _LESION,
            ("volume_ml", _REAL, "mL", "Volume of the outline"),
            ("u_volume_rel", _REAL, "1", "Relative standard uncertainty of the volume (EANM 2018)"),
            ("mass_g", _REAL, "g", "Mass"),
            ("mean_hu", _REAL, "HU", "Mean CT number; null without CT"),
            ("mass_source", _TEXT, "", "ct_density or assumed_soft_tissue"),
            ("region_source", _TEXT, "", "Back end that made the outline, or threshold"),
            ("outline_modality", _TEXT, "", "Image the outline was drawn on: CT or SPECT"),
            ("device", _TEXT, "", "Device a model ran on; null for contours"),
            ("weights_sha256", _TEXT, "", "Weights of the model; null for contours"),
            ("review_status", _TEXT, "", "not_reviewed, accepted, edited or rejected"),
            ("manual_edit", _FLAG, "", "Edited by a person after the model"),
            _ORIGIN,
            _FLAGS,
            _VERSION,
        ],
    ),
    "region_activity": _schema(
        "time point x region",
        [
            _SITE,
            _PATIENT,
            _CYCLE,
            _TIME_POINT,
            _REGION,
            ("time_h", _REAL, "h", "Scan start after mid-injection"),
            (
                "activity_mbq",
                _REAL,
                "MBq",
                "Activity at scan start, as measured, without recovery correction",
            ),
            ("u_activity_mbq", _REAL, "MBq", "Random standard uncertainty, the part that varies between scans"),
            ("recovery_coefficient", _REAL, "1", "Measured over corrected activity; null if not corrected"),
            ("activity_corrected_mbq", _REAL, "MBq", "Activity divided by the recovery; null if not corrected"),
            ("method", _TEXT, "", "Correction for blur: none, gtm, spheres, surface, or mixed"),
            ("curve_source", _TEXT, "", "own_mask or reference_mask"),
            _ORIGIN,
            _FLAGS,
            _VERSION,
        ],
    ),
    "blood_sample": _schema(
        "blood sample",
        [
            _SITE,
            _PATIENT,
            _CYCLE,
            ("sample", _INT, "", "Sample within the cycle, in order of time, from 1"),
            ("time_h", _REAL, "h", "Time of the sample after mid-injection"),
            ("concentration_bq_per_ml", _REAL, "Bq mL-1", "Activity concentration of whole blood at that time"),
            ("u_concentration_rel", _REAL, "1", "Random relative standard uncertainty, as declared"),
            ("u_calibration_rel", _REAL, "1", "Relative standard uncertainty of the counter, as declared"),
            ("matrix", _TEXT, "", "What was counted: blood or plasma"),
            ("haematocrit", _REAL, "1", "Of the cycle; null if not declared"),
            _ORIGIN,
            _VERSION,
        ],
    ),
    "curve": _schema(
        "cycle x region x model",
        [
            _SITE,
            _PATIENT,
            _CYCLE,
            _REGION,
            ("model", _TEXT, "", "Curve model"),
            ("parameter_names", _TEXTS, "", "Names of the parameters, in order"),
            ("parameters", _REALS, "MBq, h-1", "Amplitudes in MBq, rates in 1/h"),
            ("covariance", _REALS, "", "Covariance of the parameters, row by row; empty where undefined"),
            ("n_timepoints", _INT, "", "Scans used"),
            ("chi2", _REAL, "1", "Sum of squared weighted residuals"),
            ("dof", _INT, "", "Degrees of freedom"),
            ("aicc", _REAL, "1", "Corrected Akaike criterion; null where undefined"),
            ("aicc_weight", _REAL, "1", "Akaike weight among the models fitted"),
            ("chosen", _FLAG, "", "Whether the dose rests on this model"),
            ("status", _TEXT, "", "ok, saturated, at_bound, too_few_points or not_converged"),
            ("rate_at_bound", _FLAG, "", "Clearance indistinguishable from physical decay alone"),
            ("effective_half_life_h", _REAL, "h", "Of the terminal phase"),
            ("uptake_half_life_h", _REAL, "h", "Of the uptake phase; null if not modelled"),
            ("tia_mbq_h", _REAL, "MBq h", "Time-integrated activity; of blood, in 1 mL"),
            ("u_tia_mbq_h", _REAL, "MBq h", "Standard uncertainty from the fit"),
            ("tia_low_mbq_h", _REAL, "MBq h", "Lower end of the 95 % interval"),
            ("tia_high_mbq_h", _REAL, "MBq h", "Upper end of the 95 % interval"),
            ("extrapolated_fraction", _REAL, "1", "Share of the TIA after the last scan"),
            ("prior", _TEXT, "", "Name of the prior, or the other cycle whose curve was taken; null if none"),
            ("prior_sha256", _TEXT, "", "Prior file; null if it took no part"),
            _ORIGIN,
            _FLAGS,
            _VERSION,
        ],
    ),
    "organ_dose": _schema(
        "cycle x region x analysis",
        [
            _SITE,
            _PATIENT,
            _CYCLE,
            _REGION,
            ("region_level", _TEXT, "", "part, or sum recomputed from energies and masses"),
            ("sct_code", _TEXT, "", "SNOMED CT code"),
            ("laterality", _TEXT, "", "left, right or null"),
            _LESION,
            ("analysis_id", _TEXT, "", "SHA-256 of the method columns, 16 digits"),
            ("is_primary", _FLAG, "", "Exactly one per site x patient x cycle x region"),
            ("administered_mbq", _REAL, "MBq", "Measured minus residual activity"),
            ("n_timepoints", _INT, "", "Scans of the cycle used"),
            ("protocol", _TEXT, "", "mtp (three or more), 2tp or stp"),
            ("region_source", _TEXT, "", "Back end that made the outline, or threshold"),
            ("lesion_policy", _TEXT, "", "Whether lesions are part of the organ they lie in"),
            _MARROW_METHOD,
            ("curve_source", _TEXT, "", "own_mask, reference_mask or blood_samples"),
            ("volume_ml", _REAL, "mL", "Median over the time points"),
            ("mass_g", _REAL, "g", "Median over the time points"),
            ("mass_source", _TEXT, "", "ct_density or assumed_soft_tissue; of red marrow reference or body_mass"),
            ("partial_volume_method", _TEXT, "", "Correction for blur: none, gtm, spheres, surface, or mixed"),
            ("recovery_coefficient", _REAL, "1", "Measured over corrected TIA; null if not corrected"),
            ("curve_model", _TEXT, "", "Curve model"),
            ("effective_half_life_h", _REAL, "h", "Of the terminal phase"),
            ("uptake_half_life_h", _REAL, "h", "Of the uptake phase; null if not modelled"),
            ("rate_at_bound", _FLAG, "", "Clearance indistinguishable from physical decay alone"),
            ("extrapolated_fraction", _REAL, "1", "Share of the TIA after the last scan"),
            ("tia_mbq_h", _REAL, "MBq h", "Time-integrated activity"),
            ("tiac_h", _REAL, "h", "Time-integrated activity coefficient: TIA over administered activity"),
            ("dose_engine", _TEXT, "", "Dose engine"),
            ("absorbed_dose_gy", _REAL, "Gy", "Mean absorbed dose: energy over mass"),
            ("dose_low_gy", _REAL, "Gy", "Lower end of the 95 % interval, with that of the curve's own"),
            ("dose_high_gy", _REAL, "Gy", "Upper end of the 95 % interval, with that of the curve's own"),
            ("u_absorbed_dose_rel", _REAL, "1", "Combined relative standard uncertainty"),
            ("u_calibration_rel", _REAL, "1", "Part: calibration (systematic)"),
            ("u_recovery_rel", _REAL, "1", "Part: recovery (systematic); the loss by blur where it is not corrected"),
            ("u_volume_rel", _REAL, "1", "Part: volume, in activity and mass together (systematic)"),
            ("u_fit_rel", _REAL, "1", "Part: curve fit (random)"),
            ("u_dose_factor_rel", _REAL, "1", "Part: dose engine; null if not known"),
            ("u_marrow_factor_rel", _REAL, "1", "Part: marrow_factor (systematic); null for other regions"),
            ("u_systematic_rel", _REAL, "1", "Parts common to all cycles, in quadrature"),
            ("mc_sd_rel", _REAL, "1", "Monte Carlo standard deviation; null for other engines"),
            (
                "marrow_factor",
                _REAL,
                "1",
                "image: share of the vertebra's volume that is red marrow; blood: activity per g of marrow over that "
                "per mL of blood",
            ),
            (
                "cross_dose_gy",
                _REAL,
                "Gy",
                "Part of the dose of red marrow by photons of the map; null if not in it",
            ),
            ("energy_balance_rel", _REAL, "1", "Energy in the map over energy emitted inside it"),
            ("dose_high_let_gy", _REAL, "Gy", "Part from alpha particles and recoils"),
            ("dose_gy_per_gbq", _REAL, "Gy GBq-1", "Absorbed dose over administered activity"),
            ("d2_gy", _REAL, "Gy", "Dose that 2 % of the volume exceeds"),
            ("d50_gy", _REAL, "Gy", "Median voxel dose"),
            ("d90_gy", _REAL, "Gy", "Dose that 90 % of the volume exceeds"),
            ("d98_gy", _REAL, "Gy", "Dose that 98 % of the volume exceeds"),
            ("alpha_beta_gy", _REAL, "Gy", "alpha/beta of the linear-quadratic model"),
            ("repair_half_time_h", _REAL, "h", "Repair half-time"),
            ("g_factor", _REAL, "1", "Lea-Catcheside factor"),
            ("bed_gy", _REAL, "Gy", "Biologically effective dose"),
            ("eqd2_gy", _REAL, "Gy", "Equivalent dose in 2 Gy fractions"),
            _ORIGIN,
            _FLAGS,
            _VERSION,
            ("settings_sha256", _TEXT, "", "Settings and stage versions that reached the row"),
            ("input_sha256", _TEXT, "", "Decoded voxels and outlines that reached the row"),
            ("weights_sha256", _TEXT, "", "Weights of the segmentation model; null for contours"),
            ("prior_sha256", _TEXT, "", "Prior file, where it took part in the curve; null if not"),
        ],
    ),
    "dvh": _schema(
        "cycle x region x analysis",
        [
            _SITE,
            _PATIENT,
            _CYCLE,
            _REGION,
            ("analysis_id", _TEXT, "", "As in organ_dose"),
            ("dose_edges_gy", _REALS, "Gy", "Lower edges of the bins and the upper edge of the last"),
            ("volume_fraction", _REALS, "1", "Share of the volume in each bin"),
            ("partial_volume_method", _TEXT, "", "none: the histogram is not corrected for blur"),
            _ORIGIN,
            _VERSION,
        ],
    ),
    "course": _schema(
        "patient x region x marrow method",
        [
            _SITE,
            _PATIENT,
            _REGION,
            _MARROW_METHOD,
            ("cycles_given", _INT, "", "Administrations in the sheet"),
            ("cycles_counted", _INT, "", "Cycles with a dose"),
            ("cycles_imputed", _INT, "", "Cycles imputed on request"),
            ("cumulative_status", _TEXT, "", "complete, imputed or incomplete"),
            ("administered_mbq", _REAL, "MBq", "Over all administrations"),
            ("cumulative_dose_gy", _REAL, "Gy", "Over the cycles counted, without prior dose"),
            ("cumulative_bed_gy", _REAL, "Gy", "Over the cycles counted"),
            ("u_cumulative_dose_rel", _REAL, "1", "Systematic parts added linearly, random parts in quadrature"),
            ("prior_dose_gy", _REAL, "Gy", "From prior therapy, as declared"),
            ("limit_quantity", _TEXT, "", "absorbed_dose or bed"),
            ("limit_gy", _REAL, "Gy", "Reference line of the limit sheet, not a verdict"),
            ("limit_source", _TEXT, "", "Source of the limit"),
            ("fraction_of_limit", _REAL, "1", "Cumulative plus prior dose over the limit; null unless complete"),
            ("activity_left_mbq", _REAL, "MBq", "Until the limit, at the patient's mean Gy/GBq; null unless complete"),
            _ORIGIN,
            _FLAGS,
            _VERSION,
        ],
    ),
    "lesion": _schema(
        "cycle x lesion",
        [
            _SITE,
            _PATIENT,
            _CYCLE,
            _LESION,
            ("location", _TEXT, "", "Organ or region the lesion lies in, if known"),
            ("delineation", _TEXT, "", "How the outline was made"),
            ("volume_ml", _REAL, "mL", "Median over the time points"),
            ("uptake_mean_bq_per_ml", _REAL, "Bq mL-1", "Mean at the reference time point"),
            ("uptake_peak_bq_per_ml", _REAL, "Bq mL-1", "Maximum voxel at the reference time point"),
            ("absorbed_dose_gy", _REAL, "Gy", "Mean absorbed dose"),
            ("volume_change_rel", _REAL, "1", "Against the patient's first cycle with this lesion"),
            ("uptake_change_rel", _REAL, "1", "Mean uptake per administered activity, against that cycle"),
            ("appearance", _TEXT, "", "first, persistent, new or resolved"),
            ("response", _TEXT, "", "Response by stated criteria; null if none are configured"),
            _ORIGIN,
            _FLAGS,
            _VERSION,
        ],
    ),
    "stage_outcome": _schema(
        "cycle x stage",
        [
            _SITE,
            _PATIENT,
            ("cycle", _INT, "", "Treatment cycle; 0 for stages of the whole patient"),
            ("stage", _TEXT, "", "ingest, segment, align, kinetics, dose or course"),
            ("status", _TEXT, "", "ok, refused, failed or missing"),
            ("code", _TEXT, "", "Code of the refusal or failure"),
            ("sentence", _TEXT, "", "What, where and what to do"),
            ("file", _TEXT, "", "File concerned, relative to the site's sheets"),
            ("tag", _TEXT, "", "DICOM tag or sheet column concerned"),
            ("origin_stage", _TEXT, "", "Stage that refused first"),
            _VERSION,
        ],
    ),
    "phantom_qc": _schema(
        "camera x phantom x study",
        [
            _SITE,
            ("camera", _TEXT, "", "Camera as named in cameras.tsv"),
            ("phantom", _TEXT, "", "cylinder, nema, kidney, or decay (a series of a decaying source)"),
            ("days_after_first", _INT, "d", "Whole days after the camera's first phantom study"),
            ("nuclide", _TEXT, "", "e.g. Lu-177"),
            ("geometry", _TEXT, "", "Phantom of the calibration that sensitivity and recovery refer to"),
            ("sensitivity_cps_per_mbq", _REAL, "s-1 MBq-1", "Sensitivity; null for images in Bq/mL"),
            ("calibration_ratio", _REAL, "1", "Activity in the image over the true one; null for images in counts"),
            ("u_sensitivity_rel", _REAL, "1", "Relative standard uncertainty of the one or the other"),
            ("u_activity_rel", _REAL, "1", "Part: activity as declared (meter)"),
            ("u_statistics_rel", _REAL, "1", "Part: noise of the image"),
            ("u_repeatability_rel", _REAL, "1", "Part: scatter of the studies; null below three"),
            ("sensitivity_basis", _TEXT, "", "system or detector"),
            ("sensitivity_change_rel", _REAL, "1", "Against the camera's first study; null for that"),
            ("drift_rel_per_year", _REAL, "a-1", "Slope over all studies; in the row of the latest one"),
            ("drift_low_rel_per_year", _REAL, "a-1", "Lower end of its 95 % interval"),
            ("drift_high_rel_per_year", _REAL, "a-1", "Upper end of its 95 % interval"),
            ("fwhm_mm", _REAL, "mm", "Blur of the reconstruction: of a round Gaussian"),
            ("u_fwhm_mm", _REAL, "mm", "Standard uncertainty, with the misfit of a Gaussian"),
            ("fwhm_across_mm", _REAL, "mm", "Across the axis of the scanner"),
            ("fwhm_along_mm", _REAL, "mm", "Along the axis of the scanner"),
            ("fwhm_change_rel", _REAL, "1", "Against the camera's first study with this phantom; null for that"),
            ("recovery_alpha_ml", _REAL, "mL", "RC(V) = 1/(1 + (alpha/V)^beta)"),
            ("recovery_beta", _REAL, "1", "RC(V) = 1/(1 + (alpha/V)^beta)"),
            ("recovery_covariance", _REALS, "", "Covariance of alpha and beta, row by row"),
            ("u_recovery_model_rel", _REAL, "1", "Scatter of the bodies around the form, beyond their noise"),
            ("recovery_volume_min_ml", _REAL, "mL", "Smallest volume fitted"),
            ("recovery_volume_max_ml", _REAL, "mL", "Largest volume fitted"),
            ("recovery_surface_mm", _REAL, "mm", "k of RC = 1 - k S/V"),
            ("u_recovery_surface_mm", _REAL, "mm", "Standard uncertainty of k"),
            ("body_names", _TEXTS, "", "Bodies of the phantom, in order"),
            ("body_volumes_ml", _REALS, "mL", "Their volumes"),
            ("body_recoveries", _REALS, "1", "Activity inside each body over the true one, at the calibration"),
            ("body_u_recoveries_rel", _REALS, "1", "Relative standard uncertainty of each by noise"),
            ("dead_time_us", _REAL, "us", "Paralysable dead time of a detector"),
            ("u_dead_time_us", _REAL, "us", "Standard uncertainty"),
            ("passed", _FLAG, "", "Within the stated limits; null where none applies"),
            _ORIGIN,
            _FLAGS,
            _VERSION,
        ],
    ),
    "quarantine": _schema(
        "row that a merge left out x reason",
        [
            _SITE,
            ("source", _TEXT, "", "ledger, or the program that the rows of a submission come from"),
            ("source_table", _TEXT, "", "Table that the row was submitted in"),
            ("row_key", _TEXT, "", "Key columns of the row, e.g. patient=P1 cycle=1 region=liver"),
            ("reason", _TEXT, "", "Code of the reason"),
            ("column", _TEXT, "", "Column concerned; null for the whole row"),
            ("value", _TEXT, "", "What stood there"),
            ("sentence", _TEXT, "", "What is wrong with the row"),
            ("software_version", _TEXT, "", "doseledger version that left the row out"),
        ],
    ),
}

#: What the comparison of sites makes of the ledger; not part of it.
COMPARISON_SCHEMAS: Final[dict[str, pa.Schema]] = {
    name: _schema(row, columns) for name, (row, columns) in COMPARISON_TABLES.items()
}


def schema_of(name: str) -> pa.Schema:
    """Schema of a table of the ledger or of the comparison."""
    return SCHEMAS[name] if name in SCHEMAS else COMPARISON_SCHEMAS[name]


def table(name: str, rows: Iterable[Mapping[str, Any]]) -> pa.Table:
    """Rows as an Arrow table of schema `name`; a missing column is null.

    Raises
    ------
    KeyError
        A row has a column that the schema does not know: a defect, never dropped silently.
    """
    schema = schema_of(name)
    known = set(schema.names)
    rows = list(rows)
    for row in rows:
        if unknown := set(row) - known:
            raise KeyError(f"table {name} has no column {sorted(unknown)}")
    columns = [pa.array([row.get(field.name) for row in rows], type=field.type) for field in schema]
    return pa.Table.from_arrays(columns, schema=schema)


def is_leading(row: Mapping[str, Any]) -> bool:
    """Whether a row of ``organ_dose`` is the one of its region and marrow method that sums and pages rest on.

    That is the primary row, and of red marrow also the row of the other method.
    """
    return bool(row["is_primary"]) or row["marrow_method"] in MARROW_METHODS


def sort_keys(schema: pa.Schema) -> list[tuple[str, str]]:
    """Columns that order the rows of a table: keys first, then what makes rows unique."""
    unique = (
        *("sample", "model", "analysis_id", "marrow_method", "lesion_id", "stage", "limit_quantity"),
        *("camera", "phantom", "days_after_first"),
    )
    aside = ("source_table", "row_key", "reason", "column", "source", "value")
    return [(name, "ascending") for name in (*_KEYS, *unique, *aside) if name in schema.names]


#: Whole tables are compressed. Parts have a few rows in many columns: plain values are read in a third of the time.
_WHOLE: Final = {"compression": "zstd", "write_statistics": True, "use_dictionary": True}
_PART: Final = {"compression": "none", "write_statistics": False, "use_dictionary": False}
#: Small tables that are put together at once: a thousand would be slow to allocate, and to sort as so many chunks.
_PARTS_AT_ONCE: Final = 50


def table_writer(path: Path | BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    """Writer of Parquet that is bit-identical for identical rows, given in the same portions."""
    return pq.ParquetWriter(path, schema, store_schema=True, **_WHOLE)


def write_table(path: Path | BinaryIO, data: pa.Table) -> None:
    """Write Parquet that is bit-identical for identical rows."""
    with table_writer(path, data.schema) as writer:
        writer.write_table(data)


def write_rows(folder: Path, name: str, rows: Iterable[Mapping[str, Any]]) -> Path:
    """Write rows of table `name`, sorted by their keys, to ``folder/name.parquet``."""
    data = table(name, rows)
    path = folder / f"{name}.parquet"
    with pq.ParquetWriter(path, data.schema, store_schema=True, **_PART) as writer:
        writer.write_table(data.sort_by(sort_keys(data.schema)))
    return path


def read_small_parts(paths: Sequence[Path], name: str) -> pa.Table:
    """Rows of many files of a few rows each, in the order of the files."""
    schema = SCHEMAS[name]
    tables = [
        pa.concat_tables([_read_small(path, schema) for path in paths[start : start + _PARTS_AT_ONCE]]).combine_chunks()
        for start in range(0, len(paths), _PARTS_AT_ONCE)
    ]
    return pa.Table.from_arrays(pa.concat_tables(tables).columns, schema=schema)


def _read_small(path: Path, schema: pa.Schema) -> pa.Table:
    # A third of the time of `read_table`, which sets up a scan of a data set for every file.
    with pq.ParquetFile(pa.BufferReader(path.read_bytes()), pre_buffer=False) as file:
        found = file.read(use_threads=False)
    if found.schema.equals(schema):
        return found
    return pq.read_table(path, schema=schema, partitioning=None).replace_schema_metadata(None)


def read_part(path: Path, name: str) -> pa.Table:
    """Rows of table `name` from a file that this program wrote elsewhere.

    Raises
    ------
    SheetError
        No such file, or one that is not this table as this version knows it.
    """
    schema = SCHEMAS[name]
    try:
        found = pq.read_schema(path)
        version = (found.metadata or {}).get(b"schema_version", b"none")
        if found.names == schema.names and version == schema.metadata[b"schema_version"]:
            return pq.read_table(path, schema=schema, partitioning=None)
    except (OSError, pa.ArrowInvalid, pa.ArrowTypeError):
        raise SheetError("the table cannot be read", path=path.name, remedy="Write it again.") from None
    raise SheetError(
        f"the file is not the table {name} as this version writes it",
        path=path.name,
        value=f"{len(found.names)} columns, schema version {version.decode()}",
        expected=f"{len(schema.names)} columns, schema version {SCHEMA_VERSION}",
        remedy="Write it again with this version.",
    )


def read_rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """Read the rows of table `name` in a stage folder, as plain dictionaries."""
    return list(pq.read_table(folder / f"{name}.parquet", schema=schema_of(name)).to_pylist())


def data_dictionary() -> str:
    """The data dictionary as Markdown, generated from `SCHEMAS`."""
    lines = [
        "# Data dictionary",
        "",
        f"Schema version {SCHEMA_VERSION}. Generated by `doseledger schemas`; do not edit.",
        "doseledger is research software and not a medical device.",
        "",
    ]
    for name, schema in {**SCHEMAS, **COMPARISON_SCHEMAS}.items():
        if name == next(iter(COMPARISON_SCHEMAS)):
            lines += ["# Tables of the comparison", "", "Made by `compare`; Parquet and CSV.", ""]
        lines += [f"## {name}", "", f"One row per {schema.metadata[b'row'].decode()}.", ""]
        lines += ["| column | type | unit | description |", "|---|---|---|---|"]
        for field in schema:
            unit = field.metadata[b"unit"].decode()
            lines.append(f"| `{field.name}` | {field.type} | {unit} | {field.metadata[b'description'].decode()} |")
        lines.append("")
    return "\n".join(lines)
