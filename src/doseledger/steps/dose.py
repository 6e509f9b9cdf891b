"""Stage ``dose``: dose maps by every configured engine, tables ``organ_dose`` and ``dvh``."""

from __future__ import annotations

import hashlib
from typing import Final

import numpy as np
from numpy.typing import NDArray

from doseledger import __version__
from doseledger.activity import self_recovery
from doseledger.cohort import Row, administered_mbq
from doseledger.dose import compute_dose, density_from_hu
from doseledger.dose.organ import marrow_method
from doseledger.geometry import Grid
from doseledger.io.nifti import read_image, read_sidecar, write_image
from doseledger.io.tables import SCHEMAS, read_rows, write_rows
from doseledger.nuclides import nuclide
from doseledger.regions import hard_labels, volume_average
from doseledger.steps.kinetics import reference_fractions
from doseledger.steps.layout import ALIGNMENT, LABELS, TIA_MAP, dose_file, dose_sd_file, scan_file
from doseledger.steps.marrow_rows import marrow_rows, vertebra_flags
from doseledger.steps.organ_rows import Result, camera_of, region_rows
from doseledger.steps.recovery import NONE, corrections_of
from doseledger.steps.region_rows import SOFT_TISSUE_G_PER_ML
from doseledger.steps.specs import read_specs
from doseledger.steps.stage import Job, read_outcome, settings_sha256
from doseledger.steps.uncertainty_check import MONTE_CARLO, check_uncertainties

STAGE_VERSION: Final[int] = 4
TAKES_REFUSED: Final = False

#: Doses of one region by two engines that differ by more than this, as a ratio, are flagged on the primary row. Photons
#: that `led` leaves out are 2 to 7 % of the dose of organs with uptake of 177Lu.
ENGINES_DIFFER_RATIO: Final = 1.1

#: Columns that say how a number was made; their hash is the analysis.
METHOD_COLUMNS: Final = (
    "protocol",
    "region_source",
    "lesion_policy",
    "marrow_method",
    "curve_source",
    "mass_source",
    "partial_volume_method",
    "curve_model",
    "dose_engine",
)


def step(job: Job) -> None:
    """Absorbed dose of the cycle from its map of time-integrated activity."""
    source = nuclide(job.rows["administration"]["nuclide"])
    reference = read_sidecar(job.one("align") / ALIGNMENT)["reference_time_point"]
    tia, grid = read_image(job.one("kinetics") / TIA_MAP)
    density = _density(job, reference, grid)
    fractions = reference_fractions(job.one("segment"), job.key, reference, grid)
    labels = hard_labels(fractions, grid.shape)
    camera = camera_of(job)
    recovery = {k: self_recovery(f, grid.spacing_mm, fwhm_mm=camera["fwhm_mm"]) for k, f in fractions.items()}
    corrections = corrections_of(job)
    names = {spec.label: spec.region for spec in read_specs(job.one("segment"))}
    vertebrae = {spec.region for spec in read_specs(job.one("segment")) if spec.kind == "marrow"}
    vertebrae.add(job.settings["marrow"]["region"])
    common = _common(job)
    organ_rows: list[Row] = []
    dvh_rows: list[Row] = []
    primary: list[tuple[Row, Result]] = []
    seed = _seed(job)
    for position, engine in enumerate(job.settings["engines"]):
        dose = compute_dose(
            *(tia, density, grid.spacing_mm, source),
            engine=engine,
            seed=seed,
            threads=job.threads,
            labels=labels,
            region_names=names,
        )
        write_image(job.out / dose_file(engine), dose.dose_gy, grid, dtype="float32")
        write_image(job.out / dose_sd_file(engine), dose.relative_sd, grid, dtype="float32")
        analyses = [
            found
            for applied in ([{}, corrections] if corrections else [{}])
            for found in region_rows(job, dose, density, grid, labels, recovery, source, applied)
        ]
        # Corrected rows come last: where there is one, it is the preferred one.
        preferred = {row["region"]: row for row, _ in analyses}
        for row, result in analyses:
            is_primary = position == 0 and preferred[row["region"]] is row
            row = common | row | {"is_primary": is_primary}
            row["marrow_method"] = marrow_method(engine, row["region"])
            row["analysis_id"] = _analysis_id(row)
            if row["region"] in vertebrae:
                row["flags"] = sorted({*row["flags"], *vertebra_flags(source.name)})
            organ_rows.append(row)
            dvh_rows.append(_dvh_row(row, result))
            if is_primary:
                primary.append((row, result))
        if position == 0:
            # The last analysis of a region is the preferred one.
            by_region = {row["region"]: (row, result) for row, result in analyses}
            vertebra = by_region.get(job.settings["marrow"]["region"])
            for row in marrow_rows(job, common, dose, density, grid, labels, vertebra, source.name):
                row["analysis_id"] = _analysis_id(row)
                organ_rows.append(row)
    if job.settings["uncertainty_check"] == MONTE_CARLO:
        check_uncertainties(job, seed, primary)
    flag_differences(organ_rows)
    write_rows(job.out, "organ_dose", organ_rows)
    write_rows(job.out, "dvh", dvh_rows)


def flag_differences(rows: list[Row]) -> None:
    """Flag primary rows whose dose another engine does not confirm."""
    for row in rows:
        if not row["is_primary"]:
            continue
        # The same region and correction for blur, by another engine.
        same = ("region", "partial_volume_method", "marrow_method")
        alike = [r for r in rows if all(r.get(k) == row.get(k) for k in same)]
        ratios = [r["absorbed_dose_gy"] / row["absorbed_dose_gy"] for r in alike]
        if any(not 1.0 / ENGINES_DIFFER_RATIO <= ratio <= ENGINES_DIFFER_RATIO for ratio in ratios):
            row["flags"] = sorted({*row["flags"], "engines_differ"})


def _seed(job: Job) -> int:
    """Of the random streams: the images alone, so that names, dates and paths change no number."""
    images = (str(row["spect_sha256"]) for row in read_rows(job.one("ingest"), "acquisition"))
    return int.from_bytes(hashlib.sha256("".join(images).encode()).digest(), "big")


def _density(job: Job, reference: int, grid: Grid) -> NDArray[np.float32]:
    """Density on the SPECT grid; soft tissue where no CT reaches."""
    path = job.one("ingest") / scan_file(job.key, reference, "ct.nii.gz")
    if not path.exists():
        return np.full(grid.shape, SOFT_TISSUE_G_PER_ML, np.float32)
    hu, ct_grid = read_image(path)
    return volume_average(density_from_hu(hu), ct_grid, grid, outside=SOFT_TISSUE_G_PER_ML)


def _common(job: Job) -> Row:
    """Columns that all rows of the cycle share."""
    outcomes = [read_outcome(job.one(stage)) for stage in ("ingest", "segment", "align", "kinetics")]
    chain: Row = {}
    for outcome in outcomes:
        chain |= outcome["upstream"]
        chain[outcome["stage"]] = {"version": outcome["stage_version"], "settings": outcome["settings"]}
    chain["dose"] = {"version": STAGE_VERSION, "settings": job.settings}
    acquisitions = read_rows(job.one("ingest"), "acquisition")
    labels = read_sidecar(job.one("segment") / LABELS)["labels_sha256"]
    digest = hashlib.sha256()
    for row in acquisitions:
        for part in (row["spect_sha256"], row["ct_sha256"], labels[str(row["time_point"])]):
            digest.update(str(part).encode())
    count = len(acquisitions)
    return {
        **job.key,
        "administered_mbq": administered_mbq(job.rows["administration"]),
        "n_timepoints": count,
        "protocol": {1: "stp", 2: "2tp"}.get(count, "mtp"),
        "lesion_policy": chain["segment"]["settings"]["lesion_policy"],
        "curve_source": chain["kinetics"]["settings"]["curve_source"],
        "data_origin": job.rows["data_origin"],
        "software_version": __version__,
        "settings_sha256": settings_sha256(chain),
        "input_sha256": digest.hexdigest(),
    }


def _analysis_id(row: Row) -> str:
    text = "\n".join(f"{column}={row.get(column)}" for column in METHOD_COLUMNS)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _dvh_row(row: Row, result: Result) -> Row:
    histogram = result.dose.histogram
    shared = (f.name for f in SCHEMAS["dvh"] if f.name in row)
    return {name: row[name] for name in shared} | {
        # Histograms are those of the map, which is not corrected.
        "partial_volume_method": NONE,
        "dose_edges_gy": histogram.edges_gy.tolist(),
        "volume_fraction": histogram.volume_fraction.tolist(),
    }
