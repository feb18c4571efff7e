"""Linking the faces of a video into tracks: one number per person and appearance.

The association follows ByteTrack (Zhang et al., "ByteTrack: Multi-Object Tracking by Associating
Every Detection Box", ECCV 2022): each track predicts where its face will be, the confident
detections choose first, then the faint ones continue what is left. Instead of the overlap of boxes
alone, the five landmarks count as much: they stay apart when two boxes cover each other, and meet
when a box has jumped. What differs from the paper, and why, is in docs/tracking.md.

Everything here depends on the frames alone, in their order: the same tracks whatever the number of
workers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Final

import numpy as np

from blurgate.assignment import pair_up
from blurgate.geometry import iou
from blurgate.scenecut import is_cut, thumbnail
from blurgate.types import F64, U8, Detections, FaceBatch, Frame, SourceEnd, Stream, Tracks

CONFIDENT: Final = 0.6
"""Detections of this score or more choose their tracks first."""
GAP_S: Final = 1.0
"""How long a track waits for its face to come back..."""
GAP_FRAMES: Final = 2
"""...and for at least how many frames that were looked at, which matters with `--every`."""
LONGEST_GAP_S: Final = 5.0
"""...and after how long it never does."""
FRAME_S: Final = 1 / 25
"""Stands for the time between two frames of a video that states no times."""

_VELOCITY_GAIN: Final = 0.5  # of an alpha-beta filter whose alpha is 1: detectors are precise
_VELOCITY_S: Final = FRAME_S / 4  # frames of uneven clocks, milliseconds apart, show no speed
_COASTING_S: Final = 0.5  # a face that is not seen slows down with this time constant
_REACH: Final = 0.75  # how far landmarks may be from where they should be, in face sizes,
_REACH_PER_S: Final = 1.5  # growing with the time since the face was seen,
_REACH_MAX: Final = 1.5  # up to this
_SIZE_RATIO: Final = 2.0  # a face does not double its size between two frames


@dataclass(slots=True)
class _Track:
    number: int
    box: F64  # (4,) where it was seen last
    kps: F64  # (5, 2)
    velocity: F64  # (2,) pixels per second
    seen_s: float
    missed: int = 0  # frames since
    age: int = 1  # times seen

    def shift(self, now_s: float) -> F64:
        """How far the face has moved since it was seen, (2,) in pixels; its motion dies out."""
        passed = now_s - self.seen_s
        return self.velocity * float(_COASTING_S * (1 - np.exp(-passed / _COASTING_S)))

    def seen(self, box: F64, kps: F64, now_s: float) -> None:
        if now_s > self.seen_s:
            passed = max(now_s - self.seen_s, _VELOCITY_S)
            moved = (box[:2] + box[2:] - self.box[:2] - self.box[2:]) / 2
            gain = 1.0 if self.age == 1 else _VELOCITY_GAIN
            self.velocity = self.velocity + gain * (moved / passed - self.velocity)
        self.box, self.kps, self.seen_s = box, kps, now_s
        self.missed, self.age = 0, self.age + 1


class Tracker:
    """Gives the faces of one video their numbers, from 1 in the order of appearance.

    A number is never used again within a source. Memory does not grow with the video: a track that
    has ended is forgotten.
    """

    def __init__(self) -> None:
        self._tracks: list[_Track] = []
        self._next = 1
        self._now_s = 0.0
        self._thumbnail: U8 | None = None

    def update(self, detections: Detections) -> Tracks:
        """Link the faces of the next frame.

        Args:
            detections: The faces of a frame that comes after all that were given before.

        Returns:
            The number of each face, and those of the tracks that ended before this frame.
        """
        frame = detections.frame
        before_s, self._now_s = self._now_s, seconds(frame.pts_s, frame.index)
        cut = self._scene_ended(frame, has_faces=len(detections) > 0) or self._now_s < before_s
        ended = [track.number for track in self._tracks if cut or self._is_over(track)]
        self._tracks = [track for track in self._tracks if track.number not in ended]
        ids = self._link(detections)
        return Tracks(ids, tuple(ended))

    def _scene_ended(self, frame: Frame, *, has_faces: bool) -> bool:
        """Look for a cut, where there is a track that could run across it."""
        if not self._tracks and not has_faces:
            self._thumbnail = None
            return False
        before, self._thumbnail = self._thumbnail, thumbnail(frame)
        return bool(self._tracks) and before is not None and is_cut(before, self._thumbnail)

    def _is_over(self, track: _Track) -> bool:
        gap_s = self._now_s - track.seen_s
        return gap_s > LONGEST_GAP_S or (gap_s > GAP_S and track.missed > GAP_FRAMES)

    def _link(self, detections: Detections) -> tuple[int, ...]:
        boxes = detections.boxes.astype(np.float64)
        kps = detections.kps.astype(np.float64)
        ids = np.zeros(len(boxes), int)
        confident = detections.det_scores >= CONFIDENT
        free = list(self._tracks)
        for faces in (np.flatnonzero(confident), np.flatnonzero(~confident)):
            pairs = pair_up(self._likeness(free, boxes[faces], kps[faces]))
            for row, column in pairs:
                track, face = free[row], faces[column]
                track.seen(boxes[face], kps[face], self._now_s)
                ids[face] = track.number
            taken = {row for row, _ in pairs}
            free = [track for row, track in enumerate(free) if row not in taken]
        for track in free:
            track.missed += 1
        for face in np.flatnonzero(ids == 0):
            ids[face] = self._next
            self._next += 1
            fresh = _Track(int(ids[face]), boxes[face], kps[face], np.zeros(2), self._now_s)
            self._tracks.append(fresh)
        return tuple(int(number) for number in ids)

    def _likeness(self, tracks: list[_Track], boxes: F64, kps: F64) -> F64:
        """Compare predictions with detections; (tracks, faces), 0 where they cannot be one face."""
        if not tracks or not len(boxes):
            return np.zeros((len(tracks), len(boxes)))
        shifts = np.array([track.shift(self._now_s) for track in tracks])
        there = np.array([track.box for track in tracks]) + np.tile(shifts, 2)
        marks = np.array([track.kps for track in tracks]) + shifts[:, None]
        passed = self._now_s - np.array([track.seen_s for track in tracks])
        reach = np.minimum(_REACH + _REACH_PER_S * passed, _REACH_MAX)[:, None]
        old, new = _size(there)[:, None], _size(boxes)[None]
        apart = np.linalg.norm(marks[:, None] - kps[None], axis=-1).mean(-1)
        near = 1 - apart / (reach * (old + new) / 2)
        fits = (near > 0) & (np.maximum(old, new) <= _SIZE_RATIO * np.minimum(old, new))
        overlap = iou(there.astype(np.float32), boxes.astype(np.float32))
        return np.where(fits, (near + overlap) / 2, 0.0)


def link_faces(faces: Iterable[FaceBatch | SourceEnd]) -> Stream[FaceBatch]:
    """Number the faces of every video; pictures, which are sources of one frame, get no tracks.

    Yields:
        One `FaceBatch` per frame, with `tracks` set in videos, and the source ends, in order.
    """
    tracker = Tracker()
    first: FaceBatch | None = None  # the first frame of what may be a picture
    for item in faces:
        if first is not None:
            still = isinstance(item, SourceEnd)
            yield first if still else replace(first, tracks=tracker.update(first.detections))
            first = None
        if isinstance(item, SourceEnd):
            tracker = Tracker()
            yield item
        elif item.detections.frame.pts_s is None and item.detections.frame.index == 0:
            first = item
        else:
            yield replace(item, tracks=tracker.update(item.detections))


def seconds(pts_s: float | None, index: int) -> float:
    """Give the time of a frame, by its number where its video states no times."""
    return index * FRAME_S if pts_s is None else pts_s


def _size(boxes: F64) -> F64:
    """Side of the square of a box's area, in pixels; (n, 4) -> (n,)."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 1e-6)
    return np.asarray(np.sqrt(sides.prod(-1)))
