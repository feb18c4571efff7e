"""Training samples for a face detector, composed of photos with labels.

Five kinds of samples are made, each from the generator of (seed, epoch, index) alone:

- scene: faces pasted with soft masks onto a background, scattered or in rows, at sizes spread
  over the octaves, the lower ones more often (most faces of a crowd are small, and they are the
  hard ones); turned, mirrored, hidden in part, each with a tone and a blur of its own.
  Things that are no faces are pasted in the same way, so that an edge of a mask tells nothing.
- crowd: people behind one another, with shoulders; see `blurgate.training.detection.crowd`.
- photo: one photo as a whole, enlarged, shrunk and cut by the border. Like mosaics it prefers
  photos that show several faces, or a face with its surroundings: from pasted faces alone a network
  learns nothing of people behind others, in profile, half out of the picture, nor of hands, necks
  and letters, which it then takes for faces.
- mosaic: a grid of 2 x 2 to 10 x 10 photos, which shows many faces of like size at once, as groups
  do (after the mosaic of YOLOv4, Bochkovskiy et al., 2020).
- nothing: no face at all.

A share of the samples is then blurred as a whole, and all go through `augment.Finish`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import cv2
import numpy as np

from blurgate.errors import ConfigError
from blurgate.geometry import covered
from blurgate.training.detection.annotations import Annotated
from blurgate.training.detection.augment import (
    Finish,
    Kernel,
    coarser,
    convolved,
    kernel_bank,
    saturated,
    toned,
)
from blurgate.training.detection.backdrops import Backdrops
from blurgate.training.detection.crowd import (
    AWAY,
    Layers,
    bust,
    dressed,
    head_from_behind,
    people,
)
from blurgate.training.detection.framing import angle, cut, stretched
from blurgate.training.detection.occlude import occluded
from blurgate.training.detection.paste import (
    Faces,
    Placing,
    crop_px,
    paste,
    seen,
    smear,
)
from blurgate.training.detection.pictures import LEAST_PX, Picture, Pictures
from blurgate.training.detection.samples import Sample
from blurgate.training.detection.scene_layout import (
    MAX_FACES,
    ORDINARY,
    SMALLEST,
    cells,
    close_mix,
    rows,
)

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from blurgate.types import F32, U8

_NOWHERE: Final = Path()


class Composed:
    """Samples composed of photos; see `blurgate.training.detection.samples.Samples`.

    Safe to call from several threads at once. Photos are decoded when they are first needed and
    kept in memory.

    Args:
        photos: Pictures with faces; pictures without faces among them become backgrounds.
        backgrounds: Pictures without faces.
        size: Side of the samples in pixels.
        length: Samples per epoch; 0: as many as photos.
        seed: Any integer from 0.

    Raises:
        ConfigError: No photo shows a face that is not ignored, or a number is impossible.
    """

    def __init__(
        self,
        photos: Sequence[Annotated],
        backgrounds: Sequence[Annotated] = (),
        *,
        size: int = 320,
        length: int = 0,
        seed: int = 0,
    ) -> None:
        if not 64 <= size <= 1024 or length < 0 or seed < 0:
            raise ConfigError(
                f"samples are of 64 to 1024 pixels, not {size}; {length} samples and seed {seed} "
                "cannot be below 0"
            )
        shown = [photo for photo in photos if not photo.ignore.all()]
        if not shown:
            raise ConfigError(
                "none of the annotated pictures shows a face: there is nothing to learn"
            )
        empty = [*backgrounds, *(photo for photo in photos if not len(photo))]
        self._photos = Pictures(shown)
        self._empty = Pictures(empty) if empty else None
        self._backdrops = Backdrops(self._empty, self._photos, size)
        self._size, self._seed = size, seed
        self._length = length or len(shown)
        self._bank: tuple[Kernel, ...] = kernel_bank(seed)
        self._finish = Finish(seed)
        self._mix = ORDINARY

    def close(self, size: int) -> Composed:
        """Give samples of the same photos with another side, in which most faces are large.

        Photos, backgrounds and their memory are shared. Without such samples a detector never
        learns a face that fills a picture larger than its training samples.

        Raises:
            ConfigError: The side is impossible.
        """
        if not 64 <= size <= 1024:
            raise ConfigError(f"samples are of 64 to 1024 pixels, not {size}")
        other = copy(self)
        other._backdrops = Backdrops(self._empty, self._photos, size)
        other._size, other._mix = size, close_mix(size)
        return other

    def share(self, folder: Path, *, workers: int = 1) -> None:
        """Decode the photos into files of a folder, for other processes; see `Pictures.share`."""
        for name, pictures in (("photos", self._photos), ("backgrounds", self._empty)):
            if pictures is not None:
                pictures.share(folder / name, workers=workers)

    def unshare(self) -> None:
        """Let go of these files; see `Pictures.unshare`."""
        for pictures in (self._photos, self._empty):
            if pictures is not None:
                pictures.unshare()

    def __len__(self) -> int:
        """Samples in one epoch."""
        return self._length

    def sample(self, epoch: int, index: int) -> Sample:
        """Compose one sample; see `Samples.sample`."""
        if not 0 <= index < self._length:
            raise IndexError(f"there are {self._length} samples in an epoch, not {index + 1}")
        rng = np.random.default_rng((self._seed, epoch, index))
        kind = rng.choice(list(self._mix.shares), p=list(self._mix.shares.values()))
        image, faces = {
            "scene": self._scene,
            "crowd": self._crowd,
            "photo": self._photo,
            "mosaic": self._mosaic,
            "nothing": self._nothing,
        }[str(kind)](rng)
        if rng.random() < 0.3:
            image = stretched(image, faces, rng)
        if len(faces) and rng.random() < 0.15:
            image = cut(image, faces, rng)
        if rng.random() < 0.2:
            image = self._blurred(image, faces, rng)
        image = self._finish(image, rng)
        faces = seen(faces, (0, 0, self._size, self._size))
        sides = faces.boxes[:, 2:] - faces.boxes[:, :2]
        ignore = faces.ignore | (sides.min(axis=1, initial=np.inf) < LEAST_PX)
        return Sample(np.ascontiguousarray(image), faces.boxes, faces.kps, ignore)

    # --- kinds

    def _scene(self, rng: Generator) -> tuple[U8, Faces]:
        canvas = self._backdrops(rng)
        if rng.random() < 0.4:
            self._distract(canvas, rng, int(rng.integers(1, 5)))
        if rng.random() < 0.35:
            places = rows(self._size, rng)
        else:
            n = min(1 + int(rng.exponential(3.0)), MAX_FACES)
            span = math.log(self._size * 0.95 / self._mix.smallest)
            places = []
            for _ in range(n):
                size = self._mix.smallest * math.exp(span * rng.beta(1.0, self._mix.lean))
                x, y = (float(v) for v in rng.uniform(0, self._size, 2))
                places.append((size, x, y))
        wholly = rng.random()  # people are all cut alike in some scenes
        share = 1.0 if wholly < 0.3 else 0.0 if wholly < 0.5 else 0.5
        layers = Layers(self._size)
        taken: list[F32] = []
        for size, x, y in sorted(places, reverse=rng.random() < 0.3):
            box = np.array([x - size / 2, y - size / 2, x + size / 2, y + size / 2], np.float32)
            if taken and bool((covered(np.stack(taken), box[None]) > 0.3).any()):
                continue
            taken.append(box)
            picture, face = self._photos.draw(rng)
            placing = Placing(
                face, size, (x, y), angle(rng), bool(rng.random() < 0.5),
                "photo" if rng.random() < share else "ellipse",
                float(rng.uniform(0.02, 0.2)),
            )  # fmt: skip
            self._add(canvas, layers, picture, placing, rng)
        return canvas, layers.faces()

    def _crowd(self, rng: Generator) -> tuple[U8, Faces]:
        canvas = self._backdrops(rng)
        layers = Layers(self._size)
        for person in people(self._size, rng):
            soft = person.size * float(rng.uniform(0.02, 0.08))
            if rng.random() < AWAY:
                dressed(canvas, layers, person, self._backdrops.texture, rng, soft)
                head_from_behind(canvas, layers, person, rng, soft)
                continue
            picture, face = self._photos.draw(rng)
            points = bust(picture, face, rng) if rng.random() < 0.7 else None
            if points is None:
                dressed(canvas, layers, person, self._backdrops.texture, rng, soft)
            placing = Placing(
                face, person.size, (person.x, person.y), float(rng.normal(0, 6)),
                bool(rng.random() < 0.5), "ellipse", soft / person.size,
            )  # fmt: skip
            self._add(canvas, layers, picture, placing, rng, points)
        return canvas, layers.faces()

    def _photo(self, rng: Generator) -> tuple[U8, Faces]:
        canvas = self._backdrops(rng)
        picture, face = self._photos.draw(rng, roomy=True)
        least = self._mix.smallest_photo
        size = least * math.exp(math.log(self._size / least) * rng.random())
        x, y = (float(v) for v in rng.uniform(0.05, 0.95, 2) * self._size)
        if size > self._size / 2 and rng.random() < 0.7:  # large faces are rarely cut
            x, y = (float(v) for v in self._size / 2 + rng.normal(0, 0.12, 2) * self._size)
        mirror = bool(rng.random() < 0.5)
        placing = Placing(face, size, (x, y), angle(rng), mirror, "photo", 0.0)
        layers = Layers(self._size)
        self._add(canvas, layers, picture, placing, rng)
        return canvas, layers.faces()

    def _mosaic(self, rng: Generator) -> tuple[U8, Faces]:
        grid = int(rng.choice(self._mix.grids))
        canvas: U8 = np.empty((self._size, self._size, 3), np.uint8)
        edges = cells(self._size, grid, rng)
        empty = rng.choice((0.05, 0.3, 0.6))
        parts = []
        for y1, y2 in pairwise(edges):
            for x1, x2 in pairwise(edges):
                cell = canvas[y1:y2, x1:x2]
                if rng.random() < empty:
                    cell[:] = cv2.resize(self._backdrops.texture(rng), (x2 - x1, y2 - y1))
                    continue
                faces = self._cell(cell, rng)
                offset = np.array([x1, y1], np.float32)
                faces.boxes += np.tile(offset, 2)
                faces.kps += offset
                parts.append(faces)
        return canvas, Faces.together(parts)

    def _nothing(self, rng: Generator) -> tuple[U8, Faces]:
        canvas = self._backdrops(rng)
        if rng.random() < 0.5:
            self._distract(canvas, rng, int(rng.integers(1, 9)))
        return canvas, Faces.none()

    # --- parts

    def _add(
        self,
        canvas: U8,
        layers: Layers,
        picture: Picture,
        placing: Placing,
        rng: Generator,
        points: NDArray[np.float64] | None = None,
    ) -> None:
        """Paste a face over what is there."""
        kernel = None
        if rng.random() < 0.3:
            kernel = self._bank[int(rng.integers(len(self._bank)))]

        def change(patch: U8, local: Faces) -> U8:
            if rng.random() < 0.5:
                patch = toned(patch, rng, strength=0.6)
            if rng.random() < 0.1:
                patch = saturated(patch, 0.0)
            if rng.random() < 0.12:
                patch = coarser(patch, 1.2 * 2 ** rng.exponential(0.8), rng)
            if rng.random() < 0.25:
                patch = occluded(patch, local, placing.size, rng, self._backdrops.texture)
            return patch

        faces, outline = paste(
            canvas, picture, placing, rng, kernel=kernel, change=change, points=points
        )
        layers.put(outline, faces)

    def _cell(self, cell: U8, rng: Generator) -> Faces:
        """Fill a cell of a mosaic with a square of a photo around its largest face."""
        picture, face = self._photos.draw(rng, roomy=True)
        source = picture.faces
        h, w = picture.image.shape[:2]
        to_h, to_w = cell.shape[:2]
        share = rng.uniform(0.75, 1.0)
        ratio, reach = min(w / to_w, h / to_h) * share, 0.2
        middle = (source.boxes[face, :2] + source.boxes[face, 2:]) / 2
        if self._mix.fills is not None:
            side = float((source.boxes[face, 2:] - source.boxes[face, :2]).max())
            short = min(to_w, to_h)
            ratio = min(ratio, side / (short * rng.uniform(*self._mix.fills)))
            reach = max(0.0, 0.5 - side / (short * ratio) / 2)  # the face stays whole
        cut_w, cut_h = to_w * ratio, to_h * ratio
        x, y = (
            float(np.clip(at - long * rng.uniform(0.5 - reach, 0.5 + reach), 0, limit - long))
            for at, long, limit in zip(middle, (cut_w, cut_h), (w, h), strict=True)
        )
        level = picture.level(1 / ratio)
        down = np.array([level.shape[1] / w, level.shape[0] / h])
        left, top = int(x * down[0]), int(y * down[1])
        part = level[
            top : top + math.ceil(cut_h * down[1]), left : left + math.ceil(cut_w * down[0])
        ]
        patch = np.asarray(cv2.resize(part, (to_w, to_h)), np.uint8)
        cut = np.array([to_w / part.shape[1], to_h / part.shape[0]])
        scale, start = down * cut, np.array([left, top]) / down
        boxes = (source.boxes - np.tile(start, 2)) * np.tile(scale, 2)
        kps = (source.kps - start) * scale
        faces = Faces(boxes.astype(np.float32), kps.astype(np.float32), source.ignore.copy())
        if rng.random() < 0.5:
            patch = np.asarray(cv2.flip(patch, 1), np.uint8)
            faces = faces.moved(np.eye(2, 3), to_w)
        if rng.random() < 0.4:
            patch = toned(patch, rng, strength=0.6)
        if rng.random() < 0.1:
            size = float(np.sqrt((faces.boxes[face, 2:] - faces.boxes[face, :2]).prod()))
            patch = occluded(patch, faces[[face]], size, rng, self._backdrops.texture)
        if rng.random() < 0.2:
            kernel = self._bank[int(rng.integers(len(self._bank)))]
            size = float(np.sqrt((faces.boxes[face, 2:] - faces.boxes[face, :2]).prod()))
            weights = kernel.scaled(crop_px(size, faces.kps[face]))
            if weights is not None:
                patch = convolved(patch, weights)
                smear(faces, kernel, size)
        cell[:] = patch
        return seen(faces, (0, 0, to_w, to_h))

    def _blurred(self, image: U8, faces: Faces, rng: Generator) -> U8:
        """Blur a whole sample, as strongly as one of its faces bears."""
        sizes = np.sqrt(np.maximum((faces.boxes[:, 2:] - faces.boxes[:, :2]).prod(axis=1), 1))
        size = float(rng.choice(sizes)) if len(sizes) else float(rng.uniform(16, self._size / 2))
        kernel = self._bank[int(rng.integers(len(self._bank)))]
        px = crop_px(size, np.empty((0, 2), np.float32))
        weights = kernel.scaled(px)
        if weights is None:
            return image
        smear(faces, kernel, size)
        return convolved(image, weights)

    def _distract(self, canvas: U8, rng: Generator, n: int) -> None:
        """Paste things that are no faces, with the masks of faces."""
        for _ in range(n):
            image = self._backdrops.texture(rng)
            h, w = image.shape[:2]
            box = np.array([[0.2 * w, 0.15 * h, 0.8 * w, 0.85 * h]], np.float32)
            kps = np.full((1, 5, 2), np.nan, np.float32)
            thing = Picture(image, Annotated(_NOWHERE, "", box, kps, np.zeros(1, np.bool_)))
            size = math.exp(rng.uniform(math.log(SMALLEST), math.log(self._size * 0.7)))
            x, y = (float(v) for v in rng.uniform(0, self._size, 2))
            placing = Placing(
                0, size, (x, y), angle(rng), False,
                "ellipse" if rng.random() < 0.7 else "photo", float(rng.uniform(0.02, 0.2)),
            )  # fmt: skip
            paste(canvas, thing, placing, rng, change=lambda patch, _: toned(patch, rng))
