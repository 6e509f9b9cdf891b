"""Rows that say how methods differ: on the same cycles, and between sites."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pandas as pd

from doseledger.cohort import Row
from doseledger.statistics.agreement import agreement
from doseledger.steps.compared import COVARIATES, CYCLE_KEY, GROUP, METHODS, groups
from doseledger.steps.site_rows import patient_of

#: The region with its lesion: all lesions have one region here.
_PAIR_KEY: Final = [*CYCLE_KEY, "region", "lesion_key"]
_NONE: Final = "none"


def agreement_rows(analyses: pd.DataFrame, compared: pd.DataFrame) -> Iterator[Row]:
    """Every other analysis of a cycle and region against its primary one, by what differs between the two."""
    columns = list(METHODS)
    others = analyses[~analyses["is_primary"].fillna(False).astype(bool) & (analyses["absorbed_dose_gy"] > 0)]
    if others.empty:
        return
    first = compared.assign(lesion_key=compared["lesion_id"].fillna(""))
    others = others.assign(lesion_key=others["lesion_id"].fillna(""))
    pairs = first.merge(others[[*_PAIR_KEY, *columns, "absorbed_dose_gy"]], on=_PAIR_KEY, suffixes=("", "_b"))
    a = pairs[columns].fillna(_NONE).to_numpy(dtype=str)
    b = pairs[[f"{name}_b" for name in columns]].fillna(_NONE).to_numpy(dtype=str)
    differ = a != b
    # Patterns of differences are few, rows are many: each pattern is put into words once.
    pairs["pattern"] = pd.factorize(pd.Series(["\t".join(row) for row in _marked(a, b, differ)], dtype=object))[0]
    for group, of_group in groups(pairs):
        for _, alike in of_group.groupby("pattern", sort=False):
            row = alike.index[0]
            which = differ[row]
            names = [name for name, other in zip(columns, which, strict=True) if other]
            found = agreement(
                alike["absorbed_dose_gy"].to_numpy(), alike["absorbed_dose_gy_b"].to_numpy(), patient_of(alike).tolist()
            )
            yield {
                **group,
                "differs_in": names,
                "method_a": ", ".join(a[row][which]),
                "method_b": ", ".join(b[row][which]),
                "n_pairs": found.n_pairs,
                "n_patients": found.n_patients,
                "ratio": found.ratio,
                "ratio_low": found.ratio_low,
                "ratio_high": found.ratio_high,
                "limit_low": found.limit_low,
                "limit_high": found.limit_high,
                "concordance": found.concordance,
            }


def _marked(a: object, b: object, differ: object) -> Iterator[list[str]]:
    for first, second, other in zip(a, b, differ, strict=True):  # type: ignore[call-overload]
        yield [f"{x}|{y}" if d else "" for x, y, d in zip(first, second, other, strict=True)]


def difference_rows(rows: pd.DataFrame) -> Iterator[Row]:
    """Method columns that have several values among the primary rows of a radiopharmaceutical and region."""
    for (tracer, region), here in rows.groupby(["radiopharmaceutical", "region"], sort=False):
        for column in (*METHODS, "demo_weights"):
            values = here[column].map(lambda v: None if v is None or v != v else str(v))
            # None where the method has nothing to say of the region is one value like another.
            found = values.fillna(_NONE)
            if found.nunique() < 2:
                continue
            for value, alike in here.groupby(found):
                yield {
                    "radiopharmaceutical": tracer,
                    "region": region,
                    "column": column,
                    "value": value,
                    "sites": sorted(alike["site"].unique()),
                    "n_rows": len(alike),
                    "pooled": "no" if column in GROUP else "adjusted" if column in COVARIATES else "yes",
                }
