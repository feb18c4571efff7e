"""Turning decoded video frames into BGR pixels with the matrix and range that the stream states."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from blurgate.types import U8

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

# The pipeline's workers have the cores; older releases know no such argument and use one thread.
_ONE_THREAD: Final[Mapping[str, Any]] = (
    {"threads": 1} if int(av.__version__.split(".")[0]) >= 17 else {}
)


class Converter:
    """Converts the frames of one stream; keeps swscale's tables from frame to frame.

    The YUV matrix and range are those of the frame's tags. Without tags: limited range and BT.601
    whatever the size, as FFmpeg's scaler, OpenCV and PyAV have it (docs/decisions/0006). Eight-bit
    output of deeper video is rounded down. High dynamic range (PQ, HLG) is not tone-mapped.

    swscale's fast path is taken, as OpenCV does: values are within 3 grey levels of the exact ones,
    1 too low on average; the exact path is 25 times slower.
    """

    def __init__(self) -> None:
        self._reformatter = VideoReformatter()

    def __call__(self, frame: av.VideoFrame) -> U8:
        """Convert a frame.

        Args:
            frame: A decoded frame of any size and pixel format.

        Returns:
            (H, W, 3) uint8 BGR, contiguous and writable; holds its memory itself.
        """
        name = frame.format.name
        full = frame.color_range == _FULL_RANGE or name.startswith("yuvj")
        # Stated outright: releases of PyAV differ in which of the frame's tags reach swscale.
        bgr = self._reformatter.reformat(
            frame,
            format="bgr24",
            src_colorspace=_matrix(frame),
            src_color_range="JPEG" if full else "MPEG",
            # Means nothing for BGR, but PyAV before 17 heeds the source's only if they differ.
            dst_color_range="MPEG" if full else "JPEG",
            **_ONE_THREAD,
        )
        return np.ascontiguousarray(bgr.to_ndarray(), np.uint8)


def _matrix(frame: av.VideoFrame) -> int:
    return _MATRICES.get(frame.colorspace, _BT601)
