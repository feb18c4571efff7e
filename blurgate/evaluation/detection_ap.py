"""Which detections are right, and average precision: pure functions of arrays.

Matching follows COCO's evaluation (Lin et al., 2014): in the order of falling scores a detection
takes the free face with which it overlaps most, if that reaches the wanted IoU. One that finds none
is left out of the count if it reaches that IoU with an ignored face or lies with at least half of
its area on it, and so is one that is smaller than the faces that are looked for. Average precision
is the area below the precision-recall curve after precision has been made to fall with recall (the
"all points" area of PASCAL VOC since 2010). Equal scores are one step of the curve: no threshold
parts them, so no order among them may count.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.geometry import covered, iou, shorter_sides

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.types import F32

COVERED: Final = 0.5
"""Share of a detection that must lie on an ignored region for it to be left out."""


@dataclass(frozen=True, slots=True, eq=False)
class Matches:
    """What became of the detections and the faces of one picture at one IoU."""

    face: NDArray[np.intp]
    """(m,) the face that each detection found, -1 for none."""
    left_out: NDArray[np.bool_]
    """(m,) True for detections that count neither as right nor as wrong."""
    found: NDArray[np.bool_]
    """(n,) whether a detection found each face; False for ignored ones."""

    @property
    def wrong(self) -> NDArray[np.bool_]:
        """(m,) True for false alarms."""
        return (self.face < 0) & ~self.left_out


def match(
    boxes: F32, ignore: NDArray[np.bool_], detections: F32, least_iou: float, least_px: float = 0
) -> Matches:
    """Match detections with faces.

    Args:
        boxes: (n, 4) float32 faces and ignored regions.
        ignore: (n,) which of them are ignored.
        detections: (m, 4) float32, in falling order of their scores.
        least_iou: IoU from which a detection finds a face.
        least_px: Faces whose shorter side is below this are ignored, and detections below it that
            find none are left out.
    """
    ignore = ignore | (shorter_sides(boxes) < least_px)
    face = np.full(len(detections), -1, np.intp)
    found = np.zeros(len(boxes), np.bool_)
    left_out = shorter_sides(detections) < least_px
    overlap = iou(detections, boxes)
    hidden = covered(detections, boxes[ignore]).max(axis=1, initial=0) >= COVERED
    hidden |= overlap[:, ignore].max(axis=1, initial=0) >= least_iou
    for i in range(len(detections)):
        free = np.where(ignore | found, -1.0, overlap[i])
        best = int(free.argmax()) if len(boxes) else -1
        if best >= 0 and free[best] >= least_iou:
            face[i], found[best], left_out[i] = best, True, False
        elif hidden[i]:
            left_out[i] = True
    return Matches(face, left_out, found)


def average_precision(
    scores: Sequence[F32], matches: Sequence[Matches], n_faces: int
) -> float | None:
    """Give the average precision over pictures.

    Args:
        scores: Per picture (m,) scores of its detections.
        matches: Per picture what became of them.
        n_faces: Faces in all pictures that are not ignored.

    Returns:
        A number in [0, 1], or None where there is no face.

    >>> one = match(np.float32([[0, 0, 9, 9]]), np.array([False]),
    ...             np.float32([[50, 50, 59, 59], [0, 0, 9, 9]]), 0.5)
    >>> average_precision([np.float32([0.9, 0.8])], [one], 1)
    0.5
    """
    if n_faces == 0:
        return None
    counts = [~m.left_out for m in matches]
    none: NDArray[Any] = np.empty(0)
    score = np.concatenate([none, *(s[c] for s, c in zip(scores, counts, strict=True))])
    right = np.concatenate([none, *(m.face[c] >= 0 for m, c in zip(matches, counts, strict=True))])
    order = np.argsort(-score, kind="stable")
    score, right = score[order], right[order].astype(np.int64)
    last = np.append(score[1:] != score[:-1], True)[: len(score)]  # ends of runs of equal scores
    n_right = np.cumsum(right)[last]
    n_all = np.arange(1, len(score) + 1)[last]
    recall = n_right / n_faces
    precision = np.maximum.accumulate((n_right / n_all)[::-1])[::-1]
    return float((np.diff(recall, prepend=0) * precision).sum())
