"""Changing what a composed sample shows of its faces: stretched, cut by the border, tilted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator

    from blurgate.training.detection.paste import Faces
    from blurgate.types import U8

_LEAST_WINDOW: Final = 0.4  # of a sample's side, where a part of it is cut out


def stretched(image: U8, faces: Faces, rng: Generator) -> U8:
    """Make a sample taller or wider by cutting a part out: a bent head looks like a flat face."""
    side = len(image)
    axis, part = int(rng.integers(2)), round(side * rng.uniform(0.7, 1.0))
    at = int(rng.integers(0, side - part + 1))
    kept = image[:, at : at + part] if axis == 0 else image[at : at + part]
    scale = side / part
    faces.boxes[:, axis::2] = (faces.boxes[:, axis::2] - at) * scale
    faces.kps[..., axis] = (faces.kps[..., axis] - at) * scale
    return np.asarray(cv2.resize(kept, (side, side), interpolation=cv2.INTER_LINEAR), np.uint8)


def cut(image: U8, faces: Faces, rng: Generator) -> U8:
    """Zoom in so that the border cuts one face: people at the edge of a photo are rarely whole."""
    side = len(image)
    box = faces.boxes[int(rng.integers(len(faces)))]
    axis, share = int(rng.integers(2)), rng.uniform(0.5, 0.9)
    low, high = float(box[axis]), float(box[axis + 2])
    after = rng.random() < 0.5  # the face lies at the window's end, not at its beginning
    edge = low + share * (high - low) if after else high - share * (high - low)
    room = edge if after else side - edge
    if not _LEAST_WINDOW * side < room < side:  # too near a border, or over it
        return image
    part = round(rng.uniform(_LEAST_WINDOW * side, room))
    first = edge - part if after else edge
    other = float(box[1 - axis] + box[3 - axis]) / 2 - part * rng.uniform(0.2, 0.8)
    starts = np.array([first, other] if axis == 0 else [other, first])
    corner = starts.round().clip(0, side - part).astype(np.float32)
    x, y = (int(v) for v in corner)
    scale = side / part
    faces.boxes[:] = (faces.boxes - np.tile(corner, 2)) * scale
    faces.kps[:] = (faces.kps - corner) * scale
    return np.asarray(cv2.resize(image[y : y + part, x : x + part], (side, side)), np.uint8)


def angle(rng: Generator) -> float:
    """Draw a roll in degrees: most heads are nearly upright."""
    return float(np.clip(rng.normal(0, 9), -30, 30) if rng.random() < 0.8 else rng.uniform(-35, 35))
