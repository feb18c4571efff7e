"""How well a detector does while it is trained: average precision and landmark error.

A cheap measure to choose the best epoch by; `blurgate evaluate --detector` measures in full.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from blurgate.geometry import iou, nms
from blurgate.training.detection.network import Predictions
from blurgate.training.detection.samples import Sample
from blurgate.types import F32

__all__ = [
    "DetectionScores",
    "Found",
    "average_precision",
    "found",
    "score",
]

_LEAST: Final = 0.05  # a lower score is not looked at
_MOST: Final = 300  # per picture, before suppression
_NMS: Final = 0.4
_MATCH: Final = 0.5  # IoU of a found face


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """The faces found in one picture, highest score first."""

    boxes: F32
    scores: F32
    kps: F32


@dataclass(frozen=True, slots=True)
class DetectionScores:
    """Validation in numbers."""

    ap: float
    """Area under precision over recall at IoU 0.5, all points; NaN without faces."""
    recall: float
    """Share of the faces found at a score of 0.5 or more."""
    kps_error: float
    """Median over matched faces of the mean landmark distance over the distance of the eyes."""
    faces: int


def found(predictions: Predictions) -> list[Found]:
    """Give the faces of each picture: best scores, overlapping ones suppressed."""
    scores = predictions.logits.sigmoid().float().cpu().numpy()
    boxes = predictions.boxes.float().cpu().numpy()
    kps = predictions.kps.float().cpu().numpy()
    out = []
    for score_, box, points in zip(scores, boxes, kps, strict=True):
        best = np.argsort(-score_, kind="stable")[:_MOST]
        best = best[score_[best] >= _LEAST]
        kept = best[nms(box[best], score_[best], _NMS)]
        out.append(Found(box[kept], score_[kept], points[kept].reshape(-1, 5, 2)))
    return out


def score(pairs: Iterable[tuple[Sample, Found]]) -> DetectionScores:
    """Compare what was found with what is there.

    A face is found by the best scored detection that overlaps it most and at least 0.5. Detections
    of ignored regions count neither way.
    """
    hits: list[NDArray[np.bool_]] = []
    scores: list[F32] = []
    errors: list[float] = []
    faces = recalled = 0
    for sample, seen in pairs:
        true = sample.boxes[~sample.ignore]
        points = sample.kps[~sample.ignore]
        faces += len(true)
        taken = np.zeros(len(true), np.bool_)
        overlap = iou(seen.boxes, true)
        beside = iou(seen.boxes, sample.boxes[sample.ignore])
        kinds: list[bool | None] = []  # True: a face, False: a false alarm, None: neither
        for i in range(len(seen.boxes)):
            free = np.where(taken, -1, overlap[i])
            best = int(free.argmax()) if len(free) else -1
            if best >= 0 and free[best] >= _MATCH:
                taken[best] = True
                kinds.append(True)
                recalled += bool(seen.scores[i] >= 0.5)
                apart = np.linalg.norm(points[best, 0] - points[best, 1])
                error = np.linalg.norm(points[best] - seen.kps[i], axis=1).mean() / apart
                if np.isfinite(error):
                    errors.append(float(error))
            else:
                kinds.append(False if beside[i].max(initial=0) < _MATCH else None)
        counted = np.array([kind is not None for kind in kinds], np.bool_)
        hits.append(np.array([kind is True for kind in kinds], np.bool_)[counted])
        scores.append(seen.scores[counted])
    together = np.concatenate(scores) if scores else np.empty(0, np.float32)
    hit = np.concatenate(hits) if hits else np.empty(0, np.bool_)
    return DetectionScores(
        average_precision(together, hit, faces),
        recalled / faces if faces else float("nan"),
        float(np.median(errors)) if errors else float("nan"),
        faces,
    )


def average_precision(scores: F32, hits: NDArray[np.bool_], faces: int) -> float:
    """Give the area under the envelope of precision over recall.

    Args:
        scores: (n,) of detections.
        hits: (n,) whether each found a face.
        faces: How many there are to be found.

    Returns:
        In [0, 1]; NaN where there are no faces.

    >>> average_precision(np.float32([0.9, 0.8, 0.7]), np.array([True, False, True]), 2)
    0.8333333333333333
    """
    if not faces:
        return float("nan")
    order = np.argsort(-scores, kind="stable")
    hit = np.cumsum(hits[order])
    precision = hit / np.arange(1, len(order) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(envelope[hits[order]].sum() / faces)
