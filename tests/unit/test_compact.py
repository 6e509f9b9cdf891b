"""Compaction in portions: the same rows whatever their size, and where they come from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from doseledger.cohort import CYCLE_STAGES, PATIENT_STAGE
from doseledger.io.tables import SCHEMAS, read_small_parts, write_rows
from doseledger.steps import compact
from doseledger.steps.stage import run_stage, write_json

KEYS = [(site, f"P{p}", cycle) for site in "AB" for p in range(1, 4) for cycle in (1, 2)]
CHAIN = {"ingest": {"version": 1, "settings": {"a": 1}}}


def stage(folder: Path, name: str, tables: dict[str, list[dict[str, Any]]]) -> None:
    """A finished stage with its manifest."""
    folder.mkdir(parents=True)
    files = []
    for table, rows in tables.items():
        path = write_rows(folder, table, rows)
        files.append({"name": path.name, "size": path.stat().st_size, "sha256": f"of {folder.parent.name} {table}"})
    kept = dict.fromkeys(("code", "sentence", "file", "tag", "origin_stage"))
    write_json(
        folder / "outcome.json",
        kept
        | {"stage": name, "status": "ok", "files": files, "upstream": CHAIN, "settings": {"b": 2}, "stage_version": 7}
        | {"software_version": "0.1" if "P1" in str(folder) else "0.2"},
    )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    root = tmp_path / "results"
    for site, patient, cycle in KEYS:
        key = {"site": site, "patient": patient, "cycle": cycle}
        base = root / f"site-{site}" / f"sub-{patient}" / f"ses-c{cycle}"
        regions = [key | {"time_point": 1, "region": r, "weights_sha256": f"w{site}"} for r in ("spleen", "liver")]
        doses = [key | {"region": r, "absorbed_dose_gy": 1.0 * cycle, "flags": ["f"]} for r in ("spleen", "liver")]
        tables: dict[str, dict[str, list[dict[str, Any]]]] = {
            "ingest": {"acquisition": [key | {"time_point": 1, "time_h": 4.0}]},
            "segment": {"region": regions},
            "align": {},
            "kinetics": {
                "region_activity": [regions[0] | {"weights_sha256": None}][:0],
                "curve": [],
                "blood_sample": [],
            },
            "dose": {"organ_dose": doses, "dvh": []},
        }
        for name in CYCLE_STAGES:
            stage(base / name, name, tables[name])
        if cycle == 1:
            person = {"site": site, "patient": patient, "sex": "F"}
            course = {"patient": [person], "administration": [key], "course": [], "lesion": []}
            stage(base.parent / PATIENT_STAGE, PATIENT_STAGE, course)
    return root


def compacted(results: Path, out: Path) -> dict[str, pa.Table]:
    rows = {"results": str(results), "planned": [[*key, True] for key in reversed(KEYS)], "phantom_qc": []}
    outcome = run_stage("compact", inputs={}, output=out, settings={}, rows=rows)
    assert outcome["status"] == "ok", outcome["sentence"]
    return {p.relative_to(out).as_posix(): pq.read_table(p, partitioning=None) for p in sorted(out.rglob("*.parquet"))}


def test_portions_of_any_size_give_the_same_rows_in_order(
    results: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = compacted(results, tmp_path / "whole")
    monkeypatch.setattr(compact, "CYCLES_AT_ONCE", 2)
    parts = compacted(results, tmp_path / "parts")
    assert list(whole) == list(parts)
    for name in whole:
        assert whole[name].equals(parts[name]), name
        schema = SCHEMAS[name.split("/")[0]]
        assert whole[name].schema.equals(schema)
        assert [f.metadata[b"unit"] for f in parts[name].schema] == [f.metadata[b"unit"] for f in schema]
    doses = parts["organ_dose/site=A/part-0.parquet"].to_pylist()
    found = [(r["patient"], r["cycle"], r["region"]) for r in doses]
    assert found == sorted(found)
    assert len(found) == 12
    file = pq.read_metadata(tmp_path / "parts/organ_dose/site=A/part-0.parquet")
    assert file.num_row_groups == 3


def provenance(path: Path) -> dict[str, Any]:
    return dict(json.loads(pq.read_metadata(path).metadata[compact.PROVENANCE]))


def test_every_table_says_where_its_rows_come_from(results: Path, tmp_path: Path) -> None:
    compacted(results, tmp_path / "out")
    dose = provenance(tmp_path / "out/organ_dose/site=A/part-0.parquet")
    assert dose["software_version"] == ["0.1", "0.2"]
    assert dose["weights_sha256"] == ["wA"]
    assert dose["prior_sha256"] == []
    assert dose["parts"] == 6
    (chain,) = dose["settings"].values()
    assert chain == CHAIN | {"dose": {"version": 7, "settings": {"b": 2}}}
    other = provenance(tmp_path / "out/organ_dose/site=B/part-0.parquet")
    assert other["weights_sha256"] == ["wB"]
    assert "weights_sha256" not in provenance(tmp_path / "out/acquisition/site=A/part-0.parquet")
    tables = {
        p.parts[-3] for p in (tmp_path / "out").rglob("*.parquet") if compact.PROVENANCE in pq.read_metadata(p).metadata
    }
    assert tables == {*SCHEMAS} - {"phantom_qc", "quarantine"}
    outcomes = provenance(tmp_path / "out/stage_outcome/site=A/part-0.parquet")
    assert {"0.1", "0.2"} <= {*outcomes["software_version"]}
    assert chain in outcomes["settings"].values()


def test_a_part_with_another_content_moves_the_hash_of_the_parts(results: Path, tmp_path: Path) -> None:
    compacted(results, tmp_path / "one")
    outcome = results / "site-A/sub-P2/ses-c1/dose/outcome.json"
    outcome.write_text(outcome.read_text().replace("of ses-c1 organ_dose", "another"))
    compacted(results, tmp_path / "two")
    name = "organ_dose/site=A/part-0.parquet"
    one, two = (provenance(tmp_path / run / name) for run in ("one", "two"))
    assert one["parts_sha256"] != two["parts_sha256"]
    assert {**one, "parts_sha256": ""} == {**two, "parts_sha256": ""}


def test_parts_with_and_without_compression_are_read_alike(tmp_path: Path) -> None:
    rows = [{"site": "A", "patient": "P1", "mass_kg": 70.5}, {"site": "A", "patient": "P2", "sex": "F"}]
    path = write_rows(tmp_path, "patient", rows)
    old = tmp_path / "old.parquet"
    pq.write_table(pq.read_table(path), old, compression="zstd")
    fewer = tmp_path / "fewer.parquet"
    pq.write_table(pq.read_table(path).drop_columns(["sex"]), fewer)
    found = read_small_parts([path, old, fewer], "patient")
    assert found.schema.equals(SCHEMAS["patient"], check_metadata=True)
    assert [(r["patient"], r["mass_kg"], r["sex"]) for r in found.to_pylist()] == [
        *[("P1", 70.5, None), ("P2", None, "F")] * 2,
        *[("P1", 70.5, None), ("P2", None, None)],
    ]
