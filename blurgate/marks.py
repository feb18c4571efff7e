"""What was decided about the faces of one source, kept on disk until its pictures are drawn."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from typing import IO, Self

import numpy as np

from blurgate.bestshot import Row
from blurgate.drawing import Mark


class Marks:
    """Faces of a video in the order of frames; an hour of them takes no memory.

    The file has no name, so that nothing is left of it whatever happens.
    """

    def __init__(self) -> None:
        self._file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115

    def __enter__(self) -> Self:
        """Nothing is left to open."""
        return self

    def __exit__(self, *exc: object) -> None:
        """Forget the faces."""
        self._file.close()

    def add(self, row: Row) -> None:
        """Note a face that has been decided about."""
        verdict = row.verdict
        kps = [round(float(v), 2) for v in row.kps.reshape(-1)]
        values = [
            *(verdict.frame_index, verdict.pts_s, verdict.box, kps),
            *(verdict.blur_degree, verdict.decision, verdict.reason, verdict.track),
        ]
        self._file.write(json.dumps(values) + "\n")

    def clear(self) -> None:
        """Forget the faces: a new source begins."""
        self._file.seek(0)
        self._file.truncate()

    def __iter__(self) -> Iterator[Mark]:
        """Give the faces; one walk at a time."""
        self._file.seek(0)
        for line in self._file:
            frame, pts_s, box, kps, degree, decision, reason, track = json.loads(line)
            marks = np.array(kps, np.float32).reshape(5, 2)
            yield Mark(frame, pts_s, tuple(box), marks, degree, decision, reason, track)
        self._file.seek(0, 2)
