"""Where the times of a video begin anew, as they do in recordings that were joined end to end."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import closing, suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import av

from blurgate.io.encode import ANEW_S, Clock, Joint, pictures_of
from blurgate.io.opening import open_file
from blurgate.io.video import read_video
from blurgate.types import Frame, SourceEnd

if TYPE_CHECKING:
    from av.container import InputContainer


def with_joints(clock: Clock, source: str) -> Clock:
    """Give a clock that knows where the times of a video begin anew.

    Args:
        clock: What its container says.
        source: The video; its packets are read once, and decoded only if their times go back.

    Raises:
        av.FFmpegError: The source cannot be opened.
    """
    with open_file(source) as container:
        if not _goes_back(container):
            return clock
    with closing(read_video(source)) as frames:
        return replace(clock, joints=_joints(frames, clock.frame_s))


def _goes_back(container: InputContainer) -> bool:
    last_s = None
    with suppress(av.FFmpegError, OSError, ValueError):  # the reader of the pictures tells of it
        for packet in container.demux(pictures_of(container)):
            if packet.dts is None or packet.time_base is None:
                continue
            at_s = float(packet.dts * packet.time_base)
            if last_s is not None and at_s < last_s - ANEW_S:
                return True
            last_s = at_s
    return False


def _joints(frames: Iterable[Frame | SourceEnd], frame_s: float) -> tuple[Joint, ...]:
    """Find the joints; the last frame before one lasts as long as the frame before it."""
    joints = [Joint(0, 0.0)]
    last_s = None
    gap_s = frame_s
    for item in frames:
        if isinstance(item, SourceEnd) or item.pts_s is None:
            continue
        at_s = item.pts_s + joints[-1].offset_s
        last_s = at_s if last_s is None else last_s
        if at_s < last_s - ANEW_S:
            at_s = last_s + gap_s
            joints.append(Joint(item.index, at_s - item.pts_s))
        elif at_s > last_s + ANEW_S and len(joints) > 1:
            without_s = item.pts_s + joints[-2].offset_s
            if abs(without_s - last_s) < ANEW_S:  # nothing had begun: there was one wrong time
                joints.pop()
                at_s = without_s
        elif last_s < at_s:
            gap_s = at_s - last_s
        last_s = max(last_s, at_s)
    return tuple(joints[1:])
