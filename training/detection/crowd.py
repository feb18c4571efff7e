"""People behind one another, as a street or a hall shows them.

Portraits pasted side by side teach a detector faces, and nothing of what surrounds small ones in
life: shoulders below them, heads in front of them, people who look away. Here each person is a
head on shoulders, drawn over those who stand farther off. Either the camera is at the height of
eyes, so that all heads lie along one line, or it looks down, and who is nearer is lower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeAlias

import cv2
import numpy as np

from blurgate.geometry import area
from blurgate.training.detection.paste import Faces, lay_over, soft_mask
from blurgate.training.detection.pictures import LEAST_VISIBLE

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.random import Generator
    from numpy.typing import NDArray

    from blurgate.training.detection.pictures import Picture
    from blurgate.types import U8

Texture: TypeAlias = "Callable[[Generator], U8]"
"""Gives a picture of something that is no face, of any size."""

__all__ = ["AWAY", "Layers", "Person", "bust", "dressed", "head_from_behind", "people", "shoulders"]

AWAY: Final = 0.25
"""Share of the people who are seen from behind."""
MOST: Final = 22
"""People of a crowd."""
SMALLEST: Final = 8.0
"""Size of the smallest face of a crowd, in pixels of the sample."""
LARGEST: Final = 0.3
"""Size of the largest, as a share of the sample's side."""
_HAIR: Final = ((28, 30, 34), (38, 52, 74), (70, 92, 120), (120, 150, 175), (150, 150, 155))
_BUST_ROOM: Final = 0.4  # heights of the face below it, in a photo that shows its shoulders
_GONE: Final = 0.1  # share of a face below which what is left of it is no face


class Layers:
    """What is seen of each thing once others lie over it.

    Args:
        size: Side of the canvas.
    """

    def __init__(self, size: int) -> None:
        self._top = np.zeros((size, size), np.int16)
        self._parts: list[tuple[int, Faces]] = []
        self._count = 0

    def put(self, polygon: NDArray[np.float64], faces: Faces | None = None) -> None:
        """Lay a thing over the others.

        Args:
            polygon: (p, 2) its outline on the canvas.
            faces: Those that it shows.
        """
        self._count += 1
        points = np.rint(polygon * 16).astype(np.int32)
        cv2.fillPoly(self._top, [points[:, None]], self._count, cv2.LINE_8, 4)
        if faces is not None and len(faces):
            self._parts.append((self._count, faces))

    def faces(self) -> Faces:
        """Give all faces; those of which too little is left are ignored, or gone."""
        kept = []
        for number, faces in self._parts:
            left = self._areas(faces, number) / np.maximum(area(faces.boxes), 1)
            faces.ignore |= left < LEAST_VISIBLE
            kept.append(faces[left >= _GONE])
        return Faces.together(kept)

    def _areas(self, faces: Faces, number: int) -> NDArray[np.float64]:
        areas = []
        for box in faces.boxes:
            x1, y1, x2, y2 = self._corners(box)
            areas.append(np.count_nonzero(self._top[y1:y2, x1:x2] == number))
        return np.array(areas, np.float64)

    def _corners(self, box: NDArray[np.float32]) -> tuple[int, int, int, int]:
        low = np.floor(box[:2]).clip(0, len(self._top))
        high = np.ceil(box[2:]).clip(0, len(self._top))
        return int(low[0]), int(low[1]), int(high[0]), int(high[1])


@dataclass(frozen=True, slots=True)
class Person:
    """Where somebody stands."""

    size: float
    """Geometric mean of the sides of the face's box, in pixels."""
    x: float
    y: float
    """Centre of the face."""


def people(size: int, rng: Generator) -> list[Person]:
    """Place people, the farthest first.

    Args:
        size: Side of the sample in pixels.
        rng: Where the draws come from.
    """
    count = int(rng.integers(3, MOST + 1))
    span = math.log(size * LARGEST / SMALLEST)
    reach = span * rng.uniform(0.3, 1.0)  # between the nearest and the farthest
    start = (span - reach) * rng.random()
    lean = rng.uniform(1.0, 3.0)
    sizes = np.sort(SMALLEST * np.exp(start + reach * rng.beta(1.0, lean, count)))
    horizon = rng.uniform(0.1, 0.7) * size
    if rng.random() < 0.6:  # the camera is at the height of eyes, or a little above or below it
        y = horizon + sizes * (rng.normal(0, 0.8) + rng.normal(0, 0.35, count))
    else:  # it looks down
        nearer = (sizes - sizes[0]) / max(sizes[-1] - sizes[0], 1.0)
        y = horizon + nearer * (0.9 * size - horizon) + rng.normal(0, 0.4, count) * sizes
    x = rng.uniform(-0.02, 1.02, count) * size
    return [Person(*map(float, values)) for values in zip(sizes, x, y, strict=True)]


def shoulders(person: Person, rng: Generator) -> NDArray[np.float64]:
    """Draw the outline of a neck and what is below it: (p, 2) on the canvas."""
    s = person.size
    h, w = 1.15 * s, 0.87 * s  # a face's box is higher than wide
    neck, wide = rng.uniform(0.24, 0.4) * w, rng.uniform(0.95, 1.5) * w
    chin = person.y + 0.3 * h
    slope = person.y + h * rng.uniform(0.72, 0.9)
    arms = slope + h * rng.uniform(0.25, 0.45)
    foot = arms + h * rng.uniform(2.5, 6)
    right = [
        (neck, chin), (neck, slope - 0.12 * h), (0.62 * wide, slope),
        (0.92 * wide, slope + 0.1 * h), (wide, arms), (wide * rng.uniform(0.9, 1.15), foot),
    ]  # fmt: skip
    lean = rng.normal(0, 0.08) * s
    points = [(-x, y) for x, y in right[::-1]] + right
    return np.array([(person.x + lean * (y > slope) + x, y) for x, y in points])


def bust(picture: Picture, face: int, rng: Generator) -> NDArray[np.float64] | None:
    """Draw the outline of a photo's head, its neck and what is below: (p, 2) in its pixels.

    Below the photo its last row goes on, which is cloth. None where it shows no shoulders.
    """
    x1, y1, x2, y2 = (float(v) for v in picture.faces.boxes[face])
    if len(picture.image) - y2 < _BUST_ROOM * (y2 - y1):
        return None
    person = Person(math.sqrt((x2 - x1) * (y2 - y1)), (x1 + x2) / 2, (y1 + y2) / 2)
    turn = np.radians(np.linspace(125, 415, 20))
    half = person.size * np.array([rng.uniform(0.5, 0.72), rng.uniform(0.7, 0.9)])
    middle = np.array([person.x, person.y - 0.08 * person.size])
    head = middle + np.stack([np.cos(turn), np.sin(turn)], axis=1) * half
    left, right = np.split(shoulders(person, rng), 2)
    return np.concatenate([left, head, right])


def _fill(canvas: U8, outline: NDArray[np.float64], stuff: U8, soft: float) -> None:
    """Fill an outline.

    Args:
        canvas: (h, w, 3) uint8 BGR; written to.
        outline: (p, 2) on the canvas.
        stuff: A picture of any size.
        soft: Width of the edge in pixels.
    """
    side = len(canvas)
    low = np.floor(outline.min(axis=0)).astype(int) - 2
    high = np.ceil(outline.max(axis=0)).astype(int) + 2
    x1, y1 = (int(v) for v in low.clip(0, side))
    x2, y2 = (int(v) for v in high.clip(0, side))
    if x2 - x1 < 2 or y2 - y1 < 2:
        return
    filled = np.asarray(
        cv2.resize(stuff, (x2 - x1, y2 - y1), interpolation=cv2.INTER_LINEAR), np.uint8
    )
    mask = soft_mask(outline - (x1, y1), filled.shape[:2], soft)
    lay_over(canvas[y1:y2, x1:x2], filled, mask)


def dressed(
    canvas: U8, layers: Layers, person: Person, texture: Texture, rng: Generator, soft: float
) -> None:
    """Draw what is below somebody's head."""
    body = shoulders(person, rng)
    _fill(canvas, body, _cloth(texture, rng), soft)
    layers.put(body)


def _cloth(texture: Texture, rng: Generator) -> U8:
    """Make cloth: of one colour with folds of light, or with a pattern."""
    if rng.random() < 0.25:
        return texture(rng)
    vivid = rng.choice((8.0, 25.0, 70.0))  # most clothes are nearly grey
    colour = rng.uniform(15, 230) + rng.normal(0, vivid, 3)
    folds = rng.normal(0, rng.uniform(3, 18), (6, int(rng.integers(3, 9)), 1)).astype(np.float32)
    smooth = np.asarray(cv2.resize(folds, (48, 48), interpolation=cv2.INTER_CUBIC), np.float32)
    out: U8 = np.clip(colour + smooth[..., None], 0, 255).astype(np.uint8)
    return out


def head_from_behind(
    canvas: U8, layers: Layers, person: Person, rng: Generator, soft: float
) -> None:
    """Draw the hair of somebody who looks away."""
    turn = np.linspace(0, 2 * np.pi, 24, endpoint=False)
    half = person.size * np.array([rng.uniform(0.5, 0.65), rng.uniform(0.65, 0.85)])
    middle = np.array([person.x, person.y - 0.1 * person.size])
    outline = middle + np.stack([np.cos(turn), np.sin(turn)], axis=1) * half
    colour = np.array(_HAIR[int(rng.integers(len(_HAIR)))]) * rng.uniform(0.6, 1.3)
    strands = rng.normal(0, rng.uniform(4, 14), (4, int(rng.integers(12, 40)), 1))
    strands = strands.astype(np.float32)
    light = np.asarray(cv2.resize(strands, (48, 48), interpolation=cv2.INTER_LINEAR), np.float32)
    down = np.linspace(rng.uniform(0, 40), -20, 48)[:, None, None]
    hair: U8 = np.clip(colour + light[..., None] + down, 0, 255).astype(np.uint8)
    _fill(canvas, outline, hair, soft)
    layers.put(outline)
