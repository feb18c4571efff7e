"""Videos and pictures with what was decided drawn into them, and videos cut to the kept faces.

A second walk through the source, when everything about it is known: what was decided about a face
may depend on faces that come after it.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from itertools import accumulate, chain
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from blurgate.drawing import Mark, Timeline, draw_faces
from blurgate.errors import ConfigError, InputError
from blurgate.files import written_whole
from blurgate.io.account import span_s
from blurgate.io.encode import (
    Clock,
    VideoWriter,
    clock_of,
    pictures_of,
)
from blurgate.io.joints import with_joints
from blurgate.io.opening import open_file
from blurgate.io.sound import SoundCopy, SoundCut
from blurgate.io.text import digest
from blurgate.io.video import read_video
from blurgate.pipeline import prefetch
from blurgate.types import U8, Frame, SourceEnd

if TYPE_CHECKING:
    from av.container import InputContainer

_AHEAD_FRAMES: Final = 4
_JPEG_SIDE_PX: Final = 65_500  # the most that libjpeg writes
_ROUNDING_S: Final = 1e-6


def output_name(folder: str, source: str, suffix: str) -> str:
    """Give the path, relative to the output folder, of what is made of a whole source.

    Letters of all scripts stay; everything else that some file system, shell or browser treats
    specially is replaced. The digest keeps equally named sources of different folders apart.

    >>> output_name("cut", "films/Zoë 1.mov", ".mp4")
    'cut/Zoë_1-50a0797d6620ea03.mp4'
    """
    stem = re.sub(r"[^\w-]+", "_", PurePosixPath(source.replace("\\", "/")).stem).strip("-_")
    return f"{folder}/{stem[:48] or 'video'}-{digest(source)}{suffix}"


def annotate_image(image: U8, marks: Iterable[Mark], target: Path) -> None:
    """Write a picture with its faces drawn in as a JPEG file, whole or not at all.

    Args:
        image: (H, W, 3) uint8 BGR; left as it is.
        marks: Its faces.
        target: The file.

    Raises:
        InputError: JPEG cannot hold a picture of this size.
    """
    h, w = image.shape[:2]
    done, data = False, np.empty(0, np.uint8)
    if max(h, w) <= _JPEG_SIDE_PX:  # OpenCV would print a line of its own on stderr
        drawn = image.copy()
        draw_faces(drawn, marks)
        with suppress(cv2.error):
            done, data = cv2.imencode(".jpg", drawn, [cv2.IMWRITE_JPEG_QUALITY, 92])
    if not done:
        raise InputError(f"cannot write {target.name}: JPEG holds no picture of {w}x{h} pixels")
    target.parent.mkdir(exist_ok=True)
    with written_whole(target, sync=False) as temporary:
        temporary.write_bytes(data.tobytes())


def annotate_video(
    source: str, marks: Iterable[Mark], target: Path, *, threshold: float, every: int = 1
) -> bool:
    """Write a video with the faces, their degrees and a timeline drawn in.

    Size, times and length are those of the source, the sound is carried over; rotation is applied,
    so that it looks the same in players that know no rotation.

    Args:
        source: The video.
        marks: Its faces in the order of frames; walked through twice.
        target: The file; there whole or not at all.
        threshold: The blur degree above which faces were rejected; a line in the timeline.
        every: Faces are known of frames 0, N, 2N, ...; they are shown until the next of these.

    Returns:
        Whether there was a frame to write.

    Raises:
        ConfigError: `target` is the source itself.
        EnvironmentLackError: There is no video encoder.
        InputError: The encoder takes no pictures of this size.
        av.FFmpegError: The source cannot be read again, or the file not be written.
    """
    _check_target(source, target)
    with open_file(source) as sound:
        clock = with_joints(clock_of(sound), source)
        with closing(_shown(source, sound, clock)) as frames:
            first = next(frames, None)
            if first is None:
                return False
            size = first[0].size
            declared = span_s(sound) or (first[1], first[1])
            shown_s = (first[1], declared[1] + clock.offset_s(len(clock.joints)))
            timed = ((clock.seconds(m.pts_s, m.frame_index), m) for m in marks)
            timeline = Timeline(timed, shown_s, threshold, size)
            faces = _ByFrame(marks)
            shown: list[Mark] = []
            with VideoWriter(target, size, clock) as writer:
                track = SoundCopy(sound, writer, clock)
                for frame, at_s, until_s in chain((first,), frames):
                    if frame.index % every == 0:
                        shown = faces(frame.index)
                    image = frame.image.copy()
                    draw_faces(image, shown)
                    timeline.draw(image, at_s)
                    track.until(at_s)
                    writer.write(image, at_s, until_s - at_s)
                track.finish()
    return True


def cut_video(source: str, marks: Iterable[Mark], target: Path, *, pad_s: float = 0.5) -> bool:
    """Write a video shortened to the stretches that hold kept faces.

    Pictures are encoded anew, so that a stretch begins at any frame; the sound is cut at the same
    times, to the sample.

    Args:
        source: The video.
        marks: Its faces in the order of frames; walked through twice.
        target: The file; there whole or not at all, and not at all without a kept face.
        pad_s: What is kept before and after each stretch; stretches that then touch are one.

    Returns:
        Whether there was a kept face.

    Raises:
        ConfigError: `target` is the source itself.
        EnvironmentLackError: There is no video encoder.
        InputError: The encoder takes no pictures of this size.
        av.FFmpegError: The source cannot be read again, or the file not be written.
    """
    _check_target(source, target)
    if all(m.decision != "keep" for m in marks):
        return False
    with open_file(source) as sound:
        clock = with_joints(clock_of(sound), source)
        kept = (m for m in marks if m.decision == "keep")
        times = (clock.seconds(m.pts_s, m.frame_index) for m in kept)
        stretches = list(_joined(times, pad_s))
        with closing(_shown(source, sound, clock)) as frames:
            return _write_cut(frames, stretches, sound, clock, target)


def _write_cut(
    frames: Iterator[tuple[Frame, float, float]],
    stretches: list[tuple[float, float]],
    sound: InputContainer,
    clock: Clock,
    target: Path,
) -> bool:
    first = next(frames, None)
    if first is None:
        return False
    written_s = 0.0
    rest = iter(stretches)
    stretch = next(rest, None)
    size = first[0].size
    begun = replace(clock, shift_s=0.0)
    with VideoWriter(target, size, begun) as writer:
        cut = SoundCut(sound, writer, clock)
        for frame, at_s, until_s in chain((first,), frames):
            while stretch is not None and at_s > stretch[1]:
                stretch = next(rest, None)
            if stretch is None:
                break
            if at_s >= stretch[0]:
                writer.write(frame.image, written_s, until_s - at_s)
                cut.carry(at_s, until_s, written_s)
                written_s += until_s - at_s
        cut.finish()
    return True


def _joined(times: Iterable[float], pad_s: float) -> Iterator[tuple[float, float]]:
    """Make stretches, in which frames are looked for, of the times of some of them."""
    begin = end = None
    for at_s in accumulate(times, max):  # a single time may be wrong
        if begin is None or end is None:
            begin = at_s - pad_s - _ROUNDING_S
        elif at_s - pad_s > end:
            yield begin, end
            begin = at_s - pad_s - _ROUNDING_S
        end = at_s + pad_s + _ROUNDING_S
    if begin is not None and end is not None:
        yield begin, end


def _shown(
    source: str, container: InputContainer, clock: Clock
) -> Generator[tuple[Frame, float, float], None, None]:
    """Give the frames of a video with the times from and until which they are shown."""
    waiting: tuple[Frame, float] | None = None
    gap_s = clock.frame_s
    whole = False
    with closing(prefetch(read_video(source), _AHEAD_FRAMES)) as frames:
        for item in frames:
            if isinstance(item, SourceEnd):
                # What the container tells of an end is not about all that was joined.
                whole = item.status == "ok" and not clock.joints
                break
            at_s = clock.seconds(item.pts_s, item.index)
            if waiting is not None:
                at_s = max(at_s, waiting[1])  # a single time may be wrong
                gap_s = at_s - waiting[1]
                yield (*waiting, at_s)
            waiting = item, at_s
    if waiting is not None:
        end_s = _pictures_end_s(container) if whole else None
        if end_s is None or end_s <= waiting[1]:
            end_s = waiting[1] + (gap_s or clock.frame_s)
        yield (*waiting, end_s)


class _ByFrame:
    """Looks up the faces of frames that are asked for in rising order."""

    def __init__(self, marks: Iterable[Mark]) -> None:
        self._marks = iter(marks)
        self._next = next(self._marks, None)

    def __call__(self, index: int) -> list[Mark]:
        found = []
        while self._next is not None and self._next.frame_index <= index:
            if self._next.frame_index == index:
                found.append(self._next)
            self._next = next(self._marks, None)
        return found


def _pictures_end_s(container: InputContainer) -> float | None:
    """Say when a video's pictures end; None where the container does not tell that of its sound."""
    span = span_s(container, pictures_of(container))
    if span is None and not container.streams.audio:
        span = span_s(container)
    return None if span is None else span[1]


def _check_target(source: str, target: Path) -> None:
    if target.exists() and Path(source).exists() and target.samefile(source):
        raise ConfigError(f"{target} is the source itself; choose another --out")
    target.parent.mkdir(exist_ok=True)
