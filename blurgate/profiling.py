"""Where the time goes: seconds per stage and how full the queues are.

Stages say what they do with `timed`, queues with `filled`; both cost next to nothing unless a
profile is being taken (`taking_profile`). Times are of the clock on the wall and belong to the
innermost stage: the conversion of pixels inside alignment counts as conversion. Stages run in
several threads, so that their seconds may add up to more than the run took.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, TypeVar

T = TypeVar("T")

STAGES: Final = ("decode", "convert", "detect", "follow", "align", "score", "write", "draw")
"""All stages, in the order in which a frame meets them."""

_ADVICE: Final = {
    "decode": "the decoder sets the pace; a smaller or more simply coded video would be faster",
    "convert": "turning pixels into BGR sets the pace; plain 8-bit 4:2:0 video needs least of it",
    "detect": "the detector sets the pace; a larger --detect-every, a smaller --det-size or more "
    "--workers help",
    "follow": "following faces between detections sets the pace; try --detect-every 1 or more "
    "--workers",
    "align": "cutting faces out sets the pace; more --workers help",
    "score": "the blur model sets the pace; a smaller --model or more --workers help",
    "write": "writing sets the pace; --crops none or a faster disk help",
    "draw": "drawing and cutting videos set the pace; without --annotate and --cut a run is faster",
}


@dataclass(slots=True)
class _Stage:
    seconds: float = 0.0
    calls: int = 0


@dataclass(slots=True)
class _Queue:
    capacity: int = 0
    filled: int = 0
    asked: int = 0


class TimingProfile:
    """What was measured of one run; safe to add to from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stages = {name: _Stage() for name in STAGES}
        self._queues: dict[str, _Queue] = {}
        self._began = time.perf_counter()
        self.elapsed_s = 0.0

    def add(self, stage: str, seconds: float) -> None:
        """Count one call of a stage and its time."""
        with self._lock:
            entry = self._stages[stage]
            entry.seconds += seconds
            entry.calls += 1

    def queue(self, name: str, n: int, capacity: int) -> None:
        """Note how many items waited in a queue when one was asked for."""
        with self._lock:
            entry = self._queues.setdefault(name, _Queue(capacity))
            entry.filled += n
            entry.asked += 1

    def stop(self) -> None:
        """End the measurement."""
        self.elapsed_s = time.perf_counter() - self._began

    @property
    def bottleneck(self) -> str:
        """The stage that took the most time."""
        return max(STAGES, key=lambda name: self._stages[name].seconds)

    def verdict(self) -> str:
        """Name the bottleneck in words."""
        total = sum(stage.seconds for stage in self._stages.values())
        if not total:
            return "nothing was measured"
        share = self._stages[self.bottleneck].seconds / total
        return f"bottleneck: {self.bottleneck}, {share:.0%} of the work: {_ADVICE[self.bottleneck]}"

    def as_dict(self, frames: int) -> dict[str, Any]:
        """Give everything as plain values, for summary.json.

        Args:
            frames: Frames of the run.
        """
        return {
            "elapsed_s": round(self.elapsed_s or time.perf_counter() - self._began, 3),
            "frames": frames,
            "stages": {
                name: {"calls": stage.calls, "seconds": round(stage.seconds, 4)}
                for name, stage in self._stages.items()
            },
            "queues": {
                name: {
                    "capacity": queue.capacity,
                    "mean_fill": round(queue.filled / max(queue.asked, 1), 2),
                }
                for name, queue in sorted(self._queues.items())
            },
            "bottleneck": self.bottleneck,
        }

    def lines(self, frames: int) -> Iterator[str]:
        """Give the table for people, line by line.

        Args:
            frames: Frames of the run.
        """
        total = sum(stage.seconds for stage in self._stages.values()) or 1.0
        yield f"{'stage':<10}{'calls':>9}{'seconds':>10}{'ms/frame':>10}{'share':>8}{'cores':>7}"
        for name, stage in self._stages.items():
            yield (
                f"{name:<10}{stage.calls:>9}{stage.seconds:>10.2f}"
                f"{1000 * stage.seconds / max(frames, 1):>10.2f}{stage.seconds / total:>8.0%}"
                f"{stage.seconds / (self.elapsed_s or 1.0):>7.2f}"
            )
        for name, queue in sorted(self._queues.items()):
            fill = queue.filled / max(queue.asked, 1)
            yield f"queue {name}: {fill:.1f} of {queue.capacity} filled on average"
        yield self.verdict()


_active: TimingProfile | None = None
_inside = threading.local()


@contextmanager
def taking_profile() -> Generator[TimingProfile, None, None]:
    """Measure what this process does until the end of the block."""
    global _active
    profile = TimingProfile()
    before, _active = _active, profile
    try:
        yield profile
    finally:
        profile.stop()
        _active = before


def current_profile() -> TimingProfile | None:
    """Give the profile that is being taken, if one is."""
    return _active


class timed:  # noqa: N801 - reads as a verb: with timed("detect")
    """Time a block of a stage; the time of blocks inside it belongs to those."""

    __slots__ = ("_began", "_inner", "_outer", "_profile", "_stage")

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._profile = _active

    def __enter__(self) -> None:
        if self._profile is None:
            return
        self._outer: timed | None = getattr(_inside, "block", None)
        self._inner = 0.0
        _inside.block = self
        self._began = time.perf_counter()

    def __exit__(self, *exc: object) -> None:
        if self._profile is None:
            return
        took = time.perf_counter() - self._began
        _inside.block = self._outer
        if self._outer is not None:
            self._outer._inner += took
        self._profile.add(self._stage, took - self._inner)


def filled(name: str, n: int, capacity: int) -> None:
    """Note how many items wait in a queue."""
    if _active is not None:
        _active.queue(name, n, capacity)


def making(stage: str, items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Give the items; the time that each takes to come belongs to a stage."""
    try:
        while True:
            with timed(stage):
                try:
                    item = next(items)
                except StopIteration:
                    return
            yield item
    finally:
        items.close()


def taking(stage: str, items: Generator[T, None, None]) -> Generator[T, None, None]:
    """Give the items; the time until the next one is asked for belongs to a stage."""
    try:
        for item in items:
            with timed(stage):
                yield item
    finally:
        items.close()
