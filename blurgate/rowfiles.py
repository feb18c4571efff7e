"""Tables as the built-in sinks write them: reading them back row by row, and their Arrow types.

`read_table` wants a table that is whole and of known columns. `read_rows` takes any, and of a run
that was killed it takes what is there.
"""

from __future__ import annotations

import csv
import importlib.util
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, Final, TypeAlias

from blurgate.errors import DecodeError, EnvironmentLackError
from blurgate.files import parsed_object
from blurgate.interfaces import Column, Scalar
from blurgate.io.text import reason, shown

Row: TypeAlias = dict[str, Any]
FORMATS: Final = ("csv", "jsonl", "parquet")
ROWS_SUFFIX: Final = ".jsonl.part"
"""The rows of a Parquet table that is not complete lie beside it, as `<table>.jsonl.part`."""
_ESCAPE: Final = re.compile(r"\\u(005c|d[89a-f][0-9a-f]{2})")
"""Stands for a byte of a file name that is no UTF-8, or for a backslash before what reads so."""
_UNPRINTABLE: Final = re.compile(r"[\ud800-\udfff]|\\(?=u(?:005c|d[89a-f][0-9a-f]{2}))")


def rows_path(table: Path) -> Path:
    """Give where the rows of a Parquet table lie until it is complete."""
    return table.with_name(table.name + ROWS_SUFFIX)


def read_table(
    path: Path, columns: tuple[Column, ...], made_by: str, *, form: str = ""
) -> Iterator[Row]:
    """Read a table.

    Args:
        path: The file.
        columns: What it must hold.
        made_by: The command that writes such tables, for messages.
        form: csv, jsonl or parquet; empty: what the file's ending says, which must be one of them.

    Yields:
        Column -> value; None where the table has none.

    Raises:
        DecodeError: It is damaged or another table.
        EnvironmentLackError: It is Parquet and pyarrow is missing.
    """
    names = {column.name for column in columns}
    kinds = [(column.name, column.type) for column in columns]
    form = form or path.suffix.lstrip(".")
    other = f"{shown(str(path))} is not a table of {made_by}"
    for found in _rows(path, form):
        row = found
        if form == "csv":
            try:
                row = {c.name: c.type(found[c.name]) if found[c.name] else None for c in columns}
            except (KeyError, ValueError):
                raise DecodeError(other, source=str(path)) from None
        if (
            row.keys() != names
            or row[columns[0].name] is None
            or not all(_fits(row[name], kind) for name, kind in kinds)
        ):
            raise DecodeError(other, source=str(path))
        yield row


def read_rows(path: Path) -> tuple[Iterator[Row], list[str]]:
    """Read a table, its format told by its content.

    Args:
        path: CSV with a head line, JSON lines, or Parquet.

    Returns:
        The rows, column -> value (text in CSV), and in sentences what is odd about the table. A
        last line that was torn is left out.

    Raises:
        DecodeError: A line is damaged; raised while the rows are read.
        EnvironmentLackError: It is Parquet and pyarrow is missing; raised likewise.
    """
    with path.open("rb") as file:
        start = file.read(4)
        size = file.seek(0, 2)
        file.seek(max(0, size - 1))
        torn = size > 0 and file.read(1) != b"\n"
    if start == b"PAR1":
        return _rows(path, "parquet"), []
    said = ["The table's last line was torn and is left out."] if torn else []
    return _rows(path, "jsonl" if start[:1] == b"{" else "csv", torn=torn), said


def column_names(path: Path) -> list[str]:
    """Give a table's columns, its format told by its content; none of what is no table."""
    with path.open("rb") as file:
        return columns_in(file)


def columns_in(file: IO[bytes]) -> list[str]:
    """Give the columns of a table that is open, here or at an address; see `column_names`."""
    line = file.readline(1 << 16)  # a picture may have no line end
    if line.startswith(b"PAR1"):
        try:
            with _parquet_file(file) as table:
                return list(table.schema_arrow.names)
        except (DecodeError, EnvironmentLackError):
            return []  # whoever reads the table is told
    if line.startswith(b"{"):
        return list(parsed_object(line) or ())
    return line.decode("utf-8", "replace").rstrip("\r\n").split(",")


def _fits(value: object, kind: type) -> bool:
    """Whether a column may hold a value; no sink writes NaN or infinity, which JSON lacks."""
    if value is None or type(value) is str or kind is str:
        return value is None or type(value) is kind
    try:  # JSON and Parquet of other programs may hold 1 for 1.0
        return type(value) in (int, kind) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond any float
        return False


def _rows(path: Path, form: str, *, torn: bool = False) -> Iterator[Row]:
    """Give the rows as they are; with `torn`, a last line without its end is left out.

    Raises:
        DecodeError: The table is damaged; the message names the line.
    """
    if form == "parquet":
        yield from _parquet(path)
        return
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as file:
        lines: Iterator[str] = file
        if torn:
            lines = (line for line in file if line.endswith("\n"))
        yield from (_csv if form == "csv" else _jsonl)(path, lines)


def _csv(path: Path, lines: Iterator[str]) -> Iterator[Row]:
    """Give the rows; each must have as many fields as the head, empty lines left out."""
    reader = csv.reader(lines)
    try:
        head = next(reader, [])
        for fields in filter(None, reader):
            if len(fields) != len(head):
                raise DecodeError(
                    f"{shown(str(path))}, line {reader.line_num}: {len(fields)} fields, the head "
                    f"has {len(head)}",
                    source=str(path),
                )
            yield dict(zip(head, fields, strict=True))
    except csv.Error as error:
        raise DecodeError(
            f"{shown(str(path))} cannot be read: {reason(error)}", source=str(path)
        ) from error


def _jsonl(path: Path, lines: Iterator[str]) -> Iterator[Row]:
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DecodeError(
                f"{shown(str(path))}, line {number} is not JSON: {reason(error)}",
                source=str(path),
            ) from error
        if not isinstance(row, dict):
            raise DecodeError(
                f"{shown(str(path))}, line {number} is not a JSON object", source=str(path)
            )
        yield row


def _parquet(path: Path) -> Iterator[Row]:
    with _parquet_file(path) as file:
        for batch in file.iter_batches(batch_size=4096):
            yield from map(restored, batch.to_pylist())


@contextmanager
def _parquet_file(path: Path | IO[bytes]) -> Iterator[Any]:
    """Open a Parquet file; what goes wrong in the block is its fault."""
    if importlib.util.find_spec("pyarrow") is None:
        raise EnvironmentLackError(
            'reading Parquet needs pyarrow; run: pip install "blurgate[parquet]"'
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            yield file
    except (pa.ArrowException, OSError, UnicodeDecodeError) as error:
        raise DecodeError(
            f"{shown(str(path))} is not a readable Parquet file: {reason(error)}", source=str(path)
        ) from error


def arrow_table(rows: Sequence[Mapping[str, Scalar]], columns: Sequence[Column]) -> Any:
    """Make a pyarrow Table of rows, with the types and strings that a Parquet file would have."""
    import pyarrow as pa

    return pa.Table.from_pylist([printable(row) for row in rows], schema=arrow_schema(columns))


def arrow_schema(columns: Sequence[Column]) -> Any:
    """Give columns as a pyarrow schema: str, int and float become string, int64 and double."""
    import pyarrow as pa

    types = {str: pa.string(), int: pa.int64(), float: pa.float64()}
    return pa.schema([(column.name, types[column.type]) for column in columns])


def printable(row: Mapping[str, Any]) -> Row:
    r"""Give a row as Parquet can hold it, whose strings are UTF-8; different ones stay different.

    >>> print(printable({"file": "Ren\udce9.png"})["file"])
    Ren\udce9.png
    """
    return _replaced(row, _UNPRINTABLE, lambda found: f"\\u{ord(found[0]):04x}")


def restored(row: Mapping[str, Any]) -> Row:
    """Give the row of which `printable` made this one."""
    return _replaced(row, _ESCAPE, lambda found: chr(int(found[1], 16)))


def _replaced(
    row: Mapping[str, Any], what: re.Pattern[str], by: Callable[[re.Match[str]], str]
) -> Row:
    return {k: what.sub(by, v) if isinstance(v, str) else v for k, v in row.items()}
