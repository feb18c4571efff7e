"""Opening videos with FFmpeg, which is to open nothing else than what was named.

Some formats are lists of other files: a script or playlist that calls itself `clip.mp4` would have
these read in its place. In files and pipes such formats are refused before they are looked into.
A network stream may be one (HLS, DASH), of other network addresses.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Final

import av

from blurgate.errors import DecodeError
from blurgate.io.pipe import Pipe
from blurgate.io.text import shown

if TYPE_CHECKING:
    from av.codec.hwaccel import HWAccel
    from av.container import InputContainer

_LISTS: Final = frozenset(("concat", "dash", "hls", "imf", "sdp", "vobsub"))
_OF_THIS_MACHINE: Final = "fd,file,pipe,unix"
"""FFmpeg's protocols that a network stream may not lead to."""


def open_file(path: str, decoder: HWAccel | None = None) -> InputContainer:
    """Open a video file.

    Args:
        path: The file; in a name such as `shot%d.dpx` the sign has no meaning.
        decoder: What decodes in place of the processor.

    Raises:
        DecodeError: It names other files.
        av.FFmpegError: It cannot be opened, or is no video.
    """
    options = {**_only("file"), "pattern_type": "none"}
    with _refusing(path):
        # The prefix keeps names such as "a:b.mp4" or "-" from being taken for something else.
        return av.open(f"file:{path}", options=options, metadata_errors="replace", hwaccel=decoder)


def open_handle(handle: Pipe | IO[bytes], name: str) -> InputContainer:
    """Open what comes out of a pipe, or a file of fsspec; raises as `open_file` does."""
    with _refusing(name):
        return av.open(handle, mode="r", options=_only("none"), metadata_errors="replace")


def open_stream(address: str, timeout_s: float, decoder: HWAccel | None = None) -> InputContainer:
    """Open a network stream.

    Args:
        address: The address.
        timeout_s: How long it may take to open, and then to send something.
        decoder: What decodes in place of the processor.

    Raises:
        av.error.ExitError: It was not open in time.
        av.FFmpegError: It cannot be opened, or is no video.
    """
    options = {"protocol_blacklist": _OF_THIS_MACHINE}
    if address.lower().startswith("rtsp"):
        options["rtsp_transport"] = "tcp"
    began = time.monotonic()
    try:
        return av.open(
            address, options=options, timeout=timeout_s, metadata_errors="replace", hwaccel=decoder
        )
    except av.FFmpegError as error:
        if time.monotonic() - began < timeout_s:
            raise
        # Interrupted when the time is up, RTSP speaks of invalid data, and TLS of input and output.
        raise av.error.ExitError(0, "the time is up") from error


def _only(protocol: str) -> dict[str, str]:
    """Give FFmpeg's options for one protocol and the formats that lie in one file."""
    return {"format_whitelist": _whole_formats(), "protocol_whitelist": protocol}


@functools.cache
def _whole_formats() -> str:
    return ",".join(sorted(av.formats_available - _LISTS))


@contextmanager
def _refusing(name: str) -> Iterator[None]:
    """Put FFmpeg's answer to a format that is not on the list into words."""
    try:
        yield
    except av.error.ArgumentError as error:
        # FFmpeg says no more than that, and about few damaged headers too.
        raise DecodeError(
            f"{shown(name)} cannot be read as a video: it is a list of other files (a playlist or "
            "script), which are not read for it, or damaged; name the videos themselves",
            source=name,
        ) from error
