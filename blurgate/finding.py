"""Finding and aligning the faces of frames, several stretches of frames at a time.

The frames of a source are cut into stretches of a fixed number of frames, each worked on by one
thread. With `detect_every` 1 every frame is searched by the detector. Otherwise the last frame of
each stretch is, and of the first stretch also the first; `blurgate.following` finds the faces in
between. A thread waits for no more than the key frame of the stretch before, so that the result
depends on the frames alone and not on the number of threads.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final

from blurgate.errors import ConfigError, ShapeError, blamed
from blurgate.following import Stretch, carried, follow
from blurgate.geometry import align_frame
from blurgate.interfaces import Detector
from blurgate.pipeline import ordered_map
from blurgate.pixels import same
from blurgate.profiling import timed
from blurgate.types import Detections, FaceBatch, Frame, SourceEnd, Stream

DETECT_EVERY: Final = 8
"""What a video is searched with unless the user says otherwise; docs/throughput.md has why."""
EXACT_STRETCH: Final = 4
"""Frames of a stretch in which every frame is searched."""
STRETCH_BYTES: Final = 64_000_000
"""Of very large frames a stretch has fewer than `detect_every`: as many as this memory holds."""
MOST_DETECT_EVERY: Final = 60


def check_detect_every(frames: int) -> None:
    """Refuse a number of frames that is out of range.

    Raises:
        ConfigError: It is.
    """
    if not 1 <= frames <= MOST_DETECT_EVERY:
        raise ConfigError(f"detect-every must be from 1 to {MOST_DETECT_EVERY}, got {frames}")


def detect_one(detector: Detector, frame: Frame) -> Detections:
    """Find the faces of one frame."""
    return _searched(detector, [frame])[0]


def _searched(detector: Detector, frames: Sequence[Frame]) -> list[Detections]:
    with timed("detect"), blamed("detector", detector.info.name):
        given = detector(frames)
        if len(given) != len(frames):
            raise ShapeError(f"{len(given)} results for {len(frames)} frames")
        for one, frame in zip(given, frames, strict=True):
            _check(one, frame)
    return given


def _check(found: Detections, frame: Frame) -> None:
    """Refuse what cannot be the faces of a frame."""
    if not isinstance(found, Detections):
        raise ShapeError(f"{type(found).__name__} and not Detections for a frame")
    if found.frame is not frame:
        raise ShapeError("Detections of another frame; they must hold the one that was given")
    if not ((found.det_scores >= 0) & (found.det_scores <= 1)).all():
        raise ShapeError(f"det_scores outside [0, 1]: {found.det_scores}")
    if not (found.boxes[:, 2:] >= found.boxes[:, :2]).all():
        raise ShapeError("boxes whose ends lie before their beginnings; they are x1 y1 x2 y2")


def align_one(detections: Detections) -> FaceBatch:
    """Cut the aligned faces out of one frame."""
    with timed("align"):
        return FaceBatch(detections, align_frame(detections.frame, detections.kps))


def find_faces(
    frames: Iterable[Frame | SourceEnd],
    detector: Detector,
    *,
    workers: int = 1,
    detect_every: int = 1,
) -> Stream[FaceBatch]:
    """Detect and align, several stretches of frames at a time.

    Args:
        frames: Frames and source ends, in order.
        detector: Shared by the workers.
        workers: Threads; see `blurgate.pipeline.ordered_map`. The results do not depend on it.
        detect_every: 1 to search every frame; N to search at least every N-th and to follow the
            faces in between.

    Yields:
        One `FaceBatch` per frame and the source ends, in order.

    Raises:
        ConfigError: `detect_every` is out of range.
    """
    check_detect_every(detect_every)

    def work(job: _Job | SourceEnd) -> Sequence[FaceBatch | SourceEnd]:
        if isinstance(job, SourceEnd):
            return (job,)
        if detect_every == 1:
            found = _search_all(job.frames, detector)
        else:
            found = _search_keys(job, detector)
        return [align_one(detections) for detections in found]

    jobs = _jobs(frames, detect_every)
    with closing(ordered_map(work, jobs, workers, ahead=workers + 1)) as done:
        for items in done:
            yield from items


@dataclass(frozen=True, slots=True)
class _Key:
    """A searched frame at the end of a stretch."""

    detections: Detections
    searched: bool
    """False: nothing had moved, and what was found before was carried over."""


@dataclass(frozen=True, slots=True, eq=False)
class _Job:
    """A stretch, and what comes before it in the same source."""

    frames: Sequence[Frame]
    before: _Job | None
    key: Future[_Key] = field(default_factory=Future)


def _jobs(frames: Iterable[Frame | SourceEnd], detect_every: int) -> Iterator[_Job | SourceEnd]:
    """Cut the stream into stretches."""
    waiting: list[Frame] = []
    before: _Job | None = None
    length = 1
    for item in frames:
        if isinstance(item, SourceEnd):
            if waiting:
                yield _Job(waiting, before)
            yield item
            waiting, before = [], None
            continue
        if not waiting:
            h, w = item.size
            room = STRETCH_BYTES // max(h * w * 3 // 2, 1)
            length = EXACT_STRETCH if detect_every == 1 else min(detect_every, max(room, 2))
        waiting.append(item)
        if len(waiting) >= length:
            # Only the job before is held: its own predecessor must be free to go.
            job = _Job(waiting, before)
            yield job
            waiting, before = [], _Job(waiting[-1:], None, job.key)
    if waiting:
        yield _Job(waiting, before)


def _search_all(frames: Sequence[Frame], detector: Detector) -> list[Detections]:
    """Search every frame; one that equals the frame before it shows the same faces."""
    repeats = [i > 0 and same(frames[i - 1], frame) for i, frame in enumerate(frames)]
    fresh = [frame for frame, repeat in zip(frames, repeats, strict=True) if not repeat]
    searched = iter(_searched(detector, fresh))
    found: list[Detections] = []
    for frame, repeat in zip(frames, repeats, strict=True):
        found.append(carried(found[-1], frame) if repeat else next(searched))
    return found


def _search_keys(job: _Job, detector: Detector) -> list[Detections]:
    """Search the key frame of a stretch, and find the faces of the frames before it."""

    def detect(frame: Frame) -> Detections:
        return detect_one(detector, frame)

    frames = job.frames
    try:
        stretch = Stretch([*job.before.frames, *frames] if job.before is not None else frames)
        key = _key(job, stretch, detect)
        job.key.set_result(key)
    except BaseException as error:
        job.key.set_exception(error)  # the next stretch waits for it
        raise
    if job.before is not None:
        first = job.before.key.result().detections
    else:
        first = detect(frames[0]) if len(frames) > 1 else key.detections
    if not key.searched:
        return [carried(first, frame) for frame in frames]
    return follow(stretch, first, key.detections, detect)[-len(frames) :]


def _key(job: _Job, stretch: Stretch, detect: Callable[[Frame], Detections]) -> _Key:
    """Find the faces of the last frame, without the detector where nothing has moved.

    Never twice in a row, so that a slow drift is not missed.
    """
    last = job.frames[-1]
    if job.before is not None and stretch.uniform:
        with timed("follow"):
            calm = stretch.calm()
        if calm and (before := job.before.key.result()).searched:
            return _Key(carried(before.detections, last), searched=False)
    return _Key(detect(last), searched=True)
