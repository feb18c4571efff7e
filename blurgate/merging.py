"""Joining the score tables of shards: a merge of sorted parts that holds one row of each."""

from __future__ import annotations

import csv
import heapq
import json
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

from blurgate.errors import ConfigError, DecodeError
from blurgate.tables import SCORE_COLUMNS, open_table

NAMES: Final = [column.name for column in SCORE_COLUMNS]
Row = dict[str, Any]


def merge_tables(parts: Sequence[Path], out: Path) -> int:
    """Join score tables.

    Args:
        parts: Tables of one format (csv, jsonl or parquet), each sorted by path as `blurgate score`
            writes them.
        out: The joined table, of the same format.

    Returns:
        The number of rows.

    Raises:
        ConfigError: The formats differ, `out` is one of the parts, a part is still being written,
            or a file is in two parts.
        DecodeError: A part is not a score table or not sorted.
    """
    format_name = out.suffix.lstrip(".")
    if format_name not in _READERS:
        raise ConfigError(f"{out}: the joined table must end in .csv, .jsonl or .parquet")
    for part in parts:
        if part.suffix != out.suffix:
            raise ConfigError(f"{part} and {out} are of different formats")
        if part.resolve() == out.resolve():
            raise ConfigError(f"{part} cannot be both a part and the joined table")
        if part.with_name(part.name + ".journal").exists():
            raise ConfigError(f"{part} is not complete; finish it with: blurgate score --resume")
    temporary = out.with_name(f".{out.name}.tmp")
    n_rows = 0
    with open_table(format_name, temporary, SCORE_COLUMNS, None) as table:
        sorted_parts = (_sorted_rows(part, index) for index, part in enumerate(parts))
        last_file, last_part = "", -1
        for file, index, row in heapq.merge(*sorted_parts, key=itemgetter(0, 1)):
            if file == last_file and index != last_part:
                raise ConfigError(f"{file!r} is in both {parts[last_part]} and {parts[index]}")
            last_file, last_part = file, index
            table.write(row)
            n_rows += 1
    temporary.replace(out)
    return n_rows


def _sorted_rows(part: Path, index: int) -> Iterator[tuple[str, int, Row]]:
    """Give (file, index, row) of each row, checking that the files come in order."""
    last = ""
    for row in _READERS[part.suffix.lstrip(".")](part):
        if row.keys() != set(NAMES):
            raise DecodeError(f"{part} is not a table of blurgate score", source=str(part))
        if row["file"] < last:
            raise DecodeError(f"{part} is not in the order of its paths", source=str(part))
        last = row["file"]
        yield last, index, row


def _read_csv(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        for fields in csv.DictReader(lines):
            try:
                yield {
                    column.name: column.type(fields[column.name]) if fields[column.name] else None
                    for column in SCORE_COLUMNS
                }
            except (KeyError, ValueError, TypeError):
                raise DecodeError(
                    f"{path} is not a table of blurgate score", source=str(path)
                ) from None


def _read_jsonl(path: Path) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                yield json.loads(line)
            except ValueError:
                raise DecodeError(f"{path} is not JSON lines", source=str(path)) from None


def _read_parquet(path: Path) -> Iterator[Row]:
    import pyarrow.parquet as pq

    for batch in pq.ParquetFile(path).iter_batches():
        yield from batch.to_pylist()


_READERS: Final[dict[str, Callable[[Path], Iterator[Row]]]] = {
    "csv": _read_csv,
    "jsonl": _read_jsonl,
    "parquet": _read_parquet,
}
