"""Commands about time-activity curves of a whole cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doseledger.cli.app import ConfigPath, app, read_plan


@app.command("select-models")
def select_models(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Sheet to write, new.")] = Path("curve_models.tsv"),
) -> None:
    """Choose one curve model per radiopharmaceutical and region on a finished cohort; a person reviews the sheet."""
    from doseledger.steps import select_models as selection

    for found in selection.select_models(read_plan(config), out):
        verdict = found.model or f"not chosen: fewer than {selection.LEAST_CYCLES} cycles"
        typer.echo(f"{found.radiopharmaceutical}, {found.region_class}: {verdict} ({selection.source(found)})")
    typer.echo(f"written: {out}; look at it, then name it in the config: sheets.curve_models")
