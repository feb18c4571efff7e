"""Further searches of a picture, for the faces that a first one does not see well.

Large faces: SCRFD misses those that are larger than some 400 pixels on its canvas, or finds them
with landmarks that are off. Pictures in which nothing is found, or such a face, are searched a
second time at `RETRY_SCALE` (docs/decisions/0021-second-search.md).

Small faces: of a face of 30 pixels the landmarks are off by a tenth of the distance of the eyes and
more, which moves the crop and costs the recogniser as much as blur does; and of many it is not sure
that they are faces. Each is looked at once more, cut out and enlarged, and its score is the mean of
both searches' (docs/decisions/0022-closer-look.md).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from blurgate.geometry import iou
from blurgate.profiling import timed
from blurgate.types import F32, U8, Detections, Frame, Pixels, View

RETRY_SCALE: Final = 0.3
"""Scale of the second search: 192 pixels after 640, a tenth of the cost. It finds what 0.4 finds
and nearly all faces that the picture's edges cut, of which 0.4 finds few; below 0.25 the landmarks
get worse. It added no false faces in landscapes and in random cuts of them."""
RETRY_ABOVE: Final = 400
"""Longer side in canvas pixels of a face that the second search finds better."""
RETRY_LEAST: Final = 96
"""A second search smaller than this many pixels is left out."""

CLOSER_BELOW: Final = 64
"""Longer side in canvas pixels of a face that is looked at closer."""
CLOSER_LEAST: Final = 0.15
"""Score from which on the first search's find is worth a look, though it may be no face."""
CLOSER_MOST: Final = 32
"""Faces of a frame that are looked at closer, the surest first: a crowd costs three searches more
and not thirty."""
CLOSER_AROUND: Final = 1.6
"""Side of what is cut out, in longer sides of the face."""
CLOSER_SIDE: Final = 128
"""Canvas of a closer look, in pixels: the face becomes 80 of them large."""

SAME: Final = 0.4
"""Overlap (IoU) above which two searches have found the same face."""


class CutOut(NamedTuple):
    """The surroundings of a small face."""

    face: int
    """Which of the frame's."""
    frame: Frame
    """The cut, as a picture of its own."""
    origin: F32
    """(2,) xy, where its top left lies in the frame."""
    step: F32
    """(2,) xy, how far apart its pixels lie in the frame."""


def large_faces(faces: Detections, scale: float) -> NDArray[np.bool_]:
    """Mark the faces that are too large for the first search, (n,).

    Args:
        faces: What it found.
        scale: Pixels of the canvas per pixel of the frame.
    """
    return np.asarray(_longer_sides(faces) * scale > RETRY_ABOVE)


def with_large(first: Detections, second: Detections, large: NDArray[np.bool_]) -> Detections:
    """Put the second search's version in the place of the large faces that it finds too.

    Where the first search found nothing, all of the second's count.
    """
    if not len(first):
        return second
    boxes, kps = first.boxes.copy(), first.kps.copy()
    for i in np.flatnonzero(large):
        same = _same(first.boxes[i], second.boxes)
        if same is not None:
            boxes[i], kps[i] = second.boxes[same], second.kps[same]
    return Detections(first.frame, boxes, first.det_scores, kps)


def cut_outs(faces: Detections, scale: float, sure: float) -> list[CutOut]:
    """Cut the surroundings of the small faces out of their frame.

    A large photo is not decoded again, finer, for what hardly is a face: most of that is none. Of a
    face the crop needs these pixels, too.

    Args:
        faces: What the first search found.
        scale: Pixels of the canvas per pixel of the frame.
        sure: Score from which on a find is a face.
    """
    sides = _longer_sides(faces)
    small = np.flatnonzero((sides * scale < CLOSER_BELOW) & (faces.det_scores >= CLOSER_LEAST))
    small = small[np.argsort(-faces.det_scores[small], kind="stable")[:CLOSER_MOST]]
    cuts = []
    h, w = faces.frame.size
    for i in small:
        centre = (faces.boxes[i, :2] + faces.boxes[i, 2:]) / 2
        reach = sides[i] * CLOSER_AROUND / 2
        x1, y1 = np.floor(np.clip(centre - reach, 0, (w - 1, h - 1))).astype(int).tolist()
        x2, y2 = np.ceil(np.clip(centre + reach, 1, (w, h))).astype(int).tolist()
        if x2 <= x1 or y2 <= y1:  # the face lies outside
            continue
        wanted = CLOSER_SIDE / max(x2 - x1, y2 - y1) if faces.det_scores[i] >= sure else scale
        image, origin, step = _view(faces.frame.pixels, (x1, y1, x2, y2), wanted)
        cut = Frame(image, faces.frame.source, faces.frame.index, faces.frame.pts_s)
        cuts.append(CutOut(int(i), cut, np.array(origin, np.float32), np.array(step, np.float32)))
    return cuts


def _view(pixels: U8 | Pixels, box: tuple[int, int, int, int], scale: float) -> View:
    """Make the pixels of a part and no others: a face is as large in each kind of frame."""
    x1, y1, x2, y2 = box
    if not isinstance(pixels, Pixels):
        return View(pixels[y1:y2, x1:x2], (x1, y1), (1, 1))
    with timed("convert"):
        image, (x, y), (across, down) = pixels.view(box, scale)
    left, top = max(round((x1 - x) / across), 0), max(round((y1 - y) / down), 0)
    right, bottom = round((x2 - x) / across), round((y2 - y) / down)
    cut = image[top : max(bottom, top + 1), left : max(right, left + 1)]
    return View(cut, (x + left * across, y + top * down), (across, down))


def with_closer(
    faces: Detections, cuts: Sequence[CutOut], found: Sequence[Detections]
) -> Detections:
    """Put what the closer looks found in the place of the faces that they were for.

    A score becomes the mean of both searches', in which a face that is not seen again counts as 0.
    Two faces can turn out to be the same one.

    Args:
        faces: What the first search found.
        cuts: Of its frame.
        found: In each cut.
    """
    boxes, kps, scores = faces.boxes.copy(), faces.kps.copy(), faces.det_scores.copy()
    for cut, seen in zip(cuts, found, strict=True):
        there = seen.boxes * np.tile(cut.step, 2) + np.tile(cut.origin, 2)
        same = _same(faces.boxes[cut.face], there)
        scores[cut.face] /= 2
        if same is not None:
            scores[cut.face] += seen.det_scores[same] / 2
            boxes[cut.face], kps[cut.face] = there[same], seen.kps[same] * cut.step + cut.origin
    return Detections(faces.frame, boxes, scores, kps)


def _longer_sides(faces: Detections) -> F32:
    sides: F32 = (faces.boxes[:, 2:] - faces.boxes[:, :2]).max(axis=1, initial=0)
    return sides


def _same(box: F32, others: F32) -> int | None:
    """Give which of the other boxes means the same face, if one does.

    It is the one that overlaps it most, not the surest: that may be somebody in front.
    """
    overlap = iou(box[None], others)[0]
    best = int(overlap.argmax()) if len(overlap) else -1
    return best if best >= 0 and overlap[best] > SAME else None
