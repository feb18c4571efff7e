"""`blurgate merge`: join the parts that `blurgate score --shard` wrote."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from blurgate.hookspecs import hookimpl

if TYPE_CHECKING:
    from blurgate.interfaces import App

EXAMPLE = """Example:

  blurgate score faces --shard 1/2 --csv 1.csv
  blurgate score faces --shard 2/2 --csv 2.csv
  blurgate merge 1.csv 2.csv --out all.csv

all.csv is, byte for byte, what one run without --shard writes.
"""


@hookimpl
def register_commands(app: App) -> None:
    """Add the command."""
    app.command("merge", epilog=EXAMPLE)(merge_command)


def merge_command(
    part: Annotated[
        list[Path],
        typer.Argument(metavar="PART...", help="Tables of one kind: csv, jsonl, parquet."),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="The joined table.")],
) -> None:
    """Join score tables into one, in the order of the paths."""
    from blurgate.merging import merge_tables

    rows = merge_tables(part, out)
    typer.echo(f"{rows} rows of {len(part)} parts in {out}", err=True)
