"""Faces turned out of the plane, against the rotation of single points by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch")

from blurgate.errors import ShapeError
from blurgate.interfaces import ModelInfo
from blurgate.training.detection.annotations import Face, read_annotations, write_annotations
from blurgate.training.detection.teacher import Search
from blurgate.training.detection.turning import turned
from blurgate.types import Detections

ROOT = Path(__file__).resolve().parents[2]

SIZE = 240
BOX = np.array([70, 60, 170, 190], np.float32)
"""A face 100 px wide and 130 high."""
KPS = np.array([[100, 110], [140, 110], [120, 135], [103, 160], [137, 160]], np.float32)
CENTRE = np.array([120.0, 125.0 - 0.06 * 130])
"""Of the head: above that of the box."""
HALF = np.array([0.54 * 100, 0.66 * 130, 0.64 * 100])


def dotted(*points):
    """Draw a white dot at each point of a black picture."""
    image = np.zeros((SIZE, SIZE, 3), np.uint8)
    ys, xs = np.mgrid[:SIZE, :SIZE]
    for x, y in points:
        image[np.hypot(xs - x, ys - y) < 3.5] = 255
    return image


def middle(image):
    """Give the centre of gravity of what is bright."""
    weights = image[..., 0].astype(float)
    ys, xs = np.mgrid[:SIZE, :SIZE]
    return np.array([(xs * weights).sum(), (ys * weights).sum()]) / weights.sum()


def depth(x, y):
    """How far a point of the skull lies in front of the head's centre."""
    return HALF[2] * math.sqrt(1 - (x / HALF[0]) ** 2 - (y / HALF[1]) ** 2)


def by_hand(point, yaw, pitch):
    """Turn one point of the skull by the two rotations, written out."""
    x, y = np.array(point) - CENTRE
    z = depth(x, y)
    a, b = math.radians(yaw), math.radians(pitch)
    x, z = x * math.cos(a) + z * math.sin(a), z * math.cos(a) - x * math.sin(a)
    y = y * math.cos(b) + z * math.sin(b)
    return CENTRE + np.array([x, y])


# Clear of nose, mouth and chin, which stand out of the skull.
@pytest.mark.parametrize("point", [(100, 95), (140, 95), (120, 85), (95, 120)])
@pytest.mark.parametrize(("yaw", "pitch"), [(20, 0), (-25, 0), (0, 20), (0, -15), (18, 15)])
def test_a_point_of_the_face_goes_where_a_rotation_takes_it(point, yaw, pitch):
    image = turned(dotted(point), BOX, KPS, yaw=yaw, pitch=pitch)
    assert middle(image) == pytest.approx(by_hand(point, yaw, pitch), abs=1.0)


def test_without_an_angle_nothing_moves():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (SIZE, SIZE, 3)).astype(np.uint8)
    same = turned(image, BOX, KPS, yaw=0, pitch=0)
    ys, xs = np.mgrid[:SIZE, :SIZE]
    out = np.hypot((xs - CENTRE[0]) / HALF[0], (ys - CENTRE[1]) / HALF[1])
    assert np.abs(same.astype(int) - image)[out < 0.9].max() <= 1
    assert (same == image)[out > 1.3].all()


def test_a_face_looks_where_it_is_told_to():
    features = {
        name: dotted(tuple(point)) for name, point in {"eye": KPS[1], "nose": KPS[2]}.items()
    }
    before = {name: middle(image) for name, image in features.items()}

    def moved(name, **angles):
        return middle(turned(features[name], BOX, KPS, **angles)) - before[name]

    assert moved("nose", yaw=30, pitch=0)[0] > 10  # right
    assert moved("nose", yaw=-30, pitch=0)[0] < -10
    assert moved("eye", yaw=0, pitch=25)[1] > 10  # down
    # The nose stands out of the skull, by so much at its landmark.
    out = -0.03 * 100 + 0.17 * 100 * math.sqrt(1 - (0.05 * 130 / (0.17 * 130)) ** 2)
    above = KPS[2] - (0, 0.05 * 130) - CENTRE
    wanted = (depth(*above) + out) * math.sin(math.radians(20))
    assert moved("nose", yaw=20, pitch=0)[0] == pytest.approx(wanted, abs=2)


def test_the_axes_are_those_of_a_head_that_is_tilted():
    """Up and down are those of the face and not of the picture."""
    tilt = math.radians(90)
    turn = np.array([[math.cos(tilt), -math.sin(tilt)], [math.sin(tilt), math.cos(tilt)]])
    box_centre = np.array([120.0, 125.0])
    kps = ((KPS - box_centre) @ turn.T + box_centre).astype(np.float32)
    # The box stays as wide and as high as it is along the face's axes: square is enough here.
    box = np.array([60, 65, 180, 185], np.float32)
    eye = dotted(tuple(kps[1]))
    down = middle(turned(eye, box, kps, yaw=0, pitch=25)) - middle(eye)
    assert down[0] < -8  # the chin of this face points to the left
    assert abs(down[1]) < 3


@pytest.mark.parametrize("place", [(-60, -50), (60, 50), (-70, 60)])
def test_a_face_at_the_border_is_turned_as_far_as_it_is_seen(place):
    image = np.full((SIZE, SIZE, 3), 90, np.uint8)
    box, kps = BOX + np.array([*place, *place], np.float32), KPS + np.array(place, np.float32)
    out = turned(image, box, kps, yaw=50, pitch=20)
    assert out.shape == image.shape
    assert (out == 90).all()


def test_the_photo_given_is_not_changed():
    image = dotted((110, 110))
    before = image.copy()
    turned(image, BOX, KPS, yaw=40, pitch=10)
    assert (image == before).all()


def test_a_grey_picture_is_refused():
    with pytest.raises(ShapeError, match="image"):
        turned(np.zeros((9, 9), np.uint8), BOX, KPS, yaw=1, pitch=0)  # type: ignore[arg-type]


# --- the script


class Teacher:
    """A detector that says what the test wants, whatever the picture shows."""

    info = ModelInfo("stub", "")

    def __init__(self, box, score):
        self.box, self.score = box, score

    def __call__(self, frames):
        boxes = np.array([self.box], np.float32)
        scores = np.array([self.score], np.float32)
        return [Detections(frame, boxes, scores, KPS[None]) for frame in frames]


@pytest.fixture
def labelled(tmp_path):
    """A folder of train and val with grey blocks, each picture with one face by its annotations."""
    rng = np.random.default_rng(0)
    small = Face((10, 10, 40, 40), KPS.tolist())
    face = Face(tuple(BOX.tolist()), KPS.tolist())
    for part, names in (("train", "abcdef"), ("val", "gh")):
        rows = {f"{name}.png": [face] for name in names}
        rows |= {"small.png": [small], "two.png": [face, face]}
        folder = tmp_path / "data" / part
        folder.mkdir(parents=True)
        for name in rows:
            blocks = rng.integers(0, 256, (12, 12, 1)).repeat(3, axis=2).astype(np.uint8)
            cv2.imwrite(str(folder / name), np.kron(blocks, np.ones((20, 20, 1), np.uint8)))
        write_annotations(folder, rows)
    return tmp_path / "data"


@pytest.fixture
def turn(load, labelled, monkeypatch, capsys):
    script = load(ROOT / "scripts/turn_faces.py")

    def run(out, *, box=BOX, score=0.9, share="1"):
        search = Search(Teacher(box, score))
        monkeypatch.setattr(script, "open_searches", lambda *_: [search])
        monkeypatch.setattr(
            "sys.argv",
            ["turn", str(labelled), "--detector", "x", "--out", str(out), "--share", share],
        )
        script.main()
        lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        return {line["part"]: line["turned"] for line in lines}

    return run


def test_every_picture_with_one_large_face_is_turned_and_labelled(tmp_path, labelled, turn):
    assert turn(tmp_path / "out") == {"train": 6, "val": 2}
    rows = read_annotations(tmp_path / "out" / "train")
    for row in rows:
        assert row.boxes.tolist() == [BOX.tolist()]
        assert row.kps.tolist() == [KPS.tolist()]
    before = [cv2.imread(str(labelled / "train" / f"{name}.png")) for name in "abcdef"]
    for row in rows:  # in the face each differs from all, beside it only by JPEG from its own
        image = cv2.imread(str(row.path)).astype(int)
        beside = min(np.abs(image - other)[:50, :50].mean() for other in before)
        inside = min(np.abs(image - other)[100:150, 90:150].mean() for other in before)
        assert beside < 3
        assert inside > 30


def test_the_share_says_how_many_and_equal_calls_give_equal_files(tmp_path, turn):
    first, second = tmp_path / "first", tmp_path / "second"
    assert turn(first, share="3") == {"train": 18, "val": 6}
    assert turn(second, share="3") == {"train": 18, "val": 6}
    names = sorted(p.relative_to(first) for p in first.rglob("*") if p.is_file())
    assert len(names) == 18 + 6 + 2
    assert all((first / n).read_bytes() == (second / n).read_bytes() for n in names)
    some = turn(tmp_path / "some", share="0.5")
    assert 0 < sum(some.values()) < 8


@pytest.mark.parametrize(
    ("box", "score"),
    [(BOX, 0.5), (BOX + 90, 0.9)],
    ids=["the teacher is not sure", "it sees another face"],
)
def test_what_is_no_face_any_more_is_left_out(tmp_path, turn, box, score):
    assert turn(tmp_path / "out", box=box, score=score) == {"train": 0, "val": 0}
    assert not (tmp_path / "out" / "train" / "annotations.json").exists()
