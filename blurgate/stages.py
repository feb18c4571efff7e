"""The stages between a source and its verdicts.

    routed = route(score(let_go(link_faces(find_faces(frames)))))

`find_faces` is in `blurgate.finding`, `link_faces` in `blurgate.tracking`. Each is a generator over
the stage before it: lazy, ordered, and holding no more than a bounded number of frames. `SourceEnd`
passes through unchanged and in its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from typing import cast

import cv2
import numpy as np

from blurgate.errors import ConfigError, ShapeError, blamed
from blurgate.geometry import ARCFACE_TEMPLATE, similarity
from blurgate.interfaces import KindScorer, Scorer
from blurgate.pipeline import ordered_map
from blurgate.pixels import LetGo
from blurgate.profiling import timed
from blurgate.types import (
    CROP_SIZE,
    F32,
    U8,
    BlurKind,
    Decision,
    Detections,
    FaceBatch,
    Frame,
    Reason,
    RoutedFaces,
    ScoredFaces,
    SourceEnd,
    Stream,
    Verdict,
    check_array,
    check_degrees,
)

_DIGITS = 9
"""Decimals of the ends of a review band: more than anybody writes, fewer than doubles hold."""
FACES_PER_BATCH = 8
FRAMES_PER_BATCH = 8
"""A batch is scored when it holds this many faces or frames, whichever comes first."""


def score(
    faces: Iterable[FaceBatch | SourceEnd],
    scorer: Scorer,
    *,
    workers: int = 1,
    kinds: bool = False,
) -> Stream[ScoredFaces]:
    """Score aligned faces in batches that reach over frames and sources.

    Args:
        faces: Face batches and source ends, in order.
        scorer: Called with the crops of up to `FRAMES_PER_BATCH` frames at once.
        workers: Threads, each with a batch. What is in a batch does not depend on it.
        kinds: Ask for the kind of blur too, which the scorer has to know.

    Yields:
        One `ScoredFaces` per face batch and the source ends, in order.
    """

    def work(batch: list[FaceBatch | SourceEnd]) -> list[ScoredFaces | SourceEnd]:
        scored = iter(score_faces([f for f in batch if isinstance(f, FaceBatch)], scorer, kinds))
        return [item if isinstance(item, SourceEnd) else next(scored) for item in batch]

    with closing(ordered_map(work, _batches(faces), workers, ahead=workers + 1)) as done:
        for items in done:
            yield from items


def _batches(faces: Iterable[FaceBatch | SourceEnd]) -> Iterator[list[FaceBatch | SourceEnd]]:
    waiting: list[FaceBatch | SourceEnd] = []
    n_faces = 0
    for item in faces:
        waiting.append(item)
        if isinstance(item, FaceBatch):
            n_faces += len(item)
        if n_faces >= FACES_PER_BATCH or len(waiting) >= FRAMES_PER_BATCH:
            yield waiting
            waiting, n_faces = [], 0
    if waiting:
        yield waiting


def let_go(faces: Iterable[FaceBatch | SourceEnd]) -> Stream[FaceBatch]:
    """Let frames go whose faces have been cut out; only their sizes and names are kept.

    Several batches wait to be scored, each of up to `FRAMES_PER_BATCH` frames; with their pixels
    they would be most of the memory that a run needs.
    """
    for item in faces:
        if isinstance(item, SourceEnd):
            yield item
            continue
        frame = item.detections.frame
        empty = replace(frame, pixels=LetGo(frame.size))
        yield replace(item, detections=replace(item.detections, frame=empty))


def check_kinds(scorer: Scorer) -> None:
    """Refuse a scorer that does not tell kinds of blur.

    Raises:
        ConfigError: It does not.
    """
    if not getattr(scorer, "kinds", ()):
        raise ConfigError(
            f"the scorer {scorer.info.name} does not tell kinds of blur; use --model with one that "
            "does, such as yolov5n_xx"
        )


def score_faces(batches: Sequence[FaceBatch], scorer: Scorer, kinds: bool) -> list[ScoredFaces]:
    """Score the faces of some frames at once, with their kinds of blur if these are wanted.

    Raises:
        PluginError: The scorer fails, or gives something else than one value per face.
    """
    degrees: F32 = np.empty(0, np.float32)
    told: tuple[BlurKind, ...] | None = () if kinds else None
    crops = [batch.crops for batch in batches if len(batch)]
    scored = []
    start = 0
    with blamed("scorer", scorer.info.name):
        if crops:
            with timed("score"):
                degrees, told = _score_crops(np.concatenate(crops), scorer, kinds)
        for batch in batches:
            stop = start + len(batch)
            own = None if told is None else told[start:stop]
            scored.append(_as_seen(ScoredFaces(batch, degrees[start:stop], str(scorer.info), own)))
            start = stop
    return scored


def degrees_of(crops: U8, scorer: Scorer) -> F32:
    """Score aligned faces that are no part of a stream.

    Args:
        crops: (n, 112, 112, 3) uint8 BGR.
        scorer: Called once with all of them.

    Returns:
        (n,) float32 in [0, 1].

    Raises:
        PluginError: The scorer fails, or gives something else than one value per face.
    """
    with blamed("scorer", scorer.info.name):
        degrees = scorer(crops)
        check_degrees(degrees, len(crops), str(scorer.info))
    return degrees


def _as_seen(scored: ScoredFaces) -> ScoredFaces:
    """Turn directions in aligned crops into those in the picture, where heads may be tilted."""
    if not scored.kinds:
        return scored
    turns = similarity(scored.faces.detections.kps, ARCFACE_TEMPLATE)[:, :, 0]
    tilts = np.degrees(np.arctan2(turns[:, 1], turns[:, 0])).tolist()
    kinds = tuple(
        kind if kind.angle is None else kind._replace(angle=(kind.angle + tilt) % 180)
        for kind, tilt in zip(scored.kinds, tilts, strict=True)
    )
    return replace(scored, kinds=kinds)


def _score_crops(crops: U8, scorer: Scorer, kinds: bool) -> tuple[F32, tuple[BlurKind, ...] | None]:
    told: tuple[BlurKind, ...] | None = None
    if kinds:
        degrees, each = cast("KindScorer", scorer).with_kinds(crops)
        told = tuple(each)
    else:
        degrees = scorer(crops)
    # Slices of what is too long would have the right length.
    check_array("blur_degree", degrees, (len(crops),), "float32")
    if told is not None and len(told) != len(crops):
        raise ShapeError(f"{len(told)} kinds of blur for {len(crops)} faces")
    return degrees, told


@dataclass(frozen=True, slots=True)
class Rule:
    """How a degree becomes a decision; the only place where that happens.

    A face is rejected when it is smaller than `min_face_px` or its degree is above `threshold`
    (equality passes). A degree within `review` of the threshold, on either side, goes to review
    instead.
    """

    threshold: float
    review: float = 0.0
    min_face_px: float = 0.0

    def __post_init__(self) -> None:
        """Check the ranges."""
        if not 0 <= self.threshold <= 1:
            raise ConfigError(f"threshold must lie in [0, 1], got {self.threshold:g}")
        if not 0 <= self.review <= 1:
            raise ConfigError(f"review must be a width in [0, 1], got {self.review:g}")
        if not 0 <= self.min_face_px < float("inf"):
            raise ConfigError(f"min-face must be a size in pixels, got {self.min_face_px:g}")

    def __call__(self, blur_degree: float, face_px: float) -> tuple[Decision, Reason]:
        """Decide about one face.

        >>> Rule(0.4, min_face_px=30)(0.4, 100.0)
        ('keep', '')
        >>> Rule(0.4)(0.41, 100.0)
        ('reject', 'blur')
        >>> Rule(0.4, review=0.1)(0.3, 100.0)
        ('review', 'blur')
        """
        if face_px < self.min_face_px:
            return "reject", "too_small"
        if self.review > 0:
            # The ends of the band as they read: 0.3 is within 0.1 of 0.4, though 0.4 - 0.3 is a
            # little more than 0.1 in binary.
            low, high = self.threshold - self.review, self.threshold + self.review
            if round(low, _DIGITS) <= blur_degree <= round(high, _DIGITS):
                return "review", "blur"
        if blur_degree > self.threshold:
            return "reject", "blur"
        return "keep", ""


def six_digits(value: float) -> float:
    """Round to six significant digits, as tables hold numbers.

    Decisions are taken on the rounded number, so that whoever reads a table and applies the
    threshold again decides the same.
    """
    return float(f"{value:.6g}")


def face_px(box: tuple[float, float, float, float]) -> float:
    """Give a box's shorter side in pixels."""
    x1, y1, x2, y2 = box
    return min(x2 - x1, y2 - y1)


def route_one(scored: ScoredFaces, rule: Rule) -> RoutedFaces:
    """Decide about every face of one frame."""
    detections = scored.faces.detections
    frame = detections.frame
    tracks = scored.faces.tracks
    verdicts = []
    for index in range(len(scored)):
        x1, y1, x2, y2 = (float(v) for v in detections.boxes[index])
        size = six_digits(face_px((x1, y1, x2, y2)))
        degree = six_digits(float(scored.blur_degree[index]))
        decision, reason = rule(degree, size)
        verdicts.append(
            Verdict(
                source=frame.source,
                frame_index=frame.index,
                pts_s=frame.pts_s,
                face_index=index,
                track=None if tracks is None else tracks.ids[index],
                box=(x1, y1, x2, y2),
                det_score=float(detections.det_scores[index]),
                face_px=size,
                blur_degree=degree,
                threshold=rule.threshold,
                decision=decision,
                reason=reason,
                model=scored.model,
                blur_kind=None if scored.kinds is None else scored.kinds[index],
            )
        )
    return RoutedFaces(scored, tuple(verdicts))


def route(scored: Iterable[ScoredFaces | SourceEnd], rule: Rule) -> Stream[RoutedFaces]:
    """Decide about every face; one `RoutedFaces` per frame, source ends in their place."""
    for item in scored:
        yield item if isinstance(item, SourceEnd) else route_one(item, rule)


def ready_crops(frames: Iterable[Frame | SourceEnd]) -> Stream[FaceBatch]:
    """Take each frame as one face that is already aligned, resized to 112x112 where it must be.

    Raises:
        ShapeError: A frame has no pixels.
    """
    for frame in frames:
        if isinstance(frame, SourceEnd):
            yield frame
            continue
        h, w = frame.size
        crop = frame.image
        if not crop.size:
            raise ShapeError(f"crop {frame.index} has no pixels: {crop.shape}")
        if (h, w) != (CROP_SIZE, CROP_SIZE):
            shrinks = min(h, w) > CROP_SIZE
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            crop = np.asarray(cv2.resize(crop, (CROP_SIZE, CROP_SIZE), interpolation=how), np.uint8)
        whole = Detections(
            frame,
            boxes=np.array([[0, 0, w, h]], np.float32),
            det_scores=np.ones(1, np.float32),
            kps=(ARCFACE_TEMPLATE * np.array([w, h], np.float32) / np.float32(CROP_SIZE))[None],
        )
        yield FaceBatch(whole, crop[None])
