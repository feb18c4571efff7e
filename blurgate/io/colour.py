"""Turning decoded video frames into BGR pixels with the matrix and range that the stream states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import av

from blurgate.io.orient import Turn, turned
from blurgate.pixels import Planes, to_bgr
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


def pixels_of(frame: av.VideoFrame, turn: Turn) -> U8 | Pixels:
    """Give the pixels of a decoded frame, upright.

    The YUV matrix and range are those of the frame's tags. Without tags: limited range and BT.601
    whatever the size, as FFmpeg's scaler, OpenCV and PyAV have it (docs/decisions/0006). High
    dynamic range (PQ, HLG) is not tone-mapped.

    Args:
        frame: A decoded frame of any size and pixel format.
        turn: What makes it upright.

    Returns:
        Plain 8-bit 4:2:0 with even sides, which is what nearly all video is: its planes, not yet
        converted. Anything else: (H, W, 3) uint8 BGR, contiguous and writable.
    """
    matrix = _MATRICES.get(frame.colorspace, _BT601)
    full = frame.color_range == _FULL_RANGE or frame.format.name.startswith("yuvj")
    planes = Planes.of(frame, matrix, turn, full=full)
    return turned(to_bgr(frame, matrix, full=full), turn) if planes is None else planes
