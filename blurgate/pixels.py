"""Pictures of which only the parts that are needed become BGR pixels.

A decoder gives video as three planes: brightness at full size, two of colour at half size. The
detector looks at a picture of 640 pixels and the aligner at faces, so that turning every pixel of
every frame into BGR is mostly wasted. `Planes` resizes the planes for the one and converts the
surroundings of a face for the other.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, cast

import cv2
import numpy as np

from blurgate.io.orient import Turn, turned
from blurgate.profiling import timed
from blurgate.types import F32, U8, Frame, Pixels, View

if TYPE_CHECKING:
    import av
    from av.video.reformatter import VideoReformatter

_ALIGNMENT: Final = 16
"""Parts of planes begin at multiples of this, so that colour and brightness stay in step."""

# swscale's number for its table -> the weights of red and blue in brightness (ITU-T H.273).
_WEIGHTS: Final[Mapping[int, tuple[float, float]]] = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    5: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}
_SWSCALE_BIAS: Final = -1.0
"""The fast path of swscale gives values that are about one grey level too low; so do we, or the
detector would see brighter pictures in one way than in the other."""

_threads = threading.local()


def to_bgr(frame: av.VideoFrame, matrix: int, *, full: bool) -> U8:
    """Convert a decoded frame with swscale.

    Its fast path is taken, as OpenCV does: values are within 3 grey levels of the exact ones, 1 too
    low on average; the exact path is 25 times slower. Eight-bit output of deeper video is rounded
    down.

    Args:
        frame: Of any size and pixel format.
        matrix: swscale's number for the YUV matrix.
        full: Whether the values take the full range, 0 to 255.

    Returns:
        (H, W, 3) uint8 BGR, contiguous and writable; holds its memory itself.
    """
    bgr = _reformatter("to_bgr").reformat(
        frame,
        format="bgr24",
        src_colorspace=matrix,
        src_color_range="JPEG" if full else "MPEG",
        threads=1,
    )
    return np.ascontiguousarray(bgr.to_ndarray(), np.uint8)


def of_width(frame: av.VideoFrame, width: int) -> av.VideoFrame:
    """Bring a decoded frame to another width with swscale; everything else of it stays."""
    return _reformatter("of_width").reformat(frame, width=width, threads=1)


def _reformatter(use: str) -> VideoReformatter:
    """Give this thread's reformatter for a use: it keeps swscale's tables from call to call."""
    if not hasattr(_threads, use):
        # Not above: who detects faces in pictures only, as a training does, needs no PyAV.
        from av.video.reformatter import VideoReformatter

        setattr(_threads, use, VideoReformatter())
    return cast("VideoReformatter", getattr(_threads, use))


def bgr_matrix(matrix: int, *, full: bool) -> F32:
    """Give the (3, 4) float32 that makes B, G, R of Y, U, V, 1, all in 0..255.

    >>> [round(float(value), 3) for value in bgr_matrix(5, full=True)[2][:3]]
    [1.0, 0.0, 1.402]
    """
    red, blue = _WEIGHTS[matrix]
    green = 1 - red - blue
    y, c, black = (1.0, 1.0, 0.0) if full else (255 / 219, 255 / 224, 16.0)
    rows = np.array(
        [
            [y, 2 * (1 - blue) * c, 0],
            [y, -2 * blue * (1 - blue) / green * c, -2 * red * (1 - red) / green * c],
            [y, 0, 2 * (1 - red) * c],
        ]
    )
    shift = -rows @ (black, 128, 128)
    return np.concatenate([rows, shift[:, None]], axis=1).astype(np.float32)


class Planes(Pixels):
    """A picture in planes of 8 bits, colour halved both ways (4:2:0), with even sides.

    Whole pictures and parts of them are converted by swscale and equal each other byte for byte.
    A shrunk picture is made of shrunk planes: it differs from the shrunk whole picture by rounding.

    Args:
        planes: Brightness (h, w), then the colours (h / 2, w / 2), uint8. They are not copied.
        matrix: swscale's number for the YUV matrix.
        full: Whether the values take the full range, 0 to 255.
    """

    def __init__(self, planes: Sequence[U8], matrix: int, *, full: bool) -> None:
        self._planes = tuple(planes)
        self._matrix = matrix
        self._full = full

    @classmethod
    def of(cls, frame: av.VideoFrame, matrix: int, turn: Turn, *, full: bool) -> Planes | None:
        """Take a decoded frame's planes; None if it does not hold such planes."""
        if frame.width % 2 or frame.height % 2:
            return None
        paired = frame.format.name == "nv12"  # as GPUs and cameras have it: U and V take turns
        if not paired and frame.format.name not in ("yuv420p", "yuvj420p"):
            return None
        planes: list[U8] = []
        for nth, plane in enumerate(frame.planes):
            h, w, stride = frame.height >> (nth > 0), frame.width >> (nth > 0), plane.line_size
            row = 2 * w if paired and nth else w
            values = np.frombuffer(cast("Any", plane), np.uint8)
            if stride < row or values.size < h * stride:
                return None
            pixels = values[: h * stride].reshape(h, stride)[:, :row]
            parts = [pixels]
            if row > w:
                parts = [np.ascontiguousarray(pixels[:, i::2]) for i in (0, 1)]
            planes += [turned(part, turn) for part in parts]
        return cls(planes, matrix, full=full)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) in pixels."""
        h, w = self._planes[0].shape
        return h, w

    def image(self) -> U8:
        """Convert everything."""
        h, w = self.size
        return self._convert(0, 0, w, h)

    def view(self, box: tuple[int, int, int, int], scale: float) -> View:
        """Convert the part, and up to 15 pixels more on a side."""
        del scale
        x1, y1, x2, y2 = box
        h, w = self.size
        x1, y1 = x1 // _ALIGNMENT * _ALIGNMENT, y1 // _ALIGNMENT * _ALIGNMENT
        x2, y2 = min(x2 + x2 % 2, w), min(y2 + y2 % 2, h)
        return View(self._convert(x1, y1, x2, y2), (x1, y1), (1, 1))

    def shrink(self, out: U8) -> None:
        """Resize the planes, then convert."""
        h, w = out.shape[:2]
        yuv = cv2.merge([resized(plane, (h, w)) for plane in self._planes])
        rows = bgr_matrix(self._matrix, full=self._full)
        rows[:, 3] += np.float32(_SWSCALE_BIAS)
        made = cv2.transform(yuv, rows, dst=out)
        if made is not out:
            out[:] = made

    def grey(self, size: tuple[int, int]) -> U8:
        """Resize the brightness."""
        return np.asarray(cv2.resize(self._planes[0], size[::-1]), np.uint8)

    def equals(self, other: Pixels) -> bool:
        """Compare all planes, a few rows first."""
        if not isinstance(other, Planes) or self.size != other.size:
            return False
        if (self._matrix, self._full) != (other._matrix, other._full):
            return False
        pairs = list(zip(self._planes, other._planes, strict=True))
        return all(np.array_equal(a[::64], b[::64]) for a, b in pairs) and all(
            np.array_equal(a, b) for a, b in pairs
        )

    def _convert(self, x1: int, y1: int, x2: int, y2: int) -> U8:
        from av import VideoFrame

        part = VideoFrame(x2 - x1, y2 - y1, "yuv420p")
        for plane, values, shift in zip(part.planes, self._planes, (0, 1, 1), strict=True):
            cut = values[y1 >> shift : y2 >> shift, x1 >> shift : x2 >> shift]
            h, w = cut.shape
            stride = plane.line_size
            room = np.frombuffer(cast("Any", plane), np.uint8)[: h * stride].reshape(h, stride)
            room[:, :w] = cut
        return to_bgr(part, self._matrix, full=self._full)


class LetGo(Pixels):
    """What is left of a picture whose pixels are not needed any more: its size.

    Args:
        size: (h, w) in pixels.
    """

    def __init__(self, size: tuple[int, int]) -> None:
        self._size = size

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the picture in pixels."""
        return self._size

    def image(self) -> U8:
        """Fail; there is a mistake in the program, not in what it was given."""
        raise RuntimeError("this frame's pixels were let go after its faces had been cut out")

    def view(self, box: tuple[int, int, int, int], scale: float) -> View:
        """Fail likewise."""
        raise RuntimeError(f"no pixels are left for {box} at {scale:g}")

    def shrink(self, out: U8) -> None:
        """Fail likewise."""
        raise RuntimeError(f"no pixels are left for a picture of {out.shape}")

    def grey(self, size: tuple[int, int]) -> U8:
        """Fail likewise."""
        raise RuntimeError(f"no pixels are left for a picture of {size}")


def shrink(frame: Frame, out: U8) -> None:
    """Write a frame, resized to the shape of `out`, (h, w, 3) uint8 BGR, into it."""
    with timed("convert"):
        if isinstance(frame.pixels, Pixels):
            frame.pixels.shrink(out)
            return
        made = resized(frame.pixels, out.shape[:2], out)
        if made is not out:  # OpenCV makes an array of its own where it cannot write to `dst`
            out[:] = made


def resized(image: U8, size: tuple[int, ...], out: U8 | None = None) -> U8:
    """Resize a picture to `size`, (h, w): halve it while it stays as large, then interpolate.

    Interpolation alone reads every third pixel of a picture three times as large, and none of those
    between them (docs/decisions/0023-halved-first.md).
    """
    h, w = size
    while len(image) >= 2 * h and image.shape[1] >= 2 * w:
        image = halved(image)
    return np.asarray(cv2.resize(image, (w, h), dst=out), np.uint8)


def halved(image: U8) -> U8:
    """Give the means over 2 x 2 pixels, or over a little more where a side is odd."""
    half = image.shape[1] // 2, len(image) // 2
    return np.asarray(cv2.resize(image, half, interpolation=cv2.INTER_AREA), np.uint8)


def grey(frame: Frame, size: tuple[int, int]) -> U8:
    """Give a frame's brightness, resized to `size`: (h, w) uint8."""
    if isinstance(frame.pixels, Pixels):
        return frame.pixels.grey(size)
    small = cv2.resize(frame.pixels, size[::-1])
    return np.asarray(cv2.cvtColor(small, cv2.COLOR_BGR2GRAY), np.uint8)


def same(a: Frame, b: Frame) -> bool:
    """Tell whether two frames show exactly the same pixels."""
    if isinstance(a.pixels, Pixels) or isinstance(b.pixels, Pixels):
        return (
            isinstance(a.pixels, Pixels)
            and isinstance(b.pixels, Pixels)
            and a.pixels.equals(b.pixels)
        )
    return np.array_equal(a.pixels[:1], b.pixels[:1]) and np.array_equal(a.pixels, b.pixels)
