"""The pictures that training samples are composed of, kept in memory as they are needed."""

from __future__ import annotations

import math
import threading
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from blurgate.errors import BlurgateError, ConfigError, InputError
from blurgate.geometry import area
from blurgate.io.images import read_image
from blurgate.io.sources import expand
from blurgate.pipeline import ordered_map
from blurgate.pixels import halved
from blurgate.training.detection.annotations import Annotated, read_annotations

if TYPE_CHECKING:
    from numpy.random import Generator

    from blurgate.types import U8

CACHE_MIB: Final = 3072
"""Decoded pictures are kept up to this many MiB; the others are decoded again each time."""
LONGEST: Final = 640
"""Longer side of a kept picture: samples are at most that large, and far smaller as a rule."""

LEAST_PX: Final = 7.0
"""Faces with a shorter side than this in a sample are ignored."""
LEAST_VISIBLE: Final = 0.45
"""Share of a face's box that must lie in the picture, and not under another, for it to count."""
_LEAST_LEVEL: Final = 32
_ROOM: Final = 64.0  # a picture as many times larger than its one face is always drawn
_LEAST_ROOM: Final = 0.03  # of pictures that show little but a face such a share is drawn
_TRIES: Final = 60


@dataclass(frozen=True, slots=True, eq=False)
class Picture:
    """A decoded picture with its faces in its pixels."""

    image: U8
    faces: Annotated
    smaller: tuple[U8, ...] = ()
    """The image at a half, a quarter and so on, down to some 32 pixels: starting from these makes
    shrinking many times faster."""

    def level(self, scale: float) -> U8:
        """Give the smallest of the images that is no smaller than `scale` times the first."""
        at = max(int(-math.log2(max(scale, 1e-6))), 0)
        return (self.image, *self.smaller)[min(at, len(self.smaller))]


class Pictures:
    """Annotated pictures, by position.

    Safe to call from several threads at once, and from other processes, which see the same pixels
    once `share` has put them into a file.

    Args:
        annotated: The pictures; those larger than `LONGEST` are shrunk to it when read.
        cache_mib: Memory for decoded pictures.

    Raises:
        ConfigError: There are none.
    """

    def __init__(self, annotated: Sequence[Annotated], *, cache_mib: int = CACHE_MIB) -> None:
        if not annotated:
            raise ConfigError("there are no pictures to compose samples of")
        self._annotated = list(annotated)
        self._kept: dict[int, Picture] = {}
        self._left = cache_mib << 20
        self._lock = threading.Lock()
        self._file: Path | None = None
        self._stored: dict[int, tuple[Annotated, int, list[tuple[int, ...]]]] = {}
        self._pixels: U8 | None = None

    def __len__(self) -> int:
        """Number of pictures."""
        return len(self._annotated)

    def __getitem__(self, index: int) -> Picture:
        """Give a picture; its pixels are shared, so they are not to be written to.

        Raises:
            DecodeError: Its file cannot be read.
        """
        kept = self._kept.get(index)
        if kept is not None:
            return kept
        if index in self._stored:
            return self._mapped(index)
        picture = _shrunk(self._annotated[index])
        picture.image.setflags(write=False)
        size = picture.image.nbytes * 4 // 3
        with self._lock:
            if index not in self._kept and size <= self._left:
                self._left -= size
                self._kept[index] = picture
        return picture

    def draw(self, rng: Generator, *, roomy: bool = False) -> tuple[Picture, int]:
        """Draw a picture and give it with its largest face.

        Where it is to be roomy, pictures with more faces and more around them are drawn more often.

        Raises:
            InputError: No face lies inside its picture.
        """
        found = None
        for _ in range(_TRIES):
            picture = self[int(rng.integers(len(self)))]
            faces = picture.faces
            if faces.ignore.all():  # none is left where all are cut by the border
                continue
            sides = area(faces.boxes)
            face = int(np.where(faces.ignore, 0, sides).argmax())
            found = picture, face
            h, w = picture.image.shape[:2]
            n = int((~faces.ignore).sum())
            room = float(n**2 * h * w / max(sides[face], 1.0)) / _ROOM
            if not roomy or rng.random() < max(room, _LEAST_ROOM):
                return found
        if found is None:
            raise InputError("hardly any face lies inside its picture: the boxes are wrong")
        return found

    def share(self, file: Path, *, workers: int = 1) -> None:
        """Decode what there is memory for into a file that is mapped and not read.

        However many processes use these pictures, their pixels then lie in memory once.

        Args:
            file: Written. Where files that are open can be removed, it may go once every process
                has these pictures.
            workers: Threads that decode.

        Raises:
            ConfigError: There is no room for the file.
            DecodeError: A picture cannot be read.
        """
        at = 0
        with closing(ordered_map(_shrunk, self._annotated, workers)) as decoded:
            try:
                with file.open("wb") as out:
                    for index, picture in enumerate(decoded):
                        levels = [picture.image, *picture.smaller]
                        size = sum(level.nbytes for level in levels)
                        if at + size > self._left:
                            break
                        for level in levels:
                            out.write(np.ascontiguousarray(level).data)
                        self._stored[index] = picture.faces, at, [x.shape for x in levels]
                        at += size
            except BlurgateError:
                raise
            except OSError as error:
                raise ConfigError(
                    f"{file.parent} has no room for {self._left >> 20} MB of decoded photos "
                    f"({error.strerror}): set TMPDIR to another folder, or use --workers 1"
                ) from error
        self._file, self._left = file if at else None, 0
        self._kept.clear()
        self._map()

    def unshare(self) -> None:
        """Let go of the file of `share`: while it is mapped here, Windows does not remove it.

        Pictures are decoded from then on each time they are asked for.
        """
        self._file, self._pixels = None, None
        self._stored.clear()

    def _map(self) -> None:
        if self._file is not None:
            self._pixels = np.memmap(self._file, np.uint8, "r")

    def _mapped(self, index: int) -> Picture:
        assert self._pixels is not None
        faces, at, shapes = self._stored[index]
        levels = []
        for shape in shapes:
            size = math.prod(shape)
            levels.append(np.asarray(self._pixels[at : at + size]).reshape(shape))
            at += size
        return Picture(levels[0], faces, tuple(levels[1:]))

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return self.__dict__ | {"_lock": None, "_kept": {}, "_pixels": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Begin with nothing decoded, and the shared file mapped: it may be removed soon."""
        self.__dict__.update(state | {"_lock": threading.Lock()})
        self._map()


def _shrunk(annotated: Annotated) -> Picture:
    image = read_image(annotated.path)
    h, w = image.shape[:2]
    scale = min(LONGEST / max(h, w), 1.0)
    size = max(round(w * scale), 1), max(round(h * scale), 1)
    if scale < 1:
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    ratio = np.array([size[0] / w, size[1] / h], np.float32)
    boxes = annotated.boxes * np.tile(ratio, 2)
    # What lies outside the picture cannot be pasted: a box is that of what is seen.
    inside = np.clip(boxes, 0, np.tile(np.array(size, np.float32), 2))
    share = area(inside) / np.maximum(area(boxes), 1e-6)
    seen = share > 0.02
    faces = Annotated(
        annotated.path,
        annotated.name,
        inside[seen],
        (annotated.kps * ratio)[seen],
        (annotated.ignore | (share < LEAST_VISIBLE))[seen],
    )
    return Picture(image, faces, _halves(image))


def _halves(image: U8) -> tuple[U8, ...]:
    levels = []
    while min(image.shape[:2]) >= 2 * _LEAST_LEVEL:
        image = halved(image)
        levels.append(image)
    return tuple(levels)


def annotated_in(folders: Sequence[Path | str]) -> list[Annotated]:
    """Read the annotations of several folders; see `read_annotations`."""
    return [picture for folder in folders for picture in read_annotations(folder)]


def backgrounds_in(folders: Sequence[Path | str]) -> list[Annotated]:
    """Find the pictures below folders that show no faces.

    Raises:
        InputError: A folder holds no picture.
    """
    found = []
    for folder in folders:
        names = [source.name for source in expand([str(folder)]) if source.kind == "image"]
        if not names:
            raise InputError(f"{folder} holds no pictures", source=str(folder))
        found += [
            Annotated(
                Path(name),
                name,
                np.empty((0, 4), np.float32),
                np.empty((0, 5, 2), np.float32),
                np.empty(0, np.bool_),
            )
            for name in sorted(names)
        ]
    return found
