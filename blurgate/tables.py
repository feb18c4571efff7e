"""The tables that commands write: their columns and how rows are made.

The columns are a promise to other tools (docs/cli.md); their order never changes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from blurgate.errors import blamed
from blurgate.files import is_count
from blurgate.host import get_host
from blurgate.interfaces import Column, Scalar, Sink
from blurgate.types import RoutedFaces, Verdict

FACES_COLUMNS: Final = (
    Column("source", str),
    Column("frame", int),
    Column("time_s", float),
    Column("face", int),
    Column("track", int),
    Column("x1", float),
    Column("y1", float),
    Column("x2", float),
    Column("y2", float),
    Column("det_score", float),
    Column("face_px", float),
    Column("blur_degree", float),
    Column("decision", str),
    Column("reason", str),
    Column("crop", str),
)
"""faces.csv of `blurgate filter`: one row per detected face."""

KIND_COLUMNS: Final = (Column("blur_kind", str), Column("blur_angle", float))
"""At the end of a row with `--blur-kind`."""


def faces_columns(kinds: bool) -> tuple[Column, ...]:
    """Give the columns of faces.csv, with or without the kind of blur."""
    return FACES_COLUMNS + (KIND_COLUMNS if kinds else ())


SCORE_COLUMNS: Final = (
    Column("file", str),
    Column("face", int),
    Column("x1", float),
    Column("y1", float),
    Column("x2", float),
    Column("y2", float),
    Column("det_score", float),
    Column("face_px", float),
    Column("blur_degree", float),
    Column("status", str),
)
"""The table of `blurgate score`: one row per face, one for a file without any."""


def score_columns(kinds: bool) -> tuple[Column, ...]:
    """Give the columns of `blurgate score`, with or without the kind of blur."""
    return SCORE_COLUMNS + (KIND_COLUMNS if kinds else ())


def open_table(
    format_name: str, path: Path | None, columns: tuple[Column, ...], mark: int | None
) -> Sink:
    """Make the sink of a format.

    Args:
        format_name: A registered sink, such as csv.
        path: The file, or None for stdout.
        columns: The table's columns.
        mark: Where an interrupted table is continued; None begins a new one.

    Raises:
        UnknownNameError: Nobody registered the format.
        PluginError: Its plugin makes no sink.
    """
    entry = get_host().registry("sink")[format_name]
    sink: Sink = entry.make(path, columns, mark)
    with blamed("sink", format_name):
        if not hasattr(sink, "__enter__"):
            raise TypeError(f"it made {type(sink).__name__}, which is not a sink")
    # What ours meet are the faults of the file or of stdout, whose reader may have left.
    return sink if entry.distribution == "blurgate" else _PluginSink(sink, format_name)


class _PluginSink:
    """A sink of a plugin, which is named when it fails."""

    def __init__(self, sink: Sink, name: str) -> None:
        self._made = self._open = sink
        self._name = name

    def __enter__(self) -> Self:
        with blamed("sink", self._name):
            self._open = self._made.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
        /,
    ) -> None:
        with blamed("sink", self._name):
            self._made.__exit__(kind, error, trace)

    def write(self, row: Mapping[str, Scalar], /) -> None:
        with blamed("sink", self._name):
            self._open.write(row)

    def mark(self) -> int:
        with blamed("sink", self._name):
            mark = self._open.mark()
            if not is_count(mark):  # the journal would be worth nothing
                raise TypeError(f"its mark is {mark!r}, not an int from 0 on")
            return mark

    def sync(self) -> None:
        with blamed("sink", self._name):
            self._open.sync()


def faces_row(verdict: Verdict, crop: str) -> dict[str, Scalar]:
    """Make a row of faces.csv; `crop` is the crop's path relative to the folder, or empty."""
    x1, y1, x2, y2 = verdict.box
    return {
        "source": verdict.source,
        "frame": verdict.frame_index,
        "time_s": verdict.pts_s,
        "face": verdict.face_index,
        "track": verdict.track,
        "x1": x1,
        "y1": y1,
        "x2": x2,
        "y2": y2,
        "det_score": verdict.det_score,
        "face_px": verdict.face_px,
        "blur_degree": verdict.blur_degree,
        "decision": verdict.decision,
        "reason": verdict.reason,
        "crop": crop,
        **_kind(verdict),
    }


def _kind(verdict: Verdict) -> dict[str, Scalar]:
    if verdict.blur_kind is None:
        return {}
    return {"blur_kind": verdict.blur_kind.kind, "blur_angle": verdict.blur_kind.angle}


def score_rows(faces: RoutedFaces, *, detected: bool) -> Iterator[dict[str, Scalar]]:
    """Make the rows of one image; a single `no_face` row where there is none.

    Args:
        faces: The image's faces.
        detected: False for ready crops: their rows have no box and no det_score.
    """
    if not faces.verdicts:
        yield empty_score_row(faces.frame.source, "no_face")
    for verdict in faces.verdicts:
        row = faces_row(verdict, "")
        yield {
            **{column.name: row.get(column.name) for column in SCORE_COLUMNS},
            "file": verdict.source,
            "status": "ok",
            **({} if detected else dict.fromkeys(("x1", "y1", "x2", "y2", "det_score"))),
            **_kind(verdict),
        }


def empty_score_row(file: str, status: str) -> dict[str, Scalar]:
    """Make the row of a file that gave no face."""
    nothing: Mapping[str, Scalar] = dict.fromkeys(column.name for column in score_columns(True))
    return {**nothing, "file": file, "status": status}
