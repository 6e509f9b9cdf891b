"""Rows of a cohort as they are compared: primary doses with what may and may not be pooled.

Only the columns that are needed are read, so that a ledger of a million rows fits into memory.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from doseledger.cohort import Row
from doseledger.dose.marrow import METHODS as MARROW_METHODS
from doseledger.errors import InputMissingError
from doseledger.io.tables import SCHEMAS
from doseledger.nuclides import nuclide
from doseledger.regions.gate import DEMO_WEIGHTS
from doseledger.statistics.reference import OUTLIER_Z, robust_z

#: Columns whose values are never pooled: what differs in one of them is another quantity.
GROUP: Final = ("radiopharmaceutical", "region", "lesion_policy", "marrow_method", "demo_weights", "data_origin")
#: What the effects of the sites are adjusted for, in the order in which it is believed.
COVARIATES: Final = ("cycle", "preparation", "protocol", "region_source", "partial_volume_method")
#: Regions in which lesions do not lie, or that are lesions: whether organs contain them makes no difference.
WITHOUT_POLICY: Final = (
    "kidneys", "kidney_left", "kidney_right", "parotid_left", "parotid_right", "submandibular_left",
    "submandibular_right", "lesions",
)  # fmt: skip
#: A lesion's number means something within its patient only.
LESIONS: Final = "lesions"
LOW_GRADE: Final = "low_grade"
UNIT_SLIP: Final = "unit_slip"
#: With one scan the half-life is taken from elsewhere.
_SINGLE_SCAN: Final = "stp"
CYCLE_KEY: Final = ["site", "patient", "cycle"]

#: Method columns of a dose, by which pairs of analyses and differences between sites are described.
METHODS: Final = (
    "dose_engine", "partial_volume_method", "curve_source", "curve_model", "region_source", "lesion_policy",
    "marrow_method", "mass_source", "protocol",
)  # fmt: skip

_DOSE_COLUMNS: Final = [
    *CYCLE_KEY, "region", "lesion_id", "analysis_id", "is_primary", *METHODS, "dose_gy_per_gbq", "absorbed_dose_gy",
    "effective_half_life_h", "data_origin", "flags",
]  # fmt: skip


def read_columns(folder: Path, name: str, columns: Sequence[str]) -> pa.Table:
    """Columns of a table of all sites, in order of their files; a table that nobody wrote has no rows."""
    schema = pa.schema([SCHEMAS[name].field(column) for column in columns])
    paths = sorted(folder.glob(f"{name}/*/*.parquet"))
    parts = [pq.read_table(path, columns=list(columns), partitioning=None).cast(schema) for path in paths]
    return pa.concat_tables(parts) if parts else schema.empty_table()


def require_doses(folder: Path) -> None:
    """
    Raises
    ------
    InputMissingError
        The folder has no doses: it is no cohort, or one in which every cycle was refused.
    """
    if not any(folder.glob("organ_dose/*/*.parquet")):
        raise InputMissingError(
            "the folder has no table organ_dose",
            path=folder,
            expected="organ_dose/site=S/part-0.parquet",
            remedy="Name the folder `cohort` of the results, or the output of `doseledger merge`.",
        )


def read_analyses(folder: Path) -> pd.DataFrame:
    """Every analysis of every region with its radiopharmaceutical; flags as columns of truth."""
    table = read_columns(folder, "organ_dose", _DOSE_COLUMNS)
    flags = {"demo_weights": DEMO_WEIGHTS, "low": "low", "implausible": "dose_implausible"}
    found = {name: _has_flag(table["flags"], flag) for name, flag in flags.items()}
    doses = table.drop_columns(["flags"]).to_pandas()
    given = read_columns(folder, "administration", [*CYCLE_KEY, "radiopharmaceutical", "nuclide", "preparation"])
    doses = doses.assign(**found).merge(given.to_pandas(), on=CYCLE_KEY, how="left")
    doses["radiopharmaceutical"] = doses["radiopharmaceutical"].fillna("not stated")
    doses.loc[doses["lesion_id"].notna(), "region"] = LESIONS
    doses.loc[doses["region"].isin(WITHOUT_POLICY), "lesion_policy"] = None
    return pd.DataFrame(doses)


def _has_flag(flags: pa.ChunkedArray, flag: str) -> np.ndarray:
    lists = flags.combine_chunks()
    lists = lists if isinstance(lists, pa.Array) else pa.concat_arrays(lists.chunks)
    found = np.zeros(len(lists), dtype=bool)
    hits = pc.equal(pc.list_flatten(lists), flag).to_numpy(zero_copy_only=False).astype(bool)
    found[pc.list_parent_indices(lists).to_numpy()[hits]] = True
    return found


def compared_doses(analyses: pd.DataFrame) -> pd.DataFrame:
    """Primary rows with a positive dose per activity: group, robust z, and why a row is not compared."""
    # As `is_leading` says of one row: both methods of red marrow, each in groups of its own.
    leading = analyses["is_primary"].fillna(False).astype(bool) | analyses["marrow_method"].isin(MARROW_METHODS)
    usable = leading & (analyses["dose_gy_per_gbq"] > 0)
    rows = analyses[usable & np.isfinite(analyses["dose_gy_per_gbq"].fillna(0.0))].copy()
    rows["group_id"] = _group_ids(rows)
    rows["left_out"] = None
    rows.loc[rows["low"], "left_out"] = LOW_GRADE
    compared = rows[rows["left_out"].isna()]
    z = compared.groupby(["group_id", "site"], sort=False)["dose_gy_per_gbq"].transform(
        lambda values: robust_z(values.to_numpy())
    )
    rows["robust_z"] = z.reindex(rows.index)
    rows["outlier"] = rows["robust_z"].abs() > OUTLIER_Z
    ordered = rows.sort_values([*GROUP, *CYCLE_KEY, "lesion_id"], kind="stable")
    return pd.DataFrame(ordered.reset_index(drop=True))


def leave_out_slips(rows: pd.DataFrame, slips: Iterable[Row]) -> None:
    """Mark the rows of sites whose dose per activity is not in its unit: they would be no site effect."""
    for slip in slips:
        here = (rows["group_id"] == slip["group_id"]) & (rows["site"] == slip["site"])
        rows.loc[here & rows["left_out"].isna(), "left_out"] = UNIT_SLIP


def _group_ids(rows: pd.DataFrame) -> pd.Series:
    distinct = rows[list(GROUP)].drop_duplicates()
    ids = {
        key: hashlib.sha256("\n".join(map(str, key)).encode()).hexdigest()[:12]
        for key in map(_key, distinct.itertuples(index=False, name=None))
    }
    return pd.Series([ids[_key(key)] for key in rows[list(GROUP)].itertuples(index=False, name=None)], rows.index, str)


def _key(values: tuple[object, ...]) -> tuple[object, ...]:
    return tuple(None if value is None or value != value else value for value in values)


def groups(rows: pd.DataFrame) -> Iterator[tuple[Row, pd.DataFrame]]:
    """Columns that name each group, and its rows, in the order of the rows."""
    for group_id, of_group in rows.groupby("group_id", sort=False):
        first = of_group.iloc[0]
        values = _key(tuple(first[list(GROUP)]))
        yield {"group_id": group_id, **dict(zip(GROUP, values, strict=True))}, of_group


def clearance_in_decays(rows: pd.DataFrame) -> pd.Series:
    """Clearance rate of the terminal phase over that of physical decay; null for one scan or without a curve."""
    nuclides = {name: nuclide(name).half_life_h for name in rows["nuclide"].dropna().unique()}
    physical_h = rows["nuclide"].map(nuclides)
    seen = rows["effective_half_life_h"].where((rows["protocol"] != _SINGLE_SCAN) & (rows["effective_half_life_h"] > 0))
    return (physical_h / seen).astype(float)
