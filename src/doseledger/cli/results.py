"""Commands about what came out of a cohort: figures on the screen, exports, generated documents."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doseledger.cli.app import ConfigPath, app, read_plan


@app.command()
def summary(
    config: ConfigPath,
    truth: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Truth folder of a simulation.")
    ] = None,
    scans: Annotated[bool, typer.Option("--scans", help="Also what was measured at each scan.")] = False,
) -> None:
    """Print the cohort's organ doses, what was refused, and where the pages are."""
    from doseledger.summary import summary_text

    typer.echo(summary_text(read_plan(config).results, truth, scans=scans))


@app.command()
def compare(
    cohort: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of tables: RESULTS/cohort.")],
    out: Annotated[Path, typer.Option(help="Folder for the page and the tables, new or empty.")],
    name: Annotated[str, typer.Option(help="Name of the cohort on the page.")] = "cohort",
) -> None:
    """Compare the sites of a cohort, or of merged submissions: a page, and every table as Parquet and CSV."""
    from doseledger.steps.compare import compare_folder

    page = compare_folder(cohort, out, name=name)
    typer.echo(f"{page}")


@app.command()
def bids(config: ConfigPath, out: Annotated[Path, typer.Argument(help="Folder of the dataset, new or empty.")]) -> None:
    """Export images, masks and dose maps for other programs, after BIDS, without dates and identifiers."""
    from doseledger.bids import export_bids

    exported = export_bids(read_plan(config), out)
    typer.echo(f"{exported.images} images of {exported.cycles} cycles: {out}")
    for where, reason in exported.left_out:
        typer.echo(f"not exported: {where}: {reason}")


@app.command()
def crate(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Folder of the crate, new or empty.")],
    licence: Annotated[str | None, typer.Option("--license", help="Address of the licence of the tables.")] = None,
    published: Annotated[str | None, typer.Option(help="Date, instead of that of the newest table.")] = None,
) -> None:
    """Write the tables with their provenance as a Workflow Run RO-Crate, without paths and identifiers."""
    from doseledger.crate import WORKFLOW, write_crate

    if not Path(WORKFLOW).exists():
        raise typer.BadParameter("start it in the folder of the repository, where the workflow is")
    tables = write_crate(read_plan(config), Path(), out, licence=licence, published=published)
    typer.echo(f"{tables} tables: {out}")


@app.command()
def schemas(
    root: Annotated[Path, typer.Option(help="Root of the repository.", exists=True, file_okay=False)] = Path(),
) -> None:
    """Write the JSON schemas, the data dictionary and the page of refusals, which are generated from the code."""
    from doseledger.io.models import json_schemas
    from doseledger.io.tables import data_dictionary
    from doseledger.refusals import refusals_page

    for name, text in json_schemas().items():
        (root / "workflow" / "schemas" / name).write_text(text, encoding="utf-8")
    (root / "docs" / "data-dictionary.md").write_text(data_dictionary(), encoding="utf-8")
    (root / "docs" / "refusals.md").write_text(refusals_page(), encoding="utf-8")
