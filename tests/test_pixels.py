"""Pixels that are made where they are needed, against the conversion of whole pictures."""

from __future__ import annotations

import av
import cv2
import numpy as np
import pytest
from av.video.reformatter import VideoReformatter

from blurgate.geometry import ARCFACE_TEMPLATE, align_faces, align_frame
from blurgate.io.colour import pixels_of
from blurgate.io.orient import EXIF_TURNS, Turn
from blurgate.pixels import Planes, bgr_matrix, grey, same, shrink
from blurgate.types import Frame, Pixels

H, W = 202, 322


def decoded(pix_fmt="yuv420p", size=(H, W), seed=0, colorspace=0, color_range=0, levels=(0, 256)):
    """A smooth random picture as a decoder would give it."""
    rng = np.random.default_rng(seed)
    small = rng.integers(*levels, (size[0] // 6, size[1] // 6, 3), np.uint8)
    frame = av.VideoFrame.from_ndarray(cv2.resize(small, size[::-1]), format="bgr24")
    frame = frame.reformat(format=pix_fmt)
    frame.colorspace, frame.color_range = colorspace, color_range
    return frame


def planes(**options) -> Planes:
    got = pixels_of(decoded(**options), Turn())
    assert isinstance(got, Planes)
    return got


@pytest.mark.parametrize("colorspace", [0, 1, 5, 9])
@pytest.mark.parametrize("color_range", [0, 1, 2])
@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p"])
def test_the_whole_picture_is_what_swscale_makes_of_the_frame(colorspace, color_range, pix_fmt):
    frame = decoded(pix_fmt, colorspace=colorspace, color_range=color_range)
    full = color_range == 2 or pix_fmt == "yuvj420p"
    wanted = frame.reformat(
        format="bgr24",
        src_colorspace={1: 1, 9: 9}.get(colorspace, 5),
        src_color_range="JPEG" if full else "MPEG",
        dst_color_range="MPEG" if full else "JPEG",
    ).to_ndarray()
    got = pixels_of(frame, Turn())
    assert isinstance(got, Pixels)
    assert got.size == (H, W)
    np.testing.assert_array_equal(got.image(), wanted)


def test_parts_equal_the_whole_byte_for_byte():
    pixels = planes()
    whole = pixels.image()
    rng = np.random.default_rng(1)
    for _ in range(60):
        x1, y1 = rng.integers(0, W - 1), rng.integers(0, H - 1)
        x2, y2 = rng.integers(x1 + 1, W + 1), rng.integers(y1 + 1, H + 1)
        view = pixels.view((x1, y1, x2, y2), 1.0)
        left, top = (int(v) for v in view.origin)
        h, w = view.image.shape[:2]
        assert left <= x1 < x2 <= left + w
        assert top <= y1 < y2 <= top + h
        assert view.step == (1, 1)
        np.testing.assert_array_equal(view.image, whole[top : top + h, left : left + w])


@pytest.mark.parametrize("turn", [Turn(), *EXIF_TURNS.values()])
def test_turned_planes_are_turned_pictures(turn):
    whole = planes().image()
    wanted = whole.transpose(1, 0, 2) if turn.transpose else whole
    wanted = wanted[:: -1 if turn.flip_y else 1, :: -1 if turn.flip_x else 1]
    got = pixels_of(decoded(), turn)
    assert isinstance(got, Pixels)
    np.testing.assert_array_equal(got.image(), wanted)


@pytest.mark.parametrize("turn", [Turn(), EXIF_TURNS[6]])
def test_paired_colour_planes_are_the_same_picture(turn):
    """NV12, what GPUs give: FFmpeg's own conversion only sorts its values."""
    apart = decoded()
    paired = VideoReformatter().reformat(apart, format="nv12")
    got, wanted = pixels_of(paired, turn), pixels_of(apart, turn)
    assert isinstance(got, Pixels)
    assert isinstance(wanted, Pixels)
    assert got.equals(wanted)
    np.testing.assert_array_equal(got.image(), wanted.image())


@pytest.mark.parametrize(
    ("pix_fmt", "size"),
    [("yuv422p", (H, W)), ("yuv420p10le", (H, W)), ("rgb24", (H, W)), ("yuv420p", (H + 1, W))],
)
def test_what_is_no_plain_420_is_converted_at_once(pix_fmt, size):
    got = pixels_of(decoded(pix_fmt, size), Turn())
    assert isinstance(got, np.ndarray)
    assert got.shape == (*size, 3)


@pytest.mark.parametrize(("matrix", "full"), [(5, False), (1, False), (9, True), (5, True)])
def test_matrix_against_grey_and_primaries(matrix, full):
    rows = bgr_matrix(matrix, full=full)
    black, white = (0, 255) if full else (16, 235)
    np.testing.assert_allclose(rows @ (black, 128, 128, 1), 0, atol=1e-3)
    np.testing.assert_allclose(rows @ (white, 128, 128, 1), 255, atol=1e-3)
    red, blue = {5: (0.299, 0.114), 1: (0.2126, 0.0722), 9: (0.2627, 0.0593)}[matrix]
    y = {"r": red, "g": 1 - red - blue, "b": blue}
    for name, bgr in (("r", (0, 0, 255)), ("g", (0, 255, 0)), ("b", (255, 0, 0))):
        u = ((name == "b") - y[name]) / (2 * (1 - blue))  # BT.601 section 2.5.2 and its successors
        v = ((name == "r") - y[name]) / (2 * (1 - red))
        scale = 255 if full else 224
        yuv = (black + y[name] * (white - black), 128 + scale * u, 128 + scale * v, 1)
        np.testing.assert_allclose(rows @ yuv, bgr, atol=1e-2)


@pytest.mark.parametrize(("colorspace", "color_range"), [(0, 0), (1, 1), (5, 2), (9, 0)])
def test_shrunk_planes_are_the_shrunk_picture(colorspace, color_range):
    # No colours that a conversion would clip: what is clipped before or after shrinking differs.
    pixels = planes(colorspace=colorspace, color_range=color_range, levels=(90, 160))
    canvas = np.zeros((120, 200, 3), np.uint8)
    out = canvas[:100, :160]
    pixels.shrink(out)
    wanted = cv2.resize(pixels.image(), (160, 100))
    difference = out.astype(int) - wanted
    assert abs(difference.mean()) < 0.7
    assert np.percentile(np.abs(difference), 95) <= 4
    assert not canvas[100:].any()
    assert not canvas[:, 160:].any()


def test_grey_is_the_brightness_plane():
    frame = decoded()
    got = planes().grey((H, W))
    wanted = frame.to_ndarray(format="yuv420p")[:H]
    np.testing.assert_array_equal(got, wanted)


def test_faces_cut_out_of_parts():
    frame = Frame(planes(), "a", 0, None)
    rng = np.random.default_rng(2)
    centres = rng.uniform((-10, -10), (W + 10, H + 10), (40, 1, 2))
    scales = rng.uniform(0.2, 1.5, (40, 1, 1))
    kps = ((ARCFACE_TEMPLATE - 56) * scales + centres).astype(np.float32)
    got, wanted = align_frame(frame, kps), align_faces(frame.image, kps)
    difference = np.abs(got.astype(int) - wanted)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_frames_of_arrays_do_the_same():
    image = planes().image()
    array, lazy = Frame(image, "a", 0, None), Frame(planes(), "a", 0, None)
    a, b = np.empty((2, 60, 100, 3), np.uint8)
    shrink(array, a)
    shrink(lazy, b)
    means = (image.reshape(H // 2, 2, W // 2, 2, 3).sum(axis=(1, 3), dtype=np.uint32) + 2) // 4
    np.testing.assert_array_equal(a, cv2.resize(means.astype(np.uint8), (100, 60)))
    assert np.abs(a.astype(int) - b).mean() < 4
    assert grey(array, (50, 80)).shape == grey(lazy, (50, 80)).shape == (50, 80)
    assert lazy.image is lazy.image
    assert lazy.size == array.size == (H, W)


@pytest.mark.parametrize("times", [2, 2.5, 3, 5, 6.5])
def test_a_shrunk_picture_leaves_out_no_pixel(times):
    """Of stripes a pixel wide, interpolation alone reads one colour or the other."""
    stripes = np.tile(np.arange(round(96 * times)) % 2 * 255, (round(54 * times), 1))
    image = np.repeat(stripes[..., None], 3, axis=2).astype(np.uint8)
    y, colour = stripes.astype(np.uint8), np.full((len(stripes) // 2, 48), 128, np.uint8)
    for pixels in (image, Planes((y, colour, colour), 5, full=True)):
        out = np.empty((54, 96, 3), np.uint8)
        shrink(Frame(pixels, "a", 0, None), out)
        assert np.abs(out - 127.5).max() < 3


def test_same_pixels():
    a, b, other = (Frame(planes(seed=seed), "a", 0, None) for seed in (0, 0, 1))
    assert same(a, b)
    assert not same(a, other)
    assert not same(a, Frame(a.image, "a", 0, None))
    assert same(Frame(a.image, "a", 0, None), Frame(a.image.copy(), "a", 1, None))
    changed = a.image.copy()
    changed[-1, -1] ^= 1
    assert not same(Frame(a.image, "a", 0, None), Frame(changed, "a", 1, None))
    assert not same(a, Frame(planes(colorspace=1), "a", 0, None))
    assert not same(a, Frame(planes(color_range=2), "a", 0, None))


@pytest.mark.parametrize("plane", [0, 1, 2])
def test_one_value_of_one_plane_makes_another_picture(plane):
    y, u, v = np.full((H, W), 90, np.uint8), *np.full((2, H // 2, W // 2), 128, np.uint8)
    changed = [y, u, v]
    changed[plane] = changed[plane].copy()
    changed[plane][-1, -1] += 1
    one, same_values, other = (
        Frame(Planes(values, 5, full=False), "a", 0, None)
        for values in ((y, u, v), (y.copy(), u.copy(), v.copy()), changed)
    )
    assert same(one, same_values)
    assert not same(one, other)
