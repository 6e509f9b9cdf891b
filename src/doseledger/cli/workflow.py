"""Commands about the computation of a cohort: run it, see how far it is, verify it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from doseledger.cli.app import ConfigPath, app, read_plan

#: Cycles that `status` names per reason.
EXAMPLES: Final = 5


@app.command()
def run(
    config: ConfigPath,
    cores: Annotated[str, typer.Option(help="Number of cores, or all.")] = "all",
    profile: Annotated[str, typer.Option(help="Folder with a Snakemake profile.")] = "profiles/local",
    directory: Annotated[Path | None, typer.Option(help="Where Snakemake keeps its records.")] = None,
) -> None:
    """Run the cohort to its end: every cycle that can be had, then tables and pages of what is there.

    The exit status is 0 when no job failed (a refused cycle is a result), else 1.
    """
    plan = read_plan(config)
    snakefile = Path("Snakefile")
    if not snakefile.exists():
        raise typer.BadParameter("start it in the folder of the repository, where the Snakefile is")
    command = [sys.executable, "-m", "snakemake", "--snakefile", str(snakefile), "--profile", profile]
    command += ["--configfile", str(config), "--cores", cores]
    command += ["--directory", str(directory)] if directory else []
    log = plan.results / "logs" / "workflow.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("w", encoding="utf-8") as stream:
        # First all that can be had; then courses of the cycles that are there; then what the cohort has.
        failed = _snakemake([*command, "cycles"], stream)
        for target in ("courses", "cohort"):
            failed |= _snakemake([*command, target, "--config", "available=true"], stream)
    if failed:
        typer.echo(f"Jobs failed: see `doseledger status {config}` and {log}")
    raise typer.Exit(1 if failed else 0)


def _snakemake(command: list[str], log: Any) -> bool:
    """Run Snakemake and say whether it failed; its words go to the log, stages and progress to the screen."""
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=os.environ | {"PYTHONUNBUFFERED": "1"}
    )
    assert process.stdout is not None
    for line in process.stdout:
        log.write(line)
        if (
            line.startswith("stage ")
            or "steps (" in line
            or line.startswith(("Error", "WorkflowError", "LockException"))
        ):
            typer.echo(line.rstrip())
    return process.wait() != 0


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

    Files are identical, or within the tolerances of rounding, or different.
    """
    from doseledger import audit

    damaged = list(audit.damaged(results))
    problems = len(damaged)
    for folder, detail in damaged:
        typer.echo(f"damaged: {folder}: {detail}")
    for folder in [folder for folder, _ in damaged] if discard else []:
        for gone in audit.discard(results, folder):
            typer.echo(f"discarded: {gone}")
    typer.echo(f"{len(audit.stage_folders(results))} stages, {problems} damaged")
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
    raise typer.Exit(1 if problems and not discard else 0)
