"""Making whole pictures of interlaced video, whose odd and even lines are of different times.

Where something moves, an interlaced frame shows it twice, line by line: a comb, which detectors
miss and recognisers cannot use.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from fractions import Fraction
from typing import TypeVar

import av
from av.filter import Graph

__all__ = ["deinterlaced"]

T = TypeVar("T")


def deinterlaced(frames: Iterable[tuple[av.VideoFrame, T]]) -> Iterator[tuple[av.VideoFrame, T]]:
    """Make progressive frames of those that are marked as interlaced, with FFmpeg's `bwdif`.

    There is one picture for each, at the time of its first field; the lines of the second one stay
    where nothing moves. From the first such frame on every frame comes one later, because what
    comes next tells what moves. Frames that are not marked stay as they are.

    Args:
        frames: Decoded frames in presentation order, each with what is to be known of it
            afterwards.

    Yields:
        As many frames, in the same order, with what came with them.
    """
    graph: Graph | None = None
    shape: tuple[int, int, str] | None = None
    waiting: deque[T] = deque()
    for frame, note in frames:
        if graph is not None and shape != _shape(frame):
            yield from _pulled(graph, waiting, last=True)
            graph = None
        if graph is None and frame.interlaced_frame:
            graph, shape = _graph(frame), _shape(frame)
        if graph is None:
            yield frame, note
        else:
            waiting.append(note)
            graph.push(frame)
            yield from _pulled(graph, waiting)
    if graph is not None:
        yield from _pulled(graph, waiting, last=True)


def _shape(frame: av.VideoFrame) -> tuple[int, int, str]:
    return frame.width, frame.height, frame.format.name


def _graph(frame: av.VideoFrame) -> Graph:
    graph = Graph()
    source = graph.add_buffer(
        width=frame.width, height=frame.height, format=frame.format,
        time_base=frame.time_base or Fraction(1, 25),  # nobody asks what times come out
    )  # fmt: skip
    bwdif = graph.add("bwdif", "mode=send_frame:parity=auto:deint=interlaced")
    source.link_to(bwdif)
    bwdif.link_to(graph.add("buffersink"))
    graph.configure()
    return graph


def _pulled(
    graph: Graph, waiting: deque[T], *, last: bool = False
) -> Iterator[tuple[av.VideoFrame, T]]:
    if last:
        graph.push(None)
    while waiting:
        try:
            frame = graph.pull()
        except (av.error.BlockingIOError, av.error.EOFError):
            return
        assert isinstance(frame, av.VideoFrame)
        yield frame, waiting.popleft()
