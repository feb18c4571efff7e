"""Writing videos: H.264 in MP4 that browsers play; `blurgate.io.sound` adds the sound."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import av
import cv2
import numpy as np
from av.video.reformatter import Interpolation

from blurgate.errors import EnvironmentLackError, InputError
from blurgate.runtime import PIP_PYAV
from blurgate.types import U8

if TYPE_CHECKING:
    from av.container import InputContainer, OutputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

_ENCODERS: Final = ("libx264", "libopenh264", "h264_videotoolbox", "h264_mf", "mpeg4")
"""Best first. PyAV's wheels hold libx264; a PyAV that was built without GPL parts does not."""
_X264: Final = {"preset": "veryfast", "crf": "20", "bf": "0", "g": "50"}
_BIT_RATE_PER_PIXEL: Final = 0.12  # of the encoders that know no constant quality
_LATE_S: Final = 1.0
ANEW_S: Final = 0.5
"""Times that go back by more than this begin anew; by less, a single one is wrong."""
_ROUNDED: Final = Interpolation.BILINEAR | Interpolation.ACCURATE_RND
"""FFmpeg's quicker conversion cuts off what is behind the point: grey is darker, and lacks red."""
_BT709: Final = 1
_LIMITED: Final = 1


@cache
def video_encoder() -> str:
    """Give the encoder that will be used.

    Raises:
        EnvironmentLackError: This PyAV has none of those that are known here.
    """
    for name in _ENCODERS:
        try:
            av.Codec(name, "w")
        except ValueError:  # av.codec.codec.UnknownCodecError
            continue
        return name
    raise EnvironmentLackError(f"this PyAV has no H.264 or MPEG-4 encoder; run: {PIP_PYAV}")


@dataclass(frozen=True, slots=True)
class Joint:
    """Where the times of a source begin anew."""

    index: int
    """The first frame behind it."""
    offset_s: float
    """What is added to the times behind it, so that they go on."""


@dataclass(frozen=True, slots=True)
class Clock:
    """The times of a source."""

    time_base: Fraction
    """A tick in seconds: that of the source's video, with 1 above the line."""
    frame_s: float
    """How long a frame lasts on average."""
    shift_s: float
    """What is taken from all times: 0, unless the source begins late, as recordings of
    broadcasts do, or before 0, as those do during which the broadcast's own clock began anew."""
    joints: tuple[Joint, ...] = ()
    """Where the container's times begin anew, in the order of frames."""

    def seconds(self, pts_s: float | None, index: int) -> float:
        """Give the time of a frame: the container's, or one that goes on behind a joint."""
        if pts_s is None:
            return index * self.frame_s
        return pts_s + self.offset_s(bisect_right(self.joints, index, key=lambda j: j.index))

    def offset_s(self, passed: int) -> float:
        """Give what is added to times behind so many joints."""
        passed = min(passed, len(self.joints))
        return self.joints[passed - 1].offset_s if passed else 0.0

    def ticks(self, at_s: float) -> int:
        """Give a time in ticks."""
        return round((at_s - self.shift_s) / self.time_base)


def pictures_of(container: InputContainer) -> VideoStream:
    """Give the stream of a source that holds its pictures, and no cover."""
    cover = av.stream.Disposition.attached_pic
    return next(s for s in container.streams.video if not s.disposition & cover)


def clock_of(container: InputContainer) -> Clock:
    """Read a source's times."""
    stream = pictures_of(container)
    base = stream.time_base or Fraction(1, 90_000)
    start_s = (container.start_time or 0) / av.time_base
    frame_s = float(1 / stream.average_rate) if stream.average_rate else 0.04
    # Not at sound before 0, which may be an encoder's run-in.
    is_shifted = start_s > _LATE_S or (stream.start_time or 0) < 0
    return Clock(Fraction(1, base.denominator), frame_s, start_s if is_shifted else 0.0)


class VideoWriter:
    """Writes an MP4 file; the file is there whole or not at all.

    Pictures become yuv420p in BT.709, limited range, and say so. That format has even sides: a
    picture of odd size gets its last row or column twice. The index stands at the front, so that a
    browser can begin before it has everything.

    Args:
        path: The file; replaced if it exists.
        size: (h, w) of the pictures.
        clock: The unit of times.
    """

    def __init__(self, path: Path, size: tuple[int, int], clock: Clock) -> None:
        self._path = path
        self._temporary = path.with_name(path.name + ".tmp")
        self._clock = clock
        h, w = self._size = (size[0] + size[0] % 2, size[1] + size[1] % 2)
        self._durations: dict[int, int] = {}
        self._last = -1
        name = video_encoder()
        # The prefix keeps names such as "a:b.mp4" from being taken for an address.
        self.container: OutputContainer = av.open(
            f"file:{self._temporary}", "w", format="mp4", options={"movflags": "+faststart"}
        )
        """What further streams are added to, before the first picture."""
        rate = Fraction(1 / clock.frame_s).limit_denominator(1001)
        stream: Any = self.container.add_stream(name, rate=rate)
        stream.width, stream.height, stream.pix_fmt = w, h, "yuv420p"
        context = stream.codec_context
        context.time_base = clock.time_base
        context.sample_aspect_ratio = Fraction(1)
        context.colorspace = context.color_primaries = context.color_trc = _BT709
        context.color_range = _LIMITED
        if name == "libx264":
            stream.options = dict(_X264)
        else:
            context.bit_rate = int(_BIT_RATE_PER_PIXEL * w * h / clock.frame_s)
        self._stream = stream

    def __enter__(self) -> Self:
        """Nothing is left to open."""
        return self

    def __exit__(self, kind: type[BaseException] | None, /, *rest: object) -> None:
        """Complete the file and put it in its place, or take it away after an error."""
        try:
            if kind is None:
                self._mux(self._stream.encode(None))
            self.container.close()
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)

    def write(self, image: U8, at_s: float, duration_s: float) -> None:
        """Add a picture.

        Args:
            image: (h, w, 3) uint8 BGR; resized if it is not of the size that was promised.
            at_s: Its time in the source; one that is not later than the one before is moved up.
            duration_s: How long it is shown.

        Raises:
            InputError: The encoder refuses it, as most do beyond some size.
        """
        h, w = self._size
        if abs(image.shape[0] - h) > 1 or abs(image.shape[1] - w) > 1:
            image = np.asarray(cv2.resize(image, (w, h), interpolation=cv2.INTER_AREA), np.uint8)
        pad = ((0, h - image.shape[0]), (0, w - image.shape[1]), (0, 0))
        if any(after for _, after in pad):
            image = np.pad(image, pad, "edge")
        frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="bgr24")
        frame = frame.reformat(
            format="yuv420p", dst_colorspace="ITU709", src_color_range="JPEG",
            dst_color_range="MPEG", interpolation=_ROUNDED,
        )  # fmt: skip
        self._last = max(self._clock.ticks(at_s), self._last + 1)
        frame.pts, frame.time_base = self._last, self._clock.time_base
        self._durations[self._last] = max(1, round(duration_s / self._clock.time_base))
        try:
            packets = self._stream.encode(frame)
        except av.FFmpegError as error:
            raise InputError(
                f"cannot write {self._path.name}: {self._stream.codec_context.name} cannot encode "
                f"pictures of {w}x{h} pixels"
            ) from error
        self._mux(packets)

    def _mux(self, packets: list[Packet[Any]]) -> None:
        for packet in packets:
            if packet.pts is not None:
                # Encoders take the average; of a variable rate the last frame would be lost.
                packet.duration = self._durations.pop(packet.pts, packet.duration)
            self.container.mux(packet)
