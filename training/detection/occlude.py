"""Hiding parts of faces, as glasses, masks, hands and other heads do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator

    from blurgate.training.detection.paste import Faces
    from blurgate.types import U8


def occluded(
    patch: U8, faces: Faces, size: float, rng: Generator, texture: Callable[[Generator], U8]
) -> U8:
    """Hide a part of the first face: dark glasses, a mask, or something in front of it.

    Args:
        patch: (h, w, 3) uint8 BGR; may be written to.
        faces: Faces of the patch, in its pixels.
        size: Geometric mean of the sides of the first face's box.
        rng: Where the draws come from.
        texture: Gives a picture of something that is no face, of any size.
    """
    patch = np.ascontiguousarray(patch)
    box, kps = faces.boxes[0], faces.kps[0]
    kind = rng.random()
    colour = tuple(int(v) for v in rng.integers(0, 256, 3))
    if kind < 0.3 and np.isfinite(kps).all():
        dark = tuple(int(v) for v in rng.integers(0, 70, 3))
        left, right = kps[0], kps[1]
        along = (right - left) * rng.uniform(0.35, 0.6)
        up = np.array([along[1], -along[0]]) * rng.uniform(0.5, 1.0)
        corners = [left - along - up, right + along - up, right + along + up, left - along + up]
        cv2.fillConvexPoly(patch, np.rint(corners).astype(np.int32), dark, cv2.LINE_AA)
    elif kind < 0.45 and np.isfinite(kps).all():
        down = (kps[3] + kps[4]) / 2 - (kps[0] + kps[1]) / 2
        across = (kps[4] - kps[3]) * rng.uniform(0.5, 0.9)
        corners = [kps[2] - across, kps[2] + across, kps[4] + across + down * 0.5,
                   kps[3] - across + down * 0.5]  # fmt: skip
        cv2.fillConvexPoly(patch, np.rint(corners).astype(np.int32), colour, cv2.LINE_AA)
    else:
        a, b = (max(int(size * v), 1) for v in rng.uniform(0.1, 0.35, 2))
        side = rng.random()
        x = box[0] + (box[2] - box[0]) * (rng.choice((0.05, 0.95)) if side < 0.6 else rng.random())
        y = box[1] + (box[3] - box[1]) * rng.random()
        if rng.random() < 0.5:
            cv2.ellipse(patch, (int(x), int(y)), (a, b), float(rng.uniform(0, 180)), 0, 360,
                        colour, -1, cv2.LINE_AA)  # fmt: skip
        else:
            _cover(patch, texture(rng), int(x) - a, int(y) - b, 2 * a, 2 * b)
    return patch


def _cover(patch: U8, texture: U8, x: int, y: int, w: int, h: int) -> None:
    height, width = patch.shape[:2]
    x1, y1, x2, y2 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
    if x2 > x1 and y2 > y1:
        patch[y1:y2, x1:x2] = cv2.resize(texture, (x2 - x1, y2 - y1))
