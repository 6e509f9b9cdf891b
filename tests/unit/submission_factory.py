"""Tables of a small site and its submission, without images: numbers that agree with each other."""

from __future__ import annotations

import stat
import zipfile
from collections.abc import Callable, Mapping
from math import log
from pathlib import Path
from typing import Any

import pyarrow as pa

from doseledger.cohort import Plan, Row
from doseledger.io.tables import SCHEMAS, table, write_rows
from doseledger.submission import Sharing, write_submission

ADMINISTERED_MBQ = 7400.0
HALF_LIFE_H = 50.0
REGIONS = {"kidney_left": 0.45, "kidney_right": 0.47, "liver": 0.27, "spleen": 1.1}
HASH = "0123456789abcdef" * 4

Edit = Callable[[dict[str, list[Row]]], None]


def site_rows(site: str = "A", patients: int = 3, cycles: int = 2) -> dict[str, list[Row]]:
    """Rows by table; every table that a cohort has, two regions with a DVH."""
    rows: dict[str, list[Row]] = {name: [] for name in SCHEMAS if name not in ("quarantine", "lesion", "course")}
    common = {"data_origin": "virtual", "software_version": "0.2.0"}
    for p in range(1, patients + 1):
        person = {"site": site, "patient": f"P{p}"}
        rows["patient"].append(
            person | common | {"sex": "F" if p % 2 else "M", "age_band": f"{55 + 5 * p}-{59 + 5 * p}",
                               "mass_kg": 70.0 + p, "height_cm": 170.0, "diagnosis": "ileum NET G2",
                               "prior_therapy": "none"}
        )  # fmt: skip
        for c in range(1, cycles + 1):
            _add_cycle(rows, person | {"cycle": c}, common)
    rows["phantom_qc"].append(
        {"site": site, "camera": "NM1", "phantom": "nema", "days_after_first": 0, "nuclide": "Lu-177",
         "fwhm_mm": 11.0, "sensitivity_cps_per_mbq": 9.5, "body_names": ["sphere_37mm"], "body_volumes_ml": [26.5],
         "flags": [], **common}
    )  # fmt: skip
    return rows


def _add_cycle(rows: dict[str, list[Row]], key: Row, common: Row) -> None:
    rows["administration"].append(
        key | common | {"radiopharmaceutical": "Lu177-DOTATATE", "nuclide": "Lu-177",
                        "administered_mbq": ADMINISTERED_MBQ, "preparation": "amino acids",
                        "days_after_first_cycle": 56 * (key["cycle"] - 1)}
    )  # fmt: skip
    for point, time_h in enumerate((4.0, 24.0, 96.0), start=1):
        rows["acquisition"].append(
            key | common | {"time_point": point, "time_h": time_h, "camera": "NM1", "manufacturer": "Virtual Imaging",
                            "model": "VSPECT 9", "reconstruction": "OSEM 8i6s", "unit_source": "Units (0054,1001)",
                            "spect_sha256": HASH, "flags": []}
        )  # fmt: skip
    for region, gy_per_gbq in REGIONS.items():
        own = key | common | {"region": region}
        tiac_h = 0.5
        for point, time_h in enumerate((4.0, 24.0, 96.0), start=1):
            activity = tiac_h * ADMINISTERED_MBQ * log(2) / HALF_LIFE_H * 2 ** (-time_h / HALF_LIFE_H)
            at = own | {"time_point": point, "flags": []}
            rows["region_activity"].append(at | {"time_h": time_h, "activity_mbq": activity, "u_activity_mbq": 5.0})
            rows["region"].append(at | {"region_level": "part", "volume_ml": 160.0, "mass_g": 168.0})
        rows["curve"].append(
            own | {"model": "mono", "parameter_names": ["amplitude_mbq", "rate_per_h"], "parameters": [50.0, 0.014],
                   "covariance": [1.0, 0.0, 0.0, 1e-6], "chosen": True, "status": "ok", "flags": [],
                   "n_timepoints": 3, "tia_mbq_h": tiac_h * ADMINISTERED_MBQ,
                   "effective_half_life_h": HALF_LIFE_H, "extrapolated_fraction": 0.26}
        )  # fmt: skip
        dose_gy = gy_per_gbq * ADMINISTERED_MBQ / 1e3
        rows["organ_dose"].append(
            own | {"region_level": "part", "analysis_id": HASH[:16], "is_primary": True, "dose_engine": "pmc",
                   "administered_mbq": ADMINISTERED_MBQ, "n_timepoints": 3, "protocol": "mtp", "volume_ml": 160.0,
                   "mass_g": 168.0, "effective_half_life_h": HALF_LIFE_H, "tia_mbq_h": tiac_h * ADMINISTERED_MBQ,
                   "tiac_h": tiac_h, "absorbed_dose_gy": dose_gy, "dose_low_gy": 0.8 * dose_gy,
                   "dose_high_gy": 1.25 * dose_gy, "u_absorbed_dose_rel": 0.11, "dose_gy_per_gbq": gy_per_gbq,
                   "input_sha256": HASH, "settings_sha256": HASH, "flags": ["extrapolated"]}
        )  # fmt: skip
        rows["dvh"].append(own | {"analysis_id": HASH[:16], "dose_edges_gy": [0.0, 1.0], "volume_fraction": [1.0]})
    for stage in ("ingest", "segment"):
        rows["stage_outcome"].append(
            key | {"stage": stage, "status": "ok", "software_version": "0.2.0", "origin_stage": None}
        )


def tables_of(rows: Mapping[str, list[Row]]) -> dict[str, pa.Table]:
    return {name: table(name, own) for name, own in rows.items() if own}


def site_tables(site: str = "A", edit: Edit | None = None, **sizes: int) -> dict[str, pa.Table]:
    rows = site_rows(site, **sizes)
    if edit is not None:
        edit(rows)
    return tables_of(rows)


def submit_tables(out: Path, tables: Mapping[str, pa.Table], site: str = "A", **sharing: Any) -> Path:
    write_submission(
        out, tables, Sharing(**sharing), site=site, source="ledger", settings={"dose": {"engines": ["pmc"]}}
    )
    return out


def submitted(
    out: Path, site: str = "A", edit: Edit | None = None, *, patients: int = 3, cycles: int = 2, **sharing: Any
) -> Path:
    """A submission of a small site."""
    return submit_tables(out, site_tables(site, edit, patients=patients, cycles=cycles), site, **sharing)


def plan_with_tables(folder: Path, *sites: str, **sizes: int) -> Plan:
    """A plan whose results hold the compacted tables of `sites`, and nothing else."""
    results = folder / "results"
    for site in sites:
        for name, rows in site_rows(site, **sizes).items():
            place = results / "cohort" / name / f"site={site}"
            place.mkdir(parents=True)
            write_rows(place, name, rows).rename(place / "part-0.parquet")
    settings = {"dose": {"engines": ["pmc"]}, "segment": {"source": "nnunet", "model": "models/own", "weights": "w"}}
    return Plan("study", results, settings, {}, {}, (), folder, "virtual")


def rezipped(source: Path, out: Path, change: Callable[[dict[str, bytes]], None], *, pack: bool = False) -> Path:
    """The same archive with other entries, as anybody can make it."""
    with zipfile.ZipFile(source) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    change(entries)
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED if pack else zipfile.ZIP_STORED) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return out


def link_entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.create_system = 3
    entry.external_attr = (stat.S_IFLNK | 0o777) << 16
    return entry
