"""How well a detector does while it is trained: average precision and landmark error.

A cheap measure to choose the best epoch by; `blurgate evaluate --detector` measures in full.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from blurgate.evaluation.detection import Found
from blurgate.evaluation.detection_ap import Matches, average_precision, match
from blurgate.geometry import nms
from blurgate.plugins.detectors.scrfd import NMS_IOU
from blurgate.training.detection.network import Predictions
from blurgate.training.detection.samples import Sample
from blurgate.types import F32

__all__ = ["DetectionScores", "found", "score"]

_LEAST: Final = 0.05  # a lower score is not looked at
_MOST: Final = 300  # per picture, before suppression
_MATCH: Final = 0.5  # IoU of a found face


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
        kept = best[nms(box[best], score_[best], NMS_IOU)]
        out.append(Found(box[kept], score_[kept], points[kept].reshape(-1, 5, 2)))
    return out


def score(pairs: Iterable[tuple[Sample, Found]]) -> DetectionScores:
    """Compare what was found with what is there; see `blurgate.evaluation.detection_ap`."""
    scores: list[F32] = []
    matches: list[Matches] = []
    errors: list[NDArray[Any]] = [np.zeros(0)]
    faces = recalled = 0
    for sample, seen in pairs:
        matched = match(sample.boxes, sample.ignore, seen.boxes, _MATCH)
        scores.append(seen.scores)
        matches.append(matched)
        faces += int((~sample.ignore).sum())
        right = matched.face >= 0
        recalled += int((seen.scores[right] >= 0.5).sum())
        true = sample.kps[matched.face[right]]
        eyes = np.linalg.norm(true[:, 0] - true[:, 1], axis=1)
        errors.append(np.linalg.norm(true - seen.kps[right], axis=2).mean(axis=1) / eyes)
    ap = average_precision(scores, matches, faces)
    error = np.concatenate(errors)
    known = error[np.isfinite(error)]
    return DetectionScores(
        math.nan if ap is None else ap,
        recalled / faces if faces else math.nan,
        float(np.median(known)) if len(known) else math.nan,
        faces,
    )
