"""Linking faces, on faces that are moved about here, so that the right answer is known."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from blurgate.errors import ShapeError
from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.scenecut import is_cut, likeness, thumbnail
from blurgate.tracking import Tracker, link_faces
from blurgate.types import Detections, FaceBatch, Frame, SourceEnd, Tracks

PICTURES = np.random.default_rng(0).integers(0, 256, (2, 12, 16, 3), np.uint8)


def scene(number, shift=0):
    """A picture of scene `number`, 240x320, panned by `shift` of its 16 columns."""
    return np.roll(PICTURES[number], shift, 1).repeat(20, 0).repeat(20, 1)


def faces(index, centres, *, size=60.0, scores=None, picture=None, fps=25.0, timed=True):
    """Detections of faces of `size` around centres, in the order given."""
    image = scene(0) if picture is None else picture
    n = len(centres)
    middle = np.asarray(centres, np.float32).reshape(n, 2)
    half = size / 2
    kps = middle[:, None] + (ARCFACE_TEMPLATE - 56) / 112 * size
    return Detections(
        Frame(image, "v.mp4", index, index / fps if timed else None),
        np.concatenate([middle - half, middle + half], 1).astype(np.float32),
        np.full(n, 0.9, np.float32) if scores is None else np.asarray(scores, np.float32),
        kps.astype(np.float32),
    )


def track(sequence):
    tracker = Tracker()
    return [tracker.update(detections) for detections in sequence]


def test_one_person_walking_through_is_one_track():
    found = track(faces(i, [(20 + 6 * i, 100)]) for i in range(40))
    assert found == [Tracks((1,))] * 40


@pytest.mark.parametrize("every", [1, 5, 12])
def test_two_who_pass_each_other(every):
    # A comes from the left, B from the right; on frame 50 A's box covers B's.
    frames = range(0, 101, every)
    found = track(faces(i, [(50 + 2 * i, 100), (250 - 2 * i, 118)]) for i in frames)
    assert [tracks.ids for tracks in found] == [(1, 2)] * len(frames)


def test_the_order_of_detections_means_nothing():
    def at(i):
        a, b = (60 + i, 80), (200 - i, 160)
        return [a, b] if i % 2 == 0 else [b, a]

    found = track(faces(i, at(i)) for i in range(30))
    assert [t.ids for t in found] == [(1, 2) if i % 2 == 0 else (2, 1) for i in range(30)]


@pytest.mark.parametrize("gap", [1, 10, 24])
def test_missed_frames(gap):
    seen = [*range(10), *range(10 + gap, 20 + gap)]
    found = track(faces(i, [(60 + 2 * i, 100)] if i in seen else []) for i in range(20 + gap))
    assert {number for tracks in found for number in tracks.ids} == {1}
    assert not any(tracks.ended for tracks in found)


def test_motion_is_foreseen():
    # A face of 60 px that gets faster, up to its own size per frame.
    places = np.cumsum([0, 20, 30, 40, 50, 60, 60, 60])
    found = track(faces(i, [(30 + x, 100)]) for i, x in enumerate(places))
    assert [t.ids for t in found] == [(1,)] * len(places)
    # One that walks on behind a pillar, for longer than landmarks may be off.
    found = track(faces(i, [(30 + 9 * i, 100)] if i < 8 or i > 17 else []) for i in range(25))
    assert {number for t in found for number in t.ids} == {1}


def numbers(places):
    """The tracks of a face of 60 px that is seen on some frames only, by frame -> x."""
    last = max(places)
    found = track(faces(i, [(places[i], 100)] if i in places else []) for i in range(last + 1))
    return [found[i].ids[0] for i in places]


def test_a_speed_is_believed_at_once_and_changed_by_halves():
    # 40 px a frame, seen twice; four frames later the face is 160 px further on.
    assert numbers({0: 100, 1: 140, 5: 300}) == [1, 1, 1]
    # It stands, is 16 px off once, and is where it stood five frames later: half of 400 px/s is
    # 33 px too far, all of it would be more than landmarks may be off.
    assert numbers({**dict.fromkeys(range(9), 100), 9: 116, 14: 100}) == [1] * 11


def test_the_motion_of_a_face_that_is_not_seen_dies_out():
    # At 200 px/s it would be 176 px further on after 22 frames; unseen, it stopped after 20 px.
    walks = {i: 100 + 8 * i for i in range(10)}
    assert set(numbers({**walks, 31: 172 + 20})) == {1}


def test_landmarks_may_be_further_off_the_longer_a_face_was_not_seen():
    stands = dict.fromkeys(range(5), 100)
    assert numbers({**stands, 5: 155})[-1] == 2  # 0.81 faces in one frame
    assert numbers({**stands, 9: 155})[-1] == 1  # 1.05 in five
    assert numbers({**stands, 26: 185})[-1] == 1  # 1.5 from half a second on
    assert numbers({**stands, 26: 195})[-1] == 2


def test_boxes_count_as_much_as_landmarks():
    tracker = Tracker()
    tracker.update(faces(0, [(100, 100)]))
    found = faces(1, [(110, 100), (112, 100)])
    found.boxes[0] += 30  # the landmarks are a little nearer, the box is far off
    assert tracker.update(found).ids == (2, 1)
    tracker = Tracker()
    tracker.update(faces(0, [(100, 100)]))
    found = faces(1, [(110, 100), (112, 100)])
    found.kps[1] += 25  # the box covers nearly as much, the landmarks are far off
    assert tracker.update(found).ids == (1, 2)


def test_frames_a_millisecond_apart_do_not_fling_a_face_away():
    times = [0, 0.04, 0.08, 0.12, 0.121, 0.16, 0.2, 0.24]
    found = track(faces(25 * at_s, [(100 + 8 * i, 100)], size=56.0) for i, at_s in enumerate(times))
    assert [t.ids for t in found] == [(1,)] * len(times)


def test_who_stays_away_comes_back_as_somebody_else():
    seen = {*range(10), *range(40, 50)}
    found = track(faces(i, [(100, 100)] if i in seen else []) for i in range(50))
    assert [t.ids for t in found[:10]] == [(1,)] * 10
    assert [t.ids for t in found[40:]] == [(2,)] * 10
    ends = [(i, t.ended) for i, t in enumerate(found) if t.ended]
    assert ends == [(35, (1,))]  # seen on frame 9, then missed for more than a second


def test_every_nth_frame_may_be_seconds_apart_but_not_many():
    found = track(faces(i, [(100, 100)]) for i in (0, 60, 120))  # 2.4 s
    assert [t.ids for t in found] == [(1,)] * 3
    found = track(faces(i, [(100, 100)]) for i in (0, 130))  # 5.2 s
    assert found == [Tracks((1,)), Tracks((2,), (1,))]


def test_a_cut_ends_all_tracks():
    def picture(i):
        return scene(0 if i < 10 else 1)

    found = track(faces(i, [(100, 100)], picture=picture(i)) for i in range(20))
    assert found[:10] == [Tracks((1,))] * 10
    assert found[10] == Tracks((2,), (1,))
    assert found[11:] == [Tracks((2,))] * 9


def test_a_cut_is_noticed_where_nobody_is_seen():
    def at(i):
        return [] if 9 <= i < 12 else [(100, 100)]

    found = track(faces(i, at(i), picture=scene(0 if i < 10 else 1)) for i in range(15))
    assert (found[10].ended, found[12].ids) == ((1,), (2,))


def test_a_pan_is_no_cut():
    found = track(faces(i, [(100 + 20 * i, 100)], picture=scene(0, i)) for i in range(8))
    assert [t.ids for t in found] == [(1,)] * 8


def test_faint_detections_go_on_but_choose_last():
    scores = [[0.9]] * 5 + [[0.52]] * 5 + [[0.9]] * 5
    found = track(faces(i, [(60 + i, 100)], scores=scores[i]) for i in range(15))
    assert [t.ids for t in found] == [(1,)] * 15
    # Also after a frame without it.
    flickering = [[(60 + i, 100)] if i % 3 else [] for i in range(15)]
    found = track(faces(i, at, scores=[0.55] * len(at)) for i, at in enumerate(flickering))
    assert {number for tracks in found for number in tracks.ids} == {1}
    # A faint detection nearer to the prediction does not take the confident one's place.
    tracker = Tracker()
    for i in range(5):
        tracker.update(faces(i, [(100, 100)]))
    both = faces(5, [(108, 100), (101, 100)], scores=[0.9, 0.55])
    assert tracker.update(both).ids == (1, 2)


def test_a_face_that_jumps_or_changes_its_size_is_another():
    assert [t.ids for t in track(faces(i, [(60 + 150 * i, 100)]) for i in range(2))] == [(1,), (2,)]
    sizes = (40.0, 90.0)
    found = track(faces(i, [(100, 100)], size=sizes[i]) for i in range(2))
    assert [t.ids for t in found] == [(1,), (2,)]


def test_time_that_goes_back_is_a_new_beginning():
    tracker = Tracker()
    for i in (10, 11):
        tracker.update(faces(i, [(100, 100)]))
    assert tracker.update(faces(3, [(100, 100)])) == Tracks((2,), (1,))


def batch(detections):
    n = len(detections)
    return FaceBatch(detections, np.zeros((n, 112, 112, 3), np.uint8))


def test_pictures_are_not_tracked_and_every_source_begins_anew():
    def still():
        return batch(faces(0, [(100, 100)], timed=False))

    items = [
        still(), SourceEnd("a.png", "ok", 1, 0),
        *(batch(faces(i, [(100, 100), (200, 60)])) for i in range(3)),
        SourceEnd("v.mp4", "ok", 3, 0),
        *(batch(faces(i, [(100, 100)], timed=False)) for i in range(2)),  # a video without times
        SourceEnd("w.h264", "ok", 2, 0),
        SourceEnd("broken.mp4", "failed", 0, 0),
        still(), SourceEnd("b.png", "ok", 1, 0),
    ]  # fmt: skip
    out = list(link_faces(iter(items)))
    assert [type(item) for item in out] == [type(item) for item in items]
    tracks = [item.tracks for item in out if isinstance(item, FaceBatch)]
    assert tracks == [None, *[Tracks((1, 2))] * 3, *[Tracks((1,))] * 2, None]


def test_tracks_must_be_as_many_as_faces():
    with pytest.raises(ShapeError, match="2 tracks for 1 faces"):
        FaceBatch(faces(0, [(9, 9)]), np.zeros((1, 112, 112, 3), np.uint8), Tracks((1, 2)))


def test_likeness_of_scenes():
    def small(image):
        return thumbnail(Frame(image, "", 0, None))

    a, b = small(scene(0)), small(scene(1))
    assert likeness(a, a) == pytest.approx(1, abs=1e-5)
    assert likeness(a, small(scene(0, 1))) > 0.9  # panned by a sixteenth
    dark = (scene(0) * 0.5 + 20).astype(np.uint8)
    assert likeness(a, small(dark)) > 0.95
    assert likeness(a, b) < 0.5
    assert is_cut(a, b)
    assert not is_cut(a, small(dark))
    flat = np.zeros((240, 320, 3), np.uint8)
    assert is_cut(small(flat), a)  # fading in from black
    assert not is_cut(small(flat), small(flat + 200))  # a flash on a flat wall


@pytest.mark.parametrize(("bars_x", "bars_y"), [(220, 0), (0, 60), (80, 45), (237, 0)])
def test_black_bars_hide_no_cut_and_make_none(bars_x, bars_y):
    def small(image):
        barred = np.zeros((360, 640, 3), np.uint8)
        size = 640 - 2 * bars_x, 360 - 2 * bars_y
        barred[bars_y : 360 - bars_y, bars_x : 640 - bars_x] = cv2.resize(image, size)
        return thumbnail(Frame(barred, "", 0, None))

    assert is_cut(small(scene(0)), small(scene(1)))
    assert not is_cut(small(scene(0)), small(scene(0, 1)))
    assert not is_cut(small(scene(0)), small((scene(0) * 0.5 + 20).astype(np.uint8)))
