"""Large JPEG photos that are read reduced."""

from __future__ import annotations

import logging

import cv2
import numpy as np
import pytest
from PIL import Image

from blurgate.geometry import ARCFACE_TEMPLATE, align_faces, align_frame
from blurgate.io.images import jpeg_reductions, read_image
from blurgate.io.reduced import LEAST_SIDE, ReducedPhoto, read_photo
from blurgate.types import Frame, Pixels

H, W = 1536, 2048


def photo(path, size=(H, W), *, orientation=1, file_format="JPEG"):
    """Write a smooth picture; gives its pixels as they stand in the file, BGR."""
    rng = np.random.default_rng(3)
    image = cv2.resize(rng.integers(0, 256, (24, 32, 3), np.uint8), size[::-1])
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(image[..., ::-1]).save(path, file_format, quality=97, subsampling=0, exif=exif)
    return image


def at(factor, centre):
    """Landmarks of a face `factor` times as large as the template, around a point."""
    middle = ARCFACE_TEMPLATE.mean(axis=0)
    return ((ARCFACE_TEMPLATE - middle) * factor + centre)[None].astype(np.float32)


def test_what_a_jpeg_can_be_reduced_to(tmp_path):
    photo(tmp_path / "a.jpg")
    assert jpeg_reductions(tmp_path / "a.jpg") == ((H, W), (2, 4, 8))
    photo(tmp_path / "b.jpg", (1004, 1506))
    assert jpeg_reductions(tmp_path / "b.jpg") == ((1004, 1506), (2,))
    photo(tmp_path / "c.png", file_format="PNG")
    assert jpeg_reductions(tmp_path / "c.png") == ((0, 0), ())
    (tmp_path / "d.jpg").write_bytes(b"\xff\xd8nothing")
    assert jpeg_reductions(tmp_path / "d.jpg") == ((0, 0), ())
    assert jpeg_reductions(tmp_path / "missing.jpg") == ((0, 0), ())


@pytest.mark.parametrize("size", [(480, 640), (1000, LEAST_SIDE * 2 - 2), (1001, 2001)])
def test_small_and_odd_photos_are_read_whole(tmp_path, size):
    photo(tmp_path / "a.jpg", size)
    got = read_photo(str(tmp_path / "a.jpg"))
    assert isinstance(got, np.ndarray)
    np.testing.assert_array_equal(got, read_image(tmp_path / "a.jpg"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_parts_lie_where_they_do_in_the_whole_photo(tmp_path, orientation):
    photo(tmp_path / "a.jpg", orientation=orientation)
    whole = read_image(tmp_path / "a.jpg")
    got = read_photo(str(tmp_path / "a.jpg"))
    assert isinstance(got, ReducedPhoto)
    assert got.size == whole.shape[:2]
    view = got.view((300, 500, 701, 903), 0.5)
    assert view.step == (2, 2)
    x, y = (np.arange(n) * 2 + o for n, o in zip(view.image.shape[1::-1], view.origin, strict=True))
    grid = np.meshgrid(x.astype(np.float32), y.astype(np.float32))
    wanted = cv2.remap(whole, *grid, cv2.INTER_LINEAR)
    difference = np.abs(view.image.astype(int) - wanted)
    assert difference.mean() < 0.6  # half a pixel off gives 1.5
    assert view.origin[0] - 0.5 <= 300
    assert view.origin[0] + 2 * view.image.shape[1] >= 701


def test_no_crop_is_enlarged(tmp_path):
    photo(tmp_path / "a.jpg")
    for scale, step in [(1.0, 1), (0.51, 1), (0.5, 2), (0.26, 2), (0.25, 2), (0.1, 2)]:
        got = read_photo(str(tmp_path / "a.jpg"))
        assert isinstance(got, ReducedPhoto)
        assert got.view((0, 0, 99, 99), scale).step == (step, step)


@pytest.mark.parametrize("factor", [0.8, 1.9, 3.0])
def test_crops_of_small_faces_are_those_of_the_whole_photo(tmp_path, factor):
    photo(tmp_path / "a.jpg")
    whole = read_image(tmp_path / "a.jpg")
    frame = Frame(read_photo(str(tmp_path / "a.jpg")), "a", 0, None)
    kps = at(factor, (900, 700))
    difference = np.abs(align_frame(frame, kps).astype(int) - align_faces(whole, kps))
    assert difference.max() <= (1 if factor < 2 else 4)


def test_the_detectors_picture_and_the_grey_one(tmp_path):
    photo(tmp_path / "a.jpg")
    whole = read_image(tmp_path / "a.jpg")
    got = read_photo(str(tmp_path / "a.jpg"))
    assert isinstance(got, Pixels)
    out = np.empty((480, 640, 3), np.uint8)
    got.shrink(out)
    wanted = cv2.resize(whole, (640, 480), interpolation=cv2.INTER_AREA)
    assert np.abs(out.astype(int) - wanted).mean() < 1
    grey = got.grey((240, 320))
    assert np.abs(grey.astype(int) - cv2.cvtColor(wanted, cv2.COLOR_BGR2GRAY)[::2, ::2]).mean() < 3
    large = np.empty((1200, 1600, 3), np.uint8)
    got.shrink(large)  # larger than what was read: not made of the reduced picture
    np.testing.assert_array_equal(large, cv2.resize(whole, (1600, 1200)))
    np.testing.assert_array_equal(got.image(), whole)


@pytest.mark.parametrize(
    ("size", "reduction"), [((768, 1024), 2), ((700, 933), 2), ((900, 1200), 1)]
)
def test_a_picture_is_shrunk_from_the_coarsest_that_is_large_enough(tmp_path, size, reduction):
    photo(tmp_path / "a.jpg")
    got = read_photo(str(tmp_path / "a.jpg"))
    assert isinstance(got, ReducedPhoto)
    out = np.empty((*size, 3), np.uint8)
    got.shrink(out)
    source = read_image(tmp_path / "a.jpg", reduce=reduction)
    np.testing.assert_array_equal(out, cv2.resize(source, size[::-1]))


def test_a_photo_that_vanished_is_replaced_by_what_was_read(tmp_path, caplog):
    photo(tmp_path / "a.jpg")
    got = read_photo(str(tmp_path / "a.jpg"))
    assert isinstance(got, ReducedPhoto)
    (tmp_path / "a.jpg").unlink()
    with caplog.at_level(logging.WARNING):
        assert got.view((0, 0, 50, 50), 1.0).step == (2, 2)
        assert got.image().shape == (H, W, 3)
    assert "a reduced picture is used" in caplog.text


def test_a_photo_that_was_replaced_by_another_is_not_mixed_with_it(tmp_path, caplog):
    photo(tmp_path / "a.jpg")
    got = read_photo(str(tmp_path / "a.jpg"))
    assert isinstance(got, ReducedPhoto)
    photo(tmp_path / "a.jpg", (H, 2 * H))
    with caplog.at_level(logging.WARNING):
        assert got.view((0, 0, 50, 50), 1.0).step == (2, 2)
        assert got.image().shape == (H, W, 3)
    assert "a.jpg has changed" in caplog.text


def test_a_very_large_photo_is_read_no_finer_and_no_more_often_than_needed(tmp_path, monkeypatch):
    photo(tmp_path / "a.jpg", (160, 4 * LEAST_SIDE))
    whole = read_image(tmp_path / "a.jpg")
    asked = []

    def read(name, *, reduce=1, data=None):
        asked.append(reduce)
        return read_image(name, reduce=reduce, data=data)

    monkeypatch.setattr("blurgate.io.reduced.read_image", read)
    got = read_photo(str(tmp_path / "a.jpg"))
    assert isinstance(got, ReducedPhoto)
    assert got.size == whole.shape[:2]
    for scale, step in [(0.1, 4), (0.26, 2), (0.25, 4), (0.5, 2), (0.1, 4)]:
        assert got.view((0, 0, 99, 99), scale).step == (step, step)
    assert asked == [4, 2]
    (tmp_path / "a.jpg").unlink()
    assert got.view((0, 0, 99, 99), 1.0).step == (2, 2)  # the finest there is


@pytest.mark.parametrize("reduction", [2, 4, 8])
def test_a_crop_has_no_dark_edge(reduction):
    """Its outermost pixels are made of the photo alone, wherever the face lies."""
    h, w = 240 * reduction, 320 * reduction
    flat = np.full((240, 320, 3), 200, np.uint8)
    frame = Frame(ReducedPhoto("a", (h, w), {reduction: flat}, (1, reduction)), "a", 0, None)
    rng = np.random.default_rng(4)
    for factor in rng.uniform(reduction, 1.4 * reduction, 50):
        kps = at(factor, rng.uniform(80 * factor, (w - 80 * factor, h - 80 * factor)))
        crop = align_frame(frame, kps)
        assert crop.min() == crop.max() == 200
