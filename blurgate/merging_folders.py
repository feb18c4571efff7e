"""Joining the folders of `blurgate filter --shard`: table, pictures, journal and summary."""

from __future__ import annotations

import heapq
import json
import math
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from operator import itemgetter
from pathlib import Path
from typing import Any, Final, Literal, TypeAlias, get_args

from blurgate.counting import Progress, count, is_whole, summary
from blurgate.crops import VIDEO_FOLDERS
from blurgate.errors import ConfigError, DecodeError
from blurgate.files import is_count, write_atomically
from blurgate.folders import SUMMARY
from blurgate.interfaces import Column
from blurgate.io.text import digest, shown
from blurgate.journal import JOURNAL, Entry, Journal, entries_of, read_journal
from blurgate.locking import alone_at, check_is_folder
from blurgate.rowfiles import FORMATS, Row, read_table, rows_path
from blurgate.sharding import check_set
from blurgate.tables import faces_columns, open_table

How: TypeAlias = Literal["copy", "move", "link"]
HOWS: Final[tuple[str, ...]] = get_args(How)
MADE_BY: Final = "blurgate filter"
HEAD: Final = ("version", "model", "detector", "threshold", "threshold_profile")
"""Keys of summary.json that parts have in common."""
_AGAIN: Final = "finish it with: blurgate filter --resume"


@dataclass(slots=True)
class _Folder:
    """A complete part."""

    path: Path
    table: Path
    shard: str
    settings: dict[str, Any]
    """Without the shard."""
    end: dict[str, Any]
    rows: Iterator[Row] = field(init=False)

    def __post_init__(self) -> None:
        """Begin reading the table."""
        self.rows = read_table(self.table, self.columns, MADE_BY)

    @property
    def columns(self) -> tuple[Column, ...]:
        """The columns of its table."""
        return faces_columns(bool(self.settings.get("blur-kind")))


def is_filter_folder(path: Path) -> bool:
    """Tell whether `blurgate filter` wrote a folder."""
    return (path / JOURNAL).is_file()


def merge_folders(parts: Sequence[Path], out: Path, *, files: How = "copy") -> Progress:
    """Join folders of `blurgate filter --shard`.

    The joined folder is what one run without `--shard` writes; only `elapsed_s` of summary.json is
    the sum over the parts, which may have run side by side, and `frames_per_s` goes by it. It is
    made beside `out` and appears whole. An interrupted merge is repeated, with any `files`: what
    was moved before stays where it is, and all else is done again.

    Args:
        parts: All of them, in any order.
        out: The joined folder; must not exist, or be empty.
        files: What becomes of the pictures and videos: copy, move, or link (a second name for the
            same file, on the same file system).

    Returns:
        The counts.

    Raises:
        ConfigError: A part is not complete, or the parts overlap, do not belong together or are
            not all there; each is named. Or `out` is in use, maybe by another run, or below a file.
        DecodeError: A part's table does not hold what its journal says.
    """
    if files not in HOWS:
        raise ConfigError(f"--files {files}: choose one of {', '.join(HOWS)}")
    check_is_folder(out)
    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out} is in use; choose another --out")
    found = _whole_set(parts)
    out.parent.mkdir(parents=True, exist_ok=True)
    with alone_at(out, out.with_name(f".{out.name}.lock"), "--out"):
        return _join(found, out, files)


def _join(found: Sequence[_Folder], out: Path, files: How) -> Progress:
    copied = out.with_name(f".{out.name}.merging")
    shutil.rmtree(copied, ignore_errors=True)
    # What an interrupted merge moved is nowhere else: it is never deleted, and only parts of the
    # same settings and list of sources go on with it.
    key = _digest([found[0].settings, found[0].end.get("listing")])
    moved = out.with_name(f".{out.name}.{key}.moving")
    temporary = moved if files == "move" or moved.exists() else copied
    temporary.mkdir(parents=True, exist_ok=True)
    progress = _write(found, temporary)
    for part in found:
        _place_files(part, temporary, files)
    if out.exists():
        out.rmdir()
    temporary.replace(out)
    return progress


def joined_key(parts: Sequence[Path]) -> str:
    """Give what tells the folder that these parts join to from any other.

    Raises:
        ConfigError: As in `merge_folders`.
    """
    found = sorted(_whole_set(parts), key=lambda part: part.shard)
    return _digest([found[0].settings, *(part.end for part in found)])


def counts_of(joined: Path) -> Progress:
    """Give the counts of a folder that `merge_folders` made."""
    progress = Progress()
    for entry in entries_of(joined / JOURNAL, partial(is_whole, placed=False)):
        count(progress, entry)
    return progress


def delete_files(parts: Sequence[Path]) -> None:
    """Delete the pictures and videos of parts: they are elsewhere now."""
    for part in map(_opened, parts):
        for name in _files_of(part):
            (part.path / name).unlink(missing_ok=True)


def _whole_set(paths: Sequence[Path]) -> list[_Folder]:
    """Open the parts, and check that they make a whole."""
    found = [_opened(path) for path in paths]
    check_set(
        [str(part.path) for part in found],
        [part.shard for part in found],
        [part.settings for part in found],
        [part.end.get("listing", {}) for part in found],
    )
    return found


def _digest(facts: list[Any]) -> str:
    return digest(json.dumps(facts, sort_keys=True))


def _opened(path: Path) -> _Folder:
    """Look whether a folder is a complete part."""
    if not is_filter_folder(path):
        raise ConfigError(f"{path} is not a folder of blurgate filter: it holds no {JOURNAL}")
    settings, end = read_journal(path / JOURNAL)
    shard = settings.pop("shard", None)
    if shard is None:
        raise ConfigError(f"{path} was made without --shard; it is not part of anything")
    if end is None or not _is_end(end):
        raise ConfigError(f"{path} is not complete; {_AGAIN}")
    form = settings.get("table")
    if form not in FORMATS:
        raise ConfigError(f"{path}: tables of the format {form!r} cannot be joined")
    table = path / f"faces.{form}"
    if not table.is_file() or rows_path(table).exists():
        raise ConfigError(
            f"{path} is not complete: {table.name} is missing or unfinished; {_AGAIN}"
        )
    return _Folder(path, table, str(shard), settings, end)


def _is_end(facts: dict[str, Any]) -> bool:
    """Whether what a run noted at its end can be used."""
    seconds = facts.get("elapsed_s", 0.0)
    return isinstance(facts.get("listing", {}), dict) and (
        is_count(seconds) or (type(seconds) is float and math.isfinite(seconds))
    )


def _write(parts: Sequence[_Folder], folder: Path) -> Progress:
    """Write table, journal and summary."""
    first = parts[0]
    progress = Progress()
    elapsed_s = sum(float(part.end.get("elapsed_s", 0.0)) for part in parts)
    streams = [_places(part, index) for index, part in enumerate(parts)]
    target = folder / first.table.name
    with open_table(str(first.settings["table"]), target, first.columns, None) as table:
        journal = Journal(
            folder / JOURNAL, first.settings, resume=False, whole=partial(is_whole, placed=False)
        )
        journal.bind(table)
        expected = 0
        for position, index, entry in heapq.merge(*streams, key=itemgetter(0, 1)):
            if position != expected:
                raise ConfigError(
                    f"source {expected} of the list is in no part, or in two; "
                    f"next is {shown(entry['source'])} of {parts[index].path}"
                )
            for row in _rows_of(parts[index], entry, folder):
                table.write(row)
            journal.done(entry)
            count(progress, entry)
            expected += 1
        listed = first.end.get("listing", {}).get("files")
        if listed is not None and expected != listed:
            raise ConfigError(f"the list had {listed} sources and the parts hold {expected}")
        for part in parts:
            if next(part.rows, None) is not None:
                raise DecodeError(f"{part.table} holds rows of sources that its journal lacks")
        progress.elapsed_s = round(elapsed_s, 3)
        head: dict[str, Any] = {key: first.end[key] for key in HEAD if key in first.end}
        journal.finish({**head, "elapsed_s": progress.elapsed_s})
    pieces = summary(head, journal.entries(), progress)
    write_atomically(folder / SUMMARY, pieces)
    return progress


def _places(part: _Folder, index: int) -> Iterator[tuple[int, int, Entry]]:
    """Give (place in the whole list, index, entry) of each source of a part."""
    for entry in _entries_of(part):
        yield entry.pop("position"), index, entry


def _entries_of(part: _Folder) -> Iterator[Entry]:
    return entries_of(part.path / JOURNAL, partial(is_whole, placed=True))


def _rows_of(part: _Folder, entry: Entry, folder: Path) -> Iterator[Row]:
    """Give the rows of a source, and check that they and their pictures are there."""
    n_rows = 0
    for row in islice(part.rows, entry["faces"]):
        n_rows += 1
        if row["source"] != entry["source"]:
            raise DecodeError(
                f"{part.table} does not follow its journal: a row of {shown(row['source'])} stands "
                f"where those of {shown(entry['source'])} belong",
                source=str(part.table),
            )
        _check_there(part, row["crop"] or "", folder)
        yield row
    if n_rows != entry["faces"]:
        raise DecodeError(
            f"{part.table} ends early: {n_rows} of {entry['faces']} rows of "
            f"{shown(entry['source'])}; {_AGAIN}",
            source=str(part.table),
        )
    for kind in VIDEO_FOLDERS:
        _check_there(part, entry.get(kind) or "", folder)


def _check_there(part: _Folder, name: str, folder: Path) -> None:
    if name and not (part.path / name).is_file() and not (folder / name).is_file():
        raise ConfigError(f"{part.path} is not complete: {shown(name)} is missing")


def _place_files(part: _Folder, folder: Path, how: How) -> None:
    """Bring the pictures and videos of a part over; those that were moved before are left."""
    place = _PLACERS[how]
    for name in _files_of(part):
        source, target = part.path / name, folder / name
        if not source.exists() and target.exists():
            continue
        target.parent.mkdir(exist_ok=True)
        target.unlink(missing_ok=True)  # an interrupted merge may have left half of it, or a link
        try:
            place(source, target)
        except OSError as error:
            if how != "link":
                raise
            raise ConfigError(
                f"{source} cannot be linked to {target.parent} ({error.strerror}); "
                "use --files copy or --files move"
            ) from error


def _files_of(part: _Folder) -> Iterator[str]:
    for row in read_table(part.table, part.columns, MADE_BY):
        if row["crop"]:
            yield _inside(row["crop"])
    for entry in _entries_of(part):
        yield from (_inside(entry[kind]) for kind in VIDEO_FOLDERS if entry.get(kind))


def _inside(name: str) -> str:
    """Refuse a path that leaves the folder; a table can have been written by anyone."""
    if Path(name).is_absolute() or ".." in Path(name).parts or ":" in name:
        raise DecodeError(f"{shown(name)} is not a path inside a folder of blurgate filter")
    return name


_PLACERS: Final[dict[How, Callable[[Path, Path], object]]] = {
    "copy": shutil.copyfile,
    "move": shutil.move,
    "link": os.link,
}
