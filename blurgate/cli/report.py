"""`blurgate report`: figures and a page that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blurgate.cli import EXIT_SOME_FAILED, warn
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from blurgate.interfaces import App

EXAMPLE = """Example:

  blurgate report --data trainset

writes trainset/report/report.html, one page with everything in it, and the figures as PNG.
"""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("report", epilog=EXAMPLE)(report_command)


def report_command(
    data: Annotated[Path, typer.Option(metavar="DIR", help="Folder that `blurgate synth` wrote.")],
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Output folder [default: report/ in the data's folder]."),
    ] = None,
) -> None:
    """Draw what is in a folder: label distributions, numbers and examples, as a page and as PNG."""
    from blurgate.training.data_report import report_data

    done = report_data(data, data / "report" if out is None else out)
    for problem in done.problems:
        warn(problem)
    typer.echo(
        f"{done.rows} labels in {done.page}, {len(done.figures)} figures beside it", err=True
    )
    if done.problems:
        raise typer.Exit(EXIT_SOME_FAILED)
