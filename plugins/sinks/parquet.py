"""`parquet`: Apache Parquet through pyarrow (the `parquet` extra).

A Parquet file is readable only once its footer is written, so it cannot be valid at every moment.
Rows therefore go to a JSON-lines file beside it (`<name>.jsonl.part`), which can be resumed, and
become Parquet, batch by batch and in one rename, when the sink is closed.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, Self

from blurgate.errors import ConfigError, EnvironmentLackError
from blurgate.files import written_whole
from blurgate.hookspecs import hookimpl
from blurgate.interfaces import Column, Register, Scalar
from blurgate.plugins.sinks.jsonl import JsonlSink
from blurgate.rowfiles import arrow_schema, printable, restored, rows_path

ROWS_PER_GROUP = 65_536


class ParquetSink:
    """Writes a Parquet file; see the module's text for how it stays safe.

    Args:
        path: The file; None (stdout) is refused.
        columns: Names and types, in order. str, int and float become string, int64 and double.
        resume_at: Mark that `mark` gave, or None to begin anew.

    Raises:
        EnvironmentLackError: pyarrow is not installed.
        ConfigError: `path` is None.
    """

    def __init__(
        self, path: Path | None, columns: Sequence[Column], resume_at: int | None = None
    ) -> None:
        if importlib.util.find_spec("pyarrow") is None:
            raise EnvironmentLackError(
                'Parquet needs pyarrow; run: pip install "blurgate[parquet]"'
            )
        if path is None:
            raise ConfigError("a Parquet table cannot go to stdout; name a file")
        self._path = path
        self._columns = tuple(columns)
        self._part = rows_path(path)
        self._rows = JsonlSink(self._part, columns, resume_at)
        self._resuming = resume_at is not None

    def __enter__(self) -> Self:
        """Open the file of rows; a table that was complete is turned back into rows."""
        if self._resuming and self._path.exists() and not self._part.exists():
            self._unpack()
        self._rows.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, /, *rest: object) -> None:
        """Turn the rows into Parquet; after an error too, so that nothing is lost."""
        self._rows.__exit__(kind, *rest)
        with written_whole(self._path) as temporary:
            self._convert(temporary)
        if kind is None:
            self._part.unlink()  # kept after an error: a resumed run continues it

    def write(self, row: Mapping[str, Scalar], /) -> None:
        """Append one row."""
        self._rows.write(row)

    def mark(self) -> int:
        """Give the place to resume at."""
        return self._rows.mark()

    def sync(self) -> None:
        """Bring the rows to the disk."""
        self._rows.sync()

    def _unpack(self) -> None:
        import pyarrow.parquet as pq

        with (
            written_whole(self._part) as temporary,
            JsonlSink(temporary, self._columns) as rows,
        ):
            for batch in pq.ParquetFile(self._path).iter_batches():
                for row in batch.to_pylist():
                    rows.write(restored(row))

    def _convert(self, target: Path) -> None:
        import pyarrow as pa
        import pyarrow.parquet as pq

        schema = arrow_schema(self._columns)
        with (
            self._part.open(encoding="utf-8") as lines,
            target.open("wb") as file,
        ):
            with pq.ParquetWriter(file, schema) as writer:
                for rows in _batches(lines):
                    writer.write_table(pa.Table.from_pylist(rows, schema=schema))
            file.flush()
            os.fsync(file.fileno())


def _batches(lines: Iterator[str]) -> Iterator[list[dict[str, Any]]]:
    while rows := [printable(json.loads(line)) for line in islice(lines, ROWS_PER_GROUP)]:
        yield rows


@hookimpl
def register_sinks(register: Register) -> None:
    """Register `parquet`."""
    register("parquet", ParquetSink)
