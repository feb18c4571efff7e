"""What makes a run resumable: which sources are complete, and how long the table was by then.

The journal is a file of JSON lines beside the output. The first line holds the settings; a run with
other settings cannot continue it. Every further line is written after the table has been brought
to the disk, and holds the table's mark and the sources that were completed since the line before.
A line that was torn by a crash is ignored, together with the table's rows that belong to it and
all that follows.
An interrupted run may end it with a line that names files of a source that is not complete.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

from blurgate.errors import ConfigError, naming
from blurgate.files import (
    are_plain,
    first_difference,
    is_count,
    parsed_object,
    write_atomically,
)
from blurgate.interfaces import Sink

JOURNAL: Final = "journal.jsonl"
"""Name of the journal in a folder of `blurgate filter`."""
SECONDS_BETWEEN_SYNCS: Final = 1.0
_END_BYTES: Final = 1 << 16

Entry = dict[str, Any]
"""What a run notes about one complete source."""
Whole: TypeAlias = Callable[[Entry], bool]
"""Tells whether an entry holds all that whoever reads it needs; a file may hold anything."""


class Journal:
    """Notes complete sources.

    Args:
        path: The journal's file.
        settings: Everything that the rows depend on.
        resume: Continue the journal at `path` if there is one.
        whole: What the entries have to hold; a line with another one counts as torn.

    Raises:
        ConfigError: The journal on disk has other settings, or cannot be understood.
    """

    def __init__(
        self, path: Path, settings: Mapping[str, Any], *, resume: bool, whole: Whole
    ) -> None:
        self._path = path
        self._whole = whole
        self._settings = json.loads(json.dumps(settings))
        self._table: Sink | None = None
        self._waiting: list[tuple[Entry, int]] = []  # with the table's marks
        self._size = 0  # bytes of whole lines; what an interrupted attempt left behind them goes
        self._last_sync = time.monotonic()
        self.mark: int | None = None
        self.n_done = 0
        """Sources that were complete when the journal was opened."""
        self.left: list[str] = []
        """Files of a source that an interrupted run did not complete; see `leave`."""
        if resume and path.is_file():
            self._resume()
        else:
            self._begin()

    def _begin(self) -> None:
        # Whole or not at all: a run that dies here must be able to go on.
        write_atomically(self._path, [json.dumps({"settings": self._settings}) + "\n"])
        self._size = self._path.stat().st_size

    def _resume(self) -> None:
        check_settings(self._path, self._settings)
        for line, end in self._lines():
            self.mark, self._size = line["mark"], end
            self.n_done += len(line["done"])
            left = line.get("left")
            self.left = [str(name) for name in left] if isinstance(left, list) else []
        if self._size:
            os.truncate(self._path, self._size)
        else:
            self._begin()

    def _lines(self) -> Iterator[tuple[dict[str, Any], int]]:
        """Give every whole line and the offset behind it."""
        with self._path.open("rb") as lines:
            end = len(lines.readline())
            for line in lines:
                end += len(line)
                values = parsed_line(line, self._whole)
                if values is None:
                    return
                yield values, end

    def bind(self, table: Sink) -> None:
        """Say which table the journal is about."""
        self._table = table
        if self.mark is None:
            self.mark = table.mark()

    def done(self, entry: Entry) -> None:
        """Note that a source is complete; all its rows have been written to the table."""
        assert self._table is not None, "no table is bound"
        mark = self._table.mark()
        self._waiting.append((entry, mark))  # one step: a signal must find both or neither
        self.mark = mark
        if time.monotonic() - self._last_sync >= SECONDS_BETWEEN_SYNCS:
            self.flush()

    def flush(self) -> None:
        """Bring the table to the disk, then the notes about it.

        Rows of a source that is not complete may be there too: they lie behind the mark. May be
        repeated after it was interrupted.
        """
        if self._waiting and self._table is not None:
            self._table.sync()
            entries = [entry for entry, _ in self._waiting]
            self._append({"mark": self._waiting[-1][1], "done": entries})
        self._last_sync = time.monotonic()

    def finish(self, facts: Mapping[str, Any]) -> None:
        """Note that nothing is left to do, with what others need to know of the whole run."""
        assert self._table is not None, "no table is bound"
        self._table.sync()  # without a source nothing has brought its head to the disk
        self.flush()
        self._append({"mark": self.mark, "done": [], "end": dict(facts)})

    def leave(self, files: Sequence[str]) -> None:
        """Note files of the source that is not complete, before they are made.

        Another run may not make them again: whoever resumes finds them as `left` and deletes them.
        The last thing to be noted.
        """
        assert self._table is not None, "no table is bound"
        self._table.sync()
        self.flush()
        self._append({"mark": self.mark, "done": [], "left": list(files)})

    def _append(self, line: Mapping[str, Any]) -> None:
        size = _append_durably(self._path, self._size, json.dumps(line) + "\n")
        self._size, self._waiting = size, []

    def entries(self) -> Iterator[Entry]:
        """Give every complete source that has been brought to the disk, in order."""
        for line, _ in self._lines():
            yield from line["done"]

    def remove(self) -> None:
        """Delete the journal: the run is complete."""
        self._path.unlink()


def check_settings(path: Path, settings: Mapping[str, Any]) -> None:
    """Check that a run with these settings can continue a journal.

    Raises:
        ConfigError: It has other settings, or cannot be understood.
    """
    with path.open("rb") as lines:
        try:
            found = parsed_settings(lines.readline())
        except ValueError:
            raise ConfigError(
                f"{path} is not a journal of blurgate; start anew with --overwrite"
            ) from None
    key = first_difference(found, settings)
    if key is not None:
        raise ConfigError(
            f"cannot resume {path.parent}: it was begun with {key} = {found.get(key)!r}, "
            f"now it is {settings.get(key)!r}; use the same settings or --overwrite"
        )


def read_journal(path: Path) -> tuple[dict[str, Any], dict[str, Any] | None]:
    """Read what a journal of `blurgate filter` says of its run as a whole, not its entries.

    Returns:
        (settings, facts): the facts that `Journal.finish` noted, None if the run is not complete.

    Raises:
        ConfigError: It is no journal.
    """
    with path.open("rb") as lines:
        try:
            settings = parsed_settings(lines.readline(), plain=True)
        except ValueError:
            raise ConfigError(
                f"{path} is not a journal of blurgate; make its folder again with: "
                "blurgate filter --overwrite"
            ) from None
        size = lines.seek(0, os.SEEK_END)
        lines.seek(max(0, size - _END_BYTES))
        return settings, end_of(lines.read())


def end_of(tail: bytes) -> dict[str, Any] | None:
    """Give the facts with which a journal ends, from its last bytes; None if it has none."""
    last = tail[:-1].rpartition(b"\n")[2]
    if not tail.endswith(b"\n") or not last.startswith(b'{"mark"'):
        return None
    facts = (parsed_object(last) or {}).get("end")
    return facts if isinstance(facts, dict) else None


def entries_of(path: Path, whole: Whole) -> Iterator[Entry]:
    """Give every complete source of the journal of a complete run of `blurgate filter`, in order.

    Args:
        path: The journal.
        whole: What the entries have to hold.

    Raises:
        ConfigError: A line is damaged.
    """
    with path.open("rb") as lines:
        lines.readline()
        for number, line in enumerate(lines, 2):
            values = parsed_line(line, whole)
            if values is None:
                raise ConfigError(
                    f"{path} is damaged in line {number}; go on before it with: "
                    "blurgate filter --resume"
                )
            yield from values["done"]


def parsed_settings(line: bytes, *, plain: bool = False) -> dict[str, Any]:
    """Read a journal's first line.

    Args:
        line: The line.
        plain: The journal is one of `blurgate filter`; see `are_plain`.

    Raises:
        ValueError: It is none of ours.
    """
    settings = (parsed_object(line) or {}).get("settings")
    if not isinstance(settings, dict) or (plain and not are_plain(settings)):
        raise ValueError("it holds no settings")
    return settings


def parsed_line(line: bytes, whole: Whole) -> dict[str, Any] | None:
    """Read a line behind a journal's first one; None if it is torn or none of ours."""
    values = parsed_object(line)
    if values is None or not line.endswith(b"\n"):
        return None
    done = values.get("done")
    if not (is_count(values.get("mark")) and isinstance(done, list)):
        return None
    return values if all(isinstance(entry, dict) and whole(entry) for entry in done) else None


def _append_durably(path: Path, size: int, text: str) -> int:
    """Write behind the first bytes of a file, in place of what may follow; give the new size."""
    data = text.encode()
    with naming(path), path.open("r+b") as file:
        file.truncate(size)
        file.seek(size)
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    return size + len(data)
