"""600,000 dose rows of three sites: read, queried, submitted and merged: ``make bench``.

Prints wall time, processor time and the largest resident memory of each step in a process of its own, and what the
merge costs over the bare reading of the same rows, which is what may be quoted. What reads is done again in the same
process: the first time loads the library and takes memory from the system, the least of the further ones is what a
notebook waits for. The rows are random numbers that agree with each other, so that they are packed as badly as real
ones. The trial of each file in a process of its own is in the wall time alone.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from doseledger.io.tables import SCHEMAS, table
from doseledger.merge import merge
from doseledger.submission import Sharing, write_submission

SITES = ("A", "B", "C")
PATIENTS, CYCLES, REGIONS = 2500, 4, 20
ROWS = len(SITES) * PATIENTS * CYCLES * REGIONS
ADMINISTERED_MBQ = 7400.0
#: What a merge may cost: processor time over that of reading all columns of the same rows with pyarrow.
LARGEST_RATIO = 10.0
AGAIN = 5
#: What an analysis needs: keys, engine, dose and its uncertainty.
SOME = ["site", "patient", "cycle", "region", "is_primary", "dose_gy_per_gbq", "u_absorbed_dose_rel"]


def main() -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sys.stdout.write(f"{ROWS} rows of organ_dose     wall s   CPU s   memory MiB   again: wall s, CPU s\n")
        costs = {step: _cost(step, folder) for step in STEPS}
        sizes = sum(path.stat().st_size for path in folder.glob("*.zip"))
        sys.stdout.write(f"{sizes / 1024**2:.1f} MiB in {len(SITES)} submissions\n")
        ratio = costs["merge"] / costs["read_all"]
        sys.stdout.write(f"merge over reading: {ratio:.1f} in CPU-s\n")
        assert ratio <= LARGEST_RATIO, ratio


def _cost(step: str, folder: Path) -> float:
    """Run one step in a process of its own and print what it took; CPU-s."""
    before = time.perf_counter()
    done = subprocess.run([sys.executable, __file__, step, str(folder)], check=True, capture_output=True, text=True)
    wall = time.perf_counter() - before
    cpu, inside, memory, *again = map(float, done.stdout.split())
    repeated = ", ".join(f"{seconds:.3f}" for seconds in again)
    line = f"{step:>24}  {inside:8.2f} {cpu:7.2f} {memory:12.0f}   {repeated:>20} (whole process {wall:.1f} s)"
    sys.stdout.write(f"{line}\n")
    return cpu


def submit_step(folder: Path) -> None:
    for site in SITES:
        doses, administrations = _tables(site)
        tables = {"organ_dose": doses, "administration": administrations}
        write_submission(folder / f"{site}.zip", tables, Sharing(), site=site, source="ledger", settings={})


def merge_step(folder: Path) -> None:
    merged = merge([folder / f"{site}.zip" for site in SITES], folder / "cohort")
    assert merged.rows["organ_dose"] == ROWS, merged


def read_all(folder: Path) -> None:
    data = pq.read_table(folder / "cohort/organ_dose", partitioning=None)
    assert data.num_rows == ROWS


def read_some(folder: Path) -> None:
    assert pq.read_table(folder / "cohort/organ_dose", partitioning=None, columns=SOME).num_rows == ROWS


def pandas_some(folder: Path) -> None:
    import pandas as pd

    assert len(pd.read_parquet(folder / "cohort/organ_dose", partitioning=None, columns=SOME)) == ROWS


def duckdb_query(folder: Path) -> None:
    import duckdb

    query = f"""select site, region, count(*), median(dose_gy_per_gbq)
        from read_parquet('{folder}/cohort/organ_dose/*/*.parquet', hive_partitioning = false)
        where is_primary group by site, region"""
    assert len(duckdb.sql(query).fetchall()) == len(SITES) * REGIONS


STEPS: dict[str, Callable[[Path], None]] = {
    "submit": submit_step,
    "merge": merge_step,
    "read_all": read_all,
    "read_some": read_some,
    "pandas_some": pandas_some,
    "duckdb_query": duckdb_query,
}
READING = ("read_all", "read_some", "pandas_some", "duckdb_query")


def _tables(site: str) -> tuple[pa.Table, pa.Table]:
    rng = np.random.default_rng(ord(site))
    rows = PATIENTS * CYCLES * REGIONS
    patients = np.repeat([f"P{i:04d}" for i in range(PATIENTS)], CYCLES * REGIONS)
    gy_per_gbq = rng.lognormal(-1.0, 0.3, rows)
    values: dict[str, Any] = {
        "site": np.full(rows, site),
        "patient": patients,
        "cycle": np.tile(np.repeat(np.arange(1, CYCLES + 1), REGIONS), PATIENTS),
        "region": np.tile([f"region_{i}" for i in range(REGIONS)], PATIENTS * CYCLES),
        "analysis_id": np.full(rows, "0123456789abcdef"),
        "is_primary": np.ones(rows, bool),
        "administered_mbq": np.full(rows, ADMINISTERED_MBQ),
        "dose_gy_per_gbq": gy_per_gbq,
        "absorbed_dose_gy": gy_per_gbq * ADMINISTERED_MBQ / 1e3,
        "data_origin": np.full(rows, "virtual"),
        "flags": [["extrapolated"]] * rows,
        "input_sha256": np.repeat([f"{i:064x}" for i in range(PATIENTS * CYCLES)], REGIONS),
    }
    schema = SCHEMAS["organ_dose"]
    filled = ("volume_ml", "mass_g", "u_absorbed_dose_rel", "d2_gy", "d50_gy", "d90_gy", "d98_gy", "bed_gy", "eqd2_gy")
    values |= {name: rng.uniform(0.1, 0.2, rows) for name in filled}
    columns = [pa.array(values[f.name], f.type) if f.name in values else pa.nulls(rows, f.type) for f in schema]
    doses = pa.Table.from_arrays(columns, schema=schema)
    administrations = table(
        "administration",
        [
            {"site": site, "patient": f"P{p:04d}", "cycle": c, "radiopharmaceutical": "Lu177-DOTATATE",
             "nuclide": "Lu-177", "administered_mbq": ADMINISTERED_MBQ, "data_origin": "virtual"}
            for p in range(PATIENTS)
            for c in range(1, CYCLES + 1)
        ],
    )  # fmt: skip
    return doses, administrations


def step(name: str, folder: Path) -> None:
    wall, cpu = _timed(name, folder)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    again = [_timed(name, folder) for _ in range(AGAIN)] if name in READING else []
    least = [min(times) for times in zip(*again, strict=True)]
    sys.stdout.write(" ".join(map(str, (cpu, wall, memory, *least))) + "\n")


def _timed(name: str, folder: Path) -> tuple[float, float]:
    """Wall time and processor time, s."""
    wall, cpu = time.perf_counter(), time.process_time()
    STEPS[name](folder)
    return time.perf_counter() - wall, time.process_time() - cpu


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    step(sys.argv[1], Path(sys.argv[2])) if len(sys.argv) > 1 else main()
