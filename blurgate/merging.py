"""Joining the score tables of shards: a merge of sorted parts that holds one row of each."""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Final

from blurgate.errors import ConfigError, DecodeError
from blurgate.files import written_whole
from blurgate.interfaces import Column, Sink
from blurgate.io.text import shown
from blurgate.rowfiles import FORMATS, Row, column_names, read_table, rows_path
from blurgate.scoring import check_target, journal_path
from blurgate.sharding import PartNote, check_set, note_path
from blurgate.tables import KIND_COLUMNS, SCORE_COLUMNS, open_table, score_columns

MADE_BY: Final = "blurgate score"


def merge_tables(parts: Sequence[Path], out: Path) -> int:
    """Join score tables.

    Tables that `--shard` wrote have a note beside them; with the notes it is checked that the parts
    are complete, were made with the same settings of the same files, and are all there.

    Args:
        parts: Tables of one format (csv, jsonl or parquet), each sorted by path as `blurgate score`
            writes them.
        out: The joined table, of the same format; there whole or not at all.

    Returns:
        The number of rows.

    Raises:
        ConfigError: The formats differ, `out` is one of the parts, a part is not complete, parts
            do not belong together or are missing, or a file is in two parts.
        DecodeError: A part is not a score table or not sorted.
    """
    check_out(out)
    for part in parts:
        if part.suffix != out.suffix:
            raise ConfigError(f"{part} and {out} are of different formats")
        if part.resolve() == out.resolve():
            raise ConfigError(f"{part} cannot be both a part and the joined table")
        if not part.is_file():
            raise ConfigError(f"{part}: there is no such part; finish it with: blurgate score")
        if journal_path(part).exists():
            raise ConfigError(f"{part} is not complete; finish it with: blurgate score --resume")
    _check_notes(parts)
    # A part of no files is an empty file of JSON lines, which tells nothing about columns.
    kinds = {KIND_COLUMNS[0].name in column_names(part) for part in parts if part.stat().st_size}
    if len(kinds) > 1:
        raise ConfigError("some of the parts tell the kind of blur and some do not")
    columns = score_columns(True in kinds)
    rows = [(str(part), read_table(part, columns, MADE_BY)) for part in parts]
    return join_rows(rows, out, columns)


def check_out(out: Path) -> None:
    """Refuse a joined table of an unknown format, and to replace what is no such table."""
    if out.suffix.lstrip(".") not in FORMATS:
        raise ConfigError(f"{out}: the joined table must end in .csv, .jsonl or .parquet")
    check_target(out, out.suffix.lstrip("."), "--out")


def join_rows(
    parts: Sequence[tuple[str, Iterable[Row]]],
    out: Path,
    columns: tuple[Column, ...] = SCORE_COLUMNS,
) -> int:
    """Merge rows that are sorted by file into a table; there whole or not at all.

    Args:
        parts: (name, rows) of each part; no file may be in two of them.
        out: The table.
        columns: What its rows hold.

    Returns:
        The number of rows.

    Raises:
        ConfigError: A file is in two parts.
        DecodeError: A part is not sorted.
    """
    with written_whole(out) as temporary:
        try:
            with open_table(out.suffix.lstrip("."), temporary, columns, None) as table:
                return _merge_into(table, parts)
        finally:
            # After an error a Parquet sink keeps its rows; a merge begins anew, and needs none.
            rows_path(temporary).unlink(missing_ok=True)


def _merge_into(table: Sink, parts: Sequence[tuple[str, Iterable[Row]]]) -> int:
    """Write the rows of all parts in the order of the files; gives their number."""
    names = [name for name, _ in parts]
    n_rows = 0
    sorted_parts = [_sorted(name, rows, index) for index, (name, rows) in enumerate(parts)]
    last_file, last_part = "", -1
    for file, index, row in heapq.merge(*sorted_parts, key=itemgetter(0, 1)):
        if file == last_file and index != last_part:
            raise ConfigError(
                f"{file!r} is in both {shown(names[last_part])} and {shown(names[index])}"
            )
        last_file, last_part = file, index
        table.write(row)
        n_rows += 1
    return n_rows


def has_notes(parts: Sequence[Path]) -> bool:
    """Tell whether parts have notes, without which nobody can tell whether all are there."""
    return all(note_path(part).is_file() for part in parts)


def _sorted(name: str, rows: Iterable[Row], index: int) -> Iterator[tuple[str, int, Row]]:
    """Give (file, index, row) of each row, checking that the files come in order."""
    last = ""
    for row in rows:
        if row["file"] < last:
            raise DecodeError(f"{name} is not in the order of its paths", source=name)
        last = row["file"]
        yield last, index, row


def _check_notes(parts: Sequence[Path]) -> None:
    """Check parts that `--shard` wrote; tables of other origin have no notes and are let pass."""
    notes = [PartNote.read(part) for part in parts]
    known = [(part, note) for part, note in zip(parts, notes, strict=True) if note is not None]
    if not known:
        return
    if len(known) < len(parts):
        without = next(part for part, note in zip(parts, notes, strict=True) if note is None)
        raise ConfigError(
            f"{without} is not a complete part: {note_path(without).name} is not beside it, and "
            f"{known[0][0]} has one; score it with --shard"
        )
    for part, note in known:
        if part.stat().st_size != note.bytes:
            raise ConfigError(
                f"{part} is not complete: {part.stat().st_size} bytes, and {note.bytes} were "
                "written; score it again"
            )
    check_set(
        [str(part) for part, _ in known],
        [note.shard for _, note in known],
        [note.settings for _, note in known],
        [note.listing for _, note in known],
    )
