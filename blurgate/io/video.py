"""Reading videos, network streams and cameras frame by frame."""

from __future__ import annotations

import logging
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from fractions import Fraction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final

import av
from av.codec.context import Flags

from blurgate.errors import ConfigError, DecodeError, InputError
from blurgate.io import remote
from blurgate.io.account import Account, span_s
from blurgate.io.address import NETWORK, is_live, masked
from blurgate.io.colour import pixels_of
from blurgate.io.fields import deinterlaced
from blurgate.io.opening import open_file, open_handle, open_stream
from blurgate.io.orient import EXIF_TURNS, Turn, matrix_turn
from blurgate.io.pipe import Pipe, opened_pipe
from blurgate.io.remote import is_remote
from blurgate.io.text import reason, shown
from blurgate.runtime import video_decoder
from blurgate.types import Frame, Stream

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

TIMEOUT_S: Final = 10.0
"""How long a network stream or camera may take to open, and then to send something."""

# A text file is "decoded" as a picture of a terminal.
_NO_VIDEO_FORMATS: Final = frozenset(("tty",))
_CAMERA_FORMATS: Final = {"darwin": "avfoundation", "win32": "vfwcap"}  # those that count cameras
_MAKE_UP_TIMES: Final = 0x1  # ffmpeg's AVFMT_FLAG_GENPTS
_INDEXED: Final = (".mp4", ".m4v", ".mov", ".3gp")
# What PyAV raises for bad media: its own errors, and Python's for metadata and unknown codecs.
_BAD_MEDIA: Final = (av.FFmpegError, OSError, ValueError, MemoryError, NotImplementedError)


def read_video(
    address: str,
    *,
    every: int = 1,
    on_open: Callable[[InputContainer], None] = lambda container: None,
    timeout_s: float | None = None,
    account: Account | None = None,
    device: str = "cpu",
) -> Stream[Frame]:
    """Read a video file, a network stream or a camera, decoding as the frames are asked for.

    The first video stream that is not a cover picture is read. Bad media never raise: what can be
    decoded is given, and the `SourceEnd` says what could not.

    Args:
        address: A path, an rtsp/rtmp/http/https/udp/tcp/rtp/srt address, an fsspec address, or a
            camera index.
        every: Give the frames whose index is a multiple of this; all are decoded and counted.
        on_open: Called with the container once it is open.
        timeout_s: Takes the place of `TIMEOUT_S`.
        account: Counts the frames, under the name that it has; one that has counted already goes
            on. Left out: a new one, under the address without user and password.
        device: What decodes, as `blurgate.runtime.video_decoder` takes it. What it cannot decode,
            and what comes through a pipe, is decoded on the processor.

    Yields:
        Frames in presentation order with the container's rotation applied, with square pixels (see
        `blurgate.io.colour.shown_width`), and with its times in seconds (None where it has none;
        single frames without one follow the frame before at the stated rate), then one
        `SourceEnd`. Holds no frame that it has given. User and password of an
        address are hidden.

    Raises:
        ConfigError: `every` is below 1.
    """
    if every < 1:
        raise ConfigError(f"every must be at least 1, got {every}")
    if timeout_s is None:
        timeout_s = TIMEOUT_S
    account = account or Account(masked(address))
    name = account.source
    try:
        with (
            _pipe(address, timeout_s) as pipe,
            _accelerated(address, timeout_s, pipe, device) as container,
        ):
            on_open(container)
            yield from _frames(container, name, every, account, timeout_s)
    except InputError as error:
        account.problem = str(error)
    except _BAD_MEDIA as error:
        why = _why(error, timeout_s)
        account.problem = f"{shown(name)} cannot be read as a video: {why}"
        if address.lower().endswith(_INDEXED) and isinstance(error, av.error.InvalidDataError):
            account.problem += (
                "; perhaps its index is missing, as when a recording or copy was cut off"
            )
    yield account.end()


def estimate_frames(address: str) -> int | None:
    """Estimate the frames of a video from what its container declares, without decoding any.

    Args:
        address: What `read_video` takes.

    Returns:
        The number of frames; 0 if the source cannot be read; None if it is live or does not tell.
    """
    # A pipe can be read only once, and whoever writes to it dies when a reader leaves.
    if is_live(address) or is_remote(address) or Path(address).is_fifo():
        return None
    try:
        with _pipe(address, TIMEOUT_S), _opened(address, TIMEOUT_S) as container:
            stream = _video_stream(container, address)
            if stream.frames:
                return stream.frames
            span = span_s(container, stream) or span_s(container)
            if span is None or not stream.average_rate:
                return None
            return round((span[1] - span[0]) * float(stream.average_rate))
    except (DecodeError, *_BAD_MEDIA):
        return 0


def _pipe(address: str, timeout_s: float) -> AbstractContextManager[Pipe | IO[bytes] | None]:
    """Give what PyAV is to read from instead of a path: a pipe, or a file behind an address."""
    if is_remote(address):
        return remote.opened(address)
    return nullcontext() if is_live(address) else opened_pipe(address, timeout_s)


def _accelerated(
    address: str, timeout_s: float, pipe: Pipe | IO[bytes] | None, device: str
) -> InputContainer:
    """Open a source with its decoder on a device where that is possible."""
    # A pipe cannot be read again after an attempt that failed.
    decoder = None if pipe is not None else video_decoder(device)
    if decoder is None:
        return _opened(address, timeout_s, pipe)
    try:
        container = _opened(address, timeout_s, decoder=decoder)
        why = "its format is not one of the GPU's"
    except _BAD_MEDIA as error:
        container = _opened(address, timeout_s)  # which raises if the source is at fault
        why = reason(error)
    # A stream whose codec FFmpeg does not know has no context.
    if not any(getattr(s.codec_context, "is_hwaccel", False) for s in container.streams.video):
        logger.warning("%s is decoded on the processor: %s", shown(masked(address)), why)
    return container


def _opened(
    address: str,
    timeout_s: float,
    pipe: Pipe | IO[bytes] | None = None,
    decoder: HWAccel | None = None,
) -> InputContainer:
    if pipe is not None:
        return open_handle(pipe, masked(address))
    if not is_live(address):
        path = Path(address)
        if path.is_dir():
            raise DecodeError(f"{shown(address)} is a folder, not a video", source=address)
        if path.is_file() and path.stat().st_size == 0:
            raise DecodeError(f"{shown(address)} is an empty file", source=address)
        return open_file(address, decoder)
    if NETWORK.match(address):
        return open_stream(address, timeout_s, decoder)
    device = _CAMERA_FORMATS.get(sys.platform, "v4l2")
    name = f"/dev/video{address}" if device == "v4l2" and address.isdecimal() else address
    return av.open(name, format=device, timeout=timeout_s)


def _why(error: BaseException, timeout_s: float) -> str:
    if isinstance(error, av.error.ExitError):
        return f"nothing came for {timeout_s:g} seconds"
    return reason(error)


def _frames(
    container: InputContainer, address: str, every: int, account: Account, timeout_s: float
) -> Iterator[Frame]:
    if container.format.name in _NO_VIDEO_FORMATS:
        raise DecodeError(f"{shown(address)} is not a video", source=address)
    stream = _video_stream(container, address)
    account.begin(container, stream)
    # PyAV makes up missing presentation times, and out of order where B-frames are in an AVI file.
    container.flags &= ~_MAKE_UP_TIMES
    if not stream.codec_context.is_hwaccel:
        stream.thread_type = "AUTO"  # PyAV's default leaves cores idle
    # Or of columns that the stream cuts off on the left, up to 63 stay, for the sake of speed.
    stream.codec_context.flags |= Flags.unaligned
    aspect = stream.sample_aspect_ratio or Fraction(1)
    stored = _stored(stream, _packets(container, stream, account, timeout_s), account)
    # HEVC weaves no frames: a picture that is marked as interlaced is one field, of half the lines.
    of_fields = stream.codec_context.name == "hevc"
    for decoded, (index, time_s, turn) in stored if of_fields else deinterlaced(stored):
        if index % every == 0:
            is_field = of_fields and decoded.interlaced_frame
            pixels = pixels_of(decoded, turn, aspect / 2 if is_field else aspect)
            yield Frame(pixels, address, index, time_s)


def _stored(
    stream: VideoStream, packets: Iterator[Packet[Any] | None], account: Account
) -> Iterator[tuple[av.VideoFrame, tuple[int, float | None, Turn]]]:
    """Decode; give each frame with its index, its time and what makes it upright."""
    rotation, turn = None, Turn()
    frame_s = float(1 / stream.average_rate) if stream.average_rate else None
    time_s: float | None = None
    for packet in packets:
        for decoded in _decoded(stream, packet, account):
            index = account.frames
            before_s, time_s = time_s, _time_s(decoded, stream)
            if time_s is None and before_s is not None and frame_s is not None:
                # The last ones where B-frames are in an AVI file. A clock that counts frames
                # instead would jump here, and end every track.
                time_s = before_s + frame_s
            if decoded.rotation != rotation:
                rotation, turn = decoded.rotation, _turn(decoded)
            account.frame(time_s, damaged=decoded.is_corrupt)
            yield decoded, (index, time_s, turn)


def _time_s(decoded: av.VideoFrame, stream: VideoStream) -> float | None:
    """Give a frame's time; where only decoding times are stored (AVI), that of its output."""
    ticks = decoded.dts if decoded.pts is None else decoded.pts
    if ticks is None or stream.time_base is None:
        return None
    return float(ticks * stream.time_base)


def _video_stream(container: InputContainer, address: str) -> VideoStream:
    attached = av.stream.Disposition.attached_pic
    for stream in container.streams.video:
        if not stream.disposition & attached:
            if stream.codec_context is None:
                raise DecodeError(f"{shown(address)}: no decoder for its codec", source=address)
            return stream
    # Video streams that are left are cover pictures.
    kinds = {"a cover picture" if s.type == "video" else s.type for s in container.streams}
    held = f"only {' and '.join(sorted(kinds))}" if kinds else "nothing at all"
    raise DecodeError(f"{shown(address)} holds no video, {held}", source=address)


def _packets(
    container: InputContainer, stream: VideoStream, account: Account, timeout_s: float
) -> Iterator[Packet[Any] | None]:
    """Give the packets that may be decoded, then None to flush the decoder.

    The other streams are read along, because a file ends where its last stream ends. An empty
    packet would end the decoding, so it is left out (some files mark a repeated frame by one), and
    so is a last packet that is cut short: with several decoding threads its error would swallow
    good frames before it.
    """
    cut: Packet[Any] | None = None
    why = ""
    try:
        for packet in container.demux():
            video = packet.stream_index == stream.index
            account.packet(packet, video=video)
            if not video or packet.size == 0:
                continue
            if cut is not None:
                yield cut  # it was not the last one; live streams go on after a lost datagram
            cut = packet if packet.is_corrupt else None
            if cut is None:
                yield packet
    except _BAD_MEDIA as error:
        why = _why(error, timeout_s)
    yield None
    if why:  # told now, that the decoder has given its last frame
        account.stopped(why)
    if cut is not None:
        account.packet_failed("its data are cut short")


def _decoded(
    stream: VideoStream, packet: Packet[Any] | None, account: Account
) -> list[av.VideoFrame]:
    try:
        return stream.codec_context.decode(packet)
    except _BAD_MEDIA as error:
        account.packet_failed(reason(error))
        return []


def _turn(frame: av.VideoFrame) -> Turn:
    """Read how the container wants a frame to be turned; ffmpeg attaches that to every frame.

    Not to be called for every frame: one whose side data was looked at refers to itself, so that
    its memory stays until the garbage collector comes by.
    """
    try:
        matrix: Any = frame.side_data.get("DISPLAYMATRIX")
    except ValueError:
        # Something else is attached that PyAV has no name for; the angle can still be had.
        quarters = round(frame.rotation / 90) % 4  # counter-clockwise
        return EXIF_TURNS.get((1, 8, 3, 6)[quarters], Turn())
    return Turn() if matrix is None else matrix_turn(struct.unpack("=9i", matrix))
