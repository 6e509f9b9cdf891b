"""Methods text, generated from what stands in the rows: nothing is said that no row says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from doseledger.io.tables import is_leading
from doseledger.report import words
from doseledger.report.pages import Row

_MASS_SOURCES: Final[dict[str, str]] = {
    "ct_density": "the density read from the CT",
    "assumed_soft_tissue": "an assumed soft-tissue density",
}
_CURVE_SOURCES: Final[dict[str, str]] = {
    "own_mask": "outlines of each scan's own",
    "reference_mask": "the outline of the reference scan carried to all scans",
}


def paragraphs(tables: Mapping[str, Sequence[Row]]) -> list[tuple[str, str]]:
    """Heading and text for every step that left rows."""
    parts: list[tuple[str, str, Callable[[Sequence[Row]], str]]] = [
        ("Images", "acquisition", _images),
        ("Regions", "region", _regions),
        ("Activity", "region_activity", _activity),
        ("Curves", "curve", _curves),
        ("Absorbed dose", "organ_dose", _dose),
    ]
    return [(heading, write(tables[name])) for heading, name, write in parts if tables[name]]


def provenance(tables: Mapping[str, Sequence[Row]]) -> list[tuple[str, str]]:
    """What identifies the software, settings and inputs behind the rows."""
    dose = tables["organ_dose"]
    found = [
        ("Software version of the rows", _every(tables, "software_version")),
        ("Settings SHA-256", words.listing(_values(dose, "settings_sha256"))),
        ("Segmentation weights SHA-256", words.listing(_values(dose, "weights_sha256"))),
        ("Prior SHA-256", words.listing(_values(dose, "prior_sha256"))),
        ("Input SHA-256", words.listing(_values(dose, "input_sha256"))),
    ]
    return [(heading, value) for heading, value in found if value]


def _images(rows: Sequence[Row]) -> str:
    with_ct = sum(bool(row["has_ct"]) for row in rows)
    text = (
        f"{words.count(len(rows), 'SPECT scan')}, {with_ct} with CT; cameras: {_named(rows, 'camera')}; "
        f"collimator: {_named(rows, 'collimator')}; energy windows (keV): {_named(rows, 'energy_window_kev')}; "
        f"reconstruction: {_named(rows, 'reconstruction')}. The unit of the voxel values was declared by "
        f"{_named(rows, 'unit_source')}; decay correction in the header: {_named(rows, 'decay_correction_in_header')}."
    )
    if geometry := words.listing(_values(rows, "sensitivity_geometry")):
        text += f" Calibration geometry: {geometry}."
    corrected = sum(row["dead_time_factor"] is not None for row in rows)
    return text + f" Dead time was corrected in {corrected} of {words.count(len(rows), 'scan')}."


def _regions(rows: Sequence[Row]) -> str:
    review = Counter(words.text(row["review_status"]).replace("_", " ") for row in rows)
    states = ", ".join(f"{state} {number}" for state, number in sorted(review.items()))
    edited = sum(bool(row["manual_edit"]) for row in rows)
    masses = {_MASS_SOURCES.get(str(name), str(name)) for name in _values(rows, "mass_source")}
    return (
        f"{words.count(len(rows), 'outline')} by {_named(rows, 'region_source')}, drawn on "
        f"{_named(rows, 'outline_modality')}; review: {states}; edited by a person: {edited}. "
        f"Mass is volume times {words.listing(masses) or 'a density that the rows do not name'}."
    )


def _activity(rows: Sequence[Row]) -> str:
    sources = {_CURVE_SOURCES.get(str(name), str(name)) for name in _values(rows, "curve_source")}
    return (
        f"Activity at scan start in {words.listing(sources) or 'outlines that the rows do not name'}; "
        f"partial-volume method: {_named(rows, 'method')}."
    )


def _curves(rows: Sequence[Row]) -> str:
    chosen = [row for row in rows if row["chosen"]]
    models = Counter((words.curve_model(row["model"]), words.text(row["status"]).replace("_", " ")) for row in chosen)
    fits = "; ".join(f"{model} in {words.count(n, 'region curve')} ({status})" for (model, status), n in models.items())
    fitted = f"Models fitted: {_named(rows, 'model')}. The dose rests on: {fits or 'no model'}."
    files = {row["prior"]: row["prior_sha256"] for row in chosen if row["prior"] is not None}
    priors = [f"{name} (file {sha256[:12]})" if sha256 else name for name, sha256 in files.items()]
    return f"{fitted} Prior: {words.listing(priors)}." if priors else f"{fitted} No row names a prior."


def _dose(rows: Sequence[Row]) -> str:
    primary = [row for row in rows if row["is_primary"]]
    engines = words.listing(_values(primary, "dose_engine"))
    others = words.listing(set(_values(rows, "dose_engine")) - set(_values(primary, "dose_engine")))
    text = (
        f"Engine of the primary rows: {engines or words.DASH}; partial-volume method: "
        f"{_named(primary, 'partial_volume_method')}; lesions: {_named(primary, 'lesion_policy')}; "
        f"protocol: {words.listing(words.PROTOCOLS.get(p, p) for p in _values(primary, 'protocol')) or words.DASH}. "
        "Intervals are log-symmetric and cover 95 %."
    )
    if others:
        text += f" Also calculated with {others}."
    if marrow := words.listing(_values([row for row in rows if is_leading(row)], "marrow_method")):
        text += f" Marrow method: {marrow}; several stand beside each other and are never added or averaged."
    alpha_beta = words.listing(words.declared(value) for value in _values(primary, "alpha_beta_gy"))
    repair = words.listing(words.declared(value) for value in _values(primary, "repair_half_time_h"))
    if alpha_beta and repair:
        text += f" BED with alpha/beta {alpha_beta} Gy and a repair half-time of {repair} h."
    return text


def _values(rows: Sequence[Row], column: str) -> list[Any]:
    return [row[column] for row in rows if row[column] is not None]


def _named(rows: Sequence[Row], column: str) -> str:
    return words.listing(_values(rows, column)) or "not stated"


def _every(tables: Mapping[str, Sequence[Row]], column: str) -> str:
    return words.listing(row[column] for rows in tables.values() for row in rows if row.get(column) is not None)
