"""Putting a photo's face into another picture, with its box and landmarks.

A face is moved by a similarity, perhaps mirrored. Its box is taken for that of an ellipse: turned
by an angle, the ellipse keeps its axes and the box becomes the box around the turned ellipse, as a
person would draw it; the box around the turned corners would grow with every turn.

Boxes and landmarks are measured from a picture's corner, so that they scale with its sides, as a
detector's finds do when it gives them back in the pixels of the whole picture. Outlines, and the
matrices that OpenCV warps by, count from the centre of the first pixel: half a pixel further.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import cv2
import numpy as np

from blurgate.geometry import area, covered
from blurgate.training.detection.augment import MAX_SPREAD, convolved, flipped
from blurgate.training.detection.pictures import LEAST_VISIBLE

if TYPE_CHECKING:
    from numpy.random import Generator
    from numpy.typing import NDArray

    from blurgate.training.detection.augment import Kernel
    from blurgate.training.detection.pictures import Picture
    from blurgate.types import F32, U8

EYES_PX: Final = 35.24
"""Distance of the eyes on the 112 px crop."""
EYES_SHARE: Final = 0.42
"""Distance of the eyes over the geometric mean of the box's sides; where no landmarks are known."""
_POINTS: Final = 28  # of a mask's outline
_CORNER: Final = np.array([0.5, 0.5])  # from a picture's corner to the centre of its first pixel


@dataclass(slots=True, eq=False)
class Faces:
    """The faces of a sample in the making, and what is seen of them."""

    boxes: F32
    """(n, 4) float32 xyxy, not clipped."""
    kps: F32
    """(n, 5, 2) float32; NaN where unknown."""
    ignore: NDArray[np.bool_]

    @staticmethod
    def none() -> Faces:
        """Give an empty list."""
        return Faces(
            np.empty((0, 4), np.float32), np.empty((0, 5, 2), np.float32), np.empty(0, np.bool_)
        )

    @staticmethod
    def together(parts: list[Faces]) -> Faces:
        """Put lists into one."""
        if not parts:
            return Faces.none()
        return Faces(
            np.concatenate([p.boxes for p in parts]),
            np.concatenate([p.kps for p in parts]),
            np.concatenate([p.ignore for p in parts]),
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, rows: Any) -> Faces:
        return Faces(self.boxes[rows], self.kps[rows], self.ignore[rows])

    def moved(self, matrix: NDArray[np.float64], width: int | None = None) -> Faces:
        """Map faces by a similarity, after mirroring them in a picture `width` wide if given.

        Args:
            matrix: (2, 3) as OpenCV warps by it: of the centres of pixels.
            width: Of the picture they come from.
        """
        boxes, kps = self.boxes.astype(np.float64), self.kps.astype(np.float64)
        if width is not None:
            boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
            kps = flipped(kps, width)
        turn = matrix[:, :2]
        shift = matrix[:, 2] + _CORNER - turn @ _CORNER
        centre = (boxes[:, :2] + boxes[:, 2:]) / 2 @ turn.T + shift
        # Half the extent of a turned ellipse along x and y.
        half = np.sqrt(((boxes[:, 2:] - boxes[:, :2]) / 2) ** 2 @ (turn**2).T)
        return Faces(
            np.concatenate([centre - half, centre + half], axis=1).astype(np.float32),
            (kps @ turn.T + shift).astype(np.float32),
            self.ignore.copy(),
        )


def seen(faces: Faces, window: tuple[float, float, float, float]) -> Faces:
    """Clip boxes to a window; faces of which too little is in it are ignored, or gone."""
    if not len(faces):
        return faces
    x1, y1, x2, y2 = window
    clipped = np.clip(
        faces.boxes, np.array([x1, y1, x1, y1], np.float32), np.array([x2, y2, x2, y2], np.float32)
    )
    share = area(clipped) / np.maximum(area(faces.boxes), 1e-6)
    keep = share > 0.02
    ignore = faces.ignore | (share < LEAST_VISIBLE)
    return Faces(clipped.astype(np.float32), faces.kps, ignore)[keep]


def smear(faces: Faces, kernel: Kernel, size: float) -> None:
    """Ignore the faces that a kernel, scaled to a face of `size`, leaves nothing of."""
    faces.ignore |= kernel.spread * size / np.sqrt(np.maximum(area(faces.boxes), 1)) > MAX_SPREAD


@dataclass(frozen=True, slots=True)
class Placing:
    """Where a face goes and how."""

    face: int
    """Which of the photo's faces the size and the place are of."""
    size: float
    """Geometric mean of its box's sides on the canvas, in pixels."""
    centre: tuple[float, float]
    """Centre of its box on the canvas."""
    angle: float
    """Degrees."""
    mirror: bool
    mask: str
    """ellipse: the face with some of its hair; photo: all of the photo, with soft edges."""
    feather: float
    """Width of the soft edge, as a share of the size."""


def outline(picture: Picture, placing: Placing, rng: Generator) -> NDArray[np.float64]:
    """Draw the outline of what is pasted, in the photo's pixels: (p, 2)."""
    h, w = picture.image.shape[:2]
    x1, y1, x2, y2 = picture.faces.boxes[placing.face].astype(np.float64)
    rim = placing.feather * math.sqrt((x2 - x1) * (y2 - y1)) * 0.6
    if placing.mask == "photo":
        rim = min(rim, 0.2 * min(h, w))
        low, high_x, high_y = rim - 0.5, w - 0.5 - rim, h - 0.5 - rim
        return np.array([[low, low], [high_x, low], [high_x, high_y], [low, high_y]])
    turn = np.linspace(0, 2 * np.pi, _POINTS, endpoint=False)
    grow = rng.uniform(1.0, 1.5, 2) * (1.0, 1.1)
    bumps = 1 + 0.06 * np.sin(turn * rng.integers(2, 5) + rng.uniform(0, 6.28))
    half = np.array([x2 - x1, y2 - y1]) / 2 * grow
    # More of the hair than of the neck.
    middle = np.array([(x1 + x2) / 2, (y1 + y2) / 2 - (y2 - y1) * rng.uniform(0, 0.12)])
    points = middle + np.stack([np.cos(turn), np.sin(turn)], axis=1) * half * bumps[:, None]
    inside: NDArray[np.float64] = np.clip(points, rim - 0.5, [w - 0.5 - rim, h - 0.5 - rim])
    return inside


def paste(
    canvas: U8,
    picture: Picture,
    placing: Placing,
    rng: Generator,
    *,
    kernel: Kernel | None = None,
    change: Any = None,
    points: NDArray[np.float64] | None = None,
) -> tuple[Faces, NDArray[np.float64]]:
    """Put a face, or the whole photo around it, onto a canvas.

    Args:
        canvas: (h, w, 3) uint8 BGR; written to.
        picture: The photo; the chosen face's landmarks may be unknown.
        placing: Where and how.
        rng: For the outline.
        kernel: Blurs the patch before it is pasted, or None.
        change: Called as change(patch, faces) on what is pasted, in the canvas's scale, before the
            blur; gives the patch back. Coordinates are those of the patch.
        points: (p, 2) the outline in the photo's pixels, instead of what `placing` says. Beyond
            the photo its border goes on.

    Returns:
        The faces that were pasted, in pixels of the canvas, not clipped. Faces of the photo that
        the outline cuts are ignored. With them the (p, 2) outline on the canvas.
    """
    points = outline(picture, placing, rng) if points is None else points.copy()
    faces = Faces(picture.faces.boxes, picture.faces.kps, picture.faces.ignore)
    box = faces.boxes[placing.face].astype(np.float64)
    scale = placing.size / math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    width = picture.image.shape[1] if placing.mirror else None
    centre = (box[:2] + box[2:]) / 2 - _CORNER
    if width is not None:
        centre[0] = width - 1 - centre[0]
        points[:, 0] = width - 1 - points[:, 0]
    matrix = np.asarray(
        cv2.getRotationMatrix2D((float(centre[0]), float(centre[1])), placing.angle, scale),
        np.float64,
    )
    matrix[:, 2] += np.array(placing.centre) - _CORNER - centre
    placed = points @ matrix[:, :2].T + matrix[:, 2]

    kept = _inside_outline(faces.moved(matrix, width), placed, placing.face)
    soft = placing.feather * placing.size
    rim = math.ceil(soft) + 2
    height, across = canvas.shape[:2]
    x1, y1 = (int(v) for v in np.clip(np.floor(placed.min(axis=0)) - rim, 0, (across, height)))
    x2, y2 = (int(v) for v in np.clip(np.ceil(placed.max(axis=0)) + rim, 0, (across, height)))
    if x2 - x1 < 2 or y2 - y1 < 2:
        return Faces.none(), placed
    matrix[:, 2] -= (x1, y1)
    patch = _warped(picture, matrix, scale, (x2 - x1, y2 - y1), placing.mirror)
    mask = soft_mask(placed - (x1, y1), (y2 - y1, x2 - x1), soft)
    if change is not None:
        local = Faces(kept.boxes - np.array([x1, y1, x1, y1], np.float32),
                      kept.kps - np.array([x1, y1], np.float32), kept.ignore)  # fmt: skip
        patch = change(patch, local)
    if kernel is not None:
        patch, mask = _blurred(patch, mask, kernel, kept, placing.size)
    lay_over(canvas[y1:y2, x1:x2], patch, mask)
    return kept, placed


def soft_mask(points: NDArray[np.float64], size: tuple[int, int], soft: float) -> U8:
    """Draw a filled outline: 255 inside, 0 outside.

    Args:
        points: (p, 2) the outline.
        size: (h, w) of the mask.
        soft: Width of the edge in pixels.
    """
    mask = np.zeros(size, np.uint8)
    sixteenths = np.rint(points * 16).astype(np.int32)
    cv2.fillPoly(mask, [sixteenths[:, None]], 255, cv2.LINE_AA, 4)
    if soft >= 1:
        side = round(soft) * 2 + 1
        mask = np.asarray(cv2.blur(mask, (side, side)), np.uint8)
    return mask


def lay_over(region: U8, patch: U8, mask: U8) -> None:
    """Lay a patch over a region as large, which is written to, as far as a mask lets it be seen."""
    share = mask.astype(np.float32)
    region[:] = cv2.blendLinear(patch, np.ascontiguousarray(region), share, 255 - share)


def crop_px(size: float, kps: F32) -> float:
    """Give the pixels per pixel of the 112 px crop of a face of a size."""
    eyes = float(np.hypot(*(kps[1] - kps[0]))) if len(kps) else math.nan
    if not math.isfinite(eyes) or eyes < EYES_SHARE * size / 2:  # unknown, or turned aside
        eyes = EYES_SHARE * size
    return eyes / EYES_PX


def _blurred(patch: U8, mask: U8, kernel: Kernel, faces: Faces, size: float) -> tuple[U8, U8]:
    weights = kernel.scaled(
        crop_px(size, faces.kps[0] if len(faces) else np.empty((0, 2), np.float32))
    )
    if weights is None:
        return patch, mask
    smear(faces, kernel, size)
    return convolved(patch, weights), convolved(mask, weights)


def _warped(
    picture: Picture,
    matrix: NDArray[np.float64],
    scale: float,
    size: tuple[int, int],
    mirror: bool,
) -> U8:
    """Warp a photo, from the halved one that is nearest in size: warping skips pixels."""
    image = picture.level(scale)
    matrix = matrix.copy()
    (h, w), (small_h, small_w) = picture.image.shape[:2], image.shape[:2]
    ratio = np.array([w / small_w, h / small_h])
    # The centre of a pixel: x_large = (x_small + 0.5) * ratio - 0.5.
    matrix[:, 2] += matrix[:, :2] @ ((ratio - 1) / 2)
    matrix[:, :2] *= ratio
    if mirror:
        matrix[:, 2] += matrix[:, 0] * (image.shape[1] - 1)
        matrix[:, 0] *= -1
    return np.asarray(
        cv2.warpAffine(image, matrix, size, borderMode=cv2.BORDER_REPLICATE), np.uint8
    )


def _inside_outline(faces: Faces, placed: NDArray[np.float64], chosen: int) -> Faces:
    """Keep the chosen face and those that the outline holds; those that it cuts are ignored."""
    low, high = placed.min(axis=0) + _CORNER, placed.max(axis=0) + _CORNER
    window = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))
    order = [chosen, *(i for i in range(len(faces)) if i != chosen)]
    faces = faces[order]
    share = 1 - covered(faces.boxes, np.array([window], np.float32))[:, 0]
    ignore = faces.ignore | (share > 1 - LEAST_VISIBLE)
    ignore[0] = faces.ignore[0]
    keep = share < 0.98
    keep[0] = True
    clipped = faces.boxes.copy()
    clipped[1:, :2] = np.maximum(clipped[1:, :2], np.float32(low))
    clipped[1:, 2:] = np.minimum(clipped[1:, 2:], np.float32(high))
    return Faces(clipped, faces.kps, ignore)[keep]
