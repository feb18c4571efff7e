"""A detector's training data: annotations, the teacher, and composed samples."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate.errors import ConfigError, InputError, ShapeError
from blurgate.geometry import ARCFACE_TEMPLATE, similarity
from blurgate.interfaces import ModelInfo
from blurgate.training.detection import augment, compose, framing, paste, scene_layout
from blurgate.training.detection.annotations import (
    Annotated,
    Face,
    read_annotations,
    write_annotations,
)
from blurgate.training.detection.backdrops import drawn, part_without_faces, sign
from blurgate.training.detection.compose import Composed
from blurgate.training.detection.pictures import (
    LEAST_PX,
    Picture,
    Pictures,
    annotated_in,
    backgrounds_in,
)
from blurgate.training.detection.samples import Sample
from blurgate.training.detection.scene_layout import cells
from blurgate.training.detection.teacher import Search, Teacher
from blurgate.types import Detections

ROOT = Path(__file__).parents[2]
KPS = np.float32([[40, 42], [68, 40], [55, 58], [43, 74], [66, 73]])
BOX = np.float32([25, 15, 85, 95])
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255))
"""Of the five points, as a picture shows them: left eye first."""


def face_photo(size=120, scale=1.0):
    """A grey photo with a face: an ellipse, and a disc of its own colour for each landmark."""
    image = np.full((size, size, 3), 60, np.uint8)
    middle, half = (BOX[:2] + BOX[2:]) / 2 * scale, (BOX[2:] - BOX[:2]) / 2 * scale
    cv2.ellipse(
        image, tuple(map(int, middle)), tuple(map(int, half)), 0, 0, 360, (150, 150, 150), -1
    )
    for point, colour in zip(KPS * scale, COLOURS, strict=True):
        cv2.circle(image, tuple(round(float(v)) for v in point), int(4 * scale), colour, -1)
    return image


def annotated(path, *, box=BOX, kps=KPS, ignore=False):
    return Annotated(
        Path(path),
        str(path),
        np.float32(box)[None],
        np.float32(kps)[None],
        np.array([ignore]),
    )


def picture():
    return Picture(face_photo(), annotated("p"), ())


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    cv2.imwrite(str(path), face_photo())
    return annotated(path)


@pytest.fixture
def background(tmp_path):
    folder = tmp_path / "background"
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (160, 200, 3)).astype(np.uint8)
    cv2.imwrite(str(folder / "b.png"), cv2.GaussianBlur(noise, (0, 0), 3))
    return backgrounds_in([folder])


# --- annotations


def images(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"")


def test_json_comes_back_as_it_was_written(tmp_path):
    images(tmp_path, "a/1.jpg", "2.jpg", "3.jpg")
    faces = [
        Face((1, 2, 30.5, 40), KPS.tolist(), False, 0.93),
        Face((-3, 0, 5, 9), None, True),
    ]
    write_annotations(tmp_path, {"a/1.jpg": faces, "2.jpg": [], "3.jpg": faces[:1]})
    first, second, third = read_annotations(tmp_path)
    assert first.path == tmp_path / "a/1.jpg"
    assert first.boxes.tolist() == [[1, 2, 30.5, 40], [-3, 0, 5, 9]]
    assert np.array_equal(first.kps[0], KPS)
    assert np.isnan(first.kps[1]).all()
    assert first.ignore.tolist() == [False, True]
    assert second.boxes.shape == (0, 4)
    assert second.kps.shape == (0, 5, 2)
    assert len(third) == 1
    stored = json.loads((tmp_path / "annotations.json").read_text())
    assert stored["a/1.jpg"][0]["score"] == 0.93
    assert "score" not in stored["a/1.jpg"][1]


def test_boxes_alone_are_enough(tmp_path):
    images(tmp_path, "images/a.jpg")
    (tmp_path / "annotations.json").write_text('{"images/a.jpg": [[1, 2, 3, 4], [5, 6, 9, 8]]}')
    (one,) = read_annotations(tmp_path / "annotations.json")
    assert one.boxes.tolist() == [[1, 2, 3, 4], [5, 6, 9, 8]]
    assert not one.ignore.any()


WIDER = """0--Parade/0_Parade_1_849.jpg
1
449 330 122 149 0 0 0 0 0 0
0--Parade/0_Parade_2.jpg
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/1_3.jpg
3
10 20 30 40 1 0 0 1 0 0
5 6 0 8 0 0 0 0 0 0
50 60 7 8 2 0 1 0 2 0
"""


@pytest.mark.parametrize("place", ["images", "WIDER_train/images"])
def test_wider_face_ground_truth(tmp_path, place):
    names = ("0--Parade/0_Parade_1_849.jpg", "0--Parade/0_Parade_2.jpg", "1--Handshaking/1_3.jpg")
    images(tmp_path / place, *names)
    split = tmp_path / "wider_face_split"
    split.mkdir()
    (split / "wider_face_train_bbx_gt.txt").write_text(WIDER)
    first, nobody, third = read_annotations(tmp_path)
    assert first.path == tmp_path / place / names[0]
    assert first.boxes.tolist() == [[449, 330, 571, 479]]
    assert np.isnan(first.kps).all()
    assert len(nobody) == 0
    assert third.boxes.tolist() == [[10, 20, 40, 60], [50, 60, 57, 68]]  # one had no width
    assert third.ignore.tolist() == [True, False]  # invalid


def test_each_part_of_wider_face_has_its_own_pictures(tmp_path):
    split = tmp_path / "wider_face_split"
    split.mkdir()
    for part in ("train", "val"):
        images(tmp_path / f"WIDER_{part}" / "images", "0--Parade/0.jpg")
        text = "0--Parade/0.jpg\n1\n1 2 3 4 0 0 0 0 0 0\n"
        (split / f"wider_face_{part}_bbx_gt.txt").write_text(text)
    for part in ("train", "val"):
        (one,) = read_annotations(split / f"wider_face_{part}_bbx_gt.txt")
        assert one.path == tmp_path / f"WIDER_{part}" / "images/0--Parade/0.jpg"
    one.path.unlink()
    with pytest.raises(InputError, match=r"there is no 0--Parade/0\.jpg in .*WIDER_val"):
        read_annotations(split / "wider_face_val_bbx_gt.txt")


LABEL = """# 0--Parade/a.jpg
449 330 122 149 488.9 373.6 0.0 542.1 376.4 0.0 515.0 412.8 0.0 485.2 425.9 1.0 538.4 431.5 0.0 0.82
10 20 30 40 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 -1 0.2
# 0--Parade/b.jpg
# 0--Parade/c.jpg
1 2 3 4
"""


def test_label_txt_with_landmarks(tmp_path):
    images(tmp_path / "images", *(f"0--Parade/{x}.jpg" for x in "abc"))
    (tmp_path / "label.txt").write_text(LABEL)
    a, b, c = read_annotations(tmp_path)
    assert a.boxes.tolist() == [[449, 330, 571, 479], [10, 20, 40, 60]]
    assert a.kps[0, 3].tolist() == pytest.approx([485.2, 425.9], abs=1e-3)
    assert np.isnan(a.kps[1]).all()
    assert (len(b), len(c)) == (0, 1)
    assert np.isnan(c.kps).all()


@pytest.mark.parametrize(
    ("file", "text", "why"),
    [
        ("annotations.json", "{", "is not JSON"),
        pytest.param("annotations.json", "[" * 100_000, "is not JSON", id="nested too deeply"),
        ("annotations.json", "[]", "must be an object of path"),
        ("annotations.json", "{}", "names no picture"),
        ("annotations.json", '{"a.jpg": 3}', "of a.jpg: the faces must be a list"),
        ("annotations.json", '{"a.jpg": [3]}', "of a.jpg, face 0: must be an object with a box"),
        ("annotations.json", '{"a.jpg": [[1, 2, 3, 4], [1, 2, 3]]}', "face 1: box must be four"),
        ("annotations.json", '{"a.jpg": [[1, 2, 3, NaN]]}', "box must be four numbers"),
        ("annotations.json", '{"a.jpg": [[-1e300, 0, 1e300, 92]]}', "a.jpg, face 0: box must be"),
        ("annotations.json", f'{{"a.jpg": [[1, 2, 3, 1{"0" * 400}]]}}', "up to 1e.06, not"),
        ("annotations.json", '{"a.jpg": [[3, 2, 1, 4]]}', "has no extent"),
        (
            "annotations.json",
            '{"a.jpg": [{"box": [1, 2, 3, 4], "kps": [[1,1e30], [1,2], [1,2], [1,2], [1,2]]}]}',
            "of a.jpg, face 0: kps must be five pairs of numbers up to 1e.06 or null",
        ),
        ("annotations.json", '{"a.jpg": [{"box": [1, 2, 3, 4], "kps": [[1, 2]]}]}', "kps must be"),
        ("annotations.json", '{"a.jpg": [{"box": [1, 2, 3, 4], "ignore": 1}]}', "ignore must be"),
        ("annotations.json", '{"b.jpg": []}', "of b.jpg: there is no b.jpg in"),
        ("annotations.json", '{"../a.jpg": []}', "the path ../a.jpg, which is not one inside"),
        ("annotations.json", '{"/etc/passwd": []}', "which is not one inside its folder"),
        ("annotations.json", '{"C:\\\\a.jpg": []}', "which is not one inside its folder"),
        (
            "annotations.json",
            '{"x\\\\..\\\\..\\\\a.jpg": []}',
            "which is not one inside its folder",
        ),
        ("annotations.json", '{"": []}', "which is not one inside its folder"),
        ("label.txt", "# a.jpg\n1 2 3 x\n", "line 2: must be numbers"),
        ("label.txt", "# a.jpg\n1 2 3 4 5 6\n", "line 2: x y w h and five times"),
        ("label.txt", "# a.jpg\n#\n", "line 2: a path must follow #"),
        ("label.txt", "# a.jpg\n# a.jpg\n", "line 2: a.jpg stands there twice"),
        ("label.txt", "", "names no picture"),
        ("wider_face_train_bbx_gt.txt", "a.jpg\n1 2 3 4\n", "line 2: the number of faces of a.jpg"),
        ("wider_face_train_bbx_gt.txt", "a.jpg\n2\n1 2 3 4\n", "ends within the 2 faces of a.jpg"),
        ("wider_face_train_bbx_gt.txt", "a.jpg\n1\n1 2 inf 4\n", "line 3: must be numbers"),
        ("wider_face_train_bbx_gt.txt", "a.jpg\n1\n1 2 1e300 4\n", "line 3: must be numbers up"),
        ("wider_face_train_bbx_gt.txt", "a.jpg", "must follow its path, not 'nothing'"),
    ],
)
def test_wrong_annotations_are_named(tmp_path, file, text, why):
    images(tmp_path, "a.jpg")
    (tmp_path / file).write_text(text)
    with pytest.raises(InputError, match=why) as caught:
        read_annotations(tmp_path)
    assert str(tmp_path / file) in str(caught.value)


def test_a_folder_without_annotations(tmp_path):
    with pytest.raises(InputError, match=r"holds no annotations; .* annotations\.json, label\.txt"):
        read_annotations(tmp_path)
    with pytest.raises(InputError, match="not one inside its folder"):
        write_annotations(tmp_path, {"../x.jpg": []})


# --- the teacher


class Teller:
    """A detector that finds given faces, and keeps the sizes of what it saw."""

    info = ModelInfo("teller", "")

    def __init__(self, *rows):
        self._rows = rows
        self.seen = []

    def __call__(self, frames):
        self.seen += [frame.image.shape[:2] for frame in frames]
        boxes = np.array([row[:4] for row in self._rows], np.float32).reshape(-1, 4)
        kps = np.repeat(boxes[:, None, :2], 5, axis=1)
        scores = np.array([row[4] for row in self._rows], np.float32)
        return [Detections(frame, boxes, scores, kps) for frame in frames]


def test_the_teacher_joins_its_searches():
    plain = Teller((10, 10, 50, 50, 0.6), (100, 20, 130, 60, 0.4))
    padded = Teller((62, 62, 102, 102, 0.9), (150, 55, 170, 80, 0.8))  # 50 px of border
    teacher = Teacher([Search(plain), Search(padded, 0.5)])
    faces = teacher(np.zeros((80, 100, 3), np.uint8), "x")
    assert padded.seen == [(180, 200)]
    assert [face.box for face in faces] == [
        (12, 12, 52, 52),  # the better of the two finds
        (100, 5, 120, 30),
        (100, 20, 130, 60),
    ]
    assert [face.ignore for face in faces] == [False, False, True]
    assert faces[0].score == pytest.approx(0.9)
    assert faces[0].kps[0] == pytest.approx([12, 12])


def test_a_teacher_needs_a_search():
    with pytest.raises(ConfigError, match="at least one detector"):
        Teacher([])


# --- samples


def test_a_sample_is_checked():
    image = np.zeros((4, 5, 3), np.uint8)
    none = np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32), np.empty(0, np.bool_)
    assert Sample(image, *none).image.shape == (4, 5, 3)
    with pytest.raises(ShapeError, match=r"kps is float32 \(1, 5, 2\), not float32 \(0, 5, 2\)"):
        Sample(image, none[0], np.zeros((1, 5, 2), np.float32), none[2])
    with pytest.raises(ShapeError, match="boxes is float64"):
        Sample(image, none[0].astype(np.float64), *none[1:])


def colour_at(image, point):
    x, y = (round(float(v)) for v in point)
    return image[y, x].astype(int)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize(("angle", "size"), [(0, 70), (25, 60), (-30, 140), (10, 34)])
def test_landmarks_lie_where_the_face_went(angle, size, mirror):
    canvas = np.zeros((300, 320, 3), np.uint8)
    placing = paste.Placing(0, size, (150, 140), angle, mirror, "ellipse", 0.05)
    faces, outline = paste.paste(canvas, picture(), placing, np.random.default_rng(0))
    (box,), (kps,) = faces.boxes, faces.kps
    assert (box[:2] + box[2:]) / 2 == pytest.approx([150, 140], abs=1e-3)
    # The photo's own colours: mirroring changes who is left, the discs only change places.
    expected = COLOURS if not mirror else [COLOURS[i] for i in (1, 0, 2, 4, 3)]
    for point, colour in zip(kps, expected, strict=True):
        assert np.abs(colour_at(canvas, point) - colour).max() < 90, (point, colour)
    assert kps[0, 0] < kps[1, 0]
    assert kps[3, 0] < kps[4, 0]
    # What was pasted lies in the outline and nothing lies far outside it.
    touched = np.argwhere(canvas.any(axis=2))[:, ::-1]
    assert (touched.min(axis=0) >= outline.min(axis=0) - size * 0.1 - 3).all()
    assert (touched.max(axis=0) <= outline.max(axis=0) + size * 0.1 + 3).all()


def test_blur_is_scaled_by_what_a_pixel_of_the_aligned_crop_covers():
    for angle, scale in ((0, 0.5), (35, 2.0)):
        turned = cv2.getRotationMatrix2D((0, 0), angle, scale)
        kps = (ARCFACE_TEMPLATE @ turned[:, :2].T + 200).astype(np.float32)
        aligned = np.linalg.norm(similarity(kps, ARCFACE_TEMPLATE)[:, 0])
        assert paste.crop_px(84 * scale, kps) == pytest.approx(1 / aligned, rel=1e-3)
    # Eyes that are unknown, or near each other on a face turned aside, say nothing about its size.
    usual = 0.42 * 84 / 35.24
    for eyes, expected in ((17, usual), (18, 18 / 35.24)):
        aside = np.float32([[40, 50], [40 + eyes, 50], [60, 70], [42, 90], [56, 90]])
        assert paste.crop_px(84, aside) == pytest.approx(expected)
    for unknown in (np.full((5, 2), np.nan, np.float32), np.empty((0, 2), np.float32)):
        assert paste.crop_px(84, unknown) == pytest.approx(usual)


@pytest.mark.parametrize("angle", [0, 20, -35, 90])
def test_the_box_of_a_turned_face_is_that_of_its_ellipse(angle):
    matrix = cv2.getRotationMatrix2D((70, 50), angle, 1.7)
    faces = paste.Faces(BOX[None], KPS[None], np.array([False])).moved(matrix)
    turn = np.linspace(0, 2 * np.pi, 4001)
    outline = (BOX[:2] + BOX[2:]) / 2 + np.stack([np.cos(turn), np.sin(turn)], 1) * (
        (BOX[2:] - BOX[:2]) / 2
    )
    # The matrix counts from the centre of the first pixel, boxes from its corner.
    moved = (outline - 0.5) @ matrix[:, :2].T + matrix[:, 2] + 0.5
    expected = [*moved.min(axis=0), *moved.max(axis=0)]
    assert faces.boxes[0].tolist() == pytest.approx(expected, abs=0.01)


EDGES = np.float32([40, 30, 80, 86])
"""Of a bright rectangle: its first pixel is 40, 30 and its last 79, 85."""


@pytest.fixture
def plate(tmp_path):
    """A photo of a bright rectangle, whose corners (and middle) are its landmarks."""
    path = tmp_path / "plate.png"
    image = np.full((120, 130, 3), 30, np.uint8)
    image[30:86, 40:80] = 230
    cv2.imwrite(str(path), image)
    (x1, y1), (x2, y2) = EDGES[:2], EDGES[2:]
    kps = [[x1, y1], [x2, y1], [(x1 + x2) / 2, (y1 + y2) / 2], [x1, y2], [x2, y2]]
    return annotated(path, box=EDGES, kps=kps)


def edges_seen(image):
    """Where a bright rectangle begins and ends, to a fraction of a pixel, from the corner."""
    bright = np.clip((image[..., 0].astype(float) - 30) / 200, 0, 1)
    found = []
    for axis in (0, 1):
        profile = bright.max(axis=axis)
        middle = int(np.median(np.flatnonzero(profile > 0.5)))
        # What is dark before the middle lies before the edge.
        low = (1 - profile[:middle]).sum()
        high = middle + profile[middle:].sum()
        found.append((low, high))
    (x1, x2), (y1, y2) = found
    return [x1, y1, x2, y2]


def assert_on_edges(image, faces, abs_=0.12):
    x1, y1, x2, y2 = edges_seen(image)
    assert faces.boxes[0].tolist() == pytest.approx([x1, y1, x2, y2], abs=abs_)
    corners = [[x1, y1], [x2, y1], [(x1 + x2) / 2, (y1 + y2) / 2], [x1, y2], [x2, y2]]
    np.testing.assert_allclose(faces.kps[0], corners, atol=abs_)


@pytest.mark.parametrize("mirror", [False, True])
@pytest.mark.parametrize("size", [12, 47.33, 140])
def test_pasted_labels_end_where_the_pixels_do(plate, size, mirror):
    canvas = np.full((240, 250, 3), 30, np.uint8)
    placing = paste.Placing(0, size, (121.3, 117.6), 0, mirror, "photo", 0.0)
    shown = Pictures([plate])[0]
    faces, _ = paste.paste(canvas, shown, placing, np.random.default_rng(0))
    assert_on_edges(canvas, faces, abs_=0.12 if size > 12 else 0.25)  # pixels are skipped there


def test_labels_in_the_cells_of_mosaics_end_where_the_pixels_do(plate, monkeypatch):
    """Mirrored ones and others, in ordinary cells and in those that fit tightly."""
    for name in ("toned", "convolved"):
        monkeypatch.setattr(compose, name, lambda image, *rest, **more: image)
    monkeypatch.setattr(compose, "occluded", lambda patch, *rest: patch)
    ordinary = Composed([plate], size=128, length=4)
    whole = []
    for seed in range(24):
        for samples in (ordinary, ordinary.close(256)):
            cell = np.empty((110, 90, 3), np.uint8)
            faces = samples._cell(cell, np.random.default_rng(seed))
            if (faces.boxes[0, :2] > 1).all() and (faces.boxes[0, 2:] < (89, 109)).all():
                assert_on_edges(cell, faces, abs_=1.0)  # it is cut out in whole pixels
                off = np.array(edges_seen(cell)) - faces.boxes[0]
                assert np.abs(off).mean() < 0.6
                whole.append(samples)
    assert whole.count(ordinary) > 10
    assert len(whole) - whole.count(ordinary) > 10


@pytest.mark.parametrize("change", [framing.stretched, framing.cut])
def test_labels_that_are_stretched_or_cut_end_where_the_pixels_do(change):
    compared = np.zeros(4, int)
    for seed in range(24):
        image = np.full((200, 200, 3), 30, np.uint8)
        image[60:140, 50:120] = 230
        kps = np.float32([[[50, 60], [120, 60], [85, 100], [50, 140], [120, 140]]])
        faces = paste.Faces(np.float32([[50, 60, 120, 140]]), kps, np.zeros(1, np.bool_))
        made = change(image, faces, np.random.default_rng(seed))
        box = faces.boxes[0]
        inside = (box > 1) & (box < 199)  # a cut leaves some of its sides
        np.testing.assert_allclose(box[inside], np.array(edges_seen(made))[inside], atol=0.12)
        (x1, y1), (x2, y2) = box[:2], box[2:]
        corners = [[x1, y1], [x2, y1], [(x1 + x2) / 2, (y1 + y2) / 2], [x1, y2], [x2, y2]]
        np.testing.assert_allclose(faces.kps[0], corners, atol=1e-3)
        compared += inside
    assert (compared > 5).all()


def test_faces_at_the_border_are_cut_ignored_or_gone():
    boxes = np.float32([[-10, 0, 30, 40], [-30, 0, 10, 40], [-40, 0, 0.5, 40], [20, 20, 40, 40]])
    n = len(boxes)
    faces = paste.Faces(boxes, np.zeros((n, 5, 2), np.float32), np.zeros(n, np.bool_))
    seen = paste.seen(faces, (0, 0, 100, 100))
    assert seen.boxes.tolist() == [[0, 0, 30, 40], [0, 0, 10, 40], [20, 20, 40, 40]]
    assert seen.ignore.tolist() == [False, True, False]  # a quarter is not enough


def test_an_unrecognisable_face_is_ignored():
    canvas = np.zeros((200, 200, 3), np.uint8)
    placing = paste.Placing(0, 60, (100, 100), 0, False, "ellipse", 0.05)
    for spread, ignore in ((2.0, False), (augment.MAX_SPREAD + 1, True)):
        kernel = augment.Kernel(np.full((21, 21), 1 / 441, np.float32), spread)
        rng = np.random.default_rng(0)
        faces, _ = paste.paste(canvas, picture(), placing, rng, kernel=kernel)
        assert faces.ignore.tolist() == [ignore]


def test_of_blurred_faces_the_small_are_ignored_where_the_large_are_learnt(photo, monkeypatch):
    """A kernel is drawn for one face of a photo, and another may be a fifth of its size."""
    boxes = np.float32([[25, 15, 85, 95], [90, 40, 102, 56]])
    faces = Annotated(Path(), "", boxes, np.full((2, 5, 2), np.nan, np.float32), np.zeros(2, bool))
    both = Picture(face_photo(), faces, ())
    canvas = np.zeros((200, 200, 3), np.uint8)
    placing = paste.Placing(0, 69.28, (100, 100), 0, False, "photo", 0.0)
    for spread, ignore in ((1.5, [False, False]), (4.0, [False, True]), (9.5, [True, True])):
        kernel = augment.Kernel(np.full((21, 21), 1 / 441, np.float32), spread)
        rng = np.random.default_rng(0)
        shown, _ = paste.paste(canvas, both, placing, rng, kernel=kernel)
        assert shown.ignore.tolist() == ignore
    samples = Composed([photo], size=128, length=4)
    samples._bank = (augment.Kernel(np.full((21, 21), 1 / 441, np.float32), 4.0),)
    monkeypatch.setattr(samples._photos, "draw", lambda rng, **given: (both, 0))
    seen = set()
    for seed in range(40):
        cell = np.empty((120, 120, 3), np.uint8)
        seen.add(tuple(samples._cell(cell, np.random.default_rng(seed)).ignore.tolist()))
    assert (False, True) in seen
    assert (True, True) not in seen


def test_other_faces_of_a_photo_come_along_or_are_ignored():
    boxes = np.float32([[25, 15, 85, 95], [90, 40, 110, 60], [0, 100, 10, 118]])
    faces = Annotated(Path(), "", boxes, np.full((3, 5, 2), np.nan, np.float32), np.zeros(3, bool))
    both = Picture(face_photo(), faces, ())
    canvas = np.zeros((200, 200, 3), np.uint8)
    rng = np.random.default_rng(0)
    whole, _ = paste.paste(
        canvas, both, paste.Placing(0, 69.28, (100, 100), 0, False, "photo", 0.0), rng
    )
    assert len(whole) == 3
    assert not whole.ignore.any()
    assert whole.boxes[1] - whole.boxes[0] == pytest.approx(boxes[1] - boxes[0], abs=0.1)
    cut, _ = paste.paste(
        canvas, both, paste.Placing(0, 69.28, (100, 100), 0, False, "ellipse", 0.0), rng
    )
    assert not cut.ignore[0]
    assert cut.ignore[1:].all()


def test_kernels_are_scaled_and_keep_the_light():
    bank = augment.kernel_bank(0)
    assert len(bank) == sum(augment.KERNELS.values())
    for kernel in bank[::17]:
        for px in (0.2, 0.7, 1.5):
            scaled = kernel.scaled(px)
            assert scaled is None or (
                scaled.sum() == pytest.approx(1, abs=1e-4) and len(scaled) % 2 == 1
            )
    gaussian = cv2.getGaussianKernel(41, 3.0, cv2.CV_32F)
    kernel = augment.Kernel(np.float32(gaussian @ gaussian.T), 3.0)
    assert augment._spread(kernel.weights) == pytest.approx(3.0, rel=0.01)
    half = kernel.scaled(0.5)
    assert augment._spread(half) == pytest.approx(1.5, rel=0.1)
    assert kernel.scaled(0.05) is None
    wide = kernel.scaled(7.0)  # of a face of 590 px
    assert augment._spread(wide) == pytest.approx(21.0, rel=0.02)


@pytest.mark.parametrize("side", [9, 21, 41, 63])
def test_a_motion_blurs_along_its_line_only(side):
    line = np.zeros((side, side), np.float32)
    line[side // 2] = 1 / side
    stripes = np.zeros((200, 200, 3), np.uint8)
    stripes[(np.arange(200) // 4) % 2 == 0] = 200
    assert np.abs(augment.convolved(stripes, line).astype(int) - stripes).max() <= 2
    edge = np.zeros((200, 200, 3), np.uint8)
    edge[:, 100:] = 250
    slope = np.diff(augment.convolved(edge, line)[100, :, 0].astype(float)) / 250
    at = np.arange(len(slope)) - (slope @ np.arange(len(slope)))
    assert np.sqrt(slope @ at**2) == pytest.approx(side / np.sqrt(12), rel=0.02)


def test_wide_kernels_on_a_smaller_picture_blur_alike():
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (20, 20, 3)).astype(np.uint8), (160, 160))
    for side in (15, 31):
        kernel = np.full((side, side), 1 / side**2, np.float32)
        exact = cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT)
        fast = augment.convolved(image, kernel)
        lost = np.abs(image.astype(int) - exact).mean()
        assert np.abs(fast.astype(int) - exact).mean() < 0.2 * lost


def test_composed_samples_depend_on_seed_epoch_and_index_only(photo, background):
    def make(seed=0):
        return Composed([photo], background, size=128, length=40, seed=seed)

    one, other = make(), make()
    forwards = [one.sample(0, i) for i in range(12)]
    with ThreadPoolExecutor(3) as pool:
        backwards = list(pool.map(lambda i: other.sample(0, i), reversed(range(12))))[::-1]
    for a, b in zip(forwards, backwards, strict=True):
        assert (a.image == b.image).all()
        assert a.image.shape == (128, 128, 3)
        assert np.array_equal(a.boxes, b.boxes)
        assert np.array_equal(a.kps, b.kps, equal_nan=True)
        assert (a.ignore == b.ignore).all()
    assert (one.sample(1, 3).image != forwards[3].image).any()
    assert (make(seed=1).sample(0, 3).image != forwards[3].image).any()
    assert len(one) == 40
    with pytest.raises(IndexError, match="40 samples in an epoch, not 41"):
        one.sample(0, 40)


def test_composed_labels_lie_on_the_faces(photo, background, monkeypatch):
    """Without changes of colour, the discs of the photo are where the landmarks say."""
    monkeypatch.setattr(augment.Finish, "__call__", lambda self, image, rng: image)
    for name in ("toned", "saturated", "coarser", "convolved"):
        monkeypatch.setattr(compose, name, lambda image, *rest, **more: image)
    monkeypatch.setattr(paste, "convolved", lambda image, *rest: image)
    monkeypatch.setattr(compose, "occluded", lambda patch, *rest: patch)
    samples = Composed([photo], background, size=256, length=200, seed=1)
    right = total = 0
    counts = []
    for i in range(200):
        sample = samples.sample(0, i)
        counts.append(len(sample.boxes))
        sides = sample.boxes[:, 2:] - sample.boxes[:, :2]
        for box, kps, ignore, side in zip(
            sample.boxes, sample.kps, sample.ignore, sides, strict=True
        ):
            assert (box >= 0).all()
            assert (box <= 256).all()
            if ignore or side.min() < 30 or (kps < 2).any() or (kps > 253).any():
                continue
            near = np.sort([np.abs(colour_at(sample.image, p) - c).max() < 110
                            for p, c in zip(kps, COLOURS, strict=True)])  # fmt: skip
            mirrored = [np.abs(colour_at(sample.image, p) - COLOURS[j]).max() < 110
                        for p, j in zip(kps, (1, 0, 2, 4, 3), strict=True)]  # fmt: skip
            total += 1
            right += max(int(near.sum()), sum(mirrored)) >= 4  # somebody in front may hide one
            assert kps[0, 0] < kps[1, 0]
    assert total > 150
    assert right / total > 0.93  # in a crowd two are hidden now and then
    assert 0 in counts
    assert max(counts) > 10


def dotted():
    """A dark picture with a white dot at each landmark of a face."""
    image = np.zeros((200, 200, 3), np.uint8)
    kps = np.float32([[[70.5, 70.5], [110.5, 72.5], [90.5, 90.5], [75.5, 110.5], [105.5, 112.5]]])
    for x, y in kps[0].astype(int):
        image[y - 1 : y + 2, x - 1 : x + 2] = 255
    return image, paste.Faces(np.float32([[60, 50, 120, 130]]), kps, np.zeros(1, np.bool_))


def assert_on_dots(image, faces):
    for x, y in faces.kps[0]:
        if 3 < x < 196 and 3 < y < 196:
            around = image[round(y) - 3 : round(y) + 4, round(x) - 3 : round(x) + 4, 0]
            where = np.argwhere(around > 128) - 3 + (round(y), round(x))
            assert np.abs(where.mean(axis=0) + 0.5 - (y, x)).max() < 0.8


def test_a_stretched_sample_keeps_its_landmarks_and_boxes():
    flattened = 0
    for seed in range(12):
        image, faces = dotted()
        made = framing.stretched(image, faces, np.random.default_rng(seed))
        assert made.shape == image.shape
        sides = faces.boxes[0, 2:] - faces.boxes[0, :2]
        assert sorted(np.isclose(sides, [60, 80])) != [False, False]  # one side stays
        assert (sides >= [59.9, 79.9]).all()
        flattened += sides[0] / sides[1] > 0.76
        assert_on_dots(made, faces)
    assert 0 < flattened < 12


def test_a_cut_sample_shows_a_part_of_one_face():
    shares = []
    for seed in range(60):
        image, faces = dotted()
        made = framing.cut(image, faces, np.random.default_rng(seed))
        assert made.shape == image.shape
        inside = np.clip(faces.boxes[0], 0, 200)
        seen = (inside[2:] - inside[:2]).prod() / (faces.boxes[0, 2:] - faces.boxes[0, :2]).prod()
        shares.append(float(seen))
        assert_on_dots(made, faces)
    cut = [share for share in shares if share < 0.999]
    assert len(cut) > 20  # where a window can end on the face
    assert min(cut) > 0.3
    assert max(cut) < 0.95


@pytest.mark.parametrize("grid", [2, 3, 10])
def test_no_cell_of_a_mosaic_vanishes(grid):
    rng = np.random.default_rng(0)
    edges = np.array([cells(64, grid, rng) for _ in range(20_000)])
    assert (edges[:, [0, -1]] == [0, 64]).all()
    assert np.diff(edges, axis=1).min() >= 5


def test_close_samples_show_larger_faces_of_the_same_photos(photo, background):
    def largest(samples):
        """Give the side of each sample's largest face, (n,)."""
        found = []
        for i in range(60):
            sample = samples.sample(0, i)
            sides = sample.boxes[~sample.ignore, 2:] - sample.boxes[~sample.ignore, :2]
            if len(sides):
                found.append(np.sqrt(sides.prod(axis=1)).max())
        return np.array(found)

    samples = Composed([photo], background, size=128, length=60, seed=1)
    close = samples.close(256)
    assert close.sample(0, 0).image.shape == (256, 256, 3)
    assert samples.sample(0, 0).image.shape == (128, 128, 3)
    ordinary, large = largest(samples), largest(close)
    assert ordinary.max() <= 128
    assert (large > 128).mean() > 0.15
    assert np.median(large) > 1.5 * np.median(ordinary)
    assert close._photos is samples._photos
    with pytest.raises(ConfigError, match="64 to 1024 pixels, not 2048"):
        samples.close(2048)


def test_mosaics_of_close_samples_show_whole_faces_that_fill_their_cells(photo, background):
    ordinary = Composed([photo], background, size=128, length=60, seed=1)

    def shown(samples):
        """Give faces' longer sides as shares of the sample's, and which faces are whole."""
        found = [samples._mosaic(np.random.default_rng(seed))[1].boxes for seed in range(40)]
        sides = np.concatenate([boxes[:, 2:] - boxes[:, :2] for boxes in found])
        width, height = photo.boxes[0, 2:] - photo.boxes[0, :2]
        whole = np.abs(sides[:, 0] / sides[:, 1] - width / height) < 0.04
        return sides.max(axis=1) / samples._size, whole

    share, whole = shown(ordinary.close(256))
    low, high = scene_layout.close_mix(256).fills
    # Only what is left of a photo may cut a face: in cells much longer than wide.
    assert whole.mean() > 0.8
    # Cells take 0.38 to 0.62 of the side in a grid of 2, the least 0.21 in a grid of 3.
    assert 0.2 * low < share[whole].min() < 0.38 * low
    assert 0.38 * high < share[whole].max() < 0.62 * high
    assert np.median(share) > 1.5 * np.median(shown(ordinary)[0])


def test_occluded_and_tiny_faces(photo):
    samples = Composed([photo], size=128, length=60, seed=1)
    tiny = ignored = 0
    for i in range(60):
        sample = samples.sample(0, i)
        small = (sample.boxes[:, 2:] - sample.boxes[:, :2]).min(axis=1) < LEAST_PX
        assert sample.ignore[small].all()
        tiny += int(small.sum())
        ignored += int(sample.ignore.sum())
    assert tiny
    assert ignored > tiny


def test_whole_photos_prefer_faces_with_surroundings_and_company(tmp_path, photo):
    """A photo 1.8 times as large as its face, one 8.2 times as large, and this with two faces."""
    photos = [annotated(photo.path, box=[15, 15, 105, 105])]
    for name, n in (("roomy", 1), ("two", 2)):
        path = tmp_path / f"{name}.png"
        cv2.imwrite(str(path), face_photo())
        boxes = np.float32([[5, 5, 47, 47], [70, 70, 111, 111]][:n])
        photos.append(Annotated(path, name, boxes, np.tile(KPS, (n, 1, 1)), np.zeros(n, np.bool_)))
    samples = Composed(photos, size=128, length=10, seed=1)
    rng = np.random.default_rng(0)

    def shares(roomy):
        drawn = [samples._photos.draw(rng, roomy=roomy)[0].faces.name for _ in range(600)]
        return [drawn.count(p.name) / 600 for p in photos]

    assert shares(roomy=False) == pytest.approx([1 / 3] * 3, abs=0.06)
    taken = np.array([14400 / 90**2, 14400 / 42**2, 4 * 14400 / 42**2]).clip(2, 64) / 64
    assert shares(roomy=True) == pytest.approx(list(taken / taken.sum()), abs=0.06)


def test_nothing_to_learn_and_impossible_numbers(tmp_path, photo):
    with pytest.raises(ConfigError, match="none of the annotated pictures shows a face"):
        Composed([annotated(photo.path, ignore=True)])
    with pytest.raises(ConfigError, match="64 to 1024 pixels, not 32"):
        Composed([photo], size=32)
    with pytest.raises(ConfigError, match="no pictures to compose"):
        Pictures([])
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match="none"):
        backgrounds_in([tmp_path / "none"])


def test_boxes_outside_their_picture_are_an_error_and_no_endless_search(photo):
    outside = annotated(photo.path, box=[500, 500, 560, 580])
    with pytest.raises(InputError, match="the boxes are wrong"):
        for i in range(10):
            Composed([outside], size=64, length=10, seed=1).sample(0, i)


def test_large_pictures_are_shrunk_with_their_labels(tmp_path):
    path = tmp_path / "large.png"
    cv2.imwrite(str(path), face_photo(1280, 8.0))
    large = annotated(path, box=BOX * 8, kps=KPS * 8)
    kept = Pictures([large])[0]
    assert kept.image.shape == (640, 640, 3)
    assert kept.faces.boxes[0].tolist() == pytest.approx((BOX * 4).tolist())
    for point, colour in zip(kept.faces.kps[0], COLOURS, strict=True):
        assert np.abs(colour_at(kept.image, point) - colour).max() < 10
    assert [level.shape[0] for level in kept.smaller] == [320, 160, 80, 40]
    assert kept.level(0.3).shape[0] == 320
    assert kept.level(2.0).shape[0] == 640
    assert kept.level(0.01).shape[0] == 40
    assert not kept.image.flags.writeable


def test_the_cache_is_bounded(tmp_path, photo):
    pictures = Pictures([photo], cache_mib=0)
    assert pictures[0] is not pictures[0]
    kept = Pictures([photo])
    assert kept[0] is kept[0]


def test_parts_of_photos_show_no_face():
    rng = np.random.default_rng(0)
    parts = [part for _ in range(60) if (part := part_without_faces(picture(), rng)) is not None]
    assert parts
    assert all((part == 60).all() for part in parts)  # the photo's ground, outside the face


@pytest.mark.parametrize("draw", [drawn, sign])
def test_drawn_backgrounds_differ(draw):
    rng = np.random.default_rng(0)
    several = [draw(64, rng) for _ in range(8)]
    assert all(image.shape == (64, 64, 3) and image.dtype == np.uint8 for image in several)
    assert len({image.tobytes() for image in several}) == 8


def test_a_sign_fills_its_square():
    """Else what is pasted as a distraction would show nothing."""
    rng = np.random.default_rng(1)
    shares = []
    for _ in range(60):
        grey = sign(64, rng).astype(int).sum(axis=2)
        ground = np.bincount(grey.ravel()).argmax()
        ys, xs = np.nonzero(np.abs(grey - ground) > 10)
        if len(xs):  # a letter may have the colour of its ground
            shares.append(max(np.ptp(xs), np.ptp(ys)) / 64)
    assert len(shares) > 50
    assert np.median(shares) > 0.5


# --- the script


def test_the_script_labels_and_sets_aside(tmp_path, load, marker, monkeypatch, capsys):
    photos, scenes = tmp_path / "photos", tmp_path / "scenes"
    photos.mkdir()
    scenes.mkdir()
    for i in range(12):
        image = np.full((300, 700, 3), 80, np.uint8)
        marker.draw(image, 50, 60, 200, sharp=True, seed=i)
        cv2.imwrite(str(photos / f"Person{i}_0001.png"), image)
        flat = np.full((120, 160, 3), 10 * i, np.uint8)
        cv2.imwrite(str(scenes / f"scene{i}.png"), flat)
    marker.draw(image, 350, 60, 200, sharp=True)
    for name in ("people.png", "crowd.png"):
        cv2.imwrite(str(scenes / name), image)
    cv2.imwrite(str(photos / "nobody.png"), flat)
    (photos / "broken.png").write_bytes(b"no picture")
    script = load(ROOT / "scripts/make_detection_data.py")
    out = tmp_path / "out"
    monkeypatch.setattr(
        "sys.argv",
        ["make", str(photos), "--scenes", str(scenes), "--detector", "marker", "--out", str(out),
         "--val", "0.2", "--side", "350", "--workers", "1"],
    )  # fmt: skip
    script.main()
    counts = json.loads(capsys.readouterr().out.splitlines()[-1])
    train, val = (annotated_in([out / part]) for part in ("train", "val"))
    shown = [p.name for p in train if "scenes" in p.name]
    assert [script.held_out(name, 0.4) for name in ("people.png", "crowd.png")] == [False, True]
    assert [Path(name).stem.partition("-")[0] for name in shown] == ["people"]
    assert counts["unsure"] == 1  # the crowd is kept for evaluation, and has faces
    held = {f"scene{i}" for i in range(12) if script.held_out(f"scene{i}.png", 0.4)}
    assert len(train) - len(shown) + len(val) == 12
    assert 1 <= len(val) <= 4
    background = [len(list((out / n).iterdir())) for n in ("background", "background_held_out")]
    assert background == [12 - len(held), len(held)]
    assert background == [counts["background"], counts["background_held_out"]]
    assert counts["unlabelled"] == 1
    one = train[0]
    assert cv2.imread(str(one.path)).shape == (150, 350, 3)  # half of the photo
    assert one.boxes[0].tolist() == pytest.approx([25, 30, 125, 130], abs=4)
    people = {p.name.rsplit("-", 1)[0] for p in train} & {p.name.rsplit("-", 1)[0] for p in val}
    assert not people
    record = json.loads((out / "data.json").read_text())
    assert record["teachers"] == ["marker"]


def test_whom_one_folder_puts_aside_no_folder_trains_on(tmp_path, load, marker, monkeypatch):
    letters = "abcdefghijklmnopqrst"
    for folder, names in (("many", letters), ("few", letters[:4])):
        (tmp_path / folder).mkdir()
        for i, name in enumerate(names):
            image = np.full((120, 160, 3), 80, np.uint8)
            marker.draw(image, 50, 30, 60, sharp=True, seed=i)
            cv2.imwrite(str(tmp_path / folder / f"Person_{name}_0001.png"), image)
    out = tmp_path / "out"
    args = ["make", str(tmp_path / "many"), str(tmp_path / "few"), "--detector", "marker"]
    monkeypatch.setattr("sys.argv", [*args, "--out", str(out), "--val", "0.3", "--workers", "1"])
    load(ROOT / "scripts/make_detection_data.py").main()
    people = [
        {Path(p.name).name.rsplit("_", 1)[0] for p in annotated_in([out / part])}
        for part in ("train", "val")
    ]
    assert not people[0] & people[1]
    assert len(people[0] | people[1]) == 20
    assert len(people[1]) >= 6


def test_what_is_held_out_depends_on_the_name_alone(load):
    script = load(ROOT / "scripts/make_detection_data.py")
    names = [f"{i}.jpg" for i in range(1000)]
    held = [script.held_out(name, 0.4) for name in names]
    assert 0.35 < np.mean(held) < 0.45
    assert held == [script.held_out(f"/elsewhere/{name}", 0.4) for name in names]


def test_pictures_and_videos_are_labelled_for_evaluation(
    tmp_path, load, marker, monkeypatch, capsys
):
    source = tmp_path / "a.png"
    image = np.full((200, 300, 3), 80, np.uint8)
    marker.draw(image, 50, 60, 100, sharp=True)
    cv2.imwrite(str(source), image)
    script = load(ROOT / "scripts/label_pictures.py")
    out = tmp_path / "out"
    monkeypatch.setattr(
        "sys.argv", ["label", str(source), "--detector", "marker", "--out", str(out)]
    )
    script.main()
    assert json.loads(capsys.readouterr().out)["faces"] == 1
    (row,) = read_annotations(out)
    assert row.boxes[0].tolist() == pytest.approx([50, 60, 150, 160], abs=2)
    assert (cv2.imread(str(row.path)) == image).all()


def test_videos_of_one_name_do_not_replace_each_other(tmp_path, load, marker, monkeypatch):
    image = np.full((64, 64, 3), 80, np.uint8)
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        writer = cv2.VideoWriter(
            str(tmp_path / folder / "clip.avi"), cv2.VideoWriter_fourcc(*"MJPG"), 10, (64, 64)
        )
        for _ in range(3):
            writer.write(image)
        writer.release()
    args = ["label", *(str(tmp_path / folder) for folder in ("a", "b")), "--detector", "marker"]
    monkeypatch.setattr("sys.argv", [*args, "--out", str(tmp_path / "out")])
    with pytest.raises(SystemExit, match=r"clip_00000\.png is there already: .*clip\.avi needs a"):
        load(ROOT / "scripts/label_pictures.py").main()


@pytest.mark.parametrize("side", [1, 3])
def test_a_background_may_be_tiny(photo, tmp_path, side):
    (tmp_path / "tiny").mkdir()
    cv2.imwrite(str(tmp_path / "tiny" / "a.png"), np.full((side, side, 3), 80, np.uint8))
    samples = Composed([photo], backgrounds_in([tmp_path / "tiny"]), size=64, length=200)
    for i in range(200):
        assert samples.sample(0, i).image.shape == (64, 64, 3)


# --- other processes


def test_shared_pictures_are_the_same_and_lie_in_a_file(photo, tmp_path):
    larger = tmp_path / "larger.png"
    cv2.imwrite(str(larger), face_photo(700, 4.0))  # shrunk when read
    both = [photo, annotated(larger, box=BOX * 4, kps=KPS * 4)]
    decoded, shared = list(map(Pictures(both).__getitem__, (0, 1))), Pictures(both)
    shared.share(tmp_path / "pixels", workers=2)
    copy = deepcopy(shared)  # goes through the state that another process is given
    assert copy._lock is not shared._lock
    assert copy._pixels is not shared._pixels  # it maps the file itself
    (tmp_path / "pixels").unlink()
    for path in (photo.path, larger):
        path.unlink()
    for pictures in (shared, copy):
        for index, wanted in enumerate(decoded):
            got = pictures[index]
            assert [a.shape for a in got.smaller] == [a.shape for a in wanted.smaller]
            for a, b in zip(
                (got.image, *got.smaller), (wanted.image, *wanted.smaller), strict=True
            ):
                np.testing.assert_array_equal(a, b)
            np.testing.assert_array_equal(got.faces.boxes, wanted.faces.boxes)
            with pytest.raises(ValueError, match="read-only"):
                got.image[0] = 0


def test_pictures_beyond_the_memory_are_decoded_each_time(photo, tmp_path):
    pictures = Pictures([photo, photo], cache_mib=0)
    pictures.share(tmp_path / "pixels")
    assert (tmp_path / "pixels").stat().st_size == 0
    assert deepcopy(pictures)[1].image.shape == (120, 120, 3)
    np.testing.assert_array_equal(pictures[1].image, face_photo())


def test_no_room_for_shared_pictures_is_said_in_one_line(photo, tmp_path):
    with pytest.raises(ConfigError, match=r"no room for .* decoded photos .*--workers 1"):
        Pictures([photo]).share(tmp_path / "nowhere" / "pixels")
