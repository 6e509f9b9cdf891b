"""Commands about the computation of a cohort: run it, see how far it is, verify it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Final

import typer

from doseledger.cli.app import ConfigPath, app, read_plan
from doseledger.errors import InputMissingError

#: Cycles that `status` names per reason.
EXAMPLES: Final = 5


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

    if cores is not None and cores != "all" and not (cores.isdecimal() and int(cores) > 0):
        raise typer.BadParameter(f"--cores is a number of at least 1, or all, and not {cores!r}")
    # A name without a folder may be a profile of the user's own, which Snakemake knows where to find.
    if "/" in profile and not any(Path(profile).glob("config*.y*ml")):
        raise typer.BadParameter(f"--profile: there is no config.yaml in {profile!r}")
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
def status(
    config: ConfigPath,
    every: Annotated[bool, typer.Option("--all", help="Every refused or failed cycle, not only examples.")] = False,
) -> None:
    """Say how far a cohort is, from disk: cycles by state, what is left, and why some were refused or failed."""
    from doseledger.progress import progress, status_text

    typer.echo(status_text(progress(read_plan(config)), examples=sys.maxsize if every else EXAMPLES))


@app.command()
def usage(config: ConfigPath) -> None:
    """Say what finished jobs took, by rule, and what memory and time to ask a scheduler for."""
    from doseledger.resources import usage_of_rules, usage_text

    typer.echo(usage_text(usage_of_rules(read_plan(config).results)))


@app.command()
def verify(
    results: Annotated[Path, typer.Argument(exists=True, file_okay=False)],
    discard: Annotated[bool, typer.Option("--discard", help="Delete damaged stages and what came of them.")] = False,
    against: Annotated[
        list[Path] | None, typer.Option(exists=True, file_okay=False, help="Another results folder; repeatable.")
    ] = None,
) -> None:
    """Check every file of a results folder against its manifest, and results of the same cohort against each other.

    Files are identical, or within the tolerances of rounding, or different; what is damaged is not compared. The exit
    status is 1 if there is damage that was not discarded, or a difference; 2 if there is nothing to verify.
    """
    from doseledger import audit

    damaged = list(audit.damaged(results))
    _tell_damaged(damaged)
    stages = len(audit.stage_folders(results))
    if not stages and not damaged:
        raise InputMissingError("there is no finished stage to verify", path=results, remedy="Give a results folder.")
    for folder in [folder for folder, _ in damaged] if discard else []:
        for gone in audit.discard(results, folder):
            typer.echo(f"discarded: {gone}")
    typer.echo(f"{stages} stages, {len(damaged)} damaged")
    problems = 0 if discard else len(damaged)
    # Hashes are taken from the manifests: they must be those of the files.
    of_others = [found for other in against or [] for found in audit.damaged(other)]
    _tell_damaged(of_others)
    if against and (damaged or of_others):
        typer.echo("not compared: a results folder is damaged")
        raise typer.Exit(1)
    if against:
        typer.echo(f"{'against':40} {'identical':>9} {'within':>6} {'different':>9}  SHA-256 of all tables and images")
        typer.echo(f"{results!s:40} {'':>9} {'':>6} {'':>9}  {audit.cohort_sha256(results)}")
    for other in against or []:
        line, findings = audit.sameness(results, other)
        typer.echo(f"{other!s:40} {line.identical:9} {line.within:6} {line.different:9}  {line.sha256}")
        for worst in line.worst:
            typer.echo(f"  {worst.kind}: {worst.what} by up to {worst.relative:.1e}, {worst.of_allowed:.1e} of allowed")
        for finding in findings:
            problems += 1
            typer.echo(f"  different: {finding.where}: {finding.text}")
    raise typer.Exit(1 if problems else 0)


def _tell_damaged(found: list[tuple[Path, str]]) -> None:
    for folder, detail in found:
        typer.echo(f"damaged: {folder}: {detail}")
