"""Finding clean faces, telling who they show, and cutting them out."""

from __future__ import annotations

import os
import re
from pathlib import Path

import cv2
import numpy as np
import pytest

from blurgate.errors import ConfigError, InputError
from blurgate.geometry import ARCFACE_TEMPLATE, align_faces
from blurgate.interfaces import ModelInfo
from blurgate.training.faces import FaceReader, Skipped, find_face, list_faces
from blurgate.types import Detections, Frame


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")


def people(faces):
    return {face.source: face.identity for face in faces}


# --- the list --------------------------------------------------------------------------------


def test_pictures_come_sorted_once_each_and_videos_are_passed_over(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "b/2.jpg", "b/1.jpg", "a.png", "b/film.mp4", "notes.txt")
    faces = list_faces(["b", ".", "./b/1.jpg", str(tmp_path / "a.png")])
    assert [os.path.normpath(face.source) for face in faces] == ["a.png", "b/1.jpg", "b/2.jpg"]
    assert [face.position for face in faces] == [0, 1, 2]


def test_equal_names_in_different_folders_give_different_files(tmp_path):
    names = [
        "x/1.jpg",
        "y/1.jpg",
        "x/1.png",
        "x/-rf ..%2F é.jpg" if os.name == "nt" else "x/-rf ..%2F é\n.jpg",
        "x/" + "n" * 150 + ".jpg",
    ]
    touch(tmp_path, *names)
    faces = list_faces([str(tmp_path)])
    written = [face.name for face in faces]
    assert len({name.lower() for name in written}) == len(faces) == len(names)
    assert all(re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_-]{1,79}", name) for name in written)
    assert [face.name for face in list_faces([str(tmp_path)])] == written


def test_identities_by_folder_name_and_file(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    touch(
        tmp_path, "s/ada/1.jpg", "s/ada/b/2.jpg", "s/ada/b/3.jpg",
        "s/Bo_Li_0001.jpg", "s/Bo_Li_0002.jpg", "s/c_12.jpg", "s/c_13.jpg",
    )  # fmt: skip
    auto = people(list_faces(["s"]))
    assert auto["s/ada/1.jpg"] == "ada"
    assert auto["s/ada/b/2.jpg"] == auto["s/ada/b/3.jpg"] == "ada/b"
    assert auto["s/Bo_Li_0001.jpg"] == auto["s/Bo_Li_0002.jpg"] == "Bo_Li"
    assert auto["s/c_12.jpg"] != auto["s/c_13.jpg"]
    folder = people(list_faces(["s"], identity="folder"))
    assert folder["s/Bo_Li_0001.jpg"] == folder["s/c_12.jpg"] == "."
    name = people(list_faces(["s"], identity="name"))
    assert (name["s/ada/1.jpg"], name["s/Bo_Li_0002.jpg"]) == ("1", "Bo_Li")
    assert len(set(people(list_faces(["s"], identity="file")).values())) == 7
    # The same folder, named from further in, or by a pattern: the file's name is what is left.
    assert people(list_faces(["s/ada"]))["s/ada/b/2.jpg"] == "b"
    assert people(list_faces(["s/*.jpg"]))["s/Bo_Li_0001.jpg"] == "Bo_Li"
    listed = list_faces(["-"], stdin=["s/Bo_Li_0001.jpg", "s/c_12.jpg"])
    assert listed[0].identity == "Bo_Li"


@pytest.mark.parametrize("text", ['{"format": 1}', '{"format": 0}', '{"form'])
def test_a_folder_of_synth_holds_no_clean_faces_but_those_in_clean(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    touch(tmp_path, "faces/a.png", "set/clean/a.png", "set/blur_linear/a_0.png")
    (tmp_path / "set/dataset.json").write_text(text)
    with pytest.raises(ConfigError) as raised:
        list_faces(["faces", "set"])
    assert str(raised.value) == (
        "set is a folder of blurgate synth, whose pictures are blurred; its clean faces are in "
        f"{Path('set', 'clean')}"
    )
    assert len(list_faces([str(Path("set", "clean"))])) == 1
    # Another program's file of that name: StyleGAN keeps its labels in one.
    (tmp_path / "set/dataset.json").write_text('{"labels": null}')
    assert len(list_faces(["set"])) == 2


@pytest.mark.skipif(os.name == "nt", reason="bytes in names are a POSIX matter")
def test_a_folder_whose_name_is_not_utf8_is_an_identity_that_can_be_written(tmp_path):
    folder = os.fsencode(tmp_path) + b"/caf\xe9"
    try:
        os.mkdir(folder)  # noqa: PTH102
    except OSError:
        pytest.skip("this file system wants UTF-8")
    Path(os.fsdecode(folder) + "/1.jpg").write_bytes(b"x")
    (face,) = list_faces([str(tmp_path)])
    assert face.identity == "caf\\xe9"
    assert face.name.isascii()


@pytest.mark.parametrize("first", ["=", "+", "-", "@"])
def test_no_identity_is_a_formula(tmp_path, first):
    touch(tmp_path, f"s/{first}1+1/a.png", f"s/{first}SUM_0001.png", f"s/{first}x.png")
    found = people(list_faces([str(tmp_path / "s")])).values()
    assert set(found) >= {f"./{first}1+1", f"./{first}SUM"}
    assert len(set(found)) == 3
    for how in ("folder", "name", "file"):
        for face in list_faces([str(tmp_path / "s")], identity=how):
            assert not face.identity.startswith(("=", "+", "-", "@"))


def test_a_person_is_in_one_part_only(tmp_path):
    touch(tmp_path, *(f"p{person}/{i}.jpg" for person in range(40) for i in range(1 + person % 5)))
    faces = list_faces([str(tmp_path)], val=0.2, seed=3)
    apart = {face.identity for face in faces if face.is_val}
    assert len(apart) == 8
    assert all(face.is_val == (face.identity in apart) for face in faces)
    again = list_faces([str(tmp_path)], val=0.2, seed=3)
    assert again == faces
    other = {face.identity for face in list_faces([str(tmp_path)], val=0.2, seed=4) if face.is_val}
    assert other != apart
    larger = {f.identity for f in list_faces([str(tmp_path)], val=0.4, seed=3) if f.is_val}
    assert apart < larger
    assert not any(face.is_val for face in list_faces([str(tmp_path)]))


def test_a_part_is_never_empty(tmp_path):
    touch(tmp_path, "a/1.jpg", "b/1.jpg", "b/2.jpg")
    for val in (0.01, 0.99):
        assert len({f.identity for f in list_faces([str(tmp_path)], val=val) if f.is_val}) == 1
    with pytest.raises(ConfigError, match="at least two identities and the paths tell 1"):
        list_faces([str(tmp_path / "a")], val=0.5, identity="folder")
    with pytest.raises(ConfigError, match="from 0 to below 1, got 1"):
        list_faces([str(tmp_path)], val=1.0)


def test_what_holds_no_pictures_is_an_error(tmp_path):
    touch(tmp_path, "film.mp4", "text.txt", "sub/clip.mkv")
    (tmp_path / "empty").mkdir()
    for argument, message in (
        ("empty", "holds no pictures"),
        ("nowhere", "No such file"),
        ("film.mp4", "is a video or stream.*blurgate filter"),
        ("sub", "video"),
        ("*.xyz", "nothing matches"),
    ):
        with pytest.raises(InputError, match=message):
            list_faces([str(tmp_path / argument)])


# --- the crops -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("side", "size", "wanted"),
    [(60, 224, 112), (112, 224, 112), (127, 224, 112), (128, 224, 128), (200, 224, 192),
     (224, 224, 224), (500, 224, 224), (500, 230, 230), (225, 230, 224), (500, 112, 112)],
)  # fmt: skip
def test_a_ready_crop_is_not_enlarged_more_than_needed(tiny, tmp_path, side, size, wanted):
    cv2.imwrite(str(tmp_path / "a.png"), tiny.draw(side, 0))
    crop = FaceReader(size)(str(tmp_path / "a.png"))
    assert crop.shape == (wanted, wanted, 3)
    assert crop.dtype == np.uint8
    if side == wanted:
        assert np.array_equal(crop, tiny.draw(side, 0))


@pytest.mark.parametrize(
    ("make", "reason", "message"),
    [
        (lambda p: p.write_bytes(b"no picture"), "unreadable", "a.png"),
        (lambda p: p.write_bytes(b""), "unreadable", "empty file"),
        (lambda p: cv2.imwrite(str(p), np.zeros((112, 120, 3), np.uint8)), "not_square",
         "120x112 and not a square face crop.*--align"),
        (lambda p: cv2.imwrite(str(p), np.zeros((55, 55, 3), np.uint8)), "too_small",
         "55 pixels a side, 56 are needed"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_clean_face_is_skipped_with_a_reason(tmp_path, make, reason, message):
    make(tmp_path / "a.png")
    result = FaceReader()(str(tmp_path / "a.png"))
    assert isinstance(result, Skipped)
    assert result.reason == reason
    with pytest.raises(InputError, match=message):
        raise InputError(result.error)
    assert "a.png" in result.error


class Fixed:
    """A detector that finds given faces where `visible` says so."""

    info = ModelInfo("fixed", "")

    def __init__(self, kps, boxes, visible=lambda image: True):
        self.kps, self.boxes, self.visible, self.sizes = kps, boxes, visible, []

    def __call__(self, frames):
        return [self.find(frame) for frame in frames]

    def find(self, frame):
        self.sizes.append(frame.size)
        n = len(self.kps) if self.visible(frame) else 0
        boxes, kps = (np.array(a, np.float32)[:n] for a in (self.boxes, self.kps))
        return Detections(frame, boxes.reshape(n, 4), np.ones(n, np.float32), kps.reshape(n, 5, 2))


def place(scale, x, y, angle=0.0):
    """Landmarks of a template that is scaled, turned and moved."""
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return scale * ARCFACE_TEMPLATE.astype(float) @ turn.T + (x, y)


def photo(tmp_path, side=400):
    image = cv2.GaussianBlur(
        np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8), (0, 0), 4
    )
    image = cv2.normalize(image, None, 0, 255, cv2.NORM_MINMAX)
    cv2.imwrite(str(tmp_path / "p.png"), image)
    return image, str(tmp_path / "p.png")


@pytest.mark.parametrize(
    ("scale", "side"), [(0.6, 112), (1.0, 112), (1.3, 144), (2.0, 224), (3.0, 224)]
)
def test_a_photo_is_aligned_at_the_size_it_has(tmp_path, scale, side):
    image, path = photo(tmp_path)
    kps = place(scale, 30, 20, 0.2)
    crop = FaceReader(224, Fixed([kps], [[0, 0, 9, 9]]))(path)
    assert crop.shape == (side, side, 3)
    # Shrunk to 112 pixels it shows what the plain alignment at 112 pixels shows, and in its place.
    small = cv2.resize(crop, (112, 112), interpolation=cv2.INTER_AREA).astype(float)
    wanted = align_faces(image, kps[None].astype(np.float32), border=cv2.BORDER_REFLECT)[0]
    assert np.abs(small - wanted).mean() < 1.5
    moved = np.roll(wanted.astype(float), 1, axis=1)
    assert np.abs(small - wanted).mean() < np.abs(small - moved).mean() / 4


def test_a_small_face_in_a_photo_is_skipped(tmp_path):
    _, path = photo(tmp_path)
    result = FaceReader(224, Fixed([place(0.45, 30, 20)], [[0, 0, 9, 9]]))(path)
    assert result.reason == "too_small"
    assert FaceReader(224, Fixed([], []))(path).reason == "no_face"


def test_the_largest_of_several_faces_is_taken(tmp_path):
    image, path = photo(tmp_path)
    kps = [place(1.0, 10, 10), place(1.6, 150, 150)]
    detector = Fixed(kps, [[0, 0, 100, 100], [0, 0, 120, 90]])
    np.testing.assert_allclose(find_face(detector, image, path, "largest"), kps[1], rtol=1e-5)


@pytest.mark.parametrize("side", [300, 2560])
def test_a_close_up_is_found_with_borders_around_it(tmp_path, side):
    image = np.full((side, side, 3), 90, np.uint8)
    kps = place(side / 112, 0, 0)

    class Shy(Fixed):
        """Sees a face only where it fills at most a third of the picture."""

        def find(self, frame):
            inside = np.flatnonzero(frame.image[:, frame.size[1] // 2, 0])
            scale = len(inside) / side
            self.kps = [kps * scale + inside[0]]
            return super().find(frame)

    detector = Shy([kps], [[0, 0, 9, 9]], lambda f: (f.image[..., 0] > 0).mean() < 0.12)
    found = find_face(detector, image, "x", "largest")
    assert np.abs(found - kps).max() < 0.01 * side
    assert len(detector.sizes) == 3
    assert max(max(size) for size in detector.sizes) <= max(4 * 1280, side)


def test_the_size_is_checked():
    with pytest.raises(ConfigError, match="at least 112 pixels, got 100"):
        FaceReader(100)


@pytest.mark.shared
def test_real_photos_and_close_ups(shared):
    from blurgate import zoo
    from blurgate.interfaces import DetectorOptions, Runtime

    weights = str(shared / "data" / "weights" / "scrfd_2.5g_bnkps.onnx")
    detector = zoo.open_detector(weights, Runtime("cpu"), DetectorOptions())
    reader = FaceReader(224, detector)
    for name in ("faces_in_frame", "faces_train/utkface", "faces_train/generated"):
        files = sorted((shared / "data" / name).glob("*.jpg"))[::400][:5]
        for file in files:
            crop = reader(str(file))
            assert not isinstance(crop, Skipped), crop
            # The crop shows a face on the template: found again there, eyes where they belong.
            found = detector([Frame(cv2.resize(crop, (224, 224)), "", 0, None)])[0]
            assert np.abs(found.kps[0] / 2 - ARCFACE_TEMPLATE).mean() < 5
