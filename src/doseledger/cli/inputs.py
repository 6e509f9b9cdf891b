"""Commands about what goes into a cohort: a virtual one, sheets, weights, cameras."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from doseledger.cli.app import ConfigPath, app, progress_bar, read_plan
from doseledger.errors import DoseledgerError


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
        with progress_bar("reading headers") as progress:
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

    plan = read_plan(config)
    depth = Depth.SHEETS if sheets_only else Depth.PIXELS if pixels else Depth.HEADERS
    with progress_bar("checking cycles") as progress:
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

    typer.echo(f"weights ready: {(fetch if action == 'fetch' else register)(read_plan(config))}")


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
