"""`blurgate merge`: join the parts that `score --shard` and `filter --shard` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from blurgate.cli import warn
from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from blurgate.interfaces import App

EXAMPLE = """Example:

  blurgate score faces --shard 1/2 --csv 1.csv
  blurgate score faces --shard 2/2 --csv 2.csv
  blurgate merge 1.csv 2.csv --out all.csv

all.csv is, byte for byte, what one run without --shard writes. Folders of `blurgate filter --shard`
are joined likewise, and the parts of `blurgate score --engine ray` become one sorted table.
"""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("merge", epilog=EXAMPLE)(merge_command)


def merge_command(
    part: Annotated[
        list[str],
        typer.Argument(
            metavar="PART...",
            help="Tables of one kind (csv, jsonl, parquet), or folders of blurgate filter.",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="PATH", help="The joined table or folder.")],
    files: Annotated[
        Literal["copy", "move", "link"],
        typer.Option(help="What becomes of the pictures in folders."),
    ] = "copy",
) -> None:
    """Join score tables into one, in the order of the paths, or folders of filtered faces."""
    from blurgate.merging import has_notes, merge_tables
    from blurgate.merging_folders import is_filter_folder, merge_folders

    parts, target = [Path(name) for name in part], Path(out)
    if any(is_filter_folder(path) for path in parts):
        progress = merge_folders(parts, target, files=files)
        totals = progress.totals
        typer.echo(
            f"{progress.n_sources} sources, {totals.faces} faces, {totals.kept} kept, of "
            f"{len(parts)} parts in {target}",
            err=True,
        )
        return
    rows = merge_tables(parts, target)
    typer.echo(f"{rows} rows of {len(parts)} parts in {target}", err=True)
    if not has_notes(parts):
        warn("the parts were not made with --shard, so that one more would not be missed")
