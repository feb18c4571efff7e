"""Reading back the tables that the built-in sinks write, row by row and with their types."""

from __future__ import annotations

import csv
import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, TypeAlias

from blurgate.errors import DecodeError, EnvironmentLackError
from blurgate.interfaces import Column

Row: TypeAlias = dict[str, Any]
FORMATS: Final = ("csv", "jsonl", "parquet")


def read_table(path: Path, columns: tuple[Column, ...], made_by: str) -> Iterator[Row]:
    """Read a table whose format its ending tells.

    Args:
        path: A file that ends in .csv, .jsonl or .parquet.
        columns: What it must hold.
        made_by: The command that writes such tables, for messages.

    Yields:
        Column -> value; None where the table has none.

    Raises:
        DecodeError: It is damaged or another table.
        EnvironmentLackError: It is Parquet and pyarrow is missing.
    """
    names = {column.name for column in columns}
    readers = {"csv": _csv, "jsonl": _jsonl, "parquet": _parquet}
    for row in readers[path.suffix.lstrip(".")](path, columns, made_by):
        if row.keys() != names:
            raise _other(path, made_by)
        yield row


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
