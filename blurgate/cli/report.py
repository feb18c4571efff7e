"""`blurgate report`: results as one page that people can look at, and that needs no network."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blurgate.cli import EXIT_SOME_FAILED, options, warn
from blurgate.cli.progress import progress_bar
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from blurgate.interfaces import App

EXAMPLE = """Example:

  blurgate report faces

where faces is what `blurgate filter --out faces` wrote: makes faces/report.html, one page with the
faces from sharp to blurred, and a slider that shows what another threshold would keep.
"""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("report", epilog=EXAMPLE)(report_command)


def report_command(
    results: Annotated[
        Path | None,
        typer.Argument(
            metavar="RESULTS",
            help="Folder of `blurgate filter` or `blurgate synth`, or a table of faces: "
            "csv, jsonl or parquet.",
        ),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR", help="Folder of `blurgate synth`: figures as PNG and examples instead."
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="The page [default: beside the results]; with --data a folder [DIR/report].",
        ),
    ] = None,
    threshold: Annotated[
        float | None,
        typer.Option(
            min=0, max=1, help="Where the slider stands at first [default: the run's, or 0.4]."
        ),
    ] = None,
    thumbs: Annotated[
        int, typer.Option(min=0, metavar="N", help="Most small pictures on the page.")
    ] = 5000,  # some nine megabytes of it
    workers: options.Workers = None,
    quiet: options.Quiet = False,
) -> None:
    """Show results as one HTML page: faces, distribution, timelines. It has a threshold slider."""
    from blurgate.errors import ConfigError

    if results is not None and data is not None:
        raise ConfigError("RESULTS and --data DIR are two reports: give one of them")
    if results is None and data is None:
        raise ConfigError("name the results: blurgate report RESULTS, or --data DIR")
    if data is not None:
        _report_data(data, out, quiet=quiet)
        return
    assert results is not None
    from blurgate.report.results import read_results
    from blurgate.report.thumbs import make_thumbs
    from blurgate.report.view import check_target, write_page

    found = read_results(results)
    page = found.default_page if out is None else out
    check_target(page)  # before any picture is read
    with progress_bar(None, "files", quiet=quiet) as bar:
        made = make_thumbs(
            found,
            thumbs,
            workers=workers or options.usable_cores(),
            on_progress=lambda done, total: bar(done, f"of {total}"),
        )
    write_page(found, made, page, start=threshold)
    for line in found.warnings:
        warn(line)
    if made.broken:
        more = f", and {len(made.broken) - 1} more" if len(made.broken) > 1 else ""
        warn(f"{made.broken[0]}{more}")
    if not quiet:
        typer.echo(
            f"{len(found.faces)} faces of {len(found.sources)} sources, {len(made.jpeg)} with a "
            f"picture, in {page}",
            err=True,
        )
    if made.broken:
        raise typer.Exit(EXIT_SOME_FAILED)


def _report_data(data: Path, out: Path | None, *, quiet: bool) -> None:
    """Write the figures of training data."""
    from blurgate.training.data_report import report_data

    done = report_data(data, data / "report" if out is None else out)
    for problem in done.problems:
        warn(problem)
    if not quiet:
        typer.echo(
            f"{done.rows} labels in {done.page}, {len(done.figures)} figures beside it", err=True
        )
    if done.problems:
        raise typer.Exit(EXIT_SOME_FAILED)
