"""Names of crops stay inside the folder; pictures are what they should be."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from blurgate.crops import crop_name, cut_crop, delete_crop, loose_crop, save_crop
from blurgate.types import Detections, FaceBatch, Frame, RoutedFaces, ScoredFaces, Verdict

VERDICT = Verdict(
    source="clips/walk one.mp4",
    frame_index=12,
    pts_s=0.5,
    face_index=1,
    track=None,
    box=(10.0, 20.0, 30.0, 60.0),
    det_score=0.9,
    face_px=20.0,
    blur_degree=0.1,
    threshold=0.4,
    decision="keep",
    reason="",
    model="m",
)


def test_a_name_says_where_the_face_is_from():
    assert crop_name(VERDICT) == "kept/walk_one-22e3fe0c83813008-000012-1.png"


@given(st.text(st.characters(codec="utf-8") | st.sampled_from("\udc80/\\.-= '\"\n")))
def test_no_source_can_name_a_path_outside(source):
    folder, slash, name = crop_name(replace(VERDICT, source=source)).partition("/")
    assert (folder, slash) == ("kept", "/")
    assert name.isascii()
    assert not set(name) - set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-.")
    assert not name.startswith(("-", "."))
    assert len(name) < 100


def test_equal_stems_do_not_collide():
    names = {crop_name(replace(VERDICT, source=s)) for s in ("a/x.jpg", "b/x.jpg", "a/x.png")}
    assert len(names) == 3
    # Their digests begin with the same 32 bits.
    names = {crop_name(replace(VERDICT, source=f"ids/{n}/0001.jpg")) for n in ("055389", "090939")}
    assert len(names) == 2


def routed():
    rng = np.random.default_rng(0)
    frame = Frame(rng.integers(0, 256, (80, 100, 3), np.uint8), VERDICT.source, 12, 0.5)
    found = Detections(
        frame,
        np.float32([VERDICT.box] * 2),
        np.ones(2, np.float32),
        np.zeros((2, 5, 2), np.float32),
    )
    batch = FaceBatch(found, rng.integers(0, 256, (2, 112, 112, 3), np.uint8))
    scored = ScoredFaces(batch, np.full(2, 0.1, np.float32), "m")
    return RoutedFaces(scored, (replace(VERDICT, face_index=0), VERDICT))


def test_aligned_crops_are_written_without_loss(tmp_path):
    faces = routed()
    name = save_crop(tmp_path, VERDICT, cut_crop(faces, VERDICT, "aligned"))
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / name)), faces.scored.faces.crops[1])
    assert [p.name for p in (tmp_path / "kept").iterdir()] == [name.removeprefix("kept/")]


def test_loose_crops_show_the_box_with_its_margin(tmp_path):
    faces = routed()
    name = save_crop(tmp_path, VERDICT, cut_crop(faces, VERDICT, "loose"))
    # 20 wide with 6 to each side; 40 high with 12
    expected = faces.frame.image[8:72, 4:36]
    np.testing.assert_array_equal(cv2.imread(str(tmp_path / name)), expected)


@pytest.mark.parametrize(
    ("box", "shape"),
    [
        ((-50, -50, 10, 10), (28, 28)),  # 18 px of margin beyond (10, 10)
        ((50, 40, 300, 300), (80, 100)),  # the margin reaches the frame's top left corner
        ((90, 70, 95, 72), (4, 8)),  # 1.5 and 0.6 px of margin, rounded to even
        ((-9, -9, -5, -5), (1, 1)),
        ((300, 300, 400, 400), (1, 1)),
    ],
)
def test_loose_crops_are_clipped_and_never_empty(box, shape):
    assert loose_crop(routed().frame.image, box).shape[:2] == shape


def test_style_none_cuts_nothing():
    assert cut_crop(routed(), VERDICT, "none") is None


def test_only_pictures_of_faces_are_deleted(tmp_path):
    (tmp_path / "kept").mkdir()
    names = ["kept/a-01234567-000001-0.png", "kept/notes.txt", "other.png"]
    for name in names:
        (tmp_path / name).touch()
    for name in [*names, "kept/../other.png", "kept/..\\other.png", str(tmp_path / "other.png")]:
        delete_crop(tmp_path, name)
    assert [(tmp_path / name).exists() for name in names] == [False, True, True]


def test_of_a_picture_that_was_half_written_when_a_run_was_killed_nothing_stays(tmp_path):
    (tmp_path / "kept").mkdir()
    (tmp_path / "kept/a-01234567-000001-0.png.tmp").touch()
    delete_crop(tmp_path, "kept/a-01234567-000001-0.png")
    assert list((tmp_path / "kept").iterdir()) == []
