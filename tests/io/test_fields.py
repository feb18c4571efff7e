"""Interlaced video: a bar that moves between the fields, and stripes that do not."""

from __future__ import annotations

from fractions import Fraction

import av
import av.filter
import numpy as np
import pytest

from blurgate.io.fields import deinterlaced
from blurgate.io.video import read_video

STEP = 6  # pixels from field to field
BAR = 24


def field(number, size):
    """The luma of a field's moment, all lines of it: stripes above, a moving bar below."""
    h = size[0]
    luma = np.full(size, 50, np.uint8)
    luma[: h // 3] = np.where(np.arange(h // 3) // 4 % 2, 90, 160)[:, None]
    at = 8 + number * STEP
    luma[h // 2 :, at : at + BAR] = 210
    return luma


def interlaced(path, media, n, *, top_first=True, size=(96, 256), marked=True, **more):
    """Write n frames, each woven of two fields."""
    frames = []
    for i in range(n):
        first, second = field(2 * i, size), field(2 * i + 1, size)
        luma = first.copy()
        later = slice(1, None, 2) if top_first else slice(0, None, 2)
        luma[later] = second[later]
        chroma = np.full((size[0] // 2, size[1] // 2), 128, np.uint8)
        frames.append(media.yuv_frame([luma, chroma, chroma], "yuv420p"))
    options = {"qp": "0", "bf": "0"}
    if marked:
        options |= {"flags": "+ilme+ildct"}
        frames = marking(frames, "tff" if top_first else "bff")
    return media.encode(path, frames, options=options, **more)


def marking(frames, order):
    """Say of frames that they are interlaced."""
    graph = av.filter.Graph()
    source = graph.add_buffer(
        width=frames[0].width,
        height=frames[0].height,
        format=frames[0].format,
        time_base=Fraction(1, 25),
    )
    graph.link_nodes(source, graph.add("setfield", order), graph.add("buffersink")).configure()
    for frame in frames:
        graph.push(frame)
        yield graph.pull()


@pytest.mark.parametrize("params", ["interlace=1", "interlace=2"])
def test_fields_that_are_pictures_of_their_own(tmp_path, media, params):
    """HEVC stores them so; they came half as high as wide, and with their lines mixed."""
    size, n = (192, 256), 12
    frames = []
    for i in range(n):
        luma = np.ascontiguousarray(field(i, size)[i % 2 :: 2])
        chroma = np.full((size[0] // 4, size[1] // 2), 128, np.uint8)
        frames.append(media.yuv_frame([luma, chroma, chroma], "yuv420p"))
    options = {"x265-params": f"log-level=none:lossless=1:{params}"}
    path = media.encode(tmp_path / "a.mkv", frames, codec="libx265", rate=50, options=options)
    shown = read(path)
    assert [frame.size for frame in shown] == [(96, 128)] * n
    for i, frame in enumerate(shown):
        stored = grey(field(i, size)[i % 2 :: 2])
        wanted = (stored[:, ::2] + stored[:, 1::2]) / 2
        error = np.abs(frame.image[..., 1] - wanted)
        assert error[:40].max() <= 3  # stripes: no line took from its neighbours
        assert error[40:].mean() < 2  # the bar's edges are a matter of the filter


def grey(luma):
    return (luma.astype(float) - 16) * 255 / 219


def read(path, **options):
    *frames, end = read_video(str(path), **options)
    assert (end.status, end.frames_failed) == ("ok", 0)
    return frames


@pytest.mark.parametrize("top_first", [True, False])
@pytest.mark.parametrize(
    ("suffix", "n"), [(".mp4", 1), (".mp4", 2), (".mp4", 3), (".mp4", 12), (".ts", 12)]
)
def test_each_frame_shows_its_first_field(tmp_path, media, suffix, top_first, n):
    path = interlaced(tmp_path / f"a{suffix}", media, n, top_first=top_first)
    frames = read(path)
    assert [frame.index for frame in frames] == list(range(n))
    times = [frame.pts_s - frames[0].pts_s for frame in frames]
    assert times == pytest.approx([i / 25 for i in range(n)], abs=1e-4)
    if n < 3:
        return  # the ends have no neighbours that tell what moves
    for i, frame in list(enumerate(frames))[1:-1]:
        wanted = grey(field(2 * i, (96, 256)))
        error = np.abs(frame.image[..., 1] - wanted)
        # What stands still keeps every line; an edge that moves may be off by a few pixels.
        assert error[:30].max() <= 3
        assert error[52:].mean() < 4
        woven = wanted.copy()
        later = slice(1, None, 2) if top_first else slice(0, None, 2)
        woven[later] = grey(field(2 * i + 1, (96, 256)))[later]
        assert np.abs(woven - wanted)[52:].mean() > 2 * error[52:].mean()


def test_frames_that_are_not_marked_stay(tmp_path, media):
    frames = read(interlaced(tmp_path / "a.mp4", media, 5, marked=False))
    luma = field(4, (96, 256))
    luma[1::2] = field(5, (96, 256))[1::2]
    assert np.abs(frames[2].image[..., 1] - grey(luma)).max() <= 3


def test_every_nth_frame_is_the_same_picture(tmp_path, media):
    path = interlaced(tmp_path / "a.mp4", media, 12)
    whole, some = read(path), read(path, every=5)
    assert [frame.index for frame in some] == [0, 5, 10]
    for frame in some:
        np.testing.assert_array_equal(frame.image, whole[frame.index].image)
        assert frame.pts_s == whole[frame.index].pts_s


def test_it_begins_in_the_middle_and_survives_another_size(tmp_path, media):
    parts = [
        interlaced(tmp_path / "a.mp4", media, 3, marked=False),
        interlaced(tmp_path / "b.mp4", media, 4),
        interlaced(tmp_path / "c.mp4", media, 2, size=(64, 192)),
        interlaced(tmp_path / "d.mp4", media, 3, size=(64, 192), marked=False),
    ]

    def decoded():
        number = 0
        for part in parts:
            with av.open(str(part)) as container:
                for frame in container.decode(video=0):
                    yield frame, number
                    number += 1

    given = list(deinterlaced(decoded()))
    assert [note for _, note in given] == list(range(12))
    shapes = [(frame.height, frame.width) for frame, _ in given]
    assert shapes == [(96, 256)] * 7 + [(64, 192)] * 5
    before = [frame for frame, _ in decoded()]
    for number in (0, 1, 2, 9, 10, 11):
        np.testing.assert_array_equal(
            given[number][0].to_ndarray(), before[number].to_ndarray(), err_msg=str(number)
        )


def test_colours_and_damage_are_those_of_the_frame(tmp_path, media):
    tags = {"colorspace": 1, "color_range": 1, "color_trc": 1}
    path = interlaced(tmp_path / "a.mp4", media, 4, tags=tags)
    with av.open(str(path)) as container:
        frames = list(deinterlaced((frame, None) for frame in container.decode(video=0)))
    for frame, _ in frames:
        assert (frame.colorspace, frame.color_range, frame.color_trc) == (1, 1, 1)
        assert not frame.is_corrupt


@pytest.mark.parametrize("pix_fmt", ["nv12", "yuyv422", "yuv420p10le", "gray", "bgr24"])
def test_formats_of_cameras_and_gpus(pix_fmt):
    """FFmpeg brings those that its filter does not know to their planar relatives."""
    grey = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 128, np.uint8), format="bgr24")
    frames = [grey.reformat(format=pix_fmt) for _ in range(3)]
    for number, frame in enumerate(frames):
        frame.pts, frame.time_base = number, Fraction(1, 25)
    given = list(deinterlaced((frame, i) for i, frame in enumerate(marking(frames, "tff"))))
    assert [note for _, note in given] == [0, 1, 2]
    for frame, _ in given:
        assert (frame.width, frame.height) == (64, 48)
        assert np.abs(frame.to_ndarray(format="bgr24").astype(int) - 128).max() <= 4
