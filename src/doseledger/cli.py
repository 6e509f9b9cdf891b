"""The command ``doseledger``. Commands print what they find; the work is done elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final, Literal

import typer
import yaml
from typer.core import TyperGroup

from doseledger import __version__
from doseledger.cohort import Plan
from doseledger.errors import DoseledgerError

NOTICE: Final = "Research software. Not a medical device."


class _Commands(TyperGroup):
    """A refusal that reaches a command ends it with its sentence and status 2, never with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except DoseledgerError as error:
            typer.echo(str(error), err=True)
            raise typer.Exit(2) from None


app = typer.Typer(
    cls=_Commands, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=NOTICE
)

ConfigPath = Annotated[Path, typer.Argument(exists=True, dir_okay=False, help="Config file of the cohort.")]


@app.callback(invoke_without_command=True)
def main(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    """From post-treatment SPECT/CT to a ledger of organ and lesion absorbed doses."""
    if version:
        typer.echo(f"doseledger {__version__}. {NOTICE}")
        raise typer.Exit


@app.command()
def simulate(
    out: Annotated[Path, typer.Argument(help="Folder for DICOM, sheets, config and truth.")],
    sites: int = 3,
    patients: int = 2,
    cycles: int = 2,
    seed: int = 1,
    segmentation: Annotated[
        Literal["totalsegmentator", "contours"],
        typer.Option(help="What the config asks for: organs by the demo weights, or the drawn outlines."),
    ] = "totalsegmentator",
    cameras: Annotated[bool, typer.Option(help="Also the phantom study of each site's camera.")] = True,
    voxel_maps: Annotated[
        Path | None,
        typer.Option(exists=True, file_okay=False, help="Instead: one patient from voxel maps (patient 15)."),
    ] = None,
    results: Annotated[str, typer.Option(help="Results folder, relative to OUT.")] = "../results",
) -> None:
    """Write a virtual multi-centre cohort whose truth is known."""
    from doseledger.phantom import simulate as simulate_cohort
    from doseledger.phantom.study import WEIGHTS
    from doseledger.phantom.voxel_study import simulate_patient15
    from doseledger.segmentation.demo_weights import unpack_demo_weights

    if voxel_maps is not None:
        config = simulate_patient15(voxel_maps, out, seed=seed, results=results)
    else:
        config = simulate_cohort(
            out,
            sites=sites,
            patients=patients,
            cycles=cycles,
            seed=seed,
            camera_studies=cameras,
            segmentation=segmentation,
            results=results,
        )
        if segmentation == "totalsegmentator":
            unpack_demo_weights(out / WEIGHTS)
    typer.echo(f"virtual cohort written; config: {config}")


@app.command()
def index(
    folders: Annotated[list[Path], typer.Argument(exists=True, file_okay=False, help="Folders with DICOM.")],
    out: Annotated[Path, typer.Option(help="Draft of the scan sheet.")] = Path("scans.tsv"),
    administrations: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Sheet that tells cycles; else gaps of 15 days do.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Pseudonyms: a sheet of patient_id and patient.")
    ] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read headers; else one per core.")] = None,
) -> None:
    """Draft the scan sheet from DICOM headers; a person reviews it. Only files that are new are read."""
    from doseledger.io.draft import write_draft
    from doseledger.io.index import INDEX_NAME, index_folders
    from doseledger.io.workers import cores

    if out.exists():
        raise typer.BadParameter(f"{out} exists: a reviewed sheet is never overwritten")
    kept = out.with_name(INDEX_NAME)
    try:
        with _progress("reading headers") as progress:
            records = index_folders(folders, kept=kept, workers=workers or cores(), progress=progress)
        draft = write_draft(records, out, administrations=administrations, keys=keys)
    except DoseledgerError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(2) from None
    typer.echo(f"{len(records)} series, {len(draft.rows)} time points: {out}")
    typer.echo("Fill in what is n/a, check cycles and cameras, add administrations.tsv (config/README.md).")
    for reason, paths in draft.by_reason():
        typer.echo(f"not placed: {paths[0]}{f' and {len(paths) - 1} more' if len(paths) > 1 else ''}: {reason}")
    if draft.unplaced:
        typer.echo(f"{len(draft.unplaced)} paths not placed: {draft.unplaced_path}")
    typer.echo(f"The index {kept} identifies patients: it stays with the images.")
    if keys is None and administrations is None:
        typer.echo("Pseudonyms (keep this list; it is in no file):")
        for identifier, key in draft.keys.items():
            typer.echo(f"  {key}\t{identifier}")


@app.command()
def check(
    config: ConfigPath,
    sheets_only: Annotated[bool, typer.Option("--sheets-only", help="Do not read the images.")] = False,
    pixels: Annotated[bool, typer.Option("--pixels", help="Also decode the images and paint the outlines.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes that read; else one per core.")] = None,
) -> None:
    """List what the workflow would refuse, before any job runs. The exit status is 1 if there is anything.

    Headers tell nearly all of it. Only pixels tell that an image cannot be decoded, that its values contradict
    its scale or its counted events, and that an outline is empty or leaves the image.
    """
    from doseledger.io.workers import cores
    from doseledger.steps.preflight import Depth, preflight

    plan = _plan(config)
    depth = Depth.SHEETS if sheets_only else Depth.PIXELS if pixels else Depth.HEADERS
    with _progress("checking cycles") as progress:
        found = preflight(plan, depth, workers=workers or cores(), progress=progress)
    for refusal in found.refusals:
        typer.echo(f"{refusal.code}: {refusal.sentence}")
    for notice in found.notices:
        typer.echo(f"note: {notice}")
    typer.echo(f"{len(plan.imaged)} cycles checked ({found.known} not changed since), {len(found.refusals)} problems")
    raise typer.Exit(1 if found.refusals else 0)


@app.command()
def weights(
    action: Annotated[Literal["fetch", "register"], typer.Argument(help="Download what is missing, or pin hashes.")],
    config: ConfigPath,
) -> None:
    """Get the weights that the config's TotalSegmentator tasks need; jobs only read them."""
    from doseledger.steps.model import fetch, register

    typer.echo(f"weights ready: {(fetch if action == 'fetch' else register)(_plan(config))}")


@app.command()
def camera(
    phantoms: Annotated[
        Path, typer.Argument(metavar="PHANTOM_DICOM", exists=True, file_okay=False, help="Folder of the phantom scans.")
    ],
    out: Annotated[Path, typer.Option(help="Camera sheet, new or existing.")] = Path("cameras.tsv"),
    sheet: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="What was filled; phantoms.tsv in the folder.")
    ] = None,
    max_sensitivity_change: Annotated[float, typer.Option(help="Limit against the first study, relative.")] = 0.05,
    max_calibration_error: Annotated[float, typer.Option(help="Limit of images in Bq/mL, relative.")] = 0.05,
    max_blur_change: Annotated[float, typer.Option(help="Limit against the first study, relative.")] = 0.10,
) -> None:
    """Measure cameras by their phantoms: sensitivity, blur, recovery, dead time, constancy.

    The exit status is 1 when a study is outside its limits, 2 when one must not be used.
    """
    from doseledger.steps.camera_results import Limits
    from doseledger.steps.camera_study import study_cameras

    limits = Limits(max_sensitivity_change, max_calibration_error, max_blur_change)
    written = study_cameras(phantoms, out, sheet=sheet, limits=limits)
    for change in written.changes:
        before = "was empty" if change.before is None else f"was {change.before}"
        typer.echo(f"site {change.site}, camera {change.camera}: {change.column} {before}, now {change.after}")
    failed = False
    for result in written.results:
        for study in result.studies:
            failed |= study.passed is False
            verdict = {True: "within limits", False: "OUTSIDE LIMITS", None: "no limit"}[study.passed]
            words = f"site {result.site}, camera {result.camera}: {study.measured.scan.phantom}, day {study.days}"
            typer.echo(f"{words}: {', '.join((verdict, *study.flags))}")
    for path in (out, written.table, *written.pages):
        typer.echo(f"written: {path}")
    raise typer.Exit(1 if failed else 0)


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
    plan = _plan(config)
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
def status(config: ConfigPath) -> None:
    """Say how far a cohort is, from disk, with the reasons of what was refused or failed."""
    from doseledger.audit import progress

    found = progress(_plan(config))
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

    typer.echo(summary_text(_plan(config).results, truth, scans=scans))


@app.command()
def bids(config: ConfigPath, out: Annotated[Path, typer.Argument(help="Folder of the dataset, new or empty.")]) -> None:
    """Export images, masks and dose maps for other programs, after BIDS, without dates and identifiers."""
    from doseledger.bids import export_bids

    exported = export_bids(_plan(config), out)
    typer.echo(f"{exported.images} images of {exported.cycles} cycles: {out}")
    for where, reason in exported.left_out:
        typer.echo(f"not exported: {where}: {reason}")


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


@contextmanager
def _progress(label: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on a terminal; nothing in a log."""
    with ExitStack() as stack:
        bar: Any = None

        def tell(done: int, total: int) -> None:
            nonlocal bar
            if bar is None:
                bar = stack.enter_context(typer.progressbar(length=total, label=label, file=sys.stderr))
            if done % 100 == 0 or done == total:
                bar.update(done - bar.pos)

        yield tell


def _plan(config: Path) -> Plan:
    from doseledger.io.sheets import config_folder, load_plan

    try:
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        return load_plan(settings if isinstance(settings, dict) else {}, config_folder([config]))
    except (DoseledgerError, yaml.YAMLError) as error:
        typer.echo(f"{config}: {error}", err=True)
        raise typer.Exit(2) from None


if __name__ == "__main__":
    app()
