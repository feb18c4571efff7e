"""What a teacher adds to the targets of a detector's training picture."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

pytest.importorskip("torch", reason='training needs the extra: pip install "blurgate[train]"')

from blurgate import zoo
from blurgate.errors import ConfigError
from blurgate.plugins.detectors.scrfd import Rows
from blurgate.training.detection import distil, feeding
from blurgate.training.detection.annotations import read_annotations
from blurgate.training.detection.assign import BACKGROUND, IGNORED
from blurgate.training.detection.config import make_detection_config
from blurgate.training.detection.distil import SMALL, DenseTeacher
from blurgate.training.detection.samples import Sample
from blurgate.types import Detections

ROWS = 2 * (64 + 16 + 4)
LARGE, LITTLE, BLURRED = [4, 4, 32, 36], [40, 4, 52, 18], [34, 30, 60, 62]


class Told:
    """A detector that has made up its mind: row -> (score, box)."""

    def __init__(self, **rows):
        self.scores = np.full(ROWS, 0.02, np.float32)
        self.boxes = np.zeros((ROWS, 4), np.float32)
        for row, (score, box) in rows.items():
            self.scores[int(row[1:])], self.boxes[int(row[1:])] = score, box

    def rows(self, image):
        kps = np.repeat(self.boxes[:, None, :2], 5, axis=1) + np.float32([1, 2])
        return Rows(self.scores, self.boxes, kps)


def ask(told, boxes, ignore=None, **given):
    """Give the targets without and with what a teacher says."""
    config = make_detection_config({"size": 64, **given})
    teacher = DenseTeacher("it", config.least_kps)
    teacher._detector = told
    boxes = np.float32(boxes).reshape(-1, 4)
    kps = np.full((len(boxes), 5, 2), 7, np.float32)
    ignore = np.zeros(len(boxes), bool) if ignore is None else np.array(ignore)
    sample = Sample(np.zeros((64, 64, 3), np.uint8), boxes, kps, ignore)
    return feeding.targets_of(sample, config), feeding.targets_of(sample, config, teacher)


def test_background_learns_the_teachers_score_and_what_it_sees_its_box():
    # On background a face that nobody annotated, and something that is like one.
    before, after = ask(Told(r100=(0.7, [50, 40, 70, 60]), r101=(0.2, [0, 0, 9, 9])), [LARGE])
    own = before.faces >= 0
    assert own.any()
    np.testing.assert_array_equal(after.faces[own], before.faces[own])
    assert np.isnan(after.scores[own]).all()  # the box of the network decides, as before
    assert after.faces[100] == 1
    assert after.scores[100] == np.float32(0.7)
    np.testing.assert_array_equal(after.boxes, np.float32([LARGE, [50, 40, 64, 60]]))
    np.testing.assert_array_equal(after.kps, [[7] * 10, [51, 42] * 5])
    assert after.faces[101] == BACKGROUND
    assert after.scores[101] == np.float32(0.2)
    rest = ~own & (np.arange(ROWS) != 100)
    assert (after.faces[rest] == BACKGROUND).all()
    assert after.faces.dtype == np.int32
    assert after.scores.dtype == after.boxes.dtype == after.kps.dtype == np.float32


def test_a_small_face_is_learnt_if_the_teacher_sees_it_and_a_large_one_anyway():
    boxes = [LARGE, LITTLE, BLURRED]
    assert min(np.diff(np.float32(LITTLE)[[0, 2]])) < SMALL <= min(26, 28)
    before, blind = ask(Told(), boxes)
    for face, stays in ((0, True), (1, False), (2, True)):
        rows = before.faces == face
        assert rows.any()
        assert (blind.faces[rows] == (face if stays else IGNORED)).all()
    assert np.isfinite(blind.scores[blind.faces < 0]).all()
    near = [LITTLE[0] - 1, LITTLE[1], LITTLE[2], LITTLE[3] + 1]
    row = int(np.flatnonzero(before.faces == BACKGROUND)[0])
    _, seeing = ask(Told(**{f"r{row}": (0.4, near)}), boxes)
    np.testing.assert_array_equal(seeing.faces[before.faces == 1], 1)
    assert seeing.faces[row] == 1  # and so does the anchor at which the teacher sees it
    assert seeing.scores[row] == np.float32(0.4)
    assert len(seeing.boxes) == 3


def test_a_part_of_a_face_is_no_face():
    before, after = ask(Told(r100=(0.8, [14, 14, 22, 22]), r3=(0.8, [34, 14, 42, 22])), [LARGE])
    assert before.faces[100] == before.faces[3] == BACKGROUND
    assert (after.faces[100], after.scores[100]) == (BACKGROUND, 0)
    assert (after.faces[3], after.scores[3]) == (1, np.float32(0.8))  # beside it


def test_what_is_ignored_stays_so_but_for_what_the_teacher_sees():
    before, after = ask(Told(r0=(0.6, LARGE), r1=(0.25, LARGE)), [LARGE], ignore=[True])
    assert before.faces[0] == before.faces[1] == IGNORED
    assert (after.faces[0], after.faces[1]) == (1, IGNORED)
    assert len(after.boxes) == 2


@pytest.mark.parametrize(("least", "known"), [(10, True), (20, False)])
def test_landmarks_of_small_faces_are_not_learnt_from_the_teacher_either(least, known):
    _, after = ask(Told(r100=(0.9, [10, 10, 25, 30])), [], least_kps=least)
    assert np.isfinite(after.kps).all() == known


def test_it_goes_to_other_processes_without_its_file():
    teacher = DenseTeacher("scrfd_blurgate", 12.0)
    assert len(teacher.open().rows(np.zeros((64, 64, 3), np.uint8))[0]) == ROWS
    other = copy.copy(teacher)  # by __getstate__, as processes do
    assert other._detector is None
    assert other.open().info == teacher.open().info


def test_features_that_are_not_those_of_the_strides_are_refused(monkeypatch):
    teacher = DenseTeacher("scrfd_blurgate", watched=True)
    first, second, third = teacher.open().rows(np.zeros((64, 96, 3), np.uint8)).watched
    assert [part.shape[2:] for part in (first, second, third)] == [(8, 12), (4, 6), (2, 3)]
    names = distil.neck_of(teacher.open().path)
    monkeypatch.setattr(distil, "neck_of", lambda path: names[::-1])
    with pytest.raises(ConfigError, match=r"scrfd_blurgate\.onnx has no features of strides 8, 16"):
        DenseTeacher("scrfd_blurgate", watched=True).open()


def test_a_detector_without_such_anchors_is_no_teacher(monkeypatch):
    monkeypatch.setattr(zoo, "open_detector", lambda *given: lambda frames: [])
    with pytest.raises(
        ConfigError, match="mine is not an SCRFD: a teacher has to have its anchors"
    ):
        distil.DenseTeacher("mine").open()


def test_pictures_with_missed_faces_are_listed(tmp_path, load, monkeypatch, capsys):
    """Of four pictures the detector finds both faces, one of two, none, and none that counts."""
    script = load(Path(__file__).parents[2] / "scripts" / "hard_pictures.py")
    left, right, speck = [20, 20, 120, 120], [180, 20, 280, 120], [150, 150, 158, 158]
    rows = {
        "both.png": [left, right],
        "one.png": [left, right],
        "none.png": [left],
        "speck.png": [left, speck, {"box": right, "ignore": True}],
    }
    seen = {"both.png": [left, right], "one.png": [right], "none.png": [], "speck.png": [left]}
    for i, name in enumerate(rows):
        cv2.imwrite(str(tmp_path / name), np.full((200, 300, 3), i, np.uint8))
    (tmp_path / "annotations.json").write_text(json.dumps(rows), encoding="utf-8")

    def find(frames):
        (shown,) = frames
        boxes = np.float32(seen[list(rows)[shown.image[0, 0, 0]]]).reshape(-1, 4)
        n = len(boxes)
        scores = np.full(n, 0.5, np.float32)
        return [Detections(shown, boxes, scores, np.zeros((n, 5, 2), np.float32))]

    monkeypatch.setattr(script.zoo, "open_detector", lambda *given: find)
    monkeypatch.setattr("sys.argv", ["hard", str(tmp_path), "--detector", "it"])
    script.main()
    assert capsys.readouterr().out == "2 of 4 pictures, 2 of 7 faces missed\n"
    listed = read_annotations(tmp_path / "hard.json")
    assert [picture.name for picture in listed] == ["one.png", "none.png"]
    np.testing.assert_array_equal(listed[0].boxes, [left, right])
    seen |= {"one.png": [left, right], "none.png": [left]}
    script.main()  # of a list of nothing nothing is left, the earlier one included
    assert capsys.readouterr().out == "0 of 4 pictures, 0 of 7 faces missed\n"
    assert not (tmp_path / "hard.json").exists()
