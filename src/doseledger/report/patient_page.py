"""The page of one patient: pictures first, then the numbers, then how they came about."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from doseledger.io.tables import is_leading
from doseledger.report import methods, words
from doseledger.report.figures import BQ_PER_KBQ, CycleSlices
from doseledger.report.pages import (
    CYCLE,
    FLAGS,
    REGION,
    Cell,
    Column,
    DataTable,
    Line,
    Row,
    Tables,
    by_demo_weights,
    checked,
    cycle_region,
    data_table,
    half_life,
    label,
    number,
    origins,
    percent,
    primary_rows,
    render,
    stopped,
)
from doseledger.report.patient_figures import blood_points, curve_groups, cycle_view, histogram_views, marks_of
from doseledger.report.sums import limit_text, sum_charts, sums_by_region

_ADMINISTRATION: Final = (
    CYCLE,
    Column("Day", lambda row: words.text(row["days_after_first_cycle"]), number=True),
    Column("Radiopharmaceutical", lambda row: words.tracer(row["radiopharmaceutical"]), wide=True),
    number("Measured", "measured_activity_mbq", "MBq", 4),
    number("Residual", "residual_activity_mbq", "MBq"),
    number("Administered", "administered_mbq", "MBq", 4),
    number("Infusion", "infusion_min", "min"),
    label("Preparation", "preparation"),
    Column("Extravasation", lambda row: words.yes_no(row["extravasation"])),
    Column("Imaged", lambda row: words.yes_no(row["imaged"])),
)

_ACQUISITION: Final = (
    CYCLE,
    Column("Scan", lambda row: words.text(row["time_point"]), number=True),
    Column("Time", lambda row: words.fixed(row["time_h"]), "h", number=True),
    label("Camera", "camera"),
    Column("CT", lambda row: words.yes_no(row["has_ct"])),
    number("Total activity", "total_activity_mbq", "MBq", 4),
    percent("Of administered", "total_fraction_of_administered"),
    percent("u (calibration)", "u_calibration_rel"),
    FLAGS,
)


_DOSE: Final = (
    CYCLE,
    REGION,
    number("Mean dose", "absorbed_dose_gy", "Gy"),
    Column("95 % interval", lambda row: words.interval(row["dose_low_gy"], row["dose_high_gy"]), "Gy", number=True),
    percent("u", "u_absorbed_dose_rel"),
    number("Dose per activity", "dose_gy_per_gbq", "Gy/GBq"),
    number("TIA", "tia_mbq_h", "MBq h", 4),
    Column("Effective half-life", half_life, "h", number=True),
    percent("Extrapolated", "extrapolated_fraction"),
    number("Volume", "volume_ml", "mL"),
    number("Mass", "mass_g", "g"),
    label("Engine", "dose_engine"),
    label("Partial volume", "partial_volume_method"),
    FLAGS,
)

_OTHER_ANALYSES: Final = (
    CYCLE,
    REGION,
    label("Engine", "dose_engine"),
    label("Partial volume", "partial_volume_method"),
    label("Curve model", "curve_model"),
    number("Mean dose", "absorbed_dose_gy", "Gy"),
    number("Mean dose, primary row", "primary_gy", "Gy"),
)

_COURSE: Final = (
    REGION,
    number("Cumulative dose", "cumulative_dose_gy", "Gy"),
    percent("u", "u_cumulative_dose_rel"),
    number("Cumulative BED", "cumulative_bed_gy", "Gy"),
    number("Prior dose", "prior_dose_gy", "Gy"),
    number("Administered", "administered_mbq", "MBq", 4),
    Column("Status", lambda row: row["status_words"], wide=True),
    Column("Reference lines", lambda row: tuple(limit_text(limit) for limit in row["limits"]), wide=True),
    FLAGS,
)


def _uptake(heading: str, column: str) -> Column:
    """Concentrations are shown in kBq/mL: in Bq/mL the digits of a lesion are hard to count."""

    def cell(row: Row) -> str:
        return words.significant(None if row[column] is None else row[column] / BQ_PER_KBQ)

    return Column(heading, cell, "kBq/mL", number=True)


_LESION: Final = (
    Column("Lesion", lambda row: words.text(row["lesion_id"]), lead=True),
    CYCLE,
    label("Location", "location", wide=True),
    label("Delineation", "delineation", wide=True),
    number("Volume", "volume_ml", "mL"),
    Column("Change", lambda row: words.change(row["volume_change_rel"]), "% of volume", number=True),
    _uptake("Mean uptake", "uptake_mean_bq_per_ml"),
    Column("Change", lambda row: words.change(row["uptake_change_rel"]), "% of uptake", number=True),
    _uptake("Peak uptake", "uptake_peak_bq_per_ml"),
    number("Mean dose", "absorbed_dose_gy", "Gy"),
    label("Appearance", "appearance"),
    label("Response", "response"),
    FLAGS,
)


def patient_page(
    *,
    site: str,
    patient: str,
    tables: Tables,
    slices: Sequence[CycleSlices],
    software_version: str,
) -> str:
    """The page of one patient as one HTML text that needs no other file.

    Parameters
    ----------
    tables
        Rows of this patient by table name, as of `doseledger.io.tables.SCHEMAS`; a table that is
        absent or empty leaves its section out.
    slices
        Pictures, one entry per cycle that has images.
    software_version
        Version that makes the page; the rows carry their own.

    Returns
    -------
    str
        HTML with its figures inside; the same input gives the same bytes.

    Raises
    ------
    KeyError
        A table or column that the ledger does not have.
    """
    rows = checked(tables)
    marks = marks_of(rows, slices)
    sums = sums_by_region(rows["course"])
    return render(
        "patient.html.j2",
        site=site,
        patient=patient,
        software_version=software_version,
        origins=origins(rows),
        demo_weights=by_demo_weights(rows),
        tracers=words.listing(words.tracer(row["radiopharmaceutical"]) for row in rows["administration"]),
        facts=_facts(rows["patient"]),
        stopped=stopped(rows["stage_outcome"]),
        views=[cycle_view(item, marks) for item in sorted(slices, key=lambda item: item.cycle)],
        administrations=data_table(_ADMINISTRATION, rows["administration"]),
        acquisitions=data_table(_ACQUISITION, rows["acquisition"]),
        curves=curve_groups([*rows["region_activity"], *blood_points(rows["blood_sample"])], rows["curve"]),
        doses=_dose_table(rows),
        common_flags=words.flags(_common_flags(primary_rows(rows["organ_dose"]))),
        at_bound=any(row["rate_at_bound"] for row in primary_rows(rows["organ_dose"])),
        other_analyses=_other_analyses(rows["organ_dose"]),
        histograms=histogram_views(rows, marks),
        course=data_table(_COURSE, sums),
        course_charts=sum_charts(sums),
        lesions=data_table(_LESION, sorted(rows["lesion"], key=lambda r: words.region_order(r["lesion_id"] or ""))),
        methods=methods.paragraphs(rows),
        provenance=methods.provenance(rows),
    )


def _facts(rows: Sequence[Row]) -> list[tuple[str, str]]:
    if not rows:
        return []
    person = rows[0]
    facts = [
        ("Sex", person["sex"]),
        ("Age band", _with_unit(person["age_band"], "years")),
        ("Body mass", _with_unit(person["mass_kg"], "kg")),
        ("Height", _with_unit(person["height_cm"], "cm")),
        ("Diagnosis", person["diagnosis"]),
        ("Kidney function", _with_unit(person["kidney_function_band"], "mL/min")),
        ("Prior therapy", person["prior_therapy"]),
        ("Prior kidney dose", _with_unit(person["prior_kidney_dose_gy"], "Gy")),
    ]
    return [(heading, words.text(value)) for heading, value in facts]


def _with_unit(value: float | str | None, unit: str) -> str | None:
    if value is None:
        return None
    return f"{value if isinstance(value, str) else words.significant(value)} {unit}"


def _dose_table(rows: Mapping[str, Sequence[Row]]) -> DataTable:
    """Primary rows by cycle; a cycle without a dose has a line that says why."""
    lines: dict[int, list[Line]] = {}
    shown = primary_rows(rows["organ_dose"])
    common = set(_common_flags(shown))
    primary = data_table(_DOSE, [{**row, "flags": [f for f in row["flags"] or [] if f not in common]} for row in shown])
    for row, line in zip(shown, primary.lines, strict=True):
        lines.setdefault(row["cycle"], []).append(line)
    troubles = stopped(rows["stage_outcome"])
    given = {row["cycle"]: row for row in rows["administration"]}
    cycles = sorted({*lines, *given, *(row["cycle"] for row in rows["stage_outcome"] if row["cycle"])})
    every: list[Line] = []
    for cycle in cycles:
        every += lines.get(cycle, [])
        remarks = [
            f"{row['status']} at {words.text(row['stage'])}: {words.text(row['sentence'])}"
            for row in troubles
            if row["cycle"] == cycle
        ]
        if cycle not in lines and not remarks:
            imaged = given.get(cycle, {}).get("imaged")
            remarks = ["not imaged: no dose" if imaged is False else "no dose in the tables"]
        lead: tuple[Cell, ...] = (str(cycle), "all regions")
        every += [Line(lead, remark) for remark in remarks]
    return DataTable(primary.columns, tuple(every))


def _common_flags(rows: Sequence[Row]) -> list[str]:
    """Flags of all rows: said once above the table, so that a row shows what is its own."""
    flags = [set(row["flags"] or []) for row in rows]
    return sorted(set.intersection(*flags)) if len(flags) > 1 else []


def _other_analyses(rows: Sequence[Row]) -> DataTable:
    primary = {(row["cycle"], row["region"]): row["absorbed_dose_gy"] for row in rows if row["is_primary"]}
    others = sorted((row for row in rows if not is_leading(row)), key=cycle_region)
    return data_table(
        _OTHER_ANALYSES, [{**row, "primary_gy": primary.get((row["cycle"], row["region"]))} for row in others]
    )
