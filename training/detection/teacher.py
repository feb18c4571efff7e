"""Labels from a teacher: what detectors find in a picture at several scales, made into one list.

A detector sees faces of some sizes only. Each picture is therefore searched at several lengths of
its longer side and, because SCRFD misses faces that fill the frame, once more with a border around
it. All that is found goes through one greedy suppression by score. What the teacher is not sure of
becomes `ignore`: a student must neither find it nor be told that it is background.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from blurgate import zoo
from blurgate.errors import ConfigError
from blurgate.geometry import nms
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.plugins.detectors.scrfd import NMS_IOU
from blurgate.training.detection.annotations import Face
from blurgate.types import Frame

if TYPE_CHECKING:
    from blurgate.interfaces import Detector
    from blurgate.types import U8

SURE: Final = 0.55
"""Score from which a find is a face."""
SEEN: Final = 0.3
"""Least score of a find that is kept, to be ignored."""
BORDER: Final = 0.5
"""Width of the border of the padded search, as a share of the longer side."""


@dataclass(frozen=True, slots=True)
class Search:
    """One way to look for faces."""

    detector: Detector
    border: float = 0.0
    """Width of a black border, as a share of the picture's longer side."""


def open_searches(
    names: Sequence[str], sides: Sequence[int], padded: Sequence[int]
) -> list[Search]:
    """Open detectors for every size; they give finds of a score of `SEEN` and more.

    Args:
        names: Names or paths of detectors.
        sides: Long sides to search at.
        padded: Long sides to search at with a border of `BORDER`.
    """
    searches = []
    for name in names:
        for sizes, border in ((sides, 0.0), (padded, BORDER)):
            for side in sizes:
                options = DetectorOptions(side, SEEN)
                detector = zoo.open_detector(name, Runtime("cpu"), options)
                searches.append(Search(detector, border))
    return searches


@dataclass(frozen=True, slots=True)
class Teacher:
    """Finds the faces of a picture by several searches.

    Safe to call from several threads at once if the detectors are.

    Raises:
        ConfigError: There is no search.
    """

    searches: Sequence[Search]
    sure: float = SURE

    def __post_init__(self) -> None:
        """Check that there is something to do."""
        if not self.searches:
            raise ConfigError("a teacher needs at least one detector and one size to search at")

    def __call__(self, image: U8, source: str) -> list[Face]:
        """Find the faces of a picture, highest score first.

        Args:
            image: (h, w, 3) uint8 BGR.
            source: Its name, for messages.

        Returns:
            Every find of the detectors at their least score; those below `sure` are ignored.
        """
        boxes, scores, kps = [], [], []
        for search in self.searches:
            pad = round(search.border * max(image.shape[:2]))
            framed = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
            frame = Frame(np.asarray(framed, np.uint8), source, 0, None)
            (found,) = search.detector([frame])
            boxes.append(found.boxes - np.float32(pad))
            kps.append(found.kps - np.float32(pad))
            scores.append(found.det_scores)
        box, score, points = (np.concatenate(part) for part in (boxes, scores, kps))
        faces = []
        for i in nms(box, score, NMS_IOU):
            x1, y1, x2, y2 = (float(v) for v in box[i])
            faces.append(
                Face((x1, y1, x2, y2), points[i].tolist(), bool(score[i] < self.sure), score[i])
            )
        return faces
