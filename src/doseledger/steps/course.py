"""Stage ``course``: all cycles of one patient; cumulative dose, lesions over time, the patient's page."""

from __future__ import annotations

from datetime import datetime
from statistics import median
from typing import Any, Final

from doseledger import __version__
from doseledger.cohort import Row, administered_mbq
from doseledger.io.nifti import read_image, read_sidecar
from doseledger.io.tables import is_leading, write_rows
from doseledger.regions import sums_of
from doseledger.report.patient_page import patient_page
from doseledger.statistics.course import Cumulation, CycleDose, check_limit, cumulate, impute
from doseledger.statistics.response import volume_response
from doseledger.steps.collect import STAGE_OF_TABLE, FinishedCycle, finished_cycles, outcome_rows
from doseledger.steps.layout import ALIGNMENT, PAGE, scan_file
from doseledger.steps.lesion_names import with_patient_names, write_lesion_names
from doseledger.steps.pictures import cycle_slices
from doseledger.steps.specs import region_specs
from doseledger.steps.stage import Job

STAGE_VERSION: Final[int] = 4
#: A refused cycle makes the course incomplete; it does not take the other cycles with it.
TAKES_REFUSED: Final = True

AGE_BAND_YEARS: Final = 5
_STATUS_FLAGS: Final = {"complete": [], "imputed": ["cycles_imputed"], "incomplete": ["cycles_missing"]}


def step(job: Job) -> None:
    """Sum over the administrations, follow the lesions, and write the patient's page."""
    cycles = with_patient_names(finished_cycles(job.inputs))
    write_lesion_names(job.out, cycles)
    tables = {
        "patient": [_patient_row(job)],
        "administration": _administration_rows(job),
        "course": _course_rows(job, cycles),
        "lesion": _lesion_rows(job, cycles),
    }
    for name, rows in tables.items():
        write_rows(job.out, name, rows)
    for name in STAGE_OF_TABLE:
        tables[name] = [row for cycle in cycles for row in cycle.rows(name)]
    # A sum of regions has no curve to be shown with its points.
    fitted = {row["region"] for row in tables["curve"]}
    tables["region_activity"] = [row for row in tables["region_activity"] if row["region"] in fitted]
    tables["stage_outcome"] = [row for cycle in cycles for row in outcome_rows(cycle)]
    html = patient_page(
        site=job.rows["site"],
        patient=job.rows["patient"],
        tables=tables,
        slices=[cycle_slices(cycle) for cycle in cycles if cycle.ok],
        software_version=__version__,
    )
    (job.out / PAGE).write_text(html, encoding="utf-8")


def _common(job: Job) -> Row:
    return {**job.key, "data_origin": job.rows["data_origin"], "software_version": __version__}


def _patient_row(job: Job) -> Row:
    person = job.rows["person"] or {}
    kept = ("sex", "mass_kg", "height_cm", "diagnosis", "kidney_function_band", "prior_therapy", "prior_kidney_dose_gy")
    return _common(job) | {k: person.get(k) for k in kept} | {"age_band": age_band(person.get("age_years"))}


def age_band(age_years: int | None) -> str | None:
    """Five-year band: the ledger holds no exact age.

    Examples
    --------
    >>> age_band(64)
    '60-64'
    """
    if age_years is None:
        return None
    start = age_years - age_years % AGE_BAND_YEARS
    return f"{start}-{start + AGE_BAND_YEARS - 1}"


def _administration_rows(job: Job) -> list[Row]:
    imaged = {c["cycle"]: c["imaged"] for c in job.rows["cycles"]}
    starts = [datetime.fromisoformat(a["injection_start"]) for a in job.rows["administrations"]]
    # Without a usable row of the first cycle there is nothing to count from.
    complete = len(starts) == len(job.rows["cycles"])
    first = min(starts) if complete else None
    kept = (
        "cycle",
        "radiopharmaceutical",
        "nuclide",
        "measured_activity_mbq",
        "residual_activity_mbq",
        "infusion_min",
        "preparation",
        "extravasation",
    )
    return [
        _common(job)
        | {k: a[k] for k in kept}
        | {
            "administered_mbq": administered_mbq(a),
            "imaged": imaged[a["cycle"]],
            # Whole days between the dates: the ledger has intervals, never dates.
            "days_after_first_cycle": (start.date() - first.date()).days if first else None,
        }
        for a, start in zip(job.rows["administrations"], starts, strict=True)
    ]


def _course_rows(job: Job, cycles: list[FinishedCycle]) -> list[Row]:
    # Methods of marrow are never added to each other: each has a sum of its own, over all cycles given.
    doses = {
        (row["cycle"], row["region"], row["marrow_method"]): row
        for c in cycles
        for row in c.rows("organ_dose")
        if is_leading(row)
    }
    regions = sorted({(region, method) for _, region, method in doses}, key=lambda group: (group[0], group[1] or ""))
    specs = region_specs(job.rows["regions"])
    # A patient without any dose still has a row per region that a limit speaks of.
    if not regions:
        limited = {limit["region"] for limit in job.rows["limits"]} & _named(specs)
        regions = [(region, None) for region in sorted(limited)]
    rows = []
    for region, method in regions:
        given = [_cycle_dose(job, c["cycle"], doses.get((c["cycle"], region, method))) for c in job.rows["cycles"]]
        total = _total(job, given)
        limits: list[Row | None] = [limit for limit in job.rows["limits"] if limit["region"] == region]
        for limit in limits or [None]:
            key = {"region": region, "marrow_method": method}
            rows.append(_common(job) | key | _course_columns(job, region, total, limit))
    return rows


def _total(job: Job, given: list[CycleDose]) -> Cumulation:
    if job.settings["imputation"] == "none":
        return cumulate(given)
    return cumulate(impute(given), u_between_cycles_rel=job.settings["u_between_cycles_rel"])


def _named(specs: dict[str, Any]) -> set[str]:
    return {spec.region for spec in specs.values()} | set(sums_of(specs.values()))


def _cycle_dose(job: Job, cycle: int, row: Row | None) -> CycleDose:
    """A cycle whose administration row is missing or defective was given all the same."""
    administration = next((a for a in job.rows["administrations"] if a["cycle"] == cycle), None)
    return CycleDose(
        cycle=cycle,
        administered_mbq=administered_mbq(administration) if administration else None,
        dose_gy=row["absorbed_dose_gy"] if row else None,
        bed_gy=row["bed_gy"] if row else None,
        u_systematic_rel=row["u_systematic_rel"] if row else 0.0,
        u_random_rel=row["u_fit_rel"] if row else 0.0,
    )


def _course_columns(job: Job, region: str, total: Cumulation, limit: Row | None) -> Row:
    person = job.rows["person"] or {}
    prior = person.get("prior_kidney_dose_gy") if region == "kidneys" else None
    columns: Row = {
        "cycles_given": total.cycles_given,
        "cycles_counted": total.cycles_counted,
        "cycles_imputed": total.cycles_imputed,
        "cumulative_status": total.status,
        "administered_mbq": total.administered_mbq,
        "cumulative_dose_gy": total.dose_gy,
        "cumulative_bed_gy": total.bed_gy,
        "u_cumulative_dose_rel": total.u_dose_rel,
        "prior_dose_gy": prior,
        "flags": _STATUS_FLAGS[total.status],
    }
    if limit is None:
        return columns
    use_bed = limit["quantity"] == "bed"
    check = check_limit(total, limit["limit_gy"], prior_gy=None if use_bed else prior, use_bed=use_bed)
    if use_bed and prior:
        columns["flags"] = [*columns["flags"], "prior_dose_not_in_bed"]
    return columns | {
        "limit_quantity": limit["quantity"],
        "limit_gy": limit["limit_gy"],
        "limit_source": limit["source"],
        "fraction_of_limit": check.fraction,
        "activity_left_mbq": check.activity_left_mbq,
    }


def _lesion_rows(job: Job, cycles: list[FinishedCycle]) -> list[Row]:
    """Lesions by cycle, against the patient's first cycle in which they were outlined."""
    known: dict[str, Row] = {}
    volumes: dict[str, list[float]] = {}
    rows: list[Row] = []
    previous: set[str] = set()
    for number, cycle in enumerate(c for c in cycles if c.ok):
        present = {row["lesion_id"]: row for row in cycle.rows("organ_dose") if row["lesion_id"] and row["is_primary"]}
        for lesion_id, dose in present.items():
            row = _lesion_row(job, cycle, lesion_id, dose)
            first = known.setdefault(lesion_id, row | {"administered_mbq": dose["administered_mbq"]})
            per_activity = row["uptake_mean_bq_per_ml"] / dose["administered_mbq"]
            if first["cycle"] != row["cycle"]:
                row["volume_change_rel"] = row["volume_ml"] / first["volume_ml"] - 1.0
                before = first["uptake_mean_bq_per_ml"] / first["administered_mbq"]
                row["uptake_change_rel"] = per_activity / before - 1.0 if before > 0 else None
            volumes.setdefault(lesion_id, []).append(row["volume_ml"])
            row["response"] = _response(job, row["flags"], volumes[lesion_id])
            row["appearance"] = "first" if number == 0 else "persistent" if first["cycle"] != row["cycle"] else "new"
            rows.append(row)
        rows += [
            _common(job)
            | {"cycle": cycle.cycle, "lesion_id": lesion_id, "appearance": "resolved"}
            | {"response": _response(job, known[lesion_id]["flags"], [*volumes[lesion_id], 0.0])}
            for lesion_id in sorted(previous - set(present))
        ]
        previous = set(present)
    return rows


def _response(job: Job, flags: list[str], volumes_ml: list[float]) -> str | None:
    """By volume, if asked for; a volume by a threshold on a blurred image says nothing of size."""
    if job.settings["response"] == "none" or "threshold_volume" in flags:
        return None
    return volume_response(volumes_ml)


def _lesion_row(job: Job, cycle: FinishedCycle, lesion_id: str, dose: Row) -> Row:
    reference = read_sidecar(cycle.folder("align") / ALIGNMENT)["reference_time_point"]
    label = next(s.label for s in cycle.specs if s.region == lesion_id)
    key = {"patient": job.rows["patient"], "cycle": cycle.cycle}
    spect, grid = read_image(cycle.folder("ingest") / scan_file(key, reference, "spect.nii.gz"))
    voxels = spect[cycle.reference_labels(reference, grid) == label]
    outlines = [r for r in cycle.rows("region") if r["region"] == lesion_id]
    return _common(job) | {
        "cycle": cycle.cycle,
        "lesion_id": lesion_id,
        "location": None,
        "delineation": dose["region_source"],
        "volume_ml": float(median(r["volume_ml"] for r in outlines)),
        "uptake_mean_bq_per_ml": float(voxels.mean(dtype="float64")),
        "uptake_peak_bq_per_ml": float(voxels.max()),
        "absorbed_dose_gy": dose["absorbed_dose_gy"],
        "volume_change_rel": None,
        "uptake_change_rel": None,
        "response": None,
        "flags": dose["flags"],
    }
