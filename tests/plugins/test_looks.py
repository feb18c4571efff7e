"""Cutting small faces out, and putting what is found there in their place."""

from __future__ import annotations

from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from blurgate import zoo
from blurgate.interfaces import DetectorOptions, Runtime
from blurgate.plugins.detectors import looks
from blurgate.plugins.detectors.looks import cut_outs, with_closer
from blurgate.types import Detections, Frame, Pixels, View

SAMPLE = Path(__file__).parents[2] / "examples" / "sample.mp4"
H, W = 200, 300


def picture() -> np.ndarray:
    """Every pixel is its own position."""
    y, x = np.mgrid[:H, :W].astype(np.uint8)
    return np.stack([x, y, np.zeros_like(x)], axis=2)


def faces(
    frame: Frame, *boxes: tuple[float, float, float, float], score: float = 0.9
) -> Detections:
    array = np.float32(boxes).reshape(-1, 4)
    kps = array[:, None, :2] + np.float32([[5, 6], [15, 6], [10, 11], [6, 16], [14, 16]])
    return Detections(frame, array, np.full(len(array), score, np.float32), kps)


def test_small_faces_are_cut_out_with_what_is_around_them() -> None:
    frame = Frame(picture(), "p", 3, 1.5)
    found = faces(
        frame, (100, 90, 120, 110), (0, 180, 20, 210), (10, 10, 90, 60), (290, 5, 310, 25)
    )
    cuts = cut_outs(found, 1.0, 0.5)
    assert [cut.face for cut in cuts] == [0, 1, 3]  # the other is 80 pixels wide
    # 1.6 longer sides around the middle, within the picture: x 94 to 126 and so on.
    assert [cut.frame.size for cut in cuts] == [(32, 32), (29, 34), (31, 16)]
    assert [cut.origin.tolist() for cut in cuts] == [[94, 84], [0, 171], [284, 0]]
    for cut in cuts:
        x, y = cut.origin.astype(int)
        h, w = cut.frame.size
        np.testing.assert_array_equal(cut.frame.image, picture()[y : y + h, x : x + w])
        assert cut.step.tolist() == [1, 1]
        assert (cut.frame.source, cut.frame.index, cut.frame.pts_s) == ("p", 3, 1.5)


def test_what_is_small_is_told_on_the_canvas() -> None:
    frame = Frame(picture(), "p", 0, None)
    found = faces(frame, (10, 10, 90, 60), (100, 90, 120, 110))
    assert [cut.face for cut in cut_outs(found, 0.79, 0.5)] == [0, 1]
    assert [cut.face for cut in cut_outs(found, 0.81, 0.5)] == [1]
    assert cut_outs(found, 3.3, 0.5) == []
    assert cut_outs(faces(frame), 1.0, 0.5) == []


def test_what_is_hardly_a_face_or_lies_outside_is_not_cut_out() -> None:
    frame = Frame(picture(), "p", 0, None)
    assert cut_outs(faces(frame, (100, 90, 120, 110), score=0.14), 1.0, 0.5) == []
    assert len(cut_outs(faces(frame, (100, 90, 120, 110), score=0.16), 1.0, 0.5)) == 1
    for box in [(-60, 50, -40, 70), (350, 50, 370, 70), (50, 240, 70, 260), (50, -90, 70, -70)]:
        for cut in cut_outs(faces(frame, box), 1.0, 0.5):  # at most a line of pixels at the edge
            assert min(cut.frame.size) == 1


def test_of_a_crowd_the_surest_are_looked_at() -> None:
    frame = Frame(picture(), "p", 0, None)
    scores = np.random.default_rng(1).permutation(np.linspace(0.3, 0.9, 50).astype(np.float32))
    crowd = faces(frame, *[(i, 0, i + 20, 20) for i in range(50)])
    cuts = cut_outs(Detections(frame, crowd.boxes, scores, crowd.kps), 1.0, 0.5)
    assert sorted(scores[cut.face] for cut in cuts) == sorted(scores)[-32:]


class Halved(Pixels):
    """Has a picture of half the size, and gives parts of it that begin at multiples of eight."""

    size = (H, W)

    def __init__(self) -> None:
        self.scales: list[float] = []

    def image(self) -> np.ndarray:
        raise AssertionError("the whole picture is not needed")

    def view(self, box: tuple[int, int, int, int], scale: float) -> View:
        self.scales.append(scale)
        x1, y1, x2, y2 = box[0] // 8 * 8, box[1] // 8 * 8, box[2], box[3]
        return View(picture()[y1:y2:2, x1:x2:2], (x1, y1), (2, 2))

    def shrink(self, out: np.ndarray) -> None:
        raise AssertionError

    def grey(self, size: tuple[int, int]) -> np.ndarray:
        raise AssertionError


def test_no_more_of_a_frame_is_made_than_is_cut_out() -> None:
    pixels = Halved()
    found = faces(Frame(pixels, "p", 0, None), (100, 90, 120, 110))
    (cut,) = cut_outs(found, 1.0, 0.5)
    assert pixels.scales == [4.0]  # 128 pixels of 32
    # Of the part that it is given, only what was asked for: x 94 to 126, y 84 to 116.
    np.testing.assert_array_equal(cut.frame.image, picture()[84:116:2, 94:126:2])
    assert (cut.origin.tolist(), cut.step.tolist()) == ([94, 84], [2, 2])
    seen = faces(cut.frame, (3.5, 3.5, 13, 13))
    closer = with_closer(found, [cut], [seen])
    assert closer.boxes.tolist() == [[101, 91, 120, 110]]
    assert closer.kps[0, 0].tolist() == [94 + 2 * 8.5, 84 + 2 * 9.5]


def test_what_hardly_is_a_face_gets_no_finer_pixels_than_the_first_search() -> None:
    """Of a large photo these would have to be decoded again, most of the time for nothing."""
    pixels = Halved()
    frame = Frame(pixels, "p", 0, None)
    cut_outs(faces(frame, (100, 90, 120, 110), score=0.49), 0.75, 0.5)
    cut_outs(faces(frame, (100, 90, 120, 110), score=0.5), 0.75, 0.5)
    assert pixels.scales == [0.75, 4.0]


def test_only_what_means_the_same_face_takes_its_place() -> None:
    frame = Frame(picture(), "p", 0, None)
    found = faces(frame, (100, 90, 120, 110), (10, 10, 90, 60), (200, 90, 220, 110))
    cuts = cut_outs(found, 1.0, 0.5)
    assert [cut.face for cut in cuts] == [0, 2]
    # In cuts of 32 pixels at (94, 84) and (194, 84): a neighbour, somebody in front, and the face
    # moved by two.
    neighbour, front, moved = (18, 6, 30, 26), (6, 11, 26, 31), (8, 8, 28, 28)
    none = faces(cuts[1].frame)
    closer = with_closer(found, cuts, [faces(cuts[0].frame, neighbour, front, moved), none])
    assert closer.frame is frame
    assert closer.boxes[0].tolist() == [102, 92, 122, 112]
    np.testing.assert_array_equal(closer.kps[0], found.kps[0] + 2)
    np.testing.assert_array_equal(closer.boxes[1:], found.boxes[1:])
    np.testing.assert_array_equal(closer.kps[1:], found.kps[1:])
    np.testing.assert_array_equal(found.boxes[0], [100, 90, 120, 110])  # not changed in place
    for other in (faces(cuts[0].frame, neighbour), none):
        closer = with_closer(found, cuts, [other, none])
        np.testing.assert_array_equal(closer.boxes, found.boxes)
        np.testing.assert_array_equal(closer.kps, found.kps)


def test_a_score_is_the_mean_of_both_searches() -> None:
    frame = Frame(picture(), "p", 0, None)
    boxes = ((100, 90, 120, 110), (10, 10, 90, 60), (200, 90, 220, 110), (40, 90, 60, 110))
    found = faces(frame, *boxes, score=0.4)
    cuts = cut_outs(found, 1.0, 0.5)
    same, neighbour = (6, 6, 26, 26), (18, 6, 30, 26)
    seen = [
        faces(cuts[0].frame, same, score=0.9),
        faces(cuts[1].frame),
        faces(cuts[2].frame, neighbour, score=0.9),
    ]
    # Seen again; too large for a look; not seen again; only somebody else seen.
    scores = with_closer(found, cuts, seen).det_scores
    np.testing.assert_allclose(scores, [0.65, 0.4, 0.2, 0.2])
    assert found.det_scores.tolist() == [np.float32(0.4)] * 4  # not changed in place


def test_a_small_face_has_the_landmarks_of_the_large_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """The detector in the box, on a face of which it knows the landmarks from close up."""
    with av.open(str(SAMPLE)) as video:
        image = next(video.decode(video=0)).to_ndarray(format="bgr24")
    find = zoo.open_detector(None, Runtime("cpu"), DetectorOptions())
    (near,) = find([Frame(image, "near", 0, None)])
    side = float((near.boxes[0, 2:] - near.boxes[0, :2]).max())
    assert side > 64

    def error(px: float) -> float:
        scale = px / side
        small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        canvas = np.full((360, 640, 3), 90, np.uint8)
        canvas[40 : 40 + len(small), 80 : 80 + small.shape[1]] = small
        (far,) = find([Frame(canvas, "far", 0, None)])
        true = near.kps[0] * scale + (80, 40)
        off = np.linalg.norm(far.kps - true, axis=2).mean(axis=1).min()
        return float(off / np.linalg.norm(true[0] - true[1]))

    closer = np.mean([error(px) for px in (24, 32, 40, 48)])
    monkeypatch.setattr(looks, "CLOSER_BELOW", 0)
    before = np.mean([error(px) for px in (24, 32, 40, 48)])
    assert closer < 0.6 * before
