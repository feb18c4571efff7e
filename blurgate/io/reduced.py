"""Large JPEG photos, decoded no finer than what is looked at needs.

A JPEG decoder can give a picture at a half, a quarter or an eighth of its size for a fraction of
the work. A detector looks at some 640 pixels, and a crop of 112 pixels of a large face needs no
more than every second or fourth pixel of a photo of 12 megapixels. The rule:

- The detector gets the coarsest picture that is not smaller than its input.
- A crop is cut out of the coarsest picture that it does not enlarge: of one at 1/r only if one
  pixel of the crop covers at least r pixels of the photo. So no crop is less sharp for it; large
  faces get smoother pixels than sampling the whole photo would give, because the decoder averages.
- Whoever asks for the whole picture gets it, decoded in full.
"""

from __future__ import annotations

import logging
import math
import threading
from typing import Final

import cv2
import numpy as np

from blurgate.errors import DecodeError
from blurgate.io.images import jpeg_reductions, read_image
from blurgate.io.remote import fetch, is_remote
from blurgate.pixels import resized
from blurgate.types import U8, Pixels, View

logger = logging.getLogger(__name__)

LEAST_SIDE: Final = 960
"""A photo is first read at the coarsest size whose longer side has at least this many pixels."""


def read_photo(name: str) -> U8 | Pixels:
    """Read a still picture; a large JPEG photo is read reduced, and finer when that is needed.

    Args:
        name: The file. It is read again where finer pixels are needed.

    Returns:
        (H, W, 3) uint8 BGR, upright, or something that makes parts of it.

    Raises:
        DecodeError: As `blurgate.io.images.read_image` does.
    """
    data = fetch(name) if is_remote(name) else None  # once, and kept while the photo is
    size, reductions = jpeg_reductions(name, data)
    fitting = [r for r in reductions if max(size) // r >= LEAST_SIDE]
    if not fitting:
        return read_image(name, data=data)
    coarsest = max(fitting)
    image = read_image(name, reduce=coarsest, data=data)
    whole = (image.shape[0] * coarsest, image.shape[1] * coarsest)
    return ReducedPhoto(name, whole, {coarsest: image}, (1, *fitting), data)


class ReducedPhoto(Pixels):
    """A photo of which a reduced picture has been read.

    Args:
        name: The file.
        size: (h, w) of the whole photo, upright.
        known: Reduction -> picture, (h / r, w / r, 3) uint8 BGR, upright; at least one.
        reductions: What the file can be read at; 1 among them.
        data: What is in the file; None to read it where it lies.
    """

    def __init__(
        self,
        name: str,
        size: tuple[int, int],
        known: dict[int, U8],
        reductions: tuple[int, ...],
        data: bytes | None = None,
    ) -> None:
        self._name = name
        self._data = data
        self._size = size
        self._known = dict(known)
        self._reductions = sorted(reductions, reverse=True)
        self._lock = threading.Lock()

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of the whole photo."""
        return self._size

    def image(self) -> U8:
        """Decode the whole photo."""
        reduction, image = self._at(1)
        if reduction == 1:
            return image
        return np.asarray(cv2.resize(image, self._size[::-1]), np.uint8)

    def view(self, box: tuple[int, int, int, int], scale: float) -> View:
        """Cut out of the coarsest picture of which no pixel is enlarged."""
        wanted = next((r for r in self._reductions if scale * r <= 1), 1)
        r, image = self._at(wanted)
        middle = (r - 1) / 2  # a pixel of the reduced picture stands for r x r
        x1, y1 = (max(math.floor((low - middle) / r), 0) for low in box[:2])
        x2, y2 = (math.ceil((high - 1 - middle) / r) + 1 for high in box[2:])
        part = image[y1:y2, x1:x2]  # its outermost centres surround those of the box
        return View(part, (x1 * r + middle, y1 * r + middle), (r, r))

    def shrink(self, out: U8) -> None:
        """Resize the coarsest picture that is not smaller than `out`."""
        out[:] = self._resized(out.shape[:2])

    def grey(self, size: tuple[int, int]) -> U8:
        """Resize likewise."""
        return np.asarray(cv2.cvtColor(self._resized(size), cv2.COLOR_BGR2GRAY), np.uint8)

    def _resized(self, size: tuple[int, int]) -> U8:
        wanted = next((r for r in self._reductions if self._size[0] // r >= size[0]), 1)
        return resized(self._at(wanted)[1], size)

    def _at(self, wanted: int) -> tuple[int, U8]:
        """Give the picture at a reduction, reading the file again if need be.

        A file that has gone or changed meanwhile must not end a run: the picture that was read
        stands in, with a warning.
        """
        with self._lock:
            if wanted not in self._known:
                try:
                    image = read_image(self._name, reduce=wanted, data=self._data)
                    if image.shape[:2] != (self._size[0] // wanted, self._size[1] // wanted):
                        raise DecodeError(f"{self._name} has changed", source=self._name)
                    self._known[wanted] = image
                except DecodeError as error:
                    logger.warning("a reduced picture is used: %s", error)
                    wanted = min(self._known)
            return wanted, self._known[wanted]
