"""Drawn and cut videos: read back with PyAV, against the source frame by frame."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest

from blurgate.annotating import annotate_image, annotate_video, cut_video, output_name
from blurgate.drawing import COLOURS, Mark, draw_faces
from blurgate.errors import ConfigError, EnvironmentLackError, InputError
from blurgate.geometry import ARCFACE_TEMPLATE
from blurgate.io import encode, joints
from blurgate.io.video import estimate_frames, read_video
from blurgate.types import SourceEnd
from blurgate.writing import Outputs

RATE = 16_000
FAST = {"preset": "ultrafast", "crf": "5", "bf": "2", "threads": "1"}
SHAPE = (96, 128)


def luma_of(index):
    return 20 + index * 5


def index_of(image):
    """The number of a frame, from its grey; what is drawn is below and right of this part."""
    return round((float(image[2:18, 2:30].mean()) * 219 / 255 + 16 - 20) / 5)


def clip(
    path, ticks=None, *, size=SHAPE, audio="aac", n=12, tick=Fraction(1, 100), start=0, aspect=None,
    last=None, codec="libx264", rate=RATE, layout="mono", late_s=0.0,
):  # fmt: skip
    """Flat grey frames, each brighter; by default 25 a second; sound: 440 Hz, louder every second.

    `ticks` are times in 1/100 s; `last` of them is how long the last frame lasts. `rate` and
    `layout` are what the sound is stored with, `late_s` is how much later it begins.
    """
    h, w = size
    options = FAST if last is None else FAST | {"bf": "0"}
    options = options if codec == "libx264" else {}
    ticks = [4 * i for i in range(n)] if ticks is None else ticks
    with av.open(str(path), "w") as container:
        video = container.add_stream(codec, rate=25, options=options)
        video.width, video.height = w, h
        video.pix_fmt = "yuv444p" if h % 2 or w % 2 else "yuv420p"
        video.codec_context.time_base = tick
        video.codec_context.sample_aspect_ratio = aspect or Fraction(1)
        sound = container.add_stream(audio, rate=rate, layout=layout) if audio else None
        packets = []
        for i, at in enumerate(ticks):
            frame = av.VideoFrame(w, h, video.pix_fmt)
            for plane, level in zip(frame.planes, (luma_of(i), 128, 128), strict=True):
                plane.update(bytes([level]) * plane.buffer_size)
            frame.pts, frame.time_base = at + start, tick
            packets += video.encode(frame)
        packets += video.encode(None)
        if last is not None:
            for packet, gap in zip(packets, [*np.diff(ticks), last], strict=True):
                packet.duration = int(gap)
        container.mux(packets)
        if sound is not None:
            length_s = float(ticks[-1] * tick) + 0.04
            t = np.arange(int(length_s * RATE)) / RATE
            wave = (np.sin(2 * np.pi * 440 * t) * (0.1 + 0.2 * np.floor(t))).astype(np.float32)
            for begin in range(0, len(wave), 1024):
                piece = av.AudioFrame.from_ndarray(
                    wave[None, begin : begin + 1024], format="fltp", layout="mono"
                )
                piece.sample_rate, piece.pts = RATE, begin + int((start * tick + late_s) * RATE)
                piece.time_base = Fraction(1, RATE)
                container.mux(sound.encode(piece))
            container.mux(sound.encode(None))
    return path


def mark(frame, at_s, *, degree=0.2, decision="keep", reason="", track=1):
    box = (60.0, 40.0, 100.0, 80.0)
    kps = (ARCFACE_TEMPLATE / 112 * 40 + [60, 40]).astype(np.float32)
    return Mark(frame, at_s, box, kps, degree, decision, reason, track)


def frames_of(path):
    *frames, end = read_video(str(path))
    assert isinstance(end, SourceEnd)
    assert (end.status, end.error) == ("ok", "")
    return frames


def sound_of(path):
    """(samples, time of the first, codec) of a file's first sound stream."""
    with av.open(str(path)) as container:
        stream = container.streams.audio[0]
        pieces = [frame for packet in container.demux(stream) for frame in packet.decode()]
        resampler = av.AudioResampler("fltp", "mono", RATE)
        floats = [out.to_ndarray()[0] for piece in pieces for out in resampler.resample(piece)]
        return np.concatenate(floats), float(pieces[0].time), stream.codec_context.name


def facts_of(path):
    with av.open(str(path)) as container:
        video = container.streams.video[0]
        return {
            "codec": video.codec_context.name,
            "pix_fmt": video.codec_context.pix_fmt,
            "size": (video.height, video.width),
            "duration": float(video.duration * video.time_base),
        }


def annotate(source, target, marks=None, **options):
    marks = [mark(i, f.pts_s) for i, f in enumerate(frames_of(source))] if marks is None else marks
    assert annotate_video(str(source), marks, target, **{"threshold": 0.4, **options})
    return frames_of(target)


def test_the_faces_of_a_video_without_times_spread_over_its_timeline(tmp_path):
    """A raw stream: its frames are counted, and each column of the bar shows those of its time."""
    source = clip(tmp_path / "a.h264", audio=None)
    assert {frame.pts_s for frame in frames_of(source)} == {None}
    few = [mark(i, None, degree=0.9, decision="reject") for i in range(12)]
    last = annotate(source, tmp_path / "o.mp4", few)[0].image
    bar = last[-4].astype(int)
    w = len(bar)
    early, late = bar[w // 8 : 3 * w // 8], bar[5 * w // 8 : 7 * w // 8]
    ground = annotate(source, tmp_path / "p.mp4", [])[0].image[-4].astype(int)
    assert np.abs(early - ground[w // 8 : 3 * w // 8]).max() > 30
    assert np.abs(late - ground[5 * w // 8 : 7 * w // 8]).max() > 30


# 0.04 s, then pauses and a burst: what a telephone records
UNEVEN = [0, 4, 8, 12, 40, 41, 42, 43, 60, 64, 68, 72, 150, 151, 155]


@pytest.mark.parametrize("suffix", [".mp4", ".mkv", ".mov"])
@pytest.mark.parametrize("ticks", [None, UNEVEN])
def test_same_frames_times_and_length(tmp_path, suffix, ticks):
    source = clip(tmp_path / f"a{suffix}", ticks)
    before = frames_of(source)
    after = annotate(source, tmp_path / "o.mp4")
    assert [index_of(f.image) for f in after] == [index_of(f.image) for f in before]
    np.testing.assert_allclose([f.pts_s for f in after], [f.pts_s for f in before], atol=1e-5)
    facts = facts_of(tmp_path / "o.mp4")
    assert facts["size"] == SHAPE
    assert (facts["codec"], facts["pix_fmt"]) == ("h264", "yuv420p")
    if suffix != ".mkv":  # Matroska does not say how long a last frame lasts
        assert facts["duration"] == pytest.approx(facts_of(source)["duration"], abs=0.002)
    assert not list(tmp_path.glob("*.tmp"))


def test_the_index_stands_at_the_front(tmp_path):
    source = clip(tmp_path / "a.mp4")
    annotate(source, tmp_path / "o.mp4")
    data = (tmp_path / "o.mp4").read_bytes()
    assert 0 < data.find(b"moov") < data.find(b"mdat")


@pytest.mark.parametrize(
    ("audio", "suffix", "becomes"),
    [("aac", ".mp4", "aac"), ("libmp3lame", ".mkv", "mp3float"), ("pcm_s16le", ".mkv", "aac")],
)
def test_sound_is_kept(tmp_path, audio, suffix, becomes):
    source = clip(tmp_path / f"a{suffix}", audio=audio, n=40)
    annotate(source, tmp_path / "o.mp4")
    before, start, _ = sound_of(source)
    after, begins, codec = sound_of(tmp_path / "o.mp4")
    assert codec == becomes
    assert begins == pytest.approx(start, abs=0.07)  # an encoder's run-in
    if codec == "aac" and audio == "aac":
        np.testing.assert_array_equal(after, before)
    n = min(len(before), len(after))
    assert abs(len(before) - len(after)) < 0.15 * RATE
    for second in (0, 1):  # loudness, second by second
        part = slice(int((second + 0.2) * RATE), min(n, int((second + 0.5) * RATE)))
        expected = np.abs(before[part]).mean()
        assert np.abs(after[part]).mean() == pytest.approx(expected, rel=0.1)


@pytest.mark.parametrize("rate", [8_000, 11_025])
def test_slow_mp3_becomes_aac(tmp_path, rate):
    """No MP4 file may hold it, so that it cannot be copied."""
    source = clip(tmp_path / "a.mkv", audio="libmp3lame", rate=rate, n=30)
    annotate(source, tmp_path / "o.mp4")
    assert sound_of(tmp_path / "o.mp4")[2] == "aac"
    assert louder_at(heard(tmp_path / "o.mp4"), 0.5, 1.2) == pytest.approx(1, abs=0.1)


def test_sound_that_begins_a_little_late_stays_where_it_was(tmp_path):
    source = clip(tmp_path / "a.mkv", audio="pcm_s16le", n=30, late_s=0.045)
    annotate(source, tmp_path / "o.mp4")
    once = louder_at(heard(source), 0.5, 1.2)
    assert once == pytest.approx(1.045, abs=0.002)
    assert louder_at(heard(tmp_path / "o.mp4"), 0.5, 1.2) == pytest.approx(once, abs=0.003)


@pytest.mark.parametrize(
    ("audio", "layouts"), [("mp2", ("stereo", "mono")), ("ac3", ("stereo", "5.1"))]
)
def test_sound_may_change_its_channels(tmp_path, audio, layouts):
    """As in recordings of broadcasts: stereo before a film, 5.1 in it."""
    parts = [
        clip(tmp_path / f"{i}.ts", audio=audio, n=40, start=160 * i, rate=48_000, layout=layout)
        for i, layout in enumerate(layouts)
    ]
    source = tmp_path / "a.ts"
    source.write_bytes(b"".join(part.read_bytes() for part in parts))
    after = annotate(source, tmp_path / "o.mp4")
    assert [index_of(f.image) for f in after] == [*range(40)] * 2
    marks = [mark(i, f.pts_s) for i, f in enumerate(frames_of(source))]
    assert cut_video(str(source), marks, tmp_path / "c.mp4", pad_s=0)
    for name in ("o.mp4", "c.mp4"):
        sound = np.abs(heard(tmp_path / name))
        for begin in (0.2, 1.9):  # both parts begin with the quiet second
            assert sound[int(begin * RATE) : int((begin + 0.6) * RATE)].mean() > 0.02


def test_what_begins_late_begins_at_zero(tmp_path):
    source = clip(tmp_path / "a.ts", start=100 * 60)
    before = frames_of(source)
    assert before[0].pts_s > 50
    after = annotate(source, tmp_path / "o.mp4")
    times = np.array([f.pts_s for f in before]) - before[0].pts_s
    np.testing.assert_allclose([f.pts_s for f in after], times + after[0].pts_s, atol=1e-4)
    assert after[0].pts_s < 0.2


@pytest.mark.parametrize("audio", [None, "aac"])
@pytest.mark.parametrize("before_s", [0.8, 10])
def test_what_begins_before_zero_begins_at_zero(tmp_path, before_s, audio):
    """The 33-bit clock of a transport stream begins anew in this one, or soon behind it."""
    tick, ticks = Fraction(1, 90_000), [3600 * i for i in range(40)]
    start = (1 << 33) - round(before_s / tick)
    source = clip(tmp_path / "a.ts", ticks, tick=tick, start=start, audio=audio)
    assert frames_of(source)[0].pts_s == pytest.approx(-before_s, abs=0.001)
    after = annotate(source, tmp_path / "o.mp4")
    times = [f.pts_s for f in after]
    np.testing.assert_allclose(times, 0.04 * np.arange(40) + times[0], atol=1e-4)
    assert times[0] < 0.2
    assert facts_of(tmp_path / "o.mp4")["duration"] == pytest.approx(1.6, abs=0.002)
    if audio:
        assert sound_of(tmp_path / "o.mp4")[1] == pytest.approx(times[0], abs=0.07)


@pytest.mark.parametrize(
    ("suffix", "codec", "audio"),
    [
        (".mkv", "libx264", None), (".mkv", "libx264", "aac"), (".nut", "libx264", None),
        (".wmv", "wmv2", None),
    ],
)  # fmt: skip
def test_what_begins_late_lasts_no_longer(tmp_path, suffix, codec, audio):
    """Formats whose duration is the time of their end."""
    path, size = tmp_path / f"a{suffix}", (240, 320)
    source = clip(path, start=3000, size=size, audio=audio, last=4, codec=codec)
    marks = [mark(i, f.pts_s) for i, f in enumerate(frames_of(source))]
    assert (len(marks), marks[0].pts_s) == (12, 30.0)
    # The end is that of the sound, or the time of the last frame.
    assert estimate_frames(str(source)) == pytest.approx(12, abs=2)
    after = annotate(source, tmp_path / "o.mp4", marks)
    assert cut_video(str(source), marks, tmp_path / "c.mp4")
    for name in ("o.mp4", "c.mp4"):
        assert facts_of(tmp_path / name)["duration"] == pytest.approx(0.48, abs=0.002)
    assert after[-1].image[-10].astype(int).sum(-1).argmax() > 250  # where one is, of 320


def joined(path, *, audio, n=40):
    """Two recordings end to end: the times begin anew with the second."""
    once = clip(path.with_name("once.ts"), audio=audio, n=n)
    path.write_bytes(once.read_bytes() * 2)
    return path


def heard(path):
    """The sound of a file, each sample at its time."""
    with av.open(str(path)) as container:
        frames = [f for packet in container.demux(audio=0) for f in packet.decode()]
    resampler = av.AudioResampler("fltp", "mono", RATE)
    pieces = [piece for frame in frames for piece in resampler.resample(frame)]
    out = np.zeros(round(pieces[-1].time * RATE) + 10_000, np.float32)
    for piece in pieces:
        at = round(piece.time * RATE)
        samples = piece.to_ndarray()[0]
        out[at : at + len(samples)] = samples
    return out


def louder_at(sound, from_s, to_s):
    """When the sound goes from an amplitude of 0.1 to one of 0.3, within a stretch."""
    part = np.abs(sound[int(from_s * RATE) : int(to_s * RATE)])
    return from_s + int(np.argmax(part > 0.2)) / RATE


@pytest.mark.parametrize("audio", [None, "aac", "mp2"])
def test_what_begins_anew_goes_on(tmp_path, audio):
    """Each frame and the sound stay where they were in their part, one part after the other."""
    source = joined(tmp_path / "a.ts", audio=audio)
    before = frames_of(source)
    assert before[40].pts_s == before[0].pts_s
    after = annotate(source, tmp_path / "o.mp4")
    assert [index_of(f.image) for f in after] == [*range(40)] * 2
    times = before[0].pts_s + np.arange(80) * 0.04
    np.testing.assert_allclose([f.pts_s for f in after], times, atol=1e-4)
    assert facts_of(tmp_path / "o.mp4")["duration"] == pytest.approx(3.2 + times[0], abs=0.09)
    if audio is not None:
        sound, part = heard(tmp_path / "o.mp4"), heard(tmp_path / "once.ts")
        once = louder_at(part, 0.5, 1.5)
        assert once == pytest.approx(before[25].pts_s, abs=0.1)  # an encoder's run-in
        near = 0.003 if audio == "aac" else 0.05  # what is encoded anew joins smaller gaps
        assert louder_at(sound, 0.5, 1.5) == pytest.approx(once, abs=near)
        assert louder_at(sound, 2.1, 3.1) == pytest.approx(once + 1.6, abs=near)


@pytest.fixture
def join(tmp_path):
    """Join recordings with sound (s) and without (-) end to end."""

    def join_parts(parts, audio):
        files = {
            "s": clip(tmp_path / "once.ts", audio=audio, n=40),
            "-": clip(tmp_path / "silent.ts", audio=None, n=40),
        }
        (tmp_path / "a.ts").write_bytes(b"".join(files[kind].read_bytes() for kind in parts))
        return tmp_path / "a.ts"

    return join_parts


@pytest.mark.parametrize("audio", ["aac", "mp2"])
@pytest.mark.parametrize("parts", ["s-s", "s--ss"])
def test_the_sound_of_what_was_joined_stays_with_its_part(join, tmp_path, audio, parts):
    source = join(parts, audio)
    once = louder_at(heard(tmp_path / "once.ts"), 0.5, 1.5)
    annotate(source, tmp_path / "o.mp4")
    sound = heard(tmp_path / "o.mp4")
    for number, kind in enumerate(parts):
        begin = 1.6 * number
        if kind == "s":
            found = louder_at(sound, begin + 0.5, begin + 1.5)
            assert found == pytest.approx(begin + once, abs=0.06)
        else:
            middle = sound[int((begin + 0.4) * RATE) : int((begin + 1.4) * RATE)]
            assert np.abs(middle).mean() < 0.01


@pytest.mark.parametrize("audio", ["aac", "mp2"])
def test_sound_that_begins_behind_a_joint_is_left_out(join, tmp_path, audio):
    """FFmpeg tells nothing of it that a file could be begun with; the pictures are drawn."""
    source = join("-s", audio)
    after = annotate(source, tmp_path / "o.mp4")
    assert [index_of(f.image) for f in after] == [*range(40)] * 2
    marks = [mark(i, f.pts_s) for i, f in enumerate(frames_of(source)) if i >= 70]
    assert cut_video(str(source), marks, tmp_path / "c.mp4", pad_s=0)
    assert [index_of(f.image) for f in frames_of(tmp_path / "c.mp4")] == [*range(30, 40)]


def test_the_timeline_of_what_begins_anew_holds_all_of_it(tmp_path):
    source = joined(tmp_path / "a.ts", audio=None)
    marks = [mark(i, f.pts_s, degree=0.95, decision="reject", reason="blur")
             for i, f in enumerate(frames_of(source)) if i >= 60]  # fmt: skip
    bar = annotate(source, tmp_path / "o.mp4", marks)[0].image[-4].astype(int)
    red = bar[:, 2] - bar[:, 1] > 60
    assert red[100:124].all()
    assert not red[10:90].any()


@pytest.mark.parametrize("audio", [None, "aac"])
def test_a_cut_of_what_begins_anew(tmp_path, audio):
    source = joined(tmp_path / "a.ts", audio=audio)
    times = [f.pts_s for f in frames_of(source)]
    # A loud moment, the joint, a quiet one that is later by its time alone, a loud one.
    marks = [mark(i, times[i]) for i in (30, 40, 55, 72)]
    assert cut_video(str(source), marks, tmp_path / "o.mp4", pad_s=0.16)
    after = frames_of(tmp_path / "o.mp4")
    wanted = [*range(26, 35), *range(36, 45), *range(51, 60), *range(68, 77)]
    assert [index_of(f.image) for f in after] == [i % 40 for i in wanted]
    np.testing.assert_allclose([f.pts_s for f in after], np.arange(36) * 0.04, atol=1e-4)
    if audio is not None:
        levels = np.abs(heard(tmp_path / "o.mp4"))
        for part, level in ((0, 0.3), (2, 0.1), (3, 0.3)):
            begin = part * 9 * 0.04
            there = levels[int((begin + 0.12) * RATE) : int((begin + 0.3) * RATE)]
            assert there.mean() == pytest.approx(level * 2 / np.pi, rel=0.1)


def test_one_wrong_time_begins_nothing(tmp_path):
    """Frames 20 and 30 of a video whose other times rise say that they are the first."""
    ticks = [4 * i + 200 for i in range(40)]
    source = clip(tmp_path / "a.mkv", ticks, audio=None)
    frames = [replace(f, pts_s=0.0) if f.index in (20, 30) else f for f in frames_of(source)]
    assert joints._joints(frames, 0.04) == ()


def test_one_wrong_time_cuts_nothing_off(tmp_path):
    """The time of frame 20 says that it is the first."""
    source = clip(tmp_path / "a.mkv", n=40, audio=None)
    marks = [mark(i, 0.0 if i == 20 else f.pts_s) for i, f in enumerate(frames_of(source))]
    assert cut_video(str(source), marks[10:30], tmp_path / "o.mp4", pad_s=0.04)
    assert [index_of(f.image) for f in frames_of(tmp_path / "o.mp4")] == [*range(9, 31)]


def test_odd_sizes_get_a_last_row_and_column(tmp_path):
    source = clip(tmp_path / "a.mkv", size=(95, 127), n=5)
    assert frames_of(source)[0].size == (95, 127)
    after = annotate(source, tmp_path / "o.mp4")
    assert after[0].size == (96, 128)
    assert [index_of(f.image) for f in after] == list(range(5))


@pytest.mark.parametrize(("before", "last"), [(800, 4), (4, 300)])
@pytest.mark.parametrize("audio", [None, "aac"])
def test_the_last_frame_lasts_as_long_as_in_the_source(tmp_path, before, last, audio):
    """In a video of variable rate the frame before it says nothing about that."""
    ticks = [0, 4, 8, 8 + before]
    source = clip(tmp_path / "a.mp4", ticks, audio=audio, last=last)
    assert facts_of(source)["duration"] == pytest.approx((ticks[-1] + last) / 100)
    annotate(source, tmp_path / "o.mp4")
    after = facts_of(tmp_path / "o.mp4")["duration"]
    assert after == pytest.approx((ticks[-1] + last) / 100, abs=0.002)


@pytest.mark.parametrize("turned", [False, True])
def test_pixels_become_square(tmp_path, turned):
    source = clip(tmp_path / "a.mov", n=4, aspect=Fraction(64, 45))
    if turned:
        turn(source)
    annotate(source, tmp_path / "o.mp4")
    assert cut_video(str(source), [mark(1, 0.04)], tmp_path / "c.mp4")
    wide = round(SHAPE[1] * 64 / 45 / 2) * 2
    for name in ("o.mp4", "c.mp4"):
        with av.open(str(tmp_path / name)) as container:
            stream = container.streams.video[0]
            assert stream.sample_aspect_ratio == 1
            assert (stream.width, stream.height) == (
                (SHAPE[0], wide) if turned else (wide, SHAPE[0])
            )


def turn(source):
    """Write a rotation by 90 degrees into a file."""
    data = source.read_bytes()
    # The track's display matrix: 90 degrees. Identity is 1 0 0 0 1 0 0 0 1 in fixed point.
    one, minus = (65536).to_bytes(4, "big"), (-65536 & 0xFFFFFFFF).to_bytes(4, "big")
    zero, unit = bytes(4), (1 << 30).to_bytes(4, "big")
    identity = one + zero * 3 + one + zero * 3 + unit
    at = data.index(identity, data.index(b"tkhd"))
    turned = zero + one + zero + minus + zero * 4 + unit
    source.write_bytes(data[:at] + turned + data[at + len(turned) :])


def test_rotation_looks_the_same(tmp_path):
    source = clip(tmp_path / "a.mov", n=4)
    turn(source)
    before = frames_of(source)
    assert before[0].size == (128, 96)
    after = annotate(source, tmp_path / "o.mp4")
    assert after[0].size == (128, 96)
    assert [index_of(f.image) for f in after] == list(range(4))


def test_faces_are_drawn_where_they_are_and_colours_are_true(tmp_path):
    source = clip(tmp_path / "a.mp4", n=12, size=(240, 320))
    times = [f.pts_s for f in frames_of(source)]
    marks = [
        mark(0, times[0]), mark(3, times[3], degree=0.9, decision="reject", reason="blur"),
        mark(6, times[6], decision="review", reason="blur"),
    ]  # fmt: skip
    for every, shown in ((1, {0: "keep", 3: "reject", 6: "review"}),
                         (3, {**dict.fromkeys((0, 1, 2), "keep"), 3: "reject", 5: "reject",
                              8: "review"})):  # fmt: skip
        after = annotate(source, tmp_path / "o.mp4", marks, every=every)
        for i, frame in enumerate(after):
            edge = frame.image[60, 60].astype(int)  # on the box's left side
            grey = np.ptp(edge) < 25
            if i in shown:
                assert np.abs(edge - COLOURS[shown[i]]).max() < 80, (i, edge)
            elif every == 1:
                assert grey, (i, edge)


def test_grey_stays_grey(tmp_path):
    levels = range(0, 256, 16)
    clock = encode.Clock(Fraction(1, 25), 0.04, 0.0)
    with encode.VideoWriter(tmp_path / "o.mp4", (64, 64), clock) as writer:
        for i, level in enumerate(levels):
            writer.write(np.full((64, 64, 3), level, np.uint8), i * 0.04, 0.04)
    for frame, level in zip(frames_of(tmp_path / "o.mp4"), levels, strict=True):
        assert np.abs(frame.image.reshape(-1, 3).mean(0) - level).max() <= 1.5


def test_the_timeline_shows_degrees_and_where_one_is(tmp_path):
    source = clip(tmp_path / "a.mp4", n=40, size=(240, 320), audio=None)
    times = [f.pts_s for f in frames_of(source)]
    marks = [
        mark(i, t, degree=0.1) if i < 20
        else mark(i, t, degree=0.95, decision="reject", reason="blur")
        for i, t in enumerate(times)
    ]  # fmt: skip
    after = annotate(source, tmp_path / "o.mp4", marks)
    bar = after[35].image[-14:].astype(int)
    redness = bar[..., 2] - bar[..., 1]
    # Left half: low and green, right half: tall and red.
    assert redness[3, 165:275].min() > 60 > 20 > np.abs(redness[3, :150]).max()
    assert (bar[-1, 5:150, 1] - bar[-1, 5:150, 2]).min() > 30
    for i in (5, 35):
        column = int(after[i].image[-10].astype(int).sum(-1).argmax())
        assert column == pytest.approx(times[i] / 1.6 * 320, abs=3)


def test_a_cut_holds_the_kept_stretches(tmp_path):
    source = clip(tmp_path / "a.mkv", n=40, audio="pcm_s16le")
    times = [f.pts_s for f in frames_of(source)]
    kept = {5, 6, 7, 30}
    marks = [
        mark(i, t) if i in kept else mark(i, t, decision="reject", reason="blur")
        for i, t in enumerate(times)
    ]
    assert cut_video(str(source), marks, tmp_path / "o.mp4", pad_s=0.08)
    after = frames_of(tmp_path / "o.mp4")
    wanted = [*range(3, 10), *range(28, 33)]
    assert [index_of(f.image) for f in after] == wanted
    np.testing.assert_allclose([f.pts_s for f in after], np.arange(12) * 0.04, atol=1e-4)
    samples, _, codec = sound_of(tmp_path / "o.mp4")
    assert codec == "aac"
    assert len(samples) / RATE == pytest.approx(12 * 0.04, abs=0.13)
    # The first stretch is from the first, quiet second; the other from the louder one.
    quiet = np.abs(samples[int(0.08 * RATE) : int(0.2 * RATE)]).mean()
    loud = np.abs(samples[int(0.34 * RATE) : int(0.45 * RATE)]).mean()
    assert quiet == pytest.approx(0.1 * 2 / np.pi, rel=0.1)
    assert loud == pytest.approx(0.3 * 2 / np.pi, rel=0.1)


@pytest.mark.parametrize("n", [1000, 1024])
def test_the_sound_of_a_cut_is_whole_where_times_are_rounded(tmp_path, n):
    """Matroska rounds times to milliseconds; neither gaps nor overlaps may come of it."""
    rate = 22_050
    t = np.arange(40 * n) / rate
    wave = (0.5 * np.sin(2 * np.pi * (300 * t + 200 * t**2))).astype(np.float32)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        video = container.add_stream("libx264", rate=Fraction(30_000, 1001), options=FAST)
        video.height, video.width = SHAPE
        sound = container.add_stream("pcm_s16le", rate=rate, layout="mono")
        for _ in range(45):
            container.mux(video.encode(av.VideoFrame(SHAPE[1], SHAPE[0], "yuv420p")))
        container.mux(video.encode(None))
        for begin in range(0, len(wave), n):
            pcm = (wave[None, begin : begin + n] * 32767).astype(np.int16)
            piece = av.AudioFrame.from_ndarray(pcm, format="s16", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = rate, begin, Fraction(1, rate)
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    times = [f.pts_s for f in frames_of(tmp_path / "a.mkv")]
    marks = [mark(i, times[i]) for i in (*range(10, 18), *range(30, 42))]
    assert cut_video(str(tmp_path / "a.mkv"), marks, tmp_path / "o.mp4", pad_s=0)
    with av.open(str(tmp_path / "o.mp4")) as container:
        cut = np.concatenate([f.to_ndarray()[0] for f in container.decode(audio=0)])
    at_s = 0.0
    for first, behind in ((10, 18), (30, 42)):
        from_s, length_s = times[first], times[behind] - times[first]
        start, source = round(at_s * rate), round(from_s * rate)
        inner = slice(600, round(length_s * rate) - 600)  # AAC smears the seams
        # Twice the millisecond by which all times of the source may be wrong.
        apart = [
            np.square(cut[start:][inner] - wave[source + shift :][inner]).mean() ** 0.5
            for shift in range(-44, 45)
        ]
        assert min(apart) < 0.01
        at_s += length_s


def test_a_cut_of_uneven_times(tmp_path):
    source = clip(tmp_path / "a.mkv", UNEVEN, audio=None)
    marks = [mark(i, at / 100) for i, at in enumerate(UNEVEN) if i in (4, 5, 6, 7, 12)]
    assert cut_video(str(source), marks, tmp_path / "o.mp4", pad_s=0)
    after = frames_of(tmp_path / "o.mp4")
    assert [index_of(f.image) for f in after] == [4, 5, 6, 7, 12]
    # 40 41 42 43 (until 60), then 150
    np.testing.assert_allclose([f.pts_s for f in after], [0, 0.01, 0.02, 0.03, 0.20], atol=1e-3)


def test_pads_that_touch_make_one_stretch(tmp_path):
    source = clip(tmp_path / "a.mp4", n=30, audio=None)
    marks = [mark(5, 0.2), mark(15, 0.6)]
    assert cut_video(str(source), marks, tmp_path / "o.mp4", pad_s=0.2)
    assert [index_of(f.image) for f in frames_of(tmp_path / "o.mp4")] == list(range(21))
    assert cut_video(str(source), marks, tmp_path / "o.mp4", pad_s=99)
    assert len(frames_of(tmp_path / "o.mp4")) == 30


def test_nothing_to_cut_nothing_written(tmp_path):
    source = clip(tmp_path / "a.mp4", n=5, audio=None)
    target = tmp_path / "o.mp4"
    assert not cut_video(str(source), [mark(1, 0.04, decision="reject", reason="blur")], target)
    assert not target.exists()


def test_what_stays_around_a_face_is_a_time(tmp_path):
    with pytest.raises(ConfigError, match="cut-pad must be a time in seconds, got -1"):
        Outputs(tmp_path, cut_pad_s=-1)


def test_the_source_is_never_overwritten(tmp_path):
    source = clip(tmp_path / "a.mp4", n=5, audio=None)
    before = hashlib.sha256(source.read_bytes()).digest()
    for function in (cut_video, annotate_video):
        options = {"threshold": 0.4} if function is annotate_video else {}
        with pytest.raises(ConfigError, match="is the source itself"):
            function(str(source), [mark(1, 0.04)], tmp_path / "." / "a.mp4", **options)
    assert hashlib.sha256(source.read_bytes()).digest() == before


def test_an_error_leaves_no_half_of_a_file(tmp_path):
    source = clip(tmp_path / "a.mp4", n=20, audio=None)

    def marks():
        yield mark(0, 0.0)
        raise KeyboardInterrupt

    class Broken:
        def __init__(self):
            self.walks = 0

        def __iter__(self):
            self.walks += 1
            return iter([mark(0, 0.0)]) if self.walks == 1 else marks()

    with pytest.raises(KeyboardInterrupt):
        annotate_video(str(source), Broken(), tmp_path / "o.mp4", threshold=0.4)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]


def test_a_video_that_cannot_be_read_gives_none(tmp_path):
    source = clip(tmp_path / "a.mp4", n=5, audio=None)
    data = source.read_bytes()
    source.write_bytes(data[: data.index(b"mdat") + 4] + bytes(len(data)))
    with pytest.raises(av.FFmpegError):
        annotate_video(str(source), [], tmp_path / "o.mp4", threshold=0.4)


def test_encoders_are_chosen_by_what_there_is(monkeypatch):
    def only(*names):
        def codec(name, mode):
            if name not in names:
                raise ValueError(name)

        monkeypatch.setattr(encode.av, "Codec", codec)
        encode.video_encoder.cache_clear()
        return encode.video_encoder

    try:
        assert only("libx264", "mpeg4")() == "libx264"
        assert only("mpeg4", "h264_mf")() == "h264_mf"
        assert only("mpeg4")() == "mpeg4"
        with pytest.raises(EnvironmentLackError, match=r"no H\.264 or MPEG-4 encoder"):
            only()()
    finally:
        encode.video_encoder.cache_clear()


def test_without_x264(tmp_path, monkeypatch):
    monkeypatch.setattr(encode, "_ENCODERS", ("mpeg4",))
    encode.video_encoder.cache_clear()
    try:
        source = clip(tmp_path / "a.mp4", n=8)
        after = annotate(source, tmp_path / "o.mp4")
        assert len(after) == 8
        assert facts_of(tmp_path / "o.mp4")["codec"] == "mpeg4"
    finally:
        encode.video_encoder.cache_clear()


def test_pictures(tmp_path):
    image = np.full((240, 320, 3), 90, np.uint8)
    kept = image.copy()
    target = tmp_path / "new" / "a.jpg"
    annotate_image(image, [mark(0, None, track=None)], target)
    np.testing.assert_array_equal(image, kept)
    drawn = cv2.imread(str(target))
    expected = image.copy()
    draw_faces(expected, [mark(0, None, track=None)])
    assert np.abs(drawn.astype(int) - expected).mean() < 2
    assert drawn.shape == image.shape


def test_a_box_beyond_all_bounds_is_drawn_as_far_as_it_is_seen():
    near, far = np.zeros((2, 60, 200, 3), np.uint8)
    box, kps = (10.0, -900.0, 900.0, 50.0), np.full((5, 2), 900, np.float32)
    draw_faces(near, [replace(mark(0, None), box=box, kps=kps)])
    box = (10.0, -1e25, 1e25, 50.0)
    draw_faces(far, [replace(mark(0, None), box=box, kps=kps * np.float32(1e25))])
    assert near.any()
    np.testing.assert_array_equal(far, near)


def test_what_no_encoder_takes_is_an_error_of_ours(tmp_path, capfd):
    for size, fits in (((2, 65_500), True), ((2, 65_501), False), ((65_501, 2), False)):
        image = np.zeros((*size, 3), np.uint8)
        if fits:
            annotate_image(image, [], tmp_path / "a.jpg")
            assert (tmp_path / "a.jpg").is_file()
        else:
            with pytest.raises(InputError, match=r"cannot write b\.jpg: JPEG holds no picture"):
                annotate_image(image, [], tmp_path / "b.jpg")
    clock = encode.Clock(Fraction(1, 25), 0.04, 0.0)
    with (
        pytest.raises(InputError, match=r"cannot write b\.mp4: \w+ cannot .* of 20000x8 pixels"),
        encode.VideoWriter(tmp_path / "b.mp4", (8, 20_000), clock) as writer,
    ):
        writer.write(np.zeros((8, 20_000, 3), np.uint8), 0.0, 0.04)
    assert [path.name for path in tmp_path.iterdir()] == ["a.jpg"]
    assert "OpenCV" not in capfd.readouterr().err


def test_names_are_safe_everywhere():
    name = output_name("annotated", "/x/Große 写真: <b>\udcff?.mov", ".mp4")
    assert re.fullmatch(r"annotated/Große_写真_b-[0-9a-f]{16}\.mp4", name)
    assert output_name("cut", "..", ".mp4").startswith("cut/video-")
    assert output_name("cut", "a/x.mp4", ".mp4") != output_name("cut", "b/x.mp4", ".mp4")
