"""What `blurgate score` does: one table row per face of each picture, in the order of the paths."""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import closing, nullcontext
from dataclasses import dataclass
from importlib.metadata import version
from itertools import groupby
from pathlib import Path
from typing import IO, Final, TypeAlias

from blurgate.errors import ConfigError, DecodeError, InputError
from blurgate.files import first_difference, is_count
from blurgate.finding import find_faces
from blurgate.interfaces import Detector, DetectorOptions, Scalar, Scorer
from blurgate.io.sources import Source, expand, read_sources
from blurgate.io.text import harmless, shown
from blurgate.journal import Entry, Journal
from blurgate.locking import alone_at, check_is_folder
from blurgate.pipeline import cores_for_workers
from blurgate.rowfiles import FORMATS, columns_in, read_table
from blurgate.sharding import Part, PartNote, note_path
from blurgate.spool import Names, Spool, sorted_names
from blurgate.stages import Rule, let_go, ready_crops, route, score
from blurgate.tables import empty_score_row, open_table, score_columns, score_rows
from blurgate.types import RoutedFaces

OnFailure: TypeAlias = Callable[[str, str], None]
STATUSES: Final = ("ok", "no_face", "unreadable")
"""What a picture can come to."""
_KEEP_ALL: Final = Rule(threshold=1.0)
"""`score` decides nothing; it borrows the router for the numbers of each face."""


@dataclass(frozen=True, slots=True)
class FileFaces:
    """What came of one picture."""

    name: str
    status: str
    """ok, no_face or unreadable."""
    faces: RoutedFaces | None
    """None for a picture that cannot be read."""
    error: str = ""
    """Why it cannot be read, in one line."""

    def __len__(self) -> int:
        """Give the number of faces."""
        return 0 if self.faces is None else len(self.faces)

    def rows(self, *, detected: bool) -> Iterator[dict[str, Scalar]]:
        """Make its rows; `detected` is False for ready crops."""
        if self.faces is None:
            yield empty_score_row(self.name, self.status)
        else:
            yield from score_rows(self.faces, detected=detected)


@dataclass(slots=True)
class ScoreCounts:
    """How many files came out how; files of an earlier, resumed run included."""

    total: int = 0
    ok: int = 0
    no_face: int = 0
    unreadable: int = 0
    faces: int = 0

    resumed: int = 0
    """Files of a complete table, of which nothing was left to do."""

    @property
    def done(self) -> int:
        """Files that have their rows."""
        return self.ok + self.no_face + self.unreadable


def list_images(paths: Sequence[str], *, stdin: Iterable[str] | None = None) -> Spool:
    """Find the pictures below some paths, sorted, each once; a million take no more memory.

    Args:
        paths: What `blurgate.io.sources.expand` takes; videos in folders are passed over.
        stdin: Where the paths come from when one of them is "-".

    Raises:
        InputError: A path does not exist, a video or stream is named outright, or there is no
            picture at all.
    """
    found = sorted_names(_images(paths, stdin))
    if not len(found):
        raise InputError(f"{', '.join(paths)} holds no pictures; videos go to: blurgate filter")
    return found


def _images(paths: Sequence[str], stdin: Iterable[str] | None) -> Iterator[str]:
    for path in paths:
        for source in expand([path], stdin=stdin, listed="image"):
            if source.kind == "image":
                yield source.name
            elif source.kind == "live" or source.name == harmless(path, os.sep):
                raise InputError(
                    f"{shown(source.name)} is a video or stream and score takes pictures; "
                    "use: blurgate filter",
                    source=source.name,
                )


def run_score(
    scorer: Scorer,
    detector: Detector | None,
    names: Names,
    *,
    table: str,
    path: Path | None,
    options: DetectorOptions | None = None,
    workers: int = 1,
    resume: bool = False,
    part: Part | None = None,
    kinds: bool = False,
    on_progress: Callable[[ScoreCounts], None] = lambda counts: None,
    on_failure: OnFailure = lambda source, error: None,
) -> ScoreCounts:
    """Score pictures into a table.

    Args:
        scorer: Measures the degrees.
        detector: Finds the faces. None: the pictures are face crops on the ArcFace template and
            are scored as they are.
        names: Paths, sorted, each once; rows come in this order. They are walked through, never
            held.
        table: A registered sink, such as csv.
        path: The table's file, or None for stdout.
        options: What the detector was made with; a resumed run must have the same.
        workers: Threads that read and detect; the rows do not depend on it.
        resume: Continue the table if an earlier run was interrupted; a complete one is left alone.
        part: What `names` is a part of; the complete table then gets a note beside it, by which
            `blurgate merge` knows what belongs together.
        kinds: Also tell the kind of blur, in two more columns; the scorer has to know it.
        on_progress: Called after every picture.
        on_failure: Called with (path, one line) for every picture that cannot be read; those of
            the run that is resumed first.

    Returns:
        The counts; those of a complete table that was to be resumed are taken from its rows.

    Raises:
        ConfigError: What lies at `path` is not a table of this command; the interrupted table had
            other settings or other files; a complete one holds other files; a part that is to be
            resumed has neither a journal nor the note of a complete one; or another run is writing
            to the table.
        KeyboardInterrupt: Passed on; the table is valid and can be resumed.
    """
    counts = ScoreCounts(total=len(names))
    settings = score_settings(scorer, detector, options, table, kinds=kinds)
    todo: Iterable[str] = names
    journal = None
    if path is not None:
        if resume and path.exists() and not journal_path(path).exists():
            if part is not None:
                _check_complete(path, part, settings)
            return _recount(path, table, names, on_failure, kinds=kinds)
        check_target(path, table, f"--{table}")
        path.parent.mkdir(parents=True, exist_ok=True)
    with nullcontext() if path is None else alone_at(path, lock_path(path), f"--{table}"):
        if path is not None:
            note_path(path).unlink(missing_ok=True)
            journal = Journal(journal_path(path), settings, resume=resume, whole=_is_whole)
            todo = _skip_done(names, journal, counts, on_failure)
        scored = score_files(scorer, detector, todo, workers=workers, kinds=kinds)
        mark = journal.mark if journal is not None else None
        with (
            cores_for_workers(),
            open_table(table, path, score_columns(kinds), mark) as sink,
            closing(scored),
        ):
            if journal is not None:
                journal.bind(sink)
            try:
                for file in scored:
                    for row in file.rows(detected=detector is not None):
                        sink.write(row)
                    if file.error:
                        on_failure(file.name, file.error)
                    _count(counts, file.status, len(file))
                    if journal is not None:
                        journal.done({"file": file.name, "status": file.status, "faces": len(file)})
                    on_progress(counts)
            finally:
                if journal is not None:
                    journal.flush()
        if journal is not None and path is not None:
            if part is not None:
                _note(part, settings, path).write(path)
            journal.remove()
    return counts


def score_files(
    scorer: Scorer,
    detector: Detector | None,
    names: Iterable[str],
    *,
    workers: int = 1,
    kinds: bool = False,
) -> Generator[FileFaces, None, None]:
    """Score pictures one after the other; what every engine works with.

    Args:
        scorer: Measures the degrees.
        detector: Finds the faces. None: the pictures are face crops on the ArcFace template.
        names: Paths or addresses, asked for as the work advances.
        workers: Threads that read and detect; the results do not depend on it.
        kinds: Ask for the kind of blur too.

    Yields:
        What came of each, in their order. Closing it stops the threads.
    """
    frames = read_sources((Source(n, "image") for n in names), every=1, workers=workers)
    faces_of = (
        ready_crops(frames) if detector is None else find_faces(frames, detector, workers=workers)
    )
    faces: RoutedFaces | None = None
    scored = score(let_go(faces_of), scorer, workers=workers, kinds=kinds)
    routed = route(scored, _KEEP_ALL)
    with closing(frames), closing(routed) as stream:
        for item in stream:  # a picture's frame and its end make one
            if isinstance(item, RoutedFaces):
                faces = item
            elif faces is not None:
                yield FileFaces(item.source, "ok" if faces.verdicts else "no_face", faces)
                faces = None
            else:
                yield FileFaces(item.source, "unreadable", None, item.error or "cannot be read")


def check_target(path: Path, table: str, option: str) -> None:
    """Refuse to replace anything but a table; a shell gives `--csv *.jpg` a picture.

    Raises:
        ConfigError: There is something else.
    """
    if path.exists() and not path.is_file():
        raise ConfigError(f"{shown(str(path))} is not a regular file; choose another {option}")
    check_is_folder(path.parent, option)
    # A table that was interrupted may have no whole line yet; a journal says that it is one. That
    # of a plugin cannot be read back.
    if table not in FORMATS or not path.exists() or journal_path(path).exists():
        return
    with path.open("rb") as file:
        check_is_table(file, str(path), option)


def check_is_table(file: IO[bytes], name: str, option: str) -> None:
    """Refuse to replace an open file, here or at an address, that is neither a table nor empty.

    Raises:
        ConfigError: It is something else.
    """
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    ours = [column.name for column in score_columns(kinds=False)]
    if size and columns_in(file)[: len(ours)] != ours:
        raise ConfigError(
            f"{shown(name)} is not a table of `blurgate score`; choose another {option}"
        )


def _count(counts: ScoreCounts, status: str, faces: int) -> None:
    setattr(counts, status, getattr(counts, status) + 1)
    counts.faces += faces


def _is_whole(entry: Entry) -> bool:
    return (
        isinstance(entry.get("file"), str)
        and entry.get("status") in STATUSES
        and is_count(entry.get("faces"))
    )


def journal_path(path: Path) -> Path:
    """Give where the journal of a table lies until the table is complete."""
    return path.with_name(path.name + ".journal")


def lock_path(path: Path) -> Path:
    """Give where the lock lies that the run has which writes a table."""
    return path.with_name(path.name + ".lock")


def score_settings(
    scorer: Scorer,
    detector: Detector | None,
    options: DetectorOptions | None,
    table: str,
    *,
    kinds: bool = False,
) -> dict[str, str]:
    """Give everything that the rows depend on, apart from the files."""
    return {
        "version": version("blurgate"),
        "model": str(scorer.info),
        "detector": "none" if detector is None else str(detector.info),
        "detection": "none" if detector is None else repr(options or DetectorOptions()),
        "table": table,
        **({"blur-kind": "yes"} if kinds else {}),
    }


def _skip_done(
    names: Names, journal: Journal, counts: ScoreCounts, on_failure: OnFailure
) -> Iterator[str]:
    """Count the files that the journal holds, and give the others.

    Those of the journal come first and in the same order.
    """
    rest = iter(names)
    for entry in journal.entries():
        if next(rest, None) != entry["file"]:
            raise ConfigError(
                f"cannot resume: the files have changed, {entry['file']!r} is not where it was; "
                "begin anew without --resume"
            )
        _count(counts, entry["status"], entry["faces"])
        _tell_again(entry["file"], entry["status"], on_failure)
    return rest


def _tell_again(name: str, status: str, on_failure: OnFailure) -> None:
    """Name a picture that an earlier run could not read: the exit code of this one tells of it."""
    if status == "unreadable":
        on_failure(name, f"{shown(name)} could not be read before")


def _recount(
    path: Path, table: str, names: Names, on_failure: OnFailure, *, kinds: bool
) -> ScoreCounts:
    """Check that a table without a journal is the complete one of these files, and count them."""
    counts = ScoreCounts(total=len(names), resumed=len(names))
    if table not in FORMATS:  # a plugin's, which cannot be read back
        return counts
    rest = iter(names)
    try:
        rows = read_table(path, score_columns(kinds), "blurgate score", form=table)
        for name, of_file in groupby(rows, key=lambda row: row["file"]):
            if name != next(rest, None):
                raise ConfigError(f"{name!r} is not where it would be now")
            found = list(of_file)
            status = found[0]["status"]
            if status not in STATUSES:
                raise ConfigError(f"{status!r} is not a status")
            _count(counts, status, len(found) if status == "ok" else 0)
            _tell_again(name, status, on_failure)
        if (missing := next(rest, None)) is not None:
            raise ConfigError(f"{missing!r} is missing in it")
    except (ConfigError, DecodeError) as error:
        raise ConfigError(
            f"cannot resume {path}: there is no journal beside it, so that it should be the "
            f"complete table of these files, but {error}; begin anew without --resume"
        ) from None
    return counts


def _note(part: Part, settings: dict[str, str], table: Path) -> PartNote:
    size = table.stat().st_size
    return PartNote(str(part.shard), dict(settings), dict(part.listing), len(part.names), size)


def _check_complete(table: Path, part: Part, settings: dict[str, str]) -> None:
    """Check that a table without a journal is the complete one of a part."""
    found, mine = PartNote.read(table), _note(part, settings, table)
    if found == mine:
        return
    if found is None:
        why = f"{note_path(table).name}, which a complete part has, is not beside it"
    elif (key := first_difference(found.settings, mine.settings)) is not None:
        why = f"it was made with {key} = {found.settings.get(key)!r}"
    elif found.shard != mine.shard:
        why = f"it is part {found.shard}"
    elif found.bytes != mine.bytes:
        why = f"it has {mine.bytes} bytes and had {found.bytes} when it was complete"
    else:
        why = "it was made of another list of files"
    raise ConfigError(f"cannot resume {table}: {why}; begin anew without --resume")
