"""Reading cameras and network streams, which neither wait nor stay."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from blurgate.errors import ConfigError
from blurgate.io.account import Account
from blurgate.io.address import masked
from blurgate.io.text import shown
from blurgate.io.video import TIMEOUT_S, read_video
from blurgate.pipeline import newest
from blurgate.types import Frame, SourceEnd, Status, Stream

if TYPE_CHECKING:
    from types import FrameType

    from av.container import InputContainer

logger = logging.getLogger(__name__)

FIRST_WAIT_S: Final = 1.0
LONGEST_WAIT_S: Final = 30.0
"""Between two attempts to connect: doubled from the first up to the longest."""
_WAITING_FRAMES: Final = 8
"""Frames that may wait to be looked at; a third of a second."""
_NO_TIMESTAMPS: Final = 0x80
"""AVFMT_NOTIMESTAMPS of FFmpeg's avformat.h; PyAV's own flags are no integers."""


class Stopper:
    """Ends the live source that is being read; made to be a signal handler.

    The frames that are under way are still looked at. Where no live source is being read, and the
    second time, it raises KeyboardInterrupt like Ctrl-C.

    Attributes:
        asked: A live source was ended by it; those that follow are not begun.
        reading: A live source is being read.
    """

    def __init__(self) -> None:
        self.asked = False
        self.reading = False

    def __call__(self, signum: int = 0, frame: FrameType | None = None) -> None:
        """Ask for the end."""
        if self.asked or not self.reading:
            raise KeyboardInterrupt
        self.asked = True


@dataclass(frozen=True, slots=True)
class LiveOptions:
    """How streams and cameras are read."""

    duration_s: float | None = None
    """Stop after so many seconds of wall time; None: when the stream ends, or the user."""
    reconnects: int = 5
    """Attempts to connect again, one after the other and in vain, before giving up."""
    timeout_s: float = TIMEOUT_S
    """A stream that sends nothing for so long is taken for lost."""
    stopper: Stopper = field(default_factory=Stopper, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.duration_s is not None and not 0 < self.duration_s < float("inf"):
            raise ConfigError(f"duration must be a time in seconds, got {self.duration_s:g}")
        if self.reconnects < 0:
            raise ConfigError(f"reconnects must be at least 0, got {self.reconnects}")
        if not 0 < self.timeout_s < float("inf"):
            raise ConfigError(f"timeout must be a time in seconds, got {self.timeout_s:g}")


class _Times:
    """Makes the times of a stream rise, whatever a camera that begins anew says.

    The container's times are given as they are. Where they go back, or the stream was lost, they
    go on from the last one by what the clock on the wall says has passed.
    """

    def __init__(self) -> None:
        self._shift_s = 0.0
        self._last: tuple[float, float] | None = None  # given, and when

    def __call__(self, pts_s: float | None, now_s: float, *, fresh: bool) -> float:
        if self._last is None:
            given = 0.0 if pts_s is None else pts_s
        else:
            on_wall = self._last[0] + max(now_s - self._last[1], 0.001)
            if pts_s is None:
                given = on_wall
            else:
                if fresh or pts_s + self._shift_s <= self._last[0]:
                    self._shift_s = on_wall - pts_s
                given = pts_s + self._shift_s
        self._last = given, now_s
        return given


class _OverError(Exception):
    """A stream that was live has become a recording: nothing new will come."""


class _Capture:
    """Takes frames from an address for as long as there are any, connecting again where it must.

    Attributes:
        finite: The address leads to a recording, which waits to be read and then is over.
    """

    def __init__(self, address: str, name: str, every: int, options: LiveOptions) -> None:
        self.finite = False
        self.account = Account(name)
        self.dropped = 0
        self.reconnects = 0
        self.error = ""
        self.final: SourceEnd | None = None  # of a recording
        self._address = address
        self._every = every
        self._options = options
        self._times = _Times()
        self._timeless = False
        self._stop = threading.Event()

    def drop(self, item: Frame) -> None:
        """Note that a frame was not looked at."""
        del item
        self.dropped += 1

    def stop(self) -> None:
        """Let the capturing thread end where it waits."""
        self._stop.set()

    def frames_of_all_connections(self) -> Generator[Frame, None, None]:
        """Give frames until there will be no more; run in a thread of its own."""
        attempt, lost = 0, ""
        while not self._stop.is_set():
            before = self.account.frames
            try:
                end = yield from self._one_connection()
            except _OverError:
                # Read like a file it would give the frames again that were given, times and all.
                self.error = lost
                logger.warning("%s: the stream is over", shown(self.account.source))
                return
            if self.finite:
                self.final = end
                return
            if self.account.frames > before:
                attempt = 0
            lost = end.error
            why = lost or f"{shown(self.account.source)}: the stream ended"
            if attempt >= self._options.reconnects:
                tries = f"; gave up after {attempt} attempts" if attempt else ""
                self.error = why + tries
                return
            attempt += 1
            wait_s = min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** (attempt - 1))
            logger.error(
                "%s; connecting again in %g s (attempt %d of %d)",
                *(why, wait_s, attempt, self._options.reconnects),
            )
            self._stop.wait(wait_s)

    def _one_connection(self) -> Generator[Frame, None, SourceEnd]:
        """Give the frames of one connection, numbered on; returns how it ended."""
        first = True
        end = SourceEnd(self.account.source, "failed", 0, 0)
        video = read_video(
            self._address,
            on_open=self._on_open,
            timeout_s=self._options.timeout_s,
            account=self.account,
        )
        with closing(video) as items:
            for item in items:
                if isinstance(item, SourceEnd):
                    end = item
                    continue
                if first and item.index:
                    self.reconnects += 1
                    name = shown(self.account.source)
                    logger.error("%s: back after frame %d", name, item.index - 1)
                at_s = item.pts_s
                if not self.finite:
                    said_s = None if self._timeless else at_s
                    at_s = self._times(said_s, time.monotonic(), fresh=first)
                first = False
                if item.index % self._every == 0:
                    yield replace(item, pts_s=at_s)
                if self._stop.is_set():
                    break
        return end

    def _on_open(self, container: InputContainer) -> None:
        finite = bool(container.duration)
        if finite and self.account.frames:
            raise _OverError
        self.finite = finite
        # Of pictures one after the other, such as a camera's MJPEG, FFmpeg gives times by a rate
        # that it makes up.
        self._timeless = bool(container.format.flags & _NO_TIMESTAMPS)

    def end(self) -> SourceEnd:
        """Say how it went."""
        if self.final is not None:
            return replace(self.final, frames_dropped=0)
        name, frames = self.account.source, self.account.frames
        lost, notes = self.account.damage()
        error = self.error
        if not error and (notes or not frames):
            notes = notes or ["nothing came in the time it was given"]
            error = f"{shown(name)}: {'; '.join(notes)}"
        status: Status = "ok" if not error else "partial" if frames else "failed"
        return SourceEnd(name, status, frames, lost, error, self.dropped, self.reconnects)


def read_live(
    address: str,
    *,
    name: str = "",
    every: int = 1,
    options: LiveOptions | None = None,
    on_start: Callable[[Callable[[], SourceEnd]], None] = lambda end: None,
) -> Stream[Frame]:
    """Read a camera or a network stream; never waits for whoever looks at the frames.

    A frame that nobody has taken when newer ones come is dropped and counted. A stream that is
    lost, or silent for too long, is connected to again, with growing pauses. What turns out to be
    a recording (its container knows its duration) is read like a file: without drops, once. A
    stream that is one when it is connected to again is over.

    Args:
        address: An rtsp/rtmp/http/https/udp/tcp/rtp/srt address, or a camera index.
        name: What the frames are said to come from; the address without user and password, if left
            out.
        every: Give the frames whose index is a multiple of this; all are decoded and counted.
        options: Limits in time and attempts.
        on_start: Called with something that says how the source would end if it ended now, for
            those who are stopped in the middle.

    Yields:
        Frames, their indices and times rising over all connections; then one `SourceEnd` with
        status ok if the time was up, partial if frames were lost or damaged or the stream was
        lost for good, failed if nothing ever came. User and password are in neither.

    Raises:
        ConfigError: `every` is below 1.
    """
    if every < 1:
        raise ConfigError(f"every must be at least 1, got {every}")
    options = options or LiveOptions()
    stopper = options.stopper
    capture = _Capture(address, name or masked(address), every, options)
    on_start(capture.end)
    until = None if options.duration_s is None else time.monotonic() + options.duration_s

    def over() -> bool:
        return stopper.asked or (until is not None and time.monotonic() >= until)

    stopper.reading = True
    try:
        yield from newest(
            capture.frames_of_all_connections(),
            _WAITING_FRAMES,
            on_drop=capture.drop,
            may_drop=lambda: not capture.finite,
            over=over,
        )
    finally:
        stopper.reading = False
        capture.stop()
    yield capture.end()
