"""Which score of a trained detector is sure enough: what becomes 0.5 in its file.

It follows from composed pictures, searched as a gate searches them: with its second look at what is
large and its closer one at what is small.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path
from typing import Final

import numpy as np

from blurgate import zoo
from blurgate.geometry import iou
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.training.detection.samples import Sample, Samples, first_epoch
from blurgate.types import F32, Detections, Frame

__all__ = ["FALSE_ALARMS", "default_score", "fair_score", "false_alarms"]

FALSE_ALARMS: Final = 0.02
"""False alarms that a composed picture may have at a score of 0.5 in the exported file. These
pictures are full of blur, texture and things cut off; others have far fewer."""

_APART: Final = 0.25
"""Overlap (IoU) below which a find has nothing to do with a face. That is half of what a find
needs: a box that sits badly on a face is no false alarm."""


def default_score(path: Path, samples: Samples, side: int, workers: int = 1) -> float:
    """Give the score from which on a detector raises at most `FALSE_ALARMS` a picture.

    Args:
        path: Its ONNX file.
        samples: The pictures; all of epoch 0.
        side: Their longer side in pixels.
        workers: Threads that compose them.

    Returns:
        At least 0.5, the detectors' usual one, and below 1.
    """
    find = zoo.open_detector(str(path), Runtime("cpu"), DetectorOptions(long_side=side))
    alarms = []
    with closing(first_epoch(samples, workers)) as ready:
        for sample in ready:
            (seen,) = find([Frame(sample.image, "", 0, None)])
            alarms.append(false_alarms(sample, seen))
    return fair_score(np.concatenate(alarms), len(samples))


def false_alarms(sample: Sample, seen: Detections) -> F32:
    """Give the scores of what was found where there is neither a face nor an ignored region."""
    apart = iou(seen.boxes, sample.boxes).max(axis=1, initial=0) < _APART
    scores: F32 = seen.det_scores[apart]
    return scores


def fair_score(alarms: F32, pictures: int) -> float:
    """Give the score from which on there are at most `FALSE_ALARMS` a picture.

    Args:
        alarms: (n,) scores of false alarms.
        pictures: How many pictures they come from.

    Returns:
        In [0.5, 0.95], in hundredths.

    >>> fair_score(np.float32([0.9, 0.7, 0.6, 0.2]), 100)
    0.61
    >>> fair_score(np.float32([0.3]), 1)
    0.5
    """
    allowed = int(FALSE_ALARMS * pictures)
    falling = np.sort(alarms)[::-1]
    if len(falling) <= allowed:
        return 0.5
    return float(np.clip(np.ceil((float(falling[allowed]) + 1e-6) * 100) / 100, 0.5, 0.95))
