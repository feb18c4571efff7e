"""Counting what a video gave, and what it should have given."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Final

import av

from blurgate.io.text import shown
from blurgate.types import SourceEnd, Status

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.stream import VideoStream

logger = logging.getLogger(__name__)

# VP8 stores reference pictures that are never shown as packets of their own.
_MORE_PACKETS_THAN_FRAMES: Final = frozenset(("vp8",))


class Account:
    """The frames of one video: decoded, damaged, lost.

    Args:
        source: The path or address.
        first: What the first frame is called in messages; a stream may go on after it was lost, and
            the container's times then are not those that are given.

    Attributes:
        source: The path or address.
        frames: Frames decoded so far.
        problem: One line on why the source could not be read, or not to its end; empty if it could.
    """

    def __init__(self, source: str, first: int = 0) -> None:
        self.source = source
        self._first = first
        self.frames = 0
        self.problem = ""
        self._sent = 0  # packets that should give one frame each
        self._silent = 0  # packets that rightly give none
        self._failed = 0  # packets that could not be decoded
        self._damaged = 0  # frames that were decoded with parts missing
        self._place = "at the start"
        self._first_loss = ""
        self._first_damage = ""
        self._end_s = 0.0  # where the last packet of any stream ends
        self._video_end_s = 0.0
        self._declared_frames = 0
        self._declared_end_s: float | None = None
        self._declared_video_end_s: float | None = None
        self._frame_s = 0.0
        self._one_packet_per_frame = True
        self._skips_empty = False
        self._last_dts: int | None = None

    def begin(self, container: InputContainer, stream: VideoStream) -> None:
        """Note what the container declares about itself and the stream that is read."""
        self._one_packet_per_frame = stream.codec_context.name not in _MORE_PACKETS_THAN_FRAMES
        self._declared_frames = stream.frames
        if stream.average_rate:
            self._frame_s = float(1 / stream.average_rate)
        # Other formats either count their frames or have nothing but an estimate of their duration.
        if "matroska" in container.format.name and container.duration is not None:
            self._declared_end_s = container.duration / av.time_base
        # An empty chunk says "show the last frame once more"; it is declared, and never given.
        self._skips_empty = container.format.name == "avi"
        # Edit lists: the frames that a user trimmed away are still declared.
        if "mov" in container.format.name and stream.duration and stream.time_base:
            end = (stream.start_time or 0) + stream.duration
            self._declared_video_end_s = float(end * stream.time_base)

    def packet(self, packet: Packet[Any], *, video: bool) -> None:
        """Note a packet that was read; `video`: it is of the stream whose frames are counted."""
        start = packet.dts if packet.pts is None else packet.pts
        if start is None or packet.time_base is None:
            end_s = 0.0
        else:
            end_s = float((start + (packet.duration or 0)) * packet.time_base)
        self._end_s = max(self._end_s, end_s)
        if not video:
            return
        self._video_end_s = max(self._video_end_s, end_s)
        if self._skips_empty and packet.dts is not None:  # there it counts the chunks
            if self._last_dts is not None:
                self._silent += max(0, packet.dts - self._last_dts - 1)
            self._last_dts = packet.dts
        if packet.is_discard or packet.size == 0:
            self._silent += start is not None  # PyAV ends with an empty packet of its own
        else:
            self._sent += 1

    def packet_failed(self, why: str) -> None:
        """Note that a packet could not be decoded."""
        self._failed += 1
        self._first_loss = self._first_loss or self._place
        logger.info("%s: lost a frame %s: %s", shown(self.source), self._place, why)

    def frame(self, time_s: float | None, *, damaged: bool) -> None:
        """Note a decoded frame."""
        at = "" if time_s is None or self._first else f" ({time_s:.6g} s)"
        name = f"frame {self._first + self.frames}{at}"
        if damaged:
            self._damaged += 1
            self._first_damage = self._first_damage or name
        self._place = f"after {name}"
        self.frames += 1

    def stopped(self, why: str) -> None:
        """Note that reading broke off."""
        self.problem = f"{shown(self.source)}: reading broke off {self._place}: {why}"

    def end(self) -> SourceEnd:
        """Close the account."""
        lost = self._lost()
        notes = [self.problem] if self.problem else []
        if lost:
            notes.append(
                f"{lost} of {self.frames + lost} frames could not be decoded, "
                f"the first {self._first_loss or self._place}"
            )
        if self._damaged:
            notes.append(
                f"{self._damaged} of {self.frames} frames {_are(self._damaged)} damaged, "
                f"the first is {self._first_damage}"
            )
        if self._short(self._end_s, self._declared_end_s, slack_s=2 * self._frame_s + 0.05):
            notes.append(f"the file ends at {self._end_s:.6g} of {self._declared_end_s:.6g} s")
        if not self.frames and not notes:
            notes.append("holds no frames")
        status: Status = "ok" if not notes else "partial" if self.frames else "failed"
        error = "; ".join(notes)
        if error and not self.problem:
            error = f"{shown(self.source)}: {error}"
        return SourceEnd(self.source, status, self.frames, lost, error)

    def _lost(self) -> int:
        """Frames that the container holds or declares and that did not come out."""
        lost = self._failed
        # A decoder that concealed one error may have swallowed the next.
        if (self._failed or self._damaged or self.problem) and self._one_packet_per_frame:
            lost = max(lost, self._sent - self.frames)
        end_s = self._declared_video_end_s
        if end_s is None or self._short(self._video_end_s, end_s, slack_s=self._frame_s / 2):
            lost = max(lost, self._declared_frames - self._silent - self.frames)
        return lost

    @staticmethod
    def _short(end_s: float, declared_s: float | None, *, slack_s: float) -> bool:
        return declared_s is not None and end_s < declared_s - slack_s


def _are(count: int) -> str:
    return "is" if count == 1 else "are"
