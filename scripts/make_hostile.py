"""Make every hostile input of docs/hostile-input.md; nothing in it comes from anybody else.

    python scripts/make_hostile.py FOLDER     # one folder per case, with its command in `command`
    python scripts/make_hostile.py --list

tests/hostile runs the command line on each case, with a limit of time and memory, and compares
what it does with the table in docs/hostile-input.md.
"""

from __future__ import annotations

import argparse
import functools
import json
import os
import shlex
import struct
import sys
import wave
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
from PIL import Image

SIZE = (96, 128)  # (h, w) of videos
FRAMES = 24

Maker = Callable[[Path], list[str]]


@dataclass(frozen=True)
class Case:
    """One hostile input.

    Attributes:
        name: Its row in the table.
        make: Writes its files into an empty folder; gives the arguments of `blurgate`, to be run
            there. Raises `CannotMakeError` where the system cannot have such a thing.
    """

    name: str
    make: Maker


class CannotMakeError(Exception):
    """This system or this PyAV cannot make the case."""


CASES: dict[str, Case] = {}


def case(name: str) -> Callable[[Maker], Maker]:
    """Register a case."""

    def register(make: Maker) -> Maker:
        if name in CASES:
            raise ValueError(name)
        CASES[name] = Case(name, make)
        return make

    return register


def filtering(*sources: str) -> list[str]:
    """The command on some sources, with a detector and a scorer that need no weights."""
    return [
        "filter", "--detector", "marker", "--model", "laplacian", "--threshold", "0.4",
        "--det-size", "128", "--workers", "2", "--out", "out", "--", *sources,
    ]  # fmt: skip


# Videos


def picture(index: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    """A frame with a bright box that moves; BGR."""
    h, w = size
    image = np.full((h, w, 3), 60, np.uint8)
    x = 4 + index % max(1, w - 44)
    image[10:50, x : x + 40] = (40, 200, 220)
    image[20:40, x + 8 : x + 32] = (200, 40, (index * 9) % 256)
    return image


def encode(
    path: Path,
    codec: str,
    *,
    options: dict[str, str] | None = None,
    count: int = FRAMES,
    pix_fmt: str = "yuv420p",
    ticks: list[int] | None = None,
    file_format: str | None = None,
    size: tuple[int, int] = SIZE,
) -> Path:
    """Write a video."""
    if codec not in av.codecs_available:
        raise CannotMakeError(f"this PyAV has no encoder {codec}")
    with av.open(str(path), "w", format=file_format) as container:
        stream: Any = container.add_stream(codec, rate=25, options=options or {})
        stream.height, stream.width = size
        stream.pix_fmt = pix_fmt
        if codec == "libx264":
            stream.codec_context.thread_count = 1
        for index in range(count):
            frame = av.VideoFrame.from_ndarray(picture(index, size), format="bgr24")
            frame = frame.reformat(format=pix_fmt)
            frame.pts = index if ticks is None else ticks[index]
            frame.time_base = Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    ordinary_priority()
    return path


def ordinary_priority() -> None:
    """Undo what SVT-AV1 does as root: a real-time thread, whose children are real-time too."""
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


_X264 = {"preset": "ultrafast", "g": "8"}
_X265 = {"preset": "ultrafast", "x265-params": "log-level=none:keyint=8:pools=none"}
# Not "realtime": it adapts to how busy the machine is, and the same case would not come twice.
_VPX = {"deadline": "good", "cpu-used": "5", "g": "8", "auto-alt-ref": "0", "lag-in-frames": "0"}
FORMATS: dict[str, tuple[str, str, dict[str, str], str]] = {
    "h264 in mp4": ("libx264", ".mp4", _X264, "yuv420p"),
    "h264 in mov": ("libx264", ".mov", _X264, "yuv420p"),
    "h264 in mkv": ("libx264", ".mkv", _X264, "yuv420p"),
    "h264 in avi": ("libx264", ".avi", {**_X264, "bf": "0"}, "yuv420p"),
    "h264 in ts": ("libx264", ".ts", _X264, "yuv420p"),
    "h264 in flv": ("libx264", ".flv", _X264, "yuv420p"),
    "h264 in 3gp": ("libx264", ".3gp", _X264, "yuv420p"),
    "h264 alone": ("libx264", ".h264", _X264, "yuv420p"),
    "hevc in mp4": ("libx265", ".mp4", _X265, "yuv420p"),
    "hevc in mkv": ("libx265", ".mkv", _X265, "yuv420p"),
    "vp8 in webm": ("libvpx", ".webm", _VPX, "yuv420p"),
    "vp9 in webm": ("libvpx-vp9", ".webm", _VPX, "yuv420p"),
    "av1 in mp4": ("libsvtav1", ".mp4", {"preset": "12"}, "yuv420p"),
    "mjpeg in avi": ("mjpeg", ".avi", {}, "yuvj420p"),
    "mjpeg in mov": ("mjpeg", ".mov", {}, "yuvj420p"),
    "mpeg4 in avi": ("mpeg4", ".avi", {"bf": "0", "g": "8"}, "yuv420p"),
    "mpeg2 in mpg": ("mpeg2video", ".mpg", {"g": "8"}, "yuv420p"),
    "wmv2 in asf": ("wmv2", ".wmv", {"g": "8"}, "yuv420p"),
    "ffv1 in mkv": ("ffv1", ".mkv", {}, "yuv420p"),
    "ffv1 in nut": ("ffv1", ".nut", {}, "yuv420p"),
    "prores in mov": ("prores_ks", ".mov", {}, "yuv422p10le"),
    "raw in y4m": ("rawvideo", ".y4m", {}, "yuv420p"),
}
"""What this PyAV can write: name -> encoder, suffix, its options, pixel format."""


def sound(name: str, folder: Path) -> Path:
    """A sound video of one of the formats."""
    codec, suffix, options, pix_fmt = FORMATS[name]
    file_format = "yuv4mpegpipe" if suffix == ".y4m" else None
    if suffix == ".y4m":
        codec = "wrapped_avframe" if "wrapped_avframe" in av.codecs_available else codec
    return encode(
        folder / f"a{suffix}", codec, options=options, pix_fmt=pix_fmt, file_format=file_format
    )


def _whole(name: str, folder: Path) -> list[str]:
    return filtering(sound(name, folder).name)


def _truncated(name: str, folder: Path) -> list[str]:
    path = sound(name, folder)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 6 // 10])
    return filtering(path.name)


def _flipped(name: str, folder: Path) -> list[str]:
    """Flip one bit in every 400 bytes, apart from the first tenth."""
    path = sound(name, folder)
    data = bytearray(path.read_bytes())
    rng = np.random.default_rng(7)
    start = len(data) // 10
    for place in rng.integers(start, len(data), max(8, len(data) // 400)).tolist():
        data[place] ^= 1 << int(rng.integers(8))
    path.write_bytes(bytes(data))
    return filtering(path.name)


def _header_only(name: str, folder: Path) -> list[str]:
    path = sound(name, folder)
    path.write_bytes(path.read_bytes()[:64])
    return filtering(path.name)


for _name in FORMATS:
    case(f"whole: {_name}")(functools.partial(_whole, _name))
    case(f"truncated: {_name}")(functools.partial(_truncated, _name))
    case(f"bit flips: {_name}")(functools.partial(_flipped, _name))
    case(f"header only: {_name}")(functools.partial(_header_only, _name))


@case("video of no frames")
def _no_frames(folder: Path) -> list[str]:
    with av.open(str(folder / "a.avi"), "w") as container:
        stream: Any = container.add_stream("mpeg4", rate=25)
        stream.width, stream.height = 64, 48
        container.start_encoding()
    return filtering("a.avi")


@case("video with the ending of a picture")
def _video_as_picture(folder: Path) -> list[str]:
    sound("h264 in mp4", folder).rename(folder / "a.jpg")
    return filtering("a.jpg")


@case("picture with the ending of a video")
def _picture_as_video(folder: Path) -> list[str]:
    Image.fromarray(picture(0)).save(folder / "a.png")
    (folder / "a.png").rename(folder / "a.mp4")
    return filtering("a.mp4")


@case("video with the ending of another container")
def _wrong_container(folder: Path) -> list[str]:
    sound("h264 in mkv", folder).rename(folder / "a.mp4")
    return filtering("a.mp4")


@case("text with the ending of a video")
def _text_as_video(folder: Path) -> list[str]:
    (folder / "a.mp4").write_text("what was meant to be here\n" * 200)
    return filtering("a.mp4")


@case("script with the ending of a video")
def _script_as_video(folder: Path) -> list[str]:
    return _listing(folder, "a.mp4", "ffconcat version 1.0\nfile other/b.mp4\n")


@case("playlist")
def _playlist(folder: Path) -> list[str]:
    target = folder / "other/b.mp4"
    head = "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\n"
    return _listing(folder, "a.m3u8", f"{head}{target}\n#EXT-X-ENDLIST\n")


def _listing(folder: Path, name: str, text: str) -> list[str]:
    """A file that has FFmpeg read a video that was not named."""
    (folder / "other").mkdir()
    sound("h264 in mp4", folder / "other").rename(folder / "other/b.mp4")
    (folder / name).write_text(text)
    return filtering(name)


@case("sound without pictures")
def _sound_only(folder: Path) -> list[str]:
    with wave.open(str(folder / "a.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    (folder / "a.wav").rename(folder / "a.mkv")
    return filtering("a.mkv")


def _joined(folder: Path, *parts: tuple[tuple[int, int], str]) -> list[str]:
    """Transport streams of several sizes or pixel formats, one after the other."""
    data = b""
    for number, (size, pix_fmt) in enumerate(parts):
        path = folder / f"{number}.h264"
        encode(path, "libx264", options=_X264, size=size, pix_fmt=pix_fmt, count=10)
        data += path.read_bytes()
        path.unlink()
    (folder / "a.h264").write_bytes(data)
    return filtering("a.h264")


@case("size that changes in mid-stream")
def _changing_size(folder: Path) -> list[str]:
    return _joined(folder, ((96, 128), "yuv420p"), ((48, 64), "yuv420p"), ((240, 320), "yuv420p"))


@case("pixel format that changes in mid-stream")
def _changing_format(folder: Path) -> list[str]:
    return _joined(folder, ((96, 128), "yuv420p"), ((96, 128), "yuv444p"))


@case("rotation that the file declares as nonsense")
def _odd_rotation(folder: Path) -> list[str]:
    path = sound("h264 in mp4", folder)
    data = path.read_bytes()
    matrix = struct.pack(">9i", 0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000)
    place = data.find(matrix, data.find(b"tkhd"))
    odd = struct.pack(">9i", 0, 0, 0, 0, 0, -(2**31), 2**31 - 1, 5, 0)
    path.write_bytes(data[:place] + odd + data[place + len(matrix) :])
    return filtering(path.name)


@case("rotation that changes in mid-stream")
def _changing_rotation(folder: Path) -> list[str]:
    """An H.264 stream whose display orientation messages differ: two streams joined."""
    rotated = (b"\x00\x00\x01\x06\x2f\x04\x08\x00\x02\x40\x80", b"")
    data = b""
    for number, message in enumerate(rotated):
        path = encode(folder / f"{number}.h264", "libx264", options=_X264, count=10)
        data += message + path.read_bytes()
        path.unlink()
    (folder / "a.h264").write_bytes(data)
    return filtering("a.h264")


@case("no timestamps at all")
def _no_times(folder: Path) -> list[str]:
    return _whole("h264 alone", folder)


@case("timestamps that go backwards")
def _backwards(folder: Path) -> list[str]:
    """A transport stream twice: its clock begins anew in the middle."""
    path = encode(folder / "0.ts", "libx264", options=_X264, count=12)
    (folder / "a.ts").write_bytes(path.read_bytes() * 2)
    path.unlink()
    return filtering("a.ts")


@case("timestamps of the year 9999")
def _far_future(folder: Path) -> list[str]:
    ticks = [0, 1, 2, 6_000_000_000, 6_000_000_001]
    encode(folder / "a.mkv", "libx264", options=_X264, count=5, ticks=ticks)
    return filtering("a.mkv")


@case("frames of 2x2 pixels")
def _tiny_video(folder: Path) -> list[str]:
    encode(folder / "a.mkv", "ffv1", size=(2, 2))
    return filtering("a.mkv")


# Pictures


def png(width: int, height: int, *, depth: int = 8, colour: int = 2, body: bytes = b"") -> bytes:
    """A PNG that claims a size; `body` is what its pixels are unpacked from."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    parts = (chunk(b"IHDR", head), chunk(b"IDAT", body), chunk(b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def _saved(folder: Path, image: Image.Image, name: str, **options: Any) -> list[str]:
    try:
        image.save(folder / name, **options)
    except (KeyError, OSError) as error:
        raise CannotMakeError(f"this Pillow cannot write {name}: {error}") from error
    return filtering(name)


def rgb() -> Image.Image:
    """A small photo."""
    return Image.fromarray(picture(3)[..., ::-1].copy())


PICTURES: dict[str, tuple[Image.Image, str, dict[str, Any]]] = {
    "picture of 1x1": (Image.new("RGB", (1, 1), "red"), "a.png", {}),
    "picture of 1x30000": (Image.new("RGB", (1, 30_000), "red"), "a.png", {}),
    "picture of 30000x1": (Image.new("RGB", (30_000, 1), "red"), "a.png", {}),
    "CMYK": (rgb().convert("CMYK"), "a.jpg", {}),
    "palette": (rgb().convert("P"), "a.png", {}),
    "grey with alpha": (rgb().convert("LA"), "a.png", {}),
    "1 bit": (rgb().convert("1"), "a.png", {}),
    "WebP": (rgb(), "a.webp", {}),
    "AVIF": (rgb(), "a.avif", {}),
    "broken EXIF": (
        rgb(), "a.jpg", {"exif": b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\x00\x12" * 40},
    ),
    # One IFD entry, orientation; the next directory is the same one again.
    "EXIF that refers to itself": (
        rgb(), "a.jpg",
        {"exif": b"Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\1\0\0\0\x08\0\0\0"},
    ),
    "broken ICC profile": (rgb(), "a.jpg", {"icc_profile": b"\x00\x00\xff\xff" + b"acsp" * 30}),
}  # fmt: skip
"""What Pillow can write: name -> picture, file, what it is saved with."""


for _name, (_image, _file, _options) in PICTURES.items():
    case(_name)(functools.partial(_saved, image=_image, name=_file, **_options))


@case("picture of 30000x30000")
def _huge(folder: Path) -> list[str]:
    """A whole one: 900 million black pixels in 110 kB."""
    row, packer = bytes(1 + 30_000 // 8), zlib.compressobj(1)
    body = b"".join(packer.compress(row * 100) for _ in range(300)) + packer.flush()
    (folder / "a.png").write_bytes(png(30_000, 30_000, depth=1, colour=0, body=body))
    return filtering("a.png")


@case("decompression bomb: 100 bytes that claim 4 billion pixels")
def _bomb(folder: Path) -> list[str]:
    (folder / "a.png").write_bytes(png(65_535, 65_535, body=zlib.compress(bytes(100))))
    return filtering("a.png")


@case("decompression bomb: text in a PNG that unpacks to 300 MB")
def _text_bomb(folder: Path) -> list[str]:
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1_000_000)) for _ in range(300)) + packer.flush()
    data = b"Comment\0\0" + packed
    text = struct.pack(">I", len(data)) + b"zTXt" + data
    text += struct.pack(">I", zlib.crc32(b"zTXt" + data))
    Image.new("RGB", (40, 40)).save(folder / "b.png")
    whole = (folder / "b.png").read_bytes()
    (folder / "b.png").unlink()
    (folder / "a.png").write_bytes(whole[:33] + text + whole[33:])
    return filtering("a.png")


@case("size that a header claims and the data do not hold")
def _short_body(folder: Path) -> list[str]:
    (folder / "a.png").write_bytes(png(4000, 3000, body=zlib.compress(bytes(100))))
    return filtering("a.png")


@case("16-bit grey")
def _grey16(folder: Path) -> list[str]:
    ramp = np.linspace(0, 65535, 96 * 128).reshape(96, 128).astype(np.uint16)
    return _saved(folder, Image.fromarray(ramp), "a.png")


@case("16-bit colour")
def _colour16(folder: Path) -> list[str]:
    ok = cv2.imwrite(str(folder / "a.png"), picture(0).astype(np.uint16) * 257)
    if not ok:
        raise CannotMakeError("this OpenCV writes no 16-bit PNG")
    return filtering("a.png")


@case("palette with an index beyond its end")
def _short_palette(folder: Path) -> list[str]:
    Image.fromarray(np.full((8, 8), 200, np.uint8)).save(folder / "b.png")
    whole = bytearray((folder / "b.png").read_bytes())
    (folder / "b.png").unlink()
    whole[25] = 3  # colour type: palette
    whole[29:33] = struct.pack(">I", zlib.crc32(whole[12:29]))
    colours = struct.pack(">I", 3) + b"PLTE\1\2\3"
    colours += struct.pack(">I", zlib.crc32(b"PLTE\1\2\3"))
    (folder / "a.png").write_bytes(bytes(whole[:33]) + colours + bytes(whole[33:]))
    return filtering("a.png")


@case("floating point with NaN")
def _floats(folder: Path) -> list[str]:
    values = np.linspace(0, 1, 96 * 128, dtype=np.float32).reshape(96, 128)
    values[0] = np.nan
    values[1] = np.inf
    return _saved(folder, Image.fromarray(values), "a.tif")


def _animated(suffix: str, folder: Path) -> list[str]:
    frames = [Image.fromarray(picture(i)[..., ::-1].copy()) for i in range(4)]
    options = {"save_all": True, "append_images": frames[1:], "duration": 40}
    return _saved(folder, frames[0], f"a{suffix}", **options)


for _suffix in (".gif", ".webp", ".apng"):
    case(f"animated {_suffix[1:]}")(functools.partial(_animated, _suffix))


def _orientation(number: int, folder: Path) -> list[str]:
    exif = Image.Exif()
    exif[0x0112] = number
    return _saved(folder, rgb(), "a.jpg", exif=exif.tobytes())


for _number in (*range(1, 9), 77):
    case(f"EXIF orientation {_number}")(functools.partial(_orientation, _number))


@case("truncated JPEG")
def _cut_jpeg(folder: Path) -> list[str]:
    arguments = _saved(folder, rgb().resize((640, 480)), "a.jpg")
    path = folder / "a.jpg"
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    return arguments


@case("bit flips in a JPEG")
def _flipped_jpeg(folder: Path) -> list[str]:
    arguments = _saved(folder, rgb().resize((640, 480)), "a.jpg")
    path = folder / "a.jpg"
    data = bytearray(path.read_bytes())
    for place in range(700, len(data), 97):
        data[place] ^= 8
    path.write_bytes(bytes(data))
    return arguments


@case("bit flips in a PNG")
def _flipped_png(folder: Path) -> list[str]:
    arguments = _saved(folder, rgb(), "a.png")
    path = folder / "a.png"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(bytes(data))
    return arguments


@case("HEIC, cut off after its header")
def _heic(folder: Path) -> list[str]:
    (folder / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic")
    return filtering("a.heic")


@case("TIFF whose directory refers to itself")
def _looping_tiff(folder: Path) -> list[str]:
    (folder / "a.tif").write_bytes(b"II*\0\x08\0\0\0\1\0\0\1\3\0\1\0\0\0\1\0\0\0\x08\0\0\0")
    return filtering("a.tif")


# Files and names


@case("empty picture")
def _empty_picture(folder: Path) -> list[str]:
    (folder / "a.jpg").touch()
    return filtering("a.jpg")


@case("empty video")
def _empty_video(folder: Path) -> list[str]:
    (folder / "a.mp4").touch()
    return filtering("a.mp4")


def _fifo(path: Path) -> None:
    if not hasattr(os, "mkfifo"):
        raise CannotMakeError("this system has no named pipes")
    os.mkfifo(path)


@case("pipe with the ending of a picture")
def _pipe_picture(folder: Path) -> list[str]:
    _fifo(folder / "a.jpg")
    return filtering("a.jpg")


@case("pipe that nobody writes to")
def _pipe_video(folder: Path) -> list[str]:
    _fifo(folder / "a.mp4")
    return filtering("a.mp4")


@case("device")
def _device(folder: Path) -> list[str]:
    if not Path("/dev/zero").exists():
        raise CannotMakeError("this system has no /dev/zero")
    return filtering("/dev/zero")


@case("folder with the ending of a video, with nothing in it")
def _folder_as_video(folder: Path) -> list[str]:
    (folder / "a.mp4").mkdir()
    return filtering("a.mp4")


@case("folder with the ending of a picture, with a picture in it")
def _folder_as_picture(folder: Path) -> list[str]:
    (folder / "a.jpg").mkdir()
    rgb().save(folder / "a.jpg/b.png")
    return filtering("a.jpg")


def _link(path: Path, target: str) -> None:
    try:
        path.symlink_to(target)
    except (OSError, NotImplementedError) as error:
        raise CannotMakeError(f"no symbolic links here: {error}") from error


@case("link to itself")
def _self_link(folder: Path) -> list[str]:
    _link(folder / "a.mp4", "a.mp4")
    return filtering("a.mp4")


@case("folder with links that lead in circles")
def _link_loop(folder: Path) -> list[str]:
    (folder / "in/deep").mkdir(parents=True)
    rgb().save(folder / "in/deep/a.png")
    _link(folder / "in/deep/up", "..")
    _link(folder / "in/self.png", "self.png")
    return filtering("in")


@case("file that may not be read")
def _unreadable(folder: Path) -> list[str]:
    if os.name == "nt":
        raise CannotMakeError("Windows has no such permissions")
    if os.geteuid() == 0 and sys.platform != "linux":
        raise CannotMakeError("root may read everything")  # on Linux the runner gives that up
    rgb().save(folder / "a.png")
    (folder / "a.png").chmod(0)
    return filtering("a.png")


@case("missing file")
def _missing(folder: Path) -> list[str]:
    del folder
    return filtering("a.mp4")


NAMES: dict[str, str | bytes] = {
    "a line end": "two\nlines.png",
    "quotes": "'a\" b.png",
    "emoji": "\U0001f600 \u0130\u0307.png",
    "bytes that are no UTF-8": b"caf\xe9.png",
    "a leading dash": "-rf.png",
    "a leading =": "=HYPERLINK(1).png",
    "a leading @": "@SUM(1).png",
    "a comma and a semicolon": "a,b;c.png",
    "markup": "<img src=x onerror=alert(1)>.png".replace("/", ""),
    "terminal escapes": "\x1b[2J\x1b[31m.png",
    "a bidirectional override": "a\u202egnp.exe.png",
    "percent signs and braces": "%s {0} %(a)s ${HOME}.png",
    "240 letters": "n" * 240 + ".png",
}


def _named(name: str | bytes, folder: Path) -> list[str]:
    """A good and a bad picture of a name."""
    raw = os.fsencode(name)
    try:
        rgb().save(folder / "good.png")
        target = os.fsencode(folder) + b"/" + raw
        os.rename(folder / "good.png", os.fsdecode(target))  # noqa: PTH104 - raw names
    except (OSError, ValueError) as error:
        raise CannotMakeError(f"no such name here: {error}") from error
    bad = os.fsdecode(os.fsencode(folder) + b"/" + raw[:-4] + b".jpg")
    Path(bad).write_bytes(b"no picture")
    return filtering(os.fsdecode(raw), os.fsdecode(raw[:-4] + b".jpg"))


for _label, _odd in NAMES.items():
    case(f"name with {_label}")(functools.partial(_named, _odd))


# Plugins and models


DETECTORS = {
    "nan": "gives landmarks of NaN",
    "inf": "gives infinite boxes",
    "raise": "raises",
    "memory": "runs out of memory",
    "few": "gives too few results",
    "outside": "puts a face far outside, of no size",
}
"""Detectors that tests/hostile/runner.py registers, and what they do."""


def _with_detector(name: str, folder: Path) -> list[str]:
    rgb().save(folder / "a.png")
    arguments = filtering("a.png")
    arguments[arguments.index("marker")] = name
    return arguments


for _how, _what in DETECTORS.items():
    case(f"detector that {_what}")(functools.partial(_with_detector, f"hostile-{_how}"))


def scorer_model(
    path: Path, *, shape: tuple[Any, ...] = (None, 3, 112, 112), nan: bool = False
) -> Path:
    """A scorer that gives the mean of a face, or NaN, with its card beside it."""
    try:
        import onnx
        from onnx import TensorProto, helper
    except ImportError as error:
        raise CannotMakeError("making a model needs the package onnx") from error
    numbers = np.array([1, 2, 3], np.int64).tobytes()
    axes = helper.make_tensor("axes", TensorProto.INT64, [3], numbers, raw=True)
    nodes = [helper.make_node("ReduceMean", ["x", "axes"], ["mean"], keepdims=0)]
    if nan:
        nodes.append(helper.make_node("Log", ["low"], ["y"]))
        minus = helper.make_tensor("minus", TensorProto.FLOAT, [1], [-1e6])
        nodes.insert(1, helper.make_node("Add", ["mean", "minus"], ["low"]))
        initial = [axes, minus]
    else:
        nodes.append(helper.make_node("Identity", ["mean"], ["y"]))
        initial = [axes]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, list(shape))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [shape[0]])
    graph = helper.make_graph(nodes, "g", [x], [y], initial)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.save(model, path)
    card = {"kind": "scorer", "output": {"type": "degree"}, "threshold": 0.5}
    path.with_suffix(".json").write_text(json.dumps(card))
    return path


def face(folder: Path) -> None:
    """A picture in which the detector `marker` finds a face."""
    image = np.full((160, 160, 3), 60, np.uint8)
    image[20:140, 20:140] = (0, 255, 0)
    image[26:134, 26:134] = np.random.default_rng(0).integers(0, 120, (108, 108, 3))
    cv2.imwrite(str(folder / "a.png"), image)


def _with_model(folder: Path) -> list[str]:
    face(folder)
    arguments = filtering("a.png")
    arguments[arguments.index("laplacian")] = "model.onnx"
    return arguments


@case("model that works")
def _model(folder: Path) -> list[str]:
    scorer_model(folder / "model.onnx")
    return _with_model(folder)


@case("model that is truncated")
def _model_cut(folder: Path) -> list[str]:
    path = scorer_model(folder / "model.onnx")
    path.write_bytes(path.read_bytes()[:-30])
    return _with_model(folder)


@case("model that is no model")
def _model_text(folder: Path) -> list[str]:
    scorer_model(folder / "model.onnx").write_text("<!DOCTYPE html>")
    return _with_model(folder)


@case("model that is empty")
def _model_empty(folder: Path) -> list[str]:
    scorer_model(folder / "model.onnx").write_bytes(b"")
    return _with_model(folder)


@case("model with external data")
def _model_external(folder: Path) -> list[str]:
    path = scorer_model(folder / "model.onnx")
    import onnx

    onnx.save(
        onnx.load(path), path, save_as_external_data=True, location="weights", size_threshold=0
    )
    return _with_model(folder)


@case("model of a custom operator")
def _model_custom(folder: Path) -> list[str]:
    path = scorer_model(folder / "model.onnx")
    import onnx

    model = onnx.load(path)
    model.graph.node[0].domain = "com.example"
    model.opset_import.append(onnx.helper.make_opsetid("com.example", 1))
    onnx.save(model, path)
    return _with_model(folder)


@case("model of another input shape")
def _model_shape(folder: Path) -> list[str]:
    scorer_model(folder / "model.onnx", shape=(None, 1, 64, 64))
    return _with_model(folder)


@case("model that gives NaN")
def _model_nan(folder: Path) -> list[str]:
    scorer_model(folder / "model.onnx", nan=True)
    return _with_model(folder)


@case("model whose card is not JSON")
def _model_card(folder: Path) -> list[str]:
    scorer_model(folder / "model.onnx").with_suffix(".json").write_text('{"threshold":')
    return _with_model(folder)


@case("model whose card nests 100000 deep")
def _model_card_deep(folder: Path) -> list[str]:
    scorer_model(folder / "model.onnx").with_suffix(".json").write_text("[" * 100_000)
    return _with_model(folder)


@case("model whose threshold has 400 digits")
def _model_card_number(folder: Path) -> list[str]:
    card = scorer_model(folder / "model.onnx").with_suffix(".json")
    card.write_text('{"kind": "scorer", "threshold": 1' + "0" * 400 + "}")
    return _with_model(folder)


@case("profile that is not JSON")
def _profile(folder: Path) -> list[str]:
    face(folder)
    (folder / "p.json").write_text("{")
    arguments = filtering("a.png")
    at = arguments.index("--threshold")
    arguments[at : at + 2] = ["--profile", "p.json"]
    return arguments


# Where results go


@case("output folder that is a file")
def _out_file(folder: Path) -> list[str]:
    face(folder)
    (folder / "out").touch()
    return filtering("a.png")


@case("output folder with a stranger's files")
def _out_used(folder: Path) -> list[str]:
    face(folder)
    (folder / "out").mkdir()
    (folder / "out/precious.txt").write_text("keep me")
    return filtering("a.png")


@case("journal of an earlier run that is damaged")
def _journal(folder: Path) -> list[str]:
    face(folder)
    (folder / "out").mkdir()
    (folder / "out/journal.jsonl").write_text('{"settings": 5}\n')
    return [*filtering("a.png")[:1], "--resume", *filtering("a.png")[1:]]


def make_all(folder: Path) -> Iterator[tuple[Case, Path, list[str] | str]]:
    """Make every case in a folder of its own; gives the arguments, or why it cannot be made."""
    for number, one in enumerate(CASES.values()):
        place = folder / f"{number:03d}"
        place.mkdir(parents=True)
        try:
            yield one, place, one.make(place)
        except CannotMakeError as error:
            yield one, place, str(error)


def main() -> None:
    """Make the cases, or list them."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folder", nargs="?", type=Path)
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    arguments = parser.parse_args()
    if arguments.list or arguments.folder is None:
        print("\n".join(CASES))
        return
    for one, place, made in make_all(arguments.folder):
        if isinstance(made, str):
            print(f"{place.name} {one.name}: left out, {made}")
            continue
        command = "blurgate " + shlex.join(made) + "\n"
        (place / "command").write_bytes(os.fsencode(command))
        print(f"{place.name} {one.name}")


if __name__ == "__main__":
    sys.exit(main())
