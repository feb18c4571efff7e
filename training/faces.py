"""The clean faces: finding their files, telling who they show, and cutting them out."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Final, Literal, TypeAlias, get_args

import cv2
import numpy as np

from blurgate.errors import ConfigError, DecodeError, InputError
from blurgate.geometry import ARCFACE_TEMPLATE, align_faces, similarity
from blurgate.io.images import read_image
from blurgate.io.sources import expand
from blurgate.io.text import digest, harmless, shown
from blurgate.training import layout
from blurgate.types import CROP_SIZE, Frame

if TYPE_CHECKING:
    from blurgate.interfaces import Detector
    from blurgate.training.config import Identity
    from blurgate.types import F32, U8

Pick: TypeAlias = Literal["largest", "central"]
"""Which face of a picture is meant: that with the largest box, or that whose box has most area less
twice the squared distance of its centre from the picture's (the rule of FaceNet's
alignment). Where a picture of several people is named after one, that is nearly always the one."""
SkipReason: TypeAlias = Literal["unreadable", "not_square", "no_face", "too_small"]
SKIP_REASONS: Final[tuple[str, ...]] = get_args(SkipReason)

LEAST_SIDE: Final = 56
"""A crop with fewer pixels a side in its source is no clean face: it is soft before any blur."""
SIDE_STEP: Final = 16
"""Working sizes are multiples of this, so that many faces share one and are worked on together."""
PADS: Final = (0.5, 1.5)
"""Borders, as shares of the longer side, with which a picture without a face is searched again:
detectors miss faces that fill the picture."""
_RETRY_PX: Final = 1280  # longer side of a picture before its borders; bounds the memory

_NUMBERED: Final = re.compile(r"(.+)_\d{4}")  # Ada_Lovelace_0002, as in LFW
_UNSAFE: Final = re.compile(r"[^A-Za-z0-9_-]+")


@dataclass(frozen=True, slots=True)
class Face:
    """One picture of one clean face."""

    position: int
    """Place in the sorted list of all pictures, from 0."""
    source: str
    """The path, as the user gave it or as a folder led to it."""
    identity: str
    """Who it shows, as far as the path tells."""
    is_val: bool = False

    @property
    def name(self) -> str:
        """A file name without ending; equal names in different folders give different ones."""
        stem = _UNSAFE.sub("_", PurePath(self.source.replace("\\", "/")).stem).lstrip("-")
        return f"{stem[:48] or 'face'}-{digest(self.source)}"


@dataclass(frozen=True, slots=True)
class Skipped:
    """A picture that gives no training data, and why."""

    source: str
    reason: SkipReason
    error: str
    """One line for the user."""


def list_faces(
    arguments: Sequence[str],
    *,
    identity: Identity = "auto",
    val: float = 0.0,
    seed: int = 0,
    stdin: Iterable[str] | None = None,
) -> list[Face]:
    """Find the pictures below some paths, sorted by path, each once.

    Args:
        arguments: What `blurgate.io.sources.expand` takes; videos in folders are passed over.
        identity: What tells who a picture shows. folder: the path of its folder below the argument;
            name: the file's name without `_0001` or the like at its end; file: every picture is
            another person; auto: folder for pictures in folders below an argument, else name where
            the name ends with an underscore and four digits, else file.
        val: Share of the identities that becomes the validation part.
        seed: Decides which identities these are.
        stdin: Where the paths come from when one of them is "-".

    Raises:
        InputError: A path does not exist, holds no picture, or is a video or stream.
        ConfigError: `val` is outside [0, 1), no identity is left for one of the parts, or a path is
            a folder of `blurgate synth`.
    """
    if not 0 <= val < 1:
        raise ConfigError(f"--val is a share from 0 to below 1, got {val:g}")
    for argument in arguments:
        if layout.is_dataset(Path(argument)):
            raise ConfigError(
                f"{shown(argument)} is a folder of blurgate synth, whose pictures are blurred; its "
                f"clean faces are in {shown(str(Path(argument, layout.CLEAN)))}"
            )
    found: dict[str, tuple[str, str]] = {}
    for argument in arguments:
        for source in _pictures(argument, stdin):
            person = _identity(source, argument, identity)
            found.setdefault(os.path.normpath(os.path.abspath(source)), (source, person))  # noqa: PTH100 - a million names
    listed = sorted(found.values())
    if not listed:
        raise InputError(f"there are no pictures in {', '.join(map(shown, arguments))}")
    apart = _validation({person for _, person in listed}, val, seed)
    faces = [Face(i, s, person, person in apart) for i, (s, person) in enumerate(listed)]
    if len({face.name for face in faces}) != len(
        faces
    ):  # 64 bits of SHA-256 and the stem are equal
        raise InputError("two pictures would be written under one name; rename one of them")
    return faces


def _pictures(argument: str, stdin: Iterable[str] | None) -> list[str]:
    sources = list(expand([argument], stdin=stdin))
    if len(sources) == 1 and sources[0].kind != "image":
        raise InputError(
            f"{shown(argument)} is a video or stream, and training data is made from pictures; "
            "cut faces out of it with: blurgate filter",
            source=argument,
        )
    pictures = [source.name for source in sources if source.kind == "image"]
    if not pictures:
        raise InputError(f"{shown(argument)} holds no pictures", source=argument)
    return pictures


def person_of(stem: str) -> str:
    """Give who a file's name names: what is before `_0002`, or all of it.

    >>> person_of("Ada_Lovelace_0002"), person_of("Ada")
    ('Ada_Lovelace', 'Ada')
    """
    numbered = _NUMBERED.fullmatch(stem)
    return numbered[1] if numbered else stem


def _identity(source: str, argument: str, how: Identity) -> str:
    path = PurePath(source)
    try:
        folder = path.parent.relative_to(argument).as_posix()
    except ValueError:  # of a pattern or a list
        folder = "."
    named = person_of(path.stem)
    if how == "folder" or (how == "auto" and folder != "."):
        person = folder
    elif how == "name" or (how == "auto" and named != path.stem):
        person = named
    else:
        person = f"{path.stem}-{digest(source)}"
    # A name may hold bytes that are not UTF-8; tables are UTF-8, and open in spreadsheets.
    return harmless(person).encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def _validation(identities: set[str], val: float, seed: int) -> set[str]:
    """Choose the identities of the validation part: those of the lowest digests."""
    if not val:
        return set()
    if len(identities) < 2:
        raise ConfigError(
            f"--val needs at least two identities and the paths tell {len(identities)}; "
            "see --identity"
        )
    count = min(max(round(val * len(identities)), 1), len(identities) - 1)
    return set(sorted(identities, key=lambda person: digest(f"{seed} {person}"))[:count])


def list_digest(faces: Iterable[Face]) -> str:
    """Give the SHA-256 in hex of which faces there are, who they show, and for which part."""
    listed = hashlib.sha256()
    for face in faces:
        line = f"{face.source}\0{face.identity}\0{face.is_val}\n"
        listed.update(line.encode("utf-8", "surrogateescape"))
    return listed.hexdigest()


@dataclass(frozen=True, slots=True)
class FaceReader:
    """Reads pictures and cuts the clean crops out of them.

    Safe to call from several threads at once if the detector is.

    Raises:
        ConfigError: The size is below 112.
    """

    size: int = 224
    """Largest side of a crop in pixels. A face that has fewer pixels in its picture gives a smaller
    crop, so that it is not enlarged; the least is 112."""
    detector: Detector | None = None
    """Finds the faces; one is cut out. None: pictures are crops on the ArcFace template."""
    detection: str = ""
    """How the detector was set, for the record."""
    pick: Pick = "largest"
    """Which face is cut out where a picture shows several."""

    def __post_init__(self) -> None:
        """Check the size."""
        if self.size < CROP_SIZE:
            raise ConfigError(f"--size is at least {CROP_SIZE} pixels, got {self.size}")

    def __call__(self, source: str) -> U8 | Skipped:
        """Read one picture.

        Returns:
            (s, s, 3) uint8 BGR, s from 112 to `size`, or why there is none.
        """
        found = self.with_side(source)
        return found if isinstance(found, Skipped) else found[0]

    def with_side(self, source: str) -> tuple[U8, float] | Skipped:
        """Read one picture likewise; gives how many pixels of it are along the crop's side, too."""
        try:
            image = read_image(source)
        except DecodeError as error:
            return Skipped(source, "unreadable", str(error))
        if self.detector is None:
            crop, native = self.ready(source, image), float(len(image))
        else:
            kps = find_face(self.detector, image, source, self.pick)
            if kps is None:
                return Skipped(source, "no_face", f"{shown(source)} shows no face")
            crop, native = self.aligned(source, image, kps), native_side(kps)
        return crop if isinstance(crop, Skipped) else (crop, native)

    def side(self, native: float) -> int:
        """Choose the side of a crop that has `native` pixels a side in its picture."""
        if native >= self.size:
            return self.size
        return max(int(native) // SIDE_STEP * SIDE_STEP, CROP_SIZE)

    def ready(self, source: str, image: U8) -> U8 | Skipped:
        """Bring a picture that is a crop already to its side."""
        h, w = image.shape[:2]
        if h != w:
            why = (
                f"{shown(source)} is {w}x{h} and not a square face crop; align photos with --align"
            )
            return Skipped(source, "not_square", why)
        if h < LEAST_SIDE:
            return _too_small(source, h)
        return resized(image, self.side(h))

    def aligned(self, source: str, image: U8, kps: F32) -> U8 | Skipped:
        """Cut the face with these landmarks, (5, 2) float32, out of its picture."""
        native = native_side(kps)
        if native < LEAST_SIDE:
            return _too_small(source, native)
        side = self.side(native)
        if side < native:  # warping skips pixels when it shrinks; a mean over areas does not
            h, w = image.shape[:2]
            small = max(round(h * side / native), 1), max(round(w * side / native), 1)
            image = np.asarray(
                cv2.resize(image, small[::-1], interpolation=cv2.INTER_AREA), np.uint8
            )
            ratio = np.array([small[1] / w, small[0] / h], np.float32)
            kps = (kps + np.float32(0.5)) * ratio - np.float32(0.5)
        # The template is scaled about the centre of the first pixel. Averaging by area, the last
        # step to 112 pixels, is about its corner: move the face by the difference.
        larger = similarity(kps, ARCFACE_TEMPLATE * np.float32(side / CROP_SIZE))
        shift = np.linalg.solve(larger[:, :2], np.full(2, (side / CROP_SIZE - 1) / 2))
        kps = (kps - shift).astype(np.float32)
        crop: U8 = align_faces(image, kps[None], size=side, border=cv2.BORDER_REFLECT)[0]
        return crop


def native_side(kps: F32) -> float:
    """Give how many pixels a side the 112 px crop of landmarks (5, 2) covers in its picture."""
    return CROP_SIZE / math.hypot(*similarity(kps, ARCFACE_TEMPLATE)[:, 0])


def resized(image: U8, side: int) -> U8:
    """Bring a square picture to a side in pixels: by area if it shrinks, else bilinearly."""
    if len(image) == side:
        return image
    how = cv2.INTER_AREA if len(image) > side else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (side, side), interpolation=how), np.uint8)


def find_face(detector: Detector, image: U8, source: str, pick: Pick) -> F32 | None:
    """Find the landmarks of one face, with borders around the picture if need be.

    Returns:
        (5, 2) float32 in pixels of the picture, or None where no face is found.
    """
    found = _picked(detector, image, source, pick)
    if found is not None:
        return found
    scale = min(1.0, _RETRY_PX / max(image.shape[:2]))
    if scale < 1:  # only faces that fill the picture are looked for
        h, w = image.shape[:2]
        small = max(round(w * scale), 1), max(round(h * scale), 1)
        image = np.asarray(cv2.resize(image, small, interpolation=cv2.INTER_AREA), np.uint8)
    for share in PADS:
        pad = round(share * max(image.shape[:2]))
        framed = cv2.copyMakeBorder(image, pad, pad, pad, pad, cv2.BORDER_CONSTANT)
        found = _picked(detector, np.asarray(framed, np.uint8), source, pick)
        if found is not None:
            kps: F32 = (found - np.float32(pad)) / np.float32(scale)
            return kps
    return None


def _picked(detector: Detector, image: U8, source: str, pick: Pick) -> F32 | None:
    (faces,) = detector([Frame(image, source, 0, None)])
    if not len(faces):
        return None
    boxes = faces.boxes.astype(np.float64)
    merit = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    if pick == "central":
        middle = np.array(image.shape[1::-1]) / 2
        merit -= 2 * (((boxes[:, 2:] + boxes[:, :2]) / 2 - middle) ** 2).sum(axis=1)
    kps: F32 = faces.kps[int(merit.argmax())]
    return kps


def _too_small(source: str, native: float) -> Skipped:
    why = f"{shown(source)}: the face has {native:.0f} pixels a side, {LEAST_SIDE} are needed"
    return Skipped(source, "too_small", why)
