"""What becomes of the faces of one source after another: rows, pictures, drawn and cut videos."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Self

import av

from blurgate.annotating import annotate_image, annotate_video, cut_video
from blurgate.annotating import output_name as output_name_of
from blurgate.bestshot import BestShots, Row
from blurgate.crops import ANNOTATED, CUT, CropStyle, crop_name, cut_crop, save_crop
from blurgate.drawing import Mark
from blurgate.errors import NO_ROOM, ConfigError, InputError
from blurgate.interfaces import Sink
from blurgate.io.sources import Source
from blurgate.io.text import reason, shown
from blurgate.marks import Marks
from blurgate.profiling import timed
from blurgate.tables import faces_row
from blurgate.types import RoutedFaces, Verdict


@dataclass(frozen=True, slots=True)
class Outputs:
    """Where a run writes, and what."""

    folder: Path
    _: KW_ONLY
    table: str = "csv"
    crops: CropStyle = "aligned"
    """Which pictures of faces are written."""
    keep_rejected: bool = False
    """Write those of rejected faces too."""
    resume: bool = False
    overwrite: bool = False
    best_shot: int = 0
    """How many faces of a track pass at most; 0: all that the rule lets through."""
    annotate: bool = False
    """Draw into a copy of each source."""
    cut: bool = False
    """Write each video shortened to its kept faces."""
    cut_pad_s: float = 0.5
    """What stays around them."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.best_shot < 0:
            raise ConfigError(f"best-shot must be at least 0, got {self.best_shot}")
        if not 0 <= self.cut_pad_s < float("inf"):
            raise ConfigError(f"cut-pad must be a time in seconds, got {self.cut_pad_s:g}")


class FaceWriter:
    """Writes the faces of sources, in the order of frames.

    Args:
        outputs: Where to write, and what.
        table: Gets a row per face.
        on_verdict: Called with each verdict when it is final.
        every: Frames 0, N, 2N, ... were looked at.
        threshold: Shown in drawn videos.
    """

    def __init__(
        self,
        outputs: Outputs,
        table: Sink,
        on_verdict: Callable[[Verdict], None],
        *,
        every: int,
        threshold: float,
    ) -> None:
        self._outputs = outputs
        self._table = table
        self._on_verdict = on_verdict
        self._best = BestShots(outputs.best_shot, self._lost) if outputs.best_shot else None
        self._every = every
        self._threshold = threshold
        self._marks: Marks | None = None
        self._picture: str | None = None  # the drawn one, if the source is a picture
        self._problems: list[str] = []

    def __enter__(self) -> Self:
        """Make room for the faces that are to be drawn."""
        if self._outputs.annotate or self._outputs.cut:
            self._marks = Marks()
        return self

    def __exit__(self, *exc: object) -> None:
        """Give the room back."""
        if self._marks is not None:
            self._marks.close()

    def add(self, faces: RoutedFaces) -> None:
        """Take the faces of the next frame."""
        rows = [self._row(faces, verdict) for verdict in faces.verdicts]
        tracks = faces.scored.faces.tracks
        if self._best is None or tracks is None:
            self._write(rows)
        else:
            self._write(self._best.add(rows, tracks.ended))
        if self._outputs.annotate and tracks is None:
            self._picture = ""
            name = output_name_of(ANNOTATED, faces.frame.source, ".jpg")
            target = self._outputs.folder / name
            with self._making(faces.frame.source, target):
                annotate_image(faces.frame.image, (_mark(row) for row in rows), target)
                self._picture = name

    def undecided(self) -> list[str]:
        """Name the pictures that `finish_rows` may write, relative to the folder."""
        names = []
        for row in self._best.held if self._best is not None else ():
            if row.pixels is not None:
                names.append(crop_name(row.verdict))
                if row.waits and self._outputs.keep_rejected:
                    names.append(crop_name(replace(row.verdict, decision="reject")))
        return names

    def finish_rows(self) -> None:
        """Write the rows that are still held back: the source has ended, or the run has."""
        if self._best is not None:
            self._write(self._best.finish())

    def finish(self, source: Source, *, readable: bool = True) -> tuple[dict[str, str], str]:
        """End a source.

        Args:
            source: The source.
            readable: Whether a frame of it could be read; nothing can be drawn otherwise.

        Returns:
            (made, problem): what was made of it as a whole, entries for the summary with paths
            relative to the folder; and one line about what could not be made, or nothing.
        """
        self.finish_rows()
        made = {ANNOTATED: self._picture or ""} if self._outputs.annotate else {}
        is_video = source.kind == "video" and self._picture is None
        if self._marks is not None and is_video and readable:
            if self._outputs.annotate:
                name = output_name_of(ANNOTATED, source.name, ".mp4")
                target = self._outputs.folder / name
                with self._making(source.name, target):
                    if annotate_video(
                        source.name, self._marks, target,
                        threshold=self._threshold, every=self._every,
                    ):  # fmt: skip
                        made[ANNOTATED] = name
            if self._outputs.cut:
                name = output_name_of(CUT, source.name, ".mp4")
                target, made[CUT] = self._outputs.folder / name, ""
                with self._making(source.name, target):
                    if cut_video(source.name, self._marks, target, pad_s=self._outputs.cut_pad_s):
                        made[CUT] = name
        if self._marks is not None:
            self._marks.clear()
        problem = "; ".join(dict.fromkeys(self._problems))  # both may fail for one reason
        self._picture, self._problems = None, []
        return made, problem

    @contextmanager
    def _making(self, source: str, target: Path) -> Iterator[None]:
        """Note what keeps a file from being made of a source; the other sources go on.

        A full disk is not the source's fault, and ends the run.
        """
        try:
            with timed("draw"):
                yield
        except InputError as error:
            self._problems.append(f"{shown(source)}: {error}")
        except av.FFmpegError as error:
            if error.errno in NO_ROOM:
                raise
            what = f"cannot write {target.name}: {reason(error)}"
            self._problems.append(f"{shown(source)}: {what}")

    def _row(self, faces: RoutedFaces, verdict: Verdict) -> Row:
        kps = faces.scored.faces.detections.kps[verdict.face_index]
        wanted = self._outputs.keep_rejected or verdict.decision != "reject"
        pixels = cut_crop(faces, verdict, self._outputs.crops) if wanted else None
        if pixels is not None and self._best is not None:
            pixels = pixels.copy()  # a view would hold the whole frame
        return Row(verdict, kps, pixels)

    def _lost(self, row: Row) -> None:
        """Let go of a picture as soon as its face has lost."""
        if row.pixels is not None and self._outputs.keep_rejected:
            row.crop = save_crop(self._outputs.folder, row.verdict, row.pixels)
        row.pixels = None

    def _write(self, rows: Iterable[Row]) -> None:
        """Write rows and their pictures."""
        for row in rows:
            if row.pixels is not None:
                row.crop = save_crop(self._outputs.folder, row.verdict, row.pixels)
            self._table.write(faces_row(row.verdict, row.crop))
            self._on_verdict(row.verdict)
            if self._marks is not None:
                self._marks.add(_mark(row))


def _mark(row: Row) -> Mark:
    v = row.verdict
    return Mark(
        *(v.frame_index, v.pts_s, v.box, row.kps, v.blur_degree, v.decision, v.reason, v.track)
    )
