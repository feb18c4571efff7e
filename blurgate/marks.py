"""What was decided about the faces of one source, kept on disk until its pictures are drawn."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from dataclasses import asdict
from typing import IO

import numpy as np

from blurgate.drawing import Mark


class Marks:
    """Faces of a video in the order of frames; an hour of them takes no memory.

    The file has no name, so that nothing is left of it whatever happens.
    """

    def __init__(self) -> None:
        self._file: IO[str] = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115

    def close(self) -> None:
        """Forget the faces, and let the file go."""
        self._file.close()

    def add(self, mark: Mark) -> None:
        """Note a face that has been decided about."""
        kps = [round(float(v), 2) for v in mark.kps.reshape(-1)]
        self._file.write(json.dumps({**asdict(mark), "kps": kps}) + "\n")

    def clear(self) -> None:
        """Forget the faces: a new source begins."""
        self._file.seek(0)
        self._file.truncate()

    def __iter__(self) -> Iterator[Mark]:
        """Give the faces; one walk at a time."""
        self._file.seek(0)
        for line in self._file:
            facts = json.loads(line)
            kps = np.array(facts["kps"], np.float32).reshape(5, 2)
            yield Mark(**{**facts, "box": tuple(facts["box"]), "kps": kps})
        self._file.seek(0, 2)
