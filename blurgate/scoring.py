"""What `blurgate score` does: one table row per face of each picture, in the order of the paths."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Final

from blurgate.errors import ConfigError, InputError
from blurgate.interfaces import Detector, DetectorOptions, Scorer
from blurgate.io.sources import Source, expand, read_sources
from blurgate.journal import Journal
from blurgate.stages import Rule, find_faces, ready_crops, route, score
from blurgate.tables import SCORE_COLUMNS, empty_score_row, open_table, score_rows
from blurgate.types import RoutedFaces, SourceEnd

_KEEP_ALL: Final = Rule(threshold=1.0)
"""`score` decides nothing; it borrows the router for the numbers of each face."""


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

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "I/N".

        >>> Shard.parse("2/10")
        Shard(index=2, count=10)
        """
        index, slash, count = text.partition("/")
        if not (slash and index.isdecimal() and count.isdecimal()):
            raise ConfigError(f"--shard {text}: write it as I/N, such as 2/10")
        return cls(int(index), int(count))


@dataclass(slots=True)
class ScoreCounts:
    """How many files came out how; files of an earlier, resumed run included."""

    total: int = 0
    ok: int = 0
    no_face: int = 0
    unreadable: int = 0
    faces: int = 0

    @property
    def done(self) -> int:
        """Files that have their rows."""
        return self.ok + self.no_face + self.unreadable


def list_images(paths: Sequence[str], *, stdin: Iterable[str] | None = None) -> list[str]:
    """Find the pictures below some paths, sorted, each once.

    Args:
        paths: What `blurgate.io.sources.expand` takes; videos in folders are passed over.
        stdin: Where the paths come from when one of them is "-".

    Raises:
        InputError: A path does not exist, a video or stream is named outright, or there is no
            picture at all.
    """
    found: set[str] = set()
    for path in paths:
        sources = list(expand([path], stdin=stdin))
        if any(source.kind != "image" and source.name == path for source in sources):
            raise InputError(
                f"{path} is a video or stream and score takes pictures; use: blurgate filter",
                source=path,
            )
        found.update(source.name for source in sources if source.kind == "image")
    if not found:
        raise InputError(f"{', '.join(paths)} holds no pictures; videos go to: blurgate filter")
    return sorted(found)


def run_score(
    scorer: Scorer,
    detector: Detector | None,
    names: Sequence[str],
    *,
    table: str,
    path: Path | None,
    options: DetectorOptions | None = None,
    workers: int = 1,
    resume: bool = False,
    on_progress: Callable[[ScoreCounts], None] = lambda counts: None,
    on_failure: Callable[[str, str], None] = lambda source, error: None,
) -> ScoreCounts:
    """Score pictures into a table.

    Args:
        scorer: Measures the degrees.
        detector: Finds the faces. None: the pictures are face crops on the ArcFace template and
            are scored as they are.
        names: Paths, sorted; rows come in this order.
        table: A registered sink, such as csv.
        path: The table's file, or None for stdout.
        options: What the detector was made with; a resumed run must have the same.
        workers: Threads that read and detect; the rows do not depend on it.
        resume: Continue the table if an earlier run was interrupted; a complete one is left alone.
        on_progress: Called after every picture.
        on_failure: Called with (path, one line) for every picture that cannot be read.

    Returns:
        The counts; `done` is 0 when a complete table was to be resumed.

    Raises:
        ConfigError: The interrupted table had other settings or other files.
        KeyboardInterrupt: Passed on; the table is valid and can be resumed.
    """
    counts = ScoreCounts(total=len(names))
    journal = None
    if path is not None:
        if resume and path.exists() and not _journal_path(path).exists():
            return counts
        journal = Journal(
            _journal_path(path), _settings(scorer, detector, options, table), resume=resume
        )
        _skip_done(names, journal, counts)
    sources = (Source(name, "image") for name in islice(names, counts.done, None))
    frames = read_sources(sources, every=1, workers=workers)
    faces_of = (
        ready_crops(frames) if detector is None else find_faces(frames, detector, workers=workers)
    )
    stream = route(score(faces_of, scorer), _KEEP_ALL)
    mark = journal.mark if journal is not None else None
    with open_table(table, path, SCORE_COLUMNS, mark) as sink:
        if journal is not None:
            journal.bind(sink)
        try:
            for name, status, faces in _files(stream, on_failure):
                if faces is None:
                    sink.write(empty_score_row(name, status))
                else:
                    for row in score_rows(faces, detected=detector is not None):
                        sink.write(row)
                _count(counts, status, len(faces) if faces is not None else 0)
                if journal is not None:
                    journal.done({"file": name, "status": status, "faces": len(faces or ())})
                on_progress(counts)
        finally:
            stream.close()
            if journal is not None:
                journal.flush()
    if journal is not None:
        journal.remove()
    return counts


def _files(
    stream: Iterator[RoutedFaces | SourceEnd], on_failure: Callable[[str, str], None]
) -> Iterator[tuple[str, str, RoutedFaces | None]]:
    """Give (path, status, faces) of each picture: its frame and its end make one."""
    faces: RoutedFaces | None = None
    for item in stream:
        if isinstance(item, RoutedFaces):
            faces = item
        elif faces is not None:
            yield item.source, "ok" if faces.verdicts else "no_face", faces
            faces = None
        else:
            on_failure(item.source, item.error)
            yield item.source, "unreadable", None


def _count(counts: ScoreCounts, status: str, faces: int) -> None:
    setattr(counts, status, getattr(counts, status) + 1)
    counts.faces += faces


def _journal_path(path: Path) -> Path:
    return path.with_name(path.name + ".journal")


def _settings(
    scorer: Scorer, detector: Detector | None, options: DetectorOptions | None, table: str
) -> dict[str, str]:
    """Give everything that the rows depend on, apart from the files."""
    return {
        "version": version("blurgate"),
        "model": str(scorer.info),
        "detector": "none" if detector is None else str(detector.info),
        "detection": "none" if detector is None else repr(options or DetectorOptions()),
        "table": table,
    }


def _skip_done(names: Sequence[str], journal: Journal, counts: ScoreCounts) -> None:
    """Count the files that the journal holds; they come first and in the same order."""
    for entry in journal.entries():
        if counts.done >= len(names) or names[counts.done] != entry["file"]:
            raise ConfigError(
                f"cannot resume: the files have changed, {entry['file']!r} is not where it was; "
                "begin anew without --resume"
            )
        _count(counts, entry["status"], entry["faces"])
