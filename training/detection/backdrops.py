"""Backgrounds of composed scenes.

Pictures without faces, parts of photos beside the faces, and drawn ones, so that a detector cannot
learn the few real ones by heart.
"""

from __future__ import annotations

import math
import string
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

if TYPE_CHECKING:
    from numpy.random import Generator

    from blurgate.training.detection.pictures import Picture, Pictures
    from blurgate.types import U8

_LETTERS: Final = string.ascii_letters + string.digits + ".,:;!?/%&()"
_FONTS: Final = tuple(range(8))  # OpenCV's Hershey fonts
_TRIES: Final = 6


class Backdrops:
    """Makes square backgrounds without faces.

    Args:
        backgrounds: Pictures without faces, or None.
        pictures: Pictures with faces, of which the parts beside the faces are used.
        size: Side in pixels.
    """

    def __init__(self, backgrounds: Pictures | None, pictures: Pictures, size: int) -> None:
        self._backgrounds = backgrounds
        self._pictures = pictures
        self._size = size

    def __call__(self, rng: Generator) -> U8:
        """Make one; the result may be written to.

        Shape:
            (size, size, 3) uint8 BGR
        """
        kind = rng.random()
        if kind < 0.6 and self._backgrounds is not None:
            picture = self._backgrounds[int(rng.integers(len(self._backgrounds)))]
            return self._cut(picture.image, rng, float(rng.uniform(0.25, 1.0)))
        if kind < 0.8:
            beside = self._beside(rng)
            if beside is not None:
                return self._cut(beside, rng, 1.0)
        return drawn(self._size, rng)

    def texture(self, rng: Generator) -> U8:
        """Give a picture of something that is no face, of any size; not to be written to."""
        kind = rng.random()
        if kind < 0.45 and self._backgrounds is not None:
            image = self._backgrounds[int(rng.integers(len(self._backgrounds)))].image
            h, w = image.shape[:2]
            side = max(int(min(h, w) * rng.uniform(0.2, 1.0)), 1)
            y, x = int(rng.integers(0, h - side + 1)), int(rng.integers(0, w - side + 1))
            return image[y : y + side, x : x + side]
        if kind < 0.75:
            part = self._beside(rng)
            if part is not None:
                return part
        return drawn(96, rng) if rng.random() < 0.4 else sign(96, rng)

    def _cut(self, image: U8, rng: Generator, share: float) -> U8:
        """Cut a random square of a share of the shorter side, turn it and bring it to size."""
        h, w = image.shape[:2]
        side = max(min(h, w) * share, 8)
        wide = side * math.exp(rng.uniform(-0.2, 0.2))
        cut_h, cut_w = min(round(side), h), min(max(round(wide), 8), w)
        y, x = int(rng.integers(0, h - cut_h + 1)), int(rng.integers(0, w - cut_w + 1))
        part: Any = image[y : y + cut_h, x : x + cut_w]
        how = cv2.INTER_AREA if side > 2 * self._size else cv2.INTER_LINEAR
        part = cv2.resize(part, (self._size, self._size), interpolation=how)
        if rng.random() < 0.5:
            part = cv2.flip(part, 1)
        if rng.random() < 0.15:
            part = cv2.rotate(part, int(rng.integers(0, 3)))
        if rng.random() < 0.15:
            part = cv2.GaussianBlur(part, (0, 0), rng.uniform(1, 8))
        return np.asarray(part, np.uint8)

    def _beside(self, rng: Generator) -> U8 | None:
        """Find a part of a photo that no face, nor its hair and neck, reaches into."""
        picture = self._pictures[int(rng.integers(len(self._pictures)))]
        return part_without_faces(picture, rng)


def part_without_faces(picture: Picture, rng: Generator) -> U8 | None:
    """Cut a part of a photo with faces that shows none; None where chance found none."""
    h, w = picture.image.shape[:2]
    boxes = picture.faces.boxes
    reach = (boxes[:, 2:] - boxes[:, :2]) * np.float32(0.15)
    low, high = boxes[:, :2] - reach, boxes[:, 2:] + reach
    for _ in range(_TRIES):
        side = int(rng.uniform(0.15, 0.45) * min(h, w))
        x, y = int(rng.integers(0, w - side + 1)), int(rng.integers(0, h - side + 1))
        apart = (low[:, 0] >= x + side) | (high[:, 0] <= x)
        apart |= (low[:, 1] >= y + side) | (high[:, 1] <= y)
        if side >= 8 and apart.all():
            return picture.image[y : y + side, x : x + side]
    return None


def drawn(size: int, rng: Generator) -> U8:
    """Draw a background: gradients, stripes, noise of several scales, shapes, writing."""
    corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    if rng.random() < 0.4:  # one colour, little changed
        corners = np.clip(corners[:1, :1] + rng.normal(0, 12, (2, 2, 3)), 0, 255).astype(np.uint8)
    image = np.asarray(cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR), np.uint8)
    if rng.random() < 0.5:
        cells = int(2 ** rng.uniform(1, 7))
        noise: Any = rng.normal(
            0, rng.uniform(5, 60), (cells, cells, 3 if rng.random() < 0.5 else 1)
        )
        noise = cv2.resize(noise.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        image = np.clip(image + noise.reshape(size, size, -1), 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        _stripes(image, rng)
    for _ in range(int(rng.integers(0, 12))):
        _shape(image, rng)
    if rng.random() < 0.25:
        _writing(image, rng)
    return image


def sign(size: int, rng: Generator) -> U8:
    """Draw a letter, a figure or rings that fill a plain square: they pass for small faces.

    Shape:
        (size, size, 3) uint8 BGR
    """
    image: U8 = np.empty((size, size, 3), np.uint8)
    image[:] = _colour(rng)
    bold = max(int(size * rng.uniform(0.02, 0.16)), 1)
    if rng.random() < 0.25:
        at = tuple(int(v) for v in size * rng.uniform(0.4, 0.6, 2))
        for radius in sorted(rng.uniform(0.05, 0.5, int(rng.integers(1, 4))), reverse=True):
            axes = tuple(max(int(size * radius * v), 1) for v in rng.uniform(0.6, 1.0, 2))
            filled = -1 if rng.random() < 0.6 else bold
            cv2.ellipse(image, at, axes, 0, 0, 360, _colour(rng), filled, cv2.LINE_AA)
        return image
    text = "".join(rng.choice(list(_LETTERS), int(rng.integers(1, 4))))
    font = int(rng.choice(_FONTS))
    (wide, high), _ = cv2.getTextSize(text, font, 1.0, 1)
    scale = size * rng.uniform(0.5, 1.0) / max(wide, high)
    at = int((size - wide * scale) / 2), int((size + high * scale) / 2)
    cv2.putText(image, text, at, font, scale, _colour(rng), bold, cv2.LINE_AA)
    return image


def _colour(rng: Generator) -> tuple[int, int, int]:
    if rng.random() < 0.25:  # the colours of skin, on what is none
        light = rng.uniform(60, 245)
        b, g, r = light * np.array([0.62, 0.75, 1.0]) + rng.normal(0, 12, 3)
    else:
        b, g, r = rng.integers(0, 256, 3)
    return int(np.clip(b, 0, 255)), int(np.clip(g, 0, 255)), int(np.clip(r, 0, 255))


def _shape(image: U8, rng: Generator) -> None:
    size = len(image)
    x, y = (int(v) for v in rng.integers(-size // 8, size + size // 8, 2))
    a, b = (max(int(size * 2 ** rng.uniform(-6, -1)), 1) for _ in range(2))
    filled = -1 if rng.random() < 0.7 else int(rng.integers(1, 4))
    kind = rng.random()
    if kind < 0.5:  # heads without faces are mostly ellipses
        cv2.ellipse(
            image, (x, y), (a, b), float(rng.uniform(0, 180)), 0, 360, _colour(rng), filled,
            cv2.LINE_AA,
        )  # fmt: skip
    elif kind < 0.75:
        cv2.rectangle(image, (x, y), (x + a, y + b), _colour(rng), filled)
    else:
        end = tuple(int(v) for v in rng.integers(0, size, 2))
        cv2.line(image, (x, y), end, _colour(rng), int(rng.integers(1, 6)), cv2.LINE_AA)


def _stripes(image: U8, rng: Generator) -> None:
    size = len(image)
    step = int(2 ** rng.uniform(2, 6))
    colour, width = _colour(rng), max(int(step * rng.uniform(0.1, 0.6)), 1)
    ways = rng.random()
    for at in range(0, size + step, step):
        if ways < 0.7:
            cv2.line(image, (at, 0), (at, size), colour, width)
        if ways > 0.4:
            cv2.line(image, (0, at), (size, at), colour, width)


def _writing(image: U8, rng: Generator) -> None:
    size = len(image)
    for _ in range(int(rng.integers(1, 8))):
        text = "".join(rng.choice(list(_LETTERS), int(rng.integers(3, 20))))
        at = int(rng.integers(-size // 4, size)), int(rng.integers(0, size))
        font, scale = int(rng.choice(_FONTS)), float(2 ** rng.uniform(-1.5, 1.5))
        cv2.putText(
            image, text, at, font, scale, _colour(rng), int(rng.integers(1, 4)), cv2.LINE_AA
        )
