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
_HEAPED: Final = 300  # round things in a heap, at most


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
            picture = self._pictures[int(rng.integers(len(self._pictures)))]
            beside = part_without_faces(picture, rng)
            if beside is not None:
                return self._cut(beside, rng, 1.0)
        return drawn(self._size, rng)

    def texture(self, rng: Generator) -> U8:
        """Give a picture of something that is no face, of any size; not to be written to."""
        kind = rng.random()
        if kind < 0.4 and self._backgrounds is not None:
            image = self._backgrounds[int(rng.integers(len(self._backgrounds)))].image
            h, w = image.shape[:2]
            side = int(min(h, w) * rng.uniform(0.2, 1.0))
            y, x = int(rng.integers(0, h - side + 1)), int(rng.integers(0, w - side + 1))
            return image[y : y + side, x : x + side]
        if kind < 0.8:
            find = part_of_head if kind > 0.62 else part_without_faces
            part = find(self._pictures[int(rng.integers(len(self._pictures)))], rng)
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
        turn = rng.random()
        if turn < 0.15:
            part = cv2.rotate(part, int(rng.integers(0, 3)))
        if rng.random() < 0.15:
            part = cv2.GaussianBlur(part, (0, 0), rng.uniform(1, 8))
        return part  # type: ignore[no-any-return]


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


def part_of_head(picture: Picture, rng: Generator) -> U8 | None:
    """Cut an ear, a neck or hair: what lies at the border of a face, and alone passes for one.

    Returns:
        A square of a quarter to a half of the face's side, less than half of it inside the face;
        None where that much is not in the picture, the middle of it is another face, or no face is.
    """
    faces = picture.faces
    shown = np.flatnonzero(~faces.ignore)
    if not len(shown):  # all are cut by the border
        return None
    x1, y1, x2, y2 = (float(v) for v in faces.boxes[int(rng.choice(shown))])
    side = float(rng.uniform(0.25, 0.5)) * min(x2 - x1, y2 - y1)
    way = rng.random()
    inside = side * float(rng.uniform(0, 0.45) if way < 0.7 else rng.uniform(-0.2, 0.2))
    if way < 0.7:  # at the height of the ears
        left = x1 + inside - side if way < 0.35 else x2 - inside
        top = y1 + (y2 - y1) * float(rng.uniform(0.3, 0.75)) - side / 2
    else:
        left = x1 + (x2 - x1) * float(rng.uniform(0.3, 0.7)) - side / 2
        top = y2 - inside if way < 0.9 else y1 + inside - side
    x, y, n = round(left), round(top), round(side)
    h, w = picture.image.shape[:2]
    if n < 8 or min(x, y) < 0 or x + n > w or y + n > h:
        return None
    middle = np.array([x, y, x, y]) + n / 2
    others = (faces.boxes - middle) * np.array([1, 1, -1, -1])  # below 0 where the middle lies in
    return None if (others < 0).all(axis=1).any() else picture.image[y : y + n, x : x + n]


def drawn(size: int, rng: Generator) -> U8:
    """Draw a background: gradients, noise of several scales, stripes, heaps, shapes, writing."""
    corners = rng.integers(0, 256, (2, 2, 3)).astype(np.uint8)
    if rng.random() < 0.4:  # one colour, little changed
        corners = np.clip(corners[:1, :1] + rng.normal(0, 12, (2, 2, 3)), 0, 255).astype(np.uint8)
    image: Any = cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR)
    if rng.random() < 0.5:
        cells = int(2 ** rng.uniform(1, 7))
        noise: Any = rng.normal(
            0, rng.uniform(5, 60), (cells, cells, 3 if rng.random() < 0.5 else 1)
        )
        noise = cv2.resize(noise.astype(np.float32), (size, size), interpolation=cv2.INTER_CUBIC)
        image = np.clip(image + noise.reshape(size, size, -1), 0, 255).astype(np.uint8)
    if rng.random() < 0.25:
        _stripes(image, rng)
    if rng.random() < 0.3:
        heap(image, rng)
    for _ in range(int(rng.integers(0, 12))):
        _shape(image, rng)
    if rng.random() < 0.25:
        _writing(image, rng)
    return image  # type: ignore[no-any-return]


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


def heap(image: U8, rng: Generator) -> None:
    """Heap up round things with light on them, over what is there: grain, berries, cobbles, leaves.

    Sizes are alike, or many are small and few large, as in the dead leaves of Lee, Mumford and
    Huang, 2001, whose statistics are those of natural pictures.
    """
    size = len(image)
    least = 2 ** rng.uniform(1.5, 5) * size / 320
    if rng.random() < 0.5:
        radii = least * np.exp(rng.normal(0, 0.15, _HEAPED))
    else:
        radii = np.minimum(least / np.sqrt(rng.uniform(0.003, 1, _HEAPED)), size / 3)
    n = max(int(rng.uniform(0.3, 2.5) * size**2 / float((math.pi * radii**2).mean())), 1)
    long, slant = rng.uniform(1, 2), rng.uniform(0, 180)
    turned = rng.choice((0.0, 15.0, 180.0))  # all alike, nearly, or anyhow
    light = rng.normal(0, 0.35, 2)
    base, spread = np.array(_colour(rng), np.float32), 2 ** rng.uniform(1.5, 5.5)
    base += (base.mean() - base) * np.float32(rng.uniform(0, 0.9))  # few things are all colour
    for radius in radii[:n]:
        x, y = (float(v) for v in rng.uniform(0, size, 2))
        tone = base + rng.normal(0, spread) + rng.normal(0, spread / 3, 3)
        angle = slant + rng.uniform(-turned, turned)
        for share, gain in ((1.0, 0.6), (0.85, 1.0), (0.45, 1.3)):  # edge, body, highlight
            at = [
                round(v + move * radius * (1 - share))
                for v, move in zip((x, y), light, strict=True)
            ]
            axes = max(round(radius * share * long), 1), max(round(radius * share), 1)
            colour = tuple(float(v) for v in np.clip(tone * gain, 0, 255))
            cv2.ellipse(image, at, axes, angle, 0, 360, colour, -1, cv2.LINE_AA)


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
