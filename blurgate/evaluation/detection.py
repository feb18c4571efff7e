"""How good face detectors are: run them over annotated pictures and count.

Each detector reads every annotated picture twice: once with a least score of `LOW`, for the
precision-recall curve, and once as the gate runs it, with its default least score and its second
search in pictures where nothing was found. What only that search finds is added to the first run,
in place of the same find with a lower score, so that a curve passes through what a user gets.
Boxes of people and of detectors are cut at the picture's border before they are compared:
conventions differ there, and nothing is to be seen.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.evaluation.detection_ap import (
    Matches,
    average_precision,
    match,
)
from blurgate.geometry import iou, shorter_sides
from blurgate.types import Detections, Frame

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from blurgate.interfaces import Detector
    from blurgate.types import F32, U8

LOW: Final = 0.02
"""Least score of the first run."""
IOUS: Final = (0.5, 0.3)
"""Overlaps at which a detection counts; the first is the one that recall and errors are of. Old
sets draw tighter boxes than the detectors of today, hence the second."""
LEAST_PX: Final = 32.0
"""Shorter side in pixels of the picture from which a face counts as large enough for a gate."""
SIZES: Final = (0.0, 16.0, 32.0, 64.0, 128.0, np.inf)
"""Edges in pixels of the bins in which recall by size is given."""
DEGREES: Final = (0.0, 0.3, 0.7, 1.0)
"""Edges of the bins in which recall by blur degree is given; the last one is closed."""


@dataclass(frozen=True, slots=True, eq=False)
class Truth:
    """What is known of one picture, cut at its border."""

    name: str
    boxes: F32
    """(n, 4)"""
    kps: F32
    """(n, 5, 2); NaN where unknown."""
    ignore: NDArray[np.bool_]
    degrees: F32 | None = None
    """(n,) blur degree of each face; NaN where it was not measured."""


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What a detector found in one picture, highest score first."""

    boxes: F32
    scores: F32
    kps: F32


@dataclass(frozen=True, slots=True)
class Contender:
    """A detector in its two settings."""

    name: str
    low: Detector
    default: Detector


@dataclass(slots=True, eq=False)
class Results:
    """Everything that was found in one set of pictures."""

    truths: list[Truth] = field(default_factory=list)
    low: dict[str, list[Found]] = field(default_factory=dict)
    """Detector -> per picture, least score `LOW`; empty where no curve is wanted."""
    default: dict[str, list[Found]] = field(default_factory=dict)
    """Detector -> per picture, as the gate runs it."""


def run_set(
    pictures: Iterator[tuple[U8, Truth]],
    contenders: Sequence[Contender],
    *,
    with_curve: bool = True,
    on_picture: Callable[[], None] = lambda: None,
    on_found: Callable[[str, U8, Truth, Found], None] = lambda *_: None,
) -> Results:
    """Run detectors over pictures, picture by picture.

    Args:
        pictures: Pictures with what is known of them; one is in memory at a time.
        contenders: The detectors.
        with_curve: Whether the run at the low score is made too.
        on_picture: Called after each picture.
        on_found: Called as on_found(detector, image, truth, found) with each picture and what the
            gate would have found in it.
    """
    results = Results()
    for contender in contenders:
        results.default[contender.name] = []
        if with_curve:
            results.low[contender.name] = []
    for image, given in pictures:
        frame = Frame(image, given.name, 0, None)
        truth = cut(given, image.shape)
        results.truths.append(truth)
        for contender in contenders:
            (found,) = contender.default([frame])
            default = _found(found)
            results.default[contender.name].append(default)
            on_found(contender.name, image, truth, default)
            if with_curve:
                (found,) = contender.low([frame])
                results.low[contender.name].append(_joined(_found(found), default))
        on_picture()
    return results


def cut(truth: Truth, shape: Sequence[int]) -> Truth:
    """Cut the boxes of a picture of (h, w, ...) at its border; those outside are ignored."""
    boxes = _clip(truth.boxes, shape)
    gone = shorter_sides(boxes) <= 0
    return Truth(truth.name, boxes, truth.kps, truth.ignore | gone, truth.degrees)


def _found(detections: Detections) -> Found:
    """Cut the boxes that were found at the picture's border."""
    boxes = _clip(detections.boxes, detections.frame.image.shape)
    return Found(boxes, detections.det_scores, detections.kps)


def _clip(boxes: F32, shape: Sequence[int]) -> F32:
    h, w = shape[:2]
    clipped: F32 = np.clip(boxes, 0, np.array([w, h, w, h], np.float32))
    return clipped


def _joined(low: Found, default: Found) -> Found:
    """Let what only the second search of the gate's run found stand for what `low` saw of it."""
    if not len(default.scores):
        return low
    # The first search finds this in both runs, but for the rounding of another batch.
    sure = low.scores >= default.scores.min() - 1e-4
    new = (iou(default.boxes, low.boxes[sure]) < IOUS[1]).all(axis=1)
    kept = sure | (iou(low.boxes, default.boxes[new]) < IOUS[1]).all(axis=1)
    scores = np.concatenate([low.scores[kept], default.scores[new]])
    order = np.argsort(-scores, kind="stable")
    boxes = np.concatenate([low.boxes[kept], default.boxes[new]])[order]
    return Found(boxes, scores[order], np.concatenate([low.kps[kept], default.kps[new]])[order])


def matches_of(
    truths: Sequence[Truth], found: Sequence[Found], least_iou: float, least_px: float = 0
) -> list[Matches]:
    """Match picture by picture."""
    return [
        match(truth.boxes, truth.ignore, f.boxes, least_iou, least_px)
        for truth, f in zip(truths, found, strict=True)
    ]


def summarise(results: Results) -> dict[str, dict[str, Any]]:
    """Turn results into figures.

    Returns:
        Detector -> its figures: `ap` (by IoU and by "all" or ">=32px"; None without faces),
        `recall` and `precision` at the default score, `recall_by_size`, `recall_by_degree` (each
        bin with `recall` and the `faces` in it), `landmark_error` (see `landmark_errors`),
        `false_alarms` and `pictures`.
    """
    errors = landmark_errors(results)
    out = {}
    for name, default in results.default.items():
        row: dict[str, Any] = {"pictures": len(results.truths)}
        if name in results.low:
            row["ap"] = _curves(results.truths, results.low[name])
        row |= _at_default(results.truths, default)
        row["landmark_error"] = errors[name]
        out[name] = row
    return out


def _curves(truths: Sequence[Truth], found: Sequence[Found]) -> dict[str, Any]:
    scores = [f.scores for f in found]
    out: dict[str, Any] = {}
    for least_iou in IOUS:
        for title, least_px in (("all", 0.0), (f">={LEAST_PX:g}px", LEAST_PX)):
            n = sum(int(_counts(truth, least_px).sum()) for truth in truths)
            matches = matches_of(truths, found, least_iou, least_px)
            out.setdefault(f"{least_iou:g}", {})[title] = average_precision(scores, matches, n)
    return out


def _counts(truth: Truth, least_px: float) -> NDArray[np.bool_]:
    counted: NDArray[np.bool_] = ~truth.ignore & (shorter_sides(truth.boxes) >= least_px)
    return counted


def _at_default(truths: Sequence[Truth], found: Sequence[Found]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for least_iou in IOUS:
        matches = matches_of(truths, found, least_iou)
        sides = _together([shorter_sides(t.boxes)[~t.ignore] for t in truths])
        hits = _together([m.found[~t.ignore] for t, m in zip(truths, matches, strict=True)]) > 0
        wrong = sum(int(m.wrong.sum()) for m in matches)
        right = int(hits.sum())
        part = {
            "faces": len(hits),
            "recall": right / len(hits) if len(hits) else None,
            "precision": right / (right + wrong) if right + wrong else None,
            "false_alarms": wrong,
            "recall_by_size": binned(sides, hits, SIZES),
        }
        if any(t.degrees is not None for t in truths):
            degrees = _together([_degrees(t)[~t.ignore] for t in truths])
            part["recall_by_degree"] = binned(degrees, hits, DEGREES)
        out["default" if least_iou == IOUS[0] else f"default_iou_{least_iou:g}"] = part
    return out


def _together(parts: Sequence[NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([np.empty(0), *parts])


def _degrees(truth: Truth) -> F32:
    if truth.degrees is None:
        return np.full(len(truth.boxes), np.nan, np.float32)
    return truth.degrees


def binned(
    values: NDArray[Any], hits: NDArray[np.bool_], edges: Sequence[float]
) -> dict[str, dict[str, Any]]:
    """Give the share of hits in each bin; the last bin holds its upper edge, NaN is in none.

    >>> binned(np.array([0.1, 0.3, 1.0]), np.array([True, False, True]), (0, 0.3, 1))["0.3-1"]
    {'recall': 0.5, 'faces': 2}
    """
    out = {}
    for low, high in pairwise(edges):
        inside = (values >= low) & (values < high)
        if high == edges[-1]:
            inside |= values == high
        n = int(inside.sum())
        title = f"{low:g}-{high:g}" if np.isfinite(high) else f"{low:g}-"
        out[title] = {"recall": float(hits[inside].mean()) if n else None, "faces": n}
    return out


def landmark_errors(results: Results) -> dict[str, dict[str, Any]]:
    """Compare landmarks on the faces that every detector found, of at least `LEAST_PX`.

    An error is the mean distance of the five points from the annotated ones over the annotated
    distance of the eyes. Detectors are compared on the same faces: one that finds only easy faces
    would otherwise look exact.

    Returns:
        Detector -> `mean` and `median` (None without faces) and the number of `faces`.
    """
    per_face: Mapping[str, list[F32]] = {name: [] for name in results.default}
    for i, truth in enumerate(results.truths):
        known = np.isfinite(truth.kps).all(axis=(1, 2)) & _counts(truth, LEAST_PX)
        errors = {name: _errors(truth, found[i], known) for name, found in results.default.items()}
        shared = np.isfinite(np.stack(list(errors.values()))).all(axis=0)
        for name, error in errors.items():
            per_face[name].append(error[shared])
    out = {}
    for name, parts in per_face.items():
        values = np.concatenate(parts) if parts else np.empty(0, np.float32)
        n = len(values)
        out[name] = {
            "mean": float(values.mean()) if n else None,
            "median": float(np.median(values)) if n else None,
            "faces": n,
        }
    return out


def _errors(truth: Truth, found: Found, known: NDArray[np.bool_]) -> F32:
    """Give (n,) errors; NaN where a face was not found or its points are not known."""
    errors = np.full(len(truth.boxes), np.nan, np.float32)
    matches = match(truth.boxes, truth.ignore, found.boxes, IOUS[0])
    for i in np.flatnonzero(matches.face >= 0):
        face = int(matches.face[i])
        if known[face]:
            eyes = float(np.linalg.norm(truth.kps[face, 1] - truth.kps[face, 0]))
            far = np.linalg.norm(found.kps[i] - truth.kps[face], axis=1).mean()
            errors[face] = far / eyes if eyes > 0 else np.nan
    return errors
