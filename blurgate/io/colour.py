"""Turning decoded video frames into BGR pixels with the matrix and range that the stream states."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Final

import av
import cv2
import numpy as np

from blurgate.io.hdr import CURVES
from blurgate.io.orient import Turn, turned
from blurgate.pixels import Planes, of_width, to_bgr
from blurgate.types import U8, Pixels

# ITU-T H.273 matrix coefficients, as in the stream -> swscale's number for its table.
_MATRICES: Final[Mapping[int, int]] = {
    1: 1,  # BT.709
    4: 4,  # FCC
    5: 5,  # BT.601, 625 lines
    6: 5,  # BT.601, 525 lines
    7: 7,  # SMPTE 240M
    9: 9,  # BT.2020
    10: 9,  # BT.2020 with constant luminance, treated as the other kind
}
_BT601: Final = 5
_FULL_RANGE: Final = 2
_SQUARE: Final = 0.02
"""Pixels that are off by no more stay: nobody sees it, and resizing costs time and detail."""
_WIDEST: Final = 4.0
"""Beyond this, either way, what a file says of its pixels is taken for a mistake."""


def shown_width(size: tuple[int, int], aspect: Fraction) -> int:
    """Give the width at which a stored picture is shown with square pixels.

    Its height stays, as with FFmpeg's players. An even width stays even, which 4:2:0 needs.

    Args:
        size: (h, w) as stored.
        aspect: Width of a stored pixel over its height.

    >>> shown_width((1080, 1440), Fraction(4, 3))  # HDV
    1920
    >>> shown_width((576, 720), Fraction(16, 15)), shown_width((480, 720), Fraction(8, 9))  # DV
    (768, 640)
    >>> shown_width((1080, 1920), Fraction(100, 101)), shown_width((480, 640), Fraction(50))
    (1920, 640)
    """
    width = size[1]
    if abs(aspect - 1) <= _SQUARE or not 1 / _WIDEST <= aspect <= _WIDEST:
        return width
    step = 1 + (width % 2 == 0)
    return max(step, step * round(width * aspect / step))


def pixels_of(frame: av.VideoFrame, turn: Turn, aspect: Fraction = Fraction(1)) -> U8 | Pixels:
    """Give the pixels of a decoded frame, upright and square.

    The YUV matrix and range are those of the frame's tags. Without tags: limited range and BT.601
    whatever the size, as FFmpeg's scaler, OpenCV and PyAV have it (docs/decisions/0006). High
    dynamic range (PQ, HLG) becomes an ordinary picture.

    Args:
        frame: A decoded frame of any size and pixel format.
        turn: What makes it upright.
        aspect: Width of a stored pixel over its height, before the turn.

    Returns:
        Plain 8-bit 4:2:0 with even sides, which is what nearly all video is: its planes, not yet
        converted, unless its range is high. Anything else: (H, W, 3) uint8 BGR, contiguous and
        writable.
    """
    matrix = _MATRICES.get(frame.colorspace, _BT601)
    full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
    width = shown_width((frame.height, frame.width), aspect)
    if width != frame.width:
        frame = of_width(frame, width)
    curve = CURVES.get(frame.color_trc)
    if curve is not None:
        bgr = cv2.LUT(to_bgr(frame, matrix, full=full), curve)
        return turned(np.asarray(bgr, np.uint8), turn)
    planes = Planes.of(frame, matrix, turn, full=full)
    return turned(to_bgr(frame, matrix, full=full), turn) if planes is None else planes
