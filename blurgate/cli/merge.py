"""`blurgate merge`: join the parts that `score --shard` and `filter --shard` wrote."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
            help="Tables of one kind (csv, jsonl, parquet), folders of blurgate filter, or the "
            "folder of --engine ray.",
        ),
    ],
    out: Annotated[str, typer.Option(metavar="PATH", help="The joined table or folder.")],
    files: Annotated[
        Literal["copy", "move", "link"],
        typer.Option(help="What becomes of the pictures in folders."),
    ] = "copy",
) -> None:
    """Join score tables, or folders of filtered faces. Rows come in the order of the paths."""
    import tempfile

    from blurgate.engines.parts import is_part_folder
    from blurgate.io.remote import is_remote
    from blurgate.merging_folders import is_filter_folder

    with tempfile.TemporaryDirectory(prefix="blurgate-") as scratch:
        names = _expanded(part)
        if len(names) == 1 and is_part_folder(names[0]):
            _merge_rows(names, out)
            return
        parts = []
        for name in names:
            if is_remote(name):
                from blurgate.remote_output import taken_down

                parts.append(taken_down(name, Path(scratch)))
            else:
                parts.append(Path(name))
        if any(is_filter_folder(path) for path in parts):
            _merge_folders(parts, out, files)
        else:
            _merge_tables(parts, out)


def _expanded(words: list[str]) -> list[str]:
    """Resolve patterns that the shell left: in addresses, and on Windows in paths."""
    import glob

    from blurgate.files import matching
    from blurgate.io import remote
    from blurgate.sharding import NOTE_SUFFIX

    names: list[str] = []
    for word in words:
        if remote.is_remote(word) and glob.has_magic(word):
            names += [name for name in remote.matching(word) if not name.endswith(NOTE_SUFFIX)]
        else:
            names += [name for name in matching(word) if not name.endswith(NOTE_SUFFIX)] or [word]
    return names


def _merge_folders(parts: list[Path], out: str, files: Literal["copy", "move", "link"]) -> None:
    from blurgate.io.remote import is_remote
    from blurgate.merging_folders import counts_of, delete_files, joined_key, merge_folders

    if is_remote(out):
        from blurgate.remote_output import RemoteFolder, alone_there

        there = RemoteFolder(out, joined=joined_key(parts))
        with alone_there(out, "--out"):
            if there.begin_joined():
                progress = counts_of(there.local)
            else:
                # The parts keep their pictures until all are up: a work folder is soon deleted.
                how = "copy" if files == "move" else files
                progress = merge_folders(parts, there.local, files=how)
            there.publish()
        if files == "move":
            delete_files(parts)
    else:
        progress = merge_folders(parts, Path(out), files=files)
    totals = progress.totals
    typer.echo(
        f"{progress.n_sources} sources, {totals.faces} faces, {totals.kept} kept, of "
        f"{len(parts)} parts in {out}",
        err=True,
    )


def _merge_tables(parts: list[Path], out: str) -> None:
    from blurgate.merging import has_notes, merge_tables

    with _table(out) as target:
        rows = merge_tables(parts, target)
    typer.echo(f"{rows} rows of {len(parts)} parts in {out}", err=True)
    if not has_notes(parts):
        warn("the parts were not made with --shard, so that one more would not be missed")


def _merge_rows(names: list[str], out: str) -> None:
    from blurgate.engines.parts import PartFolder
    from blurgate.merging import check_out, join_rows

    with _table(out) as target:
        check_out(target)
        rows = join_rows([(name, PartFolder(name).rows()) for name in names], target)
    typer.echo(f"{rows} rows in {out}", err=True)


@contextmanager
def _table(out: str) -> Iterator[Path]:
    """Give where a table is written; it is brought to its address afterwards, if it has one."""
    from blurgate.io.remote import is_remote

    if not is_remote(out):
        yield Path(out)
        return
    from blurgate.remote_output import RemoteTable, alone_there

    there = RemoteTable(out, "--out", again="again")
    with alone_there(out, "--out"):
        there.begin(resume=False)
        yield there.local
        there.publish()
