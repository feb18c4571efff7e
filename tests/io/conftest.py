"""Makers of test media. Everything is drawn here, so that the right answer is known exactly."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import av
import numpy as np
import pytest


def yuv_frame(planes: Sequence[np.ndarray], pix_fmt: str) -> av.VideoFrame:
    """A frame of the given planes, each (h, w) of 8- or 16-bit samples."""
    height, width = planes[0].shape
    frame = av.VideoFrame(width, height, pix_fmt)
    for plane, values in zip(frame.planes, planes, strict=True):
        rows = np.zeros((plane.height, plane.line_size // values.itemsize), values.dtype)
        rows[:, : values.shape[1]] = values
        plane.update(rows.tobytes())
    return frame


def grey_frame(
    level: int, size: tuple[int, int] = (96, 128), pix_fmt: str = "yuv420p"
) -> av.VideoFrame:
    """A flat grey frame of (h, w), 8-bit 4:2:0."""
    height, width = size
    chroma = np.full((-(-height // 2), -(-width // 2)), 128, np.uint8)
    return yuv_frame([np.full(size, level, np.uint8), chroma, chroma], pix_fmt)


def luma_of(index: int) -> int:
    """The luma of frame `index` of a counting video, 16 to 231; 44 frames are all different."""
    return 16 + (index * 5) % 217


def index_of(image: np.ndarray, *, full_range: bool = False) -> int:
    """The frame of a counting video that a decoded image is."""
    luma = float(image.mean()) if full_range else 16 + float(image.mean()) * 219 / 255
    return min(range(44), key=lambda index: abs(luma_of(index) - luma))


def encode(
    path: Path,
    frames: Iterable[av.VideoFrame],
    *,
    codec: str = "libx264",
    rate: int | Fraction = 25,
    ticks: Sequence[int] | None = None,
    time_base: Fraction | None = None,
    options: Mapping[str, str] | None = None,
    muxer: Mapping[str, str] | None = None,
    file_format: str | None = None,
    tags: Mapping[str, Any] | None = None,
) -> Path:
    """Write a video with PyAV; skips the test where PyAV has no such encoder.

    Args:
        path: Its name tells the container, unless `file_format` does.
        frames: Of one size and pixel format.
        codec: The encoder.
        rate: Frames per second.
        ticks: Presentation times in units of `time_base`; by default one frame after the other.
        time_base: The unit of the times.
        options: For the encoder.
        muxer: For the container.
        file_format: The container.
        tags: Attributes of the encoder's context, such as `color_range`.
    """
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no encoder {codec}")
    with av.open(str(path), "w", options=dict(muxer or {}), format=file_format) as container:
        stream: Any = container.add_stream(codec, rate=rate)
        for index, frame in enumerate(frames):
            if index == 0:
                stream.width, stream.height = frame.width, frame.height
                stream.pix_fmt = frame.format.name
                stream.options = dict(options or {})
                for key, value in (tags or {}).items():
                    setattr(stream.codec_context, key, value)
                if time_base is not None:
                    stream.codec_context.time_base = time_base
            frame.pts = index if ticks is None else ticks[index]
            frame.time_base = time_base or Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def counting(
    path: Path,
    count: int = 30,
    size: tuple[int, int] = (96, 128),
    pix_fmt: str = "yuv420p",
    **more: Any,
) -> Path:
    """Write a video whose frame i is flat grey, of `luma_of(i)`; `more` as in `encode`."""
    return encode(path, (grey_frame(luma_of(i), size, pix_fmt) for i in range(count)), **more)


def patch_packet(path: Path, number: int, patch: Callable[[bytes], bytes]) -> None:
    """Change the bytes of one packet of a video file, in decoding order."""
    with av.open(str(path)) as container:
        packet = [p for p in container.demux(video=0) if p.size][number]
        start, size = packet.pos, packet.size
    data = path.read_bytes()
    path.write_bytes(data[:start] + patch(data[start : start + size]) + data[start + size :])


@pytest.fixture(scope="session")
def media() -> SimpleNamespace:
    """The makers above, for tests, which cannot import this module."""
    return SimpleNamespace(
        yuv_frame=yuv_frame,
        grey_frame=grey_frame,
        luma_of=luma_of,
        index_of=index_of,
        encode=encode,
        counting=counting,
        patch_packet=patch_packet,
    )
