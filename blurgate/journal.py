"""What makes a run resumable: which sources are complete, and how long the table was by then.

The journal is a file of JSON lines beside the output. The first line holds the settings; a run with
other settings cannot continue it. Every further line is written after the table has been brought
to the disk, and holds the table's mark and the sources that were completed since the line before.
A line that was torn by a crash is ignored, together with the table's rows that belong to it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from blurgate.errors import ConfigError
from blurgate.interfaces import Sink

SECONDS_BETWEEN_SYNCS: Final = 1.0

Entry = dict[str, Any]
"""What a run notes about one complete source."""


class Journal:
    """Notes complete sources.

    Args:
        path: The journal's file.
        settings: Everything that the rows depend on.
        resume: Continue the journal at `path` if there is one.

    Raises:
        ConfigError: The journal on disk has other settings, or cannot be understood.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any], *, resume: bool) -> None:
        self._path = path
        self._settings = json.loads(json.dumps(settings))
        self._table: Sink | None = None
        self._waiting: list[Entry] = []
        self._last_sync = time.monotonic()
        self.mark: int | None = None
        self.n_done = 0
        if resume and path.is_file():
            self._resume()
        else:
            _write_durably(path, "w", json.dumps({"settings": self._settings}) + "\n")

    def _resume(self) -> None:
        with self._path.open(encoding="utf-8") as lines:
            try:
                found = json.loads(lines.readline())["settings"]
            except (ValueError, KeyError, TypeError):
                raise ConfigError(
                    f"{self._path} is not a journal of blurgate; start anew with --overwrite"
                ) from None
        different = sorted(
            key for key in {*found, *self._settings} if found.get(key) != self._settings.get(key)
        )
        if different:
            key = different[0]
            raise ConfigError(
                f"cannot resume {self._path.parent}: it was begun with {key} = {found.get(key)!r}, "
                f"now it is {self._settings.get(key)!r}; use the same settings or --overwrite"
            )
        size = 0
        for mark, entries, end in self._lines():
            self.mark, size = mark, end
            self.n_done += len(entries)
        if size:
            os.truncate(self._path, size)
        else:
            _write_durably(self._path, "w", json.dumps({"settings": self._settings}) + "\n")

    def _lines(self) -> Iterator[tuple[int, list[Entry], int]]:
        """Give (mark, entries, offset behind the line) of every whole line."""
        with self._path.open("rb") as lines:
            end = len(lines.readline())
            for line in lines:
                end += len(line)
                try:
                    values = json.loads(line)
                except ValueError:
                    return
                if not line.endswith(b"\n"):
                    return
                yield values["mark"], values["done"], end

    def bind(self, table: Sink) -> None:
        """Say which table the journal is about."""
        self._table = table

    def done(self, entry: Entry) -> None:
        """Note that a source is complete; all its rows have been written to the table."""
        assert self._table is not None, "no table is bound"
        self._waiting.append(entry)
        self.mark = self._table.mark()
        if time.monotonic() - self._last_sync >= SECONDS_BETWEEN_SYNCS:
            self.flush()

    def flush(self) -> None:
        """Bring the table to the disk, then the notes about it.

        Rows of a source that is not complete may be there too: they lie behind the mark.
        """
        if self._waiting and self._table is not None:
            self._table.sync()
            line = {"mark": self.mark, "done": self._waiting}
            _write_durably(self._path, "a", json.dumps(line) + "\n")
            self.n_done += len(self._waiting)
            self._waiting = []
        self._last_sync = time.monotonic()

    def entries(self) -> Iterator[Entry]:
        """Give every complete source that has been brought to the disk, in order."""
        for _, entries, _ in self._lines():
            yield from entries

    def remove(self) -> None:
        """Delete the journal: the run is complete."""
        self._path.unlink()


def _write_durably(path: Path, mode: str, text: str) -> None:
    with path.open(mode, encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def write_atomically(path: Path, chunks: Iterator[str]) -> None:
    """Write a text file that is there whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    with temporary.open("w", encoding="utf-8", newline="") as file:
        file.writelines(chunks)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
