"""Commands about the computation of a cohort: run it, see how far it is, verify it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doseledger.cli.app import ConfigPath, app, read_plan


@app.command()
def run(
    config: ConfigPath,
    cores: Annotated[str | None, typer.Option(help="Number of cores, or all; default: as the profile says.")] = None,
    profile: Annotated[str, typer.Option(help="Folder with a Snakemake profile.")] = "profiles/local",
    directory: Annotated[Path | None, typer.Option(help="Where Snakemake keeps its records.")] = None,
    take_over: Annotated[
        bool, typer.Option("--take-over", help="Start although a run of another machine has not ended.")
    ] = False,
) -> None:
    """Run the cohort to its end: every cycle that can be had, then tables and pages of what is there.

    The exit status is 0 when no job failed (a refused cycle is a result), else 1; 2 when the run could not start.
    """
    from doseledger.launch import run_cohort

    plan = read_plan(config)
    snakefile = Path("Snakefile")
    if not snakefile.exists():
        raise typer.BadParameter("start it in the folder of the repository, where the Snakefile is")
    ending = run_cohort(
        plan,
        config,
        snakefile=snakefile,
        profile=profile,
        cores=cores,
        directory=directory,
        take_over=take_over,
        tell=typer.echo,
    )
    if ending.stopped:
        typer.echo(f"Snakemake was ended before the cohort was through: the same command goes on. Log: {ending.log}")
    elif ending.failed:
        typer.echo(f"Jobs failed: see `doseledger status {config}` and {ending.log}")
    raise typer.Exit(1 if ending.failed else 0)


@app.command()
def status(config: ConfigPath) -> None:
    """Say how far a cohort is, from disk, with the reasons of what was refused or failed."""
    from doseledger.audit import progress

    found = progress(read_plan(config))
    typer.echo(", ".join(f"{count} {state}" for state, count in sorted(found.counts.items())) or "no cycles")
    for reason in found.reasons:
        typer.echo(f"{reason.where}: {reason.text}")


@app.command()
def verify(
    results: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    discard: Annotated[bool, typer.Option("--discard", help="Delete damaged stages and what came of them.")] = False,
    against: Annotated[Path | None, typer.Option(exists=True, file_okay=False, help="Another results folder.")] = None,
) -> None:
    """Check every file of a results folder against its manifest, or two results against each other."""
    from doseledger import audit

    damaged = list(audit.damaged(results))
    problems = len(damaged)
    for folder, detail in damaged:
        typer.echo(f"damaged: {folder}: {detail}")
    for folder in [folder for folder, _ in damaged] if discard else []:
        for gone in audit.discard(results, folder):
            typer.echo(f"discarded: {gone}")
    typer.echo(f"{len(audit.stage_folders(results))} stages, {problems} damaged")
    if against is not None:
        for difference in audit.differences(results, against):
            problems += 1
            typer.echo(f"different: {difference.where}: {difference.text}")
        typer.echo(f"results {audit.cohort_sha256(results)}\nagainst {audit.cohort_sha256(against)}")
    raise typer.Exit(1 if problems and not discard else 0)
