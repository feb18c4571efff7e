"""Turning pictures upright: the eight ways in which a camera can be held, for photos and videos."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import cv2
import numpy as np

from blurgate.types import U8


class Turn(NamedTuple):
    """A transposition, then a mirroring of each axis."""

    transpose: bool = False
    flip_x: bool = False
    """Swap left and right, after the transposition."""
    flip_y: bool = False
    """Swap top and bottom, after the transposition."""


EXIF_TURNS: Final[Mapping[int, Turn]] = {
    2: Turn(flip_x=True),
    3: Turn(flip_x=True, flip_y=True),
    4: Turn(flip_y=True),
    5: Turn(transpose=True),
    6: Turn(transpose=True, flip_x=True),
    7: Turn(transpose=True, flip_x=True, flip_y=True),
    8: Turn(transpose=True, flip_y=True),
}
"""EXIF orientation -> what makes the stored picture upright; other values: nothing to do."""


def matrix_turn(matrix: Sequence[int]) -> Turn:
    """Read a video's display matrix.

    Args:
        matrix: The nine numbers a b u c d v x y w of the container: a stored pixel (p, q) is shown
            at (a p + c q + x, b p + d q + y), y pointing down.

    Returns:
        The turn; an angle that is no multiple of 90 degrees is rounded to the nearest one.

    >>> matrix_turn([0, 1, 0, -1, 0, 0, 0, 0, 1])  # a telephone held upright
    Turn(transpose=True, flip_x=True, flip_y=False)
    """
    a, b, _, c, d = matrix[:5]
    if abs(b) + abs(c) > abs(a) + abs(d):
        return Turn(True, c < 0, b < 0)
    return Turn(False, a < 0, d < 0)


def turned(image: U8, turn: Turn) -> U8:
    """Apply a turn.

    Args:
        image: (H, W, 3) uint8.
        turn: What to do.

    Returns:
        (H, W, 3) uint8, or (W, H, 3) if transposed; `image` itself when nothing is to be done.

    >>> import numpy as np
    >>> turned(np.array([[[1] * 3, [2] * 3]], np.uint8), Turn(flip_x=True))[0, :, 0].tolist()
    [2, 1]
    """
    if turn.transpose:
        image = np.asarray(cv2.transpose(image), np.uint8)
    if turn.flip_x or turn.flip_y:
        # cv2's code: 1 mirrors x, 0 mirrors y, -1 both.
        code = -1 if turn.flip_x and turn.flip_y else int(turn.flip_x)
        image = np.asarray(cv2.flip(image, code), np.uint8)
    return image
