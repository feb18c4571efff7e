"""The contract of a detector; see `blurgate.interfaces.Detector`."""

from __future__ import annotations

import unittest
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from blurgate.interfaces import DetectorOptions
from blurgate.testing import common
from blurgate.types import Detections, Frame

if TYPE_CHECKING:
    from collections.abc import Sequence

    from blurgate.types import U8

_PX: Final = 0.05
_ODD_SIZES: Final = ((1, 1), (3, 500), (500, 3), (64, 64), (97, 201))


class Subject(common.ModelSubject):
    """A detector to check: a registered name or a factory, and what to make it with."""

    kind = "detector"
    more = (DetectorOptions(),)

    def __init__(self, plugin: Any, *, pictures: Sequence[U8] = (), **facts: Any) -> None:
        super().__init__(plugin, **facts)
        self.pictures = pictures

    def frames(self) -> list[Frame]:
        """Pictures of several sizes, those with faces among them."""
        drawn = [common.noisy_patches(1, side, seed=side)[0] for side in (96, 240)]
        return [Frame(p, f"p{i}", i, None) for i, p in enumerate([*self.pictures, *drawn])]


def _check(found: Any, frames: Sequence[Frame]) -> None:
    common.require(
        isinstance(found, list) and len(found) == len(frames),
        f"{len(frames)} frames must give a list of {len(frames)} Detections, got {found!r}",
    )
    for one, frame in zip(found, frames, strict=True):
        common.require(isinstance(one, Detections), f"got {one!r} instead of Detections")
        common.require(one.frame is frame, f"the Detections of {frame!r} hold another frame")
        for name in ("boxes", "det_scores", "kps"):
            array = getattr(one, name)
            common.require(np.isfinite(array).all(), f"`{name}` holds values that are not finite")
        scores = one.det_scores
        common.require(
            ((scores >= 0) & (scores <= 1)).all(), f"scores must lie in [0, 1], got {scores}"
        )
        common.require((np.diff(scores) <= 0).all(), f"scores must fall, got {scores}")
        common.require(
            (one.boxes[:, 2:] > one.boxes[:, :2]).all(), "boxes must be x1 y1 x2 y2, not x y w h"
        )


def gives_detections_of_each_frame_in_order(subject: Subject) -> None:
    """One `Detections` per frame, finite, by falling score in [0, 1], boxes as x1 y1 x2 y2."""
    frames = subject.frames()
    _check(subject.made(frames), frames)
    common.require(subject.made([]) == [], "no frames must give []")


def survives_pictures_of_any_size(subject: Subject) -> None:
    """Flat, tiny and long pictures are ordinary; no faces is n = 0 and no error."""
    for size in _ODD_SIZES:
        for value in (0, 255):
            frames = [Frame(np.full((*size, 3), value, np.uint8), "flat", 0, None)]
            _check(subject.made(frames), frames)


def reports_no_face_below_the_least_score(subject: Subject) -> None:
    """Faces below `DetectorOptions.min_score` are left out, which the user chooses."""
    make = common.factory_of(subject.kind, subject.plugin)
    for least in (DetectorOptions().min_score, 0.99):
        options = DetectorOptions(min_score=least)
        for found in make(subject.model, subject.runtime, options)(subject.frames()):
            common.require(
                (found.det_scores >= least - 1e-6).all(),  # float32 has no 0.99
                f"min_score is {least:g}, and it gives a face of {found.det_scores.min(initial=1)}",
            )


def finds_faces_where_there_are_some(subject: Subject) -> None:
    """In each of the author's `pictures`, and in it; landmarks within the box, left to right."""
    if not subject.pictures:
        raise unittest.SkipTest("give `pictures` with faces to check what is found")
    frames = [Frame(picture, f"p{i}", i, None) for i, picture in enumerate(subject.pictures)]
    for found in subject.made(frames):
        common.require(len(found), f"no face in {found.frame!r}")
        for box, points in zip(found.boxes, found.kps, strict=True):
            low, high = box[:2], box[2:]
            h, w = found.frame.size
            common.require(
                (low < (w, h)).all() and (high > 0).all(),
                f"the box {box} lies outside of its picture of {w}x{h} pixels; boxes are in pixels "
                "of the frame",
            )
            margin = 0.2 * (high - low)
            inside = (points > low - margin).all() and (points < high + margin).all()
            common.require(inside, f"landmarks {points} lie outside of their box {box}")
            left_eye, right_eye, nose, left_mouth, right_mouth = points
            common.require(
                left_eye[0] < right_eye[0] and left_mouth[0] < right_mouth[0],
                "landmarks go left to right as seen: the first eye is the left one in the picture",
            )
            eyes, mouth = (left_eye + right_eye)[1] / 2, (left_mouth + right_mouth)[1] / 2
            common.require(
                eyes < nose[1] < mouth, "landmarks are eyes, nose, mouth corners, in this order"
            )


def batch_of_one_equals_batch_of_many(subject: Subject) -> None:
    """What is found in a frame does not depend on the other frames."""
    frames = subject.frames()
    for i, (alone, among) in enumerate(
        zip([subject.made([f])[0] for f in frames], subject.made(frames), strict=True)
    ):
        _same(f"frame {i} alone and among others", alone, among)


def _same(what: str, one: Detections, two: Detections) -> None:
    common.same(f"{what}: boxes", one.boxes, two.boxes, _PX)
    common.same(f"{what}: landmarks", one.kps, two.kps, _PX)
    common.same(f"{what}: scores", one.det_scores, two.det_scores, 1e-3)


def repeats_itself_also_in_threads(subject: Subject) -> None:
    """The same frames give the same faces, also from several threads, and stay as they are."""
    frames = subject.frames()
    before = [frame.image.copy() for frame in frames]
    wanted = subject.made(frames)
    threaded = common.in_threads(subject.made, common.rotations(frames))
    for got, alone in [(subject.made(frames), wanted), *threaded]:
        for one, two in zip(got, alone, strict=True):
            common.require(one.frame is two.frame, f"in threads it gave {one!r} for {two.frame!r}")
            _same("the same frames again", one, two)
    same = all(np.array_equal(f.image, b) for f, b in zip(frames, before, strict=True))
    common.require(same, "the detector changed the pictures")


CHECKS: Final = (
    common.says_who_it_is,
    gives_detections_of_each_frame_in_order,
    survives_pictures_of_any_size,
    reports_no_face_below_the_least_score,
    finds_faces_where_there_are_some,
    batch_of_one_equals_batch_of_many,
    repeats_itself_also_in_threads,
)
