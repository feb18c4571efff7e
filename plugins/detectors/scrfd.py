"""`scrfd`: the SCRFD face detectors of InsightFace, in any of their ONNX exports with landmarks.

Boxes and landmarks equal insightface's own runner on the same weights and the same canvas, but for
its scale: it has one for both axes, and the picture's sides are rounded apart
(docs/decisions/0020-two-scales.md). The canvas is smaller, because it follows the picture's shape.
A picture at least twice as large as the canvas is halved first (0023-halved-first.md).
What the file declares decides how it is called:

- Height and width free: the picture's longer side becomes `DetectorOptions.long_side`.
- Height and width fixed: the file runs at exactly its size. A `long_side` that is neither the
  default nor the file's own longer side is a contradiction, and an error.
- Batch fixed at 1, as in the released files: one picture per call. Batch free: pictures of one
  canvas size run together, once a probe has shown how the file lays their results out.

Small faces and very large ones are then searched once more (`looks`); the equality above is that of
the first search.
"""

from __future__ import annotations

import logging
import math
import threading
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from typing import Any, Final, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from blurgate.errors import ConfigError, WeightsError
from blurgate.geometry import Letterbox, fit_canvas, fit_long_side, nms
from blurgate.hookspecs import hookimpl
from blurgate.interfaces import DetectorOptions, ModelFile, ModelInfo, Register, Runtime
from blurgate.pixels import shrink
from blurgate.plugins.detectors.looks import (
    CLOSER_LEAST,
    CLOSER_SIDE,
    RETRY_LEAST,
    RETRY_SCALE,
    cut_outs,
    large_faces,
    with_closer,
    with_large,
)
from blurgate.plugins.detectors.scrfd_file import ANCHORS, BATCH, COLUMNS, STRIDES, ScrfdFile
from blurgate.types import F32, U8, Detections, Frame

__all__ = ["ANCHORS", "BATCH", "COLUMNS", "NMS_IOU", "STRIDES", "Rows", "Scrfd"]

logger = logging.getLogger(__name__)

NMS_IOU: Final = 0.4


class Rows(NamedTuple):
    """What every anchor says: stride by stride, cell by cell in rows, a cell's small anchor first.

    In pixels, float32.
    """

    scores: F32
    """(r,), in [0, 1]."""
    boxes: F32
    """(r, 4), x1 y1 x2 y2."""
    kps: F32
    """(r, 5, 2)."""
    watched: Sequence[F32] = ()
    """What `Scrfd.watch` asked for, in its order."""


class Scrfd:
    """Finds faces with an SCRFD file.

    Safe to call from several threads at once.

    Args:
        model: The ONNX file.
        runtime: Device and threads.
        options: Size of the search and the least confidence.

    Raises:
        WeightsError: The file is not an SCRFD with five landmarks.
        ConfigError: The options are impossible or contradict the file's fixed size.
    """

    def __init__(self, model: ModelFile, runtime: Runtime, options: DetectorOptions) -> None:
        if options.long_side < STRIDES[-1]:
            raise ConfigError(f"the detector's long side is at least 32, not {options.long_side}")
        if not 0 < options.min_score <= 1:
            raise ConfigError(f"the detector's least score is in (0, 1], not {options.min_score}")
        self.info: ModelInfo = model.info
        self.path = model.path
        self._options = options
        self._file = ScrfdFile(model.path, runtime)
        self._fixed = self._file.size
        self._check_options()
        self._buffers = threading.local()

    def __call__(self, frames: Sequence[Frame], /) -> list[Detections]:
        """Find the faces of each frame, highest score first."""
        return self._with_large(
            self._search(frames, 1.0) if self._fixed is not None else self._closer(frames)
        )

    def _with_large(self, found: list[Detections]) -> list[Detections]:
        if max(self._fixed or (self._options.long_side,)) * RETRY_SCALE < RETRY_LEAST:
            return found
        large = [large_faces(faces, self._scale(faces.frame)) for faces in found]
        unsure = [i for i, faces in enumerate(found) if not len(faces) or large[i].any()]
        again = self._search([found[i].frame for i in unsure], RETRY_SCALE)
        for i, faces in zip(unsure, again, strict=True):
            found[i] = with_large(found[i], faces, large[i])
        return found

    def _closer(self, frames: Sequence[Frame]) -> list[Detections]:
        """Search frames, and each small face once more."""
        found = self._search(frames, 1.0, min(self._options.min_score, CLOSER_LEAST))
        sure = self._options.min_score
        cuts = [cut_outs(faces, self._scale(faces.frame), sure) for faces in found]
        parts = [cut.frame for part in cuts for cut in part]
        seen = iter(self._search(parts, CLOSER_SIDE / self._options.long_side, CLOSER_LEAST))
        return [
            self._sure(with_closer(faces, part, list(islice(seen, len(part)))))
            for faces, part in zip(found, cuts, strict=True)
        ]

    def _sure(self, faces: Detections) -> Detections:
        """Leave out what scores too little, and what means the same face as a surer one."""
        sure = faces.det_scores >= self._options.min_score
        boxes, scores, kps = faces.boxes[sure], faces.det_scores[sure], faces.kps[sure]
        kept = nms(boxes, scores, NMS_IOU, inclusive=True)
        return Detections(faces.frame, boxes[kept], scores[kept], kps[kept])

    def _scale(self, frame: Frame) -> float:
        """Give the pixels of the first search's canvas per pixel of a frame, on the larger axis."""
        return max(self._fit(frame, 1.0).scale)

    def watch(self, names: Sequence[str]) -> None:
        """Let `rows` give what flows between nodes of the file, by the names that it has there.

        Raises:
            WeightsError: The file has no such name.
        """
        self._file.watch(names)

    def rows(self, picture: U8) -> Rows:
        """Give what every anchor says of a picture as large as it is, nothing suppressed.

        It is what another network can learn to say: see `blurgate.training.detection.distil`.

        Args:
            picture: (h, w, 3) uint8 BGR, h and w multiples of 32.

        Raises:
            ConfigError: The picture has another size than the file's own.
        """
        h, w = picture.shape[:2]
        if self._fixed is not None and self._fixed != (h, w):
            own = "x".join(map(str, self._fixed))
            raise ConfigError(
                f"{self.path} is fixed at {own}, so it cannot teach pictures of {h}x{w}"
            )
        frame = Frame(picture, "", 0, None)
        blob = self._blob([(frame, Letterbox((h, w), (h, w), (1.0, 1.0)))])
        outputs, watched = self._file.run(blob)
        placed = [
            _place(distances[0], offsets[0], np.arange(distances.shape[1]), stride, w)
            for distances, offsets, stride in zip(outputs[3:6], outputs[6:], STRIDES, strict=True)
        ]
        boxes, kps = (np.concatenate(part) for part in zip(*placed, strict=True))
        scores = np.concatenate([out[0, :, 0] for out in outputs[:3]])
        return Rows(scores, boxes, kps, watched)

    def _search(
        self, frames: Sequence[Frame], scale: float, least: float | None = None
    ) -> list[Detections]:
        """Find what scores at least so much, `DetectorOptions.min_score` if it is not said."""
        least = self._options.min_score if least is None else least
        boxes = [self._fit(frame, scale) for frame in frames]
        groups: dict[tuple[int, int], list[int]] = defaultdict(list)
        for i, box in enumerate(boxes):
            groups[box.canvas].append(i)
        step = self._file.most
        found: dict[int, Detections] = {}
        for members in groups.values():
            for start in range(0, len(members), step):
                part = members[start : start + step]
                outputs, _ = self._file.run(self._blob([(frames[i], boxes[i]) for i in part]))
                for nth, i in enumerate(part):
                    own = [out[nth] for out in outputs]
                    found[i] = self._decode(own, frames[i], boxes[i], least)
        return [found[i] for i in range(len(frames))]

    def _fit(self, frame: Frame, scale: float) -> Letterbox:
        if self._fixed is None:
            long_side = max(round(self._options.long_side * scale), 1)
            return fit_long_side(frame.size, long_side, multiple=STRIDES[-1])
        h, w = self._fixed
        inner = fit_canvas(frame.size, (max(round(h * scale), 1), max(round(w * scale), 1)))
        return Letterbox(self._fixed, inner.inner, inner.scale)

    def _blob(self, pictures: Sequence[tuple[Frame, Letterbox]]) -> F32:
        """Make the (n, 3, h, w) float32 RGB input of pictures that share one canvas size.

        It lies in memory that the thread's next call uses again: fresh memory of this size costs
        several times as much as the work, because the system hands it out page by page.
        """
        shape = len(pictures), *pictures[0][1].canvas, 3
        values = math.prod(shape)
        if getattr(self._buffers, "values", 0) < values:
            self._buffers.values = values
            self._buffers.canvas = np.empty(values, np.uint8)
            self._buffers.blob = np.empty(values, np.float32)
        canvas: U8 = self._buffers.canvas[:values].reshape(shape)
        blob: F32 = self._buffers.blob[:values].reshape(shape[0], 3, *shape[1:3])
        for (frame, box), out in zip(pictures, canvas, strict=True):
            h, w = box.inner
            shrink(frame, out[:h, :w])
            out[h:] = 0
            out[:h, w:] = 0
        for picture, planes in zip(canvas, blob, strict=True):
            for plane, out in zip(cv2.split(picture)[::-1], planes, strict=True):
                # (value - 127.5) / 128 in one pass; both are exact in float32.
                made = cv2.addWeighted(
                    plane, 1 / 128, plane, 0.0, -127.5 / 128, dst=out, dtype=cv2.CV_32F
                )
                if made is not out:
                    out[:] = made
        return blob

    def _decode(
        self, outputs: Sequence[F32], frame: Frame, box: Letterbox, least: float
    ) -> Detections:
        """Turn the nine (rows, columns) outputs for one picture into its faces."""
        scores, placed = [], []
        for level, stride in enumerate(STRIDES):
            level_scores = outputs[level][:, 0]
            rows = np.flatnonzero(level_scores >= least)
            if not len(rows):
                continue
            scores.append(level_scores[rows])
            distances, offsets = outputs[level + 3][rows], outputs[level + 6][rows]
            placed.append(_place(distances, offsets, rows, stride, box.canvas[1]))
        if not scores:
            return _no_faces(frame)
        score = np.concatenate(scores)
        boxes, kps = (np.concatenate(part) for part in zip(*placed, strict=True))
        scale = np.array(box.scale, np.float32)
        with np.errstate(over="ignore"):
            boxes /= np.tile(scale, 2)
            kps /= scale
        usable = self._usable(score, boxes, kps)
        score, boxes, kps = score[usable], boxes[usable], kps[usable]
        kept = nms(boxes, score, NMS_IOU, inclusive=True)
        return Detections(frame, boxes[kept], score[kept], kps[kept])

    def _usable(self, scores: F32, boxes: F32, kps: F32) -> Any:
        """Mark the predictions that are numbers and have an extent."""
        numbers = np.isfinite(scores)
        if (scores[numbers] > 1).any():
            raise WeightsError(
                f"{self.path} gives scores above 1: it was exported without its sigmoid",
                path=str(self.path),
            )
        finite = numbers & np.isfinite(boxes).all(axis=1) & np.isfinite(kps).all(axis=(1, 2))
        if not finite.all():
            logger.debug("%s: %d faces that are not numbers", self.path, (~finite).sum())
        return finite & (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])

    def _check_options(self) -> None:
        if self._fixed is None:
            return
        h, w = self._fixed
        if self._options.long_side not in (DetectorOptions().long_side, max(h, w)):
            raise ConfigError(
                f"{self.path} is fixed at {h}x{w}, so a long side of {self._options.long_side} is "
                f"not possible; leave it out, or use a file whose height and width are free"
            )
        logger.info("%s runs at its fixed size %dx%d", self.path, h, w)


def _place(
    distances: F32, offsets: F32, rows: NDArray[np.intp], stride: int, width: int
) -> tuple[F32, F32]:
    """Turn predictions of one stride into boxes (n, 4) and landmarks (n, 5, 2) on the canvas.

    Args:
        distances: (n, 4) to the sides of the boxes, in strides.
        offsets: (n, 10) of the landmarks, in strides.
        rows: (n,) which predictions they are.
        stride: Pixels per cell.
        width: Of the canvas, in pixels.
    """
    y, x = np.divmod(rows // ANCHORS, width // stride)
    step = np.float32(stride)
    centre = np.stack([x, y], axis=1).astype(np.float32) * step
    with np.errstate(over="ignore", invalid="ignore"):  # what is not finite is dropped later
        sides = distances * step
        boxes: F32 = np.concatenate([centre - sides[:, :2], centre + sides[:, 2:]], axis=1)
        kps: F32 = (offsets * step).reshape(-1, 5, 2) + centre[:, None]
    return boxes, kps


def _no_faces(frame: Frame) -> Detections:
    empty = np.empty(0, np.float32)
    return Detections(frame, empty.reshape(0, 4), empty, empty.reshape(0, 5, 2))


def _make(model: ModelFile | None, runtime: Runtime, options: DetectorOptions) -> Scrfd:
    if model is None:
        raise WeightsError("the detector 'scrfd' runs a file; name it: --detector path/to/it.onnx")
    return Scrfd(model, runtime, options)


@hookimpl
def register_detectors(register: Register) -> None:
    """Register `scrfd`."""
    register("scrfd", _make)
