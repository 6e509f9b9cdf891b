"""Commands about time-activity curves of a whole cohort."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doseledger.cli.app import ConfigPath, app, read_plan


@app.command()
def population(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Prior file to write, new.")] = Path("kinetic_prior.json"),
) -> None:
    """Learn the kinetics of a finished cohort as a new frozen prior; `snakemake population` does the same."""
    from doseledger.io.priors import write_prior
    from doseledger.steps.cohort_page import read_cohort_table
    from doseledger.steps.population import learn_prior

    plan = read_plan(config)
    if out.exists():
        raise typer.BadParameter(f"{out} exists: a prior is frozen and never overwritten")
    tables = (read_cohort_table(plan.results / "cohort", t) for t in ("region_activity", "curve", "administration"))
    found = learn_prior(*tables, name=plan.cohort)
    sha256 = write_prior(out, found.prior)
    for entry in found.prior.entries:
        typer.echo(
            f"{entry.radiopharmaceutical}, {entry.region}: {entry.n_patients} patients, {entry.n_cycles} curves, "
            f"{entry.n_sites} sites"
        )
    for reason, count in sorted(found.left_out.items()):
        typer.echo(f"left out: {count} curves, {reason}")
    typer.echo(f"written: {out}, SHA-256 {sha256}; look at it, then name it in the config: sheets.kinetic_prior")


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


@app.command()
def protocols(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Page to write; the tables lie beside it.")] = Path("protocols.html"),
    truth: Annotated[
        Path | None, typer.Option(exists=True, file_okay=False, help="Truth folder of a simulation.")
    ] = None,
) -> None:
    """Say what fewer scans would have cost: every cycle with scans left out, by every method for one and two scans."""
    from doseledger.steps import protocol_tables
    from doseledger.steps import protocols as study

    plan = read_plan(config)
    cycles = study.cohort_cycles(plan, truth)
    summaries = study.study(cycles)
    typer.echo(protocol_tables.text_table(summaries))
    for path in protocol_tables.write_all(
        summaries, out, cohort=plan.cohort, origins=[plan.data_origin], cycles=len(cycles)
    ):
        typer.echo(f"written: {path}")
