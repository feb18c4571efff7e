"""Reading still pictures into upright BGR arrays, whatever their format and pixel type.

Pillow does the decoding. Colour profiles are not applied, as in OpenCV: pixel values are taken as
they stand in the file.
"""

from __future__ import annotations

import importlib
import io
import logging
import os
import stat
import struct
import threading
import warnings
from pathlib import Path
from typing import IO, Any, Final

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image
from PIL.ImageFile import ImageFile

from blurgate.errors import DecodeError
from blurgate.io.orient import EXIF_TURNS, Turn, turned
from blurgate.io.remote import fetch, fetch_head, is_remote
from blurgate.io.text import reason, shown
from blurgate.types import U8

logger = logging.getLogger(__name__)

IMAGE_SUFFIXES: Final = frozenset(
    (
        *(".jpg", ".jpeg", ".jpe", ".jfif", ".mpo", ".jp2", ".j2k"),
        *(".png", ".apng", ".gif", ".webp", ".avif", ".heic", ".heif", ".hif"),
        *(".bmp", ".dib", ".tif", ".tiff", ".tga", ".pbm", ".pgm", ".ppm", ".pnm"),
    )
)
"""File name endings, in lower case, that stand for a still picture."""

MAX_PIXELS: Final = 200_000_000
"""The largest picture that is read: what the largest telephone cameras make, 1.4 GB while decoding.

Larger ones are refused before any pixel is decoded, because a file of a few kilobytes can claim to
be one. Pillow's own limit is a process-wide variable that belongs to the application.
"""

# Pillow knows more formats. They are left out because they are no photos, or because reading them
# starts another program (EPS).
_FORMATS: Final = (
    *("JPEG", "PNG", "WEBP", "BMP", "DIB", "GIF", "TIFF", "PPM", "AVIF", "JPEG2000"),
    "HEIF",  # of the package pillow-heif
)
_HEIF_BRANDS: Final = frozenset(
    (b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1")
)
_SIGNATURE_BYTES: Final = 16
_HEADER_BYTES: Final = 1 << 16
_FILTERS: Final = threading.Lock()
_STRIP_PIXELS: Final = 1 << 16
_SAMPLE_FORMAT: Final = 339  # of a TIFF; where it is left out, numbers have no signs
_SIGNED: Final = (2,)


def read_image(
    path: Path | str, *, max_pixels: int = MAX_PIXELS, reduce: int = 1, data: bytes | None = None
) -> U8:
    """Read a still picture, or the first frame of an animated one.

    The EXIF orientation is applied; an EXIF block that cannot be read is ignored. Transparent
    parts are shown on white. More than 8 bits are scaled down: 16-bit values 0..65535 to 0..255;
    32-bit integers likewise, or from 0..2147483647 if one is above 65535, and from 0..4294967295 if
    one is above that; floating-point values from 0..1, or clipped to 0..255 if one is above 1. May
    be called from several threads at once.

    Args:
        path: The file, or an fsspec address.
        max_pixels: Refuse pictures with more pixels than this.
        reduce: Decode a JPEG at 1/reduce of its size; one of what `jpeg_reductions` gives for it.
        data: What is in the file, if it has been read already.

    Returns:
        (H, W, 3) uint8 BGR, contiguous and writable.

    Raises:
        DecodeError: There is no such file, it is not a picture, it is damaged, or it is too large;
            one line that names the file.
    """
    name = os.fspath(path)
    if data is None and is_remote(name):
        data = fetch(name)
    try:
        try:
            return _read(name, max_pixels, reduce, data)
        except Warning:
            # Only where the application makes warnings errors, say of a broken EXIF block. Filters
            # are the process's own, so that they are left alone in all other cases.
            with _FILTERS, warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return _read(name, max_pixels, reduce, data)
    except DecodeError:
        raise
    except Exception as error:  # a damaged file can make a decoder raise nearly anything
        raise DecodeError(
            f"{shown(name)} cannot be read as a picture: {reason(error)}", source=name
        ) from error


def jpeg_reductions(
    path: Path | str, data: bytes | None = None
) -> tuple[tuple[int, int], tuple[int, ...]]:
    """Tell at which fractions of its size a JPEG can be decoded without a rest.

    Args:
        path: The file. Never raises: reading the picture will say what is wrong with it.
        data: What is in the file, if it has been read already.

    Returns:
        (h, w) as stored, and those of 2, 4 and 8 that divide both; (0, 0) and none of them if the
        file is no JPEG or cannot be read.
    """
    try:
        if data is None and not Path(path).is_file():
            return (0, 0), ()  # opening a pipe would wait for whoever writes to it
        with _bytes_of(path, data) as file:
            if file.read(2) != b"\xff\xd8":
                return (0, 0), ()
            file.seek(0)
            image = _opened(file, os.fspath(path))
            if not hasattr(image, "draft") or image.format not in ("JPEG", "MPO"):
                return (0, 0), ()
            w, h = image.size
            return (h, w), tuple(r for r in (2, 4, 8) if not w % r and not h % r)
    except Exception:  # noqa: BLE001 - a damaged file can make a decoder raise nearly anything
        return (0, 0), ()


def _bytes_of(path: Path | str, data: bytes | None) -> IO[bytes]:
    return Path(path).open("rb") if data is None else io.BytesIO(data)


def _size(name: str) -> int:
    status = Path(name).stat()
    if stat.S_ISDIR(status.st_mode):
        os.scandir(name).close()  # one that may not be read comes here because of that: it raises
    if not stat.S_ISREG(status.st_mode):
        kind = "a folder" if stat.S_ISDIR(status.st_mode) else "not a regular file"
        raise DecodeError(f"{shown(name)} is {kind}, not a picture", source=name)
    return status.st_size


def _read(name: str, max_pixels: int, reduce: int, data: bytes | None) -> U8:
    if (_size(name) if data is None else len(data)) == 0:
        raise DecodeError(f"{shown(name)} is an empty file", source=name)
    with _bytes_of(name, data) as file:
        image = _opened(file, name)
        if image.width * image.height > max_pixels:
            raise DecodeError(
                f"{shown(name)} claims {image.width}x{image.height} pixels; the limit is "
                f"{max_pixels} pixels, so make it smaller if it is genuine",
                source=name,
            )
        if reduce > 1:
            image.draft(None, (image.width // reduce, image.height // reduce))
        image.load()
        # After loading: Pillow turns some formats (TIFF) itself, and then drops the orientation.
        return turned(bgr_of(image), _turn(image, name))


def is_image(path: Path | str) -> bool:
    """Tell from its first bytes whether a file is a still picture; never raises."""
    name = os.fspath(path)
    try:
        start = fetch_head(name, _HEADER_BYTES) if is_remote(name) else None
        with _bytes_of(path, start) as file:
            if _is_heif(file.read(_SIGNATURE_BYTES)):
                return True
            file.seek(0)
            _opened(file, os.fspath(path))
    except Warning:  # of something in a picture; see read_image
        return True
    except Exception:  # noqa: BLE001 - see read_image
        return False
    return True


def _opened(file: IO[bytes], name: str) -> ImageFile:
    """Read the header. Unlike `PIL.Image.open`, this neither limits nor warns of large pictures."""
    Image.init()
    signature = file.read(_SIGNATURE_BYTES)
    if _is_heif(signature) and "HEIF" not in Image.OPEN:
        _register_heif()
    # TGA has no signature, so that other files can look like one.
    for known in (*_FORMATS, "TGA") if name.lower().endswith(".tga") else _FORMATS:
        factory, accepts = Image.OPEN.get(known, (None, None))
        if factory is None or (accepts is not None and accepts(signature) is not True):
            continue  # `accepts` may give a string: Pillow was built without what the format needs
        file.seek(0)
        try:
            return factory(file, name)
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            logger.debug("%s is not %s: %s", shown(name), known, error)
    if _is_heif(signature):
        raise DecodeError(
            f"{shown(name)} is a HEIF picture; to read these, run: pip install pillow-heif",
            source=name,
        )
    raise DecodeError(
        f"{shown(name)} is not a picture of a known format, or its header is damaged", source=name
    )


def _is_heif(signature: bytes) -> bool:
    return signature[4:8] == b"ftyp" and signature[8:12] in _HEIF_BRANDS


def _register_heif() -> None:
    try:
        importlib.import_module("pillow_heif").register_heif_opener()
    except ImportError:
        logger.debug("pillow_heif is not installed")


def _turn(image: ImageFile, name: str) -> Turn:
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
        return EXIF_TURNS.get(orientation, Turn())
    except Exception as error:  # noqa: BLE001 - a broken EXIF block must not cost the picture
        logger.debug("%s: the EXIF block is ignored: %s", shown(name), error)
        return Turn()


def bgr_of(image: Image.Image) -> U8:
    """Convert a picture of Pillow's with pixels to (H, W, 3) uint8 BGR, as `read_image` does."""
    if image.mode.startswith("I;16"):
        values = np.asarray(image)
        grey = (values.astype(np.uint32) + 128) // 257
        # Of a TIFF in which 0 is white Pillow inverts 8 bits, and leaves 16 as they are.
        if getattr(image, "tag_v2", {}).get(ExifTags.Base.PhotometricInterpretation) == 0:
            grey = 255 - grey
        clear = image.info.get("transparency")  # of a PNG: the value that is not to be seen
        if isinstance(clear, int):
            grey[values == clear] = 255
        return _from_grey(grey)
    if image.mode == "I":
        values = np.asarray(image)
        # Pillow shows the upper half of what a TIFF holds without signs as negative numbers.
        tags = getattr(image, "tag_v2", None)
        has_signs = tags is None or tags.get(_SAMPLE_FORMAT) == _SIGNED
        values = values.clip(0) if has_signs else values.view(np.uint32)
        most = values.max()
        top = next(top for top in (2**16 - 1, 2**31 - 1, 2**32 - 1) if most <= top)
        return _from_grey(np.rint(values * (255 / top)))
    if image.mode == "F":
        values = np.nan_to_num(np.asarray(image), posinf=255, neginf=0)
        return _from_grey(np.rint((values * 255 if values.max() <= 1 else values).clip(0, 255)))
    # In strips, because a whole picture would be copied three times, out of the cache each time.
    out = np.empty((image.height, image.width, 3), np.uint8)
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        strip = _rgb(image.crop((0, top, image.width, min(top + rows, image.height))))
        pixels = np.frombuffer(strip.tobytes(), np.uint8).reshape(-1, image.width, 3)
        part = out[top : top + rows]
        made = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR, dst=part)
        if made is not part:  # OpenCV makes an array of its own where it cannot write to `dst`
            part[:] = made
    return out


def _rgb(image: Image.Image) -> Image.Image:
    if image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(white, image.convert("RGBA"))
    return image if image.mode == "RGB" else image.convert("RGB")


def _from_grey(grey: NDArray[Any]) -> U8:
    return np.asarray(cv2.cvtColor(grey.astype(np.uint8), cv2.COLOR_GRAY2BGR), np.uint8)
