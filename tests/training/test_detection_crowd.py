"""Crowds: who hides whom, against shares that are known."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate.training.detection.annotations import Annotated
from blurgate.training.detection.compose import Composed
from blurgate.training.detection.crowd import (
    LARGEST,
    MOST,
    SMALLEST,
    Layers,
    Person,
    bust,
    dressed,
    head_from_behind,
    people,
    shoulders,
)
from blurgate.training.detection.paste import Faces
from blurgate.training.detection.pictures import Picture

SQUARE = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float64)


def one_face(box) -> Faces:
    return Faces(np.float32([box]), np.zeros((1, 5, 2), np.float32), np.zeros(1, np.bool_))


def grey(rng) -> np.ndarray:
    return np.full((8, 8, 3), 90, np.uint8)


@pytest.mark.parametrize(
    ("hidden", "ignored"), [(0.0, [False]), (0.5, [False]), (0.6, [True]), (0.95, [])]
)
def test_what_lies_over_a_face_hides_it(hidden, ignored):
    layers = Layers(200)
    layers.put(SQUARE * 100 + 20, one_face((40, 40, 80, 80)))
    layers.put(np.array([38, 38]) + SQUARE * (2 + 40 * hidden, 60))  # from the left side
    assert layers.faces().ignore.tolist() == ignored


def test_several_things_hide_more_than_each():
    layers = Layers(200)
    layers.put(SQUARE * 100 + 20, one_face((40, 40, 80, 80)))
    layers.put(np.array([30, 30]) + SQUARE * (26, 60))  # two fifths of it
    assert not layers.faces().ignore.any()
    layers.put(np.array([64, 30]) + SQUARE * (26, 60))  # and two more
    assert layers.faces().ignore.all()


def test_a_thing_with_a_face_hides_others_and_not_itself():
    layers = Layers(100)
    layers.put(SQUARE * 60, one_face((10, 10, 40, 40)))
    layers.put(SQUARE * 60 + 20, one_face((30, 30, 70, 70)))
    faces = layers.faces()
    assert faces.boxes[:, 0].tolist() == [10, 30]
    assert faces.ignore.tolist() == [False, False]  # 4/9 of the first are hidden
    layers.put(SQUARE * 9 + 30, one_face((500, 500, 510, 510)))  # off the canvas: gone
    assert len(layers.faces()) == 2


def test_a_face_that_was_hardly_drawn_is_not_learnt():
    """The neighbour of the one whose outline was pasted: a strip of it came along."""
    layers = Layers(200)
    faces = Faces(
        np.float32([[20, 20, 60, 60], [50, 20, 90, 60], [63, 20, 103, 60]]),
        np.zeros((3, 5, 2), np.float32),
        np.zeros(3, np.bool_),
    )
    layers.put(np.array([10, 10]) + SQUARE * (55, 60), faces)
    assert layers.faces().boxes[:, 0].tolist() == [20, 50]  # of the third a tenth is not there
    assert layers.faces().ignore.tolist() == [False, True]


def test_hidden_and_beyond_the_border_count_together():
    layers = Layers(100)
    layers.put(SQUARE * 60 + (-20, 10), one_face((-20, 20, 20, 60)))  # half of it is outside
    assert layers.faces().ignore.tolist() == [False]
    layers.put(SQUARE * (10, 60) + (0, 10))  # and half of the rest is hidden
    assert layers.faces().ignore.tolist() == [True]


@pytest.mark.parametrize("seed", range(20))
def test_people_come_from_far_to_near(seed):
    found = people(320, np.random.default_rng(seed))
    sizes = [person.size for person in found]
    assert 3 <= len(found) <= MOST
    assert sizes == sorted(sizes)
    assert sizes[0] >= SMALLEST - 1e-6
    assert sizes[-1] <= LARGEST * 320 + 1e-6


def test_shoulders_are_below_the_chin_and_heads_around_the_face():
    rng = np.random.default_rng(0)
    person = Person(40, 100, 80)
    for _ in range(20):
        body = shoulders(person, rng)
        assert body[:, 1].min() > person.y + 0.25 * person.size
        assert 1.5 < np.ptp(body[:, 0]) / person.size < 3.2
        canvas, layers = np.full((200, 200, 3), 255, np.uint8), Layers(200)
        head_from_behind(canvas, layers, person, rng, 1.0)
        changed = (canvas != 255).any(axis=2)
        assert changed[64:92, 88:112].all()
        assert np.nonzero(changed)[0].max() < person.y + person.size
        dressed(canvas, layers, person, grey, rng, 1.0)
        assert (canvas[150, 100] != 255).any()


def test_a_bust_holds_the_face_and_needs_shoulders():
    image = np.zeros((250, 250, 3), np.uint8)
    kps = np.full((1, 5, 2), np.nan, np.float32)
    with_room = Annotated(Path(), "", np.float32([[85, 70, 165, 170]]), kps, np.zeros(1, bool))
    outline = bust(Picture(image, with_room, ()), 0, np.random.default_rng(0))
    assert outline is not None
    contour = outline.astype(np.float32)[:, None]
    for point in ((125, 120), (90, 110), (160, 110), (125, 75), (125, 240)):
        assert cv2.pointPolygonTest(contour, point, False) > 0
    for point in ((20, 80), (230, 80)):  # beside the head
        assert cv2.pointPolygonTest(contour, point, False) < 0
    tight = Annotated(Path(), "", np.float32([[85, 130, 165, 230]]), kps, np.zeros(1, bool))
    assert bust(Picture(image, tight, ()), 0, np.random.default_rng(0)) is None


def test_crowds_are_composed_alike_and_label_who_is_seen(tmp_path):
    rng = np.random.default_rng(1)
    photos = []
    for i in range(3):
        path = tmp_path / f"{i}.png"
        image = np.full((120, 100, 3), (40, 200, 40), np.uint8)
        cv2.ellipse(image, (50, 45), (22, 30), 0, 0, 360, (0, 0, 255), -1)
        cv2.imwrite(str(path), image + rng.integers(0, 9, image.shape, np.uint8))
        kps = np.float32([[[42, 38], [58, 38], [50, 48], [44, 58], [56, 58]]])
        photos.append(
            Annotated(path, path.name, np.float32([[28, 15, 72, 75]]), kps, np.zeros(1, bool))
        )
    shown = hidden = 0
    for seed in range(8):
        made = Composed(photos, size=256, seed=seed)
        one, other = (made._crowd(np.random.default_rng([seed, 1])) for _ in range(2))
        assert np.array_equal(one[0], other[0])
        assert np.array_equal(one[1].boxes, other[1].boxes)
        shown += int((~one[1].ignore).sum())
        hidden += int(one[1].ignore.sum())
    assert shown > 20
    assert hidden > 5
