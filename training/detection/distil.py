"""What a detector learns from another one that looks at the same training picture.

Annotations say where faces are. A trained detector says more: how much each anchor looks like one,
and where it sees faces that nobody annotated (knowledge distillation: Hinton et al., 2015, arXiv
1503.02531; of boxes: Zheng et al., 2022, arXiv 2102.12252). Composed pictures need it, because a
network can learn to find the outline of what was pasted in place of the face, which a teacher that
has seen real crowds does not take for one.

The teacher's anchors must be the network's own (`network.anchors`), as those of any SCRFD with two
anchors per cell are. Then, anchor by anchor:

- One that answers for an annotated face learns that face as without a teacher.
- A small face (below `SMALL`) that the teacher does not see is ignored: too little is left of it,
  other than its outline. A larger one is learnt all the same, so that the network finds blurred
  faces that its teacher misses.
- Background learns the teacher's score, and from `SEEN` on a face: the annotated one that the
  teacher means, or else the teacher's box and landmarks. So do anchors that were to be ignored,
  from `SEEN` on; below they stay ignored.
- What the teacher finds inside an annotated face, but is not that face, is a part of it that was
  taken for a face, as happens to large ones: background.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate import zoo
from blurgate.errors import ConfigError
from blurgate.geometry import iou, shorter_sides
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.plugins.detectors.scrfd import STRIDES, Scrfd
from blurgate.training.detection.assign import IGNORED
from blurgate.training.detection.mimic import neck_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from blurgate.types import F32, U8

__all__ = ["SEEN", "SMALL", "DenseTeacher"]

SEEN: Final = 0.3
"""Score from which the teacher's box and landmarks are learnt."""
SMALL: Final = 24.0
"""Faces with a shorter side below this are learnt only if the teacher sees them; pixels."""
_SAME: Final = 0.4  # IoU from which a box of the teacher's is a face of the annotations


class DenseTeacher:
    """Says of a training picture what the annotations leave open.

    Can be sent to other processes; each opens the file when it is first asked.

    Args:
        name: Name or path of an SCRFD; it runs on one thread of the CPU.
        least_kps: Landmarks of faces with a shorter side below this are not given; pixels.
        watched: Give its features too; see `blurgate.training.detection.mimic`.

    Raises:
        ConfigError: When asked: the detector has no anchors to ask, or no features to watch.
        UnknownNameError, WeightsError: When asked: there is no such detector, or it is damaged.
    """

    def __init__(self, name: str, least_kps: float = 0.0, *, watched: bool = False) -> None:
        self._name, self._least_kps, self._watched = name, least_kps, watched
        self._detector: Scrfd | None = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the open file behind."""
        return self.__dict__ | {"_detector": None}

    def open(self) -> Scrfd:
        """Open the file, or give what is open."""
        if self._detector is None:
            made = zoo.open_detector(self._name, Runtime("cpu"), DetectorOptions())
            if not isinstance(made, Scrfd):
                raise ConfigError(
                    f"{self._name} is not an SCRFD: a teacher has to have its anchors"
                )
            if self._watched:
                _watch_neck(made)
            self._detector = made
        return self._detector

    def features(self, image: U8) -> Sequence[F32]:
        """Give what it sees in (h, w, 3) uint8 BGR: (1, c, h, w) of each stride, if watched."""
        return self.open().rows(image).watched if self._watched else ()

    def complete(
        self, image: U8, faces: NDArray[np.int32], scores: F32, boxes: F32, kps: F32
    ) -> tuple[NDArray[np.int32], F32, F32, F32, Sequence[F32]]:
        """Fill in targets.

        Args:
            image: (h, w, 3) uint8 BGR, the picture as the network sees it.
            faces: (rows,) what every anchor answers for, as `assign` gives it.
            scores: (rows,) the score that it is to give, NaN where the network's box decides.
            boxes: (n, 4) the annotated faces, x1 y1 x2 y2 in pixels.
            kps: (n, 10) their landmarks, NaN where they are not learnt.

        Returns:
            The same four, with a face more for every anchor that learns one from the teacher, and
            the teacher's features, (1, c, h, w) of each stride, if it is watched.
        """
        h, w = image.shape[:2]
        told, found, points, watched = self.open().rows(image)
        found = found.clip(0, np.array([w, h, w, h], np.float32))
        hot = np.flatnonzero(told >= SEEN)
        side = shorter_sides(boxes)
        overlap = iou(found[hot], boxes)
        seen = overlap.max(axis=0, initial=0.0) >= _SAME
        lost = np.flatnonzero(~seen & (side < SMALL))
        learnt = np.unique(faces[faces >= 0])
        faces = np.where(np.isin(faces, lost), np.int32(IGNORED), faces)
        scores = np.where(faces < 0, told, scores).astype(np.float32)
        nearest = overlap.argmax(axis=1) if len(boxes) else np.zeros(len(hot), np.intp)
        same = overlap.max(axis=1, initial=0.0) >= _SAME
        part = ~same & _within(found[hot], boxes[learnt])
        scores[hot[part & (faces[hot] < 0)]] = 0
        free = (faces[hot] < 0) & ~part
        known = same & np.isin(nearest, learnt)
        faces[hot[free & known]] = nearest[free & known]
        more = hot[free & ~known]
        faces[more] = len(boxes) + np.arange(len(more))
        small = shorter_sides(found[more]) < self._least_kps
        points = np.where(small[:, None], np.float32(np.nan), points[more].reshape(-1, 10))
        return (
            faces.astype(np.int32, copy=False),
            scores,
            np.concatenate([boxes, found[more]]),
            np.concatenate([kps, points]),
            watched,
        )


def _watch_neck(detector: Scrfd) -> None:
    """Let a teacher's `rows` give its features too."""
    detector.watch(neck_of(detector.path))
    shapes = [part.shape for part in detector.rows(np.zeros((64, 64, 3), np.uint8)).watched]
    cells = [(64 // stride, 64 // stride) for stride in STRIDES]
    if [(len(shape), *shape[:1], *shape[2:]) for shape in shapes] != [(4, 1, *c) for c in cells]:
        raise ConfigError(
            f"{detector.path} has no features of strides 8, 16 and 32 to learn: they are {shapes}"
        )


def _within(boxes: F32, others: F32) -> NDArray[np.bool_]:
    """Tell which boxes have their centre in one of the others."""
    centres = (boxes[:, None, :2] + boxes[:, None, 2:]) / 2
    inside = (centres >= others[None, :, :2]) & (centres <= others[None, :, 2:])
    within: NDArray[np.bool_] = np.any(np.all(inside, axis=2), axis=1)
    return within
