"""The pictures that detectors are evaluated on: annotated, blurred on purpose, without faces."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from blurgate.errors import InputError
from blurgate.evaluation.detection import LEAST_PX, Truth
from blurgate.geometry import ARCFACE_TEMPLATE, align_faces, shorter_sides, similarity
from blurgate.host import get_host
from blurgate.io.images import read_image
from blurgate.io.sources import expand
from blurgate.training.labels import Labeller, labels_of
from blurgate.training.streams import Streams

if TYPE_CHECKING:
    from blurgate.interfaces import Embedder
    from blurgate.training.detection.annotations import Annotated
    from blurgate.types import F32, U8

BLUR: Final = "random"
"""The synthesizer that pictures are blurred with: one of the others, drawn for each picture."""


def annotated_pictures(pictures: Sequence[Annotated]) -> Iterator[tuple[U8, Truth]]:
    """Read annotated pictures."""
    for annotated in pictures:
        truth = Truth(annotated.name, annotated.boxes, annotated.kps, annotated.ignore)
        yield read_image(annotated.path), truth


def has_landmarks(annotated: Annotated) -> bool:
    """Tell whether a picture can be blurred and its faces' degrees measured."""
    return bool(_measurable(annotated).any())


def _measurable(annotated: Annotated) -> np.ndarray:
    known = np.isfinite(annotated.kps).all(axis=(1, 2)) & ~annotated.ignore
    measurable: np.ndarray = known & (shorter_sides(annotated.boxes) >= LEAST_PX)
    return measurable


def blurred_pictures(
    pictures: Sequence[Annotated], embedder: Embedder, *, per_picture: int, seed: int
) -> Iterator[tuple[U8, Truth]]:
    """Blur whole pictures, as a camera does, and measure how blurred that leaves each face.

    A picture is blurred in linear light, by lengths in pixels of the aligned crop of its largest
    face. A face's degree is 1 - cosine(embedding of the clean crop, embedding of the blurred one),
    both aligned by the annotated landmarks. Faces whose landmarks are not known, and those below
    `LEAST_PX`, are ignored.

    Args:
        pictures: Those that `has_landmarks` tells to have any.
        embedder: Measures.
        per_picture: Blurred pictures of each.
        seed: Decides the blurs.
    """
    embed = Labeller(embedder).embed
    blur = get_host().registry("synthesizer")[BLUR].make()
    for number, annotated in enumerate(pictures):
        image = read_image(annotated.path)
        faces = _measurable(annotated)
        kps = np.ascontiguousarray(annotated.kps[faces])
        clean = embed(align_faces(image, kps))
        largest = int(np.argmax(np.where(faces, shorter_sides(annotated.boxes), 0)))
        px = _crop_px(annotated.kps[largest])
        indices = range(number * per_picture, (number + 1) * per_picture)
        streams = Streams(seed, indices).fold("detection")
        severity = streams.uniform("severity", 0, 1).astype(np.float32)
        for i, row in enumerate(blur.sample(streams, severity)):
            blurred = blur.apply(image[None], [row], px=px)[0]
            degrees = np.full(len(faces), np.nan, np.float32)
            degrees[faces] = labels_of(clean, embed(align_faces(blurred, kps)))
            name = f"{annotated.name} ({row['method']} {i + 1})"
            yield blurred, Truth(name, annotated.boxes, annotated.kps, ~faces, degrees)


def _crop_px(kps: F32) -> float:
    """Give the pixels of a picture per pixel of a face's 112 px crop."""
    return float(1 / np.hypot(*similarity(kps, ARCFACE_TEMPLATE)[:, 0]))


def negatives_in(folders: Sequence[str]) -> list[Path]:
    """List the pictures of folders.

    Raises:
        InputError: There are none.
    """
    found = [Path(s.name) for s in expand(folders) if s.kind == "image"] if folders else []
    if folders and not found:
        raise InputError(f"there are no pictures in {', '.join(folders)}")
    return found


def negative_pictures(paths: Sequence[Path]) -> Iterator[tuple[U8, Truth]]:
    """Read pictures without faces."""
    for path in paths:
        nothing = np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32)
        yield read_image(path), Truth(str(path), *nothing, np.empty(0, np.bool_))
