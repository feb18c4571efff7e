"""Fuzz targets: what reads bytes of strangers. Run by scripts/fuzz.py.

A target takes any bytes and may raise nothing but the errors that its docstring promises; each has
seeds from which a fuzzer begins.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
from contextlib import suppress
from pathlib import Path

import numpy as np
from PIL import Image

from blurgate import onnxfile, protobuf
from blurgate.errors import DecodeError
from blurgate.io.images import is_image, jpeg_reductions, read_image
from blurgate.io.sources import expand
from blurgate.types import SourceEnd

_FOLDER = tempfile.TemporaryDirectory(prefix="blurgate-fuzz-")
_FILE = Path(_FOLDER.name, "input.bin")
_EMPTY = Path(_FOLDER.name, "empty")
_EMPTY.mkdir()
_MOST_PIXELS = 1 << 20


def _saved(mode: str, file_format: str, **options: object) -> bytes:
    values = np.random.default_rng(1).integers(0, 256, (24, 32, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(values).convert(mode).save(out, file_format, **options)
    return out.getvalue()


def picture_seeds() -> list[bytes]:
    """Small pictures of every format that is read."""
    exif = Image.Exif()
    exif[0x0112] = 6
    wanted = [
        ("RGB", "PNG"), ("P", "PNG"), ("LA", "PNG"), ("1", "PNG"), ("RGB", "JPEG"),
        ("CMYK", "JPEG"), ("P", "GIF"), ("RGB", "BMP"), ("RGB", "TIFF"), ("L", "PPM"),
        ("RGB", "WEBP"),
    ]  # fmt: skip
    return [*(_saved(*one) for one in wanted), _saved("RGB", "JPEG", exif=exif.tobytes())]


def picture(data: bytes) -> None:
    """`read_image`: a picture, or DecodeError in one line that names the file."""
    _FILE.write_bytes(data)
    is_image(_FILE)
    _, reductions = jpeg_reductions(_FILE)
    for reduce in (1, *reductions[-1:]):
        try:
            image = read_image(_FILE, max_pixels=_MOST_PIXELS, reduce=reduce)
        except DecodeError as error:
            assert "\n" not in str(error)  # noqa: PT017 - no test of pytest's
            assert _FILE.name in str(error)  # noqa: PT017
        else:
            assert image.dtype == np.uint8
            assert image.ndim == 3
            assert 0 < image.size <= 3 * _MOST_PIXELS


def video_seeds() -> list[bytes]:
    """Short videos."""
    import av

    seeds = []
    for codec, suffix in (("mjpeg", ".avi"), ("mpeg4", ".mkv"), ("ffv1", ".nut")):
        path = Path(_FOLDER.name, f"seed{suffix}")
        with av.open(str(path), "w") as container:
            stream = container.add_stream(codec, rate=25)
            stream.width, stream.height = 32, 32
            stream.pix_fmt = "yuvj420p" if codec == "mjpeg" else "yuv420p"
            for index in range(3):
                pixels = np.full((32, 32, 3), 40 * index, np.uint8)
                frame = av.VideoFrame.from_ndarray(pixels, format="bgr24")
                container.mux(stream.encode(frame.reformat(format=stream.pix_fmt)))
            container.mux(stream.encode(None))
        seeds.append(path.read_bytes())
    return seeds


def video(data: bytes) -> None:
    """`read_video`: frames, then one end that says what is missing; never an error."""
    from blurgate.io.video import read_video

    _FILE.write_bytes(data)
    end, frames = None, 0
    for item in read_video(str(_FILE)):
        assert end is None, "something came after the end"
        if isinstance(item, SourceEnd):
            end = item
        else:
            assert item.index == frames
            frames += 1
            if frames > 200:
                return
    assert end is not None
    assert end.frames == frames
    assert "\n" not in end.error
    assert (end.status == "ok") == (end.error == "")


def onnx_seeds() -> list[bytes]:
    """A model with a tensor and metadata, written by hand: model, graph, tensor, location 0."""

    def field(number: int, data: bytes) -> bytes:
        return bytes([number << 3 | 2, len(data)]) + data

    pair = field(1, b"blurgate") + field(2, b'{"kind": "scorer", "threshold": 0.5}')
    tensor = field(8, b"w") + bytes([14 << 3, 0])
    return [b"\x08\x08" + field(7, field(5, tensor)) + field(14, pair), struct.pack("<Q", 7)]


def onnx(data: bytes) -> None:
    """The walkers of ONNX files: an answer, or IndexError for what is none."""
    assert all(isinstance(text, str) for text in onnxfile.metadata(data).values())
    with suppress(IndexError):
        assert onnxfile.has_external_data(data) in (True, False)
    with suppress(IndexError):
        for number, value in protobuf.fields(memoryview(data)):
            assert number >= 0
            assert isinstance(value, int | memoryview)


def names_seeds() -> list[bytes]:
    """Names of files."""
    return [b"=cmd.png", b"-x.jpg", b"\xff\xfe.mp4", b"rtsp://a:b@c/d", b"a\nb.png"]


def names(data: bytes) -> None:
    """`expand` of a list on standard input: sources whose names are no formula, never an error."""
    os.chdir(_EMPTY)
    line = os.fsdecode(data.replace(b"\0", b"").replace(b"/", b"").replace(b"\n", b""))
    if line.rstrip("\r") in ("", ".", ".."):
        line = "x"  # folders, and no name at all
    for source in expand(["-"], stdin=[line]):
        assert not source.name.startswith(("=", "+", "-", "@", "\t", "\r"))


TARGETS = {
    "picture": (picture, picture_seeds),
    "video": (video, video_seeds),
    "onnx": (onnx, onnx_seeds),
    "names": (names, names_seeds),
}
