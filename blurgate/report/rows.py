"""Rows of a table of faces, whichever of the three formats it has.

Tables of a run that was killed are read as far as they go: a last line that was torn is left out.
"""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeAlias

from blurgate.errors import DecodeError, EnvironmentLackError
from blurgate.io.text import reason, shown

Row: TypeAlias = dict[str, Any]
Rows: TypeAlias = tuple[Iterator[Row], Callable[[], list[str]]]


def read_rows(path: Path) -> Rows:
    """Read a table, its format told by its content.

    Args:
        path: CSV with a head line, JSON lines, or Parquet.

    Returns:
        The rows, column -> value (text in CSV), and a function that, once they are read, says in
        sentences what is odd about the table.

    Raises:
        DecodeError: A line is damaged; raised while the rows are read.
        EnvironmentLackError: The table is Parquet and pyarrow is missing.
    """
    with path.open("rb") as file:
        start = file.read(4)
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        torn = size > 0 and file.read(1) != b"\n"
    if start == b"PAR1":
        if importlib.util.find_spec("pyarrow") is None:
            raise EnvironmentLackError(
                'reading Parquet needs pyarrow; run: pip install "blurgate[parquet]"'
            )
        return _parquet(path), lambda: []
    read = _jsonl if start[:1] == b"{" else _csv
    said = ["The table's last line was torn and is left out."] if torn else []
    return _readable(path, read(path, torn)), lambda: said


def _readable(path: Path, rows: Iterator[Row]) -> Iterator[Row]:
    try:
        yield from rows
    except (csv.Error, UnicodeDecodeError) as error:
        raise DecodeError(
            f"{shown(str(path))} is no table of faces: {reason(error)}", source=str(path)
        ) from error


def _csv(path: Path, torn: bool) -> Iterator[Row]:
    """Give the rows; each must have as many fields as the head."""
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines = csv.reader(_whole_lines(file) if torn else file)
        head = next(lines, [])
        for fields in lines:
            if len(fields) != len(head):
                raise DecodeError(
                    f"{shown(str(path))}, line {lines.line_num}: {len(fields)} fields, the head "
                    f"has {len(head)}",
                    source=str(path),
                )
            yield dict(zip(head, fields, strict=True))


def _jsonl(path: Path, torn: bool) -> Iterator[Row]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        for number, line in enumerate(_whole_lines(file) if torn else file, 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise DecodeError(
                    f"{shown(str(path))}, line {number} is not JSON: {reason(error)}",
                    source=str(path),
                ) from error
            if not isinstance(row, dict):
                raise DecodeError(
                    f"{shown(str(path))}, line {number} is not a JSON object", source=str(path)
                )
            yield row


def _whole_lines(lines: Iterator[str]) -> Iterator[str]:
    for line in lines:
        if line.endswith("\n"):
            yield line


def _parquet(path: Path) -> Iterator[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        for batch in pq.ParquetFile(path).iter_batches():
            yield from batch.to_pylist()
    except (pa.ArrowInvalid, OSError) as error:
        raise DecodeError(
            f"{shown(str(path))} is no readable Parquet file: {reason(error)}", source=str(path)
        ) from error
