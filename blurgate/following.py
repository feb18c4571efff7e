"""Faces between two detections: followed by optical flow, and looked for again where that fails.

Of a stretch of frames the first and the last have been searched by the detector (they are its key
frames). Points on the faces of the first are followed through the frames in between (Lucas and
Kanade, "An iterative image registration technique with an application to stereo vision", 1981, in
pyramids as of Bouguet, 2001) on small grey pictures; each face's points give a similarity
transform, which carries its box and landmarks. Where they arrive at the last frame is compared with
what the detector found there:

- All faces arrive and nothing else was found: what the landmarks are off at the end is spread over
  the frames in between, in proportion to the distance, and the stretch is settled.
- A face came, went, turned, or its points got lost: the frame in the middle becomes a key frame,
  and both halves are treated in the same way. In the worst case every frame is searched.

At a scene cut the frames on both sides become key frames at once. A stretch in which nothing moves
keeps what was found at its beginning. All this depends on the frames alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray

from blurgate.geometry import fit_long_side, iou
from blurgate.pixels import grey
from blurgate.profiling import timed
from blurgate.types import F32, U8, Detections, Frame

GREY_SIDE: Final = 640
"""Longer side of the grey pictures in pixels; smaller frames are not enlarged."""
WINDOW: Final = 15
LEVELS: Final = 3
"""Side of the windows that are compared, in pixels of the grey picture, and pyramid levels."""
LEAST_POINTS: Final = 0.5
"""Share of a face's points that must be followed all the way."""
MOST_DRIFT: Final = 0.12
"""How far from the detector's landmarks a followed face may arrive, in face widths (mean of 5)."""
MOST_RESIDUAL: Final = 0.06
"""How far a face's points may lie from its transform, in face widths (median)."""
LEAST_IOU: Final = 0.5
CUT_LEVELS: Final = 30.0
"""A mean change of brightness from one frame to the next above this is a scene cut."""
CALM_LEVELS: Final = 1.5
"""Where no block of the picture changes by more than this on average, nothing moves."""
_BLOCK: Final = 16

_Complex = NDArray[np.complex64]


class Stretch:
    """Consecutive frames of one source, with the small grey pictures that following needs.

    Args:
        frames: At least one, all of one size for following to take place.
    """

    def __init__(self, frames: Sequence[Frame]) -> None:
        self.frames = frames
        h, w = frames[0].size
        fitted = fit_long_side((h, w), min(GREY_SIDE, max(h, w)))
        self._small = fitted.inner
        self._scale: F32 = np.array(fitted.scale, np.float32)
        self._greys: dict[int, U8] = {}
        self._flows: dict[int, list[tuple[F32, NDArray[np.bool_]]]] = {}

    @property
    def uniform(self) -> bool:
        """Whether all frames have one size."""
        return all(frame.size == self.frames[0].size for frame in self.frames)

    def grey(self, index: int) -> U8:
        """Give the small grey picture of a frame; made once."""
        if index not in self._greys:
            with timed("convert"):
                self._greys[index] = grey(self.frames[index], self._small)
        return self._greys[index]

    def calm(self) -> bool:
        """Tell whether nothing moves from the first frame to the last."""
        h, w = self._small
        blocks = (max(w // _BLOCK, 1), max(h // _BLOCK, 1))
        for index in range(1, len(self.frames)):
            change = cv2.absdiff(self.grey(0), self.grey(index))
            if cv2.resize(change, blocks, interpolation=cv2.INTER_AREA).max() > CALM_LEVELS:
                return False
        return True

    def cuts(self) -> list[int]:
        """Give the frames before which the scene changes."""
        return [
            index
            for index in range(1, len(self.frames))
            if cv2.norm(self.grey(index), self.grey(index - 1), cv2.NORM_L1)
            > CUT_LEVELS * self.grey(index).size
        ]

    def flow(self, key: int, points: F32, index: int) -> tuple[F32, NDArray[np.bool_]]:
        """Follow points from one frame to a later one.

        Args:
            key: Where they are followed from. What was followed before is kept, so that a key
                always has to come with the same points.
            points: (k, 2) float32 xy in pixels of the picture.
            index: Where they are wanted.

        Returns:
            (k, 2) float32 xy in pixels of the picture, and (k,) bool: not lost on the way.
        """
        steps = self._flows.setdefault(key, [(points * self._scale, np.ones(len(points), bool))])
        while len(steps) <= index - key:
            now = key + len(steps)
            before, alive = steps[-1]
            after, found, _ = cv2.calcOpticalFlowPyrLK(
                self.grey(now - 1),
                self.grey(now),
                before[:, None],
                np.empty(0, np.float32),
                winSize=(WINDOW, WINDOW),
                maxLevel=LEVELS,
            )
            steps.append((after[:, 0].astype(np.float32), alive & (found[:, 0] > 0)))
        placed, alive = steps[index - key]
        return placed / self._scale, alive


def follow(
    stretch: Stretch,
    first: Detections,
    last: Detections,
    detect: Callable[[Frame], Detections],
) -> list[Detections]:
    """Find the faces of all frames of a stretch.

    Args:
        stretch: Its first and last frame have been searched.
        first: What was found in the first.
        last: What was found in the last.
        detect: Searches one frame; called where following is not certain.

    Returns:
        One `Detections` per frame of the stretch; those of the first and last are the given ones.
    """
    end = len(stretch.frames) - 1
    found = {0: first, end: last}

    def search(index: int) -> None:
        if index not in found:
            found[index] = detect(stretch.frames[index])

    if not stretch.uniform:
        for index in range(end):
            search(index)
        return [found[index] for index in range(end + 1)]
    with timed("follow"):
        cuts = stretch.cuts()
    scenes = zip([0, *cuts], [*(cut - 1 for cut in cuts), end], strict=True)
    # A function that calls itself would hold the frames until the garbage collector comes by.
    unsettled = list(scenes)[::-1]
    while unsettled:
        start, stop = unsettled.pop()
        search(start)
        search(stop)
        if stop - start < 2:
            continue
        with timed("follow"):
            between = _between(stretch, start, stop, found[start], found[stop])
        if between is not None:
            found.update(zip(range(start + 1, stop), between, strict=True))
            continue
        middle = (start + stop) // 2
        unsettled += [(middle, stop), (start, middle)]
    return [found[index] for index in range(end + 1)]


def _between(
    stretch: Stretch, start: int, stop: int, first: Detections, last: Detections
) -> list[Detections] | None:
    """Give the faces of the frames between two key frames; None where that is not certain."""
    frames = stretch.frames[start + 1 : stop]
    if len(first) != len(last):
        return None
    if not len(first):
        return [carried(first, frame) for frame in frames]
    points = _points(first.kps)
    followed = [stretch.flow(start, points.reshape(-1, 2), i) for i in range(start + 1, stop + 1)]
    n, k = points.shape[:2]
    placed = np.stack([p.reshape(n, k, 2) for p, _ in followed])
    alive = followed[-1][1].reshape(n, k)
    if (alive.mean(axis=1) < LEAST_POINTS).any():
        return None
    widths = np.maximum(first.boxes[:, 2] - first.boxes[:, 0], 1)
    moves, residuals = _similarities(_complex(points), _complex(placed), alive)
    if (residuals > MOST_RESIDUAL * widths).any():
        return None
    boxes, kps = moves.boxes(first.boxes), moves.points(first.kps)
    partner = _partners(boxes[-1], last.boxes)
    if partner is None:
        return None
    late_kps = last.kps[partner] - kps[-1]
    if (np.linalg.norm(late_kps, axis=2).mean(axis=1) > MOST_DRIFT * widths).any():
        return None
    late_boxes = last.boxes[partner] - boxes[-1]
    result = []
    for nth, frame in enumerate(frames):
        share = np.float32((nth + 1) / (stop - start))
        scores = first.det_scores + share * (last.det_scores[partner] - first.det_scores)
        order = np.argsort(-scores, kind="stable")
        result.append(
            Detections(
                frame,
                (boxes[nth] + share * late_boxes)[order].astype(np.float32),
                scores[order].astype(np.float32),
                (kps[nth] + share * late_kps)[order].astype(np.float32),
            )
        )
    return result


def carried(found: Detections, frame: Frame) -> Detections:
    """Say of a frame what was found in another."""
    return Detections(frame, found.boxes, found.det_scores, found.kps)


def _points(kps: F32) -> F32:
    """Choose the points to follow: (n, 5, 2) landmarks -> (n, 12, 2), where faces have texture."""
    left, right, nose, mouth_left, mouth_right = kps.swapaxes(0, 1)
    more = [
        (left + nose) / 2,
        (right + nose) / 2,
        (nose + mouth_left) / 2,
        (nose + mouth_right) / 2,
        (mouth_left + mouth_right) / 2,
        left + (left - nose) * np.float32(0.4),  # the eyebrows
        right + (right - nose) * np.float32(0.4),
    ]
    return np.concatenate([kps, np.stack(more, axis=1)], axis=1).astype(np.float32)


def _complex(points: F32) -> _Complex:
    return np.asarray(points[..., 0] + 1j * points[..., 1], np.complex64)


@dataclass(frozen=True, slots=True)
class _Moves:
    """Similarity transforms z -> factor * z + shift of n faces in t frames, (t, n) complex."""

    factor: _Complex
    shift: _Complex

    def points(self, points: F32) -> F32:
        """Carry (n, k, 2) points; gives (t, n, k, 2)."""
        moved = self.factor[..., None] * _complex(points) + self.shift[..., None]
        return np.stack([moved.real, moved.imag], axis=-1).astype(np.float32)

    def boxes(self, boxes: F32) -> F32:
        """Carry and scale (n, 4) boxes, which stay upright; gives (t, n, 4)."""
        middles: F32 = ((boxes[:, :2] + boxes[:, 2:]) / 2).astype(np.float32)
        centres = self.points(middles[:, None])[:, :, 0]
        halves = np.abs(self.factor)[..., None] * (boxes[:, 2:] - boxes[:, :2]) / 2
        return np.concatenate([centres - halves, centres + halves], axis=-1).astype(np.float32)


def _similarities(
    source: _Complex, placed: _Complex, alive: NDArray[np.bool_]
) -> tuple[_Moves, NDArray[Any]]:
    """Fit each face's transform in each frame, twice: the second time without stray points.

    Shape:
        source (n, k), placed (t, n, k), alive (n, k) -> transforms (t, n), residuals (n,), the
        largest over the frames of the median distance of a face's points from where they should be
    """
    weights = np.broadcast_to(alive, placed.shape).astype(np.float32)
    moves, distances = _fit(source, placed, weights)
    middle = np.nanmedian(np.where(weights > 0, distances, np.nan), axis=2)
    near = distances <= np.maximum(2 * middle, 0.5)[..., None]
    moves, _ = _fit(source, placed, weights * near)
    return moves, middle.max(axis=0)


def _fit(source: _Complex, placed: _Complex, weights: F32) -> tuple[_Moves, F32]:
    total = np.maximum(weights.sum(axis=2), 1e-6)
    mean = (weights * source).sum(axis=2) / total
    target = (weights * placed).sum(axis=2) / total
    s, d = source - mean[..., None], placed - target[..., None]
    spread = np.maximum((weights * np.abs(s) ** 2).sum(axis=2), 1e-6)
    factor = (weights * s.conj() * d).sum(axis=2) / spread
    shift = target - factor * mean
    distances = np.abs(factor[..., None] * source + shift[..., None] - placed)
    moves = _Moves(factor.astype(np.complex64), shift.astype(np.complex64))
    return moves, distances.astype(np.float32)


def _partners(arrived: F32, detected: F32) -> NDArray[np.intp] | None:
    """Find for each face that arrived the detected one that it is; None unless all pair up."""
    overlaps = iou(arrived, detected)
    partner: NDArray[np.intp] = overlaps.argmax(axis=1)
    if len(set(partner.tolist())) < len(partner):
        return None
    if (overlaps[np.arange(len(partner)), partner] < LEAST_IOU).any():
        return None
    return partner
