from __future__ import annotations

import gc
import http.server
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import wave
import weakref
from fractions import Fraction
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import av
import numpy as np
import pytest

from blurgate.errors import ConfigError
from blurgate.io import video
from blurgate.io.address import VIDEO_SUFFIXES, is_live
from blurgate.io.colour import pixels_of
from blurgate.io.images import IMAGE_SUFFIXES
from blurgate.io.orient import Turn, turned
from blurgate.io.video import estimate_frames, read_video
from blurgate.types import Frame, SourceEnd

FAST = {"preset": "ultrafast", "qp": "0"}  # lossless


def read(path, **options):
    """Read everything: the frames, and the one end that comes last."""
    *frames, end = read_video(str(path), **options)
    assert all(isinstance(frame, Frame) for frame in frames)
    assert isinstance(end, SourceEnd)
    assert end.source == str(path)
    assert "\n" not in end.error
    assert (end.status == "ok") == (end.error == "")
    return frames, end


def failure(path):
    """Read something that gives no frame; returns the error."""
    frames, end = read(path)
    assert (frames, end.status, end.frames) == ([], "failed", 0)
    return end.error


# Sound files


@pytest.mark.parametrize(
    ("codec", "suffix", "options"),
    [
        ("libx264", ".mp4", {"bf": "3"}),
        ("libx264", ".mkv", {"bf": "3"}),
        ("libx264", ".mov", {"bf": "0"}),
        ("libx264", ".avi", {"bf": "0"}),
        ("libx264", ".ts", {"bf": "3"}),
        ("libx265", ".mp4", {"x265-params": "log-level=none:bframes=3"}),
        ("libx265", ".mkv", {"x265-params": "log-level=none:bframes=3"}),
        ("libvpx-vp9", ".webm", {"deadline": "realtime", "cpu-used": "8"}),
        ("libvpx", ".webm", {"deadline": "good", "cpu-used": "5", "auto-alt-ref": "1"}),
        ("libsvtav1", ".mp4", {"preset": "12"}),
        ("libsvtav1", ".webm", {"preset": "12"}),
        ("libaom-av1", ".mp4", {"cpu-used": "8"}),
        ("mjpeg", ".avi", {}),
        ("mjpeg", ".mov", {}),
        ("mpeg4", ".avi", {"bf": "0", "qmax": "2"}),
    ],
)
def test_every_frame_in_order_with_its_time(tmp_path, media, codec, suffix, options):
    pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
    path = tmp_path / f"a{suffix}"
    media.counting(path, 40, pix_fmt=pix_fmt, codec=codec, options=options)
    frames, end = read(path)
    assert (end.status, end.frames, end.frames_failed, end.error) == ("ok", 40, 0, "")
    assert [frame.index for frame in frames] == list(range(40))
    shown = [media.index_of(f.image, full_range=codec == "mjpeg") for f in frames]
    assert shown == list(range(40))
    first_s = frames[0].pts_s
    assert first_s == pytest.approx(0) or suffix == ".ts"
    wanted_s = [index / 25 for index in range(40)]  # Matroska stores milliseconds
    assert [frame.pts_s - first_s for frame in frames] == pytest.approx(wanted_s, abs=6e-4)
    assert {frame.source for frame in frames} == {str(path)}
    assert suffix in VIDEO_SUFFIXES


def test_variable_frame_rate(tmp_path, media):
    ticks = [0, 10, 11, 500, 501, 2503, 2504, 9000]
    path = media.counting(
        tmp_path / "a.mp4",
        len(ticks),
        ticks=ticks,
        time_base=Fraction(1, 1000),
        options={"bf": "2"},
    )
    frames, end = read(path)
    assert [frame.pts_s for frame in frames] == pytest.approx([t / 1000 for t in ticks], abs=1e-6)
    assert end.status == "ok"


def test_stream_without_times(tmp_path, media):
    path = media.counting(tmp_path / "a.h264", file_format="h264")
    frames, end = read(path)
    assert (end.status, end.frames) == ("ok", 30)
    assert {frame.pts_s for frame in frames} == {None}
    assert [media.index_of(frame.image) for frame in frames] == list(range(30))


@pytest.mark.parametrize(("codec", "bf"), [("libx264", "3"), ("mpeg4", "2")])
@pytest.mark.parametrize("rate", [Fraction(24_000, 1001), Fraction(60)])
def test_avi_with_b_frames_has_rising_times(tmp_path, media, codec, bf, rate):
    options = {"bf": bf} if codec == "libx264" else {"bf": bf, "qmax": "2"}
    path = media.counting(
        tmp_path / "a.avi", 40, codec=codec, options=options, time_base=1 / rate, rate=rate
    )
    frames, end = read(path)
    assert (end.status, end.frames) == ("ok", 40)
    assert [media.index_of(frame.image) for frame in frames] == list(range(40))
    # The container stores times of decoding, and the decoder gives the last frames without any.
    assert np.diff([frame.pts_s for frame in frames]) == pytest.approx(float(1 / rate))


@pytest.mark.parametrize("every", [2, 7, 100])
def test_every_nth_frame(tmp_path, media, every):
    path = media.counting(tmp_path / "a.mp4", options={"bf": "3"})
    frames, end = read(path, every=every)
    assert [frame.index for frame in frames] == list(range(0, 30, every))
    assert [media.index_of(frame.image) for frame in frames] == list(range(0, 30, every))
    assert [f.pts_s for f in frames] == pytest.approx([i / 25 for i in range(0, 30, every)])
    assert (end.status, end.frames) == ("ok", 30)


def test_frames_that_are_passed_over_are_not_converted(tmp_path, media, monkeypatch):
    converted = []

    def counted(frame, *more):
        converted.append(frame.pts)
        return pixels_of(frame, *more)

    monkeypatch.setattr(video, "pixels_of", counted)
    read(media.counting(tmp_path / "a.mp4"), every=10)
    assert len(converted) == 3


def test_every_must_be_positive():
    with pytest.raises(ConfigError, match="every must be at least 1, got 0"):
        next(read_video("a.mp4", every=0))


def test_size_may_change_within_a_stream(tmp_path, media):
    small = media.counting(tmp_path / "a.h264", 5, (96, 128), file_format="h264")
    large = media.counting(tmp_path / "b.h264", 5, (160, 240), file_format="h264")
    both = tmp_path / "both.h264"
    both.write_bytes(small.read_bytes() + large.read_bytes() + small.read_bytes())
    frames, end = read(both)
    assert [frame.size for frame in frames] == [(96, 128)] * 5 + [(160, 240)] * 5 + [(96, 128)] * 5
    assert [media.index_of(frame.image) for frame in frames] == [0, 1, 2, 3, 4] * 3
    assert (end.status, end.frames) == ("ok", 15)


def test_frames_discarded_by_an_edit_list_are_not_lost_ones(tmp_path, media):
    path = media.counting(tmp_path / "a.mp4", 50, options={"bf": "0", "g": "10"})
    data = bytearray(path.read_bytes())
    # The edit list (duration, start, rate) of the track: show 24 frames, from the 13th on.
    place = data.index(b"elst") + 12
    with av.open(str(path)) as container:
        ticks = int(Fraction(1, 25) / container.streams.video[0].time_base)
    struct.pack_into(">II", data, place, 24 * 1000 // 25, 12 * ticks)
    path.write_bytes(data)
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 50
    frames, end = read(path)
    assert [media.index_of(frame.image) for frame in frames] == list(range(12, 36))
    assert (end.status, end.frames, end.frames_failed, end.error) == ("ok", 24, 0, "")
    media.patch_packet(path, 10, lambda data: bytes(len(data)))  # frame 20, a key frame
    _, end = read(path)
    assert end.status == "partial"
    assert end.frames + end.frames_failed == 24


def test_a_frame_is_not_held_after_it_was_given(tmp_path, media):
    frames = read_video(str(media.counting(tmp_path / "a.mp4")))
    frame = next(frames)
    image = weakref.ref(frame.image)
    del frame
    next(frames)
    gc.collect()
    assert image() is None
    frames.close()


def test_decoded_frames_do_not_wait_for_the_garbage_collector(tmp_path, media):
    path = media.counting(tmp_path / "a.mp4", 100)
    gc.collect()
    gc.disable()
    try:
        frames = read_video(str(path))
        for _ in range(80):
            next(frames)
        alive = sum(type(thing) is av.VideoFrame for thing in gc.get_objects())
        frames.close()
    finally:
        gc.enable()
    assert alive <= 6


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="needs /proc")
def test_stopping_early_closes_the_file(tmp_path, media):
    path = media.counting(tmp_path / "a.mp4")

    def is_open():
        links = [fd.resolve() for fd in Path("/proc/self/fd").iterdir() if fd.is_symlink()]
        return path in links

    frames = read_video(str(path))
    next(frames)
    assert is_open()
    frames.close()
    assert not is_open()


def test_estimates(tmp_path, media):
    for suffix in (".mp4", ".mkv", ".avi"):
        path = media.counting(tmp_path / f"a{suffix}", 30)
        assert estimate_frames(str(path)) == 30
    assert estimate_frames(str(tmp_path / "none.mp4")) == 0
    assert estimate_frames("rtsp://localhost/1") is None


# Which way up


def picture():
    """(h, w) luma with a different level in each quarter."""
    luma = np.empty((48, 64), np.uint8)
    luma[:24, :32], luma[:24, 32:], luma[24:, :32], luma[24:, 32:] = 40, 90, 150, 220
    return luma


def as_shown(stored, a, b, c, d):
    """QuickTime puts each pixel (p, q) at (a p + c q, b p + d q), moved into view."""
    height, width = stored.shape
    places = {
        (a * p + c * q, b * p + d * q): stored[q, p] for p in range(width) for q in range(height)
    }
    left, top = min(x for x, _ in places), min(y for _, y in places)
    right, bottom = max(x for x, _ in places), max(y for _, y in places)
    shown = np.empty((bottom - top + 1, right - left + 1), np.uint8)
    for (x, y), level in places.items():
        shown[y - top, x - left] = level
    return shown


@pytest.mark.parametrize(
    "matrix",
    [
        (1, 0, 0, 1), (0, 1, -1, 0), (-1, 0, 0, -1), (0, -1, 1, 0),
        (-1, 0, 0, 1), (1, 0, 0, -1), (0, 1, 1, 0), (0, -1, -1, 0),
    ],
)  # fmt: skip
@pytest.mark.parametrize("suffix", [".mp4", ".mov"])
def test_rotation_and_mirroring_of_the_container(tmp_path, media, suffix, matrix):
    chroma = np.full((24, 32), 128, np.uint8)
    frames = (media.yuv_frame([picture(), chroma, chroma], "yuv420p") for _ in range(5))
    path = media.encode(tmp_path / f"a{suffix}", frames, options=FAST)
    data = bytearray(path.read_bytes())
    a, b, c, d = (value << 16 for value in matrix)
    place = data.index(b"tkhd") + 44
    struct.pack_into(">9i", data, place, a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    frames, end = read(path)
    assert end.status == "ok"
    wanted = (as_shown(picture(), *matrix).astype(float) - 16) * 255 / 219
    for frame in frames:
        assert frame.size == wanted.shape
        assert frame.image.flags.c_contiguous
        assert np.abs(frame.image[..., 1] - wanted).max() <= 3


def test_rotation_where_pyav_does_not_know_all_side_data():
    class Unknown:
        @property
        def side_data(self):
            raise ValueError("29 is not a valid Type")

    stored = np.arange(6, dtype=np.uint8).reshape(2, 3)
    image = np.repeat(stored[..., None], 3, axis=2)
    for degrees in (0, 90, 180, -90, -180):  # counter-clockwise
        frame = Unknown()
        frame.rotation = degrees
        got = turned(image, video._turn(frame))
        np.testing.assert_array_equal(got[..., 0], np.rot90(stored, degrees // 90))


# Pixels that are not square


def squeezed_disc(media, size, aspect, pix_fmt):
    """A red disc that is round when pixels are `aspect` times as wide as high, and its radius."""
    h, w = size
    radius = 0.4 * min(h, w * float(aspect))
    x = (np.arange(w) + 0.5 - w / 2) * float(aspect)
    y = np.arange(h)[:, None] + 0.5 - h / 2
    luma = np.where(np.hypot(x, y) < radius, 200, 40).astype(np.uint8)
    down, across = (1, 1) if pix_fmt == "yuv444p" else (2, 2)
    blue, red = (np.where(luma > 100, v, 128)[::down, ::across].astype(np.uint8) for v in (90, 200))
    return media.yuv_frame([luma, blue, red], pix_fmt), radius


def middle(size):
    return size[0] // 2, size[1] // 2


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuvj420p", "yuv444p"])
@pytest.mark.parametrize(
    ("suffix", "size", "aspect", "shown"),
    [
        (".mp4", (1080, 1440), Fraction(4, 3), (1080, 1920)),  # HDV
        (".mkv", (576, 720), Fraction(16, 15), (576, 768)),  # PAL, 4:3
        (".avi", (480, 720), Fraction(8, 9), (480, 640)),  # NTSC, 4:3
        (".ts", (96, 128), Fraction(64, 45), (96, 182)),
        (".mp4", (96, 128), Fraction(1, 2), (96, 64)),
    ],
)
def test_frames_have_square_pixels(tmp_path, media, suffix, size, aspect, shown, pix_fmt):
    disc, radius = squeezed_disc(media, size, aspect, pix_fmt)
    tags = {"sample_aspect_ratio": aspect, "color_range": 2 if "j" in pix_fmt else 1}
    path = media.encode(tmp_path / f"a{suffix}", [disc] * 2, options=FAST, tags=tags)
    stored = pixels_of(disc, Turn())
    stored = stored if isinstance(stored, np.ndarray) else stored.image()
    frames, end = read(path)
    assert (end.status, end.frames) == ("ok", 2)
    for frame in frames:
        assert frame.size == shown
        image = frame.image.astype(float)
        is_disc = image[..., 2] > 128
        assert is_disc.sum(0).max() == pytest.approx(2 * radius, abs=2)
        assert is_disc.sum(1).max() == pytest.approx(2 * radius, abs=2)
        for here, there in (((4, 4), (4, 4)), (middle(shown), middle(size))):
            assert np.abs(image[here] - stored[there]).max() <= 3


@pytest.mark.parametrize("aspect", [Fraction(100, 101), Fraction(5), Fraction(1, 5), Fraction(1)])
def test_pixels_that_are_nearly_square_and_impossible_ones_stay(tmp_path, media, aspect):
    disc, _ = squeezed_disc(media, (96, 128), 1, "yuv420p")
    tags = {"sample_aspect_ratio": aspect}
    path = media.encode(tmp_path / "a.mp4", [disc] * 2, options=FAST, tags=tags)
    frames, _ = read(path)
    assert frames[0].size == (96, 128)
    assert np.abs(frames[0].image.astype(int) - pixels_of(disc, Turn()).image()).max() <= 1


def test_pixels_are_made_square_before_a_turn(tmp_path, media):
    disc, radius = squeezed_disc(media, (96, 128), Fraction(3, 2), "yuv420p")
    tags = {"sample_aspect_ratio": Fraction(3, 2)}
    path = media.encode(tmp_path / "a.mov", [disc] * 2, options=FAST, tags=tags)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 44
    quarter = (0, 1 << 16, -1 << 16, 0)
    struct.pack_into(">9i", data, place, *quarter[:2], 0, *quarter[2:], 0, 0, 0, 1 << 30)
    path.write_bytes(data)
    frames, _ = read(path)
    assert frames[0].size == (192, 96)
    is_disc = frames[0].image[..., 2] > 128
    for axis in (0, 1):
        assert is_disc.sum(axis).max() == pytest.approx(2 * radius, abs=2)


# Colours

KR_KB = {"601": (0.299, 0.114), "709": (0.2126, 0.0722), "2020": (0.2627, 0.0593)}
TAG = {"601": 6, "709": 1, "2020": 9, None: 2}  # ITU-T H.273


def to_yuv(rgb, matrix, full, bits):
    """(n, 3) RGB in [0, 1] to integer Y, U, V by ITU-T H.273, equations 8-1 to 8-48."""
    kr, kb = KR_KB[matrix]
    red, green, blue = rgb.T
    y = kr * red + (1 - kr - kb) * green + kb * blue
    u, v = (blue - y) / (2 * (1 - kb)), (red - y) / (2 * (1 - kr))
    unit, top = 2 ** (bits - 8), 2**bits - 1
    if full:
        scaled = y * top, u * top + 128 * unit, v * top + 128 * unit
    else:
        scaled = (219 * y + 16) * unit, (224 * u + 128) * unit, (224 * v + 128) * unit
    return [
        np.rint(plane).clip(0, top).astype(np.uint16 if bits > 8 else np.uint8) for plane in scaled
    ]


def to_bgr(y, u, v, matrix, full, bits):
    """The inverse, in floating point from the rounded integers, to (n, 3) BGR in [0, 255]."""
    kr, kb = KR_KB[matrix]
    unit, top = 2 ** (bits - 8), 2**bits - 1
    y, u, v = (plane.astype(float) / unit for plane in (y, u, v))
    if full:
        scale = top / unit
        y, u, v = y / scale, (u - 128) / scale, (v - 128) / scale
    else:
        y, u, v = (y - 16) / 219, (u - 128) / 224, (v - 128) / 224
    red, blue = y + 2 * (1 - kr) * v, y + 2 * (1 - kb) * u
    green = (y - kr * red - kb * blue) / (1 - kr - kb)
    return np.stack([blue, green, red], axis=1).clip(0, 1) * 255


def blocks(values, size, block):
    """Lay flat squares out in rows."""
    height, width = size
    grid = np.resize(values, (height // block, width // block))
    return grid.repeat(block, 0).repeat(block, 1)


@pytest.mark.parametrize("pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le"])
@pytest.mark.parametrize("full", [False, True], ids=["limited", "full"])
@pytest.mark.parametrize("matrix", ["601", "709", "2020"])
def test_matrix_and_range_of_the_tags(tmp_path, media, matrix, full, pix_fmt):
    check_colours(tmp_path, media, pix_fmt, (96, 128), matrix, full, tag=matrix)


@pytest.mark.parametrize("size", [(96, 128), (576, 720), (720, 1280)])
def test_untagged_video_is_bt601_at_any_size(tmp_path, media, size):
    check_colours(tmp_path, media, "yuv420p", size, "601", full=False, tag=None)


def test_jpeg_range_by_pixel_format(tmp_path, media):
    check_colours(tmp_path, media, "yuvj420p", (96, 128), "601", full=True, tag=None)


def test_jpeg_range_by_pixel_format_alone(media):
    frame = media.grey_frame(30, pix_fmt="yuvj420p")
    assert frame.color_range == 0
    assert np.abs(pixels_of(frame, Turn()).image() - 30.0).max() <= 1
    frame = media.grey_frame(30)
    assert np.abs(pixels_of(frame, Turn()).image() - (30 - 16) * 255 / 219).max() <= 2


def check_colours(tmp_path, media, pix_fmt, size, matrix, full, tag):
    bits = 10 if "10" in pix_fmt else 8
    rgb = np.random.default_rng(1).random((48, 3))
    y, u, v = to_yuv(rgb, matrix, full, bits)
    across = 1 if "444" in pix_fmt else 2
    down = 2 if "420" in pix_fmt else 1
    planes = [blocks(y, size, 16)]
    planes += [blocks(chroma, size, 16)[::down, ::across] for chroma in (u, v)]
    path = media.encode(
        tmp_path / "a.mp4",
        [media.yuv_frame(planes, pix_fmt) for _ in range(2)],
        options=FAST,
        tags={"colorspace": TAG[tag], "color_range": 2 if full else 1 if tag else 0},
    )
    frames, end = read(path)
    assert end.status == "ok"
    exact = to_bgr(y, u, v, matrix, full, bits)
    wanted = np.stack([blocks(exact[:, channel], size, 16) for channel in range(3)], axis=2)
    inner = np.s_[8::16, 8::16]
    difference = frames[0].image[inner] - wanted[inner]
    # swscale's fast path truncates where it should round, up to three times.
    assert np.abs(difference).max() <= 3.5
    assert np.abs(difference).mean() <= 1.7
    for other in KR_KB.keys() - {matrix}:  # what is tested can be told from the alternatives
        assert np.abs(to_bgr(y, u, v, other, full, bits) - exact).max() > 8
    assert np.abs(to_bgr(y, u, v, matrix, not full, bits) - exact).mean() > 5


@pytest.mark.parametrize("size", [(359, 641), (361, 640), (2, 2), (97, 33)])
def test_odd_sizes(tmp_path, media, size):
    height, width = size
    luma = (np.add.outer(np.arange(height), np.arange(width)) // 4 % 200 + 20).astype(np.uint8)
    chroma = np.full((-(-height // 2), -(-width // 2)), 128, np.uint8)
    # x264 takes no odd 4:2:0, so FFV1
    path = media.encode(
        tmp_path / "a.mkv",
        [media.yuv_frame([luma, chroma, chroma], "yuv420p") for _ in range(3)],
        codec="ffv1",
    )
    frames, end = read(path)
    assert (end.status, end.frames) == ("ok", 3)
    assert frames[0].size == size
    assert frames[0].image.flags.c_contiguous
    assert frames[0].image.flags.writeable
    wanted = (luma[..., None].astype(float) - 16) * 255 / 219
    assert np.abs(frames[0].image - wanted).max() <= 3


def test_what_the_stream_cuts_off_is_not_shown(tmp_path, media):
    luma = np.tile(np.arange(20, 148, dtype=np.uint8), (96, 1))
    chroma = np.full((48, 64), 128, np.uint8)
    whole = media.encode(
        tmp_path / "whole.mp4", [media.yuv_frame([luma, chroma, chroma], "yuv420p")] * 3,
        options={"bf": "0", "qp": "0"},
    )  # fmt: skip
    path = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(path), "w") as target:
        stream = source.streams.video[0]
        cut = "h264_metadata=crop_left=22:crop_right=6:crop_top=10:crop_bottom=4"
        filtered = av.bitstream.BitStreamFilterContext(
            cut, stream, target.add_stream_from_template(stream)
        )
        for packet in source.demux(stream):
            for part in filtered.filter(packet if packet.size else None):
                part.stream = target.streams.video[0]
                target.mux(part)
    frames, end = read(path)
    assert (end.status, end.frames) == ("ok", 3)
    for frame in frames:
        assert frame.size == (82, 100)
        wanted = (luma[10:92, 22:122, None].astype(float) - 16) * 255 / 219
        assert np.abs(frame.image - wanted).max() <= 3


@pytest.mark.parametrize("pix_fmt", ["bgr0", "gray", "yuv410p"])
def test_other_pixel_formats(tmp_path, media, pix_fmt):
    frame = av.VideoFrame(64, 48, pix_fmt)
    for plane in frame.planes:
        plane.update(bytes([128]) * plane.buffer_size)
    path = media.encode(tmp_path / "a.mkv", [frame], codec="ffv1")
    frames, end = read(path)
    assert end.status == "ok"
    wanted = (128 - 16) * 255 / 219 if pix_fmt == "yuv410p" else 128
    assert np.abs(frames[0].image - wanted).max() <= 2


# High dynamic range

PQ, HLG = 16, 18


def ten_bits(path, media, light, transfer):
    """Write flat grey video of so much light (cd/m2) in BT.2020, 10 bits, limited range."""
    if transfer == PQ:
        y = (light / 10_000) ** 0.1593017578125
        value = ((0.8359375 + 18.8515625 * y) / (1 + 18.6875 * y)) ** 78.84375
    else:
        scene = (light / 1000) ** (1 / 1.2)
        above = 0.17883277 * np.log(max(12 * scene - 0.28466892, 1e-9)) + 0.55991073
        value = above if scene > 1 / 12 else (3 * scene) ** 0.5
    planes = [np.full((96, 128), round(64 + 876 * value), np.uint16)]
    planes += [np.full((48, 64), 512, np.uint16)] * 2
    return media.encode(
        path, [media.yuv_frame(planes, "yuv420p10le")] * 2, options=FAST,
        tags={"colorspace": 9, "color_primaries": 9, "color_trc": transfer, "color_range": 1},
    )  # fmt: skip


@pytest.mark.parametrize("transfer", [PQ, HLG])
@pytest.mark.parametrize(
    ("light", "wanted"),
    [
        (0, 0),
        (203 * 0.2140, 127.5),  # half of sRGB's range
        (203 * 0.5029, 187.5),
        (203, 242),  # paper, beyond the knee: 1 - 0.3 / e
        (1000, 255),
    ],
)
def test_high_dynamic_range_becomes_an_ordinary_picture(tmp_path, media, transfer, light, wanted):
    frames, end = read(ten_bits(tmp_path / "a.mkv", media, light, transfer))
    assert (end.status, end.frames) == ("ok", 2)
    for frame in frames:
        # Eight bits of PQ are coarse: one is up to four of what comes out.
        assert np.abs(frame.image.astype(float) - wanted).max() <= 5


def test_high_dynamic_range_in_eight_bits(media):
    frame = media.grey_frame(16 + round(0.58 * 219))  # paper's white in PQ, by ITU-R BT.2408
    frame.color_trc = PQ
    got = pixels_of(frame, Turn())
    assert got.shape == (96, 128, 3)
    assert np.abs(got.astype(int) - 242).max() <= 4


# Broken files


def test_truncated_file_accounts_for_every_frame(tmp_path, media):
    path = media.counting(
        tmp_path / "a.mp4", 60, options={"bf": "2", "g": "12"}, muxer={"movflags": "faststart"}
    )
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 3 // 4])
    frames, end = read(path)
    assert 5 < len(frames) < 55
    assert end.status == "partial"
    assert end.frames == len(frames)
    assert end.frames + end.frames_failed == 60
    assert (
        f"a.mp4: {end.frames_failed} of 60 frames could not be decoded, "
        f"the first after frame {end.frames - 1} ({frames[-1].pts_s:.6g} s)" in end.error
    )


@pytest.mark.parametrize("b_frames", ["0", "3"])
def test_cut_in_the_last_packet_loses_one_frame(tmp_path, media, b_frames):
    path = media.counting(
        tmp_path / "a.mp4", 40, options={"bf": b_frames}, muxer={"movflags": "faststart"}
    )
    with av.open(str(path)) as container:
        last = [packet for packet in container.demux(video=0) if packet.size][-1]
        cut = last.pos + last.size // 2
    path.write_bytes(path.read_bytes()[:cut])
    frames, end = read(path)
    assert (end.status, end.frames, end.frames_failed) == ("partial", 39, 1)
    if b_frames == "0":
        assert [media.index_of(frame.image) for frame in frames] == list(range(39))


def test_damaged_packet_is_counted_and_the_rest_is_read(tmp_path, media):
    path = media.counting(tmp_path / "a.mp4", 40, options={"bf": "0", "g": "8"})
    media.patch_packet(path, 16, lambda data: bytes(len(data)))  # a key frame
    frames, end = read(path)
    assert end.status == "partial"
    assert end.frames + end.frames_failed == 40
    assert 1 <= end.frames_failed <= 8
    assert f"{end.frames_failed} of 40 frames could not be decoded" in end.error
    assert media.index_of(frames[15].image) == 15
    assert media.index_of(frames[-1].image) == 39
    assert frames[-1].pts_s == pytest.approx(39 / 25)


def test_damage_that_the_decoder_concealed_is_told(tmp_path, media):
    noise = np.random.default_rng(0).integers(16, 235, (96, 128), dtype=np.uint8)
    chroma = np.full((48, 64), 128, np.uint8)
    path = media.encode(
        tmp_path / "a.mp4",
        (media.yuv_frame([np.roll(noise, i, 1), chroma, chroma], "yuv420p") for i in range(12)),
        options={"bf": "0", "g": "6"},
    )
    media.patch_packet(
        path, 6, lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2)
    )
    frames, end = read(path)
    assert (end.status, end.frames, len(frames)) == ("partial", 12, 12)
    assert "1 of 12 frames is damaged, the first is frame 6 (0.24 s)" in end.error


@pytest.mark.parametrize(
    ("codec", "pix_fmt", "options"),
    [
        ("mjpeg", "yuvj420p", {}),
        ("libx264", "yuv420p", {"bf": "0"}),
        ("libx264", "yuv420p", {"bf": "3"}),
    ],
)
def test_an_avi_that_repeats_frames_is_whole_and_a_damaged_one_is_not(
    tmp_path, media, codec, pix_fmt, options
):
    """A gap in the times becomes chunks without a byte, which the header counts as frames."""
    ticks = [i + (5 if i >= 10 else 0) for i in range(20)]
    path = media.counting(
        tmp_path / "a.avi", 20, pix_fmt=pix_fmt, codec=codec, options=options, ticks=ticks,
        time_base=Fraction(1, 25),
    )  # fmt: skip
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 25
        chunks = [packet.pos for packet in container.demux(video=0) if packet.size]
    assert len(chunks) == 20
    _, end = read(path)
    assert (end.status, end.frames, end.frames_failed, end.error) == ("ok", 20, 0, "")
    whole = path.read_bytes()
    for damaged, frames in (
        (whole[: chunks[15]], 15),
        (whole[: chunks[3]], 3),
        (whole[: chunks[13] - 8] + b"\xff" * 8 + whole[chunks[13] :], 19),
        (whole[: chunks[19] - 8] + b"\xff" * 8 + whole[chunks[19] :], 19),
    ):
        path.write_bytes(damaged)
        _, end = read(path)
        assert (end.status, end.frames) == ("partial", frames)
        # Chunks without a byte that follow the cut are taken for frames.
        assert end.frames + end.frames_failed == (20 if frames > 10 else 25)


@pytest.mark.parametrize("bf", ["0", "3"])
def test_an_avi_at_the_rate_of_fields_is_whole_and_a_cut_one_is_not(tmp_path, media, bf):
    """Every frame is followed by a chunk without a byte; so is the last, where no gap shows it."""
    path = media.counting(
        tmp_path / "a.avi", 20, options={"bf": bf}, ticks=range(0, 40, 2),
        time_base=Fraction(1, 50),
    )  # fmt: skip
    with av.open(str(path)) as container:
        assert container.streams.video[0].frames == 40
        chunks = [packet.pos for packet in container.demux(video=0) if packet.size]
    _, end = read(path)
    assert (end.status, end.frames, end.frames_failed, end.error) == ("ok", 20, 0, "")
    path.write_bytes(path.read_bytes()[: chunks[19] - 8])
    _, end = read(path)
    # The chunk that follows the cut is taken for a frame.
    assert (end.status, end.frames, end.frames_failed) == ("partial", 19, 2)


def test_truncated_matroska_is_partial(tmp_path, media):
    path = media.counting(tmp_path / "a.mkv", 60, options={"bf": "0", "g": "10"})
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    frames, end = read(path)
    assert end.status == "partial"
    assert 5 < end.frames == len(frames) < 55
    assert f"a.mkv: the file ends at {end.frames / 25:g} of 2.4 s" in end.error


def test_matroska_whose_video_ends_before_its_sound_is_whole(tmp_path, media):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 128, 96, "yuv420p"
        sound = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        for index in range(10):
            frame = media.grey_frame(media.luma_of(index))
            frame.pts, frame.time_base = index, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
        for index in range(20):
            samples = av.AudioFrame.from_ndarray(np.zeros((1, 1600), np.int16), "s16", "mono")
            samples.sample_rate, samples.pts = 8000, index * 1600
            container.mux(sound.encode(samples))
        container.mux(sound.encode())
    _, end = read(path)
    assert (end.status, end.frames) == ("ok", 10)


def test_mp4_without_its_index(tmp_path, media):
    path = media.counting(tmp_path / "a.mp4")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    error = failure(path)
    assert "a.mp4 cannot be read as a video: Invalid data" in error
    assert "its index is missing" in error


def test_container_without_frames(tmp_path):
    path = tmp_path / "a.y4m"
    path.write_bytes(b"YUV4MPEG2 W64 H48 F25:1 Ip A1:1 C420jpeg\n")
    assert failure(path) == f"{path}: holds no frames"


def test_sound_only(tmp_path):
    path = tmp_path / "a.wav"
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))
    assert failure(path) == f"{path} holds no video, only audio"


def test_cover_picture_is_no_video(tmp_path):
    mp3 = tmp_path / "plain.mp3"
    if "libmp3lame" not in av.codecs_available:
        pytest.skip("this PyAV has no MP3 encoder")
    with av.open(str(mp3), "w") as container:
        stream = container.add_stream("libmp3lame", rate=44100, layout="mono")
        samples = av.AudioFrame.from_ndarray(np.zeros((1, 44100), np.int16), "s16p", "mono")
        samples.sample_rate = 44100
        container.mux(stream.encode(samples))
        container.mux(stream.encode())
    import cv2

    jpeg = cv2.imencode(".jpg", np.zeros((16, 16, 3), np.uint8))[1].tobytes()
    cover = b"\0image/jpeg\0\x03\0" + jpeg
    block = b"APIC" + struct.pack(">IH", len(cover), 0) + cover
    length = bytes(len(block) >> shift & 127 for shift in (21, 14, 7, 0))
    path = tmp_path / "a.mp3"
    path.write_bytes(b"ID3\x03\0\0" + length + block + mp3.read_bytes())
    with av.open(str(path)) as container:
        assert len(container.streams.video) == 1
    assert failure(path) == f"{path} holds no video, only a cover picture and audio"


def test_things_that_are_no_video(tmp_path):
    text = tmp_path / "a.txt"
    text.write_text("Dear diary,\n" * 100)
    assert failure(text) == f"{text} is not a video"
    text = text.rename(tmp_path / "a.mp4")
    assert "a.mp4 cannot be read as a video" in failure(text)
    text.write_bytes(b"")
    assert failure(text) == f"{text} is an empty file"
    assert failure(tmp_path) == f"{tmp_path} is a folder, not a video"
    assert "none.mp4 cannot be read as a video: No such file" in failure(tmp_path / "none.mp4")


PLAYLIST = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n{}\n#EXT-X-ENDLIST\n"
SCRIPTS = {
    "ffconcat": ("a.mp4", "ffconcat version 1.0\nfile other.ts\n"),
    "hls": ("a.m3u8", PLAYLIST.format("{root}/other.ts")),
    "hls of an address": ("a.m3u8", PLAYLIST.format("{server}/other.ts")),
    "sdp": (
        "a.mp4",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 5004 RTP/AVP 96\n",
    ),
}


@pytest.fixture
def server(tmp_path):
    """Serves a folder; gives its address and the paths that were asked for."""
    asked = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *arguments):
            asked.append(self.path)

    handler = partial(Quiet, directory=str(tmp_path))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_address[1]}", asked
        serving.shutdown()
        thread.join()


NAMED_PIPES = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize("way", ["file", "address", pytest.param("pipe", marks=NAMED_PIPES)])
def test_a_file_that_names_others_is_refused(tmp_path, media, server, script, way):
    media.counting(tmp_path / "other.ts", 5)
    name, text = SCRIPTS[script]
    path = tmp_path / name
    path.write_text(text.format(root=tmp_path, server=server[0]))
    source = str(path)
    if way == "address":
        pytest.importorskip("fsspec")
        source = path.as_uri()
    if way == "pipe":
        data, source = path.read_bytes(), str(tmp_path / f"pipe{path.suffix}")
        os.mkfifo(source)
        threading.Thread(target=Path(source).write_bytes, args=(data,), daemon=True).start()
    assert failure(source) == (
        f"{source} cannot be read as a video: it is a list of other files (a playlist or script), "
        "which are not read for it, or damaged; name the videos themselves"
    )
    assert server[1] == []


def test_a_name_with_a_sign_for_numbers_is_that_of_one_file(tmp_path):
    for name, grey in (("a%d.pgm", b"\x40"), ("a0.pgm", b"\xc0"), ("a1.pgm", b"\xc0")):
        (tmp_path / name).write_bytes(b"P5 64 48 255\n" + grey * (64 * 48))
    frames, end = read(tmp_path / "a%d.pgm")
    assert (len(frames), end.status) == (1, "ok")
    assert frames[0].image.mean() == pytest.approx(0x40, abs=2)


def test_a_playlist_of_a_network_address_is_read_and_leads_to_no_file(tmp_path, media, server):
    media.counting(tmp_path / "other.ts", 5)
    (tmp_path / "a.m3u8").write_text(PLAYLIST.format("other.ts"))
    (tmp_path / "evil.m3u8").write_text(PLAYLIST.format((tmp_path / "other.ts").as_uri()))
    frames, end = read(f"{server[0]}/a.m3u8")
    assert (end.status, [media.index_of(frame.image) for frame in frames]) == ("ok", list(range(5)))
    assert "cannot be read as a video" in failure(f"{server[0]}/evil.m3u8")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve():
            connection, _ = listener.accept()
            with connection:
                connection.sendall((tmp_path / "evil.m3u8").read_bytes())

        thread = threading.Thread(target=serve)
        thread.start()
        address = f"tcp://127.0.0.1:{listener.getsockname()[1]}/evil.m3u8"
        assert "cannot be read as a video" in failure(address)
        thread.join()


def test_names_of_formats_are_told_apart():
    assert not IMAGE_SUFFIXES & VIDEO_SUFFIXES
    assert all(s == s.lower() and s[0] == "." for s in IMAGE_SUFFIXES | VIDEO_SUFFIXES)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such names")
@pytest.mark.parametrize(
    "name", [b"rtsp:a.mp4", b"a:b.mp4", b"-i.mp4", b"a\nb%03d.mp4", b"\xff'\"?#.mp4", b"http.mp4"]
)
def test_odd_names(tmp_path, media, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    path = os.fsdecode(name)
    made = media.counting(tmp_path / "plain.mp4", 5)
    try:
        made.rename(path)
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error}")
    frames, end = read(path)
    assert (end.status, len(frames), frames[0].source) == ("ok", 5, path)
    Path(path).write_bytes(b"nothing")
    error = failure(path)
    assert error.isprintable()


# Streams and cameras


@pytest.mark.parametrize(
    ("address", "live"),
    [
        ("rtsp://user:pw@host/1", True),
        ("RTSP://host", True),
        ("https://host/a.mp4", True),
        ("udp://239.0.0.1:1234", True),
        ("0", True),
        ("12", True),
        ("/dev/video0", True),
        ("a.mp4", False),
        ("-1", False),
        ("٣", False),
        ("", False),
        ("C:/clips/a.mp4", False),
    ],
)
def test_live_addresses(address, live):
    assert is_live(address) is live


def test_file_whose_name_is_a_number_is_no_camera(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "0").touch()
    assert not is_live("0")


def test_missing_camera():
    error = failure("987")
    assert error.startswith("987 cannot be read as a video: ")


def test_video_over_http(tmp_path, media, server):
    media.counting(tmp_path / "a.mp4", 20)
    frames, end = read(f"{server[0]}/a.mp4")
    assert (end.status, end.frames) == ("ok", 20)
    assert [media.index_of(frame.image) for frame in frames] == list(range(20))
    assert "404" in failure(f"{server[0]}/none.mp4")


def test_silent_server_is_given_up(monkeypatch):
    monkeypatch.setattr(video, "TIMEOUT_S", 0.3)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.mp4"
        assert (
            failure(address) == f"{address} cannot be read as a video: nothing came for 0.3 seconds"
        )


def test_camera_addresses_of_the_platforms(monkeypatch):
    opened = []

    def fake(name, **options):
        opened.append((name, options["format"]))
        raise OSError("no camera")

    monkeypatch.setattr(video, "av", SimpleNamespace(open=fake, error=av.error))
    for platform in ("linux", "darwin", "win32"):
        monkeypatch.setattr(sys, "platform", platform)
        assert "no camera" in failure("3")
    assert opened == [("/dev/video3", "v4l2"), ("3", "avfoundation"), ("3", "vfwcap")]


# Real clips


@pytest.mark.shared
def test_frames_and_times_equal_ffprobe(shared):
    if shutil.which("ffprobe") is None:
        pytest.skip("ffprobe is not installed")
    paths = sorted((shared / "data" / "video").glob("*.m*"))
    assert len(paths) == 9
    for path in paths:
        entries = "frame=best_effort_timestamp_time:stream=nb_read_frames"
        out = subprocess.run(
            ["ffprobe", "-v", "error", "-select_streams", "v:0", "-count_frames",
             "-show_entries", entries, "-of", "json", path],
            check=True, capture_output=True,
        ).stdout  # fmt: skip
        told = json.loads(out)
        frames, end = read(path, every=1)
        assert end.status == "ok"
        assert end.frames == int(told["streams"][0]["nb_read_frames"])
        wanted = [float(frame["best_effort_timestamp_time"]) for frame in told["frames"]]
        assert [frame.pts_s for frame in frames] == pytest.approx(wanted, abs=1e-6)
