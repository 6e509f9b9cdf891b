"""Columns of the tables that compare sites: what `doseledger.io.tables` makes schemas of.

One table per figure and list of the cohort page. Relative quantities are shares, not per cent.
"""

from __future__ import annotations

from typing import Final

import pyarrow as pa

Column = tuple[str, pa.DataType, str, str]

_TEXT = pa.string()
_INT = pa.int32()
_REAL = pa.float64()
_FLAG = pa.bool_()
_TEXTS = pa.list_(pa.string())
_DOSE: Final = "Gy GBq-1"

_SITE: Column = ("site", _TEXT, "", "Site pseudonym")
_TRACER: Column = ("radiopharmaceutical", _TEXT, "", "As in administration")
_REGION: Column = ("region", _TEXT, "", "Region name; lesions stands for all lesions")
#: What may be pooled: rows of one group and nothing else.
_GROUP: Final[list[Column]] = [
    ("group_id", _TEXT, "", "SHA-256 of the columns that are never pooled, 12 digits"),
    _TRACER,
    _REGION,
    ("lesion_policy", _TEXT, "", "Never pooled"),
    ("marrow_method", _TEXT, "", "Never pooled"),
    ("demo_weights", _FLAG, "", "Masks by a model that knows virtual patients only; never pooled with others"),
    ("data_origin", _TEXT, "", "patient or virtual; never pooled"),
]
_QUANTITY: Column = (
    "quantity",
    _TEXT,
    "",
    "dose_per_activity (effects are relative) or clearance_rate (in units of the rate of physical decay)",
)
_COUNTS: Final[list[Column]] = [
    ("n_rows", _INT, "", "Rows compared"),
    ("n_patients", _INT, "", "Patients of these rows"),
]


def _estimate(name: str, unit: str, description: str) -> list[Column]:
    return [
        (name, _REAL, unit, description),
        (f"{name}_low", _REAL, unit, "Lower end of its 95 % interval"),
        (f"{name}_high", _REAL, unit, "Upper end of its 95 % interval"),
    ]


#: What a row is, and its columns, by name of the table.
COMPARISON_TABLES: Final[dict[str, tuple[str, list[Column]]]] = {
    "compared_dose": (
        "cycle x region, primary analysis",
        [
            _SITE,
            ("patient", _TEXT, "", "Patient pseudonym"),
            ("cycle", _INT, "", "Treatment cycle"),
            *_GROUP,
            ("lesion_id", _TEXT, "", "Lesion; null for organs"),
            ("protocol", _TEXT, "", "mtp, 2tp or stp"),
            ("preparation", _TEXT, "", "As in administration"),
            ("region_source", _TEXT, "", "Source of the outline"),
            ("partial_volume_method", _TEXT, "", "Correction for blur"),
            ("dose_gy_per_gbq", _REAL, _DOSE, "Absorbed dose over administered activity"),
            ("effective_half_life_h", _REAL, "h", "Of the terminal phase"),
            ("robust_z", _REAL, "1", "(ln x - median)/(1.4826 MAD) within group and site; null below five rows"),
            ("outlier", _FLAG, "", "|robust_z| above 3.5"),
            ("left_out", _TEXT, "", "Why the row is not compared: low_grade or unit_slip; null if it is"),
        ],
    ),
    "site_distribution": (
        "group x site",
        [
            _SITE,
            *_GROUP,
            *_COUNTS,
            ("n_left_out", _INT, "", "Rows graded low, in none of the other numbers"),
            ("n_outliers", _INT, "", "Rows with |robust z| above 3.5; they stay in the other numbers"),
            ("n_implausible", _INT, "", "Rows flagged dose_implausible"),
            ("protocols", _TEXTS, "", "mtp, 2tp and stp as they occur"),
            ("minimum_gy_per_gbq", _REAL, _DOSE, "Smallest"),
            ("p5_gy_per_gbq", _REAL, _DOSE, "5th percentile"),
            ("q25_gy_per_gbq", _REAL, _DOSE, "Lower quartile"),
            ("median_gy_per_gbq", _REAL, _DOSE, "Median"),
            ("q75_gy_per_gbq", _REAL, _DOSE, "Upper quartile"),
            ("p95_gy_per_gbq", _REAL, _DOSE, "95th percentile"),
            ("maximum_gy_per_gbq", _REAL, _DOSE, "Largest"),
            ("variation_rel", _REAL, "1", "Coefficient of variation; null below two rows"),
            ("quartile_dispersion_rel", _REAL, "1", "(Q3 - Q1)/(Q3 + Q1); null below two rows"),
        ],
    ),
    "site_model": (
        "group x quantity",
        [
            *_GROUP,
            _QUANTITY,
            ("status", _TEXT, "", "fitted, too_few, no_variation or not_converged"),
            ("sites_are", _TEXT, "", "fixed (sum to zero) below ten sites, random from ten on"),
            ("n_sites", _INT, "", "Sites compared"),
            *_COUNTS,
            ("sites_left_out", _TEXTS, "", "Sites with fewer than five patients"),
            ("covariates", _TEXTS, "", "What the effects of the sites are adjusted for"),
            ("confounded", _TEXTS, "", "What goes with the sites: its effect is in theirs and cannot be taken out"),
            ("sd_site", _REAL, "1", "Standard deviation between sites; null for fixed sites"),
            ("sd_patient", _REAL, "1", "Between patients of a site; null if no patient has two rows"),
            ("sd_rest", _REAL, "1", "Between cycles of a patient"),
            ("dof", _INT, "", "Degrees of freedom of tests and intervals"),
            ("power_at_8_percent", _REAL, "1", "Chance to find one site that is 8 % off; no correction for many sites"),
            ("patients_needed", _REAL, "", "Patients per site for a power of 80 % at 8 %"),
        ],
    ),
    "site_effect": (
        "group x quantity x site",
        [
            _SITE,
            *_GROUP,
            _QUANTITY,
            *_COUNTS,
            *_estimate("effect", "1", "Difference from the mean of the sites; shrunk where sites are random"),
            ("p", _REAL, "1", "Two-sided; null where sites are random"),
            ("p_holm", _REAL, "1", "Corrected for the number of sites of the group"),
            ("stands_out", _FLAG, "", "Still differs when the sites that differ more are left out"),
            *_estimate("step_effect", "1", "Effect without the sites that differ more; null unless it stands out"),
            ("step_p_holm", _REAL, "1", "Its p, corrected for the sites that are left"),
            ("phantom_effect", _REAL, "1", "What phantoms say of the calibration, against the mean of the sites"),
            *_estimate("remaining_effect", "1", "Effect over phantom_effect; null unless all sites have phantoms"),
        ],
    ),
    "covariate_effect": (
        "group x quantity x level",
        [
            *_GROUP,
            _QUANTITY,
            ("covariate", _TEXT, "", "cycle, preparation, protocol, region_source or partial_volume_method"),
            ("level", _TEXT, "", "Level of the covariate"),
            ("against", _TEXT, "", "Level of most rows, with which it is compared"),
            ("n_rows", _INT, "", "Rows with this level"),
            *_estimate("effect", "1", "Difference between the two levels"),
            ("p", _REAL, "1", "Two-sided, not corrected"),
        ],
    ),
    "method_agreement": (
        "group x pair of analyses",
        [
            *_GROUP,
            ("differs_in", _TEXTS, "", "Method columns in which the two analyses differ"),
            ("method_a", _TEXT, "", "Primary analysis: its values of these columns"),
            ("method_b", _TEXT, "", "Other analysis of the same cycle and region"),
            ("n_pairs", _INT, "", "Cycle x region pairs"),
            ("n_patients", _INT, "", "Patients of these pairs"),
            *_estimate("ratio", "1", "Geometric mean of dose b over dose a"),
            ("limit_low", _REAL, "1", "Lower limit of agreement (95 % of ratios)"),
            ("limit_high", _REAL, "1", "Upper limit of agreement"),
            ("concordance", _REAL, "1", "Lin's concordance coefficient"),
        ],
    ),
    "method_difference": (
        "region x method column x value",
        [
            _TRACER,
            _REGION,
            ("column", _TEXT, "", "Method column that has several values among primary rows"),
            ("value", _TEXT, "", "One of them; null as none"),
            ("sites", _TEXTS, "", "Sites with this value"),
            ("n_rows", _INT, "", "Primary rows with it"),
            ("pooled", _TEXT, "", "no (groups of their own), adjusted, or yes"),
        ],
    ),
    "reference_interval": (
        "group",
        [
            *_GROUP,
            *_COUNTS,
            ("n_sites", _INT, "", "Sites of these rows"),
            *_estimate("p5_gy_per_gbq", _DOSE, "5th percentile; null below 20 patients"),
            *_estimate("median_gy_per_gbq", _DOSE, "Median; null below 5 patients"),
            *_estimate("p95_gy_per_gbq", _DOSE, "95th percentile; null below 20 patients"),
        ],
    ),
    "cycle_change": (
        "group x pair of following cycles",
        [
            *_GROUP,
            ("from_cycle", _INT, "", "Earlier cycle"),
            ("to_cycle", _INT, "", "The next one"),
            ("n_patients", _INT, "", "Patients with both"),
            *_estimate("ratio", "1", "Geometric mean of later over earlier dose per activity"),
            ("limit_low", _REAL, "1", "95 % of patients' ratios are above"),
            ("limit_high", _REAL, "1", "95 % of patients' ratios are below"),
        ],
    ),
    "limit_share": (
        "site x region x limit",
        [
            _SITE,
            _REGION,
            ("limit_quantity", _TEXT, "", "absorbed_dose or bed"),
            ("limit_gy", _REAL, "Gy", "Reference line, not a verdict"),
            ("n_patients", _INT, "", "Patients with this limit"),
            ("n_complete", _INT, "", "Of these, with all cycles counted or imputed: the base of the shares"),
            ("n_near", _INT, "", "At 80 % of the limit or more"),
            ("n_above", _INT, "", "At the limit or above"),
            *_estimate("share_near", "1", "Share at 80 % or more (interval: Wilson)"),
            *_estimate("share_above", "1", "Share at the limit or above (interval: Wilson)"),
        ],
    ),
    "cumulative_dose": (
        "patient x region",
        [
            _SITE,
            ("patient", _TEXT, "", "Patient pseudonym"),
            _REGION,
            ("cumulative_status", _TEXT, "", "complete, imputed or incomplete"),
            ("cycles_given", _INT, "", "Administrations in the sheet"),
            ("cycles_counted", _INT, "", "Cycles with a dose"),
            ("cumulative_dose_gy", _REAL, "Gy", "Over the cycles counted, without prior dose"),
            ("cumulative_bed_gy", _REAL, "Gy", "Over the cycles counted"),
            ("u_cumulative_dose_rel", _REAL, "1", "Relative standard uncertainty"),
            ("prior_dose_gy", _REAL, "Gy", "From prior therapy, as declared"),
        ],
    ),
    "completeness": (
        "site",
        [
            _SITE,
            ("n_patients", _INT, "", "Patients in any table"),
            ("n_planned", _INT, "", "Cycles planned or given"),
            ("n_ok", _INT, "", "Cycles with a dose"),
            ("n_refused", _INT, "", "Cycles that were refused"),
            ("n_failed", _INT, "", "Cycles whose job failed"),
            ("n_missing", _INT, "", "Cycles that have not been computed"),
            ("n_not_imaged", _INT, "", "Cycles without scans"),
        ],
    ),
    "refusal": (
        "site x status x code",
        [
            _SITE,
            ("status", _TEXT, "", "refused or failed"),
            ("stage", _TEXT, "", "Stage that refused or failed first"),
            ("code", _TEXT, "", "Code of the refusal or failure"),
            ("n_cycles", _INT, "", "Cycles; courses count as one"),
        ],
    ),
    "flag_count": (
        "flag x table of the ledger",
        [
            ("flag", _TEXT, "", "Flag"),
            ("table", _TEXT, "", "Table in whose rows it stands"),
            ("n_rows", _INT, "", "Rows with it"),
            ("n_patients", _INT, "", "Patients with such a row"),
            ("n_sites", _INT, "", "Sites with such a row"),
        ],
    ),
    "phantom_comparison": (
        "camera x quantity",
        [
            _SITE,
            ("camera", _TEXT, "", "Camera as named in cameras.tsv"),
            ("quantity", _TEXT, "", "calibration (image over truth) or recovery (over the median of the cameras)"),
            ("phantom", _TEXT, "", "Phantom that it was measured with"),
            ("days_after_first", _INT, "d", "Day of the study"),
            ("n_bodies", _INT, "", "Bodies compared; null for calibration"),
            *_estimate("ratio", "1", "1 if all is well"),
            ("u_rel", _REAL, "1", "Relative standard uncertainty of the ratio"),
            ("p_holm", _REAL, "1", "That the ratio is 1 (recovery: within 12 % of 1); corrected for all cameras"),
        ],
    ),
    "finding": (
        "thing to look at",
        [
            ("kind", _TEXT, "", "site_effect, clearance, unit, calibration, recovery, lesion_policy or marrow_method"),
            _SITE,
            _TRACER,
            ("found_in", _TEXT, "", "Region; null for what concerns a camera"),
            ("group_id", _TEXT, "", "Group, where the finding is of one"),
            ("detail", _TEXT, "", "Camera, pattern of the clearance, or value of the method column"),
            *_estimate("size", "1", "Relative difference; for clearance in rates of physical decay"),
            ("p_holm", _REAL, "1", "Corrected; null where no test is made"),
            ("n_patients", _INT, "", "Patients behind it"),
        ],
    ),
}
