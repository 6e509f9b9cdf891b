"""Commands about several hospitals: what a site hands over, and what a coordinating centre makes of it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from doseledger.cli.app import ConfigPath, app, read_plan


@app.command()
def submit(
    config: ConfigPath,
    out: Annotated[Path, typer.Option(help="Archive to write, e.g. site.zip.")],
    site: Annotated[str | None, typer.Option(help="Which site, if the config has several.")] = None,
    revision: Annotated[int, typer.Option(min=1, help="Count up with every new submission: the highest counts.")] = 1,
    suppress_below: Annotated[
        int | None, typer.Option(min=2, help="Withhold characteristics that fewer patients than this share, e.g. 5.")
    ] = None,
    accept: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Texts that a person let through, one a line.")
    ] = None,
    keys: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="The site's list of identifiers: none may occur.")
    ] = None,
    pseudonym_key: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="Replace pseudonyms with this key, which stays here."),
    ] = None,
    kinetics: Annotated[
        bool, typer.Option("--kinetics/--no-kinetics", help="Also sums over patients, for a prior of all sites.")
    ] = True,
    reference: Annotated[
        Path | None,
        typer.Option(
            exists=True, dir_okay=False, help="prior.json of an earlier merge, around which the sums are made."
        ),
    ] = None,
) -> None:
    """Write what a site shares: tables without identifiers, checksums, and a page of exactly that."""
    from doseledger.io.priors import read_prior
    from doseledger.submission import Sharing, read_accepted, read_key, read_secrets, submit

    sharing = Sharing(
        revision=revision,
        suppress_below=suppress_below,
        accepted=read_accepted(accept) if accept else frozenset(),
        secrets=read_secrets(keys) if keys else frozenset(),
        key=read_key(pseudonym_key) if pseudonym_key else None,
        kinetics=kinetics,
        reference=read_prior(reference) if reference else None,
    )
    written = submit(read_plan(config), out, sharing, site=site)
    typer.echo(
        f"site {written.site}, revision {revision}: {sum(written.rows.values())} rows in {len(written.rows)} tables"
    )
    for item in written.withheld:
        typer.echo(f"withheld: {item.table}.{item.column}, {item.rows} cells: {item.reason}")
    for check in written.checks:
        typer.echo(f"a merge will leave out: {check['table']}, {check['rows']} rows: {check['reason']}")
    typer.echo(f"written: {out}. Read index.html in it before you send it.")


@app.command()
def merge(
    archives: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Submissions, in any order.")],
    out: Annotated[Path, typer.Option(help="Folder of the dataset: new, empty, or of an earlier merge.")],
    page: Annotated[
        bool | None, typer.Option("--page/--no-page", help="Also a page; by default where it is not too large.")
    ] = None,
) -> None:
    """Merge submissions of any number of sites; rows that cannot be true are set aside with the reason."""
    from doseledger.merge import MAX_ROWS_ON_PAGE, PRIOR, RECORD, merge, write_page

    merged = merge(archives, out)
    for item in merged.used:
        typer.echo(f"merged: site {item['site']}, {item['source']}, revision {item['revision']}")
    for item in merged.superseded:
        typer.echo(f"superseded: site {item['site']}, {item['source']}, revision {item['revision']}")
    for note in merged.notes:
        typer.echo(f"note: {note}")
    for name, count in merged.quarantined.items():
        typer.echo(f"set aside: {name}, {count} rows; see the table quarantine")
    typer.echo(f"{sum(merged.rows.values())} rows in {len(merged.rows)} tables: {out}; what went in: {out / RECORD}")
    if (out / PRIOR).exists():
        typer.echo(f"population kinetics of all sites: {out / PRIOR}")
    if page or (page is None and merged.rows.get("organ_dose", 0) <= MAX_ROWS_ON_PAGE):
        typer.echo(f"page: {write_page(out)}")


@app.command("import-results")
def import_results(
    kind: Annotated[str, typer.Argument(help="template, pytheranostics, olinda, mirdcalc or opendose3d.")],
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Files of that program.")],
    out: Annotated[Path, typer.Option(help="Submission to write, e.g. foreign.zip.")],
    site: Annotated[str | None, typer.Option()] = None,
    patient: Annotated[str | None, typer.Option(help="Pseudonym, as in the sheets.")] = None,
    cycle: Annotated[int | None, typer.Option(min=1)] = None,
    radiopharmaceutical: Annotated[str | None, typer.Option(help="e.g. Lu177-DOTATATE")] = None,
    nuclide: Annotated[str | None, typer.Option(help="e.g. Lu-177")] = None,
    administered_mbq: Annotated[float | None, typer.Option(help="Activity that the program was given, MBq.")] = None,
    data_origin: Annotated[str | None, typer.Option(help="patient or virtual")] = None,
    unit: Annotated[str | None, typer.Option(help="Unit of olinda's doses where the file states none.")] = None,
    engine: Annotated[str | None, typer.Option(help="Name of the program in dose_engine.")] = None,
    primary: Annotated[bool, typer.Option("--primary", help="These are the site's doses: it has no ledger.")] = False,
    revision: Annotated[int, typer.Option(min=1, help="As for submit.")] = 1,
) -> None:
    """Read results of another program into a submission of its own; every unit must be stated."""
    from doseledger.foreign.imports import import_results
    from doseledger.foreign.rows import Case
    from doseledger.submission import Sharing

    case = None
    if site and patient and cycle and radiopharmaceutical and nuclide and administered_mbq and data_origin:
        case = Case(site, patient, cycle, radiopharmaceutical, nuclide, administered_mbq, data_origin)
    sharing = Sharing(revision=revision)
    written = import_results(kind, files, out, sharing, case=case, unit=unit, engine=engine, primary=primary)
    typer.echo(f"site {written.site}: {written.rows['organ_dose']} regions: {out}")
    for check in written.checks:
        typer.echo(f"a merge will leave out: {check['table']}, {check['rows']} rows: {check['reason']}")


@app.command("export-tiac")
def export_tiac(
    config: ConfigPath, out: Annotated[Path, typer.Argument(help="Folder for the files, new or empty.")]
) -> None:
    """Write time-integrated activity coefficients as input of OLINDA/EXM 2 and MIRDcalc."""
    from doseledger.foreign.exports import export_tiac

    exported = export_tiac(read_plan(config), out)
    typer.echo(f"{len(exported.files)} files: {out}")
    for reason in exported.left_out:
        typer.echo(f"not exported: {reason}")
