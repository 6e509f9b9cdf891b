"""Stage ``compare``: the sites of a cohort against each other, as tables in Parquet and CSV.

The same for the cohort of a workflow and for what `doseledger merge` made of several sites: both have
``<table>/site=S/part-0.parquet``.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from doseledger.cohort import Row
from doseledger.errors import ForeignResultsError
from doseledger.io.tables import COMPARISON_SCHEMAS, table, write_table
from doseledger.steps.cohort_page import write_page
from doseledger.steps.cohort_shares import completeness_rows, cumulative_rows, flag_rows, limit_rows, phantom_rows
from doseledger.steps.compared import compared_doses, leave_out_slips, read_analyses, require_doses
from doseledger.steps.findings import findings, unit_slips
from doseledger.steps.layout import PAGE
from doseledger.steps.method_rows import agreement_rows, difference_rows
from doseledger.steps.site_rows import cycle_rows, distribution_rows, ln_ratio_of, model_rows, reference_rows
from doseledger.steps.stage import Job

STAGE_VERSION: Final[int] = 1
TAKES_REFUSED: Final = True
_LARGE: Final = "compared_dose"


def step(job: Job) -> None:
    """Compare what `compact` has gathered."""
    write_comparison(job.one("compact"), job.out)


def write_comparison(cohort: Path, out: Path) -> None:
    """Write every table of the comparison to `out`; a cohort without a dose has tables without rows."""
    analyses = read_analyses(cohort)
    compared = compared_doses(analyses)
    # Marks rows of sites with a slip of units in `compared`: before that is written.
    tables = comparison(analyses, compared, phantom_rows(cohort))
    tables["limit_share"] = list(limit_rows(cohort))
    tables["flag_count"] = flag_rows(cohort)
    tables["cumulative_dose"] = list(cumulative_rows(cohort))
    tables["completeness"], tables["refusal"] = completeness_rows(cohort)
    out.mkdir(parents=True, exist_ok=True)
    for name in COMPARISON_SCHEMAS:
        data = _compared_table(compared) if name == _LARGE else table(name, tables[name])
        write_table(out / f"{name}.parquet", data)
        csv.write_csv(_flat(data), out / f"{name}.csv")


def compare_folder(cohort: Path, out: Path, *, name: str) -> Path:
    """Tables in ``out/compare`` and the page ``out/index.html`` of any folder of a cohort; returns the page.

    Raises
    ------
    InputMissingError
        `cohort` is no folder of a cohort.
    ForeignResultsError
        `out` holds something already.
    """
    if out.exists() and any(out.iterdir()):
        raise ForeignResultsError("the folder is not empty", path=out, remedy="Give a new or empty folder with --out.")
    require_doses(cohort)
    tables = out / "compare"
    write_comparison(cohort, tables)
    write_page(cohort, tables, out / PAGE, cohort=name)
    return out / PAGE


def comparison(analyses: pd.DataFrame, compared: pd.DataFrame, phantoms: list[Row]) -> dict[str, list[Row]]:
    """Rows of all tables that rest on doses and phantoms; `compared` learns which rows are left out."""
    distributions = list(distribution_rows(compared))
    leave_out_slips(compared, unit_slips(distributions))
    models, effects, covariates = model_rows(compared, ln_ratio_of(phantoms))
    tables = {
        "site_distribution": distributions,
        "site_model": models,
        "site_effect": effects,
        "covariate_effect": covariates,
        "method_agreement": list(agreement_rows(analyses, compared)),
        "method_difference": list(difference_rows(compared)),
        "reference_interval": list(reference_rows(compared)),
        "cycle_change": list(cycle_rows(compared)),
        "phantom_comparison": phantoms,
    }
    return tables | {"finding": findings(tables)}


def _compared_table(compared: pd.DataFrame) -> pa.Table:
    schema = COMPARISON_SCHEMAS[_LARGE]
    return pa.Table.from_pandas(compared[schema.names], schema=schema, preserve_index=False).replace_schema_metadata(
        schema.metadata
    )


def _flat(data: pa.Table) -> pa.Table:
    """Lists as text, which CSV has a place for."""
    for position, field in enumerate(data.schema):
        if pa.types.is_list(field.type):
            data = data.set_column(position, field.name, pc.binary_join(data[field.name], "; "))
    return data
