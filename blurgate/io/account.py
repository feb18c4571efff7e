"""Counting what a video gave, and what it should have given."""

from __future__ import annotations

import logging
from fractions import Fraction
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
# Their duration is when they end, even where they begin late, as FFmpeg writes them.
_DURATION_FROM_0: Final = ("matroska", "nut", "asf")


def span_s(
    container: InputContainer, stream: VideoStream | None = None
) -> tuple[float, float] | None:
    """Say when a container, or a stream of it, begins and ends; None where it does not tell."""
    declared: Any = stream or container
    tick = Fraction(1, av.time_base) if stream is None else stream.time_base
    if declared.duration is None or tick is None:
        return None
    begin, end = declared.start_time or 0, declared.duration
    counted_from_0 = any(name in container.format.name for name in _DURATION_FROM_0)
    if not counted_from_0 or end <= begin:  # another writer counted from the beginning
        end += begin
    return float(begin * tick), float(end * tick)


class Account:
    """The frames of one video: decoded, damaged, lost.

    A stream that is connected to again goes on with its account, which begins once more then.

    Args:
        source: What it is called.

    Attributes:
        source: What it is called.
        frames: Frames decoded so far, over all connections.
        problem: One line on why the source could not be read, or not to its end; empty if it could.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.frames = 0
        self.problem = ""
        self._sent = 0  # packets that should give one frame each
        self._silent = 0  # packets that rightly give none
        self._failed = 0  # packets that could not be decoded
        self._troubled = False
        self._closed = False
        self._damaged = 0  # frames that were decoded with parts missing
        self._lost_before = 0  # in earlier connections
        self._frames_before = 0
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
        self._least_gap: int | None = None  # empty chunks that follow every frame

    def begin(self, container: InputContainer, stream: VideoStream) -> None:
        """Note what the container declares about itself and the stream that is read.

        What was noted of an earlier connection stays.
        """
        self._lost_before, self._frames_before = self._lost(), self.frames
        self.problem, self._troubled, self._closed = "", False, False
        self._sent = self._silent = self._failed = 0
        self._last_dts = self._least_gap = None
        self._end_s = self._video_end_s = 0.0
        self._declared_end_s = self._declared_video_end_s = None
        self._one_packet_per_frame = stream.codec_context.name not in _MORE_PACKETS_THAN_FRAMES
        self._declared_frames = stream.frames
        if stream.average_rate:
            self._frame_s = float(1 / stream.average_rate)
        # Other formats either count their frames or have nothing but an estimate of their duration.
        whole, pictures = span_s(container), span_s(container, stream)
        if "matroska" in container.format.name and whole is not None:
            self._declared_end_s = whole[1]
        # An empty chunk says "show the last frame once more"; it is declared, and never given.
        self._skips_empty = container.format.name == "avi"
        # Edit lists: the frames that a user trimmed away are still declared.
        if "mov" in container.format.name and stream.duration and pictures is not None:
            self._declared_video_end_s = pictures[1]

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
                gap = max(0, packet.dts - self._last_dts - 1)
                self._silent += gap
                self._least_gap = gap if self._least_gap is None else min(gap, self._least_gap)
            self._last_dts = packet.dts
        if packet.is_discard or packet.size == 0:
            self._silent += start is not None  # PyAV ends with an empty packet of its own
        else:
            self._sent += 1

    def packet_failed(self, why: str) -> None:
        """Note that a packet could not be decoded."""
        self._first_loss = self._first_loss or self._place
        self._failed += 1
        self._troubled = True
        logger.info("%s: lost a frame %s: %s", shown(self.source), self._place, why)

    def frame(self, time_s: float | None, *, damaged: bool) -> None:
        """Note a decoded frame."""
        # The times that are given after a loss are not the container's.
        at = "" if time_s is None or self._frames_before else f" ({time_s:.6g} s)"
        name = f"frame {self.frames}{at}"
        self.frames += 1
        if damaged:
            self._first_damage = self._first_damage or name
            self._damaged += 1
            self._troubled = True
        self._place = f"after {name}"

    def stopped(self, why: str) -> None:
        """Note that reading broke off."""
        self.problem = f"{shown(self.source)}: reading broke off {self._place}: {why}"

    def damage(self) -> tuple[int, list[str]]:
        """Give the number of frames that are lost, and what there is to say of them.

        May be asked for while the source is being read, by another thread too: what the decoder
        still holds is not lost then.
        """
        lost = self._lost()
        notes = []
        if lost:
            notes.append(
                f"{lost} of {self.frames + lost} frames could not be decoded, "
                f"the first {self._first_loss or self._place}"
            )
        if self._damaged:
            are = "is" if self._damaged == 1 else "are"
            notes.append(
                f"{self._damaged} of {self.frames} frames {are} damaged, "
                f"the first is {self._first_damage}"
            )
        return lost, notes

    def end(self) -> SourceEnd:
        """Close the account."""
        self._closed = True
        lost, notes = self.damage()
        if self.problem:
            notes.insert(0, self.problem)
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
        given = self.frames - self._frames_before
        # A decoder that concealed one error may have swallowed the next.
        swallowed = self._closed and (self._troubled or self.problem)
        if swallowed and self._one_packet_per_frame:
            lost = max(lost, self._sent - given)
        end_s = self._declared_video_end_s
        if self._closed and (
            end_s is None or self._short(self._video_end_s, end_s, slack_s=self._frame_s / 2)
        ):
            # Behind the last frame no gap shows: at a rate of fields every frame has one.
            silent = self._silent + (self._least_gap or 0)
            lost = max(lost, self._declared_frames - silent - given)
        return self._lost_before + lost

    @staticmethod
    def _short(end_s: float, declared_s: float | None, *, slack_s: float) -> bool:
        return declared_s is not None and end_s < declared_s - slack_s
