"""The application that commands register with, and what they share."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
import yaml
from typer.core import TyperGroup

from doseledger import __version__
from doseledger.cohort import Plan
from doseledger.errors import DoseledgerError, StageDamagedError, of_writing

NOTICE: Final = "Research software. Not a medical device."


class _Commands(TyperGroup):
    """A refusal that reaches a command ends it with its sentence and status 2, never with a traceback."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (DoseledgerError, StageDamagedError) as error:
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


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
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


def read_plan(config: Path) -> Plan:
    from doseledger.io.sheets import config_folder, load_plan

    try:
        settings = yaml.safe_load(config.read_text(encoding="utf-8"))
        return load_plan(settings if isinstance(settings, dict) else {}, config_folder([config]))
    except (DoseledgerError, yaml.YAMLError, OSError) as error:
        if isinstance(error, OSError):
            # The plan is kept in the results folder.
            raise (of_writing(error) or error) from None
        typer.echo(f"{config}: {error}", err=True)
        raise typer.Exit(2) from None
