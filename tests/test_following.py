"""Faces between key frames: drawn scenes whose truth is known, and detectors that count."""

from __future__ import annotations

import gc
import weakref

import cv2
import numpy as np
import pytest

from blurgate.errors import ConfigError, PluginError
from blurgate.finding import EXACT_STRETCH, find_faces
from blurgate.following import Stretch
from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.interfaces import ModelInfo
from blurgate.types import Detections, FaceBatch, Frame, SourceEnd

SIZE = (240, 400)
END = SourceEnd("clip", "ok", 0, 0)


def texture(seed, side):
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (side // 4, side // 4, 3), np.uint8)
    return cv2.resize(noise, (side, side), interpolation=cv2.INTER_CUBIC)


class Scene:
    """Textured squares that move; what is drawn in a frame is what its detector finds there."""

    info = ModelInfo("scene", "")

    def __init__(self, n_frames, faces, *, background=0, source="clip", turn=0.0, tilt=0.0):
        # faces: (seed, first frame, last frame, function of the frame to (x, y, side))
        self.turn = turn  # pixels per frame by which landmarks move on the face, as if it turned
        self.searched = []
        self.truth = []
        self.frames = []
        for index in range(n_frames):
            shade = background(index) if callable(background) else background
            image = cv2.resize(texture(1000 + shade, 80), SIZE[::-1]) // 3 + np.uint8(
                20 + 60 * shade
            )
            here = []
            for seed, first, last, path in faces:
                if first <= index <= last:
                    x, y, side = path(index)
                    face = texture(seed, 64)
                    move = np.float64([[side / 64, 0, x], [0, side / 64, y]])
                    cv2.warpAffine(
                        face, move, SIZE[::-1], dst=image, borderMode=cv2.BORDER_TRANSPARENT
                    )
                    here.append((x, y, side, 0.9 - seed / 100 + tilt * seed * index))
            self.truth.append(sorted(here, key=lambda f: -f[3]))
            self.frames.append(Frame(image, source, index, index / 25))

    def __call__(self, frames):
        self.searched += [frame.index for frame in frames]
        return [self.find(frame) for frame in frames]

    def find(self, frame):
        faces = np.float32(self.truth[frame.index]).reshape(-1, 4)
        x, y, side, scores = faces.T
        boxes = np.stack([x, y, x + side, y + side], axis=1)
        kps = ARCFACE_TEMPLATE[None] * (side / 112)[:, None, None] + boxes[:, None, :2]
        kps[..., 0] += self.turn * (frame.index % 20)
        return Detections(frame, boxes, scores.copy(), kps.astype(np.float32))


def found(scene, every, workers=1, frames=None):
    items = list(
        find_faces(frames or [*scene.frames, END], scene, workers=workers, detect_every=every)
    )
    return [item for item in items if isinstance(item, FaceBatch)]


def errors(scene, batches):
    """Mean landmark errors over the face's width, of every face of every frame."""
    all_errors = []
    for batch in batches:
        wanted = scene.find(batch.detections.frame)
        assert len(batch) == len(wanted), batch
        widths = wanted.boxes[:, 2] - wanted.boxes[:, 0]
        distance = np.linalg.norm(batch.detections.kps - wanted.kps, axis=2).mean(axis=1)
        all_errors += (distance / widths).tolist()
        np.testing.assert_allclose(batch.detections.boxes, wanted.boxes, atol=4)
        np.testing.assert_allclose(batch.detections.det_scores, wanted.det_scores, atol=1e-6)
    return all_errors


def glide(x, y, dx, dy, side=64, grow=0.0):
    return lambda i: (x + dx * i, y + dy * i, side + grow * i)


def sway(x, y, reach, period, side=64):
    return lambda i: (x + reach * np.sin(2 * np.pi * i / period), y, side)


def test_moving_faces_are_followed_and_seldom_searched():
    scene = Scene(41, [(1, 0, 99, glide(20, 30, 3.3, 1.2)), (2, 0, 99, sway(200, 120, 20, 17))])
    batches = found(scene, 8)
    assert [b.detections.frame.index for b in batches] == list(range(41))
    assert np.median(errors(scene, batches)) < 0.01
    assert np.max(errors(scene, batches)) < 0.05
    assert sorted(scene.searched) == [0, 7, 15, 23, 31, 39, 40]


def test_what_the_ends_miss_is_spread_over_the_frames_between():
    """A face that turns, so that its landmarks leave the points that are followed."""
    scene = Scene(17, [(1, 0, 99, glide(40, 60, 3, 0))], turn=0.4)
    batches = found(scene, 8)
    assert len(scene.searched) < 6
    assert np.max(errors(scene, batches)) < 0.012


def test_landmarks_that_end_too_far_from_where_they_were_followed_to_are_searched():
    """1.5 pixels a frame on a face of 64: in 7 frames too much for a share of 0.12, not in 4."""
    scene = Scene(17, [(1, 0, 99, glide(40, 60, 3, 0))], turn=1.5)
    assert max(errors(scene, found(scene, 8))) < 0.02
    assert sorted(scene.searched) == [0, 3, 7, 11, 15, 16]


def test_a_face_that_speeds_up_and_grows():
    """The straight line between both ends would be off by far more."""
    scene = Scene(17, [(1, 0, 99, lambda i: (20 + 0.6 * i * i, 60, 50 + i))])
    assert np.max(errors(scene, found(scene, 8))) < 0.02


def test_a_face_that_comes_or_goes_is_found_in_all_its_frames():
    for first, last in [(0, 10), (11, 99), (5, 26), (3, 12)]:
        scene = Scene(
            33, [(1, 0, 99, glide(20, 30, 2, 0)), (2, first, last, glide(250, 130, -1, 0))]
        )
        batches = found(scene, 8)
        assert [len(b) for b in batches] == [1 + (first <= i <= last) for i in range(33)]
        assert len(scene.searched) < 20


def test_scene_cuts_are_found_at_their_frame():
    for cut in (3, 8, 13, 22):
        scene = Scene(
            24,
            [(1, 0, cut - 1, glide(30, 40, 1, 0)), (2, cut, 99, glide(34, 44, 1, 0))],
            background=lambda i, cut=cut: int(i >= cut),
        )
        assert max(errors(scene, found(scene, 8))) < 0.03
        assert sorted(scene.searched) == sorted({0, 7, 15, 23, cut - 1, cut})


def test_faces_that_change_places_are_not_mixed_up():
    faces = [(1, 0, 99, glide(40, 30, 11, 0)), (9, 0, 99, glide(290, 130, -11, 0))]
    scene = Scene(17, faces, tilt=0.0013)  # the second becomes the surer one
    assert max(errors(scene, found(scene, 8))) < 0.03
    assert sorted(scene.searched) == [0, 7, 15, 16]


def test_what_cannot_be_followed_is_searched():
    rng = np.random.default_rng(5)
    places = rng.uniform((0, 0), (330, 170), (40, 2))
    scene = Scene(40, [(1, 0, 99, lambda i: (*places[i], 64))])
    errors(scene, found(scene, 8))
    assert len(scene.searched) == 40


def test_still_pictures_are_searched_half_as_often():
    scene = Scene(65, [(1, 0, 99, glide(50, 50, 0, 0))])
    batches = found(scene, 8)
    assert max(errors(scene, batches)) == 0
    assert sorted(scene.searched) == [0, 7, 23, 39, 55, 64]


def test_a_still_picture_that_begins_to_move():
    scene = Scene(40, [(1, 0, 99, lambda i: (50 + 4 * max(0, i - 20), 50, 64))])
    assert max(errors(scene, found(scene, 8))) < 0.03


@pytest.mark.parametrize("every", [1, 2, 5, 8, 60])
@pytest.mark.parametrize("n", [1, 2, 7, 8, 9, 17])
def test_any_length_and_several_sources(every, n):
    a = Scene(n, [(1, 0, 99, glide(20, 30, 2, 0))], source="a")
    items = [*a.frames, END, END, *a.frames, END, *a.frames[:1]]
    got = list(find_faces(items, a, detect_every=every))
    assert [i.detections.frame if isinstance(i, FaceBatch) else i for i in got] == items


def test_the_number_of_threads_does_not_matter():
    scene = Scene(50, [(1, 0, 30, glide(20, 30, 5, 1)), (2, 9, 44, sway(200, 120, 60, 11))])
    one = found(scene, 8)
    scene.searched.clear()
    for workers in (2, 5):
        for a, b in zip(one, found(scene, 8, workers), strict=True):
            np.testing.assert_array_equal(a.crops, b.crops)
            np.testing.assert_array_equal(a.detections.kps, b.detections.kps)
            np.testing.assert_array_equal(a.detections.boxes, b.detections.boxes)


def test_frames_of_changing_size_are_all_searched():
    scene = Scene(20, [(1, 0, 99, glide(20, 30, 2, 0))])
    frames = list(scene.frames)
    frames[5] = Frame(np.zeros((100, 100, 3), np.uint8), "clip", 5, 0.2)
    scene.truth[5] = []
    batches = found(scene, 8, frames=frames)
    assert [len(b) for b in batches] == [1] * 5 + [0] + [1] * 14
    assert set(range(8)) <= set(scene.searched)


def test_every_frame_is_searched_with_detect_every_1_but_for_repeated_ones():
    scene = Scene(12, [(1, 0, 99, glide(20, 30, 2, 0))])
    frames = [scene.frames[i] for i in (0, 1, 2, 3)]
    frames += [Frame(frames[3].image.copy(), "clip", i, None) for i in range(4, 8)]
    scene.truth[4:8] = [scene.truth[3]] * 4
    batches = found(scene, 1, frames=frames)
    assert EXACT_STRETCH == 4
    assert scene.searched == [0, 1, 2, 3, 4]  # 4 begins a stretch, 5 to 7 repeat it
    assert max(errors(scene, batches)) == 0


@pytest.mark.parametrize(
    ("size", "small"), [((240, 400), (240, 400)), ((720, 1280), (360, 640)), ((960, 90), (640, 60))]
)
def test_faces_are_followed_on_pictures_of_640_pixels_at_most(size, small):
    frames = [Frame(np.zeros((*size, 3), np.uint8), "clip", i, None) for i in range(2)]
    assert Stretch(frames).grey(1).shape == small


@pytest.mark.parametrize(
    ("held", "searched"), [(99, [0, 7, 11]), (4, [0, 3, 7, 11]), (0.1, [0, 1, 3, 5, 7, 9, 11])]
)
def test_of_very_large_frames_fewer_are_held_at_once(held, searched, monkeypatch):
    frame_bytes = SIZE[0] * SIZE[1] * 1.5  # of brightness, and colour at a quarter of it twice
    monkeypatch.setattr("blurgate.finding.STRETCH_BYTES", int(held * frame_bytes))
    scene = Scene(12, [(1, 0, 99, glide(20, 30, 3, 1))])
    assert max(errors(scene, found(scene, 8))) < 0.05
    assert sorted(scene.searched) == searched


@pytest.mark.timeout(30)
@pytest.mark.parametrize("workers", [1, 3])
def test_a_detector_that_fails_ends_the_run(workers):
    scene = Scene(40, [(1, 0, 99, glide(20, 30, 2, 0))])

    class Failing:
        info = scene.info

        def __call__(self, frames):
            if frames[0].index == 15:
                raise ZeroDivisionError("broken detector")
            return scene(frames)

    with pytest.raises(PluginError, match="scene failed: ZeroDivisionError: broken detector"):
        list(find_faces(scene.frames, Failing(), workers=workers, detect_every=8))


@pytest.mark.timeout(30)
def test_a_frame_that_cannot_be_followed_ends_the_run_and_does_not_hang(monkeypatch):
    """The stretch after the one that fails waits for what that one finds."""
    made = []

    def stretch(frames):
        made.append(frames)
        if len(made) == 2:
            raise MemoryError
        return Stretch(frames)

    monkeypatch.setattr("blurgate.finding.Stretch", stretch)
    scene = Scene(40, [(1, 0, 99, glide(20, 30, 2, 0))])
    with pytest.raises(MemoryError):
        list(find_faces(scene.frames, scene, workers=2, detect_every=8))


def test_memory_is_bounded():
    taken = []
    scene = Scene(1, [])
    image = scene.frames[0].image

    def frames():
        for i in range(10_000):
            taken.append(i)
            yield Frame(image, "clip", i, None)

    scene.truth = [[]] * 10_000
    stream = find_faces(frames(), scene, workers=2, detect_every=8)
    next(stream)
    assert len(taken) <= 4 * 8
    stream.close()


@pytest.mark.parametrize("every", [1, 8])
def test_frames_go_when_they_are_done_with(every):
    """Not when the garbage collector comes by: a cycle once tripled the memory of a long video."""
    scene = Scene(33, [(0, 0, 13, glide(30, 30, 3, 1)), (1, 5, 32, glide(200, 90, -2, 1))])
    held = []

    def frames():
        for frame in scene.frames:
            copied = frame.image.copy()
            held.append(weakref.ref(copied))
            yield Frame(copied, "clip", frame.index, None)
            del copied

    gc.collect()
    gc.disable()
    try:
        for batch in find_faces(frames(), scene, workers=2, detect_every=every):
            del batch
        left = sum(ref() is not None for ref in held)
    finally:
        gc.enable()
    assert left == 0


@pytest.mark.parametrize("every", [0, -1, 61])
def test_detect_every_out_of_range(every):
    with pytest.raises(ConfigError, match=f"detect-every must be from 1 to 60, got {every}"):
        list(find_faces([], Scene(0, []), detect_every=every))
