"""Telling a cut from a moving camera on a thumbnail of the frame."""

from __future__ import annotations

from typing import Final

import cv2
import numpy as np

from blurgate.types import U8, Frame, Pixels

WIDTH, HEIGHT = 64, 36
"""The thumbnail's size: enough to tell scenes apart, and a face that moves changes little of it."""

LIKENESS: Final = 0.6
"""Below this correlation two frames show different scenes.

`python scripts/check_scene_cuts.py FOLDER` prints the shares on which it rests: how many pairs of
unlike pictures, and of pictures that differ by a pan, a zoom and an exposure, lie below it.
"""
_BLACK: Final = 24  # brightness that counts as black: 16 where the range is limited, and some noise
_LEAST: Final = 4  # at least this part of each side is picture: bars beside 9:20 in 16:9 leave it
_MARGIN: Final = 5  # a fifth on each side: pans of up to that much are followed


def thumbnail(frame: Frame) -> U8:
    """Shrink a frame to (36, 64) uint8 grey, from its brightness where no picture is made yet."""
    # In two steps, the first of which leaves rows and columns out: nothing here needs fine detail.
    if isinstance(frame.pixels, Pixels):
        grey = frame.pixels.grey((4 * HEIGHT, 4 * WIDTH))
    else:
        step = max(1, min(frame.size) // (4 * HEIGHT))
        coarse = np.ascontiguousarray(frame.pixels[::step, ::step])
        grey = np.asarray(cv2.cvtColor(coarse, cv2.COLOR_BGR2GRAY), np.uint8)
    return np.asarray(cv2.resize(grey, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)


def likeness(first: U8, second: U8) -> float:
    """Correlate two thumbnails, up to a shift and to any change of brightness and contrast.

    The middle of each is looked for in all of the other: a pan carries it along, a cut leaves
    nothing to be found. Since two portraits have much the same in the middle, what lies around it
    must agree as well, at the shift at which the middle was found.

    Args:
        first: (36, 64) uint8 grey.
        second: The same.

    Returns:
        At most 1, for pictures that are equal but for a shift; about 0 for unrelated ones.
    """
    return max(_found(first, second), _found(second, first))


def _found(whole: U8, other: U8) -> float:
    top, left = HEIGHT // _MARGIN, WIDTH // _MARGIN
    part = other[top:-top, left:-left]
    if part.std() < 1.0:  # flat: OpenCV's correlation is 1 with anything
        return 1.0 if whole.std() < 1.0 else 0.0
    _, best, _, (x, y) = cv2.minMaxLoc(cv2.matchTemplate(whole, part, cv2.TM_CCOEFF_NORMED))
    dx, dy = x - left, y - top
    here = whole[max(0, dy) : HEIGHT + min(0, dy), max(0, dx) : WIDTH + min(0, dx)]
    there = other[max(0, -dy) : HEIGHT + min(0, -dy), max(0, -dx) : WIDTH + min(0, -dx)]
    around = cv2.matchTemplate(here, there, cv2.TM_CCOEFF_NORMED)
    return min(best, float(around[0, 0]))


def is_cut(before: U8, after: U8) -> bool:
    """Tell whether a scene ended between two frames; deterministic.

    Args:
        before: Thumbnail of the earlier frame.
        after: Thumbnail of the later one.
    """
    before, after = _between_bars(before, after)
    # The common case first: nothing but the person moved.
    if np.abs(before.astype(np.int16) - after).mean() < 4:
        return False
    return likeness(before, after) < LIKENESS


def _between_bars(first: U8, second: U8) -> tuple[U8, U8]:
    """Leave out the black bars that two thumbnails share, which make all pictures alike.

    Returns:
        What lies between them, each (36, 64) again.
    """
    lit = np.asarray(np.maximum(first, second) > _BLACK, np.uint8)
    x, y, w, h = cv2.boundingRect(lit)
    if (w, h) == (WIDTH, HEIGHT) or w < WIDTH // _LEAST or h < HEIGHT // _LEAST:
        return first, second
    one, other = (
        np.asarray(cv2.resize(whole[y : y + h, x : x + w], (WIDTH, HEIGHT)), np.uint8)
        for whole in (first, second)
    )
    return one, other
