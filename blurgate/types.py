"""The values that travel through the pipeline, one way.

    Frame -> Detections -> FaceBatch -> ScoredFaces -> RoutedFaces (one Verdict per face)

Each value is complete when it exists and holds the value it was made from; nothing is written back
into an earlier one. `SourceEnd` travels the same way, in order, after a source's last frame.

Conventions: images are BGR uint8 of shape (H, W, 3); sizes are (h, w), points (x, y), boxes
x1 y1 x2 y2 in float pixels of the frame, not clipped; the centre of the top-left pixel is (0, 0).
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from blurgate.errors import ShapeError

U8: TypeAlias = NDArray[np.uint8]
F32: TypeAlias = NDArray[np.float32]
F64: TypeAlias = NDArray[np.float64]
Decision: TypeAlias = Literal["keep", "review", "reject"]
Reason: TypeAlias = Literal["", "blur", "too_small", "not_best_shot"]
Status: TypeAlias = Literal["ok", "partial", "failed"]


class BlurKind(NamedTuple):
    """What kind of blur a face has."""

    kind: str
    """sharp, motion, defocus or lowres."""
    angle: float | None
    """Direction of a motion in degrees, 0 to 180, counter-clockwise from the horizontal as seen: of
    the crop where a scorer gives it, of the picture in `ScoredFaces`. None for the other kinds."""


CROP_SIZE = 112
"""Side of an aligned crop in pixels: the ArcFace template."""


def check_array(name: str, array: Any, shape: tuple[int | None, ...], dtype: str) -> None:
    """Raise `ShapeError` unless `array` has `dtype` and `shape` (None: any length)."""
    got = getattr(array, "shape", None)
    if got is None:
        raise ShapeError(f"{name} must be a NumPy array, got {type(array).__name__}")
    fits = len(got) == len(shape) and all(
        want is None or want == have for want, have in zip(shape, got, strict=True)
    )
    if not fits or array.dtype != np.dtype(dtype):  # comparing names would take ten times as long
        wanted = ", ".join("n" if n is None else str(n) for n in shape)
        raise ShapeError(f"{name} must be {dtype} of shape ({wanted}), got {array.dtype} of {got}")


class View(NamedTuple):
    """Pixels around a part of a picture, and where they lie in it."""

    image: U8
    """(h, w, 3) uint8 BGR."""
    origin: tuple[float, float]
    """Where the centre of `image`'s top-left pixel lies in the picture, (x, y)."""
    step: tuple[float, float]
    """How far apart neighbouring pixels of `image` lie in the picture, (x, y); 1, 1: its own."""


class Pixels(ABC):
    """A picture whose pixels are made where they are asked for.

    Everything made is a function of the stored picture alone, and may be asked for from several
    threads at once.
    """

    @property
    @abstractmethod
    def size(self) -> tuple[int, int]:
        """(h, w) of the upright picture in pixels."""

    @abstractmethod
    def image(self) -> U8:
        """Make the whole picture: (h, w, 3) uint8 BGR, contiguous and writable."""

    @abstractmethod
    def view(self, box: tuple[int, int, int, int], scale: float) -> View:
        """Make the pixels of a part.

        Args:
            box: x1 y1 x2 y2 in whole pixels of the picture, not empty and inside it.
            scale: How many pixels will be made of each pixel of the picture, along a side; where
                it is small enough, a coarser picture may be given.
        """

    @abstractmethod
    def shrink(self, out: U8) -> None:
        """Write the whole picture, resized to the shape of `out`, (h, w, 3) uint8 BGR, into it."""

    @abstractmethod
    def grey(self, size: tuple[int, int]) -> U8:
        """Make the brightness of the whole picture, resized to `size`: (h, w) uint8."""

    def equals(self, other: Pixels) -> bool:
        """Tell whether both are made of the same stored values; False where that is not known."""
        del other
        return False


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Frame:
    """One picture of a source.

    Raises:
        ShapeError: It is no (H, W, 3) uint8 array.

    >>> Frame(np.zeros((1080, 1920, 3), np.uint8), "clip.mp4", index=50, pts_s=2.0)
    Frame('clip.mp4', index=50, pts_s=2.0, 1080x1920)
    """

    pixels: U8 | Pixels
    """(H, W, 3) uint8 BGR, upright: container or EXIF rotation is already applied. Or what such a
    picture is made of when it is asked for."""
    source: str
    """The path or address it came from, as the user gave it."""
    index: int
    """Position in presentation order, from 0; an image is frame 0 of itself."""
    pts_s: float | None
    """Presentation time in seconds from the container; None where there is none (images)."""
    _made: list[U8] = field(default_factory=list, init=False)

    def __post_init__(self) -> None:
        """Check the image's shape and dtype."""
        if not isinstance(self.pixels, Pixels):
            check_array("image", self.pixels, (None, None, 3), "uint8")

    @property
    def image(self) -> U8:
        """(H, W, 3) uint8 BGR, upright; made at the first call where `pixels` is no array."""
        if not isinstance(self.pixels, Pixels):
            return self.pixels
        if not self._made:  # two threads may both make it: the pictures are equal
            self._made.append(self.pixels.image())
        return self._made[0]

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) in pixels."""
        if isinstance(self.pixels, Pixels):
            return self.pixels.size
        return self.pixels.shape[0], self.pixels.shape[1]

    def __repr__(self) -> str:
        h, w = self.size
        return f"Frame({self.source!r}, index={self.index}, pts_s={self.pts_s}, {h}x{w})"


@dataclass(frozen=True, slots=True, eq=False)
class SourceEnd:
    """Follows the last frame of a source through every stage: the source is complete."""

    source: str
    status: Status
    frames: int
    """Frames that were decoded, those skipped by `--every` included."""
    frames_failed: int
    """Frames that the container holds and that could not be decoded."""
    error: str = ""
    """One line for the user; empty when all went well."""
    frames_dropped: int | None = None
    """Of `frames`, those that a live source sent faster than they could be looked at; None for
    sources that wait."""
    reconnects: int = 0
    """How often a live source was lost and came back."""


@dataclass(frozen=True, slots=True, eq=False)
class Detections:
    """The faces of one frame. No faces (n = 0) is ordinary.

    Those that a detector found come highest score first, those that were given in their order.

    Raises:
        ShapeError: An array has another shape, length or dtype, or holds what is no finite number.
    """

    frame: Frame
    boxes: F32
    """(n, 4) float32 x1 y1 x2 y2 in pixels of the frame."""
    det_scores: F32
    """(n,) float32 detector confidence in [0, 1]."""
    kps: F32
    """(n, 5, 2) float32 xy: left eye, right eye, nose, left and right mouth corner as seen."""

    def __post_init__(self) -> None:
        """Check shapes, dtypes and values, and that the lengths agree."""
        check_array("det_scores", self.det_scores, (None,), "float32")
        n = len(self.det_scores)
        check_array("boxes", self.boxes, (n, 4), "float32")
        check_array("kps", self.kps, (n, 5, 2), "float32")
        for name in ("det_scores", "boxes", "kps"):
            if not np.isfinite(getattr(self, name)).all():
                raise ShapeError(f"{name} must be finite numbers; leave such faces out")

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.det_scores)

    def __repr__(self) -> str:
        return f"Detections(n={len(self)}, {self.frame!r})"


@dataclass(frozen=True, slots=True)
class Tracks:
    """Who the faces of one frame of a video are."""

    ids: tuple[int, ...]
    """The track of each face, from 1 in the order of appearance within the source."""
    ended: tuple[int, ...] = ()
    """Tracks that were alive in the frame before and will not be seen again."""


@dataclass(frozen=True, slots=True, eq=False)
class FaceBatch:
    """The aligned faces of one frame.

    Raises:
        ShapeError: The crops have another shape or dtype, or there is not one, or not one track,
            per face.
    """

    detections: Detections
    crops: U8
    """(n, 112, 112, 3) uint8 BGR on the ArcFace template."""
    tracks: Tracks | None = None
    """None when faces are not tracked, as in pictures."""

    def __post_init__(self) -> None:
        """Check that there is one crop, and one track if there are any, per face."""
        check_array("crops", self.crops, (len(self.detections), CROP_SIZE, CROP_SIZE, 3), "uint8")
        if self.tracks is not None and len(self.tracks.ids) != len(self.detections):
            raise ShapeError(f"{len(self.tracks.ids)} tracks for {len(self.detections)} faces")

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.crops)

    def __repr__(self) -> str:
        return f"FaceBatch(n={len(self)}, {self.detections.frame!r})"


def check_degrees(degrees: Any, n: int, model: str) -> None:
    """Raise `ShapeError`, which names the model, unless `degrees` are (n,) float32 in [0, 1]."""
    check_array("blur_degree", degrees, (n,), "float32")
    if not bool(((degrees >= 0) & (degrees <= 1)).all()):
        raise ShapeError(f"{model} gave blur degrees outside [0, 1]: {degrees}")


@dataclass(frozen=True, slots=True, eq=False)
class ScoredFaces:
    """The aligned faces of one frame with their blur degrees.

    Raises:
        ShapeError: There is not one degree, or not one kind, per face, or a degree is outside
            [0, 1], or an angle is no finite number.
    """

    faces: FaceBatch
    blur_degree: F32
    """(n,) float32 in [0, 1]: 0 sharp, 1 unusable."""
    model: str
    """Who scored: "name@sha256[:12]", or the bare name of a scorer that has no weights."""
    kinds: tuple[BlurKind, ...] | None = None
    """The kinds of blur, one per face; None when they were not asked for."""

    def __post_init__(self) -> None:
        """Check the lengths, that every degree is in [0, 1], and that every angle is a number."""
        check_degrees(self.blur_degree, len(self.faces), self.model)
        if self.kinds is None:
            return
        if len(self.kinds) != len(self.faces):
            raise ShapeError(f"{len(self.kinds)} kinds of blur for {len(self.faces)} faces")
        for kind in self.kinds:
            if not isinstance(kind, BlurKind):
                raise ShapeError(f"{type(kind).__name__} and not BlurKind for a face")
            if kind.angle is not None and not math.isfinite(kind.angle):
                raise ShapeError(f"an angle of {kind.angle}; None where there is none")

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.blur_degree)

    def __repr__(self) -> str:
        return f"ScoredFaces(n={len(self)}, model={self.model!r})"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was decided about one face. Plain scalars only, so that it can be stored anywhere."""

    source: str
    frame_index: int
    pts_s: float | None
    face_index: int
    """Position among the frame's faces, from 0: highest detector score first, or as given."""
    track: int | None
    """Identity over frames within the source; None when faces are not tracked."""
    box: tuple[float, float, float, float]
    """x1 y1 x2 y2 in pixels of the frame."""
    det_score: float
    face_px: float
    """The box's shorter side in pixels."""
    blur_degree: float
    """In [0, 1]: 0 sharp, 1 unusable."""
    threshold: float
    decision: Decision
    reason: Reason
    """Why the face was not simply kept; empty for kept ones."""
    model: str
    blur_kind: BlurKind | None = None
    """The kind of blur; None when it was not asked for."""


@dataclass(frozen=True, slots=True, eq=False)
class RoutedFaces:
    """The faces of one frame with what was decided about each.

    Raises:
        ShapeError: There is not one verdict per face.
    """

    scored: ScoredFaces
    verdicts: tuple[Verdict, ...]

    def __post_init__(self) -> None:
        """Check that there is one verdict per face."""
        if len(self.verdicts) != len(self.scored):
            raise ShapeError(f"{len(self.verdicts)} verdicts for {len(self.scored)} faces")

    @property
    def frame(self) -> Frame:
        """The frame that the faces are in."""
        return self.scored.faces.detections.frame

    def __len__(self) -> int:
        """Number of faces."""
        return len(self.verdicts)


T = TypeVar("T")
Stream: TypeAlias = Generator[T | SourceEnd, None, None]
"""What flows between two stages: values in order, each source closed by its `SourceEnd`.

A generator, so that a consumer who has had enough closes it, and with it the threads behind it.
"""
