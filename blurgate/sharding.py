"""Parts of a run over many machines: what belongs to one, and how it is known to be complete.

`--shard I/N` takes the files whose path's checksum is I - 1 modulo N. Every machine looks at the
whole list and keeps a digest of it, so that parts which saw different files can be told apart.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Final

from blurgate.errors import ConfigError
from blurgate.files import are_plain, first_difference, is_count, write_json
from blurgate.io.text import shown
from blurgate.spool import Names, Spool

NOTE_SUFFIX: Final = ".part.json"
"""The note of a complete part lies beside its table, as `<table>.part.json`."""
_LONGEST: Final = 40
"""Characters of an "I/N"; Python makes no numbers of thousands of digits."""


@dataclass(frozen=True, slots=True)
class Shard:
    """A deterministic part of the files: those whose path's checksum is `index` modulo `count`.

    It depends on the path alone, so a file stays in its part when others are added or removed.
    """

    index: int
    count: int

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.index <= self.count:
            raise ConfigError(
                f"--shard {self.index}/{self.count}: I/N needs 1 <= I <= N, such as 2/10"
            )

    def __contains__(self, name: str) -> bool:
        """Whether a path belongs to this part."""
        checksum = zlib.crc32(name.encode("utf-8", "surrogateescape"))
        return checksum % self.count == self.index - 1

    def __str__(self) -> str:
        """Give "I/N"."""
        return f"{self.index}/{self.count}"

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "I/N".

        >>> Shard.parse("2/10")
        Shard(index=2, count=10)
        """
        index, slash, count = text.partition("/")
        number = len(text) <= _LONGEST and index.isdecimal() and count.isdecimal()
        if not (slash and number):
            raise ConfigError(f"--shard {shown(text)}: write it as I/N, such as 2/10")
        return cls(int(index), int(count))


class Census:
    """Counts the names that are walked through, and takes their digest."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()
        self._files = 0

    def add(self, name: str) -> None:
        """Take the next name."""
        data = name.encode("utf-8", "surrogateescape")
        self._hash.update(len(data).to_bytes(8, "little") + data)
        self._files += 1

    def result(self) -> dict[str, Any]:
        """Give {files, sha256} of the names so far."""
        return {"files": self._files, "sha256": self._hash.hexdigest()}


@dataclass(frozen=True, slots=True)
class Part:
    """One part of a list of names."""

    shard: Shard
    names: Names
    """Those of the part, in the order of the list."""
    listing: Mapping[str, Any]
    """{files, sha256} of the whole list."""


def part_of(names: Iterable[str], shard: Shard) -> Part:
    """Take a part of a list; walks through it once."""
    census = Census()

    def mine() -> Iterator[str]:
        for name in names:
            census.add(name)
            if name in shard:
                yield name

    kept = Spool(mine())
    return Part(shard, kept, census.result())


@dataclass(frozen=True, slots=True)
class PartNote:
    """What a complete part says about itself."""

    shard: str
    settings: dict[str, Any]
    """Everything that the rows depend on."""
    listing: dict[str, Any]
    """{files, sha256} of all files, those of the other parts included."""
    files: int
    """Files of this part."""
    bytes: int
    """Length of the table."""
    format: str = field(default="blurgate part 1")

    def write(self, table: Path) -> None:
        """Put the note beside its table."""
        write_json(note_path(table), asdict(self))

    @classmethod
    def read(cls, table: Path) -> PartNote | None:
        """Read the note of a table; None if it has none.

        Raises:
            ConfigError: What lies there is no such note.
        """
        path = note_path(table)
        try:
            facts = json.loads(path.read_bytes())
            note = cls(**facts) if _is_note(facts) else None
        except FileNotFoundError:
            return None
        except (ValueError, TypeError, RecursionError):
            note = None
        if note is None:
            raise ConfigError(
                f"{shown(str(path))} is not the note of a part that this version can read; "
                "score that part again"
            )
        return note


def _is_note(facts: Any) -> bool:
    """Whether what a file holds has the shape of a note; `PartNote` checks the names."""
    return (
        isinstance(facts, dict)
        and facts.get("format") == "blurgate part 1"
        and isinstance(facts.get("shard"), str)
        and are_plain(facts.get("settings"))
        and isinstance(facts.get("listing"), dict)
        and all(is_count(facts.get(name)) for name in ("files", "bytes"))
    )


def note_path(table: Path) -> Path:
    """Give where the note of a table lies."""
    return table.with_name(table.name + NOTE_SUFFIX)


def check_set(
    names: Sequence[str],
    shards: Sequence[str],
    settings: Sequence[Mapping[str, Any]],
    listings: Sequence[Mapping[str, Any]],
) -> None:
    """Check that parts belong together and that none is missing or there twice.

    Args:
        names: What the parts are called, for messages.
        shards: Each part's "I/N".
        settings: Each part's settings, without the shard.
        listings: Each part's digest of the whole list.

    Raises:
        ConfigError: They do not make a whole; one line that names the parts.
    """
    for name, mine in zip(names, settings, strict=True):
        key = first_difference(settings[0], mine)
        if key is not None:
            raise ConfigError(
                f"{shown(name)} was made with {key} = {mine.get(key)!r} and {shown(names[0])} with "
                f"{settings[0].get(key)!r}; score it again with the same settings"
            )
    parsed = [_shard_of(name, text) for name, text in zip(names, shards, strict=True)]
    for name, shard in zip(names, parsed, strict=True):
        if shard.count != parsed[0].count:
            raise ConfigError(
                f"{shown(name)} is part {shard} and {shown(names[0])} part {parsed[0]}; "
                "parts of different divisions cannot be joined"
            )
    for name, listing in zip(names, listings, strict=True):
        if dict(listing) != dict(listings[0]):
            raise ConfigError(
                f"{shown(name)} was made of another list of files than {shown(names[0])} "
                f"({listing.get('files')} and {listings[0].get('files')} files); "
                "give every part the same list"
            )
    of: dict[int, str] = {}
    for name, shard in zip(names, parsed, strict=True):
        if shard.index in of:
            raise ConfigError(f"{shown(of[shard.index])} and {shown(name)} are both part {shard}")
        of[shard.index] = name
    count = parsed[0].count
    if n_missing := count - len(of):
        missing = islice((f"{i}/{count}" for i in range(1, count + 1) if i not in of), 8)
        more = f" and {n_missing - 8} more" if n_missing > 8 else ""
        raise ConfigError(f"parts are missing: {', '.join(missing)}{more}")


def _shard_of(name: str, text: str) -> Shard:
    try:
        return Shard.parse(text)
    except ConfigError as error:
        raise ConfigError(f"{shown(name)} is damaged: {error}; make it again") from None
