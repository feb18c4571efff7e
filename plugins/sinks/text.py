"""What the CSV and JSON-lines sinks share: appending text that can be cut back to a mark."""

from __future__ import annotations

import os
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, ClassVar, Self

from blurgate.errors import ConfigError, naming
from blurgate.interfaces import Column, Scalar

SIGNIFICANT_DIGITS = 6
_TAIL = 1 << 16


class TextSink(ABC):
    """Writes rows as lines of UTF-8 text.

    Args:
        path: The file, or None for stdout.
        columns: Names and types, in order.
        resume_at: Length in bytes that `mark` gave; what follows it in the file is forgotten.
            None begins a new file.

    Raises:
        ConfigError: The file is shorter than the mark, so it is not the one that was interrupted.
    """

    encoding_errors: ClassVar[str] = "surrogateescape"
    """A file name may hold bytes that are not UTF-8; here they go out as they came in."""

    def __init__(
        self, path: Path | None, columns: Sequence[Column], resume_at: int | None = None
    ) -> None:
        self._path = path
        self._columns = tuple(columns)
        self._resume_at = resume_at
        self._length = resume_at or 0
        self._file: IO[bytes] | None = None

    def __enter__(self) -> Self:
        """Open the file; a new one gets its head."""
        if self._path is None:
            self._file = sys.stdout.buffer
        elif self._resume_at is None:
            self._file = self._path.open("wb")
        else:
            size = self._path.stat().st_size if self._path.is_file() else -1
            if size < self._resume_at:
                raise ConfigError(
                    f"{self._path} is not the table that was interrupted: {max(size, 0)} bytes, "
                    f"{self._resume_at} were written; start anew with --overwrite"
                )
            os.truncate(self._path, self._resume_at)
            self._file = self._path.open("ab")
        if self._resume_at is None:
            self._append(self.head())
        return self

    def __exit__(self, *exc: object) -> None:
        """Flush, and close unless it is stdout."""
        if self._file is None:
            return
        try:
            with naming(self._path or "stdout"):
                self._file.flush()
                if self._path is not None:
                    self._file.close()
        except OSError:
            self._drop_torn_row()
            raise
        finally:
            self._file = None

    def _drop_torn_row(self) -> None:
        """Cut the file back to its last whole line: the disk is full, and took part of a row."""
        if self._path is None or self._file is None:
            return
        with suppress(OSError):
            self._file.close()  # tries once more to write what is left, and closes all the same
        with self._path.open("rb+") as file:
            size = end = file.seek(0, os.SEEK_END)
            while end > 0:
                start = max(0, end - _TAIL)
                file.seek(start)
                newline = file.read(end - start).rfind(b"\n")
                if newline >= 0:
                    end = start + newline + 1
                    break
                end = start
            if end < size:
                file.truncate(end)

    def write(self, row: Mapping[str, Scalar], /) -> None:
        """Append one row."""
        self._append(self.line([row[column.name] for column in self._columns]))

    def mark(self) -> int:
        """Give the table's length in bytes, rows that are not on the disk yet included."""
        return self._length

    def sync(self) -> None:
        """Bring the rows to the disk."""
        assert self._file is not None, "the sink is not open"
        with naming(self._path or "stdout"):
            self._file.flush()
            if self._path is not None:
                os.fsync(self._file.fileno())

    def _append(self, text: str) -> None:
        assert self._file is not None, "the sink is not open"
        data = text.encode("utf-8", self.encoding_errors)
        with naming(self._path or "stdout"):
            self._file.write(data)
        self._length += len(data)

    @abstractmethod
    def head(self) -> str:
        """Give what stands before the first row."""

    @abstractmethod
    def line(self, values: Sequence[Scalar]) -> str:
        """Give one row, with its line end."""
