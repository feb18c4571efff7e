"""Tables as the built-in sinks write them: reading them back row by row, and their Arrow types."""

from __future__ import annotations

import csv
import importlib.util
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Final, TypeAlias

from blurgate.errors import DecodeError, EnvironmentLackError
from blurgate.interfaces import Column, Scalar

Row: TypeAlias = dict[str, Any]
FORMATS: Final = ("csv", "jsonl", "parquet")


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
    readers = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
    rows = readers[form or path.suffix.lstrip(".")](path, columns, made_by)
    try:
        for row in rows:
            if (
                row.keys() != names
                or row[columns[0].name] is None
                or not all(_fits(row[name], kind) for name, kind in kinds)
            ):
                raise _other(path, made_by)
            yield row
    except (UnicodeDecodeError, csv.Error, RecursionError) as error:
        text = " ".join(str(error).split())
        raise DecodeError(f"{path} cannot be read: {text}", source=str(path)) from error


def _fits(value: object, kind: type) -> bool:
    """Whether a column may hold a value; no sink writes NaN or infinity, which JSON lacks."""
    if value is None or type(value) is str or kind is str:
        return value is None or type(value) is kind
    try:  # JSON and Parquet of other programs may hold 1 for 1.0
        return type(value) in (int, kind) and math.isfinite(value)  # type: ignore[arg-type]
    except OverflowError:  # an integer beyond any float
        return False


def has_column(path: Path, name: str) -> bool:
    """Tell whether a table has a column; raises as `read_table` does."""
    if path.suffix == ".parquet":
        return any(name in row for row in islice(_parquet(path, (), ""), 1))
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        first = next(lines, "")
    if path.suffix == ".csv":
        return name in next(csv.reader([first]), [])
    try:
        row = json.loads(first or "{}")
    except ValueError:
        return False
    return isinstance(row, dict) and name in row


def _other(path: Path, made_by: str) -> DecodeError:
    return DecodeError(f"{path} is not a table of {made_by}", source=str(path))


def _csv(path: Path, columns: tuple[Column, ...], made_by: str) -> Iterator[Row]:
    with path.open(encoding="utf-8", errors="surrogateescape", newline="") as lines:
        for fields in csv.DictReader(lines):
            try:
                yield {c.name: c.type(fields[c.name]) if fields[c.name] else None for c in columns}
            except (KeyError, ValueError, TypeError):
                raise _other(path, made_by) from None


def _jsonl(path: Path, columns: tuple[Column, ...], made_by: str) -> Iterator[Row]:
    with path.open(encoding="utf-8") as lines:
        for line in lines:
            try:
                row = json.loads(line)
            except ValueError:
                raise DecodeError(f"{path} is not JSON lines", source=str(path)) from None
            if not isinstance(row, dict):
                raise _other(path, made_by)
            yield row


def _parquet(path: Path, columns: tuple[Column, ...], made_by: str) -> Iterator[Row]:
    if importlib.util.find_spec("pyarrow") is None:
        raise EnvironmentLackError(
            'reading Parquet needs pyarrow; run: pip install "blurgate[parquet]"'
        )
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=4096):
                yield from batch.to_pylist()
    except (pa.ArrowException, OSError) as error:
        text = " ".join(str(error).split())
        raise DecodeError(f"{path} cannot be read as Parquet: {text}", source=str(path)) from error


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
    """Parquet strings are UTF-8: bytes of a file name that are not become U+FFFD."""
    return {
        name: value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        if isinstance(value, str)
        else value
        for name, value in row.items()
    }
