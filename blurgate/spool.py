"""Lists of names that may have more entries than memory should hold.

A million paths are some 150 MB as Python strings and more than twice that while they are sorted.
What goes beyond a first stretch lies in a temporary file of JSON lines, which holds any file name,
line ends and bytes that are not UTF-8 included, and is read as often as it is asked for.
"""

from __future__ import annotations

import heapq
import json
import os
import tempfile
import weakref
from collections.abc import Iterable, Iterator
from itertools import groupby
from pathlib import Path
from typing import IO, Final, Protocol

IN_MEMORY: Final = 100_000
"""So many names are held in memory: about 15 MB."""
_MOST_RUNS: Final = 64
"""Sorted runs that are merged at a time; each is an open file."""


class Names(Protocol):
    """What can be counted and walked through more than once: a list, or a `Spool`."""

    def __len__(self) -> int:
        """Give the number of names."""
        ...

    def __iter__(self) -> Iterator[str]:
        """Walk through them from the first."""
        ...


class Spool:
    """Strings in the order in which they came.

    Args:
        texts: The strings.
        in_memory: How many of them stay in memory; the others go to a file that is deleted with
            this object.

    >>> list(Spool(["b", "a"])), len(Spool(["b", "a"], in_memory=1))
    (['b', 'a'], 2)
    """

    def __init__(self, texts: Iterable[str] = (), *, in_memory: int = IN_MEMORY) -> None:
        self._first: list[str] = []
        self._path: Path | None = None
        self._length = 0
        file: IO[str] | None = None
        try:
            for text in texts:
                self._length += 1
                if file is None and len(self._first) < in_memory:
                    self._first.append(text)
                    continue
                if file is None:
                    file = self._begin()
                file.write(json.dumps(text) + "\n")
        finally:
            if file is not None:
                file.close()

    def _begin(self) -> IO[str]:
        handle, name = tempfile.mkstemp(prefix="blurgate-", suffix=".names")
        self._path = Path(name)
        weakref.finalize(self, _delete, self._path)
        return os.fdopen(handle, "w", encoding="ascii")

    def __len__(self) -> int:
        """Give the number of strings."""
        return self._length

    def __iter__(self) -> Iterator[str]:
        """Walk through them from the first; several walks may be under way."""
        yield from self._first
        if self._path is not None:
            with self._path.open(encoding="ascii") as lines:
                yield from map(json.loads, lines)


def _delete(path: Path) -> None:
    try:
        path.unlink()
    except OSError:  # Windows keeps a file while somebody reads it; the system clears its folder
        return


def sorted_names(names: Iterable[str], *, in_memory: int = IN_MEMORY) -> Spool:
    """Sort names by code point and leave out repetitions, in bounded memory.

    >>> list(sorted_names(["b", "a", "c", "a"], in_memory=2))
    ['a', 'b', 'c']
    """
    runs: list[Spool] = []
    chunk: list[str] = []
    for name in names:
        chunk.append(name)
        if len(chunk) >= in_memory:
            runs.append(Spool(sorted(chunk), in_memory=0))
            chunk = []
        if len(runs) >= _MOST_RUNS:
            runs = [Spool(heapq.merge(*runs), in_memory=0)]
    merged = heapq.merge(*runs, sorted(chunk))
    return Spool((name for name, _ in groupby(merged)), in_memory=in_memory)
