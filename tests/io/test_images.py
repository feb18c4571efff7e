from __future__ import annotations

import io
import os
import struct
import sys
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from blurgate.errors import DecodeError
from blurgate.io.images import IMAGE_SUFFIXES, is_image, read_image
from blurgate.pipeline import ordered_map


def photo(height=120, width=160, seed=0):
    """Something like a photo, (H, W, 3) uint8 RGB: smooth shapes, edges and a little noise."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8)
    smooth = cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC).astype(np.float64)
    smooth[height // 3 : height // 2, width // 4 : width // 2] = (250, 30, 90)
    return np.clip(smooth + rng.normal(0, 3, smooth.shape), 0, 255).astype(np.uint8)


def save(path, image, **options):
    image.save(path, **options)
    return path


def from_bytes(mode, values):
    return Image.frombytes(mode, values.shape[1::-1], values.tobytes())


def differences(got, wanted):
    assert got.shape == wanted.shape
    return np.abs(got.astype(int) - wanted.astype(int))


def test_result_is_contiguous_writable_bgr(tmp_path):
    rgb = photo()
    image = read_image(save(tmp_path / "a.png", Image.fromarray(rgb)))
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous
    assert image.flags.writeable
    np.testing.assert_array_equal(image, rgb[..., ::-1])


@pytest.mark.parametrize("subsampling", [0, 1, 2], ids=["444", "422", "420"])
@pytest.mark.parametrize("quality", [30, 92])
def test_jpeg_equals_opencv(tmp_path, quality, subsampling):
    path = tmp_path / "a.jpg"
    save(path, Image.fromarray(photo(121, 163)), quality=quality, subsampling=subsampling)
    assert differences(read_image(path), cv2.imread(str(path))).max() <= 1


@pytest.mark.shared
def test_photographs_equal_opencv(shared):
    paths = sorted((shared / "data" / "detection" / "images").glob("*.jpg"))[::7]
    paths += sorted((shared / "data" / "faces_eval").rglob("*.jpg"))[::200]
    assert len(paths) >= 15
    for path in paths:
        assert differences(read_image(path), cv2.imread(str(path))).max() <= 1, path.name


def test_progressive_jpeg_equals_opencv(tmp_path):
    path = save(tmp_path / "a.jpg", Image.fromarray(photo()), quality=85, progressive=True)
    assert differences(read_image(path), cv2.imread(str(path))).max() <= 1


# Where the EXIF standard says that the first row and column of the file are shown.
ORIENTATIONS = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_orientation_is_applied(tmp_path, suffix, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"a{suffix}"
    options = {"lossless": True} if suffix == ".webp" else {"quality": 95}
    save(path, Image.fromarray(photo(40, 64)), exif=exif, **options)
    plain = save(tmp_path / f"b{suffix}", Image.fromarray(photo(40, 64)), **options)
    image = read_image(path)
    np.testing.assert_array_equal(image, ORIENTATIONS[orientation](read_image(plain)))
    assert image.flags.c_contiguous
    if suffix == ".jpg":  # an independent reader of the same tag
        assert differences(image, cv2.imread(str(path))).max() <= 1


@pytest.mark.parametrize(
    "block",
    [
        b"Exif\0\0II*\0\xff\xff\xff\x7f",
        b"Exif\0\0garbage that is no TIFF header",
        b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + b"\x01\x12" * 9,
        b"Exif\0\0",
    ],
)
def test_broken_exif_does_not_cost_the_picture(tmp_path, block):
    path = save(tmp_path / "a.jpg", Image.fromarray(photo()), exif=block)
    plain = save(tmp_path / "b.jpg", Image.fromarray(photo()))
    np.testing.assert_array_equal(read_image(path), read_image(plain))


def test_unknown_orientation_is_ignored(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 77
    path = save(tmp_path / "a.png", Image.fromarray(photo()), exif=exif)
    np.testing.assert_array_equal(read_image(path), photo()[..., ::-1])


def ramp16():
    return np.arange(65536, dtype=np.uint16).reshape(256, 256)


def test_16_bit_grey_png_is_scaled_and_rounded(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), ramp16())
    wanted = np.rint(ramp16() / 257)
    for channel in np.moveaxis(read_image(tmp_path / "a.png"), 2, 0):
        np.testing.assert_array_equal(channel, wanted)


def test_the_transparent_value_of_a_16_bit_grey_png_is_shown_on_white(tmp_path):
    path = save(tmp_path / "a.png", Image.fromarray(ramp16()), transparency=771)
    wanted = np.rint(ramp16() / 257)
    wanted[ramp16() == 771] = 255
    np.testing.assert_array_equal(read_image(path)[..., 0], wanted)


@pytest.mark.parametrize(("order", "black"), [("<", 0), (">", 0), ("<", 65535)])
def test_16_bit_grey_tiff_of_both_byte_orders_and_directions(tmp_path, order, black):
    values = ramp16()[::16]
    big = order == ">"
    tags = [
        (256, 3, 1, values.shape[1]), (257, 3, 1, values.shape[0]), (258, 3, 1, 16),
        (259, 3, 1, 1), (262, 3, 1, int(black == 0)), (273, 4, 1, 8), (277, 3, 1, 1),
        (278, 3, 1, values.shape[0]), (279, 4, 1, values.nbytes),
    ]  # fmt: skip
    header = (b"MM\0*" if big else b"II*\0") + struct.pack(order + "I", 8 + values.nbytes)
    directory = struct.pack(order + "H", len(tags))
    for tag, kind, count, value in tags:
        packed = struct.pack(order + ("H2x" if kind == 3 else "I"), value)
        directory += struct.pack(order + "HHI", tag, kind, count) + packed
    path = tmp_path / "a.tif"
    path.write_bytes(header + values.astype(order + "u2").tobytes() + directory + b"\0" * 4)
    shown = np.abs(black - values.astype(int))
    np.testing.assert_array_equal(read_image(path)[..., 0], np.rint(shown / 257))


@pytest.mark.parametrize("suffix", [".png", ".tif"])
def test_16_bit_colour_is_scaled(tmp_path, suffix):
    bgr = np.stack([ramp16(), ramp16()[::-1], ramp16().T], axis=2)
    path = tmp_path / f"a{suffix}"
    cv2.imwrite(str(path), bgr)
    assert differences(read_image(path), np.rint(bgr / 257)).max() <= 1


def test_32_bit_integers(tmp_path):
    values = np.array([[0, 257, 65535, -5]], np.int32)
    path = save(tmp_path / "a.tif", Image.fromarray(values))
    assert read_image(path)[0, :, 0].tolist() == [0, 1, 255, 0]
    path = save(tmp_path / "b.tif", Image.fromarray(np.array([[0, 2**30, 2**31 - 1]], np.int32)))
    assert read_image(path)[0, :, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("said", [True, False])
def test_32_bit_integers_without_signs(tmp_path, said):
    """The upper half of their range came out black."""
    values = np.array([[0, 2**31 - 1, 2**31, 2**32 - 1]], np.uint32)
    tags = [
        (256, 4), (257, 1), (258, 32), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 16),
        *([(339, 1)] if said else []),
    ]  # fmt: skip
    directory = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    path = tmp_path / "a.tif"
    path.write_bytes(
        b"II*\0" + struct.pack("<I", 8 + values.nbytes) + values.tobytes()
        + struct.pack("<H", len(tags)) + directory + b"\0" * 4
    )  # fmt: skip
    assert read_image(path)[0, :, 0].tolist() == [0, 127, 128, 255]


def test_floats(tmp_path):
    path = save(
        tmp_path / "a.tif", Image.fromarray(np.array([[0, 0.5, 1, -3, np.nan]], np.float32))
    )
    assert read_image(path)[0, :, 2].tolist() == [0, 128, 255, 0, 0]
    path = save(
        tmp_path / "b.tif", Image.fromarray(np.array([[0, 1, 99.6, 300, np.inf]], np.float32))
    )
    assert read_image(path)[0, :, 2].tolist() == [0, 1, 100, 255, 255]


def test_grey_and_one_bit(tmp_path):
    grey = photo()[..., 0]
    image = read_image(save(tmp_path / "a.png", Image.fromarray(grey)))
    np.testing.assert_array_equal(image, np.repeat(grey[..., None], 3, axis=2))
    image = read_image(save(tmp_path / "b.png", Image.fromarray(grey > 99)))
    np.testing.assert_array_equal(image[..., 0], np.where(grey > 99, 255, 0))
    path = save(tmp_path / "c.jpg", Image.fromarray(grey))
    assert differences(read_image(path), cv2.imread(str(path))).max() <= 1


def on_white(rgb, alpha):
    alpha = alpha[..., None] / 255
    return (rgb * alpha + 255 * (1 - alpha))[..., ::-1]


def test_transparency_is_shown_on_white(tmp_path):
    rgb = photo()
    alpha = np.add.outer(np.arange(120), np.arange(160)).astype(np.uint8)
    path = save(tmp_path / "a.png", Image.fromarray(np.dstack([rgb, alpha])))
    assert differences(read_image(path), np.rint(on_white(rgb, alpha))).max() <= 1
    path = save(tmp_path / "b.png", from_bytes("LA", np.dstack([rgb[..., 0], alpha])))
    grey = np.repeat(rgb[..., :1], 3, axis=2)
    assert differences(read_image(path), np.rint(on_white(grey, alpha))).max() <= 1


def test_palette_with_and_without_transparency(tmp_path):
    palette = [200, 10, 60, 0, 255, 0, 9, 9, 9]
    indices = np.array([[0, 1, 2, 1]], np.uint8)
    image = from_bytes("P", indices)
    image.putpalette(palette)
    opaque = read_image(save(tmp_path / "a.png", image))
    assert opaque.tolist() == [[[60, 10, 200], [0, 255, 0], [9, 9, 9], [0, 255, 0]]]
    keyed = read_image(save(tmp_path / "b.png", image, transparency=1))
    assert keyed.tolist() == [[[60, 10, 200], [255] * 3, [9, 9, 9], [255] * 3]]
    graded = read_image(save(tmp_path / "c.png", image, transparency=bytes([255, 0, 51])))
    assert graded.tolist() == [[[60, 10, 200], [255] * 3, [206] * 3, [255] * 3]]


def test_transparent_colour_of_an_rgb_picture(tmp_path):
    image = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    path = save(tmp_path / "a.png", image, transparency=(4, 5, 6))
    assert read_image(path).tolist() == [[[3, 2, 1], [255] * 3]]


def test_cmyk_jpeg(tmp_path):
    # Pillow writes CMYK as Adobe does, inverted; the values are flat, so that JPEG keeps them.
    cmyk = np.zeros((16, 48, 4), np.uint8)
    cmyk[:, :16], cmyk[:, 16:32], cmyk[:, 32:] = (
        (200, 30, 0, 0),
        (0, 120, 255, 60),
        (10, 20, 30, 90),
    )
    path = save(tmp_path / "a.jpg", from_bytes("CMYK", cmyk), quality=100)
    assert b"Adobe" in path.read_bytes()
    ink = cmyk.astype(float)
    wanted = ((255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255)[..., ::-1]
    inner = np.s_[4:12, [8, 24, 40]]
    assert differences(read_image(path)[inner], np.rint(wanted)[inner]).max() <= 3
    assert differences(read_image(path)[inner], cv2.imread(str(path))[inner]).max() <= 3


def test_ycck_jpeg(tmp_path):
    # A CMYK file whose Adobe marker is changed to say that its channels, stored inverted, are
    # Y = 100, neutral chroma and K = 200. Y is then the complement of all three inks.
    cmyk = np.zeros((16, 16, 4), np.uint8)
    cmyk[:] = (255 - 100, 127, 127, 255 - 200)
    data = bytearray(save(tmp_path / "a.jpg", from_bytes("CMYK", cmyk), quality=100).read_bytes())
    data[data.index(b"Adobe") + 11] = 2
    (tmp_path / "a.jpg").write_bytes(data)
    image = read_image(tmp_path / "a.jpg")
    assert differences(image, np.full_like(image, round((255 - 100) * 200 / 255))).max() <= 3
    assert differences(image, cv2.imread(str(tmp_path / "a.jpg"))).max() <= 3


@pytest.mark.parametrize("suffix", [".gif", ".webp", ".png"])
def test_first_frame_of_an_animation(tmp_path, suffix):
    frames = [Image.new("RGB", (20, 10), colour) for colour in ("red", "lime", "blue")]
    path = tmp_path / f"a{suffix}"
    frames[0].save(path, save_all=True, append_images=frames[1:], duration=100)
    with Image.open(path) as opened:
        assert opened.n_frames == 3
    assert differences(read_image(path), np.full((10, 20, 3), (0, 0, 255))).max() <= 2


@pytest.mark.parametrize(
    ("suffix", "limit"),
    [(".bmp", 0), (".tif", 0), (".ppm", 0), (".tga", 0), (".png", 0), (".jp2", 0), (".avif", 12)],
)
def test_other_formats(tmp_path, suffix, limit):
    path = tmp_path / f"a{suffix}"
    try:
        save(path, Image.fromarray(photo()))
    except (KeyError, OSError) as error:
        pytest.skip(f"this Pillow cannot write {suffix}: {error}")
    assert differences(read_image(path), photo()[..., ::-1]).mean() <= limit
    assert suffix in IMAGE_SUFFIXES


@pytest.mark.parametrize("size", [(1, 1), (1, 700_000), (700, 999)])
def test_sizes_that_need_one_or_many_strips(tmp_path, size):
    pixels = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    path = tmp_path / "a.tif"
    Image.fromarray(pixels).save(path)
    np.testing.assert_array_equal(read_image(path), pixels[..., ::-1])


# Failures


def one_line(error, path):
    text = str(error.value)
    assert "\n" not in text
    assert Path(path).name in text
    assert error.value.source == str(path)
    assert not is_image(path) or "cannot be read" in text or "limit" in text
    return text


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".tif", ".bmp"])
def test_truncated_file(tmp_path, suffix):
    path = save(tmp_path / f"a{suffix}", Image.fromarray(photo()))
    path.write_bytes(path.read_bytes()[: path.stat().st_size * 6 // 10])
    with pytest.raises(
        DecodeError, match=r"a\.\w+ (cannot be read as a picture|is not a)"
    ) as error:
        read_image(path)
    one_line(error, path)


def test_bomb_is_refused_by_its_header(tmp_path):
    path = tmp_path / "bomb.png"
    path.write_bytes(png_header(30000, 20000))
    with pytest.raises(DecodeError, match=r"30000x20000 pixels; the limit is 200000000") as error:
        read_image(path)
    one_line(error, path)


def png_header(width, height):
    def chunk(kind, data):
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0"))


def test_limit_is_our_own_and_not_that_of_pillow(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", Image.fromarray(photo(500, 700)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 140_000)  # the application's, for its own files
    with pytest.raises(Image.DecompressionBombError):
        Image.open(path)
    assert read_image(path).shape == (500, 700, 3)
    with pytest.raises(DecodeError, match=r"claims 700x500 pixels; the limit is 349999 pixels"):
        read_image(path, max_pixels=700 * 500 - 1)
    assert read_image(path, max_pixels=700 * 500).shape == (500, 700, 3)


HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64


def test_heic_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.delitem(Image.OPEN, "HEIF", raising=False)
    path = tmp_path / "a.heic"
    path.write_bytes(HEIC)
    with pytest.raises(DecodeError, match=r"a\.heic is a HEIF picture.* pip install pillow-heif"):
        read_image(path)
    assert is_image(path)


def test_heic_with_its_package(tmp_path, monkeypatch):
    class Package:
        @staticmethod
        def register_heif_opener():
            def factory(file, name):
                png = io.BytesIO()
                Image.new("RGB", (4, 2), "red").save(png, "png")
                png.seek(0)
                return Image.open(png)

            monkeypatch.setitem(Image.OPEN, "HEIF", (factory, lambda prefix: b"heic" in prefix))

    monkeypatch.setitem(sys.modules, "pillow_heif", Package)
    path = tmp_path / "a.heic"
    path.write_bytes(HEIC)
    assert read_image(path)[0, 0].tolist() == [0, 0, 255]


def test_files_that_are_no_pictures(tmp_path):
    contents = {
        "empty.jpg": (b"", r"empty\.jpg is an empty file"),
        "text.jpg": (b"Dear diary,\n" * 50, r"text\.jpg is not a picture of a known format"),
        "short.png": (b"\x89PNG\r\n\x1a\n", r"short\.png (is not a picture|cannot be read)"),
        "zero.jpg": (
            b"\xff\xd8\xff\xe0" + bytes(500),
            r"zero\.jpg (is not a picture|cannot be read)",
        ),
        "ps.eps": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", r"is not a picture"),
        "text.tga": (b"Dear diary,\n" * 50, r"text\.tga is not a picture"),
    }
    for name, (data, message) in contents.items():
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(DecodeError, match=message) as error:
            read_image(path)
        one_line(error, path)


def test_folder_and_missing_file(tmp_path):
    (tmp_path / "x.jpg").mkdir()
    with pytest.raises(DecodeError, match=r"x\.jpg is a folder, not a picture"):
        read_image(tmp_path / "x.jpg")
    with pytest.raises(DecodeError, match=r"y\.jpg cannot be .*: No such file") as error:
        read_image(str(tmp_path / "y.jpg"))
    one_line(error, tmp_path / "y.jpg")
    with pytest.raises(DecodeError, match="null"):
        read_image("a\0b.jpg")
    assert not is_image(tmp_path / "x.jpg")
    assert not is_image(tmp_path / "y.jpg")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_named_pipe_does_not_hang(tmp_path):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(DecodeError, match="not a regular file"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.skipif(sys.platform == "win32", reason="Windows allows no such names")
@pytest.mark.parametrize("name", [b"a\nb.jpg", b"\xff\xfe.jpg", b"-x'\".jpg", " ü.jpg".encode()])
def test_odd_names(tmp_path, name):
    path = os.path.join(tmp_path, os.fsdecode(name))  # noqa: PTH118
    try:
        Image.fromarray(photo()).save(path)
    except OSError as error:
        pytest.skip(f"this file system refuses the name: {error}")
    assert read_image(path).shape == (120, 160, 3)
    Path(path).write_bytes(b"")
    with pytest.raises(DecodeError) as error:
        read_image(path)
    assert str(error.value).isprintable()
    assert error.value.source == path


def test_threads_read_what_one_reads(tmp_path):
    paths = []
    for seed in range(24):
        exif = Image.Exif()
        exif[0x0112] = 1 + seed % 8
        mode = ("RGB", "L", "RGBA", "P")[seed % 4]
        path = tmp_path / f"{seed}.{'png' if mode in 'RGBAP' else 'jpg'}"
        paths.append(save(path, Image.fromarray(photo(seed=seed)).convert(mode), exif=exif))
    alone = [read_image(path) for path in paths]
    for _ in range(3):
        for got, wanted in zip(ordered_map(read_image, paths, 8), alone, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_content_is_recognised_whatever_the_name(tmp_path):
    path = save(tmp_path / "a.dat", Image.fromarray(photo()), format="jpeg")
    assert is_image(path)
    assert differences(read_image(path), photo()[..., ::-1]).mean() < 5
